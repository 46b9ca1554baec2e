//! Levels and policies on a real API server: what their schemas refuse by themselves, and what the agent hands out.

use meta_cni_tests::node::NETWORKS;
use serde_json::{Value, json};

use super::world::World;

fn policy(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentPolicy", "metadata": {"name": name}, "spec": spec})
}

fn level(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentLevel", "metadata": {"name": name}, "spec": spec})
}

fn label(world: &World, key: &str, value: &str) {
    let labels = json!({"metadata": {"labels": {key: value}}});
    world.plane.api().patch("/api/v1/namespaces/default", &labels).unwrap();
}

fn one_rule(rule: Value) -> Value {
    json!({"rules": [rule]})
}

/// With no webhook anywhere.
#[test]
fn the_schema_refuses_what_is_no_policy() {
    let world = World::new();
    world.install_policies();
    let api = world.plane.api();
    let rule = |assert: Value| json!({"name": "r", "select": "$.a", "assert": assert});
    for (spec, why) in [
        (json!({}), "spec.rules: Required value"),
        (json!({"rules": []}), "spec.rules in body should have at least 1 items"),
        (json!({"mode": "Ask", "rules": [rule(json!({"absent": true}))]}), "Unsupported value: \"Ask\""),
        (one_rule(json!({"name": "R_", "select": "$.a", "assert": {"absent": true}})), "spec.rules[0].name"),
        (one_rule(json!({"name": "r", "select": "a", "assert": {"absent": true}})), "spec.rules[0].select"),
        (
            one_rule(json!({"name": "r", "select": "$..a..b", "assert": {"absent": true}})),
            "at most one \"..\" is allowed",
        ),
        (
            one_rule(json!({"name": "r", "select": "$.a", "forEach": "$..a..b", "assert": {"absent": true}})),
            "at most one \"..\" is allowed",
        ),
        (
            one_rule(json!({"name": "r", "select": format!("$.{}", "a".repeat(511)), "assert": {"absent": true}})),
            "spec.rules[0].select: Too long",
        ),
        (one_rule(rule(json!({}))), "exactly one operator is allowed"),
        (one_rule(rule(json!({"absent": true, "oneOf": ["a"]}))), "exactly one operator is allowed"),
        (one_rule(rule(json!({"absent": false}))), "must be true"),
        (one_rule(rule(json!({"range": {}}))), "min, max or both are required"),
        (one_rule(rule(json!({"range": {"min": 2, "max": 1}}))), "min must not be above max"),
        (one_rule(rule(json!({"oneOf": [true]}))), "spec.rules[0].assert.oneOf[0]"),
        (one_rule(rule(json!({"within": ["10.0.0.0"]}))), "spec.rules[0].assert.within[0]"),
        (
            json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}, "rules": [rule(json!({"absent": true}))]}),
            "In and NotIn need values",
        ),
    ] {
        let refusal = api.apply(&policy("p", spec.clone())).unwrap_err();
        assert!(refusal.code == 422 && refusal.message.contains(why), "{spec}: {refusal}\nwant {why}");
    }
    // Apply finds it before validation does.
    let twice = json!({"rules": [rule(json!({"absent": true})), rule(json!({"unique": true}))]});
    let refusal = api.apply(&policy("p", twice)).unwrap_err();
    assert!(refusal.message.contains("duplicate entries for key [name=\"r\"]"), "{refusal}");
    for (name, spec, why) in [
        ("open", json!({}), "metadata.name must be baseline or restricted"),
        ("privileged", json!({}), "metadata.name must be baseline or restricted"),
        ("baseline", json!({"vniRanges": [{"min": 0, "max": 1}]}), "spec.vniRanges[0].min"),
        ("baseline", json!({"vniRanges": [{"min": 2, "max": 1}]}), "min must not be above max"),
    ] {
        let refusal = api.apply(&level(name, spec)).unwrap_err();
        assert!(refusal.code == 422 && refusal.message.contains(why), "{name}: {refusal}\nwant {why}");
    }

    let whole = json!({
        "namespaceSelector": {"matchLabels": {"tenant": "a"}, "matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["x"]}]},
        "appliesTo": ["NetworkAttachmentDefinition", "Pod"], "mode": "Enforce",
        "exempt": {"groups": ["system:masters"], "namespaces": ["kube-system"]},
        "rules": [
            {"name": "vnis", "select": "$.config.plugins[*].vni", "assert": {"ranges": [{"min": 4000, "max": 4099}]}, "onMissing": "Pass"},
            {"name": "masters", "forEach": "$.config.plugins[?@.type == 'macvlan']", "select": "$.master",
                "assert": {"oneOf": ["eth1", 7]}, "message": "ask the network team"},
            {"name": "addresses", "select": "$.config.plugins[*].subnets[*]", "assert": {"within": ["10.64.0.0/12", "fd00::/8"]}},
        ],
    });
    let stored = api.apply(&policy("p", whole.clone())).unwrap();
    assert_eq!(stored["spec"], whole, "nothing of it is lost");
    for shipped in ["baseline", "restricted"] {
        world.plane.kubectl(["apply", "-f", &super::world::shipped(&format!("levels/{shipped}.yaml"))]);
    }
}

#[test]
fn levels_and_policies_hold_at_add_for_static_pods_and_old_definitions() {
    let mut world = World::new();
    world.install_policies();
    world.nad("lan");
    world.start_agent();
    let before = world.pod("before", "lan");
    let result = world.add(&before).result();

    // The kubelet's static pod: its mirror passes no webhook, and the runtime hands over what its file says.
    let mirror = world.node.sandbox("static", "u-1");
    let attaches = |networks: &str| {
        let outcome = world.handed(&mirror, networks).run();
        world.node.del(&mirror).quiet();
        if outcome.succeeded() { Ok(()) } else { Err(outcome.stdout()) }
    };
    let refused = |what: &str, text: &str| {
        world.until(what, || match attaches("lan") {
            Err(said) if said.contains("\"code\":7,") && said.replace("\\\"", "\"").contains(text) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    attaches("lan").unwrap();
    label(&world, "meta-cni.io/level", "baseline");
    refused(
        "level",
        r#"network-attachment-definition default/lan: spec.config.type: Forbidden: "one": level "baseline" rule "types" allows "#,
    );
    let api = world.plane.api();
    api.apply(&level("baseline", json!({"programs": ["one"]}))).unwrap();
    world.until("what was opened", || attaches("lan"));

    let rule = json!({"name": "addresses", "select": "$.config.plugins[*].fakeIps[*].address", "assert": {"within": ["10.64.0.0/12"]}});
    api.apply(&policy("tenant-a", json!({"namespaceSelector": {"matchLabels": {"tenant": "a"}}, "rules": [rule]})))
        .unwrap();
    attaches("lan").unwrap();
    label(&world, "tenant", "a");
    let text = r#"spec.config.fakeIps[0].address: Forbidden: "10.43.0.10/24": policy "tenant-a" rule "addresses" allows 10.64.0.0/12"#;
    refused("policy", &format!("network-attachment-definition default/lan: {text}"));
    // The same for a pod whose annotations the agent tells, with an event.
    let asked = world.pod("asked", "lan");
    let refusal = world.node.add(&asked).refused(7, &[text]);
    assert!(
        refusal.msg.contains(&format!("metadata.annotations[{NETWORKS}][0] (default/lan spec.config")),
        "{}",
        refusal.msg
    );
    world.until("event", || match world.events("asked") {
        events if events.iter().any(|(reason, said)| reason == "FailedAddingInterface" && said.contains(text)) => {
            Ok(())
        }
        events => Err(format!("{events:?}")),
    });
    // Pods without networks, and those that are attached already.
    world.add(&world.pod("plain", ""));
    world.node.check(&before, &result).quiet();
    world.node.del(&before).quiet();

    // What is known outlives the agent and the API server.
    world.kill_agent();
    world.plane.kill_api();
    let kubeconfig = world.node.path("agent.kubeconfig");
    world.launch_agent(&kubeconfig);
    world.until("agent that answers", || world.health(&[]));
    let said = world.handed(&mirror, "lan").run();
    said.refused(7, &[text]);
    world.plane.start_api();
    world.plane.api().delete("/apis/meta-cni.io/v1alpha1/attachmentpolicies/tenant-a").unwrap();
    world.until("end of the policy", || {
        let outcome = world.handed(&mirror, "lan").run();
        world.node.del(&mirror).quiet();
        if outcome.succeeded() { Ok(()) } else { Err(outcome.stdout()) }
    });
}

/// An installation without the kinds, as every one is that was made before them.
#[test]
fn a_cluster_that_knows_no_policies_has_none() {
    let world = World::served();
    world.nad("lan");
    world.add(&world.pod("web", "lan"));
    label(&world, "meta-cni.io/level", "restricted");
    let pod = world.pod("other", "lan");
    world.until("level", || {
        let outcome = world.node.add(&pod);
        world.node.del(&pod).quiet();
        if outcome.stdout().contains("restricted") { Ok(()) } else { Err(outcome.stdout()) }
    });
}
