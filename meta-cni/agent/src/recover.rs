//! Starts recoveries: the plugin's `replay` undoes what the runtime never calls DEL for, after a failed undo, a crash or a
//! restart of the node.
//!
//! The plugin runs on the host ([`host_exec`]): once when the agent starts, then whenever a record in `pending/` has waited
//! long enough by the time of its file: 30 s at first, twice as long after each try, 5 minutes at most.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use attachments::cni::object::Object;
use attachments::cni::spelling::LIST;
use meta_cni::engine;
use meta_cni::recovery::{RecordSummary, RecoveryReport};
use tokio::time::sleep;
use tracing::{info, warn};

use super::metrics::Metrics;
use super::{Options, host_exec};
use crate::error::{Error, Result};

/// How often records are looked at.
const LOOK: Duration = Duration::from_secs(30);
/// The longest that a record waits for its next try.
const LONGEST: Duration = Duration::from_secs(300);
/// Longest run of the plugin, which has a deadline of its own (`timeoutSeconds`).
const LIMIT: Duration = Duration::from_secs(600);

/// Starts recoveries when they are due; ends only with an error.
pub async fn run(options: &Options, metrics: &Metrics) -> Result<()> {
    let mut schedule = Schedule::default();
    let mut log = Log::default();
    let mut idle = Some(LOOK);
    loop {
        // The conflist is written once this agent answers. Without it the plugin has no configuration.
        if let Some(least) = idle.filter(|_| options.cni_conf_dir.join(&options.conf_file).exists()) {
            match recover(options, least).await {
                Ok(report) => {
                    log.report(&report);
                    metrics.calls.leftovers(report.unknown.len());
                    schedule.tried(&report);
                    idle = None;
                }
                // The plugin did not run: the next round tries again.
                Err(fault) => log.fault(&fault),
            }
        }
        sleep(LOOK).await;
        if idle.is_none() {
            idle = engine::pending(&options.state_dir).map_or(Some(LOOK), |pending| schedule.due(&pending));
        }
    }
}

async fn recover(options: &Options, idle: Duration) -> Result<RecoveryReport> {
    let path = options.cni_conf_dir.join(&options.conf_file);
    let conf = node_conf(&path)?;
    let args = ["replay".to_owned(), idle.as_secs().to_string()];
    let printed = host_exec::plugin(options, &args, conf.to_json().as_bytes(), LIMIT).await?;
    serde_json::from_slice(&printed).map_err(|e| Error::Io(format!("the plugin's report cannot be read: {e}")))
}

/// Our plugin's configuration in the conflist, as the runtime would send it.
pub(crate) fn node_conf(path: &Path) -> Result<Object> {
    const KIND: &str = "meta-cni";
    let at = path.display();
    let bytes = fs::read(path).map_err(|e| Error::Io(format!("cannot read {at}: {e}")))?;
    let list = Object::parse(&bytes).map_err(|e| Error::Config(format!("{at}: {e}; want a JSON object")))?;
    let list = LIST.read(&list)?;
    let mut plugins = list.objects("plugins")?;
    plugins.iter_mut().for_each(|plugin| plugin.respell("type"));
    let ours = plugins.into_iter().find(|plugin| plugin.text("type").is_ok_and(|kind| kind.as_deref() == Some(KIND)));
    let mut conf = ours.ok_or_else(|| Error::Config(format!("{at}: plugins: missing, want one of type {KIND}")))?;
    for key in ["name", "cniVersion"] {
        if let Some(value) = list.get(key) {
            conf.set(key, &value);
        }
    }
    Ok(conf)
}

/// When a pending record is tried next.
#[derive(Debug, Default)]
struct Schedule {
    tries: BTreeMap<String, u32>,
}

impl Schedule {
    /// The shortest wait of the records that have waited long enough; None when none has.
    fn due(&mut self, pending: &BTreeMap<String, Duration>) -> Option<Duration> {
        self.tries.retain(|record, _| pending.contains_key(record));
        let waits = pending.iter().map(|(record, idle)| (self.wait(record), *idle));
        waits.filter(|(wait, idle)| idle >= wait).map(|(wait, _)| wait).min()
    }

    fn wait(&self, record: &str) -> Duration {
        let tries = self.tries.get(record).copied().unwrap_or_default();
        LOOK.saturating_mul(1 << tries.min(8)).min(LONGEST)
    }

    fn tried(&mut self, report: &RecoveryReport) {
        for entry in report.left.iter().filter(|entry| entry.pending) {
            *self.tries.entry(name(entry)).or_default() += 1;
        }
    }
}

/// The file name of a record.
fn name(entry: &RecordSummary) -> String {
    format!("{},{},{}", entry.network, entry.container, entry.ifname)
}

/// Logs what a recovery did each time, and what stays once.
#[derive(Debug, Default)]
struct Log {
    said: BTreeSet<String>,
}

impl Log {
    fn report(&mut self, report: &RecoveryReport) {
        let done = report.resumed.iter().map(|entry| (entry, "undo resumed"));
        for (entry, what) in done.chain(report.released.iter().map(|entry| (entry, "sandbox is dead: undone"))) {
            let RecordSummary { container, pod, why, .. } = entry;
            info!(%container, pod = pod.as_deref().unwrap_or_default(), why, "replay: {what}");
        }
        let left = report.left.iter().map(|entry| {
            let pod = entry.pod.as_deref().unwrap_or("of no pod");
            format!("sandbox {} ({pod}) is left: {}", entry.container, entry.why)
        });
        let unknown = report.unknown.iter().map(|leftover| format!("no record explains {leftover}"));
        let now: BTreeSet<String> = left.chain(unknown).chain(report.faults.iter().cloned()).collect();
        now.difference(&self.said).for_each(|text| warn!("replay: {text}"));
        self.said = now;
    }

    fn fault(&mut self, fault: &Error) {
        let text = fault.to_string();
        if self.said.insert(text.clone()) {
            warn!("replay: {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(container: &str, pending: bool) -> RecoveryReport {
        let entry = RecordSummary {
            network: "n".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
            pod: None,
            why: "x".to_owned(),
            pending,
        };
        RecoveryReport { left: vec![entry], ..RecoveryReport::default() }
    }

    fn idle(records: &[(&str, u64)]) -> BTreeMap<String, Duration> {
        records.iter().map(|(name, idle)| (format!("n,{name},eth0"), Duration::from_secs(*idle))).collect()
    }

    #[test]
    fn a_record_waits_twice_as_long_after_each_try_and_five_minutes_at_most() {
        let mut schedule = Schedule::default();
        let mut waits = Vec::new();
        for _ in 0..6 {
            let wait =
                (0..).map(Duration::from_secs).find(|secs| schedule.due(&idle(&[("a", secs.as_secs())])).is_some());
            waits.push(wait.unwrap().as_secs());
            schedule.tried(&left("a", true));
        }
        assert_eq!(waits, [30, 60, 120, 240, 300, 300]);
        assert_eq!(schedule.due(&idle(&[("a", 200), ("b", 40)])), Some(LOOK), "each has a wait of its own");
        assert_eq!(schedule.due(&idle(&[])), None);
        assert_eq!(schedule.due(&idle(&[("a", 30)])), Some(LOOK), "one that came back begins anew");
        schedule.tried(&left("a", false));
        assert_eq!(schedule.due(&idle(&[("a", 30)])), Some(LOOK), "a sandbox that may live is no undo");
    }

    #[test]
    fn our_entry_is_sent_as_the_runtime_would() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00-meta-cni.conflist");
        fs::write(
            &path,
            r#"{"cniVersion":"1.1.0","name":"pods","plugins":[{"type":"x"},{"type":"meta-cni","stateDir":"/s"}]}"#,
        )
        .unwrap();
        assert_eq!(
            node_conf(&path).unwrap().to_json(),
            r#"{"type":"meta-cni","stateDir":"/s","name":"pods","cniVersion":"1.1.0"}"#
        );
        fs::write(&path, r#"{"name":"pods","plugins":[{"type":"x"}]}"#).unwrap();
        assert!(matches!(node_conf(&path), Err(Error::Config(_))));
        assert!(matches!(node_conf(&dir.path().join("none")), Err(Error::Io(_))));
    }
}
