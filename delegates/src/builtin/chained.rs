//! Delegates that come behind another one in a chain: they change what that one made, take no addresses, and give its
//! result on.

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Ip};
use attachments::finding::Finding;

use super::{Attached, bandwidth, portmap, sbr, tuning, vrf};
use crate::call::{Call, Point};
use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::sandbox::Sandbox;

/// A chained delegate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chained {
    /// Ports of the node lead to ports of the pod.
    Portmap,
    /// Settings of the pod and of its link.
    Tuning,
    /// Limits on what the pod sends and receives.
    Bandwidth,
    /// Routes by source address.
    Sbr,
    /// The link in a routing domain of the pod.
    Vrf,
}

impl Chained {
    /// The delegate of a plugin type.
    pub(super) fn from_type(kind: &str) -> Option<Self> {
        match kind {
            "portmap" => Some(Self::Portmap),
            "tuning" => Some(Self::Tuning),
            "bandwidth" => Some(Self::Bandwidth),
            "sbr" => Some(Self::Sbr),
            "vrf" => Some(Self::Vrf),
            _ => None,
        }
    }

    /// The keys that it reads, beside those that every plugin may have.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Portmap => {
                &["backend", "snat", "masqAll", "markMasqBit", "externalSetMarkChain", "conditionsV4", "conditionsV6"]
            }
            Self::Tuning => &["sysctl", "mac", "mtu", "promisc", "allmulti", "txQLen", "dataDir"],
            Self::Bandwidth => &["ingressRate", "ingressBurst", "egressRate", "egressBurst"],
            Self::Sbr => &["table"],
            Self::Vrf => &vrf::KEYS,
        }
    }

    pub(super) fn validate(self, conf: &Object) -> Vec<Finding> {
        let own = match self {
            Self::Portmap => portmap::Config::read(conf).err(),
            Self::Tuning => tuning::Config::read(conf).err(),
            Self::Bandwidth => bandwidth::Config::read(conf).err(),
            Self::Sbr => sbr::Config::read(conf).err(),
            Self::Vrf => vrf::Config::read(conf).err(),
        };
        own.unwrap_or_default()
    }

    pub(super) fn add(
        self,
        host: &mut Host<'_>,
        sandbox: &mut Sandbox,
        call: &Call<'_>,
        point: &Point<'_>,
    ) -> Result<Attached> {
        let previous = previous(call)?;
        match self {
            Self::Portmap => portmap::attach(host, call, point, previous),
            Self::Tuning => tuning::attach(host, sandbox, call, point, previous),
            Self::Bandwidth => bandwidth::attach(host, sandbox, call, point, previous),
            Self::Sbr => sbr::attach(host, sandbox, call, point, previous),
            Self::Vrf => vrf::attach(host, sandbox, call, point, previous),
        }
    }

    pub(super) fn hand_back(
        self,
        sandbox: Option<&mut Sandbox>,
        call: &Call<'_>,
        point: &Point<'_>,
        saved: &[&Object],
    ) -> Result<()> {
        match self {
            Self::Portmap | Self::Bandwidth => Ok(()),
            Self::Tuning => tuning::hand_back(sandbox, call, point, saved),
            Self::Sbr => sbr::hand_back(sandbox, call, point, saved),
            Self::Vrf => vrf::hand_back(sandbox, call, point, saved),
        }
    }

    pub(super) fn del(self, host: &mut Host<'_>, call: &Call<'_>, point: &Point<'_>) -> Result<()> {
        match self {
            Self::Portmap => portmap::remove(host, point),
            Self::Tuning => tuning::remove(call, point),
            Self::Bandwidth => bandwidth::remove(host, call, point),
            Self::Sbr | Self::Vrf => Ok(()),
        }
    }

    pub(super) fn check(
        self,
        host: &mut Host<'_>,
        sandbox: &mut Sandbox,
        call: &Call<'_>,
        point: &Point<'_>,
    ) -> Result<()> {
        let previous = previous(call)?;
        match self {
            Self::Portmap => portmap::check(host, call, point, previous),
            Self::Tuning => tuning::check(&host.node, sandbox, call, point),
            Self::Bandwidth => bandwidth::check(host, sandbox, call, point, previous),
            Self::Sbr => sbr::check(sandbox, call, point, previous),
            Self::Vrf => vrf::check(sandbox, call, point),
        }
    }

    pub(super) fn gc(self, host: &mut Host<'_>, call: &Call<'_>, claims: &Claims<'_>) -> Result<Vec<String>> {
        match self {
            Self::Portmap => portmap::gc(host, claims),
            Self::Tuning => tuning::gc(call, claims),
            Self::Bandwidth => bandwidth::gc(host, call, claims).map(|()| Vec::new()),
            // What these change goes with the pod, or with the link that they changed.
            Self::Sbr | Self::Vrf => Ok(Vec::new()),
        }
    }

    pub(super) fn status(self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        match self {
            Self::Portmap => portmap::status(host),
            Self::Tuning => tuning::status(call),
            Self::Bandwidth => bandwidth::status(host, call),
            Self::Sbr => sbr::status(host),
            Self::Vrf => vrf::status(host),
        }
    }
}

/// The result of the plugin before (ADD), or of the whole ADD (CHECK).
fn previous<'a>(call: &'a Call<'_>) -> Result<&'a CniResult> {
    const WANT: &str = "the result of a plugin before this one in `plugins`";
    call.prev_result.ok_or_else(|| Error::from(Finding::missing("prevResult", WANT)))
}

/// The pod's link, which the plugin before should have made.
pub(super) fn no_link(point: &Point<'_>) -> Finding {
    let allowed = "the name of a link in the pod, which a plugin before this one made";
    Finding::new("CNI_IFNAME", format_args!("{:?}", point.ifname.as_str()), allowed)
}

/// The addresses of a result that may be the pod's: on its interface, or on none that the result names.
pub(super) fn addresses_of_pod<'a>(result: &'a CniResult, point: &Point<'_>) -> impl Iterator<Item = &'a Ip> {
    result.ips.iter().filter(|ip| {
        let index = ip.interface.and_then(|index| usize::try_from(index).ok());
        let named = index.and_then(|index| result.interfaces.get(index));
        named.is_none_or(|interface| interface.name == point.ifname.as_str() && !interface.sandbox.is_empty())
    })
}
