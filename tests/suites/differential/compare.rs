//! Two states, what is different between them, and which chosen difference explains it.

use std::fmt;

use crate::chosen::{self, Chosen};
use crate::state::State;

/// What a side has at a path that it lacks.
pub const ABSENT: &str = "(absent)";

/// One path with two values.
#[derive(Debug, PartialEq)]
pub struct Difference {
    pub path: String,
    pub theirs: String,
    pub ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: theirs {}, ours {}", self.path, self.theirs, self.ours)
    }
}

/// Every path whose values differ.
pub fn differences(theirs: &State, ours: &State) -> Vec<Difference> {
    let paths: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let value = |state: &State, path: &String| state.get(path).map_or(ABSENT, String::as_str).to_owned();
    let differ =
        |path: &String| Difference { path: path.clone(), theirs: value(theirs, path), ours: value(ours, path) };
    paths.into_iter().map(differ).filter(|difference| difference.theirs != difference.ours).collect()
}

/// What no id of `expected` explains, and the ids that explained something.
pub fn explain<'a>(found: &'a [Difference], expected: &[&'static str]) -> (Vec<&'a Difference>, Vec<&'static str>) {
    let chosen: Vec<&Chosen> = expected.iter().map(|id| by_id(id)).collect();
    let unexplained = found.iter().filter(|difference| !chosen.iter().any(|chosen| explains(chosen, difference)));
    let shown = chosen.iter().filter(|chosen| found.iter().any(|difference| explains(chosen, difference)));
    (unexplained.collect(), shown.map(|chosen| chosen.id).collect())
}

fn by_id(id: &str) -> &'static Chosen {
    chosen::ALL.iter().find(|chosen| chosen.id == id).unwrap_or_else(|| panic!("no chosen difference {id}"))
}

fn explains(chosen: &Chosen, difference: &Difference) -> bool {
    chosen.values.iter().any(|(path, theirs, ours)| {
        fits(path, &difference.path) && *theirs == difference.theirs && *ours == difference.ours
    })
}

/// A pattern in which `*` stands for anything.
fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((head, rest)) => path.strip_prefix(head).is_some_and(|path| {
            (0..=path.len()).filter(|at| path.is_char_boundary(*at)).any(|at| fits(rest, &path[at..]))
        }),
    }
}

#[test]
fn patterns_fit_whole_paths() {
    assert!(fits("a/*/c", "a/b/b/c") && fits("*", "") && fits("a", "a"));
    assert!(!fits("a/*/c", "a/b/cd") && !fits("a", "ab"));
}
