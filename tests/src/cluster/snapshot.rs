//! A node as it is, to be compared with what it was.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::pods::PATIENCE;
use super::{Api, Node, wait};

/// Everything that an installation could leave on a node: files, links, addresses, routes, rules, tables, labels.
pub type Snapshot = BTreeSet<String>;

const DIRECTORIES: [&str; 6] =
    ["/etc/cni", "/opt/cni/bin", "/var/lib/cni", "/var/lib/meta-cni", "/run/meta-cni", "/run/cni"];

/// What there is of it now.
pub fn snapshot(api: &Api, node: &Node) -> Snapshot {
    let mut all = Snapshot::new();
    for dir in DIRECTORIES {
        walk(&node.file(dir), dir, &mut all);
    }
    for line in node.space().run("ip -o link").lines() {
        let name = line.split(": ").nth(1).unwrap_or_default().split('@').next().unwrap_or_default();
        all.insert(format!("link {name}"));
    }
    for question in ["-o -4 address show scope global", "-4 route", "-6 route show proto static", "rule", "-6 rule"] {
        let told = node.space().run(&format!("ip {question}"));
        // A link that was made anew has another number. A bridge without a port notices a moment later that it is down.
        let shown = |line: &str| {
            let line = line.trim().trim_end_matches(" linkdown");
            let unnumbered =
                line.split_once(": ").filter(|_| question.contains("address")).map_or(line, |(_, rest)| rest);
            format!("{question}: {unnumbered}")
        };
        all.extend(told.lines().map(shown));
    }
    let mut table = String::new();
    // Without counters.
    for line in node.space().run("nft --stateless list ruleset").lines() {
        if line.starts_with("table ") {
            table = line.trim_end_matches(" {").to_owned();
        }
        // The service proxy's own follow the Services.
        if !table.contains("kube-proxy") {
            all.insert(format!("{table}: {}", line.trim()));
        }
    }
    let object = api.get(&format!("/api/v1/nodes/{}", node.name())).unwrap();
    all.extend(
        object["metadata"]["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("label {key}={value}")),
    );
    all
}

fn walk(dir: &Path, shown: &str, all: &mut Snapshot) {
    if dir.is_dir() {
        all.insert(format!("directory {shown}"));
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let shown = format!("{shown}/{}", entry.file_name().to_string_lossy());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), &shown, all),
            // What the runtime's library keeps of a pod that was attached before the installation and deleted after it: docs/install.md.
            _ if shown.starts_with("/var/lib/cni/results/") && !shown.contains("/meta-cni-") => {}
            _ => drop(all.insert(format!("file {shown}"))),
        }
    }
}

/// Waits until a node is as it was.
pub fn as_before(api: &Api, node: &Node, before: &Snapshot) {
    wait::until(&format!("{} as it was", node.name()), PATIENCE, || {
        let now = snapshot(api, node);
        let differs = |sign: &str, one: &Snapshot, other: &Snapshot| {
            one.difference(other).map(|line| format!("{sign} {line}")).collect::<Vec<_>>()
        };
        let lines = [differs("+", &now, before), differs("-", before, &now)].concat();
        if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
    });
}
