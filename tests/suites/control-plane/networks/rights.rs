//! What the token of one node's agent is good for among claims, members and blocks, and what for not.

use meta_cni_tests::cluster::Api;
use serde_json::{Value, json};

use super::stage::{Stage, path};

fn object(kind: &str, name: &str, node: Option<&Value>, spec: Value) -> Value {
    let network = name.split_once('.').map_or(name, |(network, _)| network);
    let mut object = json!({
        "apiVersion": "meta-cni.io/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {"name": name, "labels": {"meta-cni.io/network": network}},
    });
    if let Some(node) = node {
        let metadata = &node["metadata"];
        object["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Node", "name": metadata["name"], "uid": metadata["uid"]}]);
    }
    object
}

fn member(node: &Value, of: &str) -> Value {
    let spec =
        json!({"network": "4789-7", "node": of, "vteps": ["192.0.2.1"], "mac": "02:00:00:00:00:01", "mtu": 1450});
    object("OverlayMember", &format!("4789-7.{of}"), Some(node), spec)
}

fn block(node: &Value, first: u32, runs: Value) -> Value {
    let spec = json!({"network": "4789-7", "first": first, "count": 64, "addresses": [format!("10.0.0.{first}")], "runs": runs});
    object("AddressBlock", &format!("4789-7.b{first}"), Some(node), spec)
}

fn claim(owner: &str) -> Value {
    object(
        "VniClaim",
        "4789-7",
        None,
        json!({"port": 4789, "vni": 7, "owner": {"namespace": "default", "name": owner}}),
    )
}

#[track_caller]
pub fn forbidden<T: std::fmt::Debug>(answer: Result<T, meta_cni_tests::cluster::Refusal>, words: &str) {
    let refusal = answer.unwrap_err();
    assert!(refusal.code == 403 && refusal.message.contains(words), "{refusal}");
}

#[test]
fn an_agent_speaks_for_its_own_node_alone() {
    let stage = Stage::new(&["a", "b"]);
    let admin = stage.world.plane.api();
    let of = |node: &str| Api::new(&stage.world.plane.kubeconfig_with(&stage.world.token_of_pod_on(node)));
    let (a, b) = (of("a"), of("b"));
    let node = |name: &str| admin.get(&format!("/api/v1/nodes/{name}")).unwrap();
    let (node_a, node_b) = (node("a"), node("b"));
    let (members, blocks, claims) = (path("overlaymembers"), path("addressblocks"), path("vniclaims"));
    // The policies are in force a moment after they were applied.
    stage.world.until("policies in force", || match a.post(&members, &member(&node_a, "b")) {
        Err(refusal) if refusal.message.contains("the member is node b") => Ok(()),
        other => {
            let _ = admin.delete(&format!("{members}/4789-7.b"));
            Err(format!("{other:?}"))
        }
    });
    a.post(&members, &member(&node_a, "a")).unwrap();
    let own = format!("{members}/4789-7.a");
    forbidden(b.delete(&own), "node b, and the member is node a");
    forbidden(b.patch(&own, &json!({"spec": {"mtu": 100}})), "the member is node a");
    forbidden(a.patch(&own, &json!({"spec": {"node": "b"}})), "the member is node b");
    forbidden(a.patch(&own, &json!({"metadata": {"labels": {"meta-cni.io/network": "x"}}})), "NETWORK.NODE");
    a.patch(&own, &json!({"spec": {"mtu": 1400}})).unwrap();

    a.post(&claims, &claim("red")).unwrap();
    let it = format!("{claims}/4789-7");
    forbidden(a.patch(&it, &json!({"spec": {"owner": {"name": "blue"}}})), "may change nothing in a VniClaim but mtu");
    b.patch(&it, &json!({"spec": {"mtu": 1450}})).unwrap();
    forbidden(a.delete(&it), "vniclaims");

    let run = |first: u32, count: u32, node: &str| json!({"first": first, "count": count, "node": node});
    forbidden(a.post(&blocks, &block(&node_a, 64, json!([run(64, 64, "b")]))), "a new block is all its own");
    forbidden(a.post(&blocks, &block(&node_b, 64, json!([run(64, 64, "a")]))), "ties a block to its own Node");
    a.post(&blocks, &block(&node_a, 0, json!([run(0, 64, "a")]))).unwrap();
    let it = format!("{blocks}/4789-7.b0");
    let runs = |runs: Value| json!({"spec": {"runs": runs}});
    forbidden(b.delete(&it), "other nodes have slots");
    forbidden(b.patch(&it, &runs(json!([run(0, 64, "b")]))), "may give away no slots but its own");
    forbidden(b.patch(&it, &runs(json!([run(0, 8, "b"), run(0, 64, "a")]))), "may give away no slots but its own");
    forbidden(b.patch(&it, &json!({"spec": {"requests": [{"node": "c", "count": 1}]}})), "asks for itself");
    forbidden(a.patch(&it, &json!({"spec": {"count": 32}})), "are what they were made as");
    // It asks, and is answered.
    let references = |nodes: &[&Value]| {
        let reference = |node: &&Value| json!({"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"], "uid": node["metadata"]["uid"]});
        nodes.iter().map(reference).collect::<Vec<_>>()
    };
    let asks = json!({
        "metadata": {"ownerReferences": references(&[&node_a, &node_b])},
        "spec": {"requests": [{"node": "b", "count": 16}]},
    });
    b.patch(&it, &asks).unwrap();
    forbidden(b.patch(&it, &json!({"metadata": {"ownerReferences": references(&[&node_b])}})), "ties a block");
    let given = json!({"spec": {"runs": [run(0, 56, "a"), run(56, 8, "b")], "requests": []}});
    a.patch(&it, &given).unwrap();
    forbidden(a.delete(&it), "other nodes have slots");
    forbidden(a.patch(&it, &runs(json!([run(0, 64, "a")]))), "may give away no slots but its own");
    let free = |node: &str| json!({"status": {"free": 7, "nodes": [{"node": node, "free": 7}]}});
    forbidden(b.patch(&format!("{it}/status"), &free("a")), "of its own slots");
    b.patch(&format!("{it}/status"), &free("b")).unwrap();
    // An address that was asked for.
    let addresses = path("addressclaims");
    let address = |node: &Value, slot: u32, nodes: &[&str]| {
        let holder = json!({"kind": "Pod", "namespace": "default", "name": "web", "uid": "u"});
        let spec =
            json!({"network": "4789-7", "slot": slot, "addresses": ["10.0.0.1"], "holder": holder, "nodes": nodes});
        object("AddressClaim", &format!("4789-7.a{slot}"), Some(node), spec)
    };
    forbidden(a.post(&addresses, &address(&node_a, 1, &["b"])), "a new claim is for that node");
    forbidden(a.post(&addresses, &address(&node_a, 1, &[])), "a new claim is for that node");
    forbidden(a.post(&addresses, &address(&node_b, 1, &["a"])), "ties a claim to its own Node");
    a.post(&addresses, &address(&node_a, 1, &["a"])).unwrap();
    let one = format!("{addresses}/4789-7.a1");
    let nodes = |nodes: &[&str]| json!({"spec": {"nodes": nodes}});
    forbidden(b.patch(&one, &nodes(&["b"])), "speaks of no other node");
    forbidden(b.patch(&one, &json!({"spec": {"holder": {"name": "db"}}})), "one address and one holder for ever");
    forbidden(b.delete(&one), "other nodes have or want the address");
    let held = |node: &str| json!({"status": {"node": node, "heldBy": "pod default/db"}});
    forbidden(b.patch(&format!("{one}/status"), &held("a")), "says of its own node");
    b.patch(&format!("{one}/status"), &held("b")).unwrap();
    b.patch(&one, &nodes(&["a", "b"])).unwrap();
    forbidden(a.delete(&one), "other nodes have or want the address");
    forbidden(a.patch(&one, &nodes(&["a"])), "speaks of no other node");
    a.patch(&one, &nodes(&["b"])).unwrap();
    b.delete(&one).unwrap();
    // A member of an AddressSet has one pod, on one node.
    let of = |kind: &str, name: &str| json!({"kind": kind, "namespace": "default", "name": name, "uid": "u"});
    let mut member = address(&node_a, 2, &["a"]);
    member["spec"]["holder"] = of("AddressSet", "web");
    forbidden(a.post(&addresses, &member), "says its pod");
    member["spec"]["pod"] = of("Pod", "web-0");
    a.post(&addresses, &member).unwrap();
    let two = format!("{addresses}/4789-7.a2");
    let taken = |nodes: &[&str], pod: &str| json!({"spec": {"nodes": nodes, "pod": of("Pod", pod)}});
    forbidden(b.patch(&two, &taken(&["a", "b"], "web-1")), "taken when no other node has it");
    b.patch(&format!("{two}/status"), &held("b")).unwrap();
    a.patch(&two, &nodes(&[])).unwrap();
    b.patch(&two, &taken(&["b"], "web-1")).unwrap();
    forbidden(a.patch(&two, &taken(&["b"], "web-2")), "taken when no other node has it");
    b.delete(&two).unwrap();
    // The node's Node is gone: what was its is nobody's.
    admin.patch(&it, &json!({"metadata": {"ownerReferences": references(&[&node_b])}})).unwrap();
    b.patch(&it, &runs(json!([run(0, 64, "b")]))).unwrap();
    b.delete(&it).unwrap();
    a.delete(&own).unwrap();
}
