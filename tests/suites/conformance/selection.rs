//! What a user may write wrong: annotations, definitions, references. Everything is refused before the first delegate runs.

use meta_cni_tests::node::Node;
use serde_json::json;

/// ADD of a pod with these networks must be refused with these words and no delegate called.
#[track_caller]
fn refused(node: &Node, networks: &str, names: &[&str]) {
    let pod = node.pod("web", networks);
    let refusal = node.add(&pod).refusal();
    for name in names {
        assert!(refusal.text.contains(name), "{networks}: does not name {name:?}: {}", refusal.text);
    }
    assert!(node.fakes.calls().is_empty(), "{networks}: a delegate ran: {:?}", node.fakes.take_order());
    node.assert_clean();
}

fn node() -> Node {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one", "capabilities": {"mac": true, "ips": true, "portMappings": true, "bandwidth": true}}));
    node
}

#[test]
fn malformed_references() {
    let node = node();
    for networks in [
        "net-a,,net-a",
        "net-a,",
        "a/b/c",
        "UPPER",
        "net_a",
        "net-a@",
        "net-a@sixteen-bytes-xx",
        "net-a@a b",
        "net-a@a/b",
        "net-a@x@y",
    ] {
        refused(&node, networks, &["networks"]);
    }
}

#[test]
fn routes_and_rules_that_cannot_be_followed() {
    let node = node();
    let route = |keys: &str| format!(r#"[{{"name":"net-a","meta-cni.io/routes":[{{{keys}}}]}}]"#);
    for (keys, names) in [
        (r#""dst":"10.9.0.1""#, ["meta-cni.io/routes[0].dst", "10.9.0.1"]),
        (r#""dst":"10.9.0.0/16","table":255"#, ["meta-cni.io/routes[0].table", "255"]),
        (r#""dst":"10.9.0.0/16","gw":"fd00::1""#, ["meta-cni.io/routes[0].gw", "fd00::1"]),
        (r#""dst":"10.9.0.0/16","via":"10.0.0.1""#, ["meta-cni.io/routes[0].via", "dst, gw, table"]),
        (r#""dst":"10.9.0.0/16"},{"dst":"10.9.0.0/16""#, ["meta-cni.io/routes[1].dst", "[0] has it"]),
    ] {
        refused(&node, &route(keys), &names);
    }
    let two = |key: &str, one: &str, other: &str| {
        format!(r#"[{{"name":"net-a","meta-cni.io/{key}":[{one}]}},{{"name":"net-a","meta-cni.io/{key}":[{other}]}}]"#)
    };
    let dst = r#"{"dst":"10.9.0.0/16","table":7}"#;
    refused(&node, &two("routes", dst, dst), &["networks[1].meta-cni.io/routes[0].dst", "[0] has it"]);
    let (one, other) = (r#"{"from":"10.9.0.0/16","table":7}"#, r#"{"from":"10.9.0.0/16","table":8}"#);
    refused(&node, &two("rules", one, other), &["networks[1].meta-cni.io/rules[0].from", "to another table"]);
}

#[test]
fn malformed_elements() {
    let node = node();
    let cases: [(&str, &[&str]); 22] = [
        (r#"[{"name":"net-a"]"#, &["networks"]),
        (r#"{"name":"net-a"}"#, &["networks"]),
        (r#"["net-a"]"#, &["networks"]),
        (r#"[{}]"#, &["name"]),
        (r#"[{"name":"net-a","namespace":"A"}]"#, &["namespace", "A"]),
        (r#"[{"name":"net-a","interface":"sixteen-bytes-xx"}]"#, &["interface", "sixteen-bytes-xx"]),
        (r#"[{"name":"net-a","interface":"a:b"}]"#, &["interface", "a:b"]),
        (r#"[{"name":"net-a","mac":"02:00"}]"#, &["mac", "02:00"]),
        (r#"[{"name":"net-a","mac":"02:00:00:00:00:00:00:01"}]"#, &["mac"]),
        (r#"[{"name":"net-a","ips":["10.0.0"]}]"#, &["ips", "10.0.0"]),
        (r#"[{"name":"net-a","ips":["10.0.0.1/33"]}]"#, &["ips", "10.0.0.1/33"]),
        (r#"[{"name":"net-a","ips":"10.0.0.1"}]"#, &["ips"]),
        (r#"[{"name":"net-a","portMappings":[{"hostPort":0,"containerPort":80}]}]"#, &["hostPort", "0"]),
        (r#"[{"name":"net-a","portMappings":[{"hostPort":70000,"containerPort":80}]}]"#, &["hostPort", "70000"]),
        (r#"[{"name":"net-a","portMappings":[{"hostPort":80}]}]"#, &["containerPort"]),
        (
            r#"[{"name":"net-a","portMappings":[{"hostPort":80,"containerPort":80,"protocol":"icmp"}]}]"#,
            &["protocol", "icmp"],
        ),
        (r#"[{"name":"net-a","bandwidth":{"ingressRate":0}}]"#, &["ingressRate", "0"]),
        (r#"[{"name":"net-a","bandwidth":{"ingressBurst":5}}]"#, &["ingressRate"]),
        (r#"[{"name":"net-a","infiniband-guid":"02:00:00:00:00:01"}]"#, &["infiniband-guid"]),
        (r#"[{"name":"net-a","default-route":["10.0.0"]}]"#, &["default-route", "10.0.0"]),
        (
            r#"[{"name":"net-a","default-route":["10.0.0.1"]},{"name":"net-a","default-route":["10.0.0.2"]}]"#,
            &["default-route"],
        ),
        (r#"[{"name":"net-a","ips":["10.0.0.1/24"],"ipam-claim-reference":"c"}]"#, &["ipam-claim-reference"]),
    ];
    for (networks, names) in cases {
        refused(&node, networks, names);
    }
}

#[test]
fn names_that_clash() {
    let node = node();
    for networks in ["net-a@eth0", "net-a@x,net-a@x", "net-a@net2,net-a", "net-a@lo"] {
        refused(&node, networks, &["interface"]);
    }
}

#[test]
fn a_definition_that_does_not_exist_is_named_and_may_come_later() {
    let node = node();
    let pod = node.pod("web", "net-a,absent");
    node.add(&pod).refused(11, &["(absent) in namespace (default)"]);
    assert!(node.fakes.calls().is_empty());
    node.assert_clean();
}

#[test]
fn a_pod_that_does_not_exist_is_an_error_and_no_fake_success() {
    let node = node();
    let pod = node.pod("web", "net-a");
    node.remove_manifest("pod-web.json");
    node.add(&pod).refused(11, &["default/web"]);
    assert!(node.fakes.calls().is_empty());
    node.assert_clean();
}

#[test]
fn a_pod_of_another_uid_is_not_the_pod() {
    let node = node();
    let pod = node.pod("web", "net-a");
    let stranger = node.sandbox("web", "11111111-1111-4111-8111-111111111111");
    node.add(&stranger).refusal();
    assert!(node.fakes.calls().is_empty());
    node.add(&pod).result();
    node.del(&pod).quiet();
}

#[test]
fn malformed_definitions() {
    let node = node();
    let cases: [(&str, &[&str]); 12] = [
        ("{", &["invalid JSON"]),
        ("[]", &["JSON object"]),
        (r#"{"cniVersion":"1.0.0","plugins":[]}"#, &["plugins"]),
        (r#"{"cniVersion":"1.0.0"}"#, &["type"]),
        (r#"{"cniVersion":"1.0.0","type":7}"#, &["type", "7"]),
        (r#"{"cniVersion":"1.0.0","type":"../../bin/sh"}"#, &["type", "../../bin/sh"]),
        (r#"{"cniVersion":"1.0.0","plugins":[{"type":"one"},{}]}"#, &["plugins[1].type"]),
        (r#"{"cniVersion":"8.0.0","type":"one"}"#, &["cniVersion", "8.0.0"]),
        (r#"{"cniVersion":"1.0.0","name":"a b","type":"one"}"#, &["name", "a b"]),
        (r#"{"cniVersion":"1.0.0","type":"one","capabilities":{"mac":1}}"#, &["capabilities.mac"]),
        (r#"{"cniVersion":"1.0.0","type":"absent-plugin"}"#, &["absent-plugin"]),
        (r#"{"cniVersion":"1.0.0","type":"one","args":7}"#, &["args"]),
    ];
    for (config, names) in cases {
        node.nad_text("default", "broken", config);
        let with_args = r#"[{"name":"net-a"},{"name":"broken","cni-args":{"a":1}}]"#;
        refused(
            &node,
            if config.contains("args") { with_args } else { "net-a,broken" },
            &[&["default/broken"], names].concat(),
        );
    }
}

#[test]
fn built_in_configurations_are_checked_before_anything_runs() {
    let node = node();
    let cases = [
        (json!({"type": "bridge", "mtu": -1}), ["mtu", "-1"]),
        (json!({"type": "bridge", "mtu": "big"}), ["mtu", "big"]),
        (json!({"type": "bridge", "bridge": "sixteen-bytes-xx"}), ["bridge", "sixteen-bytes-xx"]),
        (json!({"type": "bridge", "vlan": 4095}), ["vlan", "4095"]),
        (json!({"type": "macvlan", "master": "a/b"}), ["master", "a/b"]),
        (json!({"type": "macvlan", "master": "up0", "mode": "sideways"}), ["mode", "sideways"]),
        (
            json!({"type": "ipvlan", "master": "up0", "mode": "l4", "ipam": {"type": "static", "addresses": [{"address": "10.0.0.1/24"}]}}),
            ["mode", "l4"],
        ),
        (json!({"type": "vxlan", "vni": 0}), ["vni", "0"]),
        (json!({"type": "vxlan", "vni": 16777216}), ["vni", "16777216"]),
        (json!({"type": "vxlan", "vni": "7"}), ["vni: got \"7\"", "an integer from 1 to 16777215"]),
        (json!({"type": "vxlan"}), ["vni", ""]),
        (json!({"type": "vxlan", "vni": 5, "port": 70000}), ["port", "70000"]),
        (json!({"type": "vxlan", "vni": 5, "peers": ["10.0.0"]}), ["peers", "10.0.0"]),
        (json!({"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.1.0.5/24"}}), ["subnet", "10.1.0.5/24"]),
        (
            json!({"type": "bridge", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/31"}]]}}),
            ["subnet", "10.1.0.0/31"],
        ),
        (
            json!({"type": "bridge", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}]]}}),
            ["rangeStart", "10.2.0.1"],
        ),
        (json!({"type": "bridge", "ipam": {"type": "host-local", "ranges": [[]]}}), ["ranges", ""]),
        (
            json!({"type": "bridge", "ipam": {"type": "static", "addresses": [{"address": "10.1.0.1"}]}}),
            ["address", "10.1.0.1"],
        ),
        (json!({"type": "bridge", "ipam": {"type": "../x"}}), ["ipam.type", "../x"]),
    ];
    for (mut conf, names) in cases {
        conf["cniVersion"] = json!("1.0.0");
        node.nad("broken", conf);
        refused(&node, "net-a,broken", &[&["default/broken"], &names[..]].concat());
    }
}

#[test]
fn paths_of_a_definition_stay_under_the_path_roots() {
    let node = node();
    let outside = tempfile::TempDir::new().unwrap();
    std::os::unix::fs::symlink(outside.path(), node.path("way-out")).unwrap();
    let way_out = node.text("way-out/x");
    let dotted = node.text("addresses/../../../etc");
    for dir in ["/etc/x", &way_out, &dotted, "relative"] {
        let ipam = json!({"type": "host-local", "dataDir": dir, "ranges": [[{"subnet": "10.1.0.0/24"}]]});
        node.nad("escape", json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-x", "ipam": ipam}));
        refused(&node, "escape", &["default/escape", "dataDir", dir]);
    }
    let ipam = json!({"type": "host-local", "dataDir": node.text("a"), "resolvConf": "/etc/shadow", "ranges": [[{"subnet": "10.1.0.0/24"}]]});
    node.nad("escape", json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-x", "ipam": ipam}));
    refused(&node, "escape", &["resolvConf", "/etc/shadow"]);
}

#[test]
fn cni_args_may_not_set_what_the_definition_locks() {
    let node = node();
    node.nad("locked", json!({"cniVersion": "1.0.0", "type": "one", "lockedArgs": ["tenant"]}));
    refused(&node, r#"[{"name":"locked","cni-args":{"tenant":"red"}}]"#, &["tenant"]);
    let pod = node.pod("web", r#"[{"name":"locked","cni-args":{"colour":"red"}}]"#);
    node.add(&pod).result();
    node.del(&pod).quiet();
}

#[test]
fn isolation_applies_to_every_reference() {
    let mut node = node();
    node.conf["namespaceIsolation"] = json!(true);
    node.nad_text("other", "theirs", r#"{"cniVersion":"1.0.0","type":"two"}"#);
    refused(&node, "other/theirs", &["namespace default", "namespace other"]);
    let pod = node.pod_annotated("web", json!({"v1.multus-cni.io/default-network": "other/theirs"}));
    node.add(&pod).refusal();
    assert!(node.fakes.calls().is_empty());
    node.conf["globalNamespaces"] = json!("other");
    let pod = node.pod("web", "other/theirs");
    node.add(&pod).result();
    node.del(&pod).quiet();
}

#[test]
fn a_capability_that_nobody_declares_is_refused_where_the_node_is_strict() {
    let mut node = Node::new();
    node.nad("plain", json!({"cniVersion": "1.0.0", "type": "one"}));
    let networks = r#"[{"name":"plain","portMappings":[{"hostPort":8080,"containerPort":80}]}]"#;
    let pod = node.pod("web", networks);
    let outcome = node.add(&pod);
    outcome.result();
    assert!(outcome.stderr().contains("portMappings"), "warned: {}", outcome.stderr());
    node.del(&pod).quiet();
    node.fakes.take_order();
    node.conf["strict"] = json!(true);
    refused(&node, networks, &["portMappings"]);
}

#[test]
fn a_manifest_that_is_broken_is_named() {
    let node = node();
    node.manifest("nad-net-b.yaml", "apiVersion: [unclosed");
    let pod = node.pod("web", "net-a,net-b");
    let refusal = node.add(&pod).refusal();
    assert!(refusal.text.contains("net-b"), "{}", refusal.text);
    assert!(node.fakes.calls().is_empty());
}

#[test]
fn manifests_in_yaml_with_several_documents() {
    let node = Node::new();
    node.manifest(
        "all.yaml",
        "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata:\n  name: net-y\nspec:\n  config: |\n    {\"cniVersion\": \"1.0.0\", \"type\": \"one\"}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: other\n",
    );
    let pod = node.pod("web", "net-y");
    node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD one net1"]);
    node.del(&pod).quiet();
}
