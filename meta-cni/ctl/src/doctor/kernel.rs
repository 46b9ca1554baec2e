//! Does the kernel have the drivers that built-in delegates need? What its files do not tell is tried in a namespace that ends with it.

use std::path::Path;
use std::time::{Duration, Instant};

use attachments::names::IfName;
use delegates::error::Error;
use delegates::netns::in_fresh;
use delegates::nl::link::{Bond, BondMode, Bridge, IpvlanMode, MacvlanMode, NewKind, NewLink, Peer, Vxlan};
use delegates::nl::nft::{Family, Nftables, Table};
use delegates::nl::{Netlink, errno};
use nix::errno::Errno;

use super::finding::{Finding, Severity};
use super::modules::Modules;

const PATIENCE: Duration = Duration::from_secs(10);

/// A driver: its module, what needs it, and the option of a kernel's configuration.
const DRIVERS: [(&str, &str, &str); 10] = [
    ("veth", "bridge, ptp, vxlan and most default networks", "CONFIG_VETH"),
    ("bridge", "bridge, vxlan", "CONFIG_BRIDGE"),
    ("macvlan", "macvlan", "CONFIG_MACVLAN"),
    ("ipvlan", "ipvlan", "CONFIG_IPVLAN"),
    ("8021q", "vlan", "CONFIG_VLAN_8021Q"),
    ("vxlan", "vxlan, and overlays", "CONFIG_VXLAN"),
    ("dummy", "dummy", "CONFIG_DUMMY"),
    ("vrf", "vrf", "CONFIG_NET_VRF"),
    ("ifb", "bandwidth", "CONFIG_IFB"),
    ("bonding", "bond", "CONFIG_BONDING"),
];

/// Says which drivers are missing.
pub fn examine(findings: &mut Vec<Finding>) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let roots = [Path::new("/"), Path::new("/proc/1/root")];
    let known: Vec<Modules> = roots.iter().map(|root| Modules::of(root, release.trim())).collect();
    let untold = DRIVERS.iter().filter(|(module, _, _)| !known.iter().any(|modules| modules.has(module)));
    let untold: Vec<&str> = untold.map(|(module, _, _)| *module).collect();
    let tried = in_fresh(|| {
        let nft = Nftables::open(Instant::now() + PATIENCE)?;
        Ok((attempt(&untold)?, packet_filter(nft)))
    });
    match tried {
        Ok((missing, families)) => {
            for (module, users, option) in DRIVERS.iter().filter(|(module, _, _)| missing.contains(module)) {
                let found = format!("the kernel lacks the driver {module}; it is for: {users}");
                let advice = format!(
                    "load the module {module}, or take a kernel with {option}; without it networks of these types fail"
                );
                findings.push(Finding::new("D01", Severity::Warning, found, advice));
            }
            for family in families {
                let found = format!("the kernel has no nftables for the family {family}");
                let advice = "take a kernel with CONFIG_NF_TABLES and its families: port mappings, masquerade and the guard of overlays need them";
                findings.push(Finding::new("D02", Severity::Warning, found, advice));
            }
        }
        Err(error) => findings.push(Finding::new(
            "D03",
            Severity::Info,
            format!("what the kernel can do was not tried: {error}"),
            "run doctor as root on the node, or in the agent's container",
        )),
    }
}

/// Those of the modules whose links the kernel does not make.
fn attempt<'a>(modules: &[&'a str]) -> Result<Vec<&'a str>, Error> {
    let mut netlink = Netlink::open(Instant::now() + PATIENCE)?;
    let name = |text: &str| text.parse::<IfName>().map_err(Error::from);
    let (parent, peer) = (name("parent")?, name("peer")?);
    // What stands on another link needs one: the loopback link is none that it takes.
    let has_parent = netlink.add_link(&NewLink::new(&parent, NewKind::Dummy)).is_ok()
        || netlink.add_link(&NewLink::new(&parent, NewKind::Veth(far_end(&peer)))).is_ok();
    let index = netlink.link_by_name(&parent)?.filter(|_| has_parent).map(|link| link.index);
    let mut missing = Vec::new();
    for (i, module) in modules.iter().enumerate() {
        let (tried, other) = (name(&format!("try{i}"))?, name(&format!("far{i}"))?);
        let kind = match (*module, index) {
            ("veth", _) => NewKind::Veth(far_end(&other)),
            ("bridge", _) => NewKind::Bridge(Bridge { vlan_filtering: false, multicast_snooping: None }),
            ("vxlan", _) => NewKind::Vxlan(Vxlan {
                vni: 1,
                port: 4789,
                local: None,
                underlay: None,
                group: None,
                learning: false,
                ttl: 0,
                udp_checksum: true,
            }),
            ("dummy", _) => NewKind::Dummy,
            ("vrf", _) => NewKind::Vrf { table: 1000 },
            ("ifb", _) => NewKind::Ifb,
            ("bonding", _) => NewKind::Bond(Bond::new(BondMode::ActiveBackup)),
            ("macvlan", Some(parent)) => NewKind::Macvlan { parent, mode: MacvlanMode::Bridge, broadcast_queue: None },
            ("ipvlan", Some(parent)) => NewKind::Ipvlan { parent, mode: IpvlanMode::L2 },
            ("8021q", Some(parent)) => NewKind::Vlan { parent, id: 7 },
            _ => continue,
        };
        match netlink.add_link(&NewLink::new(&tried, kind)) {
            Err(error) if errno(&error) == Some(Errno::EOPNOTSUPP) => missing.push(*module),
            // A macvlan and an ipvlan on one parent refuse one another, and that both are there.
            Err(error) if errno(&error).is_none_or(|errno| errno == Errno::EPERM) => return Err(error),
            _ => {}
        }
        if let Some(link) = netlink.link_by_name(&tried)? {
            netlink.delete_link(link.index)?;
        }
    }
    Ok(missing)
}

/// The far end of a veth, beside its near end.
pub(super) fn far_end(name: &IfName) -> Peer<'_> {
    Peer { name, netns: None, mtu: None, mac: None, group: 0 }
}

/// The families of the packet filter that are missing.
fn packet_filter(mut nft: Nftables) -> Vec<&'static str> {
    let families = [Family::Ip, Family::Ip6, Family::Inet, Family::Bridge, Family::Netdev];
    let is_missing =
        |family: &Family| matches!(nft.could_make(Table { family: *family, name: "meta-cni-doctor" }), Ok(false));
    families.into_iter().filter(is_missing).map(Family::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_what_is_tried_is_in_a_namespace_that_ends() {
        let links = || {
            let mut netlink = Netlink::open(Instant::now() + PATIENCE).unwrap();
            netlink.links(None).unwrap().iter().map(|link| link.name.clone()).collect::<Vec<_>>()
        };
        let before = links();
        let missing = in_fresh(|| attempt(&["veth", "bridge", "vxlan", "macvlan", "dummy"])).unwrap();
        // Every kernel of the tests has these two.
        assert!(!missing.contains(&"veth") && !missing.contains(&"bridge"), "{missing:?}");
        assert_eq!(links(), before);
        let mut findings = Vec::new();
        examine(&mut findings);
        assert!(findings.iter().all(|one| one.id != "D03"), "{findings:?}");
    }
}
