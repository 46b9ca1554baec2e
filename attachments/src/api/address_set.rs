//! AddressSet: addresses of a network that pods take in turn.

use std::net::IpAddr;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The most members of a set.
pub const MOST_MEMBERS: u32 = 32;

/// `spec` of an AddressSet. Each member is an `AddressClaim` whose holder is the set.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "meta-cni.io",
    version = "v1alpha1",
    kind = "AddressSet",
    plural = "addresssets",
    shortname = "aset",
    namespaced,
    doc = "Addresses of a network, with their MAC addresses, that pods take in turn and keep over re-creation.",
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".spec.size"),
    printcolumn(name = "Addresses", type_ = "string", json_path = ".spec.addresses"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("has(self.addresses) != has(self.size)").message("exactly one of addresses and size is allowed"))]
#[serde(rename_all = "camelCase")]
pub struct AddressSetSpec {
    /// The NetworkAttachmentDefinition: its name in the set's namespace, or NAMESPACE/NAME.
    #[schemars(length(min = 1, max = 317))]
    pub network: String,
    /// The members by an address of each, in the order in which they are taken. An address brings the others of its slot along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(max = 45)), with = "Option<Vec<String>>")]
    pub addresses: Option<Vec<IpAddr>>,
    /// So many members, whichever addresses they have: they are drawn when they are first taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub size: Option<u32>,
}
