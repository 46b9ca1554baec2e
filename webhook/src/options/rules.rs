//! Flags for what the rules cannot see in the cluster.

use attachments::cni::object::Object;
use attachments::dialect::{DIALECTS, Dialect, Dialects};
use attachments::finding::Finding;
use attachments::names::ObjectName;
use attachments::policy::Level;
use clap::{ArgAction, Args};
use ipnet::IpNet;

use crate::cluster;

/// What rules refuse, and what they are told of the nodes and the cluster.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Rules")]
pub struct RuleOptions {
    /// Refuses what the table of rules marks as refused with `--strict`, and is warned of otherwise.
    #[arg(long, env = "META_CNI_STRICT")]
    pub strict: bool,
    /// Refuses to delete a definition that running pods use, unless its namespace is deleted too.
    #[arg(long, env = "META_CNI_DENY_DELETE_IN_USE")]
    pub deny_delete_in_use: bool,
    /// Level of namespaces without the label meta-cni.io/level: privileged, baseline or restricted. The nodes' key `level` is to say the
    /// same.
    #[arg(long, env = "META_CNI_DEFAULT_LEVEL", value_name = "LEVEL", default_value_t = Level::Privileged, value_parser = level)]
    pub default_level: Level,
    /// UDP ports that the default network's tunnel has for itself, whatever the VNI.
    #[arg(long, env = "META_CNI_TUNNEL_PORTS", value_name = "PORT", value_delimiter = ',')]
    pub tunnel_ports: Vec<u16>,
    /// Pairs of UDP port and VNI that are the default network's, each with its device.
    #[arg(
        long,
        env = "META_CNI_RESERVED_PAIRS",
        value_name = "PORT/VNI=DEVICE",
        value_delimiter = ',',
        default_value = "8472/1=flannel.1",
        value_parser = reserved_pair
    )]
    pub reserved_pairs: Vec<ReservedPair>,
    /// MTU of the links over which the nodes' overlays go: an overlay of a larger MTU than it has room for is refused. By default what other
    /// overlays have tells, and is only warned of.
    #[arg(long, env = "META_CNI_UNDERLAY_MTU", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(118..=65_535))]
    pub underlay_mtu: Option<u32>,
    /// Users that may write network-status: the agents.
    #[arg(
        long,
        env = "META_CNI_STATUS_WRITERS",
        value_name = "USER",
        value_delimiter = ',',
        default_value = "system:serviceaccount:kube-system:meta-cni"
    )]
    pub status_writers: Vec<String>,
    /// Plugin types that the enforcer of MultiNetworkPolicies filters; without one nothing is said about types.
    #[arg(long, env = "META_CNI_ENFORCED_TYPES", value_name = "TYPE", value_delimiter = ',')]
    pub enforced_types: Vec<String>,
    /// Networks of pods that no Node object names.
    #[arg(long, env = "META_CNI_POD_NETWORKS", value_name = "CIDR", value_delimiter = ',')]
    pub pod_networks: Vec<IpNet>,
    /// Networks of services, where the API server has no ServiceCIDRs.
    #[arg(long, env = "META_CNI_SERVICE_NETWORKS", value_name = "CIDR", value_delimiter = ',')]
    pub service_networks: Vec<IpNet>,
    /// Networks of the nodes.
    #[arg(long, env = "META_CNI_NODE_NETWORKS", value_name = "CIDR", value_delimiter = ',')]
    pub node_networks: Vec<IpNet>,
    /// What the nodes' configuration says too.
    #[command(flatten)]
    pub node: NodeOptions,
}

/// The nodes' keys that rules need. They are to say the same as there.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "As in the nodes' configuration")]
pub struct NodeOptions {
    /// `namespaceIsolation`.
    #[arg(long, env = "META_CNI_NAMESPACE_ISOLATION")]
    pub namespace_isolation: bool,
    /// `globalNamespaces`.
    #[arg(
        long,
        env = "META_CNI_GLOBAL_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ',',
        default_value = "default"
    )]
    pub global_namespaces: Vec<String>,
    /// `multusNamespace`.
    #[arg(long, env = "META_CNI_MULTUS_NAMESPACE", value_name = "NAMESPACE", default_value = "kube-system", value_parser = object_name)]
    pub multus_namespace: Option<ObjectName>,
    /// `maxAttachments`.
    #[arg(long, env = "META_CNI_MAX_ATTACHMENTS", value_name = "NUMBER", default_value_t = 64)]
    pub max_attachments: usize,
    /// `whereabouts`: external or blocks.
    #[arg(long = "whereabouts", env = "META_CNI_WHEREABOUTS", value_name = "WHO", default_value = "external", value_parser = is_blocks)]
    pub whereabouts_as_blocks: WhereaboutsAsBlocks,
    /// Networks that every pod has beyond the first: `delegates` and `defaultNetworks`.
    #[arg(long, env = "META_CNI_NETWORKS_BEFORE", value_name = "NUMBER", default_value_t = 0)]
    pub networks_before: usize,
    /// `hotplug`: what is said of an edit of a running pod's networks.
    #[arg(long = "hotplug", env = "META_CNI_HOTPLUG", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub hot_plug: bool,
    /// `dialects`: whose annotations and objects are judged too. May be given several times.
    #[arg(long, env = "META_CNI_DIALECTS", value_name = "DIALECT", value_delimiter = ',', value_parser = dialect)]
    pub dialects: Vec<Dialect>,
}

/// Ranges of whereabouts are read as blocks. clap would take a plain `bool` for a flag without a value.
pub type WhereaboutsAsBlocks = bool;

/// A pair that no definition may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedPair {
    /// The UDP port.
    pub port: u16,
    /// The VNI.
    pub vni: u32,
    /// The default network's device.
    pub device: String,
}

impl Default for RuleOptions {
    fn default() -> Self {
        let cluster::Options {
            strict,
            deny_delete_in_use,
            namespace_isolation,
            global_namespaces,
            multus_namespace,
            max_attachments,
            networks_before,
            whereabouts_as_blocks,
            reserved_pairs,
            tunnel_ports,
            underlay_mtu,
            status_writers,
            enforced_types,
            pod_networks,
            service_networks,
            node_networks,
            hot_plug,
            dialects: _,
        } = cluster::Options::default();
        let pair = |(port, vni, device)| ReservedPair { port, vni, device };
        Self {
            strict,
            deny_delete_in_use,
            default_level: Level::default(),
            tunnel_ports,
            underlay_mtu,
            reserved_pairs: reserved_pairs.into_iter().map(pair).collect(),
            status_writers,
            enforced_types,
            pod_networks,
            service_networks,
            node_networks,
            node: NodeOptions {
                namespace_isolation,
                global_namespaces,
                multus_namespace,
                max_attachments,
                networks_before,
                whereabouts_as_blocks,
                hot_plug,
                dialects: Vec::new(),
            },
        }
    }
}

impl RuleOptions {
    /// The same as the rules take it.
    pub fn of_rules(&self) -> cluster::Options {
        let NodeOptions {
            namespace_isolation,
            global_namespaces,
            multus_namespace,
            max_attachments,
            networks_before,
            whereabouts_as_blocks,
            hot_plug,
            dialects,
        } = self.node.clone();
        let pair = |pair: &ReservedPair| (pair.port, pair.vni, pair.device.clone());
        cluster::Options {
            strict: self.strict,
            deny_delete_in_use: self.deny_delete_in_use,
            namespace_isolation,
            global_namespaces,
            multus_namespace,
            max_attachments,
            networks_before,
            whereabouts_as_blocks,
            hot_plug,
            dialects: dialects_of(&dialects),
            reserved_pairs: self.reserved_pairs.iter().map(pair).collect(),
            tunnel_ports: self.tunnel_ports.clone(),
            underlay_mtu: self.underlay_mtu,
            status_writers: self.status_writers.clone(),
            enforced_types: self.enforced_types.clone(),
            pod_networks: self.pod_networks.clone(),
            service_networks: self.service_networks.clone(),
            node_networks: self.node_networks.clone(),
        }
    }
}

fn level(text: &str) -> Result<Level, String> {
    text.parse().map_err(|_| format!("got {text:?}, want {}", Level::ALLOWED))
}

/// The dialects with their usual settings: a node's own concern what a pod gets, and not what its annotations may say.
fn dialects_of(list: &[Dialect]) -> Dialects {
    let mut conf = Object::new();
    conf.set(DIALECTS, &list.iter().map(|dialect| dialect.as_str()).collect::<Vec<_>>());
    Dialects::read(&conf).unwrap_or_default()
}

fn dialect(text: &str) -> Result<Dialect, String> {
    text.parse().map_err(|finding: Finding| format!("got {}, want {}", finding.value, finding.allowed))
}

fn is_blocks(text: &str) -> Result<bool, String> {
    match text {
        "external" => Ok(false),
        "blocks" => Ok(true),
        _ => Err(format!("got {text:?}, want external or blocks")),
    }
}

fn object_name(text: &str) -> Result<ObjectName, String> {
    text.parse().map_err(|_| format!("got {text:?}, want {}", ObjectName::ALLOWED))
}

fn reserved_pair(text: &str) -> Result<ReservedPair, String> {
    let read = || {
        let (pair, device) = text.split_once('=')?;
        let (port, vni) = pair.split_once('/')?;
        let device = Some(device.to_owned()).filter(|device| !device.is_empty())?;
        Some(ReservedPair { port: port.parse().ok()?, vni: vni.parse().ok()?, device })
    };
    read().ok_or_else(|| format!("got {text:?}, want PORT/VNI=DEVICE, for example 8472/1=flannel.1"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        rules: RuleOptions,
    }

    fn parsed(flags: &[&str]) -> Result<RuleOptions, String> {
        let arguments = Arguments::try_parse_from(std::iter::once(&"x").chain(flags));
        arguments.map(|arguments| arguments.rules).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_have_the_defaults_of_the_rules() {
        let of = |options: &RuleOptions| format!("{:?}", options.of_rules());
        assert_eq!(of(&parsed(&[]).unwrap()), of(&RuleOptions::default()));
        assert_eq!(of(&RuleOptions::default()), format!("{:?}", cluster::Options::default()));
        assert_eq!(parsed(&[]).unwrap().default_level, Level::Privileged);
    }

    #[test]
    fn every_setting_that_a_flag_can_say_is_one() {
        let flags = [
            "--strict",
            "--deny-delete-in-use",
            "--default-level=restricted",
            "--tunnel-ports=8472,6081",
            "--reserved-pairs=4789/7=vxlan7,8472/1=flannel.1",
            "--status-writers=a,b",
            "--enforced-types=macvlan",
            "--pod-networks=10.244.0.0/16,fd00::/48",
            "--service-networks=10.96.0.0/16",
            "--node-networks=192.168.0.0/24",
            "--namespace-isolation",
            "--global-namespaces=infra,default",
            "--multus-namespace=multus",
            "--max-attachments=8",
            "--networks-before=1",
            "--hotplug=false",
            "--dialects=genie",
            "--dialects=genie",
        ];
        let options = parsed(&flags).unwrap();
        assert_eq!(options.default_level, Level::Restricted);
        let of_rules = options.of_rules();
        assert!(of_rules.strict && of_rules.deny_delete_in_use && of_rules.namespace_isolation);
        assert_eq!(of_rules.tunnel_ports, [8472, 6081]);
        let pairs = [(4789, 7, "vxlan7".to_owned()), (8472, 1, "flannel.1".to_owned())];
        assert_eq!(of_rules.reserved_pairs, pairs);
        assert_eq!(
            (of_rules.status_writers, of_rules.enforced_types),
            (vec!["a".into(), "b".into()], vec!["macvlan".into()])
        );
        let nets = [of_rules.pod_networks, of_rules.service_networks, of_rules.node_networks];
        assert_eq!(nets.map(|nets| nets.len()), [2, 1, 1]);
        assert_eq!(of_rules.global_namespaces, ["infra", "default"]);
        assert_eq!(of_rules.multus_namespace.map(|name| name.to_string()).as_deref(), Some("multus"));
        assert_eq!(of_rules.dialects.on().collect::<Vec<_>>(), [Dialect::Genie]);
        assert_eq!((of_rules.max_attachments, of_rules.networks_before, of_rules.hot_plug), (8, 1, false));
    }

    #[test]
    fn what_is_no_value_is_told_with_what_is() {
        for (flag, words) in [
            ("--default-level=open", "want privileged, baseline or restricted"),
            ("--reserved-pairs=8472", "want PORT/VNI=DEVICE"),
            ("--reserved-pairs=99999/1=x", "want PORT/VNI=DEVICE"),
            ("--reserved-pairs=8472/1=", "want PORT/VNI=DEVICE"),
            ("--multus-namespace=A_b", "want DNS-1123 labels"),
            ("--pod-networks=10.0.0.0", "--pod-networks"),
            ("--max-attachments=-1", "--max-attachments"),
            ("--dialects=multus", "got \"multus\", want danm, genie or knitter"),
            ("--hotplug=on", "[possible values: true, false]"),
        ] {
            let said = parsed(&[flag]).unwrap_err();
            assert!(said.contains(words), "{flag}: {said}");
        }
    }
}
