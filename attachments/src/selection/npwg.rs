//! The two grammars of the annotations (NPWG 1.3, section 4.1): references joined by commas, and a JSON list.

use std::str::FromStr;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::addresses::{ADDRESSES, FAMILIES};
use super::element::{ADDRESS_SET, NetworkSelection, SelectionTarget, default_route_twice};
use super::routing::{AskedTwice, ROUTE, ROUTES, RULE, RULES};
use super::values::{BANDWIDTH, PORT_MAPPING};
use super::{DEFAULT_NETWORK, LONGEST};
use crate::cni::object::Object;
use crate::cni::spelling::{Known, Slip};
use crate::finding::{Allowed, Finding};
use crate::names::{IfName, NetRef, ObjectName};
use crate::rule::Rule;

/// The keys of an element.
pub const ELEMENT_KEYS: [&str; 17] = [
    "name",
    "namespace",
    "interface",
    "interfaceRequest",
    "ips",
    "mac",
    "infiniband-guid",
    "portMappings",
    "bandwidth",
    "cni-args",
    "default-route",
    "ipam-claim-reference",
    "deviceID",
    ROUTES,
    RULES,
    ADDRESSES,
    ADDRESS_SET,
];

static ELEMENT: Known<'static> = Known { keys: &[&ELEMENT_KEYS], inside: &INSIDE, only: true };

const INSIDE: [(&str, &Known<'static>); 5] = [
    ("portMappings", &PORT_MAPPING),
    ("bandwidth", &BANDWIDTH),
    (ROUTES, &ROUTE),
    (RULES, &RULE),
    (ADDRESSES, &FAMILIES),
];

/// Reads [`NETWORKS`](super::NETWORKS), or another annotation of the same grammar; `annotation` is its name in findings. A
/// reference without a namespace means the pod's (R12). No text, no networks; unknown keys are ignored (A27).
pub fn parse(annotation: &str, text: &str, pod_namespace: &ObjectName) -> Result<Vec<NetworkSelection>, Finding> {
    let selected = match text {
        "" => Ok(Vec::new()),
        _ if text.len() > LONGEST => {
            let allowed = format!("at most {LONGEST} bytes");
            Err(Finding::new("", format_args!("{} bytes", text.len()), allowed).by(Rule::AnnotationSize))
        }
        _ if is_json(text) => parse_json(text, pod_namespace),
        _ => parse_references(text, pod_namespace),
    };
    selected.and_then(one_default_route_a_family).and_then(no_route_twice).map_err(|e| e.under(annotation))
}

/// Has an annotation the JSON form? No reference has any of these characters.
pub fn is_json(text: &str) -> bool {
    text.contains(['[', '{', '"'])
}

/// Reads [`DEFAULT_NETWORK`], which names exactly one network, by default in `multus_namespace` (A35).
pub fn parse_default(text: &str, multus_namespace: &ObjectName) -> Result<NetworkSelection, Finding> {
    match <[NetworkSelection; 1]>::try_from(parse(DEFAULT_NETWORK, text, multus_namespace)?) {
        Ok([selected]) => Ok(selected),
        Err(_) => {
            let rule = if is_json(text) { Rule::ElementShape } else { Rule::ShortForm };
            Err(Finding::new(DEFAULT_NETWORK, format_args!("{text:?}"), "exactly one network").by(rule))
        }
    }
}

/// `[namespace/]name[@interface]`, joined by commas, white space around every part.
fn parse_references(text: &str, namespace: &ObjectName) -> Result<Vec<NetworkSelection>, Finding> {
    let each = |(i, item): (usize, &str)| parse_reference(item, namespace).map_err(|e| e.under(&format!("[{i}]")));
    text.split(',').enumerate().map(each).collect()
}

fn parse_reference(item: &str, pod_namespace: &ObjectName) -> Result<NetworkSelection, Finding> {
    const SHAPE: &str = "a reference of the form [namespace/]name[@interface]";
    let (reference, interface) = item.split_once('@').unwrap_or((item, ""));
    let (namespace, name) = reference.split_once('/').unwrap_or(("", reference));
    let nameless_interface = item.contains('@') && interface.trim().is_empty();
    if name.trim().is_empty() || name.contains('/') || interface.contains('@') || nameless_interface {
        return Err(Finding::new("", format_args!("{:?}", item.trim()), SHAPE).by(Rule::ShortForm));
    }
    let network = NetRef {
        namespace: checked("namespace", namespace).map_err(of_name)?.unwrap_or_else(|| pod_namespace.clone()),
        name: checked("name", name)
            .and_then(|name| name.ok_or_else(|| Finding::missing("name", SHAPE)))
            .map_err(of_name)?,
    };
    Ok(NetworkSelection {
        interface: checked("interface", interface).map_err(of_interface)?,
        ..NetworkSelection::new(SelectionTarget::Definition(network))
    })
}

pub(super) fn of_name(finding: Finding) -> Finding {
    finding.by(Rule::SelectionName)
}

/// What most often is wrong with the name of an interface is told by itself.
pub(super) fn of_interface(finding: Finding) -> Finding {
    const MOST: usize = 15;
    if finding.value.trim_matches('"').chars().count() <= MOST {
        return finding.by(Rule::InterfaceName);
    }
    let allowed = Allowed::told(IfName::ALLOWED, "must be at most 15 characters");
    Finding { allowed: Box::new(allowed), ..finding }.by(Rule::InterfaceLength)
}

/// One part of a reference; an empty one is absent.
fn checked<T: FromStr<Err = Finding>>(key: &str, text: &str) -> Result<Option<T>, Finding> {
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|e: Finding| e.under(key)),
    }
}

fn parse_json(text: &str, namespace: &ObjectName) -> Result<Vec<NetworkSelection>, Finding> {
    const SHAPE: &str = "a JSON list of objects, or references joined by ','";
    if let Err(e) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(Finding::new("", format_args!("invalid JSON ({e})"), SHAPE).by(Rule::AnnotationJson));
    }
    let elements: Vec<Box<RawValue>> =
        serde_json::from_str(text).map_err(|_| Finding::new("", text, SHAPE).by(Rule::ElementShape))?;
    let each = |(i, element): (usize, Box<RawValue>)| {
        serde_json::from_str(element.get())
            .map_err(|_| Finding::new("", element.get(), Allowed::OBJECT).by(Rule::ElementShape))
            .and_then(|object| NetworkSelection::decode(&*ELEMENT.read(&object)?, namespace))
            .map_err(|e| e.under(&format!("[{i}]")))
    };
    elements.into_iter().enumerate().map(each).collect()
}

/// The keys of an annotation in another spelling than ours. A text that [`parse`] refuses has none.
pub fn slips(annotation: &str, text: &str) -> Vec<Slip> {
    let mut slips = Vec::new();
    let elements: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap_or_default();
    for (i, element) in elements.iter().enumerate() {
        if let Ok(object) = serde_json::from_str(element.get()) {
            ELEMENT.respell(&object, &mut |slip| slips.push(slip.under(&format!("[{i}]")).under(annotation)));
        }
    }
    slips
}

/// The keys of an annotation that nobody reads, each with the index of its element. A text that [`parse`] refuses has none.
pub fn unread_keys(text: &str) -> Vec<(usize, String)> {
    let elements: Vec<Object> = serde_json::from_str(text).unwrap_or_default();
    let of = |(i, element): (usize, &Object)| {
        let unread = element.iter().filter(|(key, _)| ELEMENT.meant(key).is_none());
        unread.map(|(key, _)| (i, key.to_owned())).collect::<Vec<_>>()
    };
    elements.iter().enumerate().flat_map(of).collect()
}

/// R21. Two elements that take the default route of one family contradict each other.
fn one_default_route_a_family(selected: Vec<NetworkSelection>) -> Result<Vec<NetworkSelection>, Finding> {
    match default_route_twice(selected.iter().map(Some)) {
        None => Ok(selected),
        Some((first, second, family)) => Err(Finding::new(
            format!("[{second}].{}", selected[second].default_route_key()),
            format_args!("{:?}", selected[second].default_gateways().unwrap_or_default()),
            format!("a family that no other element takes: [{first}] takes the {family} default route"),
        )
        .by(Rule::DefaultRoute)),
    }
}

/// Two elements that lead packets to one destination contradict each other.
fn no_route_twice(selected: Vec<NetworkSelection>) -> Result<Vec<NetworkSelection>, Finding> {
    match AskedTwice::find(selected.iter().map(Some)) {
        None => Ok(selected),
        Some(twice) => Err(twice.finding(|i| format!("[{i}]"))),
    }
}
