//! The configuration of `vxlan`: an overlay said in one place.

use std::collections::HashSet;
use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::cni::result::Dns;
use attachments::finding::{Allowed, Finding};
use attachments::names::{Mac, NetRef};
use attachments::rule::Rule;
use ipnet::IpNet;

use crate::builtin::conf_reader::ConfReader;
use crate::builtin::mac_address;
use crate::error;
use crate::firewall::pod_ports::Guard;
use crate::ipam;
use crate::networks::OverlayNeed;
use crate::networks::state::Routing;
use crate::overlay::{IANA_PORT, Names, Spec, Underlay};

pub(in crate::builtin) const KEYS: [&str; 19] = [
    "vni",
    "port",
    "underlay",
    "mtu",
    "mode",
    "directRouting",
    "isGateway",
    "isDefaultGateway",
    "openGateway",
    "ipMasq",
    "ipMasqBackend",
    "peers",
    "group",
    "sharedWith",
    "macspoofchk",
    "bumRate",
    "ipam",
    "acceptRA",
    "dns",
];

/// Broadcast and multicast frames a second of one pod, unless `bumRate` says another number: what no pod needs, and what a node
/// copies to a thousand members in half of its time.
const BUM_RATE: u32 = 10_000;

/// What a configuration without a VNI lacks. A node draws none: another one would draw another.
const VNI: &str = "an integer from 1 to 16777215; the webhook draws one when a definition without it is applied";

/// The configuration of an attachment to an overlay.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::builtin) struct Config {
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
    /// Other definitions that may have the same VNI and port.
    pub shared_with: Vec<NetRef>,
    /// `macspoofchk`: frames of a pod come from its own hardware address alone. Absent: where the kernel can.
    pub mac_spoof_check: Option<bool>,
    /// `bumRate`: broadcast and multicast frames a second that are taken from a pod; 0 takes all. Absent: where the kernel can.
    pub bum_rate: Option<u32>,
    /// `mode`, and what the node routes.
    pub routing: Routing,
    /// `isDefaultGateway`: the pod gets a default route through the gateway.
    pub is_default_gateway: bool,
    /// `ipMasq`: what leaves the overlay's subnets leaves with the node's address.
    pub ip_masq: bool,
    /// The hardware address asked for: `runtimeConfig.mac`, which wins over CNI_ARGS.
    pub mac: Option<Mac>,
    /// `dns`; wins over the IPAM's when any field is set.
    pub dns: Dns,
}

impl Config {
    pub(in crate::builtin) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut reader = ConfReader::of(conf);
        let vni = reader.integer(("vni", Rule::Vni), 1..=0xff_ffff);
        if vni.is_none() && conf.get("vni").is_none() {
            reader.refuse(Finding::missing("vni", VNI).of(Rule::Vni));
        }
        let is_default_gateway = reader.flag("isDefaultGateway");
        let routing = Routing {
            l3: reader.choice("mode", &[("l2", false), ("l3", true)], false),
            direct: reader.flag("directRouting"),
            gateway: reader.flag("isGateway") || is_default_gateway,
            open: reader.flag("openGateway"),
            gateways: Vec::new(),
        };
        reader.masquerade_backend();
        let config = Self {
            vni: vni.unwrap_or_default(),
            port: reader
                .integer(("port", Rule::OverlayPort), 1..=65_535)
                .and_then(|port| port.try_into().ok())
                .unwrap_or(IANA_PORT),
            underlay: reader.keep(underlay(conf)).unwrap_or(Underlay::DefaultRoute),
            mtu: reader.mtu(),
            peers: peers(conf, &mut reader),
            group: reader.keep(group(conf)),
            shared_with: shared_with(conf, &mut reader),
            mac_spoof_check: conf.get("macspoofchk").map(|_| reader.flag("macspoofchk")),
            bum_rate: reader.integer("bumRate", 0..=10_000_000),
            routing,
            is_default_gateway,
            ip_masq: reader.flag("ipMasq"),
            mac: reader.keep(mac_address::from_runtime(conf)),
            dns: reader.dns(),
        };
        config.refuse_contradictions(conf, &mut reader);
        if config.group.is_some() && !config.peers.is_empty() {
            reader.refuse(Finding::new("group", shown(conf, "group"), Allowed::without("peers")));
        }
        if let (Underlay::Subnet(subnet), Some(ipv6)) = (&config.underlay, config.is_ipv6())
            && subnet.addr().is_ipv6() != ipv6
        {
            reader.refuse(Finding::new(
                "underlay",
                shown(conf, "underlay"),
                "a subnet of the family of `peers` or `group`",
            ));
        }
        reader.finish(config)
    }

    /// What the node routes needs the addresses of all nodes, and each key its own mode.
    fn refuse_contradictions(&self, conf: &Object, reader: &mut ConfReader<'_>) {
        let Routing { l3, direct, gateway, open, .. } = self.routing;
        let at = if conf.flag("isGateway") == Ok(true) { "isGateway" } else { "isDefaultGateway" };
        let has_addresses = ipam::configured(conf) != Ok(false);
        let mode = format!("{:?}", if l3 { "l3" } else { "l2" });
        let wrong: [(bool, &str, &str, &'static str); 8] = [
            (
                l3 && !self.is_managed(),
                "mode",
                &mode,
                "\"l2\", or neither peers nor group: l3 routes to members that are known",
            ),
            (l3 && !has_addresses, "mode", &mode, "\"l2\" without ipam.type: l3 routes addresses"),
            (
                direct && !l3,
                "directRouting",
                "true",
                "false, or mode \"l3\": a segment of layer 2 is always behind the tunnel",
            ),
            (gateway && l3, at, "true", "false with mode \"l3\", which routes within the overlay alone"),
            (
                gateway && !self.is_managed(),
                at,
                "true",
                "false, or neither peers nor group: nodes that learn would learn the gateway's address of each other",
            ),
            (gateway && !has_addresses, at, "true", "false without ipam.type: a gateway is an address"),
            (open && !gateway, "openGateway", "true", "false, or isGateway"),
            (self.ip_masq && !gateway, "ipMasq", "true", "false, or isGateway: without one nothing leaves the overlay"),
        ];
        for (_, key, value, allowed) in wrong.into_iter().filter(|(is_wrong, ..)| *is_wrong) {
            reader.refuse(Finding::new(key, value, allowed));
        }
    }

    /// The overlay's names on the node.
    pub(super) fn names(&self) -> error::Result<Names> {
        Names::of(self.vni, self.port)
    }

    /// Does the cluster know the members?
    pub(super) fn is_managed(&self) -> bool {
        self.peers.is_empty() && self.group.is_none()
    }

    /// What a pod's port is guarded against; `mac` is the pod's.
    pub(super) fn guard(&self, mac: Mac) -> Guard {
        let rate = self.bum_rate.unwrap_or(BUM_RATE);
        Guard { mac: self.mac_spoof_check.unwrap_or(true).then_some(mac), to_many: (rate > 0).then_some(rate) }
    }

    /// Did the configuration ask for a guard by name? Then a kernel that cannot do it is an error.
    pub(super) fn asks_for_guard(&self) -> bool {
        self.mac_spoof_check == Some(true) || self.bum_rate.is_some_and(|rate| rate > 0)
    }

    /// The overlay as this delegate makes it where the members are not known. Nobody tells the node where a MAC address lives: it learns, and what it does not
    /// know goes to every peer.
    pub(super) fn overlay(&self) -> Spec {
        Spec {
            vni: self.vni,
            port: self.port,
            underlay: self.underlay.clone(),
            is_ipv6: self.is_ipv6(),
            group: self.group,
            mtu: self.mtu,
            mac: None,
            learning: true,
            routed: false,
            ttl: 0,
            udp_checksum: true,
        }
    }

    /// The family that the tunnel's addresses must have; absent: whichever the underlay has.
    pub(super) fn is_ipv6(&self) -> Option<bool> {
        self.group.or(self.peers.first().copied()).map(|address| address.is_ipv6())
    }
}

/// What a plugin's configuration asks of the cluster: an overlay whose members nobody lists. `None` for another type, for one with
/// `peers` or `group`, and for a configuration that is wrong.
pub(crate) fn overlay_of(conf: &Object) -> Option<OverlayNeed> {
    if conf.text("type").ok().flatten().as_deref() != Some("vxlan") {
        return None;
    }
    let config = Config::read(conf).ok().filter(Config::is_managed)?;
    let underlay = Some(config.underlay).filter(|underlay| *underlay != Underlay::DefaultRoute);
    let Config { vni, port, mtu, shared_with, routing, .. } = config;
    Some(OverlayNeed { vni, port, underlay, mtu, shared_with, routing })
}

/// `sharedWith`: definitions as `namespace/name`.
fn shared_with(conf: &Object, reader: &mut ConfReader<'_>) -> Vec<NetRef> {
    const ALLOWED: &str = "the namespace and name of a definition, as \"shop/lan\"";
    let read = conf.decode("sharedWith", Allowed::list("a list of definitions, each as \"namespace/name\""));
    let texts: Vec<String> = reader.keep(read).unwrap_or_default();
    let mut shared = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let names = text.split_once('/').map(|(namespace, name)| (namespace.parse(), name.parse()));
        match names {
            Some((Ok(namespace), Ok(name))) => shared.push(NetRef { namespace, name }),
            _ => reader.refuse(Finding::new(format!("sharedWith[{i}]"), format_args!("{text:?}"), ALLOWED)),
        }
    }
    shared
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

fn peers(conf: &Object, reader: &mut ConfReader<'_>) -> Vec<IpAddr> {
    let texts: Vec<String> =
        reader.keep(conf.decode("peers", Allowed::list("a list of unicast IP addresses"))).unwrap_or_default();
    let mut peers: Vec<IpAddr> = Vec::with_capacity(texts.len());
    let mut once = HashSet::new();
    for (i, text) in texts.iter().enumerate() {
        let mut refuse =
            |allowed| reader.refuse(Finding::new(format!("peers[{i}]"), format_args!("{text:?}"), allowed));
        let Some(peer) = text.parse().ok().map(|peer: IpAddr| peer.to_canonical()).filter(is_unicast) else {
            refuse("a unicast IP address");
            continue;
        };
        // A vxlan device sends over one family.
        if peers.first().is_some_and(|first| first.is_ipv4() != peer.is_ipv4()) {
            refuse("an address of the same family as the others");
        } else if once.insert(peer) {
            peers.push(peer);
        }
    }
    peers
}

/// Frames to many must not become packets to even more, nor come back: no address of many hosts, none that means the node.
fn is_unicast(peer: &IpAddr) -> bool {
    let is_broadcast = matches!(peer, IpAddr::V4(v4) if v4.is_broadcast());
    // 0.0.0.0/8 is this very host (RFC 1122, 3.2.1.3).
    let is_this_host = matches!(peer, IpAddr::V4(v4) if v4.octets()[0] == 0);
    !(peer.is_multicast() || peer.is_unspecified() || peer.is_loopback() || is_broadcast || is_this_host)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;

    fn read(conf: &str) -> Result<Config, Vec<Finding>> {
        Config::read(&Object::parse(conf.as_bytes()).unwrap())
    }

    fn refusals(conf: &str) -> Vec<String> {
        let conf = Object::parse(conf.as_bytes()).unwrap();
        Builtin::Vxlan.validate(&conf).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn every_key_is_read() {
        let config = read(
            r#"{"vni":16777215,"port":8472,"underlay":"192.0.2.7/24","mtu":1400,"mode":"l2",
                "peers":["192.0.2.1","::ffff:192.0.2.2","192.0.2.1"]}"#,
        )
        .unwrap();
        assert_eq!((config.vni, config.port, config.mtu), (16_777_215, 8472, Some(1400)));
        assert_eq!(config.underlay, Underlay::Subnet("192.0.2.0/24".parse().unwrap()));
        assert_eq!(config.peers, ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!(config.is_ipv6(), Some(false));
        let bare = read(r#"{"vni":1}"#).unwrap();
        assert_eq!((bare.port, bare.underlay.clone(), bare.is_ipv6()), (4789, Underlay::DefaultRoute, None));
        assert_eq!(read(r#"{"vni":1,"group":"ff05::1"}"#).unwrap().is_ipv6(), Some(true));
        assert_eq!(read(r#"{"vni":1,"underlay":"eth1"}"#).unwrap().underlay, Underlay::Link("eth1".parse().unwrap()));
    }

    #[test]
    fn a_vni_is_required_and_has_24_bits() {
        let absent = "vni: missing, want an integer from 1 to 16777215; the webhook draws one when a definition without it is applied";
        for conf in ["{}", r#"{"vni":null}"#] {
            assert_eq!(refusals(conf), [absent]);
        }
        for bad in ["0", "16777216", "-1", "\"7\"", "1.5"] {
            let text = format!("vni: got {bad}, want an integer from 1 to 16777215");
            assert_eq!(refusals(&format!(r#"{{"vni":{bad}}}"#)), [text]);
        }
    }

    #[test]
    fn every_wrong_key_is_named() {
        for (conf, want) in [
            (r#""port":0"#, "port: got 0, want an integer from 1 to 65535"),
            (r#""port":65536"#, "port: got 65536, want an integer from 1 to 65535"),
            (r#""underlay":"10.0.0.0/33""#, "underlay: got \"10.0.0.0/33\", want an interface name, or a subnet"),
            (r#""underlay":"much-too-long-a-name""#, "underlay: got"),
            (r#""mode":"l3""#, "mode: got \"l3\", want \"l2\" without ipam.type: l3 routes addresses"),
            (
                r#""mode":"l3","ipam":{"type":"blocks","subnet":"10.0.0.0/24"},"peers":["192.0.2.1"]"#,
                "mode: got \"l3\", want \"l2\", or neither peers nor group",
            ),
            (r#""directRouting":true"#, "directRouting: got true, want false, or mode \"l3\""),
            (r#""directRouting":1"#, "directRouting: got 1"),
            (r#""isGateway":true"#, "isGateway: got true, want false without ipam.type"),
            (
                r#""isDefaultGateway":true,"mode":"l3","ipam":{"type":"blocks","subnet":"10.0.0.0/24"}"#,
                "isDefaultGateway: got true, want false with mode \"l3\"",
            ),
            (
                r#""isGateway":true,"group":"239.1.1.1","ipam":{"type":"blocks","subnet":"10.0.0.0/24"}"#,
                "isGateway: got true, want false, or neither peers nor group",
            ),
            (
                r#""isGateway":true,"ipam":{"type":"blocks","subnet":"10.0.0.0/31","exclude":["10.0.0.0"]}"#,
                "ipam.subnet: got 10.0.0.0/31, want an address for pods beside",
            ),
            (r#""ipMasq":true"#, "ipMasq: got true, want false, or isGateway"),
            (r#""openGateway":true"#, "openGateway: got true, want false, or isGateway"),
            (r#""ipMasqBackend":"pf""#, "ipMasqBackend: got \"pf\""),
            (r#""mode":"l4""#, "mode: got \"l4\", want one of l2, l3"),
            (r#""peers":"192.0.2.1""#, "peers: got \"192.0.2.1\", want a list"),
            (r#""peers":["192.0.2.1","node-2"]"#, "peers[1]: got \"node-2\", want a unicast IP address"),
            (r#""peers":["239.1.1.1"]"#, "peers[0]: got \"239.1.1.1\", want a unicast"),
            (r#""peers":["255.255.255.255"]"#, "peers[0]: got \"255.255.255.255\", want a unicast"),
            (r#""peers":["127.1.2.3"]"#, "peers[0]: got \"127.1.2.3\", want a unicast"),
            (r#""peers":["0.0.0.0"]"#, "peers[0]: got \"0.0.0.0\", want a unicast"),
            (r#""peers":["0.1.2.3"]"#, "peers[0]: got \"0.1.2.3\", want a unicast"),
            (r#""peers":["::1"]"#, "peers[0]: got \"::1\", want a unicast"),
            (r#""peers":["::"]"#, "peers[0]: got \"::\", want a unicast"),
            (r#""peers":["ff02::1"]"#, "peers[0]: got \"ff02::1\", want a unicast"),
            (r#""peers":["::ffff:255.255.255.255"]"#, "peers[0]: got \"::ffff:255.255.255.255\", want a unicast"),
            (r#""peers":["::ffff:127.0.0.1"]"#, "peers[0]: got \"::ffff:127.0.0.1\", want a unicast"),
            (r#""peers":["192.0.2.1","fd00::1"]"#, "peers[1]: got \"fd00::1\", want an address of the same family"),
            (r#""group":"192.0.2.1""#, "group: got \"192.0.2.1\", want a multicast IP address"),
            (r#""group":"239.1.1.1","peers":["192.0.2.1"]"#, "group cannot be combined with peers"),
            (
                r#""underlay":"fd00::/64","peers":["192.0.2.1"]"#,
                "underlay: got \"fd00::/64\", want a subnet of the family",
            ),
            (r#""macspoofchk":1"#, "macspoofchk: got 1"),
            (r#""bumRate":-1"#, "bumRate: got -1, want an integer from 0 to 10000000"),
            (r#""mtu":10"#, "mtu: got 10, want 0 for the default, or an integer from 68 to 65535"),
            (r#""runtimeConfig":{"mac":"1"}"#, "runtimeConfig.mac: got \"1\""),
        ] {
            let wrong = refusals(&format!(r#"{{"vni":1,{conf}}}"#));
            assert!(matches!(wrong.as_slice(), [one] if one.starts_with(want)), "{conf}: {wrong:?}");
        }
    }
}
