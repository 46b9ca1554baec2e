//! How many writes a pool costs that is used to its last address.

use super::*;

/// Pods on ten nodes until every address is held. What a node knows of the objects is as old as the round.
fn fill(mut order: impl FnMut(usize, usize) -> bool, pods: usize) -> World {
    let range = r#"{"subnet":"10.42.0.0/16","rangeStart":"10.42.0.1","rangeEnd":"10.42.3.232"}"#;
    let config = format!(
        r#"{{"cniVersion":"1.1.0","name":"lan","type":"macvlan","ipam":{{"type":"blocks","ranges":[[{range}]]}}}}"#
    );
    let ask = ask("lan", &config);
    let names: Vec<String> = (0..10).map(|number| format!("n{number}")).collect();
    let nodes: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::new(&ask.need.id, &nodes);
    let (mut held, mut left): (BTreeSet<u32>, Vec<usize>) = (BTreeSet::new(), vec![pods; 10]);
    for round in 0..20_000 {
        if left.iter().all(|left| *left == 0) {
            break;
        }
        world.now += Duration::from_millis(20);
        nodes.iter().for_each(|node| world.hear(node));
        for (number, node) in nodes.iter().enumerate() {
            if left[number] == 0 || !order(round, number) {
                world.run(node, None).unwrap();
            } else if world.run(node, Some(ask.clone())).is_ok() {
                let slot = *world.free(node).first().unwrap();
                assert!(held.insert(slot), "{slot} twice");
                world.nodes.get_mut(*node).unwrap().leased.insert(slot, format!("pod {slot}"));
                left[number] -= 1;
            }
        }
        assert!(round < 19_999, "{left:?} pods have no address: {:?}", world.writes);
    }
    world
}

fn pseudo_random() -> impl FnMut(usize, usize) -> bool {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    move |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.is_multiple_of(3)
    }
}

#[test]
fn a_thousand_pods_on_ten_nodes_cost_few_writes() {
    let all = [
        ("in step", fill(|_, _| true, 100)),
        ("at random", fill(pseudo_random(), 100)),
        ("one node after the other", fill(|round, number| round / 300 >= number, 100)),
        ("some much faster", fill(|round, number| round % (1 + number) == 0, 100)),
    ];
    for (how, world) in &all {
        eprintln!("{how}: {} {:?} {:?}", world.writes.values().sum::<usize>(), world.writes, world.given);
    }
    for (how, world) in &all {
        let writes: usize = world.writes.values().sum();
        assert!(writes <= 170, "{how}: {:?}", world.writes);
    }
}
