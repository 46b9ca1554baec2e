//! Replies about links, as data.

use nix::libc;

use super::bond::BondMode;
use super::spec::{Bridge, IpvlanMode, Kind, Link, MacvlanMode, PortFlags, PortVlans, Vxlan};
use super::uapi::*;
use crate::nl::wire::{self, Attributes, Decoded, Message};

/// Reads one RTM_NEWLINK.
pub(super) fn decode(message: &Message<'_>) -> Decoded<Link> {
    let head: [u8; HEADER] = wire::fixed(message.body)?;
    let flags = wire::u32(&head[8..12])? as i32;
    let mut link = Link {
        index: wire::u32(&head[4..8])?,
        name: String::new(),
        altnames: Vec::new(),
        kind: Kind::Device,
        mac: None,
        mac_before_bond: None,
        permanent_mac: None,
        alias: String::new(),
        mtu: 0,
        group: 0,
        master: None,
        parent: None,
        is_parent_elsewhere: false,
        parent_netns: None,
        up: flags & libc::IFF_UP != 0,
        lower_up: flags & libc::IFF_LOWER_UP != 0,
        promisc: flags & libc::IFF_PROMISC != 0,
        allmulti: flags & libc::IFF_ALLMULTI != 0,
        tx_queue: 0,
        operstate: 0,
        port: None,
    };
    for attribute in Attributes::after(message.body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            libc::IFLA_IFNAME => link.name = wire::text(value),
            libc::IFLA_ADDRESS => link.mac = wire::mac(value),
            libc::IFLA_PERM_ADDRESS => link.permanent_mac = wire::mac(value),
            libc::IFLA_IFALIAS => link.alias = wire::text(value),
            libc::IFLA_LINK_NETNSID => {
                link.is_parent_elsewhere = true;
                link.parent_netns = wire::netns_id(value)?;
            }
            IFLA_PROP_LIST => decode_altnames(value, &mut link)?,
            libc::IFLA_MTU => link.mtu = wire::u32(value)?,
            libc::IFLA_TXQLEN => link.tx_queue = wire::u32(value)?,
            libc::IFLA_GROUP => link.group = wire::u32(value)?,
            libc::IFLA_MASTER => link.master = Some(wire::u32(value)?),
            libc::IFLA_LINK => link.parent = Some(wire::u32(value)?).filter(|&index| index != 0),
            libc::IFLA_OPERSTATE => link.operstate = wire::u8(value)?,
            libc::IFLA_LINKINFO => decode_info(value, &mut link)?,
            _ => {}
        }
    }
    Ok(link)
}

fn decode_altnames(properties: &[u8], link: &mut Link) -> Decoded<()> {
    for attribute in Attributes::inside(properties) {
        if let (IFLA_ALT_IFNAME, name) = attribute? {
            link.altnames.push(wire::text(name));
        }
    }
    Ok(())
}

fn decode_info(info: &[u8], link: &mut Link) -> Decoded<()> {
    let mut kind = None;
    let mut data: &[u8] = &[];
    let mut port_kind = None;
    for attribute in Attributes::inside(info) {
        let (attribute, value) = attribute?;
        match attribute {
            libc::IFLA_INFO_KIND => kind = Some(wire::text(value)),
            libc::IFLA_INFO_DATA => data = value,
            libc::IFLA_INFO_SLAVE_KIND => port_kind = Some(wire::text(value)),
            libc::IFLA_INFO_SLAVE_DATA if port_kind.as_deref() == Some("bridge") => {
                link.port = Some(decode_port(value)?);
            }
            libc::IFLA_INFO_SLAVE_DATA if port_kind.as_deref() == Some("bond") => {
                link.mac_before_bond = wire::find(value, IFLA_BOND_SLAVE_PERM_HWADDR)?.and_then(wire::mac);
            }
            _ => {}
        }
    }
    link.kind = match kind.as_deref() {
        None => Kind::Device,
        Some("veth") => Kind::Veth,
        Some("bridge") => Kind::Bridge(decode_bridge(data)?),
        Some("vxlan") => Kind::Vxlan(decode_vxlan(data)?),
        Some("vlan") => Kind::Vlan(wire::find(data, IFLA_VLAN_ID)?.map(wire::u16).transpose()?.unwrap_or_default()),
        Some("vrf") => Kind::Vrf(wire::find(data, IFLA_VRF_TABLE)?.map(wire::u32).transpose()?.unwrap_or_default()),
        Some("macvlan") => wire::find(data, IFLA_MACVLAN_MODE)?
            .map(wire::u32)
            .transpose()?
            .and_then(MacvlanMode::from_number)
            .map_or_else(|| Kind::Other("macvlan".to_owned()), Kind::Macvlan),
        Some("ipvlan") => wire::find(data, IFLA_IPVLAN_MODE)?
            .map(wire::u16)
            .transpose()?
            .and_then(IpvlanMode::from_number)
            .map_or_else(|| Kind::Other("ipvlan".to_owned()), Kind::Ipvlan),
        Some("bond") => wire::find(data, IFLA_BOND_MODE)?
            .map(wire::u8)
            .transpose()?
            .and_then(BondMode::from_number)
            .map_or_else(|| Kind::Other("bond".to_owned()), Kind::Bond),
        Some(other) => Kind::Other(other.to_owned()),
    };
    Ok(())
}

/// Reads the VLANs out of one RTM_NEWLINK of family AF_BRIDGE: index of the port, and each VLAN by itself.
pub(super) fn decode_vlans(message: &Message<'_>) -> Decoded<(u32, Vec<PortVlans>)> {
    let head: [u8; HEADER] = wire::fixed(message.body)?;
    let mut vlans = Vec::new();
    for attribute in Attributes::after(message.body, HEADER)? {
        let (libc::IFLA_AF_SPEC, spec) = attribute? else { continue };
        for attribute in Attributes::inside(spec) {
            let (IFLA_BRIDGE_VLAN_INFO, info) = attribute? else { continue };
            // struct bridge_vlan_info { __u16 flags; __u16 vid; }
            let (flags, id) = (wire::u16(info)?, wire::u16(info.get(2..).unwrap_or_default())?);
            let has = |flag: u16| flags & flag != 0;
            vlans.push(PortVlans {
                first: id,
                last: id,
                pvid: has(BRIDGE_VLAN_INFO_PVID),
                untagged: has(BRIDGE_VLAN_INFO_UNTAGGED),
            });
        }
    }
    Ok((wire::u32(&head[4..8])?, vlans))
}

fn decode_bridge(data: &[u8]) -> Decoded<Bridge> {
    Ok(Bridge {
        vlan_filtering: wire::find(data, IFLA_BR_VLAN_FILTERING)?.map(wire::u8).transpose()? == Some(1),
        multicast_snooping: wire::find(data, IFLA_BR_MCAST_SNOOPING)?.map(wire::u8).transpose()?.map(|on| on != 0),
    })
}

fn decode_vxlan(data: &[u8]) -> Decoded<Vxlan> {
    let mut vxlan = Vxlan {
        vni: 0,
        port: 0,
        local: None,
        underlay: None,
        group: None,
        learning: false,
        ttl: 0,
        udp_checksum: true,
    };
    for attribute in Attributes::inside(data) {
        let (kind, value) = attribute?;
        match kind {
            IFLA_VXLAN_ID => vxlan.vni = wire::u32(value)?,
            IFLA_VXLAN_PORT => vxlan.port = wire::be16(value)?,
            IFLA_VXLAN_LINK => vxlan.underlay = Some(wire::u32(value)?).filter(|&index| index != 0),
            IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => vxlan.local = Some(wire::ip(value)?),
            IFLA_VXLAN_GROUP | IFLA_VXLAN_GROUP6 => vxlan.group = Some(wire::ip(value)?),
            IFLA_VXLAN_LEARNING => vxlan.learning = wire::u8(value)? != 0,
            IFLA_VXLAN_TTL => vxlan.ttl = wire::u8(value)?,
            IFLA_VXLAN_UDP_CSUM => vxlan.udp_checksum = wire::u8(value)? != 0,
            _ => {}
        }
    }
    Ok(vxlan)
}

fn decode_port(data: &[u8]) -> Decoded<PortFlags> {
    let mut port = PortFlags::default();
    for attribute in Attributes::inside(data) {
        let (kind, value) = attribute?;
        match kind {
            IFLA_BRPORT_MODE => port.hairpin = Some(wire::u8(value)? != 0),
            IFLA_BRPORT_LEARNING => port.learning = Some(wire::u8(value)? != 0),
            IFLA_BRPORT_UNICAST_FLOOD => port.unicast_flood = Some(wire::u8(value)? != 0),
            IFLA_BRPORT_NEIGH_SUPPRESS => port.neigh_suppress = Some(wire::u8(value)? != 0),
            IFLA_BRPORT_ISOLATED => port.isolated = Some(wire::u8(value)? != 0),
            _ => {}
        }
    }
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&Message { kind: 16, flags: 0, sequence: 0, body: &body });
            let _ = decode_vlans(&Message { kind: 16, flags: 0, sequence: 0, body: &body });
            let mut link = Link { ..decode(&Message { kind: 16, flags: 0, sequence: 0, body: &[0; HEADER] }).unwrap() };
            let _ = decode_info(&body, &mut link);
            let _ = decode_altnames(&body, &mut link);
            let _ = (decode_vxlan(&body), decode_bridge(&body), decode_port(&body));
        }
    }
}
