//! DANM's pods and networks, of both groups, on a cluster whose nodes read that dialect.

use meta_cni_tests::cluster::node::Traces;
use meta_cni_tests::cluster::{Api, Cluster, Node, wait};
use serde_json::{Value, json};

use crate::bed::{
    PATIENCE, definition, exec, gone, image, install_dialect, namespace, pings, pod, status, until_clean, until_event,
    wait_for_agents, wait_for_webhook,
};

const NAMESPACE: &str = "danm";
const OTHER: &str = "other";
/// DANM 4.3 and before, and 4.4.
const GROUPS: [&str; 2] = ["danm.k8s.io", "danm.io"];
const CLAIMS: &str = "/apis/meta-cni.io/v1alpha1/vniclaims";

/// A network of a namespace, or one of the cluster.
fn network(group: &str, kind: &str, name: &str, options: &Value, more: &Value) -> Value {
    let mut spec = json!({"NetworkID": name, "NetworkType": "macvlan", "Options": options});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut object =
        json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}, "spec": spec});
    if kind != "ClusterNetwork" {
        object["metadata"]["namespace"] = json!(NAMESPACE);
    }
    object
}

/// Two nodes, each with a link `lan0`, and the image.
pub fn two_nodes() -> Cluster {
    let cluster = Cluster::start(2);
    for node in cluster.nodes() {
        node.space().run("ip link add lan0 type veth peer name lan1");
        node.space().run("ip link set lan0 up");
        node.space().run("ip link set lan1 up");
    }
    cluster.import(&image());
    cluster
}

/// The same with everything as docs/dialects/danm.md has it installed.
fn cluster() -> Cluster {
    let mut cluster = two_nodes();
    install_dialect(&cluster, "danm", &json!({"dialects": ["danm"]}));
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    let api = cluster.api();
    for name in [NAMESPACE, OTHER] {
        namespace(&api, name);
    }
    cluster
}

/// The list of a pod whose `eth0` is of the network `management`.
fn listed(further: &[Value]) -> Value {
    let mut list = vec![json!({"network": "management", "ip": "dynamic"})];
    list.extend_from_slice(further);
    json!(json!(list).to_string())
}

/// A pod with that list, by the annotation of a group.
fn annotated(name: &str, node: &str, group: &str, further: &[Value]) -> Value {
    let mut pod = pod(NAMESPACE, name, Some(node));
    pod["metadata"]["annotations"][format!("{group}/interfaces")] = listed(further);
    pod
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}")
}

/// Makes a pod of one further network, waits until it has it, and gives its addresses there.
fn run(api: &Api, name: &str, node: &str, further: &Value) -> Vec<String> {
    api.apply(&annotated(name, node, "danm.io", std::slice::from_ref(further))).unwrap();
    addresses(api, name, 1)
}

/// The addresses of a pod's interface at this place of its list.
fn addresses(api: &Api, name: &str, place: usize) -> Vec<String> {
    let status = status(api, NAMESPACE, name);
    let ips = status[place]["ips"].as_array().into_iter().flatten();
    ips.map(|ip| ip.as_str().unwrap().to_owned()).collect()
}

/// Does one echo come back within two seconds?
fn answers(cluster: &Cluster, pod: &str, address: &str) -> bool {
    pings(cluster, NAMESPACE, pod, &["-W", "2", address])
}

fn delete(api: &Api, path: &str) {
    api.delete(path).unwrap();
    gone(api, path);
}

#[test]
fn pods_of_danm_run_unchanged() {
    let cluster = cluster();
    let api = cluster.api();
    let before: Vec<Traces> = cluster.nodes().iter().map(Node::traces).collect();
    let lan = |cidr: &str| json!({"host_device": "lan0", "cidr": cidr});
    let mut external = lan("10.100.20.0/24");
    external["container_prefix"] = json!("ext");
    external["allocation_pool"] = json!({"start": "10.100.20.10", "end": "10.100.20.30"});
    let mut routed = lan("10.100.30.0/24");
    routed["routes"] = json!({"10.20.0.0/24": "10.100.30.1"});
    routed["rt_tables"] = json!(10);
    let internal = json!({"host_device": "eth0", "vxlan": 600, "container_prefix": "int", "cidr": "10.100.50.0/24",
        "net6": "2001:db8:50::/64"});
    let [older, newer] = GROUPS;
    let networks = [
        network(older, "DanmNet", "management", &lan("10.100.0.0/24"), &json!({})),
        network(older, "DanmNet", "internal", &internal, &json!({"NetworkType": "ipvlan"})),
        network(newer, "ClusterNetwork", "external", &external, &json!({"AllowedTenants": [NAMESPACE]})),
        network(newer, "ClusterNetwork", "routed", &routed, &json!({})),
        network(newer, "DanmNet", "small", &lan("10.100.60.0/30"), &json!({})),
    ];
    for network in &networks {
        api.apply(network).unwrap();
    }

    interfaces_have_their_names_and_reach_each_other(&cluster, &api);
    an_address_is_had_once(&api);
    addresses_are_as_asked(&cluster, &api);
    routes_are_where_they_belong(&cluster, &api);
    a_full_network_says_so(&api);
    a_network_is_for_its_tenants(&api);
    a_tenants_network_is_given_its_vni(&cluster, &api);
    a_reserved_address_is_had_by_name(&api);
    a_vni_is_its_networks_without_pods(&cluster, &api);
    a_tenants_network_that_no_webhook_saw_is_refused(&api);

    for name in [NAMESPACE, OTHER] {
        let path = format!("/api/v1/namespaces/{name}");
        delete(&api, &path);
    }
    for name in ["external", "routed"] {
        delete(&api, &format!("/apis/danm.io/v1/clusternetworks/{name}"));
    }
    delete(&api, "/apis/danm.io/v1/tenantconfigs/tenants");
    until_clean(&cluster, &before);
    wait::until("API server without objects of the networks", PATIENCE, || {
        let kinds = ["vniclaims", "overlaymembers", "addressclaims", "addressblocks"];
        let left = kinds.map(|kind| api.list(&format!("/apis/meta-cni.io/v1alpha1/{kind}"))).concat();
        if left.is_empty() { Ok(()) } else { Err(json!(left).to_string()) }
    });
}

/// The annotation of either group, and an overlay between the nodes.
fn interfaces_have_their_names_and_reach_each_other(cluster: &Cluster, api: &Api) {
    let further = [
        json!({"clusterNetwork": "external", "ip": "dynamic"}),
        json!({"network": "internal", "ip": "dynamic", "ip6": "dynamic"}),
    ];
    for (name, node, group) in [("a", "n1", GROUPS[0]), ("b", "n2", GROUPS[1])] {
        api.apply(&annotated(name, node, group, &further)).unwrap();
    }
    for name in ["a", "b"] {
        let status = status(api, NAMESPACE, name);
        let interfaces: Vec<&str> = status.iter().map(|one| one["interface"].as_str().unwrap()).collect();
        assert_eq!(interfaces, ["eth0", "ext1", "int2"], "{status:?}");
        let pod = api.get(&path(name)).unwrap();
        assert_eq!(pod["status"]["podIP"], status[0]["ips"][0], "the runtime's address of the pod is that of eth0");
        for (place, subnet) in ["10.100.0.", "10.100.20.", "10.100.50."].into_iter().enumerate() {
            assert!(status[place]["ips"][0].as_str().unwrap().starts_with(subnet), "{status:?}");
        }
        let last = addresses(api, name, 1)[0].rsplit('.').next().unwrap().parse::<u8>().unwrap();
        assert!((10..=30).contains(&last), "outside of the pool: {last}");
    }
    let there = addresses(api, "b", 2);
    assert_eq!(there.len(), 2, "both families: {there:?}");
    for address in &there {
        assert!(answers(cluster, "a", address), "a to {address} of b, on the other node");
    }
    for node in cluster.nodes() {
        let links = node.space().run("ip -d link show type vxlan");
        assert!(links.contains("vxlan id 600 ") && links.contains("dstport 4789 "), "{links}");
    }
    let claim = api.get(&format!("{CLAIMS}/4789-600")).unwrap();
    let network = api.get(&format!("/apis/{}/v1/namespaces/{NAMESPACE}/danmnets/internal", GROUPS[0])).unwrap();
    let owner = json!({"namespace": NAMESPACE, "name": "internal.danmnet", "uid": network["metadata"]["uid"]});
    assert_eq!(claim["spec"]["owner"], owner);
}

/// A static address, asked for on both nodes.
fn an_address_is_had_once(api: &Api) {
    let asked = json!({"network": "internal", "ip": "10.100.50.40"});
    assert_eq!(run(api, "first", "n1", &asked), ["10.100.50.40"]);
    api.apply(&annotated("second", "n2", GROUPS[0], std::slice::from_ref(&asked))).unwrap();
    until_event(api, NAMESPACE, "second", &["10.100.50.40", "danm/first"]);
    delete(api, &path("first"));
    assert_eq!(addresses(api, "second", 1), ["10.100.50.40"], "it is free with its pod");
    delete(api, &path("second"));
}

/// An address outside of the pool, none, and one of IPv6 alone.
fn addresses_are_as_asked(cluster: &Cluster, api: &Api) {
    let outside = run(api, "outside", "n1", &json!({"clusterNetwork": "external", "ip": "10.100.20.200/32"}));
    assert_eq!(outside, ["10.100.20.200"]);
    assert!(exec(cluster, NAMESPACE, "outside", "ip -o address show ext1").contains("10.100.20.200/24"));
    assert!(answers(cluster, "a", "10.100.20.200"), "a to a pod on the same link of the node");

    assert!(run(api, "none", "n2", &json!({"clusterNetwork": "external", "ip": "none"})).is_empty());
    assert_eq!(exec(cluster, NAMESPACE, "none", "ip -o address show ext1"), "");
    assert_eq!(exec(cluster, NAMESPACE, "none", "cat /proc/sys/net/ipv6/conf/ext1/disable_ipv6").trim(), "1");

    let six = run(api, "six", "n2", &json!({"network": "internal", "ip6": "dynamic"}));
    assert!(six.len() == 1 && six[0].starts_with("2001:db8:50::"), "{six:?}");
    assert!(answers(cluster, "a", &six[0]));
    for name in ["outside", "none", "six"] {
        delete(api, &path(name));
    }
}

/// `routes` in the main table and `proutes` in the network's own, and the same again in a pod that is made anew.
fn routes_are_where_they_belong(cluster: &Cluster, api: &Api) {
    let proutes = json!({"10.10.1.0/24": "10.100.30.65", "0.0.0.0/0": "10.100.30.1"});
    let asked = json!({"clusterNetwork": "routed", "ip": "dynamic", "proutes": proutes});
    for round in ["first", "anew"] {
        run(api, "routed", "n1", &asked);
        let has = |what: &str, wanted: &[&str]| {
            let told = exec(cluster, NAMESPACE, "routed", what);
            let lines: Vec<String> =
                told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            for wanted in wanted {
                assert!(lines.iter().any(|line| line.contains(wanted)), "{round}: {what}: want {wanted}\n{told}");
            }
            lines.len()
        };
        has("ip route show table main", &["10.20.0.0/24 via 10.100.30.1 dev eth1"]);
        let own = has(
            "ip route show table 10",
            &["10.10.1.0/24 via 10.100.30.65 dev eth1", "default via 10.100.30.1 dev eth1"],
        );
        assert_eq!(own, 2);
        has("ip rule", &["from 10.100.30.0/24 lookup 10"]);
        delete(api, &path("routed"));
    }
}

/// The two addresses of a /30.
fn a_full_network_says_so(api: &Api) {
    let asked = json!({"network": "small", "ip": "dynamic"});
    let mut had = [run(api, "small1", "n1", &asked), run(api, "small2", "n1", &asked)].concat();
    had.sort();
    assert_eq!(had, ["10.100.60.1", "10.100.60.2"]);
    api.apply(&annotated("small3", "n1", GROUPS[1], std::slice::from_ref(&asked))).unwrap();
    until_event(api, NAMESPACE, "small3", &["danm/small", "10.100.60.0/30"]);
    delete(api, &path("small1"));
    assert_eq!(addresses(api, "small3", 1).len(), 1, "the address that is free");
    for name in ["small2", "small3"] {
        delete(api, &path(name));
    }
}

/// A pod of another namespace than those of `AllowedTenants`, by the webhook and without it.
fn a_network_is_for_its_tenants(api: &Api) {
    let mut stranger = pod(OTHER, "stranger", Some("n1"));
    stranger["metadata"]["annotations"]["danm.io/interfaces"] =
        json!(json!([{"clusterNetwork": "external", "ip": "dynamic"}]).to_string());
    let words = ["ClusterNetwork external", "AllowedTenants have namespace other: danm"];
    let refusal = api.apply(&stranger).unwrap_err().to_string();
    assert!(words.iter().all(|word| refusal.contains(word)), "{refusal}");
    let labels = json!({"metadata": {"labels": {"meta-cni.io/admission": "disabled"}}});
    api.patch(&format!("/api/v1/namespaces/{OTHER}"), &labels).unwrap();
    wait::until("pod that nobody is asked about", PATIENCE, || api.apply(&stranger).map_err(|e| e.to_string()));
    until_event(api, OTHER, "stranger", &words);
}

/// Link and VNI of a tenant's network are those of the TenantConfig.
fn a_tenants_network_is_given_its_vni(cluster: &Cluster, api: &Api) {
    let devices = json!([{"name": "eth0", "vniType": "vxlan", "vniRange": "700-701"}]);
    let metadata = json!({"name": "tenants"});
    let config =
        json!({"apiVersion": "danm.io/v1", "kind": "TenantConfig", "metadata": metadata, "hostDevices": devices});
    api.apply(&config).unwrap();
    let tenants =
        |name: &str, cidr: &str| network("danm.io", "TenantNetwork", name, &json!({"cidr": cidr}), &json!({}));
    // The webhook hears of the TenantConfig a moment later.
    let of = |name: &str, cidr: &str| {
        wait::until("network of a tenant", PATIENCE, || api.apply(&tenants(name, cidr)).map_err(|e| e.to_string()))
    };
    for (name, cidr, vni) in [("lan", "10.100.70.0/24", 700), ("spare", "10.100.71.0/24", 701)] {
        let options = &of(name, cidr)["spec"]["Options"];
        assert_eq!((&options["host_device"], &options["vxlan"]), (&json!("eth0"), &json!(vni)));
    }
    let refusal = api.apply(&tenants("third", "10.100.72.0/24")).unwrap_err().to_string();
    assert!(refusal.contains("no vxlan of 700-701 is free on eth0"), "{refusal}");

    let asked = json!({"tenantNetwork": "lan", "ip": "dynamic"});
    let there = run(api, "tenant1", "n1", &asked);
    assert!(there[0].starts_with("10.100.70."), "{there:?}");
    run(api, "tenant2", "n2", &asked);
    assert!(answers(cluster, "tenant2", &there[0]), "tenant2 to {there:?}, on the other node");
}

/// An address of the network `lan` above, by the name of the object that keeps it.
fn a_reserved_address_is_had_by_name(api: &Api) {
    let metadata = json!({"namespace": NAMESPACE, "name": "front"});
    let spec = json!({"network": {"name": "lan"}, "ips": [{"address": "10.100.70.77"}]});
    api.apply(&json!({"apiVersion": "danm.io/v1", "kind": "ReservedIP", "metadata": metadata, "spec": spec})).unwrap();
    let named = json!({"tenantNetwork": "lan", "ip": "front"});
    // The webhook hears of the object a moment later, or looks it up.
    assert_eq!(run(api, "front1", "n1", &named), ["10.100.70.77"]);
    api.apply(&annotated("front2", "n2", GROUPS[0], std::slice::from_ref(&named))).unwrap();
    until_event(api, NAMESPACE, "front2", &["10.100.70.77", "danm/front1"]);
    delete(api, &path("front1"));
    assert_eq!(addresses(api, "front2", 1), ["10.100.70.77"], "it is the next pod's");
    delete(api, &path("front2"));
}

/// A VNI is its network's also while no pod is on it: a definition does not get it, and the next pod does.
fn a_vni_is_its_networks_without_pods(cluster: &Cluster, api: &Api) {
    for name in ["a", "b"] {
        delete(api, &path(name));
    }
    wait::until("overlay without members", PATIENCE, || {
        let members = api.list("/apis/meta-cni.io/v1alpha1/overlaymembers?labelSelector=meta-cni.io/network=4789-600");
        if members.is_empty() { Ok(()) } else { Err(json!(members).to_string()) }
    });
    for node in cluster.nodes() {
        let links = node.space().run("ip -d link show type vxlan");
        assert!(!links.contains("vxlan id 600 "), "{}: {links}", node.name());
    }
    wait::until("claim that the janitor has seen without members", PATIENCE, || {
        let claim = api.get(&format!("{CLAIMS}/4789-600")).map_err(|e| e.to_string())?;
        if claim["status"]["members"] == 0 { Ok(()) } else { Err(claim["status"].to_string()) }
    });
    let config = json!({"cniVersion": "1.0.0", "type": "vxlan", "vni": 600}).to_string();
    let refusal = api.apply(&definition(OTHER, "thief", &config)).unwrap_err();
    assert!(refusal.message.contains("internal.danmnet"), "{refusal}");
    let anew = run(api, "anew", "n2", &json!({"network": "internal", "ip": "dynamic"}));
    assert!(anew[0].starts_with("10.100.50."), "{anew:?}");
}

/// What nobody judged when it was made is judged at the ADD. Nothing asks the webhook from here on; the janitor goes on.
fn a_tenants_network_that_no_webhook_saw_is_refused(api: &Api) {
    for kind in ["mutating", "validating"] {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/meta-cni-webhook");
        delete(api, &path);
    }
    let foreign = network(
        "danm.k8s.io",
        "TenantNetwork",
        "foreign",
        &json!({"host_device": "lan0", "cidr": "10.100.80.0/24"}),
        &json!({}),
    );
    wait::until("network that nobody is asked about", PATIENCE, || api.apply(&foreign).map_err(|e| e.to_string()));
    api.apply(&annotated("stray", "n1", GROUPS[1], &[json!({"tenantNetwork": "foreign", "ip": "dynamic"})])).unwrap();
    let words = ["TenantNetwork danm/foreign: spec.Options.host_device: got lan0", "TenantConfig tenants lists: eth0"];
    until_event(api, NAMESPACE, "stray", &words);
}
