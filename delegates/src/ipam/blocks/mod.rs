//! `blocks`: addresses of one pool for all nodes. A node owns runs of slots and gives them out by itself.
//!
//! [`Pool`] numbers the addresses, `journal` is the text of what is leased, [`Leases`] the file with its lock, `choice` decides. Which
//! slots the node owns says `network.json` of [`crate::networks`], which the node agent writes; a node that is alone owns all.

mod choice;
mod config;
mod journal;
mod leases;
mod pool;
#[cfg(test)]
mod tests;
mod wanted;
pub mod whereabouts;

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use attachments::bind::Source;
use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Ip};
use attachments::finding::Finding;
use attachments::names::ObjectName;
use attachments::selection::ADDRESS_SET;

use self::choice::{Past, Refusal, Share};
use self::config::{Config, has_gateway};
pub(super) use self::config::{KEYS, RANGE_KEYS, validate};
pub use self::journal::{Holder, Lease};
pub use self::leases::{FILE, Held, Leases};
pub use self::pool::{Pool, SlotAddress};
pub use self::wanted::WANTED;
use super::requested::env_list;
use super::{Foreseen, Leased, Validated, one_per_family, section};
use crate::call::{Call, Node};
use crate::error::{Error, Result};
use crate::networks::state::{NetworkState, PoolState, Slots};
use crate::networks::{self, NetworkId, network_of};
use crate::ownership::Ownership;
use crate::poll::PollTimer;

/// `ipam.type`.
pub const TYPE: &str = "blocks";

/// What [`PoolState::claimed`] says of an IPAMClaim, before `namespace/name`. A pod's name has nothing before it.
pub const CLAIM: &str = "IPAMClaim ";

/// What a member of an AddressSet is promised as that a pod (`namespace/name`) of the node takes.
pub fn set_promise(set: &str, pod: &str) -> String {
    format!("AddressSet {set} for {pod}")
}

/// The pool that a plugin's configuration names; `None` where its addresses come from elsewhere.
pub fn pool_of(conf: &Object) -> Validated<Option<Pool>> {
    let ipam = section(conf).map_err(|finding| vec![finding])?;
    if ipam.text("type").ok().flatten().is_none_or(|kind| kind != TYPE) {
        return Ok(None);
    }
    Pool::read(&ipam, has_gateway(conf)).map(Some)
}

/// Takes a slot. Without a free one it asks the node agent for more and waits; the file is not locked meanwhile.
pub fn allocate(node: &Node<'_>, call: &Call<'_>) -> Result<Leased> {
    let point = call.point()?;
    let config = Config::read(call.conf, point.args)?;
    one_per_family(call.version, config.pool.families())?;
    let id = network(call);
    let holder =
        Holder { container: point.container.to_string(), ifname: point.ifname.to_string(), pod: pod_of(point.args) };
    let claim = claim_of(node, call, holder.pod.as_deref())?;
    let member = member_of(node, call, holder.pod.as_deref())?;
    let mut timer = PollTimer::until(node.deadline);
    loop {
        let mut leases = Leases::create(node.state_dir, &id, node.deadline)?;
        leases.is_whole()?;
        if let Some(own) =
            leases.journal().live.iter().find(|line| line.lease.holder.is(&holder.container, &holder.ifname))
        {
            let own = listed(&own.lease.addresses);
            return Err(Error::Addresses(format!("this attachment holds {own} of network {id} already")));
        }
        // Read under the lock: whoever takes slots from the node writes under it.
        let (share, exhausted) = share(node, call, &id, &config.pool)?;
        let past = Past::of(leases.journal(), &share.pool);
        let pod = holder.pod.as_deref();
        let slot = match claim.as_ref().or(member.as_ref()) {
            Some(text) if member.is_some() => Some(taken_member(&id, &leases, &share, text)?),
            Some(claim) => Some(kept(&id, &leases, &share, claim, &holder.container)?),
            None => match choice::requested(&share, &past, pod, &config.requested) {
                Ok(Some(slot)) => Some(slot),
                Ok(None) => choice::next(&share, &past, || node.in_time(|| format!("taking an address of {id}")))?,
                Err((address, refusal)) => return Err(refused(node, &id, &leases, &share, address, refusal)),
            },
        };
        if let Some(slot) = slot {
            let addresses = share.pool.addresses(slot).unwrap_or_default();
            let lease = Lease { addresses: addresses.iter().map(|one| one.address.addr()).collect(), holder };
            leases.add(lease)?;
            leases.tidy();
            let given = addresses.iter().filter(|one| config.gives(one.address.addr().is_ipv4()));
            let ips = given.map(|one| Ip::new(one.address, one.gateway, None)).collect();
            let result = CniResult { ips, routes: config.routes, ..CniResult::default() };
            return Ok(Leased { result, mac: share.pool.mac(slot) });
        }
        let taken = leases.journal().live.len();
        drop(leases);
        if node.is_alone {
            return Err(Error::Addresses(format!("no address is left in {}: all {taken} are taken", share.pool)));
        }
        wanted::ask(node.state_dir, &id)?;
        if let Some(why) = exhausted {
            return Err(Error::Addresses(format!("no address is left for network {id} on this node: {why}")));
        }
        if !timer.pause() || Instant::now() >= node.deadline {
            let text = format!("waiting for addresses of network {id}, of which all {taken} of this node are taken,");
            return Err(Error::Late(text));
        }
    }
}

/// The subnets and gateways of all ranges.
pub fn foresee(call: &Call<'_>) -> Result<Vec<Foreseen>> {
    let config = Config::read(call.conf, call.point()?.args)?;
    let each = |(subnet, gateway)| Foreseen { address: None, subnet, gateway };
    Ok(config.pool.ranges().map(each).collect())
}

/// Gives back what the attachment holds. Needs nothing of the section: a DEL must not fail for a range.
pub fn release(node: &Node<'_>, call: &Call<'_>) -> Result<()> {
    let point = call.point()?;
    let Some(mut leases) = Leases::open(node.state_dir, &network(call), node.deadline)? else { return Ok(()) };
    leases.remove(|holder| holder.is(point.container.as_str(), point.ifname.as_str()))?;
    leases.tidy();
    Ok(())
}

/// The attachment holds a slot, and those addresses of the result that are the pool's.
pub fn check(node: &Node<'_>, call: &Call<'_>) -> Result<()> {
    let point = call.point()?;
    let id = network(call);
    let held = Held::read(node.state_dir, &id)?;
    let own = held.leases().iter().find(|lease| lease.holder.is(point.container.as_str(), point.ifname.as_str()));
    let lost = |what: String| {
        let file = id.dir(node.state_dir).join(FILE);
        let text = format!("{what} in {} belongs to {} {}", file.display(), point.container, point.ifname);
        Err(Error::Differs(text))
    };
    let Some(own) = own else { return lost("no address".to_owned()) };
    let pool = Config::read(call.conf, "")?.pool;
    let told = call.prev_result.map(|result| result.ips.as_slice()).unwrap_or_default();
    let mut told = told.iter().map(|ip| ip.address.addr()).filter(|ip| pool.slot_of(*ip).is_some());
    told.find(|ip| !own.addresses.contains(ip)).map_or(Ok(()), |ip| lost(format!("no lease of {ip}")))
}

/// An address is left, or the node may still get some.
pub fn status(node: &Node<'_>, call: &Call<'_>) -> Result<()> {
    let config = Config::read(call.conf, "")?;
    let id = network(call);
    // A node that is not in the network yet can join it.
    if !node.is_alone && NetworkState::read_pool(node.state_dir, &id)?.is_none() {
        return Ok(());
    }
    let (share, exhausted) = share(node, call, &id, &config.pool)?;
    let (journal, wrong) = leases::read(node.state_dir, &id)?;
    leases::whole(&id.dir(node.state_dir).join(FILE), wrong.as_ref())?;
    let past = Past::of(&journal, &share.pool);
    let go_on = || node.in_time(|| format!("looking for an address of {id}"));
    match (choice::next(&share, &past, go_on)?, exhausted) {
        (None, None) if node.is_alone => Err(Error::NotReady(format!("no address is left in {}", share.pool))),
        (None, Some(why)) => Err(Error::NotReady(format!("no address is left for network {id} on this node: {why}"))),
        _ => Ok(()),
    }
}

/// Gives back what is left of containers that are gone, and lists those of unknown containers.
pub fn gc(node: &Node<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
    match Leases::open(node.state_dir, &network(call), node.deadline)? {
        Some(leases) => leases.sweep(ownership),
        None => Ok(Vec::new()),
    }
}

/// The same in every network, whether a configuration leads to it or not. A file of an earlier boot of a network that the node is
/// not in any more goes. Goes on after a failure and reports the first.
pub fn sweep(state_dir: &Path, ownership: &Ownership<'_>, deadline: Instant) -> Result<()> {
    let mut outcome = Ok(());
    for network in fs::read_dir(state_dir.join(networks::DIR)).into_iter().flatten().flatten() {
        let Some(id) = network.file_name().to_str().map(NetworkId::of_dir) else { continue };
        let is_member = network.path().join(networks::state::FILE).exists();
        let swept = Leases::open(state_dir, &id, deadline).and_then(|leases| match leases {
            Some(leases) if leases.journal().is_void && !is_member => {
                leases.discard_void();
                Ok(())
            }
            Some(leases) => leases.sweep(ownership).map(drop),
            None => Ok(()),
        });
        outcome = outcome.and(swept);
    }
    outcome
}

fn network(call: &Call<'_>) -> NetworkId {
    network_of(call.conf, call.origin.source)
}

/// What the node may give out, and why it can get no more, if it cannot.
fn share(node: &Node<'_>, call: &Call<'_>, id: &NetworkId, pool: &Pool) -> Result<(Share, Option<String>)> {
    if node.is_alone {
        return Ok((Share::all(pool.clone()), None));
    }
    let state = match (NetworkState::read_pool(node.state_dir, id)?, call.origin.source) {
        (Some(state), _) => state,
        (None, Source::Node(_)) => {
            let allowed = "another type: only a NetworkAttachmentDefinition tells the other nodes of its addresses";
            return Err(Finding::new("ipam.type", format_args!("{TYPE:?}"), allowed).into());
        }
        (None, Source::Definition(_) | Source::Object(_)) => {
            let text = "the node agent has not joined it; an agent that is older than its plugin does not know how";
            return Err(Error::Busy(format!("network {id} has no addresses on this node: {text}")));
        }
    };
    let PoolState { pool: common, slots, claimed, exhausted } = state;
    let (ours, theirs) = (pool.to_string(), common.to_string());
    let Some(pool) = pool.clone().restricted_by(&common) else {
        let allowed = format!("{theirs}, by which the nodes of network {id} number its addresses");
        return Err(Error::Parent(Finding::new("ipam", ours, allowed)));
    };
    Ok((Share { pool, slots, claimed }, exhausted))
}

/// Why a pod does not get the address that it asks for.
fn refused(
    node: &Node<'_>,
    id: &NetworkId,
    leases: &Leases,
    share: &Share,
    address: IpAddr,
    refusal: Refusal,
) -> Error {
    Error::Addresses(match refusal {
        Refusal::Request(finding) => finding.to_string(),
        Refusal::Promised(holder) => format!("requested address {address} is kept for {holder}"),
        Refusal::Taken => {
            let slot = share.pool.slot_of(address).unwrap_or_default();
            let holder = choice::holder(leases.journal(), &share.pool, slot).map(ToString::to_string);
            format!("requested address {address} is taken by {}", holder.unwrap_or_default())
        }
        Refusal::Elsewhere(slot) => elsewhere(node, id, &share.pool, address, slot),
    })
}

/// The requested address is in a block that is not this node's.
fn elsewhere(node: &Node<'_>, id: &NetworkId, pool: &Pool, address: IpAddr, slot: u32) -> String {
    let first = slot / pool.block_size() * pool.block_size();
    let state = NetworkState::read(node.state_dir, id).ok().flatten();
    let members = state.and_then(|state| state.overlay).map(|overlay| overlay.members).unwrap_or_default();
    let has = |runs: &[Slots]| runs.iter().any(|run| run.contains(slot));
    let owner = members.iter().find(|member| has(&member.slots));
    let owner = owner.map_or_else(|| "not this node's".to_owned(), |owner| format!("node {}'s", owner.node));
    format!(
        "requested address {address} is in block {id}.b{first}, which is {owner}: want an address of a block of this node, or one that ips of the pod's annotation asks for"
    )
}

/// The IPAMClaim of the attachment, as promises name it.
fn claim_of(node: &Node<'_>, call: &Call<'_>, pod: Option<&str>) -> Result<Option<String>> {
    let Some(name) = call.origin.ipam_claim else { return Ok(None) };
    let refused = |allowed: &'static str| Err(Finding::new("ipam-claim-reference", name, allowed).into());
    if node.is_alone {
        return refused("none: without an API server no address is kept for an IPAMClaim; use ips");
    }
    match pod.and_then(|pod| pod.split_once('/')) {
        Some((namespace, _)) => Ok(Some(format!("{CLAIM}{namespace}/{name}"))),
        None => refused("none: the runtime does not say which pod it is"),
    }
}

/// The member of an AddressSet that is the pod's, as promises name it.
fn member_of(node: &Node<'_>, call: &Call<'_>, pod: Option<&str>) -> Result<Option<String>> {
    let Some(set) = call.origin.address_set else { return Ok(None) };
    let refused = |allowed: &'static str| Err(Finding::new(ADDRESS_SET, set, allowed).into());
    match pod {
        _ if node.is_alone => refused("none: without an API server there are no AddressSets; use ips"),
        Some(pod) => Ok(Some(set_promise(set.as_str(), pod))),
        None => refused("none: the runtime does not say which pod it is"),
    }
}

/// The slot that is promised to the pod. Its last holder's lease is gone, or it is not the pod's yet.
fn taken_member(id: &NetworkId, leases: &Leases, share: &Share, text: &str) -> Result<u32> {
    let Some((slot, _)) = share.claimed.iter().find(|(_, who)| *who == text) else {
        let why = "the node agent has not got it; an agent that is older than its plugin does not know how";
        return Err(Error::Busy(format!("network {id} has no address of {text} on this node: {why}")));
    };
    match choice::holder(leases.journal(), &share.pool, *slot) {
        None => Ok(*slot),
        Some(holder) => Err(Error::Busy(format!("the address of {text} in network {id} is held by {holder} still"))),
    }
}

/// The slot that is kept for an IPAMClaim.
fn kept(id: &NetworkId, leases: &Leases, share: &Share, claim: &str, container: &str) -> Result<u32> {
    if !share.claimed.values().any(|who| who == claim) {
        let text = "the node agent has not got it; an agent that is older than its plugin does not know how";
        return Err(Error::Busy(format!("network {id} has no address of {claim} on this node: {text}")));
    }
    let twice = || Error::Addresses(format!("this pod has the address of {claim} in network {id} already"));
    choice::kept(share, leases.journal(), claim, container).ok_or_else(twice)
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The pod as `namespace/name`, where the runtime says which it is.
fn pod_of(cni_args: &str) -> Option<String> {
    let value = |key| env_list(cni_args, key).next().and_then(|text| text.parse::<ObjectName>().ok());
    Some(format!("{}/{}", value("K8S_POD_NAMESPACE")?, value("K8S_POD_NAME")?))
}
