//! Which slot an attachment gets. Pure.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use attachments::finding::Finding;

use super::Pool;
use super::journal::{Holder, Journal};
use crate::error::Result;
use crate::networks::state::Slots;

/// What the node may give out.
pub struct Share {
    /// The addresses of the network.
    pub pool: Pool,
    /// The node's slots.
    pub slots: Vec<Slots>,
    /// The slots that are promised, each with who alone gets it.
    pub claimed: BTreeMap<u32, String>,
}

impl Share {
    /// The whole pool.
    pub fn all(pool: Pool) -> Self {
        let slots = vec![Slots { first: 0, count: pool.capacity() }];
        Self { pool, slots, claimed: BTreeMap::new() }
    }

    /// Is it one of the node's slots?
    pub fn contains(&self, slot: u32) -> bool {
        self.slots.iter().any(|run| run.contains(slot))
    }

    fn is_promised_to_another(&self, slot: u32, pod: Option<&str>) -> bool {
        self.claimed.get(&slot).is_some_and(|holder| Some(holder.as_str()) != pod)
    }

    /// The node's slots that somebody may get, beginning with this one, and around.
    fn usable_from(&self, start: u32) -> impl Iterator<Item = u32> {
        let mut runs = self.slots.clone();
        runs.sort_unstable();
        let runs: Vec<(u32, u32)> = runs.iter().map(|run| (run.first, run.first.saturating_add(run.count))).collect();
        let upper = runs.iter().map(|(first, end)| (*first.max(&start), *end));
        let lower = runs.iter().map(|(first, end)| (*first, *end.min(&start)));
        let parts: Vec<(u32, u32)> = upper.chain(lower).filter(|(first, end)| first < end).collect();
        parts.into_iter().flat_map(move |(first, end)| {
            let within = move |slot: u32| self.pool.usable_from(slot).filter(|slot| *slot < end);
            std::iter::successors(within(first), move |slot| within(slot + 1))
        })
    }
}

/// What became of the slots.
pub struct Past {
    /// Those that somebody has.
    live: HashSet<u32>,
    /// Those that were given back, longest ago first.
    freed: Vec<u32>,
    /// The one that was given last.
    last: Option<u32>,
}

impl Past {
    /// What a journal says of a pool's slots. An address that is no slot's is an earlier pool's.
    pub fn of(journal: &Journal, pool: &Pool) -> Self {
        let slot = |ip: &IpAddr| pool.slot_of(*ip);
        let live = journal.live.iter().flat_map(|line| &line.lease.addresses).filter_map(slot).collect();
        let freed = journal.freed.iter().filter_map(|addresses| addresses.first().and_then(slot)).collect();
        Self { live, freed, last: journal.last.and_then(|ip| pool.slot_of(ip)) }
    }
}

/// The slot for an attachment that asks for none: one that nobody had, else the one that was given back longest ago. So what has just been
/// given back, and what others may still think is where it was, comes last. `None` when all are taken. `go_on` is asked at each
/// step, for a pool may be large.
pub fn next(share: &Share, past: &Past, go_on: impl Fn() -> Result<()>) -> Result<Option<u32>> {
    let is_free =
        |slot: &u32| !past.live.contains(slot) && share.contains(*slot) && share.pool.usable_from(*slot) == Some(*slot);
    let freed: HashSet<u32> = past.freed.iter().copied().collect();
    for slot in share.usable_from(past.last.map_or(0, |last| last.saturating_add(1))) {
        go_on()?;
        if !past.live.contains(&slot) && !freed.contains(&slot) && !share.claimed.contains_key(&slot) {
            return Ok(Some(slot));
        }
    }
    Ok(past.freed.iter().copied().filter(is_free).find(|slot| !share.claimed.contains_key(slot)))
}

/// What a pod asks for, and cannot have.
pub enum Refusal {
    /// Nobody could have it.
    Request(Finding),
    /// The slot is none of the node's.
    Elsewhere(u32),
    /// The slot is promised to another pod.
    Promised(String),
    /// Somebody has it.
    Taken,
}

/// The slot of the addresses that are asked for; `None` where none is.
pub fn requested(
    share: &Share,
    past: &Past,
    pod: Option<&str>,
    requests: &[(String, IpAddr)],
) -> std::result::Result<Option<u32>, (IpAddr, Refusal)> {
    let mut chosen: Option<(u32, IpAddr)> = None;
    for (path, address) in requests {
        let refuse = |allowed: String| Err((*address, Refusal::Request(Finding::new(path.as_str(), address, allowed))));
        let Some(slot) = share.pool.slot_of(*address) else {
            return refuse(format!("an address of {}", share.pool));
        };
        if share.pool.addresses(slot).is_none() {
            return refuse(
                "an address that pods may have, which is no subnet's own, no gateway's and not excluded".into(),
            );
        }
        match chosen {
            Some((other, first)) if other != slot => {
                let of_slot = share.pool.addresses(other).unwrap_or_default();
                let family = of_slot.iter().map(|one| one.address.addr()).find(|ip| ip.is_ipv4() == address.is_ipv4());
                let beside = family.map(|ip| ip.to_string()).unwrap_or_default();
                return refuse(format!(
                    "{beside}, which comes with {first}: one number gives the address of each range set"
                ));
            }
            Some(_) => {}
            None => chosen = Some((slot, *address)),
        }
    }
    let Some((slot, address)) = chosen else { return Ok(None) };
    if past.live.contains(&slot) {
        return Err((address, Refusal::Taken));
    }
    if !share.contains(slot) {
        return Err((address, Refusal::Elsewhere(slot)));
    }
    if let Some(holder) = share.claimed.get(&slot).filter(|_| share.is_promised_to_another(slot, pod)) {
        return Err((address, Refusal::Promised(holder.clone())));
    }
    Ok(Some(slot))
}

/// The slot of an IPAMClaim. Two pods may have it at once, on one node too: the second one takes over from the first.
pub fn kept(share: &Share, journal: &Journal, claim: &str, container: &str) -> Option<u32> {
    let (slot, _) = share.claimed.iter().find(|(_, who)| *who == claim)?;
    let has = |ip: &IpAddr| share.pool.slot_of(*ip) == Some(*slot);
    let mut live = journal.live.iter().filter(|line| line.lease.addresses.iter().any(has));
    // Not twice in one pod.
    (!live.any(|line| line.lease.holder.container == container)).then_some(*slot)
}

/// Who has a slot.
pub fn holder<'a>(journal: &'a Journal, pool: &Pool, slot: u32) -> Option<&'a Holder> {
    let has = |ip: &IpAddr| pool.slot_of(*ip) == Some(slot);
    journal.live.iter().find(|line| line.lease.addresses.iter().any(has)).map(|line| &line.lease.holder)
}
