//! Does what the plans say, one step after the other, with new facts before each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use attachments::definition::NetworkAttachmentDefinition;
use attachments::dialect::objects::{ForeignRef, called};
use attachments::names::NetRef;
use delegates::ipam::blocks::Pool;
use delegates::networks::NetworkId;
use kube::Resource;
use meta_cni::cluster::wire::{Cause, Refusal};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::api::{self, Answer};
use super::facts::{Ask, Facts, Step, Tunnel};
use super::known::View;
use super::leases::Leased;
use super::notes::Notes;
use super::{Networks, ipam_claim, plan, tunnel};

/// The most steps of one work. A plan that comes to no end is a bug, and costs no more than this.
const STEPS: usize = 500;
/// How long what the kernel said of the underlay is taken for true.
const FRESH: Duration = Duration::from_secs(30);
/// The most that a network waits after failures.
const LONGEST: Duration = Duration::from_secs(30);

/// Why a step could not be taken.
pub(super) struct Trouble {
    pub(super) why: String,
    /// The API server gave no answer that counts, and may in a moment.
    is_passing: bool,
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self { why, is_passing: false }
    }
}

impl From<Answer> for Trouble {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Unanswered(why) => Self { why, is_passing: true },
            Answer::Refused(why) | Answer::Lacking(why) => why.into(),
            other => format!("{other:?}").into(),
        }
    }
}

/// Why an ADD cannot go on.
pub(super) struct Refused {
    /// What it is told.
    pub refusal: Refusal,
    /// It may in a moment.
    pub is_passing: bool,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, is_passing: false }
    }
}

/// What holds on the node, at the beginning of each step.
struct Node {
    leased: Leased,
    is_idle: bool,
}

impl Networks {
    /// Is nothing to be asked for an ADD?
    pub(super) fn is_served(&self, id: &NetworkId, ask: &Ask) -> bool {
        let file = self.network(id);
        let pool = file.as_ref().and_then(|file| file.pool.as_ref()).map(|state| &state.pool);
        let Ok(leased) = Leased::read(&self.0.settings.state_dir, id, pool) else { return false };
        let mut state = self.state();
        let Some(network) = state.networks.get_mut(id) else { return false };
        let view = View::default();
        let kept = self.kept(network.notes.as_ref(), pool);
        let facts = Facts {
            id,
            node: &self.0.settings.node,
            uid: None,
            file: file.as_deref(),
            notes: network.notes.as_ref(),
            view: &view,
            leased: &leased,
            kept: &kept,
            is_idle: false,
            ask: Some(ask),
            wants: false,
            tunnel: None,
            endpoints: None,
            now: Instant::now(),
            grace: self.0.settings.grace,
        };
        let is_served = plan::is_served(&facts, ask);
        if is_served {
            network.used = Instant::now();
        }
        is_served
    }

    /// Works on a network until all is as it should be. The caller has the network's turn.
    pub(super) async fn work(&self, id: &NetworkId, mut ask: Option<Ask>) -> Result<(), Refused> {
        for _ in 0..STEPS {
            let step = self.plan(id, ask.as_ref());
            tracing::debug!("network {id}: {step:?}");
            match step {
                Step::Done => {
                    let mut state = self.state();
                    if let Some(network) = state.networks.get_mut(id) {
                        (network.wants, network.failures, network.again) = (false, 0, None);
                        // Nothing came of what was heard.
                        network.heard_at = None;
                        if ask.is_some() {
                            network.used = Instant::now();
                        }
                    }
                    return Ok(());
                }
                Step::Refuse(refusal) => return Err(refusal.into()),
                step => {
                    if let Err(Trouble { why, is_passing }) = self.take(id, step, ask.as_mut()).await {
                        let who = ask.as_ref().map_or_else(String::new, |ask| format!("{}: ", called(&ask.reference)));
                        let refusal = Refusal::new(Cause::Later, format!("{who}network {id}: {why}"));
                        return Err(Refused { refusal, is_passing });
                    }
                }
            }
        }
        Err(Refusal::new(Cause::Internal, format!("network {id}: no end after {STEPS} steps")).into())
    }

    /// Looks at what is so, and says what is next.
    fn plan(&self, id: &NetworkId, ask: Option<&Ask>) -> Step {
        let file = self.network(id);
        let pool = self.pool(id, ask);
        let node = self.node(id, pool.as_ref());
        self.look_at_underlay(id, ask);
        let mut state = self.state();
        let view = state.known.view(id);
        let (uid, endpoints) = (state.uid.clone(), state.endpoints.get(id).cloned());
        let Some(network) = state.networks.get_mut(id) else { return Step::Done };
        let mut memory = std::mem::take(&mut network.memory);
        let kept = self.kept(network.notes.as_ref(), pool.as_ref());
        let facts = Facts {
            id,
            node: &self.0.settings.node,
            uid: uid.as_deref(),
            file: file.as_deref(),
            notes: network.notes.as_ref(),
            view: &view,
            leased: &node.leased,
            kept: &kept,
            is_idle: node.is_idle,
            ask,
            wants: network.wants,
            tunnel: network.tunnel.as_ref().map(|(tunnel, _)| tunnel),
            endpoints: endpoints.as_deref(),
            now: Instant::now(),
            grace: self.0.settings.grace,
        };
        let step = plan::next(&facts, &mut memory);
        network.logged.retain(|line| memory.wrong.contains(line));
        for line in &memory.wrong {
            if network.logged.insert(line.clone()) {
                tracing::warn!("{line}");
            }
        }
        network.memory = memory;
        step
    }

    /// The slots of a network that objects of dialects keep.
    fn kept(&self, notes: Option<&Notes>, pool: Option<&Pool>) -> BTreeSet<u32> {
        let definitions = notes.into_iter().flat_map(|notes| notes.definitions.keys());
        let objects = definitions.filter_map(|one| {
            let (namespace, name) = one.split_once('/')?;
            ForeignRef::of_definition(&NetRef { namespace: namespace.parse().ok()?, name: name.parse().ok()? })
        });
        let kept = objects.flat_map(|object| self.0.foreign.kept(&object));
        kept.filter_map(|address| pool?.slot_of(address)).collect()
    }

    /// The pool by which the network's addresses are numbered.
    fn pool(&self, id: &NetworkId, ask: Option<&Ask>) -> Option<Pool> {
        let known = self.network(id).and_then(|file| Some(file.pool.as_ref()?.pool.clone()));
        known.or_else(|| ask.and_then(|ask| ask.need.pool.clone()))
    }

    /// What is leased and attached. What cannot be read is taken to be in use.
    fn node(&self, id: &NetworkId, pool: Option<&Pool>) -> Node {
        let settings = &self.0.settings;
        let leased = Leased::read(&settings.state_dir, id, pool);
        let leased = leased.unwrap_or_else(|error| {
            tracing::warn!("network {id}: {error}");
            Leased { any: true, ..Leased::default() }
        });
        let in_use = leased.any || tunnel::is_on_node(id);
        let mut state = self.state();
        let now = Instant::now();
        let Some(network) = state.networks.get_mut(id) else { return Node { leased, is_idle: false } };
        if in_use {
            network.used = now;
        }
        network.slots_used = leased.slots.len();
        Node { leased, is_idle: now.duration_since(network.used) >= settings.grace }
    }

    /// Where the tunnels end is looked up for an ADD, and now and then.
    fn look_at_underlay(&self, id: &NetworkId, ask: Option<&Ask>) {
        if tunnel::pair(id).is_none() {
            return;
        }
        let mut state = self.state();
        let node_ips = state.node_ips.clone();
        let Some(network) = state.networks.get_mut(id) else { return };
        let is_fresh = |(found, at): &(Result<Tunnel, String>, Instant)| {
            let has_moved = network.moved_at.is_some_and(|moved| moved > *at);
            found.is_ok() && !has_moved && at.elapsed() < FRESH
        };
        if network.tunnel.as_ref().is_some_and(is_fresh) {
            return;
        }
        let noted = network.notes.as_ref().and_then(|notes| notes.underlay.as_deref()).and_then(tunnel::underlay);
        let asked = || ask.and_then(|ask| ask.need.overlay.as_ref()).and_then(|overlay| overlay.underlay.clone());
        let underlay = noted.or_else(asked);
        let found = tunnel::look(id, underlay.as_ref(), &node_ips);
        network.tunnel = Some((found, Instant::now()));
    }

    /// Takes a step. An error is why it could not be taken.
    async fn take(&self, id: &NetworkId, step: Step, ask: Option<&mut Ask>) -> Result<(), Trouble> {
        let settings = &self.0.settings;
        match step {
            Step::List => self.list(id, self.pool(id, ask.as_deref()).as_ref()).await,
            Step::ListAddresses => self.list_addresses(id, self.pool(id, ask.as_deref()).as_ref()).await,
            Step::Promise(slot, text) => Ok(self.promise(id, slot, text).await.map_err(|error| error.to_string())?),
            Step::AskNode => {
                let uid = api::uid(&self.0.client, &api::nodes(), &settings.node).await?;
                let uid = uid.ok_or_else(|| format!("there is no Node object {}", settings.node))?;
                self.state().uid = Some(uid);
                Ok(())
            }
            Step::AskDefinition => {
                let Some(ask) = ask else { return Ok(()) };
                let NetRef { namespace, name } = &ask.reference;
                let path = NetworkAttachmentDefinition::url_path(&(), Some(namespace.as_str()));
                let mut uid = api::uid(&self.0.client, &path, name.as_str()).await?;
                if uid.is_none() {
                    uid = api::dialects_uid(&self.0.client, &ask.reference).await?;
                }
                ask.uid = uid.ok_or_else(|| "the definition was deleted meanwhile".to_owned())?;
                Ok(())
            }
            Step::AskOwner(owner) => {
                if let Some(ask) = ask {
                    ask.owner = Some(self.owner(&owner, id, Instant::now() + FRESH).await);
                }
                Ok(())
            }
            Step::Note(notes) => Ok(self.note(id, notes).map_err(|error| error.to_string())?),
            Step::Call(call) => self.call(id, *call).await,
            Step::Write(new) => Ok(self.write(id, *new).await.map_err(|error| error.to_string())?),
            Step::GiveUp(slots) => Ok(self.give_up(id, slots).await.map_err(|error| error.to_string())?),
            Step::Leave => Ok(self.leave(id).await.map_err(|error| error.to_string())?),
            Step::Forget => Ok(self.forget(id).map_err(|error| error.to_string())?),
            Step::Tell { reason, text } => {
                self.tell_on_node(id, reason, text);
                Ok(())
            }
            Step::Wait(until) => {
                let heard = self.state().networks.get(id).map(|network| Arc::clone(&network.heard));
                if let Some(heard) = heard {
                    let _ = timeout_at(until, heard.notified()).await;
                } else {
                    sleep_until(until).await;
                }
                Ok(())
            }
            Step::Refuse(_) | Step::Done => Ok(()),
        }
    }

    /// Writes the statuses of IPAMClaims. What gets no answer is told again.
    async fn tell_ipam_claims(&self, id: &NetworkId) {
        let untold = self.state().networks.get_mut(id).map(|network| std::mem::take(&mut network.untold));
        for told in untold.into_iter().flatten() {
            match ipam_claim::tell(&self.0.client, &told).await {
                Ok(()) => {}
                Err(Answer::Unanswered(why)) => {
                    tracing::debug!("network {id}: status of {}: {why}", told.holder);
                    let mut state = self.state();
                    let Some(network) = state.networks.get_mut(id) else { continue };
                    // One that was told of meanwhile says more.
                    if !network.untold.iter().any(|other| other.holder == told.holder) {
                        network.untold.push(told);
                    }
                }
                Err(answer) => tracing::warn!("network {id}: status of {}: {}", told.holder, Trouble::from(answer).why),
            }
        }
    }

    /// Works on a network that no ADD asks for. A failure is logged once, and tried again ever later.
    pub(super) async fn background(&self, id: &NetworkId) {
        let Some(turn) = self.state().networks.get(id).map(|network| Arc::clone(&network.turn)) else { return };
        let _turn = turn.lock().await;
        let worked = self.work(id, None).await;
        self.tell_ipam_claims(id).await;
        if let Err(Refused { refusal, .. }) = worked {
            let mut state = self.state();
            let Some(network) = state.networks.get_mut(id) else { return };
            if network.failures == 0 {
                tracing::warn!("{}", refusal.message);
            } else {
                tracing::debug!("{}", refusal.message);
            }
            let pause = Duration::from_millis(500).saturating_mul(1 << network.failures.min(6)).min(LONGEST);
            network.failures += 1;
            network.again = Some(Instant::now() + pause);
        }
    }
}
