//! The node configuration that the runtime reads, kept in place. Being built.

use super::Options;
use crate::fault::Result;

/// Keeps the configuration in place; ends only with an error.
pub async fn run(_options: &Options) -> Result<()> {
    std::future::pending().await
}
