//! The slots of a pool: which addresses a slot has, and which MAC address. Pure, and the same on each node.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attachments::cni::object::Object;
use attachments::finding::{Allowed, Finding, Findings, under};
use attachments::names::Mac;
use attachments::rule::Rule;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::super::{Checked, Validated, number, range_sets, subnet, without_host_bits};
use crate::networks::state::Slots;

/// Slots of a block, unless `blockSize` says another number.
pub const BLOCK_SIZE: u32 = 64;
/// The largest `blockSize`.
const LARGEST_BLOCK: u32 = 4096;
/// The most slots of a pool: of a larger subnet the first so many addresses are used.
const MOST: u32 = 1 << 31;
/// The most range sets: an AddressBlock names the first address of each.
const MOST_SETS: usize = 8;

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
    fn read(range: &Object, is_gateway: bool) -> Validated<Self> {
        let mut findings = Findings::default();
        let subnet = findings.keep(subnet(range).and_then(without_host_bits).map(Some));
        let mut address = |key, rule| {
            let read: Checked<Option<IpAddr>> = range.parsed(key, "an IP address");
            findings.keep(read.map_err(|finding| finding.of(rule))).map(|address| address.to_canonical())
        };
        let start = address("rangeStart", Rule::OutsideSubnet);
        let end = address("rangeEnd", Rule::OutsideSubnet);
        let gateway = address("gateway", Rule::Gateway);
        let Some(subnet) = subnet else { return Err(findings.into()) };
        for (key, found) in [("rangeStart", start), ("rangeEnd", end)] {
            if let Some(outside) = found.filter(|address| !subnet.contains(address)) {
                findings.push(Finding::new(key, outside, Allowed::AddressIn(subnet)).of(Rule::OutsideSubnet));
            }
        }
        let (first, last) = (start.unwrap_or(subnet.network()), end.unwrap_or(subnet.broadcast()));
        if findings.is_empty() && first > last {
            let key = if start.is_some() { "rangeStart" } else { "rangeEnd" };
            let allowed = Allowed::Told {
                want: format!("a start that is not behind the end {last}").into(),
                told: format!("must not be above rangeEnd {last}").into(),
            };
            findings.push(Finding::new(key, first, allowed).of(Rule::RangeOrder));
        }
        let gateway = gateway.or_else(|| is_gateway.then(|| nth(subnet.network(), 1)));
        findings.finish(Self { subnet, first, last, gateway })
    }

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
    /// Reads the section `ipam`. `is_gateway`: the node has an address in the network, the first one where `gateway` names none.
    pub fn read(ipam: &Object, is_gateway: bool) -> Validated<Self> {
        let mut findings = Findings::default();
        let mut sets: Vec<Vec<(String, Span)>> = Vec::new();
        if ipam.get("subnet").is_some() {
            let read = Span::read(ipam, is_gateway).map(|span| Some(vec![("ipam.subnet".to_owned(), span)]));
            sets.extend(findings.keep_all(read.map_err(|wrong| under("ipam", wrong))));
        }
        sets.extend(range_sets((ipam, "ranges", "ipam"), &mut findings, |at, ranges| set(&at, ranges, is_gateway)));
        if findings.is_empty() && sets.is_empty() {
            let allowed = Allowed::told("a subnet, here or in ipam.ranges", "set subnet or ranges");
            findings.push(Finding::missing("ipam.subnet", allowed).of(Rule::NoRanges));
        }
        if sets.len() > MOST_SETS {
            let allowed = format!("at most {MOST_SETS}, of each of which an attachment gets an address");
            findings.push(Finding::new("ipam.ranges", format_args!("{} range sets", sets.len()), allowed));
        }
        apart(sets.iter().flatten(), &mut findings);
        let mut holes = holes(ipam, &mut findings);
        let sets: Vec<Vec<Span>> =
            sets.into_iter().map(|set| set.into_iter().map(|(_, span)| span).collect()).collect();
        holes.extend(sets.iter().flatten().filter_map(|span| span.gateway).map(IpNet::from));
        let pool = Self { sets, holes: IpNet::aggregate(&holes), block_size: block_size(ipam, &mut findings) };
        if findings.is_empty() && pool.usable_from(0).is_none() {
            const LEFT: Allowed = Allowed::told(
                "an address for pods beside the subnet's own, the gateway and what ipam.exclude names",
                "leaves no address for pods",
            );
            let at = if ipam.get("subnet").is_some() { "ipam.subnet" } else { "ipam.ranges" };
            findings.push(Finding::new(at, &pool, LEFT).of(Rule::NothingLeft));
        }
        findings.finish(pool)
    }

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

/// Reads a range set, each range with its path.
fn set(at: &str, ranges: &[(usize, Object)], is_gateway: bool) -> Validated<Vec<(String, Span)>> {
    let mut findings = Findings::default();
    if ranges.is_empty() {
        findings.push(Finding::new(at, "[]", "at least one range"));
    }
    let mut spans: Vec<(String, Span)> = Vec::with_capacity(ranges.len());
    for (i, range) in ranges {
        let at = format!("{at}[{i}]");
        let read = Span::read(range, is_gateway).map(Some).map_err(|wrong| under(&at, wrong));
        let Some(span) = findings.keep_all(read) else { continue };
        if let Some((_, first)) = spans.first().filter(|(_, first)| first.first.is_ipv4() != span.first.is_ipv4()) {
            let want = format!("one address family in a set: {first} came first").into();
            let allowed = Allowed::Told { want, told: "one list per address family".into() };
            findings.push(Finding::new(at, span, allowed).of(Rule::RangeFamilies));
            continue;
        }
        spans.push((at, span));
    }
    findings.finish(spans)
}

/// Refuses ranges that share addresses. A definition may list thousands.
fn apart<'a>(spans: impl Iterator<Item = &'a (String, Span)>, findings: &mut Findings) {
    let mut sorted: Vec<(usize, &(String, Span))> = spans.enumerate().collect();
    sorted.sort_by_key(|(_, (_, span))| span.first);
    let mut furthest: Option<(usize, &(String, Span))> = None;
    for one in sorted {
        let before = furthest.filter(|(_, (_, before))| before.last >= one.1.1.first);
        if let Some(other) = before {
            let (later, earlier) = if one.0 > other.0 { (one.1, other.1) } else { (other.1, one.1) };
            let allowed = Allowed::apart_from(format_args!("{} ({})", earlier.0, earlier.1));
            findings.push(Finding::new(later.0.as_str(), later.1, allowed).of(Rule::RangesOverlap));
        }
        if furthest.is_none_or(|(_, (_, before))| before.last < one.1.1.last) {
            furthest = Some(one);
        }
    }
}

/// `exclude`: subnets, or addresses.
fn holes(ipam: &Object, findings: &mut Findings) -> Vec<IpNet> {
    const ALLOWED: Allowed = Allowed::told("an IP address, or a subnet as 10.1.2.0/28", "must be an address or CIDR");
    let read = ipam.decode::<Vec<String>>("exclude", Allowed::list("a list of addresses and subnets"));
    let texts = findings.keep(read.map_err(|finding| finding.under("ipam"))).unwrap_or_default();
    let mut holes = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match net {
            Ok(net) => holes.push(net.trunc()),
            Err(_) => {
                let finding = Finding::new(format!("ipam.exclude[{i}]"), format_args!("{text:?}"), ALLOWED);
                findings.push(finding.of(Rule::Exclude));
            }
        }
    }
    holes
}

fn block_size(ipam: &Object, findings: &mut Findings) -> u32 {
    const ALLOWED: Allowed = Allowed::number("a power of two from 1 to 4096");
    let read = ipam.decode::<u32>("blockSize", ALLOWED).and_then(|read| match read {
        Some(size) if !size.is_power_of_two() || size > LARGEST_BLOCK => Err(Finding::new("blockSize", size, ALLOWED)),
        read => Ok(read),
    });
    findings.keep(read.map_err(|finding| finding.of(Rule::BlockSize).under("ipam"))).unwrap_or(BLOCK_SIZE)
}

/// The n-th address behind another one.
fn nth(first: IpAddr, n: u128) -> IpAddr {
    match first {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().saturating_add(u32::try_from(n).unwrap_or(u32::MAX))).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().saturating_add(n)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(ipam: &str) -> Pool {
        Pool::read(&Object::parse(ipam.as_bytes()).unwrap(), false).unwrap()
    }

    fn texts(pool: &Pool, slot: u32) -> Vec<String> {
        pool.addresses(slot).unwrap_or_default().iter().map(|one| one.address.to_string()).collect()
    }

    fn free(pool: &Pool) -> usize {
        (0..pool.capacity()).filter(|slot| pool.addresses(*slot).is_some()).count()
    }

    #[test]
    fn a_slot_is_a_number_behind_the_subnets_first_address() {
        let pool = pool(r#"{"subnet":"10.42.0.0/24","gateway":"10.42.0.1","exclude":["10.42.0.16/30","10.42.0.9"]}"#);
        assert_eq!((pool.capacity(), pool.block_size()), (256, 64));
        assert_eq!(texts(&pool, 7), ["10.42.0.7/24"]);
        for hole in [0, 1, 9, 16, 19, 255, 256] {
            assert_eq!(pool.addresses(hole), None, "{hole}");
        }
        assert_eq!(pool.mac(7).unwrap().to_string(), "0a:58:0a:2a:00:07");
        assert_eq!(pool.slot_of("10.42.0.16".parse().unwrap()), Some(16));
        assert_eq!(pool.slot_of("10.43.0.16".parse().unwrap()), None);
        assert_eq!(free(&pool), 256 - 8);
    }

    #[test]
    fn a_slot_has_one_address_of_each_set() {
        let pool = pool(
            r#"{"ranges":[[{"subnet":"10.1.0.0/30"},{"subnet":"10.2.0.0/30"}],[{"subnet":"fd00::/64","rangeStart":"fd00::10"}]]}"#,
        );
        assert_eq!(pool.capacity(), 8);
        assert_eq!(texts(&pool, 5), ["10.2.0.1/30", "fd00::15/64"]);
        assert_eq!(pool.slot_of("fd00::15".parse().unwrap()), Some(5));
        let v6 = self::pool(r#"{"subnet":"fd00::/64"}"#);
        assert_eq!((v6.capacity(), v6.mac(258).unwrap().to_string()), (MOST, "0a:59:00:00:01:02".to_owned()));
        assert_eq!((v6.addresses(0), texts(&v6, 1)), (None, vec!["fd00::1/64".to_owned()]));
    }

    #[test]
    fn the_smallest_subnets_are_used_whole() {
        for (subnet, count) in [
            ("10.0.0.0/30", 2),
            ("10.0.0.0/31", 2),
            ("10.0.0.0/32", 1),
            ("fd00::/126", 3),
            ("fd00::/127", 2),
            ("fd00::/128", 1),
        ] {
            assert_eq!(free(&pool(&format!(r#"{{"subnet":"{subnet}"}}"#))), count, "{subnet}");
        }
    }

    #[test]
    fn consecutive_slots_are_as_few_subnets_as_can_be() {
        let dual = pool(
            r#"{"ranges":[[{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.250"},{"subnet":"10.2.0.0/24"}],[{"subnet":"fd00::/64"}]]}"#,
        );
        let texts = |first, count| -> Vec<String> {
            dual.subnets_of(Slots { first, count }).iter().map(IpNet::to_string).collect()
        };
        assert_eq!(texts(0, 10), ["10.1.0.250/31", "10.1.0.252/30", "10.2.0.0/30", "fd00::/125", "fd00::8/127"]);
        // Behind the pool's end there is nothing.
        assert_eq!(texts(261, 64), ["10.2.0.255/32", "fd00::105/128"]);
        assert_eq!(texts(262, 64), Vec::<String>::new());
        let whole = pool(r#"{"subnet":"fd00::/64"}"#).subnets_of(Slots { first: 0, count: u32::MAX });
        assert_eq!(whole, ["fd00::/97".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn a_pool_is_written_and_read_back() {
        let pool = pool(r#"{"subnet":"10.42.0.0/24","exclude":["10.42.0.9"],"blockSize":16}"#);
        let json = serde_json::to_string(&pool).unwrap();
        assert_eq!(serde_json::from_str::<Pool>(&json).unwrap(), pool);
    }

    #[test]
    fn what_nobody_gets_is_skipped_in_one_step_however_much_it_is() {
        let pool = pool(r#"{"subnet":"fd00::/64","exclude":["fd00::/98","fd00::8000:5"],"gateway":"fd00::1"}"#);
        assert_eq!(pool.usable_from(0), Some(1 << 30));
        let pool = self::pool(r#"{"subnet":"10.0.0.0/8","exclude":["10.0.0.0/9","10.255.0.0/16"]}"#);
        let behind = u32::from_be_bytes([0, 128, 0, 0]);
        assert_eq!((pool.usable_from(7), pool.usable_from(behind + 9)), (Some(behind), Some(behind + 9)));
        assert_eq!(pool.usable_from(u32::from_be_bytes([0, 255, 0, 0])), None);
        let dual = self::pool(
            r#"{"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]],"exclude":["fd00::/125","10.0.0.8"]}"#,
        );
        assert_eq!((dual.usable_from(0), dual.usable_from(255)), (Some(9), None));
        for slot in 0..256 {
            let slow = (slot..256).find(|slot| dual.addresses(*slot).is_some());
            assert_eq!(dual.usable_from(slot), slow, "{slot}");
        }
    }

    #[test]
    fn parts_of_one_subnet_may_be_ranges_and_the_gateway_is_in_none() {
        let text = r#"{"ranges":[[{"subnet":"10.0.0.0/24","rangeEnd":"10.0.0.9","gateway":"10.0.0.20"},{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.20","rangeEnd":"10.0.0.22"}]]}"#;
        let pool = pool(text);
        assert_eq!((pool.to_string(), pool.capacity()), ("10.0.0.0-10.0.0.9,10.0.0.20-10.0.0.22".to_owned(), 13));
        assert_eq!(
            (texts(&pool, 9), texts(&pool, 10), texts(&pool, 11)),
            (vec!["10.0.0.9/24".to_owned()], vec![], vec!["10.0.0.21/24".to_owned()])
        );
    }

    #[test]
    fn another_definition_of_the_network_may_keep_more_addresses_and_number_none_otherwise() {
        let ours = pool(r#"{"subnet":"10.0.0.0/24","exclude":["10.0.0.8"]}"#);
        let theirs = pool(r#"{"subnet":"10.0.0.0/24","gateway":"10.0.0.1","exclude":["10.0.0.9"]}"#);
        let both = ours.clone().restricted_by(&theirs).unwrap();
        assert!([1, 8, 9].iter().all(|slot| both.addresses(*slot).is_none()) && both.addresses(10).is_some());
        assert_eq!(both.addresses(10).unwrap()[0].gateway, None, "the result tells what its own definition says");
        for other in [r#"{"subnet":"10.0.0.0/25"}"#, r#"{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.2"}"#] {
            assert_eq!(ours.clone().restricted_by(&pool(other)), None, "{other}");
        }
    }

    #[test]
    fn every_wrong_key_is_named() {
        for (ipam, want) in [
            ("{}", "ipam.subnet: missing, want a subnet"),
            (r#"{"subnet":"10.0.0.0"}"#, "ipam.subnet: got \"10.0.0.0\", want a subnet with a prefix length"),
            (r#"{"subnet":"10.0.0.1/24"}"#, "ipam.subnet: got 10.0.0.1/24, want no host bits: 10.0.0.0/24"),
            (
                r#"{"subnet":"10.0.0.0/24","rangeStart":"10.1.0.0"}"#,
                "ipam.rangeStart: got 10.1.0.0, want an address in",
            ),
            (
                r#"{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.9","rangeEnd":"10.0.0.8"}"#,
                "ipam.rangeStart: got 10.0.0.9",
            ),
            (r#"{"subnet":"10.0.0.0/24","exclude":["x"]}"#, "ipam.exclude[0]: got \"x\", want an IP address"),
            (r#"{"subnet":"10.0.0.0/24","blockSize":3}"#, "ipam.blockSize: got 3, want a power of two"),
            (
                r#"{"subnet":"10.0.0.0/24","ranges":[[{"subnet":"10.0.0.0/16"}]]}"#,
                "ipam.ranges[0][0]: 10.0.0.0/16 overlaps ipam.subnet (10.0.0.0/24)",
            ),
            (r#"{"ranges":[[{"subnet":"10.0.0.0/24"}],[]]}"#, "ipam.ranges[1]: got [], want at least one range"),
            (
                r#"{"ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"fd00::/64"}]]}"#,
                "ipam.ranges[0][1]: got fd00::/64, want one address family in a set: 10.0.0.0/24 came first",
            ),
            (
                r#"{"subnet":"10.0.0.0/30","exclude":["10.0.0.0/24"]}"#,
                "ipam.subnet: got 10.0.0.0/30, want an address for pods beside",
            ),
            (r#"{"subnet":"10.0.0.0/31","gateway":"10.0.0.1","exclude":["10.0.0.0"]}"#, "ipam.subnet: got 10.0.0.0/31"),
        ] {
            let wrong = Pool::read(&Object::parse(ipam.as_bytes()).unwrap(), false).unwrap_err();
            let texts: Vec<String> = wrong.iter().map(Finding::to_string).collect();
            assert!(matches!(texts.as_slice(), [one] if one.starts_with(want)), "{ipam}: {texts:?}");
        }
    }
}
