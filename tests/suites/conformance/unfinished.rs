//! What killed calls, orphans and failed undos leave: the next call finishes it, and pays little for that.

use std::time::Duration;

use meta_cni_tests::call::Outcome;
use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{Node, Pod};
use serde_json::json;

use super::undo::{ALL, scene};

#[test]
fn an_add_that_was_killed_is_undone_by_the_next_one() {
    let (node, pod) = scene();
    node.fakes.rules("one", &[Rule { kill_parent: true, times: Some(1), ..Rule::on("ADD") }]);
    assert_eq!(node.add(&pod).finished.signal, Some(9));
    node.fakes.take_order();
    node.add(&pod).result();
    let order = node.fakes.take_order();
    // Nobody knows how far the killed ADD came: everything that it meant to do is undone.
    assert_eq!(order[..3], ALL, "{order:?}");
    assert_eq!(order[3..], ["ADD main eth0", "ADD one net1", "ADD two net2"], "{order:?}");
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn what_a_killed_add_left_is_undone_by_a_call_for_another_pod_outside_any_namespace() {
    let (node, pod) = scene();
    node.fakes.rules("one", &[Rule { kill_parent: true, times: Some(1), ..Rule::on("ADD") }]);
    assert_eq!(node.add(&pod).finished.signal, Some(9));
    node.fakes.take_order();
    let other = node.pod("other", "");
    node.add(&other).result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0"], "the runtime's own DEL comes first, for a while");

    set_time(&node, &pod, std::time::SystemTime::now() - Duration::from_secs(11));
    node.del(&other).quiet();
    let dels = node.fakes.calls_of("DEL");
    assert_eq!(node.fakes.take_order(), ["DEL main eth0", "DEL two net2", "DEL one net1", "DEL main eth0"]);
    // Nobody says that the path of the record is still this pod's.
    assert!(dels[dels.len() - 3..].iter().all(|del| del.var("CNI_NETNS").is_empty()), "{dels:?}");
    node.assert_clean();
}

#[test]
fn an_add_that_was_killed_is_undone_by_del_as_far_as_it_came() {
    let (node, pod) = scene();
    for (plugin, undone) in
        [("main", &["DEL main eth0"][..]), ("one", &["DEL one net1", "DEL main eth0"]), ("two", &ALL)]
    {
        node.fakes.rules(plugin, &[Rule { kill_parent: true, times: Some(1), ..Rule::on("ADD") }]);
        assert_eq!(node.add(&pod).finished.signal, Some(9));
        node.fakes.take_order();
        node.del(&pod).quiet();
        let order = node.fakes.take_order();
        for line in undone {
            assert!(order.iter().any(|have| have == line), "killed in {plugin}: {line} is missing in {order:?}");
        }
        node.assert_clean();
    }
}

#[test]
fn a_del_that_was_killed_goes_on_where_it_was() {
    let (node, pod) = scene();
    node.fakes.rules("one", &[Rule { kill_parent: true, times: Some(1), ..Rule::on("DEL") }]);
    node.add(&pod).result();
    node.fakes.take_order();
    assert_eq!(node.del(&pod).finished.signal, Some(9));
    assert_eq!(node.fakes.take_order(), ["DEL two net2", "DEL one net1"]);
    node.del(&pod).quiet();
    let order = node.fakes.take_order();
    assert_eq!(order[order.len() - 2..], ["DEL one net1", "DEL main eth0"], "{order:?}");
    node.assert_clean();
}

#[test]
fn an_orphan_keeps_its_sandbox_locked() {
    let (mut node, pod) = scene();
    node.conf["timeoutSeconds"] = json!(1);
    let go = node.path("go");
    node.fakes.rules("one", &[Rule { wait_for: Some(go.clone()), times: Some(1), ..Rule::on("ADD") }]);
    let mut add = node.call("ADD", &pod).conf("timeoutSeconds", json!(30)).start();
    while node.fakes.calls().len() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    add.kill();
    let killed = Outcome::of("ADD", add);
    assert_eq!(killed.finished.signal, Some(9));
    node.del(&pod).refused(11, &[]);
    std::fs::write(&go, "").unwrap();
    while !node.del(&pod).succeeded() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let order = node.fakes.take_order();
    assert_eq!(order[..2], ["ADD main eth0", "ADD one net1"]);
    assert!(order.contains(&"DEL one net1".to_owned()) && order.contains(&"DEL main eth0".to_owned()), "{order:?}");
    node.assert_clean();
}

#[test]
fn a_child_that_outlives_the_deadline_keeps_its_sandbox_locked_until_it_ends() {
    for hang in [true, false] {
        let (mut node, pod) = scene();
        node.conf["timeoutSeconds"] = json!(2);
        let go = node.path("go");
        let rule = Rule { orphan_until: Some(go.clone()), hang, times: Some(1), ..Rule::on("ADD") };
        node.fakes.rules("one", &[rule]);
        let added = node.add(&pod);
        // One that hangs is killed with its group; one that answers leaves a child that holds its output.
        assert_eq!(added.succeeded(), !hang, "{}", added.stdout());
        node.fakes.take_order();
        node.del(&pod).refused(11, &["a delegate that it left running"]);
        node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).run().quiet();
        assert!(node.fakes.calls_of("DEL").is_empty(), "nobody undoes under an orphan that may be at work");
        assert_eq!(node.files("state/locks").len(), 1);
        std::fs::write(&go, "").unwrap();
        while !node.del(&pod).succeeded() {
            std::thread::sleep(Duration::from_millis(20));
        }
        node.assert_clean();
    }
}

#[test]
fn the_locks_that_orphans_left_are_swept_by_gc() {
    let (mut node, pod) = scene();
    node.conf["timeoutSeconds"] = json!(1);
    let go = node.path("go");
    node.fakes.rules("one", &[Rule { orphan_until: Some(go.clone()), hang: true, times: Some(1), ..Rule::on("ADD") }]);
    node.add(&pod).refused(11, &["default/net-a"]);
    assert_eq!(node.files("state/locks").len(), 1);
    std::fs::write(&go, "").unwrap();
    while !node.files("state/locks").is_empty() {
        node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).run().quiet();
    }
    node.assert_clean();
}

/// Sets the time of a pod's pending record.
fn set_time(node: &Node, pod: &Pod, time: std::time::SystemTime) {
    let record =
        node.records("pending").into_iter().find(|path| path.to_string_lossy().contains(&pod.container)).unwrap();
    std::fs::File::options().append(true).open(record).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_clock_that_was_set_back_keeps_no_undo_waiting() {
    let (node, pod) = scene();
    node.fakes.rules("one", &[Rule { kill_parent: true, times: Some(1), ..Rule::on("ADD") }]);
    assert_eq!(node.add(&pod).finished.signal, Some(9));
    let day = Duration::from_secs(86_400);
    set_time(&node, &pod, std::time::SystemTime::now() + day);
    let other = node.pod("other", "");
    node.add(&other).result();
    node.del(&other).quiet();
    node.assert_clean();

    node.fakes.rules("one", &[Rule { kill_parent: true, times: Some(1), ..Rule::on("ADD") }]);
    assert_eq!(node.add(&pod).finished.signal, Some(9));
    set_time(&node, &pod, std::time::SystemTime::now() + day);
    // The fake that killed it has the lock of the sandbox until it ends.
    let resumed = || node.replay_call(10).run().result()["resumed"].as_array().unwrap().len();
    assert!((0..100).any(|_| resumed() == 1));
    node.assert_clean();
}

/// Records of sandboxes that nobody will ask about, as a killed ADD leaves them: `count` copies of this pod's.
fn many_pending(node: &Node, pod: &Pod, count: usize) {
    node.fakes.rules("two", &[Rule { kill_parent: true, times: Some(1), ..Rule::on("ADD") }]);
    assert_eq!(node.add(pod).finished.signal, Some(9));
    let record = node.records("pending").remove(0);
    let text = std::fs::read_to_string(&record).unwrap();
    let aged = std::time::SystemTime::now() - Duration::from_secs(60);
    for number in 0..count {
        let container = format!("{number:0>64}");
        let (name, text) = (record.file_name().unwrap().to_string_lossy().into_owned(), &text);
        // As long as the id of the pod, or the length of the entry would be another.
        assert_eq!(container.len(), pod.container.len());
        let body =
            text.split_once('\n').unwrap().1.split_once('\n').unwrap().1.trim_end().replace(&pod.container, &container);
        let entry = format!("intent {} {:08x}\n{body}\n", body.len(), crc32(body.as_bytes()));
        let path = record.with_file_name(name.replace(&pod.container, &container));
        std::fs::write(&path, format!("meta-cni record 1\n{entry}")).unwrap();
        std::fs::File::options().append(true).open(path).unwrap().set_modified(aged).unwrap();
    }
    node.del(pod).quiet();
    node.fakes.take_order();
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// How often a call does something with a pending record: opens or stats it, or takes its sandbox's lock.
fn looks_at_others(node: &Node, call: meta_cni_tests::call::Call<'_>) -> usize {
    let trace = node.text("trace");
    let outcome = call.under(["strace", "-qq", "-e", "signal=none", "-e", "trace=%file", "-o", &trace]).run();
    assert!(outcome.succeeded(), "{}{}", outcome.stdout(), outcome.stderr());
    let text = std::fs::read_to_string(&trace).unwrap();
    let about =
        |line: &&str| line.contains(&"0".repeat(50)) && (line.contains("/pending/") || line.contains("/locks/"));
    text.lines().filter(about).count()
}

#[test]
fn many_pending_records_cost_a_call_for_another_pod_a_few_looks_and_one_undo() {
    let (node, pod) = scene();
    let other = node.pod("other", "");
    many_pending(&node, &pod, 3000);
    let left = node.records("pending").len();
    let undone = |after: usize| assert_eq!(node.records("pending").len(), after);

    let looks = looks_at_others(&node, node.call("ADD", &other));
    assert!(looks <= 256 + 50, "{looks} looks by an ADD");
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "DEL two net2", "DEL one net1", "DEL main eth0"]);
    undone(left - 1);
    let looks = looks_at_others(&node, node.bare_call("STATUS"));
    assert!(looks <= 50, "{looks} looks by a STATUS");
    undone(left - 2);
    let looks = looks_at_others(&node, node.call("DEL", &other));
    assert!(looks <= 50, "{looks} looks by a DEL");
    undone(left - 3);
}

#[test]
fn a_failed_undo_of_the_same_pod_is_found_among_thousands_of_others() {
    let (node, _) = scene();
    let filler = node.pod("filler", "net-a,net-b");
    many_pending(&node, &filler, 2000);
    let pod = node.pod("web", "net-a");
    node.fakes
        .rules("one", &[Rule::on("DEL").times(1).fails(11, "cannot undo"), Rule::on("ADD").times(1).fails(11, "no")]);
    node.add(&pod).refused(11, &["no"]);
    node.fakes.take_order();
    let again = node.sandbox("web", &pod.uid);
    node.add(&again).result();
    let order = node.fakes.take_order();
    assert_eq!(order[..3], ["DEL one net1", "ADD main eth0", "ADD one net1"]);
    assert!(node.files("state/failed").is_empty(), "{:?}", node.files("state/failed"));
}

#[test]
fn records_that_cannot_be_undone_do_not_keep_the_others_waiting_for_ever() {
    let (node, pod) = scene();
    many_pending(&node, &pod, 60);
    let mut records = node.records("pending");
    let good = records.pop().unwrap();
    let others = records.len();
    // Damaged ones are looked at in vain, and stay.
    for path in records {
        let text = std::fs::read_to_string(&path).unwrap().replacen("\"key\"", "\"kez\"", 1);
        std::fs::write(&path, text).unwrap();
        let aged = std::time::SystemTime::now() - Duration::from_secs(60);
        std::fs::File::options().append(true).open(path).unwrap().set_modified(aged).unwrap();
    }
    let mut calls = 0;
    while good.exists() {
        node.bare_call("STATUS").run().quiet();
        calls += 1;
        assert!(calls < 200, "60 records, 16 looks a call");
    }
    assert_eq!(node.records("pending").len(), others);
}
