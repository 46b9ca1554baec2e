//! A Node says what it can serve, by labels that its agent alone may write.

use meta_cni_tests::cluster::Api;
use serde_json::{Value, json};

use super::rights::forbidden;
use super::stage::Stage;
use crate::world::shipped;

const NODES: &str = "/api/v1/nodes";

fn labels(api: &Api, node: &str) -> Vec<String> {
    let node = api.get(&format!("{NODES}/{node}")).unwrap();
    node["metadata"]["labels"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

#[test]
fn a_node_says_what_it_can_serve_while_the_switch_is_on() {
    let mut stage = Stage::new(&["a", "b"]);
    let files = [shipped("node-labels/rbac.yaml"), shipped("node-labels/policy.yaml")];
    stage.world.plane.kubectl(["apply", "-f", &files[0], "-f", &files[1]]);
    let api = stage.world.plane.api();
    let (a, b) = (format!("{NODES}/a"), format!("{NODES}/b"));
    let label = |key: &str, value: Value| json!({"metadata": {"labels": {key: value}}});
    api.patch(&a, &label("rack", json!("r1"))).unwrap();
    stage.world.plane.space().run("ip tuntap add dev up7 mode tap");
    stage.start("b");
    stage.labels = true;
    stage.start("a");
    let want = ["rack", "meta-cni.io/link-up7", "meta-cni.io/driver-macvlan", "meta-cni.io/program-one"];
    let has_all = || {
        let found = labels(&api, "a");
        if want.iter().all(|key| found.iter().any(|one| one == key)) { Ok(found) } else { Err(format!("{found:?}")) }
    };
    let all = stage.until("a", "labels", has_all);
    assert!(!all.iter().any(|key| key.contains("link-lo") || key.contains("program-bridge")), "{all:?}");
    // What somebody takes away comes back, and what is there is not written again.
    api.patch(&a, &label("meta-cni.io/link-up7", Value::Null)).unwrap();
    stage.until("a", "label that is back", has_all);
    assert_eq!(labels(&api, "b"), Vec::<String>::new());

    let agent = Api::new(&stage.world.plane.kubeconfig_with(&stage.world.token_of_pod_on("a")));
    stage.world.until("policy in force", || match agent.patch(&b, &label("meta-cni.io/link-x", json!("true"))) {
        Err(refusal) if refusal.message.contains("its own Node and no other") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    forbidden(agent.patch(&a, &label("rack", json!("r2"))), "the labels meta-cni.io/link-, driver- and program-");
    forbidden(agent.patch(&a, &label("meta-cni.io/level", json!("x"))), "the labels meta-cni.io/link-");
    forbidden(agent.patch(&a, &json!({"metadata": {"annotations": {"x": "y"}}})), "no metadata of a Node but labels");
    forbidden(agent.patch(&a, &json!({"spec": {"unschedulable": true}})), "nothing in a Node but labels");

    stage.kill("a");
    stage.labels = false;
    stage.start("a");
    stage.until("a", "Node without labels of ours", || {
        let left = labels(&api, "a");
        if left == ["rack"] { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
