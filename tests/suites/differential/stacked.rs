//! Links that stand on another: `macvlan`, `ipvlan`, `vlan`; and `dummy` and `tap`, which stand alone.

use serde_json::json;

use crate::bridge::subnets;
use crate::case::Case;

/// A wire on the host, both ends of it.
const UP0: [&str; 3] =
    ["ip link add up0 address 02:00:00:00:00:01 type veth peer name up1", "ip link set up0 up", "ip link set up1 up"];

/// The same wire in the pod.
const POD_UP0: [&str; 3] = [
    "pod ip link add up0 address 02:00:00:00:00:01 type veth peer name up1",
    "pod ip link set up0 up",
    "pod ip link set up1 up",
];

fn on(kind: &str, scene: &[&'static str]) -> Case {
    let conf = json!({"type": kind, "master": "up0", "ipam": subnets(&["10.1.0.0/24"])});
    Case::new(vec![conf]).scene(scene).differs(&["group"])
}

fn macvlan() -> Case {
    on("macvlan", &UP0)
}

fn ipvlan() -> Case {
    on("ipvlan", &UP0)
}

fn vlan() -> Case {
    on("vlan", &UP0).with("vlanId", json!(100))
}

/// Of layer 2 alone.
fn bare_tap() -> Case {
    Case::new(vec![json!({"type": "tap"})]).differs(&["group"])
}

fn tap() -> Case {
    bare_tap().with("ipam", subnets(&["10.1.0.0/24"])).differs(&["announced"])
}

fn dummy() -> Case {
    Case::new(vec![json!({"type": "dummy", "ipam": subnets(&["10.1.0.0/24"])})]).differs(&["group"])
}

pub mod on_host {
    use super::*;
    use crate::case::{VERSIONS, cases};

    cases! {
        macvlan_plain => macvlan();
        macvlan_in_every_version => macvlan().versions(&VERSIONS);
        macvlan_private => macvlan().with("mode", json!("private"));
        macvlan_vepa => macvlan().with("mode", json!("vepa"));
        macvlan_passthru => macvlan().with("mode", json!("passthru"));
        macvlan_in_no_mode => macvlan().with("mode", json!("bond")).refused();
        macvlan_with_ipv6 => macvlan().with("ipam", subnets(&["fd00:1::/64"])).differs(&["advertisements"]);
        macvlan_with_both_families => macvlan().with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"]));
        macvlan_with_routes => macvlan().with("ipam", json!({"type": "host-local", "dataDir": "$dir/addresses",
            "subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.0.9"}]}));
        macvlan_of_layer_2_alone => macvlan().without("ipam");
        macvlan_with_an_mtu => macvlan().with("mtu", json!(1400));
        macvlan_with_an_mtu_beyond_its_master => macvlan().with("mtu", json!(9000)).refused();
        macvlan_with_a_broadcast_queue => macvlan().with("bcqueuelen", json!(5000));
        macvlan_with_a_mac => macvlan().with("mac", json!("02:00:5e:00:00:06"));
        tap_plain => tap();
        tap_in_every_version => tap().versions(&VERSIONS);
        tap_of_layer_2_alone => bare_tap();
        tap_with_both_families => tap().with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"]));
        tap_with_an_mtu_and_a_mac => tap().with("mtu", json!(1400)).with("mac", json!("02:00:5e:00:00:06"));
        tap_with_a_mac_from_the_runtime => tap().runtime("mac", json!("02:00:5e:00:00:07"));
        tap_of_several_queues_with_an_owner => tap().with("multiQueue", json!(true)).with("owner", json!(107));
        tap_of_an_owner_and_a_group => tap().with("owner", json!(107)).with("group", json!(36)).differs(&["tap-headers"]);
        tap_on_a_bridge_of_the_pod => bare_tap().with("bridge", json!("br0")).scene(&["pod ip link add br0 type bridge"]);
        tap_on_a_bridge_that_is_missing => bare_tap().with("bridge", json!("br0")).refused();
        tap_with_a_name_service => tap().with("dns", json!({"nameservers": ["10.1.0.1"]}));
        macvlan_with_a_mac_from_cni_args => macvlan().with("mac", json!("02:00:5e:00:00:06")).args("MAC=02:00:5e:00:00:07");
        macvlan_with_a_mac_from_the_runtime => macvlan().with("mac", json!("02:00:5e:00:00:06")).args("MAC=02:00:5e:00:00:07")
            .runtime("mac", json!("02:00:5e:00:00:08"));
        macvlan_with_a_name_service => macvlan().with("dns", json!({"nameservers": ["10.1.0.1"]}));
        macvlan_whose_name_service_is_ipams => macvlan().with("ipam", json!({"type": "static",
            "addresses": [{"address": "10.1.0.5/24"}], "dns": {"nameservers": ["10.1.0.1"]}}));
        macvlan_without_a_master => macvlan().with("master", json!("up9")).refused();
        macvlan_on_the_default_route => macvlan().without("master")
            .scene(&["ip address add 10.9.0.2/24 dev up0", "ip route add default via 10.9.0.1"]);
        macvlan_with_an_address_from_the_runtime => macvlan().runtime("ips", json!(["10.1.0.77"]));
        macvlan_inside_the_pod => on("macvlan", &POD_UP0).with("linkInContainer", json!(true));
        macvlan_with_a_taken_name => macvlan().scene(&["pod ip link add eth0 type veth peer name other"]).refused();
    }
}

pub mod on_uml {
    use super::*;
    use crate::case::{VERSIONS, cases};

    cases! {
        ipvlan_plain => ipvlan();
        ipvlan_in_every_version => ipvlan().versions(&VERSIONS);
        ipvlan_l3 => ipvlan().with("mode", json!("l3"));
        ipvlan_l3s => ipvlan().with("mode", json!("l3s"));
        ipvlan_with_both_families => ipvlan().with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"]));
        ipvlan_with_an_mtu => ipvlan().with("mtu", json!(1400));
        ipvlan_on_the_default_route => ipvlan().without("master")
            .scene(&["ip address add 10.9.0.2/24 dev up0", "ip route add default via 10.9.0.1"]);
        ipvlan_in_no_mode => ipvlan().with("mode", json!("l4")).refused();
        ipvlan_with_ipv6 => ipvlan().with("ipam", subnets(&["fd00:1::/64"]));
        ipvlan_with_an_address_from_the_runtime => ipvlan().runtime("ips", json!(["10.1.0.77"]));
        ipvlan_inside_the_pod => on("ipvlan", &POD_UP0).with("linkInContainer", json!(true));
        ipvlan_with_a_name_service => ipvlan().with("dns", json!({"nameservers": ["10.1.0.1"]}));

        vlan_plain => vlan();
        vlan_in_every_version => vlan().versions(&VERSIONS);
        vlan_with_both_families => vlan().with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"]));
        vlan_with_an_mtu => vlan().with("mtu", json!(1400));
        vlan_with_an_mtu_beyond_its_master => vlan().with("mtu", json!(9000)).refused();
        vlan_of_0 => vlan().with("vlanId", json!(0));
        vlan_with_ipv6 => vlan().with("ipam", subnets(&["fd00:1::/64"]));
        vlan_beyond_4094 => vlan().with("vlanId", json!(4095)).refused();
        vlan_without_a_master => vlan().without("master").refused();
        vlan_inside_the_pod => on("vlan", &POD_UP0).with("vlanId", json!(7)).with("linkInContainer", json!(true));
        vlan_with_a_name_service => vlan().with("dns", json!({"nameservers": ["10.1.0.1"]}));

        dummy_plain => dummy();
        dummy_in_every_version => dummy().versions(&VERSIONS);
        dummy_with_both_families => dummy().with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"]));
        dummy_with_ipv6 => dummy().with("ipam", subnets(&["fd00:1::/64"]));
        dummy_without_addresses => dummy().without("ipam").refused();
    }
}
