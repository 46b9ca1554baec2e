//! A network as an object: what it is, and the configuration that it stands for.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::spec::{NetworkSpec, Pool};
use crate::cni::conf::{NetworkConf, PluginConf};
use crate::cni::object::Object;
use crate::dialect::files::{Named, NodeFiles};
use crate::dialect::objects::{ForeignRef, NoConfiguration, Objects};
use crate::finding::Finding;
use crate::names::{ConfName, IfName, ObjectName};
use crate::selection::{AddressMode, AddressRequest, RequestedRoute};

/// UDP port of DANM's VXLAN links.
const PORT: u16 = 4789;
/// MTU of a macvlan whose network has none, as in DANM 4.3.
const MACVLAN_MTU: i64 = 1500;
/// The number of addresses of a pool of IPv6 where none is told: the first of the subnet.
const POOL6_PREFIX: u8 = 106;

/// How the interfaces of a network are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Built in.
    Ipvlan,
    /// Built in.
    Macvlan,
    /// The program `sriov`, with a device of `device_pool`.
    Sriov,
    /// A plugin with a file of the node, both named.
    File(ConfName, ConfName),
}

/// The addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The subnet.
    pub net: IpNet,
    /// The first and the last address that pods get; absent: all.
    pub pool: Option<(IpAddr, IpAddr)>,
    /// `routes` and `routes6`.
    pub routes: Vec<RequestedRoute>,
}

/// A network, read from its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// `NetworkType`.
    pub kind: Type,
    /// `NetworkID`.
    pub id: String,
    /// `AllowedTenants`.
    pub allowed_tenants: Vec<String>,
    /// `container_prefix`.
    pub prefix: Option<String>,
    /// `host_device`.
    pub host_device: Option<IfName>,
    /// `device_pool`.
    pub device_pool: Option<String>,
    /// `vlan`.
    pub vlan: Option<i64>,
    /// `vxlan`.
    pub vxlan: Option<i64>,
    /// `mtu`.
    pub mtu: Option<i64>,
    /// `rt_tables`; absent where it is 0.
    pub table: Option<u32>,
    /// IPv4, IPv6.
    pub subnets: [Option<Subnet>; 2],
    /// Addresses that an attachment does not get, beside those of gateways; none as it is read.
    pub kept: Vec<IpAddr>,
}

impl Network {
    /// Reads the object of a network. A finding's path begins with the object.
    pub fn of(reference: &ForeignRef, objects: &Objects) -> Result<Self, NoConfiguration> {
        let spec = objects.get(reference).ok_or_else(|| NoConfiguration::Missing(reference.clone()))?;
        let at = |finding: Finding| finding.under(&format!("{reference}: spec"));
        let unread = |e| at(Finding::new("", format_args!("invalid JSON ({e})"), "an object"));
        let object = Object::parse(spec.as_bytes()).map_err(unread)?;
        Ok(NetworkSpec::read(&object).and_then(|spec| Self::read(&spec)).map_err(at)?)
    }

    /// What a `spec` says, or the first thing that is wrong with it.
    pub fn read(spec: &NetworkSpec) -> Result<Self, Finding> {
        let wrong = super::judge::values(spec);
        if let Some(finding) = wrong.into_iter().next() {
            return Err(finding);
        }
        let options = &spec.options;
        let id = spec.network_id.clone().unwrap_or_default();
        let named = |text: &str, at: &str| text.parse::<ConfName>().map_err(|finding| finding.under(at));
        let kind = match spec.network_type.as_deref().unwrap_or("ipvlan").to_ascii_lowercase().as_str() {
            "ipvlan" => Type::Ipvlan,
            "macvlan" => Type::Macvlan,
            "sriov" => Type::Sriov,
            _ => {
                let plugin = spec.network_type.as_deref().unwrap_or_default();
                Type::File(named(plugin, "NetworkType")?, named(&id, "NetworkID")?)
            }
        };
        let at = |finding: Finding| finding.under("Options");
        let device = options.host_device.as_deref().map(str::parse::<IfName>).transpose();
        let network = Self {
            kind,
            id,
            allowed_tenants: spec.allowed_tenants.clone(),
            prefix: options.prefix.clone(),
            host_device: device.map_err(|finding| at(finding.under("host_device")))?,
            device_pool: options.device_pool.clone(),
            vlan: options.vlan,
            vxlan: options.vxlan,
            mtu: options.mtu,
            table: options.table.and_then(|table| u32::try_from(table).ok()).filter(|table| *table != 0),
            subnets: [
                subnet(options.cidr.as_deref(), options.pool.as_ref(), &options.routes, true).map_err(at)?,
                subnet(options.net6.as_deref(), options.pool6.as_ref(), &options.routes6, false).map_err(at)?,
            ],
            kept: Vec::new(),
        };
        match network.kind {
            Type::Ipvlan | Type::Macvlan if network.host_device.is_none() => {
                Err(Finding::missing("Options.host_device", "a link of the nodes"))
            }
            Type::Sriov if network.vxlan.is_some() => {
                Err(Finding::new("Options.vxlan", "a VXLAN of sriov", "vlan, or another NetworkType"))
            }
            _ => Ok(network),
        }
    }

    /// The subnet of a family.
    pub fn subnet(&self, ipv4: bool) -> Option<&Subnet> {
        self.subnets[usize::from(!ipv4)].as_ref()
    }

    /// Is it one of the addresses that pods get which ask for any?
    pub fn is_in_pool(&self, ip: IpAddr) -> bool {
        let subnet = self.subnet(ip.is_ipv4()).filter(|subnet| subnet.net.contains(&ip));
        subnet.is_some_and(|subnet| subnet.pool.is_none_or(|(first, last)| (first..=last).contains(&ip)))
    }

    /// Does the network itself give the addresses that an interface asks for? A plugin with a file keeps the file's own `ipam` where
    /// nothing is asked for, or the network has no subnet.
    pub fn gives(&self, request: AddressRequest) -> bool {
        match &self.kind {
            Type::Ipvlan | Type::Macvlan | Type::Sriov => true,
            // It has a subnet for each node, and no other place for addresses.
            Type::File(plugin, _) if plugin.as_str() == "flannel" => false,
            Type::File(..) => {
                let asks = [request.ipv4, request.ipv6]
                    .iter()
                    .any(|mode| matches!(mode, Some(AddressMode::Dynamic | AddressMode::Static)));
                asks && self.subnets.iter().any(Option::is_some)
            }
        }
    }

    /// The `ipam` that gives its addresses; nothing for a network of layer 2.
    fn ipam(&self) -> Option<Value> {
        let subnets: Vec<&Subnet> = self.subnets.iter().flatten().collect();
        if subnets.is_empty() {
            return None;
        }
        let range = |subnet: &&Subnet| {
            let mut range = json!({"subnet": subnet.net});
            if let Some((start, end)) = subnet.pool {
                range["rangeStart"] = json!(start);
                range["rangeEnd"] = json!(end);
            }
            json!([range])
        };
        let ranges: Vec<Value> = subnets.iter().map(range).collect();
        let mut ipam = json!({"type": "blocks", "ranges": ranges});
        let gateways = subnets.iter().flat_map(|subnet| &subnet.routes).filter_map(|route| route.gw);
        let mut excluded: Vec<IpAddr> = gateways.chain(self.kept.iter().copied()).collect();
        excluded.sort_unstable();
        excluded.dedup();
        if !excluded.is_empty() {
            ipam["exclude"] = json!(excluded);
        }
        Some(ipam)
    }

    /// The configuration as far as other nodes have a part in it.
    pub fn spanning(&self, name: &str) -> Option<String> {
        match &self.kind {
            Type::File(plugin, _) => {
                let ipam = self.ipam()?;
                Some(json!({"cniVersion": "1.0.0", "name": name, "type": plugin.as_str(), "ipam": ipam}).to_string())
            }
            _ => {
                let conf = self.built_in(name)?.ok()?;
                let plugin = conf.plugins.first()?;
                let mut object = plugin.object.clone();
                object.set("cniVersion", &"1.0.0");
                object.set("name", &name);
                Some(object.to_json())
            }
        }
    }

    /// The configuration of a network that needs no file of the node.
    pub fn built_in(&self, name: &str) -> Option<Result<NetworkConf, Finding>> {
        let device = self.host_device.as_ref().map(IfName::as_str);
        let mut conf = match (&self.kind, self.vxlan) {
            (Type::File(..), _) => return None,
            (Type::Sriov, _) => json!({"type": "sriov"}),
            (_, Some(vni)) => json!({"type": "vxlan", "vni": vni, "port": PORT, "underlay": device}),
            (Type::Ipvlan, None) => json!({"type": "ipvlan", "mode": "l2", "master": device}),
            (Type::Macvlan, None) => json!({"type": "macvlan", "mode": "bridge", "master": device}),
        };
        match (&self.kind, self.vlan) {
            (Type::Sriov, Some(vlan)) => conf["vlan"] = json!(vlan),
            (_, Some(vlan)) => {
                conf["masterVlan"] = json!(vlan);
                conf["masterVlanName"] = json!(link_name(&self.id, vlan));
            }
            _ => {}
        }
        let mtu = self.mtu.or((self.kind == Type::Macvlan && self.vxlan.is_none()).then_some(MACVLAN_MTU));
        if let Some(mtu) = mtu.filter(|_| self.kind != Type::Sriov) {
            conf["mtu"] = json!(mtu);
        }
        if let Some(ipam) = self.ipam() {
            conf["ipam"] = ipam;
        }
        conf["cniVersion"] = json!("1.0.0");
        conf["name"] = json!(name);
        Some(NetworkConf::parse(conf.to_string().as_bytes()))
    }
}

/// Name of the VLAN link below the interfaces of a network, as DANM makes it.
pub fn link_name(id: &str, vlan: i64) -> String {
    format!("{id}.{vlan}")
}

/// Name of the CNI network that an object is: `danmnet.shop.internal`.
pub fn network_name(reference: &ForeignRef) -> String {
    let kind = reference.kind.as_str().to_ascii_lowercase();
    let parts =
        [Some(kind.as_str()), reference.namespace.as_ref().map(ObjectName::as_str), Some(reference.name.as_str())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(".")
}

/// The configuration of a network, and where it is from. `own_ipam`: the addresses are the network's, also of a plugin with a file.
pub fn configuration(
    reference: &ForeignRef,
    network: &Network,
    files: NodeFiles<'_>,
    own_ipam: bool,
) -> Result<(NetworkConf, String), NoConfiguration> {
    let name = network_name(reference);
    if let Some(conf) = network.built_in(&name) {
        return Ok((conf.map_err(|finding| finding.under(&format!("{reference}: spec")))?, reference.to_string()));
    }
    let Type::File(plugin, id) = &network.kind else { return Err(NoConfiguration::Missing(reference.clone())) };
    let (file, conf) = match files.exactly(id) {
        Named::File(file, conf) => (file, conf),
        Named::Meta(_) => {
            let finding = crate::dialect::genie::meta_plugin("NetworkID", id);
            return Err(finding.under(&format!("{reference}: spec")).into());
        }
        Named::Nothing => return Err(NoConfiguration::NoFile(id.clone())),
    };
    let mut conf = conf.clone();
    let first = conf.plugins.first().map(|plugin| plugin.kind.as_str().to_owned()).unwrap_or_default();
    if first != plugin.as_str() {
        let allowed = format!("{first:?}, the type in file {file}");
        let finding = Finding::new("NetworkType", format_args!("{:?}", plugin.as_str()), allowed);
        return Err(finding.under(&format!("{reference}: spec")).into());
    }
    if conf.name.is_none() {
        conf.name = Some(id.as_str().parse().map_err(|e: Finding| e.under(&format!("file {file}: name")))?);
    }
    if let (true, Some(ipam), Some(plugin)) = (own_ipam, network.ipam(), conf.plugins.first_mut()) {
        let mut object = plugin.object.clone();
        object.set("ipam", &ipam);
        *plugin = PluginConf::from_object(object)?;
    }
    Ok((conf, format!("{reference}, file {file}")))
}

/// A family's part of `Options`, which [`super::judge`] has found right.
fn subnet(
    net: Option<&str>,
    pool: Option<&Pool>,
    routes: &std::collections::BTreeMap<String, String>,
    ipv4: bool,
) -> Result<Option<Subnet>, Finding> {
    let Some(net) = net.and_then(|text| text.parse::<IpNet>().ok()).map(|net| net.trunc()) else { return Ok(None) };
    let within = pool.and_then(|pool| pool.cidr.as_deref()).and_then(|text| text.parse::<IpNet>().ok());
    let within = match within {
        Some(within) => within.trunc(),
        None if ipv4 => net,
        None => IpNet::new(net.addr(), net.prefix_len().max(POOL6_PREFIX)).unwrap_or(net),
    };
    let end_of = |text: Option<&String>, usual: IpAddr| text.and_then(|text| text.parse().ok()).unwrap_or(usual);
    let told = pool.map(|pool| (pool.start.as_ref(), pool.end.as_ref()));
    let pool = match (told, ipv4) {
        (None, true) => None,
        _ => {
            let (start, end) = told.unwrap_or_default();
            let (first, last) = super::usual_pool(within);
            Some((end_of(start, first), end_of(end, last)))
        }
    };
    let key = if ipv4 { "routes" } else { "routes6" };
    let routes = super::routes(routes, ipv4).map_err(|finding| finding.under(key))?;
    Ok(Some(Subnet { net, pool, routes }))
}
