//! When a sandbox may be repaired again. A pod that undoes a repair each time must not be repaired for ever at the same pace. A value
//! without I/O and clock.

use std::collections::HashMap;
use std::time::Duration;

use attachments::names::ContainerId;
use tokio::time::Instant;

/// The pause after a repair, doubled each time, and the longest pause.
const PAUSE: (Duration, Duration) = (Duration::from_secs(180), Duration::from_secs(3600));

/// The sandboxes that were repaired lately.
#[derive(Debug, Default)]
pub struct Pauses(HashMap<ContainerId, Pause>);

#[derive(Debug)]
struct Pause {
    repairs: u32,
    until: Instant,
}

impl Pauses {
    /// True when a repair may begin now; the next pause begins with it.
    pub fn take(&mut self, container: &ContainerId, now: Instant) -> bool {
        let pause = self.0.entry(container.clone()).or_insert(Pause { repairs: 0, until: now });
        if now < pause.until {
            return false;
        }
        pause.until = now + PAUSE.0.saturating_mul(1 << pause.repairs.min(16)).min(PAUSE.1);
        pause.repairs += 1;
        true
    }

    /// Forgets the sandboxes whose pause is over, unless something is wrong with them still.
    pub fn retain(&mut self, differs: impl Fn(&ContainerId) -> bool, now: Instant) {
        self.0.retain(|container, pause| now < pause.until || differs(container));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_repaired_ever_more_seldom_until_it_stays_well() {
        let (mut pauses, mut now) = (Pauses::default(), Instant::now());
        let container: ContainerId = "c".parse().unwrap();
        let mut waits = Vec::new();
        for _ in 0..7 {
            assert!(pauses.take(&container, now));
            let until = pauses.0[&container].until;
            assert!(!pauses.take(&container, until - Duration::from_secs(1)));
            pauses.retain(|_| true, until);
            waits.push((until - now).as_secs());
            now = until;
        }
        assert_eq!(waits, [180, 360, 720, 1440, 2880, 3600, 3600]);
        pauses.retain(|_| false, now);
        assert!(pauses.0.is_empty());
    }
}
