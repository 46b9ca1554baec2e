//! IPAM plugins that are programs: executed with the environment and configuration of the plugin that asks (C36).

use attachments::cni::result::CniResult;
use attachments::names::PluginType;

use crate::call::{Call, Node, Verb};
use crate::error::{Error, Result};
use crate::exec;

/// ADD, and the DEL that a failed ADD must be followed by (C37).
pub fn allocate(node: &Node<'_>, kind: &PluginType, call: &Call<'_>) -> Result<CniResult> {
    let added = run(node, kind, Verb::Add, call).and_then(|stdout| exec::add_result(kind, &stdout, call.version));
    match added {
        Ok(mut result) => {
            // The caller knows which link an address goes to, an IPAM plugin does not (C38).
            result.interfaces.clear();
            result.ips.iter_mut().for_each(|ip| ip.interface = None);
            Ok(result)
        }
        Err(error) => {
            // The failure of the ADD is the one to report; a failed DEL is repeated by the attachment's own DEL.
            let _ = run(node, kind, Verb::Del, call);
            Err(error)
        }
    }
}

/// DEL.
pub fn release(node: &Node<'_>, kind: &PluginType, call: &Call<'_>) -> Result<()> {
    run(node, kind, Verb::Del, call).map(drop)
}

/// CHECK.
pub fn check(node: &Node<'_>, kind: &PluginType, call: &Call<'_>) -> Result<()> {
    run(node, kind, Verb::Check, call).map(drop)
}

/// STATUS, where the version knows it; the program is there in any case.
pub fn status(node: &Node<'_>, kind: &PluginType, call: &Call<'_>) -> Result<()> {
    if call.version.has_gc_and_status() {
        return run(node, kind, Verb::Status, call).map(drop);
    }
    exec::find(kind, node.plugin_dirs).map(drop).map_err(|error| Error::NotReady(error.to_string()))
}

/// GC, where the version knows it; the valid attachments are in the configuration already.
pub fn gc(node: &Node<'_>, kind: &PluginType, call: &Call<'_>) -> Result<()> {
    if call.version.has_gc_and_status() { run(node, kind, Verb::Gc, call).map(drop) } else { Ok(()) }
}

/// The plugin's own code is kept, and its message says who speaks.
fn run(node: &Node<'_>, kind: &PluginType, verb: Verb, call: &Call<'_>) -> Result<Vec<u8>> {
    exec::run(node, kind, verb, call).map_err(|error| match error {
        Error::Plugin(mut object) => {
            object.msg = format!("ipam {kind}: {}", object.msg);
            Error::Plugin(object)
        }
        other => other,
    })
}
