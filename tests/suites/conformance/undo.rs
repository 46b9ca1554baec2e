//! Rollback, DEL and what survives a failure: nothing may stay, whoever comes next.

use std::time::Duration;

use meta_cni_tests::call::Outcome;
use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{Node, Pod};
use serde_json::json;

/// A node with two definitions and a pod that asks for both.
pub fn scene() -> (Node, Pod) {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one", "vendor": {"key": 1}}));
    node.nad("net-b", json!({"cniVersion": "1.0.0", "type": "two"}));
    let pod = node.pod("web", "net-a,net-b");
    (node, pod)
}

pub const ALL: [&str; 3] = ["DEL two net2", "DEL one net1", "DEL main eth0"];

#[test]
fn the_first_failure_undoes_everything_in_reverse_with_the_failing_one_first() {
    let (node, pod) = scene();
    node.fakes.rules("one", &[Rule::on("ADD").fails(11, "come back later")]);
    let refusal = node.add(&pod).refused(11, &["default/net-a", "come back later"]);
    assert!(refusal.msg.find("come back later").unwrap_or(usize::MAX) < 200, "cause first: {}", refusal.msg);
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD one net1", "DEL one net1", "DEL main eth0"]);
    node.assert_clean();
    node.del(&pod).quiet();
}

#[test]
fn a_plugin_that_refuses_the_version_never_ran_and_blocks_no_del() {
    let (node, pod) = scene();
    node.fakes.rules("one", &[Rule { exit: 1, ..Rule::default().fails(1, "incompatible CNI versions") }]);
    node.add(&pod).refused(1, &["default/net-a", "incompatible CNI versions"]);
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD one net1", "DEL main eth0"]);
    node.assert_clean();
    node.del(&pod).quiet();
}

#[test]
fn a_chain_that_fails_in_the_middle_is_undone_as_far_as_it_came() {
    let node = Node::new();
    node.nad("chain", json!({"cniVersion": "1.0.0", "plugins": [{"type": "one"}, {"type": "two"}]}));
    node.fakes.rules("two", &[Rule::on("ADD").fails(7, "bad port")]);
    let pod = node.pod("web", "chain");
    node.add(&pod).refused(7, &["bad port"]);
    let order = ["ADD main eth0", "ADD one net1", "ADD two net1", "DEL two net1", "DEL one net1", "DEL main eth0"];
    assert_eq!(node.fakes.take_order(), order);
    node.assert_clean();
}

#[test]
fn del_replays_the_add_when_definition_pod_and_configuration_are_gone_or_changed() {
    let (mut node, pod) = scene();
    node.add(&pod).result();
    let added = node.fakes.calls_of("ADD");
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "two", "vendor": "changed"}));
    node.remove_manifest("nad-net-b.json");
    node.remove_manifest("pod-web.json");
    node.conf["delegates"] = json!([{"cniVersion": "0.3.1", "name": "another", "type": "two"}]);
    node.fakes.take_order();
    node.call("DEL", &pod).env("CNI_ARGS", "").run().quiet();
    let dels = node.fakes.calls_of("DEL");
    assert_eq!(node.fakes.take_order(), ALL);
    for (del, add) in dels.iter().zip(added.iter().rev()) {
        let (mut told, asked) = (del.conf(), add.conf());
        told.as_object_mut().unwrap().remove("prevResult");
        assert_eq!(told, asked);
        assert_eq!(del.var("CNI_ARGS"), add.var("CNI_ARGS"));
        assert_eq!(del.var("CNI_NETNS"), add.var("CNI_NETNS"));
    }
    node.assert_clean();
}

#[test]
fn del_again_calls_nobody_once_the_namespace_is_gone() {
    let (node, pod) = scene();
    node.add(&pod).result();
    node.del(&pod).quiet();
    node.fakes.take_order();
    pod.netns.remove();
    for _ in 0..3 {
        node.del(&pod).quiet();
    }
    assert!(node.fakes.take_order().is_empty());
    node.assert_clean();
}

#[test]
fn del_without_an_add_undoes_the_default_network_once() {
    let (node, pod) = scene();
    node.fakes.rules("main", &[Rule::on("DEL").times(1).fails(11, "not yet")]);
    node.del(&pod).refused(11, &["not yet"]);
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL main eth0", "DEL main eth0"], "until it succeeds");
    node.add(&pod).result();
    node.fakes.take_order();
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ALL, "a record counts for more than what is remembered");
    // A runtime takes the namespace away after the DEL; it names none then, or one that is gone.
    node.call("DEL", &pod).without("CNI_NETNS").run().quiet();
    pod.netns.remove();
    node.del(&pod).quiet();
    assert!(node.fakes.take_order().is_empty());
    node.assert_clean();
}

/// An entry of the Go library's result cache.
fn cached(node: &Node, pod: &Pod, ifname: &str, conf: serde_json::Value) {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let network = conf["name"].as_str().unwrap().to_owned();
    let entry = json!({
        "kind": "cniCacheV1", "containerId": pod.container, "ifName": ifname, "networkName": network,
        "netns": pod.netns.text(), "cniArgs": [["K8S_POD_NAME", "web"]], "capabilityArgs": {"portMappings": [1]},
        "config": BASE64_STANDARD.encode(conf.to_string()),
        "result": {"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.2/24"}]},
    });
    let results = node.path("multus/results");
    std::fs::create_dir_all(&results).unwrap();
    std::fs::write(results.join(format!("{network}-{}-{ifname}", pod.container)), entry.to_string()).unwrap();
}

#[test]
fn del_undoes_what_multus_had_attached() {
    let (node, pod) = scene();
    let capabilities = json!({"portMappings": true});
    cached(
        &node,
        &pod,
        "net1",
        json!({"cniVersion": "1.0.0", "name": "lan", "type": "one", "vendor": 7, "capabilities": capabilities}),
    );
    cached(&node, &pod, "eth0", json!({"cniVersion": "1.0.0", "name": "node-net", "type": "multus"}));
    node.fakes.rules("one", &[Rule::on("DEL").fails(11, "not yet").times(1)]);
    node.del(&pod).refused(11, &["lan", "not yet"]);
    node.fakes.take_order();
    node.del(&pod).quiet();
    let dels = node.fakes.calls_of("DEL");
    assert_eq!(node.fakes.take_order(), ["DEL one net1", "DEL main eth0"]);
    let told = dels[dels.len() - 2].conf();
    assert_eq!(told["vendor"], 7);
    assert_eq!(told["runtimeConfig"]["portMappings"], json!([1]));
    assert_eq!(told["prevResult"]["ips"][0]["address"], "10.9.0.2/24");
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL main eth0"], "what is undone is forgotten");
}

#[test]
fn del_works_without_a_namespace() {
    let (node, pod) = scene();
    node.add(&pod).result();
    node.fakes.take_order();
    pod.netns.remove();
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ALL);
    let pod = node.pod("web", "net-a,net-b");
    node.add(&pod).result();
    node.fakes.take_order();
    node.call("DEL", &pod).without("CNI_NETNS").run().quiet();
    assert_eq!(node.fakes.take_order(), ALL);
    node.assert_clean();
}

#[test]
fn one_failing_del_stops_no_other_and_is_repeated_until_it_succeeds() {
    let (node, pod) = scene();
    node.fakes
        .rules("one", &[Rule::on("DEL").times(2).fails(11, "interface not found in /x: no such file or directory")]);
    node.add(&pod).result();
    node.fakes.take_order();
    node.del(&pod).refused(11, &["default/net-a"]);
    assert_eq!(node.fakes.take_order(), ALL);
    node.del(&pod).refused(11, &["default/net-a"]);
    assert_eq!(node.fakes.take_order(), ["DEL one net1"], "what is undone stays undone");
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL one net1"]);
    node.assert_clean();
}

#[test]
fn a_chain_whose_del_fails_is_resumed_with_all_of_it() {
    let node = Node::new();
    node.nad("chain", json!({"cniVersion": "1.0.0", "plugins": [{"type": "one"}, {"type": "two"}]}));
    node.fakes.rules("two", &[Rule::on("DEL").times(1).fails(11, "busy")]);
    let pod = node.pod("web", "chain");
    node.add(&pod).result();
    node.fakes.take_order();
    node.del(&pod).refused(11, &["busy"]);
    assert_eq!(node.fakes.take_order(), ["DEL two net1", "DEL main eth0"], "a chain stops at the first error (C23)");
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL two net1", "DEL one net1"]);
    node.assert_clean();
}

#[test]
fn a_rollback_that_fails_is_resumed_by_the_next_add_of_the_pod() {
    let (node, pod) = scene();
    node.fakes.rules("one", &[Rule::on("DEL").times(1).fails(11, "cannot undo")]);
    node.fakes.rules("two", &[Rule::on("ADD").times(1).fails(11, "cannot do")]);
    node.add(&pod).refused(11, &["cannot do"]);
    node.fakes.take_order();
    let again = node.sandbox("web", &pod.uid);
    node.add(&again).result();
    let order = node.fakes.take_order();
    assert_eq!(order, ["DEL one net1", "ADD main eth0", "ADD one net1", "ADD two net2"]);
    node.del(&again).quiet();
    node.assert_clean();
}

#[test]
fn a_rollback_that_fails_is_resumed_by_del() {
    let (node, pod) = scene();
    node.fakes.rules("main", &[Rule::on("DEL").times(1).fails(11, "cannot undo")]);
    node.fakes.rules("two", &[Rule::on("ADD").fails(11, "cannot do")]);
    node.add(&pod).refused(11, &["cannot do"]);
    node.fakes.take_order();
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL main eth0"]);
    node.assert_clean();
}

#[test]
fn add_twice_is_refused_and_touches_nothing() {
    let (node, pod) = scene();
    node.add(&pod).result();
    node.fakes.take_order();
    node.add(&pod).refusal();
    assert!(node.fakes.take_order().is_empty());
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ALL);
    node.assert_clean();
}

#[test]
fn del_while_add_runs_waits_for_it() {
    let (node, pod) = scene();
    let go = node.path("go");
    node.fakes.rules("one", &[Rule { wait_for: Some(go.clone()), ..Rule::on("ADD") }]);
    let add = node.call("ADD", &pod).start();
    while node.fakes.calls().len() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut del = node.call("DEL", &pod).start();
    std::thread::sleep(Duration::from_millis(200));
    assert!(del.runs());
    std::fs::write(&go, "").unwrap();
    Outcome::of("ADD", add).result();
    Outcome::of("DEL", del).quiet();
    let order = node.fakes.take_order();
    assert_eq!(order[..3], ["ADD main eth0", "ADD one net1", "ADD two net2"]);
    assert_eq!(order[3..], ALL);
    node.assert_clean();
}

#[test]
fn sandboxes_do_not_wait_for_each_other() {
    let (node, pod) = scene();
    let go = node.path("go");
    node.fakes.rules("one", &[Rule { wait_for: Some(go.clone()), times: Some(1), ..Rule::on("ADD") }]);
    let add = node.call("ADD", &pod).start();
    while node.fakes.calls().len() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let other = node.pod("db", "net-a");
    node.add(&other).result();
    std::fs::write(&go, "").unwrap();
    Outcome::of("ADD", add).result();
    node.del(&pod).quiet();
    node.del(&other).quiet();
    node.assert_clean();
}
