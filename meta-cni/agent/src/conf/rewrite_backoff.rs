//! How often our file is put back where another program takes it away: two products that both insist on the place would
//! rewrite it without end. Each time, ours waits longer.

use std::time::{Duration, Instant};

/// The first pause before the file is put back again.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// How long a quiet time starts over.
pub(super) const QUIET: Duration = Duration::from_secs(600);

/// When the file was put back, and how many times without a quiet time in between.
#[derive(Debug, Default)]
pub(super) struct RewriteBackoff {
    count: u32,
    last: Option<Instant>,
}

impl RewriteBackoff {
    /// How long the file is to be left as it is; nothing the first time.
    pub(super) fn pause(&mut self, now: Instant) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        let since = now.duration_since(last);
        if since >= QUIET {
            self.count = 0;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.count.saturating_sub(1).min(6));
        if self.count == 0 { Duration::ZERO } else { doubled.min(LAST_PAUSE).saturating_sub(since) }
    }

    /// It is put back now.
    pub(super) fn add(&mut self, now: Instant) {
        self.count += 1;
        self.last = Some(now);
    }

    /// How many times it was.
    pub(super) fn count(&self) -> u32 {
        self.count
    }
}
