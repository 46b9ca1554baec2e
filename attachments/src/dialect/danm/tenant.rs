//! TenantConfig: what tenants may have of the nodes' links. Judged, and given to a TenantNetwork that names no link.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::NetworkSpec;
use crate::cni::object::Object;
use crate::finding::{Allowed, Finding, Findings};

/// Types whose links are made here, below which a VLAN or VXLAN may be. DANM calls them dynamic.
pub const DYNAMIC: [&str; 3] = ["ipvlan", "macvlan", "sriov"];
/// Longest `NetworkID` of a network of such a type: it is part of names of links.
pub const LONGEST_ID: usize = 10;

/// The keys of a TenantConfig, which has no `spec`.
pub const KEYS: [&str; 3] = ["hostDevices", "networkIds", "allowedClusterNetworks"];

/// What stands in the place of a `spec`: the values of [`KEYS`], those that are there.
pub fn says(values: [Value; 3]) -> Value {
    let given = KEYS.into_iter().zip(values).filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

/// What a TenantConfig says. Of several the first by name counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantConfig {
    /// `hostDevices`: what tenants may name, and get.
    pub devices: Vec<HostDevice>,
    /// `networkIds`: the NetworkID of every tenant's network of a type. The types are in lower case.
    pub network_ids: BTreeMap<String, String>,
    /// `allowedClusterNetworks`: privileges on ClusterNetworks, by name.
    pub privileges: BTreeMap<String, Vec<String>>,
}

/// A link of the nodes, or a pool of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDevice {
    /// `name`.
    pub name: String,
    /// `vniType` and `vniRange`: absent where tenants use the device itself.
    pub vnis: Option<Vnis>,
}

/// The identifiers that tenants get of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vnis {
    /// What they tell apart.
    pub kind: VniKind,
    /// The first and the last of each range, as listed.
    pub ranges: Vec<(u32, u32)>,
}

/// Whether a network is a VLAN or a VXLAN of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VniKind {
    /// A VLAN.
    Vlan,
    /// A VXLAN network.
    Vxlan,
}

impl VniKind {
    /// Its word in `vniType`, which is its key in `Options` too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vlan => "vlan",
            Self::Vxlan => "vxlan",
        }
    }

    /// The last identifier.
    pub fn last(self) -> u32 {
        match self {
            Self::Vlan => 4094,
            Self::Vxlan => 16_777_214,
        }
    }
}

impl HostDevice {
    /// Is it a pool of devices? The name of a resource has a domain.
    pub fn is_pool(&self) -> bool {
        self.name.contains('/')
    }
}

impl Vnis {
    /// Is it one of them?
    pub fn contains(&self, vni: u32) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&vni))
    }

    /// The lowest that is free, in the order of the ranges.
    pub fn first_free(&self, mut is_free: impl FnMut(u32) -> bool) -> Option<u32> {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last).find(|vni| is_free(*vni))
    }

    /// As `vniRange` has it.
    pub fn text(&self) -> String {
        let each = |(first, last): &(u32, u32)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        self.ranges.iter().map(each).collect::<Vec<_>>().join(",")
    }
}

/// What is wrong with a TenantConfig: all of it. One that is made has no state yet.
pub fn judge(config: &Object, is_new: bool) -> Vec<Finding> {
    let mut findings = Findings::default();
    findings.keep_all(TenantConfig::read(config));
    if is_new {
        for (i, device) in config.objects("hostDevices").unwrap_or_default().iter().enumerate() {
            if let Ok(Some(alloc)) = device.text("alloc").map(|text| text.filter(|text| !text.is_empty())) {
                let at = format!("hostDevices[{i}].alloc");
                findings.push(Finding::new(at, format_args!("{alloc:?}"), "nothing: it is DANM's own state"));
            }
        }
    }
    findings.into()
}

impl TenantConfig {
    /// Reads one: its text, of which other keys count for nothing. Fails with everything that is wrong.
    pub fn read(config: &Object) -> Result<Self, Vec<Finding>> {
        let mut findings = Findings::default();
        let devices = findings.keep(config.objects("hostDevices"));
        let devices: Vec<HostDevice> = devices
            .iter()
            .enumerate()
            .map(|(i, device)| {
                let read = HostDevice::read(device);
                findings.keep_all(read.map_err(|found| crate::finding::under(&format!("hostDevices[{i}]"), found)))
            })
            .collect();
        let ids: BTreeMap<String, String> =
            findings.keep(config.decode("networkIds", "an object: NetworkID by type")).unwrap_or_default();
        for (kind, id) in &ids {
            findings.extend(id_finding(kind, id));
        }
        if devices.is_empty() && ids.is_empty() && findings.is_empty() {
            findings.push(Finding::missing("hostDevices", "hostDevices or networkIds: the object says nothing"));
        }
        let network_ids = ids.into_iter().map(|(kind, id)| (kind.to_ascii_lowercase(), id)).collect();
        let mut privileges = BTreeMap::new();
        for (i, network) in findings.keep(config.objects("allowedClusterNetworks")).iter().enumerate() {
            let at = |finding: Finding| finding.under(&format!("allowedClusterNetworks[{i}]"));
            let name = findings.keep(network.text("name").map_err(at)).unwrap_or_default();
            let granted = findings.keep(network.decode("privileges", Allowed::STRINGS).map_err(at)).unwrap_or_default();
            privileges.insert(name, granted);
        }
        findings.finish(Self { devices, network_ids, privileges })
    }

    /// The device of this name.
    pub fn device(&self, name: &str) -> Option<&HostDevice> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// May addresses of a ClusterNetwork be kept by tenants?
    pub fn lets_reserve(&self, network: &str) -> bool {
        self.privileges.get(network).is_some_and(|granted| granted.iter().any(|word| word == "reservedIp"))
    }

    /// What a TenantNetwork gets: the identifier of its type in place of its own, and the device that it names, or that of the links which the
    /// fewest of `users` have, the first by name of several. A network of another type than [`DYNAMIC`] has no device.
    pub fn given<'a>(&'a self, spec: &NetworkSpec, users: impl Fn(&str) -> usize) -> Result<Given<'a>, Finding> {
        let kind = spec.network_type.as_deref().unwrap_or("ipvlan").to_ascii_lowercase();
        let network_id = self.network_ids.get(&kind).map(String::as_str);
        if !DYNAMIC.contains(&kind.as_str()) {
            return Ok(Given { network_id, device: None });
        }
        let options = &spec.options;
        let named = [("host_device", &options.host_device), ("device_pool", &options.device_pool)];
        for (key, name) in named {
            let Some(name) = name else { continue };
            let device = self.device(name).ok_or_else(|| Finding::new(format!("Options.{key}"), name, NOT_LISTED))?;
            return Ok(Given { network_id, device: Some(device) });
        }
        if kind == "sriov" {
            // Which devices it means nobody can guess.
            return Ok(Given { network_id, device: None });
        }
        let links = self.devices.iter().filter(|device| !device.is_pool());
        let device = links.min_by_key(|device| (users(&device.name), device.name.as_str()));
        let none = || Finding::missing("Options.host_device", "a link that a TenantConfig lists; it lists none");
        Ok(Given { network_id, device: Some(device.ok_or_else(none)?) })
    }
}

/// The words of DANM.
const NOT_LISTED: Allowed = Allowed::told(
    "a device that the TenantConfig lists",
    "The provided physical interface is not allowed to be used by tenants!",
);

/// What a TenantNetwork gets of a TenantConfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<'a> {
    /// Its NetworkID, where its type has one.
    pub network_id: Option<&'a str>,
    /// Its device.
    pub device: Option<&'a HostDevice>,
}

impl HostDevice {
    fn read(device: &Object) -> Result<Self, Vec<Finding>> {
        let mut findings = Findings::default();
        let mut text = |key| findings.keep(device.text(key)).unwrap_or_default();
        let (name, kind, range) = (text("name"), text("vniType"), text("vniRange"));
        if name.is_empty() {
            findings.push(Finding::missing("name", "the name of a link of the nodes, or of a resource"));
        }
        let kind = match kind.as_str() {
            "" if range.is_empty() => None,
            "" => {
                findings.push(Finding::missing("vniType", "vlan or vxlan, for it has a vniRange"));
                None
            }
            "vlan" => Some(VniKind::Vlan),
            "vxlan" => Some(VniKind::Vxlan),
            other => {
                findings.push(Finding::new(
                    "vniType",
                    format_args!("{other:?}"),
                    Allowed::OneOf(vec!["vlan", "vxlan"]),
                ));
                None
            }
        };
        let vnis = kind.map(|kind| Vnis { kind, ranges: findings.keep(ranges(&range, kind)) });
        findings.finish(Self { name, vnis })
    }
}

/// Reads `2000-2500,2601`.
fn ranges(text: &str, kind: VniKind) -> Result<Vec<(u32, u32)>, Finding> {
    let last = kind.last();
    let allowed = || format!("identifiers and ranges of them, joined by commas, from 1 to {last}: 2000-2500,2601");
    if text.is_empty() {
        return Err(Finding::missing("vniRange", allowed()));
    }
    let each = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse::<u32>().ok()?, to.trim().parse::<u32>().ok()?);
        (1 <= from && from <= to && to <= last).then_some((from, to))
    };
    let read: Option<Vec<_>> = text.split(',').map(each).collect();
    read.ok_or_else(|| Finding::new("vniRange", format_args!("{text:?}"), allowed()))
}

fn id_finding(kind: &str, id: &str) -> Option<Finding> {
    let at = format!("networkIds[{kind}]");
    if kind.is_empty() {
        return Some(Finding::missing(at, "a type of network"));
    }
    if id.is_empty() {
        return Some(Finding::missing(at, "the NetworkID of the tenants' networks of the type"));
    }
    let is_long = DYNAMIC.contains(&kind.to_ascii_lowercase().as_str()) && id.len() > LONGEST_ID;
    is_long.then(|| Finding::new(at, format_args!("{id:?}"), format!("at most {LONGEST_ID} characters")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(value: &Value) -> Object {
        Object::parse(value.to_string().as_bytes()).unwrap()
    }

    fn found(value: Value) -> Vec<String> {
        judge(&object(&value), true).iter().map(ToString::to_string).collect()
    }

    fn device(name: &str, kind: &str, range: &str) -> Value {
        json!({"name": name, "vniType": kind, "vniRange": range})
    }

    #[test]
    fn what_danms_own_admission_refuses_is_refused() {
        let alone = |device: Value| found(json!({"hostDevices": [device]}));
        assert!(alone(device("ens3", "vlan", "200,500-510")).is_empty());
        assert!(alone(json!({"name": "nokia.k8s.io/sriov"})).is_empty());
        assert!(found(json!({"networkIds": {"flannel": "twelve-chars"}})).is_empty());
        for (config, said) in [
            (json!({}), "hostDevices: missing"),
            (json!({"hostDevices": [device("", "vlan", "7")]}), "hostDevices[0].name: missing"),
            (json!({"hostDevices": [device("ens3", "", "7")]}), "hostDevices[0].vniType: missing"),
            (json!({"hostDevices": [device("ens3", "vlan", "")]}), "hostDevices[0].vniRange: missing"),
            (
                json!({"hostDevices": [device("ens3", "vxlan2", "7")]}),
                "hostDevices[0].vniType: got \"vxlan2\", want one of vlan, vxlan",
            ),
            (
                json!({"hostDevices": [device("ens3", "vxlan", "700-71a0")]}),
                "hostDevices[0].vniRange: got \"700-71a0\"",
            ),
            (json!({"hostDevices": [device("ens3", "vlan", "900-4999,5001")]}), "hostDevices[0].vniRange: got"),
            (json!({"hostDevices": [device("ens3", "vlan", "9-7")]}), "hostDevices[0].vniRange: got"),
            (json!({"hostDevices": [{"name": "ens3", "alloc": "gAAB"}]}), "hostDevices[0].alloc: got \"gAAB\""),
            (json!({"networkIds": {"": "x"}}), "networkIds[]: missing"),
            (json!({"networkIds": {"flannel": ""}}), "networkIds[flannel]: missing"),
            (
                json!({"networkIds": {"sriov": "twelve-chars"}}),
                "networkIds[sriov]: got \"twelve-chars\", want at most 10",
            ),
            (json!({"hostDevices": 7}), "hostDevices: got 7"),
        ] {
            let all = found(config.clone());
            assert!(all.len() == 1 && all[0].starts_with(said), "{config}: {all:?}");
        }
        // All of it at once.
        assert_eq!(
            found(json!({"hostDevices": [device("", "vlan2", "7"), device("a", "", "7")], "networkIds": {"": "x"}}))
                .len(),
            4
        );
        assert!(judge(&object(&json!({"hostDevices": [{"name": "ens3", "alloc": "gAAB"}]})), false).is_empty());
    }

    #[test]
    fn a_tenants_network_gets_the_device_that_fewest_have() {
        let config = json!({"hostDevices": [device("ens4", "vxlan", "700-710"), device("ens3", "vlan", "200,500-510"),
            {"name": "a.io/pool"}], "networkIds": {"Flannel": "flannel", "ipvlan": "shared"}});
        let config = TenantConfig::read(&object(&config)).unwrap();
        let given = |spec: Value, users: usize| {
            let spec = NetworkSpec::read(&object(&spec)).unwrap();
            let of = |name: &str| if name == "ens3" { users } else { 1 };
            let given = config.given(&spec, of).map_err(|finding| finding.to_string())?;
            Ok::<_, String>((given.network_id, given.device.map(|device| device.name.as_str())))
        };
        assert_eq!(given(json!({}), 0), Ok((Some("shared"), Some("ens3"))));
        assert_eq!(given(json!({}), 1), Ok((Some("shared"), Some("ens3"))));
        assert_eq!(given(json!({}), 2), Ok((Some("shared"), Some("ens4"))));
        assert_eq!(
            given(json!({"NetworkType": "macvlan", "Options": {"host_device": "ens4"}}), 0),
            Ok((None, Some("ens4")))
        );
        assert_eq!(
            given(json!({"NetworkType": "sriov", "Options": {"device_pool": "a.io/pool"}}), 0),
            Ok((None, Some("a.io/pool")))
        );
        assert_eq!(given(json!({"NetworkType": "FLANNEL"}), 0), Ok((Some("flannel"), None)));
        let refused = given(json!({"Options": {"host_device": "ens9"}}), 0).unwrap_err();
        assert!(
            refused.starts_with("Options.host_device: got ens9, want a device that the TenantConfig lists"),
            "{refused}"
        );
        assert!(TenantConfig::default().given(&NetworkSpec::default(), |_| 0).is_err());
    }

    #[test]
    fn the_lowest_free_identifier_is_drawn_in_the_order_of_the_ranges() {
        let vnis = Vnis { kind: VniKind::Vlan, ranges: ranges("200,500-502", VniKind::Vlan).unwrap() };
        assert_eq!(vnis.first_free(|_| true), Some(200));
        assert_eq!(vnis.first_free(|vni| vni > 501), Some(502));
        assert_eq!(vnis.first_free(|_| false), None);
        assert_eq!((vnis.text().as_str(), vnis.contains(501), vnis.contains(300)), ("200,500-502", true, false));
    }
}
