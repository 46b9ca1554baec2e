//! What the settled records say about their pods: the same `network-status` that the ADD reported.

use std::path::Path;
use std::time::Duration;

use attachments::bind::Attachment;
use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use attachments::names::PodRef;

use super::network_status::{Assembled, assemble};
use super::record::{Key, Record};
use super::store::Store;
use crate::cluster::Annotations;
use crate::fault::{Fault, Result};

/// A settled record, not opened yet.
pub struct SettledRecord {
    store: Store,
    key: Key,
    age: Duration,
}

/// What a record says about its pod.
pub struct RecordedStatus {
    /// The pod.
    pub pod: PodRef,
    /// Text of the annotation.
    pub status: String,
    /// What a dialect writes beside it, by annotation.
    pub beside: Annotations,
    /// How long ago its ADD succeeded.
    pub age: Duration,
    /// False where a device's information could not be read from here: what was reported may have held more.
    pub is_whole: bool,
}

/// The settled records of a state directory.
pub fn settled(state_dir: &Path) -> Result<Vec<SettledRecord>> {
    let store = Store::new(state_dir);
    let found = store.settled()?;
    Ok(found.into_iter().map(|(key, age)| SettledRecord { store: store.clone(), key, age }).collect())
}

impl SettledRecord {
    /// Reads the record. Nothing when it is gone, is being undone, or belongs to no pod.
    pub fn read(&self) -> Result<Option<RecordedStatus>> {
        let Some(file) = self.store.find(&self.key)?.filter(|file| file.is_settled() && !file.record.damaged) else {
            return Ok(None);
        };
        recorded_status(&file.record, self.age)
    }
}

pub(super) fn recorded_status(record: &Record, age: Duration) -> Result<Option<RecordedStatus>> {
    let Some(intent) = record.intent.as_ref().filter(|_| record.done.is_some()) else { return Ok(None) };
    let Some(pod) = intent.pod.clone() else { return Ok(None) };
    let read = |entry: &super::record::RecordedAttachment| {
        CniResult::parse(entry.result.to_json().as_bytes(), Version::NEWEST)
            .map_err(|e| Fault::Io(format!("record of pod {pod}: {e}")))
    };
    let attached = record.attached();
    let results: Vec<CniResult> = attached.iter().map(|(_, entry)| read(entry)).collect::<Result<_>>()?;
    let attachments: Vec<Attachment> = attached.into_iter().map(|(attachment, _)| attachment.clone()).collect();
    let Assembled { status, is_whole } = assemble(&attachments, &results, intent.strict);
    Ok(Some(RecordedStatus { pod, status: status.status, beside: status.beside, age, is_whole }))
}
