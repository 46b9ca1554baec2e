//! `meta-cnid health`, the DaemonSet's probe, and `meta-cnid log-level`. They ask over the socket, as the plugin does.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use meta_cni::cluster::Agent;
use meta_cni::cluster::wire::Health;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use crate::error::{Error, Result};

/// Which agent to ask, and for what.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The agent's socket.
    #[arg(long, env = "META_CNI_SOCKET", value_name = "PATH", default_value = "/run/meta-cni/agent.sock")]
    pub socket: PathBuf,
    /// Asks too whether the runtime's configuration is in place, so that pods get what they ask for.
    #[arg(long)]
    pub ready: bool,
}

/// Which agent to tell, and what.
#[derive(Clone, Debug, Args)]
pub struct LevelOptions {
    /// The agent's socket.
    #[arg(long, env = "META_CNI_SOCKET", value_name = "PATH", default_value = "/run/meta-cni/agent.sock")]
    pub socket: PathBuf,
    /// The level, as `--log-level` of `run` has it. Without it, that flag's again.
    #[arg(value_name = "LEVEL", default_value = "")]
    pub level: String,
}

/// How long to wait for an agent that restarts.
const WAIT: Duration = Duration::from_secs(1);

/// Asks the agent, and returns its state as one line.
pub fn health(options: &Options) -> Result<String> {
    let health = Agent::new(&options.socket).health(WAIT)?;
    require_own(&options.socket)?;
    if options.ready && !health.blockers.is_empty() {
        return Err(Error::NotYet(format!("waiting for {}", health.blockers.join("; "))));
    }
    Ok(line(&health))
}

/// Sets the level of the agent's log.
pub fn log_level(options: &LevelOptions) -> Result<()> {
    Ok(Agent::new(&options.socket).log_level(&options.level, WAIT)?)
}

/// Refuses the agent of another container: during a rollout the socket may be the other pod's. The probe runs in the
/// container that it checks, and each container has its own mount namespace.
fn require_own(socket: &Path) -> Result<()> {
    let stream = UnixStream::connect(socket).map_err(|e| Error::NotYet(format!("{}: {e}", socket.display())))?;
    let Ok(peer) = getsockopt(&stream, PeerCredentials) else { return Ok(()) };
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    match (namespace("self"), namespace(&peer.pid().to_string())) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(Error::NotYet(format!(
            "the agent at {} is another container's: process {}",
            socket.display(),
            peer.pid()
        ))),
        _ => Ok(()),
    }
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
