//! The bridge as the pods' gateway: which addresses it needs, and how it gets them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attachments::cni::result::{CniResult, Route, default_destination};
use attachments::finding::Finding;
use ipnet::IpNet;

use super::config::Config;
use super::{POD_END, vlan};
use crate::builtin::check;
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ipam;
use crate::nl::link::{Link, LinkChange};
use crate::node_networks::{self, Claim};
use crate::shared::{self, Change, Shared};

/// Completes an IPAM result: gateways that it left out, the default route that was asked for, the index of the link.
/// Returns the addresses that the bridge needs.
pub(in crate::builtin) fn plan(
    (is_gateway, is_default_gateway): (bool, bool),
    result: &mut CniResult,
) -> Result<Vec<IpNet>> {
    let mut needed = Vec::new();
    for ip in &mut result.ips {
        ip.interface = Some(POD_END);
        if !is_gateway {
            continue;
        }
        let gateway = of(ip.address, ip.gateway);
        if gateway.is_ipv4() != ip.address.addr().is_ipv4() {
            return Err(Error::Addresses(format!("IPAM gave {} a gateway of the other family, {gateway}", ip.address)));
        }
        ip.gateway = Some(gateway);
        if is_default_gateway && !result.routes.iter().any(|route| leads_out(route, gateway)) {
            result.routes.push(Route::new(default_destination(gateway.is_ipv4()), Some(gateway)));
        }
        needed.push(net(gateway, ip.address.prefix_len())?);
    }
    Ok(needed)
}

/// The gateway that IPAM names, or else the first address of the subnet.
fn of(subnet: IpNet, named: Option<IpAddr>) -> IpAddr {
    named.unwrap_or_else(|| first(subnet))
}

/// What a tenant's configuration will need of the bridge, as far as it is known before ADD, takes nothing that the node
/// reaches.
pub(super) fn admit(host: &mut Host<'_>, config: &Config, call: &Call<'_>) -> Result<()> {
    if !config.is_gateway {
        return Ok(());
    }
    let each = |seen: ipam::Foreseen| net(of(seen.subnet, seen.gateway), seen.subnet.prefix_len());
    let needed = ipam::foresee(call)?.into_iter().map(each).collect::<Result<Vec<_>>>()?;
    if needed.is_empty() {
        return Ok(());
    }
    let bridge = host.netlink()?.link_by_name(&config.bridge.parse()?)?;
    refuse_overlaps(host, config, bridge.as_ref(), &needed).map(drop)
}

/// The same for what IPAM gave, and whether the node has all of it. A bridge that has the addresses takes nothing more, and nothing
/// is listed for it.
pub(super) fn refuse_overlaps(
    host: &mut Host<'_>,
    config: &Config,
    bridge: Option<&Link>,
    needed: &[IpNet],
) -> Result<bool> {
    if needed.is_empty() {
        return Ok(true);
    }
    let netlink = host.netlink()?;
    let own = match config.vlans.id {
        None => bridge.map(|bridge| bridge.index),
        Some(id) => netlink.link_by_name(&vlan::gateway_name(&config.bridge, id).parse()?)?.map(|link| link.index),
    };
    let held = own.map(|own| netlink.addresses(Some(own))).transpose()?.unwrap_or_default();
    let is_there = |address: &&IpNet| held.iter().any(|held| held.net == **address);
    let missing: Vec<Claim> =
        needed.iter().filter(|address| !is_there(address)).map(|address| Claim::Subnet(*address)).collect();
    node_networks::refuse(host, &missing, own)?;
    Ok(missing.is_empty())
}

/// Is it a default route of the gateway's family that names its own next hop?
fn leads_out(route: &Route, gateway: IpAddr) -> bool {
    route.dst.prefix_len() == 0 && route.dst.addr().is_ipv4() == gateway.is_ipv4() && route.gw.is_some()
}

/// The first address of a subnet.
fn first(subnet: IpNet) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().saturating_add(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().saturating_add(1)).into(),
    }
}

fn net(address: IpAddr, prefix: u8) -> Result<IpNet> {
    IpNet::new(address, prefix).map_err(|_| Error::Addresses(format!("{address}/{prefix} is no subnet")))
}

/// Puts the addresses on the bridge and makes the node forward. `is_whole` where the bridge was seen to have them all.
pub(super) fn bring_up(
    host: &mut Host<'_>,
    call: &Call<'_>,
    point: &Point<'_>,
    bridge: &Link,
    (needed, is_whole): (&[IpNet], bool),
    force: bool,
) -> Result<()> {
    if needed.is_empty() {
        return Ok(());
    }
    // On somebody else's bridge an address that we put there is owned by all who need it.
    if !shared::is_ours(bridge) || !is_whole && !has_all(host, bridge, needed)? {
        give(host, call, point, bridge, needed, force)?;
    }
    let families: Vec<IpAddr> = needed.iter().map(IpNet::addr).collect();
    host.forward(&families)
}

fn give(
    host: &mut Host<'_>,
    call: &Call<'_>,
    point: &Point<'_>,
    bridge: &Link,
    needed: &[IpNet],
    force: bool,
) -> Result<()> {
    let shared = Shared::lock(&host.node)?;
    let held = held(host, bridge)?;
    let missing: Vec<IpNet> = needed.iter().filter(|address| !held.contains(address)).copied().collect();
    let in_the_way = |held: &&IpNet| !needed.contains(held) && missing.iter().any(|wanted| contradicts(held, wanted));
    let replaced: Vec<IpNet> = held.iter().filter(in_the_way).copied().collect();
    let mut wanted = Vec::new();
    for other in &replaced {
        let owner = shared.network_of(bridge, other);
        refuse_to_replace(call, bridge, other, owner.as_deref(), needed, force)?;
        // What an administrator put on a bridge comes back; what a network put there it replaces.
        if owner.is_none() && !shared::is_ours(bridge) {
            wanted.push(Change::NoAddress(*other));
        }
    }
    shared.note_gateways(bridge, call.origin.source, &missing, &replaced)?;
    for other in replaced.iter().filter(|other| !wanted.contains(&Change::NoAddress(**other))) {
        host.netlink()?.delete_address(bridge.index, *other)?;
    }
    if shared::is_ours(bridge) {
        for address in &missing {
            Change::Address(*address).make(host, bridge)?;
        }
    } else {
        // Who needs the gateway needs that what is in its way stays off.
        let off = shared.taken_off(bridge).into_iter().filter(|off| needed.iter().any(|net| contradicts(off, net)));
        wanted.extend(off.map(Change::NoAddress).filter(|change| !wanted.contains(change)).collect::<Vec<_>>());
        wanted.extend(needed.iter().copied().map(Change::Address));
        shared.change(host, point, bridge, false, &wanted)?;
    }
    if missing.is_empty() {
        return Ok(());
    }
    // Pins the address that a bridge of others had before the first port joined: the pods will hold it in their neighbour
    // tables, and left to itself the bridge takes a port's. One that has lost all its ports had none: it has our port's now.
    let netlink = host.netlink()?;
    let mac = match bridge.mac.filter(|mac| mac.0 != [0; 6]) {
        None => netlink.link_by_index(bridge.index)?.and_then(|bridge| bridge.mac),
        mac => mac,
    };
    netlink.set_link(bridge.index, &LinkChange { mac, ..LinkChange::default() })
}

/// `forceAddress` of a definition replaces what the same network has put on the bridge, and nothing else.
fn refuse_to_replace(
    call: &Call<'_>,
    bridge: &Link,
    other: &IpNet,
    owner: Option<&str>,
    needed: &[IpNet],
    force: bool,
) -> Result<()> {
    let name = &bridge.name;
    if !force {
        let wanted = needed.iter().find(|wanted| contradicts(other, wanted)).unwrap_or(other);
        let text = format!(
            "bridge {name} has address {other}, which differs from the gateway {wanted}; `forceAddress` replaces it"
        );
        return Err(Error::Addresses(text));
    }
    if !call.origin.is_tenants || owner == Some(call.origin.source.to_string().as_str()) {
        return Ok(());
    }
    let whose = owner.map_or_else(|| "the node's own".to_owned(), |network| format!("that of network {network}"));
    let allowed = format!("false: address {other} of bridge {name} is {whose}");
    Err(Finding::new("forceAddress", true, allowed).into())
}

fn has_all(host: &mut Host<'_>, bridge: &Link, needed: &[IpNet]) -> Result<bool> {
    let held = held(host, bridge)?;
    Ok(needed.iter().all(|address| held.contains(address)))
}

fn held(host: &mut Host<'_>, bridge: &Link) -> Result<Vec<IpNet>> {
    Ok(host.netlink()?.addresses(Some(bridge.index))?.into_iter().map(|address| address.net).collect())
}

/// CHECK: the gateways of the result are on the bridge, or on the interface of its VLAN, and the node forwards.
pub(in crate::builtin) fn check(
    host: &mut Host<'_>,
    bridge: &Link,
    vlan: Option<u16>,
    expected: &CniResult,
) -> Result<()> {
    let netlink = host.netlink()?;
    let link = match vlan {
        None => bridge.clone(),
        Some(id) => {
            let name = vlan::gateway_name(&bridge.name, id);
            let missing = || check::differs(format!("link {name}, the gateway's, is missing on the host"));
            netlink.link_by_name(&name.parse()?)?.ok_or_else(missing)?
        }
    };
    let held = netlink.addresses(Some(link.index))?;
    let mut gateways = Vec::new();
    for ip in expected.ips.iter().filter(|ip| ip.interface == Some(POD_END)) {
        let Some(gateway) = ip.gateway else { continue };
        let wanted = net(gateway, ip.address.prefix_len())?;
        if !held.iter().any(|address| address.net == wanted) {
            return Err(check::differs(format!("gateway {wanted} is missing on link {} of the host", link.name)));
        }
        gateways.push(gateway);
    }
    check::forwarding(&gateways)
}

/// A bridge has one IPv4 subnet, as with the reference plugin, and IPv6 subnets that do not overlap. Link-local
/// addresses are the kernel's.
fn contradicts(held: &IpNet, wanted: &IpNet) -> bool {
    match (held, wanted) {
        (IpNet::V4(_), IpNet::V4(_)) => true,
        (IpNet::V6(_), IpNet::V6(_)) => held.contains(&wanted.addr()) || wanted.contains(&held.addr()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use attachments::cni::object::Object;
    use attachments::cni::version::Version;

    use super::*;

    fn planned(conf: &str, ipam: &str) -> (Vec<String>, String) {
        let config = Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap();
        let mut result = CniResult::parse(ipam.as_bytes(), Version::NEWEST).unwrap();
        let needed = plan((config.is_gateway, config.is_default_gateway), &mut result).unwrap();
        let result = result.encode(Version::NEWEST).unwrap().to_json();
        (needed.iter().map(IpNet::to_string).collect(), result.replace(r#""cniVersion":"1.1.0","#, ""))
    }

    const TWO: &str = r#"{"ips":[{"address":"10.0.0.5/24"},{"address":"fd00::5/64","gateway":"fd00::9"}]}"#;

    #[test]
    fn without_a_gateway_only_the_index_is_set() {
        let (needed, result) = planned("{}", TWO);
        assert!(needed.is_empty());
        assert_eq!(
            result,
            r#"{"ips":[{"interface":2,"address":"10.0.0.5/24"},{"interface":2,"address":"fd00::5/64","gateway":"fd00::9"}]}"#
        );
    }

    #[test]
    fn a_gateway_is_the_first_address_unless_ipam_names_one() {
        let (needed, result) = planned(r#"{"isGateway":true}"#, TWO);
        assert_eq!(needed, ["10.0.0.1/24", "fd00::9/64"]);
        assert!(result.contains(r#""gateway":"10.0.0.1""#) && !result.contains("routes"), "{result}");
    }

    #[test]
    fn a_default_route_is_added_once_per_family_unless_ipam_has_one_with_a_gateway() {
        let (_, result) = planned(r#"{"isDefaultGateway":true}"#, TWO);
        assert!(
            result.ends_with(r#""routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1"},{"dst":"::/0","gw":"fd00::9"}]}"#),
            "{result}"
        );
        let routed = r#"{"ips":[{"address":"10.0.0.5/24"},{"address":"10.1.0.5/24"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.7"}]}"#;
        let (needed, result) = planned(r#"{"isDefaultGateway":true}"#, routed);
        assert_eq!(needed, ["10.0.0.1/24", "10.1.0.1/24"]);
        assert!(result.ends_with(r#""routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.7"}]}"#), "{result}");
    }

    #[test]
    fn addresses_contradict_within_their_family() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert!(contradicts(&net("10.0.0.1/24"), &net("10.9.0.1/24")));
        assert!(contradicts(&net("fd00::1/48"), &net("fd00::9/64")));
        assert!(!contradicts(&net("fd00:1::1/64"), &net("fd00:2::1/64")));
        assert!(!contradicts(&net("fe80::1/64"), &net("fd00:2::1/64")));
        assert!(!contradicts(&net("10.0.0.1/24"), &net("fd00::1/64")));
    }
}
