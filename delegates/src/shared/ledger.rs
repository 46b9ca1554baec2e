//! The files: one for each link that attachments have changed, one for each link that has gateway addresses of ours.
//!
//! ```text
//! shared/LINK      {"boot":"...","link":7,"changes":[{"change":"promiscuous","owners":["CONTAINER,IFNAME"]}]}
//! gateways/LINK    {"boot":"...","link":7,"addresses":{"10.1.0.1/24":"default/net-a"}}
//! ```
//!
//! A file is replaced whole, by a rename, so a killed writer leaves the old one or the new one. One lock, the state
//! directory's own, is for all of them: it needs no file that a killed call could leave, and a change takes the kernel
//! microseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::change::Change;
use crate::boot;
use crate::call::Node;
use crate::error::{Error, Result};
use crate::nl::link::Link;
use crate::poll::PollTimer;
use crate::whole_file;

/// Directory of the changes below `stateDir`.
pub(super) const CHANGES: &str = "shared";
/// Directory of the gateway addresses below `stateDir`.
pub(super) const GATEWAYS: &str = "gateways";
/// What is being written, in the directory of the changes. No link has so long a name.
const BEING_WRITTEN: &str = "file-being-written";

/// Which link of which boot a file is about. A link that is made anew has another index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    /// Index of the link.
    pub link: u32,
}

impl Subject {
    fn of(link: &Link) -> Self {
        Self { boot: boot::current(), link: link.index }
    }

    fn is_over(&self) -> bool {
        self.boot != boot::current()
    }
}

/// A change, and the attachments that need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub change: Change,
    /// The value that a setting had; the message that makes an address again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// Peers that the device had before any of ours asked for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<IpAddr>,
    /// CONTAINER,IFNAME each.
    pub owners: BTreeSet<String>,
}

impl Entry {
    /// The peers that go with the last owner.
    pub fn owned_peers(&self) -> impl Iterator<Item = &IpAddr> {
        let peers = match &self.change {
            Change::Peers(peers) => peers.as_slice(),
            _ => &[],
        };
        peers.iter().filter(|peer| !self.foreign.contains(peer))
    }
}

/// The changes of one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changes {
    #[serde(flatten)]
    pub subject: Subject,
    pub changes: Vec<Entry>,
}

/// The networks that put gateway addresses on one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gateways {
    #[serde(flatten)]
    pub subject: Subject,
    pub addresses: BTreeMap<IpNet, String>,
}

/// All the files, while nobody else reads or writes them.
pub(super) struct Files {
    dir: PathBuf,
    lock: File,
}

impl Files {
    pub fn lock(node: &Node<'_>) -> Result<Self> {
        let dir = node.state_dir;
        let failed = || format!("open {}", dir.display());
        let opened = match File::open(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(dir).and_then(|()| File::open(dir)),
            other => other,
        };
        let file = opened.map_err(Error::io(failed()))?;
        let mut timer = PollTimer::until(node.deadline);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { dir: dir.to_owned(), lock: file }),
                Err(TryLockError::WouldBlock) if timer.pause() => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Late(format!("waiting for the lock of {}", dir.display())));
                }
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(TryLockError::Error(error)) => return Err(Error::io(format!("lock {}", dir.display()))(error)),
            }
        }
    }

    /// The changes of a link by its name; nothing where they are of an earlier boot.
    pub fn changes(&self, name: &str) -> Option<Changes> {
        read(&self.dir, CHANGES, name).filter(|found: &Changes| !found.subject.is_over())
    }

    /// The changes of this very link.
    pub fn changes_of(&self, link: &Link) -> Changes {
        let found = self.changes(&link.name).filter(|found| found.subject.link == link.index);
        found.unwrap_or_else(|| Changes { subject: Subject::of(link), changes: Vec::new() })
    }

    /// Writes the changes of a link; without any the file goes.
    pub fn put_changes(&self, name: &str, changes: &Changes) -> Result<()> {
        if changes.changes.is_empty() { self.remove(CHANGES, name) } else { self.write(CHANGES, name, changes) }
    }

    /// The gateway addresses of this very link.
    pub fn gateways_of(&self, link: &Link) -> Gateways {
        let found: Option<Gateways> = read(&self.dir, GATEWAYS, &link.name);
        let found = found.filter(|found| found.subject == Subject::of(link));
        found.unwrap_or_else(|| Gateways { subject: Subject::of(link), addresses: BTreeMap::new() })
    }

    /// The link that a file of gateway addresses is about; nothing where it is of an earlier boot.
    pub fn link_of_gateways(&self, name: &str) -> Option<u32> {
        let found: Option<Gateways> = read(&self.dir, GATEWAYS, name);
        found.filter(|found| !found.subject.is_over()).map(|found| found.subject.link)
    }

    /// Writes the gateway addresses of a link; without any the file goes.
    pub fn put_gateways(&self, name: &str, gateways: &Gateways) -> Result<()> {
        if gateways.addresses.is_empty() { self.remove(GATEWAYS, name) } else { self.write(GATEWAYS, name, gateways) }
    }

    /// Forgets gateway addresses that were taken off a link.
    pub fn drop_gateways(&self, link: &Link, is_off: impl Fn(&IpNet) -> bool) -> Result<()> {
        let before = self.gateways_of(link);
        let mut after = before.clone();
        after.addresses.retain(|address, _| !is_off(address));
        if after == before { Ok(()) } else { self.put_gateways(&link.name, &after) }
    }

    /// Removes a file.
    pub fn remove(&self, kind: &str, name: &str) -> Result<()> {
        whole_file::remove(&self.dir.join(kind).join(name))
    }

    /// Removes what a killed writer left.
    pub fn tidy(&self) {
        // It is nobody's, and the next writer takes its place.
        let _ = whole_file::remove(&self.dir.join(CHANGES).join(BEING_WRITTEN));
    }

    fn write(&self, kind: &str, name: &str, content: &impl Serialize) -> Result<()> {
        whole_file::replace(&self.dir.join(kind).join(name), &self.dir.join(CHANGES).join(BEING_WRITTEN), content)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Closing it alone leaves the lock to a child that is just being started.
        let _ = self.lock.unlock();
    }
}

/// Files of a kind, by the names of their links, and whether a killed writer left something.
pub(super) fn names(state_dir: &Path, kind: &str) -> (Vec<String>, bool) {
    // A directory that cannot be read has nothing for us that could be turned back.
    let entries = fs::read_dir(state_dir.join(kind)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let all = names.len();
    names.retain(|name| name != BEING_WRITTEN);
    let is_torn = names.len() < all;
    names.sort();
    (names, is_torn)
}

/// Looks without the lock whether an attachment owns a change of a link. Only its own calls make or end that.
pub(super) fn has_owner(state_dir: &Path, name: &str, owner: &str) -> bool {
    let found: Option<Changes> = read(state_dir, CHANGES, name);
    found.is_some_and(|found| found.changes.iter().any(|entry| entry.owners.contains(owner)))
}

fn read<T: DeserializeOwned>(dir: &Path, kind: &str, name: &str) -> Option<T> {
    // A file that cannot be read says as much as none.
    serde_json::from_slice(&fs::read(dir.join(kind).join(name)).ok()?).ok()
}
