//! Calls of the plugin, as it reports them itself ([`meta_cni::call_log`]), and what they have left.

use meta_cni::call_log::{AttachmentReport, CallReport};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::networks::Names;
use super::{Durations, Snapshot, durations, level, register};

/// Delegates that are told apart: a definition may name any type.
const DELEGATES: usize = 64;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    verb: String,
    code: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfVerb {
    verb: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfAttachment {
    verb: String,
    network: String,
    delegate: String,
    code: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfDelegate {
    delegate: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Held {
    network: String,
    delegate: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    networks: Names,
    delegates: Names,
    calls: Family<Call, Counter>,
    took: Durations<OfVerb>,
    attachments: Family<OfAttachment, Counter>,
    attach: Durations<OfDelegate>,
    held: Family<Held, Gauge>,
    undos: Family<OfState, Gauge>,
    leftovers: Gauge,
}

impl CallMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        let calls = register(
            registry,
            "meta_cni_calls",
            "Calls of the plugin by verb and code of the CNI protocol, 0 for success",
            Family::default(),
        );
        let took = register(
            registry,
            "meta_cni_call_duration_seconds",
            "How long the plugin took, by its own clock",
            Durations::new_with_constructor(durations as fn() -> _),
        );
        let attachments = register(
            registry,
            "meta_cni_attachment_calls",
            "Attachments that ADD and DEL were about, by network, delegate and code",
            Family::default(),
        );
        let attach = register(
            registry,
            "meta_cni_attach_duration_seconds",
            "How long one attachment of an ADD took",
            Durations::new_with_constructor(durations as fn() -> _),
        );
        let held =
            register(registry, "meta_cni_attachments", "Attachments that the node's records hold", Family::default());
        let undos = register(
            registry,
            "meta_cni_undos_unfinished",
            "Records whose undo is not complete: pending ones are tried again, abandoned ones were given up",
            Family::default(),
        );
        let leftovers = register(
            registry,
            "meta_cni_leftovers",
            "What the last replay found on the node and no record explains",
            Gauge::default(),
        );
        Self {
            networks: Names::at_most(super::networks::TOLD_APART),
            delegates: Names::at_most(DELEGATES),
            calls,
            took,
            attachments,
            attach,
            held,
            undos,
            leftovers,
        }
    }

    /// A call has ended.
    pub fn ended(&self, call: &CallReport) {
        let CallReport { verb, code, micros, .. } = call;
        self.calls.get_or_create(&Call { verb: verb.clone(), code: *code }).inc();
        self.took.get_or_create(&OfVerb { verb: verb.clone() }).observe(*micros as f64 / 1e6);
        for AttachmentReport { network, delegate, code, micros } in &call.attachments {
            let (network, delegate) = (self.networks.told(network), self.delegates.told(delegate));
            if *micros > 0 {
                self.attach.get_or_create(&OfDelegate { delegate: delegate.clone() }).observe(*micros as f64 / 1e6);
            }
            let of = OfAttachment { verb: verb.clone(), network, delegate, code: *code };
            self.attachments.get_or_create(&of).inc();
        }
    }

    /// A replay has found so much that no record explains.
    pub fn leftovers(&self, found: usize) {
        self.leftovers.set(level(found as u64));
    }

    /// Fills the gauges.
    pub fn fill(&self, snapshot: &Snapshot) {
        self.held.clear();
        for ((network, delegate), count) in &snapshot.attachments {
            let of = Held { network: self.networks.told(network), delegate: self.delegates.told(delegate) };
            self.held.get_or_create(&of).inc_by(level(*count));
        }
        for (state, count) in [("pending", snapshot.pending), ("abandoned", snapshot.abandoned)] {
            self.undos.get_or_create(&OfState { state }).set(level(count));
        }
    }
}
