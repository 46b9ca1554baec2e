//! `loopback`: the pod's `lo`, whatever CNI_IFNAME says. It is no link of ours: it carries no group and is in no record.

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Interface, Ip};
use attachments::names::IfName;

use super::delegate::{Context, Delegate, Reading};
use super::{Attached, check};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ipam::Leased;
use crate::nl::link::{Link, LinkChange};
use crate::sandbox::Sandbox;

/// The delegate.
pub(super) struct Loopback;

impl Delegate for Loopback {
    const TYPE: &'static str = "loopback";
    const KEYS: &'static [&'static str] = &[];
    const TAKES_ADDRESSES: bool = false;

    type Config = ();

    fn read(_conf: &Object) -> Reading<()> {
        Ok(())
    }

    /// Sets `lo` up and tells its first address of each family. The result of a plugin before passes unchanged.
    fn add((): &(), cx: Context<'_, '_>, _leased: Leased) -> Result<Attached> {
        let Context { sandbox, call, point, .. } = cx;
        let link = find(sandbox)?;
        sandbox.netlink.set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
        let held = sandbox.netlink.addresses(Some(link.index))?;
        if let Some(other) = held.iter().find(|address| !address.net.addr().is_loopback()) {
            return Err(Error::Addresses(format!(
                "lo of the pod has address {}, which is no loopback address",
                other.net
            )));
        }
        if let Some(previous) = call.prev_result {
            return Ok(Attached::nothing(previous.clone()));
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
        Ok(Attached::nothing(CniResult { interfaces: vec![interface], ips, ..CniResult::default() }))
    }

    /// `lo` is up, and holds what the result says of it.
    fn check((): &(), cx: Context<'_, '_>) -> Result<()> {
        let link = find(cx.sandbox)?;
        check::is_up(&link)?;
        cx.call.prev_result.map_or(Ok(()), |expected| check::addresses(cx.sandbox, &link, expected))
    }

    fn status((): &(), _host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        Ok(())
    }
}

fn find(sandbox: &mut Sandbox) -> Result<Link> {
    let name: IfName = "lo".parse()?;
    let found = sandbox.netlink.link_by_name(&name)?;
    found.ok_or_else(|| Error::Differs("link lo is missing in the pod".to_owned()))
}
