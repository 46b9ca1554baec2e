//! CHECK: what a result says, against what the kernel holds.

use std::net::IpAddr;

use attachments::cni::result::{CniResult, Interface, Ip};
use attachments::finding::Finding;
use attachments::names::{IfName, Mac};

use crate::call::{Call, Point};
use crate::dad;
use crate::error::{Error, Result};
use crate::host::{FORWARDING, Host};
use crate::netns;
use crate::nl::link::Link;
use crate::nl::route::RouteFilter;
use crate::routing::main_table;
use crate::sandbox::Sandbox;

/// The result of the ADD, which CHECK cannot do without.
pub(super) fn expected<'a>(call: &'a Call<'_>) -> Result<&'a CniResult> {
    let missing = || Finding::missing("prevResult", "the result of the ADD");
    Ok(call.prev_result.ok_or_else(missing)?)
}

/// The pod's link: there, of that kind if it was made as one, with the hardware address of the result.
pub(super) fn pod_link(
    sandbox: &mut Sandbox,
    point: &Point<'_>,
    expected: &CniResult,
    kind: Option<&str>,
) -> Result<Link> {
    let (link, told) = told_link(sandbox, point, expected)?;
    kind.map_or(Ok(()), |kind| same_kind(&link, kind))?;
    same_mac(&link, told)?;
    Ok(link)
}

/// The pod's link, and what the result says of it.
pub(super) fn told_link<'a>(
    sandbox: &mut Sandbox,
    point: &Point<'_>,
    expected: &'a CniResult,
) -> Result<(Link, &'a Interface)> {
    let name = point.ifname.as_str();
    let told = expected.interfaces.iter().find(|i| i.name == name && i.sandbox == point.netns);
    let told = told.ok_or_else(|| differs(format!("prevResult has no interface {name} in {}", point.netns)))?;
    let link = sandbox.netlink.link_by_name(point.ifname)?;
    let link = link.ok_or_else(|| differs(format!("link {name} is missing in the pod")))?;
    Ok((link, told))
}

/// The bridge on the host: there, a bridge, with the hardware address of the result.
pub(super) fn bridge(host: &mut Host<'_>, expected: &CniResult, name: &IfName) -> Result<Link> {
    let link = host.netlink()?.link_by_name(name)?;
    let link = link.ok_or_else(|| differs(format!("bridge {name} is missing on the host")))?;
    same_kind(&link, "bridge")?;
    is_up(&link)?;
    if let Some(told) = expected.interfaces.iter().find(|i| i.name == name.as_str() && i.sandbox.is_empty()) {
        same_mac(&link, told)?;
    }
    Ok(link)
}

/// The host's end of a port: told by the result, and joined to the bridge.
pub(super) fn port(host: &mut Host<'_>, expected: &CniResult, pod: &Link, bridge: &Link) -> Result<Link> {
    let link = host_end(host, expected, pod)?;
    same(&link, "index of the bridge", link.master, Some(bridge.index))?;
    Ok(link)
}

/// The host's end of a veth: there, and told by the result.
pub(super) fn host_end(host: &mut Host<'_>, expected: &CniResult, pod: &Link) -> Result<Link> {
    let netlink = host.netlink()?;
    let link = pod.parent.map(|peer| netlink.link_by_index(peer)).transpose()?.flatten();
    let link = link.ok_or_else(|| differs(format!("the host's end of {} is missing", pod.name)))?;
    same_kind(&link, "veth")?;
    let told = expected.interfaces.iter().find(|i| i.name == link.name && i.sandbox.is_empty());
    same_mac(&link, told.ok_or_else(|| differs(format!("prevResult has no interface {} on the host", link.name)))?)?;
    same(&link, "index of the peer", link.parent, Some(pod.index))?;
    is_up(&link)?;
    Ok(link)
}

/// A link has the kind that it was made with.
pub(super) fn same_kind(link: &Link, kind: &str) -> Result<()> {
    let is = link.kind.as_str();
    if is == kind { Ok(()) } else { Err(differs(format!("link {} is a {is}, was made as {kind}", link.name))) }
}

/// A link has the hardware address of the result, where that tells one.
pub(super) fn same_mac(link: &Link, told: &Interface) -> Result<()> {
    let is = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let has = |mac: Mac| link.has_mac(mac);
    if told.mac.is_empty() || told.mac.eq_ignore_ascii_case(&is) || told.mac.parse().is_ok_and(has) {
        return Ok(());
    }
    Err(differs(format!("link {} has hardware address {is}, prevResult says {}", link.name, told.mac)))
}

/// A link is as every ADD leaves it: set up.
pub(super) fn is_up(link: &Link) -> Result<()> {
    same(link, "up", link.up, true)
}

/// A setting of a link is what was configured.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(link: &Link, what: &str, is: T, wanted: T) -> Result<()> {
    if is == wanted { Ok(()) } else { Err(differs(format!("link {}: {what} is {is:?}, want {wanted:?}", link.name))) }
}

/// The pod holds the addresses of the result that are on its link, and the routes.
pub(super) fn addressing(sandbox: &mut Sandbox, link: &Link, expected: &CniResult) -> Result<()> {
    addresses(sandbox, link, expected)?;
    routes(sandbox, link, expected)
}

/// The pod holds the addresses of the result that are on its link.
pub(super) fn addresses(sandbox: &mut Sandbox, link: &Link, expected: &CniResult) -> Result<()> {
    let on_link = |ip: &&Ip| {
        let index = ip.interface.and_then(|index| usize::try_from(index).ok());
        index
            .and_then(|index| expected.interfaces.get(index))
            .is_some_and(|i| i.name == link.name && !i.sandbox.is_empty())
    };
    let wanted: Vec<&Ip> = expected.ips.iter().filter(on_link).collect();
    if !wanted.is_empty() {
        let held = sandbox.netlink.addresses(Some(link.index))?;
        for ip in wanted {
            match held.iter().find(|address| address.net == ip.address) {
                None => {
                    let text = format!("address {} is missing on link {} of the pod", ip.address, link.name);
                    return Err(differs(text));
                }
                Some(address) if address.dad_failed => return Err(differs(dad::in_use(&ip.address, &link.name))),
                Some(_) => {}
            }
        }
    }
    Ok(())
}

fn routes(sandbox: &mut Sandbox, link: &Link, expected: &CniResult) -> Result<()> {
    if expected.routes.is_empty() {
        return Ok(());
    }
    // A plugin behind in the chain may have put the link into a vrf: its routes are there then.
    let main = main_table(&mut sandbox.netlink, link)?;
    let held = sandbox.netlink.routes(RouteFilter::default())?;
    for route in &expected.routes {
        let table = route.table.filter(|table| *table != 0).unwrap_or(main);
        let is = |held: &&crate::nl::route::Route| {
            held.destination == route.dst.trunc()
                && held.table == table
                && (route.gw.is_none() || held.gateway == route.gw)
        };
        if !held.iter().any(|route| is(&route)) {
            let via = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
            return Err(differs(format!("route {}{via} is missing in the pod", route.dst)));
        }
    }
    Ok(())
}

/// The node forwards packets of the families of these addresses.
pub(super) fn forwarding(addresses: &[IpAddr]) -> Result<()> {
    for (v4, key) in FORWARDING {
        let is = netns::read_sysctl(key)?.unwrap_or_default();
        if addresses.iter().any(|ip| ip.is_ipv4() == v4) && is != "1" {
            return Err(differs(format!("sysctl net.{} of the node is {is:?}, want \"1\"", key.join("."))));
        }
    }
    Ok(())
}

/// The kernel differs from the result.
pub(super) fn differs(text: String) -> Error {
    Error::Differs(text)
}
