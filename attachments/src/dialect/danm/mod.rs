//! DANM: the annotation `danm.k8s.io/interfaces` or `danm.io/interfaces`, and networks as objects.
//!
//! The objects are in two groups, that of DANM 4.3 and before and that of 4.4. What is said of one holds for the other.

mod asked;
mod interfaces;
pub mod judge;
pub mod limits;
pub mod links;
pub mod network;
pub mod reserved;
mod settle;
mod spec;
pub mod tenant;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::Value;

use super::objects::{ForeignRef, Kind};
use super::{Dialect, PodList};
use crate::cni::object::Object;
use crate::finding::Finding;
use crate::names::ObjectName;
use crate::selection::RequestedRoute;

pub use network::Network;
pub use spec::{NetworkSpec, Options, Pool};

/// The annotation that lists a pod's interfaces: that of DANM 4.3 and before, and that of 4.4.
pub const INTERFACES: [&str; 2] = ["danm.k8s.io/interfaces", "danm.io/interfaces"];

/// The groups of DANM's objects with their version, the older first.
pub const API_VERSIONS: [&str; 2] = ["danm.k8s.io/v1", "danm.io/v1"];

/// The kinds of its objects.
pub const KINDS: [Kind; 6] =
    [Kind::DanmNet, Kind::TenantNetwork, Kind::ClusterNetwork, Kind::TenantConfig, Kind::DanmEp, Kind::ReservedIP];

/// The kinds that are networks, in the order in which the network `default` is looked for.
pub const NETWORKS: [Kind; 3] = [Kind::DanmNet, Kind::TenantNetwork, Kind::ClusterNetwork];

/// The kinds that say what pods may have of those networks.
pub const LIMITS: [Kind; 2] = [Kind::TenantConfig, Kind::ReservedIP];

/// The settings of a node, by their key in its configuration.
pub const SETTINGS: &str = "danm";

/// Settings of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Danm {
    /// `namingScheme: "legacy"`: `container_prefix` is the whole name of an interface.
    pub is_legacy: bool,
}

impl Danm {
    /// Reads `danm` of a node's configuration.
    pub fn read(conf: &Object) -> Result<Self, Finding> {
        let Some(object) = conf.object(SETTINGS)? else { return Ok(Self::default()) };
        let scheme = object.text("namingScheme").map_err(|finding| finding.under(SETTINGS))?;
        match scheme.as_deref().unwrap_or_default() {
            "" => Ok(Self::default()),
            "legacy" => Ok(Self { is_legacy: true }),
            other => Err(Finding::new(format!("{SETTINGS}.namingScheme"), format_args!("{other:?}"), "\"legacy\"")),
        }
    }
}

impl Danm {
    /// A pod's list; of a pod without one the default networks that its namespace may have. [`Danm::settle`] completes it, once the
    /// networks are known.
    pub fn read_pod<'a>(
        &self,
        annotation: impl Fn(&str) -> Option<&'a str>,
        namespace: &ObjectName,
    ) -> Result<Option<PodList>, Finding> {
        let list = |key| PodList {
            dialect: Dialect::Danm,
            key,
            is_nodes_own: false,
            elements: Vec::new(),
            places: Vec::new(),
            warnings: Vec::new(),
            is_open: false,
            candidates: Vec::new(),
        };
        if let Some((key, text)) = interfaces::annotation(annotation)? {
            let elements = interfaces::read(text, namespace).map_err(|finding| finding.under(key))?;
            if let Some(elements) = elements {
                let places = (0..elements.len()).map(|place| format!("[{place}]")).collect();
                return Ok(Some(PodList { elements, places, ..list(key) }));
            }
        }
        Ok(Some(PodList { candidates: interfaces::defaults(namespace)?, ..list(DEFAULT) }))
    }
}

/// What stands in the place of an annotation in messages about a pod that has none.
pub const DEFAULT: &str = "network default of the namespace";

/// The object of the same name in DANM's other mode. A cluster has networks of one mode: where both have a name, nobody knows which is meant.
pub fn twin(reference: &ForeignRef) -> Option<ForeignRef> {
    let kind = match reference.kind {
        Kind::DanmNet => Kind::TenantNetwork,
        Kind::TenantNetwork => Kind::DanmNet,
        _ => return None,
    };
    Some(ForeignRef { kind, ..reference.clone() })
}

/// Gateways by destination as routes, in the order of the destinations' text.
fn routes(listed: &BTreeMap<String, String>, ipv4: bool) -> Result<Vec<RequestedRoute>, Finding> {
    let family = if ipv4 { "IPv4" } else { "IPv6" };
    let each = |(dst, gw): (&String, &String)| {
        // The default route of IPv6 is often written so.
        let text = if dst == "::0/0" { "::/0" } else { dst };
        let net = text.parse::<IpNet>().ok().filter(|net| net.addr().is_ipv4() == ipv4);
        let net = net.ok_or_else(|| Finding::new("", format_args!("{dst:?}"), format!("a destination of {family}")))?;
        let router = gw.parse::<IpAddr>().ok().filter(|gw| gw.is_ipv4() == ipv4 && !gw.is_unspecified());
        let router = router.ok_or_else(|| {
            Finding::new(format!("[{dst:?}]"), format_args!("{gw:?}"), format!("the {family} address of a router"))
        })?;
        Ok(RequestedRoute { dst: net.trunc(), gw: Some(router), table: None })
    };
    listed.iter().map(each).collect()
}

/// The first and the last address that pods get of a subnet where no others are told.
fn usual_pool(net: IpNet) -> (IpAddr, IpAddr) {
    let (first, last) = (net.network(), net.broadcast());
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) if net.prefix_len() < 31 => {
            let up = Ipv4Addr::from_bits(first.to_bits().saturating_add(1));
            (up.into(), Ipv4Addr::from_bits(last.to_bits().saturating_sub(1)).into())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if net.prefix_len() < 127 => {
            let up = Ipv6Addr::from_bits(first.to_bits().saturating_add(1));
            (up.into(), Ipv6Addr::from_bits(last.to_bits().saturating_sub(1)).into())
        }
        ends => ends,
    }
}

/// Removes what DANM writes: into the `spec` of a network the addresses that are in use, and the last that it gave out; into a TenantConfig
/// the identifiers that are. With it goes what a ReservedIP is for, in words of any length.
pub fn remove_state(spec: &mut Value) {
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("description");
    }
    for device in spec.get_mut("hostDevices").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(device) = device.as_object_mut() {
            device.remove("alloc");
        }
    }
    let Some(options) = spec.get_mut("Options").and_then(Value::as_object_mut) else { return };
    for key in STATE {
        options.remove(key);
    }
    for key in ["allocation_pool", "allocation_pool_v6"] {
        if let Some(pool) = options.get_mut(key).and_then(Value::as_object_mut) {
            pool.remove("lastIp");
        }
    }
}

/// The keys of `Options` that DANM writes.
pub const STATE: [&str; 2] = ["alloc", "alloc6"];
