//! ADD, from the request to the merged result. Read [`add`] and [`attach_all`] from top to bottom.

use std::time::{Duration, Instant};

use attachments::bind::{Attachment, Bound};
use attachments::cni::error::code;
use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::names::PodRef;
use delegates::builtin::{Attached, HostPorts};
use delegates::call::Node;
use delegates::host::Host;
use delegates::sandbox::Sandbox;

use super::attaching::{Attaching, Progress, recorded};
use super::chain::Chain;
use super::join::join;
use super::lock::SandboxLock;
use super::log::warn;
use super::network_status::{Assembled, assemble};
use super::record::{Done, Entry, Intent, Record};
use super::resolve::Resolved;
use super::run::Run;
use super::salvage::undo_damaged;
use super::sandbox_lookup::{Whereabouts, namespace_id};
use super::store::RecordFile;
use super::undo::undo;
use super::valid_chain::ValidChain;
use super::{boot, dad, merge, resolve, resume, routes};
use crate::fault::{Fault, Result};
use crate::request::Target;

/// Attaches a sandbox to all of its networks, or to none. A failure becomes an event on the pod.
pub fn add(run: &Run<'_>, target: &Target) -> Result<Object> {
    let pod = target.pod()?;
    let mut added = attach_all(run, target, pod.as_ref());
    // Pods of before a restart of the node have no use for their addresses, and no DEL may have come for them yet.
    if added.as_ref().is_err_and(|fault| fault.code() == code::ADDRESSES) && resume::earlier_boots(run) {
        added = attach_all(run, target, pod.as_ref());
    }
    if let (Err(fault), Some(pod)) = (&added, &pod) {
        run.cluster.report_failure(pod, fault);
    }
    added
}

fn attach_all(run: &Run<'_>, target: &Target, pod: Option<&PodRef>) -> Result<Object> {
    require_readiness(run)?;
    let lock = SandboxLock::acquire(&run.store.locks(), &target.container, run.deadline)?;
    let node = run.node(Some(lock.file()));
    let mut sandbox = open_sandbox(target, &node)?;
    clear_the_way(run, target, &lock)?;
    if let Some(pod) = pod {
        resume::same_pod(run, pod);
    }

    let Resolved { bound, reserved, asked, ignored } = resolve::bind(run, target, pod)?;
    let node = Node { reserved: &reserved, ..node };
    let intent = Intent { asked: Some(asked), ..intent(run, target, pod.cloned(), &bound)? };
    let chains = chains(&intent, &node)?;
    let mut host = Host::new(node.clone());
    for (chain, _) in chains.iter().zip(&intent.attachments).filter(|(_, attachment)| attachment.is_tenants) {
        chain.admit(&mut host)?;
    }
    let mut ports = HostPorts::default();
    for chain in &chains {
        chain.chain().claim_ports(&node, &mut ports)?;
    }
    join(run, pod, &bound.attachments)?;
    let mut record = run.store.begin(&intent)?;

    let mut progress = Progress::default();
    match attach(run, &intent, &chains, &mut record, &node, &mut sandbox, &mut progress) {
        Ok(result) => {
            let unmet: Vec<String> = bound.unmet.into_iter().chain(std::mem::take(&mut progress.unmet)).collect();
            for warning in bound.warnings.iter().chain(&unmet) {
                warn(warning);
            }
            if let Some(pod) = pod.filter(|_| !unmet.is_empty()) {
                run.cluster.report_unmet(pod, unmet.join("; "));
            }
            if let Some(ignored) = ignored {
                warn(&ignored);
                pod.into_iter().for_each(|pod| run.cluster.report_ignored(pod, ignored.clone()));
            }
            report(run, pod, &bound.attachments, &progress.attached);
            resume::others(run);
            Ok(result)
        }
        Err(fault) => {
            forget_unattempted(&mut record.record, &progress);
            roll_back(run, record, &target.netns, &lock);
            Err(fault)
        }
    }
}

/// Every attachment's chain, read and found valid: all of them before any is attached.
fn chains<'a>(intent: &'a Intent, node: &Node<'_>) -> Result<Vec<ValidChain<'a>>> {
    let each = |attachment: &'a Attachment| Chain::new(intent, attachment, &intent.netns).validate(node);
    intent.attachments.iter().map(each).collect()
}

/// From the intent to the answer: every attachment, the routes, the record. The caller rolls back a failure.
fn attach(
    run: &Run<'_>,
    intent: &Intent,
    chains: &[ValidChain<'_>],
    record: &mut RecordFile,
    node: &Node<'_>,
    sandbox: &mut Sandbox,
    progress: &mut Progress,
) -> Result<Object> {
    run.notes.clear();
    Attaching { run, intent, first: 0, default: None, chains, node, kept: None }.attach(record, sandbox, progress)?;
    let attached = &mut progress.attached;
    let before: Vec<_> = attached.iter().map(|one| one.result.clone()).collect();
    routes::arbitrate(sandbox, &intent.attachments, attached, 0)?;
    dad::settle(sandbox, node, &intent.attachments, attached, run.conf.dad_wait)?;

    let merged = merge::merge(attached, run.conf.merge_ips, run.request.version);
    let result = merged.encode(run.request.version)?;
    record.append(&Entry::Done(&done(attached, &before)?))?;
    record.settle()?;
    Ok(result)
}

/// The file says whether the default network is up. It is checked once: waiting here would block every call of the runtime.
fn require_readiness(run: &Run<'_>) -> Result<()> {
    match &run.conf.readiness_file {
        Some(file) if !file.exists() => Err(Fault::TryLater(format!(
            "readinessindicatorfile: {} is not there: the default network is not ready",
            file.display()
        ))),
        _ => Ok(()),
    }
}

fn open_sandbox(target: &Target, node: &Node<'_>) -> Result<Sandbox> {
    Sandbox::open(&target.netns, node).map_err(|e| Fault::Netns(e.to_string()))
}

/// Refuses a set that is attached already, before anything is touched. Undoes what a crash or a failed undo left of the set.
fn clear_the_way(run: &Run<'_>, target: &Target, lock: &SandboxLock) -> Result<()> {
    let Some(found) = run.store.find(&run.key(target))? else { return Ok(()) };
    if found.is_settled() {
        return Err(Fault::Exists(format!(
            "CNI_CONTAINERID: got {} with CNI_IFNAME {}, which is attached already; want a DEL first",
            target.container, target.ifname
        )));
    }
    let context = run.undo_context(run.deadline, lock);
    if found.record.damaged {
        return undo_damaged(run, found, target, Whereabouts::Given(&target.netns), &context);
    }
    undo(found, Whereabouts::Given(&target.netns), &context)
}

fn intent(run: &Run<'_>, target: &Target, pod: Option<PodRef>, bound: &Bound) -> Result<Intent> {
    let netns_id = namespace_id(&target.netns)
        .ok_or_else(|| Fault::Netns(format!("CNI_NETNS: got {:?}, which went away during the call", target.netns)))?;
    Ok(Intent { netns_id, boot: boot::current(), ..run.intent(target, pod, bound.attachments.clone()) })
}

fn done(attached: &[Attached], before: &[CniResult]) -> Result<Done> {
    let each = attached.iter().zip(before).map(|(one, before)| recorded(one, Some(before)));
    Ok(Done { attached: each.collect::<Result<_>>()? })
}

/// Limits the undo to what was attempted: the plugin that failed, and everything before it (R31).
fn forget_unattempted(record: &mut Record, progress: &Progress) {
    let Some(intent) = &mut record.intent else { return };
    let failing = progress.attached.len();
    let may_be_there = |i: &usize| progress.at_once.contains(i);
    record.undone.extend((failing + 1..intent.attachments.len()).filter(|i| !may_be_there(i)));
    if let Some(attachment) = intent.attachments.get_mut(failing).filter(|_| !may_be_there(&failing)) {
        attachment.plugins.truncate(progress.ran);
    }
}

/// The runtime gets the failure of the ADD. What the undo could not finish stays in the record.
fn roll_back(run: &Run<'_>, record: RecordFile, netns: &str, lock: &SandboxLock) {
    let context = run.undo_context(run.undo_deadline(), lock);
    if let Err(fault) = undo(record, Whereabouts::Given(netns), &context) {
        warn(&format!("undoing a failed ADD is not complete and will be resumed: {fault}"));
    }
}

/// Publishes the pod's `network-status`. A failure is a warning: the pod has its networks.
fn report(run: &Run<'_>, pod: Option<&PodRef>, attachments: &[Attachment], attached: &[Attached]) {
    let Some(pod) = pod else { return };
    let started = Instant::now();
    let results = attached.iter().map(|one| &one.result);
    let Assembled { status, .. } = assemble(attachments, results, run.conf.strict);
    // A pod that has what every pod has: nobody looks for the word of it before it runs, and the agent writes it meanwhile.
    let wait = if attachments.len() > 1 { run.conf.status_wait } else { Duration::ZERO };
    if let Err(fault) = run.cluster.publish(pod, status, wait) {
        warn(&format!("network-status of pod {pod} is not written after {:?}: {fault}", started.elapsed()));
    }
}
