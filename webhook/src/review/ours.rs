//! AttachmentPolicies and AttachmentLevels themselves (A01 to A03): what cannot be read, and what stored definitions would break.

use std::collections::{BTreeMap, BTreeSet};

use attachments::names::NetRef;
use attachments::policy::spec::{AttachmentLevelSpec, AttachmentPolicySpec, Mode};
use attachments::policy::{CompiledPolicy, Document, Flaw, Level, PolicyName, compile};
use attachments::rule::{Rule, Severity};
use delegates::lint::{Kind, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::policies::{entries, nad};
use crate::cluster::Labels;
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
        Ok(policies) => {
            let policies: Vec<&CompiledPolicy> = policies.iter().collect();
            broken(&policies, known, |policy, namespace, labels| match policy.name() {
                PolicyName::Level(level) => known.level_of(namespace) == Some(*level),
                PolicyName::Policy(_) => policy.concerns(namespace, labels, &[]),
            })
        }
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

/// What new labels of a namespace bring about: definitions there that break what comes to hold (A03), and attachments that lose the limits of
/// its level (L03).
pub fn relabelled(request: &Request<'_>, known: &Known) -> Vec<Problem> {
    let Some(old) = request.old else { return Vec::new() };
    let (before, after) = (entries(old, "labels"), entries(request.object, "labels"));
    let of = |labels| known.policies.of(request.name, labels, known.level, &[]).unwrap_or_default();
    let held: BTreeSet<&PolicyName> = of(&before).into_iter().map(CompiledPolicy::name).collect();
    let gained: Vec<&CompiledPolicy> = of(&after).into_iter().filter(|policy| !held.contains(policy.name())).collect();
    let mut problems = broken(&gained, known, |_, namespace, _| namespace == request.name);
    let level = |labels| Level::of_namespace(request.name, labels, known.level).ok();
    if let (Some(was), Some(is)) = (level(&before), level(&after))
        && is < was
    {
        let count = request.name.parse().map_or(0, |namespace| known.view.attachments_in(&namespace));
        let attachments = match count {
            0 => return problems,
            1 => "1 attachment stays".to_owned(),
            many => format!("{many} attachments stay"),
        };
        let text = format!("level \"{was}\" no longer applies; {attachments} unrestricted");
        problems.push(Problem::remark(Rule::PolicyLeft, "metadata.labels", text));
    }
    problems
}

/// A03: definitions that break a rule will be refused at their next change, and at every ADD from now on.
fn broken(
    policies: &[&CompiledPolicy],
    known: &Known,
    concerns: impl Fn(&CompiledPolicy, &str, &Labels) -> bool,
) -> Vec<Problem> {
    let enforced: Vec<&CompiledPolicy> =
        policies.iter().copied().filter(|policy| policy.mode() == Mode::Enforce).collect();
    if enforced.is_empty() {
        return Vec::new();
    }
    let mut broken: BTreeMap<String, Vec<&NetRef>> = BTreeMap::new();
    for (reference, text) in known.texts.iter() {
        let namespace = reference.namespace.as_str();
        let Some(labels) = known.view.namespace(namespace).map(|namespace| &namespace.labels) else { continue };
        let concerned: Vec<&&CompiledPolicy> =
            enforced.iter().filter(|policy| concerns(policy, namespace, labels)).collect();
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
