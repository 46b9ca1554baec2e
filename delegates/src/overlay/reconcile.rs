//! Brings the entries of an overlay to a plan.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use attachments::names::Mac;

use super::entries::{Change, Entries, Plan, Present, plan};
use super::{PROTOCOL, Segment};
use crate::error::Result;
use crate::nl::Netlink;
use crate::nl::neighbour::{ALL_ZERO, Entry, Station};

/// The entries that the kernel holds.
pub fn present(netlink: &mut Netlink, device: u32, bridge: u32) -> Result<Present> {
    let stations = netlink.stations(bridge)?;
    let is_local = |station: &&Station| {
        let is_others = station.port != device && station.port != bridge;
        is_others && station.is_static && !station.is_port && !station.entry.own
    };
    let local: BTreeSet<Mac> = stations.iter().filter(is_local).map(|station| station.entry.mac).collect();
    // In the place of the stations, which are many.
    let forwarding =
        stations.into_iter().filter(|station| station.port == device).map(|station| station.entry).collect();
    Ok(Present { forwarding, neighbours: netlink.neighbours(bridge)?, local })
}

/// Brings the entries of an overlay, however they are, to what is wanted, and tells what was done and what stands in the way.
/// Entries of others stay as they are. After an error some changes are made; the next call makes the rest.
pub fn reconcile(netlink: &mut Netlink, segment: &Segment, wanted: &Entries) -> Result<Plan> {
    let plan = plan(wanted, &present(netlink, segment.device.index, segment.bridge.index)?);
    make(netlink, segment, &plan.changes)?;
    Ok(plan)
}

/// Makes changes of the entries of an overlay.
pub(super) fn make(netlink: &mut Netlink, segment: &Segment, changes: &[Change]) -> Result<()> {
    let (device, bridge) = (segment.device.index, segment.bridge.index);
    let what = format!("entries of vxlan device {}", segment.device.name);
    for some in changes.chunks(4096) {
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
