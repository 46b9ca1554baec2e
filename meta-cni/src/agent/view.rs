//! What the agent knows of the cluster: a value that watches feed and questions read. No I/O, no clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attachments::definition::{Definition, NetworkAttachmentDefinition};
use attachments::names::{NetRef, ObjectName, PodRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;

use crate::cluster::Annotations;
use crate::cluster::wire::Outcome;

/// An annotation that repeats the whole object, and that nobody asks for.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Where the kubelet has a pod from; `api`, or nothing, for all but static pods.
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";

/// Everything that is known.
#[derive(Debug, Default)]
pub struct View {
    /// The pods of this node.
    pub pods: Index<PodName, Pod>,
    /// The definitions of the cluster; one that cannot be read is an error of its own.
    pub definitions: Index<NetRef, Outcome>,
}

/// A view that several parts of the agent share.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<View>>);

impl Shared {
    /// The view, for a moment: never held across an await.
    pub fn lock(&self) -> MutexGuard<'_, View> {
        // Every change is one insertion or removal: a panic elsewhere leaves a whole view.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text of a definition.
    pub fn config_of(&self, namespace: &str, name: &str) -> Option<String> {
        let reference = NetRef { namespace: namespace.parse().ok()?, name: name.parse().ok()? };
        match self.lock().definitions.get(&reference)? {
            Outcome::Found { config, .. } => config.clone(),
            _ => None,
        }
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
    /// `metadata.annotations`.
    pub annotations: Annotations,
}

impl Pod {
    /// The pod of an object's metadata. Nothing without a proper name.
    pub fn read(metadata: ObjectMeta) -> Option<(PodName, Self)> {
        let name = PodName { namespace: metadata.namespace?.parse().ok()?, name: metadata.name?.parse().ok()? };
        let mut annotations = metadata.annotations.unwrap_or_default();
        annotations.remove(LAST_APPLIED);
        Some((name, Self { uid: metadata.uid.unwrap_or_default(), annotations }))
    }

    /// Is it the API server's copy of a pod that the kubelet has from a file? It has another uid than the pod itself.
    pub fn is_static(&self) -> bool {
        self.annotations.get(CONFIG_SOURCE).is_some_and(|source| source != "api")
    }

    /// Is it the pod that is meant? One of the same name that was made anew is another pod.
    pub fn is(&self, pod: &PodRef) -> bool {
        pod.uid.as_ref().is_none_or(|uid| *uid == self.uid) || self.is_static()
    }
}

/// What a watched object says of its definition, and which it is. Nothing without a proper name.
pub fn definition(object: &DeserializeGuard<NetworkAttachmentDefinition>) -> Option<(NetRef, Outcome)> {
    let read = |metadata: &ObjectMeta| {
        let part = |text: &Option<String>| text.as_deref()?.parse().ok();
        Some(NetRef { namespace: part(&metadata.namespace)?, name: part(&metadata.name)? })
    };
    match &object.0 {
        Ok(object) => {
            let definition = Definition::try_from(object).ok()?;
            Some((definition.reference.clone(), Outcome::found(&definition)))
        }
        Err(invalid) => Some((read(&invalid.metadata)?, Outcome::Broken { reason: invalid.error.clone() })),
    }
}

/// A set of objects that a watch keeps. A list that comes anew is taken in beside what is known, so that no question goes
/// unanswered meanwhile; what the list did not hold goes at its end.
#[derive(Debug)]
pub struct Index<K, V> {
    entries: BTreeMap<K, (u32, V)>,
    list: u32,
    complete: bool,
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), list: 0, complete: false }
    }
}

impl<K: Ord, V> Index<K, V> {
    /// A list begins.
    pub fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// An object of the list, or one that is new or changed.
    pub fn apply(&mut self, key: K, value: V) {
        self.entries.insert(key, (self.list, value));
    }

    /// An object is gone.
    pub fn delete(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// The list is at its end: it held everything.
    pub fn end(&mut self) {
        let list = self.list;
        self.entries.retain(|_, (of, _)| *of == list);
        self.complete = true;
    }

    /// Has a whole list come? Until then what is not here may exist all the same.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// One object.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(object: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(object).unwrap()
    }

    fn known(index: &Index<&'static str, u8>) -> Vec<(&'static str, u8)> {
        index.entries.iter().map(|(key, (_, value))| (*key, *value)).collect()
    }

    #[test]
    fn a_list_replaces_what_it_does_not_hold_and_only_at_its_end() {
        let mut index = Index::default();
        index.apply("early", 0);
        assert!(!index.is_complete());
        index.begin();
        index.apply("a", 1);
        index.apply("b", 2);
        index.end();
        assert!(index.is_complete());
        assert_eq!(known(&index), [("a", 1), ("b", 2)]);

        index.apply("c", 3);
        index.delete(&"a");
        assert_eq!(known(&index), [("b", 2), ("c", 3)]);

        index.begin();
        index.apply("b", 4);
        assert_eq!(index.get(&"c"), Some(&3), "served until the list is whole");
        index.end();
        assert_eq!(known(&index), [("b", 4)]);
    }

    #[test]
    fn a_list_that_is_broken_off_and_begun_again_leaves_nothing_stale() {
        let mut index = Index::default();
        for keys in [vec!["a", "b"], vec!["a"]] {
            index.begin();
            keys.into_iter().for_each(|key| index.apply(key, 1));
        }
        index.begin();
        index.apply("c", 1);
        index.end();
        assert_eq!(known(&index), [("c", 1)]);
    }

    #[test]
    fn only_uid_and_annotations_are_kept_of_a_pod() {
        let (name, pod) = Pod::read(metadata(json!({
            "namespace": "n", "name": "p", "uid": "u", "labels": {"a": "b"},
            "annotations": {"k8s.v1.cni.cncf.io/networks": "x", LAST_APPLIED: "{}"},
        })))
        .unwrap();
        assert_eq!((name.namespace.as_str(), name.name.as_str(), pod.uid.as_str()), ("n", "p", "u"));
        assert_eq!(pod.annotations.keys().collect::<Vec<_>>(), ["k8s.v1.cni.cncf.io/networks"]);
        assert_eq!(Pod::read(metadata(json!({"name": "p"}))), None);
    }

    #[test]
    fn another_uid_is_another_pod_unless_it_is_static() {
        let asked = |uid: Option<&str>| PodRef {
            namespace: "n".parse().unwrap(),
            name: "p".parse().unwrap(),
            uid: uid.map(str::to_owned),
        };
        let pod = |source: Option<&str>| Pod {
            uid: "u1".into(),
            annotations: source.map(|source| (CONFIG_SOURCE.to_owned(), source.to_owned())).into_iter().collect(),
        };
        for (source, uid, same) in [
            (None, Some("u1"), true),
            (None, None, true),
            (None, Some("u2"), false),
            (Some("api"), Some("u2"), false),
            (Some("file"), Some("u2"), true),
        ] {
            assert_eq!(pod(source).is(&asked(uid)), same, "{source:?} {uid:?}");
        }
    }

    #[test]
    fn an_object_that_does_not_parse_is_an_error_of_its_own() {
        let read = |spec: serde_json::Value| {
            let object = json!({
                "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                "metadata": {"namespace": "n", "name": "a", "annotations": {"k8s.v1.cni.cncf.io/resourceName": "r"}},
                "spec": spec,
            });
            definition(&serde_json::from_value(object).unwrap()).unwrap().1
        };
        let found = Outcome::Found { config: Some("{}".into()), resource_name: Some("r".into()) };
        assert_eq!(read(json!({"config": "{}"})), found);
        assert!(matches!(read(json!({"config": 7})), Outcome::Broken { reason } if reason.contains('7')));
    }
}
