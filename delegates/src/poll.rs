//! Waiting for the kernel in small steps.

use std::thread;
use std::time::{Duration, Instant};

/// Waiting for the kernel in small steps: what is nearly done is seen at once, what takes long costs little.
pub struct PollTimer {
    until: Instant,
    step: Duration,
}

impl PollTimer {
    /// Waits no longer than until then.
    pub fn until(until: Instant) -> Self {
        Self { until, step: Duration::from_micros(50) }
    }

    /// Sleeps one step; `false` when the time is over.
    pub fn pause(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        thread::sleep(self.step.min(left));
        self.step = (self.step * 2).min(Duration::from_millis(20));
        !left.is_zero()
    }
}
