//! ReservedIP: addresses of a network that are kept for pods which name the object.

use std::net::IpAddr;

use super::NetworkSpec;
use crate::cni::object::Object;
use crate::dialect::objects::{ForeignRef, Kind, Objects};
use crate::finding::{Allowed, Finding, Findings};
use crate::names::ObjectName;
use crate::selection::NetworkSelection;

/// `spec` of a ReservedIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservedIp {
    /// `network.name`.
    pub network: String,
    /// `network.type`: a ClusterNetwork, or else a TenantNetwork of the object's namespace.
    pub is_of_cluster: bool,
    /// `ips`: each address, and whether several pods may have it at once.
    pub addresses: Vec<(IpAddr, bool)>,
}

impl ReservedIp {
    /// Reads a `spec`. Fails with everything that is wrong.
    pub fn read(spec: &Object) -> Result<Self, Vec<Finding>> {
        let mut findings = Findings::default();
        let network = findings.keep(spec.object("network")).unwrap_or_default();
        let at = |finding: Finding| finding.under("network");
        let name = findings.keep(network.text("name").map_err(at)).unwrap_or_default();
        if name.is_empty() {
            findings.push(Finding::missing("network.name", "the name of a network"));
        }
        let kind = findings.keep(network.text("type").map_err(at)).unwrap_or_default();
        if !["", "TenantNetwork", "ClusterNetwork"].contains(&kind.as_str()) {
            let allowed = Allowed::OneOf(vec!["TenantNetwork", "ClusterNetwork"]);
            findings.push(Finding::new("network.type", format_args!("{kind:?}"), allowed));
        }
        let mut addresses: Vec<(IpAddr, bool)> = Vec::new();
        for (i, ip) in findings.keep(spec.objects("ips")).iter().enumerate() {
            let at = |finding: Finding| finding.under(&format!("ips[{i}]"));
            let text = findings.keep(ip.text("address").map_err(at)).unwrap_or_default();
            let is_shareable = findings.keep(ip.flag("shareable").map_err(at));
            let Ok(address) = text.parse::<IpAddr>() else {
                findings.push(at(Finding::new("address", format_args!("{text:?}"), "an IP address")));
                continue;
            };
            if addresses.iter().any(|(other, _)| other.is_ipv4() == address.is_ipv4()) {
                findings.push(at(Finding::new("address", address, "one address of a family at most")));
            }
            addresses.push((address, is_shareable));
        }
        if addresses.is_empty() && findings.is_empty() {
            findings.push(Finding::missing("ips", "one address of a family at most, and one at least"));
        }
        findings.finish(Self { network: name, is_of_cluster: kind == "ClusterNetwork", addresses })
    }

    /// The kind of its network.
    pub fn network_kind(&self) -> Kind {
        if self.is_of_cluster { Kind::ClusterNetwork } else { Kind::TenantNetwork }
    }

    /// Its network, where the name can be one's. `namespace`: that of the object.
    pub fn network_of(&self, namespace: &ObjectName) -> Option<ForeignRef> {
        Some(ForeignRef::within(namespace, self.network_kind(), self.network.parse().ok()?))
    }

    /// Its address of a family, and whether several pods may have it at once.
    pub fn of_family(&self, ipv4: bool) -> Option<(IpAddr, bool)> {
        self.addresses.iter().find(|(address, _)| address.is_ipv4() == ipv4).copied()
    }

    /// The addresses that are outside of its network.
    pub fn outside(&self, network: &NetworkSpec) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (i, (address, _)) in self.addresses.iter().enumerate() {
            let (key, net) = match address {
                IpAddr::V4(_) => ("cidr", &network.options.cidr),
                IpAddr::V6(_) => ("net6", &network.options.net6),
            };
            let subnet = net.as_deref().and_then(|text| text.parse::<ipnet::IpNet>().ok());
            if !subnet.is_some_and(|subnet| subnet.contains(address)) {
                let allowed = match net {
                    Some(net) => format!("an address of the network's {key} {net}"),
                    None => format!("an address of the other family: the network has no {key}"),
                };
                findings.push(Finding::new(format!("ips[{i}].address"), address, allowed));
            }
        }
        findings
    }
}

/// The ReservedIPs of a network, of those that there are. One that cannot be read keeps nothing.
pub fn of_network<'a>(
    network: &ForeignRef,
    all: impl Iterator<Item = (&'a ForeignRef, &'a String)>,
) -> Vec<(&'a ForeignRef, ReservedIp)> {
    let is_of = |(reference, spec): (&'a ForeignRef, &'a String)| {
        let namespace = reference.namespace.as_ref().filter(|_| reference.kind == Kind::ReservedIP)?;
        let read = ReservedIp::read(&Object::parse(spec.as_bytes()).ok()?).ok()?;
        (read.network_of(namespace).as_ref() == Some(network)).then_some((reference, read))
    };
    all.filter_map(is_of).collect()
}

/// The addresses of a network that no pool gives to an attachment: those of ReservedIPs that it does not name, and those that pods share.
pub fn kept_from(network: &ForeignRef, selected: Option<&NetworkSelection>, objects: &Objects) -> Vec<IpAddr> {
    let mut kept = Vec::new();
    for (reference, one) in of_network(network, objects.iter()) {
        let is_named =
            selected.is_some_and(|selected| selected.reserved.iter().flatten().any(|named| named == reference));
        let addresses = one.addresses.iter().filter(|(_, is_shared)| *is_shared || !is_named);
        kept.extend(addresses.map(|(address, _)| *address));
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(value: &Value) -> Object {
        Object::parse(value.to_string().as_bytes()).unwrap()
    }

    fn of(ips: Value) -> Result<ReservedIp, Vec<String>> {
        let spec = json!({"network": {"name": "net", "type": "ClusterNetwork"}, "ips": ips});
        ReservedIp::read(&object(&spec)).map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn one_address_of_a_family_inside_of_the_network() {
        let network = json!({"NetworkID": "n", "Options": {"cidr": "10.0.0.0/24", "net6": "fd00::/64"}});
        let network = NetworkSpec::read(&object(&network)).unwrap();
        let both = of(json!([{"address": "10.0.0.7", "shareable": true}, {"address": "fd00::7"}])).unwrap();
        assert!(both.outside(&network).is_empty() && both.network_kind() == Kind::ClusterNetwork);
        assert_eq!(both.addresses.iter().map(|(_, is_shared)| *is_shared).collect::<Vec<_>>(), [true, false]);
        assert_eq!(both.outside(&NetworkSpec::default()).len(), 2);
        let away = of(json!([{"address": "10.0.1.7"}])).unwrap();
        assert_eq!(
            away.outside(&network)[0].to_string(),
            "ips[0].address: got 10.0.1.7, want an address of the network's cidr 10.0.0.0/24"
        );
        for (ips, said) in [
            (json!([]), "ips: missing"),
            (json!([{"address": "10.0.0"}]), "ips[0].address: got \"10.0.0\", want an IP address"),
            (
                json!([{"address": "10.0.0.1"}, {"address": "10.0.0.2"}]),
                "ips[1].address: got 10.0.0.2, want one address of a family",
            ),
            (
                json!([{"address": "fd00::1"}, {"address": "fd00::2"}]),
                "ips[1].address: got fd00::2, want one address of a family",
            ),
        ] {
            let found = of(ips).unwrap_err();
            assert!(found.len() == 1 && found[0].starts_with(said), "{found:?}");
        }
    }
}
