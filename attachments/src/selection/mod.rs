//! What a pod selects by its annotations: its networks, and the default network in place of the node's.
//!
//! [`Selection`] is the one reader of a pod's annotations: NPWG's here, those of other systems by [`crate::dialect`]. The elements of
//! all are [`NetworkSelection`]s.

mod addresses;
mod element;
mod npwg;
mod routing;
mod values;

use crate::dialect::alias::Alias;
use crate::dialect::objects::ForeignRef;
use crate::dialect::{Dialect, Dialects, FIRST, PodList, danm};
use crate::finding::Finding;
use crate::names::{NetRef, ObjectName};

pub use addresses::{ADDRESSES, AddressMode, AddressRequest};
pub use element::{ADDRESS_SET, NetworkSelection, ROLES, SelectionTarget, default_route_twice};
pub use npwg::{ELEMENT_KEYS, is_json, parse, parse_default, slips, unread_keys};
pub use routing::{AskedTwice, MOST as MOST_ROUTES, ROUTES, RULES, RequestedRoute, RequestedRule};
pub use values::{BANDWIDTH, PORT_MAPPING, address};

/// The annotation that lists a pod's networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The annotation that replaces the cluster's default network for one pod.
pub const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";
/// Longest annotation, in bytes: as much as Kubernetes gives all annotations of an object together.
pub const LONGEST: usize = 256 << 10;

/// What a pod selects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// The pod's own default network, in place of the node's.
    pub default_network: Option<NetworkSelection>,
    /// The pod's further networks, in order.
    pub networks: Vec<NetworkSelection>,
    /// Where a dialect has all of them from; absent for NPWG's annotations.
    pub translated: Option<Translated>,
    /// The annotation of a dialect that counts for nothing, because the pod has one of NPWG's too.
    pub ignored: Option<&'static str>,
    /// Requests that nothing fulfils and that are no error, one sentence each; known once the selection is settled.
    pub unmet: Vec<String>,
    /// What whoever runs the node should know, one sentence each; known once the selection is settled.
    pub warnings: Vec<String>,
}

/// Where the elements of a selection are in the words of a dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    /// Whose words they were.
    pub dialect: Dialect,
    /// The annotation, or the key of the node's configuration.
    pub key: &'static str,
    /// True for a list that the node's configuration gives: it is nobody's request.
    pub is_nodes_own: bool,
    /// True for a pod that leaves the choice of its network to the node. Then nothing is selected yet.
    pub is_open: bool,
    /// The networks of which a pod without a list gets the first that there is. Then nothing is selected yet.
    pub candidates: Vec<ForeignRef>,
    /// True once the objects have had their say: [`Dialects::settle`].
    pub is_settled: bool,
    /// Where each element is, the default network's first.
    places: Vec<Place>,
}

/// Where an element is in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// How many are before it.
    number: usize,
    /// Its field, behind the key.
    field: String,
}

impl Selection {
    /// Reads a pod's annotations; `annotation` gives the text of one. `multus_namespace` is where the default network's
    /// definition is looked up when the annotation names no namespace. Fails with the first thing that is wrong.
    ///
    /// The words of a dialect count where it is on and the pod has no annotation of NPWG.
    ///
    /// ```
    /// use attachments::dialect::Dialects;
    /// use attachments::selection::{NETWORKS, Selection};
    ///
    /// let networks = "blue, lan@eth7";
    /// let annotation = |key: &str| (key == NETWORKS).then_some(networks);
    /// let selection = Selection::from_annotations(annotation, &"shop".parse()?, &"kube-system".parse()?, &Dialects::default())?;
    /// let wanted: Vec<String> = selection.definitions().map(|definition| definition.to_string()).collect();
    /// assert_eq!(wanted, ["shop/blue", "shop/lan"]);
    /// assert_eq!(selection.networks[1].interface, Some("eth7".parse()?));
    /// # Ok::<(), attachments::finding::Finding>(())
    /// ```
    pub fn from_annotations<'a>(
        annotation: impl Fn(&str) -> Option<&'a str>,
        pod_namespace: &ObjectName,
        multus_namespace: &ObjectName,
        dialects: &Dialects,
    ) -> Result<Self, Finding> {
        let (selection, findings) = Self::read(annotation, pod_namespace, multus_namespace, dialects);
        findings.into_iter().next().map_or(Ok(selection), Err)
    }

    /// The same for readers that go on: what can be read, and one finding for each annotation that cannot. The path of a
    /// finding begins with the annotation's name.
    pub fn read<'a>(
        annotation: impl Fn(&str) -> Option<&'a str>,
        pod_namespace: &ObjectName,
        multus_namespace: &ObjectName,
        dialects: &Dialects,
    ) -> (Self, Vec<Finding>) {
        let (mut selection, mut findings) = (Self::default(), Vec::new());
        match annotation(NETWORKS).map(|text| parse(NETWORKS, text, pod_namespace)) {
            Some(Ok(networks)) => selection.networks = networks,
            Some(Err(finding)) => findings.push(finding),
            None => {}
        }
        let default_network = annotation(DEFAULT_NETWORK).filter(|text| !text.trim().is_empty());
        match default_network.map(|text| parse_default(text, multus_namespace)) {
            Some(Ok(network)) => selection.default_network = Some(network),
            Some(Err(finding)) => findings.push(finding),
            None => {}
        }
        if annotation(NETWORKS).is_some() || default_network.is_some() {
            selection.ignored = dialects.key_of(&annotation);
            return (selection, findings);
        }
        match dialects.read_pod(&annotation, pod_namespace) {
            Ok(Some(list)) => selection = Self::of_list(list),
            Ok(None) => {}
            Err(finding) => findings.push(finding),
        }
        (selection, findings)
    }

    /// The first interface of the list is the pod's default network, wherever it is listed.
    fn of_list(list: PodList) -> Self {
        let PodList { dialect, key, is_nodes_own, elements, places, warnings, is_open, candidates } = list;
        let places = places.into_iter().enumerate().map(|(number, field)| Place { number, field });
        let is_first =
            |(_, one): &(Place, NetworkSelection)| one.interface.as_ref().is_some_and(|name| name.as_str() == FIRST);
        let (first, others): (Vec<_>, Vec<_>) = places.zip(elements).partition(is_first);
        let places = first.iter().chain(&others).map(|(place, _)| place.clone()).collect();
        Self {
            default_network: first.into_iter().next().map(|(_, element)| element),
            networks: others.into_iter().map(|(_, element)| element).collect(),
            translated: Some(Translated { dialect, key, is_nodes_own, is_open, candidates, is_settled: false, places }),
            ignored: None,
            unmet: warnings.iter().map(ToString::to_string).collect(),
            warnings: Vec::new(),
        }
    }

    /// Does the pod itself ask for it? A list that the node gives to every pod is nobody's request.
    pub fn is_pods_own(&self) -> bool {
        !self.translated.as_ref().is_some_and(|translated| translated.is_nodes_own)
    }

    /// Does nothing wait for the objects of a dialect? Those of CNI-Genie say nothing that binding does not ask them.
    pub fn is_settled(&self) -> bool {
        let waits = |translated: &Translated| translated.dialect == Dialect::Danm && !translated.is_settled;
        !self.translated.as_ref().is_some_and(waits)
    }

    /// The place in the list of an element of [`Selection::elements`].
    pub(crate) fn place(&self, element: usize) -> usize {
        self.translated.as_ref().and_then(|one| one.places.get(element)).map_or(element, |place| place.number)
    }

    /// Only the element at this place among [`Selection::elements`], as if nothing stood beside it.
    pub fn alone(&self, place: usize) -> Self {
        let translated = self.translated.clone().map(|translated| {
            let places = translated.places.get(place).cloned().into_iter().collect();
            Translated { places, ..translated }
        });
        let first = usize::from(self.default_network.is_some());
        match place.checked_sub(first) {
            None => Self { default_network: self.default_network.clone(), translated, ..Self::default() },
            Some(i) => {
                Self { networks: self.networks.get(i).cloned().into_iter().collect(), translated, ..Self::default() }
            }
        }
    }

    /// The field of the default network in its annotation, for messages.
    pub(crate) fn default_field(&self) -> String {
        match &self.translated {
            None => format!("{DEFAULT_NETWORK}[0]"),
            Some(translated) => translated.field(0),
        }
    }

    /// The same of a further network.
    pub(crate) fn network_field(&self, i: usize) -> String {
        match &self.translated {
            None => format!("{NETWORKS}[{i}]"),
            Some(translated) => translated.field(usize::from(self.default_network.is_some()) + i),
        }
    }

    /// Every element, the default network's first.
    pub fn elements(&self) -> impl Iterator<Item = &NetworkSelection> {
        self.default_network.iter().chain(&self.networks)
    }

    /// The same, each with its path in the pod.
    pub fn placed_elements(&self) -> impl Iterator<Item = (String, &NetworkSelection)> {
        let default = self.default_network.iter().map(|one| (self.default_path(), one));
        let networks = self.networks.iter().enumerate();
        default.chain(networks.map(|(i, one)| (self.network_path(i), one)))
    }

    fn default_path(&self) -> String {
        match &self.translated {
            None => format!("metadata.annotations[{DEFAULT_NETWORK}]"),
            Some(translated) => translated.path(0),
        }
    }

    fn network_path(&self, i: usize) -> String {
        match &self.translated {
            None => format!("metadata.annotations[{NETWORKS}][{i}]"),
            Some(translated) => translated.path(usize::from(self.default_network.is_some()) + i),
        }
    }

    /// The definitions that are named, as often as they are.
    pub fn definitions(&self) -> impl Iterator<Item = &NetRef> {
        self.elements().filter_map(|element| element.target.definition())
    }

    /// The names of a dialect for definitions, as often as they are given.
    pub fn aliases(&self) -> impl Iterator<Item = &Alias> {
        self.elements().filter_map(|element| element.target.alias())
    }

    /// Takes what was found for each of [`Self::aliases`]: from here on they are definitions.
    pub fn name_definitions(&mut self, find: impl Fn(&Alias) -> Vec<NetRef>) {
        for element in self.default_network.iter_mut().chain(&mut self.networks) {
            if let SelectionTarget::Alias { alias, found } = &mut element.target {
                *found = find(alias);
            }
        }
    }

    /// The objects of a dialect that are named, as often as they are.
    pub fn objects(&self) -> impl Iterator<Item = &ForeignRef> {
        self.elements()
            .flat_map(|element| element.target.foreign().into_iter().chain(element.reserved.iter().flatten()))
    }

    /// The objects of a dialect that count if they are there.
    pub fn candidates(&self) -> Vec<ForeignRef> {
        if self.is_settled() {
            return Vec::new();
        }
        let candidates = self.translated.iter().flat_map(|translated| &translated.candidates).cloned();
        candidates.chain(self.objects().filter_map(danm::twin)).collect()
    }
}

impl Translated {
    fn field(&self, element: usize) -> String {
        match self.places.get(element) {
            Some(place) => format!("{}{}", self.key, place.field),
            None => self.key.to_owned(),
        }
    }

    fn path(&self, element: usize) -> String {
        let field = self.field(element);
        if self.is_nodes_own || !self.candidates.is_empty() {
            return field;
        }
        field.replacen(self.key, &format!("metadata.annotations[{}]", self.key), 1)
    }
}

#[cfg(test)]
mod tests;
