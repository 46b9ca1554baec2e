//! The devices that the kubelet allocated to a pod of this node, for the definitions that name a resource (R9).
//!
//! The pod-resources API is asked first. It knows claims of dynamic resources and the order of containers, and names pods by
//! name only. The device manager's checkpoint knows the uid of the pod, and init containers. So a device of a device plugin
//! counts where both agree on the pod, and the checkpoint alone is enough where the API does not answer.

mod cache;
mod checkpoint;
pub mod grpc;
pub mod pod_resources;
pub mod protobuf;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attachments::names::{DeviceId, PodRef};
use meta_cni::cluster::wire;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::metrics::{DeviceSource, Metrics};
use super::pod_cache::{Pod, PodName};
use cache::Cache;
use checkpoint::Allocations;
use grpc::GrpcError;
use pod_resources::{ByResource, PodDevices};

/// How long the API may take. It takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the API is not asked after it gave no answer in time: other pods should not wait for it too.
const REST: Duration = Duration::from_secs(10);
/// Questions at once, which is the number of answers in memory.
const AT_ONCE: usize = 4;

/// Knows the devices of this node's pods. Clones share what they know.
#[derive(Clone)]
pub struct Devices(Arc<Inner>);

struct Inner {
    socket: PathBuf,
    checkpoint: PathBuf,
    patience: Duration,
    metrics: Metrics,
    turns: Semaphore,
    cache: Mutex<Cache>,
    /// Until then the API is left alone.
    resting: Mutex<Option<Instant>>,
    /// The kubelet serves no Get.
    lists_only: AtomicBool,
}

impl Devices {
    /// Those that the kubelet with this directory allocates.
    pub fn new(kubelet_dir: &Path, metrics: Metrics) -> Self {
        Self::patient(kubelet_dir, metrics, PATIENCE)
    }

    fn patient(kubelet_dir: &Path, metrics: Metrics, patience: Duration) -> Self {
        Self(Arc::new(Inner {
            socket: kubelet_dir.join(pod_resources::SOCKET),
            checkpoint: kubelet_dir.join(checkpoint::FILE),
            patience,
            metrics,
            turns: Semaphore::new(AT_ONCE),
            cache: Mutex::default(),
            resting: Mutex::default(),
            lists_only: AtomicBool::new(false),
        }))
    }

    /// The devices that a pod has of some resources. `known` is the pod as the API server has it.
    pub async fn of(
        &self,
        pod: &PodRef,
        known: Option<&Pod>,
        resources: &BTreeSet<String>,
        deadline: Instant,
    ) -> wire::Devices {
        let name = PodName::from(pod);
        // A mirror pod's uid is not the one that the kubelet has.
        let uid = pod.uid.clone().or_else(|| known.filter(|known| !known.is_static).map(|known| known.uid.clone()));
        if let Some(uid) = &uid
            && let Some(devices) = lock(&self.0.cache).get(&name, uid).filter(|devices| has_all(devices, resources))
        {
            return only(&devices, resources);
        }
        let asked = timeout_at(deadline, self.ask(pod, uid.as_deref(), resources, deadline)).await;
        let asked = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        match asked {
            Ok(devices) => {
                let devices = Arc::new(devices);
                if let Some(uid) = uid.filter(|_| has_all(&devices, resources)) {
                    lock(&self.0.cache).put(name, uid, Arc::clone(&devices));
                }
                only(&devices, resources)
            }
            Err(reason) => wire::Devices::Unknown { reason },
        }
    }

    /// A pod is gone.
    pub fn forget(&self, name: &PodName) {
        lock(&self.0.cache).forget(name);
    }

    async fn ask(
        &self,
        pod: &PodRef,
        uid: Option<&str>,
        resources: &BTreeSet<String>,
        deadline: Instant,
    ) -> Result<ByResource, String> {
        let _turn = self.0.turns.acquire().await.map_err(|e| e.to_string())?;
        let started = Instant::now();
        let allocations = checkpoint::read(&self.0.checkpoint);
        let held = match (&allocations, uid) {
            (Ok(allocations), Some(uid)) => Some(Allocations::of(allocations, uid)),
            _ => None,
        };
        let told = self.told(&PodName::from(pod), held.is_some(), deadline).await;
        let (source, devices) = match (told, held) {
            (Ok(told), held) => (DeviceSource::PodResources, reconciled(told, held.as_ref())),
            (Err(e), Some(held)) if has_all(&held, resources) => {
                tracing::warn!("the kubelet's pod-resources API does not tell of pod {pod}, its checkpoint does: {e}");
                (DeviceSource::Checkpoint, Ok(held))
            }
            // What the checkpoint lacks may be a claim, of which only the API tells.
            (Err(e), held) => {
                let without =
                    if held.is_some() { "it has no such device of the pod" } else { "the pod's uid is not known" };
                let why = allocations.err().unwrap_or_else(|| without.to_owned());
                (DeviceSource::None, Err(format!("{e}; nor does the checkpoint: {why}")))
            }
        };
        let source = if devices.is_ok() { source } else { DeviceSource::None };
        self.0.metrics.devices.asked(source, started.elapsed());
        devices
    }

    /// The pods of this name, by the API. `by_get`: one is enough, for its devices will be compared.
    async fn told(&self, name: &PodName, by_get: bool, deadline: Instant) -> Result<Vec<PodDevices>, String> {
        let socket = &self.0.socket;
        let failed =
            |e: &dyn std::fmt::Display| format!("the kubelet's pod-resources API at {}: {e}", socket.display());
        let now = Instant::now();
        if lock(&self.0.resting).is_some_and(|until| now < until) {
            return Err(failed(&"it gave no answer in time a moment ago"));
        }
        let call = async {
            if by_get && !self.0.lists_only.load(Ordering::Relaxed) {
                match pod_resources::get(socket, name).await {
                    Ok(Some(devices)) => return Ok(vec![devices]),
                    Ok(None) => self.0.lists_only.store(true, Ordering::Relaxed),
                    // Whatever else it refuses: the list may have the pod.
                    Err(GrpcError::Status { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
            pod_resources::list(socket, name).await
        };
        match timeout_at(deadline.min(now + self.0.patience), call).await {
            Ok(told) => told.map_err(|e| failed(&e)),
            Err(_) => {
                // A call that had less time says nothing about the API.
                if now.elapsed() >= self.0.patience {
                    *lock(&self.0.resting) = Some(Instant::now() + REST);
                }
                Err(failed(&"no answer in time"))
            }
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment or insertion, so a panic leaves it consistent.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the pod devices of all these?
fn has_all(devices: &ByResource, resources: &BTreeSet<String>) -> bool {
    resources.iter().all(|resource| devices.get(resource).is_some_and(|ids| !ids.is_empty()))
}

/// The devices of the pod among those that were told of its name, by what the checkpoint holds of its uid where that is known.
fn reconciled(mut told: Vec<PodDevices>, held: Option<&ByResource>) -> Result<ByResource, String> {
    let other = "the kubelet tells of another pod of this name";
    if told.len() > 1 && (held.is_none() || told.iter().any(|one| !one.claims.is_empty())) {
        return Err(format!("{other} too, and its checkpoint does not say which is which"));
    }
    let Some(held) = held else {
        let PodDevices { mut plugins, claims } = told.pop().unwrap_or_default();
        plugins.extend(claims);
        return Ok(plugins);
    };
    // All devices of a pod are allocated at once, when the kubelet admits it.
    if held.is_empty() && told.iter().any(|one| !one.plugins.is_empty()) {
        return Err(other.to_owned());
    }
    let mut devices = ByResource::new();
    for PodDevices { plugins, claims } in told {
        for (resource, ids) in plugins {
            let is_own = |id: &String| held.get(&resource).is_some_and(|ids| ids.contains(id));
            let own: Vec<_> = ids.into_iter().filter(is_own).collect();
            devices.entry(resource).or_default().extend(own);
        }
        devices.extend(claims);
    }
    // The API leaves out init containers that end.
    for (resource, ids) in held {
        let known = devices.entry(resource.clone()).or_default();
        let more: Vec<_> = ids.iter().filter(|id| !known.contains(id)).cloned().collect();
        known.extend(more);
    }
    Ok(devices)
}

/// The answer about some resources.
fn only(devices: &ByResource, resources: &BTreeSet<String>) -> wire::Devices {
    let mut allocated = BTreeMap::new();
    for resource in resources {
        let ids = devices.get(resource).map(Vec::as_slice).unwrap_or_default();
        match ids.iter().map(|id| id.parse::<DeviceId>()).collect() {
            Ok(ids) => allocated.insert(resource.clone(), ids),
            Err(finding) => return wire::Devices::Unknown { reason: format!("a device of {resource}: {finding}") },
        };
    }
    wire::Devices::Known { allocated }
}

#[cfg(test)]
mod tests;
