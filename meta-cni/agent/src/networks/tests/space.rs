//! Addresses of whereabouts' space that others have: kept from pods for as long as they have them.

use std::path::Path;

use delegates::ipam::blocks::whereabouts::Files;
use delegates::networks::needs_of;
use serde_json::json;

use super::super::facts::Wanted;
use super::*;

/// A definition of whereabouts with blocks of 8.
fn range(range: &str) -> Ask {
    let ipam = format!(r#"{{"type":"whereabouts","range":"{range}","blockSize":8}}"#);
    let config = format!(r#"{{"cniVersion":"1.0.0","name":"lan","type":"macvlan","ipam":{ipam}}}"#);
    let files = Files { root: Path::new("/nonexistent"), path_roots: &[] };
    let need = needs_of(&config, &reference("lan"), Some(&files)).remove(0);
    Ask { reference: reference("lan"), need, uid: String::new(), owner: None, wanted: None }
}

impl World {
    /// What whereabouts gave of 10.9.0.0/28.
    fn given(&mut self, ask: &Ask, slots: &[u32]) {
        let of = |slot: &u32| (slot.to_string(), json!({"id": "c", "podref": format!("shop/old{slot}")}));
        let allocations: serde_json::Map<String, serde_json::Value> = slots.iter().map(of).collect();
        let raw =
            json!({"metadata": {"name": "10.9.0.0-28"}, "spec": {"range": "10.9.0.0/28", "allocations": allocations}});
        let mut space = Space::new(String::new(), self.now);
        space.take_ip_pool(ask.need.pool.as_ref().unwrap(), &serde_json::from_value(raw).unwrap());
        self.space = Some(space);
    }

    /// What is kept in the file of a node.
    fn kept(&self, node: &str) -> Vec<u32> {
        self.nodes[node].file.as_ref().unwrap().pool.as_ref().unwrap().claimed.keys().copied().collect()
    }
}

#[test]
fn what_whereabouts_gave_is_given_to_nobody_and_to_somebody_once_it_is_given_back() {
    let ask = range("10.9.0.0/28");
    let mut world = World::new(&ask.need.id, &["a", "b"]);
    world.given(&ask, &[1, 2, 3, 9]);
    let mut taken = BTreeSet::new();
    let outcome = loop {
        let node = ["a", "b"][taken.len() % 2];
        match world.pod(node, &ask) {
            Ok(slot) => assert!(taken.insert(slot), "slot {slot} twice"),
            Err(why) => break why,
        }
        // Both agents are killed: what is kept is in their files, whatever they know.
        for node in ["a", "b"] {
            if world.nodes[node].file.is_none() {
                continue;
            }
            let before = world.kept(node);
            world.restart(node);
            world.run(node, None).unwrap();
            assert_eq!(world.kept(node), before);
        }
    };
    assert_eq!(taken.into_iter().collect::<Vec<_>>(), [4, 5, 6, 7, 8, 10, 11, 12, 13, 14]);
    assert!(outcome.contains("all of its 14 addresses are held"), "{outcome}");
    assert!(outcome.contains("of these, 4 by pods of whereabouts"), "{outcome}");
    // Two pods end, and the program takes them out.
    world.given(&ask, &[1, 3]);
    world.now += Duration::from_secs(3);
    let mut back: Vec<u32> = Vec::new();
    for node in ["a", "b", "a", "b"] {
        back.extend(world.pod(node, &ask));
    }
    back.sort_unstable();
    assert_eq!(back, [2, 9]);
}

#[test]
fn a_block_of_which_others_have_all_is_left_alone() {
    let ask = range("10.9.0.0/28");
    let mut world = World::new(&ask.need.id, &["a"]);
    world.given(&ask, &(0..8).collect::<Vec<_>>());
    for _ in 8..15 {
        world.pod("a", &ask).unwrap();
    }
    assert_eq!(world.server.blocks.keys().collect::<Vec<_>>(), [&block_name(&ask.need.id, 8)]);
}

#[test]
fn an_address_that_whereabouts_gave_is_refused_by_its_holders_name() {
    let ask = range("10.9.0.0/28");
    let mut world = World::new(&ask.need.id, &["a", "b"]);
    world.given(&ask, &[2]);
    world.pod("a", &ask).unwrap();
    let holder = attachments::api::ClaimHolder { namespace: "shop".into(), name: "web".into(), ..Default::default() };
    let wanted = Wanted { holder, slot: Some(2), address: "10.9.0.2".into(), set: None };
    // On a node that has it in its own blocks the plugin refuses it by the same words.
    let refused = world.run("b", Some(Ask { wanted: Some(wanted), ..ask.clone() }));
    let owner = ["a", "b"].into_iter().find(|node| {
        world.nodes[*node].file.as_ref().is_some_and(|file| {
            file.pool
                .as_ref()
                .is_some_and(|pool| pool.claimed.get(&2).is_some_and(|by| by == "pod shop/old2 of whereabouts"))
        })
    });
    match refused {
        Err(why) => {
            assert!(why.contains("requested address 10.9.0.2 is kept for pod shop/old2 of whereabouts"), "{why}")
        }
        Ok(()) => assert_eq!(owner, Some("b")),
    }
    assert!(owner.is_some());
    assert!(world.server.addresses.is_empty(), "nothing is claimed for it");
}

#[test]
fn an_address_that_whereabouts_gives_though_a_pod_has_it_is_told_once() {
    let ask = range("10.9.0.0/28");
    let mut world = World::new(&ask.need.id, &["a"]);
    world.given(&ask, &[1]);
    let slot = world.pod("a", &ask).unwrap();
    world.given(&ask, &[1, slot]);
    for _ in 0..3 {
        world.now += Duration::from_secs(31);
        world.run("a", None).unwrap();
    }
    let told = format!("10.9.0.{slot} of pod {slot} is held here, and by pod shop/old{slot} of whereabouts");
    assert_eq!(world.told.iter().filter(|text| text.contains(&told)).count(), 1, "{:?}", world.told);
}
