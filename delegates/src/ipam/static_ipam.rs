//! `static`: the addresses that the configuration or the pod names. Nothing is kept on the node.

use std::collections::HashMap;
use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Dns, Ip, Route};
use attachments::finding::{Finding, Findings, under};
use ipnet::IpNet;

use super::requested::{NET, Request, Requests, env_list, net};
use super::{Checked, Validated, elements, one_per_family, routes, section, version_of};
use crate::call::Call;
use crate::error::{Error, Result};

pub const KEYS: [&str; 4] = ["type", "addresses", "routes", "dns"];

/// The keys of an address.
pub const ADDRESS_KEYS: [&str; 2] = ["address", "gateway"];

struct Config {
    ips: Vec<Ip>,
    routes: Vec<Route>,
    dns: Dns,
}

impl Config {
    /// CNI_ARGS adds to `addresses`, `args.cni.ips` replaces both, `runtimeConfig.ips` replaces all.
    fn read(conf: &Object, cni_args: &str) -> Validated<Self> {
        let mut findings = Findings::default();
        let ipam = findings.keep(section(conf));
        let requests = Requests::read(conf, cni_args, &mut findings);
        let mut ips = configured(&ipam, &mut findings);
        ips.extend(nets(&requests.env, &mut findings));
        for gateway in gateways(cni_args, &mut findings) {
            for ip in ips.iter_mut().filter(|ip| ip.address.contains(&gateway)) {
                ip.gateway = Some(gateway);
            }
        }
        for list in [&requests.args, &requests.runtime] {
            if !list.is_empty() {
                ips = nets(list, &mut findings);
            }
        }
        let dns = findings.keep_all(Dns::read(&ipam).map_err(|wrong| under("ipam", wrong)));
        let config = Self { ips, routes: routes(&ipam, &mut findings), dns };
        findings.finish(config)
    }

    fn families(&self) -> impl Iterator<Item = bool> {
        self.ips.iter().map(|ip| ip.address.addr().is_ipv4())
    }
}

/// Everything that is wrong with a configuration.
pub fn validate(conf: &Object) -> Validated<()> {
    let config = Config::read(conf, "")?;
    one_per_family(version_of(conf), config.families()).map_err(|finding| vec![finding])
}

/// The addresses, as they are named.
pub fn allocate(call: &Call<'_>) -> Result<CniResult> {
    let config = Config::read(call.conf, call.point()?.args)?;
    one_per_family(call.version, config.families())?;
    Ok(CniResult { ips: config.ips, routes: config.routes, dns: config.dns, ..CniResult::default() })
}

/// An address that the result has too has the same gateway there.
pub fn check(call: &Call<'_>) -> Result<()> {
    let config = Config::read(call.conf, call.point()?.args)?;
    let result = call.prev_result.ok_or_else(|| Finding::missing("prevResult", "the result of ADD"))?;
    // Of an address that is told twice the first counts.
    let told: HashMap<IpAddr, &Ip> = result.ips.iter().rev().map(|ip| (ip.address.addr(), ip)).collect();
    for want in config.ips.iter().filter(|ip| ip.gateway.is_some()) {
        if told.get(&want.address.addr()).is_some_and(|got| got.gateway != want.gateway) {
            let differs = format!("the gateway of {} is not the one of ipam.addresses any more", want.address);
            return Err(Error::Differs(differs));
        }
    }
    Ok(())
}

fn configured(ipam: &Object, findings: &mut Findings) -> Vec<Ip> {
    let mut ips = Vec::new();
    for (i, object) in elements(ipam, "addresses", findings) {
        let at = format!("ipam.addresses[{i}]");
        let address = address(&object).map(Some).map_err(|e| e.under(&at));
        let gateway: Checked<Option<IpAddr>> = object.parsed("gateway", "an IP address").map_err(|e| e.under(&at));
        let (address, gateway) = (findings.keep(address), findings.keep(gateway));
        ips.extend(address.map(|address| Ip::new(address, gateway.map(|g| g.to_canonical()), None)));
    }
    ips
}

fn address(object: &Object) -> Checked<IpNet> {
    let text = object.text("address")?.ok_or_else(|| Finding::missing("address", NET))?;
    net(&text).ok_or_else(|| Finding::new("address", format_args!("{text:?}"), NET))
}

fn nets(requests: &[Request], findings: &mut Findings) -> Vec<Ip> {
    let nets = requests.iter().filter_map(|request| findings.keep(request.net().map(Some)));
    nets.map(|net| Ip::new(net, None, None)).collect()
}

fn gateways(cni_args: &str, findings: &mut Findings) -> Vec<IpAddr> {
    let each = |text: String| {
        let read = text.parse::<IpAddr>().map(|gateway| Some(gateway.to_canonical()));
        findings.keep(read.map_err(|_| Finding::new("CNI_ARGS GATEWAY", format_args!("{text:?}"), "an IP address")))
    };
    env_list(cni_args, "GATEWAY").filter_map(each).collect()
}
