//! The VXLAN of a master: a device whose nodes find each other by a multicast group that follows from the VNI.
//!
//! It is the device that DANM 4.3 makes, so nodes that still run that are in one network with ours: UDP port 4789, the first global address of
//! the master as its source, the group 239.0.0.0 or ff02:: and the VNI, learning. DANM 4.4 makes it without a group and without learning, and
//! gives it no entries: nothing leaves such a device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attachments::finding::Finding;
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::nl::link::{Kind, Link, Vxlan};
use crate::nl::{Netlink, errno};
use crate::overlay::{self, IANA_PORT};

/// The UDP port.
pub(super) const PORT: u16 = IANA_PORT;

const KEY: &str = "masterVxlan";

/// The group of the nodes that have a VNI.
fn group(vni: u32, is_ipv4: bool) -> IpAddr {
    match is_ipv4 {
        true => Ipv4Addr::from_bits(0xef00_0000 | vni).into(),
        false => Ipv6Addr::from_bits(0xff02 << 112 | u128::from(vni)).into(),
    }
}

/// The address of the master from which the tunnels start: IPv4 before IPv6.
fn local(netlink: &mut Netlink, master: &Link) -> Result<IpAddr> {
    const GLOBAL: u8 = 0;
    let mut held = netlink.addresses(Some(master.index))?;
    held.retain(|address| address.scope == GLOBAL);
    held.sort_by_key(|address| address.net.addr().is_ipv6());
    let first = held.first().map(|address| address.net.addr());
    first.ok_or_else(|| {
        let allowed = format!("a link with a global address: the tunnels of {KEY} start from it");
        Error::Parent(Finding::new("master", format_args!("{:?}", master.name), allowed))
    })
}

/// The device of a VNI over a link.
pub(super) fn device(netlink: &mut Netlink, master: &Link, vni: u32) -> Result<Vxlan> {
    let local = local(netlink, master)?;
    Ok(Vxlan {
        vni,
        port: PORT,
        local: Some(local),
        underlay: Some(master.index),
        group: Some(group(vni, local.is_ipv4())),
        learning: true,
        ttl: 0,
        udp_checksum: true,
    })
}

/// The device as it would be. The kernel takes the headers of the tunnel from the MTU; and a port of a bridge may carry tunnels.
pub(super) fn would_be(netlink: &mut Netlink, master: Link) -> Result<Link> {
    let headers = overlay::headers(local(netlink, &master)?);
    Ok(Link { mtu: master.mtu.saturating_sub(headers), port: None, ..master })
}

/// A device with the VNI is used where it leads to the same nodes, whoever made it.
pub(super) fn refuse_other(netlink: &mut Netlink, link: &Link, master: &Link, vni: u32) -> Result<()> {
    let Kind::Vxlan(is) = &link.kind else { return Ok(()) };
    let is_ipv4 = is.group.or(is.local).is_none_or(|address| address.is_ipv4());
    let group = group(vni, is_ipv4);
    let has = if is.underlay != Some(master.index) {
        let other = match is.underlay {
            Some(index) => netlink.link_by_index(index)?.map_or_else(|| format!("link {index}"), |link| link.name),
            None => "any link".to_owned(),
        };
        format!("over {other}, not {}", master.name)
    } else if is.group != Some(group) {
        let other = is.group.map_or_else(|| "no group".to_owned(), |other| format!("group {other}"));
        format!("with {other}, not {group}")
    } else if !is.learning {
        "without learning".to_owned()
    } else {
        return Ok(());
    };
    let allowed = format!("a VNI that is free on UDP port {PORT}: {} has it {has}", link.name);
    Err(Error::Parent(Finding::new(KEY, vni, allowed)))
}

/// Why the kernel does not make the device, where no link of the node tells.
pub(super) fn explain(vni: u32, error: Error) -> Error {
    match errno(&error) {
        Some(Errno::EEXIST) => {
            let allowed = format!("a VNI that is free on UDP port {PORT}: a link in another namespace has it");
            Error::Parent(Finding::new(KEY, vni, allowed))
        }
        _ => error,
    }
}

/// Why the kernel does not set the device up: its socket is bound then.
pub(super) fn port_in_use(netlink: &mut Netlink, vni: u32, error: Error) -> Error {
    match errno(&error) {
        Some(Errno::EADDRINUSE) => {
            let by = overlay::holder_of_port(netlink, PORT);
            Error::Parent(Finding::new(KEY, vni, format!("UDP port {PORT} free on the node: {by} has it")))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_follows_from_the_vni() {
        for (vni, ipv4, ipv6) in [
            (1, "239.0.0.1", "ff02::1"),
            (600, "239.0.2.88", "ff02::258"),
            (16_777_215, "239.255.255.255", "ff02::ff:ffff"),
        ] {
            assert_eq!([group(vni, true), group(vni, false)].map(|ip| ip.to_string()), [ipv4, ipv6]);
        }
    }
}
