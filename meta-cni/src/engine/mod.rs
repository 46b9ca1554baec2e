//! The engine: each verb is one visible sequence over all attachments of a sandbox.
//!
//! To follow one ADD, start at `add`: it reads from top to bottom as the design's straight line.

mod add;
mod attaching;
mod boot;
mod chain;
mod check;
mod dad;
mod del;
mod devinfo;
pub mod explain;
mod failed;
mod gc;
mod hot_plug;
pub mod inspect;
mod inventory;
mod join;
mod libcni_cache;
mod liveness;
mod lock;
mod log;
mod merge;
mod network_status;
mod notes;
mod path_roots;
mod policies;
mod record;
pub mod recorded_status;
mod recover;
mod renew;
mod repair;
mod resolve;
mod resume;
mod routes;
mod run;
mod salvage;
mod sandbox_lookup;
mod sandboxes;
mod saved_states;
mod status;
mod store;
mod tombstones;
mod undo;
mod valid_chain;
mod verify;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use attachments::cni::object::Object;
use delegates::ipam::dhcp::renew::Renewal;
use delegates::priority;
use serde::Serialize;

pub use inventory::{Counts, Inventory};
pub use record::digest;
pub use sandboxes::{Sandbox, Sandboxes};

use crate::fault::Result;
use crate::hot_plug::HotPlugReport;
use crate::recovery::RecoveryReport;
use crate::repair::{RepairReport, VerifyReport};
use crate::request::{CniRequest, Operation};
use run::Run;
use store::Store;

/// What is printed for a request that was served.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Output {
    /// The merged result of an ADD.
    Result(Object),
    /// What a recovery did.
    Recovery(RecoveryReport),
    /// What became of a lease.
    Renewal(Renewal),
    /// What a hot-plug did.
    HotPlug(HotPlugReport),
    /// What differs from the records.
    Verify(VerifyReport),
    /// What a repair did.
    Repair(RepairReport),
}

/// Serves a request. The verbs but ADD print nothing.
pub fn serve(request: &CniRequest) -> Result<Option<Output>> {
    let run = Run::of(request)?;
    if matches!(request.operation, Operation::Add(_) | Operation::Del(_)) && !run.conf.normal_priority {
        priority::raise_priority();
    }
    let served = match &request.operation {
        Operation::Add(target) => add::add(&run, target).map(|result| Some(Output::Result(result))),
        Operation::Del(target) => del::del(&run, target).map(|()| None),
        Operation::Check(target) => check::check(&run, target).map(|()| None),
        Operation::Gc => gc::gc(&run).map(|()| None),
        Operation::Status => status::status(&run).map(|()| None),
        Operation::HotPlug(target) => hot_plug::hot_plug(&run, target).map(|report| Some(Output::HotPlug(report))),
        Operation::Verify => verify::verify(&run).map(|report| Some(Output::Verify(report))),
        Operation::Repair(target) => repair::repair(&run, target).map(|report| Some(Output::Repair(report))),
        Operation::Recover { idle } => recover::recover(&run, *idle).map(|report| Some(Output::Recovery(report))),
        Operation::Renew(lease) => renew::renew(&run, lease).map(|renewal| Some(Output::Renewal(renewal))),
    };
    notes::report(&run, &served);
    served
}

/// The sandboxes of a state directory, by their pods where the record names one, that hold what only this plugin can release: further
/// networks, or an undo that is not finished. A default network is undone by its own plugins just as well, unless the runtime goes on with
/// the configuration that the sandbox was attached by (`all`).
pub fn holders(state_dir: &Path, all: bool) -> Result<Vec<String>> {
    let store = Store::new(state_dir);
    let mut holders = Vec::new();
    for key in store.keys()? {
        let Some(found) = store.find(&key)? else { continue };
        let intent = found.record.intent.as_ref();
        let attachments = found.record.attached().len() + found.record.unfinished().len();
        let is_simple = found.is_settled() && !found.record.damaged && attachments == 1;
        if all || !is_simple {
            let pod = intent.and_then(|intent| intent.pod.as_ref()).map(ToString::to_string);
            holders.push(pod.unwrap_or_else(|| format!("sandbox {}", key.container)));
        }
    }
    holders.sort();
    Ok(holders)
}

/// The records in a state directory that need attention, by the names of their files, and how long ago each was last touched.
pub fn pending(state_dir: &Path) -> Result<BTreeMap<String, Duration>> {
    let store = Store::new(state_dir);
    let pending = store.pending()?.into_iter().map(|record| (record.key.to_string(), record.idle));
    let abandoned = store.abandoned()?.into_iter().map(|(file, idle)| (file.key.to_string(), idle));
    Ok(pending.chain(abandoned).collect())
}
