//! Overlays in mode l3: the node routes between its pods and the tunnels. No frame of a pod leaves the node as it is, so there is no
//! broadcast, no multicast and no ARP between pods, and what a node holds grows with the blocks of the others and not with their
//! addresses.
//!
//! ```text
//!   pod's veth --+                            table 2147487848 of bx4200 and vx4200 (rules by iif, protocol 121)
//!   pod's veth --+-- bridge bx4200            10.42.0.17/32 via 10.42.0.17 dev bx4200 onlink     each address of the node's slots
//!     isolated ports  |                       10.42.0.64/26 via 10.42.0.64 dev vx4200 onlink     each block of a member
//!                   (node)                    10.43.0.64/26 via 192.0.2.3 dev eth1               the same one hop away (directRouting)
//!                     |                       blackhole default                                  all else
//!                   vx4200 ---- tunnel        neighbours: 10.42.0.64 lladdr VTEP-MAC dev vx4200; forwarding: VTEP-MAC dst 192.0.2.2
//! ```
//!
//! **A table of its own, found by rules.** Overlays with one CIDR never meet, and the node's own routing is untouched: packets that came in
//! by another link, and the node's own, do not look into the table. A VRF would do the same, but not every kernel has it, and the node
//! would bind sockets to it; a rule by name outlives its link, so that a link that is made again needs no new one. A rule leads to the table
//! for good: what it does not know it drops (`blackhole`), so nothing falls through to the main table.
//!
//! **One leg for all pods of a node.** The ports of the bridge are isolated, so all that a pod sends goes to the node, as by a link of
//! its own. With a link for each pod there would be a rule for each pod, through which every packet of the node goes; and what makes,
//! guards, checks and removes the ports is the same as in mode l2.
//!
//! **Every route is by a next hop that is a neighbour we gave**: the route's own first address, or over IPv6 the link-local address that
//! follows from the MAC address. So nothing is asked for. It also keeps the kernel from sending
//! redirects, which it does where it takes both ends for neighbours on one link. The next hop of the pods is [`ROUTER`] at the bridge's MAC address, and given
//! too: the bridge has no address at all.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attachments::cni::result::default_destination;
use attachments::finding::Finding;
use attachments::names::{IfName, Mac};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::libc;

use super::entries::{Entries, Obstacle, Plan, Present, plan};
use super::reconcile::{Made, make};
use super::{PROTOCOL, Segment};
use crate::apply::is;
use crate::error::{Error, Result};
use crate::networks::state::{Endpoint, Membership, NetworkState};
use crate::nl::Netlink;
use crate::nl::link::{Kind, Link};
use crate::nl::neighbour::Forwarding;
use crate::nl::route::Route;
use crate::nl::rule::Rule;

/// The next hop of the pods, in each pod the same: link-local, so it takes no address of a pool and names no host.
pub const ROUTER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))];

/// The rules come before those of the main table and behind the local one's.
const PRIORITY: u32 = 4789;

/// How addresses are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A pod of this node has that MAC address.
    Here(Mac),
    /// Through the tunnel to the member whose device has that MAC address.
    Tunnel(Mac),
    /// By the node at that address, which is one hop away.
    Plain(IpAddr),
}

/// The ways that follow from a state. `local` are this node's pods that slots do not explain; `is_near` says which tunnel ends are one
/// hop away by the link that carries the tunnels. Pure.
pub fn ways(state: &NetworkState, local: &[Endpoint], is_near: &dyn Fn(IpAddr) -> bool) -> BTreeMap<IpNet, Way> {
    let mut ways = BTreeMap::new();
    let Some(own) = &state.overlay else { return ways };
    // A member that calls this node's tunnel end its own would make a loop.
    let others = || own.members.iter().filter(|member| member.vtep != own.vtep);
    let way = |net: IpNet, vtep: IpAddr, mac: Mac| {
        let is_plain = own.routing.direct && net.addr().is_ipv4() == vtep.is_ipv4() && is_near(vtep);
        (net, if is_plain { Way::Plain(vtep) } else { Way::Tunnel(mac) })
    };
    if let Some(pool) = &state.pool {
        for member in others() {
            let nets = member.slots.iter().flat_map(|slots| pool.pool.subnets_of(*slots));
            ways.extend(nets.map(|net| way(net, member.vtep, member.mac)));
        }
        let capacity = pool.pool.capacity();
        for slot in pool.slots.iter().flat_map(|slots| slots.iter()).take_while(|slot| *slot < capacity) {
            let (Some(mac), Some(addresses)) = (pool.pool.mac(slot), pool.pool.addresses(slot)) else { continue };
            ways.extend(addresses.iter().map(|one| (IpNet::from(one.address.addr()), Way::Here(mac))));
        }
    }
    for member in others() {
        let ips = member.endpoints.iter().flat_map(|endpoint| &endpoint.ips);
        ways.extend(ips.map(|ip| way(IpNet::from(*ip), member.vtep, member.mac)));
    }
    for endpoint in local {
        ways.extend(endpoint.ips.iter().map(|ip| (IpNet::from(*ip), Way::Here(endpoint.mac))));
    }
    ways
}

/// A route: its destination, and link and next hop; without these it leads nowhere.
type Leg = (IpNet, Option<(u32, IpAddr)>);

/// What is to be done.
#[derive(Default)]
struct Steps {
    /// Of the entries of the device, its neighbours included.
    device: Plan,
    /// Of the neighbours of the bridge.
    bridge: Plan,
    missing: Vec<Leg>,
    stale: Vec<Leg>,
    missing_rules: Vec<Rule>,
    stale_rules: Vec<Rule>,
}

/// Brings the routes of an overlay, and the entries that they need, to a state, however they are. What others put into the table stays.
pub fn program(netlink: &mut Netlink, segment: &Segment, state: &NetworkState, local: &[Endpoint]) -> Result<Made> {
    let Some(own) = &state.overlay else { return Ok(Made::default()) };
    let steps = steps(netlink, segment, own, state, local)?;
    let table = segment.table;
    // Neighbours of the device are asked for under the index of a bridge.
    make(netlink, &Segment { bridge: segment.device.clone(), ..segment.clone() }, &steps.device.changes)?;
    make(netlink, segment, &steps.bridge.changes)?;
    for leg in &steps.missing {
        netlink.replace_route(&route(leg, table))?;
    }
    for leg in &steps.stale {
        netlink.delete_route(&route(leg, table))?;
    }
    for rule in &steps.missing_rules {
        let added = netlink.add_rule(rule);
        // An old kernel does not tell whose a rule is.
        if !is(&added, Errno::EEXIST) {
            added?;
        }
    }
    for rule in &steps.stale_rules {
        netlink.delete_rule(rule)?;
    }
    let routes = [steps.missing.len(), steps.stale.len(), steps.missing_rules.len(), steps.stale_rules.len()];
    let changes = steps.device.changes.len() + steps.bridge.changes.len();
    let mut obstacles = steps.device.obstacles;
    obstacles.extend::<Vec<Obstacle>>(steps.bridge.obstacles);
    Ok(Made { changes, routes: routes.iter().sum(), obstacles })
}

/// CHECK: nothing is missing.
pub fn check(netlink: &mut Netlink, segment: &Segment, state: &NetworkState, local: &[Endpoint]) -> Result<()> {
    let Some(own) = &state.overlay else { return Ok(()) };
    let steps = steps(netlink, segment, own, state, local)?;
    let missing = match (steps.missing.first(), steps.missing_rules.first()) {
        (Some((net, _)), _) => format!("the route to {net}"),
        (None, Some(_)) => "a rule".to_owned(),
        (None, None) if steps.device.changes.is_empty() && steps.bridge.changes.is_empty() => return Ok(()),
        (None, None) => "a neighbour or forwarding entry".to_owned(),
    };
    let name = &segment.device.name;
    Err(Error::Differs(format!("{missing} of {name} in routing table {} is missing on the host", segment.table)))
}

/// Removes what does not go with the links.
pub fn remove(netlink: &mut Netlink, table: u32) -> Result<()> {
    let rules: Vec<Rule> = netlink.rules()?.into_iter().filter(|rule| rule.table == table).collect();
    for rule in &rules {
        netlink.delete_rule(rule)?;
    }
    for ipv4 in [true, false] {
        if rules.iter().any(|rule| rule.ipv4 == ipv4) {
            netlink.delete_route(&route(&(default_destination(ipv4), None), table))?;
        }
    }
    Ok(())
}

fn steps(
    netlink: &mut Netlink,
    segment: &Segment,
    own: &Membership,
    state: &NetworkState,
    local: &[Endpoint],
) -> Result<Steps> {
    let Segment { bridge, device, table, .. } = segment;
    let underlay = match &device.kind {
        Kind::Vxlan(vxlan) if own.routing.direct => vxlan.underlay,
        _ => None,
    };
    let mut near = BTreeSet::new();
    if underlay.is_some() {
        for member in &own.members {
            if netlink.link_next_to(member.vtep)? == underlay {
                near.insert(member.vtep);
            }
        }
    }
    let ways = ways(state, local, &|vtep| near.contains(&vtep));
    let (mut remote, mut here, mut wanted) = (Entries::default(), Entries::default(), BTreeSet::new());
    remote.stations = own.members.iter().filter(|one| one.vtep != own.vtep).map(|one| (one.mac, one.vtep)).collect();
    for (net, way) in &ways {
        let (link, hop) = match *way {
            Way::Plain(vtep) => (underlay.unwrap_or_default(), vtep),
            Way::Here(mac) | Way::Tunnel(mac) => {
                let hop = next_hop(net, mac);
                let (link, entries) =
                    if matches!(way, Way::Here(_)) { (bridge.index, &mut here) } else { (device.index, &mut remote) };
                entries.neighbours.insert(hop, mac);
                (link, hop)
            }
        };
        wanted.insert((*net, Some((link, hop))));
    }
    let pool = state.pool.iter().flat_map(|pool| pool.pool.subnets());
    let nets: Vec<IpNet> = pool.chain(ways.keys().copied()).collect();
    let families = [true, false].map(|ipv4| (ipv4, nets.iter().any(|net| net.addr().is_ipv4() == ipv4)));
    let mut present = BTreeSet::new();
    for (ipv4, is_used) in families {
        if is_used {
            wanted.insert((default_destination(ipv4), None));
        }
        let ours = netlink.table_routes(ipv4, *table)?.into_iter().filter(|route| route.protocol == PROTOCOL);
        // Over IPv6 what leads nowhere leads there by `lo`.
        present.extend(ours.map(|route| (route.destination, route.index.zip(route.gateway))));
    }
    let (missing_rules, stale_rules) = rules(netlink, segment, own, state, underlay, families)?;
    Ok(Steps {
        device: plan(&remote, &of_device(netlink, device)?),
        bridge: plan(&here, &Present { neighbours: netlink.neighbours(bridge.index)?, ..Present::default() }),
        missing: wanted.difference(&present).copied().collect(),
        stale: present.difference(&wanted).copied().collect(),
        missing_rules,
        stale_rules,
    })
}

/// The rules that are missing, and those that are too many.
fn rules(
    netlink: &mut Netlink,
    segment: &Segment,
    own: &Membership,
    state: &NetworkState,
    underlay: Option<u32>,
    families: [(bool, bool); 2],
) -> Result<(Vec<Rule>, Vec<Rule>)> {
    let table = segment.table;
    let mut wanted = Vec::new();
    let ours = Rule { table, priority: Some(PRIORITY), protocol: PROTOCOL, ..Rule::default() };
    for (ipv4, _) in families.into_iter().filter(|(_, is_used)| *is_used) {
        for link in [&segment.bridge, &segment.device] {
            wanted.push(Rule { ipv4, incoming: Some(link.name.parse::<IfName>()?), ..ours.clone() });
        }
    }
    let present = netlink.rules()?;
    if let Some(link) = underlay.map(|index| netlink.link_by_index(index)).transpose()?.flatten() {
        // What comes without a tunnel says by its addresses alone whose it is.
        let name = IfName::found(&link.name)?;
        let subnets = state.pool.iter().flat_map(|pool| pool.pool.subnets());
        for net in subnets.filter(|net| net.addr().is_ipv4() == own.vtep.is_ipv4()) {
            let is_in_the_way = |rule: &&Rule| {
                let overlaps = |other: IpNet| other.contains(&net) || net.contains(&other);
                rule.protocol == PROTOCOL && rule.table != table && rule.destination.is_some_and(overlaps)
            };
            if present.iter().any(|rule| is_in_the_way(&rule)) {
                let allowed = format!("false: another overlay of this node has directRouting and addresses of {net}");
                return Err(Error::Parent(Finding::new("directRouting", true, allowed)));
            }
            let (source, destination) = (Some(net), Some(net));
            let ipv4 = net.addr().is_ipv4();
            wanted.push(Rule { ipv4, incoming: Some(name.clone()), source, destination, ..ours.clone() });
        }
    }
    let (same, mut stale): (Vec<Rule>, Vec<Rule>) =
        present.into_iter().filter(|rule| rule.table == table).partition(|rule| wanted.contains(rule));
    stale.retain(|rule| rule.protocol == PROTOCOL);
    wanted.retain(|rule| !same.contains(rule));
    Ok((wanted, stale))
}

/// The entries of the device. It is in no bridge, so a forwarding entry is one and not a pair.
fn of_device(netlink: &mut Netlink, device: &Link) -> Result<Present> {
    let mut forwarding = netlink.forwardings(device.index)?;
    let bridged = |entry: &Forwarding| Forwarding { own: false, remote: None, is_external: false, ..*entry };
    let bridged: Vec<Forwarding> = forwarding.iter().map(bridged).collect();
    forwarding.extend(bridged);
    Ok(Present { forwarding, neighbours: netlink.neighbours(device.index)?, ..Present::default() })
}

fn next_hop(net: &IpNet, mac: Mac) -> IpAddr {
    match net {
        IpNet::V4(net) => net.network().into(),
        IpNet::V6(_) => {
            let Mac([a, b, c, d, e, f]) = mac;
            let pair = u16::from_be_bytes;
            Ipv6Addr::new(0xfe80, 0, 0, 0, pair([a ^ 2, b]), pair([c, 0xff]), pair([0xfe, d]), pair([e, f])).into()
        }
    }
}

fn route(leg: &Leg, table: u32) -> Route {
    let (net, hop) = *leg;
    let scope = Some(libc::RT_SCOPE_UNIVERSE);
    let nowhere = Route { index: None, table, scope, protocol: PROTOCOL, ..Route::new(net, 0) };
    match hop {
        Some((link, gateway)) => Route { index: Some(link), gateway: Some(gateway), onlink: true, ..nowhere },
        None => nowhere,
    }
}
