//! Delegates that misbehave, and a node whose disk does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{Node, Pod};
use serde_json::json;

/// A node, and a pod with one secondary network served by the fake `one`.
fn scene() -> (Node, Pod) {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one"}));
    let pod = node.pod("web", "net-a");
    (node, pod)
}

const ROLLED_BACK: [&str; 4] = ["ADD main eth0", "ADD one net1", "DEL one net1", "DEL main eth0"];

/// The fake does this on ADD: the answer names network and plugin, holds these words, and everything is undone.
#[track_caller]
fn misbehaves(rule: Rule, names: &[&str]) {
    let (mut node, pod) = scene();
    node.conf["timeoutSeconds"] = json!(5);
    node.fakes.rules("one", &[rule]);
    let refusal = node.add(&pod).refusal();
    for name in ["default/net-a", "one"].iter().chain(names) {
        assert!(refusal.text.contains(name), "does not name {name:?}: {}", refusal.text);
    }
    assert!(refusal.text.len() < 4096, "an answer is not a dump: {} bytes", refusal.text.len());
    assert_eq!(node.fakes.take_order(), ROLLED_BACK);
    node.assert_clean();
}

#[test]
fn a_delegate_that_prints_garbage() {
    misbehaves(Rule::on("ADD").prints("<html>what</html>"), &["<html>"]);
    misbehaves(Rule::on("ADD").prints("<html>what</html>").exits(1), &["<html>"]);
    misbehaves(Rule::on("ADD").prints(r#"{"cniVersion":"1.0.0","ips":[{"address":"nonsense"}]}"#), &["nonsense"]);
    misbehaves(Rule::on("ADD").prints(r#"{"cniVersion":"77.0.0"}"#), &["77.0.0"]);
    misbehaves(Rule::on("ADD").prints("{} trailing"), &[]);
}

#[test]
fn a_delegate_that_prints_nothing() {
    misbehaves(Rule::on("ADD").prints(""), &[]);
    misbehaves(
        Rule { stderr: Some("the reason why\n".to_owned()), ..Rule::on("ADD").prints("").exits(3) },
        &["the reason why"],
    );
    misbehaves(Rule::on("ADD").prints("").exits(3), &["3"]);
}

#[test]
fn a_delegate_that_prints_a_megabyte() {
    misbehaves(Rule::on("ADD").prints("x".repeat(1 << 20)), &[]);
    let (node, pod) = scene();
    let noise = Some("y".repeat(1 << 20));
    node.fakes.rules("one", &[Rule { stderr: noise, ..Rule::on("ADD") }]);
    node.add(&pod).result();
    node.del(&pod).quiet();
    let dns: Vec<String> = (0..20_000).map(|i| format!("search-domain-number-{i}.example.org")).collect();
    let large =
        json!({"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "sandbox": "S"}], "dns": {"search": dns}});
    node.fakes.rules("one", &[Rule::on("ADD").answers(&large)]);
    node.add(&pod).result();
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_delegate_that_dies_by_a_signal() {
    misbehaves(Rule { signal: Some(6), ..Rule::on("ADD").prints("") }, &["killed by SIG"]);
    misbehaves(Rule { signal: Some(9), ..Rule::on("ADD") }, &["killed by SIG"]);
}

#[test]
fn a_delegate_that_hangs_is_killed_at_the_deadline() {
    let (mut node, pod) = scene();
    node.conf["timeoutSeconds"] = json!(2);
    node.fakes.rules("one", &[Rule { hang: true, ..Rule::on("ADD") }]);
    let began = Instant::now();
    node.add(&pod).refused(11, &["default/net-a", "one"]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let hung = node.fakes.calls()[1].pid;
    assert!(!std::path::Path::new(&format!("/proc/{hung}/exe")).exists(), "{hung} is still there");
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_delegate_that_hangs_on_del_fails_the_del_and_nothing_is_forgotten() {
    let (mut node, pod) = scene();
    node.conf["timeoutSeconds"] = json!(2);
    node.fakes.rules("one", &[Rule { hang: true, times: Some(1), ..Rule::on("DEL") }]);
    node.add(&pod).result();
    node.del(&pod).refused(11, &["default/net-a"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_delegate_keeps_its_own_code() {
    for code in [2, 7, 11, 101, 999] {
        let (node, pod) = scene();
        node.fakes.rules("one", &[Rule::on("ADD").fails(code, "its own words")]);
        node.add(&pod).refused(u64::from(code), &["its own words", "default/net-a"]);
    }
}

#[test]
fn a_plugin_that_is_being_replaced_is_tried_again() {
    let (node, pod) = scene();
    let path = node.path("bin/busy");
    fs::copy(meta_cni_tests::program::built("fake-delegate"), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "busy"}));
    let writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let add = node.call("ADD", &pod).start();
    std::thread::sleep(Duration::from_millis(500));
    drop(writer);
    meta_cni_tests::call::Outcome::of("ADD", add).result();
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_plugin_that_is_not_executable_is_refused_before_it_matters() {
    let (node, pod) = scene();
    fs::write(node.path("bin/plain"), "text").unwrap();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "plain"}));
    node.add(&pod).refusal();
    node.assert_clean();
}

type Damage = fn(&mut Vec<u8>);

/// Where the configuration of the further network stands in a record.
fn position(bytes: &[u8], word: &str) -> usize {
    bytes.windows(word.len()).position(|part| part == word.as_bytes()).unwrap()
}

/// Damages of a record: whether its undo is whole all the same, and whether the further network can be read.
const DAMAGES: [(&str, bool, bool, Damage); 6] = [
    ("a torn last line", true, true, |bytes| bytes.truncate(bytes.len() - 3)),
    ("one bit of the result", true, true, |bytes| {
        let at = bytes.len() - 20;
        bytes[at] ^= 4;
    }),
    ("one bit outside of the attachments", false, true, |bytes| {
        let at = position(bytes, "netns_id");
        bytes[at] ^= 4;
    }),
    ("one bit of the further network", false, false, |bytes| {
        let at = position(bytes, "\"ifname\":\"net1\"");
        bytes[at] ^= 4;
    }),
    ("empty", false, false, Vec::clear),
    ("noise", false, false, |bytes| bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(7).wrapping_add(13))),
];

#[test]
fn what_can_be_read_of_a_damaged_record_is_undone_and_the_rest_is_said_until_it_is_given_up() {
    for (what, is_whole, is_read, damage) in DAMAGES {
        let (node, pod) = scene();
        node.add(&pod).result();
        let path = node.records("attached").remove(0);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        node.fakes.take_order();
        let del = node.del(&pod);
        assert!(del.stderr().contains("damaged") && del.stderr().contains(&pod.container), "{what}: {}", del.stderr());
        let wanted: &[&str] = if is_read { &["DEL one net1", "DEL main eth0"] } else { &["DEL main eth0"] };
        assert_eq!(node.fakes.take_order(), wanted, "{what}");
        if is_whole {
            del.quiet();
            node.assert_clean();
            continue;
        }
        for del in [del, node.del(&pod)] {
            let refusal = del.refused(5, &["damaged", &pod.container, "300 s"]);
            assert!(refusal.msg.contains("the rest is not known"), "{what}: {}", refusal.msg);
            assert!(del.stderr().contains("state/pending/node-net,"), "{what}: {}", del.stderr());
            assert_eq!(fs::read(&node.records("pending")[0]).unwrap(), bytes, "{what}: kept as it is");
        }
        // GC and replay do not forget it either.
        let gc = node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).run();
        gc.refused(5, &["damaged", &pod.container]);
        assert_eq!(node.replay()["left"][0]["containerID"], json!(pod.container), "{what}");

        // The first DEL that failed lies 301 s back.
        let mark = node.path(&node.files("state/damaged")[0]);
        let back = std::time::SystemTime::now() - Duration::from_secs(301);
        fs::File::options().append(true).open(mark).unwrap().set_modified(back).unwrap();
        node.call("DEL", &pod).conf("abandonAfterSeconds", json!(400)).run().refused(5, &["400 s"]);
        let del = node.del(&pod);
        del.quiet();
        assert!(del.stderr().contains("given up") && del.stderr().contains("abandoned/"), "{what}: {}", del.stderr());
        let abandoned = node.records("abandoned");
        assert_eq!(fs::read(&abandoned[0]).unwrap(), bytes, "{what}");
        node.fakes.take_order();
        pod.netns.remove();
        node.del(&pod).quiet();
        assert!(node.fakes.take_order().is_empty(), "{what}: it is over");
        fs::remove_file(&abandoned[0]).unwrap();
        node.assert_clean();
    }
}

#[test]
fn a_damaged_record_of_a_killed_add_is_no_torn_one() {
    let (node, pod) = scene();
    node.fakes.rules("one", &[Rule { kill_parent: true, times: Some(1), ..Rule::on("ADD") }]);
    assert_eq!(node.add(&pod).finished.signal, Some(9));
    let path = node.records("pending").remove(0);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("netns_id", "netns_ie", 1)).unwrap();
    node.fakes.take_order();
    node.add(&pod).refused(5, &["damaged"]);
    assert_eq!(node.fakes.take_order(), ["DEL one net1", "DEL main eth0"]);
    node.call("DEL", &pod).conf("abandonAfterSeconds", json!(0)).run().quiet();
    assert_eq!(node.records("abandoned").len(), 1);
    node.add(&pod).result();
    node.del(&pod).quiet();
}

/// The same record as a program of another version has written it.
fn of_version(record: &[u8], version: u8) -> Vec<u8> {
    let mut other = record.to_vec();
    let digit = other.iter().position(|byte| *byte == b'\n').unwrap() - 1;
    other[digit] = version;
    other
}

#[test]
fn a_record_of_a_later_version_is_left_to_the_program_that_can_read_it() {
    let (node, pod) = scene();
    let result = node.add(&pod).result();
    let record = &node.records("attached")[0];
    let written = fs::read(record).unwrap();
    // The next version, after a downgrade, and one that this program has never heard of.
    for version in [b'3', b'9'] {
        let later = of_version(&written, version);
        fs::write(record, &later).unwrap();
        node.fakes.take_order();
        let number = char::from(version).to_string();
        let names = ["version", &number];
        node.del(&pod).refused(5, &names);
        node.check(&pod, &result).refused(5, &names);
        node.add(&pod).refused(5, &names);
        node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).run().refused(5, &names);
        let report = node.replay();
        assert!(report["left"][0]["why"].as_str().unwrap().contains("version"), "{report}");
        let calls = node.fakes.take_order();
        assert!(!calls.iter().any(|call| call.starts_with("ADD") || call.starts_with("DEL")), "{calls:?}");
        assert_eq!(fs::read(record).unwrap(), later);
    }
    fs::write(record, written).unwrap();
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_record_of_the_layout_of_a_hot_plug_is_read_by_every_verb() {
    let (node, pod) = scene();
    let result = node.add(&pod).result();
    let record = &node.records("attached")[0];
    fs::write(record, of_version(&fs::read(record).unwrap(), b'2')).unwrap();
    node.check(&pod, &result).quiet();
    node.fakes.take_order();
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL one net1", "DEL main eth0"]);
    node.assert_clean();
    // What a recovery says of it can only be known by who has read it: fakes make no links.
    node.add(&pod).result();
    let record = &node.records("attached")[0];
    fs::write(record, of_version(&fs::read(record).unwrap(), b'2')).unwrap();
    let report = node.replay();
    assert!(report["left"][0]["why"].as_str().unwrap().starts_with("none of its links"), "{report}");
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_state_directory_that_cannot_be_written_fails_the_add_before_anything_runs() {
    let (node, pod) = scene();
    fs::write(node.path("state"), "a file where the directory should be").unwrap();
    node.add(&pod).refused(5, &["state"]);
    assert!(node.fakes.calls().is_empty());
}

/// A small file system over the state directory, gone with the value.
struct Mounted(String);

impl Mounted {
    fn over(node: &Node, options: &str) -> Self {
        let state = node.text("state");
        fs::create_dir_all(&state).unwrap();
        meta_cni_tests::program::run("mount", ["-t", "tmpfs", "-o", options, "tmpfs", &state]);
        Self(state)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        meta_cni_tests::program::run("umount", ["-l", &self.0]);
    }
}

#[test]
fn a_read_only_state_directory_is_code_5() {
    let (node, pod) = scene();
    let mounted = Mounted::over(&node, "ro,size=64k");
    node.add(&pod).refused(5, &["state"]);
    assert!(node.fakes.calls().is_empty());
    drop(mounted);
}

impl Mounted {
    /// Takes every inode that is left.
    fn use_up_inodes(&self) {
        for number in 0.. {
            if fs::File::create(format!("{}/taken.{number}", self.0)).is_err() {
                return;
            }
        }
    }

    fn read_only(&self) {
        meta_cni_tests::program::run("mount", ["-o", "remount,ro", &self.0]);
    }

    fn use_up_space(&self) {
        let mut size = 16 << 10;
        let mut file = fs::File::create(format!("{}/taken", self.0)).unwrap();
        while size > 0 {
            if std::io::Write::write_all(&mut file, &vec![0; size]).is_err() {
                size /= 2;
            }
        }
    }
}

type Sickness = (&'static str, bool, fn(&Mounted));

/// How a state directory takes nothing any more, and whether records can still go.
const SICK: [Sickness; 3] = [
    ("no inodes", true, Mounted::use_up_inodes),
    ("full", true, Mounted::use_up_space),
    ("read-only", false, Mounted::read_only),
];

#[test]
fn del_undoes_everything_whatever_the_disk_of_the_state_directory_takes() {
    for (what, goes, sicken) in SICK {
        let (node, pod) = scene();
        let mounted = Mounted::over(&node, "size=64k,nr_inodes=40");
        node.add(&pod).result();
        sicken(&mounted);
        node.fakes.take_order();
        for _ in 0..2 {
            let del = node.del(&pod);
            del.quiet();
            let told = del.stderr();
            assert_eq!(told.contains("everything is undone, but"), !goes, "{what}: {told}");
            let order = node.fakes.take_order();
            assert_eq!(order.last().unwrap(), "DEL main eth0", "{what}");
        }
        let left = [node.records("attached"), node.records("pending")].concat();
        assert_eq!(left.is_empty(), goes, "{what}: {left:?}");
        // One that is older than the installation, and one that fails.
        node.call("DEL", &node.sandbox("old", "")).run().quiet();
        node.fakes.rules("main", &[Rule::on("DEL").times(1).fails(11, "busy")]);
        node.call("DEL", &node.sandbox("old", "")).run().refused(11, &["busy"]);
        drop(mounted);
    }
}

#[test]
fn dels_of_one_sandbox_exclude_each_other_on_a_disk_that_takes_no_lock() {
    for (what, _, sicken) in SICK {
        let (mut node, pod) = scene();
        let other = node.pod("db", "net-a");
        let mounted = Mounted::over(&node, "size=64k,nr_inodes=40");
        node.add(&pod).result();
        node.add(&other).result();
        sicken(&mounted);
        let go = node.path("go");
        node.fakes.rules("one", &[Rule { wait_for: Some(go.clone()), times: Some(1), ..Rule::on("DEL") }]);
        node.fakes.take_order();
        let first = node.call("DEL", &pod).start();
        while node.fakes.calls().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        node.conf["timeoutSeconds"] = json!(1);
        match what {
            // Here a lock file needs no room: it takes an inode and no block.
            "full" if node.files("state/locks").len() == 1 => {}
            _ => assert!(node.files("state/locks").is_empty(), "{what}: {:?}", node.files("state/locks")),
        }
        node.del(&pod).refused(11, &["still holds the sandbox"]);
        node.del(&other).quiet();
        fs::write(&go, "").unwrap();
        meta_cni_tests::call::Outcome::of("DEL", first).quiet();
        drop(mounted);
    }
}

#[test]
fn a_full_disk_fails_the_add_and_leaves_nothing() {
    let (node, pod) = scene();
    let mounted = Mounted::over(&node, "size=16k");
    let filler = node.path("state/filler");
    let mut size = 16 << 10;
    while size > 0 {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        if std::io::Write::write_all(&mut file, &vec![0; size]).is_err() {
            size /= 2;
        }
    }
    node.add(&pod).refused(5, &["state"]);
    assert!(node.fakes.calls_of("ADD").len() == node.fakes.calls_of("DEL").len(), "{:?}", node.fakes.take_order());
    fs::remove_file(&filler).unwrap();
    node.del(&pod).quiet();
    node.assert_clean();
    drop(mounted);
}

#[test]
fn a_disk_that_fills_up_while_add_runs_rolls_back() {
    // The record of the intent fits, the result of the delegate does not.
    let (node, pod) = scene();
    let mounted = Mounted::over(&node, "size=32k");
    let dns: Vec<String> = (0..4_000).map(|i| format!("search-domain-{i}.example.org")).collect();
    let large =
        json!({"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "sandbox": "S"}], "dns": {"search": dns}});
    node.fakes.rules("one", &[Rule::on("ADD").answers(&large)]);
    node.add(&pod).refused(5, &[]);
    assert_eq!(node.fakes.take_order(), ROLLED_BACK);
    node.del(&pod).quiet();
    node.assert_clean();
    drop(mounted);
}

#[test]
fn fifty_adds_at_once() {
    let (node, _) = scene();
    let pods: Vec<Pod> = (0..50).map(|i| node.pod(&format!("web-{i}"), "net-a")).collect();
    let running: Vec<_> = pods.iter().map(|pod| node.call("ADD", pod).start()).collect();
    for add in running {
        meta_cni_tests::call::Outcome::of("ADD", add).result();
    }
    let running: Vec<_> = pods.iter().map(|pod| node.call("DEL", pod).start()).collect();
    for del in running {
        meta_cni_tests::call::Outcome::of("DEL", del).quiet();
    }
    assert_eq!(node.fakes.calls_of("ADD").len(), 100);
    assert_eq!(node.fakes.calls_of("DEL").len(), 100);
    node.assert_clean();
}
