//! `meta-cnid install`: the programs on the node. Being built.

use clap::Args;

use crate::fault::{Fault, Result};

/// What goes where.
#[derive(Clone, Debug, Args)]
pub struct Options {}

/// Puts the programs in place.
pub fn install(_options: &Options) -> Result<()> {
    Err(Fault::Unsupported("install: not built yet".to_owned()))
}
