//! VniClaim: which definition owns a VNI on a UDP port.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::spec::PolicyCondition;

/// `spec` of a VniClaim. The object's name is `PORT-VNI`, so the API server has one at most: to create it is to own the pair.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "meta-cni.io",
    version = "v1alpha1",
    kind = "VniClaim",
    plural = "vniclaims",
    shortname = "vni",
    status = "VniClaimStatus",
    doc = "The definition that owns a VXLAN network identifier on a UDP port. The kernel has one overlay for the two together.",
    printcolumn(name = "VNI", type_ = "integer", json_path = ".spec.vni"),
    printcolumn(name = "Port", type_ = "integer", json_path = ".spec.port"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.owner.namespace"),
    printcolumn(name = "Definition", type_ = "string", json_path = ".spec.owner.name"),
    printcolumn(name = "MTU", type_ = "integer", json_path = ".spec.mtu"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct VniClaimSpec {
    /// Network identifier.
    #[schemars(range(min = 1, max = 16_777_215))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a claim is for one pair for ever"))]
    pub vni: u32,
    /// UDP port.
    #[schemars(range(min = 1, max = 65_535))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a claim is for one pair for ever"))]
    pub port: u16,
    /// The definition that owns the pair.
    pub owner: ClaimOwner,
    /// MTU of the overlay, pinned by the first node that joins: the same on each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 68, max = 65_535))]
    pub mtu: Option<u32>,
}

/// The definition that owns a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimOwner {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its uid: a definition that is made anew under the name is another one. Empty while the definition has none yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// `status` of a VniClaim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VniClaimStatus {
    /// Nodes that are in the overlay.
    #[serde(default)]
    pub members: u32,
    /// Addresses of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<u64>,
    /// Addresses of the pool that nodes hold blocks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<u64>,
    /// What is so, and what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<PolicyCondition>,
}
