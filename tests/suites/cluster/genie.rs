//! CNI-Genie's pods and objects, on a cluster whose nodes read that dialect.

use std::fs;
use std::time::Duration;

use meta_cni_tests::cluster::node::IMAGE;
use meta_cni_tests::cluster::{Api, Cluster, wait};
use serde_json::{Value, json};

use crate::bed::{
    PATIENCE, exec, gone, image, install_dialect, interfaces, namespace, pod, ready, status_of, until_event,
    wait_for_agents, wait_for_webhook,
};

const NAMESPACE: &str = "genie";

/// A file of the node: a bridge with addresses of this node's own and a default route.
fn network(name: &str, number: u8, node: usize) -> Value {
    json!({"cniVersion": "1.0.0", "name": name, "plugins": [
        {"type": "bridge", "bridge": format!("gen{number}"), "isGateway": true, "hairpinMode": true, "ipam": {
            "type": "host-local", "subnet": format!("10.{number}.{}.0/24", node + 1), "routes": [{"dst": "0.0.0.0/0"}],
        }},
        {"type": "portmap", "backend": "nftables", "snat": true, "capabilities": {"portMappings": true}},
    ]})
}

/// The same without addresses of the node's own: Logicalnetworks bring subnets of theirs.
fn plain(name: &str, number: u8) -> Value {
    let ipam = json!({"type": "host-local", "subnet": format!("10.{number}.0.0/24")});
    json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": "bridge", "bridge": format!("gen{number}"), "ipam": ipam}]})
}

/// Two nodes with the files `br-a`, `br-b` and `br-c`, and everything as docs/dialects/genie.md has it installed.
fn cluster() -> Cluster {
    let mut cluster = Cluster::start(2);
    for (i, node) in cluster.nodes().iter().enumerate() {
        for (name, number) in [("br-a", 201), ("br-b", 202)] {
            let file = node.file(format!("/etc/cni/net.d/20-{name}.conflist"));
            fs::write(file, network(name, number, i).to_string()).unwrap();
        }
        fs::write(node.file("/etc/cni/net.d/30-br-c.conflist"), plain("br-c", 203).to_string()).unwrap();
    }
    cluster.import(&image());
    install_dialect(
        &cluster,
        "genie",
        &json!({"dialects": ["genie"], "genie": {"loadPrefixes": [
            {"plugin": "br-a", "prefixes": ["gen201"]}, {"plugin": "br-b", "prefixes": ["gen202"]},
        ]}}),
    );
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    namespace(&cluster.api(), NAMESPACE);
    cluster
}

/// A pod with these annotations.
fn annotated(name: &str, node: &str, annotations: Value) -> Value {
    let mut pod = pod(NAMESPACE, name, Some(node));
    pod["metadata"]["annotations"] = annotations;
    pod
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}")
}

fn object(api: &Api, kind: &str, name: &str, spec: &Value) {
    let metadata = json!({"namespace": NAMESPACE, "name": name});
    api.apply(&json!({"apiVersion": "alpha.network.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec}))
        .unwrap();
}

/// Interfaces and addresses of a pod, sorted.
fn addresses(cluster: &Cluster, pod: &str) -> Vec<(String, String)> {
    let mut pairs = interfaces(cluster, NAMESPACE, pod);
    pairs.sort();
    pairs
}

fn annotation(api: &Api, pod: &str, key: &str) -> Result<String, String> {
    let pod = api.get(&path(pod)).map_err(|e| e.to_string())?;
    let annotations = &pod["metadata"]["annotations"];
    annotations[key].as_str().map(str::to_owned).ok_or_else(|| annotations.to_string())
}

#[test]
fn pods_of_genie_run_unchanged() {
    let mut cluster = cluster();
    let api = cluster.api();
    a_list_has_its_names_its_host_port_and_its_words(&cluster, &api);
    logical_networks_have_their_subnets(&cluster, &api);
    the_quiet_network_is_chosen(&cluster, &api);
    what_cannot_be_is_told(&api);
    a_pod_that_went_while_its_kubelet_was_away_leaves_nothing(&mut cluster, &api);
    a_pod_without_the_annotation_gets_the_nodes_list(&mut cluster, &api);
}

fn a_list_has_its_names_its_host_port_and_its_words(cluster: &Cluster, api: &Api) {
    let mut web = annotated("web", "n1", json!({"cni": "br-a,br-b@eth4,br-a@eth5, br-a"}));
    web["spec"]["containers"] = json!([{
        "name": "main", "image": IMAGE, "command": ["sh", "-c", "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp"],
        "ports": [{"containerPort": 80, "hostPort": 8081}],
    }]);
    api.apply(&web).unwrap();
    api.apply(&pod(NAMESPACE, "client", Some("n2"))).unwrap();
    ready(api, NAMESPACE, "web");
    ready(api, NAMESPACE, "client");
    let found = addresses(cluster, "web");
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["eth0", "eth1", "eth4", "eth5"]);
    let of = |name: &str| found.iter().find(|(interface, _)| interface == name).unwrap().1.clone();
    assert!(of("eth0").starts_with("10.201.1.") && of("eth4").starts_with("10.202.1."), "{found:?}");
    let routes = exec(cluster, NAMESPACE, "web", "ip route");
    let default: Vec<&str> = routes.lines().filter(|line| line.starts_with("default")).collect();
    assert!(default.len() == 1 && default[0].contains("dev eth0"), "{routes}");

    // In the order of the list, as CNI-Genie writes it.
    let ip = |number: usize, name: &str| format!(r#""ip{number}":{{"ip":"{}","interface":"{name}"}}"#, of(name));
    let listed = ["eth0", "eth4", "eth5", "eth1"].iter().enumerate().map(|(i, name)| ip(i + 1, name));
    let want = format!(r#"{{"multi_entry":4,"ips":{{{}}}}}"#, listed.collect::<Vec<_>>().join(","));
    wait::until("addresses in the pod's annotation", PATIENCE, || {
        match annotation(api, "web", "multi-ip-preferences")? {
            text if text == want => Ok(()),
            other => Err(other),
        }
    });
    let status = status_of(&api.get(&path("web")).unwrap()).unwrap();
    assert_eq!(status.len(), 4);

    let url = format!("http://{}:8081/index.html", cluster.nodes()[0].address());
    let line = ["exec", "-n", NAMESPACE, "client", "--", "timeout", "2", "wget", "-qO-", &url];
    wait::until("answer of the host's port", Duration::from_secs(10), || {
        let output = cluster.plane().kubectl_command().args(line).output().map_err(|e| e.to_string())?;
        if output.stdout == b"hello\n" { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
}

fn logical_networks_have_their_subnets(cluster: &Cluster, api: &Api) {
    let shared = |dedicated: bool| json!({"sharedStatus": {"plugin": "br-c", "subnet": "10.203.0.0/16", "dedicatedNet": dedicated}});
    object(api, "Physicalnetwork", "dedicated", &shared(true));
    object(api, "Physicalnetwork", "shared", &shared(false));
    object(api, "Logicalnetwork", "net1", &json!({"physicalNet": "dedicated", "sub_subnet": "10.203.20.0/24"}));
    object(
        api,
        "Logicalnetwork",
        "net2",
        &json!({"physicalNet": "shared", "plugin": "br-c", "sub_subnet": "10.203.30.0/24"}),
    );
    api.apply(&annotated("logical", "n1", json!({"cni": "", "networks": "net1@eth0,net2:eth4"}))).unwrap();
    ready(api, NAMESPACE, "logical");
    let found = addresses(cluster, "logical");
    assert_eq!(found.len(), 2);
    assert!(found[0].1.starts_with("10.203.20.") && found[0].0 == "eth0", "{found:?}");
    assert!(found[1].1.starts_with("10.203.30.") && found[1].0 == "eth4", "{found:?}");
}

fn the_quiet_network_is_chosen(cluster: &Cluster, api: &Api) {
    api.apply(&annotated("busy", "n1", json!({"cni": "br-a"}))).unwrap();
    ready(api, NAMESPACE, "busy");
    for number in 0..3 {
        exec(cluster, NAMESPACE, "busy", "ping -c 20 -i 0.1 -s 1400 10.201.1.1");
        let name = format!("open{number}");
        api.apply(&annotated(&name, "n1", json!({"cni": ""}))).unwrap();
        ready(api, NAMESPACE, &name);
        assert_eq!(annotation(api, &name, "cni").unwrap(), "br-b");
        assert!(addresses(cluster, &name)[0].1.starts_with("10.202.1."));
    }
}

fn what_cannot_be_is_told(api: &Api) {
    for (list, words) in [("genie", "meta plugin"), ("br-a@eth1", "eth0")] {
        let refusal = api.apply(&annotated("refused", "n2", json!({"cni": list}))).unwrap_err().to_string();
        assert!(refusal.contains(words), "{refusal}");
    }
    // Which files a node has, only the node knows.
    let (name, words) = ("nope", "files found: br-a, br-b, br-c, bridge");
    api.apply(&annotated(name, "n2", json!({"cni": name}))).unwrap();
    until_event(api, NAMESPACE, name, &[words]);
    api.delete(&path(name)).unwrap();
    gone(api, &path(name));
}

fn a_pod_that_went_while_its_kubelet_was_away_leaves_nothing(cluster: &mut Cluster, api: &Api) {
    let before = cluster.nodes()[1].traces();
    api.apply(&annotated("lost", "n2", json!({"cni": "br-a,br-b@eth4,br-a@eth5, br-a"}))).unwrap();
    ready(api, NAMESPACE, "lost");
    cluster.node_mut(1).kill_kubelet();
    cluster.plane().kubectl(["delete", "pod", "-n", NAMESPACE, "lost", "--force", "--grace-period=0"]);
    gone(api, &path("lost"));
    cluster.node_mut(1).start_kubelet();
    wait::until("node without the pod", PATIENCE, || {
        let left: Vec<_> = cluster.nodes()[1].traces().difference(&before).cloned().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
    });
}

fn a_pod_without_the_annotation_gets_the_nodes_list(cluster: &mut Cluster, api: &Api) {
    install_dialect(cluster, "genie", &json!({"dialects": ["genie"], "genie": {"defaultPlugin": "br-a,br-b"}}));
    cluster.plane().kubectl(["rollout", "restart", "--namespace=kube-system", "daemonset/meta-cni"]);
    cluster.plane().kubectl(["rollout", "status", "--namespace=kube-system", "daemonset/meta-cni", "--timeout=100s"]);
    wait_for_agents(cluster);
    wait::until("pod with both networks", PATIENCE, || {
        api.delete(&path("plain")).ok();
        gone(api, &path("plain"));
        api.apply(&annotated("plain", "n1", json!({}))).map_err(|e| e.to_string())?;
        ready(api, NAMESPACE, "plain");
        let found = addresses(cluster, "plain");
        let is_so = found.len() == 2 && found[0].1.starts_with("10.201.1.") && found[1].1.starts_with("10.202.1.");
        if is_so { Ok(()) } else { Err(format!("{found:?}")) }
    });
}
