//! From pods and objects of DANM to pods, definitions, policies and claims. Pure: what is printed is what an ADD would have used.

mod claims;
mod networks;
mod pods;
mod tenants;

use std::collections::{BTreeMap, BTreeSet};

use attachments::bind::ConfFile;
use attachments::cni::conf::NetworkConf;
use attachments::dialect::danm::{API_VERSIONS, NETWORKS};
use attachments::dialect::files::NodeFiles;
use attachments::dialect::objects::{ForeignRef, Kind, Objects, disagreement, group_of, meaning};
use attachments::names::{NetRef, ObjectName};
use serde_json::Value;

use super::manifests::{Migration, Part, called, read_all};

/// What the files hold together.
struct Input {
    files: Vec<ConfFile>,
    objects: Objects,
    /// The definition that each network becomes.
    definitions: BTreeMap<ForeignRef, NetRef>,
}

impl Input {
    fn files(&self) -> NodeFiles<'_> {
        NodeFiles { files: &self.files, dirs: &[] }
    }
}

/// Reads the files by name and text. `shared` is where definitions of ClusterNetworks go. Fails with the first that cannot be read.
pub fn migrate(files: &[(String, String)], shared: &ObjectName) -> Result<Migration, String> {
    let parts = read_all(files)?;
    let mut migration = Migration::default();
    let mut input = Input { files: Vec::new(), objects: Objects::new(), definitions: BTreeMap::new() };
    for part in &parts {
        match part {
            Part::Conf { file, text } => {
                input.files.push(ConfFile { name: file.clone(), conf: NetworkConf::parse(text.as_bytes()) });
            }
            Part::Object(object) => {
                let Some(reference) = foreign(object) else { continue };
                let says = meaning(reference.kind, object["spec"].clone()).to_string();
                let before = input.objects.insert(reference.clone(), says.clone());
                if before.is_some_and(|before| before != says) {
                    migration.left.push(disagreement(&reference));
                }
            }
        }
    }
    input.files.sort_by(|a, b| a.name.cmp(&b.name));
    input.definitions = networks::names(&input.objects, shared);
    let mut done = BTreeSet::new();
    for part in parts {
        match part {
            Part::Conf { file, .. } => {
                migration.skipped.push(format!("{file}: part of the definitions of the networks that name it"));
            }
            Part::Object(object) => match foreign(&object) {
                // One network may be given in both groups.
                Some(reference) if !done.insert(reference.clone()) => {}
                Some(reference) => own(&reference, &object, &input, shared, &mut migration),
                None => other(object, &input, &mut migration),
            },
        }
    }
    Ok(migration)
}

/// An object of DANM, by what it is.
fn foreign(object: &Value) -> Option<ForeignRef> {
    let version = object["apiVersion"].as_str()?;
    let kind = Kind::of(object["kind"].as_str()?).filter(|_| API_VERSIONS.contains(&version))?;
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or("default").parse().ok()?;
    Some(ForeignRef::within(&namespace, kind, metadata["name"].as_str()?.parse().ok()?))
}

fn own(reference: &ForeignRef, object: &Value, input: &Input, shared: &ObjectName, migration: &mut Migration) {
    match reference.kind {
        kind if NETWORKS.contains(&kind) => networks::network(reference, input, migration),
        Kind::TenantConfig => tenants::config(reference, object, shared, migration),
        Kind::DanmEp => claims::endpoint(reference, object, input, migration),
        Kind::ReservedIP => claims::reserved(reference, object, input, migration),
        _ => migration.left.push(format!("{reference}: nothing reads objects of this kind")),
    }
}

fn other(object: Value, input: &Input, migration: &mut Migration) {
    let name = called(&object);
    let kind = object["kind"].as_str().unwrap_or_default();
    let is_of_danm = |text: &str| API_VERSIONS.iter().any(|version| group_of(version) == text);
    if kind == "CustomResourceDefinition" && object["spec"]["group"].as_str().is_some_and(is_of_danm) {
        return migration.skipped.push(format!("{name}: not needed once its objects are definitions"));
    }
    if object["apiVersion"].as_str().is_some_and(|version| is_of_danm(group_of(version))) {
        return migration
            .left
            .push(format!("{name}: no object of DANM that can be read, by its kind, version or name"));
    }
    if kind == "Service" && pods::selector(&object) {
        migration
            .left
            .push(format!("{name}: its endpoints were svcwatcher's; nothing here makes them of these annotations yet"));
    }
    if kind == "NetworkAttachmentDefinition" && networks::has_link(&object) {
        migration.left.push(format!(
            "{name}: its vlan or vxlan is a link that DANM makes: keep dialect danm, or name the link by masterVlan or masterVxlan"
        ));
    }
    pods::rewrite(object, input, migration);
}

#[cfg(test)]
mod tests;
