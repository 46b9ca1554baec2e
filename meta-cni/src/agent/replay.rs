//! What must act when the runtime does not call: unfinished undo, and what a crash or a reboot left. Being built.

use super::Options;
use crate::fault::Result;

/// Resumes what is unfinished; ends only with an error.
pub async fn run(_options: &Options) -> Result<()> {
    std::future::pending().await
}
