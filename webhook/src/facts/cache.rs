//! The caches by name.

use std::borrow::Cow;

use attachments::api::{AttachmentLevel, AttachmentPolicy, VniClaim};
use attachments::definition::NetworkAttachmentDefinition;
use attachments::dialect::Dialects;
use attachments::dialect::objects::{Kind, group_of};
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
    /// The objects of a dialect that is on, in one of its groups: group and version.
    Foreign(Kind, &'static str),
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

    /// Every cache that is followed with these dialects on: of these what networks are made of, and what limits pods.
    pub fn with(dialects: &Dialects) -> Vec<Self> {
        let networks = dialects.on().flat_map(|dialect| dialect.networks().iter().copied());
        let limits = dialects.on().flat_map(|dialect| dialect.limits().iter().copied());
        let kinds = networks.chain(limits);
        let foreign =
            kinds.flat_map(|kind| kind.api_versions().iter().map(move |version| Self::Foreign(kind, version)));
        Self::ALL.into_iter().chain(foreign).collect()
    }

    /// Its name in the log and in metrics: the API's.
    pub fn name(self) -> Cow<'static, str> {
        let name = match self {
            Self::Definitions => "network-attachment-definitions",
            Self::Pods => "pods",
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::ServiceCidrs => "servicecidrs",
            Self::Policies => "attachmentpolicies",
            Self::Levels => "attachmentlevels",
            Self::Claims => "vniclaims",
            Self::Foreign(kind, version) => {
                return Cow::from(format!("{}.{}", kind.plural(), group_of(version)));
            }
        };
        Cow::from(name)
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
            Self::Foreign(kind, version) => format!("/apis/{version}/{}", kind.plural()),
        }
    }

    /// The part of a collection of definitions, pods or objects of a dialect that is in one namespace.
    pub fn path_in(self, namespace: &str) -> String {
        match self {
            Self::Definitions => NetworkAttachmentDefinition::url_path(&(), Some(namespace)),
            Self::Pods => Pod::url_path(&(), Some(namespace)),
            Self::Foreign(kind, version) if kind.is_namespaced() => {
                format!("/apis/{version}/namespaces/{namespace}/{}", kind.plural())
            }
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
