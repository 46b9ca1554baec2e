//! Objects of dialects, and pods that name them. Nothing is said of a dialect that is off.

use attachments::cni::object::Object;
use attachments::dialect::objects::{ForeignRef, Kind as Foreign, needed_by};
use attachments::dialect::{Dialect, genie as of_genie};
use attachments::finding::Finding;
use attachments::selection::{DEFAULT_NETWORK, NETWORKS, NetworkSelection, Selection};
use delegates::lint::{self, Kind, Problem};
use serde_json::Value;

use super::{Request, warned};
use crate::cluster::View;

mod genie;

/// The kind of an object, by its group and the word for it.
pub(super) fn kind(group: &str, word: &str) -> Option<Foreign> {
    Foreign::of(word).filter(|kind| kind.api_version().split_once('/').is_some_and(|(known, _)| known == group))
}

/// Judges an object.
pub(super) fn judge(kind: Foreign, request: &Request<'_>, object: &Value, view: &View) -> Vec<Problem> {
    let Some(dialect) = dialect_on(kind, view) else { return Vec::new() };
    let spec = &object["spec"];
    let Ok(read) = Object::parse(spec.to_string().as_bytes()) else {
        return vec![Problem::unruled(Kind::Invalid, "spec", spec, "must be an object")];
    };
    match (dialect, reference(kind, request, object)) {
        (Dialect::Genie, Some(reference)) => genie::judge(&reference, &read, view),
        // A name that is none is the API server's to refuse.
        (Dialect::Genie, None) => Vec::new(),
    }
}

/// The objects that an object needs and the view does not have: it would be refused because of them.
pub(super) fn missing(kind: Foreign, request: &Request<'_>, view: &View) -> Vec<ForeignRef> {
    let needed = || {
        dialect_on(kind, view)?;
        let spec = request.object["spec"].to_string();
        needed_by(&reference(kind, request, request.object)?, &spec)
    };
    needed().into_iter().filter(|needed| !view.foreign().has(needed)).collect()
}

/// What pods name and is not there. A template may come before its networks.
pub(super) fn named_by(selection: &Selection, view: &View, is_template: bool) -> Vec<Problem> {
    let absent = |(at, element): (String, &NetworkSelection)| {
        let reference = element.target.foreign().filter(|reference| !view.foreign().has(reference))?;
        let problem = not_found(at, reference);
        Some(if is_template { warned(problem) } else { problem })
    };
    selection.placed_elements().filter_map(absent).collect()
}

/// What counts for nothing in a pod.
pub(super) fn remarks(selection: &Selection, object: &Value, view: &View) -> Vec<Problem> {
    let ignored = selection.ignored.map(|key| {
        let text = format!("counts for nothing: the pod has {NETWORKS} or {DEFAULT_NETWORK}, which count before it");
        warned(Problem::unruled(Kind::Remark, format!("metadata.annotations[{key}]"), "", text))
    });
    ignored.into_iter().chain(network_policy(object, view)).collect()
}

/// The policy of CNI-Genie in a NetworkPolicy or a pod.
pub(super) fn network_policy(object: &Value, view: &View) -> Option<Problem> {
    view.options.dialects.genie.as_ref()?;
    let mut keys = object["metadata"]["annotations"].as_object()?.keys();
    // Its documentation spells the key otherwise than its program.
    let key = keys.find(|key| key.eq_ignore_ascii_case(of_genie::NETWORK_POLICY))?;
    let text = "not enforced; use MultiNetworkPolicy";
    Some(warned(Problem::unruled(Kind::Remark, format!("metadata.annotations[{key}]"), "", text)))
}

/// Says that an object is not there. [`crate::review`] knows it again by its text.
fn not_found(at: impl Into<String>, reference: &ForeignRef) -> Problem {
    Problem::unruled(Kind::NotFound, at, "", reference.to_string())
}

/// Does a problem say that this object is not there?
pub(crate) fn says_absent(problem: &Problem, reference: &ForeignRef) -> bool {
    problem.kind == Kind::NotFound && problem.rule.is_none() && problem.text == reference.to_string()
}

/// What a judge of a dialect found.
fn told((errors, warnings): (Vec<Finding>, Vec<Finding>)) -> Vec<Problem> {
    let warnings = warnings.into_iter().map(|finding| warned(lint::found(finding)));
    errors.into_iter().map(lint::found).chain(warnings).collect()
}

fn dialect_on(kind: Foreign, view: &View) -> Option<Dialect> {
    let dialect = kind.dialect()?;
    view.options.dialects.on().find(|on| *on == dialect)
}

fn reference(kind: Foreign, request: &Request<'_>, object: &Value) -> Option<ForeignRef> {
    let name = [request.name, object["metadata"]["name"].as_str().unwrap_or_default(), "0-unnamed"];
    let name = name.into_iter().find(|name| !name.is_empty())?;
    Some(ForeignRef { kind, namespace: request.namespace.parse().ok()?, name: name.parse().ok()? })
}
