//! What is changed in an object before the rules look at it: a definition gets the VNIs that it lacks, a TenantNetwork of DANM what its
//! TenantConfig gives, a pod what its networks need of a node, and it loses a status that only its agent may write.
//!
//! [`mutate()`] is pure but for the VNIs that [`Drawn`] keeps for a minute; [`claim`] makes them the definition's for the whole cluster. Whatever it writes it would not write again: an object may
//! come twice (`reinvocationPolicy`).

mod answer;
pub mod claim;
mod config_text;
mod drawn;
mod inject;
pub mod injectors;
pub mod lock;
pub mod options;
mod patch;
mod tenant;
mod vni;

use attachments::names::NetRef;
use attachments::policy::spec::VniRange;
use attachments::rule::{Rule, Severity};
use attachments::status::NETWORK_STATUS;
use delegates::lint::Problem;
use json_patch::{Patch, PatchOperation};
use serde_json::json;

use crate::cluster::View;
use crate::rules::{Operation, Request};
pub use answer::{Answer, Mutator};
pub use drawn::{Drawn, Identifier};
pub use vni::Draw;

/// What the level of a namespace opens of the VNIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The level's name.
    pub level: String,
    /// The VNIs.
    pub ranges: Vec<VniRange>,
}

/// How objects are changed.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// How VNIs are drawn.
    pub draw: Draw<'a>,
    /// Whether resources and node selectors are injected.
    pub injects: bool,
    /// Whether pods ask for the labels of nodes that can serve their networks.
    pub asks_for_labels: bool,
}

/// The changes of an object, and what is to be said of them. What denies leaves no change.
#[derive(Debug, Default)]
pub struct Mutation {
    /// The changes; none where the object stays.
    pub patch: Patch,
    /// What is refused or warned of.
    pub problems: Vec<Problem>,
    /// What was drawn, with the definition or network that is to own it.
    pub drawn: Vec<(Identifier, NetRef)>,
}

/// What becomes of the object of a request.
pub fn mutate(request: &Request<'_>, settings: &Settings<'_>, view: &View) -> Mutation {
    let mut drawn = Vec::new();
    let (operations, problems) = match (request.group, request.kind, request.operation) {
        ("k8s.cni.cncf.io", "NetworkAttachmentDefinition", Operation::Create | Operation::Update) => {
            definition(request, settings, view, &mut drawn)
        }
        ("danm.io" | "danm.k8s.io", "TenantNetwork", Operation::Create | Operation::Update)
            if view.options.dialects.danm.is_some() =>
        {
            match tenant::complete(request, &settings.draw, view) {
                Ok(given) => {
                    drawn = given.drawn;
                    (given.operations, Vec::new())
                }
                Err(problems) => (Vec::new(), problems),
            }
        }
        ("", "Pod", Operation::Create) => pod(request, settings, view),
        _ => return Mutation::default(),
    };
    let is_denied = problems.iter().any(|problem| problem.severity == Severity::Deny);
    Mutation { patch: Patch(if is_denied { Vec::new() } else { operations }), problems, drawn }
}

fn definition(
    request: &Request<'_>,
    settings: &Settings<'_>,
    view: &View,
    drawn: &mut Vec<(Identifier, NetRef)>,
) -> (Vec<PatchOperation>, Vec<Problem>) {
    match vni::complete(request, &settings.draw, view) {
        Ok(Some(completed)) => {
            *drawn = completed.drawn.into_iter().map(|(pair, owner)| (Identifier::Pair(pair), owner)).collect();
            let text = json!(completed.text);
            (vec![patch::replace(patch::pointer(["spec", "config"]), text)], Vec::new())
        }
        Ok(None) => Default::default(),
        Err(problems) => (Vec::new(), problems),
    }
}

fn pod(request: &Request<'_>, settings: &Settings<'_>, view: &View) -> (Vec<PatchOperation>, Vec<Problem>) {
    let (mut operations, mut problems) = inject::inject(request, settings, view);
    let is_writer = view.options.status_writers.iter().any(|writer| writer == request.user);
    if !is_writer && !request.object["metadata"]["annotations"][NETWORK_STATUS].is_null() {
        operations.push(patch::remove(patch::pointer(["metadata", "annotations", NETWORK_STATUS])));
        let path = format!("metadata.annotations[{NETWORK_STATUS}]");
        problems.push(Problem::remark(Rule::StatusWritten, path, "removed, for only the node agent writes it"));
    }
    (operations, problems)
}
