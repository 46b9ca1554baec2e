//! host-device on a real kernel.

use std::path::Path;

use super::*;
use crate::apply::detach;
use crate::error::Error;
use crate::nl::link::{Bridge, MacvlanMode};

const CONF: &str = r#"{"device":"eth1","dns":{"domain":"d"},
    "ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24","gateway":"10.77.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}}"#;
const PLAIN: &str = r#"{"device":"eth1"}"#;

/// eth1 of the node with everything that must come back.
fn device(bed: &Bed) -> Link {
    let link = bed.master("eth1", 1450, Some("192.0.2.9/24"));
    let mut netlink = bed.netlink();
    netlink.add_address(link.index, net("2001:db8::9/64"), true).unwrap();
    let change = LinkChange { group: Some(5), alias: Some("the uplink"), ..LinkChange::default() };
    netlink.set_link(link.index, &change).unwrap();
    bed.link("eth1").unwrap()
}

fn addresses(bed: &Bed, link: &Link) -> Vec<String> {
    let held = bed.netlink().addresses(Some(link.index)).unwrap();
    let mut words: Vec<String> = held.into_iter().filter(|a| a.scope == 0).map(|a| a.net.to_string()).collect();
    words.sort();
    words
}

/// The device is on the node exactly as it was.
fn assert_back(bed: &Bed, was: &Link) {
    let is = bed.link("eth1").expect("eth1 is back");
    assert_eq!(
        (is.index, &is.alias, is.mac, is.mtu, is.group, is.up, is.promisc),
        (was.index, &was.alias, was.mac, was.mtu, was.group, was.up, was.promisc)
    );
    assert_eq!(addresses(bed, &is), ["192.0.2.9/24", "2001:db8::9/64"]);
}

#[test]
fn kernel_host_device_moves_in_and_comes_back_as_it_was() {
    on_node(|bed| {
        let was = device(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
        let attached = added.unwrap();
        assert!(bed.link("eth1").is_none());
        let link = pod.link("net1").unwrap();
        assert_eq!((link.index, link.alias.as_str(), link.mtu, link.up), (was.index, "eth1", 1450, true));
        assert_eq!((link.mac, link.group), (was.mac, 5), "never the record's group");
        assert_eq!(pod.addresses("net1"), ["10.77.0.2/24"]);
        assert_eq!(pod.gateway_of("0.0.0.0/0").as_deref(), Some("10.77.0.1"));
        let result = &attached.result;
        assert_eq!((result.interfaces.len(), result.ips[0].interface), (1, Some(0)));
        assert_eq!((result.interfaces[0].name.as_str(), &result.interfaces[0].sandbox), ("net1", &pod.path));
        assert_eq!((result.interfaces[0].mac.clone(), attached.links.len()), (was.mac.unwrap().to_string(), 0));
        assert_eq!(result.dns.domain.as_deref(), Some("d"));
        bed.check(Builtin::HostDevice, &pod, "net1", CONF, result).unwrap();
        bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
        assert_back(bed, &was);
        bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
        bed.restore(Builtin::HostDevice, &pod, false, CONF, &noted).unwrap();
        bed.del(Builtin::HostDevice, &pod, "net1", CONF, Some(&attached)).unwrap();
        assert_back(bed, &was);
        let error = bed.check(Builtin::HostDevice, &pod, "net1", CONF, result).unwrap_err();
        assert!(matches!(&error, Error::Differs(text) if text.contains("net1 is missing")), "{error}");
    });
}

#[test]
fn kernel_host_device_is_found_by_its_address_and_needs_no_ipam() {
    on_node(|bed| {
        let was = device(bed);
        let pod = bed.pod();
        let conf = format!(r#"{{"hwaddr":"{}","dns":{{"domain":"d"}}}}"#, was.mac.unwrap());
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "eth1", &conf);
        let result = added.unwrap().result;
        assert_eq!((result.interfaces[0].name.as_str(), result.dns.domain), ("eth1", None));
        assert!(pod.link("eth1").unwrap().up);
        bed.restore(Builtin::HostDevice, &pod, true, &conf, &noted).unwrap();
        assert_back(bed, &was);
    });
}

#[test]
fn kernel_host_device_comes_back_from_a_pod_that_changed_everything() {
    on_node(|bed| {
        let was = device(bed);
        let pod = bed.pod();
        let mut inside = pod.netlink();
        // The index is taken in the pod: the device gets another one.
        let (near, far) = (name("own0"), name("own1"));
        let peer = Peer { name: &far, netns: None, mtu: None, mac: None, group: 0 };
        let own = NewLink { index: Some(was.index), ..NewLink::new(&near, NewKind::Veth(peer)) };
        inside.add_link(&own).unwrap();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
        added.unwrap();
        let link = pod.link("net1").unwrap();
        assert_ne!(link.index, was.index);
        inside.set_link(link.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
        let mischief = LinkChange {
            name: Some(&name("mine")),
            alias: Some("mine"),
            mac: Some("02:00:00:00:00:66".parse().unwrap()),
            mtu: Some(900),
            group: Some(GROUP),
            promisc: Some(true),
            ..LinkChange::default()
        };
        inside.set_link(link.index, &mischief).unwrap();
        bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
        detach(&mut Sandbox::open(&pod.path, &bed.node()).unwrap(), GROUP, &[], None).unwrap();
        assert_back(bed, &was);
        assert!(pod.link("own0").is_some());
    });
}

#[test]
fn kernel_host_device_is_given_back_whole_whenever_the_way_back_was_cut() {
    on_node(|bed| {
        let was = device(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", PLAIN);
        added.unwrap();
        let again = |what: &str| {
            bed.restore(Builtin::HostDevice, &pod, true, PLAIN, &noted)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_back(bed, &was);
        };
        // Noted, but not yet taken.
        again("the whole way");
        again("never taken");
        // Moved home, and nothing else: without addresses, down, with the mark.
        let mut netlink = bed.netlink();
        netlink.set_link(was.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
        let marked = LinkChange {
            alias: Some("eth1"),
            mtu: Some(900),
            mac: Some("02:00:00:00:00:66".parse().unwrap()),
            ..LinkChange::default()
        };
        netlink.set_link(was.index, &marked).unwrap();
        netlink.delete_address(was.index, net("192.0.2.9/24")).unwrap();
        again("moved home");
        // On the node under the pod's name, as when a rename failed or the kernel gave it back.
        netlink.set_link(was.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
        let stray = LinkChange { name: Some(&name("net1")), alias: Some("eth1"), ..LinkChange::default() };
        netlink.set_link(was.index, &stray).unwrap();
        again("under another name");
    });
}

#[test]
fn kernel_host_device_that_vanishes_is_no_failure_of_del() {
    on_node(|bed| {
        device(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", PLAIN);
        added.unwrap();
        pod.netlink().delete_link(pod.link("net1").unwrap().index).unwrap();
        bed.restore(Builtin::HostDevice, &pod, true, PLAIN, &noted).unwrap();
        bed.restore(Builtin::HostDevice, &pod, false, PLAIN, &noted).unwrap();
        let error = bed.add(Builtin::HostDevice, &pod, "net1", PLAIN).unwrap_err();
        let want = r#"device: got "eth1", want a device with a link on the node; one that a pod holds has none here"#;
        assert_eq!(error.to_string(), want);
    });
}

#[test]
fn kernel_host_device_dies_with_its_namespace_when_it_is_virtual() {
    on_node(|bed| {
        device(bed);
        let mut pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", PLAIN);
        added.unwrap();
        pod.netns = super::pod();
        bed.restore(Builtin::HostDevice, &pod, false, PLAIN, &noted).unwrap();
    });
}

#[test]
fn kernel_host_device_waits_for_its_name_on_the_node() {
    on_node(|bed| {
        let was = device(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", PLAIN);
        added.unwrap();
        let squatter = name("eth1");
        bed.netlink().add_link(&NewLink::new(&squatter, NewKind::Bridge(Bridge::default()))).unwrap();
        let error = bed.restore(Builtin::HostDevice, &pod, true, PLAIN, &noted).unwrap_err();
        let index = bed.link("eth1").unwrap().index;
        assert_eq!(
            error.to_string(),
            format!(
                "give eth1 back to the node: File exists (another link of the node, eth1 with index {index}, has its name)"
            )
        );
        assert!(pod.link("net1").is_some(), "it is not left on the node under another name");
        bed.netlink().delete_link(bed.link("eth1").unwrap().index).unwrap();
        bed.restore(Builtin::HostDevice, &pod, true, PLAIN, &noted).unwrap();
        assert_back(bed, &was);
    });
}

#[test]
fn kernel_host_device_refuses_what_is_in_use_and_touches_nothing() {
    on_node(|bed| {
        let was = device(bed);
        let pod = bed.pod();
        let refused = |ifname: &str, conf: &str, want: &str| {
            let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, ifname, conf);
            let error = added.unwrap_err();
            assert!(error.to_string().contains(want), "{error}, want {want}");
            assert_eq!(noted, [], "{error}");
        };
        refused("net1", "{}", "device: missing, want a name here, or one of hwaddr");
        refused("net1", r#"{"device":"lo"}"#, "lo is the node's loopback");
        refused(
            "net1",
            r#"{"pciBusID":"ffff:ff:1f.7"}"#,
            "pciBusID: got ffff:ff:1f.7, want the address of a PCI device",
        );
        refused(
            "net1",
            r#"{"kernelpath":"/sys/devices/none"}"#,
            "kernelpath: got /sys/devices/none, want a device with a link",
        );
        refused("net1", r#"{"runtimeConfig":{"deviceID":"none.sf.1"}}"#, "runtimeConfig.deviceID: got none.sf.1");
        bed.add(Builtin::Bridge, &pod, "net2", r#"{"bridge":"br-t"}"#).unwrap();
        refused("net2", PLAIN, "CNI_IFNAME: the pod has a veth named net2 already");
        let bridge = bed.link("br-t").unwrap();
        let mut netlink = bed.netlink();
        netlink.set_link(was.index, &LinkChange { master: Some(bridge.index), ..LinkChange::default() }).unwrap();
        refused("net1", PLAIN, "want a link that is not in use: eth1 is a port of br-t");
        netlink.set_link(was.index, &LinkChange { master: Some(0), ..LinkChange::default() }).unwrap();
        let upper = name("upper");
        let kind = NewKind::Macvlan { parent: was.index, mode: MacvlanMode::Bridge, broadcast_queue: None };
        netlink.add_link(&NewLink::new(&upper, kind)).unwrap();
        refused("net1", PLAIN, "eth1 carries macvlan upper");
        netlink.delete_link(bed.link("upper").unwrap().index).unwrap();
        assert_back(bed, &was);
    });
}

#[test]
fn kernel_host_device_that_cannot_be_set_up_goes_back_at_once() {
    on_node(|bed| {
        let was = device(bed);
        let pod = bed.pod();
        let unreachable = r#"{"device":"eth1","ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24"}],
            "routes":[{"dst":"10.99.0.0/16","gw":"192.0.2.1"}]}}"#;
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", unreachable);
        assert!(added.unwrap_err().to_string().contains("route 10.99.0.0/16 via 192.0.2.1"));
        assert_back(bed, &was);
        assert!(pod.link("net1").is_none());
        bed.restore(Builtin::HostDevice, &pod, true, unreachable, &noted).unwrap();
        assert_back(bed, &was);
    });
}

#[test]
fn kernel_host_device_that_the_reference_plugin_lent_goes_back_by_its_alias() {
    on_node(|bed| {
        let was = device(bed);
        let pod = bed.pod();
        use std::os::fd::AsFd;
        let lent = LinkChange {
            name: Some(&name("net1")),
            alias: Some("eth1"),
            netns: Some(pod.netns.as_fd()),
            ..LinkChange::default()
        };
        bed.netlink().set_link(was.index, &lent).unwrap();
        bed.restore(Builtin::HostDevice, &pod, true, PLAIN, &[]).unwrap();
        let is = bed.link("eth1").unwrap();
        assert_eq!((is.alias.as_str(), is.up, is.mac), ("", false, was.mac), "as the reference plugin leaves it");
        bed.restore(Builtin::HostDevice, &pod, true, PLAIN, &[]).unwrap();
        bed.restore(Builtin::HostDevice, &pod, false, PLAIN, &[]).unwrap();
    });
}

/// Hardware goes back to the initial namespace when the pod's dies, so that is the node here: nothing else of this
/// program is there.
fn on_hardware(test: impl FnOnce(&Bed, &Link)) {
    let bed = Bed { state: tempfile::tempdir().unwrap(), pods: Cell::new(0) };
    let was = bed.link("vec0").expect("tests/uml/run gives UML the device vec0");
    test(&bed, &was);
    let is = bed.link("vec0").expect("vec0 is back");
    assert_eq!((is.index, &is.alias, is.mac, is.mtu, is.up), (was.index, &was.alias, was.mac, was.mtu, was.up));
}

#[test]
fn kernel_on_uml_host_device_that_is_hardware_comes_back_from_anywhere() {
    const HARDWARE: &str = "/sys/devices/platform/uml-vector.0";
    let conf = format!(r#"{{"kernelpath":"{HARDWARE}"}}"#);
    on_hardware(|bed, was| {
        bed.netlink().add_address(was.index, net("192.0.2.9/24"), false).unwrap();
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", &conf);
        added.unwrap();
        let error = bed.add(Builtin::HostDevice, &bed.pod(), "net1", &conf).unwrap_err();
        assert!(error.to_string().contains("one that a pod holds has none here"), "{error}");
        bed.restore(Builtin::HostDevice, &pod, true, &conf, &noted).unwrap();
        assert!(bed.netlink().addresses(Some(was.index)).unwrap().iter().any(|a| a.net == net("192.0.2.9/24")));
        bed.netlink().delete_address(was.index, net("192.0.2.9/24")).unwrap();
    });
    for clash in [false, true] {
        on_hardware(|bed, _| {
            let mut pod = bed.pod();
            let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", &conf);
            added.unwrap();
            let link = pod.link("net1").unwrap();
            let other =
                LinkChange { mac: Some("02:00:00:00:00:66".parse().unwrap()), mtu: Some(900), ..LinkChange::default() };
            pod.netlink().set_link(link.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
            pod.netlink().set_link(link.index, &other).unwrap();
            if clash {
                let squatter = name("net1");
                bed.netlink().add_link(&NewLink::new(&squatter, NewKind::Bridge(Bridge::default()))).unwrap();
            }
            // The namespace ends, and the kernel takes its time over it.
            pod.netns = super::pod();
            bed.restore(Builtin::HostDevice, &pod, false, &conf, &noted).unwrap();
            if clash {
                bed.netlink().delete_link(bed.link("net1").unwrap().index).unwrap();
            }
        });
    }
    // A namespace that lives on somewhere keeps the device: DEL fails, and succeeds when it is repeated.
    on_hardware(|bed, _| {
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", &conf);
        added.unwrap();
        let error = bed.restore(Builtin::HostDevice, &pod, false, &conf, &noted).unwrap_err();
        assert!(matches!(&error, Error::Late(text) if text.starts_with("device vec0 coming back")), "{error}");
        assert!(Path::new(HARDWARE).join("net").exists());
        bed.restore(Builtin::HostDevice, &pod, true, &conf, &noted).unwrap();
    });
}
