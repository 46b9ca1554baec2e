//! The configuration of `host-device`: the keys of the reference plugin.

use std::path::{Component, Path, PathBuf};

use attachments::cni::object::Object;
use attachments::cni::result::Dns;
use attachments::finding::Finding;
use attachments::names::{IfName, Mac};
use attachments::rule::Rule;

use crate::builtin::conf_reader::ConfReader;
use crate::builtin::mac_address;

/// The configuration of a host-device attachment.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::builtin) struct Config {
    /// Which link it is; absent where the runtime says it with the device that it allocates.
    pub device: Option<Selector>,
    /// The PCI device, whatever selects the link: one that a userspace driver has is not moved.
    pub pci: Option<String>,
    /// `dns`: what the result says when there are addresses.
    pub dns: Dns,
}

/// How a link of the node is found.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::builtin) enum Selector {
    /// `device`: by its name.
    Name(IfName),
    /// `hwaddr`: by its hardware address.
    Mac(Mac),
    /// `kernelpath`: the first link of a device below /sys/devices.
    Path(PathBuf),
    /// `pciBusID` or `runtimeConfig.deviceID`: the first link of a PCI device.
    Pci(String),
    /// `runtimeConfig.deviceID`: the first link of a device on the auxiliary bus.
    Auxiliary(String),
}

pub(in crate::builtin) const KEYS: [&str; 7] =
    ["device", "hwaddr", "kernelpath", "pciBusID", "ipam", "acceptRA", "dns"];

const PCI: &str = "a PCI address, as 0000:3b:02.1";
const KERNEL_PATH: &str = "an absolute path below /sys/devices, without '..'";
const DEVICE_ID: &str = "a PCI address, as 0000:3b:02.1, or the name of a device on the auxiliary bus";

impl Config {
    /// The keys, tried in the order of the reference plugin.
    pub(in crate::builtin) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut reader = ConfReader::of(conf);
        let name = reader.parsed(("device", Rule::Device), IfName::ALLOWED).map(Selector::Name);
        let mac = reader.keep(mac_address::configured(conf, "hwaddr")).map(Selector::Mac);
        let path = reader.checked("kernelpath", KERNEL_PATH, kernel_path).map(Selector::Path);
        let bus_id = reader.checked("pciBusID", PCI, pci_address);
        let allocated = reader.keep(allocated(conf));
        let pci = match &allocated {
            Some(Selector::Pci(address)) => Some(address.clone()),
            Some(_) => None,
            None => bus_id,
        };
        let by_bus = pci.clone().map(Selector::Pci).or(allocated);
        let config = Self { device: name.or(mac).or(path).or(by_bus), pci, dns: reader.dns() };
        reader.finish(config)
    }
}

/// `runtimeConfig.deviceID`, the value of the capability `deviceID`.
fn allocated(conf: &Object) -> Result<Option<Selector>, Finding> {
    let Some(runtime) = conf.object("runtimeConfig")? else { return Ok(None) };
    let read = || match runtime.text("deviceID")? {
        None => Ok(None),
        Some(id) if id.is_empty() => Ok(None),
        Some(id) => match pci_address(&id) {
            Some(address) => Ok(Some(Selector::Pci(address))),
            None if is_file_name(&id) => Ok(Some(Selector::Auxiliary(id))),
            None => Err(Finding::new("deviceID", format_args!("{id:?}"), DEVICE_ID)),
        },
    };
    read().map_err(|finding: Finding| finding.under("runtimeConfig"))
}

/// domain:bus:device.function in hexadecimal, as sysfs writes it; a domain may have more than four digits.
fn pci_address(text: &str) -> Option<String> {
    let (rest, function) = text.rsplit_once('.')?;
    let [domain, bus, device] = rest.split(':').collect::<Vec<_>>().try_into().ok()?;
    let hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    let lengths = (4..=8).contains(&domain.len()) && bus.len() == 2 && device.len() == 2;
    let is_function = matches!(function.as_bytes(), [b'0'..=b'7']);
    (lengths && is_function && [domain, bus, device].into_iter().all(hex)).then(|| text.to_ascii_lowercase())
}

fn kernel_path(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let below = path.strip_prefix("/sys/devices").ok()?;
    let is_plain = below.components().all(|part| matches!(part, Component::Normal(_))) && !text.contains('\0');
    (is_plain && below.components().next().is_some()).then(|| path.to_owned())
}

fn is_file_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;

    fn selected(conf: &str) -> Option<Selector> {
        Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap().device
    }

    fn pci(address: &str) -> Option<Selector> {
        Some(Selector::Pci(address.to_owned()))
    }

    #[test]
    fn the_keys_are_tried_in_order_and_the_allocated_device_replaces_the_pci_address() {
        let all = r#"{"device":"eth1","hwaddr":"02:00:00:00:00:01","kernelpath":"/sys/devices/pci0/x","pciBusID":"0000:3b:02.1"}"#;
        assert_eq!(selected(all), Some(Selector::Name("eth1".parse().unwrap())));
        let some = all.replace(r#""device":"eth1","#, "");
        assert_eq!(selected(&some), Some(Selector::Mac(Mac([2, 0, 0, 0, 0, 1]))));
        let path = selected(r#"{"kernelpath":"/sys/devices/pci0/x","pciBusID":"0000:3b:02.1"}"#);
        assert_eq!(path, Some(Selector::Path("/sys/devices/pci0/x".into())));
        assert_eq!(selected(r#"{"pciBusID":"10000:E1:00.0"}"#), pci("10000:e1:00.0"));
        let allocated = |id: &str| format!(r#"{{"pciBusID":"0000:3b:02.1","runtimeConfig":{{"deviceID":"{id}"}}}}"#);
        assert_eq!(selected(&allocated("0000:3b:02.2")), pci("0000:3b:02.2"));
        let auxiliary = "mlx5_core.sf.4";
        assert_eq!(selected(&allocated(auxiliary)), Some(Selector::Auxiliary(auxiliary.to_owned())));
        assert_eq!(selected(&allocated("")), pci("0000:3b:02.1"));
        assert_eq!(selected("{}"), None, "an allocated device may come with the pod");
    }

    #[test]
    fn every_wrong_key_is_named_in_one_go() {
        let conf = r#"{"device":"a/b","hwaddr":"01:00:5e:00:00:01","kernelpath":"/sys/devices/../class","pciBusID":"0000:3b/02.1",
            "runtimeConfig":{"deviceID":"../x"},"dns":1}"#;
        let findings = Builtin::HostDevice.validate(&Object::parse(conf.as_bytes()).unwrap());
        let paths: Vec<&str> = findings.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["device", "hwaddr", "kernelpath", "pciBusID", "runtimeConfig.deviceID", "dns"]);
        assert_eq!(findings[3].to_string(), r#"pciBusID: got "0000:3b/02.1", want a PCI address, as 0000:3b:02.1"#);
    }

    #[test]
    fn a_pci_address_is_only_that() {
        for wrong in
            ["3b:02.1", "0000:3b:02", "0000:3b:02.8", "0000:3g:02.1", "0000:3b:2.1", "0000:3b:02.1/..", "..", ""]
        {
            assert_eq!(pci_address(wrong), None, "{wrong}");
        }
        for wrong in [
            "/sys/devices",
            "/sys/devices/",
            "/sys/devices/a/../b",
            "sys/devices/a",
            "/sys/class/net/a",
            "/sys/devicesx/a",
        ] {
            assert_eq!(kernel_path(wrong), None, "{wrong}");
        }
    }
}
