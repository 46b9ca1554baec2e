//! Host ports that somebody has: further networks do not get them, whatever plugin maps ports.

use meta_cni_tests::node::Node;
use serde_json::json;

/// A node whose default network and whose `net-a` and `net-b` read `portMappings`.
fn node() -> Node {
    let mut node = Node::new();
    let capabilities = json!({"portMappings": true});
    node.conf["delegates"][0]["capabilities"] = capabilities.clone();
    for (name, kind) in [("net-a", "one"), ("net-b", "two")] {
        node.nad(name, json!({"cniVersion": "1.0.0", "type": kind, "capabilities": capabilities}));
    }
    node
}

fn wants(name: &str, port: u16, more: &str) -> String {
    format!(r#"{{"name":"{name}","portMappings":[{{"hostPort":{port},"containerPort":80{more}}}]}}"#)
}

#[track_caller]
fn refused(node: &Node, networks: &str, words: &[&str]) {
    let pod = node.pod("web", &format!("[{networks}]"));
    node.add(&pod).refused(7, words);
    assert!(node.fakes.calls().is_empty(), "before anything is attached");
    node.assert_clean();
}

#[test]
fn ports_that_the_node_reserves() {
    let mut node = node();
    let path = "network default/net-a (net1): runtimeConfig.portMappings[0].hostPort";
    for (port, holds) in [(10250, "10250"), (10256, "10256"), (30000, "30000-32767"), (32767, "30000-32767")] {
        let holds = format!("`reservedPorts` of the node holds {holds}");
        refused(&node, &wants("net-a", port, ""), &[path, &port.to_string(), &holds]);
    }
    node.conf["reservedPorts"] = json!(["8000-8100"]);
    refused(&node, &wants("net-a", 8080, r#","protocol":"udp""#), &[path, "8080/udp", "8000-8100"]);
    let pod = node.pod("web", &format!("[{}]", wants("net-a", 30000, "")));
    node.add(&pod).result();
    node.del(&pod).quiet();
}

#[test]
fn a_port_that_another_network_of_the_pod_has() {
    let mut node = node();
    let both = [wants("net-a", 8080, ""), wants("net-b", 8080, r#","hostIP":"10.0.0.1""#)].join(",");
    refused(
        &node,
        &both,
        &["network default/net-b (net2)", "10.0.0.1 8080/tcp", "network net-a (net1) of this pod has it"],
    );
    let twice = [wants("net-a", 8080, ""), wants("net-a", 8080, "")].join(",");
    refused(&node, &twice, &["network default/net-a (net2)", "network net-a (net1) of this pod has it"]);
    node.conf["runtimeConfig"] = json!({"portMappings": [{"hostPort": 30001, "containerPort": 80}]});
    node.conf["reservedPorts"] = json!([]);
    refused(&node, &wants("net-a", 30001, ""), &["network default-net (eth0) of this pod has it"]);
    let apart = [wants("net-a", 8080, ""), wants("net-b", 8081, "")].join(",");
    let pod = node.pod("web", &format!("[{apart}]"));
    node.add(&pod).result();
    node.del(&pod).quiet();
}

#[test]
fn the_default_network_gets_what_the_runtime_asks() {
    let mut node = node();
    node.conf["runtimeConfig"] = json!({"portMappings": [{"hostPort": 10250, "containerPort": 80}]});
    let pod = node.pod("web", "");
    node.add(&pod).result();
    node.del(&pod).quiet();
}

#[test]
fn a_mapping_that_nobody_can_judge() {
    let capabilities = json!({"portMappings": true});
    let node = node();
    node.nad("net-c", json!({"cniVersion": "1.0.0", "type": "one", "capabilities": capabilities}));
    let networks = r#"{"name":"net-c","portMappings":[{"hostPort":80,"containerPort":80,"hostIP":"10.0.0"}]}"#;
    let pod = node.pod("web", &format!("[{networks}]"));
    node.add(&pod).refused(7, &["hostIP"]);
    assert!(node.fakes.calls().is_empty());
}
