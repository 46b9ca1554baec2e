//! Multus thick with the reference plugins, installed on every node as its own DaemonSet does it, but as a program
//! of the node instead of a pod: the same paths, arguments and rights to the API, and no container in between.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::node::Node;
use super::service::Service;
use super::whole::Cluster;
use crate::peers;

/// Where a pod finds its credentials (client-go, rest.InClusterConfig).
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";
/// The service of the API server (the first address of the default range).
const API: (&str, &str) = ("10.96.0.1", "443");
const START: Duration = Duration::from_secs(90);

/// The daemon's own configuration on a node.
pub const DAEMON_CONFIG: &str = "/etc/cni/multus.json";

/// Starts Multus's daemon on every node and waits until the runtime's configuration is Multus's.
pub fn install(cluster: &Cluster) -> Vec<Service> {
    let plane = cluster.plane();
    let account = json!({"namespace": "kube-system", "name": "multus"});
    plane.api().apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})).unwrap();
    // Its own manifest asks for less; rights cost no time.
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "multus"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "kube-system", "name": "multus"}],
    });
    plane.api().apply(&binding).unwrap();
    let (token, certificate) = (plane.token_of("kube-system", "multus"), plane.certificate());
    cluster.nodes().iter().map(|node| start(node, &token, &certificate)).collect()
}

fn start(node: &Node, token: &str, certificate: &str) -> Service {
    for name in ["multus-shim", "multus-daemon"] {
        fs::copy(peers::program(name), node.file(Path::new("/opt/cni/bin").join(name))).unwrap();
    }
    let account = node.file(ACCOUNT);
    fs::create_dir_all(&account).unwrap();
    fs::write(account.join("token"), token).unwrap();
    fs::write(account.join("ca.crt"), certificate).unwrap();
    // As multus-daemonset-thick.yml has it, without the mounts that a container needs.
    let config = json!({
        "cniVersion": "0.3.1", "logLevel": "verbose", "logToStderr": true, "cniConfigDir": "/etc/cni/net.d",
        "multusAutoconfigDir": "/etc/cni/net.d", "multusConfigFile": "auto", "socketDir": "/run/multus/",
    });
    fs::write(node.file(DAEMON_CONFIG), config.to_string()).unwrap();
    let mut command = node.command("/opt/cni/bin/multus-daemon");
    command.arg(format!("--config={DAEMON_CONFIG}")).env("MULTUS_NODE_NAME", node.name());
    command.env("KUBERNETES_SERVICE_HOST", API.0).env("KUBERNETES_SERVICE_PORT", API.1);
    let mut daemon =
        Service::start("multus-daemon", node.space(), &mut command, &node.file("/var/log/multus-daemon.log"));
    daemon.wait_for("configuration of Multus", START, || {
        fs::metadata(node.file("/etc/cni/net.d/00-multus.conf")).map_err(|e| e.to_string())
    });
    daemon
}
