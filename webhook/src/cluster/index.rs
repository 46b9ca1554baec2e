//! Which definitions have something in common: a look-up for each question that a rule asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use attachments::names::NetRef;
use ipnet::IpNet;

use super::definition::{Definition, MasterUse};

/// Something that two definitions may have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Common {
    /// UDP port and VNI.
    Pair(u16, u32),
    /// The network's name.
    Name(Box<str>),
    /// A master and how it is used.
    Master(Box<str>, MasterUse),
    /// A master and a VLAN on it, made by plugin vlan.
    Vlan(Box<str>, u16),
    /// A bridge that holds the gateways.
    Bridge(Box<str>),
    /// A device.
    Device(Box<str>),
}

/// Definitions by what they have in common.
#[derive(Debug, Default)]
pub struct Index {
    common: HashMap<Common, BTreeSet<NetRef>>,
    subnets: BTreeMap<IpNet, BTreeSet<NetRef>>,
    /// How many subnets there are of each family and length.
    lengths: BTreeMap<(bool, u8), usize>,
}

impl Index {
    /// Adds a definition.
    pub fn add(&mut self, definition: &Definition) {
        for key in keys(definition) {
            self.common.entry(key).or_default().insert(definition.reference.clone());
        }
        for subnet in definition.subnets() {
            let holders = self.subnets.entry(subnet.net).or_insert_with(|| {
                *self.lengths.entry(length(subnet.net)).or_default() += 1;
                BTreeSet::new()
            });
            holders.insert(definition.reference.clone());
        }
    }

    /// Takes out what [`Index::add`] put in.
    pub fn remove(&mut self, definition: &Definition) {
        for key in keys(definition) {
            if let Some(holders) = self.common.get_mut(&key) {
                holders.remove(&definition.reference);
                if holders.is_empty() {
                    self.common.remove(&key);
                }
            }
        }
        for subnet in definition.subnets() {
            let Some(holders) = self.subnets.get_mut(&subnet.net) else { continue };
            holders.remove(&definition.reference);
            if !holders.is_empty() {
                continue;
            }
            self.subnets.remove(&subnet.net);
            if let Some(count) = self.lengths.get_mut(&length(subnet.net)) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&length(subnet.net));
                }
            }
        }
    }

    /// The definitions that have this too, but the one that asks; in the order of their names.
    pub fn others<'a>(&'a self, key: &Common, but: &'a NetRef) -> impl Iterator<Item = &'a NetRef> + use<'a> {
        self.common.get(key).into_iter().flatten().filter(move |reference| *reference != but)
    }

    /// The definitions that have a subnet which shares addresses with this one. A look-up for each length of a larger one,
    /// and one for all smaller ones.
    pub fn overlapping(&self, net: IpNet) -> impl Iterator<Item = (IpNet, &NetRef)> {
        let (is_ipv4, own) = length(net);
        let larger = self.lengths.range((is_ipv4, 0)..(is_ipv4, own));
        let larger = larger.filter_map(move |((_, length), _)| IpNet::new(net.addr(), *length).ok());
        let larger = larger.filter_map(|net| self.subnets.get_key_value(&net.trunc()));
        let first = net.trunc();
        let last = IpNet::new(net.broadcast(), net.max_prefix_len()).unwrap_or(first);
        let smaller = self.subnets.range(first..=last);
        larger.chain(smaller).flat_map(|(net, holders)| holders.iter().map(move |holder| (*net, holder)))
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.common.is_empty() && self.subnets.is_empty() && self.lengths.is_empty()
    }
}

fn length(net: IpNet) -> (bool, u8) {
    (net.addr().is_ipv4(), net.prefix_len())
}

fn keys(definition: &Definition) -> Vec<Common> {
    let mut keys: Vec<Common> = definition.network.iter().map(|network| Common::Name(network.name.clone())).collect();
    for plugin in definition.plugins() {
        keys.extend(plugin.overlay.as_ref().map(|overlay| Common::Pair(overlay.port, overlay.vni)));
        keys.extend(plugin.master_use().map(|(master, used)| Common::Master(master.into(), used)));
        keys.extend(plugin.bridge.clone().filter(|_| plugin.is_gateway).map(Common::Bridge));
        keys.extend(plugin.device.clone().map(Common::Device));
        if let ("vlan", Some(master), Some(id)) = (&*plugin.kind, &plugin.master, plugin.vlan) {
            keys.push(Common::Vlan(master.clone(), id));
        }
    }
    keys
}
