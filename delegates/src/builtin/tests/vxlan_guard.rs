//! Who gets into an overlay, tried with packets made by hand: a non-member, pods with their own and with others' addresses.

use std::net::{Ipv4Addr, UdpSocket};

use attachments::names::Mac;

use super::vxlan_members::*;
use super::*;
use crate::firewall::overlays;
use crate::nl::link::{Kind, Vxlan};
use crate::nl::nft::testing::nft;
use crate::nl::route::Route;

/// The target of what is injected: the pod in slot 1 of n2.
const TARGET: (Mac, [u8; 4]) = (Mac([0x0a, 0x58, 10, 42, 0, 33]), [10, 42, 0, 33]);

/// A VXLAN packet's payload: a frame with a datagram for port 9 of the target.
fn packet(vni: u32) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let mut packet = vec![8, 0, 0, 0, a, b, c, 0];
    packet.extend_from_slice(&TARGET.0.0);
    packet.extend_from_slice(&[2, 9, 9, 9, 9, 9, 8, 0]);
    let mut ip = [0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 42, 0, 99, 0, 0, 0, 0];
    ip[16..].copy_from_slice(&TARGET.1);
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet.extend_from_slice(&ip);
    // Ports 9 and 9, 9 bytes, no checksum.
    packet.extend_from_slice(&[0, 9, 0, 9, 0, 9, 0, 0, b'!']);
    packet
}

/// Sends the packet some times from an address of the thread's namespace.
fn inject(from: &str, to: &str, vni: u32) {
    let from: std::net::IpAddr = from.parse().unwrap();
    let socket = UdpSocket::bind((from, 0)).unwrap();
    for _ in 0..10 {
        // A packet that is dropped on this very node may be an error here.
        let _ = socket.send_to(&packet(vni), (to.parse::<std::net::IpAddr>().unwrap(), 4789));
    }
}

fn inject_from(pod: &Pod, from: &str) {
    let inject = || {
        inject(from, "192.0.2.2", 7);
        Ok(())
    };
    pod.netns.enter(inject).unwrap();
}

/// A pod's default network on a node: routed, and without a source check of the node.
fn routed(cluster: &Cluster, n: u8, pod: &Pod) {
    cluster.on(n, |bed| {
        let mut netlink = bed.netlink();
        let (near, far) = (name("eth0-host"), name("eth0"));
        let peer =
            Peer { name: &far, netns: Some(std::os::fd::AsFd::as_fd(&pod.netns)), mtu: None, mac: None, group: 0 };
        netlink.add_link(&NewLink { up: true, ..NewLink::new(&near, NewKind::Veth(peer)) }).unwrap();
        let index = bed.link("eth0-host").unwrap().index;
        netlink.add_address(index, net("10.0.0.1/24"), true).unwrap();
        for (key, value) in [
            (&["ipv4", "ip_forward"][..], "1"),
            (&["ipv4", "conf", "all", "rp_filter"][..], "0"),
            (&["ipv4", "conf", "eth0-host", "rp_filter"][..], "0"),
        ] {
            crate::netns::write_sysctl(key, value).unwrap();
        }
    });
    let mut inside = pod.netlink();
    let link = inside.link_by_name(&name("eth0")).unwrap().unwrap().index;
    inside.set_link(link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    inside.add_address(link, net("10.0.0.2/24"), true).unwrap();
    let lo = inside.link_by_name(&name("lo")).unwrap().unwrap().index;
    inside.set_link(lo, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    let default = Route { gateway: Some("10.0.0.1".parse().unwrap()), ..Route::new(net("0.0.0.0/0"), link) };
    inside.add_route(&default).unwrap();
}

#[test]
fn kernel_on_host_vxlan_takes_packets_of_members_alone() {
    on_nodes(4, false, |cluster| {
        cluster.join(7, &[1, 2, 3], Some(IPAM));
        let (a, ..) = cluster.pod(1, 7, 1);
        let (b, ..) = cluster.pod(2, 7, 1);
        let socket = listen(&b, 9, 400);
        // n3 is a member, so what its host makes by hand arrives: the packet is a good one.
        cluster.on(3, |_| inject("192.0.2.3", "192.0.2.2", 7));
        assert_eq!(received(&socket), 10);
        cluster.on(4, |_| inject("192.0.2.4", "192.0.2.2", 7));
        assert_eq!(received(&socket), 0, "from a host that is no member");

        // A pod of n1, and one of the very node that it sends to.
        let here = cluster.on(2, Bed::pod);
        routed(cluster, 1, &a);
        routed(cluster, 2, &here);
        let add = |pod: &Pod, address: &str| {
            let mut inside = pod.netlink();
            let lo = inside.link_by_name(&name("lo")).unwrap().unwrap().index;
            inside.add_address(lo, net(address), true).unwrap();
        };
        cluster.on(2, |bed| {
            let index = bed.link("eth1").unwrap().index;
            let back = Route { gateway: Some("192.0.2.1".parse().unwrap()), ..Route::new(net("10.9.0.0/24"), index) };
            bed.netlink().add_route(&back).unwrap();
        });
        add(&a, "10.9.0.2/32");
        // The second masquerades: without a guard on the pod's own node the packet would come from a member.
        let masquerade = "add table ip t\nadd chain ip t p { type nat hook postrouting priority srcnat; }\nadd rule ip t p ip saddr 10.0.0.0/8 masquerade\n";
        for spoofed in ["192.0.2.1", "192.0.2.3"] {
            if spoofed != "192.0.2.1" {
                add(&a, &format!("{spoofed}/32"));
            }
            add(&here, &format!("{spoofed}/32"));
        }
        for (pod, from) in [
            (&a, "10.9.0.2"),
            (&a, "10.0.0.2"),
            (&a, "192.0.2.3"),
            (&here, "10.0.0.2"),
            (&here, "192.0.2.1"),
            (&here, "192.0.2.3"),
        ] {
            for masquerades in [false, true] {
                if masquerades {
                    cluster.on(1, |_| nft(&["-f", "-"], masquerade));
                }
                inject_from(pod, from);
                assert_eq!(received(&socket), 0, "from a pod as {from}, masquerade {masquerades}");
                if masquerades {
                    cluster.on(1, |_| nft(&["delete", "table", "ip", "t"], ""));
                }
            }
        }
        // Without our table what the pods sent would have arrived: the senders above can send.
        let arrives = |pod: &Pod, from: &str| {
            inject_from(pod, from);
            received(&socket)
        };
        for n in [1, 2] {
            cluster.on(n, |_| nft(&["delete", "table", "inet", "meta_cni_overlays"], ""));
        }
        assert_eq!((arrives(&a, "10.9.0.2"), arrives(&a, "192.0.2.3"), arrives(&here, "192.0.2.1")), (10, 10, 10));
        for n in [1, 2] {
            assert_eq!(cluster.heal(n, 7), (false, 0));
        }
        assert_eq!((arrives(&a, "10.9.0.2"), arrives(&a, "192.0.2.3"), arrives(&here, "192.0.2.1")), (0, 0, 0));
        send(&a, "10.42.0.33:9", b"x");
        assert_eq!(received(&socket), 1, "and the overlay itself goes on");
    });
}

#[test]
fn kernel_on_host_vxlan_guards_a_port_as_long_as_all_of_it_is_ours() {
    on_nodes(4, false, |cluster| {
        cluster.join(7, &[1, 2], Some(IPAM));
        let (_a, ..) = cluster.pod(1, 7, 1);
        let (b, ..) = cluster.pod(2, 7, 1);
        let socket = listen(&b, 9, 400);
        let strangers = || {
            cluster.on(4, |_| inject("192.0.2.4", "192.0.2.2", 7));
            received(&socket)
        };
        assert_eq!(strangers(), 0);
        let peers = r#"{"type":"vxlan","vni":9,"underlay":"eth1","peers":["192.0.2.4"]}"#;
        cluster.on(2, |bed| {
            let pod = bed.pod();
            let attached = bed.add(Builtin::Vxlan, &pod, "net1", peers).unwrap();
            assert_eq!(strangers(), 10, "of an overlay with peers nobody tells the senders");
            bed.del(Builtin::Vxlan, &pod, "net1", peers, Some(&attached)).unwrap();
            assert_eq!(strangers(), 0);
            let on_vxlan = r#"{"type":"macvlan","master":"eth1","masterVxlan":9}"#;
            let pod = bed.pod();
            let attached = bed.add(Builtin::Macvlan, &pod, "net1", on_vxlan).unwrap();
            assert_eq!(strangers(), 10, "nor of one with a group");
            bed.del(Builtin::Macvlan, &pod, "net1", on_vxlan, Some(&attached)).unwrap();
            assert_eq!((strangers(), bed.link("vxlan9")), (0, None));
            // Another program's device on the port: the next look at the node lets its packets pass.
            let theirs = Vxlan {
                vni: 1,
                port: 4789,
                local: None,
                underlay: Some(bed.link("eth1").unwrap().index),
                group: None,
                learning: true,
                ttl: 0,
                udp_checksum: true,
            };
            bed.netlink().add_link(&NewLink::new(&name("flannel.1"), NewKind::Vxlan(theirs))).unwrap();
        });
        cluster.heal(2, 7);
        assert_eq!(strangers(), 10);
        cluster.on(2, |bed| {
            let link = bed.link("flannel.1").unwrap();
            assert!(matches!(link.kind, Kind::Vxlan(_)));
            bed.netlink().delete_link(link.index).unwrap();
        });
        cluster.heal(2, 7);
        assert_eq!(strangers(), 0);
    });
}

#[test]
fn kernel_on_host_vxlan_the_node_and_its_overlays_are_apart() {
    on_nodes(2, false, |cluster| {
        for vni in [7, 8] {
            cluster.join(vni, &[1, 2], Some(IPAM));
        }
        let (a, attached, conf) = cluster.pod(1, 7, 1);
        let (other, ..) = cluster.pod(1, 8, 2);
        cluster.on(1, |bed| {
            // A pod that knows the bridge's MAC address sends to the node through it, and through the node to the other overlay.
            let bridge = bed.link("bx7").unwrap();
            let mut inside = a.netlink();
            let link = inside.link_by_name(&name("net1")).unwrap().unwrap().index;
            for ip in ["10.42.0.200", "10.42.0.201"] {
                inside.set_neighbour(link, ip.parse().unwrap(), bridge.mac.unwrap()).unwrap();
            }
            for (to, via) in [("192.0.2.1/32", "10.42.0.200"), ("10.42.0.18/32", "10.42.0.201")] {
                let route = Route { gateway: Some(via.parse().unwrap()), ..Route::new(net(to), link) };
                inside.add_route(&route).unwrap();
            }
            // The node would know the ways, had it been set up so.
            for (key, value) in [
                (&["ipv4", "ip_forward"][..], "1"),
                (&["ipv4", "conf", "all", "rp_filter"][..], "0"),
                (&["ipv4", "conf", "bx7", "rp_filter"][..], "0"),
            ] {
                crate::netns::write_sysctl(key, value).unwrap();
            }
            let there = bed.link("bx8").unwrap().index;
            let route = Route::new(net("10.42.0.18/32"), there);
            bed.netlink().add_route(&route).unwrap();
            let service = UdpSocket::bind(("192.0.2.1", 53)).unwrap();
            service.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let beside = listen(&other, 9, 300);
            let tries = || {
                for _ in 0..5 {
                    send(&a, "192.0.2.1:53", b"x");
                    send(&a, "10.42.0.18:9", b"x");
                    std::thread::sleep(Duration::from_millis(50));
                }
                (received(&service), received(&beside))
            };
            assert_eq!(tries(), (0, 0));
            bed.check(Builtin::Vxlan, &a, "net1", &conf, &attached.result).unwrap();
            nft(&["delete", "table", "inet", "meta_cni_overlays"], "");
            let error = bed.check(Builtin::Vxlan, &a, "net1", &conf, &attached.result).unwrap_err();
            assert!(error.to_string().contains("meta_cni_overlays: the rules that keep the pods of bx7"), "{error}");
            let (to_node, to_overlay) = tries();
            assert!(to_node > 0 && to_overlay > 0, "{to_node} {to_overlay}: the packets are good ones");
        });
        cluster.heal(1, 7);
        cluster.on(1, |bed| bed.check(Builtin::Vxlan, &a, "net1", &conf, &attached.result).unwrap());
    });
}

#[test]
fn kernel_on_host_vxlan_drops_spoofed_frames_and_storms() {
    on_nodes(2, false, |cluster| {
        cluster.join(7, &[1, 2], Some(IPAM));
        let (a, attached, conf) = cluster.pod(1, 7, 1);
        let (b, ..) = cluster.pod(2, 7, 1);
        let socket = listen(&b, 9, 400);
        let alter = |mac: Mac| {
            let mut inside = a.netlink();
            let link = inside.link_by_name(&name("net1")).unwrap().unwrap().index;
            inside.set_link(link, &LinkChange { mac: Some(mac), ..LinkChange::default() }).unwrap();
        };
        let own = a.link("net1").unwrap().mac.unwrap();
        alter(Mac([2, 6, 6, 6, 6, 6]));
        (0..5).for_each(|_| send(&a, "10.42.0.33:9", b"x"));
        assert_eq!(received(&socket), 0);
        alter(own);
        send(&a, "10.42.0.33:9", b"x");
        assert_eq!(received(&socket), 1);
        let rules = cluster.on(1, |bed| {
            bed.check(Builtin::Vxlan, &a, "net1", &conf, &attached.result).unwrap();
            nft(&["list", "table", "netdev", "meta_cni_ports"], "")
        });
        for rule in [
            "ether saddr != 0a:58:0a:2a:00:11 drop comment \"pod10-net1\"",
            "limit rate over 10000/second burst 1000 packets drop",
        ] {
            assert!(rules.contains(rule), "{rules}");
        }
        // A pod that may spoof, and ten broadcasts a second at most.
        let free = super::vxlan_members::conf(7, 1, 2, r#","macspoofchk":false,"bumRate":10"#);
        let pod = cluster.on(1, |bed| {
            let pod = bed.pod();
            let attached = bed.add(Builtin::Vxlan, &pod, "net1", &free).unwrap();
            bed.check(Builtin::Vxlan, &pod, "net1", &free, &attached.result).unwrap();
            nft(&["flush", "chain", "netdev", "meta_cni_ports", &attached.result.interfaces[1].name], "");
            let error = bed.check(Builtin::Vxlan, &pod, "net1", &free, &attached.result).unwrap_err();
            assert!(error.to_string().contains("does not hold the rules of its port"), "{error}");
            bed.del(Builtin::Vxlan, &pod, "net1", &free, Some(&attached)).unwrap();
            bed.add(Builtin::Vxlan, &pod, "net1", &free).unwrap();
            pod
        });
        let mut inside = pod.netlink();
        let link = inside.link_by_name(&name("net1")).unwrap().unwrap().index;
        inside.set_link(link, &LinkChange { mac: Some(Mac([2, 6, 6, 6, 6, 7])), ..LinkChange::default() }).unwrap();
        send(&pod, "10.42.0.33:9", b"x");
        assert_eq!(received(&socket), 1, "macspoofchk is off");
        (0..200).for_each(|_| send(&pod, "10.42.0.255:9", b"x"));
        let storm = received(&socket);
        assert!((1..=50).contains(&storm), "{storm} of 200");
    });
}

#[test]
fn kernel_on_host_the_table_follows_the_overlays_and_goes_with_them() {
    on_nodes(1, false, |cluster| {
        cluster.join(7, &[1, 2, 3], Some(IPAM));
        let (pod, attached, conf) = cluster.pod(1, 7, 1);
        let listed = || cluster.on(1, |_| nft(&["list", "table", "inet", "meta_cni_overlays"], ""));
        let first = listed();
        for text in
            ["4789 . 192.0.2.2", "4789 . 192.0.2.3", "\"bx7\" . \"bx7\"", "\"eth1\"", "udp dport @ports jump tunnels"]
        {
            assert!(first.contains(text), "{text}: {first}");
        }
        // A member left, and somebody wrote into the table.
        cluster.join(7, &[1, 2], Some(IPAM));
        cluster.on(1, |_| nft(&["-f", "-"], "add element inet meta_cni_overlays members4 { 4789 . 192.0.2.66 }\nadd element inet meta_cni_overlays ports { 8472 }\n"));
        cluster.heal(1, 7);
        let second = listed();
        assert!(
            second.contains("4789 . 192.0.2.2") && !second.contains("192.0.2.3") && !second.contains("192.0.2.66"),
            "{second}"
        );
        assert!(!second.contains("8472"), "{second}");
        // As many as an agent may know.
        let mut state = cluster.read(1, 7);
        let overlay = state.overlay.as_mut().unwrap();
        let model = overlay.members[0].clone();
        overlay.members = (0..5000_u32)
            .map(|i| {
                let [_, _, a, b] = i.to_be_bytes();
                let mut member = model.clone();
                (member.vtep, member.mac) = (Ipv4Addr::new(10, 1, a, b).into(), Mac([2, 1, 0, 0, a, b]));
                member.slots.clear();
                member
            })
            .collect();
        cluster.write(1, 7, &state);
        cluster.heal(1, 7);
        cluster.on(1, |bed| {
            overlays::check(
                "bx7",
                4789,
                &state.overlay.as_ref().unwrap().members.iter().map(|m| m.vtep).collect::<Vec<_>>(),
                bed.node().deadline,
            )
            .unwrap();
            bed.del(Builtin::Vxlan, &pod, "net1", &conf, Some(&attached)).unwrap();
            assert!(!nft(&["list", "tables"], "").contains("meta_cni_overlays"));
        });
    });
}
