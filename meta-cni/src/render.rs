//! Renders the conflist of a node for the agent, and for who wants to see it before, from the administrator's keys and the default network's capabilities.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use attachments::cni::version::Version;
use attachments::finding::Finding;

use crate::node::{NodeConf, POD_ANNOTATIONS};

/// Name of the node network, independent of the default network: it is part of every record's key, and the runtime appends the
/// plugins of the directory with that name. Neither may change when the default network is renamed or replaced.
const NAME: &str = "meta-cni";

/// `cniVersion`, for runtimes from before 1.1.0. Later ones choose from `cniVersions`.
const BASE: Version = Version::V1_0_0;

/// Keys that only the agent or the runtime sets.
const NOT_YOURS: [&str; 7] = ["type", "plugins", "cluster", "runtimeConfig", "prevResult", "cniVersion", "cniVersions"];

/// The input of the conflist.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// Keys of docs/configuration.md.
    pub config: &'a Object,
    /// The file of the default network, unless `config` names one.
    pub primary: Option<PathBuf>,
    /// The capabilities that the default network declares.
    pub capabilities: BTreeSet<String>,
    /// The agent's socket.
    pub socket: &'a Path,
    /// Where the plugin keeps its records.
    pub state_dir: &'a Path,
}

/// True when the configuration names the default network.
pub fn names_default(config: &Object) -> bool {
    ["clusterNetwork", "delegates"].iter().any(|key| config.get(key).is_some_and(|value| value.get() != "\"\""))
}

/// The capabilities that any plugin of a network declares.
pub fn capabilities(conf: &NetworkConf) -> BTreeSet<String> {
    conf.plugins.iter().flat_map(|plugin| plugin.capabilities.iter().cloned()).collect()
}

/// The text of the conflist. A key that the plugin would refuse is refused here, with the same message.
pub fn conflist(parts: &Parts<'_>) -> Result<String, Finding> {
    let mut config = parts.config.clone();
    if let Some((key, value)) = config.iter().find(|(key, _)| NOT_YOURS.contains(key)) {
        return Err(Finding::new(key, value.get(), "no such key: the agent or the runtime sets it"));
    }
    own(&mut config, "agentSocket", parts.socket, "--socket")?;
    own(&mut config, "stateDir", parts.state_dir, "--state-dir")?;
    let name = config.remove("name").map_or_else(|| format!("{NAME:?}"), |name| name.get().to_owned());
    let mut declared = parts.capabilities.clone();
    let own_plugin = config.object("capabilities")?.unwrap_or_default();
    declared.extend(own_plugin.iter().filter(|(_, on)| on.get() == "true").map(|(name, _)| name.to_owned()));
    declared.insert(POD_ANNOTATIONS.to_owned());
    let mut capabilities = Object::new();
    declared.iter().for_each(|capability| capabilities.set(capability, &true));

    let mut plugin = Object::new();
    plugin.set("type", &"meta-cni");
    plugin.set("capabilities", &capabilities);
    if let Some(primary) = &parts.primary {
        plugin.set("clusterNetwork", primary);
    }
    for (key, value) in config.iter().filter(|(key, _)| *key != "capabilities") {
        plugin.set(key, &value);
    }
    plugin.set("agentSocket", &parts.socket);
    plugin.set("stateDir", &parts.state_dir);
    check(&plugin, &name)?;
    Ok(text(&name, &plugin))
}

/// Refuses a key that contradicts the agent's flag: otherwise the first pod would fail.
fn own(config: &mut Object, key: &str, ours: &Path, flag: &str) -> Result<(), Finding> {
    match config.text(key)? {
        Some(theirs) if Path::new(&theirs) != ours => {
            Err(Finding::new(key, format_args!("{theirs:?}"), format!("what {flag} says: {}", ours.display())))
        }
        _ => Ok(_ = config.remove(key)),
    }
}

/// Reads the configuration as the plugin does.
fn check(plugin: &Object, name: &str) -> Result<(), Finding> {
    let mut conf = plugin.clone();
    let raw: &serde_json::value::RawValue =
        serde_json::from_str(name).map_err(|_| Finding::new("name", name, "the name of a network"))?;
    conf.set("name", &raw);
    let network = conf.parsed("name", attachments::names::NetworkName::ALLOWED)?;
    let network = network.ok_or_else(|| Finding::missing("name", attachments::names::NetworkName::ALLOWED))?;
    NodeConf::read(&conf, &network, &[]).map(|_| ())
}

/// One line for each key: people read this file when they look for a fault.
fn text(name: &str, plugin: &Object) -> String {
    let keys: Vec<String> = plugin.iter().map(|(key, value)| format!("      {key:?}: {}", value.get())).collect();
    format!(
        "{{\n  \"cniVersion\": \"{BASE}\",\n  \"cniVersions\": [\"{BASE}\", \"{}\"],\n  \"name\": {name},\n  \"plugins\": [\n    {{\n{}\n    }}\n  ]\n}}\n",
        Version::NEWEST,
        keys.join(",\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(config: &str, primary: Option<&str>, capabilities: &[&str]) -> Result<String, String> {
        let config = Object::parse(config.as_bytes()).unwrap();
        let parts = Parts {
            config: &config,
            primary: primary.map(PathBuf::from),
            capabilities: capabilities.iter().map(|one| (*one).to_owned()).collect(),
            socket: Path::new("/run/meta-cni/agent.sock"),
            state_dir: Path::new("/var/lib/meta-cni"),
        };
        conflist(&parts).map_err(|finding| finding.to_string())
    }

    #[test]
    fn a_list_for_a_chosen_file() {
        let text = rendered("{}", Some("/etc/cni/net.d/10-flannel.conflist"), &["portMappings"]).unwrap();
        let want = r#"{
  "cniVersion": "1.0.0",
  "cniVersions": ["1.0.0", "1.1.0"],
  "name": "meta-cni",
  "plugins": [
    {
      "type": "meta-cni",
      "capabilities": {"io.kubernetes.cri.pod-annotations":true,"portMappings":true},
      "clusterNetwork": "/etc/cni/net.d/10-flannel.conflist",
      "agentSocket": "/run/meta-cni/agent.sock",
      "stateDir": "/var/lib/meta-cni"
    }
  ]
}
"#;
        assert_eq!(text, want);
        let read = NetworkConf::parse(text.as_bytes()).unwrap();
        assert_eq!(read.version, Version::V1_1_0);
        assert!(read.declares("portMappings") && read.declares(POD_ANNOTATIONS));
    }

    #[test]
    fn keys_of_the_administrator_are_kept_and_capabilities_united() {
        let config = r#"{"timeoutSeconds": 30, "capabilities": {"ips": true, "mac": false}, "clusterNetwork": "cbr0",
            "defaultNetworks": ["storage"], "vendor": 12345678901234567890}"#;
        let text = rendered(config, None, &["bandwidth"]).unwrap();
        for part in [r#""defaultNetworks": ["storage"]"#, r#""clusterNetwork": "cbr0""#, "12345678901234567890"] {
            assert!(text.contains(part), "{text}");
        }
        let read = NetworkConf::parse(text.as_bytes()).unwrap();
        assert_eq!(read.plugins[0].capabilities, ["bandwidth", POD_ANNOTATIONS, "ips"]);
        assert!(names_default(&Object::parse(config.as_bytes()).unwrap()));
    }

    #[test]
    fn what_the_plugin_would_refuse_is_refused_before_it_is_written() {
        for (config, want) in [
            (r#"{"timeoutSeconds":0}"#, "timeoutSeconds: got 0, want"),
            (r#"{"cluster":{"directory":"/x"}}"#, "cluster: got {\"directory\":\"/x\"}, want no such key"),
            (r#"{"stateDir":"/x"}"#, "stateDir: got \"/x\", want what --state-dir says: /var/lib/meta-cni"),
            (r#"{"name":"a b"}"#, "name: got \"a b\""),
            (r#"{"name":7}"#, "name: got 7"),
            (r#"{"clusterNetwork":"a/b"}"#, "clusterNetwork: got \"a/b\""),
        ] {
            let refused = rendered(config, Some("/etc/cni/net.d/10-a.conf"), &[]).unwrap_err();
            assert!(refused.starts_with(want), "{refused}");
        }
        assert!(rendered("{}", None, &[]).unwrap_err().starts_with("delegates: missing"));
        assert!(rendered(r#"{"agentSocket":"/run/meta-cni/agent.sock"}"#, Some("/p"), &[]).is_ok());
    }
}
