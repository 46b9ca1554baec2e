//! Which attachment carries the pod's default route (R21): kernel, result, status and record agree.

use meta_cni_tests::node::{Node, Pod};
use serde_json::json;

/// Default network and `net-a`, both with a gateway and a default route of their own, in both families.
fn scene(networks: &str) -> (Node, Pod) {
    let mut node = Node::new();
    let two = |node: &Node, v4: &str, v6: &str| json!({"type": "host-local", "dataDir": node.path("addresses"), "ranges": [[{"subnet": v4}], [{"subnet": v6}]]});
    let ipam = two(&node, "10.10.0.0/24", "fd00:10::/64");
    node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "default-net", "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipam": ipam}]);
    let ipam = two(&node, "10.11.0.0/24", "fd00:11::/64");
    node.nad(
        "net-a",
        json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-a", "isGateway": true, "ipam": ipam}),
    );
    let pod = node.pod("web", networks);
    (node, pod)
}

#[test]
fn without_a_request_the_default_network_keeps_it() {
    let (node, pod) = scene("net-a");
    node.add(&pod).result();
    assert_eq!(pod.netns.default_routes("-4"), ["10.10.0.1 eth0"]);
    assert_eq!(pod.netns.default_routes("-6"), ["fd00:10::1 eth0"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_request_moves_the_route_of_its_family_alone() {
    let (node, pod) = scene(r#"[{"name":"net-a","default-route":["10.11.0.1"]}]"#);
    let result = node.add(&pod).result();
    assert_eq!(pod.netns.default_routes("-4"), ["10.11.0.1 net1"]);
    assert_eq!(pod.netns.default_routes("-6"), ["fd00:10::1 eth0"]);
    let defaults: Vec<_> =
        result["routes"].as_array().unwrap().iter().filter(|route| route["dst"] == "0.0.0.0/0").collect();
    assert!(defaults.is_empty(), "the default network's result no longer has it: {result}");
    let status = node.status(&pod);
    assert_eq!(status[1]["default-route"], json!(["10.11.0.1"]));
    let gateways = status[0]["gateway"].as_array().cloned().unwrap_or_default();
    assert!(!gateways.contains(&json!("10.10.0.1")), "{status}");
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_request_for_both_families_moves_both() {
    let (node, pod) = scene(r#"[{"name":"net-a","default-route":["10.11.0.1","fd00:11::1"]}]"#);
    node.add(&pod).result();
    assert_eq!(pod.netns.default_routes("-4"), ["10.11.0.1 net1"]);
    assert_eq!(pod.netns.default_routes("-6"), ["fd00:11::1 net1"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_gateway_that_cannot_be_reached_fails_the_add_and_leaves_nothing() {
    let (node, pod) = scene(r#"[{"name":"net-a","default-route":["10.99.0.1"]}]"#);
    let refusal = node.add(&pod).refusal();
    assert!(refusal.text.contains("10.99.0.1"), "{}", refusal.text);
    pod.assert_empty();
    node.assert_clean();
}
