//! This node's part of a pool: claimed ahead of need, asked of others when nobody has any left, given back when it is empty. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use attachments::api::{AddressBlockSpec, AddressBlockStatus, NodeFree, SlotRequest, SlotRun};
use attachments::text::hash;
use delegates::ipam::blocks::Pool;

use super::address_claims;
use super::call::Call;
use super::facts::{Asked, Facts, Memory, Step};
use super::slots::{Blocks, Sound, block_name, has, slots};
use super::space;

/// How long an owner may take to answer a request for slots.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a block that had none for us is not asked again.
const AGAIN: Duration = Duration::from_secs(3);
/// Between two writes of how many slots of a block are free, while somebody may need them.
const TELL: Duration = Duration::from_secs(5);
/// The same while there are blocks that nobody has: then the number is for people.
const TELL_PEOPLE: Duration = Duration::from_secs(60);
/// The most indexes that are looked at for a free one.
const LOOKED_AT: u32 = 1 << 16;
/// The most runs and requests of a block, by its schema.
pub const MOST: usize = 64;

/// A part of what there is.
fn quarter(count: u32) -> u32 {
    (count / 4).max(1)
}

/// A larger part.
fn half(count: u32) -> u32 {
    (count / 2).max(1)
}

/// What is under way comes first: slots that left `network.json` leave their objects, the node's references are its Node's, and blocks that
/// somebody deleted are made again as far as pods hold addresses of them.
pub fn settle(facts: &Facts<'_>, memory: &mut Memory, blocks: &Blocks) -> Option<Step> {
    let is_ours = |slot: u32| blocks.around(slot).is_some_and(|sound| sound.of(facts.node).any(|own| own == slot));
    memory.giving.retain(|slot, _| is_ours(*slot));
    if let Some(slot) = memory.giving.keys().next()
        && let Some(sound) = blocks.around(*slot)
    {
        return Some(hand_over(facts, sound, &memory.giving));
    }
    for sound in &blocks.sound {
        if sound.of(facts.node).next().is_none() {
            continue;
        }
        match (facts.uid, sound.block.owner(facts.node)) {
            (None, _) => return Some(Step::AskNode),
            (Some(uid), is) if is != Some(uid) => {
                return Some(change(sound, sound.block.spec.runs.clone(), sound.block.spec.requests.clone(), true));
            }
            _ => {}
        }
    }
    lost(facts, memory, blocks)
}

/// The objects say that these slots are somebody else's, or nobody's.
fn hand_over(facts: &Facts<'_>, sound: &Sound, giving: &BTreeMap<u32, Option<String>>) -> Step {
    let runs = sound.moved(giving);
    if runs.is_empty() {
        let meta = &sound.block.meta;
        return Call::DeleteBlock {
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            version: meta.resource_version.clone(),
        }
        .into();
    }
    let all = sound.slots();
    let here = giving.iter().filter(|(slot, _)| all.contains(**slot));
    let served: BTreeSet<&str> = here.filter_map(|(_, to)| to.as_deref()).collect();
    let mut requests = sound.block.spec.requests.clone();
    requests.retain(|request| !served.contains(request.node.as_str()));
    let is_ours = runs.iter().any(|run| run.node == facts.node);
    change(sound, runs, requests, is_ours)
}

pub fn change(sound: &Sound, runs: Vec<SlotRun>, requests: Vec<SlotRequest>, is_ours: bool) -> Step {
    let meta = &sound.block.meta;
    let (name, version) = (meta.name.clone(), meta.resource_version.clone());
    Call::ChangeBlock { name, version, runs, requests, is_ours }.into()
}

/// Slots of `network.json` that the objects do not give to this node: the block is gone, and is made again where pods hold addresses of
/// it; or somebody else has it by now.
fn lost(facts: &Facts<'_>, memory: &mut Memory, blocks: &Blocks) -> Option<Step> {
    let file = facts.file?.pool.as_ref()?;
    let owned = blocks.of(facts.node);
    let held: BTreeSet<u32> = file.slots.iter().flat_map(|run| run.iter()).collect();
    let size = blocks.size(&file.pool);
    let is_lost = |slot: &u32| !memory.giving.contains_key(slot) && !has(&owned, *slot);
    let lost: Vec<u32> = held.iter().copied().filter(is_lost).collect();
    for slot in &lost {
        let Some(holder) = facts.leased.slots.get(slot) else { continue };
        let first = slot - slot % size;
        let is_there = facts.view.blocks.iter().any(|block| block.meta.name == block_name(facts.id, first));
        if blocks.around(*slot).is_none() && !is_there {
            let count = size.min(file.pool.capacity().saturating_sub(first));
            let ours = super::slots::compact(lost.iter().copied().filter(|slot| (first..first + count).contains(slot)));
            let runs =
                ours.iter().map(|run| SlotRun { first: run.first, count: run.count, node: facts.node.to_owned() });
            return Some(create(facts, &file.pool, first, count, runs.collect()));
        }
        let owner = blocks
            .around(*slot)
            .and_then(|sound| sound.runs.iter().find(|run| slots(run).contains(*slot)).map(|run| run.node.clone()));
        let owner = owner.map_or_else(|| "nobody".to_owned(), |node| format!("node {node}"));
        if memory.lost.insert(*slot, owner.clone()).as_ref() != Some(&owner) {
            let addresses = file.pool.numbered(*slot);
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let text = format!(
                "network {}: {} of {holder} is held here, and its block is {owner}'s",
                facts.id,
                addresses.join(" and ")
            );
            return Some(Step::Tell { reason: "AddressHeldTwice", text });
        }
    }
    None
}

pub fn create(facts: &Facts<'_>, pool: &Pool, first: u32, count: u32, runs: Vec<SlotRun>) -> Step {
    if facts.uid.is_none() {
        return Step::AskNode;
    }
    Call::CreateBlock(AddressBlockSpec {
        network: facts.id.to_string(),
        first,
        count,
        addresses: pool.numbered(first),
        runs,
        requests: Vec::new(),
    })
    .into()
}

/// Answers others, gets slots where some are needed, gives back those that are not, and tells how many are free.
pub fn next(facts: &Facts<'_>, memory: &mut Memory, blocks: &Blocks, pool: &Pool) -> Option<Step> {
    let free = facts.free();
    let needs = (address_claims::needs_any(facts) || facts.wants) && free.is_empty();
    if !needs && let Some(step) = answer(facts, memory, blocks, &free) {
        return Some(step);
    }
    if !free.is_empty() {
        memory.exhausted = None;
        memory.refused.clear();
        // What was asked for and is open still is withdrawn below; the rest has been answered.
        memory.asked.clear();
    }
    // The next ADD may find some again.
    if memory.exhausted.is_some()
        && !needs
        && (blocks.sound.iter().any(|sound| others_free(facts, sound, pool) > 0)
            || fresh(facts, memory, blocks, pool).is_some())
    {
        memory.exhausted = None;
    }
    if needs {
        return Some(more(facts, memory, blocks, pool));
    }
    if let Some(step) = withdraw(facts, memory, blocks, |_| true) {
        return Some(step);
    }
    let size = blocks.size(pool);
    let is_used = facts.ask.is_some() || facts.leased.any;
    if is_used
        && u32::try_from(free.len()).unwrap_or(u32::MAX) < quarter(size)
        && let Some(step) = fresh(facts, memory, blocks, pool)
    {
        return Some(step);
    }
    surplus(facts, memory, blocks, (&free, size)).or_else(|| tell(facts, memory, blocks, &free))
}

/// Others ask for slots. All that ask get some by one write, the last ones first: as many each as the node keeps for itself, and all of
/// them where its pods took none since it last gave some.
fn answer(facts: &Facts<'_>, memory: &mut Memory, blocks: &Blocks, free: &[u32]) -> Option<Step> {
    for sound in &blocks.sound {
        let asking = sound.block.spec.requests.iter().filter(|request| request.node != facts.node);
        let asking: Vec<&SlotRequest> = asking.collect();
        if asking.is_empty() || sound.of(facts.node).next().is_none() {
            continue;
        }
        let all = sound.slots();
        let here: Vec<u32> = free.iter().copied().filter(|slot| all.contains(*slot)).collect();
        let needs_none = memory.gave.is_some_and(|leased| facts.leased.slots.len() <= leased);
        let kept = if needs_none { 0 } else { here.len() / (asking.len() + 1) };
        for give in (1..=here.len() - kept).rev() {
            let moved = shared(&here[here.len() - give..], &asking);
            if sound.moved(&moved).len() <= MOST {
                memory.gave = Some(facts.leased.slots.len());
                return Some(Step::GiveUp(moved));
            }
        }
        // Where others own a part too, they may have some.
        if sound.nodes().len() == 1 {
            let mut requests = sound.block.spec.requests.clone();
            requests.retain(|one| one.node == facts.node);
            return Some(change(sound, sound.block.spec.runs.clone(), requests, true));
        }
    }
    None
}

/// Slots as equal parts, each in one run where the slots are; nobody gets more than was asked for.
fn shared(slots: &[u32], asking: &[&SlotRequest]) -> BTreeMap<u32, Option<String>> {
    let mut moved = BTreeMap::new();
    let mut left = slots;
    for (number, request) in asking.iter().enumerate() {
        let most = usize::try_from(request.count).unwrap_or(usize::MAX);
        let part = left.len().div_ceil(asking.len() - number).min(most);
        let (rest, given) = left.split_at(left.len() - part);
        moved.extend(given.iter().map(|slot| (*slot, Some(request.node.clone()))));
        left = rest;
    }
    moved
}

/// No slot is free: the next thing that may give one.
fn more(facts: &Facts<'_>, memory: &mut Memory, blocks: &Blocks, pool: &Pool) -> Step {
    if let Some(step) = fresh(facts, memory, blocks, pool).or_else(|| ownerless(facts, memory, blocks, pool)) {
        memory.exhausted = None;
        return step;
    }
    // What was asked for and came to nothing. Slots that came may have been taken by pods already.
    let asks = |sound: &Sound| sound.block.spec.requests.iter().any(|request| request.node == facts.node);
    let open: BTreeSet<&String> =
        blocks.sound.iter().filter(|sound| asks(sound)).map(|sound| &sound.block.meta.name).collect();
    let answered: Vec<String> = memory.asked.keys().filter(|name| !open.contains(name)).cloned().collect();
    let owns = |name: &str| {
        let sound = blocks.sound.iter().find(|sound| sound.block.meta.name == name);
        sound.map_or(0, |sound| sound.of(facts.node).count())
    };
    for name in answered {
        let before = memory.asked.remove(&name).map_or(0, |asked| asked.owned);
        if owns(&name) <= before {
            memory.refused.insert(name, facts.now);
        }
    }
    for name in &open {
        memory.asked.entry((*name).clone()).or_insert_with(|| Asked { since: facts.now, owned: owns(name.as_str()) });
    }
    let late = memory.asked.iter().filter(|(_, asked)| facts.now.duration_since(asked.since) >= ANSWER);
    let late: BTreeSet<String> = late.map(|(name, _)| name.clone()).collect();
    if !late.is_empty()
        && let Some(step) = withdraw(facts, memory, blocks, |name| late.contains(name))
    {
        memory.refused.extend(late.into_iter().map(|name| (name, facts.now)));
        return step;
    }
    if let Some(first) = memory.asked.values().map(|asked| asked.since).min() {
        return Step::Wait(first + ANSWER);
    }
    memory.refused.retain(|_, since| facts.now.duration_since(*since) < AGAIN);
    let candidate = |sound: &&Sound| {
        let name = &sound.block.meta.name;
        !memory.refused.contains_key(name)
            && sound.block.spec.requests.len() < MOST
            && others_free(facts, sound, pool) > 0
    };
    // Those that ask already get a part each. Nodes that run out at once and know the same are to ask different owners.
    let promise = |sound: &&Sound| {
        let asking = u32::try_from(sound.block.spec.requests.len()).unwrap_or(u32::MAX);
        let first = sound.block.spec.first;
        (others_free(facts, sound, pool) / (asking + 1), hash(&format!("{} {first}", facts.node)))
    };
    let best = blocks.sound.iter().filter(candidate).max_by_key(promise);
    if let Some(sound) = best {
        if facts.uid.is_none() {
            return Step::AskNode;
        }
        // It counts as asked for once the object says so: the change may come too late.
        memory.exhausted = None;
        let mut requests = sound.block.spec.requests.clone();
        requests.push(SlotRequest { node: facts.node.to_owned(), count: sound.block.spec.count });
        return change(sound, sound.block.spec.runs.clone(), requests, true);
    }
    if let Some(step) = space::refresh(facts, memory) {
        return step;
    }
    let text = exhausted(facts, memory, blocks, pool);
    memory.exhausted = Some(text.clone());
    match facts.file.and_then(|file| file.pool.as_ref()).map(|pool| &pool.exhausted) {
        // It is written first: who waits in the plugin reads it there.
        Some(written) if written.as_ref() != Some(&text) => Step::Done,
        _ if facts.ask.is_some() => Step::later(format!("{}: {text}", facts.asked())),
        _ => Step::Done,
    }
}

/// A block that nobody has. Nodes begin at different places, so that they do not race for one.
fn fresh(facts: &Facts<'_>, memory: &Memory, blocks: &Blocks, pool: &Pool) -> Option<Step> {
    let size = blocks.size(pool);
    let number = pool.capacity().div_ceil(size);
    let start = u32::try_from(hash(facts.node) % u64::from(number.max(1))).unwrap_or_default();
    let taken: BTreeSet<u32> = {
        let ranges = facts.view.blocks.iter().map(|block| (block.spec.first, block.spec.count.clamp(1, 4096)));
        let indexes = ranges.flat_map(|(first, count)| first / size..=(first.saturating_add(count - 1)) / size);
        indexes.chain(memory.taken.iter().map(|first| first / size)).collect()
    };
    let is_whole = number <= LOOKED_AT;
    for step in 0..number.min(LOOKED_AT) {
        let index = if is_whole { (start + step) % number } else { start.checked_add(step)? % number };
        if taken.contains(&index) {
            continue;
        }
        let first = index * size;
        let count = size.min(pool.capacity() - first);
        let usable = std::iter::successors(pool.usable_from(first), |slot| pool.usable_from(slot + 1));
        if usable.take_while(|slot| *slot < first + count).all(|slot| space::kept(memory, slot).is_some()) {
            continue;
        }
        let run = SlotRun { first, count, node: facts.node.to_owned() };
        return Some(create(facts, pool, first, count, vec![run]));
    }
    None
}

/// Slots of a block that nobody owns: their owner gave them up, or its Node is gone.
fn ownerless(facts: &Facts<'_>, memory: &Memory, blocks: &Blocks, pool: &Pool) -> Option<Step> {
    // One that was asked for is on its way from one node to another.
    let claimed: BTreeSet<u32> = address_claims::sound(facts.id, facts.view).map(|claim| claim.spec.slot).collect();
    for sound in &blocks.sound {
        let free = sound.nobodys().filter(|slot| pool.usable_from(*slot) == Some(*slot));
        let is_free = |slot: &u32| {
            !facts.leased.slots.contains_key(slot) && !claimed.contains(slot) && space::kept(memory, *slot).is_none()
        };
        let free: Vec<u32> = free.filter(is_free).collect();
        let most = usize::try_from(quarter(sound.block.spec.count)).unwrap_or(1);
        for take in (1..=free.len().min(most)).rev() {
            let moved = free[..take].iter().map(|slot| (*slot, Some(facts.node.to_owned()))).collect();
            let runs = sound.moved(&moved);
            if runs.len() <= MOST {
                if facts.uid.is_none() {
                    return Some(Step::AskNode);
                }
                let mut requests = sound.block.spec.requests.clone();
                requests.retain(|request| request.node != facts.node);
                return Some(change(sound, runs, requests, true));
            }
        }
    }
    None
}

/// How many slots of a block others have free, as they said last. An owner that said nothing yet has all of its own.
fn others_free(facts: &Facts<'_>, sound: &Sound, pool: &Pool) -> u32 {
    let said: BTreeMap<&str, u32> = sound.block.status.nodes.iter().map(|one| (one.node.as_str(), one.free)).collect();
    let others = sound.nodes().into_iter().filter(|node| *node != facts.node);
    others.map(|node| said.get(node).copied().unwrap_or_else(|| owned(sound, node, pool))).sum()
}

fn owned(sound: &Sound, node: &str, pool: &Pool) -> u32 {
    pool.usable(&super::slots::compact(sound.of(node)))
}

/// Requests of this node that nobody needs to answer any more.
fn withdraw(facts: &Facts<'_>, memory: &mut Memory, blocks: &Blocks, which: impl Fn(&String) -> bool) -> Option<Step> {
    let asks = |sound: &&Sound| sound.block.spec.requests.iter().any(|request| request.node == facts.node);
    let sound = blocks.sound.iter().filter(asks).find(|sound| which(&sound.block.meta.name))?;
    memory.asked.remove(&sound.block.meta.name);
    let mut requests = sound.block.spec.requests.clone();
    requests.retain(|request| request.node != facts.node);
    let is_ours = sound.of(facts.node).next().is_some();
    Some(change(sound, sound.block.spec.runs.clone(), requests, is_ours))
}

/// What is empty for longer than the grace and not needed.
fn surplus(facts: &Facts<'_>, memory: &mut Memory, blocks: &Blocks, (free, size): (&[u32], u32)) -> Option<Step> {
    let mut empty = BTreeMap::new();
    let mut found = None;
    for sound in &blocks.sound {
        let own: Vec<u32> = sound.of(facts.node).collect();
        if own.is_empty() || own.iter().any(|slot| facts.leased.slots.contains_key(slot)) {
            continue;
        }
        let first = sound.block.spec.first;
        let since = memory.empty.get(&first).copied().unwrap_or(facts.now);
        empty.insert(first, since);
        let others = free.iter().filter(|slot| !sound.slots().contains(**slot)).count();
        let is_spare = facts.leased.any && others >= usize::try_from(quarter(size)).unwrap_or(usize::MAX);
        if found.is_none() && is_spare && facts.ask.is_none() && facts.now.duration_since(since) >= facts.grace {
            found = Some(Step::GiveUp(own.into_iter().map(|slot| (slot, None)).collect()));
        }
    }
    memory.empty = empty;
    found
}

/// How many slots are free is told when it has changed much, and not too often.
fn tell(facts: &Facts<'_>, memory: &mut Memory, blocks: &Blocks, free: &[u32]) -> Option<Step> {
    let pool = &facts.file?.pool.as_ref()?.pool;
    let has_fresh = fresh(facts, memory, blocks, pool).is_some();
    memory.began.get_or_insert(facts.now);
    for sound in &blocks.sound {
        let own = owned(sound, facts.node, pool);
        if sound.of(facts.node).next().is_none() {
            continue;
        }
        let (all, meta) = (sound.slots(), &sound.block.meta);
        let now = u32::try_from(free.iter().filter(|slot| all.contains(**slot)).count()).unwrap_or(u32::MAX);
        let said = sound.block.status.nodes.iter().find(|one| one.node == facts.node).map_or(own, |one| one.free);
        // Whoever asks looks for some, and not for how few: fewer than before are told when none is left.
        let much = half(sound.block.spec.count);
        let is_needed = !has_fresh && ((now == 0) != (said == 0) || now >= said.saturating_add(much));
        let is_much = is_needed || (now == 0) != (said == 0) || now.abs_diff(said) >= much;
        let pause = if is_needed { TELL } else { TELL_PEOPLE };
        let since = memory.told.get(&meta.name).copied().or(memory.began.filter(|_| !is_needed));
        let is_soon = since.is_some_and(|told| facts.now.duration_since(told) < pause);
        if !is_much || is_soon {
            continue;
        }
        memory.told.insert(meta.name.clone(), facts.now);
        let owners = sound.nodes();
        let mut nodes = sound.block.status.nodes.clone();
        nodes.retain(|one| one.node != facts.node && owners.contains(one.node.as_str()));
        nodes.push(NodeFree { node: facts.node.to_owned(), free: now });
        let silent = owners.iter().filter(|node| !nodes.iter().any(|one| one.node == **node));
        let silent: u32 = silent.map(|node| owned(sound, node, pool)).sum();
        let free = nodes.iter().map(|one| one.free).sum::<u32>() + silent;
        let (name, version) = (meta.name.clone(), meta.resource_version.clone());
        return Some(Call::TellFree { name, version, status: AddressBlockStatus { free, nodes } }.into());
    }
    None
}

/// Why there is no slot: pool, size, and who has them.
fn exhausted(facts: &Facts<'_>, memory: &Memory, blocks: &Blocks, pool: &Pool) -> String {
    let all = super::slots::Blocks::by_node(blocks);
    let holders = all.iter().map(|(node, runs)| format!("{node} {}", pool.usable(runs)));
    let holders: Vec<String> = holders.collect();
    let number = pool.usable(&[delegates::networks::state::Slots { first: 0, count: pool.capacity() }]);
    let by = if holders.is_empty() { String::new() } else { format!(", by node: {}", holders.join(", ")) };
    let kept = space::told(memory);
    format!("pool {pool} of network {} is exhausted: all of its {number} addresses are held{by}{kept}", facts.id)
}
