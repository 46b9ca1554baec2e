//! Our own API objects with their schemas; `deploy/crds` is generated from them.

#![allow(clippy::duplicated_attributes, reason = "columns may have a type in common")]

mod address_block;
mod address_claim;
mod address_set;
mod overlay_member;
mod vni_claim;

pub use self::address_block::{AddressBlock, AddressBlockSpec, AddressBlockStatus, NodeFree, SlotRequest, SlotRun};
pub use self::address_claim::{AddressClaim, AddressClaimSpec, AddressClaimStatus, ClaimHolder, HolderKind};
pub use self::address_set::{AddressSet, AddressSetSpec, MOST_MEMBERS};
pub use self::overlay_member::{MemberEndpoint, OverlayMember, OverlayMemberSpec};
pub use self::vni_claim::{ClaimOwner, VniClaim, VniClaimSpec, VniClaimStatus};
pub use crate::policy::spec::{AttachmentLevel, AttachmentPolicy};

/// The group of our own kinds.
pub const GROUP: &str = "meta-cni.io";

/// The label of an [`OverlayMember`], an [`AddressBlock`] and an [`AddressClaim`] that says its network (`delegates::networks::NetworkId`).
pub const NETWORK: &str = "meta-cni.io/network";
/// The label of an [`OverlayMember`] that says its node, by a name that may be shortened.
pub const NODE: &str = "meta-cni.io/node";
/// The label of an [`AddressBlock`] of a network of whereabouts that says in which address space it is: networks of one space give no address
/// twice.
pub const ADDRESS_SPACE: &str = "meta-cni.io/address-space";
