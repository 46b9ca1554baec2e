//! STATUS: what an ADD would fail with is told before there is a pod.

use meta_cni_tests::call::Outcome;
use meta_cni_tests::node::Node;
use serde_json::{Value, json};

/// A node with a wire `up0`, whose default network is this chain.
fn node(plugins: impl Fn(&Node) -> Value) -> Node {
    let mut node = Node::new();
    node.netns.run("ip link add up0 address 02:00:00:00:00:50 type veth peer name up1");
    node.netns.run("ip address add 192.168.50.1/24 dev up0");
    node.netns.run("ip link set up0 up");
    node.conf["delegates"] = json!([{"cniVersion": "1.1.0", "name": "net", "plugins": plugins(&node)}]);
    node
}

fn status(node: &Node) -> Outcome {
    node.bare_call("STATUS").run()
}

/// A plugin of the default network, what is done to the node first, and the words of STATUS.
fn not_ready(cases: &[(Value, &str, &[&str])]) {
    for (plugin, commands, words) in cases {
        let node = node(|_| json!([plugin]));
        for command in commands.split("; ").filter(|command| !command.is_empty()) {
            node.netns.run(command);
        }
        status(&node).refused(50, words);
        assert!(!node.netns.links().iter().any(|link| link.starts_with("meta-cni")), "{:?}", node.netns.links());
    }
}

const IPAM: &str = r#"{"type": "static", "addresses": [{"address": "10.10.0.2/24", "gateway": "10.10.0.1"}]}"#;

fn with_address(mut conf: Value) -> Value {
    conf["ipam"] = serde_json::from_str(IPAM).unwrap();
    conf
}

#[test]
fn a_node_that_has_everything_is_ready() {
    for plugin in [
        json!({"type": "bridge", "bridge": "cni0", "isGateway": true}),
        json!({"type": "macvlan", "master": "up0", "mtu": 1500}),
        json!({"type": "ptp"}),
        json!({"type": "vxlan", "vni": 7, "underlay": "up0", "mtu": 1450}),
        json!({"type": "host-device", "device": "up0"}),
        json!({"type": "host-device", "hwaddr": "02:00:00:00:00:50"}),
        json!({"type": "loopback"}),
    ] {
        let node = node(|_| json!([with_address(plugin.clone()), {"type": "sbr"}]));
        let was = node.netns.links();
        status(&node).quiet();
        assert_eq!(node.netns.links(), was, "nothing is made");
    }
}

#[test]
fn a_bridge_that_is_none_or_filters_no_vlans() {
    not_ready(&[
        (
            json!({"type": "bridge", "bridge": "cni0"}),
            "ip link add cni0 type veth peer name x",
            &["bridge: got \"cni0\"", "cni0 is a veth"],
        ),
        (
            json!({"type": "bridge", "bridge": "cni0", "vlan": 7}),
            "ip link add cni0 type bridge",
            &["bridge: got \"cni0\"", "vlan_filtering"],
        ),
    ]);
}

#[test]
fn a_master_that_is_missing_in_use_or_too_small() {
    for kind in ["macvlan", "ipvlan", "vlan"] {
        let on = |keys: Value| {
            let mut conf = with_address(json!({"type": kind, "master": "up0", "vlanId": 7}));
            for (key, value) in keys.as_object().unwrap() {
                conf[key] = value.clone();
            }
            conf
        };
        not_ready(&[
            (on(json!({"master": "up9"})), "", &["master: got \"up9\", want an existing link"]),
            (on(json!({"master": "lo"})), "", &["master: got \"lo\", want an Ethernet link"]),
            (on(json!({"mtu": 9000})), "", &["mtu: got 9000, want at most 1500, the MTU of master up0"]),
        ]);
        if kind != "vlan" {
            not_ready(&[(
                on(json!({})),
                "ip link add br0 type bridge; ip link set up0 master br0",
                &["master: got \"up0\", want a link that is no port of a bridge"],
            )]);
        }
    }
    not_ready(&[(json!({"type": "macvlan"}), "", &["master: missing", "there is no default route"])]);
}

#[test]
fn a_driver_that_the_kernel_lacks_on_host() {
    for kind in ["ipvlan", "vlan", "dummy"] {
        not_ready(&[(
            with_address(json!({"type": kind, "master": "up0", "vlanId": 7})),
            "",
            &[kind, "this kernel has no driver for it"],
        )]);
    }
    not_ready(&[(json!({"type": "vrf", "vrfname": "blue"}), "", &["vrf", "this kernel has no driver for it"])]);
    not_ready(&[(bond(true, "net2"), "", &["bond", "this kernel has no driver for it"])]);
}

/// A bond of `up0` and another link.
fn bond(in_pod: bool, other: &str) -> Value {
    json!({"type": "bond", "mode": "active-backup", "miimon": "100", "linksInContainer": in_pod,
        "links": [{"name": "up0"}, {"name": other}]})
}

#[test]
fn a_kernel_without_tap_devices_on_uml() {
    not_ready(&[(json!({"type": "tap"}), "", &["/dev/net/tun", "no driver"])]);
}

#[test]
fn a_link_for_a_bond_that_is_missing_or_in_use() {
    not_ready(&[
        (bond(false, "up9"), "", &["links[1].name: got \"up9\", want a device with a link on the node"]),
        (
            bond(false, "up1"),
            "ip link add br0 type bridge; ip link set up0 master br0",
            &["links[0].name: got \"up0\", want a link that is not in use: up0 is a port of br0"],
        ),
    ]);
}

#[test]
fn an_underlay_that_is_missing_or_too_small() {
    let overlay = |keys: Value| {
        with_address(json!({"type": "vxlan", "vni": 7, "underlay": keys["underlay"], "mtu": keys["mtu"]}))
    };
    let mut large = overlay(json!({"underlay": "up0", "mtu": 1451}));
    let mut missing = overlay(json!({"underlay": "up9", "mtu": 1400}));
    large["peers"] = json!(["192.168.50.2"]);
    missing["peers"] = json!(["192.168.50.2"]);
    not_ready(&[
        (large, "", &["mtu: got 1451, want at most 1450", "up0"]),
        (missing, "", &["underlay: got \"up9\", want an existing link"]),
        (overlay(json!({"underlay": "10.9.0.0/24", "mtu": 1400})), "", &["underlay: got \"10.9.0.0/24\""]),
    ]);
}

#[test]
fn a_device_that_is_missing_or_in_use() {
    let device = |key: &str, value: &str| json!({"type": "host-device", key: value});
    let port = "ip link add br0 type bridge; ip link set up0 master br0";
    not_ready(&[
        (device("device", "up9"), "", &["device: got \"up9\", want a device with a link on the node"]),
        (device("hwaddr", "02:00:00:00:00:99"), "", &["hwaddr: got 02:00:00:00:00:99"]),
        (device("kernelpath", "/sys/devices/none"), "", &["kernelpath: got /sys/devices/none"]),
        (device("pciBusID", "00ff:ff:1f.7"), "", &["pciBusID: got 00ff:ff:1f.7, want the address of a PCI device"]),
        (device("device", "up0"), port, &["device: got \"up0\", want a link that is not in use: up0 is a port of br0"]),
    ]);
}

#[test]
fn a_device_that_a_pod_holds_is_for_nobody_else_until_it_is_back() {
    let node = node(|_| json!([{"type": "host-device", "device": "up0"}]));
    let pod = node.pod("web", "");
    node.add(&pod).result();
    status(&node).refused(50, &["device: got \"up0\"", "one that a pod holds has none here"]);
    node.del(&pod).quiet();
    status(&node).quiet();
}

#[test]
fn a_range_that_is_exhausted() {
    for plugin in [
        json!({"type": "ptp"}),
        json!({"type": "bridge", "bridge": "cni0"}),
        json!({"type": "macvlan", "master": "up0"}),
        json!({"type": "host-device", "device": "up0"}),
    ] {
        let node = node(|node| {
            let mut conf = plugin.clone();
            conf["ipam"] = node.host_local("10.10.0.0/30");
            json!([conf])
        });
        status(&node).quiet();
        let held = node.path("addresses/net");
        std::fs::create_dir_all(&held).unwrap();
        std::fs::write(held.join("10.10.0.2"), "somebody\r\neth0").unwrap();
        status(&node).refused(50, &["10.10.0."]);
    }
}

#[test]
fn an_ipam_program_that_is_missing_whatever_the_version() {
    for version in ["1.0.0", "1.1.0"] {
        let mut node = node(|_| json!([{"type": "ptp", "ipam": {"type": "nowhere"}}]));
        node.conf["delegates"][0]["cniVersion"] = json!(version);
        let refusal = status(&node).refusal();
        assert!(refusal.text.contains("\"nowhere\""), "{}", refusal.text);
    }
}

#[test]
fn a_packet_filter_that_the_kernel_lacks_on_uml() {
    not_ready(&[
        (with_address(json!({"type": "ptp", "ipMasq": true})), "", &["ipMasq: this kernel has no nf_tables"]),
        (
            with_address(json!({"type": "bridge", "bridge": "cni0", "ipMasq": true})),
            "",
            &["ipMasq: this kernel has no nf_tables"],
        ),
        (json!({"type": "portmap"}), "", &["portmap: this kernel has no nf_tables"]),
    ]);
}

#[test]
fn what_the_packet_filter_needs_is_there_on_host() {
    let conf = json!({"type": "bridge", "bridge": "cni0", "ipMasq": true, "macspoofchk": true});
    let node = node(|_| json!([with_address(conf.clone()), {"type": "portmap"}]));
    status(&node).quiet();
    assert_eq!(node.netns.run("nft list ruleset"), "", "nothing is made");
}

#[test]
fn a_setting_that_the_node_does_not_allow() {
    let tuning = json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}});
    let node = node(|_| json!([{"type": "bridge", "bridge": "cni0"}, tuning]));
    // The list is at a fixed place: it is there in a mount namespace alone.
    let with_list = |line: &str| {
        let prepare =
            "mount -t tmpfs none /etc && mkdir -p /etc/cni/tuning && echo \"$0\" >/etc/cni/tuning/allowlist.conf";
        let script = format!("{prepare} && exec \"$@\"");
        node.bare_call("STATUS").under(["unshare", "--mount", "sh", "-c", &script, line]).run()
    };
    with_list("^net.ipv4.").refused(50, &["sysctl: got \"net.core.somaxconn\"", "allowlist.conf", "^net.ipv4."]);
    with_list("^net.core.").quiet();
}

#[test]
fn a_subnet_that_flannel_has_not_given() {
    not_ready(&[(
        json!({"type": "flannel", "subnetFile": "/nonexistent/subnet.env"}),
        "",
        &["/nonexistent/subnet.env"],
    )]);
}
