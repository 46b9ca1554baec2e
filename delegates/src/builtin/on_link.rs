//! Addresses that came over the link that they are for.

use attachments::cni::result::CniResult;

use super::Attached;
use super::delegate::Context;
use crate::apply;
use crate::error::Result;
use crate::ipam::dhcp;
use crate::spec::Addressing;

/// Gives the pod's link what it was leased; the result of the link then tells of it.
pub(super) fn give(cx: Context<'_, '_>, mut attached: Attached, leased: CniResult) -> Result<Attached> {
    let Context { sandbox, point, .. } = cx;
    let link = sandbox.made(point.ifname)?;
    let CniResult { mut ips, routes, .. } = leased;
    let is_the_pods = |name: &str, sandbox: &str| name == point.ifname.as_str() && !sandbox.is_empty();
    let at = attached.result.interfaces.iter().position(|one| is_the_pods(&one.name, &one.sandbox));
    for ip in &mut ips {
        ip.interface = at.and_then(|at| i64::try_from(at).ok());
    }
    (attached.result.ips, attached.result.routes) = (ips, routes);
    apply::configure(sandbox, link.index, &Addressing::of(point.ifname, &attached.result, sandbox.accept_ra))?;
    // The link was up before: the kernel itself announces only what a link comes up with.
    // Neighbours that do not hear of it find out by themselves.
    let _ = dhcp::announce(sandbox, &link, &attached.result);
    Ok(attached)
}
