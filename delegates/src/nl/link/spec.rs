//! Links as plain data: what the kernel holds, what is to be made, what is to be changed.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use attachments::names::{IfName, Mac};
use nix::libc;

use super::bond::{Bond, BondMode};

/// A link as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index in the namespace of the socket that asked.
    pub index: u32,
    /// Its name, as text: what others made may break the rules of [`IfName`].
    pub name: String,
    /// Its altnames: a link is found by each of them as by its name.
    pub altnames: Vec<String>,
    /// The kind with what we compare of it.
    pub kind: Kind,
    /// The Ethernet address; absent where the address has not six bytes.
    pub mac: Option<Mac>,
    /// The Ethernet address that a port of a bond had before it became one, and has again when it leaves.
    pub mac_before_bond: Option<Mac>,
    /// The address that the hardware came with, which no user can change; absent for virtual links, and before Linux 5.6.
    pub permanent_mac: Option<Mac>,
    /// IFLA_IFALIAS: a note for people; empty when there is none.
    pub alias: String,
    /// The MTU in bytes.
    pub mtu: u32,
    /// IFLA_GROUP; 0 is the default group.
    pub group: u32,
    /// Index of the bridge or other master that it is a port of.
    pub master: Option<u32>,
    /// IFLA_LINK: the index of the parent, or of a veth's peer; it may count in another namespace.
    pub parent: Option<u32>,
    /// The parent is in another namespace, and its index counts there.
    pub is_parent_elsewhere: bool,
    /// IFLA_LINK_NETNSID: the number that the namespace of the socket has for that namespace, where it has one.
    pub parent_netns: Option<u32>,
    /// IFF_UP: the administrator's wish.
    pub up: bool,
    /// IFF_LOWER_UP: there is a carrier.
    pub lower_up: bool,
    /// IFF_PROMISC as set by a user.
    pub promisc: bool,
    /// IFF_ALLMULTI as set by a user.
    pub allmulti: bool,
    /// Packets that wait for the device at most.
    pub tx_queue: u32,
    /// RFC 2863 state, `IF_OPER_*` (6 is up, 0 unknown).
    pub operstate: u8,
    /// The settings of a bridge port; absent when it is none.
    pub port: Option<PortFlags>,
}

impl Link {
    /// Does a look-up of that name find it?
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.altnames.iter().any(|altname| altname == name)
    }

    /// Is it known by that Ethernet address? A port of a bond may have the bond's for the time being.
    pub fn has_mac(&self, mac: Mac) -> bool {
        [self.mac, self.mac_before_bond].contains(&Some(mac))
    }

    /// RFC 2863 "up", or a driver that does not tell (loopback, tun).
    pub fn is_operational(&self) -> bool {
        let operstate = i32::from(self.operstate);
        operstate == libc::IF_OPER_UP || (operstate == libc::IF_OPER_UNKNOWN && self.lower_up)
    }
}

/// The kind of a link (IFLA_INFO_KIND and the part of its data that is compared).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No kind: loopback and physical devices.
    Device,
    /// veth.
    Veth,
    /// bridge.
    Bridge(Bridge),
    /// macvlan.
    Macvlan(MacvlanMode),
    /// ipvlan.
    Ipvlan(IpvlanMode),
    /// vlan (802.1Q) with its identifier.
    Vlan(u16),
    /// vxlan.
    Vxlan(Vxlan),
    /// vrf with its routing table.
    Vrf(u32),
    /// bond.
    Bond(BondMode),
    /// Any other, by the kernel's name.
    Other(String),
}

impl Kind {
    /// The kernel's name of the kind; "device" where it has none.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Device => "device",
            Self::Veth => "veth",
            Self::Bridge(_) => "bridge",
            Self::Macvlan(_) => "macvlan",
            Self::Ipvlan(_) => "ipvlan",
            Self::Vlan(_) => "vlan",
            Self::Vxlan(_) => "vxlan",
            Self::Vrf(_) => "vrf",
            Self::Bond(_) => "bond",
            Self::Other(kind) => kind,
        }
    }
}

/// Settings of a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Frames are sorted by VLAN. Kernels without VLAN filtering refuse `true`.
    pub vlan_filtering: bool,
    /// Multicast snooping; `None` leaves the kernel's default (on) when one is made.
    pub multicast_snooping: Option<bool>,
}

/// Modes of macvlan, MACVLAN_MODE_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacvlanMode {
    /// No traffic between links of one parent.
    Private = 1,
    /// All traffic goes out to the switch.
    Vepa = 2,
    /// Links of one parent reach each other.
    Bridge = 4,
    /// One link takes the parent over.
    Passthru = 8,
}

impl MacvlanMode {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        [Self::Private, Self::Vepa, Self::Bridge, Self::Passthru].into_iter().find(|mode| *mode as u32 == number)
    }
}

/// Modes of ipvlan, IPVLAN_MODE_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanMode {
    /// Switched.
    L2 = 0,
    /// Routed.
    L3 = 1,
    /// Routed, through the host's netfilter.
    L3s = 2,
}

impl IpvlanMode {
    pub(super) fn from_number(number: u16) -> Option<Self> {
        [Self::L2, Self::L3, Self::L3s].into_iter().find(|mode| *mode as u16 == number)
    }
}

/// Settings of a vxlan device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The network identifier, 24 bits.
    pub vni: u32,
    /// UDP port, source and destination.
    pub port: u16,
    /// The tunnel's source address.
    pub local: Option<IpAddr>,
    /// Index of the device that carries the tunnel.
    pub underlay: Option<u32>,
    /// The multicast group, or one fixed remote address.
    pub group: Option<IpAddr>,
    /// Source addresses of frames become forwarding entries.
    pub learning: bool,
    /// TTL of the outer packets; 0 leaves it to the kernel (1 for multicast, the route's otherwise).
    pub ttl: u8,
    /// Outer packets over IPv4 carry a UDP checksum: the kernel's default.
    pub udp_checksum: bool,
}

/// A link to be made by one message.
#[derive(Clone, Debug)]
pub struct NewLink<'a> {
    /// Its name.
    pub name: &'a IfName,
    /// What it is.
    pub kind: NewKind<'a>,
    /// Where it is born; `None` is the namespace of the socket. Indexes in `kind` count in the socket's.
    pub netns: Option<BorrowedFd<'a>>,
    /// The MTU; `None` leaves it to the kernel (inherited from the parent).
    pub mtu: Option<u32>,
    /// The Ethernet address; `None` leaves it to the kernel (random, or the parent's for ipvlan).
    pub mac: Option<Mac>,
    /// Index of the bridge that it becomes a port of.
    pub master: Option<u32>,
    /// IFLA_GROUP; 0 is the default group.
    pub group: u32,
    /// Set it up at once.
    pub up: bool,
    /// The index that it gets; `None` leaves it to the kernel. EBUSY when it is taken where the link would be born.
    pub index: Option<u32>,
}

impl<'a> NewLink<'a> {
    /// A link with the kernel's defaults, down, where the socket is.
    pub fn new(name: &'a IfName, kind: NewKind<'a>) -> Self {
        Self { name, kind, netns: None, mtu: None, mac: None, master: None, group: 0, up: false, index: None }
    }
}

/// The kind of a link to be made.
#[derive(Clone, Debug)]
pub enum NewKind<'a> {
    /// A pair; the fields of [`NewLink`] are about the near end.
    Veth(Peer<'a>),
    /// See [`Bridge`].
    Bridge(Bridge),
    /// A macvlan on the parent with this index.
    Macvlan {
        /// Index of the parent, in the socket's namespace. The kernel refuses a bridge port (EBUSY).
        parent: u32,
        /// The mode.
        mode: MacvlanMode,
        /// IFLA_MACVLAN_BC_QUEUE_LEN; `None` leaves the kernel's 1000.
        broadcast_queue: Option<u32>,
    },
    /// An ipvlan on the parent with this index.
    Ipvlan {
        /// Index of the parent, in the socket's namespace.
        parent: u32,
        /// The mode; all links of one parent share it.
        mode: IpvlanMode,
    },
    /// An 802.1Q link on the parent with this index.
    Vlan {
        /// Index of the parent, in the socket's namespace.
        parent: u32,
        /// The VLAN identifier.
        id: u16,
    },
    /// See [`Vxlan`].
    Vxlan(Vxlan),
    /// A link that leads nowhere.
    Dummy,
    /// A routing domain: its members' routes are in a table of its own.
    Vrf {
        /// The table. The kernel does not mind that another vrf has it.
        table: u32,
    },
    /// See [`Bond`]. Ports join it by [`LinkChange::master`], while they are down.
    Bond(Bond),
    /// What another link receives passes here on its way in, and can be queued; without a queue of its own.
    Ifb,
}

impl NewKind<'_> {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Veth(_) => "veth",
            Self::Bridge(_) => "bridge",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Vlan { .. } => "vlan",
            Self::Vxlan(_) => "vxlan",
            Self::Dummy => "dummy",
            Self::Vrf { .. } => "vrf",
            Self::Bond(_) => "bond",
            Self::Ifb => "ifb",
        }
    }

    pub(super) fn parent(&self) -> Option<u32> {
        match *self {
            Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } | Self::Vlan { parent, .. } => Some(parent),
            Self::Veth(_)
            | Self::Bridge(_)
            | Self::Vxlan(_)
            | Self::Dummy
            | Self::Vrf { .. }
            | Self::Bond(_)
            | Self::Ifb => None,
        }
    }
}

/// The far end of a veth. It cannot be born up (ENOTCONN: the pair is not joined yet); set it up from its namespace.
#[derive(Clone, Debug)]
pub struct Peer<'a> {
    /// Its name.
    pub name: &'a IfName,
    /// Where it is born; `None` is the namespace of the near end.
    pub netns: Option<BorrowedFd<'a>>,
    /// The MTU; `None` leaves 1500.
    pub mtu: Option<u32>,
    /// The Ethernet address; `None` is random.
    pub mac: Option<Mac>,
    /// IFLA_GROUP; 0 is the default group.
    pub group: u32,
}

/// What to change on a link; `None` leaves a thing as it is. One message, in the kernel's own order.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkChange<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// Promiscuous or not.
    pub promisc: Option<bool>,
    /// Receives all multicast or not.
    pub allmulti: Option<bool>,
    /// Packets that wait for the device at most.
    pub tx_queue: Option<u32>,
    /// Index of the new master; 0 takes the link out of its bridge or bond. A bond takes links that are down (EPERM), and sets them up.
    pub master: Option<u32>,
    /// The MTU.
    pub mtu: Option<u32>,
    /// The Ethernet address.
    pub mac: Option<Mac>,
    /// IFLA_GROUP.
    pub group: Option<u32>,
    /// A new name; before Linux 6.2 a link that is up refuses it (EBUSY).
    pub name: Option<&'a IfName>,
    /// The note for people; an empty one removes it.
    pub alias: Option<&'a str>,
    /// The namespace to move to. The link goes down and loses its addresses and routes. Everything else in the change is
    /// done there, after the move.
    pub netns: Option<BorrowedFd<'a>>,
    /// The index there. EBUSY when it is taken; without one the link keeps its index where that is free. Linux before
    /// 5.12 ignores it.
    pub index_there: Option<u32>,
}

/// Settings of a bridge port; when set, `None` leaves one as it is. All are `Some` in what the kernel tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortFlags {
    /// Frames may leave by the port that they came in.
    pub hairpin: Option<bool>,
    /// Isolated ports do not reach each other.
    pub isolated: Option<bool>,
    /// Source addresses are learned.
    pub learning: Option<bool>,
    /// Frames whose destination the bridge does not know leave by the port.
    pub unicast_flood: Option<bool>,
    /// ARP and ND are answered from the bridge's neighbour entries.
    pub neigh_suppress: Option<bool>,
}

/// VLANs of a bridge port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortVlans {
    /// First identifier, 1 to 4094.
    pub first: u16,
    /// Last identifier; equal to `first` for one.
    pub last: u16,
    /// Untagged frames that come in belong to it (one identifier only).
    pub pvid: bool,
    /// Frames leave without a tag.
    pub untagged: bool,
}
