//! Chooses an attachment's configuration: that of its definition, or of a file of the node (R6, R7, A32).

use std::collections::BTreeMap;

use super::attachment::TranslatedFrom;
use super::devices::Allocation;
use super::request::{BindRequest, Origin, Slot};
use super::source::Source;
use super::{BindError, Spell};
use crate::cni::conf::NetworkConf;
use crate::cni::object::Object;
use crate::cni::spelling::{LIST, PLUGIN, is_spelling};
use crate::definition::{Definition, LONGEST};
use crate::dialect::alias::Alias;
use crate::dialect::danm::Network;
use crate::dialect::danm::links;
use crate::dialect::danm::network::{self, Type};
use crate::dialect::danm::reserved;
use crate::dialect::files::{Named, NodeFiles};
use crate::dialect::objects::{self, ForeignRef, NoConfiguration, Objects};
use crate::dialect::{Dialect, genie};
use crate::finding::Finding;
use crate::names::{ConfName, NetRef, NetworkName};
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
    /// The files that dialects may name; needed if [`BindRequest::needs_node_files`].
    pub node_files: NodeFiles<'a>,
    /// The objects of dialects that exist among those that the pod selects, with what they need.
    pub objects: &'a Objects,
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
    /// See [`super::Attachment::translated`].
    pub translated: Option<TranslatedFrom>,
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
        (Origin::File(name), _) => of_file(request, lookups, slot, name)?,
        (Origin::Foreign(reference), _) => of_object(request, lookups, slot, reference)?,
        (Origin::Alias(alias, found), _) => return Err(no_one_definition(slot, alias, found)),
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
        translated: None,
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
    let (name, mut conf, locked_args, listed): (NetworkName, _, _, _) =
        read(text).map_err(|e: Finding| e.under(&field))?;
    if request.rules.danm_links && !listed {
        links::choose(&mut conf).map_err(|e| e.under(&field))?;
    }
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
        translated: None,
    })
}

/// A file by the name of the file: the node's own text.
fn of_file(
    request: &BindRequest<'_>,
    lookups: &Lookups<'_>,
    slot: &Slot<'_>,
    name: &ConfName,
) -> Result<Chosen, BindError> {
    match lookups.node_files.named(name) {
        Named::File(file, conf) => {
            let chosen = named_conf(conf, name, format!("file {file}"))?;
            Ok(Chosen { translated: translated(request, format!("file {file}")), ..chosen })
        }
        Named::Meta(_) => Err(genie::meta_plugin(&slot.field, name).into()),
        Named::Nothing => Err(no_file(lookups, slot, name)),
    }
}

/// An object of a dialect: a tenant's text, with the configuration of a file of the node, or a network of its own.
fn of_object(
    request: &BindRequest<'_>,
    lookups: &Lookups<'_>,
    slot: &Slot<'_>,
    reference: &ForeignRef,
) -> Result<Chosen, BindError> {
    let refused = |why| match why {
        NoConfiguration::Missing(reference) => BindError::NoObject { field: slot.field.clone(), reference },
        NoConfiguration::NoFile(name) => no_file(lookups, slot, &name),
        NoConfiguration::Invalid(finding) => finding.into(),
    };
    if reference.kind.dialect() == Some(Dialect::Danm) {
        let mut network = Network::of(reference, lookups.objects).map_err(refused)?;
        network.kept = reserved::kept_from(reference, slot.selected, lookups.objects);
        if request.rules.namespace_isolation && reference.namespace.is_some() && matches!(network.kind, Type::File(..))
        {
            return Err(BindError::IsolatedNodeFile {
                pod: request.pod.namespace.clone(),
                name: reference.to_string(),
            });
        }
        // Settled: a network that gives the addresses has them said for both families.
        let gives = slot.selected.is_some_and(|selected| selected.addresses.is_some());
        let read = network::configuration(reference, &network, lookups.node_files, gives);
        let (conf, from) = read.map_err(refused)?;
        let chosen = node_conf(&conf, reference.to_string())?;
        return Ok(Chosen {
            source: Source::Object(reference.clone()),
            resource: network.device_pool.clone(),
            tenant: true,
            translated: translated(request, from),
            ..chosen
        });
    }
    let (name, conf, from) = objects::configuration(reference, lookups.objects, lookups.node_files).map_err(refused)?;
    let chosen = named_conf(&conf, &name, reference.to_string())?;
    Ok(Chosen { tenant: true, translated: translated(request, from), ..chosen })
}

/// A file of single plugins often has no name of its own: then it is the file's.
fn named_conf(conf: &NetworkConf, name: &ConfName, field: String) -> Result<Chosen, BindError> {
    let mut conf = conf.clone();
    if conf.name.is_none() {
        conf.name = Some(name.as_str().parse().map_err(|e: Finding| e.under(&format!("{field}.name")))?);
    }
    node_conf(&conf, field)
}

/// The refusal of a name that no definition has, or more than one.
fn no_one_definition(slot: &Slot<'_>, alias: &Alias, found: &[NetRef]) -> BindError {
    let field = format!("{}.attach_to_network", slot.field);
    if found.is_empty() {
        return BindError::NoAlias { field, alias: alias.clone() };
    }
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    let allowed = format!("a name that one definition has: {} have it", found.join(", "));
    Finding::new(field, format_args!("{:?}", alias.name), allowed).into()
}

pub(super) fn translated(request: &BindRequest<'_>, from: String) -> Option<TranslatedFrom> {
    let translated = request.selection.translated.as_ref()?;
    Some(TranslatedFrom { dialect: translated.dialect.to_string(), from, listed: !translated.is_nodes_own })
}

fn no_file(lookups: &Lookups<'_>, slot: &Slot<'_>, name: &ConfName) -> BindError {
    let NodeFiles { dirs, .. } = lookups.node_files;
    let found = lookups.node_files.names().into_iter().map(str::to_owned).collect();
    BindError::NoFile { field: slot.field.clone(), name: name.clone(), dirs: dirs.to_vec(), found }
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
