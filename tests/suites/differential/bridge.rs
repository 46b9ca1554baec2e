//! `bridge`: every key, every version. Address management by host-local, whose own keys are in `addresses`.

use serde_json::{Value, json};

use crate::case::Case;

/// A bridge without a gateway.
pub fn bridge() -> Case {
    Case::new(vec![json!({"type": "bridge", "bridge": "br0", "ipam": subnets(&["10.1.0.0/24"])})]).differs(&[
        "group",
        "veth-queue",
        "bridge-mac",
    ])
}

/// A bridge that is the gateway of its pods.
pub fn gateway() -> Case {
    bridge().with("isDefaultGateway", json!(true)).agrees(&["bridge-mac"])
}

/// host-local with a range set for each subnet.
pub fn subnets(subnets: &[&str]) -> Value {
    let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    json!({"type": "host-local", "dataDir": "$dir/addresses", "ranges": ranges})
}

pub mod on_host {
    use super::*;
    use crate::case::{VERSIONS, cases};

    cases! {
        plain => bridge();
        every_version => gateway().versions(&VERSIONS);
        every_version_without_a_gateway => bridge().versions(&VERSIONS);
        the_usual_name => gateway().without("bridge");
        a_gateway_without_a_default_route => bridge().with("isGateway", json!(true)).agrees(&["bridge-mac"]);
        ipv6 => gateway().with("ipam", subnets(&["fd00:1::/64"]));
        ipv6_without_a_gateway => bridge().with("ipam", subnets(&["fd00:1::/64"]));
        both_families => gateway().with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"]));
        both_families_in_every_version => gateway().with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"])).versions(&VERSIONS);
        several_of_a_family => bridge().with("ipam", subnets(&["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64", "fd00:2::/64"]));
        layer_2_alone => bridge().without("ipam");
        an_mtu => gateway().with("mtu", json!(1400));
        hairpin => gateway().with("hairpinMode", json!(true));
        promiscuous => gateway().with("promiscMode", json!(true));
        hairpin_and_promiscuous => gateway().with("hairpinMode", json!(true)).with("promiscMode", json!(true)).refused();
        isolated => gateway().with("portIsolation", json!(true));
        left_down => bridge().without("ipam").with("disableContainerInterface", json!(true)).agrees(&["bridge-mac"])
            .scene(&["ip link add br0 address 02:00:00:00:00:01 type bridge", "ip link add up0 type veth peer name up1",
                "ip link set up0 master br0", "ip link set br0 up", "ip link set up0 up", "ip link set up1 up"]).gives_back();
        left_down_with_addresses => gateway().with("disableContainerInterface", json!(true)).refused();
        duplicates_detected => gateway().with("enabledad", json!(true)).with("ipam", subnets(&["fd00:1::/64"]));
        a_name_service => gateway().with("dns", json!({"nameservers": ["10.1.0.1"], "domain": "d", "search": ["s"], "options": ["o"]}));

        a_bridge_that_is_there => gateway().scene(&["ip link add br0 address 02:00:00:00:00:01 type bridge", "ip link set br0 up"]).gives_back();
        a_bridge_that_is_there_without_a_gateway => bridge()
            .scene(&["ip link add br0 address 02:00:00:00:00:01 type bridge", "ip link set br0 up"]).agrees(&["bridge-mac"]).gives_back();
        a_bridge_with_another_mtu => gateway().with("mtu", json!(1300)).scene(&["ip link add br0 mtu 1400 type bridge", "ip link set br0 up"]).gives_back();
        a_link_that_is_no_bridge => gateway().scene(&["ip link add br0 type veth peer name br1"]).refused();
        a_bridge_with_the_address => gateway().scene(&["ip link add br0 type bridge", "ip address add 10.1.0.1/24 dev br0", "ip link set br0 up"]).gives_back();
        a_bridge_with_another_address => gateway()
            .scene(&["ip link add br0 type bridge", "ip address add 10.9.0.1/24 dev br0"]).refused();
        a_bridge_with_another_address_forced => gateway().with("forceAddress", json!(true))
            .scene(&["ip link add br0 type bridge", "ip address add 10.9.0.1/24 dev br0", "ip link set br0 up"]).gives_back();
        a_bridge_with_an_overlapping_address_forced => gateway().with("forceAddress", json!(true)).with("ipam", subnets(&["fd00:1::/64"]))
            .scene(&["ip link add br0 type bridge", "ip address add fd00:1::9/48 dev br0 nodad", "ip link set br0 up"]).gives_back();
        a_bridge_with_an_unrelated_ipv6_address => gateway().with("ipam", subnets(&["fd00:1::/64"]))
            .scene(&["ip link add br0 type bridge", "ip address add fd00:9::9/64 dev br0 nodad", "ip link set br0 up"]).gives_back();
        a_taken_name => gateway().scene(&["pod ip link add eth0 type veth peer name other"]).refused();

        mac_from_the_runtime => gateway().runtime("mac", json!("02:00:5e:00:00:07"));
        mac_from_args => gateway().with("args", json!({"cni": {"mac": "02:00:5e:00:00:08"}}));
        mac_from_cni_args => gateway().args("MAC=02:00:5e:00:00:09");
        mac_from_everywhere => gateway().runtime("mac", json!("02:00:5e:00:00:07"))
            .with("args", json!({"cni": {"mac": "02:00:5e:00:00:08"}})).args("MAC=02:00:5e:00:00:09");

        a_mac_of_a_group => gateway().runtime("mac", json!("01:00:5e:00:00:07")).refused();
        no_mac => gateway().with("args", json!({"cni": {"mac": "none"}})).refused();
        a_vlan_beyond_4094 => bridge().with("vlan", json!(4095)).refused();
        a_trunk_beyond_4094 => bridge().with("vlanTrunk", json!([{"id": 4095}])).refused();
        a_trunk_backwards => bridge().with("vlanTrunk", json!([{"minID": 20, "maxID": 10}])).refused();
        addresses_that_are_all_taken => gateway().with("ipam", json!({"type": "host-local", "dataDir": "$dir/addresses",
            "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.1", "rangeEnd": "10.1.0.1"})).refused();

        a_guarded_address => gateway().with("macspoofchk", json!(true));
        masqueraded => gateway().with("ipMasq", json!(true)).with("ipMasqBackend", json!("nftables")).differs(&["iptables-tables"]);
        masqueraded_in_both_families => gateway().with("ipMasq", json!(true)).with("ipMasqBackend", json!("nftables"))
            .with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"])).differs(&["iptables-tables"]);
        masqueraded_as_usual => gateway().with("ipMasq", json!(true)).differs(&["masquerade-iptables", "iptables-rules-stay"]);
        masqueraded_by_iptables => gateway().with("ipMasq", json!(true)).with("ipMasqBackend", json!("iptables")).differs(&["masquerade-iptables", "iptables-rules-stay"]);
    }
}

pub mod on_uml {
    use super::*;
    use crate::case::cases;

    cases! {
        a_vlan => bridge().with("vlan", json!(100));
        a_vlan_with_a_gateway => gateway().with("vlan", json!(100)).differs(&["bridge-mac"]);
        a_trunk => bridge().without("ipam").with("vlanTrunk", json!([{"id": 5}, {"minID": 10, "maxID": 20}]));
        a_trunk_and_a_vlan => bridge().with("vlan", json!(100)).with("vlanTrunk", json!([{"id": 5}]));
        the_default_vlan_kept => bridge().with("vlan", json!(100)).with("preserveDefaultVlan", json!(true));
        a_trunk_with_the_default_vlan => bridge().with("vlanTrunk", json!([{"id": 5}])).with("preserveDefaultVlan", json!(true));
        a_bridge_that_filters => bridge().with("vlan", json!(100)).scene(&["ip link add br0 address 02:00:00:00:00:01 type bridge vlan_filtering 1", "ip link set br0 up"])
            .agrees(&["bridge-mac"]).gives_back();
        a_bridge_that_does_not_filter => bridge().with("vlan", json!(100)).scene(&["ip link add br0 type bridge"]).refused_by_us("bridge-does-not-filter");
        on_a_kernel_with_vlans => bridge();
    }
}
