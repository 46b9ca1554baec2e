//! A node that hands on packets.

use std::net::IpAddr;

use crate::error::Result;
use crate::netns;

/// Makes the thread's namespace, the host's, forward packets of the families of these addresses.
pub(super) fn enable(addresses: &[IpAddr]) -> Result<()> {
    for (v4, key) in [(true, ["ipv4", "ip_forward"].as_slice()), (false, &["ipv6", "conf", "all", "forwarding"])] {
        // Looked at first: a write takes the kernel's lock of all network configuration.
        if addresses.iter().any(|ip| ip.is_ipv4() == v4) && netns::read_sysctl(key)?.as_deref() != Some("1") {
            netns::write_sysctl(key, "1")?;
        }
    }
    Ok(())
}
