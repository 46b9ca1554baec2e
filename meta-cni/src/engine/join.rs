//! Networks that span nodes. The node agent claims and joins on the node's behalf, once an ADD has been judged: a pod that is refused takes
//! nothing from others.

use attachments::bind::{Attachment, Source};
use attachments::names::{NetRef, PodRef};
use delegates::networks::spans_nodes;

use super::run::Run;
use crate::cluster::wire::Join;
use crate::fault::Result;

/// Makes sure of what the attachments need. No question where no network spans nodes.
pub fn join(run: &Run<'_>, pod: Option<&PodRef>, attachments: &[Attachment]) -> Result<()> {
    let mut references: Vec<NetRef> = Vec::new();
    for attachment in attachments {
        if let Source::Definition(reference) = &attachment.source
            && !references.contains(reference)
            && attachment.plugins.iter().any(|plugin| spans_nodes(&plugin.object))
        {
            references.push(reference.clone());
        }
    }
    match pod {
        Some(pod) if !references.is_empty() => {
            let (pod, multus_namespace) = (pod.clone(), run.conf.multus_namespace.clone());
            let asks = |one: &Attachment| {
                one.ipam_claim.is_some()
                    || one.address_set.is_some()
                    || one.runtime_config.get("ips").is_some()
                    || !one.unverified.ips.is_empty()
            };
            let plain = !attachments.iter().any(asks);
            run.cluster.join(Join { pod, references, multus_namespace, wait_ms: 0, plain }, run.deadline)
        }
        _ => Ok(()),
    }
}
