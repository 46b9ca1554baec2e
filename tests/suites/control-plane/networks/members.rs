//! A thousand members of an overlay. Figures are printed, for those who run it with `--nocapture`.

use std::thread;
use std::time::{Duration, Instant};

use delegates::networks::NetworkId;
use meta_cni_tests::cluster::Api;
use serde_json::{Value, json};

use super::stage::{Stage, path};
use crate::world::SOON;

/// Other members.
const MEMBERS: u32 = 1000;
/// What the agent may take more for them, in MB: the objects, and 130,000 entries as they are wanted, with which those of the kernel are
/// compared one by one. The allocator gives memory back only at the end of its space.
const MOST: f64 = 10.0;

fn id() -> NetworkId {
    NetworkId::overlay(4789, 4200)
}

fn mac(number: u32) -> String {
    format!("02:00:00:01:{:02x}:{:02x}", number / 256, number % 256)
}

fn end(number: u32) -> String {
    format!("172.30.{}.{}", number / 250, 1 + number % 250)
}

/// The objects of a member with 64 slots, as its agent would make them.
fn member(number: u32, uid: &Value) -> [(&'static str, Value); 2] {
    let (id, node) = (id(), format!("m{number}"));
    let metadata = |name: String| {
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid});
        json!({"name": name, "labels": {"meta-cni.io/network": id}, "ownerReferences": [owner]})
    };
    let first = 64 * number;
    let address = u32::from(std::net::Ipv4Addr::new(10, 42, 0, 0)) + first;
    let member = json!({
        "apiVersion": "meta-cni.io/v1alpha1", "kind": "OverlayMember", "metadata": metadata(format!("{id}.{node}")),
        "spec": {"network": id, "node": node, "vteps": [end(number)], "mac": mac(number), "mtu": 1450},
    });
    let block = json!({
        "apiVersion": "meta-cni.io/v1alpha1", "kind": "AddressBlock", "metadata": metadata(format!("{id}.b{first}")),
        "spec": {
            "network": id, "first": first, "count": 64, "addresses": [std::net::Ipv4Addr::from(address).to_string()],
            "runs": [{"first": first, "count": 64, "node": node}],
        },
    });
    [("overlaymembers", member), ("addressblocks", block)]
}

fn make(stage: &Stage) {
    let kubeconfig: Value = serde_json::from_slice(&std::fs::read(stage.world.plane.kubeconfig()).unwrap()).unwrap();
    let uid = stage.world.plane.api().get("/api/v1/nodes/a").unwrap()["metadata"]["uid"].clone();
    thread::scope(|scope| {
        for part in 0..4 {
            let (kubeconfig, uid) = (&kubeconfig, &uid);
            scope.spawn(move || {
                let api = Api::new(kubeconfig);
                for number in (1..=MEMBERS).filter(|number| number % 4 == part) {
                    for (plural, object) in member(number, uid) {
                        api.post(&path(plural), &object)
                            .unwrap_or_else(|refusal| panic!("{plural} {number}: {refusal}"));
                    }
                }
            });
        }
    });
}

/// What the agent said of entries that it brought to a new state.
fn programmed(stage: &Stage) -> Vec<String> {
    let log = stage.log("a");
    log.lines().filter(|line| line.contains("overlay brought to its members")).map(str::to_owned).collect()
}

/// Returns when the agent has said so once more. It is asked every millisecond: a longer pause would be in the figures.
#[track_caller]
fn news(stage: &Stage, said: usize) {
    let began = Instant::now();
    while programmed(stage).len() == said {
        assert!(began.elapsed() < SOON, "no news of it:\n{}", stage.log("a"));
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_thousand_members_are_programmed_and_cost_little_memory() {
    let mut stage = Stage::new(&["a"]);
    // A line with a thousand members costs more than what it tells of.
    stage.log_level = "info";
    make(&stage);
    stage.start_all();
    // What every network takes has nothing to do with members.
    stage.overlay("small", 4300, "10.40.0.0/24");
    stage.world.plane.space().run("ip link add bx4300 type bridge");
    stage.join("a", "small");
    stage.until("a", "network that is programmed", || {
        if programmed(&stage).len() == 1 { Ok(()) } else { Err(String::new()) }
    });
    let (before, spent) = (stage.memory("a"), stage.cpu("a"));
    stage.overlay("red", 4200, "10.42.0.0/15");
    // As the plugin would, for a pod: the agent completes it.
    stage.world.plane.space().run("ip link add bx4200 type bridge");
    let began = Instant::now();
    stage.join("a", "red");
    eprintln!("joined after {:?}, CPU {:?}", began.elapsed(), stage.cpu("a") - spent);
    let all = MEMBERS as usize;
    let slots: u32 = {
        let file = stage.file("a", &id()).unwrap();
        let members = file.overlay.unwrap().members;
        assert_eq!(members.len(), all);
        members.iter().flat_map(|member| &member.slots).map(|run| run.count).sum()
    };
    assert_eq!(slots, 64 * MEMBERS);
    // The kernel lists entries under the lock under which it takes them, so nobody asks for them before.
    news(&stage, 1);
    eprintln!("programmed after {:?}, CPU {:?}: {}", began.elapsed(), stage.cpu("a") - spent, programmed(&stage)[1]);
    // A flood destination, a station for the device, and one for each pod that may be; twice, for device and bridge.
    let want = 2 * 64 * all;
    let entries = || stage.world.plane.space().run("bridge fdb show dev vx4200");
    stage.until("a", "entries", || match entries().lines().count() {
        is if is >= want => Ok(()),
        is => Err(format!("{is} entries, want {want}")),
    });
    thread::sleep(Duration::from_secs(3));
    let grown = stage.memory("a") - before;
    eprintln!("{MEMBERS} members: {grown:.1} MB more than {before:.1} MB");
    // One after the other moves. The first news may meet a look at everything; the entries of the others are not computed then.
    for number in 1..=5 {
        let object = format!("{}/{}.m{number}", path("overlaymembers"), id());
        let moved = json!({"spec": {"vteps": [format!("172.29.0.{number}")]}});
        let (began, said, spent) = (Instant::now(), programmed(&stage).len(), stage.cpu("a"));
        stage.world.plane.api().patch(&object, &moved).unwrap();
        let answered = began.elapsed();
        news(&stage, said);
        let (after, cpu) = (began.elapsed(), stage.cpu("a") - spent);
        eprintln!(
            "a change was there after {after:?} (answered {answered:?}), CPU {cpu:?}: {}",
            programmed(&stage)[said]
        );
    }
    let there = entries();
    for number in 1..=5 {
        let count = |end: &str| there.matches(&format!("dst {end} ")).count();
        let ends = (count(&format!("172.29.0.{number}")), count(&end(number)));
        assert_eq!(ends, (66, 0), "64 slots, the device and the flood destination");
    }
    let metrics = stage.metrics("a").unwrap();
    metrics.lines().filter(|line| line.contains("network_convergence_seconds")).for_each(|line| eprintln!("{line}"));
    assert!(grown <= MOST, "{grown:.1} MB more for {MEMBERS} members, want at most {MOST}");
}
