//! Links on a parent link, the `master` of a configuration: what macvlan, ipvlan and vlan have in common.

use attachments::cni::result::{CniResult, Interface};
use attachments::finding::{Allowed, Finding};
use attachments::names::{IfName, Mac};
use nix::errno::Errno;

use super::delegate::Context;
use super::master::Master;
use super::{Attached, check};
use crate::apply;
use crate::call::Point;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::nl::link::{Kind, Link, LinkChange, MacvlanMode, NewKind, NewLink};
use crate::nl::{Netlink, errno};
use crate::sandbox::Sandbox;
use crate::spec::{Addressing, LinkId, Sysctl};

/// The socket of the namespace that the master is in.
pub(super) fn side<'a>(host: &'a mut Host<'_>, sandbox: &'a mut Sandbox, in_pod: bool) -> Result<&'a mut Netlink> {
    if in_pod { Ok(&mut sandbox.netlink) } else { host.netlink() }
}

/// Finds the master: an Ethernet link, of the default route when it has no name. The kernel would answer with EINVAL.
pub(super) fn find(netlink: &mut Netlink, master: Option<&IfName>) -> Result<Link> {
    let Some(name) = master else { return of_default_route(netlink) };
    let link = netlink.link_by_name(name)?.ok_or_else(|| refused(name.as_str(), "an existing link".to_owned()))?;
    if link.mac.is_none_or(|mac| mac.0 == [0; 6]) {
        return Err(refused(&link.name, format!("an Ethernet link: {name} is a {}", link.kind.as_str())));
    }
    Ok(link)
}

/// The master of a kind that takes its frames where a bridge would take them; the kernel would answer with EBUSY.
pub(super) fn free(master: Link) -> Result<Link> {
    match master.port {
        Some(_) => Err(refused(&master.name, format!("a link that is no port of a bridge: {} is one", master.name))),
        None => Ok(master),
    }
}

/// What a `master` may be called.
pub(super) const MASTER: Allowed = Allowed::told(
    IfName::ALLOWED,
    "must be 1-15 visible ASCII characters without \"/\", \":\" or \"%\", and no \"-\" first",
);

fn refused(name: &str, allowed: String) -> Error {
    Error::Parent(Finding::new("master", format_args!("{name:?}"), allowed))
}

fn of_default_route(netlink: &mut Netlink) -> Result<Link> {
    let missing =
        || Error::Parent(Finding::missing("master", "the name of a link: there is no default route to take it from"));
    let index = netlink.default_route_link()?.ok_or_else(missing)?;
    netlink.link_by_index(index)?.ok_or_else(missing)
}

/// An MTU of a link may not exceed its master's.
pub(super) fn bound_mtu(mtu: Option<u32>, master: &Link) -> Result<Option<u32>> {
    match mtu {
        Some(bytes) if bytes > master.mtu => {
            let allowed = format!("at most {}, the MTU of master {}", master.mtu, master.name);
            Err(Finding::new("mtu", bytes, allowed).into())
        }
        mtu => Ok(mtu),
    }
}

/// Makes the link and gives it what the result says; the result then tells of it. A failure removes the link.
pub(super) fn add(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    point: &Point<'_>,
    in_pod: bool,
    wanted: &NewLink<'_>,
    result: CniResult,
) -> Result<Attached> {
    let made = if in_pod {
        let made = sandbox.netlink.add_link(wanted);
        made.map_err(|error| apply::taken(sandbox, wanted.name, error)).and_then(|()| sandbox.made(wanted.name))
    } else {
        apply::make_in_pod(host, sandbox, wanted)
    };
    let link = match made {
        Ok(link) => link,
        Err(error) if sandbox.netlink.link_by_name(wanted.name)?.is_some() => return Err(error),
        Err(error) => return Err(explain(side(host, sandbox, in_pod)?, wanted, error)),
    };
    let is_announced = matches!(wanted.kind, NewKind::Macvlan { .. } | NewKind::Ipvlan { .. });
    let attached = finish(sandbox, point, link.clone(), wanted.mac, is_announced, result);
    if attached.is_err() {
        // The first error tells more than a second one would.
        let _ = sandbox.netlink.delete_link(link.index);
    }
    attached
}

/// What stands in the way on the master, where the kernel's answer is about something else than the name. Links of other pods on the same
/// master are in their namespaces, and cannot be seen from here.
pub(super) fn explain(netlink: &mut Netlink, wanted: &NewLink<'_>, error: Error) -> Error {
    let Error::Kernel { op, errno, detail } = error else { return error };
    let (NewKind::Vlan { parent, .. } | NewKind::Macvlan { parent, .. } | NewKind::Ipvlan { parent, .. }) = wanted.kind
    else {
        return Error::Kernel { op, errno, detail };
    };
    let links = netlink.links(None).unwrap_or_default();
    let master = links.iter().find(|link| link.index == parent).map_or("the master", |link| link.name.as_str());
    let on_it = || links.iter().filter(|link| link.parent == Some(parent));
    // The two kinds take a master each for itself.
    let occupied = |own: &str, others: &[&str]| match on_it().find(|link| others.contains(&link.kind.as_str())) {
        Some(link) => {
            let (kind, name) = (link.kind.as_str(), &link.name);
            format!("{master} is occupied by {kind} {name}, and {own} shares with none")
        }
        None => format!("{master} is occupied by links of another kind: of {} in a pod, or of a bond", others[0]),
    };
    let detail = match (Errno::from_raw(errno), &wanted.kind) {
        (Errno::EEXIST, NewKind::Vlan { id, .. }) => match on_it().find(|link| link.kind == Kind::Vlan(*id)) {
            Some(link) => format!("VLAN {id} of {master} is {} already", link.name),
            None => format!("VLAN {id} of {master} is in another namespace already: one pod at a time can have it"),
        },
        (Errno::EBUSY, NewKind::Macvlan { .. }) => occupied("macvlan", &["ipvlan"]),
        (Errno::EBUSY, NewKind::Ipvlan { .. }) => occupied("ipvlan", &["macvlan", "macvtap"]),
        (Errno::EINVAL, NewKind::Macvlan { mode: MacvlanMode::Passthru, .. }) => {
            format!("mode passthru needs {master} for itself, and there is another macvlan on it")
        }
        (Errno::EINVAL, NewKind::Macvlan { .. }) if detail.is_empty() => {
            format!("is there a macvlan of mode passthru on {master}? It shares with none")
        }
        _ => detail,
    };
    Error::Kernel { op, errno, detail }
}

/// Gives a link that was just made what the result says; the result then tells of it. Neighbours hear of an address that
/// `is_announced` at once.
pub(super) fn finish(
    sandbox: &mut Sandbox,
    point: &Point<'_>,
    mut link: Link,
    mac: Option<Mac>,
    is_announced: bool,
    mut result: CniResult,
) -> Result<Attached> {
    // A macvlan in mode passthru takes its master's address at first, whatever was asked for.
    if mac.is_some() && mac != link.mac {
        sandbox.netlink.set_link(link.index, &LinkChange { mac, ..LinkChange::default() })?;
        link.mac = mac;
    }
    for ip in &mut result.ips {
        ip.interface = Some(0);
    }
    let mut addressing = Addressing::of(point.ifname, &result, sandbox.accept_ra);
    if is_announced && !result.ips.is_empty() {
        addressing.sysctls.push(Sysctl::optional(format!("ipv4/conf/{}/arp_notify", point.ifname), "1"));
        addressing.sysctls.push(Sysctl::optional(format!("ipv6/conf/{}/ndisc_notify", point.ifname), "1"));
    }
    apply::configure(sandbox, link.index, &addressing)?;
    let id = LinkId::of(point.ifname, &link);
    result.interfaces = vec![Interface {
        name: point.ifname.to_string(),
        mac: id.mac.to_string(),
        sandbox: point.netns.to_owned(),
        ..Interface::default()
    }];
    Ok(Attached { result, links: vec![id] })
}

/// CHECK of the link, its master and its addresses; `mode` compares what is particular to the kind.
pub(super) fn check(
    cx: Context<'_, '_>,
    kind: &str,
    master: Master<'_>,
    mode: impl Fn(&Link) -> Result<()>,
) -> Result<()> {
    let Context { host, sandbox, call, point } = cx;
    let expected = check::expected(call)?;
    let link = check::pod_link(sandbox, point, expected, Some(kind))?;
    check::is_up(&link)?;
    mode(&link)?;
    if master.name.is_some() {
        let netlink = side(host, sandbox, master.in_pod)?;
        let master = master.existing(netlink).map_err(|error| Error::Differs(error.to_string()))?;
        // Both indexes count in the master's namespace.
        check::same(&link, "index of the master", link.parent, Some(master.index))?;
    }
    check::addressing(sandbox, &link, expected)
}

/// STATUS: the master is there and its MTU large enough, and the kernel knows the kind.
pub(super) fn status(host: &mut Host<'_>, master: Master<'_>, mtu: Option<u32>, kind: NewKind<'_>) -> Result<()> {
    let netlink = host.netlink()?;
    if !master.in_pod {
        let stands = master.or_would_be(netlink).and_then(|master| match kind {
            NewKind::Vlan { .. } => Ok(master),
            _ => free(master),
        });
        stands.and_then(|master| bound_mtu(mtu, &master)).map_err(not_ready)?;
    }
    probe(netlink, kind)
}

/// What an ADD would fail with.
pub(super) fn not_ready(error: Error) -> Error {
    Error::NotReady(error.to_string())
}

const GROUP_ADDRESS: Mac = Mac([1, 0, 0, 0, 0, 0]);

/// An index that no link has: what is made on it is refused with ENODEV, after the kernel has found the driver.
pub(super) const NO_LINK: u32 = i32::MAX as u32;

/// Does the kernel know a kind of link? Asks for one that cannot be made: no link has a group address as its own.
pub(super) fn probe(netlink: &mut Netlink, kind: NewKind<'_>) -> Result<()> {
    let name = "meta-cni-probe".parse()?;
    match netlink.add_link(&NewLink { mac: Some(GROUP_ADDRESS), ..NewLink::new(&name, kind) }) {
        Err(Error::Kernel { op, errno, .. }) if errno == Errno::EOPNOTSUPP as i32 => {
            Err(Error::NotReady(format!("{op}: this kernel has no driver for it")))
        }
        // Said before the driver is looked for.
        Err(error) if errno(&error) == Some(Errno::EPERM) => Err(error),
        _ => Ok(()),
    }
}
