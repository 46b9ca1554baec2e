//! flannel's subnet file: what flannel has given to this node.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use ipnet::IpNet;

use crate::error::{Error, Result};

/// The networks of the cluster and this node's part of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Subnets {
    /// FLANNEL_NETWORK and FLANNEL_IPV6_NETWORK: one of the two at least, each a list.
    pub networks: Vec<IpNet>,
    /// FLANNEL_SUBNET and FLANNEL_IPV6_SUBNET: one of the two at least.
    pub subnets: Vec<IpNet>,
    /// FLANNEL_MTU in bytes.
    pub mtu: u32,
    /// FLANNEL_IPMASQ: flannel masquerades itself.
    pub masquerades: bool,
}

impl Subnets {
    /// Reads the file. [`Error::NotReady`] when it is not there yet, or does not say enough.
    pub fn read(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => {
                Self::parse(&text).map_err(|what| Error::NotReady(format!("subnetFile: {} {what}", path.display())))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::NotReady(format!("subnetFile: {} is not there: flannel has no subnet yet", path.display())))
            }
            Err(error) => Err(Error::io(format!("read {}", path.display()))(error)),
        }
    }

    /// A file's text. The error says which variable is wrong, and never what is in a file that may be another.
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let value = |name: &str| {
            let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            // What is said last counts.
            values.next_back().map(str::trim).filter(|value| !value.is_empty())
        };
        let networks = |name: &str| -> std::result::Result<Vec<IpNet>, String> {
            let parts = value(name).into_iter().flat_map(|list| list.split(',')).map(str::trim);
            let parsed: std::result::Result<Vec<IpNet>, _> =
                parts.map(|part| part.parse::<IpNet>().map(|net| net.trunc())).collect();
            let mut networks = parsed.map_err(|_| format!("has no network in {name}"))?;
            networks.dedup();
            Ok(networks)
        };
        let one = |name: &str| match networks(name)?.as_slice() {
            [] => Ok(None),
            [subnet] => Ok(Some(*subnet)),
            _ => Err(format!("has several subnets in {name}")),
        };
        let either = |name: &str, is_there: bool| {
            if is_there { Ok(()) } else { Err(format!("has neither FLANNEL_{name} nor FLANNEL_IPV6_{name}")) }
        };
        let all = [networks("FLANNEL_NETWORK")?, networks("FLANNEL_IPV6_NETWORK")?].concat();
        either("NETWORK", !all.is_empty())?;
        let subnets: Vec<_> = [one("FLANNEL_SUBNET")?, one("FLANNEL_IPV6_SUBNET")?].into_iter().flatten().collect();
        either("SUBNET", !subnets.is_empty())?;
        Ok(Self {
            networks: all,
            subnets,
            mtu: value("FLANNEL_MTU").and_then(|mtu| mtu.parse().ok()).ok_or("has no number in FLANNEL_MTU")?,
            masquerades: value("FLANNEL_IPMASQ").ok_or("has no FLANNEL_IPMASQ")? == "true",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

    #[test]
    fn flannels_file_is_read() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let one = Subnets::parse(FILE).unwrap();
        let want = Subnets {
            networks: vec![net("10.244.0.0/16")],
            subnets: vec![net("10.244.1.0/24")],
            mtu: 1450,
            masquerades: true,
        };
        assert_eq!(one, want);
        let both = FILE.replace("10.244.0.0/16", "10.244.0.0/16,10.245.0.0/16").replace("=true", "=false")
            + "FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n";
        let both = Subnets::parse(&both).unwrap();
        assert_eq!(both.networks, [net("10.244.0.0/16"), net("10.245.0.0/16"), net("fd00::/48")]);
        assert_eq!(both.subnets, [net("10.244.1.0/24"), net("fd00:0:0:1::/64")]);
        assert!(!both.masquerades);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_and_nothing_is_quoted() {
        for (from, to, want) in [
            ("FLANNEL_NETWORK=10.244.0.0/16", "", "has neither FLANNEL_NETWORK nor FLANNEL_IPV6_NETWORK"),
            ("10.244.0.0/16", "secret", "has no network in FLANNEL_NETWORK"),
            ("FLANNEL_SUBNET=10.244.1.1/24", "FLANNEL_SUBNET=", "has neither FLANNEL_SUBNET nor FLANNEL_IPV6_SUBNET"),
            ("10.244.1.1/24", "10.244.1.1/24,10.244.2.1/24", "has several subnets in FLANNEL_SUBNET"),
            ("1450", "-1", "has no number in FLANNEL_MTU"),
            ("FLANNEL_IPMASQ=true", "", "has no FLANNEL_IPMASQ"),
        ] {
            assert_eq!(Subnets::parse(&FILE.replace(from, to)), Err(want.to_owned()));
        }
        let missing = Subnets::read(Path::new("/nonexistent/subnet.env")).unwrap_err();
        assert!(matches!(missing, Error::NotReady(_)), "{missing}");
    }
}
