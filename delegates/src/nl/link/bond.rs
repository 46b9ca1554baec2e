//! Bonds as plain data, and their part of a request.

use super::uapi::*;
use crate::nl::wire::Request;

/// Modes of bonding, BOND_MODE_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BondMode {
    /// Frames leave by one port after the other.
    BalanceRr = 0,
    /// One port carries everything, the others wait for its end.
    ActiveBackup = 1,
    /// A hash of the frame chooses the port.
    BalanceXor = 2,
    /// Every frame leaves by every port.
    Broadcast = 3,
    /// IEEE 802.3ad (LACP).
    Lacp = 4,
    /// The load chooses the port that sends.
    BalanceTlb = 5,
    /// As before, and answers to ARP choose the port that receives.
    BalanceAlb = 6,
}

impl BondMode {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        let all = [
            Self::BalanceRr,
            Self::ActiveBackup,
            Self::BalanceXor,
            Self::Broadcast,
            Self::Lacp,
            Self::BalanceTlb,
            Self::BalanceAlb,
        ];
        all.into_iter().find(|mode| *mode as u8 == number)
    }
}

/// Which Ethernet address a bond and its ports have, `fail_over_mac`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailOverMac {
    /// All ports have the bond's.
    #[default]
    None = 0,
    /// Each port keeps its own, and the bond has that of its active port.
    Active = 1,
    /// A port gets the bond's when it becomes the active one.
    Follow = 2,
}

/// By what frames are spread over the ports of a bond, BOND_XMIT_POLICY_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashPolicy {
    /// Ethernet addresses.
    Layer2 = 0,
    /// IP addresses and ports.
    Layer34 = 1,
    /// Ethernet and IP addresses.
    Layer23 = 2,
    /// As [`Self::Layer23`], of what is inside a tunnel.
    Encap23 = 3,
    /// As [`Self::Layer34`], of what is inside a tunnel.
    Encap34 = 4,
    /// VLAN and source address.
    VlanSrcmac = 5,
}

/// Settings of a bond to be made; `None` leaves one to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    /// The mode.
    pub mode: BondMode,
    /// Milliseconds between two looks at the carrier of the ports; 0 never looks.
    pub miimon: Option<u32>,
    /// Which addresses the ports have.
    pub fail_over_mac: FailOverMac,
    /// By what frames are spread.
    pub hash_policy: Option<HashPolicy>,
    /// What ports receive that are not active is not dropped.
    pub all_ports_active: Option<bool>,
    /// In mode [`BondMode::BalanceTlb`] the load, and not a hash, chooses the port.
    pub tlb_dynamic: Option<bool>,
}

impl Bond {
    /// A bond in that mode, with the driver's defaults.
    pub fn new(mode: BondMode) -> Self {
        Self {
            mode,
            miimon: None,
            fail_over_mac: FailOverMac::None,
            hash_policy: None,
            all_ports_active: None,
            tlb_dynamic: None,
        }
    }
}

/// The settings, inside of IFLA_INFO_DATA.
pub(super) fn encode(data: &mut Request, bond: &Bond) {
    data.u8(IFLA_BOND_MODE, bond.mode as u8);
    if let Some(miimon) = bond.miimon {
        data.u32(IFLA_BOND_MIIMON, miimon);
    }
    data.u8(IFLA_BOND_FAIL_OVER_MAC, bond.fail_over_mac as u8);
    for (kind, value) in [
        (IFLA_BOND_XMIT_HASH_POLICY, bond.hash_policy.map(|policy| policy as u8)),
        (IFLA_BOND_ALL_SLAVES_ACTIVE, bond.all_ports_active.map(u8::from)),
        (IFLA_BOND_TLB_DYNAMIC_LB, bond.tlb_dynamic.map(u8::from)),
    ] {
        if let Some(value) = value {
            data.u8(kind, value);
        }
    }
}
