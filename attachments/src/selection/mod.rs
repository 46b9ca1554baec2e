//! What a pod selects by its annotations: its networks, and the default network in place of the node's.
//!
//! [`Selection`] is the one reader of a pod's annotations. Another dialect is one more file beside `npwg`, whose elements
//! are [`NetworkSelection`] too.

mod addresses;
mod element;
mod npwg;
mod routing;
mod values;

use crate::finding::Finding;
use crate::names::{NetRef, ObjectName};

pub use addresses::{ADDRESSES, AddressMode, AddressRequest};
pub use element::{ADDRESS_SET, NetworkSelection, SelectionTarget, default_route_twice};
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
}

impl Selection {
    /// Reads a pod's annotations; `annotation` gives the text of one. `multus_namespace` is where the default network's
    /// definition is looked up when the annotation names no namespace. Fails with the first thing that is wrong.
    ///
    /// ```
    /// use attachments::selection::{NETWORKS, Selection};
    ///
    /// let networks = "blue, lan@eth7";
    /// let annotation = |key: &str| (key == NETWORKS).then_some(networks);
    /// let selection = Selection::from_annotations(annotation, &"shop".parse()?, &"kube-system".parse()?)?;
    /// let wanted: Vec<String> = selection.definitions().map(|definition| definition.to_string()).collect();
    /// assert_eq!(wanted, ["shop/blue", "shop/lan"]);
    /// assert_eq!(selection.networks[1].interface, Some("eth7".parse()?));
    /// # Ok::<(), attachments::finding::Finding>(())
    /// ```
    pub fn from_annotations<'a>(
        annotation: impl Fn(&str) -> Option<&'a str>,
        pod_namespace: &ObjectName,
        multus_namespace: &ObjectName,
    ) -> Result<Self, Finding> {
        let (selection, findings) = Self::read(annotation, pod_namespace, multus_namespace);
        findings.into_iter().next().map_or(Ok(selection), Err)
    }

    /// The same for readers that go on: what can be read, and one finding for each annotation that cannot. The path of a
    /// finding begins with the annotation's name.
    pub fn read<'a>(
        annotation: impl Fn(&str) -> Option<&'a str>,
        pod_namespace: &ObjectName,
        multus_namespace: &ObjectName,
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
        (selection, findings)
    }

    /// Every element, the default network's first.
    pub fn elements(&self) -> impl Iterator<Item = &NetworkSelection> {
        self.default_network.iter().chain(&self.networks)
    }

    /// The same, each with its path in the pod.
    pub fn placed_elements(&self) -> impl Iterator<Item = (String, &NetworkSelection)> {
        let default = self.default_network.iter().map(|one| (format!("metadata.annotations[{DEFAULT_NETWORK}]"), one));
        let networks = self.networks.iter().enumerate();
        default.chain(networks.map(|(i, one)| (format!("metadata.annotations[{NETWORKS}][{i}]"), one)))
    }

    /// The definitions that are named, as often as they are.
    pub fn definitions(&self) -> impl Iterator<Item = &NetRef> {
        self.elements().filter_map(|element| element.target.definition())
    }
}

#[cfg(test)]
mod tests;
