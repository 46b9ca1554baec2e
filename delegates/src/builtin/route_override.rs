//! `route-override`: takes routes of the pod's link away, and adds others.
//!
//! The keys are those of the plugin of that name. What it changes goes with the link, so DEL has nothing to do; and the result says what
//! is there afterwards, so CHECK of the plugins before finds it.

use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Route as Told};
use attachments::cni::spelling::Known;
use attachments::finding::{Finding, under};

use super::chained::{self, no_link};
use super::conf_reader::ConfReader;
use super::delegate::{Context, Delegate, Reading};
use super::{Attached, check};
use crate::apply;
use crate::call::Call;
use crate::default_route::take_out;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ipam::Leased;
use crate::nl::link::{Kind, Link};
use crate::nl::route::{MAIN, Route, RouteFilter};
use crate::sandbox::Sandbox;

const KEYS: [&str; 5] = ["flushroutes", "flushgateway", "addroutes", "delroutes", "skipcheck"];

static ROUTES: Known<'static> = Known::of(&[&Told::KEYS]);

/// What is asked for. A key of `args.cni` counts in the place of the configuration's.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Config {
    /// Every route that somebody added, but for those to link-local addresses.
    flush: Option<bool>,
    /// The default routes, of both families.
    flush_gateway: Option<bool>,
    /// Routes that are added last.
    added: Option<Vec<Told>>,
    /// Routes that go where they are there; without `gw`, by whatever next hop.
    deleted: Option<Vec<Told>>,
    /// CHECK looks at nothing.
    skip_check: Option<bool>,
}

impl Config {
    pub(super) fn read(conf: &Object) -> Reading<Self> {
        let mut reader = ConfReader::of(conf);
        let own = Self::part(&mut reader, conf, "");
        let args = reader.keep(conf.object("args")).unwrap_or_default();
        let given = reader.keep(args.object("cni").map_err(|e| e.under("args"))).unwrap_or_default();
        let given = Self::part(&mut reader, &given, "args.cni");
        reader.finish(Self {
            flush: given.flush.or(own.flush),
            flush_gateway: given.flush_gateway.or(own.flush_gateway),
            added: given.added.or(own.added),
            deleted: given.deleted.or(own.deleted),
            skip_check: given.skip_check.or(own.skip_check),
        })
    }

    fn part(reader: &mut ConfReader<'_>, conf: &Object, at: &str) -> Self {
        let [flush, flush_gateway, skip_check] = ["flushroutes", "flushgateway", "skipcheck"].map(|key| {
            let read = conf.get(key).map(|_| conf.flag(key)).transpose();
            reader.keep(read.map_err(|finding| if at.is_empty() { finding } else { finding.under(at) }))
        });
        let [added, deleted] = ["addroutes", "delroutes"].map(|key| {
            conf.get(key)?;
            Some(reader.keep_all(routes(conf, key).map_err(|findings| under(at, findings))))
        });
        Self { flush, flush_gateway, added, deleted, skip_check }
    }

    fn added(&self) -> &[Told] {
        self.added.as_deref().unwrap_or_default()
    }

    /// Does a route that the pod's link has go? `told` are the routes of the plugin before.
    fn removes(&self, route: &Route, told: &[Told]) -> bool {
        let is_listed = |told: &Told| {
            told.dst.trunc() == route.destination
                && (told.gw.is_none() || told.gw == route.gateway)
                && (told.priority.is_none() || told.priority == route.priority)
        };
        // What has no next hop and stands in no result is the way to the link's own subnet.
        let is_somebodys = route.gateway.is_some() || told.iter().any(is_listed);
        self.flush == Some(true) && is_somebodys && !is_of_link(route.destination.addr())
            || self.flush_gateway == Some(true) && route.is_default()
            || self.deleted.as_deref().unwrap_or_default().iter().any(is_listed)
    }

    /// The result of the plugin before, with the routes that are there afterwards.
    fn result(&self, previous: &CniResult) -> CniResult {
        let mut result = previous.clone();
        let gateway = |v4: bool| result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == v4);
        let added: Vec<Told> = self
            .added()
            .iter()
            .map(|route| Told { gw: route.gw.or_else(|| gateway(route.dst.addr().is_ipv4())), ..route.clone() })
            .collect();
        result.routes.retain(|told| {
            let is_main = told.table.is_none_or(|table| table == 0 || table == MAIN);
            !is_main || !self.removes(&planned(told, gateway(told.dst.addr().is_ipv4()), 0, MAIN), &previous.routes)
        });
        for route in added {
            if !result.routes.contains(&route) {
                result.routes.push(route);
            }
        }
        result
    }
}

/// A list of routes, with everything that is wrong in it.
fn routes(conf: &Object, key: &str) -> std::result::Result<Vec<Told>, Vec<Finding>> {
    let mut findings = attachments::finding::Findings::default();
    let mut routes = Vec::new();
    for (i, object) in conf.elements(key, &mut findings) {
        match Told::read(object) {
            Ok(route) => match mixed(&route) {
                None => routes.push(route),
                Some(finding) => findings.push(finding.under(&format!("{key}[{i}]"))),
            },
            Err(wrong) => findings.extend(under(&format!("{key}[{i}]"), wrong)),
        }
    }
    findings.finish(routes)
}

/// A next hop of the other family.
fn mixed(route: &Told) -> Option<Finding> {
    let gateway = route.gw.filter(|gateway| gateway.is_ipv4() != route.dst.addr().is_ipv4())?;
    Some(Finding::new("gw", gateway, format!("an address of the family of {}", route.dst)))
}

/// A route of a result as the kernel gets it.
fn planned(told: &Told, gateway: Option<IpAddr>, link: u32, main: u32) -> Route {
    Route {
        gateway: told.gw.or(gateway),
        table: told.table.filter(|table| *table != 0).unwrap_or(main),
        priority: told.priority,
        scope: told.scope,
        mtu: told.mtu,
        advmss: told.advmss,
        ..Route::new(told.dst.trunc(), link)
    }
}

fn is_of_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
    }
}

/// The routes of the table in which the link's are: a plugin before may have put the link into a vrf.
fn table_of(sandbox: &mut Sandbox, link: &Link) -> Result<(u32, Vec<Route>)> {
    let master = link.master.map(|index| sandbox.netlink.link_by_index(index)).transpose()?.flatten();
    let table = match master.map(|master| master.kind) {
        Some(Kind::Vrf(table)) => table,
        _ => MAIN,
    };
    let filter = RouteFilter { table: Some(table), ..RouteFilter::default() };
    Ok((table, sandbox.netlink.routes(filter)?))
}

/// The delegate.
pub(super) struct RouteOverride;

impl Delegate for RouteOverride {
    const TYPE: &'static str = "route-override";
    const KEYS: &'static [&'static str] = &KEYS;
    const ARGUMENTS: &'static [&'static str] = &KEYS;
    const NESTED: &'static [(&'static str, &'static Known<'static>)] =
        &[("addroutes", &ROUTES), ("delroutes", &ROUTES)];
    const IS_CHAINED: bool = true;
    const TAKES_ADDRESSES: bool = false;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    fn add(config: &Config, cx: Context<'_, '_>, _leased: Leased) -> Result<Attached> {
        let Context { sandbox, call, point, .. } = cx;
        let previous = chained::previous(call)?;
        let link = sandbox.netlink.link_by_name(point.ifname)?.ok_or_else(|| Error::Parent(no_link(point)))?;
        let (table, held) = table_of(sandbox, &link)?;
        let goes = |route: &Route| route.index == Some(link.index) && config.removes(route, &previous.routes);
        let (go, stay): (Vec<Route>, Vec<Route>) = held.into_iter().partition(goes);
        take_out(&mut sandbox.netlink, &go, &stay)?;
        let result = config.result(previous);
        let added = config.added().iter().map(|told| {
            let of_result =
                result.routes.iter().rev().find(|one| one.dst == told.dst && (told.gw.is_none() || one.gw == told.gw));
            planned(told, of_result.and_then(|one| one.gw), link.index, table)
        });
        apply::add_routes(sandbox, link.index, &added.collect::<Vec<_>>())?;
        Ok(Attached::nothing(result))
    }

    /// What was to go is not there, unless the result has it again; what was added is there, as far as the result still has it.
    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { sandbox, call, point, .. } = cx;
        if config.skip_check == Some(true) {
            return Ok(());
        }
        let expected = chained::previous(call)?;
        let link =
            sandbox.netlink.link_by_name(point.ifname)?.ok_or_else(|| check::differs(no_link(point).to_string()))?;
        let (_, held) = table_of(sandbox, &link)?;
        let own: Vec<Route> = held.into_iter().filter(|route| route.index == Some(link.index)).collect();
        let is_told = |route: &Route, told: &Told| {
            told.dst.trunc() == route.destination && (told.gw.is_none() || told.gw == route.gateway)
        };
        let stray =
            |route: &&Route| config.removes(route, &[]) && !expected.routes.iter().any(|told| is_told(route, told));
        if let Some(route) = own.iter().find(stray) {
            let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            return Err(check::differs(format!("route {}{via} is on link {} again", route.destination, link.name)));
        }
        for told in config.added().iter().filter(|told| expected.routes.iter().any(|one| one.dst == told.dst)) {
            if !own.iter().any(|route| is_told(route, told)) {
                return Err(check::differs(format!("route {} is missing on link {} of the pod", told.dst, link.name)));
            }
        }
        Ok(())
    }

    fn status(_: &Config, _host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use attachments::cni::version::Version;

    use super::*;
    use crate::builtin::Builtin;

    fn config(conf: &str) -> Config {
        Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap()
    }

    fn after(conf: &str) -> Vec<String> {
        let previous = r#"{"ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"address":"fd00::2/64","gateway":"fd00::1"}],
            "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0","gw":"fd00::1"},{"dst":"10.9.0.0/16","gw":"10.0.0.9"},
                {"dst":"10.8.0.0/16"},{"dst":"0.0.0.0/0","gw":"10.0.0.1","table":7},{"dst":"fe80:1::/64"}]}"#;
        let result = config(conf).result(&CniResult::parse(previous.as_bytes(), Version::NEWEST).unwrap());
        let each = |route: &Told| {
            let via = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
            let table = route.table.map(|table| format!(" table {table}")).unwrap_or_default();
            format!("{}{via}{table}", route.dst)
        };
        result.routes.iter().map(each).collect()
    }

    const KEPT: [&str; 2] = ["0.0.0.0/0 via 10.0.0.1 table 7", "fe80:1::/64"];

    #[test]
    fn the_result_says_which_routes_are_left() {
        assert_eq!(after("{}").len(), 6);
        assert_eq!(after(r#"{"flushroutes":true}"#), KEPT);
        assert_eq!(
            after(r#"{"flushgateway":true}"#),
            ["10.9.0.0/16 via 10.0.0.9", "10.8.0.0/16", KEPT[0], KEPT[1]],
            "both families"
        );
        let some = r#"{"delroutes":[{"dst":"10.9.0.0/16","gw":"10.0.0.8"},{"dst":"10.8.0.0/16","gw":"10.0.0.1"},{"dst":"::/0"},{"dst":"10.7.0.0/16"}]}"#;
        assert_eq!(after(some), ["0.0.0.0/0", "10.9.0.0/16 via 10.0.0.9", KEPT[0], KEPT[1]]);
    }

    #[test]
    fn routes_are_added_last_through_the_gateway_of_their_family() {
        let conf = r#"{"flushroutes":true,"addroutes":[{"dst":"10.5.0.0/16"},{"dst":"fd05::/64"},{"dst":"0.0.0.0/0","gw":"10.0.0.254"}]}"#;
        let added = ["10.5.0.0/16 via 10.0.0.1", "fd05::/64 via fd00::1", "0.0.0.0/0 via 10.0.0.254"];
        assert_eq!(after(conf), [&KEPT[..], &added[..]].concat());
    }

    #[test]
    fn arguments_of_the_pod_count_in_the_place_of_the_configuration() {
        let conf = r#"{"flushroutes":true,"addroutes":[{"dst":"10.5.0.0/16"}],
            "args":{"cni":{"flushroutes":false,"addroutes":[{"dst":"10.6.0.0/16"}],"skipcheck":true}}}"#;
        let read = config(conf);
        assert_eq!((read.flush, read.skip_check, read.added().len()), (Some(false), Some(true), 1));
        assert_eq!(read.added()[0].dst.to_string(), "10.6.0.0/16");
    }

    #[test]
    fn every_wrong_key_is_named_in_one_go() {
        let conf = r#"{"flushroutes":"true","flushgateway":1,"skipcheck":null,"addroutes":[{"dst":"10.0.0.0"},7,{"gw":"10.0.0.1"},{"dst":"10.0.0.0/8","gw":"fd00::1"}],
            "delroutes":{},"args":{"cni":{"delroutes":[{"dst":"x"}],"flushroutes":[]}}}"#;
        let findings = Builtin::RouteOverride.validate(&Object::parse(conf.as_bytes()).unwrap());
        let paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
        let want = [
            "flushroutes",
            "flushgateway",
            "addroutes[0].dst",
            "addroutes[1]",
            "addroutes[2].dst",
            "addroutes[3].gw",
            "delroutes",
            "args.cni.flushroutes",
            "args.cni.delroutes[0].dst",
        ];
        for path in want {
            assert!(paths.contains(&path), "{path} in {findings:#?}");
        }
        assert_eq!(paths.len(), want.len(), "{findings:#?}");
    }
}
