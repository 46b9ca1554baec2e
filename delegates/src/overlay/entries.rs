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

/// What the kernel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// The forwarding entries of the vxlan device, and those of its bridge about it.
    pub forwarding: Vec<Forwarding>,
    /// The neighbours of the bridge.
    pub neighbours: Vec<Neighbour>,
    /// The MAC addresses that somebody put behind another port of the bridge: pods of this node.
    pub local: BTreeSet<Mac>,
    /// What is there as it is wanted, and is not listed.
    pub right: Right,
}

/// Which of the wanted entries the kernel holds: of a hundred thousand the kernel lists, all but a few are these, and need not be kept to be
/// compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Right {
    /// By the places of MAC addresses: the device's entry, and the bridge's.
    forwarding: Vec<(bool, bool)>,
    /// By the places of the neighbours.
    neighbours: Vec<bool>,
}

/// What is wanted, with places.
pub struct Goal<'a> {
    entries: &'a Entries,
    /// The MAC addresses of the members' devices that no pod has. They are in front of the stations.
    devices: Table<Mac, IpAddr>,
}

impl<'a> Goal<'a> {
    /// These entries.
    pub fn new(entries: &'a Entries) -> Self {
        let devices = entries.members.iter().map(|(end, mac)| (*mac, *end));
        let devices = devices.filter(|(mac, _)| !entries.stations.contains_key(mac)).collect();
        Self { entries, devices }
    }

    /// The tunnel end of every MAC address, those of the members' devices included.
    fn forwarding(&self) -> impl Iterator<Item = (Mac, IpAddr)> + '_ {
        self.devices.iter().chain(self.entries.stations.iter())
    }

    /// The place of a MAC address among these.
    fn place(&self, mac: &Mac) -> Option<usize> {
        let station = || Some(self.devices.len() + self.entries.stations.place(mac)?);
        self.devices.place(mac).or_else(station)
    }

    fn end(&self, place: usize) -> Option<IpAddr> {
        let station = || self.entries.stations.at(place.checked_sub(self.devices.len())?);
        self.devices.at(place).or_else(station)
    }

    /// Nothing is there.
    pub fn nothing(&self) -> Right {
        Right {
            forwarding: vec![(false, false); self.devices.len() + self.entries.stations.len()],
            neighbours: vec![false; self.entries.neighbours.len()],
        }
    }

    /// Notes an entry that is ours and as it is wanted. False for any other.
    pub fn has(&self, right: &mut Right, entry: &Forwarding) -> bool {
        let place = self.place(&entry.mac).filter(|_| entry.is_external);
        let place = place.filter(|place| !entry.own || entry.remote == self.end(*place));
        match place.and_then(|place| right.forwarding.get_mut(place)) {
            Some((own, _)) if entry.own => *own = true,
            Some((_, bridged)) => *bridged = true,
            None => return false,
        }
        true
    }

    /// Notes a neighbour that is as it is wanted. False for any other.
    pub fn knows(&self, right: &mut Right, neighbour: &Neighbour) -> bool {
        let place = self.entries.neighbours.place(&neighbour.ip).filter(|_| neighbour.permanent);
        let place = place.filter(|place| neighbour.mac == self.entries.neighbours.at(*place));
        let Some(is_right) = place.and_then(|place| right.neighbours.get_mut(place)) else { return false };
        *is_right = true;
        true
    }
}

impl Right {
    /// The neighbours were counted by another dump.
    pub fn with_neighbours_of(self, other: Self) -> Self {
        Self { neighbours: other.neighbours, ..self }
    }

    fn forwarding(&self, place: usize) -> (bool, bool) {
        self.forwarding.get(place).copied().unwrap_or_default()
    }
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
        let goal = Goal::new(entries);
        let forwarding = goal.forwarding().filter(|(mac, _)| !local.contains(mac));
        let pairs = forwarding.flat_map(|(mac, end)| [there(mac, Some(end), true), there(mac, None, true)]);
        let flooded = entries.members.keys().map(|end| there(ALL_ZERO, Some(*end), false));
        let neighbour =
            |(ip, mac): (IpAddr, Mac)| Neighbour { ip, mac: Some(mac), permanent: true, protocol: PROTOCOL };
        Self {
            forwarding: pairs.chain(flooded).collect(),
            neighbours: entries.neighbours.iter().map(neighbour).collect(),
            local: local.clone(),
            right: Right::default(),
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
}

/// The least that brings what is there to what is wanted.
pub fn plan(wanted: &Entries, present: &Present) -> Plan {
    let mut changes = Vec::new();
    let obstacles = compare(&Goal::new(wanted), present, &mut |change| changes.push(change));
    Plan { changes, obstacles }
}

/// The same, a change at a time: of a large overlay there are a hundred thousand. Returns what stays wrong.
pub fn compare(goal: &Goal<'_>, present: &Present, change: &mut dyn FnMut(Change)) -> Vec<Obstacle> {
    let (mut obstacles, wanted, right) = (Vec::new(), goal.entries, &present.right);
    let own: Table<Mac, &Forwarding> =
        present.forwarding.iter().filter(|e| e.own && e.mac != ALL_ZERO).map(|e| (e.mac, e)).collect();
    let bridged: Table<Mac, ()> = present.forwarding.iter().filter(|e| !e.own).map(|e| (e.mac, ())).collect();
    for (place, (mac, end)) in goal.forwarding().enumerate() {
        // A pod of this node is here, whatever the members' slots say of its MAC address.
        if present.local.contains(&mac) {
            continue;
        }
        let (is_own, is_bridged) = right.forwarding(place);
        let is_there = match own.get(&mac) {
            Some(entry) if entry.remote == Some(end) => true,
            Some(Forwarding { remote: Some(other), is_external: false, permanent: true, .. }) => {
                obstacles.push(Obstacle::Forwarding(mac, *other));
                continue;
            }
            Some(_) => false,
            None => is_own,
        };
        if !(is_there && (is_bridged || bridged.contains_key(&mac))) {
            change(Change::Forward(mac, end));
        }
    }
    let flooded: BTreeSet<IpAddr> =
        present.forwarding.iter().filter(|e| e.own && e.mac == ALL_ZERO).filter_map(|e| e.remote).collect();
    wanted.members.keys().filter(|end| !flooded.contains(end)).for_each(|end| change(Change::Flood(*end)));
    drop((own, bridged));
    let known: Table<IpAddr, &Neighbour> = present.neighbours.iter().map(|n| (n.ip, n)).collect();
    for (place, (ip, mac)) in wanted.neighbours.iter().enumerate() {
        match known.get(&ip) {
            None if right.neighbours.get(place) == Some(&true) => {}
            Some(Neighbour { permanent: true, mac: Some(is), .. }) if *is == mac => {}
            Some(Neighbour { permanent: true, mac: Some(is), protocol, .. }) if *protocol != PROTOCOL => {
                obstacles.push(Obstacle::Neighbour(ip, *is));
            }
            _ => change(Change::Resolve(ip, mac)),
        }
    }
    remove(goal, present, &flooded, change);
    obstacles
}

/// What is ours and not wanted any more.
fn remove(goal: &Goal<'_>, present: &Present, flooded: &BTreeSet<IpAddr>, change: &mut dyn FnMut(Change)) {
    let (wanted, right) = (goal.entries, &present.right);
    let is_ours = |n: &&Neighbour| n.protocol == PROTOCOL && !wanted.neighbours.contains_key(&n.ip);
    present.neighbours.iter().filter(is_ours).for_each(|n| change(Change::Unresolve(n.ip)));
    let ours = || present.forwarding.iter().filter(|e| e.is_external && e.mac != ALL_ZERO);
    let mut ends: BTreeSet<IpAddr> = ours().filter_map(|e| e.remote).collect();
    let all = || goal.forwarding().enumerate().map(|(place, entry)| (right.forwarding(place), entry));
    ends.extend(
        all().filter(|((is_own, _), (_, end))| *is_own && !wanted.members.contains_key(end)).map(|(_, (_, end))| end),
    );
    let left = ends.iter().filter(|end| flooded.contains(end) && !wanted.members.contains_key(end));
    left.for_each(|end| change(Change::Unflood(*end)));
    let is_wanted = |mac: &Mac| !present.local.contains(mac) && goal.place(mac).is_some();
    for entry in ours().filter(|entry| !is_wanted(&entry.mac)) {
        change(match entry.remote {
            Some(end) if entry.own => Change::Unforward(entry.mac, end),
            _ => Change::Unbridge(entry.mac),
        });
    }
    for mac in &present.local {
        let Some(place) = goal.place(mac) else { continue };
        let ((is_own, is_bridged), end) = (right.forwarding(place), goal.end(place));
        if let Some(end) = end.filter(|_| is_own) {
            change(Change::Unforward(*mac, end));
        }
        if is_bridged {
            change(Change::Unbridge(*mac));
        }
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

    /// The same as a dump tells it: what is as it is wanted is counted and not listed.
    fn counted(wanted: &Entries, present: &Present) -> Present {
        let goal = Goal::new(wanted);
        let mut right = goal.nothing();
        let mut counted = present.clone();
        counted.forwarding.retain(|entry| !goal.has(&mut right, entry));
        counted.neighbours.retain(|neighbour| !goal.knows(&mut right, neighbour));
        counted.right = right;
        counted
    }

    #[test]
    fn what_is_counted_comes_to_the_same_as_what_is_listed() {
        let full = after(Present::default(), &plan(&wanted(), &Present::default()).changes);
        let nothing_to_list = counted(&wanted(), &full);
        assert_eq!(
            (nothing_to_list.forwarding.len(), nothing_to_list.neighbours.len()),
            (2, 0),
            "flood destinations alone"
        );
        let mut moved = wanted();
        moved.members.remove(&ip("192.0.2.3"));
        moved.stations.insert(mac(33), ip("192.0.2.2"));
        let local = |present: &Present| Present { local: [mac(33)].into(), ..present.clone() };
        let of_others = Present {
            forwarding: vec![entry(mac(33), Some("192.0.2.9"), false), entry(mac(2), Some("192.0.2.2"), false)],
            ..Present::default()
        };
        let twice = Present {
            forwarding: [full.forwarding.clone(), vec![entry(mac(33), Some("192.0.2.9"), true)]].concat(),
            ..full.clone()
        };
        // Every part of it may be gone.
        let parts = (0..full.forwarding.len()).map(|gone| {
            let mut part = full.clone();
            part.forwarding.remove(gone);
            part
        });
        for is in [full.clone(), local(&full), of_others, twice, Present::default()].into_iter().chain(parts) {
            for to in [wanted(), moved.clone(), Entries::default()] {
                let sorted = |plan: Plan| {
                    let mut changes: Vec<String> = plan.changes.iter().map(|change| format!("{change:?}")).collect();
                    changes.sort_unstable();
                    (changes, plan.obstacles)
                };
                assert_eq!(sorted(plan(&to, &counted(&to, &is))), sorted(plan(&to, &is)), "{is:?}");
            }
        }
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
