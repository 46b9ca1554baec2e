//! Addresses that ReservedIPs keep: for whom, and what a list that names one gets.

use serde_json::{Value, json};

use super::lists::settled;
use super::{objects, reference};
use crate::dialect::danm::network::{Network, network_name};
use crate::dialect::danm::reserved::kept_from;
use crate::dialect::objects::{ForeignRef, Kind, Objects, beside, meaning};
use crate::selection::{AddressMode, NetworkSelection};

/// A tenant's network with a pool, one of the cluster, and what is reserved of the two.
fn all() -> Objects {
    let options = json!({"host_device": "ens3", "cidr": "10.0.0.0/24", "net6": "fd00::/64",
        "allocation_pool": {"start": "10.0.0.10", "end": "10.0.0.90"}});
    let of = |network: &str, kind: &str, ips: Value| json!({"network": {"name": network, "type": kind}, "ips": ips});
    let mut all = objects([
        (Kind::TenantNetwork, "lan", json!({"NetworkID": "lan", "Options": options})),
        (
            Kind::ClusterNetwork,
            "ext",
            json!({"NetworkID": "ext", "Options": {"host_device": "ens4", "cidr": "10.1.0.0/24"}}),
        ),
        (Kind::ClusterNetwork, "fl", json!({"NetworkID": "fl", "NetworkType": "flannel"})),
        (Kind::ReservedIP, "front", of("lan", "", json!([{"address": "10.0.0.20"}, {"address": "fd00::20"}]))),
        (Kind::ReservedIP, "vip", of("lan", "TenantNetwork", json!([{"address": "10.0.0.21", "shareable": true}]))),
        (Kind::ReservedIP, "far", of("lan", "", json!([{"address": "10.0.0.200"}]))),
        (Kind::ReservedIP, "ext", of("ext", "ClusterNetwork", json!([{"address": "10.1.0.20"}]))),
        (Kind::ReservedIP, "broken", json!({"network": {"name": "lan"}, "ips": []})),
    ]);
    let others = ForeignRef::within(&"lab".parse().unwrap(), Kind::ReservedIP, "ext".parse().unwrap());
    all.insert(others, of("ext", "ClusterNetwork", json!([{"address": "10.1.0.30"}])).to_string());
    all
}

fn element(text: &str) -> Result<(NetworkSelection, Vec<String>), String> {
    let settled = settled(&format!("[{text}]"), &all())?;
    let told = settled.warnings.iter().filter(|line| !line.contains("TenantConfig")).cloned().collect();
    Ok((settled.default_network.unwrap(), told))
}

#[test]
fn a_name_is_the_address_of_its_object() {
    let (both, told) = element(r#"{"tenantNetwork":"lan","ip":"front","ip6":"front"}"#).unwrap();
    assert_eq!(
        (both.ips, both.addresses.unwrap().ipv6),
        (vec!["10.0.0.20".to_owned(), "fd00::20".to_owned()], Some(AddressMode::Static))
    );
    assert!(both.shared.is_empty() && told.is_empty());
    let (mixed, _) = element(r#"{"tenantNetwork":"lan","ip6":"fd00::9","ip":"front"}"#).unwrap();
    assert_eq!(mixed.ips, ["10.0.0.20", "fd00::9"]);
    let (shared, _) = element(r#"{"tenantNetwork":"lan","ip":"vip"}"#).unwrap();
    assert_eq!((shared.ips, shared.shared), (vec!["10.0.0.21".to_owned()], vec!["10.0.0.21".parse().unwrap()]));
    let (far, told) = element(r#"{"tenantNetwork":"lan","ip":"far"}"#).unwrap();
    let want = "ReservedIP shop/far: 10.0.0.200 is outside of the pool of TenantNetwork shop/lan, so nothing keeps a second pod from it";
    assert_eq!((far.ips, told), (vec!["10.0.0.200".to_owned()], vec![want.to_owned()]));
}

#[test]
fn a_name_that_gives_no_address_is_refused_with_what_there_is() {
    let at = "danm.k8s.io/interfaces[0].";
    for (text, want) in [
        (
            r#"{"tenantNetwork":"lan","ip":"none-such"}"#,
            r#"ip: got "none-such", want "dynamic", "none", an address or a ReservedIP of namespace shop for TenantNetwork shop/lan: there are far, front, vip"#,
        ),
        (
            r#"{"clusterNetwork":"fl","ip":"front"}"#,
            "ip: got ReservedIP shop/front, want none: the addresses are those of the network's plugin",
        ),
        // That of another namespace is not the pod's.
        (r#"{"clusterNetwork":"ext","ip":"lab"}"#, "for ClusterNetwork ext: there are ext"),
        (
            r#"{"tenantNetwork":"lan","ip":"ext"}"#,
            r#"ip: got "ext", want a ReservedIP of TenantNetwork shop/lan: ReservedIP shop/ext is one of ClusterNetwork ext"#,
        ),
        (
            r#"{"tenantNetwork":"lan","ip6":"vip"}"#,
            r#"ip6: got "vip", want a ReservedIP with an address of IPv6: ReservedIP shop/vip has 10.0.0.21"#,
        ),
        (
            r#"{"tenantNetwork":"lan","ip":"broken"}"#,
            "want a ReservedIP that can be read: ReservedIP shop/broken: spec.ips: missing",
        ),
        (
            r#"{"clusterNetwork":"ext","ip6":"front"}"#,
            "an address cannot be given by a network of layer 2, which has no net6",
        ),
        (
            r#"{"tenantNetwork":"lan","ip":"10.0.0.20"}"#,
            "ip: got 10.0.0.20, want an address that no ReservedIP keeps: ReservedIP shop/front gives it",
        ),
        (r#"{"clusterNetwork":"ext","ip":"10.1.0.30"}"#, "ReservedIP lab/ext gives it to pods that name the object"),
    ] {
        let said = element(text).unwrap_err();
        assert!(said.starts_with(at) && said.contains(want), "{text}: {said}");
    }
}

#[test]
fn what_is_reserved_is_nobodys_by_itself() {
    let all = all();
    let kept = |kind, name: &str, selected: Option<&NetworkSelection>| -> Vec<String> {
        kept_from(&reference(kind, name), selected, &all).iter().map(ToString::to_string).collect()
    };
    let everything = ["10.0.0.200", "10.0.0.20", "fd00::20", "10.0.0.21"];
    assert_eq!(kept(Kind::TenantNetwork, "lan", None), everything);
    assert_eq!(kept(Kind::ClusterNetwork, "ext", None), ["10.1.0.30", "10.1.0.20"]);
    let (front, _) = element(r#"{"tenantNetwork":"lan","ip":"front"}"#).unwrap();
    assert_eq!(kept(Kind::TenantNetwork, "lan", Some(&front)), ["10.0.0.200", "10.0.0.21"]);
    let (shared, _) = element(r#"{"tenantNetwork":"lan","ip":"vip"}"#).unwrap();
    assert_eq!(kept(Kind::TenantNetwork, "lan", Some(&shared)), everything, "no pool gives what is shared");
    let spec = json!({"ips": [{"address": "10.1.0.20"}], "description": "the firewall's"});
    assert_eq!(meaning(Kind::ReservedIP, spec), json!({"ips": [{"address": "10.1.0.20"}]}));
    let besides: Vec<String> =
        beside(&reference(Kind::ClusterNetwork, "ext"), &all).iter().map(ToString::to_string).collect();
    assert_eq!(besides, ["ReservedIP lab/ext", "ReservedIP shop/ext"]);

    let lan = reference(Kind::TenantNetwork, "lan");
    let mut network = Network::of(&lan, &all).unwrap();
    let excluded = |network: &Network| {
        let conf = network.built_in(&network_name(&lan)).unwrap().unwrap();
        conf.plugins[0].object.object("ipam").unwrap().unwrap().get("exclude").map(|list| list.get().to_owned())
    };
    assert_eq!(excluded(&network), None);
    network.kept = kept_from(&lan, Some(&front), &all);
    assert_eq!(excluded(&network).unwrap(), r#"["10.0.0.21","10.0.0.200"]"#);
}
