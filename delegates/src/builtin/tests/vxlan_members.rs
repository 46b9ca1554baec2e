//! vxlan overlays without peers: nodes as namespaces on one segment, each with the state file that its agent would write.

use std::net::UdpSocket;

use attachments::names::Mac;

use super::*;
use crate::firewall::overlays;
use crate::networks::NetworkId;
use crate::networks::state::{Endpoint, NetworkState};
use crate::nl::link::{Bridge, Kind};
use crate::overlay::kept;
use crate::overlay::testing::state;

pub(super) const IPAM: &str = r#"{"subnet":"10.42.0.0/24"}"#;

/// Nodes on one segment: the thread's namespace is their switch.
pub(super) struct Cluster {
    nodes: Vec<(NetNs, Bed)>,
    is_ipv6: bool,
}

/// Runs a test with some nodes, n1 at the first address of the segment and so on.
pub(super) fn on_nodes(count: u8, is_ipv6: bool, test: impl FnOnce(&Cluster) + Send) {
    as_host(|| {
        let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(20)).unwrap();
        let switch = name("sw");
        netlink.add_link(&NewLink { up: true, ..NewLink::new(&switch, NewKind::Bridge(Bridge::default())) }).unwrap();
        let switch = netlink.link_by_name(&switch).unwrap().unwrap().index;
        let nodes = (1..=count).map(|n| {
            let netns = pod();
            let (near, far) = (name(&format!("n{n}")), name("eth1"));
            let peer =
                Peer { name: &far, netns: Some(std::os::fd::AsFd::as_fd(&netns)), mtu: None, mac: None, group: 0 };
            let veth = NewLink { up: true, master: Some(switch), ..NewLink::new(&near, NewKind::Veth(peer)) };
            netlink.add_link(&veth).unwrap();
            let mut inside = netns.socket(Instant::now() + Duration::from_secs(20)).unwrap();
            for link in ["lo", "eth1"] {
                let link = inside.link_by_name(&name(link)).unwrap().unwrap().index;
                inside.set_link(link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
            }
            let link = inside.link_by_name(&far).unwrap().unwrap().index;
            for address in [format!("192.0.2.{n}/24"), format!("2001:db8::{n}/64")] {
                inside.add_address(link, net(&address), true).unwrap();
            }
            (netns, Bed { state: tempfile::tempdir().unwrap(), pods: Cell::new(u32::from(n) * 10) })
        });
        test(&Cluster { nodes: nodes.collect(), is_ipv6 });
    });
}

impl Cluster {
    /// Of these nodes, those that are there; the others are members all the same.
    pub(super) fn among<'a>(&'a self, nodes: &'a [u8]) -> impl Iterator<Item = u8> + 'a {
        nodes.iter().copied().filter(|n| usize::from(*n) <= self.nodes.len())
    }

    pub(super) fn vtep(&self, n: u8) -> String {
        if self.is_ipv6 { format!("2001:db8::{n}") } else { format!("192.0.2.{n}") }
    }

    /// Does something on a node.
    pub(super) fn on<T>(&self, n: u8, work: impl FnOnce(&Bed) -> T) -> T {
        let (netns, bed) = &self.nodes[usize::from(n) - 1];
        netns.enter(|| Ok(work(bed))).unwrap()
    }

    /// Writes the state file of each of these nodes, as an overlay of theirs has it.
    pub(super) fn join(&self, vni: u32, nodes: &[u8], ipam: Option<&str>) {
        for n in self.among(nodes) {
            self.write(n, vni, &state(n, nodes, |n| self.vtep(n), ipam));
        }
    }

    pub(super) fn write(&self, n: u8, vni: u32, state: &NetworkState) {
        self.on(n, |bed| state.write(bed.state.path(), &NetworkId::overlay(4789, vni)).unwrap());
    }

    pub(super) fn read(&self, n: u8, vni: u32) -> NetworkState {
        self.on(n, |bed| NetworkState::read(bed.state.path(), &NetworkId::overlay(4789, vni)).unwrap().unwrap())
    }

    /// What the agent of a node does on each change: was the device made, and how many entries changed?
    pub(super) fn heal(&self, n: u8, vni: u32) -> (bool, usize) {
        let state = self.read(n, vni);
        self.on(n, |bed| {
            let mut netlink = bed.netlink();
            let segment = kept::join(&mut netlink, vni, 4789, state.overlay.as_ref().unwrap()).unwrap();
            let changes = kept::program(&mut netlink, &segment, &state, &[]).unwrap().changes;
            let dir = bed.state.path();
            let members = |id: &NetworkId| overlays::members_in(dir, id);
            overlays::update(&mut netlink, dir, &members, bed.node().deadline).unwrap();
            (segment.is_new, changes)
        })
    }

    /// A pod of a node on an overlay, in the node's slot `i`.
    pub(super) fn pod(&self, n: u8, vni: u32, i: u8) -> (Pod, Attached, String) {
        let conf = conf(vni, n, i, "");
        self.on(n, |bed| {
            let pod = bed.pod();
            let attached = bed.add(Builtin::Vxlan, &pod, "net1", &conf).unwrap();
            (pod, attached, conf)
        })
    }
}

/// What an attachment in slot `i` of node n is configured with.
pub(super) fn conf(vni: u32, n: u8, i: u8, more: &str) -> String {
    let last = 16 * n + i;
    format!(
        r#"{{"type":"vxlan","vni":{vni},"runtimeConfig":{{"mac":"0a:58:0a:2a:00:{last:02x}"}},"ipam":{{"type":"static","addresses":[{{"address":"10.42.0.{last}/24"}}]}}{more}}}"#
    )
}

/// A socket of a pod that takes what comes to a port.
pub(super) fn listen(pod: &Pod, port: u16, within: u64) -> UdpSocket {
    let socket = pod.udp(("0.0.0.0", port));
    socket.set_read_timeout(Some(Duration::from_millis(within))).unwrap();
    socket
}

/// One datagram, once.
pub(super) fn send(pod: &Pod, to: &str, what: &[u8]) {
    let send = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_broadcast(true).unwrap();
        // A neighbour that nobody answers for is told at the next datagram.
        let _ = socket.send_to(what, to);
        Ok(())
    };
    pod.netns.enter(send).unwrap();
}

/// How many datagrams come until none comes for a while.
pub(super) fn received(socket: &UdpSocket) -> usize {
    received_with(socket, b"")
}

/// How many of them end so: pods say more than they are told to.
fn received_with(socket: &UdpSocket, end: &[u8]) -> usize {
    let mut datagram = [0; 2000];
    let next = || socket.recv(&mut datagram).ok().map(|length| datagram[..length].ends_with(end));
    std::iter::from_fn(next).filter(|is| *is).count()
}

#[test]
fn kernel_on_host_vxlan_a_pod_reaches_another_nodes_pod_with_its_first_packet() {
    for is_ipv6 in [false, true] {
        on_nodes(2, is_ipv6, |cluster| {
            cluster.join(7, &[1, 2], Some(IPAM));
            let before = cluster.on(1, Bed::links);
            let (a, attached, conf) = cluster.pod(1, 7, 1);
            let (b, ..) = cluster.pod(2, 7, 1);
            let socket = listen(&b, 9, 2000);
            send(&a, "10.42.0.33:9", &[7; 1400]);
            assert_eq!(socket.recv(&mut [0; 1500]).unwrap(), 1400);
            cluster.on(1, |bed| {
                let device = bed.link("vx7").unwrap();
                let Kind::Vxlan(is) = &device.kind else { panic!("{device:?}") };
                assert_eq!((is.learning, is.local), (false, Some(cluster.vtep(1).parse().unwrap())));
                assert_eq!(
                    (device.mac, device.mtu),
                    (Some(Mac([2, 0, 0, 0, 0, 1])), if is_ipv6 { 1430 } else { 1450 })
                );
                assert_eq!(a.link("net1").unwrap().mtu, device.mtu);
                bed.check(Builtin::Vxlan, &a, "net1", &conf, &attached.result).unwrap();
                bed.del(Builtin::Vxlan, &a, "net1", &conf, Some(&attached)).unwrap();
                bed.del(Builtin::Vxlan, &a, "net1", &conf, Some(&attached)).unwrap();
                assert_eq!(bed.links(), before);
                let ruleset = crate::nl::nft::testing::nft(&["list", "ruleset"], "");
                assert_eq!(ruleset, "", "the tables go with the last port");
            });
        });
    }
}

#[test]
fn kernel_on_host_vxlan_waits_for_the_agent_and_goes_without_its_file() {
    on_nodes(1, false, |cluster| {
        cluster.on(1, |bed| {
            std::fs::create_dir(bed.state.path().join(crate::networks::DIR)).unwrap();
            let before = bed.links();
            let error = bed.add(Builtin::Vxlan, &bed.pod(), "net1", &conf(7, 1, 1, "")).unwrap_err();
            assert!(
                matches!(&error, Error::Busy(text) if text.contains("overlay 4789-7: the node agent has not joined")),
                "{error}"
            );
            assert_eq!(bed.links(), before);
        });
        cluster.join(7, &[1, 2], Some(IPAM));
        let before = cluster.on(1, Bed::links);
        let (pod, attached, conf) = cluster.pod(1, 7, 1);
        // The tunnel end is no address of the node any more: said, and nothing is half made.
        let mut state = cluster.read(1, 7);
        state.overlay.as_mut().unwrap().vtep = "192.0.2.77".parse().unwrap();
        cluster.write(1, 7, &state);
        cluster.on(1, |bed| {
            let error =
                bed.add(Builtin::Vxlan, &bed.pod(), "net1", &super::vxlan_members::conf(7, 1, 2, "")).unwrap_err();
            assert!(matches!(&error, Error::Busy(text) if text.contains("tunnel end 192.0.2.77")), "{error}");
            let error = bed.check(Builtin::Vxlan, &pod, "net1", &conf, &attached.result).unwrap_err();
            assert!(error.to_string().contains("local address is Some(192.0.2.1), want Some(192.0.2.77)"), "{error}");
            NetworkState::remove(bed.state.path(), &NetworkId::overlay(4789, 7)).unwrap();
            let error = bed.check(Builtin::Vxlan, &pod, "net1", &conf, &attached.result).unwrap_err();
            assert!(matches!(error, Error::Differs(_)), "{error}");
            bed.del(Builtin::Vxlan, &pod, "net1", &conf, Some(&attached)).unwrap();
            assert_eq!(bed.links(), before);
        });
    });
}

#[test]
fn kernel_on_host_vxlan_broadcast_reaches_members_only_and_unknown_frames_no_other_pod() {
    on_nodes(4, false, |cluster| {
        // n3 has no pod yet and n4 is no member.
        cluster.join(7, &[1, 2, 3], Some(IPAM));
        let (a, ..) = cluster.pod(1, 7, 1);
        let (beside, ..) = cluster.pod(1, 7, 2);
        let (b, ..) = cluster.pod(2, 7, 1);
        let at = |n: u8| {
            let socket = cluster.on(n, |_| UdpSocket::bind("0.0.0.0:4789").unwrap());
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket
        };
        let (member, stranger) = (at(3), at(4));
        let (near, far) = (listen(&beside, 9, 500), listen(&b, 9, 500));
        send(&a, "10.42.0.255:9", b"all");
        assert_eq!((received(&near), received(&far)), (1, 1));
        assert_eq!((received_with(&member, b"all"), received_with(&stranger, b"")), (1, 0));
        // A neighbour without a station: its frames go to the members and not to the pod beside.
        let mut inside = a.netlink();
        let link = inside.link_by_name(&name("net1")).unwrap().unwrap().index;
        inside.set_neighbour(link, "10.42.0.200".parse().unwrap(), Mac([2, 7, 7, 7, 7, 7])).unwrap();
        let sniffer = beside.netns.enter(|| Ok(sniff())).unwrap();
        (0..3).for_each(|_| send(&a, "10.42.0.200:9", b"who"));
        assert_eq!(received_with(&member, b"who"), 3);
        assert_eq!(frames_to(&sniffer, Mac([2, 7, 7, 7, 7, 7])), 0);
        // What is for the pod beside is not seen by the others.
        send(&a, "10.42.0.18:9", b"you");
        assert_eq!(
            (received(&near), received_with(&member, b"you"), frames_to(&sniffer, Mac([0x0a, 0x58, 10, 42, 0, 18]))),
            (1, 0, 1)
        );
    });
}

/// A socket that sees each frame of the thread's namespace.
pub(super) fn sniff() -> std::os::fd::OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll).unwrap()
}

/// How many frames with that destination were seen.
pub(super) fn frames_to(sniffer: &std::os::fd::OwnedFd, mac: Mac) -> usize {
    use std::os::fd::AsRawFd;
    let mut frame = [0; 2000];
    let read = || {
        nix::sys::socket::recv(sniffer.as_raw_fd(), &mut frame, nix::sys::socket::MsgFlags::empty())
            .ok()
            .map(|_| frame[..6] == mac.0)
    };
    std::iter::from_fn(read).filter(|is| *is).count()
}

#[test]
fn kernel_on_host_vxlan_networks_on_one_port_with_the_same_subnets_do_not_meet() {
    on_nodes(2, false, |cluster| {
        for vni in [7, 8] {
            cluster.join(vni, &[1, 2], Some(IPAM));
        }
        let (a, ..) = cluster.pod(1, 7, 1);
        let (b7, ..) = cluster.pod(2, 7, 1);
        let (b8, ..) = cluster.pod(2, 8, 1);
        let (_beside, ..) = cluster.pod(1, 8, 1);
        let (seven, eight) = (listen(&b7, 9, 500), listen(&b8, 9, 500));
        (0..100).for_each(|_| send(&a, "10.42.0.33:9", b"x"));
        send(&a, "10.42.0.255:9", b"x");
        assert_eq!((received(&seven), received(&eight)), (101, 0));
    });
}

#[test]
fn kernel_on_host_vxlan_without_addresses_carries_frames_and_notes_its_pods() {
    on_nodes(2, false, |cluster| {
        cluster.join(7, &[1, 2], None);
        let bare = r#"{"type":"vxlan","vni":7}"#;
        let pods = [1, 2].map(|n| {
            cluster.on(n, |bed| {
                let pod = bed.pod();
                let attached = bed.add(Builtin::Vxlan, &pod, "net1", bare).unwrap();
                let link = pod.link("net1").unwrap();
                pod.netlink().add_address(link.index, net(&format!("10.42.0.{n}/24")), true).unwrap();
                let notes = crate::networks::endpoints::noted(bed.state.path(), &NetworkId::overlay(4789, 7));
                let expected = Endpoint { mac: link.mac.unwrap(), ips: Vec::new() };
                assert_eq!(notes.iter().map(|(_, endpoint)| endpoint).collect::<Vec<_>>(), [&expected]);
                (pod, attached)
            })
        });
        let socket = listen(&pods[1].0, 9, 2000);
        send(&pods[0].0, "10.42.0.2:9", b"x");
        assert_eq!(received(&socket), 1, "ARP is flooded to the members, and the answer too");
        cluster.on(1, |bed| {
            bed.del(Builtin::Vxlan, &pods[0].0, "net1", bare, Some(&pods[0].1)).unwrap();
            assert_eq!(crate::networks::endpoints::noted(bed.state.path(), &NetworkId::overlay(4789, 7)), []);
        });
    });
}

/// What somebody does to a device.
type Break = Box<dyn Fn(&mut Netlink, &Link)>;

#[test]
fn kernel_on_host_vxlan_heals_and_follows_its_members() {
    on_nodes(3, false, |cluster| {
        cluster.join(7, &[1, 2], Some(IPAM));
        let (a, ..) = cluster.pod(1, 7, 1);
        let (b, ..) = cluster.pod(2, 7, 1);
        let socket = listen(&b, 9, 500);
        let reaches = || {
            send(&a, "10.42.0.33:9", b"x");
            received(&socket) == 1
        };
        assert!(reaches());
        let heal = |n: u8| cluster.heal(n, 7);
        assert_eq!(heal(1), (false, 0), "nothing to do");
        let break_it = |work: &dyn Fn(&mut Netlink, &Link)| {
            cluster.on(1, |bed| work(&mut bed.netlink(), &bed.link("vx7").unwrap()));
        };
        let changed = |change: LinkChange<'static>| {
            move |netlink: &mut Netlink, device: &Link| netlink.set_link(device.index, &change).unwrap()
        };
        let breaks: [(&str, Break); 6] = [
            ("deleted", Box::new(|netlink, device| assert!(netlink.delete_link(device.index).unwrap()))),
            ("down", Box::new(changed(LinkChange { up: Some(false), ..LinkChange::default() }))),
            ("out of its bridge", Box::new(changed(LinkChange { master: Some(0), ..LinkChange::default() }))),
            ("another MTU", Box::new(changed(LinkChange { mtu: Some(1000), ..LinkChange::default() }))),
            ("another MAC", Box::new(changed(LinkChange { mac: Some(Mac([2; 6])), ..LinkChange::default() }))),
            (
                "port flags",
                Box::new(|netlink, device| {
                    let flags = crate::nl::link::PortFlags {
                        learning: Some(true),
                        neigh_suppress: Some(false),
                        unicast_flood: Some(false),
                        ..Default::default()
                    };
                    netlink.set_port(device.index, &flags).unwrap();
                }),
            ),
        ];
        let shape = || {
            let mut link = cluster.on(1, |bed| bed.link("vx7").unwrap());
            link.index = 0;
            link
        };
        let whole = shape();
        for (what, work) in &breaks {
            break_it(work);
            heal(1);
            assert_eq!(shape(), whole, "{what}");
            assert!(reaches(), "{what}");
            assert_eq!(heal(1), (false, 0), "{what}");
        }
        // The second node's tunnel ends elsewhere now, with another MAC address: what was there goes.
        let mut state = cluster.read(1, 7);
        let member = &mut state.overlay.as_mut().unwrap().members[0];
        (member.vtep, member.mac) = ("192.0.2.22".parse().unwrap(), Mac([2, 0, 0, 0, 0, 22]));
        cluster.write(1, 7, &state);
        heal(1);
        cluster.on(1, |bed| {
            let entries = bed.netlink().forwardings(bed.link("vx7").unwrap().index).unwrap();
            let old = |entry: &&crate::nl::neighbour::Forwarding| {
                entry.remote == Some("192.0.2.2".parse().unwrap()) || entry.mac == Mac([2, 0, 0, 0, 0, 2])
            };
            assert_eq!(entries.iter().filter(old).count(), 0, "{entries:?}");
        });
        cluster.on(2, |bed| {
            let index = bed.link("eth1").unwrap().index;
            bed.netlink().add_address(index, net("192.0.2.22/24"), true).unwrap();
        });
        let mut state = cluster.read(2, 7);
        let overlay = state.overlay.as_mut().unwrap();
        (overlay.vtep, overlay.mac) = ("192.0.2.22".parse().unwrap(), Mac([2, 0, 0, 0, 0, 22]));
        cluster.write(2, 7, &state);
        assert!(heal(2).0, "a device at another address is made anew, under the pods");
        // The first node may have asked for the new address before it was there, and asks again a second later.
        assert!((0..10).any(|_| reaches()));
    });
}

#[test]
fn kernel_on_host_vxlan_a_pod_answers_for_its_own_address_whatever_others_slots_say() {
    on_nodes(2, false, |cluster| {
        cluster.join(7, &[1, 2], Some(IPAM));
        let (a, ..) = cluster.pod(1, 7, 1);
        // A pod's link goes with its namespace.
        let mut pods = Vec::new();
        // An address of the second node's slots, and its MAC address too, held by a pod of the first.
        for (mac, last, word) in [("02:00:00:00:77:77", 35, "other MAC"), ("0a:58:0a:2a:00:24", 36, "slot's MAC")] {
            let conf = format!(
                r#"{{"type":"vxlan","vni":7,"runtimeConfig":{{"mac":"{mac}"}},"ipam":{{"type":"static","addresses":[{{"address":"10.42.0.{last}/24"}}]}}}}"#
            );
            let pod = cluster.on(1, |bed| {
                let pod = bed.pod();
                bed.add(Builtin::Vxlan, &pod, "net1", &conf).unwrap();
                pod
            });
            let socket = listen(&pod, 9, 1000);
            send(&a, &format!("10.42.0.{last}:9"), b"x");
            assert_eq!(received(&socket), 1, "{word}");
            pods.push(pod);
        }
        // The file is programmed anew, by a plugin that sees the notes.
        let state = cluster.read(1, 7);
        cluster.write(1, 7, &state);
        let (_more, ..) = cluster.pod(1, 7, 3);
        cluster.on(1, |bed| {
            let mut netlink = bed.netlink();
            let own = state.overlay.as_ref().unwrap();
            let segment = kept::join(&mut netlink, 7, 4789, own).unwrap();
            let id = NetworkId::overlay(4789, 7);
            let local = kept::local_pods(&mut netlink, bed.state.path(), &id, &segment).unwrap();
            assert_eq!(local.len(), 2);
            assert_eq!(kept::program(&mut netlink, &segment, &state, &local).unwrap(), crate::overlay::Made::default());
        });
    });
}
