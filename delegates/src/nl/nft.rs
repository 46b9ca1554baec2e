//! nf_tables: one table of family inet, changed by atomic batches.
//!
//! The expressions are those that `nft` makes of the same rule, so that `nft list ruleset` reads them back.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::errno::Errno;
use nix::libc;

use super::socket::Netlink;
use super::wire::{self, Attributes, Decoded, Message, Request};
use crate::error::Result;

/// Bytes of `struct nfgenmsg`.
const HEADER: usize = 4;
const FAMILY_INET: u8 = 1;

// linux/netfilter/nf_tables.h
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_CHAIN_USERDATA: u16 = 12;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFT_META_NFPROTO: u32 = 15;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFT_RETURN: i32 = -5;
const NFT_GOTO: i32 = -4;
const REGISTER_VERDICT: u32 = 0;
const REGISTER: u32 = 1;
/// Type of a comment in user data, the same for tables, chains and rules (libnftnl).
const UDATA_COMMENT: u8 = 0;
const NF_INET_POST_ROUTING: u32 = 4;
const PRIORITY_SRCNAT: u32 = 100;

/// A table of family inet, by name, with the socket that changes it.
pub struct Table {
    netlink: Netlink,
    name: &'static str,
    deadline: Instant,
}

/// One step of a batch. "Add" of a table or chain that is there is no error.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// Makes the table.
    AddTable {
        /// What it is for.
        comment: &'a str,
    },
    /// Makes a chain that others jump to.
    AddChain {
        /// Its name.
        chain: &'a str,
        /// What it is for.
        comment: &'a str,
    },
    /// Makes a chain of type nat in hook postrouting, priority srcnat.
    AddPostrouting {
        /// Its name.
        chain: &'a str,
    },
    /// Empties a chain.
    Flush {
        /// Its name.
        chain: &'a str,
    },
    /// Appends a rule.
    AddRule {
        /// The chain.
        chain: &'a str,
        /// What must hold; all conditions are of one address family.
        conditions: &'a [Condition],
        /// What is done then.
        action: Action<'a>,
        /// Up to 254 bytes; empty for none.
        comment: &'a str,
    },
    /// Deletes a rule; ENOENT when it is gone.
    DeleteRule {
        /// The chain.
        chain: &'a str,
        /// The handle that [`Table::rules`] told.
        handle: u64,
    },
}

/// Compares an address of the packet with a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The source is inside.
    SourceIn(IpNet),
    /// The destination is inside.
    DestinationIn(IpNet),
    /// The destination is outside.
    DestinationNotIn(IpNet),
}

/// The end of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Back to the calling chain, or the policy.
    Return,
    /// On to another chain, for good.
    Goto(&'a str),
    /// The packet leaves with the address of the link that it leaves by.
    Masquerade,
}

/// A rule as the kernel holds it, as far as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRule {
    /// The chain that it is in.
    pub chain: String,
    /// Names the rule within its table.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<String>,
    /// The constants in its expressions, in order: what it compares with (family, then addresses or their leading
    /// bytes), then the name of the chain that it goes to, with its zero.
    pub constants: Vec<Vec<u8>>,
}

impl Table {
    /// The table of that name in the thread's current network namespace. EPROTONOSUPPORT when the kernel lacks
    /// netfilter's netlink.
    pub fn open(name: &'static str, deadline: Instant) -> Result<Self> {
        Ok(Self { netlink: Netlink::open_netfilter(deadline)?, name, deadline })
    }

    /// Does all steps, or none.
    pub fn commit(&mut self, steps: &[Step<'_>]) -> Result<()> {
        let mut requests = Vec::with_capacity(steps.len() + 2);
        requests.push(frame(libc::NFNL_MSG_BATCH_BEGIN));
        requests.extend(steps.iter().map(|step| encode(self.name, step)));
        requests.push(frame(libc::NFNL_MSG_BATCH_END));
        let name = self.name;
        self.netlink.batch(requests, &|| format!("change nftables table inet {name}"))
    }

    /// The rules of all chains; none when there is no such table.
    pub fn rules(&mut self) -> Result<Vec<StoredRule>> {
        let mut request = message(libc::NFT_MSG_GETRULE, libc::NLM_F_DUMP);
        request.text(NFTA_RULE_TABLE, self.name);
        loop {
            let what = || format!("list nftables table inet {}", self.name);
            match self.netlink.dump(&request, what, |message| decode(message).map(Some)) {
                Err(error) => match super::errno(&error) {
                    Some(Errno::ENOENT) => return Ok(Vec::new()),
                    // Every commit on the node changes the generation: during a burst of pods five tries are few.
                    Some(Errno::EINTR) if Instant::now() < self.deadline => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    _ => return Err(error),
                },
                found => return found,
            }
        }
    }
}

/// The begin or end of a batch; its resource is the subsystem.
fn frame(kind: i32) -> Request {
    let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    Request::new(kind as u16, 0, &[libc::AF_UNSPEC as u8, 0, high, low])
}

fn message(kind: i32, flags: i32) -> Request {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16;
    Request::new(kind, flags, &[FAMILY_INET, 0, 0, 0])
}

fn encode(table: &str, step: &Step<'_>) -> Request {
    let create = libc::NLM_F_CREATE | libc::NLM_F_ACK;
    match step {
        Step::AddTable { comment } => {
            let mut request = message(libc::NFT_MSG_NEWTABLE, create);
            request.text(NFTA_TABLE_NAME, table);
            request.bytes(NFTA_TABLE_USERDATA, &user_data(comment));
            request
        }
        Step::AddChain { chain, comment } => {
            let mut request = message(libc::NFT_MSG_NEWCHAIN, create);
            request.text(NFTA_CHAIN_TABLE, table);
            request.text(NFTA_CHAIN_NAME, chain);
            request.bytes(NFTA_CHAIN_USERDATA, &user_data(comment));
            request
        }
        Step::AddPostrouting { chain } => {
            let mut request = message(libc::NFT_MSG_NEWCHAIN, create);
            request.text(NFTA_CHAIN_TABLE, table);
            request.text(NFTA_CHAIN_NAME, chain);
            request.text(NFTA_CHAIN_TYPE, "nat");
            request.nest(NFTA_CHAIN_HOOK, |hook| {
                hook.be32(NFTA_HOOK_HOOKNUM, NF_INET_POST_ROUTING);
                hook.be32(NFTA_HOOK_PRIORITY, PRIORITY_SRCNAT);
            });
            request
        }
        Step::Flush { chain } => {
            let mut request = message(libc::NFT_MSG_DELRULE, libc::NLM_F_ACK);
            request.text(NFTA_RULE_TABLE, table);
            request.text(NFTA_RULE_CHAIN, chain);
            request
        }
        Step::AddRule { chain, conditions, action, comment } => {
            let mut request = message(libc::NFT_MSG_NEWRULE, create | libc::NLM_F_APPEND);
            request.text(NFTA_RULE_TABLE, table);
            request.text(NFTA_RULE_CHAIN, chain);
            request.nest(NFTA_RULE_EXPRESSIONS, |list| rule(list, conditions, *action));
            if !comment.is_empty() {
                request.bytes(NFTA_RULE_USERDATA, &user_data(comment));
            }
            request
        }
        Step::DeleteRule { chain, handle } => {
            let mut request = message(libc::NFT_MSG_DELRULE, libc::NLM_F_ACK);
            request.text(NFTA_RULE_TABLE, table);
            request.text(NFTA_RULE_CHAIN, chain);
            request.be64(NFTA_RULE_HANDLE, *handle);
            request
        }
    }
}

/// A comment in the form of libnftnl: type, length, text with its zero.
fn user_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(254)];
    let mut bytes = vec![UDATA_COMMENT, text.len() as u8 + 1];
    bytes.extend_from_slice(text);
    bytes.push(0);
    bytes
}

fn rule(list: &mut Request, conditions: &[Condition], action: Action<'_>) {
    if let Some(first) = conditions.first() {
        let (net, ..) = first.parts();
        let family = if net.addr().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        expression(list, "meta", |data| {
            data.be32(NFTA_META_KEY, NFT_META_NFPROTO);
            data.be32(NFTA_META_DREG, REGISTER);
        });
        compare(list, NFT_CMP_EQ, &[family as u8]);
    }
    for condition in conditions {
        let (net, is_source, operator) = condition.parts();
        compare_address(list, net, is_source, operator);
    }
    match action {
        Action::Return => verdict(list, NFT_RETURN, None),
        Action::Goto(chain) => verdict(list, NFT_GOTO, Some(chain)),
        Action::Masquerade => expression(list, "masq", |_| {}),
    }
}

impl Condition {
    fn parts(&self) -> (IpNet, bool, u32) {
        match *self {
            Self::SourceIn(net) => (net, true, NFT_CMP_EQ),
            Self::DestinationIn(net) => (net, false, NFT_CMP_EQ),
            Self::DestinationNotIn(net) => (net, false, NFT_CMP_NEQ),
        }
    }
}

/// Loads as much of the address as the prefix covers, masks it where the prefix ends within a byte, compares.
fn compare_address(list: &mut Request, net: IpNet, is_source: bool, operator: u32) {
    let (address, source, destination) = match net.network() {
        std::net::IpAddr::V4(ip) => (ip.octets().to_vec(), 12, 16),
        std::net::IpAddr::V6(ip) => (ip.octets().to_vec(), 8, 24),
    };
    let prefix = usize::from(net.prefix_len());
    let ends_within_byte = !prefix.is_multiple_of(8);
    // `nft` loads whole bytes, or the whole address when it needs a mask; a prefix of length 0 matches by its mask too.
    let masked = ends_within_byte || prefix == 0;
    let length = if masked { address.len() } else { prefix / 8 };
    expression(list, "payload", |data| {
        data.be32(NFTA_PAYLOAD_DREG, REGISTER);
        data.be32(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
        data.be32(NFTA_PAYLOAD_OFFSET, if is_source { source } else { destination });
        data.be32(NFTA_PAYLOAD_LEN, length as u32);
    });
    if masked {
        let mask: Vec<u8> = (0..length).map(|byte| mask_byte(prefix.saturating_sub(8 * byte))).collect();
        expression(list, "bitwise", |data| {
            data.be32(NFTA_BITWISE_SREG, REGISTER);
            data.be32(NFTA_BITWISE_DREG, REGISTER);
            data.be32(NFTA_BITWISE_LEN, length as u32);
            data.nest(NFTA_BITWISE_MASK, |value| _ = value.bytes(NFTA_DATA_VALUE, &mask));
            data.nest(NFTA_BITWISE_XOR, |value| _ = value.bytes(NFTA_DATA_VALUE, &vec![0; length]));
        });
    }
    compare(list, operator, &address[..length]);
}

/// The mask of a byte of which the first `bits` bits count.
fn mask_byte(bits: usize) -> u8 {
    if bits >= 8 { 0xff } else { !(0xff >> bits) }
}

fn compare(list: &mut Request, operator: u32, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.be32(NFTA_CMP_SREG, REGISTER);
        data.be32(NFTA_CMP_OP, operator);
        data.nest(NFTA_CMP_DATA, |constant| _ = constant.bytes(NFTA_DATA_VALUE, value));
    });
}

fn verdict(list: &mut Request, code: i32, chain: Option<&str>) {
    expression(list, "immediate", |data| {
        data.be32(NFTA_IMMEDIATE_DREG, REGISTER_VERDICT);
        data.nest(NFTA_IMMEDIATE_DATA, |value| {
            value.nest(NFTA_DATA_VERDICT, |verdict| {
                verdict.be32(NFTA_VERDICT_CODE, code as u32);
                if let Some(chain) = chain {
                    verdict.text(NFTA_VERDICT_CHAIN, chain);
                }
            });
        });
    });
}

fn expression(list: &mut Request, name: &str, fill: impl FnOnce(&mut Request)) {
    list.nest(NFTA_LIST_ELEM, |element| {
        element.text(NFTA_EXPR_NAME, name);
        element.nest(NFTA_EXPR_DATA, fill);
    });
}

fn decode(message: &Message<'_>) -> Decoded<StoredRule> {
    let mut rule = StoredRule::default();
    for attribute in Attributes::after(message.body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            NFTA_RULE_CHAIN => rule.chain = wire::text(value),
            NFTA_RULE_HANDLE => rule.handle = wire::be64(value)?,
            NFTA_RULE_USERDATA => rule.comment = comment(value),
            NFTA_RULE_EXPRESSIONS => rule.constants = constants(value)?,
            _ => {}
        }
    }
    Ok(rule)
}

/// The comment among user data; what others put there is skipped.
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            return Some(wire::text(value));
        }
        data = &rest[value.len()..];
    }
    None
}

fn constants(expressions: &[u8]) -> Decoded<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for element in Attributes::inside(expressions) {
        let (_, element) = element?;
        let name = wire::find(element, NFTA_EXPR_NAME)?.map(wire::text);
        let Some(data) = wire::find(element, NFTA_EXPR_DATA)? else { continue };
        let path: &[u16] = match name.as_deref() {
            Some("cmp") => &[NFTA_CMP_DATA, NFTA_DATA_VALUE],
            Some("immediate") => &[NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN],
            _ => continue,
        };
        let mut value = Some(data);
        for kind in path {
            value = match value {
                Some(outer) => wire::find(outer, *kind)?,
                None => None,
            };
        }
        found.extend(value.map(<[u8]>::to_vec));
    }
    Ok(found)
}
