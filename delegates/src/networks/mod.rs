//! Networks that span nodes: what the node agent and the plugin tell one another about them.
//!
//! The agent claims, joins and watches; the plugin allocates and attaches. Between them is one directory for each network:
//!
//! ```text
//! networks/4789-4200/network.json   the agent's: its membership, the other members, who has which slots   ([`state`])
//! networks/4789-4200/leases         the plugin's: which attachment holds which slot of the node's blocks  (`ipam::blocks`)
//! networks/4789-4200/wanted         the plugin's: a pod waits for a slot; the agent takes the file away   (`ipam::blocks`)
//! networks/4789-4200/endpoints/   the plugin's: pods here that no slot explains                     ([`endpoints`])
//! networks/4789-4200/ports        the agent's: the ports of this node's pods, once their bridge is gone (`overlay::ports`)
//! networks/4789-4200/programmed   of whoever programmed the entries last: from which state              (`overlay::kept`)
//! ```
//!
//! Any number of plugin processes and one agent agree through these files, so an ADD on a network that the node is in needs
//! neither the agent nor the API server. [`needs`] reads what a definition asks for.

pub mod endpoints;
mod id;
mod need;
pub mod state;

pub use self::id::NetworkId;
pub(crate) use self::need::network_of;
pub use self::need::{Need, OverlayNeed, needs, needs_of, spans_nodes};

/// Directory of the networks below `stateDir`.
pub const DIR: &str = "networks";

/// The networks that have a directory below `stateDir`, by name.
pub fn known(state_dir: &std::path::Path) -> Vec<NetworkId> {
    let entries = std::fs::read_dir(state_dir.join(DIR)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names.iter().map(|name| NetworkId::of_dir(name)).collect()
}
