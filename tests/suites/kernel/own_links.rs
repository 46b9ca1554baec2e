//! The node's own links: what a tenant's definition may not take, whatever it is called and however it is asked for.

use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// A node with its default route by `up0`, its InternalIP on `br0`, whose port `up1` is, and addresses on `up2`.
fn scene() -> Node {
    let node = Node::new();
    for number in 0..4 {
        node.netns.run(&format!("ip link add up{number} type veth peer name far{number}"));
        node.netns.run(&format!("ip link set up{number} up"));
        node.netns.run(&format!("ip link set far{number} up"));
    }
    for line in [
        "ip link add br0 type bridge",
        "ip link set up1 master br0",
        "ip link set br0 up",
        "ip address add 10.20.0.7/24 dev up0",
        "ip address add 10.0.0.5/24 dev br0",
        "ip address add 10.9.0.1/24 dev up2",
        "ip route add default via 10.20.0.1",
        "ip route add 10.8.0.0/16 via 10.9.0.254",
    ] {
        node.netns.run(line);
    }
    let addresses = json!([{"type": "InternalIP", "address": "10.0.0.5"}]);
    let manifest =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": addresses}});
    node.manifest("node-n1.json", manifest.to_string());
    node
}

fn device(name: &str) -> Value {
    json!({"cniVersion": "1.0.0", "type": "host-device", "device": name})
}

fn passthru(master: &str) -> Value {
    json!({"cniVersion": "1.0.0", "type": "macvlan", "master": master, "mode": "passthru", "mac": "02:00:00:00:00:99"})
}

/// Everything of the node that a definition might have changed.
fn everything(node: &Node) -> Vec<Value> {
    let told = |name: &str| json!([name, node.netns.link(name)["address"], node.netns.addresses(name)]);
    node.netns.links().iter().map(|name| told(name)).collect()
}

const DEFAULT_ROUTE: &str = "up0 carries the node's default route";
const INTERNAL_IP: &str = "br0, of which up1 is a port, has the node's InternalIP 10.0.0.5";
const ADDRESS: &str = "up2 has the global address 10.9.0.1/24; the node's key sharedLinks may open up2";

/// Before anything is attached: no delegate ran, the definition's neighbours on the list included.
#[track_caller]
fn assert_refused(node: &Node, config: Value, why: &str) {
    let was = everything(node);
    node.nad("harmless", json!({"cniVersion": "1.0.0", "type": "one"}));
    node.nad("greedy", config);
    let pod: Pod = node.pod("web", "harmless,greedy");
    node.add(&pod).refused(7, &["network default/greedy (net2)", why]);
    assert_eq!(node.fakes.take_order(), Vec::<String>::new());
    pod.assert_empty();
    assert_eq!(everything(node), was);
    node.del(&pod).quiet();
    node.fakes.take_order();
}

#[test]
fn the_nodes_links_are_neither_lent_nor_taken() {
    let node = scene();
    for (name, why) in [
        ("up0", DEFAULT_ROUTE),
        ("up1", INTERNAL_IP),
        ("br0", "br0 has the node's InternalIP 10.0.0.5"),
        ("up2", ADDRESS),
    ] {
        assert_refused(&node, device(name), why);
        assert_refused(&node, passthru(name), why);
    }
    let mac = node.netns.link("up0")["address"].clone();
    assert_refused(&node, json!({"cniVersion": "1.0.0", "type": "host-device", "hwaddr": mac}), DEFAULT_ROUTE);
    assert_refused(&node, json!({"cniVersion": "1.0.0", "type": "macvlan", "mode": "passthru"}), DEFAULT_ROUTE);
}

#[test]
fn shared_links_open_addresses_and_never_what_the_node_is_reached_by() {
    let mut node = scene();
    node.conf["sharedLinks"] = json!(["up*", "br*"]);
    for (name, why) in [("up0", DEFAULT_ROUTE), ("up1", INTERNAL_IP)] {
        assert_refused(&node, device(name), why);
        assert_refused(&node, passthru(name), why);
    }
    let was = everything(&node);
    for config in [device("up2"), passthru("up2")] {
        node.nad("greedy", config);
        let pod = node.pod("web", "greedy");
        node.add(&pod).result();
        assert_eq!(pod.netns.links(), ["net1"]);
        node.del(&pod).quiet();
        assert_eq!(node.netns.addresses("up2"), [json!("10.9.0.1/24")]);
    }
    let names = |all: &[Value]| all.iter().map(|one| one[0].clone()).collect::<Vec<_>>();
    let (mut is, mut then) = (names(&everything(&node)), names(&was));
    is.sort_by_key(ToString::to_string);
    then.sort_by_key(ToString::to_string);
    assert_eq!(is, then);
}

#[test]
fn a_program_of_the_same_type_is_refused_as_well_and_so_is_one_that_stands_for_ipam() {
    let mut node = scene();
    node.conf["builtin"] = json!(["bridge"]);
    for kind in ["host-device", "macvlan"] {
        node.fakes.install(kind);
    }
    assert_refused(&node, device("up0"), DEFAULT_ROUTE);
    assert_refused(&node, json!({"cniVersion": "1.0.0", "type": "host-device", "DEVICE": "up0"}), DEFAULT_ROUTE);
    assert_refused(&node, passthru("up1"), INTERNAL_IP);
    let by_ipam = json!({"cniVersion": "1.0.0", "type": "two", "device": "up0", "ipam": {"type": "host-device"}});
    assert_refused(&node, by_ipam, "ipam.type: got \"host-device\", want a plugin that gives addresses");
}

#[test]
fn links_on_the_nodes_links_and_ports_of_its_bridge_stay_allowed() {
    let node = scene();
    for config in [
        json!({"type": "macvlan", "master": "up0", "mode": "bridge"}),
        json!({"type": "macvlan", "mode": "private"}),
        json!({"type": "macvlan", "master": "br0", "mode": "vepa"}),
        json!({"type": "bridge", "bridge": "br0"}),
        json!({"type": "host-device", "device": "up3"}),
        json!({"type": "macvlan", "master": "up3", "mode": "passthru"}),
    ] {
        node.nad("lan", json!({"cniVersion": "1.0.0", "plugins": [config]}));
        let pod = node.pod("web", "lan");
        node.add(&pod).result();
        node.del(&pod).quiet();
        node.assert_clean_but(&["br0", "far0", "far1", "far2", "far3", "up0", "up1", "up2", "up3"]);
    }
}

#[test]
fn the_nodes_own_text_may_use_every_link() {
    let mut node = scene();
    node.conf["delegates"] =
        json!([{"cniVersion": "1.1.0", "name": "own", "plugins": [{"type": "host-device", "device": "up0"}]}]);
    node.bare_call("STATUS").run().quiet();
    let pod = node.pod("web", "");
    node.add(&pod).result();
    assert_eq!(pod.netns.links(), ["eth0"]);
    node.del(&pod).quiet();
    assert_eq!(node.netns.addresses("up0"), [json!("10.20.0.7/24")]);
}
