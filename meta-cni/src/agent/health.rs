//! `meta-cnid health`: what the DaemonSet's probes run. It asks over the socket, as the plugin does.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use clap::Args;

use crate::fault::{Fault, Result};

/// Whom to ask.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The agent's socket.
    #[arg(long, env = "META_CNI_SOCKET", value_name = "PATH", default_value = "/run/meta-cni/agent.sock")]
    pub socket: PathBuf,
}

/// Asks the agent; its answer as one line.
pub fn health(options: &Options) -> Result<String> {
    let socket = options.socket.display();
    UnixStream::connect(&options.socket)
        .map_err(|e| Fault::TryLater(format!("--socket: no agent answers at {socket}: {e}")))?;
    Ok("ok".to_owned())
}
