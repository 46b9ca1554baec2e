//! Links: what one is, and how it is made, found, changed and removed.

mod bond;
mod decode;
mod encode;
mod spec;
#[cfg(test)]
mod tests;
mod uapi;

pub use bond::{Bond, BondMode, FailOverMac, HashPolicy};
pub use spec::{
    Bridge, IpvlanMode, Kind, Link, LinkChange, MacvlanMode, NewKind, NewLink, Peer, PortFlags, PortVlans, Vxlan,
};

use std::os::fd::{AsRawFd, BorrowedFd};

use attachments::names::IfName;
use nix::errno::Errno;
use nix::libc;

use self::decode::decode;

use super::socket::Netlink;
use super::wire::{self, Attributes, Request};
use crate::error::Result;

impl Netlink {
    /// Makes one link. EEXIST when the name is taken where it would be born.
    pub fn add_link(&mut self, link: &NewLink<'_>) -> Result<()> {
        self.acknowledged(encode::creation(link), || match &link.kind {
            NewKind::Veth(peer) => format!("create veth {} with peer {}", link.name, peer.name),
            kind => format!("create {} {}", kind.as_str(), link.name),
        })
    }

    /// The link of that name, if there is one.
    pub fn link_by_name(&mut self, name: &IfName) -> Result<Option<Link>> {
        self.one(encode::question(0, Some(name)), || format!("look up link {name}"), decode)
    }

    /// The link with that index, if there is one.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        self.one(encode::question(index, None), || format!("look up link {index}"), decode)
    }

    /// All links, or the ports of one master.
    pub fn links(&mut self, master: Option<u32>) -> Result<Vec<Link>> {
        self.dump(
            &encode::listing(master),
            || "list links".to_owned(),
            |message| {
                let link = decode(message)?;
                Ok((master.is_none() || link.master == master).then_some(link))
            },
        )
    }

    /// Changes a link.
    pub fn set_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        self.acknowledged(encode::alteration(index, change), || {
            format!("change link {index}: {}", encode::words(change))
        })
    }

    /// The kernel gives a link no IPv6 address when it comes up. EAFNOSUPPORT where the kernel has no IPv6.
    pub fn keep_addresses_off(&mut self, index: u32) -> Result<()> {
        self.acknowledged(encode::without_addresses(index), || format!("keep IPv6 addresses off link {index}"))
    }

    /// Sets the flags of a bridge port. EOPNOTSUPP for a link that is none.
    pub fn set_port(&mut self, index: u32, flags: &PortFlags) -> Result<()> {
        self.acknowledged(encode::port_flags(index, flags), || format!("set flags of bridge port {index}"))
    }

    /// Adds VLANs to a bridge port, or to the bridge itself when `index` is the bridge.
    pub fn add_port_vlans(&mut self, index: u32, is_bridge: bool, vlans: PortVlans) -> Result<()> {
        self.acknowledged(encode::port_vlans(libc::RTM_SETLINK, index, is_bridge, vlans), || {
            format!("add VLANs {}-{} to bridge port {index}", vlans.first, vlans.last)
        })
    }

    /// Takes VLANs off a bridge port, or off the bridge itself.
    pub fn delete_port_vlans(&mut self, index: u32, is_bridge: bool, vlans: PortVlans) -> Result<()> {
        self.acknowledged(encode::port_vlans(libc::RTM_DELLINK, index, is_bridge, vlans), || {
            format!("take VLANs {}-{} off bridge port {index}", vlans.first, vlans.last)
        })
    }

    /// The VLANs of a bridge port, each by itself; none where the kernel has no VLAN filtering.
    pub fn port_vlans(&mut self, index: u32) -> Result<Vec<PortVlans>> {
        let listed = self.dump(
            &encode::port_vlan_listing(),
            || "list the VLANs of bridge ports".to_owned(),
            |message| Ok(Some(decode::decode_vlans(message)?).filter(|(port, _)| *port == index)),
        )?;
        Ok(listed.into_iter().flat_map(|(_, vlans)| vlans).collect())
    }

    /// Deletes a link. `false` when there is none with that index.
    pub fn delete_link(&mut self, index: u32) -> Result<bool> {
        gone_is_false(self.acknowledged(encode::deletion(index, None), || format!("delete link {index}")))
    }

    /// Deletes every link of a group in the socket's namespace at the price of one. `false` when there is none; EOPNOTSUPP,
    /// and nothing is deleted, when a link that cannot be deleted (lo, a device) is in it; EPERM for group 0.
    pub fn delete_group(&mut self, group: u32) -> Result<bool> {
        let request = encode::deletion(0, Some(group));
        gone_is_false(self.acknowledged(request, || format!("delete the links of group {group}")))
    }
}

impl Netlink {
    /// Gives a link one more altname. EEXIST when some link of the namespace has it, as name or altname.
    pub fn add_altname(&mut self, index: u32, name: &str) -> Result<()> {
        self.acknowledged(encode::altname(uapi::RTM_NEWLINKPROP, index, name), || {
            format!("give link {index} the altname {name}")
        })
    }

    /// Takes an altname off a link. `false` when the link has none of that name.
    pub fn delete_altname(&mut self, index: u32, name: &str) -> Result<bool> {
        let request = encode::altname(uapi::RTM_DELLINKPROP, index, name);
        match self.acknowledged(request, || format!("take altname {name} off link {index}")) {
            Err(error) if crate::nl::errno(&error) == Some(Errno::ENOENT) => Ok(false),
            answer => gone_is_false(answer),
        }
    }

    /// The number that the socket's namespace has for another one ([`Link::parent_netns`]); `None` while it has none.
    pub fn netns_id(&mut self, netns: BorrowedFd<'_>) -> Result<Option<u32>> {
        // struct rtgenmsg { unsigned char family; }, padded.
        let mut request = Request::new(libc::RTM_GETNSID, 0, &[0; 4]);
        request.u32(NETNSA_FD, netns.as_raw_fd() as u32);
        let number = self.one(
            request,
            || "look up the number of a namespace".to_owned(),
            |message| {
                let mut found = None;
                for attribute in Attributes::after(message.body, 4)? {
                    if let (NETNSA_NSID, id) = attribute? {
                        found = wire::netns_id(id)?;
                    }
                }
                Ok(found)
            },
        )?;
        Ok(number.flatten())
    }
}

/// The message of [`Netlink::delete_group`].
pub(super) fn group_deletion(group: u32) -> Request {
    encode::deletion(0, Some(group))
}

// linux/net_namespace.h
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

fn gone_is_false(answer: Result<()>) -> Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if crate::nl::errno(&error) == Some(Errno::ENODEV) => Ok(false),
        Err(error) => Err(error),
    }
}
