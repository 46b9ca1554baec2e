//! The match conditions of the shipped webhook configuration, as expressions: an error in one would refuse whatever it is asked
//! about, and a wrong one asks about too much or too little.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own constants")]

use std::path::Path;

use cel::{Context, Program, Value as Cel};
use serde_json::{Value, json};

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

fn configuration() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize/webhook/configuration.yaml");
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Is a webhook asked? By all its conditions, none of which may fail.
fn asked(webhook: &str, old: &Value, object: &Value, request: &Value) -> bool {
    let configuration = configuration();
    let webhooks = configuration["webhooks"].as_array().unwrap();
    let name = format!("{webhook}.meta-cni.io");
    let webhook = webhooks.iter().find(|webhook| webhook["name"] == name).unwrap();
    let conditions = webhook["matchConditions"].as_array().unwrap();
    conditions.iter().all(|condition| {
        let expression = condition["expression"].as_str().unwrap();
        let program = Program::compile(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
        let mut context = Context::default();
        context.add_variable("object", object).unwrap();
        context.add_variable("oldObject", old).unwrap();
        context.add_variable("request", request).unwrap();
        match program.execute(&context) {
            Ok(Cel::Bool(holds)) => holds,
            other => panic!("{expression}\nof {object}, before {old}: {other:?}"),
        }
    })
}

fn by(groups: &[&str]) -> Value {
    json!({"userInfo": {"username": "u", "groups": groups}})
}

fn annotated(annotations: Value) -> Value {
    json!({"metadata": {"name": "x", "annotations": annotations}, "spec": {}})
}

#[test]
fn definitions_are_asked_about_when_what_they_say_is_new() {
    let of =
        |config: &str, labels: Value| json!({"metadata": {"name": "a", "labels": labels}, "spec": {"config": config}});
    let (old, none) = (of("{}", json!({})), Value::Null);
    let bare = json!({"metadata": {"name": "a"}});
    let resource = json!({
        "metadata": {"name": "a", "annotations": {"k8s.v1.cni.cncf.io/resourceName": "x/y"}}, "spec": {"config": "{}"},
    });
    let mut leaving = of("[]", json!({}));
    leaving["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
    for webhook in ["nads", "nads-system", "ours", "network-policies"] {
        for (before, after, want) in [
            (&none, &old, true),
            (&none, &bare, true),
            (&old, &old, false),
            (&bare, &bare, false),
            (&old, &of("{}", json!({"a": "b"})), false),
            (&old, &of("[]", json!({})), true),
            (&bare, &old, true),
            (&old, &bare, true),
            (&old, &resource, true),
            (&resource, &old, true),
            (&old, &leaving, false),
        ] {
            assert_eq!(asked(webhook, before, after, &by(&[])), want, "{webhook}: {before} {after}");
        }
    }
}

#[test]
fn pods_are_asked_about_when_an_annotation_of_ours_is_new() {
    let plain = json!({"metadata": {"name": "p"}, "spec": {}});
    let (lan, wan) = (annotated(json!({NETWORKS: "lan"})), annotated(json!({NETWORKS: "wan", "a": "b"})));
    let status = annotated(json!({NETWORKS: "lan", STATUS: "[]"}));
    let default = annotated(json!({"v1.multus-cni.io/default-network": "lan"}));
    let foreign = annotated(json!({"a": "b"}));
    let mut leaving = wan.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
    let none = Value::Null;
    for (before, after, want) in [
        (&none, &plain, false),
        (&none, &foreign, false),
        (&none, &annotated(json!({})), false),
        (&none, &lan, true),
        (&none, &status, true),
        (&none, &default, true),
        (&plain, &lan, true),
        (&lan, &plain, true),
        (&lan, &lan, false),
        (&lan, &wan, true),
        (&lan, &status, true),
        (&plain, &foreign, false),
        (&lan, &leaving, false),
    ] {
        assert_eq!(asked("pods", before, after, &by(&["system:authenticated"])), want, "{before} {after}");
    }
    // A mirror pod runs already; whoever has no groups is not let by for that.
    assert!(!asked("pods", &none, &lan, &by(&["system:nodes", "system:authenticated"])));
    assert!(asked("pods", &none, &lan, &json!({"userInfo": {"username": "u"}})));
}

#[test]
fn templates_are_asked_about_with_an_annotation_of_ours_on_either_level() {
    let with = json!({NETWORKS: "lan"});
    let template = |annotations: &Value| json!({"metadata": {"annotations": annotations}, "spec": {}});
    for (object, want) in [
        (json!({"metadata": {"name": "d"}, "spec": {"template": {"metadata": {}, "spec": {}}}}), false),
        (json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {}}}}), false),
        (json!({"metadata": {"name": "d"}, "spec": {"template": template(&json!({"a": "b"}))}}), false),
        (json!({"metadata": {"name": "d"}, "spec": {"template": template(&with)}}), true),
        (json!({"metadata": {"name": "d", "annotations": with}, "spec": {"template": {"spec": {}}}}), true),
        (json!({"metadata": {"name": "c"}, "spec": {"jobTemplate": {"spec": {"template": template(&with)}}}}), true),
        (json!({"metadata": {"name": "c"}, "spec": {"jobTemplate": {"spec": {"template": {"spec": {}}}}}}), false),
        (
            json!({"metadata": {"name": "c"}, "spec": {"jobTemplate": {"metadata": {"annotations": with}, "spec": {"template": {}}}}}),
            false,
        ),
    ] {
        assert_eq!(asked("templates", &Value::Null, &object, &by(&[])), want, "{object}");
    }
}

#[test]
fn namespaces_are_asked_about_when_their_labels_are_new() {
    let of =
        |labels: Value| json!({"metadata": {"name": "n", "labels": labels, "annotations": {"a": "b"}}, "spec": {}});
    let (none, bare) = (Value::Null, json!({"metadata": {"name": "n"}}));
    let (plain, level) = (of(json!({"tenant": "a"})), of(json!({"meta-cni.io/level": "baseline"})));
    let mut leaving = level.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
    for (before, after, want) in [
        (&none, &bare, false),
        (&none, &plain, false),
        (&none, &level, true),
        (&bare, &bare, false),
        (&bare, &plain, true),
        (&plain, &bare, true),
        (&plain, &plain, false),
        (&plain, &level, true),
        (&plain, &leaving, false),
    ] {
        assert_eq!(asked("namespaces", before, after, &by(&[])), want, "{before} {after}");
    }
}
