//! What the kubelet is asked of pods' devices.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Durations, durations, register};

/// Who told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceSource {
    /// The kubelet's pod-resources API.
    PodResources,
    /// Its checkpoint alone: the API did not answer.
    Checkpoint,
    /// Nobody.
    None,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BySource {
    source: &'static str,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct DeviceMetrics(Durations<BySource>);

impl DeviceMetrics {
    /// Registers the family.
    pub fn register(registry: &mut Registry) -> Self {
        Self(register(
            registry,
            "meta_cni_device_lookup_duration_seconds",
            "To learn a pod's devices from the kubelet, by who told: pod-resources, checkpoint, or none where nobody did",
            Durations::new_with_constructor(durations as fn() -> Histogram),
        ))
    }

    /// The kubelet was asked.
    pub fn asked(&self, source: DeviceSource, took: Duration) {
        let source = match source {
            DeviceSource::PodResources => "pod-resources",
            DeviceSource::Checkpoint => "checkpoint",
            DeviceSource::None => "none",
        };
        self.0.get_or_create(&BySource { source }).observe(took.as_secs_f64());
    }
}
