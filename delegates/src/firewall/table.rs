//! What the modules of the tables share: reading a table, comparing a chain, trying again.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::nl;
use crate::nl::nft::{Family, Nftables, Rule, StoredRule, Table, is_missing};

/// A socket; `None` where the kernel has no nf_tables.
pub(super) fn open(deadline: Instant) -> Result<Option<Nftables>> {
    match Nftables::open(deadline) {
        Err(error) if is_missing(&error) => Ok(None),
        opened => opened.map(Some),
    }
}

/// What a table holds, and the socket that told it. `None` where the kernel has no nf_tables, or none of the family.
pub fn present(table: Table<'_>, deadline: Instant) -> Result<Option<(Nftables, Vec<StoredRule>)>> {
    let Some(mut nftables) = open(deadline)? else { return Ok(None) };
    match nftables.rules(table) {
        Err(error) if is_missing(&error) => Ok(None),
        listed => listed.map(|rules| Some((nftables, rules))),
    }
}

/// Does a chain hold these rules and no others, in this order? A chain that many attachments share is written again only when
/// it does not: that deletes rules, and a deletion waits for the kernel's readers, 10 ms and more.
pub fn leads(family: Family, chain: &str, present: &[StoredRule], expected: &[Rule<'_>]) -> bool {
    let rules: Vec<_> = present.iter().filter(|rule| rule.chain == chain).collect();
    let is = |(rule, expected): (&&StoredRule, &Rule<'_>)| rule.does_as(&StoredRule::of(family, expected));
    rules.len() == expected.len() && rules.iter().zip(expected).all(is)
}

/// STATUS: [`Error::NotReady`] with the text `missing` when the kernel could not make a table.
pub fn require(table: Table<'_>, missing: &str, deadline: Instant) -> Result<()> {
    let missing = || Error::NotReady(missing.to_owned());
    let Some(mut nftables) = open(deadline)? else { return Err(missing()) };
    again_when_raced(deadline, || if nftables.could_make(table)? { Ok(()) } else { Err(missing()) })
}

/// Does it again when another process changed the same chain in between: a rule that was listed is gone (ENOENT), or the
/// kernel gave way.
pub fn again_when_raced<T>(deadline: Instant, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    const RACES: [Errno; 5] = [Errno::ENOENT, Errno::EAGAIN, Errno::EINTR, Errno::EBUSY, Errno::ERESTART];
    // What is missing for good is missing at every attempt; a changed generation is a race for certain.
    const ATTEMPTS: u32 = 20;
    let mut tried = 0;
    loop {
        match attempt() {
            Err(error) if nl::errno(&error).is_some_and(|errno| RACES.contains(&errno)) => {
                tried += u32::from(nl::errno(&error) != Some(Errno::ERESTART));
                if tried >= ATTEMPTS || Instant::now() >= deadline {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}
