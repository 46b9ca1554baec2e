//! Watches of single objects: what is told of them is that they changed.

use kube::Client;
use meta_cni_kube::{Collection, Event, Versioned, follow};
use serde::Deserialize;

/// Path of a collection, and the name of the one object in it.
pub struct Path {
    /// The collection.
    pub collection: String,
    /// The object.
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Seen {
    metadata: SeenMeta,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SeenMeta {
    #[serde(default)]
    resource_version: String,
}

impl Versioned for Seen {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// Calls `changed` whenever the object may be another; never ends.
pub async fn follow_named(client: &Client, path: &Path, changed: impl Fn()) {
    let fields = format!("metadata.name={}", path.name);
    // Rights are by name: a list of everything is refused.
    let collection = Collection { what: &path.name, path: &path.collection, fields: Some(&fields), labels: None };
    follow(client.clone(), collection, |event: Event<Seen>| match event {
        Event::Begin | Event::Listed(_) => {}
        Event::End | Event::Applied(_) | Event::Deleted(_) => changed(),
    })
    .await;
}
