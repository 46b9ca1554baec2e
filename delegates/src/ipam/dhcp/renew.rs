//! More time for a lease, and what happens without: the agent starts the plugin for it.
//!
//! A lease that is over, or that a server refuses, must not be used: another pod may have the address by now. It is
//! taken off the link, with the routes that need it, and the link stays up: when a server has the address for this pod again, both come
//! back. Another address is not taken, for the pod and its status have been told of the first.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use attachments::names::{Mac, NetworkName};
use serde::{Deserialize, Serialize};

use super::client::{Client, Extended, Granted};
use super::lease::{Lease, LeaseName, Phase, State, uptime};
use super::socket::RawSocket;
use super::terms::Times;
use super::{ethernet, link_of};
use crate::call::Node;
use crate::error::{Error, Result};
use crate::nl::link::Link;
use crate::sandbox::Sandbox;

/// What became of a try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Outcome {
    /// There was nothing to do, or a call is at work on the sandbox.
    Waits,
    /// The lease, or its pod, is gone.
    Gone,
    /// A server has granted more time.
    Renewed,
    /// No server has; there is time left.
    #[serde(rename_all = "camelCase")]
    Silent {
        /// Every server was asked.
        to_everybody: bool,
    },
    /// The lease is over, and the address was taken off the link just now.
    Lost {
        /// Why.
        why: String,
    },
    /// It is still so.
    StillLost {
        /// Why.
        why: String,
    },
    /// The pod has the address again.
    Regained,
}

/// One try, as the plugin prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Renewal {
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The network; absent where there is no lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// The address in its subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<ipnet::Ipv4Net>,
    /// The pod as `namespace/name`, where its record says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<attachments::names::PodRef>,
    /// Seconds until the next try; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl Renewal {
    /// Nothing was done.
    pub fn of_nothing(outcome: Outcome, next: Option<u64>) -> Self {
        Self { outcome, network: None, address: None, pod: None, next }
    }
}

/// How long a lost address is asked for at a time. The sandbox is locked meanwhile.
const REGAIN: Duration = Duration::from_secs(3);

/// Does what a lease wants now. The caller holds the sandbox lock.
pub fn renew(node: &Node<'_>, name: &LeaseName) -> Result<Renewal> {
    let Some(mut lease) = Lease::read(node.state_dir, name)? else {
        return Ok(Renewal::of_nothing(Outcome::Gone, None));
    };
    let outcome = match Sandbox::find(&lease.netns, node)? {
        Some(mut sandbox) => match link_of(&mut sandbox, &lease)? {
            Some(link) => advance(node, &mut sandbox, &link, &mut lease)?,
            None => Outcome::Gone,
        },
        None => Outcome::Gone,
    };
    let now = uptime()?;
    let next = match &outcome {
        Outcome::Gone => None,
        Outcome::Waits | Outcome::Renewed | Outcome::Regained => lease.due(now),
        Outcome::Silent { .. } | Outcome::Lost { .. } | Outcome::StillLost { .. } => Some(lease.pause(now)),
    };
    Ok(Renewal { outcome, network: Some(lease.network), address: Some(lease.address), pod: None, next })
}

fn advance(node: &Node<'_>, sandbox: &mut Sandbox, link: &Link, lease: &mut Lease) -> Result<Outcome> {
    let asked = uptime()?;
    let phase = lease.phase(asked);
    // An ADD that was killed; its DEL gives back what there is.
    if phase == Phase::Fresh || lease.state == State::Offered {
        return Ok(Outcome::Waits);
    }
    if phase == Phase::Expired {
        return match lease.state {
            State::Lost => regain(node, sandbox, link, lease),
            _ => lose(node, sandbox, link, lease, "it is over, and no server has renewed it"),
        };
    }
    let to_everybody = phase == Phase::Rebinding;
    let server = (!to_everybody).then_some((lease.server_mac, lease.server));
    let who = lease.who(ethernet(link)?);
    let mut socket = RawSocket::open(sandbox, link)?;
    match Client::new(&mut socket, &who)?.extend(lease.address.addr(), server) {
        Ok(Extended::Granted(times, server)) => {
            prolong(node, lease, (times, server), asked)?;
            Ok(Outcome::Renewed)
        }
        Ok(Extended::Refused) => lose(node, sandbox, link, lease, "a server says that the address is not this pod's"),
        // The pod's link is down: no server was asked.
        Ok(Extended::Silent) | Err(Error::Kernel { .. }) => Ok(Outcome::Silent { to_everybody }),
        Err(error) => Err(error),
    }
}

/// Notes that the pod has the lease from then on.
fn prolong(node: &Node<'_>, lease: &mut Lease, (times, server): (Times, (Mac, Ipv4Addr)), since: u64) -> Result<()> {
    lease.last(times, server);
    lease.since = since;
    lease.state = State::Bound;
    lease.routes = Vec::new();
    lease.write(node.state_dir)
}

/// Takes the address off the link.
fn lose(node: &Node<'_>, sandbox: &mut Sandbox, link: &Link, lease: &mut Lease, why: &str) -> Result<Outcome> {
    lease.routes = sandbox.netlink.keep_routes(link.index)?;
    lease.state = State::Lost;
    // First: a kill in between leaves an address that the next try takes off.
    lease.write(node.state_dir)?;
    sandbox.netlink.delete_address(link.index, lease.address.into())?;
    Ok(Outcome::Lost { why: why.to_owned() })
}

/// Asks for the address that was lost.
fn regain(node: &Node<'_>, sandbox: &mut Sandbox, link: &Link, lease: &mut Lease) -> Result<Outcome> {
    sandbox.netlink.delete_address(link.index, lease.address.into())?;
    let (who, mine) = (lease.who(ethernet(link)?), lease.address);
    let mut socket = RawSocket::open(sandbox, link)?;
    let asked = uptime()?;
    let deadline = node.deadline.min(Instant::now() + REGAIN);
    let mut keep = |offer: &Granted| match offer.terms.address {
        address if address == mine => Ok(()),
        other => Err(Error::Addresses(format!("{} offers {other} in its place", offer.terms.server))),
    };
    match Client::new(&mut socket, &who)?.acquire(Some(mine.addr()), deadline, &mut keep) {
        Ok(granted) => {
            sandbox.netlink.add_address(link.index, mine.into(), false)?;
            for route in &lease.routes {
                // A route whose gateway the pod cannot reach any more is left out.
                let _ = sandbox.netlink.bring_back(route, link.index, link.index);
            }
            // Neighbours that do not hear of it find out by themselves.
            let _ = socket.announce(who.mac, mine.addr());
            prolong(node, lease, (granted.terms.times, (granted.server_mac, granted.terms.server)), asked)?;
            Ok(Outcome::Regained)
        }
        Err(Error::Busy(why) | Error::Addresses(why)) => Ok(Outcome::StillLost { why }),
        Err(error @ Error::Kernel { .. }) => Ok(Outcome::StillLost { why: error.to_string() }),
        Err(error) => Err(error),
    }
}
