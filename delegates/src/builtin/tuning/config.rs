//! The configuration of `tuning`: the keys of the reference plugin, and `args.cni` over them.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use attachments::cni::object::Object;
use attachments::finding::Finding;
use attachments::names::{IfName, Mac};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::builtin::keys::Keys;
use crate::builtin::mac_address;

/// The keys of the configuration, which `args.cni` may have too.
pub(super) const KEYS: [&str; 7] = ["sysctl", "mac", "mtu", "promisc", "allmulti", "txQLen", "dataDir"];

const DATA_DIR: &str = "/run/cni/tuning";
/// Stands for the pod's interface in the name of a setting.
const PLACEHOLDER: &str = "IFNAME";

/// The configuration of a tuning.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::builtin) struct Config {
    /// Where the reference plugin keeps how links were.
    pub data_dir: PathBuf,
    /// What is set.
    pub settings: Settings,
    /// `mac` of the configuration proper, which comes after CNI_ARGS.
    fallback_mac: Option<Mac>,
}

/// What is to be set; `None` leaves a thing as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::builtin) struct Settings {
    /// In the order of the configuration.
    pub sysctls: Vec<Setting>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// Switches promiscuous mode on; false leaves it.
    pub promisc: bool,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Switches all-multicast mode on or off.
    pub allmulti: Option<bool>,
    /// Length of the transmit queue in packets.
    pub tx_queue: Option<u32>,
}

/// A sysctl of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::builtin) struct Setting {
    /// Its name as written, which the allow list is about.
    pub name: String,
    /// What is written.
    pub value: String,
}

impl Setting {
    /// The names below /proc/sys/net; `None` when it is elsewhere.
    pub fn path(&self, ifname: &str) -> Option<Vec<String>> {
        // The placeholder is filled in last: an interface's name may hold dots.
        let path = self.name.replace('.', "/").replacen(PLACEHOLDER, ifname, 1);
        let parts: Vec<String> = path.strip_prefix("net/")?.split('/').map(str::to_owned).collect();
        (!parts.iter().any(String::is_empty)).then_some(parts)
    }
}

impl Config {
    pub(in crate::builtin) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut keys = Keys::of(conf);
        let runtime_mac = keys.keep(mac_address::from_runtime(conf));
        let data_dir = keys.keep(conf.text("dataDir")).filter(|dir| !dir.is_empty());
        let (mut settings, wrong) = Settings::read(conf);
        wrong.into_iter().for_each(|finding| keys.refuse(finding));
        let fallback_mac = settings.mac.take();
        settings.mac = runtime_mac;
        let args = keys.keep(conf.object("args")).unwrap_or_default();
        let given = keys.keep(args.object("cni").map_err(|e| e.under("args"))).unwrap_or_default();
        let (over, wrong) = Settings::read(&given);
        wrong.into_iter().for_each(|finding| keys.refuse(finding.under("args.cni")));
        settings.override_by(over, &given);
        let data_dir = data_dir.map_or_else(|| PathBuf::from(DATA_DIR), PathBuf::from);
        keys.finish(Self { data_dir, settings, fallback_mac })
    }

    /// Fills in the address that CNI_ARGS asks for: it comes after the runtime's and the arguments', before the
    /// configuration's.
    pub fn with_environment(mut self, args: &str) -> Result<Self, Finding> {
        self.settings.mac = self.settings.mac.or(mac_address::from_environment(args)?).or(self.fallback_mac);
        Ok(self)
    }
}

impl Settings {
    fn read(conf: &Object) -> (Self, Vec<Finding>) {
        let mut keys = Keys::of(conf);
        let settings = Self {
            sysctls: sysctls(&mut keys, conf),
            mac: keys.keep(mac_address::configured(conf, "mac")),
            promisc: keys.flag("promisc"),
            mtu: keys.mtu(),
            allmulti: keys.keep(conf.decode("allmulti", "true or false")),
            // The kernel's number is signed where drivers see it.
            tx_queue: keys.integer("txQLen", 0..=i32::MAX as u32),
        };
        (settings, keys.finish(()).err().unwrap_or_default())
    }

    /// Takes over what the other says; a key that it has counts, whatever its value.
    fn override_by(&mut self, over: Self, keys: &Object) {
        let path = |setting: &Setting| setting.path(PLACEHOLDER);
        let own: HashMap<_, _> = self.sysctls.iter().enumerate().map(|(place, own)| (path(own), place)).collect();
        for setting in over.sysctls {
            match own.get(&path(&setting)) {
                Some(place) => self.sysctls[*place] = setting,
                // Those that come over it are each there once.
                None => self.sysctls.push(setting),
            }
        }
        self.mac = over.mac.or(self.mac);
        if keys.get("promisc").is_some() {
            self.promisc = over.promisc;
        }
        if keys.get("mtu").is_some() {
            self.mtu = over.mtu;
        }
        self.allmulti = over.allmulti.or(self.allmulti);
        self.tx_queue = over.tx_queue.or(self.tx_queue);
    }

    /// Is the link to be changed at all?
    pub fn touches_link(&self) -> bool {
        let Self { mac, promisc, mtu, allmulti, tx_queue, .. } = self;
        mac.is_some() || *promisc || mtu.is_some() || allmulti.is_some() || tx_queue.is_some()
    }
}

fn sysctls(keys: &mut Keys<'_>, conf: &Object) -> Vec<Setting> {
    const PATH: &str = "the name of a setting below net/, as net.ipv4.conf.IFNAME.arp_filter";
    let Members(members) = keys.keep(conf.decode("sysctl", "an object of strings")).unwrap_or_default();
    let mut settings: Vec<Setting> = Vec::new();
    let mut paths = HashSet::new();
    for (name, value) in members {
        let at = format!("sysctl.{name}");
        let Ok(text) = serde_json::from_str::<String>(value.get()) else {
            keys.refuse(Finding::new(at, value.get(), "a string"));
            continue;
        };
        let setting = Setting { name, value: text };
        let path = setting.path(PLACEHOLDER);
        if path.is_none() || path.as_ref().is_some_and(|path| path.iter().any(|part| part.contains('\0'))) {
            keys.refuse(Finding::new("sysctl", format_args!("{:?}", setting.name), PATH));
        } else if !paths.insert(path) {
            keys.refuse(Finding::new(at, value.get(), "each setting once: this is its second value"));
        } else {
            settings.push(setting);
        }
    }
    settings
}

/// The members of an object with repetitions, which [`Object`] would merge.
#[derive(Default)]
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

/// The names of a setting of the pod, ready for the kernel.
pub(super) fn path_of(setting: &Setting, ifname: &IfName) -> Result<Vec<String>, Finding> {
    let wrong = || Finding::new("sysctl", format_args!("{:?}", setting.name), "the name of a setting below net/");
    setting.path(ifname.as_str()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;

    fn findings(conf: &str) -> Vec<String> {
        let conf = Object::parse(conf.as_bytes()).unwrap();
        Builtin::Tuning.validate(&conf).iter().map(Finding::to_string).collect()
    }

    fn read(conf: &str, args: &str) -> Config {
        let conf = Object::parse(conf.as_bytes()).unwrap();
        Config::read(&conf).unwrap().with_environment(args).unwrap()
    }

    #[test]
    fn every_key_is_read_and_arguments_win() {
        let conf = r#"{"dataDir":"/run/x","sysctl":{"net.core.somaxconn":"500","net.ipv4.conf.IFNAME.arp_filter":"1"},
            "mac":"02:00:00:00:00:01","mtu":1400,"promisc":true,"allmulti":false,"txQLen":0"#;
        let own = read(&format!("{conf}}}"), "");
        let names: Vec<&str> = own.settings.sysctls.iter().map(|setting| setting.name.as_str()).collect();
        assert_eq!(names, ["net.core.somaxconn", "net.ipv4.conf.IFNAME.arp_filter"]);
        let told = &own.settings;
        assert_eq!((told.mtu, told.promisc, told.allmulti, told.tx_queue), (Some(1400), true, Some(false), Some(0)));
        assert_eq!(own.data_dir, PathBuf::from("/run/x"));
        let args = r#""args":{"cni":{"sysctl":{"net/core/somaxconn":"600","net.x":"1"},"mtu":0,"promisc":false,
            "allmulti":true,"txQLen":9}}"#;
        let over = read(&format!("{conf},{args}}}"), "").settings;
        let values: Vec<&str> = over.sysctls.iter().map(|setting| setting.value.as_str()).collect();
        assert_eq!(values, ["600", "1", "1"]);
        assert_eq!((over.mtu, over.promisc, over.allmulti, over.tx_queue), (None, false, Some(true), Some(9)));
        let bare = read("{}", "");
        assert!(!bare.settings.touches_link() && bare.data_dir == std::path::Path::new(DATA_DIR));
    }

    #[test]
    fn arguments_runtime_environment_configuration_in_this_order() {
        let mac = |keys: &str, args: &str| read(keys, args).settings.mac.unwrap().0[5];
        let own = r#""mac":"02:00:00:00:00:01""#;
        let runtime = r#""runtimeConfig":{"mac":"02:00:00:00:00:03"}"#;
        let args = r#""args":{"cni":{"mac":"02:00:00:00:00:04"}}"#;
        let environment = "MAC=02:00:00:00:00:02";
        assert_eq!(mac(&format!("{{{own}}}"), ""), 1);
        assert_eq!(mac(&format!("{{{own}}}"), environment), 2);
        assert_eq!(mac(&format!("{{{own},{runtime}}}"), environment), 3);
        assert_eq!(mac(&format!("{{{own},{runtime},{args}}}"), environment), 4);
    }

    #[test]
    fn every_wrong_key_is_named_in_one_go() {
        let wrong = findings(
            r#"{"sysctl":{"net.a":1,"kernel.x":"1","net.b":"1","net/b":"2","net.ipv4..x":"1","net/../kernel/x":"1"},
            "mac":"01:00:00:00:00:00","mtu":-1,"promisc":"on","allmulti":2,"txQLen":-1,"dataDir":1,
            "args":{"cni":{"sysctl":[],"txQLen":"x"}},"runtimeConfig":{"mac":1}}"#,
        );
        let paths: Vec<&str> = wrong.iter().filter_map(|text| text.split(": ").next()).collect();
        let want = [
            "runtimeConfig.mac",
            "dataDir",
            "sysctl.net.a",
            "sysctl",
            "sysctl.net/b",
            "sysctl",
            "sysctl",
            "mac",
            "promisc",
            "mtu",
            "allmulti",
            "txQLen",
            "args.cni.sysctl",
            "args.cni.txQLen",
        ];
        assert_eq!(paths, want, "{wrong:#?}");
    }

    #[test]
    fn a_setting_said_twice_is_refused() {
        let wrong = findings(r#"{"sysctl":{"net.core.somaxconn":"1","net.core.somaxconn":"2"}}"#);
        assert_eq!(wrong, [r#"sysctl.net.core.somaxconn: got "2", want each setting once: this is its second value"#]);
    }

    #[test]
    fn a_name_becomes_a_path_below_net() {
        let path =
            |name: &str| Setting { name: name.to_owned(), value: String::new() }.path("eth0.5").map(|p| p.join("/"));
        assert_eq!(path("net.ipv4.conf.IFNAME.arp_filter").as_deref(), Some("ipv4/conf/eth0.5/arp_filter"));
        assert_eq!(path("net/ipv6/conf/all/forwarding").as_deref(), Some("ipv6/conf/all/forwarding"));
        for bad in ["", "net", "net.", "kernel.hostname", "net..core", "net.core/../../kernel", "netx.y", "/net/core"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
