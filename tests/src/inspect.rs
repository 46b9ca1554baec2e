//! What is there: links, addresses and routes of a namespace, files of a node, and whether anything is left behind.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::netns::Netns;
use crate::node::{Node, Pod};

impl Netns {
    /// Names of all links but `lo`, sorted.
    pub fn links(&self) -> Vec<String> {
        let links = self.ip("link show");
        let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
        let mut names: Vec<String> = names.filter(|name| *name != "lo").map(str::to_owned).collect();
        names.sort();
        names
    }

    /// One link as `ip -j -d link` shows it; null when it is not there.
    pub fn link(&self, name: &str) -> Value {
        let links = self.ip("address show");
        links.as_array().into_iter().flatten().find(|link| link["ifname"] == name).cloned().unwrap_or_default()
    }

    /// The kind of a link as the kernel names it: "veth", "vxlan".
    pub fn kind(&self, name: &str) -> String {
        self.link(name)["linkinfo"]["info_kind"].as_str().unwrap_or_default().to_owned()
    }

    /// Global addresses of a link with prefix length, sorted.
    pub fn addresses(&self, name: &str) -> Vec<String> {
        let link = self.link(name);
        let of_global = |a: &&Value| a["scope"] == "global";
        let text = |a: &Value| format!("{}/{}", a["local"].as_str().unwrap_or_default(), a["prefixlen"]);
        let mut found: Vec<String> =
            link["addr_info"].as_array().into_iter().flatten().filter(of_global).map(text).collect();
        found.sort();
        found
    }

    /// Default routes of a family ("-4" or "-6") as "gateway dev".
    pub fn default_routes(&self, family: &str) -> Vec<String> {
        let routes = self.ip(&format!("{family} route show default"));
        let text = |route: &Value| {
            let gateway = route["gateway"].as_str().unwrap_or("-");
            format!("{gateway} {}", route["dev"].as_str().unwrap_or("-"))
        };
        routes.as_array().into_iter().flatten().map(text).collect()
    }

    /// True when `ping` from inside reaches the address.
    pub fn pings(&self, address: &str) -> bool {
        let mut ping = self.command("ping");
        ping.args(["-c", "1", "-W", "2", "-i", "0.2", address]);
        let finished = crate::program::start(&mut ping, b"").finish(std::time::Duration::from_secs(20));
        finished.code == Some(0)
    }
}

impl Node {
    /// Every file below a directory of the node, relative to the node, sorted.
    pub fn files(&self, sub: &str) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.path(sub), &mut found);
        let mut names: Vec<String> = found
            .iter()
            .filter_map(|path| path.strip_prefix(self.dir()).ok())
            .map(|path| path.display().to_string())
            .collect();
        names.sort();
        names
    }

    /// What a finished run left behind and should not have: links but bridges and `kept`, addresses, state.
    pub fn leftovers(&self, kept: &[&str]) -> Vec<String> {
        let stays = |name: &&String| kept.contains(&name.as_str()) || self.netns.kind(name) == "bridge";
        let mut left: Vec<String> =
            self.netns.links().iter().filter(|name| !stays(name)).map(|name| format!("link {name}")).collect();
        // What is known of a bridge that stays, stays with it.
        let of_bridge = |path: &String| path.starts_with("state/gateways/");
        // The order in which addresses were given back stays; a lease would not.
        let is_past = |path: &String| name_of(path) == "leases" && self.leases(path).is_empty();
        let memory = |path: &String| {
            ["departed", "departed.old", "calls", "calls.taken", "differences"].contains(&name_of(path))
                || of_bridge(path)
        };
        left.extend(
            self.files("state").into_iter().filter(|path| name_of(path) != "lock" && !memory(path) && !is_past(path)),
        );
        let ours = |path: &String| name_of(path) != "lock" && !name_of(path).starts_with("last_reserved_ip.");
        left.extend(self.files("addresses").into_iter().filter(ours));
        left
    }

    /// Who holds which addresses of `ipam.type` `blocks` by this file: `addresses container interface`, sorted.
    pub fn leases(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(file)).unwrap_or_default();
        let mut live = std::collections::BTreeMap::new();
        for line in text.lines().skip(1) {
            let addresses = line[1..].split(' ').next().unwrap_or_default();
            match &line[..1] {
                "+" => live.insert(addresses, line[1..].split(' ').take(3).collect::<Vec<_>>().join(" ")),
                "-" | "~" => live.remove(addresses),
                _ => None,
            };
        }
        live.into_values().collect()
    }

    /// Nothing is left on the node but what the reference plugins keep, and `kept`.
    #[track_caller]
    pub fn assert_clean_but(&self, kept: &[&str]) {
        let left = self.leftovers(kept);
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// Nothing is left on the node but what the reference plugins keep.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.assert_clean_but(&[]);
    }
}

impl Pod {
    /// Nothing is left in the pod but `lo`.
    #[track_caller]
    pub fn assert_empty(&self) {
        assert_eq!(self.netns.links(), Vec::<String>::new());
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}
