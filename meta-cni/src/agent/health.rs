//! `meta-cnid health`: what the DaemonSet's probes run. It asks over the socket, as the plugin does.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cluster::Agent;
use crate::cluster::wire::Health;
use crate::fault::{Fault, Result};

/// Whom to ask, and what for.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The agent's socket.
    #[arg(long, env = "META_CNI_SOCKET", value_name = "PATH", default_value = "/run/meta-cni/agent.sock")]
    pub socket: PathBuf,
    /// Asks too whether the runtime's configuration is in place, so that pods get what they ask for.
    #[arg(long)]
    pub ready: bool,
}

/// How long an agent that is on its way back is waited for.
const WAIT: Duration = Duration::from_secs(1);

/// Asks the agent; its answer as one line.
pub fn health(options: &Options) -> Result<String> {
    let health = Agent::new(&options.socket).health(WAIT)?;
    if options.ready && !health.wanting.is_empty() {
        return Err(Fault::NotAvailable(format!("waiting for {}", health.wanting.join("; "))));
    }
    Ok(line(&health))
}

fn line(health: &Health) -> String {
    let known = |all: bool| if all { "known" } else { "asked for one by one" };
    format!(
        "meta-cnid {} on {}: pods {}, definitions {}",
        health.program,
        health.node,
        known(health.pods_known),
        known(health.definitions_known)
    )
}
