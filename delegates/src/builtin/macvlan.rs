//! `macvlan`: a link of the pod with its own hardware address on a link of the node.

use attachments::cni::object::Object;
use attachments::cni::result::Dns;
use attachments::finding::Finding;
use attachments::names::{IfName, Mac};

use super::hardware;
use super::keys::Keys;
use crate::spec::MacvlanMode;

/// The configuration of a macvlan attachment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// The link underneath; absent: that of the default route.
    pub master: Option<IfName>,
    /// What the links on one master may do with each other.
    pub mode: MacvlanMode,
    /// MTU, at most the master's; absent: the master's.
    pub mtu: Option<u32>,
    /// `master` is a link in the pod.
    pub in_pod: bool,
    /// Length of the master's broadcast queue; absent and 0: the kernel's default.
    pub broadcast_queue: Option<u32>,
    /// The address asked for: `runtimeConfig.mac`, which wins over CNI_ARGS.
    pub runtime_mac: Option<Mac>,
    /// The address in `mac`, which yields to every other source.
    pub mac: Option<Mac>,
    /// `dns`: what the result says, whatever IPAM said.
    pub dns: Dns,
}

const MODES: [(&str, MacvlanMode); 4] = [
    ("bridge", MacvlanMode::Bridge),
    ("private", MacvlanMode::Private),
    ("vepa", MacvlanMode::Vepa),
    ("passthru", MacvlanMode::Passthru),
];

impl Config {
    pub(super) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut keys = Keys::of(conf);
        let config = Self {
            master: keys.parsed("master", IfName::ALLOWED),
            mode: keys.choice("mode", &MODES, MacvlanMode::Bridge),
            mtu: keys.mtu(),
            in_pod: keys.flag("linkInContainer"),
            broadcast_queue: keys.integer("bcqueuelen", 0..=u32::MAX).filter(|length| *length != 0),
            runtime_mac: keys.keep(hardware::from_runtime(conf)),
            mac: keys.keep(hardware::configured(conf, "mac")),
            dns: keys.dns(),
        };
        keys.finish(config)
    }
}
