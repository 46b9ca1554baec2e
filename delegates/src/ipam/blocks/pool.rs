//! The slots of a pool: which addresses a slot has, and which MAC address. Pure, and the same on each node.

mod count;
mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attachments::names::Mac;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::super::number;
use crate::networks::state::Slots;

/// The most slots of a pool: of a larger subnet the first so many addresses are used.
const MOST: u32 = 1 << 31;
/// A pool of addresses, numbered: slot n has the n-th address of each range set. Addresses that nobody gets (the subnet's own, the
/// gateway's, excluded ones) have a number too, so that excluding one moves no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// An attachment gets one address of each set.
    sets: Vec<Vec<Span>>,
    /// What nobody gets, in order and apart from one another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holes: Vec<IpNet>,
    /// Slots of a block.
    block_size: u32,
}

/// Consecutive addresses of one subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    subnet: IpNet,
    first: IpAddr,
    last: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

/// An address of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotAddress {
    /// The address with the length of its subnet.
    pub address: IpNet,
    /// `gateway` of its range.
    pub gateway: Option<IpAddr>,
}

impl Span {
    /// How many addresses it has, up to [`MOST`].
    fn len(&self) -> u32 {
        let length = number(self.last).saturating_sub(number(self.first)).saturating_add(1);
        u32::try_from(length).unwrap_or(MOST).min(MOST)
    }

    /// Does nobody get this address, for what it is in its subnet? All but the subnet's own and its broadcast address are
    /// given out, as far as a subnet has those: /31, /127 and longer ones are all hosts (RFC 3021, RFC 6164).
    fn is_special(&self, address: IpAddr) -> bool {
        let host_bits = self.subnet.max_prefix_len() - self.subnet.prefix_len();
        let has_broadcast = self.subnet.addr().is_ipv4();
        host_bits >= 2 && (address == self.subnet.network() || (has_broadcast && address == self.subnet.broadcast()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.subnet.network() && self.last == self.subnet.broadcast() {
            return write!(f, "{}", self.subnet);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Pool {
    /// How many slots there are, those that nobody gets included.
    pub fn capacity(&self) -> u32 {
        let length = |set: &Vec<Span>| set.iter().fold(0_u32, |sum, span| sum.saturating_add(span.len())).min(MOST);
        self.sets.iter().map(length).min().unwrap_or_default()
    }

    /// Slots of a block.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// The subnets.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.sets.iter().flatten().map(|span| span.subnet)
    }

    /// Each range: its subnet, and its gateway.
    pub fn ranges(&self) -> impl Iterator<Item = (IpNet, Option<IpAddr>)> {
        self.sets.iter().flatten().map(|span| (span.subnet, span.gateway))
    }

    /// The family of each range set.
    pub fn families(&self) -> impl Iterator<Item = bool> {
        self.sets.iter().filter_map(|set| set.first()).map(|span| span.subnet.addr().is_ipv4())
    }

    /// The pool without the addresses that another definition of the same network keeps from pods. `None` where that one numbers
    /// addresses otherwise.
    pub fn restricted_by(mut self, other: &Self) -> Option<Self> {
        let alike = |(one, other): (&Vec<Span>, &Vec<Span>)| {
            let numbers = |span: &Span| (span.subnet, span.first, span.last);
            one.iter().map(numbers).eq(other.iter().map(numbers))
        };
        if self.sets.len() != other.sets.len() || !self.sets.iter().zip(&other.sets).all(alike) {
            return None;
        }
        if self.holes != other.holes {
            self.holes.extend(&other.holes);
            self.holes = IpNet::aggregate(&self.holes);
        }
        Some(self)
    }

    /// The addresses that a slot has by its number, one of each set, be it one that nobody gets. None behind the last slot.
    pub fn numbered(&self, slot: u32) -> Vec<IpAddr> {
        self.sets.iter().filter_map(|set| locate(set, slot)).map(|(_, ip)| ip).collect()
    }

    /// The addresses of a slot, one of each set; `None` for a slot that nobody gets, and behind the last one.
    pub fn addresses(&self, slot: u32) -> Option<Vec<SlotAddress>> {
        if slot >= self.capacity() {
            return None;
        }
        self.sets.iter().map(|set| self.address(set, slot)).collect()
    }

    /// The subnets that hold the addresses of consecutive slots and no others, in every set: as few as can be.
    pub fn subnets_of(&self, slots: Slots) -> Vec<IpNet> {
        let mut found = Vec::new();
        let end = slots.first.saturating_add(slots.count).min(self.capacity());
        for set in &self.sets {
            let mut slot = slots.first;
            while let Some((span, ip)) = locate(set, slot).filter(|_| slot < end) {
                let left = number(span.last) - number(ip) + 1;
                let most = left.min(u128::from(end - slot));
                // As large as the address is aligned, and as there is room.
                let bits = most.ilog2().min(number(ip).trailing_zeros());
                let full = span.subnet.max_prefix_len();
                found.extend(IpNet::new(ip, full.saturating_sub(bits as u8)));
                slot += 1 << bits;
            }
        }
        found
    }

    /// The first slot from this one on that somebody may get.
    pub fn usable_from(&self, slot: u32) -> Option<u32> {
        let capacity = self.capacity();
        let mut slot = slot;
        while slot < capacity {
            match self.sets.iter().find_map(|set| self.behind_hole(set, slot)) {
                Some(next) => slot = next,
                None => return Some(slot),
            }
        }
        None
    }

    /// The first slot behind the hole that a slot is in, as far as the set is concerned; `None` for a slot that is in none. What
    /// excludes millions of addresses is one step.
    fn behind_hole(&self, set: &[Span], slot: u32) -> Option<u32> {
        let (span, ip) = locate(set, slot)?;
        if span.is_special(ip) {
            return Some(slot + 1);
        }
        let hole = self.hole(ip)?;
        let steps = number(hole.broadcast().min(span.last)).saturating_sub(number(ip)).saturating_add(1);
        Some(slot.saturating_add(u32::try_from(steps).unwrap_or(MOST)))
    }

    /// The hole that an address is in.
    fn hole(&self, ip: IpAddr) -> Option<&IpNet> {
        let behind = self.holes.partition_point(|hole| hole.network() <= ip);
        self.holes[..behind].last().filter(|hole| hole.contains(&ip))
    }

    fn address(&self, set: &[Span], slot: u32) -> Option<SlotAddress> {
        let (span, ip) = locate(set, slot)?;
        let is_hole = span.is_special(ip) || self.hole(ip).is_some();
        let address = IpNet::new(ip, span.subnet.prefix_len()).ok()?;
        (!is_hole).then_some(SlotAddress { address, gateway: span.gateway })
    }

    /// The slot that has an address, be it one that nobody gets.
    pub fn slot_of(&self, ip: IpAddr) -> Option<u32> {
        let in_set = |set: &Vec<Span>| {
            let mut before = 0_u32;
            for span in set {
                let is_here = span.subnet.contains(&ip) && span.first <= ip && ip <= span.last;
                if is_here {
                    let offset = u32::try_from(number(ip) - number(span.first)).ok()?;
                    return before.checked_add(offset).filter(|slot| *slot < self.capacity());
                }
                before = before.saturating_add(span.len());
            }
            None
        };
        self.sets.iter().find_map(in_set)
    }

    /// The MAC address of a slot: locally administered, and readable. With IPv4 it ends in the address, without in the slot's
    /// number. Each network has a bridge of its own, so networks may have MAC addresses in common.
    pub fn mac(&self, slot: u32) -> Option<Mac> {
        let addresses = self.addresses(slot)?;
        let v4 = addresses.iter().find_map(|one| match one.address.addr() {
            IpAddr::V4(v4) => Some(v4.octets()),
            IpAddr::V6(_) => None,
        });
        let (kind, [a, b, c, d]) = v4.map_or_else(|| (0x59, slot.to_be_bytes()), |octets| (0x58, octets));
        Some(Mac([0x0a, kind, a, b, c, d]))
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |set: &Vec<Span>| set.iter().map(Span::to_string).collect::<Vec<_>>().join(",");
        f.write_str(&self.sets.iter().map(set).collect::<Vec<_>>().join(" with "))
    }
}

/// The address of a slot in a range set, and its range.
fn locate(set: &[Span], slot: u32) -> Option<(&Span, IpAddr)> {
    let mut offset = slot;
    for span in set {
        if offset < span.len() {
            return Some((span, nth(span.first, u128::from(offset))));
        }
        offset -= span.len();
    }
    None
}

/// The n-th address behind another one.
fn nth(first: IpAddr, n: u128) -> IpAddr {
    match first {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().saturating_add(u32::try_from(n).unwrap_or(u32::MAX))).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().saturating_add(n)).into(),
    }
}
