//! What a rule is made of.

use std::net::SocketAddr;

use attachments::names::Mac;
use ipnet::IpNet;

use super::Key;

/// A rule, before it is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// The chain that it is in.
    pub chain: &'a str,
    /// What must hold, all of it; all addresses are of one family.
    pub conditions: Vec<Condition>,
    /// What is done then.
    pub action: Action<'a>,
    /// What it is for, or whose it is: up to 254 bytes; empty for none.
    pub comment: &'a str,
}

impl<'a> Rule<'a> {
    /// A rule without a comment.
    pub fn new(chain: &'a str, conditions: impl Into<Vec<Condition>>, action: Action<'a>) -> Self {
        Self { chain, conditions: conditions.into(), action, comment: "" }
    }
}

/// What must hold of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The source is inside.
    SourceIn(IpNet),
    /// The source is outside.
    SourceNotIn(IpNet),
    /// The destination is inside.
    DestinationIn(IpNet),
    /// The destination is outside.
    DestinationNotIn(IpNet),
    /// The source is in a set of the table, or with `negated` in none of its elements.
    SourceInSet {
        /// The set's name.
        set: String,
        /// What it holds.
        key: Key,
        /// Any other address of the family.
        negated: bool,
    },
    /// The same for the destination.
    DestinationInSet {
        /// The set's name.
        set: String,
        /// What it holds.
        key: Key,
        /// Any other address of the family.
        negated: bool,
    },
    /// The destination is an address of this host.
    DestinationIsLocal,
    /// The destination port of an `IPPROTO_*` that has ports.
    DestinationPort(u8, u16),
    /// It came in by a link of that name, or with `negated` by any other.
    Incoming {
        /// Up to 15 bytes; the beginning of the name when `prefix` is set.
        name: String,
        /// Any name that begins so.
        prefix: bool,
        /// Any other link.
        negated: bool,
    },
    /// The parts, one behind the other, are an element of a set of the table.
    InSet {
        /// The set's name.
        set: &'static str,
        /// What is looked for.
        parts: &'static [Part],
    },
    /// The transport protocol is that `IPPROTO_*`.
    Protocol(u8),
    /// The way back to the source leads by the link that it came in by.
    SourceRoutedHere,
    /// Its connection was seen before, or belongs to one that was.
    ConnectionKnown,
    /// The frame comes from that hardware address.
    EtherSource(Mac),
    /// It came in by an Ethernet link: what `nft` puts before a comparison of hardware addresses in a table of family netdev.
    ByEthernet,
    /// The frame comes from any other hardware address.
    EtherSourceNot(Mac),
    /// The frame is for many: broadcast or multicast.
    EtherToMany,
    /// More than so many a second have come here, but for a tenth of it at once.
    Faster(u32),
    /// Its connection's destination was translated.
    Translated,
    /// The destination port that its connection had before any translation.
    OriginalPort(u16),
}

/// What is looked for in a set, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The name of the link that it came in by.
    Incoming,
    /// The name of the link that it leaves by.
    Outgoing,
    /// The destination port.
    DestinationPort,
    /// The source address, of IPv4 or of IPv6.
    Source(Key),
    /// The destination address.
    Destination(Key),
}

/// The end of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// The packet goes on; chains that are called later may still drop it.
    Accept,
    /// Back to the calling chain, or the policy.
    Return,
    /// On to another chain, for good.
    Goto(&'a str),
    /// The packet goes nowhere.
    Drop,
    /// To another chain, and back when that decides nothing.
    Jump(&'a str),
    /// The packet leaves with the address of the link that it leaves by.
    Masquerade,
    /// The packet goes to another address and port.
    DestinationNat(SocketAddr),
}

impl Condition {
    /// The family of the addresses that it is about, if it is about any.
    pub(super) fn is_ipv4(&self) -> Option<bool> {
        match *self {
            Self::SourceIn(net) | Self::SourceNotIn(net) | Self::DestinationIn(net) | Self::DestinationNotIn(net) => {
                Some(net.addr().is_ipv4())
            }
            Self::SourceInSet { key, .. } | Self::DestinationInSet { key, .. } => Some(key == Key::Ipv4),
            Self::InSet { parts, .. } => parts.iter().find_map(|part| match part {
                Part::Source(key) | Part::Destination(key) => Some(*key == Key::Ipv4),
                _ => None,
            }),
            _ => None,
        }
    }
}
