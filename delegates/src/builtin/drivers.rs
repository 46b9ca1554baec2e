//! Which drivers the kernel has, of those that it may lack.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use attachments::names::IfName;
use attachments::node_label::DRIVERS;

use super::parent_link::{NO_LINK, probe};
use crate::error::{Error, Result};
use crate::nl::Netlink;
use crate::nl::link::{Bond, BondMode, Bridge, IpvlanMode, MacvlanMode, NewKind, Peer, Vxlan};
use crate::tap;

/// The types of [`DRIVERS`] whose links the kernel makes. `root` is the node's directory tree. Nothing is made; a module that is not
/// loaded may be.
pub fn drivers(netlink: &mut Netlink, root: &Path) -> Result<Vec<&'static str>> {
    let mut known = Vec::new();
    for kind in DRIVERS {
        let has = match has_driver(netlink, kind)? {
            Some(has) => has,
            None => root.join(tap::DEVICE.trim_start_matches('/')).exists(),
        };
        if has {
            known.push(kind);
        }
    }
    Ok(known)
}

/// Does the kernel make links of a kind, by its name in netlink or by that of the delegate? None for what netlink does not make.
pub fn has_driver(netlink: &mut Netlink, kind: &str) -> Result<Option<bool>> {
    let far: IfName = "meta-cni-far".parse()?;
    let Some(new) = new_kind(kind, &far) else { return Ok(None) };
    match probe(netlink, new) {
        Err(Error::NotReady(_)) => Ok(Some(false)),
        tried => tried.map(|()| Some(true)),
    }
}

fn new_kind<'a>(kind: &str, far: &'a IfName) -> Option<NewKind<'a>> {
    let parent = NO_LINK;
    Some(match kind {
        "bond" => NewKind::Bond(Bond::new(BondMode::ActiveBackup)),
        "bridge" => NewKind::Bridge(Bridge { vlan_filtering: false, multicast_snooping: None }),
        "dummy" => NewKind::Dummy,
        "ifb" => NewKind::Ifb,
        "ipvlan" => NewKind::Ipvlan { parent, mode: IpvlanMode::L2 },
        "macvlan" => NewKind::Macvlan { parent, mode: MacvlanMode::Bridge, broadcast_queue: None },
        "veth" => NewKind::Veth(Peer { name: far, netns: None, mtu: None, mac: None, group: 0 }),
        "vlan" => NewKind::Vlan { parent, id: 1 },
        "vrf" => NewKind::Vrf { table: 1 },
        "vxlan" => NewKind::Vxlan(Vxlan {
            vni: 1,
            port: 4789,
            local: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            underlay: None,
            group: None,
            learning: false,
            ttl: 0,
            udp_checksum: true,
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::netns::testing::as_host;

    fn found() -> Vec<&'static str> {
        as_host(|| {
            let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(10)).unwrap();
            // Every kernel of the tests has these two.
            for kind in ["bridge", "veth"] {
                assert_eq!(has_driver(&mut netlink, kind).unwrap(), Some(true));
            }
            let found = drivers(&mut netlink, Path::new("/")).unwrap();
            let left: Vec<String> = netlink.links(None).unwrap().into_iter().map(|link| link.name).collect();
            assert_eq!(left, ["lo"], "nothing is made");
            found
        })
    }

    #[test]
    fn kernel_on_host_drivers_are_told() {
        assert_eq!(found(), ["macvlan", "tap", "vxlan"]);
    }

    #[test]
    fn kernel_on_uml_drivers_are_told() {
        assert_eq!(found(), ["bond", "dummy", "ipvlan", "macvlan", "vlan", "vrf", "vxlan"]);
    }
}
