//! From what was asked for to attachments with every choice made. Pure: nothing is touched, everything is validated.
//!
//! The engine makes an [`Ask`], looks up the [`Ask::references`], and hands what it found to [`bind`].

mod attachment;

use std::collections::{BTreeMap, BTreeSet};

use crate::cni::conf::NetworkConf;
use crate::cni::object::Object;
use crate::definition::Definition;
use crate::finding::Finding;
use crate::names::{ContainerId, DeviceId, IfName, NetRef, NetworkName, ObjectName, PodRef};
use crate::selection::Wanted;

pub use attachment::{Attachment, Device, Hoped, Source};

/// The node's rules, from its configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `namespaceIsolation`: a pod may only refer to its own and to global namespaces.
    pub namespace_isolation: bool,
    /// `globalNamespaces`, trimmed; the default is `default`.
    pub global_namespaces: Vec<String>,
    /// `multusNamespace`: home of the definitions that the node's configuration names.
    pub multus_namespace: ObjectName,
    /// `systemNamespaces`: their pods get no `defaultNetworks`.
    pub system_namespaces: Vec<String>,
    /// `strict`: a capability that nobody declares is an error, not a warning (A2).
    pub strict: bool,
    /// `pathRoots`: absolute directories below which a definition's paths must lie.
    pub path_roots: Vec<String>,
}

/// A network that the node's configuration names.
#[derive(Clone, Debug)]
pub enum Network {
    /// The configuration itself: an inline delegate, or the file of a `clusterNetwork` that is a path.
    Conf(NetworkConf),
    /// A definition of `multusNamespace`, or else a file of `confDir` with this network name.
    Named(NetworkName),
}

/// Everything about one pod's attachments that is known before anything is looked up.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The pod.
    pub pod: &'a PodRef,
    /// CNI_CONTAINERID.
    pub container: &'a ContainerId,
    /// CNI_IFNAME: the interface of the default network.
    pub ifname: &'a IfName,
    /// CNI_ARGS as it came, in pairs.
    pub args: &'a [(String, String)],
    /// `runtimeConfig` as it came: for the default network only (R35).
    pub runtime_config: Option<&'a Object>,
    /// `delegates`, or `clusterNetwork` alone. The first is the default network. At least one.
    pub delegates: &'a [Network],
    /// `defaultNetworks`.
    pub default_networks: &'a [Network],
    /// The pod's own default network, in place of the first delegate.
    pub default_override: Option<&'a Wanted>,
    /// The pod's networks.
    pub wanted: &'a [Wanted],
    /// The chain of `auxiliaryCNIChainName`, attached last.
    pub auxiliary: Option<&'a NetworkConf>,
    /// The node's rules.
    pub rules: &'a Rules,
}

/// What the lookups gave.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The definitions that exist among [`Ask::references`].
    pub definitions: &'a BTreeMap<NetRef, Definition>,
    /// The configurations in `confDir`, in file-name order; needed when [`Ask::needs_files`] says so.
    pub files: &'a [ConfFile],
    /// The devices allocated to the pod, by resource name.
    pub devices: &'a BTreeMap<String, Vec<DeviceId>>,
}

/// A file of `confDir`.
#[derive(Clone, Debug)]
pub struct ConfFile {
    /// File name without directory.
    pub name: String,
    /// What it holds. Plugins of its sibling directory are appended already (C6).
    pub conf: Result<NetworkConf, Finding>,
}

/// The attachments of a pod, default network first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bound {
    /// In the order of ADD.
    pub attachments: Vec<Attachment>,
    /// Paths of definitions that lie below a root as text; the engine must hold that against the symbolic links of the
    /// node before any delegate runs.
    pub paths: Vec<TenantPath>,
    /// What went unheard but is no error, one sentence each.
    pub warnings: Vec<String>,
}

/// A path that a definition's configuration holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPath {
    /// The path as written: absolute, without `..`.
    pub path: String,
    /// Where it was found, for a [`Finding`].
    pub field: String,
}

/// Why a pod's networks cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// A definition does not exist (yet).
    #[error("cannot find a network-attachment-definition ({}) in namespace ({})", .0.name, .0.namespace)]
    NoDefinition(NetRef),
    /// Neither a definition nor a file of the node has this name.
    #[error(
        "cannot find network {name:?}: no network-attachment-definition in namespace {namespace} and no configuration file has this name{broken}"
    )]
    NoNetwork {
        /// The name that was looked for.
        name: String,
        /// Where definitions were looked for.
        namespace: ObjectName,
        /// Files that could not be read, as the end of the sentence; empty when there is none.
        broken: String,
    },
    /// A definition without a configuration, and no file of the node has its name (R6).
    #[error("network-attachment-definition {reference}: spec.config is empty, and no configuration file is named {:?}{broken}", .reference.name.as_str())]
    NoConfiguration {
        /// The definition.
        reference: NetRef,
        /// Files that could not be read, as the end of the sentence; empty when there is none.
        broken: String,
    },
    /// The pod may not refer to that namespace.
    #[error(
        "namespace isolation enabled, annotation violates permission, pod is in namespace {pod} but refers to target namespace {target}"
    )]
    Isolated {
        /// Namespace of the pod.
        pod: ObjectName,
        /// Namespace that it refers to.
        target: ObjectName,
    },
    /// A value is wrong; nothing was touched.
    #[error("{0}")]
    Invalid(#[from] Finding),
}

impl Ask<'_> {
    /// The definitions that must be looked up. Isolation is checked first: what a pod may not name is not asked for.
    pub fn references(&self) -> Result<BTreeSet<NetRef>, BindError> {
        Ok(BTreeSet::new())
    }

    /// True when some network has no configuration but a file of `confDir`.
    pub fn needs_files(&self, definitions: &BTreeMap<NetRef, Definition>) -> bool {
        let _ = definitions;
        false
    }
}

/// Makes every choice: names, configurations, arguments, devices. Fails before anything could be touched.
pub fn bind(ask: &Ask<'_>, found: &Found<'_>) -> Result<Bound, BindError> {
    let _ = found;
    ask.references()?;
    Ok(Bound::default())
}
