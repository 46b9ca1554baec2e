//! First at the processor.
//!
//! A call needs a few milliseconds of it, in some hundred pieces with waits for the kernel between them, and a pod cannot
//! start before its end. Where many pods start at once the processors are busy with what comes after that, and a call that
//! queues behind it for each of its pieces takes a hundred times as long (measured with 30 pods on 2 CPUs:
//! docs/performance.md). So it goes ahead, by setpriority(2); without the right to it (CAP_SYS_NICE) it goes on as it is.

use std::sync::OnceLock;

use rustix::process::{getpriority_process, setpriority_process};

/// By how much: a weight of about nine (sched(7), nice values).
const AHEAD: i32 = 10;

/// What was usual before; absent when it is so still.
static USUAL: OnceLock<i32> = OnceLock::new();

/// From now on this thread, and those that it starts, go ahead.
pub fn raise_priority() {
    if let Ok(usual) = getpriority_process(None)
        && setpriority_process(None, usual - AHEAD).is_ok()
    {
        let _ = USUAL.set(usual);
    }
}

/// Starts what may live longer than the call, and is not to hurry all its life.
pub(crate) fn at_normal_priority<T>(start: impl FnOnce() -> T) -> T {
    let Some(usual) = USUAL.get() else { return start() };
    // Where one of these fails the child hurries, or the rest of the call does not.
    let _ = setpriority_process(None, *usual);
    let started = start();
    let _ = setpriority_process(None, usual - AHEAD);
    started
}
