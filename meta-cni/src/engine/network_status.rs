//! The `network-status` of an attachment set: for the ADD that made the set, and for whoever reads its record later.

use attachments::bind::Attachment;
use attachments::cni::result::CniResult;
use attachments::dialect::{Dialect, genie};
use attachments::status::{AttachmentStatus, network_status};

use super::devinfo;
use crate::cluster::{Annotations, PodStatus};

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
        status: PodStatus {
            status,
            added: statuses.iter().filter_map(AttachmentStatus::event).collect(),
            beside: beside(&statuses),
        },
        is_whole,
    }
}

/// What the dialect of the pod's list writes beside the status.
fn beside(statuses: &[AttachmentStatus<'_>]) -> Annotations {
    let mut beside = Annotations::new();
    let is_listed = |status: &&AttachmentStatus<'_>| {
        let translated = status.attachment.translated.as_ref();
        translated.is_some_and(|from| from.listed && from.dialect == Dialect::Genie.as_str())
    };
    let listed: Vec<_> = statuses.iter().filter(is_listed).collect();
    if listed.len() > 1 {
        let first = |status: &&AttachmentStatus<'_>| {
            let address = status.result.and_then(|result| result.ips.first()).map(|ip| ip.address.addr());
            (status.attachment.ifname.to_string(), address)
        };
        let interfaces: Vec<(String, _)> = listed.iter().map(first).collect();
        let interfaces: Vec<(&str, _)> = interfaces.iter().map(|(name, address)| (name.as_str(), *address)).collect();
        beside.insert(genie::PREFERENCES.to_owned(), genie::preferences(&interfaces));
    }
    beside
}
