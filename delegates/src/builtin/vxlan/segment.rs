//! What a node keeps of an overlay while a pod is attached to it: one vxlan device, and one bridge that joins it to the
//! pods' ports. Both go with the last port. Callers hold the overlay's [`Lock`].

use std::net::IpAddr;
use std::path::PathBuf;

use attachments::finding::{Allowed, Finding};
use attachments::names::IfName;
use ipnet::IpNet;
use nix::errno::Errno;

use super::config::{Config, Underlay};
use crate::apply;
use crate::builtin::{check, mac_address};
use crate::call::Point;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::lock::{self, Lock};
use crate::nl::Netlink;
use crate::nl::link::{Bridge, Kind, Link, LinkChange, NewKind, NewLink, Vxlan};
use crate::nl::neighbour::ALL_ZERO;
use crate::shared::{self, Shared};
use crate::spec::Sysctl;

/// The IANA port: overlays on it have the shorter names.
const USUAL_PORT: u16 = 4789;

/// The names of an overlay on the node: a function of port and VNI, for that pair is what the kernel holds unique.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Names {
    /// The vxlan device.
    pub device: IfName,
    /// The bridge.
    pub bridge: IfName,
    lock: String,
}

impl Names {
    pub(super) fn of(config: &Config) -> Result<Self> {
        Self::new(config.vni, config.port)
    }

    fn new(vni: u32, port: u16) -> Result<Self> {
        // At most 15 bytes: v, 8 digits, p, 5 digits.
        let name = |usual: &str, other: &str| {
            if port == USUAL_PORT { format!("{usual}{vni}") } else { format!("{other}{vni}p{port}") }
        };
        let lock = format!("vxlan-{port}-{vni}.lock");
        Ok(Self { device: name("vx", "v").parse()?, bridge: name("bx", "b").parse()?, lock })
    }

    /// Nobody else makes, joins or removes this overlay on the node while the lock is held.
    pub(super) fn lock(&self, host: &Host<'_>) -> Result<Lock> {
        Lock::take(&self.lock_path(host), host.node.deadline)
    }

    /// The same for a removal, which goes on where the state directory takes no file.
    pub(super) fn lock_to_remove(&self, host: &Host<'_>) -> Result<Lock> {
        Lock::take_for_undo(&self.lock_path(host), [host.node.state_dir], host.node.deadline)
    }

    /// Somebody holds the lock, or was killed while it did.
    pub(super) fn lock_is_there(&self, host: &Host<'_>) -> bool {
        self.lock_path(host).exists()
    }

    fn lock_path(&self, host: &Host<'_>) -> PathBuf {
        host.node.state_dir.join(lock::DIR).join(&self.lock)
    }
}

/// Where an overlay's tunnels end on this node.
pub(super) struct Endpoint {
    link: Link,
    /// The local address, with the length of its subnet.
    local: IpNet,
}

/// An overlay that is there.
pub(super) struct Segment {
    /// Index of the bridge.
    pub bridge: u32,
    /// The bridge's own hardware address, as results tell it.
    pub bridge_mac: String,
    /// MTU of the overlay.
    pub mtu: u32,
}

/// Finds the overlay or makes it.
pub(super) fn ensure(host: &mut Host<'_>, point: &Point<'_>, config: &Config, names: &Names) -> Result<Segment> {
    let netlink = host.netlink()?;
    let endpoint = endpoint(netlink, config)?;
    refuse_broadcast(config, &endpoint)?;
    let mtu = mtu(config, &endpoint)?;
    let wanted = Vxlan {
        vni: config.vni,
        port: config.port,
        local: Some(endpoint.local.addr()),
        underlay: Some(endpoint.link.index),
        group: config.group,
        // Nobody tells this node where a hardware address lives: it learns, and what it does not know goes to every peer.
        learning: true,
        ttl: 0,
    };
    let bridge = ensure_bridge(netlink, names, mtu)?;
    let device = match netlink.link_by_name(&names.device)? {
        Some(found) => reuse(netlink, config, names, found, &wanted, &bridge)?,
        None => None,
    };
    let is_new = device.is_none();
    let device = match device {
        Some(device) => device,
        None => make(netlink, names, &wanted, &bridge, mtu)?,
    };
    let peers: Vec<IpAddr> = config.peers.iter().copied().filter(|peer| *peer != endpoint.local.addr()).collect();
    if !peers.is_empty() {
        Shared::lock(&host.node)?.change(host, point, &device, is_new, &[shared::peers(peers)])?;
    }
    let bridge_mac = bridge.mac.map(|mac| mac.to_string()).unwrap_or_default();
    // Without a value of its own, a pod takes what the overlay was made with.
    Ok(Segment { bridge: bridge.index, bridge_mac, mtu: config.mtu.unwrap_or(device.mtu) })
}

/// Removes the overlay from the node unless a port is left in it.
pub(super) fn remove_unused(host: &mut Host<'_>, names: &Names) -> Result<()> {
    let netlink = host.netlink()?;
    let device = netlink.link_by_name(&names.device)?.filter(|link| matches!(link.kind, Kind::Vxlan(_)));
    let bridge = netlink.link_by_name(&names.bridge)?.filter(|link| matches!(link.kind, Kind::Bridge(_)));
    if let Some(bridge) = &bridge
        && has_ports(netlink, bridge, device.as_ref())?
    {
        return Ok(());
    }
    for link in [device, bridge].into_iter().flatten() {
        netlink.delete_link(link.index)?;
    }
    shared::forget(&host.node, names.device.as_str())
}

/// Is anything of the overlay on the node?
pub(super) fn exists(host: &mut Host<'_>, names: &Names) -> Result<bool> {
    let netlink = host.netlink()?;
    Ok(netlink.link_by_name(&names.bridge)?.is_some() || netlink.link_by_name(&names.device)?.is_some())
}

/// Every overlay of ours on the node.
pub(super) fn all(host: &mut Host<'_>) -> Result<Vec<Names>> {
    let links = host.netlink()?.links(None)?;
    let mut found = Vec::new();
    for device in &links {
        let Kind::Vxlan(is) = &device.kind else { continue };
        let names = Names::new(is.vni, is.port)?;
        let is_its_bridge = |link: &Link| {
            matches!(link.kind, Kind::Bridge(_))
                && Some(link.index) == device.master
                && link.name == names.bridge.as_str()
        };
        if device.name == names.device.as_str() && links.iter().any(is_its_bridge) {
            found.push(names);
        }
    }
    Ok(found)
}

/// CHECK: the device is in the bridge, up, and knows every peer.
pub(super) fn check(host: &mut Host<'_>, config: &Config, names: &Names, bridge: &Link) -> Result<()> {
    let netlink = host.netlink()?;
    let missing = || check::differs(format!("vxlan device {} is missing on the host", names.device));
    let device = netlink.link_by_name(&names.device)?.ok_or_else(missing)?;
    let Kind::Vxlan(is) = &device.kind else { return check::same_kind(&device, "vxlan") };
    check::same(&device, "VNI", is.vni, config.vni)?;
    check::same(&device, "UDP port", is.port, config.port)?;
    check::same(&device, "index of the bridge", device.master, Some(bridge.index))?;
    check::is_up(&device)?;
    let endpoint = endpoint(netlink, config).map_err(|error| check::differs(error.to_string()))?;
    check::same(&device, "index of the underlay", is.underlay, Some(endpoint.link.index))?;
    check::same(&device, "local address", is.local, Some(endpoint.local.addr()))?;
    check::same(&device, "group", is.group, config.group)?;
    if config.peers.is_empty() {
        return Ok(());
    }
    let known: Vec<IpAddr> = netlink
        .forwardings(device.index)?
        .into_iter()
        .filter(|entry| entry.mac == ALL_ZERO)
        .filter_map(|entry| entry.remote)
        .collect();
    match config.peers.iter().find(|peer| is.local != Some(**peer) && !known.contains(peer)) {
        Some(peer) => Err(check::differs(format!("{}: peer {peer} is missing in the forwarding table", device.name))),
        None => Ok(()),
    }
}

fn has_ports(netlink: &mut Netlink, bridge: &Link, device: Option<&Link>) -> Result<bool> {
    let ports = netlink.links(Some(bridge.index))?;
    Ok(ports.iter().any(|port| device.is_none_or(|device| device.index != port.index)))
}

fn ensure_bridge(netlink: &mut Netlink, names: &Names, mtu: u32) -> Result<Link> {
    let name = &names.bridge;
    if netlink.link_by_name(name)?.is_none() {
        let kind = NewKind::Bridge(Bridge {
            // Without a querier in the overlay, snooping drops the multicast that nobody has reported.
            multicast_snooping: Some(false),
            ..Bridge::default()
        });
        let mac = Some(mac_address::random()?);
        netlink.add_link(&NewLink { mtu: Some(mtu), mac, ..NewLink::new(name, kind) })?;
    }
    let missing = || apply::vanished(format!("find bridge {name}"));
    let link = netlink.link_by_name(name)?.ok_or_else(missing)?;
    if !matches!(link.kind, Kind::Bridge(_)) {
        return Err(foreign(name, &link));
    }
    if !link.up {
        keep_out(name)?;
        netlink.set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    }
    Ok(link)
}

fn make(netlink: &mut Netlink, names: &Names, wanted: &Vxlan, bridge: &Link, mtu: u32) -> Result<Link> {
    let device = NewLink {
        mtu: Some(mtu),
        mac: Some(mac_address::random()?),
        master: Some(bridge.index),
        up: true,
        ..NewLink::new(&names.device, NewKind::Vxlan(wanted.clone()))
    };
    match netlink.add_link(&device) {
        Err(Error::Kernel { op, errno, detail }) if errno == Errno::EEXIST as i32 => {
            let detail = holder(netlink, wanted)?.map_or(detail, |name| {
                format!("link {name}, which is not ours, has VNI {} on UDP port {}", wanted.vni, wanted.port)
            });
            Err(Error::Kernel { op, errno, detail })
        }
        Err(error) => Err(error),
        Ok(()) => {
            keep_out(&names.device)?;
            let missing = || apply::vanished(format!("find vxlan device {}", names.device));
            netlink.link_by_name(&names.device)?.ok_or_else(missing)
        }
    }
}

/// The overlay is the pods': the node itself takes no part in it, with a link-local address for one.
fn keep_out(name: &IfName) -> Result<()> {
    apply::write_sysctls(&[Sysctl::optional(format!("ipv6/conf/{name}/disable_ipv6"), "1")])
}

/// The link that holds a VNI and port already.
fn holder(netlink: &mut Netlink, wanted: &Vxlan) -> Result<Option<String>> {
    let holds = |link: &Link| matches!(&link.kind, Kind::Vxlan(is) if (is.vni, is.port) == (wanted.vni, wanted.port));
    Ok(netlink.links(None)?.into_iter().find(holds).map(|link| link.name))
}

/// A device that is there serves when it was made alike. One that no pod uses is made anew.
fn reuse(
    netlink: &mut Netlink,
    config: &Config,
    names: &Names,
    found: Link,
    wanted: &Vxlan,
    bridge: &Link,
) -> Result<Option<Link>> {
    let Kind::Vxlan(is) = &found.kind else { return Err(foreign(&names.device, &found)) };
    let Some((field, is, wants)) = difference(config, &found, is, wanted) else {
        if found.master != Some(bridge.index) || !found.up {
            let change = LinkChange { master: Some(bridge.index), up: Some(true), ..LinkChange::default() };
            netlink.set_link(found.index, &change)?;
        }
        return Ok(Some(found));
    };
    if has_ports(netlink, bridge, Some(&found))? {
        let allowed = format!("{is}: {} was made with it, and pods are attached", names.device);
        return Err(Error::Parent(Finding::new(field, wants, allowed)));
    }
    netlink.delete_link(found.index)?;
    Ok(None)
}

/// The first field in which a device differs from what is wanted: its name, what it is, what is wanted.
fn difference(config: &Config, link: &Link, is: &Vxlan, wanted: &Vxlan) -> Option<(&'static str, String, String)> {
    let text = |address: Option<IpAddr>| address.map_or_else(|| "none".to_owned(), |address| address.to_string());
    let index = |index: Option<u32>| index.map_or_else(|| "none".to_owned(), |index| format!("link {index}"));
    if (is.vni, is.port) != (wanted.vni, wanted.port) {
        return Some((
            "vni",
            format!("{} on port {}", is.vni, is.port),
            format!("{} on port {}", wanted.vni, wanted.port),
        ));
    }
    if is.underlay != wanted.underlay {
        return Some(("underlay", index(is.underlay), index(wanted.underlay)));
    }
    if is.local != wanted.local {
        return Some(("underlay", text(is.local), text(wanted.local)));
    }
    if is.group != wanted.group {
        return Some(("group", text(is.group), text(wanted.group)));
    }
    match config.mtu {
        Some(mtu) if mtu != link.mtu => Some(("mtu", link.mtu.to_string(), mtu.to_string())),
        _ => None,
    }
}

fn foreign(name: &IfName, link: &Link) -> Error {
    let found = format!("a {} named {name}", link.kind.as_str());
    Error::Parent(Finding::new("vni", found, "that name free for this overlay"))
}

/// The link and address that the tunnels end at.
pub(super) fn endpoint(netlink: &mut Netlink, config: &Config) -> Result<Endpoint> {
    let (link, subnet) = match &config.underlay {
        Underlay::Subnet(subnet) => (None, Some(*subnet)),
        Underlay::Link(name) => {
            let missing = || refuse(format!("{:?}", name.as_str()), "an existing link");
            (Some(netlink.link_by_name(name)?.ok_or_else(missing)?.index), None)
        }
        Underlay::DefaultRoute => {
            let missing =
                || refuse(String::new(), "an interface or a subnet: the node has no default route to take it from");
            (Some(netlink.default_route_link()?.ok_or_else(missing)?), None)
        }
    };
    let family = config.is_ipv6();
    let serves = |address: &IpAddr| family.is_none_or(|ipv6| address.is_ipv6() == ipv6);
    const GLOBAL: u8 = 0;
    let mut held = netlink.addresses(link)?;
    held.retain(|address| {
        let ip = address.net.addr();
        address.scope == GLOBAL && serves(&ip) && subnet.is_none_or(|subnet| subnet.contains(&ip))
    });
    // IPv4 before IPv6 where both serve.
    held.sort_by_key(|address| address.net.addr().is_ipv6());
    let which = match family {
        Some(true) => "IPv6 ",
        Some(false) => "IPv4 ",
        None => "",
    };
    let none = || match (&config.underlay, subnet) {
        (_, Some(subnet)) => {
            refuse(format!("\"{subnet}\""), format!("a subnet in which this node has an {which}address"))
        }
        (Underlay::Link(name), _) => refuse(format!("\"{name}\""), format!("a link with a global {which}address")),
        _ => refuse(String::new(), format!("a link with a global {which}address: that of the default route has none")),
    };
    let address = held.first().ok_or_else(none)?;
    let link = netlink.link_by_index(address.index)?.ok_or_else(none)?;
    Ok(Endpoint { link, local: address.net })
}

/// What is sent to the broadcast address of the underlay reaches every host on it, and the kernel refuses to send it.
fn refuse_broadcast(config: &Config, endpoint: &Endpoint) -> Result<()> {
    let IpNet::V4(local) = endpoint.local else { return Ok(()) };
    let is_broadcast = |peer: &IpAddr| local.prefix_len() < 31 && *peer == local.broadcast();
    match config.peers.iter().find(|peer| is_broadcast(peer)) {
        None => Ok(()),
        Some(peer) => {
            let allowed =
                format!("no broadcast address: {peer} is that of {} on {}", local.trunc(), endpoint.link.name);
            Err(Finding::new("peers", peer, allowed).into())
        }
    }
}

fn refuse(value: String, allowed: impl Into<Allowed>) -> Error {
    Error::Parent(Finding::new("underlay", value, allowed))
}

/// The overlay's MTU: the one asked for, at most what the underlay has room for.
pub(super) fn mtu(config: &Config, endpoint: &Endpoint) -> Result<u32> {
    let limit = limit(endpoint);
    match config.mtu {
        Some(bytes) if bytes > limit => Err(too_large(bytes, limit, endpoint).into()),
        Some(bytes) => Ok(bytes),
        None => Ok(limit),
    }
}

/// Outer Ethernet, IP, UDP and VXLAN headers: 50 bytes over IPv4, 70 over IPv6.
fn overhead(endpoint: &Endpoint) -> u32 {
    if endpoint.local.addr().is_ipv4() { 50 } else { 70 }
}

fn limit(endpoint: &Endpoint) -> u32 {
    endpoint.link.mtu.saturating_sub(overhead(endpoint)).clamp(68, 65_535)
}

fn too_large(bytes: u32, limit: u32, endpoint: &Endpoint) -> Finding {
    let Endpoint { link, .. } = endpoint;
    let allowed =
        format!("at most {limit}: underlay {} has {}, the tunnel takes {}", link.name, link.mtu, overhead(endpoint));
    Finding::new("mtu", bytes, allowed)
}

#[cfg(test)]
mod tests {
    use attachments::cni::object::Object;

    use super::*;

    fn names(conf: &str) -> (String, String) {
        let names = Names::of(&Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap()).unwrap();
        (names.device.to_string(), names.bridge.to_string())
    }

    #[test]
    fn names_fit_and_differ_wherever_port_or_vni_differ() {
        assert_eq!(names(r#"{"vni":4200}"#), ("vx4200".to_owned(), "bx4200".to_owned()));
        assert_eq!(names(r#"{"vni":4200,"port":8472}"#), ("v4200p8472".to_owned(), "b4200p8472".to_owned()));
        let longest = names(r#"{"vni":16777215,"port":65535}"#);
        assert_eq!(longest.0, "v16777215p65535");
    }
}
