//! The ports of this node's pods in the bridge of an overlay: which they are, and what they are to be like. The kernel tells neither once
//! a bridge is gone, so it is noted, in the file `ports` of the network's directory. The plugin makes ports and never reads the file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use attachments::names::{IfName, Mac};
use serde::{Deserialize, Serialize};

use super::Segment;
use crate::error::{Error, Result};
use crate::firewall::pod_ports::{self, Rules};
use crate::networks::NetworkId;
use crate::networks::state::PORTS;
use crate::nl::Netlink;
use crate::nl::link::{Kind, Link, LinkChange, PortFlags};
use crate::nl::neighbour::{Entry, Forwarding};

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Port {
    index: u32,
    /// IFLA_GROUP: whose record it belongs to. Names and indexes are used again.
    group: u32,
    /// The one hardware address behind it; absent where the port learns.
    mac: Option<Mac>,
    /// What is taken from it.
    #[serde(default)]
    guard: Rules,
}

/// The ports of an overlay.
pub(super) struct Ports {
    path: PathBuf,
    known: BTreeMap<String, Port>,
}

impl Ports {
    /// As they were noted last.
    pub fn read(state_dir: &Path, id: &NetworkId) -> Self {
        let path = id.dir(state_dir).join(PORTS);
        let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, known: known.unwrap_or_default() }
    }

    /// Is it one of them?
    pub fn has(&self, index: u32) -> bool {
        self.known.values().any(|port| port.index == index)
    }

    /// Has one of them that name?
    pub fn is_named(&self, name: &str) -> bool {
        self.known.contains_key(name)
    }

    /// Is any of them there, in a bridge or in none?
    pub fn are_there(&self, netlink: &mut Netlink) -> Result<bool> {
        for (name, port) in &self.known {
            if look_up(netlink, name, port)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// None is left.
    pub fn clear(&mut self) {
        if !self.known.is_empty() {
            self.known.clear();
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Puts ports that have lost their bridge back into it, and gives all the flags that they had, and with `whole` their addresses. A port
    /// that somebody put elsewhere is not ours any more. How much was changed.
    pub fn keep(
        &mut self,
        netlink: &mut Netlink,
        segment: &Segment,
        (is_routed, whole): (bool, bool),
        deadline: Instant,
    ) -> Result<usize> {
        let bridge = segment.bridge.index;
        let mut changes = 0;
        let mut present = netlink.links(Some(bridge))?;
        for (name, port) in &self.known {
            if present.iter().any(|link| link.name == *name) {
                continue;
            }
            if let Some(link) = look_up(netlink, name, port)?.filter(|link| link.master.is_none()) {
                netlink.set_link(link.index, &LinkChange { master: Some(bridge), ..LinkChange::default() })?;
                present.extend(netlink.link_by_index(link.index)?);
                changes += 1;
            }
        }
        present.retain(|link| link.kind == Kind::Veth);
        let mut known = BTreeMap::new();
        for link in &present {
            let noted = self.known.get(&link.name).filter(|port| (port.index, port.group) == (link.index, link.group));
            let mut port = noted.cloned().unwrap_or_else(|| Port::of(link));
            // The plugin may be at it: it gives the address when the port is there.
            if port.mac.is_none() {
                port.mac = given(netlink, link)?;
            }
            known.insert(link.name.clone(), port);
        }
        for link in &present {
            let Some(port) = known.get(&link.name) else { continue };
            let is = link.port.unwrap_or_default();
            let mut wanted = PortFlags { isolated: Some(is_routed), neigh_suppress: Some(false), ..is };
            if port.mac.is_some() {
                (wanted.learning, wanted.unicast_flood) = (Some(false), Some(false));
            }
            if is != wanted {
                netlink.set_port(link.index, &wanted)?;
                changes += 1;
            }
            if let (true, Some(mac)) = (whole, port.mac) {
                // Where it is there nothing changes, and nobody is told.
                netlink.change_entries(&[Entry::Station { index: link.index, mac }], "entries of a bridge port")?;
            }
        }
        let mut guards = known.iter_mut().map(|(name, port)| (name.as_str(), &mut port.guard));
        changes += pod_ports::keep(&mut guards, deadline)?;
        if known != self.known {
            self.known = known;
            self.note()?;
        }
        Ok(changes)
    }

    /// Writes the file; of no port there is none.
    fn note(&self) -> Result<()> {
        if self.known.is_empty() {
            let _ = fs::remove_file(&self.path);
            return Ok(());
        }
        let failed = |error: std::io::Error| Error::io(format!("write {}", self.path.display()))(error);
        let json = serde_json::to_vec(&self.known).map_err(|error| failed(error.into()))?;
        let unfinished = self.path.with_file_name(".ports.new");
        fs::write(&unfinished, json).and_then(|()| fs::rename(&unfinished, &self.path)).map_err(failed)
    }
}

impl Port {
    fn of(link: &Link) -> Self {
        Self { index: link.index, group: link.group, mac: None, guard: Rules::default() }
    }
}

/// The link of a port, if it is still that one.
fn look_up(netlink: &mut Netlink, name: &str, port: &Port) -> Result<Option<Link>> {
    let link = netlink.link_by_name(&IfName::found(name)?)?;
    Ok(link.filter(|link| (link.index, link.group) == (port.index, port.group) && link.kind == Kind::Veth))
}

/// The hardware address that was given to a port, beside the port's own.
fn given(netlink: &mut Netlink, link: &Link) -> Result<Option<Mac>> {
    let entries = netlink.forwardings(link.index)?;
    let is_given = |entry: &&Forwarding| !entry.own && entry.permanent && Some(entry.mac) != link.mac;
    Ok(entries.iter().find(is_given).map(|entry| entry.mac))
}
