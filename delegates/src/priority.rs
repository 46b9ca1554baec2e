//! CPU priority of a call.
//!
//! A call needs a few milliseconds of CPU, in some hundred pieces between waits for the kernel, and its pod cannot start before the
//! call ends. When many pods start at once, the CPUs are busy with containers that have started, and a call that queues behind
//! them for each piece takes a hundred times as long (measured with 30 pods on 2 CPUs: docs/performance.md). So a call raises
//! its priority with setpriority(2). Without CAP_SYS_NICE it runs at normal priority.

use std::sync::OnceLock;

use rustix::process::{getpriority_process, setpriority_process};

/// The change of the nice value: a weight of about nine (sched(7)).
const AHEAD: i32 = 10;

/// The nice value before the priority was raised; unset when it was not.
static NORMAL: OnceLock<i32> = OnceLock::new();

/// Raises the priority of this thread and of those that it starts.
pub fn raise_priority() {
    if let Ok(normal) = getpriority_process(None)
        && setpriority_process(None, normal - AHEAD).is_ok()
    {
        let _ = NORMAL.set(normal);
    }
}

/// Spawns a child at normal priority: the child may outlive this call.
pub(crate) fn at_normal_priority<T>(start: impl FnOnce() -> T) -> T {
    let Some(normal) = NORMAL.get() else { return start() };
    // If one of these fails, the child has the raised priority, or the rest of the call has the normal one.
    let _ = setpriority_process(None, *normal);
    let started = start();
    let _ = setpriority_process(None, normal - AHEAD);
    started
}
