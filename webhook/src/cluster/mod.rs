//! What the rules know of the cluster: fed from watches, asked without I/O.
//!
//! A [`View`] keeps what rules ask for and no text: a definition's configuration is read once when the object comes, and of a
//! pod only its metadata counts. Every question is a look-up. Whoever feeds it calls `apply_*` and `delete_*` for events, and
//! `retain_*` after a list.

pub mod claims;
pub mod definition;
pub mod foreign;
mod index;
pub mod ipam;
pub mod networks;
mod options;
pub mod pod;
mod usage;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use attachments::dialect::alias::Candidate;
use attachments::names::{NetRef, ObjectName};
use attachments::selection::Selection;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::{Selector, SelectorExt};

pub use claims::{Claim, Claims, Pair};
pub use definition::Definition;
pub use foreign::Foreign;
pub use index::Common;
pub use networks::ClusterNetwork;
pub use options::Options;
pub use pod::{Pod, PodName};
pub use usage::Usage;

use index::Index;
use networks::Networks;

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// The cluster as the rules see it.
#[derive(Debug, Default)]
pub struct View {
    /// What flags say.
    pub options: Options,
    definitions: HashMap<NetRef, Definition>,
    names: HashMap<ObjectName, BTreeSet<ObjectName>>,
    index: Index,
    pods: HashMap<PodName, Pod>,
    usage: HashMap<NetRef, Usage>,
    attachments: HashMap<ObjectName, usize>,
    namespaces: HashMap<Box<str>, Namespace>,
    policies: BTreeMap<Box<str>, Selector>,
    networks: Networks,
    claims: Claims,
    foreign: Foreign,
}

/// A namespace.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    /// Its labels.
    pub labels: Labels,
    /// It is being deleted.
    pub is_terminating: bool,
}

impl View {
    /// An empty cluster.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// A definition is there, or has changed.
    pub fn apply_definition(&mut self, metadata: &ObjectMeta, config: Option<&str>) {
        let Some(reference) = reference(metadata) else { return };
        self.add_definition(Definition::read(reference, metadata, config));
    }

    /// The same for one that was read.
    pub(crate) fn add_definition(&mut self, definition: Definition) {
        let reference = definition.reference.clone();
        self.delete_definition(&reference);
        self.index.add(&definition);
        self.names.entry(reference.namespace.clone()).or_default().insert(reference.name.clone());
        self.definitions.insert(reference, definition);
    }

    /// A definition is gone.
    pub fn delete_definition(&mut self, reference: &NetRef) {
        let Some(definition) = self.definitions.remove(reference) else { return };
        self.index.remove(&definition);
        if let Some(names) = self.names.get_mut(&reference.namespace) {
            names.remove(&reference.name);
            if names.is_empty() {
                self.names.remove(&reference.namespace);
            }
        }
    }

    /// A list was read: definitions that it did not have are gone.
    pub fn retain_definitions(&mut self, is_listed: impl Fn(&NetRef) -> bool) {
        let gone: Vec<NetRef> = self.definitions.keys().filter(|reference| !is_listed(reference)).cloned().collect();
        gone.iter().for_each(|reference| self.delete_definition(reference));
    }

    /// A pod is there and not over, or has changed.
    pub fn apply_pod(&mut self, metadata: &ObjectMeta) {
        let Some((name, namespace)) = pod_name(metadata) else { return };
        self.delete_pod(&name);
        let home = self.options.multus_namespace.clone().unwrap_or_else(|| namespace.clone());
        let annotation = |key: &str| metadata.annotations.as_ref()?.get(key).map(String::as_str);
        let pod = Pod::read(metadata, &self.selection(annotation, &namespace, &home), namespace);
        // Most pods have no further network, and no rule asks for them.
        if pod.attached.is_empty() && pod.foreign.is_empty() {
            return;
        }
        if !pod.attached.is_empty() {
            *self.attachments.entry(pod.namespace.clone()).or_default() += pod.attached.len();
        }
        for reference in &pod.foreign {
            self.foreign.add_user(reference, &name);
        }
        for attached in &pod.attached {
            self.usage.entry(attached.network.clone()).or_default().add(&name, attached);
        }
        self.pods.insert(name, pod);
    }

    /// What annotations select, with what is known of the names that a dialect has for definitions. What cannot be read is left out.
    pub fn selection<'a>(
        &self,
        annotation: impl Fn(&str) -> Option<&'a str>,
        namespace: &ObjectName,
        multus_namespace: &ObjectName,
    ) -> Selection {
        let (mut selection, _) = Selection::read(annotation, namespace, multus_namespace, &self.options.dialects);
        selection.name_definitions(|alias| {
            alias.among(self.definitions.values().map(|known| Candidate {
                reference: &known.reference,
                name: known.knitter_name.as_deref(),
                is_public: known.is_public,
            }))
        });
        selection
    }

    /// A pod is over or gone; `name` is `namespace/name`.
    pub fn delete_pod(&mut self, name: &str) {
        let Some((name, pod)) = self.pods.remove_entry(name) else { return };
        if let Some(count) = self.attachments.get_mut(&pod.namespace) {
            *count = count.saturating_sub(pod.attached.len());
            if *count == 0 {
                self.attachments.remove(&pod.namespace);
            }
        }
        for reference in &pod.foreign {
            self.foreign.remove_user(reference, &name);
        }
        for attached in &pod.attached {
            let Some(usage) = self.usage.get_mut(&attached.network) else { continue };
            usage.remove(&name, attached);
            if usage.is_empty() {
                self.usage.remove(&attached.network);
            }
        }
    }

    /// A list was read: pods that it did not have are over or gone.
    pub fn retain_pods(&mut self, is_listed: impl Fn(&str) -> bool) {
        let gone: Vec<PodName> = self.pods.keys().filter(|name| !is_listed(name)).cloned().collect();
        gone.iter().for_each(|name| self.delete_pod(name));
    }

    /// A namespace is there, or has changed.
    pub fn apply_namespace(&mut self, metadata: &ObjectMeta) {
        let Some(name) = metadata.name.as_deref() else { return };
        let labels = metadata.labels.clone().unwrap_or_default();
        let namespace = Namespace { labels, is_terminating: metadata.deletion_timestamp.is_some() };
        self.namespaces.insert(name.into(), namespace);
    }

    /// A namespace is gone.
    pub fn delete_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// A list was read: namespaces that it did not have are gone.
    pub fn retain_namespaces(&mut self, is_listed: impl Fn(&str) -> bool) {
        self.namespaces.retain(|name, _| is_listed(name));
    }

    /// A policy is there, for the namespaces that the selector selects. False when it is no selector.
    pub fn apply_policy(&mut self, name: &str, selector: LabelSelector) -> bool {
        let read = Selector::try_from(selector);
        let is_read = read.is_ok();
        if let Ok(selector) = read {
            self.policies.insert(name.into(), selector);
        }
        is_read
    }

    /// A policy is gone.
    pub fn delete_policy(&mut self, name: &str) {
        self.policies.remove(name);
    }

    /// The networks that Node and ServiceCIDR objects tell.
    pub fn networks_mut(&mut self) -> &mut Networks {
        &mut self.networks
    }

    /// The same to be looked at.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Who owns which VNI.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The same to be changed.
    pub fn claims_mut(&mut self) -> &mut Claims {
        &mut self.claims
    }

    /// The objects of dialects.
    pub fn foreign(&self) -> &Foreign {
        &self.foreign
    }

    /// The same to be changed.
    pub fn foreign_mut(&mut self) -> &mut Foreign {
        &mut self.foreign
    }

    /// The cluster's networks that share addresses with this one.
    pub(crate) fn cluster_networks(&self, net: ipnet::IpNet) -> Vec<ClusterNetwork> {
        self.networks.overlapping(net, &self.options)
    }

    /// A definition.
    pub fn definition(&self, reference: &NetRef) -> Option<&Definition> {
        self.definitions.get(reference)
    }

    /// The names of a namespace's definitions.
    pub fn names(&self, namespace: &ObjectName) -> impl Iterator<Item = &ObjectName> {
        self.names.get(namespace).into_iter().flatten()
    }

    /// Every definition.
    pub fn definitions(&self) -> impl ExactSizeIterator<Item = &Definition> {
        self.definitions.values()
    }

    /// The pods with further networks.
    pub fn pods(&self) -> impl ExactSizeIterator<Item = (&PodName, &Pod)> {
        self.pods.iter()
    }

    /// The namespaces.
    pub fn namespaces(&self) -> impl ExactSizeIterator<Item = (&str, &Namespace)> {
        self.namespaces.iter().map(|(name, namespace)| (&**name, namespace))
    }

    /// A pod with further networks.
    pub fn pod(&self, name: &str) -> Option<&Pod> {
        self.pods.get(name)
    }

    /// Who uses a definition.
    pub fn usage(&self, reference: &NetRef) -> Option<&Usage> {
        self.usage.get(reference)
    }

    /// The number of attachments of a namespace's pods.
    pub fn attachments_in(&self, namespace: &ObjectName) -> usize {
        self.attachments.get(namespace).copied().unwrap_or_default()
    }

    /// The number of a namespace's definitions.
    pub fn definitions_in(&self, namespace: &ObjectName) -> usize {
        self.names.get(namespace).map_or(0, BTreeSet::len)
    }

    /// A namespace.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// The policies for namespaces with these labels, by name.
    pub fn policies<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a str> {
        self.policies.iter().filter(|(_, selector)| selector.matches(labels)).map(|(name, _)| &**name)
    }

    /// The definitions that have this in common with the one that asks.
    pub(crate) fn others<'a>(
        &'a self,
        key: &Common,
        but: &'a NetRef,
    ) -> impl Iterator<Item = &'a Definition> + use<'a> {
        self.index.others(key, but).filter_map(|reference| self.definitions.get(reference))
    }

    /// The definitions with a subnet that shares addresses with this one.
    pub(crate) fn overlapping(&self, net: ipnet::IpNet) -> impl Iterator<Item = &Definition> {
        self.index.overlapping(net).filter_map(|(_, reference)| self.definitions.get(reference))
    }
}

/// Namespace and name of an object that has both.
pub(crate) fn reference(metadata: &ObjectMeta) -> Option<NetRef> {
    let namespace = metadata.namespace.as_deref()?.parse().ok()?;
    Some(NetRef { namespace, name: metadata.name.as_deref()?.parse().ok()? })
}

fn pod_name(metadata: &ObjectMeta) -> Option<(PodName, ObjectName)> {
    let NetRef { namespace, name } = reference(metadata)?;
    Some((format!("{namespace}/{name}").into(), namespace))
}

#[cfg(test)]
mod tests;
