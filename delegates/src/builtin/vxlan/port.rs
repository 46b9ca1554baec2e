//! What the overlay takes from a pod's port.

use attachments::names::Mac;

use super::config::Config;
use super::managed;
use crate::builtin::veth::Veth;
use crate::call::Point;
use crate::error::{Error, Result};
use crate::firewall::pod_ports;
use crate::host::Host;
use crate::nl::link::Link;

/// What a kernel lacks that cannot do what was asked for.
const MISSING: &str = "macspoofchk, bumRate: this kernel has no nf_tables for links (family netdev)";

/// Guards a port before the pod's end goes up, and so before its first frame.
pub(super) fn guard(
    host: &mut Host<'_>,
    point: &Point<'_>,
    config: &Config,
    veth: &Veth,
    is_managed: bool,
) -> Result<()> {
    let guard = config.guard(veth.pod.mac);
    if let (true, Some(mac)) = (is_managed, guard.mac) {
        managed::settle(host, veth.host_index, mac)?;
    }
    let deadline = host.node.deadline;
    let added = pod_ports::add(point, &veth.host.name, &guard, deadline);
    match added {
        // Nobody asked for it by name: an overlay goes on where the kernel cannot guard it.
        Err(_) if !config.asks_for_guard() && !pod_ports::is_supported(deadline)? => Ok(()),
        other => other,
    }
}

/// CHECK: the rules of the port are there.
pub(super) fn check(host: &Host<'_>, point: &Point<'_>, config: &Config, port: &Link, mac: Option<Mac>) -> Result<()> {
    let deadline = host.node.deadline;
    let Some(mac) = mac else { return Ok(()) };
    if !config.asks_for_guard() && !pod_ports::is_supported(deadline)? {
        return Ok(());
    }
    pod_ports::check(point, &port.name, &config.guard(mac), deadline)
}

/// STATUS: the kernel can do what was asked for by name.
pub(super) fn status(host: &Host<'_>, config: &Config) -> Result<()> {
    if !config.asks_for_guard() || pod_ports::is_supported(host.node.deadline)? {
        return Ok(());
    }
    Err(Error::NotReady(MISSING.to_owned()))
}
