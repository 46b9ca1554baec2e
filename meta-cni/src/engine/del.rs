//! DEL: undoes exactly what the record says, or, without a record, what the node configuration would have attached.

use delegates::netns;

use super::lock::SandboxLock;
use super::record::{Done, Intent, RecordedAttachment};
use super::run::Run;
use super::salvage::undo_damaged;
use super::sandbox_lookup::{Whereabouts, namespace_id};
use super::undo::{UndoContext, undo};
use super::{libcni_cache, resolve, resume};
use crate::fault::{Fault, Result};
use crate::request::Target;

/// Our own namespace.
const OWN: &str = "/proc/self/ns/net";

/// Detaches a sandbox from all networks. Success means that everything is undone.
pub fn del(run: &Run<'_>, target: &Target) -> Result<()> {
    refuse_own_namespace(&target.netns)?;
    let lock = SandboxLock::acquire_for_undo(&run.store, &run.key(target), run.deadline)?;
    let context = run.del_context(&lock);
    let found = run.store.find(&run.key(target))?;
    if let Some(intent) = found.as_ref().and_then(|found| found.record.intent.as_ref()) {
        run.notes.undoes(&intent.attachments);
    }
    let undone = match found {
        Some(found) if !found.record.damaged => undo(found, Whereabouts::Given(&target.netns), &context),
        Some(found) => undo_damaged(run, found, target, Whereabouts::Given(&target.netns), &context),
        None => unrecorded(run, target, &context),
    };
    drop(lock);
    resume::others(run);
    undone
}

/// DEL of a pod that is older than the installation: undoes what another meta plugin cached, and the default network as the
/// node has it now. The record is made up for this call; the runtime repeats a DEL that failed. A success leaves a tombstone,
/// because runtimes repeat a DEL that succeeded too: with a tombstone and without the namespace nothing is left to do. A
/// namespace that exists is undone again, because the earlier DEL may have named another one.
fn unrecorded(run: &Run<'_>, target: &Target, context: &UndoContext<'_>) -> Result<()> {
    let (key, tombstones) = (run.key(target), run.store.tombstones());
    if namespace_id(&target.netns).is_none() && tombstones.contains(&key) {
        return Ok(());
    }
    let cached = libcni_cache::find(&run.conf.cni_dir, &target.container, &target.ifname);
    let mut intent = node_networks(run, target)?;
    intent.attachments.retain(|ours| !cached.iter().any(|theirs| theirs.attachment.ifname == ours.ifname));
    let mut done = Done { attached: vec![RecordedAttachment::default(); intent.attachments.len()] };
    intent.attachments.extend(cached.iter().map(|one| one.attachment.clone()));
    done.attached.extend(cached.iter().map(|one| one.entry.clone()));
    // A default network that cannot be found is not undone: the next DEL looks again.
    let is_known = !intent.attachments.is_empty();
    undo(run.store.unwritten(intent, done), Whereabouts::Given(&target.netns), context)?;
    if is_known {
        // Without the tombstone the next DEL does the same again.
        let _ = tombstones.add(&key);
    }
    if !cached.is_empty() {
        libcni_cache::forget(&run.conf.cni_dir, &target.container, &cached);
    }
    Ok(())
}

/// The intent of an ADD for a pod without annotations.
pub fn node_networks(run: &Run<'_>, target: &Target) -> Result<Intent> {
    Ok(run.intent(target, target.pod().ok().flatten(), resolve::default_only(run, target)?))
}

/// A DEL removes links by name, and must never do so in the host's namespace.
fn refuse_own_namespace(netns: &str) -> Result<()> {
    let is_own = !netns.is_empty() && namespace_id(netns).is_some_and(|id| Some(id) == namespace_id(OWN));
    if is_own && !netns::own_is_allowed() {
        return Err(Fault::Netns(format!("CNI_NETNS: got {netns:?}, the node's own namespace, want a pod's")));
    }
    Ok(())
}
