//! Chooses an attachment's configuration: that of its definition, or of a file of the node (R6, R7, A32).

use std::collections::BTreeMap;

use super::attachment::Source;
use super::devices::Allocation;
use super::request::{BindRequest, Origin, Slot};
use super::{BindError, Spell};
use crate::cni::conf::NetworkConf;
use crate::cni::object::Object;
use crate::cni::spelling::{LIST, PLUGIN, is_spelling};
use crate::definition::{Definition, LONGEST};
use crate::finding::Finding;
use crate::names::{NetRef, NetworkName};
use crate::rule::Rule;

/// The results of the lookups.
#[derive(Clone, Copy, Debug)]
pub struct Lookups<'a> {
    /// The definitions that exist among [`BindRequest::references`].
    pub definitions: &'a BTreeMap<NetRef, Definition>,
    /// The configurations in `confDir`, in file-name order; needed if [`BindRequest::needs_files`].
    pub files: &'a [ConfFile],
    /// The devices that were allocated to the pod.
    pub devices: &'a Allocation,
}

/// A file of `confDir`.
#[derive(Clone, Debug)]
pub struct ConfFile {
    /// File name without directory.
    pub name: String,
    /// Its configuration. The plugins of its sibling directory are appended already (C6).
    pub conf: Result<NetworkConf, Finding>,
}

/// The configuration of one attachment, and its origin.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub source: Source,
    pub name: NetworkName,
    pub conf: NetworkConf,
    /// Arguments that `cni-args` may not set.
    pub locked_args: Vec<String>,
    /// The resource whose devices the attachment uses.
    pub resource: Option<String>,
    /// Path of the configuration, for findings.
    pub field: String,
    /// The configuration has a list `plugins`; else it is that of a single plugin.
    pub listed: bool,
    /// The configuration is a tenant's text: neither in the node's configuration, nor a file of the node, nor a definition
    /// that the node's configuration names.
    pub tenant: bool,
    /// See [`super::Attachment::address_dir`].
    pub address_dir: Option<String>,
}

impl Chosen {
    /// Path of one plugin's configuration.
    pub fn plugin_field(&self, i: usize) -> String {
        if self.listed { format!("{}.plugins[{i}]", self.field) } else { self.field.clone() }
    }
}

/// The key of a definition's configuration that lists the arguments which `cni-args` may not set. It is ours: no plugin
/// sees it.
const LOCKED_ARGS: &str = "lockedArgs";

pub(super) fn choose(
    request: &BindRequest<'_>,
    lookups: &Lookups<'_>,
    slot: &Slot<'_>,
    spell: Spell<'_>,
) -> Result<Chosen, BindError> {
    let definition = request.definition_of(slot.origin).and_then(|reference| lookups.definitions.get(&reference));
    let mut chosen = match (slot.origin, definition) {
        (Origin::Conf(conf), _) => node_conf(conf, slot.field.clone())?,
        (_, Some(definition)) => of_definition(request, definition, lookups.files)?,
        (Origin::Definition(reference), None) => return Err(BindError::NoDefinition(reference.clone())),
        (Origin::Named(name) | Origin::NodeFile(name), None) => match file_named(name.as_str(), lookups.files) {
            Some((file, conf)) => node_conf(conf, format!("file {file}"))?,
            None => return Err(no_network(request, slot.origin, name, lookups.files)),
        },
    };
    chosen.conf.require_plugins().map_err(|e| e.under(&chosen.field))?;
    for i in 0..chosen.conf.plugins.len() {
        let field = chosen.plugin_field(i);
        let plugin = &mut chosen.conf.plugins[i];
        let locked = PLUGIN.read(&plugin.object).and_then(|read| locked_args(&read)).map_err(|e| e.under(&field))?;
        chosen.locked_args.extend(locked);
        plugin.object.retain(|key| !is_spelling(key, LOCKED_ARGS));
        spell(plugin).map_err(|e| e.under(&field))?;
    }
    Ok(chosen)
}

fn node_conf(conf: &NetworkConf, field: String) -> Result<Chosen, BindError> {
    let Some(name) = conf.name.clone() else {
        return Err(Finding::missing("name", NetworkName::ALLOWED).under(&field).into());
    };
    Ok(Chosen {
        source: Source::Node(name.clone()),
        name,
        conf: conf.clone(),
        locked_args: Vec::new(),
        resource: None,
        field,
        listed: conf.plugins.len() > 1,
        tenant: false,
        address_dir: None,
    })
}

fn of_definition(request: &BindRequest<'_>, definition: &Definition, files: &[ConfFile]) -> Result<Chosen, BindError> {
    let reference = &definition.reference;
    let is_named_by_node = request.is_named_by_node(reference);
    let Some(text) = definition.inline() else {
        let rules = request.rules;
        if rules.namespace_isolation && !is_named_by_node && !rules.is_global(&reference.namespace) {
            return Err(BindError::IsolatedFile { network: reference.clone() });
        }
        let Some((file, conf)) = file_named(reference.name.as_str(), files) else {
            return Err(BindError::NoConfiguration { reference: reference.clone(), broken: broken_files(files) });
        };
        let chosen = node_conf(conf, format!("file {file}"))?;
        let source = Source::Definition(reference.clone());
        return Ok(Chosen { source, resource: definition.resource().map(str::to_owned), ..chosen });
    };
    let field = format!("network-attachment-definition {reference}: spec.config");
    if text.len() > LONGEST {
        let allowed = format!("at most {LONGEST} bytes");
        return Err(Finding::new(field, format_args!("{} bytes", text.len()), allowed).of(Rule::ConfigSize).into());
    }
    let read = |text: &str| {
        let object = Object::parse(text.as_bytes())
            .map_err(|e| Finding::new("", format_args!("invalid JSON ({e})"), "a CNI configuration: a JSON object"))?;
        let read = LIST.read(&object)?;
        let listed = read.get("plugins").is_some();
        let locked = if listed { locked_args(&read)? } else { Vec::new() };
        let conf = NetworkConf::from_object(object)?;
        if conf.plugins.len() > request.rules.max_chain {
            let allowed = format!("at most {} (maxChain)", request.rules.max_chain);
            let finding = Finding::new("plugins", format_args!("{} plugins", conf.plugins.len()), allowed);
            return Err(finding.of(Rule::ConfigSize));
        }
        // R7. An object's name is always a network's name.
        let name = conf.name.clone().map_or_else(|| reference.name.as_str().parse(), Ok)?;
        Ok((name, conf, locked, listed))
    };
    let (name, conf, locked_args, listed): (NetworkName, _, _, _) = read(text).map_err(|e: Finding| e.under(&field))?;
    let is_apart = !is_named_by_node && request.rules.namespace_isolation;
    Ok(Chosen {
        source: Source::Definition(reference.clone()),
        address_dir: is_apart.then(|| format!("{}_{name}", reference.namespace)),
        name,
        conf,
        locked_args,
        resource: definition.resource().map(str::to_owned),
        field,
        listed,
        tenant: !is_named_by_node,
    })
}

fn locked_args(object: &Object) -> Result<Vec<String>, Finding> {
    Ok(object.decode(LOCKED_ARGS, "a list of argument names")?.unwrap_or_default())
}

/// The file of a network name. Lists come before single configurations, each in file-name order; unreadable files are skipped.
fn file_named<'a>(name: &str, files: &'a [ConfFile]) -> Option<(&'a str, &'a NetworkConf)> {
    let readable = files.iter().filter_map(|file| Some((file.name.as_str(), file.conf.as_ref().ok()?)));
    let named = readable.filter(|(_, conf)| conf.name.as_ref().is_some_and(|n| n.as_str() == name));
    let (lists, singles): (Vec<_>, Vec<_>) = named.partition(|(file, _)| file.ends_with(".conflist"));
    lists.into_iter().chain(singles).next()
}

fn no_network(request: &BindRequest<'_>, origin: Origin<'_>, name: &NetworkName, files: &[ConfFile]) -> BindError {
    let broken = broken_files(files);
    match origin {
        Origin::NodeFile(name) => BindError::NoNodeFile { name: name.clone(), broken },
        _ => BindError::NoNetwork { name: name.to_string(), namespace: request.rules.multus_namespace.clone(), broken },
    }
}

/// The unreadable files, as the end of a sentence: the missing network may be in one of them.
fn broken_files(files: &[ConfFile]) -> String {
    let broken = files.iter().filter_map(|file| Some(file.conf.as_ref().err()?.clone().under(&file.name)));
    broken.map(|finding| format!("; skipped {finding}")).collect()
}
