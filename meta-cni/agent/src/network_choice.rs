//! Chooses the network of a pod that leaves it to the node: the one whose links received least in the last while. The choice is
//! written into the pod before the plugin attaches anything, so that a repeated ADD finds it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attachments::dialect::genie::{self, Genie};
use attachments::names::PodRef;
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use meta_cni::cluster::link_load;
use meta_cni::cluster::wire::{Cause, Refusal};
use meta_cni_kube::said;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use super::pod_cache::{PodName, SharedPodCache};

/// Between two counts. A choice looks back over [`KEPT`] of them.
const EVERY: Duration = Duration::from_secs(5);
/// How many counts are kept.
const KEPT: usize = 6;

/// Bytes that each link has received.
type Count = Vec<(String, u64)>;

/// Counts, and chooses. Clones share the counts.
#[derive(Clone)]
pub struct NetworkChoice {
    genie: Option<Genie>,
    client: Client,
    pods: SharedPodCache,
    counts: Arc<Mutex<VecDeque<Count>>>,
}

impl NetworkChoice {
    /// Nothing is counted yet. Without settings nothing ever is.
    pub fn new(genie: Option<Genie>, client: Client, pods: SharedPodCache) -> Self {
        Self { genie, client, pods, counts: Arc::default() }
    }

    /// Counts; never ends.
    pub async fn run(&self) {
        if self.genie.is_none() {
            return std::future::pending().await;
        }
        loop {
            match link_load::received() {
                Ok(count) => {
                    let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
                    counts.push_back(count);
                    while counts.len() > KEPT {
                        counts.pop_front();
                    }
                }
                Err(fault) => tracing::warn!("the node's links cannot be counted: {fault}"),
            }
            sleep(EVERY).await;
        }
    }

    /// The name of the network. A pod that was given one already keeps it.
    pub async fn choose(&self, pod: &PodRef, deadline: Instant) -> Result<String, Refusal> {
        let Some(genie) = &self.genie else {
            let text = format!("pod {pod}: the node agent's `dialects` has no genie: it differs from this node's");
            return Err(Refusal::new(Cause::Configuration, text));
        };
        if let Some(chosen) = self.chosen_before(pod) {
            return Ok(chosen);
        }
        let before = self.counts.lock().unwrap_or_else(PoisonError::into_inner).front().cloned().unwrap_or_default();
        let chosen =
            link_load::choose(genie, &before).map_err(|fault| Refusal::new(Cause::Later, fault.to_string()))?;
        self.write(pod, chosen.as_str(), deadline).await?;
        tracing::info!("pod {pod} gets the least busy network: {chosen}");
        Ok(chosen.to_string())
    }

    fn chosen_before(&self, pod: &PodRef) -> Option<String> {
        let pods = self.pods.lock();
        let selection = pods.get(&PodName::from(pod)).filter(|known| known.is(pod))?.selection.as_ref()?;
        selection.get(genie::CNI).filter(|text| !text.trim().is_empty()).cloned()
    }

    async fn write(&self, pod: &PodRef, chosen: &str, deadline: Instant) -> Result<(), Refusal> {
        let later = |why: String| {
            Refusal::new(Cause::Later, format!("pod {pod}: the choice of {chosen} is not written: {why}"))
        };
        let annotations = json!({ genie::CNI: chosen });
        let metadata = match &pod.uid {
            Some(uid) => json!({ "uid": uid, "annotations": annotations }),
            None => json!({ "annotations": annotations }),
        };
        let api: Api<PartialObjectMeta<PodObject>> = Api::namespaced(self.client.clone(), pod.namespace.as_str());
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let params = PatchParams::default();
        match timeout_at(deadline, api.patch_subresource("status", pod.name.as_str(), &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(later(said(&error))),
            Err(_) => Err(later("no answer in time".to_owned())),
        }
    }
}
