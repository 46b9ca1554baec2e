use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use attachments::names::{IfName, Mac};

use super::*;
use crate::netns::NetNs;
use crate::netns::testing::{as_host, pod};
use crate::nl::link::{Kind, LinkChange, NewKind, NewLink, Peer};
use crate::overlay::{Names, Obstacle, Spec, Underlay, endpoint, ensure, remove_unused};

/// Every entry, each listed.
fn all(netlink: &mut Netlink, device: u32, bridge: u32) -> Present {
    present(netlink, device, bridge, &Goal::new(&Entries::default())).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

/// A veth; the far end is in `netns`, or beside the near one.
fn veth(netlink: &mut Netlink, near: &str, far: &str, netns: Option<&NetNs>, master: Option<u32>) {
    let (near, far) = (name(near), name(far));
    let peer = Peer { name: &far, netns: netns.map(AsFd::as_fd), mtu: None, mac: Some(mac(1)), group: 0 };
    netlink.add_link(&NewLink { up: true, master, ..NewLink::new(&near, NewKind::Veth(peer)) }).unwrap();
}

fn up(netlink: &mut Netlink, text: &str) -> u32 {
    let index = netlink.link_by_name(&name(text)).unwrap().unwrap().index;
    netlink.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    index
}

fn spec() -> Spec {
    Spec {
        vni: 4200,
        port: 4789,
        underlay: Underlay::Link(name("under0")),
        is_ipv6: None,
        group: None,
        mtu: None,
        mac: Some(mac(77)),
        learning: false,
        routed: false,
        ttl: 64,
        udp_checksum: false,
    }
}

fn on_node(test: impl FnOnce(&mut Netlink, &Segment, &Names) + Send) {
    as_host(|| {
        let mut netlink = Netlink::open(soon()).unwrap();
        veth(&mut netlink, "under0", "under1", None, None);
        up(&mut netlink, "under1");
        let underlay = up(&mut netlink, "under0");
        netlink.add_address(underlay, "192.0.2.1/24".parse().unwrap(), true).unwrap();
        let (spec, names) = (spec(), Names::of(4200, 4789).unwrap());
        let endpoint = endpoint(&mut netlink, &spec).unwrap();
        let segment = ensure(&mut netlink, &spec, &names, &endpoint).unwrap();
        assert!(segment.is_new && !ensure(&mut netlink, &spec, &names, &endpoint).unwrap().is_new);
        test(&mut netlink, &segment, &names);
    });
}

fn wanted() -> Entries {
    Entries {
        members: [(ip("192.0.2.2"), mac(2)), (ip("192.0.2.3"), mac(3))].into(),
        stations: [(mac(33), ip("192.0.2.3"))].into(),
        neighbours: [(ip("10.42.0.33"), mac(33)), (ip("fd42::33"), mac(33))].into(),
    }
}

#[test]
fn kernel_an_overlay_without_learning_is_made_as_told_and_goes() {
    on_node(|netlink, segment, names| {
        let device = netlink.link_by_name(&names.device).unwrap().unwrap();
        let Kind::Vxlan(is) = &device.kind else { panic!("{device:?}") };
        assert_eq!((is.learning, is.ttl, is.udp_checksum), (false, 64, false));
        assert_eq!((device.mac, device.mtu, device.master), (Some(mac(77)), 1450, Some(segment.bridge.index)));
        let port = device.port.unwrap();
        assert_eq!((port.learning, port.neigh_suppress), (Some(false), Some(true)));
        reconcile(netlink, segment, &wanted()).unwrap();
        for link in [segment.device.index, segment.bridge.index] {
            assert_eq!(netlink.addresses(Some(link)).unwrap(), [], "the node takes no part in the overlay");
        }
        assert!(remove_unused(netlink, names).unwrap());
        assert!(netlink.link_by_name(&names.device).unwrap().is_none());
    });
}

#[test]
fn kernel_entries_become_what_is_wanted_from_whatever_is_there() {
    on_node(|netlink, segment, _| {
        let (device, bridge) = (segment.device.index, segment.bridge.index);
        assert_eq!(reconcile(netlink, segment, &wanted()).unwrap().changes, 7);
        assert_eq!(reconcile(netlink, segment, &wanted()).unwrap(), Made::default());
        // Somebody takes away what is ours.
        netlink.delete_forwarding(device, ALL_ZERO, ip("192.0.2.3")).unwrap();
        netlink.delete_forwarding(device, mac(33), ip("192.0.2.3")).unwrap();
        netlink.delete_neighbour(bridge, ip("fd42::33")).unwrap();
        netlink.change_entries(&[Entry::Remove { index: device, mac: mac(2), remote: None }], "the test").unwrap();
        let healed = reconcile(netlink, segment, &wanted()).unwrap();
        assert_eq!(healed.changes, 4, "{healed:?}");
        assert_eq!(reconcile(netlink, segment, &wanted()).unwrap(), Made::default());
        // A member leaves, and its pod starts on another.
        let moved = Entries {
            members: [(ip("192.0.2.2"), mac(2))].into(),
            stations: [(mac(33), ip("192.0.2.2"))].into(),
            ..wanted()
        };
        reconcile(netlink, segment, &moved).unwrap();
        assert_eq!(reconcile(netlink, segment, &moved).unwrap(), Made::default());
        let is = all(netlink, device, bridge);
        assert!(is.forwarding.iter().all(|entry| entry.remote != Some(ip("192.0.2.3"))), "{is:?}");
        reconcile(netlink, segment, &Entries::default()).unwrap();
        let left = all(netlink, device, bridge);
        assert!(left.forwarding.iter().all(|entry| !entry.own && !entry.is_external), "{left:?}");
        assert_eq!(left.neighbours, []);
    });
}

#[test]
fn kernel_entries_of_others_are_left_alone() {
    on_node(|netlink, segment, _| {
        let (device, bridge) = (segment.device.index, segment.bridge.index);
        netlink.append_forwarding(device, ALL_ZERO, ip("192.0.2.9")).unwrap();
        netlink.replace_forwarding(device, mac(33), ip("192.0.2.9")).unwrap();
        netlink.set_neighbour(bridge, ip("10.42.0.33"), mac(9)).unwrap();
        let before = all(netlink, device, bridge);
        let plan = reconcile(netlink, segment, &wanted()).unwrap();
        let in_the_way =
            [Obstacle::Forwarding(mac(33), ip("192.0.2.9")), Obstacle::Neighbour(ip("10.42.0.33"), mac(9))];
        assert_eq!(plan.obstacles, in_the_way);
        reconcile(netlink, segment, &Entries::default()).unwrap();
        assert_eq!(all(netlink, device, bridge), before);
    });
}

/// The other node is not there: who answers is the port of the overlay's device.
#[test]
fn kernel_a_known_neighbour_is_answered_for_on_the_node() {
    on_node(|netlink, segment, _| {
        let netns = pod();
        veth(netlink, "veth1", "net1", Some(&netns), Some(segment.bridge.index));
        let mut inside = netns.socket(soon()).unwrap();
        let link = up(&mut inside, "net1");
        inside.add_address(link, "10.42.0.1/16".parse().unwrap(), true).unwrap();
        inside.add_address(link, "fd42::1/64".parse().unwrap(), true).unwrap();
        reconcile(netlink, segment, &wanted()).unwrap();
        let knows = |inside: &mut Netlink, address| {
            let neighbours = inside.neighbours(link).unwrap();
            neighbours.into_iter().find(|neighbour| neighbour.ip == address).and_then(|neighbour| neighbour.mac)
        };
        for address in [ip("10.42.0.33"), ip("fd42::33")] {
            let until = soon();
            while knows(&mut inside, address).is_none() && Instant::now() < until {
                // The port begins to forward a moment after its link came up.
                let ask = || {
                    let unspecified = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    let _ = UdpSocket::bind(unspecified).unwrap().send_to(b"?", (address, 9));
                    Ok(())
                };
                netns.enter(ask).unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(knows(&mut inside, address), Some(mac(33)), "{address}");
        }
    });
}

/// What a network of a thousand nodes costs a node. Not a word about how long is asserted: other work goes on on the machine.
#[test]
fn kernel_on_host_a_thousand_members_with_all_their_slots() {
    on_node(|netlink, segment, _| {
        let mut state =
            super::super::testing::state(1, &[1, 2], |n| format!("192.0.2.{n}"), Some(r#"{"subnet":"10.0.0.0/8"}"#));
        let overlay = state.overlay.as_mut().unwrap();
        let model = overlay.members[0].clone();
        overlay.members = (0..1000_u32)
            .map(|i| {
                let [_, _, a, b] = i.to_be_bytes();
                let mut member = model.clone();
                (member.vtep, member.mac) = (ip(&format!("10.200.{a}.{b}")), Mac([2, 1, 0, 0, a, b]));
                member.slots = vec![crate::networks::state::Slots { first: 64 * (i + 1), count: 64 }];
                member
            })
            .collect();
        // Hundredths of a second of this thread, in the program and in the kernel: proc_pid_stat(5).
        let ticks = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let field = |n: usize| {
                stat.rsplit(')').next().unwrap().split_whitespace().nth(n - 3).unwrap().parse::<u64>().unwrap()
            };
            (field(14), field(15))
        };
        let mut at = (Instant::now(), ticks());
        let mut lap = |what: &str| {
            let ((user, system), (user_before, system_before)) = (ticks(), at.1);
            let (user, system) = ((user - user_before) * 10, (system - system_before) * 10);
            println!("{what}: {:?}, of it {user} ms in the program and {system} ms in the kernel", at.0.elapsed());
            at = (Instant::now(), ticks());
        };
        let json = serde_json::to_vec(&state).unwrap();
        lap(&format!("state file of {} bytes written", json.len()));
        let read: crate::networks::state::NetworkState = serde_json::from_slice(&json).unwrap();
        lap("read");
        let entries = crate::overlay::entries_of(&read);
        assert_eq!((entries.members.len(), entries.stations.len()), (1000, 64_000));
        lap("entries computed");
        let first = reconcile(netlink, segment, &entries).unwrap();
        assert_eq!(first.changes, 1000 + 64_000 + 1000 + 64_000);
        lap("programmed");
        assert_eq!(reconcile(netlink, segment, &entries).unwrap(), Made::default());
        lap("looked at once more");
        let mut state = read;
        state.overlay.as_mut().unwrap().members[500].vtep = ip("10.201.0.1");
        let moved = reconcile(netlink, segment, &crate::overlay::entries_of(&state)).unwrap();
        assert_eq!(moved.changes, 65 + 2);
        lap("a member at another address");
        reconcile(netlink, segment, &Entries::default()).unwrap();
        lap("removed");
    });
}
