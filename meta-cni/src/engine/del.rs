//! DEL: undoes exactly what the record says, or, without a record, what the node configuration would have attached.

use delegates::netns;

use super::lock::SandboxLock;
use super::record::{AttachedEntry, Done, Intent};
use super::run::Run;
use super::salvage::undo_damaged;
use super::sandbox_lookup::{Whereabouts, namespace_id};
use super::undo::{Surroundings, undo};
use super::{libcni_cache, resolve, resume};
use crate::fault::{Fault, Result};
use crate::request::Target;

/// The namespace that we run in.
const OWN: &str = "/proc/self/ns/net";

/// Detaches a sandbox from everything. A success only when everything is undone.
pub fn del(run: &Run<'_>, target: &Target) -> Result<()> {
    refuse_own_namespace(&target.netns)?;
    let lock = SandboxLock::acquire_for_undo(&run.store, &run.key(target), run.deadline)?;
    let around = Surroundings { state_dir: &run.conf.state_dir, deadline: run.deadline, lock: &lock };
    let undone = match run.store.find(&run.key(target))? {
        Some(found) if !found.record.damaged => undo(found, Whereabouts::Given(&target.netns), &around),
        Some(found) => undo_damaged(run, found, target, Whereabouts::Given(&target.netns), &around),
        None => unrecorded(run, target, &around),
    };
    drop(lock);
    resume::others(run);
    undone
}

/// Pods older than the installation: what another meta plugin has noted, and the default network as the node has it now.
/// The record is made up and lives for this call only; a runtime that is told of a failure repeats the DEL. What succeeded is
/// remembered: runtimes repeat that too. With the namespace gone nothing is left to do then; one that is there is looked at
/// again, for the call before may have named another.
fn unrecorded(run: &Run<'_>, target: &Target, around: &Surroundings<'_>) -> Result<()> {
    let (key, tombstones) = (run.key(target), run.store.tombstones());
    if namespace_id(&target.netns).is_none() && tombstones.contains(&key) {
        return Ok(());
    }
    let cached = libcni_cache::find(&run.conf.cni_dir, &target.container, &target.ifname);
    let mut intent = node_networks(run, target)?;
    intent.attachments.retain(|ours| !cached.iter().any(|theirs| theirs.attachment.ifname == ours.ifname));
    let mut done = Done { attached: vec![AttachedEntry::default(); intent.attachments.len()] };
    intent.attachments.extend(cached.iter().map(|one| one.attachment.clone()));
    done.attached.extend(cached.iter().map(|one| one.entry.clone()));
    // A default network that could not be found was not undone: the next DEL looks again.
    let is_known = !intent.attachments.is_empty();
    undo(run.store.unwritten(intent, done), Whereabouts::Given(&target.netns), around)?;
    if is_known {
        // Without the note the next DEL merely does the same again.
        let _ = tombstones.add(&key);
    }
    if !cached.is_empty() {
        libcni_cache::forget(&run.conf.cni_dir, &target.container, &cached);
    }
    Ok(())
}

/// The intent of an ADD for a pod that asks for nothing.
pub fn node_networks(run: &Run<'_>, target: &Target) -> Result<Intent> {
    Ok(run.intent(target, target.pod().ok().flatten(), resolve::default_only(run, target)?))
}

/// What a pod's DEL removes from a namespace must never be removed from the host's.
fn refuse_own_namespace(netns: &str) -> Result<()> {
    let is_own = !netns.is_empty() && namespace_id(netns).is_some_and(|id| Some(id) == namespace_id(OWN));
    if is_own && !netns::own_is_allowed() {
        return Err(Fault::Netns(format!("CNI_NETNS: got {netns:?}, the node's own namespace, want a pod's")));
    }
    Ok(())
}
