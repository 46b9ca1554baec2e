//! What a node keeps from the definitions of tenants, whatever they ask for.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The node's own, and what its administrator has opened. Empty lists reserve, and open, nothing by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Addresses of the Node object (its InternalIPs) and of the API server: the links that lead to them are the node's.
    pub node_addresses: Vec<IpAddr>,
    /// `sharedLinks`: names, in which `*` stands for any characters, of links with global addresses that may be lent.
    pub shared_links: Vec<String>,
    /// `shareDefaultBridge`: definitions may attach to the bridge of the default network.
    pub share_default_bridge: bool,
    /// Bridges that the configuration of the default network names.
    pub default_bridges: Vec<String>,
    /// `reservedPorts`: host ports that no further network gets.
    pub ports: Vec<RangeInclusive<u16>>,
}

impl Reserved {
    /// For calls that ask the node for nothing: DEL, CHECK, GC.
    pub const UNASKED: &'static Self = &Self {
        node_addresses: Vec::new(),
        shared_links: Vec::new(),
        share_default_bridge: false,
        default_bridges: Vec::new(),
        ports: Vec::new(),
    };
}
