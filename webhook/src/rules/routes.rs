//! Where a pod's packets leave by several networks (P22 to P24, P36), and from which set they come (P38).

use std::net::IpAddr;

use attachments::rule::Rule;
use attachments::selection::{ADDRESS_SET, AskedTwice, ROUTES, default_route_twice};
use delegates::lint::{Kind, Problem};
use ipnet::IpNet;

use super::pod::Element;
use super::{forbidden, quoted};
use crate::cluster::definition::Definition;

/// P22 across both annotations; within one, its reader says so.
pub(super) fn default_routes(elements: &[Element<'_>]) -> Option<Problem> {
    let (first, second, family) = default_route_twice(elements.iter().map(|element| Some(element.selected)))?;
    let text = format!("{} already sets the {family} default route", elements[first].at);
    let at = format!("{}.{}", elements[second].at, elements[second].selected.default_route_key());
    Some(forbidden(Rule::DefaultRoute, at, "", text))
}

/// P36 across both annotations; within one, its reader says so.
pub(super) fn routes(elements: &[Element<'_>]) -> Option<Problem> {
    let twice = AskedTwice::find(elements.iter().map(|element| Some(element.selected)))?;
    let at = format!("{}.{}", elements[twice.second].at, twice.field);
    let text = format!("must be {}: {} has it", twice.allowed, elements[twice.first].at);
    Some(Problem::of(twice.rule, Kind::Invalid, at, quoted(&twice.value), text))
}

/// P38. Members of a set are slots of a pool of blocks.
pub(super) fn address_set(element: &Element<'_>, definition: &Definition) -> Option<Problem> {
    let set = element.selected.address_set.as_ref()?;
    if definition.plugins().iter().any(|plugin| &*plugin.ipam == "blocks") {
        return None;
    }
    let at = format!("{}.{ADDRESS_SET}", element.at);
    let text = format!("must be a set of a network with ipam.type \"blocks\", which {} has not", definition.reference);
    Some(Problem::of(Rule::AddressSet, Kind::Invalid, at, quoted(set), text))
}

/// P23. Without a subnet of its family nobody knows which addresses there will be.
pub(super) fn gateway(element: &Element<'_>, definition: &Definition) -> Vec<Problem> {
    const NAMED: usize = 4;
    let defaults = element.selected.default_route.iter().flatten().enumerate();
    let defaults = defaults.map(|(i, gateway)| (format!("default-route[{i}]"), *gateway));
    let on_link = |gateway: &IpAddr| {
        let is_v6_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
        is_v6_local || element.selected.routes.iter().any(|route| route.gw.is_none() && route.dst.contains(gateway))
    };
    let routes = element.selected.routes.iter().enumerate();
    let routes = routes.filter_map(|(i, route)| Some((format!("{ROUTES}[{i}].gw"), route.gw?)));
    let gateways = defaults.chain(routes.filter(|(_, gateway)| !on_link(gateway)));
    let problem = |(key, gateway): (String, IpAddr)| {
        let family = definition.subnets().map(|subnet| subnet.net);
        let nets: Vec<IpNet> = family.filter(|net| net.addr().is_ipv4() == gateway.is_ipv4()).collect();
        if nets.is_empty() || definition.declares("ipRanges") || nets.iter().any(|net| net.contains(&gateway)) {
            return None;
        }
        let mut named: Vec<String> = nets.iter().take(NAMED).map(ToString::to_string).collect();
        if nets.len() > NAMED {
            named.push(format!("{} others", nets.len() - NAMED));
        }
        let text = format!("must be inside {}", named.join(" or "));
        let at = format!("{}.{key}", element.at);
        Some(Problem::of(Rule::DefaultRouteGateway, Kind::Invalid, at, quoted(gateway), text))
    };
    gateways.filter_map(problem).collect()
}

/// P24. Of networks in order, each either lies within the last one that is still open or begins behind it: one pass finds
/// every element that overlaps an earlier one.
pub(super) fn overlaps(elements: &[Element<'_>]) -> Vec<Problem> {
    let of = |(i, element): (usize, &Element<'_>)| {
        let subnets = element.definition.into_iter().flat_map(Definition::subnets);
        subnets.map(|subnet| (subnet.net, i)).collect::<Vec<_>>()
    };
    let mut nets: Vec<(IpNet, usize)> = elements.iter().enumerate().flat_map(of).collect();
    nets.sort();
    let mut open: Vec<(IpNet, usize)> = Vec::new();
    let mut pairs: Vec<Option<(usize, IpNet)>> = vec![None; elements.len()];
    for (net, i) in nets {
        while open.last().is_some_and(|(outer, _)| !outer.contains(&net)) {
            open.pop();
        }
        if let Some((_, other)) = open.iter().find(|(_, other)| *other != i) {
            let (later, earlier) = (i.max(*other), i.min(*other));
            pairs[later].get_or_insert((earlier, net));
        }
        open.push((net, i));
    }
    let problem = |(i, pair): (usize, Option<(usize, IpNet)>)| {
        let (other, net) = pair?;
        let text = format!("subnet {net} overlaps {}; replies may leave by the wrong interface", elements[other].at);
        Some(Problem::remark(Rule::SubnetTwice, elements[i].at.as_str(), text))
    };
    pairs.into_iter().enumerate().filter_map(problem).collect()
}
