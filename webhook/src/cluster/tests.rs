use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::*;

fn metadata(namespace: &str, name: &str, annotations: &[(&str, &str)]) -> ObjectMeta {
    let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

fn net(text: &str) -> NetRef {
    let (namespace, name) = text.split_once('/').unwrap();
    NetRef { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() }
}

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

#[test]
fn what_has_gone_leaves_nothing_behind() {
    let mut view = View::default();
    let vlan = r#"{"type":"vlan","master":"eth1","vlanId":7,"ipam":{"type":"host-local","subnet":"10.9.0.0/24"}}"#;
    let vxlan =
        r#"{"plugins":[{"type":"vxlan","vni":7},{"type":"ipvlan","master":"a"},{"type":"bridge","isGateway":true}]}"#;
    view.apply_definition(&metadata("shop", "lan", &[]), Some(vlan));
    view.apply_definition(&metadata("shop", "over", &[]), Some(vxlan));
    view.apply_definition(&metadata("shop", "lan", &[]), Some(vlan));
    view.apply_pod(&metadata("shop", "web-0", &[(NETWORKS, "lan,over,lan")]));
    assert_eq!((view.definitions_in(&"shop".parse().unwrap()), view.attachments_in(&"shop".parse().unwrap())), (2, 3));
    assert_eq!(view.usage(&net("shop/lan")).unwrap().pods().len(), 1);
    view.retain_definitions(|reference| reference.name.as_str() == "over");
    assert!(view.definition(&net("shop/lan")).is_none() && view.definition(&net("shop/over")).is_some());
    view.retain_definitions(|_| false);
    view.retain_pods(|_| false);
    assert!(view.index.is_empty() && view.definitions.is_empty() && view.names.is_empty());
    assert!(view.pods.is_empty() && view.usage.is_empty() && view.attachments.is_empty());
}

#[test]
fn addresses_are_held_as_asked_for_and_as_given() {
    let mut view = View::default();
    let asked = r#"[{"name":"lan","ips":["10.9.0.7/24"]},{"name":"lan","mac":"02:00:00:00:00:01"}]"#;
    let given = json!([{"name": "cbr0", "ips": ["10.244.0.9"], "default": true},
        {"name": "shop/lan", "ips": ["10.9.0.7"], "mac": "02:00:00:00:00:09"},
        {"name": "shop/lan", "ips": ["10.9.0.8", "fd00::8"]}, {"name": "infra/other", "ips": ["10.9.0.9"]}]);
    let pod = metadata("shop", "web-0", &[(NETWORKS, asked), (STATUS, &given.to_string())]);
    view.apply_pod(&pod);
    let usage = view.usage(&net("shop/lan")).unwrap();
    for held in ["10.9.0.7", "10.9.0.8", "fd00::8"] {
        assert_eq!(usage.holders(held.parse().unwrap()).count(), 1, "{held}");
    }
    assert_eq!(usage.addresses().count(), 3);
    let macs = usage.holders_of_mac("02:00:00:00:00:09".parse().unwrap());
    assert_eq!(macs.map(|pod| &**pod).collect::<Vec<_>>(), ["shop/web-0"]);
    // What somebody writes into the status of networks that the pod does not have is of no account.
    assert!(view.usage(&net("infra/other")).is_none());
    view.delete_pod("shop/web-0");
    assert!(view.usage(&net("shop/lan")).is_none());
}

#[test]
fn subnets_are_found_inside_and_outside_of_one_another() {
    let mut view = View::default();
    for (name, subnet) in
        [("a", "10.0.0.0/8"), ("b", "10.9.0.0/16"), ("c", "10.9.4.0/24"), ("d", "10.10.0.0/16"), ("e", "fd00::/64")]
    {
        let conf = format!(r#"{{"type":"macvlan","ipam":{{"type":"host-local","subnet":"{subnet}"}}}}"#);
        view.apply_definition(&metadata("shop", name, &[]), Some(&conf));
    }
    let found = |net: &str| -> String {
        view.overlapping(net.parse().unwrap()).map(|definition| definition.reference.name.as_str()).collect()
    };
    assert_eq!(found("10.9.0.0/16"), "abc");
    assert_eq!(found("10.9.4.7/32"), "abc");
    assert_eq!(found("10.11.0.0/16"), "a");
    assert_eq!(found("0.0.0.0/0"), "abcd".chars().collect::<String>());
    assert_eq!(found("fd00::/48"), "e");
    assert_eq!(found("192.168.0.0/16"), "");
}

#[test]
fn two_pods_are_one_workload_by_controller_or_machine() {
    let mut pod = metadata("shop", "a", &[]);
    assert!(!pod::Owner::read(&pod).is_same(&pod::Owner::read(&pod)));
    let owner = OwnerReference { controller: Some(true), uid: "u".to_owned(), ..OwnerReference::default() };
    pod.owner_references = Some(vec![owner]);
    let mut other = pod.clone();
    assert!(pod::Owner::read(&pod).is_same(&pod::Owner::read(&other)));
    other.owner_references = None;
    assert!(!pod::Owner::read(&pod).is_same(&pod::Owner::read(&other)));
}

#[test]
fn content_is_compared_without_white_space_and_order() {
    let hash = |text: &str| definition::Network::read(text, "lan").unwrap().hash;
    let one = hash(r#"{"type":"macvlan","master":"eth1"}"#);
    assert_eq!(one, hash(r#"{ "Master":"eth1", "type":"macvlan", "name":"lan" }"#));
    assert_ne!(one, hash(r#"{"type":"macvlan","master":"eth2"}"#));
    assert!(definition::Network::read("[]", "lan").is_none() && definition::Network::read("{", "lan").is_none());
}
