//! Networks of DANM on a real kernel: routes in the pod's tables, addresses, and VLAN links that networks share.

use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

const INTERFACES: &str = "danm.k8s.io/interfaces";

/// A node that speaks the dialect, with one wire `up0` to `far`.
fn scene() -> (Node, Netns) {
    let mut node = Node::new();
    node.conf["dialects"] = json!(["danm"]);
    node.conf["sharedLinks"] = json!(["up0"]);
    let far = Netns::new(node.path("netns/far"));
    node.netns.run(&format!("ip link add up0 type veth peer name up0 netns {}", far.text()));
    node.netns.run("ip link set up0 up");
    far.run("ip link set up0 up");
    (node, far)
}

fn network(node: &Node, name: &str, id: &str, options: Value) {
    let mut spec = json!({"NetworkID": id, "NetworkType": "macvlan", "Options": options});
    spec["Options"]["host_device"] = json!("up0");
    let manifest =
        json!({"apiVersion": "danm.k8s.io/v1", "kind": "ClusterNetwork", "metadata": {"name": name}, "spec": spec});
    node.manifest(&format!("network-{name}.json"), manifest.to_string());
}

fn pod(node: &Node, name: &str, list: &Value) -> Pod {
    node.pod_annotated(name, json!({INTERFACES: list.to_string()}))
}

fn lines(told: &str) -> Vec<String> {
    told.lines()
        .map(|line| line.split(" proto").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// DANM's sample: a network with routes, and a pod with more.
#[test]
fn routes_are_in_main_and_proutes_in_the_networks_table_on_uml() {
    let (node, _far) = scene();
    let options = json!({"cidr": "10.0.0.0/24", "net6": "2001:db8::/64", "rt_tables": 10, "routes": {"10.20.0.0/24": "10.0.0.1"},
        "routes6": {"3001:db8::/64": "2001:db8::1"}});
    network(&node, "management", "mgmt", json!({"cidr": "10.5.0.0/24"}));
    network(&node, "external", "ext", options);
    let list = json!([
        {"clusterNetwork": "management", "ip": "dynamic"},
        {"clusterNetwork": "external", "ip": "10.0.0.7", "ip6": "dynamic",
            "proutes": {"10.10.1.0/24": "10.0.0.65", "0.0.0.0/0": "10.0.0.1"}, "proutes6": {"::0/0": "2001:db8::1"}},
    ]);
    for round in ["first", "anew"] {
        let pod = pod(&node, "web", &list);
        let result = node.add(&pod).result();
        let main = lines(&pod.netns.run("ip route show table main"));
        assert!(main.contains(&"10.20.0.0/24 via 10.0.0.1 dev eth1".to_owned()), "{round}: {main:?}");
        assert!(!main.iter().any(|line| line.starts_with("default")), "{round}: {main:?}");
        let mut own = lines(&pod.netns.run("ip route show table 10"));
        own.sort();
        assert_eq!(own, ["10.10.1.0/24 via 10.0.0.65 dev eth1", "default via 10.0.0.1 dev eth1"], "{round}");
        assert_eq!(lines(&pod.netns.run("ip -6 route show table 10")), ["default via 2001:db8::1 dev eth1"], "{round}");
        let rules = pod.netns.run("ip rule");
        assert!(rules.contains("from 10.0.0.0/24 lookup 10"), "{round}: {rules}");
        assert!(pod.netns.addresses("eth1").iter().any(|one| one.starts_with("10.0.0.7/24")), "{round}");
        assert_eq!(
            pod.netns.run("sysctl -n net/ipv6/conf/eth0/disable_ipv6").trim(),
            "1",
            "nothing asks for IPv6 there"
        );
        node.check(&pod, &result).quiet();
        node.del(&pod).quiet();
    }
    node.assert_clean_but(&["up0"]);
}

#[test]
fn networks_of_one_id_and_vlan_share_a_link_that_goes_with_the_last_pod_on_uml() {
    let (node, far) = scene();
    far.run("ip link add link up0 name v500 type vlan id 500");
    far.run("ip link set v500 up");
    far.run("ip address add 10.21.0.1/24 dev v500");
    network(
        &node,
        "one",
        "shared",
        json!({"vlan": 500, "cidr": "10.21.0.0/24", "routes": {"10.99.0.0/16": "10.21.0.1"}}),
    );
    network(&node, "two", "shared", json!({"vlan": 500, "cidr": "10.22.0.0/24"}));
    let has = |link: &str| node.netns.links().iter().any(|name| name == link);
    let one = pod(&node, "a", &json!([{"clusterNetwork": "one", "ip": "dynamic"}]));
    let two = pod(&node, "b", &json!([{"clusterNetwork": "two", "ip": "dynamic"}]));
    assert!(!has("shared.500"), "an object alone makes no link");
    let (of_one, _) = (node.add(&one).result(), node.add(&two).result());
    let link = node.netns.link("shared.500");
    assert_eq!((&link["linkinfo"]["info_data"]["id"], &link["link"]), (&json!(500), &json!("up0")));
    assert!(one.netns.pings("10.21.0.1"), "the tag is the network's, and its router no pod's");
    node.check(&one, &of_one).quiet();
    node.remove_manifest("network-one.json");
    node.del(&one).quiet();
    assert!(has("shared.500"), "another network's pod is on it");
    node.del(&two).quiet();
    assert!(!has("shared.500"), "{:?}", node.netns.links());
    // A link of that name which is something else is nobody's parent.
    node.netns.run("ip link add shared.500 type dummy");
    let other = pod(&node, "c", &json!([{"clusterNetwork": "two", "ip": "dynamic"}]));
    node.add(&other).refused(102, &["masterVlan", "shared.500", "dummy"]);
    node.netns.run("ip link del shared.500");
    // One that DANM's netwatcher has left is used as it is, and stays.
    node.netns.run("ip link add link up0 name shared.500 type vlan id 500");
    node.netns.run("ip link set shared.500 up");
    let adopts = pod(&node, "d", &json!([{"clusterNetwork": "two", "ip": "dynamic"}]));
    node.add(&adopts).result();
    node.del(&adopts).quiet();
    assert!(has("shared.500"));
    node.assert_clean_but(&["up0", "shared.500"]);
}

#[test]
fn an_address_is_had_once_and_a_full_network_says_so_on_uml() {
    let (node, _far) = scene();
    network(&node, "small", "s", json!({"cidr": "10.0.0.0/30"}));
    network(
        &node,
        "pool",
        "p",
        json!({"cidr": "10.1.0.0/24", "allocation_pool": {"start": "10.1.0.10", "end": "10.1.0.20"}}),
    );
    let of = |name: &str, network: &str, ip: &str| pod(&node, name, &json!([{"clusterNetwork": network, "ip": ip}]));
    for (name, network, ip) in [("a", "small", "dynamic"), ("b", "small", "10.0.0.2"), ("c", "pool", "10.1.0.200")] {
        node.add(&of(name, network, ip)).result();
    }
    let mut said = node.add(&of("d", "small", "10.0.0.2")).refusal().text;
    assert!(said.contains("10.0.0.2") && said.contains("taken by"), "{said}");
    said = node.add(&of("e", "small", "dynamic")).refusal().text;
    assert!(said.contains("no address is left in 10.0.0.0/30"), "{said}");
    said = node.add(&of("f", "pool", "10.2.0.1")).refusal().text;
    assert!(said.contains("outside the network's CIDR"), "{said}");
}
