//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::errno::Errno;
use nix::libc;

use super::socket::Netlink;
use super::wire::{self, Attributes, Decoded, Message, Request};
use crate::error::Result;

/// Bytes of `struct rtmsg`.
const HEADER: usize = 12;
/// The main table.
pub const MAIN: u32 = libc::RT_TABLE_MAIN as u32;

// linux/rtnetlink.h, not in libc.
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const RTNH_F_ONLINK: u32 = 4;

/// A unicast route with one next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination; prefix length 0 is the default route.
    pub destination: IpNet,
    /// The next hop; `None` means that the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the link that packets leave by.
    pub index: Option<u32>,
    /// The table; [`MAIN`] is the usual one.
    pub table: u32,
    /// The metric; `None` is the kernel's: 0 for IPv4, 1024 for IPv6.
    pub priority: Option<u32>,
    /// `RT_SCOPE_*`; `None` is global with a gateway, link without one.
    pub scope: Option<u8>,
    /// The gateway is on the link whatever the addresses say.
    pub onlink: bool,
    /// Path MTU metric.
    pub mtu: Option<u32>,
    /// Advertised MSS metric.
    pub advmss: Option<u32>,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// `RTPROT_*`: who made it; 2 is the kernel, 3 boot, which is what the reference plugins leave.
    pub protocol: u8,
}

impl Route {
    /// A route in the main table with the kernel's defaults.
    pub fn new(destination: IpNet, index: u32) -> Self {
        Self {
            destination,
            gateway: None,
            index: Some(index),
            table: MAIN,
            priority: None,
            scope: None,
            onlink: false,
            mtu: None,
            advmss: None,
            source: None,
            protocol: libc::RTPROT_BOOT,
        }
    }

    /// Is it for every destination?
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }
}

/// Which routes to list; `None` admits all.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteFilter {
    /// Of one family.
    pub ipv4: Option<bool>,
    /// Of one table.
    pub table: Option<u32>,
    /// Through one link.
    pub index: Option<u32>,
}

impl Netlink {
    /// Adds a route beside what is there; EEXIST for one that is there already.
    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        self.acknowledged(subject(libc::RTM_NEWROUTE, libc::NLM_F_CREATE, route), || format!("add {}", words(route)))
    }

    /// Adds a route to a destination that no other route of the table leads to with that priority; EEXIST where one does.
    pub fn claim_route(&mut self, route: &Route) -> Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.acknowledged(subject(libc::RTM_NEWROUTE, flags, route), || format!("add {}", words(route)))
    }

    /// Adds a route in the place of one with the same destination and priority.
    pub fn replace_route(&mut self, route: &Route) -> Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.acknowledged(subject(libc::RTM_NEWROUTE, flags, route), || format!("replace {}", words(route)))
    }

    /// Deletes a route that agrees with every field. `false` when there is none.
    pub fn delete_route(&mut self, route: &Route) -> Result<bool> {
        match self.acknowledged(subject(libc::RTM_DELROUTE, 0, route), || format!("delete {}", words(route))) {
            Ok(()) => Ok(true),
            Err(error) => match super::errno(&error) {
                Some(Errno::ESRCH | Errno::ENODEV) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// The unicast routes that a filter admits. Of a route with several next hops the first is told.
    pub fn routes(&mut self, filter: RouteFilter) -> Result<Vec<Route>> {
        let mut found = Vec::new();
        for (family, ipv4) in [(libc::AF_INET, true), (libc::AF_INET6, false)] {
            if filter.ipv4.is_none_or(|wanted| wanted == ipv4) {
                found.extend(self.routes_of(family, filter, is_unicast)?);
            }
        }
        Ok(found)
    }

    /// The routes of a family in the main table, those to nowhere (blackhole, unreachable, prohibit) included.
    pub fn main_routes(&mut self, ipv4: bool) -> Result<Vec<Route>> {
        const TO_NOWHERE: [u8; 3] = [libc::RTN_BLACKHOLE, libc::RTN_UNREACHABLE, libc::RTN_PROHIBIT];
        let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 };
        let filter = RouteFilter { table: Some(MAIN), ..RouteFilter::default() };
        self.routes_of(family, filter, |kind| is_unicast(kind) || TO_NOWHERE.contains(&kind))
    }

    /// Index of the link by which packets to an address leave; `None` when nothing leads there.
    pub fn link_towards(&mut self, address: IpAddr) -> Result<Option<u32>> {
        let link = |message: &Message<'_>| {
            let attributes = message.body.get(HEADER..).ok_or(wire::Malformed)?;
            wire::find(attributes, libc::RTA_OIF)?.map(wire::u32).transpose()
        };
        self.route_to(address, link).map(Option::flatten)
    }

    /// What `decode` finds in the route that packets to an address take; `None` when nothing leads there.
    fn route_to<T>(&mut self, address: IpAddr, decode: impl Fn(&Message<'_>) -> Decoded<T>) -> Result<Option<T>> {
        let (family, bits) = if address.is_ipv4() { (libc::AF_INET, 32) } else { (libc::AF_INET6, 128) };
        let mut request = Request::new(libc::RTM_GETROUTE, 0, &header(family, bits, 0, 0, 0, 0));
        request.ip(libc::RTA_DST, address);
        match self.one(request, || format!("look up the route to {address}"), decode) {
            Err(error) => match super::errno(&error) {
                Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL) => Ok(None),
                _ => Err(error),
            },
            found => found,
        }
    }

    /// The unicast routes of all tables that leave by a link, with any of their next hops. What [`Route`] says of a route with
    /// several next hops is about the first of them.
    pub fn routes_by(&mut self, index: u32) -> Result<Vec<Route>> {
        let filter = RouteFilter { index: Some(index), ..RouteFilter::default() };
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            found.extend(self.listed(family, filter, is_unicast, |message, _| leaves_by(message, index))?);
        }
        Ok(found)
    }

    /// Is the address one of the node's own (RTN_LOCAL), on whichever link?
    pub fn is_own_address(&mut self, address: IpAddr) -> Result<bool> {
        let is_local = |message: &Message<'_>| {
            let [_, _, _, _, _, _, _, kind, ..]: [u8; HEADER] = wire::fixed(message.body)?;
            Ok(kind == libc::RTN_LOCAL)
        };
        Ok(self.route_to(address, is_local)?.unwrap_or(false))
    }

    fn routes_of(&mut self, family: i32, filter: RouteFilter, is_of_type: impl Fn(u8) -> bool) -> Result<Vec<Route>> {
        self.listed(family, filter, is_of_type, |_, route| {
            Ok(filter.table.is_none_or(|table| route.table == table)
                && filter.index.is_none_or(|index| route.index == Some(index)))
        })
    }

    /// The routes of a type that the kernel's filter admits, and `is_wanted`: old kernels do not filter.
    fn listed(
        &mut self,
        family: i32,
        filter: RouteFilter,
        is_of_type: impl Fn(u8) -> bool,
        is_wanted: impl Fn(&Message<'_>, &Route) -> Decoded<bool>,
    ) -> Result<Vec<Route>> {
        let mut request = Request::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &header(family, 0, 0, 0, 0, 0));
        if let Some(table) = filter.table {
            request.u32(libc::RTA_TABLE, table);
        }
        if let Some(index) = filter.index {
            request.u32(libc::RTA_OIF, index);
        }
        let listed = self.dump(
            &request,
            || "list routes".to_owned(),
            |message| match decode(message, &is_of_type)? {
                Some(route) => Ok(is_wanted(message, &route)?.then_some(route)),
                None => Ok(None),
            },
        );
        match listed {
            // A filtered dump refuses a table that was never used (ENOENT), a link that is gone (ENODEV) and a family that
            // the kernel lacks (EOPNOTSUPP).
            Err(error) => match super::errno(&error) {
                Some(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(Vec::new()),
                _ => Err(error),
            },
            found => found,
        }
    }

    /// Index of the link of the main table's first default route, IPv4 before IPv6, lowest metric first.
    pub fn default_route_link(&mut self) -> Result<Option<u32>> {
        for ipv4 in [true, false] {
            let filter = RouteFilter { ipv4: Some(ipv4), table: Some(MAIN), index: None };
            let best = self
                .routes(filter)?
                .into_iter()
                .filter(|route| route.is_default() && route.index.is_some())
                .min_by_key(|route| route.priority.unwrap_or(0));
            if let Some(route) = best {
                return Ok(route.index);
            }
        }
        Ok(None)
    }
}

/// `struct rtmsg`.
fn header(family: i32, prefix: u8, protocol: u8, scope: u8, kind: u8, flags: u32) -> [u8; HEADER] {
    let mut bytes = [family as u8, prefix, 0, 0, 0, protocol, scope, kind, 0, 0, 0, 0];
    bytes[8..].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

fn subject(kind: u16, flags: i32, route: &Route) -> Request {
    let family = if route.destination.addr().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let scope = match (route.scope, route.gateway) {
        (Some(scope), _) => scope,
        // IPv6 has no scopes; a link scope there would be ignored.
        (None, None) if family == libc::AF_INET => libc::RT_SCOPE_LINK,
        _ => libc::RT_SCOPE_UNIVERSE,
    };
    let onlink = if route.onlink { RTNH_F_ONLINK } else { 0 };
    let prefix = route.destination.prefix_len();
    let head = header(family, prefix, route.protocol, scope, libc::RTN_UNICAST, onlink);
    let mut request = Request::new(kind, flags | libc::NLM_F_ACK, &head);
    request.u32(libc::RTA_TABLE, route.table);
    if !route.is_default() {
        request.ip(libc::RTA_DST, route.destination.network());
    }
    if let Some(gateway) = route.gateway {
        request.ip(libc::RTA_GATEWAY, gateway);
    }
    if let Some(source) = route.source {
        request.ip(libc::RTA_PREFSRC, source);
    }
    for (attribute, value) in [(libc::RTA_OIF, route.index), (libc::RTA_PRIORITY, route.priority)] {
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
fn words(route: &Route) -> String {
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

fn is_unicast(kind: u8) -> bool {
    kind == libc::RTN_UNICAST
}

fn decode(message: &Message<'_>, is_of_type: &dyn Fn(u8) -> bool) -> Decoded<Option<Route>> {
    let [family, prefix, _, _, table, protocol, scope, kind, flags @ ..]: [u8; HEADER] = wire::fixed(message.body)?;
    let cloned = u32::from_ne_bytes(flags) & libc::RTM_F_CLONED != 0;
    if !is_of_type(kind) || cloned {
        return Ok(None);
    }
    let any = match i32::from(family) {
        libc::AF_INET => IpNet::V4(Ipv4Net::new(Ipv4Addr::UNSPECIFIED, 0).map_err(|_| wire::Malformed)?),
        libc::AF_INET6 => IpNet::V6(Ipv6Net::new(Ipv6Addr::UNSPECIFIED, 0).map_err(|_| wire::Malformed)?),
        _ => return Ok(None),
    };
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
            libc::RTA_MULTIPATH => decode_first_hop(value, &mut route)?,
            _ => {}
        }
    }
    Ok(Some(route))
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

/// `struct rtnexthop { u16 len; u8 flags; u8 hops; int ifindex; }` and its attributes, once per next hop.
fn decode_first_hop(hops: &[u8], route: &mut Route) -> Decoded<()> {
    let length = usize::from(wire::u16(hops)?);
    let hop = hops.get(..length).ok_or(wire::Malformed)?;
    route.index = Some(wire::u32(hop.get(4..8).ok_or(wire::Malformed)?)?);
    for attribute in Attributes::after(hop, 8)? {
        let (kind, value) = attribute?;
        if kind == libc::RTA_GATEWAY {
            route.gateway = Some(wire::ip(value)?);
        }
    }
    Ok(())
}

/// Does a next hop of the route leave by the link? A route by a nexthop object may name no link (sysctl
/// `nexthop_compat_mode`); only a kernel that filters has such objects, and it has looked.
fn leaves_by(message: &Message<'_>, index: u32) -> Decoded<bool> {
    let mut names_none = true;
    for attribute in Attributes::after(message.body, HEADER)? {
        let (kind, value) = attribute?;
        let named = match kind {
            libc::RTA_OIF => vec![wire::u32(value)?],
            libc::RTA_MULTIPATH => links_of_hops(value)?,
            _ => continue,
        };
        names_none &= named.is_empty();
        if named.contains(&index) {
            return Ok(true);
        }
    }
    Ok(names_none)
}

/// The links of all next hops.
fn links_of_hops(mut hops: &[u8]) -> Decoded<Vec<u32>> {
    let mut links = Vec::new();
    while !hops.is_empty() {
        let length = usize::from(wire::u16(hops)?);
        let hop = hops.get(..length).ok_or(wire::Malformed)?;
        links.push(wire::u32(hop.get(4..8).ok_or(wire::Malformed)?)?);
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::netns::testing::as_host;
    use crate::nl::link::{Bridge, NewKind, NewLink};
    use crate::poll::PollTimer;

    fn on_a_link(test: impl FnOnce(&mut Netlink, u32) + Send) {
        as_host(|| {
            let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
            let name = "br0".parse().unwrap();
            let kind = NewKind::Bridge(Bridge::default());
            netlink.add_link(&NewLink { up: true, ..NewLink::new(&name, kind) }).unwrap();
            let index = netlink.link_by_name(&name).unwrap().unwrap().index;
            netlink.add_address(index, "192.0.2.7/24".parse().unwrap(), false).unwrap();
            netlink.add_address(index, "2001:db8::7/64".parse().unwrap(), true).unwrap();
            test(&mut netlink, index);
        });
    }

    fn main_routes(netlink: &mut Netlink) -> Vec<Route> {
        let filter = RouteFilter { table: Some(MAIN), ..RouteFilter::default() };
        let mut routes = netlink.routes(filter).unwrap();
        routes.retain(|route| route.protocol == libc::RTPROT_BOOT);
        routes
    }

    #[test]
    fn kernel_a_route_keeps_every_field() {
        on_a_link(|netlink, index| {
            let v4 = Route {
                gateway: Some("192.0.2.1".parse().unwrap()),
                priority: Some(50),
                scope: Some(libc::RT_SCOPE_UNIVERSE),
                mtu: Some(1400),
                advmss: Some(1360),
                source: Some("192.0.2.7".parse().unwrap()),
                ..Route::new("198.51.100.0/24".parse().unwrap(), index)
            };
            let v6 = Route {
                gateway: Some("2001:db8::1".parse().unwrap()),
                priority: Some(70),
                scope: Some(libc::RT_SCOPE_UNIVERSE),
                ..Route::new("::/0".parse().unwrap(), index)
            };
            let onlink = Route {
                gateway: Some("203.0.113.1".parse().unwrap()),
                priority: None,
                scope: Some(libc::RT_SCOPE_UNIVERSE),
                onlink: true,
                ..Route::new("198.51.101.0/24".parse().unwrap(), index)
            };
            for route in [&v4, &onlink, &v6] {
                netlink.add_route(route).unwrap();
            }
            assert_eq!(main_routes(netlink), [v4, onlink, v6]);
            assert_eq!(super::super::errno(&netlink.add_route(&v4).unwrap_err()), Some(Errno::EEXIST));
            assert!(netlink.delete_route(&v4).unwrap());
            assert!(!netlink.delete_route(&v4).unwrap());
        });
    }

    #[test]
    fn kernel_a_route_in_another_table_is_found_there_only() {
        on_a_link(|netlink, index| {
            let route = Route { table: 1000, ..Route::new("0.0.0.0/0".parse().unwrap(), index) };
            let filter = |table| RouteFilter { table: Some(table), ..RouteFilter::default() };
            assert_eq!(netlink.routes(filter(1000)).unwrap(), []);
            netlink.add_route(&route).unwrap();
            assert_eq!(netlink.routes(filter(1000)).unwrap().len(), 1);
            assert_eq!(netlink.default_route_link().unwrap(), None);
        });
    }

    #[test]
    fn kernel_replacing_a_default_route_leaves_one() {
        on_a_link(|netlink, index| {
            let all = "0.0.0.0/0".parse().unwrap();
            netlink
                .add_route(&Route { gateway: Some("192.0.2.1".parse().unwrap()), ..Route::new(all, index) })
                .unwrap();
            let second = Route { gateway: Some("192.0.2.2".parse().unwrap()), ..Route::new(all, index) };
            netlink.replace_route(&second).unwrap();
            let gateways: Vec<_> = main_routes(netlink).iter().map(|route| route.gateway).collect();
            assert_eq!(gateways, [second.gateway]);
            assert_eq!(netlink.default_route_link().unwrap(), Some(index));
        });
    }

    #[test]
    fn kernel_an_unreachable_gateway_is_refused_with_the_kernels_words() {
        on_a_link(|netlink, index| {
            let gateway = Some("203.0.113.9".parse().unwrap());
            let error = netlink.add_route(&Route { gateway, ..Route::new("198.51.100.0/24".parse().unwrap(), index) });
            assert_eq!(
                error.unwrap_err().to_string(),
                format!(
                    "add route 198.51.100.0/24 via 203.0.113.9 on link {index}: Network is unreachable (Nexthop has invalid gateway)"
                )
            );
        });
    }

    #[test]
    fn kernel_routes_by_a_link_are_those_of_any_next_hop_and_table() {
        #![expect(clippy::disallowed_methods, reason = "`ip` of iproute2 makes routes with several next hops")]
        on_a_link(|netlink, index| {
            let ip = |line: &str| {
                let done = std::process::Command::new("ip").args(line.split(' ')).output().unwrap();
                assert!(done.status.success(), "{line}: {done:?}");
            };
            let name = "br1".parse().unwrap();
            netlink.add_link(&NewLink { up: true, ..NewLink::new(&name, NewKind::Bridge(Bridge::default())) }).unwrap();
            let second = netlink.link_by_name(&name).unwrap().unwrap().index;
            netlink.add_address(second, "198.51.100.5/24".parse().unwrap(), true).unwrap();
            ip("route add default nexthop via 192.0.2.1 dev br0 nexthop via 198.51.100.1 dev br1");
            ip("route add 10.0.0.0/8 via 198.51.100.1 table 7");
            ip("-6 route add default dev br1");
            ip("route add blackhole 10.9.0.0/16");
            let told = |netlink: &mut Netlink, index| -> Vec<String> {
                let routes = netlink.routes_by(index).unwrap();
                let mut told: Vec<_> = routes.iter().map(|r| format!("{} {}", r.destination, r.table)).collect();
                told.retain(|text| !text.starts_with("f"));
                told.sort();
                told
            };
            let all = ["0.0.0.0/0 254", "10.0.0.0/8 7", "198.51.100.0/24 254", "::/0 254"];
            assert_eq!(told(netlink, second), all);
            assert!(told(netlink, index).contains(&"0.0.0.0/0 254".to_owned()));
            assert_eq!(told(netlink, 4711), Vec::<String>::new());
        });
    }

    #[test]
    fn kernel_the_nodes_own_addresses_are_told_from_others() {
        on_a_link(|netlink, index| {
            netlink.add_address(index, "192.0.2.77/24".parse().unwrap(), true).unwrap();
            // The kernel gives an IPv6 address its route a moment later.
            let mut timer = PollTimer::until(Instant::now() + Duration::from_secs(5));
            while !netlink.is_own_address("2001:db8::7".parse().unwrap()).unwrap() && timer.pause() {}
            for (address, is_own) in [
                ("192.0.2.77", true),
                ("192.0.2.78", false),
                ("2001:db8::7", true),
                ("2001:db8::8", false),
                ("203.0.113.1", false),
            ] {
                assert_eq!(netlink.is_own_address(address.parse().unwrap()).unwrap(), is_own, "{address}");
            }
        });
    }
}
