//! vlan, dummy, and the VLANs of a bridge: kernels that have them.

use std::net::UdpSocket;

use super::*;
use crate::error::Error;
use crate::nl::link::{Bridge, Kind, PortVlans};

const STATIC: &str = r#""ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24"}]}"#;

#[test]
fn kernel_on_uml_vlan_is_born_in_the_pod_and_needs_no_master_to_go() {
    on_node(|bed| {
        let master = bed.master("eth1", 1450, None);
        let pod = bed.pod();
        let conf = format!(r#"{{"master":"eth1","vlanId":100,"mtu":1400,"dns":{{"domain":"d"}},{STATIC}}}"#);
        bed.status(Builtin::Vlan, &conf).unwrap();
        let attached = bed.add(Builtin::Vlan, &pod, "eth1", &conf).unwrap();
        let link = pod.link("eth1").unwrap();
        assert_eq!((&link.kind, link.mtu, link.group, link.up), (&Kind::Vlan(100), 1400, GROUP, true));
        assert_eq!((link.mac, link.parent), (master.mac, Some(master.index)));
        assert_eq!(pod.addresses("eth1"), ["10.77.0.2/24"]);
        assert_eq!(pod.sysctl("ipv4/conf/eth1/arp_notify"), "0", "as with the reference plugin");
        let result = &attached.result;
        assert_eq!((result.interfaces.len(), result.ips[0].interface), (1, Some(0)));
        assert_eq!(result.dns.domain.as_deref(), Some("d"));
        bed.check(Builtin::Vlan, &pod, "eth1", &conf, result).unwrap();
        let other = conf.replace("100", "101");
        let error = bed.check(Builtin::Vlan, &pod, "eth1", &other, result).unwrap_err();
        assert!(matches!(&error, Error::Differs(text) if text.contains("VLAN is Vlan(100)")), "{error}");

        bed.netlink().delete_link(master.index).unwrap();
        bed.del(Builtin::Vlan, &pod, "eth1", &conf, Some(&attached)).unwrap();
        bed.del(Builtin::Vlan, &pod, "eth1", &conf, Some(&attached)).unwrap();
        assert!(pod.link("eth1").is_none());
        assert!(matches!(bed.status(Builtin::Vlan, &conf), Err(Error::NotReady(_))));
        let error = bed.add(Builtin::Vlan, &pod, "eth1", &conf).unwrap_err();
        assert_eq!(error.to_string(), r#"master: got "eth1", want an existing link"#);
    });
}

#[test]
fn kernel_on_uml_vlan_on_a_port_on_a_link_in_the_pod_and_twice() {
    on_node(|bed| {
        let pod = bed.pod();
        bed.add(Builtin::Bridge, &pod, "net1", r#"{"bridge":"br-t"}"#).unwrap();
        let inside = format!(r#"{{"master":"net1","linkInContainer":true,"vlanId":7,{STATIC}}}"#);
        bed.add(Builtin::Vlan, &pod, "net2", &inside).unwrap();
        assert_eq!(pod.link("net2").unwrap().parent, Some(pod.link("net1").unwrap().index));
        let error = bed.add(Builtin::Vlan, &pod, "net3", &inside).unwrap_err();
        assert_eq!(error.to_string(), "create vlan net3: File exists (VLAN 7 of net1 is net2 already)");
        let port = bed.links().into_iter().find(|link| link.starts_with("veth")).unwrap();
        let on_port = format!(r#"{{"master":"{port}","vlanId":7,{STATIC}}}"#);
        let holder = bed.pod();
        bed.add(Builtin::Vlan, &holder, "net1", &on_port).unwrap();
        let error = bed.add(Builtin::Vlan, &bed.pod(), "net1", &on_port).unwrap_err().to_string();
        assert!(error.contains(&format!("VLAN 7 of {port} is in another namespace already")), "{error}");
    });
}

#[test]
fn kernel_on_host_a_missing_driver_of_vlan_dummy_vrf_and_bond_is_said() {
    on_node(|bed| {
        bed.master("eth1", 1450, None);
        let vlan = format!(r#"{{"master":"eth1","vlanId":7,{STATIC}}}"#);
        let dummy = format!("{{{STATIC}}}");
        let bond = r#"{"mode":"balance-rr","miimon":"0","linksInContainer":true,"links":[{"name":"a"},{"name":"b"}]}"#;
        for (kind, conf) in [
            (Builtin::Vlan, vlan.as_str()),
            (Builtin::Dummy, &dummy),
            (Builtin::Vrf, r#"{"vrfname":"blue"}"#),
            (Builtin::Bond, bond),
        ] {
            let status = bed.status(kind, conf).unwrap_err();
            assert!(matches!(&status, Error::NotReady(text) if text.contains("no driver")), "{status}");
        }
        let error = bed.add(Builtin::Dummy, &bed.pod(), "net1", &dummy).unwrap_err();
        assert!(error.to_string().starts_with("create dummy net1: Operation not supported"), "{error}");
    });
}

#[test]
fn kernel_on_uml_dummy_holds_addresses() {
    on_node(|bed| {
        let pod = bed.pod();
        let conf = format!("{{{STATIC}}}");
        bed.status(Builtin::Dummy, &conf).unwrap();
        assert_eq!(bed.links(), Vec::<String>::new(), "asking for the driver makes nothing");
        let attached = bed.add(Builtin::Dummy, &pod, "net1", &conf).unwrap();
        let link = pod.link("net1").unwrap();
        assert_eq!((link.kind.as_str(), link.group, link.up), ("dummy", GROUP, true));
        assert_eq!(attached.result.interfaces[0].mac, link.mac.unwrap().to_string());
        assert_eq!(pod.addresses("net1"), ["10.77.0.2/24"]);
        bed.check(Builtin::Dummy, &pod, "net1", &conf, &attached.result).unwrap();
        pod.netlink().set_link(link.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
        let error = bed.check(Builtin::Dummy, &pod, "net1", &conf, &attached.result).unwrap_err();
        assert_eq!(error.to_string(), "link net1: up is false, want true");
        bed.del(Builtin::Dummy, &pod, "net1", &conf, Some(&attached)).unwrap();
        assert!(pod.link("net1").is_none());
        let error = bed.add(Builtin::Dummy, &pod, "net1", "{}").unwrap_err();
        assert_eq!(error.to_string(), "ipam.type: missing, want an IPAM type");
    });
}

fn on_bridge(address: &str, more: &str) -> String {
    format!(r#"{{"bridge":"br-t"{more},"ipam":{{"type":"static","addresses":[{{"address":"{address}"}}]}}}}"#)
}

fn vlans_of(bed: &Bed, port: &str) -> Vec<PortVlans> {
    let index = bed.link(port).unwrap().index;
    bed.netlink().port_vlans(index).unwrap()
}

fn tagged(id: u16) -> PortVlans {
    PortVlans { first: id, last: id, pvid: false, untagged: false }
}

fn native(id: u16) -> PortVlans {
    PortVlans { pvid: true, untagged: true, ..tagged(id) }
}

#[test]
fn kernel_on_uml_bridge_ports_are_in_their_vlans_and_in_no_other() {
    on_node(|bed| {
        for (i, (more, want)) in [
            (r#","vlan":100"#, vec![native(100)]),
            (r#","vlanTrunk":[{"minID":5,"maxID":6},{"id":9}]"#, vec![native(1), tagged(5), tagged(6), tagged(9)]),
            (r#","vlan":6,"vlanTrunk":[{"minID":5,"maxID":7}]"#, vec![tagged(5), native(6), tagged(7)]),
            (r#","vlan":100,"preserveDefaultVlan":true"#, vec![PortVlans { untagged: true, ..tagged(1) }, native(100)]),
        ]
        .into_iter()
        .enumerate()
        {
            let pod = bed.pod();
            let conf = on_bridge(&format!("10.77.0.{}/24", i + 2), more);
            let attached = bed.add(Builtin::Bridge, &pod, "net1", &conf).unwrap();
            let port = attached.result.interfaces[1].name.clone();
            assert_eq!(vlans_of(bed, &port), want, "{more}");
            bed.check(Builtin::Bridge, &pod, "net1", &conf, &attached.result).unwrap();
            let index = bed.link(&port).unwrap().index;
            bed.netlink().add_port_vlans(index, false, tagged(50)).unwrap();
            let error = bed.check(Builtin::Bridge, &pod, "net1", &conf, &attached.result);
            assert_eq!(error.is_err(), !more.contains("preserve"), "{more}");
            bed.netlink().delete_port_vlans(index, false, *want.last().unwrap()).unwrap();
            bed.check(Builtin::Bridge, &pod, "net1", &conf, &attached.result).unwrap_err();
            bed.del(Builtin::Bridge, &pod, "net1", &conf, Some(&attached)).unwrap();
        }
        assert!(matches!(bed.link("br-t").unwrap().kind, Kind::Bridge(Bridge { vlan_filtering: true, .. })));
    });
}

#[test]
fn kernel_on_uml_bridge_vlans_separate_pods_and_have_gateways_of_their_own() {
    on_node(|bed| {
        let pods = [bed.pod(), bed.pod(), bed.pod()];
        let vlans = [100, 100, 200];
        let mut results = Vec::new();
        for (i, pod) in pods.iter().enumerate() {
            let more = format!(r#","vlan":{},"isGateway":true"#, vlans[i]);
            let conf = on_bridge(&format!("10.77.{}.{}/24", vlans[i], i + 2), &more);
            let attached = bed.add(Builtin::Bridge, pod, "net1", &conf).unwrap();
            bed.check(Builtin::Bridge, pod, "net1", &conf, &attached.result).unwrap();
            results.push((conf, attached));
        }
        let told = &results[0].1.result.interfaces;
        let gateway = bed.link("br-t.100").unwrap();
        assert_eq!((told.len(), told[3].name.as_str()), (4, "br-t.100"));
        assert_eq!((told[3].mac.clone(), gateway.up), (gateway.mac.unwrap().to_string(), true));
        let port = bed.netlink().link_by_index(gateway.parent.unwrap()).unwrap().unwrap().name;
        assert_eq!(crate::netns::read_sysctl(&["ipv6", "conf", &port, "accept_ra"]).unwrap().as_deref(), Some("0"));
        let held = bed.netlink().addresses(Some(gateway.index)).unwrap();
        assert!(held.iter().any(|address| address.net == net("10.77.100.1/24")), "{held:?}");
        let bridge = bed.link("br-t").unwrap();
        let held = bed.netlink().addresses(Some(bridge.index)).unwrap();
        assert!(held.iter().all(|address| address.net.addr().is_ipv6()), "{held:?}");

        let hears = |from: usize, to: usize| {
            let sockets =
                [from, to].map(|i| pods[i].netns.enter(|| Ok(UdpSocket::bind("0.0.0.0:0").unwrap())).unwrap());
            let port = sockets[1].local_addr().unwrap().port();
            sockets[1].set_read_timeout(Some(Duration::from_millis(600))).unwrap();
            // On one wire whatever the subnet says: the broadcast goes to every port of the VLAN.
            sockets[0].set_broadcast(true).unwrap();
            sockets[0].send_to(b"x", ("255.255.255.255", port)).ok();
            sockets[0].send_to(b"x", (format!("10.77.{}.{}", vlans[to], to + 2), port)).ok();
            sockets[1].recv(&mut [0]).is_ok()
        };
        assert!(hears(0, 1));
        assert!(!hears(0, 2));
        for (pod, (conf, attached)) in pods.iter().zip(&results) {
            bed.del(Builtin::Bridge, pod, "net1", conf, Some(attached)).unwrap();
        }
        let mut left = bed.links();
        left.retain(|link| !link.starts_with("veth"));
        left.sort();
        assert_eq!(left, ["br-t", "br-t.100", "br-t.200"], "as the reference plugin leaves it");
    });
}

#[test]
fn kernel_on_uml_bridge_gateway_of_a_vlan_is_made_once_by_many() {
    as_host(|| {
        let state = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for i in 0..8 {
                let bed = Bed { state: tempfile::tempdir_in(&state).unwrap(), pods: Cell::new(i) };
                scope.spawn(move || {
                    let conf = on_bridge(&format!("10.77.0.{}/24", i + 2), r#","vlan":100,"isGateway":true"#);
                    bed.add(Builtin::Bridge, &bed.pod(), "net1", &conf).unwrap();
                });
            }
        });
        let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
        let gateway = netlink.link_by_name(&name("br-t.100")).unwrap().unwrap();
        assert_eq!(netlink.port_vlans(gateway.parent.unwrap()).unwrap(), [native(100)]);
    });
}

#[test]
fn kernel_on_uml_bridge_without_filtering_takes_no_vlans() {
    on_node(|bed| {
        let plain = on_bridge("10.77.0.2/24", "");
        bed.add(Builtin::Bridge, &bed.pod(), "net1", &plain).unwrap();
        let conf = on_bridge("10.77.0.3/24", r#","vlan":100"#);
        let pod = bed.pod();
        let error = bed.add(Builtin::Bridge, &pod, "net1", &conf).unwrap_err();
        let want = r#"bridge: got "br-t", want a bridge with vlan_filtering on, for `vlan` to have an effect"#;
        assert!(matches!(&error, Error::Parent(_)) && error.to_string().starts_with(want), "{error}");
        assert!(pod.link("net1").is_none());
        assert!(matches!(bed.status(Builtin::Bridge, &conf), Err(Error::NotReady(_))));
    });
}

#[test]
fn kernel_on_host_bridge_says_that_the_kernel_has_no_vlan_filtering() {
    on_node(|bed| {
        let pod = bed.pod();
        let conf = on_bridge("10.77.0.3/24", r#","vlan":100"#);
        let error = bed.add(Builtin::Bridge, &pod, "net1", &conf).unwrap_err();
        assert_eq!(error.to_string(), "vlan: got 100, want none: this kernel has no bridge VLAN filtering");
        assert_eq!((bed.links(), pod.link("net1")), (Vec::new(), None));
    });
}
