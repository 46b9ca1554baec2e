//! What this delegate does with the overlay of its network: the peers that it floods to, and CHECK. Callers hold the
//! overlay's lock.

use std::net::IpAddr;

use attachments::finding::Finding;
use ipnet::IpNet;

use super::config::Config;
use super::managed;
use crate::builtin::check;
use crate::call::Point;
use crate::error::Result;
use crate::host::Host;
use crate::nl::link::{Kind, Link};
use crate::nl::neighbour::ALL_ZERO;
use crate::overlay::{self, Endpoint, Names};
use crate::shared::{self, Shared};

/// An overlay that is there.
pub(super) struct Segment {
    /// Index of the bridge.
    pub bridge: u32,
    /// The bridge's own MAC address, as results tell it.
    pub bridge_mac: String,
    /// MTU of the overlay.
    pub mtu: u32,
    /// Device and bridge of an overlay whose entries are given.
    pub kept: Option<overlay::Segment>,
}

/// Finds the overlay or makes it, and floods to the peers.
pub(super) fn ensure(host: &mut Host<'_>, point: &Point<'_>, config: &Config, names: &Names) -> Result<Segment> {
    let netlink = host.netlink()?;
    let spec = config.overlay();
    let endpoint = overlay::endpoint(netlink, &spec)?;
    refuse_broadcast(config, &endpoint)?;
    let overlay::Segment { bridge, device, is_new, .. } = overlay::ensure(netlink, &spec, names, &endpoint)?;
    let peers: Vec<IpAddr> = config.peers.iter().copied().filter(|peer| *peer != endpoint.local.addr()).collect();
    if !peers.is_empty() {
        Shared::lock(&host.node)?.change(host, point, &device, is_new, &[shared::peers(peers)])?;
    }
    if is_new {
        // Of this device nobody knows the senders: its port is guarded no more.
        managed::guard(host)?;
    }
    let bridge_mac = bridge.mac.map(|mac| mac.to_string()).unwrap_or_default();
    // Without a value of its own, a pod takes what the overlay was made with.
    Ok(Segment { bridge: bridge.index, bridge_mac, mtu: config.mtu.unwrap_or(device.mtu), kept: None })
}

/// Removes the overlay from the node unless a port is left in it.
pub(super) fn remove_unused(host: &mut Host<'_>, names: &Names) -> Result<()> {
    if overlay::remove_unused(host.netlink()?, names)? {
        shared::forget(&host.node, names.device.as_str())?;
        managed::guard(host)?;
    }
    Ok(())
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
    let endpoint = overlay::endpoint(netlink, &config.overlay()).map_err(|error| check::differs(error.to_string()))?;
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
