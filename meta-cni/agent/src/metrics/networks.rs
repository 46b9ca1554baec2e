//! Networks that span nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{durations, level, register};

/// Networks that are told apart. Who may make definitions can make up any number.
pub const TOLD_APART: usize = 1000;
/// The name of the others together.
const OTHER: &str = "other";

/// What a network is on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Other members; `None` where it is no overlay.
    pub members: Option<u64>,
    /// Forwarding entries that they come to.
    pub entries: u64,
    /// Slots of the pool; `None` where it has none.
    pub pool: Option<u64>,
    /// Slots of this node.
    pub slots: u64,
    /// Those that pods hold.
    pub used: u64,
}

/// What was brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heal {
    /// The device.
    Device,
    /// Entries of it.
    Entries,
}

impl Heal {
    const ALL: [Self; 2] = [Self::Device, Self::Entries];

    fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Entries => "entries",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfNetwork {
    network: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Healed {
    network: String,
    what: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refused {
    network: String,
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    verb: &'static str,
    outcome: &'static str,
}

type PerNetwork = Family<OfNetwork, Gauge>;

/// Names that are told apart, up to a number of them. Clones share them.
#[derive(Clone, Debug)]
pub struct Names {
    names: Arc<Mutex<BTreeSet<String>>>,
    most: usize,
}

impl Names {
    /// None yet.
    pub fn at_most(most: usize) -> Self {
        Self { names: Arc::default(), most }
    }

    /// The name under which a network is told.
    pub fn told(&self, network: &str) -> String {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.contains(network) {
            if names.len() >= self.most {
                return OTHER.to_owned();
            }
            names.insert(network.to_owned());
        }
        network.to_owned()
    }

    fn forget(&self, network: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(network);
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct NetworkMetrics {
    names: Names,
    /// Networks that refused an ADD. The node may never have been in one.
    refusing: Names,
    obstacles: Arc<Mutex<BTreeMap<String, usize>>>,
    members: PerNetwork,
    entries: PerNetwork,
    pool: PerNetwork,
    slots: PerNetwork,
    used: PerNetwork,
    obstructed: PerNetwork,
    converged: Histogram,
    heals: Family<Healed, Counter>,
    refused: Family<Refused, Counter>,
    writes: Family<Write, Counter>,
}

impl NetworkMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        let mut gauge = |name: &str, help: &str| register(registry, name, help, PerNetwork::default());
        let members = gauge("meta_cni_network_members", "Other members of an overlay");
        let entries = gauge(
            "meta_cni_network_entries",
            "Forwarding entries of an overlay: for each other member, and for each address that it may give out",
        );
        let pool = gauge("meta_cni_network_pool_slots", "Slots of a pool, on all nodes");
        let slots = gauge("meta_cni_network_slots", "Slots that this node owns");
        let used = gauge("meta_cni_network_slots_used", "Slots that pods of this node hold");
        let obstructed =
            gauge("meta_cni_network_obstacles", "Entries of others that stand where entries of an overlay belong");
        let converged = register(
            registry,
            "meta_cni_network_convergence_seconds",
            "From the news that an object of an overlay has changed to entries that follow it",
            durations(),
        );
        let heals = register(
            registry,
            "meta_cni_network_heals",
            "Times that something of an overlay was brought back, by what it was",
            Family::default(),
        );
        let refused = register(
            registry,
            "meta_cni_network_joins_failed",
            "ADDs that were refused what they need of a network, by the cause",
            Family::default(),
        );
        let writes = register(
            registry,
            "meta_cni_api_writes",
            "Requests of networks that change objects, by kind, verb and outcome",
            Family::default(),
        );
        Self {
            names: Names::at_most(TOLD_APART),
            refusing: Names::at_most(TOLD_APART),
            obstacles: Arc::default(),
            members,
            entries,
            pool,
            slots,
            used,
            obstructed,
            converged,
            heals,
            refused,
            writes,
        }
    }

    /// Something of an overlay was brought back.
    pub fn healed(&self, network: &str, what: Heal) {
        let network = self.names.told(network);
        self.heals.get_or_create(&Healed { network, what: what.name() }).inc();
    }

    /// So many entries of others are in an overlay's way.
    pub fn obstructed(&self, network: &str, entries: usize) {
        let network = self.names.told(network);
        let mut obstacles = self.obstacles.lock().unwrap_or_else(PoisonError::into_inner);
        match entries {
            0 => obstacles.remove(&network),
            entries => obstacles.insert(network, entries),
        };
    }

    /// An ADD was refused what it needs.
    pub fn join_failed(&self, network: &str, cause: &'static str) {
        self.refused.get_or_create(&Refused { network: self.refusing.told(network), cause }).inc();
    }

    /// The API server was asked for a change.
    pub fn wrote(&self, kind: &'static str, verb: &'static str, outcome: &'static str) {
        self.writes.get_or_create(&Write { kind, verb, outcome }).inc();
    }

    /// A change of the objects has reached the kernel.
    pub fn converged(&self, took: Duration) {
        self.converged.observe(took.as_secs_f64());
    }

    /// The network is left: its number is somebody else's.
    pub fn left(&self, network: &str) {
        self.names.forget(network);
        self.obstacles.lock().unwrap_or_else(PoisonError::into_inner).remove(network);
        for what in Heal::ALL.map(Heal::name) {
            self.heals.remove(&Healed { network: network.to_owned(), what });
        }
    }

    /// Fills the gauges.
    pub fn fill(&self, networks: &BTreeMap<String, Gauges>) {
        for family in [&self.members, &self.entries, &self.pool, &self.slots, &self.used, &self.obstructed] {
            family.clear();
        }
        let obstacles = self.obstacles.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, is) in networks {
            let of = OfNetwork { network: self.names.told(name) };
            // Those that are told as one are summed up.
            let add = |family: &PerNetwork, value: u64| {
                family.get_or_create(&of).inc_by(level(value));
            };
            if let Some(members) = is.members {
                add(&self.members, members);
                add(&self.entries, is.entries);
                add(&self.obstructed, obstacles.get(&of.network).copied().unwrap_or_default() as u64);
            }
            if let Some(pool) = is.pool {
                add(&self.pool, pool);
                add(&self.slots, is.slots);
                add(&self.used, is.used);
            }
        }
    }
}
