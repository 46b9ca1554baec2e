//! The same pod in NPWG's words and in those of each dialect: what does a translation cost?

use std::path::Path;

use serde::Serialize;

use crate::contender::{Contender, Way};
use crate::measure;
use crate::pods::in_turns;
use crate::scene::Scene;
use crate::words::Words;
use meta_cni_tests::report::{Row, Table, ms, times};

/// How many networks the pod has beside eth0.
const FURTHER: usize = 3;

/// One pod in some words.
#[derive(Serialize)]
pub struct Line {
    words: &'static str,
    add: Row,
    add_cpu: Row,
    del: Row,
    del_cpu: Row,
}

/// Each has a node of its own; they take turns.
pub fn measure(count: usize, dir: &Path) -> Vec<Line> {
    let scene = Scene::bridges(FURTHER);
    let contenders = Words::ALL.map(|words| Contender::new(Way::BuiltIn, &Scene { words, ..scene.clone() }, dir));
    let costs = in_turns(&contenders, 0, count, Some(FURTHER + 1));
    let line = |(words, costs): (Words, Vec<_>)| {
        let [add, add_cpu, del, del_cpu] = measure::rows(&costs);
        Line { words: words.name(), add, add_cpu, del, del_cpu }
    };
    Words::ALL.into_iter().zip(costs).map(line).collect()
}

/// One table; the ratio is to NPWG's words on a node without dialects.
pub fn table(lines: &[Line], count: usize) -> (String, Table) {
    let mut table = Table::new(["", "ADD p50", "p95", "x NPWG", "CPU p50", "DEL p50", "p95", "x NPWG", "CPU p50"]);
    for line in lines {
        let npwg = &lines[0];
        table.row([
            line.words.to_owned(),
            ms(line.add.p50_ms),
            ms(line.add.p95_ms),
            times(line.add.p50_ms, npwg.add.p50_ms),
            ms(line.add_cpu.p50_ms),
            ms(line.del.p50_ms),
            ms(line.del.p95_ms),
            times(line.del.p50_ms, npwg.del.p50_ms),
            ms(line.del_cpu.p50_ms),
        ]);
    }
    (format!("eth0 and {FURTHER} more in the words of each, ms ({count} pods each)"), table)
}
