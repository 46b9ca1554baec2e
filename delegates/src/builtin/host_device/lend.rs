//! How a link of the node goes to a pod for a while, and back: for every delegate that lends.

use attachments::cni::object::Object;
use attachments::finding::Finding;
use attachments::names::IfName;
use nix::errno::Errno;

use super::config::Selector;
use super::find::{self, Selected};
use super::home::End;
use super::saved_device::SavedDevice;
use crate::apply;
use crate::call::Call;
use crate::error::{Error, Result};
use crate::host::{Astray, Host};
use crate::nl::link::Link;
use crate::node_links;
use crate::sandbox::Sandbox;
use crate::saved_states::SavedStates;

/// A link of the node that is in the pod now.
pub(in crate::builtin) struct Lent {
    device: SavedDevice,
    /// The link as the pod has it.
    pub link: Link,
}

impl Lent {
    /// Gives it back, because the attachment has failed. What is said of that is the cause; DEL does this again.
    pub(in crate::builtin) fn take_back(&self, host: &mut Host<'_>, sandbox: &mut Sandbox) {
        let _ = self.device.end(host, Some(sandbox));
    }
}

/// The node's own links are not lent to tenants.
pub(in crate::builtin) fn refuse_own(host: &mut Host<'_>, call: &Call<'_>, selector: &Selector) -> Result<()> {
    if !call.origin.is_tenants {
        return Ok(());
    }
    let links = host.netlink()?.links(None)?;
    match find::select(&links, selector) {
        Ok(Selected { key, value, link: Some(link) }) => node_links::keep(host, call, link, |reason| {
            Finding::new(key, value, format!("a device that is not the node's own: {reason}"))
        }),
        Ok(Selected { link: None, .. }) | Err(_) => Ok(()),
    }
}

/// The link is on the node and in nobody's use.
pub(in crate::builtin) fn require_unused(host: &mut Host<'_>, selector: &Selector) -> Result<()> {
    find::device(host.netlink()?, selector).map(drop)
}

/// Moves a link of the node into the pod, where the name must be free. How it was is in the record before it is touched.
/// A failure gives it back.
pub(in crate::builtin) fn lend(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    call: &Call<'_>,
    selector: &Selector,
    name: &IfName,
) -> Result<Lent> {
    let link = returned(host, selector)?;
    // One address, and one PCI device, may have several links; and a device that has just come home has its addresses again.
    refuse_own(host, call, selector)?;
    apply::require_free(sandbox, name)?;
    let device = SavedDevice::of(host, sandbox, &link)?;
    host.save(&device.state())?;
    let lent = device.lend(host, sandbox, name);
    if apply::is(&lent, Errno::ENODEV) {
        // Another ADD was quicker: that one has to give it back.
        let _ = host.save(&device.returned());
    }
    let lent = lent.and_then(|()| sandbox.made(name));
    match &lent {
        // The first error tells more than one of the way back would; DEL does this again.
        Err(_) if !apply::is(&lent, Errno::ENODEV) => drop(device.end(host, Some(sandbox))),
        _ => {}
    }
    lent.map(|link| Lent { device, link })
}

/// Gives back all that a record says is lent; the first failure is the error.
pub(in crate::builtin) fn give_back(
    host: &mut Host<'_>,
    mut sandbox: Option<&mut Sandbox>,
    saved: &[&Object],
) -> Result<()> {
    let mut given = Ok(());
    for device in &SavedDevice::unreturned(saved.iter().copied())? {
        given = given.and(end(host, sandbox.as_deref_mut(), device));
    }
    given
}

/// The device, once no other sandbox has to give it back: how it was is in that sandbox's record alone. An undo that was
/// begun there and left is finished first.
fn returned(host: &mut Host<'_>, selector: &Selector) -> Result<Link> {
    for _ in 0..FINISHED_AT_MOST {
        // Asked before the link is looked at: what is given back in between is whole when it is.
        let held = host.held_by_others();
        let found = find::device(host.netlink()?, selector);
        let mut holders = held.iter().filter(|held| is_held(held, selector, found.as_ref().ok()));
        let Some(first) = holders.clone().next() else { return found };
        if !holders.any(|holder| host.finish(holder)) {
            return Err(Error::Busy(format!(
                "device {}: sandbox {} has to give it back first, and its DEL is not finished",
                found?.name, first.container
            )));
        }
    }
    find::device(host.netlink()?, selector)
}

/// Records that are finished for one ADD: more than one only where two ADDs wanted one device.
const FINISHED_AT_MOST: usize = 4;

/// Is the device lent by a record? What is not on the node is known by what the configuration says of it.
fn is_held(held: &SavedStates, selector: &Selector, found: Option<&Link>) -> bool {
    // A state that cannot be read is that record's trouble.
    let lent = SavedDevice::unreturned(&held.states).unwrap_or_default();
    lent.iter().any(|device| match (found, selector) {
        (Some(link), _) => device.is_about(link),
        (None, Selector::Name(name)) => device.name == *name,
        (None, Selector::Mac(mac)) => device.mac == Some(*mac),
        (None, Selector::Path(_) | Selector::Pci(_) | Selector::Auxiliary(_)) => device.hardware.is_some(),
    })
}

/// Gives a device back, and tells where the device is when it is not back.
pub(super) fn end(host: &mut Host<'_>, sandbox: Option<&mut Sandbox>, device: &SavedDevice) -> Result<()> {
    let ended = device.end(host, sandbox);
    match ended {
        Ok(End::Over) => {}
        Ok(End::Missing) => host.note_astray(Astray::Missing),
        Err(_) => host.note_astray(Astray::Kept),
    }
    ended.map(drop)
}
