//! AddressBlock: the slots of a pool that nodes own.

use std::net::IpAddr;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `spec` of an AddressBlock. The object's name is `NETWORK.bFIRST`, so the API server has one at most: to create it is to own
/// the block. Nobody needs to ask anybody as long as there are blocks that nobody has; then owners give up parts of theirs.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "meta-cni.io",
    version = "v1alpha1",
    kind = "AddressBlock",
    plural = "addressblocks",
    shortname = "ablk",
    status = "AddressBlockStatus",
    doc = "Addresses of a network that a node gives to its pods without asking anybody.",
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.runs[0].node"),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.addresses[0]"),
    printcolumn(name = "Slots", type_ = "integer", json_path = ".spec.count"),
    printcolumn(name = "Free", type_ = "integer", json_path = ".status.free"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AddressBlockSpec {
    /// The network (the label `meta-cni.io/network`).
    #[schemars(length(min = 1, max = 63))]
    pub network: String,
    /// The first slot.
    pub first: u32,
    /// How many slots.
    #[schemars(range(min = 1, max = 4096))]
    pub count: u32,
    /// The addresses of the first slot, one of each range set: a node whose definition numbers addresses otherwise sees it here.
    #[schemars(length(min = 1, max = 8), inner(length(max = 45)), with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
    /// Who owns which slots of the block. Slots that stand in no run are nobody's.
    #[schemars(length(min = 1, max = 64))]
    pub runs: Vec<SlotRun>,
    /// Nodes that have no slot left and could get none elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub requests: Vec<SlotRequest>,
}

/// Consecutive slots of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotRun {
    /// The first slot.
    pub first: u32,
    /// How many.
    #[schemars(range(min = 1, max = 4096))]
    pub count: u32,
    /// Name of the node that owns them.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
}

/// A node that asks the owners of a block for slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotRequest {
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// How many it asks for.
    #[schemars(range(min = 1, max = 4096))]
    pub count: u32,
}

/// `status` of an AddressBlock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressBlockStatus {
    /// Slots that no pod had a while ago, as their owners said. For people, and for those who look for a block to ask.
    #[serde(default)]
    pub free: u32,
    /// The same for each owner, as it said itself. One that says nothing yet has all of its slots free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub nodes: Vec<NodeFree>,
}

/// How many slots of a block an owner has free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeFree {
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// Slots of its own that no pod had a while ago.
    pub free: u32,
}
