//! Reads what the plugin reports of its calls ([`meta_cni::call_log`]): for the metrics, and for the log.

use std::path::Path;
use std::time::{Duration, Instant};

use meta_cni::call_log::{self, CallReport};
use tokio::time::sleep;

use super::metrics::{Metrics, Watches};

/// How often the file is taken.
const LOOK: Duration = Duration::from_secs(5);

/// Takes the reports every few seconds; never ends.
pub async fn run(state_dir: &Path, metrics: &Metrics, watches: &Watches) {
    let mut has_failed = false;
    loop {
        match call_log::take(state_dir) {
            Ok(reports) => {
                for report in &reports {
                    metrics.calls.ended(report);
                    log(report);
                }
                has_failed = false;
            }
            Err(error) if !has_failed => {
                tracing::warn!("the reports of calls cannot be read: {error}");
                has_failed = true;
            }
            Err(_) => {}
        }
        watches.look(Instant::now());
        sleep(LOOK).await;
    }
}

/// What a call had to say: one line for each warning, and one for its failure.
fn log(CallReport { verb, code, micros, container, pod, attachments, warnings, error }: &CallReport) {
    let networks: Vec<&str> = attachments.iter().map(|one| one.network.as_str()).collect();
    let networks = networks.join(",");
    for warning in warnings {
        tracing::warn!(%verb, sandbox = %container, %pod, %networks, "{warning}");
    }
    if *code == 0 {
        tracing::debug!(%verb, sandbox = %container, %pod, %networks, micros, "done");
    } else {
        tracing::warn!(%verb, sandbox = %container, %pod, %networks, code, micros, "{error}");
    }
}
