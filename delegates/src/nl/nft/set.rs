//! Named sets: lists of addresses that rules look into and that change without them.

use std::net::IpAddr;
use std::time::Duration;

use nix::libc;

use super::HEADER;
use super::expression::{NFTA_DATA_VALUE, NFTA_LIST_ELEM};
use crate::nl::wire::{self, Attributes, Decoded, Message, Request};

// linux/netfilter/nf_tables.h
pub(super) const NFTA_SET_TABLE: u16 = 1;
pub(super) const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
/// User data by which `nft` knows that elements are in the host's byte order (libnftnl): names of links, which it would print
/// backwards.
const HOST_ORDER: [u8; 2] = [0, 4];
pub(super) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFT_SET_TIMEOUT: u32 = 1 << 4;

/// Elements of one message.
pub(super) const CHUNK: usize = 256;

/// A named set of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// Its name within the table.
    pub name: &'a str,
    /// What its elements are.
    pub key: Key,
    /// Elements may have timeouts.
    pub timeouts: bool,
}

/// What the elements of a set are, by `nft`'s numbers of data types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// IPv4 addresses.
    Ipv4 = 7,
    /// IPv6 addresses.
    Ipv6 = 8,
    /// Ports.
    Port = 13,
    /// Names of links, filled up with zeros to 16 bytes.
    LinkName = 41,
    /// A port, and an IPv4 address. Each part of a value is filled up to a multiple of four bytes.
    PortIpv4 = 13 << 6 | 7,
    /// A port, and an IPv6 address.
    PortIpv6 = 13 << 6 | 8,
    /// The names of two links.
    LinkNames = 41 << 6 | 41,
}

impl Key {
    /// The key of a set that holds such addresses.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// Bytes of an element.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
            Self::Port => 2,
            Self::LinkName => 16,
            Self::PortIpv4 => 8,
            Self::PortIpv6 => 20,
            Self::LinkNames => 32,
        }
    }
}

/// An element of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The address.
    pub address: IpAddr,
    /// The element leaves by itself after that time, in whole milliseconds; `None` stays. Only in a set with timeouts.
    pub timeout: Option<Duration>,
}

impl From<IpAddr> for Element {
    fn from(address: IpAddr) -> Self {
        Self { address, timeout: None }
    }
}

/// What NFT_MSG_NEWSET says after the names.
pub(super) fn encode(request: &mut Request, set: &Set<'_>, number: u32) {
    request.be32(NFTA_SET_FLAGS, if set.timeouts { NFT_SET_TIMEOUT } else { 0 });
    request.be32(NFTA_SET_KEY_TYPE, set.key as u32);
    request.be32(NFTA_SET_KEY_LEN, set.key.length() as u32);
    request.be32(NFTA_SET_ID, number);
    if set.key == Key::LinkName {
        let host_endian = 1_u32.to_ne_bytes();
        request.bytes(NFTA_SET_USERDATA, &[HOST_ORDER.as_slice(), &host_endian].concat());
    }
}

pub(super) fn encode_elements(request: &mut Request, elements: impl Iterator<Item = (IpAddr, Option<Duration>)>) {
    request.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
        for (address, timeout) in elements {
            list.nest(NFTA_LIST_ELEM, |element| {
                element.nest(NFTA_SET_ELEM_KEY, |key| _ = key.ip(NFTA_DATA_VALUE, address));
                if let Some(timeout) = timeout {
                    element.be64(NFTA_SET_ELEM_TIMEOUT, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
                }
            });
        }
    });
}

/// Values of another key than an address.
pub(super) fn encode_values(request: &mut Request, values: &[Vec<u8>]) {
    request.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
        for value in values {
            list.nest(NFTA_LIST_ELEM, |element| {
                element.nest(NFTA_SET_ELEM_KEY, |key| _ = key.bytes(NFTA_DATA_VALUE, value));
            });
        }
    });
}

/// The question for the elements of a set.
pub(super) fn listing(family: u8, table: &str, set: &str) -> Request {
    let mut request = super::batch::message(family, libc::NFT_MSG_GETSETELEM, libc::NLM_F_DUMP);
    request.text(NFTA_SET_ELEM_LIST_TABLE, table);
    request.text(NFTA_SET_ELEM_LIST_SET, set);
    request
}

/// Reads one NFT_MSG_NEWSETELEM as bare values.
pub(super) fn decode_values(message: &Message<'_>) -> Decoded<Vec<Vec<u8>>> {
    let mut values = Vec::new();
    let attributes = message.body.get(HEADER..).ok_or(wire::Malformed)?;
    let Some(list) = wire::find(attributes, NFTA_SET_ELEM_LIST_ELEMENTS)? else { return Ok(values) };
    for element in Attributes::inside(list) {
        let (_, element) = element?;
        let Some(key) = wire::find(element, NFTA_SET_ELEM_KEY)? else { continue };
        values.extend(wire::find(key, NFTA_DATA_VALUE)?.map(<[u8]>::to_vec));
    }
    Ok(values)
}

/// Reads one NFT_MSG_NEWSETELEM, which tells of several elements.
pub(super) fn decode(message: &Message<'_>) -> Decoded<Vec<Element>> {
    let mut elements = Vec::new();
    let attributes = message.body.get(HEADER..).ok_or(wire::Malformed)?;
    let Some(list) = wire::find(attributes, NFTA_SET_ELEM_LIST_ELEMENTS)? else { return Ok(elements) };
    for element in Attributes::inside(list) {
        let (_, element) = element?;
        let Some(key) = wire::find(element, NFTA_SET_ELEM_KEY)? else { continue };
        let Some(address) = wire::find(key, NFTA_DATA_VALUE)? else { continue };
        let timeout = wire::find(element, NFTA_SET_ELEM_TIMEOUT)?.map(wire::be64).transpose()?;
        elements.push(Element { address: wire::ip(address)?, timeout: timeout.map(Duration::from_millis) });
    }
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&Message { kind: 0, flags: 0, sequence: 0, body: &body });
            let _ = decode_values(&Message { kind: 0, flags: 0, sequence: 0, body: &body });
        }
    }
}
