//! nf_tables: tables changed by atomic batches.
//!
//! A [`Step`] is one change, a [`Rule`] says what a rule is made of, a [`Set`] is what rules look into; a [`StoredRule`] is
//! what the kernel holds. The expressions are those that `nft` makes of the same rule, so that `nft list ruleset` reads them
//! back. What our own tables look like is the affair of [`crate::firewall`].

mod batch;
mod expression;
mod rule;
mod set;
mod stored;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

pub use batch::{BaseChain, ChainType, Family, Hook, Policy, Step, Table, priority};
pub use rule::{Action, Condition, Part, Rule};
pub use set::{Element, Key, Set};
pub use stored::{AddedRule, Field, StoredLookup, StoredRule, Test};

use self::batch::message;
use super::socket::{Netfilter, Socket};
use super::wire::{self, Message, Request};
use crate::error::{Error, Result};

/// Bytes of `struct nfgenmsg`.
const HEADER: usize = 4;

// linux/netfilter/nf_tables.h
const NFNL_BATCH_GENID: u16 = 1;
const NFTA_GEN_ID: u16 = 1;
/// Type of a comment in user data, the same for tables, chains and rules (libnftnl).
const UDATA_COMMENT: u8 = 0;

/// A table and what is to be done with it.
pub type Change<'a> = (Table<'a>, Vec<Step<'a>>);

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
    pub fn commit(&mut self, changes: &[Change<'_>]) -> Result<()> {
        let (requests, what) = requests(frame(libc::NFNL_MSG_BATCH_BEGIN), changes);
        self.netlink.batch(requests, &what)
    }

    /// The same; gives the rules that were added. None where the kernel does not tell.
    pub fn commit_telling(&mut self, changes: &[Change<'_>]) -> Result<Vec<AddedRule>> {
        self.tell(frame(libc::NFNL_MSG_BATCH_BEGIN), changes)
    }

    /// The same if nothing has changed since [`Self::generation`] was asked; ERESTART otherwise, also when what changed is
    /// another table.
    pub fn commit_at(&mut self, generation: u32, changes: &[Change<'_>]) -> Result<Vec<AddedRule>> {
        let mut begin = frame(libc::NFNL_MSG_BATCH_BEGIN);
        begin.be32(NFNL_BATCH_GENID, generation);
        self.tell(begin, changes)
    }

    fn tell(&mut self, begin: Request, changes: &[Change<'_>]) -> Result<Vec<AddedRule>> {
        let (mut requests, what) = requests(begin, changes);
        requests.iter_mut().for_each(Request::echo);
        let mut added = Vec::new();
        self.netlink.batch_echoed(requests, &what, &mut |message| {
            added.extend(stored::decode_added(message)?);
            Ok(())
        })?;
        Ok(added)
    }

    /// Could a table be made? It is tried in a batch that comes to nothing: a listing does not tell, for a kernel without the
    /// family lists no rules either.
    pub fn could_make(&mut self, table: Table<'_>) -> Result<bool> {
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
    pub fn rules(&mut self, table: Table<'_>) -> Result<Vec<StoredRule>> {
        let request = batch::rules_wanted(table, None, libc::NLM_F_DUMP);
        let rules = self.list(&request, &|| format!("list nftables table {table}"), &stored::decode)?;
        Ok(rules.unwrap_or_default())
    }

    /// The rules of one chain; none when there is no such chain.
    pub fn rules_of(&mut self, table: Table<'_>, chain: &str) -> Result<Vec<StoredRule>> {
        let request = batch::rules_wanted(table, Some(chain), libc::NLM_F_DUMP);
        let what = || format!("list chain {chain} of nftables table {table}");
        let mut rules = self.list(&request, &what, &stored::decode)?.unwrap_or_default();
        // A kernel may tell the whole table.
        rules.retain(|rule| rule.chain == chain);
        Ok(rules)
    }

    /// The rule of a handle; `None` when there is none.
    pub fn rule(&mut self, table: Table<'_>, chain: &str, handle: u64) -> Result<Option<StoredRule>> {
        let mut request = batch::rules_wanted(table, Some(chain), 0);
        request.be64(batch::NFTA_RULE_HANDLE, handle);
        let what = || format!("find rule {handle} in chain {chain} of nftables table {table}");
        match self.netlink.one(request, what, stored::decode) {
            Err(error) if super::errno(&error) == Some(Errno::ENOENT) => Ok(None),
            found => found,
        }
    }

    /// The names of all chains of a table; none when there is no such table.
    pub fn chains(&mut self, table: Table<'_>) -> Result<Vec<String>> {
        let request = message(table.family as u8, libc::NFT_MSG_GETCHAIN, libc::NLM_F_DUMP);
        // The kernel tells the chains of all tables of the family.
        let chains =
            self.list(&request, &|| format!("list the chains of nftables table {table}"), &batch::decode_chain)?;
        Ok(chains.into_iter().flatten().filter(|(of, _)| of == table.name).map(|(_, chain)| chain).collect())
    }

    /// The elements of a set; `None` when there is no such table or set.
    pub fn elements(&mut self, table: Table<'_>, set: &str) -> Result<Option<Vec<Element>>> {
        let request = set::listing(table.family as u8, table.name, set);
        let found = self.list(&request, &|| format!("list set {set} of nftables table {table}"), &set::decode)?;
        Ok(found.map(|messages| messages.into_iter().flatten().collect()))
    }

    /// The elements of a set of any key, as bytes; `None` when there is no such table or set.
    pub fn values(&mut self, table: Table<'_>, set: &str) -> Result<Option<Vec<Vec<u8>>>> {
        let request = set::listing(table.family as u8, table.name, set);
        let found =
            self.list(&request, &|| format!("list set {set} of nftables table {table}"), &set::decode_values)?;
        Ok(found.map(|messages| messages.into_iter().flatten().collect()))
    }

    /// What the kernel lists; `None` when it knows no such table.
    fn list<T>(
        &mut self,
        request: &Request,
        what: &dyn Fn() -> String,
        decode: &dyn Fn(&Message<'_>) -> wire::Decoded<T>,
    ) -> Result<Option<Vec<T>>> {
        loop {
            match self.netlink.dump(request, what, |message| decode(message).map(Some)) {
                Err(error) => match super::errno(&error) {
                    Some(Errno::ENOENT) => return Ok(None),
                    // Every commit on the node changes the generation: during a burst of pods five tries are few.
                    Some(Errno::EINTR) if Instant::now() < self.deadline => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    _ => return Err(error),
                },
                found => return found.map(Some),
            }
        }
    }
}

/// The requests of a batch, and what it is for in words.
fn requests<'a>(begin: Request, changes: &'a [Change<'_>]) -> (Vec<Request>, impl Fn() -> String + 'a) {
    let mut requests = vec![begin];
    for (table, steps) in changes {
        steps.iter().for_each(|step| batch::encode(*table, step, &mut requests));
    }
    requests.push(frame(libc::NFNL_MSG_BATCH_END));
    let names = || changes.iter().map(|(table, _)| table.to_string()).collect::<Vec<_>>().join(", ");
    (requests, move || format!("change nftables table {}", names()))
}

/// Does the kernel lack nf_tables? Without nfnetlink there is no such socket; without nf_tables nfnetlink knows no such
/// message, and a family that is missing is not supported.
pub fn is_missing(error: &Error) -> bool {
    matches!(
        super::errno(error),
        Some(Errno::EPROTONOSUPPORT | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)
    )
}

/// The begin or end of a batch; its resource is the subsystem.
fn frame(kind: i32) -> Request {
    let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    Request::new(kind as u16, 0, &[libc::AF_UNSPEC as u8, 0, high, low])
}
