//! Routes: what one is, and how it is added, replaced and deleted. The module `list` tells which there are, `look_up` where an
//! address leads.

mod decode;
mod encode;
mod list;
mod look_up;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use nix::libc;

pub use self::list::RouteFilter;

use self::encode::{subject, words};
use super::socket::Netlink;
use crate::error::Result;

/// Bytes of `struct rtmsg`.
const HEADER: usize = 12;
/// The main table.
pub const MAIN: u32 = libc::RT_TABLE_MAIN as u32;

// linux/rtnetlink.h, not in libc.
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const RTNH_F_ONLINK: u32 = 4;
const RTA_NH_ID: u16 = 30;

/// A unicast route by one next hop, or without link and next hop one to nowhere (blackhole). One with several next hops is as many of these:
/// IPv6 merges routes of equal metric into one.
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
    /// The route has further next hops.
    pub is_one_of_several: bool,
    /// The nexthop object that names its next hops (`ip nexthop`), where one does.
    pub nexthop: Option<u32>,
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
            is_one_of_several: false,
            nexthop: None,
        }
    }

    /// Is it for every destination?
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }

    /// Do the route's other next hops go with this one? The kernel takes single ones out of IPv6 routes alone, and none out of a route
    /// whose next hops an object names.
    pub fn goes_whole(&self) -> bool {
        self.nexthop.is_some() || self.is_one_of_several && self.destination.addr().is_ipv4()
    }

    /// Is it the same route but for the next hop?
    pub fn is_beside(&self, other: &Self) -> bool {
        (self.destination, self.table, self.priority) == (other.destination, other.table, other.priority)
    }
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

    /// Deletes a route that agrees with every field, with all its next hops where it [goes whole](Route::goes_whole). `false` when there is
    /// none.
    pub fn delete_route(&mut self, route: &Route) -> Result<bool> {
        match self.acknowledged(subject(libc::RTM_DELROUTE, 0, route), || format!("delete {}", words(route))) {
            Ok(()) => Ok(true),
            Err(error) => match super::errno(&error) {
                Some(Errno::ESRCH | Errno::ENODEV) => Ok(false),
                _ => Err(error),
            },
        }
    }
}
