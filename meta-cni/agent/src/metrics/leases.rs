//! DHCP leases.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{level, register};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Try {
    outcome: &'static str,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct LeaseMetrics {
    held: Gauge,
    tries: Family<Try, Counter>,
}

impl LeaseMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        Self {
            held: register(registry, "meta_cni_dhcp_leases", "DHCP leases of this node's pods", Gauge::default()),
            tries: register(
                registry,
                "meta_cni_dhcp_renewals",
                "Tries to get more time for a lease, or a lost address back, by what became of them",
                Family::default(),
            ),
        }
    }

    /// So many leases there are.
    pub fn held(&self, leases: usize) {
        self.held.set(level(leases as u64));
    }

    /// A try came to this.
    pub fn tried(&self, outcome: &'static str) {
        self.tries.get_or_create(&Try { outcome }).inc();
    }
}
