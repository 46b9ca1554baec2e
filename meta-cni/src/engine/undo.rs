//! Undoes an attachment set: the one code path for DEL, GC, a failed ADD and the resumption of an unfinished undo.

use std::cell::Cell;
use std::time::{Duration, Instant};

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use attachments::names::PodRef;
use attachments::selection::RequestedRule;
use delegates::apply::{detach, detach_part, detach_unrecorded};
use delegates::host::{Astray, Host};
use delegates::spec::LinkId;

use super::chain::{Chain, has_builtin};
use super::liveness::inhabited;
use super::lock::SandboxLock;
use super::log::warn;
use super::record::{Entry, Intent, RecordedAttachment, Saved, Undone};
use super::sandbox_lookup::{FoundSandbox, Whereabouts, namespace_id};
use super::store::{DAMAGED, RecordFile, Store};
use super::{boot, devinfo};
use crate::cluster::Cluster;
use crate::fault::{Fault, Result};

/// The context of an undo.
pub struct UndoContext<'a> {
    /// The state directory.
    pub state_dir: &'a std::path::Path,
    /// When it must be over.
    pub deadline: Instant,
    /// The held lock of the sandbox.
    pub lock: &'a SandboxLock,
    /// No other node has a part in this one's networks.
    pub is_alone: bool,
    /// Only for a DEL of the runtime.
    pub ending: Option<Ending<'a>>,
}

/// The end of a pod comes also where a program that attached it is gone, or its daemon.
pub struct Ending<'a> {
    /// `abandonAfterSeconds`: so long after the first one, a DEL that only programs fail is a success.
    pub patience: Duration,
    /// Is told.
    pub cluster: &'a Cluster,
}

/// Undoes everything in a record and removes the record. What fails stays in the record for the next attempt, and the error
/// lists it.
pub fn undo(mut file: RecordFile, whereabouts: Whereabouts<'_>, context: &UndoContext<'_>) -> Result<()> {
    let is_finished = file.record.unfinished().is_empty();
    let Some(intent) = file.record.intent.take() else {
        // A torn intent means that no delegate ran. A damaged intent does not.
        return if file.record.damaged { Err(damaged(&file)) } else { file.remove(None) };
    };
    if let Err(fault) = file.unsettle() {
        // A full or read-only disk must not stop the undo of what is in the kernel.
        warn(&fault.to_string());
    }
    let is_damaged = file.record.damaged;
    let is_incomplete = file.is_made_up() || is_damaged;
    let lists_links = file.record.done.is_some() && !is_incomplete && is_finished;
    let attached = file.record.done.take().map(|done| done.attached).unwrap_or_default();
    let node = intent.node(context);
    let results = results(&intent, &attached);
    let found = FoundSandbox::find(whereabouts, &intent, &results, &node)?;
    let left: Vec<usize> = (0..intent.attachments.len()).rev().filter(|i| !file.record.undone.contains(i)).collect();
    let saved = std::mem::take(&mut file.record.saved);
    let current = Cell::new(0);
    let mut journal = |state: &Object| file.save(Saved { attachment: current.get(), state: state.clone() });
    let mut undo = Undo {
        intent: &intent,
        results,
        links: attached.into_iter().flat_map(|entry| entry.links).collect(),
        staying: None,
        rules: Vec::new(),
        found,
        host: Host::with_journal(node, &mut journal),
        saved,
        is_incomplete,
        lists_links,
        is_awaited: context.ending.is_some(),
        are_links_gone: None,
        undone: Vec::new(),
        faults: Vec::new(),
    };
    let freed = undo.restore(&left, &current);
    undo.delete(&freed, context.deadline);
    if is_damaged && freed.len() == left.len() {
        // The links of an attachment that cannot be read carry the record's group too.
        undo.detach_once();
    }
    let is_over = undo.is_over(&left, context);
    let Undo { undone, faults, .. } = undo;
    match context.ending.as_ref().filter(|_| is_over) {
        Some(ending) => give_up(file, &intent, &undone, &faults, ending),
        None => finish(file, intent.pod.as_ref(), &undone, faults),
    }
}

/// Undoes attachments of a settled set; the others stay. What fails is unfinished in the record for the next attempt, and the error
/// lists it.
pub fn undo_part(file: &mut RecordFile, part: &[usize], context: &UndoContext<'_>) -> Result<()> {
    let Some(intent) = file.record.intent.clone() else { return Err(damaged(file)) };
    let node = intent.node(context);
    let attached = file.record.done.clone().map(|done| done.attached).unwrap_or_default();
    let results = results(&intent, &attached);
    let found = FoundSandbox::find(Whereabouts::Recorded, &intent, &results, &node)?;
    let mut left = part.to_vec();
    left.sort_unstable_by(|one, other| other.cmp(one));
    let links_of = |of: &[usize]| -> Vec<LinkId> {
        of.iter().filter_map(|i| attached.get(*i)).flat_map(|entry| entry.links.clone()).collect()
    };
    let stay: Vec<usize> = (0..intent.attachments.len()).filter(|i| !part.contains(i)).collect();
    let rules = file.record.in_place().into_iter().filter(|i| !part.contains(i));
    let rules = rules.filter_map(|i| intent.attachments.get(i)).flat_map(|one| one.rules.clone()).collect();
    let lists_links = part.iter().all(|i| results[*i].is_some());
    let saved = file.record.saved.clone();
    let staying = saved.iter().filter(|one| stay.contains(&one.attachment)).map(|one| one.state.clone()).collect();
    let current = Cell::new(0);
    let mut journal = |state: &Object| file.save(Saved { attachment: current.get(), state: state.clone() });
    let mut undo = Undo {
        intent: &intent,
        results,
        links: links_of(part),
        staying: Some(links_of(&stay)),
        rules,
        found,
        host: Host::with_journal(node, &mut journal).sparing(staying),
        saved,
        is_incomplete: false,
        lists_links,
        is_awaited: false,
        are_links_gone: None,
        undone: Vec::new(),
        faults: Vec::new(),
    };
    let freed = undo.restore(&left, &current);
    undo.delete(&freed, context.deadline);
    let Undo { undone, mut faults, .. } = undo;
    for attachment in undone {
        faults.extend(file.append(&Entry::Undone(&Undone { attachment })).err());
        file.record.undone.push(attachment);
    }
    Fault::several(faults)
}

/// What each attachment of a set was given, as far as it is recorded.
fn results(intent: &Intent, attached: &[RecordedAttachment]) -> Vec<Option<CniResult>> {
    let known = |i: usize| attached.get(i).map(|entry| &entry.result).filter(|result| !result.is_empty());
    let each = |i: usize| CniResult::from_object(known(i)?.clone(), Version::NEWEST).ok();
    (0..intent.attachments.len()).map(each).collect()
}

/// The fault of a record without an intent.
fn damaged(file: &RecordFile) -> Fault {
    Fault::Io(format!("sandbox {}: {DAMAGED}", file.key.container))
}

/// A running undo.
struct Undo<'a> {
    intent: &'a Intent,
    results: Vec<Option<CniResult>>,
    links: Vec<LinkId>,
    /// The links of the attachments that stay; None where none does.
    staying: Option<Vec<LinkId>>,
    /// The rules of those.
    rules: Vec<RequestedRule>,
    found: FoundSandbox,
    host: Host<'a>,
    saved: Vec<Saved>,
    /// The record is made up from the node's configuration, or damaged.
    is_incomplete: bool,
    /// The record lists all our links: the ADD was complete.
    lists_links: bool,
    /// A runtime waits for the answer.
    is_awaited: bool,
    /// The outcome of the one message that deletes our links; None before it was sent.
    are_links_gone: Option<bool>,
    undone: Vec<usize>,
    faults: Vec<Fault>,
}

impl Undo<'_> {
    /// Restores what the pod only borrowed, before any link is deleted. Returns the attachments that can be deleted.
    fn restore(&mut self, left: &[usize], current: &Cell<usize>) -> Vec<usize> {
        if boot::is_over(self.intent) {
            // The reboot has reset what was lent or changed.
            return left.to_vec();
        }
        let mut freed = Vec::new();
        for &i in left {
            current.set(i);
            let states = Saved::of(&self.saved, i);
            let chain = Chain::new(self.intent, &self.intent.attachments[i], &self.found.for_delegates);
            // While the link is there: its routes may be in the table of a vrf that it is in.
            if let Some(Err(fault)) = self.found.sandbox.as_mut().map(|sandbox| chain.unroute(sandbox, &self.rules)) {
                self.faults.push(fault);
                continue;
            }
            let (sandbox, result) = (self.found.sandbox.as_mut(), self.results[i].as_ref());
            // Without saved state nothing was borrowed. An incomplete record proves nothing, so the delegate looks into the
            // pod.
            match states.is_empty() && !self.is_incomplete {
                true => freed.push(i),
                false => match chain.restore(&mut self.host, sandbox, result, &states) {
                    Ok(()) => freed.push(i),
                    Err(fault) => self.faults.push(fault),
                },
            }
        }
        freed
    }

    /// DEL of every attachment, the last one first; a failure does not stop the rest (R32).
    fn delete(&mut self, freed: &[usize], deadline: Instant) {
        for (done, &i) in freed.iter().enumerate() {
            // A delegate that hangs uses up its own share of the time only.
            self.host.node.deadline = share(deadline, freed.len() - done);
            let attachment = &self.intent.attachments[i];
            // An address is not released while its link may still use it.
            if has_builtin(attachment, &self.host.node) && !self.detach_once() {
                continue;
            }
            let states = Saved::of(&self.saved, i);
            let chain = Chain::new(self.intent, attachment, &self.found.for_delegates)
                .with_saved((!self.is_incomplete).then_some(&states));
            match chain.del(&mut self.host, self.results[i].as_ref()) {
                Ok(()) => {
                    devinfo::remove(attachment);
                    self.undone.push(i);
                }
                Err(fault) => self.faults.push(fault),
            }
        }
    }

    /// Only programs have failed, they have done so for long enough, and no process is in the sandbox. Then everything else is
    /// undone too: a chain's DEL had stopped at its program.
    fn is_over(&mut self, left: &[usize], context: &UndoContext<'_>) -> bool {
        let Some(ending) = &context.ending else { return false };
        let is_of_program = |fault: &Fault| matches!(fault, Fault::Delegate { source, .. } if source.is_of_program());
        if self.faults.is_empty() || !self.faults.iter().all(is_of_program) || self.is_inhabited() {
            return false;
        }
        // Without a mark the time does not run.
        let failing_for = Store::new(context.state_dir).failing_for(&self.intent.key);
        if !failing_for.is_ok_and(|time| time >= ending.patience) {
            return false;
        }
        let before = self.faults.len();
        for &i in left.iter().filter(|i| !self.undone.contains(i)) {
            let chain = Chain::new(self.intent, &self.intent.attachments[i], &self.found.for_delegates);
            self.faults.extend(chain.del_in_process(&mut self.host, self.results[i].as_ref()).err());
        }
        self.faults.len() == before
    }

    /// Is a process in the sandbox? Runtimes keep the namespace of a dead pod until its DEL has succeeded.
    fn is_inhabited(&self) -> bool {
        let id = || namespace_id(&self.found.for_delegates).unwrap_or(self.intent.netns_id);
        self.found.sandbox.is_some() && inhabited(id()).is_some()
    }

    /// Deletes all our links in the pod with one message, for the first built-in attachment. False when it failed.
    fn detach_once(&mut self) -> bool {
        if let Some(gone) = self.are_links_gone {
            return gone;
        }
        let detached = match (&mut self.found.sandbox, &self.staying) {
            (Some(sandbox), Some(staying)) => {
                // What is recorded is all, or a lent device may be in the group by now.
                let is_listed = self.lists_links || self.host.astray().is_some();
                let group = if is_listed { NO_GROUP } else { self.intent.key.group() };
                detach_part(sandbox, group, &self.links, staying)
            }
            (Some(sandbox), None) => {
                let group = match self.host.astray() {
                    // The pod may have put a lent device into the group. Without the message our links are deleted one by one.
                    Some(_) if self.lists_links => NO_GROUP,
                    // Only the group says which links are ours. They wait until the device is back.
                    Some(Astray::Kept) => return *self.are_links_gone.insert(false),
                    Some(Astray::Missing) | None => self.intent.key.group(),
                };
                let lock = self.host.node.lock.filter(|_| self.is_awaited);
                let by_group = detach(sandbox, group, &self.links, lock);
                let made_up = self.intent.attachments.iter().filter(|_| self.is_incomplete);
                let built_in = made_up.filter(|attachment| has_builtin(attachment, &self.host.node));
                built_in.fold(by_group, |so_far, one| so_far.and(detach_unrecorded(sandbox, &one.ifname)))
            }
            (None, _) => Ok(()),
        };
        let gone = detached.is_ok();
        if let Err(source) = detached {
            let subject = format!("sandbox {}", self.intent.key.container);
            self.faults.push(Fault::Delegate { subject, source });
        }
        *self.are_links_gone.insert(gone)
    }
}

/// The group with which [`detach`] sends no message.
const NO_GROUP: u32 = 0;

/// Removes the record, or marks in it how far the undo got. A record that cannot be removed is no failure: a repeated undo
/// finds nothing to do.
fn finish(mut file: RecordFile, pod: Option<&PodRef>, undone: &[usize], faults: Vec<Fault>) -> Result<()> {
    if faults.is_empty() {
        if let Err(fault) = file.remove(pod) {
            warn(&format!("everything is undone, but {fault}"));
        }
        return Ok(());
    }
    file.note_failure(pod);
    mark(&mut file, undone);
    file.touch();
    Fault::several(faults)
}

/// Marks what is undone. The marks only save work: a repeated DEL of what is undone succeeds too.
fn mark(file: &mut RecordFile, undone: &[usize]) {
    for &attachment in undone {
        if let Err(fault) = file.append(&Entry::Undone(&Undone { attachment })) {
            warn(&fault.to_string());
        }
    }
}

/// Ends a DEL whose programs are gone: the record waits in `abandoned/` until a recovery finds them back.
fn give_up(
    mut file: RecordFile,
    intent: &Intent,
    undone: &[usize],
    faults: &[Fault],
    ending: &Ending<'_>,
) -> Result<()> {
    let (key, pod) = (file.key.clone(), intent.pod.as_ref());
    let told: Vec<String> = faults.iter().map(Fault::message).collect();
    let text = format!(
        "sandbox {} is given up {} s after the first DEL that failed, see abandoned/{key}; what may be left: {}",
        key.container,
        ending.patience.as_secs(),
        told.join("; ")
    );
    mark(&mut file, undone);
    file.abandon(pod)?;
    warn(&text);
    if let Some(pod) = pod {
        ending.cluster.report_abandoned(pod, text);
    }
    Ok(())
}

/// The deadline for the next of `left` attachments.
fn share(deadline: Instant, left: usize) -> Instant {
    let now = Instant::now();
    let parts = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    now + deadline.saturating_duration_since(now) / parts
}
