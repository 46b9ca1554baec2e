//! The node's own links on a real kernel: what definitions of tenants may not take or change.
#![expect(clippy::disallowed_methods, reason = "`ip` of iproute2 sets the scenes")]

use super::*;
use crate::call::Origin;
use crate::error::Error;
use crate::poll::PollTimer;

/// A line of `ip`.
fn ip(line: &str) {
    let done = std::process::Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {line}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A call on a fresh pod, of a tenant or of the node.
fn on_call<T>(
    bed: &Bed,
    reserved: &Reserved,
    is_tenants: bool,
    conf: &str,
    run: impl FnOnce(&mut Host<'_>, &mut Sandbox, &Call<'_>) -> T,
) -> T {
    let pod = bed.pod();
    bed.call(&pod, "net1", conf, None, |_, call| {
        let node = Node { reserved, ..bed.node() };
        let mut sandbox = Sandbox::open(&pod.path, &node).unwrap();
        let call = Call { origin: Origin { is_tenants, ..ours() }, ..call.clone() };
        run(&mut Host::new(node), &mut sandbox, &call)
    })
}

/// Why a tenant's definition is refused, and that the node's own text is not; nothing when it is not refused.
fn refusal(bed: &Bed, reserved: &Reserved, kind: Builtin, conf: &str) -> Option<String> {
    on_call(bed, reserved, false, conf, |host, _, call| kind.admit(host, call)).unwrap();
    match on_call(bed, reserved, true, conf, |host, _, call| kind.admit(host, call)) {
        Ok(()) => None,
        Err(Error::Config(findings)) => Some(findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        Err(other) => panic!("{conf}: {other}"),
    }
}

fn lending(device: &str) -> String {
    format!(r#"{{"device":"{device}"}}"#)
}

fn passthru(master: &str) -> String {
    format!(r#"{{"master":"{master}","mode":"passthru"}}"#)
}

/// How a device is refused, key and value apart.
fn kept(bed: &Bed, reserved: &Reserved, device: &str) -> Option<String> {
    let lent = refusal(bed, reserved, Builtin::HostDevice, &lending(device));
    let start = format!("device: got \"{device}\", want a device that is not the node's own: ");
    let why = lent.map(|text| text.strip_prefix(&start).unwrap_or_else(|| panic!("{text}")).to_owned());
    let taken = refusal(bed, reserved, Builtin::Macvlan, &passthru(device));
    let same = why.as_ref().map(|why| {
        format!("master: got \"{device}\", want for mode passthru a link that is not the node's own: {why}")
    });
    assert_eq!(taken, same, "passthru is judged like host-device");
    why
}

#[test]
fn kernel_the_link_of_the_default_route_is_kept_in_every_family_and_for_every_selector() {
    on_node(|bed| {
        let reserved = Reserved { shared_links: vec!["*".to_owned()], ..Reserved::default() };
        for (n, route) in ["via 192.0.2.1 dev eth", "dev eth"].iter().enumerate() {
            bed.master(&format!("eth{n}"), 1500, Some("192.0.2.9/24"));
            ip(&format!("route add default {route}{n} metric {}", 100 + n));
        }
        bed.master("eth6", 1500, Some("2001:db8::9/64"));
        ip("-6 route add default via 2001:db8::1 dev eth6");
        for device in ["eth0", "eth1", "eth6"] {
            let why = kept(bed, &reserved, device);
            assert_eq!(why.unwrap(), format!("{device} carries the node's default route"));
            assert_eq!(kept(bed, &reserved, &format!("{device}-x")), None, "the other end leads nowhere");
        }
        let mac = bed.link("eth0").unwrap().mac.unwrap();
        let by_address = refusal(bed, &reserved, Builtin::HostDevice, &format!(r#"{{"hwaddr":"{mac}"}}"#));
        let why = "want a device that is not the node's own: eth0 carries the node's default route";
        assert_eq!(by_address.unwrap(), format!("hwaddr: got {mac}, {why}"));
        let unnamed = refusal(bed, &reserved, Builtin::Macvlan, r#"{"mode":"passthru"}"#).unwrap();
        let why = "want for mode passthru a link that is not the node's own: eth0 carries the node's default route";
        assert_eq!(unnamed, format!("master: missing, {why}"));
    });
}

#[test]
fn kernel_every_next_hop_of_a_default_route_is_kept() {
    on_node(|bed| {
        bed.master("eth0", 1500, Some("192.0.2.9/24"));
        bed.master("eth1", 1500, Some("198.51.100.9/24"));
        ip("route add default nexthop via 192.0.2.1 dev eth0 nexthop via 198.51.100.1 dev eth1");
        let shared = Reserved { shared_links: vec!["eth1".to_owned()], ..Reserved::default() };
        for device in ["eth0", "eth1"] {
            assert_eq!(kept(bed, &shared, device).unwrap(), format!("{device} carries the node's default route"));
        }
    });
}

#[test]
fn kernel_ports_and_parents_of_the_nodes_links_are_kept() {
    on_node(|bed| {
        for (device, bridge) in [("eth0", "br0"), ("eth1", "br1")] {
            bed.master(device, 1500, None);
            ip(&format!("link add {bridge} type bridge"));
            ip(&format!("link set {device} master {bridge}"));
            ip(&format!("link set {bridge} up"));
        }
        bed.master("eth2", 1500, None);
        ip("link add shim0 link eth2 type macvlan mode bridge");
        ip("link set shim0 up");
        for line in ["192.0.2.9/24 dev br0", "10.0.0.5/24 dev br1", "10.9.0.1/24 dev shim0"] {
            ip(&format!("address add {line}"));
        }
        ip("route add default via 192.0.2.1 dev br0");
        let reserved = Reserved { node_addresses: vec!["10.0.0.5".parse().unwrap()], ..Reserved::default() };
        for (device, why) in [
            ("eth0", "br0, of which eth0 is a port, carries the node's default route"),
            ("br0", "br0 carries the node's default route"),
            ("eth1", "br1, of which eth1 is a port, has the node's InternalIP 10.0.0.5"),
            (
                "eth2",
                "shim0, which stands on eth2, has the global address 10.9.0.1/24; the node's key sharedLinks may open eth2",
            ),
        ] {
            assert_eq!(kept(bed, &reserved, device).as_deref(), Some(why));
        }
        // Layer 2 on the node's links is no harm.
        for (kind, conf) in [
            (Builtin::Bridge, r#"{"bridge":"br1"}"#),
            (Builtin::Macvlan, r#"{"master":"br0","mode":"bridge"}"#),
            (Builtin::Macvlan, r#"{"mode":"private"}"#),
            (Builtin::Macvlan, r#"{"master":"br0","mode":"vepa"}"#),
            (Builtin::Ipvlan, r#"{"master":"br0"}"#),
            (Builtin::Vlan, r#"{"master":"br0","vlanId":7,"ipam":{"type":"x"}}"#),
            (Builtin::Macvlan, r#"{"master":"br0","mode":"passthru","linkInContainer":true}"#),
        ] {
            assert_eq!(refusal(bed, &reserved, kind, conf), None, "{conf}");
        }
    });
}

#[test]
fn kernel_on_uml_bonds_and_vlans_with_the_default_route_keep_what_bears_them() {
    on_node(|bed| {
        ip("link add bond0 type bond");
        for device in ["eth0", "eth1"] {
            bed.master(device, 1500, None);
            ip(&format!("link set {device} down"));
            ip(&format!("link set {device} master bond0"));
        }
        ip("link set bond0 up");
        ip("link add link bond0 name bond0.100 type vlan id 100");
        ip("link set bond0.100 up");
        ip("address add 192.0.2.9/24 dev bond0.100");
        ip("route add default via 192.0.2.1 dev bond0.100");
        let reserved = Reserved::default();
        for (device, why) in [
            ("bond0.100", "bond0.100 carries the node's default route"),
            ("bond0", "bond0.100, which stands on bond0, carries the node's default route"),
            ("eth1", "bond0.100, which stands on bond0, of which eth1 is a port, carries the node's default route"),
        ] {
            assert_eq!(kept(bed, &reserved, device).as_deref(), Some(why));
        }
    });
}

#[test]
fn kernel_the_way_to_the_api_server_is_kept() {
    on_node(|bed| {
        for (device, address) in [("eth0", "192.0.2.9/24"), ("eth1", "198.51.100.9/24"), ("eth2", "203.0.113.9/24")] {
            bed.master(device, 1500, Some(address));
        }
        ip("route add 10.0.0.0/24 via 198.51.100.1");
        let reserved = Reserved {
            api_servers: ["10.0.0.1", "203.0.113.9", "10.96.0.1"].map(|ip| ip.parse().unwrap()).into(),
            shared_links: vec!["*".to_owned()],
            ..Reserved::default()
        };
        assert_eq!(kept(bed, &reserved, "eth1").unwrap(), "eth1 carries the node's way to the API server 10.0.0.1");
        assert_eq!(kept(bed, &reserved, "eth2").unwrap(), "eth2 has the API server's address 203.0.113.9");
        assert_eq!(kept(bed, &reserved, "eth0"), None);
    });
}

#[test]
fn kernel_shared_links_open_addresses_and_routes_and_link_local_ones_need_no_opening() {
    on_node(|bed| {
        bed.master("eth1", 1500, Some("10.9.0.1/24"));
        bed.master("eth2", 1500, Some("2001:db8::1/64"));
        bed.master("eth3", 1500, None);
        ip("route add 10.244.1.7/32 dev eth3");
        bed.master("eth4", 1500, Some("169.254.7.7/16"));
        bed.master("eth5", 1500, None);
        let none = Reserved::default();
        for (device, why) in [
            ("eth1", "has the global address 10.9.0.1/24"),
            ("eth2", "has the global address 2001:db8::1/64"),
            ("eth3", "carries the node's route to 10.244.1.7/32"),
        ] {
            let refused = format!("{device} {why}; the node's key sharedLinks may open {device}");
            assert_eq!(kept(bed, &none, device), Some(refused));
            let shared = Reserved { shared_links: vec!["eth?".into(), "e*1".into(), "e*3".into()], ..none.clone() };
            assert_eq!(kept(bed, &shared, device).is_some(), device == "eth2");
        }
        for device in ["eth4", "eth5"] {
            assert_eq!(kept(bed, &none, device), None);
        }
        // What is not there, or in use by others, the ADD says.
        assert_eq!(kept(bed, &none, "eth9"), None);
    });
}

#[test]
fn kernel_a_device_that_became_the_nodes_after_it_was_admitted_is_not_lent() {
    on_node(|bed| {
        bed.master("eth1", 1500, Some("10.9.0.1/24"));
        let (kind, conf) = (Builtin::HostDevice, lending("eth1"));
        let lent = on_call(bed, &Reserved::default(), true, &conf, |host, sandbox, call| kind.add(host, sandbox, call));
        assert!(matches!(&lent, Err(Error::Config(findings)) if findings[0].to_string().contains("10.9.0.1/24")));
        assert!(bed.link("eth1").is_some());
    });
}

#[test]
fn kernel_a_vlan_0_does_not_take_the_nodes_frames_with_priorities() {
    on_node(|bed| {
        bed.master("eth0", 1500, Some("192.0.2.9/24"));
        ip("route add default via 192.0.2.1");
        for conf in [r#"{"master":"eth0","ipam":{"type":"x"}}"#, r#"{"master":"eth0","vlanId":0,"ipam":{"type":"x"}}"#]
        {
            let refused = refusal(bed, &Reserved::default(), Builtin::Vlan, conf).unwrap();
            let want =
                "vlanId: got 0, want 1 to 4094 on a link of the node's own: eth0 carries the node's default route";
            assert_eq!(refused, want);
        }
        assert_eq!(
            refusal(bed, &Reserved::default(), Builtin::Vlan, r#"{"master":"eth0-x","ipam":{"type":"x"}}"#),
            None
        );
    });
}

#[test]
fn kernel_flannel_hands_no_link_of_the_nodes_on() {
    on_node(|bed| {
        bed.master("eth0", 1500, Some("192.0.2.9/24"));
        ip("route add default via 192.0.2.1");
        let file = bed.state.path().join("subnet.env");
        let text =
            "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        std::fs::write(&file, text).unwrap();
        let conf =
            format!(r#"{{"subnetFile":"{}","delegate":{{"type":"host-device","device":"eth0"}}}}"#, file.display());
        let refused = refusal(bed, &Reserved::default(), Builtin::Flannel, &conf).unwrap();
        assert!(refused.contains("eth0 carries the node's default route"), "{refused}");
    });
}

#[test]
fn kernel_an_ipvlan_does_not_get_an_address_of_the_node() {
    on_node(|bed| {
        bed.master("eth0", 1500, Some("192.0.2.9/24"));
        bed.master("eth1", 1500, Some("2001:db8::9/64"));
        // The kernel gives an IPv6 address its route a moment later.
        let mut timer = PollTimer::until(bed.node().deadline);
        while !bed.netlink().is_own_address("2001:db8::9".parse().unwrap()).unwrap() && timer.pause() {}
        for (address, is_own) in [("192.0.2.9/24", true), ("2001:db8::9/64", true), ("192.0.2.10/24", false)] {
            let conf = format!(
                r#"{{"cniVersion":"1.1.0","master":"eth0","ipam":{{"type":"static","addresses":[{{"address":"{address}"}}]}}}}"#
            );
            for is_tenants in [true, false] {
                let added = on_call(bed, &Reserved::default(), is_tenants, &conf, |host, sandbox, call| {
                    Builtin::Ipvlan.add(host, sandbox, call)
                });
                let refused = matches!(&added, Err(Error::Config(findings)) if findings[0].path == "ipam");
                assert_eq!(refused, is_own && is_tenants, "{address} {added:?}");
            }
        }
    });
}

#[test]
fn kernel_an_interface_plugin_gives_no_addresses_to_tenants() {
    on_node(|bed| {
        for (conf, refused) in [
            (r#"{"ipam":{"type":"host-device"},"device":"eth0"}"#, true),
            (r#"{"ipam":{"type":"host-local"}}"#, false),
            (r#"{"ipam":{"type":"whereabouts"}}"#, false),
            (r#"{"ipam":{}}"#, false),
            ("{}", false),
        ] {
            let judge = |is_tenants| {
                on_call(bed, &Reserved::default(), is_tenants, conf, |_, _, call| crate::builtin::admit_addresses(call))
            };
            assert_eq!(judge(true).is_err(), refused, "{conf}");
            assert!(judge(false).is_ok(), "{conf}");
        }
    });
}
