use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use attachments::names::Mac;

use super::*;
use crate::error::Error;
use crate::netns::testing::{as_host, pod};

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn bridge(netlink: &mut Netlink, text: &str) -> Link {
    let name = name(text);
    netlink.add_link(&NewLink { up: true, ..NewLink::new(&name, NewKind::Bridge(Bridge::default())) }).unwrap();
    netlink.link_by_name(&name).unwrap().unwrap()
}

fn veth(netlink: &mut Netlink, near: &str, far: &str) -> (Link, Link) {
    let (near, far) = (name(near), name(far));
    let peer = Peer { name: &far, netns: None, mtu: None, mac: None, group: 0 };
    netlink.add_link(&NewLink { up: true, ..NewLink::new(&near, NewKind::Veth(peer)) }).unwrap();
    let far = netlink.link_by_name(&far).unwrap().unwrap();
    netlink.set_link(far.index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    (netlink.link_by_name(&near).unwrap().unwrap(), far)
}

#[test]
fn kernel_one_message_makes_a_veth_with_both_ends_complete() {
    as_host(|| {
        let pod = pod();
        let (mut host, mut inside) = (Netlink::open(soon()).unwrap(), pod.socket(soon()).unwrap());
        let cni0 = bridge(&mut host, "cni0");
        let (near, far) = (name("veth12345678"), name("net1"));
        let mac = "02:00:00:00:00:07".parse().unwrap();
        let peer = Peer { name: &far, netns: Some(pod.as_fd()), mtu: Some(1400), mac: Some(mac), group: 77 };
        let link =
            NewLink { mtu: Some(1400), master: Some(cni0.index), up: true, ..NewLink::new(&near, NewKind::Veth(peer)) };
        host.add_link(&link).unwrap();
        let near = host.link_by_name(&near).unwrap().unwrap();
        let far = inside.link_by_name(&far).unwrap().unwrap();
        assert_eq!((near.master, near.mtu, near.up, near.group), (Some(cni0.index), 1400, true, 0));
        assert_eq!((far.mac, far.mtu, far.up, far.group), (Some(mac), 1400, false, 77));
        assert_eq!((near.kind, far.kind), (Kind::Veth, Kind::Veth));
        assert_eq!((near.parent, far.parent), (Some(far.index), Some(near.index)));
        inside.set_link(far.index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        assert!(inside.link_by_index(far.index).unwrap().unwrap().lower_up);
        assert_eq!(host.links(Some(cni0.index)).unwrap().len(), 1);
    });
}

#[test]
fn kernel_a_macvlan_is_born_in_the_pod_and_up() {
    as_host(|| {
        let pod = pod();
        let (mut host, mut inside) = (Netlink::open(soon()).unwrap(), pod.socket(soon()).unwrap());
        let (parent, _far) = veth(&mut host, "uplink", "switch");
        for (text, mode) in [("net1", MacvlanMode::Bridge), ("net2", MacvlanMode::Private)] {
            let name = name(text);
            let kind = NewKind::Macvlan { parent: parent.index, mode, broadcast_queue: Some(500) };
            let link =
                NewLink { netns: Some(pod.as_fd()), mtu: Some(1300), group: 9, up: true, ..NewLink::new(&name, kind) };
            host.add_link(&link).unwrap();
            let made = inside.link_by_name(&name).unwrap().unwrap();
            assert_eq!((made.kind, made.mtu, made.up, made.group), (Kind::Macvlan(mode), 1300, true, 9));
            assert_eq!(made.parent, Some(parent.index));
            assert!(host.link_by_name(&name).unwrap().is_none());
        }
    });
}

#[test]
fn kernel_on_uml_ipvlan_and_vlan_are_born_in_the_pod_and_up() {
    as_host(|| {
        let pod = pod();
        let (mut host, mut inside) = (Netlink::open(soon()).unwrap(), pod.socket(soon()).unwrap());
        let (parent, _far) = veth(&mut host, "uplink", "switch");
        let parent = parent.index;
        for (text, kind, made) in [
            ("net1", NewKind::Ipvlan { parent, mode: IpvlanMode::L2 }, Kind::Ipvlan(IpvlanMode::L2)),
            ("net2", NewKind::Vlan { parent, id: 4094 }, Kind::Vlan(4094)),
        ] {
            let name = name(text);
            let link =
                NewLink { netns: Some(pod.as_fd()), mtu: Some(1300), group: 9, up: true, ..NewLink::new(&name, kind) };
            host.add_link(&link).unwrap();
            let link = inside.link_by_name(&name).unwrap().unwrap();
            assert_eq!((link.kind, link.mtu, link.up, link.group), (made, 1300, true, 9));
        }
        let (parent, _far) = veth(&mut inside, "eth0", "eth1");
        let kind = NewKind::Ipvlan { parent: parent.index, mode: IpvlanMode::L3s };
        let name = name("net3");
        inside.add_link(&NewLink::new(&name, kind)).unwrap();
        assert_eq!(inside.link_by_name(&name).unwrap().unwrap().kind, Kind::Ipvlan(IpvlanMode::L3s));
    });
}

#[test]
fn kernel_on_uml_a_filtering_bridge_gives_its_ports_vlans() {
    #![expect(clippy::disallowed_methods, reason = "`bridge` of iproute2 is the judge of what we wrote")]
    as_host(|| {
        let mut host = Netlink::open(soon()).unwrap();
        let br0 = name("br0");
        let settings = Bridge { vlan_filtering: true, multicast_snooping: Some(false) };
        host.add_link(&NewLink { up: true, ..NewLink::new(&br0, NewKind::Bridge(settings)) }).unwrap();
        let br0 = host.link_by_name(&br0).unwrap().unwrap();
        assert_eq!(br0.kind, Kind::Bridge(settings));
        let (port, _far) = veth(&mut host, "a", "b");
        host.set_link(port.index, &LinkChange { master: Some(br0.index), ..LinkChange::default() }).unwrap();
        let one = |id| PortVlans { first: id, last: id, pvid: false, untagged: false };
        let access = PortVlans { pvid: true, untagged: true, ..one(100) };
        host.add_port_vlans(port.index, false, access).unwrap();
        host.add_port_vlans(port.index, false, PortVlans { last: 203, ..one(200) }).unwrap();
        host.delete_port_vlans(port.index, false, one(1)).unwrap();
        host.delete_port_vlans(port.index, false, one(202)).unwrap();
        host.add_port_vlans(br0.index, true, one(100)).unwrap();
        let show = std::process::Command::new("bridge").args(["-j", "vlan", "show"]).output().unwrap();
        let of_bridge = r#"{"ifname":"br0","vlans":[{"vlan":1,"flags":["PVID","Egress Untagged"]},{"vlan":100}]}"#;
        let of_port = r#"{"vlan":100,"flags":["PVID","Egress Untagged"]},{"vlan":200},{"vlan":201},{"vlan":203}"#;
        assert_eq!(
            String::from_utf8(show.stdout).unwrap().trim(),
            format!(r#"[{of_bridge},{{"ifname":"a","vlans":[{of_port}]}}]"#)
        );
    });
}

#[test]
fn kernel_a_macvlan_on_a_link_inside_the_pod() {
    as_host(|| {
        let pod = pod();
        let mut inside = pod.socket(soon()).unwrap();
        let (parent, _far) = veth(&mut inside, "eth0", "eth1");
        let name = name("net1");
        let kind = NewKind::Macvlan { parent: parent.index, mode: MacvlanMode::Vepa, broadcast_queue: None };
        inside.add_link(&NewLink::new(&name, kind)).unwrap();
        assert_eq!(inside.link_by_name(&name).unwrap().unwrap().kind, Kind::Macvlan(MacvlanMode::Vepa));
    });
}

#[test]
fn kernel_a_vxlan_is_made_as_told() {
    as_host(|| {
        let mut host = Netlink::open(soon()).unwrap();
        let (underlay, _far) = veth(&mut host, "under0", "under1");
        let br = bridge(&mut host, "br0");
        let name = name("vx4200");
        let vxlan = Vxlan {
            vni: 4200,
            port: 4789,
            local: Some("192.0.2.1".parse().unwrap()),
            underlay: Some(underlay.index),
            group: None,
            learning: false,
            ttl: 0,
            udp_checksum: true,
        };
        let link = NewLink {
            mtu: Some(1450),
            master: Some(br.index),
            up: true,
            ..NewLink::new(&name, NewKind::Vxlan(vxlan.clone()))
        };
        host.add_link(&link).unwrap();
        let made = host.link_by_name(&name).unwrap().unwrap();
        assert_eq!((&made.kind, made.mtu), (&Kind::Vxlan(vxlan.clone()), 1450));
        assert_eq!((made.master, made.up), (Some(br.index), true));
        let same_vni = self::name("vxtwin");
        let refused = host.add_link(&NewLink::new(&same_vni, NewKind::Vxlan(vxlan))).unwrap_err();
        assert_eq!(crate::nl::errno(&refused), Some(Errno::EEXIST));
        let multicast = Vxlan {
            vni: 7,
            port: 8472,
            local: Some("2001:db8::1".parse().unwrap()),
            underlay: Some(underlay.index),
            group: Some("ff05::7".parse().unwrap()),
            learning: true,
            ttl: 4,
            udp_checksum: true,
        };
        let name = self::name("vx7");
        host.add_link(&NewLink::new(&name, NewKind::Vxlan(multicast.clone()))).unwrap();
        assert_eq!(host.link_by_name(&name).unwrap().unwrap().kind, Kind::Vxlan(multicast));
    });
}

#[test]
fn kernel_a_link_changes_in_one_message() {
    as_host(|| {
        let mut host = Netlink::open(soon()).unwrap();
        let br = bridge(&mut host, "br0");
        let (near, _far) = veth(&mut host, "a", "b");
        let mac: Mac = "02:00:00:00:00:01".parse().unwrap();
        let renamed = name("c");
        host.set_link(near.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
        let change = LinkChange {
            up: Some(true),
            promisc: Some(true),
            allmulti: Some(true),
            tx_queue: Some(77),
            master: Some(br.index),
            mtu: Some(1280),
            mac: Some(mac),
            group: Some(5),
            name: Some(&renamed),
            alias: Some("a note"),
            netns: None,
            index_there: None,
        };
        host.set_link(near.index, &change).unwrap();
        let link = host.link_by_index(near.index).unwrap().unwrap();
        assert_eq!((link.up, link.promisc, link.mtu, link.group), (true, true, 1280, 5));
        assert_eq!((link.allmulti, link.tx_queue), (true, 77));
        assert_eq!((link.master, link.mac, link.name.as_str()), (Some(br.index), Some(mac), "c"));
        assert_eq!(link.alias, "a note");
        let freed = LinkChange { master: Some(0), promisc: Some(false), ..LinkChange::default() };
        host.set_link(near.index, &freed).unwrap();
        let link = host.link_by_index(near.index).unwrap().unwrap();
        assert_eq!((link.master, link.promisc, link.up), (None, false, true));
    });
}

#[test]
fn kernel_bridge_port_flags_are_set_and_told() {
    as_host(|| {
        let mut host = Netlink::open(soon()).unwrap();
        let br = bridge(&mut host, "br0");
        let (near, _far) = veth(&mut host, "a", "b");
        let enslaved = LinkChange { master: Some(br.index), ..LinkChange::default() };
        host.set_link(near.index, &enslaved).unwrap();
        let flags = PortFlags {
            hairpin: Some(true),
            isolated: Some(true),
            learning: Some(false),
            unicast_flood: Some(false),
            neigh_suppress: Some(true),
        };
        host.set_port(near.index, &flags).unwrap();
        assert_eq!(host.link_by_index(near.index).unwrap().unwrap().port, Some(flags));
        host.set_port(near.index, &PortFlags { hairpin: Some(false), ..PortFlags::default() }).unwrap();
        let told = host.link_by_index(near.index).unwrap().unwrap().port;
        assert_eq!(told, Some(PortFlags { hairpin: Some(false), ..flags }));
    });
}

#[test]
fn kernel_a_group_goes_with_one_message_and_only_that_group() {
    as_host(|| {
        let mut host = Netlink::open(soon()).unwrap();
        for (near, far, group) in [("a", "b", 6), ("c", "d", 6), ("e", "f", 8)] {
            let (link, _) = veth(&mut host, near, far);
            host.set_link(link.index, &LinkChange { group: Some(group), ..LinkChange::default() }).unwrap();
        }
        assert!(host.delete_group(6).unwrap());
        assert!(!host.delete_group(6).unwrap());
        let left: Vec<String> = host.links(None).unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(left, ["lo", "f", "e"]);
    });
}

#[test]
fn kernel_altnames_are_given_told_and_taken() {
    as_host(|| {
        let mut host = Netlink::open(soon()).unwrap();
        let (link, far) = veth(&mut host, "a", "b");
        for altname in ["first", "a-name-that-is-longer-than-fifteen-bytes"] {
            host.add_altname(link.index, altname).unwrap();
        }
        let taken = host.add_altname(far.index, "first").unwrap_err();
        assert_eq!(crate::nl::errno(&taken), Some(Errno::EEXIST));
        let found = host.link_by_name(&name("first")).unwrap().unwrap();
        assert_eq!((found.index, found.name.as_str()), (link.index, "a"), "a look-up finds altnames too");
        assert_eq!(found.altnames, ["first", "a-name-that-is-longer-than-fifteen-bytes"]);
        assert!(found.is_called("a") && found.is_called("first") && !found.is_called("b"));
        assert!(host.delete_altname(link.index, "first").unwrap());
        assert!(!host.delete_altname(link.index, "first").unwrap());
        assert!(!host.delete_altname(4711, "first").unwrap());
        assert_eq!(host.links(None).unwrap().iter().map(|link| link.altnames.len()).sum::<usize>(), 1);
    });
}

#[test]
fn kernel_the_number_of_a_namespace_is_the_one_that_links_are_told_with() {
    as_host(|| {
        let pod = pod();
        let (mut host, mut inside) = (Netlink::open(soon()).unwrap(), pod.socket(soon()).unwrap());
        let home = crate::netns::NetNs::current().unwrap();
        assert_eq!(inside.netns_id(home.as_fd()).unwrap(), None);
        let (link, far) = veth(&mut host, "a", "b");
        assert_eq!((link.is_parent_elsewhere, link.parent_netns), (false, None));
        host.set_link(link.index, &LinkChange { netns: Some(pod.as_fd()), ..LinkChange::default() }).unwrap();
        let moved = inside.link_by_name(&name("a")).unwrap().unwrap();
        let number = inside.netns_id(home.as_fd()).unwrap();
        assert!(number.is_some());
        assert_eq!((moved.parent, moved.is_parent_elsewhere, moved.parent_netns), (Some(far.index), true, number));
    });
}

#[test]
fn kernel_a_group_that_holds_lo_is_refused_whole() {
    as_host(|| {
        let mut host = Netlink::open(soon()).unwrap();
        let (link, _) = veth(&mut host, "a", "b");
        for index in [1, link.index] {
            host.set_link(index, &LinkChange { group: Some(6), ..LinkChange::default() }).unwrap();
        }
        let refused = host.delete_group(6).unwrap_err();
        assert_eq!(crate::nl::errno(&refused), Some(Errno::EOPNOTSUPP));
        assert_eq!(host.links(None).unwrap().len(), 3);
        assert!(host.delete_link(link.index).unwrap());
        assert!(!host.delete_link(link.index).unwrap());
    });
}

#[test]
fn kernel_a_refusal_tells_what_was_tried_and_the_kernels_reason() {
    as_host(|| {
        let mut host = Netlink::open(soon()).unwrap();
        let name = name("net1");
        let kind = NewKind::Macvlan { parent: 4711, mode: MacvlanMode::Bridge, broadcast_queue: None };
        let error = host.add_link(&NewLink::new(&name, kind)).unwrap_err();
        assert_eq!(error.to_string(), "create macvlan net1: No such device");
        let link = NewLink { mtu: Some(7), ..NewLink::new(&name, NewKind::Bridge(Bridge::default())) };
        let error = host.add_link(&link).unwrap_err();
        let Error::Kernel { op, errno, detail } = &error else { panic!("{error:?}") };
        assert_eq!((op.as_str(), *errno), ("create bridge net1", libc::EINVAL));
        assert_eq!(detail, "mtu less than device minimum");
    });
}
