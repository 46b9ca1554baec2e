//! `vxlan`: a secondary overlay. A veth from the pod into a bridge that belongs to the network, and a vxlan device on it.

mod config;
mod segment;

use attachments::cni::result::{CniResult, Dns, Interface};

pub(super) use config::{Config, KEYS};
use segment::Segment;

use super::port::{self, Created, Port};
use super::{Attached, compare, hardware, stacked};
use crate::apply::{self, Host, Sandbox};
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::nl::link::{NewKind, Vxlan};
use crate::overlay::{self, Names};
use crate::shared;
use crate::spec::{Addressing, Sysctl};

/// Where the pod's link stands among the interfaces of the result: bridge, host's end, pod's end.
const POD_END: i64 = 2;

/// ADD.
pub(super) fn attach(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    call: &Call<'_>,
    point: &Point<'_>,
    leased: Option<CniResult>,
) -> Result<Attached> {
    let config = Config::read(call.conf).map_err(Error::Config)?;
    let asked = config.mac.or(hardware::from_environment(point.args)?);
    let mac = asked.map_or_else(hardware::random, Ok)?;
    let host_name = port::host_name(call.network, point)?;
    let names = config.names()?;
    // Held until the port is in: the overlay of a first ADD must not go with another pod's last DEL.
    let lock = names.lock(host.node.state_dir, host.node.deadline)?;
    let joined = segment::ensure(host, point, &config, &names).and_then(|segment| {
        let port = Port {
            bridge: Some(segment.bridge),
            host_name: host_name.clone(),
            ifname: point.ifname,
            mtu: Some(segment.mtu),
            mac,
            group: point.group,
            flags: None,
        };
        Ok((port::create(host, sandbox, &port)?, segment))
    });
    if joined.is_err() {
        // What it says about the cause is the first error; DEL does this again.
        let _ = segment::remove_unused(host, &names).and(shared::release(host, point));
    }
    drop(lock);
    let (created, segment) = joined?;
    let mut result = leased.unwrap_or_default();
    for ip in &mut result.ips {
        ip.interface = Some(POD_END);
    }
    if let Err(error) = configure(host, sandbox, point, &created, &result) {
        let _ = remove(host, call, point);
        return Err(error);
    }
    Ok(tell(point, &config, &names, &segment, &created, result))
}

fn configure(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    point: &Point<'_>,
    created: &Created,
    result: &CniResult,
) -> Result<()> {
    let mut wanted = Addressing::of(point.ifname, result);
    if !result.ips.is_empty() {
        // The neighbours hear at once that an address has moved here.
        wanted.sysctls.push(Sysctl::optional(format!("ipv4/conf/{}/arp_notify", point.ifname), "1"));
        wanted.sysctls.push(Sysctl::optional(format!("ipv6/conf/{}/ndisc_notify", point.ifname), "1"));
    }
    apply::configure(sandbox, created.pod.index, &wanted)?;
    port::await_forwarding(host, created)
}

fn tell(
    point: &Point<'_>,
    config: &Config,
    names: &Names,
    segment: &Segment,
    created: &Created,
    mut result: CniResult,
) -> Attached {
    result.interfaces = vec![
        Interface { name: names.bridge.to_string(), mac: segment.bridge_mac.clone(), ..Interface::default() },
        created.host.clone(),
        Interface {
            name: point.ifname.to_string(),
            mac: created.pod.mac.to_string(),
            sandbox: point.netns.to_owned(),
            ..Interface::default()
        },
    ];
    if config.dns != Dns::default() {
        result.dns = config.dns.clone();
    }
    Attached { result, links: vec![created.pod.clone()] }
}

/// DEL of what is on the host: the veth's end, which stays for a while when the pod's namespace died, and the overlay
/// when it was the last.
pub(super) fn remove(host: &mut Host<'_>, call: &Call<'_>, point: &Point<'_>) -> Result<()> {
    port::delete(host, &port::host_name(call.network, point)?, point.group)?;
    // A configuration that cannot be read made no overlay.
    if let Ok(config) = Config::read(call.conf) {
        clean(host, &config.names()?)?;
    }
    // Of an overlay that is gone there is nothing to let go of any more.
    shared::release(host, point)
}

/// GC: the network's overlay goes when no port is left in it.
pub(super) fn gc(host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
    // A configuration that cannot be read made no overlay.
    Config::read(call.conf).map_or(Ok(()), |config| clean(host, &config.names()?))
}

/// GC of overlays that no configuration leads to any more.
pub(super) fn sweep(host: &mut Host<'_>) -> Result<()> {
    for names in overlay::all(host.netlink()?)? {
        clean(host, &names)?;
    }
    Ok(())
}

/// Removes an overlay unless a port is left in it. The lock is for whoever has something to remove, be it the lock of a
/// call that was killed: a repeated DEL costs three questions.
fn clean(host: &mut Host<'_>, names: &Names) -> Result<()> {
    if !overlay::exists(host.netlink()?, names)? && !names.lock_is_there(host.node.state_dir) {
        return Ok(());
    }
    let _lock = names.lock_to_remove(host.node.state_dir, host.node.deadline)?;
    segment::remove_unused(host, names)
}

/// CHECK.
pub(super) fn check(host: &mut Host<'_>, sandbox: &mut Sandbox, call: &Call<'_>, point: &Point<'_>) -> Result<()> {
    let config = Config::read(call.conf).map_err(Error::Config)?;
    let names = config.names()?;
    let expected = compare::expected(call)?;
    let pod = compare::pod_link(sandbox, point, expected, Some("veth"))?;
    compare::is_up(&pod)?;
    let bridge = compare::bridge(host, expected, &names.bridge)?;
    compare::port(host, expected, &pod, &bridge)?;
    segment::check(host, &config, &names, &bridge)?;
    compare::addressing(sandbox, &pod, expected)
}

/// STATUS: the tunnels have an end here, and the kernel knows vxlan.
pub(super) fn status(host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
    let config = Config::read(call.conf).map_err(Error::Config)?;
    port::status(host, false)?;
    let netlink = host.netlink()?;
    let spec = config.overlay();
    overlay::endpoint(netlink, &spec)
        .and_then(|endpoint| overlay::mtu(&spec, &endpoint).map(drop))
        .map_err(stacked::not_ready)?;
    let kind = Vxlan {
        vni: config.vni,
        port: config.port,
        local: None,
        underlay: Some(stacked::NO_LINK),
        group: None,
        learning: true,
        ttl: 0,
        udp_checksum: true,
    };
    stacked::probe(netlink, NewKind::Vxlan(kind))
}
