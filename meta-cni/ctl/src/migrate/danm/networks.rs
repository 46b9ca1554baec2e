//! Networks as definitions.

use std::collections::{BTreeMap, BTreeSet};

use attachments::cni::conf::NetworkConf;
use attachments::definition::RESOURCE_NAME;
use attachments::dialect::danm::network::{Network, Type, configuration};
use attachments::dialect::objects::{ForeignRef, Kind, NoConfiguration, Objects};
use attachments::names::{NetRef, ObjectName};
use attachments::selection::{AddressMode, AddressRequest};
use serde_json::{Value, json};

use super::Input;
use super::tenants;
use crate::migrate::manifests::{Migration, config, definition};

/// The definition that each network becomes: it keeps its name, unless another of its namespace has that.
pub(super) fn names(objects: &Objects, shared: &ObjectName) -> BTreeMap<ForeignRef, NetRef> {
    let mut taken: BTreeSet<NetRef> = BTreeSet::new();
    let mut names = BTreeMap::new();
    for kind in [Kind::DanmNet, Kind::TenantNetwork, Kind::ClusterNetwork] {
        for reference in objects.keys().filter(|reference| reference.kind == kind) {
            let namespace = reference.namespace.clone().unwrap_or_else(|| shared.clone());
            let own = NetRef { namespace, name: reference.name.clone() };
            let name = match taken.contains(&own) {
                false => own,
                true => {
                    let word = if kind == Kind::TenantNetwork { "tenant" } else { "cluster" };
                    let Ok(name) = format!("{}-{word}", own.name).parse() else { continue };
                    NetRef { name, ..own }
                }
            };
            taken.insert(name.clone());
            names.insert(reference.clone(), name);
        }
    }
    names
}

/// A network is a definition, and a policy where it is for some tenants only.
pub(super) fn network(reference: &ForeignRef, input: &Input, migration: &mut Migration) {
    let Some(name) = input.definitions.get(reference) else {
        return migration
            .left
            .push(format!("{reference}: its name and what tells it apart are no name of a definition"));
    };
    let (network, conf) = match translated(reference, input) {
        Ok(translated) => translated,
        Err(why) => return migration.left.push(format!("{reference}: {why}")),
    };
    let mut notes = vec![format!("From {reference}.")];
    if name.name != reference.name {
        notes.push(format!("Another network of namespace {} has the name {}.", name.namespace, reference.name));
    }
    if network.kind == Type::Ipvlan && network.mtu.is_none() && network.vxlan.is_none() {
        notes.push("Its MTU is its link's, as it was with DANM 4.3; DANM 4.4 had 1500: set mtu for that.".to_owned());
    }
    if matches!(network.kind, Type::File(..)) && network.gives(DYNAMIC) {
        notes.push("Pods that asked for no address here had the file's own ipam.".to_owned());
    }
    if reference.name.as_str() == "default" {
        notes.push(
            "Pods without an annotation had this network: name it in v1.multus-cni.io/default-network of those."
                .to_owned(),
        );
    }
    let mut object = definition(name.namespace.as_str(), name.name.as_str(), &conf);
    if let Some(pool) = &network.device_pool {
        object["metadata"]["annotations"] = json!({RESOURCE_NAME: pool});
    }
    migration.objects.push((notes, object));
    migration.objects.extend(tenants::allowed(reference, name, &network.allowed_tenants));
}

const DYNAMIC: AddressRequest = AddressRequest { ipv4: Some(AddressMode::Dynamic), ipv6: None };

/// A network, and its configuration as the text of a definition.
pub(super) fn translated(reference: &ForeignRef, input: &Input) -> Result<(Network, String), String> {
    let why = |why: NoConfiguration| match why {
        NoConfiguration::Missing(missing) => format!("{missing} is not given"),
        NoConfiguration::NoFile(name) => format!("the node's file {name}.conf is not given"),
        NoConfiguration::Invalid(finding) => finding.to_string(),
    };
    let network = Network::of(reference, &input.objects).map_err(why)?;
    let own_ipam = network.gives(DYNAMIC);
    let (conf, _): (NetworkConf, String) = configuration(reference, &network, input.files(), own_ipam).map_err(why)?;
    Ok((network, config(&conf)))
}

/// Does a definition have a link that DANM's netwatcher makes?
pub(super) fn has_link(object: &Value) -> bool {
    let text = object["spec"]["config"].as_str().unwrap_or_default();
    let config: Value = serde_json::from_str(text).unwrap_or_default();
    let is_given = |key: &str| config[key].as_u64().is_some_and(|id| id > 0);
    let is_on_link = ["ipvlan", "macvlan"].contains(&config["type"].as_str().unwrap_or_default());
    is_on_link && config["master"].is_string() && (is_given("vlan") || is_given("vxlan"))
}
