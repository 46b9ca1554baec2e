//! From Knitter's REST bodies, and the pods that were in its networks, to definitions, AddressSets and policies, and pods in NPWG's words.
//! Pure.

mod bodies;
mod pods;

use std::collections::{BTreeMap, BTreeSet};

use attachments::dialect::alias::{KNITTER_NAME, KNITTER_PUBLIC, object_name};
use attachments::names::ObjectName;
use meta_cni::cluster::manifest;
use serde_json::{Value, json};

use super::manifests::{Migration, definition, each};
use bodies::{Body, Group, Members, Network, Quota, Wire};

/// What the files do not say.
#[derive(Clone, Debug)]
pub struct Place {
    /// Whose bodies they are: the namespace of the tenant.
    pub tenant: ObjectName,
    /// The administrator's namespace, where public networks are.
    pub admin: ObjectName,
    /// The network that the nodes' own default network stands for.
    pub default_network: Option<String>,
}

/// A document of a file.
enum Part {
    Bodies(Vec<Result<Body, String>>),
    Object(Value),
}

/// Networks by namespace and Knitter's name, each with the name that its definition has.
type Names = BTreeMap<(String, String), ObjectName>;

/// Reads the files by name and text. Fails with the first that cannot be read.
pub fn migrate(files: &[(String, String)], place: &Place) -> Result<Migration, String> {
    let mut parts = Vec::new();
    for (name, text) in files {
        for (i, document) in manifest::documents(text).into_iter().enumerate() {
            let value = manifest::value(document).map_err(|why| format!("{name}: document {}: {why}", i + 1))?;
            read(value, name, &mut parts)?;
        }
    }
    let mut migration = Migration::default();
    let (mut networks, mut groups, mut quotas, mut objects) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::Object(object) => objects.push(object),
            Part::Bodies(bodies) => {
                for body in bodies {
                    match body {
                        Ok(Body::Network(network)) => networks.push(network),
                        Ok(Body::Group(group)) => groups.push(group),
                        Ok(Body::Tenant(quota)) => quotas.push(quota),
                        Err(why) => migration.left.push(why),
                    }
                }
            }
        }
    }
    let known = known(&objects);
    let names = names(known.clone(), &networks, place);
    let mut seen = BTreeSet::new();
    for network in &networks {
        let name = &network.name;
        let is_anothers = network.is_public && place.tenant != place.admin;
        let home = if is_anothers { &place.admin } else { &place.tenant };
        if !seen.insert(name.clone()) {
            migration.left.push(format!("network {name:?}: another one of the tenant has its name"));
        } else if known.contains_key(&(home.to_string(), name.clone())) {
            migration.skipped.push(format!("network {name:?}: its definition is among the manifests"));
        } else if is_anothers {
            let why = format!("it is public, and so the administrator's: move it with --tenant {home}");
            migration.left.push(format!("network {name:?}: {why}"));
        } else {
            migration.network(network, &names, place);
        }
    }
    let mut seen = BTreeSet::new();
    for group in &groups {
        match migration.group(group, &networks, &names, place) {
            Ok(name) if !seen.insert(name.clone()) => {
                migration.objects.pop();
                migration.left.push(format!("ipgroup {:?}: another one has the name {name}", group.name));
            }
            Ok(_) => {}
            Err(why) => migration.left.push(format!("ipgroup {:?}: {why}", group.name)),
        }
    }
    quotas.iter().for_each(|quota| migration.quota(quota, place));
    for object in objects {
        migration.objects.push(pods::moved(object, &names, place, &mut migration.left));
    }
    Ok(migration)
}

fn read(value: Value, name: &str, parts: &mut Vec<Part>) -> Result<(), String> {
    match &value {
        Value::Null => {}
        Value::Object(fields) if fields.contains_key("kind") => {
            each(value, &mut |object| parts.push(Part::Object(object)))
        }
        Value::Object(_) => parts.push(Part::Bodies(bodies::read(&value))),
        Value::Array(bodies) => bodies.iter().try_for_each(|body| read(body.clone(), name, parts))?,
        _ => return Err(format!("{name}: neither a manifest nor a body of Knitter's")),
    }
    Ok(())
}

/// The names of the definitions among the manifests: what was moved before says its name.
fn known(objects: &[Value]) -> Names {
    let mut names = Names::new();
    for object in objects.iter().filter(|object| object["kind"] == "NetworkAttachmentDefinition") {
        let metadata = &object["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or("default").to_owned();
        if let Some(name) = metadata["name"].as_str().and_then(|name| name.parse::<ObjectName>().ok()) {
            let known = metadata["annotations"][KNITTER_NAME].as_str().unwrap_or(name.as_str()).to_owned();
            names.insert((namespace, known), name);
        }
    }
    names
}

/// The same with those of the networks. A name that is one of an object's stays; another is written as an object's, with a number where
/// that one is taken, in the order of the names. A tenant's answers list the administrator's public networks too.
fn names(mut names: Names, networks: &[Network], place: &Place) -> Names {
    let wanted: BTreeSet<(bool, &str, bool)> = networks
        .iter()
        .map(|network| (network.name.parse::<ObjectName>().is_err(), network.name.as_str(), network.is_public))
        .collect();
    for (_, name, is_public) in wanted {
        let home = if is_public { &place.admin } else { &place.tenant };
        let key = (home.to_string(), name.to_owned());
        let taken: BTreeSet<&ObjectName> =
            names.iter().filter(|((namespace, _), _)| *namespace == key.0).map(|(_, name)| name).collect();
        let Some(base) = object_name(name).filter(|_| !names.contains_key(&key)) else { continue };
        let numbered = (2..).map_while(|number| format!("{base}-{number}").parse::<ObjectName>().ok());
        let free = std::iter::once(base.clone()).chain(numbered).find(|name| !taken.contains(name));
        names.extend(free.map(|free| (key, free)));
    }
    names
}

impl Migration {
    fn network(&mut self, network: &Network, names: &Names, place: &Place) {
        let Network { name, description, .. } = network;
        let said = format!("network {name:?}");
        let Some(object) = names.get(&(place.tenant.to_string(), name.clone())) else {
            return self.left.push(format!("{said}: no object can have such a name"));
        };
        let mut notes: Vec<String> = description.iter().map(|text| format!("{said}: {text}")).collect();
        let mut ipam = json!({"type": "blocks", "ranges": [network.ranges()]});
        let mut config = match &network.wire {
            Wire::Own => json!({"cniVersion": "1.1.0", "type": "vxlan"}),
            Wire::Vni(vni) => json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": vni}),
            Wire::Vlan { master, id } => {
                notes.push(format!(
                    "master: write the link of the nodes that leads to the physical network {master:?}."
                ));
                let mut config = json!({"cniVersion": "1.1.0", "type": "macvlan", "master": master});
                if let Some(id) = id {
                    config["masterVlan"] = json!(id);
                }
                config
            }
        };
        // Of Knitter's networks this one alone led out of the pods, by a leg of the node that masqueraded.
        if name == bodies::DEFAULT && matches!(network.wire, Wire::Own | Wire::Vni(_)) {
            config["isGateway"] = json!(true);
            config["ipMasq"] = json!(true);
            ipam["routes"] = json!([{"dst": "0.0.0.0/0"}]);
        }
        config["capabilities"] = json!({"ips": true});
        config["ipam"] = ipam;
        let mut object = definition(place.tenant.as_str(), object.as_str(), &config.to_string());
        if object["metadata"]["name"] != json!(name) {
            object["metadata"]["annotations"][KNITTER_NAME] = json!(name);
        }
        if network.is_public {
            object["metadata"]["annotations"][KNITTER_PUBLIC] = json!("true");
        }
        self.objects.push((notes, object));
    }

    /// The name of the group's AddressSet.
    fn group(
        &mut self,
        group: &Group,
        networks: &[Network],
        names: &Names,
        place: &Place,
    ) -> Result<ObjectName, String> {
        let name = object_name(&group.name).ok_or("no object can have such a name")?;
        // Pods name the network by its name, groups by its id.
        let by_id = networks.iter().find(|network| network.id.as_ref() == Some(&group.network));
        let network = by_id.or_else(|| networks.iter().find(|network| network.name == group.network));
        let network = network.ok_or_else(|| {
            format!(
                "network_id: got {:?}, want the id of a network among the files: give the answer that lists it",
                group.network
            )
        })?;
        let definition = names
            .get(&(place.tenant.to_string(), network.name.clone()))
            .ok_or_else(|| format!("its network {:?} is not one of the tenant's that are moved", network.name))?;
        let mut spec = json!({"network": definition});
        match &group.members {
            Members::Addresses(addresses) => {
                if let Some(address) = addresses.iter().find(|address| !network.has(**address)) {
                    return Err(format!("ips: got {address}, want addresses of its network's {}", network.cidr));
                }
                spec["addresses"] = json!(addresses);
            }
            Members::Size(size) => spec["size"] = json!(size),
        }
        let object = json!({
            "apiVersion": "meta-cni.io/v1alpha1",
            "kind": "AddressSet",
            "metadata": {"name": name, "namespace": place.tenant},
            "spec": spec,
        });
        self.objects.push((group.notes.clone(), object));
        Ok(name)
    }

    fn quota(&mut self, quota: &Quota, place: &Place) {
        let tenant = quota.tenant.as_deref().map_or_else(|| Ok(place.tenant.clone()), str::parse::<ObjectName>);
        let Ok(tenant) = tenant else {
            let name = quota.tenant.as_deref().unwrap_or_default();
            return self.left.push(format!("tenant {name:?}: no namespace can have such a name"));
        };
        let most = quota.most.unwrap_or(if tenant == place.admin { 100 } else { 10 });
        let rule = json!({"name": "networks", "select": "$.usage.nadsInNamespace", "assert": {"range": {"max": most}}});
        self.objects.push((
            Vec::new(),
            json!({
                "apiVersion": "meta-cni.io/v1alpha1",
                "kind": "AttachmentPolicy",
                "metadata": {"name": format!("knitter-quota-{tenant}")},
                "spec": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": tenant}},
                    "appliesTo": ["NetworkAttachmentDefinition"],
                    "rules": [rule],
                },
            }),
        ));
    }
}

#[cfg(test)]
mod tests;
