//! What attachments change of links that others use too, and who owns each change.
//!
//! A link that we made for a pod goes with the pod, and a bridge that we made for a network stays as the reference plugins
//! leave theirs: nobody needs to know how these were before. All the rest is somebody else's, an administrator's bridge for
//! one, or is made by us and used by many: the peers of a vxlan device, the mode that all ipvlans of a master have. A change of such a link belongs to the attachments
//! that asked for it, its owners. The first one makes it, each one is noted, and with the last one it is turned back. A state
//! that nobody of ours brought about is not ours to end: it gets no owner.
//!
//! The owners stand in a file of the link ([`ledger`]). It is written before the kernel is changed and rewritten after the
//! change was turned back, so a call that is killed in between leaves an owner too many at the worst. DEL lets go of
//! everything that its attachment owns, whatever the configuration says by now; the owner is found by its name, so no record
//! is needed. GC and replay let go for owners that have no record any more. Records do not hold this by themselves: the
//! last owner would have to look through the records of all pods, at each DEL.
//!
//! Not undone are `ip_forward` and `forwarding`, which others count on once they are on, and what the kernel itself keeps by
//! its ports: a bridge's MTU is the least of theirs, and grows again when a port leaves. The hardware address of an
//! administrator's bridge keeps the value that it had; that it is fixed now cannot be taken back (`addr_assign_type`).
//! nftables tables, chains and hooks that no container's name stands in stay, as the reference plugins' do: rules belong to
//! containers by their comments.
//!
//! Bridges that we make, and VLAN and VXLAN links that are masters on demand, are in the link group [`OURS`]. The kernel takes a group with the message that makes the link, so
//! there is no moment at which a link of ours is not known as one; and no file must be read to know.

mod change;
mod ledger;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use attachments::bind::Source;
use ipnet::IpNet;

pub(crate) use self::change::Change;
use self::change::{State, flooded, undo};
use self::ledger::{CHANGES, Entry, Files, GATEWAYS};
use crate::call::{Node, Point};
use crate::error::Result;
use crate::host::Host;
use crate::nl::link::Link;
use crate::ownership::{Owner, Ownership};

/// Link group of bridges, of the gateways of VLANs, and of VLAN and VXLAN links on demand, that we made. Groups of records have bit 30 set: none is this one.
pub(crate) const OURS: u32 = 0x2d63_6e69;

/// Did we make this link for the node?
pub(crate) fn is_ours(link: &Link) -> bool {
    link.group == OURS
}

/// The files of the node, while no other call changes a shared link.
pub(crate) struct Shared(Files);

impl Shared {
    /// Waits until the deadline for others. A call must not do this twice at once.
    pub fn lock(node: &Node<'_>) -> Result<Self> {
        Files::lock(node).map(Self)
    }

    /// Makes changes of a link in the name of an attachment. What the link is already is left alone; the attachment owns it
    /// with the others if one of ours made it so. `is_new`: the caller has made the link a moment ago.
    pub fn change(
        &self,
        host: &mut Host<'_>,
        point: &Point<'_>,
        link: &Link,
        is_new: bool,
        wanted: &[Change],
    ) -> Result<()> {
        // Looked up again: another call may have turned it back meanwhile.
        let Some(link) = host.netlink()?.link_by_index(link.index)? else { return Ok(()) };
        let owner = name_of(point);
        let before = self.0.changes_of(&link);
        let mut after = before.clone();
        let mut lacking = Vec::new();
        for change in wanted {
            let was = match change.state(host, &link)? {
                State::Unknown => continue,
                State::Made => None,
                State::Lacking(was) => {
                    lacking.push(change);
                    was
                }
            };
            let is_lacking = lacking.last().is_some_and(|last| std::ptr::eq(*last, change));
            match after.changes.iter_mut().find(|entry| entry.change == *change) {
                Some(entry) => drop(entry.owners.insert(owner.clone())),
                None if is_lacking => {
                    let mut foreign = Vec::new();
                    if matches!(change, Change::Peers(_)) && !is_new {
                        foreign = flooded(host, &link)?;
                        foreign.retain(|peer| !after.changes.iter().any(|e| e.owned_peers().any(|own| own == peer)));
                    }
                    let owners = [owner.clone()].into();
                    after.changes.push(Entry { change: change.clone(), was, foreign, owners });
                }
                None => {}
            }
        }
        if after != before {
            self.0.put_changes(&link.name, &after)?;
        }
        lacking.into_iter().try_for_each(|change| change.make(host, &link))
    }

    /// The network that put an address on a link as a gateway, as messages name it; nothing for one of the node's own.
    pub fn network_of(&self, link: &Link, address: &IpNet) -> Option<String> {
        self.0.gateways_of(link).addresses.remove(address)
    }

    /// The addresses that attachments have taken off a link for as long as they are there.
    pub fn taken_off(&self, link: &Link) -> Vec<IpNet> {
        let changes = self.0.changes_of(link).changes;
        let off = changes.into_iter().filter_map(|entry| match entry.change {
            Change::NoAddress(net) => Some(net),
            _ => None,
        });
        off.collect()
    }

    /// Does any attachment own a change of the link?
    pub fn is_owned(&self, link: &Link) -> bool {
        !self.0.changes_of(link).changes.is_empty()
    }

    /// The mode that ipvlans of attachments need on a master, where it is another one.
    pub fn other_ipvlan_mode(&self, master: &Link, mode: &str) -> Option<String> {
        let changes = self.0.changes_of(master).changes;
        changes.into_iter().find_map(|entry| match entry.change {
            Change::IpvlanMode(other) if other != mode => Some(other),
            _ => None,
        })
    }

    /// Notes the network that is about to put addresses on a link, and to take others off.
    pub fn note_gateways(&self, link: &Link, network: &Source, added: &[IpNet], removed: &[IpNet]) -> Result<()> {
        let mut gateways = self.0.gateways_of(link);
        gateways.addresses.retain(|address, _| !removed.contains(address));
        gateways.addresses.extend(added.iter().map(|address| (*address, network.to_string())));
        if added.is_empty() { Ok(()) } else { self.0.put_gateways(&link.name, &gateways) }
    }
}

/// DEL: the attachment owns nothing any more. Idempotent.
pub(crate) fn release(host: &mut Host<'_>, point: &Point<'_>) -> Result<()> {
    let owner = name_of(point);
    let state_dir = host.node.state_dir;
    let (mut names, is_torn) = ledger::names(state_dir, CHANGES);
    names.retain(|name| ledger::has_owner(state_dir, name, &owner));
    if names.is_empty() && !is_torn {
        return Ok(());
    }
    let files = Files::lock(&host.node)?;
    files.tidy();
    let_go(host, &files, &names, |one| one == owner)
}

/// GC: nothing is owned by who has no record any more, and nothing is kept about links that are gone.
pub(crate) fn sweep(host: &mut Host<'_>, ownership: &Ownership<'_>) -> Result<()> {
    let state_dir = host.node.state_dir;
    let (changed, is_torn) = ledger::names(state_dir, CHANGES);
    let (gateways, _) = ledger::names(state_dir, GATEWAYS);
    if changed.is_empty() && gateways.is_empty() && !is_torn {
        return Ok(());
    }
    let files = Files::lock(&host.node)?;
    files.tidy();
    // An owner had its record before it was noted, so one without a record is gone, whoever remembers it.
    let is_gone = |owner: &str| {
        let container = owner.split_once(',').map_or(owner, |(container, _)| container);
        ownership.owner_of(container) != Owner::Living
    };
    let_go(host, &files, &changed, is_gone)?;
    for name in &gateways {
        let is_there = match files.link_of_gateways(name) {
            Some(index) => find(host, index, name)?.is_some(),
            None => false,
        };
        if !is_there {
            files.remove(GATEWAYS, name)?;
        }
    }
    Ok(())
}

/// Forgets the changes of a link that was deleted.
pub(crate) fn forget(node: &Node<'_>, link: &str) -> Result<()> {
    if !node.state_dir.join(CHANGES).join(link).exists() {
        return Ok(());
    }
    Files::lock(node)?.remove(CHANGES, link)
}

/// Takes owners away, and turns back what has none then. Every link is tried; the first failure is the error.
fn let_go(host: &mut Host<'_>, files: &Files, names: &[String], is_gone: impl Fn(&str) -> bool) -> Result<()> {
    let each = names.iter().map(|name| let_go_of(host, files, name, &is_gone));
    each.fold(Ok(()), Result::and)
}

fn let_go_of(host: &mut Host<'_>, files: &Files, name: &str, is_gone: &impl Fn(&str) -> bool) -> Result<()> {
    let link = match files.changes(name) {
        Some(found) => find(host, found.subject.link, name)?.map(|link| (found, link)),
        None => None,
    };
    let Some((mut found, link)) = link else { return files.remove(CHANGES, name) };
    let before = found.clone();
    for entry in &mut found.changes {
        entry.owners.retain(|owner| !is_gone(owner));
    }
    let (kept, ended): (Vec<Entry>, Vec<Entry>) = found.changes.into_iter().partition(|entry| !entry.owners.is_empty());
    // The last change was made on top of the ones before.
    ended.iter().rev().try_for_each(|entry| undo(host, &link, entry, &kept))?;
    let is_off = |address: &IpNet| ended.iter().any(|entry| entry.change == Change::Address(*address));
    let forgotten = files.drop_gateways(&link, is_off);
    found.changes = kept;
    if found == before {
        return Ok(());
    }
    // The kernel is right already. A full disk, or one that cannot be written, keeps an owner too many, which GC takes away.
    let _ = forgotten.and(files.put_changes(name, &found));
    Ok(())
}

/// The link of a file; one that was made anew under the name is another.
fn find(host: &mut Host<'_>, index: u32, name: &str) -> Result<Option<Link>> {
    Ok(host.netlink()?.link_by_index(index)?.filter(|link| link.name == name))
}

fn name_of(point: &Point<'_>) -> String {
    format!("{},{}", point.container, point.ifname)
}

/// Peers of a device in the order in which they are compared.
pub(crate) fn peers(mut peers: Vec<IpAddr>) -> Change {
    peers.sort_unstable();
    Change::Peers(peers)
}
