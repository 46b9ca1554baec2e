//! Rules about overlays. A definition of type vxlan is the whole overlay (X02 to X05, O01, O02).

use std::net::IpAddr;

use attachments::rule::{Rule, Severity};
use delegates::lint::{Kind, Problem};
use serde_json::Value;

use super::cross::{One, definition};
use super::{Request, contested, forbidden, in_config, pods_use, quoted};
use crate::cluster::definition::{Definition, Overlay, VXLAN_PORT};
use crate::cluster::{Common, PodName, View};

/// Judges one plugin of a definition, if it is an overlay.
pub(super) fn judge(one: &One<'_>) -> Vec<Problem> {
    let Some(overlay) = &one.plugin.overlay else { return Vec::new() };
    let mut problems: Vec<Problem> = taken(one, overlay).into_iter().collect();
    let options = &one.view.options;
    let reserved = options.reserved_pairs.iter().find(|(port, vni, _)| (*port, *vni) == (overlay.port, overlay.vni));
    if let Some((port, vni, device)) = reserved {
        let text = format!("reserved by the default network ({device}, port {port})");
        problems.push(forbidden(Rule::VniReserved, one.at("vni"), vni, text));
    } else if options.tunnel_ports.contains(&overlay.port) {
        let text = format!("in use by the default network's tunnel; choose another, for example {VXLAN_PORT}");
        let problem = Problem::of(Rule::PortTaken, Kind::Invalid, one.at("port"), overlay.port, text);
        problems.push(contested(problem, one.view));
    }
    problems.extend(subnets(one, overlay));
    problems
}

/// X02. The kernel has one device for a VNI and port; whoever shares the pair shares the network, by its owner's word.
fn taken(one: &One<'_>, overlay: &Overlay) -> Option<Problem> {
    let own = &one.definition.reference;
    let key = Common::Pair(overlay.port, overlay.vni);
    let lets = |other: &Definition| {
        let pair = |of: &&Overlay| (of.port, of.vni) == (overlay.port, overlay.vni);
        let mut theirs = other.plugins().iter().filter_map(|plugin| plugin.overlay.as_ref()).filter(pair);
        theirs.any(|theirs| theirs.is_shared_with(own) || overlay.is_shared_with(&other.reference))
    };
    let other = &one.view.others(&key, own).find(|other| !lets(other))?.reference;
    let text = format!("already used by NetworkAttachmentDefinition {other} on port {}", overlay.port);
    Some(Problem::of(Rule::VniTaken, Kind::Duplicate, one.at("vni"), overlay.vni, text))
}

/// X05.
fn subnets(one: &One<'_>, overlay: &Overlay) -> Vec<Problem> {
    let own = &one.definition.reference;
    let mut problems = Vec::new();
    for subnet in &one.plugin.subnets {
        let overlap = |other: &Definition| {
            let apart = |theirs: &&Overlay| (theirs.port, theirs.vni) != (overlay.port, overlay.vni);
            let plugins = other.plugins().iter().filter(|plugin| plugin.overlay.as_ref().filter(apart).is_some());
            let mut nets = plugins.flat_map(|plugin| &plugin.subnets).map(|theirs| theirs.net);
            nets.find(|net| net.contains(&subnet.net) || subnet.net.contains(net))
        };
        let others = one.view.overlapping(subnet.net).filter(|other| other.reference != *own);
        let mut clashes = others.filter_map(|other| Some((&other.reference, overlap(other)?)));
        // That of the same namespace counts more.
        let Some(first) = clashes.next() else { continue };
        let is_within = |(other, _): &(&attachments::names::NetRef, _)| other.namespace == own.namespace;
        let (other, net) = if is_within(&first) { first } else { clashes.find(is_within).unwrap_or(first) };
        let text = format!("overlaps {net} of overlay {other}");
        let at = one.at(&subnet.at);
        let mut problem = Problem::of(Rule::OverlaySubnet, Kind::Invalid, at, quoted(subnet.net), text);
        if other.namespace == own.namespace {
            problem.severity = Severity::Deny;
        }
        problems.push(problem);
    }
    problems
}

/// O01 and O02: what an overlay in use does not become.
pub(super) fn change(request: &Request<'_>, old: &Value, view: &View) -> Vec<Problem> {
    let (Some(before), Some(after)) = (definition(request, old), definition(request, request.object)) else {
        return Vec::new();
    };
    let Some(usage) = view.usage(&before.reference) else { return Vec::new() };
    let users = usage.pods().next().map(|first| format!("while {} it, first {first}", pods_use(usage.pods().len())));
    let Some(users) = users else { return Vec::new() };
    let mut problems = Vec::new();
    for (was, is) in before.plugins().iter().zip(after.plugins()) {
        let (Some(old), Some(new)) = (&was.overlay, &is.overlay) else { continue };
        let mut say = |field, old: String, new: String| {
            let text = format!("cannot change from {old} to {new} {users}; create a new overlay");
            problems.push(forbidden(Rule::OverlayChange, in_config(&is.at, field), "", text));
        };
        if old.vni != new.vni {
            say("vni", old.vni.to_string(), new.vni.to_string());
        }
        if old.port != new.port {
            say("port", old.port.to_string(), new.port.to_string());
        }
        if old.underlay != new.underlay {
            let words = |underlay: &Option<Box<str>>| underlay.as_ref().map_or("the default".to_owned(), quoted);
            say("underlay", words(&old.underlay), words(&new.underlay));
        }
        let covers = |subnets: &[crate::cluster::ipam::Subnet], address: IpAddr| {
            subnets.iter().any(|subnet| subnet.net.contains(&address))
        };
        let lost = |(address, _): &(IpAddr, &PodName)| covers(&was.subnets, *address) && !covers(&is.subnets, *address);
        let lost: Vec<(IpAddr, &PodName)> = usage.addresses().filter(lost).collect();
        if let Some((address, pod)) = lost.first() {
            let count =
                if lost.len() == 1 { "1 address is".to_owned() } else { format!("{} addresses are", lost.len()) };
            let text = format!("{count} in use, first {address} by {pod}");
            problems.push(forbidden(Rule::OverlayShrinks, in_config(&is.at, "ipam"), "", text));
        }
    }
    problems
}
