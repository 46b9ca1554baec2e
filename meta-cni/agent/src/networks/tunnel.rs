//! Where the tunnels of an overlay end on this node: read from the kernel.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use delegates::networks::NetworkId;
use delegates::nl::Netlink;
use delegates::nl::link::Kind;
use delegates::overlay::{self, Names, Spec, Underlay};
use ipnet::IpNet;

use super::facts::Tunnel;

/// The kernel answers in far less.
const TRY: Duration = Duration::from_secs(2);

/// The text of an underlay, as a definition has it.
pub fn text(underlay: &Underlay) -> String {
    match underlay {
        Underlay::DefaultRoute => String::new(),
        Underlay::Link(name) => name.to_string(),
        Underlay::Subnet(subnet) => subnet.to_string(),
    }
}

/// The underlay of a text.
pub fn underlay(text: &str) -> Option<Underlay> {
    if text.contains('/') {
        return text.parse().ok().map(Underlay::Subnet);
    }
    text.parse().ok().map(Underlay::Link)
}

/// VNI and UDP port of an overlay's network.
pub fn pair(id: &NetworkId) -> Option<(u32, u16)> {
    let (port, vni) = id.as_str().split_once('-')?;
    Some((vni.parse().ok()?, port.parse().ok()?))
}

/// Looks where the tunnels of an overlay end. Without an underlay they end at the node's InternalIPs. An error says which field of the
/// definition is at fault.
pub fn look(id: &NetworkId, asked: Option<&Underlay>, node_ips: &[IpAddr]) -> Result<Tunnel, String> {
    let (vni, port) = pair(id).ok_or_else(|| format!("network {id} is no overlay"))?;
    let failed = |error: delegates::error::Error| error.to_string();
    let mut netlink = Netlink::open(Instant::now() + TRY).map_err(failed)?;
    let places: Vec<(Underlay, Option<bool>)> = match asked {
        Some(underlay) => [false, true].map(|is_ipv6| (underlay.clone(), Some(is_ipv6))).into(),
        None if node_ips.is_empty() => [false, true].map(|is_ipv6| (Underlay::DefaultRoute, Some(is_ipv6))).into(),
        None => node_ips.iter().map(|ip| (Underlay::Subnet(IpNet::from(*ip)), None)).collect(),
    };
    let mut tunnel: Option<Tunnel> = None;
    let mut why = String::new();
    for (underlay, is_ipv6) in places {
        let spec = Spec {
            vni,
            port,
            underlay,
            is_ipv6,
            group: None,
            mtu: None,
            mac: None,
            learning: false,
            routed: false,
            ttl: 0,
            udp_checksum: true,
        };
        let end = overlay::endpoint(&mut netlink, &spec).and_then(|end| Ok((overlay::mtu(&spec, &end)?, end)));
        match end {
            Ok((mtu, end)) => {
                let vtep = end.local.addr();
                let tunnel = tunnel.get_or_insert_with(|| Tunnel {
                    vteps: Vec::new(),
                    mtu,
                    underlay: format!("{} (MTU {})", end.link.name, end.link.mtu),
                    taken_by: None,
                });
                if !tunnel.vteps.iter().any(|other| other.is_ipv4() == vtep.is_ipv4()) {
                    tunnel.vteps.push(vtep);
                }
            }
            Err(error) => why = error.to_string(),
        }
    }
    let mut tunnel = tunnel.ok_or(why)?;
    tunnel.vteps.sort_by_key(IpAddr::is_ipv6);
    let names = Names::of(vni, port).map_err(failed)?;
    let links = netlink.links(None).map_err(failed)?;
    let has_pair = |kind: &Kind| matches!(kind, Kind::Vxlan(is) if (is.vni, is.port) == (vni, port));
    let other = links.into_iter().find(|link| has_pair(&link.kind) && link.name != names.device.as_str());
    tunnel.taken_by = other.map(|link| link.name);
    Ok(tunnel)
}

/// Is the overlay's device or bridge on this node? Where the kernel cannot be asked it is taken to be.
pub fn is_on_node(id: &NetworkId) -> bool {
    let Some((vni, port)) = pair(id) else { return false };
    let look = || -> delegates::error::Result<bool> {
        let names = Names::of(vni, port)?;
        overlay::exists(&mut Netlink::open(Instant::now() + TRY)?, &names)
    };
    look().unwrap_or(true)
}
