//! From pods, objects and files of CNI-Genie to pods and definitions of NPWG. Pure.

use std::collections::BTreeMap;

use attachments::bind::ConfFile;
use attachments::cni::conf::NetworkConf;
use attachments::dialect::files::{NodeFiles, short_name};
use attachments::dialect::genie::{self, Genie};
use attachments::dialect::objects::{ForeignRef, Kind, NoConfiguration, Objects, configuration};
use attachments::dialect::{Dialect, PodList};
use attachments::meta_plugins::is_meta;
use attachments::names::{IfName, ObjectName};
use attachments::selection::{DEFAULT_NETWORK, NETWORKS, SelectionTarget};
use serde_json::{Map, Value, json};

use super::default_route;
use super::manifests::{Migration, Part, called, config, definition, read_all};
use crate::lint::TEMPLATES;

/// The group of its kinds.
const GROUP: &str = "alpha.network.k8s.io";
/// Parts of keys whose values no object should hold.
const SECRETS: [&str; 3] = ["token", "password", "secret"];

/// What the files hold together.
#[derive(Default)]
struct Input {
    files: Vec<ConfFile>,
    objects: Objects,
}

/// Reads the files by name and text. `namespace` is where definitions of the nodes' files go. Fails with the first that cannot be read.
pub fn migrate(files: &[(String, String)], namespace: &ObjectName) -> Result<Migration, String> {
    let parts = read_all(files)?;
    let mut input = Input::default();
    for part in &parts {
        match part {
            Part::Conf { file, text } => {
                input.files.push(ConfFile { name: file.clone(), conf: NetworkConf::parse(text.as_bytes()) });
            }
            Part::Object(object) => {
                input.objects.extend(foreign(object).map(|reference| (reference, object["spec"].to_string())));
            }
        }
    }
    // As a node has them.
    input.files.sort_by(|a, b| a.name.cmp(&b.name));
    let mut migration = Migration::default();
    for part in parts {
        match part {
            Part::Conf { file, text } => migration.conf(&file, &text, namespace),
            Part::Object(object) => migration.object(object, &input, namespace),
        }
    }
    Ok(migration)
}

fn foreign(object: &Value) -> Option<ForeignRef> {
    let is_of_group = object["apiVersion"].as_str().is_some_and(|version| version.starts_with(GROUP));
    let kind =
        Kind::of(object["kind"].as_str()?).filter(|kind| kind.dialect() == Some(Dialect::Genie) && is_of_group)?;
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or("default").parse().ok()?;
    Some(ForeignRef::within(&namespace, kind, metadata["name"].as_str()?.parse().ok()?))
}

impl Migration {
    /// A file of a node is a definition.
    fn conf(&mut self, file: &str, text: &str, namespace: &ObjectName) {
        let mut leave = |why: String| self.left.push(format!("{file}: {why}"));
        let conf = match NetworkConf::parse(text.as_bytes()) {
            Ok(conf) => conf,
            Err(finding) => return leave(finding.to_string()),
        };
        if let Some(kind) = conf.plugins.iter().map(|plugin| plugin.kind.as_str()).find(|kind| is_meta(kind)) {
            return leave(format!(
                "the configuration of {kind} itself: default_plugin is the key genie.defaultPlugin of the node's configuration"
            ));
        }
        if let Some(key) = secret(&serde_json::from_str(text).unwrap_or_default()) {
            return leave(format!(
                "{key} holds a secret, which is not for a definition that everybody reads: keep the file"
            ));
        }
        let name = short_name(file);
        if name.parse::<ObjectName>().is_err() {
            return leave(format!("{name:?} is no name of an object: rename the file, and the entries that name it"));
        }
        let network = conf.name.map_or_else(|| name.to_owned(), |name| name.to_string());
        let note = format!(
            "From {file}. Where {network} is the node's default network already, name this definition in clusterNetwork."
        );
        self.objects.push((vec![note], definition(namespace.as_str(), name, text.trim())));
    }

    fn object(&mut self, object: Value, input: &Input, namespace: &ObjectName) {
        let (kind, name) = (object["kind"].as_str().unwrap_or_default().to_owned(), called(&object));
        if let Some(reference) = foreign(&object) {
            return self.foreign(&reference, &object, input);
        }
        if kind == "CustomResourceDefinition" && object["spec"]["group"] == GROUP {
            return self.skipped.push(format!("{name}: not needed once its objects are definitions"));
        }
        if object["apiVersion"].as_str().is_some_and(|version| version.starts_with(GROUP)) {
            return self.left.push(format!("{name}: nothing reads objects of this kind, and nothing did"));
        }
        let annotations = object["metadata"]["annotations"].as_object();
        let policy = annotations.and_then(|all| all.keys().find(|key| key.eq_ignore_ascii_case(genie::NETWORK_POLICY)));
        if let Some(key) = policy.filter(|_| kind == "NetworkPolicy") {
            self.left.push(format!("{name}: annotation {key} is not enforced; use MultiNetworkPolicy"));
        }
        let at = match TEMPLATES.iter().find(|(known, _)| *known == kind) {
            Some((_, at)) => *at,
            None if kind == "Pod" => "",
            None => return self.objects.push((Vec::new(), object)),
        };
        let pod_namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let mut object = object;
        let annotations = object.pointer_mut(&format!("{at}/metadata/annotations")).and_then(Value::as_object_mut);
        let notes = match annotations.map(|annotations| rewrite(annotations, &pod_namespace, namespace, input)) {
            Some(Ok(notes)) => notes,
            Some(Err(why)) => {
                self.left.push(format!("{name}: {why}"));
                Vec::new()
            }
            None => Vec::new(),
        };
        self.objects.push((notes, object));
    }

    /// A Logicalnetwork is a definition; a Physicalnetwork is part of those that name it.
    fn foreign(&mut self, reference: &ForeignRef, object: &Value, input: &Input) {
        if reference.kind != Kind::Logicalnetwork {
            let nic = object["spec"]["refer_nic"].as_str().filter(|nic| !nic.is_empty());
            let unused = nic.map(|nic| format!("; refer_nic {nic} never had an effect")).unwrap_or_default();
            return self.skipped.push(format!("{reference}: part of the definitions of its Logicalnetworks{unused}"));
        }
        let files = NodeFiles { files: &input.files, dirs: &[] };
        match configuration(reference, &input.objects, files) {
            Ok((_, conf, from)) => {
                let config = config(&conf);
                let (namespace, name) = (reference.namespace(), reference.name.as_str());
                self.objects.push((vec![format!("From {from}.")], definition(namespace, name, &config)));
            }
            Err(NoConfiguration::Missing(missing)) => self.left.push(format!("{reference}: {missing} is not given")),
            Err(NoConfiguration::NoFile(name)) => {
                self.left.push(format!("{reference}: the node's file of {name} is not given"));
            }
            Err(NoConfiguration::Invalid(finding)) => self.left.push(format!("{reference}: {finding}")),
        }
    }
}

/// The path of the first value that looks like a secret.
fn secret(value: &Value) -> Option<String> {
    let inside = |prefix: String, value: &Value| secret(value).map(|path| format!("{prefix}.{path}"));
    match value {
        Value::Object(fields) => fields.iter().find_map(|(key, value)| {
            let is_secret = SECRETS.iter().any(|part| key.to_ascii_lowercase().contains(part));
            let is_given = value.as_str().is_some_and(|text| !text.is_empty());
            if is_secret && is_given { Some(key.clone()) } else { inside(key.clone(), value) }
        }),
        Value::Array(items) => items.iter().enumerate().find_map(|(i, item)| inside(i.to_string(), item)),
        _ => None,
    }
}

/// Puts NPWG's annotations in the place of Genie's. Why a pod stays as it is, is the error.
fn rewrite(
    annotations: &mut Map<String, Value>,
    pod_namespace: &str,
    files_namespace: &ObjectName,
    input: &Input,
) -> Result<Vec<String>, String> {
    if !annotations.contains_key(genie::CNI) {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    if annotations.contains_key(NETWORKS) || annotations.contains_key(DEFAULT_NETWORK) {
        notes.push(format!("The annotation cni counted for nothing beside {NETWORKS} and is gone."));
    } else {
        let PodList { elements, is_open, .. } = list(annotations, pod_namespace)?;
        if is_open {
            return Err(
                "load-based choice has no definition's form; keep dialect genie, or choose a network".to_owned()
            );
        }
        let mut networks = Vec::new();
        let mut default = None;
        for (i, element) in elements.iter().enumerate() {
            let (namespace, name) = match &element.target {
                SelectionTarget::File(name) => (files_namespace.as_str(), name.as_str()),
                SelectionTarget::Foreign(reference) => (reference.namespace(), reference.name.as_str()),
                SelectionTarget::Definition(_) | SelectionTarget::NodeFile(_) | SelectionTarget::Alias { .. } => {
                    continue;
                }
            };
            if name.parse::<ObjectName>().is_err() {
                return Err(format!("{name:?} is no name of an object: rename the node's file, and the entry"));
            }
            if matches!(element.target, SelectionTarget::File(_)) && !input.has_file(name) {
                notes.push(format!("Needs the definition {namespace}/{name}: give the node's file of {name} too."));
            }
            let interface = element.interface.as_ref().map_or("", IfName::as_str);
            if interface == "eth0" {
                default = Some((namespace, name, &element.target));
                if i > 0 {
                    notes.push("The entry that is eth0 was not the first: it is attached first now.".to_owned());
                }
            } else {
                networks.push(json!({"name": name, "namespace": namespace, "interface": interface}));
            }
        }
        if let Some((namespace, name, target)) = default {
            // Of several default routes that of eth0 counts.
            let text = match !networks.is_empty() && input.may_give_default_route(target) {
                true => json!([{"name": name, "namespace": namespace, "default-route": []}]).to_string(),
                false => format!("{namespace}/{name}"),
            };
            annotations.insert(DEFAULT_NETWORK.to_owned(), json!(text));
        }
        if !networks.is_empty() {
            annotations.insert(NETWORKS.to_owned(), json!(Value::Array(networks).to_string()));
        }
    }
    for key in [genie::CNI, genie::NETWORKS, genie::PREFERENCES] {
        annotations.remove(key);
    }
    Ok(notes)
}

impl Input {
    fn has_file(&self, name: &str) -> bool {
        self.files.iter().any(|file| short_name(&file.name) == name)
    }

    /// What is not given may: Genie's files are those of default networks.
    fn may_give_default_route(&self, target: &SelectionTarget) -> bool {
        let files = NodeFiles { files: &self.files, dirs: &[] };
        let conf = match target {
            SelectionTarget::Foreign(reference) => {
                configuration(reference, &self.objects, files).ok().map(|(_, conf, _)| config(&conf))
            }
            SelectionTarget::File(name) => {
                let readable = self.files.iter().filter(|file| short_name(&file.name) == name.as_str());
                readable.filter_map(|file| file.conf.as_ref().ok()).next().map(config)
            }
            SelectionTarget::Definition(_) | SelectionTarget::NodeFile(_) | SelectionTarget::Alias { .. } => None,
        };
        conf.is_none_or(|conf| default_route::may_be_given(&conf))
    }
}

fn list(annotations: &Map<String, Value>, pod_namespace: &str) -> Result<PodList, String> {
    let texts: BTreeMap<&str, &str> =
        annotations.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
    let namespace = pod_namespace.parse::<ObjectName>().map_err(|finding| finding.under("namespace").to_string())?;
    let read = Genie::default().read_pod(|key| texts.get(key).copied(), &namespace);
    let read = read.map_err(|finding| finding.to_string())?;
    read.ok_or_else(|| "annotation cni is no text".to_owned())
}

#[cfg(test)]
mod tests;
