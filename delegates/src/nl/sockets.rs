//! Sockets on which something listens, as the kernel's sock_diag tells them.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;

use super::socket::{SockDiag, Socket};
use super::wire::{self, Attributes, Decoded, Malformed, Message, Request};
use crate::error::{Error, Result};

// linux/sock_diag.h, linux/inet_diag.h and net/tcp_states.h, not in libc.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_SKV6ONLY: u16 = 11;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;
/// Bytes of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// Bytes of `struct inet_diag_msg`.
const HEADER: usize = 72;

/// A socket that takes what comes to a port: a TCP or SCTP socket that listens, a UDP socket without a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its address and port; an unspecified address is every address of the family.
    pub at: SocketAddr,
    /// An unspecified IPv6 address is every IPv4 address too.
    pub is_dual: bool,
}

/// The sockets of the namespace that the thread was in.
pub struct Sockets {
    netlink: Socket<SockDiag>,
}

impl Sockets {
    /// No answer is awaited beyond `deadline`.
    pub fn open(deadline: Instant) -> Result<Self> {
        Ok(Self { netlink: Socket::open(deadline)? })
    }

    /// Who listens on one of these ports over an `IPPROTO_*`: TCP, UDP or SCTP. A kernel without SCTP has no listeners.
    pub fn listeners(&mut self, protocol: u8, ports: &[u16]) -> Result<Vec<Listener>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let listed = self.netlink.dump(
                &Request::new(SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP, &question(family, protocol)),
                || "list listening sockets".to_owned(),
                |message| Ok(Some(decode(message)?).filter(|listener| ports.contains(&listener.at.port()))),
            );
            match listed {
                Err(error) if super::errno(&error) == Some(Errno::ENOENT) => match i32::from(protocol) {
                    libc::IPPROTO_SCTP => {}
                    _ => return Err(unknown()),
                },
                listed => found.extend(listed?),
            }
        }
        Ok(found)
    }
}

/// A kernel that cannot say who listens would let everything pass.
fn unknown() -> Error {
    Error::Kernel {
        op: "list listening sockets".to_owned(),
        errno: libc::EOPNOTSUPP,
        detail: "the kernel's modules tcp_diag and udp_diag are missing".to_owned(),
    }
}

/// `struct inet_diag_req_v2`: sockets of a family in the states of a listener.
fn question(family: i32, protocol: u8) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0] = family as u8;
    bytes[1] = protocol;
    let states: u32 = match i32::from(protocol) {
        libc::IPPROTO_UDP => 1 << TCP_CLOSE,
        _ => 1 << TCP_LISTEN,
    };
    bytes[4..8].copy_from_slice(&states.to_ne_bytes());
    bytes
}

/// `struct inet_diag_msg`: family, state, timer and retransmissions in a byte each, then the source port, the destination
/// port, and 16 bytes for the source address.
fn decode(message: &Message<'_>) -> Decoded<Listener> {
    let body = message.body;
    let family = i32::from(wire::u8(body)?);
    let port = wire::be16(body.get(4..).ok_or(Malformed)?)?;
    let address = body.get(8..24).ok_or(Malformed)?;
    let address = wire::ip(if family == libc::AF_INET { &address[..4] } else { address })?;
    let mut is_for_ipv6_alone = false;
    for attribute in Attributes::after(body, HEADER)? {
        if let (INET_DIAG_SKV6ONLY, value) = attribute? {
            is_for_ipv6_alone = wire::u8(value)? != 0;
        }
    }
    let is_dual = address == IpAddr::from([0_u8; 16]) && !is_for_ipv6_alone;
    // A socket of IPv6 may be bound to an address of IPv4.
    Ok(Listener { at: SocketAddr::new(address.to_canonical(), port), is_dual })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::netns::testing::as_host;
    use crate::nl::Netlink;
    use crate::nl::link::LinkChange;

    const TCP: u8 = libc::IPPROTO_TCP as u8;
    const UDP: u8 = libc::IPPROTO_UDP as u8;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn listeners(protocol: u8, ports: &[u16]) -> Vec<(String, bool)> {
        let mut found: Vec<_> = Sockets::open(soon())
            .unwrap()
            .listeners(protocol, ports)
            .unwrap()
            .into_iter()
            .map(|listener| (listener.at.to_string(), listener.is_dual))
            .collect();
        found.sort();
        found
    }

    fn told(found: &[(&str, bool)]) -> Vec<(String, bool)> {
        found.iter().map(|(at, is_dual)| ((*at).to_owned(), *is_dual)).collect()
    }

    #[test]
    fn kernel_on_host_who_listens_is_told_with_address_and_families() {
        as_host(|| {
            let mut netlink = Netlink::open(soon()).unwrap();
            netlink.set_link(1, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
            let one = TcpListener::bind("127.0.0.1:8080").unwrap();
            let _all = TcpListener::bind("0.0.0.0:8081").unwrap();
            // The standard library leaves IPV6_V6ONLY as the kernel has it: off.
            let _dual = TcpListener::bind("[::]:8082").unwrap();
            let _one6 = TcpListener::bind("[::1]:8083").unwrap();
            let _mapped = TcpListener::bind("[::ffff:127.0.0.1]:8084").unwrap();
            let _elsewhere = TcpListener::bind("127.0.0.1:9090").unwrap();
            let _client = TcpStream::connect("127.0.0.1:8080").unwrap();
            let _connection = one.accept().unwrap();
            assert_eq!(
                listeners(TCP, &[8080, 8081, 8082, 8083, 8084]),
                told(&[
                    ("0.0.0.0:8081", false),
                    ("127.0.0.1:8080", false),
                    ("127.0.0.1:8084", false),
                    ("[::1]:8083", false),
                    ("[::]:8082", true),
                ]),
                "a connection is no listener"
            );
            assert_eq!(listeners(UDP, &[8080, 8081, 8082]), told(&[]));

            let _server = UdpSocket::bind("127.0.0.1:53").unwrap();
            let client = UdpSocket::bind("127.0.0.1:5353").unwrap();
            client.connect("127.0.0.1:53").unwrap();
            assert_eq!(listeners(UDP, &[53, 5353]), told(&[("127.0.0.1:53", false)]), "what has a peer is a client");
            assert_eq!(listeners(libc::IPPROTO_SCTP as u8, &[8080]), told(&[]), "also of a kernel without SCTP");
        });
    }

    /// The kernel of User Mode Linux lacks udp_diag.
    #[test]
    fn kernel_on_uml_a_kernel_that_cannot_say_is_an_error() {
        as_host(|| {
            let error = Sockets::open(soon()).unwrap().listeners(UDP, &[8080]).unwrap_err();
            let want = "list listening sockets: Operation not supported (the kernel's modules tcp_diag and udp_diag are missing)";
            assert_eq!(error.to_string(), want);
            assert_eq!(listeners(libc::IPPROTO_SCTP as u8, &[8080]), told(&[]));
        });
    }

    #[test]
    fn a_listener_is_read_with_its_families() {
        let message = |family: i32, address: [u8; 16], attributes: &[u8]| {
            let mut body = vec![family as u8, TCP_LISTEN as u8, 0, 0, 0x1f, 0x90, 0, 0];
            body.extend_from_slice(&address);
            body.resize(HEADER, 0);
            body.extend_from_slice(attributes);
            let read = decode(&Message { kind: SOCK_DIAG_BY_FAMILY, flags: 0, sequence: 0, body: &body });
            read.map(|listener| (listener.at.to_string(), listener.is_dual))
        };
        let only = |value: u8| {
            let mut request = Request::new(0, 0, &[]);
            request.u8(INET_DIAG_SKV6ONLY, value);
            request.finish(0)[wire::HEADER..].to_vec()
        };
        let v4 = [10, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
        assert_eq!(message(libc::AF_INET, v4, &[]), Ok(("10.0.0.1:8080".to_owned(), false)));
        assert_eq!(message(libc::AF_INET6, [0; 16], &only(0)), Ok(("[::]:8080".to_owned(), true)));
        assert_eq!(message(libc::AF_INET6, [0; 16], &only(1)), Ok(("[::]:8080".to_owned(), false)));
        assert_eq!(message(libc::AF_INET6, [0; 16], &[]), Ok(("[::]:8080".to_owned(), true)));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&Message { kind: 0, flags: 0, sequence: 0, body: &body });
        }
    }
}
