//! The node agent: knows the cluster on the plugin's behalf, and reports to it. It makes no interface itself.
//!
//! One thread, several parts side by side; [`run`] wires them. What they share is passed to them there and nowhere else.

pub mod conf;
pub mod health;
pub mod host;
pub mod install;
pub mod log;
pub mod options;
mod place;
pub mod replay;

use tokio::signal::unix::{SignalKind, signal};

use crate::fault::{Fault, Result};

pub use options::Options;

/// Serves the node until SIGTERM or SIGINT. A part that ends before that ends the agent, for the kubelet to start it anew.
pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Fault::Io(format!("cannot start the agent: {e}")))?.block_on(serve(options))
}

async fn serve(options: &Options) -> Result<()> {
    tracing::info!(node = options.node_name, socket = %options.socket.display(), "the agent starts");
    let standing = tokio::sync::watch::Sender::new(conf::Wanting::new());
    let no_definitions = |_: &str, _: &str| None;
    tokio::select! {
        ended = replay::run(options) => ended,
        ended = conf::run(options, &standing, &no_definitions) => ended,
        ended = told_to_stop() => ended,
    }
}

async fn told_to_stop() -> Result<()> {
    let failed = |e: std::io::Error| Fault::Io(format!("cannot listen for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("told to stop");
    Ok(())
}
