//! The names of an overlay on the node.

use std::path::{Path, PathBuf};
use std::time::Instant;

use attachments::names::IfName;
use attachments::text::hash;

use super::IANA_PORT;
use crate::error::Result;
use crate::lock::{self, Lock};
use crate::networks::NetworkId;

/// The names of an overlay on the node: a function of UDP port and VNI, for that pair is what the kernel holds unique.
/// Overlays on the IANA port have the shorter names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The vxlan device.
    pub device: IfName,
    /// The bridge.
    pub bridge: IfName,
    /// The routing table, in mode l3.
    pub table: u32,
    lock: String,
}

impl Names {
    /// The names of a VNI of 24 bits on a UDP port.
    pub fn of(vni: u32, port: u16) -> Result<Self> {
        // At most 15 bytes: v, 8 digits, p, 5 digits.
        let name = |usual: &str, other: &str| {
            if port == IANA_PORT { format!("{usual}{vni}") } else { format!("{other}{vni}p{port}") }
        };
        let lock = format!("vxlan-{port}-{vni}.lock");
        Ok(Self { device: name("vx", "v").parse()?, bridge: name("bx", "b").parse()?, table: table(vni, port), lock })
    }

    /// The VNI and the UDP port of an overlay's [`NetworkId`]; `None` for the name of another network, which has a dot.
    pub fn pair(id: &str) -> Option<(u32, u16)> {
        let (port, vni) = id.split_once('-')?;
        let pair: (u32, u16) = (vni.parse().ok()?, port.parse().ok()?);
        // `4789-4200` has one spelling.
        (NetworkId::overlay(pair.1, pair.0).as_str() == id).then_some(pair)
    }

    /// Nobody else makes, joins or removes this overlay on the node while the lock is held.
    pub fn lock(&self, state_dir: &Path, deadline: Instant) -> Result<Lock> {
        Lock::take(&self.lock_path(state_dir), deadline)
    }

    /// The same for a removal, which goes on where the state directory takes no file.
    pub fn lock_to_remove(&self, state_dir: &Path, deadline: Instant) -> Result<Lock> {
        Lock::take_for_undo(&self.lock_path(state_dir), [state_dir], deadline)
    }

    /// Somebody holds the lock, or was killed while it did.
    pub fn lock_is_there(&self, state_dir: &Path) -> bool {
        self.lock_path(state_dir).exists()
    }

    fn lock_path(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(lock::DIR).join(&self.lock)
    }
}

/// Numbers that nobody writes by hand. On the IANA port a VNI has one of its own; elsewhere two may meet once in a thousand million
/// times, and the second is refused.
fn table(vni: u32, port: u16) -> u32 {
    if port == IANA_PORT { 1 << 31 | vni } else { 3 << 30 | hash(&format!("{port}-{vni}")) as u32 >> 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(vni: u32, port: u16) -> (String, String) {
        let names = Names::of(vni, port).unwrap();
        (names.device.to_string(), names.bridge.to_string())
    }

    #[test]
    fn the_name_of_an_overlay_tells_vni_and_port() {
        assert_eq!(Names::pair(NetworkId::overlay(8472, 7).as_str()), Some((7, 8472)));
        for other in ["shop.lan", "4789-", "04789-7", "4789-7.x", "70000-1", "node..a-b"] {
            assert_eq!(Names::pair(other), None, "{other}");
        }
    }

    #[test]
    fn names_fit_and_differ_wherever_port_or_vni_differ() {
        assert_eq!(names(4200, 4789), ("vx4200".to_owned(), "bx4200".to_owned()));
        assert_eq!(names(4200, 8472), ("v4200p8472".to_owned(), "b4200p8472".to_owned()));
        let longest = names(16_777_215, 65_535);
        assert_eq!(longest.0, "v16777215p65535");
    }
}
