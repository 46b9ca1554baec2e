//! The values of an element's keys, each checked (NPWG 1.3, section 4.1).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::cni::object::Object;
use crate::cni::spelling::{Known, one_of_each};
use crate::finding::{Allowed, Finding};

/// The keys of an entry of `portMappings`. containerd hands them over as `HostPort`, without JSON names.
pub static PORT_MAPPING: Known<'static> = Known::of(&[&["hostPort", "containerPort", "protocol", "hostIP"]]);

/// The keys of `bandwidth`. containerd hands them over as `IngressRate`.
pub static BANDWIDTH: Known<'static> = Known::of(&[&["ingressRate", "ingressBurst", "egressRate", "egressBurst"]]);

/// The address of an element of `ips`, which may carry a prefix length.
pub fn address(text: &str) -> Option<IpAddr> {
    let address = if text.contains('/') { text.parse::<IpNet>().ok()?.addr() } else { text.parse().ok()? };
    Some(address.to_canonical())
}

pub(super) fn decode_ips(object: &Object) -> Result<Vec<String>, Finding> {
    let ips: Vec<String> = object.decode("ips", Allowed::STRINGS)?.unwrap_or_default();
    match ips.iter().enumerate().find(|(_, ip)| address(ip).is_none()) {
        None => Ok(ips),
        Some((i, ip)) => Err(Finding::new(
            format!("ips[{i}]"),
            format_args!("{ip:?}"),
            "an IPv4 or IPv6 address, with or without a prefix length",
        )),
    }
}

pub(super) fn decode_default_route(object: &Object) -> Result<Option<Vec<IpAddr>>, Finding> {
    let Some(texts) = object.decode::<Vec<String>>("default-route", Allowed::STRINGS)? else { return Ok(None) };
    let mut gateways: Vec<IpAddr> = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let refuse = |allowed| Finding::new(format!("default-route[{i}]"), format_args!("{text:?}"), allowed);
        let gateway = text.parse::<IpAddr>().map_err(|_| refuse("an IP address"))?.to_canonical();
        if gateways.iter().any(|other| other.is_ipv4() == gateway.is_ipv4()) {
            return Err(refuse("at most one gateway of each address family"));
        }
        gateways.push(gateway);
    }
    Ok(Some(gateways))
}

/// The arguments join those of the definition, whose reader may take a key in any case: two spellings of one key are refused.
pub(super) fn decode_cni_args(object: &Object) -> Result<Option<Object>, Finding> {
    let Some(args) = object.object("cni-args")? else { return Ok(None) };
    one_of_each(&args).map_err(|e| e.under("cni-args"))?;
    Ok(Some(args))
}

pub(super) fn decode_port_mappings(object: &Object) -> Result<Vec<Object>, Finding> {
    let mappings = object.objects("portMappings")?;
    for (i, mapping) in mappings.iter().enumerate() {
        check_port_mapping(mapping).map_err(|e| e.under(&format!("portMappings[{i}]")))?;
    }
    Ok(mappings)
}

/// R19. `hostIP` is in no specification, but in every implementation.
fn check_port_mapping(mapping: &Object) -> Result<(), Finding> {
    const PORT: &str = "an integer from 1 to 65535";
    for key in ["hostPort", "containerPort"] {
        match mapping.decode::<u16>(key, PORT)? {
            Some(0) => return Err(Finding::new(key, 0, PORT)),
            Some(_) => {}
            None => return Err(Finding::missing(key, PORT)),
        }
    }
    let protocol = mapping.text("protocol")?.unwrap_or_default();
    if !["", "tcp", "udp", "sctp"].contains(&protocol.to_ascii_lowercase().as_str()) {
        return Err(Finding::new("protocol", format_args!("{protocol:?}"), "TCP, UDP or SCTP"));
    }
    mapping.parsed::<IpAddr>("hostIP", "an IP address")?;
    Ok(())
}

/// R20.
pub(super) fn decode_bandwidth(object: &Object) -> Result<Option<Object>, Finding> {
    let Some(bandwidth) = object.object("bandwidth")? else { return Ok(None) };
    check_bandwidth(&bandwidth).map_err(|e| e.under("bandwidth"))?;
    Ok(Some(bandwidth))
}

fn check_bandwidth(bandwidth: &Object) -> Result<(), Finding> {
    const AMOUNT: &str = "an integer from 1 to 9223372036854775807";
    let mut any = false;
    for (rate_key, burst_key) in [("ingressRate", "ingressBurst"), ("egressRate", "egressBurst")] {
        let [rate, burst] = [rate_key, burst_key].map(|key| match bandwidth.decode::<i64>(key, AMOUNT)? {
            Some(amount) if amount < 1 => Err(Finding::new(key, amount, AMOUNT)),
            amount => Ok(amount),
        });
        let (rate, burst) = (rate?, burst?);
        if let (None, Some(burst)) = (rate, burst) {
            return Err(Finding::new(burst_key, burst, Allowed::requires(rate_key, "set")));
        }
        any |= rate.is_some();
    }
    if any { Ok(()) } else { Err(Finding::missing("", "ingressRate or egressRate")) }
}
