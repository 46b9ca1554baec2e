//! What a node keeps from the definitions of tenants, whatever they ask for.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The node's own, and what its administrator has opened. Empty lists reserve, and open, nothing by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// InternalIPs of the Node object: the links that have them are the node's.
    pub node_addresses: Vec<IpAddr>,
    /// Addresses of the API server: the links that lead to them are the node's.
    pub api_servers: Vec<IpAddr>,
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
        api_servers: Vec::new(),
        shared_links: Vec::new(),
        share_default_bridge: false,
        default_bridges: Vec::new(),
        ports: Vec::new(),
    };

    /// Does `sharedLinks` name the link?
    pub fn shares(&self, link: &str) -> bool {
        self.shared_links.iter().any(|pattern| matches(pattern, link))
    }
}

/// Does a text match a pattern, in which `*` stands for any characters?
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    // The leftmost place of each part leaves the most for those behind it.
    for part in parts {
        match text.split_once(part) {
            Some((_, behind)) => text = behind,
            None => return false,
        }
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_does() {
        for (pattern, text, matched) in [
            ("eth1", "eth1", true),
            ("eth1", "eth10", false),
            ("eth?", "eth1", false),
            ("*", "", true),
            ("eth*", "eth", true),
            ("eth*", "beth0", false),
            ("*.100", "eth0.100", true),
            ("*.100", "eth0.1000", false),
            ("ens*f*v*", "ens1f0v12", true),
            ("ens*f*v*", "ens1v0f12", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("a*b*b", "ab", false),
            ("", "eth0", false),
        ] {
            assert_eq!(matches(pattern, text), matched, "{pattern} {text}");
        }
    }
}
