//! Members and claims that somebody edited by hand: passed over with a line in the log, and a node's own member is put right.

use delegates::networks::NetworkId;
use serde_json::{Value, json};

use super::stage::{Stage, path};

fn id() -> NetworkId {
    NetworkId::overlay(4789, 4200)
}

/// Two nodes in an overlay.
fn joined() -> Stage {
    let mut stage = Stage::new(&["a", "b"]);
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/16");
    stage.join("a", "red");
    stage.join("b", "red");
    stage
}

/// Makes a member object of another node, with these fields changed.
fn forge(stage: &Stage, name: &str, changes: Value) {
    let mut spec = json!({
        "network": id(), "node": name, "vteps": ["172.30.0.9"], "mac": "02:00:00:00:00:09", "mtu": 1450,
    });
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let metadata = json!({"name": format!("{}.{name}", id()), "labels": {"meta-cni.io/network": id()}});
    let member =
        json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "OverlayMember", "metadata": metadata, "spec": spec});
    stage.world.plane.api().apply(&member).unwrap();
}

#[test]
fn members_of_nonsense_are_passed_over_by_name_and_all_others_are_served() {
    let stage = joined();
    let group = json!([{"mac": "33:33:00:00:00:01", "ips": ["10.42.9.9"]}]);
    for (name, changes, why) in [
        ("other", json!({"node": "elsewhere"}), "its name is not NETWORK.NODE"),
        ("group", json!({"vteps": ["224.0.0.7"]}), "vteps: got 224.0.0.7, want addresses of the node"),
        ("loop", json!({"vteps": ["172.30.0.8", "::1"]}), "vteps: got ::1, want addresses of the node"),
        ("all", json!({"mac": "ff:ff:ff:ff:ff:ff"}), "mac: got ff:ff:ff:ff:ff:ff, want the address of one station"),
        ("nobody", json!({"mac": "00:00:00:00:00:00"}), "mac: got 00:00:00:00:00:00, want the address of one station"),
        ("pods", json!({"endpoints": group}), "mac: got 33:33:00:00:00:01, want the address of one station"),
        ("letters", json!({"mac": "zz"}), "spec: "),
    ] {
        forge(&stage, name, changes);
        let said = format!("{}.{name}: ignored: {why}", id());
        stage.until("a", &format!("line {said:?}"), || match stage.log("a").matches(&said).count() {
            1 => Ok(()),
            other => Err(format!("{other} of them")),
        });
    }
    forge(&stage, "sound", json!({}));
    stage.until("a", "member that is sound", || {
        let overlay = stage.file("a", &id()).and_then(|file| file.overlay).ok_or("no membership")?;
        let nodes: Vec<String> = overlay.members.into_iter().map(|member| member.node).collect();
        if nodes == ["b", "sound"] { Ok(()) } else { Err(format!("{nodes:?}")) }
    });
}

#[test]
fn a_nodes_own_member_is_put_right_whatever_is_written_into_it() {
    let mut stage = joined();
    let name = format!("{}.a", id());
    let object = format!("{}/{name}", path("overlaymembers"));
    let before = stage.object("overlaymembers", &name);
    let put_right = |stage: &Stage, what: &str| {
        stage.until("a", what, || {
            let now = stage.object("overlaymembers", &name);
            let of = |member: &Value| {
                let metadata = &member["metadata"];
                [&member["spec"], &metadata["labels"], &metadata["ownerReferences"]].map(Value::clone)
            };
            if of(&now) == of(&before) { Ok(()) } else { Err(now.to_string()) }
        });
    };
    let endpoints = json!([{"mac": "02:00:00:00:00:01", "ips": ["10.42.9.9"]}]);
    let other = json!({"spec": {"vteps": ["192.0.2.99"], "mac": "02:00:00:00:00:99", "endpoints": endpoints}});
    stage.world.plane.api().patch(&object, &other).unwrap();
    put_right(&stage, "member as it was");
    // Without its label nobody who is in the network would hear of it.
    stage.world.plane.api().patch(&object, &json!({"metadata": {"labels": null}})).unwrap();
    put_right(&stage, "member with its labels");
    // What cannot be read is found by an agent that starts.
    stage.kill("a");
    stage.world.plane.api().patch(&object, &json!({"spec": {"mac": "zz"}})).unwrap();
    stage.start("a");
    stage.join("a", "red");
    put_right(&stage, "member that can be read");
}

#[test]
fn a_claim_of_another_pair_than_its_name_is_told_by_name() {
    let mut stage = Stage::new(&["a"]);
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/16");
    let owner = json!({"namespace": "default", "name": "red", "uid": ""});
    let claim = json!({
        "apiVersion": "meta-cni.io/v1alpha1", "kind": "VniClaim",
        "metadata": {"name": id(), "labels": {"meta-cni.io/network": id()}},
        "spec": {"vni": 7, "port": 4789, "owner": owner},
    });
    stage.world.plane.api().apply(&claim).unwrap();
    let refusal = stage.refused("a", "red");
    assert!(refusal.contains("VniClaim 4789-4200 is of another pair than its name: remove it"), "{refusal}");
    stage.delete("vniclaims", "4789-4200");
    stage.join("a", "red");
}
