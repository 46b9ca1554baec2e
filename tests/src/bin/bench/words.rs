//! In whose words a pod asks for its networks, with what the node needs to understand them. The networks are the same for all.

use std::fs;
use std::path::Path;

use meta_cni_tests::node::NETWORKS;
use serde_json::{Map, Value, json};

use crate::scene::Network;

/// Words of an annotation, and where the networks are defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// NPWG's, in a node configuration without dialects. Definitions are manifests.
    Npwg,
    /// NPWG's, on a node that reads every dialect.
    NpwgBesideDialects,
    /// CNI-Genie's: files of the node.
    Genie,
    /// DANM's: networks of a type that the node has a file for.
    Danm,
    /// Knitter's: definitions by their names.
    Knitter,
}

impl Words {
    /// All of them, NPWG's own first.
    pub const ALL: [Self; 5] = [Self::Npwg, Self::NpwgBesideDialects, Self::Genie, Self::Danm, Self::Knitter];

    /// What the table calls them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Npwg => "NPWG",
            Self::NpwgBesideDialects => "NPWG, every dialect on",
            Self::Genie => "CNI-Genie",
            Self::Danm => "DANM",
            Self::Knitter => "Knitter",
        }
    }

    fn dialects(self) -> &'static [&'static str] {
        match self {
            Self::Npwg => &[],
            Self::NpwgBesideDialects => &["genie", "danm", "knitter"],
            Self::Genie => &["genie"],
            Self::Danm => &["danm"],
            Self::Knitter => &["knitter"],
        }
    }

    /// Writes what defines the networks below the node's directory. In NPWG's words nobody asks for the first: it is the node's default.
    pub fn define(self, networks: &[Network], dir: &Path) {
        let write = |path: String, value: Value| fs::write(dir.join(path), value.to_string()).unwrap();
        fs::create_dir_all(dir.join("conf")).unwrap();
        for (i, network) in networks.iter().enumerate() {
            let (name, conf) = (&network.name, network.conf());
            match self {
                Self::Npwg | Self::NpwgBesideDialects if i == 0 => (),
                Self::Npwg | Self::NpwgBesideDialects | Self::Knitter => write(
                    format!("manifests/nad-{name}.json"),
                    json!({
                        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                        "metadata": {"namespace": "default", "name": name}, "spec": {"config": conf.to_string()},
                    }),
                ),
                // The name of a network is what follows the first dash.
                Self::Genie => write(format!("conf/10-{name}.conf"), conf),
                Self::Danm => write(format!("conf/{name}.conf"), conf),
            }
            if self == Self::Danm {
                let spec = json!({"NetworkID": name, "NetworkType": network.plugins[0]["type"]});
                let object = json!({
                    "apiVersion": "danm.io/v1", "kind": "DanmNet",
                    "metadata": {"namespace": "default", "name": name}, "spec": spec,
                });
                write(format!("manifests/danm-{name}.json"), object);
            }
        }
    }

    /// Adds what a node with these words has in its configuration.
    pub fn configure(self, conf: &mut Value, dir: &Path) {
        if !self.dialects().is_empty() {
            conf["dialects"] = json!(self.dialects());
            conf["confDir"] = json!(dir.join("conf"));
        }
        // These list eth0's network: the node's default network is another, which no pod has.
        if [Self::Genie, Self::Danm, Self::Knitter].contains(&self) {
            conf["delegates"][0]["name"] = json!("nobodys");
            conf["delegates"][0]["bridge"] = json!("nobodys");
        }
    }

    /// The pod's annotations. A dialect lists the default network, too.
    pub fn annotations(self, networks: &[Network]) -> Value {
        let (key, text) = match self {
            Self::Npwg | Self::NpwgBesideDialects => {
                let names: Vec<&str> = networks[1..].iter().map(|network| network.name.as_str()).collect();
                (NETWORKS, names.join(","))
            }
            Self::Genie => {
                let named = |network: &Network| format!("{}@{}", network.name, network.ifname);
                ("cni", networks.iter().map(named).collect::<Vec<_>>().join(","))
            }
            Self::Danm => {
                let elements = networks.iter().map(|network| json!({"network": network.name}));
                ("danm.io/interfaces", Value::from_iter(elements).to_string())
            }
            Self::Knitter => {
                let port = |network: &Network| json!({"attach_to_network": network.name, "attributes": {"nic_name": network.ifname}});
                let ports: Vec<Value> = networks.iter().map(port).collect();
                ("networks", json!({"ports": ports}).to_string())
            }
        };
        Value::Object(Map::from_iter([(key.to_owned(), json!(text))]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Scene;

    #[test]
    fn the_same_networks_are_asked_for_in_each_ones_words() {
        let networks = Scene::bridges(1).networks;
        let said = |words: Words| words.annotations(&networks).to_string();
        assert_eq!(said(Words::Npwg), r#"{"k8s.v1.cni.cncf.io/networks":"net-1"}"#);
        assert_eq!(said(Words::Genie), r#"{"cni":"net-0@eth0,net-1@net1"}"#);
        assert_eq!(said(Words::Danm), r#"{"danm.io/interfaces":"[{\"network\":\"net-0\"},{\"network\":\"net-1\"}]"}"#);
        assert!(said(Words::Knitter).contains(r#"\"nic_name\":\"net1\""#), "{}", said(Words::Knitter));
    }
}
