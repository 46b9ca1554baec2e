//! Objects of dialects, and pods that name them. Nothing is said of a dialect that is off.

use attachments::cni::object::Object;
use attachments::dialect::danm::network::{Network, network_name};
use attachments::dialect::objects::{ForeignRef, Kind as Foreign, Objects, needed_by};
use attachments::dialect::{Dialect, genie as of_genie};
use attachments::finding::Finding;
use attachments::names::ObjectName;
use attachments::selection::{DEFAULT_NETWORK, NETWORKS, NetworkSelection, Selection};
use delegates::lint::{self, Kind, Problem};
use serde_json::Value;

use super::{Request, warned};
use crate::cluster::View;

pub(crate) mod danm;
mod genie;

/// Judges an object.
pub(super) fn judge(kind: Foreign, request: &Request<'_>, object: &Value, view: &View) -> Vec<Problem> {
    let Some(dialect) = dialect_on(kind, view) else { return Vec::new() };
    let (at, says) = says(kind, object);
    let Ok(read) = Object::parse(says.to_string().as_bytes()) else {
        return vec![Problem::unruled(Kind::Invalid, at, says, "must be an object")];
    };
    // A name that is none is the API server's to refuse.
    let Some(reference) = reference(kind, request, object) else { return Vec::new() };
    match dialect {
        Dialect::Danm => danm::judge(&reference, request, &read, view),
        Dialect::Genie => genie::judge(&reference, &read, view),
        // It has no objects of its own.
        Dialect::Knitter => Vec::new(),
    }
}

/// Judges the end of an object.
pub(super) fn delete(kind: Foreign, request: &Request<'_>, view: &View) -> Vec<Problem> {
    match (dialect_on(kind, view), reference(kind, request, request.old.unwrap_or(&Value::Null))) {
        (Some(Dialect::Danm), Some(reference)) => danm::delete(&reference, view),
        _ => Vec::new(),
    }
}

/// What an object says, and where: a TenantConfig has no spec.
fn says(kind: Foreign, object: &Value) -> (&'static str, Value) {
    if kind != Foreign::TenantConfig {
        return ("spec", object["spec"].clone());
    }
    let mut says = object.clone();
    if let Some(fields) = says.as_object_mut() {
        fields.retain(|key, _| !["apiVersion", "kind", "metadata", "status"].contains(&key.as_str()));
    }
    ("", says)
}

/// The objects that an object needs and the view does not have: it would be refused because of them.
pub(super) fn missing(kind: Foreign, request: &Request<'_>, view: &View) -> Vec<ForeignRef> {
    let needed = || {
        dialect_on(kind, view)?;
        let (reference, (_, says)) = (reference(kind, request, request.object)?, says(kind, request.object));
        if kind == Foreign::ReservedIP {
            return danm::network_of(&reference, &Object::parse(says.to_string().as_bytes()).ok()?);
        }
        needed_by(&reference, &says.to_string())
    };
    needed().into_iter().filter(|needed| !view.foreign().has(needed)).collect()
}

/// What pods name and is not there. A template may come before its networks.
pub(super) fn named_by(selection: &Selection, view: &View, is_template: bool) -> Vec<Problem> {
    let named = |(at, element): (String, &NetworkSelection)| {
        let [ipv4, ipv6] = element.reserved.clone();
        let reserved = [("ip", ipv4), ("ip6", ipv6)].map(|(key, one)| (format!("{at}.{key}"), one));
        let network = (at, element.target.foreign().cloned());
        std::iter::once(network).chain(reserved).filter_map(|(at, one)| Some((at, one?)))
    };
    let absent = selection.placed_elements().flat_map(named).filter(|(_, reference)| !view.foreign().has(reference));
    let problems = absent.map(|(at, reference)| not_found(at, &reference));
    problems.map(|problem| if is_template { warned(problem) } else { problem }).collect()
}

/// What a pod's list may not say of the networks that it names, where all of them are there.
pub(super) fn unsettled(selection: &Selection, namespace: &ObjectName, view: &View) -> Option<Problem> {
    let danm = view.options.dialects.danm.as_ref()?;
    let list =
        selection.translated.as_ref().filter(|list| list.dialect == Dialect::Danm && list.candidates.is_empty())?;
    let spec = |reference: &ForeignRef| Some((reference.clone(), view.foreign().spec(reference)?.to_json()));
    let mut objects = selection.objects().map(spec).collect::<Option<Objects>>()?;
    objects.extend(view.foreign().of(Foreign::TenantConfig).next().map(|(one, says)| (one.clone(), says.to_json())));
    objects.extend(view.foreign().of(Foreign::ReservedIP).map(|(one, says)| (one.clone(), says.to_json())));
    let error = danm.settle(selection, &objects, namespace, view.options.strict).err()?;
    let path = format!("metadata.annotations[{}]", list.key);
    Some(Problem::unruled(Kind::Invalid, path, "", error.to_string()))
}

/// The configuration of a network, where no file of the node has it, as levels and policies judge it.
pub(crate) fn config_of(reference: &ForeignRef, view: &View) -> Option<String> {
    if reference.kind.dialect() != Some(Dialect::Danm) {
        return None;
    }
    let objects = Objects::from([(reference.clone(), view.foreign().spec(reference)?.to_json())]);
    let conf = Network::of(reference, &objects).ok()?.built_in(&network_name(reference))?.ok()?;
    conf.plugins.first().map(|plugin| plugin.object.to_json())
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
    let namespace = match kind.is_namespaced() {
        true => Some(request.namespace.parse().ok()?),
        false => None,
    };
    Some(ForeignRef { kind, namespace, name: name.parse().ok()? })
}
