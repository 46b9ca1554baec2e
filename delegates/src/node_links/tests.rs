use super::*;
use crate::nl::link::{Bridge, MacvlanMode, Vxlan};

fn link(index: u32, name: &str, kind: Kind) -> Link {
    Link {
        index,
        name: name.to_owned(),
        altnames: Vec::new(),
        kind,
        mac: None,
        mac_before_bond: None,
        permanent_mac: None,
        alias: String::new(),
        mtu: 1500,
        group: 0,
        master: None,
        parent: None,
        is_parent_elsewhere: false,
        parent_netns: None,
        up: true,
        lower_up: true,
        promisc: false,
        allmulti: false,
        tx_queue: 1000,
        operstate: 6,
        port: None,
    }
}

fn device(index: u32, name: &str) -> Link {
    link(index, name, Kind::Device)
}

fn port(index: u32, name: &str, master: u32) -> Link {
    Link { master: Some(master), ..device(index, name) }
}

fn on(index: u32, name: &str, kind: Kind, parent: u32) -> Link {
    Link { parent: Some(parent), ..link(index, name, kind) }
}

fn other(kind: &str) -> Kind {
    Kind::Other(kind.to_owned())
}

fn bridge() -> Kind {
    Kind::Bridge(Bridge::default())
}

fn address(net: &str, scope: u8) -> Address {
    let net = net.parse().unwrap();
    Address { index: 1, net, scope, permanent: true, tentative: false, dad_failed: false }
}

fn addressed(net: &str) -> Held {
    Held { addresses: vec![address(net, 0)], ..Held::default() }
}

fn routed(destination: &str, table: u32) -> Held {
    let route = Route { table, ..Route::new(destination.parse().unwrap(), 1) };
    Held { routes: vec![route], ..Held::default() }
}

/// Nothing of the node's, a global address, its InternalIP and its API server.
fn reserved() -> Reserved {
    Reserved {
        node_addresses: vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
        api_servers: vec!["10.0.0.1".parse().unwrap()],
        shared_links: vec!["ens*".to_owned()],
        ..Reserved::default()
    }
}

/// The verdict on the first of these links, where each holds what stands beside it.
fn judged(links: &[(Link, Held)]) -> Option<String> {
    let all: Vec<Link> = links.iter().map(|(link, _)| link.clone()).collect();
    let above = above(&all[0], &all);
    let of = |one: &Above| links.iter().find(|(link, _)| link.index == one.index).unwrap().1.clone();
    let held: Vec<Held> = above.iter().map(of).collect();
    verdict(&all[0], &above, &held, &reserved())
}

fn alone(name: &str, held: Held) -> Option<String> {
    judged(&[(device(2, name), held)])
}

#[test]
fn a_link_of_nobodys_may_be_taken() {
    assert_eq!(alone("eth1", Held::default()), None);
    let of_link = Held {
        addresses: vec![
            address("fe80::1/64", libc::RT_SCOPE_LINK),
            address("169.254.7.7/16", 0),
            address("10.9.0.1/24", libc::RT_SCOPE_LINK),
            address("127.0.0.2/8", libc::RT_SCOPE_HOST),
        ],
        routes: ["fe80::/64", "ff00::/8", "169.254.0.0/16", "224.0.0.0/4"]
            .map(|net| routed(net, MAIN).routes[0])
            .into(),
        api_servers: Vec::new(),
    };
    assert_eq!(alone("eth1", of_link), None, "link-local addresses do not count");
}

#[test]
fn what_makes_the_node_unreachable_is_kept_whatever_is_shared() {
    for name in ["eth0", "ens1"] {
        for default in ["0.0.0.0/0", "::/0"] {
            let verdict = alone(name, routed(default, MAIN)).unwrap();
            assert_eq!(verdict, format!("{name} carries the node's default route"));
        }
        for (net, own) in [("10.0.0.5/24", "10.0.0.5"), ("fd00::5/64", "fd00::5"), ("10.0.0.5/32", "10.0.0.5")] {
            let verdict = alone(name, addressed(net)).unwrap();
            assert_eq!(verdict, format!("{name} has the node's InternalIP {own}"));
        }
        let to_server = Held { api_servers: vec!["10.0.0.1".parse().unwrap()], ..Held::default() };
        assert_eq!(
            alone(name, to_server).unwrap(),
            format!("{name} carries the node's way to the API server 10.0.0.1")
        );
        assert_eq!(
            alone(name, addressed("10.0.0.1/24")).unwrap(),
            format!("{name} has the API server's address 10.0.0.1")
        );
    }
}

#[test]
fn other_addresses_and_routes_are_the_nodes_unless_they_are_shared() {
    for (held, why) in [
        (addressed("10.9.0.1/24"), "has the global address 10.9.0.1/24"),
        (addressed("2001:db8::1/64"), "has the global address 2001:db8::1/64"),
        (
            Held { addresses: vec![address("10.9.0.1/24", 200)], ..Held::default() },
            "has the global address 10.9.0.1/24",
        ),
        (routed("10.9.0.0/16", MAIN), "carries the node's route to 10.9.0.0/16"),
        (routed("10.244.1.7/32", MAIN), "carries the node's route to 10.244.1.7/32"),
        (routed("0.0.0.0/0", 100), "carries a default route of the node (table 100)"),
    ] {
        let verdict = alone("eth1", held.clone()).unwrap();
        assert_eq!(verdict, format!("eth1 {why}; the node's key sharedLinks may open eth1"));
        assert_eq!(alone("ens1", held), None, "{why}");
    }
}

#[test]
fn what_cannot_be_opened_is_told_first() {
    let both =
        [(device(2, "eth0"), addressed("10.9.0.1/24")), (on(3, "eth0.7", Kind::Vlan(7), 2), routed("::/0", MAIN))];
    assert_eq!(judged(&both).unwrap(), "eth0.7, which stands on eth0, carries the node's default route");
}

#[test]
fn parts_of_bridges_and_bonds_are_the_nodes_with_them() {
    let ports = [(port(2, "eth1", 5), Held::default()), (link(5, "br0", bridge()), addressed("10.0.0.5/24"))];
    assert_eq!(judged(&ports).unwrap(), "br0, of which eth1 is a port, has the node's InternalIP 10.0.0.5");
    let bonded = [
        (port(2, "eth0", 9), Held::default()),
        (port(3, "eth1", 9), Held::default()),
        (link(9, "bond0", other("bond")), routed("0.0.0.0/0", MAIN)),
    ];
    assert_eq!(judged(&bonded).unwrap(), "bond0, of which eth0 is a port, carries the node's default route");
    // eth0 bears bond0, bond0 a VLAN, and that is a port of the bridge with the address.
    let tower = [
        (port(2, "ens1", 3), Held::default()),
        (link(3, "bond0", other("bond")), Held::default()),
        (Link { master: Some(5), ..on(4, "bond0.7", Kind::Vlan(7), 3) }, Held::default()),
        (link(5, "br0", bridge()), addressed("fd00::5/64")),
    ];
    assert_eq!(
        judged(&tower).unwrap(),
        "br0, of which bond0.7 is a port, which stands on bond0, of which ens1 is a port, has the node's InternalIP fd00::5"
    );
    let shared = [(port(2, "ens1", 5), Held::default()), (link(5, "br0", bridge()), addressed("10.9.0.1/24"))];
    assert_eq!(judged(&shared), None, "the link that is taken is the one that must be named");
}

#[test]
fn what_bears_the_nodes_links_is_the_nodes() {
    let vxlan = Vxlan {
        vni: 1,
        port: 8472,
        local: None,
        underlay: Some(2),
        group: None,
        learning: false,
        ttl: 0,
        udp_checksum: true,
    };
    for (above, is_borne) in [
        (on(7, "up", Kind::Vlan(100), 2), true),
        (on(7, "up", Kind::Macvlan(MacvlanMode::Bridge), 2), true),
        (on(7, "up", other("gre"), 2), true),
        (link(7, "up", Kind::Vxlan(vxlan)), true),
        (on(7, "up", Kind::Veth, 2), false),
        (on(7, "up", other("netkit"), 2), false),
        (Link { is_parent_elsewhere: true, ..on(7, "up", Kind::Vlan(100), 2) }, false),
        (on(7, "up", Kind::Vlan(100), 3), false),
    ] {
        let kind = above.kind.clone();
        let verdict = judged(&[(device(2, "eth0"), Held::default()), (above, routed("0.0.0.0/0", MAIN))]);
        let expected = is_borne.then(|| "up, which stands on eth0, carries the node's default route".to_owned());
        assert_eq!(verdict, expected, "{kind:?}");
    }
}

#[test]
fn what_stands_beside_or_below_the_nodes_links_is_not() {
    // A VLAN of one's own on the node's card, and another port of the same bridge's uplink card.
    let vlan = [(on(3, "eth0.7", Kind::Vlan(7), 2), Held::default()), (device(2, "eth0"), routed("0.0.0.0/0", MAIN))];
    assert_eq!(judged(&vlan), None);
    // Links that point at each other end the walk.
    let ring = [(on(2, "a", Kind::Vlan(1), 3), Held::default()), (on(3, "b", Kind::Vlan(2), 2), Held::default())];
    assert_eq!(judged(&ring), None);
}
