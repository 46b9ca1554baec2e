//! What a plugin answers to ADD, held in the shape of 1.1.0 and converted at the border (CNI SPEC, "ADD Success").

mod legacy;

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::value::RawValue;

use super::object::Object;
use super::version::Version;
use crate::finding::{Allowed, Finding, Findings, under};
use crate::rule::Rule;

const ADDRESS: &str = "an IP address with a prefix length, as 10.1.2.3/24";
const GATEWAY: &str = "an IP address";

/// The result of one attachment, or the merged result of a pod. Keys that we do not know stay in `other`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CniResult {
    /// Links that the attachment made, host side included.
    pub interfaces: Vec<Interface>,
    /// Addresses with prefix length.
    pub ips: Vec<Ip>,
    /// Routes inside the pod.
    pub routes: Vec<Route>,
    /// Name resolution.
    pub dns: Dns,
    /// Unknown keys.
    pub other: Object,
}

/// One link.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// Kernel name.
    pub name: String,
    /// Hardware address as text, empty when unknown.
    pub mac: String,
    /// MTU in bytes (1.0.0 and later).
    pub mtu: Option<u64>,
    /// Path of the sandbox's namespace; empty for a link on the host.
    pub sandbox: String,
    /// vhost-user socket (1.0.0 and later).
    pub socket_path: Option<String>,
    /// PCI address (1.0.0 and later).
    pub pci_id: Option<String>,
    /// Unknown keys.
    pub other: Object,
}

/// One address.
#[derive(Clone, Debug, PartialEq)]
pub struct Ip {
    /// Address with prefix length, host bits kept.
    pub address: IpNet,
    /// Gateway of its subnet.
    pub gateway: Option<IpAddr>,
    /// Index into `interfaces`; negative or absent when it belongs to none.
    pub interface: Option<i64>,
    /// Unknown keys.
    pub other: Object,
}

/// One route inside the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Next hop; absent means the gateway of the family's first address.
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// Advertised maximum segment size in bytes.
    pub advmss: Option<u32>,
    /// Metric; lower wins.
    pub priority: Option<u32>,
    /// Routing table; absent means main.
    pub table: Option<u32>,
    /// Kernel scope (`man 8 ip-route`).
    pub scope: Option<u8>,
    /// Unknown keys.
    pub other: Object,
}

impl Route {
    /// A route to `dst` through `gw`, everything else left to the kernel.
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None, other: Object::new() }
    }

    /// True for 0.0.0.0/0 and ::/0 of the main table.
    pub fn is_default(&self) -> bool {
        self.dst.prefix_len() == 0 && self.table.is_none_or(|table| table == 0 || table == 254)
    }
}

/// Name resolution of the pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    /// Servers in order.
    pub nameservers: Vec<String>,
    /// Local domain.
    pub domain: Option<String>,
    /// Search list.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
    /// Unknown keys.
    pub other: Object,
}

impl CniResult {
    /// Reads a result. Without `cniVersion` it has the version of the configuration that it answers (C45); JSON `null`
    /// is an empty result.
    ///
    /// ```
    /// use attachments::cni::result::CniResult;
    /// use attachments::cni::version::Version;
    ///
    /// let old = br#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/24", "gateway": "10.1.0.1"}}"#;
    /// let result = CniResult::parse(old, Version::V0_2_0)?;
    /// assert_eq!(result.ips[0].address.to_string(), "10.1.0.5/24");
    /// let new = result.encode(Version::V1_1_0)?.to_json();
    /// assert!(new.contains(r#""ips":[{"address":"10.1.0.5/24","gateway":"10.1.0.1"}]"#), "{new}");
    /// # Ok::<(), attachments::finding::Finding>(())
    /// ```
    pub fn parse(bytes: &[u8], asked: Version) -> Result<Self, Finding> {
        if bytes.trim_ascii() == b"null" {
            return Ok(Self::default());
        }
        let object = Object::parse(bytes)
            .map_err(|e| Finding::new("", format_args!("invalid JSON ({e})"), "a CNI result: a JSON object"))?;
        Self::from_object(object, asked)
    }

    /// The same, from a document that is parsed already.
    pub fn from_object(mut object: Object, asked: Version) -> Result<Self, Finding> {
        let version = match object.text("cniVersion")? {
            None => asked,
            Some(text) if text.is_empty() => asked,
            Some(text) => text.parse()?,
        };
        object.remove("cniVersion");
        if version < Version::V0_3_0 {
            return legacy::decode(object);
        }
        let interfaces = list(&mut object, "interfaces", Interface::decode)?;
        let ips = list(&mut object, "ips", Ip::decode)?;
        let routes = list(&mut object, "routes", Route::decode)?;
        let dns = Dns::decode(&mut object)?;
        Ok(Self { interfaces, ips, routes, dns, other: object })
    }

    /// Writes the result in a version (C54-C56). Fails only below 0.3.0, which cannot say a result without addresses.
    pub fn encode(&self, version: Version) -> Result<Object, Finding> {
        if version < Version::V0_3_0 {
            return legacy::encode(self, version);
        }
        let mut object = Object::new();
        object.set("cniVersion", &version.as_str());
        if !self.interfaces.is_empty() {
            object.set("interfaces", &self.interfaces.iter().map(|i| i.encode(version)).collect::<Vec<_>>());
        }
        if !self.ips.is_empty() {
            object.set("ips", &self.ips.iter().map(|ip| ip.encode(version)).collect::<Vec<_>>());
        }
        if !self.routes.is_empty() {
            object.set("routes", &self.routes.iter().map(Route::encode).collect::<Vec<_>>());
        }
        if version < Version::V1_0_0 || self.dns != Dns::default() {
            object.set("dns", &self.dns.encode());
        }
        append(&mut object, &self.other);
        Ok(object)
    }
}

impl Interface {
    fn decode(mut object: Object) -> Result<Self, Finding> {
        let interface = Self {
            name: object.text("name")?.unwrap_or_default(),
            mac: object.text("mac")?.unwrap_or_default(),
            mtu: object.decode("mtu", Allowed::INTEGER)?,
            sandbox: object.text("sandbox")?.unwrap_or_default(),
            socket_path: object.text("socketPath")?,
            pci_id: object.text("pciID")?,
            other: Object::new(),
        };
        object.retain(|key| !matches!(key, "name" | "mac" | "mtu" | "sandbox" | "socketPath" | "pciID"));
        Ok(Self { other: object, ..interface })
    }

    fn encode(&self, version: Version) -> Object {
        let mut object = Object::new();
        object.set("name", &self.name);
        if !self.mac.is_empty() {
            object.set("mac", &self.mac);
        }
        if version >= Version::V1_0_0 {
            object.set_some("mtu", self.mtu.as_ref());
        }
        if !self.sandbox.is_empty() {
            object.set("sandbox", &self.sandbox);
        }
        if version >= Version::V1_0_0 {
            object.set_some("socketPath", self.socket_path.as_ref());
            object.set_some("pciID", self.pci_id.as_ref());
        }
        append(&mut object, &self.other);
        object
    }
}

impl Ip {
    /// An address on the interface with this index.
    pub fn new(address: IpNet, gateway: Option<IpAddr>, interface: Option<i64>) -> Self {
        Self { address, gateway, interface, other: Object::new() }
    }

    fn decode(mut object: Object) -> Result<Self, Finding> {
        let address = object.parsed("address", ADDRESS)?.ok_or_else(|| Finding::missing("address", ADDRESS))?;
        let ip = Self {
            address: canonical_net(address),
            gateway: object.parsed("gateway", GATEWAY)?.map(canonical),
            interface: object.decode("interface", Allowed::INTEGER)?,
            other: Object::new(),
        };
        object.retain(|key| !matches!(key, "version" | "address" | "gateway" | "interface"));
        Ok(Self { other: object, ..ip })
    }

    fn encode(&self, version: Version) -> Object {
        let mut object = Object::new();
        if version < Version::V1_0_0 {
            object.set("version", &if self.address.addr().is_ipv4() { "4" } else { "6" });
        }
        object.set_some("interface", self.interface.as_ref());
        object.set("address", &self.address);
        object.set_some("gateway", self.gateway.as_ref());
        append(&mut object, &self.other);
        object
    }
}

impl Route {
    /// The keys of a route.
    pub const KEYS: [&'static str; 7] = ["dst", "gw", "mtu", "advmss", "priority", "table", "scope"];

    /// Reads one route; shared by results and by configurations.
    pub fn decode(object: Object) -> Result<Self, Finding> {
        Self::read(object).map_err(first)
    }

    /// The same with everything that is wrong in it.
    pub fn read(mut object: Object) -> Result<Self, Vec<Finding>> {
        const DST: Allowed = Allowed::told(
            "a destination with a prefix length, as 10.1.0.0/16",
            "must be CIDR, use \"0.0.0.0/0\" for a default route",
        );
        let mut findings = Findings::default();
        let dst = object.parsed("dst", DST).and_then(|dst| dst.ok_or_else(|| Finding::missing("dst", DST)));
        let dst = findings.keep(dst.map(Some).map_err(|e| e.of(Rule::Route)));
        let gw: Option<IpAddr> = findings.keep(object.parsed("gw", GATEWAY).map_err(|e| e.of(Rule::Route)));
        let route = Self {
            dst: canonical_net(dst.unwrap_or_default()),
            gw: gw.map(canonical),
            mtu: findings.keep(object.decode("mtu", Allowed::INTEGER)),
            advmss: findings.keep(object.decode("advmss", Allowed::INTEGER)),
            priority: findings.keep(object.decode("priority", Allowed::INTEGER)),
            table: findings.keep(object.decode("table", Allowed::INTEGER)),
            scope: findings.keep(object.decode("scope", Allowed::Integer(0, 255))),
            other: Object::new(),
        };
        object.retain(|key| !Self::KEYS.contains(&key));
        findings.finish(Self { other: object, ..route })
    }

    fn encode(&self) -> Object {
        let mut object = Object::new();
        object.set("dst", &self.dst);
        object.set_some("gw", self.gw.as_ref());
        object.set_some("mtu", self.mtu.as_ref());
        object.set_some("advmss", self.advmss.as_ref());
        object.set_some("priority", self.priority.as_ref());
        object.set_some("table", self.table.as_ref());
        object.set_some("scope", self.scope.as_ref());
        append(&mut object, &self.other);
        object
    }
}

impl Dns {
    /// The keys of `dns`.
    pub const KEYS: [&'static str; 4] = ["nameservers", "domain", "search", "options"];

    /// Takes the key `dns` out of a result or a configuration.
    pub fn decode(object: &mut Object) -> Result<Self, Finding> {
        let dns = Self::read(object).map_err(first)?;
        object.remove("dns");
        Ok(dns)
    }

    /// Reads the key `dns` of a configuration, with everything that is wrong in it.
    pub fn read(object: &Object) -> Result<Self, Vec<Finding>> {
        let Some(mut inner) = object.object("dns").map_err(|finding| vec![finding])? else {
            return Ok(Self::default());
        };
        let mut findings = Findings::default();
        let dns = Self {
            nameservers: findings.keep(inner.decode("nameservers", Allowed::STRINGS)).unwrap_or_default(),
            domain: findings.keep(inner.text("domain")),
            search: findings.keep(inner.decode("search", Allowed::STRINGS)).unwrap_or_default(),
            options: findings.keep(inner.decode("options", Allowed::STRINGS)).unwrap_or_default(),
            other: Object::new(),
        };
        inner.retain(|key| !Self::KEYS.contains(&key));
        findings.finish(Self { other: inner, ..dns }).map_err(|findings| under("dns", findings))
    }

    /// The `dns` object; keys without a value are left out.
    pub fn encode(&self) -> Object {
        let mut object = Object::new();
        for (key, list) in [("nameservers", &self.nameservers), ("search", &self.search), ("options", &self.options)] {
            if key == "search" {
                object.set_some("domain", self.domain.as_ref());
            }
            if !list.is_empty() {
                object.set(key, list);
            }
        }
        append(&mut object, &self.other);
        object
    }
}

/// The destination of a default route: 0.0.0.0/0 or ::/0.
pub fn default_destination(is_ipv4: bool) -> IpNet {
    if is_ipv4 { Ipv4Net::default().into() } else { Ipv6Net::default().into() }
}

/// Takes a list of objects out of a document; a finding inside names the element.
fn list<T>(object: &mut Object, key: &str, decode: impl Fn(Object) -> Result<T, Finding>) -> Result<Vec<T>, Finding> {
    let elements = object.objects(key)?;
    object.remove(key);
    let each = |(i, element)| decode(element).map_err(|e| e.under(&format!("{key}[{i}]")));
    elements.into_iter().enumerate().map(each).collect()
}

/// Where one finding is enough.
fn first(findings: Vec<Finding>) -> Finding {
    findings.into_iter().next().unwrap_or_else(|| Finding::new("", "", ""))
}

fn append(object: &mut Object, other: &Object) {
    let unknown: Vec<(&str, &RawValue)> = other.iter().collect();
    for (key, value) in unknown {
        object.set(key, &value);
    }
}

/// An IPv4-mapped IPv6 address counts as IPv4 (C58).
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn canonical_net(net: IpNet) -> IpNet {
    match net.addr().to_canonical() {
        IpAddr::V4(v4) if net.addr().is_ipv6() && net.prefix_len() >= 96 => {
            IpNet::new(IpAddr::V4(v4), net.prefix_len() - 96).unwrap_or(net)
        }
        _ => net,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"br0"},{"name":"eth0","mac":"02:00:00:00:00:01","mtu":1400,"sandbox":"/ns","socketPath":"/s","pciID":"0000:00:00.1","vendor":1}],"ips":[{"interface":1,"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"interface":1,"address":"fd00::2/64"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1","mtu":1300,"advmss":1200,"priority":7,"table":100,"scope":0},{"dst":"fd01::/64"}],"dns":{"nameservers":["1.1.1.1"],"domain":"d","search":["s"],"options":["o"]},"x":12345678901234567890}"#;

    fn parse(text: &str) -> CniResult {
        CniResult::parse(text.as_bytes(), Version::V1_1_0).unwrap()
    }

    fn convert(text: &str, version: Version) -> String {
        parse(text).encode(version).unwrap().to_json()
    }

    #[test]
    fn the_newest_shape_survives_field_by_field() {
        assert_eq!(convert(FULL, Version::V1_1_0), FULL);
        assert_eq!(convert(FULL, Version::V1_0_0), FULL.replace("1.1.0", "1.0.0"));
    }

    #[test]
    fn down_to_0_4_drops_what_it_cannot_say() {
        assert_eq!(
            convert(FULL, Version::V0_4_0),
            r#"{"cniVersion":"0.4.0","interfaces":[{"name":"br0"},{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/ns","vendor":1}],"ips":[{"version":"4","interface":1,"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"version":"6","interface":1,"address":"fd00::2/64"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1","mtu":1300,"advmss":1200,"priority":7,"table":100,"scope":0},{"dst":"fd01::/64"}],"dns":{"nameservers":["1.1.1.1"],"domain":"d","search":["s"],"options":["o"]},"x":12345678901234567890}"#
        );
    }

    #[test]
    fn down_to_0_2_keeps_the_first_of_each_family() {
        assert_eq!(
            convert(FULL, Version::V0_2_0),
            r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24","gateway":"10.0.0.1","routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1"}]},"ip6":{"ip":"fd00::2/64","routes":[{"dst":"fd01::/64"}]},"dns":{"nameservers":["1.1.1.1"],"domain":"d","search":["s"],"options":["o"]}}"#
        );
        let empty = CniResult::default().encode(Version::V0_1_0).unwrap_err();
        assert!(empty.to_string().contains("no IP address"), "{empty}");
    }

    #[test]
    fn up_from_0_2_gives_no_meaning_to_keys_that_had_none() {
        let text = r#"{"ip4":{"ip":"10.0.0.2/24"},"ips":"x","routes":[1],"interfaces":{},"y":1}"#;
        let up = CniResult::parse(text.as_bytes(), Version::V0_2_0).unwrap().encode(Version::V1_0_0).unwrap();
        assert_eq!(up.to_json(), r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}],"y":1}"#);
        assert!(CniResult::from_object(up, Version::V1_0_0).is_ok());
    }

    #[test]
    fn up_from_0_2_orders_families() {
        let old = r#"{"cniVersion":"0.2.0","ip6":{"ip":"fd00::2/64","gateway":"fd00::1"},"ip4":{"ip":"10.0.0.2/24","routes":[{"dst":"10.1.0.0/16","gw":"10.0.0.9"}]},"dns":{"domain":"d"}}"#;
        assert_eq!(
            convert(old, Version::V1_1_0),
            r#"{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/24"},{"address":"fd00::2/64","gateway":"fd00::1"}],"routes":[{"dst":"10.1.0.0/16","gw":"10.0.0.9"}],"dns":{"domain":"d"}}"#
        );
    }

    #[test]
    fn versions_between_0_3_0_and_0_4_0_differ_in_name_only() {
        let text = convert(FULL, Version::V0_4_0);
        for version in [Version::V0_3_0, Version::V0_3_1] {
            assert_eq!(convert(FULL, version), text.replace("0.4.0", version.as_str()));
        }
    }

    #[test]
    fn null_is_empty_and_a_missing_version_is_the_one_asked() {
        assert_eq!(CniResult::parse(b" null\n", Version::V0_4_0), Ok(CniResult::default()));
        let asked = CniResult::parse(br#"{"ip4":{"ip":"10.0.0.2/24"}}"#, Version::V0_2_0).unwrap();
        assert_eq!(asked.ips.len(), 1);
        for bad in ["", "x", "[]", r#"{"cniVersion":"2.0.0"}"#] {
            assert!(CniResult::parse(bad.as_bytes(), Version::V1_1_0).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_take_their_canonical_form() {
        let result = parse(
            r#"{"ips":[{"address":"::ffff:10.0.0.2/120","gateway":"::ffff:10.0.0.1"},{"address":"FD00:0::2/64"}]}"#,
        );
        assert_eq!(
            result.encode(Version::V1_1_0).unwrap().to_json(),
            r#"{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"address":"fd00::2/64"}]}"#
        );
    }

    #[test]
    fn refusals_name_the_element() {
        let refusal = |text: &str| CniResult::parse(text.as_bytes(), Version::V1_1_0).unwrap_err().to_string();
        assert!(refusal(r#"{"ips":[{"address":"10.0.0.2"}]}"#).starts_with("ips[0].address: got \"10.0.0.2\""));
        assert!(refusal(r#"{"routes":[{"dst":"x"}]}"#).starts_with("routes[0].dst"));
        assert!(refusal(r#"{"dns":{"search":3}}"#).starts_with("dns.search: got 3"));
        assert!(refusal(r#"{"dns":3}"#).starts_with("dns: got 3"));
    }
}
