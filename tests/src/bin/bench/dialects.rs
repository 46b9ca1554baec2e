//! The same pod in NPWG's words and in those of each dialect: what does a translation cost?

use std::path::Path;

use serde::Serialize;

use crate::contender::{Contender, Way};
use crate::measure::Costs;
use crate::pods::in_turns;
use crate::scene::Scene;
use crate::words::Words;
use meta_cni_tests::report::Table;

/// How many networks the pod has beside eth0.
const FURTHER: usize = 3;

/// One pod in some words.
#[derive(Serialize)]
pub struct Line {
    words: &'static str,
    #[serde(flatten)]
    costs: Costs,
}

/// Each has a node of its own; they take turns.
pub fn measure(count: usize, dir: &Path) -> Vec<Line> {
    let scene = Scene::bridges(FURTHER);
    let contenders = Words::ALL.map(|words| Contender::new(Way::BuiltIn, &Scene { words, ..scene.clone() }, dir));
    let costs = in_turns(&contenders, 0, count, Some(FURTHER + 1));
    let line = |(words, costs): (Words, Vec<_>)| Line { words: words.name(), costs: Costs::of(&costs) };
    Words::ALL.into_iter().zip(costs).map(line).collect()
}

/// One table; the ratio is to NPWG's words on a node without dialects.
pub fn table(lines: &[Line], count: usize) -> (String, Table) {
    let table = Costs::table("NPWG", lines.iter().map(|line| (line.words, &line.costs)));
    (format!("eth0 and {FURTHER} more in the words of each, ms ({count} pods each)"), table)
}
