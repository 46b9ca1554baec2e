//! Pods and their templates: NPWG's annotations in the place of Knitter's.

use attachments::cni::object::Object;
use attachments::dialect::PodList;
use attachments::dialect::alias::object_name;
use attachments::dialect::knitter::{self, Knitter};
use attachments::finding::Finding;
use attachments::names::{IfName, NetRef, ObjectName};
use attachments::selection::{DEFAULT_NETWORK, NETWORKS, NetworkSelection, SelectionTarget};
use serde_json::{Map, Value, json};

use super::super::manifests::called;
use super::{Names, Place};
use crate::lint::TEMPLATES;

/// An object with its pods moved, and what is to be known of it. What cannot be moved stays as it is, with a line in `left`.
pub fn moved(mut object: Value, names: &Names, place: &Place, left: &mut Vec<String>) -> (Vec<String>, Value) {
    let kind = object["kind"].as_str().unwrap_or_default();
    let at = match TEMPLATES.iter().find(|(known, _)| *known == kind) {
        Some((_, at)) => *at,
        None if kind == "Pod" => "",
        None => return (Vec::new(), object),
    };
    let name = called(&object);
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or(place.tenant.as_str()).to_owned();
    let annotations = object.pointer_mut(&format!("{at}/metadata/annotations")).and_then(Value::as_object_mut);
    let notes = match annotations.map(|annotations| rewrite(annotations, &namespace, names, place)) {
        Some(Ok(notes)) => notes,
        Some(Err(why)) => {
            left.push(format!("{name}: {why}"));
            Vec::new()
        }
        None => Vec::new(),
    };
    (notes, object)
}

fn rewrite(
    annotations: &mut Map<String, Value>,
    namespace: &str,
    names: &Names,
    place: &Place,
) -> Result<Vec<String>, String> {
    let Some(text) = annotations.get(knitter::NETWORKS).and_then(Value::as_str).map(str::to_owned) else {
        return Ok(Vec::new());
    };
    // CNI-Genie's list has the same key.
    if !text.trim().is_empty() && !Knitter::is_meant(&text) {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    if annotations.contains_key(NETWORKS) || annotations.contains_key(DEFAULT_NETWORK) {
        notes.push(format!("The annotation networks counted for nothing beside {NETWORKS} and is gone."));
    } else {
        let namespace: ObjectName = namespace.parse().map_err(|e: Finding| e.under("namespace").to_string())?;
        let settings = Knitter { admin_namespace: place.admin.clone(), default_network: place.default_network.clone() };
        let list = settings.read_pod(&text, &namespace).map_err(|finding| finding.to_string())?;
        let PodList { elements, warnings, .. } = match list {
            Some(list) => list,
            None => {
                annotations.remove(knitter::NETWORKS);
                return Ok(notes);
            }
        };
        notes.extend(warnings.iter().map(ToString::to_string));
        let mut networks = Vec::new();
        for mut element in elements {
            settle(&mut element, names, &mut notes)?;
            match element.interface.as_ref().map(IfName::as_str) {
                Some("eth0") => {
                    element.interface = None;
                    annotations.insert(DEFAULT_NETWORK.to_owned(), json!(default_network(&element)));
                }
                _ => networks.push(element.to_object()),
            }
        }
        if !networks.is_empty() {
            let list: Vec<String> = networks.iter().map(Object::to_json).collect();
            annotations.insert(NETWORKS.to_owned(), json!(format!("[{}]", list.join(","))));
        }
    }
    annotations.remove(knitter::NETWORKS);
    Ok(notes)
}

/// The definition that a port's network is now. One that the files do not have is said.
fn settle(element: &mut NetworkSelection, names: &Names, notes: &mut Vec<String>) -> Result<(), String> {
    let Some(alias) = element.target.alias().cloned() else { return Ok(()) };
    let known = alias.namespaces().find_map(|namespace| {
        let name = names.get(&(namespace.to_string(), alias.name.clone()))?;
        Some(NetRef { namespace: namespace.clone(), name: name.clone() })
    });
    let reference = match known {
        Some(reference) => reference,
        None => {
            let refuse = || {
                format!("network {:?}: no object can have such a name, and no definition is given for it", alias.name)
            };
            let name = object_name(&alias.name).ok_or_else(refuse)?;
            let note = format!(
                "Needs the definition {}/{name}: give Knitter's answer for network {:?} too, or write the namespace that it is in.",
                alias.namespace, alias.name
            );
            notes.push(note);
            NetRef { namespace: alias.namespace.clone(), name }
        }
    };
    element.target = SelectionTarget::Definition(reference);
    Ok(())
}

/// The text of the annotation that replaces the default network: a reference, or a list of one where more is asked for.
fn default_network(element: &NetworkSelection) -> String {
    let plain = NetworkSelection::new(element.target.clone());
    if *element == plain { element.target.to_string() } else { format!("[{}]", element.to_object().to_json()) }
}
