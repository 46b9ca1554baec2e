//! Networks that span nodes: this node's claims, memberships and address blocks at the API server, and what the plugin and the data path
//! are told of them.
//!
//! | part | what |
//! | --- | --- |
//! | `plan` | the next thing to do for a network, as a value; `claim`, `member` and `blocks` are its parts, `slots` reads blocks, `space` what others have |
//! | `work` | does it, and comes back until all is as it should be; `calls` at the API server, `local` on this node |
//! | `watcher` | follows the objects of the networks that the node is in, in `groups`, and the files of the plugin; `data_path`: what the kernel tells |
//! | `known` | the objects; `notes` and `files`: what is written on this node; `leases`: what the plugin wrote |
//! | `api`, `tunnel` | the API server, and the kernel |

mod address_claims;
mod address_set;
mod address_sets;
mod api;
mod blocks;
mod call;
mod calls;
mod claim;
mod data_path;
mod facts;
pub mod files;
mod groups;
mod ipam_claim;
mod known;
mod leases;
mod local;
mod member;
mod notes;
mod objects;
mod plan;
pub mod request;
mod slots;
mod space;
mod tell;
#[cfg(test)]
mod tests;
mod tunnel;
mod watcher;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attachments::api::MemberEndpoint;
use attachments::dialect::objects::called;
use attachments::names::{NetRef, ObjectName};
use delegates::ipam::blocks::{Pool, whereabouts};
use delegates::networks::state::NetworkState;
use delegates::networks::{Need, NetworkId, needs, needs_of};
use kube::Client;
use meta_cni::cluster::wire::{Cause, Outcome, Refusal};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::definitions::Definitions;
use super::events::EventSender;
use super::foreign::Foreign;
use super::metrics::Metrics;
use api::Answer;
pub use data_path::Heard;
use facts::{Ask, Memory, Owner, Tunnel, Wanted};
use files::{Files, Versions};
use ipam_claim::{IpamClaim, Told};
use known::Known;
use notes::Notes;
use request::{Request, Requests};

/// How long an ADD goes on asking an API server that gives no answer. It may be restarting.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// The networks of this node. Clones share them.
#[derive(Clone)]
pub struct Networks(Arc<Inner>);

/// What the node is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of its Node object.
    pub node: String,
    /// Its InternalIPs, until its Node object says others.
    pub node_ips: Vec<IpAddr>,
    /// `stateDir`.
    pub state_dir: PathBuf,
    /// A file with keys of the node's configuration, which may change: whether whereabouts' configuration is read as one of blocks.
    pub config: Option<PathBuf>,
    /// The node's root directory, where whereabouts has its files.
    pub node_root: PathBuf,
    /// How long the node stays in a network that nothing is attached to, and keeps a block that is empty.
    pub grace: Duration,
}

struct Inner {
    settings: Settings,
    client: Client,
    definitions: Definitions,
    foreign: Foreign,
    events: EventSender,
    metrics: Metrics,
    state: Mutex<State>,
    /// Something is to be looked at.
    wake: Notify,
    /// The networks whose objects are followed.
    followed: watch::Sender<BTreeSet<NetworkId>>,
}

struct State {
    files: Files,
    known: Known,
    networks: BTreeMap<NetworkId, Network>,
    /// Uid of the Node object.
    uid: Option<String>,
    /// Its InternalIPs.
    node_ips: Vec<IpAddr>,
    /// What was told of on the Node last, of each network and reason, and when.
    told: BTreeMap<(NetworkId, &'static str), (String, Instant)>,
    /// The last pods whose networks' overlap was told of.
    overlapping: VecDeque<String>,
    /// The pods of this node that address blocks do not explain, as the data path found them.
    endpoints: BTreeMap<NetworkId, Vec<MemberEndpoint>>,
}

/// A network that this node is in, joins or leaves.
struct Network {
    notes: Option<Notes>,
    memory: Memory,
    /// When it was last used or asked for.
    used: Instant,
    /// A plugin waits for a slot.
    wants: bool,
    /// Something of it may have changed.
    is_dirty: bool,
    /// Not before this moment is it looked at again, unless an ADD asks.
    again: Option<Instant>,
    /// Consecutive failures.
    failures: u32,
    /// Where the tunnels end, and when that was looked up.
    tunnel: Option<(Result<Tunnel, String>, Instant)>,
    /// Size and time of the file of leases when it was last looked at.
    leases: Option<(u64, std::time::SystemTime)>,
    /// Statuses of IPAMClaims that are to be written.
    untold: Vec<Told>,
    /// What was last logged of blocks that make no sense.
    logged: BTreeSet<String>,
    /// One at a time works on it.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Something was heard of it.
    heard: Arc<Notify>,
    /// When an address of the node changed last.
    moved_at: Option<Instant>,
    /// When news of an object came that nothing has come of yet.
    heard_at: Option<Instant>,
    /// When the news came that `network.json` says already, and the kernel maybe not.
    unprogrammed: Option<Instant>,
    /// Slots that pods held at the last look.
    slots_used: usize,
}

impl Network {
    fn new(notes: Option<Notes>, now: Instant) -> Self {
        Self {
            notes,
            memory: Memory::default(),
            used: now,
            wants: false,
            is_dirty: true,
            again: None,
            failures: 0,
            tunnel: None,
            leases: None,
            untold: Vec::new(),
            logged: BTreeSet::new(),
            turn: Arc::default(),
            heard: Arc::default(),
            moved_at: None,
            heard_at: None,
            unprogrammed: None,
            slots_used: 0,
        }
    }
}

impl Networks {
    /// Starts with what an earlier agent left in the state directory.
    pub fn open(
        settings: Settings,
        client: Client,
        (definitions, foreign): (Definitions, Foreign),
        events: EventSender,
        metrics: Metrics,
    ) -> Self {
        let files = Files::open(&settings.state_dir);
        let now = Instant::now();
        let mut networks = BTreeMap::new();
        for id in files::networks(&settings.state_dir) {
            let notes = Notes::read(&settings.state_dir, &id).or_else(|| files.get(&id).map(|_| Notes::default()));
            if notes.is_some() {
                networks.insert(id, Network::new(notes, now));
            }
        }
        let followed = watch::Sender::new(networks.keys().cloned().collect());
        let node_ips = settings.node_ips.clone();
        let state = State {
            files,
            known: Known::default(),
            networks,
            uid: None,
            node_ips,
            told: BTreeMap::new(),
            overlapping: VecDeque::new(),
            endpoints: BTreeMap::new(),
        };
        let (state, wake) = (Mutex::new(state), Notify::new());
        Self(Arc::new(Inner { settings, client, definitions, foreign, events, metrics, state, wake, followed }))
    }

    /// For the data path: which networks the node is in, with a number that grows whenever `network.json` changed.
    pub fn changes(&self) -> watch::Receiver<Versions> {
        self.state().files.changes()
    }

    /// What `network.json` says; `None` when the node is not in the network.
    pub fn network(&self, id: &NetworkId) -> Option<Arc<NetworkState>> {
        self.state().files.get(id)
    }

    /// Makes sure that the node has what a definition needs. For a network that the node is in, with a
    /// slot that is free, this costs no call of the API server, unless an address is asked for that is not this node's.
    pub async fn ensure(
        &self,
        reference: &NetRef,
        config: &str,
        requests: &Requests,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        if !may_need(config) {
            return Ok(());
        }
        for need in self.needs(config, reference) {
            let Some(pool) = &need.pool else {
                self.ensure_one(reference, need, None, deadline).await?;
                continue;
            };
            let network = request::network_name(config, reference);
            for request in requests.of(reference) {
                let pod = requests.pod();
                match (request, pod) {
                    (Request::Nothing, _) if need.overlay.is_none() => {}
                    (Request::Nothing, _) => {
                        let need = Need { pool: None, ..need.clone() };
                        self.ensure_one(reference, need, None, deadline).await?;
                    }
                    (Request::Addresses(ips), Some(pod)) => {
                        let wanted = request::of_pod(pod, &ips, pool);
                        self.ensure_one(reference, need.clone(), wanted, deadline).await?;
                    }
                    (Request::AddressSet(name, key), Some(pod)) => {
                        let wanted = self.address_set(reference, (pod, &name, key), pool, deadline).await?;
                        self.ensure_one(reference, need.clone(), Some(wanted), deadline).await?;
                    }
                    (Request::IpamClaim(name), Some(pod)) => {
                        let names = (&pod.namespace, &name, network.as_str());
                        let (claim, wanted) = self.ipam_claim((reference, &need), names, pool, deadline).await?;
                        self.ensure_one(reference, need.clone(), Some(wanted.clone()), deadline).await?;
                        self.tell_ipam_claim(&need.id, &claim, &wanted, pod.name.as_str());
                    }
                    _ => self.ensure_one(reference, need.clone(), None, deadline).await?,
                }
            }
        }
        Ok(())
    }

    /// What an attachment of a pod asks for by an IPAMClaim. While the API server is away, one that is promised an address of this node is
    /// taken for what it was.
    async fn ipam_claim(
        &self,
        (reference, need): (&NetRef, &Need),
        (namespace, name, network): (&ObjectName, &ObjectName, &str),
        pool: &Pool,
        deadline: Instant,
    ) -> Result<(IpamClaim, Wanted), Refusal> {
        let asked = format!("network-attachment-definition {reference}");
        let until = (Instant::now() + PATIENCE).min(deadline);
        let later = |why: String| Err(Refusal::new(Cause::Later, format!("{asked}: ipam-claim-reference: {why}")));
        loop {
            let got = ipam_claim::get(&self.0.client, namespace.as_str(), name.as_str());
            let got = timeout_at(until, got).await.unwrap_or_else(|_| Err(Answer::Unanswered("no answer".to_owned())));
            match got {
                Ok(claim) => {
                    let wanted = claim.wanted((namespace, name), (&asked, network), pool)?;
                    return Ok((claim, wanted));
                }
                Err(Answer::Absent) => {
                    return later(format!(
                        "got {name:?}, want the name of an IPAMClaim in namespace {namespace}",
                        name = name.as_str()
                    ));
                }
                Err(Answer::Refused(why) | Answer::Lacking(why)) => return later(why),
                Err(answer) => {
                    let holder = ipam_claim::holder(namespace, name);
                    let wanted = Wanted { holder, slot: None, address: String::new(), set: None };
                    let file = self.network(&need.id);
                    let state = file.as_ref().and_then(|file| file.pool.as_ref());
                    if state.is_some_and(|state| address_claims::is_served(&wanted, state)) {
                        return Ok((IpamClaim::default(), wanted));
                    }
                    if Instant::now() + PAUSE >= until {
                        let why = if let Answer::Unanswered(why) = answer { why } else { format!("{answer:?}") };
                        return later(format!("IPAMClaim {namespace}/{name} cannot be read: {why}"));
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// The IPAMClaim's status says which addresses it has.
    fn tell_ipam_claim(&self, id: &NetworkId, claim: &IpamClaim, wanted: &Wanted, pod: &str) {
        let Some(file) = self.network(id).filter(|_| !wanted.holder.uid.is_empty()) else { return };
        let Some(state) = &file.pool else { return };
        let text = address_claims::promise(&wanted.holder);
        let Some((slot, _)) = state.claimed.iter().find(|(_, who)| **who == text) else { return };
        let Some(told) = claim.told(&wanted.holder, pod, (&state.pool, *slot)) else { return };
        let mut state = self.state();
        if let Some(network) = state.networks.get_mut(id) {
            network.untold.retain(|other| other.holder != told.holder);
            network.untold.push(told);
            network.is_dirty = true;
            self.0.wake.notify_one();
        }
    }

    async fn ensure_one(
        &self,
        reference: &NetRef,
        need: Need,
        wanted: Option<Wanted>,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let id = need.id.clone();
        let mut ask = Ask { reference: reference.clone(), need, uid: String::new(), owner: None, wanted };
        // Whether the owner still shares is looked up each time; the text is cached.
        if let Some(owner) = self.foreign_owner(&id, reference) {
            ask.owner = Some(self.owner(&owner, &id, deadline).await);
        }
        let is_refused = matches!(&ask.owner, Some(Owner::There(shared)) if !shared.contains(reference))
            || ask.owner == Some(Owner::Gone);
        if !is_refused && self.is_served(&id, &ask) {
            return Ok(());
        }
        let turn = {
            let mut state = self.state();
            let network = state.networks.entry(id.clone()).or_insert_with(|| Network::new(None, Instant::now()));
            Arc::clone(&network.turn)
        };
        let work = async {
            let _turn = turn.lock().await;
            let until = Instant::now() + PATIENCE;
            loop {
                match self.work(&id, Some(ask.clone())).await {
                    Err(refused) if refused.is_passing && Instant::now() < until => sleep(PAUSE).await,
                    done => return done.map_err(|refused| refused.refusal),
                }
            }
        };
        let done = timeout_at(deadline, work).await.unwrap_or_else(|_| {
            let text = format!("{}: network {id}: not joined within the time of the call", called(reference));
            Err(Refusal::new(Cause::Later, text))
        });
        if let Err(refusal) = &done {
            let cause = if refusal.cause == Cause::Configuration { "configuration" } else { "later" };
            self.0.metrics.networks().join_failed(id.as_str(), cause);
        }
        done
    }

    fn needs(&self, config: &str, reference: &NetRef) -> Vec<Need> {
        let Settings { config: file, node_root, .. } = &self.0.settings;
        let is_asked = config.contains(whereabouts::TYPE);
        let read = file.as_deref().filter(|_| is_asked).and_then(files::whereabouts);
        let files = read.as_ref().map(|read| whereabouts::Files { root: node_root, path_roots: &read.path_roots });
        needs_of(config, reference, files.as_ref())
    }

    /// The owner of a network's claim, if it is another definition.
    fn foreign_owner(&self, id: &NetworkId, reference: &NetRef) -> Option<NetRef> {
        let state = self.state();
        let owner = state.networks.get(id)?.notes.as_ref()?.owner.as_ref()?;
        facts::reference(owner).filter(|owner| owner != reference)
    }

    /// What the definition that owns a claim says of sharing.
    async fn owner(&self, owner: &NetRef, id: &NetworkId, deadline: Instant) -> Owner {
        let fact = self.0.definitions.know(owner, false, deadline).await;
        let outcome = fact.outcome.or_else(|| self.0.definitions.text(owner));
        match outcome.as_deref() {
            Some(Outcome::Found { config, .. }) => {
                let needs = needs(config.as_deref().unwrap_or_default(), owner);
                let overlay = needs.into_iter().filter(|need| need.id == *id).find_map(|need| need.overlay);
                Owner::There(overlay.map(|overlay| overlay.shared_with).unwrap_or_default())
            }
            Some(Outcome::Missing) => self.dialects_owner(owner).await,
            Some(Outcome::Unreachable { reason }) => Owner::Unknown(reason.clone()),
            _ => Owner::There(Vec::new()),
        }
    }

    /// What is known of an owner that is no definition: it may be a network of a dialect, which is shared with nobody.
    async fn dialects_owner(&self, owner: &NetRef) -> Owner {
        match api::dialects_uid(&self.0.client, owner).await {
            Ok(Some(_)) => Owner::There(Vec::new()),
            Ok(None) => Owner::Gone,
            Err(answer) => Owner::Unknown(work::Trouble::from(answer).why),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one insertion or removal, so a panic leaves the state consistent.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Something of the network may have changed.
    fn touch(&mut self, id: &str) {
        if let Some(network) = self.networks.get_mut(id) {
            network.is_dirty = true;
            network.heard.notify_waiters();
        }
    }
}

/// A cheap look that passes over most texts.
fn may_need(config: &str) -> bool {
    ["vxlan", delegates::ipam::blocks::TYPE, whereabouts::TYPE].iter().any(|name| config.contains(name))
}
