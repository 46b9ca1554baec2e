//! Addresses for an attachment: which kind of address management a configuration asks for, and its verbs.
//!
//! `blocks` ([`blocks`]), `host-local` (`ipam::host_local`), `static` (`ipam::static_ipam`) and `dhcp` ([`dhcp`]) are served in process; any other `ipam.type`
//! is a program that gets the identical environment and the complete configuration (`ipam::external`, C36).
//!
//! Addresses are taken before the link is made, but for `dhcp`, in process or not: its server is asked over the link itself ([`asks_on_link`]).

pub mod blocks;
pub mod dhcp;
mod external;
mod host_local;
mod requested;
mod static_ipam;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Interface, Ip, Route};
use attachments::cni::spelling::{self, Known};
use attachments::cni::version::Version;
use attachments::finding::{Allowed, Finding, Findings, under};
use attachments::names::{IfName, Mac, PluginType};
use attachments::rule::Rule;
use ipnet::IpNet;
use serde_json::value::RawValue;

use crate::call::{Call, Node};
use crate::error::{Error, Result};
use crate::exec;
use crate::host::Host;
use crate::ownership::Ownership;
use crate::sandbox::Sandbox;

/// What reading a configuration gives.
type Checked<T> = std::result::Result<T, Finding>;

/// The same with everything that is wrong.
type Validated<T> = std::result::Result<T, Vec<Finding>>;

/// Who gives the addresses.
enum Kind {
    Blocks(PluginType),
    Dhcp(PluginType),
    HostLocal(PluginType),
    Static(PluginType),
    External(PluginType),
}

impl Kind {
    /// A type that the node switched off is a program like any other.
    fn on(self, node: &Node<'_>) -> Self {
        match self {
            Self::Blocks(kind) | Self::Dhcp(kind) | Self::HostLocal(kind) | Self::Static(kind)
                if !node.in_process(&kind) =>
            {
                Self::External(kind)
            }
            other => other,
        }
    }
}

/// The types that are built in, and which of their keys hold paths of the node.
pub(crate) const TYPES: [(&str, &[&str]); 4] = [
    (blocks::TYPE, &[]),
    (dhcp::TYPE, &["daemonSocketPath"]),
    ("host-local", &["dataDir", "resolvConf"]),
    ("static", &[]),
];

/// What an attachment got.
#[derive(Clone, Debug, Default)]
pub struct Leased {
    /// The addresses, the routes and the name service. No interfaces, and no interface index.
    pub result: CniResult,
    /// The MAC address that follows from the addresses; absent where none does.
    pub mac: Option<Mac>,
}

impl Leased {
    /// What an attachment has, by the result of its ADD: `ifname` is its interface in the pod.
    pub fn of(result: &CniResult, ifname: &IfName) -> Self {
        let is_pods = |one: &&Interface| one.name == ifname.as_str() && !one.sandbox.is_empty();
        let mac = result.interfaces.iter().find(is_pods).and_then(|one| one.mac.parse().ok());
        let ips = result.ips.iter().map(|ip| Ip { interface: None, ..ip.clone() }).collect();
        Self { result: CniResult { interfaces: Vec::new(), ips, ..result.clone() }, mac }
    }
}

impl From<CniResult> for Leased {
    fn from(result: CniResult) -> Self {
        Self { result, mac: None }
    }
}

/// True when the configuration asks for addresses: `ipam.type` is there and not empty. Otherwise the attachment is
/// layer 2 only.
pub fn configured(conf: &Object) -> std::result::Result<bool, Finding> {
    Ok(kind_of(conf)?.is_some())
}

static RANGES: Known<'static> = Known::of(&[&host_local::RANGE_KEYS]);
static ROUTES: Known<'static> = Known::of(&[&Route::KEYS]);
static ADDRESSES: Known<'static> = Known::of(&[&static_ipam::ADDRESS_KEYS]);
static HOST_LOCAL: Known<'static> =
    Known { keys: &[&host_local::KEYS], inside: &[("ranges", &RANGES), ("routes", &ROUTES)], only: true };
static BLOCK_RANGES: Known<'static> = Known::of(&[&blocks::RANGE_KEYS]);
static BLOCKS: Known<'static> =
    Known { keys: &[&blocks::KEYS], inside: &[("ranges", &BLOCK_RANGES), ("routes", &ROUTES)], only: true };
static REQUESTS: Known<'static> = Known::of(&[&dhcp::REQUEST_KEYS]);
static PROVISIONS: Known<'static> = Known::of(&[&dhcp::PROVIDE_KEYS]);
static DHCP: Known<'static> =
    Known { keys: &[&dhcp::KEYS], inside: &[("request", &REQUESTS), ("provide", &PROVISIONS)], only: true };
static STATIC: Known<'static> = Known {
    keys: &[&static_ipam::KEYS],
    inside: &[("addresses", &ADDRESSES), ("routes", &ROUTES), ("dns", &spelling::DNS)],
    only: true,
};

/// What any kind of ours knows.
pub(crate) static ANY: Known<'static> = Known {
    keys: &[&blocks::KEYS, &dhcp::KEYS, &host_local::KEYS, &static_ipam::KEYS],
    inside: &[
        ("ranges", &RANGES),
        ("addresses", &ADDRESSES),
        ("routes", &ROUTES),
        ("dns", &spelling::DNS),
        ("request", &REQUESTS),
        ("provide", &PROVISIONS),
    ],
    only: false,
};

/// The keys of an `ipam` section of this type, and of the objects in it.
pub(crate) fn known(kind: &str) -> &'static Known<'static> {
    match kind {
        blocks::TYPE => &BLOCKS,
        dhcp::TYPE => &DHCP,
        "host-local" => &HOST_LOCAL,
        "static" => &STATIC,
        _ => &spelling::IPAM,
    }
}

/// What is wrong with the `ipam` section, as far as it can be known without the node. Empty for external types.
pub fn validate(conf: &Object) -> Vec<Finding> {
    let checked = match kind_of(conf) {
        Ok(Some(Kind::Blocks(_))) => blocks::validate(conf),
        Ok(Some(Kind::Dhcp(_))) => dhcp::validate(conf),
        Ok(Some(Kind::HostLocal(_))) => host_local::validate(conf),
        Ok(Some(Kind::Static(_))) => static_ipam::validate(conf),
        Ok(Some(Kind::External(_)) | None) => Ok(()),
        Err(finding) => Err(vec![finding]),
    };
    let mut findings = checked.err().unwrap_or_default();
    findings.extend(accept_ra(conf).err());
    findings
}

/// Key of a definition: does the pod's link take routes, settings and addresses from router advertisements?
pub(crate) const ACCEPT_RA: &str = "acceptRA";

/// `acceptRA`; absent means that it does where it was given no IPv6 addresses.
pub(crate) fn accept_ra(conf: &Object) -> std::result::Result<Option<bool>, Finding> {
    conf.decode(ACCEPT_RA, Allowed::BOOLEAN)
}

/// What is known of an address before it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// The address itself, where it is the configuration's or the pod's choice.
    pub address: Option<IpAddr>,
    /// Its subnet.
    pub subnet: IpNet,
    /// Its gateway, if it has one.
    pub gateway: Option<IpAddr>,
}

impl Foreseen {
    fn of(ip: Ip) -> Self {
        Self { address: Some(ip.address.addr()), subnet: ip.address.trunc(), gateway: ip.gateway }
    }
}

/// Before anything is taken: what [`allocate`] can give at most. Nothing of a program, nor of a server.
pub fn foresee(call: &Call<'_>) -> Result<Vec<Foreseen>> {
    match kind_of(call.conf)? {
        Some(Kind::Blocks(_)) => blocks::foresee(call),
        Some(Kind::HostLocal(_)) => host_local::foresee(call),
        Some(Kind::Static(_)) => Ok(static_ipam::allocate(call)?.ips.into_iter().map(Foreseen::of).collect()),
        Some(Kind::Dhcp(_) | Kind::External(_)) | None => Ok(Vec::new()),
    }
}

/// Before anything is attached: what a tenant's section asks of the node and may not have. It does not name a plugin that makes
/// or takes links for its addresses: the program would get the whole configuration and do with the node's links what this very
/// plugin is not let do. `makes_links` tells which types those are.
pub fn admit(call: &Call<'_>, makes_links: impl Fn(&PluginType) -> bool) -> Result<()> {
    let ipam = call.conf.decode::<Object>("ipam", "an object");
    let Some(ipam) = ipam.ok().flatten().filter(|_| call.origin.is_tenants) else { return Ok(()) };
    match ipam.parsed::<PluginType>("type", PluginType::ALLOWED) {
        Ok(Some(kind)) if makes_links(&kind) => {
            let allowed = format!("a plugin that gives addresses: {kind} makes, takes or changes links");
            Err(Finding::new("ipam.type", format_args!("{:?}", kind.as_str()), allowed).into())
        }
        _ => match kind_of(call.conf)? {
            Some(Kind::HostLocal(_)) => host_local::admit(call),
            Some(Kind::Blocks(_) | Kind::Dhcp(_) | Kind::Static(_) | Kind::External(_)) | None => Ok(()),
        },
    }
}

/// Gives back what containers that are gone hold in any network of blocks or by DHCP, whether a configuration leads to it or not.
pub fn sweep(node: &Node<'_>, ownership: &Ownership<'_>) -> Result<()> {
    blocks::sweep(node.state_dir, ownership, node.deadline).and(dhcp::sweep(node.state_dir, ownership))
}

/// Gives back what containers that are gone hold in any network of host-local, below these directories and its usual one.
pub fn reclaim(data_dirs: &[PathBuf], ownership: &Ownership<'_>, deadline: Instant) -> Result<()> {
    host_local::reclaim(data_dirs, ownership, deadline)
}

/// Before anything is attached: the program of a type that is not served in process is there.
pub fn require_program(node: &Node<'_>, conf: &Object) -> Result<()> {
    match kind_of(conf)?.map(|kind| kind.on(node)) {
        Some(Kind::External(kind)) => exec::find(&kind, node.plugin_dirs).map(drop),
        _ => Ok(()),
    }
}

/// Is a server asked for the addresses over the link that they are for? Then the link is made first, and
/// [`allocate_on_link`] stands in place of [`allocate`].
pub fn asks_on_link(conf: &Object) -> bool {
    matches!(kind_of(conf), Ok(Some(Kind::Dhcp(_))))
}

/// ADD: takes addresses. The result holds at least one address, no interfaces and no interface index (C38). On failure
/// whatever was taken is released before this returns (C37).
pub fn allocate(node: &Node<'_>, call: &Call<'_>) -> Result<Leased> {
    let leased = match required(call)?.on(node) {
        Kind::Blocks(_) => blocks::allocate(node, call)?,
        Kind::HostLocal(_) => host_local::allocate(node, call)?.into(),
        Kind::Static(_) => static_ipam::allocate(call)?.into(),
        Kind::Dhcp(_) => return Err(no_link(call.conf).into()),
        Kind::External(kind) => external::allocate(node, &kind, call)?.into(),
    };
    with_addresses(node, call, leased)
}

/// The same over the pod's link, which is there and up. What was taken is given back by [`leave`] and [`release`].
pub fn allocate_on_link(host: &mut Host<'_>, sandbox: &mut Sandbox, call: &Call<'_>) -> Result<Leased> {
    dhcp::note(host)?;
    let leased = match required(call)?.on(&host.node) {
        Kind::Dhcp(_) => dhcp::allocate(&host.node, sandbox, call)?.into(),
        Kind::External(kind) => external::allocate(&host.node, &kind, call)?.into(),
        Kind::Blocks(_) | Kind::HostLocal(_) | Kind::Static(_) => return allocate(&host.node, call),
    };
    with_addresses(&host.node, call, leased)
}

/// What is wrong with a type that asks over a link, for a plugin that makes none, or none that leads to a server.
pub fn no_link(conf: &Object) -> Finding {
    let plugin = conf.text("type").ok().flatten().unwrap_or_default();
    let allowed = format!("another type: {plugin} makes no link to a DHCP server");
    Finding::new("ipam.type", format_args!("{:?}", dhcp::TYPE), allowed)
}

fn with_addresses(node: &Node<'_>, call: &Call<'_>, leased: Leased) -> Result<Leased> {
    if leased.result.ips.is_empty() {
        // No interface plugin can go on without one; what the program holds all the same is given back (C37).
        let _ = release(node, call);
        return Err(Error::Addresses(format!("ipam of network {} gave no address", call.network)));
    }
    Ok(leased)
}

/// DEL, before the link goes: gives back what can be given back over it alone. What fails is forgotten with the rest: a server
/// that does not hear of it keeps the address until the lease is over.
pub fn leave(node: &Node<'_>, sandbox: Option<&mut Sandbox>, call: &Call<'_>) {
    let Some(sandbox) = sandbox.filter(|_| asks_on_link(call.conf)) else { return };
    let _ = match kind_of(call.conf).map(|kind| kind.map(|kind| kind.on(node))) {
        Ok(Some(Kind::Dhcp(_))) => dhcp::leave(node, sandbox, call),
        Ok(Some(Kind::External(kind))) => external::release(node, &kind, call),
        _ => Ok(()),
    };
}

/// DEL: gives back what this attachment holds. Idempotent, and a success when nothing was ever taken.
pub fn release(node: &Node<'_>, call: &Call<'_>) -> Result<()> {
    match kind_of(call.conf)?.map(|kind| kind.on(node)) {
        Some(Kind::Blocks(_)) => blocks::release(node, call),
        Some(Kind::Dhcp(_)) => dhcp::release(node, call),
        Some(Kind::HostLocal(_)) => host_local::release(node, call),
        Some(Kind::External(kind)) => external::release(node, &kind, call),
        Some(Kind::Static(_)) | None => Ok(()),
    }
}

/// Does a program give the addresses?
pub fn is_of_program(node: &Node<'_>, conf: &Object) -> bool {
    matches!(kind_of(conf).map(|kind| kind.map(|kind| kind.on(node))), Ok(Some(Kind::External(_))))
}

/// CHECK: this attachment still holds its addresses.
pub fn check(node: &Node<'_>, call: &Call<'_>) -> Result<()> {
    match required(call)?.on(node) {
        Kind::Blocks(_) => blocks::check(node, call),
        Kind::Dhcp(_) => dhcp::check(node, call),
        Kind::HostLocal(_) => host_local::check(node, call),
        Kind::Static(_) => static_ipam::check(call),
        Kind::External(kind) => external::check(node, &kind, call),
    }
}

/// STATUS: could an address be given now? [`Error::NotReady`] when a range set is exhausted.
pub fn status(node: &Node<'_>, call: &Call<'_>) -> Result<()> {
    match kind_of(call.conf)?.map(|kind| kind.on(node)) {
        Some(Kind::Blocks(_)) => blocks::status(node, call),
        Some(Kind::HostLocal(_)) => host_local::status(node, call),
        Some(Kind::External(kind)) => external::status(node, &kind, call),
        Some(Kind::Dhcp(_) | Kind::Static(_)) | None => Ok(()),
    }
}

/// GC: gives back what is left of containers that are gone, and tells of what strangers hold. A program gets the valid
/// attachments with the configuration, and tells nothing.
pub fn gc(node: &Node<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
    match kind_of(call.conf)?.map(|kind| kind.on(node)) {
        Some(Kind::Blocks(_)) => blocks::gc(node, call, ownership),
        Some(Kind::HostLocal(_)) => host_local::gc(node, call, ownership),
        Some(Kind::External(kind)) => external::gc(node, &kind, call).map(|()| Vec::new()),
        Some(Kind::Dhcp(_) | Kind::Static(_)) | None => Ok(Vec::new()),
    }
}

fn kind_of(conf: &Object) -> Checked<Option<Kind>> {
    let Some(ipam) = conf.object("ipam")? else { return Ok(None) };
    let kind: Option<PluginType> = ipam.parsed("type", PluginType::ALLOWED).map_err(|e| e.under("ipam"))?;
    Ok(kind.map(|kind| match kind.as_str() {
        blocks::TYPE => Kind::Blocks(kind),
        dhcp::TYPE => Kind::Dhcp(kind),
        "host-local" => Kind::HostLocal(kind),
        "static" => Kind::Static(kind),
        _ => Kind::External(kind),
    }))
}

fn required(call: &Call<'_>) -> Result<Kind> {
    let missing = || Finding::missing("ipam.type", "blocks, dhcp, host-local, static, or the name of an IPAM plugin");
    Ok(kind_of(call.conf)?.ok_or_else(missing)?)
}

/// The `ipam` section; empty when there is none.
fn section(conf: &Object) -> Checked<Object> {
    Ok(conf.object("ipam")?.unwrap_or_default())
}

/// `ipam.routes`.
fn routes(ipam: &Object, findings: &mut Findings) -> Vec<Route> {
    let mut routes = Vec::new();
    for (i, object) in elements(ipam, "routes", findings) {
        let read = Route::read(object).map(Some);
        routes.extend(findings.keep_all(read.map_err(|wrong| under(&format!("ipam.routes[{i}]"), wrong))));
    }
    routes
}

/// The objects of a list in the section.
fn elements(ipam: &Object, key: &str, findings: &mut Findings) -> Vec<(usize, Object)> {
    let mut inside = Findings::default();
    let elements = ipam.elements(key, &mut inside);
    findings.keep_all(inside.finish(()).map_err(|wrong| under("ipam", wrong)));
    elements
}

/// `subnet` of a range.
fn subnet(range: &Object) -> Checked<IpNet> {
    const SUBNET: Allowed =
        Allowed::told("a subnet with a prefix length, as 10.1.0.0/16", "must be CIDR, for example \"10.9.0.0/24\"");
    let read = range.parsed("subnet", SUBNET).and_then(|read| read.ok_or_else(|| Finding::missing("subnet", SUBNET)));
    let subnet: IpNet = read.map_err(|finding| finding.of(Rule::Subnet))?;
    if subnet.addr().to_canonical() != subnet.addr() {
        return Err(Finding::new("subnet", subnet, "an IPv4 subnet in IPv4 notation").of(Rule::Subnet));
    }
    Ok(subnet)
}

/// Refuses a subnet that names one of its addresses.
fn without_host_bits(subnet: IpNet) -> Checked<IpNet> {
    if subnet.trunc() == subnet {
        return Ok(subnet);
    }
    let want = format!("no host bits: {}", subnet.trunc()).into();
    let told = format!("host bits set, use \"{}\"", subnet.trunc()).into();
    Err(Finding::new("subnet", subnet, Allowed::Told { want, told }).of(Rule::HostBits))
}

/// An address as a number.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Reads a list of range sets. `read` gets the path of a set and the objects of its ranges.
fn range_sets<T>(
    (object, key, at): (&Object, &str, &str),
    findings: &mut Findings,
    read: impl Fn(String, &[(usize, Object)]) -> Validated<T>,
) -> Vec<T> {
    const SETS: Allowed = Allowed::list("a list of range sets, each a list of ranges");
    let lists: Vec<Box<RawValue>> =
        findings.keep(object.decode(key, SETS).map_err(|e| e.under(at))).unwrap_or_default();
    let mut sets = Vec::with_capacity(lists.len());
    for (i, list) in lists.iter().enumerate() {
        let path = format!("{at}.{key}[{i}]");
        // Read as the one key of an object, whose path is then cut off again.
        let mut set = Object::new();
        set.set("", list);
        let mut inside = Findings::default();
        let ranges = set.elements("", &mut inside);
        let is_read = inside.is_empty();
        findings.keep_all(inside.finish(()).map_err(|wrong| under(&path, wrong)));
        if is_read || !ranges.is_empty() {
            sets.extend(findings.keep_all(read(path, &ranges).map(Some)));
        }
    }
    sets
}

/// The version that a configuration speaks. One that is none is somebody else's finding.
fn version_of(conf: &Object) -> Version {
    conf.text("cniVersion").ok().flatten().and_then(|text| text.parse().ok()).unwrap_or(Version::V0_1_0)
}

/// Results before 0.3.0 have room for one address of each family (C55).
fn one_per_family(version: Version, is_ipv4: impl Iterator<Item = bool>) -> Checked<()> {
    let (v4, v6): (Vec<bool>, Vec<bool>) = is_ipv4.partition(|v4| *v4);
    if version < Version::V0_3_0 && (v4.len() > 1 || v6.len() > 1) {
        const ALLOWED: Allowed = Allowed::told(
            "0.3.0 or later where an attachment has more than one address of a family",
            "must be \"0.3.0\" or later for more than one address of a family",
        );
        return Err(Finding::new("cniVersion", version, ALLOWED).of(Rule::VersionForAddresses));
    }
    Ok(())
}
