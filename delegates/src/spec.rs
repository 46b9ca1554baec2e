//! What the kernel should hold for one attachment, as values: made by pure functions, brought about by [`crate::apply`].

use attachments::names::{IfName, Mac};
use serde::{Deserialize, Serialize};

/// A link that was made in a pod, as its record keeps it. A namespace path can be reused and its inode number too: a
/// link is the recorded one only when name apart everything is equal, for a pod may rename its links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkId {
    /// Name at the time of ADD.
    pub name: IfName,
    /// Index in the pod's namespace.
    pub index: u32,
    /// Kind as the kernel says it: "veth", "macvlan", "ipvlan".
    pub kind: String,
    /// Hardware address.
    pub mac: Mac,
}

/// What the links on one master may do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacvlanMode {
    /// They talk to each other directly.
    Bridge,
    /// They do not talk to each other.
    Private,
    /// They talk to each other through the switch outside.
    Vepa,
    /// One link has the master for itself.
    Passthru,
}

/// At which layer the links on one master are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanMode {
    /// By address; broadcast and multicast pass.
    L2,
    /// By address, the master routes; no broadcast or multicast.
    L3,
    /// As `L3`, and the node's netfilter sees the traffic.
    L3s,
}
