//! Brings the entries of an overlay to a plan.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeSet;

use attachments::names::Mac;

use super::entries::{Change, Entries, Goal, Obstacle, Present, Right, compare};
use super::{PROTOCOL, Segment};
use crate::error::Result;
use crate::nl::Netlink;
use crate::nl::neighbour::{ALL_ZERO, Entry, Station};

/// Changes that are made at once.
const CHUNK: usize = 4096;

/// What was done, and what stands in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// So many entries were changed.
    pub changes: usize,
    /// So many routes and rules were changed too, in mode l3.
    pub routes: usize,
    /// What stays wrong.
    pub obstacles: Vec<Obstacle>,
}

/// The entries that the kernel holds. Those that are as they are wanted are counted only: the kernel lists a hundred thousand.
pub fn present(netlink: &mut Netlink, device: u32, bridge: u32, goal: &Goal<'_>) -> Result<Present> {
    // A dump that is begun again is another one.
    let counted = RefCell::new((None, Right::default()));
    let is_odd = |dump: u32, is_right: &dyn Fn(&mut Right) -> bool| {
        let (last, right) = &mut *counted.borrow_mut();
        if last.replace(dump) != Some(dump) {
            *right = goal.nothing();
        }
        !is_right(right)
    };
    let stations = netlink.stations(bridge, &|dump, station| {
        is_odd(dump, &|right| station.port == device && goal.has(right, &station.entry))
    })?;
    let right = counted.take().1;
    let is_local = |station: &&Station| {
        let is_others = station.port != device && station.port != bridge;
        is_others && station.is_static && !station.is_port && !station.entry.own
    };
    let local: BTreeSet<Mac> = stations.iter().filter(is_local).map(|station| station.entry.mac).collect();
    // In the place of the stations, which may be many.
    let forwarding =
        stations.into_iter().filter(|station| station.port == device).map(|station| station.entry).collect();
    let neighbours =
        netlink.neighbours_but(bridge, &|dump, neighbour| is_odd(dump, &|right| goal.knows(right, neighbour)))?;
    Ok(Present { forwarding, neighbours, local, right: right.with_neighbours_of(counted.take().1) })
}

/// Brings the entries of an overlay, however they are, to what is wanted, and tells what was done and what stands in the way.
/// Entries of others stay as they are. After an error some changes are made; the next call makes the rest.
pub fn reconcile(netlink: &mut Netlink, segment: &Segment, wanted: &Entries) -> Result<Made> {
    let goal = Goal::new(wanted);
    let present = present(netlink, segment.device.index, segment.bridge.index, &goal)?;
    let (mut changes, mut some, mut outcome) = (0, Vec::new(), Ok(()));
    let obstacles = compare(&goal, &present, &mut |change| {
        changes += 1;
        some.push(change);
        if some.len() == CHUNK {
            if outcome.is_ok() {
                outcome = make(netlink, segment, &some);
            }
            some.clear();
        }
    });
    outcome?;
    make(netlink, segment, &some)?;
    Ok(Made { changes, routes: 0, obstacles })
}

/// What there is to be done, every entry listed.
#[cfg(test)]
pub(crate) fn missing(netlink: &mut Netlink, device: u32, bridge: u32, wanted: &Entries) -> Result<super::Plan> {
    let all = present(netlink, device, bridge, &Goal::new(&Entries::default()))?;
    Ok(super::plan(wanted, &all))
}

/// Makes changes of the entries of an overlay.
pub(super) fn make(netlink: &mut Netlink, segment: &Segment, changes: &[Change]) -> Result<()> {
    let (device, bridge) = (segment.device.index, segment.bridge.index);
    let what = format!("entries of vxlan device {}", segment.device.name);
    for some in changes.chunks(CHUNK) {
        let entries: Vec<Entry> = some.iter().map(|change| entry(change, device, bridge)).collect();
        netlink.change_entries(&entries, &what)?;
    }
    Ok(())
}

fn entry(change: &Change, device: u32, bridge: u32) -> Entry {
    match *change {
        Change::Forward(mac, remote) => Entry::Forward { index: device, mac, remote },
        Change::Flood(remote) => Entry::Append { index: device, mac: ALL_ZERO, remote },
        Change::Unflood(remote) => Entry::Remove { index: device, mac: ALL_ZERO, remote: Some(remote) },
        Change::Unforward(mac, remote) => Entry::Remove { index: device, mac, remote: Some(remote) },
        Change::Unbridge(mac) => Entry::Remove { index: device, mac, remote: None },
        Change::Resolve(ip, mac) => Entry::Resolve { index: bridge, ip, mac, protocol: PROTOCOL },
        Change::Unresolve(ip) => Entry::Unresolve { index: bridge, ip },
    }
}
