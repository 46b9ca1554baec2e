//! An object as the caches read it: of what it says, only what some cache keeps. One shape for every kind.

use std::collections::BTreeMap;
use std::fmt;

use attachments::dialect::danm::tenant;
use attachments::dialect::objects::Kind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use meta_cni_kube::Versioned;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::cluster::Labels;

/// The object's own text, which kubectl keeps beside it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Object {
    /// `metadata`.
    #[serde(default)]
    pub metadata: Meta,
    /// `spec`, which a metadata watch does not bring.
    #[serde(default)]
    pub spec: Value,
    /// `status`.
    #[serde(default)]
    pub status: Option<Status>,
    /// `hostDevices`: a TenantConfig of DANM has no spec.
    #[serde(default, rename = "hostDevices")]
    pub host_devices: Value,
    /// `networkIds`, likewise.
    #[serde(default, rename = "networkIds")]
    pub network_ids: Value,
    /// `allowedClusterNetworks`, likewise.
    #[serde(default, rename = "allowedClusterNetworks")]
    pub allowed_cluster_networks: Value,
}

impl Object {
    /// What an object of a dialect says.
    pub fn says(&self, kind: Kind) -> String {
        if kind != Kind::TenantConfig {
            return self.spec.to_string();
        }
        let Self { host_devices, network_ids, allowed_cluster_networks, .. } = self;
        tenant::says([host_devices, network_ids, allowed_cluster_networks].map(Value::clone)).to_string()
    }
}

/// As much of a status as is read: a node's addresses, and how many nodes are in the overlay of a claim.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Status {
    /// `addresses`.
    #[serde(default)]
    pub addresses: Value,
    /// `members`.
    #[serde(default)]
    pub members: Value,
}

/// `metadata`, without fields of which some grow with every writer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Namespace; empty for what has none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Version.
    pub resource_version: String,
    /// Counts the versions of `spec`.
    pub generation: Option<i64>,
    /// When it was made.
    pub creation_timestamp: Option<Time>,
    /// When it is to go.
    pub deletion_timestamp: Option<Time>,
    /// Labels.
    #[serde(deserialize_with = "entries")]
    pub labels: Labels,
    /// Annotations, without kubectl's copy of the object.
    #[serde(deserialize_with = "entries")]
    pub annotations: Labels,
    /// To whom it belongs.
    pub owner_references: Option<Vec<Owner>>,
}

/// An owner.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// Its uid.
    pub uid: String,
    /// It controls the object.
    pub controller: Option<bool>,
}

impl Versioned for Object {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Meta {
    /// The same as the rules' [`crate::cluster::View`] takes it.
    pub fn to_object_meta(&self) -> ObjectMeta {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let owner = |owner: &Owner| OwnerReference {
            uid: owner.uid.clone(),
            controller: owner.controller,
            ..OwnerReference::default()
        };
        ObjectMeta {
            namespace: some(&self.namespace),
            name: some(&self.name),
            uid: some(&self.uid),
            creation_timestamp: self.creation_timestamp.clone(),
            deletion_timestamp: self.deletion_timestamp.clone(),
            labels: Some(self.labels.clone()),
            annotations: Some(self.annotations.clone()),
            owner_references: self.owner_references.as_ref().map(|owners| owners.iter().map(owner).collect()),
            ..ObjectMeta::default()
        }
    }
}

/// Reads a map of texts; of `null`, an empty one.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Labels;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of texts")
        }

        fn visit_unit<E>(self) -> Result<Labels, E> {
            Ok(Labels::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
            let mut kept = BTreeMap::new();
            while let Some(key) = map.next_key::<String>()? {
                if key == LAST_APPLIED {
                    map.next_value::<IgnoredAny>()?;
                } else {
                    kept.insert(key, map.next_value()?);
                }
            }
            Ok(kept)
        }
    }
    deserializer.deserialize_any(Entries)
}
