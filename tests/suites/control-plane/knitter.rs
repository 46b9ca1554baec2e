//! Pods of Knitter by the agent: the names of their networks, which it keeps while the dialect is on.

use std::fs;
use std::path::Path;

use meta_cni_tests::cluster::ControlPlane;
use meta_cni_tests::node::Pod;
use serde_json::{Value, json};

use super::world::{World, nad, pod};

const HANDED: &str = "io.kubernetes.cri.pod-annotations";

/// An API server with the namespace of the administrator, and a node with these keys.
fn world(keys: Value) -> World {
    let mut world = World::new();
    world.plane.api().apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "admin"}})).unwrap();
    fs::write(world.node.path("node.json"), keys.to_string()).unwrap();
    for (key, value) in keys.as_object().unwrap() {
        world.node.conf[key] = value.clone();
    }
    world
}

fn define(world: &World, namespace: &str, name: &str, kind: &str, annotations: Value) {
    let config = json!({"cniVersion": "1.0.0", "type": kind, "fakeIps": [{"address": "10.1.0.2/24"}]});
    let mut object = nad(namespace, name, json!({"config": config.to_string()}));
    object["metadata"]["annotations"] = annotations;
    world.plane.api().apply(&object).unwrap();
}

fn public(name: &str) -> Value {
    json!({"meta-cni.io/knitter-name": name, "meta-cni.io/knitter-public": "true"})
}

/// A pod with these ports, and what the runtime hands over.
fn made(world: &World, name: &str, ports: &[(&str, &str)]) -> (Pod, Value) {
    let port = |(network, nic): &(&str, &str)| json!({"attach_to_network": network, "attributes": {"nic_name": nic}});
    let ports: Vec<Value> = ports.iter().map(port).collect();
    let annotations = json!({"networks": json!({"ports": ports}).to_string()});
    let made = world.plane.api().apply(&pod(name, annotations.clone())).unwrap();
    (world.node.sandbox(name, made["metadata"]["uid"].as_str().unwrap()), json!({HANDED: annotations}))
}

#[test]
fn the_names_of_networks_cost_no_call_of_the_api_server() {
    let mut world = world(json!({"dialects": ["knitter"]}));
    define(&world, "admin", "net-api", "one", public("net_api"));
    define(&world, "default", "control", "two", json!({}));
    world.start_agent();
    let ports = [("net_api", "eth0"), ("control", "ctl")];
    let add = |name: &str| {
        let (pod, handed) = made(&world, name, &ports);
        world.node.call("ADD", &pod).conf("runtimeConfig", handed).run().result();
    };
    add("first");
    assert_eq!(world.node.fakes.take_order(), ["ADD one eth0", "ADD two ctl"]);
    let reads = |world: &World| {
        let of =
            |verb: &str| world.requests(verb, "network-attachment-definitions", "") + world.requests(verb, "pods", "");
        of("GET") + of("LIST")
    };
    let before = reads(&world);
    add("second");
    assert_eq!(reads(&world), before, "definitions and names are known");
    assert_eq!(
        world.until("status", || world.status("second")),
        ["admin/net-api 10.1.0.2", "default/control 10.1.0.2"]
    );
    // The agent reads the annotation itself where no runtime hands it over.
    let (bare, _) = made(&world, "bare", &ports);
    world.node.fakes.take_order();
    world.add(&bare);
    assert_eq!(world.node.fakes.take_order(), ["ADD one eth0", "ADD two ctl"]);

    // What is missing comes later; a network that is private again is no longer had.
    let (late, handed) = made(&world, "late", &[("Media_1", "eth0")]);
    let add = |world: &World| world.node.call("ADD", &late).conf("runtimeConfig", handed.clone()).run();
    add(&world).refused(11, &["networks.ports[0].attach_to_network: no network-attachment-definition is \"Media_1\""]);
    define(&world, "admin", "media", "two", public("Media_1"));
    world.node.fakes.take_order();
    add(&world).result();
    assert_eq!(world.node.fakes.take_order(), ["ADD two eth0"]);
    world.node.del(&late).quiet();
    define(&world, "admin", "media", "two", json!({"meta-cni.io/knitter-name": "Media_1"}));
    world.until("network that is private", || {
        let outcome = add(&world);
        if !outcome.succeeded() {
            outcome.refused(11, &["\"Media_1\"", "meta-cni.io/knitter-public"]);
            return Ok(());
        }
        world.node.del(&late).quiet();
        Err(outcome.stdout())
    });
}

#[test]
fn an_agent_without_the_dialect_says_so_and_follows_no_names() {
    let mut world = world(json!({}));
    define(&world, "default", "lan", "one", json!({}));
    world.start_agent();
    let (pod, handed) = made(&world, "web", &[("lan", "eth0")]);
    world.node.call("ADD", &pod).conf("runtimeConfig", handed.clone()).run().result();
    assert_eq!(world.node.fakes.take_order(), ["ADD main eth0"], "it is nobody's");
    world.node.conf["dialects"] = json!(["knitter"]);
    let (other, handed) = made(&world, "other", &[("lan", "eth0")]);
    world
        .node
        .call("ADD", &other)
        .conf("runtimeConfig", handed)
        .run()
        .refused(7, &["network \"lan\"", "`dialects` differs"]);
}

/// What docs/dialects/knitter.md tells to apply.
#[test]
fn the_component_lets_editors_of_a_namespace_make_networks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/knitter-component");
    fs::create_dir_all(&root).unwrap();
    let kustomization = "resources: [../../deploy/kustomize]\ncomponents: [../../deploy/dialects/knitter]\n";
    fs::write(root.join("kustomization.yaml"), kustomization).unwrap();
    let plane = ControlPlane::start();
    let text = plane.kubectl(["kustomize", root.to_str().unwrap()]);
    fs::remove_dir_all(&root).unwrap();
    assert!(text.contains("name: meta-cni-knitter-tenant") && !text.contains("knitter-quota"), "{text}");
    let role = text.split("\n---\n").find(|object| object.contains("name: meta-cni-knitter-tenant")).unwrap();
    for part in ["aggregate-to-edit: \"true\"", "network-attachment-definitions", "addresssets"] {
        assert!(role.contains(part), "{part}: {role}");
    }
}
