//! Plugins that call other plugins, as we do.
//!
//! A tenant's text that named one would choose what it calls, where, and with which files: such a plugin takes its own
//! configuration for the node's. This is the one list of them.

/// Our own programs. One of them as a delegate would call itself.
pub const OURS: [&str; 4] = ["meta-cni", "meta-cnid", "meta-cnictl", "meta-cni-webhook"];

/// Those of the field: Multus, thin and thick, CNI-Genie, DANM, Knitter.
pub const OTHERS: [&str; 7] = ["multus", "multus-shim", "multus-daemon", "genie", "danm", "knitter", "knitter-plugin"];

/// Is this plugin type one of them?
pub fn is_meta(kind: &str) -> bool {
    is_ours(kind) || OTHERS.contains(&kind)
}

/// Is this plugin type one of our own programs?
pub fn is_ours(kind: &str) -> bool {
    OURS.contains(&kind)
}
