//! When the node joins: for a pod that was judged, and for no other one.

use serde_json::json;

use super::stage::{Stage, join, resolve_with};

fn level(stage: &Stage, level: &str) {
    let labels = json!({"metadata": {"labels": {"meta-cni.io/level": level}}});
    stage.world.plane.api().patch("/api/v1/namespaces/default", &labels).unwrap();
}

#[test]
fn a_pod_that_is_refused_claims_nothing_and_the_next_one_does() {
    let mut stage = Stage::new(&[]);
    stage.world.install_policies();
    let ipam = json!({"type": "blocks", "subnet": "10.42.0.0/24"});
    stage.define("lan", json!({"cniVersion": "1.1.0", "type": "one", "ipam": ipam}));
    level(&stage, "baseline");
    stage.world.start_agent();
    let pod = stage.world.pod("web", "lan");
    let refused = stage.world.handed(&pod, "lan").run();
    assert!(!refused.succeeded() && refused.stdout().contains("level \\\"baseline\\\""), "{}", refused.stdout());
    assert_eq!(stage.names("addressblocks"), Vec::<String>::new());
    assert!(!stage.world.node.path("state/networks").exists());
    level(&stage, "privileged");
    stage.world.until("ADD of a pod that may", || {
        let added = stage.world.handed(&pod, "lan").run();
        if added.succeeded() { Ok(()) } else { Err(added.stdout()) }
    });
    assert_eq!(stage.names("addressblocks").len(), 1);
}

#[test]
fn for_a_plugin_that_sends_no_join_the_node_joins_before_the_answer() {
    let mut stage = Stage::new(&["a"]);
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/16");
    let socket = stage.dir("a").join("run/agent.sock");
    let resolve = |more| resolve_with(&socket, "red", more);
    assert_eq!(resolve(json!({"waitMs": 10_000, "joins": true}))["kind"], "resolved");
    assert_eq!(stage.names("vniclaims"), Vec::<String>::new(), "the plugin will ask");
    assert_eq!(resolve(json!({"waitMs": 10_000}))["kind"], "resolved");
    assert_eq!(stage.names("overlaymembers"), ["4789-4200.a"]);
}

#[test]
fn two_networks_of_a_pod_that_overlap_are_told_of_once() {
    let mut stage = Stage::new(&["a"]);
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/16");
    stage.overlay("blue", 4201, "10.42.7.0/24");
    let socket = stage.dir("a").join("run/agent.sock");
    let pod = stage.world.plane.api().apply(&crate::world::pod("both", json!({}))).unwrap();
    let pod = json!({"namespace": "default", "name": "both", "uid": pod["metadata"]["uid"]});
    let both = ["red", "blue"].map(|name| json!({"namespace": "default", "name": name}));
    for _ in 0..3 {
        let answer = join(&socket, pod.clone(), &both, 10_000);
        assert_eq!(answer["kind"], "noted", "they are separate: {answer}");
    }
    let told = stage.until("a", "event", || {
        let told = stage.world.events("both");
        if told.is_empty() { Err("none".to_owned()) } else { Ok(told) }
    });
    let (reason, text) = &told[0];
    assert!(
        reason == "OverlappingSubnets" && text.contains("default/red") && text.contains("10.42.7.0/24"),
        "{told:?}"
    );
    assert_eq!(told.len(), 1, "{told:?}");
}
