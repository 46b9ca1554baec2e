//! macvlan, ipvlan and loopback on a real kernel.

use super::*;
use crate::error::Error;
use crate::nl::link::{IpvlanMode, Kind, MacvlanMode};

const STATIC: &str = r#""ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24","gateway":"10.77.0.1"}],
    "routes":[{"dst":"0.0.0.0/0"}]},"dns":{"domain":"d"}"#;

fn conf(more: &str) -> String {
    format!("{{{more},{STATIC}}}")
}

#[test]
fn kernel_macvlan_is_born_in_the_pod_under_a_name_that_the_host_has_too() {
    on_node(|bed| {
        let master = bed.master("eth1", 1450, None);
        let pod = bed.pod();
        let conf = conf(r#""master":"eth1","mode":"private","mtu":1400,"mac":"02:00:00:00:00:77""#);
        let attached = bed.add(Builtin::Macvlan, &pod, "eth1", &conf).unwrap();
        let link = pod.link("eth1").unwrap();
        assert_eq!(
            (&link.kind, link.mtu, link.group, link.up),
            (&Kind::Macvlan(MacvlanMode::Private), 1400, GROUP, true)
        );
        assert_eq!((link.mac.unwrap().to_string().as_str(), link.parent), ("02:00:00:00:00:77", Some(master.index)));
        assert_eq!(pod.addresses("eth1"), ["10.77.0.2/24"]);
        assert_eq!(pod.gateway_of("0.0.0.0/0").as_deref(), Some("10.77.0.1"));
        assert_eq!(pod.sysctl("ipv4/conf/eth1/arp_notify"), "1");
        assert_eq!(pod.sysctl("ipv6/conf/eth1/ndisc_notify"), "1");
        let result = &attached.result;
        assert_eq!(
            (result.interfaces.len(), result.ips[0].interface, result.dns.domain.as_deref()),
            (1, Some(0), Some("d"))
        );
        bed.check(Builtin::Macvlan, &pod, "eth1", &conf, result).unwrap();
        bed.del(Builtin::Macvlan, &pod, "eth1", &conf, Some(&attached)).unwrap();
        bed.del(Builtin::Macvlan, &pod, "eth1", &conf, Some(&attached)).unwrap();
        assert!(pod.link("eth1").is_none());
    });
}

#[test]
fn kernel_macvlan_takes_the_default_routes_link_and_a_random_address() {
    on_node(|bed| {
        let master = bed.master("eth1", 1500, Some("192.0.2.2/24"));
        let via = crate::nl::route::Route {
            gateway: Some("192.0.2.1".parse().unwrap()),
            ..crate::nl::route::Route::new(net("0.0.0.0/0"), master.index)
        };
        let pods = [bed.pod(), bed.pod()];
        let error = bed.add(Builtin::Macvlan, &pods[0], "net1", "{}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "master: missing, want the name of a link: there is no default route to take it from"
        );
        bed.netlink().add_route(&via).unwrap();
        let macs = pods.each_ref().map(|pod| bed.add(Builtin::Macvlan, pod, "net1", "{}").unwrap().links[0].mac);
        assert!(macs[0] != macs[1] && macs.iter().all(|mac| mac.0[0] & 3 == 2), "{macs:?}");
        let link = pods[0].link("net1").unwrap();
        assert_eq!((link.parent, link.up), (Some(master.index), true), "layer 2 only: up without addresses");
        bed.status(Builtin::Macvlan, "{}").unwrap();
    });
}

#[test]
fn kernel_macvlan_passthru_has_the_masters_address_or_the_one_asked_for() {
    on_node(|bed| {
        let master = bed.master("eth1", 1500, None);
        let pod = bed.pod();
        let passthru = r#"{"master":"eth1","mode":"passthru"}"#;
        let attached = bed.add(Builtin::Macvlan, &pod, "net1", passthru).unwrap();
        assert_eq!(Some(attached.links[0].mac), master.mac);
        bed.del(Builtin::Macvlan, &pod, "net1", passthru, Some(&attached)).unwrap();
        let asked = r#"{"master":"eth1","mode":"passthru","mac":"02:00:00:00:00:78"}"#;
        let attached = bed.add(Builtin::Macvlan, &pod, "net1", asked).unwrap();
        assert_eq!(attached.links[0].mac.to_string(), "02:00:00:00:00:78");
        assert_eq!(pod.link("net1").unwrap().mac, Some(attached.links[0].mac));
    });
}

#[test]
fn kernel_macvlan_on_a_link_in_the_pod() {
    on_node(|bed| {
        let pod = bed.pod();
        bed.add(Builtin::Bridge, &pod, "net1", r#"{"bridge":"br-t"}"#).unwrap();
        let conf = conf(r#""master":"net1","linkInContainer":true"#);
        let attached = bed.add(Builtin::Macvlan, &pod, "net2", &conf).unwrap();
        assert_eq!(pod.link("net2").unwrap().parent, Some(pod.link("net1").unwrap().index));
        bed.check(Builtin::Macvlan, &pod, "net2", &conf, &attached.result).unwrap();
    });
}

#[test]
fn kernel_macvlan_refuses_and_leaves_nothing() {
    on_node(|bed| {
        bed.master("eth1", 1450, None);
        let pod = bed.pod();
        bed.add(Builtin::Bridge, &pod, "net1", r#"{"bridge":"br-t"}"#).unwrap();
        let port = bed.links().into_iter().find(|link| link.starts_with("veth")).unwrap();
        for (more, want) in [
            (r#""master":"eth8""#.to_owned(), r#"master: got "eth8", want an existing link"#),
            (r#""master":"lo""#.to_owned(), r#"master: got "lo", want an Ethernet link"#),
            (format!(r#""master":"{port}""#), "want a link that is no port of a bridge"),
            (r#""master":"eth1","mtu":1451"#.to_owned(), "mtu: got 1451, want at most 1450, the MTU of master eth1"),
        ] {
            let error = bed.add(Builtin::Macvlan, &pod, "net2", &conf(&more)).unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
            assert!(matches!(error, Error::Parent(_) | Error::Config(_)));
        }
        let error = bed.add(Builtin::Macvlan, &pod, "net1", &conf(r#""master":"eth1""#)).unwrap_err();
        assert!(error.to_string().contains("the pod has a veth named net1 already"), "{error}");
        let unreachable = r#"{"master":"eth1","ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24"}],
            "routes":[{"dst":"10.99.0.0/16","gw":"192.0.2.1"}]}}"#;
        assert!(bed.add(Builtin::Macvlan, &pod, "net2", unreachable).is_err());
        assert!(pod.link("net2").is_none());
        let status = bed.status(Builtin::Macvlan, r#"{"master":"eth8"}"#);
        assert!(matches!(status, Err(Error::NotReady(text)) if text.contains("eth8")));
    });
}

#[test]
fn kernel_on_uml_ipvlan_is_born_in_the_pod_under_a_name_that_the_host_has_too() {
    on_node(|bed| {
        let master = bed.master("eth1", 1450, None);
        let pod = bed.pod();
        let conf = conf(r#""master":"eth1","mode":"l3s""#);
        bed.status(Builtin::Ipvlan, &conf).unwrap();
        let attached = bed.add(Builtin::Ipvlan, &pod, "eth1", &conf).unwrap();
        let link = pod.link("eth1").unwrap();
        assert_eq!((&link.kind, link.mtu, link.group, link.up), (&Kind::Ipvlan(IpvlanMode::L3s), 1450, GROUP, true));
        assert_eq!((link.mac, link.parent), (master.mac, Some(master.index)));
        assert_eq!(pod.addresses("eth1"), ["10.77.0.2/24"]);
        bed.check(Builtin::Ipvlan, &pod, "eth1", &conf, &attached.result).unwrap();
        let layer_2 = r#"{"master":"eth1","mode":"l3s"}"#;
        let bare = bed.add(Builtin::Ipvlan, &pod, "net2", layer_2).unwrap();
        assert_eq!((bare.result.ips.len(), pod.link("net2").unwrap().up), (0, true));
        bed.check(Builtin::Ipvlan, &pod, "net2", layer_2, &bare.result).unwrap();
        bed.del(Builtin::Ipvlan, &pod, "eth1", &conf, Some(&attached)).unwrap();
        assert!(pod.link("eth1").is_none());
    });
}

#[test]
fn kernel_on_uml_ipvlan_takes_master_and_addresses_of_the_plugin_before() {
    on_node(|bed| {
        let master = bed.master("eth1", 1500, None);
        let pod = bed.pod();
        let previous = r#"{"interfaces":[{"name":"eth1"}],"ips":[{"address":"10.77.0.9/24"}]}"#;
        let previous = CniResult::parse(previous.as_bytes(), Version::NEWEST).unwrap();
        let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
        let attached = bed
            .call(&pod, "net1", "{}", Some(&previous), |host, call| Builtin::Ipvlan.add(host, &mut sandbox, call))
            .unwrap();
        assert_eq!(pod.link("net1").unwrap().parent, Some(master.index));
        assert_eq!(pod.addresses("net1"), ["10.77.0.9/24"]);
        let told: Vec<_> = attached.result.interfaces.iter().map(|i| i.name.as_str()).collect();
        assert_eq!((told, attached.result.ips[0].interface), (vec!["net1"], Some(0)));
    });
}

#[test]
fn kernel_on_host_a_missing_driver_is_said_by_add_and_by_status() {
    on_node(|bed| {
        bed.master("eth1", 1500, None);
        let conf = conf(r#""master":"eth1""#);
        let error = bed.add(Builtin::Ipvlan, &bed.pod(), "net1", &conf).unwrap_err();
        assert!(error.to_string().starts_with("create ipvlan net1: Operation not supported"), "{error}");
        let status = bed.status(Builtin::Ipvlan, &conf).unwrap_err();
        assert!(matches!(&status, Error::NotReady(text) if text.contains("no driver")), "{status}");
    });
}

#[test]
fn kernel_loopback_goes_up_and_is_told() {
    on_node(|bed| {
        let pod = bed.pod();
        let attached = bed.add(Builtin::Loopback, &pod, "eth0", "{}").unwrap();
        let lo = pod.link("lo").unwrap();
        assert!(lo.up && lo.group == 0 && attached.links.is_empty());
        assert_eq!(attached.result.interfaces[0].name, "lo");
        let ips: Vec<String> = attached.result.ips.iter().map(|ip| ip.address.to_string()).collect();
        assert_eq!(ips, ["127.0.0.1/8", "::1/128"]);
        bed.check(Builtin::Loopback, &pod, "eth0", "{}", &attached.result).unwrap();
        bed.del(Builtin::Loopback, &pod, "eth0", "{}", Some(&attached)).unwrap();
    });
}

#[test]
fn kernel_on_uml_a_master_that_is_occupied_is_said_to_be_and_by_which_kind() {
    on_node(|bed| {
        bed.master("eth1", 1500, None);
        let refused = |kind, conf: &str| bed.add(kind, &bed.pod(), "net1", conf).unwrap_err().to_string();
        let held = bed.pod();
        let attached = bed.add(Builtin::Macvlan, &held, "net1", &conf(r#""master":"eth1""#)).unwrap();
        let error = refused(Builtin::Ipvlan, &conf(r#""master":"eth1""#));
        assert!(
            error.ends_with("(eth1 is occupied by links of another kind: of macvlan in a pod, or of a bond)"),
            "{error}"
        );
        let error = refused(Builtin::Macvlan, &conf(r#""master":"eth1","mode":"passthru""#));
        assert!(
            error.ends_with("(mode passthru needs eth1 for itself, and there is another macvlan on it)"),
            "{error}"
        );
        bed.del(Builtin::Macvlan, &held, "net1", &conf(r#""master":"eth1""#), Some(&attached)).unwrap();
        let passthru = conf(r#""master":"eth1","mode":"passthru""#);
        let attached = bed.add(Builtin::Macvlan, &held, "net1", &passthru).unwrap();
        let error = refused(Builtin::Macvlan, &conf(r#""master":"eth1""#));
        assert!(error.ends_with("(is there a macvlan of mode passthru on eth1? It shares with none)"), "{error}");
        bed.del(Builtin::Macvlan, &held, "net1", &passthru, Some(&attached)).unwrap();
        bed.add(Builtin::Ipvlan, &held, "net1", &conf(r#""master":"eth1""#)).unwrap();
        let error = refused(Builtin::Macvlan, &conf(r#""master":"eth1""#));
        assert!(error.contains("occupied by links of another kind: of ipvlan in a pod"), "{error}");
    });
}
