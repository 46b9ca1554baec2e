//! Pods of Knitter on a cluster that speaks its dialect, with the networks and groups that `meta-cnictl migrate knitter` makes of the bodies of
//! its REST API (docs/dialects/knitter.md).

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use meta_cni_tests::cluster::node::Traces;
use meta_cni_tests::cluster::{Api, Cluster, Node, wait};
use meta_cni_tests::program;
use serde_json::{Value, json};

use crate::bed::{
    PATIENCE, gone, image, install_dialect, interfaces, namespace, pings, pod, status, status_of, until_clean,
    until_event, wait_for_agents, wait_for_webhook,
};

const RADIO: &str = "radio";
const SHOP: &str = "shop";

/// Makes of a tenant's bodies what `migrate` says, and applies it.
fn migrate(cluster: &Cluster, tenant: &str, bodies: &Value) {
    let mut command = program::command(program::built("meta-cnictl"));
    command.args(["migrate", "knitter", "--tenant", tenant, "-"]);
    let finished = program::start(&mut command, bodies.to_string().as_bytes()).finish(Duration::from_secs(20));
    let (out, err) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
    assert_eq!((finished.code, err.as_ref()), (Some(0), ""), "{out}");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, out.as_bytes()).unwrap();
    cluster.plane().kubectl(["apply", "-f", file.path().to_str().unwrap()]);
}

/// The annotation of a pod with these ports: network, interface, further attributes.
fn networks(ports: &[(&str, &str, Value)]) -> Value {
    let port = |(network, nic, more): &(&str, &str, Value)| {
        let mut attributes = more.clone();
        attributes["nic_name"] = json!(nic);
        json!({"attach_to_network": network, "attributes": attributes})
    };
    json!(json!({"ports": ports.iter().map(port).collect::<Vec<_>>()}).to_string())
}

fn asking(namespace: &str, name: &str, node: &str, networks: Value) -> Value {
    let mut pod = pod(namespace, name, Some(node));
    pod["metadata"]["annotations"]["networks"] = networks;
    pod
}

fn run(api: &Api, namespace: &str, name: &str, node: &str, networks: Value) {
    api.apply(&asking(namespace, name, node, networks)).unwrap();
}

/// Does one echo come back within two seconds?
fn answers(cluster: &Cluster, namespace: &str, pod: &str, address: &str) -> bool {
    pings(cluster, namespace, pod, &["-W", "2", address])
}

#[test]
fn pods_of_knitter_run_unchanged() {
    let mut cluster = Cluster::start(2);
    let api = cluster.api();
    cluster.import(&image());
    install_dialect(&cluster, "knitter", &json!({"dialects": ["knitter"]}));
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    for name in ["admin", RADIO, SHOP] {
        namespace(&api, name);
    }
    let before: Vec<Traces> = cluster.nodes().iter().map(Node::traces).collect();
    let network = |name: &str, cidr: &str, public: bool| json!({"network_id": name, "name": name, "cidr": cidr, "public": public});
    migrate(
        &cluster,
        "admin",
        &json!({"networks": [network("net_api", "192.168.0.0/16", true), network("media", "10.91.0.0/24", true)]}),
    );
    let private = [network("control", "10.90.0.0/24", false), network("lan", "10.92.0.0/24", false)];
    migrate(&cluster, RADIO, &json!({"networks": private}));
    let group = json!({"name": "web", "network_id": "lan", "ips": "[10.92.0.30,10.92.0.31,10.92.0.32]"});
    let pair = json!({"name": "pair", "network_id": "lan", "ips": "[10.92.0.40,10.92.0.41]"});
    let bodies = [
        json!({"networks": [network("lan", "10.92.0.0/24", false)]}),
        json!({"ipgroup": group}),
        json!({"ipgroup": pair}),
    ];
    migrate(&cluster, SHOP, &json!(bodies));

    three_ports(&cluster, &api);
    combined_and_refused(&cluster, &api);
    two_tenants(&cluster, &api);
    rollouts(&cluster, &api);
    one_too_many(&api);

    for name in [RADIO, SHOP, "admin"] {
        let path = format!("/api/v1/namespaces/{name}");
        api.delete(&path).unwrap();
        gone(&api, &path);
    }
    until_clean(&cluster, &before);
}

/// K1: example/pod1.json of Knitter's repository.
fn three_ports(cluster: &Cluster, api: &Api) {
    let of = |function: &str| json!({"accelerate": "false", "function": function, "nic_type": "normal"});
    let ports = [
        ("net_api", "eth0", of("std")),
        ("control", "testpodctl", of("control")),
        ("media", "testpodmed", of("media")),
    ];
    run(api, RADIO, "testpod", "n1", networks(&ports));
    let status = status(api, RADIO, "testpod");
    let seen: Vec<_> =
        status.iter().map(|one| [&one["name"], &one["interface"]].map(|text| text.as_str().unwrap())).collect();
    assert_eq!(seen, [["admin/net-api", "eth0"], ["radio/control", "testpodctl"], ["admin/media", "testpodmed"]]);
    assert_eq!((&status[0]["default"], &status[1]["meta-cni.io/roles"]), (&json!(true), &json!(["control"])));
    let exec = |line: &str| {
        let start = ["exec", "-n", RADIO, "testpod", "--"];
        cluster.plane().kubectl(start.into_iter().chain(line.split(' ')))
    };
    let default: Vec<String> =
        exec("ip route").lines().filter(|line| line.starts_with("default")).map(str::to_owned).collect();
    assert!(default.len() == 1 && default[0].contains("dev eth0"), "{default:?}");
    for (number, subnet) in ["192.168.", "10.90.0.", "10.91.0."].into_iter().enumerate() {
        assert!(status[number]["ips"][0].as_str().unwrap().starts_with(subnet), "{status:?}");
    }
    let pod = api.get("/api/v1/namespaces/radio/pods/testpod").unwrap();
    assert_eq!(pod["status"]["podIP"], status[0]["ips"][0], "the runtime's address of the pod is that of eth0");
}

/// K6: ports that are one interface, a name that is too long, and blank text.
fn combined_and_refused(cluster: &Cluster, api: &Api) {
    let of = |function: &str| json!({"function": function, "combinable": "true"});
    let alike = [("net_api", "eth0", json!({})), ("control", "ctl", of("control")), ("control", "ctl", of("oam"))];
    run(api, RADIO, "combined", "n1", networks(&alike));
    let status = status(api, RADIO, "combined");
    assert_eq!(status[1]["meta-cni.io/roles"], json!(["control", "oam"]));
    assert_eq!(interfaces(cluster, RADIO, "combined").len(), 2, "eth0 and ctl: {status:?}");
    let long = networks(&[("net_api", "eth0", json!({})), ("control", "thirteen-char", json!({}))]);
    let refusal = api.apply(&asking(RADIO, "long", "n1", long)).unwrap_err().to_string();
    assert!(refusal.contains("nic_name: Invalid value: \"thirteen-char\": must be at most 12 characters"), "{refusal}");
    run(api, RADIO, "blank", "n1", json!(""));
    assert_eq!(self::status(api, RADIO, "blank").len(), 1, "the default network alone");
}

/// K4: tenants with the same CIDR.
fn two_tenants(cluster: &Cluster, api: &Api) {
    let pods = [
        (RADIO, "a", "n1", "10.92.0.11"),
        (RADIO, "b", "n2", "10.92.0.12"),
        (SHOP, "a", "n1", "10.92.0.21"),
        (SHOP, "b", "n2", "10.92.0.22"),
    ];
    for (namespace, name, node, address) in pods {
        run(
            api,
            namespace,
            name,
            node,
            networks(&[("net_api", "eth0", json!({})), ("lan", "lan", json!({"ip_addr": address}))]),
        );
    }
    for (namespace, name, _, address) in pods {
        let status = status(api, namespace, name);
        assert_eq!((&status[1]["interface"], &status[1]["ips"][0]), (&json!("lan"), &json!(address)));
    }
    for (namespace, name, inside, outside) in [
        (RADIO, "a", "10.92.0.12", ["10.92.0.21", "10.92.0.22"]),
        (SHOP, "b", "10.92.0.21", ["10.92.0.11", "10.92.0.12"]),
    ] {
        assert!(answers(cluster, namespace, name, inside), "{namespace}/{name} to {inside}, on the other node");
        for address in outside {
            assert!(!answers(cluster, namespace, name, address), "{namespace}/{name} to {address} of another tenant");
        }
    }
}

/// K2: a Deployment of three on a group of three.
fn rollouts(cluster: &Cluster, api: &Api) {
    let asks = networks(&[("net_api", "eth0", json!({})), ("lan", "lan", json!({"ip_group_name": "web"}))]);
    let template = json!({
        "metadata": {"labels": {"app": "web"}, "annotations": {"networks": asks}}, "spec": pod(SHOP, "web", None)["spec"],
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": SHOP, "name": "web"},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template,
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        },
    });
    api.apply(&deployment).unwrap();
    let name = "deployment/web";
    let members = || {
        cluster.plane().kubectl(["rollout", "status", "-n", SHOP, name, "--timeout=180s"]);
        wait::until("three pods with their status", PATIENCE, || {
            let mut pods = api.list(&format!("/api/v1/namespaces/{SHOP}/pods?labelSelector=app=web"));
            pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
            let member = |pod: &Value| {
                let status = status_of(pod)?;
                Some([&status[1]["ips"][0], &status[1]["mac"]].map(|text| text.as_str().unwrap_or_default().to_owned()))
            };
            let members: Option<Vec<_>> = pods.iter().map(member).collect();
            members.filter(|members| members.len() == 3).ok_or_else(|| json!(pods).to_string())
        })
    };
    let first: BTreeSet<[String; 2]> = members().into_iter().collect();
    let addresses: Vec<&str> = first.iter().map(|[address, _]| address.as_str()).collect();
    assert_eq!(addresses, ["10.92.0.30", "10.92.0.31", "10.92.0.32"], "never two the same");
    for round in 1..=3 {
        cluster.plane().kubectl(["rollout", "restart", "-n", SHOP, name]);
        assert_eq!(
            members().into_iter().collect::<BTreeSet<_>>(),
            first,
            "addresses and MAC addresses of round {round}"
        );
    }
}

/// K3: one pod more than the group has addresses.
fn one_too_many(api: &Api) {
    let lan = |name: &str, node: &str| {
        let group = json!({"ip_group_name": "pair"});
        run(api, SHOP, name, node, networks(&[("net_api", "eth0", json!({})), ("lan", "lan", group)]));
    };
    lan("first", "n1");
    let freed = status(api, SHOP, "first")[1]["ips"][0].clone();
    lan("second", "n2");
    status(api, SHOP, "second");
    lan("third", "n2");
    until_event(api, SHOP, "third", &["all 2 addresses of AddressSet shop/pair are in use by shop/first, shop/second"]);
    api.delete("/api/v1/namespaces/shop/pods/first").unwrap();
    assert_eq!(status(api, SHOP, "third")[1]["ips"][0], freed);
}
