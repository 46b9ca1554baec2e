//! sbr on a real kernel.

use std::net::UdpSocket;

use super::*;
use crate::error::Error;
use crate::nl::route::RouteFilter;

const SBR: Builtin = Builtin::Sbr;

/// A link with two IPv4 subnets and an IPv6 one, a default route and one more.
fn bridge(subnet: u32) -> String {
    format!(
        r#"{{"bridge":"br-{subnet}","isGateway":true,"ipam":{{"type":"static","addresses":[
            {{"address":"10.{subnet}.0.2/24","gateway":"10.{subnet}.0.1"}},{{"address":"fd{subnet}::2/64","gateway":"fd{subnet}::1"}}],
            "routes":[{{"dst":"0.0.0.0/0"}},{{"dst":"10.99.0.0/16","gw":"10.{subnet}.0.9"}}]}}}}"#
    )
}

fn rules(pod: &Pod) -> Vec<String> {
    let rules = pod.netlink().rules().unwrap().into_iter();
    rules.filter_map(|rule| Some(format!("{} {}", rule.source?, rule.table))).collect()
}

fn routes(pod: &Pod, table: u32) -> Vec<String> {
    let filter = RouteFilter { table: Some(table), ..RouteFilter::default() };
    let each = |route: &crate::nl::route::Route| {
        let gateway = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        format!("{}{gateway}", route.destination)
    };
    pod.netlink().routes(filter).unwrap().iter().map(each).collect()
}

fn restore(bed: &Bed, pod: &Pod, conf: &str, saved: &[Object]) {
    let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
    let states: Vec<&Object> = saved.iter().collect();
    bed.call(pod, "net1", conf, None, |host, call| SBR.restore(host, Some(&mut sandbox), call, &states)).unwrap();
}

/// The kernel adds the route to a link's neighbours when it has seen the carrier.
fn await_neighbours(pod: &Pod) {
    let until = Instant::now() + Duration::from_secs(5);
    while !routes(pod, 254).contains(&"fe80::/64".to_owned()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn kernel_sbr_gives_each_address_its_table_and_takes_the_rules_back() {
    on_node(|bed| {
        let pod = bed.pod();
        bed.add(Builtin::Bridge, &pod, "eth0", &bridge(70)).unwrap();
        let made = bed.add(Builtin::Bridge, &pod, "net1", &bridge(77).replace("0.0.0.0/0", "10.98.0.0/16")).unwrap();
        await_neighbours(&pod);
        let (attached, saved) = bed.add_behind(SBR, &pod, "net1", "{}", &made.result);
        let attached = attached.unwrap();
        let tables: Vec<_> = attached.result.routes.iter().map(|route| route.table).collect();
        assert_eq!((tables, &attached.result.ips), (vec![Some(100); 2], &made.result.ips));
        let bridged = bridge(77).replace("0.0.0.0/0", "10.98.0.0/16");
        bed.check(Builtin::Bridge, &pod, "net1", &bridged, &attached.result).unwrap();
        assert_eq!(rules(&pod), ["10.77.0.2/32 100", "fd77::2/128 101"]);
        let of_v4 =
            ["0.0.0.0/0 via 10.77.0.1", "10.77.0.0/24", "10.98.0.0/16 via 10.77.0.1", "10.99.0.0/16 via 10.77.0.9"];
        assert_eq!(routes(&pod, 100), of_v4);
        assert_eq!(routes(&pod, 101), ["fd77::/64", "::/0 via fd77::1"]);
        let main = routes(&pod, 254);
        assert!(
            main.contains(&"0.0.0.0/0 via 10.70.0.1".to_owned()) && !main.iter().any(|r| r.contains("77")),
            "{main:?}"
        );
        assert!(main.contains(&"fe80::/64".to_owned()), "neighbours are still found: {main:?}");
        bed.check(SBR, &pod, "net1", "{}", &attached.result).unwrap();
        for _ in 0..2 {
            restore(bed, &pod, "{}", &saved);
            assert_eq!(rules(&pod), Vec::<String>::new());
        }
        let error = bed.check(SBR, &pod, "net1", "{}", &attached.result).unwrap_err();
        assert!(
            matches!(&error, Error::Differs(text) if text == "no rule for packets from 10.77.0.2/32 in the pod"),
            "{error}"
        );
        bed.call(&pod, "net1", "{}", None, |host, call| SBR.restore(host, None, call, &[])).unwrap();
        bed.call(&pod, "net1", "{}", None, |host, call| SBR.del(host, call)).unwrap();
    });
}

/// The answer to a client behind the second link goes back by that link, whatever the main table knows.
#[test]
fn kernel_sbr_sends_answers_back_by_the_link_that_they_are_for() {
    on_node(|bed| {
        let pod = bed.pod();
        let made = bed.add(Builtin::Bridge, &pod, "net1", &bridge(77).replace("0.0.0.0/0", "10.98.0.0/16")).unwrap();
        let index = bed.link("br-77").unwrap().index;
        bed.netlink().add_address(index, net("192.0.2.1/32"), true).unwrap();
        let server = pod.udp("10.77.0.2:7");
        server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let is_answered = || {
            let client = UdpSocket::bind("192.0.2.1:0").unwrap();
            client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            client.send_to(b"x", "10.77.0.2:7").unwrap();
            let (_, from) = server.recv_from(&mut [0]).unwrap();
            server.send_to(b"y", from).is_ok() && client.recv(&mut [0]).is_ok()
        };
        assert!(!is_answered());
        bed.add_behind(SBR, &pod, "net1", "{}", &made.result).0.unwrap();
        assert!(is_answered());
    });
}

#[test]
fn kernel_sbr_with_a_table_adds_rules_only() {
    on_node(|bed| {
        let pod = bed.pod();
        let made = bed.add(Builtin::Bridge, &pod, "net1", &bridge(77)).unwrap();
        await_neighbours(&pod);
        let before = routes(&pod, 254);
        let conf = r#"{"table":300}"#;
        let (attached, saved) = bed.add_behind(SBR, &pod, "net1", conf, &made.result);
        let attached = attached.unwrap();
        assert_eq!(rules(&pod), ["10.77.0.2/32 300", "fd77::2/128 300"]);
        assert_eq!((routes(&pod, 254), routes(&pod, 300)), (before, Vec::new()));
        assert_eq!(attached.result, made.result);
        bed.check(SBR, &pod, "net1", conf, &attached.result).unwrap();
        assert!(bed.check(SBR, &pod, "net1", r#"{"table":301}"#, &attached.result).is_err());
        restore(bed, &pod, conf, &saved);
        assert_eq!(rules(&pod), Vec::<String>::new());
    });
}

#[test]
fn kernel_sbr_removes_the_reference_plugins_rules_by_the_links_addresses() {
    on_node(|bed| {
        let pod = bed.pod();
        bed.add(Builtin::Bridge, &pod, "net1", &bridge(77)).unwrap();
        for (source, table) in
            [("10.77.0.2/32", 100), ("10.77.0.2/32", 300), ("10.77.0.3/32", 101), ("10.77.0.0/24", 102)]
        {
            pod.netlink().add_rule(&crate::nl::rule::Rule::from(net(source), table)).unwrap();
        }
        restore(bed, &pod, r#"{"table":300}"#, &[]);
        assert!(rules(&pod).contains(&"10.77.0.2/32 100".to_owned()) && rules(&pod).len() == 3);
        restore(bed, &pod, "{}", &[]);
        assert!(!rules(&pod).contains(&"10.77.0.2/32 100".to_owned()) && rules(&pod).len() == 2);
    });
}

#[test]
fn kernel_sbr_that_fails_leaves_no_rule() {
    on_node(|bed| {
        let pod = bed.pod();
        let made = bed.add(Builtin::Bridge, &pod, "net1", &bridge(77)).unwrap();
        let mut wrong = made.result.clone();
        wrong.ips[0].gateway = Some("192.0.2.1".parse().unwrap());
        let error = bed.add_behind(SBR, &pod, "net1", "{}", &wrong).0.unwrap_err();
        assert!(error.to_string().contains("route 0.0.0.0/0 via 192.0.2.1"), "{error}");
        assert_eq!(rules(&pod), Vec::<String>::new());
        let error = bed.add_behind(SBR, &pod, "net2", "{}", &made.result).0.unwrap_err();
        assert_eq!(error.to_string(), "prevResult has no address on net2");
    });
}
