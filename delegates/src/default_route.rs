//! The pod's default routes of one family: moved to one link, and looked at afterwards.

use std::net::IpAddr;

use attachments::cni::result::default_destination;
use attachments::names::IfName;

use crate::error::{Error, Result};
use crate::nl::Netlink;
use crate::nl::route::{MAIN, Route, RouteFilter};
use crate::sandbox::Sandbox;

/// The pod's default routes of both families as they were.
#[derive(Debug)]
pub struct DefaultRoutes([Vec<Route>; 2]);

impl DefaultRoutes {
    /// Those that the main table holds now.
    pub fn of(sandbox: &mut Sandbox) -> Result<Self> {
        Ok(Self([default_routes(sandbox, true)?, default_routes(sandbox, false)?]))
    }

    /// Makes them the default routes again.
    pub fn put_back(&self, sandbox: &mut Sandbox) -> Result<()> {
        for (routes, ipv4) in self.0.iter().zip([true, false]) {
            let is_in = |all: &[Route], route: &Route| {
                all.iter().any(|one| one.index == route.index && one.gateway == route.gateway)
            };
            let (stay, go): (Vec<Route>, Vec<Route>) =
                default_routes(sandbox, ipv4)?.into_iter().partition(|route| is_in(routes, route));
            take_out(&mut sandbox.netlink, &go, &stay)?;
            for route in routes.iter().filter(|route| !is_in(&stay, route)) {
                sandbox.netlink.add_route(route)?;
            }
        }
        Ok(())
    }
}

/// Lets the pod's traffic of one family leave by `link` alone: default routes of the main table through other links go.
/// With a `gateway` it becomes the only default route; without one the link keeps those that it has. What the kernel holds
/// then is read back, because a route that is silently not there is the worst outcome.
pub fn move_to(sandbox: &mut Sandbox, link: &IfName, ipv4: bool, gateway: Option<IpAddr>) -> Result<()> {
    let missing = || Error::Differs(format!("link {link} is not in the pod: no default route can lead through it"));
    let index = sandbox.netlink.link_by_name(link)?.ok_or_else(missing)?.index;
    let stays = |route: &Route| route.index == Some(index) && (gateway.is_none() || route.gateway == gateway);
    let (stay, go): (Vec<Route>, Vec<Route>) = default_routes(sandbox, ipv4)?.into_iter().partition(stays);
    take_out(&mut sandbox.netlink, &go, &stay)?;
    if let Some(gateway) = gateway {
        let route = Route { gateway: Some(gateway), ..Route::new(default_destination(ipv4), index) };
        if !default_routes(sandbox, ipv4)?.iter().any(|present| present.gateway == Some(gateway)) {
            sandbox.netlink.replace_route(&route)?;
        }
    }
    verify(sandbox, link, index, ipv4, gateway)
}

/// Deletes next hops of routes; `stay` are the others.
pub(crate) fn take_out(netlink: &mut Netlink, go: &[Route], stay: &[Route]) -> Result<()> {
    for route in go {
        netlink.delete_route(route)?;
    }
    // Some next hops go only with their whole route: what stays of it is a route of its own.
    for route in stay.iter().filter(|stays| go.iter().any(|gone| gone.goes_whole() && gone.is_beside(stays))) {
        netlink.add_route(&Route { is_one_of_several: false, nexthop: None, ..*route })?;
    }
    Ok(())
}

fn verify(sandbox: &mut Sandbox, link: &IfName, index: u32, ipv4: bool, gateway: Option<IpAddr>) -> Result<()> {
    let present = default_routes(sandbox, ipv4)?;
    let elsewhere = present.iter().find(|route| route.index != Some(index));
    let wrong = present.iter().find(|route| gateway.is_some() && route.gateway != gateway);
    let family = if ipv4 { "IPv4" } else { "IPv6" };
    match (elsewhere.or(wrong), gateway) {
        (Some(route), _) => Err(Error::Differs(format!(
            "the {family} default route leads through {} on link {}, want link {link}",
            route.gateway.map_or_else(|| "no gateway".to_owned(), |gateway| gateway.to_string()),
            route.index.unwrap_or_default()
        ))),
        (None, Some(gateway)) if present.is_empty() => {
            Err(Error::Differs(format!("the kernel holds no {family} default route through {gateway} on {link}")))
        }
        (None, _) => Ok(()),
    }
}

fn default_routes(sandbox: &mut Sandbox, ipv4: bool) -> Result<Vec<Route>> {
    let filter = RouteFilter { ipv4: Some(ipv4), table: Some(MAIN), index: None };
    Ok(sandbox.netlink.routes(filter)?.into_iter().filter(Route::is_default).collect())
}
