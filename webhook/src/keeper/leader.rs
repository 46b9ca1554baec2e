//! Leadership by a Lease, so that one replica writes and the others need not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::Options;

/// A leader that is not heard of for so long is replaced; it says so this much sooner.
const LEASE: (u64, u64) = (15, 5);
/// Pause until a Lease that cannot be had is asked for again.
const AGAIN: Duration = Duration::from_secs(2);
/// Longest time for giving it away.
const LEAVE: Duration = Duration::from_secs(2);

/// Does this replica lead?
pub struct Leader {
    name: String,
    namespace: String,
    replica: String,
    leads: AtomicBool,
    task: Mutex<Option<JoinHandle<kube_lease_manager::Result<LeaseManager>>>>,
}

impl Leader {
    /// Nobody's leader yet.
    pub fn new(options: &Options) -> Self {
        Self {
            name: options.service.clone(),
            namespace: options.namespace.clone(),
            replica: options.replica.clone(),
            leads: AtomicBool::new(false),
            task: Mutex::new(None),
        }
    }

    /// Does this replica lead, as far as it knows?
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    /// Strives for leadership; never ends. `changed` is called when it comes or goes.
    pub async fn run(&self, client: &Client, changed: impl Fn()) {
        loop {
            let builder = LeaseManagerBuilder::new(client.clone(), self.name.clone())
                .with_namespace(self.namespace.clone())
                .with_identity(self.replica.clone())
                .with_duration(LEASE.0)
                .with_grace(LEASE.1);
            match builder.build().await {
                Ok(manager) => {
                    let (mut leads, task) = manager.watch().await;
                    *self.task() = Some(task);
                    loop {
                        let now = *leads.borrow_and_update();
                        if self.leads.swap(now, Ordering::Relaxed) != now {
                            tracing::info!("{}", if now { "this replica leads" } else { "another replica leads" });
                            changed();
                        }
                        if leads.changed().await.is_err() {
                            break;
                        }
                    }
                    self.leads.store(false, Ordering::Relaxed);
                }
                Err(error) => tracing::warn!("no Lease {}/{}: {error}", self.namespace, self.name),
            }
            sleep(AGAIN).await;
        }
    }

    /// Waits until the Lease is given away. [`Self::run`] has been dropped before.
    pub async fn leave(&self) {
        let task = self.task().take();
        if let Some(task) = task
            && timeout(LEAVE, task).await.is_err()
        {
            tracing::warn!("the Lease is not given away; it ends by itself");
        }
    }

    fn task(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<kube_lease_manager::Result<LeaseManager>>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
