//! The reports of `meta-cni verify` and `meta-cni repair`, which the plugin prints and the agent reads.

use attachments::names::{ContainerId, IfName, PodRef};
use serde::{Deserialize, Serialize};

/// What differs from the records of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Number of sandboxes that were compared.
    pub compared: usize,
    /// The sandboxes of which nothing is said: a call is at work on them, they may be dead, or something is in the `faults`.
    #[serde(default, rename = "passedOver", skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<ContainerId>,
    /// The sandboxes that are not as recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differing: Vec<Differing>,
    /// Why something could not be compared, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// A sandbox that is not as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// CNI_CONTAINERID.
    #[serde(rename = "containerID")]
    pub container: ContainerId,
    /// The interface of its default network.
    pub ifname: IfName,
    /// The pod, where the record says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// The first difference of each attachment that has one.
    pub differences: Vec<Difference>,
}

/// The difference between an attachment and its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its interface.
    pub ifname: IfName,
    /// The pod's default network.
    #[serde(default)]
    pub is_default: bool,
    /// A sentence with network, interface and difference.
    pub text: String,
    /// Why a repair leaves it as it is; absent where one can make it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
}

/// What a repair did. Both lists are empty when the sandbox was as recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairReport {
    /// What is as recorded again, one sentence each.
    pub repaired: Vec<String>,
    /// What is not, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}
