//! Further networks: a LAN between the nodes with a DHCP server on it, reached by our type and by the reference plugins' program and daemon;
//! the reference plugins' `firewall` behind a bridge; Open vSwitch.

use meta_cni_tests::cluster::neighbours::results::Subject;
use meta_cni_tests::cluster::neighbours::{dhcp, firewall, ovs, say};
use meta_cni_tests::cluster::pods::PATIENCE;
use meta_cni_tests::cluster::{Cluster, wait};
use serde_json::json;

use crate::scene::Scene;

#[test]
fn dnsmasq_and_the_reference_dhcp_and_firewall() {
    let subject = Subject {
        product: "dnsmasq; the reference plugins' `dhcp` with its daemon, and `firewall`",
        programs: &["reference dhcp", "reference firewall"],
        tried_as: "address management of a macvlan network over both nodes; behind a bridge",
        to_set: "for the reference `dhcp`: leave the type out of [`builtin`](configuration.md#builtin)",
    };
    let mut scene = Scene::without_a_product(subject, Cluster::start(2), &[]);
    scene.with_version("dnsmasq", &dhcp::version());
    let server = dhcp::Server::start(&scene.cluster);
    let office = json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "eth0", "ipam": {"type": "dhcp"}});
    scene.define("office", &office);

    let leased = |name: &str, node: &str| {
        scene.make(name, node, "office", false);
        let address = scene.addresses(name)[1].clone();
        assert!(server.has_leased(&address), "{address} of {name} is no lease: {}", server.leases());
        address
    };
    let released = |name: &str, address: &str| {
        scene.delete(name);
        wait::until(&format!("release of {address}"), PATIENCE, || {
            if server.has_leased(address) { Err(server.leases()) } else { Ok(()) }
        });
    };
    let (one, two) = (leased("one", "n1"), leased("two", "n2"));
    scene.soon("echo over the LAN", || scene.pings("one", &two));
    released("one", &one);
    released("two", &two);
    scene.held("`dhcp` in process: lease, echo over both nodes, release");

    let types = ["macvlan", "bridge", "host-local", "portmap", "bandwidth", "loopback", "vxlan", "blocks"];
    say(&scene.cluster, &json!({"builtin": types}));
    let mut daemons = dhcp::install(&scene.cluster);
    let (three, four) = (leased("three", "n1"), leased("four", "n2"));
    scene.soon("echo over the LAN", || scene.pings("three", &four));
    ["three", "four"].iter().for_each(|name| scene.delete(name));
    // Its RELEASE comes from 0.0.0.0, which the server's kernel drops: the lease ends by itself.
    for node in scene.cluster.nodes() {
        assert_eq!(dhcp::words(node).matches("releasing lease").count(), 1, "{}", dhcp::words(node));
    }
    assert!(server.has_leased(&three) && server.has_leased(&four), "it can release: say so in docs/compatibility.md");
    scene.held("the reference program and its daemon: lease, echo over both nodes, its DEL");
    daemons.remove(0).kill();
    scene.ask_for("five", "n1", "office", false);
    scene.event("five", dhcp::SOCKET);
    daemons.push(dhcp::start(scene.node("n1")));
    scene.ready("five");
    scene.delete("five");
    scene.held("its daemon away: an event names its socket; it comes back: the pod comes");

    firewall::install(&scene.cluster);
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.70.0.0/24"}]]});
    let guarded = json!({"cniVersion": "1.0.0", "name": "guarded", "plugins": [
        {"type": "bridge", "bridge": "guarded0", "ipam": ipam}, {"type": "firewall", "backend": "iptables"}]});
    scene.define("guarded", &guarded);
    scene.make("behind", "n1", "guarded", false);
    let address = scene.addresses("behind")[1].clone();
    let admits = || scene.node("n1").space().run("iptables -S CNI-FORWARD").contains(&format!("{address}/32"));
    assert!(admits(), "the firewall has a rule for {address}");
    scene.delete("behind");
    assert!(!admits(), "the rule for {address} is gone with its pod");
    scene.held("`firewall` behind a built-in bridge: its rules come and go with the pod");
    // A node ends when nothing runs in it.
    drop((daemons, server));
    scene.passed();
}

#[test]
fn open_vswitch_keeps_vlans_apart() {
    let subject = Subject {
        product: "Open vSwitch in user space, by a plugin of the tests (OVS CNI cannot be had)",
        programs: &[],
        tried_as: "further networks of an external plugin, VLAN tags on one bridge",
        to_set: "nothing",
    };
    let mut scene = Scene::without_a_product(subject, Cluster::start(1), &[]);
    scene.with_version("Open vSwitch", &ovs::version());
    let switch = ovs::start(scene.node("n1"));
    for (name, vlan, start) in [("red", 10, "10.80.0.10"), ("blue", 20, "10.80.0.100")] {
        let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.80.0.0/24", "rangeStart": start}]]});
        scene.define(
            name,
            &json!({"cniVersion": "1.0.0", "type": "ovs", "bridge": ovs::BRIDGE, "vlan": vlan, "ipam": ipam}),
        );
    }
    for (name, network) in [("one", "red"), ("two", "red"), ("three", "blue")] {
        scene.make(name, "n1", network, false);
    }
    let address = scene.addresses("two")[1].clone();
    scene.soon("echo in a VLAN", || scene.pings("one", &address));
    assert!(scene.pings("three", &address).is_err(), "another VLAN does not reach {address}");
    assert_eq!(ovs::ports(scene.node("n1")).lines().count(), 3);
    scene.held("echo in a VLAN and none between two");
    for name in ["one", "two", "three"] {
        scene.delete(name);
    }
    assert_eq!(ovs::ports(scene.node("n1")), "");
    scene.held("its ports go with the pods");
    drop(switch);
    scene.passed();
}
