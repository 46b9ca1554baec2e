//! What is counted, and how it is told: docs/metrics.md has each family.
//!
//! Clones share the counters. Whoever counts says so by one call; gauges are read when somebody asks ([`Metrics::text`]).

mod process;
pub mod serve;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use text::{Family, Text};

/// Networks that are told apart. Who may make definitions can make up any number.
const TOLD_APART: usize = 1000;
/// The name of the others together.
const OTHER: &str = "other";
/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

const INFO: Family =
    Family { name: "meta_cni_agent_info", kind: "gauge", help: "1, with the version of the program and the node." };
const GAUGES: [Family; 6] = [
    Family { name: "meta_cni_network_members", kind: "gauge", help: "Other members of an overlay." },
    Family {
        name: "meta_cni_network_entries",
        kind: "gauge",
        help: "Forwarding entries of an overlay: for each other member, and for each address that it may give out.",
    },
    Family { name: "meta_cni_network_pool_slots", kind: "gauge", help: "Slots of a pool, on all nodes." },
    Family { name: "meta_cni_network_slots", kind: "gauge", help: "Slots that this node owns." },
    Family { name: "meta_cni_network_slots_used", kind: "gauge", help: "Slots that pods of this node hold." },
    Family {
        name: "meta_cni_network_obstacles",
        kind: "gauge",
        help: "Entries of others that stand where entries of an overlay belong.",
    },
];
const CONVERGED: Family = Family {
    name: "meta_cni_network_convergence_seconds",
    kind: "histogram",
    help: "From the news that an object of an overlay has changed to entries that follow it.",
};
const HEALS: Family = Family {
    name: "meta_cni_network_heals_total",
    kind: "counter",
    help: "Times that something of an overlay was brought back, by what it was.",
};
const JOINS_FAILED: Family = Family {
    name: "meta_cni_network_joins_failed_total",
    kind: "counter",
    help: "ADDs that were refused what they need of a network, by the cause.",
};
const WRITES: Family = Family {
    name: "meta_cni_api_writes_total",
    kind: "counter",
    help: "Requests of networks that change objects, by kind, verb and outcome.",
};

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
    fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Entries => "entries",
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    networks: BTreeSet<String>,
    /// Networks that refused an ADD. The node may never have been in one.
    refusing: BTreeSet<String>,
    heals: BTreeMap<(String, Heal), u64>,
    joins_failed: BTreeMap<(String, &'static str), u64>,
    obstacles: BTreeMap<String, usize>,
    writes: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    converged: Durations,
}

#[derive(Debug, Default)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

/// The name under which a network is told, where these are told apart.
fn told(networks: &mut BTreeSet<String>, network: &str) -> String {
    if !networks.contains(network) {
        if networks.len() >= TOLD_APART {
            return OTHER.to_owned();
        }
        networks.insert(network.to_owned());
    }
    network.to_owned()
}

impl Metrics {
    /// Something of an overlay was brought back.
    pub fn healed(&self, network: &str, what: Heal) {
        let mut counted = self.counted();
        let network = told(&mut counted.networks, network);
        *counted.heals.entry((network, what)).or_default() += 1;
    }

    /// So many entries of others are in an overlay's way.
    pub fn obstructed(&self, network: &str, entries: usize) {
        let mut counted = self.counted();
        let network = told(&mut counted.networks, network);
        match entries {
            0 => counted.obstacles.remove(&network),
            entries => counted.obstacles.insert(network, entries),
        };
    }

    /// An ADD was refused what it needs.
    pub fn join_failed(&self, network: &str, cause: &'static str) {
        let mut counted = self.counted();
        let network = told(&mut counted.refusing, network);
        *counted.joins_failed.entry((network, cause)).or_default() += 1;
    }

    /// The API server was asked for a change.
    pub fn wrote(&self, kind: &'static str, verb: &'static str, outcome: &'static str) {
        *self.counted().writes.entry((kind, verb, outcome)).or_default() += 1;
    }

    /// A change of the objects has reached the kernel.
    pub fn converged(&self, took: Duration) {
        let converged = &mut self.counted().converged;
        let seconds = took.as_secs_f64();
        converged.count += 1;
        converged.sum += seconds;
        for (bucket, bound) in converged.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// The network is left: its number is somebody else's.
    pub fn left(&self, network: &str) {
        let mut counted = self.counted();
        counted.networks.remove(network);
        counted.obstacles.remove(network);
        counted.heals.retain(|(name, _), _| name != network);
    }

    /// The page, for a node whose networks are these.
    pub fn text(&self, node: &str, networks: &BTreeMap<String, Gauges>) -> String {
        let mut text = Text::default();
        text.family(&INFO).row("", &[("version", env!("CARGO_PKG_VERSION")), ("node", node)], 1);
        let mut counted = self.counted();
        let mut all: BTreeMap<String, Gauges> = BTreeMap::new();
        for (name, is) in networks {
            let one = all.entry(told(&mut counted.networks, name)).or_default();
            let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
                (Some(one), Some(other)) => Some(one + other),
                (one, other) => one.or(other),
            };
            (one.members, one.pool) = (sum(one.members, is.members), sum(one.pool, is.pool));
            one.entries += is.entries;
            one.slots += is.slots;
            one.used += is.used;
        }
        for (number, family) in GAUGES.iter().enumerate() {
            let mut rows = text.family(family);
            for (name, is) in &all {
                let value = match number {
                    0 => is.members,
                    1 => is.members.map(|_| is.entries),
                    2 => is.pool,
                    3 => is.pool.map(|_| is.slots),
                    4 => is.pool.map(|_| is.used),
                    _ => is.members.map(|_| counted.obstacles.get(name).map_or(0, |count| *count as u64)),
                };
                if let Some(value) = value {
                    rows.row("", &[("network", name)], value);
                }
            }
        }
        let mut rows = text.family(&CONVERGED);
        let converged = &counted.converged;
        for (bound, count) in BUCKETS.iter().zip(converged.buckets) {
            rows.row("_bucket", &[("le", &bound.to_string())], count);
        }
        rows.row("_bucket", &[("le", "+Inf")], converged.count);
        rows.row("_sum", &[], converged.sum);
        rows.row("_count", &[], converged.count);
        let mut rows = text.family(&HEALS);
        for ((network, what), count) in &counted.heals {
            rows.row("", &[("network", network), ("what", what.name())], count);
        }
        let mut rows = text.family(&JOINS_FAILED);
        for ((network, cause), count) in &counted.joins_failed {
            rows.row("", &[("network", network), ("cause", cause)], count);
        }
        let mut rows = text.family(&WRITES);
        for ((kind, verb, outcome), count) in &counted.writes {
            rows.row("", &[("kind", kind), ("verb", verb), ("outcome", outcome)], count);
        }
        drop(counted);
        process::write(&mut text);
        text.finish()
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        // Every change is one addition, so a panic leaves the counters right.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a family.
    fn rows<'a>(text: &'a str, family: &str) -> Vec<&'a str> {
        let is_of = |line: &&str| {
            let rest = line.strip_prefix(family);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        text.lines().filter(is_of).collect()
    }

    fn gauges(members: Option<u64>, pool: Option<u64>) -> Gauges {
        Gauges { members, entries: 65 * members.unwrap_or_default(), pool, slots: 64, used: 3 }
    }

    #[test]
    fn what_happens_is_told_by_network() {
        let metrics = Metrics::default();
        metrics.healed("4789-7", Heal::Entries);
        metrics.healed("4789-7", Heal::Entries);
        metrics.healed("4789-7", Heal::Device);
        metrics.join_failed("shop.lan", "Later");
        metrics.wrote("addressblocks", "create", "done");
        metrics.converged(Duration::from_millis(30));
        metrics.obstructed("4789-7", 2);
        let networks =
            [("4789-7".to_owned(), gauges(Some(2), None)), ("shop.lan".to_owned(), gauges(None, Some(254)))].into();
        let text = metrics.text("n1", &networks);
        assert_eq!(rows(&text, "meta_cni_network_members"), [r#"meta_cni_network_members{network="4789-7"} 2"#]);
        assert_eq!(
            rows(&text, "meta_cni_network_pool_slots"),
            [r#"meta_cni_network_pool_slots{network="shop.lan"} 254"#]
        );
        assert_eq!(rows(&text, "meta_cni_network_obstacles"), [r#"meta_cni_network_obstacles{network="4789-7"} 2"#]);
        let heals = [
            r#"meta_cni_network_heals_total{network="4789-7",what="device"} 1"#,
            r#"meta_cni_network_heals_total{network="4789-7",what="entries"} 2"#,
        ];
        assert_eq!(rows(&text, "meta_cni_network_heals_total"), heals);
        for row in [
            r#"meta_cni_network_joins_failed_total{network="shop.lan",cause="Later"} 1"#,
            r#"meta_cni_api_writes_total{kind="addressblocks",verb="create",outcome="done"} 1"#,
            r#"meta_cni_network_convergence_seconds_bucket{le="0.025"} 0"#,
            r#"meta_cni_network_convergence_seconds_bucket{le="0.05"} 1"#,
            "meta_cni_network_convergence_seconds_count 1",
        ] {
            assert!(text.lines().any(|line| line == row), "{row}\n{text}");
        }
        metrics.left("4789-7");
        let text = metrics.text("n1", &BTreeMap::new());
        assert!(!text.contains("4789-7"), "{text}");
    }

    #[test]
    fn beyond_a_thousand_networks_are_told_as_one() {
        let metrics = Metrics::default();
        let networks: BTreeMap<String, Gauges> =
            (0..1500).map(|number| (format!("shop.lan-{number:04}"), gauges(None, Some(10)))).collect();
        networks.keys().for_each(|name| metrics.join_failed(name, "Later"));
        let text = metrics.text("n1", &networks);
        for family in ["meta_cni_network_pool_slots", "meta_cni_network_joins_failed_total"] {
            assert_eq!(rows(&text, family).len(), 1001, "{family}");
        }
        assert!(text.contains(r#"meta_cni_network_pool_slots{network="other"} 5000"#));
        assert!(text.contains(r#"meta_cni_network_joins_failed_total{network="other",cause="Later"} 500"#));
        // One goes, and the next one has its place. What was refused is remembered.
        metrics.left("shop.lan-0003");
        assert!(metrics.text("n1", &BTreeMap::new()).contains(r#"joins_failed_total{network="shop.lan-0003""#));
        assert!(
            !metrics
                .text("n1", &BTreeMap::from([("shop.new".to_owned(), gauges(None, Some(1)))]))
                .contains("other\"} 1\n")
        );
    }

    #[test]
    fn the_page_of_the_documentation_has_every_family_and_no_other() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md")).unwrap();
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.strip_suffix('`')?.to_owned();
            Some((name, cells.next()?.to_owned()))
        };
        let documented: BTreeMap<String, String> = page.lines().filter_map(row).collect();
        let all = [INFO, CONVERGED, HEALS, JOINS_FAILED, WRITES].into_iter().chain(GAUGES).chain(process::FAMILIES);
        let have: BTreeMap<String, String> = all.map(|one| (one.name.to_owned(), one.kind.to_owned())).collect();
        assert_eq!(documented, have);
        let text = Metrics::default().text("n1", &BTreeMap::new());
        assert!(have.keys().all(|name| text.contains(&format!("# TYPE {name} "))), "{text}");
    }
}
