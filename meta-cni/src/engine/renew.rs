//! `meta-cni renew`: what a DHCP lease wants now, without a call of the runtime. The agent starts it when it is time.

use delegates::error::Error;
use delegates::ipam::dhcp::LeaseName;
use delegates::ipam::dhcp::renew::{self, Outcome, Renewal};

use super::lock::SandboxLock;
use super::run::Run;
use crate::fault::{Fault, Result};

/// Seconds until the next try, where a call is at work on the sandbox.
const SOON: u64 = 2;

/// Serves one lease, under the lock of its sandbox: no DEL runs beside it.
pub fn renew(run: &Run<'_>, lease: &LeaseName) -> Result<Renewal> {
    let Some(lock) = SandboxLock::try_acquire(&run.store.locks(), &lease.container)? else {
        return Ok(Renewal::of_nothing(Outcome::Waits, Some(SOON)));
    };
    let fault = |source: Error| Fault::Delegate { subject: format!("DHCP lease {lease}"), source };
    let mut renewal = renew::renew(&run.node(Some(lock.file())), lease).map_err(fault)?;
    for key in run.store.keys()?.into_iter().filter(|key| key.container == lease.container) {
        let intent = run.store.find(&key)?.and_then(|found| found.record.intent);
        renewal.pod = renewal.pod.or(intent.and_then(|intent| intent.pod));
    }
    Ok(renewal)
}
