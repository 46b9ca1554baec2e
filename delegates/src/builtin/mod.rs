//! The delegates that run in process. Each reads its typed configuration, takes addresses, plans and applies.
//!
//! A delegate's file holds its configuration and its plan. What all of them do alike is here, once: findings before
//! anything is touched, addresses taken before the first link and given back when the attachment fails.

mod bridge;
mod hardware;
mod ipvlan;
mod keys;
mod macvlan;
mod vxlan;

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::finding::Finding;
use attachments::names::PluginType;

use crate::apply::{Host, Sandbox};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::spec::LinkId;

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
    /// A veth into an overlay of the network's own.
    Vxlan,
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
            "vxlan" => Some(Self::Vxlan),
            _ => None,
        }
    }

    /// Everything that is wrong with a configuration, `ipam` included, as far as it can be known without the node.
    pub fn validate(self, conf: &Object) -> Vec<Finding> {
        let own = match self {
            Self::Bridge => bridge::Config::read(conf).err(),
            Self::Macvlan => macvlan::Config::read(conf).err(),
            Self::Ipvlan => ipvlan::Config::read(conf).err(),
            Self::Vxlan => vxlan::Config::read(conf).err(),
            Self::Loopback => return Vec::new(),
        };
        let mut findings = own.unwrap_or_default();
        findings.extend(crate::ipam::validate(conf));
        findings
    }

    /// ADD. A failure undoes what it did itself, addresses included.
    pub fn add(self, host: &mut Host<'_>, sandbox: &mut Sandbox, call: &Call<'_>) -> Result<Attached> {
        let _ = (host, sandbox, call);
        Err(Error::NotReady(format!("{self:?}: ADD is not written yet")))
    }

    /// DEL: what is not a link in the pod, which [`crate::apply::detach`] removed before. Idempotent; needs neither the
    /// namespace nor a result.
    pub fn del(self, host: &mut Host<'_>, call: &Call<'_>, links: &[LinkId]) -> Result<()> {
        let _ = (host, call, links);
        Err(Error::NotReady(format!("{self:?}: DEL is not written yet")))
    }

    /// CHECK: the kernel holds what the result says. [`Error::Differs`] names the difference.
    pub fn check(self, host: &mut Host<'_>, sandbox: &mut Sandbox, call: &Call<'_>) -> Result<()> {
        let _ = (host, sandbox, call);
        Err(Error::NotReady(format!("{self:?}: CHECK is not written yet")))
    }

    /// STATUS: [`Error::NotReady`] when an ADD would fail now.
    pub fn status(self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        let _ = (host, call);
        Err(Error::NotReady(format!("{self:?}: STATUS is not written yet")))
    }
}
