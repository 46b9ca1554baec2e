//! The underlay: where the tunnels of an overlay end on this node, and how much room they leave.

use std::net::IpAddr;

use attachments::finding::{Allowed, Finding};
use attachments::names::IfName;
use ipnet::IpNet;

use super::Spec;
use crate::error::{Error, Result};
use crate::nl::Netlink;
use crate::nl::link::Link;

/// Where the tunnel's local address comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Underlay {
    /// The link of the default route.
    DefaultRoute,
    /// A link by name.
    Link(IfName),
    /// The link that has an address within a subnet: the same text fits every node.
    Subnet(IpNet),
}

/// Where an overlay's tunnels end on this node.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The link that carries the tunnels.
    pub link: Link,
    /// The local address, with the length of its subnet.
    pub local: IpNet,
}

impl Endpoint {
    fn overhead(&self) -> u32 {
        headers(self.local.addr())
    }

    /// The largest MTU of an overlay.
    fn limit(&self) -> u32 {
        self.link.mtu.saturating_sub(self.overhead()).clamp(68, 65_535)
    }
}

/// What a tunnel from an address adds: outer Ethernet, IP, UDP and VXLAN headers.
pub(crate) fn headers(local: IpAddr) -> u32 {
    if local.is_ipv4() { 50 } else { 70 }
}

/// The link and address that the tunnels end at.
pub fn endpoint(netlink: &mut Netlink, spec: &Spec) -> Result<Endpoint> {
    let (link, subnet) = match &spec.underlay {
        Underlay::Subnet(subnet) => (None, Some(*subnet)),
        Underlay::Link(name) => {
            let missing = || refuse(format!("{:?}", name.as_str()), "an existing link");
            (Some(netlink.link_by_name(name)?.ok_or_else(missing)?.index), None)
        }
        Underlay::DefaultRoute => {
            let missing =
                || refuse(String::new(), "an interface or a subnet: the node has no default route to take it from");
            (Some(netlink.default_route_link()?.ok_or_else(missing)?), None)
        }
    };
    let family = spec.is_ipv6;
    let serves = |address: &IpAddr| family.is_none_or(|ipv6| address.is_ipv6() == ipv6);
    const GLOBAL: u8 = 0;
    let mut held = netlink.addresses(link)?;
    held.retain(|address| {
        let ip = address.net.addr();
        address.scope == GLOBAL && serves(&ip) && subnet.is_none_or(|subnet| subnet.contains(&ip))
    });
    // IPv4 before IPv6 where both serve.
    held.sort_by_key(|address| address.net.addr().is_ipv6());
    let which = match family {
        Some(true) => "IPv6 ",
        Some(false) => "IPv4 ",
        None => "",
    };
    let none = || match (&spec.underlay, subnet) {
        (_, Some(subnet)) => {
            refuse(format!("\"{subnet}\""), format!("a subnet in which this node has an {which}address"))
        }
        (Underlay::Link(name), _) => refuse(format!("\"{name}\""), format!("a link with a global {which}address")),
        _ => refuse(String::new(), format!("a link with a global {which}address: that of the default route has none")),
    };
    let address = held.first().ok_or_else(none)?;
    let link = netlink.link_by_index(address.index)?.ok_or_else(none)?;
    Ok(Endpoint { link, local: address.net })
}

/// The link that has an address of the node: an overlay's tunnels end there. [`Error::Busy`] where no link has it.
pub fn endpoint_at(netlink: &mut Netlink, local: IpAddr) -> Result<Endpoint> {
    let held = netlink.addresses(None)?.into_iter().find(|address| address.net.addr() == local);
    let gone =
        || Error::Busy(format!("tunnel end {local}, with which the node agent joined, is no address of the node now"));
    let address = held.ok_or_else(gone)?;
    let link = netlink.link_by_index(address.index)?.ok_or_else(gone)?;
    Ok(Endpoint { link, local: address.net })
}

fn refuse(value: String, allowed: impl Into<Allowed>) -> Error {
    Error::Parent(Finding::new("underlay", value, allowed))
}

/// The overlay's MTU: the one asked for, at most what the underlay has room for.
pub fn mtu(spec: &Spec, endpoint: &Endpoint) -> Result<u32> {
    let limit = endpoint.limit();
    match spec.mtu {
        Some(bytes) if bytes > limit => Err(too_large(bytes, limit, endpoint).into()),
        Some(bytes) => Ok(bytes),
        None => Ok(limit),
    }
}

fn too_large(bytes: u32, limit: u32, endpoint: &Endpoint) -> Finding {
    let Endpoint { link, .. } = endpoint;
    let overhead = endpoint.overhead();
    let allowed = format!("at most {limit}: underlay {} has {}, the tunnel takes {overhead}", link.name, link.mtu);
    Finding::new("mtu", bytes, allowed)
}
