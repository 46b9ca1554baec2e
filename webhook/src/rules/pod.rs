//! Rules about a pod's networks beside what there is in the cluster (P06 to P31).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use attachments::dialect::objects::ForeignRef;
use attachments::names::{IfName, Mac, NetRef, ObjectName};
use attachments::rule::{Rule, Severity};
use attachments::selection::{AddressMode, DEFAULT_NETWORK, NETWORKS, NetworkSelection, Selection, address};
use attachments::status::NETWORK_STATUS;
use delegates::lint::{self, Kind, Problem};
use serde_json::Value;

use super::{Operation, Request, annotation, forbidden, foreign, metadata, quoted, routes, warned};
use crate::cluster::definition::Definition;
use crate::cluster::ipam::Subnet;
use crate::cluster::pod::Owner;
use crate::cluster::{PodName, View};

/// The interface of the default network.
const PRIMARY: &str = "eth0";

/// Names that are no pod's to give, and why.
const RESERVED: [(&str, &str); 4] = [
    (PRIMARY, "used by the cluster network"),
    ("lo", "in every pod already"),
    ("all", "to the kernel's settings it means every interface"),
    ("default", "to the kernel's settings it means every interface to come"),
];

/// IPAM that reads an address from CNI_ARGS, where no plugin declares the capability.
const READ_ARGS: [&str; 4] = ["blocks", "host-local", "static", "whereabouts"];

/// Networks for which a missing name is guessed: a guess compares it with every name of the namespace.
const GUESSES: usize = 4;

/// Plugins that read a hardware address from CNI_ARGS.
const READ_MAC: [&str; 5] = ["bridge", "macvlan", "vxlan", "tuning", "sriov"];

/// An element of the annotations, where it stands, and its definition.
pub(super) struct Element<'a> {
    pub at: String,
    pub selected: &'a NetworkSelection,
    pub network: &'a NetRef,
    pub definition: Option<&'a Definition>,
}

/// Whose annotations are judged.
struct Asker<'a> {
    namespace: &'a ObjectName,
    /// The pod; nobody for a template, whose pods take over from one another.
    pod: Option<(PodName, Owner)>,
    is_template: bool,
    view: &'a View,
}

/// Judges a pod.
pub(super) fn judge(request: &Request<'_>, object: &Value, view: &View) -> Vec<Problem> {
    let Ok(namespace) = request.namespace.parse::<ObjectName>() else { return Vec::new() };
    let name = object["metadata"]["name"].as_str().filter(|name| !name.is_empty()).unwrap_or(request.name);
    let pod = (format!("{namespace}/{name}").into(), Owner::read(&metadata(object)));
    Asker { namespace: &namespace, pod: Some(pod), is_template: false, view }.judge(object)
}

/// Judges the template of pods. What other pods hold does not count: those pods may go when these come.
pub(super) fn judge_template(namespace: &ObjectName, template: &Value, view: &View) -> Vec<Problem> {
    Asker { namespace, pod: None, is_template: true, view }.judge(template)
}

/// What an object selects. The webhook's namespace for default networks is a flag.
pub(crate) fn selection(namespace: &ObjectName, object: &Value, view: &View) -> Selection {
    let home = view.options.multus_namespace.as_ref().unwrap_or(namespace);
    view.selection(|key| annotation(object, key), namespace, home)
}

/// The objects of dialects that a pod names and the view does not have.
pub(super) fn missing_foreign(namespace: &ObjectName, object: &Value, view: &View) -> Vec<ForeignRef> {
    let selection = selection(namespace, object, view);
    if selection.networks.len() > view.options.max_attachments {
        return Vec::new();
    }
    selection.objects().filter(|reference| !view.foreign().has(reference)).cloned().collect()
}

/// The definitions that a pod's networks need and the view does not have. The default network may be a file of the node.
pub(super) fn missing(namespace: &ObjectName, object: &Value, view: &View) -> Vec<NetRef> {
    let selection = selection(namespace, object, view);
    if selection.networks.len() > view.options.max_attachments {
        return Vec::new();
    }
    let asker = Asker { namespace, pod: None, is_template: false, view };
    let named: BTreeSet<&NetRef> = selection.networks.iter().filter_map(|one| one.target.definition()).collect();
    let absent = |name: &&&NetRef| asker.may_name(&name.namespace) && view.definition(name).is_none();
    named.iter().filter(absent).map(|name| (*name).clone()).collect()
}

impl Asker<'_> {
    fn judge(&self, object: &Value) -> Vec<Problem> {
        let most = self.view.options.max_attachments;
        let mut problems =
            lint::annotations_within(most, &self.view.options.dialects, self.namespace, |key| annotation(object, key));
        let selection = selection(self.namespace, object, self.view);
        if selection.networks.len() > most {
            return problems;
        }
        if object["spec"]["hostNetwork"] == true && selection.elements().next().is_some() {
            let which = match &selection.translated {
                Some(list) => list.key,
                None if selection.networks.is_empty() => DEFAULT_NETWORK,
                None => NETWORKS,
            };
            let at = format!("metadata.annotations[{which}]");
            problems.push(forbidden(Rule::HostNetwork, at, "", "hostNetwork pods cannot have attachments"));
        }
        let elements = self.elements(&selection);
        for (i, element) in elements.iter().enumerate() {
            problems.extend(self.reference(element, i < GUESSES));
            if let Some(definition) = element.definition {
                problems.extend(capabilities(element, definition));
                problems.extend(self.mac(element, definition));
                problems.extend(self.addresses(element, definition));
                problems.extend(routes::gateway(element, definition));
                problems.extend(routes::address_set(element, definition));
            }
        }
        problems.extend(foreign::named_by(&selection, self.view, self.is_template));
        problems.extend(foreign::unsettled(&selection, self.namespace, self.view));
        problems.extend(foreign::remarks(&selection, object, self.view));
        problems.extend(self.names(&selection));
        problems.extend(twice(&elements));
        problems.extend(routes::default_routes(&elements));
        problems.extend(routes::routes(&elements));
        problems.extend(routes::overlaps(&elements));
        problems.extend(resources(&elements, object));
        problems
    }

    fn elements<'a>(&'a self, selection: &'a Selection) -> Vec<Element<'a>> {
        let element = |(at, selected): (String, &'a NetworkSelection)| {
            let network = selected.target.definition()?;
            Some(Element { at, selected, network, definition: self.known(network) })
        };
        selection.placed_elements().filter_map(element).collect()
    }

    /// A definition that may not be named is not looked at: an answer would tell what it says.
    fn known(&self, network: &NetRef) -> Option<&Definition> {
        self.view.definition(network).filter(|_| self.may_name(&network.namespace))
    }

    fn may_name(&self, namespace: &ObjectName) -> bool {
        self.view.options.may_name(self.namespace, namespace)
    }

    /// P06 to P08.
    fn reference(&self, element: &Element<'_>, guesses: bool) -> Option<Problem> {
        let NetRef { namespace, name } = element.network;
        let is_default = element.at.ends_with(&format!("[{DEFAULT_NETWORK}]"));
        if !self.may_name(namespace) {
            let own = self.namespace.as_str();
            let global = self.view.options.global_namespaces.iter().map(String::as_str).filter(|name| *name != own);
            let allowed: Vec<String> = std::iter::once(own).chain(global).map(quoted).collect();
            let text = format!("isolation allows only {}", allowed.join(", "));
            return Some(match is_default {
                true => forbidden(Rule::DefaultIsolated, &element.at, quoted(element.network), text),
                false => forbidden(Rule::Isolated, format!("{}.namespace", element.at), quoted(namespace), text),
            });
        }
        if element.definition.is_some() {
            return None;
        }
        let names: Vec<&str> = self.view.names(namespace).map(ObjectName::as_str).filter(|_| guesses).collect();
        let meant = lint::nearest(name.as_str(), &names).map(|meant| format!("; did you mean {}?", quoted(meant)));
        let text = format!("{} in namespace {}{}", quoted(name), quoted(namespace), meant.unwrap_or_default());
        let at = if is_default { element.at.clone() } else { format!("{}.name", element.at) };
        let problem = Problem::of(Rule::NoDefinition, Kind::NotFound, at, "", text);
        // A file of the node may be the default network too, and a template may come before its networks.
        Some(if self.is_template || is_default { warned(problem) } else { problem })
    }

    /// P09 and P11. The number in a name counts the node's own networks too. Dialects name their interfaces by rules of their own.
    fn names(&self, selection: &Selection) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut given: HashMap<String, usize> = HashMap::new();
        let networks = if selection.translated.is_some() { &[] } else { selection.networks.as_slice() };
        for (i, selected) in networks.iter().enumerate() {
            let asked = selected.interface.as_ref().map(ToString::to_string);
            let name = asked.unwrap_or_else(|| format!("net{}", i + 1 + self.view.options.networks_before));
            let at = format!("{}.interface", in_networks(i));
            if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
                problems.push(forbidden(Rule::InterfaceReserved, at, quoted(&name), *why));
                continue;
            }
            match given.get(&name) {
                Some(first) => {
                    let text = format!("also given to {}", in_networks(*first));
                    problems.push(Problem::of(Rule::InterfaceTaken, Kind::Duplicate, at, quoted(&name), text));
                }
                None => {
                    given.insert(name, i);
                }
            }
        }
        problems
    }

    /// P14 and P15.
    fn mac(&self, element: &Element<'_>, definition: &Definition) -> Option<Problem> {
        let mac = element.selected.mac?;
        let at = format!("{}.mac", element.at);
        if definition.plugins().iter().any(|plugin| &*plugin.kind == "ipvlan") {
            let text = "plugin \"ipvlan\" shares its master's MAC";
            return Some(forbidden(Rule::MacOfMaster, at, "", text));
        }
        let holders = self.view.usage(element.network)?.holders_of_mac(mac);
        let (holder, is_moving) = self.other(holders, element)?;
        let text = format!("used by pod {holder}");
        let problem = Problem::of(Rule::MacTaken, Kind::Duplicate, at, quoted(mac), text);
        Some(if is_moving { warned(problem) } else { problem })
    }

    /// P16 to P18, P20.
    fn addresses(&self, element: &Element<'_>, definition: &Definition) -> Vec<Problem> {
        let mut problems = Vec::new();
        let subnets: Vec<&Subnet> = definition.subnets().collect();
        let ipam = definition.plugins().first().map(|plugin| &*plugin.ipam).unwrap_or_default();
        // Ranges that the runtime gives are not known here; static takes any address.
        let has_pool = ["host-local", "blocks"].contains(&ipam) && !definition.declares("ipRanges");
        // `static` has an address of the subnet without asking the pool.
        let is_static = |asked: IpAddr| {
            let request = element.selected.addresses;
            request.and_then(|request| request.of(asked.is_ipv4())) == Some(AddressMode::Static)
        };
        let gives = |subnet: &Subnet, asked| subnet.gives(asked) || is_static(asked) && subnet.net.contains(&asked);
        for (i, text) in element.selected.ips.iter().enumerate() {
            let at = format!("{}.ips[{i}]", element.at);
            if ipam == "static" && !text.contains('/') {
                let allowed = "must be an IP address with prefix";
                problems.push(Problem::of(Rule::Ips, Kind::Invalid, at.as_str(), quoted(text), allowed));
            }
            let Some(asked) = address(text) else { continue };
            if let Some(why) = reserved(asked, &subnets, definition).filter(|_| ipam != "static") {
                problems.push(forbidden(Rule::ReservedAddress, at.as_str(), quoted(asked), why));
            } else if has_pool && !subnets.is_empty() && !subnets.iter().any(|subnet| gives(subnet, asked)) {
                let text = format!("must be inside {}", pools(&subnets));
                problems.push(Problem::of(Rule::OutsideRanges, Kind::Invalid, at.as_str(), quoted(asked), text));
            }
            let usage = self.view.usage(element.network);
            if let Some((holder, is_moving)) = usage.and_then(|usage| self.other(usage.holders(asked), element)) {
                let text = format!("held by pod {holder}");
                let problem = Problem::of(Rule::AddressTaken, Kind::Duplicate, at, quoted(asked), text);
                problems.push(if is_moving { warned(problem) } else { problem });
            }
        }
        problems
    }

    /// The first holder that is another pod, and whether all of them are the same workload on the move.
    fn other<'h>(
        &self,
        holders: impl Iterator<Item = &'h PodName> + Clone,
        element: &Element<'_>,
    ) -> Option<(&'h PodName, bool)> {
        let (own, owner) = self.pod.as_ref()?;
        let moves = |holder: &PodName| {
            let Some(pod) = self.view.pod(holder) else { return false };
            let is_near = pod.namespace == *self.namespace;
            let claim = element.selected.ipam_claim.as_ref();
            let has_claim = || {
                let mut theirs = pod.attached.iter().filter(|attached| attached.network == *element.network);
                claim.is_some() && theirs.any(|attached| attached.claim.as_ref() == claim)
            };
            is_near && (owner.is_same(&pod.owner) || has_claim())
        };
        let mut others = holders.filter(|holder| *holder != own);
        let stranger = others.clone().find(|holder| !moves(holder));
        stranger.map(|holder| (holder, false)).or_else(|| others.next().map(|holder| (holder, true)))
    }
}

pub(crate) fn in_networks(i: usize) -> String {
    format!("metadata.annotations[{NETWORKS}][{i}]")
}

/// P15 and P20 within one pod: two of its attachments to one network ask for the same.
fn twice(elements: &[Element<'_>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut macs: HashMap<(&NetRef, Mac), &str> = HashMap::new();
    let mut addresses: HashMap<(&NetRef, IpAddr), &str> = HashMap::new();
    for Element { at, selected, network, .. } in elements {
        if let Some(mac) = selected.mac {
            if let Some(first) = macs.get(&(*network, mac)) {
                let text = format!("also given to {first}");
                problems.push(Problem::of(Rule::MacTaken, Kind::Duplicate, format!("{at}.mac"), quoted(mac), text));
            }
            macs.entry((*network, mac)).or_insert(at);
        }
        for (i, asked) in selected.ips.iter().enumerate() {
            let Some(asked) = address(asked) else { continue };
            if let Some(first) = addresses.get(&(*network, asked)) {
                let (path, text) = (format!("{at}.ips[{i}]"), format!("also given to {first}"));
                problems.push(Problem::of(Rule::AddressTaken, Kind::Duplicate, path, quoted(asked), text));
            }
            addresses.entry((*network, asked)).or_insert(at);
        }
    }
    problems
}

/// P18.
fn reserved(asked: IpAddr, subnets: &[&Subnet], definition: &Definition) -> Option<String> {
    let network = &definition.reference;
    // host-local takes the first address for the gateway where none is named.
    let has_first = definition.plugins().iter().any(|plugin| &*plugin.ipam == "host-local" || plugin.is_gateway);
    let is_wide = |subnet: &Subnet| subnet.net.max_prefix_len() - subnet.net.prefix_len() >= 2;
    let is_gateway = |subnet: &Subnet| match subnet.gateway {
        Some(gateway) => gateway == asked,
        None => has_first && is_wide(subnet) && subnet.gateway_or_first() == asked,
    };
    if subnets.iter().any(|subnet| is_gateway(subnet)) {
        return Some(format!("gateway of {network}"));
    }
    let subnet = subnets.iter().find(|subnet| subnet.net.contains(&asked))?;
    if !is_wide(subnet) {
        return None;
    }
    if asked == subnet.net.network() {
        return Some(format!("the address of subnet {} itself", subnet.net));
    }
    (asked.is_ipv4() && asked == subnet.net.broadcast()).then(|| format!("broadcast address of {}", subnet.net))
}

/// The ranges of a network; a definition may have many.
fn pools(subnets: &[&Subnet]) -> String {
    const NAMED: usize = 4;
    let named = subnets.iter().take(NAMED).map(|subnet| format!("{}-{}", subnet.first, subnet.last));
    let mut named: Vec<String> = named.collect();
    if subnets.len() > NAMED {
        named.push(format!("{} others", subnets.len() - NAMED));
    }
    named.join(" or ")
}

/// P19. Addresses and MACs go into CNI_ARGS without the capability, which not everybody reads.
fn capabilities(element: &Element<'_>, definition: &Definition) -> Vec<Problem> {
    let NetworkSelection { ips, mac, port_mappings, bandwidth, infiniband_guid, .. } = element.selected;
    let plugins = definition.plugins();
    if plugins.is_empty() {
        return Vec::new();
    }
    let reads_ip = plugins.iter().any(|plugin| READ_ARGS.contains(&&*plugin.ipam));
    // What an IPAM program other than these does with CNI_ARGS is not known.
    let has_program = plugins.iter().any(|plugin| !["", "dhcp"].contains(&&*plugin.ipam));
    let reads_mac = plugins.iter().any(|plugin| READ_MAC.contains(&&*plugin.kind) || &*plugin.kind == "ipvlan");
    let asked = [
        ("ips", "ips", !ips.is_empty() && !reads_ip, !has_program),
        ("mac", "mac", mac.is_some() && !reads_mac, false),
        ("portMappings", "portMappings", !port_mappings.is_empty(), false),
        ("bandwidth", "bandwidth", bandwidth.is_some(), false),
        ("infiniband-guid", "infinibandGUID", infiniband_guid.is_some(), false),
    ];
    let undeclared = asked.into_iter().filter(|(_, capability, asked, _)| *asked && !definition.declares(capability));
    let problem = |(key, capability, _, is_denied)| {
        let text = format!("{} does not declare capability {}", definition.reference, quoted(capability));
        let severity = if is_denied { Severity::Deny } else { Severity::Warn };
        Problem { severity, ..forbidden(Rule::Undeclared, format!("{}.{key}", element.at), "", text) }
    };
    undeclared.map(problem).collect()
}

/// P31. Resources that another webhook injects are in the object already.
fn resources(elements: &[Element<'_>], object: &Value) -> Vec<Problem> {
    let spec = &object["spec"];
    let containers = ["containers", "initContainers"].into_iter().filter_map(|key| spec[key].as_array()).flatten();
    let requested: BTreeSet<&str> = containers
        .flat_map(|container| ["requests", "limits"].map(|kind| container["resources"][kind].as_object()))
        .flatten()
        .flat_map(|resources| resources.keys())
        .map(String::as_str)
        .collect();
    let mut said = BTreeSet::new();
    let problem = |element: &Element<'_>| {
        let definition = element.definition?;
        let resource = definition.resource.as_deref().filter(|resource| !requested.contains(resource))?;
        let text = format!("no container requests {} needed by {}", quoted(resource), definition.reference);
        said.insert(text.clone()).then(|| Problem::remark(Rule::NoResource, "spec.containers", text))
    };
    elements.iter().filter_map(problem).collect()
}

/// P27. Others believe what stands there. A backup that is restored brings it along: the mutating path takes it out.
pub(super) fn status_written(request: &Request<'_>, view: &View) -> Option<Problem> {
    let now = annotation(request.object, NETWORK_STATUS);
    let is_writer = view.options.status_writers.iter().any(|writer| writer == request.user);
    let before = request.old.and_then(|old| annotation(old, NETWORK_STATUS));
    if is_writer || now == before {
        return None;
    }
    let at = format!("metadata.annotations[{NETWORK_STATUS}]");
    let problem = forbidden(Rule::StatusWritten, at, "", "written by the node agent");
    Some(if request.operation == Operation::Create { warned(problem) } else { problem })
}

/// P28 and P29.
pub(super) fn change(request: &Request<'_>, old: &Value, view: &View) -> Vec<Problem> {
    let changed = |key: &&str| annotation(old, key) != annotation(request.object, key);
    let late = |key: &str| {
        let text = "changing networks of a running pod has no effect; recreate the pod";
        Problem::remark(Rule::LateChange, format!("metadata.annotations[{key}]"), text)
    };
    let Ok(namespace) = request.namespace.parse::<ObjectName>() else { return Vec::new() };
    // Hot-plug reads NPWG's annotation alone.
    let of_dialects = view.options.dialects.on().flat_map(|dialect| dialect.reads().iter().copied());
    let fixed = [DEFAULT_NETWORK].into_iter().chain(of_dialects);
    if !view.options.hot_plug {
        return std::iter::once(NETWORKS).chain(fixed).filter(changed).map(late).collect();
    }
    let mut problems: Vec<Problem> = fixed.filter(changed).map(late).collect();
    let (before, after) = (selection(&namespace, old, view), selection(&namespace, request.object, view));
    // Which interface an element without a name has, only the pod's node knows: it keeps the name that it was given first.
    let named = |selection: &Selection| -> Vec<(usize, IfName, NetworkSelection)> {
        let name = |(i, selected): (usize, &NetworkSelection)| {
            let name = selected.interface.clone()?;
            Some((i, name, NetworkSelection { interface: None, ..selected.clone() }))
        };
        selection.networks.iter().enumerate().filter_map(name).collect()
    };
    let before: HashMap<IfName, NetworkSelection> =
        named(&before).into_iter().map(|(_, name, selected)| (name, selected)).collect();
    for (i, name, now) in named(&after) {
        if before.get(&name).is_some_and(|was| *was != now) {
            let text = format!("interface {} is attached; remove it first, then add it back", quoted(&name));
            problems.push(forbidden(Rule::ChangeInPlace, in_networks(i), "", text));
        }
    }
    problems
}
