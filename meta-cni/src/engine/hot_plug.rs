//! Hot-plug (`meta-cni hotplug`): gives a running sandbox the networks that its pod's annotation lists now. Read [`hot_plug`] from top to
//! bottom.
//!
//! What is new is attached first, and what is listed no more goes after that: a failure to attach leaves the pod as it was. The record
//! says how far a call got, so whoever comes next undoes what it left: the next hot-plug, DEL, GC or a recovery. The default network,
//! and what the node gives to every pod, stay.

use std::collections::BTreeMap;
use std::time::Duration;

use attachments::bind::{Attachment, Changes};
use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use attachments::names::PodRef;
use delegates::builtin::{Attached, HostPorts};
use delegates::call::Node;
use delegates::default_route::DefaultRoutes;
use delegates::host::Host;
use delegates::sandbox;

use super::attaching::{Attaching, Progress, recorded};
use super::chain::Chain;
use super::join::join;
use super::liveness::{Liveness, judge};
use super::lock::SandboxLock;
use super::log::warn;
use super::network_status::{Assembled, assemble};
use super::record::{Entry, Grown, Intent, RecordedAttachment, Undone};
use super::resolve::{self, Resolved};
use super::run::Run;
use super::store::RecordFile;
use super::undo::undo_part;
use super::valid_chain::ValidChain;
use super::{dad, routes};
use crate::cluster::PodStatus;
use crate::fault::{Fault, Result};
use crate::hot_plug::HotPlugReport;
use crate::request::{Target, parse_args};

/// Compares the sandbox of a settled record with its pod's annotation, and changes what differs. A failure becomes an event on the pod.
pub fn hot_plug(run: &Run<'_>, asked: &Target) -> Result<HotPlugReport> {
    if !run.conf.hotplug {
        return Err(Fault::Unsupported("hotplug: got false in the node's configuration, want true".to_owned()));
    }
    let lock = SandboxLock::acquire(&run.store.locks(), &asked.container, run.deadline)?;
    let (mut file, pod) = settled(run, asked)?;
    let removed = finish(run, &mut file, &lock).inspect_err(|fault| run.cluster.report_left(&pod, fault))?;
    let mut report = HotPlugReport { removed, ..HotPlugReport::default() };
    let added = add(run, &mut file, &pod, &lock).inspect_err(|fault| run.cluster.report_failure(&pod, fault));
    if added.is_err() && !report.removed.is_empty() {
        publish(run, &file, &pod, Vec::new());
    }
    let (changes, added) = added?;
    report.added = added;
    let gone: Vec<String> = changes.removed.iter().filter_map(|i| goodbye(&file, *i)).collect();
    let removed = remove(run, &mut file, &changes.removed, &lock);
    match &removed {
        Ok(()) => report.removed.extend(gone),
        Err(fault) => run.cluster.report_left(&pod, fault),
    }
    if !changes.is_empty() || !report.removed.is_empty() {
        publish(run, &file, &pod, report.added.clone());
    }
    removed.map(|()| report)
}

/// Undoes what an earlier call left half attached or half detached. Returns a sentence for each interface that was to go.
pub(super) fn finish(run: &Run<'_>, file: &mut RecordFile, lock: &SandboxLock) -> Result<Vec<String>> {
    require_alive(run, file, lock)?;
    let unfinished = file.record.unfinished();
    if unfinished.is_empty() {
        return Ok(Vec::new());
    }
    let leaving = unfinished.iter().filter(|i| file.record.leaving.contains(i));
    let gone = leaving.filter_map(|i| goodbye(file, *i)).collect();
    undo_part(file, &unfinished, &run.undo_context(run.deadline, lock))?;
    Ok(gone)
}

/// The record of a sandbox that is attached, and its pod.
pub(super) fn settled(run: &Run<'_>, asked: &Target) -> Result<(RecordFile, PodRef)> {
    let unknown = |why: &str| Fault::Unknown(format!("got sandbox {} with {}, {why}", asked.container, asked.ifname));
    let found = run.store.find(&run.key(asked))?.filter(RecordFile::is_settled);
    let file = found.ok_or_else(|| unknown("which is not attached; want an ADD first"))?;
    if file.record.damaged {
        return Err(unknown("whose record is damaged; want a DEL"));
    }
    let pod = file.record.intent.as_ref().and_then(|intent| intent.pod.clone());
    let pod = pod.ok_or_else(|| unknown("which is no pod's: nothing says which networks it wants"))?;
    Ok((file, pod))
}

/// Attaches what the annotation lists and the pod does not have. Returns the changes by index in the record, and a sentence for each new
/// interface.
fn add(run: &Run<'_>, file: &mut RecordFile, pod: &PodRef, lock: &SandboxLock) -> Result<(Changes, Vec<String>)> {
    let Some(intent) = file.record.intent.clone() else {
        return Err(Fault::Bug("a settled record has no intent".to_owned()));
    };
    let target = target(&intent)?;
    let places = file.record.in_place();
    let held: Vec<Attachment> = file.record.attached().into_iter().map(|(attachment, _)| attachment.clone()).collect();
    let (changes, Resolved { bound, reserved, asked, .. }) = resolve::bind_changes(run, &target, pod, &held)?;
    let changes =
        Changes { removed: changes.removed.iter().filter_map(|at| places.get(*at).copied()).collect(), ..changes };
    if changes.is_empty() {
        return Ok((changes, Vec::new()));
    }
    let first = intent.attachments.len();
    // The delegates that attach now are those that undo, and the record says them once.
    let (plugin_dirs, builtin) = (intent.plugin_dirs.clone(), intent.builtin.clone());
    let own = run.node(Some(lock.file()));
    let node = Node { reserved: &reserved, plugin_dirs: &plugin_dirs, builtin: builtin.as_deref(), ..own };
    let mut grown = intent;
    grown.attachments.extend(bound.attachments.iter().cloned());
    let chains = chains(&grown, first, &held, &node)?;
    join(run, Some(pod), &bound.attachments)?;
    if !bound.attachments.is_empty() {
        file.grow(bound.attachments.clone())?;
    }
    let mut progress = Progress::default();
    let (leaving, asked) = (changes.removed.as_slice(), asked.as_str());
    let growth = Growth { run, intent: &grown, first, held: &held, places: &places, leaving, asked, node: &node };
    if let Err(fault) = growth.attach(&chains, file, &mut progress) {
        roll_back(run, file, first, &progress, lock);
        return Err(fault);
    }
    let unmet: Vec<String> = bound.unmet.into_iter().chain(progress.unmet).collect();
    bound.warnings.iter().chain(&unmet).for_each(|warning| warn(warning));
    if !unmet.is_empty() {
        run.cluster.report_unmet(pod, unmet.join("; "));
    }
    let results = progress.attached.iter().map(|one| &one.result);
    let Assembled { status, .. } = assemble(&bound.attachments, results, run.conf.strict);
    Ok((changes, status.added))
}

/// A sandbox whose namespace may be another pod's by now is left alone.
pub(super) fn require_alive(run: &Run<'_>, file: &RecordFile, lock: &SandboxLock) -> Result<()> {
    let Some(intent) = &file.record.intent else { return Ok(()) };
    match judge(intent, file.record.done.as_ref(), &intent.node(&run.undo_context(run.deadline, lock))) {
        Liveness::Alive => Ok(()),
        Liveness::Dead(why) | Liveness::Unsure(why) => {
            Err(Fault::TryLater(format!("sandbox {}: whether it is alive is not certain: {why}", file.key.container)))
        }
    }
}

/// The sandbox as its ADD was given it.
fn target(intent: &Intent) -> Result<Target> {
    let Intent { key, netns, attachments, .. } = intent;
    let mut args = parse_args(attachments.first().map(|default| default.args.as_str()).unwrap_or_default())?;
    // What the default network was asked for is not asked of others.
    if attachments.first().is_some_and(|default| !default.unverified.is_empty()) {
        args.retain(|(name, _)| name != "IP" && name != "MAC");
    }
    Ok(Target { container: key.container.clone(), netns: netns.clone(), ifname: key.ifname.clone(), args })
}

/// The chains of the new attachments, found valid as those of an ADD are, beside the host ports of the others.
fn chains<'a>(
    intent: &'a Intent,
    first: usize,
    held: &'a [Attachment],
    node: &Node<'_>,
) -> Result<Vec<ValidChain<'a>>> {
    let each = |attachment: &'a Attachment| Chain::new(intent, attachment, &intent.netns);
    let chains: Vec<ValidChain<'_>> =
        intent.attachments.iter().skip(first).map(|one| each(one).validate(node)).collect::<Result<_>>()?;
    let mut host = Host::new(node.clone());
    for (chain, _) in chains.iter().zip(&intent.attachments[first..]).filter(|(_, one)| one.is_tenants) {
        chain.admit(&mut host)?;
    }
    let mut ports = HostPorts::default();
    held.iter().map(each).for_each(|chain| chain.note_ports(&mut ports));
    for chain in &chains {
        chain.chain().claim_ports(node, &mut ports)?;
    }
    Ok(chains)
}

/// A set that grows.
struct Growth<'a> {
    run: &'a Run<'a>,
    /// With the new attachments.
    intent: &'a Intent,
    first: usize,
    /// What the pod has, and where it stands in the record.
    held: &'a [Attachment],
    places: &'a [usize],
    /// What is taken away after this, by its place.
    leaving: &'a [usize],
    /// The digest of the annotation.
    asked: &'a str,
    node: &'a Node<'a>,
}

impl Growth<'_> {
    /// Attaches what is new, moves the pod's default routes to what asks for them, or back, and writes down what has become of all this.
    fn attach(&self, chains: &[ValidChain<'_>], file: &mut RecordFile, progress: &mut Progress) -> Result<()> {
        let Self { run, intent, first, held, node, .. } = self;
        let leaving = self.leaving_positions();
        if chains.is_empty() && leaving.iter().all(|at| held[*at].default_route.is_none()) {
            return file.grown(self.grown(BTreeMap::new()));
        }
        let mut sandbox = sandbox::Sandbox::open(&intent.netns, node).map_err(|e| Fault::Netns(e.to_string()))?;
        let before: Vec<RecordedAttachment> = file.record.attached().into_iter().map(|(_, one)| one.clone()).collect();
        let results: Vec<CniResult> = before.iter().map(|one| read(&one.result)).collect::<Result<_>>()?;
        let default = results.first();
        Attaching { run, intent, first: *first, default, chains, node, kept: None }.attach(
            file,
            &mut sandbox,
            progress,
        )?;
        dad::settle(&mut sandbox, node, &intent.attachments[*first..], &progress.attached, run.conf.dad_wait)?;

        let fault = |source| Fault::Delegate { subject: format!("sandbox {}", intent.key.container), source };
        let kept = DefaultRoutes::of(&mut sandbox).map_err(fault)?;
        let moved = self.move_routes(&mut sandbox, &before, &results, progress);
        moved.and_then(|attached| file.grown(self.grown(attached))).inspect_err(|_| {
            if let Err(error) = kept.put_back(&mut sandbox) {
                warn(&format!("the pod's default routes are not what they were: {error}"));
            }
        })
    }

    /// Returns what the record says of what is new, and of others whose routes have changed.
    fn move_routes(
        &self,
        sandbox: &mut sandbox::Sandbox,
        before: &[RecordedAttachment],
        results: &[CniResult],
        progress: &mut Progress,
    ) -> Result<BTreeMap<usize, RecordedAttachment>> {
        let Self { intent, first, held, places, .. } = self;
        let all: Vec<Attachment> = held.iter().chain(&intent.attachments[*first..]).cloned().collect();
        let links = before.iter().map(|one| one.links.clone());
        let mut attached: Vec<Attached> =
            results.iter().cloned().zip(links).map(|(result, links)| Attached { result, links }).collect();
        attached.append(&mut progress.attached);
        let arbitrated = routes::arbitrate(sandbox, &all, &mut attached, held.len());
        progress.attached = attached.split_off(held.len());
        arbitrated?;
        // The first result of each, whoever has taken its routes since.
        let displaced = before.iter().zip(results).zip(&attached).map(|((one, then), now)| match &one.displaced {
            Some(displaced) => read(displaced).ok(),
            None => Some(then.clone()).filter(|then| *then != now.result),
        });
        let displaced: Vec<Option<CniResult>> = displaced.collect();
        routes::give_back(sandbox, &all, &mut attached, &displaced, &self.leaving_positions());

        let mut changed = BTreeMap::new();
        for (at, now) in attached.iter().enumerate().filter(|(at, now)| now.result != results[*at]) {
            changed.insert(places[at], recorded(now, displaced[at].as_ref())?);
        }
        for (i, one) in progress.attached.iter().enumerate() {
            changed.insert(first + i, recorded(one, None)?);
        }
        Ok(changed)
    }

    fn grown(&self, attached: BTreeMap<usize, RecordedAttachment>) -> Grown {
        Grown { attached, leaving: self.leaving.to_vec(), asked: self.asked.to_owned() }
    }

    /// What is taken away, by its position among what the pod has.
    fn leaving_positions(&self) -> Vec<usize> {
        (0..self.held.len()).filter(|at| self.leaving.contains(&self.places[*at])).collect()
    }
}

pub(super) fn read(result: &Object) -> Result<CniResult> {
    Ok(CniResult::from_object(result.clone(), Version::NEWEST)?)
}

/// Takes back what a failed hot-plug has attached. What cannot be undone is unfinished in the record.
fn roll_back(run: &Run<'_>, file: &mut RecordFile, first: usize, progress: &Progress, lock: &SandboxLock) {
    let all = file.record.intent.as_ref().map_or(0, |intent| intent.attachments.len());
    let failing = first + progress.attached.len();
    // Limits the undo to what was attempted: the plugin that failed, and everything before it (R31).
    for attachment in failing + 1..all {
        if file.append(&Entry::Undone(&Undone { attachment })).is_ok() {
            file.record.undone.push(attachment);
        }
    }
    if let Some(attachment) = file.record.intent.as_mut().and_then(|intent| intent.attachments.get_mut(failing)) {
        attachment.plugins.truncate(progress.ran);
    }
    let part = file.record.unfinished();
    let context = run.undo_context(run.undo_deadline(), lock);
    if let Err(fault) = undo_part(file, &part, &context) {
        warn(&format!("undoing a failed hot-plug is not complete and will be resumed: {fault}"));
    }
}

/// Takes attachments away.
fn remove(run: &Run<'_>, file: &mut RecordFile, removed: &[usize], lock: &SandboxLock) -> Result<()> {
    if removed.is_empty() {
        return Ok(());
    }
    undo_part(file, removed, &run.undo_context(run.undo_deadline(), lock))?;
    if let Err(fault) = file.shorten() {
        warn(&fault.to_string());
    }
    Ok(())
}

/// The sentence of an attachment that goes.
fn goodbye(file: &RecordFile, i: usize) -> Option<String> {
    let attachment = file.record.intent.as_ref()?.attachments.get(i)?;
    Some(format!("Remove {} from {}", attachment.ifname, attachment.source))
}

/// Publishes what the pod has now. A failure is a warning: the agent compares statuses with records.
fn publish(run: &Run<'_>, file: &RecordFile, pod: &PodRef, added: Vec<String>) {
    let told = super::recorded_status::recorded_status(&file.record, Duration::ZERO);
    let published = told.and_then(|told| match told {
        Some(told) => run.cluster.publish(
            pod,
            PodStatus { status: told.status, added, beside: told.beside },
            run.conf.status_wait,
        ),
        None => Ok(()),
    });
    if let Err(fault) = published {
        warn(&format!("network-status of pod {pod} is not written: {fault}"));
    }
}
