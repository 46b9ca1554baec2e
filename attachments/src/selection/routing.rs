//! Routes and rules that a pod asks for on one of its links. The keys are ours (R13).

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::element::{ADDRESS_SET, NetworkSelection};
use crate::cni::object::Object;
use crate::cni::spelling::Known;
use crate::finding::Finding;
use crate::rule::Rule;

/// The key of an element that lists routes through its link.
pub const ROUTES: &str = "meta-cni.io/routes";
/// The key of an element that lists rules: which table packets from a network look up.
pub const RULES: &str = "meta-cni.io/rules";
/// The most routes, and the most rules, of one element.
pub const MOST: usize = 64;

/// The keys of a route.
pub(super) static ROUTE: Known<'static> = Known::of(&[&["dst", "gw", "table"]]);
/// The keys of a rule.
pub(super) static RULE: Known<'static> = Known::of(&[&["from", "table"]]);

/// Tables that are the kernel's: unspecified, default, main and local. A route without `table` is in main.
const OF_KERNEL: [u32; 4] = [0, 253, 254, 255];

/// A route through the link of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedRoute {
    /// The destination, without host bits.
    pub dst: IpNet,
    /// The next hop; without one the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The table; absent for the main table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
}

/// Packets from a network look their routes up in a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedRule {
    /// The network that a packet's source lies in, without host bits.
    pub from: IpNet,
    /// The table.
    pub table: u32,
}

impl RequestedRoute {
    /// Is it one of the pod's default routes? Those move as a whole: it is read as `default-route`.
    pub fn is_default(&self) -> bool {
        self.dst.prefix_len() == 0 && self.table.is_none()
    }

    fn decode(object: &Object) -> Result<Self, Finding> {
        only(object, &ROUTE)?;
        let dst = network(object, "dst")?;
        let gw = object.parsed::<IpAddr>("gw", GATEWAY)?.map(|gw| gw.to_canonical());
        let route = Self { dst, gw, table: table(object)? };
        match gw {
            Some(gw) if gw.is_ipv4() != dst.addr().is_ipv4() || !is_next_hop(gw) => {
                let family = if dst.addr().is_ipv4() { "IPv4" } else { "IPv6" };
                let allowed = format!("the {family} address of a router on the link, for {dst} is {family}");
                Err(Finding::new("gw", format_args!("{:?}", gw.to_string()), allowed))
            }
            None if route.is_default() => Err(Finding::missing("gw", "the gateway of a default route")),
            _ => Ok(route),
        }
    }
}

impl RequestedRule {
    fn decode(object: &Object) -> Result<Self, Finding> {
        only(object, &RULE)?;
        let from = network(object, "from")?;
        match table(object)? {
            Some(table) => Ok(Self { from, table }),
            None => Err(Finding::missing("table", TABLE)),
        }
    }
}

impl fmt::Display for RequestedRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(gw) = self.gw {
            write!(f, " via {gw}")?;
        }
        self.table.map_or(Ok(()), |table| write!(f, " table {table}"))
    }
}

impl fmt::Display for RequestedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} table {}", self.from, self.table)
    }
}

const NETWORK: &str = "an IPv4 or IPv6 network, as 10.9.0.0/16";
const GATEWAY: &str = "an IPv4 or IPv6 address";
const TABLE: &str = "the number of a routing table other than 0, 253, 254 and 255, which are the kernel's";

/// What is misspelled would be a route without a gateway.
fn only(object: &Object, known: &Known<'_>) -> Result<(), Finding> {
    match object.iter().find(|(key, _)| known.meant(key).is_none()) {
        None => Ok(()),
        Some((key, value)) => {
            let allowed = format!("no other key than {}", known.keys.concat().join(", "));
            Err(Finding::new(key, value.get(), allowed))
        }
    }
}

fn network(object: &Object, key: &str) -> Result<IpNet, Finding> {
    let net = object.parsed::<IpNet>(key, NETWORK)?;
    net.map(|net| net.trunc()).ok_or_else(|| Finding::missing(key, NETWORK))
}

fn table(object: &Object) -> Result<Option<u32>, Finding> {
    match object.decode::<u32>("table", TABLE)? {
        Some(table) if OF_KERNEL.contains(&table) => Err(Finding::new("table", table, TABLE)),
        table => Ok(table),
    }
}

fn is_next_hop(gw: IpAddr) -> bool {
    let is_broadcast = matches!(gw, IpAddr::V4(gw) if gw.is_broadcast());
    !(gw.is_unspecified() || gw.is_loopback() || gw.is_multicast() || is_broadcast)
}

/// The routes and rules of an element, each right by itself and none in the way of another.
pub(super) fn decode(object: &Object) -> Result<(Vec<RequestedRoute>, Vec<RequestedRule>), Finding> {
    let routes = list(object, ROUTES, RequestedRoute::decode)?;
    let rules = list(object, RULES, RequestedRule::decode)?;
    for (i, route) in routes.iter().enumerate() {
        if let Some(first) = routes[..i].iter().position(|other| clash(route, other)) {
            let allowed = format!("a destination that no other route of its table has: [{first}] has it");
            return Err(Finding::new(format!("{ROUTES}[{i}].dst"), format_args!("\"{}\"", route.dst), allowed));
        }
    }
    for (i, rule) in rules.iter().enumerate() {
        if let Some(first) = rules[..i].iter().position(|other| rule.from == other.from) {
            let allowed = format!("a network that no other rule has: [{first}] has it");
            return Err(Finding::new(format!("{RULES}[{i}].from"), format_args!("\"{}\"", rule.from), allowed));
        }
    }
    Ok((routes, rules))
}

fn clash(one: &RequestedRoute, other: &RequestedRoute) -> bool {
    (one.dst, one.table) == (other.dst, other.table)
}

fn list<T>(object: &Object, key: &str, read: impl Fn(&Object) -> Result<T, Finding>) -> Result<Vec<T>, Finding> {
    let listed = object.objects(key)?;
    if listed.len() > MOST {
        return Err(Finding::new(key, format_args!("{} of them", listed.len()), format!("at most {MOST}")));
    }
    let each = |(i, one): (usize, &Object)| read(one).map_err(|e| e.under(&format!("{key}[{i}]")));
    listed.iter().enumerate().map(each).collect()
}

/// Something that two elements of a pod ask for and only one can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedTwice {
    /// Index of the element that asks first.
    pub first: usize,
    /// Index of the other.
    pub second: usize,
    /// The field of the second.
    pub field: String,
    /// Its value.
    pub value: String,
    /// What it would have to be.
    pub allowed: &'static str,
    /// The rule that it breaks.
    pub rule: Rule,
}

impl AskedTwice {
    /// The first destination that two elements have routes to in one table, the first network whose packets they send to two tables, or the
    /// first AddressSet of which they take two members.
    /// Two that send them to one table share the rule.
    pub fn find<'a>(selected: impl Iterator<Item = Option<&'a NetworkSelection>>) -> Option<Self> {
        let mut destinations: HashMap<(IpNet, Option<u32>), usize> = HashMap::new();
        let mut sources: HashMap<IpNet, (u32, usize)> = HashMap::new();
        let mut sets = Vec::new();
        for (second, one) in selected.enumerate().filter_map(|(i, one)| Some((i, one?))) {
            let twice = |first, field: String, value: IpNet, allowed| {
                Some(Self { first, second, field, value: value.to_string(), allowed, rule: Rule::Routing })
            };
            for (i, route) in one.routes.iter().enumerate().filter(|(_, route)| !route.is_default()) {
                if let Some(first) = destinations.insert((route.dst, route.table), second) {
                    let allowed = "a destination that no other route of its table has";
                    return twice(first, format!("{ROUTES}[{i}].dst"), route.dst, allowed);
                }
            }
            let set = one.address_set.as_ref().map(|set| (set, &one.target));
            if let Some(set) = set
                && let Some((_, first)) = sets.iter().find(|(other, _)| *other == set)
            {
                return Some(Self {
                    first: *first,
                    second,
                    field: ADDRESS_SET.to_owned(),
                    value: set.0.to_string(),
                    allowed: "a set of which no other element of the network takes a member",
                    rule: Rule::AddressSet,
                });
            }
            sets.extend(set.map(|set| (set, second)));
            for (i, rule) in one.rules.iter().enumerate() {
                let (table, first) = *sources.entry(rule.from).or_insert((rule.table, second));
                if table != rule.table {
                    let allowed = "a network whose packets no other element sends to another table";
                    return twice(first, format!("{RULES}[{i}].from"), rule.from, allowed);
                }
            }
        }
        None
    }

    /// The finding; `place` says where an element is.
    pub fn finding(&self, place: impl Fn(usize) -> String) -> Finding {
        let allowed = format!("{}: {} has it", self.allowed, place(self.first));
        let path = format!("{}.{}", place(self.second), self.field);
        Finding::new(path, format_args!("\"{}\"", self.value), allowed).by(self.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Vec<RequestedRoute>, Vec<RequestedRule>), String> {
        decode(&Object::parse(text.as_bytes()).unwrap()).map_err(|finding| finding.to_string())
    }

    #[test]
    fn routes_and_rules_are_read_without_host_bits() {
        let text = r#"{"meta-cni.io/routes":[{"dst":"10.9.7.7/16","gw":"10.43.0.1"},{"dst":"fd09::/64","table":10}],
            "meta-cni.io/rules":[{"from":"10.43.0.7/24","table":4294967295}]}"#;
        let (routes, rules) = read(text).unwrap();
        let told: Vec<String> = routes.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["10.9.0.0/16 via 10.43.0.1", "fd09::/64 table 10"]);
        assert_eq!(rules[0].to_string(), "from 10.43.0.0/24 table 4294967295");
        assert_eq!(read("{}").unwrap(), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let routes = |text: &str| read(&format!(r#"{{"meta-cni.io/routes":[{text}]}}"#)).unwrap_err();
        let rules = |text: &str| read(&format!(r#"{{"meta-cni.io/rules":[{text}]}}"#)).unwrap_err();
        for (text, want) in [
            (r#"{"gw":"10.0.0.1"}"#, "meta-cni.io/routes[0].dst: missing, want an IPv4 or IPv6 network"),
            (r#"{"dst":"10.9.0.1"}"#, "meta-cni.io/routes[0].dst: got \"10.9.0.1\", want an IPv4 or IPv6 network"),
            (
                r#"{"dst":"10.9.0.0/16","gw":"fd00::1"}"#,
                "routes[0].gw: got \"fd00::1\", want the IPv4 address of a router",
            ),
            (r#"{"dst":"10.9.0.0/16","gw":"224.0.0.1"}"#, "routes[0].gw: got \"224.0.0.1\", want the IPv4 address"),
            (
                r#"{"dst":"10.9.0.0/16","gateway":"10.0.0.1"}"#,
                "routes[0].gateway: got \"10.0.0.1\", want no other key than dst, gw, table",
            ),
            (
                r#"{"dst":"10.9.0.0/16","table":254}"#,
                "routes[0].table: got 254, want the number of a routing table other than 0, 253",
            ),
            (r#"{"dst":"10.9.0.0/16","table":-1}"#, "routes[0].table: got -1, want the number"),
            (r#"{"dst":"0.0.0.0/0"}"#, "routes[0].gw: missing, want the gateway of a default route"),
            (
                r#"{"dst":"10.9.0.0/16"},{"dst":"10.9.0.0/16","table":7},{"dst":"10.9.3.0/16"}"#,
                "routes[2].dst: got \"10.9.0.0/16\", want a destination that no other route of its table has: [0] has it",
            ),
        ] {
            assert!(routes(text).contains(want), "{text}: {}", routes(text));
        }
        for (text, want) in [
            (r#"{"from":"10.9.0.0/16"}"#, "rules[0].table: missing, want the number"),
            (r#"{"table":7}"#, "rules[0].from: missing"),
            (r#"{"from":"fd00::/64","table":0}"#, "rules[0].table: got 0"),
            (r#"{"from":"fd00::/64","table":8},{"from":"fd00::/64","table":9}"#, "rules[1].from: got \"fd00::/64\""),
        ] {
            assert!(rules(text).contains(want), "{text}: {}", rules(text));
        }
        let many = vec![r#"{"from":"10.0.0.0/8","table":9}"#; MOST + 1].join(",");
        assert_eq!(rules(&many), "meta-cni.io/rules: got 65 of them, want at most 64");
    }
}
