//! The delegates that run in process. Each reads its typed configuration, takes addresses, plans and applies.
//!
//! A delegate's file holds its configuration and its plan. What all of them do alike is here, once: findings before
//! anything is touched, addresses taken before the first link and given back when the attachment fails.

mod bandwidth;
mod bridge;
mod chained;
mod compare;
mod default_bridge;
mod dummy;
mod flannel;
mod hardware;
mod host_device;
mod ipvlan;
mod keys;
mod loopback;
mod macvlan;
mod passthru;
mod port;
mod portmap;
mod ptp;
mod sbr;
mod stacked;
#[cfg(test)]
mod tests;
mod tuning;
mod vlan;
mod vrf;
mod vxlan;

pub use chained::Chained;
pub use default_bridge::bridge_of;
pub use portmap::HostPorts;

use std::path::PathBuf;

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::cni::spelling::Known;
use attachments::finding::{Finding, Findings};
use attachments::names::{ContainerId, PluginType};

use crate::apply::{Host, Sandbox};
use crate::call::{Call, Node, Point};
use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::firewall::masquerade;
use crate::spec::LinkId;
use crate::{ipam, shared};

/// A plugin type that is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// A veth into a bridge of the node.
    Bridge,
    /// A link with its own hardware address on a link of the node.
    Macvlan,
    /// A link that shares the hardware address of a link of the node.
    Ipvlan,
    /// The pod's `lo`.
    Loopback,
    /// Nothing but a result for the plugins behind it.
    Passthru,
    /// A veth into an overlay of the network's own.
    Vxlan,
    /// A link with the frames of one VLAN of a link of the node.
    Vlan,
    /// A link that leads nowhere.
    Dummy,
    /// A veth to the node, which routes.
    Ptp,
    /// A link of the node, moved into the pod.
    HostDevice,
    /// Whatever flannel's subnet is handed on to.
    Flannel,
    /// Something behind another plugin of the chain.
    Chained(Chained),
}

/// What an ADD made.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    /// The result, in the shape of 1.1.0.
    pub result: CniResult,
    /// The links in the pod's namespace, for the record.
    pub links: Vec<LinkId>,
}

impl Builtin {
    /// The delegate of a plugin type.
    pub fn from_type(kind: &PluginType) -> Option<Self> {
        match kind.as_str() {
            "bridge" => Some(Self::Bridge),
            "macvlan" => Some(Self::Macvlan),
            "ipvlan" => Some(Self::Ipvlan),
            "loopback" => Some(Self::Loopback),
            "passthru" => Some(Self::Passthru),
            "vxlan" => Some(Self::Vxlan),
            "vlan" => Some(Self::Vlan),
            "dummy" => Some(Self::Dummy),
            "ptp" => Some(Self::Ptp),
            "host-device" => Some(Self::HostDevice),
            "flannel" => Some(Self::Flannel),
            kind => Chained::from_type(kind).map(Self::Chained),
        }
    }

    /// The keys that a delegate reads, beside those that every plugin may have.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Bridge => &bridge::KEYS,
            Self::Macvlan => &macvlan::KEYS,
            Self::Ipvlan => &ipvlan::KEYS,
            Self::Vxlan => &vxlan::KEYS,
            Self::Vlan => &vlan::KEYS,
            Self::Dummy => &["ipam"],
            Self::Ptp => &ptp::KEYS,
            Self::HostDevice => &host_device::KEYS,
            Self::Flannel => &flannel::KEYS,
            Self::Loopback | Self::Passthru => &[],
            Self::Chained(chained) => chained.keys(),
        }
    }

    /// The keys that it reads in `args.cni`.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Chained(Chained::Tuning) => self.keys(),
            _ => &["ips", "mac"],
        }
    }

    /// Everything that is wrong with a configuration, `ipam` included, as far as it can be known without the node.
    pub fn validate(self, conf: &Object) -> Vec<Finding> {
        let own = match self {
            Self::Bridge => bridge::Config::read(conf).err(),
            Self::Macvlan => macvlan::Config::read(conf).err(),
            Self::Ipvlan => ipvlan::Config::read(conf).err(),
            Self::Vxlan => vxlan::Config::read(conf).err(),
            Self::Vlan => vlan::Config::read(conf).err(),
            Self::Dummy => dummy::validate(conf).err(),
            Self::Ptp => ptp::Config::read(conf).err(),
            Self::HostDevice => host_device::Config::read(conf).err(),
            Self::Loopback | Self::Passthru => None,
            Self::Flannel => Some(flannel::validate(conf)),
            Self::Chained(chained) => Some(chained.validate(conf)),
        };
        let addresses = if self.takes_addresses() { ipam::validate(conf) } else { Vec::new() };
        // What several readers need, each finds wrong.
        let mut findings = Findings::default();
        findings.extend(own.unwrap_or_default().into_iter().chain(addresses));
        findings.into()
    }

    /// Does it take addresses for what it makes?
    fn takes_addresses(self) -> bool {
        !matches!(self, Self::Loopback | Self::Passthru | Self::Flannel | Self::Chained(_))
    }

    /// Before anything is attached: what a tenant's definition asks of the node and may not have. The node's own text may have
    /// everything ([`crate::call::Origin`]).
    pub fn admit(self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        if !call.origin.is_tenants {
            return Ok(());
        }
        match self {
            Self::Bridge => bridge::admit(host, call),
            Self::Ptp => ptp::admit(host, call),
            Self::HostDevice => host_device::admit(host, call),
            Self::Flannel => flannel::admit(host, call),
            Self::Macvlan => default_bridge::refuse_as_master(host, call).and_then(|()| macvlan::admit(host, call)),
            Self::Vlan => default_bridge::refuse_as_master(host, call).and_then(|()| vlan::admit(host, call)),
            Self::Ipvlan => default_bridge::refuse_as_master(host, call),
            Self::Vxlan | Self::Dummy | Self::Loopback | Self::Passthru | Self::Chained(_) => Ok(()),
        }
    }

    /// ADD. A failure undoes what it did itself, addresses included.
    pub fn add(self, host: &mut Host<'_>, sandbox: &mut Sandbox, call: &Call<'_>) -> Result<Attached> {
        let findings = self.validate(call.conf);
        if !findings.is_empty() {
            return Err(Error::Config(findings));
        }
        let point = point(call)?;
        let leased = if self.takes_addresses() { lease(&host.node, call)? } else { None };
        let took = leased.is_some();
        let attached = match self {
            Self::Bridge => bridge::attach(host, sandbox, call, point, leased),
            Self::Macvlan => macvlan::attach(host, sandbox, call, point, leased),
            Self::Ipvlan => ipvlan::attach(host, sandbox, call, point, leased),
            Self::Vxlan => vxlan::attach(host, sandbox, call, point, leased),
            Self::Vlan => vlan::attach(host, sandbox, call, point, leased),
            Self::Dummy => dummy::attach(host, sandbox, point, leased),
            Self::Ptp => ptp::attach(host, sandbox, call, point, leased),
            Self::HostDevice => host_device::attach(host, sandbox, call, point, leased),
            Self::Loopback => loopback::attach(sandbox, call, point),
            Self::Passthru => Ok(passthru::attach(call)),
            Self::Flannel => flannel::attach(host, sandbox, call),
            Self::Chained(chained) => chained.add(host, sandbox, call, point),
        };
        if attached.is_err() && took {
            // What it says about the cause is the first error; DEL releases again.
            let _ = ipam::release(&host.node, call);
        }
        attached
    }

    /// DEL, first of all: gives back what the pod only borrowed (a moved device, changed settings), from the states that
    /// ADD saved, oldest first: of all plugins of the chain, each knows its own. Idempotent. A sandbox that is gone has
    /// given back by itself what it could. No state at all means that nobody recorded the ADD: what the reference plugins
    /// leave tells what they borrowed.
    pub fn hand_back(
        self,
        host: &mut Host<'_>,
        sandbox: Option<&mut Sandbox>,
        call: &Call<'_>,
        saved: &[&Object],
    ) -> Result<()> {
        let point = point(call)?;
        match self {
            Self::HostDevice => host_device::hand_back(host, sandbox, point, saved),
            Self::Flannel => flannel::hand_back(host, sandbox, call, saved),
            Self::Bridge | Self::Macvlan | Self::Ipvlan | Self::Vlan | Self::Dummy | Self::Ptp | Self::Vxlan => Ok(()),
            Self::Loopback | Self::Passthru => Ok(()),
            Self::Chained(chained) => chained.hand_back(sandbox, call, point, saved),
        }
    }

    /// DEL: what is not a link in the pod, which [`crate::apply::detach`] removed before. Idempotent; needs neither the
    /// namespace nor a result. Everything is tried; the first failure is the error.
    ///
    /// `lo` stays as it is: the path may lead to another pod by now, and a namespace's `lo` goes with it.
    pub fn del(self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        let point = point(call)?;
        let removed = match self {
            Self::Bridge => bridge::remove(host, call, point),
            Self::Vxlan => vxlan::remove(host, call, point),
            Self::Ptp => port::remove(host, call, point),
            Self::Ipvlan => shared::release(host, point),
            Self::Macvlan | Self::Vlan | Self::Dummy | Self::HostDevice => Ok(()),
            Self::Loopback | Self::Passthru => Ok(()),
            Self::Flannel => flannel::remove(host, call),
            Self::Chained(chained) => chained.del(host, call, point),
        };
        if self.takes_addresses() { removed.and(ipam::release(&host.node, call)) } else { removed }
    }

    /// CHECK: the kernel holds what the result says. [`Error::Differs`] names the difference.
    pub fn check(self, host: &mut Host<'_>, sandbox: &mut Sandbox, call: &Call<'_>) -> Result<()> {
        let point = point(call)?;
        if self.takes_addresses() && ipam::configured(call.conf)? {
            ipam::check(&host.node, call)?;
        }
        match self {
            Self::Bridge => bridge::check(host, sandbox, call, point),
            Self::Macvlan => macvlan::check(host, sandbox, call, point),
            Self::Ipvlan => ipvlan::check(host, sandbox, call, point),
            Self::Vxlan => vxlan::check(host, sandbox, call, point),
            Self::Vlan => vlan::check(host, sandbox, call, point),
            Self::Dummy => dummy::check(sandbox, call, point),
            Self::Ptp => ptp::check(host, sandbox, call, point),
            Self::HostDevice => host_device::check(sandbox, call, point),
            Self::Flannel => flannel::check(host, sandbox, call),
            Self::Loopback => loopback::check(sandbox, call),
            Self::Passthru => Ok(()),
            Self::Chained(chained) => chained.check(host, sandbox, call, point),
        }
    }

    /// GC: removes what containers that are gone have left in this network, and tells what lies about of strangers.
    pub fn gc(self, host: &mut Host<'_>, call: &Call<'_>, claims: &Claims<'_>) -> Result<Vec<String>> {
        let mut told = match self {
            Self::Bridge | Self::Ptp => port::gc(host, call, claims)?,
            Self::Vxlan => vxlan::gc(host, call).map(|()| Vec::new())?,
            Self::Flannel => flannel::gc(host, call, claims)?,
            Self::Chained(chained) => chained.gc(host, call, claims)?,
            // What these make is in the pod, and was removed with the record.
            Self::Macvlan | Self::Ipvlan | Self::Vlan | Self::Dummy | Self::HostDevice => Vec::new(),
            Self::Loopback | Self::Passthru => Vec::new(),
        };
        if self.takes_addresses() {
            told.extend(ipam::gc(&host.node, call, claims)?);
        }
        Ok(told)
    }

    /// STATUS: [`Error::NotReady`] when an ADD would fail now.
    pub fn status(self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        let findings = self.validate(call.conf);
        if !findings.is_empty() {
            return Err(Error::Config(findings));
        }
        match self {
            Self::Bridge => bridge::status(host, call)?,
            Self::Macvlan => macvlan::status(host, call)?,
            Self::Ipvlan => ipvlan::status(host, call)?,
            Self::Vxlan => vxlan::status(host, call)?,
            Self::Vlan => vlan::status(host, call)?,
            Self::Dummy => dummy::status(host)?,
            Self::Ptp => ptp::status(host, call)?,
            Self::HostDevice => host_device::status(host, call)?,
            Self::Loopback | Self::Passthru => {}
            Self::Flannel => flannel::status(host, call)?,
            Self::Chained(chained) => chained.status(host, call)?,
        }
        if self.takes_addresses() { ipam::status(&host.node, call) } else { Ok(()) }
    }
}

/// The keys of an element of a bridge's `vlanTrunk`.
pub(crate) fn trunk() -> &'static Known<'static> {
    &bridge::TRUNK
}

/// GC of what no network's configuration leads to any more: overlays in which no port is left, and changes of shared links
/// whose owners are gone.
pub fn sweep(host: &mut Host<'_>, claims: &Claims<'_>) -> Result<()> {
    vxlan::sweep(host).and(shared::sweep(host, claims))
}

/// What needs no network's configuration to be found: masquerades, mappings of ports, addresses of host-local below these
/// directories and its usual one, all of which name their container; and overlays in which no port is left. Everything is
/// tried.
pub fn reclaim(host: &mut Host<'_>, data_dirs: &[PathBuf], claims: &Claims<'_>) -> Vec<Error> {
    let deadline = host.node.deadline;
    let done = [
        masquerade::sweep(None, claims, deadline).map(drop),
        portmap::gc(host, claims).map(drop),
        ipam::reclaim(data_dirs, claims, deadline),
        sweep(host, claims),
    ];
    done.into_iter().filter_map(Result::err).collect()
}

/// Takes addresses, where the configuration asks for some.
fn lease(node: &Node<'_>, call: &Call<'_>) -> Result<Option<CniResult>> {
    if !ipam::configured(call.conf)? {
        return Ok(None);
    }
    let leased = ipam::allocate(node, call)?;
    if leased.ips.is_empty() { Err(Error::Addresses("IPAM gave no address".to_owned())) } else { Ok(Some(leased)) }
}

/// The attachment point; ADD, DEL and CHECK have one.
fn point<'a, 'b>(call: &'a Call<'b>) -> Result<&'a Point<'b>> {
    call.point.as_ref().ok_or_else(|| Finding::missing("CNI_CONTAINERID", ContainerId::ALLOWED).into())
}
