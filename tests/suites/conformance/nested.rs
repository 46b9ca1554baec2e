//! A plugin that calls others, as a delegate: a tenant would choose what runs as root. The programs that such a text names
//! leave a marker, which must not appear.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use meta_cni_tests::call;
use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::Node;
use serde_json::{Value, json};

const SAYS: &str = "meta-cni as a delegate of meta-cni";

/// A node that has our plugin among its programs, and elsewhere a program that leaves a marker.
fn node() -> Node {
    let node = Node::new();
    symlink(call::plugin(), node.path("bin/meta-cni")).unwrap();
    fs::create_dir(node.path("evil")).unwrap();
    script(&node, "evil/sh", &format!("touch {}; echo '{{}}'", node.text("marker")));
    node
}

fn script(node: &Node, name: &str, text: &str) -> PathBuf {
    let path = node.path(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// What a tenant would have meta-cni believe of the node.
fn as_if_it_were_the_nodes(node: &Node, mut conf: Value) -> Value {
    for (key, value) in [
        ("cniVersion", json!("1.0.0")),
        ("binDir", json!(node.text("evil"))),
        ("stateDir", json!(node.text("evil/state"))),
        ("cluster", json!({"directory": node.text("manifests")})),
        ("delegates", json!([{"cniVersion": "1.0.0", "name": "x", "type": "sh", "k": "$(id)"}])),
    ] {
        conf[key] = value;
    }
    conf
}

fn assert_nothing_ran(node: &Node) {
    assert!(!node.path("marker").exists(), "the tenant's program ran");
    assert!(!node.path("evil/state").exists(), "the tenant's state directory was made");
}

#[test]
fn no_definition_names_a_plugin_that_calls_others() {
    let node = node();
    for (conf, field) in [
        (json!({"type": "meta-cni"}), "spec.config.type"),
        (json!({"type": "one", "ipam": {"type": "meta-cni"}}), "spec.config.ipam.type"),
        (json!({"type": "bridge", "ipam": {"TYPE": "meta-cni"}}), "spec.config.ipam.type"),
        (json!({"type": "flannel", "delegate": {"type": "meta-cni"}}), "spec.config.delegate.type"),
        (json!({"type": "one", "inner": {"delegate": {"delegates": [{"type": "multus"}]}}}), "delegates[0].type"),
    ] {
        // Above the plugin itself `delegates` has a type that is nobody's, `sh`: the first finding may be either.
        node.nad("hostile", as_if_it_were_the_nodes(&node, conf));
        let pod = node.pod("web", "hostile");
        node.add(&pod).refused(7, &["default/hostile", field, "no meta plugin"]);
        assert!(node.fakes.take_order().is_empty(), "a delegate ran");
        assert_nothing_ran(&node);
    }
    let listed = json!({"cniVersion": "1.0.0", "plugins": [{"type": "one"}, {"type": "danm"}]});
    node.nad("hostile", listed);
    node.add(&node.pod("web", "hostile")).refused(7, &["spec.config.plugins[1].type", "danm"]);
    node.assert_clean_but(&[]);
}

#[test]
fn the_nodes_own_text_does_not_call_itself() {
    let mut node = node();
    let conf = as_if_it_were_the_nodes(&node, json!({"name": "again", "type": "meta-cni"}));
    node.conf["delegates"].as_array_mut().unwrap().push(conf);
    node.add(&node.pod("web", "")).refused(7, &["delegates[1].type", "meta-cni"]);
    assert_nothing_ran(&node);
}

#[test]
fn by_whatever_name_our_plugin_is_called_it_attaches_nothing_for_our_plugin() {
    let node = node();
    let ours = call::plugin();
    fs::copy(&ours, node.path("bin/copied")).unwrap();
    symlink(&ours, node.path("bin/linked")).unwrap();
    script(&node, "bin/wrapped", &format!("exec {}", ours.display()));
    script(&node, "bin/far", &format!("{} && exit 0; exit 1", node.path("bin/wrapped").display()));
    for kind in ["copied", "linked", "wrapped", "far"] {
        for conf in [
            json!({"type": kind}),
            json!({"cniVersion": "1.0.0", "plugins": [{"type": "one"}, as_if_it_were_the_nodes(&node, json!({"type": kind}))]}),
            json!({"type": "bridge", "bridge": "br-nested", "ipam": {"type": kind}}),
        ] {
            // Where the plugin of the chain is the one above, it carries the keys itself.
            let conf = if conf.get("plugins").is_some() { conf } else { as_if_it_were_the_nodes(&node, conf) };
            node.nad("hostile", conf);
            let pod = node.pod("web", "hostile");
            node.add(&pod).refused(7, &["default/hostile", SAYS]);
            assert_nothing_ran(&node);
            // The failed ADD was undone: also this DEL was answered with success.
            node.del(&pod).quiet();
        }
    }
    node.assert_clean_but(&[]);
}

#[test]
fn the_other_verbs_of_a_nested_call() {
    let node = node();
    let conf = json!({"cniVersion": "1.1.0", "type": "one", "fakeIps": [{"address": "10.1.0.2/24"}]});
    node.nad("net-a", conf);
    node.fakes.rules("one", &[Rule::on("DEL").fails(99, "not this one")]);
    let pod = node.pod("web", "net-a");
    let result = node.add(&pod).result();
    // The program of an attached network becomes ours.
    fs::remove_file(node.path("bin/one")).unwrap();
    symlink(call::plugin(), node.path("bin/one")).unwrap();
    node.check(&pod, &result).refused(7, &["default/net-a", SAYS]);
    node.del(&pod).quiet();
    node.assert_clean_but(&[]);
    assert_nothing_ran(&node);

    let marked = |verb: &str| node.bare_call(verb).env("META_CNI_CALLER", "meta-cni");
    marked("VERSION").run().result();
    marked("GC").conf("cni.dev/valid-attachments", json!([])).run().quiet();
    marked("STATUS").run().refused(50, &[SAYS]);
    node.replay_call(0).env("META_CNI_CALLER", "meta-cni").run().refused(7, &[SAYS]);
}

#[test]
fn definitions_are_held_to_the_programs_of_the_node() {
    let mut node = node();
    node.conf["programs"] = json!(["one"]);
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one", "fakeIps": [{"address": "10.1.0.2/24"}]}));
    node.nad("net-b", json!({"cniVersion": "1.0.0", "type": "two"}));
    node.nad("net-c", json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-c", "ipam": {"type": "two"}}));
    for (network, field) in [("net-b", "spec.config.type"), ("net-c", "spec.config.ipam.type")] {
        node.add(&node.pod("web", network)).refused(7, &[field, "\"two\"", "programs: one"]);
        assert!(node.fakes.take_order().is_empty());
    }
    let pod = node.pod("web", "net-a");
    node.add(&pod).result();
    node.del(&pod).quiet();
    assert_eq!(
        node.fakes.take_order().first().map(String::as_str),
        Some("ADD main eth0"),
        "the node's own is not listed"
    );
}

#[test]
fn under_isolation_a_definition_stands_for_a_file_of_the_node_in_global_namespaces_alone() {
    let mut node = Node::new();
    node.conf["namespaceIsolation"] = json!(true);
    node.conf["globalNamespaces"] = json!("shared");
    fs::write(node.path("conf/lan.conf"), json!({"cniVersion": "1.0.0", "name": "lan", "type": "one"}).to_string())
        .unwrap();
    node.nad_text("default", "lan", "");
    node.add(&node.pod("web", "lan")).refused(
        120,
        &["network-attachment-definition default/lan", "namespace isolation enabled", "violates permission"],
    );
    assert!(node.fakes.take_order().is_empty());
    node.nad_text("shared", "lan", "");
    let pod = node.pod("web", "shared/lan");
    node.add(&pod).result();
    node.del(&pod).quiet();
    let order = node.fakes.take_order();
    assert_eq!(order, ["ADD main eth0", "ADD one net1", "DEL one net1", "DEL main eth0"]);
}

#[test]
fn files_of_the_node_are_out_of_a_programs_reach() {
    let node = Node::new();
    for (conf, field) in [
        (json!({"type": "one", "logFile": "/etc/passwd"}), "spec.config.logFile"),
        (json!({"type": "one", "deep": [{"socket": "/run/containerd/containerd.sock"}]}), "spec.config.deep[0].socket"),
        (
            json!({"type": "bridge", "ipam": {"type": "two", "kubeconfig": "/root/.kube/config"}}),
            "spec.config.ipam.kubeconfig",
        ),
    ] {
        node.nad("hostile", conf);
        node.add(&node.pod("web", "hostile")).refused(7, &[field, "pathRoots"]);
    }
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one"}));
    let args = r#"[{"name":"net-a","cni-args":{"file":"/etc/shadow"}}]"#;
    node.add(&node.pod("web", args)).refused(7, &["networks[0].cni-args.file", "/etc/shadow", "pathRoots"]);
    assert!(node.fakes.calls().is_empty());
}
