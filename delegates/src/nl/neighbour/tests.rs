use std::time::{Duration, Instant};

use super::*;
use crate::netns::testing::as_host;
use crate::nl::link::{NewKind, NewLink, Vxlan};

fn on_vxlan(test: impl FnOnce(&mut Netlink, u32) + Send) {
    as_host(|| {
        let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
        let name = "vx1".parse().unwrap();
        let vxlan = Vxlan {
            vni: 1,
            port: 4789,
            local: None,
            underlay: None,
            group: None,
            learning: false,
            ttl: 0,
            udp_checksum: true,
        };
        netlink.add_link(&NewLink { up: true, ..NewLink::new(&name, NewKind::Vxlan(vxlan)) }).unwrap();
        let index = netlink.link_by_name(&name).unwrap().unwrap().index;
        test(&mut netlink, index);
    });
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn kernel_the_all_zero_entry_takes_many_destinations_once_each() {
    on_vxlan(|netlink, index| {
        let remotes = ips(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        netlink.append_forwardings(index, ALL_ZERO, &remotes).unwrap();
        netlink.append_forwarding(index, ALL_ZERO, remotes[0]).unwrap();
        let mut listed = netlink.forwardings(index).unwrap();
        assert!(listed.iter().all(|entry| entry.mac == ALL_ZERO && entry.own && entry.permanent));
        listed.sort_by_key(|entry| entry.remote);
        assert_eq!(listed.iter().filter_map(|entry| entry.remote).collect::<Vec<_>>(), remotes);
        for _ in 0..2 {
            netlink.delete_forwarding(index, ALL_ZERO, remotes[1]).unwrap();
            netlink.delete_forwarding(index, Mac([2, 0, 0, 0, 0, 1]), remotes[1]).unwrap();
        }
        assert_eq!(netlink.forwardings(index).unwrap().len(), 2);
    });
}

#[test]
fn kernel_hundreds_of_destinations_go_in_few_datagrams() {
    on_vxlan(|netlink, index| {
        let remotes: Vec<IpAddr> = (0..600u32).map(|host| IpAddr::V4((0x0a00_0001 + host).into())).collect();
        netlink.append_forwardings(index, ALL_ZERO, &remotes).unwrap();
        assert_eq!(netlink.forwardings(index).unwrap().len(), 600);
    });
}

#[test]
fn kernel_a_replaced_destination_is_the_only_one() {
    on_vxlan(|netlink, index| {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        for remote in ips(&["192.0.2.1", "192.0.2.2"]) {
            netlink.replace_forwarding(index, mac, remote).unwrap();
        }
        let remotes: Vec<_> = netlink.forwardings(index).unwrap().iter().map(|entry| entry.remote).collect();
        assert_eq!(remotes, [Some("192.0.2.2".parse().unwrap())]);
    });
}

#[test]
fn kernel_permanent_neighbours_of_both_families() {
    on_vxlan(|netlink, index| {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let addresses = ips(&["10.42.0.2", "fd00::2"]);
        for ip in &addresses {
            netlink.set_neighbour(index, *ip, Mac([2, 0, 0, 0, 0, 9])).unwrap();
            netlink.set_neighbour(index, *ip, mac).unwrap();
        }
        let listed = netlink.neighbours(index).unwrap();
        let expected: Vec<_> =
            addresses.iter().map(|ip| Neighbour { ip: *ip, mac: Some(mac), permanent: true, protocol: 0 }).collect();
        assert_eq!(listed, expected);
        assert!(netlink.delete_neighbour(index, addresses[0]).unwrap());
        assert!(!netlink.delete_neighbour(index, addresses[0]).unwrap());
    });
}
