//! Routes and rules in a pod that belong to one of its links, beside those that its result tells: the rules of `sbr`, and what a pod
//! asks for itself (`meta-cni.io/routes`, `meta-cni.io/rules`), whatever delegate has made the link.
//!
//! What a pod asks for carries our protocol in the kernel. So no state is saved: a DEL takes away what the record lists and what is
//! ours, and an equal route or rule of somebody else stays.

use attachments::cni::result::CniResult;
use attachments::finding::Finding;
use attachments::names::IfName;
use attachments::selection::{ROUTES, RequestedRoute, RequestedRule};
use nix::errno::Errno;

use crate::apply::is;
use crate::error::{Error, Result};
use crate::nl::Netlink;
use crate::nl::link::{Kind, Link};
use crate::nl::route::{MAIN, Route, RouteFilter};
use crate::nl::rule::Rule;
use crate::overlay::PROTOCOL;
use crate::sandbox::Sandbox;

/// What a pod asks for on one link.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routing {
    /// In the order in which each finds its next hop: what is on the link first. The link is filled in when it is there, and routes of
    /// the main table are in that of the link's vrf.
    routes: Vec<Route>,
    /// The last one first: the kernel puts a new rule before the others, so the first of two that hold for a packet decides.
    rules: Vec<Rule>,
}

impl Routing {
    /// The pod's default routes of the main table are not among them: [`crate::default_route`] moves those.
    pub fn of(routes: &[RequestedRoute], rules: &[RequestedRule]) -> Self {
        let route = |asked: &RequestedRoute| Route {
            gateway: asked.gw,
            index: None,
            table: asked.table.unwrap_or(MAIN),
            protocol: PROTOCOL,
            ..Route::new(asked.dst, 0)
        };
        let mut routes: Vec<Route> = routes.iter().filter(|asked| !asked.is_default()).map(route).collect();
        routes.sort_by_key(|route| route.gateway.is_some());
        let rule = |asked: &RequestedRule| Rule { protocol: PROTOCOL, ..Rule::from(asked.from, asked.table) };
        Self { routes, rules: rules.iter().rev().map(rule).collect() }
    }

    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.rules.is_empty()
    }

    /// Adds everything. `result` tells the addresses of the link: a gateway that is on none of its networks is refused before the first
    /// route.
    pub fn apply(&self, sandbox: &mut Sandbox, link: &IfName, result: &CniResult) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.require_next_hops(link, result)?;
        let missing = || Error::Parent(Finding::new(ROUTES, link, "the name of a link that the attachment has made"));
        let found = sandbox.netlink.link_by_name(link)?.ok_or_else(missing)?;
        for route in self.on(&mut sandbox.netlink, &found)? {
            let added = sandbox.netlink.claim_route(&route);
            if is(&added, Errno::EEXIST) {
                let same = |held: &Route| same_destination(held, &route);
                match in_table(&mut sandbox.netlink, route.table)?.into_iter().find(same) {
                    // The delegate has added it, or an attempt before this one.
                    Some(held) if held.gateway == route.gateway && held.index == route.index => continue,
                    Some(held) => return Err(Error::Parent(taken(&mut sandbox.netlink, &route, &held)?)),
                    None => {}
                }
            }
            added?;
        }
        if self.rules.is_empty() {
            return Ok(());
        }
        // The kernel takes an equal rule a second time, behind another number. Another attachment of the pod may share ours.
        let held = sandbox.netlink.rules()?;
        let is_there = |rule: &Rule| held.iter().any(|held| *rule == Rule { priority: None, ..held.clone() });
        self.rules.iter().filter(|rule| !is_there(rule)).try_for_each(|rule| sandbox.netlink.add_rule(rule))
    }

    /// Takes away what is ours. `staying` are the rules of attachments that stay.
    pub fn remove(&self, sandbox: &mut Sandbox, link: &IfName, staying: &[RequestedRule]) -> Result<()> {
        let stays = |rule: &&Rule| {
            let same = |other: &RequestedRule| rule.source == Some(other.from) && rule.table == other.table;
            !staying.iter().any(same)
        };
        let rules: Vec<Rule> = self.rules.iter().filter(stays).cloned().collect();
        let mut removed = delete_rules(&mut sandbox.netlink, &rules);
        // Without the link its routes are gone.
        if !self.routes.is_empty()
            && let Some(found) = sandbox.netlink.link_by_name(link)?
        {
            for route in self.on(&mut sandbox.netlink, &found)?.iter().rev() {
                removed = removed.and(sandbox.netlink.delete_route(route).map(drop));
            }
        }
        removed
    }

    /// Everything is there, whoever has made it.
    pub fn check(&self, sandbox: &mut Sandbox, link: &IfName) -> Result<()> {
        if !self.routes.is_empty() {
            let missing = || Error::Differs(format!("link {link} is missing in the pod"));
            let found = sandbox.netlink.link_by_name(link)?.ok_or_else(missing)?;
            let held = sandbox.netlink.routes(RouteFilter { index: Some(found.index), ..RouteFilter::default() })?;
            for route in self.on(&mut sandbox.netlink, &found)? {
                if !held.iter().any(|held| same_destination(held, &route) && held.gateway == route.gateway) {
                    let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                    let text =
                        format!("route {}{via} is missing in table {} of the pod", route.destination, route.table);
                    return Err(Error::Differs(text));
                }
            }
        }
        if self.rules.is_empty() {
            return Ok(());
        }
        let held = sandbox.netlink.rules()?;
        let is_there = |rule: &Rule| held.iter().any(|held| held.source == rule.source && held.table == rule.table);
        match self.rules.iter().rev().find(|rule| !is_there(rule)) {
            None => Ok(()),
            Some(rule) => {
                let source = rule.source.map(|source| source.to_string()).unwrap_or_default();
                let text = format!("no rule that sends packets from {source} to table {} in the pod", rule.table);
                Err(Error::Differs(text))
            }
        }
    }

    /// The routes as they are on a link.
    fn on(&self, netlink: &mut Netlink, link: &Link) -> Result<Vec<Route>> {
        let main = main_table(netlink, link)?;
        let table = |table: u32| if table == MAIN { main } else { table };
        let on = |route: &Route| Route { index: Some(link.index), table: table(route.table), ..*route };
        Ok(self.routes.iter().map(on).collect())
    }

    /// A gateway is on one of the link's networks, or behind a route that is on the link.
    fn require_next_hops(&self, link: &IfName, result: &CniResult) -> Result<()> {
        let nets: Vec<_> = result.ips.iter().map(|ip| ip.address.trunc()).collect();
        let listed = self.routes.iter().filter(|route| route.gateway.is_none()).map(|route| route.destination);
        let near: Vec<_> = nets.iter().copied().chain(listed).collect();
        for route in &self.routes {
            let Some(gateway) = route.gateway else { continue };
            let is_local = matches!(gateway, std::net::IpAddr::V6(gateway) if gateway.is_unicast_link_local());
            if is_local || near.iter().any(|net| net.contains(&gateway)) {
                continue;
            }
            let of_family = nets.iter().filter(|net| net.addr().is_ipv4() == gateway.is_ipv4());
            let told: Vec<String> = of_family.map(ToString::to_string).collect();
            let allowed = match told.is_empty() {
                false => format!("an address that {link} reaches by itself: {}", told.join(", ")),
                true => format!("no gateway of this family: {link} has no such address"),
            };
            let path = format!("{ROUTES}: {}: gw", route.destination);
            return Err(Error::Parent(Finding::new(path, gateway, allowed)));
        }
        Ok(())
    }
}

/// The table that stands for the main one where a link is in a vrf.
pub(crate) fn main_table(netlink: &mut Netlink, link: &Link) -> Result<u32> {
    let master = link.master.map(|index| netlink.link_by_index(index)).transpose()?.flatten();
    Ok(match master.map(|master| master.kind) {
        Some(Kind::Vrf(table)) => table,
        _ => MAIN,
    })
}

/// Deletes rules. Everything is tried; the first failure is the error.
pub(crate) fn delete_rules(netlink: &mut Netlink, rules: &[Rule]) -> Result<()> {
    rules.iter().map(|rule| netlink.delete_rule(rule).map(drop)).fold(Ok(()), Result::and)
}

fn in_table(netlink: &mut Netlink, table: u32) -> Result<Vec<Route>> {
    netlink.routes(RouteFilter { table: Some(table), ..RouteFilter::default() })
}

fn same_destination(one: &Route, other: &Route) -> bool {
    (one.destination, one.table) == (other.destination, other.table)
}

/// Whose the destination is already.
fn taken(netlink: &mut Netlink, route: &Route, held: &Route) -> Result<Finding> {
    let link = held.index.map(|index| netlink.link_by_index(index)).transpose()?.flatten();
    let by = link.map_or_else(|| "another link".to_owned(), |link| link.name);
    let via = held.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    let allowed =
        format!("a destination that the pod has no route to in table {}: one leads by {by}{via}", route.table);
    Ok(Finding::new(format!("{ROUTES}: dst"), route.destination, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: &str, gw: Option<&str>, table: Option<u32>) -> RequestedRoute {
        RequestedRoute { dst: dst.parse().unwrap(), gw: gw.map(|gw| gw.parse().unwrap()), table }
    }

    fn routing() -> Routing {
        let routes = [
            route("10.9.0.0/16", Some("10.43.0.1"), None),
            route("0.0.0.0/0", Some("10.43.0.1"), None),
            route("10.8.0.0/16", None, Some(10)),
            route("::/0", Some("fd43::1"), Some(10)),
        ];
        let rule = |from: &str| RequestedRule { from: from.parse().unwrap(), table: 10 };
        Routing::of(&routes, &[rule("10.43.0.0/24"), rule("fd43::/64")])
    }

    #[test]
    fn what_is_on_the_link_comes_first_and_the_default_route_of_the_main_table_is_not_ours() {
        let routing = routing();
        let told: Vec<_> = routing.routes.iter().map(|r| (r.destination.to_string(), r.table, r.protocol)).collect();
        let want = [("10.8.0.0/16", 10), ("10.9.0.0/16", MAIN), ("::/0", 10)];
        assert_eq!(told, want.map(|(destination, table)| (destination.to_owned(), table, PROTOCOL)));
        let rules: Vec<_> = routing.rules.iter().map(|rule| (rule.ipv4, rule.table, rule.protocol)).collect();
        assert_eq!(rules, [(false, 10, PROTOCOL), (true, 10, PROTOCOL)]);
        assert!(Routing::of(&[route("0.0.0.0/0", Some("10.43.0.1"), None)], &[]).is_empty());
    }

    #[test]
    fn a_gateway_that_the_link_does_not_reach_is_refused() {
        let require = |ips: &str| {
            let text = format!(r#"{{"cniVersion":"1.1.0","ips":[{ips}]}}"#);
            let result = CniResult::parse(text.as_bytes(), attachments::cni::version::Version::NEWEST).unwrap();
            routing().require_next_hops(&"net1".parse().unwrap(), &result).map_err(|error| error.to_string())
        };
        let (v4, v6) = (r#"{"address":"10.43.0.7/24"}"#, r#"{"address":"fd43::7/64"}"#);
        assert_eq!(require(&format!("{v4},{v6}")), Ok(()));
        assert_eq!(
            require(r#"{"address":"10.44.0.7/24"}"#).unwrap_err(),
            "meta-cni.io/routes: 10.9.0.0/16: gw: got 10.43.0.1, want an address that net1 reaches by itself: 10.44.0.0/24"
        );
        assert_eq!(
            require(v4).unwrap_err(),
            "meta-cni.io/routes: ::/0: gw: got fd43::1, want no gateway of this family: net1 has no such address"
        );
    }
}
