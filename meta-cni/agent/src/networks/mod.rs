//! Networks that span nodes: this node's claims, memberships and address blocks at the API server, and what the plugin and the data path
//! are told of them.

pub mod files;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attachments::api::MemberEndpoint;
use delegates::networks::NetworkId;
use delegates::networks::state::NetworkState;
use tokio::sync::{Notify, watch};

use files::{Files, Versions};

/// The networks of this node. Clones share them.
#[derive(Clone, Debug)]
pub struct Networks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Something is to be looked at.
    wake: Notify,
}

#[derive(Debug)]
struct State {
    files: Files,
    /// The pods of this node that address blocks do not explain, as the data path found them.
    endpoints: BTreeMap<NetworkId, Vec<MemberEndpoint>>,
}

impl Networks {
    /// Starts with what an earlier agent left in the state directory.
    pub fn open(state_dir: &Path) -> Self {
        let state = State { files: Files::open(state_dir), endpoints: BTreeMap::new() };
        Self(Arc::new(Inner { state: Mutex::new(state), wake: Notify::new() }))
    }

    /// For the data path: which networks the node is in, with a number that grows whenever `network.json` changed.
    pub fn changes(&self) -> watch::Receiver<Versions> {
        self.state().files.changes()
    }

    /// What `network.json` says; `None` when the node is not in the network.
    pub fn network(&self, id: &NetworkId) -> Option<Arc<NetworkState>> {
        self.state().files.get(id)
    }

    /// The data path tells which pods of this node address blocks do not explain: all of them, each time. They are written into the
    /// node's member object.
    pub fn tell_endpoints(&self, id: &NetworkId, endpoints: Vec<MemberEndpoint>) {
        let mut state = self.state();
        if state.endpoints.get(id) != Some(&endpoints) {
            state.endpoints.insert(id.clone(), endpoints);
            self.0.wake.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one insertion or removal, so a panic leaves the state consistent.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
