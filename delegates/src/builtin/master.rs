//! The link that an attachment stands on: one that is there, or a VLAN of one, made on demand.
//!
//! `masterVlan`, or a `master` of the name `eth1.100` that is not there while `eth1` is, asks for VLAN 100 of `eth1`. The link is made with
//! the first attachment that asks for it, shared by all that name it, and goes with the last one: they are its owners in the files of
//! [`crate::shared`]. `masterVlanName` calls the link of `masterVlan` otherwise than `eth1.100`. A link that others made is used as it is, and stays. What we made is known by its group, also when a killed call had
//! no time to note an owner.

use attachments::finding::{Allowed, Finding};
use attachments::names::IfName;
use attachments::rule::Rule;
use nix::errno::Errno;

use super::conf_reader::ConfReader;
use super::{default_bridge, parent_link};
use crate::apply::{self, is};
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::nl::Netlink;
use crate::nl::link::{Kind, Link, LinkChange, NewKind, NewLink};
use crate::sandbox::Sandbox;
use crate::shared::{self, Change, Shared};
use crate::spec::Sysctl;

/// Which link is meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Master<'a> {
    /// Its name; absent: the link of the default route.
    pub name: Option<&'a IfName>,
    /// `masterVlan`: this VLAN of it.
    pub vlan: Option<u16>,
    /// `masterVlanName`: what the link of that VLAN is called; absent: `eth1.100`.
    pub vlan_name: Option<&'a IfName>,
    /// It is a link in the pod, and never made.
    pub in_pod: bool,
}

/// What is there of a master.
struct Found {
    /// The link itself.
    link: Option<Link>,
    /// What it is made of where it is missing.
    parts: Option<(Link, u16)>,
}

/// `masterVlanName`: how the link of the VLAN is called.
pub(super) fn vlan_name(reader: &mut ConfReader<'_>, has_vlan: bool) -> Option<IfName> {
    let name = reader.parsed::<IfName>((NAME, Rule::MasterName), IfName::ALLOWED)?;
    if !has_vlan {
        reader.refuse(Finding::new(NAME, &name, Allowed::requires(KEY, "set")));
    }
    Some(name)
}

/// `masterVlan`, beside the keys that tell which link it is a VLAN of.
pub(super) fn vlan(reader: &mut ConfReader<'_>, master: Option<&IfName>, in_pod: bool) -> Option<u16> {
    let id = reader.integer((KEY, Rule::VlanId), 1..=4094).and_then(|id| u16::try_from(id).ok())?;
    if in_pod {
        reader.refuse(Finding::new(
            KEY,
            id,
            "no VLAN of a master in the pod (linkInContainer): name its link as `master`",
        ));
    }
    let is_named = reader.has(NAME);
    if let Some(Err(finding)) = master.filter(|_| !is_named).map(|master| name(master.as_str(), id)) {
        reader.refuse(finding);
    }
    Some(id)
}

const KEY: &str = "masterVlan";
const NAME: &str = "masterVlanName";

/// The name of a VLAN link, as `vconfig` and distributions make it.
fn name(base: &str, id: u16) -> std::result::Result<IfName, Finding> {
    let name = format!("{base}.{id}");
    name.parse().map_err(|_| {
        Finding::new(KEY, id, format!("a VLAN whose link has a name of at most 15 bytes: {name} has {}", name.len()))
    })
}

/// `eth1` and 100 of `eth1.100`.
fn split(name: &str) -> Option<(IfName, u16)> {
    let (base, digits) = name.rsplit_once('.')?;
    let id: u16 = digits.parse().ok().filter(|id| (1..=4094).contains(id))?;
    (id.to_string() == digits).then_some(())?;
    Some((base.parse().ok()?, id))
}

/// Did we make this link on demand?
fn is_ours(link: &Link) -> bool {
    shared::is_ours(link) && matches!(link.kind, Kind::Vlan(_))
}

impl Master<'_> {
    /// ADD: the link, made if need be, and owned by the attachment if it is one of ours. The caller lets go of it when the attachment
    /// fails.
    pub fn obtain(
        self,
        host: &mut Host<'_>,
        sandbox: &mut Sandbox,
        call: &Call<'_>,
        point: &Point<'_>,
    ) -> Result<Link> {
        if self.in_pod {
            return parent_link::find(&mut sandbox.netlink, self.name);
        }
        match self.look_up(host.netlink()?)? {
            Found { link: Some(link), .. } if !is_ours(&link) => return Ok(link),
            _ => {}
        }
        let made = self.share(host, call, point);
        made.inspect_err(|_| {
            // What it says about the cause is the first error; DEL does this again.
            let _ = self.release(host, point);
        })
    }

    fn share(self, host: &mut Host<'_>, call: &Call<'_>, point: &Point<'_>) -> Result<Link> {
        let shared = Shared::lock(&host.node)?;
        // Looked up again: another call may have made it, or taken it away, meanwhile.
        let link = match self.look_up(host.netlink()?)? {
            Found { link: Some(link), .. } => link,
            Found { link: None, parts: Some((base, id)) } => {
                make(host, call, (&base, id), &self.link_name(&base, id)?)?
            }
            Found { link: None, parts: None } => return Err(missing(self.name)),
        };
        if !is_ours(&link) {
            return Ok(link);
        }
        shared.change(host, point, &link, true, &[Change::OnDemand])?;
        if !link.up {
            // The node itself has nothing to do with the VLAN: it gets no address there, and no route of a router.
            apply::write_sysctls(&[Sysctl::optional(format!("ipv6/conf/{}/disable_ipv6", link.name), "1")])?;
            host.netlink()?.set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
        }
        Ok(link)
    }

    /// DEL: the attachment owns it no more. What an ADD made that was killed before it noted an owner goes too.
    pub fn release(self, host: &mut Host<'_>, point: &Point<'_>) -> Result<()> {
        if !self.may_be_ours() {
            return Ok(());
        }
        shared::release(host, point)?;
        match self.look_up(host.netlink()?) {
            Ok(Found { link: Some(link), .. }) if is_ours(&link) => remove_unowned(host, &link),
            // A master that is gone, or is something else by now, is not ours to remove.
            _ => Ok(()),
        }
    }

    fn may_be_ours(self) -> bool {
        !self.in_pod && (self.vlan.is_some() || self.name.is_some_and(|name| split(name.as_str()).is_some()))
    }

    /// The link, or what it would be made of; nothing where that is missing too. What a tenant's definition may not have is judged by it.
    pub fn seek(self, netlink: &mut Netlink) -> Result<Option<Link>> {
        match self.look_up(netlink) {
            Ok(found) => Ok(found.link.or(found.parts.map(|(base, _)| base))),
            // An ADD that lacks it says so.
            Err(Error::Parent(_) | Error::Config(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// CHECK: the link, which must be there.
    pub fn existing(self, netlink: &mut Netlink) -> Result<Link> {
        if self.in_pod {
            return parent_link::find(netlink, self.name);
        }
        self.look_up(netlink)?.link.ok_or_else(|| missing(self.name))
    }

    /// STATUS: the link, or the one that it would be a VLAN of.
    pub fn or_base(self, netlink: &mut Netlink) -> Result<Link> {
        let found = self.look_up(netlink)?;
        found.link.or(found.parts.map(|(base, _)| base)).ok_or_else(|| missing(self.name))
    }

    /// Name of a VLAN of a link, where we make it.
    fn link_name(self, base: &Link, id: u16) -> std::result::Result<IfName, Finding> {
        self.vlan_name.cloned().map_or_else(|| name(&base.name, id), Ok)
    }

    fn look_up(self, netlink: &mut Netlink) -> Result<Found> {
        if let Some(id) = self.vlan {
            let base = parent_link::find(netlink, self.name)?;
            let link = vlan_of(netlink, &base, id, &self.link_name(&base, id)?)?;
            return Ok(Found { link, parts: Some((base, id)) });
        }
        if let Some(name) = self.name
            && netlink.link_by_name(name)?.is_none()
            && let Some((base, id)) = split(name.as_str())
            && netlink.link_by_name(&base)?.is_some()
        {
            return Ok(Found { link: None, parts: Some((parent_link::find(netlink, Some(&base))?, id)) });
        }
        Ok(Found { link: Some(parent_link::find(netlink, self.name)?), parts: None })
    }
}

fn missing(name: Option<&IfName>) -> Error {
    let name = name.map_or("", IfName::as_str);
    Error::Parent(Finding::new("master", format_args!("{name:?}"), "a link that stays while it is being used"))
}

/// VLAN `id` of a link of the node, under its usual name or another one.
fn vlan_of(netlink: &mut Netlink, base: &Link, id: u16, name: &IfName) -> Result<Option<Link>> {
    let is = |link: &Link| link.kind == Kind::Vlan(id) && link.parent == Some(base.index) && !link.is_parent_elsewhere;
    match netlink.link_by_name(name)? {
        Some(link) if is(&link) => Ok(Some(link)),
        Some(other) => {
            let allowed = format!(
                "a VLAN of {} whose name {} is free: that is a {} which is not VLAN {id} of {}",
                base.name,
                other.name,
                other.kind.as_str(),
                base.name
            );
            Err(Error::Parent(Finding::new(KEY, id, allowed)))
        }
        None => Ok(netlink.links(None)?.into_iter().find(is)),
    }
}

/// Makes the link, down. Its group says whose it is from the first moment.
fn make(host: &mut Host<'_>, call: &Call<'_>, (base, id): (&Link, u16), name: &IfName) -> Result<Link> {
    default_bridge::refuse(host, call, "master", &base.name)?;
    let kind = NewKind::Vlan { parent: base.index, id };
    let wanted = NewLink { group: shared::OURS, ..NewLink::new(name, kind) };
    let netlink = host.netlink()?;
    let made = netlink.add_link(&wanted);
    // Somebody else was quicker; who, the look-up tells.
    if !is(&made, Errno::EEXIST) || netlink.link_by_name(name)?.is_none() {
        made.map_err(|error| parent_link::explain(netlink, &wanted, error))?;
    }
    netlink.link_by_name(name)?.ok_or_else(|| apply::vanished(format!("find link {name}")))
}

/// Removes a link of ours that nobody owns.
fn remove_unowned(host: &mut Host<'_>, link: &Link) -> Result<()> {
    let shared = Shared::lock(&host.node)?;
    let netlink = host.netlink()?;
    match netlink.link_by_index(link.index)? {
        Some(now) if is_ours(&now) && !shared.is_owned(&now) => netlink.delete_link(now.index).map(drop),
        _ => Ok(()),
    }
}

/// GC: links that were made on demand and that nobody owns any more.
pub(super) fn sweep(host: &mut Host<'_>) -> Result<()> {
    let links = host.netlink()?.links(None)?;
    links.iter().filter(|link| is_ours(link)).try_for_each(|link| remove_unowned(host, link))
}

/// The master that a configuration means, for a DEL that must do without a valid one.
pub(super) fn release_of(host: &mut Host<'_>, point: &Point<'_>, call: &Call<'_>) -> Result<()> {
    let in_pod = call.conf.flag("linkInContainer").unwrap_or_default();
    let name = call.conf.parsed::<IfName>("master", IfName::ALLOWED).ok().flatten();
    let vlan = call.conf.decode::<u16>(KEY, "").ok().flatten();
    let vlan_name = call.conf.parsed::<IfName>(NAME, IfName::ALLOWED).ok().flatten();
    Master { name: name.as_ref(), vlan, vlan_name: vlan_name.as_ref(), in_pod }.release(host, point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_a_vlan_when_it_would_be_made_so() {
        let parts = |text: &str| split(text).map(|(base, id)| format!("{base} {id}"));
        assert_eq!(parts("eth1.100").as_deref(), Some("eth1 100"));
        assert_eq!(parts("bond0.10.20").as_deref(), Some("bond0.10 20"));
        for other in ["eth1", "eth1.", "eth1.0", "eth1.4095", "eth1.0100", "eth1.+1", "eth1.x", ".5"] {
            assert_eq!(parts(other), None, "{other}");
        }
        assert_eq!(name("eth1", 100).unwrap().as_str(), "eth1.100");
        let long = name("enp131s0f0np0", 100).unwrap_err().to_string();
        assert!(long.contains("enp131s0f0np0.100 has 17"), "{long}");
    }
}
