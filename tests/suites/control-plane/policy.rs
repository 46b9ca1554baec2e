//! What a token of the agent is good for, and what for not: the shipped rights and policy on a real API server.

use std::collections::BTreeMap;

use meta_cni_tests::cluster::Api;
use meta_cni_tests::node::{NETWORKS, STATUS};
use serde_json::{Value, json};

use super::world::{NODE, World, pod};

const MERGE: &str = "/api/v1/namespaces/default/pods/web/status";

fn with(world: &World, token: &str) -> Api {
    Api::new(&world.plane.kubeconfig_with(token))
}

fn status(text: &str) -> Value {
    json!({"metadata": {"annotations": {STATUS: text}}})
}

/// Waits until the API server has the policy in force, which takes it a moment: a stranger is refused.
fn in_force(world: &World, patch: &Value) {
    let nameless = with(world, &world.plane.token_of("kube-system", "meta-cni"));
    world.until("policy in force", || match nameless.patch(MERGE, patch) {
        Err(refusal) if refusal.code == 403 => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn world() -> World {
    let world = World::new();
    let mut object = pod("web", json!({NETWORKS: "lan"}));
    object["metadata"]["labels"] = json!({"app": "web"});
    object["metadata"]["finalizers"] = json!(["example.com/kept"]);
    world.plane.api().apply(&object).unwrap();
    let kubelet = json!({"status": {"phase": "Running", "podIP": "192.0.2.2", "podIPs": [{"ip": "192.0.2.2"}], "conditions": [
        {"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"},
    ]}});
    world.plane.api().patch(MERGE, &kubelet).unwrap();
    in_force(&world, &status("[]"));
    world
}

#[test]
fn an_agent_writes_its_annotation_and_conditions_on_pods_of_its_node() {
    let world = world();
    let mut tokens = BTreeMap::from([("pod", world.token())]);
    let node = world.plane.api().get(&format!("/api/v1/nodes/{NODE}")).unwrap();
    tokens.insert("node", world.plane.token_bound_to("kube-system", "meta-cni", &node));
    let conditions = |text: &str| {
        json!([
            {"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"},
            {"type": "meta-cni.io/attached", "status": text},
        ])
    };
    for (whose, token) in tokens {
        let agent = with(&world, &token);
        agent.patch(MERGE, &status("[1]")).unwrap_or_else(|refusal| panic!("{whose}: {refusal}"));
        agent.patch(MERGE, &status("[2]")).unwrap_or_else(|refusal| panic!("{whose}: {refusal}"));
        for text in ["True", "False"] {
            let patch = json!({"status": {"conditions": conditions(text)}});
            let read = agent.patch(MERGE, &patch).unwrap_or_else(|refusal| panic!("{whose}: {refusal}"));
            assert_eq!(read["status"]["conditions"][2]["status"], text, "{whose}");
        }
        agent.patch(MERGE, &json!({"metadata": {"annotations": {STATUS: null}}})).unwrap();
    }
}

#[test]
fn an_agent_changes_nothing_else_of_a_pod() {
    let world = world();
    let agent = with(&world, &world.token());
    let ready = |text: &str| json!({"status": {"conditions": [{"type": "Ready", "status": text}, {"type": "Initialized", "status": "True"}]}});
    for (patch, words) in [
        (json!({"metadata": {"annotations": {NETWORKS: "other"}}}), "annotations and no other"),
        (json!({"metadata": {"annotations": {NETWORKS: null}}}), "annotations and no other"),
        (json!({"metadata": {"annotations": {"example.com/new": "x"}}}), "annotations and no other"),
        (json!({"metadata": {"labels": {"app": "other"}}}), "no metadata"),
        (json!({"metadata": {"labels": {"new": "x"}}}), "no metadata"),
        (json!({"metadata": {"labels": null}}), "no metadata"),
        (json!({"metadata": {"finalizers": null}}), "no metadata"),
        (json!({"metadata": {"finalizers": ["example.com/kept", "example.com/new"]}}), "no metadata"),
        (json!({"status": {"phase": "Failed"}}), "nothing in a pod's status"),
        (json!({"status": {"podIP": "192.0.2.66", "podIPs": [{"ip": "192.0.2.66"}]}}), "nothing in a pod's status"),
        (json!({"status": {"podIP": null, "podIPs": null}}), "nothing in a pod's status"),
        (json!({"status": {"reason": "Evicted"}}), "nothing in a pod's status"),
        (ready("False"), "meta-cni.io/ and no other"),
        (json!({"status": {"conditions": null}}), "meta-cni.io/ and no other"),
        (json!({"metadata": {"annotations": {STATUS: "[]"}, "labels": {"app": "other"}}}), "no metadata"),
    ] {
        let refusal = agent.patch(MERGE, &patch).expect_err(&patch.to_string());
        assert_eq!(refusal.code, 403, "{patch}: {refusal}");
        assert!(
            refusal.message.contains("meta-cni-agent-pods") && refusal.message.contains(words),
            "{patch}: {refusal}"
        );
    }
    let whole = "/api/v1/namespaces/default/pods/web";
    assert_eq!(
        agent.patch(whole, &status("[]")).unwrap_err().code,
        403,
        "only the status is the agent's by its rights"
    );
    // Whoever is no agent is not held to any of this.
    world.plane.api().patch(MERGE, &ready("False")).unwrap();
}

#[test]
fn an_agent_of_another_node_or_of_none_is_refused() {
    let world = world();
    world.plane.api().apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}})).unwrap();
    let refused = |token: &str, words: &str| {
        let refusal = with(&world, token).patch(MERGE, &status("[]")).unwrap_err();
        assert!(refusal.code == 403 && refusal.message.contains(words), "{refusal}");
    };
    refused(&world.token_of_pod_on("n2"), "the agent of node n2, and the pod is not on that node");
    refused(&world.plane.token_of("kube-system", "meta-cni"), "names no node");
    let mut nowhere = pod("nowhere", json!({}));
    nowhere["spec"].as_object_mut().unwrap().remove("nodeName");
    world.plane.api().apply(&nowhere).unwrap();
    let path = "/api/v1/namespaces/default/pods/nowhere/status";
    let refusal = with(&world, &world.token()).patch(path, &status("[]")).unwrap_err();
    assert!(refusal.message.contains("is not on that node"), "{refusal}");
}

#[test]
fn an_agents_events_are_told_in_its_own_name_about_pods() {
    let world = world();
    let (agent, admin) = (with(&world, &world.token()), world.plane.api());
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = |name: &str, controller: &str, instance: &str, kind: &str| {
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"namespace": "default", "name": name},
            "eventTime": "2030-01-01T00:00:00.000000Z", "type": "Normal", "reason": "AddedInterface", "action": "AddInterface",
            "reportingController": controller, "reportingInstance": instance, "note": "x",
            "regarding": {"apiVersion": "v1", "kind": kind, "namespace": "default", "name": "web"},
        })
    };
    agent.post(events, &event("ours", "meta-cni", NODE, "Pod")).unwrap();
    let series = json!({"series": {"count": 2, "lastObservedTime": "2030-01-01T00:00:01.000000Z"}});
    agent.patch(&format!("{events}/ours"), &series).unwrap();
    admin.post(events, &event("theirs", "kubelet", NODE, "Pod")).unwrap();
    for (what, answer) in [
        ("another's name", agent.post(events, &event("a", "kubelet", NODE, "Pod"))),
        ("another node's", agent.post(events, &event("b", "meta-cni", "n2", "Pod"))),
        ("no pod", agent.post(events, &event("c", "meta-cni", NODE, "ConfigMap"))),
        ("another's event", agent.patch(&format!("{events}/theirs"), &series)),
    ] {
        let refusal = answer.expect_err(what);
        assert!(refusal.code == 403 && refusal.message.contains("meta-cni-agent-events"), "{what}: {refusal}");
    }
}
