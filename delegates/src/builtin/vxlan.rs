//! `vxlan`: a secondary overlay. A veth from the pod into a bridge that belongs to the network, and a vxlan device on it.

use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::cni::result::Dns;
use attachments::finding::Finding;
use attachments::names::{IfName, Mac};
use ipnet::IpNet;

use super::hardware;
use super::keys::Keys;

/// The UDP port that IANA gave to VXLAN (RFC 7348).
const IANA_PORT: u16 = 4789;

/// The configuration of an attachment to an overlay.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// Network identifier: 1 to 16777215.
    pub vni: u32,
    /// UDP port. The kernel tells networks apart by `port` and `vni` together.
    pub port: u16,
    /// Where the tunnel's local address comes from.
    pub underlay: Underlay,
    /// MTU inside the overlay; absent: the underlay's less the tunnel's headers.
    pub mtu: Option<u32>,
    /// Tunnel addresses of the other nodes: what no entry is known for is sent to each (head-end replication).
    pub peers: Vec<IpAddr>,
    /// Multicast group of the underlay, in place of `peers`.
    pub group: Option<IpAddr>,
    /// The hardware address asked for: `runtimeConfig.mac`, which wins over CNI_ARGS.
    pub mac: Option<Mac>,
    /// `dns`; wins over the IPAM's when any field is set.
    pub dns: Dns,
}

/// Where the tunnel's local address comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Underlay {
    /// The link of the default route.
    DefaultRoute,
    /// A link by name.
    Link(IfName),
    /// The link that has an address within a subnet: the same text fits every node.
    Subnet(IpNet),
}

impl Config {
    pub(super) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut keys = Keys::of(conf);
        let vni = keys.integer("vni", 1..=0xff_ffff);
        if vni.is_none() && conf.get("vni").is_none() {
            keys.refuse(Finding::missing("vni", "an integer from 1 to 16777215"));
        }
        let config = Self {
            vni: vni.unwrap_or_default(),
            port: keys.integer("port", 1..=65_535).and_then(|port| port.try_into().ok()).unwrap_or(IANA_PORT),
            underlay: keys.keep(underlay(conf)).unwrap_or(Underlay::DefaultRoute),
            mtu: keys.mtu(),
            peers: keys.keep(peers(conf)),
            group: keys.keep(group(conf)),
            mac: keys.keep(hardware::from_runtime(conf)),
            dns: keys.dns(),
        };
        let l2 = keys.choice("mode", &[("l2", true), ("l3", false)], true);
        if !l2 {
            keys.refuse(Finding::new(
                "mode",
                "\"l3\"",
                "\"l2\": l3 routes address blocks, which are not supported yet",
            ));
        }
        if config.group.is_some() && !config.peers.is_empty() {
            keys.refuse(Finding::new("group", shown(conf, "group"), "no group beside `peers`: one of the two"));
        }
        keys.finish(config)
    }

    /// The family that the tunnel's addresses must have; absent: whichever the underlay has.
    pub(super) fn is_ipv6(&self) -> Option<bool> {
        self.group.or(self.peers.first().copied()).map(|address| address.is_ipv6())
    }
}

/// `underlay`: an interface name, or a subnet when there is a '/' in it, which no interface name holds.
fn underlay(conf: &Object) -> Result<Option<Underlay>, Finding> {
    const ALLOWED: &str = "an interface name, or a subnet as 192.0.2.0/24";
    match conf.text("underlay")? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => {
            let subnet = || text.parse::<IpNet>().ok().map(|net| Underlay::Subnet(net.trunc()));
            let link = || text.parse().ok().map(Underlay::Link);
            let underlay = if text.contains('/') { subnet() } else { link() };
            underlay.map(Some).ok_or_else(|| Finding::new("underlay", format_args!("{text:?}"), ALLOWED))
        }
    }
}

fn peers(conf: &Object) -> Result<Vec<IpAddr>, Finding> {
    const ALLOWED: &str = "a list of unicast IP addresses";
    let texts: Vec<String> = conf.decode("peers", ALLOWED)?.unwrap_or_default();
    let mut peers: Vec<IpAddr> = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let refuse = |allowed: &str| Finding::new(format!("peers[{i}]"), format_args!("{text:?}"), allowed);
        let peer = text.parse::<IpAddr>().map_err(|_| refuse("a unicast IP address"))?.to_canonical();
        if peer.is_multicast() || peer.is_unspecified() || peer.is_loopback() {
            return Err(refuse("a unicast IP address"));
        }
        // A vxlan device sends over one family.
        if peers.first().is_some_and(|first| first.is_ipv4() != peer.is_ipv4()) {
            return Err(refuse("an address of the same family as the others"));
        }
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    Ok(peers)
}

fn group(conf: &Object) -> Result<Option<IpAddr>, Finding> {
    const ALLOWED: &str = "a multicast IP address";
    let group: Option<IpAddr> = conf.parsed("group", ALLOWED)?;
    match group {
        Some(address) if !address.is_multicast() => Err(Finding::new("group", shown(conf, "group"), ALLOWED)),
        group => Ok(group),
    }
}

fn shown<'a>(conf: &'a Object, key: &str) -> &'a str {
    conf.get(key).map_or("", |value| value.get())
}
