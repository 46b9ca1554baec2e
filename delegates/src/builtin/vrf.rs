//! `vrf`: puts the link of the plugin before into a routing domain of the pod.
//!
//! A vrf that we make carries the group of the pod's record and goes with the record's links. One that is there already,
//! of another record or of the reference plugin, is left when its last member leaves.

use attachments::cni::object::Object;
use attachments::finding::Finding;
use attachments::names::IfName;
use nix::libc;

use super::conf_reader::ConfReader;
use super::delegate::{Context, Delegate, Reading, Undo};
use super::{Attached, chained, check, parent_link};
use crate::apply;
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ipam::Leased;
use crate::nl::link::{Kind, Link, LinkChange, NewKind, NewLink};
use crate::nl::route::{MAIN, Route, RouteFilter};
use crate::sandbox::Sandbox;

/// The configuration of a vrf.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// Name of the vrf.
    pub name: IfName,
    /// Its routing table; absent: that of the vrf that is there, or the first that no vrf of the pod has.
    pub table: Option<u32>,
}

const KEYS: [&str; 2] = ["vrfname", "table"];

/// Key in the states that are saved.
const STATE: &str = "vrf";

impl Config {
    pub(super) fn read(conf: &Object) -> Reading<Self> {
        let mut reader = ConfReader::of(conf);
        let name = reader.required("vrfname", IfName::ALLOWED);
        let table = reader.integer("table", 0..=u32::MAX).filter(|table| *table != 0);
        reader.finish_required(name.map(|name| Self { name, table }))
    }
}

/// The delegate.
pub(super) struct Vrf;

impl Delegate for Vrf {
    const TYPE: &'static str = "vrf";
    const KEYS: &'static [&'static str] = &KEYS;
    const IS_CHAINED: bool = true;
    const TAKES_ADDRESSES: bool = false;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    /// The result of the plugin before passes unchanged.
    fn add(config: &Config, cx: Context<'_, '_>, _leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let previous = chained::previous(call)?;
        let link = free_link(sandbox, point.ifname)?;
        let entered = vrf(host, sandbox, point, config).and_then(|vrf| enter(sandbox, &link, &vrf));
        if let Err(error) = entered {
            // The first error tells more than a second one would.
            let _ = leave(sandbox, point, &config.name);
            return Err(error);
        }
        Ok(Attached::nothing(previous.clone()))
    }

    /// The pod's link leaves a vrf that was there before, or of which nobody recorded whether it was.
    fn restore(cx: Undo<'_, '_>, sandbox: Option<&mut Sandbox>, saved: &[&Object]) -> Result<()> {
        let Undo { call, point, .. } = cx;
        let Some(sandbox) = sandbox else { return Ok(()) };
        for state in saved {
            if let Some(name) = state.decode::<IfName>(STATE, IfName::ALLOWED)? {
                leave(sandbox, point, &name)?;
            }
        }
        match call.conf.parsed("vrfname", IfName::ALLOWED) {
            Ok(Some(name)) if saved.is_empty() => leave(sandbox, point, &name),
            _ => Ok(()),
        }
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { sandbox, call, point, .. } = cx;
        chained::previous(call)?;
        let name = &config.name;
        let missing = |name: &IfName| check::differs(format!("link {name} is missing in the pod"));
        let vrf = sandbox.netlink.link_by_name(name)?.ok_or_else(|| missing(name))?;
        check::same_kind(&vrf, "vrf")?;
        check::is_up(&vrf)?;
        if let Some(table) = config.table {
            check::same(&vrf, "table", &vrf.kind, &Kind::Vrf(table))?;
        }
        let link = sandbox.netlink.link_by_name(point.ifname)?.ok_or_else(|| missing(point.ifname))?;
        check::same(&link, "index of the vrf", link.master, Some(vrf.index))
    }

    fn status(_: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        parent_link::probe(host.netlink()?, NewKind::Vrf { table: MAIN })
    }
}

/// The pod's link, which may have one master only.
fn free_link(sandbox: &mut Sandbox, name: &IfName) -> Result<Link> {
    let refuse =
        |allowed: String| Error::Parent(Finding::new("CNI_IFNAME", format_args!("{:?}", name.as_str()), allowed));
    let link = sandbox.netlink.link_by_name(name)?;
    let link = link.ok_or_else(|| refuse("a link of the pod, made by a plugin before vrf".to_owned()))?;
    match link.master {
        None => Ok(link),
        Some(master) => {
            let master = sandbox.netlink.link_by_index(master)?.map_or_else(|| "another link".to_owned(), |l| l.name);
            Err(refuse(format!("a link without a master: it is a port of {master}")))
        }
    }
}

/// Finds the vrf, or makes it.
fn vrf(host: &mut Host<'_>, sandbox: &mut Sandbox, point: &Point<'_>, config: &Config) -> Result<Link> {
    let name = &config.name;
    let found = sandbox.netlink.link_by_name(name)?;
    match (found, config.table) {
        (None, asked) => {
            let table = asked.map_or_else(|| first_free(sandbox), Ok)?;
            let vrf = NewLink { group: point.group, up: true, ..NewLink::new(name, NewKind::Vrf { table }) };
            sandbox.netlink.add_link(&vrf)?;
            sandbox.made(name)
        }
        (Some(link), asked) => {
            let refuse = |key, value: String, allowed: String| Err(Error::Parent(Finding::new(key, value, allowed)));
            match link.kind {
                Kind::Vrf(table) if asked.is_none_or(|asked| asked == table) => {}
                Kind::Vrf(table) => {
                    let asked = asked.unwrap_or_default().to_string();
                    return refuse("table", asked, format!("{table}, the table of vrf {name}, which is there already"));
                }
                ref other => {
                    let allowed = format!("the name of a vrf of the pod or of nothing: {name} is a {}", other.as_str());
                    return refuse("vrfname", format!("{:?}", name.as_str()), allowed);
                }
            }
            if link.group != point.group {
                adopt(host, sandbox, point, name, &link)?;
            }
            Ok(link)
        }
    }
}

/// A vrf of another record would go with that record's links: it stays for ours, and [`Delegate::restore`] sees to it.
fn adopt(host: &mut Host<'_>, sandbox: &mut Sandbox, point: &Point<'_>, name: &IfName, vrf: &Link) -> Result<()> {
    let mut state = Object::new();
    state.set(STATE, &name.as_str());
    host.save(&state)?;
    if vrf.group == 0 {
        return Ok(());
    }
    sandbox.netlink.set_link(vrf.index, &LinkChange { group: Some(point.group), ..LinkChange::default() })
}

/// The first table that no vrf of the pod has.
fn first_free(sandbox: &mut Sandbox) -> Result<u32> {
    let links = sandbox.netlink.links(None)?;
    let is_taken = |table: &u32| links.iter().any(|link| link.kind == Kind::Vrf(*table));
    // There are fewer links than tables.
    Ok((1..=u32::MAX).find(|table| !is_taken(table)).unwrap_or(1))
}

/// Joins the vrf. The kernel takes the link down and up for it, and so loses routes and, where `keep_addr_on_down` is
/// off, IPv6 addresses; they come back.
fn enter(sandbox: &mut Sandbox, link: &Link, vrf: &Link) -> Result<()> {
    let table = match vrf.kind {
        Kind::Vrf(table) => table,
        _ => MAIN,
    };
    let is_global_v6 = |address: &crate::nl::address::Address| address.net.addr().is_ipv6() && address.scope == 0;
    let mut addresses = sandbox.netlink.addresses(Some(link.index))?;
    addresses.retain(is_global_v6);
    let routes = sandbox.netlink.routes(RouteFilter { index: Some(link.index), ..RouteFilter::default() })?;

    sandbox.netlink.set_link(link.index, &LinkChange { master: Some(vrf.index), ..LinkChange::default() })?;

    let held = sandbox.netlink.addresses(Some(link.index))?;
    for lost in addresses.iter().filter(|address| !held.iter().any(|held| held.net == address.net)) {
        // What was usable has passed the detection of duplicates before.
        sandbox.netlink.add_address(link.index, lost.net, !lost.tentative)?;
    }
    if addresses.iter().any(|address| !address.tentative) {
        apply::settle(sandbox, link.index)?;
    }
    apply::add_routes(sandbox, link.index, &in_table(routes, table))
}

/// Routes that somebody made, as they are in the vrf: those to a gateway's own address before those through it.
fn in_table(mut routes: Vec<Route>, table: u32) -> Vec<Route> {
    // The kernel's own come by themselves, with the addresses and with router advertisements.
    routes.retain(|route| ![libc::RTPROT_KERNEL, RTPROT_RA].contains(&route.protocol));
    routes.sort_by_key(|route| route.gateway.is_some());
    for route in routes.iter_mut().filter(|route| route.table == MAIN) {
        route.table = table;
    }
    routes
}

/// linux/rtnetlink.h, not in libc.
const RTPROT_RA: u8 = 9;

/// Takes the pod's link out of a vrf. The vrf then goes with the links of those that are still in it.
fn leave(sandbox: &mut Sandbox, point: &Point<'_>, name: &IfName) -> Result<()> {
    let is_ours = |link: &Link| link.group == 0 || link.group == point.group;
    let vrf = sandbox.netlink.link_by_name(name)?.filter(|link| matches!(link.kind, Kind::Vrf(_)));
    let Some(vrf) = vrf.filter(is_ours) else { return Ok(()) };
    let member = sandbox.netlink.link_by_name(point.ifname)?;
    if let Some(member) = member.filter(|link| link.master == Some(vrf.index) && is_ours(link)) {
        sandbox.netlink.set_link(member.index, &LinkChange { master: Some(0), ..LinkChange::default() })?;
    }
    let members = sandbox.netlink.links(Some(vrf.index))?;
    match members.iter().find(|member| member.group != point.group) {
        Some(other) if vrf.group == point.group => {
            let change = LinkChange { group: Some(other.group), ..LinkChange::default() };
            sandbox.netlink.set_link(vrf.index, &change)
        }
        // With members of ours it goes when they do; nobody but us would ever delete one without.
        None if members.is_empty() => sandbox.netlink.delete_link(vrf.index).map(drop),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;

    #[test]
    fn every_key_is_read_and_every_wrong_one_named() {
        let config = Config::read(&Object::parse(br#"{"vrfname":"blue","table":4294967295}"#).unwrap()).unwrap();
        assert_eq!((config.name.as_str(), config.table), ("blue", Some(u32::MAX)));
        let bare = Config::read(&Object::parse(br#"{"vrfname":"blue","table":0}"#).unwrap()).unwrap();
        assert_eq!(bare.table, None);
        let wrong = |conf: &str| -> Vec<String> {
            let findings = Builtin::Vrf.validate(&Object::parse(conf.as_bytes()).unwrap());
            findings.into_iter().map(|f| f.path).collect()
        };
        assert_eq!(wrong(r#"{"vrfname":"far-too-long-a-name","table":-1}"#), ["vrfname", "table"]);
        assert_eq!(wrong("{}"), ["vrfname"]);
    }

    #[test]
    fn routes_move_to_the_vrfs_table_with_the_gateways_own_first() {
        let route = |destination: &str, gateway: Option<&str>| {
            let gateway: Option<std::net::IpAddr> = gateway.map(|gateway| gateway.parse().unwrap());
            Route { gateway, ..Route::new(destination.parse().unwrap(), 5) }
        };
        let connected = Route { protocol: libc::RTPROT_KERNEL, ..route("10.0.0.0/24", None) };
        let elsewhere = Route { table: 100, ..route("10.8.0.0/16", Some("10.0.0.1")) };
        let routes = vec![route("0.0.0.0/0", Some("10.0.0.1")), connected, elsewhere, route("10.0.0.1/32", None)];
        let moved = in_table(routes, 7);
        let words: Vec<_> = moved.iter().map(|route| (route.destination.to_string(), route.table)).collect();
        let want = [("10.0.0.1/32", 7), ("0.0.0.0/0", 7), ("10.8.0.0/16", 100)];
        assert_eq!(words, want.map(|(destination, table)| (destination.to_owned(), table)));
    }
}
