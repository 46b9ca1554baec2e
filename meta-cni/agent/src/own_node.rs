//! The node's own Node object: its InternalIPs may change while the agent runs, and its ranges of pod addresses may come late.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use attachments::node_label::is_ability;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::{Client, Resource};
use meta_cni_kube::{Collection, Event, Versioned, follow_objects};
use serde::Deserialize;

/// What is read of a Node: its images alone may be 50 KiB.
#[derive(Clone, Debug, Deserialize)]
struct OwnNode {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Spec {
    #[serde(default, rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    resource_version: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

impl Versioned for OwnNode {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl OwnNode {
    /// InternalIPs, the first of each family: of several the kubelet tells pods that one.
    fn internal_ips(&self) -> Vec<IpAddr> {
        let all = self.status.addresses.iter().filter(|one| one.kind == "InternalIP");
        let mut ips: Vec<IpAddr> = Vec::new();
        for ip in all.filter_map(|one| one.address.parse::<IpAddr>().ok()) {
            if !ips.iter().any(|other| other.is_ipv4() == ip.is_ipv4()) {
                ips.push(ip);
            }
        }
        ips
    }

    /// Ranges of its pods' addresses; at most one of each family (core/v1, NodeSpec).
    fn pod_cidrs(&self) -> Vec<IpNet> {
        self.spec.pod_cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect()
    }
}

/// Follows the Node, and tells its InternalIPs, the ranges of its pods' addresses, and the keys of its labels that say what it can serve, at
/// each change of it; never ends. A Node without InternalIPs (nobody has written its status yet) says nothing of them: the flags are right
/// then.
pub async fn run(
    client: Client,
    node: &str,
    mut has: impl FnMut(&[IpAddr]),
    mut pods_have: impl FnMut(Vec<IpNet>),
    mut is_labelled: impl FnMut(BTreeSet<String>),
) {
    let (path, fields) = (Node::url_path(&(), None), format!("metadata.name={node}"));
    let collection = Collection { what: "the node", path: &path, fields: Some(&fields), labels: None };
    let take = |event: Event<OwnNode>| {
        if let Event::Listed(node) | Event::Applied(node) = event {
            pods_have(node.pod_cidrs());
            is_labelled(node.metadata.labels.keys().filter(|key| is_ability(key)).cloned().collect());
            let ips = node.internal_ips();
            if !ips.is_empty() {
                has(&ips);
            }
        }
    };
    follow_objects(client, collection, take).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_internal_ip_of_each_family_counts() {
        let addresses = serde_json::json!([
            {"type": "Hostname", "address": "n1"},
            {"type": "InternalIP", "address": "fd00::5"},
            {"type": "InternalIP", "address": "10.0.0.5"},
            {"type": "ExternalIP", "address": "192.0.2.9"},
            {"type": "InternalIP", "address": "10.0.0.6"},
            {"type": "InternalIP", "address": "n1.example"},
        ]);
        let node = serde_json::json!({
            "metadata": {"resourceVersion": "7"}, "spec": {"podCIDR": "10.8.1.0/24", "podCIDRs": ["10.8.1.0/24", "fd00:8:1::/64", "x"]},
            "status": {"addresses": addresses},
        });
        let node: OwnNode = serde_json::from_value(node).unwrap();
        let want: Vec<IpAddr> = ["fd00::5", "10.0.0.5"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!((node.internal_ips(), node.version()), (want, "7"));
        let ranges: Vec<IpNet> = ["10.8.1.0/24", "fd00:8:1::/64"].map(|cidr| cidr.parse().unwrap()).into();
        assert_eq!(node.pod_cidrs(), ranges);
        let none: OwnNode = serde_json::from_value(serde_json::json!({"metadata": {"resourceVersion": "7"}})).unwrap();
        assert_eq!((none.internal_ips(), none.pod_cidrs()), (Vec::new(), Vec::new()));
    }
}
