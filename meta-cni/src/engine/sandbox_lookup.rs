//! Finds the sandbox of a record, if it still exists, and proves that it is the record's before an undo touches its links.

use std::fs;
use std::path::Path;

use attachments::cni::result::CniResult;
use attachments::names::Mac;
use delegates::call::Node;
use delegates::error::Error;
use delegates::netns;
use delegates::sandbox::Sandbox;

use super::boot;
use super::chain::has_external;
use super::record::Intent;
use crate::fault::{Fault, Result};

/// What the caller knows about where the sandbox is.
#[derive(Clone, Copy, Debug)]
pub enum Whereabouts<'a> {
    /// CNI_NETNS of this call, which may be newer than the record's. If it is empty, the record's path is used.
    Given(&'a str),
    /// Nothing: the record's path is used.
    Recorded,
    /// The sandbox is gone, whatever the path leads to now.
    Gone,
}

/// The sandbox that was found.
pub struct FoundSandbox {
    /// The open namespace; None when it is gone or another pod's.
    pub sandbox: Option<Sandbox>,
    /// CNI_NETNS for external delegates. Empty when the namespace is not proved to be the pod's.
    pub for_delegates: String,
}

impl FoundSandbox {
    /// Opens the namespace, unless it is gone: the node was restarted, the caller says so, or the path does not exist.
    pub fn find(
        whereabouts: Whereabouts<'_>,
        intent: &Intent,
        results: &[Option<CniResult>],
        node: &Node<'_>,
    ) -> Result<Self> {
        let gone = |for_delegates: &str| Self { sandbox: None, for_delegates: for_delegates.to_owned() };
        let (path, is_given) = match whereabouts {
            _ if boot::is_over(intent) => return Ok(gone("")),
            Whereabouts::Gone => return Ok(gone("")),
            Whereabouts::Given(path) if !path.is_empty() => (path, true),
            Whereabouts::Given(_) | Whereabouts::Recorded => (intent.netns.as_str(), false),
        };
        if path.is_empty() || fs::symlink_metadata(path).is_err() {
            return Ok(gone(path));
        }
        let mut sandbox = match Sandbox::open(path, node) {
            Ok(sandbox) => sandbox,
            // Gone in the meantime, or a left-over mount point.
            Err(Error::Netns { .. }) => return Ok(gone("")),
            Err(source) => {
                return Err(Fault::Delegate { subject: format!("sandbox {}", intent.key.container), source });
            }
        };
        if path == intent.netns && namespace_id(path).is_some_and(|id| id != intent.netns_id) {
            return Ok(gone(""));
        }
        // Our own links are proved one by one. An external program deletes any link with the name.
        let runs_programs = intent.attachments.iter().any(|attachment| has_external(attachment, node));
        if runs_programs && !is_the_pods(&mut sandbox, results, is_given) {
            return Ok(Self { sandbox: Some(sandbox), for_delegates: String::new() });
        }
        Ok(Self { sandbox: Some(sandbox), for_delegates: path.to_owned() })
    }
}

/// Is the namespace the pod's? A path and an inode can be reused, so a MAC address of the record is the proof. Without a match, a
/// path from the runtime counts, unless a link with another address has a name of the record. The record's own path counts only
/// for a complete set without any MAC address.
fn is_the_pods(sandbox: &mut Sandbox, results: &[Option<CniResult>], is_given: bool) -> bool {
    let ours = mac_addresses(results.iter().flatten());
    if ours.is_empty() {
        return is_given || results.iter().any(Option::is_some);
    }
    // Without an answer of the kernel, the runtime's path counts.
    let Ok(links) = sandbox.netlink.links(None) else { return is_given };
    let is_present = |mac: Mac| links.iter().any(|link| link.mac == Some(mac));
    let is_taken = |name: &str| links.iter().any(|link| link.name.as_str() == name);
    ours.iter().any(|(_, mac)| is_present(*mac)) || (is_given && !ours.iter().any(|(name, _)| is_taken(name)))
}

/// Names and MAC addresses of the interfaces that results report in the pod.
pub fn mac_addresses<'a>(results: impl Iterator<Item = &'a CniResult>) -> Vec<(&'a str, Mac)> {
    let in_pod = results.flat_map(|result| &result.interfaces).filter(|interface| !interface.sandbox.is_empty());
    in_pod.filter_map(|interface| Some((interface.name.as_str(), interface.mac.parse().ok()?))).collect()
}

/// Device and inode of a namespace; None when the path does not exist.
pub fn namespace_id(path: &str) -> Option<(u64, u64)> {
    netns::id(Path::new(path)).ok()
}
