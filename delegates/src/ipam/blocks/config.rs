//! The configuration of `blocks`.

use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::cni::result::Route;
use attachments::finding::{Finding, Findings};

use super::super::{Validated, one_per_family, requested, routes, section, version_of};
use super::Pool;

/// The keys of the section `ipam`.
pub const KEYS: [&str; 9] =
    ["type", "subnet", "ranges", "rangeStart", "rangeEnd", "gateway", "exclude", "routes", "blockSize"];

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
}

impl Config {
    /// Reads the section, and what the pod asks for.
    pub fn read(conf: &Object, cni_args: &str) -> Validated<Self> {
        let mut findings = Findings::default();
        let ipam = findings.keep(section(conf));
        let pool = findings.keep_all(Pool::read(&ipam, has_gateway(conf)).map(Some));
        let requested = requested::addresses(conf, cni_args, &mut findings);
        let routes = routes(&ipam, &mut findings);
        match pool {
            Some(pool) => findings.finish(Self { pool, requested, routes }),
            None => Err(findings.into()),
        }
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
