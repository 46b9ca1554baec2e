//! Pods and what makes them: NPWG's annotations in the place of DANM's.

use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::dialect::Dialects;
use attachments::dialect::danm::network::{Network, Type};
use attachments::dialect::danm::reserved::ReservedIp;
use attachments::dialect::danm::{Danm, INTERFACES};
use attachments::names::{IfName, ObjectName};
use attachments::selection::{AddressMode, DEFAULT_NETWORK, NETWORKS, NetworkSelection, Selection, SelectionTarget};
use serde_json::{Map, Value, json};

use super::{Input, networks};
use crate::lint::TEMPLATES;
use crate::migrate::default_route;
use crate::migrate::manifests::{Migration, called};

/// Does a Service have endpoints of DANM's svcwatcher?
pub(super) fn selector(object: &Value) -> bool {
    let annotations = object["metadata"]["annotations"].as_object().into_iter().flatten();
    annotations.into_iter().any(|(key, _)| ["danm.k8s.io/", "danm.io/"].iter().any(|group| key.starts_with(group)))
}

/// An object of whatever kind, with the annotations of its pods moved.
pub(super) fn rewrite(mut object: Value, input: &Input, migration: &mut Migration) {
    let kind = object["kind"].as_str().unwrap_or_default();
    let at = match TEMPLATES.iter().find(|(known, _)| *known == kind) {
        Some((_, at)) => *at,
        None if kind == "Pod" => "",
        None => return migration.objects.push((Vec::new(), object)),
    };
    let name = called(&object);
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    let annotations = object.pointer_mut(&format!("{at}/metadata/annotations")).and_then(Value::as_object_mut);
    let mut notes = Vec::new();
    match annotations.map(|annotations| moved(annotations, &namespace, input)) {
        Some(Ok(said)) => notes = said,
        Some(Err(why)) => migration.left.push(format!("{name}: {why}")),
        None => {}
    }
    migration.objects.push((notes, object));
}

/// Puts NPWG's annotations in the place of DANM's. Why a pod stays as it is, is the error.
fn moved(annotations: &mut Map<String, Value>, namespace: &str, input: &Input) -> Result<Vec<String>, String> {
    if !INTERFACES.iter().any(|key| annotations.contains_key(*key)) {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    if annotations.contains_key(NETWORKS) || annotations.contains_key(DEFAULT_NETWORK) {
        notes.push(format!("The annotation of DANM counted for nothing beside {NETWORKS} and is gone."));
    } else {
        let selection = selected(annotations, namespace, input)?;
        notes.extend(selection.unmet.iter().cloned());
        let mut default_network = selection.default_network.clone();
        if let Some(first) = default_network.iter_mut().find(|_| !selection.networks.is_empty())
            && may_give_default_route(first, input)
        {
            first.default_route = Some(Vec::new());
        }
        let default = default_network.iter().map(|element| asked(element, input)).collect::<Result<Vec<_>, _>>()?;
        let networks = selection.networks.iter().map(|element| asked(element, input)).collect::<Result<Vec<_>, _>>()?;
        let default = default.into_iter().map(|(mut element, is_named_alone)| {
            if let Some(element) = element.as_object_mut() {
                element.remove("interface");
            }
            let named = || {
                format!(
                    "{}/{}",
                    element["namespace"].as_str().unwrap_or_default(),
                    element["name"].as_str().unwrap_or_default()
                )
            };
            if is_named_alone { named() } else { json!([element]).to_string() }
        });
        annotations.extend(default.map(|text| (DEFAULT_NETWORK.to_owned(), json!(text))));
        if !networks.is_empty() {
            let networks: Vec<Value> = networks.into_iter().map(|(element, _)| element).collect();
            annotations.insert(NETWORKS.to_owned(), json!(Value::Array(networks).to_string()));
        }
    }
    INTERFACES.iter().for_each(|key| _ = annotations.remove(*key));
    Ok(notes)
}

/// What the list means, by the reader of an ADD.
fn selected(annotations: &Map<String, Value>, namespace: &str, input: &Input) -> Result<Selection, String> {
    let namespace: ObjectName =
        namespace.parse().map_err(|e: attachments::finding::Finding| e.under("namespace").to_string())?;
    let danm = Danm::default();
    let dialects = Dialects { danm: Some(danm.clone()), ..Dialects::default() };
    let annotation = |key: &str| annotations.get(key).and_then(Value::as_str);
    let selection = Selection::from_annotations(annotation, &namespace, &namespace, &dialects);
    let selection = selection.map_err(|finding| finding.to_string())?;
    danm.settle(&selection, &input.objects, &namespace, false).map_err(|error| error.to_string())
}

/// An element in NPWG's words, and whether it says nothing but a name.
fn asked(element: &NetworkSelection, input: &Input) -> Result<(Value, bool), String> {
    let Some(reference) = element.target.foreign() else { return Err("an element that names no network".to_owned()) };
    let name = input.definitions.get(reference).ok_or_else(|| format!("{reference} is not given"))?;
    let network = Network::of(reference, &input.objects).map_err(|_| format!("{reference} cannot be read"))?;
    let mut moved = element.clone();
    moved.target = SelectionTarget::Definition(name.clone());
    moved.ips = element.ips.iter().map(|ip| with_prefix(ip, &network)).collect();
    if let Some(set) = set(element, &network, input)? {
        (moved.address_set, moved.ips, moved.addresses) = (Some(set), Vec::new(), None);
    }
    // What the definition gives by itself need not be asked for. Without IPv6 it leaves IPv6 on, for what routers announce.
    let is_own =
        matches!(network.kind, Type::File(..)) && [true, false].iter().all(|ipv4| network.subnet(*ipv4).is_none());
    let is_usual = moved.addresses.is_none_or(|request| {
        [true, false].into_iter().all(|ipv4| match (network.subnet(ipv4), request.of(ipv4)) {
            (Some(_), mode) => matches!(mode, None | Some(AddressMode::Dynamic)),
            (None, Some(AddressMode::None)) => ipv4 || is_own,
            (None, mode) => mode.is_none(),
        })
    });
    if is_usual {
        moved.addresses = None;
    }
    let asks = moved.address_set.is_some() || !moved.ips.is_empty() || moved.default_route.is_some();
    let is_named_alone = is_usual && !asks && moved.routes.is_empty() && moved.rules.is_empty();
    let mut value: Value = serde_json::from_str(&moved.to_object().to_json()).map_err(|e| e.to_string())?;
    if let Some(interface) = element.interface.as_ref().map(IfName::as_str) {
        value["interface"] = json!(interface);
    }
    Ok((value, is_named_alone))
}

/// The AddressSet that is there for a ReservedIP of the list, for addresses of the pool. Other addresses are asked for as they are.
fn set(element: &NetworkSelection, network: &Network, input: &Input) -> Result<Option<ObjectName>, String> {
    let Some(named) = element.reserved.iter().flatten().next() else { return Ok(None) };
    let cannot = |why: &str| Err(format!("it names {named}: {why}"));
    if !element.shared.is_empty() {
        return cannot("its address is shareable, and one of an AddressSet has one pod at a time");
    }
    let ips: Vec<IpAddr> = element.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    if !ips.iter().all(|ip| network.is_in_pool(*ip)) {
        return Ok(None);
    }
    let first = input.objects.get(named).and_then(|spec| Object::parse(spec.as_bytes()).ok());
    let first = first.and_then(|spec| ReservedIp::read(&spec).ok()?.addresses.first().map(|(address, _)| *address));
    if ips.len() > 1 || ips.first() != first.as_ref() {
        return cannot("an AddressSet has its first address alone, with that of the other family in the same slot");
    }
    let lacks = |ipv4: bool| matches!(element.addresses.and_then(|one| one.of(ipv4)), None | Some(AddressMode::None));
    if [true, false].into_iter().any(|ipv4| network.subnet(ipv4).is_some() && lacks(ipv4)) {
        return cannot("an AddressSet gives the addresses of both families");
    }
    Ok(Some(named.name.clone()))
}

/// A network with a file has the file's routes, and other elements may have some as well. Of the list's own routes each is in its element.
fn may_give_default_route(element: &NetworkSelection, input: &Input) -> bool {
    let Some(reference) = element.target.foreign() else { return false };
    let translated = networks::translated(reference, input);
    translated.is_ok_and(|(network, conf)| matches!(network.kind, Type::File(..)) && default_route::may_be_given(&conf))
}

fn with_prefix(ip: &str, network: &Network) -> String {
    let length = || {
        let ip = ip.parse::<IpAddr>().ok()?;
        Some(network.subnet(ip.is_ipv4())?.net.prefix_len())
    };
    match length() {
        Some(length) => format!("{ip}/{length}"),
        None => ip.to_owned(),
    }
}
