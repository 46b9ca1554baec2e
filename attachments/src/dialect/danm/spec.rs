//! `spec` of DANM's networks: as much of it as says something, as it is written. [`super::judge`] says what is wrong with it.

use std::collections::BTreeMap;

use crate::cni::object::Object;
use crate::finding::Finding;

/// `spec` of a DanmNet, a TenantNetwork or a ClusterNetwork. An empty text is the same as none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// `NetworkID`: names the file of a type that is not built in, and the links of the nodes.
    pub network_id: Option<String>,
    /// `NetworkType`: `ipvlan` where it is absent.
    pub network_type: Option<String>,
    /// `AllowedTenants` of a ClusterNetwork: the namespaces whose pods may use it; empty means all.
    pub allowed_tenants: Vec<String>,
    /// `Options`.
    pub options: Options,
}

/// `spec.Options`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `host_device`: the link of the nodes below the network's.
    pub host_device: Option<String>,
    /// `device_pool`: the resource whose devices pods use.
    pub device_pool: Option<String>,
    /// `vlan`: this VLAN of `host_device`.
    pub vlan: Option<i64>,
    /// `vxlan`: this VXLAN network.
    pub vxlan: Option<i64>,
    /// `container_prefix`: the beginning of the interface's name in a pod.
    pub prefix: Option<String>,
    /// `cidr`: the IPv4 subnet.
    pub cidr: Option<String>,
    /// `routes`: gateways by destination.
    pub routes: BTreeMap<String, String>,
    /// `allocation_pool`.
    pub pool: Option<Pool>,
    /// `net6`: the IPv6 subnet.
    pub net6: Option<String>,
    /// `routes6`: gateways by destination.
    pub routes6: BTreeMap<String, String>,
    /// `allocation_pool_v6`.
    pub pool6: Option<Pool>,
    /// `rt_tables`: the table of the routes that pods ask for; 0 is none.
    pub table: Option<i64>,
    /// `mtu`, of DANM 4.4.
    pub mtu: Option<i64>,
    /// `alloc` or `alloc6` is there: DANM's state, which is not read.
    pub has_state: bool,
}

/// The addresses that pods get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// `cidr`, for IPv6 alone: the part of the subnet.
    pub cidr: Option<String>,
    /// `start`: the first.
    pub start: Option<String>,
    /// `end`: the last.
    pub end: Option<String>,
}

const INTEGER: &str = "an integer";
const ROUTES: &str = "an object: gateways by destination";

impl NetworkSpec {
    /// Reads a `spec`. Keys that DANM does not know are passed over.
    pub fn read(spec: &Object) -> Result<Self, Finding> {
        let options = spec.object("Options")?.unwrap_or_default();
        Ok(Self {
            network_id: text(spec, "NetworkID")?,
            network_type: text(spec, "NetworkType")?,
            allowed_tenants: spec.decode("AllowedTenants", "a list of namespaces")?.unwrap_or_default(),
            options: Options::read(&options).map_err(|finding| finding.under("Options"))?,
        })
    }
}

impl Options {
    fn read(object: &Object) -> Result<Self, Finding> {
        let integer = |key| object.decode::<i64>(key, INTEGER);
        let routes = |key| Ok::<_, Finding>(object.decode(key, ROUTES)?.unwrap_or_default());
        Ok(Self {
            host_device: text(object, "host_device")?,
            device_pool: text(object, "device_pool")?,
            vlan: integer("vlan")?,
            vxlan: integer("vxlan")?,
            prefix: text(object, "container_prefix")?,
            cidr: text(object, "cidr")?,
            routes: routes("routes")?,
            pool: Pool::read(object, "allocation_pool")?,
            net6: text(object, "net6")?,
            routes6: routes("routes6")?,
            pool6: Pool::read(object, "allocation_pool_v6")?,
            table: integer("rt_tables")?,
            mtu: integer("mtu")?,
            has_state: text(object, "alloc")?.is_some() || text(object, "alloc6")?.is_some(),
        })
    }
}

impl Pool {
    /// A pool; absent where it says nothing.
    fn read(object: &Object, key: &str) -> Result<Option<Self>, Finding> {
        let Some(pool) = object.object(key)? else { return Ok(None) };
        let text = |name| text(&pool, name).map_err(|finding| finding.under(key));
        let read = Self { cidr: text("cidr")?, start: text("start")?, end: text("end")? };
        Ok(Some(read).filter(|pool| *pool != Self::default()))
    }
}

fn text(object: &Object, key: &str) -> Result<Option<String>, Finding> {
    Ok(object.text(key)?.filter(|text| !text.is_empty()))
}
