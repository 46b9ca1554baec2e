//! Plans of several nodes against one API server, all of them values: every order of steps, and an end of the agent behind each one.

mod address_sets;
mod addresses;
mod blocks;
mod overlay;
mod scale;
mod space;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use attachments::names::NetRef;
use delegates::networks::state::NetworkState;
use delegates::networks::{Need, NetworkId, needs};
use tokio::time::Instant;

use super::call::Call;
use super::facts::{Ask, Facts, Memory, Owner, Step, Tunnel};
use super::known::View;
use super::leases::Leased;
use super::notes::Notes;
use super::objects::{Address, Block, Claim, Member, Meta, OwnerReference, Stored};
use super::slots::{Blocks, block_name, compact, has};
use super::space::Space;
use super::{address_claims, member, plan};

/// What the API server has of one network.
#[derive(Clone, Default)]
struct Server {
    claim: Option<Arc<Claim>>,
    members: BTreeMap<String, Arc<Member>>,
    blocks: BTreeMap<String, Arc<Block>>,
    addresses: BTreeMap<String, Arc<Address>>,
    version: u64,
}

/// A node: what is on its disk, what its agent knows, and what its pods hold.
#[derive(Clone)]
struct Node {
    name: String,
    file: Option<NetworkState>,
    notes: Option<Notes>,
    leased: BTreeMap<u32, String>,
    memory: Memory,
    view: View,
    uid: Option<String>,
    kept: BTreeSet<u32>,
    is_idle: bool,
    wants: bool,
    mtu: u32,
}

#[derive(Clone)]
struct World {
    id: NetworkId,
    server: Server,
    nodes: BTreeMap<String, Node>,
    now: Instant,
    told: Vec<String>,
    /// Calls of the API server that change a block, by what they do.
    writes: BTreeMap<(&'static str, &'static str), usize>,
    /// How many slots were given up at once.
    given: Vec<usize>,
    /// Objects go behind the agents' backs.
    is_unfair: bool,
    /// What others have of the network's addresses.
    space: Option<Space>,
}

fn reference(name: &str) -> NetRef {
    NetRef { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() }
}

fn ask(name: &str, config: &str) -> Ask {
    let need: Need = needs(config, &reference(name)).into_iter().next().unwrap();
    Ask { reference: reference(name), need, uid: String::new(), owner: None, wanted: None }
}

/// A pool of this subnet in blocks of 8.
fn lan(subnet: &str) -> Ask {
    ask(
        "lan",
        &format!(
            r#"{{"cniVersion":"1.1.0","name":"lan","type":"macvlan","ipam":{{"type":"blocks","subnet":"{subnet}","blockSize":8}}}}"#
        ),
    )
}

fn overlay(more: &str) -> Ask {
    ask("red", &format!(r#"{{"cniVersion":"1.1.0","name":"red","type":"vxlan","vni":7{more}}}"#))
}

impl World {
    fn new(id: &NetworkId, nodes: &[&str]) -> Self {
        let node = |name: &&str| {
            let node = Node {
                name: (*name).to_owned(),
                file: None,
                notes: None,
                leased: BTreeMap::new(),
                memory: Memory::default(),
                view: View::default(),
                uid: None,
                kept: BTreeSet::new(),
                is_idle: false,
                wants: false,
                mtu: 1450,
            };
            ((*name).to_owned(), node)
        };
        let nodes = nodes.iter().map(node).collect();
        Self {
            id: id.clone(),
            server: Server::default(),
            nodes,
            now: Instant::now(),
            told: Vec::new(),
            writes: BTreeMap::new(),
            given: Vec::new(),
            is_unfair: false,
            space: None,
        }
    }

    fn next(&mut self, node: &str, ask: Option<&Ask>) -> Step {
        let now = self.now;
        let node = self.nodes.get_mut(node).unwrap();
        let tunnel = Ok(Tunnel {
            vteps: vec!["192.0.2.1".parse().unwrap()],
            mtu: node.mtu,
            underlay: "eth0 (MTU 1500)".to_owned(),
            taken_by: None,
        });
        let leased = Leased { slots: node.leased.clone(), any: !node.leased.is_empty() };
        let facts = Facts {
            id: &self.id,
            node: &node.name,
            uid: node.uid.as_deref(),
            file: node.file.as_ref(),
            notes: node.notes.as_ref(),
            view: &node.view,
            leased: &leased,
            kept: &node.kept,
            is_idle: node.is_idle && node.leased.is_empty(),
            ask,
            wants: node.wants,
            tunnel: Some(&tunnel),
            endpoints: None,
            now,
            grace: Duration::from_secs(60),
        };
        plan::next(&facts, &mut node.memory)
    }

    /// Takes steps until one is no step any more.
    fn run(&mut self, node: &str, ask: Option<Ask>) -> Result<(), String> {
        self.steps(node, ask, usize::MAX).unwrap()
    }

    /// Takes at most so many steps; `None` when that is not the end.
    fn steps(&mut self, node: &str, mut ask: Option<Ask>, most: usize) -> Option<Result<(), String>> {
        for number in 0..300 {
            if number == most {
                return None;
            }
            let step = self.next(node, ask.as_ref());
            match step {
                Step::Done => return Some(Ok(())),
                Step::Refuse(refusal) => return Some(Err(refusal.message)),
                Step::Wait(_) => return Some(Err("waits".to_owned())),
                step => self.take(node, step, ask.as_mut()),
            }
            self.check();
        }
        panic!("no end: {:?}", self.next(node, ask.as_ref()));
    }

    /// The agent is killed and started: what it remembered is gone, what it wrote is there.
    fn restart(&mut self, node: &str) {
        let node = self.nodes.get_mut(node).unwrap();
        (node.memory, node.view, node.uid) = (Memory::default(), View::default(), None);
    }

    /// The watch tells a node of everything.
    fn hear(&mut self, node: &str) {
        let server = &self.server;
        self.nodes.get_mut(node).unwrap().view = View {
            claim: server.claim.clone(),
            members: server.members.values().cloned().collect(),
            blocks: server.blocks.values().cloned().collect(),
            addresses: server.addresses.values().cloned().collect(),
            is_listed: true,
        };
    }

    fn take(&mut self, name: &str, step: Step, ask: Option<&mut Ask>) {
        let mut listed = self.space.clone();
        listed.iter_mut().for_each(|space| space.read_at = self.now);
        let node = self.nodes.get_mut(name).unwrap();
        match step {
            Step::List => {
                (node.memory.is_stale, node.memory.taken, node.memory.is_checked) = (false, BTreeSet::new(), true);
                node.memory.space = listed;
                self.hear(name);
            }
            Step::ListAddresses => {
                node.memory.is_checked = true;
                node.memory.space = listed;
                node.view.addresses = self.server.addresses.values().cloned().collect();
            }
            Step::Promise(slot, text) => {
                if !node.leased.contains_key(&slot) {
                    let pool = node.file.as_mut().unwrap().pool.as_mut().unwrap();
                    pool.claimed.insert(slot, text.clone());
                    node.memory.promised.insert(slot, text);
                }
            }
            Step::AskNode => node.uid = Some(format!("uid-{name}")),
            Step::AskDefinition => "uid-red".clone_into(&mut ask.unwrap().uid),
            Step::AskOwner(_) => ask.unwrap().owner = Some(Owner::There(Vec::new())),
            Step::Note(notes) => node.notes = Some(notes),
            Step::Write(state) => node.file = Some(*state),
            Step::GiveUp(slots) => {
                assert!(slots.keys().all(|slot| !node.leased.contains_key(slot)));
                let pool = node.file.as_mut().unwrap().pool.as_mut().unwrap();
                let kept: Vec<u32> =
                    pool.slots.iter().flat_map(|run| run.iter()).filter(|slot| !slots.contains_key(slot)).collect();
                pool.slots = compact(kept.into_iter());
                self.given.push(slots.len());
                node.memory.giving.extend(slots);
            }
            Step::Leave => node.file = None,
            Step::Forget => node.notes = None,
            Step::Tell { text, .. } => self.told.push(text),
            Step::Call(call) => self.call(name, *call),
            Step::Wait(_) | Step::Refuse(_) | Step::Done => unreachable!(),
        }
    }

    /// What the API server does. A conflict makes the node look again.
    fn call(&mut self, node: &str, call: Call) {
        self.server.version += 1;
        let version = self.server.version;
        let owner = OwnerReference { kind: "Node".to_owned(), name: node.to_owned(), uid: format!("uid-{node}") };
        let meta = |name: String| Meta {
            uid: format!("uid-of-{name}-{version}"),
            name,
            resource_version: version.to_string(),
            creation_timestamp: format!("2026-01-01T00:00:{version:02}Z"),
            owner_references: vec![owner.clone()],
            generation: 1,
        };
        let mut is_taken = None;
        let (kind, verb) = call.what();
        if kind.starts_with("addressblocks") {
            *self.writes.entry((kind, verb)).or_default() += 1;
        }
        match call {
            Call::CreateClaim(spec) => {
                let meta = meta(self.id.to_string());
                self.server.claim.get_or_insert_with(|| Arc::new(Stored { meta, spec, status: Default::default() }));
            }
            Call::PinMtu { mtu, .. } => {
                let claim = self.server.claim.take().unwrap();
                let mut spec = claim.spec.clone();
                spec.mtu = Some(mtu);
                self.server.claim =
                    Some(Arc::new(Stored { meta: claim.meta.clone(), spec, status: Default::default() }));
            }
            Call::CreateMember(spec) | Call::ChangeMember(spec) => {
                let name = member::name(&self.id, node);
                let stored = Stored { meta: meta(name.clone()), spec, status: Default::default() };
                self.server.members.insert(name, Arc::new(stored));
            }
            Call::DeleteMember { .. } => drop(self.server.members.remove(&member::name(&self.id, node))),
            Call::CreateBlock(spec) => {
                let name = block_name(&self.id, spec.first);
                let stored = Stored { meta: meta(name.clone()), spec, status: Default::default() };
                match self.server.blocks.entry(name) {
                    Entry::Occupied(there) => is_taken = Some(there.get().spec.first),
                    Entry::Vacant(vacant) => {
                        vacant.insert(Arc::new(stored));
                    }
                }
            }
            Call::ChangeBlock { name, version: of, runs, requests, is_ours } => {
                if let Some(block) = self.server.blocks.get(&name).filter(|block| block.meta.resource_version == of) {
                    let mut new = meta(name.clone());
                    new.uid.clone_from(&block.meta.uid);
                    new.creation_timestamp.clone_from(&block.meta.creation_timestamp);
                    new.owner_references.clone_from(&block.meta.owner_references);
                    new.owner_references.retain(|one| one.name != node);
                    new.owner_references.extend(is_ours.then_some(owner));
                    let mut spec = block.spec.clone();
                    (spec.runs, spec.requests) = (runs, requests);
                    let stored = Stored { meta: new, spec, status: block.status.clone() };
                    self.server.blocks.insert(name, Arc::new(stored));
                }
            }
            Call::DeleteBlock { name, version: of, .. } => {
                if self.server.blocks.get(&name).is_some_and(|block| block.meta.resource_version == of) {
                    self.server.blocks.remove(&name);
                }
            }
            Call::TellFree { name, status, .. } => {
                if let Some(block) = self.server.blocks.get(&name) {
                    let mut meta = block.meta.clone();
                    meta.resource_version = version.to_string();
                    let stored = Stored { meta, spec: block.spec.clone(), status };
                    self.server.blocks.insert(name, Arc::new(stored));
                }
            }
            Call::CreateAddressClaim(spec) => {
                let name = address_claims::name(&self.id, spec.slot);
                let stored = Stored { meta: meta(name.clone()), spec, status: Default::default() };
                self.server.addresses.entry(name).or_insert_with(|| Arc::new(stored));
            }
            Call::ChangeAddressClaim { name, version: of, nodes } => {
                if let Some(claim) = self.server.addresses.get(&name).filter(|claim| claim.meta.resource_version == of)
                {
                    let mut spec = claim.spec.clone();
                    spec.nodes = nodes;
                    self.replace(&name, version, spec, claim.status.clone());
                }
            }
            Call::BindAddressClaim { name, version: of, node, pod } => {
                if let Some(claim) = self.server.addresses.get(&name).filter(|claim| claim.meta.resource_version == of)
                {
                    let mut spec = claim.spec.clone();
                    (spec.nodes, spec.pod) = (vec![node], Some(pod));
                    self.replace(&name, version, spec, claim.status.clone());
                }
            }
            Call::TellHeld { name, version: of, status } => {
                if let Some(claim) = self.server.addresses.get(&name).filter(|claim| claim.meta.resource_version == of)
                {
                    self.replace(&name, version, claim.spec.clone(), status);
                }
            }
            Call::DeleteAddressClaim { name, uid } => {
                if self.server.addresses.get(&name).is_some_and(|claim| claim.meta.uid == uid) {
                    self.server.addresses.remove(&name);
                }
            }
        }
        let heard = std::mem::take(&mut self.nodes.get_mut(node).unwrap().view);
        self.hear(node);
        let node = self.nodes.get_mut(node).unwrap();
        node.view.is_listed = heard.is_listed;
        node.memory.taken.extend(is_taken);
    }

    fn replace(
        &mut self,
        name: &str,
        version: u64,
        spec: attachments::api::AddressClaimSpec,
        status: attachments::api::AddressClaimStatus,
    ) {
        let mut meta = self.server.addresses[name].meta.clone();
        meta.resource_version = version.to_string();
        meta.generation += 1;
        self.server.addresses.insert(name.to_owned(), Arc::new(Stored { meta, spec, status }));
    }

    /// What holds whatever happens: no slot may be given out by two nodes, and none that the objects give to another one.
    fn check(&self) {
        let mut all: BTreeMap<u32, &str> = BTreeMap::new();
        let blocks: Vec<Arc<Block>> = self.server.blocks.values().cloned().collect();
        let owned = Blocks::read(&self.id, None, &blocks);
        for (name, node) in &self.nodes {
            let Some(pool) = node.file.as_ref().and_then(|file| file.pool.as_ref()) else { continue };
            for slot in pool.slots.iter().flat_map(|run| run.iter()) {
                assert_eq!(all.insert(slot, name), None, "slot {slot} of {name}");
                assert!(self.is_unfair || has(&owned.of(name), slot), "slot {slot} is not {name}'s");
            }
        }
    }

    fn free(&self, node: &str) -> Vec<u32> {
        let node = &self.nodes[node];
        let Some(pool) = node.file.as_ref().and_then(|file| file.pool.as_ref()) else { return Vec::new() };
        let all = pool.slots.iter().flat_map(|run| run.iter());
        all.filter(|slot| pool.pool.addresses(*slot).is_some() && !node.leased.contains_key(slot)).collect()
    }

    /// A pod of a node: the ADD's question, and the plugin's part. Others answer as often as need be.
    fn pod(&mut self, node: &str, ask: &Ask) -> Result<u32, String> {
        let mut outcome = Err("never ran".to_owned());
        for _ in 0..20 {
            outcome = self.run(node, Some(ask.clone()));
            if outcome != Err("waits".to_owned()) {
                break;
            }
            let names: Vec<String> = self.nodes.keys().cloned().collect();
            for other in names {
                self.hear(&other);
                if other != node {
                    self.run(&other, None).unwrap();
                }
            }
            self.hear(node);
            self.now += Duration::from_secs(1);
        }
        outcome?;
        let claimed = &self.nodes[node].file.as_ref().unwrap().pool.as_ref().unwrap().claimed;
        let free = self.free(node).into_iter().find(|slot| !claimed.contains_key(slot));
        let slot = free.ok_or("no slot is free")?;
        self.nodes.get_mut(node).unwrap().leased.insert(slot, format!("pod {slot}"));
        Ok(slot)
    }
}
