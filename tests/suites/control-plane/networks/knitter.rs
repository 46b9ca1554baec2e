//! Groups of addresses in Knitter's words: AddressSets, by the names that its pods have for networks and groups.

use std::fs;

use serde_json::{Value, json};

use super::sets::{detach, lease, roll};
use super::stage::Stage;
use crate::world::ask;

/// Nodes that speak the dialect, a network that its pods know as `Lan_1`, and a group of three.
fn stage(nodes: &[&str]) -> Stage {
    let mut stage = Stage::new(nodes);
    for node in nodes {
        fs::write(stage.dir(node).join("config.json"), json!({"dialects": ["knitter"]}).to_string()).unwrap();
    }
    stage.start_all();
    let ipam = json!({"type": "blocks", "subnet": "10.42.0.0/24", "blockSize": 8});
    let config = json!({"cniVersion": "1.1.0", "type": "macvlan", "master": "eth1", "ipam": ipam});
    let definition = json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": "default", "name": "lan", "annotations": {"meta-cni.io/knitter-name": "Lan_1"}},
        "spec": {"config": config.to_string()},
    });
    let set = json!({
        "apiVersion": "meta-cni.io/v1alpha1", "kind": "AddressSet", "metadata": {"namespace": "default", "name": "web"},
        "spec": {"network": "lan", "addresses": ["10.42.0.200", "10.42.0.100", "10.42.0.150"]},
    });
    for object in [definition, set] {
        stage.world.plane.api().apply(&object).unwrap();
    }
    stage
}

/// A pod of a node with one port of a group; what an ADD needs to know of it.
fn pod(stage: &Stage, node: &str, name: &str, group: &str) -> Value {
    let attributes = json!({"nic_name": "eth0", "ip_group_name": group});
    let ports = json!({"ports": [{"attach_to_network": "Lan_1", "attributes": attributes}]});
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "annotations": {"networks": ports.to_string()}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "registry.k8s.io/pause"}]},
    });
    let object = stage.world.plane.api().apply(&object).unwrap();
    json!({"namespace": "default", "name": name, "uid": object["metadata"]["uid"]})
}

fn resolve(stage: &Stage, node: &str, pod: &Value) -> Value {
    let alias = json!({"name": "Lan_1", "namespace": "default", "shared": "admin"});
    let body = json!({
        "pod": pod, "aliases": [alias], "multusNamespace": "kube-system", "waitMs": 15_000, "policies": true,
    });
    ask(&stage.dir(node).join("run/agent.sock"), &json!({"newest": 1, "oldest": 1, "kind": "resolve", "body": body}))
}

#[track_caller]
fn attach(stage: &Stage, node: &str, name: &str) -> u32 {
    let answer = resolve(stage, node, &pod(stage, node, name, "Web"));
    assert_eq!(answer["body"]["aliases"][0]["found"], json!([{"namespace": "default", "name": "lan"}]), "{answer}");
    lease(stage, node, name)
}

/// K2 and K3.
#[test]
fn a_group_keeps_its_addresses_over_rollouts_and_a_fourth_pod_waits() {
    let stage = stage(&["a", "b"]);
    let mut held: Vec<(&str, String, u32)> = ["a", "b", "a"]
        .into_iter()
        .enumerate()
        .map(|(i, node)| (node, format!("web-0-{i}"), attach(&stage, node, &format!("web-0-{i}"))))
        .collect();
    assert_eq!(held.iter().map(|(.., slot)| *slot).collect::<Vec<_>>(), [200, 100, 150]);
    let fourth = pod(&stage, "b", "fourth", "Web");
    let answer = resolve(&stage, "b", &fourth);
    let said = answer["body"]["message"].as_str().unwrap();
    let want = "network-attachment-definition default/lan: all 3 addresses of AddressSet default/web are in use by default/web-0-0, default/web-0-1, default/web-0-2";
    assert_eq!((answer["body"]["cause"].as_str(), said), (Some("later"), want));
    detach(&stage, "a", "web-0-0", 200);
    assert_eq!(resolve(&stage, "b", &fourth)["kind"], "resolved", "{}", stage.log("b"));
    assert_eq!(lease(&stage, "b", "fourth"), 200);
    held[0] = ("b", "fourth".to_owned(), 200);
    roll(&stage, &mut held, 3, attach);
    assert_eq!(stage.names("addressclaims").len(), 3);
}

#[test]
fn a_group_that_is_not_there_is_told_in_knitters_word() {
    let stage = stage(&["a"]);
    let answer = resolve(&stage, "a", &pod(&stage, "a", "web", "none"));
    assert_eq!(answer["body"]["cause"], "later", "{answer}");
    assert_eq!(
        answer["body"]["message"],
        "network-attachment-definition default/lan: ip_group_name: no AddressSet \"none\" for network \"lan\" in namespaces default"
    );
}
