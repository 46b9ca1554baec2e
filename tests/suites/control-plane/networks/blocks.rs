//! Address blocks: claimed, shared out, given back, and lost.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, SystemTime};

use delegates::networks::NetworkId;
use serde_json::{Value, json};

use super::stage::{Stage, network, path, resolve};

fn id() -> NetworkId {
    network("lan")
}

/// A network that is there without us.
fn lan(stage: &Stage, subnet: &str, block_size: u32) {
    let ipam = json!({"type": "blocks", "subnet": subnet, "blockSize": block_size});
    stage.define("lan", json!({"cniVersion": "1.1.0", "type": "macvlan", "master": "eth1", "ipam": ipam}));
}

#[test]
fn agents_that_race_for_blocks_get_one_each_and_the_next_is_claimed_ahead() {
    let nodes = ["a", "b", "c"];
    let mut stage = Stage::new(&nodes);
    stage.start_all();
    lan(&stage, "10.42.0.0/26", 8);
    let sockets = nodes.map(|node| stage.dir(node).join("run/agent.sock"));
    thread::scope(|scope| {
        let asked = sockets.each_ref().map(|socket| scope.spawn(|| resolve(socket, "lan", 10_000)));
        for answer in asked {
            let answer = answer.join().unwrap();
            assert_eq!(answer["kind"], "resolved", "{answer}");
        }
    });
    let mut all: BTreeSet<u32> = BTreeSet::new();
    for node in nodes {
        let pool = stage.file(node, &id()).unwrap().pool.unwrap();
        let own: Vec<u32> = pool.slots.iter().flat_map(|run| run.iter()).collect();
        assert!(own.len() >= 8 && own.iter().all(|slot| all.insert(*slot)), "{node}: {own:?}");
    }
    // One is left of eight: the next block is there before it is needed.
    let before = stage.slots("a", &id());
    let mut taken = Vec::new();
    while stage.slots("a", &id()) == before && taken.len() < 7 {
        taken.push(stage.take("a", &id(), &format!("c{}", taken.len())).unwrap());
    }
    stage.until("a", "block ahead of need", || {
        if stage.slots("a", &id()) > before { Ok(()) } else { Err(format!("{before} slots, {} taken", taken.len())) }
    });
}

#[test]
fn the_last_address_of_a_pool_goes_to_whoever_needs_it_and_then_it_is_exhausted() {
    let nodes = ["a", "b"];
    let mut stage = Stage::new(&nodes);
    stage.start_all();
    // 14 addresses, in blocks of 8: each node has one of the two.
    lan(&stage, "10.42.0.0/28", 8);
    nodes.iter().for_each(|node| stage.join(node, "lan"));
    let mut held: BTreeSet<IpAddr> = BTreeSet::new();
    held.insert(stage.take("b", &id(), "first").unwrap());
    // All others go to one node, though half of them were the other one's.
    for number in 0..13 {
        let taken = stage.take("a", &id(), &format!("c{number}"));
        assert!(held.insert(taken.unwrap_or_else(|why| panic!(
            "{number}: {why}\n{}\n{}",
            stage.log("a"),
            stage.log("b")
        ))));
    }
    let why = stage.take("a", &id(), "one-more").unwrap_err();
    for word in ["10.42.0.0/28", "all of its 14 addresses", "a 13", "b 1"] {
        assert!(why.contains(word), "{word}: {why}");
    }
    let refusal = stage.refused("a", "lan");
    assert!(refusal.contains("default/lan") && refusal.contains("all of its 14 addresses"), "{refusal}");
    // One that is given back anywhere is found.
    stage.give_back("b", &id(), "first");
    stage.until("a", "address that the other node gave back", || stage.take("a", &id(), "one-more"));
    assert_eq!(stage.held("a", &id()).len(), 14);
}

#[test]
fn what_is_empty_is_given_back_and_what_pods_hold_stays() {
    let mut stage = Stage::new(&["a"]);
    stage.grace = 2;
    stage.start_all();
    lan(&stage, "10.42.0.0/24", 8);
    stage.join("a", "lan");
    for number in 0..20 {
        stage.take("a", &id(), &format!("c{number}")).unwrap();
    }
    let most = stage.names("addressblocks").len();
    assert!(most >= 3);
    for number in 1..20 {
        stage.give_back("a", &id(), &format!("c{number}"));
    }
    stage.until("a", "end of empty blocks", || match stage.names("addressblocks").len() {
        1 => Ok(()),
        other => Err(format!("{other} of {most} blocks")),
    });
    let held = stage.held("a", &id());
    let pool = stage.file("a", &id()).unwrap().pool.unwrap();
    let slot = pool.pool.slot_of(held[0]).unwrap();
    assert!(held.len() == 1 && pool.slots.iter().any(|run| run.contains(slot)), "{pool:?}");
}

#[test]
fn a_clock_that_is_set_forth_and_back_changes_nothing_of_leases_and_graces() {
    let mut stage = Stage::new(&["a"]);
    stage.grace = 2;
    stage.start_all();
    lan(&stage, "10.42.0.0/24", 8);
    stage.join("a", "lan");
    // What is written while the clock is a day ahead, or a day behind, has such times.
    let day = Duration::from_secs(86_400);
    let step = |stage: &Stage, time: SystemTime| {
        for name in ["leases", "network.json", "agent.json"] {
            let file = id().dir(&stage.state_dir("a")).join(name);
            fs::File::options().append(true).open(file).unwrap().set_modified(time).unwrap();
        }
    };
    for number in 0..7 {
        stage.take("a", &id(), &format!("c{number}")).unwrap();
    }
    stage.until("a", "block ahead of need", || if stage.slots("a", &id()) > 8 { Ok(()) } else { Err(String::new()) });
    step(&stage, SystemTime::now() + day);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(stage.held("a", &id()).len(), 7, "no lease runs out");
    // Back: the times are earlier than those that were seen last, also for an agent that starts.
    for number in 1..7 {
        stage.give_back("a", &id(), &format!("c{number}"));
    }
    step(&stage, SystemTime::now() - day);
    stage.until("a", "end of the block that is empty", || match stage.names("addressblocks").len() {
        1 => Ok(()),
        other => Err(format!("{other} blocks")),
    });
    stage.kill("a");
    step(&stage, SystemTime::now() + day);
    stage.start("a");
    stage.join("a", "lan");
    stage.give_back("a", &id(), "c0");
    step(&stage, SystemTime::now() - day);
    stage.until("a", "end of everything", || match stage.names("addressblocks").len() {
        0 if stage.file("a", &id()).is_none() => Ok(()),
        other => Err(format!("{other} blocks")),
    });
}

#[test]
fn pods_come_and_go_while_the_api_server_is_away_and_blocks_are_looked_for_after() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.start_all();
    lan(&stage, "10.42.0.0/24", 64);
    for node in ["a", "b"] {
        stage.join(node, "lan");
    }
    stage.take("a", &id(), "before").unwrap();
    let name = stage
        .names("addressblocks")
        .into_iter()
        .find(|name| stage.object("addressblocks", name)["spec"]["runs"][0]["node"] == "a");
    let name = name.unwrap();
    stage.world.plane.kill_api();
    stage.kill("a");
    stage.start("a");
    for number in 0..10 {
        stage.join("a", "lan");
        stage.take("a", &id(), &format!("c{number}")).unwrap();
        stage.give_back("a", &id(), &format!("c{number}"));
    }
    // Full: the next one has to wait for the API server, and says so.
    stage.kill("a");
    stage.world.plane.start_api();

    // It was declared gone meanwhile, and another node has the block by now.
    let api = stage.world.plane.api();
    api.delete(&format!("{}/{name}", path("addressblocks"))).unwrap();
    let first: u32 = name.rsplit_once(".b").unwrap().1.parse().unwrap();
    let node = api.get("/api/v1/nodes/b").unwrap();
    let pool = stage.file("b", &id()).unwrap().pool.unwrap().pool;
    let block = json!({
        "apiVersion": "meta-cni.io/v1alpha1", "kind": "AddressBlock",
        "metadata": {
            "name": name, "labels": {"meta-cni.io/network": id()},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "b", "uid": node["metadata"]["uid"]}],
        },
        "spec": {"network": id(), "first": first, "count": 64, "addresses": pool.numbered(first), "runs": [{"first": first, "count": 64, "node": "b"}]},
    });
    api.post(&path("addressblocks"), &block).unwrap();
    stage.start("a");
    stage.until("a", "end of slots that are another node's", || {
        match stage.file("a", &id()).unwrap().pool.unwrap().slots {
            slots if slots.iter().all(|run| run.first != first) => Ok(()),
            slots => Err(format!("{slots:?}")),
        }
    });
    let held = stage.held("a", &id())[0].to_string();
    stage.until("a", "event of an address that is held twice", || {
        let told = stage.node_events("AddressHeldTwice");
        if told.iter().any(|text| text.contains(&held) && text.contains("node b's") && text.contains("default/before"))
        {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    });
    stage.join("a", "lan");
}

#[test]
fn objects_that_make_no_sense_are_passed_over_and_logged_once() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.start_all();
    lan(&stage, "10.42.0.0/24", 64);
    stage.join("a", "lan");
    let name = stage.names("addressblocks")[0].clone();
    let first: u32 = name.rsplit_once(".b").unwrap().1.parse().unwrap();
    let runs = |more: Value| {
        let own = json!({"first": first, "count": 64, "node": "a"});
        json!({"spec": {"runs": [own, more]}})
    };
    let api = stage.world.plane.api();
    let object = format!("{}/{name}", path("addressblocks"));
    for more in
        [json!({"first": first + 8, "count": 4, "node": "b"}), json!({"first": first + 60, "count": 9, "node": "b"})]
    {
        api.patch(&object, &runs(more)).unwrap();
        stage.until("a", "line about it", || {
            let lines = stage.log("a").lines().filter(|line| line.contains("of b is ignored")).count();
            if lines > 0 { Ok(()) } else { Err("nothing".to_owned()) }
        });
    }
    assert_eq!(stage.slots("a", &id()), 64);
    stage.join("b", "lan");
    assert_eq!(stage.slots("b", &id()), 64);
    // Another numbering than the one that is used.
    stage.define(
        "lan",
        json!({"cniVersion": "1.1.0", "type": "macvlan", "ipam": {"type": "blocks", "subnet": "10.43.0.0/24"}}),
    );
    stage.until("a", "refusal of other addresses", || {
        let answer = stage.resolve("a", "lan");
        match answer["body"]["message"].as_str() {
            Some(text) if text.contains("10.43.0.0/24") && text.contains("begins with 10.42.0.") => Ok(()),
            _ => Err(answer.to_string()),
        }
    });
    stage.refused("a", "lan");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(stage.slots("a", &id()), 64, "what pods have is not moved");
    let told = stage.node_events("AddressesNumberedOtherwise");
    assert!(told.len() == 1 && told[0].contains("default/lan"), "{told:?}");
}
