//! Does what the plans say, one step after the other, with new facts before each.

use std::sync::Arc;
use std::time::Duration;

use attachments::api::{AddressBlock, AddressClaim, OverlayMember, VniClaim};
use attachments::definition::NetworkAttachmentDefinition;
use attachments::names::NetRef;
use delegates::networks::NetworkId;
use delegates::networks::state::NetworkState;
use kube::Resource;
use meta_cni::cluster::wire::{Cause, Refusal};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::api::{self, Answer, Us};
use super::facts::{Ask, Call, Facts, Step};
use super::known::View;
use super::leases::{self, Leased, Unused};
use super::notes::Notes;
use super::slots::Blocks;
use super::{Networks, address_claims, ipam_claim, member, plan, slots, tunnel};
use crate::error::Result;

/// The most steps of one work. A plan that comes to no end is a bug, and costs no more than this.
const STEPS: usize = 500;
/// How long what the kernel said of the underlay is taken for true.
const FRESH: Duration = Duration::from_secs(30);
/// The most that a network waits after failures.
const LONGEST: Duration = Duration::from_secs(30);

/// Why a step could not be taken.
struct Trouble {
    why: String,
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
        let facts = Facts {
            id,
            node: &self.0.settings.node,
            uid: None,
            file: file.as_deref(),
            notes: network.notes.as_ref(),
            view: &view,
            leased: &leased,
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
    pub(super) async fn work(&self, id: &NetworkId, mut ask: Option<Ask>) -> std::result::Result<(), Refused> {
        for _ in 0..STEPS {
            let step = self.plan(id, ask.as_ref());
            tracing::debug!("network {id}: {step:?}");
            match step {
                Step::Done => {
                    let mut state = self.state();
                    if let Some(network) = state.networks.get_mut(id) {
                        (network.wants, network.failures, network.again) = (false, 0, None);
                        if ask.is_some() {
                            network.used = Instant::now();
                        }
                    }
                    return Ok(());
                }
                Step::Refuse(refusal) => return Err(refusal.into()),
                step => {
                    if let Err(Trouble { why, is_passing }) = self.take(id, step, ask.as_mut()).await {
                        let who = ask.as_ref().map_or_else(String::new, |ask| {
                            format!("network-attachment-definition {}: ", ask.reference)
                        });
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
        let asked = ask.and_then(|ask| ask.need.pool.as_ref());
        let pool = file.as_ref().and_then(|file| file.pool.as_ref()).map(|state| &state.pool).or(asked);
        let node = self.node(id, pool);
        self.look_at_underlay(id, ask);
        let mut state = self.state();
        let view = state.known.view(id);
        let (uid, endpoints) = (state.uid.clone(), state.endpoints.get(id).cloned());
        let Some(network) = state.networks.get_mut(id) else { return Step::Done };
        let mut memory = std::mem::take(&mut network.memory);
        let facts = Facts {
            id,
            node: &self.0.settings.node,
            uid: uid.as_deref(),
            file: file.as_deref(),
            notes: network.notes.as_ref(),
            view: &view,
            leased: &node.leased,
            is_idle: node.is_idle,
            ask,
            wants: network.wants,
            tunnel: network.tunnel.as_ref().map(|(tunnel, _)| tunnel),
            endpoints: endpoints.as_deref(),
            now: Instant::now(),
            grace: self.0.settings.grace,
        };
        let step = plan::next(&facts, &mut memory);
        let wrong: Vec<String> =
            view.members
                .iter()
                .filter(|member| !member::is_sound(id, member))
                .map(|member| format!("overlaymember {}: ignored: its name is not NETWORK.NODE", member.meta.name))
                .chain(Blocks::read(id, pool, &view.blocks).wrong)
                .chain(
                    view.addresses.iter().filter(|claim| !address_claims::is_sound(id, claim)).map(|claim| {
                        format!("addressclaim {}: ignored: its name is not NETWORK.aSLOT", claim.meta.name)
                    }),
                )
                .collect();
        network.memory = memory;
        network.logged.retain(|line| wrong.contains(line));
        for line in wrong {
            if network.logged.insert(line.clone()) {
                tracing::warn!("{line}");
            }
        }
        step
    }

    /// What is leased and attached. What cannot be read is taken to be in use.
    fn node(&self, id: &NetworkId, pool: Option<&delegates::ipam::blocks::Pool>) -> Node {
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
        Node { leased, is_idle: now.duration_since(network.used) >= settings.grace }
    }

    /// Where the tunnels end is looked up for an ADD, and now and then.
    fn look_at_underlay(&self, id: &NetworkId, ask: Option<&Ask>) {
        if tunnel::pair(id).is_none() {
            return;
        }
        let mut state = self.state();
        let Some(network) = state.networks.get_mut(id) else { return };
        if network.tunnel.as_ref().is_some_and(|(found, at)| found.is_ok() && at.elapsed() < FRESH) {
            return;
        }
        let noted = network.notes.as_ref().and_then(|notes| notes.underlay.as_deref()).and_then(tunnel::underlay);
        let asked = || ask.and_then(|ask| ask.need.overlay.as_ref()).and_then(|overlay| overlay.underlay.clone());
        let underlay = noted.or_else(asked);
        let found = tunnel::look(id, underlay.as_ref(), &self.0.settings.node_ips);
        network.tunnel = Some((found, Instant::now()));
    }

    /// Takes a step. An error is why it could not be taken.
    async fn take(&self, id: &NetworkId, step: Step, ask: Option<&mut Ask>) -> std::result::Result<(), Trouble> {
        let settings = &self.0.settings;
        match step {
            Step::List => self.list(id).await,
            Step::ListAddresses => self.list_addresses(id).await,
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
                let uid = api::uid(&self.0.client, &path, name.as_str()).await?;
                ask.uid = uid.ok_or_else(|| "the definition was deleted meanwhile".to_owned())?;
                Ok(())
            }
            Step::AskOwner(owner) => {
                if let Some(ask) = ask {
                    ask.owner = Some(self.owner(&owner, id, Instant::now() + FRESH).await);
                }
                Ok(())
            }
            Step::Note(notes) => {
                notes.write(&settings.state_dir, id).map_err(|error| error.to_string())?;
                let mut state = self.state();
                if let Some(network) = state.networks.get_mut(id) {
                    network.notes = Some(notes);
                }
                let followed = state.networks.iter().filter(|(_, network)| network.notes.is_some());
                let followed = followed.map(|(id, _)| id.clone()).collect();
                drop(state);
                self.follow(followed);
                Ok(())
            }
            Step::Call(call) => self.call(id, *call).await,
            Step::Write(new) => Ok(self.write(id, *new).await.map_err(|error| error.to_string())?),
            Step::GiveUp(slots) => Ok(self.give_up(id, slots).await.map_err(|error| error.to_string())?),
            Step::Leave => Ok(self.leave(id).await.map_err(|error| error.to_string())?),
            Step::Forget => {
                Notes::remove(&settings.state_dir, id).map_err(|error| error.to_string())?;
                let mut state = self.state();
                state.networks.remove(id);
                state.known.forget(id);
                state.endpoints.remove(id);
                let followed = state.networks.iter().filter(|(_, network)| network.notes.is_some());
                let followed = followed.map(|(id, _)| id.clone()).collect();
                drop(state);
                tracing::info!("network {id}: left");
                self.follow(followed);
                Ok(())
            }
            Step::Tell { reason, text } => {
                tracing::warn!("{text}");
                self.0.events.on_node(&settings.node, reason, text);
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

    fn follow(&self, networks: std::collections::BTreeSet<NetworkId>) {
        self.0.followed.send_if_modified(|followed| {
            let is_new = *followed != networks;
            *followed = networks;
            is_new
        });
    }

    async fn list(&self, id: &NetworkId) -> std::result::Result<(), Trouble> {
        let client = &self.0.client;
        // One after the other: the claim tells of most that can be wrong.
        if tunnel::pair(id).is_some() {
            let claims = api::claims(client, id).await?;
            self.state().known.claims.listed(id, claims);
            let members = api::list::<OverlayMember>(client, id).await?;
            self.state().known.members.listed(id, members);
        } else {
            let mut state = self.state();
            state.known.claims.listed(id, Vec::new());
            state.known.members.listed(id, Vec::new());
        }
        let blocks = api::list::<AddressBlock>(client, id).await?;
        self.list_addresses(id).await?;
        let mut state = self.state();
        state.known.blocks.listed(id, blocks);
        if let Some(network) = state.networks.get_mut(id) {
            network.memory.is_stale = false;
            network.memory.taken.clear();
        }
        Ok(())
    }

    /// Lists the claims of addresses. Where the API server does not have the kind yet, nothing is claimed.
    async fn list_addresses(&self, id: &NetworkId) -> std::result::Result<(), Trouble> {
        let listed = match api::list::<AddressClaim>(&self.0.client, id).await {
            Err(Answer::Lacking(_)) => Vec::new(),
            other => other?,
        };
        let mut state = self.state();
        state.known.addresses.listed(id, listed);
        if let Some(network) = state.networks.get_mut(id) {
            network.memory.is_checked = true;
        }
        Ok(())
    }

    async fn call(&self, id: &NetworkId, call: Call) -> std::result::Result<(), Trouble> {
        let (uid, view) = {
            let mut state = self.state();
            // Until there is an answer, and if this is given up meanwhile, nobody knows what the objects are.
            if let Some(network) = state.networks.get_mut(id) {
                network.memory.is_stale = true;
            }
            (state.uid.clone().unwrap_or_default(), state.known.view(id))
        };
        let us = Us { node: &self.0.settings.node, uid: &uid };
        let block = match &call {
            Call::ChangeBlock { name, .. } => view.blocks.iter().find(|block| block.meta.name == *name),
            _ => None,
        };
        let answer = api::call(&self.0.client, id, &us, &call, block.map(AsRef::as_ref)).await;
        let known = |answer: &Answer| !matches!(answer, Answer::Unanswered(_));
        let is_known = known(&answer);
        let done = match answer {
            Answer::Done(raw) => {
                let mut state = self.state();
                match (&call, raw) {
                    (Call::CreateClaim(_) | Call::PinMtu { .. }, Some(raw)) => drop(state.known.claims.apply(*raw)),
                    (Call::CreateMember(_) | Call::ChangeMember(_), Some(raw)) => drop(state.known.members.apply(*raw)),
                    (
                        Call::CreateAddressClaim(_) | Call::ChangeAddressClaim { .. } | Call::TellHeld { .. },
                        Some(raw),
                    ) => drop(state.known.addresses.apply(*raw)),
                    (_, Some(raw)) => drop(state.known.blocks.apply(*raw)),
                    (call, None) => self.gone(&mut state, id, call),
                }
                Ok(())
            }
            Answer::Absent => {
                let mut state = self.state();
                self.gone(&mut state, id, &call);
                Ok(())
            }
            Answer::Conflict => self.read_again(id, &call).await,
            Answer::Refused(why) | Answer::Lacking(why) => {
                // A reference to a Node that was made anew, for one.
                self.state().uid = None;
                Err(why.into())
            }
            Answer::Unanswered(_) => Err(answer.into()),
        };
        if is_known && let Some(network) = self.state().networks.get_mut(id) {
            network.memory.is_stale = false;
        }
        done
    }

    /// The object that a call is about is not there.
    fn gone(&self, state: &mut super::State, id: &NetworkId, call: &Call) {
        match call {
            Call::CreateClaim(_) | Call::PinMtu { .. } => state.known.claims.absent(id, id.as_str()),
            Call::CreateMember(_) | Call::ChangeMember(_) | Call::DeleteMember { .. } => {
                state.known.members.absent(id, &member::name(id, &self.0.settings.node));
            }
            Call::CreateBlock(spec) => state.known.blocks.absent(id, &slots::block_name(id, spec.first)),
            Call::ChangeBlock { name, .. } | Call::DeleteBlock { name, .. } | Call::TellFree { name, .. } => {
                state.known.blocks.absent(id, name);
            }
            Call::CreateAddressClaim(spec) => {
                state.known.addresses.absent(id, &address_claims::name(id, spec.slot));
            }
            Call::ChangeAddressClaim { name, .. }
            | Call::TellHeld { name, .. }
            | Call::DeleteAddressClaim { name, .. } => state.known.addresses.absent(id, name),
        }
    }

    /// Somebody was faster: what is there now is read.
    async fn read_again(&self, id: &NetworkId, call: &Call) -> std::result::Result<(), Trouble> {
        let client = &self.0.client;
        let answer = match call {
            Call::CreateClaim(_) | Call::PinMtu { .. } => api::get::<VniClaim>(client, id.as_str()).await,
            Call::CreateMember(_) | Call::ChangeMember(_) | Call::DeleteMember { .. } => {
                api::get::<OverlayMember>(client, &member::name(id, &self.0.settings.node)).await
            }
            Call::CreateBlock(spec) => api::get::<AddressBlock>(client, &slots::block_name(id, spec.first)).await,
            Call::ChangeBlock { name, .. } | Call::DeleteBlock { name, .. } | Call::TellFree { name, .. } => {
                api::get::<AddressBlock>(client, name).await
            }
            Call::CreateAddressClaim(spec) => {
                api::get::<AddressClaim>(client, &address_claims::name(id, spec.slot)).await
            }
            Call::ChangeAddressClaim { name, .. }
            | Call::TellHeld { name, .. }
            | Call::DeleteAddressClaim { name, .. } => api::get::<AddressClaim>(client, name).await,
        };
        let mut state = self.state();
        match answer {
            Answer::Done(Some(raw)) => {
                match call {
                    Call::CreateClaim(_) | Call::PinMtu { .. } => {
                        let network = state.known.claims.apply(*raw);
                        if network.is_some_and(|network| network != id.as_str()) {
                            return Err(format!("VniClaim {id} is of another pair than its name: remove it").into());
                        }
                    }
                    Call::CreateMember(_) | Call::ChangeMember(_) | Call::DeleteMember { .. } => {
                        drop(state.known.members.apply(*raw));
                    }
                    Call::CreateAddressClaim(_)
                    | Call::ChangeAddressClaim { .. }
                    | Call::TellHeld { .. }
                    | Call::DeleteAddressClaim { .. } => {
                        let name = raw.metadata.name.clone();
                        if state.known.addresses.apply(*raw).is_some_and(|network| network != id.as_str()) {
                            return Err(
                                format!("AddressClaim {name} is of another network than its name: remove it").into()
                            );
                        }
                    }
                    _ => drop(state.known.blocks.apply(*raw)),
                }
                // One that cannot be read is in the way all the same.
                if let (Call::CreateBlock(spec), Some(network)) = (call, state.networks.get_mut(id)) {
                    network.memory.taken.insert(spec.first);
                }
                if let (Call::CreateAddressClaim(spec), Some(network)) = (call, state.networks.get_mut(id)) {
                    network.memory.in_the_way.insert(spec.slot);
                }
                Ok(())
            }
            Answer::Done(None) | Answer::Absent | Answer::Conflict => {
                self.gone(&mut state, id, call);
                Ok(())
            }
            answer => Err(answer.into()),
        }
    }

    /// Replaces `network.json`. Slots leave it while no plugin gives one out.
    async fn write(&self, id: &NetworkId, new: NetworkState) -> Result<()> {
        let before = self.network(id);
        let of = |state: &NetworkState| {
            let pool = state.pool.as_ref();
            pool.map(|pool| pool.slots.iter().flat_map(|run| run.iter()).collect::<Vec<_>>()).unwrap_or_default()
        };
        let after = of(&new);
        let shrinks =
            before.as_ref().is_some_and(|before| of(before).iter().any(|slot| after.binary_search(slot).is_err()));
        if !shrinks {
            return self.state().files.write(id, new).map(drop);
        }
        let (networks, id_of) = (self.clone(), id.clone());
        leases::locked(&self.0.settings.state_dir, id, (None, Unused::Keep), move |_| {
            networks.state().files.write(&id_of, new).map(drop)
        })
        .await?
    }

    /// Takes slots out of `network.json`, unless a pod has got one of them meanwhile.
    async fn give_up(&self, id: &NetworkId, slots: std::collections::BTreeMap<u32, Option<String>>) -> Result<()> {
        let Some(file) = self.network(id) else { return Ok(()) };
        let Some(pool) = file.pool.as_ref().map(|state| state.pool.clone()) else { return Ok(()) };
        let (networks, id_of) = (self.clone(), id.clone());
        leases::locked(&self.0.settings.state_dir, id, (Some(pool), Unused::Keep), move |leased| {
            if slots.keys().any(|slot| leased.slots.contains_key(slot)) {
                return Ok(());
            }
            let mut new = NetworkState::clone(&file);
            if let Some(state) = &mut new.pool {
                let kept = state.slots.iter().flat_map(|run| run.iter()).filter(|slot| !slots.contains_key(slot));
                state.slots = slots::compact(kept.collect::<Vec<_>>().into_iter());
            }
            let mut state = networks.state();
            state.files.write(&id_of, new)?;
            if let Some(network) = state.networks.get_mut(&id_of) {
                network.memory.giving.extend(slots);
            }
            Ok(())
        })
        .await?
    }

    /// Promises a slot in `network.json`, unless a pod has got it meanwhile.
    async fn promise(&self, id: &NetworkId, slot: u32, text: String) -> Result<()> {
        let Some(file) = self.network(id) else { return Ok(()) };
        let Some(pool) = file.pool.as_ref().map(|state| state.pool.clone()) else { return Ok(()) };
        let (networks, id_of) = (self.clone(), id.clone());
        leases::locked(&self.0.settings.state_dir, id, (Some(pool), Unused::Keep), move |leased| {
            if leased.slots.contains_key(&slot) {
                return Ok(());
            }
            let mut new = NetworkState::clone(&file);
            if let Some(state) = &mut new.pool {
                state.claimed.insert(slot, text.clone());
            }
            let mut state = networks.state();
            state.files.write(&id_of, new)?;
            if let Some(network) = state.networks.get_mut(&id_of) {
                network.memory.promised.insert(slot, text);
            }
            Ok(())
        })
        .await?
    }

    /// Removes `network.json`, unless a pod has got an address meanwhile.
    async fn leave(&self, id: &NetworkId) -> Result<()> {
        let (networks, id_of) = (self.clone(), id.clone());
        let state_dir = self.0.settings.state_dir.clone();
        leases::locked(&state_dir, id, (None, Unused::Remove), move |leased| {
            let mut state = networks.state();
            if !leased.any {
                return state.files.remove(&id_of);
            }
            if let Some(network) = state.networks.get_mut(&id_of) {
                network.used = Instant::now();
            }
            Ok(())
        })
        .await?
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
