//! The annotation, and what the networks make of it.

use serde_json::json;

use super::super::{Danm, INTERFACES};
use super::{objects, shop};
use crate::bind::BindError;
use crate::dialect::objects::{Kind, Objects};
use crate::dialect::{Dialect, Dialects};
use crate::selection::{AddressMode, NETWORKS, Selection};

fn dialects() -> Dialects {
    Dialects { danm: Some(Danm::default()), ..Dialects::default() }
}

fn read(annotations: &[(&str, &str)]) -> Result<Selection, String> {
    let annotation = |key: &str| annotations.iter().find(|(one, _)| *one == key).map(|(_, text)| *text);
    let read = Selection::from_annotations(annotation, &shop(), &"kube-system".parse().unwrap(), &dialects());
    read.map_err(|finding| finding.to_string())
}

fn list(text: &str) -> Result<Selection, String> {
    read(&[(INTERFACES[0], text)])
}

pub(super) fn settled(text: &str, objects: &Objects) -> Result<Selection, String> {
    settle(&Danm::default(), text, objects, false).map_err(|error| error.to_string())
}

fn settle(danm: &Danm, text: &str, objects: &Objects, strict: bool) -> Result<Selection, BindError> {
    let selection = if text.is_empty() { read(&[]) } else { list(text) };
    danm.settle(&selection.unwrap(), objects, &shop(), strict)
}

fn names(selection: &Selection) -> Vec<String> {
    selection.elements().map(|one| one.interface.as_ref().map(ToString::to_string).unwrap_or_default()).collect()
}

#[test]
fn an_element_names_one_network_of_its_three_kinds() {
    let selection = list(
        r#"[{"tenantNetwork":"management","ip":"dynamic"},{"CLUSTERNETWORK":"external","Ip":"10.0.0.7/8"},{"network":"sriov-a","ip":"none"}] and more"#,
    );
    let selection = selection.unwrap();
    let targets: Vec<String> = selection.elements().map(|one| one.target.to_string()).collect();
    assert_eq!(targets, ["TenantNetwork shop/management", "ClusterNetwork external", "DanmNet shop/sriov-a"]);
    assert_eq!(selection.networks[0].ips, ["10.0.0.7"], "the length of the prefix is the network's");
    assert_eq!(selection.networks[1].addresses.unwrap().ipv4, Some(AddressMode::None));
    assert!(!selection.is_settled());
}

#[test]
fn a_list_that_cannot_be_meant_is_refused_where_it_is_wrong() {
    let key = INTERFACES[0];
    for (text, why) in [
        ("", "no text"),
        ("{}", "want a JSON list of interfaces"),
        (r#"{"network":"a"}"#, "want a JSON list of interfaces"),
        (
            r#"[{"tenantNetwork":"management","clusterNetwork":"external","ip":"dynamic"}]"#,
            "[0]: got tenantNetwork and clusterNetwork",
        ),
        (r#"[{"network":"a","ip":"dynamic"},{"ip":"dynamic"}]"#, "[1]: missing, want exactly one of network,"),
        (
            r#"[{"network":"a","ip":"dynamic"},{"network":"b","ipv4":"none"}]"#,
            "[1].ipv4: got \"none\", want no other key than network,",
        ),
        (r#"[{"network":"a","Device":"x"}]"#, "[0].Device: got \"x\", want no other key"),
        (r#"[{"network":"a","SequenceId":1}]"#, "[0].SequenceId"),
        (
            r#"[{"network":"a","ip":"Hulu_lu"}]"#,
            r#"[0].ip: got "Hulu_lu", want "dynamic", "none", an IPv4 address or the name of a ReservedIP"#,
        ),
        (r#"[{"network":"a","ip":"fd00::1"}]"#, "want \"dynamic\", \"none\", an IPv4 address or the name"),
        (r#"[{"network":"a","ip6":"10.0.0.1"}]"#, "want \"dynamic\", \"none\", an IPv6 address or the name"),
        (r#"[{"network":"a","ip":"10.0.0.300"}]"#, "[0].ip: got \"10.0.0.300\", want \"dynamic\""),
        (r#"[{"network":"a","ip":"none","ip6":"none"}]"#, "[0].ip: got \"none\" beside ip6 \"none\""),
        (r#"[{"network":"A_b","ip":"dynamic"}]"#, "[0].network: got \"A_b\", want DNS-1123 labels"),
        (r#"[{"network":"a","ip":"dynamic","proutes":{"10.0.0.0/8":"x"}}]"#, r#"[0].proutes["10.0.0.0/8"]: got "x""#),
        (r#"[{"network":"a","ip":"dynamic","proutes":{"fd00::/8":"10.0.0.1"}}]"#, "want a destination of IPv4"),
        (r#"[{"network":"a","Network":"b"}]"#, "[0].Network: got \"Network\" beside \"network\""),
    ] {
        let said = list(text).err().unwrap_or_else(|| panic!("{text} is read"));
        assert!(said.starts_with(key) && said.contains(why), "{text}: {said}");
    }
}

#[test]
fn one_list_stands_under_either_key_and_two_must_be_the_same() {
    let (one, other) = (r#"[{"network":"a","ip":"dynamic"}]"#, r#"[ {"ip":"dynamic","network":"a"} ]"#);
    assert!(read(&[(INTERFACES[0], one), (INTERFACES[1], other)]).is_ok());
    assert_eq!(read(&[(INTERFACES[1], one)]).unwrap().translated.unwrap().key, "danm.io/interfaces");
    let said = read(&[(INTERFACES[0], one), (INTERFACES[1], "[]")]).unwrap_err();
    assert!(said.starts_with("danm.io/interfaces: got [], want the list of danm.k8s.io/interfaces"), "{said}");
    let beside = read(&[(INTERFACES[0], "no list"), (NETWORKS, "lan")]).unwrap();
    assert_eq!((beside.ignored, beside.networks.len()), (Some(INTERFACES[0]), 1), "NPWG's counts");
    let contains = read(&[("example.com/danm.io/interfaces", one)]).unwrap();
    assert!(contains.elements().next().is_none(), "a key that only contains the word is another key");
}

#[test]
fn a_pod_without_a_list_gets_the_default_of_its_namespace_or_that_of_the_node() {
    let spec = json!({"NetworkID": "d", "Options": {"host_device": "eth1", "cidr": "10.0.0.0/24"}});
    for text in ["", "[]", "null"] {
        let selection = if text.is_empty() { read(&[]) } else { list(text) }.unwrap();
        let wanted: Vec<String> = selection.candidates().iter().map(ToString::to_string).collect();
        assert_eq!(wanted, ["DanmNet shop/default", "TenantNetwork shop/default", "ClusterNetwork default"]);
    }
    let of = |kind| settled("", &objects([(kind, "default", spec.clone())])).unwrap();
    for kind in [Kind::DanmNet, Kind::TenantNetwork, Kind::ClusterNetwork] {
        let default = of(kind).default_network.unwrap();
        assert_eq!((default.target.foreign().unwrap().kind, names(&of(kind))), (kind, vec!["eth0".to_owned()]));
        assert_eq!(default.addresses.unwrap().ipv4, Some(AddressMode::Dynamic));
    }
    let both =
        objects([(Kind::TenantNetwork, "default", spec.clone()), (Kind::ClusterNetwork, "default", spec.clone())]);
    assert_eq!(settled("", &both).unwrap().objects().next().unwrap().kind, Kind::TenantNetwork);
    assert_eq!(settled("", &Objects::new()).unwrap(), Selection::default(), "the node's ordinary default");
    let modes = objects([(Kind::DanmNet, "default", spec.clone()), (Kind::TenantNetwork, "default", spec)]);
    assert!(settled("", &modes).unwrap_err().contains("there is TenantNetwork shop/default too"));
}

#[test]
fn an_interface_has_its_networks_prefix_and_its_place() {
    let net = |prefix: &str| json!({"NetworkID": "n", "Options": {"host_device": "eth1", "cidr": "10.0.0.0/24", "container_prefix": prefix}});
    let all = objects([
        (Kind::DanmNet, "management", net("eth0")),
        (Kind::DanmNet, "external", net("ext")),
        (Kind::DanmNet, "internal", net("int")),
        (Kind::DanmNet, "plain", net("")),
        (Kind::DanmNet, "long", net("averylongprefix")),
    ]);
    let element = |name: &str| format!(r#"{{"network":"{name}","ip":"dynamic"}}"#);
    let text = |all: &[&str]| format!("[{}]", all.iter().map(|name| element(name)).collect::<Vec<_>>().join(","));
    let demo = text(&["management", "external", "internal", "plain"]);
    assert_eq!(names(&settled(&demo, &all).unwrap()), ["eth0", "ext1", "int2", "eth3"]);
    let legacy = Danm { is_legacy: true };
    assert_eq!(names(&settle(&legacy, &demo, &all, false).unwrap()), ["eth0", "ext", "int", "eth3"]);
    let said = settled(&text(&["plain", "long"]), &all).unwrap_err();
    assert!(said.starts_with("danm.k8s.io/interfaces[1]: name of the interface: got \"averylongprefix1\""), "{said}");
}

#[test]
fn routes_need_an_address_of_their_family_and_proutes_a_table() {
    let mut spec = json!({"NetworkID": "n", "Options": {"host_device": "eth1", "cidr": "10.0.0.0/26", "net6": "fd00::/64",
        "routes": {"10.20.0.0/24": "10.0.0.1"}, "routes6": {"fd20::/64": "fd00::1"}, "rt_tables": 10}});
    let one = |spec: &serde_json::Value| objects([(Kind::ClusterNetwork, "ext", spec.clone())]);
    let text = r#"[{"clusterNetwork":"ext","ip":"dynamic","proutes":{"10.10.1.0/24":"10.0.0.65"},"proutes6":{"::0/0":"fd00::2"}}]"#;
    let selection = settled(text, &one(&spec)).unwrap();
    let default = selection.default_network.clone().unwrap();
    let routes: Vec<String> = default.routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["10.20.0.0/24 via 10.0.0.1", "10.10.1.0/24 via 10.0.0.65 table 10"]);
    let rules: Vec<String> = default.rules.iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["from 10.0.0.0/26 table 10"], "the whole subnet");
    assert_eq!(
        selection.unmet,
        ["danm.k8s.io/interfaces[0]: proutes6 of interface 0 need an address of their family: ip6 gives none"]
    );
    let both = text.replace(r#""ip":"dynamic""#, r#""ip":"10.0.0.1","ip6":"dynamic""#);
    let selection = settled(&both, &one(&spec)).unwrap();
    let routes = selection.default_network.unwrap().routes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let want = ["10.10.1.0/24 via 10.0.0.65 table 10", "fd20::/64 via fd00::1", "::/0 via fd00::2 table 10"];
    assert_eq!(routes, want, "a pod that is the router needs no route by it");
    spec["Options"]["rt_tables"] = json!(254);
    let main = settled(&both, &one(&spec)).unwrap().default_network.unwrap();
    assert!(main.rules.is_empty() && main.routes.iter().all(|route| route.table.is_none()));
    spec["Options"]["rt_tables"] = json!(0);
    let said = settled(text, &one(&spec)).unwrap().unmet;
    assert!(
        said.len() == 2 && said[0].ends_with(r#"proutes of interface 0 need rt_tables in network "ext""#),
        "{said:?}"
    );
    let strict = settle(&Danm::default(), text, &one(&spec), true).unwrap_err().to_string();
    assert_eq!(strict, r#"danm.k8s.io/interfaces[0].proutes: got 1 routes, want rt_tables in network "ext""#);
}

#[test]
fn addresses_that_a_network_cannot_give_are_refused() {
    let options = json!({"host_device": "eth1", "cidr": "10.0.0.64/26"});
    let mut spec = json!({"NetworkID": "n", "AllowedTenants": ["blue", "green"], "Options": options});
    let all = |spec: &serde_json::Value| objects([(Kind::ClusterNetwork, "ext", spec.clone())]);
    let text = r#"[{"clusterNetwork":"ext","ip":"10.0.0.63"}]"#;
    let said = settled(text, &all(&spec)).unwrap_err();
    assert_eq!(
        said,
        "danm.k8s.io/interfaces[0]: got ClusterNetwork ext, want a network whose AllowedTenants have namespace shop: blue, green"
    );
    spec["AllowedTenants"] = json!(["shop"]);
    let said = settled(text, &all(&spec)).unwrap_err();
    assert!(
        said.contains("[0].ip: got 10.0.0.63, want an address of 10.0.0.64/26: it is outside the network's CIDR"),
        "{said}"
    );
    let said = settled(r#"[{"clusterNetwork":"ext","ip6":"dynamic"}]"#, &all(&spec)).unwrap_err();
    assert!(
        said.contains("[0].ip6: got dynamic, want \"none\": an address cannot be given by a network of layer 2"),
        "{said}"
    );
    let said = settled(r#"[{"clusterNetwork":"gone"}]"#, &all(&spec)).unwrap_err();
    assert_eq!(said, "danm.k8s.io/interfaces[0]: cannot find ClusterNetwork gone");
    let said = settled(r#"[{"network":"gone"}]"#, &all(&spec)).unwrap_err();
    assert_eq!(said, "danm.k8s.io/interfaces[0]: cannot find DanmNet gone in namespace shop");
    // A plugin with a file keeps the addresses of the file where none are asked for.
    let file = json!({"NetworkID": "calico", "NetworkType": "calico", "Options": {"cidr": "10.0.0.0/24"}});
    let of = |text: &str| settled(text, &all(&file)).unwrap().default_network.unwrap().addresses;
    assert_eq!(of(r#"[{"clusterNetwork":"ext"}]"#), None);
    assert_eq!(of(r#"[{"clusterNetwork":"ext","ip":"none"}]"#), None);
    let both = of(r#"[{"clusterNetwork":"ext","ip":"dynamic"}]"#).unwrap();
    assert_eq!((both.ipv4, both.ipv6), (Some(AddressMode::Dynamic), Some(AddressMode::None)));
}

#[test]
fn a_list_of_danm_counts_before_what_another_dialect_gives_to_pods_without_one() {
    let genie = crate::dialect::genie::Genie { default_plugin: Vec::new(), load_prefixes: Vec::new() };
    let both = Dialects { genie: Some(genie), ..dialects() };
    let of = |annotations: &[(&str, &'static str)]| {
        let annotation = |key: &str| annotations.iter().find(|(one, _)| *one == key).map(|(_, text)| *text);
        both.read_pod(annotation, &shop()).unwrap().map(|list| list.dialect)
    };
    let list = r#"[{"network":"a","ip":"dynamic"}]"#;
    assert_eq!(of(&[("cni", "flannel"), (INTERFACES[0], list)]), Some(Dialect::Danm));
    assert_eq!(of(&[("cni", "flannel")]), Some(Dialect::Genie));
    assert_eq!(of(&[]), Some(Dialect::Danm));
}
