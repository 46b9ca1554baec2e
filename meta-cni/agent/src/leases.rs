//! Keeps the DHCP leases of this node's pods: starts the plugin's `renew` for each when it is time.
//!
//! The files of the leases say when that is, so nothing is lost with an agent. The plugin runs on the host ([`host_exec`]), once for a
//! renewal: after half of a lease, as a rule.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use delegates::ipam::dhcp::renew::{Outcome, Renewal};
use delegates::ipam::dhcp::{DIRECTORY, Lease, LeaseName, names, uptime};
use futures::StreamExt;
use futures::stream;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::events::EventSender;
use super::metrics::Metrics;
use super::recover::node_conf;
use super::{Options, host_exec};
use crate::error::{Error, Result};

/// How often to look for leases that are new or gone.
const LOOK: Duration = Duration::from_secs(5);
/// The most plugins at a time: with a server away each waits for it.
const AT_ONCE: usize = 4;
/// Longest run of the plugin, which waits for servers for seconds.
const LIMIT: Duration = Duration::from_secs(60);
/// The shortest time between two tries for one lease: a server may grant seconds.
const LEAST: u64 = 2;
/// The next try where the plugin did not run.
const AGAIN: Duration = Duration::from_secs(30);

/// Renews leases when they are due; never ends.
pub async fn run(options: &Options, metrics: &Metrics, events: &EventSender) {
    let mut timers = Timers::default();
    loop {
        timers.look(options);
        metrics.leases.held(timers.0.len());
        // The conflist is written once this agent answers. Without it the plugin has no configuration.
        if options.cni_conf_dir.join(&options.conf_file).exists() {
            let due = timers.due(Instant::now());
            let mut renewals =
                stream::iter(due).map(async |name| (renew(options, &name).await, name)).buffer_unordered(AT_ONCE);
            while let Some((renewed, name)) = renewals.next().await {
                if let Some(timer) = timers.0.get_mut(&name) {
                    timer.done(&name, renewed, metrics, events);
                }
            }
        }
        sleep_until(timers.next(Instant::now() + LOOK)).await;
    }
}

async fn renew(options: &Options, name: &LeaseName) -> Result<Renewal> {
    let conf = node_conf(&options.cni_conf_dir.join(&options.conf_file))?;
    let args = ["renew".to_owned(), name.to_string()];
    let printed = host_exec::plugin(options, &args, conf.to_json().as_bytes(), LIMIT).await?;
    serde_json::from_slice(&printed).map_err(|e| Error::Io(format!("the plugin's answer cannot be read: {e}")))
}

/// When each lease wants something.
#[derive(Debug, Default)]
struct Timers(BTreeMap<LeaseName, Timer>);

#[derive(Debug)]
struct Timer {
    /// Absent: never.
    due: Option<Instant>,
    /// The file that says so.
    written: Option<SystemTime>,
    /// What was said of it last.
    said: String,
}

impl Timers {
    /// Takes note of the leases that there are.
    fn look(&mut self, options: &Options) {
        let names = names(&options.state_dir);
        self.0.retain(|name, _| names.contains(name));
        for name in names {
            let path = options.state_dir.join(DIRECTORY).join(name.to_string());
            let written = fs::metadata(path).and_then(|file| file.modified()).ok();
            // One that is being written for the first time.
            if written.is_none() || self.0.get(&name).is_some_and(|timer| timer.written == written) {
                continue;
            }
            match Lease::read(&options.state_dir, &name).and_then(|lease| Ok((lease, uptime()?))) {
                Ok((Some(lease), now)) => {
                    let due = lease.due(now).map(|seconds| Instant::now() + Duration::from_secs(seconds));
                    let said = self.0.remove(&name).map(|timer| timer.said).unwrap_or_default();
                    self.0.insert(name, Timer { due, written, said });
                }
                Ok((None, _)) => {}
                Err(error) => {
                    warn!("DHCP lease {name} is not renewed: {error}");
                    self.0.insert(name, Timer { due: None, written, said: String::new() });
                }
            }
        }
    }

    fn due(&self, now: Instant) -> Vec<LeaseName> {
        let due = self.0.iter().filter(|(_, timer)| timer.due.is_some_and(|due| due <= now));
        due.map(|(name, _)| name.clone()).collect()
    }

    /// When to look again, at the latest then.
    fn next(&self, latest: Instant) -> Instant {
        self.0.values().filter_map(|timer| timer.due).chain([latest]).min().unwrap_or(latest)
    }
}

impl Timer {
    /// Sets the next time by what became of a try, and tells of it.
    fn done(&mut self, name: &LeaseName, renewed: Result<Renewal>, metrics: &Metrics, events: &EventSender) {
        let after = |seconds: u64| Instant::now() + Duration::from_secs(seconds.max(LEAST));
        let renewal = match renewed {
            Ok(renewal) => renewal,
            Err(fault) => {
                self.due = Some(Instant::now() + AGAIN);
                metrics.leases.tried("failed");
                return self.say(&format!("DHCP lease {name}: {fault}"));
            }
        };
        self.due = renewal.next.map(after);
        let Renewal { outcome, network, address, pod, .. } = &renewal;
        let network = network.as_ref().map(ToString::to_string).unwrap_or_default();
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        let what = format!("network {network} ({}): the DHCP lease of {address}", name.ifname);
        let (label, told) = match outcome {
            // A lease whose pod is gone waits for its DEL, or for a replay.
            Outcome::Waits | Outcome::Gone => return,
            Outcome::Renewed => ("renewed", None),
            Outcome::Silent { to_everybody: false } => ("silent", None),
            Outcome::Silent { to_everybody: true } => {
                ("silent", Some(("LeaseNotRenewed", format!("{what} ends soon, and no server has renewed it"))))
            }
            Outcome::Lost { why } | Outcome::StillLost { why } => {
                let text =
                    format!("{what} is lost, and the address is off the link until a server gives it again: {why}");
                (
                    if matches!(outcome, Outcome::Lost { .. }) { "lost" } else { "still_lost" },
                    Some(("AddressLost", text)),
                )
            }
            Outcome::Regained => {
                info!(pod = pod.as_ref().map(ToString::to_string), "{what} is there again");
                if let Some(pod) = pod {
                    events.added(pod, format!("Add {} [{address}] from {network} again", name.ifname));
                }
                ("regained", None)
            }
        };
        metrics.leases.tried(label);
        match told {
            None => self.said.clear(),
            Some((reason, text)) => {
                if let Some(pod) = pod.clone().filter(|_| self.said != text) {
                    events.warn(pod, reason, text.clone());
                }
                self.say(&text);
            }
        }
    }

    /// Logs what was not said last time.
    fn say(&mut self, text: &str) {
        if self.said != text {
            warn!("{text}");
            self.said = text.to_owned();
        }
    }
}
