//! Pods and objects of CNI-Genie by the agent: followed with the dialect on, left alone without.

use std::fs;
use std::path::Path;
use std::time::Duration;

use meta_cni_tests::cluster::{Api, ControlPlane, wait};
use meta_cni_tests::node::{NETWORKS, Pod};
use serde_json::{Value, json};

use super::world::{World, pod, shipped};

const HANDED: &str = "io.kubernetes.cri.pod-annotations";

fn conf(name: &str, kind: &str, address: &str) -> Value {
    json!({"cniVersion": "1.0.0", "name": name, "type": kind, "fakeIps": [{"address": address}]})
}

/// An API server and a node with the files `one` and `two`, and with these keys.
fn world(keys: Value) -> World {
    let mut world = World::new();
    world.plane.kubectl([
        "apply",
        "-f",
        &shipped("dialects/genie/crds.yaml"),
        "-f",
        &shipped("dialects/genie/rbac.yaml"),
    ]);
    for plural in ["logicalnetworks", "physicalnetworks"] {
        let crd = format!("crd/{plural}.alpha.network.k8s.io");
        world.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", &crd]);
    }
    let (file, patch) = (shipped("dialects/genie/policy.yaml"), "--patch-file");
    let policy = "validatingadmissionpolicy/meta-cni-agent-pods";
    world.plane.kubectl(["patch", policy, "--type=json", patch, &file]);
    // The API server takes a moment until the policy is in force.
    let agent = Api::new(&world.plane.kubeconfig_with(&world.token()));
    world.plane.api().apply(&pod("probe", json!({}))).unwrap();
    let allowed = json!({"metadata": {"annotations": {"multi-ip-preferences": "{}"}}});
    wait::until("policy in force", Duration::from_secs(30), || {
        agent.patch("/api/v1/namespaces/default/pods/probe/status", &allowed).map_err(|refusal| refusal.to_string())
    });
    for (file, conf) in [
        ("conf/10-br-a.conf", conf("br-a", "one", "10.1.0.2/24")),
        ("conf/20-br-b.conf", conf("br-b", "two", "10.2.0.2/24")),
    ] {
        fs::write(world.node.path(file), conf.to_string()).unwrap();
    }
    world.node.conf["runtimeConfDir"] = json!(world.node.path("runtime"));
    fs::write(world.node.path("node.json"), keys.to_string()).unwrap();
    for (key, value) in keys.as_object().unwrap() {
        world.node.conf[key] = value.clone();
    }
    world
}

fn object(world: &World, kind: &str, name: &str, spec: Value) {
    let object = json!({
        "apiVersion": "alpha.network.k8s.io/v1", "kind": kind,
        "metadata": {"namespace": "default", "name": name}, "spec": spec,
    });
    world.plane.api().apply(&object).unwrap();
}

fn made(world: &World, name: &str, annotations: Value) -> Pod {
    let made = world.plane.api().apply(&pod(name, annotations)).unwrap();
    world.node.sandbox(name, made["metadata"]["uid"].as_str().unwrap())
}

fn annotation(world: &World, name: &str, key: &str) -> Option<String> {
    let pod = world.plane.api().get(&format!("/api/v1/namespaces/default/pods/{name}")).unwrap();
    pod["metadata"]["annotations"][key].as_str().map(str::to_owned)
}

#[test]
fn a_logical_network_comes_by_the_agent_and_the_addresses_are_written() {
    let mut world = world(json!({"dialects": ["genie"]}));
    object(&world, "Logicalnetwork", "net1", json!({"plugin": "br-a", "sub_subnet": "10.32.20.0/24"}));
    let shared = json!({"plugin": "br-b", "subnet": "10.33.0.0/16", "dedicatedNet": true});
    object(&world, "Physicalnetwork", "phys", json!({"sharedStatus": shared}));
    object(&world, "Logicalnetwork", "net2", json!({"physicalNet": "phys"}));
    world.start_agent();
    let annotations = json!({"cni": "", "networks": "net1@eth0,net2:eth4"});
    let web = made(&world, "web", annotations.clone());
    let reads = |world: &World| world.requests("GET", "logicalnetworks", "") + world.requests("GET", "pods", "");
    world.until("followed objects", || {
        let log = world.log();
        let all = log.contains("logicalnetworks: listed") && log.contains("physicalnetworks: listed");
        if all { Ok(()) } else { Err("not listed".to_owned()) }
    });
    let before = reads(&world);
    world.node.call("ADD", &web).conf("runtimeConfig", json!({HANDED: annotations})).run().result();
    assert_eq!(reads(&world), before, "a dialect costs no call of the API server");
    let calls = world.node.fakes.calls_of("ADD");
    let subnets: Vec<_> = calls.iter().map(|call| call.conf()["ipam"]["subnet"].clone()).collect();
    assert_eq!(subnets, [json!("10.32.20.0/24"), json!("10.33.0.0/16")]);
    let preferences = r#"{"multi_entry":2,"ips":{"ip1":{"ip":"10.1.0.2","interface":"eth0"},"ip2":{"ip":"10.2.0.2","interface":"eth4"}}}"#;
    world.until("addresses in the pod", || match annotation(&world, "web", "multi-ip-preferences") {
        Some(text) if text == preferences => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(world.status("web").unwrap(), ["br-a 10.1.0.2", "br-b 10.2.0.2"]);
    // The agent reads the annotations itself where no runtime hands them over.
    let bare = made(&world, "bare", json!({"cni": "br-b"}));
    world.node.fakes.take_order();
    world.add(&bare);
    assert_eq!(world.node.fakes.take_order(), ["ADD two eth0"]);
    let gone = made(&world, "gone", json!({"cni": "", "networks": "none"}));
    world.node.add(&gone).refused(11, &["cannot find Logicalnetwork none in namespace default"]);
}

#[test]
fn a_choice_is_written_to_the_pod_and_kept() {
    let keys = json!({"dialects": ["genie"], "genie": {"loadPrefixes": [
        {"plugin": "none", "prefixes": ["no-such-link"]}, {"plugin": "br-b", "prefixes": ["lo"]},
    ]}});
    let mut world = world(keys);
    world.start_agent();
    let pod = made(&world, "web", json!({"cni": " "}));
    let add = |pod: &Pod| world.node.call("ADD", pod).conf("runtimeConfig", json!({HANDED: {"cni": " "}})).run();
    add(&pod).result();
    assert_eq!(world.node.fakes.take_order(), ["ADD two eth0"]);
    assert_eq!(annotation(&world, "web", "cni").as_deref(), Some("br-b"));
    // A sandbox that is made anew has the annotations of the first, and the pod its network.
    world.node.del(&pod).quiet();
    let other = json!({"metadata": {"annotations": {"cni": "br-a"}}});
    world.plane.api().patch("/api/v1/namespaces/default/pods/web", &other).unwrap();
    world.until("the choice of before", || {
        world.node.fakes.take_order();
        add(&pod).result();
        let order = world.node.fakes.take_order();
        world.node.del(&pod).quiet();
        if order == ["ADD one eth0"] { Ok(()) } else { Err(format!("{order:?}")) }
    });
}

#[test]
fn an_annotation_of_npwg_beside_one_of_genie_is_told_once() {
    let mut world = world(json!({"dialects": ["genie"]}));
    world.nad("lan");
    world.start_agent();
    let annotations = json!({"cni": "br-a", NETWORKS: "lan"});
    let pod = made(&world, "web", annotations.clone());
    world.node.call("ADD", &pod).conf("runtimeConfig", json!({HANDED: annotations})).run().result();
    assert_eq!(world.node.fakes.take_order(), ["ADD main eth0", "ADD one net1"]);
    let ignored = |world: &World| -> Vec<String> {
        let events = world.events("web").into_iter().filter(|(reason, _)| reason == "DialectIgnored");
        events.map(|(_, text)| text).collect()
    };
    let told = world.until("event", || match ignored(&world) {
        told if told.is_empty() => Err(format!("{:?}", world.events("web"))),
        told => Ok(told),
    });
    assert!(told.len() == 1 && told[0].contains("annotation cni counts for nothing"), "{told:?}");
}

#[test]
fn without_the_dialect_nothing_of_it_is_read_or_followed() {
    let mut world = world(json!({}));
    object(&world, "Logicalnetwork", "net1", json!({"plugin": "br-a"}));
    world.start_agent();
    let annotations = json!({"cni": "", "networks": "net1"});
    let pod = made(&world, "web", annotations.clone());
    world.node.call("ADD", &pod).conf("runtimeConfig", json!({HANDED: annotations})).run().result();
    world.until("status", || world.status("web"));
    assert_eq!(world.node.fakes.take_order(), ["ADD main eth0"]);
    assert_eq!(annotation(&world, "web", "multi-ip-preferences"), None);
    for verb in ["LIST", "WATCH", "GET"] {
        assert_eq!(world.requests(verb, "logicalnetworks", ""), 0, "{verb}");
    }
    assert!(world.events("web").iter().all(|(reason, _)| reason != "DialectIgnored"));
    // A node whose plugin was told of the dialect, and its agent was not.
    world.node.conf["dialects"] = json!(["genie"]);
    let two = made(&world, "two", json!({"cni": "br-a,br-b"}));
    world.node.call("ADD", &two).conf("runtimeConfig", json!({HANDED: {"cni": "br-a,br-b"}})).run().result();
    world.until("status without the rest", || world.status("two"));
    assert_eq!(annotation(&world, "two", "multi-ip-preferences"), None);
    let other = made(&world, "other", json!({"cni": "", "networks": "net1"}));
    let handed = json!({HANDED: {"cni": "", "networks": "net1"}});
    world
        .node
        .call("ADD", &other)
        .conf("runtimeConfig", handed)
        .run()
        .refused(7, &["Logicalnetwork default/net1", "`dialects` differs"]);
}

/// What docs/dialects/genie.md tells to apply.
#[test]
fn the_component_gives_kinds_rights_and_the_words_of_the_policy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/genie-component");
    fs::create_dir_all(&root).unwrap();
    let kustomization = "resources: [../../deploy/kustomize]\ncomponents: [../../deploy/dialects/genie]\n";
    fs::write(root.join("kustomization.yaml"), kustomization).unwrap();
    let text = ControlPlane::start().kubectl(["kustomize", root.to_str().unwrap()]);
    for part in [
        "name: logicalnetworks.alpha.network.k8s.io",
        "name: physicalnetworks.alpha.network.k8s.io",
        "name: meta-cni-genie",
        "multi-ip-preferences",
    ] {
        assert!(text.contains(part), "{part}");
    }
    fs::remove_dir_all(&root).unwrap();
}
