//! What a pod's metadata says about its networks.

use std::net::IpAddr;
use std::sync::Arc;

use attachments::dialect::objects::ForeignRef;
use attachments::names::{Mac, NetRef, ObjectName};
use attachments::selection::{LONGEST, NetworkSelection, Selection, address};
use attachments::status::NETWORK_STATUS;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// A pod as messages name it: `namespace/name`.
pub type PodName = Arc<str>;

/// The label that the pods of one virtual machine share while it moves.
const MACHINE: &str = "vm.kubevirt.io/name";

/// More attachments and addresses of one pod than are kept: sizes of annotations are checked where they are written, by whom
/// we are not always asked.
const MOST: usize = 256;

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: ObjectName,
    /// To whom it belongs.
    pub owner: Owner,
    /// Its further networks, in order.
    pub attached: Vec<Attached>,
    /// The objects of dialects that it names, as often as it does.
    pub foreign: Vec<ForeignRef>,
}

/// What makes two pods one workload that moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The uid of the controller.
    pub controller: Option<Box<str>>,
    /// The virtual machine.
    pub machine: Option<Box<str>>,
}

/// One attachment of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    /// The definition.
    pub network: NetRef,
    /// Addresses that were asked for or given.
    pub addresses: Vec<IpAddr>,
    /// Hardware addresses, likewise.
    pub macs: Vec<Mac>,
    /// The IPAMClaim.
    pub claim: Option<ObjectName>,
}

impl Owner {
    /// Reads a pod's metadata.
    pub fn read(metadata: &ObjectMeta) -> Self {
        let controller = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let machine = metadata.labels.as_ref().and_then(|labels| labels.get(MACHINE));
        Self {
            controller: controller.map(|owner| owner.uid.as_str().into()),
            machine: machine.map(|name| name.as_str().into()),
        }
    }

    /// May the two hold one address for a while, as in a rollout or a live migration?
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |a: &Option<Box<str>>, b: &Option<Box<str>>| a.is_some() && a == b;
        same(&self.controller, &other.controller) || same(&self.machine, &other.machine)
    }
}

impl Pod {
    /// Reads a pod's metadata. What its annotations do not say as they should is left out: whoever wrote them was told.
    pub fn read(metadata: &ObjectMeta, selection: &Selection, namespace: ObjectName) -> Self {
        let annotation = |key: &str| metadata.annotations.as_ref()?.get(key).map(String::as_str);
        let mut attached: Vec<Attached> = selection.elements().take(MOST).filter_map(Attached::asked).collect();
        if let Some(text) = annotation(NETWORK_STATUS).filter(|text| text.len() <= LONGEST) {
            given(text, &mut attached);
        }
        for one in &mut attached {
            one.addresses.shrink_to_fit();
            one.macs.shrink_to_fit();
        }
        attached.shrink_to_fit();
        let foreign = selection.objects().take(MOST).cloned().collect();
        Self { namespace, owner: Owner::read(metadata), attached, foreign }
    }
}

impl Attached {
    fn asked(selected: &NetworkSelection) -> Option<Self> {
        Some(Self {
            network: selected.target.definition()?.clone(),
            addresses: selected.ips.iter().take(MOST).filter_map(|ip| address(ip)).collect(),
            macs: selected.mac.into_iter().collect(),
            claim: selected.ipam_claim.clone(),
        })
    }
}

/// Adds what `network-status` reports. Its entries name the definition; of several attachments to one, in their order.
fn given(text: &str, attached: &mut [Attached]) {
    let entries: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let mut told: Vec<usize> = Vec::new();
    for entry in entries.iter().take(MOST) {
        let Some((namespace, name)) = entry["name"].as_str().and_then(|name| name.split_once('/')) else { continue };
        let is_it = |(i, one): &(usize, &Attached)| {
            !told.contains(i) && one.network.namespace.as_str() == namespace && one.network.name.as_str() == name
        };
        let Some(i) = attached.iter().enumerate().find(is_it).map(|(i, _)| i) else { continue };
        told.push(i);
        let one = &mut attached[i];
        for address in entry["ips"].as_array().into_iter().flatten().filter_map(Value::as_str).filter_map(address) {
            if one.addresses.len() < MOST && !one.addresses.contains(&address) {
                one.addresses.push(address);
            }
        }
        if let Some(mac) = entry["mac"].as_str().and_then(|mac| mac.parse().ok())
            && !one.macs.contains(&mac)
        {
            one.macs.push(mac);
        }
    }
}
