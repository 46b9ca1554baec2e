//! Whole pods: ADD and DEL with 1, 3 and 5 networks beside eth0, many pods at once, and what one ADD takes.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use meta_cni_tests::{call, peers, program};
use serde::Serialize;

use crate::contender::{self, Contender, Pod, Verb, Way};
use crate::measure::{self, Asked, Call, Cost, Costs};
use crate::scene::Scene;
use meta_cni_tests::report::{Row, Table, ms, times};

/// How many networks a pod has beside eth0.
const FURTHER: [usize; 3] = [1, 3, 5];

/// Pods before anything counts: bridges are made, files are cached.
const WARM_UP: usize = 2;

/// Pods that start at once in the burst, and how often.
const BURST: usize = 50;
const BURSTS: usize = 5;

/// Ours first: the others are compared with it.
fn ways() -> Vec<Way> {
    let all = [Way::BuiltIn, Way::Baseline, Way::Executing, Way::Reference, Way::Multus, Way::Floor];
    all.into_iter().filter(|way| *way != Way::Baseline || contender::baseline().is_some()).collect()
}

/// Everything about pods.
#[derive(Serialize)]
pub struct Pods {
    /// Pods of each kind and way.
    count: usize,
    /// ADD and DEL, for each number of networks and each way.
    attach: Vec<Attach>,
    /// Many at once.
    bursts: Vec<Burst>,
    /// What one ADD with three networks beside eth0 takes.
    one_add: Vec<OneAdd>,
    /// VERSION, start to exit.
    version: Vec<(&'static str, Row)>,
    /// One write of 2 KiB and fdatasync.
    synced_write: Row,
    /// Size of the plugin's file.
    plugin_kib: u64,
}

#[derive(Serialize)]
struct Attach {
    way: &'static str,
    further_networks: usize,
    #[serde(flatten)]
    costs: Costs,
}

#[derive(Serialize)]
struct Burst {
    way: &'static str,
    pods: usize,
    add: Row,
    del: Row,
}

#[derive(Serialize)]
struct OneAdd {
    way: &'static str,
    peak_rss_kib: u64,
    asked: Asked,
}

/// Measures all of it in a directory on a real disk: the record's fdatasync is part of what is measured.
pub fn measure(count: usize, dir: &Path) -> Pods {
    let attach = FURTHER.iter().flat_map(|&further| attach(count, further, dir)).collect();
    Pods {
        count,
        attach,
        bursts: bursts(dir),
        one_add: ways().into_iter().map(|way| one_add(way, dir)).collect(),
        version: versions(count),
        synced_write: Row::of(measure::synced_writes(dir, count)),
        plugin_kib: std::fs::metadata(call::plugin()).unwrap().len() / 1024,
    }
}

/// ADD and DEL in every way.
fn attach(count: usize, further: usize, dir: &Path) -> Vec<Attach> {
    let scene = Scene::bridges(further);
    let contenders: Vec<Contender> = ways().into_iter().map(|way| Contender::new(way, &scene, dir)).collect();
    let costs = in_turns(&contenders, 0, count, Some(further + 1));
    let one = |(contender, costs): (&Contender, &Vec<[Cost; 2]>)| Attach {
        way: contender.way.name(),
        further_networks: further,
        costs: Costs::of(costs),
    };
    contenders.iter().zip(&costs).map(one).collect()
}

/// What ADD and DEL cost each contender, pod by pod. They take turns, one pod each, so that what else the machine does meets all of them
/// alike; each round in another order, for what one leaves to be cleaned up meets the next. The pods are numbered from `first` on; those
/// that do not count have `links` links, where that is said.
pub fn in_turns(contenders: &[Contender], first: usize, count: usize, links: Option<usize>) -> Vec<Vec<[Cost; 2]>> {
    let mut costs = vec![Vec::new(); contenders.len()];
    for round in 0..WARM_UP + count {
        for i in turns(round, contenders.len()) {
            let mut pod = contenders[i].pod(first + round);
            let counts = round >= WARM_UP;
            let cost = [(Verb::Add, links), (Verb::Del, links.map(|_| 0))].map(|(verb, links)| {
                let cost = pod.time(verb);
                if let (Some(links), false) = (links, counts) {
                    pod.expect_links(links);
                }
                cost
            });
            if counts {
                costs[i].push(cost);
            }
        }
    }
    costs
}

/// Who comes when: each comes first equally often, and behind either of its neighbours.
fn turns(round: usize, of: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..of).map(|i| (i + round / 2) % of).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Many pods with eth0 and one bridge, all started at once, until the last is done.
fn bursts(dir: &Path) -> Vec<Burst> {
    let ways = ways().into_iter().filter(|way| ![Way::Executing, Way::Floor].contains(way));
    let contenders: Vec<Contender> = ways.map(|way| Contender::new(way, &Scene::bridges(1), dir)).collect();
    // The first pod of a node makes the bridges.
    for contender in &contenders {
        burst(contender, 1);
    }
    let mut spans = vec![Vec::new(); contenders.len()];
    for round in 0..BURSTS {
        for i in turns(round, contenders.len()) {
            spans[i].push(burst(&contenders[i], BURST));
        }
    }
    let one = |(contender, spans): (&Contender, &Vec<[Duration; 2]>)| Burst {
        way: contender.way.name(),
        pods: BURST,
        add: Row::of(spans.iter().map(|span| span[0])),
        del: Row::of(spans.iter().map(|span| span[1])),
    };
    contenders.iter().zip(&spans).map(one).collect()
}

/// Each pod has a thread, which starts the pod's processes one after another; all threads begin together.
fn burst(contender: &Contender, count: usize) -> [Duration; 2] {
    let mut pods: Vec<_> = (0..count).map(|number| contender.pod(number)).collect();
    [Verb::Add, Verb::Del].map(|verb| {
        let gate = Barrier::new(count + 1);
        std::thread::scope(|scope| {
            let gate = &gate;
            let attach = |pod: &mut Pod<'_>| {
                gate.wait();
                pod.time(verb);
            };
            let running: Vec<_> = pods.iter_mut().map(|pod| scope.spawn(move || attach(pod))).collect();
            gate.wait();
            let began = Instant::now();
            // Said here, a failure ends the bench and not only its thread.
            running.into_iter().for_each(|thread| thread.join().unwrap());
            began.elapsed()
        })
    })
}

fn one_add(way: Way, dir: &Path) -> OneAdd {
    let contender = Contender::new(way, &Scene::bridges(3), dir);
    let pod_of = |number: usize, run: &mut dyn FnMut(Call) -> Vec<u8>| {
        let mut pod = contender.pod(number);
        pod.each(Verb::Add, run);
        pod.time(Verb::Del);
    };
    pod_of(0, &mut |call| measure::run(call).1);
    let mut peak_rss_kib = 0;
    pod_of(1, &mut |call| {
        let (peak, out) = measure::peak_rss(call);
        peak_rss_kib = peak_rss_kib.max(peak);
        out
    });
    let mut asked = Asked::default();
    pod_of(2, &mut |call| {
        let (one, out) = measure::ask(call, &contender.dir().join("trace"));
        asked += one;
        out
    });
    OneAdd { way: way.name(), peak_rss_kib, asked }
}

fn versions(count: usize) -> Vec<(&'static str, Row)> {
    let mut programs =
        vec![("meta-cni", call::plugin()), ("bridge", peers::program("bridge")), ("multus", peers::program("multus"))];
    programs.extend(contender::baseline().map(|plugin| (Way::Baseline.name(), plugin)));
    let mut costs = vec![Vec::new(); programs.len()];
    for round in 0..count {
        for i in turns(round, programs.len()) {
            let mut command = program::command(&programs[i].1);
            command.env_clear().env("CNI_COMMAND", "VERSION");
            let call = Call { command, stdin: br#"{"cniVersion":"1.1.0"}"#.to_vec() };
            costs[i].push(measure::run(call).0.elapsed);
        }
    }
    programs.iter().zip(costs).map(|((name, _), costs)| (*name, Row::of(costs))).collect()
}

impl Pods {
    /// Title and table, one after another.
    pub fn tables(&self) -> Vec<(String, Table)> {
        let mut tables: Vec<(String, Table)> = FURTHER.iter().map(|&further| self.attach_table(further)).collect();
        tables.push(self.burst_table());
        tables.push(self.one_add_table());
        tables.push(self.further_table());
        tables
    }

    /// The table of the budgets, and the README's.
    pub fn summary(&self) -> Table {
        self.attach_table(3).1
    }

    fn attach_table(&self, further: usize) -> (String, Table) {
        let title = format!("eth0 and {further} more, ms ({} pods each)", self.count);
        let rows = self.attach.iter().filter(|row| row.further_networks == further);
        let table = Costs::table("ours", rows.map(|row| (row.way, &row.costs)));
        (title, table)
    }

    fn burst_table(&self) -> (String, Table) {
        let title = format!("{BURST} pods at once, eth0 and 1 more, ms until the last is done ({BURSTS} times)");
        let mut table = Table::new(["", "ADD p50", "p95", "x ours", "DEL p50", "p95", "x ours"]);
        for row in &self.bursts {
            let ours = &self.bursts[0];
            table.row([
                row.way.to_owned(),
                ms(row.add.p50_ms),
                ms(row.add.p95_ms),
                times(row.add.p50_ms, ours.add.p50_ms),
                ms(row.del.p50_ms),
                ms(row.del.p95_ms),
                times(row.del.p50_ms, ours.del.p50_ms),
            ]);
        }
        (title, table)
    }

    fn one_add_table(&self) -> (String, Table) {
        let mut table =
            Table::new(["", "programs started", "peak RSS of the largest, KiB", "system calls", "synced writes"]);
        for OneAdd { way, peak_rss_kib, asked } in &self.one_add {
            let Asked { programs, calls, synced } = asked;
            table.row([
                (*way).to_owned(),
                programs.to_string(),
                peak_rss_kib.to_string(),
                calls.to_string(),
                synced.to_string(),
            ]);
        }
        ("What one ADD takes: eth0 and 3 more".to_owned(), table)
    }

    fn further_table(&self) -> (String, Table) {
        let mut table = Table::new(["", "p50", "p95"]);
        let version = |name: &str| format!("VERSION, start to exit: {name}");
        let synced = [("one write of 2 KiB with fdatasync".to_owned(), &self.synced_write)];
        for (name, row) in self.version.iter().map(|(name, row)| (version(name), row)).chain(synced) {
            table.row([name, ms(row.p50_ms), ms(row.p95_ms)]);
        }
        (format!("Beside, ms ({} times each; the plugin's file has {} KiB)", self.count, self.plugin_kib), table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_fair() {
        let mut first = [0; 5];
        let mut before = [[0; 5]; 5];
        for round in 0..10 {
            let order = turns(round, 5);
            first[order[0]] += 1;
            for pair in order.windows(2) {
                before[pair[0]][pair[1]] += 1;
            }
        }
        assert_eq!(first, [2; 5]);
        for (a, row) in before.iter().enumerate() {
            let next = |step: usize| (a + step) % 5;
            assert_eq!((row[next(1)], row[next(4)]), (4, 4), "{row:?}");
        }
    }
}
