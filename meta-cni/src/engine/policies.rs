//! Levels and policies at ADD. What admission refuses is refused here too: with the webhook away, for static pods, and for
//! definitions that are older than the policy. No other verb asks.

use attachments::definition::Definition;
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
    let networks: Vec<Judged<'_>> = elements
        .iter()
        .map(|(element, selection)| {
            let reference = selection.target.definition();
            Judged {
                selection,
                element,
                nad: reference.and_then(|reference| facts.definitions.get(reference)).map(nad),
                is_nodes_own: reference.is_some_and(|reference| nodes_own.contains(reference)),
            }
        })
        .collect();
    let (namespace, name) = (pod.namespace.as_str(), Some(pod.name.as_str()));
    // A pod in the node's own network namespace has no sandbox.
    let pod = Pod { namespace, name, labels: None, service_account: None, host_network: false };
    Verdict::of(policies, level, &pod, &networks).map_err(|error| Fault::Config(error.to_string()))
}

fn nad(definition: &Definition) -> Nad<'_> {
    let Definition { reference, config, .. } = definition;
    let (namespace, name) = (reference.namespace.as_str(), reference.name.as_str());
    Nad { namespace, name, labels: None, annotations: None, config: Some(config.as_deref().unwrap_or_default()) }
}
