//! Reads a pool from the section `ipam`, and says everything that is wrong with it.

use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::finding::{Allowed, Finding, Findings, under};
use attachments::rule::Rule;
use ipnet::IpNet;

use super::super::super::{Checked, Validated, range_sets, subnet, without_host_bits};
use super::{Pool, Span, nth};

/// Slots of a block, unless `blockSize` says another number.
pub const BLOCK_SIZE: u32 = 64;
/// The largest `blockSize`.
const LARGEST_BLOCK: u32 = 4096;
/// The most range sets: an AddressBlock names the first address of each.
const MOST_SETS: usize = 8;

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
