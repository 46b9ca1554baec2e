//! What the node reaches already, and may not lose to an address or a route that a tenant's definition puts on it.
//!
//! A gateway's subnet on a bridge, the gateway's address on the node's end of a ptp and the route to its pod are the
//! node's from then on: what it reached there before, it reaches no more. [`conflict`] decides, from what the node holds;
//! [`refuse`] asks the kernel for that.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attachments::finding::Finding;
use ipnet::IpNet;

use crate::error::Result;
use crate::host::Host;
use crate::nl::Netlink;
use crate::nl::link::Kind;
use crate::nl::route::{MAIN, Route};

/// What a definition puts on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A gateway's address with its subnet: the node looks for all of it behind this link.
    Subnet(IpNet),
    /// The address of the node's end of a ptp.
    End(IpAddr),
    /// The pod's end of a ptp: the node routes to it.
    Pod(IpAddr),
}

/// An address that the node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Index of its link.
    pub index: u32,
    /// The address with its subnet.
    pub net: IpNet,
    /// It is the gateway's on the node's end of a ptp, which all pods of a network have in common.
    pub is_end: bool,
}

/// What the node reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Its addresses on every link.
    pub addresses: Vec<Held>,
    /// The routes of its main table, those to nowhere included.
    pub routes: Vec<Route>,
    /// Addresses of the Node object and of the API server.
    pub node: Vec<IpAddr>,
}

/// Why a claim is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Nothing that a link of the node may have: an unspecified, multicast or loopback address.
    NotUnicast,
    /// The subnet holds more than any network needs; its prefix must have so many bits at least.
    Wide(u8),
    /// An address of the node object, or the API server's.
    Node(IpAddr),
    /// An address at which clouds tell nodes who they are.
    Cloud(IpAddr),
    /// An address of a link, or its subnet.
    Address(Held),
    /// The next hop of a route.
    Gateway(IpAddr, Route),
    /// The destination of a route.
    Route(Route),
}

/// The bits that the prefix of a gateway's subnet must have, for IPv4 and IPv6: what leads everywhere overlaps with
/// nothing that is known.
const LEAST: [u8; 2] = [8, 32];

/// A route with so few bits is the way to everywhere else, also when it is written as two halves or as 2000::/3.
const DEFAULT: [u8; 2] = [1, 3];

/// Where Amazon, Google, Microsoft and Alibaba answer the machines that they host; whoever is there instead gets what the
/// node asks for: its credentials.
const CLOUD: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

impl Claim {
    /// What the node will look for here.
    fn net(self) -> IpNet {
        match self {
            Self::Subnet(net) => net,
            Self::End(address) | Self::Pod(address) => IpNet::from(address),
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subnet(net) => write!(f, "gateway {net}"),
            Self::End(address) => write!(f, "gateway {address}"),
            Self::Pod(address) => write!(f, "address {address}"),
        }
    }
}

/// Does a claim take anything from the node? `own` is the link that it is for, where there is one already: what that link
/// has is no conflict.
pub fn conflict(claim: Claim, own: Option<u32>, reach: &Reach) -> Option<Conflict> {
    let net = claim.net();
    let address = net.addr();
    let family = usize::from(address.is_ipv6());
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Some(Conflict::NotUnicast);
    }
    if matches!(claim, Claim::Subnet(_)) && net.prefix_len() < LEAST[family] {
        return Some(Conflict::Wide(LEAST[family]));
    }
    if let Some(cloud) = CLOUD.into_iter().find(|cloud| net.contains(cloud)) {
        return Some(Conflict::Cloud(cloud));
    }
    if is_scoped(&net) {
        return None;
    }
    let addresses = reach.addresses.iter().filter(|held| Some(held.index) != own && counts(&held.net));
    let is_shared = |held: &Held| held.is_end && claim == Claim::End(held.net.addr());
    if let Some(held) = addresses.copied().find(|held| overlap(&held.net, &net) && !is_shared(held)) {
        return Some(Conflict::Address(held));
    }
    if let Some(node) = reach.node.iter().find(|node| net.contains(*node)) {
        return Some(Conflict::Node(*node));
    }
    let routes = || reach.routes.iter().filter(|route| route.index.is_none() || route.index != own);
    let hop = |route: &&Route| route.gateway.is_some_and(|gateway| net.contains(&gateway));
    if let Some((route, gateway)) = routes().find(hop).and_then(|route| Some((route, route.gateway?))) {
        return Some(Conflict::Gateway(gateway, *route));
    }
    let leads_there = |route: &&Route| {
        let destination = &route.destination;
        let is_default = destination.prefix_len() <= DEFAULT[family];
        // The kernel adds one to each IPv6 address.
        let is_shared = || {
            let mut ends = reach.addresses.iter().filter(|held| is_shared(held));
            ends.any(|end| route.index == Some(end.index) && *destination == end.net)
        };
        overlap(destination, &net) && counts(destination) && !is_default && !is_claimed(claim, route) && !is_shared()
    };
    routes().find(leads_there).map(|route| Conflict::Route(*route))
}

/// Two pods at one address: the kernel refuses the second route, and [`crate::builtin`] says so as for any network.
fn is_claimed(claim: Claim, route: &Route) -> bool {
    // What the kernel gives a route without a metric.
    let usual = if route.destination.addr().is_ipv4() { 0 } else { 1024 };
    matches!(claim, Claim::Pod(_)) && route.destination == claim.net() && route.priority.unwrap_or(usual) == usual
}

fn overlap(one: &IpNet, two: &IpNet) -> bool {
    one.contains(&two.trunc()) || two.contains(&one.trunc())
}

/// Addresses of IPv6 that are told apart by their link: one shadows nothing of another link.
fn is_scoped(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

/// A link-local subnet says that somebody may be there; an address by itself says that somebody is, a name server of the
/// node for example.
fn counts(net: &IpNet) -> bool {
    match net {
        IpNet::V4(v4) => !v4.addr().is_link_local() || v4.prefix_len() == v4.max_prefix_len(),
        IpNet::V6(_) => !is_scoped(net),
    }
}

/// Refuses claims that take something from the node, as findings about `ipam`. `own` is as in [`conflict`]. The node's
/// addresses and routes are listed, unless nothing is claimed.
pub fn refuse(host: &mut Host<'_>, claims: &[Claim], own: Option<u32>) -> Result<()> {
    if claims.is_empty() {
        return Ok(());
    }
    let reserved = host.node.reserved;
    let node: Vec<IpAddr> = reserved.node_addresses.iter().chain(&reserved.api_servers).copied().collect();
    let netlink = host.netlink()?;
    let reach = Reach { addresses: addresses(netlink, claims)?, routes: routes(netlink, claims)?, node };
    let mut findings: Vec<Finding> = Vec::new();
    for claim in claims {
        if let Some(conflict) = conflict(*claim, own, &reach) {
            let finding = Finding::new("ipam", claim, allowed(&conflict, netlink)?);
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(findings.into()) }
}

fn addresses(netlink: &mut Netlink, claims: &[Claim]) -> Result<Vec<Held>> {
    let mut held = Vec::new();
    for address in netlink.addresses(None)? {
        let is_alone = address.net.prefix_len() == address.net.max_prefix_len();
        let may_be_shared = is_alone && claims.contains(&Claim::End(address.net.addr()));
        let is_end = may_be_shared && is_end(netlink, address.index)?;
        held.push(Held { index: address.index, net: address.net, is_end });
    }
    Ok(held)
}

/// The node's end of a ptp, ours or the reference plugin's: a veth by itself under a name that either gives.
fn is_end(netlink: &mut Netlink, index: u32) -> Result<bool> {
    let link = netlink.link_by_index(index)?;
    Ok(link.is_some_and(|link| link.kind == Kind::Veth && link.master.is_none() && link.name.starts_with("veth")))
}

fn routes(netlink: &mut Netlink, claims: &[Claim]) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for ipv4 in [true, false] {
        if claims.iter().any(|claim| claim.net().addr().is_ipv4() == ipv4) {
            routes.extend(netlink.table_routes(ipv4, MAIN)?);
        }
    }
    Ok(routes)
}

/// What would be accepted, in words that name what is in the way.
fn allowed(conflict: &Conflict, netlink: &mut Netlink) -> Result<String> {
    Ok(match conflict {
        Conflict::NotUnicast => "a unicast address".to_owned(),
        Conflict::Wide(least) => format!("a subnet with a prefix length of {least} or more"),
        Conflict::Node(address) => format!("nothing that holds {address}, an address of the node or of the API server"),
        Conflict::Cloud(address) => format!("nothing that holds {address}, at which clouds answer their machines"),
        Conflict::Address(held) => {
            format!("nothing that overlaps with {} of link {} of the node", held.net, name(netlink, Some(held.index))?)
        }
        Conflict::Gateway(gateway, route) => {
            format!("nothing that holds {gateway}, the next hop of the node's route to {}", route.destination)
        }
        Conflict::Route(route) => {
            let through = name(netlink, route.index)?;
            format!("nothing that overlaps with the node's route to {} through {through}", route.destination)
        }
    })
}

fn name(netlink: &mut Netlink, index: Option<u32>) -> Result<String> {
    let Some(index) = index else { return Ok("no link".to_owned()) };
    Ok(netlink.link_by_index(index)?.map_or_else(|| format!("link {index}"), |link| link.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn held(index: u32, text: &str) -> Held {
        Held { index, net: net(text), is_end: false }
    }

    fn route(index: u32, destination: &str, gateway: Option<&str>) -> Route {
        Route { gateway: gateway.map(|gateway| gateway.parse().unwrap()), ..Route::new(net(destination), index) }
    }

    /// A node with a LAN (2), a bridge of the default network (3), a tunnel to others' pods (4), and a pod by ptp (5).
    fn node() -> Reach {
        let end = |text| Held { is_end: true, ..held(5, text) };
        Reach {
            addresses: vec![
                held(1, "127.0.0.1/8"),
                held(2, "192.168.1.5/24"),
                held(2, "fe80::5/64"),
                held(2, "2001:db8:1::5/64"),
                held(3, "10.244.1.1/24"),
                held(3, "fd44:1::1/64"),
                held(4, "169.254.20.10/32"),
                end("10.43.0.1/32"),
                end("169.254.1.1/32"),
                end("fd43::1/128"),
            ],
            routes: vec![
                route(2, "0.0.0.0/0", Some("192.168.1.1")),
                route(2, "0.0.0.0/1", Some("198.51.100.1")),
                route(2, "192.168.1.0/24", None),
                route(2, "169.254.0.0/16", None),
                route(3, "10.244.1.0/24", None),
                route(4, "10.244.2.0/24", Some("10.244.2.0")),
                Route { index: None, ..route(0, "10.250.0.0/26", None) },
                route(5, "10.43.0.2/32", None),
                Route { priority: Some(100), ..route(2, "10.99.0.7/32", None) },
                route(2, "2000::/3", Some("fe80::1")),
                route(2, "fe80::/64", None),
                route(4, "fd44:2::/64", Some("fd44:2::")),
                Route { priority: Some(1024), ..route(5, "fd43::2/128", None) },
                Route { priority: Some(256), ..route(5, "fd43::1/128", None) },
            ],
            node: vec!["203.0.113.5".parse().unwrap(), "10.96.0.1".parse().unwrap()],
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn of(claim: Claim) -> String {
        match conflict(claim, None, &node()) {
            None => "none".to_owned(),
            Some(Conflict::Address(held)) => held.net.to_string(),
            Some(Conflict::Route(route)) => format!("to {}", route.destination),
            Some(Conflict::Gateway(gateway, _)) => format!("hop {gateway}"),
            Some(Conflict::Node(address)) => format!("node {address}"),
            Some(Conflict::Cloud(address)) => format!("cloud {address}"),
            Some(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn a_gateways_subnet_takes_nothing_that_the_node_reaches() {
        for (claim, want) in [
            ("10.50.0.1/16", "none"),
            ("fd50::1/64", "none"),
            ("192.168.1.1/24", "192.168.1.5/24"),
            ("192.168.1.129/25", "192.168.1.5/24"),
            ("192.168.0.1/16", "192.168.1.5/24"),
            ("10.244.0.1/16", "10.244.1.1/24"),
            ("10.244.2.1/25", "hop 10.244.2.0"),
            ("10.244.2.129/25", "to 10.244.2.0/24"),
            ("10.250.0.1/24", "to 10.250.0.0/26"),
            ("10.43.0.1/24", "10.43.0.1/32"),
            ("10.99.0.1/24", "to 10.99.0.7/32"),
            ("203.0.113.1/24", "node 203.0.113.5"),
            ("10.96.0.1/12", "node 10.96.0.1"),
            ("198.51.100.9/24", "hop 198.51.100.1"),
            ("2001:db8:1:0:9::1/80", "2001:db8:1::5/64"),
            ("2001:db8::1/32", "2001:db8:1::5/64"),
            ("fd44:2::1/48", "hop fd44:2::"),
            ("fd43::1/64", "fd43::1/128"),
            ("64.0.0.1/2", "Wide(8)"),
            ("0.0.0.1/0", "Wide(8)"),
            ("fd00::1/8", "Wide(32)"),
            ("127.0.0.9/24", "NotUnicast"),
            ("224.0.0.1/24", "NotUnicast"),
            ("169.254.1.1/24", "169.254.1.1/32"),
            ("169.254.9.1/24", "none"),
            ("169.254.20.1/24", "169.254.20.10/32"),
            ("169.254.0.1/16", "cloud 169.254.169.254"),
            ("fe80::1/64", "none"),
        ] {
            assert_eq!(of(Claim::Subnet(net(claim))), want, "{claim}");
        }
    }

    #[test]
    fn what_a_bridge_has_already_is_its_own() {
        for (claim, want) in [("10.244.1.1/24", true), ("10.244.1.9/25", true), ("10.244.2.1/24", false)] {
            assert_eq!(conflict(Claim::Subnet(net(claim)), Some(3), &node()).is_none(), want, "{claim}");
        }
    }

    #[test]
    fn the_ends_of_a_ptp_are_nobody_elses() {
        for (claim, want) in [
            ("10.43.0.1", "none"),
            ("169.254.1.1", "none"),
            ("fd43::1", "none"),
            ("fe80::1", "none"),
            ("10.50.0.1", "none"),
            ("192.168.1.5", "192.168.1.5/24"),
            ("192.168.1.1", "192.168.1.5/24"),
            ("10.244.1.1", "10.244.1.1/24"),
            ("169.254.20.10", "169.254.20.10/32"),
            ("10.43.0.2", "to 10.43.0.2/32"),
            ("198.51.100.1", "hop 198.51.100.1"),
            ("169.254.169.254", "cloud 169.254.169.254"),
        ] {
            assert_eq!(of(Claim::End(address(claim))), want, "{claim}");
        }
        for (claim, want) in [
            ("10.43.0.3", "none"),
            ("fd43::3", "none"),
            ("8.8.8.8", "none"),
            ("192.168.1.53", "192.168.1.5/24"),
            ("10.244.1.7", "10.244.1.1/24"),
            ("10.244.2.7", "to 10.244.2.0/24"),
            ("10.43.0.1", "10.43.0.1/32"),
            ("10.99.0.7", "to 10.99.0.7/32"),
            ("203.0.113.5", "node 203.0.113.5"),
            ("168.63.129.16", "cloud 168.63.129.16"),
            ("fd00:ec2::254", "cloud fd00:ec2::254"),
            ("127.0.0.1", "NotUnicast"),
        ] {
            assert_eq!(of(Claim::Pod(address(claim))), want, "{claim}");
        }
        let twice = ["10.43.0.2", "fd43::2"].map(|twice| of(Claim::Pod(address(twice))));
        assert_eq!(twice, ["none", "none"], "a second pod at one address is the kernel's to refuse");
    }
}
