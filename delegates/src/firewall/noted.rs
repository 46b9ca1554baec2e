//! The rules of one attachment in a table that all pods of the node share, without a listing: that is as long as the node is full.
//!
//! ADD notes the handles of its rules in the record ([`Host::save`](crate::host::Host::save)); DEL and CHECK ask for each. A handle
//! counts as far as it leads to a rule of the attachment: the kernel gives the same numbers again in a table that was made anew, and
//! whoever restores a saved ruleset gives all rules others. Then a listing finds them, as it does where nobody noted any: in records
//! of earlier versions, and after an ADD that was killed.

use std::time::Instant;

use attachments::cni::object::Object;

use super::table::open;
use crate::error::Result;
use crate::nl::nft::{AddedRule, Nftables, StoredRule, Table, is_missing};

/// Key of ours in the states that are saved.
const STATE: &str = "nftables";

/// The note of rules that an ADD made: of each the number of its family, table, chain and handle, in one text.
pub fn note(added: &[AddedRule]) -> Object {
    let text = |AddedRule { family, table, chain, handle }: &AddedRule| format!("{family} {table} {chain} {handle}");
    let mut state = Object::new();
    state.set(STATE, &added.iter().map(text).collect::<Vec<_>>());
    state
}

/// Is the rule among those that these states note?
pub fn has(states: &[Object], table: Table<'_>, rule: &StoredRule) -> bool {
    let notes =
        states.iter().filter_map(|state| state.decode::<Vec<String>>(STATE, "rules of nftables").ok().flatten());
    let is_it = |text: &String| within(text, table) == Some((rule.chain.as_str(), rule.handle));
    notes.flatten().any(|text| is_it(&text))
}

/// Chain and handle of a noted rule, if it is in that table.
fn within<'a>(text: &'a str, table: Table<'_>) -> Option<(&'a str, u64)> {
    let mut parts = text.split(' ');
    let is_there = parts.next()?.parse() == Ok(table.family as u8) && parts.next()? == table.name;
    let (chain, handle) = (parts.next()?, parts.next()?.parse().ok()?);
    is_there.then_some((chain, handle))
}

/// The rules of a table that are the attachment's own, and the socket that told them. `None` where the kernel has no nf_tables, or none of the family.
/// `saved` is what the ADD saved; `None` where nobody knows.
pub fn own(
    table: Table<'_>,
    saved: Option<&[&Object]>,
    is_own: &dyn Fn(&StoredRule) -> bool,
    deadline: Instant,
) -> Result<Option<(Nftables, Vec<StoredRule>)>> {
    let Some(mut nftables) = open(deadline)? else { return Ok(None) };
    let found = match by_handle(&mut nftables, table, saved.unwrap_or_default(), is_own) {
        Ok(None) => nftables.rules(table).map(|all| all.into_iter().filter(is_own).collect()),
        found => found.map(Option::unwrap_or_default),
    };
    match found {
        Err(error) if is_missing(&error) => Ok(None),
        found => found.map(|rules| Some((nftables, rules))),
    }
}

/// `None` unless there are notes, and each leads to a rule of its own.
fn by_handle(
    nftables: &mut Nftables,
    table: Table<'_>,
    saved: &[&Object],
    is_own: &dyn Fn(&StoredRule) -> bool,
) -> Result<Option<Vec<StoredRule>>> {
    // A note that cannot be read is none.
    let notes = saved.iter().filter_map(|state| state.decode::<Vec<String>>(STATE, "rules of nftables").ok().flatten());
    let mut found = Vec::new();
    for text in notes.flatten() {
        let Some((chain, handle)) = within(&text, table) else { continue };
        match nftables.rule(table, chain, handle)?.filter(is_own) {
            Some(rule) => found.push(rule),
            None => return Ok(None),
        }
    }
    Ok((!found.is_empty()).then_some(found))
}
