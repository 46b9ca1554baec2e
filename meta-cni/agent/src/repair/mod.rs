//! Repair: pods that are not as their records say, or that have no record of the networks that they ask for, are found and told of, and
//! by a switch of the node repaired.
//!
//! The plugin compares and repairs, on the host; the agent decides when, and tells. A pod that is as it should be costs no request to the
//! API server.

mod condition;
mod missing;
mod pauses;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attachments::cni::object::Object;
use attachments::names::{ContainerId, PodRef};
use kube::Client;
use meta_cni::node::is_repairing;
use meta_cni::repair::{Differing, RepairReport, VerifyReport};
use meta_cni_kube::Reader;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::events::EventSender;
use super::metrics::Metrics;
use super::pod_cache::{PodName, SharedPodCache};
use super::pod_now::PodNow;
use super::recover::node_conf;
use super::{Options, host_exec};
use crate::error::{Error, Result};
use condition::{Patched, Verdict};
use missing::Missing;
use pauses::Pauses;
use told::{Finding, Kind, Told};

/// How often to look whether the node is ready for a first comparison.
const SOON: Duration = Duration::from_millis(100);
/// From then to the first comparison: overlays come back first, and statuses of an earlier agent.
const FIRST: Duration = Duration::from_secs(5);
/// From a link that is gone to the comparison, and the least time between two comparisons: pods that end take links along.
const SETTLE: Duration = Duration::from_secs(2);
const SPACING: Duration = Duration::from_secs(30);
/// Longest run of the plugin, which has a deadline of its own (`timeoutSeconds`).
const LIMIT: Duration = Duration::from_secs(600);

/// Event reason of a pod whose networks are not as recorded, and of one without a record.
const DIFFERS: &str = "NetworksDiffer";
const MISSING: &str = "NetworksMissing";
/// Event reason of a repair that failed.
const FAILED: &str = "FailedRepairingInterface";

/// Compares the pods of the node with their records.
pub struct Repair {
    client: Client,
    pods: SharedPodCache,
    reader: Reader,
    events: EventSender,
    metrics: Metrics,
    wake: Arc<Notify>,
}

/// What is remembered from one comparison to the next.
struct Memory {
    told: Told,
    missing: Missing,
    pauses: Pauses,
    said: BTreeSet<String>,
}

impl Repair {
    /// Nothing is compared yet.
    pub fn new(client: Client, pods: SharedPodCache, reader: Reader, events: EventSender, metrics: Metrics) -> Self {
        Self { client, pods, reader, events, metrics, wake: Arc::default() }
    }

    /// Is to be called when a link of the node is gone: the other end may have been a pod's. That was a DEL, as a rule.
    pub fn waker(&self) -> impl Fn() + Clone + Send + use<> {
        let wake = Arc::clone(&self.wake);
        move || wake.notify_one()
    }

    /// Compares when the agent has started, and then from time to time; never ends.
    pub async fn run(&self, options: &Options) {
        if options.verify_interval.is_zero() {
            return std::future::pending().await;
        }
        let path = options.cni_conf_dir.join(&options.conf_file);
        while !(self.pods.lock().is_complete() && path.exists()) {
            sleep(SOON).await;
        }
        sleep(FIRST).await;
        let told = Told::open(&options.state_dir);
        let (missing, pauses, said) = (Missing::default(), Pauses::default(), BTreeSet::new());
        let mut memory = Memory { told, missing, pauses, said };
        loop {
            let faults = match self.round(options, &path, &mut memory).await {
                Ok(faults) => faults,
                Err(error) => vec![error.to_string()],
            };
            let faults: BTreeSet<String> = faults.into_iter().collect();
            faults.difference(&memory.said).for_each(|text| tracing::warn!("verify: {text}"));
            memory.said = faults;
            let compared = Instant::now();
            tokio::select! {
                () = sleep(options.verify_interval) => {}
                () = self.wake.notified() => sleep_until((compared + SPACING).max(Instant::now() + SETTLE)).await,
            }
        }
    }

    /// One comparison, and the repairs that it asks for. Returns what could not be compared.
    async fn round(&self, options: &Options, path: &Path, memory: &mut Memory) -> Result<Vec<String>> {
        let conf = node_conf(path)?;
        let mut report: VerifyReport = plugin(options, &["verify".to_owned()], &conf).await?;
        let missing = memory.missing.look(options, &conf, &self.pods, &self.reader).await?;
        self.tell(&report, &missing, &mut memory.told).await;
        if is_repairing(&conf)? && self.repair_all(options, &conf, &report, &mut memory.pauses).await {
            report = plugin(options, &["verify".to_owned()], &conf).await?;
            self.tell(&report, &missing, &mut memory.told).await;
        }
        memory
            .pauses
            .retain(|container| report.differing.iter().any(|one| one.container == *container), Instant::now());
        memory.told.save()?;
        Ok(report.faults)
    }

    /// Repairs what can be repaired and is due. True when something was.
    async fn repair_all(&self, options: &Options, conf: &Object, report: &VerifyReport, pauses: &mut Pauses) -> bool {
        let mut has_repaired = false;
        for one in &report.differing {
            let is_repairable = one.differences.iter().any(|difference| difference.left.is_none());
            let Some(pod) = one.pod.as_ref().filter(|_| is_repairable) else { continue };
            let Some(uid) = self.known(pod) else { continue };
            // A pod that ends has no use for it, and one of which nobody can be asked may have ended.
            let now = PodNow::ask(&self.reader, pod).await.ok().flatten();
            if !now.is_some_and(|now| now.is_alive(&uid)) || !pauses.take(&one.container, Instant::now()) {
                continue;
            }
            let args = ["repair".to_owned(), one.container.to_string(), one.ifname.to_string()];
            match plugin::<RepairReport>(options, &args, conf).await {
                Ok(RepairReport { repaired, .. }) => {
                    self.metrics.agent.repaired("done");
                    has_repaired |= !repaired.is_empty();
                    for text in repaired {
                        tracing::info!(%pod, "repair: {text}");
                        self.events.repaired(pod, text);
                    }
                }
                Err(error) => {
                    self.metrics.agent.repaired("failed");
                    tracing::warn!(%pod, "repair: {error}");
                    self.events.warn(pod.clone(), FAILED, error.to_string());
                }
            }
        }
        has_repaired
    }

    /// Tells of what is new, and of what is as it should be again.
    async fn tell(&self, report: &VerifyReport, missing: &BTreeMap<PodName, String>, told: &mut Told) {
        let findings = self.findings(report, missing);
        for kind in Kind::ALL {
            let count = findings.values().filter(|finding| finding.kinds.contains(&kind)).count();
            self.metrics.agent.differing(kind.as_str(), count);
        }
        for (pod, finding) in &findings {
            if told.has(pod, finding) {
                continue;
            }
            let verdict = Verdict { is_well: false, reason: finding.condition(), message: &finding.message };
            match condition::patch(&self.client, pod, &finding.uid, &verdict).await {
                Ok(Patched::Written) => {
                    let reason = if finding.kinds.contains(&Kind::NoRecord) { MISSING } else { DIFFERS };
                    let PodName { namespace, name } = pod.clone();
                    tracing::warn!(pod = %format_args!("{namespace}/{name}"), "verify: {}", finding.message);
                    let of = PodRef { namespace, name, uid: Some(finding.uid.clone()) };
                    self.events.warn(of, reason, finding.message.clone());
                    told.note(pod.clone(), finding.clone());
                }
                Ok(Patched::Gone) => {}
                Err(why) => {
                    tracing::info!("the condition of pod {}/{} is not written yet: {why}", pod.namespace, pod.name)
                }
            }
        }
        let is_open = |container: &ContainerId| report.passed_over.contains(container);
        for (pod, uid) in told.mended(&findings, is_open) {
            let verdict = Verdict { is_well: true, reason: "AsRecorded", message: "" };
            let is_there = self.pods.lock().get(&pod).is_some_and(|known| known.uid == uid);
            let patched = match is_there {
                true => condition::patch(&self.client, &pod, &uid, &verdict).await,
                false => Ok(Patched::Gone),
            };
            match patched {
                Ok(Patched::Written | Patched::Gone) => told.forget(&pod),
                Err(why) => {
                    tracing::info!("the condition of pod {}/{} is not written yet: {why}", pod.namespace, pod.name)
                }
            }
        }
    }

    /// One finding for each pod that the API server has on this node.
    fn findings(&self, report: &VerifyReport, missing: &BTreeMap<PodName, String>) -> BTreeMap<PodName, Finding> {
        let mut findings = BTreeMap::new();
        for Differing { container, pod, differences, .. } in &report.differing {
            let Some((pod, uid)) = pod.as_ref().and_then(|pod| Some((PodName::from(pod), self.known(pod)?))) else {
                continue;
            };
            let texts: Vec<&str> = differences.iter().map(|one| one.text.as_str()).collect();
            let kind = |is_default: bool| if is_default { Kind::DefaultNetwork } else { Kind::Network };
            let kinds = differences.iter().map(|one| kind(one.is_default)).collect();
            findings.insert(pod, Finding::new(uid, kinds, Some(container.clone()), &texts.join("; ")));
        }
        for (pod, uid) in missing {
            let text = "the pod runs without the networks that it asks for: this node has no record of its sandbox, so another plugin \
                        has answered the ADD";
            findings.insert(pod.clone(), Finding::new(uid.clone(), [Kind::NoRecord].into(), None, text));
        }
        findings
    }

    /// The uid that the API server knows the pod by; None where it has another pod of the name by now, or none.
    fn known(&self, pod: &PodRef) -> Option<String> {
        let pods = self.pods.lock();
        pods.get(&PodName::from(pod)).filter(|known| known.is(pod)).map(|known| known.uid.clone())
    }
}

/// Starts the plugin on the host, and reads its report.
async fn plugin<R: DeserializeOwned>(options: &Options, args: &[String], conf: &Object) -> Result<R> {
    let printed = host_exec::plugin(options, args, conf.to_json().as_bytes(), LIMIT).await?;
    serde_json::from_slice(&printed).map_err(|e| Error::Io(format!("the plugin's report cannot be read: {e}")))
}
