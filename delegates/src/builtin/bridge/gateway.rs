//! The bridge as the pods' gateway: which addresses it needs, and how it gets them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attachments::cni::result::{CniResult, Route};
use ipnet::IpNet;
use nix::errno::Errno;

use super::{Config, POD_END, vlan};
use crate::apply::{Host, is};
use crate::builtin::compare;
use crate::call::Call;
use crate::error::{Error, Result};
use crate::ipam;
use crate::nl::Netlink;
use crate::nl::link::{Link, LinkChange};
use crate::node_networks::{self, Claim};

/// Completes an IPAM result: gateways that it left out, the default route that was asked for, the index of the link.
/// Returns the addresses that the bridge needs.
pub(super) fn plan(config: &Config, result: &mut CniResult) -> Result<Vec<IpNet>> {
    let mut needed = Vec::new();
    for ip in &mut result.ips {
        ip.interface = Some(POD_END);
        if !config.is_gateway {
            continue;
        }
        let gateway = of(ip.address, ip.gateway);
        if gateway.is_ipv4() != ip.address.addr().is_ipv4() {
            return Err(Error::Addresses(format!("IPAM gave {} a gateway of the other family, {gateway}", ip.address)));
        }
        ip.gateway = Some(gateway);
        if config.is_default_gateway && !result.routes.iter().any(|route| leads_out(route, gateway)) {
            result.routes.push(Route::new(everywhere(gateway)?, Some(gateway)));
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
    refuse_overlaps(host, config, &needed)
}

/// The same for what IPAM gave. A bridge that has the addresses takes nothing more, and nothing is listed for it.
pub(super) fn refuse_overlaps(host: &mut Host<'_>, config: &Config, needed: &[IpNet]) -> Result<()> {
    if needed.is_empty() {
        return Ok(());
    }
    let link = match config.vlans.id {
        None => config.bridge.clone(),
        Some(id) => vlan::gateway_name(&config.bridge, id),
    };
    let netlink = host.netlink()?;
    let own = netlink.link_by_name(&link.parse()?)?.map(|link| link.index);
    let held = own.map(|own| netlink.addresses(Some(own))).transpose()?.unwrap_or_default();
    let is_there = |address: &&IpNet| held.iter().any(|held| held.net == **address);
    let missing: Vec<Claim> =
        needed.iter().filter(|address| !is_there(address)).map(|address| Claim::Subnet(*address)).collect();
    node_networks::refuse(host, &missing, own)
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

fn everywhere(gateway: IpAddr) -> Result<IpNet> {
    net(if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }, 0)
}

fn net(address: IpAddr, prefix: u8) -> Result<IpNet> {
    IpNet::new(address, prefix).map_err(|_| Error::Addresses(format!("{address}/{prefix} is no subnet")))
}

/// Puts the addresses on the bridge and makes the node forward.
pub(super) fn bring_up(host: &mut Host<'_>, bridge: &Link, needed: &[IpNet], force: bool) -> Result<()> {
    if needed.is_empty() {
        return Ok(());
    }
    let netlink = host.netlink()?;
    let held: Vec<IpNet> = netlink.addresses(Some(bridge.index))?.into_iter().map(|address| address.net).collect();
    for address in needed.iter().filter(|address| !held.contains(address)) {
        for other in held.iter().filter(|held| !needed.contains(held) && contradicts(held, address)) {
            if !force {
                let text = format!(
                    "bridge {} has address {other}, which differs from the gateway {address}; `forceAddress` replaces it",
                    bridge.name
                );
                return Err(Error::Addresses(text));
            }
            netlink.delete_address(bridge.index, *other)?;
        }
        add(netlink, bridge, *address)?;
    }
    let families: Vec<IpAddr> = needed.iter().map(IpNet::addr).collect();
    host.forward(&families)
}

/// CHECK: the gateways of the result are on the bridge, or on the interface of its VLAN, and the node forwards.
pub(super) fn check(host: &mut Host<'_>, bridge: &Link, vlan: Option<u16>, expected: &CniResult) -> Result<()> {
    let netlink = host.netlink()?;
    let link = match vlan {
        None => bridge.clone(),
        Some(id) => {
            let name = vlan::gateway_name(&bridge.name, id);
            let missing = || compare::differs(format!("link {name}, the gateway's, is missing on the host"));
            netlink.link_by_name(&name.parse()?)?.ok_or_else(missing)?
        }
    };
    let held = netlink.addresses(Some(link.index))?;
    let mut gateways = Vec::new();
    for ip in expected.ips.iter().filter(|ip| ip.interface == Some(POD_END)) {
        let Some(gateway) = ip.gateway else { continue };
        let wanted = net(gateway, ip.address.prefix_len())?;
        if !held.iter().any(|address| address.net == wanted) {
            return Err(compare::differs(format!("gateway {wanted} is missing on link {} of the host", link.name)));
        }
        gateways.push(gateway);
    }
    compare::forwarding(&gateways)
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

fn add(netlink: &mut Netlink, bridge: &Link, address: IpNet) -> Result<()> {
    let added = netlink.add_address(bridge.index, address, false);
    if is(&added, Errno::EEXIST) {
        // Another ADD was faster.
        return Ok(());
    }
    added?;
    // Pins the address that a bridge of others had before the first port joined: the pods will hold it in their neighbour
    // tables, and left to itself the bridge takes a port's.
    let pin = LinkChange { mac: bridge.mac, ..LinkChange::default() };
    netlink.set_link(bridge.index, &pin)
}

#[cfg(test)]
mod tests {
    use attachments::cni::object::Object;
    use attachments::cni::version::Version;

    use super::*;

    fn planned(conf: &str, ipam: &str) -> (Vec<String>, String) {
        let config = Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap();
        let mut result = CniResult::parse(ipam.as_bytes(), Version::NEWEST).unwrap();
        let needed = plan(&config, &mut result).unwrap();
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
