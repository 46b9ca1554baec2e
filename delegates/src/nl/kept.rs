//! What people set on a link, kept as the kernel told it: the same message, sent back, makes the same object again, with
//! everything that we have no name for.

use ipnet::IpNet;
use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};

use super::socket::Netlink;
use super::wire::{self, Attributes, Decoded, HOP, Malformed, Message, Request};
use crate::error::Result;

/// Bytes of `struct ifaddrmsg`, `struct rtmsg`, `struct ndmsg`.
const ADDRESS: usize = 8;
const ROUTE: usize = 12;
const NEIGHBOUR: usize = 12;

// linux/if_addr.h, linux/rtnetlink.h, linux/neighbour.h: what libc does not name.
const IFA_PROTO: u16 = 11;
const IFAPROT_KERNEL_LL: u8 = 3;
const IFA_F_STABLE_PRIVACY: u32 = 0x800;
const RTPROT_RA: u8 = 9;
const RTA_NH_ID: u16 = 30;
const RTA_EXPIRES: u16 = 23;
const RTNH_F_ONLINK: u8 = 4;
const NTF_EXT_LEARNED: u8 = 0x10;
const NTF_PROXY: u8 = 0x08;
/// IFA_ADDRESS, RTA_DST and NDA_DST.
const DESTINATION: u16 = 1;

/// An address, a route or a neighbour of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kept {
    /// RTM_NEWADDR, RTM_NEWROUTE or RTM_NEWNEIGH.
    kind: u16,
    /// The fixed header and the attributes.
    body: Vec<u8>,
}

impl Netlink {
    /// The addresses of a link that somebody set for good, in an order in which they can be set again. Those that the kernel
    /// makes by itself are left out, and those with a lifetime.
    pub fn keep_addresses(&mut self, index: u32) -> Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut head = [0; ADDRESS];
            head[0] = family as u8;
            head[4..].copy_from_slice(&index.to_ne_bytes());
            let mut found = self.kept(libc::RTM_GETADDR, &head, None, |body| address(body, index))?;
            if family == libc::AF_INET6 {
                // The kernel puts an IPv6 address before those that are there.
                found.reverse();
            }
            kept.extend(found);
        }
        Ok(kept)
    }

    /// The routes of every table that leave by a link, those that have one of several next hops there included. Left out are
    /// the kernel's own, a router's, and those with a lifetime.
    pub fn keep_routes(&mut self, index: u32) -> Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut head = [0; ROUTE];
            head[0] = family as u8;
            kept.extend(self.kept(libc::RTM_GETROUTE, &head, Some((libc::RTA_OIF, index)), |body| route(body, index))?);
        }
        Ok(kept)
    }

    /// The neighbours of a link that somebody set, and the addresses that the node answers for on it.
    pub fn keep_neighbours(&mut self, index: u32) -> Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for flags in [0, NTF_PROXY] {
            let mut head = [0; NEIGHBOUR];
            head[10] = flags;
            let by_link = Some((libc::NDA_IFINDEX, index));
            kept.extend(self.kept(libc::RTM_GETNEIGH, &head, by_link, |body| neighbour(body, index))?);
        }
        Ok(kept)
    }

    /// Makes again on link `now` what was kept of link `was`. `false` when it is there.
    pub fn bring_back(&mut self, kept: &Kept, was: u32, now: u32) -> Result<bool> {
        let told = || kept.words(now);
        let body = kept.about(was, now).map_err(|Malformed| crate::error::Error::Kernel {
            op: told(),
            errno: Errno::EBADMSG as i32,
            detail: "what was noted contradicts itself".to_owned(),
        })?;
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | kept.flags();
        match self.acknowledged(Request::new(kept.kind, flags, &body), told) {
            Ok(()) => Ok(true),
            Err(error) if super::errno(&error) == Some(Errno::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn kept(
        &mut self,
        question: u16,
        head: &[u8],
        filter: Option<(u16, u32)>,
        keep: impl Fn(&[u8]) -> Decoded<Option<Vec<u8>>>,
    ) -> Result<Vec<Kept>> {
        let mut request = Request::new(question, libc::NLM_F_DUMP, head);
        if let Some((attribute, index)) = filter {
            request.u32(attribute, index);
        }
        let listed = self.dump(
            &request,
            || "list what is set on a link".to_owned(),
            |message: &Message<'_>| Ok(keep(message.body)?.map(|body| Kept { kind: message.kind, body })),
        );
        match listed {
            // The kernel lacks the family.
            Err(error) if matches!(super::errno(&error), Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)) => {
                Ok(Vec::new())
            }
            other => other,
        }
    }
}

impl Kept {
    fn head(&self) -> usize {
        if self.kind == libc::RTM_NEWADDR { ADDRESS } else { ROUTE }
    }

    fn attribute(&self, wanted: u16) -> Option<&[u8]> {
        wire::find(self.body.get(self.head()..)?, wanted).ok().flatten()
    }

    fn flags(&self) -> i32 {
        let is_ipv4 = self.body.first() == Some(&(libc::AF_INET as u8));
        match self.kind {
            libc::RTM_NEWNEIGH => libc::NLM_F_REPLACE,
            // Behind a route that somebody made in the meantime, and beside the other next hops of an IPv6 route.
            libc::RTM_NEWROUTE if is_ipv4 || self.attribute(libc::RTA_MULTIPATH).is_some() => libc::NLM_F_APPEND,
            _ => libc::NLM_F_EXCL,
        }
    }

    /// Is it this address?
    pub fn is_address(&self, net: &IpNet) -> bool {
        // An address with a peer names the peer in IFA_ADDRESS.
        let own = self.attribute(libc::IFA_LOCAL).or_else(|| self.attribute(libc::IFA_ADDRESS));
        self.kind == libc::RTM_NEWADDR
            && self.body.get(1) == Some(&net.prefix_len())
            && own.and_then(|ip| wire::ip(ip).ok()) == Some(net.addr())
    }

    /// In words, for the error.
    fn words(&self, index: u32) -> String {
        let what = match self.kind {
            libc::RTM_NEWADDR => "address",
            libc::RTM_NEWROUTE => "route",
            _ => "neighbour",
        };
        let ip = self.attribute(DESTINATION).and_then(|ip| wire::ip(ip).ok());
        let ip = ip.map_or_else(|| "to everywhere".to_owned(), |ip| ip.to_string());
        match (self.kind, self.body.get(1)) {
            (libc::RTM_NEWNEIGH, _) | (_, None) => format!("give {what} {ip} back to link {index}"),
            (_, Some(bits)) => format!("give {what} {ip}/{bits} back to link {index}"),
        }
    }

    /// The message about the link under the index that it has now.
    fn about(&self, was: u32, now: u32) -> Decoded<Vec<u8>> {
        if self.kind != libc::RTM_NEWROUTE {
            let mut body = self.body.clone();
            body.get_mut(4..8).ok_or(Malformed)?.copy_from_slice(&now.to_ne_bytes());
            return Ok(body);
        }
        let mut body = self.body.get(..ROUTE).ok_or(Malformed)?.to_vec();
        for attribute in Attributes::after(&self.body, ROUTE)? {
            match attribute? {
                (libc::RTA_OIF, _) => put(&mut body, libc::RTA_OIF, &now.to_ne_bytes()),
                (libc::RTA_MULTIPATH, hops) => {
                    let mut moved = Vec::with_capacity(hops.len());
                    for hop in wire::next_hops(hops) {
                        let hop = hop?;
                        moved.extend_from_slice(&hop[..4]);
                        let index = wire::u32(&hop[4..HOP])?;
                        moved.extend_from_slice(&if index == was { now } else { index }.to_ne_bytes());
                        moved.extend_from_slice(&hop[HOP..]);
                    }
                    put(&mut body, libc::RTA_MULTIPATH, &moved);
                }
                (kind, value) => put(&mut body, kind, value),
            }
        }
        Ok(body)
    }
}

/// An address worth keeping, as it is.
fn address(body: &[u8], index: u32) -> Decoded<Option<Vec<u8>>> {
    let [family, bits, short_flags, scope, link @ ..]: [u8; ADDRESS] = wire::fixed(body)?;
    let (mut flags, mut origin, mut ip): (_, _, &[u8]) = (u32::from(short_flags), None, &[]);
    for attribute in Attributes::after(body, ADDRESS)? {
        match attribute? {
            (libc::IFA_FLAGS, value) => flags = wire::u32(value)?,
            (libc::IFA_ADDRESS, value) => ip = value,
            (IFA_PROTO, value) => origin = Some(wire::u8(value)?),
            _ => {}
        }
    }
    let is_link_local = i32::from(family) == libc::AF_INET6 && scope == libc::RT_SCOPE_LINK;
    // Before Linux 5.18 nothing says who made it. The form tells: ff:fe in the middle comes from a MAC.
    let looks_made = bits == 64 && ip.get(11..13) == Some(&[0xff, 0xfe]) || flags & IFA_F_STABLE_PRIVACY != 0;
    let is_the_kernels = is_link_local && origin.map_or(looks_made, |origin| origin == IFAPROT_KERNEL_LL);
    let is_set = flags & libc::IFA_F_PERMANENT != 0 && !is_the_kernels;
    Ok((u32::from_ne_bytes(link) == index && is_set).then(|| body.to_vec()))
}

/// A route worth keeping, without what the kernel tells and does not take.
fn route(body: &[u8], index: u32) -> Decoded<Option<Vec<u8>>> {
    let [family, .., protocol, _, _, a, b, c, d]: [u8; ROUTE] = wire::fixed(body)?;
    let flags = u32::from_ne_bytes([a, b, c, d]);
    if matches!(protocol, libc::RTPROT_KERNEL | libc::RTPROT_REDIRECT | RTPROT_RA) || flags & libc::RTM_F_CLONED != 0 {
        return Ok(None);
    }
    let mut kept = body.get(..8).ok_or(Malformed)?.to_vec();
    kept.extend_from_slice(&(flags & u32::from(RTNH_F_ONLINK)).to_ne_bytes());
    let mut leaves_by_it = false;
    for attribute in Attributes::after(body, ROUTE)? {
        match attribute? {
            (RTA_EXPIRES, _) => return Ok(None),
            // struct rta_cacheinfo { u32 references; u32 last_used; s32 expires; ... }
            (libc::RTA_CACHEINFO, value) if wire::u32(value.get(8..).unwrap_or_default())? != 0 => return Ok(None),
            // The object of the next hop went with the link; the next hop itself is told beside it.
            (libc::RTA_CACHEINFO | RTA_NH_ID, _) => {}
            (libc::RTA_MULTIPATH, hops) => {
                let hops = hops_to_keep(hops, index, i32::from(family) == libc::AF_INET6, &mut leaves_by_it)?;
                put(&mut kept, libc::RTA_MULTIPATH, &hops);
            }
            (kind, value) => {
                leaves_by_it |= kind == libc::RTA_OIF && wire::u32(value)? == index;
                put(&mut kept, kind, value);
            }
        }
    }
    Ok(leaves_by_it.then_some(kept))
}

/// IPv4 loses the whole route with one of its links, IPv6 the next hops on that link only.
fn hops_to_keep(hops: &[u8], index: u32, own_only: bool, leaves_by_it: &mut bool) -> Decoded<Vec<u8>> {
    let mut kept = Vec::with_capacity(hops.len());
    for hop in wire::next_hops(hops) {
        let hop = hop?;
        let is_own = wire::u32(&hop[4..HOP])? == index;
        *leaves_by_it |= is_own;
        if is_own || !own_only {
            let start = kept.len();
            kept.extend_from_slice(hop);
            // Dead, or without a carrier at that moment: the kernel takes no such word from outside.
            kept[start + 2] &= RTNH_F_ONLINK;
        }
    }
    Ok(kept)
}

/// A neighbour worth keeping, without its age.
fn neighbour(body: &[u8], index: u32) -> Decoded<Option<Vec<u8>>> {
    let head: [u8; NEIGHBOUR] = wire::fixed(body)?;
    let (state, flags) = (wire::u16(&head[8..10])?, head[10]);
    let is_set = flags & NTF_PROXY != 0 || (state == libc::NUD_PERMANENT && flags & NTF_EXT_LEARNED == 0);
    if wire::u32(&head[4..8])? != index || !is_set {
        return Ok(None);
    }
    let mut kept = head.to_vec();
    for attribute in Attributes::after(body, NEIGHBOUR)? {
        match attribute? {
            (libc::NDA_CACHEINFO | libc::NDA_PROBES, _) => {}
            (kind, value) => put(&mut kept, kind, value),
        }
    }
    Ok(Some(kept))
}

fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(padded(body.len()), 0);
}

fn padded(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// In a record: the message's type, and its bytes in hexadecimal.
impl From<Kept> for String {
    fn from(kept: Kept) -> Self {
        let hex = kept.body.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{}:{hex}", kept.kind)
    }
}

impl TryFrom<String> for Kept {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        const WANT: &str = "want the type of a message and its bytes in hexadecimal";
        let (kind, hex) = text.split_once(':').ok_or(WANT)?;
        let kind = kind.parse().map_err(|_| WANT)?;
        let is_known = matches!(kind, libc::RTM_NEWADDR | libc::RTM_NEWROUTE | libc::RTM_NEWNEIGH);
        let bytes = hex.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        let body = bytes.collect::<Option<Vec<u8>>>().filter(|_| is_known).ok_or(WANT)?;
        Ok(Self { kind, body })
    }
}

#[cfg(test)]
mod tests;
