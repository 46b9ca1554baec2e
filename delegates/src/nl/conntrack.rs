//! Connection tracking: forgetting connections whose translation is decided anew.

use nix::errno::Errno;
use nix::libc;

use super::nft::Nftables;
use super::wire::{self, Attributes, Decoded, Message, Request};
use crate::error::Result;

/// Bytes of `struct nfgenmsg`.
const HEADER: usize = 4;

// linux/netfilter/nfnetlink_conntrack.h
const IPCTNL_MSG_CT_GET: i32 = 1;
const IPCTNL_MSG_CT_DELETE: i32 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_ZONE: u16 = 18;

/// What names a connection: its tuple before any translation, as the kernel wrote it, and its zone.
struct Connection {
    tuple: Vec<u8>,
    zone: Option<Vec<u8>>,
}

impl Nftables {
    /// Forgets the UDP connections that were sent to one of the ports: their packets would go on to where the first one
    /// went, whatever the rules say now.
    pub fn forget_udp(&mut self, is_ipv4: bool, ports: &[u16]) -> Result<()> {
        let family = if is_ipv4 { libc::AF_INET } else { libc::AF_INET6 } as u8;
        let listing = message(family, IPCTNL_MSG_CT_GET, libc::NLM_F_DUMP);
        let what = || "list tracked connections".to_owned();
        let found = self.netlink().dump(&listing, what, |message| decode(message, ports))?;
        for connection in found {
            let mut request = message(family, IPCTNL_MSG_CT_DELETE, libc::NLM_F_ACK);
            request.nest(CTA_TUPLE_ORIG, |tuple| tuple.raw(&connection.tuple));
            if let Some(zone) = &connection.zone {
                request.bytes(CTA_ZONE, zone);
            }
            match self.netlink().acknowledged(request, || "forget a tracked connection".to_owned()) {
                // It ended by itself.
                Err(error) if super::errno(&error) == Some(Errno::ENOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn message(family: u8, kind: i32, flags: i32) -> Request {
    let kind = (libc::NFNL_SUBSYS_CTNETLINK << 8 | kind) as u16;
    Request::new(kind, flags, &[family, 0, 0, 0])
}

fn decode(message: &Message<'_>, ports: &[u16]) -> Decoded<Option<Connection>> {
    let (mut tuple, mut zone) = (None, None);
    for attribute in Attributes::after(message.body, HEADER)? {
        match attribute? {
            (CTA_TUPLE_ORIG, value) => tuple = Some(value),
            (CTA_ZONE, value) => zone = Some(value.to_vec()),
            _ => {}
        }
    }
    let Some(tuple) = tuple else { return Ok(None) };
    let Some(protocol) = wire::find(tuple, CTA_TUPLE_PROTO)? else { return Ok(None) };
    let is_udp = wire::find(protocol, CTA_PROTO_NUM)?.map(wire::u8).transpose()? == Some(libc::IPPROTO_UDP as u8);
    let port = wire::find(protocol, CTA_PROTO_DST_PORT)?.map(wire::be16).transpose()?;
    let is_meant = is_udp && port.is_some_and(|port| ports.contains(&port));
    Ok(is_meant.then(|| Connection { tuple: tuple.to_vec(), zone }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&Message { kind: 0, flags: 0, sequence: 0, body: &body }, &[53]);
        }
    }
}
