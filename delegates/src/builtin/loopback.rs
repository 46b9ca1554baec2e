//! `loopback`: the pod's `lo`, whatever CNI_IFNAME says. It is no link of ours: it carries no group and is in no record.

use attachments::cni::result::{CniResult, Interface, Ip};
use attachments::names::IfName;

use super::{Attached, compare};
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::nl::link::{Link, LinkChange};
use crate::sandbox::Sandbox;

/// ADD: sets `lo` up and tells its first address of each family. The result of a plugin before passes unchanged.
pub(super) fn attach(sandbox: &mut Sandbox, call: &Call<'_>, point: &Point<'_>) -> Result<Attached> {
    let link = find(sandbox)?;
    sandbox.netlink.set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    let held = sandbox.netlink.addresses(Some(link.index))?;
    if let Some(other) = held.iter().find(|address| !address.net.addr().is_loopback()) {
        return Err(Error::Addresses(format!("lo of the pod has address {}, which is no loopback address", other.net)));
    }
    if let Some(previous) = call.prev_result {
        return Ok(Attached { result: previous.clone(), links: Vec::new() });
    }
    let first = |v4: bool| held.iter().map(|address| address.net).find(|net| net.addr().is_ipv4() == v4);
    let told = |address| Ip { address, gateway: None, interface: Some(0), other: Default::default() };
    let interface = Interface {
        name: link.name,
        mac: "00:00:00:00:00:00".to_owned(),
        sandbox: point.netns.to_owned(),
        ..Interface::default()
    };
    let ips = [first(true), first(false)].into_iter().flatten().map(told).collect();
    Ok(Attached { result: CniResult { interfaces: vec![interface], ips, ..CniResult::default() }, links: Vec::new() })
}

/// CHECK: `lo` is up, and holds what the result says of it.
pub(super) fn check(sandbox: &mut Sandbox, call: &Call<'_>) -> Result<()> {
    let link = find(sandbox)?;
    compare::is_up(&link)?;
    call.prev_result.map_or(Ok(()), |expected| compare::addresses(sandbox, &link, expected))
}

fn find(sandbox: &mut Sandbox) -> Result<Link> {
    let name: IfName = "lo".parse()?;
    let found = sandbox.netlink.link_by_name(&name)?;
    found.ok_or_else(|| Error::Differs("link lo is missing in the pod".to_owned()))
}
