//! Overlays in mode l3: routes, and no segment.

use std::net::{IpAddr, UdpSocket};

use attachments::names::Mac;

use super::vxlan_keeper::{kept, until};
use super::vxlan_members::*;
use super::*;
use crate::networks::NetworkId;
use crate::networks::state::{Endpoint, Member, NetworkState, Slots};
use crate::nl::neighbour::Entry;
use crate::nl::nft::testing::nft;
use crate::nl::route::Route;
use crate::nl::rule::Rule;
use crate::overlay::testing::state;
use crate::overlay::{Names, kept as overlay_kept};

const DUAL: &str = r#"{"ranges":[[{"subnet":"10.42.0.0/24"}],[{"subnet":"fd42::/64"}]]}"#;

/// What the agent writes for some nodes of an overlay in mode l3.
fn join(cluster: &Cluster, vni: u32, nodes: &[u8], direct: bool) {
    for n in cluster.among(nodes) {
        let mut state = state(n, nodes, |n| cluster.vtep(n), Some(DUAL));
        let routing = &mut state.overlay.as_mut().unwrap().routing;
        (routing.l3, routing.direct) = (true, direct);
        cluster.write(n, vni, &state);
    }
}

fn conf(vni: u32, n: u8, i: u8, more: &str) -> String {
    let last = 16 * n + i;
    format!(
        r#"{{"type":"vxlan","vni":{vni},"mode":"l3","runtimeConfig":{{"mac":"0a:58:0a:2a:00:{last:02x}"}},
            "ipam":{{"type":"static","addresses":[{{"address":"10.42.0.{last}/24"}},{{"address":"fd42::{last:x}/64"}}]}}{more}}}"#
    )
}

fn attach(cluster: &Cluster, n: u8, conf: &str) -> (Pod, Attached) {
    cluster.on(n, |bed| {
        let pod = bed.pod();
        let attached = bed.add(Builtin::Vxlan, &pod, "net1", conf).unwrap();
        (pod, attached)
    })
}

/// A socket of a pod for both families.
fn listen_to_both(pod: &Pod, within: u64) -> UdpSocket {
    let socket = pod.udp(("::", 9));
    socket.set_read_timeout(Some(Duration::from_millis(within))).unwrap();
    socket
}

fn send_from(pod: &Pod, to: &str, what: &[u8]) {
    let send = || {
        let socket = UdpSocket::bind(if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
        let _ = socket.send_to(what, to);
        Ok(())
    };
    pod.netns.enter(send).unwrap();
}

/// What a node holds in the overlay's table and of its rules.
fn routing(bed: &Bed, vni: u32) -> (Vec<Route>, Vec<Rule>) {
    let table = Names::of(vni, 4789).unwrap().table;
    let mut netlink = bed.netlink();
    let mut routes = netlink.table_routes(true, table).unwrap();
    routes.extend(netlink.table_routes(false, table).unwrap());
    (routes, netlink.rules().unwrap().into_iter().filter(|rule| rule.table == table).collect())
}

fn main_routes(bed: &Bed) -> Vec<Route> {
    let mut netlink = bed.netlink();
    let routes = [true, false].into_iter().flat_map(|ipv4| netlink.table_routes(ipv4, 254).unwrap());
    // The kernel gives each link a link-local subnet.
    routes.filter(|route| route.destination != net("fe80::/64")).collect()
}

/// How many packets a link of the thread's namespace has sent.
fn sent_by(link: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{link}:"))).unwrap();
    line.split(':').nth(1).unwrap().split_whitespace().nth(9).unwrap().parse().unwrap()
}

#[test]
fn kernel_on_host_vxlan_l3_reaches_pods_with_the_first_packet_and_leaves_nothing() {
    for is_ipv6 in [false, true] {
        on_nodes(2, is_ipv6, |cluster| {
            join(cluster, 7, &[1, 2], false);
            let (links, main) = cluster.on(1, |bed| (bed.links(), main_routes(bed)));
            let text = conf(7, 1, 1, "");
            let (a, attached) = attach(cluster, 1, &text);
            let (beside, _) = attach(cluster, 1, &conf(7, 1, 2, ""));
            let (b, _) = attach(cluster, 2, &conf(7, 2, 1, ""));
            for (to, pod) in
                [("10.42.0.33:9", &b), ("[fd42::21]:9", &b), ("10.42.0.18:9", &beside), ("[fd42::12]:9", &beside)]
            {
                let socket = listen_to_both(pod, 2000);
                send_from(&a, to, &[7; 1300]);
                assert_eq!(
                    socket.recv(&mut [0; 1500]).unwrap_or_else(|e| panic!("{to} over IPv6 {is_ipv6}: {e}")),
                    1300
                );
            }
            let socket = listen_to_both(&a, 2000);
            send_from(&b, "10.42.0.17:9", b"x");
            send_from(&b, "[fd42::11]:9", b"x");
            assert_eq!(received(&socket), 2);
            cluster.on(1, |bed| {
                let (device, bridge) = (bed.link("vx7").unwrap(), bed.link("bx7").unwrap());
                assert_eq!((device.master, device.mtu), (None, if is_ipv6 { 1430 } else { 1450 }));
                assert_eq!(bed.netlink().addresses(Some(bridge.index)).unwrap(), [], "the bridge has no address");
                assert_eq!(bed.netlink().addresses(Some(device.index)).unwrap(), []);
                // A member is one route of each family, one neighbour of each, and one forwarding entry.
                let (routes, rules) = routing(bed, 7);
                let by_tunnel: Vec<String> = routes
                    .iter()
                    .filter(|route| route.index == Some(device.index))
                    .map(|route| format!("{} via {}", route.destination, route.gateway.unwrap()))
                    .collect();
                assert_eq!(by_tunnel, ["10.42.0.32/28 via 10.42.0.32", "fd42::20/124 via fe80::ff:fe00:2"]);
                assert_eq!(bed.netlink().forwardings(device.index).unwrap().len(), 1);
                assert_eq!(rules.len(), 4);
                // Its own 16 slots, of which all have addresses, in both families; and the two ways to nowhere.
                assert_eq!(routes.len(), 2 + 2 * 16 + 2);
                assert_eq!(main_routes(bed), main, "the node's own routing is untouched");
                bed.check(Builtin::Vxlan, &a, "net1", &text, &attached.result).unwrap();
                for (net, index) in [("10.42.0.32/28", device.index), ("fd42::20/124", device.index)] {
                    let lost = *routes.iter().find(|route| route.destination == self::net(net)).unwrap();
                    assert_eq!(lost.index, Some(index));
                    assert!(bed.netlink().delete_route(&lost).unwrap());
                    let error = bed.check(Builtin::Vxlan, &a, "net1", &text, &attached.result).unwrap_err();
                    assert!(error.to_string().contains(&format!("the route to {net} of vx7")), "{error}");
                    bed.netlink().add_route(&lost).unwrap();
                }
                bed.check(Builtin::Vxlan, &a, "net1", &text, &attached.result).unwrap();
                let inside = a.netlink().routes(Default::default()).unwrap();
                let lost = inside.iter().find(|route| route.destination == self::net("10.42.0.0/24")).unwrap();
                assert_eq!(lost.gateway, Some("169.254.1.1".parse().unwrap()));
                a.netlink().delete_route(lost).unwrap();
                let error = bed.check(Builtin::Vxlan, &a, "net1", &text, &attached.result).unwrap_err();
                assert!(error.to_string().contains("route 10.42.0.0/24 through the node is missing"), "{error}");
                for (pod, i) in [(&a, 1), (&beside, 2), (&beside, 2)] {
                    let links = a.link("net1").map(|_| &attached).filter(|_| i == 1);
                    bed.del(Builtin::Vxlan, pod, "net1", &conf(7, 1, i, ""), links).unwrap();
                }
                bed.del(Builtin::Vxlan, &beside, "net1", &conf(7, 1, 2, ""), None).unwrap();
                assert_eq!((bed.links(), main_routes(bed)), (links, main));
                assert_eq!(routing(bed, 7), (vec![], vec![]), "routes and rules go with the last pod");
                assert_eq!(nft(&["list", "ruleset"], ""), "");
            });
        });
    }
}

#[test]
fn kernel_on_host_vxlan_l3_with_one_cidr_never_meet_and_broadcast_nothing() {
    on_nodes(2, false, |cluster| {
        for vni in [7, 8] {
            join(cluster, vni, &[1, 2], false);
        }
        let (a, _) = attach(cluster, 1, &conf(7, 1, 1, ""));
        let (b7, _) = attach(cluster, 2, &conf(7, 2, 1, ""));
        let (b8, _) = attach(cluster, 2, &conf(8, 2, 1, ""));
        let (beside, _) = attach(cluster, 1, &conf(8, 1, 2, ""));
        let sockets = [&b7, &b8, &beside].map(|pod| listen_to_both(pod, 300));
        for (to, of) in [("10.42.0.33:9", 100), ("[fd42::21]:9", 100), ("10.42.0.18:9", 0)] {
            // The other overlay has a pod at each of these, this one at the first two.
            (0..100).for_each(|_| send_from(&a, to, b"x"));
            assert_eq!(sockets.each_ref().map(received), [of, 0, 0], "{to}");
        }
        // What is for all goes nowhere, and what the overlay does not know neither: not by the node's default route.
        cluster.on(1, |bed| {
            let eth1 = bed.link("eth1").unwrap().index;
            let default = Route { gateway: Some("192.0.2.2".parse().unwrap()), ..Route::new(net("0.0.0.0/0"), eth1) };
            bed.netlink().add_route(&default).unwrap();
            nft(&["delete", "table", "inet", "meta_cni_overlays"], "");
            let before = sent_by("eth1");
            for to in ["10.42.0.255:9", "10.42.0.200:9"] {
                send(&a, to, b"x");
            }
            assert_eq!(sent_by("eth1"), before);
        });
        assert_eq!(sockets.each_ref().map(received), [0, 0, 0]);
    });
}

#[test]
fn kernel_on_host_vxlan_l3_without_the_tunnel_where_the_node_is_one_hop_away() {
    for is_ipv6 in [false, true] {
        on_nodes(2, is_ipv6, |cluster| {
            join(cluster, 7, &[1, 2], true);
            let text = conf(7, 1, 1, r#","directRouting":true"#);
            let (a, attached) = attach(cluster, 1, &text);
            let (b, _) = attach(cluster, 2, &conf(7, 2, 1, r#","directRouting":true"#));
            let socket = listen_to_both(&b, 300);
            // The nodes' own link is up, and knows its neighbours, a moment later.
            for to in ["10.42.0.33:9", "[fd42::21]:9"] {
                let found = (0..30).any(|_| {
                    send_from(&a, to, b"x");
                    received(&socket) > 0
                });
                assert!(found, "{to}");
            }
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let tunnelled = |to: &str| {
                let before = cluster.on(1, |_| sent_by("vx7"));
                (0..10).for_each(|_| send_from(&a, to, b"x"));
                assert_eq!(received(&socket), 10, "{to}");
                cluster.on(1, |_| sent_by("vx7")) - before
            };
            // The family of the nodes' addresses goes plain, the other by the tunnel.
            let (v4, v6) = (tunnelled("10.42.0.33:9"), tunnelled("[fd42::21]:9"));
            assert_eq!((v4, v6), if is_ipv6 { (10, 0) } else { (0, 10) });
            cluster.on(1, |bed| bed.check(Builtin::Vxlan, &a, "net1", &text, &attached.result).unwrap());
            // A router comes between: by the tunnel from now on.
            cluster.on(1, |bed| {
                let eth1 = bed.link("eth1").unwrap().index;
                let (host, via) =
                    if is_ipv6 { ("2001:db8::2/128", "2001:db8::9") } else { ("192.0.2.2/32", "192.0.2.9") };
                let route = Route { gateway: Some(via.parse().unwrap()), ..Route::new(net(host), eth1) };
                bed.netlink().add_route(&route).unwrap();
                assert_eq!(cluster.heal(1, 7).1, 1, "the neighbour of the tunnel");
                let (routes, _) = routing(bed, 7);
                let device = bed.link("vx7").unwrap().index;
                assert_eq!(routes.iter().filter(|route| route.index == Some(eth1)).count(), 0, "{routes:?}");
                assert_eq!(routes.iter().filter(|route| route.index == Some(device)).count(), 2);
            });
        });
    }
}

#[test]
fn kernel_on_host_vxlan_l3_direct_routing_of_one_subnet_twice_is_refused() {
    on_nodes(1, false, |cluster| {
        for vni in [7, 8] {
            join(cluster, vni, &[1, 2], true);
        }
        let (_a, _) = attach(cluster, 1, &conf(7, 1, 1, r#","directRouting":true"#));
        cluster.on(1, |bed| {
            let error =
                bed.add(Builtin::Vxlan, &bed.pod(), "net1", &conf(8, 1, 1, r#","directRouting":true"#)).unwrap_err();
            assert!(error.to_string().starts_with("directRouting: got true, want false: another overlay"), "{error}");
            let error = bed.add(Builtin::Vxlan, &bed.pod(), "net1", &conf(7, 1, 2, "")).unwrap_err();
            assert!(error.to_string().starts_with("mode: got l3, want l3 with directRouting, in which"), "{error}");
            let l2 = super::vxlan_members::conf(7, 1, 2, "");
            let error = bed.add(Builtin::Vxlan, &bed.pod(), "net1", &l2).unwrap_err();
            assert!(error.to_string().starts_with("mode: got l2, want l3 with"), "{error}");
            assert!(bed.link("vx8").is_none() && bed.link("bx8").is_none());
        });
    });
}

#[test]
fn kernel_on_host_vxlan_l3_without_the_cluster_is_refused() {
    on_node(|bed| {
        let error = bed.add(Builtin::Vxlan, &bed.pod(), "net1", &conf(7, 1, 1, "")).unwrap_err();
        assert!(error.to_string().starts_with("mode: got \"l3\", want \"l2\": in directory mode"), "{error}");
        assert_eq!(bed.links(), Vec::<String>::new());
    });
}

#[test]
fn kernel_on_host_vxlan_l3_reaches_pods_that_no_slot_explains() {
    on_nodes(2, false, |cluster| {
        join(cluster, 7, &[1, 2], false);
        let other = r#"{"type":"vxlan","vni":7,"mode":"l3","runtimeConfig":{"mac":"02:00:00:00:77:77"},"ipam":{"type":"static","addresses":[{"address":"10.42.0.177/24"}]}}"#;
        let (odd, attached) = attach(cluster, 2, other);
        let (beside, _) = attach(cluster, 2, &conf(7, 2, 1, ""));
        // What the agents make of the note.
        let mut state = cluster.read(1, 7);
        state.overlay.as_mut().unwrap().members[0].endpoints =
            vec![Endpoint { mac: Mac([2, 0, 0, 0, 0x77, 0x77]), ips: vec!["10.42.0.177".parse().unwrap()] }];
        cluster.write(1, 7, &state);
        let (a, _) = attach(cluster, 1, &conf(7, 1, 1, ""));
        let socket = listen(&odd, 9, 1000);
        send(&a, "10.42.0.177:9", b"x");
        send(&beside, "10.42.0.177:9", b"x");
        assert_eq!(received(&socket), 2);
        cluster.on(2, |bed| bed.check(Builtin::Vxlan, &odd, "net1", other, &attached.result).unwrap());
    });
}

/// What somebody does to a node.
type Break<'a> = Box<dyn Fn(&Bed) + 'a>;

#[test]
fn kernel_on_host_vxlan_l3_what_anybody_breaks_is_back_within_two_seconds() {
    on_nodes(2, false, |cluster| {
        join(cluster, 7, &[1, 2], false);
        let (a, _) = attach(cluster, 1, &conf(7, 1, 1, ""));
        let (beside, _) = attach(cluster, 1, &conf(7, 1, 2, ""));
        let (b, _) = attach(cluster, 2, &conf(7, 2, 1, ""));
        let (far, near) = (listen_to_both(&b, 300), listen_to_both(&beside, 300));
        kept(cluster, 1, |bed, _, log| {
            let table = Names::of(7, 4789).unwrap().table;
            let index = |name: &str| bed.link(name).unwrap().index;
            // Another's routes and rules stay as they are, in their tables and in ours.
            let theirs = Route { table: 100, protocol: 186, ..Route::new(net("10.42.0.0/24"), index("eth1")) };
            let in_ours = Route { table, protocol: 186, ..Route::new(net("10.99.0.0/24"), index("eth1")) };
            let rule = Rule { protocol: 186, priority: Some(9), ..Rule::from(net("10.99.0.0/24"), 100) };
            for route in [theirs, in_ours] {
                bed.netlink().add_route(&route).unwrap();
            }
            bed.netlink().add_rule(&rule).unwrap();
            let whole = || {
                let (mut routes, mut rules) = routing(bed, 7);
                routes.iter_mut().for_each(|route| route.index = None);
                routes.sort_by_key(|route| route.destination);
                rules.sort_by_key(|rule| (rule.ipv4, rule.incoming.as_ref().map(ToString::to_string)));
                (routes, rules)
            };
            let before = whole();
            let lost = |text: &'static str| -> Break<'_> {
                Box::new(move |bed| {
                    let (routes, _) = routing(bed, 7);
                    let route = *routes.iter().find(|route| route.destination == net(text)).unwrap();
                    let route = if text.ends_with("/0") { Route { index: None, ..route } } else { route };
                    assert!(bed.netlink().delete_route(&route).unwrap(), "{text}");
                })
            };
            let breaks: Vec<(&str, Break<'_>)> = vec![
                ("route to a member", lost("10.42.0.32/28")),
                ("the same of IPv6", lost("fd42::20/124")),
                ("route to a pod", lost("10.42.0.18/32")),
                ("the way to nowhere", lost("0.0.0.0/0")),
                (
                    "rules",
                    Box::new(|bed| {
                        for rule in routing(bed, 7).1 {
                            assert!(bed.netlink().delete_rule(&rule).unwrap());
                        }
                    }),
                ),
                (
                    "neighbour of a member",
                    Box::new(move |bed| {
                        assert!(bed.netlink().delete_neighbour(index("vx7"), "10.42.0.32".parse().unwrap()).unwrap())
                    }),
                ),
                (
                    "neighbour of a pod",
                    Box::new(move |bed| {
                        assert!(bed.netlink().delete_neighbour(index("bx7"), "10.42.0.18".parse().unwrap()).unwrap())
                    }),
                ),
                (
                    "forwarding entry",
                    Box::new(move |bed| {
                        let entry = Entry::Remove {
                            index: index("vx7"),
                            mac: Mac([2, 0, 0, 0, 0, 2]),
                            remote: Some("192.0.2.2".parse().unwrap()),
                        };
                        bed.netlink().change_entries(&[entry], "the test").unwrap();
                    }),
                ),
                (
                    "MAC address of the bridge",
                    Box::new(move |bed| {
                        let change = LinkChange { mac: Some(Mac([2; 6])), ..LinkChange::default() };
                        bed.netlink().set_link(index("bx7"), &change).unwrap();
                    }),
                ),
                (
                    "device into the bridge",
                    Box::new(move |bed| {
                        let change = LinkChange { master: Some(index("bx7")), ..LinkChange::default() };
                        bed.netlink().set_link(index("vx7"), &change).unwrap();
                    }),
                ),
                (
                    "device down",
                    Box::new(move |bed| {
                        let change = LinkChange { up: Some(false), ..LinkChange::default() };
                        bed.netlink().set_link(index("vx7"), &change).unwrap();
                    }),
                ),
                ("device deleted", Box::new(move |bed| assert!(bed.netlink().delete_link(index("vx7")).unwrap()))),
                ("bridge deleted", Box::new(move |bed| assert!(bed.netlink().delete_link(index("bx7")).unwrap()))),
                (
                    "both deleted",
                    Box::new(move |bed| {
                        for name in ["bx7", "vx7"] {
                            assert!(bed.netlink().delete_link(index(name)).unwrap());
                        }
                    }),
                ),
            ];
            until("in the beginning", || !log.lock().unwrap().is_empty());
            for (what, work) in &breaks {
                work(bed);
                let reaches = || {
                    if bed.link("bx7").is_none()
                        || bed.link("vx7").is_none_or(|device| device.master.is_some() || !device.up)
                    {
                        return false;
                    }
                    if whole() != before {
                        return false;
                    }
                    for to in ["10.42.0.33:9", "[fd42::21]:9", "10.42.0.18:9", "[fd42::12]:9"] {
                        send_from(&a, to, b"x");
                    }
                    (received(&far), received(&near)) == (2, 2)
                };
                println!("{what}: back after {:?}", until(what, reaches));
            }
            assert!(bed.netlink().routes(Default::default()).unwrap().iter().any(|route| route.table == 100));
            assert!(bed.netlink().rules().unwrap().contains(&rule), "what others own is as it was");
            let log = log.lock().unwrap();
            // What is deleted during a look fails it; the next one comes.
            let is_whole = |line: &String| !line.contains("Failed") || line.contains("errno: 19");
            assert!(log.iter().all(is_whole), "{log:#?}");
            // Our own changes echo, and the echo dies away.
            assert!(log.len() < 200, "{} lines", log.len());
        });
    });
}

#[test]
fn kernel_on_host_vxlan_l3_a_thousand_members_are_a_thousand_routes() {
    on_nodes(1, false, |cluster| {
        let ipam = r#"{"subnet":"10.42.0.0/16"}"#;
        let mut state = state(1, &[1], |n| cluster.vtep(n), Some(ipam));
        let own = state.overlay.as_mut().unwrap();
        own.routing.l3 = true;
        own.members = (0..1000_u32)
            .map(|n| Member {
                node: format!("m{n}"),
                vtep: IpAddr::from((0xc612_0000 + n).to_be_bytes()),
                mac: Mac([2, 0, 1, 0, (n >> 8) as u8, n as u8]),
                slots: vec![Slots { first: 64 * (n + 1), count: 64 }],
                endpoints: Vec::new(),
            })
            .collect();
        cluster.write(1, 7, &state);
        let text = r#"{"type":"vxlan","vni":7,"mode":"l3","ipam":{"type":"static","addresses":[{"address":"10.42.0.17/16"}]}}"#;
        let began = Instant::now();
        let (_pod, _) = attach(cluster, 1, text);
        let first = began.elapsed();
        cluster.on(1, |bed| {
            let device = bed.link("vx7").unwrap().index;
            let (routes, _) = routing(bed, 7);
            assert_eq!(routes.iter().filter(|route| route.index == Some(device)).count(), 1000);
            assert_eq!(bed.netlink().forwardings(device).unwrap().len(), 1000);
            // A further pod is as cheap as ever; and a look that finds nothing to do.
            let began = Instant::now();
            bed.add(Builtin::Vxlan, &bed.pod(), "net1", &text.replace("0.17/", "0.18/")).unwrap();
            let second = began.elapsed();
            let mut netlink = bed.netlink();
            let segment = overlay_kept::join(&mut netlink, 7, 4789, state.overlay.as_ref().unwrap()).unwrap();
            let id = NetworkId::overlay(4789, 7);
            let local = overlay_kept::local_pods(&mut netlink, bed.state.path(), &id, &segment).unwrap();
            let began = Instant::now();
            let made = overlay_kept::program(&mut netlink, &segment, &state, &local).unwrap();
            assert_eq!((made.changes, made.routes), (0, 0));
            println!("1000 members: ADD {first:?}, a further one {second:?}, a look {:?}", began.elapsed());
        });
    });
}

/// A state that names what an older agent does not know.
#[test]
fn a_state_without_routing_is_one_of_mode_l2() {
    let state = state(1, &[1, 2], |n| format!("192.0.2.{n}"), Some(DUAL));
    let json = serde_json::to_string(&state).unwrap();
    assert!(!json.contains("routing"), "{json}");
    let read: NetworkState = serde_json::from_str(&json).unwrap();
    assert!(!read.overlay.unwrap().routing.l3);
}
