//! The runtimeConfig on offer for an attachment, and the requests for which no plugin declares the capability (R24, A2-A4).

use super::attachment::{Device, UnverifiedRequests};
use crate::cni::conf::NetworkConf;
use crate::cni::object::Object;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::selection::{NetworkSelection, address};

/// The capability of plugins that read and write an attachment's device information file.
pub const DEVICE_INFO_FILE: &str = "CNIDeviceInfoFile";

/// The runtimeConfig of one attachment: `base`, overridden by the pod's requests, overridden by our device and its file.
pub(super) fn offer(
    base: Option<&Object>,
    selected: Option<&NetworkSelection>,
    device: Option<&Device>,
    device_info_file: Option<&String>,
) -> Object {
    let mut offered = base.cloned().unwrap_or_default();
    if let Some(selected) = selected {
        offered.set_some("ips", Some(&selected.ips).filter(|ips| !ips.is_empty()));
        offered.set_some("mac", selected.mac.as_ref());
        offered.set_some("infinibandGUID", selected.infiniband_guid.as_ref());
        offered.set_some("portMappings", Some(&selected.port_mappings).filter(|mappings| !mappings.is_empty()));
        offered.set_some("bandwidth", selected.bandwidth.as_ref());
    }
    offered.set_some("deviceID", device.map(|device| &device.id));
    offered.set_some(DEVICE_INFO_FILE, device_info_file);
    offered
}

/// The requests that no plugin of the chain gets, neither as a capability nor in CNI_ARGS.
pub(super) fn undeclared(conf: &NetworkConf, selected: &NetworkSelection, field: &str) -> Vec<Finding> {
    let asked = [
        ("portMappings", "portMappings", !selected.port_mappings.is_empty()),
        ("bandwidth", "bandwidth", selected.bandwidth.is_some()),
        ("infiniband-guid", "infinibandGUID", selected.infiniband_guid.is_some()),
    ];
    let unheard = asked.iter().filter(|(_, capability, asked)| *asked && !conf.declares(capability));
    let finding = |(key, capability, _): &(&str, &str, bool)| {
        let value = selected.to_object().get(key).map(|value| value.get().to_owned()).unwrap_or_default();
        let allowed = format!("{key} only for a network whose plugins declare the capability {capability:?}");
        Finding::new(format!("{field}.{key}"), value, allowed).of(Rule::Undeclared)
    };
    unheard.map(finding).collect()
}

/// Addresses and MAC go into CNI_ARGS where no plugin declares the capability (A4).
pub(super) fn through_args(
    conf: &NetworkConf,
    selected: &NetworkSelection,
) -> (Vec<(&'static str, String)>, UnverifiedRequests) {
    let mut args = Vec::new();
    let mut unverified = UnverifiedRequests::default();
    if !selected.ips.is_empty() && !conf.declares("ips") {
        args.push(("IP", selected.ips.join(",")));
        unverified.ips = selected.ips.iter().filter_map(|ip| address(ip)).collect();
    }
    if let Some(mac) = selected.mac.filter(|_| !conf.declares("mac")) {
        args.push(("MAC", mac.to_string()));
        unverified.mac = Some(mac);
    }
    (args, unverified)
}
