//! Requests about links, as bytes.

use std::os::fd::{AsRawFd, BorrowedFd};

use attachments::names::{IfName, Mac};
use nix::libc;

use super::bond;
use super::spec::{LinkChange, NewKind, NewLink, PortFlags, PortVlans, Vxlan};
use super::uapi::*;
use crate::nl::wire::Request;

/// `struct ifinfomsg`.
fn header(family: i32, index: u32, flags: i32, change: i32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = family as u8;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// One link, by index or by name.
pub(super) fn question(index: u32, name: Option<&IfName>) -> Request {
    let mut request = Request::new(libc::RTM_GETLINK, 0, &header(libc::AF_UNSPEC, index, 0, 0));
    if let Some(name) = name {
        request.text(libc::IFLA_IFNAME, name.as_str());
    }
    without_statistics(&mut request);
    request
}

/// All links, or the ports of one master.
pub(super) fn listing(master: Option<u32>) -> Request {
    let mut request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &header(libc::AF_UNSPEC, 0, 0, 0));
    if let Some(master) = master {
        request.u32(libc::IFLA_MASTER, master);
    }
    without_statistics(&mut request);
    request
}

/// One link, or with index 0 the links of a group, to be deleted.
pub(super) fn deletion(index: u32, group: Option<u32>) -> Request {
    let mut request = Request::new(libc::RTM_DELLINK, libc::NLM_F_ACK, &header(libc::AF_UNSPEC, index, 0, 0));
    if let Some(group) = group {
        request.u32(libc::IFLA_GROUP, group);
    }
    request
}

/// One altname of a link, to be given (RTM_NEWLINKPROP) or taken (RTM_DELLINKPROP).
pub(super) fn altname(kind: u16, index: u32, name: &str) -> Request {
    let flags = libc::NLM_F_ACK | if kind == RTM_NEWLINKPROP { libc::NLM_F_CREATE | libc::NLM_F_EXCL } else { 0 };
    let mut request = Request::new(kind, flags, &header(libc::AF_UNSPEC, index, 0, 0));
    request.nest(IFLA_PROP_LIST, |properties| _ = properties.text(IFLA_ALT_IFNAME, name));
    request
}

/// Statistics are the larger half of a reply and nobody here reads them.
fn without_statistics(request: &mut Request) {
    request.u32(libc::IFLA_EXT_MASK, libc::RTEXT_FILTER_SKIP_STATS as u32);
}

pub(super) fn creation(link: &NewLink<'_>) -> Request {
    let up = if link.up { libc::IFF_UP } else { 0 };
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
    let mut request = Request::new(libc::RTM_NEWLINK, flags, &header(libc::AF_UNSPEC, link.index.unwrap_or(0), up, up));
    end(&mut request, link.name, link.netns, link.mtu, link.mac, link.group);
    if let Some(master) = link.master {
        request.u32(libc::IFLA_MASTER, master);
    }
    if let Some(parent) = link.kind.parent() {
        request.u32(libc::IFLA_LINK, parent);
    }
    if matches!(link.kind, NewKind::Ifb) {
        request.u32(libc::IFLA_TXQLEN, 0);
    }
    request.nest(libc::IFLA_LINKINFO, |info| {
        info.text(libc::IFLA_INFO_KIND, link.kind.as_str());
        info.nest(libc::IFLA_INFO_DATA, |data| kind_data(data, &link.kind));
    });
    request
}

/// What both ends of a veth, and every other link, can have.
fn end(
    request: &mut Request,
    name: &IfName,
    netns: Option<BorrowedFd<'_>>,
    mtu: Option<u32>,
    mac: Option<Mac>,
    group: u32,
) {
    request.text(libc::IFLA_IFNAME, name.as_str());
    if let Some(netns) = netns {
        request.u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
    }
    if let Some(mtu) = mtu {
        request.u32(libc::IFLA_MTU, mtu);
    }
    if let Some(mac) = mac {
        request.bytes(libc::IFLA_ADDRESS, &mac.0);
    }
    if group != 0 {
        request.u32(libc::IFLA_GROUP, group);
    }
}

fn kind_data(data: &mut Request, kind: &NewKind<'_>) {
    match kind {
        NewKind::Veth(peer) => {
            data.nest_after(VETH_INFO_PEER, &header(libc::AF_UNSPEC, 0, 0, 0), |far| {
                end(far, peer.name, peer.netns, peer.mtu, peer.mac, peer.group);
            });
        }
        NewKind::Bridge(bridge) => {
            if bridge.vlan_filtering {
                data.u8(IFLA_BR_VLAN_FILTERING, 1);
            }
            if let Some(snooping) = bridge.multicast_snooping {
                data.u8(IFLA_BR_MCAST_SNOOPING, snooping.into());
            }
        }
        NewKind::Macvlan { mode, broadcast_queue, .. } => {
            data.u32(IFLA_MACVLAN_MODE, *mode as u32);
            if let Some(length) = broadcast_queue {
                data.u32(IFLA_MACVLAN_BC_QUEUE_LEN, *length);
            }
        }
        NewKind::Ipvlan { mode, .. } => {
            data.u16(IFLA_IPVLAN_MODE, *mode as u16);
        }
        NewKind::Vlan { id, .. } => {
            data.u16(IFLA_VLAN_ID, *id);
        }
        NewKind::Vxlan(vxlan) => vxlan_data(data, vxlan),
        NewKind::Dummy => {}
        NewKind::Vrf { table } => {
            data.u32(IFLA_VRF_TABLE, *table);
        }
        NewKind::Bond(bond) => bond::encode(data, bond),
        NewKind::Ifb => {}
    }
}

fn vxlan_data(data: &mut Request, vxlan: &Vxlan) {
    data.u32(IFLA_VXLAN_ID, vxlan.vni);
    data.be16(IFLA_VXLAN_PORT, vxlan.port);
    data.u8(IFLA_VXLAN_LEARNING, vxlan.learning.into());
    data.u8(IFLA_VXLAN_TTL, vxlan.ttl);
    if !vxlan.udp_checksum {
        data.u8(IFLA_VXLAN_UDP_CSUM, 0);
    }
    if let Some(underlay) = vxlan.underlay {
        data.u32(IFLA_VXLAN_LINK, underlay);
    }
    if let Some(local) = vxlan.local {
        data.ip(if local.is_ipv4() { IFLA_VXLAN_LOCAL } else { IFLA_VXLAN_LOCAL6 }, local);
    }
    if let Some(group) = vxlan.group {
        data.ip(if group.is_ipv4() { IFLA_VXLAN_GROUP } else { IFLA_VXLAN_GROUP6 }, group);
    }
}

pub(super) fn alteration(index: u32, change: &LinkChange<'_>) -> Request {
    let mut flags = 0;
    let mut mask = 0;
    for (bit, wish) in
        [(libc::IFF_UP, change.up), (libc::IFF_PROMISC, change.promisc), (libc::IFF_ALLMULTI, change.allmulti)]
    {
        if let Some(on) = wish {
            mask |= bit;
            flags |= if on { bit } else { 0 };
        }
    }
    let mut request = Request::new(libc::RTM_SETLINK, libc::NLM_F_ACK, &header(libc::AF_UNSPEC, index, flags, mask));
    if let Some(name) = change.name {
        request.text(libc::IFLA_IFNAME, name.as_str());
    }
    if let Some(netns) = change.netns {
        request.u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
    }
    if let Some(mac) = change.mac {
        request.bytes(libc::IFLA_ADDRESS, &mac.0);
    }
    if let Some(alias) = change.alias {
        request.bytes(libc::IFLA_IFALIAS, alias.as_bytes());
    }
    for (kind, value) in [
        (libc::IFLA_MTU, change.mtu),
        (libc::IFLA_GROUP, change.group),
        (libc::IFLA_MASTER, change.master),
        (libc::IFLA_NEW_IFINDEX, change.index_there),
        (libc::IFLA_TXQLEN, change.tx_queue),
    ] {
        if let Some(value) = value {
            request.u32(kind, value);
        }
    }
    request
}

/// A link gets no IPv6 address by itself (IN6_ADDR_GEN_MODE_NONE).
pub(super) fn without_addresses(index: u32) -> Request {
    let mut request = Request::new(libc::RTM_SETLINK, libc::NLM_F_ACK, &header(libc::AF_UNSPEC, index, 0, 0));
    request.nest(libc::IFLA_AF_SPEC, |spec| {
        spec.nest(libc::AF_INET6 as u16, |ipv6| _ = ipv6.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE));
    });
    request
}

/// A change in words, for the error.
pub(super) fn words(change: &LinkChange<'_>) -> String {
    let mut words = Vec::new();
    words.extend(change.up.map(|up| if up { "up" } else { "down" }.to_owned()));
    words.extend(change.promisc.map(|on| format!("promisc {}", if on { "on" } else { "off" })));
    words.extend(change.allmulti.map(|on| format!("allmulti {}", if on { "on" } else { "off" })));
    words.extend(change.tx_queue.map(|packets| format!("txqueuelen {packets}")));
    words.extend(change.master.map(|index| format!("master {index}")));
    words.extend(change.mtu.map(|mtu| format!("mtu {mtu}")));
    words.extend(change.mac.map(|mac| format!("mac {mac}")));
    words.extend(change.group.map(|group| format!("group {group}")));
    words.extend(change.name.map(|name| format!("name {name}")));
    words.extend(change.alias.map(|alias| format!("alias {alias:?}")));
    words.extend(change.netns.map(|_| "to another namespace".to_owned()));
    words.join(", ")
}

pub(super) fn port_flags(index: u32, flags: &PortFlags) -> Request {
    let mut request = Request::new(libc::RTM_SETLINK, libc::NLM_F_ACK, &header(libc::AF_BRIDGE, index, 0, 0));
    request.nest(libc::IFLA_PROTINFO, |port| {
        for (kind, value) in [
            (IFLA_BRPORT_MODE, flags.hairpin),
            (IFLA_BRPORT_LEARNING, flags.learning),
            (IFLA_BRPORT_UNICAST_FLOOD, flags.unicast_flood),
            (IFLA_BRPORT_NEIGH_SUPPRESS, flags.neigh_suppress),
            (IFLA_BRPORT_ISOLATED, flags.isolated),
        ] {
            if let Some(value) = value {
                port.u8(kind, value.into());
            }
        }
    });
    request
}

/// The VLANs of all bridge ports, each by itself.
pub(super) fn port_vlan_listing() -> Request {
    let mut request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &header(libc::AF_BRIDGE, 0, 0, 0));
    request.u32(libc::IFLA_EXT_MASK, libc::RTEXT_FILTER_BRVLAN as u32);
    request
}

pub(super) fn port_vlans(kind: u16, index: u32, is_bridge: bool, vlans: PortVlans) -> Request {
    let mut request = Request::new(kind, libc::NLM_F_ACK, &header(libc::AF_BRIDGE, index, 0, 0));
    let mut flags = 0;
    if vlans.pvid {
        flags |= BRIDGE_VLAN_INFO_PVID;
    }
    if vlans.untagged {
        flags |= BRIDGE_VLAN_INFO_UNTAGGED;
    }
    // struct bridge_vlan_info { __u16 flags; __u16 vid; }
    let info = |spec: &mut Request, flags: u16, id: u16| {
        let [a, b] = flags.to_ne_bytes();
        let [c, d] = id.to_ne_bytes();
        spec.bytes(IFLA_BRIDGE_VLAN_INFO, &[a, b, c, d]);
    };
    request.nest(libc::IFLA_AF_SPEC, |spec| {
        if is_bridge {
            spec.u16(IFLA_BRIDGE_FLAGS, BRIDGE_FLAGS_SELF);
        }
        if vlans.first == vlans.last {
            info(spec, flags, vlans.first);
        } else {
            info(spec, flags | BRIDGE_VLAN_INFO_RANGE_BEGIN, vlans.first);
            info(spec, flags | BRIDGE_VLAN_INFO_RANGE_END, vlans.last);
        }
    });
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nl::link::spec::IpvlanMode;
    use crate::nl::wire::{Attributes, Messages};

    /// The host's kernel has no ipvlan, so the bytes are compared with what `ip link add net1 link 7 ... type ipvlan
    /// mode l3s` sends.
    #[test]
    fn an_ipvlan_is_asked_for_as_iproute2_does() {
        let name = "net1".parse().unwrap();
        let kind = NewKind::Ipvlan { parent: 7, mode: IpvlanMode::L3s };
        let link = NewLink { mtu: Some(1400), group: 5, up: true, ..NewLink::new(&name, kind) };
        let bytes = creation(&link).finish(1);
        let message = Messages(&bytes).next().unwrap().unwrap();
        assert_eq!(message.body[8..16], [1, 0, 0, 0, 1, 0, 0, 0]);
        let found: Vec<(u16, Vec<u8>)> = Attributes::after(message.body, HEADER)
            .unwrap()
            .map(|attribute| attribute.map(|(kind, value)| (kind, value.to_vec())).unwrap())
            .collect();
        let mut info = vec![11, 0, 1, 0];
        info.extend_from_slice(b"ipvlan\0\0");
        info.extend_from_slice(&[12, 0, 2, 0x80, 6, 0, 1, 0, 2, 0, 0, 0]);
        let expected = [
            (libc::IFLA_IFNAME, b"net1\0".to_vec()),
            (libc::IFLA_MTU, 1400u32.to_ne_bytes().to_vec()),
            (libc::IFLA_GROUP, 5u32.to_ne_bytes().to_vec()),
            (libc::IFLA_LINK, 7u32.to_ne_bytes().to_vec()),
            (libc::IFLA_LINKINFO, info),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_altname_is_given_and_taken_as_iproute2_does() {
        for (kind, flags) in [(RTM_NEWLINKPROP, 0x605), (RTM_DELLINKPROP, 0x5)] {
            let bytes = altname(kind, 7, "eth1").finish(1);
            let message = Messages(&bytes).next().unwrap().unwrap();
            assert_eq!((message.kind, message.flags, &message.body[4..8]), (kind, flags, [7, 0, 0, 0].as_slice()));
            let mut expected = vec![16, 0, 52, 0x80, 9, 0, 53, 0];
            expected.extend_from_slice(b"eth1\0\0\0\0");
            assert_eq!(message.body[HEADER..], expected);
        }
    }
}
