//! `--janitor-only`: the janitor with a Lease of its own, its probes and its metrics. Nobody is admitted or refused.

use std::sync::Arc;
use std::time::Duration;

use meta_cni_kube::log::Levels;
use tokio::time::sleep;

use super::Janitor;
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::leader::Leader;
use crate::metrics::Metrics;
use crate::mutate::Mutator;
use crate::readiness::Readiness;
use crate::{Options, Shared, Times, serve};

/// The Lease. It is not the webhook's: its leader keeps certificates, which nobody does here.
const LEASE: &str = "meta-cni-janitor";
/// Pause between two looks at what readiness waits for.
const LOOK: Duration = Duration::from_millis(200);
/// After so many of them without the Lease somebody else has it.
const STANDING_BY: u32 = 15;

/// Runs until `end`.
pub async fn run_alone(options: &Options, times: &Times, levels: Levels, end: impl Future<Output = ()>) -> Result<()> {
    let (client, _) = meta_cni_kube::client(options.kubeconfig.as_deref()).await?;
    let shared = Arc::new(Shared {
        facts: Facts::default(),
        mutator: Mutator::new(&options.mutate),
        metrics: Metrics::default(),
        readiness: Readiness::of_janitor(),
        served: Default::default(),
    });
    let admin = serve::bind(options.admin)?;
    let address = admin.local_addr().map_err(|e| Error::Io(e.to_string()))?;
    tracing::info!(admin = %address, "the janitor works alone");
    let leader = Leader::new(LEASE, options);
    let janitor = Janitor::new(client.clone(), options, times, Arc::clone(&shared));
    tokio::select! {
        _ = async { tokio::join!(
            serve::admin::serve(admin, Arc::clone(&shared), levels),
            leader.run(&client),
            janitor.run(&leader),
            judge(&shared, &leader),
        ) } => {}
        () = end => {}
    }
    leader.leave().await;
    tracing::info!("the end");
    Ok(())
}

/// Ready is whoever has passed once, and whoever stands by for the one that leads.
async fn judge(shared: &Shared, leader: &Leader) {
    let mut standing_by = 0;
    while !shared.metrics.janitor_has_passed() && standing_by < STANDING_BY {
        sleep(LOOK).await;
        standing_by = if leader.strives() && !leader.leads() { standing_by + 1 } else { 0 };
    }
    shared.readiness.found(Vec::new());
}
