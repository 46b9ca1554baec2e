//! Messages of the Dynamic Host Configuration Protocol as values (RFC 2131, RFC 2132), and their bytes.

use std::net::Ipv4Addr;

use attachments::names::Mac;

/// Codes of options (RFC 2132, RFC 3442).
pub mod option {
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const NAME_SERVER: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN_NAME: u8 = 15;
    pub const STATIC_ROUTES: u8 = 33;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const LARGEST: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT: u8 = 61;
    pub const USER_CLASS: u8 = 77;
    pub const CLASSLESS_ROUTES: u8 = 121;
    /// What servers of Microsoft say in place of [`CLASSLESS_ROUTES`].
    pub const CLASSLESS_ROUTES_OF_MICROSOFT: u8 = 249;
    pub const END: u8 = 255;
}

/// What a message is (option 53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Discover, Self::Offer, Self::Request, Self::Decline, Self::Ack, Self::Nak, Self::Release];
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    /// The number of the exchange.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The client cannot take a packet to an address that it does not have yet.
    pub broadcast: bool,
    /// The address that the client has (`ciaddr`).
    pub client: Ipv4Addr,
    /// The address that the server gives (`yiaddr`).
    pub yours: Ipv4Addr,
    /// The client's hardware address.
    pub mac: Mac,
    /// In order, without the message's kind. A code stands here once.
    pub options: Vec<(u8, Vec<u8>)>,
}

const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const NAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const OPTIONS: usize = 240;
/// The least that a relay agent passes on (RFC 1542 section 2.1).
const LEAST: usize = 300;
const BROADCAST: u8 = 0x80;
const ETHERNET: [u8; 2] = [1, 6];

impl Message {
    /// A message of a client without options.
    pub fn new(kind: Kind, xid: u32, mac: Mac) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Self { kind, xid, secs: 0, broadcast: false, client: none, yours: none, mac, options: Vec::new() }
    }

    /// The value of an option.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(one, _)| *one == code).map(|(_, value)| value.as_slice())
    }

    /// The first address in an option.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.option(code)?.first_chunk().map(|bytes: &[u8; 4]| Ipv4Addr::from(*bytes))
    }

    /// A number of four bytes.
    pub fn number(&self, code: u8) -> Option<u32> {
        self.option(code)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The bytes: of a reply where the kind is a server's.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; OPTIONS];
        let is_reply = matches!(self.kind, Kind::Offer | Kind::Ack | Kind::Nak);
        bytes[0] = if is_reply { 2 } else { 1 };
        bytes[1..3].copy_from_slice(&ETHERNET);
        bytes[4..8].copy_from_slice(&self.xid.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.secs.to_be_bytes());
        bytes[10] = if self.broadcast { BROADCAST } else { 0 };
        bytes[12..16].copy_from_slice(&self.client.octets());
        bytes[16..20].copy_from_slice(&self.yours.octets());
        bytes[28..34].copy_from_slice(&self.mac.0);
        bytes[236..OPTIONS].copy_from_slice(&COOKIE);
        let mut add = |code: u8, value: &[u8]| {
            // RFC 3396: what is longer than an option continues in another one of its code.
            let parts = value.chunks(255).chain(value.is_empty().then_some(value));
            for part in parts {
                bytes.extend([code, part.len() as u8]);
                bytes.extend(part);
            }
        };
        add(option::MESSAGE_TYPE, &[self.kind as u8]);
        self.options.iter().for_each(|(code, value)| add(*code, value));
        bytes.push(option::END);
        bytes.resize(bytes.len().max(LEAST), option::PAD);
        bytes
    }

    /// Reads a message; nothing where the bytes are none of Ethernet.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; OPTIONS] = bytes.first_chunk()?;
        if bytes.get(1..3)? != ETHERNET || head[236..] != COOKIE {
            return None;
        }
        let mut options = Vec::new();
        read_options(&bytes[OPTIONS..], &mut options);
        // RFC 2132 section 9.3: file first, then sname.
        let overload = options.iter().find(|(code, _)| *code == option::OVERLOAD).map(|(_, value)| value.clone());
        let overload = overload.and_then(|value: Vec<u8>| value.first().copied()).unwrap_or_default();
        for (bit, field) in [(1, FILE), (2, NAME)] {
            if overload & bit != 0 {
                read_options(&head[field], &mut options);
            }
        }
        let kind = options.iter().find(|(code, _)| *code == option::MESSAGE_TYPE)?;
        let kind = Kind::ALL.into_iter().find(|known| kind.1 == [*known as u8])?;
        let is_reply = matches!(kind, Kind::Offer | Kind::Ack | Kind::Nak);
        if (head[0] == 2) != is_reply {
            return None;
        }
        options.retain(|(code, _)| !matches!(*code, option::MESSAGE_TYPE | option::OVERLOAD));
        let address = |at: usize| Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]);
        let mut mac = [0; 6];
        mac.copy_from_slice(&head[28..34]);
        Some(Self {
            kind,
            xid: address(4).to_bits(),
            secs: u16::from_be_bytes([head[8], head[9]]),
            broadcast: head[10] & BROADCAST != 0,
            client: address(12),
            yours: address(16),
            mac: Mac(mac),
            options,
        })
    }
}

/// Reads options until their end; of one that is torn nothing. Parts of one option are joined (RFC 3396).
fn read_options(mut bytes: &[u8], options: &mut Vec<(u8, Vec<u8>)>) {
    while let Some((&code, rest)) = bytes.split_first() {
        bytes = match code {
            option::PAD => rest,
            option::END => return,
            code => {
                let Some((&length, rest)) = rest.split_first() else { return };
                let Some((value, rest)) = rest.split_at_checked(length.into()) else { return };
                match options.iter_mut().find(|(one, _)| *one == code) {
                    Some((_, known)) => known.extend(value),
                    None => options.push((code, value.to_vec())),
                }
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer() -> Message {
        Message {
            broadcast: true,
            yours: Ipv4Addr::new(10, 9, 0, 7),
            options: vec![(option::SERVER, vec![10, 9, 0, 1]), (option::LEASE_TIME, vec![0, 0, 0, 120])],
            ..Message::new(Kind::Offer, 0x0102_0304, Mac([2, 0, 0, 0, 0, 9]))
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let bytes = offer().encode();
        assert_eq!(bytes.len(), 300);
        assert_eq!(bytes[..12], [2, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0]);
        assert_eq!(bytes[16..20], [10, 9, 0, 7]);
        assert_eq!(bytes[28..34], [2, 0, 0, 0, 0, 9]);
        let options = [0x63, 0x82, 0x53, 0x63, 53, 1, 2, 54, 4, 10, 9, 0, 1, 51, 4, 0, 0, 0, 120, 255, 0];
        assert_eq!(bytes[236..257], options);
        let read = Message::decode(&bytes).unwrap();
        assert_eq!(read, offer());
        assert_eq!(read.address(option::SERVER), Some(Ipv4Addr::new(10, 9, 0, 1)));
        assert_eq!((read.number(option::LEASE_TIME), read.number(option::SUBNET_MASK)), (Some(120), None));
    }

    #[test]
    fn options_go_on_in_the_fields_of_names_and_in_parts() {
        let mut bytes = offer().encode();
        bytes.truncate(OPTIONS);
        bytes.extend([52, 1, 3, 53, 1, 5, 0, 0, 121, 2, 7, 8, 255]);
        bytes[FILE.start..FILE.start + 5].copy_from_slice(&[121, 2, 9, 10, 255]);
        bytes[NAME.start..NAME.start + 6].copy_from_slice(&[3, 4, 1, 2, 3, 4]);
        let read = Message::decode(&bytes).unwrap();
        assert_eq!(read.kind, Kind::Ack);
        assert_eq!(read.options, [(121, vec![7, 8, 9, 10]), (3, vec![1, 2, 3, 4])]);
        let long = Message { options: vec![(121, vec![5; 300])], ..offer() };
        assert_eq!(Message::decode(&long.encode()).unwrap(), long);
    }

    #[test]
    fn what_is_no_message_is_none() {
        let good = offer().encode();
        for (at, byte) in [(0, 1), (1, 6), (2, 0), (236, 0), (242, 9), (241, 2), (240, 52)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(Message::decode(&bad), None, "byte {at}");
        }
        assert_eq!(Message::decode(&good[..OPTIONS]), None, "without a kind");
        assert_eq!(Message::decode(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, cut in 0usize..300, at in 0usize..300, byte: u8) {
            let _ = Message::decode(&bytes);
            let mut close = offer().encode();
            close[at] = byte;
            if let Some(read) = Message::decode(&close[..cut.max(at)]) {
                prop_assert_eq!(Message::decode(&read.encode()), Some(read));
            }
            let mut tail = offer().encode();
            tail.truncate(OPTIONS);
            tail.extend([53, 1, 2]);
            tail.extend(bytes);
            if let Some(read) = Message::decode(&tail) {
                prop_assert_eq!(Message::decode(&read.encode()), Some(read));
            }
        }
    }
}
