//! Networks of whereabouts' configuration: what that program gave before, and ranges that overlap.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use delegates::networks::NetworkId;
use serde_json::{Value, json};

use super::stage::{Stage, join};
use crate::world::ask;

const IP_POOLS: &str = "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/kube-system/ippools";

/// Agents whose nodes' configuration says this of whereabouts.
fn stage(nodes: &[&str], key: &str) -> Stage {
    let mut stage = Stage::new(nodes);
    for node in nodes {
        fs::write(stage.dir(node).join("config.json"), json!({"whereabouts": key}).to_string()).unwrap();
    }
    stage.start_all();
    stage
}

/// The kind as whereabouts has it, as far as it counts.
fn install_ip_pools(stage: &Stage) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let names = json!({"plural": "ippools", "singular": "ippool", "kind": "IPPool", "listKind": "IPPoolList"});
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ippools.whereabouts.cni.cncf.io"},
        "spec": {"group": "whereabouts.cni.cncf.io", "scope": "Namespaced", "names": names, "versions": [version]},
    });
    let plane = &stage.world.plane;
    plane.api().post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &object).unwrap();
    plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", "crd/ippools.whereabouts.cni.cncf.io"]);
}

/// What whereabouts gave of a range, by offset.
fn given(stage: &Stage, name: &str, range: &str, offsets: &[u32]) {
    let of = |offset: &u32| {
        (offset.to_string(), json!({"id": "c", "podref": format!("default/old{offset}"), "ifname": "net1"}))
    };
    let allocations: serde_json::Map<String, Value> = offsets.iter().map(of).collect();
    let object = json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool", "metadata": {"name": name},
        "spec": {"range": range, "allocations": allocations},
    });
    let api = stage.world.plane.api();
    let _ = api.delete(&format!("{IP_POOLS}/{name}"));
    api.post(IP_POOLS, &object).unwrap();
}

fn define(stage: &Stage, name: &str, range: &str) {
    let ipam = json!({"type": "whereabouts", "range": range, "blockSize": 8});
    stage.define(name, json!({"cniVersion": "1.0.0", "name": name, "type": "macvlan", "master": "eth1", "ipam": ipam}));
}

/// A pod of a node: the ADD's question, and the plugin's part.
fn pod(stage: &Stage, node: &str, definition: &str, id: &NetworkId, name: &str) -> Result<IpAddr, String> {
    let answer = stage.resolve(node, definition);
    if answer["kind"] != "resolved" {
        return Err(answer["body"]["message"].as_str().unwrap_or_default().to_owned());
    }
    stage.take(node, id, name)
}

fn last(address: IpAddr) -> u8 {
    let IpAddr::V4(v4) = address else { panic!("{address}") };
    v4.octets()[3]
}

#[test]
fn what_whereabouts_gave_stays_with_its_pods_and_no_address_is_lost() {
    let nodes = ["a", "b"];
    let stage = stage(&nodes, "take-over");
    install_ip_pools(&stage);
    given(&stage, "10.9.0.0-28", "10.9.0.0/28", &[1, 2, 3, 9]);
    given(&stage, "blue-10.9.0.0-28", "10.9.0.0/28", &[4, 5]);
    define(&stage, "lan", "10.9.0.0/28");
    let id = NetworkId::pool("10.9.0.0/28");
    let mut all = BTreeSet::new();
    let why = loop {
        let node = nodes[all.len() % 2];
        match pod(&stage, node, "lan", &id, &format!("p{}", all.len())) {
            Ok(address) => assert!(all.insert(last(address)), "{address} twice"),
            Err(why) => break why,
        }
    };
    assert_eq!(all.iter().copied().collect::<Vec<_>>(), [4, 5, 6, 7, 8, 10, 11, 12, 13, 14], "{why}");
    assert!(why.contains("of these, 4 by pods of whereabouts"), "{why}");
    // A pod that asks for one by name is told who has it.
    let api = stage.world.plane.api();
    let asked = json!([{"name": "lan", "ips": ["10.9.0.2"]}]).to_string();
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": "web", "annotations": {"k8s.v1.cni.cncf.io/networks": asked}},
        "spec": {"nodeName": "b", "containers": [{"name": "c", "image": "registry.k8s.io/pause"}]},
    });
    let web = json!({"namespace": "default", "name": "web", "uid": api.apply(&object).unwrap()["metadata"]["uid"]});
    let body = json!({
        "pod": web, "references": [{"namespace": "default", "name": "lan"}], "multusNamespace": "kube-system",
        "waitMs": 10_000, "policies": true,
    });
    let wanted = |node: &str| {
        ask(
            &stage.dir(node).join("run/agent.sock"),
            &json!({"newest": 1, "oldest": 1, "kind": "resolve", "body": body}),
        )
    };
    let kept = |node: &str| stage.file(node, &id).unwrap().pool.unwrap().claimed.get(&2).cloned();
    let owner = nodes.into_iter().find(|node| kept(node).is_some()).unwrap();
    assert_eq!(kept(owner).as_deref(), Some("pod default/old2 of whereabouts"), "the plugin's words");
    // The other node does not get it from the owner: the request of a whereabouts network is read, and refused.
    let other = nodes.into_iter().find(|node| *node != owner).unwrap();
    let answer = wanted(other);
    let message = answer["body"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("requested address 10.9.0.2 is kept for pod default/old2 of whereabouts"), "{answer}");
    // The pods end, and the program takes them out.
    given(&stage, "10.9.0.0-28", "10.9.0.0/28", &[3]);
    let mut back = BTreeSet::new();
    stage.until("a", "addresses that were given back", || {
        let number = back.len();
        let got = pod(&stage, nodes[number % 2], "lan", &id, &format!("q{number}"));
        let got = got.or_else(|_| pod(&stage, nodes[(number + 1) % 2], "lan", &id, &format!("q{number}")))?;
        back.insert(last(got));
        if back.len() == 3 { Ok(()) } else { Err(format!("{back:?}")) }
    });
    assert_eq!(back.into_iter().collect::<Vec<_>>(), [1, 2, 9]);
}

#[test]
fn without_the_switch_what_whereabouts_gave_does_not_count() {
    let stage = stage(&["a"], "blocks");
    install_ip_pools(&stage);
    given(&stage, "10.9.0.0-30", "10.9.0.0/30", &[1, 2]);
    define(&stage, "lan", "10.9.0.0/30");
    let id = NetworkId::pool("10.9.0.0/30");
    assert_eq!(pod(&stage, "a", "lan", &id, "p").map(last), Ok(1));
}

#[test]
fn ranges_that_overlap_give_no_address_twice() {
    let nodes = ["a", "b"];
    // Without whereabouts' kinds nothing was given.
    let stage = stage(&nodes, "take-over");
    let ranges = [("whole", "10.9.0.0/27"), ("half", "10.9.0.0/28"), ("part", "10.9.0.12-10.9.0.20/27")];
    for (name, range) in ranges {
        define(&stage, name, range);
    }
    let ids = ["10.9.0.0/27", "10.9.0.0/28", "10.9.0.12-10.9.0.20/27"].map(NetworkId::pool);
    let mut all = BTreeSet::new();
    let mut refused = BTreeSet::new();
    for round in 0..60 {
        let (i, node) = (round % 3, nodes[round / 3 % 2]);
        match pod(&stage, node, ranges[i].0, &ids[i], &format!("p{round}")) {
            Ok(address) => assert!(all.insert(address), "{address} twice, at last in {}", ranges[i].0),
            Err(why) => {
                assert!(why.contains("is exhausted"), "{why}");
                refused.insert(i);
            }
        }
        if refused.len() == 3 {
            break;
        }
    }
    assert_eq!(refused.len(), 3, "{all:?}");
    // 10.9.0.1 to .30; of blocks that were made in one second neither side gives what both have.
    assert!(all.len() >= 14, "{all:?}");
    let labels: BTreeSet<String> = stage
        .names("addressblocks")
        .iter()
        .map(|name| stage.object("addressblocks", name)["metadata"]["labels"]["meta-cni.io/address-space"].to_string())
        .collect();
    assert_eq!(labels, [r#""whereabouts""#.to_owned()].into());
}

#[test]
fn a_pod_of_two_networks_that_overlap_is_told_though_one_is_whereabouts() {
    let stage = stage(&["a"], "blocks");
    define(&stage, "lan", "10.9.0.0/24");
    stage.overlay("red", 4200, "10.9.0.0/16");
    let api = stage.world.plane.api();
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default", "name": "two"},
        "spec": {"nodeName": "a", "containers": [{"name": "c", "image": "registry.k8s.io/pause"}]},
    });
    let uid = api.apply(&object).unwrap()["metadata"]["uid"].clone();
    let references = ["lan", "red"].map(|name| json!({"namespace": "default", "name": name}));
    let socket = stage.dir("a").join("run/agent.sock");
    let pod = json!({"namespace": "default", "name": "two", "uid": uid});
    let joined = join(&socket, pod, &references, 10_000);
    assert_eq!(joined["kind"], "noted", "{joined}");
    stage.until("a", "event", || {
        let events = api.list("/apis/events.k8s.io/v1/namespaces/default/events");
        let ours = events.iter().find(|event| event["reason"] == "OverlappingSubnets");
        let note = ours.ok_or("none")?["note"].as_str().unwrap_or_default();
        if note.contains("10.9.0.0/24 and 10.9.0.0/16") || note.contains("10.9.0.0/16 and 10.9.0.0/24") {
            Ok(())
        } else {
            Err(note.to_owned())
        }
    });
}
