//! What is wrong with a network's `spec`: all of it, at admission and in lint. Pods are attached by the same rules about values.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::spec::{NetworkSpec, Options, Pool};
use super::usual_pool;
use crate::cni::object::Object;
use crate::dialect::objects::Kind;
use crate::finding::{Allowed, Finding, Findings};
use crate::names::IfName;

/// The longest NetworkID of a network with links on the nodes, in characters: their names hold it.
const LONGEST_ID: usize = 10;
/// The most addresses of a network, of both families together.
const MOST_ADDRESSES: u128 = 1 << 23;
/// Routing tables that are the kernel's, but for `main`.
const OF_KERNEL: [i64; 2] = [253, 255];

const SPEC: [&str; 4] = ["NetworkID", "NetworkType", "AllowedTenants", "Options"];
const OPTIONS: [&str; 16] = [
    "host_device",
    "device_pool",
    "vlan",
    "vxlan",
    "container_prefix",
    "cidr",
    "routes",
    "allocation_pool",
    "net6",
    "routes6",
    "allocation_pool_v6",
    "alloc",
    "alloc6",
    "rt_tables",
    "mtu",
    "DNS",
];

/// The network as it was, for an object that is changed.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// Its `spec`.
    pub spec: &'a Object,
    /// Pods are attached to it.
    pub is_in_use: bool,
}

/// Everything that is wrong with the `spec` of a network that is made, or changed.
pub fn judge(kind: Kind, spec: &Object, before: Option<Before<'_>>) -> Vec<Finding> {
    let mut findings = Findings::default();
    findings.extend(unknown(spec, &SPEC));
    if let Ok(Some(options)) = spec.object("Options") {
        findings.extend(unknown(&options, &OPTIONS).into_iter().map(|finding| finding.under("Options")));
    }
    let read = match NetworkSpec::read(spec) {
        Ok(read) => read,
        Err(finding) => {
            findings.push(finding);
            return under_spec(findings);
        }
    };
    findings.extend(values(&read));
    findings.extend(of_kind(kind, &read));
    let earlier = before.and_then(|before| Some((NetworkSpec::read(before.spec).ok()?, before.is_in_use)));
    match &earlier {
        None => findings.extend(of_new(kind, spec, &read)),
        Some((earlier, is_in_use)) => findings.extend(changes(kind, earlier, &read, *is_in_use)),
    }
    under_spec(findings)
}

fn under_spec(findings: Findings) -> Vec<Finding> {
    Vec::from(findings).into_iter().map(|finding| finding.under("spec")).collect()
}

fn unknown(object: &Object, known: &[&str]) -> Vec<Finding> {
    let each = |(key, value): (&str, &serde_json::value::RawValue)| {
        let allowed = format!("no other key than {}", known.join(", "));
        (!known.contains(&key)).then(|| Finding::new(key, value.get(), allowed))
    };
    object.iter().filter_map(each).collect()
}

fn of_kind(kind: Kind, spec: &NetworkSpec) -> Option<Finding> {
    let tenants = spec.allowed_tenants.join(", ");
    (kind != Kind::ClusterNetwork && !spec.allowed_tenants.is_empty())
        .then(|| Finding::new("AllowedTenants", tenants, "nothing: it is for ClusterNetworks"))
}

/// What an object may not have when it is made.
fn of_new(kind: Kind, object: &Object, spec: &NetworkSpec) -> Vec<Finding> {
    let mut findings = Vec::new();
    let options = object.object("Options").ok().flatten().unwrap_or_default();
    for key in super::STATE {
        if let Some(value) = options.text(key).ok().flatten().filter(|text| !text.is_empty()) {
            findings.push(Finding::new(format!("Options.{key}"), value, "nothing: it is state, and nobody's to write"));
        }
    }
    if kind == Kind::TenantNetwork {
        for (key, id) in [("vlan", spec.options.vlan), ("vxlan", spec.options.vxlan)] {
            let allowed = "nothing: a TenantConfig gives it";
            findings.extend(id.map(|id| Finding::new(format!("Options.{key}"), id, allowed)));
        }
    }
    findings
}

/// What may not change: a tenant's link at all, a network's link under its pods.
fn changes(kind: Kind, before: &NetworkSpec, after: &NetworkSpec, is_in_use: bool) -> Vec<Finding> {
    let (old, new) = (&before.options, &after.options);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    let is_tenants = kind == Kind::TenantNetwork;
    let each = [
        ("host_device", text(&old.host_device), text(&new.host_device), is_tenants || is_in_use),
        ("device_pool", text(&old.device_pool), text(&new.device_pool), is_tenants),
        ("vlan", number(old.vlan), number(new.vlan), is_tenants || is_in_use),
        ("vxlan", number(old.vxlan), number(new.vxlan), is_tenants || is_in_use),
    ];
    let said = |value: &str| if value.is_empty() { "none".to_owned() } else { value.to_owned() };
    let why = if is_in_use { "pods are attached" } else { "a tenant's network keeps its link" };
    let changed = each.into_iter().filter(|(_, old, new, is_kept)| *is_kept && old != new);
    let mut findings: Vec<Finding> = changed
        .map(|(key, old, new, _)| Finding::new(format!("Options.{key}"), said(&new), format!("{}: {why}", said(&old))))
        .collect();
    if let (true, Some(old), Some(new)) = (is_in_use, old.mtu, new.mtu)
        && new < old
    {
        findings.push(Finding::new("Options.mtu", new, format!("at least {old}: pods are attached")));
    }
    findings
}

/// What is wrong with the values themselves, and between them.
pub fn values(spec: &NetworkSpec) -> Vec<Finding> {
    let mut findings = Findings::default();
    let options = &spec.options;
    let has_link = options.vlan.is_some() || options.vxlan.is_some();
    match &spec.network_id {
        None => findings.push(Finding::missing("NetworkID", "a name")),
        Some(id) if has_link && id.chars().count() > LONGEST_ID => {
            let allowed =
                format!("at most {LONGEST_ID} characters with vlan or vxlan: links of the nodes have the name");
            findings.push(Finding::new("NetworkID", format_args!("{id:?}"), allowed));
        }
        Some(id) if has_link && id.parse::<IfName>().is_err() => {
            findings.push(Finding::new("NetworkID", format_args!("{id:?}"), IfName::ALLOWED));
        }
        Some(_) => {}
    }
    let mut inside = Findings::default();
    links(spec, &mut inside);
    let v4 = family(options, true, &mut inside);
    let v6 = family(options, false, &mut inside);
    if let (Some(v4), Some(v6)) = (v4, v6)
        && v4 + v6 > MOST_ADDRESSES
    {
        let allowed = format!("at most {MOST_ADDRESSES} addresses together with cidr");
        inside.push(Finding::new("allocation_pool_v6", format_args!("{} of both", v4 + v6), allowed));
    }
    for (key, value, least, most) in [
        ("vlan", options.vlan, 1, 4094),
        ("vxlan", options.vxlan, 1, 16_777_214),
        ("rt_tables", options.table, 0, 255),
        ("mtu", options.mtu, 1280, 9000),
    ] {
        if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
            inside.push(Finding::new(key, value, format!("an integer from {least} to {most}")));
        }
    }
    if let Some(table) = options.table.filter(|table| OF_KERNEL.contains(table)) {
        inside.push(Finding::new("rt_tables", table, "another table: this one is the kernel's"));
    }
    findings.extend(Vec::from(inside).into_iter().map(|finding| finding.under("Options")));
    findings.into()
}

/// The link below the network.
fn links(spec: &NetworkSpec, findings: &mut Findings) {
    let Options { host_device, device_pool, vlan, vxlan, .. } = &spec.options;
    if let Some(Err(_)) = host_device.as_deref().map(str::parse::<IfName>) {
        let device = host_device.as_deref().unwrap_or_default();
        findings.push(Finding::new("host_device", format_args!("{device:?}"), IfName::ALLOWED));
    }
    if let (Some(_), Some(vxlan)) = (vlan, vxlan) {
        findings.push(Finding::new("vxlan", vxlan, Allowed::without("vlan")));
    }
    let is_sriov = spec.network_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("sriov"));
    if is_sriov && device_pool.is_none() {
        findings.push(Finding::missing("device_pool", "the resource whose devices an sriov network has"));
    }
    if let Some(device) = host_device.as_ref().filter(|_| is_sriov || device_pool.is_some()) {
        let allowed = match is_sriov {
            true => "nothing: an sriov network has devices of device_pool".to_owned(),
            false => "nothing beside device_pool".to_owned(),
        };
        findings.push(Finding::new("host_device", device, allowed));
    }
}

/// The subnet, the pool and the routes of a family. Answers with how many addresses they take.
fn family(options: &Options, ipv4: bool, findings: &mut Findings) -> Option<u128> {
    let (key, net, routes_key, routes, pool_key, pool) = match ipv4 {
        true => ("cidr", &options.cidr, "routes", &options.routes, "allocation_pool", &options.pool),
        false => ("net6", &options.net6, "routes6", &options.routes6, "allocation_pool_v6", &options.pool6),
    };
    let Some(text) = net else {
        if !routes.is_empty() {
            findings.push(Finding::new(routes_key, listed(routes), Allowed::requires(key, "set")));
        }
        if pool.is_some() {
            findings.push(Finding::new(pool_key, "a pool", Allowed::requires(key, "set")));
        }
        return None;
    };
    let shortest = if ipv4 { 9 } else { 0 };
    let family = if ipv4 { "IPv4" } else { "IPv6" };
    let Some(net) = of_family(text, ipv4).filter(|net| net.prefix_len() >= shortest) else {
        let longer = if ipv4 { ", of a prefix of 9 or more" } else { "" };
        findings.push(Finding::new(key, format_args!("{text:?}"), format!("a subnet of {family}{longer}")));
        return None;
    };
    gateways(routes, net, findings, routes_key);
    let pool = pool.clone().unwrap_or_default();
    let within = match pool.cidr.as_deref() {
        None => net,
        Some(text) if ipv4 => {
            findings.push(Finding::new(format!("{pool_key}.cidr"), text, "nothing: it is for IPv6"));
            net
        }
        Some(text) => match of_family(text, false).filter(|within| (105..=127).contains(&within.prefix_len())) {
            Some(within) if net.contains(&within) => within,
            Some(_) => {
                let allowed = format!("a part of {net}");
                findings.push(Finding::new(format!("{pool_key}.cidr"), format_args!("{text:?}"), allowed));
                return None;
            }
            None => {
                let allowed = "a subnet of IPv6 with a prefix from 105 to 127";
                findings.push(Finding::new(format!("{pool_key}.cidr"), format_args!("{text:?}"), allowed));
                return None;
            }
        },
    };
    ends(&pool, within, findings, pool_key);
    let bits = u32::from(within.max_prefix_len() - within.prefix_len());
    (ipv4 || pool.cidr.is_some()).then(|| 1_u128 << bits.min(127))
}

/// The first and the last address of a pool.
fn ends(pool: &Pool, within: IpNet, findings: &mut Findings, key: &str) {
    let (first, last) = usual_pool(within);
    let mut read = |name: &str, text: &Option<String>, usual: IpAddr| match text {
        None => Some(usual),
        Some(text) => {
            let found = text.parse::<IpAddr>().ok().filter(|ip| within.contains(ip));
            if found.is_none() {
                let allowed = Allowed::AddressIn(within);
                findings.push(Finding::new(format!("{key}.{name}"), format_args!("{text:?}"), allowed));
            }
            found
        }
    };
    let (start, end) = (read("start", &pool.start, first), read("end", &pool.end, last));
    let is_told = pool.start.is_some() || pool.end.is_some();
    if let (true, Some(start), Some(end)) = (is_told, start, end)
        && start >= end
    {
        findings.push(Finding::new(format!("{key}.end"), end, format!("an address behind start, {start}")));
    }
}

/// Routes go by routers on the subnet.
fn gateways(routes: &BTreeMap<String, String>, net: IpNet, findings: &mut Findings, key: &str) {
    let ipv4 = net.addr().is_ipv4();
    for (dst, gw) in routes {
        let one = BTreeMap::from([(dst.clone(), gw.clone())]);
        match super::routes(&one, ipv4) {
            Err(finding) => findings.push(finding.under(key)),
            Ok(read) => {
                if let Some(gw) = read.first().and_then(|route| route.gw).filter(|gw| !net.contains(gw)) {
                    findings.push(Finding::new(format!("{key}[{dst:?}]"), gw, format!("a router of {net}")));
                }
            }
        }
    }
}

fn of_family(text: &str, ipv4: bool) -> Option<IpNet> {
    text.parse::<IpNet>().ok().filter(|net| net.addr().is_ipv4() == ipv4).map(|net| net.trunc())
}

fn listed(routes: &BTreeMap<String, String>) -> String {
    routes.keys().cloned().collect::<Vec<_>>().join(", ")
}
