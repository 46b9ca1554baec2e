//! What the kernel should hold for one attachment, as values: made by pure functions, brought about by [`crate::apply`].

use attachments::cni::result::CniResult;
use attachments::names::{IfName, Mac};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::nl::link::Link;
use crate::nl::route::{MAIN, Route};

/// A link that was made in a pod, as its record keeps it. A namespace path can be reused and its inode number too: a
/// link is the recorded one only when name apart everything is equal, for a pod may rename its links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkId {
    /// Name at the time of ADD.
    pub name: IfName,
    /// Index in the pod's namespace.
    pub index: u32,
    /// Kind as the kernel says it: "veth", "macvlan", "ipvlan".
    pub kind: String,
    /// Hardware address.
    pub mac: Mac,
}

impl LinkId {
    /// The identity of a link that was just made.
    pub fn of(name: &IfName, link: &Link) -> Self {
        let kind = link.kind.as_str().to_owned();
        // Every kind that we make has an Ethernet address.
        Self { name: name.clone(), index: link.index, kind, mac: link.mac.unwrap_or(Mac([0; 6])) }
    }

    /// Is it the recorded link, whatever its name is by now?
    pub fn is(&self, link: &Link) -> bool {
        link.index == self.index && link.kind.as_str() == self.kind && link.has_mac(self.mac)
    }
}

/// What a link in a pod should hold above the link layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Addressing {
    /// Written before the link goes up, in the pod's namespace.
    pub sysctls: Vec<Sysctl>,
    /// Addresses with their prefix length.
    pub addresses: Vec<IpNet>,
    /// Routes in the order of the result; the link that they lead through is filled in when it is there.
    pub routes: Vec<Route>,
}

/// One file below /proc/sys/net.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Path below /proc/sys/net, with slashes: interface names may hold dots.
    pub key: String,
    /// What is written.
    pub value: &'static str,
    /// False where a kernel may lack the key and the attachment works all the same.
    pub required: bool,
}

impl Sysctl {
    /// A setting without which the attachment would not do what was asked.
    pub fn required(key: String, value: &'static str) -> Self {
        Self { key, value, required: true }
    }

    /// A setting that a kernel may lack.
    pub fn optional(key: String, value: &'static str) -> Self {
        Self { key, value, required: false }
    }
}

impl Addressing {
    /// What a result says about `link`. A route without a gateway takes that of the family's first address; where there
    /// is none either, the destination is on the link. `accept_ra` is the configuration's word on router advertisements: without
    /// one, a link that was given IPv6 addresses makes no more of them itself.
    pub fn of(link: &IfName, result: &CniResult, accept_ra: Option<bool>) -> Self {
        let gateway = |v4: bool| result.ips.iter().filter_map(|ip| ip.gateway).find(|gw| gw.is_ipv4() == v4);
        let v6 = result.ips.iter().any(|ip| ip.address.addr().is_ipv6());
        let routes = result.routes.iter().map(|route| Route {
            gateway: route.gw.or_else(|| gateway(route.dst.addr().is_ipv4())),
            index: None,
            // Configurations say 0 for "no table".
            table: route.table.filter(|table| *table != 0).unwrap_or(MAIN),
            priority: route.priority,
            scope: route.scope,
            mtu: route.mtu,
            advmss: route.advmss,
            ..Route::new(route.dst.trunc(), 0)
        });
        let mut sysctls = if v6 { enable_ipv6(link) } else { Vec::new() };
        if !accept_ra.unwrap_or(!v6) {
            sysctls.extend(ADVERTISED.map(|key| Sysctl::optional(format!("ipv6/conf/{link}/{key}"), "0")));
        }
        Self { sysctls, addresses: result.ips.iter().map(|ip| ip.address).collect(), routes: routes.collect() }
    }

    /// Are there IPv6 addresses among them?
    pub fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|address| address.addr().is_ipv6())
    }
}

/// What a link takes from router advertisements: routes and settings, and addresses that it makes of their prefixes. Netlink tells
/// these settings and does not take them.
const ADVERTISED: [&str; 2] = ["accept_ra", "autoconf"];

/// Runtimes switch IPv6 off in pods of IPv4 clusters; an IPv6 address needs it on `lo` as well. Addresses outlive the
/// link's going down, as IPv4 ones do.
fn enable_ipv6(link: &IfName) -> Vec<Sysctl> {
    vec![
        Sysctl::required("ipv6/conf/lo/disable_ipv6".to_owned(), "0"),
        Sysctl::required(format!("ipv6/conf/{link}/disable_ipv6"), "0"),
        Sysctl::required(format!("ipv6/conf/{link}/keep_addr_on_down"), "1"),
    ]
}

#[cfg(test)]
mod tests {
    use attachments::cni::version::Version;

    use super::*;

    fn addressing_with(result: &str, accept_ra: Option<bool>) -> Addressing {
        let result = CniResult::parse(result.as_bytes(), Version::NEWEST).unwrap();
        Addressing::of(&"net1".parse().unwrap(), &result, accept_ra)
    }

    fn addressing(result: &str) -> Addressing {
        addressing_with(result, None)
    }

    #[test]
    fn a_route_takes_the_gateway_of_its_family() {
        let plan = addressing(
            r#"{"ips":[{"address":"10.0.0.2/24"},{"address":"10.1.0.2/24","gateway":"10.1.0.1"},{"address":"fd00::2/64"}],
                "routes":[{"dst":"10.9.0.7/16"},{"dst":"0.0.0.0/0","gw":"10.0.0.9","priority":5,"table":7,"mtu":1400,"advmss":1300},
                {"dst":"fd09::/64"},{"dst":"10.8.0.0/16","scope":253}]}"#,
        );
        let via: Vec<_> = plan
            .routes
            .iter()
            .map(|route| (route.destination.to_string(), route.gateway.map(|gw| gw.to_string()), route.scope))
            .collect();
        let through = |gw: &str| Some(gw.to_owned());
        assert_eq!(
            via,
            [
                ("10.9.0.0/16".to_owned(), through("10.1.0.1"), None),
                ("0.0.0.0/0".to_owned(), through("10.0.0.9"), None),
                ("fd09::/64".to_owned(), None, None),
                ("10.8.0.0/16".to_owned(), through("10.1.0.1"), Some(253)),
            ]
        );
        let second = &plan.routes[1];
        assert_eq!((second.priority, second.table, second.mtu, second.advmss), (Some(5), 7, Some(1400), Some(1300)));
    }

    #[test]
    fn ipv6_is_switched_on_only_for_an_ipv6_address() {
        assert_eq!(addressing(r#"{"ips":[{"address":"10.0.0.2/24"}]}"#).sysctls, []);
        let plan = addressing(r#"{"ips":[{"address":"fd00::2/64"}]}"#);
        assert!(plan.has_ipv6() && plan.sysctls[..3].iter().all(|sysctl| sysctl.required), "{plan:?}");
    }

    #[test]
    fn a_link_with_ipv6_addresses_makes_none_from_advertisements_unless_the_definition_says_so() {
        let off = |ips: &str, accept_ra: Option<bool>| {
            let sysctls = addressing_with(&format!(r#"{{"ips":[{ips}]}}"#), accept_ra).sysctls;
            let keys = ["ipv6/conf/net1/accept_ra", "ipv6/conf/net1/autoconf"];
            keys.iter().all(|key| sysctls.contains(&Sysctl::optional((*key).to_owned(), "0")))
        };
        let (v4, v6) = (r#"{"address":"10.0.0.2/24"}"#, r#"{"address":"fd00::2/64"}"#);
        let said = [v6, v4, ""].map(|ips| [None, Some(true), Some(false)].map(|accept_ra| off(ips, accept_ra)));
        assert_eq!(said, [[true, false, true], [false, false, true], [false, false, true]]);
    }
}
