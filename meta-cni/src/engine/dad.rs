//! The end of an ADD: the detection of duplicate addresses has passed what was attached (`dadWaitMs`).

use std::time::Duration;

use attachments::bind::Attachment;
use delegates::builtin::Attached;
use delegates::call::Node;
use delegates::dad::{self, Given, Settled};
use delegates::error::Error;
use delegates::sandbox::Sandbox;

use super::chain::{makes_link, subject};
use super::log::warn;
use crate::fault::{Fault, Result};

/// One wait for all attachments. An address that somebody else has fails the ADD; one of which nothing is known when the wait is
/// over does not, and CHECK tells later.
pub fn settle(
    sandbox: &mut Sandbox,
    node: &Node<'_>,
    attachments: &[Attachment],
    attached: &[Attached],
    wait: Duration,
) -> Result<()> {
    let (mut given, mut owners) = (Vec::new(), Vec::new());
    for (attachment, one) in attachments.iter().zip(attached) {
        for (link, address) in dad::of_pod(&one.result, &attachment.ifname) {
            given.push(Given { link, address, is_awaited: makes_link(attachment, node) });
            owners.push(attachment);
        }
    }
    if given.is_empty() {
        return Ok(());
    }
    let fault = |at: usize, source| Fault::Delegate { subject: subject(owners[at]), source };
    match dad::settle(sandbox, &given, wait).map_err(|source| fault(0, source))? {
        Settled::All => Ok(()),
        Settled::Failed(at) => {
            Err(fault(at, Error::Addresses(dad::in_use(&given[at].address, given[at].link.as_str()))))
        }
        Settled::Tentative(at) => {
            let Given { link, address, .. } = &given[at];
            if !wait.is_zero() {
                let subject = subject(owners[at]);
                warn(&format!("{subject}: whether address {address} of {link} is free is not known yet (dadWaitMs)"));
            }
            Ok(())
        }
    }
}
