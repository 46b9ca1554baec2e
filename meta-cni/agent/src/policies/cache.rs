//! What is known of levels and policies, within bounds: a value without I/O and clock.

use std::collections::BTreeMap;

use attachments::policy::spec::{AttachmentLevelSpec, AttachmentPolicySpec, Mode};
use attachments::policy::{Facts, Labels};
use meta_cni_kube::Index;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Longest labels of a namespace that are kept, in bytes. Longer ones are read when they are needed.
const LONGEST_LABELS: usize = 4 << 10;
/// The most bytes of all namespaces' labels.
const ALL_LABELS: usize = 2 << 20;
/// The most bytes of all policies, or of all levels.
const ALL_SPECS: usize = 1 << 20;

/// Levels and policies of the cluster.
#[derive(Debug)]
pub struct Cache {
    /// The labels of namespaces.
    pub namespaces: Namespaces,
    /// AttachmentPolicies.
    pub policies: Specs<AttachmentPolicySpec>,
    /// AttachmentLevels.
    pub levels: Specs<AttachmentLevelSpec>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            namespaces: Namespaces::default(),
            policies: Specs::new("AttachmentPolicy"),
            levels: Specs::new("AttachmentLevel"),
        }
    }
}

impl Cache {
    /// Are the first lists of all three complete?
    pub fn is_complete(&self) -> bool {
        self.namespaces.index.is_complete() && self.policies.index.is_complete() && self.levels.index.is_complete()
    }

    /// What holds at ADD for namespaces with these labels. Fails when something is not known of which nobody can say what it forbids.
    pub fn facts(&self, namespaces: BTreeMap<String, Labels>) -> Result<Facts, String> {
        let mut facts = Facts::default();
        for (name, spec) in self.policies.all()? {
            let selects = |labels| spec.namespace_selector.as_ref().is_none_or(|selector| selector.selects(labels));
            // What is only counted is counted elsewhere.
            if spec.mode != Mode::Audit && namespaces.values().any(selects) {
                facts.policies.insert(name.to_owned(), spec.clone());
            }
        }
        facts.levels = self.levels.all()?.map(|(name, spec)| (name.to_owned(), spec.clone())).collect();
        facts.namespaces = namespaces;
        Ok(facts)
    }

    /// The bytes of an answer at most, beside labels.
    pub fn weight(&self) -> usize {
        self.policies.bytes + self.levels.bytes
    }
}

/// The labels of namespaces.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// None for labels that are too long.
    index: Index<String, Option<Labels>>,
    bytes: usize,
}

fn weight(labels: &Labels) -> usize {
    labels.iter().map(|(key, value)| key.len() + value.len()).sum()
}

impl Namespaces {
    /// A relist begins.
    pub fn begin(&mut self) {
        self.index.begin();
    }

    /// A namespace of the list, or a new or changed one.
    pub fn apply(&mut self, name: String, labels: Labels) {
        self.delete(&name);
        let bytes = weight(&labels);
        let is_kept = bytes <= LONGEST_LABELS.min(ALL_LABELS - self.bytes);
        self.bytes += if is_kept { bytes } else { 0 };
        self.index.apply(name, is_kept.then_some(labels));
    }

    /// A namespace is gone.
    pub fn delete(&mut self, name: &str) {
        if let Some(labels) = self.index.delete(name).flatten() {
            self.bytes -= weight(&labels);
        }
    }

    /// The list is complete.
    pub fn end(&mut self) {
        self.index.end();
        self.bytes = self.index.iter().filter_map(|(_, labels)| labels.as_ref()).map(weight).sum();
    }

    /// The labels of a namespace, if it is known and they are kept.
    pub fn get(&self, name: &str) -> Option<&Labels> {
        self.index.get(name)?.as_ref()
    }
}

/// The specs of one kind.
#[derive(Debug)]
pub struct Specs<T> {
    kind: &'static str,
    index: Index<String, Kept<T>>,
    bytes: usize,
}

#[derive(Debug)]
enum Kept<T> {
    Spec(T, usize),
    /// It cannot be read, or there are too many.
    Unusable(String),
}

impl<T: DeserializeOwned> Specs<T> {
    fn new(kind: &'static str) -> Self {
        Self { kind, index: Index::default(), bytes: 0 }
    }

    /// A relist begins.
    pub fn begin(&mut self) {
        self.index.begin();
    }

    /// An object of the list, or a new or changed one.
    pub fn apply(&mut self, name: String, spec: &Value) {
        self.delete(&name);
        let bytes = spec.to_string().len();
        let kept = match serde_json::from_value(spec.clone()) {
            _ if bytes > ALL_SPECS - self.bytes => {
                Kept::Unusable(format!("there are more than {ALL_SPECS} bytes of this kind"))
            }
            Ok(spec) => Kept::Spec(spec, bytes),
            Err(e) => Kept::Unusable(format!("spec: {e}")),
        };
        self.bytes += kept.bytes();
        self.index.apply(name, kept);
    }

    /// An object is gone.
    pub fn delete(&mut self, name: &str) {
        if let Some(kept) = self.index.delete(name) {
            self.bytes -= kept.bytes();
        }
    }

    /// The list is complete.
    pub fn end(&mut self) {
        self.index.end();
        self.bytes = self.index.iter().map(|(_, kept)| kept.bytes()).sum();
    }

    /// All objects; fails when one of them is not known.
    fn all(&self) -> Result<impl Iterator<Item = (&str, &T)>, String> {
        let mut all = Vec::new();
        for (name, kept) in self.index.iter() {
            match kept {
                Kept::Spec(spec, _) => all.push((name.as_str(), spec)),
                Kept::Unusable(why) => return Err(format!("{} {name}: {why}", self.kind)),
            }
        }
        Ok(all.into_iter())
    }
}

impl<T> Kept<T> {
    fn bytes(&self) -> usize {
        match self {
            Self::Spec(_, bytes) => *bytes,
            Self::Unusable(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(more: Value) -> Value {
        let mut spec = json!({"rules": [{"name": "r", "select": "$.a", "assert": {"absent": true}}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    }

    fn labels(key: &str, value: &str) -> Labels {
        [(key.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn only_what_holds_for_the_namespaces_is_handed_out() {
        let mut cache = Cache::default();
        cache.policies.apply("all".into(), &policy(json!({})));
        cache.policies.apply("a".into(), &policy(json!({"namespaceSelector": {"matchLabels": {"tenant": "a"}}})));
        cache.policies.apply("b".into(), &policy(json!({"namespaceSelector": {"matchLabels": {"tenant": "b"}}})));
        cache.policies.apply("counted".into(), &policy(json!({"mode": "Audit"})));
        cache.policies.apply("warned".into(), &policy(json!({"mode": "Warn"})));
        cache.levels.apply("baseline".into(), &json!({"masters": ["eth1"]}));
        let named = |facts: Facts| facts.policies.into_keys().collect::<Vec<_>>();
        let facts = cache.facts([("shop".to_owned(), labels("tenant", "a"))].into()).unwrap();
        assert_eq!(
            (facts.levels["baseline"].masters.as_slice(), facts.namespaces.len()),
            (&["eth1".to_owned()][..], 1)
        );
        assert_eq!(named(facts), ["a", "all", "warned"]);
        let two = [("x".to_owned(), Labels::new()), ("y".to_owned(), labels("tenant", "b"))];
        assert_eq!(named(cache.facts(two.into()).unwrap()), ["all", "b", "warned"]);
        assert_eq!(named(cache.facts(BTreeMap::new()).unwrap()), Vec::<String>::new());
        cache.policies.delete("all");
        assert!(cache.weight() > 0);
    }

    #[test]
    fn what_cannot_be_read_or_kept_is_not_taken_for_nothing() {
        let mut cache = Cache::default();
        cache.policies.apply("later".into(), &policy(json!({"mode": "Ask"})));
        let why = cache.facts(BTreeMap::new()).unwrap_err();
        assert!(why.starts_with("AttachmentPolicy later: spec: unknown variant `Ask`"), "{why}");
        cache.policies.apply("later".into(), &policy(json!({})));
        assert!(cache.facts(BTreeMap::new()).is_ok());

        let long = policy(json!({"exempt": {"groups": ["x".repeat(400 << 10)]}}));
        (0..3).for_each(|i| cache.policies.apply(format!("long{i}"), &long));
        assert!(cache.policies.bytes <= ALL_SPECS);
        let why = cache.facts(BTreeMap::new()).unwrap_err();
        assert_eq!(why, "AttachmentPolicy long2: there are more than 1048576 bytes of this kind");
        cache.policies.delete("long2");
        assert!(cache.facts(BTreeMap::new()).is_ok());
        cache.policies.begin();
        cache.policies.end();
        assert_eq!(cache.policies.bytes, 0);
    }

    #[test]
    fn labels_are_kept_within_bounds() {
        let mut namespaces = Namespaces::default();
        namespaces.apply("long".into(), labels("a", &"x".repeat(LONGEST_LABELS)));
        assert_eq!((namespaces.get("long"), namespaces.bytes), (None, 0));
        for number in 0..=ALL_LABELS / LONGEST_LABELS {
            namespaces.apply(format!("n{number}"), labels("a", &"x".repeat(LONGEST_LABELS - 1)));
            assert!(namespaces.bytes <= ALL_LABELS);
        }
        assert_eq!(namespaces.get(&format!("n{}", ALL_LABELS / LONGEST_LABELS)), None);
        namespaces.apply("n0".into(), labels("b", "c"));
        assert_eq!(namespaces.get("n0"), Some(&labels("b", "c")));
        namespaces.begin();
        namespaces.apply("n1".into(), Labels::new());
        namespaces.end();
        assert_eq!((namespaces.get("n0"), namespaces.bytes), (None, 0));
        assert!(!Cache::default().is_complete());
    }
}
