//! The node's configuration that an explanation is made with: a file as the runtime reads it, or what is known without one.

use std::fs;
use std::path::{Path, PathBuf};

use attachments::cni::object::Object;
use serde_json::{Map, Value, json};

/// Where the agent puts the configuration of a node.
pub const USUAL: &str = "/etc/cni/net.d/00-meta-cni.conflist";

/// The type of the default network where the node's is not known.
pub const UNKNOWN: &str = "unknown";

/// A configuration, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfiguration {
    /// As the plugin gets it, with manifests in a directory for the cluster.
    pub conf: Value,
    /// Where it comes from.
    pub origin: String,
    /// The default network is a stand-in.
    pub is_default_unknown: bool,
    /// This machine is the node: its programs, links and ports can be looked at.
    pub is_here: bool,
}

impl NodeConfiguration {
    /// The configuration in a file, or where none is named in the usual place; otherwise `keys`, those of the ConfigMap.
    pub fn read(file: Option<&Path>, keys: Option<Value>) -> Result<Self, String> {
        let usual = || Some(PathBuf::from(USUAL)).filter(|path| path.is_file());
        match file.map(Path::to_owned).or_else(usual) {
            Some(path) => {
                let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                let conf = plugin_in(&text).map_err(|why| format!("{}: {why}", path.display()))?;
                Ok(Self::of(conf, path.display().to_string(), |path| Path::new(path).exists()))
            }
            None => {
                let origin = match keys {
                    Some(_) => "ConfigMap kube-system/meta-cni",
                    None => "the defaults: no node's configuration is known here, --node-conf names a file",
                };
                let conf = keys.and_then(|keys| keys.as_object().cloned()).unwrap_or_default();
                Ok(Self::of(conf, origin.to_owned(), |_| false))
            }
        }
    }

    fn of(mut conf: Map<String, Value>, origin: String, is_there: impl Fn(&str) -> bool) -> Self {
        let default = conf.get("clusterNetwork").and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_away = default.starts_with('/') && !is_there(&default);
        let is_unknown = is_away || default.is_empty() && !conf.contains_key("delegates");
        if is_unknown {
            conf.remove("clusterNetwork");
            conf.remove("auxiliaryCNIChainName");
            let stand_in = json!([{"cniVersion": "1.0.0", "name": "default-network", "type": UNKNOWN}]);
            conf.insert("delegates".to_owned(), stand_in);
        }
        let bin = conf.get("binDir").and_then(Value::as_str).unwrap_or("/opt/cni/bin");
        let is_here = !is_unknown && is_there(bin);
        conf.entry("name").or_insert(json!("meta-cni"));
        conf.insert("cniVersion".to_owned(), json!("1.1.0"));
        // Nothing waits for the node: what is asked is what would be.
        conf.remove("readinessindicatorfile");
        conf.remove("agentSocket");
        Self { conf: Value::Object(conf), origin, is_default_unknown: is_unknown, is_here }
    }

    /// For the engine, with a directory in place of the cluster.
    pub fn with_directory(&self, dir: &Path) -> Result<Object, String> {
        let mut conf = self.conf.clone();
        conf["cluster"] = json!({"directory": dir});
        Object::parse(conf.to_string().as_bytes()).map_err(|e| e.to_string())
    }
}

/// The keys of our plugin in a configuration or a list of one.
fn plugin_in(text: &str) -> Result<Map<String, Value>, String> {
    let read: Value = serde_json::from_str(text).map_err(|e| format!("not a CNI configuration: {e}"))?;
    let list = read["plugins"].as_array();
    let ours = match list {
        Some(plugins) => {
            plugins.iter().find(|plugin| is_meta(&plugin["type"])).or(plugins.first()).unwrap_or(&Value::Null)
        }
        None => &read,
    };
    let mut conf = ours.as_object().cloned().ok_or("not a CNI configuration: no object with a type")?;
    if let (Some(name), Some(_)) = (read["name"].as_str(), list) {
        conf.insert("name".to_owned(), json!(name));
    }
    Ok(conf)
}

fn is_meta(kind: &Value) -> bool {
    ["meta-cni", "multus", "multus-shim"].iter().any(|known| kind == known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, there: &[&str]) -> NodeConfiguration {
        NodeConfiguration::of(plugin_in(text).unwrap(), "x".to_owned(), |path| there.contains(&path))
    }

    #[test]
    fn a_default_network_that_is_not_here_has_a_stand_in() {
        let list = r#"{"name":"n","plugins":[{"type":"meta-cni","clusterNetwork":"/etc/10.conflist","namespaceIsolation":true}]}"#;
        let away = of(list, &["/opt/cni/bin"]);
        assert!(away.is_default_unknown && !away.is_here);
        assert_eq!((&away.conf["name"], &away.conf["delegates"][0]["type"]), (&json!("n"), &json!(UNKNOWN)));
        assert_eq!(away.conf["namespaceIsolation"], true);
        let here = of(list, &["/opt/cni/bin", "/etc/10.conflist"]);
        assert!(!here.is_default_unknown && here.is_here);
        assert_eq!(here.conf["clusterNetwork"], "/etc/10.conflist");
        let inline = of(r#"{"type":"meta-cni","name":"m","delegates":[{"type":"ptp"}],"binDir":"/b"}"#, &[]);
        assert!(!inline.is_default_unknown && !inline.is_here && inline.conf["name"] == "m");
        assert!(of("{}", &[]).is_default_unknown);
        assert!(plugin_in("[]").is_err() && plugin_in("{").is_err());
    }
}
