//! The programs of a list of DANM's run at the same time; those of every other list one after the other.

use std::fs;
use std::thread;
use std::time::Duration;

use meta_cni_tests::call::Outcome;
use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{NETWORKS, Node, Pod};
use serde_json::{Value, json};

const INTERFACES: &str = "danm.k8s.io/interfaces";

/// A node with three networks, each of a program and its file, and a definition of the first.
fn node() -> Node {
    let mut node = Node::new();
    node.conf["dialects"] = json!(["danm"]);
    node.conf["runtimeConfDir"] = json!(node.path("conf"));
    node.fakes.install("three");
    for (number, kind) in ["one", "two", "three"].into_iter().enumerate() {
        let ips = json!([{"address": format!("10.{number}.0.2/24")}]);
        let file = json!({"cniVersion": "1.0.0", "name": kind, "type": kind, "fakeIps": ips});
        fs::write(node.path(&format!("conf/{kind}.conf")), file.to_string()).unwrap();
        let net = json!({"apiVersion": "danm.k8s.io/v1", "kind": "DanmNet", "metadata": {"namespace": "default", "name": kind},
            "spec": {"NetworkID": kind, "NetworkType": kind}});
        node.manifest(&format!("net-{kind}.json"), net.to_string());
    }
    node
}

fn pod(node: &Node) -> Pod {
    let list: Vec<Value> = ["one", "two", "three"].iter().map(|name| json!({"network": name})).collect();
    node.pod_annotated("web", json!({INTERFACES: json!(list).to_string()}))
}

fn sorted(mut order: Vec<String>) -> Vec<String> {
    order.sort();
    order
}

#[test]
fn none_of_three_programs_waits_for_another() {
    let node = node();
    let go = node.path("go");
    for kind in ["one", "two", "three"] {
        node.fakes.rules(kind, &[Rule { wait_for: Some(go.clone()), ..Rule::on("ADD") }]);
    }
    let pod = pod(&node);
    let add = node.call("ADD", &pod).start();
    // Each of them is there before any has ended.
    let mut waited = 0;
    while node.fakes.calls_of("ADD").len() < 3 {
        thread::sleep(Duration::from_millis(10));
        waited += 1;
        assert!(waited < 1000, "{:?} and no other", node.fakes.take_order());
    }
    fs::write(&go, "").unwrap();
    let result = Outcome::of("ADD", add).result();
    assert_eq!(result["ips"][0]["address"], "10.0.0.2/24");
    let status = node.status(&pod);
    let told: Vec<_> =
        status.as_array().unwrap().iter().map(|one| (one["interface"].clone(), one["ips"].clone())).collect();
    let want = [("eth0", "10.0.0.2"), ("eth1", "10.1.0.2"), ("eth2", "10.2.0.2")];
    assert_eq!(told, want.map(|(name, ip)| (json!(name), json!([ip]))));
    node.fakes.take_order();
    node.check(&pod, &result).quiet();
    node.fakes.take_order();
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL three eth2", "DEL two eth1", "DEL one eth0"]);
    node.assert_clean();
}

#[test]
fn every_failure_is_told_and_everything_is_undone() {
    let node = node();
    node.fakes.rules("one", &[Rule::on("ADD").fails(11, "the first is busy")]);
    node.fakes.rules("three", &[Rule::on("ADD").fails(101, "the third is broken")]);
    let pod = pod(&node);
    let refusal = node.add(&pod).refusal();
    for words in
        ["network default/one (eth0)", "the first is busy", "network default/three (eth2)", "the third is broken"]
    {
        assert!(refusal.text.contains(words), "{}", refusal.text);
    }
    let order = node.fakes.take_order();
    assert_eq!(sorted(order[..3].to_vec()), ["ADD one eth0", "ADD three eth2", "ADD two eth1"]);
    assert_eq!(order[3..], ["DEL three eth2", "DEL two eth1", "DEL one eth0"]);
    node.assert_clean();
}

#[test]
fn a_plugin_that_dies_among_them_is_undone_by_the_next_call() {
    let node = node();
    node.fakes.rules("two", &[Rule { kill_parent: true, ..Rule::on("ADD") }]);
    let pod = pod(&node);
    assert_eq!(node.add(&pod).finished.signal, Some(9));
    node.fakes.rules("two", &[]);
    // Those that live on have the lock of the sandbox.
    node.add(&pod).result();
    let mut order = node.fakes.take_order();
    order.retain(|call| call.starts_with("DEL"));
    assert_eq!(order, ["DEL three eth2", "DEL two eth1", "DEL one eth0"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_list_of_npwg_has_them_one_after_the_other() {
    let node = node();
    for kind in ["two", "three"] {
        node.nad(kind, json!({"cniVersion": "1.0.0", "type": kind}));
    }
    node.fakes.rules("two", &[Rule::on("ADD").fails(11, "busy")]);
    let pod = node.pod_annotated("web", json!({NETWORKS: "two,three"}));
    node.add(&pod).refused(11, &["busy"]);
    assert!(node.fakes.take_order().iter().all(|call| !call.contains("three")), "it was not attempted");
    node.assert_clean();
}
