//! What the webhook is told by its flags, and cannot see in the cluster.

use attachments::dialect::Dialects;
use attachments::names::ObjectName;
use ipnet::IpNet;

/// Settings of the rules. The defaults are those of a node's configuration, and of a cluster with flannel.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--strict`: rules that the table marks W/D refuse.
    pub strict: bool,
    /// `--deny-delete-in-use`: a definition in use is not deleted.
    pub deny_delete_in_use: bool,
    /// The nodes' `namespaceIsolation`.
    pub namespace_isolation: bool,
    /// The nodes' `globalNamespaces`.
    pub global_namespaces: Vec<String>,
    /// The nodes' `multusNamespace`: where the default network's definition is when its annotation names no namespace.
    pub multus_namespace: Option<ObjectName>,
    /// The nodes' `maxAttachments`.
    pub max_attachments: usize,
    /// The number of the nodes' `delegates` and `defaultNetworks` beyond the first: `net1` is theirs then.
    pub networks_before: usize,
    /// The nodes' `whereabouts` is `blocks`: definitions share addresses that have the same ranges, and no others.
    pub whereabouts_as_blocks: bool,
    /// The agent attaches and detaches networks of running pods.
    pub hot_plug: bool,
    /// The nodes' `dialects`.
    pub dialects: Dialects,
    /// Pairs of UDP port and VNI that belong to the default network, with its device.
    pub reserved_pairs: Vec<(u16, u32, String)>,
    /// UDP ports that the default network's tunnel has for itself, whatever the VNI.
    pub tunnel_ports: Vec<u16>,
    /// MTU of the links over which the nodes' overlays go; absent where nobody said.
    pub underlay_mtu: Option<u32>,
    /// User names that may write `network-status`.
    pub status_writers: Vec<String>,
    /// Types that the enforcer of MultiNetworkPolicy filters; empty where none is installed, and nothing is said.
    pub enforced_types: Vec<String>,
    /// Pod networks that no Node object tells.
    pub pod_networks: Vec<IpNet>,
    /// Service networks that no ServiceCIDR tells.
    pub service_networks: Vec<IpNet>,
    /// Networks of the nodes.
    pub node_networks: Vec<IpNet>,
}

impl Options {
    /// May what is in a namespace name a definition of another one?
    pub fn may_name(&self, own: &ObjectName, other: &ObjectName) -> bool {
        let is_global = || self.global_namespaces.iter().any(|name| name == other.as_str());
        !self.namespace_isolation || own == other || is_global()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strict: false,
            deny_delete_in_use: false,
            namespace_isolation: false,
            global_namespaces: vec!["default".to_owned()],
            multus_namespace: "kube-system".parse().ok(),
            max_attachments: 64,
            networks_before: 0,
            whereabouts_as_blocks: false,
            hot_plug: true,
            dialects: Dialects::default(),
            reserved_pairs: vec![(8472, 1, "flannel.1".to_owned())],
            tunnel_ports: Vec::new(),
            underlay_mtu: None,
            status_writers: vec!["system:serviceaccount:kube-system:meta-cni".to_owned()],
            enforced_types: Vec::new(),
            pod_networks: Vec::new(),
            service_networks: Vec::new(),
            node_networks: Vec::new(),
        }
    }
}
