//! What pods of this node hold of a network, as the plugin wrote it down.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use delegates::ipam::blocks::{Held, Leases, Pool};
use delegates::networks::NetworkId;

use crate::error::{Error, Result};

/// How long a plugin may keep the file: it writes one line.
const PATIENCE: Duration = Duration::from_secs(5);

/// The leases of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leased {
    /// The slots that are leased, each with whom it is leased to.
    pub slots: BTreeMap<u32, String>,
    /// Something is leased, be it of no slot of the pool.
    pub any: bool,
}

impl Leased {
    fn of(held: &Held, pool: Option<&Pool>) -> Self {
        let slots = pool.map(|pool| held.slots(pool)).unwrap_or_default();
        Self {
            slots: slots.into_iter().map(|(slot, holder)| (slot, holder.to_string())).collect(),
            any: !held.leases().is_empty(),
        }
    }

    /// What the file says now. A file that cannot be read leases all: nothing is given back then.
    pub fn read(state_dir: &Path, id: &NetworkId, pool: Option<&Pool>) -> Result<Self> {
        let held = Held::read(state_dir, id).map_err(|error| Error::Io(error.to_string()))?;
        Ok(Self::of(&held, pool))
    }
}

/// What becomes of the file when nothing is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    /// It tells the order in which addresses came free.
    Keep,
    /// The node leaves the network.
    Remove,
}

/// Does something while no plugin gives out an address. It waits for a plugin that does.
pub async fn locked<T: Send + 'static>(
    state_dir: &Path,
    id: &NetworkId,
    (pool, unused): (Option<Pool>, Unused),
    work: impl FnOnce(&Leased) -> T + Send + 'static,
) -> Result<T> {
    let (state_dir, id) = (state_dir.to_owned(), id.clone());
    let locked = tokio::task::spawn_blocking(move || {
        let failed = |error: delegates::error::Error| Error::Io(error.to_string());
        let leases = Leases::create(&state_dir, &id, Instant::now() + PATIENCE).map_err(failed)?;
        let done = work(&Leased::of(&leases.held(), pool.as_ref()));
        if unused == Unused::Remove {
            leases.discard_unused();
        }
        Ok(done)
    });
    locked.await.map_err(|error| Error::Bug(error.to_string()))?
}
