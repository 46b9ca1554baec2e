//! Default-route arbitration (R21): which attachment has the pod's default routes, per address family. Kernel and results agree
//! afterwards, and with the results record and status.

use std::net::IpAddr;

use attachments::bind::Attachment;
use attachments::cni::result::{CniResult, Route, default_destination};
use delegates::builtin::Attached;
use delegates::default_route;
use delegates::sandbox::Sandbox;

use super::log::warn;
use crate::fault::{Fault, Result};

/// Moves one family's default routes to an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    /// Index of the attachment that gets them.
    winner: usize,
    ipv4: bool,
    /// The requested gateway; absent where the attachment keeps its own routes.
    gateway: Option<IpAddr>,
}

/// Gives the default routes to the attachment that requests them. Without such a request every plugin's routes stay, but in a list of
/// a dialect: there they are those of its `eth0`. The requests of the attachments before `first` are fulfilled already.
pub fn arbitrate(
    sandbox: &mut Sandbox,
    attachments: &[Attachment],
    attached: &mut [Attached],
    first: usize,
) -> Result<()> {
    let mut steps = plan(attachments, first);
    let listed = first_of_a_list(attachments, attached);
    // A program that makes no link may give routes of one all the same.
    if !listed.is_empty() && sandbox.netlink.link_by_name(&attachments[0].ifname).is_ok_and(|link| link.is_some()) {
        steps.extend(listed);
    }
    for step in steps {
        let attachment = &attachments[step.winner];
        default_route::move_to(sandbox, &attachment.ifname, step.ipv4, step.gateway).map_err(|source| {
            let subject = format!("network {} ({}): default-route", attachment.source, attachment.ifname);
            Fault::Delegate { subject, source }
        })?;
        for (i, one) in attached.iter_mut().enumerate() {
            edit(&mut one.result, i == step.winner, &step);
        }
    }
    Ok(())
}

/// Gives a family's default routes back to the attachment that they were taken from, when the one that took them leaves and no other
/// takes them. `displaced` has the results of the attachments as they were before; `leaving` are positions. A pod that gets no route back
/// is told of by the warning: what leaves does so in any case.
pub fn give_back(
    sandbox: &mut Sandbox,
    attachments: &[Attachment],
    attached: &mut [Attached],
    displaced: &[Option<CniResult>],
    leaving: &[usize],
) {
    for ipv4 in [true, false] {
        let takers = attachments.iter().enumerate().filter(|(_, one)| takes(one, ipv4));
        let (gone, staying): (Vec<usize>, Vec<usize>) = takers.map(|(i, _)| i).partition(|i| leaving.contains(i));
        if gone.is_empty() || !staying.is_empty() {
            continue;
        }
        let stays = displaced.iter().enumerate().filter(|(i, _)| !leaving.contains(i));
        let heir = stays.filter_map(|(i, before)| Some((i, before.as_ref()?))).find_map(|(i, before)| {
            let gateway = default_gateway(before, ipv4)?;
            Some((i, before, gateway))
        });
        let Some((i, before, gateway)) = heir else { continue };
        let ifname = &attachments[i].ifname;
        match default_route::move_to(sandbox, ifname, ipv4, Some(gateway)) {
            Ok(()) => restore(&mut attached[i].result, before, ipv4),
            Err(error) => warn(&format!("the default route by {gateway} on {ifname} does not come back: {error}")),
        }
    }
}

/// Does the attachment take a family's default routes?
fn takes(attachment: &Attachment, ipv4: bool) -> bool {
    let gateways = attachment.default_route.as_ref();
    gateways.is_some_and(|gateways| gateways.is_empty() || gateways.iter().any(|gateway| gateway.is_ipv4() == ipv4))
}

/// The gateway of a result's default route: its own, or that of the family's first address.
fn default_gateway(result: &CniResult, ipv4: bool) -> Option<IpAddr> {
    let route = result.routes.iter().find(|route| route.is_default() && route.dst.addr().is_ipv4() == ipv4)?;
    let of_address = || result.ips.iter().find(|ip| ip.address.addr().is_ipv4() == ipv4).and_then(|ip| ip.gateway);
    route.gw.or_else(of_address)
}

/// A family's default routes and gateways as they were.
fn restore(result: &mut CniResult, before: &CniResult, ipv4: bool) {
    let of_family = |address: IpAddr| address.is_ipv4() == ipv4;
    let routes = before.routes.iter().filter(|route| route.is_default() && of_family(route.dst.addr()));
    result.routes.extend(routes.cloned());
    for ip in result.ips.iter_mut().filter(|ip| of_family(ip.address.addr())) {
        ip.gateway = before.ips.iter().find(|then| then.address == ip.address).and_then(|then| then.gateway);
    }
}

/// A list of gateways moves the families of its gateways. An empty list moves both families to the attachment's own routes
/// (A18).
fn plan(attachments: &[Attachment], first: usize) -> Vec<Move> {
    let mut moves = Vec::new();
    for (winner, attachment) in attachments.iter().enumerate().skip(first) {
        let Some(gateways) = &attachment.default_route else { continue };
        for ipv4 in [true, false] {
            let gateway = gateways.iter().copied().find(|gateway| gateway.is_ipv4() == ipv4);
            if gateway.is_some() || gateways.is_empty() {
                moves.push(Move { winner, ipv4, gateway });
            }
        }
    }
    moves
}

/// The families of which `eth0` of a dialect's list has a default route, and others as well. The networks of such a list are default
/// networks elsewhere, each with a route of its own; of several the kernel would take the one that came last.
fn first_of_a_list(attachments: &[Attachment], attached: &[Attached]) -> Vec<Move> {
    let Some((first, others)) = attached.split_first().filter(|_| attachments[0].translated.is_some()) else {
        return Vec::new();
    };
    let has = |one: &Attached, ipv4: bool| {
        one.result.routes.iter().any(|route| route.is_default() && route.dst.addr().is_ipv4() == ipv4)
    };
    let is_first = |ipv4: &bool| {
        let is_asked_for = attachments.iter().any(|attachment| takes(attachment, *ipv4));
        !is_asked_for && has(first, *ipv4) && others.iter().any(|other| has(other, *ipv4))
    };
    [true, false].into_iter().filter(is_first).map(|ipv4| Move { winner: 0, ipv4, gateway: None }).collect()
}

fn edit(result: &mut CniResult, is_winner: bool, step: &Move) {
    if is_winner && step.gateway.is_none() {
        return;
    }
    let of_family = |address: IpAddr| address.is_ipv4() == step.ipv4;
    result.routes.retain(|route| !(route.is_default() && of_family(route.dst.addr())));
    match (is_winner, step.gateway) {
        (true, Some(gateway)) => {
            result.routes.push(Route::new(default_destination(step.ipv4), Some(gateway)));
        }
        // Without its default route the attachment's gateway is no next hop any more.
        _ => result.ips.iter_mut().filter(|ip| of_family(ip.address.addr())).for_each(|ip| ip.gateway = None),
    }
}

#[cfg(test)]
mod tests {
    use attachments::cni::version::Version;

    use super::*;

    fn result(text: &str) -> CniResult {
        CniResult::parse(text.as_bytes(), Version::V1_1_0).unwrap()
    }

    fn dual() -> CniResult {
        result(
            r#"{"ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"address":"fd00::2/64","gateway":"fd00::1"}],
                "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"},{"dst":"10.9.0.0/16"},{"dst":"0.0.0.0/0","table":100}]}"#,
        )
    }

    fn routes(result: &CniResult) -> Vec<String> {
        result.routes.iter().map(|r| format!("{} {:?}", r.dst, r.gw.map(|gw| gw.to_string()))).collect()
    }

    #[test]
    fn the_loser_keeps_other_families_other_routes_and_other_tables() {
        let mut lost = dual();
        edit(&mut lost, false, &Move { winner: 1, ipv4: true, gateway: Some("10.1.0.1".parse().unwrap()) });
        assert_eq!(routes(&lost), ["::/0 None", "10.9.0.0/16 None", "0.0.0.0/0 None"]);
        assert_eq!(lost.ips.iter().map(|ip| ip.gateway.is_some()).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn the_winner_gets_the_gateway_that_was_asked_for() {
        let mut won = dual();
        edit(&mut won, true, &Move { winner: 0, ipv4: false, gateway: Some("fd00::9".parse().unwrap()) });
        assert!(routes(&won).contains(&"::/0 Some(\"fd00::9\")".to_owned()), "{:?}", routes(&won));
        assert_eq!(won.routes.iter().filter(|r| r.is_default()).count(), 2);
    }

    #[test]
    fn what_was_lost_is_what_comes_back() {
        let before = dual();
        for ipv4 in [true, false] {
            let mut lost = dual();
            edit(&mut lost, false, &Move { winner: 1, ipv4, gateway: Some("10.1.0.1".parse().unwrap()) });
            assert_eq!(default_gateway(&lost, ipv4), None);
            restore(&mut lost, &before, ipv4);
            let sorted = |result: &CniResult| {
                let mut routes = routes(result);
                routes.sort();
                routes
            };
            assert_eq!((sorted(&lost), &lost.ips), (sorted(&before), &before.ips));
        }
        assert_eq!(default_gateway(&before, true), "10.0.0.1".parse().ok());
        assert_eq!(default_gateway(&before, false), "fd00::1".parse().ok());
    }

    #[test]
    fn an_empty_list_leaves_the_winner_alone() {
        let mut won = dual();
        edit(&mut won, true, &Move { winner: 0, ipv4: true, gateway: None });
        assert_eq!(won, dual());
    }
}
