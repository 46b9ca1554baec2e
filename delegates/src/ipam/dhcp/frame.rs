//! Ethernet frames with a message in them, and the frame that announces an address: a link without an address can send and
//! receive nothing else.

use std::net::Ipv4Addr;

use attachments::names::Mac;

/// The port of servers.
pub const SERVER_PORT: u16 = 67;
/// The port of clients.
pub const CLIENT_PORT: u16 = 68;

/// Every station of the link.
pub const EVERYBODY: Mac = Mac([0xff; 6]);

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const IPV4_TYPE: [u8; 2] = [0x08, 0x00];
const ARP_TYPE: [u8; 2] = [0x08, 0x06];
/// IPPROTO_UDP.
const UDP_PROTOCOL: u8 = 17;
/// More fragments, or an offset: all but "do not fragment".
const FRAGMENT: u16 = 0xbfff;

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Hardware address and address of the sender.
    pub from: (Mac, Ipv4Addr),
    /// Those of the receiver.
    pub to: (Mac, Ipv4Addr),
}

impl Route {
    /// To every server of the link.
    pub fn to_everybody(mac: Mac, from: Ipv4Addr) -> Self {
        Self { from: (mac, from), to: (EVERYBODY, Ipv4Addr::BROADCAST) }
    }
}

/// The frame of a datagram between the ports of DHCP; the lower of its ends is the client's unless `is_reply`.
pub fn wrap(route: Route, is_reply: bool, payload: &[u8]) -> Vec<u8> {
    let (from, to) = if is_reply { (SERVER_PORT, CLIENT_PORT) } else { (CLIENT_PORT, SERVER_PORT) };
    // A message is bounded by what its options may hold (`Config`).
    let length = (UDP + payload.len()) as u16;
    let mut packet = Vec::with_capacity(ETHERNET + IPV4 + UDP + payload.len());
    packet.extend(route.to.0.0);
    packet.extend(route.from.0.0);
    packet.extend(IPV4_TYPE);
    packet.extend([0x45, 0x10]);
    packet.extend((IPV4 as u16 + length).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, UDP_PROTOCOL, 0, 0]);
    packet.extend(route.from.1.octets());
    packet.extend(route.to.1.octets());
    let sum = checksum(&[&packet[ETHERNET..]]);
    packet[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    let udp = packet.len();
    for word in [from, to, length, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(payload);
    let pseudo = [0, UDP_PROTOCOL, (length >> 8) as u8, length as u8];
    // RFC 768: 0 means that there is none.
    let sum = match checksum(&[&packet[ETHERNET + 12..udp], &pseudo, &packet[udp..]]) {
        0 => u16::MAX,
        sum => sum,
    };
    packet[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The datagram in a frame, if it is one between the ports of DHCP: who sent it, and what. The sum over the datagram is not
/// looked at: what comes from a program of this node has none yet, which only the kernel knows. A frame that was damaged on the way does
/// not get past Ethernet's own.
pub fn unwrap(frame: &[u8], is_reply: bool) -> Option<(Mac, &[u8])> {
    let ports = if is_reply { (SERVER_PORT, CLIENT_PORT) } else { (CLIENT_PORT, SERVER_PORT) };
    let (ethernet, packet) = frame.split_at_checked(ETHERNET)?;
    let header = usize::from(*packet.first()? & 0x0f) * 4;
    let (ip, _) = packet.split_at_checked(header)?;
    let word = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let total: usize = word(ip, 2)?.into();
    let is_ours = ethernet[12..] == IPV4_TYPE
        && packet[0] >> 4 == 4
        && header >= IPV4
        && ip[9] == UDP_PROTOCOL
        && word(ip, 6)? & FRAGMENT == 0
        && checksum(&[ip]) == 0;
    // Ethernet pads what is short.
    let udp = packet.get(header..total).filter(|_| is_ours)?;
    let payload = udp.get(UDP..word(udp, 4)?.into())?;
    let mut sender = [0; 6];
    sender.copy_from_slice(&ethernet[6..12]);
    ((word(udp, 0)?, word(udp, 2)?) == ports).then_some((Mac(sender), payload))
}

/// The frame by which neighbours learn who has an address now (RFC 5227 section 3): servers give one again, to another link.
pub fn announcement(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(EVERYBODY.0);
    frame.extend(mac.0);
    frame.extend(ARP_TYPE);
    // Ethernet, IPv4, lengths 6 and 4, a request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// The sum of the Internet protocols (RFC 1071); every part but the last is of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 =
        words.map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or_default()]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn discover() -> Vec<u8> {
        wrap(Route::to_everybody(CLIENT, Ipv4Addr::UNSPECIFIED), false, b"odd")
    }

    #[test]
    fn a_frame_has_both_sums_and_is_read_again() {
        let frame = discover();
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 8, 0]);
        assert_eq!(frame[14..34], [0x45, 16, 0, 31, 0, 0, 0, 0, 64, 17, 0x7a, 0xbf, 0, 0, 0, 0, 255, 255, 255, 255]);
        let pseudo = [0, 0, 0, 0, 255, 255, 255, 255, 0, 17, 0, 11];
        assert_eq!(checksum(&[&pseudo, &frame[34..]]), 0);
        let padded: Vec<u8> = frame.iter().copied().chain([7; 20]).collect();
        assert_eq!(unwrap(&padded, false), Some((CLIENT, &b"odd"[..])));
        assert_eq!(unwrap(&frame, true), None, "the ports are a client's");
    }

    #[test]
    fn frames_of_others_and_damaged_ones_are_none() {
        for (at, byte) in [(12, 0x86), (14, 0x65), (14, 0x44), (20, 0x20), (21, 1), (23, 6), (24, 1), (39, 40), (17, 9)]
        {
            let mut bad = discover();
            bad[at] = byte;
            // The header's own sum is made good, where the header is.
            bad[24..26].copy_from_slice(&[if at == 24 { 1 } else { 0 }, 0]);
            if at != 24 {
                let sum = checksum(&[&bad[14..34]]);
                bad[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            assert_eq!(unwrap(&bad, false), None, "byte {at}");
        }
    }

    #[test]
    fn an_announcement_asks_for_its_own_address() {
        let frame = announcement(CLIENT, Ipv4Addr::new(10, 9, 0, 7));
        assert_eq!(frame.len(), 42);
        assert_eq!((&frame[28..32], &frame[38..]), (&[10, 9, 0, 7][..], &[10, 9, 0, 7][..]));
    }

    proptest! {
        #[test]
        fn any_frame_is_read_or_refused(bytes: Vec<u8>, at in 0usize..45, byte: u8, cut in 0usize..46) {
            let _ = unwrap(&bytes, true);
            let mut close = discover();
            close[at] = byte;
            let _ = unwrap(&close[..cut.min(close.len())], false);
        }
    }
}
