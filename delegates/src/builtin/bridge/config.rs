//! The configuration of `bridge`: the keys of the reference plugin.

use attachments::cni::object::Object;
use attachments::cni::result::Dns;
use attachments::finding::Finding;
use attachments::names::{IfName, Mac};

use crate::builtin::hardware;
use crate::builtin::keys::Keys;
use crate::ipam;

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
    /// The address asked for in the configuration: `runtimeConfig.mac` before `args.cni.mac`.
    pub mac: Option<Mac>,
    /// `dns`; wins over the IPAM's when any field is set.
    pub dns: Dns,
}

/// Every VLAN key is read, so that a wrong type is found, and refused where it would change what the pod gets.
const NO_VLAN: &str =
    "nothing: VLANs are not in the built-in bridge yet; take bridge out of `builtin` to run the plugin";

impl Config {
    pub(in crate::builtin) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut keys = Keys::of(conf);
        let is_default_gateway = keys.flag("isDefaultGateway");
        let runtime_mac = keys.keep(hardware::from_runtime(conf));
        let config = Self {
            bridge: keys.parsed::<IfName>("bridge", IfName::ALLOWED).map_or_else(|| "cni0".to_owned(), String::from),
            is_gateway: keys.flag("isGateway") || is_default_gateway,
            is_default_gateway,
            force_address: keys.flag("forceAddress"),
            ip_masq: keys.flag("ipMasq"),
            mtu: keys.mtu(),
            hairpin: keys.flag("hairpinMode"),
            promisc: keys.flag("promiscMode"),
            detect_duplicates: keys.flag("enabledad"),
            leave_down: keys.flag("disableContainerInterface"),
            isolated: keys.flag("portIsolation"),
            mac: runtime_mac.or(keys.keep(hardware::from_args(conf))),
            dns: keys.dns(),
        };
        // Masquerading is always nftables, in process; the key of a configuration that names a tool still works.
        keys.choice("ipMasqBackend", &[("iptables", ()), ("nftables", ())], ());
        if config.hairpin && config.promisc {
            keys.refuse(Finding::new("hairpinMode", true, "false when promiscMode is true"));
        }
        if config.leave_down && keys.keep(ipam::configured(conf)) {
            keys.refuse(Finding::new("disableContainerInterface", true, "false when ipam.type is set"));
        }
        refuse_vlans(&mut keys, conf);
        keys.finish(config)
    }
}

fn refuse_vlans(keys: &mut Keys<'_>, conf: &Object) {
    if let Some(vlan) = keys.integer("vlan", 0..=4094).filter(|vlan| *vlan != 0) {
        keys.refuse(Finding::new("vlan", vlan, NO_VLAN));
    }
    if !keys.keep(conf.objects("vlanTrunk")).is_empty() {
        keys.refuse(Finding::new("vlanTrunk", conf.get("vlanTrunk").map_or("", |v| v.get()), NO_VLAN));
    }
    // Has no effect without `vlan` or `vlanTrunk`.
    keys.flag("preserveDefaultVlan");
    if keys.flag("macspoofchk") {
        const WANT: &str = "false: not in the built-in bridge yet; take bridge out of `builtin` to run the plugin";
        keys.refuse(Finding::new("macspoofchk", true, WANT));
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
            "ipMasqBackend":"iptables","mtu":1400,"hairpinMode":true,"promiscMode":false,"vlan":0,"vlanTrunk":[],
            "preserveDefaultVlan":true,"macspoofchk":false,"enabledad":true,"disableContainerInterface":true,
            "portIsolation":true,"args":{"cni":{"mac":"02:00:00:00:00:01"}},"runtimeConfig":{"mac":"02:00:00:00:00:02"},
            "dns":{"domain":"d"},"unknown":{"x":1}}"#;
        let config = Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap();
        assert_eq!((config.bridge.as_str(), config.mtu), ("br1", Some(1400)));
        assert!(config.is_gateway && config.is_default_gateway && config.force_address && config.ip_masq);
        assert!(config.hairpin && !config.promisc && config.detect_duplicates && config.leave_down && config.isolated);
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
        let paths: Vec<&str> = wrong.iter().filter_map(|text| text.split(':').next()).collect();
        let want = [
            "runtimeConfig.mac",
            "bridge",
            "isGateway",
            "mtu",
            "dns",
            "ipMasqBackend",
            "hairpinMode",
            "vlan",
            "vlanTrunk",
        ];
        assert_eq!(paths, want, "{wrong:#?}");
    }

    #[test]
    fn what_cannot_be_done_yet_is_refused_not_ignored() {
        for conf in [r#"{"vlan":100}"#, r#"{"vlanTrunk":[{"id":5}]}"#, r#"{"macspoofchk":true}"#] {
            let wrong = findings(conf);
            assert!(matches!(wrong.as_slice(), [one] if one.contains("`builtin`")), "{conf}: {wrong:?}");
        }
        assert_eq!(findings(r#"{"vlan":0,"vlanTrunk":null,"preserveDefaultVlan":true}"#), Vec::<String>::new());
    }

    #[test]
    fn a_link_that_stays_down_takes_no_addresses() {
        let wrong = findings(r#"{"disableContainerInterface":true,"ipam":{"type":"other"}}"#);
        assert_eq!(wrong, ["disableContainerInterface: got true, want false when ipam.type is set"]);
    }
}
