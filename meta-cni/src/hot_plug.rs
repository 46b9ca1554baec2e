//! The report of `meta-cni hotplug`, which the plugin prints and the agent reads.

use serde::{Deserialize, Serialize};

/// What a hot-plug has changed. Both lists are empty when the pod had what its annotation lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotPlugReport {
    /// What was attached, one sentence each.
    #[serde(default)]
    pub added: Vec<String>,
    /// What was detached, one sentence each.
    #[serde(default)]
    pub removed: Vec<String>,
}
