//! Levels and policies of the cluster, compiled once for each version of an object.

use std::collections::BTreeMap;

use attachments::policy::spec::{AttachmentLevelSpec, AttachmentPolicySpec, Mode, NamespaceSelector, VniRange};
use attachments::policy::{CompiledPolicy, Level, PolicyError, PolicyName, compile};
use serde_json::Value;

use super::object::{Meta, Object};
use crate::cluster::Labels;

/// The most bytes of all policies.
const MOST: usize = 1 << 20;

/// What is known of an AttachmentPolicy.
#[derive(Clone, Debug)]
pub struct KnownPolicy {
    /// Its uid.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// The policy, or why it is none.
    pub read: Result<CompiledPolicy, String>,
    version: String,
    bytes: usize,
    /// What is known of it where it cannot be compiled: whom it concerns, and what would follow. Absent where not even its spec is one.
    spec: Option<(Option<NamespaceSelector>, Mode)>,
}

#[derive(Clone, Debug, Default)]
struct KnownLevel {
    version: String,
    /// Of the AttachmentLevel, or of one that opens nothing.
    policies: Vec<CompiledPolicy>,
    /// The VNIs that it opens.
    vni_ranges: Vec<VniRange>,
    /// Why there are none.
    flaw: Option<String>,
    is_known: bool,
}

/// Levels and policies.
#[derive(Debug)]
pub struct Policies {
    policies: BTreeMap<String, KnownPolicy>,
    levels: BTreeMap<Level, KnownLevel>,
    bytes: usize,
}

impl Default for Policies {
    fn default() -> Self {
        let levels = Level::ALL.into_iter().map(|level| (level, KnownLevel::closed(level))).collect();
        Self { policies: BTreeMap::new(), levels, bytes: 0 }
    }
}

impl KnownLevel {
    fn closed(level: Level) -> Self {
        Self::read(level, &AttachmentLevelSpec::default())
    }

    fn read(level: Level, open: &AttachmentLevelSpec) -> Self {
        match compile_level(level, open) {
            Ok(policies) => Self { policies, vni_ranges: open.vni_ranges.clone(), ..Self::default() },
            Err(why) => Self { flaw: Some(why), ..Self::default() },
        }
    }
}

/// The policies of a level.
pub fn compile_level(level: Level, open: &AttachmentLevelSpec) -> Result<Vec<CompiledPolicy>, String> {
    let compile = |spec: AttachmentPolicySpec| {
        compile(PolicyName::Level(level), &spec)
            .map_err(|flaws| flaws.first().map(ToString::to_string).unwrap_or_default())
    };
    level.policies(open).into_iter().map(compile).collect()
}

impl Policies {
    /// An AttachmentPolicy is there, or has changed. Returns whom it restricts, as far as that can be read.
    pub fn apply(&mut self, object: &Object) -> Option<NamespaceSelector> {
        let Object { metadata, spec, .. } = object;
        if let Some(known) = self.policies.get(&metadata.name)
            && known.version == metadata.resource_version
        {
            return known.selector();
        }
        self.delete(&metadata.name);
        let bytes = spec.to_string().len();
        let known = if self.bytes + bytes > MOST {
            KnownPolicy::unread(metadata, format!("there are more than {MOST} bytes of AttachmentPolicies"))
        } else {
            self.bytes += bytes;
            KnownPolicy { bytes, ..KnownPolicy::read(metadata, spec) }
        };
        let selector = known.selector();
        self.policies.insert(metadata.name.clone(), known);
        selector
    }

    /// An AttachmentPolicy is gone.
    pub fn delete(&mut self, name: &str) {
        if let Some(known) = self.policies.remove(name) {
            self.bytes -= known.bytes;
        }
    }

    /// An AttachmentLevel is there, or has changed.
    pub fn apply_level(&mut self, object: &Object) {
        let Ok(level) = object.metadata.name.parse::<Level>() else { return };
        let version = &object.metadata.resource_version;
        if self.levels.get(&level).is_some_and(|known| known.is_known && known.version == *version) {
            return;
        }
        let known = match serde_json::from_value::<AttachmentLevelSpec>(object.spec.clone()) {
            Ok(open) => KnownLevel::read(level, &open),
            Err(e) => KnownLevel { flaw: Some(format!("spec: {e}")), ..KnownLevel::default() },
        };
        self.levels.insert(level, KnownLevel { version: version.clone(), is_known: true, ..known });
    }

    /// An AttachmentLevel is gone: nothing is open.
    pub fn delete_level(&mut self, name: &str) {
        if let Ok(level) = name.parse::<Level>() {
            self.levels.insert(level, KnownLevel::closed(level));
        }
    }

    /// Is the AttachmentLevel of a level known?
    pub fn knows_level(&self, level: Level) -> bool {
        self.levels.get(&level).is_some_and(|known| known.is_known)
    }

    /// The VNIs that a level opens.
    pub fn vni_ranges(&self, level: Level) -> &[VniRange] {
        self.levels.get(&level).map(|known| known.vni_ranges.as_slice()).unwrap_or_default()
    }

    /// The policies by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &KnownPolicy)> {
        self.policies.iter().map(|(name, known)| (name.as_str(), known))
    }

    /// The levels whose AttachmentLevel is known.
    pub fn levels(&self) -> impl Iterator<Item = Level> {
        self.levels.iter().filter(|(_, known)| known.is_known).map(|(level, _)| *level)
    }

    /// The rules for the objects of a namespace by a user's hand: those of its level, and those of the policies that select it, of every
    /// mode. Fails as it does at ADD: a policy that cannot be read refuses, unless it only warns.
    pub fn of(
        &self,
        namespace: &str,
        labels: &Labels,
        default: Level,
        groups: &[String],
    ) -> Result<Vec<&CompiledPolicy>, PolicyError> {
        let level = Level::of_namespace(namespace, labels, default)?;
        let mut policies: Vec<&CompiledPolicy> = Vec::new();
        if let Some(known) = self.levels.get(&level) {
            if let Some(why) = &known.flaw {
                return Err(PolicyError::Flawed { policy: PolicyName::Level(level), why: why.clone() });
            }
            policies.extend(&known.policies);
        }
        for (name, known) in &self.policies {
            match &known.read {
                Ok(policy) if policy.concerns(namespace, labels, groups) => policies.push(policy),
                Ok(_) => {}
                Err(why) if known.refuses(labels) => {
                    return Err(PolicyError::Flawed { policy: PolicyName::Policy(name.clone()), why: why.clone() });
                }
                Err(_) => {}
            }
        }
        Ok(policies)
    }
}

impl KnownPolicy {
    fn read(metadata: &Meta, spec: &Value) -> Self {
        let spec: AttachmentPolicySpec = match serde_json::from_value(spec.clone()) {
            Ok(spec) => spec,
            Err(e) => return Self::unread(metadata, format!("spec: {e}")),
        };
        let read = compile(PolicyName::Policy(metadata.name.clone()), &spec);
        let read = read.map_err(|flaws| flaws.first().map(ToString::to_string).unwrap_or_default());
        Self { read, spec: Some((spec.namespace_selector, spec.mode)), ..Self::unread(metadata, String::new()) }
    }

    fn unread(metadata: &Meta, why: String) -> Self {
        let Meta { uid, generation, resource_version: version, .. } = metadata.clone();
        Self { uid, generation, read: Err(why), version, bytes: 0, spec: None }
    }

    fn selector(&self) -> Option<NamespaceSelector> {
        let (selector, _) = self.spec.as_ref().filter(|(_, mode)| *mode == Mode::Enforce)?;
        Some(selector.clone().unwrap_or_default())
    }

    /// Nobody knows what it forbids, in namespaces with these labels.
    fn refuses(&self, labels: &Labels) -> bool {
        let Some((selector, mode)) = &self.spec else { return true };
        *mode == Mode::Enforce && selector.as_ref().is_none_or(|selector| selector.selects(labels))
    }
}
