//! A master that is a VXLAN link made on demand: its nodes find each other by a group, as DANM's do.

use std::net::UdpSocket;

use meta_cni_tests::call::Outcome;
use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

use crate::on_demand::{has, lan, left_by_a_killed_call};

/// A link as DANM makes it of a VNI: of 600 in IPv4 the group ends in 2.88.
fn danms(name: &str, underlay: &str, group: &str) -> String {
    format!("ip link add {name} type vxlan id 600 dev {underlay} group {group} dstport 4789 learning")
}

const GROUP: &str = "239.0.2.88";

/// A node with one wire `up0` to `far`, where a link as DANM makes it leads to 10.21.0.1.
fn scene() -> (Node, Netns) {
    scene_over(["192.168.50.1/24", "192.168.50.2/24"], GROUP)
}

fn scene_over([near, away]: [&str; 2], group: &str) -> (Node, Netns) {
    let node = Node::new();
    let far = Netns::new(node.path("netns/far"));
    node.netns.run(&format!("ip link add up0 type veth peer name up0 netns {}", far.text()));
    for (netns, address) in [(&node.netns, near), (&far, away)] {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        netns.run(&format!("ip address add {address} dev up0{nodad}"));
        netns.run("ip link set up0 up");
    }
    far.run(&danms("vx_far", "up0", group));
    far.run("ip link set vx_far up");
    far.run("ip address add 10.21.0.1/24 dev vx_far");
    (node, far)
}

/// A network on VNI 600. All of them give addresses from one list.
fn wide(node: &Node, kind: &str, more: Value) -> Value {
    let mut conf = lan(node, kind, json!({"name": "wide", "master": "up0", "masterVxlan": 600}));
    for (key, value) in more.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

/// The routers of DANM's nodes and the pods of ours are in one segment; the first pod brings the link and the last takes it away.
fn comes_and_goes(node: &Node, kind: &str, group: &str, mtu: u64) {
    node.nad("lan", wide(node, kind, json!({"masterVxlanName": "vx_lan"})));
    // Another network of the same VNI: the link has the name of who came first.
    node.nad("other", wide(node, kind, json!({})));
    let pods = [node.pod("one", "lan"), node.pod("two", "other")];
    let results = pods.each_ref().map(|pod| node.add(pod).result());
    assert!(!has(node, "vxlan600"), "one link for both");
    let link = node.netns.link("vx_lan");
    let data = &link["linkinfo"]["info_data"];
    let told = (&data["id"], &data["port"], &data["link"], &link["mtu"]);
    assert_eq!(told, (&json!(600), &json!(4789), &json!("up0"), &json!(mtu)), "{link}");
    assert!([&data["group"], &data["group6"]].contains(&&json!(group)), "{link}");
    assert!(node.netns.addresses("vx_lan").is_empty(), "the node has no part in it");
    assert_eq!(node.netns.run("sysctl -n net/ipv6/conf/vx_lan/disable_ipv6").trim(), "1");
    for (pod, result) in pods.iter().zip(&results) {
        assert!(pod.netns.pings("10.21.0.1"), "{kind}");
        node.check(pod, result).quiet();
    }
    node.del(&pods[0]).quiet();
    assert!(has(node, "vx_lan"), "another network's pod is on it");
    assert!(pods[1].netns.pings("10.21.0.1"));
    node.check(&pods[1], &results[1]).quiet();
    node.del(&pods[1]).quiet();
    assert!(!has(node, "vx_lan"), "{kind}: {:?}", node.netns.links());
    node.del(&pods[1]).quiet();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn networks_of_a_vni_share_a_link_that_goes_with_the_last_pod() {
    let (node, _far) = scene();
    comes_and_goes(&node, "macvlan", GROUP, 1450);
}

#[test]
fn ipvlan_stands_on_it_too_on_uml() {
    let (node, _far) = scene();
    comes_and_goes(&node, "ipvlan", GROUP, 1450);
}

#[test]
fn an_underlay_of_ipv6_has_a_group_of_ipv6() {
    let (node, _far) = scene_over(["fd50::1/64", "fd50::2/64"], "ff02::258");
    comes_and_goes(&node, "macvlan", "ff02::258", 1430);
}

#[test]
fn a_like_link_of_others_is_used_and_stays() {
    let (node, _far) = scene();
    for name in ["vx_lan", "storage"] {
        node.netns.run(&danms(name, "up0", GROUP));
        node.netns.run(&format!("ip link set {name} up"));
        node.nad("lan", wide(&node, "macvlan", json!({"masterVxlanName": "vx_lan"})));
        let pod = node.pod("web", "lan");
        let result = node.add(&pod).result();
        assert!(pod.netns.pings("10.21.0.1"), "{name}");
        node.check(&pod, &result).quiet();
        node.del(&pod).quiet();
        node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).run().quiet();
        assert!(has(&node, name), "{name}");
        node.assert_clean_but(&["up0", name]);
        node.netns.run(&format!("ip link del {name}"));
    }
}

#[test]
fn a_link_that_leads_elsewhere_is_named() {
    let (node, _far) = scene();
    node.netns.run("ip link add up1 type veth peer name up2");
    node.nad("lan", wide(&node, "macvlan", json!({})));
    let bare = "ip link add theirs type vxlan id 600 dev up0 dstport 4789";
    for (link, words) in [
        ("ip link add vxlan600 type bridge".to_owned(), "whose name vxlan600 is free: that is a bridge"),
        (danms("vxlan600", "up1", GROUP), "vxlan600 has it over up1, not up0"),
        (danms("theirs", "up0", "239.1.1.1"), "theirs has it with group 239.1.1.1, not 239.0.2.88"),
        // DANM 4.4's.
        (format!("{bare} local 192.168.50.1 nolearning"), "theirs has it with no group, not 239.0.2.88"),
        (format!("{bare} group {GROUP} nolearning"), "theirs has it without learning"),
    ] {
        node.netns.run(&link);
        let name = if link.contains("theirs") { "theirs" } else { "vxlan600" };
        let pod = node.pod("web", "lan");
        node.add(&pod).refused(102, &["masterVxlan: got 600", words]);
        node.del(&pod).quiet();
        pod.assert_empty();
        assert!(has(&node, name));
        node.assert_clean_but(&["up0", "up1", "up2", name]);
        node.netns.run(&format!("ip link del {name}"));
    }
}

/// The kernel has a VNI once on a port, and either of two networks says so.
#[test]
fn an_overlay_and_a_master_of_one_vni_exclude_each_other() {
    let (node, _far) = scene();
    let overlay = json!({"vni": 600, "underlay": "up0", "peers": ["192.168.50.2"]});
    node.nad("overlay", lan(&node, "vxlan", overlay));
    node.nad("lan", wide(&node, "macvlan", json!({})));
    let (one, other) = (node.pod("one", "overlay"), node.pod("two", "lan"));
    node.add(&one).result();
    node.add(&other).refused(102, &["masterVxlan: got 600", "vx600 has it with no group"]);
    node.del(&one).quiet();
    node.add(&other).result();
    node.add(&one).refused(101, &["vxlan600, on which other networks stand, has VNI 600 on UDP port 4789"]);
    assert!(other.netns.pings("10.21.0.1"));
    node.del(&other).quiet();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn what_the_node_cannot_do_is_told() {
    let (mut node, _far) = scene();
    node.netns.run("ip link add bare type veth peer name up2");
    for (more, code, words) in [
        (json!({"master": "bare"}), 102, &["master: got \"bare\"", "a link with a global address"][..]),
        (json!({"master": "up9"}), 102, &["master", "up9"]),
        (json!({"mtu": 1500}), 7, &["mtu: got 1500, want at most 1450"]),
        (json!({"masterVxlan": 0}), 7, &["masterVxlan: got 0, want an integer from 1 to 16777215"]),
        (json!({"masterVlan": 5}), 7, &["masterVxlan cannot be combined with masterVlan"]),
        (json!({"linkInContainer": true}), 7, &["masterVxlan", "linkInContainer"]),
        (json!({"masterVxlanName": "sixteen-bytes-it"}), 7, &["masterVxlanName"]),
    ] {
        node.nad("lan", wide(&node, "macvlan", more));
        let pod = node.pod("web", "lan");
        node.add(&pod).refused(code, words);
        node.del(&pod).quiet();
        pod.assert_empty();
    }
    node.nad("lan", wide(&node, "macvlan", json!({})));
    let held = node.netns.inside(|| UdpSocket::bind("0.0.0.0:4789").unwrap());
    let pod = node.pod("web", "lan");
    node.add(&pod).refused(102, &["masterVxlan: got 600", "UDP port 4789", "another program has it"]);
    assert!(!has(&node, "vxlan600"));
    drop(held);
    node.add(&pod).result();
    node.del(&pod).quiet();
    node.conf["delegates"] = json!([wide(&node, "macvlan", json!({"mtu": 1500}))]);
    node.bare_call("STATUS").run().refused(50, &["mtu", "1450"]);
    node.assert_clean_but(&["up0", "bare", "up2"]);
}

#[test]
fn what_a_killed_call_left_goes_or_is_used() {
    let (node, _far) = scene();
    node.nad("lan", wide(&node, "macvlan", json!({})));
    let pod = node.pod("web", "lan");
    left_by_a_killed_call(&node, &pod, "vxlan600", &danms("vxlan600", "up0", GROUP));
}

#[test]
fn pods_that_come_and_go_at_once_share_one_link() {
    let (node, _far) = scene();
    node.nad("lan", wide(&node, "macvlan", json!({})));
    let pods: Vec<Pod> = (0..4).map(|n| node.pod(&format!("web-{n}"), "lan")).collect();
    for _ in 0..3 {
        let calls: Vec<_> = pods.iter().map(|pod| node.call("ADD", pod).start()).collect();
        calls.into_iter().for_each(|call| drop(Outcome::of("ADD", call).result()));
        assert!(pods.iter().all(|pod| pod.netns.pings("10.21.0.1")));
        let calls: Vec<_> = pods[1..].iter().map(|pod| node.call("DEL", pod).start()).collect();
        calls.into_iter().for_each(|call| Outcome::of("DEL", call).quiet());
        assert!(pods[0].netns.pings("10.21.0.1"));
        node.del(&pods[0]).quiet();
        node.assert_clean_but(&["up0"]);
    }
}
