//! OverlayMember: a node that is in an overlay.

use std::net::IpAddr;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::Mac;

/// `spec` of an OverlayMember. The object is there while the node has attachments to the overlay, and goes with the Node.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "meta-cni.io",
    version = "v1alpha1",
    kind = "OverlayMember",
    plural = "overlaymembers",
    shortname = "ovm",
    doc = "A node that is in an overlay: where its tunnel ends, and the pods there that address blocks do not explain.",
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node"),
    printcolumn(name = "VTEP", type_ = "string", json_path = ".spec.vteps[0]"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct OverlayMemberSpec {
    /// The overlay, as `PORT-VNI`.
    #[schemars(length(min = 1, max = 63))]
    pub network: String,
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// Addresses of the node at which tunnels end, one of a family.
    #[schemars(length(min = 1, max = 2), inner(length(max = 45)), with = "Vec<String>")]
    pub vteps: Vec<IpAddr>,
    /// MAC address of the node's vxlan device.
    #[schemars(length(max = 17), with = "String")]
    pub mac: Mac,
    /// MTU that the node's underlay has room for.
    #[schemars(range(min = 68, max = 65_535))]
    pub mtu: u32,
    /// Pods of the node whose addresses do not follow from its blocks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub endpoints: Vec<MemberEndpoint>,
}

/// A pod that address blocks do not explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberEndpoint {
    /// MAC address of its link.
    #[schemars(length(max = 17), with = "String")]
    pub mac: Mac,
    /// Its addresses; none on a network without addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 45)), with = "Vec<String>")]
    pub ips: Vec<IpAddr>,
}
