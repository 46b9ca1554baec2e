//! Gateways that the addresses of a configuration cannot reach (rules I10 and I11). Only where its text names every
//! subnet: what the runtime or the pod may add is not known here.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use attachments::rule::Rule;
use ipnet::IpNet;

use super::document::{Node, join, quoted};
use super::plugin::Plugin;
use super::problem::{Kind, Problem};

/// A subnet with its gateway, and where it stands.
struct Subnet {
    at: String,
    net: IpNet,
    gateway: Option<IpAddr>,
}

pub fn check(plugin: &Plugin<'_>) -> Vec<Problem> {
    let Some(ipam) = plugin.node.get("ipam") else { return Vec::new() };
    let subnets = match plugin.ipam_kind() {
        "blocks" | "host-local" => ranges(ipam),
        "static" => addresses(ipam),
        _ => return Vec::new(),
    };
    let mut problems: Vec<Problem> = subnets.iter().filter_map(elsewhere).collect();
    let adds =
        |capability: &str| plugin.node.get("capabilities").and_then(|c| c.get(capability)) == Some(&Node::Bool(true));
    if !adds("ips") && !adds("ipRanges") && plugin.node.at("args.cni.ips").is_none() {
        problems.extend(off_link(ipam, &subnets));
    }
    problems.into_iter().map(|problem| problem.under("ipam").under(&plugin.at)).collect()
}

/// It works where a route to the gateway is given beside it, so it only warns.
fn elsewhere(subnet: &Subnet) -> Option<Problem> {
    let gateway = subnet.gateway.filter(|gateway| !subnet.net.contains(gateway))?;
    let text = format!("must be inside {}", subnet.net.trunc());
    let at = join(&subnet.at, "gateway");
    Some(Problem::of(Rule::Gateway, Kind::Invalid, at, quoted(&gateway.to_string()), text).warns())
}

/// Subnets that a problem names; a definition may have thousands.
const NAMED: usize = 4;

/// Networks by their prefix, so that the ones which hold an address are found by a look-up for each length.
#[derive(Default)]
struct Nets {
    nets: HashSet<IpNet>,
    lengths: BTreeSet<(bool, u8)>,
}

impl Nets {
    fn of(nets: impl Iterator<Item = IpNet>) -> Self {
        let mut all = Self::default();
        for net in nets {
            all.lengths.insert((net.addr().is_ipv4(), net.prefix_len()));
            all.nets.insert(net.trunc());
        }
        all
    }

    fn hold(&self, address: IpAddr) -> bool {
        let of_family = self.lengths.iter().filter(|(is_ipv4, _)| *is_ipv4 == address.is_ipv4());
        let mut prefixes = of_family.filter_map(|(_, length)| IpNet::new(address, *length).ok());
        prefixes.any(|prefix| self.nets.contains(&prefix.trunc()))
    }
}

/// A route's gateway that is in no subnet, and to which no other route leads.
fn off_link(ipam: &Node, subnets: &[Subnet]) -> Vec<Problem> {
    let Some(Node::List(routes)) = ipam.get("routes") else { return Vec::new() };
    let reached = routes.iter().filter_map(|node| parsed::<IpNet>(node, "dst")).filter(|dst| dst.prefix_len() > 0);
    let reached = Nets::of(subnets.iter().map(|subnet| subnet.net).chain(reached));
    let named = [true, false].map(|is_ipv4| {
        let family: Vec<&Subnet> = subnets.iter().filter(|subnet| subnet.net.addr().is_ipv4() == is_ipv4).collect();
        let mut names: Vec<String> = family.iter().take(NAMED).map(|subnet| subnet.net.trunc().to_string()).collect();
        if family.len() > NAMED {
            names.push(format!("{} others", family.len() - NAMED));
        }
        names.join(" or ")
    });
    let each = |(i, route): (usize, &Node)| {
        let gateway = parsed::<IpAddr>(route, "gw")?.to_canonical();
        let named = &named[usize::from(!gateway.is_ipv4())];
        // Without a subnet of its family nobody knows which addresses there will be.
        if named.is_empty() || reached.hold(gateway) {
            return None;
        }
        let text = format!("must be inside {named}");
        Some(Problem::of(Rule::Route, Kind::Invalid, format!("routes[{i}].gw"), quoted(&gateway.to_string()), text))
    };
    routes.iter().enumerate().filter_map(each).collect()
}

fn ranges(ipam: &Node) -> Vec<Subnet> {
    let subnet = |at: String, node: &Node| {
        let net = parsed(node, "subnet")?;
        Some(Subnet { at, net, gateway: parsed(node, "gateway") })
    };
    let mut subnets: Vec<Subnet> = subnet(String::new(), ipam).into_iter().collect();
    if let Some(Node::List(sets)) = ipam.get("ranges") {
        for (i, set) in sets.iter().enumerate() {
            let Node::List(ranges) = set else { continue };
            let each = |(j, range): (usize, &Node)| subnet(format!("ranges[{i}][{j}]"), range);
            subnets.extend(ranges.iter().enumerate().filter_map(each));
        }
    }
    subnets
}

fn addresses(ipam: &Node) -> Vec<Subnet> {
    let Some(Node::List(addresses)) = ipam.get("addresses") else { return Vec::new() };
    let each = |(i, node): (usize, &Node)| {
        let net = parsed(node, "address")?;
        Some(Subnet { at: format!("addresses[{i}]"), net, gateway: parsed(node, "gateway") })
    };
    addresses.iter().enumerate().filter_map(each).collect()
}

fn parsed<T: std::str::FromStr>(node: &Node, key: &str) -> Option<T> {
    node.get(key).and_then(Node::text)?.parse().ok()
}
