//! The entries of an overlay as values: what is wanted, what is there, and the least that brings one to the other.
//!
//! Whose an entry is, the kernel remembers:
//!
//! - A forwarding entry of ours is marked as learned by a control plane (NTF_EXT_LEARNED), which also keeps it from ageing.
//! - A neighbour of ours has [`PROTOCOL`].
//! - A flood destination has no room for a mark of its own. It is ours when some forwarding entry of ours leads to the same
//!   tunnel end: each member brings one, that of its own device's MAC address. So it is added after that entry and goes before
//!   it, and a plan that was cut short is finished by the next. A destination that somebody else appended too is one entry in
//!   the kernel, and goes with the member: a network has members or `peers`, not both.
//!
//! An entry of somebody else is never changed and never removed. Where it says what is wanted it serves; where it says
//! something else it is an [`Obstacle`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use attachments::names::Mac;

use super::PROTOCOL;
use super::table::Table;
use crate::nl::neighbour::{ALL_ZERO, Forwarding, Neighbour};

/// What a node is to hold about the others of an overlay. The node itself and its pods are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// The tunnel ends of the members, each with the MAC address of the vxlan device there. What no entry is known for, and
    /// what is for all, goes to each.
    pub members: BTreeMap<IpAddr, Mac>,
    /// The MAC addresses of pods, each with the tunnel end of its node.
    pub stations: Table<Mac, IpAddr>,
    /// The addresses of pods, each with the MAC address that ARP and ND are answered with.
    pub neighbours: Table<IpAddr, Mac>,
}

impl Entries {
    /// The tunnel end of every MAC address, those of the members' devices included.
    fn forwarding(&self) -> Table<Mac, IpAddr> {
        let devices = self.members.iter().map(|(end, mac)| (*mac, *end));
        devices.chain(self.stations.iter()).collect()
    }
}

/// What the kernel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// The forwarding entries of the vxlan device, and those of its bridge about it.
    pub forwarding: Vec<Forwarding>,
    /// The neighbours of the bridge.
    pub neighbours: Vec<Neighbour>,
    /// The MAC addresses that somebody put behind another port of the bridge: pods of this node.
    pub local: BTreeSet<Mac>,
}

impl Present {
    /// What the kernel holds right after it was brought to these entries, where no entry of others was in the way.
    fn after(entries: &Entries, local: &BTreeSet<Mac>) -> Self {
        let there = |mac: Mac, remote: Option<IpAddr>, is_external: bool| Forwarding {
            mac,
            remote,
            own: remote.is_some(),
            permanent: true,
            is_external,
        };
        let all = entries.forwarding();
        let forwarding = all.iter().filter(|(mac, _)| !local.contains(mac));
        let pairs = forwarding.flat_map(|(mac, end)| [there(mac, Some(end), true), there(mac, None, true)]);
        let flooded = entries.members.keys().map(|end| there(ALL_ZERO, Some(*end), false));
        let neighbour =
            |(ip, mac): (IpAddr, Mac)| Neighbour { ip, mac: Some(mac), permanent: true, protocol: PROTOCOL };
        Self {
            forwarding: pairs.chain(flooded).collect(),
            neighbours: entries.neighbours.iter().map(neighbour).collect(),
            local: local.clone(),
        }
    }
}

/// The changes from entries that the kernel was brought to, and that nobody has changed since, to others. `local`: the MAC
/// addresses of this node's pods, as far as entries may have them.
pub fn difference(before: &Entries, wanted: &Entries, local: &BTreeSet<Mac>) -> Vec<Change> {
    plan(wanted, &Present::after(before, local)).changes
}

/// One change of the entries of an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A MAC address is behind a tunnel end, and behind the device's port of the bridge.
    Forward(Mac, IpAddr),
    /// A tunnel end gets what is flooded.
    Flood(IpAddr),
    /// An address has a MAC address.
    Resolve(IpAddr, Mac),
    /// An address has none any more.
    Unresolve(IpAddr),
    /// A tunnel end gets no more of what is flooded.
    Unflood(IpAddr),
    /// A MAC address is behind that tunnel end no more.
    Unforward(Mac, IpAddr),
    /// The bridge does not send frames to a MAC address into the device any more.
    Unbridge(Mac),
}

/// An entry of somebody else that stands where one of ours belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A static forwarding entry leads to another tunnel end.
    Forwarding(Mac, IpAddr),
    /// A permanent neighbour has another MAC address.
    Neighbour(IpAddr, Mac),
}

/// What is to be done, in an order in which every state between is a right one: nothing is resolved before it is reached, and
/// nothing is removed that is needed to know what is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub changes: Vec<Change>,
    /// What stays wrong.
    pub obstacles: Vec<Obstacle>,
    /// So many routes and rules change too, in mode l3.
    pub routes: usize,
}

/// The least that brings what is there to what is wanted.
pub fn plan(wanted: &Entries, present: &Present) -> Plan {
    let mut plan = Plan::default();
    // A pod of this node is here, whatever the members' slots say of its MAC address.
    let mut forwarding = wanted.forwarding();
    forwarding.retain(|mac| !present.local.contains(mac));
    let own: Table<Mac, &Forwarding> =
        present.forwarding.iter().filter(|e| e.own && e.mac != ALL_ZERO).map(|e| (e.mac, e)).collect();
    let bridged: Table<Mac, ()> = present.forwarding.iter().filter(|e| !e.own).map(|e| (e.mac, ())).collect();
    for (mac, end) in forwarding.iter() {
        let is_there = match own.get(&mac) {
            Some(entry) if entry.remote == Some(end) => true,
            Some(Forwarding { remote: Some(other), is_external: false, permanent: true, .. }) => {
                plan.obstacles.push(Obstacle::Forwarding(mac, *other));
                continue;
            }
            _ => false,
        };
        if !(is_there && bridged.contains_key(&mac)) {
            plan.changes.push(Change::Forward(mac, end));
        }
    }
    let flooded: BTreeSet<IpAddr> =
        present.forwarding.iter().filter(|e| e.own && e.mac == ALL_ZERO).filter_map(|e| e.remote).collect();
    plan.changes.extend(wanted.members.keys().filter(|end| !flooded.contains(end)).map(|end| Change::Flood(*end)));
    drop((own, bridged));
    let known: Table<IpAddr, &Neighbour> = present.neighbours.iter().map(|n| (n.ip, n)).collect();
    for (ip, mac) in wanted.neighbours.iter() {
        match known.get(&ip) {
            Some(Neighbour { permanent: true, mac: Some(is), .. }) if *is == mac => {}
            Some(Neighbour { permanent: true, mac: Some(is), protocol, .. }) if *protocol != PROTOCOL => {
                plan.obstacles.push(Obstacle::Neighbour(ip, *is));
            }
            _ => plan.changes.push(Change::Resolve(ip, mac)),
        }
    }
    remove(wanted, &forwarding, present, &flooded, &mut plan.changes);
    plan
}

/// What is ours and not wanted any more.
fn remove(
    wanted: &Entries,
    forwarding: &Table<Mac, IpAddr>,
    present: &Present,
    flooded: &BTreeSet<IpAddr>,
    changes: &mut Vec<Change>,
) {
    let is_ours = |n: &&Neighbour| n.protocol == PROTOCOL && !wanted.neighbours.contains_key(&n.ip);
    changes.extend(present.neighbours.iter().filter(is_ours).map(|n| Change::Unresolve(n.ip)));
    let ours = || present.forwarding.iter().filter(|e| e.is_external && e.mac != ALL_ZERO);
    let ends: BTreeSet<IpAddr> = ours().filter_map(|e| e.remote).collect();
    let left = ends.iter().filter(|end| flooded.contains(end) && !wanted.members.contains_key(end));
    changes.extend(left.map(|end| Change::Unflood(*end)));
    for entry in ours().filter(|entry| !forwarding.contains_key(&entry.mac)) {
        changes.push(match entry.remote {
            Some(end) if entry.own => Change::Unforward(entry.mac, end),
            _ => Change::Unbridge(entry.mac),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    /// Two members, a pod behind the second.
    fn wanted() -> Entries {
        Entries {
            members: [(ip("192.0.2.2"), mac(2)), (ip("192.0.2.3"), mac(3))].into(),
            stations: [(mac(33), ip("192.0.2.3"))].into(),
            neighbours: [(ip("10.42.0.33"), mac(33)), (ip("fd42::33"), mac(33))].into(),
        }
    }

    fn entry(mac: Mac, remote: Option<&str>, is_external: bool) -> Forwarding {
        Forwarding { mac, remote: remote.map(ip), own: remote.is_some(), permanent: true, is_external }
    }

    /// The kernel after a plan, as far as plans are concerned.
    fn after(mut present: Present, changes: &[Change]) -> Present {
        for change in changes {
            let forwarding = &mut present.forwarding;
            match *change {
                Change::Forward(mac, end) => {
                    forwarding.retain(|e| e.mac != mac);
                    forwarding.push(entry(mac, Some(&end.to_string()), true));
                    forwarding.push(entry(mac, None, true));
                }
                Change::Flood(end) => forwarding.push(entry(ALL_ZERO, Some(&end.to_string()), false)),
                Change::Unflood(end) => forwarding.retain(|e| (e.mac, e.remote) != (ALL_ZERO, Some(end))),
                Change::Unforward(mac, end) => forwarding.retain(|e| (e.mac, e.remote) != (mac, Some(end))),
                Change::Unbridge(mac) => forwarding.retain(|e| e.own || e.mac != mac),
                Change::Resolve(ip, mac) => {
                    present.neighbours.retain(|n| n.ip != ip);
                    present.neighbours.push(Neighbour { ip, mac: Some(mac), permanent: true, protocol: PROTOCOL });
                }
                Change::Unresolve(ip) => present.neighbours.retain(|n| n.ip != ip),
            }
        }
        present
    }

    #[test]
    fn an_empty_overlay_gets_everything_once_and_loses_everything_again() {
        let plan_of = |wanted: &Entries, present: &Present| plan(wanted, present).changes;
        let first = plan_of(&wanted(), &Present::default());
        let expected = [
            Change::Forward(mac(2), ip("192.0.2.2")),
            Change::Forward(mac(3), ip("192.0.2.3")),
            Change::Forward(mac(33), ip("192.0.2.3")),
            Change::Flood(ip("192.0.2.2")),
            Change::Flood(ip("192.0.2.3")),
            Change::Resolve(ip("10.42.0.33"), mac(33)),
            Change::Resolve(ip("fd42::33"), mac(33)),
        ];
        assert_eq!(first, expected);
        let present = after(Present::default(), &first);
        assert_eq!(plan(&wanted(), &present), Plan::default());
        let last = plan_of(&Entries::default(), &present);
        assert_eq!(last[..2], [Change::Unresolve(ip("10.42.0.33")), Change::Unresolve(ip("fd42::33"))]);
        assert_eq!(last[2..4], [Change::Unflood(ip("192.0.2.2")), Change::Unflood(ip("192.0.2.3"))]);
        assert_eq!(after(present, &last), Present::default());
    }

    #[test]
    fn a_plan_that_was_cut_short_anywhere_is_finished_by_the_next() {
        let full = after(Present::default(), &plan(&wanted(), &Present::default()).changes);
        for (from, to) in [(Present::default(), wanted()), (full, Entries::default())] {
            let changes = plan(&to, &from).changes;
            for done in 0..=changes.len() {
                let cut = after(from.clone(), &changes[..done]);
                let end = after(cut.clone(), &plan(&to, &cut).changes);
                assert_eq!(plan(&to, &end), Plan::default(), "after {done} of {changes:?}");
                assert_eq!(end.forwarding.is_empty(), to == Entries::default(), "after {done} of {changes:?}");
            }
        }
    }

    #[test]
    fn a_pod_that_moves_takes_one_change() {
        let present = after(Present::default(), &plan(&wanted(), &Present::default()).changes);
        let mut moved = wanted();
        moved.stations.insert(mac(33), ip("192.0.2.2"));
        assert_eq!(plan(&moved, &present).changes, [Change::Forward(mac(33), ip("192.0.2.2"))]);
    }

    #[test]
    fn what_others_made_serves_or_stands_in_the_way_and_stays() {
        let of_others = Present {
            forwarding: vec![
                entry(mac(2), Some("192.0.2.2"), false),
                entry(mac(33), Some("192.0.2.9"), false),
                entry(mac(99), Some("192.0.2.9"), false),
                entry(ALL_ZERO, Some("192.0.2.2"), false),
                entry(ALL_ZERO, Some("192.0.2.9"), false),
            ],
            neighbours: vec![
                Neighbour { ip: ip("10.42.0.33"), mac: Some(mac(9)), permanent: true, protocol: 0 },
                Neighbour { ip: ip("10.42.0.99"), mac: Some(mac(99)), permanent: true, protocol: 0 },
                // Not resolved by anybody but the kernel.
                Neighbour { ip: ip("fd42::33"), mac: Some(mac(9)), permanent: false, protocol: 0 },
            ],
            ..Present::default()
        };
        let Plan { changes, obstacles, .. } = plan(&wanted(), &of_others);
        let expected = [
            // The bridge does not know it yet; the destination is right already.
            Change::Forward(mac(2), ip("192.0.2.2")),
            Change::Forward(mac(3), ip("192.0.2.3")),
            Change::Flood(ip("192.0.2.3")),
            Change::Resolve(ip("fd42::33"), mac(33)),
        ];
        assert_eq!(changes, expected);
        let in_the_way =
            [Obstacle::Forwarding(mac(33), ip("192.0.2.9")), Obstacle::Neighbour(ip("10.42.0.33"), mac(9))];
        assert_eq!(obstacles, in_the_way);
        assert_eq!(plan(&Entries::default(), &of_others), Plan::default());
    }

    #[test]
    fn what_was_learned_before_is_replaced() {
        let learned = Forwarding { permanent: false, ..entry(mac(33), Some("192.0.2.9"), false) };
        let present = Present { forwarding: vec![learned], ..Present::default() };
        let changes = plan(&wanted(), &present).changes;
        assert!(changes.contains(&Change::Forward(mac(33), ip("192.0.2.3"))), "{changes:?}");
    }

    #[test]
    fn the_difference_of_two_states_is_the_plan_between_them() {
        let mut other = wanted();
        other.members.remove(&ip("192.0.2.3"));
        other.stations.insert(mac(33), ip("192.0.2.2"));
        other.neighbours.insert(ip("10.42.0.34"), mac(34));
        let none = BTreeSet::new();
        for (from, to) in [(Entries::default(), wanted()), (wanted(), other.clone()), (other, Entries::default())] {
            let present = after(Present::default(), &plan(&from, &Present::default()).changes);
            assert_eq!(difference(&from, &to, &none), plan(&to, &present).changes);
            assert_eq!(difference(&from, &from, &none), []);
        }
        let local = [mac(33)].into();
        assert!(
            !difference(&Entries::default(), &wanted(), &local).contains(&Change::Forward(mac(33), ip("192.0.2.3")))
        );
    }

    #[test]
    fn a_pod_of_the_node_is_nowhere_else() {
        let full = after(Present::default(), &plan(&wanted(), &Present::default()).changes);
        let present = Present { local: [mac(33)].into(), ..full };
        let changes = plan(&wanted(), &present).changes;
        assert_eq!(changes, [Change::Unforward(mac(33), ip("192.0.2.3")), Change::Unbridge(mac(33))]);
        let present = after(present, &changes);
        assert_eq!(plan(&wanted(), &present), Plan::default());
    }
}
