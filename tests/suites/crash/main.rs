//! The crash tier: SIGKILL at the entry of the Nth system call of the plugin, for every N, then DEL. Nothing may be left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use meta_cni_tests::call::{Call, Outcome};
use meta_cni_tests::node::{Node, Pod};
use serde_json::json;

/// More system calls than any call of the plugin makes: the search for the end must end.
const MOST: u32 = 4000;

/// Runs a call that is killed when it enters its Nth system call; nothing when it ended before.
fn killed_at(call: Call<'_>, n: u32) -> Option<Outcome> {
    let inject = format!("inject=all:signal=KILL:when={n}");
    let outcome = call.under(["strace", "-qq", "-o", "/dev/null", "-e", "trace=all", "-e", &inject]).run();
    assert!(!outcome.stderr().contains("strace:"), "{}", outcome.stderr());
    // strace ends as its tracee did: by the same signal.
    (outcome.finished.signal == Some(9)).then_some(outcome)
}

/// eth0 and two more networks, all built in: a bridge each and an overlay.
fn scene() -> (Node, Pod) {
    let mut node = Node::new();
    node.netns.run("ip link add up0 type veth peer name up1");
    node.netns.run("ip address add 192.168.50.1/24 dev up0");
    node.netns.run("ip link set up0 up");
    node.netns.run("ip link set up1 up");
    let bridge = |bridge: &str, subnet: &str| json!({"cniVersion": "1.0.0", "name": bridge, "type": "bridge", "bridge": bridge, "isGateway": true, "ipam": node.host_local(subnet)});
    let (main, net_a) = (bridge("cni0", "10.10.0.0/16"), bridge("br-a", "10.11.0.0/16"));
    let overlay = json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "vxlan", "vni": 4200, "underlay": "up0", "peers": ["192.168.50.2"],
        "ipam": node.host_local("10.12.0.0/16"),
    });
    node.conf["delegates"] = json!([main]);
    node.nad("net-a", net_a);
    node.nad("blue", overlay);
    let pod = node.pod("web", "net-a,blue");
    (node, pod)
}

#[track_caller]
fn clean(node: &Node, pod: &Pod, n: u32) {
    assert_eq!(pod.netns.links(), Vec::<String>::new(), "killed at system call {n}");
    let left = node.leftovers(&["up0", "up1"]);
    assert!(left.is_empty(), "killed at system call {n}: {left:?}");
    let overlays: Vec<String> = node
        .netns
        .links()
        .into_iter()
        .filter(|name| !["cni0", "br-a", "up0", "up1"].contains(&name.as_str()))
        .collect();
    assert!(overlays.is_empty(), "killed at system call {n}: {overlays:?}");
}

#[test]
fn an_add_killed_anywhere_is_undone_by_del() {
    let (node, pod) = scene();
    let mut n = 1;
    while killed_at(node.call("ADD", &pod), n).is_some() {
        node.del(&pod).quiet();
        clean(&node, &pod, n);
        n += 1;
        assert!(n < MOST);
    }
    assert!(n > 100, "killed only {n} times: was the plugin traced?");
    node.del(&pod).quiet();
    clean(&node, &pod, n);
}

#[test]
fn a_del_killed_anywhere_is_finished_by_the_next() {
    let (node, pod) = scene();
    let mut n = 1;
    loop {
        node.add(&pod).result();
        let killed = killed_at(node.call("DEL", &pod), n);
        node.del(&pod).quiet();
        clean(&node, &pod, n);
        if killed.is_none() {
            break;
        }
        n += 1;
        assert!(n < MOST);
    }
    assert!(n > 50, "killed only {n} times: was the plugin traced?");
}

#[test]
fn an_add_killed_anywhere_can_be_repeated() {
    let (node, pod) = scene();
    let mut n = 2;
    while killed_at(node.call("ADD", &pod), n).is_some() {
        let again = node.add(&pod);
        if !again.succeeded() {
            // Killed after the record said done: the attachment exists, and nobody was told.
            again.refused(101, &[]);
        }
        assert_eq!(pod.netns.links(), ["eth0", "net1", "net2"], "killed at system call {n}");
        node.del(&pod).quiet();
        clean(&node, &pod, n);
        n += 3;
        assert!(n < MOST);
    }
    node.del(&pod).quiet();
}

#[test]
fn a_pod_that_dies_with_its_killed_add_leaves_nothing() {
    let (node, pod) = scene();
    let mut n = 40;
    while killed_at(node.call("ADD", &pod), n).is_some() {
        // The namespace goes first, then DEL comes, as after a reboot of the runtime.
        let again = Pod {
            netns: meta_cni_tests::netns::Netns::new(node.path(&format!("netns/again-{n}"))),
            ..node.sandbox("web", &pod.uid)
        };
        let _ = killed_at(node.call("ADD", &again), n);
        again.netns.remove();
        node.del(&again).quiet();
        node.del(&pod).quiet();
        clean(&node, &pod, n);
        n += 25;
        assert!(n < MOST);
    }
    node.del(&pod).quiet();
}
