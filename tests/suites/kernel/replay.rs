//! Replay: sandboxes that died without a DEL are cleaned away, those that live are not touched.

use std::fs;
use std::path::PathBuf;

use meta_cni_tests::call::Outcome;
use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// A node whose default network and `net-a` are bridges of ours.
fn node() -> Node {
    let mut node = Node::new();
    let bridge = |name: &str, bridge: &str, subnet: &str| {
        let ipam = node.host_local(subnet);
        json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": bridge, "isGateway": true, "ipam": ipam})
    };
    let (main, net_a) = (bridge("default-net", "cni0", "10.10.0.0/24"), bridge("net-a", "br-a", "10.11.0.0/24"));
    node.conf["delegates"] = json!([main]);
    node.nad("net-a", net_a);
    node
}

fn attached(node: &Node, name: &str) -> Pod {
    let pod = node.pod(name, "net-a");
    node.add(&pod).result();
    pod
}

fn record(node: &Node, pod: &Pod) -> PathBuf {
    node.path("state/attached").join(format!("node-net,{},eth0", pod.container))
}

/// The containers in one list of a report.
fn listed(report: &Value, list: &str) -> Vec<String> {
    let entries = report[list].as_array().unwrap_or_else(|| panic!("no {list} in {report}"));
    entries.iter().map(|entry| entry["containerID"].as_str().unwrap().to_owned()).collect()
}

fn why(report: &Value, list: &str) -> String {
    report[list][0]["why"].as_str().unwrap_or_else(|| panic!("no reason in {report}")).to_owned()
}

#[track_caller]
fn lives(node: &Node, pod: &Pod) {
    assert_eq!(pod.netns.links(), ["eth0", "net1"]);
    assert!(record(node, pod).exists());
    node.check(pod, &json!({})).quiet();
}

#[test]
fn a_namespace_that_went_away_without_a_del_is_cleaned_up_after() {
    let node = node();
    let (kept, lost) = (attached(&node, "kept"), attached(&node, "lost"));
    lost.netns.remove();
    let report = node.replay();
    assert_eq!(listed(&report, "released"), [lost.container.as_str()], "{report}");
    assert_eq!(report["living"], 1, "{report}");
    assert!(why(&report, "released").ends_with("is gone"), "{report}");
    assert_eq!(report["released"][0]["pod"], "default/lost");
    assert!(!record(&node, &lost).exists());
    lives(&node, &kept);
    assert!(!node.path("addresses/net-a/10.11.0.3").exists() && node.path("addresses/net-a/10.11.0.2").exists());
    node.del(&lost).quiet();
    node.del(&kept).quiet();
    node.assert_clean();
}

#[test]
fn a_path_that_leads_to_another_pod_now_is_not_touched_for_the_old_one() {
    let node = node();
    let old = attached(&node, "old");
    let path = old.netns.path().to_owned();
    old.netns.remove();
    // The runtime gives the same name to another sandbox; the kernel may give it the same number too.
    let netns = Netns::new(&path);
    let new = Pod { netns, ..node.sandbox("new", "") };
    let new = Pod { name: node.pod("new", "net-a").name, ..new };
    node.call("ADD", &new).env("CNI_ARGS", "K8S_POD_NAMESPACE=default;K8S_POD_NAME=new").run().result();
    let is_reused = fs::read_to_string(record(&node, &old)).unwrap().contains(&format!("{}]", new.netns.inode()));
    let report = node.replay();
    // With the same number nothing proves that the old one is gone: the record stays, and the report says why.
    let list = if is_reused { "left" } else { "released" };
    assert_eq!(listed(&report, list), [old.container.as_str()], "{report}");
    lives(&node, &new);
    node.del(&new).quiet();
    new.assert_empty();
}

#[test]
fn a_living_sandbox_is_untouched_also_when_its_number_belongs_to_a_dead_record() {
    let node = node();
    let (kept, lost) = (attached(&node, "kept"), attached(&node, "lost"));
    // The record of the dead one has the living one's path and number, as reuse by the kernel would make it.
    let entry = format!("\"netns\":\"{}\"", lost.netns.text());
    let text = fs::read_to_string(record(&node, &lost)).unwrap();
    let text = text.replace(&entry, &format!("\"netns\":\"{}\"", kept.netns.text()));
    let text = text.replace(&format!("{}]", lost.netns.inode()), &format!("{}]", kept.netns.inode()));
    fs::write(record(&node, &lost), reseal(&text)).unwrap();
    lost.netns.remove();
    let report = node.replay();
    assert_eq!(listed(&report, "left"), [lost.container.as_str()], "{report}");
    assert!(why(&report, "left").starts_with("none of its links is in"), "{report}");
    assert_eq!(report["living"], 1, "{report}");
    lives(&node, &kept);
    node.del(&lost).quiet();
    lives(&node, &kept);
    node.del(&kept).quiet();
    node.assert_clean();
}

/// The text of a record that was changed, with its lengths and checksums mended.
fn reseal(text: &str) -> String {
    let mut lines = text.lines();
    let mut sealed = format!("{}\n", lines.next().unwrap());
    while let (Some(head), Some(json)) = (lines.next(), lines.next()) {
        let kind = head.split(' ').next().unwrap();
        sealed.push_str(&format!("{kind} {} {:08x}\n{json}\n", json.len(), crc32(json.as_bytes())));
    }
    sealed
}

/// CRC-32 as IEEE 802.3 has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn after_a_restart_of_the_node_every_record_is_dead() {
    let node = node();
    // No peer on the node: the link goes only with somebody who enters the namespace.
    node.netns.run("ip link add up0 type veth peer name up1");
    let ipam = node.host_local("10.11.0.0/24");
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "up0", "ipam": ipam}));
    let (one, two) = (attached(&node, "one"), attached(&node, "two"));
    two.netns.remove();
    let report = node.replay_call(0).in_another_boot(&node.path("boot")).run().result();
    let mut released = listed(&report, "released");
    released.sort();
    assert_eq!(released, [one.container.as_str(), two.container.as_str()], "{report}");
    assert!(why(&report, "released").contains("restarted"), "{report}");
    assert!(node.files("addresses").iter().all(|file| file.ends_with("lock") || file.contains("last_reserved")));
    // A namespace of the new boot may have an old one's path and number: nothing in it is the old pod's.
    assert_eq!(one.netns.links(), ["net1"]);
    node.del(&one).quiet();
}

#[test]
fn a_record_without_a_boot_is_judged_by_its_namespace_alone() {
    let node = node();
    let pod = attached(&node, "old-layout");
    let text = fs::read_to_string(record(&node, &pod)).unwrap();
    let (before, after) = text.split_once(",\"boot\":\"").unwrap();
    let after = after.split_once('"').unwrap().1;
    fs::write(record(&node, &pod), reseal(&format!("{before}{after}"))).unwrap();
    let report = node.replay_call(0).in_another_boot(&node.path("boot")).run().result();
    assert_eq!(report["living"], 1, "{report}");
    lives(&node, &pod);
    node.del(&pod).quiet();
    node.assert_clean();
}

/// A replay in a mount namespace of its own, after this was done to it.
fn replay_behind(node: &Node, change: &str) -> Value {
    let script = format!("mount --make-rprivate / && {change} && exec \"$@\"");
    node.replay_call(0).under(["unshare", "--mount", "sh", "-c", &script, "sh"]).run().result()
}

#[test]
fn where_the_runtimes_mounts_cannot_be_seen_nothing_is_dead() {
    let node = node();
    let run = tempfile::tempdir().unwrap();
    fs::create_dir(run.path().join("netns")).unwrap();
    let netns = Netns::new(run.path().join("netns/web"));
    let pod = Pod { netns, ..node.pod("web", "net-a") };
    node.add(&pod).result();
    // Its file is there but not the namespace that is mounted on it; then not even the directory is there.
    let hides = [format!("umount {}", pod.netns.text()), format!("mount -t tmpfs tmpfs {}", run.path().display())];
    for hide in hides {
        let report = replay_behind(&node, &hide);
        assert_eq!(listed(&report, "left"), [pod.container.as_str()], "{report}");
        assert!(why(&report, "left").contains(pod.netns.text()), "{report}");
        lives(&node, &pod);
    }
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_namespace_that_lost_its_name_lives_while_a_process_is_in_it() {
    let node = node();
    let pod = attached(&node, "web");
    let mut sleep = meta_cni_tests::program::start(pod.netns.command("sleep").args(["60"]), b"");
    let process = PathBuf::from(format!("/proc/{}/ns/net", sleep.id()));
    let inode = pod.netns.inode();
    while fs::metadata(&process).map_or(0, |meta| std::os::unix::fs::MetadataExt::ino(&meta)) != inode {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    pod.netns.remove();
    let report = node.replay();
    assert_eq!(listed(&report, "left"), [pod.container.as_str()], "{report}");
    assert!(why(&report, "left").contains("may be it"), "{report}");
    sleep.kill();
    sleep.finish(std::time::Duration::from_secs(5));
    // The namespace goes some time after its last process.
    let report = node.replay();
    assert_eq!(listed(&report, "released"), [pod.container.as_str()], "{report}");
    node.assert_clean();
}

#[test]
fn addresses_of_the_departed_are_given_back_and_those_of_strangers_are_told() {
    let node = node();
    let (kept, gone) = (attached(&node, "kept"), attached(&node, "gone"));
    node.del(&gone).quiet();
    fs::write(node.path("addresses/net-a/10.11.0.77"), format!("{}\r\nnet1", gone.container)).unwrap();
    fs::write(node.path("addresses/default-net/10.10.0.78"), "stranger\r\neth0").unwrap();
    let report = node.replay();
    assert!(!node.path("addresses/net-a/10.11.0.77").exists());
    assert!(node.path("addresses/default-net/10.10.0.78").exists());
    assert!(report["strangers"][0].as_str().unwrap().contains("10.10.0.78 of stranger"), "{report}");
    lives(&node, &kept);
    fs::remove_file(node.path("addresses/default-net/10.10.0.78")).unwrap();
    node.del(&kept).quiet();
    node.assert_clean();
}

#[test]
fn fifty_dead_sandboxes_go_in_one_replay_and_fifty_living_ones_stay() {
    let node = node();
    let pods: Vec<Pod> = (0..100).map(|i| node.pod(&format!("web-{i}"), "")).collect();
    for batch in pods.chunks(10) {
        let running: Vec<_> = batch.iter().map(|pod| node.call("ADD", pod).start()).collect();
        running.into_iter().for_each(|add| drop(Outcome::of("ADD", add).result()));
    }
    let (lost, kept) = pods.split_at(50);
    lost.iter().for_each(|pod| pod.netns.remove());
    let report = node.replay();
    assert_eq!((listed(&report, "released").len(), &report["living"]), (50, &json!(50)), "{report}");
    assert!(kept.iter().all(|pod| pod.netns.links() == ["eth0"]));
    kept.iter().for_each(|pod| node.del(pod).quiet());
    node.assert_clean();
}
