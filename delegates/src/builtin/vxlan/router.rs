//! The node as the router of an overlay: the next hop of pods in mode l3, the gateway of others (`isGateway`).

use attachments::cni::result::CniResult;
use attachments::finding::Finding;
use attachments::names::Mac;
use ipnet::IpNet;

use super::POD_END;
use super::config::Config;
use super::managed::Known;
use super::segment::Segment;
use crate::apply;
use crate::builtin::bridge::gateway;
use crate::builtin::check;
use crate::builtin::ptp::{self, Ends};
use crate::builtin::veth::Veth;
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::firewall::masquerade;
use crate::host::Host;
use crate::nl::link::{Link, PortFlags};
use crate::nl::route::RouteFilter;
use crate::node_networks::{self, Claim};
use crate::overlay::Names;
use crate::overlay::gateway::{mac_of, settle as settle_bridge};
use crate::overlay::routed::ROUTER;
use crate::sandbox::Sandbox;

/// A port whose frames go to the node alone.
pub(super) const ISOLATED: PortFlags =
    PortFlags { hairpin: None, isolated: Some(true), learning: None, unicast_flood: None, neigh_suppress: None };

/// Completes what IPAM gave: the link, and who routes. Returns the addresses that the bridge needs. A tenant's take nothing that the
/// node reaches.
pub(super) fn plan(
    host: &mut Host<'_>,
    config: &Config,
    call: &Call<'_>,
    names: &Names,
    known: Option<&Known>,
    result: &mut CniResult,
) -> Result<Vec<IpNet>> {
    let routing = &config.routing;
    let mut needed = gateway::plan((routing.gateway, config.is_default_gateway), result)?;
    if routing.l3 {
        if known.is_none() {
            let allowed = "\"l2\": in directory mode nobody tells who else is in the overlay";
            return Err(Error::Parent(Finding::new("mode", "\"l3\"", allowed)));
        }
        for ip in &mut result.ips {
            ip.gateway = Some(ROUTER[usize::from(ip.address.addr().is_ipv6())]);
        }
    }
    // What the node agent knows comes with the bridge.
    let told = known.map(Known::gateways).filter(|gateways| !gateways.is_empty());
    if let Some(gateways) = told {
        needed = gateways.to_vec();
    }
    if call.origin.is_tenants && !needed.is_empty() {
        let netlink = host.netlink()?;
        let bridge = netlink.link_by_name(&names.bridge)?.map(|bridge| bridge.index);
        let held = bridge.map(|bridge| netlink.addresses(Some(bridge))).transpose()?.unwrap_or_default();
        let missing = needed.iter().filter(|net| !held.iter().any(|held| held.net == **net));
        let claims: Vec<Claim> = missing.copied().map(Claim::Subnet).collect();
        node_networks::refuse(host, &claims, bridge)?;
    }
    let routes: Vec<_> = match routing.l3 {
        true => result.ips.iter().map(|ip| ip.address.addr()).collect(),
        false => needed.iter().map(IpNet::addr).collect(),
    };
    host.forward(&routes)?;
    Ok(if told.is_some() { Vec::new() } else { needed })
}

/// Gives the bridge the gateway's addresses.
pub(super) fn settle(host: &mut Host<'_>, names: &Names, segment: &mut Segment, needed: &[IpNet]) -> Result<()> {
    let Some(first) = needed.first() else { return Ok(()) };
    let netlink = host.netlink()?;
    let gone = || apply::vanished(format!("find bridge {}", names.bridge));
    let mut bridge = netlink.link_by_index(segment.bridge)?.ok_or_else(gone)?;
    settle_bridge(netlink, &mut bridge, needed, mac_of(first.addr()))?;
    segment.bridge_mac = mac_of(first.addr()).to_string();
    Ok(())
}

/// The pod's end in mode l3: all of its subnets are behind the node, whose hardware address is given.
pub(super) fn configure(sandbox: &mut Sandbox, point: &Point<'_>, veth: &Veth, result: &CniResult) -> Result<()> {
    let ends = ends(result);
    ptp::configure(sandbox, point, veth, &ends, result)?;
    for end in &ends {
        sandbox.netlink.set_neighbour(veth.pod.index, end.gateway, router_mac())?;
    }
    Ok(())
}

fn ends(result: &CniResult) -> Vec<Ends> {
    result.ips.iter().filter_map(|ip| Some(Ends { pod: ip.address, gateway: ip.gateway? })).collect()
}

/// The hardware address of the bridge in mode l3, on each node and in each overlay.
fn router_mac() -> Mac {
    mac_of(ROUTER[0])
}

/// CHECK: the gateway is on the bridge, and what leaves by it is masqueraded; in mode l3 the pod's subnets are behind the node.
pub(super) fn check(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    call: &Call<'_>,
    config: &Config,
    bridge: &Link,
    pod: &Link,
    expected: &CniResult,
) -> Result<()> {
    if config.routing.gateway {
        gateway::check(host, bridge, None, expected)?;
    }
    let own = expected.ips.iter().filter(|ip| ip.interface == Some(POD_END));
    let addresses: Vec<IpNet> = own.map(|ip| ip.address).collect();
    if config.ip_masq {
        let point = call.point()?;
        masquerade::check(call.network, point.container, point.ifname, &addresses, call.saved, host.node.deadline)?;
    }
    if !config.routing.l3 {
        return Ok(());
    }
    check::forwarding(&addresses.iter().map(IpNet::addr).collect::<Vec<_>>())?;
    let held = sandbox.netlink.routes(RouteFilter { index: Some(pod.index), ..RouteFilter::default() })?;
    let is_there = |net: &IpNet| {
        let is_alone = net.prefix_len() == net.max_prefix_len();
        is_alone || held.iter().any(|route| route.destination == net.trunc() && route.gateway.is_some())
    };
    match addresses.iter().find(|net| !is_there(net)) {
        Some(net) => Err(check::differs(format!("route {} through the node is missing in the pod", net.trunc()))),
        None => Ok(()),
    }
}
