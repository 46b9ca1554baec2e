//! Everything that is wrong with a request: a pure function of it and of what is known.

use std::collections::{BTreeMap, BTreeSet};

use attachments::dialect::danm::links;
use attachments::dialect::objects::ForeignRef;
use attachments::names::NetRef;
use attachments::policy::spec::Mode;
use attachments::policy::{LEVEL, Level};
use attachments::rule::{Rule, Severity};
use delegates::lint::{self, CONFIG, Kind, Problem};
use serde_json::{Value, json};

use super::{ours, policies};
use crate::cluster::View;
use crate::facts::Known;
use crate::rules::{self, Judged, Operation, Request};

/// What came of a request.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// What is wrong, all of it.
    pub problems: Vec<Problem>,
    /// Violations of levels and policies by whose they are, those that are only counted too.
    pub violations: BTreeMap<(String, Mode), u64>,
    /// What was not known and decides.
    pub missing: Missing,
}

/// Objects that are not known: they may be in the API server all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Definitions because of which something is refused.
    pub definitions: BTreeSet<NetRef>,
    /// Definitions of which the text is asked for: it is not kept.
    pub texts: BTreeSet<NetRef>,
    /// Namespaces, whose labels decide.
    pub namespaces: BTreeSet<String>,
    /// Levels because of which something is refused that their AttachmentLevel may open.
    pub levels: BTreeSet<Level>,
    /// Objects of dialects because of which something is refused.
    pub foreign: BTreeSet<ForeignRef>,
}

impl Missing {
    /// Is everything known?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What of it is not in the other.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        self.definitions.retain(|one| !other.definitions.contains(one));
        self.texts.retain(|one| !other.texts.contains(one));
        self.namespaces.retain(|one| !other.namespaces.contains(one));
        self.levels.retain(|one| !other.levels.contains(one));
        self.foreign.retain(|one| !other.foreign.contains(one));
        self
    }

    /// Adds what the other has.
    pub fn extend(&mut self, other: Self) {
        self.definitions.extend(other.definitions);
        self.texts.extend(other.texts);
        self.namespaces.extend(other.namespaces);
        self.levels.extend(other.levels);
        self.foreign.extend(other.foreign);
    }
}

/// Judges a request. `unanswered` is what could not be asked for: nothing is refused because of it, for nobody knows.
pub fn judge(request: &Request<'_>, known: &Known, unanswered: &Missing) -> Judgement {
    let mut judgement = Judgement { problems: of_text(request, &known.view), ..Judgement::default() };
    if request.operation != Operation::Delete {
        judgement.problems.extend(ours::judge(request, known));
    }
    if Judged::of(request) == Some(Judged::Namespace) {
        judgement.problems.extend(ours::relabelled(request, known));
    }
    judgement.problems.extend(rules::judge(request, &known.view));
    absent(request, known, unanswered, &mut judgement);
    absent_foreign(request, known, unanswered, &mut judgement);
    policies::judge(request, known, unanswered, &mut judgement);
    judgement
}

/// The rules about a definition's text that `--strict` makes refuse.
const STRICT: [Rule; 2] = [Rule::NodeLocalAddresses, Rule::NoResourceName];

/// What the text of a definition, and the level of a namespace, say by themselves.
fn of_text(request: &Request<'_>, view: &View) -> Vec<Problem> {
    if request.operation == Operation::Delete {
        return Vec::new();
    }
    match Judged::of(request) {
        Some(Judged::Definition) => definition(request, view),
        Some(Judged::Namespace) => level(request).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn definition(request: &Request<'_>, view: &View) -> Vec<Problem> {
    let (metadata, spec) = (&request.object["metadata"], &request.object["spec"]);
    let name = metadata["name"].as_str().filter(|name| !name.is_empty());
    let chosen = spec["config"].as_str().filter(|_| view.options.dialects.danm.is_some()).map(links::chosen);
    let mut problems = match chosen {
        Some(Ok(Some(config))) => lint::definition(name, &json!({"config": config})),
        Some(Err(finding)) => vec![lint::found(finding.under(CONFIG))],
        Some(Ok(None)) | None => lint::definition(name, spec),
    };
    problems.extend(lint::resource(&metadata["annotations"], spec));
    if view.options.strict {
        let refuses = |problem: &&mut Problem| problem.rule.is_some_and(|rule| STRICT.contains(&rule));
        problems.iter_mut().filter(refuses).for_each(|problem| problem.severity = Severity::Deny);
    }
    let config = |object: &Value| object["spec"]["config"].clone();
    // What was stored before there were rules must still take a label, and lose its finalizers.
    if request.old.is_some_and(|old| config(old) == config(request.object)) {
        for problem in problems.iter_mut().filter(|problem| problem.path.starts_with(CONFIG)) {
            problem.severity = Severity::Warn;
        }
    }
    problems
}

/// The label of a level is one of the words: with another one nobody knows what is allowed, and pods are refused.
fn level(request: &Request<'_>) -> Option<Problem> {
    let label = |object: &Value| object["metadata"]["labels"][LEVEL].as_str().map(str::to_owned);
    let text = label(request.object)?;
    if text.parse::<Level>().is_ok() {
        return None;
    }
    let words: Vec<String> = Level::ALL.iter().map(|level| format!("\"{level}\"")).collect();
    let allowed = format!("supported values: {}", words.join(", "));
    let path = format!("metadata.labels[{LEVEL}]");
    let problem = Problem::unruled(Kind::Unsupported, path, Value::String(text.clone()), allowed);
    let was_so = request.old.and_then(label).is_some_and(|before| before == text);
    Some(if was_so { Problem { severity: Severity::Warn, ..problem } } else { problem })
}

/// Definitions that are missing refuse a pod only when the API server does not have them either.
fn absent(request: &Request<'_>, known: &Known, unanswered: &Missing, judgement: &mut Judgement) {
    let refuses = |problem: &Problem| problem.rule == Some(Rule::NoDefinition) && problem.severity == Severity::Deny;
    if !judgement.problems.iter().any(refuses) {
        return;
    }
    for definition in rules::missing(request, &known.view) {
        if unanswered.definitions.contains(&definition) {
            let (namespace, name) = (definition.namespace.as_str(), definition.name.as_str());
            let says = format!("{name:?} in namespace {namespace:?}");
            let about = |problem: &&mut Problem| refuses(problem) && problem.text.starts_with(&says);
            for problem in judgement.problems.iter_mut().filter(about) {
                problem.severity = Severity::Warn;
                problem.text.push_str("; the API server could not be asked");
            }
        } else {
            judgement.missing.definitions.insert(definition);
        }
    }
}

/// Likewise the objects of dialects.
fn absent_foreign(request: &Request<'_>, known: &Known, unanswered: &Missing, judgement: &mut Judgement) {
    for reference in rules::missing_foreign(request, &known.view) {
        if !unanswered.foreign.contains(&reference) {
            judgement.missing.foreign.insert(reference);
            continue;
        }
        for problem in judgement.problems.iter_mut().filter(|problem| rules::says_absent(problem, &reference)) {
            problem.severity = Severity::Warn;
            problem.text.push_str("; the API server could not be asked");
        }
    }
}
