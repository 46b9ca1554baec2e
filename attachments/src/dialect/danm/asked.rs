//! The addresses of an element of a pod's list, where ReservedIPs keep some: its own by name, and nobody's by itself.

use std::net::IpAddr;

use super::network::Network;
use super::reserved::{ReservedIp, of_network};
use crate::cni::object::Object;
use crate::dialect::objects::{ForeignRef, Objects};
use crate::finding::Finding;
use crate::selection::NetworkSelection;

/// The network of an element, and everything that is known.
pub(super) struct Asker<'a> {
    /// The network.
    pub reference: &'a ForeignRef,
    /// The same, as it was read.
    pub network: &'a Network,
    /// The objects.
    pub objects: &'a Objects,
}

impl Asker<'_> {
    /// Puts the addresses of the objects that are named into `ips`. Answers with warnings. A finding's path is the key.
    pub fn settle(&self, settled: &mut NetworkSelection) -> Result<Vec<String>, Finding> {
        let kept = of_network(self.reference, self.objects.iter());
        for ip in settled.ips.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
            let keeps = |one: &ReservedIp| one.addresses.iter().any(|(address, _)| *address == ip);
            if let Some((keeper, _)) = kept.iter().find(|(_, one)| keeps(one)) {
                let allowed =
                    format!("an address that no ReservedIP keeps: {keeper} gives it to pods that name the object");
                return Err(Finding::new(key(ip.is_ipv4()), ip, allowed));
            }
        }
        let mut warnings = Vec::new();
        for (ipv4, named) in [true, false].into_iter().zip(settled.reserved.clone()) {
            let Some(named) = named else { continue };
            let (address, is_shared) = self.address(&named, ipv4, &kept)?;
            // IPv4 comes first, as where both are written.
            let at = if ipv4 { 0 } else { settled.ips.len() };
            settled.ips.insert(at, address.to_string());
            if is_shared {
                settled.shared.push(address);
            } else if !self.network.is_in_pool(address) {
                let why = format!("{address} is outside of the pool of {}", self.reference);
                warnings.push(format!("{named}: {why}, so nothing keeps a second pod from it"));
            }
        }
        Ok(warnings)
    }

    /// The address of an object that is named, and whether several pods may have it.
    fn address(
        &self,
        named: &ForeignRef,
        ipv4: bool,
        kept: &[(&ForeignRef, ReservedIp)],
    ) -> Result<(IpAddr, bool), Finding> {
        let refused = |allowed: String| Finding::new(key(ipv4), format_args!("{:?}", named.name.as_str()), allowed);
        let Some(spec) = self.objects.get(named) else {
            let own = kept.iter().filter(|(one, _)| one.namespace == named.namespace);
            let own: Vec<&str> = own.map(|(one, _)| one.name.as_str()).collect();
            let there =
                if own.is_empty() { "there is none".to_owned() } else { format!("there are {}", own.join(", ")) };
            let (namespace, network) = (named.namespace(), self.reference);
            let words = "\"dynamic\", \"none\", an address or a ReservedIP";
            return Err(refused(format!("{words} of namespace {namespace} for {network}: {there}")));
        };
        let unread = |why: String| refused(format!("a ReservedIP that can be read: {named}: spec{why}"));
        let read = Object::parse(spec.as_bytes()).map_err(|e| unread(format!(": invalid JSON ({e})")))?;
        let read = ReservedIp::read(&read)
            .map_err(|found| unread(format!(".{}", found.first().map(ToString::to_string).unwrap_or_default())))?;
        let network = named.namespace.as_ref().and_then(|namespace| read.network_of(namespace));
        if network.as_ref() != Some(self.reference) {
            let is = network.map_or_else(|| format!("{:?}", read.network), |network| network.to_string());
            return Err(refused(format!("a ReservedIP of {}: {named} is one of {is}", self.reference)));
        }
        read.of_family(ipv4).ok_or_else(|| {
            let family = if ipv4 { "IPv4" } else { "IPv6" };
            let has: Vec<String> = read.addresses.iter().map(|(address, _)| address.to_string()).collect();
            refused(format!("a ReservedIP with an address of {family}: {named} has {}", has.join(", ")))
        })
    }
}

/// The key of a list's element for the address of a family.
pub(super) fn key(ipv4: bool) -> &'static str {
    if ipv4 { "ip" } else { "ip6" }
}
