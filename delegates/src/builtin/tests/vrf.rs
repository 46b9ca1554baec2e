//! vrf on a kernel that has it.

use super::*;
use crate::apply::detach;
use crate::error::Error;
use crate::nl::link::Kind;
use crate::nl::route::RouteFilter;

const VRF: &str = r#"{"vrfname":"blue"}"#;

const BRIDGE: &str = r#"{"bridge":"br-t","ipam":{"type":"static","addresses":[
    {"address":"10.77.0.2/24","gateway":"10.77.0.1"},{"address":"fd77::2/64","gateway":"fd77::1"}],
    "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"},{"dst":"10.98.0.0/16","table":98}]}}"#;

/// A vrf behind a bridge, as one chain.
fn chained(bed: &Bed, pod: &Pod, ifname: &str, bridge: &str, vrf: &str) -> (Result<Attached>, CniResult, Vec<Object>) {
    let first = bed.add(Builtin::Bridge, pod, ifname, bridge).unwrap().result;
    let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
    let mut noted = Vec::new();
    let mut journal = |state: &Object| {
        noted.push(state.clone());
        Ok(())
    };
    let added = bed.call(pod, ifname, vrf, Some(&first), |_, call| {
        Builtin::Vrf.add(&mut Host::with_journal(bed.node(), &mut journal), &mut sandbox, call)
    });
    (added, first, noted)
}

fn in_table(pod: &Pod, table: u32) -> Vec<String> {
    let routes = pod.netlink().routes(RouteFilter { table: Some(table), ..RouteFilter::default() }).unwrap();
    let made = routes.into_iter().filter(|route| route.protocol == 3);
    made.map(|route| format!("{} via {}", route.destination, route.gateway.unwrap())).collect()
}

#[test]
fn kernel_on_uml_vrf_takes_the_link_with_its_addresses_and_routes_and_goes_with_it() {
    on_node(|bed| {
        bed.status(Builtin::Vrf, VRF).unwrap();
        let pod = bed.pod();
        let (added, first, noted) = chained(bed, &pod, "net1", BRIDGE, VRF);
        let attached = added.unwrap();
        assert_eq!((&attached.result, attached.links.len(), noted.len()), (&first, 0, 0));
        let vrf = pod.link("blue").unwrap();
        assert_eq!((&vrf.kind, vrf.up, vrf.group), (&Kind::Vrf(1), true, GROUP));
        assert_eq!(pod.link("net1").unwrap().master, Some(vrf.index));
        let mut held = pod.addresses("net1");
        held.sort();
        assert_eq!(held, ["10.77.0.2/24", "fd77::2/64"]);
        assert_eq!(in_table(&pod, 1), ["0.0.0.0/0 via 10.77.0.1", "::/0 via fd77::1"]);
        assert_eq!(in_table(&pod, 254), Vec::<String>::new());
        assert_eq!(in_table(&pod, 98), ["10.98.0.0/16 via 10.77.0.1"]);
        bed.check(Builtin::Vrf, &pod, "net1", VRF, &first).unwrap();
        bed.check(Builtin::Bridge, &pod, "net1", BRIDGE, &first).unwrap();

        let (added, _, noted) = chained(bed, &pod, "net2", r#"{"bridge":"br-t"}"#, VRF);
        added.unwrap();
        assert_eq!(noted, [], "a vrf of the same record needs no note");
        let (added, ..) = chained(bed, &pod, "net3", r#"{"bridge":"br-t"}"#, r#"{"vrfname":"red"}"#);
        added.unwrap();
        assert_eq!(pod.link("red").unwrap().kind, Kind::Vrf(2), "the first table that no vrf has");

        let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
        detach(&mut sandbox, GROUP, &[], None).unwrap();
        let left: Vec<String> = pod.netlink().links(None).unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(left, ["lo"]);
    });
}

#[test]
fn kernel_on_uml_vrf_restores_ipv6_addresses_that_the_kernel_drops() {
    on_node(|bed| {
        let pod = bed.pod();
        let bridge = r#"{"bridge":"br-t"}"#;
        let first = bed.add(Builtin::Bridge, &pod, "net1", bridge).unwrap().result;
        let link = pod.link("net1").unwrap();
        pod.netlink().add_address(link.index, net("fd77::2/64"), true).unwrap();
        let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
        bed.call(&pod, "net1", VRF, Some(&first), |host, call| Builtin::Vrf.add(host, &mut sandbox, call)).unwrap();
        assert_eq!(pod.addresses("net1"), ["fd77::2/64"]);
    });
}

#[test]
fn kernel_on_uml_vrf_of_somebody_else_stays_as_long_as_it_has_members() {
    on_node(|bed| {
        let pod = bed.pod();
        let blue = name("blue");
        let vrf = NewLink { up: true, ..NewLink::new(&blue, NewKind::Vrf { table: 7 }) };
        pod.netlink().add_link(&vrf).unwrap();
        let index = pod.link("blue").unwrap().index;
        let (near, far) = (name("own0"), name("own1"));
        let peer = Peer { name: &far, netns: None, mtu: None, mac: None, group: 0 };
        let own = NewLink { master: Some(index), ..NewLink::new(&near, NewKind::Veth(peer)) };
        pod.netlink().add_link(&own).unwrap();

        let (added, _, noted) = chained(bed, &pod, "net1", r#"{"bridge":"br-t"}"#, VRF);
        added.unwrap();
        assert_eq!((noted.len(), pod.link("net1").unwrap().master), (1, Some(index)));
        bed.restore(Builtin::Vrf, &pod, true, VRF, &noted).unwrap();
        assert_eq!(pod.link("net1").unwrap().master, None);
        assert!(pod.link("blue").is_some());
        pod.netlink().delete_link(pod.link("own0").unwrap().index).unwrap();
        bed.restore(Builtin::Vrf, &pod, true, VRF, &noted).unwrap();
        assert!(pod.link("blue").is_none(), "the last member has left");
        bed.restore(Builtin::Vrf, &pod, true, VRF, &noted).unwrap();
        bed.restore(Builtin::Vrf, &pod, false, VRF, &noted).unwrap();
    });
}

#[test]
fn kernel_on_uml_vrf_that_two_records_share_survives_the_first() {
    on_node(|bed| {
        let pod = bed.pod();
        // Another record of this pod made it.
        let other = 0x2222_2222;
        let blue = name("blue");
        let vrf = NewLink { up: true, group: other, ..NewLink::new(&blue, NewKind::Vrf { table: 7 }) };
        pod.netlink().add_link(&vrf).unwrap();
        let (added, _, noted) = chained(bed, &pod, "net1", r#"{"bridge":"br-t"}"#, VRF);
        added.unwrap();
        let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
        detach(&mut sandbox, other, &[], None).unwrap();
        assert_eq!(pod.link("net1").unwrap().master, Some(pod.link("blue").unwrap().index));
        bed.restore(Builtin::Vrf, &pod, true, VRF, &noted).unwrap();
        assert!(pod.link("blue").is_none());
    });
}

#[test]
fn kernel_on_uml_vrf_refuses_and_leaves_nothing() {
    on_node(|bed| {
        let pod = bed.pod();
        let first = bed.add(Builtin::Bridge, &pod, "net1", r#"{"bridge":"br-t"}"#).unwrap().result;
        let refused = |ifname: &str, conf: &str, previous: Option<&CniResult>, want: &str| {
            let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
            let added = bed.call(&pod, ifname, conf, previous, |host, call| Builtin::Vrf.add(host, &mut sandbox, call));
            let error = added.unwrap_err();
            assert!(error.to_string().contains(want), "{error}, want {want}");
        };
        refused("net1", VRF, None, "prevResult: missing, want the result of a plugin before this one");
        refused("net9", VRF, Some(&first), r#"CNI_IFNAME: got "net9", want a link of the pod"#);
        refused("net1", r#"{"vrfname":"net1"}"#, Some(&first), "net1 is a veth");
        assert!(pod.link("blue").is_none());
        let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
        bed.call(&pod, "net1", VRF, Some(&first), |host, call| Builtin::Vrf.add(host, &mut sandbox, call)).unwrap();
        refused("net1", VRF, Some(&first), "a link without a master: it is a port of blue");
        bed.add(Builtin::Bridge, &pod, "net2", r#"{"bridge":"br-t"}"#).unwrap();
        refused("net2", r#"{"vrfname":"blue","table":9}"#, Some(&first), "table: got 9, want 1, the table of vrf blue");
        assert_eq!(pod.link("net2").unwrap().master, None);
        let error = bed.check(Builtin::Vrf, &pod, "net2", VRF, &first).unwrap_err();
        assert!(matches!(&error, Error::Differs(text) if text.contains("index of the vrf is None")), "{error}");
    });
}
