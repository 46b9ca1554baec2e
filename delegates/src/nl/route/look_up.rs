//! Where packets to an address go, as the kernel answers by all its tables and rules.

use std::net::IpAddr;

use nix::errno::Errno;
use nix::libc;

use super::HEADER;
use super::encode::header;
use crate::error::Result;
use crate::nl::Netlink;
use crate::nl::wire::{self, Decoded, Message, Request};

// linux/rtnetlink.h: a next hop of the other family.
const RTA_VIA: u16 = 18;

impl Netlink {
    /// Index of the link by which packets to an address leave; `None` when nothing leads there.
    pub fn link_towards(&mut self, address: IpAddr) -> Result<Option<u32>> {
        let link = |message: &Message<'_>| {
            let attributes = message.body.get(HEADER..).ok_or(wire::Malformed)?;
            wire::find(attributes, libc::RTA_OIF)?.map(wire::u32).transpose()
        };
        self.route_to(address, link).map(Option::flatten)
    }

    /// Index of the link by which packets to an address leave, where the address is one hop away; `None` where a router is between.
    pub fn link_next_to(&mut self, address: IpAddr) -> Result<Option<u32>> {
        let link = |message: &Message<'_>| {
            let attributes = message.body.get(HEADER..).ok_or(wire::Malformed)?;
            let is_near =
                wire::find(attributes, libc::RTA_GATEWAY)?.is_none() && wire::find(attributes, RTA_VIA)?.is_none();
            let [_, _, _, _, _, _, _, kind, ..]: [u8; HEADER] = wire::fixed(message.body)?;
            let link = wire::find(attributes, libc::RTA_OIF)?.filter(|_| is_near && kind == libc::RTN_UNICAST);
            link.map(wire::u32).transpose()
        };
        self.route_to(address, link).map(Option::flatten)
    }

    /// Is the address one of the node's own (RTN_LOCAL), on whichever link?
    pub fn is_own_address(&mut self, address: IpAddr) -> Result<bool> {
        let is_local = |message: &Message<'_>| {
            let [_, _, _, _, _, _, _, kind, ..]: [u8; HEADER] = wire::fixed(message.body)?;
            Ok(kind == libc::RTN_LOCAL)
        };
        Ok(self.route_to(address, is_local)?.unwrap_or(false))
    }

    /// What `decode` finds in the route that packets to an address take; `None` when nothing leads there.
    fn route_to<T>(&mut self, address: IpAddr, decode: impl Fn(&Message<'_>) -> Decoded<T>) -> Result<Option<T>> {
        let (family, bits) = if address.is_ipv4() { (libc::AF_INET, 32) } else { (libc::AF_INET6, 128) };
        let mut request = Request::new(libc::RTM_GETROUTE, 0, &header(family, bits, 0, 0, 0, 0));
        request.ip(libc::RTA_DST, address);
        match self.one(request, || format!("look up the route to {address}"), decode) {
            Err(error) => match crate::nl::errno(&error) {
                Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL) => Ok(None),
                _ => Err(error),
            },
            found => found,
        }
    }
}
