//! `dhcp`: addresses of a server on the network, without a daemon.
//!
//! The plugin asks for the address over the pod's own link, once that is there, and keeps what it got in a file ([`Lease`]); DEL gives it
//! back before the link goes. In between the agent starts the plugin whenever a lease wants more time ([`renew`]): there
//! is one place that enters pods, and an agent that was away finds everything in the files.

mod client;
mod config;
mod frame;
mod lease;
mod message;
pub mod renew;
mod socket;
mod terms;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, Instant};

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::finding::Finding;
use attachments::names::Mac;

pub use config::{KEYS, PROVIDE_KEYS, REQUEST_KEYS, validate};
pub use lease::{DIRECTORY, Lease, LeaseName, names, uptime};

use self::client::{Client, Who};
use self::config::Config;
use self::lease::{Phase, State};
use self::socket::RawSocket;
use crate::call::{Call, Node, Point};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::nl::link::{Kind, Link};
use crate::ownership::{Owner, Ownership};
use crate::poll::PollTimer;
use crate::sandbox::Sandbox;

/// `ipam.type`.
pub const TYPE: &str = "dhcp";

/// The longest that an ADD waits for a server. Who wants the pod tries again, and other pods are waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the link may take until it carries frames.
const CARRIER: Duration = Duration::from_secs(3);

/// The state that the record of an ADD keeps: something may have to be given back before the link goes.
const ASKED: &str = "dhcp";

/// Before anything is asked for: DEL is to come by before it removes the link.
pub fn note(host: &mut Host<'_>) -> Result<()> {
    let mut state = Object::new();
    state.set(ASKED, &true);
    host.save(&state)
}

/// ADD, with the link there and up.
pub fn allocate(node: &Node<'_>, sandbox: &mut Sandbox, call: &Call<'_>) -> Result<CniResult> {
    let point = call.point()?;
    let config = Config::read(call.conf, point.args)?;
    let link = carrying(sandbox, point)?;
    let mac = ethernet(&link)?;
    let who = Who {
        mac,
        id: Who::id(point.container, call.network, point.ifname, &config.wishes),
        wishes: config.wishes,
        // Links that share a hardware address are told apart by their addresses, which this one does not have yet.
        broadcast: config.broadcast.unwrap_or(matches!(link.kind, Kind::Ipvlan(_))),
    };
    let mut socket = RawSocket::open(sandbox, &link)?;
    let mut held = None;
    let granted = Client::new(&mut socket, &who)?
        .acquire(None, node.deadline.min(Instant::now() + PATIENCE), &mut |offer| {
            let lease = Lease::new(call.network, point, link.index, &who, offer)?;
            lease.write(node.state_dir)?;
            held = Some(lease);
            Ok(())
        })
        .map_err(|error| on_link(point, call, error))?;
    if let Some(mut lease) = held {
        lease.address = granted.terms.address;
        lease.last(granted.terms.times, (granted.server_mac, granted.terms.server));
        lease.state = State::Bound;
        lease.write(node.state_dir)?;
    }
    Ok(granted.terms.result(config.priority))
}

/// Tells the neighbours of the addresses that the link has now.
pub fn announce(sandbox: &mut Sandbox, link: &Link, result: &CniResult) -> Result<()> {
    let socket = RawSocket::open(sandbox, link)?;
    for ip in &result.ips {
        if let std::net::IpAddr::V4(address) = ip.address.addr() {
            socket.announce(ethernet(link)?, address)?;
        }
    }
    Ok(())
}

/// DEL, while the link is there: gives the address back. Without the pod nothing can be sent, and a server keeps the address until the
/// lease is over; the same when sending fails.
pub fn leave(node: &Node<'_>, sandbox: &mut Sandbox, call: &Call<'_>) -> Result<()> {
    let name = LeaseName::of(call.point()?);
    let Some(lease) = Lease::read(node.state_dir, &name)?.filter(|lease| lease.state != State::Lost) else {
        return Ok(());
    };
    match link_of(sandbox, &lease)? {
        Some(link) => {
            let mut socket = RawSocket::open(sandbox, &link)?;
            let who = lease.who(ethernet(&link)?);
            Client::new(&mut socket, &who)?.release(lease.address.addr(), (lease.server_mac, lease.server))
        }
        None => Ok(()),
    }
}

/// DEL: forgets the lease.
pub fn release(node: &Node<'_>, call: &Call<'_>) -> Result<()> {
    Lease::remove(node.state_dir, &LeaseName::of(call.point()?))
}

/// CHECK: the lease is there and not over.
pub fn check(node: &Node<'_>, call: &Call<'_>) -> Result<()> {
    let name = LeaseName::of(call.point()?);
    let differs = |what: &str| Err(Error::Differs(format!("the DHCP lease of {} {what}", name.ifname)));
    match Lease::read(node.state_dir, &name)? {
        None => differs("is not known"),
        Some(lease) if lease.state == State::Offered => differs("was offered and not granted"),
        Some(lease) if lease.phase(uptime()?) == Phase::Expired => differs(&format!("of {} is over", lease.address)),
        Some(_) => Ok(()),
    }
}

/// GC: removes the files of containers that are gone.
pub fn sweep(state_dir: &Path, ownership: &Ownership<'_>) -> Result<()> {
    let gone = |name: &LeaseName| ownership.owner(&name.container) == Owner::Departed;
    names(state_dir).iter().filter(|name| gone(name)).try_for_each(|name| Lease::remove(state_dir, name))
}

/// The pod's link, once it carries frames; a link that does not in time is asked over all the same.
fn carrying(sandbox: &mut Sandbox, point: &Point<'_>) -> Result<Link> {
    let mut timer = PollTimer::until(sandbox.deadline().min(Instant::now() + CARRIER));
    loop {
        let link = sandbox.made(point.ifname)?;
        if link.is_operational() || !timer.pause() {
            return Ok(link);
        }
    }
}

fn ethernet(link: &Link) -> Result<Mac> {
    let allowed = "a type whose addresses need no Ethernet";
    link.mac.ok_or_else(|| Finding::new("ipam.type", format_args!("{TYPE:?}"), allowed).into())
}

/// The link of a lease. A pod may rename it, and a plugin behind the one that made it gives it another hardware address; with
/// both changed the path leads to another pod.
fn link_of(sandbox: &mut Sandbox, lease: &Lease) -> Result<Option<Link>> {
    let is_it = |link: &Link| link.has_mac(lease.mac) || link.name == lease.ifname.as_str();
    Ok(sandbox.netlink.link_by_index(lease.link)?.filter(is_it))
}

fn on_link(point: &Point<'_>, call: &Call<'_>, error: Error) -> Error {
    let place = format!("{} of network {}", point.ifname, call.network);
    match error {
        Error::Busy(text) => Error::Busy(format!("{text} on {place}")),
        Error::Addresses(text) => Error::Addresses(format!("{text} ({place})")),
        other => other,
    }
}
