//! What a definition may say and its author seldom means, and what a program would refuse that no delegate of ours is (rules N24, N32,
//! I12, I13 and I16). The node's own files mean what they say.

use std::net::IpAddr;

use attachments::aliases::stands_for;
use attachments::cni::object::Object;
use attachments::definition::RESOURCE_NAME;
use attachments::finding::Findings;
use attachments::rule::Rule;
use ipnet::IpNet;
use serde_json::Value;

use super::document::{Node, quoted};
use super::plugin::Plugin;
use super::problem::{Kind, Problem};

/// The plugin that gets its device from a device plugin alone.
const SRIOV: &str = "sriov";

/// What is to be said of a plugin of a definition.
pub fn check(plugin: &Plugin<'_>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = no_master(plugin).into_iter().collect();
    if let Some(ipam) = plugin.node.get("ipam") {
        let mut inside = default_routes(ipam);
        inside.extend(node_local(plugin));
        if plugin.ipam_kind() == "whereabouts" {
            inside.extend(whereabouts(ipam));
        }
        problems.extend(inside.into_iter().map(|problem| problem.under("ipam")));
    }
    problems.into_iter().map(|problem| problem.under(&plugin.at)).collect()
}

/// N24.
fn no_master(plugin: &Plugin<'_>) -> Option<Problem> {
    let needs_one = ["macvlan", "ipvlan"].contains(&plugin.kind)
        && plugin.node.get("linkInContainer") != Some(&Node::Bool(true))
        && plugin.node.get("master").is_none_or(|master| master.text() == Some(""));
    let text = "not set; the default-route interface of each node will be used";
    needs_one.then(|| Problem::remark(Rule::NoMaster, "master", text))
}

/// I12.
fn default_routes(ipam: &Node) -> Vec<Problem> {
    let each = |(i, route): (usize, &Node)| {
        let destination: IpNet = route.get("dst")?.text()?.parse().ok()?;
        let text =
            format!("{destination} competes with the cluster default route; use default-route in the pod annotation");
        (destination.prefix_len() == 0).then(|| Problem::remark(Rule::CompetingRoute, format!("routes[{i}].dst"), text))
    };
    list(ipam, "routes").iter().enumerate().filter_map(each).collect()
}

/// I13.
fn node_local(plugin: &Plugin<'_>) -> Option<Problem> {
    let spans_nodes = match stands_for(plugin.kind) {
        "macvlan" | "ipvlan" | "vlan" | "vxlan" => true,
        "bridge" => plugin.node.get("vlan").is_some(),
        _ => false,
    };
    let text = "\"host-local\" allocates per node; duplicates are likely on a shared segment, use a cluster-wide IPAM";
    (spans_nodes && plugin.ipam_kind() == "host-local").then(|| Problem::remark(Rule::NodeLocalAddresses, "type", text))
}

/// I16.
fn whereabouts(ipam: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut range = |at: String, node: Option<&Node>| {
        if let Some(text) = node.and_then(Node::text).filter(|text| !is_range(text)) {
            let allowed = "must be CIDR or start-end/prefix";
            problems.push(Problem::of(Rule::WhereaboutsRange, Kind::Invalid, at, quoted(text), allowed));
        }
    };
    range("range".to_owned(), ipam.get("range"));
    let ranges = list(ipam, "ipRanges");
    for (i, one) in ranges.iter().enumerate() {
        range(format!("ipRanges[{i}].range"), one.get("range"));
    }
    let mut exclude = |at: String, node: &Node| {
        for (i, one) in list(node, "exclude").iter().enumerate() {
            let is_none = |text: &&str| text.parse::<IpNet>().is_err() && text.parse::<IpAddr>().is_err();
            if let Some(text) = one.text().filter(is_none) {
                let at = format!("{at}exclude[{i}]");
                problems.push(Problem::of(Rule::WhereaboutsRange, Kind::Invalid, at, quoted(text), "must be CIDR"));
            }
        }
    };
    exclude(String::new(), ipam);
    for (i, one) in ranges.iter().enumerate() {
        exclude(format!("ipRanges[{i}]."), one);
    }
    problems
}

fn list<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    match node.get(key) {
        Some(Node::List(nodes)) => nodes,
        _ => &[],
    }
}

/// `10.0.0.0/24` or `10.0.0.5-10.0.0.9/24`.
fn is_range(text: &str) -> bool {
    let (start, end) = text.split_once('-').map_or((None, text), |(start, end)| (Some(start), end));
    let Ok(net) = end.parse::<IpNet>() else { return false };
    start.is_none_or(|start| start.parse::<IpAddr>().is_ok_and(|start| start.is_ipv4() == net.addr().is_ipv4()))
}

/// N32: a definition that needs a device says by its annotation which resource the device is of.
pub fn resource(annotations: &Value, spec: &Value) -> Option<Problem> {
    let config = Object::parse(spec["config"].as_str()?.as_bytes()).ok()?;
    let is_sriov = |plugin: &Object| plugin.text("type").ok().flatten().as_deref() == Some(SRIOV);
    let plugins = config.elements("plugins", &mut Findings::default());
    let needs_one = is_sriov(&config) || plugins.iter().any(|(_, plugin)| is_sriov(plugin));
    let is_said = annotations[RESOURCE_NAME].as_str().is_some_and(|name| !name.is_empty());
    let path = format!("metadata.annotations[{RESOURCE_NAME}]");
    let text = "plugin \"sriov\" needs a device resource";
    (needs_one && !is_said).then(|| Problem::of(Rule::NoResourceName, Kind::Required, path, "", text))
}
