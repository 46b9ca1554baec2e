//! `meta-cni replay`, the call that is no verb of the protocol: what it does with records, beside running calls, and with
//! bad input.

use meta_cni_tests::call::Outcome;
use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{Node, Pod};
use meta_cni_tests::program;
use serde_json::{Value, json};

fn scene() -> (Node, Pod) {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one"}));
    let pod = node.pod("web", "net-a");
    (node, pod)
}

fn containers(report: &Value, list: &str) -> Vec<String> {
    let entries = report[list].as_array().unwrap().iter();
    entries.map(|entry| entry["containerID"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a fake was called this often.
fn wait_for_calls(node: &Node, count: usize) {
    while node.fakes.calls().len() < count {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn an_undo_that_failed_is_resumed_when_it_was_left_alone_long_enough() {
    let (node, pod) = scene();
    node.fakes.rules("one", &[Rule::on("DEL").times(2).fails(11, "its daemon is away")]);
    node.add(&pod).result();
    node.del(&pod).refused(11, &["its daemon is away"]);
    node.fakes.take_order();
    let early = node.replay_call(30).run().result();
    assert_eq!(containers(&early, "left"), [pod.container.as_str()], "{early}");
    assert!(node.fakes.take_order().is_empty(), "left alone for 30 s first");
    let failed = node.replay();
    let left = &failed["left"][0];
    assert!(left["why"].as_str().unwrap().contains("its daemon is away") && left["pending"] == true, "{failed}");
    let done = node.replay();
    assert_eq!(containers(&done, "resumed"), [pod.container.as_str()], "{done}");
    assert_eq!(node.fakes.take_order(), ["DEL one net1", "DEL one net1"], "what was undone is not undone again");
    node.assert_clean();
    assert_eq!(node.replay(), json!({"resumed": [], "released": [], "left": [], "living": 0}));
}

#[test]
fn programs_of_a_dead_sandbox_get_no_namespace_and_those_of_a_living_one_no_call() {
    let (node, lost) = scene();
    let kept = node.pod("kept", "net-a");
    // The fake's links are not there: only what it says of them, which proves nothing.
    node.fakes.rules("main", &[Rule::on("ADD").prints(r#"{"cniVersion":"1.1.0"}"#)]);
    node.fakes.rules("one", &[Rule::on("ADD").prints(r#"{"cniVersion":"1.0.0"}"#)]);
    node.add(&lost).result();
    node.add(&kept).result();
    lost.netns.remove();
    node.fakes.take_order();
    let report = node.replay();
    assert_eq!((containers(&report, "released"), &report["living"]), (vec![lost.container.clone()], &json!(1)));
    let calls = node.fakes.calls();
    assert_eq!(
        node.fakes.take_order(),
        ["DEL one net1", "DEL main eth0"],
        "and no GC: only the runtime knows the rest"
    );
    assert!(calls.iter().all(|seen| seen.var("CNI_CONTAINERID") == lost.container && seen.var("CNI_NETNS").is_empty()));
    node.del(&kept).quiet();
    node.assert_clean();
}

#[test]
fn a_sandbox_that_a_call_is_at_work_on_is_left_to_it() {
    let (node, pod) = scene();
    let go = node.path("go");
    node.fakes.rules(
        "one",
        &[
            Rule { wait_for: Some(go.clone()), ..Rule::on("ADD") },
            Rule { wait_for: Some(go.clone()), ..Rule::on("DEL") },
        ],
    );
    let add = node.call("ADD", &pod).start();
    wait_for_calls(&node, 2);
    let during = node.replay();
    assert!(during["left"][0]["why"].as_str().unwrap().contains("a call is at work"), "{during}");
    std::fs::write(&go, "").unwrap();
    Outcome::of("ADD", add).result();
    std::fs::remove_file(&go).unwrap();
    node.fakes.take_order();

    let del = node.call("DEL", &pod).start();
    wait_for_calls(&node, 1);
    let during = node.replay();
    assert!(during["left"][0]["why"].as_str().unwrap().contains("a call is at work"), "{during}");
    std::fs::write(&go, "").unwrap();
    Outcome::of("DEL", del).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL one net1", "DEL main eth0"], "nothing was undone twice");
    node.assert_clean();
}

#[test]
fn replays_beside_adds_and_dels_of_the_same_sandboxes_disturb_nobody() {
    let (node, _) = scene();
    let pods: Vec<Pod> = (0..10).map(|i| node.pod(&format!("web-{i}"), "net-a")).collect();
    for _ in 0..2 {
        for verb in ["ADD", "DEL"] {
            let calls: Vec<_> = pods.iter().map(|pod| node.call(verb, pod).start()).collect();
            let replays: Vec<_> = (0..5).map(|_| node.replay_call(10).start()).collect();
            for call in calls {
                let ended = Outcome::of(verb, call);
                assert!(ended.succeeded(), "{verb}: {}{}", ended.stdout(), ended.stderr());
            }
            for replay in replays {
                let report = Outcome::of("replay", replay).result();
                assert_eq!((&report["resumed"], &report["released"]), (&json!([]), &json!([])), "{report}");
            }
        }
    }
    node.assert_clean();
}

/// Nothing but the intent is synced.
#[test]
fn a_record_whose_result_went_with_the_power_is_released_after_the_restart() {
    let (node, pod) = scene();
    node.add(&pod).result();
    node.fakes.take_order();
    let record = node.path("state/attached").join(format!("node-net,{},eth0", pod.container));
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.split_once("\ndone ").unwrap().0.to_owned() + "\n").unwrap();
    let report = node.replay();
    assert!(report["left"][0]["why"].as_str().unwrap().contains("damaged"), "of this boot it is damage: {report}");

    let report = node.replay_call(0).in_another_boot(&node.path("boot")).run().result();
    assert_eq!(containers(&report, "released"), [pod.container.as_str()], "{report}");
    assert_eq!(report["released"][0]["why"], "the node was restarted since");
    assert_eq!(node.fakes.take_order(), ["DEL one net1", "DEL main eth0"]);
    node.assert_clean();
}

#[test]
fn a_record_that_cannot_be_read_is_left_and_told() {
    let (node, pod) = scene();
    node.add(&pod).result();
    let record = node.path("state/attached").join(format!("node-net,{},eth0", pod.container));
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replacen("\"key\"", "\"kez\"", 1)).unwrap();
    let report = node.replay();
    assert!(report["left"][0]["why"].as_str().unwrap().contains("damaged"), "{report}");
    // The same in the middle of an undo: with the record the last trace would go.
    std::fs::rename(&record, node.path("state/pending").join(record.file_name().unwrap())).unwrap();
    let report = node.replay();
    assert!(report["left"][0]["why"].as_str().unwrap().contains("damaged"), "{report}");
    std::fs::write(node.path("state/pending").join(record.file_name().unwrap()), text).unwrap();
    assert_eq!(containers(&node.replay(), "resumed"), [pod.container.as_str()]);
    node.assert_clean();
}

#[test]
fn bad_input_is_refused_with_its_field() {
    let (node, _) = scene();
    node.replay_call(0).args(["replay", "soon"]).run().refused(4, &["replay", "\"soon\"", "seconds"]);
    node.replay_call(0).args(["replay", "1", "2"]).run().refused(4, &["\"2\""]);
    node.replay_call(0).stdin("[]").run().refused(6, &["JSON object"]);
    node.replay_call(0).conf_without("name").run().refused(7, &["name"]);
    node.replay_call(0).conf("stateDir", json!("here")).run().refused(7, &["stateDir", "\"here\""]);
    node.replay_call(0).conf("cniVersion", json!("9.0.0")).run().refused(1, &["9.0.0"]);
    node.replay_call(0).conf("cniVersion", json!("0.3.1")).run().result();
}

#[test]
fn networks_that_cannot_be_looked_up_keep_no_record_waiting() {
    let (node, pod) = scene();
    node.add(&pod).result();
    pod.netns.remove();
    let call = node.replay_call(0).conf_without("delegates").conf("clusterNetwork", json!("nowhere"));
    let report = call.run().result();
    assert_eq!(containers(&report, "released"), [pod.container.as_str()], "{report}");
    assert!(report["faults"][0].as_str().unwrap().contains("nowhere"), "{report}");
    node.assert_clean();
}

/// A process in the node's network and in a mount namespace of its own, where alone `DIR/meta-cni` is there.
fn host_of(node: &Node) -> (program::Running, String) {
    let dir = node.text("host-bin");
    std::fs::create_dir(&dir).unwrap();
    let plugin = meta_cni_tests::call::plugin();
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs tmpfs {dir} && cp {} {dir}/meta-cni && touch {dir}/ready && exec sleep 60",
        plugin.display()
    );
    let host = program::start(node.netns.command("unshare").args(["--mount", "sh", "-c", &script]), b"");
    let process = format!("/proc/{}", host.id());
    while !std::path::Path::new(&format!("{process}/root{dir}/ready")).exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    (host, process)
}

#[test]
fn the_agents_program_becomes_the_plugin_in_the_hosts_mount_namespace() {
    let (node, pod) = scene();
    node.add(&pod).result();
    pod.netns.remove();
    let (mut host, process) = host_of(&node);
    let there = node.text("host-bin/meta-cni");
    let start = |netns: &meta_cni_tests::netns::Netns, process: &str| {
        let mut command = netns.command(program::built("meta-cnid"));
        command.args(["in-host", process, &there, "--", "replay", "0"]);
        program::start(&mut command, node.conf.to_string().as_bytes()).finish(std::time::Duration::from_secs(20))
    };
    let elsewhere = meta_cni_tests::netns::Netns::new(node.path("netns/elsewhere"));
    let refused = start(&elsewhere, &process);
    assert!(refused.code != Some(0) && String::from_utf8_lossy(&refused.stderr).contains("hostNetwork"), "{refused:?}");
    let nobody = start(&node.netns, "/proc/4194305");
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("/proc/4194305/ns/net"), "{nobody:?}");
    assert!(!std::path::Path::new(&there).exists(), "here it is not");
    let done = start(&node.netns, &process);
    assert_eq!(done.code, Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(containers(&report, "released"), [pod.container.as_str()], "{report}");
    host.kill();
    drop(host.finish(std::time::Duration::from_secs(5)));
    node.assert_clean();
}
