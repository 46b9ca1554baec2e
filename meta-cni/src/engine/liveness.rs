//! Does the sandbox of a settled record still live? Who undoes the record of a living one takes its addresses and links, so
//! what cannot be told counts as living.
//!
//! A namespace has no name of its own: its path can be reused, and its inode number is, at once. What proves a sandbox is
//! what is in it: links in the record's group, or of its hardware addresses.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use delegates::apply::Sandbox;
use delegates::call::Node;

use super::boot;
use super::record::{Done, Intent};
use super::sandbox_lookup::{mac_addresses, namespace_id};
use super::store::DAMAGED;

/// What is known of a sandbox.
#[derive(Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It is there.
    Alive,
    /// It is gone, and this is how that is known.
    Dead(String),
    /// It may be there; somebody should know that this is not clear.
    Unsure(String),
}

/// Looks at boot, path and links. The caller holds the sandbox. A result that a power cut has taken is not needed: no sandbox
/// outlives the boot of its node.
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

/// Something is at the path.
fn named(intent: &Intent, done: &Done, node: &Node<'_>) -> Liveness {
    let path = intent.netns.as_str();
    let mut sandbox = match Sandbox::open(path, node) {
        Ok(sandbox) => sandbox,
        // Where the mounts of the runtime cannot be seen, every namespace looks like the file that it is mounted on.
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

/// The namespace has lost its name. It lives on while processes are in it; one that is in a namespace of the same number
/// may be another pod's.
fn unnamed(intent: &Intent, done: &Done, node: &Node<'_>, why: &str) -> Liveness {
    let Some(inside) = inhabited(intent.netns_id) else { return Liveness::Dead(why.to_owned()) };
    let holds = Sandbox::open(&inside, node).map(|mut sandbox| holds(&mut sandbox, intent, done));
    match holds {
        Ok(Holds::Nothing) => Liveness::Dead(why.to_owned()),
        _ => Liveness::Unsure(format!("{why}, but {inside} may be it")),
    }
}

/// What a namespace holds of a record.
enum Holds {
    Ours,
    Nothing,
    /// The record knows of no link that could be looked for.
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

/// Runtimes keep their namespaces in a directory of their own, which stays: where it is missing, this is not the place from
/// which the runtime sees its namespaces. Of a process that has ended, everything is gone.
fn has_directory(path: &str) -> bool {
    let is_process = path.starts_with("/proc/");
    is_process || Path::new(path).parent().is_some_and(Path::is_dir)
}

/// Where a process shows the network namespace of these numbers.
fn inhabited(id: (u64, u64)) -> Option<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.map(|process| format!("/proc/{process}/ns/net")).find(|path| namespace_id(path) == Some(id))
}
