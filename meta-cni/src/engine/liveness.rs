//! Decides whether the sandbox of a settled record is alive. If unsure, it counts as alive: undoing the record of a live
//! sandbox would take its links and addresses.
//!
//! A namespace has no name of its own: its path can be reused, and its inode number is reused at once. The links in it prove a
//! sandbox: links in the record's group, or with its MAC addresses.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use delegates::call::Node;
use delegates::sandbox::Sandbox;

use super::boot;
use super::record::{Done, Intent};
use super::sandbox_lookup::{mac_addresses, namespace_id};
use super::store::DAMAGED;

/// The state of a sandbox.
#[derive(Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The sandbox exists.
    Alive,
    /// The sandbox is gone, with the reason to say so.
    Dead(String),
    /// The sandbox may exist, with the reason for the doubt: a person should look.
    Unsure(String),
}

/// Compares the boot, the path and the links. The caller holds the sandbox's lock. No sandbox outlives the boot of its node, so
/// after a reboot no result is needed.
pub fn judge(intent: &Intent, done: Option<&Done>, node: &Node<'_>) -> Liveness {
    if boot::is_over(intent) {
        return Liveness::Dead("the node was restarted since".to_owned());
    }
    let Some(done) = done else { return Liveness::Unsure(DAMAGED.to_owned()) };
    let path = intent.netns.as_str();
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => match has_directory(path) {
            true => unnamed(intent, done, node, &format!("{path} is gone")),
            false => Liveness::Unsure(format!("{path}: its directory is not there either")),
        },
        Err(e) => Liveness::Unsure(format!("{path}: {e}")),
        Ok(_) => named(intent, done, node),
    }
}

/// The path exists.
fn named(intent: &Intent, done: &Done, node: &Node<'_>) -> Liveness {
    let path = intent.netns.as_str();
    let mut sandbox = match Sandbox::open(path, node) {
        Ok(sandbox) => sandbox,
        // In a mount namespace without the runtime's mounts, the path is the empty file that the namespace is mounted on.
        Err(error) => return Liveness::Unsure(error.to_string()),
    };
    let is_same = namespace_id(path) == Some(intent.netns_id);
    match holds(&mut sandbox, intent, done) {
        Holds::Ours => Liveness::Alive,
        Holds::Unknown if is_same => Liveness::Alive,
        // A pod may delete its links, and inode numbers are reused.
        Holds::Nothing if is_same => Liveness::Unsure(format!("none of its links is in {path}")),
        Holds::Nothing | Holds::Unknown => unnamed(intent, done, node, &format!("{path} is another namespace by now")),
        Holds::Unread(why) => Liveness::Unsure(format!("{path}: {why}")),
    }
}

/// The namespace has lost its path. It lives on while processes are in it. A process in a namespace with the same inode number
/// may be another pod's.
fn unnamed(intent: &Intent, done: &Done, node: &Node<'_>, why: &str) -> Liveness {
    let Some(inside) = inhabited(intent.netns_id) else { return Liveness::Dead(why.to_owned()) };
    let holds = Sandbox::open(&inside, node).map(|mut sandbox| holds(&mut sandbox, intent, done));
    match holds {
        Ok(Holds::Nothing) => Liveness::Dead(why.to_owned()),
        _ => Liveness::Unsure(format!("{why}, but {inside} may be it")),
    }
}

/// Which links of a record a namespace holds.
enum Holds {
    Ours,
    Nothing,
    /// The record names no link.
    Unknown,
    Unread(String),
}

fn holds(sandbox: &mut Sandbox, intent: &Intent, done: &Done) -> Holds {
    let results: Vec<CniResult> = done
        .attached
        .iter()
        .filter_map(|entry| CniResult::from_object(entry.result.clone(), Version::NEWEST).ok())
        .collect();
    let macs = mac_addresses(results.iter());
    let links = match sandbox.netlink.links(None) {
        Ok(links) => links,
        Err(error) => return Holds::Unread(error.to_string()),
    };
    let group = intent.key.group();
    let is_ours = |link: &delegates::nl::link::Link| {
        link.group == group
            || done.attached.iter().flat_map(|entry| &entry.links).any(|recorded| recorded.is(link))
            || macs.iter().any(|(_, mac)| link.mac == Some(*mac))
    };
    if links.iter().any(is_ours) {
        return Holds::Ours;
    }
    let knows_some = !macs.is_empty() || done.attached.iter().any(|entry| !entry.links.is_empty());
    if knows_some { Holds::Nothing } else { Holds::Unknown }
}

/// Runtimes keep their namespaces in a directory that stays. A missing directory means that we do not see the runtime's mounts.
/// A path in /proc goes with its process.
fn has_directory(path: &str) -> bool {
    let is_process = path.starts_with("/proc/");
    is_process || Path::new(path).parent().is_some_and(Path::is_dir)
}

/// The path in /proc of a process whose network namespace has this device and inode.
pub fn inhabited(id: (u64, u64)) -> Option<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.map(|process| format!("/proc/{process}/ns/net")).find(|path| namespace_id(path) == Some(id))
}
