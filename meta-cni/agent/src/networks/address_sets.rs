//! Members of AddressSets: which of them a pod takes, and who else has the others. Pure.
//!
//! A member is an AddressClaim whose holder is the set. It stays when its pod goes, so nobody else is given its slot. `nodes` says whether
//! it is taken, and `pod` by whom, or by whom last. To create the claim, or to change this version of it, is to be the one who takes it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use attachments::api::{AddressClaimSpec, ClaimHolder, HolderKind};
use delegates::ipam::blocks::{Pool, set_promise};
use delegates::networks::state::PoolState;
use meta_cni::cluster::wire::{Cause, Refusal};

use super::address_claims::{
    at, create, cut_up, delete, is_among, owner, owns, promise, refuse, refused_before, said, silent, sound, take,
    waits, without_us,
};
use super::call::Call;
use super::facts::{Facts, Members, Memory, SetRequest, Step, Wanted};
use super::objects::Address;
use super::slots::Blocks;

/// How long an ADD waits for a member: in a rollout the pod before it is just going.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Holders that a full set is told with.
const NAMED: usize = 8;

/// Is the claim the one that the ADD of a pod takes?
pub fn is_for(wanted: &Wanted, claim: &AddressClaimSpec) -> bool {
    match &wanted.set {
        Some(request) => wanted.holder.is(&claim.holder) && is_taken_by(claim, &request.pod),
        None => wanted.holder.is(&claim.holder),
    }
}

/// What `network.json` says of a member: whose it is, and for which pod of this node, if for any.
pub fn promise_of(claim: &AddressClaimSpec, node: &str) -> String {
    match &claim.pod {
        Some(pod) if claim.nodes.iter().any(|one| one == node) => {
            set_promise(&claim.holder.name, &format!("{}/{}", pod.namespace, pod.name))
        }
        _ => promise(&claim.holder),
    }
}

/// Does the pod need a slot that nobody has, whichever it is? One of a set with a size that has not drawn all of its members.
pub fn needs_any(facts: &Facts<'_>, wanted: &Wanted, request: &SetRequest) -> bool {
    let Members::Size(size) = request.members else { return false };
    let members = || of_set(facts, wanted);
    members().count() < size as usize
        && !members().any(|claim| claim.spec.nodes.is_empty() || is_for(wanted, &claim.spec))
}

/// The pod's member: the one that it has, the one that it had last, the first that is free.
pub fn next(
    facts: &Facts<'_>,
    memory: &mut Memory,
    blocks: &Blocks,
    (pool, state): (&Pool, &PoolState),
    (wanted, request): (&Wanted, &SetRequest),
) -> Option<Step> {
    if let Some(refusal) = refused_before(memory, wanted) {
        return Some(refusal);
    }
    if let Some(claim) = of_set(facts, wanted).find(|claim| is_taken_by(&claim.spec, &request.pod)) {
        if !is_among(&claim.spec.nodes, facts.node) {
            let text = format!("{}: {} has {} on another node still", facts.asked(), request.pod, address_of(claim));
            return Some(Step::Refuse(Refusal::new(Cause::Later, text)));
        }
        return obtain(facts, memory, blocks, (pool, state), (wanted, request), claim);
    }
    let free = |claim: &&Arc<Address>| claim.spec.nodes.is_empty() && is_member(claim.spec.slot, request);
    let was_its = |claim: &Address| claim.spec.pod.as_ref().is_some_and(|pod| same_name(pod, &request.pod));
    // A member of which its owner has said that a pod outside of the set has it comes last.
    let order = |claim: &&Arc<Address>| {
        let is_held = owner(blocks, claim.spec.slot).is_some_and(|owner| said(claim, owner).is_some());
        (Reverse(was_its(claim)), is_held, place(claim.spec.slot, request))
    };
    let first = of_set(facts, wanted).filter(free).min_by_key(order);
    let undrawn = undrawn(facts, pool, request);
    match (first, undrawn) {
        // What comes first in the order of the set, unless the pod had one.
        (Some(claim), Some(slot)) if !was_its(claim) && place(slot, request) < place(claim.spec.slot, request) => {
            Some(create(facts, memory, pool, (slot, wanted)))
        }
        (Some(claim), _) => Some(bind(facts, claim, request)),
        (None, Some(slot)) => Some(create(facts, memory, pool, (slot, wanted))),
        (None, None) => draw(facts, memory, pool, wanted, request),
    }
}

/// A set with a size draws its members from the node's free slots, the last first: pods begin with the first. The slot is promised in the
/// file before it is claimed, so that no other pod gets it meanwhile.
fn draw(facts: &Facts<'_>, memory: &mut Memory, pool: &Pool, wanted: &Wanted, request: &SetRequest) -> Option<Step> {
    let is_full = match request.members {
        Members::Slots(_) => true,
        Members::Size(size) => of_set(facts, wanted).count() >= size as usize,
    };
    if is_full {
        return Some(wait_for_one(facts, memory, wanted, request));
    }
    let text = promise(&wanted.holder);
    let promised = memory.promised.iter().find(|(_, who)| **who == text).map(|(slot, _)| *slot);
    match promised {
        Some(slot) => Some(create(facts, memory, pool, (slot, wanted))),
        None => facts.free().last().map(|slot| Step::Promise(*slot, text)),
    }
}

/// A pod may be about to go.
fn wait_for_one(facts: &Facts<'_>, memory: &mut Memory, wanted: &Wanted, request: &SetRequest) -> Step {
    let key = format!("{} {}", wanted.holder, request.pod);
    let until = *memory.waiting_for_set.entry(key.clone()).or_insert(facts.now) + PATIENCE;
    if facts.now < until {
        return Step::Wait(until);
    }
    memory.waiting_for_set.remove(&key);
    Step::Refuse(Refusal::new(Cause::Later, full(facts, wanted, request)))
}

fn full(facts: &Facts<'_>, wanted: &Wanted, request: &SetRequest) -> String {
    let (all, mut holders): (usize, Vec<String>) = match &request.members {
        Members::Slots(slots) => {
            let each = slots.iter().filter_map(|slot| match at(facts, *slot) {
                Some(claim) => Some(holder_of(claim, wanted)),
                None => facts.leased.slots.get(slot).cloned(),
            });
            (slots.len(), each.collect())
        }
        Members::Size(size) => (*size as usize, of_set(facts, wanted).map(|claim| holder_of(claim, wanted)).collect()),
    };
    let more = holders.len().saturating_sub(NAMED);
    holders.truncate(NAMED);
    if more > 0 {
        holders.push(format!("{more} others"));
    }
    let ClaimHolder { namespace, name, .. } = &wanted.holder;
    let by = holders.join(", ");
    format!("{}: all {all} addresses of AddressSet {namespace}/{name} are in use by {by}", facts.asked())
}

/// Who has a member: a pod of the set, or somebody who had claimed the address before.
fn holder_of(claim: &Address, wanted: &Wanted) -> String {
    match &claim.spec.pod {
        Some(pod) if wanted.holder.is(&claim.spec.holder) => format!("{}/{}", pod.namespace, pod.name),
        _ => claim.spec.holder.to_string(),
    }
}

/// The first listed member that has no claim yet, and that a pod may have.
fn undrawn(facts: &Facts<'_>, pool: &Pool, request: &SetRequest) -> Option<u32> {
    let Members::Slots(slots) = &request.members else { return None };
    let is_free = |slot: &&u32| {
        at(facts, **slot).is_none() && pool.addresses(**slot).is_some() && !facts.leased.slots.contains_key(*slot)
    };
    slots.iter().find(is_free).copied()
}

/// The member is the pod's: now its slot becomes the node's own.
fn obtain(
    facts: &Facts<'_>,
    memory: &mut Memory,
    blocks: &Blocks,
    (pool, state): (&Pool, &PoolState),
    (wanted, request): (&Wanted, &SetRequest),
    claim: &Address,
) -> Option<Step> {
    let slot = claim.spec.slot;
    // Other nodes may have drawn members for the same set meanwhile.
    if memory.unverified.contains(&slot) {
        if !memory.is_checked {
            return Some(Step::ListAddresses);
        }
        memory.unverified.remove(&slot);
        if let Members::Size(size) = request.members
            && of_set(facts, wanted).count() > size as usize
        {
            return Some(delete(claim));
        }
    }
    if owns(state, slot) {
        return None;
    }
    match owner(blocks, slot) {
        None => Some(take(facts, blocks, pool, slot).unwrap_or_else(|| cut_up(facts, wanted))),
        Some(owner) => match said(claim, owner) {
            Some(held) => {
                let address = address_of(claim);
                let text = format!(
                    "{}: address {address} of {} is taken on node {owner} by {held}",
                    facts.asked(),
                    wanted.holder
                );
                refuse(memory, wanted, Refusal::new(Cause::Later, text));
                Some(without_us(facts, claim))
            }
            None => match waits(facts, memory, slot) {
                Some(step) => Some(step),
                None => {
                    refuse(memory, wanted, silent(facts, wanted, owner));
                    Some(without_us(facts, claim))
                }
            },
        },
    }
}

fn bind(facts: &Facts<'_>, claim: &Address, request: &SetRequest) -> Step {
    Call::BindAddressClaim {
        name: claim.meta.name.clone(),
        version: claim.meta.resource_version.clone(),
        node: facts.node.to_owned(),
        pod: request.pod.clone(),
    }
    .into()
}

/// The claims of the set, in the order of their slots.
fn of_set<'a>(facts: &'a Facts<'_>, wanted: &'a Wanted) -> impl Iterator<Item = &'a Arc<Address>> + 'a {
    let mut claims: Vec<&Arc<Address>> =
        sound(facts.id, facts.view).filter(|claim| wanted.holder.is(&claim.spec.holder)).collect();
    claims.sort_by_key(|claim| claim.spec.slot);
    claims.into_iter()
}

fn is_taken_by(claim: &AddressClaimSpec, pod: &ClaimHolder) -> bool {
    !claim.nodes.is_empty() && claim.pod.as_ref().is_some_and(|by| by.is(pod))
}

fn same_name(one: &ClaimHolder, other: &ClaimHolder) -> bool {
    one.kind == HolderKind::Pod && (&one.namespace, &one.name) == (&other.namespace, &other.name)
}

fn is_member(slot: u32, request: &SetRequest) -> bool {
    match &request.members {
        Members::Slots(slots) => slots.contains(&slot),
        Members::Size(_) => true,
    }
}

/// Where a member stands in the order of the set.
fn place(slot: u32, request: &SetRequest) -> usize {
    match &request.members {
        Members::Slots(slots) => slots.iter().position(|one| *one == slot).unwrap_or(usize::MAX),
        Members::Size(_) => slot as usize,
    }
}

fn address_of(claim: &Address) -> String {
    claim.spec.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
