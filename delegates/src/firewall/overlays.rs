//! Who may send into the overlays of this node, and where their pods' packets may not go: table `inet meta_cni_overlays`.
//!
//! A VXLAN packet bears no proof of its sender, so a UDP port of overlays takes packets from their members alone, and from those only
//! where they come in by the underlay: by the link that carries the tunnels, or by the one that leads back to the sender. A pod may
//! send with a member's address, but its packets come in by its own port, to which no route to the member leads. They are dropped
//! whether the tunnel end is this node's or another's: at the other's they would arrive with this node's address where pods are
//! masqueraded. It is done before connections are tracked and destinations are translated.
//!
//! A port is guarded while every vxlan device on it, whosever, has members that we know. Of a device with `peers` or a `group`, and of
//! another program's, nobody tells us the senders.
//!
//! The bridges of overlays have no address, but the kernel routes what a pod sends to a bridge's hardware address. So nothing is
//! handed on from or to them, and to the node itself only ICMP (and with it neighbour discovery) and replies pass. What a bridge
//! hands on within itself is seen here too, where `bridge-nf-call-iptables` is on: it passes. So does what the node routes between the
//! bridge and the device of an overlay in mode l3.
//!
//! A bridge that is a gateway (set `routers`) hands on to everywhere but to other overlays, and takes what belongs to a connection that its
//! pods began. `openGateway` opens it in both directions, and towards the node itself.
//!
//! The family is inet because tunnels come over both. All of the table follows from the overlays that are there, so it has no owner
//! by name: who changes an overlay brings it to what is wanted, and with the last overlay it goes.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use nix::libc;

use super::table::{again_when_raced, leads, present};
use super::unused::Frame;
use crate::error::{Error, Result};
use crate::lock::{self, Lock};
use crate::networks::NetworkId;
use crate::networks::state::{Membership, NetworkState, Routing};
use crate::nl::Netlink;
use crate::nl::link::Kind;
use crate::nl::nft::{
    Action, BaseChain, ChainType, Condition, Family, Hook, Key, Nftables, Part, Policy, Rule, Set, Step, StoredRule,
    Table, priority,
};
use crate::overlay::Names;

/// Name of the table.
pub const NAME: &str = "meta_cni_overlays";
const TABLE: Table<'_> = Table { family: Family::Inet, name: NAME };
const COMMENT: &str = "Who may send into overlays of meta-cni, and where their pods may not go";
/// File of the lock under which the table is changed.
const LOCK: &str = "overlay-firewall.lock";

const PORTS: &str = "ports";
const MEMBERS4: &str = "members4";
const MEMBERS6: &str = "members6";
const UNDERLAYS: &str = "underlays";
const BRIDGES: &str = "bridges";
const BRIDGED: &str = "bridged";
const CLOSED: &str = "closed";
const ROUTERS: &str = "routers";
const SETS: [Set<'_>; 8] = [
    set(PORTS, Key::Port),
    set(MEMBERS4, Key::PortIpv4),
    set(MEMBERS6, Key::PortIpv6),
    set(UNDERLAYS, Key::LinkName),
    set(CLOSED, Key::LinkName),
    set(ROUTERS, Key::LinkName),
    set(BRIDGES, Key::LinkName),
    set(BRIDGED, Key::LinkNames),
];

const ARRIVALS: BaseChain<'_> = base("prerouting", Hook::Prerouting, priority::RAW);
const INPUT: BaseChain<'_> = base("input", Hook::Input, priority::FILTER - 10);
const FORWARD: BaseChain<'_> = base("forward", Hook::Forward, priority::FILTER - 10);
const TUNNELS: &str = "tunnels";
const FROM_PODS: &str = "from-pods";

/// Bytes of a link's name in the kernel.
const IFNAMSIZ: usize = 16;
/// Values of one batch, which is one datagram.
const BATCH: usize = 2000;

const fn set(name: &'static str, key: Key) -> Set<'static> {
    Set { name, key, timeouts: false }
}

const fn base(name: &'static str, hook: Hook, priority: i32) -> BaseChain<'static> {
    BaseChain { name, kind: ChainType::Filter, hook, priority, policy: Some(Policy::Accept) }
}

/// The table is ours alone.
pub(super) fn frame() -> Frame {
    Frame { table: TABLE, chains: None, is_bare: |_| true }
}

/// An overlay of this node whose members are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// UDP port.
    pub port: u16,
    /// Name of its bridge.
    pub bridge: String,
    /// Name of its vxlan device.
    pub device: String,
    /// Name of the link that carries its tunnels.
    pub underlay: Option<String>,
    /// The tunnel ends of the other members.
    pub members: Vec<IpAddr>,
    /// What the node routes of it.
    pub routing: Routing,
}

/// What is on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The overlays whose members are known.
    pub kept: Vec<Kept>,
    /// The UDP ports of all other vxlan devices.
    pub others: BTreeSet<u16>,
}

/// Who tells of an overlay's members: `None` for one that the node is not in, of which nobody is a member any more.
pub type Members<'a> = dyn Fn(&NetworkId) -> Option<Membership> + 'a;

/// Looks at the node's vxlan devices.
pub fn survey(netlink: &mut Netlink, members: &Members<'_>) -> Result<Survey> {
    let links = netlink.links(None)?;
    let mut found = Survey::default();
    for device in &links {
        let Kind::Vxlan(is) = &device.kind else { continue };
        let names =
            Names::of(is.vni, is.port).ok().filter(|names| names.device.as_str() == device.name && !is.learning);
        let Some(names) = names else {
            found.others.insert(is.port);
            continue;
        };
        let underlay = links.iter().find(|link| Some(link.index) == is.underlay);
        let own = members(&NetworkId::overlay(is.port, is.vni));
        let (routing, members) = own.map(|own| (own.routing, own.members)).unwrap_or_default();
        found.kept.push(Kept {
            port: is.port,
            bridge: names.bridge.to_string(),
            device: device.name.clone(),
            underlay: underlay.map(|link| link.name.clone()),
            members: members.iter().map(|member| member.vtep).collect(),
            routing,
        });
    }
    Ok(found)
}

/// The membership in a network, as the state file says.
pub fn members_in(state_dir: &Path, id: &NetworkId) -> Option<Membership> {
    NetworkState::read(state_dir, id).ok().flatten()?.overlay
}

/// Brings the table to what the overlays of the node want.
pub fn update(netlink: &mut Netlink, state_dir: &Path, members: &Members<'_>, deadline: Instant) -> Result<()> {
    let lock = state_dir.join(lock::DIR).join(LOCK);
    // Also where the state directory takes no file: a removal must not wait for room on a disk.
    // The state directory itself is the substitute for an overlay's lock, which the caller may hold.
    let substitute = state_dir.parent().unwrap_or(state_dir);
    let _lock = Lock::take_for_undo(&lock, [substitute], deadline)?;
    bring(&wanted(&survey(netlink, members)?), deadline)
}

/// CHECK: the table is there, and guards what it should. `members` are those of the overlay whose bridge is named.
pub fn check(bridge: &str, port: u16, members: &[IpAddr], deadline: Instant) -> Result<()> {
    let mut nftables = Nftables::open(deadline)?;
    let differs = |what: String| Err(Error::Differs(format!("nftables table {TABLE}: {what}")));
    if !is_framed(&nftables.rules(TABLE)?) {
        return differs(format!("the rules that keep the pods of {bridge} to their overlay are missing"));
    }
    let mut is_known = false;
    for set in [CLOSED, ROUTERS] {
        is_known |= nftables.values(TABLE, set)?.unwrap_or_default().contains(&link_name(bridge));
    }
    if !is_known {
        return differs(format!("{bridge} is missing in the sets {CLOSED} and {ROUTERS}"));
    }
    for (set, is_ipv4) in [(MEMBERS4, true), (MEMBERS6, false)] {
        let held = nftables.values(TABLE, set)?.unwrap_or_default();
        let held: BTreeSet<&Vec<u8>> = held.iter().collect();
        let mut ours = members.iter().filter(|member| member.is_ipv4() == is_ipv4);
        if let Some(missing) = ours.find(|member| !held.contains(&member_value(port, **member))) {
            return differs(format!("member {missing} of {bridge} is missing in set {set}"));
        }
    }
    Ok(())
}

/// The values of each of [`SETS`]; no overlay, no table.
type Values = [BTreeSet<Vec<u8>>; SETS.len()];

fn wanted(survey: &Survey) -> Option<Values> {
    if survey.kept.is_empty() {
        return None;
    }
    let mut values = Values::default();
    let [ports, members4, members6, underlays, closed, routers, bridges, bridged] = &mut values;
    for kept in &survey.kept {
        let Routing { l3, direct, gateway, open, .. } = kept.routing;
        let (bridge, device) = (link_name(&kept.bridge), link_name(&kept.device));
        bridged.insert([bridge.clone(), bridge.clone()].concat());
        let mut others = Vec::new();
        if l3 {
            others.push(device.clone());
            closed.insert(device.clone());
            bridges.insert(device);
            others.extend(kept.underlay.as_deref().map(link_name).filter(|_| direct));
        }
        for other in &others {
            bridged.insert([bridge.as_slice(), other].concat());
            bridged.insert([other.as_slice(), &bridge].concat());
        }
        if gateway { &mut *routers } else { &mut *closed }.insert(bridge.clone());
        if !(gateway && open) {
            bridges.insert(bridge);
        }
        if survey.others.contains(&kept.port) {
            continue;
        }
        ports.insert(kept.port.to_be_bytes().to_vec());
        underlays.extend(kept.underlay.as_deref().map(link_name));
        for member in &kept.members {
            let members = if member.is_ipv4() { &mut *members4 } else { &mut *members6 };
            members.insert(member_value(kept.port, *member));
        }
    }
    Some(values)
}

fn link_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(IFNAMSIZ, 0);
    bytes
}

fn member_value(port: u16, member: IpAddr) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    let mut value = vec![high, low, 0, 0];
    match member {
        IpAddr::V4(ip) => value.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => value.extend_from_slice(&ip.octets()),
    }
    value
}

fn bring(wanted: &Option<Values>, deadline: Instant) -> Result<()> {
    again_when_raced(deadline, || {
        let Some((mut nftables, rules)) = present(TABLE, deadline)? else {
            // Without nf_tables there is nothing to remove, and nothing can be guarded: the kernel says why.
            return match wanted {
                None => Ok(()),
                Some(_) => Nftables::open(deadline)?.commit(&[(TABLE, vec![Step::AddTable { comment: COMMENT }])]),
            };
        };
        let Some(wanted) = wanted else {
            return if rules.is_empty() { Ok(()) } else { nftables.commit(&[(TABLE, vec![Step::DeleteTable])]) };
        };
        let held = if is_framed(&rules) { held(&mut nftables)? } else { None };
        if held.is_none() {
            let mut steps = vec![Step::AddTable { comment: COMMENT }, Step::DeleteTable];
            steps.extend(framework());
            nftables.commit(&[(TABLE, steps)])?;
        }
        change(&mut nftables, wanted, &held.unwrap_or_default())
    })
}

/// What the sets hold; `None` when one of them is missing.
fn held(nftables: &mut Nftables) -> Result<Option<Values>> {
    let mut values = Values::default();
    for (set, values) in SETS.iter().zip(&mut values) {
        match nftables.values(TABLE, set.name)? {
            Some(held) => values.extend(held),
            None => return Ok(None),
        }
    }
    Ok(Some(values))
}

/// What is missing is added first, the guarded ports last of all: no member is refused meanwhile. What goes goes in the other order.
fn change(nftables: &mut Nftables, wanted: &Values, held: &Values) -> Result<()> {
    let sets = || SETS.iter().zip(wanted.iter().zip(held));
    let deletions = || sets().map(|(set, (wanted, held))| (set.name, held.difference(wanted), false));
    let additions = sets().rev().map(|(set, (wanted, held))| (set.name, wanted.difference(held), true));
    // Of a port that is no longer guarded nobody is refused any more, and of one that is, everybody has come before.
    for (set, values, comes) in deletions().take(1).chain(additions).chain(deletions().skip(1)) {
        let values: Vec<Vec<u8>> = values.cloned().collect();
        for some in values.chunks(BATCH) {
            let step = match comes {
                true => Step::AddValues { set, values: some },
                false => Step::DeleteValues { set, values: some },
            };
            nftables.commit(&[(TABLE, vec![step])])?;
        }
    }
    Ok(())
}

fn is_framed(rules: &[StoredRule]) -> bool {
    chains().iter().all(|(chain, expected)| leads(TABLE.family, chain, rules, expected))
}

/// Table, sets, chains and rules.
fn framework() -> Vec<Step<'static>> {
    let mut steps = vec![Step::AddTable { comment: COMMENT }];
    steps.extend(SETS.map(Step::AddSet));
    steps.extend([TUNNELS, FROM_PODS].map(|chain| Step::AddChain { chain, comment: "" }));
    steps.extend([ARRIVALS, INPUT, FORWARD].map(Step::AddBaseChain));
    steps.extend(chains().into_iter().flat_map(|(_, rules)| rules).map(Step::AddRule));
    steps
}

fn chains() -> [(&'static str, Vec<Rule<'static>>); 5] {
    use Part::{Destination, DestinationPort, Incoming, Outgoing, Source};
    const UDP: Condition = Condition::Protocol(libc::IPPROTO_UDP as u8);
    const GUARDED: Condition = Condition::InSet { set: PORTS, parts: &[DestinationPort] };
    const FROM_MEMBER: [Condition; 2] = [
        Condition::InSet { set: MEMBERS4, parts: &[DestinationPort, Source(Key::Ipv4)] },
        Condition::InSet { set: MEMBERS6, parts: &[DestinationPort, Source(Key::Ipv6)] },
    ];
    const TO_MEMBER: [Condition; 2] = [
        Condition::InSet { set: MEMBERS4, parts: &[DestinationPort, Destination(Key::Ipv4)] },
        Condition::InSet { set: MEMBERS6, parts: &[DestinationPort, Destination(Key::Ipv6)] },
    ];
    const BY_UNDERLAY: Condition = Condition::InSet { set: UNDERLAYS, parts: &[Incoming] };
    const FROM_BRIDGE: Condition = Condition::InSet { set: BRIDGES, parts: &[Incoming] };
    let mut tunnels = Vec::new();
    for member in FROM_MEMBER {
        for way in [BY_UNDERLAY, Condition::SourceRoutedHere] {
            tunnels.push(Rule::new(TUNNELS, [UDP, member.clone(), way], Action::Return));
        }
    }
    tunnels.push(Rule::new(TUNNELS, [Condition::DestinationIsLocal], Action::Drop));
    tunnels.extend(TO_MEMBER.map(|member| Rule::new(TUNNELS, [UDP, member], Action::Drop)));
    let from_pods = vec![
        Rule::new(FROM_PODS, [Condition::Protocol(libc::IPPROTO_ICMP as u8)], Action::Return),
        Rule::new(FROM_PODS, [Condition::Protocol(libc::IPPROTO_ICMPV6 as u8)], Action::Return),
        Rule::new(FROM_PODS, [Condition::ConnectionKnown], Action::Return),
        Rule::new(FROM_PODS, [], Action::Drop),
    ];
    let within = Condition::InSet { set: BRIDGED, parts: &[Incoming, Outgoing] };
    let from = |set| Condition::InSet { set, parts: &[Incoming] };
    let to = |set| Condition::InSet { set, parts: &[Outgoing] };
    let forward = vec![
        Rule::new(FORWARD.name, [within], Action::Return),
        Rule::new(FORWARD.name, [from(CLOSED)], Action::Drop),
        Rule::new(FORWARD.name, [from(ROUTERS), to(ROUTERS)], Action::Drop),
        Rule::new(FORWARD.name, [to(ROUTERS), Condition::ConnectionKnown], Action::Return),
        Rule::new(FORWARD.name, [to(BRIDGES)], Action::Drop),
    ];
    [
        (ARRIVALS.name, vec![Rule::new(ARRIVALS.name, [UDP, GUARDED], Action::Jump(TUNNELS))]),
        (TUNNELS, tunnels),
        (INPUT.name, vec![Rule::new(INPUT.name, [FROM_BRIDGE], Action::Goto(FROM_PODS))]),
        (FROM_PODS, from_pods),
        (FORWARD.name, forward),
    ]
}
