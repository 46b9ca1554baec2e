//! The bridge of an overlay as the pods' gateway: the same addresses and the same MAC address on every node (anycast), so that a pod
//! finds its gateway on whatever node it is, and keeps it when an address moves.
//!
//! Only the node itself answers for them. The bridge does not hand on ARP and ND for addresses of its own to ports with
//! `neigh_suppress` (`br_do_proxy_suppress_arp`, `br_do_suppress_nd`), and the one such port is the vxlan device. The other nodes' bridges
//! would answer otherwise, and detection of duplicates would find them.

use std::net::IpAddr;

use attachments::names::Mac;
use ipnet::IpNet;
use nix::errno::Errno;

use super::segment::take_neighbours;
use crate::apply::is;
use crate::error::Result;
use crate::nl::Netlink;
use crate::nl::link::{Link, LinkChange};

/// Whom the bridge asks with for its neighbours: what it hands on has no address of its own. The addresses that pods give themselves
/// end in their MAC addresses.
const LINK_LOCAL: &str = "fe80::1/64";

/// The MAC address of a gateway: it follows from the address, and no slot has it.
pub fn mac_of(gateway: IpAddr) -> Mac {
    let (kind, [a, b, c, d]) = match gateway {
        IpAddr::V4(v4) => (0x58, v4.octets()),
        IpAddr::V6(v6) => (0x5a, (v6.to_bits() as u32).to_be_bytes()),
    };
    Mac([0x0a, kind, a, b, c, d])
}

/// Gives the bridge its MAC address, and the addresses that it lacks.
pub fn settle(netlink: &mut Netlink, bridge: &mut Link, gateways: &[IpNet], mac: Mac) -> Result<()> {
    if bridge.mac != Some(mac) {
        netlink.set_link(bridge.index, &LinkChange { mac: Some(mac), ..LinkChange::default() })?;
        bridge.mac = Some(mac);
    }
    if gateways.is_empty() {
        return Ok(());
    }
    let mut wanted = gateways.to_vec();
    if gateways.iter().any(|gateway| gateway.addr().is_ipv6()) {
        take_neighbours(&bridge.name.parse()?)?;
        wanted.extend(LINK_LOCAL.parse::<IpNet>());
    }
    let held = netlink.addresses(Some(bridge.index))?;
    for net in wanted.iter().filter(|net| !held.iter().any(|held| held.net == **net)) {
        let added = netlink.add_address(bridge.index, *net, true);
        if !is(&added, Errno::EEXIST) {
            added?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_of_a_gateway_follows_from_its_address() {
        for (gateway, mac) in [("10.42.0.1", "0a:58:0a:2a:00:01"), ("fd42::1:2", "0a:5a:00:01:00:02")] {
            assert_eq!(mac_of(gateway.parse().unwrap()).to_string(), mac);
        }
    }
}
