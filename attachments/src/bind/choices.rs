//! Reads the configurations of all attachments and checks them against the rules, before any attachment is bound. Each
//! definition is read once, however often a pod names it, and their total size is limited.

use std::collections::{HashMap, HashSet};

use super::lookup::{self, Chosen, Lookups};
use super::request::{BindRequest, Origin, Slot};
use super::tenant::{self, TenantPath};
use super::{BindError, Spell};
use crate::cni::object::Object;
use crate::finding::Finding;
use crate::names::{NetRef, NetworkName};

/// The most bytes of configuration of all networks of one pod, with the arguments in every plugin.
pub const MOST_BYTES: usize = 4 << 20;

/// The longest name of a file.
const FILE_NAME: usize = 255;

/// The configuration of each slot.
#[derive(Default)]
pub(super) struct Choices {
    pub chosen: Vec<Chosen>,
    /// Paths in text that is not the node's own.
    pub paths: Vec<TenantPath>,
}

impl Choices {
    pub(super) fn read(
        request: &BindRequest<'_>,
        lookups: &Lookups<'_>,
        slots: &[Slot<'_>],
        spell: Spell<'_>,
    ) -> Result<Self, BindError> {
        let mut choices = Self::default();
        let mut known: HashMap<NetRef, usize> = HashMap::new();
        let mut bytes = 0;
        for (i, slot) in slots.iter().enumerate() {
            let reference =
                request.definition_of(slot.origin).filter(|reference| lookups.definitions.contains_key(reference));
            let chosen = match reference.as_ref().and_then(|reference| known.get(reference)) {
                Some(earlier) => choices.chosen[*earlier].clone(),
                None => {
                    known.extend(reference.map(|reference| (reference, i)));
                    let chosen = lookup::choose(request, lookups, slot, spell)?;
                    choices.hold_to_rules(request, &chosen)?;
                    chosen
                }
            };
            bytes += size(&chosen, slot);
            if bytes > MOST_BYTES {
                let allowed = format!("at most {MOST_BYTES} bytes of configuration for all networks of a pod");
                return Err(Finding::new(&slot.field, format_args!("{bytes} bytes with it"), allowed).into());
            }
            choices.hold_args_to_rules(request, &chosen, slot)?;
            choices.chosen.push(chosen);
        }
        choices.keep_apart(request, slots)?;
        Ok(choices)
    }

    /// Checks the plugins, programs and paths of a configuration. The node's own text may name anything but our own programs.
    fn hold_to_rules(&mut self, request: &BindRequest<'_>, chosen: &Chosen) -> Result<(), BindError> {
        let dir = chosen.address_dir.as_deref().unwrap_or(chosen.name.as_str());
        fits_file_name(dir, "the name of host-local's directory")
            .map_err(|finding| Finding { path: "name".to_owned(), ..finding }.under(&chosen.field))?;
        for (i, plugin) in chosen.conf.plugins.iter().enumerate() {
            let field = chosen.plugin_field(i);
            if !chosen.tenant {
                tenant::check_own(plugin).map_err(|finding| finding.under(&field))?;
                continue;
            }
            for path in tenant::check(plugin, &field, request.rules)? {
                if path.field.ends_with(".dataDir") {
                    // The network's directory below it may be a symbolic link too.
                    let (below, field) = (format!("{}/{dir}", path.path), path.field.clone());
                    self.paths.push(TenantPath { path: below, field });
                }
                self.paths.push(path);
            }
        }
        Ok(())
    }

    /// Checks the arguments of a pod: they are a tenant's text also for the node's own configuration.
    fn hold_args_to_rules(
        &mut self,
        request: &BindRequest<'_>,
        chosen: &Chosen,
        slot: &Slot<'_>,
    ) -> Result<(), BindError> {
        if let Some(args) = slot.selected.and_then(|selected| selected.cni_args.as_ref()) {
            let field = format!("{}.cni-args", slot.field);
            self.paths.extend(tenant::check_args(args, &chosen.conf.plugins, &field, request.rules)?);
        }
        Ok(())
    }

    /// Refuses a definition with the name of a node's own network: host-local's files and other state go by the name.
    fn keep_apart(&self, request: &BindRequest<'_>, slots: &[Slot<'_>]) -> Result<(), BindError> {
        let mut own: HashSet<&NetworkName> = request.own_networks().collect();
        let of_node = |slot: &Slot<'_>| !matches!(slot.origin, Origin::Definition(_) | Origin::Foreign(_));
        own.extend(slots.iter().zip(&self.chosen).filter(|(slot, _)| of_node(slot)).map(|(_, chosen)| &chosen.name));
        let taken = |chosen: &&Chosen| {
            let dir = chosen.address_dir.as_deref();
            // An object of a dialect has the name of the node's file that it is made of.
            chosen.tenant
                && chosen.translated.is_none()
                && (own.contains(&chosen.name) || own.iter().any(|name| Some(name.as_str()) == dir))
        };
        match self.chosen.iter().find(taken) {
            None => Ok(()),
            Some(chosen) => {
                let allowed = "another name: a network of the node's own has it";
                let field = format!("{}.name", chosen.field);
                Err(Finding::new(field, format_args!("{:?}", chosen.name.as_str()), allowed).into())
            }
        }
    }
}

/// Bytes of an attachment's plugins in a record.
fn size(chosen: &Chosen, slot: &Slot<'_>) -> usize {
    let plugins = &chosen.conf.plugins;
    let args = slot.selected.and_then(|selected| selected.cni_args.as_ref()).map_or(0, Object::size);
    plugins.iter().map(|plugin| plugin.object.size() + args).sum()
}

/// Refuses a name that is too long for a file: creating the file would fail half-way into an ADD.
pub(super) fn fits_file_name(name: &str, what: &str) -> Result<(), Finding> {
    match name.len() {
        0..=FILE_NAME => Ok(()),
        length => Err(Finding::new("", format_args!("{length} bytes"), format!("{what} in at most {FILE_NAME} bytes"))),
    }
}
