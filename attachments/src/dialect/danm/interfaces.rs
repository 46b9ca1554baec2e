//! The annotation: a list of interfaces, each of one network.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::{Deserializer, Value};

use super::{INTERFACES, NETWORKS};
use crate::cni::object::Object;
use crate::cni::spelling::Known;
use crate::dialect::FIRST;
use crate::dialect::objects::{ForeignRef, Kind};
use crate::finding::Finding;
use crate::names::ObjectName;
use crate::selection::{AddressMode, AddressRequest, NetworkSelection, RequestedRoute, SelectionTarget, address};

/// The keys of an element. Go's decoder, and so DANM, takes them in any case.
static ELEMENT: Known<'static> = Known::of(&[&KEYS]);
const KEYS: [&str; 7] = ["network", "tenantNetwork", "clusterNetwork", "ip", "ip6", "proutes", "proutes6"];

/// The annotation of a pod: the text of the one that it has. Both are the same list, or refused.
pub fn annotation<'a>(
    annotation: impl Fn(&str) -> Option<&'a str>,
) -> Result<Option<(&'static str, &'a str)>, Finding> {
    let [older, newer] = INTERFACES;
    match (annotation(older), annotation(newer)) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some((older, text))),
        (None, Some(text)) => Ok(Some((newer, text))),
        (Some(one), Some(other)) if is_same(one, other) => Ok(Some((newer, other))),
        (Some(_), Some(other)) => {
            Err(Finding::new(newer, other, format!("the list of {older}, or one of the two alone")))
        }
    }
}

fn is_same(one: &str, other: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    one.trim() == other.trim() || read(one).is_some_and(|one| Some(one) == read(other))
}

/// Reads a list. None for one that is empty: it is as if there were no annotation.
pub fn read(text: &str, namespace: &ObjectName) -> Result<Option<Vec<NetworkSelection>>, Finding> {
    const LIST: &str = "a JSON list of interfaces";
    // What is behind the list counts for nothing, as in Go.
    let list = match Deserializer::from_str(text).into_iter::<Option<Vec<Object>>>().next() {
        Some(Ok(list)) => list.unwrap_or_default(),
        Some(Err(e)) => return Err(Finding::new("", format_args!("{text:?} ({e})"), LIST)),
        None => return Err(Finding::new("", "no text", LIST)),
    };
    let each = |(i, object): (usize, &Object)| element(object, i, namespace).map_err(|e| e.under(&format!("[{i}]")));
    let elements: Vec<NetworkSelection> = list.iter().enumerate().map(each).collect::<Result<_, _>>()?;
    Ok(Some(elements).filter(|elements| !elements.is_empty()))
}

fn element(object: &Object, place: usize, namespace: &ObjectName) -> Result<NetworkSelection, Finding> {
    let object = ELEMENT.read(object)?;
    if let Some((key, value)) = object.iter().find(|(key, _)| !KEYS.contains(key)) {
        let allowed = format!("no other key than {}", KEYS.join(", "));
        return Err(Finding::new(key, value.get(), allowed));
    }
    let network = network(&object, namespace)?;
    let words = [word(&object, "ip", true)?, word(&object, "ip6", false)?];
    let mode = |word: &Option<Word>| {
        word.as_ref().map(|word| match word {
            Word::Mode(mode) => *mode,
            Word::Address(_) | Word::Reserved(_) => AddressMode::Static,
        })
    };
    let addresses = AddressRequest { ipv4: mode(&words[0]), ipv6: mode(&words[1]) };
    if place == 0 && addresses.is_none() {
        let allowed = format!("an address of one family: this interface is {FIRST}, and a pod needs one there");
        return Err(Finding::new("ip", "\"none\" beside ip6 \"none\"", allowed));
    }
    let told = |word: &Option<Word>| if let Some(Word::Address(text)) = word { Some(text.clone()) } else { None };
    let reserved = |word: &Option<Word>| match word {
        Some(Word::Reserved(name)) => Some(ForeignRef::within(namespace, Kind::ReservedIP, name.clone())),
        _ => None,
    };
    let mut own_routes = routes(&object, "proutes", true)?;
    own_routes.extend(routes(&object, "proutes6", false)?);
    Ok(NetworkSelection {
        interface: if place == 0 { Some(FIRST.parse()?) } else { None },
        addresses: Some(addresses),
        ips: words.iter().filter_map(told).collect(),
        reserved: words.each_ref().map(reserved),
        own_routes,
        ..NetworkSelection::new(SelectionTarget::Foreign(network))
    })
}

/// The network that an element names: one, by one of three keys.
fn network(object: &Object, namespace: &ObjectName) -> Result<ForeignRef, Finding> {
    let keys =
        [("network", Kind::DanmNet), ("tenantNetwork", Kind::TenantNetwork), ("clusterNetwork", Kind::ClusterNetwork)];
    let mut named = Vec::new();
    for (key, kind) in keys {
        if let Some(name) = object.parsed::<ObjectName>(key, ObjectName::ALLOWED)? {
            named.push((key, ForeignRef::within(namespace, kind, name)));
        }
    }
    let allowed = "exactly one of network, tenantNetwork and clusterNetwork";
    match <[_; 1]>::try_from(named) {
        Ok([(_, network)]) => Ok(network),
        Err(named) if named.is_empty() => Err(Finding::missing("", allowed)),
        Err(named) => {
            let keys: Vec<&str> = named.iter().map(|(key, _)| *key).collect();
            Err(Finding::new("", keys.join(" and "), allowed))
        }
    }
}

enum Word {
    Mode(AddressMode),
    Address(String),
    Reserved(ObjectName),
}

/// `ip` and `ip6`. The length of an address' prefix is the network's, whatever is written.
fn word(object: &Object, key: &str, ipv4: bool) -> Result<Option<Word>, Finding> {
    let Some(text) = object.text(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.as_str() {
        "none" => return Ok(Some(Word::Mode(AddressMode::None))),
        "dynamic" => return Ok(Some(Word::Mode(AddressMode::Dynamic))),
        _ => {}
    }
    let found = address(&text);
    if let Some(ip) = found.filter(|ip| ip.is_ipv4() == ipv4) {
        return Ok(Some(Word::Address(ip.to_string())));
    }
    // An address that is mistyped is no name.
    let is_numbers = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match text.parse::<ObjectName>().ok().filter(|_| found.is_none() && !is_numbers) {
        Some(name) => Ok(Some(Word::Reserved(name))),
        None => {
            let family = if ipv4 { "IPv4" } else { "IPv6" };
            let allowed = format!("\"dynamic\", \"none\", an {family} address or the name of a ReservedIP");
            Err(Finding::new(key, format_args!("{text:?}"), allowed))
        }
    }
}

/// `proutes` and `proutes6`: gateways by destination.
fn routes(object: &Object, key: &str, ipv4: bool) -> Result<Vec<RequestedRoute>, Finding> {
    let listed: BTreeMap<String, String> =
        object.decode(key, "an object: gateways by destination")?.unwrap_or_default();
    super::routes(&listed, ipv4).map_err(|finding| finding.under(key))
}

/// The networks that a pod without a list may get: the first that there is.
pub fn defaults(namespace: &ObjectName) -> Result<Vec<ForeignRef>, Finding> {
    let name: ObjectName = "default".parse()?;
    Ok(NETWORKS.map(|kind| ForeignRef::within(namespace, kind, name.clone())).to_vec())
}

/// The element of a pod that gets its namespace's default network: an address of IPv4.
pub fn default_element(network: ForeignRef) -> Result<NetworkSelection, Finding> {
    let addresses = AddressRequest { ipv4: Some(AddressMode::Dynamic), ipv6: None };
    let target = SelectionTarget::Foreign(network);
    Ok(NetworkSelection {
        interface: Some(FIRST.parse()?),
        addresses: Some(addresses),
        ..NetworkSelection::new(target)
    })
}

/// The whole of a family, as the destination of a default route.
pub(super) fn is_of(net: &IpNet, ipv4: bool) -> bool {
    net.addr().is_ipv4() == ipv4
}
