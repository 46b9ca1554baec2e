//! DEL: undoes exactly what the record says, or, without a record, what the node configuration would have attached.

use attachments::names::PodRef;

use delegates::netns;

use super::lock::SandboxLock;
use super::record::{Intent, Record};
use super::store::RecordFile;
use super::undo::{Surroundings, namespace_id, undo};
use super::{Run, lookup, resume, warn};
use crate::fault::{Fault, Result};
use crate::request::Target;

/// The namespace that we run in.
const OWN: &str = "/proc/self/ns/net";

/// Detaches a sandbox from everything. A success only when everything is undone.
pub fn del(run: &Run<'_>) -> Result<()> {
    let target = run.target()?;
    refuse_own_namespace(&target.netns)?;
    let lock = SandboxLock::acquire(&run.store.locks(), &target.container, run.deadline)?;
    let around = Surroundings { state_dir: &run.conf.state_dir, deadline: run.deadline, lock: &lock };
    let record = match run.store.find(&run.key(target))? {
        Some(found) if !found.record.damaged => found,
        Some(found) => replace_damaged(run, target, found)?,
        None => default_network(run, target)?,
    };
    let undone = undo(record, &target.netns, &around);
    drop(lock);
    resume::others(run);
    undone
}

/// Pods older than the installation, and repeated DELs: the default network as the node has it now. The record is made up
/// and lives for this call only; a runtime that is told of a failure repeats the DEL.
fn default_network(run: &Run<'_>, target: &Target) -> Result<RecordFile> {
    let pod = target.pod().ok().flatten();
    Ok(run.store.unwritten(intent(run, target, pod)?))
}

/// A damaged record cannot say all that it held. What it still says is kept; the rest is what the node would attach.
fn replace_damaged(run: &Run<'_>, target: &Target, mut found: RecordFile) -> Result<RecordFile> {
    warn(&format!("the record of sandbox {} is damaged; undoing what can be known", target.container));
    if found.record.intent.is_none() {
        let intent = intent(run, target, target.pod().ok().flatten())?;
        found.record = Record { intent: Some(intent), ..Record::default() };
    }
    Ok(found)
}

fn intent(run: &Run<'_>, target: &Target, pod: Option<PodRef>) -> Result<Intent> {
    Ok(Intent {
        key: run.key(target),
        pod,
        netns: target.netns.clone(),
        netns_id: namespace_id(&target.netns).unwrap_or_default(),
        plugin_dirs: run.conf.plugin_dirs.clone(),
        builtin: run.conf.builtin.clone(),
        attachments: lookup::default_only(run, target)?,
    })
}

/// What a pod's DEL removes from a namespace must never be removed from the host's.
fn refuse_own_namespace(netns: &str) -> Result<()> {
    let is_own = !netns.is_empty() && namespace_id(netns).is_some_and(|id| Some(id) == namespace_id(OWN));
    if is_own && !netns::own_is_allowed() {
        return Err(Fault::Netns(format!("CNI_NETNS: got {netns:?}, the node's own namespace, want a pod's")));
    }
    Ok(())
}
