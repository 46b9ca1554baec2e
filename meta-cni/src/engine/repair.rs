//! `meta-cni repair`: makes attachments of a running sandbox anew that are not as recorded. Read [`repair`] from top to bottom.
//!
//! An attachment keeps what it has: its addresses stay taken and its interface gets the recorded hardware address, so no address
//! management is asked. What is left of the link is taken away, and the recorded chain runs again. The record says all the while that the
//! attachment is in place: a call that is killed on the way leaves a difference, which the next repair mends, and a DEL takes away
//! whatever is there.

use attachments::bind::Attachment;
use attachments::cni::result::CniResult;
use attachments::names::PodRef;
use delegates::apply;
use delegates::builtin::Attached;
use delegates::default_route::DefaultRoutes;
use delegates::host::Host;
use delegates::ipam::Leased;
use delegates::sandbox::Sandbox;
use delegates::spec::LinkId;

use super::attaching::{Attaching, Progress, recorded};
use super::chain::{Chain, Question, call_network, subject};
use super::hot_plug::{finish, read, require_alive, settled};
use super::lock::SandboxLock;
use super::log::warn;
use super::record::{Grown, Intent, RecordedAttachment};
use super::run::Run;
use super::store::RecordFile;
use super::verify::{compare, is_difference, obstacle};
use super::{dad, routes};
use crate::fault::{Fault, Result};
use crate::repair::RepairReport;
use crate::request::Target;

/// Makes anew what differs. The first attachment that cannot be made ends the repair: what was made before stays.
pub fn repair(run: &Run<'_>, asked: &Target) -> Result<RepairReport> {
    if !run.conf.repair {
        return Err(Fault::Unsupported("repair: got false in the node's configuration, want true".to_owned()));
    }
    let lock = SandboxLock::acquire(&run.store.locks(), &asked.container, run.deadline)?;
    let (mut file, pod) = settled(run, asked)?;
    require_alive(run, &file, &lock)?;
    finish(run, &mut file, &lock)?;
    let mut report = RepairReport::default();
    for (i, why) in differing(run, &file, &lock)? {
        let Some(intent) = file.record.intent.clone() else { break };
        let context = run.undo_context(run.deadline, &lock);
        if let Some(left) = obstacle(&intent, &file.record, i, &context) {
            report.left.push(format!("{why}; it is not made anew: {left}"));
            continue;
        }
        make_anew(run, &mut file, &intent, i, &lock)?;
        report.repaired.push(format!("{why}; it is made anew"));
    }
    still_differs(run, &file, &lock, &pod)?;
    Ok(report)
}

/// The attachments that differ, by index, and how.
fn differing(run: &Run<'_>, file: &RecordFile, lock: &SandboxLock) -> Result<Vec<(usize, String)>> {
    let Some(intent) = &file.record.intent else { return Ok(Vec::new()) };
    let found = compare(intent, &file.record, &run.undo_context(run.deadline, lock))?;
    let mut differing = Vec::new();
    for (i, one) in found {
        match one {
            Ok(()) => {}
            Err(fault) if is_difference(&fault) => differing.push((i, fault.message())),
            Err(fault) => return Err(fault),
        }
    }
    Ok(differing)
}

/// A repair that did not help is a failure.
fn still_differs(run: &Run<'_>, file: &RecordFile, lock: &SandboxLock, pod: &PodRef) -> Result<()> {
    let Some(intent) = &file.record.intent else { return Ok(()) };
    let context = run.undo_context(run.deadline, lock);
    let left = differing(run, file, lock)?.into_iter();
    let left: Vec<String> =
        left.filter(|(i, _)| obstacle(intent, &file.record, *i, &context).is_none()).map(|(_, why)| why).collect();
    if left.is_empty() {
        return Ok(());
    }
    Err(Fault::TryLater(format!("pod {pod} is not as recorded after its repair: {}", left.join("; "))))
}

/// Takes away what is left of an attachment, and attaches it again.
fn make_anew(run: &Run<'_>, file: &mut RecordFile, intent: &Intent, i: usize, lock: &SandboxLock) -> Result<()> {
    let attachment = &intent.attachments[i];
    let places = file.record.in_place();
    let before: Vec<RecordedAttachment> = file.record.attached().into_iter().map(|(_, one)| one.clone()).collect();
    let results: Vec<CniResult> = before.iter().map(|one| read(&one.result)).collect::<Result<_>>()?;
    let Some(at) = places.iter().position(|place| *place == i) else { return Ok(()) };
    let kept = Leased::of(&results[at], &attachment.ifname);

    // What can be refused is refused before anything is taken away.
    let context = run.undo_context(run.deadline, lock);
    let node = delegates::call::Node { reserved: &run.conf.reserved, ..intent.node(&context) };
    let chain = Chain::new(intent, attachment, &intent.netns);
    let chains = [chain.validate(&node)?];
    if attachment.is_tenants {
        chains[0].admit(&mut Host::new(node.clone()))?;
    }
    require_ready(&mut Host::new(node.clone()).keeping(kept.clone()), attachment)?;
    let mut sandbox = Sandbox::open(&intent.netns, &node).map_err(|e| Fault::Netns(e.to_string()))?;
    let fault = |source| Fault::Delegate { subject: subject(attachment), source };
    let routes_before = DefaultRoutes::of(&mut sandbox).map_err(fault)?;

    let others: Vec<LinkId> =
        before.iter().enumerate().filter(|(other, _)| *other != at).flat_map(|(_, one)| one.links.clone()).collect();
    let take_away = |sandbox: &mut Sandbox| {
        apply::detach_part(sandbox, intent.key.group(), &before[at].links, &others).map_err(fault)?;
        chain.del(&mut Host::new(node.clone()).keeping(kept.clone()), Some(&results[at]))
    };
    take_away(&mut sandbox)?;

    let default = Some(&results[0]).filter(|_| at > 0);
    let mut progress = Progress::default();
    let attaching =
        Attaching { run, intent, first: i, default, chains: &chains, node: &node, kept: Some(kept.clone()) };
    let attached = attaching.attach(file, &mut sandbox, &mut progress).and_then(|()| {
        dad::settle(&mut sandbox, &node, std::slice::from_ref(attachment), &progress.attached, run.conf.dad_wait)?;
        let made = progress.attached.pop().ok_or_else(|| Fault::Bug("an attachment without a result".to_owned()))?;
        let held: Vec<Attachment> = places.iter().filter_map(|i| intent.attachments.get(*i).cloned()).collect();
        arbitrate(&mut sandbox, &held, &before, &results, at, made)
    });
    let written = attached.and_then(|one| {
        let asked = intent.asked.clone().unwrap_or_default();
        file.grown(Grown { attached: [(i, one)].into(), leaving: Vec::new(), asked })
    });
    written.inspect_err(|_| {
        // The pod is left without the link, and the addresses stay its own: the next try begins here.
        if let Err(fault) = take_away(&mut sandbox) {
            warn(&format!("undoing a failed repair is not complete: {fault}"));
        }
        if let Err(error) = routes_before.put_back(&mut sandbox) {
            warn(&format!("the pod's default routes are not what they were: {error}"));
        }
    })
}

/// An attachment whose master is gone, say, still has the link that it had: it is not taken away where another cannot be made.
fn require_ready(host: &mut Host<'_>, attachment: &Attachment) -> Result<()> {
    for plugin in &attachment.plugins {
        call_network(host, attachment, plugin, Question::Status)?;
    }
    Ok(())
}

/// Gives the pod's default routes to whom the record says. Returns what the record is to say of the attachment that was made.
fn arbitrate(
    sandbox: &mut Sandbox,
    held: &[Attachment],
    before: &[RecordedAttachment],
    results: &[CniResult],
    at: usize,
    made: Attached,
) -> Result<RecordedAttachment> {
    let links = before.iter().map(|one| one.links.clone());
    let mut attached: Vec<Attached> =
        results.iter().cloned().zip(links).map(|(result, links)| Attached { result, links }).collect();
    attached[at] = made;
    routes::arbitrate(sandbox, held, &mut attached, 0)?;
    let result = &mut attached[at].result;
    // A delegate that adds routes of its own finds them among those that the attachment keeps.
    let mut routes = Vec::new();
    for route in std::mem::take(&mut result.routes) {
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    result.routes = routes;
    Ok(RecordedAttachment { displaced: before[at].displaced.clone(), ..recorded(&attached[at], None)? })
}
