//! The watches: this node's pods, and the definitions of the whole cluster. Both are metadata watches, and little of the
//! metadata is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;

use attachments::definition::NetworkAttachmentDefinition;
use attachments::names::NetRef;
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::{Client, Resource};
use meta_cni::cluster::Annotations;
use meta_cni_kube::{Collection, Event, Shape, Versioned, follow_heard};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::definitions::Definitions;
use super::pod_cache::{Pod, PodName, SharedPodCache};

/// An object's metadata. Only the annotations that the agent uses are read: an object may have 256 KiB of others, such as
/// its own text in `last-applied-configuration`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Seen {
    /// `metadata`.
    pub metadata: SeenMeta,
}

/// See [`Seen`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenMeta {
    /// Namespace.
    #[serde(default)]
    pub namespace: String,
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Uid.
    #[serde(default)]
    pub uid: String,
    /// Version.
    #[serde(default)]
    pub resource_version: String,
    /// The annotations that [`super::pod_cache::is_read`].
    #[serde(default, deserialize_with = "known_annotations")]
    pub annotations: Annotations,
}

impl Seen {
    /// Namespace and name, of what has both.
    pub fn reference(&self) -> Option<NetRef> {
        let SeenMeta { namespace, name, .. } = &self.metadata;
        Some(NetRef { namespace: namespace.parse().ok()?, name: name.parse().ok()? })
    }
}

impl Versioned for Seen {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// Reads the entries of a map whose keys [`super::pod_cache::is_read`], and skips all others.
pub fn known_annotations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Annotations, D::Error> {
    struct KnownAnnotations;
    impl<'de> Visitor<'de> for KnownAnnotations {
        type Value = Annotations;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("annotations")
        }

        fn visit_unit<E>(self) -> Result<Annotations, E> {
            Ok(Annotations::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
            let mut kept = BTreeMap::new();
            while let Some(key) = map.next_key::<String>()? {
                if super::pod_cache::is_read(&key) {
                    kept.insert(key, map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(kept)
        }
    }
    deserializer.deserialize_any(KnownAnnotations)
}

/// Feeds the cache of a node's pods; never ends. `seen` is called for each pod that appears or changes, `gone` for each that is deleted.
pub async fn pods(
    client: Client,
    node: &str,
    pods: SharedPodCache,
    is_heard: &AtomicBool,
    mut seen: impl FnMut(&PodName),
    gone: impl Fn(&PodName),
) {
    let fields = format!("spec.nodeName={node}");
    let path = PodObject::url_path(&(), None);
    let collection = Collection { what: "pods", path: &path, fields: Some(&fields), labels: None };
    let take = |event: Event<Seen>| match event {
        Event::Begin => pods.lock().begin(),
        Event::End => pods.lock().end(),
        Event::Listed(object) | Event::Applied(object) => {
            if let Some((name, pod)) = Pod::read(object.metadata) {
                pods.lock().apply(name.clone(), pod);
                seen(&name);
            }
        }
        Event::Deleted(object) => {
            if let Some((name, _)) = Pod::read(object.metadata) {
                pods.lock().delete(&name);
                gone(&name);
            }
        }
    };
    follow_heard(client, collection, Shape::Metadata, is_heard, take).await;
}

/// Feeds the changes of the cluster's definitions; never ends.
pub async fn definitions(client: Client, definitions: &Definitions, is_heard: &AtomicBool) {
    let path = NetworkAttachmentDefinition::url_path(&(), None);
    let collection = Collection { what: "network-attachment-definitions", path: &path, fields: None, labels: None };
    follow_heard(client, collection, Shape::Metadata, is_heard, |event| definitions.heard(event)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_metadata_next_to_nothing_is_kept() {
        let text = r#"{"kind":"PartialObjectMetadata","metadata":{"namespace":"n","name":"p","uid":"u","resourceVersion":"7",
            "labels":{"a":"b"},"managedFields":[{"f:x":{}}],
            "annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}","k8s.v1.cni.cncf.io/networks":"lan"}}}"#;
        let seen: Seen = serde_json::from_str(text).unwrap();
        assert_eq!(seen.version(), "7");
        assert_eq!(seen.metadata.annotations.into_keys().collect::<Vec<_>>(), ["k8s.v1.cni.cncf.io/networks"]);
        let bare: Seen = serde_json::from_str(r#"{"metadata":{"name":"p","annotations":null}}"#).unwrap();
        assert!(bare.metadata.annotations.is_empty() && bare.metadata.namespace.is_empty());
    }
}
