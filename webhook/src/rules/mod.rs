//! The rules about more than the text of one object: a pure function of a request and what is known of the cluster.
//!
//! [`judge`] says everything that is wrong at once. What it takes for missing may only not have reached the [`View`] yet:
//! [`missing`] names it, so that the caller can ask the API server once before it refuses.

mod cross;
mod foreign;
mod lifecycle;
mod mnp;
mod overlay;
mod pod;
mod routes;
mod template;

use std::collections::HashSet;

use attachments::dialect::objects::{ForeignRef, Kind as Foreign};
use attachments::names::{NetRef, ObjectName};
use attachments::rule::{Rule, Severity};
use delegates::lint::{Kind, Problem};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::serde::Deserialize;
use serde_json::Value;

use crate::cluster::{Definition, View};
pub(crate) use foreign::danm::tenant_config;
pub(crate) use foreign::{config_of, says_absent};
pub(crate) use pod::{in_networks, selection};

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
}

/// A request, as far as rules ask for it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What is done.
    pub operation: Operation,
    /// Group of the object; empty for the core's.
    pub group: &'a str,
    /// Kind of the object.
    pub kind: &'a str,
    /// Namespace of the object; empty for what has none.
    pub namespace: &'a str,
    /// Name of the object; empty where the API server is to make one up.
    pub name: &'a str,
    /// The object; `null` on DELETE.
    pub object: &'a Value,
    /// The object before.
    pub old: Option<&'a Value>,
    /// Who asks.
    pub user: &'a str,
    /// The asker's groups.
    pub groups: &'a [String],
}

/// The kinds that have rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Definition,
    Pod,
    /// Its path in the object.
    Template(&'static str),
    Namespace,
    MultiNetworkPolicy,
    NetworkPolicy,
    Foreign(Foreign),
}

impl Judged {
    pub(crate) fn of(request: &Request<'_>) -> Option<Self> {
        const TEMPLATE: &str = "spec.template";
        Some(match (request.group, request.kind) {
            ("k8s.cni.cncf.io", "NetworkAttachmentDefinition") => Self::Definition,
            ("k8s.cni.cncf.io", "MultiNetworkPolicy") => Self::MultiNetworkPolicy,
            ("networking.k8s.io", "NetworkPolicy") => Self::NetworkPolicy,
            ("", "Pod") => Self::Pod,
            ("", "Namespace") => Self::Namespace,
            ("", "ReplicationController") => Self::Template(TEMPLATE),
            ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") => Self::Template(TEMPLATE),
            ("batch", "Job") => Self::Template(TEMPLATE),
            ("batch", "CronJob") => Self::Template("spec.jobTemplate.spec.template"),
            (group, kind) => Self::Foreign(Foreign::in_group(group, kind)?),
        })
    }
}

/// Everything that is wrong with a request, but for what the text of a definition says by itself
/// ([`delegates::lint::definition`]): that is judged without a cluster.
pub fn judge(request: &Request<'_>, view: &View) -> Vec<Problem> {
    let Some(judged) = Judged::of(request) else { return Vec::new() };
    if request.operation == Operation::Delete {
        return match judged {
            Judged::Definition => {
                let mut problems = lifecycle::delete(request, view);
                problems.extend(overlay::delete(request, view));
                problems
            }
            Judged::Foreign(kind) => foreign::delete(kind, request, view),
            _ => Vec::new(),
        };
    }
    let mut problems = of_object(judged, request, request.object, view);
    if let (Operation::Update, Some(old)) = (request.operation, request.old) {
        // What was stored before there were rules must still take a label, and lose its finalizers: what the old object
        // broke in the same way is only warned of.
        if problems.iter().any(|problem| problem.severity == Severity::Deny) {
            let before: HashSet<Problem> = of_object(judged, request, old, view).into_iter().collect();
            let was_so = |problem: &&mut Problem| before.contains(*problem);
            problems.iter_mut().filter(was_so).for_each(|problem| problem.severity = Severity::Warn);
        }
        problems.extend(of_change(judged, request, old, view));
    }
    if judged == Judged::Pod {
        problems.extend(pod::status_written(request, view));
    }
    problems
}

/// What would refuse a stored definition beside the others of the view.
pub fn stored(definition: &Definition, view: &View) -> Vec<Problem> {
    let mut problems = cross::beside(definition, view);
    problems.retain(|problem| problem.severity == Severity::Deny);
    problems
}

/// The definitions that a request needs and the view does not have: it would be refused because of them.
pub fn missing(request: &Request<'_>, view: &View) -> Vec<NetRef> {
    if request.operation == Operation::Delete || Judged::of(request) != Some(Judged::Pod) {
        return Vec::new();
    }
    let Ok(namespace) = request.namespace.parse::<ObjectName>() else { return Vec::new() };
    pod::missing(&namespace, request.object, view)
}

/// The objects of dialects that a request needs, likewise.
pub fn missing_foreign(request: &Request<'_>, view: &View) -> Vec<ForeignRef> {
    match Judged::of(request).filter(|_| request.operation != Operation::Delete) {
        Some(Judged::Pod) => {
            let Ok(namespace) = request.namespace.parse::<ObjectName>() else { return Vec::new() };
            pod::missing_foreign(&namespace, request.object, view)
        }
        Some(Judged::Foreign(kind)) => foreign::missing(kind, request, view),
        _ => Vec::new(),
    }
}

fn of_object(judged: Judged, request: &Request<'_>, object: &Value, view: &View) -> Vec<Problem> {
    match judged {
        Judged::Definition => cross::judge(request, object, view),
        Judged::Pod => pod::judge(request, object, view),
        Judged::Template(at) => template::judge(request, object, at, view),
        Judged::Namespace => Vec::new(),
        Judged::MultiNetworkPolicy => mnp::judge(request, object, view),
        Judged::NetworkPolicy => foreign::network_policy(object, view).into_iter().collect(),
        Judged::Foreign(kind) => foreign::judge(kind, request, object, view),
    }
}

fn of_change(judged: Judged, request: &Request<'_>, old: &Value, view: &View) -> Vec<Problem> {
    match judged {
        Judged::Definition => {
            let mut problems = overlay::change(request, old, view);
            problems.extend(lifecycle::change(request, old, view));
            problems
        }
        Judged::Pod => pod::change(request, old, view),
        Judged::Namespace => lifecycle::labels(request, old, view),
        Judged::Template(_) | Judged::MultiNetworkPolicy | Judged::NetworkPolicy | Judged::Foreign(_) => Vec::new(),
    }
}

/// An object's metadata; of one that has none that can be read, the empty one.
fn metadata(object: &Value) -> ObjectMeta {
    ObjectMeta::deserialize(&object["metadata"]).unwrap_or_default()
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

/// A problem of a rule that `--strict` makes refuse.
fn contested(problem: Problem, view: &View) -> Problem {
    let severity = if view.options.strict { Severity::Deny } else { Severity::Warn };
    Problem { severity, ..problem }
}

fn warned(problem: Problem) -> Problem {
    Problem { severity: Severity::Warn, ..problem }
}

fn forbidden(rule: Rule, path: impl Into<String>, value: impl std::fmt::Display, text: impl Into<String>) -> Problem {
    Problem::of(rule, Kind::Forbidden, path, value, text)
}

pub(crate) fn quoted(text: impl std::fmt::Display) -> String {
    Value::String(text.to_string()).to_string()
}

/// `4 running pods use`, `1 running pod uses`.
fn pods_use(count: usize) -> String {
    if count == 1 { "1 running pod uses".to_owned() } else { format!("{count} running pods use") }
}

/// A path below `spec.config` of a definition.
fn in_config(at: &str, field: &str) -> String {
    if at.is_empty() { format!("spec.config.{field}") } else { format!("spec.config.{at}.{field}") }
}
