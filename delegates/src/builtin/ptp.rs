//! `ptp`: a veth between the pod and the node, which routes to each pod by itself.
//!
//! Everything of the pod, its own subnet too, goes through the gateway: the node's end holds the gateway's address with
//! full length, and the node has a route to the pod's address alone. So an address can be on one pod only.

use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Dns, Interface, Ip};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::libc;

use super::conf_reader::ConfReader;
use super::delegate::{Context, Delegate, Reading, Undo};
use super::veth::{self, NewVeth, Veth};
use super::{Attached, check, mac_address};
use crate::apply::{self, is};
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::firewall::masquerade;
use crate::host::Host;
use crate::ipam::{self, Leased};
use crate::nl::route::{MAIN, Route, RouteFilter};
use crate::node_networks::{self, Claim};
use crate::ownership::Ownership;
use crate::sandbox::Sandbox;
use crate::spec::{Addressing, Sysctl};

/// Where the pod's link stands among the interfaces of the result: host's end, pod's end.
const POD_END: i64 = 1;

/// The configuration of a ptp attachment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// Traffic from the pod to elsewhere leaves with the node's address.
    pub ip_masq: bool,
    /// MTU of both ends.
    pub mtu: Option<u32>,
    /// `dns`; wins over the IPAM's when any field is set.
    pub dns: Dns,
}

const KEYS: [&str; 6] = ["ipMasq", "ipMasqBackend", "mtu", "ipam", "acceptRA", "dns"];

impl Config {
    pub(super) fn read(conf: &Object) -> Reading<Self> {
        let mut reader = ConfReader::of(conf);
        let config = Self { ip_masq: reader.flag("ipMasq"), mtu: reader.mtu(), dns: reader.dns() };
        reader.masquerade_backend();
        reader.addresses();
        reader.finish(config)
    }
}

/// The delegate.
pub(super) struct Ptp;

impl Delegate for Ptp {
    const TYPE: &'static str = "ptp";
    const KEYS: &'static [&'static str] = &KEYS;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    /// A tenant's addresses take nothing that the node reaches. What is known now is judged now; ADD judges all of it.
    fn admit(_config: Result<&Config>, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        let of = |seen: ipam::Foreseen| [seen.gateway.map(Claim::End), seen.address.map(Claim::Pod)];
        let claims: Vec<Claim> = ipam::foresee(call)?.into_iter().flat_map(of).flatten().collect();
        node_networks::refuse(host, &claims, None)
    }

    fn add(config: &Config, cx: Context<'_, '_>, leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let mut result = leased.result;
        let ends = ends(&mut result)?;
        if call.origin.is_tenants {
            let claims: Vec<Claim> =
                ends.iter().flat_map(|end| [Claim::End(end.gateway), Claim::Pod(end.pod.addr())]).collect();
            node_networks::refuse(host, &claims, None)?;
        }
        let port = NewVeth {
            bridge: None,
            host_name: veth::host_name(call.network, point)?,
            ifname: point.ifname,
            mtu: config.mtu,
            mac: leased.mac.map_or_else(mac_address::random, Ok)?,
            group: point.group,
            flags: None,
        };
        let veth = veth::create(host, sandbox, &port)?;
        let finished =
            reach(host, &veth, &ends).and_then(|()| configure(sandbox, point, &veth, &ends, &result)).and_then(|()| {
                let addresses: Vec<_> = ends.iter().map(|end| end.pod).collect();
                veth::masquerade(host, call, point, config.ip_masq, &addresses)
            });
        if let Err(error) = finished {
            // What it says about the cause is the first error; DEL does all of this again.
            let _ = veth::del(host, call, point);
            return Err(error);
        }
        let pod = Interface {
            name: point.ifname.to_string(),
            mac: veth.pod.mac.to_string(),
            sandbox: point.netns.to_owned(),
            ..Interface::default()
        };
        result.interfaces = vec![veth.host, pod];
        if config.dns != Dns::default() {
            result.dns = config.dns.clone();
        }
        Ok(Attached { result, links: vec![veth.pod] })
    }

    fn del(cx: Undo<'_, '_>) -> Result<()> {
        veth::del(cx.host, cx.call, cx.point)
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { host, sandbox, call, point } = cx;
        let expected = check::expected(call)?;
        let pod = check::pod_link(sandbox, point, expected, Some("veth"))?;
        check::is_up(&pod)?;
        let end = check::host_end(host, expected, &pod)?;
        check::addressing(sandbox, &pod, expected)?;
        let on_pod = |ip: &&Ip| ip.interface == Some(POD_END);
        let addresses: Vec<IpNet> = expected.ips.iter().filter(on_pod).map(|ip| ip.address).collect();
        let filter = RouteFilter { index: Some(end.index), ..RouteFilter::default() };
        let held = host.netlink()?.routes(filter)?;
        for address in &addresses {
            if !held.iter().any(|route| route.destination == IpNet::from(address.addr())) {
                let text = format!("the node has no route to {} through {}", address.addr(), end.name);
                return Err(check::differs(text));
            }
        }
        let on_end = host.netlink()?.addresses(Some(end.index))?;
        let in_pod = sandbox.netlink.routes(RouteFilter { index: Some(pod.index), ..RouteFilter::default() })?;
        let mut gateways = Vec::new();
        for ip in expected.ips.iter().filter(on_pod) {
            let Some(gateway) = ip.gateway else { continue };
            if !on_end.iter().any(|address| address.net == IpNet::from(gateway)) {
                return Err(check::differs(format!("gateway {gateway} is missing on link {} of the host", end.name)));
            }
            // In whichever table: a plugin behind in the chain may have moved them.
            let is_there = |wanted: &Route| {
                in_pod.iter().any(|held| held.destination == wanted.destination && held.gateway == wanted.gateway)
            };
            let wanted = through_gateway(&Ends { pod: ip.address, gateway }, pod.index);
            if let Some(lost) = wanted.iter().find(|wanted| !is_there(wanted)) {
                let via = lost.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                return Err(check::differs(format!("route {}{via} is missing in the pod", lost.destination)));
            }
            gateways.push(gateway);
        }
        check::forwarding(&gateways)?;
        if config.ip_masq {
            masquerade::check(call.network, point.container, point.ifname, &addresses, call.saved, host.node.deadline)?;
        }
        Ok(())
    }

    fn gc(host: &mut Host<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
        veth::gc(host, call, ownership)
    }

    /// The kernel has what a veth and its masquerade need.
    fn status(config: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        veth::status(host, config.ip_masq)
    }
}

/// The two addresses of one family or subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// The pod's, with the prefix length of its subnet.
    pub pod: IpNet,
    /// The node's.
    pub gateway: IpAddr,
}

/// What IPAM gave, as ends; the result's addresses then name the pod's link.
fn ends(result: &mut CniResult) -> Result<Vec<Ends>> {
    let each = |ip: &mut Ip| {
        ip.interface = Some(POD_END);
        let pod = ip.address;
        match ip.gateway {
            Some(gateway) if gateway.is_ipv4() == pod.addr().is_ipv4() => Ok(Ends { pod, gateway }),
            Some(gateway) => Err(Error::Addresses(format!("IPAM gave {pod} a gateway of the other family, {gateway}"))),
            None => Err(Error::Addresses(format!("IPAM gave {pod} no gateway; the node's end of a ptp needs one"))),
        }
    };
    result.ips.iter_mut().map(each).collect()
}

/// The node's end: the gateways' addresses, the routes to the pod, forwarding.
fn reach(host: &mut Host<'_>, veth: &Veth, ends: &[Ends]) -> Result<()> {
    let gateways: Vec<IpAddr> = ends.iter().map(|end| end.gateway).collect();
    host.forward(&gateways)?;
    let netlink = host.netlink()?;
    for end in ends {
        // Nobody else is on this wire who could hold the address: it is usable at once.
        let added = netlink.add_address(veth.host_index, IpNet::from(end.gateway), true);
        // Addresses of one subnet share their gateway.
        if !is(&added, Errno::EEXIST) {
            added?;
        }
        let scope = Some(libc::RT_SCOPE_HOST);
        let route = Route { scope, ..Route::new(IpNet::from(end.pod.addr()), veth.host_index) };
        let claimed = netlink.claim_route(&route);
        if is(&claimed, Errno::EEXIST) {
            return Err(taken(netlink, end.pod.addr())?);
        }
        claimed?;
    }
    Ok(())
}

/// Another pod, or the node itself, is at this address already: a second route to it would never be used.
fn taken(netlink: &mut crate::nl::Netlink, address: IpAddr) -> Result<Error> {
    let filter = RouteFilter { ipv4: Some(address.is_ipv4()), table: Some(MAIN), index: None };
    let held = netlink.routes(filter)?.into_iter().find(|route| route.destination == IpNet::from(address));
    let link = held.and_then(|route| route.index).map(|index| netlink.link_by_index(index)).transpose()?.flatten();
    let through = link.map_or_else(|| "another link".to_owned(), |link| link.name);
    Ok(Error::Addresses(format!(
        "address {address} is routed through {through} of the node already; want one that nothing else has"
    )))
}

/// The pod's end. The route that the kernel makes of an address says that its subnet is on the wire; only the gateway is.
pub(super) fn configure(
    sandbox: &mut Sandbox,
    point: &Point<'_>,
    veth: &Veth,
    ends: &[Ends],
    result: &CniResult,
) -> Result<()> {
    let index = veth.pod.index;
    let mut wanted = Addressing::of(point.ifname, result, sandbox.accept_ra);
    let routes = std::mem::take(&mut wanted.routes);
    if wanted.has_ipv6() {
        // Detection of duplicates would take a second, on a wire with nobody else.
        wanted.sysctls.push(Sysctl::optional(format!("ipv6/conf/{}/accept_dad", point.ifname), "0"));
    }
    apply::configure(sandbox, index, &wanted)?;
    if wanted.has_ipv6() {
        // Without detection too, the kernel takes a moment to make an address one that routes may name as their source.
        apply::settle(sandbox, index)?;
    }
    for end in ends {
        // Whoever made it, the kernel's protocol and metric included.
        sandbox.netlink.delete_route(&Route { protocol: libc::RTPROT_UNSPEC, ..Route::new(end.pod.trunc(), index) })?;
    }
    let through: Vec<Route> = ends.iter().flat_map(|end| through_gateway(end, index)).collect();
    apply::add_routes(sandbox, index, &through)?;
    apply::add_routes(sandbox, index, &routes)
}

/// The gateway is on the wire, and the subnet behind it.
fn through_gateway(end: &Ends, index: u32) -> Vec<Route> {
    let source = Some(end.pod.addr());
    let to_gateway = Route { source, ..Route::new(IpNet::from(end.gateway), index) };
    let to_subnet = Route { source, gateway: Some(end.gateway), ..Route::new(end.pod.trunc(), index) };
    // An address of full length is its own subnet.
    let is_alone = end.pod.prefix_len() == end.pod.max_prefix_len();
    if is_alone { vec![to_gateway] } else { vec![to_gateway, to_subnet] }
}

#[cfg(test)]
mod tests {
    use attachments::cni::version::Version;

    use super::*;
    use crate::builtin::Builtin;

    fn planned(ipam: &str) -> Result<Vec<String>> {
        let mut result = CniResult::parse(ipam.as_bytes(), Version::NEWEST).unwrap();
        let words = |route: Route| {
            let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            format!("{}{via} src {}", route.destination, route.source.unwrap())
        };
        Ok(ends(&mut result)?.iter().flat_map(|end| through_gateway(end, 1)).map(words).collect())
    }

    #[test]
    fn everything_goes_through_the_gateway() {
        let routes = planned(
            r#"{"ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"},{"address":"fd00::5/64","gateway":"fd00::1"},
                {"address":"10.1.0.5/32","gateway":"169.254.1.1"}]}"#,
        );
        let want = [
            "10.0.0.1/32 src 10.0.0.5",
            "10.0.0.0/24 via 10.0.0.1 src 10.0.0.5",
            "fd00::1/128 src fd00::5",
            "fd00::/64 via fd00::1 src fd00::5",
            "169.254.1.1/32 src 10.1.0.5",
        ];
        assert_eq!(routes.unwrap(), want);
    }

    #[test]
    fn an_address_without_a_gateway_of_its_family_is_refused() {
        for (ips, want) in [
            (r#"{"ips":[{"address":"10.0.0.5/24"}]}"#, "no gateway"),
            (r#"{"ips":[{"address":"10.0.0.5/24","gateway":"fd00::1"}]}"#, "other family"),
        ] {
            let error = planned(ips).unwrap_err();
            assert!(matches!(&error, Error::Addresses(text) if text.contains(want)), "{error}");
        }
    }

    #[test]
    fn every_key_is_read_and_every_wrong_one_named() {
        let conf = r#"{"ipMasq":true,"ipMasqBackend":"iptables","mtu":1400,"dns":{"domain":"d"},"ipam":{"type":"x"}}"#;
        let config = Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap();
        assert_eq!((config.ip_masq, config.mtu, config.dns.domain.as_deref()), (true, Some(1400), Some("d")));
        let wrong = Object::parse(br#"{"ipMasq":1,"ipMasqBackend":"pf","mtu":1,"dns":1}"#).unwrap();
        let findings = Builtin::Ptp.validate(&wrong);
        let paths: Vec<&str> = findings.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["ipMasq", "mtu", "dns", "ipMasqBackend", "ipam.type"]);
    }
}
