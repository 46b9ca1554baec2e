//! ptp on a real kernel.

use super::*;
use crate::error::Error;
use crate::nl::link::Kind;
use crate::nl::route::Route;

fn conf(address: &str, gateway: &str) -> String {
    format!(
        r#"{{"mtu":1400,"ipam":{{"type":"static","addresses":[{{"address":"{address}","gateway":"{gateway}"}}],
            "routes":[{{"dst":"10.99.0.0/16"}}]}}}}"#
    )
}

/// Routes of a namespace that somebody made, in words.
fn made(netlink: &mut Netlink) -> Vec<String> {
    let words = |route: Route| {
        let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let source = route.source.map(|source| format!(" src {source}")).unwrap_or_default();
        format!("{}{via} scope {}{source}", route.destination, route.scope.unwrap())
    };
    let routes = netlink.routes(Default::default()).unwrap().into_iter();
    let mut words: Vec<String> = routes.filter(|route| route.protocol == 3).map(words).collect();
    words.sort();
    words
}

#[test]
fn kernel_ptp_routes_everything_of_a_pod_through_the_node() {
    on_node(|bed| {
        let pods = [bed.pod(), bed.pod()];
        let confs = ["10.77.0.2/24", "10.77.0.3/24"].map(|address| conf(address, "10.77.0.1"));
        let attached = [0, 1].map(|i| bed.add(Builtin::Ptp, &pods[i], "net1", &confs[i]).unwrap());
        let link = pods[0].link("net1").unwrap();
        assert_eq!((link.kind, link.mtu, link.group, link.up), (Kind::Veth, 1400, GROUP, true));
        assert_eq!(pods[0].addresses("net1"), ["10.77.0.2/24"]);
        let routes = pods[0].netlink().routes(Default::default()).unwrap();
        assert!(
            routes.iter().all(|route| route.table == 255 || route.protocol == 3 || route.destination.addr().is_ipv6())
        );
        assert_eq!(
            made(&mut pods[0].netlink()),
            [
                "10.77.0.0/24 via 10.77.0.1 scope 0 src 10.77.0.2",
                "10.77.0.1/32 scope 253 src 10.77.0.2",
                "10.99.0.0/16 via 10.77.0.1 scope 0",
            ]
        );
        assert_eq!(made(&mut bed.netlink()), ["10.77.0.2/32 scope 254", "10.77.0.3/32 scope 254"]);
        assert_eq!(crate::netns::read_sysctl(&["ipv4", "ip_forward"]).unwrap().as_deref(), Some("1"));

        let told = &attached[0].result;
        let host_end = bed.link(&told.interfaces[0].name).unwrap();
        assert_eq!(told.interfaces[0].mac, host_end.mac.unwrap().to_string());
        let held = bed.netlink().addresses(Some(host_end.index)).unwrap();
        assert!(held.iter().any(|address| address.net == net("10.77.0.1/32")), "{held:?}");
        assert_eq!(
            (told.interfaces[1].name.as_str(), told.interfaces[1].sandbox.as_str()),
            ("net1", pods[0].path.as_str())
        );
        assert_eq!((told.interfaces.len(), told.ips[0].interface), (2, Some(1)));
        bed.check(Builtin::Ptp, &pods[0], "net1", &confs[0], told).unwrap();

        let sockets = pods.each_ref().map(|pod| pod.udp("0.0.0.0:9"));
        sockets[1].set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        sockets[0].send_to(b"x", "10.77.0.3:9").unwrap();
        sockets[1].recv(&mut [0]).unwrap();

        for i in [0, 1] {
            bed.del(Builtin::Ptp, &pods[i], "net1", &confs[i], Some(&attached[i])).unwrap();
            bed.del(Builtin::Ptp, &pods[i], "net1", &confs[i], None).unwrap();
        }
        assert_eq!((bed.links(), made(&mut bed.netlink())), (Vec::new(), Vec::new()));
    });
}

#[test]
fn kernel_ptp_gives_both_families_at_once() {
    on_node(|bed| {
        let pod = bed.pod();
        let conf = r#"{"ipam":{"type":"static","addresses":[{"address":"fd77::2/64","gateway":"fd77::1"},
            {"address":"10.77.0.2/32","gateway":"169.254.1.1"}],"routes":[{"dst":"::/0"},{"dst":"0.0.0.0/0"}]}}"#;
        let started = Instant::now();
        let attached = bed.add(Builtin::Ptp, &pod, "net1", conf).unwrap();
        assert!(started.elapsed() < Duration::from_millis(900), "nobody waits for duplicates on a wire with two ends");
        assert_eq!(
            made(&mut pod.netlink()),
            [
                "0.0.0.0/0 via 169.254.1.1 scope 0",
                "169.254.1.1/32 scope 253 src 10.77.0.2",
                "::/0 via fd77::1 scope 0",
                "fd77::/64 via fd77::1 scope 0 src fd77::2",
                "fd77::1/128 scope 0 src fd77::2",
            ]
        );
        assert_eq!(made(&mut bed.netlink()), ["10.77.0.2/32 scope 254", "fd77::2/128 scope 0"]);
        bed.check(Builtin::Ptp, &pod, "net1", conf, &attached.result).unwrap();
    });
}

#[test]
fn kernel_ptp_refuses_an_address_that_another_pod_has() {
    on_node(|bed| {
        let (first, second) = (bed.pod(), bed.pod());
        let same = conf("10.77.0.2/24", "10.77.0.1");
        let attached = bed.add(Builtin::Ptp, &first, "net1", &same).unwrap();
        let error = bed.add(Builtin::Ptp, &second, "net1", &same).unwrap_err();
        let through = &attached.result.interfaces[0].name;
        let want = format!("address 10.77.0.2 is routed through {through} of the node already");
        assert!(matches!(&error, Error::Addresses(text) if text.starts_with(&want)), "{error}");
        assert!(second.link("net1").is_none());
        assert_eq!(bed.links().as_slice(), std::slice::from_ref(through), "the first one is as it was");
        bed.check(Builtin::Ptp, &first, "net1", &same, &attached.result).unwrap();
    });
}

#[test]
fn kernel_ptp_check_names_what_differs() {
    on_node(|bed| {
        let pod = bed.pod();
        let conf = conf("10.77.0.2/24", "10.77.0.1");
        let attached = bed.add(Builtin::Ptp, &pod, "net1", &conf).unwrap();
        let mut netlink = bed.netlink();
        let route = netlink.routes(Default::default()).unwrap();
        let route = route.into_iter().find(|route| route.destination == net("10.77.0.2/32")).unwrap();
        netlink.delete_route(&route).unwrap();
        let error = bed.check(Builtin::Ptp, &pod, "net1", &conf, &attached.result).unwrap_err();
        assert!(matches!(&error, Error::Differs(text) if text.contains("no route to 10.77.0.2")), "{error}");
        let error = bed.add(Builtin::Ptp, &pod, "net1", &conf).unwrap_err();
        assert!(error.to_string().contains("the pod has a veth named net1 already"), "{error}");
    });
}
