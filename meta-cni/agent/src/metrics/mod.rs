//! What is counted, and how it is told: docs/metrics.md has each family.
//!
//! Clones share the counters. Whoever counts says so by one call; what only a look can tell is looked up when somebody asks, and
//! comes as a [`Snapshot`].

mod agent;
mod calls;
mod certificate;
mod devices;
mod leases;
mod listener;
mod networks;
mod process;
mod serve;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use agent::AgentMetrics;
use calls::CallMetrics;
use devices::DeviceMetrics;
use leases::LeaseMetrics;
use networks::NetworkMetrics;

pub use agent::Watches;
pub use devices::DeviceSource;
pub use listener::MetricsAddress;
pub use networks::{Gauges, Heal};
pub use serve::Server;

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// A family of histograms of durations.
type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

fn durations() -> Histogram {
    Histogram::new(BUCKETS)
}

/// A number as gauges have it.
fn level(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Adds a metric to those that are told.
fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// What only a look can tell.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The networks that span nodes, by the names of their objects.
    pub networks: BTreeMap<String, Gauges>,
    /// Attachments of this node, by network and delegate.
    pub attachments: BTreeMap<(String, String), u64>,
    /// Records in `pending/` and in `abandoned/`.
    pub pending: u64,
    /// See `pending`.
    pub abandoned: u64,
    /// Definitions in the cache, and the bytes of their texts in memory.
    pub definitions: (u64, u64),
    /// Statuses that are not written yet.
    pub statuses_waiting: u64,
    /// For how long each watch has not been heard, in seconds.
    pub unheard: BTreeMap<&'static str, f64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Program {
    version: String,
    node: String,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Gauges are filled anew for each page: one at a time.
    page: Arc<Mutex<()>>,
    networks: NetworkMetrics,
    /// Calls of the plugin.
    pub calls: CallMetrics,
    /// The agent itself.
    pub agent: AgentMetrics,
    /// Questions about devices.
    pub devices: DeviceMetrics,
    /// DHCP leases.
    pub leases: LeaseMetrics,
}

impl Metrics {
    /// The metrics of a node.
    pub fn of(node: &str) -> Self {
        let mut registry = Registry::default();
        let program = Family::<Program, Gauge>::default();
        let program =
            register(&mut registry, "meta_cni_agent_info", "1, with the version of the program and the node", program);
        let own = Program { version: env!("CARGO_PKG_VERSION").to_owned(), node: node.to_owned() };
        program.get_or_create(&own).set(1);
        let calls = CallMetrics::register(&mut registry);
        let networks = NetworkMetrics::register(&mut registry);
        let agent = AgentMetrics::register(&mut registry);
        let devices = DeviceMetrics::register(&mut registry);
        let leases = LeaseMetrics::register(&mut registry);
        registry.register_collector(Box::new(process::Process));
        Self { registry: Arc::new(registry), page: Arc::default(), networks, calls, agent, devices, leases }
    }

    /// Of networks that span nodes.
    pub fn networks(&self) -> &NetworkMetrics {
        &self.networks
    }

    /// The page.
    pub fn text(&self, snapshot: &Snapshot) -> String {
        let _page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        self.networks.fill(&snapshot.networks);
        self.calls.fill(snapshot);
        self.agent.fill(snapshot);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests;
