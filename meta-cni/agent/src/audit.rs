//! Compares what the records on disk say of this node's pods with what the API server was told of them: a status that was
//! lost with an agent, or that nobody was there to take, is written after all.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use meta_cni::engine::told::{self, Settled, Told};
use tokio::time::sleep;

use super::publish::Publisher;
use super::queue::Status;
use super::view::{Pod, PodName, Shared, fingerprint};

/// Between two looks for the first list of pods.
const SOON: Duration = Duration::from_millis(100);
/// Between two audits.
const EVERY: Duration = Duration::from_secs(180);
/// A record as young as this is being reported by its plugin.
const YOUNG: Duration = Duration::from_secs(10);

/// Audits once all pods are known, and then every few minutes; never ends.
pub async fn run(state_dir: &Path, view: &Shared, publisher: &Publisher) {
    while !view.lock().is_complete() {
        sleep(SOON).await;
    }
    loop {
        audit(state_dir, view, publisher).await;
        sleep(EVERY).await;
    }
}

async fn audit(state_dir: &Path, view: &Shared, publisher: &Publisher) {
    let settled = match told::settled(state_dir) {
        Ok(settled) => settled,
        Err(fault) => return tracing::warn!("statuses are not audited: {fault}"),
    };
    // Which record, and not what is in it: a record may be as long as a pod's networks are many.
    let mut newest: HashMap<PodName, (Duration, usize)> = HashMap::new();
    for (number, record) in settled.iter().enumerate() {
        match record.read() {
            Ok(Some(told)) if told.age >= YOUNG => {
                let pod = PodName::from(&told.pod);
                if newest.get(&pod).is_none_or(|(age, _)| told.age < *age) && is_untold(view, &told) {
                    newest.insert(pod, (told.age, number));
                }
            }
            Ok(_) => {}
            Err(fault) => tracing::warn!("a status is not audited: {fault}"),
        }
        // Questions of the plugin come between two files.
        tokio::task::yield_now().await;
    }
    for (pod, (_, number)) in newest {
        let Some(Ok(Some(told))) = settled.get(number).map(Settled::read) else { continue };
        let name = told.pod.clone();
        if !publisher.offer(pod, Status { uid: told.pod.uid, text: told.status }) {
            return tracing::info!("more statuses are missing than are written at once: the next audit goes on");
        }
        tracing::info!("network-status of pod {name} is missing or out of date and is written from its record");
        tokio::task::yield_now().await;
    }
}

fn is_untold(view: &Shared, told: &Told) -> bool {
    let view = view.lock();
    let known = view.get(&PodName::from(&told.pod)).filter(|known| known.is(&told.pod));
    known.is_some_and(|known| differs(known, told))
}

/// Does the pod say nothing, or something else? Layout does not count.
fn differs(pod: &Pod, told: &Told) -> bool {
    pod.status.is_none_or(|status| told.is_whole && status != fingerprint(&told.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: &str, is_whole: bool) -> Told {
        let pod = attachments::names::PodRef { namespace: "n".parse().unwrap(), name: "p".parse().unwrap(), uid: None };
        Told { pod, status: status.to_owned(), age: YOUNG, is_whole }
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
            // Somebody who could read the device's information said it.
            (Some(r#"[{"name":"a","device-info":{}}]"#), false, false),
        ] {
            assert_eq!(differs(&pod(text), &told(r#"[{"name":"a"}]"#, is_whole)), want, "{text:?}");
        }
    }
}
