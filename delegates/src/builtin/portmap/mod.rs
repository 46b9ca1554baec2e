//! `portmap`: ports of the node lead to ports of the pod, through nftables.

mod conditions;
mod config;
mod host_ports;

use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::finding::Finding;
use attachments::names::IfName;

pub use host_ports::HostPorts;

use self::config::Config;
use super::chained::addresses_of_pod;
use super::delegate::{Context, Delegate, Reading, Undo};
use super::{Attached, chained};
use crate::call::{Call, Point};
use crate::error::Result;
use crate::firewall::noted;
use crate::firewall::port_mappings::{self, Mapping, Rival};
use crate::host::Host;
use crate::ipam::Leased;
use crate::netns;
use crate::nl::link::Kind;
use crate::ownership::Ownership;
use crate::shared::{self, Change, Shared};

/// The delegate.
pub(super) struct Portmap;

impl Delegate for Portmap {
    const TYPE: &'static str = "portmap";
    const KEYS: &'static [&'static str] =
        &["backend", "snat", "masqAll", "markMasqBit", "externalSetMarkChain", "conditionsV4", "conditionsV6"];
    const IS_CHAINED: bool = true;
    const TAKES_ADDRESSES: bool = false;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    /// Without mappings nothing is touched.
    fn add(config: &Config, cx: Context<'_, '_>, _leased: Leased) -> Result<Attached> {
        let Context { host, call, point, .. } = cx;
        let previous = chained::previous(call)?;
        let attached = Attached::nothing(previous.clone());
        if config.mappings.is_empty() {
            return Ok(attached);
        }
        let addresses = one_of_each_family(previous, point);
        refuse_unreachable(config, &addresses)?;
        let deadline = host.node.deadline;
        let is_default = call.origin.is_default;
        let refuse = |i, mapping: &Mapping, rival: Rival<'_>| host_ports::taken(i, mapping, rival, is_default);
        let added = port_mappings::add(config, point.container, &addresses, is_default, &refuse, deadline)?;
        let saved = host.save(&noted::note(&added));
        port_mappings::forget_udp(config, &addresses, deadline);
        let finished = match addresses.iter().find(|address| address.is_ipv4() && config.snat) {
            Some(address) => let_localhost_through(host, point, *address),
            None => Ok(()),
        };
        saved.and(finished).inspect_err(|_| {
            // What it says about the cause is the first error; DEL does this again.
            let _ = port_mappings::remove(point.container, None, host.staying(), deadline)
                .and(shared::release(host, point));
        })?;
        Ok(attached)
    }

    /// The rules carry their container's name, whatever the mappings were. An ADD that was recorded and had no mappings made none.
    fn del(cx: Undo<'_, '_>) -> Result<()> {
        let Undo { host, call, point } = cx;
        let had_none = || Config::read(call.conf).is_ok_and(|config| config.mappings.is_empty());
        let removed = match call.saved {
            Some(_) if had_none() => Ok(()),
            saved => port_mappings::remove(point.container, saved, host.staying(), host.node.deadline),
        };
        removed.and(shared::release(host, point))
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { host, call, point, .. } = cx;
        let expected = chained::previous(call)?;
        if config.mappings.is_empty() {
            return Ok(());
        }
        let addresses = one_of_each_family(expected, point);
        port_mappings::check(config, point.container, &addresses, call.saved, host.node.deadline)
    }

    fn gc(host: &mut Host<'_>, _call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
        sweep(host, ownership)
    }

    /// The kernel has nf_tables.
    fn status(_: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        port_mappings::status(host.node.deadline)
    }
}

/// Removes the mappings of containers that are gone, of whatever network.
pub(super) fn sweep(host: &Host<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
    port_mappings::sweep(ownership, host.node.deadline)
}

/// The pod's first address of each family.
fn one_of_each_family(result: &CniResult, point: &Point<'_>) -> Vec<IpAddr> {
    let first = |v4: bool| addresses_of_pod(result, point).map(|ip| ip.address.addr()).find(|ip| ip.is_ipv4() == v4);
    [first(true), first(false)].into_iter().flatten().collect()
}

/// A mapping that no address of the pod serves would be told as done.
fn refuse_unreachable(config: &Config, addresses: &[IpAddr]) -> Result<()> {
    let served = |mapping: &Mapping| addresses.iter().any(|address| mapping.is_for(address.is_ipv4()));
    match config.mappings.iter().enumerate().find(|(_, mapping)| !served(mapping)) {
        None => Ok(()),
        Some((i, mapping)) => {
            let has = match addresses {
                [] => "none, it has no address".to_owned(),
                some => some.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "),
            };
            let allowed = format!("one that an address of the pod can serve: {has}");
            Err(Finding::new(format!("runtimeConfig.portMappings[{i}]"), mapping, allowed).into())
        }
    }
}

/// Packets from 127.0.0.1 may leave by the link to the pod: the kernel takes them for forged otherwise. A bridge that we
/// made keeps that, as with the reference plugin, and a veth goes with its pod.
fn let_localhost_through(host: &mut Host<'_>, point: &Point<'_>, address: IpAddr) -> Result<()> {
    let netlink = host.netlink()?;
    let Some(index) = netlink.link_towards(address)? else { return Ok(()) };
    let Some(link) = netlink.link_by_index(index)? else { return Ok(()) };
    let name = IfName::found(&link.name)?;
    if !shared::is_ours(&link) && link.kind != Kind::Veth {
        let key = format!("ipv4/conf/{name}/route_localnet");
        let wanted = Change::Sysctl { key, value: "1".to_owned() };
        return Shared::lock(&host.node)?.change(host, point, &link, false, &[wanted]);
    }
    let key = ["ipv4", "conf", name.as_str(), "route_localnet"];
    // Looked at first: a write takes the kernel's lock of all network configuration.
    if netns::read_sysctl(&key)?.as_deref() == Some("0") { netns::write_sysctl(&key, "1") } else { Ok(()) }
}
