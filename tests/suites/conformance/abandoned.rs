//! The end of a pod comes also where a program that attached it is gone for good.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use meta_cni_tests::call::Outcome;
use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// A node, and a pod whose further network is served by the fake `one`; both are attached, and `one` has left the node.
fn scene() -> (Node, Pod) {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one"}));
    let pod = node.pod("web", "net-a");
    node.add(&pod).result();
    fs::rename(node.path("bin/one"), node.path("one")).unwrap();
    node.fakes.take_order();
    (node, pod)
}

/// The first DEL that failed lies five minutes back.
fn five_minutes_later(node: &Node) {
    let mark = node.path(&node.files("state/damaged")[0]);
    let back = SystemTime::now() - Duration::from_secs(301);
    fs::File::options().append(true).open(mark).unwrap().set_modified(back).unwrap();
}

fn listed(report: &Value, list: &str) -> Vec<String> {
    let entries = report[list].as_array().unwrap();
    entries.iter().map(|entry| entry["containerID"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_program_that_is_gone_holds_a_dead_sandbox_for_a_while_and_is_asked_once_it_is_back() {
    let (node, pod) = scene();
    for _ in 0..2 {
        node.del(&pod).refused(7, &["default/net-a", "\"one\" is in none of"]);
    }
    assert_eq!(node.fakes.take_order(), ["DEL main eth0"], "the other network is undone at once");
    node.call("DEL", &pod).conf("abandonAfterSeconds", json!(1000)).run().refusal();

    five_minutes_later(&node);
    let del = node.del(&pod);
    del.quiet();
    assert!(del.stderr().contains("is given up 300 s after") && del.stderr().contains("\"one\""), "{}", del.stderr());
    assert_eq!((node.records("pending").len(), node.records("abandoned").len()), (0, 1));
    node.bare_call("STATUS").run().quiet();
    node.del(&pod).quiet();
    pod.netns.remove();
    node.del(&pod).quiet();

    node.fakes.take_order();
    let report = node.replay();
    assert_eq!(listed(&report, "left"), [pod.container.as_str()], "{report}");
    assert_eq!(node.records("abandoned").len(), 1);
    fs::rename(node.path("one"), node.path("bin/one")).unwrap();
    let report = node.replay();
    assert_eq!(listed(&report, "resumed"), [pod.container.as_str()], "{report}");
    assert_eq!(node.fakes.take_order(), ["DEL one net1"]);
    node.assert_clean();
}

#[test]
fn a_sandbox_with_a_process_in_it_is_not_given_up() {
    let (node, pod) = scene();
    let mut process = pod.netns.command("sleep");
    let mut process = process.arg("60").spawn().unwrap();
    let zero = || node.call("DEL", &pod).conf("abandonAfterSeconds", json!(0)).run();
    zero().refused(7, &["\"one\" is in none of"]);
    process.kill().unwrap();
    process.wait().unwrap();
    zero().quiet();
}

#[test]
fn a_program_whose_daemon_is_gone_is_given_up_too_and_the_time_runs_from_the_first_failure_of_this_sandbox() {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one"}));
    let pod = node.pod("web", "net-a");
    node.add(&pod).result();
    node.fakes.rules("one", &[Rule::on("DEL").fails(999, "dial unix /run/one.sock: connection refused").times(1)]);
    node.del(&pod).refused(999, &["connection refused"]);
    five_minutes_later(&node);
    node.del(&pod).quiet();
    assert!(node.files("state/damaged").is_empty(), "a success ends the time");
    node.add(&pod).result();
    node.fakes.rules("one", &[Rule::on("DEL").fails(999, "dial unix /run/one.sock: connection refused")]);
    node.del(&pod).refusal();
    node.del(&pod).refusal();
    five_minutes_later(&node);
    node.del(&pod).quiet();
    assert_eq!(node.records("abandoned").len(), 1);
}

#[test]
fn a_pod_that_nobody_recorded_ends_too() {
    let node = Node::new();
    let pod = node.pod("web", "");
    fs::rename(node.path("bin/main"), node.path("main")).unwrap();
    node.del(&pod).refused(7, &["\"main\" is in none of"]);
    five_minutes_later(&node);
    node.del(&pod).quiet();
    assert!(node.records("abandoned").is_empty());
}

#[test]
fn a_program_that_is_removed_during_the_add_never_ran_and_is_not_asked() {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "two"}));
    let pod = node.pod("web", "net-a");
    let go_on = node.path("go-on");
    node.fakes.rules("main", &[Rule { wait_for: Some(go_on.clone()), ..Rule::on("ADD") }]);
    let add = node.call("ADD", &pod).start();
    while node.fakes.calls().is_empty() {
        sleep(Duration::from_millis(10));
    }
    fs::remove_file(node.path("bin/two")).unwrap();
    fs::write(&go_on, "").unwrap();
    Outcome::of("ADD", add).refused(7, &["\"two\" is in none of"]);
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "DEL main eth0"]);
    node.del(&pod).quiet();
    node.assert_clean();
}
