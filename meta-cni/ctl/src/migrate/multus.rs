//! From the files of Multus to the keys of a node of ours. Pure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use meta_cni::node;
use meta_cni::render::{Parts, capabilities, conflist, names_default};
use serde_json::{Map, Value};

use super::keys::{Fate, fate};

/// What is shown.
#[derive(Debug, Default)]
pub struct Migration {
    /// The files that were read.
    pub files: Vec<String>,
    /// The keys for the ConfigMap.
    pub node: Map<String, Value>,
    /// `META_CNI_PRIMARY`, where Multus was told which network is the default one.
    pub primary: Option<String>,
    /// What the agent writes.
    pub conflist: String,
    /// What differs, or is gone.
    pub remarks: Vec<Remark>,
}

/// One difference.
#[derive(Debug, PartialEq, Eq)]
pub struct Remark {
    /// Its key; empty where it is about none.
    pub key: String,
    /// Somebody has to do something.
    pub needs_attention: bool,
    /// What is so.
    pub text: String,
}

impl Migration {
    /// Does nothing need attention?
    pub fn is_good(&self) -> bool {
        !self.remarks.iter().any(|remark| remark.needs_attention)
    }

    fn remark(&mut self, key: &str, needs_attention: bool, text: impl Into<String>) {
        let remark = Remark { key: key.to_owned(), needs_attention, text: text.into() };
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// Takes the keys of one file. What a later one says counts: the daemon's keys override those of the shim.
    fn take(&mut self, keys: &Map<String, Value>) {
        for (key, value) in keys {
            match fate(key) {
                None => self.remark(key, true, "no key of Multus that is known: left out"),
                Some((known, Fate::Kept)) => drop(self.node.insert(known.to_owned(), value.clone())),
                Some((known, Fate::Differs(text))) => {
                    self.node.insert(known.to_owned(), value.clone());
                    // What is switched off does not differ.
                    if !is_off(value) {
                        self.remark(known, false, text);
                    }
                }
                Some((_, Fate::Plain)) => {}
                Some((known, Fate::Replaced(text))) => self.remark(known, false, text),
                Some((known, Fate::Lost(text))) => {
                    self.remark(known, !is_off(value), text);
                }
            }
        }
        if let Some(primary) = keys.get("multusMasterCNI").and_then(Value::as_str).filter(|name| !name.is_empty()) {
            self.primary = Some(primary.to_owned());
        }
    }
}

/// Reads the files by name and text: configurations whose type is Multus's, the daemon's own, and those of other networks.
pub fn migrate(files: &[(String, String)]) -> Result<Migration, String> {
    let mut migration = Migration::default();
    let mut daemon = Vec::new();
    let mut others: Vec<(&str, NetworkConf)> = Vec::new();
    let mut found = 0;
    for (name, text) in files {
        let read: Value = match serde_json::from_str(text) {
            Ok(read) => read,
            Err(e) => {
                migration.remark("", true, format!("{name} cannot be read: {e}"));
                continue;
            }
        };
        let of_list =
            read["plugins"].as_array().and_then(|plugins| plugins.iter().find(|plugin| is_multus(&plugin["type"])));
        let file = Path::new(name).file_name().and_then(|file| file.to_str()).unwrap_or(name);
        match of_list.or(Some(&read)).filter(|conf| is_multus(&conf["type"])).and_then(Value::as_object) {
            Some(keys) => {
                found += 1;
                migration.files.push(name.clone());
                if found > 1 {
                    migration.remark(
                        "",
                        true,
                        format!("{name} is a further configuration of Multus: the runtime reads only the first"),
                    );
                    continue;
                }
                migration.take(keys);
            }
            None if is_daemons(&read) => daemon.push((name, read)),
            None => others.extend(NetworkConf::parse(text.as_bytes()).ok().map(|conf| (file, conf))),
        }
    }
    for (name, keys) in &daemon {
        migration.files.push((*name).clone());
        migration.take(keys.as_object().unwrap_or(&Map::new()));
    }
    if found + daemon.len() == 0 {
        return Err("no configuration of Multus among the files (type multus or multus-shim, or a daemon-config.json)"
            .to_owned());
    }
    let chroot = daemon.iter().find_map(|(_, keys)| keys["chrootDir"].as_str());
    of_node(&mut migration, chroot);
    finish(&mut migration, &others);
    Ok(migration)
}

/// What is switched off, or empty, does nothing.
fn is_off(value: &Value) -> bool {
    value.as_bool() == Some(false) || value.as_str() == Some("")
}

fn is_multus(kind: &Value) -> bool {
    ["multus", "multus-shim"].iter().any(|known| kind == known)
}

/// The daemon's file has no type, and keys that only it has.
fn is_daemons(read: &Value) -> bool {
    const OWN: [&str; 9] = [
        "chrootDir",
        "socketDir",
        "daemonSocketDir",
        "multusConfigFile",
        "multusAutoconfigDir",
        "cniConfigDir",
        "perNodeCertificate",
        "metricsPort",
        "connectionLimit",
    ];
    let has =
        |key: &&str| read.as_object().is_some_and(|keys| keys.keys().any(|known| known.eq_ignore_ascii_case(key)));
    read["type"].is_null() && OWN.iter().any(has)
}

/// Paths that Multus's daemon has of its container: on the node they are without what the node's root is mounted at there.
fn of_node(migration: &mut Migration, chroot: Option<&str>) {
    let mounts = chroot.into_iter().chain(["/host", "/hostroot"]);
    let mounts: Vec<&str> = mounts.map(|mount| mount.trim_end_matches('/')).filter(|mount| !mount.is_empty()).collect();
    for key in ["clusterNetwork", "readinessindicatorfile", "confDir", "cniDir", "binDir"] {
        let Some(path) = migration.node.get(key).and_then(Value::as_str) else { continue };
        let inside = mounts.iter().find_map(|mount| path.strip_prefix(mount).filter(|inside| inside.starts_with('/')));
        if let Some(inside) = inside {
            let (text, value) = (format!("{path} of Multus's container is {inside} on the node"), Value::from(inside));
            migration.node.insert(key.to_owned(), value);
            migration.remark(key, false, text);
        }
    }
}

/// The default network, and the conflist as the agent would write it.
fn finish(migration: &mut Migration, others: &[(&str, NetworkConf)]) {
    // Multus's own default network is the agent's choice, too, where it is the file that the agent would find.
    let named = migration.node.get("clusterNetwork").and_then(Value::as_str).map(str::to_owned);
    let is_it = |file: &str| named.as_deref().is_some_and(|name| name.ends_with(&format!("/{file}")));
    let chosen = others.iter().find(|(file, conf)| {
        let has_name = |wanted: &str| conf.name.as_ref().is_some_and(|name| name.as_str() == wanted);
        is_it(file) || migration.primary.as_deref().is_some_and(|wanted| *file == wanted || has_name(wanted))
    });
    if migration.node.contains_key("delegates") && migration.node.contains_key("clusterNetwork") {
        migration.node.remove("delegates");
        migration.remark("delegates", false, "ignored beside clusterNetwork, as by Multus: left out");
    }
    if migration.node.contains_key("delegates") && migration.node.remove("defaultNetworks").is_some() {
        migration.remark("defaultNetworks", false, "without clusterNetwork they are ignored, as by Multus: left out");
    }
    let text = Value::Object(migration.node.clone()).to_string();
    let config = match Object::parse(text.as_bytes())
        .map_err(|e| e.to_string())
        .and_then(|conf| node::spelled(conf).map_err(|e| e.to_string()))
    {
        Ok(config) => config,
        Err(why) => return migration.remark("", true, why),
    };
    let primary = match (names_default(&config), chosen) {
        (true, _) => None,
        (false, Some((file, _))) => Some(PathBuf::from("/etc/cni/net.d").join(file)),
        (false, None) => {
            let text = "the agent chooses the first usable file of /etc/cni/net.d: META_CNI_PRIMARY names another, as docs/install.md says";
            migration.remark("", false, text);
            Some(PathBuf::from("/etc/cni/net.d/THE-DEFAULT-NETWORK.conflist"))
        }
    };
    if named.as_deref().is_some_and(|name| name.starts_with('/')) && chosen.is_none() {
        migration.remark("clusterNetwork", false, "its file is none of those that were read: the capabilities that it declares come to the conflist on the node");
    }
    let parts = Parts {
        config: &config,
        primary,
        capabilities: chosen.map(|(_, conf)| capabilities(conf)).unwrap_or_else(BTreeSet::new),
        socket: Path::new("/run/meta-cni/agent.sock"),
        state_dir: Path::new("/var/lib/meta-cni"),
    };
    match conflist(&parts) {
        Ok(conflist) => migration.conflist = conflist,
        // A value that Multus takes and we do not.
        Err(finding) => migration.remark("", true, finding.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report;
    use super::*;
    use crate::style::Style;

    const FLANNEL: &str = r#"{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"flannel"},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;

    fn of(files: &[(&str, &str)]) -> Result<Migration, String> {
        let files: Vec<(String, String)> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        migrate(&files)
    }

    fn golden(name: &str, files: &[(&str, &str)]) -> Migration {
        let migration = of(files).unwrap();
        let text = report::text(&migration, Style::Plain);
        let path = format!("{}/src/migrate/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
        migration
    }

    #[test]
    fn the_shim_and_the_daemon_of_a_thick_installation() {
        let shim = r#"{"capabilities":{"portMappings":true},"cniVersion":"0.3.1","logLevel":"verbose","logToStderr":true,"name":"multus-cni-network","clusterNetwork":"/host/etc/cni/net.d/10-flannel.conflist","type":"multus-shim","socketDir":"/run/multus"}"#;
        let daemon = r#"{"chrootDir":"/hostroot","cniVersion":"0.3.1","logLevel":"verbose","logToStderr":true,"cniConfigDir":"/host/etc/cni/net.d","multusAutoconfigDir":"/host/etc/cni/net.d","multusConfigFile":"auto","socketDir":"/host/run/multus/","namespaceIsolation":true}"#;
        let all = [("d/00-multus.conf", shim), ("d/10-flannel.conflist", FLANNEL), ("m/daemon-config.json", daemon)];
        let migration = golden("thick", &all);
        assert!(migration.is_good());
        assert_eq!(migration.node["namespaceIsolation"], true);
        assert_eq!(migration.node["clusterNetwork"], "/etc/cni/net.d/10-flannel.conflist");
    }

    #[test]
    fn a_thin_installation_with_inline_delegates() {
        let thin = r#"{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus","kubeconfig":"/etc/cni/net.d/multus.d/multus.kubeconfig","readinessindicatorfile":"/run/flannel/subnet.env","defaultNetworks":["x"],"delegates":[{"cniVersion":"0.3.1","name":"cbr0","plugins":[{"type":"flannel"}]}],"overrideNetworkName":true,"favourite":1}"#;
        let migration = golden("thin", &[("00-multus.conf", thin)]);
        assert!(!migration.is_good());
    }

    #[test]
    fn what_cannot_be_migrated_is_said() {
        assert!(of(&[("a.conflist", FLANNEL)]).unwrap_err().starts_with("no configuration of Multus"));
        let wrong = of(&[("00-multus.conf", r#"{"type":"multus","clusterNetwork":"a/b"}"#)]).unwrap();
        assert!(!wrong.is_good() && wrong.conflist.is_empty());
        assert!(
            wrong.remarks.iter().any(|one| one.text.contains("clusterNetwork: got \"a/b\"")),
            "{:?}",
            wrong.remarks
        );
        let two = r#"{"type":"multus-shim","delegates":[{"name":"a","type":"ptp"}]}"#;
        assert!(!of(&[("00-multus.conf", two), ("01-multus.conf", two)]).unwrap().is_good());
        assert!(!of(&[("00-multus.conf", two), ("05-x.conf", "{")]).unwrap().is_good());
    }

    #[test]
    fn the_default_network_that_multus_was_told_of_stays() {
        let daemon = r#"{"multusMasterCNI":"10-flannel.conflist","multusConfigFile":"auto"}"#;
        let migration = of(&[("daemon-config.json", daemon), ("10-flannel.conflist", FLANNEL)]).unwrap();
        assert_eq!(migration.primary.as_deref(), Some("10-flannel.conflist"));
        assert!(
            migration.conflist.contains(r#""clusterNetwork": "/etc/cni/net.d/10-flannel.conflist""#)
                && migration.conflist.contains("portMappings"),
            "{}",
            migration.conflist
        );
    }

    #[test]
    fn every_key_is_listed_once_and_those_that_are_kept_are_ours() {
        let mut seen = std::collections::BTreeSet::new();
        for (key, fate) in super::super::keys::KEYS {
            assert!(seen.insert(key.to_lowercase()), "{key}");
            if matches!(fate, Fate::Kept | Fate::Differs(_)) {
                let page = include_str!("../../../../docs/configuration.md");
                assert!(page.contains(&format!("`{key}`")), "{key} is not in docs/configuration.md");
            }
        }
    }
}
