//! The bridge of an overlay as the pods' gateway: the same on every node.

use std::net::UdpSocket;

use attachments::names::Mac;

use super::vxlan_keeper::{kept, until};
use super::vxlan_members::*;
use super::*;
use crate::firewall::masquerade;
use crate::nl::nft::testing::nft;
use crate::overlay::testing::state;

const DUAL: &str =
    r#"{"ranges":[[{"subnet":"10.42.0.0/24","gateway":"10.42.0.1"}],[{"subnet":"fd42::/64","gateway":"fd42::1"}]]}"#;
const GATEWAY: Mac = Mac([0x0a, 0x58, 10, 42, 0, 1]);

/// What the agent writes for the nodes of an overlay with a gateway.
fn join(cluster: &Cluster, vni: u32, nodes: &[u8], subnet: u8, open: bool) {
    let ipam = DUAL.replace("10.42.", &format!("10.{subnet}.")).replace("fd42:", &format!("fd{subnet}:"));
    for n in cluster.among(nodes) {
        let mut state = state(n, nodes, |n| cluster.vtep(n), Some(&ipam));
        let routing = &mut state.overlay.as_mut().unwrap().routing;
        (routing.gateway, routing.open) = (true, open);
        routing.gateways = vec![net(&format!("10.{subnet}.0.1/24")), net(&format!("fd{subnet}::1/64"))];
        cluster.write(n, vni, &state);
    }
}

fn conf(vni: u32, subnet: u8, n: u8, i: u8, more: &str) -> String {
    let last = 16 * n + i;
    format!(
        r#"{{"type":"vxlan","vni":{vni},"isDefaultGateway":true,"runtimeConfig":{{"mac":"0a:58:0a:{subnet:02x}:00:{last:02x}"}},
            "ipam":{{"type":"static","addresses":[{{"address":"10.{subnet}.0.{last}/24","gateway":"10.{subnet}.0.1"}},
            {{"address":"fd{subnet}::{last:x}/64","gateway":"fd{subnet}::1"}}]}}{more}}}"#
    )
}

fn attach(cluster: &Cluster, n: u8, conf: &str) -> (Pod, Attached) {
    cluster.on(n, |bed| {
        let pod = bed.pod();
        let attached = bed.added(Builtin::Vxlan, &pod, conf);
        (pod, attached)
    })
}

/// Sends to an address and gives what came back, and from whom it looked on the other side.
fn ask(pod: &Pod, to: &str) -> Option<String> {
    let ask = || {
        let socket = UdpSocket::bind(if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let _ = socket.send_to(b"who", to);
        let mut answer = [0; 200];
        let heard = socket.recv_from(&mut answer).ok();
        Ok(heard.map(|(length, _)| String::from_utf8_lossy(&answer[..length]).into_owned()))
    };
    pod.netns.enter(ask).unwrap()
}

/// Answers on a port of the thread's namespace with the address that it was asked from.
fn answer(port: u16) {
    let socket = UdpSocket::bind(("::", port)).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 200];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            if &question[..length] == b"end" {
                return;
            }
            let _ = socket.send_to(from.ip().to_canonical().to_string().as_bytes(), from);
        }
    });
}

fn end(port: u16) {
    UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"end", ("127.0.0.1", port)).unwrap();
}

#[test]
fn kernel_on_host_vxlan_gateway_is_the_same_on_each_node_and_leads_out() {
    on_nodes(3, false, |cluster| {
        join(cluster, 7, &[1, 2], 42, false);
        let (links, ruleset) = cluster.on(1, |bed| (bed.links(), nft(&["list", "ruleset"], "")));
        assert_eq!(ruleset, "");
        let text = conf(7, 42, 1, 1, r#","ipMasq":true"#);
        let (a, attached) = attach(cluster, 1, &text);
        let (b, _) = attach(cluster, 2, &conf(7, 42, 2, 1, r#","ipMasq":true"#));
        assert_eq!(a.gateway_of("0.0.0.0/0").as_deref(), Some("10.42.0.1"));
        assert_eq!(a.gateway_of("::/0").as_deref(), Some("fd42::1"));
        // n3 is outside: in no overlay. It sees the node's address.
        cluster.on(3, |_| answer(7000));
        assert_eq!(ask(&a, "192.0.2.3:7000").as_deref(), Some("192.0.2.1"));
        assert_eq!(ask(&a, "[2001:db8::3]:7000").as_deref(), Some("2001:db8::1"));
        assert_eq!(ask(&b, "192.0.2.3:7000").as_deref(), Some("192.0.2.2"));
        // Within the overlay nothing is masqueraded.
        b.netns
            .enter(|| {
                answer(7001);
                Ok(())
            })
            .unwrap();
        assert_eq!(ask(&a, "10.42.0.33:7001").as_deref(), Some("10.42.0.17"));
        let macs = [1, 2].map(|n| cluster.on(n, |bed| bed.link("bx7").unwrap().mac));
        assert_eq!(macs, [Some(GATEWAY); 2]);
        cluster.on(1, |bed| {
            let held = bed.netlink().addresses(bed.link("bx7").map(|link| link.index)).unwrap();
            assert!(held.iter().all(|held| !held.tentative && !held.dad_failed), "{held:?}");
            bed.check(Builtin::Vxlan, &a, "net1", &text, &attached.result).unwrap();
            masquerade::remove(&"net".parse().unwrap(), &a.container, &name("net1"), None, bed.node().deadline)
                .unwrap();
            let error = bed.check(Builtin::Vxlan, &a, "net1", &text, &attached.result).unwrap_err();
            assert!(error.to_string().contains("no masquerade rule for 10.42.0.17"), "{error}");
            bed.netlink().delete_address(bed.link("bx7").unwrap().index, net("10.42.0.1/24")).unwrap();
            let error = bed.check(Builtin::Vxlan, &a, "net1", &text, &attached.result).unwrap_err();
            assert!(error.to_string().contains("gateway 10.42.0.1/24 is missing on link bx7"), "{error}");
            bed.del(Builtin::Vxlan, &a, "net1", &text, Some(&attached)).unwrap();
            bed.del(Builtin::Vxlan, &a, "net1", &text, Some(&attached)).unwrap();
            assert_eq!(bed.links(), links);
            let left = nft(&["list", "ruleset"], "");
            assert!(!left.contains("meta_cni") && !left.contains("10.42.0.17"), "{left}");
        });
        cluster.on(3, |_| end(7000));
        b.netns
            .enter(|| {
                end(7001);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn kernel_on_host_vxlan_gateway_is_asked_for_on_its_own_node_only() {
    on_nodes(2, false, |cluster| {
        join(cluster, 7, &[1, 2], 42, false);
        let (a, _) = attach(cluster, 1, &conf(7, 42, 1, 1, ""));
        let (b, _) = attach(cluster, 2, &conf(7, 42, 2, 1, ""));
        let forget = || {
            let mut inside = a.netlink();
            let link = inside.link_by_name(&name("net1")).unwrap().unwrap().index;
            for gateway in ["10.42.0.1", "fd42::1"] {
                let _ = inside.delete_neighbour(link, gateway.parse().unwrap());
            }
        };
        // Each frame that comes for the pod, and each that leaves by the tunnel.
        let tunnel = cluster.on(2, |_| sniff());
        let heard = a.netns.enter(|| Ok(sniff())).unwrap();
        for (gateway, kind) in [("10.42.0.1:9", 0x0806_u16), ("[fd42::1]:9", 0x86dd)] {
            forget();
            answers(&heard, kind);
            answers(&tunnel, kind);
            ask(&a, gateway);
            assert_eq!(answers(&heard, kind), 1, "{gateway} is answered once");
        }
        assert_eq!(encapsulated_for_gateway(&tunnel), 0);
        drop(b);
    });
}

/// Reads what a socket has seen: each frame by itself.
fn frames(sniffer: &std::os::fd::OwnedFd) -> Vec<Vec<u8>> {
    use std::os::fd::AsRawFd;
    let mut frame = [0; 2000];
    let next = || {
        let flags = nix::sys::socket::MsgFlags::empty();
        nix::sys::socket::recv(sniffer.as_raw_fd(), &mut frame, flags).ok().map(|length| frame[..length].to_vec())
    };
    std::iter::from_fn(next).collect()
}

/// How many of them say where the gateway is: ARP replies and neighbour advertisements from its MAC address.
fn answers(sniffer: &std::os::fd::OwnedFd, kind: u16) -> usize {
    let is_answer = |frame: &&Vec<u8>| {
        let from_gateway = frame[6..12] == GATEWAY.0 && frame[12..14] == kind.to_be_bytes();
        from_gateway && (kind == 0x0806 && frame[21] == 2 || kind == 0x86dd && frame[20] == 58 && frame[54] == 136)
    };
    frames(sniffer).iter().filter(is_answer).count()
}

/// How many packets of the tunnel hold a question for the gateway.
fn encapsulated_for_gateway(sniffer: &std::os::fd::OwnedFd) -> usize {
    let asks = |frame: &&Vec<u8>| {
        // Ethernet, IPv4, UDP and VXLAN headers, then the frame.
        let inner = frame.get(50..).unwrap_or_default();
        inner.get(12..14) == Some(&[8, 6]) && inner.get(38..42) == Some(&[10, 42, 0, 1])
    };
    frames(sniffer).iter().filter(asks).count()
}

#[test]
fn kernel_on_host_vxlan_gateway_leads_into_no_other_overlay_and_not_to_the_node() {
    on_nodes(3, false, |cluster| {
        for (vni, subnet) in [(7, 42), (8, 43)] {
            join(cluster, vni, &[1, 2], subnet, false);
        }
        // One without a gateway.
        cluster.join(9, &[1, 2], Some(r#"{"subnet":"10.42.0.0/24"}"#));
        let (a, _) = attach(cluster, 1, &conf(7, 42, 1, 1, ""));
        let (b, _) = attach(cluster, 1, &conf(8, 43, 1, 1, ""));
        let (far, _) = attach(cluster, 2, &conf(8, 43, 2, 1, ""));
        let sockets = [&b, &far].map(|pod| {
            let socket = pod.udp(("::", 9));
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket
        });
        let reaches = || {
            for to in ["10.43.0.17:9", "[fd43::11]:9", "10.43.0.33:9", "[fd43::21]:9"] {
                ask(&a, to);
            }
            sockets.each_ref().map(received)
        };
        assert_eq!(reaches(), [0, 0]);
        // The node's own services are closed, but a ping is answered.
        cluster.on(1, |_| answer(7000));
        assert_eq!((ask(&a, "192.0.2.1:7000"), ask(&a, "10.42.0.1:7000")), (None, None));
        // What begins outside does not get in.
        cluster.on(3, |bed| {
            let eth1 = bed.link("eth1").unwrap().index;
            for (to, via) in [("10.42.0.0/24", "192.0.2.1"), ("fd42::/64", "2001:db8::1")] {
                let route = crate::nl::route::Route {
                    gateway: Some(via.parse().unwrap()),
                    ..crate::nl::route::Route::new(net(to), eth1)
                };
                bed.netlink().add_route(&route).unwrap();
            }
        });
        let inside = listen(&a, 9, 300);
        let from_outside = || {
            cluster.on(3, |_| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"in", "10.42.0.17:9").unwrap());
            received(&inside)
        };
        assert_eq!(from_outside(), 0);
        // And the answer to what began inside does, with the pod's own address where nothing is masqueraded.
        cluster.on(3, |_| answer(7002));
        assert_eq!(ask(&a, "192.0.2.3:7002").as_deref(), Some("10.42.0.17"));
        cluster.on(3, |_| end(7002));
        // A key opens it: to the node and from outside, and to no other overlay.
        join(cluster, 7, &[1, 2], 42, true);
        cluster.heal(1, 7);
        assert_eq!(ask(&a, "192.0.2.1:7000").as_deref(), Some("10.42.0.17"));
        assert_eq!((from_outside(), reaches()), (1, [0, 0]));
        cluster.on(1, |_| end(7000));
    });
}

#[test]
fn kernel_on_host_vxlan_gateway_of_a_node_that_is_alone_leads_out_too() {
    on_node(|bed| {
        let lo = bed.link("lo").unwrap().index;
        bed.netlink().set_link(lo, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        bed.master("eth1", 1500, Some("192.0.2.1/24"));
        bed.netlink().add_address(bed.link("eth1").unwrap().index, net("2001:db8::1/64"), true).unwrap();
        let links = bed.links();
        let text = conf(7, 42, 1, 1, r#","underlay":"eth1","ipMasq":true"#);
        let pod = bed.pod();
        let attached = bed.added(Builtin::Vxlan, &pod, &text);
        answer(7000);
        for (to, from) in
            [("192.0.2.1:7000", "10.42.0.17"), ("[fd42::1]:7000", "fd42::11"), ("[2001:db8::1]:7000", "fd42::11")]
        {
            assert_eq!(ask(&pod, to).as_deref(), Some(from), "{to}");
        }
        end(7000);
        bed.check(Builtin::Vxlan, &pod, "net1", &text, &attached.result).unwrap();
        bed.del(Builtin::Vxlan, &pod, "net1", &text, Some(&attached)).unwrap();
        assert_eq!(bed.links(), links);
    });
}

#[test]
fn kernel_on_host_vxlan_gateway_takes_nothing_from_the_node() {
    on_nodes(1, false, |cluster| {
        join(cluster, 7, &[1, 2], 42, false);
        cluster.on(1, |bed| {
            bed.netlink().add_address(bed.link("eth1").unwrap().index, net("10.42.0.9/24"), true).unwrap();
            let before = bed.links();
            let source = attachments::bind::Source::Node("net".parse().unwrap());
            let (pod, text) = (bed.pod(), object(&conf(7, 42, 1, 1, "")));
            let (ifname, network) = (name("net1"), "net".parse().unwrap());
            let point = Point { container: &pod.container, netns: &pod.path, ifname: &ifname, args: "", group: GROUP };
            let origin = crate::call::Origin {
                source: &source,
                is_tenants: true,
                is_default: false,
                ipam_claim: None,
                address_set: None,
                address_dir: None,
            };
            let call = Call {
                network: &network,
                version: Version::NEWEST,
                conf: &text,
                origin,
                point: Some(point),
                prev_result: None,
                saved: None,
            };
            let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
            let error = Builtin::Vxlan.add(&mut Host::new(bed.node()), &mut sandbox, &call).unwrap_err();
            assert!(error.to_string().contains("overlaps with 10.42.0.9/24 of link eth1"), "{error}");
            assert_eq!(bed.links(), before);
        });
    });
}

/// What somebody does to a node.
type Break = Box<dyn Fn(&Bed)>;

#[test]
fn kernel_on_host_vxlan_gateway_bridge_and_guards_are_back_within_two_seconds() {
    on_nodes(2, false, |cluster| {
        join(cluster, 7, &[1, 2], 42, false);
        let text = conf(7, 42, 1, 1, r#","bumRate":500"#);
        let (a, attached) = attach(cluster, 1, &text);
        let (b, _) = attach(cluster, 2, &conf(7, 42, 2, 1, ""));
        let far = listen(&b, 9, 300);
        kept(cluster, 1, |bed, _, log| {
            until("in the beginning", || bed.state.path().join("networks/4789-7/ports").exists());
            let port = attached.result.interfaces[1].name.clone();
            let of_port = move |bed: &Bed| bed.link(&port).unwrap().index;
            let nft_does = |line: &'static str| -> Break { Box::new(move |_| drop(nft(&["-f", "-"], line))) };
            let port_name = attached.result.interfaces[1].name.clone();
            let breaks: Vec<(&str, Break)> = vec![
                (
                    "gateway",
                    Box::new(|bed| {
                        let bridge = bed.link("bx7").unwrap().index;
                        for address in ["10.42.0.1/24", "fd42::1/64"] {
                            assert!(bed.netlink().delete_address(bridge, net(address)).unwrap());
                        }
                    }),
                ),
                ("bridge", Box::new(|bed| assert!(bed.netlink().delete_link(bed.link("bx7").unwrap().index).unwrap()))),
                ("flags of a port", {
                    let of_port = of_port.clone();
                    Box::new(move |bed| {
                        let flags = crate::nl::link::PortFlags {
                            learning: Some(true),
                            unicast_flood: Some(true),
                            isolated: Some(true),
                            neigh_suppress: Some(true),
                            hairpin: Some(true),
                        };
                        bed.netlink().set_port(of_port(bed), &flags).unwrap();
                    })
                }),
                ("port out of the bridge", {
                    let of_port = of_port.clone();
                    Box::new(move |bed| {
                        let change = LinkChange { master: Some(0), ..LinkChange::default() };
                        bed.netlink().set_link(of_port(bed), &change).unwrap();
                    })
                }),
                ("fence", nft_does("delete table inet meta_cni_overlays\n")),
                ("rules of the fence", nft_does("flush chain inet meta_cni_overlays forward\n")),
                ("members", nft_does("flush set inet meta_cni_overlays members4\n")),
                ("guards", nft_does("delete table netdev meta_cni_ports\n")),
                (
                    "rules of a port",
                    Box::new(move |_| drop(nft(&["flush", "chain", "netdev", "meta_cni_ports", &port_name], ""))),
                ),
            ];
            for (what, work) in &breaks {
                work(bed);
                let is_whole = || {
                    let done = bed.check(Builtin::Vxlan, &a, "net1", &text, &attached.result);
                    let flags = bed.netlink().link_by_index(of_port(bed)).unwrap().and_then(|link| link.port);
                    let is_port = flags.is_some_and(|flags| {
                        (flags.learning, flags.unicast_flood, flags.isolated, flags.neigh_suppress)
                            == (Some(false), Some(false), Some(false), Some(false))
                    });
                    done.is_ok() && is_port && bed.link("bx7").unwrap().mac == Some(GATEWAY)
                };
                println!("{what}: back after {:?}", until(what, is_whole));
                until(what, || {
                    send(&a, "10.42.0.33:9", b"x");
                    received(&far) == 1
                });
            }
            let log = log.lock().unwrap();
            assert!(log.iter().all(|line| !line.contains("Failed")), "{log:#?}");
            assert!(log.len() < 150, "{} lines", log.len());
        });
    });
}
