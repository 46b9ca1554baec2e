//! One change of a link: whether the link has it, how it is made, and how it is turned back.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::is_ours;
use super::ledger::Entry;
use crate::apply::is;
use crate::error::Result;
use crate::host::Host;
use crate::netns;
use crate::nl;
use crate::nl::kept::Kept;
use crate::nl::link::{Link, LinkChange};
use crate::nl::neighbour::ALL_ZERO;

/// What an attachment needs of a link that others use too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Change {
    /// The link is promiscuous.
    Promiscuous,
    /// A setting of the link.
    Sysctl {
        /// Path below /proc/sys/net, joined by '/'.
        key: String,
        /// The value that it gets.
        value: String,
    },
    /// The link has an address.
    Address(IpNet),
    /// The link does not have an address that it had.
    NoAddress(IpNet),
    /// A vxlan device floods to these tunnel ends.
    Peers(Vec<IpAddr>),
    /// The ipvlans of a master are in this mode: the kernel keeps one for all of them, that of the last one made.
    IpvlanMode(String),
    /// The link is there at all: a VLAN or VXLAN link that was made for those who stand on it.
    OnDemand,
}

/// How a link is, before a change of it.
pub(super) enum State {
    /// As the change would make it.
    Made,
    /// Otherwise. For a setting: its value. For an address that goes: the message that makes it again ([`Kept`]).
    Lacking(Option<String>),
    /// The kernel knows no such setting.
    Unknown,
}

impl Change {
    /// Looks whether the link has it. `link` is as the kernel holds it now.
    pub(super) fn state(&self, host: &mut Host<'_>, link: &Link) -> Result<State> {
        let is_made = match self {
            Self::Promiscuous => link.promisc,
            Self::Sysctl { key, value } => {
                return Ok(match read(key)? {
                    None => State::Unknown,
                    Some(is) if is == *value => State::Made,
                    Some(is) => State::Lacking(Some(is)),
                });
            }
            Self::Address(net) => holds(host, link, net)?,
            Self::NoAddress(net) if holds(host, link, net)? => {
                let kept = host.netlink()?.keep_addresses(link.index)?.into_iter().find(|kept| kept.is_address(net));
                return Ok(State::Lacking(kept.map(String::from)));
            }
            Self::NoAddress(_) => true,
            // To add a destination once more changes nothing, and costs less than a look.
            Self::Peers(_) => false,
            // No message tells it; a master without an ipvlan has none.
            Self::IpvlanMode(_) => false,
            // Somebody else's is nobody's to remove.
            Self::OnDemand => !is_ours(link),
        };
        Ok(if is_made { State::Made } else { State::Lacking(None) })
    }

    /// Makes it.
    pub(crate) fn make(&self, host: &mut Host<'_>, link: &Link) -> Result<()> {
        match self {
            Self::Promiscuous => {
                host.netlink()?.set_link(link.index, &LinkChange { promisc: Some(true), ..LinkChange::default() })
            }
            Self::Sysctl { key, value } => write(key, value),
            Self::Address(net) => {
                let added = host.netlink()?.add_address(link.index, *net, false);
                // Somebody else was faster.
                if is(&added, Errno::EEXIST) { Ok(()) } else { added }
            }
            Self::NoAddress(net) => host.netlink()?.delete_address(link.index, *net).map(drop),
            Self::Peers(peers) => host.netlink()?.append_forwardings(link.index, ALL_ZERO, peers),
            // The ipvlan brings it.
            Self::IpvlanMode(_) => Ok(()),
            // It was made before it was noted: its index is its name in the file.
            Self::OnDemand => Ok(()),
        }
    }
}

/// Turns a change back that nobody owns any more. What somebody else has changed since stays as it is. `kept`: the changes
/// of the link that have owners.
pub(super) fn undo(host: &mut Host<'_>, link: &Link, entry: &Entry, kept: &[Entry]) -> Result<()> {
    let undone = match &entry.change {
        Change::Promiscuous => {
            set(host, link, LinkChange { promisc: Some(false).filter(|_| link.promisc), ..LinkChange::default() })
        }
        Change::Sysctl { key, value } => match (&entry.was, read(key)?) {
            (Some(was), Some(is)) if is == *value => write(key, was),
            _ => Ok(()),
        },
        Change::Address(net) => host.netlink()?.delete_address(link.index, *net).map(drop),
        Change::NoAddress(net) => match entry.was.clone().map(Kept::try_from) {
            Some(Ok(kept)) => host.netlink()?.bring_back(&kept, link.index, link.index).map(drop),
            _ => {
                let added = host.netlink()?.add_address(link.index, *net, false);
                if is(&added, Errno::EEXIST) { Ok(()) } else { added }
            }
        },
        Change::Peers(_) => {
            let is_needed = |peer: &&IpAddr| kept.iter().any(|entry| entry.owned_peers().any(|kept| kept == *peer));
            for peer in entry.owned_peers().filter(|peer| !is_needed(peer)) {
                host.netlink()?.delete_forwarding(link.index, ALL_ZERO, *peer)?;
            }
            Ok(())
        }
        // It goes with the last ipvlan.
        Change::IpvlanMode(_) => Ok(()),
        Change::OnDemand if is_ours(link) => host.netlink()?.delete_link(link.index).map(drop),
        Change::OnDemand => Ok(()),
    };
    match undone {
        // The link went away in this moment, and with it everything that it had.
        Err(error) if nl::errno(&error) == Some(Errno::ENODEV) => Ok(()),
        other => other,
    }
}

/// The destinations that a vxlan device floods to.
pub(super) fn flooded(host: &mut Host<'_>, link: &Link) -> Result<Vec<IpAddr>> {
    let entries = host.netlink()?.forwardings(link.index)?;
    Ok(entries.into_iter().filter(|entry| entry.mac == ALL_ZERO).filter_map(|entry| entry.remote).collect())
}

fn set(host: &mut Host<'_>, link: &Link, change: LinkChange<'_>) -> Result<()> {
    if change.up.is_none() && change.promisc.is_none() {
        return Ok(());
    }
    host.netlink()?.set_link(link.index, &change)
}

fn holds(host: &mut Host<'_>, link: &Link, net: &IpNet) -> Result<bool> {
    Ok(host.netlink()?.addresses(Some(link.index))?.iter().any(|address| address.net == *net))
}

fn read(key: &str) -> Result<Option<String>> {
    netns::read_sysctl(&key.split('/').collect::<Vec<_>>())
}

fn write(key: &str, value: &str) -> Result<()> {
    netns::write_sysctl(&key.split('/').collect::<Vec<_>>(), value)
}
