//! What a definition may not ask of a bridge of the node, found before anything is attached.

use attachments::finding::Finding;
use attachments::names::IfName;

use super::config::Config;
use super::gateway;
use crate::builtin::default_bridge;
use crate::call::Call;
use crate::error::Result;
use crate::host::Host;

/// RFC 8200, 5. On a link with a smaller MTU the kernel ends IPv6, and the link's addresses with it.
const IPV6_MIN_MTU: u32 = 1280;

/// Looks at the bridge as it is.
pub(super) fn admit(config: &Config, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
    default_bridge::refuse(host, call, "bridge", &config.bridge)?;
    if config.force_address && !host.node.in_process(&"bridge".parse()?) {
        let allowed = "false: a program does not know whose an address is; only the built-in bridge does";
        return Err(Finding::new("forceAddress", true, allowed).into());
    }
    if let Some(mtu) = config.mtu.filter(|mtu| *mtu < IPV6_MIN_MTU) {
        refuse_to_end_ipv6(host, config, mtu)?;
    }
    gateway::admit(host, config, call)
}

/// A bridge has the least MTU of its ports. IPv6 addresses that go with it do not come back with the port.
fn refuse_to_end_ipv6(host: &mut Host<'_>, config: &Config, mtu: u32) -> Result<()> {
    let netlink = host.netlink()?;
    let Some(bridge) = netlink.link_by_name(&config.bridge.parse::<IfName>()?)? else { return Ok(()) };
    const GLOBAL: u8 = 0;
    let held = netlink.addresses(Some(bridge.index))?;
    match held.iter().find(|address| address.net.addr().is_ipv6() && address.scope == GLOBAL) {
        None => Ok(()),
        Some(address) => {
            let (name, lost) = (&bridge.name, address.net);
            let allowed =
                format!("at least {IPV6_MIN_MTU}: bridge {name} would take it over and lose its address {lost}");
            Err(Finding::new("mtu", mtu, allowed).into())
        }
    }
}
