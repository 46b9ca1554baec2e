//! The link that an attachment stands on: one that is there, or a VLAN or a VXLAN of one, made on demand.
//!
//! `masterVlan`, or a `master` of the name `eth1.100` that is not there while `eth1` is, asks for VLAN 100 of `eth1`; `masterVxlan` asks for a
//! VXLAN over it. The link is made with the first attachment that asks for it, shared by all that name it, and goes with the last one: they are
//! its owners in the files of [`crate::shared`]. A link that others made is used as it is, and stays. What we made is known by its group, also
//! when a killed call had no time to note an owner.

mod on_demand;
mod tunnel;

use attachments::finding::Finding;
use attachments::names::IfName;

pub(super) use self::on_demand::OnDemand;
use self::on_demand::{Tag, Wanted};
use super::{parent_link, vxlan};
use crate::apply;
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::nl::Netlink;
use crate::nl::link::{Kind, Link, LinkChange};
use crate::sandbox::Sandbox;
use crate::shared::{self, Change, Shared};
use crate::spec::Sysctl;

/// Which link is meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Master<'a> {
    /// Its name; absent: the link of the default route.
    pub name: Option<&'a IfName>,
    /// The VLAN or VXLAN of it that is the master.
    pub on_demand: Option<&'a OnDemand>,
    /// It is a link in the pod, and never made.
    pub in_pod: bool,
}

/// What is there of a master.
struct Found {
    /// The link itself.
    link: Option<Link>,
    /// What it would be, where it is one on demand.
    wanted: Option<Wanted>,
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
    shared::is_ours(link) && matches!(link.kind, Kind::Vlan(_) | Kind::Vxlan(_))
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
        let made = self.share(host, call, point).and_then(|(link, is_new)| {
            if is_new && matches!(link.kind, Kind::Vxlan(_)) {
                // Of this device nobody knows the senders: its port is guarded no more.
                vxlan::guard(host)?;
            }
            Ok(link)
        });
        made.inspect_err(|_| {
            // What it says about the cause is the first error; DEL does this again.
            let _ = self.release(host, point);
        })
    }

    /// The link, and whether it came up just now.
    fn share(self, host: &mut Host<'_>, call: &Call<'_>, point: &Point<'_>) -> Result<(Link, bool)> {
        let shared = Shared::lock(&host.node)?;
        // Looked up again: another call may have made it, or taken it away, meanwhile.
        let link = match self.look_up(host.netlink()?)? {
            Found { link: Some(link), .. } => link,
            Found { link: None, wanted: Some(wanted) } => wanted.make(host, call)?,
            Found { link: None, wanted: None } => return Err(missing(self.name)),
        };
        if !is_ours(&link) {
            return Ok((link, false));
        }
        shared.change(host, point, &link, true, &[Change::OnDemand])?;
        if link.up {
            return Ok((link, false));
        }
        // The node itself has no part in it: it gets no address there, and no route of a router.
        apply::write_sysctls(&[Sysctl::optional(format!("ipv6/conf/{}/disable_ipv6", link.name), "1")])?;
        let netlink = host.netlink()?;
        let up = netlink.set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() });
        up.map_err(|error| match &link.kind {
            Kind::Vxlan(is) => tunnel::port_in_use(netlink, is.vni, error),
            _ => error,
        })?;
        Ok((link, true))
    }

    /// DEL: the attachment owns it no more. What an ADD made that was killed before it noted an owner goes too.
    pub fn release(self, host: &mut Host<'_>, point: &Point<'_>) -> Result<()> {
        if !self.may_be_ours() {
            return Ok(());
        }
        let has_tunnel = self.on_demand.is_some_and(|on_demand| matches!(on_demand.tag, Tag::Vxlan(_)));
        let was_there = has_tunnel && self.own(host)?.is_some();
        shared::release(host, point)?;
        if let Some(link) = self.own(host)? {
            remove_unowned(host, &link)?;
        }
        if was_there && self.own(host)?.is_none() {
            vxlan::guard(host)?;
        }
        Ok(())
    }

    /// The link, where it is one of ours. A master that is gone, or is something else by now, is not ours to remove.
    fn own(self, host: &mut Host<'_>) -> Result<Option<Link>> {
        let found = self.look_up(host.netlink()?).ok();
        Ok(found.and_then(|found| found.link).filter(is_ours))
    }

    fn may_be_ours(self) -> bool {
        !self.in_pod && (self.on_demand.is_some() || self.name.is_some_and(|name| split(name.as_str()).is_some()))
    }

    /// The link, or what it would be made of; nothing where that is missing too. What a tenant's definition may not have is judged by it.
    pub fn seek(self, netlink: &mut Netlink) -> Result<Option<Link>> {
        match self.look_up(netlink) {
            Ok(found) => Ok(found.link.or(found.wanted.map(|wanted| wanted.base))),
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

    /// STATUS: the link, or how it would be.
    pub fn or_would_be(self, netlink: &mut Netlink) -> Result<Link> {
        match self.look_up(netlink)? {
            Found { link: Some(link), .. } => Ok(link),
            Found { wanted: Some(wanted), .. } => wanted.would_be(netlink),
            Found { .. } => Err(missing(self.name)),
        }
    }

    fn look_up(self, netlink: &mut Netlink) -> Result<Found> {
        if let Some(on_demand) = self.on_demand {
            let wanted = on_demand.on(parent_link::find(netlink, self.name)?)?;
            return Ok(Found { link: wanted.find(netlink)?, wanted: Some(wanted) });
        }
        if let Some(name) = self.name
            && netlink.link_by_name(name)?.is_none()
            && let Some((base, id)) = split(name.as_str())
            && netlink.link_by_name(&base)?.is_some()
        {
            let vlan = OnDemand { tag: Tag::Vlan(id), name: None };
            return Ok(Found { link: None, wanted: Some(vlan.on(parent_link::find(netlink, Some(&base))?)?) });
        }
        Ok(Found { link: Some(parent_link::find(netlink, self.name)?), wanted: None })
    }
}

fn missing(name: Option<&IfName>) -> Error {
    let name = name.map_or("", IfName::as_str);
    Error::Parent(Finding::new("master", format_args!("{name:?}"), "a link that stays while it is being used"))
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
    let on_demand = OnDemand::of(call.conf);
    Master { name: name.as_ref(), on_demand: on_demand.as_ref(), in_pod }.release(host, point)
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
        assert_eq!(Tag::Vlan(100).usual_name("eth1").unwrap().as_str(), "eth1.100");
        let long = Tag::Vlan(100).usual_name("enp131s0f0np0").unwrap_err().to_string();
        assert!(long.contains("enp131s0f0np0.100 has 17"), "{long}");
    }
}
