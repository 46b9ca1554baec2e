//! macvlan and ipvlan: links on a link of the node.

use std::time::Duration;

use meta_cni_tests::call::Outcome;
use meta_cni_tests::fake::Rule;
use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::Node;
use serde_json::{Value, json};

/// A node with one wire `up0` to `far`, where 10.20.0.1 answers.
fn scene() -> (Node, Netns) {
    let node = Node::new();
    let far = Netns::new(node.path("netns/far"));
    node.netns.run(&format!("ip link add up0 type veth peer name up0 netns {}", far.text()));
    node.netns.run("ip link set up0 up");
    far.run("ip link set up0 up");
    far.run("ip address add 10.20.0.1/24 dev up0");
    (node, far)
}

fn on_up0(node: &Node, kind: &str, keys: Value) -> Value {
    let mut conf =
        json!({"cniVersion": "1.0.0", "type": kind, "master": "up0", "ipam": node.host_local("10.20.0.0/24")});
    for (key, value) in keys.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

fn attach_and_ping(kind: &str, modes: &[&str]) {
    let (node, _far) = scene();
    for mode in modes {
        node.nad("lan", on_up0(&node, kind, json!({"mode": mode, "mtu": 1400})));
        let pod = node.pod("web", "lan");
        let result = node.add(&pod).result();
        assert_eq!(pod.netns.kind("net1"), kind);
        let link = pod.netns.link("net1");
        assert_eq!((&link["mtu"], &link["linkinfo"]["info_data"]["mode"]), (&json!(1400), &json!(mode)));
        assert_eq!(pod.netns.addresses("net1").len(), 1);
        if *mode != "passthru" {
            assert!(pod.netns.pings("10.20.0.1"), "{mode}");
        }
        node.check(&pod, &result).quiet();
        node.del(&pod).quiet();
        pod.assert_empty();
        node.assert_clean_but(&["up0"]);
    }
}

#[test]
fn macvlan_in_every_mode() {
    attach_and_ping("macvlan", &["bridge", "private", "vepa", "passthru"]);
}

#[test]
fn ipvlan_in_l2_on_uml() {
    attach_and_ping("ipvlan", &["l2"]);
}

#[test]
fn ipvlan_in_l3_modes_on_uml() {
    let (node, _far) = scene();
    for mode in ["l3", "l3s"] {
        node.nad("lan", on_up0(&node, "ipvlan", json!({"mode": mode})));
        let pod = node.pod("web", "lan");
        node.add(&pod).result();
        assert_eq!(pod.netns.link("net1")["linkinfo"]["info_data"]["mode"], *mode);
        node.del(&pod).quiet();
        node.assert_clean_but(&["up0"]);
    }
}

#[test]
fn vlan_of_a_master_that_goes_away_on_uml() {
    let (node, far) = scene();
    far.run("ip link add link up0 name up0.7 type vlan id 7");
    far.run("ip link set up0.7 up");
    far.run("ip address add 10.21.0.1/24 dev up0.7");
    let conf = json!({"cniVersion": "1.0.0", "type": "vlan", "master": "up0", "vlanId": 7, "ipam": node.host_local("10.21.0.0/24")});
    node.nad("lan", conf);
    let pod = node.pod("web", "lan");
    let result = node.add(&pod).result();
    assert!(pod.netns.pings("10.21.0.1"));
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    pod.assert_empty();
    node.add(&pod).result();
    node.netns.run("ip link del up0");
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean();
}

#[test]
fn a_chain_with_a_vrf_pings_from_inside_it_on_uml() {
    let (node, _far) = scene();
    let macvlan = json!({"type": "macvlan", "master": "up0", "ipam": node.host_local("10.20.0.0/24")});
    let vrf = json!({"type": "vrf", "vrfname": "blue"});
    node.nad("lan", json!({"cniVersion": "1.0.0", "name": "lan", "plugins": [macvlan, vrf]}));
    let pod = node.pod("web", "lan");
    let result = node.add(&pod).result();
    assert_eq!(pod.netns.link("net1")["master"], "blue");
    pod.netns.run("ping -c 1 -W 2 -I blue 10.20.0.1");
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn ipvlan_where_the_kernel_has_none_says_so_on_host() {
    let (node, _far) = scene();
    node.nad("lan", on_up0(&node, "ipvlan", json!({})));
    let pod = node.pod("web", "lan");
    node.add(&pod).refused(103, &["default/lan", "ipvlan"]);
    pod.assert_empty();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn a_master_that_is_missing_is_named() {
    let (node, _far) = scene();
    for kind in ["macvlan", "ipvlan"] {
        node.nad("lan", on_up0(&node, kind, json!({"master": "up9"})));
        let pod = node.pod("web", "lan");
        node.add(&pod).refused(102, &["default/lan", "master", "up9"]);
        pod.assert_empty();
        node.assert_clean_but(&["up0"]);
    }
}

#[test]
fn a_master_of_the_wrong_kind_is_named() {
    let (node, _far) = scene();
    for kind in ["macvlan", "ipvlan"] {
        node.nad("lan", on_up0(&node, kind, json!({"master": "lo"})));
        let pod = node.pod("web", "lan");
        let refusal = node.add(&pod).refusal();
        assert!(refusal.text.contains("default/lan") && refusal.text.contains("lo"), "{}", refusal.text);
        pod.assert_empty();
        node.assert_clean_but(&["up0"]);
    }
}

#[test]
fn an_mtu_above_the_masters_is_refused_with_the_limit() {
    let (node, _far) = scene();
    node.nad("lan", on_up0(&node, "macvlan", json!({"mtu": 9000})));
    let pod = node.pod("web", "lan");
    let refusal = node.add(&pod).refusal();
    for name in ["mtu", "9000", "1500"] {
        assert!(refusal.text.contains(name), "{}", refusal.text);
    }
    node.assert_clean_but(&["up0"]);
}

#[test]
fn the_master_defaults_to_the_link_of_the_default_route() {
    let (node, _far) = scene();
    node.netns.run("ip address add 10.20.0.200/24 dev up0");
    node.netns.run("ip route add default via 10.20.0.1");
    let mut conf = on_up0(&node, "macvlan", json!({}));
    conf.as_object_mut().unwrap().remove("master");
    node.nad("lan", conf);
    let pod = node.pod("web", "lan");
    node.add(&pod).result();
    node.netns.run("ip route del default");
    node.del(&pod).quiet();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn del_works_when_the_master_is_gone() {
    let (node, _far) = scene();
    node.nad("lan", on_up0(&node, "macvlan", json!({})));
    let pod = node.pod("web", "lan");
    node.add(&pod).result();
    node.netns.run("ip link del up0");
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_network_of_layer_2_alone_has_no_address() {
    let (node, _far) = scene();
    let mut conf = on_up0(&node, "macvlan", json!({"capabilities": {"mac": true}}));
    conf.as_object_mut().unwrap().remove("ipam");
    node.nad("lan", conf);
    let pod = node.pod("web", r#"[{"name":"lan","mac":"02:00:5e:00:00:09"}]"#);
    node.add(&pod).result();
    assert_eq!(pod.netns.link("net1")["address"], "02:00:5e:00:00:09");
    assert!(pod.netns.addresses("net1").is_empty());
    node.del(&pod).quiet();
    node.assert_clean_but(&["up0"]);
}

/// ADD of a network on `up0`, which goes down while the addresses are being given.
fn add_while_the_master_goes_down(kind: &str, keys: Value) {
    let (node, _far) = scene();
    let go = node.path("go");
    let answer = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.20.0.9/24"}]});
    node.fakes.rules("two", &[Rule { wait_for: Some(go.clone()), ..Rule::on("ADD") }.answers(&answer)]);
    let mut conf = on_up0(&node, kind, keys);
    conf["ipam"] = json!({"type": "two"});
    node.nad("lan", conf);
    let pod = node.pod("web", "lan");
    let add = node.call("ADD", &pod).start();
    while node.fakes.calls_of("ADD").len() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    node.netns.run("ip link set up0 down");
    std::fs::write(&go, "").unwrap();
    let outcome = Outcome::of("ADD", add);
    match kind {
        // It is up, and has a carrier as soon as its master has.
        "macvlan" => assert_eq!(outcome.result()["interfaces"][1]["name"], "net1"),
        _ => assert!(outcome.refusal().text.ends_with("up: Network is down "), "{}", outcome.refusal().text),
    }
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn macvlan_of_a_master_that_goes_down_during_add() {
    add_while_the_master_goes_down("macvlan", json!({}));
}

#[test]
fn vlan_of_a_master_that_goes_down_during_add_on_uml() {
    add_while_the_master_goes_down("vlan", json!({"vlanId": 100}));
}
