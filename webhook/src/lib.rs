//! Admission: what the API server asks before an object is stored, and what we answer.
//!
//! [`review`] is pure: a review and the [`facts`] of the cluster in, a review out; [`mutate`] says what an object becomes before. [`serve`] brings it over TLS, [`certs`] says
//! which certificates there must be, [`keeper`] brings them about and registers us with the API server, and [`readiness`] says
//! whether all of it is in place. [`janitor`] looks at what is stored, and one replica runs it: the [`leader`].

#![forbid(unsafe_code)]

pub mod certs;
pub mod cluster;
pub mod dial;
pub mod error;
pub mod facts;
pub mod janitor;
pub mod keeper;
pub mod leader;
pub mod metrics;
pub mod mutate;
pub mod options;
pub mod readiness;
pub mod review;
pub mod rules;
pub mod serve;
mod text;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use certs::served::Served;
use certs::{Clock, Lifetimes};
use error::{Error, Result};
use facts::Facts;
use janitor::Janitor;
use keeper::Keeper;
use leader::Leader;
use meta_cni_kube::Reader;
use meta_cni_kube::log::Levels;
use metrics::Metrics;
use mutate::Mutator;
use mutate::claim::Claimer;
use mutate::lock::Locker;
use readiness::Readiness;

pub use options::{Options, RuleOptions};

/// What is another in tests: the clock, and how long certificates live.
#[derive(Clone)]
pub struct Times {
    /// Tells the time by which certificates are judged and made.
    pub clock: Clock,
    /// How long they live.
    pub lifetimes: Lifetimes,
    /// Pause between two looks at everything. What is watched is looked at when it changes.
    pub pause: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { clock: certs::clock(), lifetimes: Lifetimes::default(), pause: Duration::from_secs(30) }
    }
}

/// What the parts share.
pub struct Shared {
    /// What is known of the cluster.
    pub facts: Facts,
    /// What changes objects.
    pub mutator: Mutator,
    /// What is counted.
    pub metrics: Metrics,
    /// What is not in place yet.
    pub readiness: Readiness,
    /// The pair of handshakes.
    pub served: Served,
}

/// Serves until SIGTERM or SIGINT. `levels` are those of the log, which somebody in the pod may change.
pub fn run(options: &Options, levels: Levels) -> Result<()> {
    run_until(options, &Times::default(), levels, async {
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            return;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Serves until `end`, then lets what is under way finish.
pub fn run_until(options: &Options, times: &Times, levels: Levels, end: impl Future<Output = ()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::Io(format!("cannot start the runtime: {e}")))?;
    if options.janitor.only {
        return runtime.block_on(janitor::run_alone(options, times, levels, end));
    }
    runtime.block_on(serve_until(options, times, levels, end))
}

async fn serve_until(options: &Options, times: &Times, levels: Levels, end: impl Future<Output = ()>) -> Result<()> {
    let (client, _) = meta_cni_kube::client(options.kubeconfig.as_deref()).await?;
    let shared = Arc::new(Shared {
        facts: Facts::new(options.rules.of_rules(), options.rules.default_level).asking(Reader::new(client.clone())),
        mutator: Mutator::new(&options.mutate).claiming(Claimer::new(client.clone())).locking(Locker::new(
            client.clone(),
            &options.namespace,
            times.clock.clone(),
        )),
        metrics: Metrics::default(),
        readiness: Readiness::default(),
        served: Served::default(),
    });
    let callers = options.client_ca.as_deref().map(serve::callers).transpose()?;
    let listener = serve::bind(options.listen)?;
    let admin = serve::bind(options.admin)?;
    let at = |listener: &tokio::net::TcpListener| listener.local_addr().map_err(|e| Error::Io(e.to_string()));
    let address = at(&listener)?;
    tracing::info!(%address, admin = %at(&admin)?, "the webhook serves");
    let (stop, stopped) = watch::channel(false);
    let leader = Arc::new(Leader::new(&options.service, options));
    let keeper = Keeper::new(client.clone(), options, times, Arc::clone(&shared), Arc::clone(&leader), address);
    let janitor = Janitor::new(client.clone(), options, times, Arc::clone(&shared));
    let parts = async {
        tokio::join!(
            facts::feed(client.clone(), &shared.facts),
            shared.mutator.injectors.follow(client.clone(), |injects| {
                shared.metrics.injection.store(injects, Ordering::Relaxed);
            }),
            serve::admin::serve(admin, Arc::clone(&shared), levels),
            keeper.run(),
            leader.run(&client),
            janitor.run(&leader),
        );
    };
    let served = serve::serve(listener, Arc::clone(&shared), callers, stopped);
    tokio::pin!(served);
    let ended = async {
        end.await;
        // Endpoints are told of the end at the same time as we are: whoever did not hear of it yet still comes.
        shared.readiness.stop();
        tracing::info!(delay = ?options.shutdown_delay, "told to stop: serving on while API servers hear of it");
        tokio::time::sleep(options.shutdown_delay).await;
        let _ = stop.send(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = &mut served => {}
        () = parts => {}
        () = ended => {}
    }
    leader.leave().await;
    tracing::info!("the end");
    Ok(())
}
