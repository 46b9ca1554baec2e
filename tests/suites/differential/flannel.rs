//! `flannel`, beside the plugin of that name up to 0.4.0. Its program knows no later version: there we stand beside the
//! reference plugin that it would hand on to, which gets what flannel documents that it gets.

use serde_json::{Value, json};

use crate::case::{Case, VERSIONS};

/// What flannel writes on a node.
const IPV4: &str = "FLANNEL_NETWORK=10.0.0.0/14\nFLANNEL_SUBNET=10.1.0.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n";

const BOTH: &str = "FLANNEL_NETWORK=10.0.0.0/14\nFLANNEL_SUBNET=10.1.0.1/24\nFLANNEL_IPV6_NETWORK=fd00::/16\n\
    FLANNEL_IPV6_SUBNET=fd00:1::1/64\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n";

const IPV6: &str =
    "FLANNEL_IPV6_NETWORK=fd00::/16\nFLANNEL_IPV6_SUBNET=fd00:1::1/64\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n";

/// Flannel does not masquerade on this node.
const PLAIN: &str = "FLANNEL_NETWORK=10.0.0.0/14\nFLANNEL_SUBNET=10.1.0.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n";

/// The newest version that its program knows.
const NEWEST: &str = "0.4.0";

/// The default network of a flannel cluster.
pub fn flannel(subnet_file: &'static str) -> Case {
    Case::new(vec![json!({"type": "flannel", "subnetFile": "$dir/subnet.env", "dataDir": "$dir/data",
        "ipam": {"dataDir": "$dir/addresses"}})])
    .file("subnet.env", subnet_file)
    .version(NEWEST)
    .differs(&["group", "veth-queue"])
}

/// The same in a version that its program does not know, beside the plugin that gets this.
fn hand_over(keys: Value) -> Case {
    let mut delegate = json!({"type": "bridge", "mtu": 1472, "ipMasq": false, "isGateway": true, "ipam": {"type": "host-local",
        "dataDir": "$dir/addresses", "ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "10.0.0.0/14"}]}});
    delegate.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    flannel(IPV4).with("dataDir", json!("$dir/notes")).with("delegate", keys).beside(vec![delegate]).version("1.1.0")
}

pub mod on_host {
    use super::*;
    use crate::case::cases;

    cases! {
        in_every_version_of_its_program => flannel(IPV4).versions(&VERSIONS[..5]);
        in_later_versions => hand_over(json!({})).versions(&VERSIONS[5..]);
        with_both_families => flannel(BOTH);
        with_ipv6 => flannel(IPV6);
        that_does_not_masquerade => flannel(PLAIN).differs(&["masquerade-iptables", "iptables-rules-stay"]);
        with_keys_of_the_delegate => flannel(IPV4).with("delegate", json!({"bridge": "br0", "mtu": 1400, "isDefaultGateway": true, "hairpinMode": true}));
        with_keys_of_the_delegate_in_later_versions =>
            hand_over(json!({"bridge": "br0", "mtu": 1400, "isDefaultGateway": true, "hairpinMode": true})).versions(&VERSIONS[5..]);
        with_another_delegate => flannel(IPV4).with("delegate", json!({"type": "ptp"}));
        with_routes_of_its_own => flannel(IPV4).with("ipam", json!({"dataDir": "$dir/addresses", "routes": [{"dst": "192.0.2.0/24"}]}));
        with_a_mac_from_the_runtime => flannel(IPV4).runtime("mac", json!("02:00:5e:00:00:07"));
        without_its_file => flannel(IPV4).with("subnetFile", json!("$dir/missing")).refused();
        with_half_a_file => flannel("FLANNEL_NETWORK=10.0.0.0/14\nFLANNEL_MTU=1472\n").refused();
        with_a_name_for_the_delegate => flannel(IPV4).with("delegate", json!({"name": "other"})).refused();
        with_addresses_for_the_delegate => flannel(IPV4).with("delegate", json!({"ipam": {}})).refused();
    }
}

pub mod on_uml {
    use super::*;
    use crate::case::cases;

    cases! {
        with_ipvlan => flannel(IPV4).with("delegate", json!({"type": "ipvlan", "master": "up0"})).agrees(&["veth-queue"])
            .scene(&["ip link add up0 address 02:00:00:00:00:01 type veth peer name up1", "ip link set up0 up", "ip link set up1 up"]);
    }
}
