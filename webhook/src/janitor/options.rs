//! Flags of the janitor.

use std::time::Duration;

use clap::Args;

/// What the janitor is told.
#[derive(Clone, Debug, Args)]
pub struct JanitorOptions {
    /// Runs the janitor and nothing else: no admission, no certificates, a Lease of its own.
    #[arg(long = "janitor-only", env = "META_CNI_JANITOR_ONLY")]
    pub only: bool,
    /// Pause between two passes of the janitor, in seconds. A policy that changes is counted sooner.
    #[arg(long = "janitor-pause", env = "META_CNI_JANITOR_PAUSE", value_name = "SECONDS", default_value = "60", value_parser = pause)]
    pub pause: Duration,
}

impl Default for JanitorOptions {
    fn default() -> Self {
        Self { only: false, pause: Duration::from_secs(60) }
    }
}

fn pause(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("got {text:?}, want whole seconds, at least 1")),
    }
}
