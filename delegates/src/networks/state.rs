//! The state of a network on this node, as the agent writes it and the plugin reads it: `network.json`.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use attachments::names::Mac;
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::NetworkId;
use crate::error::{Error, Result};
use crate::ipam::blocks::Pool;

/// Name of the file in the network's directory.
pub const FILE: &str = "network.json";

/// Name of the file in the network's directory that says from which state the entries were programmed last.
pub const PROGRAMMED: &str = "programmed";

/// Name of the file in the network's directory that tells the ports of the node's pods (`overlay::ports`).
pub const PORTS: &str = "ports";

/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;

/// The state of a network on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkState {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// Name of this node.
    pub node: String,
    /// The node's membership in an overlay; absent for other networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Membership>,
    /// Its addresses; absent for a network without blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolState>,
}

/// The membership of this node in an overlay, and the other members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// The node's tunnel end.
    pub vtep: IpAddr,
    /// MAC address of the node's vxlan device.
    pub mac: Mac,
    /// MTU of the overlay, the same on each node.
    pub mtu: u32,
    /// The other members.
    #[serde(default)]
    pub members: Vec<Member>,
    /// What the node routes of it.
    #[serde(default, skip_serializing_if = "Routing::is_none")]
    pub routing: Routing,
}

/// What a node routes of an overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Routing {
    /// `mode` is l3: pods reach pods through routes alone.
    pub l3: bool,
    /// `directRouting`: without the tunnel where the other node is one hop away.
    pub direct: bool,
    /// `isGateway`: the node is the pods' way to elsewhere.
    pub gateway: bool,
    /// `openGateway`: connections from elsewhere, and to the node itself, pass.
    pub open: bool,
    /// The gateway's addresses, as far as the pool names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpNet>,
}

impl Routing {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Another node of an overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Name of the node.
    pub node: String,
    /// Its tunnel end, of the family of this node's.
    pub vtep: IpAddr,
    /// MAC address of its vxlan device.
    pub mac: Mac,
    /// Its slots of the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slots>,
    /// The pods there that slots do not explain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
}

/// A pod of another node whose MAC address or addresses do not follow from a slot of that node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// MAC address of the pod's link.
    pub mac: Mac,
    /// Its addresses; none on a network without addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpAddr>,
}

/// The addresses of a network, as far as this node may give them out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolState {
    /// The pool, by which every node numbers its addresses alike.
    pub pool: Pool,
    /// The slots of this node.
    #[serde(default)]
    pub slots: Vec<Slots>,
    /// Slots that are promised, each with who alone gets it: a pod that asked for its addresses, as `namespace/name`, or an IPAMClaim, as
    /// `IPAMClaim namespace/name`. The slot of an IPAMClaim may be another node's for as long as a pod there has it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claimed: BTreeMap<u32, String>,
    /// Why no more slots can be had, for the message of an ADD that finds none; absent while some can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhausted: Option<String>,
}

/// Consecutive slots of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slots {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Slots {
    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        self.first..self.first.saturating_add(self.count)
    }

    /// Is it one of them?
    pub fn contains(self, slot: u32) -> bool {
        slot.checked_sub(self.first).is_some_and(|offset| offset < self.count)
    }
}

/// The file for who allocates: a thousand members are passed over.
#[derive(Deserialize)]
struct Allocation {
    format: u32,
    #[serde(default)]
    pool: Option<PoolState>,
}

impl NetworkState {
    /// Reads the file. `None`: there is none, so the node is not in the network. An error names the file.
    pub fn read(state_dir: &Path, id: &NetworkId) -> Result<Option<Self>> {
        parse(state_dir, id, |state: &Self| state.format)
    }

    /// The same for the addresses alone. `None`: the node is not in the network, or the network has none.
    pub fn read_pool(state_dir: &Path, id: &NetworkId) -> Result<Option<PoolState>> {
        Ok(parse(state_dir, id, |state: &Allocation| state.format)?.and_then(|state| state.pool))
    }

    /// Replaces the file whole. The agent is the one writer.
    pub fn write(&self, state_dir: &Path, id: &NetworkId) -> Result<()> {
        let dir = id.dir(state_dir);
        let failed = |error: std::io::Error| Error::io(format!("write {}", dir.join(FILE).display()))(error);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let unfinished = dir.join(".network.json.new");
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        let json = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        written.and_then(|mut file| file.write_all(&json)).map_err(failed)?;
        fs::rename(&unfinished, dir.join(FILE)).map_err(failed)
    }

    /// Removes the file, and what was noted of entries and ports: the node is not in the network any more. The plugin's leases stay.
    pub fn remove(state_dir: &Path, id: &NetworkId) -> Result<()> {
        let dir = id.dir(state_dir);
        for name in [FILE, PROGRAMMED, PORTS] {
            let path = dir.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io(format!("remove {}", path.display()))(error));
                }
                _ => {}
            }
        }
        // It stays while a note is in it.
        let _ = fs::remove_dir(dir.join(super::endpoints::DIR));
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(state_dir: &Path, id: &NetworkId, format: impl Fn(&T) -> u32) -> Result<Option<T>> {
    let path = id.dir(state_dir).join(FILE);
    let failed = |error: std::io::Error| Error::io(format!("read {}", path.display()))(error);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let state: T = serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
    match format(&state) {
        format if format > FORMAT => {
            let why = format!("its format is {format}, and this program reads {FORMAT} at most");
            Err(failed(std::io::Error::other(why)))
        }
        _ => Ok(Some(state)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_and_one_of_a_later_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let id = NetworkId::overlay(4789, 7);
        assert_eq!(NetworkState::read(dir.path(), &id).unwrap(), None);
        let member = Member {
            node: "n2".to_owned(),
            vtep: "192.0.2.2".parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 2]),
            slots: vec![Slots { first: 64, count: 64 }],
            endpoints: Vec::new(),
        };
        let membership = Membership {
            vtep: "192.0.2.1".parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1450,
            members: vec![member],
            routing: Routing::default(),
        };
        let mut state = NetworkState { format: FORMAT, node: "n1".to_owned(), overlay: Some(membership), pool: None };
        state.write(dir.path(), &id).unwrap();
        assert_eq!(NetworkState::read(dir.path(), &id).unwrap().as_ref(), Some(&state));
        state.format += 1;
        state.write(dir.path(), &id).unwrap();
        let refused = NetworkState::read(dir.path(), &id).unwrap_err().to_string();
        assert!(refused.contains("network.json") && refused.contains("its format is 2"), "{refused}");
        NetworkState::remove(dir.path(), &id).unwrap();
        NetworkState::remove(dir.path(), &id).unwrap();
        assert_eq!(NetworkState::read(dir.path(), &id).unwrap(), None);
    }

    #[test]
    fn slots_know_what_is_among_them() {
        let slots = Slots { first: 64, count: 2 };
        assert_eq!(slots.iter().collect::<Vec<_>>(), [64, 65]);
        assert_eq!([63, 64, 65, 66].map(|slot| slots.contains(slot)), [false, true, true, false]);
    }
}
