//! Ranges and range sets: which addresses there are, and in which order they are tried. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use attachments::cni::object::Object;
use attachments::finding::{Allowed, Finding, Findings, under};
use attachments::rule::Rule;
use ipnet::IpNet;

use super::super::{Checked, Validated, number, subnet, without_host_bits};

const ADDRESS: &str = "an IP address";

/// Consecutive addresses of one subnet.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    subnet: IpNet,
    /// Never given out while it lies between the two ends.
    gateway: IpAddr,
    /// First and last address as numbers.
    span: RangeInclusive<u128>,
}

/// A pool: one attachment gets one address of it. One family, no overlaps, never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeSet {
    ranges: Vec<Range>,
    path: String,
}

impl Range {
    /// Reads a range and fills in what is absent: the gateway and the start are the first address behind the network's,
    /// the end is the last address, for IPv4 the one before broadcast.
    fn read(object: &Object) -> Validated<Self> {
        let mut findings = Findings::default();
        let subnet = findings.keep(subnet_of(object).map(Some));
        let mut address = |key| {
            let read: Checked<Option<IpAddr>> = object.parsed(key, ADDRESS);
            let read = read.map_err(|e| if key == "gateway" { e.of(Rule::Gateway) } else { e });
            findings.keep(read).map(|address| address.to_canonical())
        };
        let (start, end, gateway) = (address("rangeStart"), address("rangeEnd"), address("gateway"));
        let Some(subnet) = subnet else { return Err(findings.into()) };
        for (key, found) in [("rangeStart", start), ("rangeEnd", end)] {
            if let Some(outside) = found.filter(|address| !subnet.contains(address)) {
                findings.push(Finding::new(key, outside, Allowed::AddressIn(subnet)).of(Rule::OutsideSubnet));
            }
        }
        let (network, broadcast) = (number(subnet.network()), number(subnet.broadcast()));
        let first = start.map_or(network + 1, number);
        let last = end.map_or(if subnet.addr().is_ipv4() { broadcast - 1 } else { broadcast }, number);
        let range =
            Self { subnet, gateway: gateway.unwrap_or(address_of(subnet.addr(), network + 1)), span: first..=last };
        if findings.is_empty() && first > last {
            let last = address_of(subnet.addr(), last);
            let (key, told) = match object.get("rangeStart") {
                Some(_) => ("rangeStart", format!("must not be above rangeEnd {last}").into()),
                None => ("rangeEnd", "must not be below rangeStart".into()),
            };
            let allowed = Allowed::Told { want: format!("a start that is not behind the end {last}").into(), told };
            findings.push(Finding::new(key, &range, allowed).of(Rule::RangeOrder));
        }
        findings.finish(range)
    }

    /// True when the address lies between the two ends, which are included.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.subnet.contains(&address) && self.span.contains(&number(address))
    }

    /// The address of the gateway, which need not be in the subnet.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// The subnet.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    fn candidates(&self, span: RangeInclusive<u128>) -> impl Iterator<Item = (IpAddr, &Self)> {
        let family = self.subnet.addr();
        span.map(move |n| (address_of(family, n), self)).filter(|(address, range)| *address != range.gateway)
    }
}

/// Ranges of which no two overlap, by family and first address, each with its last one and whatever it stands for: a
/// definition may list thousands.
#[derive(Default)]
struct Starts(BTreeMap<(bool, u128), (u128, usize)>);

impl Starts {
    fn insert(&mut self, range: &Range, what: usize) {
        self.0.insert((range.subnet.addr().is_ipv4(), *range.span.start()), (*range.span.end(), what));
    }

    /// One that shares an address with the range: of those that begin before its end, the last reaches furthest.
    fn overlapping(&self, range: &Range) -> Option<usize> {
        self.reaching(range.subnet.addr().is_ipv4(), *range.span.start(), *range.span.end())
    }

    fn reaching(&self, is_ipv4: bool, first: u128, last: u128) -> Option<usize> {
        let (_, (end, what)) = self.0.range((is_ipv4, 0)..=(is_ipv4, last)).next_back()?;
        (*end >= first).then_some(*what)
    }
}

/// Where each address of an attachment's sets is.
pub struct Places<'a> {
    starts: Starts,
    ranges: Vec<(usize, &'a Range)>,
}

impl<'a> Places<'a> {
    /// Sets that share no address.
    pub fn of(sets: &'a [RangeSet]) -> Self {
        let each = |(set, ranges): (usize, &'a RangeSet)| ranges.ranges.iter().map(move |range| (set, range));
        let mut places = Self { starts: Starts::default(), ranges: sets.iter().enumerate().flat_map(each).collect() };
        for (what, (_, range)) in places.ranges.iter().enumerate() {
            places.starts.insert(range, what);
        }
        places
    }

    /// The index of the set that has an address, and the range in it.
    pub fn find(&self, address: IpAddr) -> Option<(usize, &'a Range)> {
        let found = self.starts.reaching(address.is_ipv4(), number(address), number(address))?;
        self.ranges.get(found).copied().filter(|(_, range)| range.contains(address))
    }
}

impl RangeSet {
    /// Reads a pool of `ranges`. A finding inside names the range below `path`.
    pub fn read(path: String, objects: &[(usize, Object)]) -> Validated<Self> {
        let mut findings = Findings::default();
        if objects.is_empty() {
            findings.push(Finding::new(path.as_str(), "[]", "at least one range"));
        }
        let mut ranges: Vec<Range> = Vec::with_capacity(objects.len());
        let mut starts = Starts::default();
        for (i, object) in objects {
            let at = format!("{path}[{i}]");
            let read = Range::read(object).map(Some).map_err(|wrong| under(&at, wrong));
            let Some(range) = findings.keep_all(read) else { continue };
            let clash = match ranges.first() {
                Some(first) if range.subnet.addr().is_ipv4() != first.subnet.addr().is_ipv4() => {
                    let want = format!("one address family in a set: {first} came first").into();
                    Some((Allowed::Told { want, told: "one list per address family".into() }, Rule::RangeFamilies))
                }
                _ => {
                    let other = starts.overlapping(&range);
                    other.map(|other| (Allowed::apart_from(&ranges[other]), Rule::RangesOverlap))
                }
            };
            match clash {
                Some((allowed, rule)) => findings.push(Finding::new(at, &range, allowed).of(rule)),
                None => {
                    starts.insert(&range, ranges.len());
                    ranges.push(range);
                }
            }
        }
        findings.finish(Self { ranges, path })
    }

    /// The single range of the old form, whose keys are at `path` itself.
    pub fn single(path: &str, object: &Object) -> Validated<Self> {
        let range = Range::read(object).map_err(|wrong| under(path, wrong))?;
        Ok(Self { ranges: vec![range], path: path.to_owned() })
    }

    /// Two sets of one attachment share no address.
    pub fn check_apart(sets: &[Self], findings: &mut Findings) {
        let mut starts = Starts::default();
        for (i, set) in sets.iter().enumerate() {
            match set.ranges.iter().find_map(|range| starts.overlapping(range)) {
                Some(other) => {
                    let other = &sets[other];
                    let allowed = Allowed::apart_from(format_args!("{} ({other})", other.path));
                    findings.push(Finding::new(set.path.as_str(), set, allowed).of(Rule::RangesOverlap));
                }
                None => set.ranges.iter().for_each(|range| starts.insert(range, i)),
            }
        }
    }

    /// Its ranges.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The range that holds the address.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.ranges.iter().find(|range| range.contains(address))
    }

    /// True for a pool of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.ranges.iter().all(|range| range.subnet.addr().is_ipv4())
    }

    /// Every address that may be given, once, beginning behind the one that was given last and ending with that one.
    /// Without it, or when it is not of this set, beginning with the first.
    pub fn round_robin(&self, last: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, &Range)> {
        let found = last.and_then(|l| Some((self.ranges.iter().position(|range| range.contains(l))?, number(l))));
        let (at, last) = found.map_or((0, None), |(at, last)| (at, Some(last)));
        let (before, rest) = self.ranges.split_at(at);
        let begun = rest.iter().take(1);
        let behind = begun
            .clone()
            .flat_map(move |r| r.candidates(last.unwrap_or(*r.span.start())..=*r.span.end()))
            .filter(move |(address, _)| Some(number(*address)) != last);
        let others = rest.iter().skip(1).chain(before).flat_map(|r| r.candidates(r.span.clone()));
        let upto =
            last.into_iter().flat_map(move |n| begun.clone().flat_map(move |r| r.candidates(*r.span.start()..=n)));
        behind.chain(others).chain(upto)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = self.subnet.addr();
        write!(f, "{}-{}", address_of(family, *self.span.start()), address_of(family, *self.span.end()))
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.ranges.iter().enumerate() {
            write!(f, "{}{range}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

fn subnet_of(object: &Object) -> Checked<IpNet> {
    let subnet = subnet(object)?;
    if subnet.prefix_len() + 2 > subnet.max_prefix_len() {
        const LONGEST: Allowed =
            Allowed::told("a prefix length of at most 30 (IPv4) or 126 (IPv6)", "must leave at least 2 host bits");
        return Err(Finding::new("subnet", subnet, LONGEST).of(Rule::SmallSubnet));
    }
    without_host_bits(subnet)
}

/// The address of a number in the family of another address. IPv4 numbers come from IPv4 subnets and fit.
fn address_of(family: IpAddr, number: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> Validated<RangeSet> {
        let objects: Vec<Object> = serde_json::from_str(text).unwrap();
        RangeSet::read("ipam.ranges[0]".to_owned(), &objects.into_iter().enumerate().collect::<Vec<_>>())
    }

    fn order(text: &str, last: Option<&str>) -> String {
        let set = set(text).unwrap();
        let addresses = set.round_robin(last.map(|l| l.parse().unwrap())).map(|(address, _)| address.to_string());
        addresses.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn defaults_follow_the_subnet() {
        let shown = |text: &str| {
            let set = set(text).unwrap();
            format!("{set} {}", set.ranges[0].gateway())
        };
        assert_eq!(shown(r#"[{"subnet":"10.1.2.0/24"}]"#), "10.1.2.1-10.1.2.254 10.1.2.1");
        assert_eq!(shown(r#"[{"subnet":"fd00::/64"}]"#), "fd00::1-fd00::ffff:ffff:ffff:ffff fd00::1");
        assert_eq!(
            shown(
                r#"[{"subnet":"10.1.2.0/24","rangeStart":"::ffff:10.1.2.9","rangeEnd":"10.1.2.255","gateway":"9.9.9.9"}]"#
            ),
            "10.1.2.9-10.1.2.255 9.9.9.9"
        );
        assert_eq!(shown(r#"[{"subnet":"0.0.0.0/0"}]"#), "0.0.0.1-255.255.255.254 0.0.0.1");
        assert_eq!(shown(r#"[{"subnet":"::/0"}]"#), "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::1");
    }

    #[test]
    fn the_gateway_is_never_a_candidate() {
        assert_eq!(order(r#"[{"subnet":"10.0.0.0/29"}]"#, None), "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6");
        // A gateway elsewhere frees the first address.
        assert_eq!(order(r#"[{"subnet":"10.0.0.0/30","gateway":"10.9.9.9"}]"#, None), "10.0.0.1 10.0.0.2");
        assert_eq!(order(r#"[{"subnet":"10.0.0.0/30","rangeEnd":"10.0.0.1"}]"#, None), "");
    }

    #[test]
    fn the_round_begins_behind_the_last_and_ends_with_it() {
        let one = r#"[{"subnet":"10.0.0.0/29"}]"#;
        assert_eq!(order(one, Some("10.0.0.4")), "10.0.0.5 10.0.0.6 10.0.0.2 10.0.0.3 10.0.0.4");
        assert_eq!(order(one, Some("10.0.0.6")), "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6");
        assert_eq!(order(one, Some("10.9.0.1")), order(one, None));
        let three = r#"[{"subnet":"10.0.0.0/30"},{"subnet":"10.0.1.0/24","rangeStart":"10.0.1.7","rangeEnd":"10.0.1.9"},{"subnet":"10.0.2.0/30"}]"#;
        assert_eq!(order(three, None), "10.0.0.2 10.0.1.7 10.0.1.8 10.0.1.9 10.0.2.2");
        assert_eq!(order(three, Some("10.0.1.8")), "10.0.1.9 10.0.2.2 10.0.0.2 10.0.1.7 10.0.1.8");
    }

    #[test]
    fn the_last_address_of_all_does_not_overflow() {
        let top = r#"[{"subnet":"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124","rangeStart":"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"}]"#;
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(order(top, Some(last)), format!("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe {last}"));
    }

    proptest! {
        /// However the round begins, it visits each address that may be given exactly once.
        #[test]
        fn every_round_is_complete(ends in prop::collection::vec((1u8..255, 1u8..255), 1..5), last in any::<Option<(u8, u8)>>()) {
            let ranges: Vec<String> = ends.iter().enumerate().map(|(i, (a, b))| {
                let (start, end) = (a.min(b), a.max(b));
                format!(r#"{{"subnet":"10.0.{i}.0/24","rangeStart":"10.0.{i}.{start}","rangeEnd":"10.0.{i}.{end}","gateway":"10.0.{i}.7"}}"#)
            }).collect();
            let set = set(&format!("[{}]", ranges.join(","))).unwrap();
            let last = last.map(|(i, n)| IpAddr::from([10, 0, i % 6, n]));
            let mut round: Vec<IpAddr> = set.round_robin(last).map(|(address, _)| address).collect();
            if let Some(last) = last.filter(|l| set.range_of(*l).is_some_and(|r| r.gateway() != *l)) {
                prop_assert_eq!(round.last(), Some(&last));
            }
            round.sort();
            let want: Vec<IpAddr> = ends.iter().enumerate().flat_map(|(i, (a, b))| {
                let numbers = (*a.min(b)..=*a.max(b)).filter(|n| *n != 7);
                numbers.map(move |n| IpAddr::from([10, 0, i as u8, n]))
            }).collect();
            prop_assert_eq!(round, want);
        }

        /// No text makes the reader panic, and what it accepts is in order.
        #[test]
        fn any_range_is_read_or_refused(bits in any::<u128>(), length in 0u8..=128, v4: bool, start in any::<Option<u128>>(), end in any::<Option<u128>>()) {
            let family = if v4 { IpAddr::from([0, 0, 0, 0]) } else { IpAddr::from([0u8; 16]) };
            let length = if v4 { length % 33 } else { length };
            let cut = |n: u128| address_of(family, if v4 { n >> 96 } else { n });
            let mut object = Object::new();
            object.set("subnet", &IpNet::new(cut(bits), length).unwrap().trunc());
            object.set_some("rangeStart", start.map(cut).as_ref());
            object.set_some("rangeEnd", end.map(cut).as_ref());
            if let Ok(range) = Range::read(&object) {
                prop_assert!(range.span.start() <= range.span.end());
                prop_assert!(range.contains(address_of(family, *range.span.start())));
                prop_assert!(range.contains(address_of(family, *range.span.end())));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refusal = |text: &str| set(text).unwrap_err()[0].to_string();
        for (text, want) in [
            ("[]", "ipam.ranges[0]: got [], want at least one range"),
            ("[{}]", "ipam.ranges[0][0].subnet: missing"),
            (r#"[{"subnet":"x"}]"#, r#"ipam.ranges[0][0].subnet: got "x""#),
            (r#"[{"subnet":"10.0.0.0"}]"#, r#"ipam.ranges[0][0].subnet: got "10.0.0.0""#),
            (
                r#"[{"subnet":"10.0.0.0/31"}]"#,
                "ipam.ranges[0][0].subnet: got 10.0.0.0/31, want a prefix length of at most 30",
            ),
            (r#"[{"subnet":"fd00::/127"}]"#, "ipam.ranges[0][0].subnet: got fd00::/127, want a prefix length"),
            (
                r#"[{"subnet":"10.0.0.9/24"}]"#,
                "ipam.ranges[0][0].subnet: got 10.0.0.9/24, want no host bits: 10.0.0.0/24",
            ),
            (
                r#"[{"subnet":"::ffff:10.0.0.0/120"}]"#,
                "ipam.ranges[0][0].subnet: got ::ffff:10.0.0.0/120, want an IPv4",
            ),
            (
                r#"[{"subnet":"10.0.0.0/24","rangeStart":"10.0.1.1"}]"#,
                "ipam.ranges[0][0].rangeStart: got 10.0.1.1, want an address in 10.0.0.0/24",
            ),
            (r#"[{"subnet":"10.0.0.0/24","rangeEnd":"fd00::1"}]"#, "ipam.ranges[0][0].rangeEnd: got fd00::1"),
            (
                r#"[{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.9","rangeEnd":"10.0.0.8"}]"#,
                "ipam.ranges[0][0].rangeStart: got 10.0.0.9-10.0.0.8, want a start",
            ),
            // The default end is before broadcast.
            (
                r#"[{"subnet":"10.0.0.0/30","rangeStart":"10.0.0.3"}]"#,
                "ipam.ranges[0][0].rangeStart: got 10.0.0.3-10.0.0.2",
            ),
            (r#"[{"subnet":"10.0.0.0/24","gateway":"y"}]"#, r#"ipam.ranges[0][0].gateway: got "y""#),
            (
                r#"[{"subnet":"10.0.0.0/24"},{"subnet":"fd00::/64"}]"#,
                "ipam.ranges[0][1]: got fd00::1-fd00::ffff:ffff:ffff:ffff, want one address family",
            ),
            (
                r#"[{"subnet":"10.0.0.0/16"},{"subnet":"10.0.9.0/24"}]"#,
                "ipam.ranges[0][1]: 10.0.9.1-10.0.9.254 overlaps 10.0.0.1-10.0.255.254",
            ),
        ] {
            let got = refusal(text);
            assert!(got.starts_with(want), "{text}: {got}");
        }
    }

    #[test]
    fn two_parts_of_one_subnet_do_not_overlap() {
        let text =
            r#"[{"subnet":"10.0.0.0/24","rangeEnd":"10.0.0.9"},{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.10"}]"#;
        assert!(set(text).is_ok());
    }
}
