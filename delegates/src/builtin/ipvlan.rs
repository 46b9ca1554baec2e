//! `ipvlan`: a link of the pod that shares the hardware address of a link of the node.

use attachments::cni::object::Object;
use attachments::cni::result::Dns;
use attachments::finding::Finding;
use attachments::names::IfName;

use super::keys::Keys;
use crate::spec::IpvlanMode;

/// The configuration of an ipvlan attachment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// The link underneath; absent: the one of prevResult, or that of the default route.
    pub master: Option<IfName>,
    /// At which layer the links on one master are told apart.
    pub mode: IpvlanMode,
    /// MTU, at most the master's; absent: the master's.
    pub mtu: Option<u32>,
    /// `master` is a link in the pod.
    pub in_pod: bool,
    /// `dns`: what the result says, whatever IPAM said.
    pub dns: Dns,
}

const MODES: [(&str, IpvlanMode); 3] = [("l2", IpvlanMode::L2), ("l3", IpvlanMode::L3), ("l3s", IpvlanMode::L3s)];

impl Config {
    pub(super) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut keys = Keys::of(conf);
        let config = Self {
            master: keys.parsed("master", IfName::ALLOWED),
            mode: keys.choice("mode", &MODES, IpvlanMode::L2),
            mtu: keys.mtu(),
            in_pod: keys.flag("linkInContainer"),
            dns: keys.dns(),
        };
        keys.finish(config)
    }
}
