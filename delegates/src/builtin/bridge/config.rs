//! The configuration of `bridge`: the keys of the reference plugin.

use attachments::cni::object::Object;
use attachments::cni::result::Dns;
use attachments::finding::{Allowed, Finding};
use attachments::names::{IfName, Mac};
use attachments::rule::Rule;

use super::vlan::{self, Vlans};
use crate::builtin::conf_reader::ConfReader;
use crate::builtin::mac_address;
use crate::ipam;

pub(in crate::builtin) const KEYS: [&str; 19] = [
    "bridge",
    "isGateway",
    "isDefaultGateway",
    "forceAddress",
    "ipMasq",
    "ipMasqBackend",
    "mtu",
    "hairpinMode",
    "promiscMode",
    "enabledad",
    "disableContainerInterface",
    "portIsolation",
    "vlan",
    "vlanTrunk",
    "preserveDefaultVlan",
    "macspoofchk",
    "ipam",
    "acceptRA",
    "dns",
];

/// The bridge that is meant where none is named.
pub(in crate::builtin) const DEFAULT: &str = "cni0";

/// The configuration of a bridge attachment.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::builtin) struct Config {
    /// Name of the bridge; it is made when it is missing and stays when the last pod has gone.
    pub bridge: String,
    /// The bridge holds the gateway address of every subnet, and the node forwards.
    pub is_gateway: bool,
    /// The pod gets a default route through that address.
    pub is_default_gateway: bool,
    /// An address of the bridge that contradicts the gateway is replaced.
    pub force_address: bool,
    /// Traffic from the pod to elsewhere leaves with the node's address.
    pub ip_masq: bool,
    /// MTU of the veth, and of the bridge when it is made.
    pub mtu: Option<u32>,
    /// The port sends frames back where they came from.
    pub hairpin: bool,
    /// The bridge is promiscuous.
    pub promisc: bool,
    /// The pod's link detects duplicate IPv6 addresses.
    pub detect_duplicates: bool,
    /// The pod's link stays down.
    pub leave_down: bool,
    /// The port talks to ports that are not isolated only.
    pub isolated: bool,
    /// The VLANs that the port is in.
    pub vlans: Vlans,
    /// The port lets frames pass that come from the pod's own address only.
    pub mac_spoof_check: bool,
    /// The address asked for in the configuration: `runtimeConfig.mac` before `args.cni.mac`.
    pub mac: Option<Mac>,
    /// `dns`; wins over the IPAM's when any field is set.
    pub dns: Dns,
}

impl Config {
    pub(in crate::builtin) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut reader = ConfReader::of(conf);
        let is_default_gateway = reader.flag("isDefaultGateway");
        let runtime_mac = reader.keep(mac_address::from_runtime(conf));
        let config = Self {
            bridge: reader
                .parsed::<IfName>(("bridge", Rule::BridgeName), IfName::ALLOWED)
                .map_or_else(|| DEFAULT.to_owned(), String::from),
            is_gateway: reader.flag("isGateway") || is_default_gateway,
            is_default_gateway,
            force_address: reader.flag("forceAddress"),
            ip_masq: reader.flag("ipMasq"),
            mtu: reader.mtu(),
            hairpin: reader.flag("hairpinMode"),
            promisc: reader.flag("promiscMode"),
            detect_duplicates: reader.flag("enabledad"),
            leave_down: reader.flag("disableContainerInterface"),
            isolated: reader.flag("portIsolation"),
            vlans: Vlans::read(&mut reader, conf),
            mac_spoof_check: reader.flag("macspoofchk"),
            mac: runtime_mac.or(reader.keep(mac_address::from_args(conf))),
            dns: reader.dns(),
        };
        reader.masquerade_backend();
        if config.hairpin && config.promisc {
            reader.refuse(Finding::new("hairpinMode", true, Allowed::without("promiscMode")).of(Rule::BridgeFlags));
        }
        if config.leave_down && reader.keep(ipam::configured(conf)) {
            reader.refuse(
                Finding::new("disableContainerInterface", true, Allowed::without("ipam.type")).of(Rule::BridgeFlags),
            );
        }
        // The node would take the address of the network's own router, or stand in front of it.
        for key in ["isGateway", "isDefaultGateway", "ipMasq"] {
            if ipam::asks_on_link(conf) && reader.flag(key) {
                reader.refuse(Finding::new(key, true, Allowed::without("ipam.type dhcp")).of(Rule::BridgeFlags));
            }
        }
        if let (true, Some(id)) = (config.is_gateway, config.vlans.id) {
            let name = vlan::gateway_name(&config.bridge, id);
            if name.parse::<IfName>().is_err() {
                let allowed =
                    format!("a shorter name: the gateway of the VLAN would be {name}, which has over 15 bytes");
                reader
                    .refuse(Finding::new("bridge", format_args!("{:?}", config.bridge), allowed).of(Rule::BridgeName));
            }
        }
        reader.finish(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;

    fn findings(conf: &str) -> Vec<String> {
        let conf = Object::parse(conf.as_bytes()).unwrap();
        Builtin::Bridge.validate(&conf).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn every_key_is_read() {
        let conf = r#"{"bridge":"br1","isGateway":false,"isDefaultGateway":true,"forceAddress":true,"ipMasq":true,
            "ipMasqBackend":"iptables","mtu":1400,"hairpinMode":true,"promiscMode":false,"vlan":100,"vlanTrunk":[{"id":5}],
            "preserveDefaultVlan":true,"macspoofchk":true,"enabledad":true,"disableContainerInterface":true,
            "portIsolation":true,"args":{"cni":{"mac":"02:00:00:00:00:01"}},"runtimeConfig":{"mac":"02:00:00:00:00:02"},
            "dns":{"domain":"d"},"unknown":{"x":1}}"#;
        let config = Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap();
        assert_eq!((config.bridge.as_str(), config.mtu), ("br1", Some(1400)));
        assert!(config.is_gateway && config.is_default_gateway && config.force_address && config.ip_masq);
        assert!(config.hairpin && !config.promisc && config.detect_duplicates && config.leave_down && config.isolated);
        assert!(config.mac_spoof_check && config.vlans.keep_default);
        assert_eq!((config.vlans.id, config.vlans.trunk.as_slice()), (Some(100), [(5, 5)].as_slice()));
        assert_eq!(config.mac, Some(Mac([2, 0, 0, 0, 0, 2])), "runtimeConfig wins over args");
        assert_eq!(config.dns.domain.as_deref(), Some("d"));
        let bare = Config::read(&Object::new()).unwrap();
        assert_eq!((bare.bridge.as_str(), bare.mtu, bare.is_gateway), ("cni0", None, false));
    }

    #[test]
    fn every_wrong_key_is_named_in_one_go() {
        let wrong = findings(
            r#"{"bridge":"a/b","isGateway":"yes","mtu":67,"vlan":4095,"vlanTrunk":{},"hairpinMode":true,"promiscMode":true,
                "ipMasqBackend":"pf","runtimeConfig":{"mac":"x"},"dns":[]}"#,
        );
        let paths: Vec<&str> = wrong.iter().filter_map(|text| text.split([':', ' ']).next()).collect();
        let want = [
            "runtimeConfig.mac",
            "bridge",
            "isGateway",
            "mtu",
            "vlan",
            "vlanTrunk",
            "dns",
            "ipMasqBackend",
            "hairpinMode",
        ];
        assert_eq!(paths, want, "{wrong:#?}");
    }

    #[test]
    fn the_gateway_of_a_vlan_needs_a_name_that_fits() {
        let conf = |bridge: &str, more: &str| format!(r#"{{"bridge":"{bridge}","vlan":100{more}}}"#);
        let wrong = findings(&conf("bridge-names", r#","isGateway":true"#));
        assert!(matches!(wrong.as_slice(), [one] if one.contains("would be bridge-names.100")), "{wrong:?}");
        assert_eq!(findings(&conf("bridge-names", "")), Vec::<String>::new());
        assert_eq!(findings(&conf("bridge-name", r#","isGateway":true"#)), Vec::<String>::new());
    }

    #[test]
    fn a_network_whose_server_names_the_router_has_no_gateway_here() {
        let wrong = findings(r#"{"isDefaultGateway":true,"ipMasq":true,"ipam":{"type":"dhcp"}}"#);
        let each = ["isDefaultGateway", "ipMasq"].map(|key| format!("{key} cannot be combined with ipam.type dhcp"));
        assert_eq!(wrong, each);
        assert_eq!(findings(r#"{"ipam":{"type":"dhcp"}}"#), Vec::<String>::new());
    }

    #[test]
    fn a_link_that_stays_down_takes_no_addresses() {
        let wrong = findings(r#"{"disableContainerInterface":true,"ipam":{"type":"other"}}"#);
        assert_eq!(wrong, ["disableContainerInterface cannot be combined with ipam.type"]);
    }
}
