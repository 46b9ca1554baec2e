//! flannel with its own plugin, as `kube-flannel.yml` of 0.28.10 installs it. The plugin is the last one that came with the reference
//! plugins (0.9.1), which knows CNI up to 0.4.0.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::{account, daemon, place, plugin, vacate, write};
use crate::cluster::node::Node;
use crate::cluster::service::Service;
use crate::cluster::whole::Cluster;

/// What carries packets between nodes.
#[derive(Clone, Copy, Debug)]
pub enum Backend {
    /// Device flannel.1, VNI 1 on port 8472.
    Vxlan,
    /// Routes by way of the nodes.
    HostGw,
}

impl Backend {
    /// Its name in flannel's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
        }
    }
}

/// What flanneld tells the plugin of a node.
pub const SUBNET_FILE: &str = "/run/flannel/subnet.env";
const KUBECONFIG: &str = "/etc/kubernetes/flannel.kubeconfig";
const NETWORK: &str = "/etc/kube-flannel/net-conf.json";
const PROGRAM: &str = "/opt/bin/flanneld";
const START: Duration = Duration::from_secs(90);

/// Installs it on every node, and gives its daemons when every node's subnet is known.
pub fn install(cluster: &Cluster, backend: Backend) -> Vec<Service> {
    install_with(cluster, backend, &conflist())
}

/// The same with k3s's configuration of the default network (k3s-io/k3s, pkg/agent/flannel/setup.go). k3s has flannel in its own program.
pub fn install_as_k3s(cluster: &Cluster) -> Vec<Service> {
    let conflist = json!({
        "name": "cbr0", "cniVersion": "0.4.0", "plugins": [
            {"type": "flannel", "delegate": {"hairpinMode": true, "forceAddress": true, "isDefaultGateway": true}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        ]
    });
    install_with(cluster, Backend::Vxlan, &conflist)
}

fn install_with(cluster: &Cluster, backend: Backend, conflist: &Value) -> Vec<Service> {
    vacate(cluster);
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]);
    let kubeconfig = account(cluster.plane(), "kube-flannel", "flannel", &rules).to_string();
    let network =
        json!({"Network": "10.244.0.0/16", "EnableNFTables": true, "Backend": {"Type": backend.name()}}).to_string();
    let daemon = daemon("flannel");
    for node in cluster.nodes() {
        write(node, KUBECONFIG, &kubeconfig);
        write(node, NETWORK, &network);
        place(node, &daemon, PROGRAM);
        plugin(node, "flannel");
        write(node, "/etc/cni/net.d/10-flannel.conflist", &conflist.to_string());
    }
    cluster.nodes().iter().map(start).collect()
}

/// Starts the daemon of a node on which it is installed.
pub fn start(node: &Node) -> Service {
    let mut command = node.command(PROGRAM);
    command.args(["--ip-masq", "--kube-subnet-mgr", "--healthz-port=8081", "--iface=eth0"]);
    command.args([format!("--kubeconfig-file={KUBECONFIG}"), format!("--net-config-path={NETWORK}")]);
    command.env("NODE_NAME", node.name()).env("POD_NAME", "kube-flannel").env("POD_NAMESPACE", "kube-flannel");
    let mut daemon = Service::start("flanneld", node.space(), &mut command, &node.file("/var/log/flanneld.log"));
    daemon.wait_for("subnet of flannel", START, || fs::metadata(node.file(SUBNET_FILE)).map_err(|e| e.to_string()));
    daemon
}

/// The default network as flannel's manifest has it, at the version that this plugin knows.
fn conflist() -> Value {
    json!({
        "name": "cbr0", "cniVersion": "0.4.0", "plugins": [
            {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]
    })
}
