//! A node that the API server does not hear of for so long that its Node object is deleted: another node has its addresses when it is back.

use std::collections::BTreeSet;
use std::net::IpAddr;

use delegates::networks::NetworkId;
use serde_json::json;

use super::stage::{Stage, path};

fn id() -> NetworkId {
    NetworkId::overlay(4789, 4200)
}

/// Blocks of a network that a node owns, by name.
fn blocks_of(stage: &Stage, node: &str) -> Vec<String> {
    let mut names = stage.names("addressblocks");
    names.retain(|name| stage.object("addressblocks", name)["spec"]["runs"][0]["node"] == node);
    names
}

#[test]
fn a_node_that_was_cut_off_lets_go_of_blocks_that_are_another_nodes_and_its_pods_go_on() {
    let mut stage = Stage::new(&["a", "b"]);
    let mut wire = stage.wire_of("a");
    stage.start_all();
    // Two blocks, of 7 addresses each.
    let ipam = json!({"type": "blocks", "subnet": "10.42.0.0/28", "blockSize": 8});
    stage.define("red", json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 4200, "ipam": ipam}));
    stage.join("a", "red");
    let mut on_a: BTreeSet<IpAddr> = (1..=2).map(|n| stage.take("a", &id(), &format!("a{n}")).unwrap()).collect();
    stage.join("b", "red");
    stage.take("b", &id(), "b0").unwrap();

    wire.cut();
    let api = stage.world.plane.api();
    let own = blocks_of(&stage, "a");
    api.delete("/api/v1/nodes/a").unwrap();
    // As the garbage collector does.
    stage.delete("overlaymembers", "4789-4200.a");
    own.iter().for_each(|name| stage.delete("addressblocks", name));
    // The node knows nothing of it, and its pods come and go.
    stage.join("a", "red");
    on_a.insert(stage.take("a", &id(), "a3").unwrap());
    // The other one uses up the pool.
    stage.until("b", "blocks of the node that is gone", || {
        stage.join("b", "red");
        let number = stage.held("b", &id()).len();
        stage.take("b", &id(), &format!("b{number}"))?;
        if number == 13 { Ok(()) } else { Err(format!("{number} addresses")) }
    });
    let on_b: BTreeSet<IpAddr> = stage.held("b", &id()).into_iter().collect();
    assert!(on_b.len() == 14 && on_a.is_subset(&on_b), "{on_a:?} {on_b:?}");

    let node = api.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}})).unwrap();
    let owned = blocks_of(&stage, "b");
    wire.mend();
    stage.until("a", "end of its use of the blocks", || match stage.slots("a", &id()) {
        0 => Ok(()),
        slots => Err(format!("{slots} slots")),
    });
    // Its pods keep what they have, on both nodes, and it is a member again, under its new Node.
    assert_eq!(stage.held("a", &id()).into_iter().collect::<BTreeSet<_>>(), on_a);
    stage.until("a", "membership", || {
        let member = api.get(&format!("{}/4789-4200.a", path("overlaymembers"))).map_err(|e| e.to_string())?;
        let uid = &member["metadata"]["ownerReferences"][0]["uid"];
        if *uid == node["metadata"]["uid"] { Ok(()) } else { Err(member.to_string()) }
    });
    let told = stage.until("a", "event of each address", || match stage.node_events("AddressHeldTwice") {
        told if told.len() >= on_a.len() => Ok(told),
        told => Err(format!("{told:?}")),
    });
    for address in &on_a {
        let of = told.iter().filter(|text| text.contains(&format!(": {address} of ")));
        let of: Vec<&String> = of.collect();
        assert!(of.len() == 1 && of[0].contains("node b's"), "{address}: {told:?}");
    }
    // Nobody gets one of them from here, and the blocks stay whose they are.
    let refusal = stage.refused("a", "red");
    assert!(refusal.contains("all of its 14 addresses") && refusal.contains("b 14"), "{refusal}");
    assert_eq!(blocks_of(&stage, "b"), owned);
    // Pods end: an address that is held twice goes on the one node and stays on the other.
    for container in ["a1", "a2", "a3"] {
        stage.give_back("a", &id(), container);
    }
    stage.give_back("b", &id(), "b0");
    let got = stage.until("a", "address that the other node gave back", || stage.take("a", &id(), "a4"));
    assert!(!stage.held("b", &id()).contains(&got), "{got}");
    assert_eq!(stage.held("b", &id()).len(), 13);
}
