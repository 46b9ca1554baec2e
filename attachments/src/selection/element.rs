//! One element of a pod's selection: a network, and what the pod asks of its attachment.

use std::fmt;
use std::net::IpAddr;

use super::addresses::{ADDRESSES, AddressRequest};
use super::npwg::{of_interface, of_name};
use super::routing::{self, ROUTES, RULES, RequestedRoute, RequestedRule};
use super::values;
use crate::cni::object::Object;
use crate::dialect::alias::Alias;
use crate::dialect::objects::ForeignRef;
use crate::finding::{Allowed, Finding};
use crate::names::{ConfName, DeviceId, Guid, IfName, Mac, NetRef, NetworkName, ObjectName};
use crate::rule::Rule;

/// The key of an element that names an AddressSet (a key of ours).
pub const ADDRESS_SET: &str = "meta-cni.io/address-set";

/// The argument among `cni-args` that says what an interface is for: a list of words, which `network-status` shows (of ours).
pub const ROLES: &str = "meta-cni.io/roles";

/// Where a selected network's configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectionTarget {
    /// A NetworkAttachmentDefinition.
    Definition(NetRef),
    /// A network of the node: the file of `confDir` that has this network name. The NPWG grammars cannot say it.
    NodeFile(NetworkName),
    /// A file of the node by the name of the file, as dialects know it.
    File(ConfName),
    /// An object of a dialect.
    Foreign(ForeignRef),
    /// A definition by the name that a dialect has for it.
    Alias {
        /// The name, and where it is looked for.
        alias: Alias,
        /// The definitions that have it: one, once they were looked for; several share the name.
        found: Vec<NetRef>,
    },
}

impl SelectionTarget {
    /// The definition; nothing for what is none.
    pub fn definition(&self) -> Option<&NetRef> {
        match self {
            Self::Definition(reference) => Some(reference),
            Self::Alias { found, .. } => match found.as_slice() {
                [one] => Some(one),
                _ => None,
            },
            Self::NodeFile(_) | Self::File(_) | Self::Foreign(_) => None,
        }
    }

    /// The name of a dialect; nothing for what has none.
    pub fn alias(&self) -> Option<&Alias> {
        if let Self::Alias { alias, .. } = self { Some(alias) } else { None }
    }

    /// The object of a dialect; nothing for what is none.
    pub fn foreign(&self) -> Option<&ForeignRef> {
        if let Self::Foreign(reference) = self { Some(reference) } else { None }
    }
}

impl fmt::Display for SelectionTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Definition(reference) => reference.fmt(f),
            Self::NodeFile(name) => name.fmt(f),
            Self::File(name) => name.fmt(f),
            Self::Foreign(reference) => reference.fmt(f),
            Self::Alias { alias, .. } => match self.definition() {
                Some(reference) => reference.fmt(f),
                None => f.write_str(&alias.name),
            },
        }
    }
}

/// One element of an annotation. Absent, `null` and empty are the same, as in Go.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkSelection {
    /// Which network.
    pub target: SelectionTarget,
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
    /// `default-route`: the pod's default routes go through this attachment, by these gateways, or by its own gateway when
    /// empty.
    pub default_route: Option<Vec<IpAddr>>,
    /// Name of an IPAMClaim in the pod's namespace.
    pub ipam_claim: Option<ObjectName>,
    /// A device asked for by name (extension of Multus).
    pub device: Option<DeviceId>,
    /// Routes through its link (a key of ours).
    pub routes: Vec<RequestedRoute>,
    /// Rules that send packets to tables (a key of ours).
    pub rules: Vec<RequestedRule>,
    /// Where its addresses come from (a key of ours).
    pub addresses: Option<AddressRequest>,
    /// The AddressSet of which it takes a member (a key of ours).
    pub address_set: Option<ObjectName>,
    /// Routes for the table of its network, which only the network knows (a dialect's).
    pub own_routes: Vec<RequestedRoute>,
    /// The objects of a dialect that keep its addresses of IPv4 and IPv6. Their addresses are among `ips` once the selection is settled.
    pub reserved: [Option<ForeignRef>; 2],
    /// Those of `ips` that other pods may have at the same time; known once the selection is settled.
    pub shared: Vec<IpAddr>,
}

/// R21: the second of two selections that take the default route of one family, after the first of them, and the family. An empty list
/// takes both.
pub fn default_route_twice<'a>(
    selected: impl Iterator<Item = Option<&'a NetworkSelection>>,
) -> Option<(usize, usize, &'static str)> {
    let mut taken = [None; 2];
    for (i, one) in selected.enumerate() {
        let Some(gateways) = one.and_then(NetworkSelection::default_gateways) else { continue };
        for (ipv4, family, first) in [(true, "IPv4", 0), (false, "IPv6", 1)] {
            if gateways.is_empty() || gateways.iter().any(|gateway| gateway.is_ipv4() == ipv4) {
                match taken[first] {
                    Some(before) => return Some((before, i, family)),
                    None => taken[first] = Some(i),
                }
            }
        }
    }
    None
}

impl NetworkSelection {
    /// A selection of the network without further requests.
    pub fn new(target: SelectionTarget) -> Self {
        Self {
            target,
            interface: None,
            ips: Vec::new(),
            mac: None,
            infiniband_guid: None,
            port_mappings: Vec::new(),
            bandwidth: None,
            cni_args: None,
            default_route: None,
            ipam_claim: None,
            device: None,
            routes: Vec::new(),
            rules: Vec::new(),
            addresses: None,
            address_set: None,
            own_routes: Vec::new(),
            reserved: [None, None],
            shared: Vec::new(),
        }
    }

    pub(super) fn decode(object: &Object, pod_namespace: &ObjectName) -> Result<Self, Finding> {
        let part = |key| object.parsed(key, ObjectName::ALLOWED).map_err(of_name);
        let name = part("name")?;
        let network = NetRef {
            namespace: part("namespace")?.unwrap_or_else(|| pod_namespace.clone()),
            name: name.ok_or_else(|| of_name(Finding::missing("name", ObjectName::ALLOWED)))?,
        };
        // The key was called `interfaceRequest` before Multus 3.2.
        let interface = match object.parsed("interface", IfName::ALLOWED).map_err(of_interface)? {
            Some(interface) => Some(interface),
            None => object.parsed("interfaceRequest", IfName::ALLOWED).map_err(of_interface)?,
        };
        let ips = values::decode_ips(object).map_err(|e| e.by(Rule::Ips))?;
        let has_claim = object.get("ipam-claim-reference").is_some_and(|claim| !matches!(claim.get(), "null" | "\"\""));
        let addresses = AddressRequest::decode(object, &ips, has_claim).map_err(|e| e.by(Rule::AddressRequest))?;
        let (routes, rules) = routing::decode(object).map_err(|e| e.by(Rule::Routing))?;
        let selected = Self {
            target: SelectionTarget::Definition(network),
            interface,
            ips,
            mac: object.parsed("mac", Mac::ALLOWED).map_err(|e| e.by(Rule::Mac))?,
            infiniband_guid: object.parsed("infiniband-guid", Guid::ALLOWED).map_err(|e| e.by(Rule::Guid))?,
            port_mappings: values::decode_port_mappings(object)?,
            bandwidth: values::decode_bandwidth(object)?,
            cni_args: values::decode_cni_args(object)?,
            default_route: values::decode_default_route(object).map_err(|e| e.by(Rule::DefaultRoute))?,
            ipam_claim: object.parsed("ipam-claim-reference", ObjectName::ALLOWED)?,
            device: object.parsed("deviceID", DeviceId::ALLOWED)?,
            routes,
            rules,
            addresses,
            address_set: object.parsed(ADDRESS_SET, ObjectName::ALLOWED).map_err(|e| e.by(Rule::AddressSet))?,
            own_routes: Vec::new(),
            reserved: [None, None],
            shared: Vec::new(),
        };
        selected.check_default_routes()?;
        selected.check_address_set()?;
        match &selected.ipam_claim {
            Some(claim) if !selected.ips.is_empty() => {
                Err(Finding::new("ipam-claim-reference", claim, Allowed::without("ips")))
            }
            _ => Ok(selected),
        }
    }

    /// `default-route` together with the default routes among `meta-cni.io/routes`, which move the pod's default routes alike.
    pub fn default_gateways(&self) -> Option<Vec<IpAddr>> {
        let listed = self.routes.iter().filter(|route| route.is_default()).filter_map(|route| route.gw);
        let gateways: Vec<IpAddr> = self.default_route.iter().flatten().copied().chain(listed).collect();
        Some(gateways).filter(|gateways| self.default_route.is_some() || !gateways.is_empty())
    }

    /// The key by which it takes default routes, for a finding.
    pub fn default_route_key(&self) -> &'static str {
        if self.default_route.is_some() { "default-route" } else { ROUTES }
    }

    /// A member of a set is the whole of what is asked for of addresses.
    fn check_address_set(&self) -> Result<(), Finding> {
        let Some(set) = &self.address_set else { return Ok(()) };
        let beside = [
            ("ips", !self.ips.is_empty()),
            ("ipam-claim-reference", self.ipam_claim.is_some()),
            (ADDRESSES, self.addresses.is_some()),
        ];
        match beside.into_iter().find(|(_, is_there)| *is_there) {
            None => Ok(()),
            Some((key, _)) => Err(Finding::new(ADDRESS_SET, set, Allowed::without(key)).by(Rule::AddressSet)),
        }
    }

    /// A family's default routes are asked for once.
    fn check_default_routes(&self) -> Result<(), Finding> {
        let Some(asked) = &self.default_route else { return Ok(()) };
        let takes = |ipv4: bool| asked.is_empty() || asked.iter().any(|gateway| gateway.is_ipv4() == ipv4);
        let second = |route: &&RequestedRoute| route.is_default() && takes(route.dst.addr().is_ipv4());
        match self.routes.iter().position(|route| second(&route)) {
            None => Ok(()),
            Some(i) => {
                let (path, value) = (format!("{ROUTES}[{i}].dst"), format!("\"{}\"", self.routes[i].dst));
                let allowed = "a destination that default-route does not take";
                Err(Finding::new(path, value, allowed).by(Rule::Routing))
            }
        }
    }

    /// The element of the JSON form; that of a definition reads back as the same value.
    pub fn to_object(&self) -> Object {
        let mut object = Object::new();
        match (&self.target, self.target.definition()) {
            (_, Some(reference)) => {
                object.set("name", &reference.name);
                object.set("namespace", &reference.namespace);
            }
            (SelectionTarget::Foreign(reference), None) => {
                object.set("name", &reference.name);
                object.set("namespace", &reference.namespace);
            }
            (target, None) => object.set("name", &target.to_string()),
        }
        object.set_some("interface", self.interface.as_ref());
        object.set_some("ips", Some(&self.ips).filter(|ips| !ips.is_empty()));
        object.set_some("mac", self.mac.as_ref());
        object.set_some("infiniband-guid", self.infiniband_guid.as_ref());
        object.set_some("portMappings", Some(&self.port_mappings).filter(|mappings| !mappings.is_empty()));
        object.set_some("bandwidth", self.bandwidth.as_ref());
        object.set_some("cni-args", self.cni_args.as_ref());
        object.set_some("default-route", self.default_route.as_ref());
        object.set_some("ipam-claim-reference", self.ipam_claim.as_ref());
        object.set_some("deviceID", self.device.as_ref());
        object.set_some(ROUTES, Some(&self.routes).filter(|routes| !routes.is_empty()));
        object.set_some(ADDRESS_SET, self.address_set.as_ref());
        object.set_some(ADDRESSES, self.addresses.map(AddressRequest::to_value).as_ref());
        object.set_some(RULES, Some(&self.rules).filter(|rules| !rules.is_empty()));
        object
    }
}

impl fmt::Display for NetworkSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_object().to_json())
    }
}
