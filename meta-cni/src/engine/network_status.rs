//! The `network-status` of an attachment set: for the ADD that made the set, and for whoever reads its record later.

use attachments::bind::Attachment;
use attachments::cni::result::CniResult;
use attachments::status::{AttachmentStatus, network_status};

use super::devinfo;
use crate::cluster::PodStatus;

/// What is said about a set.
pub struct Assembled {
    /// Annotation and events.
    pub status: PodStatus,
    /// False where a device's information could not be read from here: another reader may say more.
    pub is_whole: bool,
}

/// Assembles it from the attachments and their results, in order.
pub fn assemble<'a>(
    attachments: &[Attachment],
    results: impl IntoIterator<Item = &'a CniResult>,
    strict: bool,
) -> Assembled {
    let known: Vec<_> = attachments.iter().map(devinfo::read).collect();
    let is_whole = known.iter().all(|known| known.is_all);
    let statuses: Vec<AttachmentStatus<'_>> = attachments
        .iter()
        .zip(results)
        .zip(&known)
        .map(|((attachment, result), known)| AttachmentStatus {
            attachment,
            result: Some(result),
            device_info: known.info.as_ref(),
        })
        .collect();
    let status = network_status(&statuses, strict);
    Assembled {
        status: PodStatus { status, added: statuses.iter().filter_map(AttachmentStatus::event).collect() },
        is_whole,
    }
}
