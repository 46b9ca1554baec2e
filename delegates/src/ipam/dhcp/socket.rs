//! The socket by which a link without an address talks: whole frames, of DHCP alone.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use attachments::names::Mac;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket};
use socket2::{SockFilter, SockRef};

use super::client::Wire;
use super::frame::{self, CLIENT_PORT, Route};
use super::message::Message;
use crate::error::{Error, Result};
use crate::nl::link::Link;
use crate::sandbox::Sandbox;

/// What goes past it is not for us: datagrams of IPv4 to the port of clients, whole ones. The kernel looks, so that the traffic of a
/// busy pod costs nothing (bpf of packet(7); the numbers are those of linux/filter.h).
const FILTER: [SockFilter; 9] = [
    // The protocol at 23 is UDP, or it is nothing.
    SockFilter::new(0x30, 0, 0, 23),
    SockFilter::new(0x15, 0, 5, 17),
    // Flags and offset at 20: no fragment.
    SockFilter::new(0x28, 0, 0, 20),
    SockFilter::new(0x45, 3, 0, 0x3fff),
    // Behind the header, whose length is at 14, the port.
    SockFilter::new(0xb1, 0, 0, 14),
    SockFilter::new(0x48, 0, 0, 16),
    SockFilter::new(0x15, 1, 0, CLIENT_PORT as u32),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, 0xffff),
];

/// An open socket on one link of a pod.
pub struct RawSocket {
    fd: OwnedFd,
    name: String,
    /// Answers to an address that the pod has reach a port that is open: otherwise the pod's kernel would tell the server that
    /// nobody is there. Nothing is read from it; a program of the pod may have the port instead.
    _port: Option<UdpSocket>,
}

impl RawSocket {
    /// Opens it on a link of the pod.
    pub fn open(sandbox: &Sandbox, link: &Link) -> Result<Self> {
        sandbox.netns().enter(|| Self::open_here(link))
    }

    fn open_here(link: &Link) -> Result<Self> {
        let failed = |errno: Errno| Error::Kernel {
            op: op("open a packet socket on", &link.name),
            errno: errno as i32,
            detail: String::new(),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthIp).map_err(failed)?;
        SockRef::from(&fd).attach_filter(&FILTER).map_err(Error::io(op("filter packets of", &link.name)))?;
        // The one place where a link's address as a socket takes it comes without writing it byte by byte. It names no
        // protocol, so the socket keeps its own.
        let addresses = getifaddrs().map_err(failed)?;
        let address = addresses.filter_map(|one| one.address).find(|address| {
            address.as_link_addr().is_some_and(|address| usize::try_from(link.index) == Ok(address.ifindex()))
        });
        let address = address.ok_or_else(|| failed(Errno::ENODEV))?;
        let address = address.as_link_addr().ok_or_else(|| failed(Errno::ENODEV))?;
        bind(fd.as_raw_fd(), address).map_err(failed)?;
        let port = UdpSocket::bind(("0.0.0.0", CLIENT_PORT)).ok();
        Ok(Self { fd, name: link.name.clone(), _port: port })
    }

    /// Tells the neighbours who has the address now.
    pub fn announce(&self, mac: Mac, address: std::net::Ipv4Addr) -> Result<()> {
        self.put(&frame::announcement(mac, address))
    }

    fn put(&self, frame: &[u8]) -> Result<()> {
        send(self.fd.as_raw_fd(), frame, MsgFlags::empty())
            .map(drop)
            .map_err(Error::kernel(op("send a frame on", &self.name)))
    }
}

impl Wire for RawSocket {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn send(&mut self, route: Route, message: &Message) -> Result<()> {
        self.put(&frame::wrap(route, false, &message.encode()))
    }

    fn receive(&mut self, until: Instant) -> Result<Option<(Mac, Message)>> {
        let mut bytes = [0; 2048];
        let failed = |errno: Errno| Error::Kernel {
            op: op("receive on", &self.name),
            errno: errno as i32,
            detail: String::new(),
        };
        loop {
            match recv(self.fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(length) => {
                    let datagram = frame::unwrap(&bytes[..length], true);
                    let read = datagram.and_then(|(from, payload)| Some((from, Message::decode(payload)?)));
                    if read.is_some() {
                        return Ok(read);
                    }
                }
                // A link that went down and came up again says so once.
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(Errno::EAGAIN) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    // Rounded up: a wait of 0 ms would be none.
                    let wait = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
                    match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], wait) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(failed(errno)),
                    }
                }
                Err(errno) => return Err(failed(errno)),
            }
            // Of a flood of packets only so many are looked at.
            if Instant::now() >= until {
                return Ok(None);
            }
        }
    }
}

fn op(what: &str, name: &str) -> String {
    format!("{what} link {name}")
}
