//! The canonical form of a network's configuration: a rule need not know in how many ways the same can be written.
//!
//! A configuration of one plugin is a list of one. A plugin that another one calls (`delegate`, `delegates`, `plugins` inside of a plugin)
//! stands beside the caller, so `plugins[*]` is all of them. `subnets` of each plugin are those of its address management, whoever that is.
//! What only a runtime may say is left out, as a plugin never sees it. Keys keep their spelling, because a name of a path finds a key in
//! every spelling.

use serde_json::{Map, Value};

use super::strict;
use super::subnets::{member, subnets};
use crate::aliases::stands_for;
use crate::cni::conf::is_of_runtime;
use crate::cni::spelling::is_spelling;
use crate::finding::Finding;

/// The keys by which a plugin calls others.
const CALLS: [&str; 3] = ["delegate", "delegates", "plugins"];

/// A canonical configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Canonical {
    /// `{cniVersion, name, plugins: [...]}`.
    pub value: Value,
    /// Where each plugin was, in the same order.
    pub origins: Vec<Origin>,
}

/// Where a plugin was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its path in the text; empty for the configuration of one plugin.
    pub path: String,
    /// The path of each of its subnets, seen from the plugin's.
    pub subnets: Vec<String>,
}

/// Reads a configuration or a list. Findings carry the path from the top of the text.
pub fn canonical(text: &str) -> Result<Canonical, Finding> {
    let wanted = "a CNI configuration: a JSON object in which every key appears once";
    let read = strict::read(text).map_err(|e| Finding::new("", format_args!("invalid JSON ({e})"), wanted))?;
    let Value::Object(mut top) = read else { return Err(Finding::new("", &read, wanted)) };
    let mut lifted = Lifted::default();
    let listed = key_of(&top, "plugins");
    let whole = match listed {
        Some(key) => {
            match top.remove(&key) {
                Some(Value::Array(list)) => {
                    for (i, plugin) in list.into_iter().enumerate() {
                        lifted.take(plugin, format!("{key}[{i}]"), None)?;
                    }
                }
                other => return Err(Finding::new(key, other.unwrap_or_default(), "a list of objects")),
            }
            top
        }
        None => {
            let mut whole = Map::new();
            for key in ["cniVersion", "name"] {
                whole.extend(member(&top, key).map(|(_, value)| (key.to_owned(), value.clone())));
            }
            lifted.take(Value::Object(top), String::new(), None)?;
            whole
        }
    };
    let mut whole = whole;
    whole.retain(|key, _| !is_of_runtime(key));
    whole.insert("plugins".to_owned(), Value::Array(lifted.plugins));
    Ok(Canonical { value: Value::Object(whole), origins: lifted.origins })
}

#[derive(Default)]
struct Lifted {
    plugins: Vec<Value>,
    origins: Vec<Origin>,
}

impl Lifted {
    /// Adds a plugin, and behind it those that it calls. Nesting has an end: the text was read with one.
    fn take(&mut self, plugin: Value, path: String, implied: Option<&str>) -> Result<(), Finding> {
        let Value::Object(mut plugin) = plugin else { return Err(Finding::new(path, plugin, "a JSON object")) };
        plugin.retain(|key, _| !is_of_runtime(key));
        if let Some(kind) = implied.filter(|_| member(&plugin, "type").is_none()) {
            plugin.insert("type".to_owned(), kind.into());
        }
        // A rule about a type holds for it under every name.
        if let Some(kind) = member(&plugin, "type").and_then(|(_, kind)| kind.as_str()).map(str::to_owned)
            && stands_for(&kind) != kind
            && let Some(key) = key_of(&plugin, "type")
        {
            plugin.insert(key, stands_for(&kind).into());
        }
        let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        // What flannel hands on is a bridge where it does not say what else.
        let is_flannel = member(&plugin, "type").is_some_and(|(_, kind)| kind == "flannel");
        let implied = is_flannel.then_some("bridge");
        let mut called = Vec::new();
        for name in CALLS {
            let Some(key) = key_of(&plugin, name) else { continue };
            match plugin.remove(&key) {
                Some(Value::Array(list)) => {
                    called.extend(list.into_iter().enumerate().map(|(i, one)| (one, format!("{}[{i}]", at(&key)))));
                }
                Some(one) => called.push((one, at(&key))),
                None => {}
            }
        }
        let (found, paths): (Vec<Value>, Vec<String>) = subnets(&plugin).into_iter().unzip();
        plugin.retain(|key, _| !is_spelling(key, "subnets"));
        if !found.is_empty() {
            plugin.insert("subnets".to_owned(), Value::Array(found));
        }
        self.plugins.push(Value::Object(plugin));
        self.origins.push(Origin { path, subnets: paths });
        for (one, path) in called {
            // A key of this name that calls nothing is the plugin's own affair.
            if one.is_object() {
                self.take(one, path, implied)?;
            }
        }
        Ok(())
    }
}

fn key_of(object: &Map<String, Value>, name: &str) -> Option<String> {
    member(object, name).map(|(key, _)| key.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn canon(text: &str) -> (Value, Vec<String>) {
        let Canonical { value, origins } = canonical(text).unwrap();
        (value, origins.into_iter().map(|origin| origin.path).collect())
    }

    #[test]
    fn a_single_configuration_is_a_list_of_one() {
        let (value, paths) =
            canon(r#"{"cniVersion":"1.0.0","name":"n","type":"vxlan","vni":4.2e3,"runtimeConfig":{},"mtu":null}"#);
        assert_eq!(
            value,
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": [
                {"cniVersion": "1.0.0", "name": "n", "type": "vxlan", "vni": 4200}]})
        );
        assert_eq!(paths, [""]);
    }

    #[test]
    fn who_is_called_stands_beside_the_caller() {
        let (value, paths) = canon(
            r#"{"Plugins":[{"type":"flannel","Delegate":{"isGateway":true,"ipam":{"subnet":"10.1.0.0/16"}}},
                {"type":"x","delegates":[{"type":"a","plugins":[{"type":"b"}]},{"type":"c"}],"delegate":"d"}]}"#,
        );
        let types: Vec<&Value> = value["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["type"]).collect();
        assert_eq!(types, ["flannel", "bridge", "x", "a", "b", "c"]);
        assert_eq!(
            paths,
            [
                "Plugins[0]",
                "Plugins[0].Delegate",
                "Plugins[1]",
                "Plugins[1].delegates[0]",
                "Plugins[1].delegates[0].plugins[0]",
                "Plugins[1].delegates[1]"
            ]
        );
        assert_eq!(value["plugins"][1]["subnets"], json!(["10.1.0.0/16"]));
        assert_eq!((value.get("Plugins"), value["plugins"][0].get("Delegate")), (None, None));
    }

    #[test]
    fn a_type_under_another_name_is_that_type() {
        let (value, _) =
            canon(r#"{"plugins":[{"Type":"cnv-bridge"},{"type":"flannel","delegate":{"type":"cnv-bridge"}}]}"#);
        let types: Vec<&Value> = value["plugins"]
            .as_array()
            .unwrap()
            .iter()
            .map(|plugin| member(plugin.as_object().unwrap(), "type").unwrap().1)
            .collect();
        assert_eq!(types, ["bridge", "flannel", "bridge"]);
    }

    #[test]
    fn subnets_are_the_plugins_whatever_it_says_of_them_itself() {
        let (value, _) = canon(
            r#"{"type":"x","Subnets":"10.2.0.0/16","ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/16"}]]}}"#,
        );
        assert_eq!(value["plugins"][0]["subnets"], json!(["10.2.0.0/16", "10.1.0.0/16"]));
        assert_eq!(value["plugins"][0].get("Subnets"), None);
    }

    #[test]
    fn what_cannot_be_read_in_one_way_is_refused() {
        let deep = format!(r#"{{"type":"x","a":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
        for (text, path) in [
            ("", ""),
            ("[]", ""),
            (r#"{"type":"x","vni":1,"VNI":2}"#, ""),
            (r#"{"plugins":{}}"#, "plugins"),
            (r#"{"plugins":[{"type":"x"},7]}"#, "plugins[1]"),
            (&deep, ""),
        ] {
            assert_eq!(canonical(text).unwrap_err().path, path, "{text}");
        }
    }
}
