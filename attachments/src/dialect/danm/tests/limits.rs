//! What a TenantConfig says of the networks of a pod's list.

use serde_json::{Value, json};

use super::lists::settled;
use super::{objects, reference};
use crate::dialect::danm::tenant;
use crate::dialect::objects::{Kind, Objects, beside, meaning};

const LIST: &str = r#"[{"tenantNetwork":"internal","ip":"dynamic"}]"#;

/// A tenant's network with these options, where the TenantConfig `limits` lists two links and a pool.
fn limited(kind: &str, options: Value) -> Objects {
    let mut network = json!({"NetworkID": "int", "NetworkType": kind, "Options": {"cidr": "10.0.0.0/24"}});
    network["Options"].as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let devices = json!([{"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}, {"name": "ens5"},
        {"name": "ens3", "vniType": "vlan", "vniRange": "200,500-510"}, {"name": "a.io/pool"}]);
    objects([
        (Kind::TenantNetwork, "internal", network),
        (Kind::TenantConfig, "limits", json!({"hostDevices": devices})),
        (Kind::TenantConfig, "second", json!({"hostDevices": [{"name": "ens9"}]})),
    ])
}

#[test]
fn a_tenants_network_is_on_a_link_of_its_tenant_config_with_an_identifier_of_its_range() {
    for (kind, options) in [
        ("ipvlan", json!({"host_device": "ens3", "vlan": 505})),
        ("", json!({"host_device": "ens4", "vxlan": 700})),
        ("macvlan", json!({"host_device": "ens5"})),
        ("sriov", json!({"device_pool": "a.io/pool"})),
        ("bridge", json!({"host_device": "ens9"})),
    ] {
        let settled = settled(LIST, &limited(kind, options.clone())).unwrap_or_else(|e| panic!("{options}: {e}"));
        assert!(settled.warnings.is_empty(), "{:?}", settled.warnings);
    }
    for (kind, options, why) in [
        (
            "ipvlan",
            json!({"host_device": "ens9", "vlan": 505}),
            "host_device: got ens9, want a device that TenantConfig limits lists: ens4, ens5, ens3, a.io/pool",
        ),
        ("sriov", json!({"device_pool": "b.io/pool"}), "device_pool: got b.io/pool, want a device that"),
        (
            "MACVLAN",
            json!({"host_device": "ens3", "vlan": 300}),
            "vlan: got 300, want one of 200,500-510, which TenantConfig limits gives of ens3",
        ),
        ("", json!({"host_device": "ens3"}), "vlan: missing, want one of 200,500-510"),
        ("", json!({"host_device": "ens3", "vxlan": 705}), "vlan: missing, want one of 200,500-510"),
        ("", json!({"host_device": "ens4", "vxlan": 711}), "vxlan: got 711, want one of 700-710"),
        (
            "",
            json!({"host_device": "ens5", "vlan": 7}),
            "vlan: got 7, want nothing: TenantConfig limits gives no vlan of ens5",
        ),
    ] {
        let said = settled(LIST, &limited(kind, options.clone())).unwrap_err();
        let want = format!("TenantNetwork shop/internal: spec.Options.{why}");
        assert!(said.starts_with(&want), "{options}: {said}");
    }
}

#[test]
fn a_config_that_cannot_be_read_refuses_and_none_is_told() {
    let mut all = limited("", json!({"host_device": "ens9"}));
    let limits = reference(Kind::TenantConfig, "limits");
    all.insert(limits.clone(), r#"{"hostDevices":[{"name":""}]}"#.to_owned());
    let said = settled(LIST, &all).unwrap_err();
    assert!(said.starts_with("TenantConfig limits: hostDevices[0].name: missing"), "{said}");
    all.retain(|one, _| one.kind != Kind::TenantConfig);
    let said = settled(LIST, &all).unwrap().warnings;
    assert_eq!(said, ["TenantNetwork shop/internal: there is no TenantConfig, so nothing limits its link"]);
    let network = json!({"NetworkID": "n", "Options": {"host_device": "ens9"}});
    let others = objects([(Kind::ClusterNetwork, "ext", network.clone()), (Kind::DanmNet, "net", network)]);
    for list in [r#"[{"clusterNetwork":"ext"}]"#, r#"[{"network":"net"}]"#] {
        assert!(settled(list, &others).unwrap().warnings.is_empty(), "it is nobody's but the administrator's");
    }
}

#[test]
fn the_first_config_by_name_counts_beside_networks_of_tenants() {
    let all = limited("", json!({}));
    let of = |kind| beside(&reference(kind, "internal"), &all);
    assert_eq!(of(Kind::TenantNetwork), [&reference(Kind::TenantConfig, "limits")]);
    assert!(of(Kind::DanmNet).is_empty() && of(Kind::ClusterNetwork).is_empty());
    let says = tenant::says([json!([{"name": "ens3", "alloc": "gAAB"}]), Value::Null, json!([])]);
    let want = json!({"hostDevices": [{"name": "ens3"}], "allowedClusterNetworks": []});
    assert_eq!(meaning(Kind::TenantConfig, says), want, "what DANM writes is not what it means");
}
