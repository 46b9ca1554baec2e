//! Writes `network-status`: one PATCH per status, retried until the API server has it or the pod is gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attachments::dialect::Dialects;
use attachments::status::NETWORK_STATUS;
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use meta_cni::cluster::wire::LONGEST_ANNOTATION;
use meta_cni_kube::said;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::metrics::Metrics;
use super::pod_cache::{Pod, PodName, SharedPodCache};
use super::queue::{Job, Outcome, Queue, Status};

/// The most PATCHes at once.
const FLIGHTS: usize = 4;
/// The most bytes of unwritten statuses. The resync finds further ones in the records.
const WAITING: usize = 4 << 20;
/// Timeout of one PATCH: a connection that hangs must not delay a status for long.
const TRY: Duration = Duration::from_secs(15);
/// How long the worker sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Publishes statuses. Clones share the queue.
#[derive(Clone)]
pub struct Publisher {
    client: Client,
    pods: SharedPodCache,
    queue: Arc<Mutex<Queue>>,
    wake: Arc<Notify>,
    metrics: Metrics,
    /// What may be written beside a status: with another list than the node's, the API server would refuse all of it.
    of_dialects: Arc<[&'static str]>,
}

impl Publisher {
    /// A publisher whose queue is empty.
    pub fn new(client: Client, pods: SharedPodCache, metrics: Metrics, dialects: &Dialects) -> Self {
        let of_dialects = dialects.on().flat_map(|dialect| dialect.writes().iter().copied()).collect();
        Self { client, pods, queue: Arc::default(), wake: Arc::default(), metrics, of_dialects }
    }

    /// Queues a status and waits at most `wait` for it to be written. False when it is written later.
    pub async fn publish(&self, pod: PodName, status: Status, wait: Duration) -> bool {
        if status.text.len() > LONGEST_ANNOTATION {
            let (PodName { namespace, name }, length) = (pod, status.text.len());
            tracing::warn!(
                "network-status of pod {namespace}/{name} is not written: {length} bytes, want at most {LONGEST_ANNOTATION}"
            );
            return false;
        }
        let written = {
            let mut queue = self.queue();
            if queue.weight() + status.text.len() > WAITING {
                // The resync finds it in the pod's record.
                return false;
            }
            queue.put(pod, status, Instant::now())
        };
        self.wake.notify_one();
        matches!(timeout(wait, written).await, Ok(Ok(())))
    }

    /// Queues a status, unless one of the pod is queued already. False when the queue is full.
    pub fn offer(&self, pod: PodName, status: Status) -> bool {
        let mut queue = self.queue();
        if !queue.holds(&pod) {
            if queue.weight() + status.text.len() > WAITING {
                return false;
            }
            drop(queue.put(pod, status, Instant::now()));
            self.wake.notify_one();
        }
        true
    }

    /// A pod appeared or changed: a status may have waited for it.
    pub fn seen(&self, pod: &PodName) {
        if self.queue().appeared(pod, Instant::now()) {
            self.wake.notify_one();
        }
    }

    /// Writes queued statuses; never ends.
    pub async fn run(&self) {
        let mut flights: JoinSet<(Job, Outcome)> = JoinSet::new();
        loop {
            while flights.len() < FLIGHTS
                && let Some(job) = self.next_job()
            {
                let this = self.clone();
                flights.spawn(async move {
                    let outcome = this.write(&job).await;
                    (job, outcome)
                });
            }
            let now = Instant::now();
            // With all PATCHes under way, only the end of one matters.
            let next = if flights.len() < FLIGHTS { self.queue().next(now) } else { None };
            tokio::select! {
                Some(landed) = flights.join_next() => match landed {
                    Ok((job, outcome)) => {
                        let written = self.queue().settle(&job, outcome, Instant::now());
                        written.into_iter().for_each(|lag| self.metrics.agent.status_written(lag));
                    }
                    Err(error) => tracing::error!("a status was lost: {error}"),
                },
                () = self.wake.notified() => {}
                () = sleep_until(next.unwrap_or(now + IDLE)) => {}
            }
        }
    }

    /// How many statuses are not written yet.
    pub fn waiting(&self) -> usize {
        self.queue().len()
    }

    fn next_job(&self) -> Option<Job> {
        self.queue().take(Instant::now())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, job: &Job) -> Outcome {
        let PodName { namespace, name } = &job.pod;
        let uid = addressee(&job.status, self.pods.lock().get(&job.pod));
        let mut beside = job.status.beside.clone();
        beside.retain(|key, _| self.of_dialects.contains(&key.as_str()));
        let mut annotations = json!(beside);
        annotations[NETWORK_STATUS] = json!(job.status.text);
        let metadata = match &uid {
            // The API server compares the uid: the status must not reach a later pod of the same name.
            Some(uid) => json!({ "uid": uid, "annotations": annotations }),
            None => json!({ "annotations": annotations }),
        };
        // Of the answer only metadata is read.
        let api: Api<PartialObjectMeta<PodObject>> = Api::namespaced(self.client.clone(), namespace.as_str());
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let params = PatchParams::default();
        match timeout(TRY, api.patch_subresource("status", name.as_str(), &params, &patch)).await {
            Ok(Ok(_)) => Outcome::Written,
            Ok(Err(error)) => {
                let outcome = judge(&error, &job.status, self.pods.lock().get(&job.pod));
                let text = said(&error);
                match outcome {
                    Outcome::Hopeless => tracing::warn!("network-status of pod {namespace}/{name} is given up: {text}"),
                    _ => tracing::info!("network-status of pod {namespace}/{name} is not written yet: {text}"),
                }
                outcome
            }
            Err(_) => {
                tracing::info!("network-status of pod {namespace}/{name} is not written yet: no answer in {TRY:?}");
                Outcome::Failed
            }
        }
    }
}

/// The uid that the PATCH requires. For a static pod it is that of the mirror pod. For other pods it is the runtime's,
/// because the cache may still hold the pod before.
fn addressee(status: &Status, known: Option<&Pod>) -> Option<String> {
    match (known, &status.uid) {
        (Some(known), None) => Some(known.uid.clone()),
        (Some(known), Some(_)) if known.is_static => Some(known.uid.clone()),
        (_, said) => said.clone(),
    }
}

/// Decides what an error of the API server means for a status.
fn judge(error: &kube::Error, status: &Status, known: Option<&Pod>) -> Outcome {
    let kube::Error::Api(answer) = error else { return Outcome::Failed };
    let another_pod = || {
        let differs = |known: &Pod| status.uid.as_ref().is_some_and(|uid| *uid != known.uid) && !known.is_static;
        if known.is_some_and(differs) { Outcome::Hopeless } else { Outcome::Absent }
    };
    match answer.code {
        404 => Outcome::Absent,
        // The pod has another uid, or was changed in the middle of the patch.
        409 if answer.message.to_ascii_lowercase().contains("uid") => another_pod(),
        400 | 413 | 422 => Outcome::Hopeless,
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status as Answer;
    use meta_cni::cluster::Annotations;

    use super::*;

    fn status(uid: Option<&str>) -> Status {
        Status { uid: uid.map(str::to_owned), text: "[]".into(), beside: Annotations::new() }
    }

    fn pod(uid: &str, is_static: bool) -> Pod {
        Pod { uid: uid.to_owned(), is_static, ..Pod::default() }
    }

    #[test]
    fn a_status_is_addressed_to_one_pod_and_a_static_one_by_the_uid_of_its_copy() {
        let (usual, mirror) = (pod("u1", false), pod("m", true));
        for (said, known, want) in [
            (Some("u1"), Some(&usual), Some("u1")),
            (Some("u2"), Some(&usual), Some("u2")),
            (None, Some(&usual), Some("u1")),
            (Some("hash"), Some(&mirror), Some("m")),
            (Some("u3"), None, Some("u3")),
            (None, None, None),
        ] {
            assert_eq!(addressee(&status(said), known).as_deref(), want, "{said:?} {known:?}");
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let answer = |code: u16, message: &str| {
            kube::Error::Api(Box::new(Answer { code, message: message.to_owned(), ..Answer::default() }))
        };
        let (same, other, mirror) = (pod("u1", false), pod("u2", false), pod("m", true));
        let uid = "Operation cannot be fulfilled on pods \"web\": Precondition failed: UID in precondition: u1, UID in object meta: u2";
        let changed = "Operation cannot be fulfilled: the object has been modified; please apply your changes";
        for (error, known, want) in [
            (answer(404, "pods \"web\" not found"), Some(&same), Outcome::Absent),
            (answer(409, uid), Some(&other), Outcome::Hopeless),
            (answer(409, uid), Some(&mirror), Outcome::Absent),
            (answer(409, uid), None, Outcome::Absent),
            (answer(409, changed), Some(&same), Outcome::Failed),
            (answer(422, "metadata.annotations: Too long"), Some(&same), Outcome::Hopeless),
            (answer(403, "forbidden"), Some(&same), Outcome::Failed),
            (answer(500, "etcd"), Some(&same), Outcome::Failed),
            (answer(429, "slow down"), Some(&same), Outcome::Failed),
        ] {
            assert_eq!(judge(&error, &status(Some("u1")), known), want, "{error} {known:?}");
        }
    }
}
