//! What the cases of the tier have seen: each that passes is an entry of one file, and the table of docs/compatibility.md is made of that file
//! and of nothing else. So the table claims what a case held, with the versions that it held with, and no more.
//!
//! `UPDATE_GOLDEN=1` writes both. A case then takes its entry away when it begins: one that fails is no claim.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::pages;

/// Programs whose versions are those of a module: how the table calls them, and where the module file is, below `tests/`.
const MODULES: &[(&str, &str)] = &[
    ("flannel", "neighbours/flannel"),
    ("flannel's plugin", "peers/flannel"),
    ("kube-router", "neighbours/kube-router"),
    ("whereabouts", "neighbours/whereabouts"),
    ("cilium", "neighbours/cilium"),
    ("coredns", "neighbours/coredns"),
    ("reference dhcp", "peers"),
    ("reference firewall", "neighbours/firewall"),
];

/// What a case is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// How users call the product, and which way of it.
    pub product: &'static str,
    /// Its programs, by the names of `MODULES`. Empty where a file is all of it.
    pub programs: &'static [&'static str],
    /// Its part in the cluster.
    pub tried_as: &'static str,
    /// What a user is to set for the two to go together.
    pub to_set: &'static str,
}

/// What a case saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    product: String,
    versions: BTreeMap<String, String>,
    tried_as: String,
    held: Vec<String>,
    to_set: String,
}

/// Outcomes by the name of their case.
type Outcomes = BTreeMap<String, Outcome>;

/// A case that runs, and what it has seen so far.
#[derive(Debug)]
pub struct Run {
    case: String,
    subject: Subject,
    versions: BTreeMap<String, String>,
    held: RefCell<Vec<String>>,
}

impl Run {
    /// The case of this thread begins.
    pub fn begin(subject: Subject) -> Self {
        let case = std::thread::current().name().unwrap_or_default().to_owned();
        assert!(case.contains("::"), "{case:?} is no case: results are written by the thread of a test");
        if is_golden() {
            change(|all| drop(all.remove(&case)));
        }
        let versions = subject.programs.iter().map(|name| ((*name).to_owned(), version(name))).collect();
        Self { case, subject, versions, held: RefCell::default() }
    }

    /// Notes a program that comes from no module, with what it says of its version.
    pub fn with_version(&mut self, program: &str, version: &str) {
        self.versions.insert(program.to_owned(), version.to_owned());
    }

    /// Something that was looked at and was right, in the words of the table.
    pub fn held(&self, what: &str) {
        let mut held = self.held.borrow_mut();
        if !held.iter().any(|there| there == what) {
            held.push(what.to_owned());
        }
    }

    /// The case has passed: its outcome is the one that stands in the file, or becomes it.
    pub fn passed(self) {
        let Self { case, subject, versions, held } = self;
        let outcome = Outcome {
            product: subject.product.to_owned(),
            versions,
            tried_as: subject.tried_as.to_owned(),
            held: held.into_inner(),
            to_set: subject.to_set.to_owned(),
        };
        if is_golden() {
            return change(|all| drop(all.insert(case, outcome)));
        }
        assert_eq!(
            read().get(&case),
            Some(&outcome),
            "{case} held something else than {}; UPDATE_GOLDEN=1 writes it",
            file().display()
        );
    }
}

fn is_golden() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file() -> PathBuf {
    package().join("suites/neighbours/results.json")
}

fn page() -> PathBuf {
    package().join("../docs/compatibility.md")
}

fn read() -> Outcomes {
    let file = file();
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Changes the file, and the page with it. Who runs two cases at once has their outcomes one after the other.
fn change(how: impl FnOnce(&mut Outcomes)) {
    let turn = File::open(file()).and_then(|file| file.lock().map(|()| file)).unwrap();
    let mut all = read();
    how(&mut all);
    fs::write(file(), serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
    fs::write(page(), with_table(&fs::read_to_string(page()).unwrap(), &all)).unwrap();
    drop(turn);
}

/// Version of the program that a module file names first.
fn version(program: &str) -> String {
    let dir = MODULES.iter().find(|(name, _)| *name == program).map(|(_, dir)| *dir);
    let path = package().join(dir.unwrap_or_else(|| panic!("{program} is no module"))).join("go.mod");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    version_in(&text).unwrap_or_else(|| panic!("{}: no tool, or no version of its module", path.display()))
}

fn version_in(text: &str) -> Option<String> {
    let after = text.split_once("\ntool ")?.1.trim_start_matches('(').trim_start();
    let tool = after.lines().next()?.trim();
    let modules = text.lines().filter_map(|line| {
        let (module, rest) = line.trim().trim_start_matches("require ").split_once(' ')?;
        let is_its = tool == module || tool.strip_prefix(module).is_some_and(|rest| rest.starts_with('/'));
        Some((module, rest.split_whitespace().next()?.strip_prefix('v')?)).filter(|_| is_its)
    });
    // a.org/b/v2/cmd is a program of a.org/b/v2 and not of a.org/b.
    modules.max_by_key(|(module, _)| module.len()).map(|(_, version)| version.to_owned())
}

fn with_table(page: &str, all: &Outcomes) -> String {
    pages::between(page, "neighbours", &table(all)).unwrap()
}

fn table(all: &Outcomes) -> String {
    let mut text = String::from(
        "| product | versions | tried as | held | case | what to set |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for (case, outcome) in all {
        let versions: Vec<String> =
            outcome.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let name = case.rsplit("::").next().unwrap_or(case);
        let Outcome { product, tried_as, held, to_set, .. } = outcome;
        let _ = writeln!(
            text,
            "| {product} | {} | {tried_as} | {} | `{name}` | {to_set} |",
            versions.join(", "),
            held.join("; ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_page_is_made_of_the_results() {
        let shown = fs::read_to_string(page()).unwrap();
        let made = with_table(&shown, &read());
        if is_golden() {
            fs::write(page(), made).unwrap();
        } else {
            assert!(
                shown == made,
                "docs/compatibility.md is not what suites/neighbours/results.json says; UPDATE_GOLDEN=1 writes it"
            );
        }
    }

    #[test]
    fn each_result_is_of_a_case_that_is_there_and_of_the_versions_that_are_built() {
        for (case, outcome) in read() {
            let (module, name) = case.split_once("::").unwrap();
            let path = package().join("suites/neighbours").join(format!("{module}.rs"));
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{case}: {}: {e}", path.display()));
            assert!(
                text.contains(&format!("#[test]\nfn {name}() {{")),
                "{case} has a result, and is no case any more: take it away"
            );
            assert!(!outcome.held.is_empty(), "{case} held nothing");
            for (program, held_with) in &outcome.versions {
                if MODULES.iter().any(|(name, _)| name == program) {
                    assert_eq!(
                        *held_with,
                        version(program),
                        "{case}: {program} is another one now: run the case with UPDATE_GOLDEN=1"
                    );
                }
            }
        }
    }

    #[test]
    fn the_version_of_a_program_is_that_of_its_module() {
        let text = "module m\n\ngo 1.26\n\ntool (\n\ta.org/b/v2/cmd/x\n\ta.org/b/v2/cmd/y\n)\n\nrequire (\n\ta.org/b v1.0.0\n\ta.org/b/v2 v2.3.4 // indirect\n)\n";
        assert_eq!(version_in(text).as_deref(), Some("2.3.4"));
        assert_eq!(
            version_in("module m\n\ntool a.org/c\n\nrequire a.org/c v0.1.0 // indirect\n").as_deref(),
            Some("0.1.0")
        );
        assert_eq!(version_in("module m\n\nrequire a.org/c v0.1.0\n"), None);
        assert_eq!(version("flannel's plugin"), "0.9.1");
    }
}
