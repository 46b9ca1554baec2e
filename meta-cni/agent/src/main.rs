//! The node agent's program: what the DaemonSet runs.

use std::process::ExitCode;

use attachments::text::printable;
use clap::{Parser, Subcommand};
use meta_cni_agent::error::Result;
use meta_cni_agent::uninstall::{self, nodes};
use meta_cni_agent::{health, host_exec, install};
use meta_cni_kube::log;

/// musl's allocator is slow and keeps a heap that grows with every burst; this is the plugin's too.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The node agent of meta-cni: what the plugin needs to know of the cluster, and what the cluster is told of the node.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    log: log::Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves this node until it is told to stop.
    Run(Box<meta_cni_agent::Options>),
    /// Puts the programs in place on the node.
    Install(install::Options),
    /// Gives the node back to its default network.
    Uninstall(uninstall::Options),
    /// Gives every node back: replaces the agent's DaemonSet by one that uninstalls, and waits for it.
    UninstallNodes(nodes::Options),
    /// Asks the agent behind a socket whether it serves; exit status 0 means yes.
    Health(health::Options),
    /// Sets the level of the log of the agent behind a socket, until it restarts.
    LogLevel(health::LevelOptions),
    /// Becomes a program in the host's mount namespace.
    #[command(name = host_exec::COMMAND, hide = true)]
    InHost(host_exec::EnterOptions),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let levels = log::start(&arguments.log);
    let done: Result<()> = match arguments.command {
        Command::Run(options) => meta_cni_agent::run(&options, levels),
        Command::Install(options) => install::install(&options),
        Command::Uninstall(options) => uninstall::uninstall(&options),
        Command::UninstallNodes(options) => nodes::uninstall_nodes(&options),
        Command::InHost(options) => host_exec::enter(&options).map(|never| match never {}),
        Command::Health(options) => health::health(&options).map(|state| println!("{state}")),
        Command::LogLevel(options) => health::log_level(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meta-cnid: {}", printable(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}
