//! Does the kernel have the drivers that built-in delegates need? What its files do not tell is tried in a namespace that ends with it.

use std::path::Path;
use std::time::{Duration, Instant};

use delegates::builtin::has_driver;
use delegates::error::Error;
use delegates::netns::in_fresh;
use delegates::nl::Netlink;
use delegates::nl::nft::{Family, Nftables, Table};

use super::finding::{Finding, Severity};
use super::modules::Modules;

const PATIENCE: Duration = Duration::from_secs(10);

/// A driver: its module, the kind of its links, what needs it, and the option of a kernel's configuration.
const DRIVERS: [(&str, &str, &str, &str); 10] = [
    ("veth", "veth", "bridge, ptp, vxlan and most default networks", "CONFIG_VETH"),
    ("bridge", "bridge", "bridge, vxlan", "CONFIG_BRIDGE"),
    ("macvlan", "macvlan", "macvlan", "CONFIG_MACVLAN"),
    ("ipvlan", "ipvlan", "ipvlan", "CONFIG_IPVLAN"),
    ("8021q", "vlan", "vlan", "CONFIG_VLAN_8021Q"),
    ("vxlan", "vxlan", "vxlan, and overlays", "CONFIG_VXLAN"),
    ("dummy", "dummy", "dummy", "CONFIG_DUMMY"),
    ("vrf", "vrf", "vrf", "CONFIG_NET_VRF"),
    ("ifb", "ifb", "bandwidth", "CONFIG_IFB"),
    ("bonding", "bond", "bond", "CONFIG_BONDING"),
];

/// Says which drivers are missing.
pub fn examine(findings: &mut Vec<Finding>) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let roots = [Path::new("/"), Path::new("/proc/1/root")];
    let known: Vec<Modules> = roots.iter().map(|root| Modules::of(root, release.trim())).collect();
    let untold = DRIVERS.iter().filter(|(module, ..)| !known.iter().any(|modules| modules.has(module)));
    let untold: Vec<&str> = untold.map(|(_, kind, ..)| *kind).collect();
    let tried = in_fresh(|| {
        let nft = Nftables::open(Instant::now() + PATIENCE)?;
        Ok((missing(&untold)?, packet_filter(nft)))
    });
    match tried {
        Ok((missing, families)) => {
            for (module, _, users, option) in DRIVERS.iter().filter(|(_, kind, ..)| missing.contains(kind)) {
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

/// Those of the kinds whose links the kernel does not make.
fn missing<'a>(kinds: &[&'a str]) -> Result<Vec<&'a str>, Error> {
    let mut netlink = Netlink::open(Instant::now() + PATIENCE)?;
    let mut missing = Vec::new();
    for kind in kinds {
        if has_driver(&mut netlink, kind)? == Some(false) {
            missing.push(*kind);
        }
    }
    Ok(missing)
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
        let mut findings = Vec::new();
        examine(&mut findings);
        assert!(findings.iter().all(|one| one.id != "D03"), "{findings:?}");
        assert_eq!(links(), before);
    }
}
