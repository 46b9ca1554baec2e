//! The address space of a network of whereabouts: what others have of its addresses, who do not go by its blocks.
//!
//! whereabouts gives no address twice in ranges of one `network_name`, or of none, however they overlap. Here each range is a network with
//! blocks of its own. So before a node uses slots that it has got, it looks at the blocks of the other networks of the space, and keeps from
//! pods what is in one that was there before its own. Both nodes make their blocks first and look then: one of the two at least sees the
//! other's. Blocks of one second are kept from pods on both sides.
//!
//! Where the node takes over from whereabouts, what that program gave is kept for those who have it, as its IPPools say, until their DEL takes
//! it out there. Pods that the program attached are detached by it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use attachments::finding::shortened;
use delegates::ipam::blocks::Pool;
use delegates::networks::NetworkId;
use ipnet::IpNet;
use serde::Deserialize;
use tokio::time::Instant;

use super::api::{self, Answer};
use super::facts::{Ask, Facts, Memory, Step};
use super::notes::Notes;
use super::objects::{Block, Raw};
use super::slots::Blocks;
use super::work::Trouble;
use super::{Networks, files};

/// The kind in which whereabouts writes down what it gave.
pub const PLURAL: &str = "ippools";
/// The collection of all namespaces.
const IP_POOLS: &str = "/apis/whereabouts.cni.cncf.io/v1alpha1/ippools";
/// What others have is read again that often, while they have something: nobody tells when they give it back.
const AGAIN: Duration = Duration::from_secs(30);
/// And that often where it is what an ADD lacks.
const SOON: Duration = Duration::from_secs(2);
/// Longest text of who has an address.
const LONGEST: usize = 300;

/// What others have of a network's addresses.
#[derive(Clone, Debug)]
pub struct Space {
    /// `network_name`.
    name: String,
    /// When it was read.
    pub read_at: Instant,
    /// By slot.
    kept: BTreeMap<u32, Kept>,
}

/// An address that somebody else has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    /// Who has it.
    by: String,
    /// Since when it is in a block of theirs; `None` for what a pod has, whoever owns the block.
    since: Option<String>,
}

/// The space as a label's value.
pub fn label(name: &str) -> String {
    if name.is_empty() { "whereabouts".to_owned() } else { NetworkId::pool(name).to_string() }
}

/// Is it written down which space the network of an ADD is of?
pub fn is_noted(facts: &Facts<'_>, ask: &Ask) -> bool {
    ask.need.space.is_none() || facts.notes.is_some_and(|notes| notes.space == ask.need.space)
}

/// Writes it down: what others have is to be known when nobody asks, too.
pub fn note(facts: &Facts<'_>) -> Option<Step> {
    let ask = facts.ask.filter(|ask| !is_noted(facts, ask))?;
    Some(Step::Note(Notes { space: ask.need.space.clone(), ..facts.notes.cloned().unwrap_or_default() }))
}

/// Reads what others have, where it was not read yet, or some time ago.
pub fn look(facts: &Facts<'_>, memory: &Memory) -> Option<Step> {
    let name = facts.notes?.space.as_ref()?;
    let known = memory.space.as_ref().filter(|space| space.name == *name);
    let is_fresh = |space: &Space| space.kept.is_empty() || facts.now.duration_since(space.read_at) < AGAIN;
    (!known.is_some_and(is_fresh)).then_some(Step::ListAddresses)
}

/// Reads it again before somebody is refused because of it.
pub fn refresh(facts: &Facts<'_>, memory: &Memory) -> Option<Step> {
    let space = memory.space.as_ref().filter(|space| !space.kept.is_empty())?;
    (facts.now.duration_since(space.read_at) >= SOON).then_some(Step::ListAddresses)
}

/// Who has a slot that is in no block yet.
pub fn kept(memory: &Memory, slot: u32) -> Option<&str> {
    memory.space.as_ref().and_then(|space| space.kept.get(&slot)).map(|kept| kept.by.as_str())
}

/// The slots that are kept from pods, each with who has it: what a block has that is younger than the network's own is not.
pub fn all_kept<'a>(memory: &'a Memory, blocks: &'a Blocks) -> impl Iterator<Item = (u32, &'a str)> + 'a {
    let is_elder = |slot: u32, since: &String| {
        blocks.around(slot).is_none_or(|sound| *since <= sound.block.meta.creation_timestamp)
    };
    let all = memory.space.iter().flat_map(|space| &space.kept);
    all.filter(move |(slot, kept)| kept.since.as_ref().is_none_or(|since| is_elder(**slot, since)))
        .map(|(slot, kept)| (*slot, kept.by.as_str()))
}

/// What is to be added to the words for an exhausted pool.
pub fn told(memory: &Memory) -> String {
    match memory.space.as_ref().map_or(0, |space| space.kept.len()) {
        0 => String::new(),
        number => format!("; of these, {number} by pods of whereabouts or networks with a part of the range"),
    }
}

/// A pod of whereabouts has got what a pod of this node has: some node starts the program still.
pub fn held_twice(facts: &Facts<'_>, memory: &mut Memory) -> Option<Step> {
    let state = facts.file?.pool.as_ref()?;
    let given = memory.space.iter().flat_map(|space| &space.kept).filter(|(_, kept)| kept.since.is_none());
    let mut twice = given.filter_map(|(slot, kept)| Some((*slot, kept.by.clone(), facts.leased.slots.get(slot)?)));
    let (slot, by, holder) = twice.find(|(slot, by, _)| memory.lost.get(slot) != Some(by))?;
    let addresses: Vec<String> = state.pool.numbered(slot).iter().map(ToString::to_string).collect();
    let text = format!("network {}: {} of {holder} is held here, and by {by}", facts.id, addresses.join(" and "));
    memory.lost.insert(slot, by);
    Some(Step::Tell { reason: "AddressHeldTwice", text })
}

/// `spec` of an IPPool, as far as it counts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IpPool {
    range: String,
    /// By the offset from the first address of the range: in IPv6 it may be larger than any integer of JSON.
    allocations: BTreeMap<String, Allocation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Allocation {
    id: String,
    podref: String,
}

impl Space {
    /// Nobody has anything.
    pub fn new(name: String, read_at: Instant) -> Self {
        Self { name, read_at, kept: BTreeMap::new() }
    }

    /// A block of another network of the space.
    pub fn take_block(&mut self, pool: &Pool, block: &Block) {
        let spec = &block.spec;
        for (first, number) in
            spec.addresses.iter().flat_map(|first| (0..spec.count.min(4096)).map(move |n| (first, n)))
        {
            let Some(slot) = behind(*first, number.into()).and_then(|ip| pool.slot_of(ip)) else { continue };
            let since = Some(block.meta.creation_timestamp.clone());
            let kept = Kept { by: format!("network {}", spec.network), since };
            // The eldest counts, and a pod of whereabouts before any block.
            let is_elder = |other: &Kept| other.since.is_none() || other.since <= kept.since;
            if !self.kept.get(&slot).is_some_and(is_elder) {
                self.kept.insert(slot, kept);
            }
        }
    }

    /// What whereabouts gave of one of its ranges.
    pub fn take_ip_pool(&mut self, pool: &Pool, raw: &Raw) {
        let name = &raw.metadata.name;
        let spec = match IpPool::deserialize(raw.spec()) {
            Ok(spec) => spec,
            Err(error) => return tracing::warn!("ippool {name}: ignored: spec: {error}"),
        };
        if !self.has(name, &spec.range) {
            return;
        }
        let Ok(range) = spec.range.parse::<IpNet>() else {
            return tracing::warn!("ippool {name}: ignored: spec.range: got {:?}, want a subnet", spec.range);
        };
        for (offset, Allocation { id, podref }) in &spec.allocations {
            let address = offset.parse().ok().and_then(|offset| behind(range.addr(), offset));
            let Some(slot) = address.and_then(|ip| pool.slot_of(ip)) else { continue };
            let who = if podref.is_empty() { format!("container {id}") } else { format!("pod {podref}") };
            let by = format!("{} of whereabouts", shortened(&who, LONGEST));
            self.kept.insert(slot, Kept { by, since: None });
        }
    }

    /// An IPPool is called by its network and range, with a node behind where whereabouts gives slices to nodes.
    fn has(&self, ip_pool: &str, range: &str) -> bool {
        let range = range.replace([':', '/'], "-");
        let tail = match self.name.as_str() {
            "" => Some(ip_pool),
            name => ip_pool.strip_prefix(name).and_then(|tail| tail.strip_prefix('-')),
        };
        let behind = tail.and_then(|tail| tail.strip_prefix(range.as_str()));
        behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('-'))
    }
}

/// The n-th address behind another one, if there is one.
fn behind(first: IpAddr, n: u128) -> Option<IpAddr> {
    match first {
        IpAddr::V4(v4) => v4.to_bits().checked_add(u32::try_from(n).ok()?).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(n).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

impl Networks {
    /// Reads what others have of a network's addresses. A network that is of no such space costs nothing.
    pub(super) async fn list_space(&self, id: &NetworkId, pool: Option<&Pool>) -> Result<(), Trouble> {
        let client = &self.0.client;
        let name = {
            let state = self.state();
            let notes = state.networks.get(id).and_then(|network| network.notes.as_ref());
            notes.and_then(|notes| notes.space.clone())
        };
        let (Some(name), Some(pool)) = (name, pool) else { return Ok(()) };
        let mut space = Space::new(name.clone(), Instant::now());
        let each = |raw: Raw| {
            if let Ok(block) = Block::read(raw)
                && block.spec.network != id.as_str()
            {
                space.take_block(pool, &block);
            }
        };
        api::blocks_of(client, &name, each).await?;
        let read = self.0.settings.config.as_deref().and_then(files::whereabouts);
        if read.is_some_and(|read| read.takes_over) {
            let each = |raw: Raw| space.take_ip_pool(pool, &raw);
            let all = meta_cni_kube::Selector { labels: None, fields: None };
            match api::listed(client, IP_POOLS.to_owned(), PLURAL, all, each).await {
                // The kind is not there any more, or never was.
                Ok(_) | Err(Answer::Lacking(_)) => {}
                Err(Answer::Refused(why)) => {
                    return Err(format!("what whereabouts gave cannot be taken over: {why}").into());
                }
                Err(other) => return Err(other.into()),
            }
        }
        if let Some(network) = self.state().networks.get_mut(id) {
            network.memory.space = Some(space);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use attachments::cni::object::Object;
    use serde_json::json;

    use super::*;

    fn pool(ipam: &str) -> Pool {
        Pool::read(&Object::parse(ipam.as_bytes()).unwrap(), false).unwrap()
    }

    fn raw(name: &str, spec: serde_json::Value) -> Raw {
        let metadata = json!({"name": name, "creationTimestamp": "2026-01-01T00:00:05Z"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn space(name: &str) -> Space {
        Space::new(name.to_owned(), Instant::now())
    }

    fn slots(space: &Space) -> Vec<u32> {
        space.kept.keys().copied().collect()
    }

    #[test]
    fn what_whereabouts_gave_is_kept_by_address_whatever_the_range_begins_with() {
        let part = pool(r#"{"ranges":[[{"subnet":"10.9.0.0/24","rangeStart":"10.9.0.5","rangeEnd":"10.9.0.9"}]]}"#);
        let allocation = |who: &str| json!({"id": "c1", "podref": who, "ifname": "net1"});
        let allocations = json!({"4": allocation("shop/a"), "6": allocation("shop/web"), "9": allocation(""), "x": {}});
        let spec = json!({"range": "10.9.0.0/24", "allocations": allocations});
        let mut kept = space("");
        kept.take_ip_pool(&part, &raw("10.9.0.0-24", spec.clone()));
        assert_eq!(slots(&kept), [1, 4]);
        assert_eq!(kept.kept[&1].by, "pod shop/web of whereabouts");
        assert_eq!(kept.kept[&4].by, "container c1 of whereabouts");
        // A slice of a node is of the range; another network name is another space.
        for (name, ip_pool, number) in [
            ("", "10.9.0.0-24-node1", 2),
            ("", "blue-10.9.0.0-24", 0),
            ("blue", "blue-10.9.0.0-24", 2),
            ("blue", "10.9.0.0-24", 0),
            ("blue", "blueish-10.9.0.0-24", 0),
        ] {
            let mut kept = space(name);
            kept.take_ip_pool(&part, &raw(ip_pool, spec.clone()));
            assert_eq!(kept.kept.len(), number, "{name:?} {ip_pool}");
        }
        // Nonsense is passed over.
        for spec in [json!({"range": "x", "allocations": {}}), json!({"range": 7}), json!(7)] {
            kept.take_ip_pool(&part, &raw("x", spec));
        }
        assert_eq!(slots(&kept), [1, 4]);
        let six = pool(r#"{"ranges":[[{"subnet":"fd00::/64"}]]}"#);
        let mut kept = space("");
        let spec =
            json!({"range": "fd00::/64", "allocations": {"7": {}, "340282366920938463463374607431768211455": {}}});
        kept.take_ip_pool(&six, &raw("fd00---64", spec));
        assert_eq!(slots(&kept), [7]);
    }

    #[test]
    fn a_block_of_another_range_is_kept_from_pods_unless_it_is_younger() {
        let half = pool(r#"{"subnet":"10.9.0.0/25"}"#);
        let block = |first: u32, created: &str| -> Block {
            let addresses = [Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 9, 0, 0)) + first)];
            let spec = json!({"network": "whereabouts-10-9-0-0-24", "first": first, "count": 16, "addresses": addresses, "runs": []});
            let mut raw = raw("b", spec);
            raw.metadata.creation_timestamp = created.to_owned();
            Block::read(raw).unwrap()
        };
        let mut kept = space("");
        kept.take_block(&half, &block(112, "2026-01-01T00:00:05Z"));
        kept.take_block(&half, &block(128, "2026-01-01T00:00:05Z"));
        assert_eq!(slots(&kept), (112..128).collect::<Vec<_>>());
        kept.take_block(&half, &block(112, "2026-01-01T00:00:02Z"));
        assert_eq!(kept.kept[&112].since.as_deref(), Some("2026-01-01T00:00:02Z"), "the elder one");
        let memory = Memory { space: Some(kept), ..Memory::default() };
        let id = NetworkId::pool("10.9.0.0/25");
        for (created, number) in
            [("2026-01-01T00:00:01Z", 0), ("2026-01-01T00:00:02Z", 16), ("2026-01-01T00:00:09Z", 16)]
        {
            let mut own = block(112, created);
            (own.spec.network, own.meta.name) = (id.to_string(), format!("{id}.b112"));
            let own = Blocks::read(&id, Some(&half), &[own.into()]);
            assert_eq!(all_kept(&memory, &own).count(), number, "{created}");
        }
        assert_eq!(all_kept(&memory, &Blocks::default()).count(), 16);
    }

    #[test]
    fn a_space_is_a_label() {
        assert_eq!(label(""), "whereabouts");
        for (i, name) in ["blue", "Blue", "b,l.u/e", &"x".repeat(100)].into_iter().enumerate() {
            let label = label(name);
            assert!(
                label.len() <= 63 && label.starts_with("whereabouts-") && label != super::label(&format!("{name}{i}"))
            );
        }
    }
}
