//! More than anybody needs.

use serde_json::{Map, Value, json};

use crate::stage::Stage;

#[test]
fn a_thousand_references_to_one_definition() {
    let stage = Stage::new();
    stage.trap(&json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "eth2"}));
    stage.refuses_pod(&stage.node.pod("tenant", &vec!["trap"; 1000].join(",")), 7, &["1000", "64"]);
}

#[test]
fn names_that_do_not_exist() {
    let stage = Stage::new();
    let names: Vec<String> = (0..20_000).map(|i| format!("n{i}")).collect();
    stage.refuses_pod(&stage.node.pod("tenant", &names.join(",")), 7, &["20000", "64"]);
}

#[test]
fn a_definition_of_a_megabyte() {
    let stage = Stage::new();
    let config = json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "eth2", "x": "x".repeat(1 << 20)});
    stage.refuses(&config, 7, &["65536"]);
}

#[test]
fn a_chain_without_end() {
    let stage = Stage::new();
    let plugins: Vec<Value> = (0..500).map(|_| json!({"type": "tuning"})).collect();
    stage.refuses(&json!({"cniVersion": "1.0.0", "plugins": plugins}), 7, &["plugins", "500", "16"]);
}

#[test]
fn ten_thousand_arguments() {
    let stage = Stage::new();
    let plugins: Vec<Value> = (0..16).map(|_| json!({"type": "one"})).collect();
    stage.trap(&json!({"cniVersion": "1.0.0", "plugins": plugins}));
    let args: Map<String, Value> = (0..10_000).map(|i| (format!("argument-{i:020}"), json!("v"))).collect();
    let pod = stage.node.pod("tenant", &json!([{"name": "trap", "cni-args": args}]).to_string());
    stage.refuses_pod(&pod, 7, &[]);
}

#[test]
fn ten_thousand_settings() {
    let stage = Stage::new();
    let settings: Map<String, Value> = (0..10_000).map(|i| (format!("net.a{i}"), json!("1"))).collect();
    let tuning = json!({"type": "tuning", "sysctl": settings});
    let config = json!({"cniVersion": "1.0.0", "plugins": [{"type": "macvlan", "master": "eth2"}, tuning]});
    stage.refuses(&config, 7, &["65536"]);
}
