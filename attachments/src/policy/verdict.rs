//! The verdict about one pod, from what a node knows at ADD.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::compile::{CompiledPolicy, compile};
use super::document::{Document, Labels, Nad, Pod};
use super::level::Level;
use super::spec::{AttachmentLevelSpec, AttachmentPolicySpec, Mode};
use super::violation::{PolicyName, Violation};
use crate::finding::Finding;
use crate::selection::NetworkSelection;

/// Violations that one message names.
const SHOWN: usize = 3;
/// The label that is a namespace's name.
const NAME: &str = "kubernetes.io/metadata.name";

/// What the cluster holds of levels and policies, as far as some namespaces are concerned. As JSON it is part of the agent's answers and of
/// a file of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The labels of namespaces. One that is not here has none but that of its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespaces: BTreeMap<String, Labels>,
    /// AttachmentPolicies by name, those that select one of the namespaces at least.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, AttachmentPolicySpec>,
    /// AttachmentLevels by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub levels: BTreeMap<String, AttachmentLevelSpec>,
}

/// One network of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// What the pod asks for.
    pub selection: &'a NetworkSelection,
    /// The path of the request in the pod.
    pub element: &'a str,
    /// The definition that it names; none for a file of the node.
    pub nad: Option<Nad<'a>>,
    /// The definition is the node's own text, which no policy judges.
    pub is_nodes_own: bool,
    /// The network is one of the cluster, which says itself whose pods it is for: levels say nothing of it.
    pub is_of_cluster: bool,
}

/// Why levels and policies cannot judge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A level that is none, or a configuration that has two readings.
    #[error("{0}")]
    Unreadable(#[from] Finding),
    /// A policy that cannot be compiled.
    #[error("{policy}: {why}")]
    Flawed {
        /// The policy.
        policy: PolicyName,
        /// The first thing that is wrong with it.
        why: String,
    },
}

/// What levels and policies say of a pod's networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is refused.
    pub refusals: Vec<String>,
    /// What is not as it should be.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// Judges the networks of a pod by the level of its namespace and by the policies there, and each definition by those of its own
    /// namespace. Fails where no judgement is possible: a level or a policy that cannot be read, a configuration that has two readings.
    pub fn of(facts: &Facts, default: Level, pod: &Pod<'_>, networks: &[Judged<'_>]) -> Result<Self, PolicyError> {
        let mut bench = Bench { facts, default, known: BTreeMap::new(), verdict: Self::default() };
        let mut judged = BTreeSet::new();
        for network in networks {
            if let Some(nad) = network.nad.filter(|_| !network.is_nodes_own && !network.is_of_cluster)
                && judged.insert((nad.namespace, nad.name))
                && !bench.policies(nad.namespace)?.is_empty()
            {
                let subject = format!("network-attachment-definition {}/{}: ", nad.namespace, nad.name);
                let of_it = |e: Finding| Finding { path: format!("{subject}{}", e.path), ..e };
                let document = Document::of_definition(&nad, None).map_err(of_it)?;
                bench.judge(nad.namespace, &document, &subject, true)?;
            }
            if !bench.policies(pod.namespace)?.is_empty() {
                let document =
                    Document::of_attachment(pod, network.selection, network.element, network.nad.as_ref(), None)?;
                bench.judge(pod.namespace, &document, "", !network.is_of_cluster)?;
            }
        }
        Ok(bench.verdict)
    }

    /// The refusals in one sentence, the first of them in full.
    pub fn refusal(&self) -> Option<String> {
        if self.refusals.is_empty() {
            return None;
        }
        let mut said: Vec<String> = self.refusals.iter().take(SHOWN).cloned().collect();
        if self.refusals.len() > SHOWN {
            said.push(format!("and {} more", self.refusals.len() - SHOWN));
        }
        Some(said.join("; "))
    }
}

impl Facts {
    /// The level of a namespace, by its label.
    pub fn level(&self, namespace: &str, default: Level) -> Result<Level, Finding> {
        self.namespaces.get(namespace).map_or(Ok(default), |labels| Level::of_namespace(namespace, labels, default))
    }

    /// The rules for the objects of a namespace: those of its level and those of the policies that select it. A policy that cannot be read
    /// refuses, unless it only warns: nobody knows what it forbids.
    pub fn policies(&self, namespace: &str, default: Level) -> Result<Vec<CompiledPolicy>, PolicyError> {
        let level = self.level(namespace, default)?;
        let opened = self.levels.get(level.as_str()).cloned().unwrap_or_default();
        let of_level = level.policies(&opened).into_iter().map(|spec| (PolicyName::Level(level), spec));
        // An API server gives the label to every namespace; a directory of manifests may lack the Namespace itself.
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        labels.entry(NAME.to_owned()).or_insert_with(|| namespace.to_owned());
        let of_cluster = self.policies.iter().filter(|(_, spec)| {
            spec.mode != Mode::Audit
                && spec.namespace_selector.as_ref().is_none_or(|selector| selector.selects(&labels))
        });
        let of_cluster = of_cluster.map(|(name, spec)| (PolicyName::Policy(name.clone()), spec.clone()));
        let mut policies = Vec::new();
        for (name, spec) in of_level.chain(of_cluster) {
            match compile(name.clone(), &spec) {
                Ok(policy) if policy.concerns(namespace, &labels, &[]) => policies.push(policy),
                Ok(_) => {}
                Err(_) if spec.mode != Mode::Enforce => {}
                Err(flaws) => {
                    let why = flaws.first().map(ToString::to_string).unwrap_or_default();
                    return Err(PolicyError::Flawed { policy: name, why });
                }
            }
        }
        Ok(policies)
    }
}

/// Judges, and reads the policies of each namespace once.
struct Bench<'a> {
    facts: &'a Facts,
    default: Level,
    known: BTreeMap<String, Vec<CompiledPolicy>>,
    verdict: Verdict,
}

impl Bench<'_> {
    fn policies(&mut self, namespace: &str) -> Result<&[CompiledPolicy], PolicyError> {
        if !self.known.contains_key(namespace) {
            let policies = self.facts.policies(namespace, self.default)?;
            self.known.insert(namespace.to_owned(), policies);
        }
        Ok(self.known.get(namespace).map(Vec::as_slice).unwrap_or_default())
    }

    fn judge(
        &mut self,
        namespace: &str,
        document: &Document,
        subject: &str,
        by_level: bool,
    ) -> Result<(), PolicyError> {
        let policies = self.policies(namespace)?.iter().filter(|policy| by_level || !policy.name().is_of_level());
        let found: Vec<Violation> = policies.flat_map(|policy| policy.judge(document)).collect();
        for violation in found {
            let text = format!("{subject}{violation}");
            match violation.mode {
                Mode::Enforce => self.verdict.refusals.push(text),
                Mode::Warn => self.verdict.warnings.push(text),
                Mode::Audit => {}
            }
        }
        Ok(())
    }
}
