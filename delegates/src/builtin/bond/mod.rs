//! `bond`: several links of the pod as one.
//!
//! The bond is a link of ours and goes with the record's group. Its ports were attached before it and are other attachments'
//! links, or links of the node that are lent for it as `host-device` lends one.

mod config;

use attachments::cni::object::Object;
use attachments::cni::spelling::Known;
use attachments::finding::Finding;
use attachments::names::IfName;

use self::config::{Config, KEYS, LINK, at};
use super::delegate::{Context, Delegate, Reading, Undo};
use super::host_device::{self, Lent, Selector};
use super::{Attached, check, parent_link};
use crate::apply;
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ipam::{self, Leased};
use crate::nl::link::{FailOverMac, Kind, Link, LinkChange, NewKind, NewLink};
use crate::sandbox::Sandbox;

/// The delegate.
pub(super) struct Bond;

impl Delegate for Bond {
    const TYPE: &'static str = "bond";
    const KEYS: &'static [&'static str] = &KEYS;
    const LEADS_TO_SERVERS: bool = true;
    const NESTED: &'static [(&'static str, &'static Known<'static>)] = &[("links", &LINK)];

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    /// Links of the node are lent as `host-device` lends them.
    fn admit(config: Result<&Config>, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        let config = config?;
        if config.in_pod {
            return Ok(());
        }
        each(config, &mut |name| host_device::refuse_own(host, call, &Selector::Name(name.clone())))
    }

    fn add(config: &Config, cx: Context<'_, '_>, mut leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        own_name(config, point)?;
        let (mut ports, mut lent) = (Vec::new(), Vec::<Lent>::new());
        let gathered = each(config, &mut |name| {
            if config.in_pod {
                ports.push(of_pod(sandbox, name)?);
            } else {
                let borrowed = borrow(host, sandbox, call, name)?;
                ports.push(borrowed.link.clone());
                lent.push(borrowed);
            }
            Ok(())
        });
        if !leased.result.ips.is_empty() || ipam::asks_on_link(call.conf) {
            leased.result.dns = config.dns.clone();
        }
        let attached = gathered.and_then(|()| bind(sandbox, point, config, &ports, leased));
        if attached.is_err() {
            lent.iter().rev().for_each(|link| link.take_back(host, sandbox));
        }
        attached
    }

    /// Lent links go back; leaving the pod they leave the bond.
    fn restore(cx: Undo<'_, '_>, sandbox: Option<&mut Sandbox>, saved: &[&Object]) -> Result<()> {
        host_device::give_back(cx.host, sandbox, saved)
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { sandbox, call, point, .. } = cx;
        let expected = check::expected(call)?;
        let (bond, told) = check::told_link(sandbox, point, expected)?;
        check::same_kind(&bond, "bond")?;
        check::is_up(&bond)?;
        check::same(&bond, "mode", &bond.kind, &Kind::Bond(config.bond.mode))?;
        let mut ports = Vec::new();
        for name in &config.links {
            let port = sandbox.netlink.link_by_name(name)?;
            let port = port.ok_or_else(|| check::differs(format!("link {name} is missing in the pod")))?;
            check::same(&port, "index of the bond", port.master, Some(bond.index))?;
            ports.push(port);
        }
        // After a fail-over a bond may have the address of another port.
        let follows = config.bond.fail_over_mac == FailOverMac::Active
            && ports.iter().any(|port| check::same_mac(port, told).is_ok());
        if !follows {
            check::same_mac(&bond, told)?;
        }
        check::addressing(sandbox, &bond, expected)
    }

    /// Links of the node are there and in nobody's use.
    fn status(config: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        if !config.in_pod {
            each(config, &mut |name| host_device::require_unused(host, &Selector::Name(name.clone())))
                .map_err(parent_link::not_ready)?;
        }
        parent_link::probe(host.netlink()?, NewKind::Bond(config.bond))
    }
}

/// Does something for every link of the configuration. An error about a name tells where in the configuration it stands.
fn each(config: &Config, work: &mut dyn FnMut(&IfName) -> Result<()>) -> Result<()> {
    for (i, name) in config.links.iter().enumerate() {
        work(name).map_err(|error| match error {
            Error::Parent(finding) => Error::Parent(placed(i, finding)),
            Error::Config(findings) => Error::Config(findings.into_iter().map(|one| placed(i, one)).collect()),
            other => other,
        })?;
    }
    Ok(())
}

fn placed(i: usize, finding: Finding) -> Finding {
    if finding.path == "device" { Finding { path: at(i), ..finding } } else { finding }
}

/// bond-cni names the bond by `ifname` where it is given; the specification gives the name to the runtime.
fn own_name(config: &Config, point: &Point<'_>) -> Result<()> {
    let quoted = |name: &IfName| format!("{:?}", name.as_str());
    if let Some(ifname) = config.ifname.as_ref().filter(|ifname| *ifname != point.ifname) {
        let allowed = format!("nothing, or {}, the name that the pod asked for", quoted(point.ifname));
        return Err(Finding::new("ifname", quoted(ifname), allowed).into());
    }
    match config.links.iter().position(|name| name == point.ifname) {
        Some(i) => Err(Finding::new(at(i), quoted(point.ifname), "another link than the bond itself").into()),
        None => Ok(()),
    }
}

fn refused(name: &IfName, allowed: impl Into<String>) -> Error {
    Error::Parent(Finding::new("device", format_args!("{:?}", name.as_str()), allowed.into()))
}

/// A link of the pod that can become a port.
fn of_pod(sandbox: &mut Sandbox, name: &IfName) -> Result<Link> {
    let link = sandbox.netlink.link_by_name(name)?;
    let link = link.ok_or_else(|| refused(name, "a link of the pod that is attached before the bond"))?;
    if link.name == "lo" {
        return Err(refused(name, "another link than the pod's loopback"));
    }
    let Some(master) = link.master else { return Ok(link) };
    let master = sandbox.netlink.link_by_index(master)?.map_or_else(|| "another link".to_owned(), |link| link.name);
    Err(refused(name, format!("a link that is in no use: {} is a port of {master}", link.name)))
}

/// A link of the node, moved into the pod under its name.
fn borrow(host: &mut Host<'_>, sandbox: &mut Sandbox, call: &Call<'_>, name: &IfName) -> Result<Lent> {
    if let Some(other) = sandbox.netlink.link_by_name(name)? {
        let what = other.kind.as_str();
        return Err(refused(name, format!("a name that is free in the pod, which has a {what} {name} already")));
    }
    host_device::lend(host, sandbox, call, &Selector::Name(name.clone()), name)
}

/// Makes the bond of its ports. A failure removes it, and the ports are up again.
fn bind(sandbox: &mut Sandbox, point: &Point<'_>, config: &Config, ports: &[Link], leased: Leased) -> Result<Attached> {
    // A port gets the bond's MTU, which it must be able to carry: a macvlan no more than its master does.
    let least = ports.iter().min_by_key(|port| port.mtu);
    let mtu = match (config.mtu, least) {
        (Some(mtu), Some(port)) if mtu > port.mtu => {
            let allowed = format!("at most {}, the MTU of its link {}", port.mtu, port.name);
            return Err(Finding::new("mtu", mtu, allowed).into());
        }
        (asked, least) => asked.or(least.map(|port| port.mtu)),
    };
    let wanted = NewLink { mtu, group: point.group, ..NewLink::new(point.ifname, NewKind::Bond(config.bond)) };
    let made = sandbox.netlink.add_link(&wanted);
    made.map_err(|error| apply::taken(sandbox, point.ifname, error))?;
    let bond = sandbox.made(point.ifname)?;
    let attached = join(sandbox, &bond, ports).and_then(|bond| {
        // Its address is that of its first port.
        parent_link::finish(sandbox, point, bond, None, false, leased.result)
    });
    if attached.is_err() {
        // The first error tells more than a second one would.
        let _ = sandbox.netlink.delete_link(bond.index);
        for port in ports {
            let _ = set_up(sandbox, port, port.up);
        }
    }
    attached
}

fn set_up(sandbox: &mut Sandbox, link: &Link, up: bool) -> Result<()> {
    sandbox.netlink.set_link(link.index, &LinkChange { up: Some(up), ..LinkChange::default() })
}

/// Puts the ports into the bond, which the driver sets up.
fn join(sandbox: &mut Sandbox, bond: &Link, ports: &[Link]) -> Result<Link> {
    for port in ports {
        set_up(sandbox, port, false)?;
        let change = LinkChange { master: Some(bond.index), ..LinkChange::default() };
        sandbox.netlink.set_link(port.index, &change).map_err(|error| match error {
            Error::Kernel { errno, detail, .. } => {
                Error::Kernel { op: format!("put {} into bond {}", port.name, bond.name), errno, detail }
            }
            other => other,
        })?;
    }
    let found = sandbox.netlink.link_by_index(bond.index)?;
    found.ok_or_else(|| apply::vanished(format!("find bond {} in the pod", bond.name)))
}
