//! The `network-status` of an attachment set: for the ADD that made the set, and for whoever reads its record later.

use attachments::bind::Attachment;
use attachments::cni::result::CniResult;
use attachments::status::{Report, network_status};

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
    let infos: Vec<_> = attachments.iter().map(devinfo::read).collect();
    let is_whole = attachments.iter().zip(&infos).all(|(one, info)| one.device_info_file.is_none() || info.is_some());
    let reports: Vec<Report<'_>> = attachments
        .iter()
        .zip(results)
        .zip(&infos)
        .map(|((attachment, result), info)| Report { attachment, result: Some(result), device_info: info.as_ref() })
        .collect();
    let status = network_status(&reports, strict);
    Assembled { status: PodStatus { status, added: reports.iter().filter_map(Report::event).collect() }, is_whole }
}
