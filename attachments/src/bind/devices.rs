//! Hands out the devices that the kubelet allocated to the pod (R9, A30): one for each attachment of a definition that names a
//! resource.

use std::collections::{BTreeMap, BTreeSet};

use super::BindError;
use super::attachment::{Attachment, Device};
use super::lookup::Chosen;
use super::request::Slot;
use crate::definition::RESOURCE_NAME;
use crate::finding::Finding;
use crate::names::DeviceId;

/// The devices that were allocated to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// By resource name, in the order in which attachments take them.
    Told(BTreeMap<String, Vec<DeviceId>>),
    /// Who knows did not tell, and a later try may succeed: why.
    Unknown(String),
    /// Nobody knows: there is no agent, or the call is about no pod.
    Untold,
}

/// What is left of a pod's devices.
pub(super) struct Pool<'a> {
    allocation: &'a Allocation,
    /// The number of attachments of each resource.
    asked: BTreeMap<String, usize>,
    /// The devices that the annotation names: no attachment gets one by chance.
    named: BTreeSet<(String, DeviceId)>,
    given: BTreeSet<(String, DeviceId)>,
    namespace_isolation: bool,
}

/// What an attachment gets.
#[derive(Default)]
pub(super) struct Given {
    pub device: Option<Device>,
    /// Why there is none although the definition names a resource.
    pub unmet: Option<String>,
}

impl<'a> Pool<'a> {
    /// `held` is what a running pod has already: its devices are given.
    pub fn new(
        allocation: &'a Allocation,
        slots: &[Slot<'_>],
        chosen: &[Chosen],
        held: &[Attachment],
        namespace_isolation: bool,
    ) -> Self {
        let (mut asked, mut all_named, mut given) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        for device in held.iter().filter_map(|attachment| attachment.device.as_ref()) {
            let Some(resource) = &device.resource else { continue };
            *asked.entry(resource.clone()).or_default() += 1;
            given.insert((resource.clone(), device.id.clone()));
        }
        for (slot, chosen) in slots.iter().zip(chosen) {
            let Some(resource) = &chosen.resource else { continue };
            *asked.entry(resource.clone()).or_default() += 1;
            all_named.extend(named(slot).map(|id| (resource.clone(), id.clone())));
        }
        Self { allocation, asked, named: all_named, given, namespace_isolation }
    }

    /// The device of an attachment.
    pub fn give(&mut self, chosen: &Chosen, slot: &Slot<'_>) -> Result<Given, BindError> {
        let wrong = |id: &DeviceId, allowed: String| Finding::new(format!("{}.deviceID", slot.field), id, allowed);
        let (resource, named) = match (&chosen.resource, named(slot)) {
            (None, None) => return Ok(Given::default()),
            (None, Some(id)) => {
                let allowed = format!("no device: {} has no annotation {RESOURCE_NAME}", chosen.source);
                return Err(wrong(id, allowed).into());
            }
            (Some(resource), named) => (resource, named),
        };
        let allocated = match self.allocation {
            Allocation::Told(allocated) => allocated.get(resource).map(Vec::as_slice).unwrap_or_default(),
            Allocation::Unknown(reason) => {
                return Err(BindError::DevicesUnknown {
                    network: chosen.source.to_string(),
                    resource: resource.clone(),
                    reason: reason.clone(),
                });
            }
            Allocation::Untold => return self.untold(chosen, resource, named, wrong),
        };
        let id = match named {
            Some(id) if !allocated.contains(id) => {
                let listed: Vec<&str> = allocated.iter().map(DeviceId::as_str).collect();
                let allowed = format!("one of the pod's own devices of {resource} ({})", listed.join(", "));
                return Err(wrong(id, allowed).into());
            }
            Some(id) if self.given.contains(&(resource.clone(), id.clone())) => {
                return Err(wrong(id, "a device that no earlier network has".to_owned()).into());
            }
            Some(id) => id,
            None => {
                let is_free = |id: &&DeviceId| {
                    let one = (resource.clone(), (*id).clone());
                    !self.named.contains(&one) && !self.given.contains(&one)
                };
                match allocated.iter().find(is_free) {
                    Some(id) => id,
                    None => return Err(self.too_few(slot, resource, allocated.len()).into()),
                }
            }
        };
        self.given.insert((resource.clone(), id.clone()));
        Ok(Given { device: Some(Device { id: id.clone(), resource: Some(resource.clone()) }), unmet: None })
    }

    fn too_few(&self, slot: &Slot<'_>, resource: &str, given: usize) -> Finding {
        let asked = self.asked.get(resource).copied().unwrap_or_default();
        let allowed = format!(
            "{asked}, one for each network of {resource}: the limits of the pod's containers say how many it gets"
        );
        let plural = if given == 1 { "" } else { "s" };
        Finding::new(format!("{}: {resource}", slot.field), format_args!("{given} device{plural} of the pod"), allowed)
    }

    /// Whether a device that the annotation names is the pod's cannot be known, so never under isolation.
    fn untold(
        &self,
        chosen: &Chosen,
        resource: &str,
        named: Option<&DeviceId>,
        wrong: impl Fn(&DeviceId, String) -> Finding,
    ) -> Result<Given, BindError> {
        match named {
            Some(id) if self.namespace_isolation => {
                let allowed = "no device while namespaceIsolation is on: whether it is the pod's cannot be known";
                Err(wrong(id, allowed.to_owned()).into())
            }
            Some(id) => Ok(Given { device: Some(Device { id: id.clone(), resource: None }), unmet: None }),
            None => {
                let source = &chosen.source;
                let unmet =
                    format!("{source}: which devices of {resource} are the pod's is not known here, so it gets none");
                Ok(Given { device: None, unmet: Some(unmet) })
            }
        }
    }
}

/// The device that the annotation names.
fn named<'a>(slot: &Slot<'a>) -> Option<&'a DeviceId> {
    slot.selected.and_then(|selected| selected.device.as_ref())
}
