//! DANM's own cases of admission, as values.

use serde_json::{Value, json};

use super::super::judge::{Before, judge};
use super::object;
use crate::dialect::objects::Kind;

fn network(options: Value) -> Value {
    json!({"NetworkID": "nanomsg", "NetworkType": "ipvlan", "Options": options})
}

fn found(kind: Kind, spec: &Value) -> Vec<String> {
    judge(kind, &object(spec), None).iter().map(|finding| finding.path.clone()).collect()
}

#[test]
fn what_danm_refuses_is_refused_where_it_is_wrong() {
    let v4 = |more: Value| {
        let mut options = json!({"cidr": "192.168.1.64/26"});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        network(options)
    };
    let v6 = |more: Value| {
        let mut options = json!({"net6": "2a00:8a00:a000:1193::/64"});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        network(options)
    };
    let pool6 = |pool: Value| v6(json!({"allocation_pool_v6": pool}));
    for (spec, at) in [
        (network(json!({"routes": {"10.20.0.0/24": "10.0.0.1"}})), "Options.routes"),
        (network(json!({"cidr": "192.168.1.0/a4"})), "Options.cidr"),
        (network(json!({"cidr": "10.0.0.0/7"})), "Options.cidr"),
        (network(json!({"cidr": "2a00::/64"})), "Options.cidr"),
        (
            network(json!({"cidr": "10.20.1.0/24", "routes": {"10.20.20.0/24": "10.20.0.1"}})),
            r#"Options.routes["10.20.20.0/24"]"#,
        ),
        (network(json!({"routes6": {"2a00::/64": "2a00::1"}})), "Options.routes6"),
        (network(json!({"net6": "2a00:8a00:a000:1193::/a4"})), "Options.net6"),
        (network(json!({"net6": "192.168.1.64/26"})), "Options.net6"),
        (v6(json!({"routes6": {"3a00::/64": "2a00:8a00:a000:1192::1"}})), r#"Options.routes6["3a00::/64"]"#),
        (network(json!({"vlan": 50, "vxlan": 60})), "Options.vxlan"),
        (network(json!({"vlan": 0})), "Options.vlan"),
        (network(json!({"vlan": 4095})), "Options.vlan"),
        (network(json!({"vxlan": 16_777_215})), "Options.vxlan"),
        (network(json!({"rt_tables": 300})), "Options.rt_tables"),
        (network(json!({"mtu": 1279})), "Options.mtu"),
        (network(json!({"mtu": 9001})), "Options.mtu"),
        (json!({"NetworkType": "ipvlan"}), "NetworkID"),
        (json!({"NetworkID": "abcdeftgasdf", "Options": {"vlan": 50}}), "NetworkID"),
        (json!({"NetworkID": "abcdeftgasdf", "Options": {"vxlan": 50}}), "NetworkID"),
        (json!({"NetworkID": "n", "AllowedTenants": ["tenant1"]}), "AllowedTenants"),
        (json!({"NetworkID": "n", "NetworkType": "sriov"}), "Options.device_pool"),
        (
            json!({"NetworkID": "n", "NetworkType": "sriov", "Options": {"host_device": "ens3", "device_pool": "p"}}),
            "Options.host_device",
        ),
        (network(json!({"host_device": "ens3", "device_pool": "p"})), "Options.host_device"),
        (v4(json!({"alloc": "gAAAAAE="})), "Options.alloc"),
        (v6(json!({"alloc6": "gAAAAAE="})), "Options.alloc6"),
        (network(json!({"allocation_pool": {"start": "192.168.1.65"}})), "Options.allocation_pool"),
        (v4(json!({"allocation_pool": {"start": "192.168.1.63"}})), "Options.allocation_pool.start"),
        (v4(json!({"allocation_pool": {"end": "192.168.1.128"}})), "Options.allocation_pool.end"),
        (
            v4(json!({"allocation_pool": {"start": "192.168.1.70", "end": "192.168.1.70"}})),
            "Options.allocation_pool.end",
        ),
        (
            v4(json!({"allocation_pool": {"start": "192.168.1.80", "end": "192.168.1.70"}})),
            "Options.allocation_pool.end",
        ),
        (network(json!({"allocation_pool_v6": {"start": "2a00::1"}})), "Options.allocation_pool_v6"),
        (pool6(json!({"cidr": "192.168.1.64/26"})), "Options.allocation_pool_v6.cidr"),
        (pool6(json!({"cidr": "2a00:8a00:a000:1193::/129"})), "Options.allocation_pool_v6.cidr"),
        (pool6(json!({"cidr": "2a00:8a00:a000:1193::/104"})), "Options.allocation_pool_v6.cidr"),
        (pool6(json!({"cidr": "2a00:8a00:a000:1194::/110"})), "Options.allocation_pool_v6.cidr"),
        (
            network(json!({"net6": "2a00::/110", "allocation_pool_v6": {"cidr": "2a00::/109"}})),
            "Options.allocation_pool_v6.cidr",
        ),
        (pool6(json!({"start": "2a00:8a00:a000:1193::hulu"})), "Options.allocation_pool_v6.start"),
        (
            pool6(json!({"start": "2a00:8a00:a000:1193::5", "end": "2a00:8a00:a000:1193::5"})),
            "Options.allocation_pool_v6.end",
        ),
        (
            network(json!({"cidr": "10.0.0.0/9", "net6": "2a00::/64", "allocation_pool_v6": {"cidr": "2a00::/105"}})),
            "Options.allocation_pool_v6",
        ),
        (json!({"NetworkID": "n", "Option": {}}), "Option"),
        (network(json!({"vlanId": 5})), "Options.vlanId"),
        (network(json!({"vlan": "5"})), "Options.vlan"),
    ] {
        assert_eq!(found(Kind::DanmNet, &spec), [format!("spec.{at}")], "{spec}");
    }
}

#[test]
fn what_danm_takes_is_taken() {
    for spec in [
        json!({"NetworkID": "nanomsg"}),
        json!({"NetworkID": "flannelisalongname", "NetworkType": "flannel"}),
        json!({"NetworkID": "n", "NetworkType": "sriov", "Options": {"device_pool": "nokia.k8s.io/sriov_ens1f1", "vlan": 5}}),
        network(json!({"host_device": "ens3", "cidr": "10.0.0.0/9"})),
        network(json!({"host_device": "ens3", "vlan": 4094, "mtu": 9000})),
        network(json!({"host_device": "ens3", "vxlan": 16_777_214, "mtu": 1280})),
        network(
            json!({"cidr": "192.168.1.64/26", "allocation_pool": {"start": "192.168.1.65", "end": "192.168.1.126"}}),
        ),
        network(json!({"cidr": "192.168.1.64/26", "routes": {"0.0.0.0/0": "192.168.1.65"}, "rt_tables": 10})),
        network(json!({"net6": "2a00::/64"})),
        network(json!({"net6": "2a00::/120", "routes6": {"::0/0": "2a00::1"}})),
        network(json!({"net6": "2a00::/64", "allocation_pool_v6": {"cidr": "2a00::/105"}})),
        network(json!({"net6": "2a00::/64", "allocation_pool_v6": {"cidr": "2a00::/127"}})),
        network(json!({"alloc": "", "container_prefix": "ext"})),
    ] {
        assert_eq!(judge(Kind::DanmNet, &object(&spec), None), [], "{spec}");
    }
    let tenants = json!({"NetworkID": "n", "AllowedTenants": ["tenant1", "tenant2"]});
    assert!(found(Kind::ClusterNetwork, &tenants).is_empty());
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let options =
        json!({"vlan": 50, "vxlan": 60, "cidr": "10.0.0.0/7", "net6": "x", "mtu": 1, "alloc": "g", "extra": 1});
    let spec = json!({"NetworkType": "sriov", "AllowedTenants": ["a"], "Options": options});
    let mut paths = found(Kind::TenantNetwork, &spec);
    paths.sort();
    let want = [
        "AllowedTenants",
        "NetworkID",
        "Options.alloc",
        "Options.cidr",
        "Options.device_pool",
        "Options.extra",
        "Options.mtu",
        "Options.net6",
        "Options.vlan",
        "Options.vxlan",
        "Options.vxlan",
    ]
    .map(|at| format!("spec.{at}"));
    assert_eq!(paths, want);
}

#[test]
fn a_tenants_link_never_changes_and_no_link_under_its_pods() {
    let changed = |kind, before: &Value, after: &Value, is_in_use| {
        let before = object(before);
        let found = judge(kind, &object(after), Some(Before { spec: &before, is_in_use }));
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let options = |device: &str, vlan: i64, mtu: i64| {
        network(json!({"host_device": device, "vlan": vlan, "mtu": mtu, "alloc": "gAE="}))
    };
    let old = options("ens3", 5, 1500);
    for (new, at) in [(options("ens4", 5, 1500), "host_device"), (options("ens3", 6, 1500), "vlan")] {
        let (tenants, used) =
            (changed(Kind::TenantNetwork, &old, &new, false), changed(Kind::DanmNet, &old, &new, true));
        assert!(tenants.len() == 1 && tenants[0].contains(at) && tenants[0].contains("keeps its link"), "{tenants:?}");
        assert!(used.len() == 1 && used[0].contains(at) && used[0].contains("pods are attached"), "{used:?}");
        assert!(changed(Kind::ClusterNetwork, &old, &new, false).is_empty());
    }
    assert_eq!(
        changed(Kind::ClusterNetwork, &old, &options("ens3", 5, 1400), true),
        ["spec.Options.mtu: got 1400, want at least 1500: pods are attached"]
    );
    assert!(changed(Kind::ClusterNetwork, &old, &options("ens3", 5, 9000), true).is_empty());
    let mut renamed = old.clone();
    renamed["NetworkID"] = json!("other");
    assert!(changed(Kind::TenantNetwork, &old, &renamed, true).is_empty(), "state and NetworkID are no links");
    let by_hand = found(Kind::TenantNetwork, &network(json!({"vlan": 5})));
    assert_eq!(by_hand, ["spec.Options.vlan"], "a TenantConfig gives it");
}
