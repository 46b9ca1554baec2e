//! vxlan: one network over two nodes, its devices coming with the first pod and going with the last.

use meta_cni_tests::call::Outcome;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// Two nodes on one wire: 192.168.50.1 and 192.168.50.2 on `up0`.
fn nodes() -> (Node, Node) {
    let (one, two) = (Node::new(), Node::new());
    one.netns.run(&format!("ip link add up0 type veth peer name up0 netns {}", two.netns.text()));
    for (node, address) in [(&one, "192.168.50.1/24"), (&two, "192.168.50.2/24")] {
        node.netns.run(&format!("ip address add {address} dev up0"));
        node.netns.run("ip link set up0 up");
    }
    (one, two)
}

fn overlay(vni: u32) -> Value {
    json!({
        "cniVersion": "1.0.0", "type": "vxlan", "vni": vni, "underlay": "192.168.50.0/24",
        "peers": ["192.168.50.1", "192.168.50.2"], "capabilities": {"ips": true}, "ipam": {"type": "static"},
    })
}

fn pod(node: &Node, name: &str, network: &str, address: &str) -> Pod {
    node.pod(name, &json!([{"name": network, "ips": [address]}]).to_string())
}

#[test]
fn pods_reach_each_other_across_nodes_and_networks_stay_apart() {
    let (one, two) = nodes();
    for node in [&one, &two] {
        node.nad("blue", overlay(4200));
        node.nad("red", overlay(4201));
    }
    let (a, b) = (pod(&one, "a", "blue", "10.42.0.1/24"), pod(&two, "b", "blue", "10.42.0.2/24"));
    let (c, d) = (pod(&one, "c", "blue", "10.42.0.3/24"), pod(&two, "d", "red", "10.42.0.1/24"));
    let result = one.add(&a).result();
    two.add(&b).result();
    one.add(&c).result();
    two.add(&d).result();
    assert!(a.netns.pings("10.42.0.2"), "across the nodes");
    assert!(c.netns.pings("10.42.0.2") && c.netns.pings("10.42.0.1"), "a second pod on the node");
    assert!(!d.netns.pings("10.42.0.2"), "another VNI is another network");
    assert_eq!(a.netns.link("net1")["mtu"], 1450);
    one.check(&a, &result).quiet();
    let vxlans = |node: &Node| node.netns.links().iter().filter(|name| node.netns.kind(name) == "vxlan").count();
    assert_eq!((vxlans(&one), vxlans(&two)), (1, 2), "one device per network and node");
    one.del(&a).quiet();
    assert!(c.netns.pings("10.42.0.2"), "the device stays while a pod needs it");
    for (node, pod) in [(&one, &c), (&two, &b), (&two, &d)] {
        node.del(pod).quiet();
        pod.assert_empty();
    }
    for node in [&one, &two] {
        assert_eq!(node.netns.links(), ["up0"], "device and bridge go with the last port");
        node.assert_clean_but(&["up0"]);
    }
}

#[test]
fn the_last_del_and_the_first_add_do_not_meet() {
    let (node, _other) = nodes();
    node.nad("blue", overlay(4200));
    let (mut held, mut next) = (pod(&node, "a", "blue", "10.42.0.1/24"), pod(&node, "b", "blue", "10.42.0.2/24"));
    node.add(&held).result();
    for _ in 0..15 {
        let (add, del) = (node.call("ADD", &next).start(), node.call("DEL", &held).start());
        Outcome::of("ADD", add).result();
        Outcome::of("DEL", del).quiet();
        let port = next.netns.link("net1");
        assert!(port["flags"].as_array().unwrap().contains(&json!("LOWER_UP")), "{port}");
        let vxlans: Vec<String> =
            node.netns.links().into_iter().filter(|name| node.netns.kind(name) == "vxlan").collect();
        assert_eq!(vxlans.len(), 1, "{vxlans:?}");
        std::mem::swap(&mut held, &mut next);
    }
    node.del(&held).quiet();
    assert_eq!(node.netns.links(), ["up0"]);
    node.assert_clean_but(&["up0"]);
}

#[test]
fn an_underlay_that_is_not_there_is_named() {
    let (node, _other) = nodes();
    for underlay in ["up9", "172.31.0.0/16"] {
        let mut conf = overlay(4200);
        conf["underlay"] = json!(underlay);
        node.nad("blue", conf);
        let pod = pod(&node, "a", "blue", "10.42.0.1/24");
        node.add(&pod).refused(102, &["default/blue", "underlay", underlay]);
        pod.assert_empty();
        assert_eq!(node.netns.links(), ["up0"]);
        node.assert_clean_but(&["up0"]);
    }
}

#[test]
fn a_vni_that_another_device_holds_is_refused() {
    let (node, _other) = nodes();
    node.netns.run("ip link add theirs type vxlan id 4200 dstport 4789 local 192.168.50.1 dev up0");
    node.nad("blue", overlay(4200));
    let pod = pod(&node, "a", "blue", "10.42.0.1/24");
    let refusal = node.add(&pod).refusal();
    assert!(refusal.text.contains("default/blue") && refusal.text.contains("4200"), "{}", refusal.text);
    assert_eq!(node.netns.links(), ["theirs", "up0"]);
    node.assert_clean_but(&["theirs", "up0"]);
}

#[test]
fn a_port_that_another_tunnel_has_for_all_vnis_is_refused_by_name() {
    let (node, _other) = nodes();
    // As Cilium makes its tunnel.
    node.netns.run("ip link add cilium_vxlan type vxlan external dstport 8472");
    node.netns.run("ip link set cilium_vxlan up");
    let given = json!({"cniVersion": "1.0.0", "type": "vxlan", "vni": 4201, "underlay": "up0", "port": 8472,
        "ipam": {"type": "blocks", "subnet": "10.43.0.0/24"}});
    let mut flooding = overlay(4200);
    flooding["port"] = json!(8472);
    for (network, conf) in [("flooding", flooding), ("given", given)] {
        node.nad(network, conf.clone());
        let selection = if network == "given" {
            json!([{"name": network}])
        } else {
            json!([{"name": network, "ips": ["10.42.0.1/24"]}])
        };
        let pod = node.pod(network, &selection.to_string());
        node.add(&pod).refused(102, &[&format!("default/{network}"), "port", "8472", "cilium_vxlan"]);
        pod.assert_empty();
        assert_eq!(node.netns.links(), ["cilium_vxlan", "up0"]);
        node.assert_clean_but(&["cilium_vxlan", "up0"]);
        let mut other = conf;
        other["port"] = json!(4789);
        node.nad(network, other);
        node.add(&pod).result();
        node.del(&pod).quiet();
    }
}
