//! `host-device`: a link of the node moves into the pod, and back.
//!
//! It is no link of ours: it carries no group, is in no list of a record's links, and is handed back before anything of
//! the pod is destroyed.

mod belongings;
mod config;
mod device_info;
mod find;
mod home;
mod identity;
mod lend;
mod saved_device;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Interface};
use attachments::finding::Finding;
use attachments::rule::Rule;

use self::config::{Config, KEYS};
use self::saved_device::SavedDevice;
use super::delegate::{Context, Delegate, Reading, Undo};
use super::{Attached, check, parent_link};
use crate::apply;
use crate::call::{Call, Point};
use crate::error::Result;
use crate::host::Host;
use crate::ipam::{self, Leased};
use crate::nl::link::Link;
use crate::sandbox::Sandbox;
use crate::spec::Addressing;

pub(super) use self::config::Selector;
pub(super) use self::lend::{Lent, give_back, lend, refuse_own, require_unused};

/// The delegate.
pub(super) struct HostDevice;

impl Delegate for HostDevice {
    const TYPE: &'static str = "host-device";
    const KEYS: &'static [&'static str] = &KEYS;
    const PATHS: &'static [&'static str] = &["kernelpath"];
    const LEADS_TO_SERVERS: bool = true;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    /// Whether the device is there and free is found with the ADD.
    fn admit(config: Result<&Config>, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        lent(config?).map_or(Ok(()), |device| refuse_own(host, call, device))
    }

    fn add(config: &Config, cx: Context<'_, '_>, leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let mut result = leased.result;
        if !result.ips.is_empty() || ipam::asks_on_link(call.conf) {
            result.dns = config.dns.clone();
        }
        for ip in &mut result.ips {
            ip.interface = Some(0);
        }
        let mut interface =
            Interface { name: point.ifname.to_string(), sandbox: point.netns.to_owned(), ..Interface::default() };
        match userspace(config) {
            Some(_) if ipam::asks_on_link(call.conf) => return Err(ipam::no_link(call.conf).into()),
            Some(address) => {
                device_info::write(call.conf, address)?;
                interface.pci_id = Some(address.to_owned());
            }
            None => {
                let link = take(host, sandbox, call, point, config, &result)?;
                interface.mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
            }
        }
        result.interfaces = vec![interface];
        Ok(Attached { result, links: Vec::new() })
    }

    /// The device goes back. Without a record what the reference plugin lent goes back by its alias.
    fn restore(cx: Undo<'_, '_>, mut sandbox: Option<&mut Sandbox>, saved: &[&Object]) -> Result<()> {
        let Undo { host, point, .. } = cx;
        give_back(host, sandbox.as_deref_mut(), saved)?;
        match sandbox {
            Some(sandbox) if saved.is_empty() => {
                let lent = sandbox.netlink.link_by_name(point.ifname)?;
                match lent.as_ref().and_then(SavedDevice::unrecorded) {
                    Some(device) => lend::end(host, Some(sandbox), &device),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { sandbox, call, point, .. } = cx;
        let expected = check::expected(call)?;
        // What had a link when it was attached has its address in the result.
        let has_no_link = |told: &Interface| told.name == point.ifname.as_str() && told.mac.is_empty();
        if let Some(address) = config.pci.as_deref()
            && expected.interfaces.iter().any(has_no_link)
            && sandbox.netlink.link_by_name(point.ifname)?.is_none()
        {
            return find::driven(address);
        }
        let link = check::pod_link(sandbox, point, expected, None)?;
        check::is_up(&link)?;
        check::addressing(sandbox, &link, expected)
    }

    /// The device is on the node and in nobody's use: one that a pod holds cannot be given to another.
    fn status(config: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        match lent(config) {
            Some(device) => require_unused(host, device).map_err(parent_link::not_ready),
            // Which device it is the runtime says with the ADD.
            None => Ok(()),
        }
    }
}

/// The link that is moved, as far as the configuration says it: a device that a program drives has none.
fn lent(config: &Config) -> Option<&Selector> {
    config.device.as_ref().filter(|_| userspace(config).is_none())
}

/// The PCI address of a device that a program drives: it has no link, and what the program needs is told instead.
fn userspace(config: &Config) -> Option<&str> {
    config.pci.as_deref().filter(|address| find::is_userspace(address))
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
    let selector = config.device.as_ref().ok_or_else(missing)?;
    let lent = lend(host, sandbox, call, selector, point.ifname)?;
    let addressing = Addressing::of(point.ifname, result, sandbox.accept_ra);
    match apply::configure(sandbox, lent.link.index, &addressing) {
        Ok(()) => Ok(lent.link),
        Err(error) => {
            lent.take_back(host, sandbox);
            Err(error)
        }
    }
}
