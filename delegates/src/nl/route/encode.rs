//! Requests about routes, as bytes.

use nix::libc;

use super::{HEADER, MAIN, RTA_NH_ID, RTAX_ADVMSS, RTAX_MTU, RTNH_F_ONLINK, Route};
use crate::nl::wire::Request;

/// `struct rtmsg`.
pub(super) fn header(family: i32, prefix: u8, protocol: u8, scope: u8, kind: u8, flags: u32) -> [u8; HEADER] {
    let mut bytes = [family as u8, prefix, 0, 0, 0, protocol, scope, kind, 0, 0, 0, 0];
    bytes[8..].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

pub(super) fn subject(kind: u16, flags: i32, route: &Route) -> Request {
    let family = if route.destination.addr().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let scope = match (route.scope, route.gateway) {
        (Some(scope), _) => scope,
        // IPv6 has no scopes; a link scope there would be ignored.
        (None, None) if family == libc::AF_INET => libc::RT_SCOPE_LINK,
        _ => libc::RT_SCOPE_UNIVERSE,
    };
    let onlink = if route.onlink { RTNH_F_ONLINK } else { 0 };
    let prefix = route.destination.prefix_len();
    // What leads by no link and to no next hop leads nowhere.
    let leads = match (route.index, route.gateway) {
        (None, None) => libc::RTN_BLACKHOLE,
        _ => libc::RTN_UNICAST,
    };
    let head = header(family, prefix, route.protocol, scope, leads, onlink);
    let mut request = Request::new(kind, flags | libc::NLM_F_ACK, &head);
    request.u32(libc::RTA_TABLE, route.table);
    if !route.is_default() {
        request.ip(libc::RTA_DST, route.destination.network());
    }
    // The next hops of a route that goes whole are not told: the kernel would look for a route with that one alone.
    let is_whole = kind == libc::RTM_DELROUTE && route.goes_whole();
    if let Some(gateway) = route.gateway.filter(|_| !is_whole) {
        request.ip(libc::RTA_GATEWAY, gateway);
    }
    if let Some(object) = route.nexthop.filter(|_| is_whole) {
        request.u32(RTA_NH_ID, object);
    }
    if let Some(source) = route.source {
        request.ip(libc::RTA_PREFSRC, source);
    }
    let index = route.index.filter(|_| !is_whole);
    for (attribute, value) in [(libc::RTA_OIF, index), (libc::RTA_PRIORITY, route.priority)] {
        if let Some(value) = value {
            request.u32(attribute, value);
        }
    }
    if route.mtu.is_some() || route.advmss.is_some() {
        request.nest(libc::RTA_METRICS, |metrics| {
            for (metric, value) in [(RTAX_MTU, route.mtu), (RTAX_ADVMSS, route.advmss)] {
                if let Some(value) = value {
                    metrics.u32(metric, value);
                }
            }
        });
    }
    request
}

/// A route in words, for the error.
pub(super) fn words(route: &Route) -> String {
    let mut words = format!("route {}", route.destination);
    if let Some(gateway) = route.gateway {
        words += &format!(" via {gateway}");
    }
    if let Some(index) = route.index {
        words += &format!(" on link {index}");
    }
    if route.table != MAIN {
        words += &format!(" in table {}", route.table);
    }
    words
}
