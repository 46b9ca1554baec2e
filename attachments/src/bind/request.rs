//! The request: the node's networks, the pod's selection, and the rules between them. Nothing is looked up yet.

use std::collections::{BTreeMap, BTreeSet};

use super::{Attachment, BindError, BuiltIn};
use crate::cni::conf::NetworkConf;
use crate::cni::object::Object;
use crate::definition::Definition;
use crate::dialect::Dialect;
use crate::dialect::objects::ForeignRef;
use crate::finding::Finding;
use crate::names::{ConfName, ContainerId, IfName, NetRef, NetworkName, ObjectName, PluginType, PodRef};
use crate::rule::Rule;
use crate::selection::{AskedTwice, NETWORKS, NetworkSelection, Selection, SelectionTarget, default_route_twice};

/// The node's rules, from its configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `namespaceIsolation`: a pod may only refer to its own and to global namespaces.
    pub namespace_isolation: bool,
    /// `globalNamespaces`, trimmed; the default is `default`.
    pub global_namespaces: Vec<String>,
    /// `multusNamespace`: home of the definitions that the node's configuration names.
    pub multus_namespace: ObjectName,
    /// `systemNamespaces`: their pods get no `defaultNetworks`.
    pub system_namespaces: Vec<String>,
    /// `strict`: a capability that nobody declares is an error, not a warning (A2).
    pub strict: bool,
    /// `pathRoots`: absolute directories below which a definition's paths must lie.
    pub path_roots: Vec<String>,
    /// Every type that is built in.
    pub built_in: Vec<BuiltIn>,
    /// `programs`: the external types that definitions may use; absent means all.
    pub programs: Option<Vec<PluginType>>,
    /// `maxAttachments`: the most networks that a pod may ask for beside its default network.
    pub max_attachments: usize,
    /// The dialect of DANM is on: definitions may name a VLAN of their master in its way.
    pub danm_links: bool,
    /// `maxChain`: the most plugins that a definition may list.
    pub max_chain: usize,
}

impl Rules {
    /// The built-in type, if this node runs it in process.
    pub(super) fn in_process(&self, kind: &str) -> Option<&BuiltIn> {
        self.built_in.iter().find(|known| known.kind == kind && known.is_on)
    }

    /// May every pod refer to this namespace?
    pub(super) fn is_global(&self, namespace: &ObjectName) -> bool {
        self.global_namespaces.iter().any(|name| name == namespace.as_str())
    }
}

/// A network that the node's configuration names.
#[derive(Clone, Debug)]
pub enum Network {
    /// The configuration itself: an inline delegate, or the file of a `clusterNetwork` that is a path.
    Conf(NetworkConf),
    /// A definition of `multusNamespace`, or else a file of `confDir` with this network name.
    Named(NetworkName),
}

/// Everything about a pod's attachments that is known before the lookups.
#[derive(Clone, Debug)]
pub struct BindRequest<'a> {
    /// The pod.
    pub pod: &'a PodRef,
    /// CNI_CONTAINERID.
    pub container: &'a ContainerId,
    /// CNI_IFNAME: the interface of the default network.
    pub ifname: &'a IfName,
    /// CNI_ARGS as given, in pairs.
    pub args: &'a [(String, String)],
    /// `runtimeConfig` as given: for the default network only (R35).
    pub runtime_config: Option<&'a Object>,
    /// `delegates`, or `clusterNetwork` alone. The first is the default network. At least one.
    pub delegates: &'a [Network],
    /// `defaultNetworks`.
    pub default_networks: &'a [Network],
    /// What the pod selects. Its default network takes the place of the first delegate.
    pub selection: &'a Selection,
    /// The chain of `auxiliaryCNIChainName`, attached last.
    pub auxiliary: Option<&'a NetworkConf>,
    /// The node's rules.
    pub rules: &'a Rules,
    /// What a running pod has already; absent for a pod that comes.
    pub growth: Option<Growth<'a>>,
}

/// A running pod gets further attachments: those alone are bound.
#[derive(Clone, Copy, Debug)]
pub struct Growth<'a> {
    /// What the pod has, also what goes once the new ones are there. Their names are taken, and so are their devices.
    pub held: &'a [Attachment],
    /// The elements of the selection's networks that are new, by position.
    pub added: &'a [usize],
}

/// A future attachment. Its position among all slots is the number in its interface's name (A15).
#[derive(Debug)]
pub(super) struct Slot<'a> {
    pub origin: Origin<'a>,
    pub selected: Option<&'a NetworkSelection>,
    /// Path of its selection, in an annotation or in the node's configuration.
    pub field: String,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    Conf(&'a NetworkConf),
    Named(&'a NetworkName),
    Definition(&'a NetRef),
    NodeFile(&'a NetworkName),
    File(&'a ConfName),
    Foreign(&'a ForeignRef),
}

impl<'a> BindRequest<'a> {
    /// The definitions to look up, each once. Isolation and the number of networks are checked first: a definition that the
    /// pod may not name is not looked up.
    pub fn references(&self) -> Result<BTreeSet<NetRef>, BindError> {
        let (asked, most) = (self.selection.networks.len(), self.rules.max_attachments);
        if asked > most {
            let allowed = format!("at most {most} (maxAttachments)");
            let field = self.selection.translated.as_ref().map_or(NETWORKS, |translated| translated.key);
            let finding = Finding::new(field, format_args!("{asked} networks"), allowed);
            return Err(finding.of(Rule::TooManyNetworks).into());
        }
        let slots = self.slots();
        for selected in slots.iter().filter_map(|slot| slot.selected).filter(|_| self.selection.is_pods_own()) {
            self.check_isolation(&selected.target)?;
        }
        Ok(slots.iter().filter_map(|slot| self.definition_of(slot.origin)).collect())
    }

    /// True when a network's configuration can only be in a file of `confDir`.
    pub fn needs_files(&self, definitions: &BTreeMap<NetRef, Definition>) -> bool {
        self.slots().iter().any(|slot| {
            match self.definition_of(slot.origin).and_then(|reference| definitions.get(&reference)) {
                Some(definition) => definition.inline().is_none(),
                None => matches!(slot.origin, Origin::Named(_) | Origin::NodeFile(_)),
            }
        })
    }

    /// True when a dialect names files of the node, or objects that are made of them.
    pub fn needs_node_files(&self) -> bool {
        let of_dialect =
            |target: &SelectionTarget| matches!(target, SelectionTarget::File(_) | SelectionTarget::Foreign(_));
        self.selection.elements().any(|selected| of_dialect(&selected.target))
    }

    /// All attachments in the order of ADD, the default network first.
    pub(super) fn slots(&self) -> Vec<Slot<'a>> {
        let node = |key: &'static str| {
            move |(i, network): (usize, &'a Network)| {
                let origin = match network {
                    Network::Conf(conf) => Origin::Conf(conf),
                    Network::Named(name) => Origin::Named(name),
                };
                Slot { origin, selected: None, field: format!("{key}[{i}]") }
            }
        };
        let pod = |selected: &'a NetworkSelection, field: String| Slot {
            origin: match &selected.target {
                SelectionTarget::Definition(reference) => Origin::Definition(reference),
                SelectionTarget::NodeFile(name) => Origin::NodeFile(name),
                SelectionTarget::File(name) => Origin::File(name),
                SelectionTarget::Foreign(reference) => Origin::Foreign(reference),
            },
            selected: Some(selected),
            field,
        };
        let selection = self.selection;
        let listed = |(i, selected)| pod(selected, selection.network_field(i));
        let Selection { default_network, networks, .. } = selection;
        if let Some(Growth { added, .. }) = self.growth {
            let new = networks.iter().enumerate().filter(|(i, _)| added.contains(i));
            return new.map(listed).collect();
        }
        let replaced = usize::from(default_network.is_some());
        let system = self.rules.system_namespaces.iter().any(|name| name == self.pod.namespace.as_str());
        let default_networks = if system { &[] } else { self.default_networks };
        let mut slots: Vec<Slot<'a>> = Vec::with_capacity(self.delegates.len() + networks.len());
        slots.extend(default_network.iter().map(|selected| pod(selected, selection.default_field())));
        slots.extend(self.delegates.iter().enumerate().skip(replaced).map(node("delegates")));
        slots.extend(default_networks.iter().enumerate().map(node("defaultNetworks")));
        slots.extend(networks.iter().enumerate().map(listed));
        let auxiliary =
            |conf| Slot { origin: Origin::Conf(conf), selected: None, field: "auxiliaryCNIChainName".into() };
        slots.extend(self.auxiliary.map(auxiliary));
        slots
    }

    /// What a running pod has already.
    pub(super) fn held(&self) -> &'a [Attachment] {
        self.growth.map_or(&[], |growth| growth.held)
    }

    /// The definition of an attachment, if it exists.
    pub(super) fn definition_of(&self, origin: Origin<'_>) -> Option<NetRef> {
        match origin {
            Origin::Conf(_) | Origin::NodeFile(_) | Origin::File(_) | Origin::Foreign(_) => None,
            Origin::Definition(reference) => Some(reference.clone()),
            // A network's name may hold characters that an object's may not. Such a network can only be a file.
            Origin::Named(name) => {
                let name = name.as_str().parse::<ObjectName>().ok()?;
                Some(NetRef { namespace: self.rules.multus_namespace.clone(), name })
            }
        }
    }

    /// Does the node's configuration name this definition? Then the definition is the node's own text.
    pub(super) fn is_named_by_node(&self, reference: &NetRef) -> bool {
        self.delegates.iter().chain(self.default_networks).any(|network| match network {
            Network::Conf(_) => false,
            Network::Named(name) => self.definition_of(Origin::Named(name)).as_ref() == Some(reference),
        })
    }

    /// The names of the node's own networks that its configuration has.
    pub(super) fn own_networks(&self) -> impl Iterator<Item = &'a NetworkName> {
        let networks = self.delegates.iter().chain(self.default_networks).filter_map(|network| match network {
            Network::Conf(conf) => conf.name.as_ref(),
            Network::Named(name) => Some(name),
        });
        networks.chain(self.auxiliary.and_then(|conf| conf.name.as_ref()))
    }

    /// R34, A36. Isolation applies to the default-network annotation too.
    fn check_isolation(&self, target: &SelectionTarget) -> Result<(), BindError> {
        let pod = &self.pod.namespace;
        match target {
            _ if !self.rules.namespace_isolation => Ok(()),
            SelectionTarget::Definition(NetRef { namespace, .. })
                if namespace == pod || self.rules.is_global(namespace) =>
            {
                Ok(())
            }
            SelectionTarget::Definition(network) => {
                Err(BindError::Isolated { pod: pod.clone(), network: network.clone() })
            }
            // The pod's own namespace, or the cluster: a network of DANM says whose pods it is for.
            SelectionTarget::Foreign(reference) if reference.kind.dialect() == Some(Dialect::Danm) => Ok(()),
            // An object of CNI-Genie stands for a file of the node.
            target @ (SelectionTarget::NodeFile(_) | SelectionTarget::File(_) | SelectionTarget::Foreign(_)) => {
                Err(BindError::IsolatedNodeFile { pod: pod.clone(), name: target.to_string() })
            }
        }
    }

    /// Routes and rules across both annotations, alike.
    pub(super) fn check_routing(&self) -> Result<(), Finding> {
        let slots = self.slots();
        match AskedTwice::find(slots.iter().map(|slot| slot.selected)) {
            None => Ok(()),
            Some(twice) => Err(twice.finding(|i| slots[i].field.clone())),
        }
    }

    /// R21 across both annotations: the parser sees one annotation only.
    pub(super) fn check_default_route(&self) -> Result<(), Finding> {
        let slots = self.slots();
        match default_route_twice(slots.iter().map(|slot| slot.selected)) {
            None => Ok(()),
            Some((first, second, family)) => Err(Finding::new(
                format!("{}.{}", slots[second].field, slots[second].selected.map_or("", |one| one.default_route_key())),
                "a second time",
                format!(
                    "a family that no other element takes: {} takes the {family} default route",
                    slots[first].field
                ),
            )
            .of(Rule::DefaultRoute)),
        }
    }
}
