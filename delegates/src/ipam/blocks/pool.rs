//! The slots of a pool: which addresses a slot has, and which MAC address. Pure, and the same on each node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attachments::cni::object::Object;
use attachments::finding::{Allowed, Finding, Findings, under};
use attachments::names::Mac;
use attachments::rule::Rule;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::super::{Checked, Validated, range_sets};

/// Slots of a block, unless `blockSize` says another number.
pub const BLOCK_SIZE: u32 = 64;
/// The largest `blockSize`.
const LARGEST_BLOCK: u32 = 4096;
/// The most slots of a pool: of a larger subnet the first so many addresses are used.
const MOST: u32 = 1 << 31;

/// A pool of addresses, numbered: slot n has the n-th address of each range set. Addresses that nobody gets (the subnet's own, the
/// gateway's, excluded ones) have a number too, so that excluding one moves no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// An attachment gets one address of each set.
    sets: Vec<Vec<Span>>,
    /// What nobody gets.
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
        let subnet = findings.keep(subnet(range).map(Some));
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
        Some(address) == self.gateway
            || (host_bits >= 2
                && (address == self.subnet.network() || (has_broadcast && address == self.subnet.broadcast())))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.subnet.contains(&other.subnet) || other.subnet.contains(&self.subnet)
    }
}

impl Pool {
    /// Reads the section `ipam`. `is_gateway`: the node has an address in the network, the first one where `gateway` names none.
    pub fn read(ipam: &Object, is_gateway: bool) -> Validated<Self> {
        let mut findings = Findings::default();
        let mut sets: Vec<Vec<Span>> = Vec::new();
        if ipam.get("subnet").is_some() {
            let read = Span::read(ipam, is_gateway).map(|span| Some(vec![span]));
            sets.extend(findings.keep_all(read.map_err(|wrong| under("ipam", wrong))));
        }
        sets.extend(range_sets((ipam, "ranges", "ipam"), &mut findings, |at, ranges| {
            let mut inside = Findings::default();
            let each = ranges.iter().filter_map(|(i, range)| {
                let read = Span::read(range, is_gateway).map(Some);
                inside.keep_all(read.map_err(|wrong| under(&format!("{at}[{i}]"), wrong)))
            });
            let set = each.collect();
            inside.finish(set)
        }));
        if findings.is_empty() && sets.iter().all(Vec::is_empty) {
            let allowed = Allowed::told("a subnet, here or in ipam.ranges", "set subnet or ranges");
            findings.push(Finding::missing("ipam.subnet", allowed).of(Rule::NoRanges));
        }
        let spans: Vec<&Span> = sets.iter().flatten().collect();
        let pairs = spans.iter().enumerate().flat_map(|(i, one)| spans[..i].iter().map(move |other| (*one, *other)));
        for (one, other) in pairs.filter(|(one, other)| one.overlaps(other)) {
            let allowed = format!("subnets apart from one another: {} is another range's", other.subnet);
            findings.push(Finding::new("ipam.ranges", one.subnet, allowed).of(Rule::RangesOverlap));
        }
        let pool = Self { holes: holes(ipam, &mut findings), block_size: block_size(ipam, &mut findings), sets };
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

    /// The addresses of a slot, one of each set; `None` for a slot that nobody gets, and behind the last one.
    pub fn addresses(&self, slot: u32) -> Option<Vec<SlotAddress>> {
        if slot >= self.capacity() {
            return None;
        }
        self.sets.iter().map(|set| self.address(set, slot)).collect()
    }

    fn address(&self, set: &[Span], slot: u32) -> Option<SlotAddress> {
        let mut offset = slot;
        for span in set {
            if offset < span.len() {
                let ip = nth(span.first, u128::from(offset));
                let is_hole = span.is_special(ip) || self.holes.iter().any(|hole| hole.contains(&ip));
                let address = IpNet::new(ip, span.subnet.prefix_len()).ok()?;
                return (!is_hole).then_some(SlotAddress { address, gateway: span.gateway });
            }
            offset -= span.len();
        }
        None
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

fn subnet(range: &Object) -> Checked<IpNet> {
    const SUBNET: Allowed =
        Allowed::told("a subnet with a prefix length, as 10.1.0.0/16", "must be CIDR, for example \"10.9.0.0/24\"");
    let read = range.parsed("subnet", SUBNET).and_then(|read| read.ok_or_else(|| Finding::missing("subnet", SUBNET)));
    let subnet: IpNet = read.map_err(|finding| finding.of(Rule::Subnet))?;
    let refuse = |allowed: Allowed, rule| Err(Finding::new("subnet", subnet, allowed).of(rule));
    if subnet.addr().to_canonical() != subnet.addr() {
        return refuse("an IPv4 subnet in IPv4 notation".into(), Rule::Subnet);
    }
    if subnet.trunc() != subnet {
        let want = format!("no host bits: {}", subnet.trunc()).into();
        let told = format!("host bits set, use \"{}\"", subnet.trunc()).into();
        return refuse(Allowed::Told { want, told }, Rule::HostBits);
    }
    Ok(subnet)
}

/// `exclude`: subnets, or addresses.
fn holes(ipam: &Object, findings: &mut Findings) -> Vec<IpNet> {
    const ALLOWED: &str = "an IP address, or a subnet as 10.1.2.0/28";
    let read = ipam.decode::<Vec<String>>("exclude", Allowed::list("a list of addresses and subnets"));
    let texts = findings.keep(read.map_err(|finding| finding.under("ipam"))).unwrap_or_default();
    let mut holes = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match net {
            Ok(net) => holes.push(net.trunc()),
            Err(_) => findings.push(Finding::new(format!("ipam.exclude[{i}]"), format_args!("{text:?}"), ALLOWED)),
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
    findings.keep(read.map_err(|finding| finding.under("ipam"))).unwrap_or(BLOCK_SIZE)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
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
    fn a_pool_is_written_and_read_back() {
        let pool = pool(r#"{"subnet":"10.42.0.0/24","exclude":["10.42.0.9"],"blockSize":16}"#);
        let json = serde_json::to_string(&pool).unwrap();
        assert_eq!(serde_json::from_str::<Pool>(&json).unwrap(), pool);
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
            (r#"{"subnet":"10.0.0.0/24","ranges":[[{"subnet":"10.0.0.0/16"}]]}"#, "ipam.ranges: got 10.0.0.0/16"),
        ] {
            let wrong = Pool::read(&Object::parse(ipam.as_bytes()).unwrap(), false).unwrap_err();
            let texts: Vec<String> = wrong.iter().map(Finding::to_string).collect();
            assert!(matches!(texts.as_slice(), [one] if one.starts_with(want)), "{ipam}: {texts:?}");
        }
    }
}
