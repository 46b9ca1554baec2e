//! `host-device`: a link of the node moves into the pod, and back.
//!
//! It is no link of ours: it carries no group, is in no list of a record's links, and is handed back before anything of
//! the pod is destroyed.

mod config;
mod find;
mod loan;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Interface};
use attachments::finding::Finding;

pub(super) use config::{Config, KEYS};

use self::find::Selected;
use self::loan::Loan;
use super::{Attached, compare, stacked};
use crate::apply::{self, Host, Sandbox};
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::nl::link::Link;
use crate::node_links;
use crate::spec::Addressing;

/// Before anything is attached: the node's own links are not lent. Whether the device is there and free is found with the ADD.
pub(super) fn admit(host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
    if !call.origin.is_tenants {
        return Ok(());
    }
    let config = Config::read(call.conf).map_err(Error::Config)?;
    let Some(device) = config.device.as_ref().filter(|_| !is_userspace(&config)) else { return Ok(()) };
    let links = host.netlink()?.links(None)?;
    match find::select(&links, device) {
        Ok(Selected { key, value, link: Some(link) }) => node_links::keep(host, call, link, |reason| {
            Finding::new(key, value, format!("a device that is not the node's own: {reason}"))
        }),
        Ok(Selected { link: None, .. }) | Err(_) => Ok(()),
    }
}

/// ADD.
pub(super) fn attach(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    call: &Call<'_>,
    point: &Point<'_>,
    leased: Option<CniResult>,
) -> Result<Attached> {
    let config = Config::read(call.conf).map_err(Error::Config)?;
    let mut result = match leased {
        Some(leased) => CniResult { dns: config.dns.clone(), ..leased },
        None => CniResult::default(),
    };
    for ip in &mut result.ips {
        ip.interface = Some(0);
    }
    let mut interface =
        Interface { name: point.ifname.to_string(), sandbox: point.netns.to_owned(), ..Interface::default() };
    if !is_userspace(&config) {
        // One address, and one PCI device, may have several links: which is the first one now was not asked before.
        admit(host, call)?;
        let link = take(host, sandbox, point, &config, &result)?;
        interface.mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    }
    result.interfaces = vec![interface];
    Ok(Attached { result, links: Vec::new() })
}

/// A device that a program drives has no link: what the program needs is in the result.
fn is_userspace(config: &Config) -> bool {
    config.pci.as_deref().is_some_and(find::is_userspace)
}

fn take(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    point: &Point<'_>,
    config: &Config,
    result: &CniResult,
) -> Result<Link> {
    let missing =
        || Finding::missing("device", "a name here, or one of hwaddr, kernelpath, pciBusID, runtimeConfig.deviceID");
    let link = find::device(host.netlink()?, config.device.as_ref().ok_or_else(missing)?)?;
    apply::require_free(sandbox, point.ifname)?;
    let loan = Loan::of(host, sandbox, &link)?;
    host.save(&loan.state())?;
    let taken = loan.lend(host, sandbox, point.ifname).and_then(|()| {
        let link = sandbox.made(point.ifname)?;
        apply::configure(sandbox, link.index, &Addressing::of(point.ifname, result))?;
        Ok(link)
    });
    if taken.is_err() {
        // The first error tells more than a second one would; DEL does this again.
        let _ = loan.end(host, Some(sandbox));
    }
    taken
}

/// DEL: the device goes back. Without a record what the reference plugin lent goes back by its alias.
pub(super) fn hand_back(
    host: &mut Host<'_>,
    mut sandbox: Option<&mut Sandbox>,
    point: &Point<'_>,
    saved: &[&Object],
) -> Result<()> {
    for state in saved {
        if let Some(loan) = Loan::from_state(state)? {
            loan.end(host, sandbox.as_deref_mut())?;
        }
    }
    match sandbox {
        Some(sandbox) if saved.is_empty() => {
            let lent = sandbox.netlink.link_by_name(point.ifname)?;
            match lent.as_ref().and_then(Loan::unrecorded) {
                Some(loan) => loan.end(host, Some(sandbox)),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// CHECK.
pub(super) fn check(sandbox: &mut Sandbox, call: &Call<'_>, point: &Point<'_>) -> Result<()> {
    let config = Config::read(call.conf).map_err(Error::Config)?;
    let expected = compare::expected(call)?;
    if is_userspace(&config) {
        return Ok(());
    }
    let link = compare::pod_link(sandbox, point, expected, None)?;
    compare::is_up(&link)?;
    compare::addressing(sandbox, &link, expected)
}

/// STATUS: the device is on the node and in nobody's use: one that a pod holds cannot be given to another.
pub(super) fn status(host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
    let config = Config::read(call.conf).map_err(Error::Config)?;
    match &config.device {
        Some(device) if !is_userspace(&config) => {
            find::device(host.netlink()?, device).map(drop).map_err(stacked::not_ready)
        }
        // Which device it is the runtime says with the ADD.
        _ => Ok(()),
    }
}
