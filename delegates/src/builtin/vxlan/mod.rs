//! `vxlan`: a secondary overlay. A veth from the pod into a bridge that belongs to the network, and a vxlan device on it.

mod config;
mod managed;
mod port;
mod router;
mod segment;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Dns, Interface};
use ipnet::IpNet;

pub(crate) use self::config::overlay_of;
use self::config::{Config, KEYS};
use self::managed::Known;
pub(super) use self::managed::guard;
use self::segment::Segment;
use super::delegate::{Context, Delegate, Reading, Undo};
use super::veth::{self, NewVeth, Veth};
use super::{Attached, check, mac_address, parent_link};
use crate::apply;
use crate::call::{Call, Point};
use crate::error::Result;
use crate::firewall::pod_ports;
use crate::host::Host;
use crate::ipam::Leased;
use crate::nl::link::{self, NewKind};
use crate::overlay::{self, Names};
use crate::ownership::Ownership;
use crate::sandbox::Sandbox;
use crate::shared;
use crate::spec::{Addressing, Sysctl};

/// Where the pod's link stands among the interfaces of the result: bridge, host's end, pod's end.
const POD_END: i64 = 2;

/// The delegate.
pub(super) struct Vxlan;

impl Delegate for Vxlan {
    const TYPE: &'static str = "vxlan";
    const KEYS: &'static [&'static str] = &KEYS;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    fn add(config: &Config, cx: Context<'_, '_>, leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        // An address of a block is one pod's, on all nodes: nobody needs to detect it, nor a pod to wait.
        let is_claimed = leased.mac.is_some();
        let asked = config.mac.or(mac_address::from_environment(point.args)?).or(leased.mac);
        let mac = asked.map_or_else(mac_address::random, Ok)?;
        let host_name = veth::host_name(call.network, point)?;
        let names = config.names()?;
        let known = Known::read(host, config)?;
        let mut result = leased.result;
        let needed = router::plan(host, config, call, &names, known.as_ref(), &mut result)?;
        // Held until the port is in: the overlay of a first ADD must not go with another pod's last DEL.
        let lock = names.lock(host.node.state_dir, host.node.deadline)?;
        let ensured = match &known {
            Some(known) => known.ensure(host, config),
            None => segment::ensure(host, point, config, &names),
        };
        let joined = ensured.and_then(|mut segment| {
            router::settle(host, &names, &mut segment, &needed)?;
            if let Some(known) = &known {
                known.note(host, &segment, host_name.as_str(), mac, &result)?;
            }
            let port = NewVeth {
                bridge: Some(segment.bridge),
                host_name: host_name.clone(),
                ifname: point.ifname,
                mtu: Some(segment.mtu),
                mac,
                group: point.group,
                flags: config.routing.l3.then_some(router::ISOLATED),
            };
            let veth = veth::create(host, sandbox, &port)?;
            if let Some(known) = &known {
                known.route(host, &segment)?;
            }
            Ok((veth, segment))
        });
        if joined.is_err() {
            // What it says about the cause is the first error; DEL does this again.
            let removed = segment::remove_unused(host, &names).and(shared::release(host, point));
            let _ = removed.and(managed::forget(host, config, host_name.as_str()));
        }
        drop(lock);
        let (veth, segment) = joined?;
        let guarded = port::guard(host, point, config, &veth, known.is_some());
        let configured = guarded
            .and_then(|()| configure(host, sandbox, point, config, &veth, (&result, is_claimed)))
            .and_then(|()| {
                let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
                veth::masquerade(host, call, point, config.ip_masq, &addresses)
            });
        if let Err(error) = configured {
            let _ = Self::del(Undo { host, call, point });
            return Err(error);
        }
        Ok(complete_result(point, config, &names, &segment, &veth, result))
    }

    /// The veth's end, which stays for a while when the pod's namespace died, and the overlay
    /// when it was the last.
    fn del(cx: Undo<'_, '_>) -> Result<()> {
        let Undo { host, call, point } = cx;
        let port = veth::host_name(call.network, point)?;
        veth::del(host, call, point)?;
        pod_ports::remove(port.as_str(), host.node.deadline)?;
        // A configuration that cannot be read made no overlay.
        if let Ok(config) = Config::read(call.conf) {
            managed::forget(host, &config, port.as_str())?;
            clean(host, &config.names()?)?;
        }
        // Of an overlay that is gone there is nothing to let go of any more.
        shared::release(host, point)
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { host, sandbox, call, point } = cx;
        let names = config.names()?;
        let expected = check::expected(call)?;
        let pod = check::pod_link(sandbox, point, expected, Some("veth"))?;
        check::is_up(&pod)?;
        let bridge = check::bridge(host, expected, &names.bridge)?;
        let host_end = check::port(host, expected, &pod, &bridge)?;
        match Known::read(host, config).map_err(|error| check::differs(error.to_string()))? {
            Some(known) => known.check(host, config, &names, &bridge)?,
            None => segment::check(host, config, &names, &bridge)?,
        }
        port::check(host, point, config, &host_end, pod.mac)?;
        router::check(host, sandbox, call, config, &bridge, &pod, expected)?;
        check::addressing(sandbox, &pod, expected)
    }

    /// The network's overlay goes when no port is left in it.
    fn gc(host: &mut Host<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
        // A configuration that cannot be read made no overlay.
        if let Ok(config) = Config::read(call.conf) {
            clean(host, &config.names()?)?;
        }
        veth::gc(host, call, ownership)
    }

    /// The tunnels have an end here, and the kernel knows vxlan.
    fn status(config: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        veth::status(host, config.ip_masq)?;
        port::status(host, config)?;
        let is_managed = !host.node.is_alone && config.is_managed();
        let netlink = host.netlink()?;
        let spec = config.overlay();
        // Where the cluster knows the members, the node agent finds the tunnel end, which no default route has to lead to.
        if !is_managed {
            overlay::endpoint(netlink, &spec)
                .and_then(|endpoint| overlay::mtu(&spec, &endpoint).map(drop))
                .map_err(parent_link::not_ready)?;
        }
        let kind = link::Vxlan {
            vni: config.vni,
            port: config.port,
            local: None,
            underlay: Some(parent_link::NO_LINK),
            group: None,
            learning: true,
            ttl: 0,
            udp_checksum: true,
        };
        parent_link::probe(netlink, NewKind::Vxlan(kind))
    }
}

fn configure(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    point: &Point<'_>,
    config: &Config,
    veth: &Veth,
    (result, is_claimed): (&CniResult, bool),
) -> Result<()> {
    if config.routing.l3 {
        router::configure(sandbox, point, veth, result)?;
        return veth::await_forwarding(host, veth, true);
    }
    let mut wanted = Addressing::of(point.ifname, result, sandbox.accept_ra);
    if !result.ips.is_empty() {
        // The neighbours hear at once that an address has moved here.
        wanted.sysctls.push(Sysctl::optional(format!("ipv4/conf/{}/arp_notify", point.ifname), "1"));
        wanted.sysctls.push(Sysctl::optional(format!("ipv6/conf/{}/ndisc_notify", point.ifname), "1"));
    }
    if is_claimed && wanted.has_ipv6() {
        wanted.sysctls.push(Sysctl::optional(format!("ipv6/conf/{}/accept_dad", point.ifname), "0"));
    }
    apply::configure(sandbox, veth.pod.index, &wanted)?;
    veth::await_forwarding(host, veth, config.routing.gateway)
}

fn complete_result(
    point: &Point<'_>,
    config: &Config,
    names: &Names,
    segment: &Segment,
    veth: &Veth,
    mut result: CniResult,
) -> Attached {
    result.interfaces = vec![
        Interface { name: names.bridge.to_string(), mac: segment.bridge_mac.clone(), ..Interface::default() },
        veth.host.clone(),
        Interface {
            name: point.ifname.to_string(),
            mac: veth.pod.mac.to_string(),
            sandbox: point.netns.to_owned(),
            ..Interface::default()
        },
    ];
    if config.dns != Dns::default() {
        result.dns = config.dns.clone();
    }
    Attached { result, links: vec![veth.pod.clone()] }
}

/// GC of overlays that no configuration leads to any more.
pub(super) fn sweep(host: &mut Host<'_>) -> Result<()> {
    for names in overlay::all(host.netlink()?)? {
        clean(host, &names)?;
    }
    let links: Vec<String> = host.netlink()?.links(None)?.into_iter().map(|link| link.name).collect();
    pod_ports::sweep(|port| links.iter().any(|link| link == port), host.node.deadline)
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
