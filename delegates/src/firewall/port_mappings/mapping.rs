//! A port mapping, as the configuration and the rules know it.

use std::fmt;
use std::net::IpAddr;

use nix::libc;

use crate::nl::nft::Condition;

/// The port mappings of a pod, and what else must hold of a packet.
#[derive(Clone, Debug, PartialEq)]
pub struct PortMappings {
    /// `runtimeConfig.portMappings`, each once.
    pub mappings: Vec<Mapping>,
    /// Connections from the pod to its own mapped port, and from the node's 127.0.0.1, leave with the node's address, or
    /// the answers would pass the translation by.
    pub snat: bool,
    /// All connections through the mappings do.
    pub masquerade_all: bool,
    /// What else must hold of a packet, for IPv4.
    pub conditions_v4: Vec<Condition>,
    /// The same for IPv6.
    pub conditions_v6: Vec<Condition>,
}

/// One port of the node that leads to a port of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// The address of the node; unspecified is every address of that family, `None` of both.
    pub host_ip: Option<IpAddr>,
    /// The port of the node.
    pub host_port: u16,
    /// The port of the pod.
    pub container_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp = libc::IPPROTO_TCP as isize,
    /// UDP.
    Udp = libc::IPPROTO_UDP as isize,
    /// SCTP.
    Sctp = libc::IPPROTO_SCTP as isize,
}

impl Mapping {
    /// The one address that it is for.
    pub fn address(&self) -> Option<IpAddr> {
        self.host_ip.filter(|ip| !ip.is_unspecified())
    }

    /// Is it for that family?
    pub fn is_for(&self, ipv4: bool) -> bool {
        self.host_ip.is_none_or(|ip| ip.is_ipv4() == ipv4)
    }

    /// Would some packet meet both?
    pub fn overlaps(&self, other: &Self) -> bool {
        let both = [true, false].into_iter().any(|ipv4| self.is_for(ipv4) && other.is_for(ipv4));
        let apart = self.address().zip(other.address()).is_some_and(|(one, two)| one != two);
        (self.host_port, self.protocol) == (other.host_port, other.protocol) && both && !apart
    }
}

/// As `8080/tcp`.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        match self.address() {
            Some(ip) => write!(f, "{ip} {}/{protocol}", self.host_port),
            None => write!(f, "{}/{protocol}", self.host_port),
        }
    }
}
