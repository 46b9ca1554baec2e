//! The agent itself: what it knows, and how it fares with the API server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meta_cni_kube::Exchange;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Durations, Snapshot, durations, level, register};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    method: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfMethod {
    method: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfCollection {
    collection: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct AgentMetrics {
    requests: Family<Request, Counter>,
    latency: Durations<OfMethod>,
    events_dropped: Counter,
    status_lag: Histogram,
    statuses_waiting: Gauge,
    definitions: Gauge,
    definition_bytes: Gauge,
    unheard: Family<OfCollection, Gauge<f64, AtomicU64>>,
    hot_plugs: Family<OfOutcome, Counter>,
    hot_plug_lag: Histogram,
    differing: Family<OfKind, Gauge>,
    repairs: Family<OfOutcome, Counter>,
}

impl AgentMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        Self {
            requests: register(
                registry,
                "meta_cni_api_requests",
                "Requests to the API server by method and HTTP status, none where no answer came",
                Family::default(),
            ),
            latency: register(
                registry,
                "meta_cni_api_request_duration_seconds",
                "From a request to the API server to the head of its answer; watches are left out",
                Durations::new_with_constructor(durations as fn() -> _),
            ),
            events_dropped: register(
                registry,
                "meta_cni_events_dropped",
                "Events that were not published: the queue was full, or the API server did not take them",
                Counter::default(),
            ),
            status_lag: register(
                registry,
                "meta_cni_status_lag_seconds",
                "From a network-status that the plugin hands over to the API server having it",
                durations(),
            ),
            statuses_waiting: register(
                registry,
                "meta_cni_statuses_waiting",
                "Network-statuses that are not written yet",
                Gauge::default(),
            ),
            definitions: register(
                registry,
                "meta_cni_definitions_cached",
                "NetworkAttachmentDefinitions that the agent keeps for this node",
                Gauge::default(),
            ),
            definition_bytes: register(
                registry,
                "meta_cni_definitions_cached_bytes",
                "Bytes of their texts in memory",
                Gauge::default(),
            ),
            unheard: register(
                registry,
                "meta_cni_cache_age_seconds",
                "For how long changes of a collection have not been heard of: 0 while its watch is up",
                Family::default(),
            ),
            hot_plugs: register(
                registry,
                "meta_cni_hot_plugs",
                "Edits of running pods' annotations that the plugin was started for, by outcome",
                Family::default(),
            ),
            hot_plug_lag: register(
                registry,
                "meta_cni_hot_plug_lag_seconds",
                "From an edit of a running pod's annotation to the pod having what it lists",
                durations(),
            ),
            differing: register(
                registry,
                "meta_cni_pods_differing",
                "Pods of the node whose networks are not as recorded, or of which there is no record, at the last comparison",
                Family::default(),
            ),
            repairs: register(
                registry,
                "meta_cni_repairs",
                "Sandboxes that the plugin was started to repair, by outcome",
                Family::default(),
            ),
        }
    }

    /// The API server has answered, or not.
    pub fn exchanged(&self, exchange: &Exchange) {
        let method = exchange.method.as_str().to_owned();
        let code = exchange.status.map_or_else(|| "none".to_owned(), |status| status.as_u16().to_string());
        self.requests.get_or_create(&Request { method: method.clone(), code }).inc();
        if !exchange.is_watch {
            self.latency.get_or_create(&OfMethod { method }).observe(exchange.took.as_secs_f64());
        }
    }

    /// An event is lost.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A status is written, so long after the plugin has handed it over.
    pub fn status_written(&self, lag: Duration) {
        self.status_lag.observe(lag.as_secs_f64());
    }

    /// So many pods have a difference of this kind.
    pub fn differing(&self, kind: &'static str, count: usize) {
        self.differing.get_or_create(&OfKind { kind }).set(level(count as u64));
    }

    /// The plugin was started to repair a sandbox.
    pub fn repaired(&self, outcome: &'static str) {
        self.repairs.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// The plugin was started for an edit, so long after it was seen.
    pub fn hot_plugged(&self, outcome: &'static str, lag: Duration) {
        self.hot_plugs.get_or_create(&OfOutcome { outcome }).inc();
        if outcome == "done" {
            self.hot_plug_lag.observe(lag.as_secs_f64());
        }
    }

    /// Fills the gauges.
    pub fn fill(&self, snapshot: &Snapshot) {
        self.statuses_waiting.set(level(snapshot.statuses_waiting));
        self.definitions.set(level(snapshot.definitions.0));
        self.definition_bytes.set(level(snapshot.definitions.1));
        for (collection, age) in &snapshot.unheard {
            self.unheard.get_or_create(&OfCollection { collection }).set(*age);
        }
    }
}

/// Which watches are heard, and since when the others are not.
#[derive(Clone, Debug, Default)]
pub struct Watches(Arc<Mutex<BTreeMap<&'static str, Watch>>>);

#[derive(Debug)]
struct Watch {
    is_heard: Arc<AtomicBool>,
    last: Instant,
}

impl Watches {
    /// The mark of a watch: true while changes arrive.
    pub fn of(&self, collection: &'static str) -> Arc<AtomicBool> {
        let is_heard = Arc::new(AtomicBool::new(false));
        let watch = Watch { is_heard: Arc::clone(&is_heard), last: Instant::now() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(collection, watch);
        is_heard
    }

    /// Looks at all of them, from time to time. Returns for how long each is not heard, in seconds.
    pub fn look(&self, now: Instant) -> BTreeMap<&'static str, f64> {
        let mut watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |watch: &mut Watch| {
            if watch.is_heard.load(Ordering::Relaxed) {
                watch.last = now;
            }
            now.saturating_duration_since(watch.last).as_secs_f64()
        };
        watches.iter_mut().map(|(collection, watch)| (*collection, age(watch))).collect()
    }
}
