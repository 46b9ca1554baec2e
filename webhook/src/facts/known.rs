//! Everything that is known: what the rules ask, what policies read, and the policies.

use std::collections::{BTreeSet, HashSet};

use attachments::dialect::objects::{ForeignRef, Kind};
use attachments::names::NetRef;
use attachments::policy::spec::NamespaceSelector;
use attachments::policy::{CompiledPolicy, Level, PolicyError};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::json;

use super::cache::Cache;
use super::object::{Meta, Object};
use super::policies::Policies;
use super::texts::{Text, Texts};
use crate::cluster::{Labels, Options, View, reference};

/// Longest labels of a namespace that are kept, in bytes. Longer ones are read when they are needed.
const LONGEST_LABELS: usize = 4 << 10;
/// The most bytes of all namespaces' labels.
const ALL_LABELS: usize = 2 << 20;

/// The caches: a value without I/O and clock.
#[derive(Debug, Default)]
pub struct Known {
    /// What rules about several objects ask.
    pub view: View,
    /// What definitions say.
    pub texts: Texts,
    /// Levels and policies.
    pub policies: Policies,
    /// The level of a namespace without the label.
    pub level: Level,
    complete: BTreeSet<Cache>,
    label_bytes: usize,
}

impl Known {
    /// Empty caches.
    pub fn new(options: Options, level: Level) -> Self {
        Self { view: View::new(options), level, ..Self::default() }
    }

    /// Was the whole collection listed once?
    pub fn is_complete(&self, cache: Cache) -> bool {
        self.complete.contains(&cache)
    }

    /// How many objects of a collection are kept. Pods without further networks are not.
    pub fn count(&self, cache: Cache) -> usize {
        match cache {
            Cache::Definitions => self.view.definitions().len(),
            Cache::Pods => self.view.pods().len(),
            Cache::Namespaces => self.view.namespaces().len(),
            Cache::Nodes => self.view.networks().counts().0,
            Cache::ServiceCidrs => self.view.networks().counts().1,
            Cache::Policies => self.policies.iter().len(),
            Cache::Levels => self.policies.levels().count(),
            Cache::Claims => self.view.claims().len(),
            Cache::Foreign(kind, version) => self.view.foreign().count(kind, version),
        }
    }

    /// An object is there, or has changed.
    pub fn apply(&mut self, cache: Cache, object: Object) {
        let metadata = &object.metadata;
        match cache {
            Cache::Definitions => self.apply_definition(object),
            Cache::Pods => self.view.apply_pod(&metadata.to_object_meta()),
            Cache::Namespaces => self.apply_namespace(metadata),
            Cache::Nodes => {
                let addresses = object.status.map(|status| status.addresses).unwrap_or_default();
                let node = json!({"metadata": {"name": metadata.name},
                    "spec": {"podCIDRs": object.spec["podCIDRs"]}, "status": {"addresses": addresses}});
                match serde_json::from_value::<Node>(node) {
                    Ok(node) => self.view.networks_mut().apply_node(&node),
                    Err(why) => tracing::debug!("node {}: {why}", metadata.name),
                }
            }
            Cache::ServiceCidrs => {
                let services = json!({"metadata": {"name": metadata.name}, "spec": {"cidrs": object.spec["cidrs"]}});
                match serde_json::from_value::<ServiceCIDR>(services) {
                    Ok(services) => self.view.networks_mut().apply_services(&services),
                    Err(why) => tracing::debug!("servicecidr {}: {why}", metadata.name),
                }
            }
            Cache::Policies => match self.policies.apply(&object) {
                Some(selector) => {
                    self.view.apply_policy(&object.metadata.name, label_selector(&selector));
                }
                None => self.view.delete_policy(&object.metadata.name),
            },
            Cache::Levels => self.policies.apply_level(&object),
            Cache::Claims => {
                let members = object.status.and_then(|status| status.members.as_u64()).unwrap_or_default();
                self.view.claims_mut().apply(&metadata.name, &object.spec, members);
            }
            Cache::Foreign(kind, version) => {
                if let Some(reference) = foreign(kind, metadata) {
                    self.view.foreign_mut().apply(reference, version, &object.says(kind));
                }
            }
        }
    }

    /// An object is gone.
    pub fn delete(&mut self, cache: Cache, metadata: &Meta) {
        match cache {
            Cache::Definitions => {
                if let Some(reference) = reference(&metadata.to_object_meta()) {
                    self.delete_definition(&reference);
                }
            }
            Cache::Pods => self.view.delete_pod(&key(metadata)),
            Cache::Namespaces => self.delete_namespace(&metadata.name),
            Cache::Nodes => self.view.networks_mut().delete_node(&metadata.name),
            Cache::ServiceCidrs => self.view.networks_mut().delete_services(&metadata.name),
            Cache::Policies => {
                self.policies.delete(&metadata.name);
                self.view.delete_policy(&metadata.name);
            }
            Cache::Levels => self.policies.delete_level(&metadata.name),
            Cache::Claims => self.view.claims_mut().delete(&metadata.name),
            Cache::Foreign(kind, version) => {
                if let Some(reference) = foreign(kind, metadata) {
                    self.view.foreign_mut().delete(&reference, version);
                }
            }
        }
    }

    /// Is it one of those that are kept? What is not need not be remembered while a list is read.
    pub fn keeps(&self, cache: Cache, key: &str) -> bool {
        cache != Cache::Pods || self.view.pod(key).is_some()
    }

    /// A list is complete: what it did not have is gone. Its objects are named `namespace/name`, or `name`.
    pub fn end(&mut self, cache: Cache, listed: &HashSet<String>) {
        match cache {
            Cache::Definitions => {
                let is_listed = |reference: &NetRef| listed.contains(&reference.to_string());
                self.view.retain_definitions(is_listed);
                self.texts.retain(is_listed);
            }
            Cache::Pods => self.view.retain_pods(|name| listed.contains(name)),
            Cache::Namespaces => {
                self.view.retain_namespaces(|name| listed.contains(name));
                self.label_bytes = self.view.namespaces().map(|(_, namespace)| weight(&namespace.labels)).sum();
            }
            Cache::Nodes => self.view.networks_mut().retain_nodes(|name| listed.contains(name)),
            Cache::ServiceCidrs => self.view.networks_mut().retain_services(|name| listed.contains(name)),
            Cache::Claims => self.view.claims_mut().retain(|name| listed.contains(name)),
            Cache::Foreign(kind, version) => {
                let is_listed = |reference: &ForeignRef| match reference.namespace() {
                    "" => listed.contains(reference.name.as_str()),
                    namespace => listed.contains(&format!("{namespace}/{}", reference.name)),
                };
                self.view.foreign_mut().retain(kind, version, is_listed);
            }
            Cache::Policies | Cache::Levels => {
                let known: Vec<String> = match cache {
                    Cache::Policies => self.policies.iter().map(|(name, _)| name.to_owned()).collect(),
                    _ => self.policies.levels().map(|level| level.to_string()).collect(),
                };
                for name in known.into_iter().filter(|name| !listed.contains(name)) {
                    self.delete(cache, &Meta { name, ..Meta::default() });
                }
            }
        }
        self.complete.insert(cache);
    }

    fn apply_definition(&mut self, object: Object) {
        let (meta, text) = read_definition(object);
        self.view.apply_definition(&meta, text.config.as_deref());
        if let Some(reference) = reference(&meta) {
            self.texts.apply(&reference, text);
        }
    }

    /// Lets an object that the API server has and the caches do not be known for the time of one review. Kept, it could outlive its end, of
    /// which the watch may have told already. What it was unknown as is named for [`Self::take_back`].
    pub(super) fn lend(&mut self, cache: Cache, object: Object) -> Option<Lent> {
        match cache {
            Cache::Definitions => {
                let (meta, text) = read_definition(object);
                let reference = reference(&meta)?;
                let is_new = self.view.definition(&reference).is_none();
                if is_new {
                    self.view.apply_definition(&meta, text.config.as_deref());
                }
                self.texts.lend(reference.clone(), text);
                is_new.then_some(Lent::Definition(reference))
            }
            Cache::Namespaces if self.view.namespace(&object.metadata.name).is_none() => {
                self.view.apply_namespace(&object.metadata.to_object_meta());
                Some(Lent::Namespace(object.metadata.name))
            }
            Cache::Foreign(kind, version) => {
                let is_new = |reference: &ForeignRef| !self.view.foreign().has(reference);
                let reference = foreign(kind, &object.metadata).filter(is_new)?;
                self.view.foreign_mut().apply(reference.clone(), version, &object.says(kind));
                Some(Lent::Foreign(reference, version))
            }
            Cache::Levels => {
                let level = object.metadata.name.parse().ok().filter(|level| !self.policies.knows_level(*level))?;
                self.policies.apply_level(&object);
                Some(Lent::Level(level))
            }
            _ => None,
        }
    }

    /// Forgets what was lent.
    pub(super) fn take_back(&mut self, lent: Vec<Lent>) {
        self.texts.take_back();
        for one in lent {
            match one {
                Lent::Definition(reference) => self.view.delete_definition(&reference),
                Lent::Namespace(name) => self.view.delete_namespace(&name),
                Lent::Foreign(reference, version) => self.view.foreign_mut().delete(&reference, version),
                Lent::Level(level) => self.policies.delete_level(level.as_str()),
            }
        }
    }

    fn delete_definition(&mut self, reference: &NetRef) {
        self.view.delete_definition(reference);
        self.texts.delete(reference);
    }

    fn apply_namespace(&mut self, metadata: &Meta) {
        self.delete_namespace(&metadata.name);
        let bytes = weight(&metadata.labels);
        if bytes <= LONGEST_LABELS.min(ALL_LABELS - self.label_bytes) {
            self.label_bytes += bytes;
            self.view.apply_namespace(&metadata.to_object_meta());
        }
    }

    fn delete_namespace(&mut self, name: &str) {
        let bytes = self.view.namespace(name).map_or(0, |namespace| weight(&namespace.labels));
        self.label_bytes -= bytes;
        self.view.delete_namespace(name);
    }

    /// The rules of levels and policies for the objects of a namespace, by the hand of somebody in these groups. None when the namespace
    /// is not known.
    pub fn policies_of(&self, namespace: &str, groups: &[String]) -> Option<Result<Vec<&CompiledPolicy>, PolicyError>> {
        let labels = &self.view.namespace(namespace)?.labels;
        Some(self.policies.of(namespace, labels, self.level, groups))
    }

    /// The level of a namespace. None when the namespace is not known, or its label is none.
    pub fn level_of(&self, namespace: &str) -> Option<Level> {
        Level::of_namespace(namespace, &self.view.namespace(namespace)?.labels, self.level).ok()
    }
}

/// What was lent, and is not known otherwise.
#[derive(Debug)]
pub(super) enum Lent {
    Definition(NetRef),
    Namespace(String),
    Level(Level),
    Foreign(ForeignRef, &'static str),
}

/// A definition for the rules, and for policies.
fn read_definition(object: Object) -> (ObjectMeta, Text) {
    let Object { metadata, spec, .. } = object;
    let (meta, config) = (metadata.to_object_meta(), spec["config"].as_str().map(str::to_owned));
    let Meta { labels, annotations, .. } = metadata;
    (meta, Text { labels, annotations, config })
}

/// An object of a dialect, by its metadata.
fn foreign(kind: Kind, metadata: &Meta) -> Option<ForeignRef> {
    let namespace = match kind.is_namespaced() {
        true => Some(metadata.namespace.parse().ok()?),
        false => None,
    };
    Some(ForeignRef { kind, namespace, name: metadata.name.parse().ok()? })
}

/// An object's name in its collection: `namespace/name`, or its name.
pub fn key(metadata: &Meta) -> String {
    let Meta { namespace, name, .. } = metadata;
    if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") }
}

fn weight(labels: &Labels) -> usize {
    labels.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Both are written alike.
fn label_selector(selector: &NamespaceSelector) -> LabelSelector {
    serde_json::to_value(selector).and_then(serde_json::from_value).unwrap_or_default()
}
