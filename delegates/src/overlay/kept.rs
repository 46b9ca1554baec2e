//! An overlay that is kept: brought, however it is, to the state that the node agent wrote. The plugin does it at an ADD, the agent
//! on every change of the file and of the kernel; both under the overlay's lock, so neither needs the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use attachments::names::Mac;

use super::entries::difference;
use super::reconcile::make;
use super::{
    Change, Endpoint, Entries, Made, Names, Segment, Spec, Underlay, endpoint_at, ensure, entries_of, gateway,
    reconcile, routed,
};
use crate::boot;
use crate::error::{Error, Result};
use crate::networks::state::{self, FILE, Member, Membership, NetworkState, PROGRAMMED, Routing, Slots};
use crate::networks::{NetworkId, endpoints};
use crate::nl::Netlink;

/// The device and bridge of an overlay as a membership wants them.
pub fn spec(vni: u32, port: u16, membership: &Membership) -> Spec {
    Spec {
        vni,
        port,
        underlay: Underlay::DefaultRoute,
        is_ipv6: Some(membership.vtep.is_ipv6()),
        group: None,
        mtu: Some(membership.mtu),
        mac: Some(membership.mac),
        learning: false,
        routed: membership.routing.l3,
        ttl: 0,
        udp_checksum: true,
    }
}

/// Makes device and bridge, or brings those that are there to the membership. Pods in the bridge stay in it when the device is made
/// anew. Entries come next ([`program`]).
pub fn join(netlink: &mut Netlink, vni: u32, port: u16, membership: &Membership) -> Result<Segment> {
    let endpoint: Endpoint = endpoint_at(netlink, membership.vtep)?;
    let mut segment = ensure(netlink, &spec(vni, port, membership), &Names::of(vni, port)?, &endpoint)?;
    let Routing { l3, gateways, .. } = &membership.routing;
    if *l3 {
        gateway::settle(netlink, &mut segment.bridge, &[], gateway::mac_of(routed::ROUTER[0]))?;
    } else if let Some(first) = gateways.first() {
        gateway::settle(netlink, &mut segment.bridge, gateways, gateway::mac_of(first.addr()))?;
    }
    Ok(segment)
}

/// Do the pods of a network reach each other through routes alone?
fn is_routed(state: &NetworkState) -> bool {
    state.overlay.as_ref().is_some_and(|own| own.routing.l3)
}

/// The entries of a state, as a node wants them that has these pods itself. Whatever slots say of their addresses, they answer for
/// themselves.
fn wanted(state: &NetworkState, local: &[state::Endpoint]) -> Entries {
    let mut entries = entries_of(state);
    for endpoint in local {
        for ip in &endpoint.ips {
            entries.neighbours.remove(ip);
        }
    }
    entries
}

/// Brings the entries to a state. `local` are this node's pods that slots do not explain.
pub fn program(
    netlink: &mut Netlink,
    segment: &Segment,
    state: &NetworkState,
    local: &[state::Endpoint],
) -> Result<Made> {
    if is_routed(state) {
        return routed::program(netlink, segment, state, local);
    }
    reconcile(netlink, segment, &wanted(state, local))
}

/// Brings the entries from one state, to which they were brought before, to the next, without a look at what is there: the kernel lists
/// the entries of a large network in seconds. How many were changed.
pub fn advance(
    netlink: &mut Netlink,
    segment: &Segment,
    last: &NetworkState,
    state: &NetworkState,
    local: &[state::Endpoint],
) -> Result<usize> {
    let macs: BTreeSet<Mac> = local.iter().map(|endpoint| endpoint.mac).collect();
    let (last, state) = (unlike(last, state), unlike(state, last));
    let changes = difference(&wanted(&last, local), &wanted(&state, local), &macs);
    make(netlink, segment, &changes)?;
    Ok(changes.len())
}

/// A state without the slots of which another one says the same: of a thousand members one has changed, and the entries of the others are
/// not computed to find that they are as they were. A slot stays that an endpoint comes to, or goes from: whose it is shows there.
fn unlike(state: &NetworkState, other: &NetworkState) -> NetworkState {
    let mut state = state.clone();
    let pool = state.pool.as_ref().map(|pool| &pool.pool);
    let (Some(own), Some(theirs)) = (&mut state.overlay, &other.overlay) else { return state };
    if pool != other.pool.as_ref().map(|pool| &pool.pool) || own.vtep != theirs.vtep || own.routing != theirs.routing {
        return state;
    }
    let (ours, others) = (by_node(&own.members), by_node(&theirs.members));
    let is_in = |all: &BTreeMap<&str, Vec<&Member>>, member: &Member| {
        all.get(member.node.as_str()).is_some_and(|some| some.contains(&member))
    };
    let same: Vec<bool> = own.members.iter().map(|member| is_in(&others, member)).collect();
    let changed = own.members.iter().filter(|member| !is_in(&others, member));
    let changed = changed.chain(theirs.members.iter().filter(|member| !is_in(&ours, member)));
    let addresses = changed.flat_map(|member| &member.endpoints).flat_map(|endpoint| &endpoint.ips);
    let mut shown: BTreeSet<u32> = addresses.filter_map(|ip| pool.and_then(|pool| pool.slot_of(*ip))).collect();
    // So does one that is promised to a pod.
    shown.extend(state.pool.iter().chain(&other.pool).flat_map(|pool| pool.claimed.keys().copied()));
    for (member, _) in own.members.iter_mut().zip(same).filter(|(_, is_same)| *is_same) {
        let slots = std::mem::take(&mut member.slots);
        let kept = shown.iter().filter(|slot| slots.iter().any(|run| run.contains(**slot)));
        member.slots = kept.map(|slot| Slots { first: *slot, count: 1 }).collect();
    }
    state
}

/// The members by name. Nothing keeps a file from having two of one name.
fn by_node(members: &[Member]) -> BTreeMap<&str, Vec<&Member>> {
    let mut by_node: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
    members.iter().for_each(|member| by_node.entry(&member.node).or_default().push(member));
    by_node
}

/// A pod of this node has these addresses from now on, whatever slots say of them. Routes come when it has its port.
pub fn give_way(netlink: &mut Netlink, segment: &Segment, state: &NetworkState, local: &state::Endpoint) -> Result<()> {
    if is_routed(state) {
        return Ok(());
    }
    let entries = entries_of(state);
    let known = local.ips.iter().filter(|ip| entries.neighbours.contains_key(ip));
    let mut changes: Vec<Change> = known.map(|ip| Change::Unresolve(*ip)).collect();
    if let Some(end) = entries.stations.get(&local.mac) {
        changes.extend([Change::Unforward(local.mac, *end), Change::Unbridge(local.mac)]);
    }
    make(netlink, segment, &changes)
}

/// This node's pods that slots do not explain: those noted whose port is in the bridge.
pub fn local_pods(
    netlink: &mut Netlink,
    state_dir: &Path,
    id: &NetworkId,
    segment: &Segment,
) -> Result<Vec<state::Endpoint>> {
    let noted = endpoints::noted(state_dir, id);
    if noted.is_empty() {
        return Ok(Vec::new());
    }
    let ports = netlink.links(Some(segment.bridge.index))?;
    let is_there = |name: &str| ports.iter().any(|port| port.name == name);
    Ok(noted.into_iter().filter(|(port, _)| is_there(port)).map(|(_, endpoint)| endpoint).collect())
}

/// Which state file was programmed into which device. Taken before the state is read: of a file that is replaced in between the
/// entries are brought to the new one once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    path: PathBuf,
    file: String,
}

impl Mark {
    /// The mark of the state file as it is now; `None` where there is none.
    pub fn take(state_dir: &Path, id: &NetworkId) -> Result<Option<Self>> {
        let dir = id.dir(state_dir);
        match fs::metadata(dir.join(FILE)) {
            Ok(file) => {
                // What a boot before this one programmed is gone.
                let boot = boot::current().unwrap_or_default();
                let file = format!("{boot} {} {}.{:09}", file.ino(), file.mtime(), file.mtime_nsec());
                Ok(Some(Self { path: dir.join(PROGRAMMED), file }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("read {}", dir.join(FILE).display()))(error)),
        }
    }

    /// Was this state programmed into that device?
    pub fn is_set(&self, device: u32) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text == self.text(device))
    }

    /// Notes that it was. Who reads half of it programs once more than needed.
    pub fn set(&self, device: u32) -> Result<()> {
        fs::write(&self.path, self.text(device)).map_err(Error::io(format!("write {}", self.path.display())))
    }

    fn text(&self, device: u32) -> String {
        format!("{} {device}\n", self.file)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::overlay::testing::state;

    /// What is done for a change, and how many entries were computed for it.
    fn changes(last: &NetworkState, next: &NetworkState) -> (Vec<Change>, usize) {
        let (before, after) = (wanted(&unlike(last, next), &[]), wanted(&unlike(next, last), &[]));
        let computed = before.stations.len() + after.stations.len();
        (difference(&before, &after, &BTreeSet::new()), computed)
    }

    #[test]
    fn a_change_of_one_member_costs_its_own_entries_and_comes_to_the_same() {
        let ipam = r#"{"subnet":"10.42.0.0/16"}"#;
        let nodes: Vec<u8> = (1..=200).collect();
        let all = state(1, &nodes, |n| format!("192.0.2.{n}"), Some(ipam));
        fn members(state: &mut NetworkState) -> &mut Vec<Member> {
            &mut state.overlay.as_mut().unwrap().members
        }
        let edit = |edit: &dyn Fn(&mut NetworkState)| {
            let mut next = all.clone();
            edit(&mut next);
            next
        };
        let taken: IpAddr = "10.42.0.40".parse().unwrap();
        let endpoint = state::Endpoint { mac: Mac([2, 9, 9, 9, 9, 9]), ips: vec![taken] };
        let claimed = edit(&|next| members(next)[7].endpoints.push(endpoint.clone()));
        let cases = [
            ("nothing", all.clone(), all.clone(), 0),
            ("a member goes", all.clone(), edit(&|next| drop(members(next).remove(3))), 16),
            ("a member comes", edit(&|next| drop(members(next).remove(3))), all.clone(), 16),
            (
                "a tunnel end moves",
                all.clone(),
                edit(&|next| members(next)[3].vtep = "192.0.2.250".parse().unwrap()),
                32,
            ),
            (
                "slots change hands",
                all.clone(),
                edit(&|next| {
                    let given = std::mem::take(&mut members(next)[3].slots);
                    members(next)[4].slots.extend(given);
                }),
                64,
            ),
            (
                "a second member of a name comes",
                edit(&|next| members(next)[4].slots.clear()),
                edit(&|next| {
                    let mut second = members(next)[3].clone();
                    (second.vtep, second.mac) = ("192.0.2.251".parse().unwrap(), Mac([2, 0, 0, 0, 9, 9]));
                    second.slots = std::mem::take(&mut members(next)[4].slots);
                    members(next).push(second);
                }),
                16,
            ),
            // The address is one of another member's slots, which stand again when the endpoint goes.
            ("an endpoint comes", all.clone(), claimed.clone(), 35),
            ("an endpoint goes", claimed, all.clone(), 35),
        ];
        for (what, last, next, computed) in cases {
            let (changes, of_entries) = changes(&last, &next);
            assert_eq!(changes, difference(&wanted(&last, &[]), &wanted(&next, &[]), &BTreeSet::new()), "{what}");
            assert_eq!(of_entries, computed, "{what}");
        }
        // Everything is another one, and is computed.
        let mut moved = all.clone();
        moved.overlay.as_mut().unwrap().vtep = "192.0.2.2".parse().unwrap();
        assert!(changes(&all, &moved).1 > 199 * 16);
    }
}
