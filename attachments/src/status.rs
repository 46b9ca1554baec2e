//! The annotation `network-status`, in the shape that Multus writes.

use std::net::IpAddr;

use crate::bind::Attachment;
use crate::cni::object::Object;
use crate::cni::result::{CniResult, Interface, Ip};
use crate::cni::version::Version;
use crate::selection::{ROLES, ROUTES, RULES};

/// Annotation that a pod's status is written to (NPWG 5).
pub const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// One attachment as `network-status` reports it.
#[derive(Clone, Copy, Debug)]
pub struct AttachmentStatus<'a> {
    /// The attachment.
    pub attachment: &'a Attachment,
    /// The final result of its ADD, after route arbitration; absent when there is none.
    pub result: Option<&'a CniResult>,
    /// The content of its device information file.
    pub device_info: Option<&'a Object>,
}

/// The annotation's text. `strict` writes addresses with their prefix length as the specification's examples do (A21).
pub fn network_status(statuses: &[AttachmentStatus<'_>], strict: bool) -> String {
    let entries: Vec<String> =
        statuses.iter().flat_map(|status| status.entries(strict)).map(|e| indented(&e)).collect();
    format!("[{}]", entries.join(","))
}

/// The fields that differ between the interfaces of one attachment.
#[derive(Default)]
struct InterfaceFields<'a> {
    interface: Option<&'a str>,
    mac: Option<&'a str>,
    mtu: Option<u64>,
    ips: Vec<&'a Ip>,
    default: bool,
}

impl<'a> InterfaceFields<'a> {
    fn at(interface: &'a Interface) -> Self {
        Self {
            interface: Some(interface.name.as_str()).filter(|name| !name.is_empty()),
            mac: Some(interface.mac.as_str()).filter(|mac| !mac.is_empty()),
            mtu: interface.mtu.filter(|mtu| *mtu != 0),
            ..Self::default()
        }
    }
}

impl AttachmentStatus<'_> {
    /// The text of the event for this attachment, as Multus writes it: `Add net1 [10.43.0.10/24] from default/lan`. None for a
    /// result without interfaces and addresses.
    pub fn event(&self) -> Option<String> {
        let result = self.result.filter(|result| !result.interfaces.is_empty() || !result.ips.is_empty())?;
        let ips: Vec<String> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
        let Attachment { ifname, source, .. } = self.attachment;
        Some(format!("Add {ifname} [{}] from {source}", ips.join(" ")))
    }
}

impl<'a> AttachmentStatus<'a> {
    fn entries(&self, strict: bool) -> Vec<Object> {
        let places = match self.result {
            None => vec![InterfaceFields { default: self.attachment.is_default, ..InterfaceFields::default() }],
            Some(result) => self.places(result),
        };
        places.iter().map(|place| self.entry(place, strict)).collect()
    }

    /// One entry for each interface in the pod, at least one (A22, A23).
    fn places(&self, result: &'a CniResult) -> Vec<InterfaceFields<'a>> {
        let in_pod = |interface: &Interface| !interface.sandbox.is_empty();
        let without_interface = |ip: &&Ip| ip.interface.is_none_or(|index| index < 0);
        let default = self.attachment.is_default;
        if let [only] = result.interfaces.as_slice() {
            let place = if in_pod(only) { InterfaceFields::at(only) } else { InterfaceFields::default() };
            return vec![InterfaceFields { ips: result.ips.iter().collect(), default, ..place }];
        }
        let pods: Vec<(usize, &Interface)> = result.interfaces.iter().enumerate().filter(|(_, i)| in_pod(i)).collect();
        let Some((last, _)) = pods.last() else {
            // Results below 0.3.0 name no interface: it is CNI_IFNAME (R41).
            let interface = (self.attachment.version < Version::V0_3_0).then(|| self.attachment.ifname.as_str());
            let ips = result.ips.iter().filter(without_interface).collect();
            return vec![InterfaceFields { interface, ips, default, ..InterfaceFields::default() }];
        };
        // The default interface is the one with the gateway, else the first.
        let index_of = |ip: &Ip| ip.interface.and_then(|index| usize::try_from(index).ok());
        let with_gateway = result.ips.iter().filter(|ip| ip.gateway.is_some()).find_map(index_of);
        let main = with_gateway.filter(|index| pods.iter().any(|(i, _)| i == index)).unwrap_or(pods[0].0);
        let place = |(i, interface): &(usize, &'a Interface)| {
            let here = |ip: &&Ip| index_of(ip) == Some(*i) || (i == last && without_interface(ip));
            let ips = result.ips.iter().filter(here).collect();
            InterfaceFields { ips, default: default && *i == main, ..InterfaceFields::at(interface) }
        };
        pods.iter().map(place).collect()
    }

    /// Keys in the order of the Go type. `dns` is always present, `default` only when true (A20).
    fn entry(&self, place: &InterfaceFields<'_>, strict: bool) -> Object {
        let mut entry = Object::new();
        entry.set("name", &self.attachment.source.to_string());
        entry.set_some("interface", place.interface.as_ref());
        let text = |ip: &&Ip| if strict { ip.address.to_string() } else { ip.address.addr().to_string() };
        set_list(&mut entry, "ips", &place.ips.iter().map(text).collect::<Vec<_>>());
        entry.set_some("mac", place.mac.as_ref());
        entry.set_some("mtu", place.mtu.as_ref());
        if place.default {
            entry.set("default", &true);
        }
        entry.set("dns", &self.result.map(dns).unwrap_or_default());
        entry.set_some("device-info", self.device_info);
        let gateways = self.result.map(default_gateways).unwrap_or_default();
        set_list(&mut entry, "gateway", &gateways);
        if let Some(requested) = &self.attachment.default_route {
            set_list(&mut entry, "default-route", if requested.is_empty() { &gateways } else { requested });
        }
        if place.interface.is_none_or(|interface| interface == self.attachment.ifname.as_str()) {
            set_list(&mut entry, ROUTES, &self.attachment.routes);
            set_list(&mut entry, RULES, &self.attachment.rules);
            set_list(&mut entry, ROLES, &self.attachment.roles());
        }
        entry
    }
}

fn set_list<T: serde::Serialize>(entry: &mut Object, key: &str, list: &Vec<T>) {
    if !list.is_empty() {
        entry.set(key, list);
    }
}

/// The four keys of the annotation's `dns`, without empty ones.
fn dns(result: &CniResult) -> Object {
    let mut dns = result.dns.encode();
    dns.retain(|key| matches!(key, "nameservers" | "domain" | "search" | "options"));
    if result.dns.domain.as_deref() == Some("") {
        dns.remove("domain");
    }
    dns
}

/// Next hops of the default routes; a route without one goes by the first gateway of its family.
fn default_gateways(result: &CniResult) -> Vec<IpAddr> {
    let of_family = |v4: bool| result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == v4);
    let default_routes = result.routes.iter().filter(|route| route.is_default());
    default_routes.filter_map(|route| route.gw.or_else(|| of_family(route.dst.addr().is_ipv4()))).collect()
}

/// JSON indented by four spaces as Go writes it. It works on the text, so that numbers keep their bytes.
fn indented(entry: &Object) -> String {
    let mut out = String::new();
    let (mut depth, mut quoted, mut escaped, mut opened) = (0_usize, false, false, false);
    for c in entry.to_json().chars() {
        if quoted {
            out.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if closes {
            depth = depth.saturating_sub(1);
        }
        if closes != opened {
            new_line(&mut out, depth);
        }
        opened = matches!(c, '{' | '[');
        out.push(c);
        match c {
            '"' => quoted = true,
            ':' => out.push(' '),
            ',' => new_line(&mut out, depth),
            '{' | '[' => depth += 1,
            _ => {}
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("    ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indents_as_go_does() {
        let text = r#"{"a":{},"b":[],"c":[1.10, {"d":"x{\"\\"}],"e":null}"#;
        let object = Object::parse(text.as_bytes()).unwrap();
        let want = "{\n    \"a\": {},\n    \"b\": [],\n    \"c\": [\n        1.10,\n        {\n            \"d\": \"x{\\\"\\\\\"\n        }\n    ],\n    \"e\": null\n}";
        assert_eq!(indented(&object), want);
    }

    #[test]
    fn nothing_to_report_is_an_empty_list() {
        assert_eq!(network_status(&[], false), "[]");
    }
}
