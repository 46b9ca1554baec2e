use std::path::Path;

use attachments::policy::spec::AttachmentPolicySpec;
use attachments::policy::{Document, Nad, Pod, PolicyName, compile};
use attachments::selection::Selection;
use serde_json::json;

use super::*;
use crate::migrate::objects_text;

fn run(files: &[(&str, &str)]) -> Migration {
    let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    migrate(&files, &"infra".parse().unwrap()).unwrap()
}

const CLUSTER: &str = include_str!("../golden/danm.yaml");
const BRIDGE: &str =
    r#"{"cniVersion":"0.3.1","type":"bridge","bridge":"br7","ipam":{"type":"host-local","subnet":"10.7.0.0/16"}}"#;

fn moved() -> Migration {
    run(&[("cluster.yaml", CLUSTER), ("/etc/cni/net.d/lan.conf", BRIDGE)])
}

#[test]
fn a_cluster_is_moved_as_the_golden_file_shows() {
    let Migration { objects, left, skipped } = moved();
    let lines =
        |title: &str, lines: &[String]| lines.iter().map(|line| format!("# {title}: {line}\n")).collect::<String>();
    let text = lines("not moved", &left) + &lines("left out", &skipped) + &objects_text(&objects);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/migrate/golden/danm-moved.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap_or_default());
}

#[test]
fn what_is_printed_does_not_change_any_more() {
    let first = moved();
    let text = objects_text(&first.objects);
    let again = run(&[("out.yaml", &text)]);
    let bare = |migration: &Migration| migration.objects.iter().map(|(_, object)| object.clone()).collect::<Vec<_>>();
    assert_eq!(bare(&again), bare(&first));
    // What stays with DANM's annotation stays what cannot be moved.
    assert!(again.skipped.is_empty() && again.left.len() <= first.left.len(), "{:?}", again.left);
}

/// Everything that the policies of a move refuse of a document.
fn refused(migration: &Migration, namespace: &str, document: &Document) -> Vec<String> {
    let labels = [("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())].into();
    let policies = migration.objects.iter().filter(|(_, object)| object["kind"] == "AttachmentPolicy");
    let compiled = policies.map(|(_, object)| {
        let spec: AttachmentPolicySpec = serde_json::from_value(object["spec"].clone()).unwrap();
        compile(PolicyName::Policy(object["metadata"]["name"].as_str().unwrap().to_owned()), &spec).unwrap()
    });
    let compiled: Vec<_> = compiled.filter(|policy| policy.concerns(namespace, &labels, &[])).collect();
    compiled.iter().flat_map(|policy| policy.judge(document)).map(|violation| violation.rule).collect()
}

#[test]
fn the_policies_let_by_what_danm_did_and_nothing_else() {
    let migration = moved();
    let of_pod = |namespace: &str, network: &str| {
        let home = namespace.parse().unwrap();
        let text = format!("infra/{network}");
        let annotation = |key: &str| (key == attachments::selection::NETWORKS).then_some(text.as_str());
        let selection = Selection::from_annotations(annotation, &home, &home, &Default::default()).unwrap();
        let pod = Pod { namespace, name: Some(network), labels: None, service_account: None, host_network: false };
        let nad = Nad {
            namespace: "infra",
            name: network,
            labels: None,
            annotations: None,
            config: Some(r#"{"type":"bridge"}"#),
        };
        let document = Document::of_attachment(&pod, &selection.networks[0], "nets[0]", Some(&nad), None).unwrap();
        refused(&migration, namespace, &document)
    };
    assert_eq!(of_pod("shop", "external"), Vec::<String>::new());
    assert_eq!(of_pod("lab", "external"), ["external"]);
    assert_eq!(of_pod("lab", "another"), Vec::<String>::new());
    let of_definition = |namespace: &str, config: Value| {
        let config = config.to_string();
        let nad = Nad { namespace, name: "n", labels: None, annotations: None, config: Some(&config) };
        refused(&migration, namespace, &Document::of_definition(&nad, None).unwrap())
    };
    let on = |master: &str, vlan: u32| json!({"type": "macvlan", "master": master, "masterVlan": vlan});
    assert_eq!(of_definition("shop", on("ens3", 200)), Vec::<String>::new());
    assert_eq!(of_definition("shop", on("ens3", 300)), ["vlan-of-ens3"]);
    assert_eq!(of_definition("shop", on("ens9", 200)), ["masters"]);
    assert_eq!(of_definition("infra", on("ens9", 200)), Vec::<String>::new());
    let overlay = |vni: u32| json!({"type": "vxlan", "underlay": "ens4", "vni": vni});
    assert_eq!(of_definition("shop", overlay(700)), Vec::<String>::new());
    assert_eq!(of_definition("shop", overlay(4200)), ["vxlan-of-ens4"]);
}

#[test]
fn what_cannot_be_moved_is_a_line_and_stays_as_it_is() {
    let pod = |text: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop",
            "annotations": {"danm.k8s.io/interfaces": text}}})
        .to_string()
    };
    for (text, said) in [
        (r#"[{"network":"none","ip":"dynamic"}]"#, "none"),
        (r#"[{"network":"a","clusterNetwork":"b"}]"#, "exactly one of network, tenantNetwork and clusterNetwork"),
        ("nonsense", "a JSON list of interfaces"),
    ] {
        let migration = run(&[("pod.json", &pod(text))]);
        assert_eq!(migration.objects[0].1["metadata"]["annotations"]["danm.k8s.io/interfaces"], text);
        assert!(
            migration.left.len() == 1
                && migration.left[0].starts_with("Pod shop/web: ")
                && migration.left[0].contains(said),
            "{:?}",
            migration.left
        );
    }
    let network = |spec: Value| {
        json!({"apiVersion": "danm.io/v1", "kind": "DanmNet", "metadata": {"name": "n"}, "spec": spec}).to_string()
    };
    for (object, said) in [
        (network(json!({"NetworkID": "lan", "NetworkType": "bridge"})), "DanmNet default/n: the node's file lan.conf is not given"),
        (network(json!({"NetworkType": "ipvlan"})), "DanmNet default/n: "),
        (
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "annotations": {"danm.io/selector": "{}"}}}).to_string(),
            "Service default/s: its endpoints were svcwatcher's",
        ),
        (
            json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "metadata": {"name": "d"},
                "spec": {"config": r#"{"type":"ipvlan","master":"eth1","vlan":500}"#}}).to_string(),
            "NetworkAttachmentDefinition default/d: its vlan or vxlan is a link that DANM makes",
        ),
        (
            json!({"apiVersion": "danm.io/v1", "kind": "ReservedIP", "metadata": {"name": "r", "namespace": "shop"},
                "spec": {"network": {"name": "none"}, "ips": [{"address": "10.0.0.1"}]}}).to_string(),
            "ReservedIP shop/r: its network none is not given",
        ),
    ] {
        let migration = run(&[("a.json", &object)]);
        assert!(migration.left.len() == 1 && migration.left[0].starts_with(said), "{:?}", migration.left);
    }
    let network = json!({"apiVersion": "danm.io/v1", "kind": "ClusterNetwork", "metadata": {"name": "lan"}, "spec":
        {"NetworkID": "lan", "Options": {"host_device": "ens3", "cidr": "10.0.0.0/24", "net6": "fd00::/64", "allocation_pool": {"start": "10.0.0.8", "end": "10.0.0.9"}}}}).to_string();
    let reserved = |ips: Value| {
        json!({"apiVersion": "danm.io/v1", "kind": "ReservedIP", "metadata": {"name": "front", "namespace": "shop"},
            "spec": {"network": {"name": "lan", "type": "ClusterNetwork"}, "ips": ips}})
        .to_string()
    };
    let named = |more: &str| pod(&format!(r#"[{{"clusterNetwork":"lan","ip":"front"{more}}}]"#));
    for (ips, more, said) in [
        (
            json!([{"address": "10.0.0.8", "shareable": true}]),
            "",
            "it names ReservedIP shop/front: its address is shareable",
        ),
        (json!([{"address": "10.0.0.8"}]), "", "an AddressSet gives the addresses of both families"),
        (
            json!([{"address": "fd00::2"}, {"address": "10.0.0.8"}]),
            r#","ip6":"dynamic""#,
            "an AddressSet has its first address alone",
        ),
    ] {
        let migration = run(&[("n.json", &network), ("r.json", &reserved(ips)), ("p.json", &named(more))]);
        let of_pod = migration.left.iter().find(|line| line.starts_with("Pod shop/web: "));
        assert!(of_pod.is_some_and(|line| line.contains(said)), "{:?}", migration.left);
    }
    let outside = run(&[
        ("n.json", &network),
        ("r.json", &reserved(json!([{"address": "10.0.0.77"}]))),
        ("p.json", &named(r#","ip6":"none""#)),
    ]);
    assert!(outside.left.is_empty() && outside.skipped[0].contains("10.0.0.77 is outside of the pool"), "{outside:?}");
    let pod_of = outside.objects.iter().find(|(_, object)| object["kind"] == "Pod").unwrap();
    let annotation = pod_of.1["metadata"]["annotations"][attachments::selection::DEFAULT_NETWORK].as_str().unwrap();
    assert!(annotation.contains(r#""ips":["10.0.0.77/24"]"#) && !annotation.contains("address-set"), "{annotation}");
    let crd = r#"{"kind":"CustomResourceDefinition","metadata":{"name":"x"},"spec":{"group":"danm.k8s.io"}}"#;
    let migration = run(&[("c.json", crd)]);
    assert!(migration.left.is_empty() && migration.objects.is_empty() && migration.skipped.len() == 1);
}
