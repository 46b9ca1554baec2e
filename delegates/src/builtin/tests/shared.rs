//! What attachments change of links that others use: it goes with the last of its owners, and not before.

mod default_bridge;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::sync::LazyLock;

use attachments::bind::Source;

use super::*;
use crate::call::Origin;
use crate::nl::link::Bridge;
use crate::nl::neighbour::ALL_ZERO;
use crate::ownership::Ownership;
use crate::shared::OURS;

/// Who asks: the node itself, or a tenant with a definition of this name.
fn origin(definition: &str) -> Origin<'static> {
    static SOURCES: LazyLock<[Source; 3]> = LazyLock::new(|| {
        let definition = |name: &str| Source::Definition(serde_json::from_str(name).unwrap());
        let json = |name: &str| format!(r#"{{"namespace":"default","name":"{name}"}}"#);
        [Source::Node("node-net".parse().unwrap()), definition(&json("a")), definition(&json("b"))]
    });
    let which = ["node", "a", "b"].iter().position(|name| *name == definition).unwrap();
    Origin {
        source: &SOURCES[which],
        is_tenants: which > 0,
        is_default: false,
        address_dir: None,
        ipam_claim: None,
        address_set: None,
    }
}

impl Bed {
    fn add_as(&self, who: &str, kind: Builtin, pod: &Pod, conf: &str) -> Result<Attached> {
        let mut sandbox = Sandbox::open(&pod.path, &self.node()).unwrap();
        self.call(pod, "net1", conf, None, |host, call| {
            kind.add(host, &mut sandbox, &Call { origin: origin(who), ..call.clone() })
        })
    }

    fn admit(&self, who: &str, kind: Builtin, conf: &str, reserved: &Reserved) -> Result<()> {
        self.call(&self.pod(), "net1", conf, None, |_, call| {
            let mut host = Host::new(Node { reserved, ..self.node() });
            kind.admit(&mut host, &Call { origin: origin(who), ..call.clone() })
        })
    }

    fn remove(&self, kind: Builtin, pod: &Pod, conf: &str) {
        self.del(kind, pod, "net1", conf, None).unwrap();
    }

    /// Somebody else's bridge.
    fn bridge(&self, text: &str) -> Link {
        self.netlink().add_link(&NewLink::new(&name(text), NewKind::Bridge(Bridge::default()))).unwrap();
        self.link(text).unwrap()
    }

    fn peers(&self, device: &str) -> Vec<String> {
        let index = self.link(device).unwrap().index;
        let entries = self.netlink().forwardings(index).unwrap();
        let mut peers: Vec<String> =
            entries.iter().filter(|e| e.mac == ALL_ZERO).filter_map(|e| e.remote).map(|ip| ip.to_string()).collect();
        peers.sort();
        peers
    }

    fn held(&self, link: &str) -> Vec<String> {
        let index = self.link(link).unwrap().index;
        let held = self.netlink().addresses(Some(index)).unwrap();
        held.into_iter().filter(|address| address.scope == 0).map(|address| address.net.to_string()).collect()
    }

    /// Links that have a file of owners.
    fn owned(&self) -> Vec<String> {
        let files = fs::read_dir(self.state.path().join("shared")).into_iter().flatten();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn sweep(&self, living: &[&Pod]) {
        let living: BTreeSet<ContainerId> = living.iter().map(|pod| pod.container.clone()).collect();
        let ownership = Ownership { living: &living, departed: &HashSet::new(), is_recorded: &|_| false };
        crate::builtin::sweep(&mut Host::new(self.node()), &ownership).unwrap();
    }
}

fn sysctl(key: &str) -> String {
    crate::netns::read_sysctl(&key.split('/').collect::<Vec<_>>()).unwrap().unwrap()
}

fn overlay(peers: &str) -> String {
    format!(r#"{{"vni":4200,"underlay":"eth1","peers":[{peers}]}}"#)
}

fn gateway(address: &str, more: &str) -> String {
    format!(
        r#"{{"bridge":"br0","isGateway":true{more},"ipam":{{"type":"static","addresses":[{{"address":"{address}"}}]}}}}"#
    )
}

#[test]
fn kernel_shared_a_peer_goes_with_the_last_attachment_that_names_it() {
    on_node(|bed| {
        bed.master("eth1", 1500, Some("192.0.2.1/24"));
        let (one, two) = (overlay(r#""192.0.2.2","192.0.2.3""#), overlay(r#""192.0.2.1","192.0.2.3","192.0.2.4""#));
        for first_goes_first in [true, false] {
            let (a, b, c) = (bed.pod(), bed.pod(), bed.pod());
            bed.add_as("a", Builtin::Vxlan, &a, &one).unwrap();
            bed.add_as("b", Builtin::Vxlan, &b, &two).unwrap();
            bed.add_as("b", Builtin::Vxlan, &c, &two).unwrap();
            assert_eq!(bed.peers("vx4200"), ["192.0.2.2", "192.0.2.3", "192.0.2.4"]);
            if first_goes_first {
                bed.remove(Builtin::Vxlan, &a, &one);
                assert_eq!(bed.peers("vx4200"), ["192.0.2.3", "192.0.2.4"]);
                bed.remove(Builtin::Vxlan, &b, &two);
                assert_eq!(bed.peers("vx4200"), ["192.0.2.3", "192.0.2.4"], "another pod of the definition is there");
                bed.remove(Builtin::Vxlan, &c, &two);
            } else {
                bed.remove(Builtin::Vxlan, &c, &two);
                bed.remove(Builtin::Vxlan, &b, &two);
                assert_eq!(bed.peers("vx4200"), ["192.0.2.2", "192.0.2.3"]);
                bed.remove(Builtin::Vxlan, &b, &two);
                bed.remove(Builtin::Vxlan, &a, &one);
            }
            assert!(bed.link("vx4200").is_none() && bed.owned().is_empty(), "{:?}", bed.owned());
        }
    });
}

#[test]
fn kernel_shared_a_peer_that_nobody_of_ours_added_stays() {
    on_node(|bed| {
        bed.master("eth1", 1500, Some("192.0.2.1/24"));
        let (kept, pod) = (bed.pod(), bed.pod());
        bed.add(Builtin::Vxlan, &kept, "net1", &overlay("")).unwrap();
        let device = bed.link("vx4200").unwrap().index;
        // As a version without owners left it, or an administrator.
        bed.netlink().append_forwarding(device, ALL_ZERO, "192.0.2.9".parse().unwrap()).unwrap();
        let conf = overlay(r#""192.0.2.9","192.0.2.8""#);
        bed.add(Builtin::Vxlan, &pod, "net1", &conf).unwrap();
        bed.remove(Builtin::Vxlan, &pod, &conf);
        assert_eq!(bed.peers("vx4200"), ["192.0.2.9"]);
    });
}

#[test]
fn kernel_shared_the_broadcast_address_of_the_underlay_is_no_peer() {
    on_node(|bed| {
        bed.master("eth1", 1500, Some("192.0.2.1/24"));
        let before = bed.links();
        let error = bed.add(Builtin::Vxlan, &bed.pod(), "net1", &overlay(r#""192.0.2.255""#)).unwrap_err();
        let want = "peers: got 192.0.2.255, want no broadcast address: 192.0.2.255 is that of 192.0.2.0/24 on eth1";
        assert!(matches!(&error, crate::error::Error::Config(_)) && error.to_string() == want, "{error}");
        assert_eq!(bed.links(), before);
    });
}

#[test]
fn kernel_shared_an_administrators_bridge_is_as_it_was_after_the_last_pod() {
    on_node(|bed| {
        let was = bed.bridge("br0");
        assert_eq!((was.up, was.promisc, sysctl("ipv6/conf/br0/accept_ra").as_str()), (false, false, "1"));
        let is = || {
            let link = bed.link("br0").unwrap();
            (link.up, link.promisc, link.mtu, sysctl("ipv6/conf/br0/accept_ra"))
        };
        let plain = r#"{"bridge":"br0"}"#;
        let noisy = r#"{"bridge":"br0","promiscMode":true,"mtu":1400}"#;
        for noisy_goes_first in [true, false] {
            let (a, b, c) = (bed.pod(), bed.pod(), bed.pod());
            bed.add_as("a", Builtin::Bridge, &a, plain).unwrap();
            assert_eq!(is(), (true, false, 1500, "0".to_owned()));
            bed.add_as("b", Builtin::Bridge, &b, noisy).unwrap();
            bed.add_as("a", Builtin::Bridge, &c, noisy).unwrap();
            assert_eq!(is(), (true, true, 1400, "0".to_owned()));
            bed.remove(Builtin::Bridge, &c, noisy);
            assert_eq!(is(), (true, true, 1400, "0".to_owned()), "another pod needs all of it");
            if noisy_goes_first {
                bed.remove(Builtin::Bridge, &b, noisy);
                assert_eq!(is(), (true, false, 1500, "0".to_owned()));
                bed.remove(Builtin::Bridge, &a, plain);
            } else {
                bed.remove(Builtin::Bridge, &a, plain);
                assert_eq!(is(), (true, true, 1400, "0".to_owned()));
                bed.remove(Builtin::Bridge, &b, noisy);
            }
            assert_eq!(is(), (true, was.promisc, was.mtu, "1".to_owned()));
            assert_eq!(bed.owned(), Vec::<String>::new());
        }
        // What was so before anybody came stays so.
        let on = LinkChange { up: Some(true), promisc: Some(true), ..LinkChange::default() };
        bed.netlink().set_link(was.index, &on).unwrap();
        let pod = bed.pod();
        bed.add(Builtin::Bridge, &pod, "net1", noisy).unwrap();
        bed.remove(Builtin::Bridge, &pod, noisy);
        assert_eq!(is(), (true, true, 1500, "1".to_owned()));
        // And what an administrator has set since.
        bed.add(Builtin::Bridge, &pod, "net1", plain).unwrap();
        crate::netns::write_sysctl(&["ipv6", "conf", "br0", "accept_ra"], "2").unwrap();
        bed.remove(Builtin::Bridge, &pod, plain);
        assert_eq!(sysctl("ipv6/conf/br0/accept_ra"), "2");
    });
}

#[test]
fn kernel_shared_a_bridge_of_ours_stays_as_it_is_and_has_no_owners() {
    on_node(|bed| {
        let pod = bed.pod();
        let conf = gateway("10.77.0.2/24", r#","promiscMode":true"#);
        bed.add_as("a", Builtin::Bridge, &pod, &conf).unwrap();
        assert_eq!(bed.link("br0").unwrap().group, OURS);
        assert_eq!(bed.owned(), Vec::<String>::new());
        bed.remove(Builtin::Bridge, &pod, &conf);
        let link = bed.link("br0").unwrap();
        assert!(link.up && link.promisc);
        assert_eq!((bed.held("br0"), sysctl("ipv4/ip_forward").as_str()), (vec!["10.77.0.1/24".to_owned()], "1"));
    });
}

#[test]
fn kernel_shared_a_gateway_on_an_administrators_bridge_goes_with_its_last_pod() {
    on_node(|bed| {
        bed.bridge("br0");
        let (a, b) = (bed.pod(), bed.pod());
        let (one, two) = (gateway("10.77.0.2/24", ""), gateway("10.77.0.3/24", ""));
        bed.add_as("a", Builtin::Bridge, &a, &one).unwrap();
        bed.add_as("a", Builtin::Bridge, &b, &two).unwrap();
        bed.remove(Builtin::Bridge, &a, &one);
        assert_eq!(bed.held("br0"), ["10.77.0.1/24"]);
        bed.remove(Builtin::Bridge, &b, &two);
        assert_eq!(bed.held("br0"), Vec::<String>::new());
        assert_eq!(sysctl("ipv4/ip_forward"), "1", "others may count on it by now");
        // An address that the bridge has already is nobody's of ours.
        bed.netlink().add_address(bed.link("br0").unwrap().index, net("10.77.0.1/24"), false).unwrap();
        bed.add_as("a", Builtin::Bridge, &a, &one).unwrap();
        bed.remove(Builtin::Bridge, &a, &one);
        assert_eq!(bed.held("br0"), ["10.77.0.1/24"]);
    });
}

#[test]
fn kernel_shared_force_address_replaces_what_the_same_network_put_there() {
    for is_ours in [true, false] {
        on_node(|bed| {
            let (a, b) = (bed.pod(), bed.pod());
            if !is_ours {
                bed.bridge("br0");
            }
            let force = r#","forceAddress":true"#;
            bed.add_as("a", Builtin::Bridge, &a, &gateway("10.77.0.2/24", "")).unwrap();
            let before = bed.links();
            let error = bed.add_as("b", Builtin::Bridge, &b, &gateway("10.78.0.2/24", force)).unwrap_err();
            let want =
                "forceAddress: got true, want false: address 10.77.0.1/24 of bridge br0 is that of network default/a";
            assert!(matches!(&error, crate::error::Error::Config(_)) && error.to_string() == want, "{error}");
            assert_eq!((bed.held("br0"), bed.links()), (vec!["10.77.0.1/24".to_owned()], before));
            bed.remove(Builtin::Bridge, &b, &gateway("10.78.0.2/24", force));

            // Its own network may, also when the first pod is still there.
            bed.add_as("a", Builtin::Bridge, &b, &gateway("10.78.0.2/24", force)).unwrap();
            assert_eq!(bed.held("br0"), ["10.78.0.1/24"]);
            bed.remove(Builtin::Bridge, &a, &gateway("10.77.0.2/24", ""));
            assert_eq!(bed.held("br0"), ["10.78.0.1/24"]);
            bed.remove(Builtin::Bridge, &b, &gateway("10.78.0.2/24", force));
            assert_eq!(bed.held("br0").len(), usize::from(is_ours));
        });
    }
}

#[test]
fn kernel_shared_force_address_leaves_the_nodes_own_address_to_the_nodes_own_networks() {
    on_node(|bed| {
        let index = bed.bridge("br0").index;
        bed.netlink().add_address(index, net("10.1.0.1/24"), false).unwrap();
        let before = bed.netlink().keep_addresses(index).unwrap();
        let (a, b) = (bed.pod(), bed.pod());
        let conf = |address: &str| gateway(address, r#","forceAddress":true"#);
        let error = bed.add_as("a", Builtin::Bridge, &a, &conf("10.77.0.2/24")).unwrap_err();
        assert!(error.to_string().ends_with("address 10.1.0.1/24 of bridge br0 is the node's own"), "{error}");
        // The node's own text may, and what was there comes back with the last who needed it away.
        bed.add_as("node", Builtin::Bridge, &a, &conf("10.77.0.2/24")).unwrap();
        bed.add_as("node", Builtin::Bridge, &b, &conf("10.77.0.3/24")).unwrap();
        assert_eq!(bed.held("br0"), ["10.77.0.1/24"]);
        bed.remove(Builtin::Bridge, &a, &conf("10.77.0.2/24"));
        assert_eq!(bed.held("br0"), ["10.77.0.1/24"]);
        bed.remove(Builtin::Bridge, &b, &conf("10.77.0.3/24"));
        // With its broadcast address, label, scope and lifetime.
        assert_eq!(without_age(bed.netlink().keep_addresses(index).unwrap()), without_age(before));
    });
}

/// Addresses as the kernel tells them, without the clock at which each was made (IFA_CACHEINFO).
fn without_age(kept: Vec<crate::nl::kept::Kept>) -> Vec<String> {
    let hex = |kept| String::from(kept);
    let cut = |text: String| match text.find("14000600") {
        Some(at) => format!("{}{}", &text[..at], text.get(at + 40..).unwrap_or_default()),
        None => text,
    };
    kept.into_iter().map(hex).map(cut).collect()
}

#[test]
fn kernel_shared_an_ipvlan_in_another_mode_than_those_of_other_pods_is_refused() {
    on_node(|bed| {
        let master = bed.master("eth1", 1500, None);
        let conf = |mode: &str| {
            let ipam = r#""ipam":{"type":"static","addresses":[{"address":"10.44.0.2/24"}]}"#;
            format!(r#"{{"master":"eth1","mode":"{mode}",{ipam}}}"#)
        };
        let (a, b) = (bed.pod(), bed.pod());
        // As an ADD notes it; not every kernel can make an ipvlan.
        bed.call(&a, "net1", &conf("l2"), None, |host, call| {
            let point = call.point.as_ref().unwrap();
            let wanted = [crate::shared::Change::IpvlanMode("l2".to_owned())];
            crate::shared::Shared::lock(&host.node).unwrap().change(host, point, &master, false, &wanted).unwrap();
        });
        let refused = |mode: &str| match bed.add(Builtin::Ipvlan, &b, "net1", &conf(mode)) {
            Err(error @ crate::error::Error::Parent(_)) => Some(error.to_string()),
            // Made, or refused by a kernel without the driver.
            _ => None,
        };
        let want = "mode: got l3, want l2: other pods have ipvlans on eth1, and the kernel keeps one mode for all";
        assert_eq!((refused("l3").as_deref(), refused("l2")), (Some(want), None));
        bed.remove(Builtin::Ipvlan, &b, &conf("l2"));
        assert_eq!(refused("l3").as_deref(), Some(want));
        bed.remove(Builtin::Ipvlan, &a, &conf("l2"));
        assert_eq!((refused("l3"), bed.owned().len() <= 1), (None, true));
        bed.remove(Builtin::Ipvlan, &b, &conf("l3"));
        assert_eq!(bed.owned(), Vec::<String>::new());
    });
}

#[test]
fn kernel_shared_gc_lets_go_for_those_who_are_gone() {
    on_node(|bed| {
        bed.bridge("br0");
        bed.master("eth1", 1500, Some("192.0.2.1/24"));
        let (gone, kept) = (bed.pod(), bed.pod());
        let noisy = r#"{"bridge":"br0","promiscMode":true}"#;
        bed.add(Builtin::Bridge, &gone, "net1", noisy).unwrap();
        bed.add(Builtin::Bridge, &kept, "net1", r#"{"bridge":"br0"}"#).unwrap();
        bed.add(Builtin::Vxlan, &gone, "net2", &overlay(r#""192.0.2.2""#)).unwrap();
        bed.add(Builtin::Vxlan, &kept, "net2", &overlay(r#""192.0.2.3""#)).unwrap();
        fs::write(bed.state.path().join("shared/file-being-written"), "{").unwrap();
        bed.sweep(&[&gone, &kept]);
        assert!(bed.link("br0").unwrap().promisc);
        bed.sweep(&[&kept]);
        let link = bed.link("br0").unwrap();
        assert_eq!((link.up, link.promisc, bed.peers("vx4200")), (true, false, vec!["192.0.2.3".to_owned()]));
        bed.netlink().delete_link(link.index).unwrap();
        bed.sweep(&[&kept]);
        assert_eq!(bed.owned(), ["vx4200"], "of a link that is gone nothing is kept");
    });
}

#[test]
fn kernel_shared_what_was_written_before_a_reboot_or_about_another_link_is_nothing() {
    on_node(|bed| {
        let pod = bed.pod();
        let noisy = r#"{"bridge":"br0","promiscMode":true}"#;
        let file = bed.state.path().join("shared/br0");
        let on = LinkChange { promisc: Some(true), ..LinkChange::default() };
        for spoil in ["boot", "link", "syntax"] {
            let index = bed.bridge("br0").index;
            bed.add(Builtin::Bridge, &pod, "net1", noisy).unwrap();
            let text = fs::read_to_string(&file).unwrap();
            let other = match spoil {
                "boot" => text.replacen("\"boot\":\"", "\"boot\":\"x", 1),
                "link" => text.replacen(&format!("\"link\":{index}"), "\"link\":4711", 1),
                _ => text.replacen('{', "", 1),
            };
            assert_ne!(text, other);
            fs::write(&file, other).unwrap();
            bed.netlink().set_link(index, &on).unwrap();
            bed.remove(Builtin::Bridge, &pod, noisy);
            assert!(bed.link("br0").unwrap().promisc, "{spoil}");
            bed.sweep(&[]);
            assert_eq!(bed.owned(), Vec::<String>::new(), "{spoil}");
            bed.netlink().delete_link(index).unwrap();
        }
    });
}

#[test]
fn kernel_shared_many_at_once_leave_a_bridge_as_it_was() {
    as_host(|| {
        let state = tempfile::tempdir().unwrap();
        let setup = Bed { state: tempfile::tempdir().unwrap(), pods: Cell::new(0) };
        setup.bridge("br0");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let state = state.path();
                scope.spawn(move || {
                    for round in 0..10 {
                        let bed = Bed { state: tempfile::tempdir().unwrap(), pods: Cell::new(thread * 100 + round) };
                        let pod = bed.pod();
                        let conf = r#"{"bridge":"br0","promiscMode":true}"#;
                        let node = || Node { state_dir: state, ..bed.node() };
                        let mut sandbox = Sandbox::open(&pod.path, &node()).unwrap();
                        bed.call(&pod, "net1", conf, None, |_, call| {
                            let mut host = Host::new(node());
                            Builtin::Bridge.add(&mut host, &mut sandbox, call).unwrap();
                            let link = bed.link("br0").unwrap();
                            assert!(link.promisc && link.up, "taken away under {thread}.{round}");
                            Builtin::Bridge.del(&mut host, call).unwrap();
                        });
                    }
                });
            }
        });
        let link = setup.link("br0").unwrap();
        assert!(!link.promisc && link.up);
        assert_eq!(fs::read_dir(state.path().join("shared")).unwrap().count(), 0);
    });
}

#[test]
fn kernel_shared_an_mtu_that_would_end_the_bridges_ipv6_is_refused() {
    on_node(|bed| {
        let index = bed.bridge("br0").index;
        let conf = |mtu: u32| format!(r#"{{"bridge":"br0","mtu":{mtu}}}"#);
        bed.admit("a", Builtin::Bridge, &conf(1279), Reserved::UNASKED).unwrap();
        bed.netlink().add_address(index, net("fd00::1/64"), true).unwrap();
        let error = bed.admit("a", Builtin::Bridge, &conf(1279), Reserved::UNASKED).unwrap_err();
        let want = "mtu: got 1279, want at least 1280: bridge br0 would take it over and lose its address fd00::1/64";
        assert_eq!(error.to_string(), want);
        bed.admit("a", Builtin::Bridge, &conf(1280), Reserved::UNASKED).unwrap();
        bed.admit("node", Builtin::Bridge, &conf(1279), Reserved::UNASKED).unwrap();
    });
}

#[test]
fn kernel_on_host_shared_route_localnet_of_an_administrators_bridge_goes_with_its_last_port_mapping() {
    const PORTMAP: Builtin = Builtin::Portmap;
    on_node(|bed| {
        let index = bed.bridge("br0").index;
        bed.netlink().add_address(index, net("10.77.0.1/24"), false).unwrap();
        let pods = [bed.pod(), bed.pod()];
        for (i, pod) in pods.iter().enumerate() {
            let previous =
                bed.add(Builtin::Bridge, pod, "net1", &gateway(&format!("10.77.0.{}/24", i + 2), "")).unwrap().result;
            let mapping = format!(r#"{{"hostPort":{},"containerPort":80}}"#, 8080 + i);
            let conf = format!(r#"{{"runtimeConfig":{{"portMappings":[{mapping}]}}}}"#);
            bed.add_behind(PORTMAP, pod, "net1", &conf, &previous).0.unwrap();
        }
        for (pod, want) in pods.iter().zip(["1", "0"]) {
            assert_eq!(sysctl("ipv4/conf/br0/route_localnet"), "1");
            bed.call(pod, "net1", "{}", None, |host, call| PORTMAP.del(host, call)).unwrap();
            bed.remove(Builtin::Bridge, pod, &gateway("10.77.0.2/24", ""));
            assert_eq!(sysctl("ipv4/conf/br0/route_localnet"), want);
        }
        assert_eq!((bed.owned(), bed.held("br0")), (Vec::new(), vec!["10.77.0.1/24".to_owned()]));
    });
}
