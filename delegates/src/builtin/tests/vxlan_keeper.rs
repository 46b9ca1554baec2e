//! Overlays that are kept by a program that lives on: whatever happens to them, it is undone within two seconds.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use attachments::names::Mac;

use super::vxlan_members::*;
use super::*;
use crate::networks::state::{Endpoint, NetworkState, Slots};
use crate::nl::link::{Kind, PortFlags, Vxlan};
use crate::nl::neighbour::{ALL_ZERO, Entry};
use crate::overlay::keeper::{Keeper, Told};
use crate::overlay::{Plan, entries_of, missing};

/// Runs a test on a node whose overlays are kept, and gives what was told of them.
pub(super) fn kept(cluster: &Cluster, n: u8, test: impl FnOnce(&Bed, &mut UnixStream, &Mutex<Vec<String>>)) {
    let (mut near, mut far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let log = Mutex::new(Vec::new());
    cluster.on(n, |bed| {
        let (dir, log) = (bed.state.path(), &log);
        // A thread is born in the namespace of the one that makes it.
        std::thread::scope(|scope| {
            let keeper = scope.spawn(move || {
                let mut tell =
                    |id: &crate::networks::NetworkId, told: Told| log.lock().unwrap().push(format!("{id} {told:?}"));
                Keeper::new(dir).run(&mut far, &mut tell)
            });
            test(bed, &mut near, log);
            drop(near);
            keeper.join().unwrap().unwrap();
        });
    });
}

/// Is everything as the state says?
fn is_whole(bed: &Bed, state: &NetworkState) -> bool {
    let (Some(device), Some(bridge)) = (bed.link("vx7"), bed.link("bx7")) else { return false };
    let own = state.overlay.as_ref().unwrap();
    let Kind::Vxlan(is) = &device.kind else { return false };
    let port = device.port.unwrap_or_default();
    let flags = (port.learning, port.neigh_suppress, port.unicast_flood) == (Some(false), Some(true), Some(true));
    let shape =
        (device.master, device.mac, device.mtu, bridge.mtu) == (Some(bridge.index), Some(own.mac), own.mtu, own.mtu);
    let plan = missing(&mut bed.netlink(), device.index, bridge.index, &entries_of(state)).unwrap();
    flags && shape && device.up && bridge.up && is.local == Some(own.vtep) && plan == Plan::default()
}

pub(super) fn until(what: &str, is: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !is() {
        // Far longer than it takes; a busy machine is no failure.
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

#[test]
fn kernel_on_host_overlays_what_anybody_breaks_is_back_within_two_seconds() {
    on_nodes(3, false, |cluster| {
        cluster.join(7, &[1, 2], Some(IPAM));
        let (a, ..) = cluster.pod(1, 7, 1);
        let (b, ..) = cluster.pod(2, 7, 1);
        let socket = listen(&b, 9, 300);
        kept(cluster, 1, |bed, wake, log| {
            let mut netlink = bed.netlink();
            // Others have overlays of their own.
            let theirs = Vxlan {
                vni: 1,
                port: 8472,
                local: None,
                underlay: Some(bed.link("eth1").unwrap().index),
                group: None,
                learning: false,
                ttl: 0,
                udp_checksum: true,
            };
            netlink
                .add_link(&NewLink { up: true, ..NewLink::new(&name("flannel.1"), NewKind::Vxlan(theirs)) })
                .unwrap();
            let flannel = bed.link("flannel.1").unwrap();
            netlink.replace_forwarding(flannel.index, Mac([2, 1, 1, 1, 1, 1]), "192.0.2.3".parse().unwrap()).unwrap();
            netlink.set_neighbour(flannel.index, "10.244.1.0".parse().unwrap(), Mac([2, 1, 1, 1, 1, 1])).unwrap();
            let others = |netlink: &mut Netlink| {
                (
                    netlink.link_by_index(flannel.index).unwrap(),
                    netlink.forwardings(flannel.index).unwrap(),
                    netlink.neighbours(flannel.index).unwrap(),
                )
            };
            let before = others(&mut netlink);
            let state =
                NetworkState::read(bed.state.path(), &crate::networks::NetworkId::overlay(4789, 7)).unwrap().unwrap();
            until("in the beginning", || is_whole(bed, &state));
            let station = Mac([0x0a, 0x58, 10, 42, 0, 33]);
            let end = "192.0.2.2".parse().unwrap();
            type Break<'a> = Box<dyn Fn(&mut Netlink, u32, u32) + 'a>;
            let set = |change: LinkChange<'static>, is_bridge: bool| -> Break<'static> {
                Box::new(move |netlink, device, bridge| {
                    netlink.set_link(if is_bridge { bridge } else { device }, &change).unwrap()
                })
            };
            let unset = LinkChange::default();
            let breaks: Vec<(&str, Break<'_>)> = vec![
                ("device deleted", Box::new(|netlink, device, _| assert!(netlink.delete_link(device).unwrap()))),
                ("device down", set(LinkChange { up: Some(false), ..unset }, false)),
                ("bridge down", set(LinkChange { up: Some(false), ..unset }, true)),
                ("device out of the bridge", set(LinkChange { master: Some(0), ..unset }, false)),
                ("MTU of the device", set(LinkChange { mtu: Some(1000), ..unset }, false)),
                ("MTU of the bridge", set(LinkChange { mtu: Some(1000), ..unset }, true)),
                ("MAC address", set(LinkChange { mac: Some(Mac([2; 6])), ..unset }, false)),
                (
                    "flags",
                    Box::new(|netlink, device, _| {
                        let flags =
                            PortFlags { learning: Some(true), neigh_suppress: Some(false), ..PortFlags::default() };
                        netlink.set_port(device, &flags).unwrap();
                    }),
                ),
                ("flood", Box::new(|netlink, device, _| netlink.delete_forwarding(device, ALL_ZERO, end).unwrap())),
                ("station", Box::new(|netlink, device, _| netlink.delete_forwarding(device, station, end).unwrap())),
                (
                    "station of the bridge",
                    Box::new(|netlink, device, _| {
                        let entry = Entry::Remove { index: device, mac: station, remote: None };
                        netlink.change_entries(&[entry], "the test").unwrap();
                    }),
                ),
                (
                    "neighbour",
                    Box::new(|netlink, _, bridge| {
                        assert!(netlink.delete_neighbour(bridge, "10.42.0.33".parse().unwrap()).unwrap())
                    }),
                ),
            ];
            for (what, work) in &breaks {
                let (device, bridge) = (bed.link("vx7").unwrap().index, bed.link("bx7").unwrap().index);
                work(&mut netlink, device, bridge);
                println!("{what}: back after {:?}", until(what, || is_whole(bed, &state)));
                send(&a, "10.42.0.33:9", b"x");
                assert_eq!(received(&socket), 1, "{what}");
            }
            // A member more, with a pod that its slots do not explain.
            let mut more = state.clone();
            let mut third = state.overlay.as_ref().unwrap().members[0].clone();
            (third.vtep, third.mac) = ("192.0.2.3".parse().unwrap(), Mac([2, 0, 0, 0, 0, 3]));
            third.slots = vec![Slots { first: 48, count: 16 }];
            third.endpoints =
                vec![Endpoint { mac: Mac([2, 7, 7, 7, 7, 7]), ips: vec!["10.42.0.200".parse().unwrap()] }];
            more.overlay.as_mut().unwrap().members.push(third);
            std::thread::sleep(Duration::from_millis(300));
            more.write(bed.state.path(), &crate::networks::NetworkId::overlay(4789, 7)).unwrap();
            wake.write_all(&[1]).unwrap();
            println!("a member more: there after {:?}", until("a member more", || is_whole(bed, &more)));
            until("its firewall", || {
                crate::nl::nft::testing::nft(&["list", "table", "inet", "meta_cni_overlays"], "").contains("192.0.2.3")
            });
            state.write(bed.state.path(), &crate::networks::NetworkId::overlay(4789, 7)).unwrap();
            wake.write_all(&[1]).unwrap();
            println!("gone after {:?}", until("a member less", || is_whole(bed, &state)));
            assert_eq!(others(&mut netlink), before, "what others own is as it was");
            let log = log.lock().unwrap();
            assert!(log.iter().all(|line| !line.contains("Failed") && !line.contains("Obstacles")), "{log:#?}");
            // Our own changes echo, and the echo dies away.
            assert!(log.len() < 250, "{} lines", log.len());
        });
    });
}

#[test]
fn kernel_on_host_overlays_the_pods_that_no_slot_explains_are_told() {
    on_nodes(1, false, |cluster| {
        cluster.join(7, &[1, 2], Some(IPAM));
        let (_explained, ..) = cluster.pod(1, 7, 1);
        kept(cluster, 1, |bed, _, log| {
            let conf = r#"{"type":"vxlan","vni":7,"runtimeConfig":{"mac":"02:00:00:00:77:77"},"ipam":{"type":"static","addresses":[{"address":"10.42.0.77/24"}]}}"#;
            let pod = bed.pod();
            let attached = bed.add(Builtin::Vxlan, &pod, "net1", conf).unwrap();
            let last = || {
                log.lock().unwrap().iter().rev().find(|line| line.contains("Endpoints")).cloned().unwrap_or_default()
            };
            until("the pod", || last().contains("10.42.0.77") && !last().contains("10.42.0.17"));
            bed.del(Builtin::Vxlan, &pod, "net1", conf, Some(&attached)).unwrap();
            until("its end", || last().contains("Endpoints([])"));
        });
    });
}

#[test]
fn kernel_on_host_overlays_without_pods_are_not_made_and_do_not_come_back() {
    on_nodes(1, false, |cluster| {
        cluster.join(7, &[1, 2], Some(IPAM));
        let before = cluster.on(1, Bed::links);
        kept(cluster, 1, |bed, _, log| {
            for round in 0..3_u64 {
                let conf = conf(7, 1, 1, "");
                let pod = bed.pod();
                let attached = bed.add(Builtin::Vxlan, &pod, "net1", &conf).unwrap();
                bed.check(Builtin::Vxlan, &pod, "net1", &conf, &attached.result).unwrap();
                std::thread::sleep(Duration::from_millis(round * 40));
                bed.del(Builtin::Vxlan, &pod, "net1", &conf, Some(&attached)).unwrap();
            }
            std::thread::sleep(Duration::from_millis(700));
            assert_eq!(bed.links(), before);
            let dir = crate::networks::NetworkId::overlay(4789, 7).dir(bed.state.path());
            assert!(!dir.join(crate::networks::state::PORTS).exists(), "a file of ports that are gone");
            assert!(!crate::nl::nft::testing::nft(&["list", "tables"], "").contains("meta_cni_overlays"));
            let log = log.lock().unwrap();
            assert!(log.iter().all(|line| !line.contains("Failed")), "{log:#?}");
        });
    });
}

#[test]
fn kernel_on_host_overlays_the_device_follows_the_address_of_its_node() {
    on_nodes(2, false, |cluster| {
        cluster.join(7, &[1, 2], Some(IPAM));
        let (a, ..) = cluster.pod(1, 7, 1);
        let (b, ..) = cluster.pod(2, 7, 1);
        let socket = listen(&b, 9, 300);
        kept(cluster, 1, |bed, wake, log| {
            let id = crate::networks::NetworkId::overlay(4789, 7);
            let state = NetworkState::read(bed.state.path(), &id).unwrap().unwrap();
            until("in the beginning", || is_whole(bed, &state));
            let ports = || {
                let bridge = bed.link("bx7").unwrap().index;
                bed.netlink().links(Some(bridge)).unwrap().len()
            };
            let before = ports();
            let underlay = bed.link("eth1").unwrap().index;
            let mut netlink = bed.netlink();
            netlink.add_address(underlay, net("192.0.2.101/24"), true).unwrap();
            // An address that changes is told, for it may be where tunnels end.
            until("news of the address", || log.lock().unwrap().iter().any(|line| line.contains("Moved")));
            let mut moved = state.clone();
            moved.overlay.as_mut().unwrap().vtep = "192.0.2.101".parse().unwrap();
            moved.write(bed.state.path(), &id).unwrap();
            wake.write_all(&[1]).unwrap();
            println!("there after {:?}", until("the other address", || is_whole(bed, &moved)));
            assert_eq!(ports(), before, "the pods are in the bridge still");
            // The other node follows its member object, as far as its firewall and its entries go.
            let mut other = cluster.read(2, 7);
            other.overlay.as_mut().unwrap().members[0].vtep = "192.0.2.101".parse().unwrap();
            cluster.write(2, 7, &other);
            send(&a, "10.42.0.33:9", b"x");
        });
        kept(cluster, 2, |bed, _, _| {
            let state = NetworkState::read(bed.state.path(), &crate::networks::NetworkId::overlay(4789, 7));
            let state = state.unwrap().unwrap();
            until("the other node", || is_whole(bed, &state));
            until("its firewall", || {
                let set = crate::nl::nft::testing::nft(&["list", "table", "inet", "meta_cni_overlays"], "");
                set.contains("192.0.2.101") && !set.contains("192.0.2.1,") && !set.contains("192.0.2.1 ")
            });
            send(&a, "10.42.0.33:9", b"y");
            assert!(received(&socket) >= 1);
        });
    });
}
