//! Overlays beside the links that carry them, and who else uses their ports.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use delegates::networks::state::{Membership, NetworkState};
use delegates::networks::{NetworkId, known};
use delegates::nl::Netlink;
use delegates::nl::address::Address;
use delegates::nl::link::{Kind, Link};
use delegates::nl::sockets::Sockets;
use delegates::overlay::Names;
use nix::libc::IPPROTO_UDP;

use super::finding::{Finding, Severity};
use super::{Place, on_host};

const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the overlays that this node is in.
pub fn examine(place: &Place, findings: &mut Vec<Finding>) {
    let state_dir = on_host(&place.state_dir);
    let mut joined: Vec<(NetworkId, Membership)> = Vec::new();
    for id in known(&state_dir) {
        match NetworkState::read(&state_dir, &id) {
            Ok(state) => joined.extend(state.and_then(|state| state.overlay).map(|overlay| (id, overlay))),
            Err(error) => findings.push(Finding::new(
                "D50",
                Severity::Error,
                format!("network {id}: {error}"),
                "the agent writes the file anew when it starts: delete the DaemonSet's pod of this node",
            )),
        }
    }
    if joined.is_empty() {
        return;
    }
    let looked = || -> delegates::error::Result<_> {
        let mut netlink = Netlink::open(Instant::now() + PATIENCE)?;
        Ok((netlink.links(None)?, netlink.addresses(None)?))
    };
    let Ok((links, addresses)) = looked() else { return };
    judge(&joined, &links, &addresses, findings);
    let ports: Vec<u16> = joined.iter().filter_map(|(id, _)| Names::pair(id.as_str())).map(|(_, port)| port).collect();
    let listeners =
        Sockets::open(Instant::now() + PATIENCE).and_then(|mut sockets| sockets.listeners(IPPROTO_UDP as u8, &ports));
    for listener in listeners.unwrap_or_default() {
        let found = format!("a program listens on UDP {}, a port of an overlay", listener.at);
        findings.push(Finding::new(
            "D51",
            Severity::Error,
            found,
            "give the definition another `port`, or the program: the kernel gives a datagram to one of them",
        ));
    }
}

fn judge(joined: &[(NetworkId, Membership)], links: &[Link], addresses: &[Address], findings: &mut Vec<Finding>) {
    let ours: Vec<(Names, u16)> = joined
        .iter()
        .filter_map(|(id, _)| Names::pair(id.as_str()))
        .filter_map(|(vni, port)| Some((Names::of(vni, port).ok()?, port)))
        .collect();
    for (id, membership) in joined {
        let at = addresses.iter().find(|address| address.net.addr() == membership.vtep);
        let Some(underlay) = at.and_then(|address| links.iter().find(|link| link.index == address.index)) else {
            let found = format!("overlay {id}: the node does not have its tunnel's address {}", membership.vtep);
            let advice = "has the node another address by now? The agent follows the Node object: see its InternalIPs, and `underlay` of the definition";
            findings.push(Finding::new("D50", Severity::Error, found, advice));
            continue;
        };
        let room = underlay.mtu.saturating_sub(overhead(membership.vtep));
        if room < membership.mtu {
            let found = format!(
                "overlay {id}: MTU {}, and {} (MTU {}) carries {room}",
                membership.mtu, underlay.name, underlay.mtu
            );
            let advice = "raise the MTU of the link, or make the definition anew with a smaller `mtu`: large packets are lost otherwise";
            findings.push(Finding::new("D50", Severity::Error, found, advice));
        }
    }
    for link in links {
        let Kind::Vxlan(vxlan) = &link.kind else { continue };
        let is_ours = ours.iter().any(|(names, _)| link.is_called(names.device.as_str()));
        if !is_ours && ours.iter().any(|(_, port)| *port == vxlan.port) {
            let found = format!("{} (VNI {}) of somebody else is on UDP {} too", link.name, vxlan.vni, vxlan.port);
            let advice = "it works as long as VNIs differ; the filter of members lets only members' packets in on that port, so give the definition another `port`";
            findings.push(Finding::new("D51", Severity::Warning, found, advice));
        }
    }
}

/// What a tunnel adds: Ethernet, VXLAN, UDP and IP.
fn overhead(vtep: IpAddr) -> u32 {
    if vtep.is_ipv4() { 50 } else { 70 }
}

#[cfg(test)]
mod tests {
    use delegates::netns::in_fresh;
    use delegates::nl::link::{NewKind, NewLink, Peer, Vxlan};

    use super::*;

    /// On links of a real kernel, in a namespace of its own.
    #[test]
    fn kernel_an_underlay_that_is_too_small_or_gone_is_told() {
        let membership = |vtep: &str, mtu: u32| Membership {
            vtep: vtep.parse().unwrap(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            mtu,
            members: Vec::new(),
            routing: Default::default(),
        };
        let (links, addresses) = in_fresh(|| {
            let mut netlink = Netlink::open(Instant::now() + PATIENCE)?;
            let (name, peer, other) = ("up0".parse()?, "up1".parse()?, "flannel.1".parse()?);
            netlink.add_link(&NewLink::new(
                &name,
                NewKind::Veth(Peer { name: &peer, netns: None, mtu: None, mac: None, group: 0 }),
            ))?;
            let index = netlink.link_by_name(&name)?.map(|link| link.index).unwrap_or_default();
            netlink.add_address(index, "192.0.2.1/24".parse().unwrap(), true)?;
            let vxlan = Vxlan {
                vni: 1,
                port: 4789,
                local: None,
                underlay: None,
                group: None,
                learning: false,
                ttl: 0,
                udp_checksum: true,
            };
            // A kernel without the driver has no such neighbour.
            let _ = netlink.add_link(&NewLink::new(&other, NewKind::Vxlan(vxlan)));
            Ok((netlink.links(None)?, netlink.addresses(None)?))
        })
        .unwrap();
        let id = NetworkId::overlay(4789, 4200);
        let said = |membership: Membership| {
            let mut findings = Vec::new();
            judge(&[(id.clone(), membership)], &links, &addresses, &mut findings);
            findings.retain(|one| one.id == "D50");
            findings.into_iter().map(|one| one.found).collect::<Vec<_>>()
        };
        assert_eq!(said(membership("192.0.2.1", 1450)), Vec::<String>::new());
        assert_eq!(
            said(membership("192.0.2.1", 1500)),
            ["overlay 4789-4200: MTU 1500, and up0 (MTU 1500) carries 1450"]
        );
        assert_eq!(
            said(membership("192.0.2.9", 1450)),
            ["overlay 4789-4200: the node does not have its tunnel's address 192.0.2.9"]
        );
        if links.iter().any(|link| link.name == "flannel.1") {
            let mut findings = Vec::new();
            judge(&[(id, membership("192.0.2.1", 1450))], &links, &addresses, &mut findings);
            assert_eq!(findings.iter().map(|one| one.id).collect::<Vec<_>>(), ["D51"]);
        }
    }
}
