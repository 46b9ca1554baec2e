//! The addresses by which the node is part of the cluster. The plugin keeps pods off the links that lead there.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIVersions;
use meta_cni::cluster::wire::NodeAddresses;
use tokio::net::lookup_host;

/// `status.hostIPs` of the agent's pod, joined by commas: InternalIPs of the node, one for each family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeIps(pub Vec<IpAddr>);

impl FromStr for NodeIps {
    type Err = Infallible;

    /// The kubelet fills the variable, and leaves it empty where it knows no address, so a bad value is skipped and no error.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.split(',').filter_map(|ip| ip.trim().parse().ok()).collect()))
    }
}

/// What is known of the addresses.
#[derive(Clone, Debug)]
pub struct Addresses {
    internal_ips: Arc<Mutex<Vec<IpAddr>>>,
    /// The host that the client connects to: an address or a name.
    host: String,
    api_servers: Arc<Mutex<Vec<IpAddr>>>,
}

impl Addresses {
    /// The addresses that the flags give.
    pub fn new(NodeIps(internal_ips): NodeIps, host: &str) -> Self {
        // A URL has brackets around an IPv6 address.
        let host = host.trim_matches(['[', ']']).to_owned();
        let api_servers = host.parse().into_iter().collect();
        let internal_ips = Arc::new(Mutex::new(internal_ips));
        Self { internal_ips, host, api_servers: Arc::new(Mutex::new(api_servers)) }
    }

    /// The Node object says these.
    pub fn node_has(&self, ips: &[IpAddr]) {
        ips.clone_into(&mut self.internal_ips.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All known addresses, for an answer.
    pub fn known(&self) -> NodeAddresses {
        let api_servers = self.api_servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let internal_ips = self.internal_ips.lock().unwrap_or_else(PoisonError::into_inner).clone();
        NodeAddresses { internal_ips, api_servers }
    }

    /// Learns the API server's own addresses: the client's address may be a Service's, to which no link leads.
    pub async fn learn(&self, versions: &APIVersions) {
        let mut all: Vec<IpAddr> = match self.host.parse() {
            Ok(address) => vec![address],
            Err(_) => {
                lookup_host((self.host.as_str(), 0)).await.into_iter().flatten().map(|found| found.ip()).collect()
            }
        };
        all.extend(told(versions));
        all.sort();
        all.dedup();
        *self.api_servers.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

/// The addresses at which the server listens, by its own word.
fn told(versions: &APIVersions) -> impl Iterator<Item = IpAddr> {
    versions.server_address_by_client_cidrs.iter().filter_map(|one| {
        let text = one.server_address.as_str();
        text.parse::<SocketAddr>().map(|with_port| with_port.ip()).or_else(|_| text.parse()).ok()
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ServerAddressByClientCIDR;

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_the_kubelet_fills_in_is_read_and_what_is_no_address_is_passed_over() {
        let read = |text: &str| text.parse::<NodeIps>().unwrap().0;
        assert_eq!(read("10.0.0.5,fd00::5"), ips(&["10.0.0.5", "fd00::5"]));
        assert_eq!(read(""), ips(&[]));
        assert_eq!(read(" 10.0.0.5, n1"), ips(&["10.0.0.5"]));
    }

    #[test]
    fn the_api_server_is_where_the_client_finds_it_and_where_it_says_that_it_is() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let one = |server_address: &str| ServerAddressByClientCIDR {
            client_cidr: "0.0.0.0/0".into(),
            server_address: server_address.into(),
        };
        let servers = ["10.0.0.1:6443", "[fd00::1]:6443", "10.0.0.2", "api.example:6443", "10.96.0.1:443"];
        let versions =
            APIVersions { server_address_by_client_cidrs: servers.map(one).into(), ..APIVersions::default() };
        for (host, first, then) in [
            ("10.96.0.1", &["10.96.0.1"][..], &["10.0.0.1", "10.0.0.2", "10.96.0.1", "fd00::1"][..]),
            ("[fd00::9]", &["fd00::9"], &["10.0.0.1", "10.0.0.2", "10.96.0.1", "fd00::1", "fd00::9"]),
            ("", &[], &["10.0.0.1", "10.0.0.2", "10.96.0.1", "fd00::1"]),
        ] {
            let addresses = Addresses::new(NodeIps(ips(&["10.0.0.5"])), host);
            let known = NodeAddresses { internal_ips: ips(&["10.0.0.5"]), api_servers: ips(first) };
            assert_eq!(addresses.known(), known, "{host}");
            runtime.block_on(addresses.learn(&versions));
            assert_eq!(addresses.known().api_servers, ips(then), "{host}");
        }
    }
}
