//! The findings that pods have been told of: a file of the state directory, so that an agent that starts again tells nothing twice, and
//! takes back what is over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use attachments::names::ContainerId;
use attachments::text::printable;
use serde::{Deserialize, Serialize};

use crate::durable_file;
use crate::error::Result;
use crate::pod_cache::PodName;

/// The file's name.
const FILE: &str = "differences";
/// Longest message, in bytes.
const LONGEST: usize = 1000;

/// What is wrong with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Its default network is not as recorded.
    DefaultNetwork,
    /// A further network is not.
    Network,
    /// There is no record of its sandbox.
    NoRecord,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::DefaultNetwork, Self::Network, Self::NoRecord];

    /// As a label of a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DefaultNetwork => "default_network",
            Self::Network => "network",
            Self::NoRecord => "no_record",
        }
    }
}

/// What was found of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The pod's uid.
    pub uid: String,
    /// What is wrong.
    pub kinds: BTreeSet<Kind>,
    /// Its sandbox, where there is a record of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerId>,
    /// For people.
    pub message: String,
}

impl Finding {
    /// A finding; a long text is cut.
    pub fn new(uid: String, kinds: BTreeSet<Kind>, container: Option<ContainerId>, text: &str) -> Self {
        let text = printable(text);
        let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        Self { uid, kinds, container, message: text[..end].to_owned() }
    }

    /// The reason in the pod's condition.
    pub fn condition(&self) -> &'static str {
        if self.kinds.contains(&Kind::NoRecord) { "NoRecord" } else { "Differs" }
    }
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    namespace: String,
    name: String,
    finding: Finding,
}

/// The findings that were told.
#[derive(Debug)]
pub struct Told {
    path: PathBuf,
    findings: BTreeMap<PodName, Finding>,
    is_changed: bool,
}

impl Told {
    /// Those of an earlier agent. A file that cannot be read counts as none: its pods are told once more.
    pub fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let entries: Vec<Entry> =
            std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let named = |Entry { namespace, name, finding }: Entry| {
            Some((PodName { namespace: namespace.parse().ok()?, name: name.parse().ok()? }, finding))
        };
        Self { path, findings: entries.into_iter().filter_map(named).collect(), is_changed: false }
    }

    /// Was the pod told just that?
    pub fn has(&self, pod: &PodName, finding: &Finding) -> bool {
        self.findings.get(pod).is_some_and(|told| told.uid == finding.uid && told.message == finding.message)
    }

    /// The pod is told.
    pub fn note(&mut self, pod: PodName, finding: Finding) {
        self.findings.insert(pod, finding);
        self.is_changed = true;
    }

    /// The pods, with their uids, of which nothing is found any more. `is_open` tells of a sandbox that was not compared this time.
    pub fn mended(
        &self,
        findings: &BTreeMap<PodName, Finding>,
        is_open: impl Fn(&ContainerId) -> bool,
    ) -> Vec<(PodName, String)> {
        let is_over = |pod: &PodName, told: &Finding| {
            !findings.contains_key(pod) && !told.container.as_ref().is_some_and(&is_open)
        };
        let over = self.findings.iter().filter(|(pod, told)| is_over(pod, told));
        over.map(|(pod, told)| (pod.clone(), told.uid.clone())).collect()
    }

    /// The pod is well, or gone.
    pub fn forget(&mut self, pod: &PodName) {
        self.is_changed |= self.findings.remove(pod).is_some();
    }

    /// Writes the file, where something has changed.
    pub fn save(&mut self) -> Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        if self.findings.is_empty() {
            durable_file::remove(&self.path)?;
        } else {
            let entry = |(pod, finding): (&PodName, &Finding)| Entry {
                namespace: pod.namespace.to_string(),
                name: pod.name.to_string(),
                finding: finding.clone(),
            };
            let entries: Vec<Entry> = self.findings.iter().map(entry).collect();
            // Plain data always serialises.
            durable_file::place(&self.path, &serde_json::to_vec(&entries).unwrap_or_default(), 0o600)?;
        }
        self.is_changed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> PodName {
        PodName { namespace: "n".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn finding(uid: &str, text: &str) -> Finding {
        Finding::new(uid.to_owned(), [Kind::Network].into(), Some("c".parse().unwrap()), text)
    }

    #[test]
    fn a_finding_is_told_once_by_all_agents_of_a_node() {
        let dir = tempfile::tempdir().unwrap();
        let mut told = Told::open(dir.path());
        told.note(pod("a"), finding("u", "gone"));
        told.save().unwrap();
        let mut told = Told::open(dir.path());
        assert!(told.has(&pod("a"), &finding("u", "gone")));
        assert!(!told.has(&pod("a"), &finding("u", "something else")));
        assert!(!told.has(&pod("a"), &finding("another pod", "gone")));
        told.forget(&pod("a"));
        told.save().unwrap();
        assert!(!dir.path().join(FILE).exists(), "a node without findings has no file");
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(Told::open(dir.path()).findings.is_empty());
    }

    #[test]
    fn a_pod_is_mended_when_it_was_compared_and_nothing_was_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut told = Told::open(dir.path());
        told.note(pod("a"), finding("u", "gone"));
        assert_eq!(told.mended(&[(pod("a"), finding("u", "other"))].into(), |_| false), []);
        assert_eq!(told.mended(&BTreeMap::new(), |_| true), []);
        assert_eq!(told.mended(&BTreeMap::new(), |_| false), [(pod("a"), "u".to_owned())]);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let cut = finding("u", &"ä".repeat(600)).message;
        assert!(cut.len() <= LONGEST && cut.ends_with('ä'));
    }
}
