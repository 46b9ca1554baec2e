//! Where the sandbox of a record is, if it still is anywhere: whose links are touched when it is undone.

use std::fs;
use std::path::Path;

use attachments::cni::result::CniResult;
use attachments::names::Mac;
use delegates::apply::Sandbox;
use delegates::call::Node;
use delegates::error::Error;
use delegates::netns;

use super::boot;
use super::chain::has_external;
use super::record::Intent;
use crate::fault::{Fault, Result};

/// What is known of it before anybody looks.
#[derive(Clone, Copy, Debug)]
pub enum Whereabouts<'a> {
    /// CNI_NETNS of this call, which may be newer than the record's. Where it is empty, the record's path is all there is.
    Given(&'a str),
    /// Nobody says it: the record's path.
    Recorded,
    /// The sandbox is dead, whatever the path leads to by now.
    Gone,
}

/// Where the pod is, if it still is anywhere.
pub struct FoundSandbox {
    /// The open namespace; nothing when it is gone or another pod's.
    pub sandbox: Option<Sandbox>,
    /// CNI_NETNS for external delegates. Empty keeps them out of a namespace that is not the pod's.
    pub for_delegates: String,
}

impl FoundSandbox {
    /// Opens it, unless it is gone: with the node's last boot, as the caller knows, or as the path tells.
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
            // Gone in the meantime, or a left-over mount point: nothing of the pod is there.
            Err(Error::Netns { .. }) => return Ok(gone("")),
            Err(source) => {
                return Err(Fault::Delegate { subject: format!("sandbox {}", intent.key.container), source });
            }
        };
        if path == intent.netns && namespace_id(path).is_some_and(|id| id != intent.netns_id) {
            return Ok(gone(""));
        }
        // Our own links prove themselves one by one; only a program would take what it finds under the pod's names.
        let runs_programs = intent.attachments.iter().any(|attachment| has_external(attachment, node));
        if runs_programs && !is_the_pods(&mut sandbox, results, is_given) {
            return Ok(Self { sandbox: Some(sandbox), for_delegates: String::new() });
        }
        Ok(Self { sandbox: Some(sandbox), for_delegates: path.to_owned() })
    }
}

/// A namespace path can be reused, and so can its inode. What proves that it is the pod's is a hardware address of the
/// record. Without one the word of the runtime counts, unless a link of another address has a name of the record; the
/// record's own word counts only for a set that was complete and has no hardware address at all.
fn is_the_pods(sandbox: &mut Sandbox, results: &[Option<CniResult>], is_given: bool) -> bool {
    let ours = mac_addresses(results.iter().flatten());
    if ours.is_empty() {
        return is_given || results.iter().any(Option::is_some);
    }
    // The kernel's answer counts only when there is one.
    let Ok(links) = sandbox.netlink.links(None) else { return is_given };
    let is_present = |mac: Mac| links.iter().any(|link| link.mac == Some(mac));
    let is_taken = |name: &str| links.iter().any(|link| link.name.as_str() == name);
    ours.iter().any(|(_, mac)| is_present(*mac)) || (is_given && !ours.iter().any(|(name, _)| is_taken(name)))
}

/// Name and hardware address of everything that results say is in the pod.
pub fn mac_addresses<'a>(results: impl Iterator<Item = &'a CniResult>) -> Vec<(&'a str, Mac)> {
    let in_pod = results.flat_map(|result| &result.interfaces).filter(|interface| !interface.sandbox.is_empty());
    in_pod.filter_map(|interface| Some((interface.name.as_str(), interface.mac.parse().ok()?))).collect()
}

/// Device and inode of a namespace.
pub fn namespace_id(path: &str) -> Option<(u64, u64)> {
    netns::id(Path::new(path)).ok()
}
