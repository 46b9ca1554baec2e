//! The node's own Node object: its InternalIPs may change while the agent runs.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use kube::{Client, Resource};
use meta_cni_kube::{Collection, Event, Versioned, follow_objects};
use serde::Deserialize;

/// What is read of a Node: its images alone may be 50 KiB.
#[derive(Clone, Debug, Deserialize)]
struct OwnNode {
    metadata: Meta,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    resource_version: String,
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
}

/// Follows the Node, and tells its InternalIPs at each change of it; never ends. A Node that has none (nobody has written its status yet)
/// says nothing: the flags are right then.
pub async fn run(client: Client, node: &str, mut has: impl FnMut(&[IpAddr])) {
    let (path, fields) = (Node::url_path(&(), None), format!("metadata.name={node}"));
    let collection = Collection { what: "the node", path: &path, fields: Some(&fields), labels: None };
    let take = |event: Event<OwnNode>| {
        if let Event::Listed(node) | Event::Applied(node) = event {
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
        let node = serde_json::json!({"metadata": {"resourceVersion": "7"}, "status": {"addresses": addresses}});
        let node: OwnNode = serde_json::from_value(node).unwrap();
        let want: Vec<IpAddr> = ["fd00::5", "10.0.0.5"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!((node.internal_ips(), node.version()), (want, "7"));
        let none: OwnNode = serde_json::from_value(serde_json::json!({"metadata": {"resourceVersion": "7"}})).unwrap();
        assert_eq!(none.internal_ips(), Vec::<IpAddr>::new());
    }
}
