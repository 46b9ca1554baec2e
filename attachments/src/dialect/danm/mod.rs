//! DANM: the annotation `danm.k8s.io/interfaces` or `danm.io/interfaces`, and networks as objects.
//!
//! The objects are in two groups, that of DANM 4.3 and before and that of 4.4. What is said of one holds for the other.

pub mod reserved;
mod spec;
pub mod tenant;

use serde_json::Value;

use super::objects::Kind;
use crate::cni::object::Object;
use crate::finding::Finding;

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

/// Removes what DANM writes into the `spec` of a network: the addresses that are in use, and the last that it gave out.
pub fn remove_state(spec: &mut Value) {
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
