//! Neighbours (ARP, ND) and the forwarding entries of bridges and vxlan devices.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use attachments::names::Mac;
use nix::libc;

use super::socket::Netlink;
use super::wire::{self, Attributes, Decoded, Message, Request};
use crate::error::Result;

/// Bytes of `struct ndmsg`.
const HEADER: usize = 12;

// linux/neighbour.h, not in libc for every C library.
const NDA_MASTER: u16 = 9;
const NDA_PROTOCOL: u16 = 12;
const NTF_EXT_LEARNED: u8 = 1 << 4;

/// The entry that floods: frames with no better entry go to every destination appended to it.
pub const ALL_ZERO: Mac = Mac([0; 6]);

/// A forwarding entry of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// The frames' destination.
    pub mac: Mac,
    /// The remote VTEP; `None` for an entry of a bridge port.
    pub remote: Option<IpAddr>,
    /// The entry is the device's own (vxlan), not its bridge's.
    pub own: bool,
    /// Never ages and was not learned.
    pub permanent: bool,
    /// A control plane gave it (NTF_EXT_LEARNED).
    pub is_external: bool,
}

/// A forwarding entry of a bridge, or of one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// Index of the port.
    pub port: u32,
    /// The MAC address is the port's own, and frames to it are the node's.
    pub is_port: bool,
    /// Somebody gave the entry, and it does not age.
    pub is_static: bool,
    /// The entry.
    pub entry: Forwarding,
}

/// A neighbour of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub ip: IpAddr,
    /// Its Ethernet address; absent while it is being resolved.
    pub mac: Option<Mac>,
    /// Set by somebody, not resolved.
    pub permanent: bool,
    /// `RTPROT_*`: who set it; 0 where nobody said, and before Linux 5.0.
    pub protocol: u8,
}

/// One of many changes of forwarding entries and neighbours; see [`Netlink::change_entries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A MAC address gets one destination on a vxlan device, and the device's port on its bridge, by a control plane: neither
    /// ages. What was learned is replaced.
    Forward {
        /// Index of the device.
        index: u32,
        /// The frames' destination.
        mac: Mac,
        /// The remote VTEP.
        remote: IpAddr,
    },
    /// A MAC address gets one more destination on a vxlan device.
    Append {
        /// Index of the device.
        index: u32,
        /// The frames' destination.
        mac: Mac,
        /// The remote VTEP.
        remote: IpAddr,
    },
    /// A destination of a vxlan device goes, or without `remote` the entry of its bridge.
    Remove {
        /// Index of the device.
        index: u32,
        /// The frames' destination.
        mac: Mac,
        /// The remote VTEP.
        remote: Option<IpAddr>,
    },
    /// A permanent neighbour, in the place of what is there.
    Resolve {
        /// Index of the link.
        index: u32,
        /// Its address.
        ip: IpAddr,
        /// Its MAC address.
        mac: Mac,
        /// `RTPROT_*`: who sets it.
        protocol: u8,
    },
    /// A MAC address is behind a port of a bridge, and does not age.
    Station {
        /// Index of the port.
        index: u32,
        /// The frames' destination.
        mac: Mac,
    },
    /// A neighbour goes.
    Unresolve {
        /// Index of the link.
        index: u32,
        /// Its address.
        ip: IpAddr,
    },
}

/// Messages of one datagram: all acknowledgements of a datagram wait in the receive buffer (200 KiB), and each takes up to
/// 1 KiB of it.
const CHUNK: usize = 128;

/// Messages of one datagram of which the last alone is acknowledged, some 60 bytes each: a send buffer has 200 KiB. Answers are
/// half of the cost, and refusals are told all the same.
const LARGE_CHUNK: usize = 1024;

impl Netlink {
    /// Adds one more destination for `mac` to a vxlan device; nothing changes when it is there already.
    pub fn append_forwarding(&mut self, index: u32, mac: Mac, remote: IpAddr) -> Result<()> {
        self.acknowledged(append(index, mac, remote, libc::NLM_F_ACK), || {
            format!("append destination {remote} of {mac} to vxlan {index}")
        })
    }

    /// The same for many at once, in one datagram.
    pub fn append_forwardings(&mut self, index: u32, mac: Mac, remotes: &[IpAddr]) -> Result<()> {
        for some in remotes.chunks(CHUNK) {
            let requests = some.iter().map(|remote| append(index, mac, *remote, libc::NLM_F_ACK)).collect();
            self.batch(requests, &|| format!("append destinations of {mac} to vxlan {index}"))?;
        }
        Ok(())
    }

    /// Changes many entries in that order, some in one datagram. What is to go and is gone already is no error. After an error
    /// the rest of its datagram was tried, and what follows was not.
    pub fn change_entries(&mut self, entries: &[Entry], what: &str) -> Result<()> {
        for some in entries.chunks(LARGE_CHUNK) {
            let last = some.len() - 1;
            let requests = some.iter().enumerate().map(|(i, entry)| change(entry, i == last)).collect();
            self.batch_tolerant(requests, &[libc::ENOENT], &|| format!("change {what}"))?;
        }
        Ok(())
    }

    /// Makes `remote` the only destination of `mac`. Replaces learned entries, which would win a race against an
    /// exclusive add. The kernel refuses it for [`ALL_ZERO`] (EOPNOTSUPP).
    pub fn replace_forwarding(&mut self, index: u32, mac: Mac, remote: IpAddr) -> Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE | libc::NLM_F_ACK;
        self.acknowledged(forwarding(libc::RTM_NEWNEIGH, flags, index, mac, remote), || {
            format!("set destination {remote} of {mac} on vxlan {index}")
        })
    }

    /// Removes one destination of `mac`; no error when it was not there (the kernel does not always tell).
    pub fn delete_forwarding(&mut self, index: u32, mac: Mac, remote: IpAddr) -> Result<()> {
        let request = forwarding(libc::RTM_DELNEIGH, libc::NLM_F_ACK, index, mac, remote);
        let what = || format!("delete destination {remote} of {mac} from vxlan {index}");
        gone_is_false(self.acknowledged(request, what)).map(|_| ())
    }

    /// The forwarding entries of a link: its own, and its bridge's about it.
    pub fn forwardings(&mut self, index: u32) -> Result<Vec<Forwarding>> {
        let request = Request::new(libc::RTM_GETNEIGH, libc::NLM_F_DUMP, &header(libc::AF_BRIDGE, index, 0, 0));
        self.dump(
            &request,
            || format!("list forwarding entries of link {index}"),
            |message| {
                let entry = decode(message)?;
                let Some(mac) = entry.mac.filter(|_| entry.index == index) else { return Ok(None) };
                Ok(Some(Forwarding {
                    mac,
                    remote: entry.ip,
                    own: entry.flags & libc::NTF_SELF != 0,
                    permanent: entry.is_permanent(),
                    is_external: entry.flags & NTF_EXT_LEARNED != 0,
                }))
            },
        )
    }

    /// The forwarding entries of all ports of a bridge, the ports' own (a vxlan device's) included, as far as they are to be kept. Who is asked
    /// gets a number with each: a dump that is begun again has another one.
    pub fn stations(&mut self, bridge: u32, keep: &dyn Fn(u32, &Station) -> bool) -> Result<Vec<Station>> {
        let mut request = Request::new(libc::RTM_GETNEIGH, libc::NLM_F_DUMP, &header(libc::AF_BRIDGE, 0, 0, 0));
        request.u32(NDA_MASTER, bridge);
        self.dump(
            &request,
            || format!("list forwarding entries of bridge {bridge}"),
            |message| {
                let entry = decode(message)?;
                let Some(mac) = entry.mac else { return Ok(None) };
                // Without a master, or with another, an entry is that of some other bridge: an old kernel lists all.
                let own = entry.flags & libc::NTF_SELF != 0;
                if !own && entry.master != Some(bridge) {
                    return Ok(None);
                }
                let station = Station {
                    port: entry.index,
                    is_port: !own && entry.state & libc::NUD_PERMANENT != 0,
                    is_static: entry.state & libc::NUD_NOARP != 0,
                    entry: Forwarding {
                        mac,
                        remote: entry.ip,
                        own,
                        permanent: entry.is_permanent(),
                        is_external: entry.flags & NTF_EXT_LEARNED != 0,
                    },
                };
                Ok(keep(message.sequence, &station).then_some(station))
            },
        )
    }

    /// Sets a permanent neighbour, replacing what is there.
    pub fn set_neighbour(&mut self, index: u32, ip: IpAddr, mac: Mac) -> Result<()> {
        self.acknowledged(resolution(index, ip, mac, libc::NLM_F_ACK), || {
            format!("set neighbour {ip} at {mac} on link {index}")
        })
    }

    /// Removes a neighbour. `false` when it was not there.
    pub fn delete_neighbour(&mut self, index: u32, ip: IpAddr) -> Result<bool> {
        gone_is_false(
            self.acknowledged(removal(index, ip, libc::NLM_F_ACK), || format!("delete neighbour {ip} of link {index}")),
        )
    }

    /// The neighbours of a link, of both families.
    pub fn neighbours(&mut self, index: u32) -> Result<Vec<Neighbour>> {
        self.neighbours_but(index, &|_, _| true)
    }

    /// The same, as far as they are to be kept ([`Self::stations`]).
    pub fn neighbours_but(&mut self, index: u32, keep: &dyn Fn(u32, &Neighbour) -> bool) -> Result<Vec<Neighbour>> {
        let mut request = Request::new(libc::RTM_GETNEIGH, libc::NLM_F_DUMP, &header(libc::AF_UNSPEC, 0, 0, 0));
        request.u32(libc::NDA_IFINDEX, index);
        self.dump(
            &request,
            || format!("list neighbours of link {index}"),
            |message| {
                let entry = decode(message)?;
                let known = entry.index == index && entry.state & libc::NUD_NOARP == 0;
                let Some(ip) = entry.ip.filter(|_| known) else { return Ok(None) };
                let permanent = entry.state & libc::NUD_PERMANENT != 0;
                let neighbour = Neighbour { ip, mac: entry.mac, permanent, protocol: entry.protocol };
                Ok(keep(message.sequence, &neighbour).then_some(neighbour))
            },
        )
    }
}

fn gone_is_false(answer: Result<()>) -> Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) => match super::errno(&error) {
            Some(nix::errno::Errno::ENOENT | nix::errno::Errno::ENODEV) => Ok(false),
            _ => Err(error),
        },
    }
}

fn family(ip: IpAddr) -> i32 {
    if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// `struct ndmsg`.
fn header(family: i32, index: u32, state: u16, flags: u8) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = family as u8;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes[10] = flags;
    bytes
}

fn append(index: u32, mac: Mac, remote: IpAddr, ack: i32) -> Request {
    forwarding(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_APPEND | ack, index, mac, remote)
}

fn forwarding(kind: u16, flags: i32, index: u32, mac: Mac, remote: IpAddr) -> Request {
    // NOARP marks an entry as static: it neither ages nor counts as the device's own address.
    let state = libc::NUD_NOARP | libc::NUD_PERMANENT;
    let mut request = Request::new(kind, flags, &header(libc::AF_BRIDGE, index, state, libc::NTF_SELF));
    request.bytes(libc::NDA_LLADDR, &mac.0);
    request.ip(libc::NDA_DST, remote);
    request
}

/// A permanent neighbour, replacing what is there.
fn resolution(index: u32, ip: IpAddr, mac: Mac, ack: i32) -> Request {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE | ack;
    let mut request = Request::new(libc::RTM_NEWNEIGH, flags, &header(family(ip), index, libc::NUD_PERMANENT, 0));
    request.ip(libc::NDA_DST, ip);
    request.bytes(libc::NDA_LLADDR, &mac.0);
    request
}

fn removal(index: u32, ip: IpAddr, ack: i32) -> Request {
    let mut request = Request::new(libc::RTM_DELNEIGH, ack, &header(family(ip), index, 0, 0));
    request.ip(libc::NDA_DST, ip);
    request
}

fn change(entry: &Entry, is_acknowledged: bool) -> Request {
    let ack = if is_acknowledged { libc::NLM_F_ACK } else { 0 };
    let add = libc::NLM_F_CREATE | libc::NLM_F_REPLACE | ack;
    match *entry {
        Entry::Forward { index, mac, remote } => {
            // NOARP keeps the device from ageing it. PERMANENT would do that too, but a bridge takes it for an address of its
            // own; it needs no more than the flag.
            let state = libc::NUD_NOARP | libc::NUD_REACHABLE;
            let flags = libc::NTF_SELF | libc::NTF_MASTER | NTF_EXT_LEARNED;
            let mut request = Request::new(libc::RTM_NEWNEIGH, add, &header(libc::AF_BRIDGE, index, state, flags));
            request.bytes(libc::NDA_LLADDR, &mac.0);
            request.ip(libc::NDA_DST, remote);
            request
        }
        Entry::Append { index, mac, remote } => append(index, mac, remote, ack),
        Entry::Remove { index, mac, remote: Some(remote) } => forwarding(libc::RTM_DELNEIGH, ack, index, mac, remote),
        Entry::Remove { index, mac, remote: None } => {
            let header = header(libc::AF_BRIDGE, index, 0, libc::NTF_MASTER);
            let mut request = Request::new(libc::RTM_DELNEIGH, ack, &header);
            request.bytes(libc::NDA_LLADDR, &mac.0);
            request
        }
        Entry::Resolve { index, ip, mac, protocol } => {
            let mut request = resolution(index, ip, mac, ack);
            request.u8(NDA_PROTOCOL, protocol);
            request
        }
        Entry::Unresolve { index, ip } => removal(index, ip, ack),
        Entry::Station { index, mac } => {
            let header = header(libc::AF_BRIDGE, index, libc::NUD_NOARP, libc::NTF_MASTER);
            let mut request = Request::new(libc::RTM_NEWNEIGH, add, &header);
            request.bytes(libc::NDA_LLADDR, &mac.0);
            request
        }
    }
}

/// An entry as the kernel tells it.
struct Told {
    index: u32,
    state: u16,
    flags: u8,
    protocol: u8,
    master: Option<u32>,
    ip: Option<IpAddr>,
    mac: Option<Mac>,
}

impl Told {
    fn is_permanent(&self) -> bool {
        self.state & (libc::NUD_PERMANENT | libc::NUD_NOARP) != 0
    }
}

fn decode(message: &Message<'_>) -> Decoded<Told> {
    let head: [u8; HEADER] = wire::fixed(message.body)?;
    let (index, state) = (wire::u32(&head[4..8])?, wire::u16(&head[8..10])?);
    let mut entry = Told { index, state, flags: head[10], protocol: 0, master: None, ip: None, mac: None };
    for attribute in Attributes::after(message.body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            libc::NDA_DST => entry.ip = Some(wire::ip(value)?),
            libc::NDA_LLADDR => entry.mac = wire::mac(value),
            NDA_MASTER => entry.master = Some(wire::u32(value)?),
            NDA_PROTOCOL => entry.protocol = wire::u8(value)?,
            _ => {}
        }
    }
    Ok(entry)
}
