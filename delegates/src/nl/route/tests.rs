use std::time::{Duration, Instant};

use super::*;
use crate::netns::testing::as_host;
use crate::nl::link::{Bridge, NewKind, NewLink};
use crate::poll::PollTimer;

fn on_a_link(test: impl FnOnce(&mut Netlink, u32) + Send) {
    as_host(|| {
        let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
        let name = "br0".parse().unwrap();
        let kind = NewKind::Bridge(Bridge::default());
        netlink.add_link(&NewLink { up: true, ..NewLink::new(&name, kind) }).unwrap();
        let index = netlink.link_by_name(&name).unwrap().unwrap().index;
        netlink.add_address(index, "192.0.2.7/24".parse().unwrap(), false).unwrap();
        netlink.add_address(index, "2001:db8::7/64".parse().unwrap(), true).unwrap();
        test(&mut netlink, index);
    });
}

fn main_routes(netlink: &mut Netlink) -> Vec<Route> {
    let filter = RouteFilter { table: Some(MAIN), ..RouteFilter::default() };
    let mut routes = netlink.routes(filter).unwrap();
    routes.retain(|route| route.protocol == libc::RTPROT_BOOT);
    routes
}

#[test]
fn kernel_a_route_keeps_every_field() {
    on_a_link(|netlink, index| {
        let v4 = Route {
            gateway: Some("192.0.2.1".parse().unwrap()),
            priority: Some(50),
            scope: Some(libc::RT_SCOPE_UNIVERSE),
            mtu: Some(1400),
            advmss: Some(1360),
            source: Some("192.0.2.7".parse().unwrap()),
            ..Route::new("198.51.100.0/24".parse().unwrap(), index)
        };
        let v6 = Route {
            gateway: Some("2001:db8::1".parse().unwrap()),
            priority: Some(70),
            scope: Some(libc::RT_SCOPE_UNIVERSE),
            ..Route::new("::/0".parse().unwrap(), index)
        };
        let onlink = Route {
            gateway: Some("203.0.113.1".parse().unwrap()),
            priority: None,
            scope: Some(libc::RT_SCOPE_UNIVERSE),
            onlink: true,
            ..Route::new("198.51.101.0/24".parse().unwrap(), index)
        };
        for route in [&v4, &onlink, &v6] {
            netlink.add_route(route).unwrap();
        }
        assert_eq!(main_routes(netlink), [v4, onlink, v6]);
        assert_eq!(crate::nl::errno(&netlink.add_route(&v4).unwrap_err()), Some(Errno::EEXIST));
        assert!(netlink.delete_route(&v4).unwrap());
        assert!(!netlink.delete_route(&v4).unwrap());
    });
}

#[test]
fn kernel_a_route_in_another_table_is_found_there_only() {
    on_a_link(|netlink, index| {
        let route = Route { table: 1000, ..Route::new("0.0.0.0/0".parse().unwrap(), index) };
        let filter = |table| RouteFilter { table: Some(table), ..RouteFilter::default() };
        assert_eq!(netlink.routes(filter(1000)).unwrap(), []);
        netlink.add_route(&route).unwrap();
        assert_eq!(netlink.routes(filter(1000)).unwrap().len(), 1);
        assert_eq!(netlink.default_route_link().unwrap(), None);
    });
}

#[test]
fn kernel_replacing_a_default_route_leaves_one() {
    on_a_link(|netlink, index| {
        let all = "0.0.0.0/0".parse().unwrap();
        netlink.add_route(&Route { gateway: Some("192.0.2.1".parse().unwrap()), ..Route::new(all, index) }).unwrap();
        let second = Route { gateway: Some("192.0.2.2".parse().unwrap()), ..Route::new(all, index) };
        netlink.replace_route(&second).unwrap();
        let gateways: Vec<_> = main_routes(netlink).iter().map(|route| route.gateway).collect();
        assert_eq!(gateways, [second.gateway]);
        assert_eq!(netlink.default_route_link().unwrap(), Some(index));
    });
}

#[test]
fn kernel_an_unreachable_gateway_is_refused_with_the_kernels_words() {
    on_a_link(|netlink, index| {
        let gateway = Some("203.0.113.9".parse().unwrap());
        let error = netlink.add_route(&Route { gateway, ..Route::new("198.51.100.0/24".parse().unwrap(), index) });
        assert_eq!(
            error.unwrap_err().to_string(),
            format!(
                "add route 198.51.100.0/24 via 203.0.113.9 on link {index}: Network is unreachable (Nexthop has invalid gateway)"
            )
        );
    });
}

#[test]
fn kernel_routes_by_a_link_are_those_of_any_next_hop_and_table() {
    #![expect(clippy::disallowed_methods, reason = "`ip` of iproute2 makes routes with several next hops")]
    on_a_link(|netlink, index| {
        let ip = |line: &str| {
            let done = std::process::Command::new("ip").args(line.split(' ')).output().unwrap();
            assert!(done.status.success(), "{line}: {done:?}");
        };
        let name = "br1".parse().unwrap();
        netlink.add_link(&NewLink { up: true, ..NewLink::new(&name, NewKind::Bridge(Bridge::default())) }).unwrap();
        let second = netlink.link_by_name(&name).unwrap().unwrap().index;
        netlink.add_address(second, "198.51.100.5/24".parse().unwrap(), true).unwrap();
        ip("route add default nexthop via 192.0.2.1 dev br0 nexthop via 198.51.100.1 dev br1");
        ip("route add 10.0.0.0/8 via 198.51.100.1 table 7");
        ip("-6 route add default dev br1");
        ip("route add blackhole 10.9.0.0/16");
        let told = |netlink: &mut Netlink, index| -> Vec<String> {
            let routes = netlink.routes(RouteFilter { index: Some(index), ..RouteFilter::default() }).unwrap();
            let mut told: Vec<_> = routes.iter().map(|r| format!("{} {}", r.destination, r.table)).collect();
            told.retain(|text| !text.starts_with("f"));
            told.sort();
            told
        };
        let all = ["0.0.0.0/0 254", "10.0.0.0/8 7", "198.51.100.0/24 254", "::/0 254"];
        assert_eq!(told(netlink, second), all);
        assert!(told(netlink, index).contains(&"0.0.0.0/0 254".to_owned()));
        assert_eq!(told(netlink, 4711), Vec::<String>::new());
    });
}

#[test]
fn kernel_each_next_hop_is_a_route_and_goes_by_itself_where_the_kernel_can() {
    #![expect(clippy::disallowed_methods, reason = "`ip` of iproute2 makes routes with several next hops")]
    on_a_link(|netlink, index| {
        let ip = |line: &str| {
            let done = std::process::Command::new("ip").args(line.split(' ')).output().unwrap();
            assert!(done.status.success(), "{line}: {done:?}");
        };
        ip("route add 10.0.0.0/8 nexthop via 192.0.2.1 dev br0 nexthop via 192.0.2.2 dev br0");
        // The kernel merges them.
        ip("-6 route add 2001:db8:8::/48 via 2001:db8::1 metric 70");
        ip("-6 route append 2001:db8:8::/48 via 2001:db8::2 metric 70");
        ip("-6 route append 2001:db8:8::/48 via 2001:db8::3 metric 70");
        ip("nexthop add id 7 via 192.0.2.3 dev br0");
        ip("route add 10.7.0.0/16 nhid 7");
        let told = |netlink: &mut Netlink| {
            let filter = RouteFilter { table: Some(MAIN), index: Some(index), ..RouteFilter::default() };
            let mut routes = netlink.routes(filter).unwrap();
            routes.retain(|route| route.gateway.is_some());
            routes.sort_by_key(|route| (route.destination, route.gateway));
            routes
        };
        let all = told(netlink);
        let gateways: Vec<_> = all.iter().map(|route| route.gateway.unwrap().to_string()).collect();
        let want = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2", "2001:db8::3"];
        assert_eq!(gateways, want);
        let whole: Vec<bool> = all.iter().map(Route::goes_whole).collect();
        assert_eq!(whole, [true, true, true, false, false, false]);
        for (gone, left) in [(4, 5), (1, 3), (2, 2), (3, 1)] {
            assert!(netlink.delete_route(&all[gone]).unwrap(), "{:?}", all[gone]);
            assert_eq!(told(netlink).len(), left, "{:?}", all[gone]);
        }
        assert_eq!(told(netlink)[0].gateway, all[5].gateway);
    });
}

#[test]
fn kernel_the_nodes_own_addresses_are_told_from_others() {
    on_a_link(|netlink, index| {
        netlink.add_address(index, "192.0.2.77/24".parse().unwrap(), true).unwrap();
        // The kernel gives an IPv6 address its route a moment later.
        let mut timer = PollTimer::until(Instant::now() + Duration::from_secs(5));
        while !netlink.is_own_address("2001:db8::7".parse().unwrap()).unwrap() && timer.pause() {}
        for (address, is_own) in [
            ("192.0.2.77", true),
            ("192.0.2.78", false),
            ("2001:db8::7", true),
            ("2001:db8::8", false),
            ("203.0.113.1", false),
        ] {
            assert_eq!(netlink.is_own_address(address.parse().unwrap()).unwrap(), is_own, "{address}");
        }
    });
}
