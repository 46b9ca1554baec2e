//! What a call notes of itself for its line in the call log ([`crate::call_log`]).

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use attachments::bind::Attachment;

use super::run::Run;
use crate::call_log::{AttachmentReport, CallReport};
use crate::fault::Result;
use crate::request::Operation;

/// The warnings of this process, which is one call.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The attachments that a call has been about so far.
#[derive(Debug, Default)]
pub struct Notes(RefCell<Vec<AttachmentReport>>);

impl Notes {
    /// A chain of an attachment has run since `began`.
    pub fn ran<T>(&self, attachment: &Attachment, began: Instant, outcome: &Result<T>) {
        let code = outcome.as_ref().err().map_or(0, |fault| fault.code());
        self.0.borrow_mut().push(AttachmentReport { code, micros: micros(began), ..about(attachment) });
    }

    /// The attachments of a record are undone.
    pub fn undoes(&self, attachments: &[Attachment]) {
        self.0.replace(attachments.iter().map(about).collect());
    }

    /// The ADD begins anew.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

/// A warning, for the line of this call.
pub fn warned(text: &str) {
    WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
}

/// Appends the line of a call. A failure to do so is none of the call.
pub fn report<T>(run: &Run<'_>, served: &Result<T>) {
    let Some(verb) = run.request.operation.verb().filter(|_| !run.is_alone()) else { return };
    let code = served.as_ref().err().map_or(0, |fault| fault.code());
    let mut attachments = run.notes.0.take();
    if matches!(run.request.operation, Operation::Del(_)) {
        attachments.iter_mut().for_each(|one| one.code = code);
    }
    let target = run.request.operation.target();
    let pod = target.and_then(|target| target.pod().ok().flatten());
    let line = CallReport {
        verb: verb.as_str().to_owned(),
        code,
        micros: micros(run.started),
        container: target.map(|target| target.container.to_string()).unwrap_or_default(),
        pod: pod.map(|pod| pod.to_string()).unwrap_or_default(),
        attachments,
        warnings: std::mem::take(&mut *WARNINGS.lock().unwrap_or_else(PoisonError::into_inner)),
        error: served.as_ref().err().map(|fault| fault.message()).unwrap_or_default(),
    };
    let _ = line.append(&run.conf.state_dir);
}

/// What a report calls an attachment.
pub fn about(attachment: &Attachment) -> AttachmentReport {
    let delegate = attachment.plugins.first().map(|plugin| plugin.kind.to_string()).unwrap_or_default();
    AttachmentReport { network: attachment.source.to_string(), delegate, code: 0, micros: 0 }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
