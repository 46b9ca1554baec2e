//! What the data path tells of the node's overlays, and what is told of them to people who measure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use attachments::api::MemberEndpoint;
use delegates::networks::NetworkId;
use tokio::time::Instant;

use super::Networks;
use crate::metrics::{Gauges, Heal};

/// What is heard of an overlay.
#[derive(Debug)]
pub enum Heard {
    /// The pods of this node that address blocks do not explain: all of them. Told at the end of each look.
    Endpoints(Vec<MemberEndpoint>),
    /// The entries were brought to a new state.
    Programmed,
    /// Something was brought back.
    Healed(Heal),
    /// So many entries of others are in the way.
    Obstacles(usize),
    /// An address of the node has changed.
    Moved,
}

impl Networks {
    /// The data path tells of an overlay.
    pub fn hear(&self, id: &NetworkId, heard: Heard) {
        let name = id.as_str();
        let mut state = self.state();
        match heard {
            Heard::Endpoints(endpoints) => {
                // Without a pod, or without a difference, nothing is programmed for the news.
                if let Some(network) = state.networks.get_mut(id) {
                    network.unprogrammed = None;
                }
                if state.endpoints.get(id) != Some(&endpoints) {
                    state.endpoints.insert(id.clone(), endpoints);
                    state.touch(name);
                    self.0.wake.notify_one();
                }
            }
            Heard::Programmed => {
                if let Some(since) = state.networks.get_mut(id).and_then(|network| network.unprogrammed.take()) {
                    self.0.metrics.networks().converged(since.elapsed());
                }
            }
            Heard::Healed(what) => self.0.metrics.networks().healed(name, what),
            Heard::Obstacles(entries) => self.0.metrics.networks().obstructed(name, entries),
            Heard::Moved => {
                // Addresses of pods' links change at every ADD, so it waits for the next look at everything.
                if let Some(network) = state.networks.get_mut(id) {
                    network.moved_at = Some(Instant::now());
                }
            }
        }
    }

    /// The Node object has these InternalIPs: tunnels whose definition names no underlay end there.
    pub fn node_has(&self, ips: &[IpAddr]) {
        let mut state = self.state();
        if state.node_ips == ips {
            return;
        }
        tracing::info!(?ips, "the node has other InternalIPs");
        ips.clone_into(&mut state.node_ips);
        for network in state.networks.values_mut() {
            network.tunnel = None;
            network.is_dirty = true;
            network.heard.notify_waiters();
        }
        self.0.wake.notify_one();
    }

    /// What the networks of the node are, for metrics.
    pub fn gauges(&self) -> BTreeMap<String, Gauges> {
        let state = self.state();
        let each = state.networks.iter().filter_map(|(id, network)| {
            let file = state.files.get(id)?;
            let count =
                |slots: &[delegates::networks::state::Slots]| slots.iter().map(|run| u64::from(run.count)).sum::<u64>();
            let members = file.overlay.as_ref().map(|overlay| &overlay.members);
            let entries =
                |member: &delegates::networks::state::Member| 1 + count(&member.slots) + member.endpoints.len() as u64;
            let gauges = Gauges {
                members: members.map(|members| members.len() as u64),
                entries: members.into_iter().flatten().map(entries).sum(),
                pool: file.pool.as_ref().map(|pool| u64::from(pool.pool.capacity())),
                slots: file.pool.as_ref().map_or(0, |pool| count(&pool.slots)),
                used: network.slots_used as u64,
            };
            Some((id.to_string(), gauges))
        });
        each.collect()
    }
}
