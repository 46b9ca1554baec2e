//! The configuration of `bond`: the keys of the plugin bond-cni.

use attachments::cni::object::Object;
use attachments::cni::result::Dns;
use attachments::cni::spelling::Known;
use attachments::finding::{Allowed, Finding};
use attachments::names::IfName;

use crate::builtin::conf_reader::ConfReader;
use crate::nl::link::{Bond, BondMode, FailOverMac, HashPolicy};

/// The configuration of a bond.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::builtin) struct Config {
    /// `ifname`: must be the name that the runtime says.
    pub ifname: Option<IfName>,
    /// The names of its ports, two at least.
    pub links: Vec<IfName>,
    /// The ports are links of the pod, attached before; otherwise links of the node that move into the pod.
    pub in_pod: bool,
    /// MTU, at most the least of the ports; absent: that.
    pub mtu: Option<u32>,
    /// What the driver is told.
    pub bond: Bond,
    /// `dns`: what the result says when there are addresses.
    pub dns: Dns,
}

pub(in crate::builtin) const KEYS: [&str; 13] = [
    "mode",
    "links",
    "linksInContainer",
    "miimon",
    "failOverMac",
    "mtu",
    "xmitHashPolicy",
    "allSlavesActive",
    "tlbDynamicLb",
    "ifname",
    "ipam",
    "acceptRA",
    "dns",
];

/// The keys of an element of `links`.
pub(in crate::builtin) const LINK: Known<'static> = Known { keys: &[&["name"]], inside: &[], only: true };

const MODES: [(&str, BondMode); 7] = [
    ("balance-rr", BondMode::BalanceRr),
    ("active-backup", BondMode::ActiveBackup),
    ("balance-xor", BondMode::BalanceXor),
    ("broadcast", BondMode::Broadcast),
    ("802.3ad", BondMode::Lacp),
    ("balance-tlb", BondMode::BalanceTlb),
    ("balance-alb", BondMode::BalanceAlb),
];

const POLICIES: [(&str, Option<HashPolicy>); 6] = [
    ("layer2", Some(HashPolicy::Layer2)),
    ("layer2+3", Some(HashPolicy::Layer23)),
    ("layer3+4", Some(HashPolicy::Layer34)),
    ("encap2+3", Some(HashPolicy::Encap23)),
    ("encap3+4", Some(HashPolicy::Encap34)),
    ("vlan+srcmac", Some(HashPolicy::VlanSrcmac)),
];

const MIIMON: &str = "milliseconds from 0 to 2147483647, as \"100\"; 0 never looks whether a link is dead";
const LINKS: &str = "at least two links, as [{\"name\": \"net1\"}, {\"name\": \"net2\"}]";

impl Config {
    pub(in crate::builtin) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut reader = ConfReader::of(conf);
        if conf.get("mode").is_none() {
            reader.refuse(Finding::missing("mode", Allowed::OneOf(MODES.map(|(word, _)| word).to_vec())));
        }
        let mode = reader.choice("mode", &MODES, BondMode::BalanceRr);
        let links = links(&mut reader, conf);
        let miimon = reader.keep(milliseconds(conf));
        let fail_over_mac = match reader.integer("failOverMac", 0..=2) {
            Some(1) => FailOverMac::Active,
            Some(2) => FailOverMac::Follow,
            _ => FailOverMac::None,
        };
        let bond = Bond {
            mode,
            miimon,
            fail_over_mac,
            hash_policy: reader.choice("xmitHashPolicy", &POLICIES, None),
            all_ports_active: reader.keep(switch(conf, "allSlavesActive")),
            tlb_dynamic: reader.keep(switch(conf, "tlbDynamicLb")),
        };
        let config = Self {
            ifname: reader.parsed("ifname", IfName::ALLOWED),
            links,
            in_pod: reader.flag("linksInContainer"),
            mtu: reader.mtu(),
            bond,
            dns: reader.dns(),
        };
        reader.finish(config)
    }
}

fn links(reader: &mut ConfReader<'_>, conf: &Object) -> Vec<IfName> {
    let elements = reader.elements(conf, "links");
    let (count, mut names) = (elements.len(), Vec::<IfName>::new());
    for (i, link) in elements {
        let read = link.parsed::<IfName>("name", IfName::ALLOWED);
        let read = read.and_then(|name| name.ok_or_else(|| Finding::missing("name", IfName::ALLOWED)));
        match read.map_err(|finding| finding.under(&format!("links[{i}]"))) {
            Ok(name) if names.contains(&name) => {
                reader.refuse(Finding::new(at(i), format_args!("{:?}", name.as_str()), "each link once"));
            }
            Ok(name) => names.push(name),
            Err(finding) => reader.refuse(finding),
        }
    }
    match count {
        0 => reader.refuse(Finding::missing("links", LINKS)),
        1 => reader.refuse(Finding::new("links", "one link", LINKS)),
        _ => {}
    }
    names
}

/// The path of a link's name.
pub(in crate::builtin) fn at(i: usize) -> String {
    format!("links[{i}].name")
}

/// `miimon`: a string with a number, as bond-cni has it, or a number. Required, for without it a dead link goes unnoticed.
fn milliseconds(conf: &Object) -> Result<Option<u32>, Finding> {
    let value = conf.get("miimon").ok_or_else(|| Finding::missing("miimon", MIIMON))?;
    let text = serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned());
    let read = text.parse().ok().filter(|number| i32::try_from(*number).is_ok());
    read.map(Some).ok_or_else(|| Finding::new("miimon", value.get(), MIIMON))
}

/// A switch of the driver: 0 or 1, or a boolean.
fn switch(conf: &Object, key: &str) -> Result<Option<bool>, Finding> {
    match conf.get(key).map(|value| value.get()) {
        None => Ok(None),
        Some("0" | "false") => Ok(Some(false)),
        Some("1" | "true") => Ok(Some(true)),
        Some(other) => Err(Finding::new(key, other, "0 or 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;

    fn read(conf: &str) -> Config {
        Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn every_key_of_bond_cni_is_read() {
        let config = read(
            r#"{"mode":"balance-xor","failOverMac":2,"linksInContainer":true,"miimon":"100","mtu":1400,"ifname":"bond0",
                "links":[{"name":"net1"},{"name":"net2"},{"name":"net3"}],"allSlavesActive":1,"tlbDynamicLb":0,
                "xmitHashPolicy":"layer3+4","dns":{"domain":"d"}}"#,
        );
        let bond = Bond {
            mode: BondMode::BalanceXor,
            miimon: Some(100),
            fail_over_mac: FailOverMac::Follow,
            hash_policy: Some(HashPolicy::Layer34),
            all_ports_active: Some(true),
            tlb_dynamic: Some(false),
        };
        assert_eq!((config.bond, config.in_pod, config.mtu), (bond, true, Some(1400)));
        let names: Vec<&str> = config.links.iter().map(IfName::as_str).collect();
        assert_eq!(names, ["net1", "net2", "net3"]);
        assert_eq!((config.ifname.unwrap().as_str(), config.dns.domain.as_deref()), ("bond0", Some("d")));
    }

    #[test]
    fn what_is_absent_is_left_to_the_kernel_and_the_links_are_the_nodes() {
        let config = read(r#"{"mode":"active-backup","miimon":50,"links":[{"name":"a"},{"name":"b"}]}"#);
        let bond = config.bond;
        assert_eq!((bond.mode, bond.miimon, bond.fail_over_mac), (BondMode::ActiveBackup, Some(50), FailOverMac::None));
        assert_eq!((bond.hash_policy, bond.all_ports_active, bond.tlb_dynamic), (None, None, None));
        assert_eq!((config.in_pod, config.mtu, config.ifname), (false, None, None));
    }

    fn wrong(conf: &str) -> Vec<String> {
        let findings = Builtin::Bond.validate(&Object::parse(conf.as_bytes()).unwrap());
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_wrong_key_is_named_in_one_go() {
        let found = wrong(
            r#"{"mode":"bond","links":[{"name":"a/b"},{},{"name":"x"},{"name":"x"}],"miimon":"soon","failOverMac":3,"mtu":67,
                "xmitHashPolicy":"layer4","allSlavesActive":2,"tlbDynamicLb":"on","ifname":"far-too-long-a-name"}"#,
        );
        let paths: Vec<&str> = found.iter().map(|text| text.split(':').next().unwrap()).collect();
        let want = [
            "mode",
            "links[0].name",
            "links[1].name",
            "links[3].name",
            "miimon",
            "failOverMac",
            "xmitHashPolicy",
            "allSlavesActive",
            "tlbDynamicLb",
            "ifname",
            "mtu",
        ];
        assert_eq!(paths, want);
        assert!(found[0].starts_with(r#"mode: got "bond", want one of balance-rr, active-backup"#), "{}", found[0]);
        assert_eq!(found[3], r#"links[3].name: got "x", want each link once"#);
        assert_eq!(found[7], "allSlavesActive: got 2, want 0 or 1");
    }

    #[test]
    fn a_bond_needs_a_mode_a_period_and_two_links() {
        let missing = wrong("{}");
        let starts: Vec<&str> = missing.iter().map(|text| text.split(',').next().unwrap()).collect();
        assert_eq!(starts, ["mode: missing", "links: missing", "miimon: missing"]);
        let one = wrong(r#"{"mode":"broadcast","miimon":"0","links":[{"name":"a"}]}"#);
        assert_eq!(one, [r#"links: got one link, want at least two links, as [{"name": "net1"}, {"name": "net2"}]"#]);
        assert!(
            wrong(r#"{"mode":"broadcast","miimon":"2147483648","links":[{"name":"a"},{"name":"b"}]}"#)[0]
                .starts_with("miimon")
        );
    }
}
