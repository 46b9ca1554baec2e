//! The calls of the API server that plans name. Values.

use attachments::api::{
    AddressBlockSpec, AddressBlockStatus, AddressClaimSpec, AddressClaimStatus, ClaimHolder, OverlayMemberSpec,
    SlotRequest, SlotRun, VniClaimSpec,
};
use delegates::networks::NetworkId;

use super::address_claims;
use super::slots::block_name;

/// A call of the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Makes the claim.
    CreateClaim(VniClaimSpec),
    /// Pins the MTU of this version of the claim.
    PinMtu { version: String, mtu: u32 },
    /// Makes this node's member.
    CreateMember(OverlayMemberSpec),
    /// Replaces what this node's member says.
    ChangeMember(OverlayMemberSpec),
    /// Removes this node's member.
    DeleteMember { uid: String },
    /// Makes a block.
    CreateBlock(AddressBlockSpec),
    /// Replaces who owns this version of a block, and who asks for parts of it. `is_ours`: the node's reference is there after it.
    ChangeBlock { name: String, version: String, runs: Vec<SlotRun>, requests: Vec<SlotRequest>, is_ours: bool },
    /// Removes this version of a block.
    DeleteBlock { name: String, uid: String, version: String },
    /// Says how many slots are free.
    TellFree { name: String, version: String, status: AddressBlockStatus },
    /// Claims an address.
    CreateAddressClaim(AddressClaimSpec),
    /// Replaces the nodes that have or want the slot of this version of a claim.
    ChangeAddressClaim { name: String, version: String, nodes: Vec<String> },
    /// Takes this version of a member of an AddressSet for a pod of this node.
    BindAddressClaim { name: String, version: String, node: String, pod: ClaimHolder },
    /// Says who has the slot.
    TellHeld { name: String, version: String, status: AddressClaimStatus },
    /// Lets an address go.
    DeleteAddressClaim { name: String, uid: String },
}

/// The object that a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The network's claim.
    Claim,
    /// This node's member.
    Member,
    /// A block, by its name.
    Block(String),
    /// A claim of an address, by its name.
    Address(String),
}

impl Call {
    /// The object that it is about.
    pub fn about(&self, id: &NetworkId) -> About {
        match self {
            Self::CreateClaim(_) | Self::PinMtu { .. } => About::Claim,
            Self::CreateMember(_) | Self::ChangeMember(_) | Self::DeleteMember { .. } => About::Member,
            Self::CreateBlock(spec) => About::Block(block_name(id, spec.first)),
            Self::ChangeBlock { name, .. } | Self::DeleteBlock { name, .. } | Self::TellFree { name, .. } => {
                About::Block(name.clone())
            }
            Self::CreateAddressClaim(spec) => About::Address(address_claims::name(id, spec.slot)),
            Self::ChangeAddressClaim { name, .. }
            | Self::BindAddressClaim { name, .. }
            | Self::TellHeld { name, .. }
            | Self::DeleteAddressClaim { name, .. } => About::Address(name.clone()),
        }
    }

    /// The kind of the object and what becomes of it, for metrics.
    pub fn what(&self) -> (&'static str, &'static str) {
        match self {
            Self::CreateClaim(_) => ("vniclaims", "create"),
            Self::PinMtu { .. } => ("vniclaims", "patch"),
            Self::CreateMember(_) => ("overlaymembers", "create"),
            Self::ChangeMember(_) => ("overlaymembers", "patch"),
            Self::DeleteMember { .. } => ("overlaymembers", "delete"),
            Self::CreateBlock(_) => ("addressblocks", "create"),
            Self::ChangeBlock { .. } => ("addressblocks", "patch"),
            Self::DeleteBlock { .. } => ("addressblocks", "delete"),
            Self::TellFree { .. } => ("addressblocks/status", "patch"),
            Self::CreateAddressClaim(_) => ("addressclaims", "create"),
            Self::ChangeAddressClaim { .. } | Self::BindAddressClaim { .. } => ("addressclaims", "patch"),
            Self::DeleteAddressClaim { .. } => ("addressclaims", "delete"),
            Self::TellHeld { .. } => ("addressclaims/status", "patch"),
        }
    }
}
