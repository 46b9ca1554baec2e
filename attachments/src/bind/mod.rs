//! Binds a pod's networks: turns a request and its lookups into attachments with every choice made. Pure: it validates
//! everything and touches nothing.
//!
//! The engine makes a [`BindRequest`], looks up its [`BindRequest::references`], and hands the [`Lookups`] to [`bind`].

mod addresses;
mod args;
mod attachment;
mod capabilities;
mod changes;
mod choices;
mod devices;
mod lookup;
mod request;
mod source;
mod tenant;

use std::collections::BTreeSet;

use crate::cni::conf::PluginConf;
use crate::dialect::alias::{Alias, KNITTER_PUBLIC};
use crate::dialect::objects::ForeignRef;
use crate::finding::Finding;
use crate::names::{ConfName, IfName, NetRef, NetworkName, ObjectName};
use crate::rule::Rule;
use crate::selection::NetworkSelection;

pub use addresses::FAMILIES;
pub use attachment::{Attachment, Device, TranslatedFrom, UnverifiedRequests};
pub use capabilities::DEVICE_INFO_FILE;
pub use changes::Changes;
pub use choices::MOST_BYTES;
pub use devices::Allocation;
pub use lookup::{ConfFile, Lookups};
pub use request::{BindRequest, Growth, Network, Rules};
pub use source::Source;
pub use tenant::{BuiltIn, TenantPath};

use choices::{Choices, fits_file_name};
use devices::{Given, Pool};
use lookup::Chosen;
use request::Slot;

/// Where an attachment's device information file is (A31), by NPWG's Device Information Specification.
pub const DEVICE_INFO_DIR: &str = "/var/run/k8s.cni.cncf.io/devinfo/cni";

/// The attachments of a pod, default network first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bound {
    /// In the order of ADD.
    pub attachments: Vec<Attachment>,
    /// Paths in definitions that lie below a root as text. The engine must check them with the node's symbolic links
    /// resolved, before any delegate runs.
    pub paths: Vec<TenantPath>,
    /// What was passed over and is no error, one sentence each: for whoever runs the node.
    pub warnings: Vec<String>,
    /// Requests of the pod that nothing fulfils and that are no error, one sentence each: for its owner.
    pub unmet: Vec<String>,
}

/// Why a pod's networks cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// A definition does not exist (yet).
    #[error("cannot find a network-attachment-definition ({}) in namespace ({})", .0.name, .0.namespace)]
    NoDefinition(NetRef),
    /// Neither a definition nor a file of the node has this name.
    #[error(
        "cannot find network {name:?}: no network-attachment-definition in namespace {namespace} and no configuration file has this name{broken}"
    )]
    NoNetwork {
        /// The name that was looked for.
        name: String,
        /// Where definitions were looked for.
        namespace: ObjectName,
        /// Files that could not be read, as the end of the sentence; empty when there is none.
        broken: String,
    },
    /// The pod selects a file of the node, and there is none of this name.
    #[error("cannot find network {:?}: no configuration file has this name{broken}", .name.as_str())]
    NoNodeFile {
        /// The name that was looked for.
        name: NetworkName,
        /// Files that could not be read, as the end of the sentence; empty when there is none.
        broken: String,
    },
    /// A dialect's list names a file, and there is none of this name.
    #[error("{field}: no configuration named {:?} in {}; files found: {}", .name.as_str(), .dirs.join(", "), listed(.found))]
    NoFile {
        /// Where the pod names it.
        field: String,
        /// The name that was looked for.
        name: ConfName,
        /// The directories.
        dirs: Vec<String>,
        /// The names that there are.
        found: Vec<String>,
    },
    /// An object of a dialect does not exist (yet).
    #[error("{field}: cannot find {} {}{}", .reference.kind, .reference.name, within(.reference))]
    NoObject {
        /// Where it is named.
        field: String,
        /// The object.
        reference: ForeignRef,
    },
    /// No definition has the name that a dialect's list gives (yet).
    #[error("{field}: no network-attachment-definition is {:?} {}", .alias.name, places(.alias))]
    NoAlias {
        /// Where the pod names it.
        field: String,
        /// The name.
        alias: Alias,
    },
    /// A definition without a configuration, and no file of the node has its name (R6).
    #[error("network-attachment-definition {reference}: spec.config is empty, and no configuration file is named {:?}{broken}", .reference.name.as_str())]
    NoConfiguration {
        /// The definition.
        reference: NetRef,
        /// Files that could not be read, as the end of the sentence; empty when there is none.
        broken: String,
    },
    /// The pod may not refer to that namespace.
    #[error(
        "network {network}: namespace isolation enabled, annotation violates permission, pod is in namespace {pod} but refers to target namespace {}",
        .network.namespace
    )]
    Isolated {
        /// Namespace of the pod.
        pod: ObjectName,
        /// The definition that it refers to.
        network: NetRef,
    },
    /// Under isolation a pod selects no file of the node.
    #[error(
        "network {name}: namespace isolation enabled, annotation violates permission, pod is in namespace {pod} but refers to a file of the node"
    )]
    IsolatedNodeFile {
        /// Namespace of the pod.
        pod: ObjectName,
        /// The file's network, or what names the file.
        name: String,
    },
    /// Under isolation only the definitions of global namespaces stand for the node's files.
    #[error(
        "network-attachment-definition {network}: namespace isolation enabled, definition violates permission, without spec.config it stands for a file of the node, and namespace {} is none of globalNamespaces",
        .network.namespace
    )]
    IsolatedFile {
        /// The definition without a configuration.
        network: NetRef,
    },
    /// The devices of the pod are not known (yet).
    #[error("{network}: the pod's devices of {resource} are not known: {reason}")]
    DevicesUnknown {
        /// The network that takes one.
        network: String,
        /// The resource that its definition names.
        resource: String,
        /// Why.
        reason: String,
    },
    /// A value is wrong; nothing was touched.
    #[error("{0}")]
    Invalid(#[from] Finding),
}

fn places(alias: &Alias) -> String {
    let Alias { namespace, shared, .. } = alias;
    match namespace == shared {
        true => format!("in namespace {namespace}"),
        false => format!("in namespace {namespace}, nor with the annotation {KNITTER_PUBLIC} in namespace {shared}"),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn within(reference: &ForeignRef) -> String {
    reference.namespace.as_ref().map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default()
}

/// Names that no attachment can have: the loopback link is in every pod, and to the kernel's sysctls the other two mean
/// every link and every link to come.
const RESERVED: [&str; 3] = ["lo", "all", "default"];

/// Rewrites the known keys of a plugin's configuration to the spelling of their reader, if the reader is in this process,
/// and refuses two spellings of one key. The delegate then reads what was bound.
pub type Spell<'a> = &'a dyn Fn(&mut PluginConf) -> Result<(), Finding>;

/// Makes every choice: names, configurations, arguments, devices. Fails before anything is touched.
pub fn bind(request: &BindRequest<'_>, lookups: &Lookups<'_>, spell: Spell<'_>) -> Result<Bound, BindError> {
    // Isolation is checked again: the caller may not have used `references`.
    request.references()?;
    request.check_default_route()?;
    request.check_routing()?;
    if request.delegates.is_empty() && request.selection.default_network.is_none() {
        return Err(Finding::missing("delegates", "at least one network: the first is every pod's default").into());
    }
    let slots = request.slots();
    let all = Choices::read(request, lookups, &slots, spell)?;
    let BindRequest { selection, .. } = request;
    let (unmet, warnings) = (selection.unmet.clone(), selection.warnings.clone());
    let bound = Bound { paths: all.paths, unmet, warnings, ..Bound::default() };
    let devices = Pool::new(lookups.devices, &slots, &all.chosen, request.held(), request.rules.namespace_isolation);
    let mut binder = Binder { request, spell, bound, devices };
    for (slot, chosen) in slots.iter().zip(all.chosen) {
        binder.attach(slot, chosen)?;
    }
    if request.needs_files(lookups.definitions) {
        let broken = lookups.files.iter().filter_map(|file| Some((&file.name, file.conf.as_ref().err()?)));
        let skipped = |(name, finding): (&String, &Finding)| {
            format!("skipped {}", finding.clone().under(&format!("file {name}")))
        };
        binder.bound.warnings.extend(broken.map(skipped));
    }
    Ok(binder.bound)
}

struct Binder<'a> {
    request: &'a BindRequest<'a>,
    spell: Spell<'a>,
    bound: Bound,
    devices: Pool<'a>,
}

impl Binder<'_> {
    fn attach(&mut self, slot: &Slot<'_>, mut chosen: Chosen) -> Result<(), BindError> {
        let ifname = self.name(slot)?;
        let mut added = Vec::new();
        let mut unverified = UnverifiedRequests::default();
        let is_default = self.is_first();
        let mut made = addresses::Made::default();
        // What a plugin is asked for; what stands in its configuration already is not asked for again.
        let mut asked = slot.selected.cloned();
        if let Some(selected) = &mut asked {
            made = addresses::apply(&mut chosen.conf, selected, &slot.field, is_default)?;
            addresses::require_blocks(&chosen.conf, selected, &slot.field)?;
            if made.has_ips {
                selected.ips.clear();
            }
        }
        if let Some(selected) = &asked {
            if args::merge(&mut chosen, selected, &slot.field)? {
                self.respell(&mut chosen)?;
            }
            self.check_declared(&chosen, selected, &slot.field)?;
            (added, unverified) = capabilities::through_args(&chosen.conf, selected);
        }
        let Given { device, unmet } = self.devices.give(&chosen, slot)?;
        self.bound.unmet.extend(unmet);
        let allocated = device.as_ref().filter(|device| device.resource.is_some());
        if let Some(Device { id, .. }) = allocated {
            for plugin in &mut chosen.conf.plugins {
                for key in ["deviceID", "pciBusID"] {
                    plugin.object.respell(key);
                    plugin.object.set(key, id);
                }
            }
        }
        let declares_file = chosen.conf.declares(DEVICE_INFO_FILE);
        let device_info_file = match declares_file || allocated.is_some() {
            true => Some(self.device_info_file(&chosen, &ifname)?),
            false => None,
        };
        let named = slot.selected.and_then(|selected| selected.target.alias());
        let by_name = || named.and_then(|alias| lookup::translated(self.request, format!("network {:?}", alias.name)));
        let translated = chosen.translated.clone().or_else(by_name);
        // A list of a dialect says what the pod starts with: nothing follows its edits.
        let followed = slot.selected.filter(|_| !is_default && translated.is_none());
        let base = self.request.runtime_config.filter(|_| is_default);
        let runtime_config = capabilities::offer(base, asked.as_ref(), device.as_ref(), device_info_file.as_ref());
        self.bound.attachments.push(Attachment {
            source: chosen.source,
            network: chosen.name,
            address_dir: chosen.address_dir,
            version: chosen.conf.version,
            disable_check: chosen.conf.disable_check,
            disable_gc: chosen.conf.disable_gc,
            ifname,
            plugins: chosen.conf.plugins,
            runtime_config,
            args: args::cni_args(self.request.args, &added),
            default_route: slot.selected.and_then(NetworkSelection::default_gateways),
            ipam_claim: slot.selected.and_then(|selected| selected.ipam_claim.clone()),
            routes: slot.selected.map(|selected| selected.routes.clone()).unwrap_or_default(),
            rules: slot.selected.map(|selected| selected.rules.clone()).unwrap_or_default(),
            without_ipv6: made.without_ipv6,
            address_set: slot.selected.and_then(|selected| selected.address_set.clone()),
            is_default,
            is_tenants: chosen.tenant,
            translated,
            device,
            device_info_file,
            unverified,
            selected: followed.map(|selected| NetworkSelection { interface: None, ..selected.clone() }.to_object()),
        });
        Ok(())
    }

    fn is_first(&self) -> bool {
        self.bound.attachments.is_empty() && self.request.growth.is_none()
    }

    /// `cni-args` may have added keys in another spelling.
    fn respell(&self, chosen: &mut Chosen) -> Result<(), Finding> {
        for i in 0..chosen.conf.plugins.len() {
            let field = chosen.plugin_field(i);
            (self.spell)(&mut chosen.conf.plugins[i]).map_err(|e| e.under(&field))?;
        }
        Ok(())
    }

    /// A15: a requested name does not free its number for another attachment. A16: a clash is refused before anything is made.
    fn name(&self, slot: &Slot<'_>) -> Result<IfName, BindError> {
        let field = format!("{}.interface", slot.field);
        let requested = slot.selected.and_then(|selected| selected.interface.clone());
        if self.is_first() {
            let given = self.request.ifname;
            return match requested.filter(|name| name != given) {
                None => Ok(given.clone()),
                Some(other) => {
                    Err(Finding::new(field, other, format!("{given}: the runtime names the default interface")).into())
                }
            };
        }
        let name = match requested {
            Some(name) => name,
            None => self.free_name().parse::<IfName>().map_err(|e| e.under(&field))?,
        };
        if RESERVED.contains(&name.as_str()) {
            let allowed = format!("a name other than {}", RESERVED.join(", "));
            return Err(Finding::new(field, name, allowed).of(Rule::InterfaceReserved).into());
        }
        match self.request.held().iter().chain(&self.bound.attachments).find(|earlier| earlier.ifname == name) {
            None => Ok(name),
            Some(earlier) => {
                let allowed = format!("a name that no earlier attachment has ({} has it)", earlier.source);
                let rule = if earlier.is_default { Rule::InterfaceReserved } else { Rule::InterfaceTaken };
                Err(Finding::new(field, name, allowed).of(rule).into())
            }
        }
    }

    /// The number in a name is the attachment's position. A running pod's attachments keep their names, so a new one gets the first
    /// that nobody has, nor asks for.
    fn free_name(&self) -> String {
        let Some(Growth { held, .. }) = self.request.growth else {
            return format!("net{}", self.bound.attachments.len());
        };
        let asked = self.request.selection.networks.iter().filter_map(|selected| selected.interface.as_ref());
        let names = held.iter().chain(&self.bound.attachments).map(|one| &one.ifname).chain(asked);
        let taken: BTreeSet<&str> = names.map(IfName::as_str).collect();
        let mut number = 1;
        while taken.contains(format!("net{number}").as_str()) {
            number += 1;
        }
        format!("net{number}")
    }

    fn check_declared(&mut self, chosen: &Chosen, selected: &NetworkSelection, field: &str) -> Result<(), BindError> {
        for finding in capabilities::undeclared(&chosen.conf, selected, field) {
            if self.request.rules.strict {
                return Err(finding.into());
            }
            self.bound.unmet.push(format!("{}: {finding}", chosen.source));
        }
        Ok(())
    }

    /// The path of the device information file (A31), in the directory of NPWG's Device Information specification.
    fn device_info_file(&self, chosen: &Chosen, ifname: &IfName) -> Result<String, Finding> {
        let name = format!("{}-{}_{ifname}", chosen.source, self.request.container).replace('/', "-");
        fits_file_name(&name, "the name of a device information file")
            .map_err(|finding| finding.under(&chosen.field))?;
        Ok(format!("{DEVICE_INFO_DIR}/{name}"))
    }
}
