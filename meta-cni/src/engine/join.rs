//! Networks that span nodes. The node agent claims and joins on the node's behalf, once an ADD has been judged: a pod that is refused takes
//! nothing from others.

use attachments::bind::{Attachment, Source};
use attachments::cni::conf::PluginConf;
use attachments::dialect::objects::ForeignRef;
use attachments::names::{NetRef, PodRef};
use delegates::networks::spans_nodes;

use super::run::Run;
use crate::cluster::wire::Join;
use crate::fault::Result;

/// Makes sure of what the attachments need. No question where no network spans nodes.
pub fn join(run: &Run<'_>, pod: Option<&PodRef>, attachments: &[Attachment]) -> Result<()> {
    let mut references: Vec<NetRef> = Vec::new();
    let mut objects: Vec<ForeignRef> = Vec::new();
    let spanning = attachments.iter().filter(|one| one.plugins.iter().any(|plugin| spans_nodes(&plugin.object)));
    for attachment in spanning {
        match &attachment.source {
            Source::Definition(reference) if !references.contains(reference) => references.push(reference.clone()),
            Source::Object(reference) if !objects.contains(reference) => objects.push(reference.clone()),
            _ => {}
        }
    }
    match pod {
        Some(pod) if !references.is_empty() || !objects.is_empty() => {
            let (pod, multus_namespace) = (pod.clone(), run.conf.multus_namespace.clone());
            let asks = |one: &Attachment| {
                one.ipam_claim.is_some()
                    || one.address_set.is_some()
                    || one.runtime_config.get("ips").is_some()
                    || !one.unverified.ips.is_empty()
                    || has_own_addresses(one)
            };
            let plain = !attachments.iter().any(asks);
            run.cluster.join(Join { pod, references, objects, multus_namespace, wait_ms: 0, plain }, run.deadline)
        }
        _ => Ok(()),
    }
}

/// Has the attachment its addresses in its configuration, so that no pool of its object's network is asked?
fn has_own_addresses(attachment: &Attachment) -> bool {
    let is_static = |plugin: &PluginConf| {
        let ipam = plugin.object.object("ipam").ok().flatten();
        ipam.and_then(|ipam| ipam.text("type").ok().flatten()).as_deref() == Some("static")
    };
    matches!(attachment.source, Source::Object(_)) && attachment.plugins.iter().any(is_static)
}
