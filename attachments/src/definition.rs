//! NetworkAttachmentDefinitions: what an administrator, or a tenant, offers to pods (NPWG 1.3, section 3).
//!
//! [`Definition`] is what binding needs and nothing else, so that the plugin carries no Kubernetes types.

use crate::names::NetRef;

/// Annotation of a definition that names the device plugin resource whose devices its attachments use (R9).
pub const RESOURCE_NAME: &str = "k8s.v1.cni.cncf.io/resourceName";

/// A definition as far as an attachment depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Namespace and name.
    pub reference: NetRef,
    /// `spec.config`: the text of a CNI configuration or list; without it a file of the node is looked up by name (R6).
    pub config: Option<String>,
    /// The annotation [`RESOURCE_NAME`].
    pub resource_name: Option<String>,
}

impl Definition {
    /// The configuration, unless it is blank.
    pub fn inline(&self) -> Option<&str> {
        self.config.as_deref().filter(|text| !text.trim().is_empty())
    }
}
