//! Products that clusters have beside this one: each as its own manifests install it, with its daemon as a program of the node instead of
//! a pod's. Configuration, arguments and rights are the same; there is no container in between, for nobody serves the images here.

pub mod flannel;
pub mod kube_router;
pub mod usual;
pub mod whereabouts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::node::Node;
use super::whole::Cluster;
use crate::{peers, program};

/// The daemon of a product, as `tests/neighbours/build` makes it.
pub fn daemon(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("neighbours/build");
    let mut build = program::command(&script);
    let output = build.arg(name).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    assert!(output.status.success(), "{}: {}; its words are on stderr", script.display(), output.status);
    Path::new(String::from_utf8_lossy(&output.stdout).trim()).join(name)
}

/// Makes a service account with these rights, and gives a kubeconfig for programs of a node.
fn account(plane: &ControlPlane, namespace: &str, name: &str, rules: &Value) -> Value {
    let api = plane.api();
    let rbac = "rbac.authorization.k8s.io";
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
        }),
    ];
    for object in &objects {
        api.apply(object).unwrap();
    }
    plane.inside_with(&plane.token_of(namespace, name))
}

/// Takes the reference bridge's configuration and the routes between pods away: both are the product's to bring.
fn vacate(cluster: &Cluster) {
    for node in cluster.nodes() {
        let bridge = node.file("/etc/cni/net.d/10-bridge.conflist");
        if bridge.exists() {
            fs::remove_file(bridge).unwrap();
        }
        for other in cluster.nodes().iter().filter(|other| other.name() != node.name()) {
            node.space().run(&format!("ip route flush {}", other.pod_subnet()));
        }
    }
}

/// Copies a program to where a node runs it from.
fn place(node: &Node, program: &Path, path: &str) {
    let path = node.file(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Renamed: a daemon of an earlier start may still run from the file.
    let new = path.with_extension("new");
    fs::copy(program, &new).unwrap();
    fs::rename(&new, &path).unwrap();
}

/// Copies one of the reference plugins to a node.
fn plugin(node: &Node, name: &str) {
    place(node, &peers::program(name), &format!("/opt/cni/bin/{name}"));
}

/// Writes a file of a node.
fn write(node: &Node, path: &str, text: &str) {
    let path = node.file(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
