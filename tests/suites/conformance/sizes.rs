//! More than any pod needs is refused before the work is done.

use meta_cni_tests::node::{NETWORKS, Node};
use serde_json::json;

/// ADD of a pod with these networks is refused, and no delegate was called.
#[track_caller]
fn refused(node: &Node, networks: &str, names: &[&str]) {
    node.add(&node.pod("web", networks)).refused(7, names);
    assert!(node.fakes.take_order().is_empty(), "a delegate ran");
}

#[test]
fn too_many_networks_too_long_texts_too_much_in_all() {
    let mut node = Node::new();
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "one"}));
    refused(&node, &vec!["lan"; 65].join(","), &[NETWORKS, "65 networks", "at most 64", "maxAttachments"]);
    // Nobody looks for 20,000 networks that do not exist.
    let unknown: Vec<String> = (0..20_000).map(|i| format!("n{i}")).collect();
    refused(&node, &unknown.join(","), &[NETWORKS, "20000 networks"]);
    refused(&node, &format!("[{}]", " ".repeat(256 << 10)), &[NETWORKS, "262146 bytes", "at most 262144 bytes"]);
    node.conf["maxAttachments"] = json!(1);
    refused(&node, "lan,lan", &["2 networks", "at most 1 (maxAttachments)"]);
    node.conf.as_object_mut().unwrap().remove("maxAttachments");

    node.nad("chain", json!({"cniVersion": "1.0.0", "plugins": vec![json!({"type": "one"}); 17]}));
    refused(&node, "chain", &["spec.config.plugins", "17 plugins", "at most 16 (maxChain)"]);

    let text = |bytes: usize| format!(r#"{{"cniVersion":"1.0.0","type":"one","k":"{}"}}"#, "k".repeat(bytes));
    node.nad_text("default", "long", &text(64 << 10));
    refused(&node, "long", &["network-attachment-definition default/long: spec.config", "at most 65536 bytes"]);
    // One definition, as often as may be.
    node.nad_text("default", "wide", &text((64 << 10) - 60));
    node.conf["maxAttachments"] = json!(100);
    refused(&node, &vec!["wide"; 66].join(","), &["networks[64]", "bytes with it", "at most 4194304 bytes"]);
    node.assert_clean();
}

#[test]
fn one_definition_that_a_pod_names_often_is_one_network() {
    let node = Node::new();
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "one"}));
    let pod = node.pod("web", &vec!["lan"; 64].join(","));
    node.add(&pod).result();
    assert_eq!(node.fakes.take_order().len(), 65);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn ten_thousand_settings_and_arguments_are_done_or_refused_in_time() {
    let node = Node::new();
    // As many as fit, of names that the kernel does not have: found out after all of them were read.
    let settings: Vec<String> = (0..2_500).map(|i| format!(r#""net.x.a{i}":"1""#)).collect();
    let text = format!(
        r#"{{"cniVersion":"1.0.0","plugins":[{{"type":"one"}},{{"type":"tuning","sysctl":{{{}}}}}]}}"#,
        settings.join(",")
    );
    node.nad_text("default", "tuned", &text);
    let arguments: Vec<String> = (0..9_000).map(|i| format!(r#""net.y.b{i}":"1""#)).collect();
    let annotation = format!(r#"[{{"name":"tuned","cni-args":{{"sysctl":{{{}}}}}}}]"#, arguments.join(","));
    let pod = node.pod("web", &annotation);
    let refusal = node.add(&pod).refusal();
    assert!(refusal.text.contains("net1") && refusal.text.len() < 4096, "{}", refusal.text);
    node.del(&pod).quiet();
    node.assert_clean();
}
