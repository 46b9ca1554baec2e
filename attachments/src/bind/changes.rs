//! What an edit of a running pod's annotation means: which attachments stay, which go, which are new.
//!
//! A position in the annotation identifies nothing. An element with a name for its interface is the attachment of that name. Any
//! other element is the first attachment that asks for the same and that no element has yet; attachments keep their names.

use serde_json::Value;

use super::attachment::Attachment;
use super::source::Source;
use crate::cni::object::Object;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::selection::{NETWORKS, NetworkSelection, SelectionTarget};

/// Requests that the configuration of an attachment shows, by their keys in an element and in `runtimeConfig`.
const SHOWN: [(&str, &str); 5] = [
    ("ips", "ips"),
    ("mac", "mac"),
    ("infiniband-guid", "infinibandGUID"),
    ("portMappings", "portMappings"),
    ("bandwidth", "bandwidth"),
];

/// Requests that an attachment does not show.
const HIDDEN: [&str; 2] = ["cni-args", "deviceID"];

/// The difference between a pod's attachments and its annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Attachments that the annotation lists no more, by position.
    pub removed: Vec<usize>,
    /// Elements that are new, by position in the annotation.
    pub added: Vec<usize>,
}

impl Changes {
    /// Compares attachments with what the annotation lists now. Only attachments that an annotation asked for can go. An element that
    /// names an interface and asks for something else than that interface has is refused: nothing is changed in place.
    pub fn between(held: &[Attachment], wanted: &[NetworkSelection]) -> Result<Self, Finding> {
        let mut found: Vec<Option<usize>> = vec![None; wanted.len()];
        let mut is_kept = vec![false; held.len()];
        for (i, element) in wanted.iter().enumerate() {
            let Some(name) = &element.interface else { continue };
            let named = |one: &&Attachment| one.is_selected() && one.ifname == *name;
            let Some((at, one)) = held.iter().enumerate().find(|(_, one)| named(one)) else { continue };
            if !is_same(one, element) {
                let allowed = format!(
                    "an interface that the pod does not have: {} has it, and nothing is changed in place; remove it first, then add it back",
                    one.source
                );
                let field = format!("{NETWORKS}[{i}].interface");
                return Err(Finding::new(field, name, allowed).of(Rule::ChangeInPlace));
            }
            (found[i], is_kept[at]) = (Some(at), true);
        }
        for (i, element) in wanted.iter().enumerate().filter(|(_, element)| element.interface.is_none()) {
            let free = |(at, one): &(usize, &Attachment)| one.is_selected() && !is_kept[*at] && is_same(one, element);
            if let Some((at, _)) = held.iter().enumerate().find(free) {
                (found[i], is_kept[at]) = (Some(at), true);
            }
        }
        let removed = held.iter().enumerate().filter(|(at, one)| one.is_selected() && !is_kept[*at]);
        Ok(Self {
            removed: removed.map(|(at, _)| at).collect(),
            added: (0..wanted.len()).filter(|i| found[*i].is_none()).collect(),
        })
    }

    /// Is there no difference?
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

/// Does the element ask for what the attachment has? The name of the interface does not count.
fn is_same(held: &Attachment, wanted: &NetworkSelection) -> bool {
    let mut asked = NetworkSelection { interface: None, ..wanted.clone() }.to_object();
    if let Some(selected) = &held.selected {
        return value(selected) == value(&asked);
    }
    let is_source = match (&held.source, &wanted.target) {
        (Source::Definition(held), SelectionTarget::Definition(wanted)) => held == wanted,
        (Source::Node(held), SelectionTarget::NodeFile(wanted)) => held == wanted,
        _ => false,
    };
    asked.retain(|key| !HIDDEN.contains(&key));
    is_source && value(&asked) == value(&shown(held, wanted))
}

/// The element of an attachment whose record does not say it.
fn shown(held: &Attachment, wanted: &NetworkSelection) -> Object {
    let mut object = NetworkSelection::new(wanted.target.clone()).to_object();
    for (key, capability) in SHOWN {
        object.set_some(key, held.runtime_config.get(capability).as_ref());
    }
    object.set_some("default-route", held.default_route.as_ref());
    object.set_some("ipam-claim-reference", held.ipam_claim.as_ref());
    object
}

/// The order of keys and the layout do not count.
fn value(object: &Object) -> Option<Value> {
    serde_json::from_str(&object.to_json()).ok()
}
