//! Addresses that were asked for: claimed by name, had from whoever owns the slot, kept for as long as they are asked for, and let go. Pure.
//!
//! An AddressClaim says whose a slot is to be, and which nodes want it. Which node may give the slot out says its block alone, as for any
//! other slot. So a claim moves no address by itself: the owner of the slot sees that another node wants it, and gives it up unless a pod
//! has it.

mod read;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use attachments::api::{AddressClaimSpec, AddressClaimStatus, HolderKind, SlotRun};
use attachments::finding::shortened;
use delegates::ipam::blocks::Pool;
use delegates::networks::state::PoolState;
use meta_cni::cluster::wire::{Cause, Refusal};

use super::address_sets;
use super::blocks::{MOST, change, create as create_block};
use super::call::Call;
use super::facts::{Facts, Memory, Step, Wanted};
use super::objects::Address;
use super::slots::{Blocks, block_name, has};
use super::space;
use read::of_holder;
pub use read::{at, is_among, is_sound, name, owner, promise, promises, said, sound};

/// How long the owner of a slot may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a claim may be there without a pod that has the address: its ADD is under way, or failed.
pub const UNUSED: Duration = Duration::from_secs(30);
/// Longest text of who has a slot.
const LONGEST: usize = 1000;

/// Does the ADD need a slot that nobody has, whichever it is?
pub fn needs_any(facts: &Facts<'_>) -> bool {
    let Some(ask) = facts.ask.filter(|ask| ask.need.pool.is_some()) else { return false };
    match &ask.wanted {
        None => true,
        Some(Wanted { set: Some(request), .. }) => {
            ask.wanted.as_ref().is_some_and(|wanted| address_sets::needs_any(facts, wanted, request))
        }
        Some(wanted) => wanted.slot.is_none() && of_holder(facts, &wanted.holder).is_none(),
    }
}

/// Is what an ADD asks for at hand, as far as the file says? Of an IPAMClaim whose uid is known more is asked.
pub fn is_served(wanted: &Wanted, state: &PoolState) -> bool {
    let owns = |slot| owns(state, slot);
    match wanted.holder.kind {
        HolderKind::Pod => wanted.slot.is_none_or(|slot| owns(slot) || state.pool.addresses(slot).is_none()),
        HolderKind::IpamClaim => {
            let text = promise(&wanted.holder);
            wanted.holder.uid.is_empty() && state.claimed.iter().any(|(slot, who)| *who == text && owns(*slot))
        }
        // The file does not say which pod of the name it is.
        HolderKind::AddressSet => false,
    }
}

/// Others' wishes first, so that nodes which want something of one another do not wait for one another.
pub fn next(facts: &Facts<'_>, memory: &mut Memory, blocks: &Blocks, pool: &Pool) -> Option<Step> {
    let state = facts.file?.pool.as_ref()?;
    let wanted = facts.ask.filter(|ask| ask.need.pool.is_some()).and_then(|ask| ask.wanted.as_ref());
    let text = wanted.map(|wanted| promise(&wanted.holder));
    let claims: BTreeMap<u32, _> = sound(facts.id, facts.view).map(|claim| (claim.spec.slot, claim)).collect();
    memory.promised.retain(|slot, who| Some(&*who) == text.as_ref() && !claims.contains_key(slot));
    memory.waiting.retain(|slot, _| wanted.is_some() && !owns(state, *slot));
    memory.seen.retain(|slot| claims.get(slot).is_some_and(|claim| is_among(&claim.spec.nodes, facts.node)));
    memory.unused.retain(|slot, _| claims.contains_key(slot));
    memory.in_the_way.retain(|slot| !claims.contains_key(slot));
    memory.unverified.retain(|_| wanted.is_some());
    // A pod is about to have these.
    for (slot, claim) in &claims {
        if wanted.is_some_and(|wanted| address_sets::is_for(wanted, &claim.spec)) {
            memory.seen.remove(slot);
            memory.unused.insert(*slot, facts.now);
        }
    }
    if let Some(step) = double(facts) {
        return Some(step);
    }
    if let Some(step) = answer(facts, blocks, state, wanted) {
        return Some(step);
    }
    if let Some(step) = wanted.and_then(|wanted| elsewhere(facts, memory, blocks, wanted)) {
        return Some(step);
    }
    let step = wanted.and_then(|wanted| match wanted.holder.kind {
        HolderKind::AddressSet => {
            let request = wanted.set.as_ref()?;
            address_sets::next(facts, memory, blocks, (pool, state), (wanted, request))
        }
        HolderKind::Pod => for_pod(facts, memory, blocks, (pool, state), wanted),
        HolderKind::IpamClaim => for_ipam_claim(facts, memory, blocks, (pool, state), wanted),
    });
    step.or_else(|| tidy(facts, memory, blocks, (pool, state), wanted))
}

/// The node leaves the network: nobody has anything of it here.
pub fn leave(facts: &Facts<'_>) -> Option<Step> {
    let claim = sound(facts.id, facts.view).find(|claim| is_among(&claim.spec.nodes, facts.node))?;
    Some(match claim.spec.holder.kind {
        HolderKind::Pod => delete(claim),
        HolderKind::IpamClaim | HolderKind::AddressSet => without_us(facts, claim),
    })
}

/// Other nodes want slots of this one: each gets the slot, unless a pod here has it.
fn answer(facts: &Facts<'_>, blocks: &Blocks, state: &PoolState, wanted: Option<&Wanted>) -> Option<Step> {
    for claim in sound(facts.id, facts.view).filter(|claim| owns(state, claim.spec.slot)) {
        let slot = claim.spec.slot;
        let Some(node) = claim.spec.nodes.iter().find(|node| *node != facts.node) else {
            // A member of a set stays when nobody wants it any more. What was said of it holds no longer.
            let is_over = claim.spec.holder.kind == HolderKind::AddressSet && !facts.leased.slots.contains_key(&slot);
            if is_over && said(claim, facts.node).is_some() {
                let status = AddressClaimStatus { node: facts.node.to_owned(), held_by: String::new() };
                let (name, version) = (claim.meta.name.clone(), claim.meta.resource_version.clone());
                return Some(Call::TellHeld { name, version, status }.into());
            }
            continue;
        };
        if wanted.is_some_and(|wanted| address_sets::is_for(wanted, &claim.spec)) {
            continue;
        }
        let moved = BTreeMap::from([(slot, Some(node.clone()))]);
        let held_by = match facts.leased.slots.get(&slot) {
            Some(holder) => holder.clone(),
            None if blocks.around(slot).is_some_and(|sound| sound.moved(&moved).len() > MOST) => {
                "nobody, and its block is in too many parts to give one up".to_owned()
            }
            None => return Some(Step::GiveUp(moved)),
        };
        let status =
            AddressClaimStatus { node: facts.node.to_owned(), held_by: shortened(&held_by, LONGEST).to_string() };
        if claim.status != status {
            let (name, version) = (claim.meta.name.clone(), claim.meta.resource_version.clone());
            return Some(Call::TellHeld { name, version, status }.into());
        }
    }
    None
}

/// Somebody outside of the network's blocks has the address that is asked for.
fn elsewhere(facts: &Facts<'_>, memory: &Memory, blocks: &Blocks, wanted: &Wanted) -> Option<Step> {
    let (_, by) = space::all_kept(memory, blocks).find(|(slot, _)| wanted.slot == Some(*slot))?;
    let text = format!("{}: requested address {} is kept for {by}", facts.asked(), wanted.address);
    Some(space::refresh(facts, memory).unwrap_or_else(|| Step::Refuse(Refusal::new(Cause::Addresses, text))))
}

/// A pod asks for the addresses of a slot. Those of a slot that is this node's the plugin gives or refuses by itself.
fn for_pod(
    facts: &Facts<'_>,
    memory: &mut Memory,
    blocks: &Blocks,
    (pool, state): (&Pool, &PoolState),
    wanted: &Wanted,
) -> Option<Step> {
    let slot = wanted.slot.filter(|slot| pool.addresses(*slot).is_some() && !owns(state, *slot))?;
    if let Some(refusal) = refused_before(memory, wanted) {
        return Some(refusal);
    }
    let Some(claim) = at(facts, slot) else { return Some(create(facts, memory, pool, (slot, wanted))) };
    // The pod was attached by another program, and its sandbox is made anew here.
    if claim.spec.holder.is(&wanted.holder) && claim.spec.nodes.is_empty() {
        return Some(with_nodes(claim, vec![facts.node.to_owned()]));
    }
    if !claim.spec.holder.is(&wanted.holder) || !is_among(&claim.spec.nodes, facts.node) {
        return Some(kept(facts, wanted, claim));
    }
    Some(match owner(blocks, slot) {
        Some(owner) if said(claim, owner).is_some() => {
            let held = said(claim, owner).unwrap_or_default();
            let text =
                format!("{}: requested address {} is taken on node {owner} by {held}", facts.asked(), wanted.address);
            refuse(memory, wanted, Refusal::new(Cause::Addresses, text));
            delete(claim)
        }
        Some(owner) => match waits(facts, memory, slot) {
            Some(step) => step,
            None => {
                refuse(memory, wanted, silent(facts, wanted, owner));
                delete(claim)
            }
        },
        None => take(facts, blocks, pool, slot).unwrap_or_else(|| cut_up(facts, wanted)),
    })
}

/// A pod of an IPAMClaim: the claim's slot, on whatever node it is, and one of this node's where it has none yet.
fn for_ipam_claim(
    facts: &Facts<'_>,
    memory: &mut Memory,
    blocks: &Blocks,
    (pool, state): (&Pool, &PoolState),
    wanted: &Wanted,
) -> Option<Step> {
    if let Some(refusal) = refused_before(memory, wanted) {
        return Some(refusal);
    }
    let Some(claim) = of_holder(facts, &wanted.holder) else {
        return choose(facts, memory, (pool, state), wanted);
    };
    let slot = claim.spec.slot;
    if pool.addresses(slot).is_none() {
        let held: Vec<String> = claim.spec.addresses.iter().map(ToString::to_string).collect();
        let text = format!(
            "{}: {} has {}, which pods of the network may not have any more; delete the IPAMClaim",
            facts.asked(),
            wanted.holder,
            held.join(" and ")
        );
        return Some(Step::Refuse(Refusal::new(Cause::Addresses, text)));
    }
    // Somebody may have made one for the same holder meanwhile.
    if memory.unverified.contains(&slot) {
        if !memory.is_checked {
            return Some(Step::ListAddresses);
        }
        memory.unverified.remove(&slot);
    }
    if !is_among(&claim.spec.nodes, facts.node) {
        let mut nodes = claim.spec.nodes.clone();
        nodes.push(facts.node.to_owned());
        return Some(with_nodes(claim, nodes));
    }
    if owns(state, slot) {
        return None;
    }
    match owner(blocks, slot) {
        None => Some(take(facts, blocks, pool, slot).unwrap_or_else(|| cut_up(facts, wanted))),
        // A pod there has the address as well: it is the one that this pod follows.
        Some(owner) if is_among(&claim.spec.nodes, owner) => match said(claim, owner) {
            Some(_) => None,
            None => waits(facts, memory, slot),
        },
        Some(owner) => match said(claim, owner) {
            Some(held) => {
                let text = format!(
                    "{}: address {} of {} is taken on node {owner} by {held}",
                    facts.asked(),
                    wanted.address,
                    wanted.holder
                );
                refuse(memory, wanted, Refusal::new(Cause::Addresses, text));
                Some(if claim.spec.nodes.len() == 1 { delete(claim) } else { without_us(facts, claim) })
            }
            None => Some(waits(facts, memory, slot).unwrap_or_else(|| Step::Refuse(silent(facts, wanted, owner)))),
        },
    }
}

/// The slot of an IPAMClaim that has none yet: the one that it asks for, or the last free one, for pods begin with the first. It is
/// promised in the file before it is claimed, so that no other pod gets it meanwhile.
fn choose(facts: &Facts<'_>, memory: &mut Memory, (pool, state): (&Pool, &PoolState), wanted: &Wanted) -> Option<Step> {
    let text = promise(&wanted.holder);
    let promised = memory.promised.iter().find(|(_, who)| **who == text).map(|(slot, _)| *slot);
    if let Some(slot) = promised {
        return Some(create(facts, memory, pool, (slot, wanted)));
    }
    let Some(slot) = wanted.slot else {
        return facts.free().last().map(|slot| Step::Promise(*slot, text));
    };
    if pool.addresses(slot).is_none() {
        let why = "an address that pods of the network may have";
        let text = format!("{}: {}: spec.ipRequests: got {}, want {why}", facts.asked(), wanted.holder, wanted.address);
        return Some(Step::wrong(text));
    }
    if let Some(claim) = at(facts, slot) {
        return Some(kept(facts, wanted, claim));
    }
    match facts.leased.slots.get(&slot) {
        Some(held) => {
            let text = format!("{}: address {} of {} is taken by {held}", facts.asked(), wanted.address, wanted.holder);
            Some(Step::Refuse(Refusal::new(Cause::Addresses, text)))
        }
        None if owns(state, slot) => Some(Step::Promise(slot, text)),
        None => Some(create(facts, memory, pool, (slot, wanted))),
    }
}

/// A claim of this node for an IPAMClaim that has an elder one goes, unless a pod has its address.
fn double(facts: &Facts<'_>) -> Option<Step> {
    let is_double = |claim: &&Arc<Address>| {
        let holder = &claim.spec.holder;
        holder.kind == HolderKind::IpamClaim
            && !holder.uid.is_empty()
            && is_among(&claim.spec.nodes, facts.node)
            && !facts.leased.slots.contains_key(&claim.spec.slot)
            && of_holder(facts, holder).is_some_and(|elder| elder.meta.name != claim.meta.name)
    };
    let claim = sound(facts.id, facts.view).find(is_double)?;
    Some(if claim.spec.nodes.len() == 1 { delete(claim) } else { without_us(facts, claim) })
}

/// Claims that no pod of this node needs any more, and slots that one needs and nobody owns.
fn tidy(
    facts: &Facts<'_>,
    memory: &mut Memory,
    blocks: &Blocks,
    (pool, state): (&Pool, &PoolState),
    wanted: Option<&Wanted>,
) -> Option<Step> {
    for claim in sound(facts.id, facts.view).filter(|claim| is_among(&claim.spec.nodes, facts.node)) {
        let slot = claim.spec.slot;
        if wanted.is_some_and(|wanted| address_sets::is_for(wanted, &claim.spec)) {
            continue;
        }
        let is_own = owns(state, slot);
        if facts.leased.slots.contains_key(&slot) {
            memory.seen.insert(slot);
            memory.unused.remove(&slot);
            let is_nobodys = !is_own && !memory.giving.contains_key(&slot) && owner(blocks, slot).is_none();
            match take(facts, blocks, pool, slot).filter(|_| is_nobodys) {
                Some(step) => return Some(step),
                None => continue,
            }
        }
        let since = *memory.unused.entry(slot).or_insert(facts.now);
        if !memory.seen.contains(&slot) && facts.now.duration_since(since) < UNUSED {
            continue;
        }
        match claim.spec.holder.kind {
            HolderKind::Pod => return Some(delete(claim)),
            HolderKind::AddressSet => return Some(without_us(facts, claim)),
            HolderKind::IpamClaim if !is_own => return Some(without_us(facts, claim)),
            // It is kept.
            HolderKind::IpamClaim => {}
        }
    }
    None
}

/// Makes a slot that nobody owns this node's. `None` where its block cannot take one part more.
pub(super) fn take(facts: &Facts<'_>, blocks: &Blocks, pool: &Pool, slot: u32) -> Option<Step> {
    if facts.uid.is_none() {
        return Some(Step::AskNode);
    }
    if let Some(sound) = blocks.around(slot) {
        let runs = sound.moved(&[(slot, Some(facts.node.to_owned()))].into());
        return (runs.len() <= MOST).then(|| change(sound, runs, sound.block.spec.requests.clone(), true));
    }
    let size = blocks.size(pool);
    let first = slot - slot % size;
    let is_there = facts.view.blocks.iter().any(|block| block.meta.name == block_name(facts.id, first));
    let run = SlotRun { first: slot, count: 1, node: facts.node.to_owned() };
    let count = size.min(pool.capacity().saturating_sub(first));
    (!is_there).then(|| create_block(facts, pool, first, count, vec![run]))
}

pub(super) fn create(facts: &Facts<'_>, memory: &mut Memory, pool: &Pool, (slot, wanted): (u32, &Wanted)) -> Step {
    let name = name(facts.id, slot);
    if memory.in_the_way.contains(&slot) || facts.view.addresses.iter().any(|claim| claim.meta.name == name) {
        return Step::later(format!("{}: AddressClaim {name} makes no sense: remove it", facts.asked()));
    }
    if facts.uid.is_none() {
        return Step::AskNode;
    }
    if wanted.holder.kind != HolderKind::Pod {
        memory.unverified.insert(slot);
        memory.is_checked = false;
    }
    Call::CreateAddressClaim(AddressClaimSpec {
        network: facts.id.to_string(),
        slot,
        addresses: pool.numbered(slot),
        holder: wanted.holder.clone(),
        nodes: vec![facts.node.to_owned()],
        pod: wanted.set.as_ref().map(|request| request.pod.clone()),
    })
    .into()
}

pub(super) fn delete(claim: &Address) -> Step {
    Call::DeleteAddressClaim { name: claim.meta.name.clone(), uid: claim.meta.uid.clone() }.into()
}

fn with_nodes(claim: &Address, nodes: Vec<String>) -> Step {
    let (name, version) = (claim.meta.name.clone(), claim.meta.resource_version.clone());
    Call::ChangeAddressClaim { name, version, nodes }.into()
}

pub(super) fn without_us(facts: &Facts<'_>, claim: &Address) -> Step {
    with_nodes(claim, claim.spec.nodes.iter().filter(|node| *node != facts.node).cloned().collect())
}

/// Waits for the owner's answer; `None` once that took too long.
pub(super) fn waits(facts: &Facts<'_>, memory: &mut Memory, slot: u32) -> Option<Step> {
    let until = *memory.waiting.entry(slot).or_insert(facts.now) + ANSWER;
    (facts.now < until).then_some(Step::Wait(until))
}

/// The ADD is refused once the claim is gone.
pub(super) fn refuse(memory: &mut Memory, wanted: &Wanted, refusal: Refusal) {
    memory.refusal = Some((wanted.clone(), refusal));
}

pub(super) fn refused_before(memory: &mut Memory, wanted: &Wanted) -> Option<Step> {
    let (of, refusal) = memory.refusal.take()?;
    (of == *wanted).then_some(Step::Refuse(refusal))
}

pub(super) fn silent(facts: &Facts<'_>, wanted: &Wanted, owner: &str) -> Refusal {
    let text = format!(
        "{}: requested address {} is in a block of node {owner}, whose agent does not answer",
        facts.asked(),
        wanted.address
    );
    Refusal::new(Cause::Later, text)
}

fn kept(facts: &Facts<'_>, wanted: &Wanted, claim: &Address) -> Step {
    let (address, holder, name) = (&wanted.address, &claim.spec.holder, &claim.meta.name);
    let text = format!("{}: requested address {address} is kept for {holder} (AddressClaim {name})", facts.asked());
    Step::Refuse(Refusal::new(Cause::Addresses, text))
}

pub(super) fn cut_up(facts: &Facts<'_>, wanted: &Wanted) -> Step {
    Step::later(format!(
        "{}: requested address {} is in a block that is in {MOST} parts or makes no sense; delete pods of the network in it",
        facts.asked(),
        wanted.address
    ))
}

pub(super) fn owns(state: &PoolState, slot: u32) -> bool {
    has(&state.slots, slot)
}
