//! Reads a policy once, and judges documents by it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use serde_json::Value;

use super::assertion::{Operator, Wrong};
use super::document::Document;
use super::path::Path;
use super::select::{Exhausted, Node, Step, Walk};
use super::spec::{AppliesTo, AttachmentPolicySpec, Exempt, Mode, NamespaceSelector, OnMissing, PolicyRule};
use super::violation::{Kind, PolicyName, Violation};
use crate::finding::{Finding, shortened};
use crate::rule::Rule;

/// Violations that one rule reports of one document.
const MOST: usize = 16;

/// A policy, ready to judge.
#[derive(Clone, Debug)]
pub struct CompiledPolicy {
    name: PolicyName,
    selector: Option<NamespaceSelector>,
    applies_to: Vec<AppliesTo>,
    mode: Mode,
    exempt: Exempt,
    rules: Vec<CompiledRule>,
}

#[derive(Clone, Debug)]
struct CompiledRule {
    name: String,
    for_each: Option<Path>,
    select: Path,
    operator: Operator,
    passes_missing: bool,
    message: Option<String>,
    /// The parts of the document that the rule speaks of.
    uses: BTreeSet<String>,
}

/// What is wrong with a policy's text. Prints as `spec.rules[0].select: Invalid value: "$..a..b": at most one ".." is allowed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The rule: about paths, or about expressions; absent for the rest.
    pub rule: Option<Rule>,
    /// Path of the field.
    pub path: String,
    /// Its value; empty where there is none.
    pub value: String,
    /// What is allowed.
    pub text: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: Invalid value: ", self.path)?;
        if !self.value.is_empty() {
            write!(f, "{}: ", self.value)?;
        }
        f.write_str(&self.text)
    }
}

/// Reads a policy; every rule that cannot be read is a flaw.
pub fn compile(name: PolicyName, spec: &AttachmentPolicySpec) -> Result<CompiledPolicy, Vec<Flaw>> {
    let (mut rules, mut flaws) = (Vec::with_capacity(spec.rules.len()), Vec::new());
    if spec.rules.is_empty() {
        let text = "at least one rule is required".to_owned();
        flaws.push(Flaw { rule: None, path: "spec.rules".to_owned(), value: String::new(), text });
    }
    let mut names = HashSet::new();
    for (i, rule) in spec.rules.iter().enumerate() {
        let at = format!("spec.rules[{i}]");
        if !names.insert(rule.name.as_str()) {
            let (value, text) = (format!("{:?}", rule.name), "another rule of the policy has this name".to_owned());
            flaws.push(Flaw { rule: None, path: format!("{at}.name"), value, text });
        }
        match CompiledRule::read(rule, &at) {
            Ok(rule) => rules.push(rule),
            Err(wrong) => flaws.extend(wrong),
        }
    }
    if !flaws.is_empty() {
        return Err(flaws);
    }
    let both = || vec![AppliesTo::NetworkAttachmentDefinition, AppliesTo::Pod];
    Ok(CompiledPolicy {
        name,
        selector: spec.namespace_selector.clone(),
        applies_to: if spec.applies_to.is_empty() { both() } else { spec.applies_to.clone() },
        mode: spec.mode,
        exempt: spec.exempt.clone().unwrap_or_default(),
        rules,
    })
}

impl CompiledPolicy {
    /// Does the policy speak of objects in this namespace, by this user's hand? At ADD there is no user and so no group.
    pub fn concerns(&self, namespace: &str, labels: &BTreeMap<String, String>, groups: &[String]) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.selects(labels))
            && !self.exempt.namespaces.iter().any(|exempt| exempt == namespace)
            && !groups.iter().any(|group| self.exempt.groups.contains(group))
    }

    /// Whose rules these are.
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// Does some rule about pods speak of what a definition says beyond its name? A path that names no part may speak of every one.
    pub fn reads_definitions(&self) -> bool {
        const SAID: [&str; 3] = ["config", "nad.labels", "nad.annotations"];
        let speaks = |used: &String| {
            let used = used.to_ascii_lowercase();
            let within =
                |part: &str| used.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            used == "nad" || SAID.iter().any(|part| within(part))
        };
        let reads = |rule: &CompiledRule| rule.uses.is_empty() || rule.uses.iter().any(speaks);
        self.applies_to.contains(&AppliesTo::Pod) && self.rules.iter().any(reads)
    }

    /// What follows from its violations.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Every violation of a document. A rule about what the document cannot know is not judged.
    pub fn judge(&self, document: &Document) -> Vec<Violation> {
        if !self.applies_to.contains(&document.kind()) {
            return Vec::new();
        }
        let mut violations: Vec<Violation> = Vec::new();
        for rule in self.rules.iter().filter(|rule| document.knows(&rule.uses)) {
            let mut judgement = Judgement { policy: self, rule, document, found: Vec::new() };
            if judgement.judge().is_err() {
                judgement.break_at(
                    document.whole(),
                    Kind::Forbidden,
                    "",
                    "only documents that it can be walked through",
                );
            }
            violations.extend(judgement.found);
        }
        violations
    }
}

impl CompiledRule {
    fn read(rule: &PolicyRule, at: &str) -> Result<Self, Vec<Flaw>> {
        let mut flaws = Vec::new();
        let mut path = |field: &str, text: &str| {
            let flaw = |why| Flaw {
                rule: Some(Rule::PolicyPath),
                path: format!("{at}.{field}"),
                value: shortened(&format!("{text:?}"), Finding::SHOWN),
                text: why,
            };
            Path::read(text).map_err(|why| flaws.push(flaw(why))).ok()
        };
        let for_each = rule.for_each.as_deref().map(|text| path("forEach", text));
        let select = path("select", &rule.select);
        let operator = Operator::compile(&rule.assert).map_err(|Wrong { rule, field, value, text }| {
            let dot = if field.is_empty() { "" } else { "." };
            flaws.push(Flaw {
                rule,
                path: format!("{at}.assert{dot}{field}"),
                value: shortened(&value, Finding::SHOWN),
                text,
            });
        });
        let (Some(select), Ok(operator), true) = (select, operator, flaws.is_empty()) else { return Err(flaws) };
        let for_each = for_each.flatten();
        Ok(Self {
            name: rule.name.clone(),
            // Below `forEach`, `$` is the node.
            uses: for_each.as_ref().unwrap_or(&select).uses(),
            for_each,
            select,
            operator,
            passes_missing: rule.on_missing == Some(OnMissing::Pass),
            message: rule.message.clone(),
        })
    }
}

/// One rule and one document.
struct Judgement<'a> {
    policy: &'a CompiledPolicy,
    rule: &'a CompiledRule,
    document: &'a Document,
    found: Vec<Violation>,
}

impl<'a> Judgement<'a> {
    fn judge(&mut self) -> Result<(), Exhausted> {
        let (mut walk, root) = Walk::new(self.document.value());
        let scopes = match &self.rule.for_each {
            Some(path) => walk.select(path, root)?,
            None => vec![root],
        };
        for scope in scopes {
            let nodes = walk.select(&self.rule.select, scope)?;
            self.assert(&walk, scope, &nodes);
        }
        Ok(())
    }

    fn assert(&mut self, walk: &Walk<'a>, scope: Node<'a>, nodes: &[Node<'a>]) {
        let at = |node: Node<'a>| self.document.path(&walk.steps(node));
        match &self.rule.operator {
            Operator::Each(_) if nodes.is_empty() => {
                if !self.rule.passes_missing {
                    self.break_missing(walk, scope);
                }
            }
            Operator::Each(each) => {
                for node in nodes.iter().filter(|node| !each.holds(node.value)) {
                    self.break_with(at(*node), Kind::Forbidden, node.value);
                }
            }
            Operator::MaxCount(most) if nodes.len() > *most => {
                self.count(walk, scope, Kind::TooMany, nodes.len());
            }
            Operator::MinCount(_) if nodes.is_empty() => self.break_missing(walk, scope),
            Operator::MinCount(least) if nodes.len() < *least => self.count(walk, scope, Kind::Invalid, nodes.len()),
            Operator::MaxCount(_) | Operator::MinCount(_) => {}
            Operator::Absent => {
                nodes.iter().for_each(|node| self.break_with(at(*node), Kind::Forbidden, node.value));
            }
            Operator::Unique => {
                // Numbers were written as integers where they are such, so equal values have one text.
                let mut seen = HashSet::new();
                for node in nodes.iter().filter(|node| !seen.insert(node.value.to_string())) {
                    self.break_with(at(*node), Kind::Duplicate, node.value);
                }
            }
        }
    }

    fn break_missing(&mut self, walk: &Walk<'a>, scope: Node<'a>) {
        let (path, allowed) = (self.wanted(walk, scope), self.rule.operator.allowed());
        self.break_at(path, Kind::Required, "", &allowed);
    }

    /// Where the rule looks, as far as that is one place.
    fn wanted(&self, walk: &Walk<'a>, scope: Node<'a>) -> String {
        let mut steps = walk.steps(scope);
        steps.extend(self.rule.select.names().into_iter().map(Step::Key));
        self.document.path(&steps)
    }

    fn count(&mut self, walk: &Walk<'a>, scope: Node<'a>, kind: Kind, number: usize) {
        let (path, allowed) = (self.wanted(walk, scope), self.rule.operator.allowed());
        self.break_at(path, kind, &number.to_string(), &allowed);
    }

    fn break_with(&mut self, path: String, kind: Kind, value: &Value) {
        let (value, allowed) = (shortened(&value.to_string(), Finding::SHOWN), self.rule.operator.allowed());
        self.break_at(path, kind, &value, &allowed);
    }

    fn break_at(&mut self, path: String, kind: Kind, value: &str, allowed: &str) {
        // What was lifted out of a list is selected where it was and where it is.
        if self.found.len() == MOST || self.found.iter().any(|said| said.path == path) {
            return;
        }
        self.found.push(Violation {
            path,
            kind,
            value: value.to_owned(),
            policy: self.policy.name.clone(),
            rule: self.rule.name.clone(),
            allowed: allowed.to_owned(),
            message: self.rule.message.clone(),
            mode: self.policy.mode,
        });
    }
}
