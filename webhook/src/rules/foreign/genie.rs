//! Logicalnetworks and Physicalnetworks: what CNI-Genie's own admission refused, judged by what is stored.

use attachments::cni::object::Object;
use attachments::dialect::genie::{self, Logical, Network, Physical};
use attachments::dialect::objects::{ForeignRef, Kind as Foreign, needed_by};
use delegates::lint::{Kind, Problem};
use ipnet::IpNet;

use super::{not_found, told};
use crate::cluster::View;
use crate::rules::quoted;

/// Judges one. Nothing is remembered: what an object has is free when it goes.
pub(super) fn judge(reference: &ForeignRef, spec: &Object, view: &View) -> Vec<Problem> {
    let needed = needed_by(reference, &spec.to_json());
    let physical = needed.as_ref().and_then(|needed| view.foreign().spec(needed));
    let mut problems = told(genie::judge(reference.kind, spec, physical.as_ref()));
    let absent = needed.filter(|needed| !view.foreign().has(needed));
    problems.extend(absent.map(|needed| not_found("spec.physicalNet", &needed)));
    if problems.is_empty() && reference.kind == Foreign::Logicalnetwork {
        problems.extend(overlap(reference, spec, physical.as_ref(), view));
    }
    problems
}

/// Two Logicalnetworks of one file have no address in common, in whichever namespaces they are: the file is the node's.
fn overlap(reference: &ForeignRef, spec: &Object, physical: Option<&Object>, view: &View) -> Option<Problem> {
    let (own, subnet) = network(spec, physical)?;
    let taken = |(other, spec): (&ForeignRef, Object)| {
        if other == reference {
            return None;
        }
        let physical = needed_by(other, &spec.to_json()).and_then(|needed| view.foreign().spec(&needed));
        let (theirs, net) = network(&spec, physical.as_ref())?;
        let is_shared = theirs.plugin == own.plugin && (net.contains(&subnet) || subnet.contains(&net));
        is_shared.then(|| format!("overlaps {net} of {other}, which has the same plugin {}", quoted(&own.plugin)))
    };
    let text = view.foreign().of(Foreign::Logicalnetwork).find_map(taken)?;
    Some(Problem::unruled(Kind::Invalid, "spec.sub_subnet", quoted(subnet), text))
}

/// What an object means, where it means a subnet.
fn network(spec: &Object, physical: Option<&Object>) -> Option<(Network, IpNet)> {
    let logical = Logical::read(spec).ok()?;
    let physical = match &logical.physical {
        Some(_) => Some(Physical::read(physical?).ok()?),
        None => None,
    };
    let network = genie::network(&logical, physical.as_ref()).ok()?;
    let subnet = network.subnet.as_deref()?.parse::<IpNet>().ok()?;
    Some((network, subnet.trunc()))
}
