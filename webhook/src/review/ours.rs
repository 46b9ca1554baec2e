//! AttachmentPolicies and AttachmentLevels themselves (A01 to A03): what cannot be read, and what stored definitions would break.

use std::collections::BTreeMap;

use attachments::names::NetRef;
use attachments::policy::spec::{AttachmentLevelSpec, AttachmentPolicySpec, Mode};
use attachments::policy::{CompiledPolicy, Document, Flaw, Level, PolicyName, compile};
use attachments::rule::{Rule, Severity};
use delegates::lint::{Kind, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::policies::nad;
use crate::facts::{Known, compile_level};
use crate::rules::Request;

/// The group of our kinds.
const GROUP: &str = attachments::api::GROUP;

/// Judges a policy or a level.
pub fn judge(request: &Request<'_>, known: &Known) -> Vec<Problem> {
    let of = |object: &Value| match (request.group, request.kind) {
        (GROUP, "AttachmentPolicy") => policy(request.name, object),
        (GROUP, "AttachmentLevel") => level(request.name, object),
        _ => Ok(Vec::new()),
    };
    match of(request.object) {
        Ok(policies) => broken(&policies, known),
        Err(mut problems) => {
            // What was stored like this still takes a label.
            let before = request.old.and_then(|old| of(old).err()).unwrap_or_default();
            let was_so = |problem: &&mut Problem| before.contains(*problem);
            problems.iter_mut().filter(was_so).for_each(|problem| problem.severity = Severity::Warn);
            problems
        }
    }
}

fn read<T: DeserializeOwned>(object: &Value) -> Result<T, Vec<Problem>> {
    // The schema says most of what is wrong, unless it is an older one.
    let read = serde_json::from_value(object["spec"].clone());
    read.map_err(|e| vec![Problem::unruled(Kind::Invalid, "spec", "", e.to_string())])
}

fn policy(name: &str, object: &Value) -> Result<Vec<CompiledPolicy>, Vec<Problem>> {
    let spec: AttachmentPolicySpec = read(object)?;
    let problem =
        |Flaw { rule, path, value, text }| Problem { rule, value, ..Problem::unruled(Kind::Invalid, path, "", text) };
    match compile(PolicyName::Policy(name.to_owned()), &spec) {
        Ok(policy) => Ok(vec![policy]),
        Err(flaws) => Err(flaws.into_iter().map(problem).collect()),
    }
}

fn level(name: &str, object: &Value) -> Result<Vec<CompiledPolicy>, Vec<Problem>> {
    let open: AttachmentLevelSpec = read(object)?;
    // That there is no such level is said by the schema.
    let Ok(level) = name.parse::<Level>() else { return Ok(Vec::new()) };
    compile_level(level, &open).map_err(|why| vec![Problem::unruled(Kind::Invalid, "spec", "", why)])
}

/// A03: definitions that break a rule will be refused at their next change, and at every ADD from now on.
fn broken(policies: &[CompiledPolicy], known: &Known) -> Vec<Problem> {
    let enforced: Vec<&CompiledPolicy> = policies.iter().filter(|policy| policy.mode() == Mode::Enforce).collect();
    if enforced.is_empty() {
        return Vec::new();
    }
    let mut broken: BTreeMap<String, Vec<&NetRef>> = BTreeMap::new();
    for (reference, text) in known.texts.iter() {
        let namespace = reference.namespace.as_str();
        let Some(labels) = known.view.namespace(namespace).map(|namespace| &namespace.labels) else { continue };
        let concerns = |policy: &&&CompiledPolicy| match policy.name() {
            PolicyName::Level(level) => known.level_of(namespace) == Some(*level),
            PolicyName::Policy(_) => policy.concerns(namespace, labels, &[]),
        };
        let concerned: Vec<&&CompiledPolicy> = enforced.iter().filter(concerns).collect();
        if concerned.is_empty() {
            continue;
        }
        let Ok(document) = Document::of_definition(&nad(namespace, reference.name.as_str(), text), None) else {
            continue;
        };
        for violation in concerned.iter().flat_map(|policy| policy.judge(&document)) {
            let objects = broken.entry(violation.rule).or_default();
            if objects.last() != Some(&reference) {
                objects.push(reference);
            }
        }
    }
    let problem = |(rule, objects): (String, Vec<&NetRef>)| {
        let first = objects.iter().min()?;
        let count = match objects.len() {
            1 => "1 existing object violates".to_owned(),
            many => format!("{many} existing objects violate"),
        };
        Some(Problem::remark(Rule::PolicyUnmet, "", format!("{count} rule {rule:?}, first {first}")))
    };
    broken.into_iter().filter_map(problem).collect()
}
