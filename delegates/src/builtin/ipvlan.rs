//! `ipvlan`: a link of the pod that shares the hardware address of a link of the node.

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Dns};
use attachments::finding::Finding;
use attachments::names::IfName;
use attachments::rule::Rule;

use super::conf_reader::ConfReader;
use super::delegate::{Context, Delegate, Reading, Undo};
use super::master::{self, Master, OnDemand};
use super::{Attached, check, default_bridge, on_link, parent_link};
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ipam::{self, Leased};
use crate::nl::link::{IpvlanMode, Kind, Link, NewKind, NewLink};
use crate::shared::{self, Change, Shared};

/// The configuration of an ipvlan attachment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// The link underneath; absent: the one of prevResult, or that of the default route.
    pub master: Option<IfName>,
    /// The VLAN or VXLAN of it that is the master.
    pub on_demand: Option<OnDemand>,
    /// At which layer the links on one master are told apart.
    pub mode: IpvlanMode,
    /// MTU, at most the master's; absent: the master's.
    pub mtu: Option<u32>,
    /// `master` is a link in the pod.
    pub in_pod: bool,
    /// `dns`: what the result says, whatever IPAM said.
    pub dns: Dns,
}

const KEYS: [&str; 11] = [
    "master",
    "masterVlan",
    "masterVlanName",
    "masterVxlan",
    "masterVxlanName",
    "mode",
    "mtu",
    "linkInContainer",
    "ipam",
    "acceptRA",
    "dns",
];

const MODES: [(&str, IpvlanMode); 3] = [("l2", IpvlanMode::L2), ("l3", IpvlanMode::L3), ("l3s", IpvlanMode::L3s)];

impl Config {
    pub(super) fn read(conf: &Object) -> Reading<Self> {
        let mut reader = ConfReader::of(conf);
        let master = reader.parsed(("master", Rule::MasterName), parent_link::MASTER);
        let in_pod = reader.flag("linkInContainer");
        let config = Self {
            on_demand: OnDemand::read(&mut reader, master.as_ref(), in_pod),
            master,
            mode: reader.choice(("mode", Rule::IpvlanMode), &MODES, IpvlanMode::L2),
            mtu: reader.mtu(),
            in_pod,
            dns: reader.dns(),
        };
        reader.finish(config)
    }

    fn as_master<'a>(&'a self, name: Option<&'a IfName>, in_pod: bool) -> Master<'a> {
        Master { name, on_demand: self.on_demand.as_ref(), in_pod }
    }

    /// The master's name: `master`, or the one interface of the plugin before.
    fn master(&self, previous: Option<&CniResult>) -> Result<Option<IfName>> {
        match (&self.master, previous) {
            (Some(named), _) => Ok(Some(named.clone())),
            (None, None) => Ok(None),
            (None, Some(previous)) => match previous.interfaces.as_slice() {
                [one] => {
                    let name = IfName::found(&one.name).map_err(|e| e.under("prevResult.interfaces[0].name"))?;
                    Ok(Some(name))
                }
                many => {
                    let found = format!("none, and prevResult has {} interfaces", many.len());
                    Err(Finding::new("master", found, "a link, or a prevResult with one interface").into())
                }
            },
        }
    }
}

/// The delegate.
pub(super) struct Ipvlan;

impl Delegate for Ipvlan {
    const TYPE: &'static str = "ipvlan";
    const KEYS: &'static [&'static str] = &KEYS;
    const LEADS_TO_SERVERS: bool = true;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    fn admit(_config: Result<&Config>, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        default_bridge::refuse_as_master(host, call)
    }

    /// Without an IPAM of its own it takes the addresses of the plugin before, if there is one.
    fn add(config: &Config, cx: Context<'_, '_>, leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let chained = call.prev_result.filter(|_| !ipam::asks_on_link(call.conf)).into_iter().cloned();
        let given = [leased.result].into_iter().chain(chained).find(|given| !given.ips.is_empty());
        // Without any it is layer 2 only.
        let addresses = given.unwrap_or_default();
        if call.origin.is_tenants && !config.in_pod {
            spare_own_addresses(host, &addresses)?;
        }
        let name = config.master(call.prev_result)?;
        let wanted = config.as_master(name.as_ref(), config.in_pod);
        let master = wanted.obtain(host, sandbox, call, point)?;
        let attached = Self::attach(config, Context { host, sandbox, call, point }, master, addresses);
        attached.inspect_err(|_| {
            // What it says about the cause is the first error; DEL does this again.
            let _ = shared::release(host, point).and(wanted.release(host, point));
        })
    }

    /// What a server gives is no more the node's than what a definition says.
    fn address(config: &Config, cx: Context<'_, '_>, attached: Attached, leased: CniResult) -> Result<Attached> {
        if cx.call.origin.is_tenants && !config.in_pod {
            spare_own_addresses(cx.host, &leased)?;
        }
        on_link::give(cx, attached, leased)
    }

    fn del(cx: Undo<'_, '_>) -> Result<()> {
        shared::release(cx.host, cx.point).and(master::release_of(cx.host, cx.point, cx.call))
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let master = config.as_master(config.master.as_ref(), config.in_pod);
        parent_link::check(cx, "ipvlan", master, |link| {
            check::same(link, "mode", &link.kind, &Kind::Ipvlan(config.mode))
        })
    }

    /// A master that comes from the plugin before is not known yet.
    fn status(config: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        let kind = NewKind::Ipvlan { parent: parent_link::NO_LINK, mode: config.mode };
        let elsewhere = config.in_pod || config.master.is_none();
        let master = config.as_master(config.master.as_ref(), elsewhere);
        parent_link::status(host, master, config.mtu, kind)
    }
}

impl Ipvlan {
    fn attach(config: &Config, cx: Context<'_, '_>, master: Link, addresses: CniResult) -> Result<Attached> {
        let Context { host, sandbox, point, .. } = cx;
        let master = parent_link::free(master)?;
        if !config.in_pod {
            claim_mode(host, point, &master, config.mode)?;
        }
        let kind = NewKind::Ipvlan { parent: master.index, mode: config.mode };
        // The hardware address is the master's: the kernel takes no other.
        let link = NewLink {
            mtu: parent_link::bound_mtu(config.mtu, &master)?,
            group: point.group,
            ..NewLink::new(point.ifname, kind)
        };
        let result = CniResult { dns: config.dns.clone(), ..addresses };
        parent_link::add(host, sandbox, point, config.in_pod, &link, result)
    }
}

/// One mode holds for all ipvlans of a master: one that is made in another would change those of all other pods.
fn claim_mode(host: &mut Host<'_>, point: &Point<'_>, master: &Link, mode: IpvlanMode) -> Result<()> {
    let name = MODES.iter().find(|(_, one)| *one == mode).map_or("", |(name, _)| *name);
    let shared = Shared::lock(&host.node)?;
    match shared.other_ipvlan_mode(master, name) {
        None => shared.change(host, point, master, false, &[Change::IpvlanMode(name.to_owned())]),
        Some(other) => {
            let allowed =
                format!("{other}: other pods have ipvlans on {}, and the kernel keeps one mode for all", master.name);
            Err(Error::Parent(Finding::new("mode", name, allowed)))
        }
    }
}

/// An ipvlan takes the packets to its addresses off its master before the node sees them, its own ones too.
fn spare_own_addresses(host: &mut Host<'_>, addresses: &CniResult) -> Result<()> {
    for ip in &addresses.ips {
        let address = ip.address.addr();
        if host.netlink()?.is_own_address(address)? {
            return Err(Finding::new("ipam", address, "addresses that the node does not have itself").into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;

    #[test]
    fn every_key_is_read_and_every_wrong_one_named() {
        for (text, mode) in
            [("l2", IpvlanMode::L2), ("l3", IpvlanMode::L3), ("l3s", IpvlanMode::L3s), ("", IpvlanMode::L2)]
        {
            let conf = format!(r#"{{"master":"eth1","mode":"{text}","mtu":1400,"linkInContainer":true}}"#);
            let config = Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap();
            assert_eq!((config.mode, config.mtu, config.in_pod), (mode, Some(1400), true));
        }
        let conf = r#"{"master":3,"mode":"L2","mtu":1.5,"linkInContainer":"no","dns":{"domain":1}}"#;
        let findings = Builtin::Ipvlan.validate(&Object::parse(conf.as_bytes()).unwrap());
        let paths: Vec<&str> = findings.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["master", "linkInContainer", "mode", "mtu", "dns.domain"]);
    }
}
