//! Which drivers the kernel has, of those that it may lack.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use attachments::node_label::DRIVERS;

use super::parent_link::{NO_LINK, probe};
use crate::error::{Error, Result};
use crate::nl::Netlink;
use crate::nl::link::{Bond, BondMode, IpvlanMode, MacvlanMode, NewKind, Vxlan};
use crate::tap;

/// The types of [`DRIVERS`] whose links the kernel makes. `root` is the node's directory tree. Nothing is made; a module that is not
/// loaded may be.
pub fn drivers(netlink: &mut Netlink, root: &Path) -> Result<Vec<&'static str>> {
    let mut known = Vec::new();
    for kind in DRIVERS {
        let has = match new_kind(kind) {
            Some(new) => match probe(netlink, new) {
                Err(Error::NotReady(_)) => false,
                tried => tried.map(|()| true)?,
            },
            None => root.join(tap::DEVICE.trim_start_matches('/')).exists(),
        };
        if has {
            known.push(kind);
        }
    }
    Ok(known)
}

/// Absent for `tap`, which netlink does not make.
fn new_kind(kind: &str) -> Option<NewKind<'static>> {
    let parent = NO_LINK;
    Some(match kind {
        "bond" => NewKind::Bond(Bond::new(BondMode::ActiveBackup)),
        "dummy" => NewKind::Dummy,
        "ipvlan" => NewKind::Ipvlan { parent, mode: IpvlanMode::L2 },
        "macvlan" => NewKind::Macvlan { parent, mode: MacvlanMode::Bridge, broadcast_queue: None },
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
