//! An overlay whose members the cluster knows: what the node agent wrote decides, and the entries are given. Callers hold the overlay's
//! lock.

use std::net::IpAddr;

use attachments::cni::result::CniResult;
use attachments::finding::Finding;
use attachments::names::Mac;
use ipnet::IpNet;

use super::config::Config;
use super::segment::Segment;
use crate::builtin::check;
use crate::error::{Error, Result};
use crate::firewall::overlays;
use crate::host::Host;
use crate::networks::state::{Endpoint, Membership, NetworkState, Routing};
use crate::networks::{NetworkId, endpoints};
use crate::nl::link::{Kind, Link, PortFlags};
use crate::nl::neighbour::Entry;
use crate::overlay::kept::{self, Mark};
use crate::overlay::{self, Names};

/// A node's membership in an overlay, as its state file says.
pub(super) struct Known {
    id: NetworkId,
    mark: Option<Mark>,
    state: NetworkState,
    membership: Membership,
}

impl Known {
    /// What the node agent wrote; `None` for an overlay whose members nobody tells us: one with `peers` or `group`, and any in
    /// directory mode. [`Error::Busy`] while the node has not joined.
    pub(super) fn read(host: &Host<'_>, config: &Config) -> Result<Option<Self>> {
        if host.node.is_alone || !config.is_managed() {
            return Ok(None);
        }
        let id = NetworkId::overlay(config.port, config.vni);
        let mark = Mark::take(host.node.state_dir, &id)?;
        let mut state = NetworkState::read(host.node.state_dir, &id)?;
        match state.as_mut().and_then(|state| state.overlay.take()) {
            Some(membership) => {
                let mode = |Routing { l3, direct, .. }: &Routing| match (l3, direct) {
                    (false, _) => "l2",
                    (true, false) => "l3",
                    (true, true) => "l3 with directRouting",
                };
                let (is, wants) = (mode(&membership.routing), mode(&config.routing));
                if is != wants {
                    let allowed = format!("{is}, in which this node is in overlay {id} while pods of it are here");
                    return Err(Error::Parent(Finding::new("mode", wants, allowed)));
                }
                let state = state.map(|state| NetworkState { overlay: Some(membership.clone()), ..state });
                Ok(state.map(|state| Self { id, mark, state, membership }))
            }
            None => Err(Error::Busy(format!(
                "overlay {id}: the node agent has not joined it on this node yet, and without `peers` or `group` it alone knows the members"
            ))),
        }
    }

    /// Makes the overlay, or brings the one that is there to the membership; then its entries, unless they were brought to this very
    /// state before, by whomever.
    pub(super) fn ensure(&self, host: &mut Host<'_>, config: &Config) -> Result<Segment> {
        let state_dir = host.node.state_dir;
        let netlink = host.netlink()?;
        let segment = kept::join(netlink, config.vni, config.port, &self.membership)?;
        let device = segment.device.index;
        if segment.is_new || segment.has_new_bridge || !self.mark.as_ref().is_some_and(|mark| mark.is_set(device)) {
            let local = kept::local_pods(netlink, state_dir, &self.id, &segment)?;
            kept::program(netlink, &segment, &self.state, &local)?;
            guard(host)?;
            if let Some(mark) = &self.mark {
                mark.set(device)?;
            }
        }
        let bridge_mac = segment.bridge.mac.map(|mac| mac.to_string()).unwrap_or_default();
        let bridge = segment.bridge.index;
        Ok(Segment { bridge, bridge_mac, mtu: self.membership.mtu, kept: Some(segment) })
    }

    /// Brings the routes to a pod that the node's slots do not explain, now that its port is there (mode l3).
    pub(super) fn route(&self, host: &mut Host<'_>, segment: &Segment) -> Result<()> {
        let (state_dir, netlink) = (host.node.state_dir, host.netlink()?);
        let Some(segment) = segment.kept.as_ref().filter(|_| self.membership.routing.l3) else { return Ok(()) };
        let local = kept::local_pods(netlink, state_dir, &self.id, segment)?;
        if local.is_empty() { Ok(()) } else { kept::program(netlink, segment, &self.state, &local).map(drop) }
    }

    /// The gateway's addresses, as far as the pool names them.
    pub(super) fn gateways(&self) -> &[IpNet] {
        &self.membership.routing.gateways
    }

    /// Notes a pod that the node's slots do not explain, before its port is there. What slots of others say of it goes.
    pub(super) fn note(
        &self,
        host: &mut Host<'_>,
        segment: &Segment,
        port: &str,
        mac: Mac,
        leased: &CniResult,
    ) -> Result<()> {
        let ips: Vec<IpAddr> = leased.ips.iter().map(|ip| ip.address.addr()).collect();
        if endpoints::is_explained(&self.state, mac, &ips) {
            return Ok(());
        }
        let endpoint = Endpoint { mac, ips };
        endpoints::note(host.node.state_dir, &self.id, port, &endpoint)?;
        match &segment.kept {
            Some(segment) => kept::give_way(host.netlink()?, segment, &self.state, &endpoint),
            None => Ok(()),
        }
    }

    /// CHECK: device, MTU and local address are the membership's, and its members may send.
    pub(super) fn check(&self, host: &mut Host<'_>, config: &Config, names: &Names, bridge: &Link) -> Result<()> {
        let state_dir = host.node.state_dir;
        let netlink = host.netlink()?;
        let missing = || check::differs(format!("vxlan device {} is missing on the host", names.device));
        let device = netlink.link_by_name(&names.device)?.ok_or_else(missing)?;
        let Kind::Vxlan(is) = &device.kind else { return check::same_kind(&device, "vxlan") };
        let Membership { vtep, mac, mtu, members, routing } = &self.membership;
        check::same(&device, "VNI", is.vni, config.vni)?;
        check::same(&device, "UDP port", is.port, config.port)?;
        check::same(&device, "index of the bridge", device.master, (!routing.l3).then_some(bridge.index))?;
        check::is_up(&device)?;
        check::same(&device, "local address", is.local, Some(*vtep))?;
        check::same(&device, "hardware address", device.mac, Some(*mac))?;
        check::same(&device, "MTU", device.mtu, *mtu)?;
        check::same(&device, "learning", is.learning, false)?;
        let members: Vec<IpAddr> = members.iter().map(|member| member.vtep).collect();
        if routing.l3 {
            let bridge = bridge.clone();
            let segment = overlay::Segment { bridge, device, is_new: false, has_new_bridge: false, table: names.table };
            let local = kept::local_pods(netlink, state_dir, &self.id, &segment)?;
            overlay::routed::check(netlink, &segment, &self.state, &local)?;
        }
        overlays::check(names.bridge.as_str(), config.port, &members, host.node.deadline)
    }
}

/// What was noted of a port that is gone.
pub(super) fn forget(host: &Host<'_>, config: &Config, port: &str) -> Result<()> {
    endpoints::forget(host.node.state_dir, &NetworkId::overlay(config.port, config.vni), port)
}

/// The port of a pod whose one hardware address is known has it given and learns none: what the bridge does not know goes into the
/// vxlan device and to no other pod.
pub(super) fn settle(host: &mut Host<'_>, port: u32, mac: Mac) -> Result<()> {
    let netlink = host.netlink()?;
    let flags = PortFlags { learning: Some(false), unicast_flood: Some(false), ..PortFlags::default() };
    netlink.set_port(port, &flags)?;
    netlink.change_entries(&[Entry::Station { index: port, mac }], "entries of a bridge port")
}

/// Brings the firewall to the overlays that are on the node. In directory mode there is nobody to be guarded for.
pub(in crate::builtin) fn guard(host: &mut Host<'_>) -> Result<()> {
    if host.node.is_alone {
        return Ok(());
    }
    let (state_dir, deadline) = (host.node.state_dir, host.node.deadline);
    let members = |id: &NetworkId| overlays::members_in(state_dir, id);
    overlays::update(host.netlink()?, state_dir, &members, deadline)
}
