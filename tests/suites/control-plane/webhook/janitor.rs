//! The janitor, with the rights that are shipped: what it counts, what it tells, and who goes on when a leader is killed.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::world::{NADS, World, nad, shipped};

const FLAGS: &[&str] = &["--janitor-pause", "1"];
const POLICIES: &str = "/apis/meta-cni.io/v1alpha1/attachmentpolicies";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

/// An API server with policies, and nobody who is asked: what is stored was not looked at.
fn unguarded() -> World {
    let world = World::new();
    for (file, crd) in [("attachment-policies", "attachmentpolicies"), ("attachment-levels", "attachmentlevels")] {
        world.plane.kubectl(["apply", "-f", &shipped(&format!("crds/{file}.yaml"))]);
        let crd = format!("crd/{crd}.meta-cni.io");
        world.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", &crd]);
    }
    let api = world.plane.api();
    api.apply(
        &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "default", "name": "default"}}),
    )
    .unwrap();
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        world.plane.kubectl(["delete", kind, "meta-cni-webhook"]);
    }
    world.until("a time without the webhook", || define(&world, "first", 1000));
    api.delete(&format!("{NADS}/first")).unwrap();
    world
}

fn define(world: &World, name: &str, vni: u32) -> Result<Value, String> {
    let config = json!({"cniVersion": "1.0.0", "type": "vxlan", "vni": vni}).to_string();
    world.plane.api().apply(&nad(name, &config)).map_err(|refusal| refusal.to_string())
}

fn pod(world: &World, name: &str, networks: &str) {
    let metadata =
        json!({"namespace": "default", "name": name, "annotations": {"k8s.v1.cni.cncf.io/networks": networks}});
    let spec = json!({"containers": [{"name": "main", "image": "registry.k8s.io/pause"}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    world.plane.api().apply(&pod).unwrap();
}

/// A policy that counts and refuses nobody.
fn policy(world: &World, name: &str, assert: Value) {
    let rule = json!({"name": "r", "select": "$.config.plugins[*].vni", "assert": assert, "onMissing": "Pass"});
    let spec = json!({"mode": "Audit", "rules": [rule]});
    let policy = json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentPolicy", "metadata": {"name": name}, "spec": spec});
    world.plane.api().apply(&policy).unwrap();
}

fn stored(world: &World, name: &str) -> Value {
    world.plane.api().get(&format!("{POLICIES}/{name}")).unwrap()
}

/// Status, reason and message of a condition.
fn condition(policy: &Value, kind: &str) -> String {
    let mut conditions = policy["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == kind).cloned().unwrap_or_default();
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    format!("{} {}: {}", text("status"), text("reason"), text("message"))
}

#[track_caller]
fn until_counted(world: &World, name: &str, violations: i64) -> Value {
    world.until("count", || match stored(world, name) {
        policy if policy["status"]["violations"] == violations => Ok(policy),
        policy => Err(policy["status"].to_string()),
    })
}

/// The events about definitions that cannot stand beside one another.
fn told(world: &World) -> Vec<Value> {
    let events = world.plane.api().list(EVENTS);
    events.into_iter().filter(|event| event["reason"] == "NetworkConflict").collect()
}

/// Returns when passes that begin now are over.
fn until_passed(world: &World, number: u16) {
    let done = || {
        let row = r#"janitor_passes_total{result="done"}"#;
        world.metric(number, row).and_then(|value| value.parse::<u64>().ok()).unwrap_or_default()
    };
    let before = done();
    world.until("two passes", || if done() >= before + 2 { Ok(()) } else { Err("too few".to_owned()) });
}

#[test]
fn what_breaks_a_policy_is_counted_and_what_was_mended_is_not() {
    let mut world = unguarded();
    define(&world, "red", 5000).unwrap();
    define(&world, "blue", 4000).unwrap();
    pod(&world, "web", "red,red,blue");
    pod(&world, "api", "blue");
    pod(&world, "lost", "green");
    world.start_with(0, FLAGS);
    policy(&world, "pool", json!({"range": {"min": 4000, "max": 4099}}));
    let counted = until_counted(&world, "pool", 2);
    assert_eq!(counted["status"]["observedGeneration"], 1);
    assert_eq!(condition(&counted, "Compiled"), "True Compiled: every rule can be read");
    let text = r#"spec.config.vni: Forbidden: 5000: policy "pool" rule "r" allows 4000-4099"#;
    let first = format!("True Violations: 2 objects, first network-attachment-definition default/red: {text}");
    assert_eq!(condition(&counted, "Violated"), first);
    assert!(world.plane.kubectl(["get", "attachmentpolicies"]).contains("pool   Audit   2"));
    // What is as it was is not written again.
    until_passed(&world, 0);
    assert_eq!(stored(&world, "pool")["metadata"]["resourceVersion"], counted["metadata"]["resourceVersion"]);

    define(&world, "red", 4001).unwrap();
    let mended = until_counted(&world, "pool", 0);
    assert_eq!(condition(&mended, "Violated"), "False NoViolations: no stored object breaks the policy");
    policy(&world, "pool", json!({"range": {"min": 4001, "max": 4099}}));
    let narrowed = until_counted(&world, "pool", 3);
    assert_eq!(narrowed["status"]["observedGeneration"], 2);
    world.plane.api().delete("/api/v1/namespaces/default/pods/web?gracePeriodSeconds=0").unwrap();
    until_counted(&world, "pool", 2);
    // A selector that selects nothing any more.
    let nobody = json!({"spec": {"namespaceSelector": {"matchLabels": {"tenant": "a"}}}});
    world.plane.api().patch(&format!("{POLICIES}/pool"), &nobody).unwrap();
    until_counted(&world, "pool", 0);
}

#[test]
fn a_policy_that_cannot_be_compiled_says_why_until_it_can() {
    let mut world = unguarded();
    define(&world, "red", 5000).unwrap();
    world.start_with(0, FLAGS);
    policy(&world, "open", json!({"matches": "("}));
    let flawed = world.until("condition", || match stored(&world, "open") {
        policy if condition(&policy, "Compiled").starts_with("False Flawed: ") => Ok(policy),
        policy => Err(policy["status"].to_string()),
    });
    let said = condition(&flawed, "Compiled");
    assert!(said.contains("spec.rules[0].assert.matches: Invalid value: \"(\": "), "{said}");
    assert!(flawed["status"]["violations"].is_null(), "{flawed}");
    assert_eq!(condition(&flawed, "Violated"), "Unknown NotCompiled: nobody knows what the policy forbids");
    let mended =
        json!({"spec": {"rules": [{"name": "r", "select": "$.config.plugins[*].vni", "assert": {"absent": true}}]}});
    world.plane.api().patch(&format!("{POLICIES}/open"), &mended).unwrap();
    let counted = until_counted(&world, "open", 1);
    assert!(condition(&counted, "Compiled").starts_with("True "), "{counted}");
}

#[test]
fn definitions_that_cannot_stand_beside_one_another_are_told_of_once_on_the_younger() {
    let mut world = unguarded();
    define(&world, "zebra", 42).unwrap();
    // A creation's time has whole seconds.
    thread::sleep(Duration::from_millis(1100));
    let younger = define(&world, "ant", 42).unwrap();
    define(&world, "alone", 43).unwrap();
    world.start_with(0, FLAGS);
    world.until("event", || if told(&world).is_empty() { Err("none".to_owned()) } else { Ok(()) });
    until_passed(&world, 0);
    let events = told(&world);
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!((&event["type"], &event["reportingInstance"]), (&json!("Warning"), &json!("replica-0")));
    assert_eq!(event["regarding"]["name"], "ant");
    assert_eq!(event["regarding"]["uid"], younger["metadata"]["uid"]);
    let text = "spec.config.vni: Duplicate value: 42: already used by NetworkAttachmentDefinition default/zebra on port 4789 [X02]";
    assert_eq!(event["note"], text);
    assert!(world.plane.kubectl(["describe", "network-attachment-definition", "ant"]).contains(text));
    assert_eq!(world.metric(0, "janitor_conflicts").as_deref(), Some("1"));
    // Another janitor says the same: it is the same event.
    world.stop(0);
    world.start_with(1, FLAGS);
    world.until("pass of the other", || {
        world.metric(1, "janitor_conflicts").filter(|v| v == "1").ok_or("none".to_owned())
    });
    until_passed(&world, 1);
    assert_eq!(told(&world).len(), 1);
    world.plane.api().delete(&format!("{NADS}/ant")).unwrap();
    world.until("end of it", || world.metric(1, "janitor_conflicts").filter(|v| v == "0").ok_or("one".to_owned()));
}

#[test]
fn a_leader_is_killed_in_its_pass_and_the_other_begins_it_anew() {
    let mut world = unguarded();
    for number in 0..150 {
        define(&world, &format!("d{number}"), 1000 + number).unwrap();
    }
    world.start_with(0, FLAGS);
    let begun = |world: &World| world.log(0).matches("a pass of the janitor begins").count();
    world.until("leader", || if begun(&world) > 0 { Ok(()) } else { Err("none".to_owned()) });
    world.start_with(1, FLAGS);
    // A pass asks half a dozen times, and so takes some seconds now.
    world.plane.delay_api(Duration::from_millis(500));
    policy(&world, "pool", json!({"range": {"max": 1099}}));
    let before = begun(&world);
    world.until("pass", || if begun(&world) > before { Ok(()) } else { Err("none".to_owned()) });
    thread::sleep(Duration::from_millis(700));
    world.kill(0);
    assert!(stored(&world, "pool")["status"].is_null(), "the pass was over");
    world.plane.delay_api(Duration::ZERO);
    until_counted(&world, "pool", 50);
    policy(&world, "later", json!({"range": {"max": 1009}}));
    until_counted(&world, "later", 140);
    assert!(world.log(1).contains("this replica leads"));
}

#[test]
fn a_janitor_that_works_alone_has_a_lease_and_a_readiness_of_its_own() {
    let mut world = unguarded();
    define(&world, "red", 5000).unwrap();
    policy(&world, "pool", json!({"range": {"max": 4099}}));
    world.start_with(0, &["--janitor-only", "--janitor-pause", "1"]);
    world.until_ready(0);
    until_counted(&world, "pool", 1);
    let lease =
        |name: &str| world.plane.api().get(&format!("/apis/coordination.k8s.io/v1/namespaces/meta-cni/leases/{name}"));
    assert_eq!(lease("meta-cni-janitor").unwrap()["spec"]["holderIdentity"], "replica-0");
    // It makes no certificates, and nobody can ask it.
    assert_eq!(lease("meta-cni-webhook").unwrap_err().code, 404);
    assert_eq!(world.plane.api().get(super::world::LEAF).unwrap_err().code, 404);
    let (listen, _) = World::addresses(0);
    assert!(world.plane.space().within(|| std::net::TcpStream::connect(listen)).is_err());
    // Another one stands by, and is ready to.
    world.start_with(1, &["--janitor-only", "--janitor-pause", "1"]);
    world.until_ready(1);
    assert!(!world.log(1).contains("this replica leads"));
    world.stop(0);
    define(&world, "blue", 5001).unwrap();
    until_counted(&world, "pool", 2);
}

#[test]
fn claims_end_with_their_definition_and_blocks_lose_nodes_that_are_gone() {
    let mut world = unguarded();
    for (file, crd) in [
        ("vni-claims", "vniclaims"),
        ("overlay-members", "overlaymembers"),
        ("address-blocks", "addressblocks"),
        ("address-claims", "addressclaims"),
        ("address-sets", "addresssets"),
    ] {
        world.plane.kubectl(["apply", "-f", &shipped(&format!("crds/{file}.yaml"))]);
        let crd = format!("crd/{crd}.meta-cni.io");
        world.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", &crd]);
    }
    let api = world.plane.api();
    let ours = |kind: &str, plural: &str, name: &str, spec: Value| {
        let labels = json!({"meta-cni.io/network": "4789-6000"});
        let object = json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": kind, "metadata": {"name": name, "labels": labels}, "spec": spec});
        api.apply(&object).unwrap();
        format!("/apis/meta-cni.io/v1alpha1/{plural}/{name}")
    };
    let uid = define(&world, "red", 6000).unwrap()["metadata"]["uid"].clone();
    let owner = json!({"namespace": "default", "name": "red", "uid": uid});
    let claim =
        ours("VniClaim", "vniclaims", "4789-6000", json!({"vni": 6000, "port": 4789, "owner": owner, "mtu": 1450}));
    let member =
        json!({"network": "4789-6000", "node": "n1", "vteps": ["192.0.2.1"], "mac": "02:00:00:00:00:01", "mtu": 1450});
    let member = ours("OverlayMember", "overlaymembers", "4789-6000.n1", member);
    api.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})).unwrap();
    let block = |first: u32, nodes: &[&str]| {
        let runs: Vec<Value> =
            nodes.iter().zip(0..).map(|(node, i)| json!({"first": first + 8 * i, "count": 8, "node": node})).collect();
        let spec =
            json!({"network": "4789-6000", "first": first, "count": 64, "addresses": ["10.0.0.0"], "runs": runs});
        ours("AddressBlock", "addressblocks", &format!("4789-6000.b{first}"), spec)
    };
    world.plane.kubectl(["apply", "-f", &shipped("ipam-claims.yaml")]);
    world.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", "crd/ipamclaims.k8s.cni.cncf.io"]);
    let vm = json!({
        "apiVersion": "k8s.cni.cncf.io/v1alpha1", "kind": "IPAMClaim", "metadata": {"namespace": "default", "name": "vm"},
        "spec": {"network": "red", "interface": "net1"},
    });
    let vm = api.apply(&vm).unwrap();
    let address = |slot: u32, kind: &str, name: &str, nodes: &[&str]| {
        let holder = json!({"kind": kind, "namespace": "default", "name": name, "uid": vm["metadata"]["uid"]});
        let spec =
            json!({"network": "4789-6000", "slot": slot, "addresses": ["10.0.0.1"], "holder": holder, "nodes": nodes});
        ours("AddressClaim", "addressclaims", &format!("4789-6000.a{slot}"), spec)
    };
    let held = address(1, "IPAMClaim", "vm", &["gone", "n1"]);
    let ended = [address(2, "Pod", "gone", &["n1"]), address(3, "IPAMClaim", "gone", &["n1"])];
    let (kept, lost) = (block(0, &["n1", "gone"]), block(64, &["gone"]));
    world.start_with(0, FLAGS);
    world.until("end of a block", || match api.get(&lost) {
        Err(refusal) if refusal.code == 404 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    world.until("a block of one node", || {
        let block = api.get(&kept).map_err(|e| e.to_string())?;
        let runs = block["spec"]["runs"].as_array().unwrap();
        if runs.len() == 1 && runs[0]["node"] == "n1" { Ok(()) } else { Err(block.to_string()) }
    });
    for claim in &ended {
        world.until("end of an address whose holder is gone", || match api.get(claim) {
            Err(refusal) if refusal.code == 404 => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
    }
    world.until("an address without the node that is gone", || {
        let claim = api.get(&held).map_err(|e| e.to_string())?;
        if claim["spec"]["nodes"] == json!(["n1"]) { Ok(()) } else { Err(claim.to_string()) }
    });
    world.until("a status that says who is there", || {
        let claim = api.get(&claim).map_err(|e| e.to_string())?;
        let status = &claim["status"];
        if status["members"] == 1 && status["claimed"] == 8 { Ok(()) } else { Err(claim.to_string()) }
    });
    // With a member the claim outlives its definition.
    api.delete(&format!("{NADS}/red")).unwrap();
    until_passed(&world, 0);
    api.get(&claim).unwrap();
    api.delete(&member).unwrap();
    world.until("end of a claim", || match api.get(&claim) {
        Err(refusal) if refusal.code == 404 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
}
