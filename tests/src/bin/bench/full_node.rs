//! A node that is full: ADD and DEL of one more pod beside 0, 100 and 400 pods of the same two networks.

use std::path::Path;

use serde::Serialize;

use crate::contender::{self, Contender, Pod, Verb, Way};
use crate::measure::{self, Costs};
use crate::pods::in_turns;
use crate::scene::Scene;
use meta_cni_tests::report::{Row, Table, ms, times};

/// How many pods are there already.
const FILLED: [usize; 3] = [0, 100, 400];

/// ADD and DEL of one more pod, with so many beside it.
#[derive(Serialize)]
pub struct Line {
    way: &'static str,
    others: usize,
    add: Row,
    add_cpu: Row,
    /// System calls, by strace.
    add_calls: usize,
    del: Row,
    del_cpu: Row,
    del_calls: usize,
}

fn ways() -> Vec<Way> {
    let all = [Way::BuiltIn, Way::Baseline, Way::Reference, Way::Multus, Way::Floor];
    all.into_iter().filter(|way| *way != Way::Baseline || contender::baseline().is_some()).collect()
}

/// Every way has a node of its own, which is filled by that way.
pub fn measure(count: usize, dir: &Path) -> Vec<Line> {
    let scene = Scene::bridges(1);
    let contenders: Vec<Contender> = ways().into_iter().map(|way| Contender::new(way, &scene, dir)).collect();
    let mut others: Vec<Vec<Pod<'_>>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut lines = Vec::new();
    for filled in FILLED {
        for (contender, others) in contenders.iter().zip(&mut others) {
            while others.len() < filled {
                let mut pod = contender.pod(others.len());
                pod.time(Verb::Add);
                // A directory of manifests is read file by file; a cluster's pods are not in one.
                pod.remove_manifest();
                others.push(pod);
            }
        }
        let costs = in_turns(&contenders, 10_000, count, None);
        for (contender, costs) in contenders.iter().zip(&costs) {
            let calls = calls(contender);
            let Costs { add, add_cpu, del, del_cpu } = Costs::of(costs);
            lines.push(Line {
                way: contender.way.name(),
                others: filled,
                add,
                add_cpu,
                add_calls: calls[0],
                del,
                del_cpu,
                del_calls: calls[1],
            });
        }
    }
    lines
}

/// System calls of one ADD and one DEL.
fn calls(contender: &Contender) -> [usize; 2] {
    let mut pod = contender.pod(20_000);
    [Verb::Add, Verb::Del].map(|verb| {
        let mut calls = 0;
        pod.each(verb, |call| {
            let (asked, out) = measure::ask(call, &contender.dir().join("trace"));
            calls += asked.calls;
            out
        });
        calls
    })
}

/// One table; the ratio is to ours beside as many pods.
pub fn table(lines: &[Line], count: usize) -> (String, Table) {
    let head = ["", "pods", "ADD p50", "x ours", "CPU p50", "calls", "DEL p50", "x ours", "CPU p50", "calls"];
    let mut table = Table::new(head);
    for line in lines {
        let ours = lines.iter().find(|ours| ours.others == line.others).unwrap_or(line);
        table.row([
            line.way.to_owned(),
            line.others.to_string(),
            ms(line.add.p50_ms),
            times(line.add.p50_ms, ours.add.p50_ms),
            ms(line.add_cpu.p50_ms),
            line.add_calls.to_string(),
            ms(line.del.p50_ms),
            times(line.del.p50_ms, ours.del.p50_ms),
            ms(line.del_cpu.p50_ms),
            line.del_calls.to_string(),
        ]);
    }
    (format!("eth0 and 1 more beside the pods of a full node, ms ({count} pods each)"), table)
}
