//! Rules between definitions, and between a definition and the cluster's networks (X02 to X14, I14).

use std::net::IpAddr;

use attachments::names::NetRef;
use attachments::rule::Rule;
use delegates::lint::{Kind, Problem};
use serde_json::Value;

use super::{Request, contested, forbidden, in_config, metadata, overlay, quoted};
use crate::cluster::definition::{Definition, MasterUse, Network, Plugin};
use crate::cluster::ipam::Subnet;
use crate::cluster::{self, ClusterNetwork, Common, View};

/// The definition of a request. One whose name is to be made up stands beside no other of its name.
pub(super) fn definition(request: &Request<'_>, object: &Value) -> Option<Definition> {
    let mut metadata = metadata(object);
    let named = |name: Option<String>, other: &str| name.filter(|name| !name.is_empty()).or(Some(other.to_owned()));
    metadata.namespace = named(metadata.namespace, request.namespace);
    let unnamed = if request.name.is_empty() { "0-unnamed" } else { request.name };
    metadata.name = named(metadata.name, unnamed);
    let reference = cluster::reference(&metadata)?;
    Some(Definition::read(reference, &metadata, object["spec"]["config"].as_str()))
}

/// Judges a definition beside all others.
pub(super) fn judge(request: &Request<'_>, object: &Value, view: &View) -> Vec<Problem> {
    definition(request, object).map(|definition| beside(&definition, view)).unwrap_or_default()
}

/// The same for a definition that was read.
pub(super) fn beside(definition: &Definition, view: &View) -> Vec<Problem> {
    let Some(network) = &definition.network else { return Vec::new() };
    let mut problems: Vec<Problem> = name(definition, network, view).into_iter().collect();
    for plugin in &network.plugins {
        let one = One { definition, plugin, view };
        problems.extend(overlay::judge(&one));
        problems.extend(one.master());
        problems.extend(one.vlan());
        problems.extend(one.device());
        for subnet in &plugin.subnets {
            problems.extend(one.cluster(subnet));
            problems.extend(one.segment(network, subnet));
            problems.extend(one.gateway(subnet));
        }
    }
    problems
}

/// X10. host-local keeps addresses by the network's name, under isolation by namespace and name.
fn name(definition: &Definition, network: &Network, view: &View) -> Option<Problem> {
    let own = &definition.reference;
    let is_apart = |other: &&Definition| view.options.namespace_isolation && other.reference.namespace != own.namespace;
    let differs = |other: &&Definition| other.network.as_ref().is_some_and(|other| other.hash != network.hash);
    let others = view.others(&Common::Name(network.name.clone()), own);
    let other = others.filter(|other| !is_apart(other)).find(differs)?;
    let text = format!("{} uses it with another configuration", other.reference);
    let problem = Problem::of(Rule::NameTaken, Kind::Duplicate, "spec.config.name", quoted(&network.name), text);
    Some(contested(problem, view))
}

/// One plugin of the definition that is judged.
pub(super) struct One<'a> {
    pub definition: &'a Definition,
    pub plugin: &'a Plugin,
    pub view: &'a View,
}

impl One<'_> {
    pub(super) fn at(&self, field: &str) -> String {
        in_config(&self.plugin.at, field)
    }

    fn other(&self, key: &Common) -> Option<&Definition> {
        self.view.others(key, &self.definition.reference).next()
    }

    /// X07 to X09: what the kernel lets no master do at once.
    fn master(&self) -> Vec<Problem> {
        let Some((master, used)) = self.plugin.master_use() else { return Vec::new() };
        let user = |other: MasterUse| {
            let definition = self.other(&Common::Master(master.into(), other))?;
            Some((other, &definition.reference))
        };
        let users: Vec<_> = MasterUse::ALL.into_iter().filter_map(user).collect();
        let mut problems = Vec::new();
        if let Some((other, by)) = users.iter().find(|(other, _)| other.kind() != used.kind()) {
            let text = format!("already an {} master in {by}; one interface cannot serve both", other.kind());
            let text = text.replace("an macvlan", "a macvlan");
            let problem = forbidden(Rule::MasterOfBoth, self.at("master"), quoted(master), text);
            problems.push(contested(problem, self.view));
        }
        let is_ipvlan = |used: MasterUse| matches!(used, MasterUse::Ipvlan(_));
        let of_mode = users.iter().find(|(other, _)| is_ipvlan(used) && is_ipvlan(*other) && *other != used);
        if let Some((other, by)) = of_mode {
            let text = format!("master {} already runs {} in {by}", quoted(master), quoted(other.mode()));
            let value = quoted(used.mode());
            problems.push(Problem::of(Rule::MasterMode, Kind::Invalid, self.at("mode"), value, text));
        }
        let passthru = users.iter().find(|(other, _)| *other == MasterUse::Passthru);
        let alone = if used == MasterUse::Passthru { users.first() } else { None };
        if let Some((_, by)) = alone {
            let text = format!("needs {} for itself, also used by {by}", quoted(master));
            problems.push(forbidden(Rule::MasterAlone, self.at("mode"), quoted("passthru"), text));
        } else if let Some((_, by)) = passthru {
            let text = format!("{by} needs it for itself, its mode is \"passthru\"");
            problems.push(forbidden(Rule::MasterAlone, self.at("master"), quoted(master), text));
        }
        problems
    }

    /// X13.
    fn vlan(&self) -> Option<Problem> {
        let (Some(master), Some(id)) = (&self.plugin.master, self.plugin.vlan) else { return None };
        if &*self.plugin.kind != "vlan" {
            return None;
        }
        self.other(&Common::Vlan(master.clone(), id))?;
        let text =
            format!("{id} on {} can serve one pod per node; consider macvlan on a vlan interface", quoted(master));
        Some(Problem::remark(Rule::VlanTaken, self.at("vlanId"), text))
    }

    /// X14.
    fn device(&self) -> Option<Problem> {
        let device = self.plugin.device.as_ref()?;
        let other = &self.other(&Common::Device(device.clone()))?.reference;
        let text = format!("{} is also claimed by {other}; only one pod per node can hold it", quoted(device));
        Some(Problem::remark(Rule::DeviceTaken, self.at("device"), text))
    }

    /// I14. A segment of the nodes may have pods too, as long as no gateway or overlay stands in for the nodes' own.
    fn cluster(&self, subnet: &Subnet) -> Vec<Problem> {
        let takes_over = self.plugin.overlay.is_some() || self.plugin.is_gateway;
        let counts = |network: &ClusterNetwork| takes_over || !matches!(network, ClusterNetwork::Node(_));
        let networks = self.view.cluster_networks(subnet.net).into_iter().filter(counts);
        let problem = |network: ClusterNetwork| {
            let text = format!("overlaps {}", network.words());
            Problem::of(Rule::ClusterSubnet, Kind::Invalid, self.at(&subnet.at), quoted(subnet.net), text)
        };
        networks.map(problem).collect()
    }

    /// X11. Who gives addresses from one list (host-local of one name) does not give one twice.
    fn segment(&self, network: &Network, subnet: &Subnet) -> Option<Problem> {
        const CLUSTER_WIDE: [&str; 2] = ["whereabouts", "blocks"];
        let segment = self.plugin.segment()?;
        let is_apart = self.view.options.namespace_isolation;
        let clashes = |other: &&Definition| {
            let others = other.network.as_ref().filter(|_| other.reference != self.definition.reference);
            let is_one_list = |name: &str, ipam: &str| {
                let is_one_dir = !is_apart || other.reference.namespace == self.definition.reference.namespace;
                ipam == "host-local" && *self.plugin.ipam == *ipam && name == &*network.name && is_one_dir
            };
            others.is_some_and(|others| {
                let on_segment = others.plugins.iter().filter(|plugin| plugin.segment().as_ref() == Some(&segment));
                let mut separate = on_segment.filter(|plugin| {
                    let is_pool_shared = |other: &Plugin| {
                        // The program looks at every address; blocks know a range by its ends.
                        let is_by_range = &*other.ipam == "whereabouts" && self.view.options.whereabouts_as_blocks;
                        let ranges = |plugin: &Plugin| -> Vec<_> {
                            plugin.subnets.iter().map(|subnet| (subnet.net, subnet.first, subnet.last)).collect()
                        };
                        CLUSTER_WIDE.contains(&&*other.ipam) && (!is_by_range || ranges(other) == ranges(self.plugin))
                    };
                    let is_shared = plugin.ipam == self.plugin.ipam && is_pool_shared(plugin);
                    !is_shared && !is_one_list(&others.name, &plugin.ipam)
                });
                separate.any(|plugin| plugin.subnets.iter().any(|other| other.shares(subnet)))
            })
        };
        let other = &self.view.overlapping(subnet.net).find(clashes)?.reference;
        let text = format!("allocated independently by {other} on the same {}", segment.words());
        let value = quoted(subnet.net);
        let problem = Problem::of(Rule::SegmentSubnet, Kind::Invalid, self.at(&subnet.at), value, text);
        Some(contested(problem, self.view))
    }

    /// X12. A bridge has one IPv4 address; of IPv6 it has several, if their subnets share nothing.
    fn gateway(&self, subnet: &Subnet) -> Option<Problem> {
        let bridge = self.plugin.bridge.as_ref().filter(|_| self.plugin.is_gateway && !self.plugin.force_address)?;
        let own = subnet.gateway_or_first();
        let is_other = |other: &&Subnet| {
            let is_exclusive =
                other.net.addr().is_ipv4() || other.net.contains(&subnet.net) || subnet.net.contains(&other.net);
            let is_same = other.gateway_or_first() == own && other.net == subnet.net;
            other.net.addr().is_ipv4() == own.is_ipv4() && is_exclusive && !is_same
        };
        let others = self.view.others(&Common::Bridge(bridge.clone()), &self.definition.reference);
        let gateways = |other: &'_ Definition| -> Option<(NetRef, IpAddr)> {
            let of_bridge =
                other.plugins().iter().filter(|plugin| plugin.is_gateway && plugin.bridge.as_ref() == Some(bridge));
            let theirs = of_bridge.flat_map(|plugin| &plugin.subnets).find(is_other)?;
            Some((other.reference.clone(), theirs.gateway_or_first()))
        };
        let (other, theirs) = others.filter_map(gateways).next()?;
        let text = format!("bridge {} already has {theirs} from {other}", quoted(bridge));
        Some(Problem::of(Rule::BridgeGateway, Kind::Invalid, self.at(&subnet.gateway_path()), quoted(own), text))
    }
}
