//! kube-router for routes and NetworkPolicy, as `generic-kuberouter.yaml` of 2.1.0 installs it: routes by BGP between the nodes, no
//! overlay and no proxy for Services, which kube-proxy stays.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::{account, daemon, place, vacate, write};
use crate::cluster::node::Node;
use crate::cluster::service::Service;
use crate::cluster::whole::Cluster;

/// The configuration that kube-router completes, in place, after it has started.
pub const CONFLIST: &str = "/etc/cni/net.d/10-kuberouter.conflist";
const KUBECONFIG: &str = "/etc/kubernetes/kube-router.kubeconfig";
const PROGRAM: &str = "/opt/bin/kube-router";
const START: Duration = Duration::from_secs(90);

/// Installs it on every node, and gives its daemons when each knows its node's subnet.
pub fn install(cluster: &Cluster) -> Vec<Service> {
    vacate(cluster);
    lay_out(cluster);
    for node in cluster.nodes() {
        write(node, CONFLIST, &conflist().to_string());
    }
    cluster.nodes().iter().map(start).collect()
}

/// Installs its policies alone, beside another product's network (`kube-router-firewall-daemonset.yaml`).
pub fn install_firewall(cluster: &Cluster) -> Vec<Service> {
    lay_out(cluster);
    cluster.nodes().iter().map(start_firewall).collect()
}

/// Rights and program.
fn lay_out(cluster: &Cluster) {
    let read = json!(["get", "list", "watch"]);
    let rules = json!([
        {"apiGroups": [""], "resources": ["namespaces", "pods", "services", "nodes", "endpoints"], "verbs": read},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": read},
        {"apiGroups": ["extensions"], "resources": ["networkpolicies"], "verbs": read},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
        {"apiGroups": [""], "resources": ["services/status"], "verbs": ["update"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
    ]);
    let kubeconfig = account(cluster.plane(), "kube-system", "kube-router", &rules).to_string();
    let daemon = daemon("kube-router");
    for node in cluster.nodes() {
        write(node, KUBECONFIG, &kubeconfig);
        place(node, &daemon, PROGRAM);
    }
}

/// Starts the daemon of a node on which it is installed.
pub fn start(node: &Node) -> Service {
    let mut daemon = run(node, &["--run-router=true", "--enable-overlay=false", "--bgp-graceful-restart=true"]);
    daemon.wait_for("subnet in kube-router's configuration", START, || {
        let text = fs::read_to_string(node.file(CONFLIST)).map_err(|e| e.to_string())?;
        if text.contains(&node.pod_subnet()) { Ok(()) } else { Err(text) }
    });
    daemon
}

/// Starts the daemon of a node for policies alone.
pub fn start_firewall(node: &Node) -> Service {
    run(node, &["--run-router=false"])
}

fn run(node: &Node, flags: &[&str]) -> Service {
    let mut command = node.command(PROGRAM);
    command.args(["--run-firewall=true", "--run-service-proxy=false", "--enable-ipv6=false"]).args(flags);
    command.arg(format!("--kubeconfig={KUBECONFIG}"));
    command.env("NODE_NAME", node.name()).env("POD_NAME", "kube-router").env("KUBE_ROUTER_CNI_CONF_FILE", CONFLIST);
    Service::start("kube-router", node.space(), &mut command, &node.file("/var/log/kube-router.log"))
}

fn conflist() -> Value {
    json!({
        "cniVersion": "0.3.0", "name": "mynet", "plugins": [
            {"name": "kubernetes", "type": "bridge", "bridge": "kube-bridge", "isDefaultGateway": true, "ipam": {"type": "host-local"}},
        ]
    })
}
