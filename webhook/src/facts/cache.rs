//! The caches by name.

use attachments::api::{AttachmentLevel, AttachmentPolicy, VniClaim};
use attachments::definition::NetworkAttachmentDefinition;
use attachments::dialect::Dialects;
use attachments::dialect::objects::Kind;
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
    /// The objects of a dialect that is on.
    Foreign(Kind),
}

impl Cache {
    /// Every cache that is always followed.
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

    /// Every cache that is followed with these dialects on.
    pub fn with(dialects: &Dialects) -> Vec<Self> {
        let kinds = dialects.on().flat_map(|dialect| dialect.kinds()).map(|kind| Self::Foreign(*kind));
        Self::ALL.into_iter().chain(kinds).collect()
    }

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
            Self::Foreign(kind) => kind.plural(),
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
            Self::Foreign(kind) => format!("/apis/{}/{}", kind.api_version(), kind.plural()),
        }
    }

    /// The part of a collection of definitions, pods or objects of a dialect that is in one namespace.
    pub fn path_in(self, namespace: &str) -> String {
        match self {
            Self::Definitions => NetworkAttachmentDefinition::url_path(&(), Some(namespace)),
            Self::Pods => Pod::url_path(&(), Some(namespace)),
            Self::Foreign(kind) => format!("/apis/{}/namespaces/{namespace}/{}", kind.api_version(), kind.plural()),
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
