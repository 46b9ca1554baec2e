//! Addresses that are in use, or kept, as claims: nobody is given one of them anew.

use std::collections::BTreeMap;
use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::dialect::danm::Network;
use attachments::dialect::danm::reserved::ReservedIp;
use attachments::dialect::objects::{ForeignRef, Kind};
use attachments::names::{NetRef, ObjectName};
use delegates::networks::needs;
use serde_json::{Value, json};

use super::{Input, networks};
use crate::migrate::manifests::Migration;

/// The label of what belongs to a network.
const NETWORK: &str = "meta-cni.io/network";

/// The addresses of a pod's interface are claims that go with the pod. They are the network's as an object, and its definition's.
pub(super) fn endpoint(reference: &ForeignRef, object: &Value, input: &Input, migration: &mut Migration) {
    let spec = &object["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (interface, pod, uid) = (&spec["Interface"], text(&spec["Pod"]), text(&spec["PodUID"]));
    let kind = text(&spec["apiType"]);
    let kind =
        [Kind::TenantNetwork, Kind::ClusterNetwork].into_iter().find(|one| one.as_str().eq_ignore_ascii_case(&kind));
    let network = text(&spec["NetworkName"]).parse::<ObjectName>().ok();
    let network = reference.namespace.as_ref().zip(network);
    let network = network.map(|(namespace, name)| ForeignRef::within(namespace, kind.unwrap_or(Kind::DanmNet), name));
    let Some(network) = network else {
        return migration.left.push(format!("{reference}: spec.NetworkName is no name of a network"));
    };
    let addresses: Vec<IpAddr> = ["Address", "AddressIPv6"]
        .into_iter()
        .filter_map(|key| interface[key].as_str()?.split('/').next()?.parse().ok())
        .collect();
    if addresses.is_empty() {
        return migration.skipped.push(format!("{reference}: an interface of {pod} without an address"));
    }
    let (Some(name), Ok((_, config))) = (input.definitions.get(&network), networks::translated(&network, input)) else {
        return migration.left.push(format!("{reference}: its network {network} is not given, or cannot be read"));
    };
    let mut claims: BTreeMap<String, Value> = BTreeMap::new();
    for of in [network.as_definition(), name.clone()] {
        for address in &addresses {
            match slot(&config, &of, *address) {
                Some((id, slot, all)) => {
                    let claim = format!("{id}.a{slot}");
                    let holder = json!({"kind": "Pod", "namespace": reference.namespace(), "name": pod, "uid": uid});
                    // No node has a lease of it: one that is named here would let go of what none of its pods has.
                    let spec = json!({"network": id, "slot": slot, "addresses": all, "holder": holder, "nodes": []});
                    claims.insert(
                        claim.clone(),
                        json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AddressClaim",
                        "metadata": {"name": claim, "labels": {NETWORK: id}}, "spec": spec}),
                    );
                }
                None => {
                    let why = format!(
                        "{reference}: {address} of {pod} is outside of the addresses that {network} gives: nobody else gets it"
                    );
                    if !migration.skipped.contains(&why) {
                        migration.skipped.push(why);
                    }
                }
            }
        }
    }
    let note = format!("Apply before new pods come: {pod} has the address. It goes with the pod.");
    migration.objects.extend(claims.into_values().map(|claim| (vec![note.clone()], claim)));
}

/// The network of a definition's pool, the slot of an address, and all addresses of the slot.
fn slot(config: &str, of: &NetRef, address: IpAddr) -> Option<(String, u32, Vec<IpAddr>)> {
    let need = needs(config, of).into_iter().find(|need| need.pool.is_some())?;
    let pool = need.pool?;
    let slot = pool.slot_of(address)?;
    Some((need.id.to_string(), slot, pool.numbered(slot)))
}

/// Addresses that are kept for pods which name the object are an AddressSet.
pub(super) fn reserved(reference: &ForeignRef, object: &Value, input: &Input, migration: &mut Migration) {
    let read = Object::parse(object["spec"].to_string().as_bytes()).map_err(|e| e.to_string());
    let read = read.and_then(|spec| {
        ReservedIp::read(&spec).map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    });
    let reserved = match read {
        Ok(reserved) => reserved,
        Err(why) => return migration.left.push(format!("{reference}: {why}")),
    };
    if reserved.addresses.iter().any(|(_, is_shareable)| *is_shareable) {
        return migration.left.push(format!(
            "{reference}: a shareable address has several pods at once, and an AddressSet has none such"
        ));
    }
    let network = reference.namespace.as_ref().and_then(|namespace| reserved.network_of(namespace));
    let Some(definition) = network.as_ref().and_then(|network| input.definitions.get(network)) else {
        return migration.left.push(format!("{reference}: its network {} is not given", reserved.network));
    };
    let first = reserved.addresses.first().map(|(address, _)| *address);
    let read = network.as_ref().and_then(|network| Network::of(network, &input.objects).ok());
    if let Some(outside) = first.filter(|first| !read.is_some_and(|network| network.is_in_pool(*first))) {
        return migration.skipped.push(format!(
            "{reference}: {outside} is outside of the pool, of which an AddressSet is; pods that name it ask for the address"
        ));
    }
    let mut notes = vec![format!("From {reference}. Pods name it by meta-cni.io/address-set.")];
    if reserved.addresses.len() > 1 {
        notes.push(
            "An address brings that of the other family in its slot along, which may be another than before."
                .to_owned(),
        );
    }
    let set = json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AddressSet",
        "metadata": {"namespace": reference.namespace(), "name": reference.name.as_str()},
        "spec": {"network": definition.to_string(), "addresses": [first]}});
    migration.objects.push((notes, set));
}
