//! STATUS: could an ADD be served now? Asked about every five seconds and without a deadline, so nothing here waits.

use std::fs;

use delegates::apply::Host;

use super::chain::{Delegate, Question, call_network};
use super::{Run, lookup, resume};
use crate::fault::{Fault, Result};

/// Our own readiness first, then the default network's, plugin by plugin until the first error (C26).
pub fn status(run: &Run<'_>) -> Result<()> {
    own_readiness(run).map_err(|fault| Fault::NotAvailable(fault.message()))?;
    let default = lookup::default_network(run).map_err(|fault| Fault::NotAvailable(fault.message()))?;
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
    let writable = fs::create_dir_all(dir).and_then(|()| {
        let probe = dir.join(format!("probe.{}", std::process::id()));
        fs::write(&probe, b"x").and_then(|()| fs::remove_file(&probe))
    });
    writable.map_err(|e| Fault::Io(format!("stateDir: cannot write to {}: {e}", dir.display())))?;
    run.cluster.ready()
}
