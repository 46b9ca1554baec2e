//! Which links are the node's own, and why, as the kernel has it at the time of the call: definitions of tenants neither take
//! them nor change them.
//!
//! A link is the node's by what it carries itself, and by what is above it: a bridge or bond of which it is a port, a VLAN or
//! another link that stands on it. What makes the node unreachable (its default route, its InternalIP, its way to the API
//! server) is never given away; what else the node has there, addresses and routes, an administrator may open by `sharedLinks`.

use std::fmt;
use std::net::IpAddr;

use attachments::finding::Finding;
use ipnet::IpNet;
use nix::libc;

use crate::call::Call;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::nl::Netlink;
use crate::nl::address::Address;
use crate::nl::link::{Kind, Link};
use crate::nl::route::{MAIN, Route, RouteFilter};
use crate::reserved::Reserved;

/// What the node has on one link.
#[derive(Clone, Debug, Default)]
struct Held {
    addresses: Vec<Address>,
    routes: Vec<Route>,
    /// The addresses of the API server to which packets leave by the link.
    api_servers: Vec<IpAddr>,
}

/// What makes a link the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// A default route in the main table.
    DefaultRoute,
    /// An InternalIP of the Node.
    InternalIp(IpAddr),
    /// The way to the API server.
    ApiServer(IpAddr),
    /// The address of an API server on this node.
    OwnApiServer(IpAddr),
    /// A default route in another table.
    DefaultRouteIn(u32),
    /// An address that is valid beyond the link.
    Address(IpNet),
    /// A route to somewhere beyond the link.
    Route(IpNet),
}

impl Claim {
    /// May `sharedLinks` open the link all the same?
    fn can_be_shared(self) -> bool {
        matches!(self, Self::DefaultRouteIn(_) | Self::Address(_) | Self::Route(_))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DefaultRoute => f.write_str("carries the node's default route"),
            Self::InternalIp(address) => write!(f, "has the node's InternalIP {address}"),
            Self::ApiServer(address) => write!(f, "carries the node's way to the API server {address}"),
            Self::OwnApiServer(address) => write!(f, "has the API server's address {address}"),
            Self::DefaultRouteIn(table) => write!(f, "carries a default route of the node (table {table})"),
            Self::Address(net) => write!(f, "has the global address {net}"),
            Self::Route(net) => write!(f, "carries the node's route to {net}"),
        }
    }
}

/// A link, or one that is above it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Above {
    index: u32,
    /// The link in words that a claim follows: `br0, of which eth1 is a port,`.
    words: String,
}

/// Refuses a link that is the node's to a tenant's definition. `refuse` makes the finding from the reason.
pub(crate) fn keep(
    host: &mut Host<'_>,
    call: &Call<'_>,
    link: &Link,
    refuse: impl FnOnce(&str) -> Finding,
) -> Result<()> {
    if !call.origin.is_tenants {
        return Ok(());
    }
    let reserved = host.node.reserved;
    match reason(host.netlink()?, reserved, link)? {
        Some(reason) => Err(Error::Config(vec![refuse(&reason)])),
        None => Ok(()),
    }
}

/// Why a link is the node's; `None` for one that definitions may take and change.
fn reason(netlink: &mut Netlink, reserved: &Reserved, link: &Link) -> Result<Option<String>> {
    let above = above(link, &netlink.links(None)?);
    let mut ways = Vec::new();
    for address in &reserved.api_servers {
        ways.push((*address, netlink.link_towards(*address)?));
    }
    let mut held = Vec::new();
    for one in &above {
        let leads_here = |(_, index): &&(IpAddr, Option<u32>)| *index == Some(one.index);
        held.push(Held {
            addresses: netlink.addresses(Some(one.index))?,
            routes: netlink.routes(RouteFilter { index: Some(one.index), ..RouteFilter::default() })?,
            api_servers: ways.iter().filter(leads_here).map(|(address, _)| *address).collect(),
        });
    }
    Ok(verdict(link, &above, &held, reserved))
}

/// The link itself, and nearest first everything of which it is a part or that stands on it.
fn above(link: &Link, links: &[Link]) -> Vec<Above> {
    // Each with the words that tell how it is above, for those that are above it in turn.
    let mut found = vec![(link.index, link.name.clone(), String::new())];
    let mut next = 0;
    while let Some((index, name, path)) = found.get(next).cloned() {
        next += 1;
        let master = links.iter().find(|one| one.index == index).and_then(|one| one.master);
        for other in links {
            let tie = if master == Some(other.index) {
                format!(", of which {name} is a port{path}")
            } else if stands_on(other, index) {
                format!(", which stands on {name}{path}")
            } else {
                continue;
            };
            if found.iter().all(|(known, ..)| *known != other.index) {
                found.push((other.index, other.name.clone(), tie));
            }
        }
    }
    let words = |(index, name, path): (u32, String, String)| {
        let comma = if path.is_empty() { "" } else { "," };
        Above { index, words: format!("{name}{path}{comma}") }
    };
    found.into_iter().map(words).collect()
}

/// Does a link live on another one: a VLAN, a macvlan, a tunnel? The two ends of a pair only point at each other.
fn stands_on(link: &Link, index: u32) -> bool {
    let is_pair = matches!(link.kind.as_str(), "veth" | "netkit" | "vxcan");
    let underlay = match &link.kind {
        Kind::Vxlan(vxlan) => vxlan.underlay,
        _ => None,
    };
    let parent = link.parent.filter(|_| !is_pair && !link.is_parent_elsewhere);
    link.index != index && (parent == Some(index) || underlay == Some(index))
}

/// Why the link is the node's, from what is known of it and of everything above it. What can never be given away is told
/// before what `sharedLinks` may open.
fn verdict(link: &Link, above: &[Above], held: &[Held], reserved: &Reserved) -> Option<String> {
    let claims = |held: &Held| claims(held, reserved);
    let all: Vec<(&Above, Claim)> = above
        .iter()
        .zip(held)
        .flat_map(|(one, held)| claims(held).into_iter().map(move |claim| (one, claim)))
        .collect();
    if let Some((one, claim)) = all.iter().find(|(_, claim)| !claim.can_be_shared()) {
        return Some(format!("{} {claim}", one.words));
    }
    let (one, claim) = all.first().filter(|_| !reserved.shares(&link.name))?;
    Some(format!("{} {claim}; the node's key sharedLinks may open {}", one.words, link.name))
}

/// What makes one link the node's.
fn claims(held: &Held, reserved: &Reserved) -> Vec<Claim> {
    let Held { addresses, routes, api_servers } = held;
    let mut claims = Vec::new();
    if routes.iter().any(|route| route.is_default() && route.table == MAIN) {
        claims.push(Claim::DefaultRoute);
    }
    let own = || addresses.iter().map(|address| address.net.addr());
    claims.extend(own().filter(|ip| reserved.node_addresses.contains(ip)).map(Claim::InternalIp));
    claims.extend(own().filter(|ip| reserved.api_servers.contains(ip)).map(Claim::OwnApiServer));
    claims.extend(api_servers.iter().copied().map(Claim::ApiServer));
    let elsewhere = routes.iter().filter(|route| route.is_default() && route.table != MAIN);
    claims.extend(elsewhere.map(|route| Claim::DefaultRouteIn(route.table)));
    // Site-wide addresses (scope 200) are valid beyond the link too.
    let is_global = |address: &&Address| address.scope < libc::RT_SCOPE_LINK && !is_of_link(address.net.addr());
    claims.extend(addresses.iter().filter(is_global).map(|address| Claim::Address(address.net)));
    let beyond = routes.iter().filter(|route| !route.is_default() && !is_of_link(route.destination.addr()));
    claims.extend(beyond.map(|route| Claim::Route(route.destination)));
    claims
}

/// Every link may have such addresses, and routes to them, without anybody's doing.
fn is_of_link(address: IpAddr) -> bool {
    address.is_multicast()
        || match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests;
