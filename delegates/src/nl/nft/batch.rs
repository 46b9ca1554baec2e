//! What a batch is made of, and its bytes: tables, chains, rules, sets.

use std::net::IpAddr;

use nix::libc;

use super::set::{self, Element, Set};
use super::{HEADER, Rule, UDATA_COMMENT, expression};
use crate::nl::wire::{self, Decoded, Message, Request};

// linux/netfilter/nf_tables.h
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_CHAIN_USERDATA: u16 = 12;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
const NF_NETDEV_INGRESS: u32 = 0;
pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_HANDLE: u16 = 3;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(super) const NFTA_RULE_USERDATA: u16 = 7;

/// The priorities of hooks to which `nft` gives names; a chain of a lower one is called first.
pub mod priority {
    /// Before connections are tracked.
    pub const RAW: i32 = -300;
    /// Destinations are translated.
    pub const DSTNAT: i32 = -100;
    /// The same in tables of family bridge.
    pub const DSTNAT_BRIDGED: i32 = -300;
    /// Packets are let through or dropped.
    pub const FILTER: i32 = 0;
    /// Sources are translated.
    pub const SRCNAT: i32 = 100;
}

/// The address family of a table, NFPROTO_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// Frames that one link receives.
    Netdev = 5,
    /// Frames that a bridge hands on.
    Bridge = 7,
    /// IPv6.
    Ip6 = 10,
}

impl Family {
    /// The word of `nft`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Netdev => "netdev",
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
        }
    }
}

/// A table, by family and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: &'a str,
}

impl std::fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.family.as_str(), self.name)
    }
}

/// What a base chain may do with packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainType {
    /// Let them through or drop them.
    Filter,
    /// Translate the addresses of a connection, at its first packet.
    Nat,
}

/// Where the kernel calls a base chain: the same numbers in the families inet, ip, ip6 (NF_INET_*) and bridge (NF_BR_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What arrives.
    Prerouting = 0,
    /// What arrives for the host itself.
    Input = 1,
    /// What the host hands on.
    Forward = 2,
    /// What the host itself sends.
    Output = 3,
    /// What leaves.
    Postrouting = 4,
}

/// What becomes of a packet that no rule of a base chain decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It goes nowhere.
    Drop = 0,
    /// It goes on.
    Accept = 1,
}

/// A chain that the kernel calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseChain<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it may do.
    pub kind: ChainType,
    /// Where it is called.
    pub hook: Hook,
    /// When, among the chains of the hook; see [`priority`].
    pub priority: i32,
    /// `None`: that of the chain that is there, accept for a new one.
    pub policy: Option<Policy>,
}

/// One step of a batch. "Add" of a table, chain, set or element that is there is no error.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// Makes the table.
    AddTable {
        /// What it is for; empty for none.
        comment: &'a str,
    },
    /// Deletes the table with all that is in it; ENOENT when it is gone.
    DeleteTable,
    /// Makes a chain that others jump to.
    AddChain {
        /// Its name.
        chain: &'a str,
        /// What it is for; empty for none.
        comment: &'a str,
    },
    /// Makes a chain that the kernel calls. EEXIST or EOPNOTSUPP when one of the name is hooked in elsewhere.
    AddBaseChain(BaseChain<'a>),
    /// Makes a chain that the kernel calls for each frame that one link receives, before anything else sees it. In a table of
    /// family netdev. The chain may go with the link: kernels differ.
    AddIngressChain {
        /// Its name.
        chain: &'a str,
        /// Name of the link.
        link: &'a str,
    },
    /// Deletes a chain with its rules; ENOENT when it is gone, EBUSY when a rule of another chain leads to it.
    DeleteChain {
        /// Its name.
        chain: &'a str,
    },
    /// Empties a chain.
    Flush {
        /// Its name.
        chain: &'a str,
    },
    /// Appends a rule to its chain.
    AddRule(Rule<'a>),
    /// Deletes a rule; ENOENT when it is gone.
    DeleteRule {
        /// The chain.
        chain: &'a str,
        /// The handle that [`super::Nftables::rules`] told.
        handle: u64,
    },
    /// Makes a set. EEXIST when there is one of the name with other properties.
    AddSet(Set<'a>),
    /// Deletes a set; ENOENT when it is gone, EBUSY when a rule looks into it.
    DeleteSet {
        /// Its name.
        set: &'a str,
    },
    /// Empties a set.
    FlushSet {
        /// Its name.
        set: &'a str,
    },
    /// Adds elements to a set. A batch is one datagram of at most some 200 KiB: 4,000 elements.
    AddElements {
        /// The set.
        set: &'a str,
        /// Its new elements.
        elements: &'a [Element],
    },
    /// Adds values to a set whose elements are no addresses alone; see [`Key`](super::Key).
    AddValues {
        /// The set.
        set: &'a str,
        /// Its new elements.
        values: &'a [Vec<u8>],
    },
    /// Takes values out of such a set; ENOENT as for addresses.
    DeleteValues {
        /// The set.
        set: &'a str,
        /// What goes.
        values: &'a [Vec<u8>],
    },
    /// Takes elements out of a set; ENOENT, and nothing of the batch is done, when one of them is not there.
    DeleteElements {
        /// The set.
        set: &'a str,
        /// What goes.
        addresses: &'a [IpAddr],
    },
}

/// Reads one NFT_MSG_NEWCHAIN: its table and its name.
pub(super) fn decode_chain(message: &Message<'_>) -> Decoded<(String, String)> {
    let attributes = message.body.get(HEADER..).ok_or(wire::Malformed)?;
    let text = |kind| wire::find(attributes, kind).map(|value| value.map(wire::text).unwrap_or_default());
    Ok((text(NFTA_CHAIN_TABLE)?, text(NFTA_CHAIN_NAME)?))
}

/// A message about something of a family.
pub(super) fn message(family: u8, kind: i32, flags: i32) -> Request {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16;
    let header: [u8; HEADER] = [family, 0, 0, 0];
    Request::new(kind, flags, &header)
}

/// Asks for the rules of a table, or of one of its chains.
pub(super) fn rules_wanted(table: Table<'_>, chain: Option<&str>, flags: i32) -> Request {
    let mut request = message(table.family as u8, libc::NFT_MSG_GETRULE, flags);
    request.text(NFTA_RULE_TABLE, table.name);
    if let Some(chain) = chain {
        request.text(NFTA_RULE_CHAIN, chain);
    }
    request
}

/// The requests of a step; many elements need more than one, for an attribute has at most 64 KiB.
pub(super) fn encode(table: Table<'_>, step: &Step<'_>, requests: &mut Vec<Request>) {
    let create = libc::NLM_F_CREATE | libc::NLM_F_ACK;
    // A message about an object of the table begins with the table's name and its own, in these attributes.
    let named = |kind, flags, attributes: (u16, u16), name: &str| {
        let mut request = message(table.family as u8, kind, flags);
        request.text(attributes.0, table.name);
        request.text(attributes.1, name);
        request
    };
    const CHAIN: (u16, u16) = (NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME);
    const RULE: (u16, u16) = (NFTA_RULE_TABLE, NFTA_RULE_CHAIN);
    const ELEMENTS: (u16, u16) = (set::NFTA_SET_ELEM_LIST_TABLE, set::NFTA_SET_ELEM_LIST_SET);
    let request = match *step {
        Step::AddTable { comment } => {
            let mut request = message(table.family as u8, libc::NFT_MSG_NEWTABLE, create);
            request.text(NFTA_TABLE_NAME, table.name);
            if !comment.is_empty() {
                request.bytes(NFTA_TABLE_USERDATA, &user_data(comment));
            }
            request
        }
        Step::DeleteTable => {
            let mut request = message(table.family as u8, libc::NFT_MSG_DELTABLE, libc::NLM_F_ACK);
            request.text(NFTA_TABLE_NAME, table.name);
            request
        }
        Step::AddChain { chain, comment } => {
            let mut request = named(libc::NFT_MSG_NEWCHAIN, create, CHAIN, chain);
            if !comment.is_empty() {
                request.bytes(NFTA_CHAIN_USERDATA, &user_data(comment));
            }
            request
        }
        Step::AddBaseChain(chain) => {
            let mut request = named(libc::NFT_MSG_NEWCHAIN, create, CHAIN, chain.name);
            let kind = match chain.kind {
                ChainType::Filter => "filter",
                ChainType::Nat => "nat",
            };
            request.text(NFTA_CHAIN_TYPE, kind);
            request.nest(NFTA_CHAIN_HOOK, |hook| {
                hook.be32(NFTA_HOOK_HOOKNUM, chain.hook as u32);
                hook.be32(NFTA_HOOK_PRIORITY, chain.priority as u32);
            });
            if let Some(policy) = chain.policy {
                request.be32(NFTA_CHAIN_POLICY, policy as u32);
            }
            request
        }
        Step::AddIngressChain { chain, link } => {
            let mut request = named(libc::NFT_MSG_NEWCHAIN, create, CHAIN, chain);
            request.text(NFTA_CHAIN_TYPE, "filter");
            request.nest(NFTA_CHAIN_HOOK, |hook| {
                hook.be32(NFTA_HOOK_HOOKNUM, NF_NETDEV_INGRESS);
                hook.be32(NFTA_HOOK_PRIORITY, priority::FILTER as u32);
                hook.text(NFTA_HOOK_DEV, link);
            });
            request
        }
        Step::DeleteChain { chain } => named(libc::NFT_MSG_DELCHAIN, libc::NLM_F_ACK, CHAIN, chain),
        Step::Flush { chain } => named(libc::NFT_MSG_DELRULE, libc::NLM_F_ACK, RULE, chain),
        Step::AddRule(ref rule) => {
            let mut request = named(libc::NFT_MSG_NEWRULE, create | libc::NLM_F_APPEND, RULE, rule.chain);
            request.nest(NFTA_RULE_EXPRESSIONS, |list| {
                expression::encode(list, table.family, &rule.conditions, rule.action)
            });
            if !rule.comment.is_empty() {
                request.bytes(NFTA_RULE_USERDATA, &user_data(rule.comment));
            }
            request
        }
        Step::DeleteRule { chain, handle } => {
            let mut request = named(libc::NFT_MSG_DELRULE, libc::NLM_F_ACK, RULE, chain);
            request.be64(NFTA_RULE_HANDLE, handle);
            request
        }
        Step::AddSet(ref set) => {
            let mut request = named(libc::NFT_MSG_NEWSET, create, (set::NFTA_SET_TABLE, set::NFTA_SET_NAME), set.name);
            // Rules look a set up by its name; the number, which the kernel insists on, tells the sets of a batch apart.
            set::encode(&mut request, set, requests.len() as u32);
            request
        }
        Step::DeleteSet { set } => {
            named(libc::NFT_MSG_DELSET, libc::NLM_F_ACK, (set::NFTA_SET_TABLE, set::NFTA_SET_NAME), set)
        }
        Step::FlushSet { set } => named(libc::NFT_MSG_DELSETELEM, libc::NLM_F_ACK, ELEMENTS, set),
        Step::AddElements { set, elements } => {
            requests.extend(elements.chunks(set::CHUNK).map(|some| {
                let mut request = named(libc::NFT_MSG_NEWSETELEM, create, ELEMENTS, set);
                set::encode_elements(&mut request, some.iter().map(|element| (element.address, element.timeout)));
                request
            }));
            return;
        }
        Step::AddValues { set, values } | Step::DeleteValues { set, values } => {
            let (kind, flags) = match step {
                Step::AddValues { .. } => (libc::NFT_MSG_NEWSETELEM, create),
                _ => (libc::NFT_MSG_DELSETELEM, libc::NLM_F_ACK),
            };
            requests.extend(values.chunks(set::CHUNK).map(|some| {
                let mut request = named(kind, flags, ELEMENTS, set);
                set::encode_values(&mut request, some);
                request
            }));
            return;
        }
        Step::DeleteElements { set, addresses } => {
            requests.extend(addresses.chunks(set::CHUNK).map(|some| {
                let mut request = named(libc::NFT_MSG_DELSETELEM, libc::NLM_F_ACK, ELEMENTS, set);
                set::encode_elements(&mut request, some.iter().map(|address| (*address, None)));
                request
            }));
            return;
        }
    };
    requests.push(request);
}

/// A comment in the form of libnftnl: type, length, text with its zero.
fn user_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(254)];
    let mut bytes = vec![UDATA_COMMENT, text.len() as u8 + 1];
    bytes.extend_from_slice(text);
    bytes.push(0);
    bytes
}
