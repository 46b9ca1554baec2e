//! vxlan on a real kernel: two nodes with an underlay between them, and one network's life on one node.

use super::*;
use crate::call::testing::ours;
use crate::error::Error;
use crate::nl::link::{Bridge, Kind, Vxlan};
use crate::nl::neighbour::ALL_ZERO;

fn conf(more: &str) -> String {
    format!(r#"{{"vni":4200,"underlay":"192.0.2.0/24"{more}}}"#)
}

fn addressed(address: &str, more: &str) -> String {
    conf(&format!(r#"{more},"ipam":{{"type":"static","addresses":[{{"address":"{address}"}}]}}"#))
}

#[test]
fn kernel_vxlan_makes_one_device_and_bridge_and_both_go_with_the_last_port() {
    on_node(|bed| {
        let underlay = bed.master("eth1", 1500, Some("192.0.2.1/24"));
        let before = bed.links();
        let conf = conf(r#","peers":["192.0.2.1","192.0.2.2","192.0.2.3"]"#);
        let pods = [bed.pod(), bed.pod()];
        let made = pods.each_ref().map(|pod| bed.add(Builtin::Vxlan, pod, "net1", &conf).unwrap());
        let device = bed.link("vx4200").unwrap();
        let Kind::Vxlan(is) = &device.kind else { panic!("{device:?}") };
        let want = Vxlan {
            vni: 4200,
            port: 4789,
            local: Some("192.0.2.1".parse().unwrap()),
            underlay: Some(underlay.index),
            group: None,
            learning: true,
            ttl: 0,
            udp_checksum: true,
        };
        assert_eq!((is, device.mtu), (&want, 1450));
        let flood = bed.netlink().forwardings(device.index).unwrap();
        let flood: Vec<_> =
            flood.iter().filter(|f| f.mac == ALL_ZERO).filter_map(|f| f.remote).map(|ip| ip.to_string()).collect();
        assert_eq!(flood, ["192.0.2.2", "192.0.2.3"], "every peer but the node itself, once");
        let bridge = bed.link("bx4200").unwrap();
        assert_eq!((device.master, bridge.up, bridge.mtu), (Some(bridge.index), true, 1450));
        for ours in ["bx4200", "vx4200"] {
            let off = crate::netns::read_sysctl(&["ipv6", "conf", ours, "disable_ipv6"]).unwrap();
            assert_eq!(off.as_deref(), Some("1"), "{ours}: the node takes no part in the overlay");
        }
        assert_eq!(pods[0].link("net1").unwrap().mtu, 1450);
        let told: Vec<_> = made[0].result.interfaces.iter().map(|i| i.name.as_str()).collect();
        assert_eq!((told[0], told[2]), ("bx4200", "net1"));
        for (pod, attached) in pods.iter().zip(&made) {
            bed.check(Builtin::Vxlan, pod, "net1", &conf, &attached.result).unwrap();
        }
        bed.del(Builtin::Vxlan, &pods[0], "net1", &conf, Some(&made[0])).unwrap();
        assert!(bed.link("vx4200").is_some(), "a port is left");
        bed.del(Builtin::Vxlan, &pods[1], "net1", &conf, Some(&made[1])).unwrap();
        bed.del(Builtin::Vxlan, &pods[1], "net1", &conf, Some(&made[1])).unwrap();
        assert_eq!(bed.links(), before);
        assert_eq!(std::fs::read_dir(bed.state.path().join("locks")).unwrap().count(), 0, "no lock file stays");
    });
}

#[test]
fn kernel_vxlan_carries_frames_between_nodes() {
    // One thread per node; the underlay's other end is handed to the second node.
    on_node(|bed| {
        let (near, far) = (name("eth1"), name("eth1"));
        let other = pod();
        let other_path = path_of(&other);
        let peer = Peer { name: &far, netns: Some(std::os::fd::AsFd::as_fd(&other)), mtu: None, mac: None, group: 0 };
        bed.netlink().add_link(&NewLink { up: true, ..NewLink::new(&near, NewKind::Veth(peer)) }).unwrap();
        let index = bed.link("eth1").unwrap().index;
        bed.netlink().add_address(index, net("192.0.2.1/24"), true).unwrap();
        let list = r#","peers":["192.0.2.1","192.0.2.2"]"#;
        let here = bed.pod();
        bed.add(Builtin::Vxlan, &here, "net1", &addressed("10.42.0.1/24", list)).unwrap();
        let there = NetNs::open(&other_path).unwrap();
        there
            .enter(|| {
                let bed = Bed { state: tempfile::tempdir().unwrap(), pods: Cell::new(7) };
                let link = bed.link("eth1").unwrap();
                bed.netlink().set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
                bed.netlink().add_address(link.index, net("192.0.2.2/24"), true).unwrap();
                let pod = bed.pod();
                bed.add(Builtin::Vxlan, &pod, "net1", &addressed("10.42.0.2/24", list)).unwrap();
                let receiver = pod.udp("0.0.0.0:9");
                receiver.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                let sender = here.udp("0.0.0.0:9");
                sender.send_to(&[7; 1400], "10.42.0.2:9").unwrap();
                let mut datagram = [0; 1500];
                assert_eq!(receiver.recv(&mut datagram).unwrap(), 1400);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn kernel_vxlan_goes_although_the_pods_namespace_is_gone() {
    on_node(|bed| {
        bed.master("eth1", 1500, Some("192.0.2.1/24"));
        let before = bed.links();
        let pod = bed.pod();
        bed.add(Builtin::Vxlan, &pod, "net1", &conf("")).unwrap();
        let Pod { netns, container, path } = pod;
        drop(netns);
        let gone = Pod { netns: super::pod(), container, path };
        bed.call(&gone, "net1", &conf(""), None, |host, call| Builtin::Vxlan.del(host, call)).unwrap();
        assert_eq!(bed.links(), before);
    });
}

#[test]
fn kernel_vxlan_refuses_a_clash_and_explains_it() {
    on_node(|bed| {
        let underlay = bed.master("eth1", 1500, Some("192.0.2.1/24"));
        let foreign = Vxlan {
            vni: 4200,
            port: 4789,
            local: Some("192.0.2.1".parse().unwrap()),
            underlay: Some(underlay.index),
            group: None,
            learning: false,
            ttl: 0,
            udp_checksum: true,
        };
        bed.netlink().add_link(&NewLink::new(&name("flannel.1"), NewKind::Vxlan(foreign))).unwrap();
        let before = bed.links();
        let error = bed.add(Builtin::Vxlan, &bed.pod(), "net1", &conf("")).unwrap_err();
        assert!(
            error.to_string().contains("link flannel.1, which is not ours, has VNI 4200 on UDP port 4789"),
            "{error}"
        );
        assert_eq!(bed.links(), before);
        let pod = bed.pod();
        bed.add(Builtin::Vxlan, &pod, "net1", &conf(r#","port":8472"#)).unwrap();
        assert!(bed.link("v4200p8472").is_some());
    });
}

#[test]
fn kernel_vxlan_refuses_other_settings_while_pods_are_attached() {
    on_node(|bed| {
        bed.master("eth1", 1500, Some("192.0.2.1/24"));
        bed.master("eth2", 1500, Some("198.51.100.1/24"));
        let pod = bed.pod();
        let attached = bed.add(Builtin::Vxlan, &pod, "net1", &conf("")).unwrap();
        for (other, want) in [
            (r#"{"vni":4200,"underlay":"eth2"}"#, "underlay: got link"),
            (r#"{"vni":4200,"underlay":"eth1","group":"239.1.1.1"}"#, "group: got 239.1.1.1, want none"),
            (r#"{"vni":4200,"underlay":"eth1","mtu":1400}"#, "mtu: got 1400, want 1450: vx4200 was made with it"),
        ] {
            let before = bed.links();
            let error = bed.add(Builtin::Vxlan, &bed.pod(), "net1", other).unwrap_err();
            assert!(matches!(error, Error::Parent(_)) && error.to_string().contains(want), "{error}");
            assert_eq!(bed.links(), before);
        }
        bed.del(Builtin::Vxlan, &pod, "net1", &conf(""), Some(&attached)).unwrap();
        bed.add(Builtin::Vxlan, &bed.pod(), "net1", r#"{"vni":4200,"underlay":"eth2"}"#).unwrap();
    });
}

#[test]
fn kernel_vxlan_names_what_is_wrong_with_the_underlay() {
    on_node(|bed| {
        bed.master("eth1", 1500, Some("192.0.2.1/24"));
        bed.master("eth2", 1500, None);
        let before = bed.links();
        for (conf, want) in [
            (r#"{"vni":1}"#, "underlay: missing, want an interface or a subnet: the node has no default route"),
            (r#"{"vni":1,"underlay":"eth8"}"#, r#"underlay: got "eth8", want an existing link"#),
            (r#"{"vni":1,"underlay":"eth2"}"#, r#"underlay: got "eth2", want a link with a global address"#),
            (
                r#"{"vni":1,"underlay":"eth1","peers":["fd00::1"]}"#,
                r#"underlay: got "eth1", want a link with a global IPv6"#,
            ),
            (r#"{"vni":1,"underlay":"203.0.113.0/24"}"#, "want a subnet in which this node has an address"),
            (r#"{"vni":1,"underlay":"eth1","mtu":1451}"#, "mtu: got 1451, want at most 1450: underlay eth1 has 1500"),
        ] {
            let error = bed.add(Builtin::Vxlan, &bed.pod(), "net1", conf).unwrap_err();
            assert!(error.to_string().contains(want), "{error}\nwant {want}");
            assert_eq!(bed.links(), before);
        }
        assert!(matches!(bed.status(Builtin::Vxlan, r#"{"vni":1}"#), Err(Error::NotReady(_))));
        bed.status(Builtin::Vxlan, &conf("")).unwrap();
    });
}

#[test]
fn kernel_vxlan_over_ipv6_and_with_a_group() {
    on_node(|bed| {
        let underlay = bed.master("eth1", 1500, Some("fd00::1/64"));
        bed.netlink().add_address(underlay.index, net("192.0.2.1/24"), true).unwrap();
        let pods = [bed.pod(), bed.pod()];
        bed.add(Builtin::Vxlan, &pods[0], "net1", r#"{"vni":6,"underlay":"eth1","peers":["fd00::2"]}"#).unwrap();
        assert_eq!(pods[0].link("net1").unwrap().mtu, 1430);
        bed.add(Builtin::Vxlan, &pods[1], "net1", r#"{"vni":7,"underlay":"eth1","group":"239.1.1.1"}"#).unwrap();
        let Kind::Vxlan(is) = bed.link("vx7").unwrap().kind else { panic!() };
        assert_eq!((is.group, is.local), (Some("239.1.1.1".parse().unwrap()), Some("192.0.2.1".parse().unwrap())));
    });
}

#[test]
fn kernel_vxlan_failure_takes_the_overlay_back() {
    on_node(|bed| {
        bed.master("eth1", 1500, Some("192.0.2.1/24"));
        let before = bed.links();
        let unreachable = conf(
            r#","ipam":{"type":"static","addresses":[{"address":"10.42.0.1/24"}],"routes":[{"dst":"10.99.0.0/16","gw":"203.0.113.1"}]}"#,
        );
        assert!(bed.add(Builtin::Vxlan, &bed.pod(), "net1", &unreachable).is_err());
        assert_eq!(bed.links(), before);
        // What a crash may leave: a bridge alone. The next ADD uses it, its DEL removes it.
        bed.netlink().add_link(&NewLink::new(&name("bx4200"), NewKind::Bridge(Bridge::default()))).unwrap();
        let pod = bed.pod();
        let attached = bed.add(Builtin::Vxlan, &pod, "net1", &conf("")).unwrap();
        bed.del(Builtin::Vxlan, &pod, "net1", &conf(""), Some(&attached)).unwrap();
        assert_eq!(bed.links(), before);
    });
}

#[test]
fn kernel_vxlan_first_adds_against_last_dels() {
    as_host(|| {
        let state = tempfile::tempdir().unwrap();
        let setup = Bed { state: tempfile::tempdir().unwrap(), pods: Cell::new(0) };
        setup.master("eth1", 1500, Some("192.0.2.1/24"));
        let before = setup.links();
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let path = state.path();
                scope.spawn(move || {
                    for round in 0..20 {
                        let number = Cell::new(thread * 100 + round);
                        let bed = Bed { state: tempfile::tempdir().unwrap(), pods: number };
                        let pod = bed.pod();
                        let conf = conf(r#","peers":["192.0.2.9"]"#);
                        let node = Node { state_dir: path, ..bed.node() };
                        let (ifname, network) = (name("net1"), "net".parse().unwrap());
                        let parsed = object(&conf);
                        let point = Point {
                            container: &pod.container,
                            netns: &pod.path,
                            ifname: &ifname,
                            args: "",
                            group: GROUP,
                        };
                        let call = Call {
                            network: &network,
                            version: Version::NEWEST,
                            conf: &parsed,
                            origin: ours(),
                            point: Some(point),
                            prev_result: None,
                            saved: None,
                        };
                        let mut sandbox = Sandbox::open(&pod.path, &node).unwrap();
                        let mut host = Host::new(node);
                        // Out of step, so that one's removal meets the other's beginning.
                        std::thread::sleep(Duration::from_millis(u64::from((thread * 11 + round * 7) % 43)));
                        let made = Builtin::Vxlan.add(&mut host, &mut sandbox, &call).unwrap();
                        let whole = Call { prev_result: Some(&made.result), ..call.clone() };
                        Builtin::Vxlan.check(&mut host, &mut sandbox, &whole).unwrap();
                        detach(&mut sandbox, GROUP, &made.links, None).unwrap();
                        Builtin::Vxlan.del(&mut host, &call).unwrap();
                    }
                });
            }
        });
        assert_eq!(setup.links(), before);
        assert_eq!(std::fs::read_dir(state.path().join("locks")).unwrap().count(), 0);
    });
}
