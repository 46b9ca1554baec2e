//! `static`: the addresses that the configuration or the pod names. Nothing is kept on the node.

use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Dns, Ip, Route};
use attachments::finding::Finding;

use super::requested::{NET, Request, Requests, env_list, net};
use super::{Checked, one_per_family, point, routes, section};
use crate::call::Call;
use crate::error::{Error, Result};

struct Config {
    ips: Vec<Ip>,
    routes: Vec<Route>,
    dns: Dns,
}

impl Config {
    /// CNI_ARGS adds to `addresses`, `args.cni.ips` replaces both, `runtimeConfig.ips` replaces all.
    fn read(conf: &Object, cni_args: &str) -> Checked<Self> {
        let mut ipam = section(conf)?;
        let requests = Requests::read(conf, cni_args)?;
        let mut ips = configured(&ipam)?;
        ips.extend(nets(&requests.env)?);
        for gateway in env_list(cni_args, "GATEWAY") {
            let refuse = |_| Finding::new("CNI_ARGS GATEWAY", format_args!("{gateway:?}"), "an IP address");
            let gateway = gateway.parse::<IpAddr>().map_err(refuse)?.to_canonical();
            for ip in ips.iter_mut().filter(|ip| ip.address.contains(&gateway)) {
                ip.gateway = Some(gateway);
            }
        }
        for list in [&requests.args, &requests.runtime] {
            if !list.is_empty() {
                ips = nets(list)?;
            }
        }
        let dns = Dns::decode(&mut ipam).map_err(|e| e.under("ipam"))?;
        Ok(Self { ips, routes: routes(&ipam)?, dns })
    }
}

/// What is wrong with a configuration.
pub fn validate(conf: &Object) -> Checked<()> {
    Config::read(conf, "").map(drop)
}

/// The addresses, as they are named.
pub fn allocate(call: &Call<'_>) -> Result<CniResult> {
    let config = Config::read(call.conf, point(call)?.args)?;
    one_per_family(call.version, config.ips.iter().map(|ip| ip.address.addr().is_ipv4()))?;
    Ok(CniResult { ips: config.ips, routes: config.routes, dns: config.dns, ..CniResult::default() })
}

/// An address that the result has too has the same gateway there.
pub fn check(call: &Call<'_>) -> Result<()> {
    let config = Config::read(call.conf, point(call)?.args)?;
    let result = call.prev_result.ok_or_else(|| Finding::missing("prevResult", "the result of ADD"))?;
    for want in config.ips.iter().filter(|ip| ip.gateway.is_some()) {
        let of_this = |ip: &&Ip| ip.address.addr() == want.address.addr();
        if result.ips.iter().find(of_this).is_some_and(|got| got.gateway != want.gateway) {
            let differs = format!("the gateway of {} is not the one of ipam.addresses any more", want.address);
            return Err(Error::Differs(differs));
        }
    }
    Ok(())
}

fn configured(ipam: &Object) -> Checked<Vec<Ip>> {
    let each = |(i, object): (usize, &Object)| {
        let read = || {
            let text = object.text("address")?.ok_or_else(|| Finding::missing("address", NET))?;
            let address = net(&text).ok_or_else(|| Finding::new("address", format_args!("{text:?}"), NET))?;
            let gateway: Option<IpAddr> = object.parsed("gateway", "an IP address")?;
            Ok(Ip::new(address, gateway.map(|g| g.to_canonical()), None))
        };
        read().map_err(|e: Finding| e.under(&format!("ipam.addresses[{i}]")))
    };
    let objects = ipam.objects("addresses").map_err(|e| e.under("ipam"))?;
    objects.iter().enumerate().map(each).collect()
}

fn nets(requests: &[Request]) -> Checked<Vec<Ip>> {
    requests.iter().map(|request| Ok(Ip::new(request.net()?, None, None))).collect()
}
