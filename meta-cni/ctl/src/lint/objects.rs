//! Finds the parts of a manifest that concern networks: definitions, and annotations of pods and pod templates.

use attachments::cni::object::Object;
use attachments::dialect::knitter::{self, Knitter};
use attachments::dialect::objects::{Kind as Foreign, group_of};
use attachments::dialect::{Dialect, danm, genie};
use attachments::finding::Finding;
use attachments::names::ObjectName;
use attachments::selection::{DEFAULT_NETWORK, NETWORKS};
use delegates::lint::{self as rules, Kind, Problem, Rule, Severity};
use serde_json::Value;

use super::Trial;

/// Where the kinds that create pods have the pod template.
pub const TEMPLATES: [(&str, &str); 7] = [
    ("Deployment", "/spec/template"),
    ("StatefulSet", "/spec/template"),
    ("DaemonSet", "/spec/template"),
    ("ReplicaSet", "/spec/template"),
    ("ReplicationController", "/spec/template"),
    ("Job", "/spec/template"),
    ("CronJob", "/spec/jobTemplate/spec/template"),
];

/// Checks one document. Kinds without networks pass.
pub fn check(object: &Value, trial: &Trial, say: &mut impl FnMut(Option<&str>, Problem)) {
    let kind = object["kind"].as_str().unwrap_or_default();
    if let Some(items) = object["items"].as_array().filter(|_| kind.ends_with("List")) {
        return items.iter().for_each(|item| check(item, trial, say));
    }
    let name = object["metadata"]["name"].as_str();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let name_or = name.unwrap_or("(no name)");
    let reference = match foreign_kind(object).is_some_and(|kind| !kind.is_namespaced()) {
        true => name_or.to_owned(),
        false => format!("{namespace}/{name_or}"),
    };
    let problems = match (kind, TEMPLATES.iter().find(|(known, _)| *known == kind)) {
        ("NetworkAttachmentDefinition", _) => definition(name, object),
        ("Pod", _) => pod(object, namespace),
        (_, Some((_, template))) => workload(object, namespace, template),
        _ if foreign_kind(object).is_some() => foreign(object, trial),
        _ => Vec::new(),
    };
    problems.into_iter().chain(trial.judge(object)).for_each(|problem| say(Some(&reference), problem));
}

/// A definition before it is applied: the webhook may write a VNI into it.
fn definition(name: Option<&str>, object: &Value) -> Vec<Problem> {
    let spec = &object["spec"];
    let mut problems = rules::definition(name, spec);
    problems.extend(rules::resource(&object["metadata"]["annotations"], spec));
    let is_drawn = |problem: &&mut Problem| problem.rule == Some(Rule::Vni) && problem.kind == Kind::Required;
    problems.iter_mut().filter(is_drawn).for_each(|problem| problem.severity = Severity::Warn);
    problems
}

/// The kind of an object of a dialect.
pub(super) fn foreign_kind(object: &Value) -> Option<Foreign> {
    Foreign::in_group(group_of(object["apiVersion"].as_str()?), object["kind"].as_str()?)
}

/// An object of a dialect, with what the files say of the object that it needs.
fn foreign(object: &Value, trial: &Trial) -> Vec<Problem> {
    let read = |spec: &Value| Object::parse(spec.to_string().as_bytes()).ok();
    let (Some(kind), spec) = (foreign_kind(object), &object["spec"]) else { return Vec::new() };
    if kind == Foreign::TenantConfig {
        return read(object)
            .map(|says| danm::tenant::judge(&says, false))
            .unwrap_or_default()
            .into_iter()
            .map(|one| of_dialect(Severity::Deny, one))
            .collect();
    }
    if kind.dialect() == Some(Dialect::Danm) && !danm::NETWORKS.contains(&kind) {
        return Vec::new();
    }
    let Some(own) = read(spec) else {
        return vec![Problem::unruled(Kind::Invalid, "spec", spec, "must be an object")];
    };
    if danm::NETWORKS.contains(&kind) {
        return danm::judge::judge(kind, &own, None).into_iter().map(|one| of_dialect(Severity::Deny, one)).collect();
    }
    let physical = spec["physicalNet"].as_str().and_then(|name| trial.physical(object, name)).and_then(read);
    let (errors, warnings) = genie::judge(kind, &own, physical.as_ref());
    let of = |severity| move |finding: Finding| of_dialect(severity, finding);
    errors.into_iter().map(of(Severity::Deny)).chain(warnings.into_iter().map(of(Severity::Warn))).collect()
}

/// What a dialect's reader says.
fn of_dialect(severity: Severity, finding: Finding) -> Problem {
    Problem { severity, ..rules::found(finding) }
}

/// What Knitter's reader says of a pod's ports. Whether the nodes read them is not known here: the text's form tells whose it is, and
/// beside an annotation of NPWG it counts for nothing.
fn ports<'a>(namespace: &ObjectName, annotation: impl Fn(&str) -> Option<&'a str>) -> Vec<Problem> {
    let is_npwgs = [NETWORKS, DEFAULT_NETWORK].iter().any(|key| annotation(key).is_some());
    let Some(text) = annotation(knitter::NETWORKS).filter(|text| Knitter::is_meant(text) && !is_npwgs) else {
        return Vec::new();
    };
    let found = match Knitter::read(&Object::new()).and_then(|usual| usual.read_pod(text, namespace)) {
        Ok(list) => list.into_iter().flat_map(|list| list.warnings).map(|one| (Severity::Warn, one)).collect(),
        Err(finding) => vec![(Severity::Deny, finding)],
    };
    let at = |finding: Finding| {
        let inside = finding.path.strip_prefix(knitter::NETWORKS).unwrap_or_default();
        Finding { path: format!("metadata.annotations[{}]{inside}", knitter::NETWORKS), ..finding }
    };
    found.into_iter().map(|(severity, finding)| of_dialect(severity, at(finding))).collect()
}

/// The API server refuses an invalid namespace, so it is no finding here.
fn pod(object: &Value, namespace: &str) -> Vec<Problem> {
    let namespace = namespace.parse::<ObjectName>().or_else(|_| "default".parse());
    let text = |key: &str| object["metadata"]["annotations"][key].as_str();
    let of = |namespace: ObjectName| {
        let mut problems = rules::annotations(&namespace, text);
        problems.extend(ports(&namespace, text));
        problems
    };
    namespace.map(of).unwrap_or_default()
}

fn workload(object: &Value, namespace: &str, template: &str) -> Vec<Problem> {
    let at = template.trim_start_matches('/').replace('/', ".");
    let of_pods = object.pointer(template).map(|template| pod(template, namespace)).unwrap_or_default();
    let mut problems: Vec<Problem> = of_pods.into_iter().map(|problem| problem.under(&at)).collect();
    if object["metadata"]["annotations"][NETWORKS].is_string() {
        let path = format!("metadata.annotations[{NETWORKS}]");
        problems.push(Problem::remark(
            Rule::MisplacedAnnotation,
            path,
            format!("ignored here, move it to {at}.metadata.annotations"),
        ));
    }
    problems
}
