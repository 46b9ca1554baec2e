//! `bridge`: a veth from the pod into a bridge of the node.

mod admit;
mod config;
pub(super) mod gateway;
mod vlan;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Dns, Interface};
use attachments::cni::spelling::Known;
use attachments::finding::{Allowed, Finding};
use attachments::names::IfName;
use ipnet::IpNet;
use nix::errno::Errno;

pub(super) use config::DEFAULT;

use self::config::{Config, KEYS};
use super::delegate::{Context, Delegate, Reading, Undo};
use super::veth::{self, NewVeth, Veth};
use super::{Attached, check, default_bridge, mac_address, parent_link};
use crate::apply::{self, is};
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::firewall::{mac_spoof_check, masquerade, noted};
use crate::host::Host;
use crate::ipam::Leased;
use crate::nl::link::{self, Kind, Link, LinkChange, NewKind, NewLink, PortFlags};
use crate::ownership::Ownership;
use crate::sandbox::Sandbox;
use crate::shared::{self, Change, Shared};
use crate::spec::{Addressing, Sysctl};

/// Where the pod's link stands among the interfaces of the result: bridge, host's end, pod's end.
const POD_END: i64 = 2;

/// The delegate.
pub(super) struct Bridge;

impl Delegate for Bridge {
    const TYPE: &'static str = "bridge";
    const KEYS: &'static [&'static str] = &KEYS;
    const LEADS_TO_SERVERS: bool = true;
    const NESTED: &'static [(&'static str, &'static Known<'static>)] = &[("vlanTrunk", &vlan::TRUNK)];

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    fn admit(config: Result<&Config>, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        admit::admit(config?, host, call)
    }

    fn add(config: &Config, cx: Context<'_, '_>, leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let asked = config.mac.or(mac_address::from_environment(point.args)?).or(leased.mac);
        // What the default network's plugin told is known by now.
        default_bridge::refuse(host, call, "bridge", &config.bridge)?;
        let mut result = leased.result;
        let gateways = gateway::plan((config.is_gateway, config.is_default_gateway), &mut result)?;
        let found = host.netlink()?.link_by_name(&config.bridge.parse()?)?;
        let is_whole = call.origin.is_tenants && gateway::refuse_overlaps(host, config, found.as_ref(), &gateways)?;
        let bridge = ensure(host, call, point, config, found).inspect_err(|_| drop_claims(host, point))?;
        let flags = PortFlags {
            hairpin: config.hairpin.then_some(true),
            isolated: config.isolated.then_some(true),
            ..PortFlags::default()
        };
        let port = NewVeth {
            bridge: Some(bridge.index),
            host_name: veth::host_name(call.network, point)?,
            ifname: point.ifname,
            mtu: config.mtu,
            mac: asked.map_or_else(mac_address::random, Ok)?,
            group: point.group,
            flags: (flags != PortFlags::default()).then_some(flags),
        };
        let veth = veth::create(host, sandbox, &port).inspect_err(|_| drop_claims(host, point))?;
        let joined = Joined { bridge, veth, gateways, is_whole };
        let finished = complete(host, sandbox, call, point, config, joined, result);
        finished.inspect_err(|_| {
            // What it says about the cause is the first error; DEL does all of this again.
            let _ = Self::del(Undo { host, call, point });
        })
    }

    fn del(cx: Undo<'_, '_>) -> Result<()> {
        let Undo { host, call, point } = cx;
        let removed = veth::del(host, call, point);
        // A configuration that cannot be read now could be read at ADD.
        let unguarded = match call.conf.flag("macspoofchk") {
            Ok(false) => Ok(()),
            _ => mac_spoof_check::remove(point, call.saved, host.node.deadline),
        };
        removed.and(unguarded).and(shared::release(host, point))
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { host, sandbox, call, point } = cx;
        let expected = check::expected(call)?;
        let pod = check::pod_link(sandbox, point, expected, Some("veth"))?;
        let bridge = check::bridge(host, expected, &config.bridge.parse()?)?;
        if config.promisc {
            check::same(&bridge, "promiscuous mode", bridge.promisc, true)?;
        }
        if !config.leave_down {
            check::is_up(&pod)?;
        }
        let port = check::port(host, expected, &pod, &bridge)?;
        let flags = port.port.unwrap_or_default();
        if config.hairpin {
            check::same(&port, "hairpinMode", flags.hairpin.unwrap_or_default(), true)?;
        }
        if config.isolated {
            check::same(&port, "portIsolation", flags.isolated.unwrap_or_default(), true)?;
        }
        vlan::check(host.netlink()?, &port, &config.vlans)?;
        check::addressing(sandbox, &pod, expected)?;
        if config.is_gateway {
            gateway::check(host, &bridge, config.vlans.id, expected)?;
        }
        if config.mac_spoof_check {
            mac_spoof_check::check(point, pod.mac, call.saved, host.node.deadline)?;
        }
        if config.ip_masq {
            let addresses: Vec<_> =
                expected.ips.iter().filter(|ip| ip.interface == Some(POD_END)).map(|ip| ip.address).collect();
            masquerade::check(call.network, point.container, point.ifname, &addresses, call.saved, host.node.deadline)?;
        }
        Ok(())
    }

    fn gc(host: &mut Host<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
        veth::gc(host, call, ownership)
    }

    /// The bridge's name is free, or a bridge's; the kernel has what its ports and rules need.
    fn status(config: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        let found = host.netlink()?.link_by_name(&config.bridge.parse()?)?;
        match found.and_then(|link| refuse_kind(&link, config)) {
            Some(allowed) => {
                Err(Error::NotReady(Finding::new("bridge", format_args!("{:?}", config.bridge), allowed).to_string()))
            }
            None => {
                parent_link::probe(host.netlink()?, NewKind::Bridge(link::Bridge::default()))?;
                veth::status(host, config.ip_masq)?;
                if config.mac_spoof_check { mac_spoof_check::status(host.node.deadline) } else { Ok(()) }
            }
        }
    }
}

/// A port in its bridge, on the way to being complete.
struct Joined {
    bridge: Link,
    veth: Veth,
    /// The addresses that the bridge needs.
    gateways: Vec<IpNet>,
    /// The bridge was seen to have them all.
    is_whole: bool,
}

/// Everything that a port gets after it is there.
fn complete(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    call: &Call<'_>,
    point: &Point<'_>,
    config: &Config,
    joined: Joined,
    result: CniResult,
) -> Result<Attached> {
    let Joined { bridge, veth, gateways, is_whole } = joined;
    // Before the pod's end goes up, and so before the first frame.
    vlan::join(host.netlink()?, veth.host_index, &config.vlans)?;
    if config.mac_spoof_check {
        let added = mac_spoof_check::add(point, &veth.host.name, veth.pod.mac, host.node.deadline)?;
        host.save(&noted::note(&added))?;
    }
    configure(host, sandbox, point, config, &veth, &result)?;
    let of_vlan = match config.vlans.id.filter(|_| !gateways.is_empty()) {
        Some(id) => Some(vlan::gateway(host, &bridge, id, config.vlans.keep_default)?),
        None => None,
    };
    let end = of_vlan.as_ref().unwrap_or(&bridge);
    gateway::bring_up(host, call, point, end, (&gateways, is_whole), config.force_address)?;
    let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
    veth::masquerade(host, call, point, config.ip_masq, &addresses)?;
    complete_result(host, point, config, (&bridge, &veth), of_vlan, result)
}

/// The bridge that was found, or a new one. Of many that make it at once, one does and the others use it.
fn ensure(
    host: &mut Host<'_>,
    call: &Call<'_>,
    point: &Point<'_>,
    config: &Config,
    mut found: Option<Link>,
) -> Result<Link> {
    if found.is_none() {
        let name: IfName = config.bridge.parse()?;
        let netlink = host.netlink()?;
        let bridge = NewLink {
            mtu: config.mtu,
            // Left to itself a bridge takes the lowest address of its ports, another one with every pod.
            mac: Some(mac_address::random()?),
            group: shared::OURS,
            ..NewLink::new(
                &name,
                NewKind::Bridge(link::Bridge { vlan_filtering: config.vlans.any(), ..Default::default() }),
            )
        };
        let made = netlink.add_link(&bridge);
        if config.vlans.any() && is(&made, Errno::EOPNOTSUPP) {
            let key = config.vlans.key();
            let value = call.conf.get(key).map_or("", |value| value.get());
            return Err(Finding::new(key, value, "none: this kernel has no bridge VLAN filtering").into());
        }
        if !is(&made, Errno::EEXIST) {
            made?;
        }
        found = netlink.link_by_name(&name)?;
    }
    let refuse = |what: Allowed| Error::Parent(Finding::new("bridge", format_args!("{:?}", config.bridge), what));
    let link = found.ok_or_else(|| refuse("a bridge that stays while a pod is attached to it".into()))?;
    // The kernel finds a link by its alternative names too.
    default_bridge::refuse(host, call, "bridge", &link.name)?;
    refuse_kind(&link, config).map_or(Ok(()), |allowed| Err(refuse(allowed.into())))?;
    if shared::is_ours(&link) {
        set_up(host, &link, config)?
    } else {
        borrow(host, point, &link, config)?
    }
    Ok(link)
}

/// A bridge that we made is as its attachments want it, and stays so. It goes up last: one that is up has had the rest.
fn set_up(host: &mut Host<'_>, link: &Link, config: &Config) -> Result<()> {
    if !link.up {
        veth::ignore_advertisements(&link.name)?;
    }
    let change = LinkChange {
        up: (!link.up).then_some(true),
        promisc: (config.promisc && !link.promisc).then_some(true),
        ..LinkChange::default()
    };
    if change.up.is_some() || change.promisc.is_some() {
        host.netlink()?.set_link(link.index, &change)?;
    }
    Ok(())
}

/// Somebody else's bridge is changed for as long as an attachment needs it. One that was down stays up: with it down the
/// kernel would end the link's IPv6 addresses, whoever gave them.
fn borrow(host: &mut Host<'_>, point: &Point<'_>, link: &Link, config: &Config) -> Result<()> {
    // The node's routes do not come from the router advertisements of pods.
    let deaf = Change::Sysctl { key: format!("ipv6/conf/{}/accept_ra", link.name), value: "0".to_owned() };
    let mut wanted = vec![deaf];
    wanted.extend(config.promisc.then_some(Change::Promiscuous));
    Shared::lock(&host.node)?.change(host, point, link, false, &wanted)?;
    if link.up {
        return Ok(());
    }
    host.netlink()?.set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })
}

/// A port that was never made needs nothing of the bridge.
fn drop_claims(host: &mut Host<'_>, point: &Point<'_>) {
    // What it says about the cause is the first error; DEL does this again.
    let _ = shared::release(host, point);
}

/// Why a link that is there cannot be the bridge: what would be accepted.
fn refuse_kind(link: &Link, config: &Config) -> Option<String> {
    let (name, key) = (&link.name, config.vlans.key());
    match &link.kind {
        Kind::Bridge(bridge) if config.vlans.any() && !bridge.vlan_filtering => {
            Some(format!("a bridge with vlan_filtering on, for `{key}` to have an effect: {name} has it off"))
        }
        Kind::Bridge(_) => None,
        other => Some(format!("the name of a bridge or of nothing: {name} is a {}", other.as_str())),
    }
}

/// Addresses and state of the pod's link.
fn configure(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    point: &Point<'_>,
    config: &Config,
    veth: &Veth,
    result: &CniResult,
) -> Result<()> {
    if config.leave_down {
        return Ok(());
    }
    let mut wanted = Addressing::of(point.ifname, result, sandbox.accept_ra);
    if !result.ips.is_empty() {
        wanted.sysctls.extend(notices(point.ifname, config.detect_duplicates));
    }
    apply::configure(sandbox, veth.pod.index, &wanted)?;
    veth::await_forwarding(host, veth, false)
}

fn notices(ifname: &IfName, detect_duplicates: bool) -> Vec<Sysctl> {
    let detect = if detect_duplicates { "1" } else { "0" };
    let mut sysctls = vec![
        Sysctl::optional(format!("ipv6/conf/{ifname}/accept_dad"), detect),
        // The neighbours hear at once that an address has moved here.
        Sysctl::optional(format!("ipv4/conf/{ifname}/arp_notify"), "1"),
    ];
    if detect_duplicates {
        sysctls.push(Sysctl::optional(format!("ipv6/conf/{ifname}/enhanced_dad"), "1"));
    }
    sysctls
}

fn complete_result(
    host: &mut Host<'_>,
    point: &Point<'_>,
    config: &Config,
    (bridge, veth): (&Link, &Veth),
    of_vlan: Option<Link>,
    mut result: CniResult,
) -> Result<Attached> {
    // A bridge that others made takes the address of a port that joins it, if that is lower.
    let mac = match shared::is_ours(bridge) {
        true => bridge.mac,
        false => host.netlink()?.link_by_name(&config.bridge.parse()?)?.and_then(|bridge| bridge.mac),
    };
    let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
    result.interfaces = vec![
        Interface { name: config.bridge.clone(), mac, ..Interface::default() },
        veth.host.clone(),
        Interface {
            name: point.ifname.to_string(),
            mac: veth.pod.mac.to_string(),
            sandbox: point.netns.to_owned(),
            ..Interface::default()
        },
    ];
    result.interfaces.extend(of_vlan.map(|link| {
        let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
        Interface { name: link.name, mac, ..Interface::default() }
    }));
    if config.dns != Dns::default() {
        result.dns = config.dns.clone();
    }
    Ok(Attached { result, links: vec![veth.pod.clone()] })
}
