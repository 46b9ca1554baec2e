//! `meta-cnid uninstall`: gives the node back to its default network, and leaves it as it was before the installation.
//!
//! The order is what makes it safe. First our configuration goes, so that the runtime attaches new pods by the default network alone; a
//! copy stays in the state directory, because recoveries need it. Then the plugin's recovery (`replay`) releases what sandboxes that are
//! gone held, as often as it takes. Only when no sandbox holds anything that the plugin alone can release, the rest goes:
//! links and tables that nobody uses, empty address directories, the plugin, the state directory.

mod files;
pub mod nodes;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use delegates::leftovers;
use meta_cni::cluster::Agent;
use meta_cni::engine::holders;
use meta_cni::recovery::RecoveryReport;
use nix::sys::signal::{SigSet, Signal};

use self::files::Survey;
use crate::durable_file::{place, remove};
use crate::error::{Error, Result};
use crate::install::PLUGIN;
use crate::recover::node_conf;
use crate::{conf, host_exec};

/// Our configuration, in the state directory, once the runtime does not read it any more.
const KEPT_CONF: &str = "uninstalled.conflist";
/// Time for a runtime to see that the configuration has changed, and for calls that it began before.
const SETTLE: Duration = Duration::from_secs(3);
/// Between one try and the next.
const PAUSE: Duration = Duration::from_secs(3);
/// Time for the kernel.
const LIMIT: Duration = Duration::from_secs(60);
/// How many pods a message names.
const SHOWN: usize = 5;

/// What to remove, and from where.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where the runtime looks for plugins.
    #[arg(long, env = "META_CNI_BIN_DIR", value_name = "DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// Where the runtime looks for configurations.
    #[arg(long, env = "META_CNI_CONF_DIR", value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Name of our configuration there.
    #[arg(long, env = "META_CNI_CONF_FILE", value_name = "FILE", default_value = conf::FILE)]
    pub conf_file: String,
    /// Where the plugin keeps its records: `stateDir` of the node's configuration.
    #[arg(long, env = "META_CNI_STATE_DIR", value_name = "DIR", default_value = "/var/lib/meta-cni")]
    pub state_dir: PathBuf,
    /// Where runtimes and plugins keep results and addresses.
    #[arg(long, env = "META_CNI_CACHE_DIR", value_name = "DIR", default_value = "/var/lib/cni")]
    pub cache_dir: PathBuf,
    /// The agent's socket. While an agent serves there, nothing is removed: it would put its configuration back.
    #[arg(long, env = "META_CNI_SOCKET", value_name = "PATH", default_value = "/run/meta-cni/agent.sock")]
    pub socket: PathBuf,
    /// Works in the host's mount namespace, as a pod with hostPID and hostNetwork can.
    #[arg(long)]
    pub in_host: bool,
    /// Directory in /proc of a process in that namespace. Without it process 1, or the one that started this one.
    #[arg(long, env = "META_CNI_HOST_PROCESS", value_name = "DIR")]
    pub host_process: Option<PathBuf>,
    /// Tries again until all is done.
    #[arg(long)]
    pub wait: bool,
    /// Removes plugin and records although sandboxes still hold further networks: addresses stay taken, links stay.
    #[arg(long)]
    pub force: bool,
    /// Stays afterwards until it is told to stop: pods of a DaemonSet must not end.
    #[arg(long)]
    pub stay: bool,
}

/// Uninstalls. The error says what is still in the way; another call goes on from there.
pub fn uninstall(options: &Options) -> Result<()> {
    if options.in_host {
        host_exec::move_to_host(options.host_process.as_deref())?;
    }
    let mut said = String::new();
    loop {
        match attempt(options) {
            Ok(()) => break,
            Err(fault) if options.wait => {
                let text = fault.to_string();
                if text != said {
                    tracing::info!("not yet: {text}");
                    said = text;
                }
                sleep(PAUSE);
            }
            Err(fault) => return Err(fault),
        }
    }
    if options.stay { stay() } else { Ok(()) }
}

fn attempt(options: &Options) -> Result<()> {
    require_no_agent(options)?;
    if take_conf_away(options)? {
        sleep(SETTLE);
    }
    let recovered = recover(options);
    // Such a runtime detaches a sandbox by the configuration that it was attached by, and that names our plugin.
    let all = Path::new(files::CRIO).exists();
    let left = match holders(&options.state_dir, all) {
        Err(_) if options.force => Vec::new(),
        held => held?,
    };
    let plugin = options.cni_bin_dir.join(PLUGIN);
    if !left.is_empty() && !options.force {
        let why = recovered.err().map(|fault| format!(" ({fault})")).unwrap_or_default();
        return Err(Error::NotYet(format!(
            "sandboxes that still hold further networks: {}; {} stays until they are gone: drain the node, or delete these pods: {}{why}",
            left.len(),
            plugin.display(),
            shown(&left)
        )));
    }
    clear(options)?;
    if remove(&plugin)? {
        tracing::info!(path = %plugin.display(), "removed: no sandbox of this node needs it");
    }
    files::remove_state(&options.state_dir, KEPT_CONF)?;
    files::remove_sockets(&options.socket)
}

/// An agent that runs would put its configuration back.
fn require_no_agent(options: &Options) -> Result<()> {
    if !options.socket.exists() {
        return Ok(());
    }
    match Agent::new(&options.socket).health(Duration::from_millis(300)) {
        Ok(_) => Err(Error::NotYet(format!(
            "the agent still serves at {}: delete its DaemonSet first, or it puts {} back",
            options.socket.display(),
            options.conf_file
        ))),
        Err(_) => Ok(()),
    }
}

/// From then on the runtime uses the next configuration by name. True when it was there.
fn take_conf_away(options: &Options) -> Result<bool> {
    let path = options.cni_conf_dir.join(&options.conf_file);
    let text = match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        text => text.map_err(|e| Error::Io(format!("cannot read {}: {e}", path.display())))?,
    };
    let failed = |e| Error::Io(format!("cannot make {}: {e}", options.state_dir.display()));
    std::fs::create_dir_all(&options.state_dir).map_err(failed)?;
    place(&options.state_dir.join(KEPT_CONF), &text, 0o600)?;
    remove(&path)?;
    tracing::info!(path = %path.display(), "removed: the runtime uses the next configuration by name");
    Ok(true)
}

/// Releases what sandboxes held that are gone.
fn recover(options: &Options) -> Result<()> {
    let path = options.state_dir.join(KEPT_CONF);
    if !path.exists() || !options.cni_bin_dir.join(PLUGIN).exists() {
        return Ok(());
    }
    let printed =
        host_exec::plugin_here(&options.cni_bin_dir, &["replay", "0"], node_conf(&path)?.to_json().as_bytes())?;
    let unreadable = |e| Error::Io(format!("the plugin's report cannot be read: {e}"));
    let report: RecoveryReport = serde_json::from_slice(&printed).map_err(unreadable)?;
    for entry in report.resumed.iter().chain(&report.released) {
        let pod = entry.pod.as_deref().unwrap_or_default();
        tracing::info!(container = %entry.container, pod, "what a sandbox held that is gone is released");
    }
    let left = report.left.iter().map(|entry| format!("sandbox {}: {}", entry.container, entry.why));
    let faults: Vec<String> = left.chain(report.faults).collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::NotYet(faults.join("; "))) }
}

/// Removes what stayed for the next attachment.
fn clear(options: &Options) -> Result<()> {
    let survey = Survey::of(&options.cni_conf_dir);
    let failed = |e: &dyn std::fmt::Display| Error::Io(format!("what stayed for further attachments: {e}"));
    let cleared = leftovers::clear_kernel(&survey.bridges, Instant::now() + LIMIT).map_err(|e| failed(&e))?;
    let addresses = options.cache_dir.join("networks");
    let directories = leftovers::clear_addresses(&addresses, &survey.networks).map_err(|e| failed(&e))?;
    let results = files::remove_results(&options.cache_dir, &options.state_dir.join(KEPT_CONF))?;
    for gone in cleared.removed.iter().chain(&directories).chain(&results) {
        tracing::info!("removed: {gone}");
    }
    cleared.kept.iter().for_each(|kept| tracing::info!("stays: {kept}"));
    Ok(())
}

fn shown(pods: &[String]) -> String {
    let first = pods.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match pods.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn stay() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    let told = signals.thread_block().and_then(|()| signals.wait());
    told.map(|_| ()).map_err(|e| Error::Io(format!("--stay: cannot wait for a signal: {e}")))
}

#[cfg(test)]
mod tests;
