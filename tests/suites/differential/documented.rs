//! The examples of the reference plugins' own documentation, each with a directory for its addresses. Not here: macvlan
//! with `dhcp`, which is in `dhcp.rs` beside a server, and host-device by PCI address, which needs such hardware.

use serde_json::{Value, json};

use crate::case::Case;
use crate::flannel::flannel;

/// The master that the examples name.
const ETH0: [&str; 3] = [
    "ip link add eth0 address 02:00:00:00:00:01 type veth peer name wire",
    "ip link set eth0 up",
    "ip link set wire up",
];

/// The form of an address section with one subnet.
fn subnet(subnet: &str) -> Value {
    json!({"type": "host-local", "dataDir": "$dir/addresses", "subnet": subnet})
}

/// A chain on a pod's own veth.
fn veth(plugins: Vec<Value>) -> Case {
    Case::new(plugins).version("0.3.1").differs(&["group", "veth-queue"])
}

/// A link on `eth0`.
fn stacked(conf: Value) -> Case {
    Case::new(vec![conf]).scene(&ETH0).differs(&["group"])
}

fn layer_2_with(ipam: Value) -> Case {
    veth(vec![json!({"type": "bridge", "bridge": "br0", "ipam": ipam})]).differs(&["bridge-mac"])
}

fn mapped(mut case: Case) -> Case {
    case.runtime["portMappings"] = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    case
}

pub mod on_host {
    use super::*;
    use crate::case::cases;

    cases! {
        bridge => veth(vec![json!({"type": "bridge", "bridge": "mynet0", "isDefaultGateway": true, "forceAddress": false,
            "ipMasq": true, "hairpinMode": true, "ipam": subnet("10.1.0.0/24")})]).differs(&["masquerade-iptables", "iptables-rules-stay"]);
        bridge_of_layer_2 => layer_2_with(json!({}));
        ptp => veth(vec![json!({"type": "ptp", "ipam": subnet("10.1.1.0/24"), "dns": {"nameservers": ["10.1.1.1", "8.8.8.8"]}})]).version("0.1.0");
        host_local => layer_2_with(json!({"type": "host-local", "dataDir": "$dir/addresses", "ranges": [
            [{"subnet": "10.10.0.0/16", "rangeStart": "10.10.1.20", "rangeEnd": "10.10.3.50", "gateway": "10.10.0.254"}, {"subnet": "172.16.5.0/24"}],
            [{"subnet": "3ffe:ffff:0:01ff::/64", "rangeStart": "3ffe:ffff:0:01ff::0010", "rangeEnd": "3ffe:ffff:0:01ff::0020"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.10.5.1"}, {"dst": "3ffe:ffff:0:01ff::1/64"}]}));
        host_local_in_the_old_form => layer_2_with(json!({"type": "host-local", "dataDir": "$dir/addresses", "subnet": "3ffe:ffff:0:01ff::/64",
            "rangeStart": "3ffe:ffff:0:01ff::0010", "rangeEnd": "3ffe:ffff:0:01ff::0020",
            "routes": [{"dst": "3ffe:ffff:0:01ff::1/64"}], "resolvConf": "/etc/resolv.conf"}));
        host_local_for_two_addresses => layer_2_with(json!({"type": "host-local", "dataDir": "$dir/addresses",
            "ranges": [[{"subnet": "203.0.113.0/24"}], [{"subnet": "2001:db8:1::/64"}]]}));
        fixed => layer_2_with(json!({"type": "static",
            "addresses": [{"address": "10.10.0.1/24", "gateway": "10.10.0.254"}, {"address": "3ffe:ffff:0:01ff::1/64", "gateway": "3ffe:ffff:0:01ff::2"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.10.0.9"}, {"dst": "3ffe:ffff:0:01ff::1/64"}],
            "dns": {"nameservers": ["8.8.8.8"], "domain": "example.com", "search": ["example.com"]}}));
        portmap => mapped(veth(vec![json!({"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "dataDir": "$dir/addresses",
            "subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}), json!({"type": "portmap", "capabilities": {"portMappings": true}})]))
            .differs(&["masquerade-iptables", "portmap-iptables", "iptables-rules-stay"]).unchecked();
        // The page says itself that the two go not together.
        portmap_with_all_keys => mapped(veth(vec![json!({"type": "ptp", "ipam": subnet("10.1.0.0/24")}), json!({"type": "portmap",
            "backend": "iptables", "capabilities": {"portMappings": true}, "snat": true, "markMasqBit": 13, "externalSetMarkChain": "CNI-HOSTPORT-SETMARK",
            "conditionsV4": ["!", "-d", "192.0.2.0/24"], "conditionsV6": ["!", "-d", "fc00::/7"]})])).refused();
        portmap_of_nftables => mapped(veth(vec![json!({"type": "ptp", "ipam": subnet("10.1.0.0/24")}), json!({"type": "portmap",
            "backend": "nftables", "capabilities": {"portMappings": true}, "snat": true,
            "conditionsV4": ["ip", "daddr", "!=", "192.0.2.0/24"], "conditionsV6": ["ip6", "daddr", "!=", "fc00::/7"]})])).differs(&["portmap-conditions"]);
        bandwidth => veth(vec![json!({"type": "ptp", "ipMasq": true, "mtu": 512, "ipam": subnet("10.1.0.0/24"), "dns": {"nameservers": ["10.1.0.1"]}}),
            json!({"name": "slowdown", "type": "bandwidth", "ingressRate": 123, "ingressBurst": 456, "egressRate": 123, "egressBurst": 456})])
            .agrees(&["veth-queue"]).differs(&["masquerade-iptables", "iptables-rules-stay", "bandwidth-mirror"]);
        tuning_of_settings => veth(vec![json!({"type": "ptp", "ipam": subnet("10.1.0.0/24")}), json!({"type": "tuning", "dataDir": "$dir/data",
            "sysctl": {"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1"}})]).differs(&["tuning-restores"]);
        tuning_of_the_link => veth(vec![json!({"type": "ptp", "ipam": subnet("10.1.0.0/24")}), json!({"type": "tuning", "dataDir": "$dir/data",
            "mac": "c2:b0:57:49:47:f1", "mtu": 1454, "promisc": true, "allmulti": true})]).differs(&["tuning-backup"]);
        host_device => Case::new(vec![json!({"type": "host-device", "device": "up0"})]).version("0.3.1").differs(&["device-as-it-was"])
            .scene(&["ip link add up0 address 02:00:00:00:00:01 type veth peer name up1", "ip link set up0 up", "ip link set up1 up"]);
        flannel_of_bridge => flannel(README);
        flannel_with_keys => flannel(README).with("delegate", json!({"bridge": "mynet0", "mtu": 1400}));
        sbr_behind_flannel => flannel(README).then(json!({"type": "sbr"})).differs(&["sbr-tables", "sbr-link-local"]);
    }

    /// The subnet file of flannel's own page.
    const README: &str =
        "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n";
}

pub mod on_uml {
    use super::*;
    use crate::case::cases;

    cases! {
        ipvlan => stacked(json!({"type": "ipvlan", "master": "eth0", "linkInContainer": false, "ipam": subnet("10.1.2.0/24")})).version("0.1.0");
        vlan => stacked(json!({"type": "vlan", "master": "eth0", "mtu": 1500, "vlanId": 5, "linkInContainer": false,
            "ipam": subnet("10.1.1.0/24"), "dns": {"nameservers": ["10.1.1.1", "8.8.8.8"]}})).version("0.3.1");
        dummy => Case::new(vec![json!({"type": "dummy", "ipam": subnet("10.1.2.0/24")})]).version("0.1.0").differs(&["group"]);
        vrf => stacked(json!({"type": "macvlan", "master": "eth0", "mode": "bridge", "ipam": subnet("10.1.2.0/24")}))
            .then(json!({"type": "vrf", "vrfname": "blue"})).version("0.3.1");
    }
}
