//! bond on a kernel that has it.

use super::*;
use crate::apply::detach;
use crate::nl::link::{BondMode, Kind};
use crate::poll::PollTimer;

/// A bond of links of the pod.
fn bond(keys: &str) -> String {
    format!(
        r#"{{"mode":"active-backup","miimon":"50","linksInContainer":true,"links":[{{"name":"net1"}},{{"name":"net2"}}],
            "ipam":{{"type":"static","addresses":[{{"address":"10.77.0.2/24","gateway":"10.77.0.1"}}],
            "routes":[{{"dst":"10.98.0.0/16"}}]}},"dns":{{"domain":"d"}}{keys}}}"#
    )
}

const BRIDGE: &str = r#"{"bridge":"br-t","mtu":1400}"#;

/// A pod with two links, and what attached them.
fn with_links(bed: &Bed) -> (Pod, [Attached; 2]) {
    let pod = bed.pod();
    let links = ["net1", "net2"].map(|ifname| bed.add(Builtin::Bridge, &pod, ifname, BRIDGE).unwrap());
    (pod, links)
}

#[test]
fn kernel_on_uml_bond_of_links_of_the_pod_is_one_link_with_their_address() {
    on_node(|bed| {
        let (pod, links) = with_links(bed);
        let conf = bond("");
        bed.status(Builtin::Bond, &conf).unwrap();
        let was = ["net1", "net2"].map(|ifname| pod.link(ifname).unwrap());
        let (added, noted) = bed.add_noting(Builtin::Bond, &pod, "bond0", &conf);
        let attached = added.unwrap();
        assert_eq!(noted, [], "nothing is borrowed");
        let link = pod.link("bond0").unwrap();
        assert_eq!(
            (&link.kind, link.group, link.mtu, link.up),
            (&Kind::Bond(BondMode::ActiveBackup), GROUP, 1400, true)
        );
        assert_eq!(link.mac, was[0].mac);
        let result = &attached.result;
        assert_eq!((result.interfaces.len(), result.ips[0].interface), (1, Some(0)));
        assert_eq!(result.interfaces[0].name, "bond0");
        assert_eq!(result.interfaces[0].mac, was[0].mac.unwrap().to_string());
        assert_eq!(result.dns.domain.as_deref(), Some("d"));
        assert_eq!(pod.addresses("bond0"), ["10.77.0.2/24"]);
        assert_eq!(pod.gateway_of("10.98.0.0/16").as_deref(), Some("10.77.0.1"));
        for (link, attached) in was.iter().zip(&links) {
            let port = pod.link(&link.name).unwrap();
            assert_eq!((port.master, port.up, port.mac), (pod.link("bond0").map(|bond| bond.index), true, was[0].mac));
            assert_eq!(port.mac_before_bond, link.mac);
            bed.check(Builtin::Bridge, &pod, &link.name, BRIDGE, &attached.result).unwrap();
        }
        bed.check(Builtin::Bond, &pod, "bond0", &conf, result).unwrap();

        // A pod takes all of them out of the group; each is known all the same.
        for name in ["net1", "net2", "bond0"] {
            let change = LinkChange { group: Some(0), ..LinkChange::default() };
            pod.netlink().set_link(pod.link(name).unwrap().index, &change).unwrap();
        }
        let recorded: Vec<_> = links.iter().chain([&attached]).flat_map(|one| one.links.clone()).collect();
        detach(&mut Sandbox::open(&pod.path, &bed.node()).unwrap(), GROUP, &recorded, None).unwrap();
        let left: Vec<String> = pod.netlink().links(None).unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(left, ["lo"]);
    });
}

#[test]
fn kernel_on_uml_bond_goes_with_the_group_and_its_links_with_it() {
    on_node(|bed| {
        let (pod, _) = with_links(bed);
        let attached = bed.add(Builtin::Bond, &pod, "bond0", &bond("")).unwrap();
        bed.del(Builtin::Bond, &pod, "bond0", &bond(""), Some(&attached)).unwrap();
        let left: Vec<String> = pod.netlink().links(None).unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(left, ["lo"]);
    });
}

#[test]
fn kernel_on_uml_bond_is_in_order_after_a_fail_over() {
    on_node(|bed| {
        let (pod, links) = with_links(bed);
        let conf = bond(r#","failOverMac":1"#);
        let result = bed.add(Builtin::Bond, &pod, "bond0", &conf).unwrap().result;
        let macs = ["net1", "net2"].map(|name| pod.link(name).unwrap().mac);
        assert_ne!(macs[0], macs[1], "each port keeps its own");
        let far = links[0].result.interfaces.iter().find(|interface| interface.name.starts_with("veth")).unwrap();
        let far = bed.link(&far.name).unwrap();
        let mut netlink = bed.netlink();
        netlink.set_link(far.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
        let mut timer = PollTimer::until(Instant::now() + Duration::from_secs(10));
        while pod.link("bond0").unwrap().mac != macs[1] {
            assert!(timer.pause(), "the other port takes over");
        }
        bed.check(Builtin::Bond, &pod, "bond0", &conf, &result).unwrap();
        let mut other = result.clone();
        other.interfaces[0].mac = "02:00:00:00:00:66".to_owned();
        let error = bed.check(Builtin::Bond, &pod, "bond0", &conf, &other).unwrap_err();
        assert!(matches!(&error, Error::Differs(text) if text.contains("bond0 has hardware address")), "{error}");
    });
}

#[test]
fn kernel_on_uml_bond_check_names_what_is_missing() {
    on_node(|bed| {
        let (pod, _) = with_links(bed);
        let result = bed.add(Builtin::Bond, &pod, "bond0", &bond("")).unwrap().result;
        let differs = |conf: &str, want: &str| {
            let error = bed.check(Builtin::Bond, &pod, "bond0", conf, &result).unwrap_err();
            assert!(matches!(&error, Error::Differs(text) if text.contains(want)), "{error}, want {want}");
        };
        differs(&bond("").replace("active-backup", "balance-rr"), "link bond0: mode is");
        differs(&bond("").replace("net2", "net3"), "link net3 is missing in the pod");
        let port = pod.link("net2").unwrap();
        pod.netlink().set_link(port.index, &LinkChange { master: Some(0), ..LinkChange::default() }).unwrap();
        differs(&bond(""), "link net2: index of the bond is None, want Some");
        let alone = pod.link("net2").unwrap();
        assert_eq!((alone.mac, alone.mac_before_bond), (port.mac_before_bond, None), "its own address is back");
    });
}

#[test]
fn kernel_on_uml_bond_refuses_what_it_cannot_have_and_leaves_the_links() {
    on_node(|bed| {
        let (pod, _) = with_links(bed);
        let whole = |ifname: &str, conf: &str, want: &str| {
            let error = bed.add(Builtin::Bond, &pod, ifname, conf).unwrap_err().to_string();
            assert!(error.contains(want), "{error}, want {want}");
            for name in ["net1", "net2"] {
                let link = pod.link(name).unwrap();
                assert_eq!((link.master, link.up), (None, true), "{name}: {want}");
            }
            assert!(pod.link("bond0").is_none());
        };
        whole(
            "bond0",
            &bond("").replace("net2", "net9"),
            r#"links[1].name: got "net9", want a link of the pod that is attached"#,
        );
        whole(
            "bond0",
            &bond("").replace("net1", "lo"),
            "links[0].name: got \"lo\", want another link than the pod's loopback",
        );
        whole("net1", &bond(""), r#"links[0].name: got "net1", want another link than the bond itself"#);
        whole("bond0", &bond(r#","ifname":"bond1""#), r#"ifname: got "bond1", want nothing, or "bond0""#);
        whole("bond0", &bond(r#","mtu":1500"#), "mtu: got 1500, want at most 1400, the MTU of its link net1");
        // A link whose address cannot be configured, after the bond is made.
        whole("bond0", &bond("").replace("10.77.0.1", "10.66.0.1"), "10.98.0.0/16");
        let taken = bed.add(Builtin::Bridge, &pod, "bond1", BRIDGE).unwrap();
        whole("bond1", &bond(""), "CNI_IFNAME: the pod has a veth named bond1 already");
        assert_eq!(taken.links[0].index, pod.link("bond1").unwrap().index);
        bed.add(Builtin::Bond, &pod, "bond0", &bond("")).unwrap();
        let error = bed.add(Builtin::Bond, &pod, "bond2", &bond("")).unwrap_err().to_string();
        assert!(error.contains("links[0].name") && error.contains("net1 is a port of bond0"), "{error}");
    });
}

/// A bond of links of the node.
const OF_NODE: &str = r#"{"mode":"802.3ad","miimon":"100","links":[{"name":"eth1"},{"name":"eth2"}]}"#;

/// What must come back of a link of the node.
fn state(bed: &Bed, name: &str) -> (u32, Option<attachments::names::Mac>, u32, bool, Option<u32>, Vec<String>) {
    let link = bed.link(name).unwrap_or_else(|| panic!("{name} is on the node"));
    let mut held: Vec<String> =
        bed.netlink().addresses(Some(link.index)).unwrap().iter().map(|address| address.net.to_string()).collect();
    held.retain(|address| !address.starts_with("fe80"));
    (link.index, link.mac, link.mtu, link.up, link.master, held)
}

#[test]
fn kernel_on_uml_bond_of_links_of_the_node_gives_them_back_as_they_were() {
    on_node(|bed| {
        bed.master("eth1", 1450, Some("192.0.2.9/24"));
        bed.master("eth2", 1500, None);
        bed.status(Builtin::Bond, OF_NODE).unwrap();
        let was = ["eth1", "eth2"].map(|name| state(bed, name));
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::Bond, &pod, "net1", OF_NODE);
        let attached = added.unwrap();
        let link = pod.link("net1").unwrap();
        assert_eq!((&link.kind, link.mtu, link.mac), (&Kind::Bond(BondMode::Lacp), 1450, was[0].1));
        for name in ["eth1", "eth2"] {
            assert!(bed.link(name).is_none());
            assert_eq!(pod.link(name).unwrap().master, Some(link.index));
        }
        bed.check(Builtin::Bond, &pod, "net1", OF_NODE, &attached.result).unwrap();
        let error = bed.status(Builtin::Bond, OF_NODE).unwrap_err().to_string();
        assert!(error.starts_with(r#"links[0].name: got "eth1", want a device with a link on the node"#), "{error}");
        bed.restore(Builtin::Bond, &pod, true, OF_NODE, &noted).unwrap();
        assert_eq!(["eth1", "eth2"].map(|name| state(bed, name)), was);
        bed.del(Builtin::Bond, &pod, "net1", OF_NODE, Some(&attached)).unwrap();
        assert!(pod.link("net1").is_none());
        assert_eq!(["eth1", "eth2"].map(|name| state(bed, name)), was);
    });
}

#[test]
fn kernel_on_uml_bond_that_fails_gives_back_what_it_had_borrowed() {
    on_node(|bed| {
        bed.master("eth1", 1450, Some("192.0.2.9/24"));
        let was = state(bed, "eth1");
        let pod = bed.pod();
        let error = bed.add(Builtin::Bond, &pod, "net1", OF_NODE).unwrap_err().to_string();
        assert!(error.starts_with(r#"links[1].name: got "eth2", want a device with a link on the node"#), "{error}");
        assert_eq!(state(bed, "eth1"), was);
        bed.master("eth2", 1500, None);
        let others = [was, state(bed, "eth2")];
        let error =
            bed.add(Builtin::Bond, &pod, "net1", &OF_NODE.replace("\"links", "\"mtu\":1500,\"links")).unwrap_err();
        assert!(error.to_string().starts_with("mtu: got 1500, want at most 1450"), "{error}");
        assert_eq!(["eth1", "eth2"].map(|name| state(bed, name)), others);
        // A link of the pod has the name of one of them.
        bed.add(Builtin::Bridge, &pod, "eth2", BRIDGE).unwrap();
        let error = bed.add(Builtin::Bond, &pod, "net1", OF_NODE).unwrap_err().to_string();
        assert!(error.contains("a name that is free in the pod, which has a veth eth2 already"), "{error}");
        assert_eq!(["eth1", "eth2"].map(|name| state(bed, name)), others);
        assert!(pod.link("net1").is_none() && pod.link("eth1").is_none());
    });
}
