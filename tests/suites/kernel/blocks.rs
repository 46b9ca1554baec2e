//! `ipam.type` `blocks` on a node that is alone: every verb of the real plugin, on bridge, macvlan, ptp and vxlan.

use std::fs;

use meta_cni_tests::call::Outcome;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// The file of the network of a definition.
fn file(name: &str) -> String {
    format!("state/networks/default.{name}/leases")
}

/// A node with an uplink; `lan` is this plugin with these addresses.
fn node(plugin: Value, ipam: Value) -> Node {
    let node = Node::new();
    node.netns.run("ip link add up0 type veth peer name up1");
    node.netns.run("ip address add 192.168.50.1/24 dev up0");
    node.netns.run("ip link set up0 up");
    node.netns.run("ip link set up1 up");
    let mut conf = plugin;
    conf["cniVersion"] = json!("1.0.0");
    conf["ipam"] = ipam;
    conf["ipam"]["type"] = json!("blocks");
    node.nad("lan", conf);
    node
}

fn gc(node: &Node, valid: &[&Pod]) -> Outcome {
    let valid: Vec<Value> = valid.iter().map(|pod| json!({"containerID": pod.container, "ifname": "eth0"})).collect();
    node.bare_call("GC").conf("cni.dev/valid-attachments", json!(valid)).run()
}

const UP: [&str; 2] = ["up0", "up1"];

#[test]
fn every_verb_agrees_with_the_lease() {
    let ranges = json!([[{"subnet": "10.60.0.0/24", "rangeStart": "10.60.0.16"}], [{"subnet": "fd60::/64", "rangeStart": "fd60::10"}]]);
    for plugin in [
        json!({"type": "bridge", "bridge": "br-lan"}),
        json!({"type": "macvlan", "master": "up0"}),
        json!({"type": "vxlan", "vni": 4260, "underlay": "up0", "peers": ["192.168.50.2"]}),
    ] {
        let node = node(plugin.clone(), json!({"ranges": ranges, "routes": [{"dst": "10.99.0.0/16"}]}));
        let (one, two) = (node.pod("one", "lan"), node.pod("two", "lan"));
        let results = [&one, &two].map(|pod| node.add(pod).result());
        assert_eq!(one.netns.addresses("net1"), ["10.60.0.16/24", "fd60::10/64"], "{plugin}");
        assert_eq!(two.netns.addresses("net1"), ["10.60.0.17/24", "fd60::11/64"], "{plugin}");
        for address in ["10.60.0.17", "fd60::11"] {
            // An IPv6 address may be tentative for a second.
            assert!((0..3).any(|_| one.netns.pings(address)), "{address} {plugin}");
        }
        let path = file("lan");
        let lease = |pod: &Pod, addresses: &str| format!("{addresses} {} net1", pod.container);
        let both = [lease(&one, "10.60.0.16,fd60::10"), lease(&two, "10.60.0.17,fd60::11")];
        assert_eq!(node.leases(&path), both, "{plugin}");
        assert!(fs::read_to_string(node.path(&path)).unwrap().contains(" net1 default/one\n"), "the pod's name");
        node.check(&one, &results[0]).quiet();
        node.del(&two).quiet();
        assert_eq!(node.leases(&path), both[..1]);
        // A lease that is lost is seen.
        let text = fs::read_to_string(node.path(&path)).unwrap();
        fs::write(node.path(&path), format!("{text}-10.60.0.16,fd60::10\n")).unwrap();
        node.check(&one, &results[0]).refused(105, &["no address in", "leases belongs to"]);
        fs::write(node.path(&path), text).unwrap();
        gc(&node, &[]).quiet();
        one.assert_empty();
        node.assert_clean_but(&UP);
    }
}

#[test]
fn a_configuration_of_whereabouts_is_read_as_one_of_blocks_where_the_node_says_so() {
    let lan = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-lan", "ipam": {
        "type": "whereabouts", "range": "10.61.0.10-10.61.0.12/24", "exclude": ["10.61.0.11/32"],
        "ipRanges": [{"range": "fd61::10-fd61::12/64"}], "routes": [{"dst": "10.99.0.0/16"}],
    }});
    let without = Node::new();
    without.nad("lan", lan.clone());
    without.add(&without.pod("one", "lan")).refused(7, &["plugin \"whereabouts\" is in none of"]);
    let mut node = Node::new();
    node.conf["whereabouts"] = json!("blocks");
    node.nad("lan", lan.clone());
    // The same range, whatever the definition is called.
    node.nad("other", lan.clone());
    let (one, two, three) = (node.pod("one", "lan"), node.pod("two", "other"), node.pod("three", "lan"));
    let result = node.add(&one).result();
    node.add(&two).result();
    assert_eq!(one.netns.addresses("net1"), ["10.61.0.10/24", "fd61::10/64"]);
    assert_eq!(two.netns.addresses("net1"), ["10.61.0.12/24", "fd61::12/64"]);
    node.add(&three)
        .refused(110, &["no address is left in 10.61.0.10-10.61.0.12 with fd61::10-fd61::12: all 2 are taken"]);
    node.check(&one, &result).quiet();
    // What is attached goes by what it was attached by.
    node.conf["whereabouts"] = json!("external");
    node.del(&two).quiet();
    node.conf["whereabouts"] = json!("blocks");
    node.add(&three).result();
    assert_eq!(three.netns.addresses("net1"), ["10.61.0.12/24", "fd61::12/64"]);
    gc(&node, &[]).quiet();
    for pod in [&one, &two, &three] {
        pod.assert_empty();
    }
    node.assert_clean_but(&[]);
    node.conf["whereabouts"] = json!("never");
    node.add(&one).refused(7, &["whereabouts: got \"never\", want \"external\", \"blocks\" or \"take-over\""]);
}

#[test]
fn leases_of_the_departed_go_and_those_of_strangers_are_told() {
    let node = node(json!({"type": "bridge", "bridge": "br-lan"}), json!({"subnet": "10.65.0.0/24"}));
    let path = file("lan");
    let (kept, gone) = (node.pod("kept", "lan"), node.pod("gone", "lan"));
    node.add(&kept).result();
    node.add(&gone).result();
    node.del(&gone).quiet();
    let plant = |address: &str, container: &str| {
        let text = fs::read_to_string(node.path(&path)).unwrap();
        fs::write(node.path(&path), format!("{text}+{address} {container} net1\n")).unwrap();
    };
    plant("10.65.0.77", &gone.container);
    plant("10.65.0.78", "stranger");
    let done = gc(&node, &[&kept]);
    done.quiet();
    let told = done.stderr();
    assert!(told.contains("address 10.65.0.78 of container stranger net1 in "), "{told}");
    assert_eq!(
        node.leases(&path),
        [format!("10.65.0.1 {} net1", kept.container), "10.65.0.78 stranger net1".to_owned()]
    );
    node.del(&kept).quiet();
    // Of a network without a record, too.
    plant("10.65.0.79", &gone.container);
    gc(&node, &[]).quiet();
    assert_eq!(node.leases(&path), ["10.65.0.78 stranger net1"]);
}

#[test]
fn an_overlays_mac_follows_from_the_address_unless_one_is_asked_for() {
    let vxlan = json!({"type": "vxlan", "vni": 4261, "underlay": "up0", "peers": ["192.168.50.2"]});
    let node = node(vxlan, json!({"subnet": "10.61.0.0/24", "gateway": "10.61.0.1"}));
    let pod = node.pod("web", r#"[{"name":"lan"},{"name":"lan","mac":"02:00:00:00:00:61"}]"#);
    let result = node.add(&pod).result();
    assert_eq!(pod.netns.link("net1")["address"], "0a:58:0a:3d:00:02");
    assert_eq!(pod.netns.addresses("net2"), ["10.61.0.3/24"]);
    assert!(result["interfaces"].to_string().contains("0a:58:0a:3d:00:02"), "{result}");
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    // A reused address keeps its MAC.
    node.nad(
        "lan",
        json!({"cniVersion": "1.0.0", "type": "vxlan", "vni": 4261, "underlay": "up0", "peers": ["192.168.50.2"],
        "ipam": {"type": "blocks", "subnet": "10.61.0.0/30", "gateway": "10.61.0.1"}}),
    );
    let again = node.pod("again", "lan");
    node.add(&again).result();
    assert_eq!(again.netns.link("net1")["address"], "0a:58:0a:3d:00:02");
    node.del(&again).quiet();
    node.assert_clean_but(&UP);
}

#[test]
fn the_last_address_is_given_and_the_next_pod_is_told_pool_and_size() {
    let bridge = json!({"type": "bridge", "bridge": "br-lan", "isGateway": true});
    let node = node(bridge, json!({"subnet": "10.62.0.0/29", "exclude": ["10.62.0.4/31"]}));
    let pods: Vec<Pod> = (0..3).map(|i| node.pod(&format!("p{i}"), "lan")).collect();
    let given: Vec<String> = pods
        .iter()
        .map(|pod| {
            let result = node.add(pod).result();
            node.check(pod, &result).quiet();
            pod.netns.addresses("net1").join(" ")
        })
        .collect();
    assert_eq!(given, ["10.62.0.2/29", "10.62.0.3/29", "10.62.0.6/29"]);
    assert!(pods[0].netns.pings("10.62.0.1"), "the gateway is the node's");
    let more = node.pod("more", "lan");
    node.add(&more)
        .refused(110, &["network default/lan (net1)", "no address is left in 10.62.0.0/29: all 3 are taken"]);
    more.assert_empty();
    node.del(&more).quiet();
    node.del(&pods[1]).quiet();
    node.add(&more).result();
    assert_eq!(more.netns.addresses("net1"), ["10.62.0.3/29"]);
    for pod in [&pods[0], &pods[2], &more] {
        node.del(pod).quiet();
    }
    node.assert_clean_but(&UP);
}

#[test]
fn a_wire_has_the_first_address_for_its_gateway() {
    let node = node(json!({"type": "ptp"}), json!({"subnet": "10.63.0.0/30"}));
    let (one, two) = (node.pod("one", "lan"), node.pod("two", "lan"));
    let result = node.add(&one).result();
    assert_eq!(one.netns.addresses("net1"), ["10.63.0.2/30"]);
    assert!(one.netns.pings("10.63.0.1"));
    node.check(&one, &result).quiet();
    node.add(&two).refused(110, &["all 1 are taken"]);
    node.del(&two).quiet();
    node.del(&one).quiet();
    node.assert_clean_but(&UP);
}

#[test]
fn status_of_a_default_network_looks_for_an_address() {
    let mut node = Node::new();
    let ipam = json!({"type": "blocks", "subnet": "10.64.0.0/30", "gateway": "10.64.0.1"});
    node.conf["delegates"] =
        json!([{"cniVersion": "1.1.0", "name": "main-net", "type": "bridge", "bridge": "cni0", "ipam": ipam}]);
    node.bare_call("STATUS").run().quiet();
    let pod = node.pod("web", "");
    node.add(&pod).result();
    assert_eq!(pod.netns.addresses("eth0"), ["10.64.0.2/30"]);
    node.bare_call("STATUS").run().refused(50, &["no address is left in 10.64.0.0/30"]);
    node.del(&pod).quiet();
    node.bare_call("STATUS").run().quiet();
    node.assert_clean();
}
