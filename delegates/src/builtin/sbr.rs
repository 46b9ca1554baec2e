//! `sbr`: packets from the addresses of a link leave by that link, whatever the pod's other routes say.
//!
//! Each address gets a table of its own with the link's routes, and a rule that sends its packets there. The tables go
//! with the link; the rules are noted before they are added, and DEL deletes them. Two attachments of one pod never do
//! this at once: the engine holds the sandbox.

use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Ip, default_destination};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::chained::{self, addresses_of_pod, no_link};
use super::conf_reader::ConfReader;
use super::delegate::{Context, Delegate, Reading, Undo};
use super::{Attached, check};
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ipam::Leased;
use crate::nl::Netlink;
use crate::nl::route::{MAIN, Route, RouteFilter};
use crate::nl::rule::Rule;
use crate::routing::delete_rules;
use crate::sandbox::Sandbox;

/// The first table that is taken without being asked for.
const FIRST_TABLE: u32 = 100;
/// Key of ours in the states that are saved.
const STATE: &str = "sbr";

/// The configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// A table that the plugin before filled: it gets the rules, and no routes.
    table: Option<u32>,
}

impl Config {
    pub(super) fn read(conf: &Object) -> Reading<Self> {
        let mut reader = ConfReader::of(conf);
        let config = Self { table: reader.integer("table", 1..=u32::MAX) };
        reader.finish(config)
    }
}

/// What is to be done in the pod.
#[derive(Clone, Debug, Default, PartialEq)]
struct Plan {
    rules: Vec<Rule>,
    /// Routes of the new tables, in the order in which each finds its next hop.
    added: Vec<Route>,
    /// Routes of the main table that have moved.
    removed: Vec<Route>,
}

/// A rule that was added, as the record keeps it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Added {
    source: IpNet,
    table: u32,
}

/// The delegate.
pub(super) struct Sbr;

impl Delegate for Sbr {
    const TYPE: &'static str = "sbr";
    const KEYS: &'static [&'static str] = &["table"];
    const IS_CHAINED: bool = true;
    const TAKES_ADDRESSES: bool = false;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    /// The result of the plugin before tells the tables that its routes are in now.
    fn add(config: &Config, cx: Context<'_, '_>, _leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let previous = chained::previous(call)?;
        let ips: Vec<&Ip> = addresses_of_pod(previous, point).collect();
        if ips.is_empty() {
            return Err(Error::Addresses(format!("prevResult has no address on {}", point.ifname)));
        }
        let link = sandbox.netlink.link_by_name(point.ifname)?.ok_or_else(|| Error::Parent(no_link(point)))?;
        let plan = match config.table {
            Some(table) => with_table(&ips, table),
            None => {
                let rules = sandbox.netlink.rules()?;
                let routes = sandbox.netlink.routes(RouteFilter::default())?;
                plan(&ips, link.index, &rules, &routes)
            }
        };
        let added: Vec<_> =
            plan.rules.iter().filter_map(|rule| Some(Added { source: rule.source?, table: rule.table })).collect();
        let mut state = Object::new();
        state.set(STATE, &added);
        host.save(&state)?;
        let applied = apply(&mut sandbox.netlink, &plan);
        if applied.is_err() {
            // The first error tells more than a second one would; DEL does this again.
            let _ = delete_rules(&mut sandbox.netlink, &plan.rules);
        }
        applied?;
        let mut result = previous.clone();
        update_result(&mut result, &plan);
        Ok(Attached::nothing(result))
    }

    /// The rules go while the link is there. Without a record, those of its addresses, as the reference plugin does.
    fn restore(cx: Undo<'_, '_>, sandbox: Option<&mut Sandbox>, saved: &[&Object]) -> Result<()> {
        let Undo { call, point, .. } = cx;
        let Some(sandbox) = sandbox else { return Ok(()) };
        let netlink = &mut sandbox.netlink;
        if saved.is_empty() {
            return delete_unrecorded(netlink, call, point);
        }
        let states = saved.iter().filter_map(|state| state.decode::<Vec<Added>>(STATE, "rules").ok().flatten());
        let rules: Vec<Rule> = states.flatten().map(|added| Rule::from(added.source, added.table)).collect();
        delete_rules(netlink, &rules)
    }

    /// Every address has its rule, and the rule's table the way to its gateway.
    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { sandbox, call, point, .. } = cx;
        let expected = chained::previous(call)?;
        let rules = sandbox.netlink.rules()?;
        for ip in addresses_of_pod(expected, point) {
            let source = IpNet::from(ip.address.addr());
            let is = |rule: &&Rule| rule.source == Some(source) && config.table.is_none_or(|table| table == rule.table);
            let rule = rules.iter().find(is);
            let rule = rule.ok_or_else(|| check::differs(format!("no rule for packets from {source} in the pod")))?;
            let Some(gateway) = ip.gateway.filter(|_| config.table.is_none()) else { continue };
            let filter = RouteFilter { table: Some(rule.table), ..RouteFilter::default() };
            let routes = sandbox.netlink.routes(filter)?;
            if !routes.iter().any(|route| route.is_default() && route.gateway == Some(gateway)) {
                let text = format!("no default route via {gateway} in table {} of the pod", rule.table);
                return Err(check::differs(text));
            }
        }
        Ok(())
    }

    /// The kernel has rules, of which every namespace has some from the start.
    fn status(_: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        match host.netlink()?.rules() {
            Err(error @ Error::Kernel { .. }) => Err(Error::NotReady(format!("sbr: {error}"))),
            listed => listed.map(drop),
        }
    }
}

/// A route that has moved is in the first table that has it.
fn update_result(result: &mut CniResult, plan: &Plan) {
    for route in result.routes.iter_mut().filter(|route| route.table.is_none_or(|table| table == 0 || table == MAIN)) {
        let is =
            |held: &&Route| held.destination == route.dst.trunc() && (route.gw.is_none() || held.gateway == route.gw);
        if plan.removed.iter().any(|held| is(&held)) {
            route.table = plan.added.iter().find(is).map(|held| held.table).or(route.table);
        }
    }
}

fn with_table(ips: &[&Ip], table: u32) -> Plan {
    let rules = ips.iter().map(|ip| Rule::from(IpNet::from(ip.address.addr()), table)).collect();
    Plan { rules, ..Plan::default() }
}

/// A table for each address, from the first one up that no rule and no route of the pod uses.
fn plan(ips: &[&Ip], link: u32, rules: &[Rule], routes: &[Route]) -> Plan {
    let used = |table: u32| rules.iter().any(|rule| rule.table == table) || routes.iter().any(|r| r.table == table);
    let mut tables = (FIRST_TABLE..).filter(|table| !used(*table));
    let moved: Vec<Route> = routes.iter().filter(|route| is_moved(route, link)).copied().collect();
    let mut plan = Plan { removed: moved.clone(), ..Plan::default() };
    // There are more tables than a pod has routes.
    for (ip, table) in ips.iter().zip(tables.by_ref()) {
        let address = ip.address.addr();
        plan.rules.push(Rule::from(address.into(), table));
        let default = ip.gateway.map(|gateway| Route {
            gateway: Some(gateway),
            table,
            ..Route::new(default_destination(address.is_ipv4()), link)
        });
        let is_default = |route: &Route| route.is_default() && default.is_some();
        let own = moved.iter().filter(|route| belongs(route, &ip.address) && !is_default(route));
        let own: Vec<Route> = own.map(|route| Route { table, ..*route }).collect();
        // What is on the link first: the others' next hops are found there.
        plan.added.extend(own.iter().filter(|route| route.gateway.is_none()));
        plan.added.extend(default);
        plan.added.extend(own.iter().filter(|route| route.gateway.is_some()));
    }
    plan
}

/// The link's routes move, but for the one to its neighbours' link-local addresses, without which IPv6 does not work.
fn is_moved(route: &Route, link: u32) -> bool {
    let is_link_local = matches!(route.destination, IpNet::V6(net) if net.addr().is_unicast_link_local());
    route.table == MAIN && route.index == Some(link) && !is_link_local
}

/// A route of an address: by its own source or next hop, or of that family at large.
fn belongs(route: &Route, address: &IpNet) -> bool {
    let is_inside = |ip: Option<IpAddr>| ip.is_some_and(|ip| address.contains(&ip));
    let is_general = route.source.is_none() && route.gateway.is_none();
    let same_family = route.destination.addr().is_ipv4() == address.addr().is_ipv4();
    same_family && (is_inside(route.source) || is_inside(route.gateway) || is_general)
}

fn apply(netlink: &mut Netlink, plan: &Plan) -> Result<()> {
    for rule in &plan.rules {
        netlink.add_rule(rule)?;
    }
    for route in &plan.added {
        netlink.replace_route(route)?;
    }
    for route in &plan.removed {
        netlink.delete_route(route)?;
    }
    Ok(())
}

fn delete_unrecorded(netlink: &mut Netlink, call: &Call<'_>, point: &Point<'_>) -> Result<()> {
    let Some(link) = netlink.link_by_name(point.ifname)? else { return Ok(()) };
    let table = Config::read(call.conf).ok().and_then(|config| config.table);
    let held = netlink.addresses(Some(link.index))?;
    let is_ours = |rule: &Rule| {
        let source = rule.source.filter(|source| source.prefix_len() == source.max_prefix_len());
        source.is_some_and(|source| held.iter().any(|address| address.net.addr() == source.addr()))
            && table.is_none_or(|table| table == rule.table)
    };
    let rules: Vec<Rule> = netlink.rules()?.into_iter().filter(is_ours).collect();
    delete_rules(netlink, &rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(address: &str, gateway: Option<&str>) -> Ip {
        Ip::new(address.parse().unwrap(), gateway.map(|gateway| gateway.parse().unwrap()), None)
    }

    fn route(destination: &str, gateway: Option<&str>) -> Route {
        let gateway = gateway.map(|gateway| gateway.parse().unwrap());
        Route { gateway, ..Route::new(destination.parse().unwrap(), 7) }
    }

    fn told(routes: &[Route]) -> Vec<String> {
        let each = |r: &Route| {
            let gateway = r.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            format!("{}{gateway} table {}", r.destination, r.table)
        };
        routes.iter().map(each).collect()
    }

    #[test]
    fn every_address_gets_the_first_free_table_and_its_routes() {
        let (one, two, six) =
            (ip("10.0.0.5/24", Some("10.0.0.1")), ip("10.9.0.5/24", None), ip("fd00::5/64", Some("fd00::1")));
        let rules = [Rule::from("192.0.2.1/32".parse().unwrap(), 100)];
        let elsewhere = Route { table: 102, ..route("192.0.2.0/24", None) };
        let of_other_link = Route { index: Some(8), ..route("0.0.0.0/0", Some("192.0.2.1")) };
        let routes = [
            elsewhere,
            of_other_link,
            Route { source: Some("10.0.0.5".parse().unwrap()), ..route("10.0.0.0/24", None) },
            Route { source: Some("10.9.0.5".parse().unwrap()), ..route("10.9.0.0/24", None) },
            route("0.0.0.0/0", Some("10.0.0.1")),
            route("10.50.0.0/16", Some("10.9.0.7")),
            route("10.60.0.0/16", None),
            route("fd00::/64", None),
            route("fe80::/64", None),
        ];
        let plan = plan(&[&one, &two, &six], 7, &rules, &routes);
        let sources: Vec<String> =
            plan.rules.iter().map(|rule| format!("{} {}", rule.source.unwrap(), rule.table)).collect();
        assert_eq!(sources, ["10.0.0.5/32 101", "10.9.0.5/32 103", "fd00::5/128 104"]);
        assert_eq!(
            told(&plan.added),
            [
                "10.0.0.0/24 table 101",
                "10.60.0.0/16 table 101",
                "0.0.0.0/0 via 10.0.0.1 table 101",
                "10.9.0.0/24 table 103",
                "10.60.0.0/16 table 103",
                "10.50.0.0/16 via 10.9.0.7 table 103",
                "fd00::/64 table 104",
                "::/0 via fd00::1 table 104",
            ]
        );
        assert_eq!(plan.removed, routes[2..8]);
    }

    #[test]
    fn a_table_that_is_named_gets_rules_only() {
        let plan = with_table(&[&ip("10.0.0.5/24", Some("10.0.0.1"))], 200);
        assert_eq!(plan, Plan { rules: vec![Rule::from("10.0.0.5/32".parse().unwrap(), 200)], ..Plan::default() });
    }

    #[test]
    fn a_wrong_table_is_named() {
        for bad in ["0", "-1", "4294967296", "\"main\""] {
            let conf = Object::parse(format!(r#"{{"table":{bad}}}"#).as_bytes()).unwrap();
            let wrong = Config::read(&conf).unwrap_err();
            assert!(matches!(wrong.as_slice(), [one] if one.path == "table"), "{bad}: {wrong:?}");
        }
    }
}
