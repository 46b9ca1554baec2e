//! What stays on a node when the last attachment is gone, as long as the plugin is installed: the bridges that we made, tables without a
//! rule, directories of addresses that nobody holds. The reference plugins leave theirs for ever; ours go with the plugin.
//!
//! Nothing that somebody uses is touched: a bridge with a port that is not ours stays, and so does a table with a chain or a rule that
//! is nobody's frame. The bridges of the cluster's own network are told by the caller.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};

use crate::error::Result;
use crate::firewall;
use crate::nl::Netlink;
use crate::nl::link::Link;
use crate::shared::is_ours;

/// What was done, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// What is gone.
    pub removed: Vec<String>,
    /// What is left, and why.
    pub kept: Vec<String>,
}

/// Removes from the kernel what no attachment needs: links that we made for the node, and unused tables. `kept` are names of bridges that
/// others will use.
pub fn clear_kernel(kept: &BTreeSet<String>, deadline: Instant) -> Result<Cleared> {
    let mut cleared = Cleared::default();
    let mut netlink = Netlink::open(deadline)?;
    loop {
        let links = netlink.links(None)?;
        let (gone, stay): (Vec<_>, Vec<_>) =
            judge(&links, kept).into_iter().partition(|(_, reason)| matches!(reason, Reason::Unused));
        // What lies on another one goes first, and then the other is unused.
        let mut is_any = false;
        for (link, _) in gone {
            is_any |= netlink.delete_link(link.index)?;
            cleared.removed.push(format!("link {}", link.name));
        }
        if !is_any {
            cleared.kept = stay.iter().map(|(link, reason)| format!("link {}: {}", link.name, reason.text())).collect();
            break;
        }
    }
    cleared.removed.extend(firewall::clear(deadline)?.into_iter().map(|table| format!("nftables table {table}")));
    Ok(cleared)
}

/// Why a link of ours stays, if it does.
#[derive(Debug, PartialEq, Eq)]
enum Reason<'a> {
    Unused,
    Port(&'a str),
    Named,
}

impl Reason<'_> {
    fn text(&self) -> String {
        match self {
            Self::Unused => "nobody uses it".to_owned(),
            Self::Port(other) => format!("{other} is on it"),
            Self::Named => "the cluster's own network uses it".to_owned(),
        }
    }
}

/// The links that we made for the node, each with what keeps it.
fn judge<'a>(links: &'a [Link], kept: &BTreeSet<String>) -> Vec<(&'a Link, Reason<'a>)> {
    let ours = links.iter().filter(|link| is_ours(link));
    ours.map(|link| {
        let is_on = |other: &&Link| {
            let is_child = other.parent == Some(link.index) && !other.is_parent_elsewhere && other.index != link.index;
            other.master == Some(link.index) || is_child
        };
        let reason = match links.iter().find(is_on) {
            _ if kept.contains(&link.name) => Reason::Named,
            Some(other) => Reason::Port(&other.name),
            None => Reason::Unused,
        };
        (link, reason)
    })
    .collect()
}

/// Removes the directories of host-local in which no address is held. `kept` are the names of networks that others will use. Gives the paths
/// of those that are gone.
pub fn clear_addresses(dir: &Path, kept: &BTreeSet<String>) -> io::Result<Vec<String>> {
    let mut gone = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(gone),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && !kept.contains(&*entry.file_name().to_string_lossy())
            && clear_directory(&entry.path())?
        {
            gone.push(entry.path().display().to_string());
        }
    }
    // It came with the first network. Whoever allocates next makes it anew.
    if fs::remove_dir(dir).is_ok() {
        gone.push(dir.display().to_string());
    }
    Ok(gone)
}

/// Removes one network's directory, under its lock. False when an address is held there, or somebody is at work.
fn clear_directory(dir: &Path) -> io::Result<bool> {
    let lock = dir.join("lock");
    let _locked = match File::open(&lock) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        file => match Flock::lock(file?, FlockArg::LockExclusiveNonblock) {
            Ok(held) => Some(held),
            Err(_) => return Ok(false),
        },
    };
    let names: Vec<_> = fs::read_dir(dir)?.map(|entry| entry.map(|e| e.file_name())).collect::<io::Result<_>>()?;
    let is_nobodys = |name: &str| name == "lock" || name.starts_with("last_reserved_ip.");
    if !names.iter().all(|name| is_nobodys(&name.to_string_lossy())) {
        return Ok(false);
    }
    names.iter().try_for_each(|name| fs::remove_file(dir.join(name)))?;
    fs::remove_dir(dir)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use attachments::names::IfName;

    use super::*;
    use crate::netns::testing::as_host;
    use crate::nl::link::{Bridge, NewKind, NewLink, Peer};
    use crate::shared::OURS;

    #[test]
    fn a_directory_goes_when_nobody_holds_an_address_and_nobody_will_use_it() {
        let dir = tempfile::tempdir().unwrap();
        for (network, files) in [
            ("pods", &["lock", "last_reserved_ip.0"][..]),
            ("lan", &["lock", "last_reserved_ip.0"]),
            ("held", &["lock", "10.1.0.2"]),
            ("busy", &["lock"]),
        ] {
            fs::create_dir(dir.path().join(network)).unwrap();
            files.iter().for_each(|file| fs::write(dir.path().join(network).join(file), "").unwrap());
        }
        let busy = File::open(dir.path().join("busy/lock")).unwrap();
        let _busy = Flock::lock(busy, FlockArg::LockExclusive).unwrap();
        let gone = clear_addresses(dir.path(), &["pods".to_owned()].into()).unwrap();
        assert_eq!(gone, [dir.path().join("lan").display().to_string()]);
        for stays in ["pods/last_reserved_ip.0", "held/10.1.0.2", "busy/lock"] {
            assert!(dir.path().join(stays).exists(), "{stays}");
        }
        assert!(clear_addresses(&dir.path().join("nowhere"), &BTreeSet::new()).unwrap().is_empty());
    }

    #[test]
    fn kernel_what_we_made_goes_and_what_somebody_uses_stays() {
        as_host(|| {
            let deadline = Instant::now() + Duration::from_secs(20);
            let mut netlink = Netlink::open(deadline).unwrap();
            let names: Vec<IfName> = ["lan", "used", "pods", "theirs", "pod1"].map(|name| name.parse().unwrap()).into();
            for (name, group) in names.iter().zip([OURS, OURS, OURS, 0]) {
                let bridge = NewKind::Bridge(Bridge::default());
                netlink.add_link(&NewLink { group, ..NewLink::new(name, bridge) }).unwrap();
            }
            let used = netlink.link_by_name(&names[1]).unwrap().unwrap().index;
            let peer = "far".parse().unwrap();
            let pair = NewKind::Veth(Peer { name: &peer, netns: None, mtu: None, mac: None, group: 0 });
            netlink.add_link(&NewLink { master: Some(used), ..NewLink::new(&names[4], pair) }).unwrap();
            let kept = ["pods".to_owned()].into();
            let cleared = clear_kernel(&kept, deadline).unwrap();
            assert_eq!(cleared.removed, ["link lan"]);
            assert_eq!(cleared.kept, ["link used: pod1 is on it", "link pods: the cluster's own network uses it"]);
            let left = |netlink: &mut Netlink| -> Vec<String> {
                netlink.links(None).unwrap().into_iter().map(|link| link.name).filter(|name| name != "lo").collect()
            };
            for name in ["used", "pods", "theirs", "pod1"] {
                assert!(left(&mut netlink).iter().any(|link| link == name), "{name}");
            }
            let pod = netlink.link_by_name(&names[4]).unwrap().unwrap().index;
            netlink.delete_link(pod).unwrap();
            assert_eq!(clear_kernel(&kept, deadline).unwrap().removed, ["link used"]);
        });
    }
}
