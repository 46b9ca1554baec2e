//! Replies about routes, as data.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::libc;

use super::{HEADER, RTA_NH_ID, RTAX_ADVMSS, RTAX_MTU, RTNH_F_ONLINK, Route};
use crate::nl::wire::{self, Attributes, Decoded, HOP, Message};

/// Reads one RTM_NEWROUTE, which is a route for each of its next hops; none for a route of another type, or of the cache.
pub(super) fn decode(message: &Message<'_>, is_of_type: &dyn Fn(u8) -> bool) -> Decoded<Vec<Route>> {
    let [family, prefix, _, _, table, protocol, scope, kind, flags @ ..]: [u8; HEADER] = wire::fixed(message.body)?;
    let cloned = u32::from_ne_bytes(flags) & libc::RTM_F_CLONED != 0;
    if !is_of_type(kind) || cloned {
        return Ok(Vec::new());
    }
    let any = match i32::from(family) {
        libc::AF_INET => IpNet::V4(Ipv4Net::new(Ipv4Addr::UNSPECIFIED, 0).map_err(|_| wire::Malformed)?),
        libc::AF_INET6 => IpNet::V6(Ipv6Net::new(Ipv6Addr::UNSPECIFIED, 0).map_err(|_| wire::Malformed)?),
        _ => return Ok(Vec::new()),
    };
    let mut several = None;
    let mut route = Route {
        destination: any,
        gateway: None,
        index: None,
        table: table.into(),
        priority: None,
        scope: Some(scope),
        onlink: u32::from_ne_bytes(flags) & RTNH_F_ONLINK != 0,
        mtu: None,
        advmss: None,
        source: None,
        protocol,
        is_one_of_several: false,
        nexthop: None,
    };
    for attribute in Attributes::after(message.body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            libc::RTA_DST => {
                route.destination = IpNet::new(wire::ip(value)?, prefix).map_err(|_| wire::Malformed)?;
            }
            libc::RTA_GATEWAY => route.gateway = Some(wire::ip(value)?),
            libc::RTA_PREFSRC => route.source = Some(wire::ip(value)?),
            libc::RTA_OIF => route.index = Some(wire::u32(value)?),
            libc::RTA_TABLE => route.table = wire::u32(value)?,
            libc::RTA_PRIORITY => route.priority = Some(wire::u32(value)?),
            libc::RTA_METRICS => decode_metrics(value, &mut route)?,
            RTA_NH_ID => route.nexthop = Some(wire::u32(value)?),
            libc::RTA_MULTIPATH => several = Some(value),
            _ => {}
        }
    }
    // The other attributes of the route may follow its next hops.
    several.map_or_else(|| Ok(vec![route]), |several| by_hops(several, &route))
}

fn decode_metrics(metrics: &[u8], route: &mut Route) -> Decoded<()> {
    for attribute in Attributes::inside(metrics) {
        let (kind, value) = attribute?;
        match kind {
            RTAX_MTU => route.mtu = Some(wire::u32(value)?),
            RTAX_ADVMSS => route.advmss = Some(wire::u32(value)?),
            _ => {}
        }
    }
    Ok(())
}

/// The route by each of its next hops.
fn by_hops(hops: &[u8], route: &Route) -> Decoded<Vec<Route>> {
    let mut routes = Vec::new();
    for hop in wire::next_hops(hops) {
        let hop = hop?;
        let mut one = Route { index: Some(wire::u32(&hop[4..HOP])?), ..*route };
        one.onlink |= u32::from(hop[2]) & RTNH_F_ONLINK != 0;
        for attribute in Attributes::after(hop, HOP)? {
            let (kind, value) = attribute?;
            if kind == libc::RTA_GATEWAY {
                one.gateway = Some(wire::ip(value)?);
            }
        }
        routes.push(one);
    }
    let is_one_of_several = routes.len() > 1;
    routes.iter_mut().for_each(|route| route.is_one_of_several = is_one_of_several);
    Ok(routes)
}
