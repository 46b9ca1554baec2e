//! Dialects: the annotations and objects by which other systems give a pod several networks, read as selections of ours.
//!
//! A dialect is a pure translation: annotation to [`NetworkSelection`]s, object to configuration. [`Selection::read`] is its only caller
//! for annotations, and binding its only caller for objects, so the engine, the agent, `explain` and `migrate` agree. Without the node
//! key `dialects` no key of a dialect is read and no object of one is followed.
//!
//! Another dialect is one file beside `genie` and these lines, which the compiler or a test asks for:
//!
//! - a variant of [`Dialect`], its word in [`Dialect::ALL`], and its settings in [`Dialects`];
//! - its arms in [`Dialects::key_of`], the annotation that it would read, and in [`Dialects::read_pod`], the elements as they are
//!   listed. Each element names its target: a definition, a definition by a name of the dialect ([`SelectionTarget::Alias`]), a file of
//!   the node ([`SelectionTarget::File`]) or an object of the dialect ([`SelectionTarget::Foreign`]). [`name_interfaces`] gives `ethN` to
//!   those without a name;
//! - what only its objects say of a list, in [`Dialects::settle`]: names, routes, the default network of a namespace;
//! - its kinds in [`Kind`], and how an object becomes a configuration in [`objects::configuration`];
//! - what it writes into pods, in `engine::network_status::beside` and among [`Dialect::writes`];
//! - its custom resource definitions, the agent's rights and the annotations that the agent may write, in `deploy/dialects`; a page in
//!   `docs/dialects`.
//!
//! The record holds the translated bytes: DEL, CHECK and GC know no dialect.
//!
//! [`Selection::read`]: crate::selection::Selection::read

pub mod alias;
pub mod danm;
pub mod files;
pub mod genie;
pub mod knitter;
pub mod objects;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::bind::BindError;
use crate::cni::object::Object;
use crate::finding::Finding;
use crate::names::{IfName, ObjectName};
#[cfg(doc)]
use crate::selection::SelectionTarget;
use crate::selection::{NetworkSelection, Selection};
use danm::Danm;
use genie::Genie;
use knitter::Knitter;
use objects::{ForeignRef, Kind, Objects};

/// The key of a node's configuration that lists dialects.
pub const DIALECTS: &str = "dialects";

/// The interface that a pod's own list must have: a runtime takes the pod's address from it.
pub const FIRST: &str = "eth0";

/// A dialect that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// DANM: annotations `danm.k8s.io/interfaces` and `danm.io/interfaces`, objects DanmNet, TenantNetwork and ClusterNetwork.
    Danm,
    /// CNI-Genie: annotations `cni` and `networks`, objects Logicalnetwork and Physicalnetwork.
    Genie,
    /// Knitter: annotation `networks`.
    Knitter,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Danm, Self::Genie, Self::Knitter];

    /// Its word in `dialects`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Danm => "danm",
            Self::Genie => "genie",
            Self::Knitter => "knitter",
        }
    }

    /// The annotations of a pod that it reads.
    pub fn reads(self) -> &'static [&'static str] {
        match self {
            Self::Danm => &danm::INTERFACES,
            Self::Genie => &[genie::CNI, genie::NETWORKS],
            Self::Knitter => &[knitter::NETWORKS],
        }
    }

    /// The annotations of a pod that it writes.
    pub fn writes(self) -> &'static [&'static str] {
        match self {
            Self::Danm => &[],
            Self::Genie => &[genie::CNI, genie::PREFERENCES],
            Self::Knitter => &[],
        }
    }

    /// The kinds of its objects.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Danm => &danm::KINDS,
            Self::Genie => &[Kind::Logicalnetwork, Kind::Physicalnetwork],
            Self::Knitter => &[],
        }
    }

    /// The kinds of its objects that say what pods may have of networks.
    pub fn limits(self) -> &'static [Kind] {
        match self {
            Self::Danm => &danm::LIMITS,
            Self::Genie | Self::Knitter => &[],
        }
    }

    /// The kinds of its objects that pods' networks are made of.
    pub fn networks(self) -> &'static [Kind] {
        match self {
            Self::Danm => &danm::NETWORKS,
            Self::Genie => &[Kind::Logicalnetwork, Kind::Physicalnetwork],
            Self::Knitter => &[],
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Dialect {
    type Err = Finding;

    fn from_str(text: &str) -> Result<Self, Finding> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| Finding::new("", format_args!("{text:?}"), "danm, genie or knitter"))
    }
}

/// The dialects that are on, with their settings. By default none is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialects {
    /// DANM's.
    pub danm: Option<Danm>,
    /// CNI-Genie's.
    pub genie: Option<Genie>,
    /// Knitter's.
    pub knitter: Option<Knitter>,
}

/// A pod's list in the words of a dialect, translated.
#[derive(Clone, Debug, PartialEq)]
pub struct PodList {
    /// Whose words they were.
    pub dialect: Dialect,
    /// The annotation that they are in; of a list that the node's configuration gives, its key.
    pub key: &'static str,
    /// True for a list that the node's configuration gives to every pod without one.
    pub is_nodes_own: bool,
    /// The networks in the order of the list.
    pub elements: Vec<NetworkSelection>,
    /// Where each element is, behind the key: `[0]`, `.ports[0]`.
    pub places: Vec<String>,
    /// What the pod asks for in vain.
    pub warnings: Vec<Finding>,
    /// True for a pod that leaves the choice of its network to the node.
    pub is_open: bool,
    /// The networks of which a pod without a list gets the first that there is, or the node's own default network where there is none.
    pub candidates: Vec<ForeignRef>,
}

impl Dialects {
    /// Reads `dialects` and the settings of each from a node's configuration.
    pub fn read(conf: &Object) -> Result<Self, Finding> {
        let words: Vec<String> = conf.decode(DIALECTS, "a list of dialects")?.unwrap_or_default();
        let mut dialects = Self::default();
        for (i, word) in words.iter().enumerate() {
            match word.parse().map_err(|e: Finding| e.under(&format!("{DIALECTS}[{i}]")))? {
                Dialect::Danm => dialects.danm = Some(Danm::read(conf)?),
                Dialect::Genie => dialects.genie = Some(Genie::read(conf)?),
                Dialect::Knitter => dialects.knitter = Some(Knitter::read(conf)?),
            }
        }
        Ok(dialects)
    }

    /// Those that are on.
    pub fn on(&self) -> impl Iterator<Item = Dialect> + '_ {
        Dialect::ALL.into_iter().filter(|dialect| match dialect {
            Dialect::Danm => self.danm.is_some(),
            Dialect::Genie => self.genie.is_some(),
            Dialect::Knitter => self.knitter.is_some(),
        })
    }

    /// Is none on?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The annotation of a pod that a dialect would read. `annotation` gives the text of one.
    pub fn key_of<'a>(&self, annotation: impl Fn(&str) -> Option<&'a str>) -> Option<&'static str> {
        let of_danm = self.danm.as_ref().map_or(&[][..], |_| &danm::INTERFACES);
        let of_genie = self.genie.as_ref().map_or(&[][..], |_| &[genie::CNI]);
        let listed = of_danm.iter().chain(of_genie).copied().find(|key| annotation(key).is_some());
        let knitters = || self.knitters(&annotation).filter(|(_, text)| !text.trim().is_empty());
        listed.or_else(|| knitters().map(|_| knitter::NETWORKS))
    }

    /// Knitter's annotation, where its dialect is on. CNI-Genie has another annotation of the same key: with both dialects on the first
    /// character tells whose it is, and a list in `cni` counts before it.
    fn knitters<'a>(&self, annotation: impl Fn(&str) -> Option<&'a str>) -> Option<(&Knitter, &'a str)> {
        let (knitter, text) = (self.knitter.as_ref()?, annotation(knitter::NETWORKS)?);
        let has_list = || annotation(genie::CNI).is_some_and(|list| !list.trim().is_empty());
        let is_its = self.genie.is_none() || (Knitter::is_meant(text) && !has_list());
        is_its.then_some((knitter, text))
    }

    /// A pod's list. None for a pod that no dialect has a word for: it gets what the node gives. A list of the pod's own counts before
    /// what a dialect gives to pods without one.
    pub fn read_pod<'a>(
        &self,
        annotation: impl Fn(&str) -> Option<&'a str>,
        pod_namespace: &ObjectName,
    ) -> Result<Option<PodList>, Finding> {
        let of_danm = match &self.danm {
            Some(danm) => danm.read_pod(&annotation, pod_namespace)?,
            None => None,
        };
        if of_danm.as_ref().is_some_and(|list| list.candidates.is_empty()) {
            return Ok(of_danm);
        }
        let other = match (self.knitters(&annotation), &self.genie) {
            (Some((knitter, text)), _) => knitter.read_pod(text, pod_namespace)?,
            (None, Some(genie)) => genie.read_pod(annotation, pod_namespace)?,
            (None, None) => None,
        };
        match other {
            Some(list) if !list.is_nodes_own => Ok(Some(list)),
            other => Ok(of_danm.or(other)),
        }
    }

    /// A selection with what the objects of its dialect say. One of NPWG, and one that is settled, stays as it is.
    pub fn settle(
        &self,
        selection: &Selection,
        objects: &Objects,
        pod_namespace: &ObjectName,
        strict: bool,
    ) -> Result<Selection, BindError> {
        match &self.danm {
            Some(danm) if !selection.is_settled() => danm.settle(selection, objects, pod_namespace, strict),
            _ => Ok(selection.clone()),
        }
    }
}

/// Gives the elements without a name for their interface the next free of `eth0`, `eth1` and so on. The names that elements ask for are
/// taken first; one that two ask for is refused.
pub fn name_interfaces(elements: &mut [NetworkSelection]) -> Result<(), Finding> {
    let mut taken: BTreeSet<IfName> = BTreeSet::new();
    for (i, element) in elements.iter().enumerate() {
        if let Some(name) = &element.interface
            && !taken.insert(name.clone())
        {
            return Err(Finding::new(format!("[{i}]"), name, "an interface that no other entry asks for"));
        }
    }
    let mut number = 0;
    for element in elements.iter_mut().filter(|element| element.interface.is_none()) {
        element.interface = loop {
            let name: IfName = format!("eth{number}").parse()?;
            number += 1;
            if taken.insert(name.clone()) {
                break Some(name);
            }
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(conf: &str) -> Result<Dialects, String> {
        Dialects::read(&Object::parse(conf.as_bytes()).unwrap()).map_err(|finding| finding.to_string())
    }

    #[test]
    fn a_node_reads_the_dialects_that_it_lists() {
        assert!(read("{}").unwrap().is_empty() && read(r#"{"dialects":[]}"#).unwrap().is_empty());
        let on = read(r#"{"dialects":["genie"]}"#).unwrap();
        assert_eq!(on.on().collect::<Vec<_>>(), [Dialect::Genie]);
        let both = read(r#"{"dialects":["knitter","genie"],"knitter":{"defaultNetwork":"net_api"}}"#).unwrap();
        assert_eq!(both.on().collect::<Vec<_>>(), [Dialect::Genie, Dialect::Knitter]);
        assert_eq!(both.knitter.unwrap().admin_namespace.as_str(), "admin");
        let refused = read(r#"{"dialects":["knitter"],"knitter":{"adminNamespace":"A"}}"#).unwrap_err();
        assert!(refused.starts_with("knitter.adminNamespace: got \"A\""), "{refused}");
        for (word, said) in [
            ("multus", r#"dialects[0]: got "multus", want danm, genie or knitter"#),
            ("Genie", r#"dialects[0]: got "Genie", want danm, genie or knitter"#),
        ] {
            assert_eq!(read(&format!(r#"{{"dialects":["{word}"]}}"#)).unwrap_err(), said);
        }
        assert!(read(r#"{"dialects":"genie"}"#).unwrap_err().starts_with("dialects: got \"genie\""));
    }

    #[test]
    fn a_word_reads_back_and_no_two_dialects_have_one() {
        for dialect in Dialect::ALL {
            assert_eq!(dialect.as_str().parse(), Ok(dialect));
        }
    }
}
