//! nf_tables: tables changed by atomic batches.
//!
//! [`rule`] says what a rule is made of and writes it, [`stored`] reads what the kernel holds. The expressions are those
//! that `nft` makes of the same rule, so that `nft list ruleset` reads them back.

mod rule;
mod stored;

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

pub use rule::{Action, Condition};
pub use stored::{Field, StoredRule, Test};

use super::socket::{Netfilter, Socket};
use super::wire::{self, Request};
use crate::error::{Error, Result};

/// Bytes of `struct nfgenmsg`.
const HEADER: usize = 4;

// linux/netfilter/nf_tables.h
const NFNL_BATCH_GENID: u16 = 1;
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
const NFTA_GEN_ID: u16 = 1;
// linux/netfilter_bridge.h
const NF_BR_PRE_ROUTING: u32 = 0;
const NF_BR_PRI_NAT_DST_BRIDGED: i32 = -300;
/// Type of a comment in user data, the same for tables, chains and rules (libnftnl).
const UDATA_COMMENT: u8 = 0;

/// The address family of a table, NFPROTO_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
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
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
        }
    }
}

/// A table, by family and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: &'static str,
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.family.as_str(), self.name)
    }
}

/// Where a chain of type nat is hooked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What arrives, at priority dstnat.
    Prerouting,
    /// What the host itself sends, at the same priority.
    Output,
    /// What leaves, at priority srcnat.
    Postrouting,
}

impl Hook {
    /// NF_INET_* and the priority.
    fn numbers(self) -> (u32, i32) {
        match self {
            Self::Prerouting => (0, -100),
            Self::Output => (3, -100),
            Self::Postrouting => (4, 100),
        }
    }
}

/// One step of a batch. "Add" of a table or chain that is there is no error.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// Makes the table.
    AddTable {
        /// What it is for; empty for none.
        comment: &'a str,
    },
    /// Makes a chain that others jump to.
    AddChain {
        /// Its name.
        chain: &'a str,
        /// What it is for; empty for none.
        comment: &'a str,
    },
    /// Makes a chain of type nat in a hook.
    AddNatChain {
        /// Its name.
        chain: &'a str,
        /// Where the kernel calls it.
        hook: Hook,
    },
    /// Makes a chain of type filter in a bridge table's hook prerouting, priority dstnat. One that is there keeps its
    /// policy.
    AddBridgeFilter {
        /// Its name.
        chain: &'a str,
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
    /// Appends a rule.
    AddRule {
        /// The chain.
        chain: &'a str,
        /// What must hold; all addresses are of one family.
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
        /// The handle that [`Nftables::rules`] told.
        handle: u64,
    },
}

/// The tables of the namespace that the thread was in.
pub struct Nftables {
    netlink: Socket<Netfilter>,
    deadline: Instant,
}

impl Nftables {
    /// EPROTONOSUPPORT when the kernel lacks netfilter's netlink.
    pub fn open(deadline: Instant) -> Result<Self> {
        Ok(Self::over(Socket::open(deadline)?, deadline))
    }

    /// Over a socket that is open; see [`Socket::over`].
    pub fn over(netlink: Socket<Netfilter>, deadline: Instant) -> Self {
        Self { netlink, deadline }
    }

    /// The socket, for netfilter's other subsystems.
    pub(super) fn netlink(&mut self) -> &mut Socket<Netfilter> {
        &mut self.netlink
    }

    /// Does all steps on all tables, or none.
    pub fn commit(&mut self, changes: &[(Table, Vec<Step<'_>>)]) -> Result<()> {
        self.commit_after(frame(libc::NFNL_MSG_BATCH_BEGIN), changes)
    }

    /// The same if nothing has changed since [`Self::generation`] was asked; ERESTART otherwise, also when what changed is
    /// another table.
    pub fn commit_at(&mut self, generation: u32, changes: &[(Table, Vec<Step<'_>>)]) -> Result<()> {
        let mut begin = frame(libc::NFNL_MSG_BATCH_BEGIN);
        begin.be32(NFNL_BATCH_GENID, generation);
        self.commit_after(begin, changes)
    }

    fn commit_after(&mut self, begin: Request, changes: &[(Table, Vec<Step<'_>>)]) -> Result<()> {
        let mut requests = vec![begin];
        for (table, steps) in changes {
            requests.extend(steps.iter().map(|step| encode(*table, step)));
        }
        requests.push(frame(libc::NFNL_MSG_BATCH_END));
        let names = || changes.iter().map(|(table, _)| table.to_string()).collect::<Vec<_>>().join(", ");
        self.netlink.batch(requests, &|| format!("change nftables table {}", names()))
    }

    /// Could a table be made? It is tried in a batch that comes to nothing: a listing does not tell, for a kernel without the
    /// family lists no rules either.
    pub fn could_make(&mut self, table: Table) -> Result<bool> {
        let never_there = Step::DeleteRule { chain: "meta-cni-probe", handle: 1 };
        match self.commit(&[(table, vec![Step::AddTable { comment: "" }, never_there])]) {
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) if super::errno(&error) == Some(Errno::ENOENT) => Ok(true),
            other => other.map(|()| true),
        }
    }

    /// The number of the last change to any table of the namespace.
    pub fn generation(&mut self) -> Result<u32> {
        let what = || "ask nftables for its generation".to_owned();
        let request = message(0, libc::NFT_MSG_GETGEN, 0);
        let told = self.netlink.one(request, what, |message| {
            let attributes = message.body.get(HEADER..).ok_or(wire::Malformed)?;
            wire::find(attributes, NFTA_GEN_ID)?.map_or(Err(wire::Malformed), wire::be32)
        })?;
        told.ok_or_else(|| Error::Kernel { op: what(), errno: libc::ENODEV, detail: String::new() })
    }

    /// The rules of all chains of a table; none when there is no such table.
    pub fn rules(&mut self, table: Table) -> Result<Vec<StoredRule>> {
        let mut request = message(table.family as u8, libc::NFT_MSG_GETRULE, libc::NLM_F_DUMP);
        request.text(NFTA_RULE_TABLE, table.name);
        loop {
            let what = || format!("list nftables table {table}");
            match self.netlink.dump(&request, what, |message| stored::decode(message).map(Some)) {
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

/// Does the kernel lack nf_tables? Without nfnetlink there is no such socket; without nf_tables nfnetlink knows no such
/// message, and a family that is missing is not supported.
pub fn is_missing(error: &Error) -> bool {
    matches!(
        super::errno(error),
        Some(Errno::EPROTONOSUPPORT | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)
    )
}

/// STATUS: [`Error::NotReady`] with the text `missing` when the kernel could not make a table.
pub fn require(table: Table, missing: &str, deadline: Instant) -> Result<()> {
    let missing = || Error::NotReady(missing.to_owned());
    let mut nftables = match Nftables::open(deadline) {
        Err(error) if is_missing(&error) => return Err(missing()),
        opened => opened?,
    };
    again_when_raced(deadline, || if nftables.could_make(table)? { Ok(()) } else { Err(missing()) })
}

/// Does it again when another process changed the same chain in between: a rule that was listed is gone (ENOENT), or the
/// kernel gave way.
pub fn again_when_raced(deadline: Instant, mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    const RACES: [Errno; 5] = [Errno::ENOENT, Errno::EAGAIN, Errno::EINTR, Errno::EBUSY, Errno::ERESTART];
    // What is missing for good is missing at every attempt; a changed generation is a race for certain.
    const ATTEMPTS: u32 = 20;
    let mut tried = 0;
    loop {
        match attempt() {
            Err(error) if super::errno(&error).is_some_and(|errno| RACES.contains(&errno)) => {
                tried += u32::from(super::errno(&error) != Some(Errno::ERESTART));
                if tried >= ATTEMPTS || Instant::now() >= deadline {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

/// The begin or end of a batch; its resource is the subsystem.
fn frame(kind: i32) -> Request {
    let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    Request::new(kind as u16, 0, &[libc::AF_UNSPEC as u8, 0, high, low])
}

fn message(family: u8, kind: i32, flags: i32) -> Request {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16;
    Request::new(kind, flags, &[family, 0, 0, 0])
}

fn encode(table: Table, step: &Step<'_>) -> Request {
    let create = libc::NLM_F_CREATE | libc::NLM_F_ACK;
    let message = |kind, flags| message(table.family as u8, kind, flags);
    let table_name = table.name;
    match step {
        Step::AddTable { comment } => {
            let mut request = message(libc::NFT_MSG_NEWTABLE, create);
            request.text(NFTA_TABLE_NAME, table_name);
            if !comment.is_empty() {
                request.bytes(NFTA_TABLE_USERDATA, &user_data(comment));
            }
            request
        }
        Step::AddChain { chain, comment } => {
            let mut request = message(libc::NFT_MSG_NEWCHAIN, create);
            request.text(NFTA_CHAIN_TABLE, table_name);
            request.text(NFTA_CHAIN_NAME, chain);
            if !comment.is_empty() {
                request.bytes(NFTA_CHAIN_USERDATA, &user_data(comment));
            }
            request
        }
        Step::AddNatChain { chain, hook } => {
            let (number, priority) = hook.numbers();
            let mut request = message(libc::NFT_MSG_NEWCHAIN, create);
            request.text(NFTA_CHAIN_TABLE, table_name);
            request.text(NFTA_CHAIN_NAME, chain);
            request.text(NFTA_CHAIN_TYPE, "nat");
            request.nest(NFTA_CHAIN_HOOK, |hook| {
                hook.be32(NFTA_HOOK_HOOKNUM, number);
                hook.be32(NFTA_HOOK_PRIORITY, priority as u32);
            });
            request
        }
        Step::AddBridgeFilter { chain } => {
            let mut request = message(libc::NFT_MSG_NEWCHAIN, create);
            request.text(NFTA_CHAIN_TABLE, table_name);
            request.text(NFTA_CHAIN_NAME, chain);
            request.text(NFTA_CHAIN_TYPE, "filter");
            request.nest(NFTA_CHAIN_HOOK, |hook| {
                hook.be32(NFTA_HOOK_HOOKNUM, NF_BR_PRE_ROUTING);
                hook.be32(NFTA_HOOK_PRIORITY, NF_BR_PRI_NAT_DST_BRIDGED as u32);
            });
            request
        }
        Step::DeleteChain { chain } => {
            let mut request = message(libc::NFT_MSG_DELCHAIN, libc::NLM_F_ACK);
            request.text(NFTA_CHAIN_TABLE, table_name);
            request.text(NFTA_CHAIN_NAME, chain);
            request
        }
        Step::Flush { chain } => {
            let mut request = message(libc::NFT_MSG_DELRULE, libc::NLM_F_ACK);
            request.text(NFTA_RULE_TABLE, table_name);
            request.text(NFTA_RULE_CHAIN, chain);
            request
        }
        Step::AddRule { chain, conditions, action, comment } => {
            let mut request = message(libc::NFT_MSG_NEWRULE, create | libc::NLM_F_APPEND);
            request.text(NFTA_RULE_TABLE, table_name);
            request.text(NFTA_RULE_CHAIN, chain);
            request.nest(NFTA_RULE_EXPRESSIONS, |list| rule::encode(list, table.family, conditions, *action));
            if !comment.is_empty() {
                request.bytes(NFTA_RULE_USERDATA, &user_data(comment));
            }
            request
        }
        Step::DeleteRule { chain, handle } => {
            let mut request = message(libc::NFT_MSG_DELRULE, libc::NLM_F_ACK);
            request.text(NFTA_RULE_TABLE, table_name);
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
