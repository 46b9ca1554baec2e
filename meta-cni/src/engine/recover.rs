//! Recovery (`meta-cni replay`): undoes what a crash or a restart of the node left behind, without a call of the runtime.
//!
//! Runtimes do not repeat what failed, and after a restart they may have forgotten sandboxes. So the agent starts a recovery,
//! which resumes unfinished undos, undoes the records of dead sandboxes, and lets built-in delegates remove the leftovers of
//! containers without a record. A sandbox that is alive, or that a call has locked, is not touched.

use std::time::{Duration, Instant};

use super::gc;
use super::gc::Asked;
use super::liveness::{Liveness, judge};
use super::lock::SandboxLock;
use super::record::{Intent, Key};
use super::resume::{self, Resumed};
use super::run::Run;
use super::sandbox_lookup::Whereabouts;
use super::store::{DAMAGED, Pending, RecordFile};
use super::undo::{undo, undo_part};
use crate::fault::{Fault, Result};
use crate::recovery::{RecordSummary, RecoveryReport};

/// Time for one record: a delegate that hangs must not use up the time of the others.
const SHARE: Duration = Duration::from_secs(10);

/// Runs a recovery. `idle` is how long an unfinished undo must have been left alone.
pub fn recover(run: &Run<'_>, idle: Duration) -> Result<RecoveryReport> {
    let mut report = RecoveryReport::default();
    let mut asked = Asked::default();
    for pending in run.store.pending()? {
        let known = gc::intent(run, &pending.key);
        let summary = summary(&pending.key, known.as_ref(), true);
        match resume_one(run, &pending, idle) {
            Ok(()) => {
                asked.leave(known);
                report.resumed.push(summary);
            }
            Err(why) => {
                asked.stay(run, known);
                report.left.push(RecordSummary { why, ..summary });
            }
        }
    }
    for (file, waited) in run.store.abandoned()? {
        let (key, known) = (file.key.clone(), file.record.intent.clone());
        let summary = summary(&key, known.as_ref(), true);
        match resume_abandoned(run, file, waited, idle) {
            Ok(()) => {
                asked.leave(known);
                report.resumed.push(summary);
            }
            Err(why) => report.left.push(RecordSummary { why, ..summary }),
        }
    }
    for (key, _) in run.store.settled()? {
        let known = gc::intent(run, &key);
        let summary = summary(&key, known.as_ref(), false);
        match settle_one(run, &key) {
            Ok(Settled::Living) => {
                asked.stay(run, known);
                report.living += 1;
            }
            Ok(Settled::Gone) => {}
            Ok(Settled::Released(why)) => {
                asked.leave(known);
                report.released.push(RecordSummary { why, ..summary });
            }
            Err((why, pending)) => {
                asked.stay(run, known);
                report.left.push(RecordSummary { why, pending, ..summary });
            }
        }
    }
    let (unknown, faults) = gc::reclaim(run, asked);
    report.unknown = unknown.into_iter().take(RecoveryReport::SHOWN).collect();
    report.faults = faults.iter().map(ToString::to_string).collect();
    SandboxLock::sweep(&run.store.locks());
    run.store.sweep();
    Ok(report)
}

fn summary(key: &Key, intent: Option<&Intent>, pending: bool) -> RecordSummary {
    RecordSummary {
        network: key.network.clone(),
        container: key.container.clone(),
        ifname: key.ifname.clone(),
        pod: intent.and_then(|intent| intent.pod.as_ref()).map(ToString::to_string),
        why: String::new(),
        pending,
    }
}

/// Finishes an undo that was left alone long enough. The error says why it is left.
fn resume_one(run: &Run<'_>, pending: &Pending, idle: Duration) -> std::result::Result<(), String> {
    if pending.idle < idle {
        return Err(format!("last touched {} s ago", pending.idle.as_secs()));
    }
    match resume::resume(run, &pending.key, share(run)?, |_| true) {
        Ok(Resumed::Undone) => Ok(()),
        Ok(Resumed::No(why)) => Err(why.to_owned()),
        Err(fault) => Err(fault.to_string()),
    }
}

/// The DEL of the pod came to its end without the program that attached it; the program may be back.
fn resume_abandoned(
    run: &Run<'_>,
    file: RecordFile,
    waited: Duration,
    idle: Duration,
) -> std::result::Result<(), String> {
    if waited < idle {
        return Err(format!("given up; last tried {} s ago", waited.as_secs()));
    }
    let lock = SandboxLock::try_acquire(&run.store.locks(), &file.key.container).map_err(|fault| fault.to_string())?;
    let lock = lock.ok_or_else(|| "a call is at work on the sandbox".to_owned())?;
    undo(file, Whereabouts::Gone, &run.undo_context(share(run)?, &lock)).map_err(|fault| fault.to_string())
}

/// What became of a settled record.
enum Settled {
    Living,
    Released(String),
    /// Another call removed it meanwhile.
    Gone,
}

/// Undoes the record of a dead sandbox. The error says why a record was left, and whether its undo has begun.
fn settle_one(run: &Run<'_>, key: &Key) -> std::result::Result<Settled, (String, bool)> {
    let untouched = |fault: Fault| (fault.to_string(), false);
    let deadline = share(run).map_err(|why| (why, false))?;
    let lock = SandboxLock::try_acquire(&run.store.locks(), &key.container).map_err(untouched)?;
    let Some(lock) = lock else { return Ok(Settled::Living) };
    let Some(found) = run.store.find(key).map_err(untouched)?.filter(|found| found.is_settled()) else {
        return Ok(Settled::Gone);
    };
    let Some(intent) = &found.record.intent else { return Err((DAMAGED.to_owned(), false)) };
    let done = found.record.done.as_ref();
    match judge(intent, done, &intent.node(&run.undo_context(deadline, &lock))) {
        Liveness::Alive => {
            finish_hot_plug(run, found, deadline, &lock).map_err(untouched)?;
            Ok(Settled::Living)
        }
        Liveness::Unsure(why) => Err((why, false)),
        Liveness::Dead(why) => {
            let context = run.undo_context(deadline, &lock);
            match undo(found, Whereabouts::Gone, &context) {
                Ok(()) => Ok(Settled::Released(why)),
                Err(fault) => Err((format!("{why}; its undo is not complete: {fault}"), true)),
            }
        }
    }
}

/// Undoes what a killed hot-plug left of a living sandbox, half attached or half taken away.
fn finish_hot_plug(run: &Run<'_>, mut file: RecordFile, deadline: Instant, lock: &SandboxLock) -> Result<()> {
    match file.record.unfinished() {
        unfinished if unfinished.is_empty() => Ok(()),
        unfinished => undo_part(&mut file, &unfinished, &run.undo_context(deadline, lock)),
    }
}

/// The deadline of the next record.
fn share(run: &Run<'_>) -> std::result::Result<Instant, String> {
    let now = Instant::now();
    if now >= run.deadline {
        return Err("no time was left for it".to_owned());
    }
    Ok(run.deadline.min(now + SHARE))
}
