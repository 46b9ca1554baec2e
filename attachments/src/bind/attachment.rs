//! One attachment with every choice made: what the engine runs and records.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::cni::conf::PluginConf;
use crate::cni::object::Object;
use crate::cni::result::CniResult;
use crate::cni::version::Version;
use crate::dialect::Dialect;
use crate::names::{DeviceId, IfName, Mac, NetworkName, ObjectName};
use crate::selection::{ROLES, RequestedRoute, RequestedRule};

/// Everything that the verbs of one attachment need. As JSON it is part of a record; configurations keep their bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// The origin of its configuration.
    pub source: Source,
    /// Name of the CNI network.
    pub network: NetworkName,
    /// Name of its host-local directory if that is not the network's name: under isolation it contains the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_dir: Option<String>,
    /// Version spoken with its plugins.
    pub version: Version,
    /// CHECK succeeds without a call.
    pub disable_check: bool,
    /// GC succeeds without a call.
    pub disable_gc: bool,
    /// CNI_IFNAME.
    pub ifname: IfName,
    /// The chain, with `cni-args` and the device set. At least one plugin.
    pub plugins: Vec<PluginConf>,
    /// The runtimeConfig on offer; each plugin gets the capabilities that it declares (C12).
    pub runtime_config: Object,
    /// CNI_ARGS.
    pub args: String,
    /// The pod's default routes go through this attachment, by these gateways, or by its own when empty (R21).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_route: Option<Vec<IpAddr>>,
    /// `meta-cni.io/routes`. Its default routes of the main table are those of [`Self::default_route`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RequestedRoute>,
    /// `meta-cni.io/rules`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RequestedRule>,
    /// The pod wants no IPv6 on the link (`meta-cni.io/addresses`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_ipv6: bool,
    /// `meta-cni.io/address-set`: the AddressSet of which it has a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_set: Option<ObjectName>,
    /// `ipam-claim-reference`: the IPAMClaim in the pod's namespace whose addresses it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam_claim: Option<ObjectName>,
    /// The pod's default network: the first attachment, and only it.
    pub is_default: bool,
    /// Its configuration is a tenant's text and not the node's own: what it takes of the node is checked against what the node
    /// reserves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tenants: bool,
    /// Where a dialect has its configuration from. An attachment of a dialect's list stays while the pod runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated: Option<TranslatedFrom>,
    /// The device that it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// Absolute path of its device information file, when a plugin of the chain declares the capability (R55).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_info_file: Option<String>,
    /// Requests that went into CNI_ARGS because no plugin declares the capability: only the result shows whether a plugin
    /// granted them (A4).
    #[serde(default, rename = "hoped", skip_serializing_if = "UnverifiedRequests::is_empty")]
    pub unverified: UnverifiedRequests,
    /// The element of the pod's annotation that asked for it, in its JSON form and without a name for the interface. Absent for
    /// what the node gives to every pod, and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Object>,
}

/// The origin of a configuration in the words of a dialect. It is for people, and for what the dialect writes back: no verb needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranslatedFrom {
    /// The dialect, as `dialects` has it.
    pub dialect: String,
    /// The object and the file: `Logicalnetwork shop/net1, file 10-weave.conf`.
    pub from: String,
    /// True for a list that the pod asks for; false for one that the node gives.
    pub listed: bool,
}

impl TranslatedFrom {
    /// Do the programs of its list run at the same time? DANM waits for all of a pod's interfaces at once; NPWG has them one after
    /// the other (R33).
    pub fn is_at_once(&self) -> bool {
        self.dialect == Dialect::Danm.as_str()
    }
}

/// A device given to an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its identifier.
    pub id: DeviceId,
    /// The resource that it was allocated from; absent when the annotation named the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

/// Requests that the result of ADD must show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnverifiedRequests {
    /// Addresses, without prefix length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpAddr>,
    /// Hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

impl UnverifiedRequests {
    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.ips.is_empty() && self.mac.is_none()
    }
}

impl Attachment {
    /// Does the pod have it because its annotation lists it? An annotation that lists it no more takes it away.
    pub fn is_selected(&self) -> bool {
        !self.is_default && self.translated.is_none() && (self.selected.is_some() || self.is_tenants)
    }

    /// What the pod has the interface for: [`ROLES`] among its arguments.
    pub fn roles(&self) -> Vec<String> {
        let cni = self.plugins.first().and_then(|plugin| plugin.object.object("args").ok()?);
        let roles = cni.and_then(|args| args.object("cni").ok()?).and_then(|cni| cni.decode(ROLES, "words").ok()?);
        roles.unwrap_or_default()
    }

    /// The [`Attachment::unverified`] requests that the result does not show, one sentence each.
    pub fn unmet(&self, result: &CniResult) -> Vec<String> {
        let has_mac = |mac: Mac| {
            result.interfaces.iter().any(|i| !i.sandbox.is_empty() && i.mac.parse::<Mac>().is_ok_and(|m| m == mac))
        };
        let given: HashSet<IpAddr> = result.ips.iter().map(|given| given.address.addr()).collect();
        let missing_ip = |ip: &&IpAddr| !given.contains(*ip);
        let ips = self.unverified.ips.iter().filter(missing_ip).map(|ip| self.unheard("ips", ip));
        let mac = self.unverified.mac.filter(|mac| !has_mac(*mac)).map(|mac| self.unheard("mac", &mac));
        ips.chain(mac).collect()
    }

    fn unheard(&self, capability: &str, value: &dyn fmt::Display) -> String {
        format!(
            "{}: {value} was asked for but not given: no plugin declares the capability {capability:?}",
            self.source
        )
    }
}
