//! Resumes unfinished undos. The next call on the node does it, because runtimes do not repeat a failed ADD's DEL.
//!
//! The cost for a call of another pod is bounded, however many records wait: it reads [`NAMES`] names, opens [`LOOKS`]
//! records and undoes one. The agent's recovery does the rest.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use attachments::names::PodRef;

use super::boot;
use super::lock::SandboxLock;
use super::log::warn;
use super::record::Key;
use super::run::Run;
use super::sandbox_lookup::Whereabouts;
use super::store::DAMAGED;
use super::undo::undo;
use crate::fault::Result;
use crate::request::LEFT_ALONE;

/// Names of pending records that one call reads at the most: some 0.3 ms.
const NAMES: usize = 1024;
/// Records of other pods that one call opens: a stat, a lock and a read each.
const LOOKS: usize = 16;
/// How long one call may look for a record that it can undo.
const LOOK: Duration = Duration::from_millis(5);
/// Time for the one undo of another pod. The attachments that are undone by then are marked.
const BUDGET: Duration = Duration::from_millis(500);
/// Records whose first bytes an ADD reads to find those of its own pod: some 3 us each.
const BEGINNINGS: usize = 256;

/// Before an ADD: undoes what is left of the pod's earlier sandboxes, because they may hold the addresses that the ADD
/// needs. The index of failed undos finds a failed undo. What a killed call left is found by the first bytes of pending
/// records, at most [`BEGINNINGS`] of them.
pub fn same_pod(run: &Run<'_>, pod: &PodRef) {
    let until = Instant::now() + run.conf.timeout / 4;
    let failed = run.store.failed().keys(pod);
    let left = some_pending(run, BEGINNINGS).into_iter().filter(|key| run.store.is_about(key, pod));
    let mut seen = HashSet::new();
    for key in failed.into_iter().chain(left) {
        if seen.insert(key.to_string()) {
            warn_incomplete(&key, resume(run, &key, until, |owner| owner.is_some_and(|owner| is_same(owner, pod))));
        }
    }
}

/// Undoes the sets of earlier boots of the node, within half of the time that is left: what they hold nobody uses. True when there was
/// one.
pub fn earlier_boots(run: &Run<'_>) -> bool {
    let until = Instant::now() + run.deadline.saturating_duration_since(Instant::now()) / 2;
    let mut is_any = false;
    for key in run.store.keys().unwrap_or_default() {
        if Instant::now() >= until {
            break;
        }
        let Ok(Some(lock)) = SandboxLock::try_acquire(&run.store.locks(), &key.container) else { continue };
        let Ok(Some(found)) = run.store.find(&key) else { continue };
        if found.record.intent.as_ref().is_some_and(boot::is_over) {
            is_any = true;
            let undone = undo(found, Whereabouts::Gone, &run.undo_context(until, &lock)).map(|()| Resumed::Undone);
            warn_incomplete(&key, undone);
        }
    }
    is_any
}

/// After a call's own work: resumes one undo of any pod.
pub fn others(run: &Run<'_>) {
    let began = Instant::now();
    for (looks, key) in some_pending(run, LOOKS).into_iter().enumerate() {
        if looks > 0 && began.elapsed() >= LOOK {
            return;
        }
        if run.store.idle(&key).is_none_or(|idle| idle < LEFT_ALONE) {
            continue;
        }
        let attempt = resume(run, &key, Instant::now() + BUDGET, |_| true);
        let was_tried = !matches!(attempt, Ok(Resumed::No(_)));
        warn_incomplete(&key, attempt);
        if was_tried {
            return;
        }
    }
}

fn some_pending(run: &Run<'_>, keep: usize) -> Vec<Key> {
    run.store.some_pending(NAMES, keep).unwrap_or_else(|fault| {
        warn(&fault.to_string());
        Vec::new()
    })
}

/// What became of a record in `pending/`.
pub enum Resumed {
    /// Everything is undone.
    Undone,
    /// The record was left alone, for this reason.
    No(&'static str),
}

/// Undoes a pending record, unless a call is at work on its sandbox.
pub fn resume(
    run: &Run<'_>,
    key: &Key,
    deadline: Instant,
    is_wanted: impl Fn(Option<&PodRef>) -> bool,
) -> Result<Resumed> {
    let own = run.request.operation.target().is_some_and(|target| target.container == key.container);
    if own {
        return Ok(Resumed::No("this call is about it"));
    }
    let Some(lock) = SandboxLock::try_acquire(&run.store.locks(), &key.container)? else {
        return Ok(Resumed::No("a call is at work on the sandbox"));
    };
    let Some(found) = run.store.find(key)? else { return Ok(Resumed::Undone) };
    let owner = found.record.intent.as_ref().and_then(|intent| intent.pod.as_ref());
    if found.is_settled() || !is_wanted(owner) {
        return Ok(Resumed::No("nothing is to be undone"));
    }
    // Without its intent nothing can be undone, and removing the record would remove the last trace.
    if found.record.damaged && found.record.intent.is_none() {
        return Ok(Resumed::No(DAMAGED));
    }
    undo(found, Whereabouts::Recorded, &run.undo_context(deadline, &lock))?;
    Ok(Resumed::Undone)
}

fn is_same(owner: &PodRef, pod: &PodRef) -> bool {
    owner.namespace == pod.namespace && owner.name == pod.name
}

fn warn_incomplete(key: &Key, attempt: Result<Resumed>) {
    if let Err(fault) = attempt {
        warn(&format!("sandbox {}: undo is still not complete: {fault}", key.container));
    }
}
