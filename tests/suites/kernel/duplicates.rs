//! IPv6 addresses that somebody else on the link has (duplicate address detection), and addresses that nobody gave (router
//! advertisements).

use std::time::{Duration, Instant};

use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// A node whose definition `lan` gives every pod the same addresses, on one bridge that detects duplicates.
fn scene(addresses: Value) -> Node {
    let node = Node::new();
    let ipam = json!({"type": "static", "addresses": addresses});
    node.nad(
        "lan",
        json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-lan", "enabledad": true, "ipam": ipam}),
    );
    node
}

fn same() -> Value {
    json!([{"address": "fd00:20::5/64"}])
}

/// Takes the pod's link down and up: the kernel detects its addresses anew.
fn detect_again(pod: &Pod) {
    pod.netns.run("ip link set net1 down");
    pod.netns.run("ip link set net1 up");
}

/// Waits until the kernel says that about the pod's address.
fn await_flag(pod: &Pod, flag: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while !pod.netns.run("ip -6 address show dev net1 scope global").contains(flag) {
        assert!(Instant::now() < until, "never {flag}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_address_that_another_pod_has_fails_the_add_and_leaves_nothing() {
    let node = scene(same());
    let (first, second) = (node.pod("first", "lan"), node.pod("second", "lan"));
    let result = node.add(&first).result();
    assert!(!first.netns.run("ip -6 address show dev net1 scope global").contains("tentative"), "ADD has waited");
    node.check(&first, &result).quiet();
    let refusal = node.add(&second).refused(110, &["network default/lan (net1)", "fd00:20::5/64 of net1", "in use"]);
    assert!(refusal.text.contains("duplicate address detection"), "{}", refusal.text);
    second.assert_empty();
    node.del(&second).quiet();
    node.del(&first).quiet();
    node.add(&second).result();
    node.del(&second).quiet();
    node.assert_clean_but(&["br-lan"]);
}

#[test]
fn one_of_several_networks_fails_the_whole_add() {
    let node = scene(same());
    let ipam = |address: &str| json!({"type": "static", "addresses": [{"address": address}]});
    let other = |address: &str| json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-b", "enabledad": true, "ipam": ipam(address)});
    node.nad("other", other("fd00:21::5/64"));
    let (first, second) = (node.pod("first", "lan"), node.pod("second", "other,lan"));
    node.add(&first).result();
    node.add(&second).refused(110, &["network default/lan (net2)", "fd00:20::5/64 of net2"]);
    second.assert_empty();
    node.del(&second).quiet();
    node.del(&first).quiet();
    node.assert_clean_but(&["br-lan", "br-b"]);
}

#[test]
fn without_a_wait_the_add_answers_and_check_finds_the_duplicate() {
    let mut node = scene(same());
    let (first, second) = (node.pod("first", "lan"), node.pod("second", "lan"));
    node.add(&first).result();
    // The detection asks for longer than the test lasts, and nobody hears it before the ADD has answered.
    second.netns.run("sysctl -qw net.ipv6.conf.default.dad_transmits=60");
    let ports = node.netns.run("ip -o link show master br-lan");
    let port = ports.split([':', '@']).nth(1).unwrap().trim().to_owned();
    node.netns.run(&format!("ip link set {port} nomaster"));
    node.conf["dadWaitMs"] = json!(0);
    let result = node.add(&second).result();
    node.netns.run(&format!("ip link set {port} master br-lan"));
    await_flag(&second, "dadfailed");
    node.check(&second, &result).refused(105, &["fd00:20::5/64 of net1 is in use"]);
    node.del(&second).quiet();
    node.del(&first).quiet();
    node.assert_clean_but(&["br-lan"]);
}

#[test]
fn a_duplicate_that_comes_later_is_found_by_check() {
    let node = scene(same());
    let (pod, intruder) = (node.pod("web", "lan"), node.pod("intruder", ""));
    let result = node.add(&pod).result();
    node.check(&pod, &result).quiet();
    // On the wire without anybody's record.
    node.netns.run(&format!("ip link add spy0 type veth peer name spy1 netns {}", intruder.netns.text()));
    node.netns.run("ip link set spy0 master br-lan up");
    intruder.netns.run("ip link set spy1 up");
    intruder.netns.run("ip address add fd00:20::5/64 dev spy1 nodad");
    detect_again(&pod);
    await_flag(&pod, "dadfailed");
    node.check(&pod, &result).refused(105, &["fd00:20::5/64 of net1 is in use on the link already"]);
    node.del(&pod).quiet();
    node.netns.run("ip link del spy0");
    node.assert_clean_but(&["br-lan"]);
}

#[test]
fn a_wait_that_is_over_is_a_warning() {
    let mut node = scene(same());
    node.conf["dadWaitMs"] = json!(1);
    let pod = node.pod("web", "lan");
    // Longer than an ADD takes on the slowest machine.
    pod.netns.run("sysctl -qw net.ipv6.conf.default.dad_transmits=60");
    let added = node.add(&pod);
    added.result();
    assert!(
        added.stderr().contains("fd00:20::5/64 of net1") && added.stderr().contains("dadWaitMs"),
        "{}",
        added.stderr()
    );
    node.del(&pod).quiet();
    node.assert_clean_but(&["br-lan"]);
}

#[test]
fn a_link_without_carrier_detects_nothing_and_is_not_waited_for() {
    let mut node = Node::new();
    // A wait that no test would have the patience for.
    node.conf["dadWaitMs"] = json!(60_000);
    node.netns.run("ip link add up0 type veth peer name up1");
    node.netns.run("ip link set up0 up");
    let ipam = json!({"type": "static", "addresses": same()});
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "up0", "ipam": ipam}));
    let pod = node.pod("web", "lan");
    let began = Instant::now();
    node.add(&pod).result();
    assert!(began.elapsed() < Duration::from_secs(30), "it has waited for what cannot come");
    assert!(pod.netns.run("ip -6 address show dev net1 scope global").contains("tentative"));
    node.del(&pod).quiet();
    node.assert_clean_but(&["up0", "up1"]);
}

#[test]
fn values_of_the_wait_that_mean_nothing_are_refused() {
    for (value, shown) in
        [(json!(-1), "-1"), (json!("5000"), "\"5000\""), (json!(60_001), "60001"), (json!(0.5), "0.5")]
    {
        let mut node = Node::new();
        node.conf["dadWaitMs"] = value;
        let pod = node.pod("web", "");
        node.add(&pod).refused(7, &["dadWaitMs", shown, "0 to 60000"]);
        pod.assert_empty();
    }
}

/// `accept_ra` and `autoconf` of the pod's link.
fn advertisements(node: &Node, conf: Value) -> Vec<String> {
    node.nad("lan", conf);
    let pod = node.pod("web", "lan");
    node.add(&pod).result();
    let read = |key: &str| pod.netns.run(&format!("sysctl -n net.ipv6.conf.net1.{key}")).trim().to_owned();
    let found = vec![read("accept_ra"), read("autoconf")];
    node.del(&pod).quiet();
    found
}

#[test]
fn a_link_with_ipv6_addresses_of_ipam_makes_no_others_itself() {
    let node = Node::new();
    let conf = |addresses: Value, keys: Value| {
        let mut conf = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-lan"});
        if !addresses.is_null() {
            conf["ipam"] = json!({"type": "static", "addresses": addresses});
        }
        for (key, value) in keys.as_object().unwrap() {
            conf[key] = value.clone();
        }
        conf
    };
    let v4 = || json!([{"address": "10.20.0.5/24"}]);
    for (addresses, keys, want) in [
        (same(), json!({}), ["0", "0"]),
        (same(), json!({"acceptRA": true}), ["1", "1"]),
        (v4(), json!({}), ["1", "1"]),
        (v4(), json!({"acceptRA": false}), ["0", "0"]),
        (Value::Null, json!({}), ["1", "1"]),
        (Value::Null, json!({"acceptRA": false}), ["0", "0"]),
    ] {
        let conf = conf(addresses, keys);
        assert_eq!(advertisements(&node, conf.clone()), want, "{conf}");
    }
    node.nad("lan", conf(same(), json!({"acceptRA": "no"})));
    let pod = node.pod("web", "lan");
    node.add(&pod).refused(7, &["acceptRA", "\"no\"", "true or false"]);
    pod.assert_empty();
}
