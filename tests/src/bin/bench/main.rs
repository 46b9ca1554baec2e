//! `make bench`: whole processes, as a runtime starts them. Ours with built-in delegates, ours executing the reference
//! plugins, these one by one, Multus with them, and the link messages alone take turns on nodes of their own, in one run:
//! what else the machine does meets all of them alike, and their ratios hold. docs/performance.md says how to read it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench that fails stops and says where")]

mod api;
mod contender;
mod delegates;
mod dialects;
mod full_node;
mod measure;
mod pods;
mod scene;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use delegates::{Kernel, Line};
use meta_cni_tests::pages;
use meta_cni_tests::report::Table;
use pods::Pods;
use serde::Serialize;

const USAGE: &str = "\
bench [--pods N] [--delegates N] [--full N] [--only PART] [--page NAME] [--json FILE] [--docs ROOT]
  --pods N       pods of each kind and way, and in each one's words (100)
  --delegates N  pods for each delegate and way (30)
  --full N       pods of each way that come to a full node (30)
  --only PART    pods; full, the full node; dialects; delegates, with those that need User Mode Linux; or uml, which is what runs inside it
  --page NAME    of the delegates the one that this page of docs/delegates is about
  --json FILE    also as JSON
  --docs ROOT    also into README.md and docs/ of the repository there
META_CNI_BASELINE=FILE measures pods with another build of the plugin too";

/// Everything that was measured.
#[derive(Serialize)]
struct Results {
    machine: String,
    pods: Option<Pods>,
    full: Vec<full_node::Line>,
    full_count: usize,
    dialects: Vec<dialects::Line>,
    dialects_count: usize,
    delegates: Vec<Line>,
}

fn main() {
    let words = match Words::read(std::env::args().skip(1)) {
        Ok(words) => words,
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            std::process::exit(2);
        }
    };
    // Beside the program, on a real disk; in User Mode Linux in memory, for its disk is this machine's.
    let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let root = if words.only.as_deref() == Some("uml") { std::env::temp_dir() } else { beside };
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(root).unwrap();
    let part = |name: &str| words.only.as_deref().is_none_or(|only| only == name);
    let load_before = load();
    let mut results = Results {
        machine: String::new(),
        pods: None,
        full: Vec::new(),
        full_count: words.full,
        dialects: Vec::new(),
        dialects_count: words.pods,
        delegates: Vec::new(),
    };
    if part("pods") {
        results.pods = Some(pods::measure(words.pods, dir.path()));
    }
    if part("full") {
        results.full = full_node::measure(words.full, dir.path());
    }
    if part("dialects") {
        results.dialects = dialects::measure(words.pods, dir.path());
    }
    if part("delegates") {
        let page = words.page.as_deref();
        results.delegates = delegates::measure(words.delegates, Kernel::Host, page, dir.path());
        if delegates::has(Kernel::Uml, page) {
            results.delegates.extend(delegates::measure_in_uml(words.delegates, page, dir.path()));
        }
    }
    if words.only.as_deref() == Some("uml") {
        results.delegates = delegates::measure(words.delegates, Kernel::Uml, words.page.as_deref(), dir.path());
    }
    results.machine = machine(&load_before, &load());

    println!("{}", results.machine);
    for (title, table) in results.tables() {
        println!("\n{title}\n\n{}", table.text().trim_end());
    }
    if let Some(path) = &words.json {
        fs::write(path, serde_json::to_string_pretty(&results).unwrap() + "\n").unwrap();
    }
    if let Some(root) = &words.docs {
        results.put(root, words.page.is_none()).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

impl Results {
    fn tables(&self) -> Vec<(String, Table)> {
        let mut tables: Vec<_> = self.pods.iter().flat_map(Pods::tables).collect();
        if !self.full.is_empty() {
            tables.push(full_node::table(&self.full, self.full_count));
        }
        if !self.dialects.is_empty() {
            tables.push(dialects::table(&self.dialects, self.dialects_count));
        }
        if !self.delegates.is_empty() {
            tables.push(delegates::table(&self.delegates));
        }
        tables
    }

    /// Into the pages of the repository at `root`; the parts that were not measured stay as they are, and so does the table of all
    /// delegates where not all were measured.
    fn put(&self, root: &Path, all_delegates: bool) -> Result<(), String> {
        let page = root.join("docs/performance.md");
        let section = |(title, table): (String, Table)| format!("### {title}\n\n{}\n", table.markdown());
        if let Some(pods) = &self.pods {
            let sections: String = pods.tables().into_iter().map(section).collect();
            pages::put(&page, "pods", &format!("{}\n\n{sections}", self.machine))?;
            let summary = format!("{}\n\n{}", self.machine, pods.summary().markdown());
            pages::put(&root.join("README.md"), "summary", &summary)?;
        }
        if !self.full.is_empty() {
            let text = section(full_node::table(&self.full, self.full_count));
            pages::put(&page, "full node", &format!("{}\n\n{text}", self.machine))?;
        }
        if !self.dialects.is_empty() {
            let text = section(dialects::table(&self.dialects, self.dialects_count));
            pages::put(&page, "dialects", &format!("{}\n\n{text}", self.machine))?;
        }
        if !self.delegates.is_empty() {
            let text = section(delegates::table(&self.delegates));
            if all_delegates {
                pages::put(&page, "delegates", &format!("{}\n\n{text}", self.machine))?;
            }
            self.delegates.iter().try_for_each(|line| line.put(&root.join("docs")))?;
        }
        Ok(())
    }
}

/// What it ran on, and how busy that was.
fn machine(before: &str, after: &str) -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let release = release.trim().split('-').next().unwrap_or_default().to_owned();
    let cpus = std::thread::available_parallelism().unwrap();
    format!("Linux {release}, {cpus} CPUs; load average at the start {before}, at the end {after}.")
}

/// Of the last minute.
fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap_or_default().to_owned()
}

/// The command line.
struct Words {
    pods: usize,
    full: usize,
    delegates: usize,
    only: Option<String>,
    page: Option<String>,
    json: Option<PathBuf>,
    docs: Option<PathBuf>,
}

impl Words {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut read = Self { pods: 100, full: 30, delegates: 30, only: None, page: None, json: None, docs: None };
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word}: got nothing behind it, want a value"))?;
            let number = || match value.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{word}: got {value:?}, want a number above 0")),
            };
            match word.as_str() {
                "--pods" => read.pods = number()?,
                "--full" => read.full = number()?,
                "--delegates" => read.delegates = number()?,
                "--only" if ["pods", "full", "dialects", "delegates", "uml"].contains(&value.as_str()) => {
                    read.only = Some(value)
                }
                "--page" if delegates::page_names().contains(&value.as_str()) => read.page = Some(value),
                "--json" => read.json = Some(value.into()),
                "--docs" => read.docs = Some(value.into()),
                _ => return Err(format!("got {word} {value}")),
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_read_or_refused() {
        let read = |line: &str| Words::read(line.split_whitespace().map(str::to_owned));
        let words = read("--pods 7 --only pods --json f --page blocks").unwrap();
        let chosen = (words.only.as_deref(), words.page.as_deref());
        assert_eq!((words.pods, words.delegates, chosen), (7, 30, (Some("pods"), Some("blocks"))));
        for wrong in ["--pods 0", "--page nothing", "--pods", "--only all", "--count 3"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
