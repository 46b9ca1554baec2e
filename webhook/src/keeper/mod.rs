//! Brings about what [`plan`] says, serves what is stored, and says whether it is all in place.
//!
//! Every replica watches the Secret of the certificate and serves it. The leader alone writes Secrets and `caBundle`. Leadership
//! only saves work: two leaders at once lose writes to each other's and read again.

mod objects;
mod watched;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::certs::authorities::{Authorities, Stored};
use crate::certs::leaf::Leaf;
use crate::certs::plan::{self, REPORTED, Report, Seen, Step};
use crate::certs::{ServiceName, Unix, mint, x509};
use crate::leader::Leader;
use crate::{Options, Shared, Times, dial, readiness};
use objects::{Failure, Kept, Objects};

/// The most steps in one look. A first start takes four.
const STEPS: usize = 10;
/// Pause after a look that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest time of a look: a call that hangs is given up.
const LOOK: Duration = Duration::from_secs(30);

/// Keeps certificates and registration as they should be.
pub struct Keeper {
    objects: Objects,
    client: Client,
    name: ServiceName,
    times: Times,
    shared: Arc<Shared>,
    address: SocketAddr,
    replica: String,
    /// Others keep the certificate.
    is_foreign: bool,
    leader: Arc<Leader>,
    changed: Notify,
    reported: Mutex<Option<(String, Unix)>>,
}

/// Everything that is stored, as one look found it.
struct Found {
    authorities: Kept<Authorities>,
    leaf: Kept<Leaf>,
    published: objects::Published,
}

impl Keeper {
    /// For a server that listens at `address`.
    pub fn new(
        client: Client,
        options: &Options,
        times: &Times,
        shared: Arc<Shared>,
        leader: Arc<Leader>,
        address: SocketAddr,
    ) -> Self {
        Self {
            objects: Objects::new(client.clone(), options),
            leader,
            client,
            name: options.name(),
            times: times.clone(),
            shared,
            address,
            replica: options.replica.clone(),
            is_foreign: options.tls_secret.is_some(),
            changed: Notify::new(),
            reported: Mutex::new(None),
        }
    }

    /// Keeps; never ends.
    pub async fn run(&self) {
        let changed = || self.changed.notify_one();
        let watch = async |path: watched::Path| watched::follow_named(&self.client, &path, changed).await;
        let [validating, mutating] = self.objects.configuration_paths();
        tokio::join!(
            watch(self.objects.leaf_path()),
            watch(validating),
            watch(mutating),
            async {
                if !self.is_foreign {
                    watch(self.objects.authorities_path()).await;
                }
            },
            self.look_again(),
        );
    }

    async fn look_again(&self) {
        let mut failing = false;
        let mut leads = self.leader.watch();
        loop {
            let looked = timeout(LOOK, self.look()).await;
            let looked = looked.unwrap_or_else(|_| Err(Failure::Other(format!("no end within {LOOK:?}"))));
            let pause = match looked {
                Ok(()) => {
                    failing = false;
                    self.times.pause
                }
                Err(why) => {
                    if failing {
                        tracing::debug!("certificates and registration: {why}");
                    } else {
                        tracing::warn!("certificates and registration are looked at again: {why}");
                    }
                    failing = true;
                    AGAIN.min(self.times.pause)
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                Ok(()) = leads.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// One look: what is stored is served, the steps that are due are taken.
    async fn look(&self) -> Result<(), Failure> {
        let mut found = self.found().await?;
        let mut looked = Ok(());
        if !self.is_foreign && self.leader.leads() {
            for _ in 0..STEPS {
                let reports = self.objects.reports().await?;
                let Some(step) = self.next(&found, &reports) else { break };
                match self.take(&found, step).await {
                    // Somebody else was sooner: what is stored now is read.
                    Ok(()) | Err(Failure::Conflict) => {}
                    Err(why) => {
                        looked = Err(why);
                        break;
                    }
                }
                found = self.found().await?;
            }
        }
        self.judge(&found).await;
        looked?;
        self.report().await
    }

    async fn found(&self) -> Result<Found, Failure> {
        let leaf = self.objects.leaf().await?;
        let published = self.objects.published().await?;
        let authorities = if self.is_foreign { Kept::absent() } else { self.objects.authorities().await? };
        self.serve(&leaf.stored, &published);
        Ok(Found { authorities, leaf, published })
    }

    /// Serves what is stored, unless API servers trust only what is served already.
    fn serve(&self, leaf: &Stored<Leaf>, published: &objects::Published) {
        let leaf = match leaf {
            Stored::Sound(leaf) => leaf,
            Stored::Absent => return,
            Stored::Broken(why, _) => {
                self.shared.metrics.certificate_failures.fetch_add(1, Ordering::Relaxed);
                return tracing::warn!("the Secret of the certificate cannot be used: {why}");
            }
        };
        let now = (self.times.clock)();
        let is_trusted = |pair: &crate::certs::pair::Pair| {
            published.all(|bundle| x509::verify(&pair.chain, bundle, &self.name.called(), now).is_ok())
        };
        let keeps = self.shared.served.pair().is_some_and(|pair| is_trusted(&pair) && !is_trusted(&leaf.pair));
        if !keeps && self.shared.served.serve(&leaf.pair) {
            let facts = &leaf.pair.facts;
            tracing::info!(serial = facts.serial, until = facts.not_after, "another certificate is served");
        }
    }

    fn next(&self, found: &Found, reports: &[Report]) -> Option<Step> {
        let serving = self.shared.served.pair();
        plan::next(&Seen {
            now: (self.times.clock)(),
            lifetimes: self.times.lifetimes,
            name: &self.name,
            authorities: &found.authorities.stored,
            leaf: &found.leaf.stored,
            published: found.published.bundles(),
            reports,
            serving: serving.as_deref(),
        })
    }

    async fn take(&self, found: &Found, step: Step) -> Result<(), Failure> {
        let (now, lifetimes) = ((self.times.clock)(), self.times.lifetimes);
        let authorities = || found.authorities.stored.sound().cloned().ok_or(Failure::Conflict);
        match step {
            Step::Mint { old, until, why } => {
                tracing::info!(old = old.len(), "a new authority is made: {why}");
                let pair = mint::authority(now, lifetimes.authority).map_err(Failure::Other)?;
                self.objects.store_authorities(&found.authorities, &Authorities::new(pair, old, until)).await
            }
            Step::Publish(bundle) => {
                tracing::info!(authorities = bundle.len(), "caBundle is published");
                self.objects.publish(&found.published, &x509::to_pem(&bundle)).await
            }
            Step::NotePublished => {
                let authorities = Authorities { published_since: Some(now), ..authorities()? };
                self.objects.store_authorities(&found.authorities, &authorities).await
            }
            Step::Issue { why } => {
                tracing::info!("a new certificate is issued: {why}");
                let authorities = authorities()?;
                let pair = mint::leaf(&authorities.signing, &self.name.all(), now, lifetimes.leaf);
                let pair = pair.map_err(Failure::Other)?;
                self.objects.store_leaf(&found.leaf, &Leaf { pair, authorities: authorities.bundle() }).await
            }
            Step::DropOld => {
                tracing::info!("earlier authorities are trusted no more");
                let authorities = Authorities { old: Vec::new(), ..authorities()? };
                self.objects.store_authorities(&found.authorities, &authorities).await
            }
        }
    }

    /// Says what this comes to.
    async fn judge(&self, found: &Found) {
        let pair = self.shared.served.pair();
        let bundles = found.published.bundles();
        let now = (self.times.clock)();
        let mut blockers = readiness::blockers(now, &self.name, pair.as_deref(), bundles);
        let in_sync = pair.as_ref().is_some_and(|pair| {
            !bundles.is_empty()
                && found.published.all(|bundle| x509::verify(&pair.chain, bundle, &self.name.called(), now).is_ok())
        });
        let metrics = &self.shared.metrics;
        metrics.bundle_in_sync.store(in_sync, Ordering::Relaxed);
        let expiry = pair.as_ref().map_or(0, |pair| pair.facts.not_after);
        metrics.certificate_expiry.store(expiry, Ordering::Relaxed);
        if blockers.is_empty()
            && let Some(bundle) = bundles.first()
            && let Err(why) = dial::handshake(self.address, &self.name.called(), bundle).await
        {
            blockers.push(format!("a call to itself: {why}"));
        }
        self.shared.readiness.found(blockers);
    }

    /// Says what is served, so that no authority goes whose certificate is.
    async fn report(&self) -> Result<(), Failure> {
        let Some(pair) = self.shared.served.pair().filter(|_| !self.is_foreign) else { return Ok(()) };
        let now = (self.times.clock)();
        let serial = pair.facts.serial.clone();
        let reported = || self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*reported(), Some((last, at)) if *last == serial && (at - now).abs() < REPORTED) {
            return Ok(());
        }
        self.objects.report(&Report { replica: self.replica.clone(), serial: serial.clone(), at: now }).await?;
        *reported() = Some((serial, now));
        Ok(())
    }
}
