//! Blocks of several nodes: raced for, shared out to the last slot, given back, lost.

use super::*;

#[test]
fn nodes_that_know_nothing_of_one_another_race_for_one_block() {
    let ask = lan("10.0.0.0/29");
    let mut world = World::new(&ask.need.id, &["a", "b"]);
    // Both have listed, and nothing was there.
    world.hear("a");
    world.hear("b");
    world.run("a", Some(ask.clone())).unwrap();
    assert_eq!(world.server.blocks.len(), 1);
    assert_eq!(world.run("b", Some(ask.clone())), Err("waits".to_owned()), "the one block is asked for a part");
    world.hear("a");
    world.run("a", None).unwrap();
    world.hear("b");
    world.run("b", Some(ask)).unwrap();
    assert_eq!((world.free("a").len(), world.free("b").len()), (3, 3), "at most half");
}

#[test]
fn every_address_of_a_pool_is_used_wherever_the_pods_are() {
    for order in [&["a", "b", "c"][..], &["a"], &["b", "a", "a", "a"]] {
        let ask = lan("10.0.0.0/27");
        let mut world = World::new(&ask.need.id, &["a", "b", "c"]);
        // Each has a block to begin with.
        for node in ["a", "b", "c"] {
            world.run(node, Some(ask.clone())).unwrap();
        }
        let mut slots = BTreeSet::new();
        for number in 0..30 {
            let node = order[number % order.len()];
            let slot = world.pod(node, &ask).unwrap_or_else(|why| panic!("{order:?}: pod {number} on {node}: {why}"));
            assert!(slots.insert(slot), "{slot} twice");
        }
        let why = world.pod(order[0], &ask).unwrap_err();
        assert!(why.contains("10.0.0.0/27") && why.contains("all of its 30 addresses are held"), "{why}");
        // One goes: whoever needs it gets it, once its owner has told.
        let owner = *order.last().unwrap();
        let freed = *world.nodes[owner].leased.keys().next().unwrap();
        world.nodes.get_mut(owner).unwrap().leased.remove(&freed);
        world.now += Duration::from_secs(10);
        for node in ["a", "b", "c"] {
            world.hear(node);
            world.run(node, None).unwrap();
        }
        let asking = if order.len() == 1 { "c" } else { order[0] };
        world.hear(asking);
        assert_eq!(world.pod(asking, &ask), Ok(freed), "{order:?}");
    }
}

#[test]
fn slots_that_are_kept_for_names_are_not_free_and_one_is_had_by_who_asks_for_it() {
    let ask = lan("10.0.0.0/28");
    let mut world = World::new(&ask.need.id, &["a"]);
    world.run("a", Some(ask.clone())).unwrap();
    let first = world.free("a");
    world.nodes.get_mut("a").unwrap().kept = first.iter().copied().collect();
    world.run("a", Some(ask.clone())).unwrap();
    let all = world.free("a");
    assert!(all.len() > first.len(), "another block, for this one has no address for a pod that asks for any");
    world.nodes.get_mut("a").unwrap().kept = all.iter().copied().collect();
    let why = world.run("a", Some(ask)).unwrap_err();
    assert!(why.contains("10.0.0.0/28"), "{why}");
    let named = super::addresses::pod("front", first[0]);
    let named = Ask { wanted: named.wanted, ..lan("10.0.0.0/28") };
    assert_eq!(world.run("a", Some(named)), Ok(()));
}

#[test]
fn an_agent_that_ends_behind_any_step_gives_no_slot_away_twice_and_comes_to_the_same_end() {
    let ask = lan("10.0.0.0/28");
    let mut begun = World::new(&ask.need.id, &["a", "b"]);
    for node in ["a", "b"] {
        begun.run(node, Some(ask.clone())).unwrap();
    }
    for node in ["a", "a", "a", "a", "a", "a", "a"] {
        begun.pod(node, &ask).unwrap();
    }
    // From here on a needs slots of b's: killed behind each step of each of them.
    for (victim, kill) in ["a", "b"].into_iter().flat_map(|victim| (0..14).map(move |kill| (victim, kill))) {
        let mut world = begun.clone();
        let mut left = kill;
        let mut rounds = 0;
        while world.free("a").is_empty() {
            for node in ["a", "b"] {
                world.hear(node);
                let asked = (node == "a").then(|| ask.clone());
                let most = if node == victim { left } else { usize::MAX };
                if world.steps(node, asked.clone(), most).is_none() {
                    world.restart(node);
                    world.check();
                    left = usize::MAX;
                }
            }
            world.now += Duration::from_secs(1);
            rounds += 1;
            assert!(rounds < 30, "{victim} killed behind step {kill}");
        }
        assert!(world.pod("a", &ask).is_ok());
    }
}

#[test]
fn an_empty_block_goes_after_the_grace_and_never_one_that_a_pod_needs() {
    let ask = lan("10.0.0.0/24");
    let mut world = World::new(&ask.need.id, &["a"]);
    for _ in 0..20 {
        world.pod("a", &ask).unwrap();
    }
    let many = world.server.blocks.len();
    let keep = *world.nodes["a"].leased.keys().next().unwrap();
    world.nodes.get_mut("a").unwrap().leased.retain(|slot, _| *slot == keep);
    world.run("a", None).unwrap();
    world.now += Duration::from_secs(59);
    world.run("a", None).unwrap();
    assert_eq!(world.server.blocks.len(), many);
    world.now += Duration::from_secs(2);
    world.run("a", None).unwrap();
    assert_eq!(world.server.blocks.len(), 1);
    let pool = world.nodes["a"].file.as_ref().unwrap().pool.as_ref().unwrap();
    assert!(has(&pool.slots, keep));
}

#[test]
fn a_block_of_somebody_else_is_let_go_and_told_of_where_pods_hold_it() {
    let ask = lan("10.0.0.0/24");
    let mut world = World::new(&ask.need.id, &["a", "b"]);
    let slot = world.pod("a", &ask).unwrap();
    // The Node was deleted, and another node was faster.
    world.is_unfair = true;
    world.server.blocks.clear();
    let mut spec = world.nodes["a"].view.blocks[0].spec.clone();
    spec.runs[0].node = "b".to_owned();
    world.call("b", Call::CreateBlock(spec));
    world.restart("a");
    world.run("a", None).unwrap();
    assert!(world.told.is_empty(), "nothing is known yet");
    world.hear("a");
    world.run("a", None).unwrap();
    world.is_unfair = false;
    world.check();
    assert!(world.free("a").iter().all(|free| *free / 8 != slot / 8));
    assert!(
        matches!(world.told.as_slice(), [one] if one.contains(&format!("pod {slot}")) && one.contains("node b's")),
        "{:?}",
        world.told
    );
    world.run("a", None).unwrap();
    assert_eq!(world.told.len(), 1);
    // Deleted and nobody else's: it is made again.
    let mut world = World { is_unfair: true, ..World::new(&ask.need.id, &["a"]) };
    let slot = world.pod("a", &ask).unwrap();
    world.server.blocks.clear();
    world.hear("a");
    world.run("a", None).unwrap();
    let block = world.server.blocks.values().next().unwrap();
    assert!(block.spec.first <= slot && slot < block.spec.first + 8);
}
