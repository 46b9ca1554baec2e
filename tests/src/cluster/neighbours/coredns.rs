//! CoreDNS for the cluster's names, with the rights and the service of kubeadm's manifest. It is a program of one node, reached by the
//! service's address as ever.

use std::time::Duration;

use serde_json::json;

use super::{account, daemon, place, write};
use crate::cluster::service::Service;
use crate::cluster::whole::Cluster;

const KUBECONFIG: &str = "/etc/kubernetes/coredns.kubeconfig";
const CONFIG: &str = "/etc/coredns/Corefile";
const PROGRAM: &str = "/opt/bin/coredns";
/// What kubelet tells pods (`clusterDNS`).
const ADDRESS: &str = "10.96.0.10";
const START: Duration = Duration::from_secs(60);

/// Starts it on the first node.
pub fn install(cluster: &Cluster) -> Service {
    let (api, node) = (cluster.api(), &cluster.nodes()[0]);
    let read = json!(["list", "watch"]);
    let rules = json!([
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
    ]);
    let kubeconfig = account(cluster.plane(), "kube-system", "coredns", &rules).to_string();
    let address = node.address();
    let (namespace, name) = ("kube-system", "kube-dns");
    let ports =
        json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]);
    for object in [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ADDRESS, "ports": ports},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [address]}], "ports": ports,
        }),
    ] {
        api.apply(&object).unwrap();
    }
    write(node, KUBECONFIG, &kubeconfig);
    let zone = format!("kubernetes cluster.local {{\n    kubeconfig {KUBECONFIG}\n  }}");
    write(node, CONFIG, &format!(". {{\n  bind {address}\n  errors\n  ready {address}:8181\n  {zone}\n}}\n"));
    place(node, &daemon("coredns"), PROGRAM);
    let mut command = node.command(PROGRAM);
    command.args(["-conf", CONFIG]);
    let mut server = Service::start("coredns", node.space(), &mut command, &node.file("/var/log/coredns.log"));
    server.wait_for("CoreDNS that knows the cluster", START, || {
        let ready = format!("http://{address}:8181/ready");
        let mut ask = node.command("busybox");
        ask.args(["wget", "-q", "-O", "-", &ready]);
        let answer = node.space().within(|| ask.output()).map_err(|e| e.to_string())?;
        if answer.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&answer.stderr).into_owned()) }
    });
    server
}
