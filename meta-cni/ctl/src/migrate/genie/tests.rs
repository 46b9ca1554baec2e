use super::*;
use crate::migrate::objects_text;

const FLANNEL: &str = r#"{"cniVersion":"0.3.1","name":"cbr0","plugins":[{"type":"flannel"},{"type":"portmap"}]}"#;
const WEAVE: &str = r#"{"cniVersion":"0.3.0","name":"weave","type":"weave-net","ipam":{"type":"host-local","subnet":"10.32.0.0/16","big":1.50}}"#;

fn run(files: &[(&str, &str)]) -> Migration {
    let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    migrate(&files, &"kube-system".parse().unwrap()).unwrap()
}

fn pod(annotations: Value) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "annotations": annotations}}).to_string()
}

/// The annotations of the first object after the move.
fn moved(annotations: Value) -> (Value, Migration) {
    let migration =
        run(&[("dir/10-flannel.conflist", FLANNEL), ("20-weave.conf", WEAVE), ("pod.json", &pod(annotations))]);
    let pod = &migration.objects.last().unwrap().1;
    (pod["metadata"]["annotations"].clone(), migration)
}

#[test]
fn a_list_becomes_a_default_network_and_further_ones_by_name() {
    let (annotations, migration) =
        moved(json!({"cni": "flannel,weave@eth4,flannel", "a": "b", "multi-ip-preferences": "{}"}));
    let networks = r#"[{"interface":"eth4","name":"weave","namespace":"kube-system"},{"interface":"eth1","name":"flannel","namespace":"kube-system"}]"#;
    let default = r#"[{"default-route":[],"name":"flannel","namespace":"kube-system"}]"#;
    assert_eq!(annotations, json!({"a": "b", DEFAULT_NETWORK: default, NETWORKS: networks}));
    assert!(migration.left.is_empty() && migration.objects[2].0.is_empty(), "{migration:?}");
    let (alone, _) = moved(json!({"cni": " weave "}));
    assert_eq!(alone, json!({DEFAULT_NETWORK: "kube-system/weave"}));
    let (turned, migration) = moved(json!({"cni": "flannel@eth1,weave"}));
    assert_eq!(turned[DEFAULT_NETWORK], default.replace("flannel", "weave"));
    assert!(migration.objects[2].0[0].contains("not the first"), "{migration:?}");
    let (beside, _) = moved(json!({"cni": "flannel", NETWORKS: "lan"}));
    assert_eq!(beside, json!({NETWORKS: "lan"}));
    let (none, _) = moved(json!({"networks": "{\"ports\":[]}"}));
    assert_eq!(none, json!({"networks": "{\"ports\":[]}"}), "without cni it is not Genie's");
    let (unknown, migration) = moved(json!({"cni": "calico"}));
    assert_eq!(unknown[DEFAULT_NETWORK], "kube-system/calico");
    assert!(migration.objects[2].0[0].contains("Needs the definition kube-system/calico"), "{migration:?}");
}

#[test]
fn a_file_becomes_a_definition_with_its_text() {
    let migration = run(&[("/etc/cni/net.d/20-weave.conf", WEAVE)]);
    let (notes, object) = &migration.objects[0];
    assert_eq!(*object, definition("kube-system", "weave", WEAVE));
    assert!(notes[0].starts_with("From 20-weave.conf."), "{notes:?}");
}

#[test]
fn logical_networks_become_definitions_in_their_namespaces() {
    let objects = r#"
apiVersion: alpha.network.k8s.io/v1
kind: LogicalNetwork
metadata: {name: net1, namespace: shop}
spec: {physicalNet: p, sub_subnet: 10.32.7.0/24}
---
apiVersion: alpha.network.k8s.io/v1
kind: Physicalnetwork
metadata: {name: p, namespace: shop}
spec: {refer_nic: eth1, sharedStatus: {plugin: weave, subnet: 10.32.0.0/16, dedicatedNet: true}}
"#;
    let list = pod(json!({"cni": "", "networks": "net1@eth0"}));
    let migration = run(&[("a.yaml", objects), ("20-weave.conf", WEAVE), ("pod.json", &list)]);
    let config = WEAVE.replace("10.32.0.0/16", "10.32.7.0/24");
    assert_eq!(migration.objects[0].1, definition("shop", "net1", &config));
    assert_eq!(migration.objects[2].1["metadata"]["annotations"], json!({DEFAULT_NETWORK: "shop/net1"}));
    assert!(migration.left.is_empty(), "{:?}", migration.left);
    assert!(migration.skipped[0].ends_with("refer_nic eth1 never had an effect"), "{:?}", migration.skipped);
    let without = run(&[("a.yaml", objects)]);
    assert_eq!(without.left, ["Logicalnetwork shop/net1: the node's file of weave is not given"]);
}

#[test]
fn what_cannot_be_moved_is_a_line_and_stays_as_it_is() {
    let (annotations, migration) = moved(json!({"cni": ""}));
    assert_eq!(annotations, json!({"cni": ""}));
    assert!(migration.left[0].starts_with("Pod shop/web: load-based choice"), "{:?}", migration.left);
    let (annotations, migration) = moved(json!({"cni": "a,,b"}));
    assert_eq!((annotations, migration.left[0].contains("cni[1]")), (json!({"cni": "a,,b"}), true));
    for (file, text, said) in [
        ("00-genie.conf", r#"{"name":"g","type":"genie","default_plugin":"weave"}"#, "genie.defaultPlugin"),
        (
            "10-calico.conf",
            r#"{"name":"c","type":"calico","policy":{"k8s_auth_token":"abc"}}"#,
            "policy.k8s_auth_token holds a secret",
        ),
        ("10-My_Net.conf", r#"{"name":"c","type":"bridge"}"#, "\"My_Net\" is no name of an object"),
        ("10-x.conf", "{}", "type: missing"),
    ] {
        let migration = run(&[(file, text)]);
        assert!(migration.objects.is_empty() && migration.left[0].contains(said), "{file}: {:?}", migration.left);
    }
    let policy = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"p","annotations":{"genieNetworkPolicy":"[]"}}}"#;
    let migration = run(&[("p.json", policy)]);
    assert!(migration.left[0].ends_with("is not enforced; use MultiNetworkPolicy") && migration.objects.len() == 1);
    let crd = r#"{"kind":"CustomResourceDefinition","metadata":{"name":"x"},"spec":{"group":"alpha.network.k8s.io"}}"#;
    let migration = run(&[("c.json", crd)]);
    assert!(migration.left.is_empty() && migration.objects.is_empty() && migration.skipped.len() == 1);
}

#[test]
fn workloads_and_lists_are_moved_and_the_output_does_not_change_any_more() {
    let template = json!({"metadata": {"annotations": {"cni": "flannel,weave"}}, "spec": {"containers": []}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"template": template}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [deployment, {"kind": "Service", "metadata": {"name": "s"}}]});
    let first = run(&[("10-flannel.conf", FLANNEL), ("20-weave.conf", WEAVE), ("all.json", &list.to_string())]);
    let annotations = &first.objects[2].1["spec"]["template"]["metadata"]["annotations"];
    assert!(annotations[DEFAULT_NETWORK].as_str().unwrap().contains(r#""name":"flannel""#), "{annotations}");
    let text = objects_text(&first.objects);
    let again = run(&[("out.yaml", &text)]);
    let bare = |migration: &Migration| migration.objects.iter().map(|(_, object)| object.clone()).collect::<Vec<_>>();
    assert_eq!(bare(&again), bare(&first));
    assert!(again.left.is_empty() && again.skipped.is_empty());
    assert_eq!(
        objects_text(&again.objects),
        objects_text(&run(&[("out.yaml", &objects_text(&again.objects))]).objects)
    );
}
