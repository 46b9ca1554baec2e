//! Links: what one is, and how it is made, found, changed and removed.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use attachments::names::{IfName, Mac};
use nix::libc;

use super::socket::Netlink;
use super::wire::{self, Attributes, Decoded, Message, Request};
use crate::error::Result;

/// Bytes of `struct ifinfomsg`.
const HEADER: usize = 16;

// What libc does not name (linux/if_link.h, linux/veth.h).
const VETH_INFO_PEER: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_MACVLAN_BC_QUEUE_LEN: u16 = 7;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_TTL: u16 = 5;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_NEIGH_SUPPRESS: u16 = 32;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BRIDGE_FLAGS: u16 = 0;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const BRIDGE_FLAGS_SELF: u16 = 2;
const BRIDGE_VLAN_INFO_PVID: u16 = 1 << 1;
const BRIDGE_VLAN_INFO_UNTAGGED: u16 = 1 << 2;
const BRIDGE_VLAN_INFO_RANGE_BEGIN: u16 = 1 << 3;
const BRIDGE_VLAN_INFO_RANGE_END: u16 = 1 << 4;

/// A link as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index in the namespace of the socket that asked.
    pub index: u32,
    /// Its name, as text: what others made may break the rules of [`IfName`].
    pub name: String,
    /// The kind with what we compare of it.
    pub kind: Kind,
    /// The Ethernet address; absent where the address has not six bytes.
    pub mac: Option<Mac>,
    /// The MTU in bytes.
    pub mtu: u32,
    /// IFLA_GROUP; 0 is the default group.
    pub group: u32,
    /// Index of the bridge or other master that it is a port of.
    pub master: Option<u32>,
    /// IFLA_LINK: the index of the parent, or of a veth's peer; it may count in another namespace.
    pub parent: Option<u32>,
    /// IFF_UP: the administrator's wish.
    pub up: bool,
    /// IFF_LOWER_UP: there is a carrier.
    pub lower_up: bool,
    /// IFF_PROMISC as set by a user.
    pub promisc: bool,
    /// RFC 2863 state, `IF_OPER_*` (6 is up, 0 unknown).
    pub operstate: u8,
    /// The settings of a bridge port; absent when it is none.
    pub port: Option<PortFlags>,
}

impl Link {
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
    Private,
    /// All traffic goes out to the switch.
    Vepa,
    /// Links of one parent reach each other.
    Bridge,
    /// One link takes the parent over.
    Passthru,
    /// Frames from listed addresses.
    Source,
}

impl MacvlanMode {
    const ALL: [(Self, u32); 5] =
        [(Self::Private, 1), (Self::Vepa, 2), (Self::Bridge, 4), (Self::Passthru, 8), (Self::Source, 16)];
}

/// Modes of ipvlan, IPVLAN_MODE_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanMode {
    /// Switched.
    L2,
    /// Routed.
    L3,
    /// Routed, through the host's netfilter.
    L3s,
}

impl IpvlanMode {
    const ALL: [(Self, u16); 3] = [(Self::L2, 0), (Self::L3, 1), (Self::L3s, 2)];
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
}

impl<'a> NewLink<'a> {
    /// A link with the kernel's defaults, down, where the socket is.
    pub fn new(name: &'a IfName, kind: NewKind<'a>) -> Self {
        Self { name, kind, netns: None, mtu: None, mac: None, master: None, group: 0, up: false }
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
}

impl NewKind<'_> {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Veth(_) => "veth",
            Self::Bridge(_) => "bridge",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Vlan { .. } => "vlan",
            Self::Vxlan(_) => "vxlan",
        }
    }

    fn parent(&self) -> Option<u32> {
        match *self {
            Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } | Self::Vlan { parent, .. } => Some(parent),
            Self::Veth(_) | Self::Bridge(_) | Self::Vxlan(_) => None,
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
    /// Index of the new master; 0 takes the link out of its bridge.
    pub master: Option<u32>,
    /// The MTU.
    pub mtu: Option<u32>,
    /// The Ethernet address.
    pub mac: Option<Mac>,
    /// IFLA_GROUP.
    pub group: Option<u32>,
    /// A new name; the kernel before 6.2 wants the link down.
    pub name: Option<&'a IfName>,
    /// The namespace to move to.
    pub netns: Option<BorrowedFd<'a>>,
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

impl Netlink {
    /// Makes one link. EEXIST when the name is taken where it would be born.
    pub fn add_link(&mut self, link: &NewLink<'_>) -> Result<()> {
        self.acknowledged(creation(link), || match &link.kind {
            NewKind::Veth(peer) => format!("create veth {} with peer {}", link.name, peer.name),
            kind => format!("create {} {}", kind.as_str(), link.name),
        })
    }

    /// The link of that name, if there is one.
    pub fn link_by_name(&mut self, name: &IfName) -> Result<Option<Link>> {
        let mut request = Request::new(libc::RTM_GETLINK, 0, &header(0, 0, 0, 0));
        request.text(libc::IFLA_IFNAME, name.as_str());
        without_statistics(&mut request);
        self.one(request, || format!("look up link {name}"), decode)
    }

    /// The link with that index, if there is one.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        let mut request = Request::new(libc::RTM_GETLINK, 0, &header(0, index, 0, 0));
        without_statistics(&mut request);
        self.one(request, || format!("look up link {index}"), decode)
    }

    /// All links, or the ports of one master.
    pub fn links(&mut self, master: Option<u32>) -> Result<Vec<Link>> {
        let mut request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &header(0, 0, 0, 0));
        if let Some(master) = master {
            request.u32(libc::IFLA_MASTER, master);
        }
        without_statistics(&mut request);
        self.dump(
            &request,
            || "list links".to_owned(),
            |message| {
                let link = decode(message)?;
                Ok((master.is_none() || link.master == master).then_some(link))
            },
        )
    }

    /// Changes a link.
    pub fn set_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        self.acknowledged(alteration(index, change), || format!("change link {index}: {}", words(change)))
    }

    /// Sets the flags of a bridge port. EOPNOTSUPP for a link that is none.
    pub fn set_port(&mut self, index: u32, flags: &PortFlags) -> Result<()> {
        let mut request = Request::new(libc::RTM_SETLINK, libc::NLM_F_ACK, &header(libc::AF_BRIDGE, index, 0, 0));
        request.nest(libc::IFLA_PROTINFO, |port| {
            for (kind, value) in [
                (IFLA_BRPORT_MODE, flags.hairpin),
                (IFLA_BRPORT_LEARNING, flags.learning),
                (IFLA_BRPORT_NEIGH_SUPPRESS, flags.neigh_suppress),
                (IFLA_BRPORT_ISOLATED, flags.isolated),
            ] {
                if let Some(value) = value {
                    port.u8(kind, value.into());
                }
            }
        });
        self.acknowledged(request, || format!("set flags of bridge port {index}"))
    }

    /// Adds VLANs to a bridge port, or to the bridge itself when `index` is the bridge.
    pub fn add_port_vlans(&mut self, index: u32, is_bridge: bool, vlans: PortVlans) -> Result<()> {
        self.acknowledged(port_vlans(libc::RTM_SETLINK, index, is_bridge, vlans), || {
            format!("add VLANs {}-{} to bridge port {index}", vlans.first, vlans.last)
        })
    }

    /// Takes VLANs off a bridge port, or off the bridge itself.
    pub fn delete_port_vlans(&mut self, index: u32, is_bridge: bool, vlans: PortVlans) -> Result<()> {
        self.acknowledged(port_vlans(libc::RTM_DELLINK, index, is_bridge, vlans), || {
            format!("take VLANs {}-{} off bridge port {index}", vlans.first, vlans.last)
        })
    }

    /// Deletes a link. `false` when there is none with that index.
    pub fn delete_link(&mut self, index: u32) -> Result<bool> {
        let request = Request::new(libc::RTM_DELLINK, libc::NLM_F_ACK, &header(0, index, 0, 0));
        gone_is_false(self.acknowledged(request, || format!("delete link {index}")))
    }

    /// Deletes every link of a group in the socket's namespace at the price of one. `false` when there is none; EOPNOTSUPP,
    /// and nothing is deleted, when a link that cannot be deleted (lo, a device) is in it; EPERM for group 0.
    pub fn delete_group(&mut self, group: u32) -> Result<bool> {
        let mut request = Request::new(libc::RTM_DELLINK, libc::NLM_F_ACK, &header(0, 0, 0, 0));
        request.u32(libc::IFLA_GROUP, group);
        gone_is_false(self.acknowledged(request, || format!("delete the links of group {group}")))
    }
}

fn gone_is_false(answer: Result<()>) -> Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if super::errno(&error) == Some(nix::errno::Errno::ENODEV) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `struct ifinfomsg`.
fn header(family: i32, index: u32, flags: i32, change: i32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = family as u8;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// Statistics are the larger half of a reply and nobody here reads them.
fn without_statistics(request: &mut Request) {
    request.u32(libc::IFLA_EXT_MASK, libc::RTEXT_FILTER_SKIP_STATS as u32);
}

fn creation(link: &NewLink<'_>) -> Request {
    let up = if link.up { libc::IFF_UP } else { 0 };
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
    let mut request = Request::new(libc::RTM_NEWLINK, flags, &header(0, 0, up, up));
    end(&mut request, link.name, link.netns, link.mtu, link.mac, link.group);
    if let Some(master) = link.master {
        request.u32(libc::IFLA_MASTER, master);
    }
    if let Some(parent) = link.kind.parent() {
        request.u32(libc::IFLA_LINK, parent);
    }
    request.nest(libc::IFLA_LINKINFO, |info| {
        info.text(libc::IFLA_INFO_KIND, link.kind.as_str());
        info.nest(libc::IFLA_INFO_DATA, |data| kind_data(data, &link.kind));
    });
    request
}

/// What both ends of a veth, and every other link, can have.
fn end(
    request: &mut Request,
    name: &IfName,
    netns: Option<BorrowedFd<'_>>,
    mtu: Option<u32>,
    mac: Option<Mac>,
    group: u32,
) {
    request.text(libc::IFLA_IFNAME, name.as_str());
    if let Some(netns) = netns {
        request.u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
    }
    if let Some(mtu) = mtu {
        request.u32(libc::IFLA_MTU, mtu);
    }
    if let Some(mac) = mac {
        request.bytes(libc::IFLA_ADDRESS, &mac.0);
    }
    if group != 0 {
        request.u32(libc::IFLA_GROUP, group);
    }
}

fn kind_data(data: &mut Request, kind: &NewKind<'_>) {
    match kind {
        NewKind::Veth(peer) => {
            data.nest_after(VETH_INFO_PEER, &header(0, 0, 0, 0), |far| {
                end(far, peer.name, peer.netns, peer.mtu, peer.mac, peer.group);
            });
        }
        NewKind::Bridge(bridge) => {
            if bridge.vlan_filtering {
                data.u8(IFLA_BR_VLAN_FILTERING, 1);
            }
            if let Some(snooping) = bridge.multicast_snooping {
                data.u8(IFLA_BR_MCAST_SNOOPING, snooping.into());
            }
        }
        NewKind::Macvlan { mode, broadcast_queue, .. } => {
            if let Some((_, number)) = MacvlanMode::ALL.iter().find(|(known, _)| known == mode) {
                data.u32(IFLA_MACVLAN_MODE, *number);
            }
            if let Some(length) = broadcast_queue {
                data.u32(IFLA_MACVLAN_BC_QUEUE_LEN, *length);
            }
        }
        NewKind::Ipvlan { mode, .. } => {
            if let Some((_, number)) = IpvlanMode::ALL.iter().find(|(known, _)| known == mode) {
                data.u16(IFLA_IPVLAN_MODE, *number);
            }
        }
        NewKind::Vlan { id, .. } => {
            data.u16(IFLA_VLAN_ID, *id);
        }
        NewKind::Vxlan(vxlan) => vxlan_data(data, vxlan),
    }
}

fn vxlan_data(data: &mut Request, vxlan: &Vxlan) {
    data.u32(IFLA_VXLAN_ID, vxlan.vni);
    data.be16(IFLA_VXLAN_PORT, vxlan.port);
    data.u8(IFLA_VXLAN_LEARNING, vxlan.learning.into());
    data.u8(IFLA_VXLAN_TTL, vxlan.ttl);
    if let Some(underlay) = vxlan.underlay {
        data.u32(IFLA_VXLAN_LINK, underlay);
    }
    if let Some(local) = vxlan.local {
        data.ip(if local.is_ipv4() { IFLA_VXLAN_LOCAL } else { IFLA_VXLAN_LOCAL6 }, local);
    }
    if let Some(group) = vxlan.group {
        data.ip(if group.is_ipv4() { IFLA_VXLAN_GROUP } else { IFLA_VXLAN_GROUP6 }, group);
    }
}

fn alteration(index: u32, change: &LinkChange<'_>) -> Request {
    let mut flags = 0;
    let mut mask = 0;
    for (bit, wish) in [(libc::IFF_UP, change.up), (libc::IFF_PROMISC, change.promisc)] {
        if let Some(on) = wish {
            mask |= bit;
            flags |= if on { bit } else { 0 };
        }
    }
    let mut request = Request::new(libc::RTM_SETLINK, libc::NLM_F_ACK, &header(0, index, flags, mask));
    if let Some(name) = change.name {
        request.text(libc::IFLA_IFNAME, name.as_str());
    }
    if let Some(netns) = change.netns {
        request.u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
    }
    if let Some(mac) = change.mac {
        request.bytes(libc::IFLA_ADDRESS, &mac.0);
    }
    for (kind, value) in
        [(libc::IFLA_MTU, change.mtu), (libc::IFLA_GROUP, change.group), (libc::IFLA_MASTER, change.master)]
    {
        if let Some(value) = value {
            request.u32(kind, value);
        }
    }
    request
}

/// A change in words, for the error.
fn words(change: &LinkChange<'_>) -> String {
    let mut words = Vec::new();
    words.extend(change.up.map(|up| if up { "up" } else { "down" }.to_owned()));
    words.extend(change.promisc.map(|on| format!("promisc {}", if on { "on" } else { "off" })));
    words.extend(change.master.map(|index| format!("master {index}")));
    words.extend(change.mtu.map(|mtu| format!("mtu {mtu}")));
    words.extend(change.mac.map(|mac| format!("mac {mac}")));
    words.extend(change.group.map(|group| format!("group {group}")));
    words.extend(change.name.map(|name| format!("name {name}")));
    words.extend(change.netns.map(|_| "to another namespace".to_owned()));
    words.join(", ")
}

fn port_vlans(kind: u16, index: u32, is_bridge: bool, vlans: PortVlans) -> Request {
    let mut request = Request::new(kind, libc::NLM_F_ACK, &header(libc::AF_BRIDGE, index, 0, 0));
    let mut flags = 0;
    if vlans.pvid {
        flags |= BRIDGE_VLAN_INFO_PVID;
    }
    if vlans.untagged {
        flags |= BRIDGE_VLAN_INFO_UNTAGGED;
    }
    // struct bridge_vlan_info { __u16 flags; __u16 vid; }
    let mut info = |spec: &mut Request, flags: u16, id: u16| {
        let [a, b] = flags.to_ne_bytes();
        let [c, d] = id.to_ne_bytes();
        spec.bytes(IFLA_BRIDGE_VLAN_INFO, &[a, b, c, d]);
    };
    request.nest(libc::IFLA_AF_SPEC, |spec| {
        if is_bridge {
            spec.u16(IFLA_BRIDGE_FLAGS, BRIDGE_FLAGS_SELF);
        }
        if vlans.first == vlans.last {
            info(spec, flags, vlans.first);
        } else {
            info(spec, flags | BRIDGE_VLAN_INFO_RANGE_BEGIN, vlans.first);
            info(spec, flags | BRIDGE_VLAN_INFO_RANGE_END, vlans.last);
        }
    });
    request
}

fn decode(message: &Message<'_>) -> Decoded<Link> {
    let head: [u8; HEADER] = wire::fixed(message.body)?;
    let flags = wire::u32(&head[8..12])? as i32;
    let mut link = Link {
        index: wire::u32(&head[4..8])?,
        name: String::new(),
        kind: Kind::Device,
        mac: None,
        mtu: 0,
        group: 0,
        master: None,
        parent: None,
        up: flags & libc::IFF_UP != 0,
        lower_up: flags & libc::IFF_LOWER_UP != 0,
        promisc: flags & libc::IFF_PROMISC != 0,
        operstate: 0,
        port: None,
    };
    for attribute in Attributes::after(message.body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            libc::IFLA_IFNAME => link.name = wire::text(value),
            libc::IFLA_ADDRESS => link.mac = wire::mac(value),
            libc::IFLA_MTU => link.mtu = wire::u32(value)?,
            libc::IFLA_GROUP => link.group = wire::u32(value)?,
            libc::IFLA_MASTER => link.master = Some(wire::u32(value)?),
            libc::IFLA_LINK => link.parent = Some(wire::u32(value)?).filter(|&index| index != 0),
            libc::IFLA_OPERSTATE => link.operstate = wire::u8(value)?,
            libc::IFLA_LINKINFO => decode_info(value, &mut link)?,
            _ => {}
        }
    }
    Ok(link)
}

fn decode_info(info: &[u8], link: &mut Link) -> Decoded<()> {
    let mut kind = None;
    let mut data: &[u8] = &[];
    let mut port_kind = None;
    for attribute in Attributes::inside(info) {
        let (attribute, value) = attribute?;
        match attribute {
            libc::IFLA_INFO_KIND => kind = Some(wire::text(value)),
            libc::IFLA_INFO_DATA => data = value,
            libc::IFLA_INFO_SLAVE_KIND => port_kind = Some(wire::text(value)),
            libc::IFLA_INFO_SLAVE_DATA if port_kind.as_deref() == Some("bridge") => {
                link.port = Some(decode_port(value)?);
            }
            _ => {}
        }
    }
    link.kind = match kind.as_deref() {
        None => Kind::Device,
        Some("veth") => Kind::Veth,
        Some("bridge") => Kind::Bridge(decode_bridge(data)?),
        Some("vxlan") => Kind::Vxlan(decode_vxlan(data)?),
        Some("vlan") => Kind::Vlan(find(data, IFLA_VLAN_ID, wire::u16)?.unwrap_or_default()),
        Some("macvlan") => {
            let number = find(data, IFLA_MACVLAN_MODE, wire::u32)?;
            match MacvlanMode::ALL.iter().find(|(_, known)| Some(*known) == number) {
                Some((mode, _)) => Kind::Macvlan(*mode),
                None => Kind::Other("macvlan".to_owned()),
            }
        }
        Some("ipvlan") => {
            let number = find(data, IFLA_IPVLAN_MODE, wire::u16)?;
            match IpvlanMode::ALL.iter().find(|(_, known)| Some(*known) == number) {
                Some((mode, _)) => Kind::Ipvlan(*mode),
                None => Kind::Other("ipvlan".to_owned()),
            }
        }
        Some(other) => Kind::Other(other.to_owned()),
    };
    Ok(())
}

fn find<T>(data: &[u8], wanted: u16, read: fn(&[u8]) -> Decoded<T>) -> Decoded<Option<T>> {
    for attribute in Attributes::inside(data) {
        let (kind, value) = attribute?;
        if kind == wanted {
            return read(value).map(Some);
        }
    }
    Ok(None)
}

fn decode_bridge(data: &[u8]) -> Decoded<Bridge> {
    Ok(Bridge {
        vlan_filtering: find(data, IFLA_BR_VLAN_FILTERING, wire::u8)? == Some(1),
        multicast_snooping: find(data, IFLA_BR_MCAST_SNOOPING, wire::u8)?.map(|on| on != 0),
    })
}

fn decode_vxlan(data: &[u8]) -> Decoded<Vxlan> {
    let mut vxlan = Vxlan { vni: 0, port: 0, local: None, underlay: None, group: None, learning: false, ttl: 0 };
    for attribute in Attributes::inside(data) {
        let (kind, value) = attribute?;
        match kind {
            IFLA_VXLAN_ID => vxlan.vni = wire::u32(value)?,
            IFLA_VXLAN_PORT => vxlan.port = wire::be16(value)?,
            IFLA_VXLAN_LINK => vxlan.underlay = Some(wire::u32(value)?).filter(|&index| index != 0),
            IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => vxlan.local = Some(wire::ip(value)?),
            IFLA_VXLAN_GROUP | IFLA_VXLAN_GROUP6 => vxlan.group = Some(wire::ip(value)?),
            IFLA_VXLAN_LEARNING => vxlan.learning = wire::u8(value)? != 0,
            IFLA_VXLAN_TTL => vxlan.ttl = wire::u8(value)?,
            _ => {}
        }
    }
    Ok(vxlan)
}

fn decode_port(data: &[u8]) -> Decoded<PortFlags> {
    let mut port = PortFlags::default();
    for attribute in Attributes::inside(data) {
        let (kind, value) = attribute?;
        match kind {
            IFLA_BRPORT_MODE => port.hairpin = Some(wire::u8(value)? != 0),
            IFLA_BRPORT_LEARNING => port.learning = Some(wire::u8(value)? != 0),
            IFLA_BRPORT_NEIGH_SUPPRESS => port.neigh_suppress = Some(wire::u8(value)? != 0),
            IFLA_BRPORT_ISOLATED => port.isolated = Some(wire::u8(value)? != 0),
            _ => {}
        }
    }
    Ok(port)
}
