//! This node's membership in an overlay, and what the others' come to. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use attachments::api::OverlayMemberSpec;
use attachments::names::Mac;
use attachments::text::hash;
use delegates::networks::NetworkId;
use delegates::networks::state::{Endpoint, Member as FileMember, Membership, Routing};

use super::call::Call;
use super::facts::{Facts, Memory, Step};
use super::objects::Member;
use super::slots::Blocks;

/// Longest name of an object.
const LONGEST: usize = 253;

/// Name of a node's member object.
pub fn name(id: &NetworkId, node: &str) -> String {
    let name = format!("{id}.{node}");
    if name.len() <= LONGEST {
        return name;
    }
    let end = LONGEST - 17;
    format!("{}-{:016x}", name[..end].trim_end_matches(['.', '-']), hash(&name))
}

/// A node's name as a label's value.
pub fn label(node: &str) -> String {
    const LONGEST_LABEL: usize = 63;
    if node.len() <= LONGEST_LABEL {
        return node.to_owned();
    }
    format!("{}-{:016x}", node[..LONGEST_LABEL - 17].trim_end_matches(['.', '-']), hash(node))
}

/// MAC address of a node's vxlan device: the same whenever it is made anew, so that no other node has to learn another one.
pub fn mac(id: &NetworkId, node: &str) -> Mac {
    let [a, b, c, d, e, f, ..] = hash(&format!("{id}/{node}")).to_be_bytes();
    // Locally administered, of one station.
    Mac([(a & 0xfc) | 0x02, b, c, d, e, f])
}

/// This node's member.
pub fn own<'a>(facts: &'a Facts<'_>) -> Option<&'a Arc<Member>> {
    let name = name(facts.id, facts.node);
    facts.view.members.iter().find(|member| member.meta.name == name)
}

/// Makes this node's member what it is to be; `None` when it is.
pub fn next(facts: &Facts<'_>, memory: &mut Memory) -> Option<Step> {
    let Some(Ok(tunnel)) = facts.tunnel else { return None };
    let own = own(facts);
    let endpoints = match (facts.endpoints, own) {
        (Some(told), _) => told.to_vec(),
        (None, Some(own)) => own.spec.endpoints.clone(),
        (None, None) => Vec::new(),
    };
    let wanted = OverlayMemberSpec {
        network: facts.id.to_string(),
        node: facts.node.to_owned(),
        vteps: tunnel.vteps.clone(),
        mac: mac(facts.id, facts.node),
        mtu: tunnel.mtu,
        endpoints,
    };
    let Some(uid) = facts.uid else { return Some(Step::AskNode) };
    // Somebody took its labels away, or wrote what cannot be read.
    if std::mem::take(&mut memory.member_is_there) {
        return Some(Call::ChangeMember(wanted).into());
    }
    let Some(own) = own else { return Some(Call::CreateMember(wanted).into()) };
    (own.spec != wanted || own.owner(facts.node) != Some(uid)).then(|| Call::ChangeMember(wanted).into())
}

/// What the plugin and the data path are told: this node's tunnel end, and the others'. A member without an address of this node's
/// family cannot be reached and is left out.
pub fn membership(facts: &Facts<'_>, blocks: &Blocks) -> Option<Membership> {
    let own = own(facts)?;
    let is_other = |other: &&Arc<Member>| other.spec.node != facts.node && wrong(facts.id, other).is_none();
    let others: Vec<&Arc<Member>> = facts.view.members.iter().filter(is_other).collect();
    let vtep = tunnel_end(&own.spec.vteps, &others)?;
    let slots = blocks.by_node();
    let member = |other: &&Arc<Member>| {
        let spec = &other.spec;
        let endpoint = |one: &attachments::api::MemberEndpoint| Endpoint { mac: one.mac, ips: one.ips.clone() };
        Some(FileMember {
            node: spec.node.clone(),
            vtep: *spec.vteps.iter().find(|other| other.is_ipv4() == vtep.is_ipv4())?,
            mac: spec.mac,
            slots: slots.get(spec.node.as_str()).cloned().unwrap_or_default(),
            endpoints: spec.endpoints.iter().map(endpoint).collect(),
        })
    };
    let mut members: Vec<FileMember> = others.iter().filter_map(member).collect();
    members.sort_by(|one, other| one.node.cmp(&other.node));
    let mtu = facts.view.claim.as_ref().and_then(|claim| claim.spec.mtu).unwrap_or(own.spec.mtu);
    Some(Membership { vtep, mac: own.spec.mac, mtu, members, routing: routing(facts) })
}

/// What the node routes of the network. The mode is that of the definition by which the node came into it: pods are attached by it. Of a
/// gateway the last definition that has one decides.
pub fn routing(facts: &Facts<'_>) -> Routing {
    let before = facts.file.and_then(|file| file.overlay.as_ref()).map(|own| &own.routing);
    let asked = facts.ask.and_then(|ask| ask.need.overlay.as_ref()).map(|overlay| &overlay.routing);
    match (before, asked) {
        (Some(before), Some(asked)) if asked.gateway => {
            let gateways = if asked.gateways.is_empty() { &before.gateways } else { &asked.gateways };
            Routing { l3: before.l3, direct: before.direct, gateways: gateways.clone(), ..asked.clone() }
        }
        (Some(routing), _) | (None, Some(routing)) => routing.clone(),
        (None, None) => Routing::default(),
    }
}

/// What is wrong with an object that was edited by hand, in words that follow "ignored: "; `None` when it is sound.
pub fn wrong(id: &NetworkId, member: &Member) -> Option<String> {
    let spec = &member.spec;
    if spec.network != id.as_str() || member.meta.name != name(id, &spec.node) {
        return Some("its name is not NETWORK.NODE".to_owned());
    }
    let is_end = |ip: &&IpAddr| {
        let is_all = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_all)
    };
    if let Some(ip) = spec.vteps.iter().find(|ip| !is_end(ip)) {
        return Some(format!("vteps: got {ip}, want addresses of the node"));
    }
    let macs = std::iter::once(&spec.mac).chain(spec.endpoints.iter().map(|one| &one.mac));
    let group = macs.copied().find(|mac| !mac.is_station());
    group.map(|mac| format!("mac: got {mac}, want the address of one station"))
}

/// The family is one that every member has, IPv4 before IPv6.
fn tunnel_end(own: &[IpAddr], others: &[&Arc<Member>]) -> Option<IpAddr> {
    let has_all = |is_ipv4: bool| others.iter().all(|other| other.spec.vteps.iter().any(|ip| ip.is_ipv4() == is_ipv4));
    let of = |is_ipv4: bool| own.iter().copied().find(|ip| ip.is_ipv4() == is_ipv4);
    of(true).filter(|_| has_all(true)).or_else(|| of(false).filter(|_| has_all(false))).or_else(|| own.first().copied())
}
