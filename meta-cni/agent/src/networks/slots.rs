//! Who owns which slots of a network, as its blocks say. Pure.
//!
//! Objects can be edited by hand. What they say that cannot be is passed over, the rest counts: a block whose name and text differ, one that
//! shares slots with an older one, a run that leaves its block or shares slots with an earlier run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attachments::api::SlotRun;
use delegates::ipam::blocks::Pool;
use delegates::networks::NetworkId;
use delegates::networks::state::Slots;

use super::objects::Block;

/// A block whose text makes sense, and the runs of it that do.
#[derive(Clone, Debug)]
pub struct Sound {
    /// The object.
    pub block: Arc<Block>,
    /// Its runs, in order.
    pub runs: Vec<SlotRun>,
}

impl Sound {
    /// The block's slots.
    pub fn slots(&self) -> Slots {
        Slots { first: self.block.spec.first, count: self.block.spec.count }
    }

    /// The slots of a node.
    pub fn of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = u32> + 'a {
        self.runs.iter().filter(move |run| run.node == node).flat_map(|run| slots(run).iter())
    }

    /// The nodes that own slots.
    pub fn nodes(&self) -> BTreeSet<&str> {
        self.runs.iter().map(|run| run.node.as_str()).collect()
    }

    /// Slots that are nobody's: in no run, or in one of a node that is gone. The API server takes the owner reference of a Node that
    /// was deleted off a block that has further owners.
    pub fn nobodys(&self) -> impl Iterator<Item = u32> + '_ {
        let is_owned = move |slot: u32| {
            self.runs.iter().any(|run| slots(run).contains(slot) && self.block.owner(&run.node).is_some())
        };
        self.slots().iter().filter(move |slot| !is_owned(*slot))
    }

    /// The runs after these slots have gone to another owner, or to nobody.
    pub fn moved(&self, moved: &BTreeMap<u32, Option<String>>) -> Vec<SlotRun> {
        let owner = |slot: u32| match moved.get(&slot) {
            Some(to) => to.as_deref(),
            None => self.runs.iter().find(|run| slots(run).contains(slot)).map(|run| run.node.as_str()),
        };
        let mut runs: Vec<SlotRun> = Vec::new();
        for slot in self.slots().iter() {
            let Some(node) = owner(slot) else { continue };
            match runs.last_mut() {
                Some(last) if last.node == node && last.first + last.count == slot => last.count += 1,
                _ => runs.push(SlotRun { first: slot, count: 1, node: node.to_owned() }),
            }
        }
        runs
    }
}

/// A run as slots.
pub fn slots(run: &SlotRun) -> Slots {
    Slots { first: run.first, count: run.count }
}

/// Is a slot in one of the runs?
pub fn has(runs: &[Slots], slot: u32) -> bool {
    runs.iter().any(|run| run.contains(slot))
}

/// The blocks of a network that make sense, and what is wrong with the others.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    /// Those that make sense, by their first slot.
    pub sound: Vec<Sound>,
    /// A block of other addresses than the pool's: its text, for a refusal.
    pub misnumbered: Option<String>,
    /// What is passed over, a line each.
    pub wrong: Vec<String>,
}

impl Blocks {
    /// Reads the blocks of a network. Without a pool the addresses are not compared.
    pub fn read(id: &NetworkId, pool: Option<&Pool>, objects: &[Arc<Block>]) -> Self {
        let mut by_age: Vec<&Arc<Block>> = objects.iter().collect();
        let age = |block: &Arc<Block>| (block.meta.creation_timestamp.as_str().to_owned(), block.meta.uid.clone());
        by_age.sort_by_cached_key(|block| age(block));
        let mut read = Self::default();
        // The ends of the sound ones, by their first slots.
        let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
        for block in by_age {
            let (name, spec) = (&block.meta.name, &block.spec);
            let end = u64::from(spec.first) + u64::from(spec.count);
            if *name != block_name(id, spec.first) || spec.count == 0 || end > 1 << 31 {
                let (first, count) = (spec.first, spec.count);
                read.wrong.push(format!("addressblock {name}: ignored: it cannot be {count} slots from {first}"));
                continue;
            }
            // They share no slots among themselves: it can be but the last one that begins before this one's end.
            let before = ends.range(..end).next_back();
            if let Some((first, _)) = before.filter(|(_, before)| **before > u64::from(spec.first)) {
                let older = format!("{id}.b{first}");
                read.wrong.push(format!("addressblock {name}: ignored: it shares slots with {older}, which is older"));
                continue;
            }
            if let Some(pool) = pool
                && pool.numbered(spec.first) != spec.addresses
            {
                let (is, ours) = (joined(&spec.addresses), joined(&pool.numbered(spec.first)));
                let nodes = spec.runs.iter().map(|run| run.node.as_str()).collect::<BTreeSet<_>>();
                let nodes = nodes.into_iter().collect::<Vec<_>>().join(", ");
                read.misnumbered = Some(format!(
                    "block {name} of {nodes} begins with {is}, and here with {ours}: addresses change once no block is left"
                ));
                continue;
            }
            ends.insert(u64::from(spec.first), end);
            let runs = read.runs(block);
            read.sound.push(Sound { block: Arc::clone(block), runs });
        }
        read.sound.sort_by_key(|sound| sound.block.spec.first);
        read
    }

    fn runs(&mut self, block: &Arc<Block>) -> Vec<SlotRun> {
        let all = Slots { first: block.spec.first, count: block.spec.count };
        let mut runs: Vec<SlotRun> = Vec::new();
        for run in &block.spec.runs {
            let last = run.first.checked_add(run.count).and_then(|end| end.checked_sub(1));
            let is_inside = run.count > 0 && all.contains(run.first) && last.is_some_and(|last| all.contains(last));
            let overlaps = |other: &SlotRun| slots(other).contains(run.first) || slots(run).contains(other.first);
            if !is_inside || runs.iter().any(overlaps) {
                let SlotRun { first, count, node } = run;
                let why = if is_inside { "shares slots with an earlier run" } else { "leaves the block" };
                let name = &block.meta.name;
                self.wrong.push(format!(
                    "addressblock {name}: the run of {count} slots from {first} of {node} is ignored: it {why}"
                ));
                continue;
            }
            runs.push(run.clone());
        }
        runs.sort_by_key(|run| run.first);
        runs
    }

    /// The slots of a node, as few runs as can be.
    pub fn of(&self, node: &str) -> Vec<Slots> {
        compact(self.sound.iter().flat_map(|sound| sound.of(node)))
    }

    /// The slots of every node.
    pub fn by_node(&self) -> BTreeMap<&str, Vec<Slots>> {
        let mut slots: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for run in self.sound.iter().flat_map(|sound| &sound.runs) {
            slots.entry(&run.node).or_default().extend(self::slots(run).iter());
        }
        slots.into_iter().map(|(node, slots)| (node, compact(slots.into_iter()))).collect()
    }

    /// The block that a slot is in.
    pub fn around(&self, slot: u32) -> Option<&Sound> {
        self.sound.iter().find(|sound| sound.slots().contains(slot))
    }

    /// Slots of a block of this network: what the blocks that are there have, the pool's number where there is none. The last block
    /// of a pool may be shorter.
    pub fn size(&self, pool: &Pool) -> u32 {
        let counts = self.sound.iter().map(|sound| sound.block.spec.count).filter(|count| count.is_power_of_two());
        let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
        counts.for_each(|count| *votes.entry(count).or_default() += 1);
        let most = votes.into_iter().max_by_key(|(count, votes)| (*votes, *count)).map(|(count, _)| count);
        // A pool that is one short block says nothing of the next one.
        most.filter(|count| self.sound.iter().all(|sound| sound.block.spec.first % count == 0))
            .unwrap_or(pool.block_size())
    }
}

/// Name of the block that begins with a slot.
pub fn block_name(id: &NetworkId, first: u32) -> String {
    format!("{id}.b{first}")
}

/// Slots in ascending order as runs.
pub fn compact(slots: impl Iterator<Item = u32>) -> Vec<Slots> {
    let mut runs: Vec<Slots> = Vec::new();
    for slot in slots {
        match runs.last_mut() {
            Some(last) if last.first + last.count == slot => last.count += 1,
            _ => runs.push(Slots { first: slot, count: 1 }),
        }
    }
    runs
}

fn joined(addresses: &[std::net::IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
