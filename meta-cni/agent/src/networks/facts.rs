//! What a plan for one network is made from, and what comes of it. Values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use attachments::api::{ClaimHolder, ClaimOwner, MemberEndpoint};
use attachments::dialect::objects::called;
use attachments::names::NetRef;
use attachments::text::hash;
use delegates::networks::state::{NetworkState, Slots};
use delegates::networks::{Need, NetworkId};
use meta_cni::cluster::wire::{Cause, Refusal};
use tokio::time::Instant;

use super::call::Call;
use super::known::View;
use super::leases::Leased;
use super::notes::Notes;
use super::space::Space;

/// Where this node's tunnels end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Addresses, one of a family, IPv4 first.
    pub vteps: Vec<IpAddr>,
    /// MTU that the underlay leaves.
    pub mtu: u32,
    /// The underlay in words: its name and its own MTU.
    pub underlay: String,
    /// A link that is not ours and has the VNI on the UDP port.
    pub taken_by: Option<String>,
}

/// A definition that an ADD needs.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The definition.
    pub reference: NetRef,
    /// What it needs.
    pub need: Need,
    /// Its uid; empty until it was asked for.
    pub uid: String,
    /// What is known of the definition that owns the claim.
    pub owner: Option<Owner>,
    /// The address that the attachment asks for; any, where it asks for none.
    pub wanted: Option<Wanted>,
}

/// An address that an attachment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// For whom it is.
    pub holder: ClaimHolder,
    /// The slot of the addresses that are named; a pod names some.
    pub slot: Option<u32>,
    /// An address of it, as it was named, for messages.
    pub address: String,
    /// A member of the set that `holder` is.
    pub set: Option<SetRequest>,
}

/// What a pod asks of an AddressSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetRequest {
    /// The members.
    pub members: Members,
    /// The pod.
    pub pod: ClaimHolder,
}

/// The members of an AddressSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// These, in this order.
    Slots(Vec<u32>),
    /// So many, whichever they are.
    Size(u32),
}

/// The definition that owns a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// There is none of its name.
    Gone,
    /// It is there, and shares its pair with these.
    There(Vec<NetRef>),
    /// The API server could not be asked.
    Unknown(String),
}

/// See the module.
pub struct Facts<'a> {
    /// The network.
    pub id: &'a NetworkId,
    /// Name of this node.
    pub node: &'a str,
    /// Uid of its Node object; `None` until it was asked for.
    pub uid: Option<&'a str>,
    /// `network.json`.
    pub file: Option<&'a NetworkState>,
    /// `agent.json`; `None` for a network of which nothing was ever made.
    pub notes: Option<&'a Notes>,
    /// The objects.
    pub view: &'a View,
    /// The leases.
    pub leased: &'a Leased,
    /// Slots that pods get by the name of an object of a dialect alone.
    pub kept: &'a BTreeSet<u32>,
    /// Nothing is attached, leased or asked for, and has not been for the grace.
    pub is_idle: bool,
    /// What an ADD waits for.
    pub ask: Option<&'a Ask>,
    /// A plugin waits for a slot.
    pub wants: bool,
    /// The node's tunnels, or why there are none.
    pub tunnel: Option<&'a Result<Tunnel, String>>,
    /// The pods that blocks do not explain, if the data path told.
    pub endpoints: Option<&'a [MemberEndpoint]>,
    /// Now.
    pub now: Instant,
    /// How long what is empty is kept.
    pub grace: std::time::Duration,
}

/// A request for slots of a block.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Since when it is out.
    pub since: Instant,
    /// Slots of the block that the node owned then.
    pub owned: usize,
}

/// What the plans of one network remember between them. Nothing of it need survive the agent.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Slots that left `network.json` and whose objects do not say so yet: where they go.
    pub giving: BTreeMap<u32, Option<String>>,
    /// Requests for slots that are out, by block.
    pub asked: BTreeMap<String, Asked>,
    /// Blocks that had no slot for us, and since when.
    pub refused: BTreeMap<String, Instant>,
    /// Since when a block has been empty, by its first slot.
    pub empty: BTreeMap<u32, Instant>,
    /// When it was last written how many slots are free, by block.
    pub told: BTreeMap<String, Instant>,
    /// When the first look was that might have written it.
    pub began: Option<Instant>,
    /// How many slots were leased when slots were last given to others.
    pub gave: Option<usize>,
    /// First slots of blocks that were somebody's when we tried.
    pub taken: BTreeSet<u32>,
    /// What of the objects is passed over, a line each.
    pub wrong: Vec<String>,
    /// What was told of on the Node, by the reason. It is told again when it is another text, or was over meanwhile.
    pub told_on_node: BTreeMap<&'static str, String>,
    /// Why no slot can be had.
    pub exhausted: Option<String>,
    /// What the API server said cannot be relied on any more: everything is to be listed again.
    pub is_stale: bool,
    /// Slots that are promised in `network.json` and not claimed yet, each with its text there.
    pub promised: BTreeMap<u32, String>,
    /// Slots of other nodes that are waited for, and since when.
    pub waiting: BTreeMap<u32, Instant>,
    /// Pods that wait for a member of a full set, and since when.
    pub waiting_for_set: BTreeMap<String, Instant>,
    /// Claimed slots that a pod of this node has or had.
    pub seen: BTreeSet<u32>,
    /// Claimed slots that no pod of this node has, and since when.
    pub unused: BTreeMap<u32, Instant>,
    /// Claims of IPAMClaims that were made, and are not known to be the only ones.
    pub unverified: BTreeSet<u32>,
    /// Slots whose claims cannot be made, for an object of the name is there that cannot be read.
    pub in_the_way: BTreeSet<u32>,
    /// A member of this node is there that was not among those of the network.
    pub member_is_there: bool,
    /// Why what was asked for cannot be had.
    pub refusal: Option<(Wanted, Refusal)>,
    /// The claims of addresses were listed since `network.json` was written last.
    pub is_checked: bool,
    /// What was told of addresses that are held twice.
    pub lost: BTreeMap<u32, String>,
    /// What others have of the network's addresses, for one of whereabouts.
    pub space: Option<Space>,
}

/// The next thing to do. After each one the facts are new, but for the last four.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// List the network's objects.
    List,
    /// List its claims of addresses.
    ListAddresses,
    /// Promise a slot in `network.json`, if it is free still.
    Promise(u32, String),
    /// Get the uid of the Node object.
    AskNode,
    /// Get the uid of the definition.
    AskDefinition,
    /// Look at the definition that owns the claim.
    AskOwner(NetRef),
    /// Replace `agent.json`.
    Note(Notes),
    /// Call the API server.
    Call(Box<Call>),
    /// Replace `network.json`.
    Write(Box<NetworkState>),
    /// Take slots out of `network.json`, if all of them are free still, and promise them.
    GiveUp(BTreeMap<u32, Option<String>>),
    /// Remove `network.json`, if nothing is leased.
    Leave,
    /// Remove `agent.json`: nothing of the network is left.
    Forget,
    /// Tell of it on the Node, once.
    Tell { reason: &'static str, text: String },
    /// An answer of others is awaited.
    Wait(Instant),
    /// The ADD cannot have what it needs.
    Refuse(Refusal),
    /// All is as it should be.
    Done,
}

impl Step {
    /// A refusal that no retry helps.
    pub fn wrong(text: String) -> Self {
        Self::Refuse(Refusal::new(Cause::Configuration, text))
    }

    /// A refusal of a call that may succeed later.
    pub fn later(text: String) -> Self {
        Self::Refuse(Refusal::new(Cause::Later, text))
    }
}

impl From<Call> for Step {
    fn from(call: Call) -> Self {
        Self::Call(Box::new(call))
    }
}

impl Facts<'_> {
    /// The words that a refusal begins with.
    pub fn asked(&self) -> String {
        self.ask.map_or_else(|| format!("network {}", self.id), |ask| called(&ask.reference))
    }

    /// May a definition use the network, as far as an earlier look said?
    pub fn is_admitted(&self, ask: &Ask) -> bool {
        self.notes
            .is_some_and(|notes| notes.definitions.get(&ask.reference.to_string()) == Some(&fingerprint(&ask.need)))
    }

    /// Free slots of this node that somebody may get, in order.
    pub fn free(&self) -> Vec<u32> {
        let Some(pool) = self.file.and_then(|file| file.pool.as_ref()) else { return Vec::new() };
        let is_had = |slot: &u32| self.leased.slots.contains_key(slot) || pool.claimed.contains_key(slot);
        let is_free = |slot: &u32| !is_had(slot) && !self.kept.contains(slot);
        let all = pool.slots.iter().flat_map(|run: &Slots| run.iter());
        all.filter(|slot| pool.pool.usable_from(*slot) == Some(*slot)).filter(is_free).collect()
    }
}

/// A number that another need has another one of: FNV-1a over its text. The address space does not count: the notes have it.
pub fn fingerprint(need: &Need) -> u64 {
    let Need { id, overlay, pool, .. } = need;
    hash(&format!("Need {{ id: {id:?}, overlay: {overlay:?}, pool: {pool:?} }}"))
}

/// The owner of a claim as a definition's name, where it is one.
pub fn reference(owner: &ClaimOwner) -> Option<NetRef> {
    Some(NetRef { namespace: owner.namespace.parse().ok()?, name: owner.name.parse().ok()? })
}
