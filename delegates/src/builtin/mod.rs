//! The delegates that run in process, and their registry.
//!
//! Each delegate has a file or a directory, which implements `delegate::Delegate`, and a line in the registry below. A file
//! that is no delegate holds what several of them share.

mod bandwidth;
mod bond;
mod bridge;
mod chained;
mod check;
mod conf_reader;
mod default_bridge;
mod delegate;
mod drivers;
mod dummy;
mod flannel;
mod host_device;
mod ipvlan;
mod loopback;
mod mac_address;
mod macvlan;
mod master;
mod on_link;
mod parent_link;
mod passthru;
mod portmap;
mod ptp;
mod route_override;
mod sbr;
mod tap;
#[cfg(test)]
mod tests;
mod tuning;
mod veth;
mod vlan;
mod vrf;
mod vxlan;

pub use default_bridge::bridge_of;
pub use delegate::Configured;
pub use drivers::{drivers, has_driver};
pub use portmap::HostPorts;
pub(crate) use vxlan::overlay_of;

use std::path::PathBuf;

use attachments::aliases::stands_for;
use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Interface};
use attachments::cni::spelling::Known;
use attachments::finding::Finding;
use attachments::names::PluginType;

use self::delegate::{Context, Entry, Registered, Undo};

use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::firewall::masquerade;
use crate::host::Host;
use crate::ownership::Ownership;
use crate::sandbox::Sandbox;
use crate::spec::LinkId;
use crate::{ipam, shared};

/// What can be seen of an attachment without the programs of its chain: its link is in the pod, and has the addresses of the result.
/// A result that names no link in the pod says nothing to compare.
pub fn check_in_pod(sandbox: &mut Sandbox, point: &Point<'_>, result: &CniResult) -> Result<()> {
    let is_told = |one: &Interface| one.name == point.ifname.as_str() && one.sandbox == point.netns;
    if !result.interfaces.iter().any(is_told) {
        return Ok(());
    }
    let (link, _) = check::told_link(sandbox, point, result)?;
    check::addresses(sandbox, &link, result)
}

/// Lists the delegates: one line each, of the variant and its type.
macro_rules! registry {
    ($($(#[$doc:meta])* $variant:ident => $delegate:ty,)+) => {
        /// A plugin type that is built in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Builtin {
            $($(#[$doc])* $variant,)+
        }

        impl Builtin {
            const ALL: &[Self] = &[$(Self::$variant),+];

            fn delegate(self) -> &'static dyn Registered {
                match self {
                    $(Self::$variant => &Entry::<$delegate>::NEW,)+
                }
            }
        }
    };
}

registry! {
    /// A veth into a bridge of the node.
    Bridge => bridge::Bridge,
    /// A link with its own hardware address on a link of the node.
    Macvlan => macvlan::Macvlan,
    /// A link that shares the hardware address of a link of the node.
    Ipvlan => ipvlan::Ipvlan,
    /// The pod's `lo`.
    Loopback => loopback::Loopback,
    /// Nothing but a result for the plugins behind it.
    Passthru => passthru::Passthru,
    /// A veth into an overlay of the network's own.
    Vxlan => vxlan::Vxlan,
    /// A link with the frames of one VLAN of a link of the node.
    Vlan => vlan::Vlan,
    /// A link that leads nowhere.
    Dummy => dummy::Dummy,
    /// A link whose other end is a file that a program of the pod opens.
    Tap => tap::Tap,
    /// A veth to the node, which routes.
    Ptp => ptp::Ptp,
    /// A link of the node, moved into the pod.
    HostDevice => host_device::HostDevice,
    /// Several links of the pod as one.
    Bond => bond::Bond,
    /// Whatever flannel's subnet is handed on to.
    Flannel => flannel::Flannel,
    /// Chained: ports of the node lead to ports of the pod.
    Portmap => portmap::Portmap,
    /// Chained: settings of the pod and of its link.
    Tuning => tuning::Tuning,
    /// Chained: limits on what the pod sends and receives.
    Bandwidth => bandwidth::Bandwidth,
    /// Chained: routes by source address.
    Sbr => sbr::Sbr,
    /// Chained: the link in a routing domain of the pod.
    Vrf => vrf::Vrf,
    /// Chained: other routes of the link.
    RouteOverride => route_override::RouteOverride,
}

/// What an ADD made.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    /// The result, in the shape of 1.1.0.
    pub result: CniResult,
    /// The links in the pod's namespace, for the record.
    pub links: Vec<LinkId>,
}

impl Attached {
    /// Nothing but a result: no link was made.
    fn nothing(result: CniResult) -> Self {
        Self { result, links: Vec::new() }
    }
}

impl Builtin {
    /// The delegate of a plugin type, or of a type that [stands for](stands_for) one.
    pub fn from_type(kind: &PluginType) -> Option<Self> {
        let kind = stands_for(kind.as_str());
        Self::all().find(|builtin| builtin.kind() == kind)
    }

    /// Every delegate.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied()
    }

    /// Its plugin type.
    pub(crate) fn kind(self) -> &'static str {
        self.delegate().kind()
    }

    /// Does it need a plugin before it in the chain?
    pub(crate) fn is_chained(self) -> bool {
        self.delegate().is_chained()
    }

    /// The keys that a delegate reads, beside those that every plugin may have.
    pub fn keys(self) -> &'static [&'static str] {
        self.delegate().keys()
    }

    /// The keys that it reads in `args.cni`.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        self.delegate().arguments()
    }

    /// Those of its keys that hold paths of the node.
    pub(crate) fn paths(self) -> &'static [&'static str] {
        self.delegate().paths()
    }

    /// The keys of objects below one of its keys.
    pub(crate) fn nested(self) -> &'static [(&'static str, &'static Known<'static>)] {
        self.delegate().nested()
    }

    /// Everything that is wrong with a configuration, `ipam` included, as far as it can be known without the node.
    pub fn validate(self, conf: &Object) -> Vec<Finding> {
        self.configure(conf).err().unwrap_or_default()
    }

    /// The delegate with its configuration, unless [`Self::validate`] would find something.
    ///
    /// ```
    /// use attachments::cni::object::Object;
    /// use delegates::builtin::Builtin;
    ///
    /// let vlan = Builtin::from_type(&"vlan".parse().unwrap()).unwrap();
    /// let conf = Object::parse(br#"{"type": "vlan", "vlanId": 5000}"#).unwrap();
    /// let findings = vlan.configure(&conf).err().unwrap();
    /// assert_eq!(findings[0].path, "master");
    /// assert_eq!(findings[1].to_string(), "vlanId: got 5000, want an integer from 0 to 4094");
    /// ```
    pub fn configure(self, conf: &Object) -> std::result::Result<Configured, Vec<Finding>> {
        self.delegate().configure(conf)
    }

    /// What [`Configured::admit`] does, for a program that stands in for the delegate: it may read keys that the delegate
    /// cannot read.
    pub fn admit(self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        self.delegate().admit(host, call)
    }

    /// DEL, first of all: gives back what the pod only borrowed (a moved device, changed settings), from the states that
    /// ADD saved, oldest first. Idempotent. Without a `sandbox` the pod is gone, and without states nobody recorded the ADD.
    pub fn restore(
        self,
        host: &mut Host<'_>,
        sandbox: Option<&mut Sandbox>,
        call: &Call<'_>,
        saved: &[&Object],
    ) -> Result<()> {
        self.delegate().restore(Undo { host, call, point: call.point()? }, sandbox, saved)
    }

    /// DEL: what is not a link in the pod, which [`crate::apply::detach`] removed before. Idempotent; needs neither the
    /// namespace nor a result. Everything is tried; the first failure is the error.
    ///
    /// `lo` stays as it is: the path may lead to another pod by now, and a namespace's `lo` goes with it.
    pub fn del(self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        self.delegate().del(Undo { host, call, point: call.point()? })
    }

    /// CHECK: the kernel holds what the result says. [`Error::Differs`] names the difference.
    pub fn check(self, host: &mut Host<'_>, sandbox: &mut Sandbox, call: &Call<'_>) -> Result<()> {
        self.delegate().check(Context { host, sandbox, call, point: call.point()? })
    }

    /// The part of CHECK that is about address management: the attachment's addresses are still its own.
    pub fn holds(self, host: &Host<'_>, call: &Call<'_>) -> Result<()> {
        self.delegate().holds(host, call)
    }

    /// GC: removes what containers that are gone have left in this network, and lists what unknown containers left.
    pub fn gc(self, host: &mut Host<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
        self.delegate().gc(host, call, ownership)
    }

    /// STATUS: [`Error::NotReady`] when an ADD would fail now.
    pub fn status(self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        self.delegate().status(host, call)
    }
}

/// Before anything is attached: what a tenant's `ipam` section may not have, whoever serves the plugin
/// ([`ipam::admit`]).
pub fn admit_addresses(call: &Call<'_>) -> Result<()> {
    ipam::admit(call, |kind| Builtin::from_type(kind).is_some())
}

/// GC of what no network's configuration leads to any more: overlays in which no port is left, changes of shared links and
/// addresses of blocks whose owners are gone.
pub fn sweep(host: &mut Host<'_>, ownership: &Ownership<'_>) -> Result<()> {
    let swept = vxlan::sweep(host).and(shared::sweep(host, ownership)).and(master::sweep(host));
    swept.and(ipam::sweep(&host.node, ownership))
}

/// What needs no network's configuration to be found: masquerades, mappings of ports, addresses of host-local below these
/// directories and its usual one, all of which name their container; and what [`sweep`] finds. Everything is tried.
pub fn reclaim(host: &mut Host<'_>, data_dirs: &[PathBuf], ownership: &Ownership<'_>) -> Vec<Error> {
    let deadline = host.node.deadline;
    let done = [
        masquerade::sweep(None, ownership, deadline).map(drop),
        portmap::sweep(host, ownership).map(drop),
        ipam::reclaim(data_dirs, ownership, deadline),
        sweep(host, ownership),
    ];
    done.into_iter().filter_map(Result::err).collect()
}
