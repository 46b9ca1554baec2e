//! The configuration of `blocks`.

use std::net::IpAddr;

use attachments::bind::FAMILIES;
use attachments::cni::object::Object;
use attachments::cni::result::Route;
use attachments::finding::{Finding, Findings};

use super::super::{Checked, Validated, one_per_family, requested, routes, section, version_of};
use super::Pool;

/// The keys of the section `ipam`.
pub const KEYS: [&str; 10] =
    ["type", "subnet", "ranges", "rangeStart", "rangeEnd", "gateway", "exclude", "routes", "blockSize", FAMILIES];

/// The keys of a range.
pub const RANGE_KEYS: [&str; 4] = ["subnet", "rangeStart", "rangeEnd", "gateway"];

/// What is said about one attachment's addresses.
pub struct Config {
    /// The addresses of the network.
    pub pool: Pool,
    /// The addresses that are asked for, each with its field.
    pub requested: Vec<(String, IpAddr)>,
    /// `routes`.
    pub routes: Vec<Route>,
    /// The only family whose addresses a pod gets, where it does not get both: is it IPv4?
    only: Option<bool>,
}

impl Config {
    /// Reads the section, and what the pod asks for.
    pub fn read(conf: &Object, cni_args: &str) -> Validated<Self> {
        let mut findings = Findings::default();
        let ipam = findings.keep(section(conf));
        let pool = findings.keep_all(Pool::read(&ipam, has_gateway(conf)).map(Some));
        let requested = requested::addresses(conf, cni_args, &mut findings);
        let routes = routes(&ipam, &mut findings);
        let only = findings.keep(only_family(&ipam));
        match pool {
            Some(pool) => findings.finish(Self { pool, requested, routes, only }),
            None => Err(findings.into()),
        }
    }
}

impl Config {
    /// Does a pod get the addresses of this family?
    pub fn gives(&self, ipv4: bool) -> bool {
        self.only.is_none_or(|only| only == ipv4)
    }
}

/// `families`: absent, or both of them, for all.
fn only_family(ipam: &Object) -> Checked<Option<bool>> {
    const ALLOWED: &str = "a list of IPv4, IPv6 or both";
    let listed: Vec<String> = ipam.decode(FAMILIES, ALLOWED).map_err(|e| e.under("ipam"))?.unwrap_or_default();
    match listed.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["IPv4", "IPv6"] | ["IPv6", "IPv4"] => Ok(None),
        [one @ ("IPv4" | "IPv6")] => Ok(Some(*one == "IPv4")),
        _ => Err(Finding::new(format!("ipam.{FAMILIES}"), listed.join(", "), ALLOWED)),
    }
}

/// Everything that is wrong with a configuration.
pub fn validate(conf: &Object) -> Validated<()> {
    let mut findings = Findings::default();
    if let Some(config) = findings.keep_all(Config::read(conf, "").map(Some)) {
        findings.keep(one_per_family(version_of(conf), config.pool.families()));
    }
    let capabilities = findings.keep(conf.object("capabilities")).unwrap_or_default();
    if capabilities.get("ipRanges").is_some_and(|value| value.get() == "true") {
        let allowed = "no such capability: every node numbers the addresses of blocks alike, whoever asks";
        findings.push(Finding::new("capabilities.ipRanges", true, allowed));
    }
    findings.finish(())
}

/// Has the node an address in the network? Of a ptp it always has one: its end of each wire.
pub fn has_gateway(conf: &Object) -> bool {
    let flag = |key| conf.flag(key).unwrap_or_default();
    let is_ptp = || conf.text("type").ok().flatten().is_some_and(|kind| kind == "ptp");
    flag("isGateway") || flag("isDefaultGateway") || is_ptp()
}
