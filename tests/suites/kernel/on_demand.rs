//! A master that is a VLAN link made on demand: shared by pods, gone with the last of them. And links of layer 2 alone.

use meta_cni_tests::call::Outcome;
use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// A node with one wire `up0` to `far`, where 10.21.0.1 answers in VLAN 100.
fn scene() -> (Node, Netns) {
    let node = Node::new();
    let far = Netns::new(node.path("netns/far"));
    node.netns.run(&format!("ip link add up0 type veth peer name up0 netns {}", far.text()));
    node.netns.run("ip link set up0 up");
    far.run("ip link set up0 up");
    far.run("ip link add link up0 name v100 type vlan id 100");
    far.run("ip link set v100 up");
    far.run("ip address add 10.21.0.1/24 dev v100");
    (node, far)
}

pub fn lan(node: &Node, kind: &str, keys: Value) -> Value {
    let mut conf = json!({"cniVersion": "1.0.0", "type": kind, "ipam": node.host_local("10.21.0.0/24")});
    for (key, value) in keys.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

/// Link group of what we make for the node.
pub const OURS: &str = "0x2d636e69";

pub fn has(node: &Node, link: &str) -> bool {
    node.netns.links().iter().any(|name| name == link)
}

#[test]
fn the_vlan_comes_with_the_first_pod_and_goes_with_the_last_on_uml() {
    let (node, _far) = scene();
    for (kind, keys) in [
        ("macvlan", json!({"master": "up0", "masterVlan": 100})),
        ("macvlan", json!({"master": "up0.100"})),
        ("ipvlan", json!({"master": "up0", "masterVlan": 100})),
        ("ipvlan", json!({"master": "up0.100"})),
    ] {
        node.nad("lan", lan(&node, kind, keys));
        let pods = [node.pod("one", "lan"), node.pod("two", "lan")];
        let results = pods.each_ref().map(|pod| node.add(pod).result());
        let vlan = node.netns.link("up0.100");
        assert_eq!((&vlan["linkinfo"]["info_data"]["id"], &vlan["link"]), (&json!(100), &json!("up0")));
        assert!(node.netns.addresses("up0.100").is_empty(), "the node has nothing to do with the VLAN");
        assert_eq!(node.netns.run("sysctl -n net/ipv6/conf/up0.100/disable_ipv6").trim(), "1");
        for (pod, result) in pods.iter().zip(&results) {
            assert!(pod.netns.pings("10.21.0.1"), "{kind}: the tag is the master's");
            node.check(pod, result).quiet();
        }
        node.del(&pods[0]).quiet();
        assert!(has(&node, "up0.100"), "another pod is on it");
        assert!(pods[1].netns.pings("10.21.0.1"));
        node.del(&pods[1]).quiet();
        assert!(!has(&node, "up0.100"), "{kind}: {:?}", node.netns.links());
        node.del(&pods[1]).quiet();
        node.assert_clean_but(&["up0"]);
    }
}

#[test]
fn the_two_ways_to_say_it_mean_one_link_on_uml() {
    let (node, _far) = scene();
    node.nad("number", lan(&node, "macvlan", json!({"master": "up0", "masterVlan": 100})));
    node.nad("name", lan(&node, "macvlan", json!({"master": "up0.100"})));
    let pods = [node.pod("one", "number"), node.pod("two", "name")];
    pods.iter().for_each(|pod| drop(node.add(pod).result()));
    node.del(&pods[0]).quiet();
    assert!(pods[1].netns.pings("10.21.0.1"));
    node.del(&pods[1]).quiet();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn a_link_that_others_made_is_used_and_stays_on_uml() {
    let (node, _far) = scene();
    for name in ["up0.100", "storage"] {
        node.netns.run(&format!("ip link add link up0 name {name} type vlan id 100"));
        node.netns.run(&format!("ip link set {name} up"));
        node.nad("lan", lan(&node, "macvlan", json!({"master": "up0", "masterVlan": 100})));
        let pod = node.pod("web", "lan");
        let result = node.add(&pod).result();
        assert!(pod.netns.pings("10.21.0.1"), "{name}");
        node.check(&pod, &result).quiet();
        node.del(&pod).quiet();
        assert!(has(&node, name), "{name}");
        node.assert_clean_but(&["up0", name]);
        node.netns.run(&format!("ip link del {name}"));
    }
}

#[test]
fn a_failed_add_and_the_collection_of_garbage_leave_no_link_on_uml() {
    let (node, _far) = scene();
    let mut conf = lan(&node, "macvlan", json!({"master": "up0", "masterVlan": 100, "mtu": 9000}));
    node.nad("lan", conf.clone());
    let pod = node.pod("web", "lan");
    node.add(&pod).refused(7, &["mtu", "9000"]);
    assert!(!has(&node, "up0.100"));
    conf.as_object_mut().unwrap().remove("mtu");
    node.nad("lan", conf);
    let result = node.add(&pod).result();
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    left_by_a_killed_call(&node, &pod, "up0.100", "ip link add link up0 name up0.100 type vlan id 100");
}

/// An ADD was killed between the link and the note of its owner: the DEL of the pod finds it by the configuration, GC by itself, and another
/// ADD uses it.
pub fn left_by_a_killed_call(node: &Node, pod: &Pod, link: &str, make: &str) {
    let left = || {
        node.netns.run(make);
        node.netns.run(&format!("ip link set {link} group {OURS}"));
    };
    node.add(pod).result();
    std::fs::remove_dir_all(node.path("state/shared")).unwrap();
    node.del(pod).quiet();
    assert!(!has(node, link), "DEL");
    left();
    node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).run().quiet();
    assert!(!has(node, link), "GC");
    left();
    node.add(pod).result();
    assert!(pod.netns.pings("10.21.0.1"));
    node.del(pod).quiet();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn what_cannot_be_the_vlan_is_named_on_uml() {
    let (node, _far) = scene();
    node.netns.run("ip link add up0.7 type dummy");
    node.netns.run("ip link add link up0 name up0.8 type vlan id 9");
    let longest = "enp131s0f0np0";
    node.netns.run(&format!("ip link add {longest} type dummy"));
    for (keys, code, words) in [
        (json!({"master": "up0", "masterVlan": 7}), 102, &["masterVlan", "up0.7", "dummy"][..]),
        (json!({"master": "up0", "masterVlan": 8}), 102, &["masterVlan", "up0.8", "not VLAN 8 of up0"]),
        (json!({"master": "up9", "masterVlan": 8}), 102, &["master", "up9"]),
        (json!({"master": "up9.8"}), 102, &["master", "up9.8", "an existing link"]),
        (json!({"master": "up0.4095"}), 102, &["master", "up0.4095"]),
        (json!({"master": longest, "masterVlan": 100}), 7, &["masterVlan", "15 bytes"]),
        (json!({"master": "up0", "masterVlan": 0}), 7, &["masterVlan", "0", "1 to 4094"]),
        (json!({"master": "up0", "masterVlan": 4095}), 7, &["masterVlan", "4095"]),
        (json!({"master": "up0", "masterVlan": "100"}), 7, &["masterVlan", "\"100\""]),
        (json!({"master": "up0", "masterVlan": 100, "linkInContainer": true}), 7, &["masterVlan", "linkInContainer"]),
    ] {
        for kind in ["macvlan", "ipvlan"] {
            node.nad("lan", lan(&node, kind, keys.clone()));
            let pod = node.pod("web", "lan");
            node.add(&pod).refused(code, words);
            node.del(&pod).quiet();
            pod.assert_empty();
        }
    }
    node.assert_clean_but(&["up0", "up0.7", "up0.8", longest]);
}

#[test]
fn a_vlan_of_the_default_networks_bridge_is_nobodys_on_uml() {
    let (mut node, _far) = scene();
    node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "cni0", "ipam": node.host_local("10.10.0.0/24")}]);
    for keys in [json!({"master": "cni0.100"}), json!({"master": "cni0", "masterVlan": 100})] {
        node.nad("lan", lan(&node, "macvlan", keys));
        let pod = node.pod("web", "lan");
        node.add(&pod).refused(7, &["master", "cni0", "shareDefaultBridge"]);
        pod.assert_empty();
        assert!(!has(&node, "cni0.100"));
    }
}

#[test]
fn pods_that_come_and_go_at_once_share_one_link_on_uml() {
    let (node, _far) = scene();
    node.nad("lan", lan(&node, "macvlan", json!({"master": "up0", "masterVlan": 100})));
    let pods: Vec<Pod> = (0..4).map(|n| node.pod(&format!("web-{n}"), "lan")).collect();
    for _ in 0..3 {
        let calls: Vec<_> = pods.iter().map(|pod| node.call("ADD", pod).start()).collect();
        calls.into_iter().for_each(|call| drop(Outcome::of("ADD", call).result()));
        assert!(pods.iter().all(|pod| pod.netns.pings("10.21.0.1")));
        // One stays until the others are gone, and one comes while they go.
        let calls: Vec<_> = pods[1..].iter().map(|pod| node.call("DEL", pod).start()).collect();
        calls.into_iter().for_each(|call| Outcome::of("DEL", call).quiet());
        assert!(pods[0].netns.pings("10.21.0.1"));
        node.del(&pods[0]).quiet();
        node.assert_clean_but(&["up0"]);
    }
}

#[test]
fn a_master_that_goes_takes_the_link_with_it_on_uml() {
    let (mut node, _far) = scene();
    let conf = lan(&node, "macvlan", json!({"name": "lan", "master": "up0", "masterVlan": 100}));
    node.conf["delegates"] = json!([conf]);
    node.bare_call("STATUS").run().quiet();
    assert!(!has(&node, "up0.100"), "a question makes nothing");
    let pod = node.pod("web", "");
    node.add(&pod).result();
    node.netns.run("ip link del up0");
    node.bare_call("STATUS").run().refused(50, &["master", "up0"]);
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean();
}

#[test]
fn layer_2_alone_comes_up_on_uml() {
    let (node, _far) = scene();
    for (kind, keys) in [
        ("macvlan", json!({})),
        ("ipvlan", json!({})),
        ("ipvlan", json!({"mode": "l3"})),
        ("vlan", json!({"vlanId": 100})),
    ] {
        let mut conf = lan(&node, kind, keys);
        conf["master"] = json!("up0");
        conf.as_object_mut().unwrap().remove("ipam");
        node.nad("lan", conf);
        let pod = node.pod("web", "lan");
        let result = node.add(&pod).result();
        let flags = pod.netns.link("net1")["flags"].clone();
        assert!(flags.as_array().unwrap().contains(&json!("UP")), "{kind}: {flags}");
        assert!(pod.netns.addresses("net1").is_empty());
        assert!(node.status(&pod)[1].get("ips").is_none_or(|ips| ips == &json!([])), "{}", node.status(&pod));
        node.check(&pod, &result).quiet();
        node.del(&pod).quiet();
        pod.assert_empty();
    }
    node.assert_clean_but(&["up0"]);
}
