//! The report of `meta-cni replay`, which the plugin prints and the agent reads.

use attachments::names::{ContainerId, IfName, NetworkName};
use serde::{Deserialize, Serialize};

/// The report. Settled records of live sandboxes are only counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// Undos that were unfinished and are complete now.
    pub resumed: Vec<RecordSummary>,
    /// Records of dead sandboxes, undone completely.
    pub released: Vec<RecordSummary>,
    /// Records that are left: an undo that is not complete, or a sandbox that may be alive.
    pub left: Vec<RecordSummary>,
    /// Number of settled records of live sandboxes.
    pub living: usize,
    /// Leftovers of unknown containers, which stay; at most [`RecoveryReport::SHOWN`].
    #[serde(default, rename = "strangers", skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// Failures of the search for leftovers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSummary {
    /// The node network.
    pub network: NetworkName,
    /// The sandbox.
    #[serde(rename = "containerID")]
    pub container: ContainerId,
    /// The interface of its default network.
    pub ifname: IfName,
    /// `namespace/name`, where the record says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Why the sandbox counts as dead, or why the record is left.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// An undo has begun and is not complete.
    #[serde(default)]
    pub pending: bool,
}

impl RecoveryReport {
    /// The most leftovers that are listed.
    pub const SHOWN: usize = 20;
}
