//! A pod's list with what its networks say: the default network of its namespace, the names of interfaces, addresses, routes and rules.
//! The annotation alone does not say them.

use std::net::IpAddr;

use super::asked::{Asker, key as ip_key};
use super::interfaces::{default_element, is_of};
use super::network::{Network, Subnet};
use super::{Danm, limits, twin};
use crate::bind::BindError;
use crate::dialect::FIRST;
use crate::dialect::objects::{NoConfiguration, Objects};
use crate::finding::Finding;
use crate::names::{IfName, ObjectName};
use crate::selection::{
    AddressMode, AddressRequest, MOST_ROUTES, NetworkSelection, RequestedRoute, RequestedRule, Selection,
};

/// The routing table of all routes without one, for which there is no rule.
const MAIN: u32 = 254;

impl Danm {
    /// Settles a selection. `strict`: what nothing fulfils is refused.
    pub fn settle(
        &self,
        selection: &Selection,
        objects: &Objects,
        namespace: &ObjectName,
        strict: bool,
    ) -> Result<Selection, BindError> {
        let Some(translated) = &selection.translated else { return Ok(selection.clone()) };
        let mut settled = selection.clone();
        if !translated.candidates.is_empty() {
            let Some(found) = translated.candidates.iter().find(|one| objects.contains_key(one)) else {
                // The node's ordinary default network.
                return Ok(Selection::default());
            };
            settled.default_network = Some(default_element(found.clone())?);
        }
        if let Some(translated) = &mut settled.translated {
            translated.is_settled = true;
        }
        let settled_of = |field: String, place: usize, element: &NetworkSelection| {
            let one = Element { danm: self, namespace, field, place, strict };
            one.settle(element, objects)
        };
        let mut told = Told::default();
        let (field, place) = (settled.default_field(), settled.place(0));
        if let Some(element) = settled.default_network.take() {
            let (element, of_element) = settled_of(field, place, &element)?;
            settled.default_network = Some(element);
            told.extend(of_element);
        }
        let first = usize::from(settled.default_network.is_some());
        for i in 0..settled.networks.len() {
            let (field, place) = (settled.network_field(i), settled.place(first + i));
            let (element, of_element) = settled_of(field, place, &settled.networks[i])?;
            settled.networks[i] = element;
            told.extend(of_element);
        }
        settled.unmet.extend(told.unmet);
        settled.warnings.extend(told.warnings);
        settled.warnings.extend(limits::unlimited(settled.objects(), objects));
        Ok(settled)
    }
}

/// What an element gets otherwise than it may seem, a sentence each: see [`Selection::unmet`] and [`Selection::warnings`].
#[derive(Default)]
struct Told {
    unmet: Vec<String>,
    warnings: Vec<String>,
}

impl Told {
    fn extend(&mut self, more: Self) {
        self.unmet.extend(more.unmet);
        self.warnings.extend(more.warnings);
    }
}

struct Element<'a> {
    danm: &'a Danm,
    namespace: &'a ObjectName,
    field: String,
    place: usize,
    strict: bool,
}

impl Element<'_> {
    fn settle(&self, element: &NetworkSelection, objects: &Objects) -> Result<(NetworkSelection, Told), BindError> {
        let Some(reference) = element.target.foreign() else { return Ok((element.clone(), Told::default())) };
        let network = Network::of(reference, objects).map_err(|why| match why {
            NoConfiguration::Missing(reference) => BindError::NoObject { field: self.field.clone(), reference },
            NoConfiguration::NoFile(name) => self.wrong("", name, "a network").into(),
            NoConfiguration::Invalid(finding) => finding.into(),
        })?;
        if let Some(twin) = twin(reference).filter(|twin| objects.contains_key(twin)) {
            let allowed = format!("one network of this name: there is {twin} too, of DANM's other mode");
            return Err(self.wrong("", reference, allowed).into());
        }
        let tenants = &network.allowed_tenants;
        if !tenants.is_empty() && !tenants.iter().any(|tenant| tenant == self.namespace.as_str()) {
            let allowed =
                format!("a network whose AllowedTenants have namespace {}: {}", self.namespace, tenants.join(", "));
            return Err(self.wrong("", reference, allowed).into());
        }
        limits::judge(reference, objects)?;
        let mut settled = element.clone();
        settled.interface = Some(self.name(&network)?);
        let asked = element.addresses.unwrap_or_default();
        let gives = network.gives(asked);
        settled.addresses = if gives { Some(self.addresses(&network, asked)?) } else { None };
        let mut warnings = Vec::new();
        if gives {
            let asker = Asker { reference, network: &network, objects };
            warnings = asker.settle(&mut settled).map_err(|finding| finding.under(&self.field))?;
        } else if let Some(named) = element.reserved.iter().flatten().next() {
            let key = ip_key(element.reserved[0].is_some());
            return Err(self.wrong(key, named, "none: the addresses are those of the network's plugin").into());
        } else {
            settled.ips.clear();
        }
        for ip in settled.ips.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
            let net = network.subnet(ip.is_ipv4()).map(|subnet| subnet.net);
            if let Some(net) = net.filter(|net| !net.contains(&ip)) {
                let allowed = format!("an address of {net}: it is outside the network's CIDR");
                return Err(self.wrong(ip_key(ip.is_ipv4()), ip, allowed).into());
            }
        }
        let unmet = self.route(&network, &mut settled, reference.name.as_str())?;
        Ok((settled, Told { unmet, warnings }))
    }

    fn name(&self, network: &Network) -> Result<IfName, Finding> {
        let name = match &network.prefix {
            _ if self.place == 0 => FIRST.to_owned(),
            Some(prefix) if self.danm.is_legacy => prefix.clone(),
            Some(prefix) => format!("{prefix}{}", self.place),
            None => format!("eth{}", self.place),
        };
        name.parse().map_err(|finding: Finding| finding.under(&format!("{}: name of the interface", self.field)))
    }

    /// A family that the list does not ask for has no address.
    fn addresses(&self, network: &Network, asked: AddressRequest) -> Result<AddressRequest, Finding> {
        let of = |ipv4: bool| {
            let mode = asked.of(ipv4).unwrap_or(AddressMode::None);
            if mode != AddressMode::None && network.subnet(ipv4).is_none() {
                let lacks = if ipv4 { "cidr" } else { "net6" };
                let allowed =
                    format!("\"none\": an address cannot be given by a network of layer 2, which has no {lacks}");
                return Err(self.wrong(ip_key(ipv4), mode.as_str(), allowed));
            }
            Ok(mode)
        };
        Ok(AddressRequest { ipv4: Some(of(true)?), ipv6: Some(of(false)?) })
    }

    /// The network's routes, for families with an address, and those of the list in the network's table. Answers with what is ignored.
    fn route(&self, network: &Network, settled: &mut NetworkSelection, name: &str) -> Result<Vec<String>, Finding> {
        let request = settled.addresses.unwrap_or_default();
        let mut ignored = Vec::new();
        for ipv4 in [true, false] {
            let own: Vec<RequestedRoute> =
                settled.own_routes.iter().filter(|route| is_of(&route.dst, ipv4)).cloned().collect();
            let has = matches!(request.of(ipv4), Some(AddressMode::Dynamic | AddressMode::Static));
            let subnet = network.subnet(ipv4).filter(|_| has);
            if let Some(subnet) = subnet {
                settled.routes.extend(subnet.routes.iter().filter(|route| !is_self(route, &settled.ips)).cloned());
            }
            if own.is_empty() {
                continue;
            }
            match (subnet, network.table) {
                (Some(subnet), Some(table)) => own_table(subnet, table, own, settled),
                (subnet, _) => {
                    let key = if ipv4 { "proutes" } else { "proutes6" };
                    let needs = match subnet {
                        Some(_) => format!("rt_tables in network {name:?}"),
                        None => format!("an address of their family: {} gives none", ip_key(ipv4)),
                    };
                    let said = format!("{key} of interface {} need {needs}", self.place);
                    if self.strict {
                        return Err(self.wrong(key, format_args!("{} routes", own.len()), needs));
                    }
                    ignored.push(format!("{}: {said}", self.field));
                }
            }
        }
        if settled.routes.len() > MOST_ROUTES {
            let allowed = format!("at most {MOST_ROUTES} with those of the network");
            return Err(self.wrong("", format_args!("{} routes", settled.routes.len()), allowed));
        }
        Ok(ignored)
    }

    fn wrong(&self, key: &str, value: impl std::fmt::Display, allowed: impl Into<crate::finding::Allowed>) -> Finding {
        Finding::new(key, value, allowed).under(&self.field)
    }
}

/// A pod that has the gateway's address itself needs no route by it.
fn is_self(route: &RequestedRoute, ips: &[String]) -> bool {
    route.gw.is_some_and(|gw| ips.iter().any(|ip| ip.parse() == Ok(gw)))
}

/// Routes of the list: in the network's table, to which the whole subnet's packets are sent.
fn own_table(subnet: &Subnet, table: u32, own: Vec<RequestedRoute>, settled: &mut NetworkSelection) {
    let table = Some(table).filter(|table| *table != MAIN);
    settled.routes.extend(own.into_iter().map(|route| RequestedRoute { table, ..route }));
    settled.rules.extend(table.map(|table| RequestedRule { from: subnet.net, table }));
}
