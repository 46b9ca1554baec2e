//! `meta-cnictl doctor`: is this node fit for its networks, and is anything left over? It looks, tries things in namespaces that end
//! with it, and changes nothing.

mod agent;
mod clock;
mod confs;
mod devices;
mod directories;
mod finding;
mod kernel;
mod leftovers;
mod modules;
pub mod plugin;
mod settings;
mod underlay;

use std::path::{Path, PathBuf};

use clap::Args;

pub use self::finding::{Finding, Severity, text};
use crate::access::Api;
use crate::style::Style;
use crate::{Answer, Format};

/// Where things are on this node.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Place {
    /// Where the plugin keeps its records.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/meta-cni")]
    pub state_dir: PathBuf,
    /// Where the runtime looks for configurations.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Where the runtime looks for plugins.
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// Where networks of the node may be files.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/multus/net.d")]
    pub conf_dir: PathBuf,
    /// Where host-local keeps its addresses.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cni/networks")]
    pub addresses_dir: PathBuf,
    /// The agent's socket.
    #[arg(long, value_name = "PATH", default_value = "/run/meta-cni/agent.sock")]
    pub socket: PathBuf,
    /// The kubelet's directory.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_dir: PathBuf,
}

#[cfg(test)]
impl Place {
    /// A node whose things are all below one directory.
    pub fn below(dir: &std::path::Path) -> Self {
        let at = |name: &str| dir.join(name);
        Self {
            state_dir: at("state"),
            cni_conf_dir: at("conf"),
            cni_bin_dir: at("bin"),
            conf_dir: at("multus"),
            addresses_dir: at("addresses"),
            socket: at("agent.sock"),
            kubelet_dir: at("kubelet"),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct DoctorOptions {
    #[command(flatten)]
    place: Place,
    /// A warning fails as well.
    #[arg(long)]
    strict: bool,
    /// Text, or one JSON object.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    api: Api,
}

/// Answers.
pub fn run(options: &DoctorOptions) -> Result<Answer, String> {
    let findings = examine(&options.place, &options.api);
    let is_bad = |one: &Finding| one.severity == Severity::Error || options.strict && one.severity == Severity::Warning;
    let text = match options.output {
        Format::Text => finding::text(&findings, Style::of_stdout()),
        Format::Json => finding::json(&findings),
    };
    Ok(Answer { text, is_good: !findings.iter().any(is_bad) })
}

/// Everything that is to be said of this node, the gravest first.
pub fn examine(place: &Place, api: &Api) -> Vec<Finding> {
    let mut findings = Vec::new();
    kernel::examine(&mut findings);
    settings::examine(&mut findings);
    directories::examine(place, &mut findings);
    plugin::examine(place, &mut findings);
    confs::examine(&on_host(&place.cni_conf_dir), &mut findings);
    agent::examine(place, &mut findings);
    clock::examine(api, &mut findings);
    devices::examine(place, api, &mut findings);
    underlay::examine(place, &mut findings);
    leftovers::examine(place, &mut findings);
    findings.sort_by_key(|one| one.severity);
    findings
}

/// A path of the node: in the agent's container most of them are seen through the node's first process.
pub fn on_host(path: &Path) -> PathBuf {
    let there = path.strip_prefix("/").map(|inside| Path::new("/proc/1/root").join(inside));
    match there {
        Ok(there) if !path.exists() && there.exists() => there,
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_has_an_id_of_its_own_and_is_in_the_documentation() {
        let page = include_str!("../../../../docs/cli.md");
        let mut ids: Vec<&str> = finding::IDS.to_vec();
        for id in &ids {
            assert!(page.contains(&format!("| {id} |")), "{id} is not in docs/cli.md");
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn a_node_that_is_none_has_findings_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let place = Place::below(dir.path());
        let api = Api { kubeconfig: Some(at("none")), context: None };
        let options = DoctorOptions { place, strict: false, output: Format::Json, api };
        let answer = run(&options).unwrap();
        assert!(!answer.is_good);
        let read: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        let ids: Vec<&str> =
            read["findings"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        for id in ["D20", "D30", "D33", "D40", "D43"] {
            assert!(ids.contains(&id), "{id} in {ids:?}");
        }
        assert!(read["findings"].as_array().unwrap().iter().all(|one| !one["do"].as_str().unwrap().is_empty()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
