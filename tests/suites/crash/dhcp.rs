//! An address of a DHCP server: whatever a server may have granted is given back.

use meta_cni_tests::dhcp::{FakeServer, Mood, wire};
use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod};
use serde_json::json;

use crate::{Place, killed_at, places, places_of_add, walk};

fn scene() -> (Node, Netns, Pod, FakeServer) {
    let node = Node::new();
    let far = wire(&node);
    let server = FakeServer::start(&far, Mood::Grants(600));
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "up0", "ipam": {"type": "dhcp"}}));
    let pod = node.pod("web", "lan");
    (node, far, pod, server)
}

/// Nothing of the pod is left, and the last that the server heard of the address is that it is free.
#[track_caller]
fn clean(node: &Node, pod: &Pod, server: &FakeServer, place: &Place) {
    assert_eq!(pod.netns.links(), Vec::<String>::new(), "killed at {place:?}");
    let left = node.leftovers(&["up0"]);
    assert!(left.is_empty(), "killed at {place:?}: {left:?}");
    for _ in 0..100 {
        let heard = server.heard();
        let last = |what: &str| heard.iter().rposition(|one| one == what);
        if last("request 10.9.0.7") <= last("release 10.9.0.7") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("killed at {place:?}: {:?}", server.heard().iter().rev().take(6).collect::<Vec<_>>());
}

#[test]
fn an_add_killed_anywhere_gives_back_what_it_was_granted() {
    let (node, _far, pod, server) = scene();
    walk(&places_of_add(&node, &pod), |place| {
        let killed = killed_at(node.call("ADD", &pod), place);
        node.del(&pod).quiet();
        clean(&node, &pod, &server, place);
        killed
    });
}

#[test]
fn a_del_killed_anywhere_has_given_it_back_or_does_so_the_next_time() {
    let (node, _far, pod, server) = scene();
    node.add(&pod).result();
    walk(&places(&node, node.call("DEL", &pod)), |place| {
        node.add(&pod).result();
        let killed = killed_at(node.call("DEL", &pod), place);
        node.del(&pod).quiet();
        clean(&node, &pod, &server, place);
        killed
    });
}
