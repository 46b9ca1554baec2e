//! `host-device`: a link of the node moves into the pod, and back.
//!
//! It is no link of ours: it carries no group, is in no list of a record's links, and is handed back before anything of
//! the pod is destroyed.

mod belongings;
mod config;
mod find;
mod home;
mod identity;
mod saved_device;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Interface};
use attachments::finding::Finding;
use attachments::rule::Rule;

use nix::errno::Errno;

use self::config::{Config, KEYS, Selector};
use self::find::Selected;
use self::home::End;
use self::saved_device::SavedDevice;
use super::delegate::{Context, Delegate, Reading, Undo};
use super::{Attached, check, parent_link};
use crate::apply;
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::host::{Astray, Host};
use crate::ipam::Leased;
use crate::nl::link::Link;
use crate::node_links;
use crate::sandbox::Sandbox;
use crate::saved_states::SavedStates;
use crate::spec::Addressing;

/// The delegate.
pub(super) struct HostDevice;

impl Delegate for HostDevice {
    const TYPE: &'static str = "host-device";
    const KEYS: &'static [&'static str] = &KEYS;
    const PATHS: &'static [&'static str] = &["kernelpath"];

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    /// Whether the device is there and free is found with the ADD.
    fn admit(config: Result<&Config>, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        refuse_own(config?, host, call)
    }

    fn add(config: &Config, cx: Context<'_, '_>, leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let mut result = leased.result;
        if !result.ips.is_empty() {
            result.dns = config.dns.clone();
        }
        for ip in &mut result.ips {
            ip.interface = Some(0);
        }
        let mut interface =
            Interface { name: point.ifname.to_string(), sandbox: point.netns.to_owned(), ..Interface::default() };
        if !is_userspace(config) {
            let link = take(host, sandbox, call, point, config, &result)?;
            interface.mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
        }
        result.interfaces = vec![interface];
        Ok(Attached { result, links: Vec::new() })
    }

    /// The device goes back. Without a record what the reference plugin lent goes back by its alias.
    fn restore(cx: Undo<'_, '_>, mut sandbox: Option<&mut Sandbox>, saved: &[&Object]) -> Result<()> {
        let Undo { host, point, .. } = cx;
        for device in SavedDevice::unreturned(saved.iter().copied())? {
            end(host, sandbox.as_deref_mut(), &device)?;
        }
        match sandbox {
            Some(sandbox) if saved.is_empty() => {
                let lent = sandbox.netlink.link_by_name(point.ifname)?;
                match lent.as_ref().and_then(SavedDevice::unrecorded) {
                    Some(device) => end(host, Some(sandbox), &device),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { sandbox, call, point, .. } = cx;
        let expected = check::expected(call)?;
        if is_userspace(config) {
            return Ok(());
        }
        let link = check::pod_link(sandbox, point, expected, None)?;
        check::is_up(&link)?;
        check::addressing(sandbox, &link, expected)
    }

    /// The device is on the node and in nobody's use: one that a pod holds cannot be given to another.
    fn status(config: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        match &config.device {
            Some(device) if !is_userspace(config) => {
                find::device(host.netlink()?, device).map(drop).map_err(parent_link::not_ready)
            }
            // Which device it is the runtime says with the ADD.
            _ => Ok(()),
        }
    }
}

/// The node's own links are not lent to tenants.
fn refuse_own(config: &Config, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
    let Some(device) = config.device.as_ref().filter(|_| !is_userspace(config)) else { return Ok(()) };
    let links = host.netlink()?.links(None)?;
    match find::select(&links, device) {
        Ok(Selected { key, value, link: Some(link) }) => node_links::keep(host, call, link, |reason| {
            Finding::new(key, value, format!("a device that is not the node's own: {reason}"))
        }),
        Ok(Selected { link: None, .. }) | Err(_) => Ok(()),
    }
}

/// A device that a program drives has no link: what the program needs is in the result.
fn is_userspace(config: &Config) -> bool {
    config.pci.as_deref().is_some_and(find::is_userspace)
}

fn take(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    call: &Call<'_>,
    point: &Point<'_>,
    config: &Config,
    result: &CniResult,
) -> Result<Link> {
    let missing = || {
        Finding::missing("device", "a name here, or one of hwaddr, kernelpath, pciBusID, runtimeConfig.deviceID")
            .of(Rule::Device)
    };
    let link = returned(host, config.device.as_ref().ok_or_else(missing)?)?;
    // One address, and one PCI device, may have several links; and a device that has just come home has its addresses again.
    if call.origin.is_tenants {
        refuse_own(config, host, call)?;
    }
    apply::require_free(sandbox, point.ifname)?;
    let device = SavedDevice::of(host, sandbox, &link)?;
    host.save(&device.state())?;
    let lent = device.lend(host, sandbox, point.ifname);
    if apply::is(&lent, Errno::ENODEV) {
        // Another ADD was quicker: that one has to give it back.
        let _ = host.save(&device.returned());
    }
    let taken = lent.and_then(|()| {
        let link = sandbox.made(point.ifname)?;
        apply::configure(sandbox, link.index, &Addressing::of(point.ifname, result, sandbox.accept_ra))?;
        Ok(link)
    });
    match &taken {
        // The first error tells more than one of the way back would; DEL does this again.
        Err(_) if !apply::is(&taken, Errno::ENODEV) => drop(device.end(host, Some(sandbox))),
        _ => {}
    }
    taken
}

/// The device, once no other sandbox has to give it back: how it was is in that sandbox's record alone. An undo that was
/// begun there and left is finished first.
fn returned(host: &mut Host<'_>, selector: &Selector) -> Result<Link> {
    for _ in 0..FINISHED_AT_MOST {
        // Asked before the link is looked at: what is given back in between is whole when it is.
        let held = host.held_by_others();
        let found = find::device(host.netlink()?, selector);
        let mut holders = held.iter().filter(|held| is_held(held, selector, found.as_ref().ok()));
        let Some(first) = holders.clone().next() else { return found };
        if !holders.any(|holder| host.finish(holder)) {
            return Err(Error::Busy(format!(
                "device {}: sandbox {} has to give it back first, and its DEL is not finished",
                found?.name, first.container
            )));
        }
    }
    find::device(host.netlink()?, selector)
}

/// Records that are finished for one ADD: more than one only where two ADDs wanted one device.
const FINISHED_AT_MOST: usize = 4;

/// Is the device lent by a record? What is not on the node is known by what the configuration says of it.
fn is_held(held: &SavedStates, selector: &Selector, found: Option<&Link>) -> bool {
    // A state that cannot be read is that record's trouble.
    let lent = SavedDevice::unreturned(&held.states).unwrap_or_default();
    lent.iter().any(|device| match (found, selector) {
        (Some(link), _) => device.is_about(link),
        (None, Selector::Name(name)) => device.name == *name,
        (None, Selector::Mac(mac)) => device.mac == Some(*mac),
        (None, Selector::Path(_) | Selector::Pci(_) | Selector::Auxiliary(_)) => device.hardware.is_some(),
    })
}

/// Gives a device back, and tells where the device is when it is not back.
fn end(host: &mut Host<'_>, sandbox: Option<&mut Sandbox>, device: &SavedDevice) -> Result<()> {
    let ended = device.end(host, sandbox);
    match ended {
        Ok(End::Over) => {}
        Ok(End::Missing) => host.note_astray(Astray::Missing),
        Err(_) => host.note_astray(Astray::Kept),
    }
    ended.map(drop)
}
