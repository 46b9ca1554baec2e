//! What the kernel tells unasked: changes of links, neighbours, forwarding entries and addresses.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
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
    },
    /// A neighbour or forwarding entry of a link was made, changed or removed.
    Neighbour {
        /// Index of the link.
        index: u32,
    },
    /// An address of the node came or went.
    Address,
    /// So much has changed that the kernel gave up telling: anything may be otherwise.
    Lost,
}

/// The events of the namespace that the thread was in.
pub struct Events {
    socket: KernelSocket,
    buffer: Vec<u8>,
}

impl Events {
    /// Events from now on.
    pub fn open() -> Result<Self> {
        let open = || {
            let mut socket = KernelSocket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            // More than the node's limit for everybody takes a privilege that an agent may lack; the rest is still heard.
            let _ = socket.set_rx_buf_sz(QUEUE);
            for group in [libc::RTNLGRP_LINK, libc::RTNLGRP_NEIGH, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR]
            {
                socket.add_membership(group)?;
            }
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let failed = |error: std::io::Error| Error::io("listen to the kernel's events of links")(error);
        Ok(Self { socket: open().map_err(failed)?, buffer: vec![0; BUFFER] })
    }

    /// What has happened since the last call; nothing where nothing has.
    pub fn read(&mut self) -> Result<Vec<Event>> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::EAGAIN) => return Ok(events),
                Ok(length) => {
                    for event in decode(&self.buffer[..length]) {
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
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The events of a datagram; what cannot be read may have been anything.
fn decode(datagram: &[u8]) -> Vec<Event> {
    let event = |message: Decoded<wire::Message<'_>>| -> Decoded<Option<Event>> {
        let wire::Message { kind, body, .. } = message?;
        match kind {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => link(body).map(Some),
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

fn link(body: &[u8]) -> Decoded<Event> {
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
    Ok(Event::Link { index: wire::u32(&head[4..8])?, name, master, is_vxlan })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::netns::testing::as_host;
    use crate::nl::Netlink;
    use crate::nl::link::{Bridge, NewKind, NewLink};

    #[test]
    fn kernel_changes_of_links_neighbours_and_addresses_are_told() {
        as_host(|| {
            let mut events = Events::open().unwrap();
            assert_eq!(events.read().unwrap(), []);
            let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
            let name = "br0".parse().unwrap();
            netlink.add_link(&NewLink { up: true, ..NewLink::new(&name, NewKind::Bridge(Bridge::default())) }).unwrap();
            let index = netlink.link_by_name(&name).unwrap().unwrap().index;
            let is_link =
                |event: &Event| matches!(event, Event::Link { index: i, name, .. } if *i == index && name == "br0");
            assert!(events.read().unwrap().iter().any(is_link));
            netlink.add_address(index, "192.0.2.1/24".parse().unwrap(), true).unwrap();
            assert!(events.read().unwrap().contains(&Event::Address));
            netlink.set_neighbour(index, "192.0.2.9".parse().unwrap(), attachments::names::Mac([2; 6])).unwrap();
            assert!(events.read().unwrap().contains(&Event::Neighbour { index }));
            netlink.delete_link(index).unwrap();
            assert!(events.read().unwrap().iter().any(is_link));
        });
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (decode(&body), link(&body));
        }
    }
}
