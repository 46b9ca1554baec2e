//! Unfinished undos are resumed by whatever comes first: runtimes do not repeat what failed.

use std::time::{Duration, Instant};

use attachments::names::PodRef;

use super::lock::SandboxLock;
use super::place::Whereabouts;
use super::store::{DAMAGED, Pending};
use super::undo::{Surroundings, undo};
use super::{Run, warn};
use crate::fault::Result;
use crate::request::LEFT_ALONE;

/// The most that one call spends on other pods.
const BUDGET: Duration = Duration::from_secs(1);

/// Before an ADD: what is left of this pod's earlier sandboxes, because it may hold the addresses that are wanted now.
pub fn same_pod(run: &Run<'_>, pod: &PodRef) {
    let until = Instant::now() + run.conf.timeout / 4;
    for pending in pending(run) {
        let attempt = resume(run, &pending, until, |owner| owner.is_some_and(|owner| is_same(owner, pod)));
        tell(&pending, attempt);
    }
}

/// After a call's own work: what any pod left behind, for as long as the budget lasts.
pub fn others(run: &Run<'_>) {
    let until = Instant::now() + BUDGET;
    for pending in pending(run).into_iter().filter(|pending| pending.idle >= LEFT_ALONE) {
        if Instant::now() >= until {
            return;
        }
        let attempt = resume(run, &pending, until, |_| true);
        tell(&pending, attempt);
    }
}

fn pending(run: &Run<'_>) -> Vec<Pending> {
    run.store.pending().unwrap_or_else(|fault| {
        warn(&fault.to_string());
        Vec::new()
    })
}

/// What became of a record in `pending/`.
pub enum Resumed {
    /// Everything is undone.
    Undone,
    /// It was left alone, and this is why.
    No(&'static str),
}

/// Undoes a pending record, unless a call is at work on its sandbox.
pub fn resume(
    run: &Run<'_>,
    pending: &Pending,
    deadline: Instant,
    is_wanted: impl Fn(Option<&PodRef>) -> bool,
) -> Result<Resumed> {
    let own = run.request.target.as_ref().is_some_and(|target| target.container == pending.key.container);
    if own {
        return Ok(Resumed::No("this call is about it"));
    }
    let Some(lock) = SandboxLock::try_acquire(&run.store.locks(), &pending.key.container)? else {
        return Ok(Resumed::No("a call is at work on the sandbox"));
    };
    let Some(found) = run.store.find(&pending.key)? else { return Ok(Resumed::Undone) };
    let owner = found.record.intent.as_ref().and_then(|intent| intent.pod.as_ref());
    if found.is_settled() || !is_wanted(owner) {
        return Ok(Resumed::No("nothing is to be undone"));
    }
    // Without its intent nothing could be undone, and with the record the last trace would go.
    if found.record.damaged && found.record.intent.is_none() {
        return Ok(Resumed::No(DAMAGED));
    }
    undo(found, Whereabouts::Recorded, &Surroundings { state_dir: &run.conf.state_dir, deadline, lock: &lock })?;
    Ok(Resumed::Undone)
}

fn is_same(owner: &PodRef, pod: &PodRef) -> bool {
    owner.namespace == pod.namespace && owner.name == pod.name
}

fn tell(pending: &Pending, attempt: Result<Resumed>) {
    if let Err(fault) = attempt {
        warn(&format!("sandbox {}: undo is still not complete: {fault}", pending.key.container));
    }
}
