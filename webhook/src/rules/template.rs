//! Rules about workloads: the pods that their templates will make (P06 as a warning, P21, P30).

use attachments::names::{Mac, ObjectName};
use attachments::rule::Rule;
use attachments::selection::{DEFAULT_NETWORK, NETWORKS};
use delegates::lint::Problem;
use serde_json::Value;

use super::{Request, View, annotation, pod};

/// Judges a workload with its template at this path.
pub(super) fn judge(request: &Request<'_>, object: &Value, at: &str, view: &View) -> Vec<Problem> {
    let Ok(namespace) = request.namespace.parse::<ObjectName>() else { return Vec::new() };
    let mut problems = Vec::new();
    for key in [NETWORKS, DEFAULT_NETWORK] {
        if annotation(object, key).is_some() {
            let text = format!("ignored here, move it to {at}.metadata.annotations");
            problems.push(Problem::remark(Rule::MisplacedAnnotation, format!("metadata.annotations[{key}]"), text));
        }
    }
    let Some(template) = object.pointer(&format!("/{}", at.replace('.', "/"))) else { return problems };
    problems.extend(pod::judge_template(&namespace, template, view).into_iter().map(|problem| problem.under(at)));
    problems.extend(one_for_all(request.kind, object, &namespace, template, view));
    problems
}

/// Where a kind says how many pods there are at once.
fn count(kind: &str, object: &Value) -> Option<(&'static str, u64)> {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64);
    match kind {
        "Job" => Some(("spec.parallelism", number("/spec/parallelism")?)),
        "CronJob" => Some(("spec.jobTemplate.spec.parallelism", number("/spec/jobTemplate/spec/parallelism")?)),
        "DaemonSet" => None,
        _ => Some(("spec.replicas", number("/spec/replicas")?)),
    }
}

/// P21.
fn one_for_all(kind: &str, object: &Value, namespace: &ObjectName, template: &Value, view: &View) -> Option<Problem> {
    let selection = pod::selection(namespace, template, view);
    let asked = selection.elements().find_map(|element| {
        let address = element.ips.first().map(|ip| ip.split('/').next().unwrap_or(ip).to_owned());
        address.or_else(|| element.mac.as_ref().map(Mac::to_string))
    })?;
    let problem = |path: &str, text: String| Some(Problem::remark(Rule::OneForAll, path, text));
    match (kind, count(kind, object)) {
        ("DaemonSet", _) => {
            problem("spec.template", format!("the pods of all nodes will ask for the same address {asked}"))
        }
        (_, Some((path, count))) if count > 1 => {
            problem(path, format!("{count} pods will ask for the same address {asked}"))
        }
        _ => None,
    }
}
