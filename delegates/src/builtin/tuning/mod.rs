//! `tuning`: settings of the pod's namespace and of the link that the plugin before made.
//!
//! How things were is noted before they change. A link of ours goes with its pod, settings and all; of any other, and of
//! the pod's namespace, DEL brings the old values back.

mod allow;
mod backup;
mod config;

use std::path::Path;

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;

use self::backup::Backup;
use self::config::{Config, KEYS, Settings, path_of};
use super::delegate::{Context, Delegate, Reading, Undo};
use super::{Attached, chained, check};
use crate::call::{Call, Node, Point};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ipam::Leased;
use crate::netns;
use crate::nl::link::{Link, LinkChange};
use crate::ownership::Ownership;
use crate::sandbox::Sandbox;
use crate::spec::LinkId;

/// The delegate.
pub(super) struct Tuning;

impl Delegate for Tuning {
    const TYPE: &'static str = "tuning";
    const KEYS: &'static [&'static str] = &KEYS;
    const ARGUMENTS: &'static [&'static str] = &KEYS;
    const PATHS: &'static [&'static str] = &["dataDir"];
    const IS_CHAINED: bool = true;
    const TAKES_ADDRESSES: bool = false;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    fn add(config: &Config, cx: Context<'_, '_>, _leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let previous = chained::previous(call)?;
        let settings = &config.clone().with_environment(point.args)?.settings;
        allow::check(&settings.sysctls, Path::new(allow::FILE))?;
        let link = find(sandbox, point, settings)?;
        let backup = note(&host.node, sandbox, point, settings, link.as_ref())?;
        if !backup.is_empty() {
            host.save(&backup.state())?;
        }
        let changed = change(&host.node, sandbox, point, settings, link.as_ref());
        if changed.is_err() {
            // The first error tells more than a second one would; DEL does this again.
            let _ = backup.restore(sandbox, point.ifname);
        }
        changed?;
        let mut attached = Attached::nothing(previous.clone());
        update_result(&mut attached.result, point, settings);
        if let (Some(mac), Some(link)) = (settings.mac, link.filter(|link| goes_with_the_pod(link, point))) {
            // The record knows it by its address.
            attached.links.push(LinkId::of(point.ifname, &Link { mac: Some(mac), ..link }));
        }
        Ok(attached)
    }

    /// Without a record, what the reference plugin noted.
    fn restore(cx: Undo<'_, '_>, sandbox: Option<&mut Sandbox>, saved: &[&Object]) -> Result<()> {
        let Undo { call, point, .. } = cx;
        let Some(sandbox) = sandbox else { return Ok(()) };
        if saved.is_empty() {
            let backup = Config::read(call.conf).ok().and_then(|config| Backup::of_reference(&config.data_dir, point));
            // The reference plugin reports no failure here either.
            let _ = backup.map(|backup| backup.restore(sandbox, point.ifname));
            return Ok(());
        }
        // The last one to change a thing is the first to give it back.
        let backups = saved.iter().rev().filter_map(|state| Backup::from_state(state));
        backups.map(|backup| backup.restore(sandbox, point.ifname)).fold(Ok(()), Result::and)
    }

    /// The note that the reference plugin left.
    fn del(cx: Undo<'_, '_>) -> Result<()> {
        let Undo { call, point, .. } = cx;
        if let Ok(config) = Config::read(call.conf) {
            backup::forget_reference(&config.data_dir, point);
        }
        Ok(())
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { host, sandbox, call, point } = cx;
        chained::previous(call)?;
        let node = &host.node;
        let Config { settings, .. } = config.clone().with_environment(point.args)?;
        sandbox.netns().enter(|| {
            for setting in &settings.sysctls {
                node.in_time(|| format!("reading sysctl {}", setting.name))?;
                let path = path_of(setting, point.ifname)?;
                let is = netns::read_sysctl(&path.iter().map(String::as_str).collect::<Vec<_>>())?.unwrap_or_default();
                if !same_words(&is, &setting.value) {
                    let (name, want) = (&setting.name, &setting.value);
                    return Err(check::differs(format!("sysctl {name} is {is:?}, want {want:?}")));
                }
            }
            Ok(())
        })?;
        if !settings.touches_link() {
            return Ok(());
        }
        let link = sandbox.netlink.link_by_name(point.ifname)?;
        let link = link.ok_or_else(|| check::differs(format!("link {} is missing in the pod", point.ifname)))?;
        let mac = |mac: Option<attachments::names::Mac>| mac.map(|mac| mac.to_string()).unwrap_or_default();
        if settings.mac.is_some() {
            check::same(&link, "hardware address", mac(link.mac), mac(settings.mac))?;
        }
        if settings.promisc {
            check::same(&link, "promiscuous mode", link.promisc, true)?;
        }
        check::same(&link, "MTU", link.mtu, settings.mtu.unwrap_or(link.mtu))?;
        check::same(&link, "all-multicast mode", link.allmulti, settings.allmulti.unwrap_or(link.allmulti))?;
        check::same(&link, "length of the transmit queue", link.tx_queue, settings.tx_queue.unwrap_or(link.tx_queue))
    }

    /// Notes that the reference plugin left of containers that are gone.
    fn gc(_host: &mut Host<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
        let config = Config::read(call.conf).map_err(Error::Config)?;
        backup::sweep_reference(&config.data_dir, ownership)
    }

    /// The node allows the settings.
    fn status(config: &Config, _host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        let allowed = allow::check(&config.settings.sysctls, Path::new(allow::FILE));
        allowed.map_err(|error| Error::NotReady(error.to_string()))
    }
}

/// The pod's link. A chain that makes none (`passthru`) can still change settings of the namespace.
fn find(sandbox: &mut Sandbox, point: &Point<'_>, settings: &Settings) -> Result<Option<Link>> {
    match sandbox.netlink.link_by_name(point.ifname)? {
        None if settings.touches_link() => Err(Error::Parent(chained::no_link(point))),
        found => Ok(found),
    }
}

/// DEL deletes the links of the record's group.
fn goes_with_the_pod(link: &Link, point: &Point<'_>) -> bool {
    point.group != 0 && link.group == point.group
}

/// The old values of what will change and would stay changed.
fn note(
    node: &Node<'_>,
    sandbox: &Sandbox,
    point: &Point<'_>,
    settings: &Settings,
    link: Option<&Link>,
) -> Result<Backup> {
    let goes = link.is_some_and(|link| goes_with_the_pod(link, point));
    let mut backup = link.filter(|_| !goes).map(|link| Backup::of(link, settings)).unwrap_or_default();
    sandbox.netns().enter(|| {
        for setting in &settings.sysctls {
            node.in_time(|| format!("reading sysctl {}", setting.name))?;
            let path = path_of(setting, point.ifname)?;
            if goes && path.iter().any(|part| part == point.ifname.as_str()) {
                continue;
            }
            let parts: Vec<&str> = path.iter().map(String::as_str).collect();
            // Some settings can be written only.
            if let Ok(Some(old)) = netns::read_sysctl(&parts)
                && !same_words(&old, &setting.value)
            {
                backup.remember(&path, old);
            }
        }
        Ok(())
    })?;
    Ok(backup)
}

fn change(
    node: &Node<'_>,
    sandbox: &mut Sandbox,
    point: &Point<'_>,
    settings: &Settings,
    link: Option<&Link>,
) -> Result<()> {
    if !settings.sysctls.is_empty() {
        sandbox.netns().enter(|| {
            settings.sysctls.iter().try_for_each(|setting| {
                node.in_time(|| format!("writing sysctl {}", setting.name))?;
                let path = path_of(setting, point.ifname)?;
                netns::write_sysctl(&path.iter().map(String::as_str).collect::<Vec<_>>(), &setting.value)
            })
        })?;
    }
    let Some(link) = link.filter(|_| settings.touches_link()) else { return Ok(()) };
    let change = LinkChange {
        mac: settings.mac,
        promisc: settings.promisc.then_some(true),
        mtu: settings.mtu,
        allmulti: settings.allmulti,
        tx_queue: settings.tx_queue,
        ..LinkChange::default()
    };
    sandbox.netlink.set_link(link.index, &change)
}

/// The result tells what the pod's link has become.
fn update_result(result: &mut CniResult, point: &Point<'_>, settings: &Settings) {
    let of_pod = |name: &str, sandbox: &str| name == point.ifname.as_str() && !sandbox.is_empty();
    for interface in result.interfaces.iter_mut().filter(|i| of_pod(&i.name, &i.sandbox)) {
        if let Some(mac) = settings.mac {
            interface.mac = mac.to_string();
        }
        if let (Some(told), Some(mtu)) = (&mut interface.mtu, settings.mtu) {
            *told = mtu.into();
        }
    }
}

/// The kernel puts tabs between the numbers of a setting, people put spaces.
fn same_words(one: &str, two: &str) -> bool {
    one.split_whitespace().eq(two.split_whitespace())
}
