//! What stands behind another plugin in its chain: `tuning`, `portmap`, `bandwidth`, `sbr`, `vrf`.

use serde_json::{Value, json};

use crate::bridge::{gateway, subnets};
use crate::case::Case;

/// Versions that have chains with every plugin of this file.
const CHAINS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

fn tuned(keys: Value) -> Case {
    let mut tuning = json!({"type": "tuning", "dataDir": "$dir/data"});
    for (key, value) in keys.as_object().unwrap() {
        tuning[key] = value.clone();
    }
    gateway().then(tuning).differs(&["tuning-backup"])
}

fn mapped(mappings: Value) -> Case {
    mapped_with(json!({}), mappings)
}

fn mapped_with(keys: Value, mappings: Value) -> Case {
    let mut portmap = json!({"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}});
    for (key, value) in keys.as_object().unwrap() {
        portmap[key] = value.clone();
    }
    let mut case = gateway().then(portmap);
    case.runtime["portMappings"] = mappings;
    case
}

fn limited(keys: Value) -> Case {
    let mut bandwidth = json!({"type": "bandwidth"});
    for (key, value) in keys.as_object().unwrap() {
        bandwidth[key] = value.clone();
    }
    gateway().then(bandwidth).agrees(&["veth-queue"])
}

fn sourced(keys: Value) -> Case {
    let mut sbr = json!({"type": "sbr"});
    for (key, value) in keys.as_object().unwrap() {
        sbr[key] = value.clone();
    }
    gateway().then(sbr).differs(&["sbr-tables", "sbr-link-local"])
}

fn in_vrf(keys: Value) -> Case {
    let mut vrf = json!({"type": "vrf", "vrfname": "blue"});
    for (key, value) in keys.as_object().unwrap() {
        vrf[key] = value.clone();
    }
    gateway().then(vrf)
}

fn web() -> Value {
    json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}])
}

pub mod on_host {
    use super::*;
    use crate::case::cases;

    cases! {
        tuning_nothing => tuned(json!({})).agrees(&["tuning-backup"]);
        tuning_a_setting => tuned(json!({"sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1", "net.core.somaxconn": "500"}})).agrees(&["tuning-backup"]).differs(&["tuning-restores"]);
        tuning_in_every_version => tuned(json!({"sysctl": {"net.ipv4.conf.eth0.log_martians": "1"}, "mtu": 1400})).versions(&CHAINS);
        tuning_a_mac => tuned(json!({"mac": "02:00:5e:00:00:06"}));
        tuning_a_mac_from_cni_args => tuned(json!({"mac": "02:00:5e:00:00:06"})).args("MAC=02:00:5e:00:00:07");
        tuning_a_mac_from_args => tuned(json!({"mac": "02:00:5e:00:00:06", "args": {"cni": {"mac": "02:00:5e:00:00:08"}}}));
        tuning_an_mtu => tuned(json!({"mtu": 1300}));
        tuning_promiscuous => tuned(json!({"promisc": true}));
        tuning_all_multicast => tuned(json!({"allmulti": true}));
        tuning_a_queue => tuned(json!({"txQLen": 500}));
        tuning_by_args => tuned(json!({"args": {"cni": {"mtu": 1200, "promisc": true, "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}}}}))
            .refused_by_them("tuning-args-alone");
        tuning_by_args_beside_keys => tuned(json!({"sysctl": {}, "args": {"cni": {"mtu": 1200, "promisc": true, "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}}}}));
        tuning_a_mac_from_the_runtime => {
            let mut case = tuned(json!({"mac": "02:00:5e:00:00:06", "capabilities": {"mac": true}})).args("MAC=02:00:5e:00:00:07");
            case.runtime["mac"] = json!("02:00:5e:00:00:09");
            case
        };
        tuning_what_is_so_already => tuned(json!({"promisc": false, "allmulti": false, "mtu": 0}));
        tuning_everything_at_once => tuned(json!({"mac": "02:00:5e:00:00:06", "promisc": true, "mtu": 1400, "allmulti": true, "txQLen": 500,
            "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}));
        tuning_no_mac => tuned(json!({"mac": "none"})).refused();
        tuning_above_net => tuned(json!({"sysctl": {"net/../kernel/hostname": "x"}})).refused();
        tuning_outside_of_net => tuned(json!({"sysctl": {"kernel.hostname": "x"}})).refused();
        tuning_what_is_not_there => tuned(json!({"sysctl": {"net.ipv4.nothing": "1"}})).refused();
        tuning_alone => Case::new(vec![json!({"type": "tuning", "dataDir": "$dir/data"})]).refused();

        portmap_of_nothing => mapped(json!([]));
        portmap_of_one => mapped(web());
        portmap_in_every_version => mapped(web()).versions(&CHAINS);
        portmap_of_several => mapped(json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 5353, "containerPort": 53, "protocol": "udp"}, {"hostPort": 9, "containerPort": 9, "protocol": "sctp"}]));
        portmap_of_a_host_address => mapped(json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "10.9.0.1"}]));
        portmap_of_any_host_address => mapped(json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "0.0.0.0"}]));
        portmap_in_both_families => mapped(web()).with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"]));
        portmap_of_ipv6 => mapped(web()).with("ipam", subnets(&["fd00:1::/64"]));
        portmap_without_snat => mapped_with(json!({"snat": false}), web());
        portmap_that_masquerades_all => mapped_with(json!({"masqAll": true}), web()).differs(&["portmap-masquerades-all"]);
        portmap_with_conditions => mapped_with(json!({"conditionsV4": ["ip", "daddr", "!=", "192.0.2.0/24"]}), web()).differs(&["portmap-conditions"]);
        portmap_with_conditions_of_ipv6 => mapped_with(json!({"conditionsV6": ["ip6", "daddr", "!=", "fc00::/7"]}), web())
            .with("ipam", subnets(&["fd00:1::/64"])).differs(&["portmap-conditions"]);
        portmap_of_a_host_address_of_ipv6 => mapped(json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "fd00:9::1"}]))
            .with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"])).differs(&["portmap-one-family"]).unchecked();
        // Their nftables backend hands it on as it is, and `nft` refuses it.
        portmap_in_capitals => mapped_with(json!({"backend": "iptables"}), json!([{"hostPort": 8080, "containerPort": 80, "protocol": "TCP"}]))
            .differs(&["portmap-iptables", "iptables-rules-stay"]).unchecked();
        portmap_of_port_0_of_the_pod => mapped(json!([{"hostPort": 8080, "containerPort": 0, "protocol": "tcp"}])).refused();
        portmap_of_iptables_with_a_mark => mapped_with(json!({"backend": "iptables", "markMasqBit": 13}), web())
            .differs(&["portmap-iptables", "iptables-rules-stay"]).unchecked();
        portmap_of_a_mark_beyond_31 => mapped_with(json!({"backend": "iptables", "markMasqBit": 32}), web()).refused();
        portmap_of_no_backend => mapped_with(json!({"backend": "ipfw"}), web()).refused();
        portmap_of_iptables => mapped_with(json!({"backend": "iptables"}), web()).differs(&["portmap-iptables", "iptables-rules-stay"]).unchecked();
        portmap_beside_masquerading => mapped(web()).with("ipMasq", json!(true)).with("ipMasqBackend", json!("nftables")).differs(&["iptables-tables"]);

        bandwidth_in => limited(json!({"ingressRate": 8000000, "ingressBurst": 1600000}));
        bandwidth_out => limited(json!({"egressRate": 8000000, "egressBurst": 1600000})).differs(&["bandwidth-mirror"]);
        bandwidth_both_in_every_version => limited(json!({"ingressRate": 8000000, "ingressBurst": 1600000,
            "egressRate": 4000000, "egressBurst": 800000})).differs(&["bandwidth-mirror"]).versions(&CHAINS);
        bandwidth_of_nothing => limited(json!({})).differs(&["veth-queue"]);
        bandwidth_without_a_burst => limited(json!({"ingressRate": 8000000})).refused();
        bandwidth_by_the_runtime => {
            let mut case = limited(json!({"capabilities": {"bandwidth": true}}));
            case.runtime["bandwidth"] = json!({"ingressRate": 8000000, "ingressBurst": 1600000});
            case
        };

        bandwidth_by_the_runtime_both_ways => {
            let mut case = limited(json!({"capabilities": {"bandwidth": true}})).differs(&["bandwidth-mirror"]);
            case.runtime["bandwidth"] = json!({"ingressRate": 8000000, "ingressBurst": 1600000, "egressRate": 4000000, "egressBurst": 800000});
            case
        };
        bandwidth_of_its_own_before_the_runtimes => {
            let mut case = limited(json!({"ingressRate": 4000000, "ingressBurst": 800000, "capabilities": {"bandwidth": true}}));
            case.runtime["bandwidth"] = json!({"ingressRate": 8000000, "ingressBurst": 1600000});
            case
        };
        bandwidth_without_a_rate => limited(json!({"egressBurst": 8000000})).refused();
        bandwidth_of_a_burst_beyond_4_gib => limited(json!({"ingressRate": 8000000, "ingressBurst": 34_359_738_360_u64})).refused();

        sbr_of_one => sourced(json!({}));
        sbr_in_every_version => sourced(json!({})).versions(&CHAINS);
        sbr_in_a_table => sourced(json!({"table": 300})).agrees(&["sbr-tables", "sbr-link-local"]);
        sbr_of_both_families => sourced(json!({})).with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"])).differs(&["sbr-other-family"]);
        sbr_of_ipv6 => sourced(json!({})).with("ipam", subnets(&["fd00:1::/64"]));
        sbr_of_several => sourced(json!({})).with("ipam", subnets(&["10.1.0.0/24", "10.2.0.0/24"])).without("isDefaultGateway").differs(&["bridge-mac"]).agrees(&["sbr-tables"]);
    }
}

pub mod on_uml {
    use super::*;
    use crate::case::cases;

    cases! {
        vrf_of_one => in_vrf(json!({}));
        vrf_in_every_version => in_vrf(json!({})).versions(&CHAINS[1..]);
        vrf_with_a_table => in_vrf(json!({"table": 300}));
        vrf_with_both_families => in_vrf(json!({})).with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"]));
        vrf_with_ipv6 => in_vrf(json!({})).with("ipam", subnets(&["fd00:1::/64"]));
        vrf_that_is_there => in_vrf(json!({"table": 10})).scene(&["pod ip link add blue type vrf table 10", "pod ip link set blue up"]);
        vrf_that_is_there_with_another_table => in_vrf(json!({"table": 20})).scene(&["pod ip link add blue type vrf table 10", "pod ip link add other type dummy", "pod ip link set other master blue"]).refused();
        vrf_without_a_name => in_vrf(json!({"vrfname": ""})).refused();
    }
}
