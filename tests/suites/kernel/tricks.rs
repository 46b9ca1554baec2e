//! What a pod with NET_ADMIN, a reused path or a vanished namespace can do to DEL: it ends clean all the same.

use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod};
use serde_json::json;

/// A pod with our bridge as eth0 and net1.
fn scene() -> (Node, Pod) {
    let mut node = Node::new();
    let conf = |name: &str, bridge: &str, subnet: &str| json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": bridge, "ipam": node.host_local(subnet)});
    let (main, net_a) = (conf("default-net", "cni0", "10.10.0.0/24"), conf("net-a", "br-a", "10.11.0.0/24"));
    node.conf["delegates"] = json!([main]);
    node.nad("net-a", net_a);
    let pod = node.pod("web", "net-a");
    (node, pod)
}

/// Attach, let the pod do this, detach: nothing may be left on the node, and of ours nothing in the pod.
#[track_caller]
fn survives(tricks: &[&str], left_in_pod: &[&str]) {
    let (node, pod) = scene();
    node.add(&pod).result();
    for trick in tricks {
        let group = pod.netns.link("eth0")["group"].as_str().map_or_else(|| "0".to_owned(), str::to_owned);
        pod.netns.run(&trick.replace("GROUP", &group));
    }
    node.del(&pod).quiet();
    assert_eq!(pod.netns.links(), left_in_pod, "{tricks:?}");
    node.assert_clean();
}

#[test]
fn every_link_of_ours_carries_one_group() {
    let (node, pod) = scene();
    node.add(&pod).result();
    let groups: Vec<_> = ["eth0", "net1"].iter().map(|name| pod.netns.link(name)["group"].clone()).collect();
    assert!(groups[0] == groups[1] && groups[0] != "default", "{groups:?}");
    node.del(&pod).quiet();
}

#[test]
fn lo_in_the_group() {
    survives(&["ip link set lo group GROUP"], &[]);
}

#[test]
fn a_link_out_of_the_group() {
    survives(&["ip link set net1 group 0"], &[]);
}

#[test]
fn both_at_once() {
    survives(&["ip link set lo group GROUP", "ip link set net1 group 0"], &[]);
}

#[test]
fn a_renamed_link() {
    survives(&["ip link set net1 down", "ip link set net1 name mine"], &[]);
}

#[test]
fn names_swapped() {
    survives(
        &[
            "ip link set net1 down",
            "ip link set eth0 down",
            "ip link set net1 name tmp",
            "ip link set eth0 name net1",
            "ip link set tmp name eth0",
        ],
        &[],
    );
}

#[test]
fn a_deleted_link() {
    survives(&["ip link del net1"], &[]);
}

#[test]
fn links_of_the_pods_own_stay() {
    survives(&["ip link add own0 type veth peer name own1"], &["own0", "own1"]);
}

#[test]
fn a_pods_own_link_under_our_name_stays() {
    survives(&["ip link del net1", "ip link add net1 type veth peer name own1"], &["net1", "own1"]);
}

#[test]
fn a_namespace_that_is_gone() {
    let (node, pod) = scene();
    node.add(&pod).result();
    pod.netns.remove();
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_path_that_now_belongs_to_another_pod() {
    let (node, first) = scene();
    node.add(&first).result();
    let path = first.netns.path().to_owned();
    first.netns.remove();
    let second = Pod { netns: Netns::new(path), ..node.pod("second", "net-a") };
    node.add(&second).result();
    node.del(&first).quiet();
    assert_eq!(second.netns.links(), ["eth0", "net1"], "the other pod's links stay");
    assert!(second.netns.pings("10.10.0.1") || second.netns.addresses("eth0") == ["10.10.0.3/24"]);
    node.del(&second).quiet();
    second.assert_empty();
    node.assert_clean();
}

#[test]
fn a_record_that_cannot_be_read_leaves_no_link() {
    let (node, pod) = scene();
    node.add(&pod).result();
    for path in node.files("state").iter().filter(|path| path.contains("attached")) {
        std::fs::write(node.path(path), "noise").unwrap();
    }
    node.del(&pod).refused(5, &["damaged", &pod.container]);
    pod.assert_empty();
    let left = node.leftovers(&[]);
    assert!(left.iter().all(|path| path.starts_with("state/")), "the record and its mark stay: {left:?}");
}
