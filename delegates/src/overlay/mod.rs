//! What a node holds of a VXLAN overlay: one vxlan device, one bridge, and the entries that say where the pods of other nodes
//! are. For the delegate `vxlan`, and for whoever knows the members of a network.
//!
//! ```text
//!   pod's veth --+                                  forwarding entries of the device
//!   pod's veth --+-- bridge bx4200 ---- vx4200 ---  MAC of a pod -> tunnel end of its node
//!                |   |                  |           00:00:00:00:00:00 -> every member (flood)
//!                |   |                  |
//!                |   |                  +- bridge port: learning off, neigh_suppress on
//!                |   +- forwarding entries of the bridge: MAC of a pod -> port vx4200
//!                +- neighbours of the bridge: address of a pod -> MAC, from which ARP and ND are answered
//! ```
//!
//! Names follow from VNI and UDP port ([`Names`]), so nothing must be read to find an overlay. [`ensure`] makes device and
//! bridge, [`remove_unused`] ends them with the last port; both under the lock of the names. An overlay with `learning` finds
//! the pods by their frames, and what it does not know goes to the peers that somebody appended. Without it, [`reconcile()`]
//! brings the entries to what is wanted, however they are, and touches none of others ([`entries`]). What is wanted follows from the
//! members and their slots ([`entries_of`]); [`kept`] brings all of an overlay to the state that the node agent wrote,
//! and a [`keeper`] does so whenever that or the kernel changes.
//!
//! In mode l3 ([`routed`]) the device is in no bridge, and the node routes between the two. The bridge of an overlay may be the pods'
//! [`gateway`].
//!
//! The bridge needs an entry of its own for each MAC address although it floods what it does not know into the device alone: the
//! kernel answers ARP and ND for a neighbour only where its MAC address is behind a port with `neigh_suppress`.

pub mod entries;
pub mod gateway;
pub mod keeper;
pub mod kept;
mod members;
mod names;
mod ports;
mod reconcile;
pub mod routed;
mod segment;
mod table;
mod underlay;

pub use self::entries::{Change, Entries, Obstacle, Plan, plan};
pub use self::members::entries_of;
pub use self::names::Names;
pub use self::reconcile::{Made, reconcile};
pub(crate) use self::segment::holder_of_port;
pub use self::segment::{Segment, Spec, all, ensure, exists, remove_unused};
pub(crate) use self::underlay::headers;
pub use self::underlay::{Endpoint, Underlay, endpoint, endpoint_at, mtu};

#[cfg(test)]
pub(crate) use self::members::testing;
#[cfg(test)]
pub(crate) use self::reconcile::missing;
use crate::nl::link::PortFlags;

/// The UDP port that IANA gave to VXLAN (RFC 7348).
pub const IANA_PORT: u16 = 4789;

/// The protocol (`RTPROT_*`) of neighbours, routes and rules that are ours. No other program of `rt_protos` has it.
pub const PROTOCOL: u8 = 121;

/// The flags of the device's bridge port in an overlay whose entries are given.
fn suppression() -> PortFlags {
    PortFlags {
        learning: Some(false),
        unicast_flood: Some(true),
        neigh_suppress: Some(true),
        isolated: Some(false),
        ..PortFlags::default()
    }
}
