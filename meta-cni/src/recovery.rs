//! What `meta-cni replay` did: its answer on stdout, and what the agent reads of it.

use attachments::names::{ContainerId, IfName, NetworkName};
use serde::{Deserialize, Serialize};

/// The answer. A record that is well and whose sandbox lives is only counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// Unfinished undos that are complete now.
    pub resumed: Vec<RecordSummary>,
    /// Records of dead sandboxes, undone whole.
    pub released: Vec<RecordSummary>,
    /// What needs another look: an undo that is not complete, or a sandbox of which nothing is certain.
    pub left: Vec<RecordSummary>,
    /// Settled records of living sandboxes.
    pub living: usize,
    /// Things on the node that no record explains; at most [`RecoveryReport::SHOWN`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<String>,
    /// What could not be looked at.
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
    /// How it is known that the sandbox is dead, or why nothing was done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// An undo has begun and is not complete.
    #[serde(default)]
    pub pending: bool,
}

impl RecoveryReport {
    /// The most strangers that are listed.
    pub const SHOWN: usize = 20;
}
