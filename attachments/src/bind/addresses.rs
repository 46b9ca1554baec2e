//! `meta-cni.io/addresses`: the configuration of an attachment as it is with the addresses that its pod asks for. The record keeps that one,
//! so a DEL and a CHECK know nothing of the request.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::cni::conf::{NetworkConf, PluginConf};
use crate::cni::object::Object;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::selection::{ADDRESS_SET, ADDRESSES, AddressMode, AddressRequest, NetworkSelection, address};

/// The key of `ipam` that says of which families a pod gets the addresses of a slot (`blocks`).
pub const FAMILIES: &str = "families";

/// Keys of `ipam` that describe its first range.
const RANGE: [&str; 4] = ["subnet", "rangeStart", "rangeEnd", "gateway"];

/// What the request makes of an attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// The link does without IPv6.
    pub without_ipv6: bool,
    /// The addresses of `ips` are in the configuration: no plugin is asked for them.
    pub has_ips: bool,
}

/// Changes the configurations of a chain. Runtimes have no use for a pod whose default network has no address.
pub(super) fn apply(
    conf: &mut NetworkConf,
    selected: &NetworkSelection,
    field: &str,
    is_default: bool,
) -> Result<Made, Finding> {
    let Some(request) = selected.addresses else { return Ok(Made::default()) };
    let refuse =
        |allowed: String| Finding::new(format!("{field}.{ADDRESSES}"), request, allowed).by(Rule::AddressRequest);
    if is_default && request.is_none() {
        return Err(refuse("an address for the pod's default network".to_owned()));
    }
    let without_ipv6 = request.ipv6 == Some(AddressMode::None);
    let is_flannel = conf.plugins.first().is_some_and(|plugin| plugin.kind.as_str() == "flannel");
    let giving =
        conf.plugins.iter_mut().filter(|plugin| plugin.object.get("ipam").is_some_and(|ipam| ipam.get() != "{}"));
    let mut giving: Vec<&mut PluginConf> = giving.collect();
    if is_flannel || giving.is_empty() {
        return match request.is_none() && !is_flannel {
            true => Ok(Made { without_ipv6, has_ips: false }),
            false if is_flannel => {
                Err(refuse("nothing: the addresses of flannel are those of the node's subnet".to_owned()))
            }
            false => Err(refuse("\"none\": the network has no ipam and so no addresses".to_owned())),
        };
    }
    let mut has_ips = false;
    for plugin in &mut giving {
        let Some(ipam) = plugin.object.object("ipam")? else { continue };
        let section = Section { ipam, request, ips: &selected.ips, shared: &selected.shared };
        let changed = section.changed().map_err(refuse)?;
        has_ips |= changed.has_ips;
        match changed.ipam {
            Some(ipam) => plugin.object.set("ipam", &ipam),
            None => drop(plugin.object.remove("ipam")),
        }
    }
    Ok(Made { without_ipv6, has_ips })
}

/// Members of an AddressSet are slots of a pool that all nodes share.
pub(super) fn require_blocks(conf: &NetworkConf, selected: &NetworkSelection, field: &str) -> Result<(), Finding> {
    let Some(set) = &selected.address_set else { return Ok(()) };
    let kind = |plugin: &PluginConf| plugin.object.object("ipam").ok().flatten()?.text("type").ok().flatten();
    match conf.plugins.iter().find_map(kind) {
        Some(kind) if kind == "blocks" => Ok(()),
        other => {
            let is = other.map_or_else(|| "none".to_owned(), |kind| format!("{kind:?}"));
            let allowed = format!("no set: the network's ipam.type is {is}, and only \"blocks\" has AddressSets");
            Err(Finding::new(format!("{field}.{ADDRESS_SET}"), set, allowed).by(Rule::AddressSet))
        }
    }
}

struct Section<'a> {
    ipam: Object,
    request: AddressRequest,
    ips: &'a [String],
    /// Those that no pool gives out, for several pods may have them.
    shared: &'a [IpAddr],
}

struct Changed {
    /// None where nothing gives addresses any more.
    ipam: Option<Object>,
    has_ips: bool,
}

/// A range of the section, with what is needed of it.
#[derive(Clone, Debug)]
struct Range {
    subnet: IpNet,
    start: Option<IpAddr>,
    end: Option<IpAddr>,
    gateway: Option<IpAddr>,
}

impl Section<'_> {
    fn changed(mut self) -> Result<Changed, String> {
        let kind = self.ipam.text("type").ok().flatten().unwrap_or_default();
        let request = self.request;
        let is_none = |ipv4| request.of(ipv4) == Some(AddressMode::None);
        if self.request.is_none() || (kind == "dhcp" && is_none(true)) {
            return Ok(Changed { ipam: None, has_ips: false });
        }
        let ours = |ipam| Ok(Changed { ipam: Some(ipam), has_ips: false });
        if let Some(fixed) = self.fixed(&kind)? {
            return Ok(Changed { ipam: Some(fixed), has_ips: true });
        }
        if !is_none(true) && !is_none(false) {
            return ours(self.ipam);
        }
        let stays = |ipv4: bool| !is_none(ipv4);
        match kind.as_str() {
            "dhcp" => ours(self.ipam),
            "blocks" => {
                // The slots of a pool are numbered alike for all: a pod leaves addresses of its slot unused.
                let families = if stays(true) { ["IPv4"] } else { ["IPv6"] };
                self.keep_routes(&stays);
                self.ipam.set(FAMILIES, &families);
                ours(self.ipam)
            }
            "host-local" | "static" => {
                self.keep_routes(&stays);
                self.keep_ranges(&stays);
                let is_left = ["subnet", "ranges", "addresses"].iter().any(|key| self.ipam.get(key).is_some());
                Ok(Changed { ipam: Some(self.ipam).filter(|_| is_left), has_ips: false })
            }
            _ => Err(format!("the same for both families: ipam.type {kind:?} cannot give those of one alone")),
        }
    }

    /// `static` with addresses that the pool does not give out, which is then not asked.
    fn fixed(&self, kind: &str) -> Result<Option<Object>, String> {
        let is_static = |ip: &IpAddr| self.request.of(ip.is_ipv4()) == Some(AddressMode::Static);
        let asked: Vec<IpAddr> = self.ips.iter().filter_map(|ip| address(ip)).filter(is_static).collect();
        if asked.is_empty() || !["blocks", "host-local"].contains(&kind) {
            return Ok(None);
        }
        let ranges = self.ranges();
        let in_pool = |ip: &IpAddr| !self.shared.contains(ip) && ranges.iter().any(|range| range.gives(*ip));
        let Some(outside) = asked.iter().find(|ip| !in_pool(ip)) else { return Ok(None) };
        let mut addresses = Vec::new();
        for ip in &asked {
            let Some(range) = ranges.iter().find(|range| range.subnet.contains(ip)) else {
                let subnets: Vec<String> = ranges.iter().map(|range| range.subnet.to_string()).collect();
                return Err(format!("{ip} of ips in a subnet of the network: {}", subnets.join(", ")));
            };
            if let Some(why) = self.kept_from_pods(*ip, range) {
                return Err(format!("an address of ips that a pod may have: {ip} is {why}"));
            }
            if in_pool(ip) {
                return Err(format!("addresses of ips that are all in the ranges or none: {ip} is, {outside} is not"));
            }
            let mut one = json!({"address": format!("{ip}/{}", range.subnet.prefix_len())});
            if let Some(gateway) = range.gateway {
                one["gateway"] = json!(gateway);
            }
            addresses.push(one);
        }
        for (ipv4, family) in [(true, "IPv4"), (false, "IPv6")] {
            let is_of_pool = ranges.iter().any(|range| range.subnet.addr().is_ipv4() == ipv4)
                && !matches!(self.request.of(ipv4), Some(AddressMode::Static | AddressMode::None));
            if is_of_pool {
                let is = if self.shared.contains(outside) { "shared" } else { "outside of the ranges" };
                return Err(format!("none or static for {family} too: {outside} is {is}, and no pool is asked"));
            }
        }
        let mut fixed = Object::new();
        fixed.set("type", &"static");
        fixed.set("addresses", &addresses);
        let mut section = Section { ipam: self.ipam.clone(), ..*self };
        section.keep_routes(&|ipv4| asked.iter().any(|ip| ip.is_ipv4() == ipv4));
        fixed.set_some("routes", section.ipam.get("routes").map(ToOwned::to_owned).as_ref());
        Ok(Some(fixed))
    }

    fn kept_from_pods(&self, ip: IpAddr, range: &Range) -> Option<&'static str> {
        let IpNet::V4(_) = range.subnet else {
            return self.is_excluded(ip, range);
        };
        match range.subnet.prefix_len() <= 30 {
            true if ip == range.subnet.network() => Some("the subnet's own"),
            true if ip == range.subnet.broadcast() => Some("the broadcast address"),
            _ => self.is_excluded(ip, range),
        }
    }

    fn is_excluded(&self, ip: IpAddr, range: &Range) -> Option<&'static str> {
        let listed: Vec<Value> = self.ipam.decode("exclude", "").ok().flatten().unwrap_or_default();
        let excludes = |text: &str| match text.parse::<IpNet>() {
            Ok(net) => net.contains(&ip),
            Err(_) => text.parse() == Ok(ip),
        };
        match () {
            () if range.gateway == Some(ip) => Some("the gateway"),
            () if self.shared.contains(&ip) => None,
            () if listed.iter().filter_map(Value::as_str).any(excludes) => Some("excluded"),
            () => None,
        }
    }

    /// Every range that can be read; what is wrong with another is its reader's to say.
    fn ranges(&self) -> Vec<Range> {
        let sets: Vec<Vec<Object>> = self.ipam.decode("ranges", "").ok().flatten().unwrap_or_default();
        std::iter::once(&self.ipam).chain(sets.iter().flatten()).filter_map(Range::read).collect()
    }

    fn keep_routes(&mut self, stays: &impl Fn(bool) -> bool) {
        self.retain("routes", |route| {
            route["dst"]
                .as_str()
                .and_then(|dst| dst.parse::<IpNet>().ok())
                .is_none_or(|dst| stays(dst.addr().is_ipv4()))
        });
    }

    fn keep_ranges(&mut self, stays: &impl Fn(bool) -> bool) {
        let of = |object: &Object| Range::read(object).is_none_or(|range| stays(range.subnet.addr().is_ipv4()));
        if !of(&self.ipam) {
            self.ipam.retain(|key| !RANGE.contains(&key));
        }
        let is_of = |text: &Value, key: &str| {
            let net = text[key].as_str().and_then(|text| text.parse::<IpNet>().ok());
            net.is_none_or(|net| stays(net.addr().is_ipv4()))
        };
        self.retain("ranges", |set| set.as_array().is_none_or(|set| set.iter().all(|range| is_of(range, "subnet"))));
        self.retain("addresses", |one| is_of(one, "address"));
    }

    /// Keeps elements of a list, and no empty list.
    fn retain(&mut self, key: &str, keep: impl Fn(&Value) -> bool) {
        let Ok(Some(mut list)) = self.ipam.decode::<Vec<Value>>(key, "") else { return };
        let before = list.len();
        list.retain(keep);
        match list.len() {
            0 => drop(self.ipam.remove(key)),
            left if left < before => self.ipam.set(key, &list),
            _ => {}
        }
    }
}

impl Range {
    fn read(object: &Object) -> Option<Self> {
        let ip = |key: &str| object.text(key).ok().flatten().and_then(|text| text.parse().ok());
        let subnet = object.text("subnet").ok().flatten()?.parse::<IpNet>().ok()?.trunc();
        Some(Self { subnet, start: ip("rangeStart"), end: ip("rangeEnd"), gateway: ip("gateway") })
    }

    fn gives(&self, ip: IpAddr) -> bool {
        self.subnet.contains(&ip) && self.start.is_none_or(|start| start <= ip) && self.end.is_none_or(|end| ip <= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::parse;

    /// The section as it is with this request, or why it cannot be.
    fn made(ipam: &Value, fields: &str) -> Result<(Value, bool, bool), String> {
        let text = json!({"cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "ipam": ipam}).to_string();
        let mut conf = NetworkConf::parse(text.as_bytes()).unwrap();
        let selected = parse("nets", &format!(r#"[{{"name":"lan",{fields}}}]"#), &"shop".parse().unwrap());
        let selected = selected.map_err(|finding| finding.to_string())?;
        let made = apply(&mut conf, &selected[0], "nets[0]", false).map_err(|finding| finding.to_string())?;
        let ipam = conf.plugins[0].object.get("ipam").map(|raw| serde_json::from_str(raw.get()).unwrap());
        Ok((ipam.unwrap_or_default(), made.without_ipv6, made.has_ips))
    }

    fn dual(kind: &str) -> Value {
        json!({"type": kind, "ranges": [
            [{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.10", "rangeEnd": "10.9.0.20", "gateway": "10.9.0.1"}],
            [{"subnet": "fd09::/64", "rangeStart": "fd09::10"}]],
            "exclude": ["10.9.0.100"],
            "routes": [{"dst": "10.20.0.0/16"}, {"dst": "fd20::/64"}]})
    }

    #[test]
    fn none_leaves_a_link_alone_and_dynamic_what_the_definition_has() {
        for kind in ["blocks", "host-local", "dhcp", "whereabouts"] {
            let none = made(&dual(kind), r#""meta-cni.io/addresses":"none""#).unwrap();
            assert_eq!(none, (Value::Null, true, false), "{kind}");
            let dynamic = made(&dual(kind), r#""meta-cni.io/addresses":"dynamic""#).unwrap();
            assert_eq!(dynamic, (dual(kind), false, false), "{kind}");
        }
        let text = br#"{"cniVersion":"1.0.0","name":"lan","type":"macvlan","ipam":{"type":"dhcp"}}"#;
        let selected = parse("nets", r#"[{"name":"lan","meta-cni.io/addresses":"none"}]"#, &"shop".parse().unwrap());
        let refused = apply(&mut NetworkConf::parse(text).unwrap(), &selected.unwrap()[0], "eth0", true).unwrap_err();
        assert!(refused.to_string().contains("want an address for the pod's default network"), "{refused}");
        let without = json!({});
        assert_eq!(made(&without, r#""meta-cni.io/addresses":"none""#).unwrap(), (without.clone(), true, false));
        let error = made(&without, r#""meta-cni.io/addresses":"dynamic""#).unwrap_err();
        assert_eq!(
            error,
            "nets[0].meta-cni.io/addresses: got \"dynamic\", want \"none\": the network has no ipam and so no addresses"
        );
    }

    #[test]
    fn one_family_alone_is_what_the_other_leaves() {
        let v4 = r#""meta-cni.io/addresses":{"ipv4":"dynamic","ipv6":"none"}"#;
        let (ipam, without_ipv6, _) = made(&dual("host-local"), v4).unwrap();
        assert!(without_ipv6);
        assert_eq!(
            (&ipam["ranges"], &ipam["routes"]),
            (&json!([dual("")["ranges"][0]]), &json!([{"dst": "10.20.0.0/16"}]))
        );
        let (ipam, without_ipv6, _) = made(&dual("blocks"), r#""meta-cni.io/addresses":{"ipv4":"none"}"#).unwrap();
        assert!(!without_ipv6);
        assert_eq!((&ipam["families"], &ipam["ranges"]), (&json!(["IPv6"]), &dual("")["ranges"]));
        let fixed = json!({"type": "static", "addresses": [{"address": "10.9.0.7/24"}, {"address": "fd09::7/64"}]});
        assert_eq!(made(&fixed, v4).unwrap().0["addresses"], json!([{"address": "10.9.0.7/24"}]));
        let only = json!({"type": "host-local", "subnet": "fd09::/64", "gateway": "fd09::1"});
        assert_eq!(made(&only, v4).unwrap().0, Value::Null);
        assert_eq!(made(&json!({"type": "dhcp"}), v4).unwrap().0, json!({"type": "dhcp"}));
        assert!(
            made(&dual("whereabouts"), v4)
                .unwrap_err()
                .contains("want the same for both families: ipam.type \"whereabouts\"")
        );
    }

    #[test]
    fn a_static_address_is_had_outside_of_the_ranges_and_inside_of_the_subnet() {
        let asks = |ips: &str| made(&dual("blocks"), &format!(r#""meta-cni.io/addresses":"static","ips":[{ips}]"#));
        let (ipam, without_ipv6, has_ips) = asks(r#""10.9.0.200""#).unwrap();
        let want = json!({"type": "static", "addresses": [{"address": "10.9.0.200/24", "gateway": "10.9.0.1"}], "routes": [{"dst": "10.20.0.0/16"}]});
        assert_eq!((ipam, without_ipv6, has_ips), (want, true, true));
        let (ipam, without_ipv6, has_ips) = asks(r#""10.9.0.200","fd09::5""#).unwrap();
        assert_eq!((ipam["addresses"].as_array().unwrap().len(), without_ipv6, has_ips), (2, false, true));
        // The pool is asked for what it gives.
        let (ipam, _, has_ips) = asks(r#""10.9.0.15""#).unwrap();
        assert_eq!((&ipam["type"], &ipam["families"], has_ips), (&json!("blocks"), &json!(["IPv4"]), false));
        for (ips, why) in [
            (r#""10.8.0.1""#, "10.8.0.1 of ips in a subnet of the network: 10.9.0.0/24, fd09::/64"),
            (r#""10.9.0.1""#, "10.9.0.1 is the gateway"),
            (r#""10.9.0.255""#, "10.9.0.255 is the broadcast address"),
            (r#""10.9.0.0""#, "10.9.0.0 is the subnet's own"),
            (r#""10.9.0.100""#, "10.9.0.100 is excluded"),
            (r#""10.9.0.200","fd09::20""#, "all in the ranges or none: fd09::20 is, 10.9.0.200 is not"),
        ] {
            let error = asks(ips).unwrap_err();
            assert!(error.contains(why), "{ips}: {error}");
        }
        let mixed = r#""meta-cni.io/addresses":{"ipv4":"static"},"ips":["10.9.0.200"]"#;
        assert!(
            made(&dual("blocks"), mixed)
                .unwrap_err()
                .contains("want none or static for IPv6 too: 10.9.0.200 is outside")
        );
    }

    #[test]
    fn words_that_contradict_ips_are_refused() {
        for (fields, why) in [
            (r#""meta-cni.io/addresses":"fixed""#, "want \"none\", \"dynamic\", \"static\", or an object"),
            (r#""meta-cni.io/addresses":3"#, "got 3, want"),
            (
                r#""meta-cni.io/addresses":{"v4":"none"}"#,
                "addresses.v4: got \"none\", want no other key than ipv4 and ipv6",
            ),
            (
                r#""meta-cni.io/addresses":{"ipv4":"some"}"#,
                "addresses.ipv4: got \"some\", want none, dynamic or static",
            ),
            (r#""meta-cni.io/addresses":"static""#, "requires ips to be set"),
            (r#""meta-cni.io/addresses":{"ipv6":"static"},"ips":["10.9.0.1"]"#, "want an IPv6 address in ips"),
            (r#""meta-cni.io/addresses":"none","ips":["10.9.0.1"]"#, "want no IPv4 address in ips, for IPv4 is none"),
            (
                r#""meta-cni.io/addresses":"none","ipam-claim-reference":"vm""#,
                "cannot be combined with ipam-claim-reference",
            ),
        ] {
            let error = made(&dual("blocks"), fields).unwrap_err();
            assert!(error.starts_with("nets[0].meta-cni.io/addresses") && error.contains(why), "{fields}: {error}");
        }
    }
}
