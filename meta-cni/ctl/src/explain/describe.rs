//! One network of a pod in the words that people ask for. Pure.

use std::borrow::Cow;
use std::net::IpAddr;

use attachments::bind::{Attachment, Source};
use attachments::cni::object::Object;
use delegates::ipam::blocks;
use meta_cni::engine::explain::ExplainedNetwork;
use serde::Serialize;
use serde_json::Value;

/// Capabilities that the runtime offers and no pod asks for.
const OF_RUNTIME: [&str; 2] = ["CNIDeviceInfoFile", "io.kubernetes.cri.pod-annotations"];

/// What a pod would get of one network.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// The interface in the pod.
    pub interface: String,
    /// Its name in `network-status`.
    pub network: String,
    /// Where its configuration comes from.
    pub from: Cow<'static, str>,
    /// The part of the annotation that asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// The chain.
    pub plugins: Vec<Plugin>,
    /// Who gives addresses, and which.
    pub addresses: Addresses,
    /// The MAC address that is asked for, or how it comes about.
    pub mac: String,
    /// Its MTU, where the configuration says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u64>,
    /// The families of the pod's default routes that go through it.
    pub default_routes: Vec<&'static str>,
    /// Further routes through it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Rules that send packets to a table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// What the pod asks for by capability.
    pub capabilities: Vec<Capability>,
}

/// A plugin of the chain.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// It runs in process; otherwise a program is executed.
    pub built_in: bool,
}

/// Where addresses come from.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Addresses {
    /// `ipam.type`; empty where there is none.
    pub ipam: String,
    /// Subnets, ranges or addresses.
    pub of: Vec<String>,
    /// What the pod asks for itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requested: Vec<String>,
    /// IPv6 is switched off on the link.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_ipv6: bool,
    /// The AddressSet of which it has a member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// The IPAMClaim whose addresses it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Addresses of the pool that nobody has, as far as the nodes have told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
}

/// A capability that is asked for.
#[derive(Debug, PartialEq, Serialize)]
pub struct Capability {
    /// Its name.
    pub name: String,
    /// A plugin declares it, so that it is given.
    pub given: bool,
}

/// Describes every network. `is_unknown` stands for a node whose default network is not known.
pub fn describe(networks: &[ExplainedNetwork], is_unknown: bool, free: impl Fn(&str) -> Option<u64>) -> Vec<Described> {
    let attachments: Vec<&Attachment> = networks.iter().map(|network| &network.attachment).collect();
    let owners = default_owners(&attachments);
    let each = |(i, network): (usize, &ExplainedNetwork)| {
        let ExplainedNetwork { attachment, element, in_process } = network;
        let plugins = attachment.plugins.iter().zip(in_process);
        let from = match (&attachment.source, element, &attachment.translated) {
            _ if is_unknown && i == 0 && element.is_none() => {
                Cow::from("the node's own default network, which is not known here")
            }
            (_, _, Some(translated)) => Cow::from(format!("{} (dialect {})", translated.from, translated.dialect)),
            (Source::Object(reference), _, None) => Cow::from(reference.to_string()),
            (Source::Definition(_), _, None) => Cow::from("definition"),
            (Source::Node(_), None, None) => Cow::from("the node's configuration"),
            (Source::Node(_), Some(_), None) => Cow::from("a file of the node"),
        };
        let mut addresses = addresses(attachment);
        if addresses.ipam == "blocks" {
            addresses.free = free(&attachment.source.to_string());
        }
        let key = |key: &str| attachment.plugins.iter().find_map(|plugin| value(&plugin.object, key));
        Described {
            interface: attachment.ifname.to_string(),
            network: attachment.source.to_string(),
            from,
            requested_by: element.clone(),
            plugins: plugins
                .map(|(plugin, in_process)| Plugin { kind: plugin.kind.to_string(), built_in: *in_process })
                .collect(),
            mac: mac(attachment, key("mac").as_ref(), &addresses),
            addresses,
            mtu: key("mtu").and_then(|mtu| mtu.as_u64()).filter(|mtu| *mtu != 0),
            default_routes: [("IPv4", owners.0), ("IPv6", owners.1)]
                .into_iter()
                .filter(|(_, owner)| *owner == i)
                .map(|(family, _)| family)
                .collect(),
            routes: attachment.routes.iter().filter(|route| !route.is_default()).map(ToString::to_string).collect(),
            rules: attachment.rules.iter().map(ToString::to_string).collect(),
            capabilities: capabilities(attachment),
        }
    };
    let mut described: Vec<Described> = networks.iter().enumerate().map(each).collect();
    // Of a stand-in nothing is known but its place.
    if let Some(first) = described.first_mut().filter(|first| is_unknown && first.requested_by.is_none()) {
        first.plugins.clear();
        first.mac.clear();
        first.addresses.ipam = "unknown".to_owned();
    }
    described
}

/// Who has the default routes, IPv4 and IPv6: the last that asks, otherwise the default network.
fn default_owners(attachments: &[&Attachment]) -> (usize, usize) {
    let owner = |ipv4: bool| {
        let asks = |one: &&Attachment| {
            one.default_route
                .as_ref()
                .is_some_and(|by| by.is_empty() || by.iter().any(|gateway: &IpAddr| gateway.is_ipv4() == ipv4))
        };
        attachments.iter().rposition(asks).unwrap_or(0)
    };
    (owner(true), owner(false))
}

fn value(object: &Object, key: &str) -> Option<Value> {
    serde_json::from_str(object.get(key)?.get()).ok()
}

fn addresses(attachment: &Attachment) -> Addresses {
    let mut found = Addresses::default();
    let with_ipam = attachment.plugins.iter().find(|plugin| plugin.object.get("ipam").is_some());
    if let Some(plugin) = with_ipam {
        let ipam = value(&plugin.object, "ipam").unwrap_or_default();
        found.ipam = ipam["type"].as_str().unwrap_or_default().to_owned();
        found.of = match found.ipam.as_str() {
            "blocks" => match blocks::pool_of(&plugin.object) {
                Ok(Some(pool)) => pool.subnets().map(|subnet| subnet.to_string()).collect(),
                _ => texts(&ipam),
            },
            "dhcp" => vec!["whatever a server on the network gives".to_owned()],
            "static" => {
                ipam["addresses"].as_array().into_iter().flatten().filter_map(|one| text(&one["address"])).collect()
            }
            _ => texts(&ipam),
        };
    } else if attachment.plugins.first().is_some_and(|plugin| plugin.kind.as_str() == "flannel") {
        found.ipam = "host-local".to_owned();
        found.of = vec!["the node's subnet of flannel".to_owned()];
    }
    let ips = value(&attachment.runtime_config, "ips");
    found.requested = ips.iter().flat_map(|ips| ips.as_array()).flatten().filter_map(text).collect();
    found.requested.extend(attachment.unverified.ips.iter().map(IpAddr::to_string));
    found.without_ipv6 = attachment.without_ipv6;
    found.set = attachment.address_set.as_ref().map(ToString::to_string);
    found.claim = attachment.ipam_claim.as_ref().map(ToString::to_string);
    found
}

/// Every subnet, range and range of ranges that an `ipam` section names.
fn texts(ipam: &Value) -> Vec<String> {
    let one = |range: &Value| {
        let subnet = text(&range["subnet"]).or_else(|| text(&range["range"]))?;
        let ends = [
            text(&range["rangeStart"]).or_else(|| text(&range["range_start"])),
            text(&range["rangeEnd"]).or_else(|| text(&range["range_end"])),
        ];
        match ends {
            [None, None] => Some(subnet),
            [first, last] => Some(format!("{subnet} ({}-{})", first.unwrap_or_default(), last.unwrap_or_default())),
        }
    };
    let sets = ipam["ranges"].as_array().into_iter().flatten();
    let ranges = sets.flat_map(|set| set.as_array().into_iter().flatten());
    std::iter::once(ipam).chain(ranges).filter_map(one).collect()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn mac(attachment: &Attachment, configured: Option<&Value>, addresses: &Addresses) -> String {
    let asked = value(&attachment.runtime_config, "mac").and_then(|mac| text(&mac));
    let hoped = attachment.unverified.mac.map(|mac| mac.to_string());
    let kind = attachment.plugins.first().map(|plugin| plugin.kind.as_str()).unwrap_or_default();
    asked.or(hoped).or_else(|| configured.and_then(text)).unwrap_or_else(|| {
        match (kind, addresses.ipam.as_str()) {
            ("ipvlan" | "passthru", _) | ("host-device", _) => "that of the parent or device",
            ("bond", _) => "that of its first link",
            (_, "blocks") => "derived from the address",
            _ => "the kernel's choice",
        }
        .to_owned()
    })
}

fn capabilities(attachment: &Attachment) -> Vec<Capability> {
    let asked = attachment.runtime_config.iter().map(|(name, _)| name).filter(|name| !OF_RUNTIME.contains(name));
    let unverified = &attachment.unverified;
    let hoped = [("ips", !unverified.ips.is_empty()), ("mac", unverified.mac.is_some())];
    let mut names: Vec<&str> = asked.chain(hoped.into_iter().filter(|(_, is)| *is).map(|(name, _)| name)).collect();
    names.dedup();
    let is_given = |name: &str| attachment.plugins.iter().any(|plugin| plugin.declares(name));
    names.into_iter().map(|name| Capability { name: name.to_owned(), given: is_given(name) }).collect()
}
