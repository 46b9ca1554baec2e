//! The janitor: what admission cannot see. It counts the stored objects that break each AttachmentPolicy, and tells of definitions
//! that cannot stand beside one another and raced past admission, or came while nobody answered. It ends claims of VNIs whose
//! definition is gone, and takes nodes that are gone out of address blocks.
//!
//! The leader runs it, or `--janitor-only` does. A pass begins with nothing and ends with what it writes: a leader that is killed
//! leaves nothing behind, the next one begins anew, and two at once write the same.

mod alone;
mod batch;
mod census;
mod conflicts;
mod dialects;
mod networks;
mod objects;
mod options;
mod pass;
mod status;
mod told;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use meta_cni_kube::{Collection, Event, Versioned, follow_objects};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::certs::Clock;
use crate::cluster::Options as Rules;
use crate::facts::Cache;
use crate::leader::Leader;
use crate::{Options, Shared, Times};
use pass::Found;
use told::Told;

pub use alone::run_alone;
pub use options::JanitorOptions;

/// Pause until the pass after a policy that changed: many come at once.
const SOON: Duration = Duration::from_secs(1);
/// Pause after a pass that failed.
const AGAIN: Duration = Duration::from_secs(5);
/// Longest time of a pass: one that hangs is given up.
const LONGEST: Duration = Duration::from_secs(600);

/// Counts and tells.
pub struct Janitor {
    client: Client,
    clock: Clock,
    pause: Duration,
    replica: String,
    rules: Rules,
    shared: Arc<Shared>,
    changed: Notify,
}

impl Janitor {
    /// By the rules of admission.
    pub fn new(client: Client, options: &Options, times: &Times, shared: Arc<Shared>) -> Self {
        Self {
            client,
            clock: Arc::clone(&times.clock),
            pause: options.janitor.pause,
            replica: options.replica.clone(),
            rules: options.rules.of_rules(),
            shared,
            changed: Notify::new(),
        }
    }

    /// Works while this replica leads; never ends.
    pub async fn run(&self, leader: &Leader) {
        let mut leads = leader.watch();
        let mut told = Told::default();
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            tokio::select! {
                () = self.passes(&mut told) => {}
                () = self.follow_policies() => {}
                _ = leads.wait_for(|leads| !leads) => {}
            }
            // What stands is the next leader's to say.
            self.shared.metrics.janitor_conflicts.store(0, Ordering::Relaxed);
        }
    }

    async fn passes(&self, told: &mut Told) {
        let mut failing = false;
        loop {
            let passed = timeout(LONGEST, self.pass(told)).await;
            let passed = passed.unwrap_or_else(|_| Err(format!("no end within {LONGEST:?}")));
            self.shared.metrics.janitor_passed(passed.is_ok());
            let pause = match passed {
                Ok(()) => {
                    failing = false;
                    self.pause
                }
                Err(why) => {
                    if failing {
                        tracing::debug!("the janitor's pass: {why}");
                    } else {
                        tracing::warn!("the janitor's pass failed and is begun anew: {why}");
                    }
                    failing = true;
                    AGAIN.min(self.pause)
                }
            };
            tokio::select! {
                () = self.changed.notified() => sleep(SOON.min(self.pause)).await,
                () = sleep(pause) => {}
            }
        }
    }

    /// One pass: everything is read, then what differs is written. What could not be written keeps nothing else from it.
    async fn pass(&self, told: &mut Told) -> Result<(), String> {
        tracing::debug!("a pass of the janitor begins");
        // Whatever is made from here on may be missing in what was listed.
        let began = Timestamp::from_second((self.clock)()).map_err(|e| e.to_string())?;
        let Found { policies, conflicts, owners } = pass::look(&self.client, &self.rules).await?;
        let count = u64::try_from(conflicts.len()).unwrap_or(u64::MAX);
        self.shared.metrics.janitor_conflicts.store(count, Ordering::Relaxed);
        let seconds = (self.clock)();
        let now = Timestamp::from_second(seconds).map_err(|e| e.to_string())?;
        let mut failed = Vec::new();
        for (policy, outcome) in &policies {
            let next = status::next(policy.status.as_ref(), policy.generation, outcome, &now.to_string());
            if let Some(status) = next {
                failed.extend(objects::write(&self.client, policy, &status).await.err());
            }
        }
        for (key, conflict) in told.due(&conflicts, seconds) {
            match objects::tell(&self.client, conflict, key, &self.replica, now).await {
                Ok(()) => {
                    tracing::info!(definition = %conflict.reference, "a conflict: {}", conflict.text);
                    told.tell(key);
                }
                Err(why) => failed.push(why),
            }
        }
        let networks = objects::networks(&self.client).await?;
        failed.extend(objects::mend(&self.client, &networks::plan(&networks, &owners, began)).await);
        failed.into_iter().next().map_or(Ok(()), Err)
    }

    /// Asks for a pass when a policy is new or says something else; its status is no news.
    async fn follow_policies(&self) {
        let path = Cache::Policies.path();
        let name = Cache::Policies.name();
        let collection = Collection { what: &name, path: &path, labels: None, fields: None };
        let mut generations = HashMap::new();
        follow_objects(self.client.clone(), collection, |event: Event<Seen>| match event {
            Event::Listed(Seen { metadata }) | Event::Applied(Seen { metadata }) => {
                let generation = (metadata.uid, metadata.generation);
                if generations.insert(metadata.name, generation.clone()) != Some(generation) {
                    self.changed.notify_one();
                }
            }
            Event::Deleted(Seen { metadata }) => drop(generations.remove(&metadata.name)),
            Event::Begin | Event::End => {}
        })
        .await;
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Seen {
    metadata: SeenMeta,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SeenMeta {
    name: String,
    uid: String,
    generation: i64,
    resource_version: String,
}

impl Versioned for Seen {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}
