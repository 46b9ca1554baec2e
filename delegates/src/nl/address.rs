//! Addresses of links.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket as KernelSocket, SocketAddr};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use super::socket::Netlink;
use super::wire::{self, Attributes, Decoded, Message, Request};
use crate::error::{Error, Result};

/// Bytes of `struct ifaddrmsg`.
const HEADER: usize = 8;

/// An address as the kernel holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of its link.
    pub index: u32,
    /// Address and prefix length; host bits are kept.
    pub net: IpNet,
    /// `RT_SCOPE_*`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// Set by somebody, for good; not from a router's advertisement, nor with a lifetime.
    pub permanent: bool,
    /// Duplicate address detection still runs, and the address cannot be used before it ends (IPv6).
    pub tentative: bool,
    /// Duplicate address detection found the address elsewhere (IPv6).
    pub dad_failed: bool,
}

impl Netlink {
    /// Puts an address on a link; EEXIST when it has it. `no_dad` makes an IPv6 address usable at once (IFA_F_NODAD).
    /// IPv4 gets the broadcast address of its subnet, as from the reference plugins.
    pub fn add_address(&mut self, index: u32, net: IpNet, no_dad: bool) -> Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
        let mut request = subject(libc::RTM_NEWADDR, flags, index, net);
        if let IpNet::V4(v4) = net
            && let Some(broadcast) = broadcast(v4)
        {
            request.ip(libc::IFA_BROADCAST, broadcast.into());
        }
        if no_dad && net.addr().is_ipv6() {
            request.u32(libc::IFA_FLAGS, libc::IFA_F_NODAD);
        }
        self.acknowledged(request, || format!("add address {net} to link {index}"))
    }

    /// Takes an address off a link. `false` when it was not there, or the link is gone.
    pub fn delete_address(&mut self, index: u32, net: IpNet) -> Result<bool> {
        let request = subject(libc::RTM_DELADDR, libc::NLM_F_ACK, index, net);
        match self.acknowledged(request, || format!("delete address {net} of link {index}")) {
            Ok(()) => Ok(true),
            Err(error) => match super::errno(&error) {
                Some(nix::errno::Errno::EADDRNOTAVAIL | nix::errno::Errno::ENODEV) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// The addresses of one link, or of all, of both families.
    pub fn addresses(&mut self, index: Option<u32>) -> Result<Vec<Address>> {
        let request =
            Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &header(libc::AF_UNSPEC, 0, 0, index.unwrap_or(0)));
        let listed = self.dump(
            &request,
            || "list addresses".to_owned(),
            |message| Ok(decode(message)?.filter(|address| index.is_none_or(|index| address.index == index))),
        );
        match listed {
            // A filtered dump refuses the index of a link that is gone.
            Err(error) if super::errno(&error) == Some(nix::errno::Errno::ENODEV) => Ok(Vec::new()),
            other => other,
        }
    }
}

/// Tells when an IPv6 address of a namespace comes, goes, or has passed or failed the detection of duplicates.
pub struct AddressChanges(KernelSocket);

impl AddressChanges {
    /// Changes from now on, in the thread's current namespace.
    pub fn open() -> Result<Self> {
        let open = || {
            let mut socket = KernelSocket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            socket.add_membership(libc::RTNLGRP_IPV6_IFADDR)?;
            Ok(socket)
        };
        open().map(Self).map_err(Error::io("listen to changes of addresses"))
    }

    /// Waits for one, no longer than until then.
    pub fn wait(&mut self, until: Instant) -> Result<()> {
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::io("wait for changes of addresses")(errno.into())),
        }
        // What they say is looked up; a pod that sends any itself can only make us look.
        while matches!(recv(self.0.as_raw_fd(), &mut [0; 8], MsgFlags::MSG_DONTWAIT), Ok(1..)) {}
        Ok(())
    }
}

/// `struct ifaddrmsg`.
fn header(family: i32, prefix: u8, scope: u8, index: u32) -> [u8; HEADER] {
    let mut bytes = [family as u8, prefix, 0, scope, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&index.to_ne_bytes());
    bytes
}

fn subject(kind: u16, flags: i32, index: u32, net: IpNet) -> Request {
    let family = if net.addr().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // The kernel derives no scope itself: loopback addresses belong to the host.
    let scope = if net.addr().is_loopback() { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE };
    let mut request = Request::new(kind, flags, &header(family, net.prefix_len(), scope, index));
    request.ip(libc::IFA_LOCAL, net.addr());
    request.ip(libc::IFA_ADDRESS, net.addr());
    request
}

fn broadcast(net: Ipv4Net) -> Option<Ipv4Addr> {
    (net.prefix_len() < 31).then(|| net.broadcast())
}

fn decode(message: &Message<'_>) -> Decoded<Option<Address>> {
    let [_, prefix, short_flags, scope, index @ ..]: [u8; HEADER] = wire::fixed(message.body)?;
    let mut flags = u32::from(short_flags);
    let mut local = None;
    let mut address = None;
    for attribute in Attributes::after(message.body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            libc::IFA_LOCAL => local = Some(wire::ip(value)?),
            libc::IFA_ADDRESS => address = Some(wire::ip(value)?),
            libc::IFA_FLAGS => flags = wire::u32(value)?,
            _ => {}
        }
    }
    // IFA_ADDRESS is the peer's on a point-to-point link; IPv6 sends no IFA_LOCAL without a peer.
    let ip: Option<IpAddr> = local.or(address);
    let Some(net) = ip.and_then(|ip| IpNet::new(ip, prefix).ok()) else { return Ok(None) };
    Ok(Some(Address {
        index: u32::from_ne_bytes(index),
        net,
        scope,
        permanent: flags & libc::IFA_F_PERMANENT != 0,
        tentative: flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_OPTIMISTIC) == libc::IFA_F_TENTATIVE,
        dad_failed: flags & libc::IFA_F_DADFAILED != 0,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::testing::as_host;

    #[test]
    fn kernel_addresses_are_added_listed_and_deleted() {
        as_host(|| {
            let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
            let [v4, v6]: [IpNet; 2] = ["192.0.2.7/24".parse().unwrap(), "2001:db8::7/64".parse().unwrap()];
            netlink.add_address(1, v4, false).unwrap();
            netlink.add_address(1, v6, true).unwrap();
            let again = netlink.add_address(1, v4, false).unwrap_err();
            assert_eq!(super::super::errno(&again), Some(nix::errno::Errno::EEXIST));
            let listed = netlink.addresses(Some(1)).unwrap();
            assert_eq!(listed.iter().map(|address| address.net).collect::<Vec<_>>(), [v4, v6]);
            assert!(listed.iter().all(|address| !address.tentative && !address.dad_failed && address.scope == 0));
            assert_eq!(netlink.addresses(None).unwrap(), listed);
            assert_eq!(netlink.addresses(Some(4711)).unwrap(), []);
            assert!(netlink.delete_address(1, v6).unwrap());
            assert!(!netlink.delete_address(1, v6).unwrap());
            assert!(!netlink.delete_address(4711, v4).unwrap());
        });
    }

    #[test]
    fn the_broadcast_address_is_the_subnets_last_where_there_is_one() {
        assert_eq!(broadcast("10.1.2.3/24".parse().unwrap()), Some(Ipv4Addr::new(10, 1, 2, 255)));
        assert_eq!(broadcast("10.1.2.3/31".parse().unwrap()), None);
    }
}
