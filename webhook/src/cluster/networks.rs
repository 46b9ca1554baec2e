//! The cluster's own networks: of pods, of services, of the nodes.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;

use super::Options;

/// A network of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterNetwork {
    /// Of pods.
    Pod(IpNet),
    /// Of services.
    Service(IpNet),
    /// Of the nodes, or the address of one.
    Node(IpNet),
}

impl ClusterNetwork {
    /// Whose it is, and the network.
    pub fn words(&self) -> String {
        match self {
            Self::Pod(net) => format!("the cluster pod network {net}"),
            Self::Service(net) => format!("the cluster service network {net}"),
            Self::Node(net) if net.prefix_len() == net.max_prefix_len() => format!("the node address {}", net.addr()),
            Self::Node(net) => format!("the node network {net}"),
        }
    }
}

/// What Node and ServiceCIDR objects tell.
#[derive(Debug, Default)]
pub struct Networks {
    nodes: HashMap<Box<str>, Vec<ClusterNetwork>>,
    services: HashMap<Box<str>, Vec<ClusterNetwork>>,
}

impl Networks {
    /// A node is there, or has changed.
    pub fn apply_node(&mut self, node: &Node) {
        let Some(name) = node.metadata.name.as_deref() else { return };
        let pods = node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten());
        let pods = pods.filter_map(|cidr| cidr.parse().ok()).map(ClusterNetwork::Pod);
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let internal = addresses.filter(|address| address.type_ == "InternalIP");
        let internal = internal.filter_map(|address| address.address.parse::<IpAddr>().ok());
        let all = pods.chain(internal.map(|address| ClusterNetwork::Node(address.into()))).collect();
        self.nodes.insert(name.into(), all);
    }

    /// A node is gone.
    pub fn delete_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// A list was read: nodes that it did not have are gone.
    pub fn retain_nodes(&mut self, is_listed: impl Fn(&str) -> bool) {
        self.nodes.retain(|name, _| is_listed(name));
    }

    /// A ServiceCIDR is there, or has changed.
    pub fn apply_services(&mut self, services: &ServiceCIDR) {
        let Some(name) = services.metadata.name.as_deref() else { return };
        let cidrs = services.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
        let all = cidrs.filter_map(|cidr| cidr.parse().ok()).map(ClusterNetwork::Service).collect();
        self.services.insert(name.into(), all);
    }

    /// A ServiceCIDR is gone.
    pub fn delete_services(&mut self, name: &str) {
        self.services.remove(name);
    }

    /// A list was read: ServiceCIDRs that it did not have are gone.
    pub fn retain_services(&mut self, is_listed: impl Fn(&str) -> bool) {
        self.services.retain(|name, _| is_listed(name));
    }

    /// Are the addresses of all nodes IPv6?
    pub fn is_ipv6_only(&self) -> bool {
        let mut addresses = self.nodes.values().flatten().filter_map(|network| match network {
            ClusterNetwork::Node(net) => Some(net.addr().is_ipv6()),
            _ => None,
        });
        addresses.next().is_some_and(|is_ipv6| is_ipv6 && addresses.all(|is_ipv6| is_ipv6))
    }

    /// How many nodes and ServiceCIDRs there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.nodes.len(), self.services.len())
    }

    /// The first of each kind that shares addresses with this network; those that flags name come first, for they are whole.
    pub(super) fn overlapping(&self, net: IpNet, options: &Options) -> Vec<ClusterNetwork> {
        let overlaps = |of: IpNet| of.contains(&net) || net.contains(&of);
        let flagged =
            |nets: &[IpNet], kind: fn(IpNet) -> ClusterNetwork| nets.iter().copied().find(|of| overlaps(*of)).map(kind);
        let told = |pick: fn(&ClusterNetwork) -> Option<IpNet>| {
            let all = self.nodes.values().chain(self.services.values()).flatten();
            all.filter(|network| pick(network).is_some_and(overlaps)).min_by_key(|network| pick(network)).cloned()
        };
        let pod = flagged(&options.pod_networks, ClusterNetwork::Pod);
        let service = flagged(&options.service_networks, ClusterNetwork::Service);
        let node = flagged(&options.node_networks, ClusterNetwork::Node);
        let pick_pod =
            |network: &ClusterNetwork| if let ClusterNetwork::Pod(net) = network { Some(*net) } else { None };
        let pick_service =
            |network: &ClusterNetwork| if let ClusterNetwork::Service(net) = network { Some(*net) } else { None };
        let pick_node =
            |network: &ClusterNetwork| if let ClusterNetwork::Node(net) = network { Some(*net) } else { None };
        let found =
            [pod.or_else(|| told(pick_pod)), service.or_else(|| told(pick_service)), node.or_else(|| told(pick_node))];
        found.into_iter().flatten().collect()
    }
}
