//! What the agent knows of its node's pods: a value that a watch feeds and questions read. No I/O, no clock.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attachments::definition::RESOURCE_NAME;
use attachments::names::{NetRef, ObjectName, PodRef};
use attachments::selection::{DEFAULT_NETWORK, NETWORKS};
use attachments::status::NETWORK_STATUS;
use meta_cni::cluster::{Annotations, named_in};
use meta_cni::node::MULTUS_NAMESPACE;
use meta_cni_kube::Index;
use serde_json::Value;

use super::watch::SeenMeta;

/// Where the kubelet has a pod from; `api`, or nothing, for all but static pods.
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// The annotations by which a pod says what it wants.
const SELECTION: [&str; 2] = [NETWORKS, DEFAULT_NETWORK];
/// Annotations that are read of an object; all others are passed over.
pub const READ: [&str; 5] = [NETWORKS, DEFAULT_NETWORK, NETWORK_STATUS, CONFIG_SOURCE, RESOURCE_NAME];

/// Longest selection of a pod that is kept, in bytes. A longer one is read from the API server when it is asked for.
const LONGEST: usize = 8 << 10;
/// The selections of all pods together.
const ALL: usize = 4 << 20;

/// The pods of this node.
#[derive(Debug, Default)]
pub struct PodCache {
    index: Index<PodName, Pod>,
    /// Bytes of all selections.
    kept: usize,
}

/// PodCache that several parts of the agent share.
#[derive(Clone, Debug, Default)]
pub struct SharedPodCache(Arc<Mutex<PodCache>>);

impl SharedPodCache {
    /// The pods, for a moment: never held across an await.
    pub fn lock(&self) -> MutexGuard<'_, PodCache> {
        // Every change is one insertion or removal: a panic elsewhere leaves a whole cache.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    /// Namespace.
    pub namespace: ObjectName,
    /// Name.
    pub name: ObjectName,
}

impl From<&PodRef> for PodName {
    fn from(pod: &PodRef) -> Self {
        Self { namespace: pod.namespace.clone(), name: pod.name.clone() }
    }
}

/// A pod, as far as its networks depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: String,
    /// Is it the API server's copy of a pod that the kubelet has from a file? It has another uid than the pod itself.
    pub is_static: bool,
    /// The annotations by which it says what it wants; nothing when they are too long to be kept.
    pub selection: Option<Annotations>,
    /// [`fingerprint`] of its `network-status`.
    pub status: Option<u64>,
}

impl Pod {
    /// The pod of an object's metadata, with its whole selection. Nothing without a proper name.
    pub fn read(metadata: SeenMeta) -> Option<(PodName, Self)> {
        let name = PodName { namespace: metadata.namespace.parse().ok()?, name: metadata.name.parse().ok()? };
        let mut selection = metadata.annotations;
        let is_static = selection.get(CONFIG_SOURCE).is_some_and(|source| source != "api");
        let status = selection.get(NETWORK_STATUS).map(|text| fingerprint(text));
        selection.retain(|key, _| SELECTION.contains(&key.as_str()));
        Some((name, Self { uid: metadata.uid, is_static, selection: Some(selection), status }))
    }

    /// Is it the pod that is meant? One of the same name that was made anew is another pod.
    pub fn is(&self, pod: &PodRef) -> bool {
        pod.uid.as_ref().is_none_or(|uid| *uid == self.uid) || self.is_static
    }

    fn weight(&self) -> usize {
        self.selection.iter().flatten().map(|(key, value)| key.len() + value.len()).sum()
    }
}

impl PodCache {
    /// A list begins.
    pub fn begin(&mut self) {
        self.index.begin();
    }

    /// A pod of the list, or one that is new or changed.
    pub fn apply(&mut self, name: PodName, mut pod: Pod) {
        self.delete(&name);
        if pod.weight() > LONGEST.min(ALL - self.kept) {
            pod.selection = None;
        }
        self.kept += pod.weight();
        self.index.apply(name, pod);
    }

    /// A pod is gone.
    pub fn delete(&mut self, name: &PodName) {
        if let Some(pod) = self.index.delete(name) {
            self.kept -= pod.weight();
        }
    }

    /// The list is at its end: it held everything.
    pub fn end(&mut self) {
        self.index.end();
        self.kept = self.index.iter().map(|(_, pod)| pod.weight()).sum();
    }

    /// Has a whole list come? Until then what is not here may exist all the same.
    pub fn is_complete(&self) -> bool {
        self.index.is_complete()
    }

    /// One pod.
    pub fn get(&self, name: &PodName) -> Option<&Pod> {
        self.index.get(name)
    }

    /// The definitions that a pod names, as far as its selection is kept.
    pub fn named_by(&self, name: &PodName) -> Vec<NetRef> {
        let Ok(usual) = MULTUS_NAMESPACE.parse::<ObjectName>() else { return Vec::new() };
        let selection = self.get(name).and_then(|pod| pod.selection.as_ref()).filter(|selection| !selection.is_empty());
        selection.map(|selection| named_in(selection, &name.namespace, &usual)).into_iter().flatten().collect()
    }

    /// Every definition that a pod names.
    pub fn named(&self) -> impl Iterator<Item = NetRef> + '_ {
        self.index.iter().flat_map(|(name, _)| self.named_by(name))
    }
}

/// Stands for a `network-status`: the same for two texts that differ in layout alone.
pub fn fingerprint(text: &str) -> u64 {
    fn put(value: &Value, hasher: &mut DefaultHasher) {
        match value {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(key, _)| key.as_str());
                (0u8, fields.len()).hash(hasher);
                for (key, value) in fields {
                    key.hash(hasher);
                    put(value, hasher);
                }
            }
            Value::Array(items) => {
                (1u8, items.len()).hash(hasher);
                items.iter().for_each(|item| put(item, hasher));
            }
            leaf => (2u8, leaf.to_string()).hash(hasher),
        }
    }
    let mut hasher = DefaultHasher::new();
    match serde_json::from_str(text) {
        Ok(value) => put(&value, &mut hasher),
        Err(_) => (3u8, text).hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(object: serde_json::Value) -> SeenMeta {
        serde_json::from_value(object).unwrap()
    }

    fn named(name: &str) -> PodName {
        PodName { namespace: "n".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn wanting(networks: &str) -> Pod {
        Pod { selection: Some([(NETWORKS.to_owned(), networks.to_owned())].into()), ..Pod::default() }
    }

    fn known(pods: &PodCache) -> Vec<&str> {
        pods.index.iter().map(|(name, _)| name.name.as_str()).collect()
    }

    #[test]
    fn a_list_replaces_what_it_does_not_hold_and_only_at_its_end() {
        let mut pods = PodCache::default();
        pods.apply(named("early"), Pod::default());
        assert!(!pods.is_complete());
        pods.begin();
        pods.apply(named("a"), Pod::default());
        pods.apply(named("b"), wanting("x"));
        pods.end();
        assert!(pods.is_complete());
        assert_eq!(known(&pods), ["a", "b"]);

        pods.apply(named("c"), wanting("y"));
        pods.delete(&named("a"));
        assert_eq!(known(&pods), ["b", "c"]);

        pods.begin();
        pods.apply(named("b"), wanting("z"));
        assert_eq!(pods.get(&named("c")), Some(&wanting("y")), "served until the list is whole");
        pods.end();
        assert_eq!(known(&pods), ["b"]);
        assert_eq!(pods.kept, wanting("z").weight());
    }

    #[test]
    fn a_list_that_is_broken_off_and_begun_again_leaves_nothing_stale() {
        let mut pods = PodCache::default();
        for names in [vec!["a", "b"], vec!["a"]] {
            pods.begin();
            names.into_iter().for_each(|name| pods.apply(named(name), Pod::default()));
        }
        pods.begin();
        pods.apply(named("c"), Pod::default());
        pods.end();
        assert_eq!(known(&pods), ["c"]);
    }

    #[test]
    fn only_what_decides_about_networks_is_kept_of_a_pod() {
        let (name, pod) = Pod::read(metadata(json!({
            "namespace": "n", "name": "p", "uid": "u", "labels": {"a": "b"},
            "annotations": {NETWORKS: "x", NETWORK_STATUS: "[]", CONFIG_SOURCE: "api", "other": "y"},
        })))
        .unwrap();
        assert_eq!((name.namespace.as_str(), name.name.as_str(), pod.uid.as_str()), ("n", "p", "u"));
        assert_eq!(pod.selection, wanting("x").selection);
        assert_eq!((pod.status, pod.is_static), (Some(fingerprint("[ ]")), false));
        assert_eq!(Pod::read(metadata(json!({"name": "p"}))), None);
    }

    #[test]
    fn what_a_pod_wants_at_length_is_not_kept_nor_more_of_all_than_there_is_room() {
        let mut pods = PodCache::default();
        pods.apply(named("long"), wanting(&"x".repeat(LONGEST)));
        assert_eq!((pods.get(&named("long")).unwrap().selection.as_ref(), pods.kept), (None, 0));
        let most = wanting(&"x".repeat(LONGEST - NETWORKS.len()));
        for number in 0..=ALL / LONGEST {
            pods.apply(named(&format!("p{number}")), most.clone());
            assert!(pods.kept <= ALL);
        }
        assert_eq!(pods.get(&named(&format!("p{}", ALL / LONGEST))).unwrap().selection, None);
        pods.delete(&named("p0"));
        pods.apply(named("later"), most.clone());
        assert_eq!(pods.get(&named("later")), Some(&most));
    }

    #[test]
    fn the_definitions_that_pods_name_are_known() {
        let mut pods = PodCache::default();
        pods.apply(named("a"), wanting("lan,other/wan"));
        pods.apply(named("b"), wanting("lan"));
        pods.apply(named("c"), wanting("[garbage"));
        let names: Vec<_> = pods.named().map(|reference| reference.to_string()).collect();
        assert_eq!(names, ["n/lan", "other/wan", "n/lan"]);
    }

    #[test]
    fn another_uid_is_another_pod_unless_it_is_static() {
        let asked = |uid: Option<&str>| PodRef {
            namespace: "n".parse().unwrap(),
            name: "p".parse().unwrap(),
            uid: uid.map(str::to_owned),
        };
        for (is_static, uid, same) in
            [(false, Some("u1"), true), (false, None, true), (false, Some("u2"), false), (true, Some("u2"), true)]
        {
            let pod = Pod { uid: "u1".into(), is_static, ..Pod::default() };
            assert_eq!(pod.is(&asked(uid)), same, "{is_static} {uid:?}");
        }
    }

    #[test]
    fn layout_does_not_count_in_a_fingerprint() {
        let one = fingerprint(r#"[{"name":"a","ips":["10.0.0.1"]}]"#);
        assert_eq!(one, fingerprint(r#"[ {"ips": ["10.0.0.1"], "name": "a"} ]"#));
        for other in [r#"[{"name":"a","ips":[]}]"#, r#"[{"name":"a","ips":"10.0.0.1"}]"#, "garbage", ""] {
            assert_ne!(one, fingerprint(other), "{other}");
        }
    }
}
