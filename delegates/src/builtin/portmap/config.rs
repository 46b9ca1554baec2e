//! The configuration of `portmap`: the keys of the reference plugin.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::finding::{Allowed, Finding};
use attachments::selection::PORT_MAPPING;

use super::conditions::{self, Language};
use crate::builtin::conf_reader::ConfReader;
use crate::firewall::port_mappings::{Mapping, Protocol};
use crate::nl::nft::Condition;

const PORT: &str = "an integer from 1 to 65535";

/// The configuration of a port mapping.
pub(in crate::builtin) use crate::firewall::port_mappings::PortMappings as Config;

impl Config {
    pub(in crate::builtin) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut reader = ConfReader::of(conf);
        let backend = reader.choice(
            "backend",
            &[("iptables", Some(Language::Iptables)), ("nftables", Some(Language::Nftables))],
            None,
        );
        let config = Self {
            mappings: mappings(&mut reader, conf),
            snat: reader.keep(conf.decode("snat", Allowed::BOOLEAN)).unwrap_or(true),
            masquerade_all: reader.flag("masqAll"),
            conditions_v4: conditions(&mut reader, conf, "conditionsV4", true, backend),
            conditions_v6: conditions(&mut reader, conf, "conditionsV6", false, backend),
        };
        // A mark tells another chain to masquerade; our rules do it themselves, so there is nothing to mark.
        let bit = reader.integer("markMasqBit", 0..=31);
        if let Some(chain) = reader.keep(conf.text("externalSetMarkChain")) {
            if bit.is_some() {
                reader.refuse(Finding::new(
                    "externalSetMarkChain",
                    format_args!("{chain:?}"),
                    Allowed::without("markMasqBit"),
                ));
            }
            if backend == Some(Language::Nftables) {
                let allowed = "`backend` iptables, or none: nftables has no such chain";
                reader.refuse(Finding::new("externalSetMarkChain", format_args!("{chain:?}"), allowed));
            }
        }
        reader.finish(config)
    }
}

fn conditions(
    reader: &mut ConfReader<'_>,
    conf: &Object,
    key: &str,
    ipv4: bool,
    backend: Option<Language>,
) -> Vec<Condition> {
    let words: Vec<String> = reader.keep(conf.decode(key, Allowed::STRINGS)).unwrap_or_default();
    let written = conf.get(key).map_or("", |value| value.get());
    let Some(language) = Language::of(&words) else { return Vec::new() };
    if let Some(backend) = backend.filter(|backend| *backend != language) {
        reader.refuse(Finding::new(key, written, format!("conditions in the language of `backend`, {backend}")));
        return Vec::new();
    }
    conditions::read(&words, language, ipv4).unwrap_or_else(|allowed| {
        reader.refuse(Finding::new(key, written, allowed));
        Vec::new()
    })
}

/// `runtimeConfig.portMappings` alone, each once.
pub(super) fn mappings_of(conf: &Object) -> Result<Vec<Mapping>, Vec<Finding>> {
    let mut reader = ConfReader::of(conf);
    let mappings = mappings(&mut reader, conf);
    reader.finish(mappings)
}

fn mappings(reader: &mut ConfReader<'_>, conf: &Object) -> Vec<Mapping> {
    const PATH: &str = "runtimeConfig.portMappings";
    let runtime = reader.keep(conf.object("runtimeConfig")).unwrap_or_default();
    let listed = reader.keep(runtime.objects("portMappings").map_err(|e| e.under("runtimeConfig")));
    let mut mappings: Vec<Mapping> = Vec::new();
    let (mut once, mut taken) = (HashSet::new(), Taken::default());
    for (i, object) in listed.iter().enumerate() {
        let mapping = match Mapping::read(object) {
            Ok(mapping) => mapping,
            Err(finding) => {
                reader.refuse(finding.under(&format!("{PATH}[{i}]")));
                continue;
            }
        };
        if !once.insert(mapping) {
            continue;
        }
        if !taken.insert(&mapping) {
            let allowed = "a host port that no other mapping of this pod has";
            reader.refuse(Finding::new(format!("{PATH}[{i}].hostPort"), mapping, allowed));
        }
        mappings.push(mapping);
    }
    mappings
}

/// The host ports of mappings, by protocol and family: for single addresses, and whether one of them is for all.
#[derive(Default)]
struct Taken(HashMap<(u16, Protocol, bool), (HashSet<IpAddr>, bool)>);

impl Taken {
    /// False when some packet would meet an earlier mapping too.
    fn insert(&mut self, mapping: &Mapping) -> bool {
        let mut is_free = true;
        for ipv4 in [true, false].into_iter().filter(|ipv4| mapping.is_for(*ipv4)) {
            let (addresses, all) = self.0.entry((mapping.host_port, mapping.protocol, ipv4)).or_default();
            is_free &= !*all;
            match mapping.address() {
                Some(address) => is_free &= addresses.insert(address),
                None => {
                    is_free &= addresses.is_empty();
                    *all = true;
                }
            }
        }
        is_free
    }
}

impl Mapping {
    fn read(object: &Object) -> Result<Self, Finding> {
        let object = &*PORT_MAPPING.read(object)?;
        let port = |key: &str| match object.decode::<u16>(key, PORT)? {
            Some(0) => Err(Finding::new(key, 0, PORT)),
            Some(port) => Ok(port),
            None => Err(Finding::missing(key, PORT)),
        };
        let host_ip: Option<IpAddr> = object.parsed("hostIP", "an IP address")?;
        Ok(Self {
            host_ip: host_ip.map(|ip| ip.to_canonical()),
            host_port: port("hostPort")?,
            container_port: port("containerPort")?,
            protocol: Protocol::read(object)?,
        })
    }
}

impl Protocol {
    /// Runtimes write it in either case; Kubernetes means TCP where it says nothing.
    fn read(object: &Object) -> Result<Self, Finding> {
        let text = object.text("protocol")?.unwrap_or_default();
        match text.to_ascii_lowercase().as_str() {
            "" | "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Finding::new("protocol", format_args!("{text:?}"), "tcp, udp or sctp")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;

    #[test]
    fn mappings_are_read_as_containerd_spells_them() {
        let conf =
            r#"{"runtimeConfig":{"portMappings":[{"HostPort":8080,"ContainerPort":80,"Protocol":"UDP","HostIP":""}]}}"#;
        let config = Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap();
        let mapping = Mapping { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Udp };
        assert_eq!(config.mappings, [mapping]);
    }

    fn findings(conf: &str) -> Vec<String> {
        let conf = Object::parse(conf.as_bytes()).unwrap();
        Builtin::Portmap.validate(&conf).iter().map(Finding::to_string).collect()
    }

    fn read(conf: &str) -> Config {
        Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap_or_else(|wrong| panic!("{conf}: {wrong:?}"))
    }

    #[test]
    fn every_key_is_read() {
        let config = read(
            r#"{"backend":"iptables","snat":false,"masqAll":true,"markMasqBit":13,
            "conditionsV4":["!","-d","192.0.2.0/24"],"conditionsV6":["!","-d","fc00::/7"],"runtimeConfig":{"portMappings":[
            {"hostPort":8080,"containerPort":80,"protocol":"TCP","hostIP":"10.0.0.1"},
            {"hostPort":8080,"containerPort":80,"protocol":"udp"},
            {"hostPort":53,"containerPort":5353,"protocol":"sctp","hostIP":"::ffff:10.0.0.1"},
            {"hostPort":8080,"containerPort":80,"protocol":"udp"}]}}"#,
        );
        let told: Vec<String> = config.mappings.iter().map(Mapping::to_string).collect();
        assert_eq!(told, ["10.0.0.1 8080/tcp", "8080/udp", "10.0.0.1 53/sctp"]);
        assert_eq!(config.conditions_v4, [Condition::DestinationNotIn("192.0.2.0/24".parse().unwrap())]);
        assert_eq!(config.conditions_v6, [Condition::DestinationNotIn("fc00::/7".parse().unwrap())]);
        assert!(!config.snat && config.masquerade_all);
        let bare = read(r#"{"externalSetMarkChain":"KUBE-MARK-MASQ","conditionsV4":[],"conditionsV6":null}"#);
        assert!(bare.snat && !bare.masquerade_all && bare.mappings.is_empty() && bare.conditions_v4.is_empty());
    }

    #[test]
    fn every_wrong_key_is_named_in_one_go() {
        let wrong = findings(
            r#"{"backend":"pf","snat":"no","masqAll":1,"markMasqBit":32,"externalSetMarkChain":7,"conditionsV4":"x",
            "conditionsV6":["-m","mark"],"runtimeConfig":{"portMappings":[{"hostPort":0,"containerPort":1},
            {"hostPort":1},{"hostPort":65536,"containerPort":1},{"hostPort":1,"containerPort":1,"protocol":"icmp"},
            {"hostPort":1,"containerPort":1,"hostIP":"x"}]}}"#,
        );
        let paths: Vec<&str> = wrong.iter().filter_map(|text| text.split(": ").next()).collect();
        let want = [
            "backend",
            "runtimeConfig.portMappings[0].hostPort",
            "runtimeConfig.portMappings[1].containerPort",
            "runtimeConfig.portMappings[2].hostPort",
            "runtimeConfig.portMappings[3].protocol",
            "runtimeConfig.portMappings[4].hostIP",
            "snat",
            "masqAll",
            "conditionsV4",
            "conditionsV6",
            "markMasqBit",
            "externalSetMarkChain",
        ];
        assert_eq!(paths, want, "{wrong:#?}");
    }

    #[test]
    fn one_host_port_leads_to_one_port_of_the_pod() {
        let two = |one: &str, two: &str| {
            let mapping = |port: u16, more: &str| format!(r#"{{"hostPort":80,"containerPort":{port}{more}}}"#);
            findings(&format!(r#"{{"runtimeConfig":{{"portMappings":[{},{}]}}}}"#, mapping(1, one), mapping(2, two)))
        };
        let wrong = two("", r#","hostIP":"10.0.0.1""#);
        assert_eq!(
            wrong,
            [
                "runtimeConfig.portMappings[1].hostPort: got 10.0.0.1 80/tcp, want a host port that no other mapping of this pod has"
            ]
        );
        assert_eq!(two(r#","hostIP":"0.0.0.0""#, r#","hostIP":"10.0.0.1""#).len(), 1);
        for (first, second) in [
            (r#","hostIP":"10.0.0.1""#, r#","hostIP":"10.0.0.2""#),
            (r#","hostIP":"0.0.0.0""#, r#","hostIP":"::""#),
            (r#","protocol":"udp""#, ""),
        ] {
            assert_eq!(two(first, second), Vec::<String>::new(), "{first} {second}");
        }
    }

    #[test]
    fn keys_of_one_backend_do_not_go_with_the_other() {
        for (conf, path) in [
            (r#"{"backend":"nftables","externalSetMarkChain":"X"}"#, "externalSetMarkChain"),
            (r#"{"markMasqBit":1,"externalSetMarkChain":"X"}"#, "externalSetMarkChain"),
            (r#"{"backend":"nftables","conditionsV4":["-d","10.0.0.0/8"]}"#, "conditionsV4"),
            (r#"{"backend":"iptables","conditionsV6":["ip6","daddr","fd00::/8"]}"#, "conditionsV6"),
        ] {
            let wrong = findings(conf);
            assert!(matches!(wrong.as_slice(), [one] if one.starts_with(path)), "{conf}: {wrong:?}");
        }
    }
}
