//! `meta-cnid install` and `meta-cnid uninstall`: puts the plugin on the node, and removes it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use meta_cni::engine::held;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::conf;
use super::durable_file::{Placed, place, remove};
use crate::error::{Error, Result};

/// The program that the runtime starts.
const PLUGIN: &str = "meta-cni";

/// What to install, and where.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Directory of the program to install; default the directory of this one.
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Where the runtime looks for plugins.
    #[arg(long, env = "META_CNI_BIN_DIR", value_name = "DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
}

/// What to remove.
#[derive(Clone, Debug, Args)]
pub struct RemoveOptions {
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
    /// Stays afterwards until it is told to stop: pods of a DaemonSet must not end.
    #[arg(long)]
    pub stay: bool,
}

/// Installs the plugin. Calls of the runtime go on meanwhile, with the old program or the new one.
pub fn install(options: &Options) -> Result<()> {
    let source = options.from.clone().map_or_else(own_directory, Ok)?.join(PLUGIN);
    let program = fs::read(&source).map_err(|e| Error::Io(format!("--from: cannot read {}: {e}", source.display())))?;
    require_runnable(&options.cni_bin_dir)?;
    let path = options.cni_bin_dir.join(PLUGIN);
    match place(&path, &program, 0o755)? {
        Placed::Written => tracing::info!(path = %path.display(), bytes = program.len(), "the plugin is in place"),
        Placed::Untouched => tracing::info!(path = %path.display(), "the plugin was in place already"),
    }
    Ok(())
}

/// Gives the node back to its default network: the runtime attaches new pods to it directly. The plugin stays as long as sandboxes
/// have further networks.
pub fn uninstall(options: &RemoveOptions) -> Result<()> {
    let conf = options.cni_conf_dir.join(&options.conf_file);
    match remove(&conf)? {
        true => tracing::info!(path = %conf.display(), "removed: the runtime uses the next configuration by name"),
        false => tracing::info!(path = %conf.display(), "was not there"),
    }
    let plugin = options.cni_bin_dir.join(PLUGIN);
    match held(&options.state_dir)? {
        0 => remove(&plugin)?,
        left => {
            return Err(Error::NotYet(format!(
                "sandboxes that still hold further networks: {left}; {} stays until they are gone: drain the node first",
                plugin.display()
            )));
        }
    };
    tracing::info!(path = %plugin.display(), "removed: no sandbox of this node holds further networks");
    if options.stay { stay() } else { Ok(()) }
}

fn stay() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    let told = signals.thread_block().and_then(|()| signals.wait());
    told.map(|_| ()).map_err(|e| Error::Io(format!("--stay: cannot wait for a signal: {e}")))
}

fn own_directory() -> Result<PathBuf> {
    let program = std::env::current_exe().map_err(|e| Error::Io(format!("--from: cannot tell where this is: {e}")))?;
    Ok(program.parent().unwrap_or(Path::new("/")).to_owned())
}

fn require_runnable(dir: &Path) -> Result<()> {
    let wrong = |why: &str| Err(Error::Io(format!("--cni-bin-dir: {}: {why}", dir.display())));
    if !dir.is_dir() {
        return wrong("no such directory; name the one where the runtime looks for plugins");
    }
    match statvfs(dir) {
        Ok(fs) if fs.flags().contains(FsFlags::ST_NOEXEC) => wrong("mounted noexec; want one that programs run from"),
        Ok(fs) if fs.flags().contains(FsFlags::ST_RDONLY) => {
            wrong("mounted read-only; want one that can be written to")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> (tempfile::TempDir, Options, RemoveOptions) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["image", "bin", "net.d"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let at = |name: &str| dir.path().join(name);
        fs::write(at("image").join(PLUGIN), "program").unwrap();
        let install = Options { from: Some(at("image")), cni_bin_dir: at("bin") };
        let (cni_bin_dir, cni_conf_dir, state_dir) = (at("bin"), at("net.d"), at("state"));
        let remove =
            RemoveOptions { cni_bin_dir, cni_conf_dir, conf_file: conf::FILE.to_owned(), state_dir, stay: false };
        (dir, install, remove)
    }

    #[test]
    fn what_was_installed_is_taken_away_again() {
        let (dir, options, away) = node();
        install(&options).unwrap();
        install(&options).unwrap();
        assert_eq!(fs::read(dir.path().join("bin/meta-cni")).unwrap(), b"program");
        fs::write(dir.path().join("net.d").join(conf::FILE), "{}").unwrap();
        fs::write(dir.path().join("net.d/10-cluster.conflist"), "{}").unwrap();
        uninstall(&away).unwrap();
        uninstall(&away).unwrap();
        assert!(!dir.path().join("bin/meta-cni").exists());
        assert_eq!(fs::read_dir(dir.path().join("net.d")).unwrap().count(), 1);
    }

    #[test]
    fn the_plugin_stays_as_long_as_a_record_may_hold_further_networks() {
        let (dir, options, away) = node();
        install(&options).unwrap();
        fs::create_dir_all(dir.path().join("state/attached")).unwrap();
        fs::write(dir.path().join("state/attached/meta-cni,c1,eth0"), "").unwrap();
        fs::write(dir.path().join("net.d").join(conf::FILE), "{}").unwrap();
        let fault = uninstall(&away).unwrap_err().to_string();
        assert!(fault.starts_with("sandboxes that still hold further networks: 1;"), "{fault}");
        assert!(dir.path().join("bin/meta-cni").exists());
        assert!(!dir.path().join("net.d").join(conf::FILE).exists());
    }

    #[test]
    fn a_missing_directory_or_program_is_named() {
        let (dir, mut options, _) = node();
        options.cni_bin_dir = dir.path().join("nowhere");
        let fault = install(&options).unwrap_err().to_string();
        assert!(fault.starts_with("--cni-bin-dir: ") && fault.contains("no such directory"), "{fault}");
        options.from = Some(dir.path().join("nowhere"));
        assert!(install(&options).unwrap_err().to_string().starts_with("--from: cannot read"));
    }
}
