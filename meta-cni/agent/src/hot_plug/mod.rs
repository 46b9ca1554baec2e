//! Hot-plug: an edit of a running pod's networks annotation starts the plugin on the host, which attaches and detaches.
//!
//! The agent decides only when: a pod whose annotation is another one than that which its record was made from is given to
//! `meta-cni hotplug`. It compares all pods when it starts, so an edit while it was away counts too, and what a killed plugin left
//! is finished. Nothing is kept but the digests of annotations.

mod schedule;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attachments::names::PodRef;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use meta_cni::engine::{Sandbox, Sandboxes};
use meta_cni::hot_plug::HotPlugReport;
use meta_cni::node::is_hot_pluggable;
use meta_cni_kube::Reader;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::events::EventSender;
use super::metrics::Metrics;
use super::pod_cache::{PodName, SharedPodCache};
use super::pod_now::PodNow;
use super::recover::node_conf;
use super::{Options, host_exec};
use crate::error::{Error, Result};
use schedule::{Edition, Job, Outcome, Schedule};

/// Plugins at once: a delegate that hangs must not keep other pods waiting.
const FLIGHTS: usize = 4;
/// Longest run of the plugin, which has a deadline of its own (`timeoutSeconds`).
const LIMIT: Duration = Duration::from_secs(600);
/// How often to look whether the node is ready for a first comparison.
const SOON: Duration = Duration::from_millis(100);
/// How long the worker sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Compares pods with their records. Clones share the schedule.
#[derive(Clone)]
pub struct HotPlug {
    pods: SharedPodCache,
    reader: Reader,
    events: EventSender,
    metrics: Metrics,
    schedule: Arc<Mutex<Schedule>>,
    wake: Arc<Notify>,
}

impl HotPlug {
    /// Nothing is compared yet.
    pub fn new(pods: SharedPodCache, reader: Reader, events: EventSender, metrics: Metrics) -> Self {
        Self { pods, reader, events, metrics, schedule: Arc::default(), wake: Arc::default() }
    }

    /// A pod appeared or changed.
    pub fn seen(&self, name: &PodName) {
        let edition = {
            let pods = self.pods.lock();
            // The mirror of a static pod changes with its file, and then the pod is another one. A pod without a status has no record.
            let known = pods.get(name).filter(|pod| pod.status.is_some() && !pod.is_static);
            known.map(|pod| Edition { uid: pod.uid.clone(), asked: pod.asked.clone() })
        };
        if edition.is_some_and(|edition| self.schedule().seen(name.clone(), edition, Instant::now())) {
            self.wake.notify_one();
        }
    }

    /// Compares what is due; never ends.
    pub async fn run(&self, options: &Options) {
        let path = options.cni_conf_dir.join(&options.conf_file);
        // Without the conflist the plugin has no configuration, and without the list of pods nobody knows what they want.
        while !(self.pods.lock().is_complete() && path.exists()) {
            sleep(SOON).await;
        }
        let mut sandboxes = Sandboxes::default();
        let mut flights = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            let jobs = self.schedule().take(FLIGHTS - flights.len(), now);
            if !jobs.is_empty() {
                let pods = self.pods.lock();
                self.schedule().retain(|pod| pods.get(pod).is_some());
                drop(pods);
                if let Err(fault) = sandboxes.look(&options.state_dir) {
                    tracing::warn!("hot-plug: records cannot be listed: {fault}");
                }
            }
            for job in jobs {
                match sandboxes.of(&job.pod.namespace, &job.pod.name, &job.edition.uid) {
                    None => self.schedule().settle(&job, Outcome::Unattached, now),
                    Some(sandbox) if !is_due(sandbox, &job.edition, job.is_edited) => {
                        self.schedule().settle(&job, Outcome::Settled, now);
                    }
                    Some(sandbox) => flights.push(self.compare(options, &path, job, sandbox.clone())),
                }
            }
            let next = self.schedule().next().filter(|_| flights.len() < FLIGHTS);
            tokio::select! {
                Some((job, outcome)) = flights.next() => self.schedule().settle(&job, outcome, Instant::now()),
                () = self.wake.notified() => {}
                () = sleep_until(next.unwrap_or_else(|| Instant::now() + IDLE)) => {}
            }
        }
    }

    async fn compare(&self, options: &Options, path: &Path, job: Job, sandbox: Sandbox) -> (Job, Outcome) {
        let outcome = match self.hot_plug(options, path, &job, &sandbox).await {
            Ok(Some(report)) => {
                let HotPlugReport { added, removed } = report;
                let did = if added.is_empty() && removed.is_empty() { "unchanged" } else { "done" };
                self.metrics.agent.hot_plugged(did, job.since.elapsed());
                for text in added.iter().chain(&removed) {
                    tracing::info!(pod = %sandbox.pod, "hot-plug: {text}");
                }
                removed.into_iter().for_each(|text| self.events.removed(&sandbox.pod, text));
                Outcome::Settled
            }
            Ok(None) => Outcome::Settled,
            Err(error) => {
                self.metrics.agent.hot_plugged("failed", job.since.elapsed());
                tracing::warn!(pod = %sandbox.pod, "hot-plug: {error}");
                Outcome::Failed
            }
        };
        (job, outcome)
    }

    /// Starts the plugin, unless the node or the pod is none for it.
    async fn hot_plug(
        &self,
        options: &Options,
        path: &Path,
        job: &Job,
        sandbox: &Sandbox,
    ) -> Result<Option<HotPlugReport>> {
        let conf = node_conf(path)?;
        if !is_hot_pluggable(&conf)? || !self.runs(&sandbox.pod, &job.edition.uid).await? {
            return Ok(None);
        }
        let args = ["hotplug".to_owned(), sandbox.container.to_string(), sandbox.ifname.to_string()];
        let printed = host_exec::plugin(options, &args, conf.to_json().as_bytes(), LIMIT).await?;
        let read = serde_json::from_slice(&printed);
        read.map(Some).map_err(|e| Error::Io(format!("the plugin's report cannot be read: {e}")))
    }

    async fn runs(&self, pod: &PodRef, uid: &str) -> Result<bool> {
        Ok(PodNow::ask(&self.reader, pod).await?.is_some_and(|now| now.is_alive(uid)))
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Was the sandbox made from another annotation, or left half-way? Of a record of an earlier version nobody knows, and a new agent
/// leaves such pods alone until they are edited.
fn is_due(sandbox: &Sandbox, edition: &Edition, is_edited: bool) -> bool {
    sandbox.is_unfinished || sandbox.asked.as_ref().map_or(is_edited, |asked| *asked != edition.asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_due_when_it_was_made_from_another_annotation_or_is_unfinished() {
        let edition = Edition { uid: "u".into(), asked: "a".into() };
        let sandbox = |asked: Option<&str>, is_unfinished| Sandbox {
            network: "n".parse().unwrap(),
            container: "c".parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
            pod: PodRef { namespace: "n".parse().unwrap(), name: "p".parse().unwrap(), uid: None },
            asked: asked.map(str::to_owned),
            is_unfinished,
        };
        for (asked, is_unfinished, is_edited, want) in [
            (Some("a"), false, true, false),
            (Some("a"), true, false, true),
            (Some("b"), false, false, true),
            (None, false, false, false),
            (None, false, true, true),
        ] {
            let due = is_due(&sandbox(asked, is_unfinished), &edition, is_edited);
            assert_eq!(due, want, "{asked:?} {is_unfinished} {is_edited}");
        }
    }
}
