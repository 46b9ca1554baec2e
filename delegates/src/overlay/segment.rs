//! The device and the bridge of an overlay, which a node keeps while something is attached to it. Callers hold the overlay's
//! lock ([`Names::lock`]).

use std::net::IpAddr;

use attachments::finding::Finding;
use attachments::names::{IfName, Mac};
use nix::errno::Errno;

use super::underlay::{self, Endpoint, Underlay};
use super::{Names, suppression};
use crate::error::{Error, Result};
use crate::nl::Netlink;
use crate::nl::link::{Bridge, Kind, Link, LinkChange, NewKind, NewLink, PortFlags, Vxlan};
use crate::shared::is_ours;
use crate::spec::Sysctl;
use crate::{apply, netns, random};

/// An overlay as it is to be on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Network identifier: 1 to 16777215.
    pub vni: u32,
    /// UDP port. The kernel tells overlays apart by `port` and `vni` together.
    pub port: u16,
    /// Where the tunnel's local address comes from.
    pub underlay: Underlay,
    /// The family that the tunnel's addresses must have; `None`: whichever the underlay has, IPv4 first.
    pub is_ipv6: Option<bool>,
    /// Multicast group of the underlay that takes what no entry is known for.
    pub group: Option<IpAddr>,
    /// MTU inside the overlay; `None`: the underlay's less the tunnel's headers.
    pub mtu: Option<u32>,
    /// MAC address of the vxlan device, for frames to the node itself; `None` is a random one.
    pub mac: Option<Mac>,
    /// The source addresses of frames become forwarding entries. Without it the node knows what it was told
    /// ([`reconcile()`](super::reconcile())) and nothing else: the bridge's port learns nothing either, and ARP and ND for known
    /// neighbours are answered here.
    pub learning: bool,
    /// TTL of the outer packets; 0 leaves it to the kernel (1 for multicast, the route's otherwise).
    pub ttl: u8,
    /// The device is in no bridge: the node routes between the two (mode l3).
    pub routed: bool,
    /// Outer packets over IPv4 carry a UDP checksum; over IPv6 they always do.
    pub udp_checksum: bool,
}

impl Spec {
    fn device(&self, endpoint: &Endpoint) -> Vxlan {
        Vxlan {
            vni: self.vni,
            port: self.port,
            local: Some(endpoint.local.addr()),
            underlay: Some(endpoint.link.index),
            group: self.group,
            learning: self.learning,
            ttl: self.ttl,
            udp_checksum: self.udp_checksum,
        }
    }
}

/// An overlay that is there.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The bridge that ports join.
    pub bridge: Link,
    /// The vxlan device.
    pub device: Link,
    /// The device was made by this very call.
    pub is_new: bool,
    /// The bridge was.
    pub has_new_bridge: bool,
    /// The routing table of an overlay in mode l3.
    pub table: u32,
}

/// Finds the overlay or makes it. [`Error::Parent`] where a name, the VNI or a device with pods on it is in the way.
pub fn ensure(netlink: &mut Netlink, spec: &Spec, names: &Names, endpoint: &Endpoint) -> Result<Segment> {
    let mtu = underlay::mtu(spec, endpoint)?;
    let wanted = spec.device(endpoint);
    let (bridge, has_new_bridge) = ensure_bridge(netlink, spec, names, mtu)?;
    if !spec.learning && bridge.mtu != mtu {
        netlink.set_link(bridge.index, &LinkChange { mtu: Some(mtu), ..LinkChange::default() })?;
    }
    let found = match netlink.link_by_name(&names.device)? {
        Some(found) => reuse(netlink, spec, names, found, &wanted, &bridge)?,
        None => None,
    };
    let is_new = found.is_none();
    let device = match found {
        Some(device) => device,
        None => make(netlink, spec, names, &wanted, &bridge, mtu)?,
    };
    if !spec.learning {
        take_neighbours(&names.bridge)?;
    }
    if spec.routed {
        take_neighbours(&names.device)?;
    } else if !spec.learning {
        let flags = suppression();
        let told = |port: &PortFlags| [port.learning, port.unicast_flood, port.neigh_suppress, port.isolated];
        let has = |port: &PortFlags| told(port) == told(&flags);
        if !device.port.as_ref().is_some_and(has) {
            netlink.set_port(device.index, &flags)?;
        }
    }
    Ok(Segment { bridge, device, is_new, has_new_bridge, table: names.table })
}

/// Removes the overlay from the node unless a port is left in it. `false` when one is.
pub fn remove_unused(netlink: &mut Netlink, names: &Names) -> Result<bool> {
    let device = netlink.link_by_name(&names.device)?.filter(|link| matches!(link.kind, Kind::Vxlan(_)));
    let bridge = netlink.link_by_name(&names.bridge)?.filter(|link| matches!(link.kind, Kind::Bridge(_)));
    if let Some(bridge) = &bridge
        && has_ports(netlink, bridge, device.as_ref())?
    {
        return Ok(false);
    }
    super::routed::remove(netlink, names.table)?;
    for link in [device, bridge].into_iter().flatten() {
        netlink.delete_link(link.index)?;
    }
    Ok(true)
}

/// Is anything of the overlay on the node?
pub fn exists(netlink: &mut Netlink, names: &Names) -> Result<bool> {
    Ok(netlink.link_by_name(&names.bridge)?.is_some() || netlink.link_by_name(&names.device)?.is_some())
}

/// Every overlay of ours on the node. They are known by what only we make: a device and a bridge whose names say the same VNI
/// and port as the device, one in the other unless the node routes between them.
pub fn all(netlink: &mut Netlink) -> Result<Vec<Names>> {
    let links = netlink.links(None)?;
    let mut found = Vec::new();
    for device in &links {
        let Kind::Vxlan(is) = &device.kind else { continue };
        let names = Names::of(is.vni, is.port)?;
        let is_its_bridge = |link: &Link| {
            matches!(link.kind, Kind::Bridge(_))
                && device.master.is_none_or(|master| master == link.index)
                && link.name == names.bridge.as_str()
        };
        if device.name == names.device.as_str() && links.iter().any(is_its_bridge) {
            found.push(names);
        }
    }
    Ok(found)
}

fn has_ports(netlink: &mut Netlink, bridge: &Link, device: Option<&Link>) -> Result<bool> {
    let ports = netlink.links(Some(bridge.index))?;
    Ok(ports.iter().any(|port| device.is_none_or(|device| device.index != port.index)))
}

fn ensure_bridge(netlink: &mut Netlink, spec: &Spec, names: &Names, mtu: u32) -> Result<(Link, bool)> {
    let name = &names.bridge;
    let is_new = netlink.link_by_name(name)?.is_none();
    if is_new {
        let kind = NewKind::Bridge(Bridge {
            // Without a querier in the overlay, snooping drops the multicast that nobody has reported.
            multicast_snooping: Some(false),
            ..Bridge::default()
        });
        // One that is made again has the address that it had: results tell it.
        let own = spec.mac.map(|Mac([first, rest @ ..])| Mac([first ^ 4, rest[0], rest[1], rest[2], rest[3], rest[4]]));
        let mac = Some(own.map_or_else(random::mac, Ok)?);
        netlink.add_link(&NewLink { mtu: Some(mtu), mac, ..NewLink::new(name, kind) })?;
    }
    let missing = || apply::vanished(format!("find bridge {name}"));
    let link = netlink.link_by_name(name)?.ok_or_else(missing)?;
    if !matches!(link.kind, Kind::Bridge(_)) {
        return Err(foreign(name, &link));
    }
    if !link.up {
        keep_out(name)?;
        if !spec.learning {
            // For whoever finds the sysctls read-only.
            let _ = netlink.keep_addresses_off(link.index);
        }
        netlink.set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    }
    Ok((link, is_new))
}

fn make(netlink: &mut Netlink, spec: &Spec, names: &Names, wanted: &Vxlan, bridge: &Link, mtu: u32) -> Result<Link> {
    let device = NewLink {
        mtu: Some(mtu),
        mac: Some(spec.mac.map_or_else(random::mac, Ok)?),
        master: (!spec.routed).then_some(bridge.index),
        up: spec.learning,
        ..NewLink::new(&names.device, NewKind::Vxlan(wanted.clone()))
    };
    match netlink.add_link(&device) {
        Err(Error::Kernel { op, errno, detail }) if errno == Errno::EEXIST as i32 => {
            let detail = holder(netlink, wanted)?.map_or(detail, |link| {
                let whose = if is_ours(&link) { "on which other networks stand" } else { "which is not ours" };
                format!("link {}, {whose}, has VNI {} on UDP port {}", link.name, wanted.vni, wanted.port)
            });
            Err(Error::Kernel { op, errno, detail })
        }
        Err(error) => Err(port_in_use(netlink, wanted, error)),
        Ok(()) => {
            if !spec.routed {
                keep_out(&names.device)?;
            }
            let missing = || apply::vanished(format!("find vxlan device {}", names.device));
            let device = netlink.link_by_name(&names.device)?.ok_or_else(missing)?;
            if spec.learning {
                return Ok(device);
            }
            // An agent in a container may find the sysctls read-only. Without IPv6 there is nothing to keep off.
            let _ = netlink.keep_addresses_off(device.index);
            if let Err(error) = netlink.set_link(device.index, &LinkChange { up: Some(true), ..LinkChange::default() })
            {
                // Nothing of an overlay that carries no packet stays: the next attempt would take it for a device that serves.
                let _ = netlink.delete_link(device.index);
                return Err(port_in_use(netlink, wanted, error));
            }
            netlink.link_by_index(device.index)?.ok_or_else(missing)
        }
    }
}

/// The socket of a vxlan device is bound when the device goes up. The kernel shares it between devices with other VNIs, but with none that
/// takes every VNI (Cilium's tunnel): that one has the port for itself, as any other program has.
fn port_in_use(netlink: &mut Netlink, wanted: &Vxlan, error: Error) -> Error {
    if !matches!(error, Error::Kernel { errno, .. } if errno == Errno::EADDRINUSE as i32) {
        return error;
    }
    let by = holder_of_port(netlink, wanted.port);
    let found = format!("{}, which {by} has", wanted.port);
    Error::Parent(Finding::new("port", found, "another UDP port for this overlay"))
}

/// Who has a UDP port of which the kernel gave no part, in words.
pub(crate) fn holder_of_port(netlink: &mut Netlink, port: u16) -> String {
    let has_port = |link: &Link| link.up && matches!(&link.kind, Kind::Vxlan(is) if is.port == port);
    let found = netlink.links(None).ok().into_iter().flatten().find(has_port);
    found.map_or_else(|| "another program".to_owned(), |link| format!("link {}", link.name))
}

/// The overlay is the pods': the node itself takes no part in it, with a link-local address for one.
fn keep_out(name: &IfName) -> Result<()> {
    apply::write_sysctls(&[Sysctl::optional(format!("ipv6/conf/{name}/disable_ipv6"), "1")])
}

/// The bridge may hold IPv6 neighbours, from which ND is answered: the kernel refuses them where IPv6 is off. Without a link-local
/// address the node still takes no part.
pub(super) fn take_neighbours(bridge: &IfName) -> Result<()> {
    if netns::read_sysctl(&["ipv6", "conf", bridge.as_str(), "disable_ipv6"])?.as_deref() != Some("1") {
        return Ok(());
    }
    let key = |key: &str| format!("ipv6/conf/{bridge}/{key}");
    apply::write_sysctls(&[
        // IN6_ADDR_GEN_MODE_NONE
        Sysctl::optional(key("addr_gen_mode"), "1"),
        Sysctl::optional(key("accept_ra"), "0"),
        Sysctl::optional(key("disable_ipv6"), "0"),
    ])
}

/// The link that holds a VNI and port already.
fn holder(netlink: &mut Netlink, wanted: &Vxlan) -> Result<Option<Link>> {
    let holds = |link: &Link| matches!(&link.kind, Kind::Vxlan(is) if (is.vni, is.port) == (wanted.vni, wanted.port));
    Ok(netlink.links(None)?.into_iter().find(holds))
}

/// A device that is there serves when it was made alike. One that no pod uses is made anew.
fn reuse(
    netlink: &mut Netlink,
    spec: &Spec,
    names: &Names,
    found: Link,
    wanted: &Vxlan,
    bridge: &Link,
) -> Result<Option<Link>> {
    let Kind::Vxlan(is) = &found.kind else { return Err(foreign(&names.device, &found)) };
    // Where the members are known the device can be made anew at any time: nothing in it was learned.
    let is_kept = !spec.learning && !is.learning;
    let Some((field, is, wants)) = difference(spec, &found, is, wanted, is_kept) else {
        let mac = spec.mac.filter(|mac| is_kept && found.mac != Some(*mac));
        let mtu = spec.mtu.filter(|mtu| is_kept && found.mtu != *mtu);
        let home = (!spec.routed).then_some(bridge.index);
        let has_moved = found.master != home;
        if has_moved || !found.up || mac.is_some() || mtu.is_some() {
            let master = has_moved.then(|| home.unwrap_or_default());
            netlink.set_link(found.index, &LinkChange { master, mac, mtu, up: Some(true), ..LinkChange::default() })?;
        }
        // A port that joins a bridge has the kernel's flags.
        return if has_moved { netlink.link_by_index(found.index) } else { Ok(Some(found)) };
    };
    if !is_kept && has_ports(netlink, bridge, Some(&found))? {
        let allowed = format!("{is}: {} was made with it, and pods are attached", names.device);
        return Err(Error::Parent(Finding::new(field, wants, allowed)));
    }
    netlink.delete_link(found.index)?;
    Ok(None)
}

/// The first field in which a device differs from what is wanted: its name, what it is, what is wanted.
fn difference(
    spec: &Spec,
    link: &Link,
    is: &Vxlan,
    wanted: &Vxlan,
    is_kept: bool,
) -> Option<(&'static str, String, String)> {
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
    if is.learning != wanted.learning {
        return Some(("learning", is.learning.to_string(), wanted.learning.to_string()));
    }
    match spec.mtu {
        Some(mtu) if mtu != link.mtu && !is_kept => Some(("mtu", link.mtu.to_string(), mtu.to_string())),
        _ => None,
    }
}

fn foreign(name: &IfName, link: &Link) -> Error {
    let found = format!("a {} named {name}", link.kind.as_str());
    Error::Parent(Finding::new("vni", found, "that name free for this overlay"))
}
