//! What a pod is attached to, as plain data: every contender is given the same.

use serde_json::{Value, json};

use crate::words::Words;

/// One network of a pod.
#[derive(Clone, Debug)]
pub struct Network {
    /// `name` of its configuration, and of its definition.
    pub name: String,
    /// The pod's interface.
    pub ifname: String,
    /// The plugins of its chain, without `name` and `cniVersion`.
    pub plugins: Vec<Value>,
}

/// Networks, and what the node has before a pod comes. `$dir` in it is the node's own directory.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The default network first.
    pub networks: Vec<Network>,
    /// In whose words our plugin is asked for them.
    pub words: Words,
    /// The runtime's `runtimeConfig`.
    pub runtime: Value,
    /// Commands that prepare the node.
    pub node: Vec<String>,
    /// Files of the node, by name below its directory.
    pub files: Vec<(&'static str, &'static str)>,
}

/// The version of every configuration: the newest that the reference plugins know.
pub const VERSION: &str = "1.1.0";

impl Scene {
    /// eth0 alone, by a chain of plugins.
    pub fn alone(plugins: Vec<Value>) -> Self {
        let eth0 = Network { name: "net-0".to_owned(), ifname: "eth0".to_owned(), plugins };
        Self { networks: vec![eth0], words: Words::Npwg, runtime: json!({}), node: Vec::new(), files: Vec::new() }
    }

    /// eth0 and `further` networks: each a bridge of its own that is the gateway of a subnet of its own, with host-local.
    pub fn bridges(further: usize) -> Self {
        let network = |i: usize| {
            let ifname = if i == 0 { "eth0".to_owned() } else { format!("net{i}") };
            Network { name: format!("net-{i}"), ifname, plugins: vec![bridge(&format!("br{i}"), host_local(i))] }
        };
        Self { networks: (0..=further).map(network).collect(), ..Self::alone(Vec::new()) }
    }
}

/// A bridge that is a gateway.
pub fn bridge(name: &str, ipam: Value) -> Value {
    json!({"type": "bridge", "bridge": name, "isGateway": true, "ipam": ipam})
}

/// host-local with a subnet that is the network's own.
pub fn host_local(network: usize) -> Value {
    json!({"type": "host-local", "dataDir": "$dir/addresses", "ranges": [[{"subnet": format!("10.{}.0.0/16", 80 + network)}]]})
}

/// Blocks of the same subnet.
pub fn blocks() -> Value {
    json!({"type": "blocks", "subnet": "10.80.0.0/16"})
}

impl Network {
    /// The configuration that a meta plugin gets: a single plugin, or a list.
    pub fn conf(&self) -> Value {
        match self.plugins.as_slice() {
            [plugin] => named(plugin, &self.name),
            plugins => json!({"cniVersion": VERSION, "name": self.name, "plugins": plugins}),
        }
    }

    /// What a runtime sends to one plugin of the chain: the capabilities that it declares, and the result of the one before
    /// (of the last one, for DEL).
    pub fn request(&self, plugin: &Value, runtime: &Value, before: Option<&Value>) -> Value {
        let mut conf = named(plugin, &self.name);
        for (capability, value) in runtime.as_object().into_iter().flatten() {
            if plugin["capabilities"][capability] == json!(true) {
                conf["runtimeConfig"][capability] = value.clone();
            }
        }
        if let Some(before) = before {
            conf["prevResult"] = before.clone();
        }
        conf
    }
}

fn named(plugin: &Value, name: &str) -> Value {
    let mut conf = plugin.clone();
    conf["cniVersion"] = json!(VERSION);
    conf["name"] = json!(name);
    conf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_gets_the_capabilities_that_it_declares_and_the_result_before() {
        let plugin = json!({"type": "portmap", "capabilities": {"portMappings": true, "ips": false}});
        let network = Network { name: "n".to_owned(), ifname: "eth0".to_owned(), plugins: vec![plugin.clone()] };
        let runtime = json!({"portMappings": [1], "ips": [2], "mac": "m"});
        let conf = network.request(&plugin, &runtime, Some(&json!({"ips": []})));
        assert_eq!(conf["runtimeConfig"], json!({"portMappings": [1]}));
        assert_eq!(conf["prevResult"], json!({"ips": []}));
        assert_eq!((&conf["name"], &conf["cniVersion"]), (&json!("n"), &json!(VERSION)));
        assert_eq!(network.request(&json!({"type": "bridge"}), &runtime, None).get("prevResult"), None);
    }

    #[test]
    fn networks_beside_eth0_have_bridges_and_subnets_of_their_own() {
        let networks = Scene::bridges(5).networks;
        let of = |key: &str| {
            let mut all: Vec<String> =
                networks.iter().map(|n| n.plugins[0].pointer(key).unwrap().to_string()).collect();
            all.sort();
            all.dedup();
            all.len()
        };
        assert_eq!((networks.len(), of("/bridge"), of("/ipam/ranges/0/0/subnet")), (6, 6, 6));
        assert_eq!((networks[0].ifname.as_str(), networks[5].ifname.as_str()), ("eth0", "net5"));
    }
}
