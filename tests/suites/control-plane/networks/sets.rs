//! AddressSets: pods take members in turn, from node to node, with the rights that are shipped.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use delegates::networks::NetworkId;
use serde_json::{Value, json};

use super::claims::{refused, resolve, resolve_at};
use super::stage::{Stage, network};

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

pub(super) fn id() -> NetworkId {
    network("lan")
}

/// Nodes that are in one network of blocks of 8, and a set of these members.
fn stage(nodes: &[&str], spec: Value) -> Stage {
    let mut stage = Stage::new(nodes);
    stage.start_all();
    let ipam = json!({"type": "blocks", "subnet": "10.42.0.0/24", "blockSize": 8});
    stage.define(
        "lan",
        json!({"cniVersion": "1.1.0", "name": "red", "type": "macvlan", "master": "eth1", "ipam": ipam}),
    );
    nodes.iter().for_each(|node| stage.join(node, "lan"));
    apply(&stage, spec);
    stage
}

fn apply(stage: &Stage, mut spec: Value) {
    spec["network"] = json!("lan");
    let set = json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AddressSet",
        "metadata": {"namespace": "default", "name": "web"}, "spec": spec});
    stage.world.plane.api().apply(&set).unwrap();
}

/// A pod of a node that takes a member of the set; what an ADD needs to know of it.
fn pod(stage: &Stage, node: &str, name: &str) -> Value {
    let networks = json!([{"name": "lan", "meta-cni.io/address-set": "web"}]).to_string();
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "annotations": {NETWORKS: networks}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "registry.k8s.io/pause"}]},
    });
    let object = stage.world.plane.api().apply(&object).unwrap();
    json!({"namespace": "default", "name": name, "uid": object["metadata"]["uid"]})
}

fn socket(stage: &Stage, node: &str) -> PathBuf {
    stage.dir(node).join("run/agent.sock")
}

/// The whole of an ADD: the agent's part, and the plugin's lease of what is promised to the pod.
#[track_caller]
fn attach(stage: &Stage, node: &str, name: &str) -> u32 {
    let pod = pod(stage, node, name);
    let answer = resolve(stage, node, &pod);
    assert_eq!(answer["kind"], "resolved", "{answer}\n{}", stage.log(node));
    lease(stage, node, name)
}

/// The plugin's part: the lease of what is promised to the pod.
#[track_caller]
pub(super) fn lease(stage: &Stage, node: &str, name: &str) -> u32 {
    let pool = stage.file(node, &id()).unwrap().pool.unwrap();
    let text = format!("AddressSet web for default/{name}");
    let slot = *pool.claimed.iter().find(|(_, who)| **who == text).unwrap_or_else(|| panic!("{pool:?}")).0;
    assert!(pool.slots.iter().any(|run| run.contains(slot)), "{pool:?}");
    stage.lease(node, &id(), name, format!("10.42.0.{slot}").parse().unwrap());
    slot
}

/// The pod goes: its lease, its object, and in the end its hold on the member.
pub(super) fn detach(stage: &Stage, node: &str, name: &str, slot: u32) {
    stage.give_back(node, &id(), name);
    let gone = format!("/api/v1/namespaces/default/pods/{name}?gracePeriodSeconds=0");
    stage.world.plane.api().delete(&gone).unwrap();
    stage.until(node, "end of a hold on a member", || match member(stage, slot)["spec"]["nodes"].as_array() {
        Some(nodes) if !nodes.is_empty() => Err(format!("{nodes:?}")),
        _ => Ok(()),
    });
}

fn member(stage: &Stage, slot: u32) -> Value {
    stage.object("addressclaims", &format!("{}.a{slot}", id()))
}

fn listed() -> Value {
    json!({"addresses": ["10.42.0.200", "10.42.0.100", "10.42.0.150"]})
}

/// Rollouts: each pod goes, and another one on the other node has its member.
pub(super) fn roll(
    stage: &Stage,
    held: &mut [(&str, String, u32)],
    rounds: u32,
    attach: impl Fn(&Stage, &str, &str) -> u32,
) {
    for round in 1..=rounds {
        for (i, (node, name, slot)) in held.iter_mut().enumerate() {
            detach(stage, node, name, *slot);
            *node = if *node == "a" { "b" } else { "a" };
            *name = format!("web-{round}-{i}");
            assert_eq!(attach(stage, node, name), *slot, "round {round}");
        }
    }
}

#[test]
fn the_pods_of_twenty_rollouts_have_the_same_members_and_never_two_the_same() {
    let stage = stage(&["a", "b"], listed());
    let mut held: Vec<(&str, String, u32)> = ["a", "b", "a"]
        .into_iter()
        .enumerate()
        .map(|(i, node)| (node, format!("web-0-{i}"), attach(&stage, node, &format!("web-0-{i}"))))
        .collect();
    assert_eq!(held.iter().map(|(.., slot)| *slot).collect::<Vec<_>>(), [200, 100, 150]);
    let claim = member(&stage, 200);
    assert_eq!(claim["spec"]["holder"]["kind"], "AddressSet");
    assert_eq!((&claim["spec"]["pod"]["name"], &claim["spec"]["nodes"]), (&json!("web-0-0"), &json!(["a"])));

    // The fourth waits, is told by whom, and gets what comes free.
    let fourth = pod(&stage, "b", "fourth");
    let why = refused(&stage, "b", &fourth, "later");
    let want =
        "all 3 addresses of AddressSet default/web are in use by default/web-0-0, default/web-0-1, default/web-0-2";
    assert!(why.contains(want), "{why}");
    detach(&stage, "a", "web-0-0", 200);
    assert_eq!(resolve(&stage, "b", &fourth)["kind"], "resolved", "{}", stage.log("b"));
    assert_eq!(lease(&stage, "b", "fourth"), 200);
    held[0] = ("b", "fourth".to_owned(), 200);

    roll(&stage, &mut held, 20, attach);
    assert_eq!(stage.names("addressclaims").len(), 3);
}

#[test]
fn a_pod_of_the_name_gets_its_last_member_back_and_of_two_that_race_for_the_last_one_gets_it() {
    let stage = stage(&["a", "b"], json!({"size": 2}));
    let slots = ["web-0", "web-1"].map(|name| attach(&stage, "a", name));
    assert_ne!(slots[0], slots[1]);
    detach(&stage, "a", "web-0", slots[0]);
    detach(&stage, "a", "web-1", slots[1]);
    assert_eq!(attach(&stage, "b", "web-1"), slots[1]);

    let asks = ["a", "b"].map(|node| (socket(&stage, node), pod(&stage, node, &format!("racer-{node}"))));
    let answers = thread::scope(|scope| {
        let asked = asks.each_ref().map(|(socket, pod)| scope.spawn(|| resolve_at(socket, pod)));
        asked.map(|answer| answer.join().unwrap())
    });
    let kinds: BTreeSet<&str> = answers.iter().map(|answer| answer["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["refused", "resolved"].into(), "{answers:?}");
    assert_eq!(stage.names("addressclaims").len(), 2);
}

#[test]
fn an_agent_that_is_killed_in_the_middle_of_a_hand_over_goes_on() {
    let mut stage = stage(&["a", "b"], json!({"addresses": ["10.42.0.200"]}));
    assert_eq!(attach(&stage, "a", "first"), 200);
    let second = pod(&stage, "b", "second");
    // It waits for the member, and is killed there.
    let (at, waiting) = (socket(&stage, "b"), second.clone());
    let asked = thread::spawn(move || resolve_at(&at, &waiting));
    thread::sleep(Duration::from_millis(300));
    stage.give_back("a", &id(), "first");
    stage.kill("b");
    stage.kill("a");
    // Whatever it was answered, if at all.
    drop(asked.join());
    stage.start("a");
    stage.start("b");
    stage.until("b", "member after the agents came again", || match resolve(&stage, "b", &second) {
        answer if answer["kind"] == "resolved" => Ok(()),
        answer => Err(answer.to_string()),
    });
    assert_eq!(lease(&stage, "b", "second"), 200);
    assert_eq!(member(&stage, 200)["spec"]["pod"]["name"], "second");
}

#[test]
fn a_set_that_is_not_there_or_is_of_another_network_is_told() {
    let stage = stage(&["a"], json!({"addresses": ["10.42.0.200"]}));
    let api = stage.world.plane.api();
    let web = pod(&stage, "a", "web");
    api.delete("/apis/meta-cni.io/v1alpha1/namespaces/default/addresssets/web").unwrap();
    let why = refused(&stage, "a", &web, "later");
    assert!(why.contains("no AddressSet \"web\" for network \"lan\" in namespaces default"), "{why}");
    apply(&stage, json!({"addresses": ["10.9.0.1"]}));
    let why = refused(&stage, "a", &web, "configuration");
    assert!(why.contains("AddressSet default/web: spec.addresses: got 10.9.0.1"), "{why}");
    // The API server refuses what is no set.
    for spec in
        [json!({}), json!({"size": 33}), json!({"size": 3, "addresses": ["10.42.0.5"]}), json!({"addresses": []})]
    {
        let mut spec = spec;
        spec["network"] = json!("lan");
        let set = json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AddressSet",
            "metadata": {"namespace": "default", "name": "wrong"}, "spec": spec});
        api.apply(&set).unwrap_err();
    }
}
