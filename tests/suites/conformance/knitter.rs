//! Pods of Knitter, with its dialect on, and with CNI-Genie's beside it.

use std::fs;
use std::time::Duration;

use meta_cni_tests::node::{NETWORKS, Node, Pod, STATUS};
use meta_cni_tests::program;
use serde_json::{Value, json};

const NAME: &str = "meta-cni.io/knitter-name";
const PUBLIC: &str = "meta-cni.io/knitter-public";

fn conf(kind: &str, address: &str) -> Value {
    json!({"cniVersion": "1.0.0", "type": kind, "fakeIps": [{"address": address}]})
}

/// A node that speaks the dialect, with `net-api` and `media` of the administrator, both public, and `control` of the pod's namespace.
fn node() -> Node {
    let mut node = Node::new();
    node.conf["dialects"] = json!(["knitter"]);
    definition(&node, "admin", "net-api", json!({NAME: "net_api", PUBLIC: "true"}), &conf("one", "10.1.0.2/24"));
    definition(&node, "admin", "media", json!({PUBLIC: "true"}), &conf("two", "10.2.0.2/24"));
    definition(&node, "default", "control", json!({}), &conf("two", "10.3.0.2/24"));
    node
}

fn definition(node: &Node, namespace: &str, name: &str, annotations: Value, config: &Value) {
    let manifest = json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
        "spec": {"config": config.to_string()},
    });
    node.manifest(&format!("nad-{namespace}-{name}.json"), manifest.to_string());
}

fn pod(node: &Node, ports: Value) -> Pod {
    node.pod_annotated("web", json!({"networks": json!({"ports": ports}).to_string()}))
}

fn port(network: &str, nic: &str) -> Value {
    json!({"attach_to_network": network, "attributes": {"nic_name": nic}})
}

/// example/pod1.json of Knitter's repository (K1).
#[test]
fn a_pod_of_three_ports_has_three_networks_by_their_names() {
    let node = node();
    let attributes = |function: &str, nic: &str| json!({"accelerate": "false", "function": function, "nic_name": nic, "nic_type": "normal"});
    let ports = json!([
        {"attach_to_network": "net_api", "attributes": attributes("std", "eth0")},
        {"attach_to_network": "control", "attributes": attributes("control", "testpodctl")},
        {"attach_to_network": "media", "attributes": attributes("media", "testpodmed")},
    ]);
    let pod = pod(&node, ports);
    let result = node.add(&pod).result();
    let calls = node.fakes.calls_of("ADD");
    assert_eq!(node.fakes.take_order(), ["ADD one eth0", "ADD two testpodctl", "ADD two testpodmed"]);
    assert_eq!(result["ips"][0]["address"], "10.1.0.2/24", "the pod's address is that of eth0: {result}");
    let status = node.status(&pod);
    let seen: Vec<_> = status
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["name"], &one["interface"], &one["meta-cni.io/roles"]))
        .collect();
    assert_eq!(
        seen,
        [
            (&json!("admin/net-api"), &json!("eth0"), &Value::Null),
            (&json!("default/control"), &json!("testpodctl"), &json!(["control"])),
            (&json!("admin/media"), &json!("testpodmed"), &json!(["media"])),
        ]
    );
    assert_eq!(calls[1].conf()["args"]["cni"], json!({"meta-cni.io/roles": ["control"]}));
    assert!(calls[0].conf().get("args").is_none());
    // What the pod says meanwhile, or who has the networks, is not asked for.
    for file in ["pod-web.json", "nad-admin-net-api.json", "nad-admin-media.json", "nad-default-control.json"] {
        node.remove_manifest(file);
    }
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL two testpodmed", "DEL two testpodctl", "DEL one eth0"]);
    node.assert_clean();
}

/// K6.
#[test]
fn combinable_ports_are_one_interface_and_a_blank_list_is_the_default_network() {
    let node = node();
    let of = |function: &str, nic: &str| json!({"attach_to_network": "media", "attributes": {"function": function, "nic_name": nic, "combinable": "true"}});
    let combined = pod(&node, json!([of("media", "eth1"), of("oam", "eth0")]));
    node.add(&combined).result();
    assert_eq!(node.fakes.take_order(), ["ADD two eth0"]);
    assert_eq!(node.status(&combined)[0]["meta-cni.io/roles"], json!(["media", "oam"]));
    node.del(&combined).quiet();
    for blank in ["", "\"\""] {
        node.fakes.take_order();
        let pod = node.pod_annotated("blank", json!({"networks": blank}));
        node.add(&pod).result();
        assert_eq!(node.fakes.take_order(), ["ADD main eth0"], "{blank:?}");
        node.del(&pod).quiet();
    }
    node.fakes.take_order();
    let long = pod(&node, json!([port("media", "eth0"), port("control", "thirteen-char")]));
    node.refuses(
        &long,
        7,
        &[r#"networks.ports[1].attributes.nic_name: got "thirteen-char", want at most 12 characters"#],
    );
}

#[test]
fn the_nodes_own_default_network_has_a_name_where_the_node_gives_one() {
    let mut node = node();
    node.conf["knitter"] = json!({"defaultNetwork": "net_api"});
    let pod = pod(&node, json!([port("media", "med"), port("net_api", "eth0")]));
    node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD two med"]);
    node.del(&pod).quiet();
}

#[test]
fn what_a_port_asks_for_in_vain_is_said() {
    let node = node();
    let fast = json!({"attach_to_network": "media", "attributes": {"nic_name": "med", "accelerate": "true", "nic_type": "direct"}});
    let pod = pod(&node, json!([fast]));
    let outcome = node.add(&pod);
    for words in
        ["ports[0].attributes.accelerate: got \"true\"", "nic_type: got \"direct\"", "nic_name: got med, want eth0"]
    {
        assert!(outcome.stderr().contains(words), "{words}: {}", outcome.stderr());
    }
    outcome.result();
    assert_eq!(node.fakes.take_order(), ["ADD two eth0"]);
    node.del(&pod).quiet();
}

#[test]
fn an_address_that_a_port_asks_for_reaches_the_plugin() {
    let node = node();
    let mut config = conf("two", "10.2.0.2/24");
    config["capabilities"] = json!({"ips": true});
    definition(&node, "default", "media", json!({}), &config);
    let asks = json!({"attach_to_network": "media", "attributes": {"nic_name": "med", "ip_addr": "10.2.0.9"}});
    let pod = pod(&node, json!([port("net_api", "eth0"), asks]));
    node.add(&pod).result();
    let calls = node.fakes.calls_of("ADD");
    assert_eq!(calls[1].conf()["runtimeConfig"]["ips"], json!(["10.2.0.9"]), "{}", calls[1].conf());
    node.del(&pod).quiet();
}

#[test]
fn names_that_no_definition_has_or_more_than_one_are_refused() {
    let node = node();
    let asks = |network: &str| pod(&node, json!([port("net_api", "eth0"), port(network, "x")]));
    let at = "networks.ports[1].attach_to_network: ";
    node.refuses(
        &asks("none"),
        11,
        &[at, "no network-attachment-definition is \"none\" in namespace default", "namespace admin"],
    );
    definition(&node, "admin", "private", json!({}), &conf("two", "10.4.0.2/24"));
    node.refuses(&asks("private"), 11, &[at, "is \"private\"", PUBLIC]);
    for name in ["a", "b"] {
        definition(&node, "default", name, json!({NAME: "Two_Nets"}), &conf("two", "10.4.0.2/24"));
    }
    let both = "want a name that one definition has: default/a, default/b have it";
    node.refuses(&asks("Two_Nets"), 7, &[at, "got \"Two_Nets\"", both]);
    node.refuses(&asks("admin/media"), 11, &[at, "is \"admin/media\""]);
}

#[test]
fn under_isolation_the_administrators_public_networks_are_open_and_nothing_else() {
    let mut node = node();
    node.conf["namespaceIsolation"] = json!(true);
    let mine = pod(&node, json!([port("net_api", "eth0"), port("control", "ctl"), port("media", "med")]));
    node.add(&mine).result();
    assert_eq!(node.fakes.take_order(), ["ADD one eth0", "ADD two ctl", "ADD two med"]);
    node.del(&mine).quiet();
    node.fakes.take_order();
    definition(&node, "other", "secret", json!({PUBLIC: "true"}), &conf("two", "10.4.0.2/24"));
    node.refuses(&pod(&node, json!([port("secret", "eth0")])), 11, &["is \"secret\""]);
    // The words of NPWG open nothing.
    let npwg = node.pod_annotated("npwg", json!({NETWORKS: "admin/media"}));
    node.refuses(&npwg, 120, &["namespace isolation enabled"]);
}

/// M1: a pod in NPWG's words, as `migrate` writes them, has what it had by the dialect.
#[test]
fn a_pod_that_was_moved_has_the_same_networks() {
    let mut node = node();
    let of = |function: &str, nic: &str| json!({"attach_to_network": "media", "attributes": {"function": function, "nic_name": nic, "combinable": "true"}});
    let ports = json!([port("net_api", "eth0"), port("control", "ctl"), of("media", "med"), of("oam", "med2")]);
    let of_dialect = pod(&node, ports);
    node.add(&of_dialect).result();
    let (order, status) = (node.fakes.take_order(), node.status(&of_dialect));
    node.del(&of_dialect).quiet();
    let manifests = ["nad-admin-net-api", "nad-admin-media", "nad-default-control", "pod-web"];
    let files = manifests.map(|name| node.path(&format!("manifests/{name}.json")));
    let mut command = program::command(program::built("meta-cnictl"));
    command.args(["migrate", "knitter"]).args(files);
    let finished = program::start(&mut command, b"").finish(Duration::from_secs(20));
    assert_eq!((finished.code, String::from_utf8_lossy(&finished.stderr).as_ref()), (Some(0), ""));
    let objects: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8_lossy(&finished.stdout)).unwrap();
    let mut annotations = objects[3]["metadata"]["annotations"].clone();
    annotations.as_object_mut().unwrap().remove(STATUS);
    assert!(annotations.get("networks").is_none() && annotations.get(NETWORKS).is_some(), "{annotations}");

    node.conf["dialects"] = Value::Null;
    let moved = node.pod_annotated("moved", annotations);
    node.fakes.take_order();
    node.add(&moved).result();
    assert_eq!((node.fakes.take_order(), node.status(&moved)), (order, status));
    node.del(&moved).quiet();
}

/// S2.
#[test]
fn with_both_dialects_the_first_character_tells_whose_list_it_is() {
    let mut node = node();
    fs::create_dir(node.path("net.d")).unwrap();
    node.conf["dialects"] = json!(["genie", "knitter"]);
    node.conf["runtimeConfDir"] = json!(node.path("net.d"));
    let mut file = conf("one", "10.5.0.2/24");
    file["name"] = json!("br-a");
    fs::write(node.path("net.d/10-br-a.conf"), file.to_string()).unwrap();
    let logical = json!({
        "apiVersion": "alpha.network.k8s.io/v1", "kind": "Logicalnetwork",
        "metadata": {"namespace": "default", "name": "net1"}, "spec": {"plugin": "br-a"},
    });
    node.manifest("net1.json", logical.to_string());
    let ports = json!({"ports": [port("media", "eth0")]}).to_string();
    for (annotations, order) in [
        (json!({"networks": ports, "cni": ""}), &["ADD two eth0"][..]),
        (json!({"networks": ports}), &["ADD two eth0"]),
        (json!({"networks": "net1", "cni": ""}), &["ADD one eth0"]),
        (json!({"networks": ports, "cni": "br-a"}), &["ADD one eth0"]),
        (json!({"networks": ports, NETWORKS: "control"}), &["ADD main eth0", "ADD two net1"]),
    ] {
        let pod = node.pod_annotated("both", annotations.clone());
        let outcome = node.add(&pod);
        let is_told = outcome.stderr().contains("annotation networks counts for nothing");
        assert_eq!(is_told, annotations.get(NETWORKS).is_some(), "{annotations}: {}", outcome.stderr());
        outcome.result();
        assert_eq!(node.fakes.take_order(), order, "{annotations}");
        node.del(&pod).quiet();
        node.fakes.take_order();
    }
}

#[test]
fn without_the_dialect_its_annotation_is_not_read() {
    let mut node = node();
    node.conf["dialects"] = Value::Null;
    let pod = node.pod_annotated("web", json!({"networks": "{"}));
    let outcome = node.add(&pod);
    assert_eq!(outcome.stderr(), "");
    outcome.result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0"]);
    node.del(&pod).quiet();
    node.conf["dialects"] = json!(["knitter"]);
    node.fakes.take_order();
    let bad = node.pod_annotated("web", json!({"networks": "{"}));
    node.refuses(&bad, 7, &["networks: got invalid JSON"]);
}

#[test]
fn a_pod_of_the_dialect_does_not_change_while_it_runs() {
    let node = node();
    let quiet = meta_cni_tests::fake::Rule::on("ADD")
        .answers(&json!({"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.7/24"}]}));
    for fake in ["one", "two"] {
        node.fakes.rules(fake, std::slice::from_ref(&quiet));
    }
    let pod = pod(&node, json!([port("net_api", "eth0"), port("control", "ctl")]));
    node.add(&pod).result();
    node.fakes.take_order();
    let file = node.path("manifests/pod-web.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("control", "media")).unwrap();
    node.hot_plug(&pod).result();
    assert_eq!(node.fakes.take_order(), Vec::<String>::new());
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL two ctl", "DEL one eth0"]);
}
