//! What distributions write as their default network, where that needs no daemon of its own here: a file for each node.

use std::fs;

use serde_json::json;

use super::{peers, place, write};
use crate::cluster::whole::Cluster;

/// kind's: point-to-point links of kindnetd's configuration (sigs.k8s.io/kind, images/kindnetd/cmd/kindnetd/cni.go). Routes between the
/// nodes are those of the cluster, which kindnetd would make.
pub fn kind(cluster: &Cluster) {
    for node in cluster.nodes() {
        fs::remove_file(node.file("/etc/cni/net.d/10-bridge.conflist")).unwrap();
        for name in ["ptp", "host-local", "portmap"] {
            place(node, &peers::program(name), &format!("/opt/cni/bin/{name}"));
        }
        let conflist = json!({
            "cniVersion": "0.3.1", "name": "kindnet", "plugins": [
                {"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": {
                    "type": "host-local", "dataDir": "/run/cni-ipam-state", "routes": [{"dst": "0.0.0.0/0"}],
                    "ranges": [[{"subnet": node.pod_subnet()}]]}},
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ]
        });
        write(node, "/etc/cni/net.d/10-kindnet.conflist", &conflist.to_string());
    }
}
