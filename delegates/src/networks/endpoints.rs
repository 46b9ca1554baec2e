//! Pods of this node whose MAC address or addresses do not follow from a slot of the node: the plugin notes each in a file named
//! after its port, and the agent tells the other members.
//!
//! ```text
//! networks/4789-4200/endpoints/veth099e4fdc   one pod, as JSON
//! ```
//!
//! A note is written before the port is made and goes with it. So of a note without a port nobody needs to know.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use attachments::names::Mac;

use super::NetworkId;
use super::state::{Endpoint, NetworkState};
use crate::error::{Error, Result};

/// Directory of the notes in the network's directory.
pub const DIR: &str = "endpoints";

/// Do the node's slots explain a pod: are all its addresses those of one of them, and is its MAC address the slot's? A slot that is kept for a
/// pod here is as good: the others are led here when it is the node's.
pub fn is_explained(state: &NetworkState, mac: Mac, ips: &[IpAddr]) -> bool {
    let Some(pool) = &state.pool else { return false };
    let slot = ips.first().and_then(|ip| pool.pool.slot_of(*ip));
    slot.is_some_and(|slot| {
        (pool.claimed.contains_key(&slot) || pool.slots.iter().any(|slots| slots.contains(slot)))
            && pool.pool.mac(slot) == Some(mac)
            && ips.iter().all(|ip| pool.pool.slot_of(*ip) == Some(slot))
    })
}

/// Notes a pod behind a port.
pub fn note(state_dir: &Path, id: &NetworkId, port: &str, endpoint: &Endpoint) -> Result<()> {
    let path = path(state_dir, id, port);
    let failed = |error: std::io::Error| Error::io(format!("write {}", path.display()))(error);
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    }
    let json = serde_json::to_vec(endpoint).map_err(|error| failed(error.into()))?;
    fs::write(&path, json).map_err(failed)
}

/// Removes the note of a port, if there is one.
pub fn forget(state_dir: &Path, id: &NetworkId, port: &str) -> Result<()> {
    let path = path(state_dir, id, port);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// The notes, each with the name of its port, in order. One that cannot be read (it is being written) is left out.
pub fn noted(state_dir: &Path, id: &NetworkId) -> Vec<(String, Endpoint)> {
    let files = fs::read_dir(id.dir(state_dir).join(DIR)).into_iter().flatten().flatten();
    let read = |file: fs::DirEntry| {
        let endpoint = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
        Some((file.file_name().into_string().ok()?, endpoint))
    };
    let mut notes: Vec<(String, Endpoint)> = files.filter_map(read).collect();
    notes.sort_by(|(one, _), (other, _)| one.cmp(other));
    notes
}

fn path(state_dir: &Path, id: &NetworkId, port: &str) -> PathBuf {
    id.dir(state_dir).join(DIR).join(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::testing::state;

    #[test]
    fn a_slot_of_the_node_explains_its_own_addresses_and_mac_alone() {
        let ipam = r#"{"ranges":[[{"subnet":"10.42.0.0/24"}],[{"subnet":"fd42::/64"}]]}"#;
        let state = state(1, &[1, 2], |n| format!("192.0.2.{n}"), Some(ipam));
        let of_slot = |last| Mac([0x0a, 0x58, 10, 42, 0, last]);
        let explains = |mac, ips: &[&str]| {
            let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            is_explained(&state, mac, &ips)
        };
        assert!(explains(of_slot(17), &["10.42.0.17", "fd42::11"]) && explains(of_slot(17), &["10.42.0.17"]));
        assert!(!explains(of_slot(17), &["10.42.0.17", "fd42::12"]), "addresses of two slots");
        assert!(!explains(Mac([2; 6]), &["10.42.0.17"]), "another MAC address");
        assert!(!explains(of_slot(33), &["10.42.0.33"]), "another node's slot");
        assert!(!explains(of_slot(17), &[]) && !explains(of_slot(17), &["192.0.2.7"]));
        assert!(!is_explained(&NetworkState { pool: None, ..state.clone() }, of_slot(17), &[]));
        let mut kept = state.clone();
        kept.pool.as_mut().unwrap().claimed.insert(33, "IPAMClaim shop/vm".to_owned());
        assert!(is_explained(&kept, of_slot(33), &["10.42.0.33".parse().unwrap()]), "another node's, and kept here");
    }

    #[test]
    fn a_note_is_read_as_it_was_written_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let id = NetworkId::overlay(4789, 7);
        assert_eq!(noted(dir.path(), &id), []);
        let endpoint = Endpoint { mac: Mac([2, 0, 0, 0, 0, 1]), ips: vec!["10.42.0.9".parse().unwrap()] };
        note(dir.path(), &id, "veth1", &endpoint).unwrap();
        fs::write(path(dir.path(), &id, "veth0"), "{").unwrap();
        assert_eq!(noted(dir.path(), &id), [("veth1".to_owned(), endpoint)]);
        forget(dir.path(), &id, "veth1").unwrap();
        forget(dir.path(), &id, "veth1").unwrap();
        assert_eq!(noted(dir.path(), &id), []);
    }
}
