//! Which link of the node a configuration means, by netlink and by sysfs.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use attachments::finding::{Allowed, Finding};

use super::config::Selector;
use crate::builtin::check;
use crate::error::{Error, Result};
use crate::nl::Netlink;
use crate::nl::link::{Kind, Link};

/// PCI devices by address.
pub(super) const PCI: &str = "/sys/bus/pci/devices";
const AUXILIARY: &str = "/sys/bus/auxiliary/devices";

/// Drivers that leave a device to a program: there is no link to move then.
const USERSPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// What a selector leads to.
pub(super) struct Selected<'a> {
    /// The key that selects.
    pub key: &'static str,
    /// Its value as it is quoted.
    pub value: String,
    /// The link; absent when none on the node is meant.
    pub link: Option<&'a Link>,
}

/// The link of a selector, among those of the node.
pub(super) fn select<'a>(links: &'a [Link], selector: &Selector) -> Result<Selected<'a>> {
    let named = |name: &str| links.iter().find(|link| link.name == name);
    let (key, value, link) = match selector {
        Selector::Name(name) => ("device", format!("{:?}", name.as_str()), named(name.as_str())),
        Selector::Mac(mac) => ("hwaddr", mac.to_string(), links.iter().find(|link| link.mac == Some(*mac))),
        Selector::Path(path) => {
            ("kernelpath", path.display().to_string(), first(&path.join("net"))?.and_then(|name| named(&name)))
        }
        Selector::Pci(address) => {
            let name = of_pci(Path::new(PCI), address)?;
            ("pciBusID", address.clone(), name.and_then(|name| named(&name)))
        }
        Selector::Auxiliary(id) => {
            let name = first(&Path::new(AUXILIARY).join(id).join("net"))?;
            ("runtimeConfig.deviceID", id.clone(), name.and_then(|name| named(&name)))
        }
    };
    Ok(Selected { key, value, link })
}

/// The link, which must be on the node and in nobody's use.
pub(super) fn device(netlink: &mut Netlink, selector: &Selector) -> Result<Link> {
    let links = netlink.links(None)?;
    let Selected { key, value, link } = select(&links, selector)?;
    let refuse = |allowed: Allowed| Error::Parent(Finding::new(key, &value, allowed));
    let link =
        link.ok_or_else(|| refuse("a device with a link on the node; one that a pod holds has none here".into()))?;
    match in_use(link, &links) {
        Some(how) => Err(refuse(format!("a link that is not in use: {} {how}", link.name).into())),
        None => Ok(link.clone()),
    }
}

/// How a link is in use, so that taking it away would break something that cannot be given back.
fn in_use(link: &Link, links: &[Link]) -> Option<String> {
    if link.name == "lo" {
        return Some("is the node's loopback".to_owned());
    }
    if let Some(master) = link.master {
        let master = links.iter().find(|other| other.index == master);
        return Some(format!("is a port of {}", master.map_or("another link", |master| &master.name)));
    }
    // What stands on a link stays behind when that leaves, and goes on using it.
    let stands_on =
        |other: &&Link| other.parent == Some(link.index) && !other.is_parent_elsewhere && other.kind != Kind::Veth;
    links.iter().find(stands_on).map(|other| format!("carries {} {}", other.kind.as_str(), other.name))
}

/// Has a program the device, by one of the drivers for that?
pub(super) fn is_userspace(address: &str) -> bool {
    driver(Path::new(PCI), address).is_some_and(|driver| USERSPACE.contains(&driver.as_str()))
}

/// CHECK: a program has the device.
pub(super) fn driven(address: &str) -> Result<()> {
    let wanted = USERSPACE.join(", ");
    match driver(Path::new(PCI), address) {
        Some(driver) if USERSPACE.contains(&driver.as_str()) => Ok(()),
        Some(other) => Err(check::differs(format!("device {address}: its driver is {other}, want one of {wanted}"))),
        None => Err(check::differs(format!("device {address}: it has no driver, want one of {wanted}"))),
    }
}

fn driver(bus: &Path, address: &str) -> Option<String> {
    let target = fs::read_link(bus.join(address).join("driver")).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Name of the link of a PCI device; a virtio device is one step further down.
fn of_pci(bus: &Path, address: &str) -> Result<Option<String>> {
    let device = bus.join(address);
    if !device.exists() {
        return Err(Error::Parent(Finding::new("pciBusID", address, "the address of a PCI device of this node")));
    }
    if let Some(name) = first(&device.join("net"))? {
        return Ok(Some(name));
    }
    for entry in entries(&device)? {
        if entry.starts_with("virtio")
            && let Some(name) = first(&device.join(entry).join("net"))?
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn first(directory: &Path) -> Result<Option<String>> {
    Ok(entries(directory)?.into_iter().next())
}

/// Names in a directory, in order; none when it is not there.
fn entries(directory: &Path) -> Result<Vec<String>> {
    let failed = || format!("read {}", directory.display());
    let listed = match fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(failed())(error)),
    };
    let mut names = Vec::new();
    for entry in listed {
        names.push(entry.map_err(Error::io(failed()))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Where sysfs keeps the hardware of a link; absent for a virtual one, and where /sys shows another namespace's links.
pub(super) fn hardware(link: &Link) -> Option<PathBuf> {
    let here = Path::new("/sys/class/net").join(&link.name);
    let index = fs::read_to_string(here.join("ifindex")).ok()?;
    let is_it = link.kind == Kind::Device && index.trim_end() == link.index.to_string();
    is_it.then(|| fs::canonicalize(here.join("device")).ok()).flatten()
}

/// Has that hardware a link, in whichever namespace? Its `net` directory is there for as long as there is one, and shows
/// the links of the namespace of the mount only.
pub(super) fn has_link(hardware: &Path) -> bool {
    hardware.join("net").exists()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_link_of_a_pci_device_is_found_also_behind_virtio() {
        let bus = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(bus.path().join(path)).unwrap();
        make("0000:00:01.0/net/eth7");
        make("0000:00:02.0/virtio3/net/ens2");
        make("0000:00:03.0/power");
        make("drivers/vfio-pci");
        symlink("../drivers/vfio-pci", bus.path().join("0000:00:03.0/driver")).unwrap();
        assert_eq!(of_pci(bus.path(), "0000:00:01.0").unwrap().as_deref(), Some("eth7"));
        assert_eq!(of_pci(bus.path(), "0000:00:02.0").unwrap().as_deref(), Some("ens2"));
        assert_eq!(of_pci(bus.path(), "0000:00:03.0").unwrap(), None);
        let error = of_pci(bus.path(), "0000:00:04.0").unwrap_err();
        assert_eq!(error.to_string(), "pciBusID: got 0000:00:04.0, want the address of a PCI device of this node");
        assert_eq!(driver(bus.path(), "0000:00:03.0").as_deref(), Some("vfio-pci"));
        assert_eq!(driver(bus.path(), "0000:00:01.0"), None);
    }
}
