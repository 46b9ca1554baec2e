//! Starts the plugin in the host's mount namespace. The agent starts no other program.
//!
//! Only a process with one thread can enter a mount namespace, and the agent must stay in its own. So the agent starts
//! itself with a hidden command ([`enter`]), which enters the host's mount namespace and executes the plugin. The agent's
//! pod is in the host's network namespace (`hostNetwork`), which is checked first: in another one the plugin would find no
//! link of the node. The pod sees the host's processes by `hostPID`.

use std::convert::Infallible;
use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use delegates::netns;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::Options;
use crate::error::{Error, Result};

/// Name of the hidden command.
pub const COMMAND: &str = "in-host";

/// The arguments of the hidden command.
#[derive(Clone, Debug, Args)]
pub struct EnterOptions {
    /// Directory in /proc of a process of the host.
    process: PathBuf,
    /// The program's path on the host.
    program: PathBuf,
    /// Its arguments.
    args: Vec<String>,
}

/// Enters the host's mount namespace and executes the program. The process must have one thread.
#[expect(clippy::disallowed_methods, reason = "this is the one place of the agent that starts a program")]
pub fn enter(options: &EnterOptions) -> Result<Infallible> {
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        Error::Io(format!(
            "{} in the namespaces of {}: {what}: {e}",
            options.program.display(),
            options.process.display()
        ))
    };
    require_own_network(&options.process)?;
    netns::join_mounts(&options.process.join("ns/mnt")).map_err(|e| failed("enter", &e))?;
    std::env::set_current_dir("/").map_err(|e| failed("change to /", &e))?;
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|e| failed("arguments", &e));
    let program = text(options.program.as_os_str().as_bytes())?;
    let mut args = vec![program.clone()];
    for arg in &options.args {
        args.push(text(arg.as_bytes())?);
    }
    nix::unistd::execv(&program, &args).map_err(|e| failed("start", &e))
}

/// Runs the plugin with these arguments and this stdin, and returns its stdout. Its stderr goes to ours. A plugin that is
/// not done within `limit` is killed: what it has not undone is in its records.
pub async fn plugin(options: &Options, args: &[String], stdin: &[u8], limit: Duration) -> Result<Vec<u8>> {
    let program = options.cni_bin_dir.join("meta-cni");
    let failed = |e: &dyn std::fmt::Display| Error::Io(format!("cannot run {} on the host: {e}", program.display()));
    #[expect(clippy::disallowed_methods, reason = "this is the one place of the agent that starts a program")]
    let mut command = Command::new("/proc/self/exe");
    command.arg(COMMAND).arg(host_process(options)?).arg(&program).arg("--").args(args);
    command.env_clear().env("CNI_PATH", &options.cni_bin_dir).envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| failed(&e))?;
    let mut pipe = child.stdin.take();
    let talk = async {
        if let Some(pipe) = &mut pipe {
            // A plugin that ends before it has read everything explains it on stdout.
            let _ = pipe.write_all(stdin).await;
        }
        drop(pipe);
        child.wait_with_output().await
    };
    match timeout(limit, talk).await {
        Ok(Ok(output)) if output.status.success() => Ok(output.stdout),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(output.stdout.trim_ascii()).into_owned();
            Err(failed(&format!("{}: {said}", output.status)))
        }
        Ok(Err(e)) => Err(failed(&e)),
        Err(_) => Err(failed(&format!("it was not done after {} s", limit.as_secs()))),
    }
}

/// Enters the host's mount namespace for good. The process must have one thread.
pub fn move_to_host(given: Option<&Path>) -> Result<()> {
    let process = find_host(given)?;
    require_own_network(&process)?;
    let failed =
        |e: &dyn std::fmt::Display| Error::Io(format!("cannot enter the mounts of {}: {e}", process.display()));
    netns::join_mounts(&process.join("ns/mnt")).map_err(|e| failed(&e))?;
    std::env::set_current_dir("/").map_err(|e| failed(&e))
}

/// Runs the plugin from within the host's mount namespace, and returns its stdout. The plugin has a deadline of its own.
pub fn plugin_here(cni_bin_dir: &Path, args: &[&str], stdin: &[u8]) -> Result<Vec<u8>> {
    let program = cni_bin_dir.join("meta-cni");
    let failed = |e: &dyn std::fmt::Display| Error::Io(format!("cannot run {}: {e}", program.display()));
    #[expect(clippy::disallowed_methods, reason = "this is the one place of the agent that starts a program")]
    let mut command = std::process::Command::new(&program);
    command
        .args(args)
        .env_clear()
        .env("CNI_PATH", cni_bin_dir)
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|e| failed(&e))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A plugin that ends before it has read everything explains it on stdout.
        let _ = pipe.write_all(stdin);
    }
    let output = child.wait_with_output().map_err(|e| failed(&e))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failed(&format!("{}: {}", output.status, String::from_utf8_lossy(output.stdout.trim_ascii()))))
}

/// A process in the host's mount namespace: the one of the flag, else process 1. If process 1 is in another network namespace
/// (several nodes on one machine), it is the parent process, the runtime's own.
pub fn host_process(options: &Options) -> Result<PathBuf> {
    find_host(options.host_process.as_deref())
}

fn find_host(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(process) = given {
        return Ok(process.to_owned());
    }
    if std::process::id() == 1 {
        let why =
            "the agent is process 1 of its own PID namespace, want hostPID: true in the DaemonSet, or --host-process";
        return Err(Error::Io(format!("cannot find the host's mount namespace: {why}")));
    }
    let (first, parent) = (PathBuf::from("/proc/1"), PathBuf::from(format!("/proc/{}", nix::unistd::getppid())));
    match require_own_network(&first) {
        Ok(()) => Ok(first),
        Err(fault) => require_own_network(&parent).map(|()| parent).map_err(|_| fault),
    }
}

/// Checks that a process is in the agent's network namespace, which is the host's.
fn require_own_network(process: &Path) -> Result<()> {
    let path = process.join("ns/net");
    let theirs = netns::id(&path).map_err(|e| Error::Io(format!("cannot look at {}: {e}", path.display())))?;
    if netns::id(Path::new("/proc/self/ns/net")).is_ok_and(|own| own == theirs) {
        return Ok(());
    }
    let allowed = "the network namespace that the agent is in (hostNetwork: true)";
    Err(Error::Config(format!("{}: got another network namespace, want {allowed}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_another_network_or_of_none_is_refused() {
        assert!(require_own_network(Path::new("/proc/self")).is_ok());
        let missing = require_own_network(Path::new("/proc/4194305")).unwrap_err();
        assert!(missing.to_string().contains("/proc/4194305/ns/net"), "{missing}");
    }
}
