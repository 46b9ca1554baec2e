//! The match conditions of the shipped webhook configuration, as expressions: an error in one would refuse whatever it is asked
//! about, and a wrong one asks about too much or too little.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own constants")]

use std::path::Path;

use cel::{Context, Program, Value as Cel};
use serde_json::{Value, json};

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The patches of webhook configurations.
const DIALECTS: &[&str] = &["genie/webhook.yaml", "danm/webhook.yaml", "danm/mutating.yaml", "knitter/webhook.yaml"];

/// The webhooks that judge, and those that change.
fn webhooks() -> Vec<Value> {
    let read = |file: &str| -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize/webhook").join(file);
        serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let of = |file| read(file)["webhooks"].as_array().unwrap().clone();
    [of("configuration.yaml"), of("mutating.yaml"), of_dialects()].concat()
}

/// What the components of dialects add to both.
fn of_dialects() -> Vec<Value> {
    let mut added = Vec::new();
    for file in DIALECTS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/dialects").join(file);
        let patches: Vec<Value> = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        added.extend(patches.into_iter().map(|patch| patch["value"].clone()));
    }
    added
}

/// Is a webhook asked? By all its conditions, none of which may fail.
fn asked(webhook: &str, old: &Value, object: &Value, request: &Value) -> bool {
    let webhooks = webhooks();
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
fn only_overlays_whose_text_is_new_are_completed() {
    let of = |config: &Value| json!({"metadata": {"name": "a"}, "spec": {"config": config}});
    let (vxlan, other) = (of(&json!(r#"{"type":"vxlan"}"#)), of(&json!(r#"{"type":"macvlan"}"#)));
    let listed = of(&json!(r#"{"plugins":[{"type":"vxlan","vni":7}]}"#));
    let mut labelled = vxlan.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let mut leaving = vxlan.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
    let none = Value::Null;
    let bare = json!({"metadata": {"name": "a"}});
    for webhook in ["mutate-nads", "mutate-nads-system"] {
        for (before, after, want) in [
            (&none, &vxlan, true),
            (&none, &listed, true),
            (&none, &other, false),
            (&none, &bare, false),
            (&none, &json!({"metadata": {"name": "a"}, "spec": {}}), false),
            (&none, &of(&json!({"type": "vxlan"})), false),
            (&none, &of(&json!(["vxlan"])), false),
            (&none, &of(&json!(7)), false),
            (&none, &of(&none), false),
            (&vxlan, &vxlan, false),
            (&vxlan, &labelled, false),
            (&other, &vxlan, true),
            (&listed, &vxlan, true),
            (&vxlan, &other, false),
            (&bare, &vxlan, true),
            (&vxlan, &bare, false),
            (&other, &leaving, false),
        ] {
            assert_eq!(asked(webhook, before, after, &by(&[])), want, "{webhook}: {before} {after}");
        }
    }
}

#[test]
fn only_pods_with_an_annotation_of_ours_are_changed() {
    let none = Value::Null;
    for (after, want) in [
        (json!({"metadata": {"name": "p"}, "spec": {}}), false),
        (annotated(json!({})), false),
        (annotated(json!({"a": "b"})), false),
        (annotated(json!({NETWORKS: "lan"})), true),
        (annotated(json!({STATUS: "[]"})), true),
        (annotated(json!({"v1.multus-cni.io/default-network": "lan"})), true),
    ] {
        assert_eq!(asked("mutate-pods", &none, &after, &by(&["system:authenticated"])), want, "{after}");
        assert!(!asked("mutate-pods", &none, &after, &by(&["system:nodes"])), "{after}");
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

#[test]
fn objects_and_pods_of_dialects_are_asked_about_when_what_they_say_is_new() {
    let of = |subnet: &str, labels: Value| json!({"metadata": {"name": "a", "labels": labels}, "spec": {"plugin": "weave", "sub_subnet": subnet}});
    let (none, old) = (Value::Null, of("10.1.0.0/24", json!({})));
    for (before, after, want) in [
        (&none, &old, true),
        (&old, &of("10.1.0.0/24", json!({"a": "b"})), false),
        (&old, &of("10.2.0.0/24", json!({})), true),
    ] {
        assert_eq!(asked("genie", before, after, &by(&[])), want, "{before} {after}");
    }
    let config = |range: &str| json!({"metadata": {"name": "t"}, "hostDevices": [{"name": "ens3", "vniRange": range}]});
    for (before, after, want) in [
        (&none, &old, true),
        (&old, &of("10.1.0.0/24", json!({"a": "b"})), false),
        (&old, &of("10.2.0.0/24", json!({})), true),
        (&none, &config("7"), true),
        (&config("7"), &config("7"), false),
        (&config("7"), &config("8"), true),
        (&json!({"metadata": {"name": "t"}}), &config("8"), true),
    ] {
        assert_eq!(asked("danm", before, after, &by(&[])), want, "{before} {after}");
    }
    assert!(asked("mutate-danm", &none, &old, &by(&[])) && !asked("mutate-danm", &old, &old, &by(&[])));
    let template = |key: &str| json!({"metadata": {"name": "d"}, "spec": {"template": {"metadata": {"annotations": {key: "x"}}, "spec": {}}}});
    for (dialect, key) in [("danm", "danm.k8s.io/interfaces"), ("danm", "danm.io/interfaces"), ("knitter", "networks")]
    {
        let (pods, templates) = (format!("{dialect}-pods"), format!("{dialect}-templates"));
        let listed = annotated(json!({key: "[]"}));
        for (before, after, want) in
            [(&none, &listed, true), (&listed, &listed, false), (&none, &annotated(json!({NETWORKS: "a"})), false)]
        {
            assert_eq!(asked(&pods, before, after, &by(&[])), want, "{pods}: {before} {after}");
        }
        assert!(
            asked(&templates, &none, &template(key), &by(&[]))
                && !asked(&templates, &none, &template(NETWORKS), &by(&[]))
        );
    }
    let (plain, blank, listed) =
        (annotated(json!({"a": "b"})), annotated(json!({"cni": ""})), annotated(json!({"cni": "weave"})));
    for (before, after, want) in [
        (&none, &plain, false),
        (&none, &blank, true),
        (&none, &listed, true),
        (&blank, &listed, true),
        (&listed, &listed, false),
        (&listed, &plain, true),
    ] {
        assert_eq!(asked("genie-pods", before, after, &by(&["system:authenticated"])), want, "{before} {after}");
    }
    let agent = by(&["system:serviceaccounts", "system:serviceaccounts:kube-system"]);
    assert!(!asked("genie-pods", &blank, &listed, &agent), "the agent writes its choice");
    assert!(asked("genie-templates", &none, &template("cni"), &by(&[])));
    assert!(!asked("genie-templates", &none, &template(NETWORKS), &by(&[])));
    for (key, want) in [("genieNetworkPolicy", true), ("genieNetworkpolicy", true), ("other", false)] {
        assert_eq!(asked("genie-policies", &none, &annotated(json!({key: "[]"})), &by(&[])), want, "{key}");
    }
}
