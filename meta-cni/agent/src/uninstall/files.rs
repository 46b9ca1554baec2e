//! The files that an uninstallation looks at and removes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use attachments::cni::conf::{NetworkConf, PluginConf};
use meta_cni::conf_dir;

use crate::durable_file::{remove, sweep};
use crate::error::{Error, Result};

/// What tells that CRI-O is the runtime.
pub const CRIO: &str = "/run/crio/crio.sock";

/// The bridge of the reference plugins when a configuration names none.
const DEFAULT_BRIDGE: &str = "cni0";

/// What the configurations that stay on the node use.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Names of networks: those of their address directories.
    pub networks: BTreeSet<String>,
    /// Names of bridges.
    pub bridges: BTreeSet<String>,
}

impl Survey {
    /// Reads the configurations of a directory; one that cannot be read is the runtime's affair.
    pub fn of(dir: &Path) -> Self {
        let mut survey = Self::default();
        for path in conf_dir::paths(dir) {
            if let Ok(conf) = conf_dir::read(&path) {
                survey.add(&conf);
            }
        }
        survey
    }

    fn add(&mut self, conf: &NetworkConf) {
        self.networks.extend(conf.name.iter().map(ToString::to_string));
        self.bridges.extend(conf.plugins.iter().filter_map(bridge));
    }
}

/// The bridge that a plugin makes or joins.
fn bridge(plugin: &PluginConf) -> Option<String> {
    let named = |object: &attachments::cni::object::Object| object.text("bridge").ok().flatten();
    match plugin.kind.as_str() {
        "bridge" => Some(named(&plugin.object).unwrap_or_else(|| DEFAULT_BRIDGE.to_owned())),
        "flannel" => {
            let delegate = plugin.object.object("delegate").ok().flatten();
            Some(delegate.and_then(|delegate| named(&delegate)).unwrap_or_else(|| DEFAULT_BRIDGE.to_owned()))
        }
        _ => None,
    }
}

/// Removes the results that the runtime's library keeps of calls to the network that a configuration names. Gives their paths.
pub fn remove_results(cache_dir: &Path, conf: &Path) -> Result<Vec<String>> {
    let Ok(conf) = conf_dir::read(conf) else { return Ok(Vec::new()) };
    let Some(name) = conf.name else { return Ok(Vec::new()) };
    let prefix = format!("{name}-");
    let mut gone = Vec::new();
    for entry in fs::read_dir(cache_dir.join("results")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) && is_of(&entry.path(), name.as_str()) {
            remove(&entry.path())?;
            gone.push(entry.path().display().to_string());
        }
    }
    Ok(gone)
}

/// Does the entry say that it is the network's? Another network's name may begin alike.
fn is_of(path: &Path, network: &str) -> bool {
    let entry: Option<serde_json::Value> = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    entry.is_some_and(|entry| entry["networkName"] == network)
}

/// What the plugin and the agent keep in the state directory (docs/failures.md).
const STATE: [&str; 17] = [
    "abandoned",
    "attached",
    "calls",
    "calls.taken",
    "damaged",
    "definitions",
    "departed",
    "departed.old",
    "dhcp",
    "differences",
    "failed",
    "gateways",
    "locks",
    "networks",
    "pending",
    "policies.json",
    "shared",
];

/// Removes the state directory. What a killed writer left goes too. A file there that is not ours stays, and the directory with it. The configuration goes last: as long
/// as it is there, another call goes on where this one was cut off.
pub fn remove_state(dir: &Path, conf: &str) -> Result<()> {
    sweep(dir);
    for name in STATE.into_iter().chain([conf]) {
        let path = dir.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Io(format!("cannot remove {}: {e}", path.display())));
            }
            _ => {}
        }
    }
    remove_empty(dir);
    Ok(())
}

/// Where metrics are, beside the agent's socket, on nodes that serve them at one.
const METRICS_SOCKET: &str = "metrics.sock";

/// Removes the agent's sockets and their directory.
pub fn remove_sockets(socket: &Path) -> Result<()> {
    remove(socket)?;
    remove(&socket.with_file_name(METRICS_SOCKET))?;
    if let Some(dir) = socket.parent() {
        remove_empty(dir);
    }
    Ok(())
}

/// A directory with something in it, or one on which something is mounted, stays.
fn remove_empty(dir: &Path) {
    match fs::remove_dir(dir) {
        Ok(()) => tracing::info!(path = %dir.display(), "removed"),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => tracing::info!(path = %dir.display(), "stays: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridges_and_networks_that_stay_are_known_by_their_configurations() {
        let dir = tempfile::tempdir().unwrap();
        let conf = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
        conf(
            "10-pods.conflist",
            r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"},{"type":"portmap"}]}"#,
        );
        conf("20-lan.conf", r#"{"cniVersion":"1.0.0","name":"lan","type":"bridge","bridge":"br9"}"#);
        conf("30-f.conflist", r#"{"name":"f","plugins":[{"type":"flannel","delegate":{"bridge":"fl0"}}]}"#);
        conf("40-bad.conf", "{");
        let survey = Survey::of(dir.path());
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(survey, Survey { networks: set(&["f", "lan", "pods"]), bridges: set(&["br9", "cni0", "fl0"]) });
    }

    #[test]
    fn a_file_of_somebody_in_the_state_directory_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir_all(state.join("attached")).unwrap();
        fs::write(state.join("policies.json"), "{}").unwrap();
        fs::write(state.join("notes.txt"), "mine").unwrap();
        remove_state(&state, "conf").unwrap();
        let left: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["notes.txt"]);
        fs::remove_file(state.join("notes.txt")).unwrap();
        remove_state(&state, "conf").unwrap();
        remove_state(&state, "conf").unwrap();
        assert!(!state.exists());
    }

    #[test]
    fn results_of_our_network_go_and_those_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let results = dir.path().join("results");
        fs::create_dir(&results).unwrap();
        let conf = dir.path().join("conf.conflist");
        fs::write(&conf, r#"{"name":"meta-cni","plugins":[{"type":"meta-cni"}]}"#).unwrap();
        fs::write(results.join("meta-cni-c1-eth0"), r#"{"networkName":"meta-cni"}"#).unwrap();
        fs::write(results.join("meta-cni-too-c1-eth0"), r#"{"networkName":"meta-cni-too"}"#).unwrap();
        fs::write(results.join("pods-c1-eth0"), r#"{"networkName":"pods"}"#).unwrap();
        let gone = remove_results(dir.path(), &conf).unwrap();
        assert_eq!(gone, [results.join("meta-cni-c1-eth0").display().to_string()]);
        assert_eq!(fs::read_dir(&results).unwrap().count(), 2);
        assert!(remove_results(dir.path(), Path::new("/nowhere")).unwrap().is_empty());
    }
}
