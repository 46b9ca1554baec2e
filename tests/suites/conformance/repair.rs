//! `meta-cni verify` and `meta-cni repair`: which sandboxes and attachments are compared, what is started for it, and what a node may
//! refuse.

use std::fs;

use meta_cni_tests::call::Outcome;
use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// A pod whose default network is a program's, and whose net1 and net2 are ours.
fn running() -> (Node, Pod) {
    let node = Node::new();
    let lan =
        json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br0", "ipam": node.host_local("10.11.0.0/24")});
    node.nad("lan", lan);
    node.nad("beside", json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br1"}));
    // The fake's links are not in the pod: with no word of them there is nothing to compare.
    let answers = Rule::on("ADD").answers(&json!({"cniVersion": "1.1.0", "ips": [{"address": "192.0.2.7/24"}]}));
    node.fakes.rules("main", &[answers]);
    let pod = node.pod("web", "lan,beside");
    node.add(&pod).result();
    node.fakes.take_order();
    (node, pod)
}

fn verified(node: &Node) -> Value {
    node.verify_call().run().result()
}

#[test]
fn every_sandbox_is_compared_and_no_program_is_started() {
    let (node, pod) = running();
    let other = node.pod("other", "lan,beside");
    node.add(&other).result();
    node.fakes.take_order();
    assert_eq!(verified(&node), json!({"compared": 2}));
    other.netns.run("ip link del net1");
    let report = verified(&node);
    assert_eq!(report["compared"], 2);
    let differing = report["differing"].as_array().unwrap();
    assert_eq!((differing.len(), &differing[0]["containerID"]), (1, &json!(other.container)));
    assert_eq!((&differing[0]["ifname"], &differing[0]["pod"]["name"]), (&json!("eth0"), &json!("other")));
    let text = "network default/lan (net1): link net1 is missing in the pod";
    assert_eq!(differing[0]["differences"], json!([{"ifname": "net1", "is_default": false, "text": text}]));
    let report = node.repair(&other).result();
    assert_eq!(report["repaired"], json!([format!("{text}; it is made anew")]));
    assert_eq!(other.netns.links(), ["net1", "net2"]);
    assert!(node.fakes.take_order().is_empty(), "no program is asked");
    for pod in [&pod, &other] {
        node.del(pod).quiet();
    }
    node.assert_clean();
}

#[test]
fn a_programs_link_is_compared_by_name_and_address_and_never_made_anew() {
    let node = Node::new();
    let pod = node.pod("web", "");
    let interface = json!({"name": "eth0", "sandbox": pod.netns.text(), "mac": "02:00:00:00:00:01"});
    let answer = json!({"cniVersion": "1.1.0", "interfaces": [interface],
        "ips": [{"address": "192.0.2.7/24", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}]});
    node.fakes.rules("main", &[Rule::on("ADD").answers(&answer)]);
    pod.netns.run("ip link add eth0 type veth peer name far");
    pod.netns.run("ip link set eth0 address 02:00:00:00:00:01");
    pod.netns.run("ip address add 192.0.2.7/24 dev eth0");
    node.add(&pod).result();
    node.fakes.take_order();
    // What its plugin installs of the routes that it tells is its own affair.
    assert_eq!(verified(&node)["compared"], 1);
    assert!(node.differences().is_empty(), "{:?}", node.differences());
    pod.netns.run("ip address del 192.0.2.7/24 dev eth0");
    let report = verified(&node);
    let found = &report["differing"][0]["differences"][0];
    assert_eq!(found["is_default"], true, "{report}");
    assert!(found["text"].as_str().unwrap().contains("address 192.0.2.7/24 is missing on link eth0"), "{report}");
    assert!(found["left"].as_str().unwrap().contains("(main) has a program"), "{report}");
    let report = node.repair(&pod).result();
    assert_eq!((&report["repaired"], report["left"].as_array().unwrap().len()), (&json!([]), 1), "{report}");
    assert!(node.fakes.take_order().is_empty());
    node.del(&pod).quiet();
}

#[test]
fn what_is_at_work_dead_or_not_to_be_checked_is_passed_over() {
    let (mut node, pod) = running();
    pod.netns.run("ip link del net1");
    assert_eq!(node.differences().len(), 1);
    let go = node.path("go");
    node.fakes.rules("main", &[Rule { wait_for: Some(go.clone()), ..Rule::on("CHECK") }]);
    let check = node.call("CHECK", &pod).conf("prevResult", json!({"cniVersion": "1.1.0"})).start();
    while node.fakes.calls_of("CHECK").is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(verified(&node), json!({"compared": 0, "passedOver": [pod.container]}), "its lock is held");
    fs::write(&go, "").unwrap();
    Outcome::of("CHECK", check).refused(105, &["net1"]);
    // Nothing says any more that the namespace is the pod's: that is told, and left to people.
    pod.netns.run("ip link del net2");
    let report = verified(&node);
    let left = &report["differing"][0]["differences"][0]["left"];
    assert!(left.as_str().unwrap().contains("none of its links is in"), "{report}");
    node.repair(&pod).refused(11, &["whether it is alive is not certain"]);
    node.conf["disableCheck"] = json!(true);
    assert_eq!(verified(&node), json!({"compared": 0}));
    node.conf.as_object_mut().unwrap().remove("disableCheck");
    node.del(&pod).quiet();
    assert_eq!(verified(&node), json!({"compared": 0}));
    node.assert_clean();
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_touched() {
    let (node, pod) = running();
    pod.netns.run("ip link del net1");
    node.repair_call(&pod).run().refused(2, &["repair: got false in the node's configuration, want true"]);
    node.repair_call(&pod).conf("repair", json!("yes")).run().refused(7, &["repair: got"]);
    let call = |args: &[&str]| node.repair_call(&pod).conf("repair", json!(true)).args(args.iter().copied()).run();
    call(&["repair"]).refused(4, &["repair: got 0 arguments"]);
    call(&["repair", "c/d", "eth0"]).refused(4, &["c/d"]);
    call(&["repair", "other", "eth0"]).refused(3, &["which is not attached"]);
    node.verify_call().args(["verify", "x"]).run().refused(4, &["verify: got an argument \"x\""]);
    assert_eq!(pod.netns.links(), ["net2"]);
    node.del(&pod).quiet();
    node.assert_clean();
}
