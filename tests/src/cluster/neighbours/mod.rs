//! Products that clusters have beside this one: each as its own manifests install it, with its daemon as a program of the node instead of
//! a pod's. Configuration, arguments and rights are the same; there is no container in between, for nobody serves the images here.

pub mod cilium;
pub mod coredns;
pub mod dhcp;
pub mod firewall;
pub mod flannel;
pub mod kube_router;
pub mod ovs;
pub mod results;
pub mod usual;
pub mod whereabouts;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::node::Node;
use super::operators::built_by;
use super::pods::PATIENCE;
use super::wait;
use super::whole::Cluster;
use crate::peers;

/// The daemon of a product, as `tests/neighbours/build` makes it.
pub fn daemon(name: &str) -> PathBuf {
    built_by("neighbours/build", name)
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

/// Sets keys of all nodes, and returns when every node has them.
pub fn say(cluster: &Cluster, keys: &Value) {
    let map = "/api/v1/namespaces/kube-system/configmaps/meta-cni";
    cluster.api().patch(map, &json!({"data": {"node.json": keys.to_string()}})).unwrap();
    for node in cluster.nodes() {
        wait::until(&format!("{keys} on {}", node.name()), PATIENCE, || {
            let text =
                fs::read_to_string(node.file("/etc/cni/net.d/00-meta-cni.conflist")).map_err(|e| e.to_string())?;
            let conf: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
            let has = |(key, value): (&String, &Value)| conf["plugins"][0][key] == *value;
            if keys.as_object().unwrap().iter().all(has) { Ok(()) } else { Err(text) }
        });
    }
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
