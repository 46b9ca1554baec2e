//! bridge on a real kernel.

use super::*;
use crate::error::Error;
use crate::nl::link::Kind;

const ONE: &str = r#"{"bridge":"br-t","isDefaultGateway":true,"mtu":1400,
    "ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24","gateway":"10.77.0.1"}],"routes":[{"dst":"10.99.0.0/16"}]}}"#;

fn addressed(address: &str, more: &str) -> String {
    format!(r#"{{"bridge":"br-t"{more},"ipam":{{"type":"static","addresses":[{{"address":"{address}"}}]}}}}"#)
}

#[test]
fn kernel_bridge_gives_a_pod_everything_and_takes_it_back() {
    on_node(|bed| {
        let pod = bed.pod();
        let attached = bed.add(Builtin::Bridge, &pod, "net1", ONE).unwrap();
        let link = pod.link("net1").unwrap();
        assert_eq!((link.kind, link.mtu, link.group, link.up), (Kind::Veth, 1400, GROUP, true));
        assert_eq!(pod.addresses("net1"), ["10.77.0.2/24"]);
        assert_eq!(pod.gateway_of("0.0.0.0/0").as_deref(), Some("10.77.0.1"));
        assert_eq!(pod.gateway_of("10.99.0.0/16").as_deref(), Some("10.77.0.1"));
        assert_eq!(pod.sysctl("ipv4/conf/net1/arp_notify"), "1");
        let bridge = bed.link("br-t").unwrap();
        assert_eq!((bridge.kind.as_str(), bridge.mtu, bridge.up), ("bridge", 1400, true));
        let held = bed.netlink().addresses(Some(bridge.index)).unwrap();
        assert!(held.iter().any(|address| address.net == net("10.77.0.1/24")), "{held:?}");
        assert_eq!(crate::netns::read_sysctl(&["ipv4", "ip_forward"]).unwrap().as_deref(), Some("1"));
        assert_eq!(crate::netns::read_sysctl(&["ipv6", "conf", "br-t", "accept_ra"]).unwrap().as_deref(), Some("0"));

        let names: Vec<&str> = attached.result.interfaces.iter().map(|i| i.name.as_str()).collect();
        let [first, host_end, last] = names.as_slice() else { panic!("{names:?}") };
        assert_eq!((*first, *last), ("br-t", "net1"));
        let host_end = bed.link(host_end).unwrap();
        assert_eq!((host_end.master, host_end.mtu), (Some(bridge.index), 1400));
        let told = &attached.result.interfaces;
        assert_eq!(told[0].mac, bridge.mac.unwrap().to_string());
        assert_eq!(told[1].mac, host_end.mac.unwrap().to_string());
        assert_eq!((told[2].mac.clone(), told[2].sandbox.as_str()), (link.mac.unwrap().to_string(), pod.path.as_str()));
        assert!(told.iter().all(|interface| interface.mtu.is_none()));
        assert_eq!(attached.result.ips[0].interface, Some(2));
        assert_eq!((attached.links[0].index, attached.links[0].kind.as_str()), (link.index, "veth"));

        bed.check(Builtin::Bridge, &pod, "net1", ONE, &attached.result).unwrap();
        bed.del(Builtin::Bridge, &pod, "net1", ONE, Some(&attached)).unwrap();
        bed.del(Builtin::Bridge, &pod, "net1", ONE, Some(&attached)).unwrap();
        assert_eq!(bed.links(), ["br-t"], "the bridge stays, as the reference plugin's does");
        assert!(pod.link("net1").is_none());
    });
}

#[test]
fn kernel_bridge_joins_pods_and_isolates_ports() {
    on_node(|bed| {
        let reach = |more: &str, subnet: u32| {
            let pods = [bed.pod(), bed.pod()];
            for (i, pod) in pods.iter().enumerate() {
                let conf = addressed(&format!("10.77.{subnet}.{}/24", i + 2), more);
                bed.add(Builtin::Bridge, pod, "net1", &conf).unwrap();
            }
            let target = format!("10.77.{subnet}.3:9");
            let sockets = pods.each_ref().map(|pod| pod.udp("0.0.0.0:9"));
            sockets[1].set_read_timeout(Some(Duration::from_millis(400))).unwrap();
            sockets[0].send_to(b"x", target).unwrap();
            sockets[1].recv(&mut [0]).is_ok()
        };
        assert!(reach("", 1));
        assert!(!reach(r#","portIsolation":true"#, 2));
    });
}

#[test]
fn kernel_bridge_flags_reach_port_and_bridge() {
    on_node(|bed| {
        let (a, b) = (bed.pod(), bed.pod());
        let attached =
            bed.add(Builtin::Bridge, &a, "net1", &addressed("10.77.0.2/24", r#","hairpinMode":true"#)).unwrap();
        let port = bed.link(&attached.result.interfaces[1].name).unwrap().port.unwrap();
        assert_eq!((port.hairpin, port.isolated), (Some(true), Some(false)));
        assert!(!bed.link("br-t").unwrap().promisc);
        bed.add(Builtin::Bridge, &b, "net1", &addressed("10.77.0.3/24", r#","promiscMode":true"#)).unwrap();
        assert!(bed.link("br-t").unwrap().promisc);
    });
}

#[test]
fn kernel_bridge_without_ipam_is_up_and_can_stay_down() {
    on_node(|bed| {
        let pod = bed.pod();
        let mac = r#"{"bridge":"br-t","runtimeConfig":{"mac":"02:00:00:00:00:77"}}"#;
        let attached = bed.add(Builtin::Bridge, &pod, "net1", mac).unwrap();
        let link = pod.link("net1").unwrap();
        assert!(link.up && attached.result.ips.is_empty());
        assert_eq!(link.mac.unwrap().to_string(), "02:00:00:00:00:77");
        bed.add(Builtin::Bridge, &pod, "net2", r#"{"bridge":"br-t","disableContainerInterface":true}"#).unwrap();
        assert!(!pod.link("net2").unwrap().up);
    });
}

#[test]
fn kernel_bridge_gives_ipv6_where_it_was_switched_off() {
    on_node(|bed| {
        let pod = bed.pod();
        pod.netns.enter(|| crate::netns::write_sysctl(&["ipv6", "conf", "default", "disable_ipv6"], "1")).unwrap();
        pod.netns.enter(|| crate::netns::write_sysctl(&["ipv6", "conf", "all", "disable_ipv6"], "1")).unwrap();
        let conf = r#"{"bridge":"br-t","isDefaultGateway":true,"ipam":{"type":"static",
            "addresses":[{"address":"fd77::2/64","gateway":"fd77::1"},{"address":"10.77.0.2/24"}]}}"#;
        let attached = bed.added(Builtin::Bridge, &pod, conf);
        let mut held = pod.addresses("net1");
        held.sort();
        assert_eq!(held, ["10.77.0.2/24", "fd77::2/64"]);
        let link = pod.link("net1").unwrap();
        let held = pod.netlink().addresses(Some(link.index)).unwrap();
        assert!(held.iter().all(|address| address.scope != 0 || !address.tentative), "{held:?}");
        assert_eq!(pod.gateway_of("::/0").as_deref(), Some("fd77::1"));
        assert_eq!(attached.result.ips[1].gateway.unwrap().to_string(), "10.77.0.1");
        assert_eq!(pod.sysctl("ipv6/conf/net1/keep_addr_on_down"), "1");
        assert_eq!(pod.sysctl("ipv6/conf/net1/accept_dad"), "0");
        bed.check(Builtin::Bridge, &pod, "net1", conf, &attached.result).unwrap();
    });
}

#[test]
fn kernel_bridge_refuses_and_leaves_nothing() {
    on_node(|bed| {
        let pod = bed.pod();
        let taken = name("net1");
        let peer = Peer { name: &name("other"), netns: None, mtu: None, mac: None, group: 0 };
        pod.netlink().add_link(&NewLink::new(&taken, NewKind::Veth(peer))).unwrap();
        let error = bed.add(Builtin::Bridge, &pod, "net1", ONE).unwrap_err();
        assert!(error.to_string().contains("CNI_IFNAME: the pod has a veth named net1 already"), "{error}");
        assert!(pod.link("net1").is_some(), "it was there before");
        assert_eq!(bed.links(), ["br-t"]);

        bed.master("eth9", 1500, None);
        let error = bed.add(Builtin::Bridge, &pod, "net2", r#"{"bridge":"eth9"}"#).unwrap_err();
        assert!(matches!(&error, Error::Parent(_)) && error.to_string().contains("eth9 is a veth"), "{error}");
        assert!(matches!(bed.status(Builtin::Bridge, r#"{"bridge":"eth9"}"#), Err(Error::NotReady(_))));

        // The route cannot be set: its gateway is nowhere. Everything before it is undone.
        let unreachable = r#"{"bridge":"br-t","ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24"}],
            "routes":[{"dst":"10.99.0.0/16","gw":"192.0.2.1"}]}}"#;
        let before = bed.links();
        let error = bed.add(Builtin::Bridge, &pod, "net2", unreachable).unwrap_err();
        assert!(error.to_string().contains("route 10.99.0.0/16 via 192.0.2.1"), "{error}");
        assert_eq!(bed.links(), before);
        assert!(pod.link("net2").is_none());
    });
}

#[test]
fn kernel_bridge_gives_the_address_back_when_it_fails() {
    on_node(|bed| {
        let data = tempfile::tempdir().unwrap();
        let taken = || {
            let files = std::fs::read_dir(data.path().join("net")).unwrap();
            let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.starts_with("10.")).collect::<Vec<_>>()
        };
        let conf = |routes: &str| {
            let ranges = r#""rangeStart":"10.77.0.2","rangeEnd":"10.77.0.2","subnet":"10.77.0.0/24""#;
            let dir = data.path().display();
            format!(
                r#"{{"bridge":"br-t","ipam":{{"type":"host-local","dataDir":"{dir}",{ranges},"routes":[{routes}]}}}}"#
            )
        };
        let pod = bed.pod();
        let unreachable = conf(r#"{"dst":"10.99.0.0/16","gw":"192.0.2.1"}"#);
        assert!(bed.add(Builtin::Bridge, &pod, "net1", &unreachable).is_err());
        assert_eq!(taken(), Vec::<String>::new());
        let attached = bed.add(Builtin::Bridge, &pod, "net1", &conf("")).unwrap();
        assert_eq!(taken(), ["10.77.0.2"]);
        let before = bed.links();
        let error = bed.add(Builtin::Bridge, &bed.pod(), "net1", &conf("")).unwrap_err();
        assert!(matches!(error, Error::Addresses(_)), "{error}");
        assert_eq!((bed.links(), taken().len()), (before, 1), "exhausted: nothing was made");
        bed.del(Builtin::Bridge, &pod, "net1", &conf(""), Some(&attached)).unwrap();
        assert_eq!(taken(), Vec::<String>::new());
    });
}

#[test]
fn kernel_on_host_bridge_masquerades_and_check_misses_it() {
    on_node(|bed| {
        let pod = bed.pod();
        let conf = addressed("10.77.0.2/24", r#","isGateway":true,"ipMasq":true,"ipMasqBackend":"iptables""#);
        let attached = bed.add(Builtin::Bridge, &pod, "net1", &conf).unwrap();
        bed.check(Builtin::Bridge, &pod, "net1", &conf, &attached.result).unwrap();
        let (network, ifname) = ("net".parse().unwrap(), name("net1"));
        crate::firewall::masquerade::remove(&network, &pod.container, &ifname, None, bed.node().deadline).unwrap();
        let error = bed.check(Builtin::Bridge, &pod, "net1", &conf, &attached.result).unwrap_err();
        assert!(matches!(error, Error::Differs(_)), "{error}");
        bed.del(Builtin::Bridge, &pod, "net1", &conf, Some(&attached)).unwrap();
    });
}

#[test]
fn kernel_bridge_keeps_its_address_unless_forced() {
    on_node(|bed| {
        let gateway = |subnet: &str, force: bool| {
            let more = format!(r#","isGateway":true,"forceAddress":{force}"#);
            bed.add(Builtin::Bridge, &bed.pod(), "net1", &addressed(subnet, &more))
        };
        gateway("10.77.0.2/24", false).unwrap();
        let error = gateway("10.78.0.2/24", false).unwrap_err();
        assert!(error.to_string().contains("10.77.0.1/24, which differs from the gateway 10.78.0.1/24"), "{error}");
        gateway("10.78.0.2/24", true).unwrap();
        let bridge = bed.link("br-t").unwrap();
        let held: Vec<_> = bed.netlink().addresses(Some(bridge.index)).unwrap();
        let held: Vec<_> = held.iter().filter(|a| a.net.addr().is_ipv4()).map(|a| a.net.to_string()).collect();
        assert_eq!(held, ["10.78.0.1/24"]);
    });
}

#[test]
fn kernel_bridge_is_made_once_by_many_at_once() {
    as_host(|| {
        const AT_ONCE: u32 = 10;
        const ROUNDS: u32 = 6;
        for round in 0..ROUNDS {
            let start = std::sync::Barrier::new(AT_ONCE as usize);
            // Threads inherit the namespace of the thread that starts them: all of them are on this node.
            std::thread::scope(|scope| {
                for number in 0..AT_ONCE {
                    let start = &start;
                    scope.spawn(move || one_of_many(round, number, start));
                }
            });
        }
        let links = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap().links(None).unwrap();
        let ports = links.iter().filter(|link| link.name.starts_with("veth")).count();
        let bridges = links.iter().filter(|link| matches!(link.kind, Kind::Bridge(_))).count();
        assert_eq!((ports, bridges), (0, ROUNDS as usize));
    });
}

fn one_of_many(round: u32, number: u32, start: &std::sync::Barrier) {
    let bed = Bed { state: tempfile::tempdir().unwrap(), pods: Cell::new(number) };
    let pod = bed.pod();
    let address = format!(r#"{{"address":"10.7.{round}.{}/24"}}"#, number + 2);
    let ipam = format!(r#""ipam":{{"type":"static","addresses":[{address}]}}"#);
    let conf = format!(r#"{{"bridge":"br-{round}","isGateway":true,{ipam}}}"#);
    let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
    bed.call(&pod, "net1", &conf, None, |host, call| {
        host.netlink().unwrap();
        start.wait();
        Builtin::Bridge.add(host, &mut sandbox, call).unwrap();
    });
    bed.del(Builtin::Bridge, &pod, "net1", &conf, None).unwrap();
}

#[test]
fn kernel_bridge_check_names_what_differs() {
    on_node(|bed| {
        let pod = bed.pod();
        let attached = bed.add(Builtin::Bridge, &pod, "net1", ONE).unwrap();
        let differs = |want: &str| {
            let error = bed.check(Builtin::Bridge, &pod, "net1", ONE, &attached.result).unwrap_err();
            assert!(matches!(&error, Error::Differs(text) if text.contains(want)), "{error}, want {want}");
        };
        let link = pod.link("net1").unwrap();
        let route = pod.netlink().routes(Default::default()).unwrap();
        let route = route.into_iter().find(|r| r.destination == net("10.99.0.0/16")).unwrap();
        pod.netlink().delete_route(&route).unwrap();
        differs("route 10.99.0.0/16 is missing");
        pod.netlink().delete_address(link.index, net("10.77.0.2/24")).unwrap();
        differs("address 10.77.0.2/24 is missing on link net1");
        let host_end = bed.link(&attached.result.interfaces[1].name).unwrap();
        bed.netlink().set_link(host_end.index, &LinkChange { master: Some(0), ..LinkChange::default() }).unwrap();
        differs("index of the bridge is None");
        let other = LinkChange { mac: Some("02:00:00:00:00:55".parse().unwrap()), ..LinkChange::default() };
        pod.netlink().set_link(link.index, &other).unwrap();
        differs("link net1 has hardware address 02:00:00:00:00:55");
        pod.netlink().delete_link(link.index).unwrap();
        differs("link net1 is missing in the pod");
    });
}

#[test]
fn kernel_bridge_lets_no_other_hardware_address_through() {
    on_node(|bed| {
        let (guarded, other) = (bed.pod(), bed.pod());
        let conf = addressed("10.77.0.2/24", r#","macspoofchk":true"#);
        let attached = bed.add(Builtin::Bridge, &guarded, "net1", &conf).unwrap();
        bed.add(Builtin::Bridge, &other, "net1", &addressed("10.77.0.3/24", "")).unwrap();
        let (port, mac) = (&attached.result.interfaces[1].name, &attached.result.interfaces[2].mac);
        let ruleset = || {
            #[expect(clippy::disallowed_methods, reason = "`nft` is the judge of what we wrote")]
            let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
            String::from_utf8(output.stdout)
                .unwrap()
                .replace('\t', " ")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        let base = |entry: &str| {
            format!("chain PREROUTING {{ type filter hook prerouting priority dstnat; policy accept; {entry}}}")
        };
        let comment = r#"comment "macspoofchk-pod0-net1""#;
        let entry = format!(r#"iifname "{port}" jump cni-br-iface-pod0-net1 {comment} "#);
        let whole = format!(
            "table bridge nat {{ {} chain cni-br-iface-pod0-net1 {{ jump cni-br-iface-pod0-net1-mac {comment} }} \
             chain cni-br-iface-pod0-net1-mac {{ ether saddr {mac} return {comment} drop {comment} }} }}",
            base(&entry)
        );
        assert_eq!(ruleset(), whole);
        bed.check(Builtin::Bridge, &guarded, "net1", &conf, &attached.result).unwrap();

        let hears = || {
            let socket = |pod: &Pod| pod.udp("0.0.0.0:9");
            let (from, to) = (socket(&guarded), socket(&other));
            to.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
            from.send_to(b"x", "10.77.0.3:9").unwrap();
            to.recv(&mut [0]).is_ok()
        };
        assert!(hears());
        let link = guarded.link("net1").unwrap();
        let mut inside = guarded.netlink();
        let spoof = |mac: &str| LinkChange { mac: Some(mac.parse().unwrap()), ..LinkChange::default() };
        inside.set_link(link.index, &spoof("02:00:00:00:00:55")).unwrap();
        assert!(!hears());
        inside.set_link(link.index, &spoof(mac)).unwrap();
        assert!(hears());

        bed.del(Builtin::Bridge, &guarded, "net1", &conf, Some(&attached)).unwrap();
        assert_eq!(ruleset(), format!("table bridge nat {{ {} }}", base("")));
        bed.del(Builtin::Bridge, &guarded, "net1", &conf, Some(&attached)).unwrap();
        let again = bed.add(Builtin::Bridge, &guarded, "net1", &conf).unwrap();
        bed.check(Builtin::Bridge, &guarded, "net1", &conf, &again.result).unwrap();
        // Without a DEL, as after a crash.
        bed.netlink().delete_link(bed.link(&again.result.interfaces[1].name).unwrap().index).unwrap();
        let once = bed.add(Builtin::Bridge, &guarded, "net1", &conf).unwrap();
        assert_eq!(ruleset().matches("jump cni-br-iface-pod0-net1 ").count(), 1);
        bed.del(Builtin::Bridge, &guarded, "net1", &conf, Some(&once)).unwrap();
    });
}

#[test]
fn kernel_bridge_del_finds_the_hosts_end_without_a_record() {
    on_node(|bed| {
        let pod = bed.pod();
        bed.add(Builtin::Bridge, &pod, "net1", ONE).unwrap();
        assert_eq!(bed.links().len(), 2);
        // No detach, no result: as after a crash, with the namespace unreachable.
        bed.call(&pod, "net1", ONE, None, |host, call| Builtin::Bridge.del(host, call)).unwrap();
        assert_eq!(bed.links(), ["br-t"]);
    });
}
