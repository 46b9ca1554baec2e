//! portmap on a real kernel.
#![expect(clippy::disallowed_methods, reason = "`nft` is the judge of what we wrote")]

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use super::*;
use crate::builtin::HostPorts;
use crate::call::Origin;
use crate::error::Error;

const PORTMAP: Builtin = Builtin::Portmap;

fn nft(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("nft").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn result(addresses: &[&str]) -> CniResult {
    let ips: Vec<String> =
        addresses.iter().map(|address| format!(r#"{{"interface":1,"address":"{address}"}}"#)).collect();
    let text = format!(
        r#"{{"interfaces":[{{"name":"net1"}},{{"name":"net1","sandbox":"/x"}}],"ips":[
            {{"interface":0,"address":"192.0.2.77/24"}},{}]}}"#,
        ips.join(",")
    );
    CniResult::parse(text.as_bytes(), Version::NEWEST).unwrap()
}

fn mapping(host: u16, pod: u16, more: &str) -> String {
    format!(r#"{{"hostPort":{host},"containerPort":{pod}{more}}}"#)
}

fn conf(keys: &str, mappings: &[String]) -> String {
    format!(r#"{{{keys}"runtimeConfig":{{"portMappings":[{}]}}}}"#, mappings.join(","))
}

/// What `portmap` v1.9.1 hands to `nft` for container "pod0" with addresses 10.7.0.2 and fd07::2.
const OF_PORTMAP_1_9_1: &str = r#"
add table ip cni_hostport { comment "CNI portmap plugin" ; }
add chain ip cni_hostport hostports
add chain ip cni_hostport hostip_hostports
add chain ip cni_hostport hostports_all
flush chain ip cni_hostport hostports_all
add rule ip cni_hostport hostports_all jump hostip_hostports
add rule ip cni_hostport hostports_all jump hostports
add chain ip cni_hostport prerouting { type nat hook prerouting priority -100 ; }
flush chain ip cni_hostport prerouting
add rule ip cni_hostport prerouting fib daddr type local jump hostports_all
add chain ip cni_hostport output { type nat hook output priority -100 ; }
flush chain ip cni_hostport output
add rule ip cni_hostport output fib daddr type local jump hostports_all
add chain ip cni_hostport masquerading { type nat hook postrouting priority 100 ; }
add rule ip cni_hostport hostports tcp dport 8080 dnat to 10.7.0.2:80 comment "pod0"
add rule ip cni_hostport hostports ip daddr 10.0.0.1 udp dport 53 dnat to 10.7.0.2:5353 comment "pod0"
add rule ip cni_hostport masquerading ip saddr 10.7.0.2 ip daddr 10.7.0.2 masquerade comment "pod0"
add rule ip cni_hostport masquerading ip saddr 127.0.0.1 ip daddr 10.7.0.2 masquerade comment "pod0"
add table ip6 cni_hostport { comment "CNI portmap plugin" ; }
add chain ip6 cni_hostport hostports
add chain ip6 cni_hostport hostip_hostports
add chain ip6 cni_hostport hostports_all
flush chain ip6 cni_hostport hostports_all
add rule ip6 cni_hostport hostports_all jump hostip_hostports
add rule ip6 cni_hostport hostports_all jump hostports
add chain ip6 cni_hostport prerouting { type nat hook prerouting priority -100 ; }
flush chain ip6 cni_hostport prerouting
add rule ip6 cni_hostport prerouting fib daddr type local jump hostports_all
add chain ip6 cni_hostport output { type nat hook output priority -100 ; }
flush chain ip6 cni_hostport output
add rule ip6 cni_hostport output fib daddr type local jump hostports_all
add chain ip6 cni_hostport masquerading { type nat hook postrouting priority 100 ; }
add rule ip6 cni_hostport hostports tcp dport 8080 dnat to [fd07::2]:80 comment "pod0"
add rule ip6 cni_hostport hostports ip6 daddr fd00::1 sctp dport 9 dnat to [fd07::2]:9 comment "pod0"
add rule ip6 cni_hostport masquerading ip6 saddr fd07::2 ip6 daddr fd07::2 masquerade comment "pod0"
"#;

fn like_the_reference() -> String {
    conf(
        "",
        &[
            mapping(8080, 80, ""),
            mapping(53, 5353, r#","protocol":"UDP","hostIP":"10.0.0.1""#),
            mapping(9, 9, r#","protocol":"sctp","hostIP":"fd00::1""#),
        ],
    )
}

#[test]
fn kernel_on_host_portmap_writes_the_reference_plugins_ruleset() {
    let ours = || {
        let mut text = String::new();
        on_node(|bed| {
            let pod = bed.pod();
            let previous = result(&["10.7.0.2/24", "fd07::2/64"]);
            let attached = bed.add_behind(PORTMAP, &pod, "net1", &like_the_reference(), &previous).0.unwrap();
            assert_eq!(attached, Attached { result: previous.clone(), links: Vec::new() });
            text = nft(&["list", "ruleset"], "");
            bed.check(PORTMAP, &pod, "net1", &like_the_reference(), &previous).unwrap();
            let again = bed.add_behind(PORTMAP, &pod, "net1", &like_the_reference(), &previous).0;
            assert!(again.is_ok() && nft(&["list", "ruleset"], "") == text, "what an earlier ADD left is not doubled");
            bed.call(&pod, "net1", "{}", None, |host, call| PORTMAP.del(host, call)).unwrap();
            let left = nft(&["list", "ruleset"], "");
            assert!(!left.contains("pod0") && left.contains("chain hostports_all"), "{left}");
            bed.call(&pod, "net1", "{}", None, |host, call| PORTMAP.del(host, call)).unwrap();
        });
        text
    };
    let theirs = as_host(|| {
        nft(&["-f", "-"], OF_PORTMAP_1_9_1);
        nft(&["list", "ruleset"], "")
    });
    assert_eq!(ours(), theirs);
}

#[test]
fn kernel_on_host_portmap_checks_and_removes_what_the_reference_plugin_made() {
    on_node(|bed| {
        let pod = bed.pod();
        let previous = result(&["10.7.0.2/24", "fd07::2/64"]);
        nft(&["-f", "-"], OF_PORTMAP_1_9_1);
        nft(&["add", "rule", "ip", "cni_hostport", "hostip_hostports", "counter", "comment", "pod0"], "");
        nft(
            &["add", "rule", "ip", "cni_hostport", "hostports", "tcp", "dport", "1", "counter", "comment", "other"],
            "",
        );
        bed.check(PORTMAP, &pod, "net1", &like_the_reference(), &previous).unwrap();
        bed.call(&pod, "net1", "{}", None, |host, call| PORTMAP.del(host, call)).unwrap();
        let left = nft(&["list", "ruleset"], "");
        assert!(!left.contains("pod0") && left.contains("other"), "{left}");
        let error = bed.check(PORTMAP, &pod, "net1", &like_the_reference(), &previous).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no rule for host port 8080/tcp to 10.7.0.2:80 in nftables table ip cni_hostport"
        );
        nft(&["flush", "chain", "ip", "cni_hostport", "output"], "");
        let error = bed.check(PORTMAP, &pod, "net1", &like_the_reference(), &previous).unwrap_err();
        assert!(matches!(&error, Error::Differs(text) if text.contains("jump from prerouting and output")), "{error}");
    });
}

/// Further networks are told as of any wrong value, and before anything is attached; the default network as ever.
#[test]
fn kernel_on_host_portmap_refuses_a_port_that_another_container_has() {
    on_node(|bed| {
        let (one, two) = (bed.pod(), bed.pod());
        let add = |pod: &Pod, address: &str, mapping: String| {
            bed.add_behind(PORTMAP, pod, "net1", &conf("", &[mapping]), &result(&[address])).0
        };
        add(&one, "10.7.0.2/24", mapping(80, 80, r#","hostIP":"10.0.0.1""#)).unwrap();
        let before = nft(&["list", "ruleset"], "");
        for (same, what) in
            [("", "80/tcp"), (r#","hostIP":"0.0.0.0""#, "80/tcp"), (r#","hostIP":"10.0.0.1""#, "10.0.0.1 80/tcp")]
        {
            let wanted = mapping(80, 8080, same);
            let want = format!(
                "runtimeConfig.portMappings[0].hostPort: got {what}, want a host port that nobody has: container pod0 has it"
            );
            let error = add(&two, "10.7.0.3/24", wanted.clone()).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            assert_eq!(error.to_string(), want);
            assert_eq!(claim(bed, &two, false, std::slice::from_ref(&wanted)).unwrap_err().to_string(), want);
            let error = as_default(bed, &two, &conf("", &[wanted]), &result(&["10.7.0.3/24"])).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("80/tcp: Address already in use (runtimeConfig.portMappings[0].hostPort: pod0 has it"),
                "{text}"
            );
        }
        assert_eq!(nft(&["list", "ruleset"], ""), before);
        for free in [r#","hostIP":"10.0.0.2""#, r#","protocol":"udp""#, r#","hostIP":"::""#] {
            claim(bed, &two, false, &[mapping(80, 8080, free)]).unwrap();
        }
        add(&two, "10.7.0.3/24", mapping(80, 8080, r#","hostIP":"10.0.0.2""#)).unwrap();
        add(&two, "10.7.0.3/24", mapping(80, 8080, r#","protocol":"udp""#)).unwrap();
        bed.call(&one, "net1", "{}", None, |host, call| PORTMAP.del(host, call)).unwrap();
        add(&two, "10.7.0.3/24", mapping(80, 8080, r#","hostIP":"10.0.0.1""#)).unwrap();
    });
}

/// ADD for the pod's default network.
fn as_default(bed: &Bed, pod: &Pod, conf: &str, previous: &CniResult) -> Result<Attached> {
    let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
    bed.call(pod, "net1", conf, Some(previous), |host, call| {
        let origin = Origin { is_default: true, ..call.origin };
        PORTMAP.add(host, &mut sandbox, &Call { origin, ..call.clone() })
    })
}

fn claim(bed: &Bed, pod: &Pod, is_default: bool, mappings: &[String]) -> Result<()> {
    claim_more(&mut HostPorts::default(), bed, (pod, "net1"), is_default, mappings)
}

/// What is asked before anything is attached.
fn claim_more(
    ports: &mut HostPorts,
    bed: &Bed,
    (pod, ifname): (&Pod, &str),
    is_default: bool,
    mappings: &[String],
) -> Result<()> {
    let reserved = Reserved { ports: vec![10250..=10250, 30000..=32767], ..Reserved::default() };
    bed.call(pod, ifname, &conf("", mappings), None, |_, call| {
        let origin = Origin { is_default, ..call.origin };
        ports.claim(&Node { reserved: &reserved, ..bed.node() }, &Call { origin, ..call.clone() })
    })
}

#[test]
fn kernel_on_host_portmap_refuses_a_port_on_which_the_node_listens() {
    on_node(|bed| {
        let lo = bed.link("lo").unwrap();
        bed.netlink().set_link(lo.index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        let pod = bed.pod();
        let _api = TcpListener::bind("127.0.0.1:10248").unwrap();
        let _dual = TcpListener::bind("[::]:9100").unwrap();
        let _dns = UdpSocket::bind("[::1]:53").unwrap();
        for (wanted, what) in [
            (
                mapping(10248, 80, ""),
                "10248/tcp, want a host port that nobody has: the node listens on 127.0.0.1:10248",
            ),
            (
                mapping(9100, 80, r#","hostIP":"192.0.2.1""#),
                "192.0.2.1 9100/tcp, want a host port that nobody has: the node listens on [::]:9100",
            ),
            (
                mapping(53, 80, r#","protocol":"UDP""#),
                "53/udp, want a host port that nobody has: the node listens on [::1]:53",
            ),
            (
                mapping(10250, 80, ""),
                "10250/tcp, want a host port that nobody has: `reservedPorts` of the node holds 10250",
            ),
        ] {
            let refused = claim(bed, &pod, false, &[mapping(1, 1, ""), wanted.clone()]).unwrap_err().to_string();
            assert_eq!(refused, format!("runtimeConfig.portMappings[1].hostPort: got {what}"));
            claim(bed, &pod, true, &[wanted]).unwrap();
        }
        for (port, more) in [
            (10248, r#","protocol":"udp""#),
            (10248, r#","hostIP":"192.0.2.1""#),
            (53, ""),
            (53, r#","protocol":"udp","hostIP":"0.0.0.0""#),
            (9, r#","protocol":"sctp""#),
        ] {
            claim(bed, &pod, false, &[mapping(port, 80, more)]).unwrap();
        }
    });
}

/// The rules of a container know no interface: what one network of a pod has made, another would never get.
#[test]
fn kernel_on_host_portmap_gives_a_port_to_one_network_of_a_pod() {
    on_node(|bed| {
        let pod = bed.pod();
        let mut ports = HostPorts::default();
        let wanted = [mapping(8080, 80, "")];
        claim_more(&mut ports, bed, (&pod, "eth0"), true, &wanted).unwrap();
        let refused = claim_more(&mut ports, bed, (&pod, "net1"), false, &wanted).unwrap_err().to_string();
        let start = "runtimeConfig.portMappings[0].hostPort: got 8080/tcp, want a host port that nobody has: ";
        assert_eq!(refused, format!("{start}network net (eth0) of this pod has it"));
        claim_more(&mut ports, bed, (&pod, "net1"), false, &[mapping(8081, 80, "")]).unwrap();
        claim_more(&mut ports, bed, (&pod, "net1"), false, &[mapping(8081, 80, "")]).unwrap();

        let conf = conf("", &wanted);
        as_default(bed, &pod, &conf, &result(&["10.7.0.2/24"])).unwrap();
        let refused = bed.add_behind(PORTMAP, &pod, "net1", &conf, &result(&["10.8.0.2/24"])).0.unwrap_err();
        assert_eq!(refused.to_string(), format!("{start}another network of this pod has it"));
        assert!(!nft(&["list", "ruleset"], "").contains("10.8.0.2"));
    });
}

#[test]
fn kernel_on_host_portmap_without_mappings_or_an_address_for_them_adds_nothing() {
    on_node(|bed| {
        let pod = bed.pod();
        let previous = result(&["10.7.0.2/24"]);
        let attached = bed.add_behind(PORTMAP, &pod, "net1", r#"{"snat":true}"#, &previous).0.unwrap();
        assert_eq!(attached.result, previous);
        let v6 = conf("", &[mapping(1, 1, ""), mapping(80, 80, r#","hostIP":"fd00::1""#)]);
        let error = bed.add_behind(PORTMAP, &pod, "net1", &v6, &previous).0.unwrap_err();
        assert_eq!(
            error.to_string(),
            "runtimeConfig.portMappings[1]: got fd00::1 80/tcp, want one that an address of the pod can serve: 10.7.0.2"
        );
        let elsewhere = bed.add_behind(PORTMAP, &pod, "net2", &v6, &previous).0.unwrap_err();
        assert!(elsewhere.to_string().contains("none, it has no address"), "{elsewhere}");
        let alone = bed.add(PORTMAP, &pod, "net1", &v6).unwrap_err();
        assert!(alone.to_string().starts_with("prevResult: missing"), "{alone}");
        assert_eq!(nft(&["list", "ruleset"], ""), "");
    });
}

#[test]
fn kernel_on_host_portmap_says_conditions_and_masquerades_all() {
    on_node(|bed| {
        let keys = r#""conditionsV4":["!","-d","192.0.2.0/24","-i","eth+"],"conditionsV6":["ip6 saddr fd00::/20"],"masqAll":true,"#;
        let conf = conf(keys, &[mapping(8080, 80, "")]);
        let previous = result(&["10.7.0.2/24", "fd07::2/64"]);
        let pod = bed.pod();
        bed.add_behind(PORTMAP, &pod, "net1", &conf, &previous).0.unwrap();
        let text = nft(&["list", "ruleset"], "");
        for rule in [
            r#"ip daddr != 192.0.2.0/24 iifname "eth*" tcp dport 8080 dnat to 10.7.0.2:80 comment "pod0""#,
            r#"ip6 saddr fd00::/20 tcp dport 8080 dnat to [fd07::2]:80 comment "pod0""#,
            r#"ip daddr 10.7.0.2 tcp dport 80 ct status dnat ct original proto-dst 8080 masquerade comment "pod0""#,
            r#"ip6 daddr fd07::2 tcp dport 80 ct status dnat ct original proto-dst 8080 masquerade comment "pod0""#,
        ] {
            assert!(text.contains(rule), "{rule}\n{text}");
        }
        bed.check(PORTMAP, &pod, "net1", &conf, &previous).unwrap();
        let without = format!(r#"{{"snat":false,{}"#, &conf[1..]);
        let other = bed.pod();
        let mapped = without.replace("8080", "8081");
        bed.add_behind(PORTMAP, &other, "net1", &mapped, &result(&["10.7.0.3/24"])).0.unwrap();
        let text = nft(&["list", "ruleset"], "");
        assert!(!text.contains("10.7.0.3 masquerade") && text.contains("dnat to 10.7.0.3:80"), "{text}");
    });
}

/// More rules than the kernel's usual queues hold, and its answers to them.
#[test]
fn kernel_on_host_portmap_takes_a_thousand_mappings() {
    on_node(|bed| {
        let mappings: Vec<String> = (0..1000).map(|i| mapping(10_000 + i, 80 + i, "")).collect();
        let conf = conf(r#""masqAll":true,"#, &mappings);
        let (pod, previous) = (bed.pod(), result(&["10.7.0.2/24", "fd07::2/64"]));
        bed.add_behind(PORTMAP, &pod, "net1", &conf, &previous).0.unwrap();
        let count = || nft(&["list", "ruleset"], "").matches(r#"comment "pod0""#).count();
        // For each address a translation and a masquerade a mapping, and the way to itself; from 127.0.0.1 there is one of IPv4.
        assert_eq!(count(), 2 * (2 * 1000 + 1) + 1);
        bed.check(PORTMAP, &pod, "net1", &conf, &previous).unwrap();
        bed.del(PORTMAP, &pod, "net1", &conf, None).unwrap();
        assert_eq!(count(), 0);
    });
}

/// The way of the packets, from the node itself and from the pod to its own port, over both protocols.
#[test]
fn kernel_on_host_portmap_leads_packets_to_the_pod() {
    on_node(|bed| {
        let lo = bed.link("lo").unwrap();
        bed.netlink().set_link(lo.index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        let pod = bed.pod();
        let bridge = r#"{"bridge":"br-t","isDefaultGateway":true,"hairpinMode":true,
            "ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24","gateway":"10.77.0.1"}]}}"#;
        let previous = bed.add(Builtin::Bridge, &pod, "net1", bridge).unwrap().result;
        let port = |protocol: &str| mapping(8080, 80, &format!(r#","protocol":"{protocol}""#));
        bed.add_behind(PORTMAP, &pod, "net1", &conf("", &[port("tcp"), port("udp")]), &previous).0.unwrap();
        assert_eq!(
            crate::netns::read_sysctl(&["ipv4", "conf", "br-t", "route_localnet"]).unwrap().as_deref(),
            Some("1")
        );
        let listener = pod.netns.enter(|| Ok(TcpListener::bind("0.0.0.0:80").unwrap())).unwrap();
        let within = Duration::from_secs(3);
        for address in ["127.0.0.1:8080", "10.77.0.1:8080"] {
            let stream = TcpStream::connect_timeout(&address.parse().unwrap(), within).unwrap();
            let (_, from) = listener.accept().unwrap();
            assert_eq!(from.ip().to_string(), "10.77.0.1", "{address}");
            drop(stream);
        }
        let hairpin = || Ok(TcpStream::connect_timeout(&"10.77.0.1:8080".parse().unwrap(), within).unwrap());
        let stream = pod.netns.enter(hairpin).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), "10.77.0.1");
        drop(stream);
        let socket = pod.udp("0.0.0.0:80");
        socket.set_read_timeout(Some(within)).unwrap();
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "127.0.0.1:8080").unwrap();
        socket.recv(&mut [0]).unwrap();
    });
}

/// A client that goes on sending from one port would reach nobody: its connection was decided before there was a mapping.
#[test]
fn kernel_on_host_portmap_forgets_old_udp_connections() {
    on_node(|bed| {
        let lo = bed.link("lo").unwrap();
        bed.netlink().set_link(lo.index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        let (pod, other) = (bed.pod(), bed.pod());
        let bridge = |address: &str| {
            format!(
                r#"{{"bridge":"br-t","isDefaultGateway":true,"ipam":{{"type":"static","addresses":[{{"address":"{address}"}}]}}}}"#
            )
        };
        // Tracking begins with the first NAT chain.
        let otherwise = bed.add(Builtin::Bridge, &other, "net1", &bridge("10.77.0.3/24")).unwrap().result;
        bed.add_behind(PORTMAP, &other, "net1", &conf("", &[mapping(9, 9, "")]), &otherwise).0.unwrap();
        let client = UdpSocket::bind("10.77.0.1:0").unwrap();
        // Somebody on the node takes it, so that it is no error.
        let _server = UdpSocket::bind("10.77.0.1:8080").unwrap();
        client.send_to(b"x", "10.77.0.1:8080").unwrap();
        let previous = bed.add(Builtin::Bridge, &pod, "net1", &bridge("10.77.0.2/24")).unwrap().result;
        let socket = pod.udp("0.0.0.0:80");
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mapped = conf("", &[mapping(8080, 80, r#","protocol":"udp""#)]);
        bed.add_behind(PORTMAP, &pod, "net1", &mapped, &previous).0.unwrap();
        client.send_to(b"y", "10.77.0.1:8080").unwrap();
        let mut got = [0];
        socket.recv(&mut got).unwrap();
        assert_eq!(&got, b"y");
    });
}

#[test]
fn kernel_on_host_portmap_of_fifty_at_once_all_succeed_and_one_port_goes_to_one() {
    as_host(|| {
        const AT_ONCE: u32 = 50;
        let start = std::sync::Barrier::new(AT_ONCE as usize);
        let won = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for number in 0..AT_ONCE {
                let (start, won) = (&start, &won);
                scope.spawn(move || {
                    let bed = Bed { state: tempfile::tempdir().unwrap(), pods: Cell::new(number) };
                    let pod = bed.pod();
                    let previous = result(&[&format!("10.7.0.{}/24", number + 2)]);
                    let own = conf("", &[mapping(8000 + number as u16, 80, "")]);
                    let shared = conf("", &[mapping(80, 80, "")]);
                    start.wait();
                    bed.add_behind(PORTMAP, &pod, "net1", &own, &previous).0.unwrap();
                    let taken = bed.add_behind(PORTMAP, &pod, "net1", &shared, &previous).0;
                    won.fetch_add(u32::from(taken.is_ok()), std::sync::atomic::Ordering::SeqCst);
                    bed.check(PORTMAP, &pod, "net1", &own, &previous).unwrap();
                });
            }
        });
        let text = nft(&["list", "ruleset"], "");
        assert_eq!(won.into_inner(), 1);
        assert_eq!(text.matches(" dnat to ").count(), AT_ONCE as usize + 1, "{text}");
        assert_eq!(text.matches("fib daddr type local jump").count(), 2);
    });
}

/// The kernel of User Mode Linux lacks family ip and NAT.
#[test]
fn kernel_on_uml_portmap_without_nat_is_not_ready_and_removes() {
    on_node(|bed| {
        let pod = bed.pod();
        assert!(matches!(bed.status(PORTMAP, "{}"), Err(Error::NotReady(_))));
        let previous = result(&["10.7.0.2/24"]);
        assert!(bed.add_behind(PORTMAP, &pod, "net1", &conf("", &[mapping(1, 1, "")]), &previous).0.is_err());
        bed.call(&pod, "net1", "{}", None, |host, call| PORTMAP.del(host, call)).unwrap();
    });
}

#[test]
fn kernel_on_host_portmap_is_ready() {
    on_node(|bed| {
        bed.status(PORTMAP, "{}").unwrap();
        assert_eq!(nft(&["list", "ruleset"], ""), "", "asking changes nothing");
        nft(&["-f", "-"], OF_PORTMAP_1_9_1);
        let before = nft(&["-a", "list", "ruleset"], "");
        bed.status(PORTMAP, "{}").unwrap();
        assert_eq!(nft(&["-a", "list", "ruleset"], ""), before);
    });
}
