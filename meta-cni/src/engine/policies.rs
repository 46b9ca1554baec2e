//! Levels and policies at ADD. What admission refuses is refused here too: with the webhook away, for static pods, and for
//! definitions that are older than the policy. No other verb asks.

use std::collections::BTreeMap;

use attachments::definition::Definition;
use attachments::dialect::Dialect;
use attachments::dialect::danm::Network;
use attachments::dialect::danm::network::network_name;
use attachments::dialect::objects::{ForeignRef, Kind, Objects};
use attachments::names::{NetRef, PodRef};
use attachments::policy::{Judged, Level, Nad, Pod, Verdict};
use attachments::selection::{NetworkSelection, Selection};

use crate::cluster::Facts;
use crate::cluster::wire::Policies;
use crate::fault::{Fault, Result};

/// Judges what a pod selects. The answer is what policies only warn of. `nodes_own` are the definitions that the node's
/// configuration names.
pub fn judge(
    level: Level,
    pod: &PodRef,
    selection: &Selection,
    nodes_own: &[NetRef],
    facts: &Facts,
) -> Result<Vec<String>> {
    let elements: Vec<(String, &NetworkSelection)> =
        selection.placed_elements().filter(|_| selection.is_pods_own()).collect();
    let verdict = verdict(level, pod, &elements, nodes_own, facts)?;
    match verdict.refusal() {
        Some(refusal) => Err(Fault::Config(refusal)),
        None => Ok(verdict.warnings),
    }
}

/// The same in full: everything that is refused, and everything that is warned of. `elements` are what the pod selects, each with its
/// path in the pod.
pub fn verdict(
    level: Level,
    pod: &PodRef,
    elements: &[(String, &NetworkSelection)],
    nodes_own: &[NetRef],
    facts: &Facts,
) -> Result<Verdict> {
    if elements.is_empty() {
        return Ok(Verdict::default());
    }
    let later = |why: &str| Fault::TryLater(format!("pod {pod}: levels and policies are not known here yet: {why}"));
    let policies = match &facts.policies {
        Some(Policies::Known { facts }) => facts,
        Some(Policies::Unknown { reason }) => return Err(later(reason)),
        Some(Policies::Unheard) => return Err(later("the node agent's answer needs a newer plugin")),
        None => return Err(Fault::Bug("levels and policies were not asked for".to_owned())),
    };
    let of_dialects: BTreeMap<&ForeignRef, String> =
        facts.objects.keys().filter_map(|one| Some((one, text_of(one, &facts.objects)?))).collect();
    let networks: Vec<Judged<'_>> = elements
        .iter()
        .map(|(element, selection)| {
            let reference = selection.target.definition();
            let is_of_cluster = selection.target.foreign().is_some_and(|one| one.kind == Kind::ClusterNetwork);
            Judged {
                selection,
                element,
                nad: match selection.target.foreign() {
                    Some(reference) => {
                        let config = of_dialects.get(reference).map(String::as_str);
                        // A file of the node is behind it.
                        config.or(is_of_cluster.then_some("")).map(|config| of_object(reference, config))
                    }
                    None => reference.and_then(|reference| facts.definitions.get(reference)).map(nad),
                },
                is_nodes_own: reference.is_some_and(|reference| nodes_own.contains(reference)),
                is_of_cluster,
            }
        })
        .collect();
    let (namespace, name) = (pod.namespace.as_str(), Some(pod.name.as_str()));
    // A pod in the node's own network namespace has no sandbox.
    let pod = Pod { namespace, name, labels: None, service_account: None, host_network: false };
    Verdict::of(policies, level, &pod, &networks).map_err(|error| Fault::Config(error.to_string()))
}

/// The configuration of a network of a dialect, where no file of the node has it.
fn text_of(reference: &ForeignRef, objects: &Objects) -> Option<String> {
    if reference.kind.dialect() != Some(Dialect::Danm) {
        return None;
    }
    let conf = Network::of(reference, objects).ok()?.built_in(&network_name(reference))?.ok()?;
    conf.plugins.first().map(|plugin| plugin.object.to_json())
}

fn of_object<'a>(reference: &'a ForeignRef, config: &'a str) -> Nad<'a> {
    let (namespace, name) = (reference.namespace(), reference.name.as_str());
    Nad { namespace, name, labels: None, annotations: None, config: Some(config) }
}

fn nad(definition: &Definition) -> Nad<'_> {
    let Definition { reference, config, .. } = definition;
    let (namespace, name) = (reference.namespace.as_str(), reference.name.as_str());
    Nad { namespace, name, labels: None, annotations: None, config: Some(config.as_deref().unwrap_or_default()) }
}
