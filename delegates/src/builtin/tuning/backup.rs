//! How a pod was before it was tuned, and back.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use attachments::cni::object::Object;
use attachments::names::{IfName, Mac};
use serde::{Deserialize, Serialize};

use super::config::Settings;
use crate::apply::is;
use crate::call::Point;
use crate::error::{Error, Result};
use crate::netns;
use crate::nl::link::{Link, LinkChange};
use crate::ownership::{Owner, Ownership};
use crate::sandbox::Sandbox;
use nix::errno::Errno;

/// Key of ours in the states that are saved.
const STATE: &str = "tuning";

/// Old values. Those of the link have the names that the reference plugin's own backup has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Backup {
    /// Index of the link in the pod; 0 in the reference plugin's, which knows the name only.
    #[serde(skip_serializing_if = "is_zero")]
    index: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(skip_serializing_if = "is_zero")]
    mtu: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    tx_queue: Option<u32>,
    /// By the path below /proc/sys/net.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sysctl: BTreeMap<String, String>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Backup {
    /// The values that settings are about to change.
    pub fn of(link: &Link, settings: &Settings) -> Self {
        Self {
            index: link.index,
            mac: settings.mac.and(link.mac).map(|mac| mac.to_string()).unwrap_or_default(),
            promisc: settings.promisc.then_some(link.promisc),
            mtu: settings.mtu.map(|_| link.mtu).unwrap_or_default(),
            allmulti: settings.allmulti.map(|_| link.allmulti),
            tx_queue: settings.tx_queue.map(|_| link.tx_queue),
            sysctl: BTreeMap::new(),
        }
    }

    /// Adds the old value of a setting.
    pub fn remember(&mut self, path: &[String], value: String) {
        self.sysctl.insert(path.join("/"), value);
    }

    /// Is there nothing to bring back?
    pub fn is_empty(&self) -> bool {
        *self == Self { index: self.index, ..Self::default() }
    }

    /// As a state to be saved.
    pub fn state(&self) -> Object {
        let mut state = Object::new();
        state.set(STATE, self);
        state
    }

    /// A state of ours among those of a chain.
    pub fn from_state(state: &Object) -> Option<Self> {
        state.decode(STATE, "a backup").ok().flatten()
    }

    /// What the reference plugin noted, if it did.
    pub fn of_reference(data_dir: &Path, point: &Point<'_>) -> Option<Self> {
        serde_json::from_slice(&fs::read(file_of_reference(data_dir, point)).ok()?).ok()
    }

    /// Brings everything back that is still there. The pod's settings go with the pod, so one that the kernel does not take
    /// back stops nobody; a device goes on to another, and does.
    pub fn restore(&self, sandbox: &mut Sandbox, ifname: &IfName) -> Result<()> {
        let found = match self.index {
            0 => sandbox.netlink.link_by_name(ifname)?,
            index => sandbox.netlink.link_by_index(index)?,
        };
        let restored = match found {
            Some(link) => self.restore_link(sandbox, &link),
            None => Ok(()),
        };
        if !self.sysctl.is_empty() {
            sandbox.netns().enter(|| {
                for (path, value) in &self.sysctl {
                    let _ = netns::write_sysctl(&path.split('/').collect::<Vec<_>>(), value);
                }
                Ok(())
            })?;
        }
        restored
    }

    fn restore_link(&self, sandbox: &mut Sandbox, link: &Link) -> Result<()> {
        let change = LinkChange {
            mac: self.mac.parse::<Mac>().ok().filter(|mac| Some(*mac) != link.mac),
            promisc: self.promisc.filter(|on| *on != link.promisc),
            mtu: Some(self.mtu).filter(|mtu| *mtu != 0 && *mtu != link.mtu),
            allmulti: self.allmulti.filter(|on| *on != link.allmulti),
            tx_queue: self.tx_queue.filter(|length| *length != link.tx_queue),
            ..LinkChange::default()
        };
        let changed = sandbox.netlink.set_link(link.index, &change);
        // The pod may take its link away at any time.
        if is(&changed, Errno::ENODEV) { Ok(()) } else { changed }
    }
}

/// Removes what the reference plugin noted.
pub(super) fn forget_reference(data_dir: &Path, point: &Point<'_>) {
    // Only old values are lost with it, and whoever comes here has brought them back.
    let _ = fs::remove_file(file_of_reference(data_dir, point));
}

/// Removes what the reference plugin noted of containers that are gone, and lists those of unknown containers.
pub(super) fn sweep_reference(data_dir: &Path, ownership: &Ownership<'_>) -> Result<Vec<String>> {
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(format!("read directory {}", data_dir.display()))(e)),
    };
    let mut strangers = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
        let Some(name) = name.filter(|name| name.contains('_')) else { continue };
        // Both halves may hold the character that joins them: the container is one that somebody has heard of.
        let halves = name.match_indices('_').map(|(at, _)| ownership.owner_of(&name[..at]));
        let owners: Vec<Owner> = halves.filter(|owner| *owner != Owner::Unknown).collect();
        match owners.as_slice() {
            [] => strangers.push(format!("settings noted by tuning in {}", path.display())),
            owners if owners.contains(&Owner::Living) => {}
            // Only old values are lost with it, and what they were of is gone.
            _ => drop(fs::remove_file(&path)),
        }
    }
    Ok(strangers)
}

fn file_of_reference(data_dir: &Path, point: &Point<'_>) -> PathBuf {
    data_dir.join(format!("{}_{}.json", point.container, point.ifname))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_told_from_those_of_others_and_survives() {
        let mut backup = Backup { index: 7, mac: "02:00:00:00:00:01".to_owned(), ..Backup::default() };
        backup.remember(&["core".to_owned(), "somaxconn".to_owned()], "128".to_owned());
        assert_eq!(
            backup.state().to_json(),
            r#"{"tuning":{"index":7,"mac":"02:00:00:00:00:01","sysctl":{"core/somaxconn":"128"}}}"#
        );
        assert_eq!(Backup::from_state(&backup.state()), Some(backup));
        assert_eq!(Backup::from_state(&Object::parse(br#"{"loan":{}}"#).unwrap()), None);
        assert!(Backup { index: 7, ..Backup::default() }.is_empty());
    }
}
