//! `meta-cni verify`: compares every settled record of the node with the kernel, as CHECK does. The agent starts it from time to time,
//! for runtimes never call CHECK.
//!
//! It is made to be repeated: one process for all sandboxes, no program of a chain is started, and a sandbox on which a call is at work
//! is passed over.

use std::time::Instant;

use attachments::aliases::stands_for;
use attachments::bind::Attachment;
use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use delegates::error::Error;
use delegates::host::Host;
use delegates::sandbox::Sandbox;

use super::chain::{Chain, has_external};
use super::liveness::{Liveness, judge};
use super::lock::SandboxLock;
use super::record::{Intent, Key, Record, Saved};
use super::run::Run;
use super::sandbox_lookup::namespace_id;
use super::store::RecordFile;
use super::undo::UndoContext;
use crate::fault::{Fault, Result};
use crate::repair::{Difference, Differing, VerifyReport};

/// The type that hands its work on to another plugin, which may be a program.
const HANDS_ON: &str = "flannel";

/// Compares all sandboxes. A sandbox that cannot be compared is a fault of the report, and stops no other.
pub fn verify(run: &Run<'_>) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    if run.conf.disable_check {
        return Ok(report);
    }
    for (key, _) in run.store.settled()?.into_iter().filter(|(key, _)| key.network == run.conf.network) {
        if Instant::now() >= run.deadline {
            report.faults.push(format!("sandbox {}: no time was left for it", key.container));
            report.passed_over.push(key.container);
            continue;
        }
        match one(run, &key) {
            Ok(None) => report.passed_over.push(key.container),
            Ok(Some((differing, faults))) => {
                report.compared += 1;
                report.differing.extend(Some(differing).filter(|one| !one.differences.is_empty()));
                report.passed_over.extend(Some(key.container).filter(|_| !faults.is_empty()));
                report.faults.extend(faults);
            }
            Err(fault) => {
                report.faults.push(format!("sandbox {}: {}", key.container, fault.message()));
                report.passed_over.push(key.container);
            }
        }
    }
    Ok(report)
}

/// The differences of one sandbox, and why attachments could not be compared. None where there is nothing to compare now.
fn one(run: &Run<'_>, key: &Key) -> Result<Option<(Differing, Vec<String>)>> {
    let Some(lock) = SandboxLock::try_acquire(&run.store.locks(), &key.container)? else { return Ok(None) };
    let found = run.store.find(key)?.filter(|found| found.is_settled() && !found.record.damaged);
    let Some(RecordFile { record, .. }) = found else { return Ok(None) };
    let Some(intent) = &record.intent else { return Ok(None) };
    let context = run.undo_context(run.deadline, &lock);
    let doubt = match judge(intent, record.done.as_ref(), &intent.node(&context)) {
        Liveness::Alive => None,
        // A pod that has lost all its links looks like that. What is told of a pod that is gone reaches nobody.
        Liveness::Unsure(why) if namespace_id(&intent.netns) == Some(intent.netns_id) => Some(why),
        Liveness::Unsure(_) | Liveness::Dead(_) => return Ok(None),
    };
    let (mut differences, mut faults) = (Vec::new(), Vec::new());
    for (i, found) in compare(intent, &record, &context)? {
        let attachment = &intent.attachments[i];
        match found {
            Ok(()) => {}
            Err(fault) if is_difference(&fault) => differences.push(Difference {
                ifname: attachment.ifname.clone(),
                is_default: attachment.is_default,
                text: fault.message(),
                left: doubt.clone().or_else(|| obstacle(intent, &record, i, &context)),
            }),
            Err(fault) => faults.push(format!("sandbox {}: {}", key.container, fault.message())),
        }
    }
    let (container, ifname, pod) = (key.container.clone(), key.ifname.clone(), intent.pod.clone());
    Ok(Some((Differing { container, ifname, pod, differences }, faults)))
}

/// Compares each attachment that CHECK compares, by its index in the record.
pub fn compare(intent: &Intent, record: &Record, context: &UndoContext<'_>) -> Result<Vec<(usize, Result<()>)>> {
    let node = intent.node(context);
    let mut sandbox = Sandbox::open(&intent.netns, &node).map_err(|e| Fault::Netns(e.to_string()))?;
    let mut host = Host::new(node).without_programs();
    let attached = record.done.as_ref().map(|done| done.attached.as_slice()).unwrap_or_default();
    let mut found = Vec::new();
    for i in record.in_place() {
        let (Some(attachment), Some(entry)) = (intent.attachments.get(i), attached.get(i)) else { continue };
        if attachment.disable_check || !attachment.version.has_check() {
            continue;
        }
        let result = CniResult::from_object(entry.result.clone(), Version::NEWEST)?;
        let states = Saved::of(&record.saved, i);
        let chain = Chain::new(intent, attachment, &intent.netns).with_saved(Some(&states));
        found.push((i, chain.compare(&mut host, &mut sandbox, &result)));
    }
    Ok(found)
}

/// Is the failure of a comparison a difference, and not one of the comparison itself?
pub fn is_difference(fault: &Fault) -> bool {
    let Fault::Delegate { source, .. } = fault else { return false };
    matches!(source, Error::Differs(_) | Error::Parent(_) | Error::Addresses(_))
}

/// Why an attachment is not made anew. What its chain saved is old state of something that it changed or was lent: an ADD on top of it
/// would save the changed state as the old one.
pub fn obstacle(intent: &Intent, record: &Record, i: usize, context: &UndoContext<'_>) -> Option<String> {
    let Some(attachment) = intent.attachments.get(i) else { return Some("the record does not have it".to_owned()) };
    let Attachment { plugins, .. } = attachment;
    if has_external(attachment, &intent.node(context)) {
        let kinds: Vec<&str> = plugins.iter().map(|plugin| plugin.kind.as_str()).collect();
        return Some(format!("its chain ({}) has a program", kinds.join(", ")));
    }
    if plugins.iter().any(|plugin| stands_for(plugin.kind.as_str()) == HANDS_ON) {
        return Some(format!("{HANDS_ON} hands it on to another plugin"));
    }
    if record.saved.iter().any(|saved| saved.attachment == i) {
        return Some(
            "it was lent something of the node, has a DHCP lease, or has changed what others share".to_owned(),
        );
    }
    if intent.asked.is_none() {
        return Some("its record is one of an earlier version".to_owned());
    }
    let entry = record.done.as_ref().and_then(|done| done.attached.get(i));
    let result = entry.and_then(|entry| CniResult::from_object(entry.result.clone(), Version::NEWEST).ok())?;
    let host = Host::new(intent.node(context)).without_programs();
    // Another pod may have them by now.
    let held = Chain::new(intent, attachment, &intent.netns).holds(&host, &result);
    held.err().map(|fault| format!("its addresses are not its own any more ({})", fault.message()))
}
