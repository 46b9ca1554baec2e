//! Configurations that networks become.

use serde_json::{Value, json};

use super::super::network::{Network, configuration};
use super::{objects, reference};
use crate::bind::ConfFile;
use crate::cni::conf::NetworkConf;
use crate::dialect::files::NodeFiles;
use crate::dialect::objects::{ForeignRef, Kind, NoConfiguration, Objects, meaning, resource};

/// The first plugin of what an object becomes.
fn made(spec: &Value, files: &[ConfFile], own_ipam: bool) -> Result<Value, String> {
    let (all, one) = (objects([(Kind::DanmNet, "internal", spec.clone())]), reference(Kind::DanmNet, "internal"));
    let said = |why: NoConfiguration| match why {
        NoConfiguration::Invalid(finding) => finding.to_string(),
        other => format!("{other:?}"),
    };
    let network = Network::of(&one, &all).map_err(said)?;
    let read = configuration(&one, &network, NodeFiles { files, dirs: &[] }, own_ipam);
    let (conf, _) = read.map_err(said)?;
    Ok(serde_json::from_str(&conf.plugins[0].object.to_json()).unwrap())
}

fn built_in(kind: &str, options: Value) -> Value {
    let mut made = made(&json!({"NetworkID": "int", "NetworkType": kind, "Options": options}), &[], true).unwrap();
    for key in ["cniVersion", "name"] {
        made.as_object_mut().unwrap().remove(key);
    }
    made
}

#[test]
fn types_that_are_built_in_stand_on_the_host_device() {
    let device = json!({"host_device": "eth1"});
    assert_eq!(built_in("", device.clone()), json!({"type": "ipvlan", "mode": "l2", "master": "eth1"}));
    assert_eq!(built_in("IPVLAN", json!({"host_device": "eth1", "mtu": 1400}))["mtu"], 1400);
    let macvlan = json!({"type": "macvlan", "mode": "bridge", "master": "eth1", "mtu": 1500});
    assert_eq!(built_in("macvlan", device), macvlan, "as DANM 4.3 has it");
    assert_eq!(
        built_in("ipvlan", json!({"host_device": "eth1", "vlan": 300})),
        json!({"type": "ipvlan", "mode": "l2", "master": "eth1", "masterVlan": 300, "masterVlanName": "int.300"})
    );
    assert_eq!(
        built_in("macvlan", json!({"host_device": "eth1", "vxlan": 600, "mtu": 1450})),
        json!({"type": "vxlan", "vni": 600, "port": 4789, "underlay": "eth1", "mtu": 1450})
    );
    let pool = json!({"device_pool": "nokia.k8s.io/sriov", "vlan": 500});
    assert_eq!(built_in("sriov", pool.clone()), json!({"type": "sriov", "vlan": 500}));
    let spec = json!({"NetworkID": "n", "NetworkType": "sriov", "Options": pool}).to_string();
    assert_eq!(resource(&reference(Kind::DanmNet, "n"), &spec).as_deref(), Some("nokia.k8s.io/sriov"));
    for (spec, why) in [
        (
            json!({"NetworkID": "n"}),
            "DanmNet shop/internal: spec.Options.host_device: missing, want a link of the nodes",
        ),
        (json!({"Options": {"host_device": "eth1"}}), "spec.NetworkID: missing"),
        (json!({"NetworkID": "n", "NetworkType": "sriov"}), "spec.Options.device_pool: missing"),
        (json!({"NetworkID": "n", "Options": {"host_device": 7}}), "spec.Options.host_device: got 7"),
    ] {
        let said = made(&spec, &[], true).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_pool_is_a_range_of_blocks_without_the_routers() {
    let options = |more: Value| {
        let mut options = json!({"host_device": "eth1", "cidr": "192.168.1.64/26"});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        built_in("ipvlan", options)["ipam"].clone()
    };
    assert_eq!(options(json!({})), json!({"type": "blocks", "ranges": [[{"subnet": "192.168.1.64/26"}]]}));
    assert_eq!(
        options(json!({"allocation_pool": {"start": "192.168.1.70"}, "routes": {"10.0.0.0/8": "192.168.1.65"}})),
        json!({"type": "blocks", "exclude": ["192.168.1.65"], "ranges": [[
            {"subnet": "192.168.1.64/26", "rangeStart": "192.168.1.70", "rangeEnd": "192.168.1.126"}]]})
    );
    let dual = options(json!({"net6": "2001:db8::/64"}));
    let range = json!([{"subnet": "2001:db8::/64", "rangeStart": "2001:db8::1", "rangeEnd": "2001:db8::3f:fffe"}]);
    assert_eq!(dual["ranges"][1], range, "the first addresses of a subnet that has more than anybody numbers");
    let told = options(
        json!({"net6": "2001:db8::/64", "allocation_pool_v6": {"cidr": "2001:db8::100/120", "end": "2001:db8::1ff"}}),
    );
    assert_eq!(told["ranges"][1][0]["rangeStart"], "2001:db8::101");
    assert_eq!(told["ranges"][1][0]["rangeEnd"], "2001:db8::1ff");
}

#[test]
fn a_plugin_with_a_file_has_the_addresses_of_the_file_or_those_of_its_network() {
    let file = |name: &str, text: &str| ConfFile { name: name.to_owned(), conf: NetworkConf::parse(text.as_bytes()) };
    let files = [
        file("10-bridge.conf", r#"{"name":"other","type":"bridge"}"#),
        file(
            "bridge.conf",
            r#"{"name":"br","type":"bridge","bridge":"br0","ipam":{"type":"host-local","subnet":"10.9.0.0/24"}}"#,
        ),
        file("list.conflist", r#"{"name":"l","plugins":[{"type":"ptp"},{"type":"tuning"}]}"#),
        file("multus.conf", r#"{"name":"m","type":"multus"}"#),
    ];
    let spec = |id: &str, kind: &str| json!({"NetworkID": id, "NetworkType": kind, "Options": {"cidr": "10.0.0.0/24"}});
    let own = made(&spec("bridge", "bridge"), &files, true).unwrap();
    assert_eq!(own["ipam"], json!({"type": "blocks", "ranges": [[{"subnet": "10.0.0.0/24"}]]}));
    assert_eq!(own["bridge"], "br0");
    let kept = made(&spec("bridge", "bridge"), &files, false).unwrap();
    assert_eq!(kept["ipam"]["subnet"], "10.9.0.0/24");
    assert_eq!(made(&spec("list", "ptp"), &files, false).unwrap()["type"], "ptp");
    for (id, kind, why) in [
        ("list", "bridge", r#"spec.NetworkType: got "bridge", want "ptp", the type in file list.conflist"#),
        ("multus", "multus", "meta plugin"),
        ("none", "bridge", "NoFile"),
    ] {
        let said = made(&spec(id, kind), &files, false).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn what_danm_writes_is_not_what_a_network_means() {
    let options = json!({"cidr": "10.0.0.0/24", "alloc": "gAAB", "alloc6": "g", "allocation_pool": {"start": "10.0.0.2", "lastIp": "10.0.0.9"}});
    let spec = meaning(Kind::ClusterNetwork, json!({"NetworkID": "n", "Options": options}));
    assert_eq!(spec["Options"], json!({"cidr": "10.0.0.0/24", "allocation_pool": {"start": "10.0.0.2"}}));
    assert!(Network::of(&reference(Kind::DanmNet, "none"), &Objects::new()).is_err());
}

#[test]
fn an_object_is_a_network_of_its_own_for_the_nodes() {
    let names = [Kind::DanmNet, Kind::TenantNetwork, Kind::ClusterNetwork]
        .map(|kind| reference(kind, "internal").as_definition().to_string());
    for kind in [Kind::DanmNet, Kind::ClusterNetwork] {
        let one = reference(kind, "internal.a");
        assert_eq!(ForeignRef::of_definition(&one.as_definition()), Some(one));
    }
    assert_eq!(names, ["shop/internal.danmnet", "shop/internal.tenantnetwork", "kube-system/internal.clusternetwork"]);
}

#[test]
fn a_path_of_the_api_has_group_version_and_plural() {
    let of =
        |kind: Kind, namespace: Option<&str>| kind.collections(namespace.map(|name| name.parse().unwrap()).as_ref());
    assert_eq!(of(Kind::Logicalnetwork, None), ["/apis/alpha.network.k8s.io/v1/logicalnetworks"]);
    let both = ["danm.k8s.io", "danm.io"].map(|group| format!("/apis/{group}/v1/namespaces/shop/danmnets"));
    assert_eq!(of(Kind::DanmNet, Some("shop")), both);
    assert_eq!(of(Kind::ClusterNetwork, None)[1], "/apis/danm.io/v1/clusternetworks");
}
