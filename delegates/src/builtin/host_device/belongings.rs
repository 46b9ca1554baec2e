//! What people set on a link, and what the kernel takes from it when it leaves: addresses, routes, neighbours. Policy
//! rules that name the link stay where they are; the kernel ties them to its name again.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nl::Netlink;
use crate::nl::kept::Kept;
use crate::nl::link::Link;
use crate::poll::PollTimer;

/// More routes than a person sets, and what a record can hold.
const MOST_ROUTES: usize = 4096;

/// How long routes wait for their IPv6 source addresses, which duplicate address detection keeps back.
const SETTLE: Duration = Duration::from_millis(2500);

/// What a link carries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Belongings {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Kept>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Kept>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    neighbours: Vec<Kept>,
}

impl Belongings {
    /// What a link carries now. [`Error::Busy`] when it is a router's main link, which nobody should lend.
    pub(super) fn of(netlink: &mut Netlink, link: &Link) -> Result<Self> {
        let routes = netlink.keep_routes(link.index)?;
        if routes.len() > MOST_ROUTES {
            return Err(Error::Busy(format!(
                "device {}: {} routes of the node lead through it, more than the {MOST_ROUTES} that could be given back",
                link.name,
                routes.len()
            )));
        }
        Ok(Self {
            addresses: netlink.keep_addresses(link.index)?,
            routes,
            neighbours: netlink.keep_neighbours(link.index)?,
        })
    }

    /// The addresses, which a link can have while it is down.
    pub(super) fn give_addresses(&self, netlink: &mut Netlink, was: u32, now: u32) -> Result<()> {
        for address in &self.addresses {
            netlink.bring_back(address, was, now)?;
        }
        Ok(())
    }

    /// Neighbours and routes, of a link that is up. A route that the node cannot have any more (its gateway was reached by
    /// an address with a lifetime, or by a link that is gone) is left out, and no reason to keep the device from the node.
    pub(super) fn give_routes(&self, netlink: &mut Netlink, was: u32, now: u32, deadline: Instant) -> Result<()> {
        for neighbour in &self.neighbours {
            lenient(netlink.bring_back(neighbour, was, now))?;
        }
        let mut left: Vec<&Kept> = self.routes.iter().collect();
        let mut timer = PollTimer::until(deadline.min(Instant::now() + SETTLE));
        loop {
            let before = left.len();
            let mut refused = Vec::new();
            for route in left {
                if lenient(netlink.bring_back(route, was, now))?.is_none() {
                    refused.push(route);
                }
            }
            left = refused;
            // One route may lead to the gateway of another.
            let goes_on = !left.is_empty() && left.len() < before;
            let waits = !left.is_empty() && netlink.addresses(Some(now))?.iter().any(|address| address.tentative);
            let again = goes_on || (waits && timer.pause());
            if !again {
                return Ok(());
            }
        }
    }
}

/// The kernel's no is no failure.
fn lenient(answer: Result<bool>) -> Result<Option<bool>> {
    match answer {
        Err(Error::Kernel { .. }) => Ok(None),
        other => other.map(Some),
    }
}
