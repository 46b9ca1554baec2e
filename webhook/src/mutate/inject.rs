//! What the networks of a pod need of its node is written into the pod: devices as resources of the first container, labels as its
//! node selector. What stands there already is not overwritten: where it says something else, the pod is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;

use attachments::definition::NODE_SELECTOR;
use attachments::names::{NetRef, ObjectName};
use attachments::node_label::{Ability, VALUE};
use attachments::rule::Rule;
use attachments::selection::DEFAULT_NETWORK;
use delegates::lint::{Kind, Problem};
use json_patch::PatchOperation;
use serde_json::{Map, Value, json};

use super::Settings;
use super::patch::{add, pointer};
use crate::cluster::{Definition, View};
use crate::rules::{self, Request, in_networks, quoted};

/// A network of the pod: the path of its element, and its definition.
type Network<'a> = (String, &'a Definition);

/// How many of a resource the networks use, and the first of them.
struct Used<'a> {
    count: u64,
    first: &'a NetRef,
}

/// The operations on a pod, and what is wrong with it.
pub(super) fn inject(
    request: &Request<'_>,
    settings: &Settings<'_>,
    view: &View,
) -> (Vec<PatchOperation>, Vec<Problem>) {
    if !(settings.injects || settings.asks_for_labels) {
        return Default::default();
    }
    let Ok(namespace) = request.namespace.parse::<ObjectName>() else { return Default::default() };
    let selection = rules::selection(&namespace, request.object, view);
    // What asks for too much is refused for that.
    if selection.networks.len() > view.options.max_attachments {
        return Default::default();
    }
    let known = |at: String, network: Option<&NetRef>| -> Option<Network<'_>> {
        let network = network.filter(|network| view.options.may_name(&namespace, &network.namespace))?;
        Some((at, view.definition(network)?))
    };
    let default = selection.default_network.iter();
    let default =
        default.filter_map(|one| known(format!("metadata.annotations[{DEFAULT_NETWORK}]"), one.target.definition()));
    let networks = selection.networks.iter().enumerate();
    let networks = networks.filter_map(|(i, one)| known(in_networks(i), one.target.definition()));
    let networks: Vec<Network<'_>> = default.chain(networks).collect();
    let (mut operations, mut problems) =
        if settings.injects { resources(request.object, &networks) } else { Default::default() };
    let (more, wrong) = node_selector(request.object, &networks, settings);
    operations.extend(more);
    problems.extend(wrong);
    (operations, problems)
}

fn resources(pod: &Value, networks: &[Network<'_>]) -> (Vec<PatchOperation>, Vec<Problem>) {
    let mut used: BTreeMap<&str, Used<'_>> = BTreeMap::new();
    for (_, definition) in networks {
        if let Some(resource) = &definition.resource {
            used.entry(resource).or_insert(Used { count: 0, first: &definition.reference }).count += 1;
        }
    }
    let containers = pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (mut added, mut problems) = (Map::new(), Vec::new());
    for (resource, Used { count, first }) in used {
        let asked = asked(containers, resource);
        let total: Option<u64> = asked.iter().map(|(_, value)| number(value)).sum();
        match asked.first() {
            None => {
                added.insert(resource.to_owned(), json!(count.to_string()));
            }
            Some(_) if total == Some(count) => {}
            Some((path, value)) => {
                let text = format!("the pod's networks use {count}, first {first}; ask for {count}, or leave it out");
                problems.push(Problem::of(Rule::ResourceCount, Kind::Invalid, path.as_str(), value, text));
            }
        }
    }
    let Some(first) = containers.first().filter(|_| !added.is_empty()) else { return (Vec::new(), problems) };
    let (at, resources) = (["spec", "containers", "0", "resources"], &first["resources"]);
    if !resources.is_object() {
        return (vec![add(pointer(at), json!({"requests": added, "limits": added}))], problems);
    }
    let [requests, limits] = ["requests", "limits"].map(|kind| {
        let at: Vec<&str> = at.into_iter().chain([kind]).collect();
        members(&at, &resources[kind], &added)
    });
    ([requests, limits].concat(), problems)
}

/// What containers ask for of a resource, and where: requests are limits where they are not named.
fn asked<'a>(containers: &'a [Value], resource: &str) -> Vec<(String, &'a Value)> {
    let of = |(i, container): (usize, &'a Value)| {
        ["requests", "limits"].into_iter().find_map(|kind| {
            let value = container["resources"][kind].get(resource)?;
            Some((format!("spec.containers[{i}].resources.{kind}[{resource}]"), value))
        })
    };
    containers.iter().enumerate().filter_map(of).collect()
}

/// A count of devices. The API server writes small ones as plain numbers, whatever their author did.
fn number(quantity: &Value) -> Option<u64> {
    quantity.as_str().map_or_else(|| quantity.as_u64(), |text| text.parse().ok())
}

fn node_selector(
    pod: &Value,
    networks: &[Network<'_>],
    settings: &Settings<'_>,
) -> (Vec<PatchOperation>, Vec<Problem>) {
    let selector = &pod["spec"]["nodeSelector"];
    let mut wanted: BTreeMap<Cow<'_, str>, (&str, &NetRef)> = BTreeMap::new();
    let mut problems = Vec::new();
    for (at, definition) in networks {
        let network = &definition.reference;
        // The scheduler does not look at a pod that has its node already, and the kubelet would refuse it.
        if settings.asks_for_labels && pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
            let labels = definition.abilities().into_iter().filter_map(Ability::label);
            wanted.extend(labels.map(|key| (key.into(), (VALUE, network))));
        }
        let Some(text) = definition.node_selector.as_deref().filter(|_| settings.injects) else { continue };
        let Some((key, value)) = label(text) else {
            let why = format!("is the annotation {NODE_SELECTOR} of {network}; must be one label, as key=value");
            problems.push(Problem::of(Rule::NodeSelector, Kind::Invalid, at.as_str(), quoted(text), why));
            continue;
        };
        let (other, first) = *wanted.entry(key.into()).or_insert((value, network));
        if other != value {
            let text = format!("{network} is on nodes with {key}={value}, and {first} on nodes with {key}={other}");
            problems.push(Problem::of(Rule::NodeSelector, Kind::Forbidden, at.as_str(), "", text));
        }
    }
    let mut added = Map::new();
    for (key, (value, network)) in wanted {
        match selector.get(&*key) {
            None => {
                added.insert(key.into_owned(), json!(value));
            }
            Some(own) if own == value => {}
            Some(own) => {
                let (path, text) =
                    (format!("spec.nodeSelector[{key}]"), format!("network {network} is on nodes with {key}={value}"));
                problems.push(Problem::of(Rule::NodeSelector, Kind::Invalid, path, own, text));
            }
        }
    }
    let operations = if added.is_empty() { Vec::new() } else { members(&["spec", "nodeSelector"], selector, &added) };
    (operations, problems)
}

/// `key=value`, or a key alone, whose value is empty then.
fn label(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let (key, value) = (key.trim(), value.trim());
    (!key.is_empty() && !value.contains('=')).then_some((key, value))
}

/// Adds members to an object of the pod, which may not be there yet.
fn members(at: &[&str], object: &Value, added: &Map<String, Value>) -> Vec<PatchOperation> {
    if !object.is_object() {
        return vec![add(pointer(at.iter().copied()), json!(added))];
    }
    let each = |(key, value): (&String, &Value)| add(pointer(at.iter().copied().chain([key.as_str()])), value.clone());
    added.iter().map(each).collect()
}
