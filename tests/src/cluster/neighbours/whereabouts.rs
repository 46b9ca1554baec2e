//! Whereabouts as `daemonset-install.yaml` of 0.9.2 installs it: kinds, rights, the program and its flat file. Its reconciler is left out:
//! what it would find, cases look at themselves.

use serde_json::json;

use super::{account, daemon, place, write};
use crate::cluster::whole::Cluster;

const DIR: &str = "/etc/cni/net.d/whereabouts.d";

/// Installs it on every node.
pub fn install(cluster: &Cluster) {
    let program = daemon("whereabouts");
    // kubectl follows no link.
    let kinds = program.with_extension("kinds").canonicalize().unwrap();
    cluster.plane().kubectl(["apply", "-f", kinds.to_str().unwrap()]);
    let all = json!(["get", "list", "watch", "create", "update", "patch", "delete"]);
    let read = json!(["get", "list", "watch"]);
    let rules = json!([
        {"apiGroups": ["whereabouts.cni.cncf.io"], "resources": ["ippools", "overlappingrangeipreservations", "nodeslicepools"], "verbs": all},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": read},
        {"apiGroups": ["k8s.cni.cncf.io"], "resources": ["network-attachment-definitions"], "verbs": read},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update", "get"]},
    ]);
    let kubeconfig = account(cluster.plane(), "kube-system", "whereabouts", &rules).to_string();
    let conf = json!({
        "datastore": "kubernetes", "kubernetes": {"kubeconfig": format!("{DIR}/whereabouts.kubeconfig")},
        "reconciler_cron_expression": "30 4 * * *",
    });
    for node in cluster.nodes() {
        place(node, &program, "/opt/cni/bin/whereabouts");
        write(node, &format!("{DIR}/whereabouts.kubeconfig"), &kubeconfig);
        write(node, &format!("{DIR}/whereabouts.conf"), &conf.to_string());
    }
}
