//! Addresses that are asked for: had from whoever owns them, refused where a pod has them, and kept for IPAMClaims.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;

use delegates::ipam::blocks::Held;
use delegates::networks::NetworkId;
use delegates::networks::state::PoolState;
use serde_json::{Value, json};

use super::stage::{Stage, network, path};
use crate::world::{ask, shipped};

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

fn id() -> NetworkId {
    network("lan")
}

/// Nodes that are in one network of blocks of 8.
fn joined(nodes: &[&str]) -> Stage {
    let mut stage = Stage::new(nodes);
    stage.start_all();
    define(&stage);
    nodes.iter().for_each(|node| stage.join(node, "lan"));
    stage
}

fn define(stage: &Stage) {
    let ipam = json!({"type": "blocks", "subnet": "10.42.0.0/24", "blockSize": 8});
    stage.define(
        "lan",
        json!({"cniVersion": "1.1.0", "name": "red", "type": "macvlan", "master": "eth1", "ipam": ipam}),
    );
}

/// A pod of a node that selects `lan`; what an ADD needs to know of it.
fn pod(stage: &Stage, node: &str, name: &str, asked: &Value) -> Value {
    let mut element = json!({"name": "lan"});
    asked.as_object().unwrap().iter().for_each(|(key, value)| element[key] = value.clone());
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "annotations": {NETWORKS: json!([element]).to_string()}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "registry.k8s.io/pause"}]},
    });
    let object = stage.world.plane.api().apply(&object).unwrap();
    json!({"namespace": "default", "name": name, "uid": object["metadata"]["uid"]})
}

/// The answer to an ADD of a pod whose annotations the runtime handed over.
pub fn resolve(stage: &Stage, node: &str, pod: &Value) -> Value {
    resolve_at(&stage.dir(node).join("run/agent.sock"), pod)
}

/// The same at the socket of a node's agent.
pub fn resolve_at(socket: &Path, pod: &Value) -> Value {
    let body = json!({
        "pod": pod, "references": [{"namespace": "default", "name": "lan"}], "multusNamespace": "kube-system",
        "waitMs": 15_000, "policies": true,
    });
    ask(socket, &json!({"newest": 1, "oldest": 1, "kind": "resolve", "body": body}))
}

/// Why an ADD is refused; the cause is as it should be.
#[track_caller]
pub fn refused(stage: &Stage, node: &str, pod: &Value, cause: &str) -> String {
    let answer = resolve(stage, node, pod);
    assert_eq!((answer["kind"].as_str(), answer["body"]["cause"].as_str()), (Some("refused"), Some(cause)), "{answer}");
    answer["body"]["message"].as_str().unwrap().to_owned()
}

#[track_caller]
fn resolved(stage: &Stage, node: &str, pod: &Value) {
    let answer = resolve(stage, node, pod);
    assert_eq!(answer["kind"], "resolved", "{answer}\n{}", stage.log(node));
}

fn pool(stage: &Stage, node: &str) -> PoolState {
    stage.file(node, &id()).unwrap().pool.unwrap()
}

fn owns(stage: &Stage, node: &str, slot: u32) -> bool {
    pool(stage, node).slots.iter().any(|run| run.contains(slot))
}

/// A slot of a node that any pod may get.
fn slot_of(stage: &Stage, node: &str) -> u32 {
    let held = Held::read(&stage.state_dir(node), &id()).unwrap();
    held.free(&pool(stage, node)).next().unwrap()
}

fn address(slot: u32) -> String {
    format!("10.42.0.{slot}")
}

fn ips(slot: u32) -> Value {
    json!({"ips": [address(slot)]})
}

/// The plugin's part: a lease of the slot, if it is this node's, or kept for the claim.
#[track_caller]
fn lease(stage: &Stage, node: &str, name: &str, slot: u32, claim: Option<&str>) {
    let pool = pool(stage, node);
    let who = claim.map_or_else(|| format!("default/{name}"), |claim| format!("IPAMClaim default/{claim}"));
    assert!(pool.claimed.get(&slot).is_none_or(|is| *is == who), "{pool:?}");
    assert!(claim.is_none() || pool.claimed.contains_key(&slot), "{pool:?}");
    assert!(claim.is_some() || pool.slots.iter().any(|run| run.contains(slot)), "{pool:?}");
    stage.lease(node, &id(), name, address(slot).parse().unwrap());
}

/// The slot that is kept for a claim on a node.
#[track_caller]
fn kept(stage: &Stage, node: &str, claim: &str) -> u32 {
    let pool = pool(stage, node);
    let text = format!("IPAMClaim default/{claim}");
    let slot = pool.claimed.iter().find(|(_, who)| **who == text).map(|(slot, _)| *slot);
    slot.unwrap_or_else(|| panic!("{pool:?}\n{}", stage.log(node)))
}

fn ipam_claim(stage: &Stage, name: &str, network: &str) -> String {
    let object = json!({
        "apiVersion": "k8s.cni.cncf.io/v1alpha1", "kind": "IPAMClaim",
        "metadata": {"namespace": "default", "name": name}, "spec": {"network": network, "interface": "net1"},
    });
    let collection = "/apis/k8s.cni.cncf.io/v1alpha1/namespaces/default/ipamclaims";
    stage.world.plane.api().post(collection, &object).unwrap();
    format!("{collection}/{name}")
}

fn install_ipam_claims(stage: &Stage) {
    stage.world.plane.kubectl(["apply", "-f", &shipped("ipam-claims.yaml")]);
    let crd = "crd/ipamclaims.k8s.cni.cncf.io";
    stage.world.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", crd]);
}

fn by(claim: &str) -> Value {
    json!({"ipam-claim-reference": claim})
}

fn until_owns(stage: &Stage, node: &str, slot: u32) {
    stage.until(node, "slot that another node had", || {
        if owns(stage, node, slot) { Ok(()) } else { Err(format!("{:?}", pool(stage, node))) }
    });
}

#[test]
fn an_address_is_had_wherever_it_is_and_refused_where_a_pod_has_it() {
    let mut stage = joined(&["a", "b"]);
    // Of the node itself: nothing is claimed.
    let own = slot_of(&stage, "a");
    resolved(&stage, "a", &pod(&stage, "a", "own", &ips(own)));
    assert!(stage.names("addressclaims").is_empty());
    // Of another node, where nobody has it.
    let slot = slot_of(&stage, "b");
    let web = pod(&stage, "a", "web", &ips(slot));
    resolved(&stage, "a", &web);
    assert!(owns(&stage, "a", slot));
    lease(&stage, "a", "web", slot, None);
    stage.until("b", "end of a slot that was given away", || {
        if owns(&stage, "b", slot) { Err("still there".to_owned()) } else { Ok(()) }
    });
    let claim = stage.object("addressclaims", &format!("{}.a{slot}", id()));
    assert_eq!(
        claim["spec"]["holder"],
        json!({"kind": "Pod", "namespace": "default", "name": "web", "uid": web["uid"]})
    );
    assert_eq!(claim["metadata"]["ownerReferences"][0]["name"], "a");
    // Somebody has it: by the claim, and by the lease of another node's pod.
    let why = refused(&stage, "b", &pod(&stage, "b", "db", &ips(slot)), "addresses");
    assert!(why.contains(&format!("{} is kept for pod default/web", address(slot))), "{why}");
    let held = slot_of(&stage, "b");
    lease(&stage, "b", "holder", held, None);
    let other = pod(&stage, "a", "other", &ips(held));
    let why = refused(&stage, "a", &other, "addresses");
    assert!(why.contains(&format!("{} is taken on node b by pod default/holder", address(held))), "{why}");
    assert_eq!(stage.names("addressclaims").len(), 1);
    // In no block.
    let nobodys =
        (0..31).map(|block| 8 * block + 3).find(|slot| !owns(&stage, "a", *slot) && !owns(&stage, "b", *slot)).unwrap();
    resolved(&stage, "b", &pod(&stage, "b", "far", &ips(nobodys)));
    assert!(owns(&stage, "b", nobodys) && !owns(&stage, "b", nobodys / 8 * 8));
    // It comes free, and the pod that was refused gets it.
    stage.give_back("b", &id(), "holder");
    resolved(&stage, "a", &other);
    until_owns(&stage, "a", held);
    // The claim goes with its pod.
    stage.give_back("a", &id(), "web");
    stage.until("a", "end of a claim", || match stage.names("addressclaims") {
        names if names.iter().any(|name| *name == format!("{}.a{slot}", id())) => Err(format!("{names:?}")),
        _ => Ok(()),
    });
    // The owner's agent is away, and comes back.
    let last = slot_of(&stage, "b");
    stage.kill("b");
    let late = pod(&stage, "a", "late", &ips(last));
    let why = refused(&stage, "a", &late, "later");
    assert!(why.contains("node b, whose agent does not answer"), "{why}");
    stage.start("b");
    resolved(&stage, "a", &late);
}

#[test]
fn of_two_nodes_that_race_for_an_address_exactly_one_gets_it() {
    let stage = joined(&["a", "b", "c"]);
    for slot in [
        slot_of(&stage, "c"),
        (100..255).find(|slot| ["a", "b", "c"].iter().all(|node| !owns(&stage, node, *slot))).unwrap(),
    ] {
        let asks = ["a", "b"].map(|node| {
            let pod = pod(&stage, node, &format!("{node}-{slot}"), &ips(slot));
            (stage.dir(node).join("run/agent.sock"), pod)
        });
        let answers = thread::scope(|scope| {
            let asked = asks.each_ref().map(|(socket, pod)| scope.spawn(|| resolve_at(socket, pod)));
            asked.map(|answer| answer.join().unwrap())
        });
        let got: BTreeSet<&str> = answers.iter().map(|answer| answer["kind"].as_str().unwrap()).collect();
        assert_eq!(got, ["refused", "resolved"].into(), "{answers:?}");
        let owners = ["a", "b"].into_iter().filter(|node| owns(&stage, node, slot)).count();
        assert_eq!(owners, 1, "{answers:?}");
    }
}

#[test]
fn an_ipam_claim_keeps_its_address_on_every_node_and_a_second_pod_takes_over() {
    let mut stage = joined(&["a", "b"]);
    // Without the kind, and without the claim.
    let first = pod(&stage, "a", "vm-1", &by("vm"));
    let why = refused(&stage, "a", &first, "later");
    assert!(why.contains("has no ipamclaims.k8s.cni.cncf.io: apply deploy/ipam-claims.yaml"), "{why}");
    stage.join("a", "lan");
    install_ipam_claims(&stage);
    let why = refused(&stage, "a", &first, "later");
    assert!(why.contains(r#"got "vm", want the name of an IPAMClaim in namespace default"#), "{why}");
    ipam_claim(&stage, "wrong", "lan");
    let why = refused(&stage, "a", &pod(&stage, "a", "wrong", &by("wrong")), "configuration");
    assert!(why.contains(r#"spec.network: got "lan", want "red""#), "{why}");

    let claim = ipam_claim(&stage, "vm", "red");
    resolved(&stage, "a", &first);
    let slot = kept(&stage, "a", "vm");
    lease(&stage, "a", "vm-1", slot, Some("vm"));
    let said = |pod: &str| {
        stage.until("a", "status of an IPAMClaim", || {
            let claim = stage.world.plane.api().get(&claim).map_err(|e| e.to_string())?;
            let want = json!({"ips": [format!("{}/24", address(slot))], "ownerPod": pod});
            if claim["status"] == want { Ok(()) } else { Err(claim.to_string()) }
        });
    };
    said("vm-1");
    // Migration: the second pod has the address while the first one runs.
    let second = pod(&stage, "b", "vm-2", &by("vm"));
    resolved(&stage, "b", &second);
    assert_eq!(kept(&stage, "b", "vm"), slot);
    assert!(owns(&stage, "a", slot) && !owns(&stage, "b", slot));
    lease(&stage, "b", "vm-2", slot, Some("vm"));
    said("vm-2");
    stage.give_back("a", &id(), "vm-1");
    until_owns(&stage, "b", slot);
    // Without a pod it is kept, and comes back to the first node.
    stage.give_back("b", &id(), "vm-2");
    let why = refused(&stage, "a", &pod(&stage, "a", "thief", &ips(slot)), "addresses");
    assert!(why.contains("kept for IPAMClaim default/vm"), "{why}");
    resolved(&stage, "a", &first);
    assert_eq!(kept(&stage, "a", "vm"), slot);
    until_owns(&stage, "a", slot);
    lease(&stage, "a", "vm-1", slot, Some("vm"));
    stage.until("b", "end of the wish of a node that has no pod any more", || {
        let claim = stage.object("addressclaims", &format!("{}.a{slot}", id()));
        if claim["spec"]["nodes"] == json!(["a"]) { Ok(()) } else { Err(claim.to_string()) }
    });
    // While the API server is away a pod of the node still gets it.
    stage.give_back("a", &id(), "vm-1");
    stage.world.plane.kill_api();
    resolved(&stage, "a", &first);
    stage.world.plane.start_api();
    // The node goes with its Node object, as the garbage collector has it.
    stage.kill("a");
    let api = stage.world.plane.api();
    api.delete("/api/v1/nodes/a").unwrap();
    for block in api.list(&path("addressblocks")) {
        let of_a = |one: &Value| one["name"] == "a";
        let references = block["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let others: Vec<Value> = references.iter().filter(|one| !of_a(one)).cloned().collect();
        let name = block["metadata"]["name"].as_str().unwrap();
        match references.len() == others.len() {
            true => {}
            false if others.is_empty() => stage.delete("addressblocks", name),
            false => {
                let patch = json!({"metadata": {"ownerReferences": others}});
                api.patch(&format!("{}/{name}", path("addressblocks")), &patch).unwrap();
            }
        }
    }
    resolved(&stage, "b", &second);
    assert_eq!(kept(&stage, "b", "vm"), slot);
    // The agent may hear only now that the node is gone: the slot is taken up for the pod that has it.
    lease(&stage, "b", "vm-2", slot, Some("vm"));
    until_owns(&stage, "b", slot);
}

#[test]
fn a_cluster_without_the_kind_of_claims_serves_all_pods_but_those_that_ask() {
    let mut stage = Stage::without_kinds(&["a", "b"]);
    stage.install_kinds_but("addressclaims");
    stage.start_all();
    define(&stage);
    for node in ["a", "b"] {
        stage.join(node, "lan");
        stage.take(node, &id(), "c1").unwrap();
    }
    let slot = slot_of(&stage, "b");
    let own = pod(&stage, "b", "own", &ips(slot));
    resolved(&stage, "b", &own);
    let web = pod(&stage, "a", "web", &ips(slot));
    let why = refused(&stage, "a", &web, "later");
    assert!(why.contains("has no addressclaims.meta-cni.io: apply deploy/crds"), "{why}");
    stage.install_kinds();
    stage.until("a", "address by the kind that has come", || {
        let answer = resolve(&stage, "a", &web);
        if answer["kind"] == "resolved" { Ok(()) } else { Err(answer.to_string()) }
    });
    assert!(owns(&stage, "a", slot));
}

#[test]
fn claims_of_nonsense_are_passed_over() {
    let stage = joined(&["a", "b"]);
    let slot = slot_of(&stage, "b");
    let forge = |name: &str, slot: u32| {
        let spec = json!({
            "network": id(), "slot": slot, "addresses": ["10.42.0.9"], "nodes": ["b"],
            "holder": {"kind": "Pod", "namespace": "default", "name": "x"},
        });
        let metadata = json!({"name": name, "labels": {"meta-cni.io/network": id()}});
        let object =
            json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AddressClaim", "metadata": metadata, "spec": spec});
        stage.world.plane.api().apply(&object).unwrap();
    };
    let own = slot_of(&stage, "a");
    forge(&format!("{}.other", id()), own);
    forge(&format!("{}.a{slot}", id()), own);
    stage.until("a", "line about it", || {
        let lines = stage.log("a").lines().filter(|line| line.contains("its name is not NETWORK.aSLOT")).count();
        if lines > 0 { Ok(()) } else { Err("nothing".to_owned()) }
    });
    assert!(owns(&stage, "a", own), "nothing of it is given away");
    let why = refused(&stage, "a", &pod(&stage, "a", "web", &ips(slot)), "later");
    assert!(why.contains(&format!("AddressClaim {}.a{slot} makes no sense: remove it", id())), "{why}");
    stage.delete("addressclaims", &format!("{}.a{slot}", id()));
    stage.until("a", "address once the object is gone", || {
        let answer = resolve(&stage, "a", &pod(&stage, "a", "web", &ips(slot)));
        if answer["kind"] == "resolved" { Ok(()) } else { Err(answer.to_string()) }
    });
}
