//! One plugin of a document, as its rules see it.

use super::document::Node;

/// One plugin's configuration in a document.
pub struct Plugin<'a> {
    /// Path of the configuration.
    pub at: String,
    /// `type`.
    pub kind: &'a str,
    /// The configuration.
    pub node: &'a Node,
}

impl<'a> Plugin<'a> {
    /// `ipam.type`.
    pub fn ipam_kind(&self) -> &'a str {
        self.node.at("ipam.type").and_then(Node::text).unwrap_or_default()
    }
}
