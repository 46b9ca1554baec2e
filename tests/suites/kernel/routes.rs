//! Which attachment carries the pod's default route (R21): kernel, result, status and record agree.

use std::fs;

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

/// In a list of a dialect every network is one that is a default network elsewhere.
#[test]
fn of_a_dialects_list_the_first_interface_keeps_the_routes_that_it_has() {
    let mut node = Node::new();
    fs::create_dir(node.path("net.d")).unwrap();
    node.conf["dialects"] = json!(["genie"]);
    node.conf["runtimeConfDir"] = json!(node.path("net.d"));
    let dir = node.path("addresses");
    let file = |name: &str, subnets: &[&str], routes: &[&str]| {
        let ranges: Vec<_> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
        let routes: Vec<_> = routes.iter().map(|dst| json!({"dst": dst})).collect();
        let ipam = json!({"type": "host-local", "dataDir": &dir, "ranges": ranges, "routes": routes});
        let conf = json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": name, "isGateway": true, "ipam": ipam});
        fs::write(node.path(&format!("net.d/10-{name}.conf")), conf.to_string()).unwrap();
    };
    file("br-a", &["10.11.0.0/24"], &["0.0.0.0/0"]);
    file("br-b", &["10.12.0.0/24", "fd00:12::/64"], &["0.0.0.0/0", "::/0"]);
    let pod = node.pod_annotated("web", json!({"cni": "br-a,br-b@eth4,br-a@eth5"}));
    let result = node.add(&pod).result();
    assert_eq!(pod.netns.default_routes("-4"), ["10.11.0.1 eth0"]);
    assert_eq!(pod.netns.default_routes("-6"), ["fd00:12::1 eth4"], "eth0 has none of that family");
    assert_eq!(node.status(&pod)[1]["gateway"], json!(["fd00:12::1"]));
    node.check(&pod, &result).quiet();
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

#[test]
fn a_request_for_ipv6_leaves_ipv4_with_the_default_network() {
    let (node, pod) = scene(r#"[{"name":"net-a","default-route":["fd00:11::1"]}]"#);
    let result = node.add(&pod).result();
    assert_eq!(pod.netns.default_routes("-4"), ["10.10.0.1 eth0"]);
    assert_eq!(pod.netns.default_routes("-6"), ["fd00:11::1 net1"]);
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn two_networks_take_a_family_each_and_never_the_same() {
    let (node, pod) = three(json!(["fd00:12::1"]));
    let both = |first: &str, second: &str| {
        format!(r#"[{{"name":"net-a","default-route":[{first}]}},{{"name":"net-b","default-route":[{second}]}}]"#)
    };
    drop(pod);
    let pod = node.pod("both", &both(r#""10.11.0.1""#, r#""fd00:12::1""#));
    let result = node.add(&pod).result();
    assert_eq!(pod.netns.default_routes("-4"), ["10.11.0.1 net1"]);
    assert_eq!(pod.netns.default_routes("-6"), ["fd00:12::1 net2"]);
    let status = node.status(&pod);
    assert_eq!(
        (&status[1]["default-route"], &status[2]["default-route"]),
        (&json!(["10.11.0.1"]), &json!(["fd00:12::1"]))
    );
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    for (first, second, family) in
        [(r#""10.11.0.1""#, r#""10.12.0.1""#, "IPv4"), ("", r#""fd00:12::1""#, "IPv6"), (r#""fd00:11::1""#, "", "IPv6")]
    {
        let pod = node.pod("same", &both(first, second));
        node.add(&pod).refused(7, &["networks[1].default-route", &format!("[0] takes the {family} default route")]);
        pod.assert_empty();
    }
    node.assert_clean();
}

/// Three networks with a default route of each family: IPv6 makes one route with three next hops of theirs.
fn three(second: serde_json::Value) -> (Node, Pod) {
    let mut networks = vec![json!({"name": "net-a"}), json!({"name": "net-b"})];
    if !second.is_null() {
        networks[1]["default-route"] = second;
    }
    let (node, pod) = scene(&json!(networks).to_string());
    for (name, bridge, n) in [("net-a", "br-a", 11), ("net-b", "br-b", 12)] {
        let ranges = json!([[{"subnet": format!("10.{n}.0.0/24")}], [{"subnet": format!("fd00:{n}::/64")}]]);
        let ipam = json!({"type": "host-local", "dataDir": node.path("addresses"), "ranges": ranges});
        node.nad(
            name,
            json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": bridge, "isDefaultGateway": true, "ipam": ipam}),
        );
    }
    (node, pod)
}

#[test]
fn every_next_hop_of_an_ipv6_route_is_seen_and_moved() {
    let (node, pod) = three(json!(["10.12.0.1", "fd00:12::1"]));
    let result = node.add(&pod).result();
    assert_eq!(pod.netns.default_routes("-4"), ["10.12.0.1 net2"]);
    assert_eq!(pod.netns.default_routes("-6"), ["fd00:12::1 net2"]);
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();

    let (node, pod) = three(json!([]));
    let result = node.add(&pod).result();
    assert_eq!(pod.netns.default_routes("-6"), ["fd00:12::1 net2"], "an empty list keeps its own");
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn without_a_request_a_check_finds_the_next_hops_of_all() {
    let (node, pod) = three(serde_json::Value::Null);
    let result = node.add(&pod).result();
    let routes = pod.netns.run("ip -6 route show default");
    for n in [10, 11, 12] {
        assert!(routes.contains(&format!("via fd00:{n}::1 ")), "{routes}");
    }
    node.check(&pod, &result).quiet();
    pod.netns.run("ip -6 route del default via fd00:11::1");
    node.check(&pod, &result).refusal();
    node.del(&pod).quiet();
    node.assert_clean();
}
