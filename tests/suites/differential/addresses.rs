//! `host-local` and `static` behind a bridge: every key, every way to ask for an address.

use serde_json::{Value, json};

use crate::bridge::{gateway, subnets};
use crate::case::Case;

fn host_local(keys: Value) -> Case {
    let mut ipam = json!({"type": "host-local", "dataDir": "$dir/addresses"});
    for (key, value) in keys.as_object().unwrap() {
        ipam[key] = value.clone();
    }
    gateway().with("ipam", ipam)
}

fn fixed(keys: Value) -> Case {
    let mut ipam = json!({"type": "static"});
    for (key, value) in keys.as_object().unwrap() {
        ipam[key] = value.clone();
    }
    gateway().with("ipam", ipam)
}

fn one_fixed() -> Case {
    fixed(json!({"addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.254"}]}))
}

pub mod on_host {
    use super::*;
    use crate::case::{VERSIONS, cases};

    cases! {
        the_old_form => host_local(json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.20", "rangeEnd": "10.1.0.30", "gateway": "10.1.0.254"}));
        the_old_form_and_ranges => host_local(json!({"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "fd00:1::/64"}]]}));
        a_pool_of_ranges => host_local(json!({"ranges": [[
            {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.10", "gateway": "10.1.0.10"},
            {"subnet": "10.2.0.0/24", "rangeStart": "10.2.0.10"},
        ]]}));
        a_gateway_elsewhere => host_local(json!({"subnet": "10.1.0.0/24", "gateway": "10.1.0.77"}));
        routes => host_local(json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "192.0.2.0/24"}, {"dst": "198.51.100.0/24", "gw": "10.1.0.9"}]}));
        routes_in_every_version => host_local(json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "192.0.2.0/24"}, {"dst": "198.51.100.0/24", "gw": "10.1.0.9"}]})).versions(&VERSIONS);
        a_default_route_of_its_own => host_local(json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}))
            .refused_by_them("default-route-twice");
        a_default_route_without_a_gateway => host_local(json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}))
            .without("isDefaultGateway").differs(&["bridge-mac"]);
        a_default_route_through_another => host_local(json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.9"}]}));
        routes_with_everything => host_local(json!({"subnet": "10.1.0.0/24", "routes": [
            {"dst": "192.0.2.0/24", "priority": 50, "table": 300}, {"dst": "198.51.100.0/24", "gw": "10.1.0.9", "scope": 0}]}));
        routes_with_sizes => host_local(json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "192.0.2.0/24", "mtu": 1300, "advmss": 1200}]}))
            .differs(&["route-sizes"]);
        a_route_of_the_link => host_local(json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "198.51.100.0/24", "scope": 253}]})).refused();
        routes_of_ipv6 => host_local(json!({"subnet": "fd00:1::/64", "routes": [{"dst": "2001:db8::/32"}, {"dst": "2001:db9::/32", "gw": "fd00:1::9", "priority": 7}]}));
        a_resolver => host_local(json!({"subnet": "10.1.0.0/24", "resolvConf": "$dir/resolv.conf"}))
            .file("resolv.conf", "# the node's\nnameserver 10.1.0.53\nnameserver fd00:1::53\ndomain d\nsearch s t\noptions ndots:2 edns0\n");
        addresses_from_the_runtime => gateway().with("ipam", subnets(&["10.1.0.0/24"])).runtime("ips", json!(["10.1.0.33"]));
        addresses_from_args => gateway().with("args", json!({"cni": {"ips": ["10.1.0.34"]}}));
        addresses_from_cni_args => gateway().args("IP=10.1.0.35");
        an_address_outside => gateway().runtime("ips", json!(["10.9.0.33"])).refused();
        the_gateways_address => gateway().runtime("ips", json!(["10.1.0.1"])).refused();
        ranges_from_the_runtime => gateway().with("ipam", json!({"type": "host-local", "dataDir": "$dir/addresses"}))
            .runtime("ipRanges", json!([[{"subnet": "10.3.0.0/24"}], [{"subnet": "fd00:3::/64"}]]));
        host_bits => host_local(json!({"subnet": "10.1.0.1/24"})).refused();
        a_start_outside => host_local(json!({"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"})).refused();
        no_range => host_local(json!({})).refused();
        a_pool_of_two_families => host_local(json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00:1::/64"}]]})).refused();

        fixed_address => one_fixed();
        fixed_address_in_every_version => one_fixed().versions(&VERSIONS);
        fixed_addresses => fixed(json!({"addresses": [{"address": "10.1.0.5/24"}, {"address": "fd00:1::5/64", "gateway": "fd00:1::1"}],
            "routes": [{"dst": "192.0.2.0/24"}, {"dst": "2001:db8::/32", "gw": "fd00:1::9"}],
            "dns": {"nameservers": ["10.1.0.1"], "domain": "d", "search": ["s"], "options": ["o"]}}));
        fixed_by_the_runtime => one_fixed().runtime("ips", json!(["10.1.0.40/24"]));
        fixed_by_args => one_fixed().with("args", json!({"cni": {"ips": ["10.1.0.41/24"]}}));
        fixed_by_cni_args => one_fixed().without("isDefaultGateway").differs(&["bridge-mac"]).args("IP=10.2.0.42/24;GATEWAY=10.2.0.1");
        fixed_without_a_prefix => fixed(json!({"addresses": [{"address": "10.1.0.5"}]})).refused();
        nothing_fixed => fixed(json!({})).refused();
    }
}
