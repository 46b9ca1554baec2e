//! A node that had Multus: its configuration with nothing changed but `type`.

use std::fs;

use meta_cni_tests::node::Node;
use serde_json::{Value, json};

/// A node whose runtime reads a configuration of Multus with another `type`. What the test must have of its own: paths lie
/// in the node's directory, and manifests stand for the cluster. Two definitions are there, and every network that is named.
fn adopted(text: &str) -> Node {
    let mut node = Node::new();
    let mut conf: Value = serde_json::from_str(text).unwrap();
    conf["type"] = json!("meta-cni");
    for key in ["cluster", "stateDir", "cniDir", "binDir", "confDir", "pathRoots"] {
        conf[key] = node.conf[key].take();
    }
    for key in ["clusterNetwork", "readinessindicatorfile"] {
        if let Some((_, file)) = conf[key].as_str().and_then(|path| path.rsplit_once('/')) {
            let path = node.text(&format!("conf/{file}"));
            fs::write(&path, main_net("main").to_string()).unwrap();
            conf[key] = json!(path);
        }
    }
    node.conf = conf;
    file(&node, "sidecar.conf", &json!({"cniVersion": "0.3.1", "name": "sidecarCRD", "type": "two"}));
    file(&node, "example.conf", &json!({"cniVersion": "0.3.1", "name": "exampleNetwork", "type": "two"}));
    node.nad("net-a", json!({"cniVersion": "0.3.1", "type": "one"}));
    node
}

fn main_net(kind: &str) -> Value {
    json!({"cniVersion": "0.3.1", "name": "cbr0", "plugins": [{"type": kind}]})
}

/// A file of `confDir`, which in these tests is the default network's directory too.
fn file(node: &Node, name: &str, conf: &Value) {
    let path = node.path("conf").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, conf.to_string()).unwrap();
}

/// What a pod with one network of its own gets, and gives back.
#[track_caller]
fn attaches(node: &Node, adds: &[&str]) {
    let pod = node.pod("web", "net-a");
    let result = node.add(&pod).result();
    assert_eq!(result["cniVersion"], node.conf["cniVersion"]);
    assert_eq!(node.fakes.take_order(), adds);
    assert_eq!(node.status(&pod).as_array().unwrap().len(), adds.len());
    node.del(&pod).quiet();
    let dels: Vec<String> = adds.iter().rev().map(|line| line.replace("ADD", "DEL")).collect();
    assert_eq!(node.fakes.take_order(), dels);
    node.assert_clean();
}

#[test]
fn the_reference_of_the_thin_plugin() {
    let node = adopted(
        r#"{"cniVersion": "0.3.1", "name": "node-cni-network", "type": "multus",
            "kubeconfig": "/etc/kubernetes/node-kubeconfig.yaml", "confDir": "/etc/cni/multus/net.d",
            "cniDir": "/var/lib/cni/multus", "binDir": "/opt/cni/bin", "logFile": "/var/log/multus.log", "logLevel": "debug",
            "logOptions": {"maxAge": 5, "maxSize": 100, "maxBackups": 5, "compress": true},
            "capabilities": {"portMappings": true}, "namespaceIsolation": false,
            "clusterNetwork": "/etc/cni/net.d/99-flannel.conf", "defaultNetworks": ["sidecarCRD", "exampleNetwork"],
            "systemNamespaces": ["kube-system", "admin"], "multusNamespace": "kube-system",
            "auxiliaryCNIChainName": "cni-chain-config", "allowTryDeleteOnErr": false, "retryDeleteOnError": true}"#,
    );
    attaches(&node, &["ADD main eth0", "ADD two net1", "ADD two net2", "ADD one net3"]);
}

#[test]
fn the_manifest_of_the_thin_plugin() {
    let node = adopted(
        r#"{"name": "multus-cni-network", "type": "multus", "cniVersion": "0.4.0", "capabilities": {"portMappings": true},
            "delegates": [{"cniVersion": "0.3.1", "name": "default-cni-network", "plugins": [
              {"type": "main", "name": "flannel.1", "delegate": {"isDefaultGateway": true, "hairpinMode": true}},
              {"type": "portmap", "capabilities": {"portMappings": true}}]}],
            "kubeconfig": "/etc/cni/net.d/multus.d/multus.kubeconfig"}"#,
    );
    attaches(&node, &["ADD main eth0", "ADD one net1"]);
}

#[test]
fn what_the_thin_entrypoint_writes() {
    let node = adopted(
        r#"{"cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus",
            "capabilities": {"bandwidth": true, "portMappings": true}, "namespaceIsolation": true,
            "globalNamespaces": "default,net", "logToStderr": true, "logLevel": "verbose", "logFile": "/var/log/multus.log",
            "binDir": "/opt/more/bin", "cniConf": "/host/etc/cni/multus/net.d",
            "readinessindicatorfile": "/run/ready", "kubeconfig": "/etc/cni/net.d/multus.d/multus.kubeconfig",
            "delegates": [{"cniVersion": "0.3.1", "name": "cbr0", "plugins": [{"type": "main"}]}]}"#,
    );
    attaches(&node, &["ADD main eth0", "ADD one net1"]);
}

#[test]
fn the_thick_plugins_shim_and_daemon() {
    let node = adopted(
        r#"{"cniVersion": "1.1.0", "name": "multus-cni-network", "type": "multus-shim", "capabilities": {"portMappings": true},
            "clusterNetwork": "/host/etc/cni/net.d/10-flannel.conflist", "logLevel": "verbose", "logToStderr": true,
            "daemonSocketDir": "/run/multus", "chrootDir": "/hostroot", "confDir": "/host/etc/cni/net.d",
            "cniConfigDir": "/host/etc/cni/net.d", "multusAutoconfigDir": "/host/etc/cni/net.d", "multusConfigFile": "auto",
            "multusMasterCNI": "10-flannel.conflist", "forceCNIVersion": true, "overrideNetworkName": true,
            "socketDir": "/host/run/multus/", "metricsPort": 9091, "enablePprof": false, "connectionLimit": 64,
            "perNodeCertificate": {"enabled": true, "bootstrapKubeconfig": "/var/lib/kubelet/kubeconfig",
            "certDir": "/etc/cni/multus/certs", "certDuration": "24h"}, "auxiliaryCNIChainName": "cni-chain-config"}"#,
    );
    attaches(&node, &["ADD main eth0", "ADD one net1"]);
    node.bare_call("STATUS").run().quiet();
}

const SHIM: &str = r#"{"cniVersion": "1.1.0", "name": "multus-cni-network", "type": "multus-shim",
    "clusterNetwork": "/etc/cni/net.d/10-flannel.conflist", "auxiliaryCNIChainName": "chain"}"#;

#[test]
fn the_auxiliary_chain_runs_last_and_needs_no_interface() {
    let node = adopted(SHIM);
    file(
        &node,
        "chain/10-tuning.conf",
        &json!({"name": "my", "type": "tuning", "sysctl": {"net.core.somaxconn": "512"}}),
    );
    file(&node, "chain/20-two.conf", &json!({"name": "mine", "type": "two"}));
    let pod = node.pod("web", "net-a");
    const SETTING: &str = "/proc/sys/net/core/somaxconn";
    let somaxconn = || pod.netns.inside(|| fs::read_to_string(SETTING)).unwrap().trim().to_owned();
    let before = somaxconn();
    let result = node.add(&pod).result();
    assert_eq!(somaxconn(), "512");
    let seen = node.fakes.calls_of("ADD");
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD one net1", "ADD two net2"]);
    let told = seen.last().unwrap().conf();
    assert_eq!((&told["name"], &told["cniVersion"]), (&json!("chain"), &json!("1.1.0")));
    assert!(
        told["prevResult"].is_object() && told["prevResult"].get("ips").is_none_or(|ips| ips == &json!([])),
        "{told}"
    );
    node.check(&pod, &result).quiet();
    node.fakes.take_order();
    pod.netns.inside(|| fs::write(SETTING, "99")).unwrap();
    node.check(&pod, &result).refused(105, &["network chain", "net.core.somaxconn"]);
    node.del(&pod).quiet();
    assert_eq!(somaxconn(), before);
    assert_eq!(node.fakes.take_order(), ["DEL two net2", "DEL one net1", "DEL main eth0"]);
    node.assert_clean();
}

#[test]
fn an_auxiliary_chain_that_cannot_be_read_is_refused() {
    let mut node = adopted(SHIM);
    file(&node, "chain/10.conf", &json!({"name": "mine"}));
    let pod = node.pod("web", "");
    node.add(&pod).refused(7, &["auxiliaryCNIChainName: ", "chain/10.conf.plugins: missing"]);
    assert!(node.fakes.take_order().is_empty());
    file(&node, "chain/10.conf", &json!({"type": "portmap", "backend": 1}));
    node.add(&pod).refused(7, &["network chain (net1): plugins[1].backend"]);
    let needs_a_path = ["auxiliaryCNIChainName requires clusterNetwork to be a path"];
    node.conf["clusterNetwork"] = json!("by-name");
    node.add(&pod).refused(7, &needs_a_path);
    node.conf["clusterNetwork"].take();
    node.conf["delegates"] = json!([main_net("main")]);
    node.add(&pod).refused(7, &needs_a_path);
    assert!(node.fakes.take_order().is_empty());
}

#[test]
fn names_lead_to_a_definition_and_else_to_a_file() {
    let mut node = adopted(SHIM);
    node.conf.as_object_mut().unwrap().remove("auxiliaryCNIChainName");
    node.conf["multusNamespace"] = json!("nets");
    node.conf["clusterNetwork"] = json!("cbr0");
    node.conf["defaultNetworks"] = json!(["exampleNetwork"]);
    attaches(&node, &["ADD main eth0", "ADD two net1", "ADD one net2"]);
    node.nad_text("nets", "cbr0", &json!({"cniVersion": "1.0.0", "type": "two"}).to_string());
    attaches(&node, &["ADD two eth0", "ADD two net1", "ADD one net2"]);
    // Multus takes every name with a slash for a path too, and no relative one is there.
    node.conf["defaultNetworks"] = json!(["nets/cbr0"]);
    let pod = node.pod("web", "");
    node.add(&pod).refused(7, &["defaultNetworks[0]: got \"nets/cbr0\", want", "multusNamespace"]);
    assert!(node.fakes.take_order().is_empty());
}
