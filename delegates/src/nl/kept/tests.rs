use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::netns::testing::{as_host, pod};
use crate::nl::link::{LinkChange, NewKind, NewLink, Peer};

fn attributes(pairs: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    pairs.iter().for_each(|(kind, value)| put(&mut bytes, *kind, value));
    bytes
}

/// An IPv4 route of somebody's, `10.0.0.0/8`, with these attributes behind its destination.
fn route_body(protocol: u8, flags: u32, pairs: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![libc::AF_INET as u8, 8, 0, 0, 254, protocol, 0, 1];
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend(attributes(&[(libc::RTA_DST, &[10, 0, 0, 0])]));
    body.extend(attributes(pairs));
    body
}

fn hop(index: u32, flags: u8) -> Vec<u8> {
    let mut hop = vec![16, 0, flags, 0];
    hop.extend_from_slice(&index.to_ne_bytes());
    hop.extend(attributes(&[(libc::RTA_GATEWAY, &[192, 0, 2, index as u8])]));
    hop
}

#[test]
fn a_route_is_kept_without_what_only_the_kernel_may_say() {
    let out = 7u32.to_ne_bytes();
    let body =
        route_body(4, 0x14, &[(libc::RTA_OIF, &out), (RTA_NH_ID, &[1, 0, 0, 0]), (libc::RTA_CACHEINFO, &[0; 32])]);
    assert_eq!(route(&body, 7), Ok(Some(route_body(4, 4, &[(libc::RTA_OIF, &out)]))));
    assert_eq!(route(&body, 8), Ok(None), "it leaves by another link");
    for protocol in [libc::RTPROT_KERNEL, libc::RTPROT_REDIRECT, RTPROT_RA] {
        assert_eq!(route(&route_body(protocol, 0, &[(libc::RTA_OIF, &out)]), 7), Ok(None));
    }
    let mut age = [0; 32];
    age[8] = 1;
    assert_eq!(route(&route_body(4, 0, &[(libc::RTA_OIF, &out), (libc::RTA_CACHEINFO, &age)]), 7), Ok(None));
}

#[test]
fn one_of_several_next_hops_is_found_and_follows_the_link_to_its_new_index() {
    let body = route_body(3, 0, &[(libc::RTA_MULTIPATH, &[hop(8, 1), hop(7, 0x14)].concat())]);
    let kept = route(&body, 7).unwrap().unwrap();
    assert_eq!(kept, route_body(3, 0, &[(libc::RTA_MULTIPATH, &[hop(8, 0), hop(7, 4)].concat())]));
    let moved = Kept { kind: libc::RTM_NEWROUTE, body: kept }.about(7, 70).unwrap();
    let mut there = hop(7, 4);
    there[4..8].copy_from_slice(&70u32.to_ne_bytes());
    assert_eq!(moved, route_body(3, 0, &[(libc::RTA_MULTIPATH, &[hop(8, 0), there].concat())]));
    let mut is_there = false;
    assert_eq!(hops_to_keep(&[hop(8, 0), hop(7, 0)].concat(), 7, true, &mut is_there), Ok(hop(7, 0)));
    assert!(is_there);
}

#[test]
fn a_record_reads_what_it_wrote_and_nothing_else() {
    let kept = Kept { kind: libc::RTM_NEWNEIGH, body: vec![2, 0, 255, 16] };
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(text, r#""28:0200ff10""#);
    assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
    for wrong in [r#""16:00""#, r#""28""#, r#""28:0""#, r#""28:zz""#, r#""28:é0""#, "7"] {
        assert!(serde_json::from_str::<Kept>(wrong).is_err(), "{wrong}");
    }
}

/// Runs `ip`, in the namespace of the thread.
#[expect(clippy::disallowed_methods, reason = "the ban is for the plugin; people look with ip")]
fn ip(arguments: &str) -> String {
    let done = std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// What it prints; nothing when it finds nothing.
#[expect(clippy::disallowed_methods, reason = "the ban is for the plugin; people look with ip")]
fn told(arguments: &str) -> String {
    let done = std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Everything of a link comes back after it was away, also under another index.
#[test]
fn kernel_what_is_kept_comes_back_as_people_see_it() {
    for other_index in [false, true] {
        as_host(|| {
            let pod = pod();
            let mut host = Netlink::open(Instant::now() + Duration::from_secs(10)).unwrap();
            for (near, far) in [("a0", "a1"), ("b0", "b1")] {
                let (near, far) = (near.parse().unwrap(), far.parse().unwrap());
                let peer = Peer { name: &far, netns: None, mtu: None, mac: None, group: 0 };
                host.add_link(&NewLink { up: true, ..NewLink::new(&near, NewKind::Veth(peer)) }).unwrap();
            }
            for line in [
                "link set a1 up",
                "link set b1 up",
                "address add 10.9.0.1/24 dev b0",
                "address add 192.0.2.9/24 brd 192.0.2.255 dev a0 label a0:1 metric 77",
                "address add 192.0.2.10/24 dev a0",
                "address add 192.0.2.11 peer 192.0.2.99/32 dev a0 scope link",
                "address add 2001:db8::9/64 dev a0 nodad",
                "address add 2001:db8::a/64 dev a0 nodad noprefixroute",
                "address add fe80::1/64 dev a0 nodad",
                "address add 192.0.2.200/24 dev a0 valid_lft 1000 preferred_lft 1000",
                "route add 198.51.100.0/24 via 192.0.2.1 dev a0 metric 5 mtu 1400 proto static",
                "route add 198.51.101.0/24 dev a0 table 4000 src 192.0.2.9",
                "route add local 198.51.102.0/24 dev a0",
                "route add 198.51.103.0/24 nexthop via 192.0.2.1 dev a0 weight 3 nexthop via 10.9.0.2 dev b0",
                "-6 route add 2001:db8:1::/48 via 2001:db8::1 dev a0 pref high",
                "-6 route add 2001:db8:2::/48 nexthop via 2001:db8::1 dev a0 nexthop via 2001:db8::2 dev a0",
                "neighbor add 192.0.2.50 lladdr 02:00:00:00:00:50 dev a0 nud permanent",
                "neighbor add 2001:db8::50 lladdr 02:00:00:00:00:51 dev a0 nud permanent router",
                "neighbor add proxy 192.0.2.51 dev a0",
            ] {
                ip(line);
            }
            let name = "a0".parse().unwrap();
            let was = host.link_by_name(&name).unwrap().unwrap().index;
            let looks = [
                "address show dev a0 permanent",
                "route show table all proto boot",
                "route show table all proto static",
                "-6 route show table all proto boot",
                "neighbor show dev a0 nud permanent",
                "neighbor show proxy dev a0",
            ];
            let look = || looks.map(|look| (look, told(look).replace(&format!("{was}: a0"), "a0")));
            ip("address del 192.0.2.200/24 dev a0");
            let before = look();
            ip("address add 192.0.2.200/24 dev a0 valid_lft 1000 preferred_lft 1000");
            let kept = [host.keep_addresses(was), host.keep_routes(was), host.keep_neighbours(was)].map(Result::unwrap);
            assert_eq!(kept.each_ref().map(Vec::len), [6, 6, 3]);
            use std::os::fd::AsFd;
            let mut inside = pod.socket(Instant::now() + Duration::from_secs(10)).unwrap();
            host.set_link(was, &LinkChange { netns: Some(pod.as_fd()), ..LinkChange::default() }).unwrap();
            assert_ne!(look(), before);
            let now = if other_index { 4711 } else { was };
            let home = crate::netns::NetNs::current().unwrap();
            let back = LinkChange { netns: Some(home.as_fd()), index_there: Some(now), ..LinkChange::default() };
            inside.set_link(was, &back).unwrap();
            let [addresses, routes, neighbours] = &kept;
            for kept in addresses {
                assert!(host.bring_back(kept, was, now).unwrap());
            }
            host.set_link(now, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
            for kept in routes.iter().chain(neighbours) {
                assert!(host.bring_back(kept, was, now).unwrap(), "{kept:?}");
            }
            let after = looks.map(|look| (look, told(look).replace(&format!("{now}: a0"), "a0")));
            let sorted = |text: &str| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            for ((look, before), (_, after)) in before.iter().zip(&after) {
                // The state of the carrier and the kernel's own link-local address are not ours.
                let steady = |text: &str| sorted(&text.replace(" linkdown", ""));
                if !look.starts_with("address") {
                    assert_eq!(steady(after), steady(before), "{look}");
                }
            }
            let addresses = |text: &str| {
                let lines = text
                    .lines()
                    .filter(|line| line.contains("inet") && (!line.contains("fe80::") || line.contains("fe80::1/")));
                lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
            };
            assert_eq!(addresses(&after[0].1), addresses(&before[0].1), "in this order");
            for kept in addresses_routes(&kept) {
                assert!(!host.bring_back(kept, was, now).unwrap(), "twice is once: {kept:?}");
            }
        });
    }
}

fn addresses_routes(kept: &[Vec<Kept>; 3]) -> impl Iterator<Item = &Kept> {
    kept[..2].iter().flatten()
}

#[test]
fn kernel_a_refusal_names_what_does_not_come_back() {
    as_host(|| {
        let mut host = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
        let body = route_body(3, 0, &[(libc::RTA_OIF, &1u32.to_ne_bytes())]);
        let error = host.bring_back(&Kept { kind: libc::RTM_NEWROUTE, body }, 1, 4711).unwrap_err();
        assert!(error.to_string().starts_with("give route 10.0.0.0/8 back to link 4711: "), "{error}");
    });
}

proptest! {
    #[test]
    fn any_bytes_are_kept_or_refused_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..3) {
        let _ = (address(&body, 1), route(&body, 1), neighbour(&body, 1));
        let kind = [libc::RTM_NEWADDR, libc::RTM_NEWROUTE, libc::RTM_NEWNEIGH][kind];
        let kept = Kept { kind, body };
        let _ = (kept.about(1, 2), kept.words(2), kept.flags());
    }
}
