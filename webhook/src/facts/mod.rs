//! What is known of the cluster while a review is answered: caches that watches feed. No review waits for the API server, but
//! for what is missing before it is refused because of that.

mod cache;
mod feed;
mod known;
mod lookup;
mod object;
mod policies;
mod texts;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use attachments::policy::Level;
use meta_cni_kube::Reader;
use tokio::sync::{Notify, Semaphore};

use crate::cluster::Options;

pub use cache::Cache;
pub use feed::feed;
pub use known::Known;
pub use lookup::Looked;
pub use object::{Meta, Object};
pub use policies::{KnownPolicy, Policies, compile_level};
pub use texts::{Text, Texts};

/// The caches behind one lock. Empty ones are what a review without a cluster has.
pub struct Facts {
    known: RwLock<Known>,
    heard: Notify,
    /// Asks for what is missing.
    reader: Option<Reader>,
    waiting: Semaphore,
    /// Do changes of a collection arrive?
    watched: BTreeMap<Cache, AtomicBool>,
}

impl Default for Facts {
    fn default() -> Self {
        Self::new(Options::default(), Level::default())
    }
}

impl Facts {
    /// Empty caches, with the settings of rules and the level of namespaces without a label.
    pub fn new(options: Options, level: Level) -> Self {
        let watched = Cache::with(&options.dialects).into_iter().map(|cache| (cache, AtomicBool::default())).collect();
        let (known, heard) = (RwLock::new(Known::new(options, level)), Notify::new());
        Self { known, heard, reader: None, waiting: Semaphore::new(lookup::WAITING), watched }
    }

    /// The same, with a reader for what the caches lack.
    #[must_use]
    pub fn asking(self, reader: Reader) -> Self {
        Self { reader: Some(reader), ..self }
    }

    /// What is known now. Whoever holds it holds up every watch: it is not held across an `await`.
    pub fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caches that are followed.
    pub fn caches(&self) -> impl Iterator<Item = Cache> {
        self.watched.keys().copied()
    }

    /// The caches whose first list is not complete. A kind that the API server does not have is complete without objects.
    pub fn incomplete(&self) -> Vec<Cache> {
        let known = self.known();
        self.caches().filter(|cache| !known.is_complete(*cache)).collect()
    }

    /// Do changes of a collection arrive? What is known is served on while they do not.
    pub fn is_watched(&self, cache: Cache) -> bool {
        self.watched.get(&cache).is_some_and(|watched| watched.load(Ordering::Relaxed))
    }

    /// Returns when a watch brings something that was not known when this was called.
    pub async fn changed(&self) {
        self.heard.notified().await;
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, and tells those who wait for it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let changed = change(&mut self.known_mut());
        self.heard.notify_waiters();
        changed
    }
}

#[cfg(test)]
mod tests;
