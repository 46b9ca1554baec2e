//! Who has a host port already. The networks of a pod beside its default one get only what nobody has.
//!
//! A mapping goes before whatever listens on the node: the rules decide in the first hook that a packet meets. So a port
//! of the kubelet's would lead into a pod without a word.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Instant;

use attachments::finding::Finding;
use attachments::names::{IfName, NetworkName};
use nix::libc;

use super::config;
use crate::call::{Call, Node};
use crate::error::{Error, Result};
use crate::firewall::port_mappings::{Mapping, Protocol, Rival, Rules};
use crate::nl::sockets::{Listener, Sockets};

/// The host ports of one pod, network by network.
#[derive(Debug, Default)]
pub struct HostPorts {
    claimed: Vec<Claim>,
}

/// A port that a network of the pod will get.
#[derive(Debug)]
struct Claim {
    mapping: Mapping,
    network: NetworkName,
    ifname: IfName,
}

/// Who has a port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holder<'a> {
    /// `reservedPorts`.
    Reserved(&'a RangeInclusive<u16>),
    /// A network of the same pod.
    Network(&'a NetworkName, &'a IfName),
    /// Something that listens on the node.
    Node(SocketAddr),
    /// A container, by the comment of its rule.
    Container(&'a str),
    /// Rules of the same container, which another network of it has made.
    SamePod,
}

impl HostPorts {
    /// Before anything is attached: claims the `portMappings` of a call for a plugin that reads them, in process or not.
    /// Further networks are refused what somebody has; the default network gets what the reference plugin would give it.
    pub fn claim(&mut self, node: &Node<'_>, call: &Call<'_>) -> Result<()> {
        let ifname = call.point()?.ifname;
        let read = config::mappings_of(call.conf);
        let mappings = if call.origin.is_default { read.unwrap_or_default() } else { read.map_err(Error::Config)? };
        if !call.origin.is_default && !mappings.is_empty() {
            let rules = Rules::present(node.deadline)?;
            let listeners = listeners(&mappings, node.deadline)?;
            let container = call.point()?.container;
            for (i, mapping) in mappings.iter().enumerate() {
                let holder = reserved(mapping, &node.reserved.ports)
                    .or_else(|| self.network(mapping, ifname))
                    .or_else(|| listening(mapping, &listeners))
                    .or_else(|| rules.owner(mapping, container).map(Holder::Container));
                if let Some(holder) = holder {
                    return Err(refused(i, mapping, &holder).into());
                }
            }
        }
        let claim = |mapping| Claim { mapping, network: call.network.clone(), ifname: ifname.clone() };
        self.claimed.extend(mappings.into_iter().map(claim));
        Ok(())
    }

    /// The `portMappings` of a call whose attachment is in place.
    pub fn note(&mut self, call: &Call<'_>) {
        let Ok(point) = call.point() else { return };
        let claim = |mapping| Claim { mapping, network: call.network.clone(), ifname: point.ifname.clone() };
        self.claimed.extend(config::mappings_of(call.conf).unwrap_or_default().into_iter().map(claim));
    }

    /// Another network of the pod. Several plugins of one chain are told of the same mappings.
    fn network(&self, mapping: &Mapping, ifname: &IfName) -> Option<Holder<'_>> {
        let has = |claim: &&Claim| claim.ifname != *ifname && claim.mapping.overlaps(mapping);
        self.claimed.iter().find(has).map(|claim| Holder::Network(&claim.network, &claim.ifname))
    }
}

/// The finding about one of `portMappings`.
pub(super) fn refused(index: usize, mapping: &Mapping, holder: &Holder<'_>) -> Finding {
    let path = format!("runtimeConfig.portMappings[{index}].hostPort");
    Finding::new(path, mapping, format!("a host port that nobody has: {holder}"))
}

/// The error about one of `portMappings` whose port rules lead elsewhere. The default network's is the kernel's, as the
/// reference plugin would meet it.
pub(super) fn taken(index: usize, mapping: &Mapping, rival: Rival<'_>, is_default: bool) -> Error {
    let owner = match rival {
        Rival::SamePod => return refused(index, mapping, &Holder::SamePod).into(),
        Rival::Container(owner) if !is_default => return refused(index, mapping, &Holder::Container(owner)).into(),
        Rival::Container(owner) => owner,
    };
    let want = format!("{owner} has it, want a port that no other container has");
    Error::Kernel {
        op: format!("map host port {mapping}"),
        errno: libc::EADDRINUSE,
        detail: format!("runtimeConfig.portMappings[{index}].hostPort: {want}"),
    }
}

impl fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved(range) if range.start() == range.end() => {
                write!(f, "`reservedPorts` of the node holds {}", range.start())
            }
            Self::Reserved(range) => write!(f, "`reservedPorts` of the node holds {}-{}", range.start(), range.end()),
            Self::Network(network, ifname) => write!(f, "network {network} ({ifname}) of this pod has it"),
            Self::Node(at) => write!(f, "the node listens on {at}"),
            Self::Container(container) => write!(f, "container {container} has it"),
            Self::SamePod => f.write_str("another network of this pod has it"),
        }
    }
}

fn reserved<'a>(mapping: &Mapping, reserved: &'a [RangeInclusive<u16>]) -> Option<Holder<'a>> {
    reserved.iter().find(|range| range.contains(&mapping.host_port)).map(Holder::Reserved)
}

/// Who listens on the ports, by protocol: a question each for the protocols that are mapped.
fn listeners(mappings: &[Mapping], deadline: Instant) -> Result<Vec<(Protocol, Listener)>> {
    let mut found = Vec::new();
    let mut sockets = Sockets::open(deadline)?;
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let mapped = mappings.iter().filter(|mapping| mapping.protocol == protocol);
        let ports: Vec<u16> = mapped.map(|mapping| mapping.host_port).collect();
        if !ports.is_empty() {
            let listening = sockets.listeners(protocol as u8, &ports)?;
            found.extend(listening.into_iter().map(|listener| (protocol, listener)));
        }
    }
    Ok(found)
}

fn listening(mapping: &Mapping, listeners: &[(Protocol, Listener)]) -> Option<Holder<'static>> {
    let hears = |(protocol, listener): &&(Protocol, Listener)| {
        let ip = listener.at.ip();
        let is_of_family = mapping.is_for(ip.is_ipv4()) || listener.is_dual;
        // The one address that is told of an SCTP socket may be one of many.
        let is_anywhere = ip.is_unspecified() || *protocol == Protocol::Sctp;
        let is_here = is_anywhere || mapping.address().is_none_or(|address| address == ip);
        (*protocol, listener.at.port()) == (mapping.protocol, mapping.host_port) && is_of_family && is_here
    };
    listeners.iter().find(hears).map(|(_, listener)| Holder::Node(listener.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> Mapping {
        let conf = format!(r#"{{"runtimeConfig":{{"portMappings":[{{"containerPort":1,{text}}}]}}}}"#);
        let conf = attachments::cni::object::Object::parse(conf.as_bytes()).unwrap();
        config::mappings_of(&conf).unwrap().remove(0)
    }

    fn heard(mapped: &str, protocol: Protocol, at: &str, is_dual: bool) -> bool {
        listening(&mapping(mapped), &[(protocol, Listener { at: at.parse().unwrap(), is_dual })]).is_some()
    }

    #[test]
    fn a_listener_has_its_port_on_its_address() {
        const ANY: &str = r#""hostPort":8080"#;
        const ANY4: &str = r#""hostPort":8080,"hostIP":"0.0.0.0""#;
        const ANY6: &str = r#""hostPort":8080,"hostIP":"::""#;
        const ONE4: &str = r#""hostPort":8080,"hostIP":"10.0.0.1""#;
        const ONE6: &str = r#""hostPort":8080,"hostIP":"fd00::1""#;
        for (at, is_dual, by) in [
            ("127.0.0.1:8080", false, [true, true, false, false, false]),
            ("0.0.0.0:8080", false, [true, true, false, true, false]),
            ("10.0.0.1:8080", false, [true, true, false, true, false]),
            ("10.0.0.2:8080", false, [true, true, false, false, false]),
            ("[::]:8080", true, [true, true, true, true, true]),
            ("[::]:8080", false, [true, false, true, false, true]),
            ("[fd00::1]:8080", false, [true, false, true, false, true]),
            ("[::1]:8080", false, [true, false, true, false, false]),
            ("0.0.0.0:8081", false, [false; 5]),
        ] {
            let found = [ANY, ANY4, ANY6, ONE4, ONE6].map(|mapped| heard(mapped, Protocol::Tcp, at, is_dual));
            assert_eq!(found, by, "{at} {is_dual}");
        }
        assert!(!heard(ANY, Protocol::Udp, "0.0.0.0:8080", false));
        let sctp = r#""hostPort":9,"protocol":"SCTP","hostIP":"10.0.0.1""#;
        assert!(heard(sctp, Protocol::Sctp, "10.0.0.2:9", false), "one of the socket's addresses is told");
    }

    #[test]
    fn reserved_ports_are_single_or_a_range() {
        let ports = [10250..=10250, 30000..=32767];
        let told = |port: u16| {
            let mapping = mapping(&format!(r#""hostPort":{port},"protocol":"udp""#));
            reserved(&mapping, &ports).map(|holder| refused(1, &mapping, &holder).to_string())
        };
        let path = "runtimeConfig.portMappings[1].hostPort";
        let want =
            format!("{path}: got 10250/udp, want a host port that nobody has: `reservedPorts` of the node holds 10250");
        assert_eq!(told(10250), Some(want));
        let want = format!(
            "{path}: got 32767/udp, want a host port that nobody has: `reservedPorts` of the node holds 30000-32767"
        );
        assert_eq!(told(32767), Some(want));
        assert_eq!((told(29999), told(32768)), (None, None));
    }
}
