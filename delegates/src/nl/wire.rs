//! The byte form of netlink: one message or attribute after another, each with its length in front, aligned to four.
//!
//! Writing cannot fail: what goes in is bounded by its type (names of 15 bytes, addresses, numbers). Reading treats
//! every length as hostile and never panics; a message that contradicts itself is [`Malformed`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attachments::names::Mac;

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
const NESTED: u16 = 1 << 15;
const NET_BYTE_ORDER: u16 = 1 << 14;

/// A reply whose lengths contradict each other, or that is shorter than its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What the decoders return.
pub(super) type Decoded<T> = std::result::Result<T, Malformed>;

/// One request under construction.
#[derive(Clone, Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A request of a type with `NLM_F_*` flags (`NLM_F_REQUEST` is implied), followed by the fixed header of its family.
    pub fn new(kind: u16, flags: i32, family_header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        let flags = (nix::libc::NLM_F_REQUEST | flags) as u16;
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(family_header);
        Self { bytes }
    }

    /// The kernel tells what it made of the request (NLM_F_ECHO).
    pub fn echo(&mut self) {
        let [low, high] = (nix::libc::NLM_F_ECHO as u16).to_ne_bytes();
        self.bytes[6] |= low;
        self.bytes[7] |= high;
    }

    /// An attribute with any value.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(align(self.bytes.len()), 0);
        self
    }

    /// Attributes as they were received.
    pub fn raw(&mut self, attributes: &[u8]) {
        self.bytes.extend_from_slice(attributes);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number in network byte order: ports, and everything in nf_tables.
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Text with the final zero that the kernel's string policies want.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub fn ip(&mut self, kind: u16, value: IpAddr) -> &mut Self {
        match value {
            IpAddr::V4(ip) => self.bytes(kind, &ip.octets()),
            IpAddr::V6(ip) => self.bytes(kind, &ip.octets()),
        }
    }

    /// An attribute that holds what `fill` writes, behind an optional fixed header of its own.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest_after(kind | NESTED, &[], fill)
    }

    /// As [`Self::nest`] with the type as it is, and raw bytes before the first inner attribute.
    pub fn nest_after(&mut self, kind: u16, header: &[u8], fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(header);
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Was it made with `NLM_F_ACK`?
    pub fn wants_ack(&self) -> bool {
        number16(&self.bytes[6..8]).is_some_and(|flags| i32::from(flags) & nix::libc::NLM_F_ACK != 0)
    }

    /// The finished message; `sequence` is what the replies will carry.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// One message of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// What follows the netlink header.
    pub body: &'a [u8],
}

/// The messages of one datagram.
pub(super) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Decoded<Message<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let datagram = std::mem::take(&mut self.0);
        Some(self.split(datagram).ok_or(Malformed))
    }
}

impl<'a> Messages<'a> {
    fn split(&mut self, datagram: &'a [u8]) -> Option<Message<'a>> {
        let length = number32(datagram.get(..4)?)? as usize;
        let body = datagram.get(..length)?.get(HEADER..)?;
        self.0 = datagram.get(align(length)..).unwrap_or_default();
        Some(Message {
            kind: number16(&datagram[4..6])?,
            flags: number16(&datagram[6..8])?,
            sequence: number32(&datagram[8..12])?,
            body,
        })
    }
}

/// The attributes of a message or of another attribute, as (type without flag bits, value).
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes behind a fixed header of `header` bytes.
    pub fn after(body: &'a [u8], header: usize) -> Decoded<Self> {
        body.get(align(header)..).map(Self).ok_or(Malformed)
    }

    /// The attributes inside a nested one.
    pub fn inside(value: &'a [u8]) -> Self {
        Self(value)
    }

    fn split(&mut self, rest: &'a [u8]) -> Option<(u16, &'a [u8])> {
        let length = usize::from(number16(rest.get(..2)?)?);
        let kind = number16(rest.get(2..4)?)? & !(NESTED | NET_BYTE_ORDER);
        let value = rest.get(..length)?.get(ATTRIBUTE_HEADER..)?;
        self.0 = rest.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Decoded<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0);
        Some(self.split(rest).ok_or(Malformed))
    }
}

/// The first attribute of a type inside a nested one.
pub(super) fn find(value: &[u8], wanted: u16) -> Decoded<Option<&[u8]>> {
    for attribute in Attributes::inside(value) {
        let (kind, value) = attribute?;
        if kind == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Bytes of `struct rtnexthop { u16 length; u8 flags; u8 weight; int index; }`.
pub(super) const HOP: usize = 8;

/// The next hops of RTA_MULTIPATH one by one, each with its header and its attributes.
pub(super) fn next_hops(mut rest: &[u8]) -> impl Iterator<Item = Decoded<&[u8]>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let hops = std::mem::take(&mut rest);
        let length = u16(hops).map(usize::from);
        let hop = length.and_then(|length| hops.get(..length).filter(|hop| hop.len() >= HOP).ok_or(Malformed));
        rest = hop.map_or(&[][..], |hop| hops.get(hop.len().next_multiple_of(4)..).unwrap_or_default());
        Some(hop)
    })
}

/// The first bytes of a reply as an array, for fixed headers.
pub(super) fn fixed<const N: usize>(body: &[u8]) -> Decoded<[u8; N]> {
    body.get(..N).and_then(|bytes| bytes.try_into().ok()).ok_or(Malformed)
}

pub(super) fn u8(value: &[u8]) -> Decoded<u8> {
    value.first().copied().ok_or(Malformed)
}

pub(super) fn u16(value: &[u8]) -> Decoded<u16> {
    number16(value).ok_or(Malformed)
}

pub(super) fn be16(value: &[u8]) -> Decoded<u16> {
    fixed(value).map(u16::from_be_bytes)
}

pub(super) fn u32(value: &[u8]) -> Decoded<u32> {
    number32(value).ok_or(Malformed)
}

/// A namespace's number; -1 stands for none.
pub(super) fn netns_id(value: &[u8]) -> Decoded<Option<u32>> {
    u32(value).map(|id| Some(id).filter(|&id| id != u32::MAX))
}

pub(super) fn be32(value: &[u8]) -> Decoded<u32> {
    fixed(value).map(u32::from_be_bytes)
}

pub(super) fn be64(value: &[u8]) -> Decoded<u64> {
    fixed(value).map(u64::from_be_bytes)
}

/// Text up to the first zero; bytes that are not UTF-8 are replaced.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

pub(super) fn ip(value: &[u8]) -> Decoded<IpAddr> {
    match value.len() {
        4 => fixed(value).map(|bytes: [u8; 4]| Ipv4Addr::from(bytes).into()),
        16 => fixed(value).map(|bytes: [u8; 16]| Ipv6Addr::from(bytes).into()),
        _ => Err(Malformed),
    }
}

/// An Ethernet address; links of other kinds have longer or shorter ones, or none.
pub(super) fn mac(value: &[u8]) -> Option<Mac> {
    value.try_into().ok().map(Mac)
}

fn number16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?))
}

fn number32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_has_the_kernels_layout() {
        let mut request = Request::new(16, 4, &[7, 0, 0, 0]);
        request.text(3, "lo").nest(18, |info| _ = info.u8(1, 9));
        let bytes = request.finish(5);
        let expected: [&[u8]; 5] = [
            &[40, 0, 0, 0, 16, 0, 5, 0, 5, 0, 0, 0, 0, 0, 0, 0],
            &[7, 0, 0, 0],
            &[7, 0, 3, 0, b'l', b'o', 0, 0],
            &[12, 0, 18, 0x80],
            &[5, 0, 1, 0, 9, 0, 0, 0],
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(bytes, expected.concat());
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let mut request = Request::new(16, 0, &[0; 16]);
        request.u32(4, 1500).nest(18, |info| _ = info.text(1, "veth"));
        let bytes = request.finish(9);
        let message = Messages(&bytes).next().unwrap().unwrap();
        assert_eq!((message.kind, message.sequence), (16, 9));
        let attributes: Vec<_> = Attributes::after(message.body, 16).unwrap().map(Result::unwrap).collect();
        assert_eq!(u32(attributes[0].1), Ok(1500));
        assert_eq!(attributes[1].0, 18);
        let inner = Attributes::inside(attributes[1].1).next().unwrap().unwrap();
        assert_eq!((inner.0, text(inner.1).as_str()), (1, "veth"));
    }

    #[test]
    fn a_cut_message_is_malformed_not_a_panic() {
        let mut request = Request::new(16, 0, &[0; 16]);
        request.u32(4, 1500);
        let bytes = request.finish(9);
        for length in 1..bytes.len() {
            assert_eq!(Messages(&bytes[..length]).next(), Some(Err(Malformed)), "{length}");
        }
        for length in 1..8 {
            assert_eq!(Attributes::inside(&bytes[32..32 + length]).next(), Some(Err(Malformed)), "{length}");
        }
        let zero_length = [0, 0, 1, 0];
        assert_eq!(Attributes::inside(&zero_length).collect::<Vec<_>>(), [Err(Malformed)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let messages = Messages(&bytes).count();
            prop_assert!(messages <= bytes.len());
            prop_assert!(Attributes::inside(&bytes).count() <= bytes.len());
        }
    }
}
