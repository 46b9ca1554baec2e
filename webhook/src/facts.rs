//! What is known of the cluster while a review is answered: caches that watches feed. No review waits for the API server.

use std::sync::{PoisonError, RwLock};

use attachments::definition::NetworkAttachmentDefinition;
use kube::{Client, Resource};
use meta_cni_kube::{Collection, Event, Index, Versioned, follow};
use serde::Deserialize;

/// The caches. Empty ones are what a review without a cluster has.
#[derive(Debug, Default)]
pub struct Facts {
    /// The definitions of the whole cluster.
    pub definitions: Definitions,
}

/// Definitions by namespace and name.
#[derive(Debug, Default)]
pub struct Definitions {
    index: RwLock<Index<(String, String), Known>>,
}

/// What is kept of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its uid.
    pub uid: String,
    /// Its version.
    pub version: String,
}

impl Definitions {
    /// Is every definition of the cluster known?
    pub fn is_complete(&self) -> bool {
        self.index.read().unwrap_or_else(PoisonError::into_inner).is_complete()
    }

    /// One definition.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Known> {
        let key = (namespace.to_owned(), name.to_owned());
        self.index.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.index.read().unwrap_or_else(PoisonError::into_inner).iter().count()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn heard(&self, event: Event<Seen>) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Begin => index.begin(),
            Event::End => index.end(),
            Event::Listed(Seen { metadata }) | Event::Applied(Seen { metadata }) => {
                let known = Known { uid: metadata.uid, version: metadata.resource_version };
                index.apply((metadata.namespace, metadata.name), known);
            }
            Event::Deleted(Seen { metadata }) => {
                index.delete(&(metadata.namespace, metadata.name));
            }
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Seen {
    metadata: SeenMeta,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SeenMeta {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
}

impl Versioned for Seen {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// Feeds the cache of definitions; never ends.
pub async fn definitions(client: Client, facts: &Facts) {
    let path = NetworkAttachmentDefinition::url_path(&(), None);
    let collection = Collection { what: "network-attachment-definitions", path: &path, fields: None };
    follow(client, collection, |event| facts.definitions.heard(event)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_known_once_the_list_is_whole_and_as_long_as_they_exist() {
        let definitions = Definitions::default();
        let seen = |version: &str| {
            let text = format!(
                r#"{{"metadata":{{"namespace":"n","name":"a","uid":"u","resourceVersion":"{version}","labels":{{"x":"y"}}}}}}"#
            );
            serde_json::from_str::<Seen>(&text).unwrap()
        };
        definitions.heard(Event::Begin);
        definitions.heard(Event::Listed(seen("1")));
        assert!(!definitions.is_complete());
        definitions.heard(Event::End);
        definitions.heard(Event::Applied(seen("2")));
        assert!(definitions.is_complete() && definitions.len() == 1);
        assert_eq!(definitions.get("n", "a"), Some(Known { uid: "u".to_owned(), version: "2".to_owned() }));
        definitions.heard(Event::Deleted(seen("3")));
        assert!(definitions.is_empty());
    }
}
