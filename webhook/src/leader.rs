//! Leadership by a Lease, so that one replica writes and the others need not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::sync::watch;
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
    strives: AtomicBool,
    leads: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<kube_lease_manager::Result<LeaseManager>>>>,
}

impl Leader {
    /// Nobody's leader yet. `name` is the Lease's.
    pub fn new(name: &str, options: &Options) -> Self {
        Self {
            name: name.to_owned(),
            namespace: options.namespace.clone(),
            replica: options.replica.clone(),
            strives: AtomicBool::new(false),
            leads: watch::Sender::new(false),
            task: Mutex::new(None),
        }
    }

    /// Does this replica lead, as far as it knows?
    pub fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// Can the Lease be had, as far as that depends on this replica?
    pub fn strives(&self) -> bool {
        self.strives.load(Ordering::Relaxed)
    }

    /// Tells when leadership comes or goes.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Strives for leadership; never ends.
    pub async fn run(&self, client: &Client) {
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
                    self.strives.store(true, Ordering::Relaxed);
                    loop {
                        let now = *leads.borrow_and_update();
                        if self.leads.send_replace(now) != now {
                            tracing::info!("{}", if now { "this replica leads" } else { "another replica leads" });
                        }
                        if leads.changed().await.is_err() {
                            break;
                        }
                    }
                    self.leads.send_replace(false);
                    self.strives.store(false, Ordering::Relaxed);
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
