//! The caches by name.

use attachments::api::{AttachmentLevel, AttachmentPolicy, VniClaim};
use attachments::definition::NetworkAttachmentDefinition;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Resource;
use meta_cni_kube::Shape;

/// What is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cache {
    /// NetworkAttachmentDefinitions.
    Definitions,
    /// Pods that are not over, by their metadata.
    Pods,
    /// Namespaces, by their metadata.
    Namespaces,
    /// Nodes, for the networks of pods and nodes.
    Nodes,
    /// ServiceCIDRs, from Kubernetes 1.33 on.
    ServiceCidrs,
    /// AttachmentPolicies.
    Policies,
    /// AttachmentLevels.
    Levels,
    /// VniClaims: who owns which VNI.
    Claims,
}

impl Cache {
    /// Every cache.
    pub const ALL: [Self; 8] = [
        Self::Definitions,
        Self::Pods,
        Self::Namespaces,
        Self::Nodes,
        Self::ServiceCidrs,
        Self::Policies,
        Self::Levels,
        Self::Claims,
    ];

    /// Its name in the log and in metrics: the API's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Definitions => "network-attachment-definitions",
            Self::Pods => "pods",
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::ServiceCidrs => "servicecidrs",
            Self::Policies => "attachmentpolicies",
            Self::Levels => "attachmentlevels",
            Self::Claims => "vniclaims",
        }
    }

    /// The collection in the API.
    pub fn path(self) -> String {
        match self {
            Self::Definitions => NetworkAttachmentDefinition::url_path(&(), None),
            Self::Pods => Pod::url_path(&(), None),
            Self::Namespaces => Namespace::url_path(&(), None),
            Self::Nodes => Node::url_path(&(), None),
            Self::ServiceCidrs => ServiceCIDR::url_path(&(), None),
            Self::Policies => AttachmentPolicy::url_path(&(), None),
            Self::Levels => AttachmentLevel::url_path(&(), None),
            Self::Claims => VniClaim::url_path(&(), None),
        }
    }

    /// The part of a collection of definitions or pods that is in one namespace.
    pub fn path_in(self, namespace: &str) -> String {
        match self {
            Self::Definitions => NetworkAttachmentDefinition::url_path(&(), Some(namespace)),
            Self::Pods => Pod::url_path(&(), Some(namespace)),
            other => other.path(),
        }
    }

    /// The field selector.
    pub fn fields(self) -> Option<&'static str> {
        (self == Self::Pods).then_some("status.phase!=Succeeded,status.phase!=Failed")
    }

    /// What is asked for of each object.
    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Pods | Self::Namespaces => Shape::Metadata,
            _ => Shape::Whole,
        }
    }
}
