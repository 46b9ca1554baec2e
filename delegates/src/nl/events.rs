//! What the kernel tells unasked: changes of links, neighbours, forwarding entries and addresses.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket as KernelSocket, SocketAddr};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};

use super::wire::{self, Attributes, Decoded, Messages};
use crate::error::{Error, Result};

/// Bytes of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// As large as the kernel's largest message.
const BUFFER: usize = 32 * 1024;
/// Room for events that nobody has read yet: a thousand changes of entries.
const QUEUE: u32 = 1 << 20;

/// Something has changed, by whomever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link was made, changed or removed.
    Link {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// Index of the bridge or other master that it is a port of.
        master: Option<u32>,
        /// It is a vxlan device.
        is_vxlan: bool,
        /// It was removed: from the node, or as the port of a bridge.
        is_gone: bool,
    },
    /// A neighbour or forwarding entry of a link was made, changed or removed.
    Neighbour {
        /// Index of the link.
        index: u32,
    },
    /// An address of the node came or went.
    Address,
    /// A route of a table came or went, or a rule that leads to it.
    Route {
        /// The table.
        table: u32,
    },
    /// An nftables table, or something in it, was made, changed or removed.
    Firewall {
        /// Its name.
        table: String,
        /// Name of the chain that it is about.
        chain: Option<String>,
    },
    /// So much has changed that the kernel gave up telling: anything may be otherwise.
    Lost,
}

/// The events of the namespace that the thread was in.
pub struct Events {
    socket: KernelSocket,
    /// Those of nftables; absent where the kernel has none, and before it has them.
    firewall: Option<KernelSocket>,
    buffer: Vec<u8>,
}

/// Of links, addresses, routes and rules.
const GROUPS: [u32; 8] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_RULE,
];
// linux/netfilter/nfnetlink.h and nf_tables.h: every message of nftables names its table so.
const NFNLGRP_NFTABLES: u32 = 7;
const NFTA_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_CHAIN_NAME: u16 = 3;
/// Bytes of `struct nfgenmsg`.
const FIREWALL_HEADER: usize = 4;
// linux/fib_rules.h
const RULE_HEADER: usize = 12;
const FRA_TABLE: u16 = 15;

impl Events {
    /// Events from now on.
    pub fn open() -> Result<Self> {
        let open = |protocol, groups: &[u32]| {
            let mut socket = KernelSocket::new(protocol)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            // More than the node's limit for everybody takes a privilege that an agent may lack; the rest is still heard.
            let _ = socket.set_rx_buf_sz(QUEUE);
            for group in groups {
                socket.add_membership(*group)?;
            }
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let failed = |error: std::io::Error| Error::io("listen to the kernel's events of links")(error);
        // Who does not hear the firewall looks at it from time to time.
        let firewall = open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES]).ok();
        Ok(Self { socket: open(NETLINK_ROUTE, &GROUPS).map_err(failed)?, firewall, buffer: vec![0; BUFFER] })
    }

    /// What has happened since the last call; nothing where nothing has.
    pub fn read(&mut self) -> Result<Vec<Event>> {
        let mut events: Vec<Event> = Vec::new();
        let sockets = [Some((&self.socket, false)), self.firewall.as_ref().map(|socket| (socket, true))];
        let mut left = sockets.into_iter().flatten();
        let mut now = left.next();
        while let Some((socket, is_firewall)) = now {
            match recv(socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::EAGAIN) => now = left.next(),
                Ok(length) => {
                    for event in decode(&self.buffer[..length], is_firewall) {
                        // Thousands of entries of one link are one event.
                        if events.last() != Some(&event) {
                            events.push(event);
                        }
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => events.push(Event::Lost),
                Err(errno) => return Err(Error::io("read the kernel's events of links")(errno.into())),
            }
        }
        Ok(events)
    }

    /// What can be read when something has happened.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [Some(&self.socket), self.firewall.as_ref()].into_iter().flatten().map(AsFd::as_fd)
    }
}

/// The events of a datagram; what cannot be read may have been anything.
fn decode(datagram: &[u8], is_firewall: bool) -> Vec<Event> {
    let event = |message: Decoded<wire::Message<'_>>| -> Decoded<Option<Event>> {
        let wire::Message { kind, body, .. } = message?;
        if is_firewall {
            let attributes = body.get(FIREWALL_HEADER..).unwrap_or_default();
            let at = match i32::from(kind & 0xff) {
                // The end of a commit names none.
                libc::NFT_MSG_NEWGEN => return Ok(None),
                libc::NFT_MSG_NEWRULE | libc::NFT_MSG_DELRULE => Some(NFTA_RULE_CHAIN),
                libc::NFT_MSG_NEWCHAIN | libc::NFT_MSG_DELCHAIN => Some(NFTA_CHAIN_NAME),
                _ => None,
            };
            let chain = at.map(|at| wire::find(attributes, at)).transpose()?.flatten().map(wire::text);
            let table = wire::find(attributes, NFTA_TABLE)?.map(wire::text);
            return Ok(table.map(|table| Event::Firewall { table, chain }));
        }
        match kind {
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE | libc::RTM_NEWRULE | libc::RTM_DELRULE => {
                let head: [u8; RULE_HEADER] = wire::fixed(body)?;
                // RTA_TABLE and FRA_TABLE; what needs no more than a byte is in the header alone on old kernels.
                let is_route = matches!(kind, libc::RTM_NEWROUTE | libc::RTM_DELROUTE);
                let attribute = if is_route { libc::RTA_TABLE } else { FRA_TABLE };
                let table = wire::find(&body[RULE_HEADER..], attribute)?.map(wire::u32).transpose()?;
                Ok(Some(Event::Route { table: table.unwrap_or(head[4].into()) }))
            }
            libc::RTM_NEWLINK | libc::RTM_DELLINK => link(body, kind == libc::RTM_DELLINK).map(Some),
            libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
                let head: [u8; 12] = wire::fixed(body)?;
                Ok(Some(Event::Neighbour { index: wire::u32(&head[4..8])? }))
            }
            libc::RTM_NEWADDR | libc::RTM_DELADDR => Ok(Some(Event::Address)),
            _ => Ok(None),
        }
    };
    Messages(datagram).filter_map(|message| event(message).unwrap_or(Some(Event::Lost))).collect()
}

fn link(body: &[u8], is_gone: bool) -> Decoded<Event> {
    let head: [u8; LINK_HEADER] = wire::fixed(body)?;
    let (mut name, mut master, mut is_vxlan) = (String::new(), None, false);
    for attribute in Attributes::after(body, LINK_HEADER)? {
        match attribute? {
            (libc::IFLA_IFNAME, value) => name = wire::text(value),
            (libc::IFLA_MASTER, value) => master = Some(wire::u32(value)?),
            (libc::IFLA_LINKINFO, value) => {
                is_vxlan = wire::find(value, libc::IFLA_INFO_KIND)?.map(wire::text).as_deref() == Some("vxlan");
            }
            _ => {}
        }
    }
    Ok(Event::Link { index: wire::u32(&head[4..8])?, name, master, is_vxlan, is_gone })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::netns::testing::as_host;
    use crate::nl::Netlink;
    use crate::nl::link::{Bridge, NewKind, NewLink};
    use crate::nl::route::Route;
    use crate::nl::rule::Rule;

    #[test]
    fn kernel_changes_of_links_neighbours_and_addresses_are_told() {
        as_host(|| {
            let mut events = Events::open().unwrap();
            assert_eq!(events.read().unwrap(), []);
            let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
            let name = "br0".parse().unwrap();
            netlink.add_link(&NewLink { up: true, ..NewLink::new(&name, NewKind::Bridge(Bridge::default())) }).unwrap();
            let index = netlink.link_by_name(&name).unwrap().unwrap().index;
            let is_link = |event: &Event, is_gone: bool| matches!(event, Event::Link { index: i, name, is_gone: gone, .. } if *i == index && name == "br0" && *gone == is_gone);
            assert!(events.read().unwrap().iter().any(|event| is_link(event, false)));
            netlink.add_address(index, "192.0.2.1/24".parse().unwrap(), true).unwrap();
            assert!(events.read().unwrap().contains(&Event::Address));
            netlink.set_neighbour(index, "192.0.2.9".parse().unwrap(), attachments::names::Mac([2; 6])).unwrap();
            assert!(events.read().unwrap().contains(&Event::Neighbour { index }));
            let route = Route { table: 1 << 31 | 7, ..Route::new("10.42.0.0/24".parse().unwrap(), index) };
            netlink.add_route(&route).unwrap();
            assert!(events.read().unwrap().contains(&Event::Route { table: 1 << 31 | 7 }));
            let rule =
                Rule { ipv4: true, incoming: Some(name.clone()), table: 1 << 30 | 9, protocol: 121, ..Rule::default() };
            netlink.add_rule(&rule).unwrap();
            assert!(events.read().unwrap().contains(&Event::Route { table: 1 << 30 | 9 }));
            netlink.delete_link(index).unwrap();
            assert!(events.read().unwrap().iter().any(|event| is_link(event, true)));
        });
    }

    #[test]
    fn kernel_on_host_changes_of_the_packet_filter_are_told() {
        as_host(|| {
            let mut events = Events::open().unwrap();
            crate::nl::nft::testing::nft(&["add", "table", "inet", "told"], "");
            assert!(events.read().unwrap().contains(&Event::Firewall { table: "told".to_owned(), chain: None }));
        });
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (decode(&body, true), decode(&body, false), link(&body, false));
        }
    }
}
