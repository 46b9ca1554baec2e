//! The backoff for rewriting our conflist after another program removed or changed it. Two products that both insist on their file
//! would otherwise rewrite it without end.

use std::time::{Duration, Instant};

/// The first pause before the file is written again.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// After this time without a rewrite the backoff starts over.
pub(super) const QUIET: Duration = Duration::from_secs(600);

/// When the file was rewritten, and how often without a quiet time in between.
#[derive(Debug, Default)]
pub(super) struct RewriteBackoff {
    count: u32,
    last: Option<Instant>,
}

impl RewriteBackoff {
    /// How long to leave the file as it is; zero the first time.
    pub(super) fn pause(&mut self, now: Instant) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        let since = now.duration_since(last);
        if since >= QUIET {
            self.count = 0;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.count.saturating_sub(1).min(6));
        if self.count == 0 { Duration::ZERO } else { doubled.min(LAST_PAUSE).saturating_sub(since) }
    }

    /// The file is rewritten now.
    pub(super) fn add(&mut self, now: Instant) {
        self.count += 1;
        self.last = Some(now);
    }

    /// The number of rewrites.
    pub(super) fn count(&self) -> u32 {
        self.count
    }
}
