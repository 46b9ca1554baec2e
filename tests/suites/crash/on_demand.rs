//! A master that is made on demand: it goes with the pod that it was made for, wherever its ADD or its DEL ended.

use meta_cni_tests::node::{Node, Pod};
use serde_json::json;

use crate::{Place, kill_adds, kill_dels, killed_at, places_of_add};

fn scene() -> (Node, Pod) {
    let node = Node::new();
    node.netns.run("ip link add up0 type veth peer name up1");
    node.netns.run("ip address add 192.168.50.1/24 dev up0");
    node.netns.run("ip link set up0 up");
    node.netns.run("ip link set up1 up");
    let ipam = node.host_local("10.21.0.0/24");
    node.nad(
        "wide",
        json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "up0", "masterVxlan": 600, "ipam": ipam}),
    );
    let pod = node.pod("web", "wide");
    (node, pod)
}

#[track_caller]
fn clean(node: &Node, pod: &Pod, place: &Place) {
    assert_eq!(pod.netns.links(), Vec::<String>::new(), "killed at {place:?}");
    let left = node.leftovers(&["up0", "up1"]);
    assert!(left.is_empty(), "killed at {place:?}: {left:?}");
    assert!(!node.netns.links().contains(&"vxlan600".to_owned()), "killed at {place:?}");
}

#[test]
fn an_add_killed_anywhere_leaves_no_link_after_del() {
    kill_adds(&scene(), clean);
}

#[test]
fn a_del_killed_anywhere_leaves_no_link_after_the_next() {
    kill_dels(&scene(), clean);
}

#[test]
fn an_add_killed_anywhere_and_never_deleted_leaves_no_link_after_gc() {
    let (node, pod) = scene();
    for place in places_of_add(&node, &pod).iter().skip(20).step_by(10) {
        killed_at(node.call("ADD", &pod), place);
        node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).run().quiet();
        clean(&node, &pod, place);
    }
}
