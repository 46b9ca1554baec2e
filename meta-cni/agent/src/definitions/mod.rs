//! The definitions of the cluster: read when this node needs them, cached within bounds, and dropped when the watch reports
//! another version.
//!
//! The agent serves the last version that it knows of, and never one that is known to be out of date: without an answer of
//! the API server such a definition is unknown. Files of an earlier agent are served before the first list is complete, and
//! only if the API server cannot be asked.

mod cache;
pub mod names;
mod object;
mod shelf;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use attachments::definition::NetworkAttachmentDefinition;
use attachments::dialect::Dialects;
use attachments::names::NetRef;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::Resource;
use meta_cni::cluster::wire::Outcome;
use meta_cni_kube::{Event, Read, Reader};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::pod_cache::{PodName, SharedPodCache};
use super::watch::Seen;
use cache::{Cache, Known};
use names::Names;
use shelf::Shelf;

/// The most prefetches at once.
const AHEAD: usize = 4;
/// The most waiting prefetches. Further definitions are read when they are requested.
const WAITING: usize = 1024;
/// How long to wait before an edited definition is read: edits come in bursts.
const SETTLE: Duration = Duration::from_secs(1);
/// Timeout of one prefetch.
const TRY: Duration = Duration::from_secs(15);
/// How long to ask the API server before the file of an earlier agent is served.
const CONFIRM: Duration = Duration::from_secs(2);
/// The most definitions of the node's own configuration that are remembered as used.
const NODES_OWN: usize = 64;

/// The cluster's definitions. Clones share the cache.
#[derive(Clone)]
pub struct Definitions(Arc<Inner>);

struct Inner {
    reader: Reader,
    shelf: Shelf,
    pods: SharedPodCache,
    dialects: Dialects,
    /// Kept where a dialect has names of its own for definitions.
    names: Option<Mutex<Names>>,
    state: Mutex<State>,
    /// A definition waits to be prefetched.
    wake: Notify,
    /// A definition that the agent itself needs was read or has changed.
    awaited: Notify,
}

#[derive(Default)]
struct State {
    cache: Cache,
    /// One read of a definition at a time: later requests use its result.
    flights: BTreeMap<NetRef, Weak<tokio::sync::Mutex<()>>>,
    ahead: BTreeMap<NetRef, Instant>,
    nodes_own: BTreeSet<NetRef>,
    awaited: BTreeSet<NetRef>,
    is_unwritable: bool,
}

/// What is known of one definition, without its text if that is long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Bytes of the outcome.
    pub weight: usize,
    /// The outcome. None if it is large: then [`Definitions::text`] has it.
    pub outcome: Option<Arc<Outcome>>,
}

/// Texts up to this long are part of a [`Fact`].
const SMALL: usize = 8 << 10;

impl From<Arc<Outcome>> for Fact {
    fn from(outcome: Arc<Outcome>) -> Self {
        let weight = cache::weight(&outcome);
        Self { weight, outcome: (weight <= SMALL).then_some(outcome) }
    }
}

impl From<Outcome> for Fact {
    fn from(outcome: Outcome) -> Self {
        Self { weight: cache::weight(&outcome), outcome: Some(Arc::new(outcome)) }
    }
}

impl Definitions {
    /// Starts with the files that an earlier agent left in the state directory.
    pub fn open(reader: Reader, state_dir: &Path, pods: SharedPodCache, dialects: Dialects) -> Self {
        let shelf = Shelf::new(state_dir);
        let mut state = State::default();
        for found in shelf.load() {
            state.cache.found_file(found.reference.clone(), found.revision.into(), found.length);
            for gone in state.cache.filed(&found.reference, found.length, |_| false) {
                shelf.remove(&gone);
            }
        }
        let (wake, awaited) = (Notify::new(), Notify::new());
        let names = dialects.knitter.is_some().then(Mutex::default);
        Self(Arc::new(Inner { reader, shelf, pods, dialects, names, state: Mutex::new(state), wake, awaited }))
    }

    /// Is the first list of the watch complete?
    pub fn is_complete(&self) -> bool {
        self.state().cache.is_complete()
    }

    /// How many definitions are kept, and the bytes of their texts in memory.
    pub fn size(&self) -> (u64, u64) {
        self.state().cache.size()
    }

    /// Takes an event of the watch.
    pub fn heard(&self, event: Event<Seen>) {
        self.heard_names(&event);
        match event {
            Event::Begin => self.state().cache.begin(),
            Event::End => {
                let gone = self.state().cache.end();
                gone.iter().for_each(|reference| self.forget(reference));
            }
            Event::Listed(seen) | Event::Applied(seen) => {
                let Some(reference) = seen.reference() else { return };
                let is_outdated = self.state().cache.told(&reference, &seen.metadata.resource_version);
                if is_outdated {
                    self.forget(&reference);
                    self.read_again(&reference);
                }
                self.notify_reconciler(&reference);
            }
            Event::Deleted(seen) => {
                let Some(reference) = seen.reference() else { return };
                if self.state().cache.gone(&reference) {
                    self.forget(&reference);
                }
                self.notify_reconciler(&reference);
            }
        }
    }

    /// A pod of this node appeared or changed: prefetches the definitions that it names.
    pub fn expect(&self, pod: &PodName) {
        let names = self.named_by(pod);
        let now = Instant::now();
        let mut state = self.state();
        for reference in names {
            if state.cache.look(&reference) == Known::Nothing && state.ahead.len() < WAITING {
                state.ahead.entry(reference).or_insert(now);
                self.0.wake.notify_one();
            }
        }
    }

    /// Prefetches definitions; never ends.
    pub async fn run(&self) {
        let mut flights = FuturesUnordered::new();
        loop {
            while flights.len() < AHEAD
                && let Some(reference) = self.next_due()
            {
                flights.push(async move {
                    let fact = self.know(&reference, false, Instant::now() + TRY).await;
                    tracing::debug!("network-attachment-definition {reference}: read ahead: {} bytes", fact.weight);
                    // A definition that is still missing is no change.
                    if !matches!(fact.outcome.as_deref(), Some(Outcome::Missing | Outcome::Unreachable { .. })) {
                        self.notify_reconciler(&reference);
                    }
                });
            }
            let earliest = self.state().ahead.values().min().copied().filter(|_| flights.len() < AHEAD);
            tokio::select! {
                Some(()) = flights.next() => {}
                () = self.0.wake.notified() => {}
                () = sleep_until(earliest.unwrap_or_else(|| Instant::now() + TRY)) => {}
            }
        }
    }

    /// Looks up one definition until `deadline`. For an optional one, which is usually missing, a complete watch is enough
    /// to say that it does not exist.
    pub async fn know(&self, reference: &NetRef, is_optional: bool, deadline: Instant) -> Fact {
        if is_optional {
            self.remember_own(reference);
        }
        if let Some(fact) = self.known(reference, is_optional) {
            return fact;
        }
        let flight = self.flight(reference);
        let Ok(_turn) = timeout_at(deadline, flight.lock()).await else {
            return Outcome::Unreachable { reason: "no answer in time".to_owned() }.into();
        };
        match self.known(reference, is_optional) {
            Some(fact) => fact,
            None => self.read(reference, deadline).await,
        }
    }

    /// The text of a known definition, from memory or from its file.
    pub fn text(&self, reference: &NetRef) -> Option<Arc<Outcome>> {
        match self.state().cache.look(reference) {
            Known::Current(Some(outcome)) => return Some(outcome),
            Known::Current(None) | Known::Unconfirmed => {}
            Known::Absent | Known::Nothing => return None,
        }
        let Some((_, outcome)) = self.0.shelf.read(reference) else {
            self.state().cache.unfile(reference);
            return None;
        };
        let outcome = Arc::new(outcome);
        self.state().cache.put_back(reference, &outcome);
        Some(outcome)
    }

    /// The text of a definition that the agent itself needs. An unknown one is read, and [`Self::awaited`] returns when it
    /// is there.
    pub fn config_of(&self, namespace: &str, name: &str) -> Option<String> {
        let reference = NetRef { namespace: namespace.parse().ok()?, name: name.parse().ok()? };
        self.remember_own(&reference);
        self.state().awaited = [reference.clone()].into();
        let outcome = self.text(&reference);
        let mut state = self.state();
        if outcome.is_none() && state.cache.look(&reference) == Known::Nothing {
            state.ahead.entry(reference).or_insert_with(Instant::now);
            self.0.wake.notify_one();
        }
        drop(state);
        match outcome.as_deref()? {
            Outcome::Found { config, .. } => config.clone(),
            _ => None,
        }
    }

    /// Returns when a definition that [`Self::config_of`] was asked for may have changed.
    pub async fn awaited(&self) {
        self.0.awaited.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, reference: &NetRef, is_optional: bool) -> Option<Fact> {
        let known = self.state().cache.look(reference);
        match known {
            Known::Current(Some(outcome)) => Some(outcome.into()),
            Known::Current(None) => self.text(reference).map(Fact::from),
            Known::Absent if is_optional => Some(Outcome::Missing.into()),
            Known::Unconfirmed | Known::Absent | Known::Nothing => None,
        }
    }

    async fn read(&self, reference: &NetRef, deadline: Instant) -> Fact {
        let is_filed = self.state().cache.look(reference) == Known::Unconfirmed;
        let until = if is_filed { deadline.min(Instant::now() + CONFIRM) } else { deadline };
        self.state().cache.begin_read(reference);
        let collection = NetworkAttachmentDefinition::url_path(&(), Some(reference.namespace.as_str()));
        let read = self.0.reader.object(&collection, reference.name.as_str(), until).await;
        let why = match read {
            Read::Found(json) => match object::read(&json) {
                Ok((revision, outcome)) => return self.keep(reference, &revision, outcome),
                Err(e) => format!("the answer is no definition: {e}"),
            },
            Read::Absent => {
                let mut state = self.state();
                // Only a definition that the node's configuration names is usually missing, and worth remembering as such.
                let is_own = state.nodes_own.contains(reference);
                state.cache.put_absent(reference, is_own);
                drop(state);
                self.0.shelf.remove(reference);
                return Outcome::Missing.into();
            }
            Read::Unanswered(why) => why,
        };
        self.state().cache.end_read(reference);
        match self.text(reference).filter(|_| is_filed) {
            Some(outcome) => {
                tracing::warn!(
                    "network-attachment-definition {reference}: the API server cannot be asked ({why}); what the agent knew \
                     before it was restarted is served"
                );
                outcome.into()
            }
            None => Outcome::Unreachable { reason: why }.into(),
        }
    }

    fn keep(&self, reference: &NetRef, revision: &str, outcome: Outcome) -> Fact {
        let outcome = Arc::new(outcome);
        let is_kept = self.state().cache.put(reference, revision, Arc::clone(&outcome));
        if !is_kept {
            self.forget(reference);
            self.read_again(reference);
            return Fact { weight: cache::weight(&outcome), outcome: Some(outcome) };
        }
        match self.0.shelf.write(reference, revision, &outcome) {
            Ok(Some(length)) => {
                let used = self.used();
                let mut state = self.state();
                state.is_unwritable = false;
                for gone in state.cache.filed(reference, length, |one| used.contains(one)) {
                    self.0.shelf.remove(&gone);
                }
            }
            Ok(None) => self.0.shelf.remove(reference),
            Err(error) => {
                self.0.shelf.remove(reference);
                let mut state = self.state();
                if !state.is_unwritable {
                    tracing::warn!("definitions are not kept for an outage of the API server: {error}");
                }
                state.is_unwritable = true;
            }
        }
        outcome.into()
    }

    /// Removes the file of an outdated definition: the next agent must not serve it.
    fn forget(&self, reference: &NetRef) {
        self.0.shelf.remove(reference);
    }

    /// Prefetches a new version of a definition that this node uses: the API server may be away when it is needed.
    fn read_again(&self, reference: &NetRef) {
        if self.used().contains(reference) {
            let mut state = self.state();
            if state.ahead.len() < WAITING {
                state.ahead.entry(reference.clone()).or_insert_with(|| Instant::now() + SETTLE);
                self.0.wake.notify_one();
            }
        }
    }

    /// The definitions that this node's pods and its configuration name.
    fn used(&self) -> BTreeSet<NetRef> {
        let mut used: BTreeSet<NetRef> = self.named().into_iter().collect();
        used.extend(self.state().nodes_own.iter().cloned());
        used
    }

    fn remember_own(&self, reference: &NetRef) {
        let mut state = self.state();
        if !state.nodes_own.contains(reference) {
            // The configuration changed often. The next ADD adds the names of the current one.
            if state.nodes_own.len() >= NODES_OWN {
                state.nodes_own.clear();
            }
            state.nodes_own.insert(reference.clone());
        }
    }

    fn notify_reconciler(&self, reference: &NetRef) {
        if self.state().awaited.contains(reference) {
            self.0.awaited.notify_one();
        }
    }

    fn flight(&self, reference: &NetRef) -> Arc<tokio::sync::Mutex<()>> {
        let mut state = self.state();
        if let Some(flight) = state.flights.get(reference).and_then(Weak::upgrade) {
            return flight;
        }
        state.flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::default();
        state.flights.insert(reference.clone(), Arc::downgrade(&flight));
        flight
    }

    fn next_due(&self) -> Option<NetRef> {
        let (mut state, now) = (self.state(), Instant::now());
        let due = state.ahead.iter().filter(|(_, at)| **at <= now).min_by_key(|(_, at)| **at);
        let due = due.map(|(reference, _)| reference.clone())?;
        state.ahead.remove(&due);
        Some(due)
    }
}

#[cfg(test)]
mod tests;
