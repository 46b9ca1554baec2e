//! The node's part of a step: the files are replaced, and it is told which networks are followed. Slots leave `network.json` while no plugin
//! gives one out.

use std::collections::{BTreeMap, BTreeSet};

use delegates::networks::NetworkId;
use delegates::networks::state::NetworkState;
use tokio::time::Instant;

use super::leases::{self, Unused};
use super::notes::Notes;
use super::{Networks, State, slots};
use crate::error::Result;

impl Networks {
    /// Replaces `agent.json`.
    pub(super) fn note(&self, id: &NetworkId, notes: Notes) -> Result<()> {
        notes.write(&self.0.settings.state_dir, id)?;
        let mut state = self.state();
        if let Some(network) = state.networks.get_mut(id) {
            network.notes = Some(notes);
        }
        self.follow(&state);
        Ok(())
    }

    /// Removes `agent.json`: nothing of the network is left.
    pub(super) fn forget(&self, id: &NetworkId) -> Result<()> {
        Notes::remove(&self.0.settings.state_dir, id)?;
        let mut state = self.state();
        state.networks.remove(id);
        state.endpoints.remove(id);
        tracing::info!("network {id}: left");
        self.0.metrics.networks().left(id.as_str());
        self.follow(&state);
        Ok(())
    }

    /// The networks that something was made of are followed.
    fn follow(&self, state: &State) {
        let followed = state.networks.iter().filter(|(_, network)| network.notes.is_some());
        let networks: BTreeSet<NetworkId> = followed.map(|(id, _)| id.clone()).collect();
        self.0.followed.send_if_modified(|followed| {
            let is_new = *followed != networks;
            *followed = networks;
            is_new
        });
    }

    /// Replaces `network.json`. Slots leave it while no plugin gives one out.
    pub(super) async fn write(&self, id: &NetworkId, new: NetworkState) -> Result<()> {
        let before = self.network(id);
        let of = |state: &NetworkState| {
            let pool = state.pool.as_ref();
            pool.map(|pool| pool.slots.iter().flat_map(|run| run.iter()).collect::<Vec<_>>()).unwrap_or_default()
        };
        let after = of(&new);
        let shrinks =
            before.as_ref().is_some_and(|before| of(before).iter().any(|slot| after.binary_search(slot).is_err()));
        if !shrinks {
            return self.state().write(id, new);
        }
        let (networks, id_of) = (self.clone(), id.clone());
        leases::locked(&self.0.settings.state_dir, id, (None, Unused::Keep), move |_| {
            networks.state().write(&id_of, new)
        })
        .await?
    }

    /// Takes slots out of `network.json`, unless a pod has got one of them meanwhile.
    pub(super) async fn give_up(&self, id: &NetworkId, slots: BTreeMap<u32, Option<String>>) -> Result<()> {
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
            state.write(&id_of, new)?;
            if let Some(network) = state.networks.get_mut(&id_of) {
                network.memory.giving.extend(slots);
            }
            Ok(())
        })
        .await?
    }

    /// Promises a slot in `network.json`, unless a pod has got it meanwhile.
    pub(super) async fn promise(&self, id: &NetworkId, slot: u32, text: String) -> Result<()> {
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
            state.write(&id_of, new)?;
            if let Some(network) = state.networks.get_mut(&id_of) {
                network.memory.promised.insert(slot, text);
            }
            Ok(())
        })
        .await?
    }

    /// Removes `network.json`, unless a pod has got an address meanwhile.
    pub(super) async fn leave(&self, id: &NetworkId) -> Result<()> {
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
}

impl State {
    /// Replaces `network.json`. The data path hears of it.
    fn write(&mut self, id: &NetworkId, new: NetworkState) -> Result<()> {
        if self.files.write(id, new)?
            && let Some(network) = self.networks.get_mut(id)
        {
            let heard_at = network.heard_at.take().unwrap_or_else(Instant::now);
            network.unprogrammed = network.unprogrammed.or(Some(heard_at));
        }
        Ok(())
    }
}
