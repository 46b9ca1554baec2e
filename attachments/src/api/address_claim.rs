//! AddressClaim: one address of a network that was asked for, and is kept.

use std::fmt;
use std::net::IpAddr;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `spec` of an AddressClaim. The object's name is `NETWORK.aSLOT`, so the API server has one at most: to create it is to be the one
/// who gets the slot, whoever owns its block.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "meta-cni.io",
    version = "v1alpha1",
    kind = "AddressClaim",
    plural = "addressclaims",
    shortname = "aclm",
    status = "AddressClaimStatus",
    doc = "An address of a network that a pod asked for, or that is kept for an IPAMClaim or an AddressSet.",
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.addresses[0]"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.holder.kind"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.holder.namespace"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".spec.holder.name"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.pod.name", priority = 1),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodes[0]"),
    printcolumn(name = "HeldBy", type_ = "string", json_path = ".status.heldBy", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AddressClaimSpec {
    /// The network (the label `meta-cni.io/network`).
    #[schemars(length(min = 1, max = 63))]
    pub network: String,
    /// The slot.
    pub slot: u32,
    /// Its addresses, one of each range set.
    #[schemars(length(min = 1, max = 8), inner(length(max = 45)), with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
    /// For whom it is.
    pub holder: ClaimHolder,
    /// The nodes on which a pod of the holder is or is about to be. A node that is among them and does not own the slot wants it.
    /// The claim of a Pod without any is of one that another program attached: it is kept until the pod is gone.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub nodes: Vec<String>,
    /// Of a member of an AddressSet: the pod that has it on the one node of `nodes`, or that had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ClaimHolder>,
}

/// For whom an address is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ClaimHolder {
    /// `Pod`, `IPAMClaim` or `AddressSet`.
    pub kind: HolderKind,
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its uid: what is made anew under the name is another one. Empty where the runtime does not say a pod's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// What an address is kept for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum HolderKind {
    /// A pod that asked for the address.
    #[default]
    Pod,
    /// An IPAMClaim of the Network Plumbing Working Group.
    #[serde(rename = "IPAMClaim")]
    IpamClaim,
    /// An AddressSet, whose pods take it in turn.
    AddressSet,
}

impl ClaimHolder {
    /// The same one? A uid that is not known is any.
    pub fn is(&self, other: &Self) -> bool {
        let alike = |one: &str, other: &str| one.is_empty() || other.is_empty() || one == other;
        (self.kind, &self.namespace, &self.name) == (other.kind, &other.namespace, &other.name)
            && alike(&self.uid, &other.uid)
    }
}

impl fmt::Display for ClaimHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, .. } = self;
        match kind {
            HolderKind::Pod => write!(f, "pod {namespace}/{name}"),
            HolderKind::IpamClaim => write!(f, "IPAMClaim {namespace}/{name}"),
            HolderKind::AddressSet => write!(f, "AddressSet {namespace}/{name}"),
        }
    }
}

/// `status` of an AddressClaim: the word of the node that owns the slot, where a pod there has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressClaimStatus {
    /// The node that says so.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub node: String,
    /// Who has the slot there.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub held_by: String,
}
