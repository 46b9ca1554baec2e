//! Levels and policies at admission, by the same code and with the same words as at ADD. Here there is a user, and a count of what exists.
//!
//! A definition is judged by its own namespace's level and policies, what a pod asks for by those of the pod's. What a stored object broke
//! before is only warned of, so that it still takes a label.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use attachments::dialect::objects::Kind as Foreign;
use attachments::names::{NetRef, ObjectName};
use attachments::policy::spec::Mode;
use attachments::policy::{
    self, CompiledPolicy, Document, Kind as Broken, Labels, Nad, Pod, PolicyError, PolicyName, Violation,
};
use attachments::rule::Severity;
use delegates::lint::{Kind, Problem};
use serde_json::Value;

use super::judge::{Judgement, Missing};
use crate::facts::{Known, Text};
use crate::rules::{self, Judged, Operation, Request};

/// Adds what levels and policies say.
pub fn judge(request: &Request<'_>, known: &Known, unanswered: &Missing, judgement: &mut Judgement) {
    let Some(judged) = Judged::of(request).filter(|_| request.operation != Operation::Delete) else { return };
    if !matches!(judged, Judged::Definition | Judged::Pod | Judged::Template(_)) {
        return;
    }
    if known.view.namespace(request.namespace).is_none() {
        if unanswered.namespaces.contains(request.namespace) {
            let text = format!("levels and policies of namespace {:?} are not known here", request.namespace);
            judgement.problems.push(warned(Problem::unruled(Kind::Remark, "", "", text)));
        } else {
            judgement.missing.namespaces.insert(request.namespace.to_owned());
        }
        return;
    }
    let mut now = Bench::new(request, known, unanswered);
    now.judge(judged, request.object);
    let mut problems = now.problems;
    if let Some(old) = request.old.filter(|_| problems.iter().any(|problem| problem.severity == Severity::Deny)) {
        let mut bench = Bench::new(request, known, unanswered);
        bench.judge(judged, old);
        let before: HashSet<Problem> = bench.problems.into_iter().collect();
        let was_so = |problem: &&mut Problem| before.contains(*problem);
        problems.iter_mut().filter(was_so).for_each(|problem| problem.severity = Severity::Warn);
    }
    judgement.problems.extend(problems);
    judgement.violations = now.violations;
    judgement.missing.extend(now.missing);
}

/// Where one object is judged.
struct Bench<'a> {
    request: &'a Request<'a>,
    known: &'a Known,
    unanswered: &'a Missing,
    problems: Vec<Problem>,
    violations: BTreeMap<(String, Mode), u64>,
    missing: Missing,
}

impl<'a> Bench<'a> {
    fn new(request: &'a Request<'a>, known: &'a Known, unanswered: &'a Missing) -> Self {
        let (problems, violations, missing) = Default::default();
        Self { request, known, unanswered, problems, violations, missing }
    }

    fn judge(&mut self, judged: Judged, object: &Value) {
        let policies = match self.known.policies_of(self.request.namespace, self.request.groups) {
            None => return,
            Some(Ok(policies)) => policies,
            Some(Err(error)) => return self.problems.push(nobody_knows(&error)),
        };
        match judged {
            Judged::Definition if !policies.is_empty() => self.definition(object, &policies),
            Judged::Pod => self.pod(object, &policies),
            Judged::Template(at) => {
                let Some(template) = object.pointer(&format!("/{}", at.replace('.', "/"))) else { return };
                let before = std::mem::take(&mut self.problems);
                self.pod(template, &policies);
                let found = std::mem::replace(&mut self.problems, before);
                self.problems.extend(found.into_iter().map(|problem| problem.under(at)));
            }
            _ => {}
        }
    }

    fn definition(&mut self, object: &Value, policies: &[&CompiledPolicy]) {
        let text = text_of(object);
        let (namespace, name) = (self.request.namespace, name_of(self.request, object));
        let reference = namespace.parse().ok().zip(name.parse().ok());
        let reference = reference.map(|(namespace, name)| NetRef { namespace, name });
        let is_there = reference.is_some_and(|reference| self.known.view.definition(&reference).is_some());
        let request = self.document_request(u64::from(!is_there), 0);
        match Document::of_definition(&nad(namespace, name, &text), Some(&request)) {
            Ok(document) => self.violations_of(policies, &document),
            Err(finding) => {
                let text = format!("must be {}", finding.allowed);
                self.problems.push(Problem::unruled(Kind::Invalid, finding.path, finding.value, text));
            }
        }
    }

    fn pod(&mut self, object: &Value, policies: &[&CompiledPolicy]) {
        let namespace = self.request.namespace;
        let Ok(home) = namespace.parse::<ObjectName>() else { return };
        // What cannot be read is said by the rules.
        let selection = rules::selection(&home, object, &self.known.view);
        if selection.networks.len() > self.known.view.options.max_attachments {
            return;
        }
        let (labels, spec) = (entries(object, "labels"), &object["spec"]);
        let name = name_of(self.request, object);
        let pod = Pod {
            namespace,
            name: Some(name).filter(|name| !name.is_empty()),
            labels: Some(&labels),
            service_account: Some(spec["serviceAccountName"].as_str().unwrap_or("default")),
            host_network: spec["hostNetwork"] == true,
        };
        let before = self.known.view.pod(&format!("{namespace}/{name}")).map_or(0, |pod| pod.attached.len());
        let asked = selection.elements().count() as u64;
        let request = self.document_request(0, asked.saturating_sub(before as u64));
        let reads = policies.iter().any(|policy| policy.reads_definitions());
        let mut seen = BTreeSet::new();
        for (element, asked) in selection.placed_elements() {
            let reference = asked.target.definition();
            if let Some(reference) = reference.filter(|reference| seen.insert((*reference).clone())) {
                self.named(reference, &element);
            }
            if policies.is_empty() {
                continue;
            }
            let text = reference.and_then(|reference| self.text(reference, reads));
            let foreign = asked.target.foreign();
            let is_of_cluster = foreign.is_some_and(|one| one.kind == Foreign::ClusterNetwork);
            let config = foreign.and_then(|one| rules::config_of(one, &self.known.view));
            let of_object = foreign.filter(|_| is_of_cluster || config.is_some()).map(|one| Nad {
                namespace: one.namespace(),
                name: one.name.as_str(),
                labels: None,
                annotations: None,
                config: config.as_deref(),
            });
            let nad = reference.map(|NetRef { namespace, name }| match text {
                Some(text) => nad(namespace.as_str(), name.as_str(), text),
                None => Nad {
                    namespace: namespace.as_str(),
                    name: name.as_str(),
                    labels: None,
                    annotations: None,
                    config: None,
                },
            });
            // A configuration with two readings is said of the definition, and refused at ADD.
            if let Ok(document) =
                Document::of_attachment(&pod, asked, &element, nad.or(of_object).as_ref(), Some(&request))
            {
                // A network of the cluster says itself whose pods it is for: levels say nothing of it.
                let judges = |policy: &&&CompiledPolicy| !is_of_cluster || !policy.name().is_of_level();
                let judging: Vec<&CompiledPolicy> = policies.iter().filter(judges).copied().collect();
                self.violations_of(&judging, &document);
            }
        }
    }

    /// A definition that a pod names is judged at ADD, too, by its own namespace's level and policies and without a user: it may be older than
    /// those. Of another namespace's definition nothing is told but the rule.
    fn named(&mut self, reference: &NetRef, element: &str) {
        let (namespace, name) = (reference.namespace.as_str(), reference.name.as_str());
        if self.known.view.definition(reference).is_none() {
            return;
        }
        let policies = match self.known.policies_of(namespace, &[]) {
            Some(Ok(policies)) if !policies.is_empty() => policies,
            Some(Err(error)) if namespace != self.request.namespace => {
                return self.problems.push(Problem { path: element.to_owned(), ..nobody_knows(&error) });
            }
            _ => return,
        };
        let Some(text) = self.text(reference, true) else { return };
        let Ok(document) = Document::of_definition(&nad(namespace, name, text), None) else { return };
        for violation in policies.iter().flat_map(|policy| policy.judge(&document)) {
            let text = if namespace == self.request.namespace {
                format!("network-attachment-definition {reference}: {violation}")
            } else {
                format!(
                    "network-attachment-definition {reference} breaks {} rule {:?}",
                    violation.policy, violation.rule
                )
            };
            let problem = Problem::unruled(Kind::Forbidden, element, "", text);
            self.found(&violation, problem);
        }
    }

    /// What a definition says. One that is known and not kept is missing, where it matters.
    fn text(&mut self, reference: &NetRef, is_read: bool) -> Option<&'a Text> {
        let text = self.known.texts.get(reference);
        let is_known = self.known.view.definition(reference).is_some();
        if text.is_none() && is_known && is_read && !self.unanswered.texts.contains(reference) {
            self.missing.texts.insert(reference.clone());
        }
        text
    }

    fn violations_of(&mut self, policies: &[&CompiledPolicy], document: &Document) {
        for violation in policies.iter().flat_map(|policy| policy.judge(document)) {
            let policy = match &violation.policy {
                PolicyName::Policy(name) => name.clone(),
                PolicyName::Level(level) => format!("level {level}"),
            };
            *self.violations.entry((policy, violation.mode)).or_default() += 1;
            let problem = problem(&violation);
            self.found(&violation, problem);
        }
    }

    fn found(&mut self, violation: &Violation, mut problem: Problem) {
        problem.severity = match violation.mode {
            Mode::Enforce => Severity::Deny,
            Mode::Warn => Severity::Warn,
            Mode::Audit => return,
        };
        // What is open at a level may not have come here yet.
        if let PolicyName::Level(level) = violation.policy
            && !self.known.policies.knows_level(level)
        {
            if self.unanswered.levels.contains(&level) {
                problem = warned(problem);
            } else {
                self.missing.levels.insert(level);
            }
        }
        self.problems.push(problem);
    }

    /// Who asks, and how much there is with what is asked for.
    fn document_request(&self, definitions: u64, attachments: u64) -> policy::Request {
        let Request { namespace, user, groups, .. } = *self.request;
        let view = &self.known.view;
        let count = |count: usize, more: u64| count as u64 + more;
        let of = |key: &str, count: u64| (key.to_owned(), count);
        let usage = match namespace.parse::<ObjectName>() {
            Ok(namespace) => BTreeMap::from([
                of("nadsInNamespace", count(view.definitions_in(&namespace), definitions)),
                of("attachmentsInNamespace", count(view.attachments_in(&namespace), attachments)),
            ]),
            Err(_) => BTreeMap::new(),
        };
        policy::Request {
            operation: if self.request.operation == Operation::Create { "CREATE" } else { "UPDATE" }.to_owned(),
            user: user.to_owned(),
            groups: groups.to_vec(),
            namespace: namespace.to_owned(),
            ns_labels: view.namespace(namespace).map(|namespace| namespace.labels.clone()).unwrap_or_default(),
            usage,
        }
    }
}

/// A level or policy that cannot be read forbids everything: nobody knows what it forbids.
fn nobody_knows(error: &PolicyError) -> Problem {
    Problem::unruled(Kind::Forbidden, "metadata.namespace", "", error.to_string())
}

fn warned(problem: Problem) -> Problem {
    Problem { severity: Severity::Warn, ..problem }
}

fn problem(violation: &Violation) -> Problem {
    let kind = match violation.kind {
        Broken::Forbidden => Kind::Forbidden,
        Broken::Required => Kind::Required,
        Broken::TooMany => Kind::TooMany,
        Broken::Invalid => Kind::Invalid,
        Broken::Duplicate => Kind::Duplicate,
    };
    Problem::unruled(kind, violation.path.as_str(), &violation.value, violation.text())
}

/// What a definition is for a document.
pub(super) fn nad<'a>(namespace: &'a str, name: &'a str, text: &'a Text) -> Nad<'a> {
    let (labels, annotations) = (Some(&text.labels), Some(&text.annotations));
    Nad { namespace, name, labels, annotations, config: Some(text.config.as_deref().unwrap_or_default()) }
}

fn text_of(object: &Value) -> Text {
    let config = object["spec"]["config"].as_str().map(str::to_owned);
    Text { labels: entries(object, "labels"), annotations: entries(object, "annotations"), config }
}

/// The name of the object; empty where the API server is to make one up.
fn name_of<'a>(request: &Request<'a>, object: &'a Value) -> &'a str {
    object["metadata"]["name"].as_str().filter(|name| !name.is_empty()).unwrap_or(request.name)
}

pub(super) fn entries(object: &Value, key: &str) -> Labels {
    let entries = object["metadata"][key].as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
