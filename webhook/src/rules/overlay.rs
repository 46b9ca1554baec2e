//! Rules about overlays. A definition of type vxlan is the whole overlay, and `masterVxlan` of macvlan or ipvlan is one over their master
//! (X02 to X06, O01, O02, O04).

use std::net::IpAddr;

use attachments::names::NetRef;
use attachments::rule::{Rule, Severity};
use delegates::lint::{Kind, Problem};
use ipnet::IpNet;
use serde_json::Value;

use super::cross::{One, definition};
use super::{Request, contested, forbidden, in_config, pods_use, quoted, warned};
use crate::cluster::definition::{Definition, Overlay, Plugin, VXLAN_PORT};
use crate::cluster::{Claim, Common, Pair, PodName, View};

/// Judges one plugin of a definition, if it is an overlay.
pub(super) fn judge(one: &One<'_>) -> Vec<Problem> {
    let Some(overlay) = &one.plugin.overlay else { return Vec::new() };
    let mut problems: Vec<Problem> = taken(one, overlay).into_iter().collect();
    let options = &one.view.options;
    let reserved = options.reserved_pairs.iter().find(|(port, vni, _)| (*port, *vni) == (overlay.port, overlay.vni));
    if let Some((port, vni, device)) = reserved {
        let text = format!("reserved by the default network ({device}, port {port})");
        problems.push(forbidden(Rule::VniReserved, one.at(overlay.vni_key()), vni, text));
    } else if options.tunnel_ports.contains(&overlay.port) {
        let mut text = "in use by the default network's tunnel".to_owned();
        let problem = if overlay.is_master {
            // It has no other port.
            text = format!("UDP port {} is {text}", overlay.port);
            Problem::of(Rule::PortTaken, Kind::Invalid, one.at(overlay.vni_key()), overlay.vni, text)
        } else {
            text += &format!("; choose another, for example {VXLAN_PORT}");
            Problem::of(Rule::PortTaken, Kind::Invalid, one.at("port"), overlay.port, text)
        };
        problems.push(contested(problem, one.view));
    }
    problems.extend(subnets(one, overlay));
    problems.extend(mtu(one, overlay));
    problems
}

/// X02. The kernel has one device for a VNI and port; whoever shares the pair shares the network, by its owner's word.
fn taken(one: &One<'_>, overlay: &Overlay) -> Option<Problem> {
    let own = &one.definition.reference;
    let key = Common::Pair(overlay.port, overlay.vni);
    let lets = |other: &Definition| {
        let pair = |of: &&Overlay| (of.port, of.vni) == (overlay.port, overlay.vni);
        let mut theirs = other.plugins().iter().filter_map(|plugin| plugin.overlay.as_ref()).filter(pair);
        theirs.any(|theirs| {
            theirs.is_master_of_both(overlay) || theirs.is_shared_with(own) || overlay.is_shared_with(&other.reference)
        })
    };
    let text = match one.view.others(&key, own).find(|other| !lets(other)) {
        Some(other) => {
            format!("already used by NetworkAttachmentDefinition {} on port {}", other.reference, overlay.port)
        }
        None => claimed(one, overlay)?,
    };
    Some(Problem::of(Rule::VniTaken, Kind::Duplicate, one.at(overlay.vni_key()), overlay.vni, text))
}

/// The claim is another definition's, which no cache has heard of yet, which is gone while nodes are in its network, or which does not share:
/// no node lets this definition in.
fn claimed(one: &One<'_>, overlay: &Overlay) -> Option<String> {
    let own = &one.definition.reference;
    let pair = (overlay.port, overlay.vni);
    let claim = one.view.claims().get(pair).filter(|claim| *claim.owner != *own.to_string())?;
    let shares =
        |plugin: &Plugin| plugin.overlay.as_ref().is_some_and(|of| (of.port, of.vni) == pair && of.is_shared_with(own));
    if claimer(one.view, claim).is_some_and(|owner| owner.plugins().iter().any(shares)) {
        return None;
    }
    Some(format!("claimed by NetworkAttachmentDefinition {} on port {}", claim.owner, overlay.port))
}

/// X05.
fn subnets(one: &One<'_>, overlay: &Overlay) -> Vec<Problem> {
    let own = &one.definition.reference;
    let mut problems = Vec::new();
    // What stands on a master is a segment of its own, as on a VLAN.
    if overlay.is_master {
        return problems;
    }
    for subnet in &one.plugin.subnets {
        let overlap = |other: &Definition| {
            let apart =
                |theirs: &&Overlay| !theirs.is_master && (theirs.port, theirs.vni) != (overlay.port, overlay.vni);
            let plugins = other.plugins().iter().filter(|plugin| plugin.overlay.as_ref().filter(apart).is_some());
            let mut nets = plugins.flat_map(|plugin| &plugin.subnets).map(|theirs| theirs.net);
            nets.find(|net| net.contains(&subnet.net) || subnet.net.contains(net))
        };
        let others = one.view.overlapping(subnet.net).filter(|other| other.reference != *own);
        let mut clashes = others.filter_map(|other| Some((&other.reference, overlap(other)?)));
        // That of the same namespace counts more.
        let Some(first) = clashes.next() else { continue };
        let is_within = |(other, _): &(&NetRef, _)| other.namespace == own.namespace;
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

/// X06. The first node pins the MTU for all of them. What the underlay leaves knows whoever set the flag; where nobody did, the overlays that
/// leave their MTU to the nodes tell.
fn mtu(one: &One<'_>, overlay: &Overlay) -> Option<Problem> {
    let mtu = overlay.mtu?;
    let view = one.view;
    let problem = |text: String| Some(Problem::of(Rule::OverlayMtu, Kind::Invalid, one.at("mtu"), mtu, text));
    let claim = view.claims().get((overlay.port, overlay.vni)).filter(|claim| overlay.is_managed && claim.members > 0);
    if let Some(pinned) = claim.and_then(|claim| claim.mtu).filter(|pinned| *pinned != mtu) {
        let nodes = nodes(claim.map_or(0, |claim| claim.members));
        return problem(format!("must be {pinned}, as long as {nodes} in the overlay: all have one MTU"));
    }
    if let Some(underlay) = view.options.underlay_mtu {
        let net = overlay.underlay.as_deref().and_then(|text| text.parse::<IpNet>().ok());
        let is_ipv6 = net.map_or_else(|| view.networks().is_ipv6_only(), |net| net.addr().is_ipv6());
        let headers = if is_ipv6 { 70 } else { 50 };
        let most = underlay.saturating_sub(headers);
        let text = || format!("must be at most {most}, the underlay's {underlay} less {headers} bytes of VXLAN");
        return if mtu > most { problem(text()) } else { None };
    }
    let told = view.claims().iter().filter_map(|(pair, claim)| {
        let owner = claimer(view, claim)?;
        let mut theirs = owner.plugins().iter().filter_map(|plugin| plugin.overlay.as_ref());
        let is_left = |theirs: &Overlay| theirs.mtu.is_none() && theirs.underlay == overlay.underlay;
        theirs.any(|theirs| (theirs.port, theirs.vni) == pair && is_left(theirs)).then_some((claim.mtu?, &claim.owner))
    });
    let (most, whose) = told.max()?;
    let text = || format!("must be at most {most}, if all nodes are as those of overlay {whose}");
    if mtu > most { problem(text()).map(warned) } else { None }
}

/// The definition that owns a claim, if it is there.
fn claimer<'a>(view: &'a View, claim: &Claim) -> Option<&'a Definition> {
    let (namespace, name) = claim.owner.split_once('/')?;
    view.definition(&NetRef { namespace: namespace.parse().ok()?, name: name.parse().ok()? })
}

/// `1 node is`, `2 nodes are`.
fn nodes(count: u64) -> String {
    if count == 1 { "1 node is".to_owned() } else { format!("{count} nodes are") }
}

/// O04. Pods keep an overlay whose definition is gone until they go; but nobody can let another definition in any more.
pub(super) fn delete(request: &Request<'_>, view: &View) -> Vec<Problem> {
    let (Ok(namespace), Ok(name)) = (request.namespace.parse(), request.name.parse()) else { return Vec::new() };
    let own = NetRef { namespace, name };
    let problem = |(port, vni): Pair| {
        let members = view.claims().get((port, vni)).filter(|claim| claim.members > 0)?.members;
        let on = if members == 1 { "1 node".to_owned() } else { format!("{members} nodes") };
        let mut text = format!("owns VNI {vni} on UDP port {port}; the pods on {on} keep the overlay until they go");
        if let Some(other) = view.others(&Common::Pair(port, vni), &own).next() {
            text += &format!(", and until then no pod of {} starts, which shares it", other.reference);
        }
        Some(Problem::remark(Rule::OverlayOwner, "", text))
    };
    view.claims().of(&own).filter_map(problem).collect()
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
            say(new.vni_key(), old.vni.to_string(), new.vni.to_string());
        }
        if old.port != new.port {
            say("port", old.port.to_string(), new.port.to_string());
        }
        if old.underlay != new.underlay {
            let words = |underlay: &Option<Box<str>>| underlay.as_ref().map_or("the default".to_owned(), quoted);
            let key = if new.is_master { "master" } else { "underlay" };
            say(key, words(&old.underlay), words(&new.underlay));
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
