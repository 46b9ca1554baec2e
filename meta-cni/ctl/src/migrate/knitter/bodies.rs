//! Bodies and answers of Knitter's REST API, as far as they can be moved, checked by the rules of its manager.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use serde_json::{Value, json};

/// The network that led out of the pods.
pub const DEFAULT: &str = "net_api";
/// The most addresses of a group.
const MOST_MEMBERS: u64 = 32;
/// The networks that a tenant's quota may be.
const QUOTA: std::ops::RangeInclusive<u64> = 1..=1000;

/// What a body is about.
#[derive(Debug, PartialEq)]
pub enum Body {
    Network(Network),
    Group(Group),
    Tenant(Quota),
}

/// A network.
#[derive(Debug, PartialEq)]
pub struct Network {
    pub id: Option<String>,
    pub name: String,
    pub cidr: Ipv4Net,
    pub gateway: Option<Ipv4Addr>,
    pub pools: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub is_public: bool,
    pub description: Option<String>,
    pub wire: Wire,
}

/// What carries its frames from node to node.
#[derive(Debug, PartialEq)]
pub enum Wire {
    /// An overlay whose number Knitter chose.
    Own,
    /// An overlay of this number.
    Vni(u32),
    /// A physical network.
    Vlan { master: String, id: Option<u16> },
}

/// A group of addresses.
#[derive(Debug, PartialEq)]
pub struct Group {
    pub name: String,
    /// The id of its network.
    pub network: String,
    pub members: Members,
    pub notes: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub enum Members {
    Addresses(Vec<IpAddr>),
    Size(u64),
}

/// How many networks a tenant may have.
#[derive(Debug, PartialEq)]
pub struct Quota {
    pub tenant: Option<String>,
    pub most: Option<u64>,
}

/// What a body holds; an error is a line about what cannot be moved.
pub fn read(body: &Value) -> Vec<Result<Body, String>> {
    let fields = body.as_object().into_iter().flatten();
    let mut all = Vec::new();
    for (key, value) in fields {
        let one = |one: &Value| match key.as_str() {
            "network" | "networks" | "provider_network" => Some(network(one).map(Body::Network)),
            "ipgroup" | "ipgroups" => Some(group(one).map(Body::Group)),
            "tenant" | "tenants" => Some(tenant(one).map(Body::Tenant)),
            "external_network" | "extenal_network" => {
                let name = text(one, "name").or_else(|| text(one, "id")).unwrap_or_default();
                Some(Err(format!(
                    "external network {name:?}: it is a network of the infrastructure by its id; write a definition for the link of the nodes that leads there"
                )))
            }
            _ => None,
        };
        let listed = if key.ends_with('s') { value.as_array() } else { None };
        match listed {
            Some(items) if one(&Value::Null).is_some() => all.extend(items.iter().filter_map(one)),
            _ => all.push(one(value).unwrap_or_else(|| Err(format!("{key}: nothing here stands for it")))),
        }
    }
    if all.is_empty() {
        all.push(Err("{}: neither a manifest nor a body of Knitter's".to_owned()));
    }
    all
}

/// A text, or a number as text; an empty one is absent.
fn text(object: &Value, key: &str) -> Option<String> {
    match &object[key] {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn flag(object: &Value, key: &str) -> bool {
    object[key] == json!(true) || object[key] == json!("true")
}

fn network(body: &Value) -> Result<Network, String> {
    let name = text(body, "name").ok_or("network: name: missing")?;
    checked(body, name.clone()).map_err(|why| format!("network {name:?}: {why}"))
}

fn checked(body: &Value, name: String) -> Result<Network, String> {
    let written = text(body, "cidr").ok_or("cidr: missing, want an IPv4 subnet")?;
    let cidr: Ipv4Net = written.parse().map_err(|_| format!("cidr: got {written:?}, want an IPv4 subnet"))?;
    let address = |key: &str, text: String| {
        text.parse::<Ipv4Addr>().map_err(|_| format!("{key}: got {text:?}, want an IPv4 address"))
    };
    let gateway = text(body, "gateway").map(|text| address("gateway", text)).transpose()?;
    if let Some(gateway) = gateway.filter(|gateway| !cidr.contains(gateway)) {
        return Err(format!("gateway: got {gateway}, want an address of {cidr}"));
    }
    let mut pools = Vec::new();
    for (i, pool) in body["allocation_pools"].as_array().into_iter().flatten().enumerate() {
        let at = format!("allocation_pools[{i}]");
        let bound = |key: &str| {
            let text = text(pool, key).ok_or_else(|| format!("{at}.{key}: missing, want an address of {cidr}"))?;
            address(&format!("{at}.{key}"), text)
        };
        let (start, end) = (bound("start")?, bound("end")?);
        if !cidr.contains(&start) || !cidr.contains(&end) || start > end {
            return Err(format!("{at}: got {start} to {end}, want a range of {cidr}"));
        }
        if let Some(gateway) = gateway.filter(|gateway| (start..=end).contains(gateway)) {
            return Err(format!("{at}: got {start} to {end}, want one without the gateway {gateway}"));
        }
        if let Some((first, last)) = pools.iter().find(|(first, last)| start <= *last && *first <= end) {
            return Err(format!("{at}: got {start} to {end}, want one apart from {first} to {last}"));
        }
        pools.push((start, end));
    }
    Ok(Network {
        id: text(body, "network_id").or_else(|| text(body, "id")),
        wire: wire(body)?,
        name,
        cidr: cidr.trunc(),
        gateway,
        pools,
        is_public: flag(body, "public"),
        description: text(body, "description"),
    })
}

fn wire(body: &Value) -> Result<Wire, String> {
    let physical = || {
        let key = "provider:physical_network";
        text(body, key).ok_or_else(|| format!("{key}: missing, want the physical network"))
    };
    let number = |most: u32| {
        let key = "provider:segmentation_id";
        let text = text(body, key).ok_or_else(|| format!("{key}: missing, want 1 to {most}"))?;
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| format!("{key}: got {text}, want 1 to {most}"))
    };
    match text(body, "provider:network_type").as_deref() {
        None if text(body, "provider:physical_network").is_none() => Ok(Wire::Own),
        Some("vxlan") => Ok(Wire::Vni(number((1 << 24) - 1)?)),
        None | Some("vlan") if flag(body, "vlan_transparent") => Ok(Wire::Vlan { master: physical()?, id: None }),
        Some("flat") => Ok(Wire::Vlan { master: physical()?, id: None }),
        None | Some("vlan") => Ok(Wire::Vlan { master: physical()?, id: u16::try_from(number(4094)?).ok() }),
        Some(other) => Err(format!("provider:network_type: got {other:?}, want vlan, flat or vxlan")),
    }
}

impl Network {
    /// The ranges of its pool.
    pub fn ranges(&self) -> Vec<Value> {
        let whole = [(None, None)];
        let pools: Vec<_> = self.pools.iter().map(|(start, end)| (Some(start), Some(end))).collect();
        let pools = if pools.is_empty() { &whole[..] } else { &pools };
        let range = |(start, end): &(Option<&Ipv4Addr>, Option<&Ipv4Addr>)| {
            let mut range = json!({"subnet": self.cidr});
            for (key, value) in [("rangeStart", *start), ("rangeEnd", *end), ("gateway", self.gateway.as_ref())] {
                if let Some(value) = value {
                    range[key] = json!(value);
                }
            }
            range
        };
        pools.iter().map(range).collect()
    }

    /// May a pod have the address?
    pub fn has(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        let is_in_pool =
            || self.pools.is_empty() || self.pools.iter().any(|(start, end)| (*start..=*end).contains(&address));
        self.cidr.contains(&address) && self.gateway != Some(address) && is_in_pool()
    }
}

fn group(body: &Value) -> Result<Group, String> {
    let name = text(body, "name").ok_or("ipgroup: name: missing")?;
    let at = |why: String| format!("ipgroup {name:?}: {why}");
    let network = text(body, "network_id").ok_or_else(|| at("network_id: missing".to_owned()))?;
    let mut notes = Vec::new();
    let members = members(body, &mut notes).map_err(at)?;
    Ok(Group { network, members, notes, name: name.clone() })
}

/// A body has a text or a size; an answer has a list, with what is used.
fn members(body: &Value, notes: &mut Vec<String>) -> Result<Members, String> {
    const WANT: &str = r#"want addresses as "[10.0.0.5,10.0.0.6]""#;
    let listed: Vec<String> = match (&body["ips"], text(body, "size")) {
        (Value::Array(items), _) if !items.is_empty() => {
            let of = |item: &Value| match item {
                Value::String(text) => Some(text.clone()),
                item => text(item, "ip_addr").or_else(|| text(item, "ip")),
            };
            if items.iter().any(|item| item["used"] == json!(true)) {
                notes.push("Pods have addresses of it: they keep them until they are made anew.".to_owned());
            }
            items
                .iter()
                .map(|item| of(item).ok_or_else(|| format!("ips: got {item}, {WANT}")))
                .collect::<Result<_, _>>()?
        }
        (Value::String(ips), Some(size)) if !ips.trim().is_empty() => {
            return Err(format!("got ips {ips:?} and size {size}, want one of them"));
        }
        (Value::String(ips), None) if !ips.trim().is_empty() => {
            let inside = ips.trim().strip_prefix('[').and_then(|ips| ips.strip_suffix(']'));
            let inside = inside.filter(|inside| !inside.trim().is_empty());
            let inside = inside.ok_or_else(|| format!("ips: got {ips:?}, {WANT}"))?;
            inside.split(',').map(|ip| ip.trim().to_owned()).collect()
        }
        (_, Some(size)) => {
            let number = size.parse::<u64>().ok().filter(|number| *number <= MOST_MEMBERS);
            return match number {
                Some(0) => Err("it is empty, and an AddressSet is not: make one when it has addresses".to_owned()),
                Some(number) => Ok(Members::Size(number)),
                None => Err(format!("size: got {size:?}, want 0 to {MOST_MEMBERS}")),
            };
        }
        _ => return Err("it is empty, and an AddressSet is not: make one when it has addresses".to_owned()),
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in listed {
        let address: Ipv4Addr = text.parse().map_err(|_| format!("ips: got {text:?}, {WANT}"))?;
        if !addresses.contains(&address.into()) {
            addresses.push(address.into());
        }
    }
    match addresses.len() as u64 {
        0..=MOST_MEMBERS => Ok(Members::Addresses(addresses)),
        number => Err(format!("ips: got {number} addresses, want at most {MOST_MEMBERS}")),
    }
}

fn tenant(body: &Value) -> Result<Quota, String> {
    let tenant = text(body, "name").or_else(|| text(body, "id"));
    let at = |why: String| format!("tenant {:?}: {why}", tenant.as_deref().unwrap_or_default());
    let most = match text(body, "quota").or_else(|| text(body, "net_quota")).or_else(|| text(body, "quotas")) {
        None => None,
        Some(text) => {
            let number = text.parse().ok().filter(|number| QUOTA.contains(number));
            let want = || at(format!("quota: got {text:?}, want {} to {}", QUOTA.start(), QUOTA.end()));
            Some(number.ok_or_else(want)?)
        }
    };
    Ok(Quota { most, tenant: tenant.clone() })
}
