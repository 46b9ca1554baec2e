//! Which routes there are.

use nix::errno::Errno;
use nix::libc;

use super::decode::decode;
use super::encode::header;
use super::{MAIN, Route};
use crate::error::Result;
use crate::nl::Netlink;
use crate::nl::wire::Request;

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
    /// The unicast routes that a filter admits, each next hop of a route for itself.
    pub fn routes(&mut self, filter: RouteFilter) -> Result<Vec<Route>> {
        let mut found = Vec::new();
        for (family, ipv4) in [(libc::AF_INET, true), (libc::AF_INET6, false)] {
            if filter.ipv4.is_none_or(|wanted| wanted == ipv4) {
                found.extend(self.routes_of(family, filter, is_unicast)?);
            }
        }
        Ok(found)
    }

    /// The routes of a family in a table, those to nowhere (blackhole, unreachable, prohibit) included.
    pub fn table_routes(&mut self, ipv4: bool, table: u32) -> Result<Vec<Route>> {
        const TO_NOWHERE: [u8; 3] = [libc::RTN_BLACKHOLE, libc::RTN_UNREACHABLE, libc::RTN_PROHIBIT];
        let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 };
        let filter = RouteFilter { table: Some(table), ..RouteFilter::default() };
        self.routes_of(family, filter, |kind| is_unicast(kind) || TO_NOWHERE.contains(&kind))
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

    fn routes_of(&mut self, family: i32, filter: RouteFilter, is_of_type: impl Fn(u8) -> bool) -> Result<Vec<Route>> {
        // Old kernels do not filter. Those that know nexthop objects do, and may keep the links of an object's hops to themselves (sysctl
        // `nexthop_compat_mode`).
        let leaves_by = |route: &Route, index| match route.index {
            Some(by) => by == index,
            None => route.nexthop.is_some(),
        };
        let mut request = Request::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &header(family, 0, 0, 0, 0, 0));
        if let Some(table) = filter.table {
            request.u32(libc::RTA_TABLE, table);
        }
        if let Some(index) = filter.index {
            request.u32(libc::RTA_OIF, index);
        }
        let listed = self.dump(&request, || "list routes".to_owned(), |message| decode(message, &is_of_type).map(Some));
        let is_wanted = |route: &Route| {
            filter.table.is_none_or(|table| route.table == table)
                && filter.index.is_none_or(|index| leaves_by(route, index))
        };
        match listed.map(|listed| listed.into_iter().flatten().filter(is_wanted).collect()) {
            // A filtered dump refuses a table that was never used (ENOENT), a link that is gone (ENODEV) and a family that
            // the kernel lacks (EOPNOTSUPP).
            Err(error) => match crate::nl::errno(&error) {
                Some(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(Vec::new()),
                _ => Err(error),
            },
            found => found,
        }
    }
}

fn is_unicast(kind: u8) -> bool {
    kind == libc::RTN_UNICAST
}
