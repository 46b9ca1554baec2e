//! `host-local`: addresses from ranges, kept as files on the node.
//!
//! Configuration, results and files are those of the reference plugin, so that either can go on where the other stopped
//! ([`store`] has the files, [`ranges`] the order of addresses). Where we differ, nothing on disk shows it:
//! the lock is held for a whole ADD and not per range set; a failed ADD takes back what it took and nothing else; DEL
//! needs no valid ranges and makes no directory; `IP` in CNI_ARGS may be a list.
//!
//! The reference plugin reads all files of a network in every ADD and DEL, to learn what the container has. Here the record
//! knows: an ADD has undone what it held, and DEL and CHECK are about the addresses of its result. Where there is no result,
//! and for an older plugin's files, DEL reads the directory.

mod ranges;
mod store;
#[cfg(test)]
mod tenants;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Dns, Ip, Route};
use attachments::finding::{Allowed, Finding, Findings};
use attachments::rule::Rule;
use ipnet::IpNet;

use super::{Checked, Foreseen, Validated, one_per_family, range_sets, requested, routes, section, version_of};
use crate::call::{Call, Node};
use crate::error::{Error, Result};
use crate::ownership::Ownership;
use ranges::{Places, RangeSet};
use store::{Owner, Store};

pub const KEYS: [&str; 9] =
    ["type", "ranges", "subnet", "rangeStart", "rangeEnd", "gateway", "routes", "resolvConf", "dataDir"];

/// The keys of a range.
pub const RANGE_KEYS: [&str; 4] = ["subnet", "rangeStart", "rangeEnd", "gateway"];

/// Where the reference plugin keeps its directories.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// The most that is read of a `resolvConf`: the resolver itself looks at far less.
const RESOLV_CONF_MAX: u64 = 64 << 10;

/// What is said about one attachment's addresses.
struct Config {
    /// One address is given from each, in this order.
    sets: Vec<RangeSet>,
    /// The addresses that are asked for, each with its field.
    requested: Vec<(String, IpAddr)>,
    routes: Vec<Route>,
    resolv_conf: Option<PathBuf>,
}

impl Config {
    fn read(conf: &Object, cni_args: &str) -> Validated<Self> {
        let mut findings = Findings::default();
        let ipam = findings.keep(section(conf));
        let config = Self {
            sets: all_sets(conf, &ipam, &mut findings),
            requested: requested::addresses(conf, cni_args, &mut findings),
            routes: routes(&ipam, &mut findings),
            resolv_conf: findings.keep(absolute(&ipam, "resolvConf")),
        };
        findings.finish(config)
    }
}

/// Everything that is wrong with a configuration. One without ranges is right where the runtime will supply them.
pub fn validate(conf: &Object) -> Validated<()> {
    let mut findings = Findings::default();
    let config = findings.keep_all(Config::read(conf, "").map(Some));
    let ipam = section(conf).unwrap_or_default();
    findings.keep(absolute(&ipam, "dataDir"));
    let capabilities = findings.keep(conf.object("capabilities")).unwrap_or_default();
    let promised = capabilities.get("ipRanges").is_some_and(|value| value.get() == "true");
    match config {
        Some(config) if config.sets.is_empty() && !promised => findings.push(no_ranges()),
        Some(config) => findings.keep(one_per_family(version_of(conf), config.sets.iter().map(RangeSet::is_ipv4))),
        // What is wrong with the ranges is said; that there is none left would only confuse.
        None => {}
    }
    findings.finish(())
}

/// Takes one address from each range set, or none.
pub fn allocate(node: &Node<'_>, call: &Call<'_>) -> Result<CniResult> {
    let point = call.point()?;
    let config = Config::read(call.conf, point.args)?;
    if config.sets.is_empty() {
        return Err(no_ranges().into());
    }
    one_per_family(call.version, config.sets.iter().map(RangeSet::is_ipv4))?;
    let requested = assign(&config.sets, &config.requested)?;
    let dns = config.resolv_conf.as_ref().map(resolv_conf).transpose()?.unwrap_or_default();

    let dir = directory(call)?;
    // A directory that has become a network's since it was admitted is one for itself.
    if !store::is_one(&dir) {
        admit(call)?;
    }
    let owner = Owner::new(point.container, point.ifname);
    let store = Store::create(&dir, node.deadline)?;
    let taking = Taking {
        former: former_directory(call)?.and_then(|dir| File::open(dir).ok()),
        store: &store,
        owner: &owner,
        deadline: node.deadline,
    };
    let mut ips: Vec<Ip> = Vec::with_capacity(config.sets.len());
    for (index, (set, requested)) in config.sets.iter().zip(requested).enumerate() {
        match taking.take(set, index, requested) {
            Ok(ip) => ips.push(ip),
            Err(error) => {
                // What cannot be given back here is given back by the DEL that follows every failed ADD.
                ips.iter().for_each(|ip| drop(store.remove(ip.address.addr())));
                return Err(error);
            }
        }
    }
    Ok(CniResult { ips, routes: config.routes, dns, ..CniResult::default() })
}

/// The subnets and gateways of all ranges.
pub fn foresee(call: &Call<'_>) -> Result<Vec<Foreseen>> {
    let config = Config::read(call.conf, call.point()?.args)?;
    let of = |range: &ranges::Range| Foreseen { address: None, subnet: range.subnet(), gateway: Some(range.gateway()) };
    Ok(config.sets.iter().flat_map(RangeSet::ranges).map(of).collect())
}

/// Gives back every address of the attachment.
pub fn release(node: &Node<'_>, call: &Call<'_>) -> Result<()> {
    let point = call.point()?;
    let Some(store) = Store::open(&directory(call)?, node.deadline)? else { return Ok(()) };
    let owner = Owner::new(point.container, point.ifname);
    let known = call.prev_result.map(|result| result.ips.as_slice()).unwrap_or_default();
    let released = store.release_known(&owner, known.iter().map(|ip| ip.address.addr()))?;
    // Plugins behind in the chain may have changed the result: each set has given an address, and so many must be found.
    match Config::read(call.conf, "") {
        Ok(config) if released > 0 && released >= config.sets.len() => Ok(()),
        _ => store.release(&owner),
    }
}

/// The attachment still holds an address, and those of the result that are from its ranges.
pub fn check(node: &Node<'_>, call: &Call<'_>) -> Result<()> {
    let point = call.point()?;
    let dir = directory(call)?;
    let owner = Owner::new(point.container, point.ifname);
    let lost = |what: &str| {
        let text = format!("{what} in {} belongs to {} {}", dir.display(), point.container, point.ifname);
        Err(Error::Differs(text))
    };
    let Some(store) = Store::open(&dir, node.deadline)? else { return lost("no address") };
    let sets = Config::read(call.conf, "")?.sets;
    let places = Places::of(&sets);
    let told = call.prev_result.map(|result| result.ips.as_slice()).unwrap_or_default();
    let told: Vec<IpAddr> =
        told.iter().map(|ip| ip.address.addr()).filter(|address| places.find(*address).is_some()).collect();
    let held = told.iter().filter(|address| store.is_held_by(**address, &owner)).count();
    // A plugin behind in the chain may have taken the addresses out of the result.
    if held == 0 && store.survey(Some(&owner))?.own.is_empty() {
        return lost("no address");
    }
    match told.iter().find(|address| !store.is_held_by(**address, &owner)) {
        Some(address) => lost(&format!("no file {address}")),
        None => Ok(()),
    }
}

/// Every range set has an address left.
pub fn status(node: &Node<'_>, call: &Call<'_>) -> Result<()> {
    let config = Config::read(call.conf, "")?;
    let Some(store) = Store::open(&directory(call)?, node.deadline)? else { return Ok(()) };
    for (index, set) in config.sets.iter().enumerate() {
        if first(&store, set, index, node.deadline, &mut |address| Ok(store.is_free(address)))?.is_none() {
            return Err(Error::NotReady(no_address(set)));
        }
    }
    Ok(())
}

/// How many addresses are tried before the names in the directory are read: behind the one that was given last, the first is
/// usually free.
const TRIES: usize = 8;

/// The first address of a set that `take` takes, behind the one that was given last. What a killed process left is seen when
/// nothing else is there.
fn first(
    store: &Store,
    set: &RangeSet,
    index: usize,
    deadline: Instant,
    take: &mut dyn FnMut(IpAddr) -> Result<bool>,
) -> Result<Option<Ip>> {
    let last = store.last_reserved(index);
    for round in 0..3 {
        let (taken, tries) = match round {
            0 => (HashSet::new(), TRIES),
            1 => (store.names()?, usize::MAX),
            _ => (store.survey(None)?.taken, usize::MAX),
        };
        for (address, range) in set.round_robin(last).take(tries) {
            if taken.contains(&address) {
                continue;
            }
            if Instant::now() >= deadline {
                return Err(Error::Late(format!("taking an address of {set}")));
            }
            if take(address)? {
                return Ok(Some(given(address, range)));
            }
        }
    }
    Ok(None)
}

/// Gives back what is left of containers that are gone, and lists those of unknown containers.
pub fn gc(node: &Node<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
    match Store::open(&directory(call)?, node.deadline)? {
        Some(store) => store.sweep(ownership),
        None => Ok(Vec::new()),
    }
}

/// The same in every network's directory below these and the usual one. Goes on after a failure and reports the first.
pub fn reclaim(data_dirs: &[PathBuf], ownership: &Ownership<'_>, deadline: Instant) -> Result<()> {
    let mut outcome = Ok(());
    let dirs: BTreeSet<&Path> = data_dirs.iter().map(PathBuf::as_path).chain([Path::new(DATA_DIR)]).collect();
    for network in dirs.into_iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten()) {
        // A directory without the lock is none of host-local's.
        let dir = network.path();
        if dir.join("lock").is_file() {
            let swept = Store::open(&dir, deadline)
                .and_then(|store| store.map_or(Ok(Vec::new()), |store| store.sweep(ownership)));
            outcome = outcome.and(swept.map(drop));
        }
    }
    outcome
}

/// What the addresses of one ADD are taken with.
struct Taking<'a> {
    store: &'a Store,
    owner: &'a Owner,
    /// Where pods from before isolation was switched on have their addresses.
    former: Option<File>,
    deadline: Instant,
}

impl Taking<'_> {
    /// One address of one set.
    fn take(&self, set: &RangeSet, index: usize, requested: Option<IpAddr>) -> Result<Ip> {
        if let Some(address) = requested {
            let Some(range) = set.range_of(address) else { return Err(Error::Addresses(no_address(set))) };
            if self.is_held_from_before(address) || !self.store.reserve(address, self.owner, index)? {
                return Err(Error::Addresses(format!("requested address {address} is taken")));
            }
            return Ok(given(address, range));
        }
        let mut take =
            |address| Ok(!self.is_held_from_before(address) && self.store.reserve(address, self.owner, index)?);
        first(self.store, set, index, self.deadline, &mut take)?.ok_or_else(|| Error::Addresses(no_address(set)))
    }

    fn is_held_from_before(&self, address: IpAddr) -> bool {
        self.former.as_ref().is_some_and(|dir| Store::holds(dir, address))
    }
}

fn given(address: IpAddr, range: &ranges::Range) -> Ip {
    // The prefix length is that of a subnet of the same family.
    let net = IpNet::new(address, range.subnet().prefix_len()).unwrap_or(IpNet::from(address));
    Ip::new(net, Some(range.gateway()), None)
}

fn no_address(set: &RangeSet) -> String {
    format!("no address left in range set {set}")
}

fn no_ranges() -> Finding {
    const ALLOWED: Allowed = Allowed::told(
        "at least one range set, here, as ipam.subnet or by the capability ipRanges",
        "set subnet or ranges",
    );
    Finding::missing("ipam.ranges", ALLOWED).of(Rule::NoRanges)
}

/// What the runtime supplies comes first, then the old single-range form, then `ranges`.
fn all_sets(conf: &Object, ipam: &Object, findings: &mut Findings) -> Vec<RangeSet> {
    let runtime = findings.keep(conf.object("runtimeConfig")).unwrap_or_default();
    let mut sets = range_sets((&runtime, "ipRanges", "runtimeConfig"), findings, RangeSet::read);
    if ipam.get("subnet").is_some() {
        sets.extend(findings.keep_all(RangeSet::single("ipam", ipam).map(Some)));
    }
    sets.extend(range_sets((ipam, "ranges", "ipam"), findings, RangeSet::read));
    RangeSet::check_apart(&sets, findings);
    sets
}

/// Decides which set gives which requested address, before anything is taken.
fn assign(sets: &[RangeSet], requested: &[(String, IpAddr)]) -> Result<Vec<Option<IpAddr>>> {
    let mut assigned: Vec<Option<IpAddr>> = vec![None; sets.len()];
    let mut seen = HashSet::new();
    let places = Places::of(sets);
    for (path, address) in requested.iter().filter(|(_, address)| seen.insert(*address)) {
        let refuse = |allowed| Err(Error::Addresses(Finding::new(path.as_str(), address, allowed).to_string()));
        let Some((set, range)) = places.find(*address) else {
            let all: Vec<String> = sets.iter().map(RangeSet::to_string).collect();
            return refuse(format!("an address of {}", all.join(" or ")));
        };
        if *address == range.gateway() {
            return refuse(format!("another address than the gateway of {}", range.subnet()));
        }
        match &mut assigned[set] {
            Some(first) => return refuse(format!("one address of a range set; {first} is asked for too")),
            slot => *slot = Some(*address),
        }
    }
    Ok(assigned)
}

/// The network's directory. Needs nothing of the section but `dataDir`: a DEL must not fail for a range.
fn directory(call: &Call<'_>) -> Checked<PathBuf> {
    let data_dir = absolute(&section(call.conf)?, "dataDir")?.unwrap_or_else(|| PathBuf::from(DATA_DIR));
    Ok(data_dir.join(call.origin.address_dir.unwrap_or(call.network.as_str())))
}

/// The directory that the network had before its namespace was in the name.
fn former_directory(call: &Call<'_>) -> Checked<Option<PathBuf>> {
    let dir = directory(call)?;
    Ok(call.origin.address_dir.map(|_| dir.with_file_name(call.network.as_str())))
}

/// A tenant's `dataDir` must not make a network's directory of one that holds other networks', nor lie in one: programs that
/// share this layout walk into what is below.
pub fn admit(call: &Call<'_>) -> Result<()> {
    if !call.origin.is_tenants {
        return Ok(());
    }
    let Some(data_dir) = absolute(&section(call.conf)?, "dataDir")? else { return Ok(()) };
    let dir = directory(call)?;
    let refuse = |allowed: String| Err(Finding::new("ipam.dataDir", data_dir.display(), allowed).into());
    let is_inside = data_dir.starts_with(DATA_DIR) && data_dir != Path::new(DATA_DIR);
    if let Some(outer) = data_dir.ancestors().find(|outer| store::is_one(outer)) {
        return refuse(format!("a directory outside of those of networks: {} is one", outer.display()));
    }
    if is_inside {
        return refuse(format!("{DATA_DIR} itself, or a directory outside of it: below it each network has its own"));
    }
    // Most file systems count a directory's directories among its links: none in it, and hundreds of addresses are not listed.
    if fs::metadata(&dir).is_ok_and(|meta| meta.nlink() == 2) {
        return Ok(());
    }
    let below = fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut dirs = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    match dirs.find(|below| store::is_one(below)) {
        Some(inner) => refuse(format!(
            "another directory: {} is this network's then, and {} another's",
            dir.display(),
            inner.display()
        )),
        None => Ok(()),
    }
}

fn absolute(ipam: &Object, key: &str) -> Checked<Option<PathBuf>> {
    match ipam.parsed::<PathBuf>(key, "a path").map_err(|e| e.under("ipam"))? {
        Some(path) if !path.is_absolute() => {
            Err(Finding::new(format!("ipam.{key}"), path.display(), "an absolute path"))
        }
        found => Ok(found),
    }
}

/// Reads name servers as the reference plugin does: lists accumulate, the last domain counts.
fn resolv_conf(path: &PathBuf) -> Result<Dns> {
    let op = || Error::io(format!("read ipam.resolvConf {}", path.display()));
    if !fs::metadata(path).map_err(op())?.is_file() {
        // Opening a pipe would block for ever.
        return Err(Finding::new("ipam.resolvConf", path.display(), "a regular file").into());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(op())?;
    file.take(RESOLV_CONF_MAX + 1).read_to_end(&mut bytes).map_err(op())?;
    if bytes.len() as u64 > RESOLV_CONF_MAX {
        let allowed = format!("a file of at most {RESOLV_CONF_MAX} bytes");
        return Err(Finding::new("ipam.resolvConf", path.display(), allowed).into());
    }
    Ok(parse_resolv_conf(&String::from_utf8_lossy(&bytes)))
}

fn parse_resolv_conf(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(key), Some(first)) = (words.next(), words.next()) else { continue };
        let all = std::iter::once(first).chain(words).map(str::to_owned);
        match key {
            "nameserver" => dns.nameservers.push(first.to_owned()),
            "domain" => dns.domain = Some(first.to_owned()),
            "search" => dns.search.extend(all),
            "options" => dns.options.extend(all),
            _ => {}
        }
    }
    dns
}
