//! NetworkAttachmentDefinitions: what an administrator, or a tenant, offers to pods (NPWG 1.3, section 3).
//!
//! [`Definition`] is what binding needs and nothing else, so that the plugin carries no Kubernetes types.

use crate::names::NetRef;

/// Annotation of a definition that names the device plugin resource whose devices its attachments use (R9).
pub const RESOURCE_NAME: &str = "k8s.v1.cni.cncf.io/resourceName";

/// Annotation of a definition that names a label of the nodes on which its network is, as `key=value`.
pub const NODE_SELECTOR: &str = "k8s.v1.cni.cncf.io/nodeSelector";

/// Longest configuration of a definition, in bytes.
pub const LONGEST: usize = 64 << 10;

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

    /// The resource, unless it is empty.
    pub fn resource(&self) -> Option<&str> {
        self.resource_name.as_deref().filter(|name| !name.is_empty())
    }
}

#[cfg(feature = "api")]
pub use api::{NetworkAttachmentDefinition, NetworkAttachmentDefinitionRoot, NetworkAttachmentDefinitionSpec};

/// The API object with its schema; `deploy/crds` is generated from it.
#[cfg(feature = "api")]
mod api {
    use kube::{CustomResource, ResourceExt};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::{Definition, RESOURCE_NAME};
    use crate::finding::Finding;
    use crate::names::{NetRef, ObjectName};

    /// What stands at the top of the object beside its metadata. `spec` is optional in the specification (R2), which the
    /// derive only allows here: an object `nad` has it at `nad.spec.spec`.
    #[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
    #[kube(
        group = "k8s.cni.cncf.io",
        version = "v1",
        kind = "NetworkAttachmentDefinition",
        plural = "network-attachment-definitions",
        singular = "network-attachment-definition",
        shortname = "net-attach-def",
        shortname = "nad",
        namespaced,
        no_spec,
        doc = "A network that pods can be attached to, beside or instead of the cluster's default network (Network Plumbing Working Group, multi-network specification)."
    )]
    pub struct NetworkAttachmentDefinitionRoot {
        /// What attachments to this network are made of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub spec: Option<NetworkAttachmentDefinitionSpec>,
    }

    /// `spec` of a NetworkAttachmentDefinition.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
    pub struct NetworkAttachmentDefinitionSpec {
        /// A CNI plugin configuration, or a list of them under `plugins`, as JSON text. Without `name` the network has
        /// this object's name. When the text is empty, the node's configuration file with this object's name is used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub config: Option<String>,
    }

    impl TryFrom<&NetworkAttachmentDefinition> for Definition {
        type Error = Finding;

        fn try_from(object: &NetworkAttachmentDefinition) -> Result<Self, Finding> {
            let name = |key: &str, text: Option<&String>| {
                let text = text.ok_or_else(|| Finding::missing(key, ObjectName::ALLOWED))?;
                text.parse().map_err(|e: Finding| e.under(key))
            };
            let reference = NetRef {
                namespace: name("metadata.namespace", object.metadata.namespace.as_ref())?,
                name: name("metadata.name", object.metadata.name.as_ref())?,
            };
            Ok(Self {
                reference,
                config: object.spec.spec.as_ref().and_then(|spec| spec.config.clone()),
                resource_name: object.annotations().get(RESOURCE_NAME).cloned(),
            })
        }
    }
}
