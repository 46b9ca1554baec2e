//! What the agent keeps of a network for itself, in `agent.json` of the network's directory: it is there from before the first object is
//! made until after the last one is gone. So an agent that is killed anywhere finds what it has to give back.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use attachments::api::ClaimOwner;
use delegates::networks::NetworkId;
use meta_cni::atomic_file;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Name of the file in the network's directory.
const FILE: &str = "agent.json";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Notes {
    /// The definitions that may use the network, each with a fingerprint of what it asked for.
    pub definitions: BTreeMap<String, u64>,
    /// The owner of the overlay's claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<ClaimOwner>,
    /// `underlay` of the definition that joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub underlay: Option<String>,
    /// The address space of whereabouts that its addresses are of ([`super::space`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
}

impl Notes {
    /// Reads the file. One that is damaged says no more than that the network was joined.
    pub fn read(state_dir: &Path, id: &NetworkId) -> Option<Self> {
        let bytes = fs::read(path(state_dir, id)).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Replaces the file.
    pub fn write(&self, state_dir: &Path, id: &NetworkId) -> Result<()> {
        let path = path(state_dir, id);
        let failed = |error: std::io::Error| Error::Io(format!("write {}: {error}", path.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(id.dir(state_dir)).map_err(failed)?;
        let json = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        atomic_file::replace(&path, ".agent.json.new", &json, 0o600).map_err(failed)
    }

    /// Removes the file, and the directory if nothing else is in it.
    pub fn remove(state_dir: &Path, id: &NetworkId) -> Result<()> {
        let path = path(state_dir, id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::Io(format!("remove {}: {error}", path.display())));
            }
            _ => {}
        }
        let _ = fs::remove_dir(id.dir(state_dir));
        Ok(())
    }
}

fn path(state_dir: &Path, id: &NetworkId) -> PathBuf {
    id.dir(state_dir).join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_kept_and_damaged_ones_still_say_that_the_network_was_joined() {
        let dir = tempfile::tempdir().unwrap();
        let id = NetworkId::overlay(4789, 7);
        assert_eq!(Notes::read(dir.path(), &id), None);
        let notes = Notes { definitions: [("shop/lan".to_owned(), 7)].into(), ..Notes::default() };
        notes.write(dir.path(), &id).unwrap();
        assert_eq!(Notes::read(dir.path(), &id), Some(notes));
        fs::write(path(dir.path(), &id), "{").unwrap();
        assert_eq!(Notes::read(dir.path(), &id), Some(Notes::default()));
        Notes::remove(dir.path(), &id).unwrap();
        Notes::remove(dir.path(), &id).unwrap();
        assert!(!id.dir(dir.path()).exists());
    }
}
