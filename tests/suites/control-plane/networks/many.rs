//! A hundred networks on three nodes: each node hears of all of them, and what it costs to join one does not grow with those that it is in.
//! Figures are printed, for those who run it with `--nocapture`.

use std::thread;
use std::time::{Duration, Instant};

use delegates::networks::NetworkId;

use super::stage::{Stage, resolve};

const NETWORKS: u32 = 100;
const NODES: [&str; 3] = ["a", "b", "c"];
/// Objects of a network with all nodes in it: a claim, and a member and a block a node.
const OBJECTS: u64 = 1 + 2 * NODES.len() as u64;

fn id(number: u32) -> NetworkId {
    NetworkId::overlay(4789, 5000 + number)
}

/// How many objects of the kinds of networks the API server has put into lists.
fn listed(stage: &Stage) -> u64 {
    let metrics = stage.world.plane.api().text("/metrics").unwrap();
    let counts = metrics.lines().filter(|line| line.starts_with("apiserver_cache_list_returned_objects_total{"));
    let ours = counts.filter(|line| line.contains("meta-cni.io"));
    ours.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[test]
fn a_hundred_networks_on_three_nodes_are_joined_and_followed() {
    let mut stage = Stage::new(&NODES);
    stage.start_all();
    for number in 0..NETWORKS {
        stage.overlay(&format!("net{number}"), 5000 + number, &format!("10.{}.0.0/16", 100 + number));
    }
    let before = listed(&stage);
    thread::scope(|scope| {
        for (number, node) in NODES.into_iter().enumerate() {
            let socket = stage.dir(node).join("run/agent.sock");
            scope.spawn(move || {
                let mut took = Vec::new();
                for step in 0..NETWORKS {
                    // Each node begins elsewhere, and all are joined by somebody first.
                    let network = (step + 33 * number as u32) % NETWORKS;
                    let began = Instant::now();
                    let answer = resolve(&socket, &format!("net{network}"), 20_000);
                    assert_eq!(answer["kind"], "resolved", "{node}: {answer}");
                    took.push(began.elapsed());
                }
                let mean = |part: &[Duration]| part.iter().sum::<Duration>() / u32::try_from(part.len()).unwrap();
                eprintln!(
                    "{node}: a join takes {:?}, the first ten {:?}, the last ten {:?}",
                    mean(&took),
                    mean(&took[..10]),
                    mean(&took[90..])
                );
            });
        }
    });
    for node in NODES {
        for number in 0..NETWORKS {
            stage.until(node, "members with their blocks", || {
                let overlay = stage.file(node, &id(number)).and_then(|file| file.overlay).ok_or("no membership")?;
                let slots = overlay.members.iter().filter(|member| !member.slots.is_empty()).count();
                if slots == NODES.len() - 1 { Ok(()) } else { Err(format!("{}: {slots} others", id(number))) }
            });
        }
    }
    // A node lists a network's objects when it joins, and once more when it begins to follow them. With all networks listed at each join
    // it was thirty-five times as many.
    let (listed, most) = (listed(&stage) - before, 3 * OBJECTS * u64::from(NETWORKS) * NODES.len() as u64);
    eprintln!("{listed} objects listed, {most} at most");
    assert!(listed > 0 && listed <= most, "{listed} objects listed, want at most {most}");
}
