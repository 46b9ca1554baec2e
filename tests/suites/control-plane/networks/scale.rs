//! A thousand pods on ten nodes from exactly a thousand addresses: all get one, no two the same, with few writes. Figures are printed, for
//! those who run it with `--nocapture`.

use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use serde_json::json;

use super::stage::{Stage, network, resolve, take};

#[test]
fn a_thousand_pods_on_ten_nodes_use_exactly_a_thousand_addresses() {
    let names: Vec<String> = (0..10).map(|number| format!("n{number}")).collect();
    let nodes: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut stage = Stage::new(&nodes);
    stage.start_all();
    let range = json!({"subnet": "10.42.0.0/16", "rangeStart": "10.42.0.1", "rangeEnd": "10.42.3.232"});
    let ipam = json!({"type": "blocks", "ranges": [[range]]});
    stage.define("lan", json!({"cniVersion": "1.1.0", "type": "macvlan", "master": "eth1", "ipam": ipam}));
    let id = network("lan");
    let kinds = [("POST", ""), ("PATCH", ""), ("PATCH", "status"), ("DELETE", "")];
    let each = || kinds.map(|(verb, sub)| stage.world.requests(verb, "addressblocks", sub));
    let (before, began) = (each(), Instant::now());
    let taken: Vec<Vec<_>> = thread::scope(|scope| {
        let each = nodes.iter().map(|node| {
            let (socket, state_dir, id) = (stage.dir(node).join("run/agent.sock"), stage.state_dir(node), &id);
            scope.spawn(move || {
                (0..100)
                    .map(|number| {
                        // As the kubelet does, a pod that fails is tried again.
                        let mut why = String::new();
                        for _ in 0..20 {
                            let answer = resolve(&socket, "lan", 20_000);
                            if answer["kind"] == "resolved" {
                                match take(&state_dir, id, &format!("c{number}")) {
                                    Ok(address) => return address,
                                    Err(text) => why = text,
                                }
                            } else {
                                why = answer.to_string();
                            }
                            thread::sleep(std::time::Duration::from_millis(500));
                        }
                        panic!("{node}: pod {number}: {why}")
                    })
                    .collect::<Vec<_>>()
            })
        });
        each.collect::<Vec<_>>().into_iter().map(|one| one.join().unwrap()).collect()
    });
    let all: BTreeSet<_> = taken.iter().flatten().copied().collect();
    let each: Vec<u64> = each().iter().zip(before).map(|(after, before)| after - before).collect();
    let writes: u64 = each.iter().sum();
    eprintln!(
        "1000 pods on 10 nodes: {:.1} s, {writes} writes of blocks (create, change, status, delete: {each:?})",
        began.elapsed().as_secs_f64()
    );
    assert_eq!((taken.iter().map(Vec::len).sum::<usize>(), all.len()), (1000, 1000));
    assert!(writes <= 200, "{writes} writes for 1000 pods");
}
