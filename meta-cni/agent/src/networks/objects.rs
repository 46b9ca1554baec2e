//! Claims, members and blocks as they are stored: what an agent reads of them.

use std::fmt::Debug;

use attachments::api::{
    AddressBlock, AddressBlockSpec, AddressBlockStatus, AddressClaim, AddressClaimSpec, AddressClaimStatus,
    OverlayMember, OverlayMemberSpec, VniClaim, VniClaimSpec,
};
use kube::Resource;
use meta_cni_kube::Versioned;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A kind of ours that belongs to networks.
pub trait Kind: Sized {
    /// Its plural, as in paths.
    const PLURAL: &'static str;
    /// Its `spec`.
    type Spec: DeserializeOwned + Clone + Debug + PartialEq;
    /// Its `status`.
    type Status: DeserializeOwned + Clone + Debug + PartialEq + Default;

    /// Path of the collection.
    fn path() -> String;
    /// The network that an object's `spec` names.
    fn network(spec: &Self::Spec) -> String;
}

impl Kind for VniClaim {
    const PLURAL: &'static str = "vniclaims";
    type Spec = VniClaimSpec;
    type Status = Value;

    fn path() -> String {
        Self::url_path(&(), None)
    }

    fn network(spec: &VniClaimSpec) -> String {
        format!("{}-{}", spec.port, spec.vni)
    }
}

impl Kind for OverlayMember {
    const PLURAL: &'static str = "overlaymembers";
    type Spec = OverlayMemberSpec;
    type Status = Value;

    fn path() -> String {
        Self::url_path(&(), None)
    }

    fn network(spec: &OverlayMemberSpec) -> String {
        spec.network.clone()
    }
}

impl Kind for AddressBlock {
    const PLURAL: &'static str = "addressblocks";
    type Spec = AddressBlockSpec;
    type Status = AddressBlockStatus;

    fn path() -> String {
        Self::url_path(&(), None)
    }

    fn network(spec: &AddressBlockSpec) -> String {
        spec.network.clone()
    }
}

impl Kind for AddressClaim {
    const PLURAL: &'static str = "addressclaims";
    type Spec = AddressClaimSpec;
    type Status = AddressClaimStatus;

    fn path() -> String {
        Self::url_path(&(), None)
    }

    fn network(spec: &AddressClaimSpec) -> String {
        spec.network.clone()
    }
}

/// An object whose text is not looked at yet.
#[derive(Clone, Debug, Deserialize)]
pub struct Raw {
    /// `metadata`.
    pub metadata: Meta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Option<Value>,
}

impl Raw {
    /// `spec`, of whatever kind it is.
    pub fn spec(&self) -> &Value {
        &self.spec
    }
}

impl Versioned for Raw {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// What is read of `metadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Version.
    pub resource_version: String,
    /// Grows with every change of `spec`.
    pub generation: i64,
    /// RFC 3339, in UTC: the order of texts is the order of time.
    pub creation_timestamp: String,
    /// The objects without which this one goes.
    pub owner_references: Vec<OwnerReference>,
}

impl Meta {
    /// Does the object go with this node?
    pub fn is_owned_by(&self, node: &str) -> bool {
        self.owner_references.iter().any(|one| one.kind == "Node" && one.name == node)
    }
}

/// An object without which another one goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct OwnerReference {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

/// An object as it is stored.
#[derive(Debug, PartialEq)]
pub struct Stored<K: Kind> {
    /// Its metadata.
    pub meta: Meta,
    /// `spec`.
    pub spec: K::Spec,
    /// `status`; the default one where it has none.
    pub status: K::Status,
}

/// A claim.
pub type Claim = Stored<VniClaim>;
/// A member.
pub type Member = Stored<OverlayMember>;
/// A block.
pub type Block = Stored<AddressBlock>;
/// A claim of an address.
pub type Address = Stored<AddressClaim>;

impl<K: Kind> Stored<K> {
    /// Reads an object. An error says what is wrong with it.
    pub fn read(raw: Raw) -> Result<Self, String> {
        let spec: K::Spec = serde_json::from_value(raw.spec).map_err(|error| format!("spec: {error}"))?;
        let status = raw.status.map(serde_json::from_value::<K::Status>).and_then(Result::ok).unwrap_or_default();
        Ok(Self { meta: raw.metadata, spec, status })
    }

    /// The uid by which the object belongs to a node.
    pub fn owner(&self, node: &str) -> Option<&str> {
        self.meta.owner_references.iter().find(|one| one.kind == "Node" && one.name == node).map(|one| one.uid.as_str())
    }

    /// Its version as a number: versions grow (Kubernetes says so since 1.35). 0 where they are none.
    pub fn version(&self) -> u64 {
        number(&self.meta.resource_version)
    }
}

/// A version as a number. 0 where it is none.
pub fn number(version: &str) -> u64 {
    version.parse().unwrap_or_default()
}
