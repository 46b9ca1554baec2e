//! The end of a pod: programs that are missing or gone beside delegates in process, and addresses of before a restart.

use std::fs;

use meta_cni_tests::node::Node;
use serde_json::json;

#[test]
fn a_missing_program_behind_ipam_or_flannel_is_found_before_anything_is_attached() {
    let node = Node::new();
    let bridge =
        |ipam: &str| json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-a", "ipam": {"type": ipam}});
    let flannel = |delegate: serde_json::Value, ipam: &str| {
        json!({"cniVersion": "1.0.0", "type": "flannel", "subnetFile": node.text("subnet.env"), "dataDir": node.text("flannel"),
            "delegate": delegate, "ipam": {"type": ipam}})
    };
    fs::write(node.path("subnet.env"), "FLANNEL_NETWORK=10.9.0.0/16\nFLANNEL_SUBNET=10.9.1.1/24\nFLANNEL_MTU=1450\n")
        .unwrap();
    for conf in [
        bridge("nowhere"),
        flannel(json!({"type": "nowhere"}), "host-local"),
        flannel(json!({"type": "bridge"}), "nowhere"),
        json!({"cniVersion": "1.0.0", "plugins": [bridge("nowhere"), {"type": "one"}]}),
    ] {
        node.nad("net-a", conf);
        let pod = node.pod("web", "net-a");
        node.add(&pod).refused(7, &["default/net-a", "\"nowhere\" is in none of"]);
        assert!(node.fakes.take_order().is_empty());
        // Nobody asks what never ran.
        node.del(&pod).quiet();
        assert_eq!(node.fakes.take_order(), ["DEL main eth0"]);
        pod.netns.remove();
        node.assert_clean();
    }
}

#[test]
fn what_runs_in_process_is_undone_although_the_program_behind_it_in_the_chain_is_gone() {
    let node = Node::new();
    let ipam = node.host_local("10.11.0.0/24");
    let plugins = json!([{"type": "bridge", "bridge": "br-a", "ipam": ipam}, {"type": "one"}]);
    node.nad("net-a", json!({"cniVersion": "1.0.0", "plugins": plugins}));
    let pod = node.pod("web", "net-a");
    node.add(&pod).result();
    let holds = || node.files("addresses").iter().any(|file| file.contains("10.11.0.2"));
    assert!(holds());
    fs::remove_file(node.path("bin/one")).unwrap();
    node.del(&pod).refusal();
    assert!(holds(), "a chain's DEL ends at its first failure");
    node.call("DEL", &pod).conf("abandonAfterSeconds", json!(0)).run().quiet();
    assert!(!holds(), "{:?}", node.files("addresses"));
    assert!(pod.netns.links().is_empty());
}

#[test]
fn an_address_of_before_a_restart_of_the_node_is_free_for_the_first_pod_that_asks() {
    let node = Node::new();
    let ipam = node.host_local("10.11.0.0/24");
    node.nad(
        "net-a",
        json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-a", "capabilities": {"ips": true}, "ipam": ipam}),
    );
    let wanted = json!([{"name": "net-a", "ips": ["10.11.0.7/24"]}]).to_string();
    let (before, after) = (node.pod("before", &wanted), node.pod("after", &wanted));
    node.add(&before).result();
    node.add(&after).refused(110, &["10.11.0.7"]);
    assert!(node.path("state/attached").join(format!("node-net,{},eth0", before.container)).exists(), "it may live");
    before.netns.remove();
    let added = node.call("ADD", &after).in_another_boot(&node.path("boot")).run().result();
    assert_eq!(node.records("attached").len(), 1, "{added}");
    node.call("DEL", &after).in_another_boot(&node.path("boot")).run().quiet();
    node.del(&before).quiet();
}
