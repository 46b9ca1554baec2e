use super::*;
use crate::networks::state::Slots;
use crate::overlay::testing::state;

const IPAM: &str = r#"{"ranges":[[{"subnet":"10.42.0.0/24"}],[{"subnet":"fd42::/64"}]],"exclude":["10.42.0.18/31"]}"#;

fn routed(direct: bool) -> NetworkState {
    let mut state = state(1, &[1, 2, 3], |n| format!("192.0.2.{n}"), Some(IPAM));
    let own = state.overlay.as_mut().unwrap();
    (own.routing.l3, own.routing.direct) = (true, direct);
    state
}

fn way(ways: &BTreeMap<IpNet, Way>, net: &str) -> Option<Way> {
    ways.get(&net.parse().unwrap()).copied()
}

#[test]
fn a_members_block_is_one_way_of_each_family_and_the_nodes_own_slots_are_one_each() {
    let mut state = routed(false);
    let (two, three) = (Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 3]));
    // A run that is no subnet, and a member at this node's own tunnel end.
    let own = state.overlay.as_mut().unwrap();
    own.members[1].slots = vec![Slots { first: 48, count: 5 }];
    own.members.push(own.members[0].clone());
    own.members[2].vtep = own.vtep;
    own.members[2].slots = vec![Slots { first: 200, count: 8 }];
    let ways = ways(&state, &[], &|_| true);
    for (net, wanted) in [
        ("10.42.0.32/28", Some(Way::Tunnel(two))),
        ("fd42::20/124", Some(Way::Tunnel(two))),
        ("10.42.0.48/30", Some(Way::Tunnel(three))),
        ("10.42.0.52/32", Some(Way::Tunnel(three))),
        ("10.42.0.200/29", None),
        ("10.42.0.17/32", Some(Way::Here(Mac([0x0a, 0x58, 10, 42, 0, 17])))),
        ("fd42::11/128", Some(Way::Here(Mac([0x0a, 0x58, 10, 42, 0, 17])))),
        ("10.42.0.18/32", None),
    ] {
        assert_eq!(way(&ways, net), wanted, "{net}");
    }
    // 14 of the 16 own slots have addresses.
    assert_eq!(ways.len(), 2 * (1 + 2 + 14));
}

#[test]
fn a_pod_that_is_named_wins_over_slots() {
    let mut state = routed(false);
    let mac = Mac([2, 9, 9, 9, 9, 9]);
    let endpoint = |ip: &str| Endpoint { mac, ips: vec![ip.parse().unwrap()] };
    state.overlay.as_mut().unwrap().members[0].endpoints = vec![endpoint("10.42.0.20"), endpoint("10.42.0.49")];
    let ways = ways(&state, &[endpoint("10.42.0.33"), endpoint("10.42.0.49")], &|_| false);
    assert_eq!(way(&ways, "10.42.0.20/32"), Some(Way::Tunnel(Mac([2, 0, 0, 0, 0, 2]))));
    assert_eq!(way(&ways, "10.42.0.33/32"), Some(Way::Here(mac)));
    assert_eq!(way(&ways, "10.42.0.49/32"), Some(Way::Here(mac)), "the node knows best what is here");
}

#[test]
fn a_node_one_hop_away_needs_no_tunnel_for_the_family_of_its_address() {
    let state = routed(true);
    let two: IpAddr = "192.0.2.2".parse().unwrap();
    let ways = ways(&state, &[], &|vtep| vtep == two);
    assert_eq!(way(&ways, "10.42.0.32/28"), Some(Way::Plain(two)));
    assert_eq!(way(&ways, "fd42::20/124"), Some(Way::Tunnel(Mac([2, 0, 0, 0, 0, 2]))));
    assert_eq!(way(&ways, "10.42.0.48/28"), Some(Way::Tunnel(Mac([2, 0, 0, 0, 0, 3]))));
}

#[test]
fn the_next_hop_is_the_first_address_or_follows_from_the_mac_address() {
    let hop = |net: &str| next_hop(&net.parse().unwrap(), Mac([2, 0, 0, 0x12, 0x34, 0x56])).to_string();
    assert_eq!((hop("10.42.0.32/28"), hop("fd42::20/124")), ("10.42.0.32".to_owned(), "fe80::ff:fe12:3456".to_owned()));
}
