//! Compares the records on disk with the `network-status` of this node's pods, and publishes a status that is missing or out of
//! date: it was lost with an agent, or no agent was there to take it.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use meta_cni::engine::recorded_status::{self, RecordedStatus, SettledRecord};
use tokio::time::sleep;

use super::pod_cache::{Pod, PodName, SharedPodCache, fingerprint};
use super::publish::Publisher;
use super::queue::Status;

/// How often to look whether the first list of pods is complete.
const SOON: Duration = Duration::from_millis(100);
/// The time between two resyncs.
const EVERY: Duration = Duration::from_secs(180);
/// The plugin may still be publishing the status of a younger record. One that is missing is looked for again when the record is older: the
/// agent before this one may have taken it along.
const YOUNG: Duration = Duration::from_secs(10);

/// Resyncs once all pods are known, and then every few minutes, or sooner where a young pod has no status; never ends.
pub async fn run(state_dir: &Path, pods: &SharedPodCache, publisher: &Publisher) {
    while !pods.lock().is_complete() {
        sleep(SOON).await;
    }
    loop {
        let next = resync(state_dir, pods, publisher).await;
        sleep(next).await;
    }
}

/// One resync. Gives the time until the next one.
async fn resync(state_dir: &Path, pods: &SharedPodCache, publisher: &Publisher) -> Duration {
    let settled = match recorded_status::settled(state_dir) {
        Ok(settled) => settled,
        Err(fault) => {
            tracing::warn!("no resync of statuses: {fault}");
            return EVERY;
        }
    };
    let mut next = EVERY;
    // Only the number of a record is kept, not its status: a record of many networks is long.
    let mut newest: HashMap<PodName, (Duration, usize)> = HashMap::new();
    for (number, record) in settled.iter().enumerate() {
        match record.read() {
            Ok(Some(recorded)) if is_missing(pods, &recorded) => {
                let pod = PodName::from(&recorded.pod);
                if recorded.age < YOUNG {
                    next = YOUNG;
                } else if newest.get(&pod).is_none_or(|(age, _)| recorded.age < *age) {
                    newest.insert(pod, (recorded.age, number));
                }
            }
            Ok(_) => {}
            Err(fault) => tracing::warn!("no resync of a status: {fault}"),
        }
        // Requests of the plugin are served between two records.
        tokio::task::yield_now().await;
    }
    for (pod, (_, number)) in newest {
        let Some(Ok(Some(recorded))) = settled.get(number).map(SettledRecord::read) else { continue };
        let name = recorded.pod.clone();
        if !publisher.offer(pod, Status { uid: recorded.pod.uid, text: recorded.status, beside: recorded.beside }) {
            tracing::info!("more statuses are missing than are written at once: the next resync goes on");
            return next;
        }
        tracing::info!("network-status of pod {name} is missing or out of date and is written from its record");
        tokio::task::yield_now().await;
    }
    next
}

fn is_missing(pods: &SharedPodCache, recorded: &RecordedStatus) -> bool {
    let pods = pods.lock();
    let known = pods.get(&PodName::from(&recorded.pod)).filter(|known| known.is(&recorded.pod));
    known.is_some_and(|known| differs(known, recorded))
}

/// Is the pod's status missing or different? Layout does not count.
fn differs(pod: &Pod, recorded: &RecordedStatus) -> bool {
    pod.status.is_none_or(|status| recorded.is_whole && status != fingerprint(&recorded.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(status: &str, is_whole: bool) -> RecordedStatus {
        let pod = attachments::names::PodRef { namespace: "n".parse().unwrap(), name: "p".parse().unwrap(), uid: None };
        RecordedStatus {
            pod,
            status: status.to_owned(),
            beside: meta_cni::cluster::Annotations::new(),
            age: YOUNG,
            is_whole,
        }
    }

    #[test]
    fn a_status_is_written_where_it_is_missing_or_says_something_else() {
        let pod = |text: Option<&str>| Pod { status: text.map(fingerprint), ..Pod::default() };
        for (text, is_whole, want) in [
            (None, true, true),
            (None, false, true),
            (Some(r#"[ {"name": "a"} ]"#), true, false),
            (Some(r#"[{"name":"b"}]"#), true, true),
            (Some("garbage"), true, true),
            // Written by a reader that could see the device information.
            (Some(r#"[{"name":"a","device-info":{}}]"#), false, false),
        ] {
            assert_eq!(differs(&pod(text), &recorded(r#"[{"name":"a"}]"#, is_whole)), want, "{text:?}");
        }
    }
}
