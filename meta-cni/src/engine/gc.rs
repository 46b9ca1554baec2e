//! GC: undoes what the runtime no longer knows, of this node network only, and hands the question on (C25, A14).

use std::collections::BTreeMap;

use attachments::bind::Attachment;
use attachments::finding::Finding;
use attachments::names::{ContainerId, IfName, NetworkName};
use delegates::apply::Host;
use delegates::call::Verb;
use serde::{Deserialize, Serialize};

use super::chain::{Delegate, call_network};
use super::lock::SandboxLock;
use super::record::{Intent, Key};
use super::undo::{Surroundings, undo};
use super::{Run, lookup, resume};
use crate::fault::{Fault, Result};

const VALID: &str = "cni.dev/valid-attachments";

/// One attachment that the runtime still knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pair {
    #[serde(rename = "containerID")]
    container: ContainerId,
    ifname: IfName,
}

/// Keeps going on errors and reports them at the end.
pub fn gc(run: &Run<'_>) -> Result<()> {
    if run.conf.disable_gc {
        return Ok(());
    }
    let valid = valid_pairs(run)?;
    let mut faults = Vec::new();
    let mut surviving = Vec::new();
    for key in run.store.keys(&run.conf.network)? {
        if valid.iter().any(|pair| pair.container == key.container && pair.ifname == key.ifname) {
            surviving.extend(intent(run, &key));
        } else if let Err(fault) = collect(run, &key) {
            faults.push(fault);
        }
    }
    if let Err(fault) = forward(run, &valid, &surviving) {
        faults.push(fault);
    }
    resume::others(run);
    SandboxLock::sweep(&run.store.locks());
    Fault::several(faults)
}

/// An absent set is a mistake, not an empty set: taking it for one would undo every pod of the node.
fn valid_pairs(run: &Run<'_>) -> Result<Vec<Pair>> {
    const ALLOWED: &str = "a list of {containerID, ifname}";
    let pairs = run.request.conf.decode(VALID, ALLOWED)?;
    Ok(pairs.ok_or_else(|| Finding::missing(VALID, ALLOWED))?)
}

/// A sandbox whose lock is held is in the middle of a call: not garbage, whatever the runtime's list says.
fn collect(run: &Run<'_>, key: &Key) -> Result<()> {
    let Some(lock) = SandboxLock::try_acquire(&run.store.locks(), &key.container)? else { return Ok(()) };
    let Some(found) = run.store.find(key)? else { return Ok(()) };
    let around = Surroundings { state_dir: &run.conf.state_dir, deadline: run.deadline, lock: &lock };
    undo(found, "", &around)
}

fn intent(run: &Run<'_>, key: &Key) -> Option<Intent> {
    run.store.find(key).ok().flatten().and_then(|found| found.record.intent)
}

/// Every network that still has an attachment, and the default one, is asked to look for its own garbage. Its valid set:
/// our stored attachments of that network; for the default also the runtime's pairs that we do not know, unchanged.
fn forward(run: &Run<'_>, valid: &[Pair], surviving: &[Intent]) -> Result<()> {
    let mut networks: BTreeMap<NetworkName, (Attachment, Vec<Pair>)> = BTreeMap::new();
    let default = lookup::default_network(run)?;
    let unknown = valid.iter().filter(|pair| !surviving.iter().any(|intent| intent.key.container == pair.container));
    networks.insert(default.network.clone(), (default, unknown.cloned().collect()));
    for intent in surviving {
        for attachment in &intent.attachments {
            let (_, pairs) =
                networks.entry(attachment.network.clone()).or_insert_with(|| (attachment.clone(), Vec::new()));
            pairs.push(Pair { container: intent.key.container.clone(), ifname: attachment.ifname.clone() });
        }
    }
    let mut host = Host::new(run.node(None));
    let mut faults = Vec::new();
    for (attachment, pairs) in networks.values() {
        if attachment.disable_gc || !attachment.version.has_gc_and_status() {
            continue;
        }
        let pairs = serde_json::value::to_raw_value(pairs).map_err(|e| Fault::Bug(e.to_string()))?;
        for plugin in &attachment.plugins {
            // A network whose program is gone has nobody to ask.
            if let Delegate::External(kind) = Delegate::of(plugin, &host.node)
                && let Err(source) = delegates::exec::find(kind, &run.conf.plugin_dirs)
            {
                faults.push(Fault::Delegate { subject: format!("network {}", attachment.source), source });
                continue;
            }
            if let Err(fault) = call_network(&mut host, attachment, plugin, Verb::Gc, Some(&pairs)) {
                faults.push(fault);
            }
        }
    }
    Fault::several(faults)
}
