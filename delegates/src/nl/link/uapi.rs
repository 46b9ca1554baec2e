//! Numbers of linux/if_link.h, linux/if_bridge.h and linux/veth.h that libc does not name.

/// Bytes of `struct ifinfomsg`.
pub(super) const HEADER: usize = 16;

pub(super) const RTM_NEWLINKPROP: u16 = 108;
pub(super) const RTM_DELLINKPROP: u16 = 109;
pub(super) const IFLA_PROP_LIST: u16 = 52;
pub(super) const IFLA_ALT_IFNAME: u16 = 53;
pub(super) const VETH_INFO_PEER: u16 = 1;
pub(super) const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
pub(super) const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
pub(super) const IFLA_MACVLAN_MODE: u16 = 1;
pub(super) const IFLA_MACVLAN_BC_QUEUE_LEN: u16 = 7;
pub(super) const IFLA_IPVLAN_MODE: u16 = 1;
pub(super) const IFLA_VLAN_ID: u16 = 1;
pub(super) const IFLA_BR_VLAN_FILTERING: u16 = 7;
pub(super) const IFLA_BR_MCAST_SNOOPING: u16 = 23;
pub(super) const IFLA_VRF_TABLE: u16 = 1;
pub(super) const IFLA_BOND_MODE: u16 = 1;
pub(super) const IFLA_BOND_MIIMON: u16 = 3;
pub(super) const IFLA_BOND_FAIL_OVER_MAC: u16 = 13;
pub(super) const IFLA_BOND_XMIT_HASH_POLICY: u16 = 14;
pub(super) const IFLA_BOND_ALL_SLAVES_ACTIVE: u16 = 17;
pub(super) const IFLA_BOND_TLB_DYNAMIC_LB: u16 = 27;
pub(super) const IFLA_BOND_SLAVE_PERM_HWADDR: u16 = 4;
pub(super) const IFLA_VXLAN_ID: u16 = 1;
pub(super) const IFLA_VXLAN_GROUP: u16 = 2;
pub(super) const IFLA_VXLAN_LINK: u16 = 3;
pub(super) const IFLA_VXLAN_LOCAL: u16 = 4;
pub(super) const IFLA_VXLAN_TTL: u16 = 5;
pub(super) const IFLA_VXLAN_LEARNING: u16 = 7;
pub(super) const IFLA_VXLAN_PORT: u16 = 15;
pub(super) const IFLA_VXLAN_GROUP6: u16 = 16;
pub(super) const IFLA_VXLAN_LOCAL6: u16 = 17;
pub(super) const IFLA_VXLAN_UDP_CSUM: u16 = 18;
pub(super) const IFLA_BRPORT_MODE: u16 = 4;
pub(super) const IFLA_BRPORT_LEARNING: u16 = 8;
pub(super) const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
pub(super) const IFLA_BRPORT_NEIGH_SUPPRESS: u16 = 32;
pub(super) const IFLA_BRPORT_ISOLATED: u16 = 33;
pub(super) const IFLA_BRIDGE_FLAGS: u16 = 0;
pub(super) const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
pub(super) const BRIDGE_FLAGS_SELF: u16 = 2;
pub(super) const BRIDGE_VLAN_INFO_PVID: u16 = 1 << 1;
pub(super) const BRIDGE_VLAN_INFO_UNTAGGED: u16 = 1 << 2;
pub(super) const BRIDGE_VLAN_INFO_RANGE_BEGIN: u16 = 1 << 3;
pub(super) const BRIDGE_VLAN_INFO_RANGE_END: u16 = 1 << 4;
