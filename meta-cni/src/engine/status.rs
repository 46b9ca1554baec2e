//! STATUS: could an ADD be served now? Runtimes ask every five seconds without a deadline, so nothing here waits.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use delegates::host::Host;
use nix::errno::Errno;
use nix::libc::O_TMPFILE;

use super::chain::{Delegate, Question, call_network};
use super::run::Run;
use super::{resolve, resume};
use crate::fault::{Fault, Result};

/// Checks our own readiness, then the default network's, plugin by plugin until the first error (C26).
pub fn status(run: &Run<'_>) -> Result<()> {
    own_readiness(run).map_err(|fault| Fault::NotAvailable(fault.message()))?;
    let default = resolve::default_network(run).map_err(|fault| Fault::NotAvailable(fault.message()))?;
    let mut host = Host::new(run.node(None));
    for plugin in &default.plugins {
        if let Delegate::External(kind) = Delegate::of(plugin, &host.node) {
            delegates::exec::find(kind, host.node.plugin_dirs).map_err(|e| Fault::NotAvailable(e.to_string()))?;
            if !default.version.has_gc_and_status() {
                continue;
            }
        }
        call_network(&mut host, &default, plugin, Question::Status)?;
    }
    resume::others(run);
    Ok(())
}

fn own_readiness(run: &Run<'_>) -> Result<()> {
    if let Some(file) = run.conf.readiness_file.as_ref().filter(|file| !file.exists()) {
        return Err(Fault::TryLater(format!("readinessindicatorfile: {} is not there", file.display())));
    }
    let dir = &run.conf.state_dir;
    let writable = fs::create_dir_all(dir).and_then(|()| probe(dir));
    writable.map_err(|e| Fault::Io(format!("stateDir: cannot write to {}: {e}", dir.display())))?;
    run.cluster.ready()
}

/// Writes a nameless file into the directory: a killed call leaves nothing.
fn probe(dir: &Path) -> io::Result<()> {
    let nameless = File::options().write(true).mode(0o600).custom_flags(O_TMPFILE).open(dir);
    let is_unknown =
        |e: &io::Error| matches!(e.raw_os_error().map(Errno::from_raw), Some(Errno::EOPNOTSUPP | Errno::EISDIR));
    match nameless {
        // Not every file system has nameless files. A killed call's file is overwritten by the next probe.
        Err(e) if is_unknown(&e) => {
            let path = dir.join("probe");
            fs::write(&path, b"x")?;
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        }
        opened => opened?.write_all(b"x"),
    }
}
