//! The cache of this node's pods: fed by the watch, read by requests. A value without I/O and clock.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use attachments::definition::RESOURCE_NAME;
use attachments::dialect::Dialects;
use attachments::names::{NetRef, ObjectName, PodRef};
use attachments::selection::{DEFAULT_NETWORK, NETWORKS};
use attachments::status::NETWORK_STATUS;
use meta_cni::cluster::{Annotations, named_in};
use meta_cni::engine::digest;
use meta_cni::node::MULTUS_NAMESPACE;
use meta_cni_kube::Index;
use serde_json::Value;

use super::definitions;
use super::watch::SeenMeta;

/// The annotation that names a pod's source: `api` or absent for all but static pods.
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// The annotations by which a pod selects networks.
const SELECTION: [&str; 2] = [NETWORKS, DEFAULT_NETWORK];
/// The annotations that are read in any case.
const READ: [&str; 5] = [NETWORKS, DEFAULT_NETWORK, NETWORK_STATUS, CONFIG_SOURCE, RESOURCE_NAME];
/// Those of the dialects that are on.
static OF_DIALECTS: OnceLock<Vec<&'static str>> = OnceLock::new();

/// Reads the annotations of these dialects too, from the start of the program on.
pub fn read_also(dialects: &Dialects) {
    let of_pods = dialects.on().flat_map(|dialect| dialect.reads().iter().copied());
    let of_definitions = dialects.knitter.iter().flat_map(|_| definitions::names::READ);
    let keys = of_pods.chain(of_definitions);
    // The first word counts: the list is the program's, not a caller's.
    let _ = OF_DIALECTS.set(keys.collect());
}

/// Is this annotation read? All others are skipped.
pub fn is_read(key: &str) -> bool {
    READ.contains(&key) || is_of_dialect(key)
}

fn is_of_dialect(key: &str) -> bool {
    OF_DIALECTS.get().is_some_and(|keys| keys.contains(&key))
}

/// Longest selection of a pod that is cached, in bytes. A longer one is read from the API server when it is needed.
const LONGEST: usize = 8 << 10;
/// The most bytes of all selections together.
const ALL: usize = 4 << 20;

/// The pods of this node.
#[derive(Debug, Default)]
pub struct PodCache {
    index: Index<PodName, Pod>,
    /// Bytes of all selections.
    kept: usize,
}

/// The cache as the parts of the agent share it.
#[derive(Clone, Debug, Default)]
pub struct SharedPodCache(Arc<Mutex<PodCache>>);

impl SharedPodCache {
    /// Locks the cache. The guard is never held across an await.
    pub fn lock(&self) -> MutexGuard<'_, PodCache> {
        // Every change is one insertion or removal, so a panic leaves the cache consistent.
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

/// What is cached of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: String,
    /// True for a mirror pod, the API server's copy of a static pod. Its uid is not that of the static pod.
    pub is_static: bool,
    /// The annotations that select networks; None when they are too long to be cached.
    pub selection: Option<Annotations>,
    /// The [`digest`] of its networks annotation.
    pub asked: String,
    /// The [`fingerprint`] of its `network-status`.
    pub status: Option<u64>,
}

impl Pod {
    /// The pod of an object's metadata, with its whole selection. None without a valid name.
    pub fn read(metadata: SeenMeta) -> Option<(PodName, Self)> {
        let name = PodName { namespace: metadata.namespace.parse().ok()?, name: metadata.name.parse().ok()? };
        let mut selection = metadata.annotations;
        let is_static = selection.get(CONFIG_SOURCE).is_some_and(|source| source != "api");
        let status = selection.get(NETWORK_STATUS).map(|text| fingerprint(text));
        let asked = digest(selection.get(NETWORKS).map(String::as_str));
        selection.retain(|key, _| SELECTION.contains(&key.as_str()) || is_of_dialect(key));
        Some((name, Self { uid: metadata.uid, is_static, selection: Some(selection), asked, status }))
    }

    /// Is this the pod that `pod` means? A pod that was recreated under the same name is another pod.
    pub fn is(&self, pod: &PodRef) -> bool {
        pod.uid.as_ref().is_none_or(|uid| *uid == self.uid) || self.is_static
    }

    fn weight(&self) -> usize {
        self.selection.iter().flatten().map(|(key, value)| key.len() + value.len()).sum()
    }
}

impl PodCache {
    /// A relist begins.
    pub fn begin(&mut self) {
        self.index.begin();
    }

    /// A pod of the list, or a new or changed pod.
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

    /// The list is complete: pods that it did not have are dropped.
    pub fn end(&mut self) {
        self.index.end();
        self.kept = self.index.iter().map(|(_, pod)| pod.weight()).sum();
    }

    /// Is a first list complete? Until then a pod that is not cached may exist.
    pub fn is_complete(&self) -> bool {
        self.index.is_complete()
    }

    /// One pod.
    pub fn get(&self, name: &PodName) -> Option<&Pod> {
        self.index.get(name)
    }

    /// The definitions that a pod names, if its selection is cached.
    pub fn named_by(&self, name: &PodName) -> Vec<NetRef> {
        let Ok(usual) = MULTUS_NAMESPACE.parse::<ObjectName>() else { return Vec::new() };
        let selection = self.get(name).and_then(|pod| pod.selection.as_ref()).filter(|selection| !selection.is_empty());
        selection.map(|selection| named_in(selection, &name.namespace, &usual)).into_iter().flatten().collect()
    }

    /// The pods that ask for networks and have no `network-status`, with their uids. A static pod is known by another uid than its sandbox,
    /// and is left out.
    pub fn unattached(&self) -> BTreeMap<PodName, String> {
        let asks = |name: &PodName, pod: &Pod| pod.selection.is_none() || !self.named_by(name).is_empty();
        let is_unattached = |name: &PodName, pod: &Pod| pod.status.is_none() && !pod.is_static && asks(name, pod);
        let found = self.index.iter().filter(|(name, pod)| is_unattached(name, pod));
        found.map(|(name, pod)| (name.clone(), pod.uid.clone())).collect()
    }

    /// The annotations by which all pods select networks, as far as they are cached.
    pub fn selections(&self) -> impl Iterator<Item = (&PodName, &Annotations)> {
        self.index.iter().filter_map(|(name, pod)| Some((name, pod.selection.as_ref()?)))
    }

    /// The definitions that all pods name.
    pub fn named(&self) -> impl Iterator<Item = NetRef> + '_ {
        self.index.iter().flat_map(|(name, _)| self.named_by(name))
    }
}

/// A hash of a `network-status`, equal for texts that differ in layout only.
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
        assert_eq!(pod.asked, digest(Some("x")));
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
    fn pods_that_ask_for_networks_and_have_no_status_are_unattached() {
        let mut pods = PodCache::default();
        let waiting = Pod { uid: "u".into(), ..wanting("lan") };
        pods.apply(named("a"), waiting.clone());
        pods.apply(named("attached"), Pod { status: Some(1), ..waiting.clone() });
        pods.apply(named("static"), Pod { is_static: true, ..waiting });
        pods.apply(named("plain"), wanting(" "));
        assert_eq!(pods.unattached(), [(named("a"), "u".to_owned())].into());
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
