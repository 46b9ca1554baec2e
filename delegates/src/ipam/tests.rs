//! Dispatch, `static` and external types; and the [`Bench`] that `host-local`'s tests use too.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use attachments::bind::Source;
use attachments::names::NetRef;
use tempfile::TempDir;

use super::*;
use crate::call::testing::ours;
use crate::call::{Origin, Point};
use crate::reserved::Reserved;

/// One network `lan`, and calls to it.
pub struct Bench {
    pub dir: TempDir,
    pub plugin_dirs: Vec<PathBuf>,
    pub millis: u64,
    pub version: Version,
    /// The node is alone, or an agent says what it has.
    pub is_alone: bool,
    /// The definition that the configuration is of; absent: the node's own text.
    pub definition: Option<&'static str>,
}

impl Bench {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let plugin_dirs = vec![dir.path().to_owned()];
        Self { dir, plugin_dirs, millis: 20_000, version: Version::V1_0_0, is_alone: true, definition: None }
    }

    /// Builds one call for an attachment, `container interface [CNI_ARGS [IPAMClaim]]`, and hands it to `act`.
    pub fn with<T>(&self, conf: &str, who: &str, act: impl FnOnce(&Node<'_>, &Call<'_>) -> T) -> T {
        let mut words = who.split(' ');
        let container = words.next().unwrap().parse().unwrap();
        let ifname = words.next().unwrap().parse().unwrap();
        let deadline = Instant::now() + Duration::from_millis(self.millis);
        let node = Node {
            plugin_dirs: &self.plugin_dirs,
            state_dir: self.dir.path(),
            deadline,
            builtin: None,
            reserved: Reserved::UNASKED,
            is_alone: self.is_alone,
            lock: None,
        };
        let network = "lan".parse().unwrap();
        let mut conf = Object::parse(conf.as_bytes()).unwrap();
        conf.set("cniVersion", &self.version.as_str());
        conf.set("name", &network);
        let args = words.next().unwrap_or("");
        let claim = words.next().map(|name| name.parse().unwrap());
        let ipam_claim = claim.as_ref();
        let source = self.definition.map(|name| {
            let (namespace, name) = name.split_once('/').unwrap();
            Source::Definition(NetRef { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() })
        });
        let origin = match &source {
            Some(source) => {
                Origin { source, is_tenants: true, is_default: false, address_dir: None, ipam_claim, address_set: None }
            }
            None => Origin { ipam_claim, ..ours() },
        };
        let point = Point { container: &container, netns: "/run/netns/lan", ifname: &ifname, args, group: 0 };
        let call = Call {
            network: &network,
            version: self.version,
            conf: &conf,
            origin,
            point: Some(point),
            prev_result: None,
            saved: None,
        };
        act(&node, &call)
    }

    /// ADD; the addresses of its result joined by spaces, or the error's text.
    pub fn add(&self, conf: &str, who: &str) -> String {
        match self.with(conf, who, allocate) {
            Ok(Leased { result, .. }) => {
                assert!(result.interfaces.is_empty() && result.ips.iter().all(|ip| ip.interface.is_none()));
                result.ips.iter().map(|ip| ip.address.to_string()).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    pub fn del(&self, conf: &str, who: &str) {
        self.with(conf, who, release).unwrap();
    }

    fn plugin(&self, script: &str) {
        let path = self.dir.path().join("fake");
        fs::write(&path, format!("#!/bin/sh\necho $CNI_COMMAND >>{}/log\n{script}\n", self.dir.path().display()))
            .unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn log(&self) -> String {
        read(&self.dir.path().join("log")).replace('\n', " ")
    }
}

/// A small file system of its own; unmounted when dropped. Needs root.
pub struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    pub fn mount(at: &'a Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        run(&["mount", "-t", "tmpfs", "-o", options, "tmpfs", at.to_str().unwrap()]);
        Self(at)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        run(&["umount", self.0.to_str().unwrap()]);
    }
}

#[expect(clippy::disallowed_methods, reason = "mount is a tool of these tests, not a plugin")]
pub fn run(command: &[&str]) {
    let status = std::process::Command::new(command[0]).args(&command[1..]).status().unwrap();
    assert!(status.success(), "{command:?}");
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn findings(conf: &str) -> String {
    let findings = validate(&Object::parse(conf.as_bytes()).unwrap());
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_configuration_without_a_type_is_layer_2() {
    let configured = |text: &str| configured(&Object::parse(text.as_bytes()).unwrap());
    for none in ["{}", r#"{"ipam":{}}"#, r#"{"ipam":null}"#, r#"{"ipam":{"type":""}}"#] {
        assert_eq!(configured(none), Ok(false), "{none}");
    }
    assert_eq!(configured(r#"{"ipam":{"type":"dhcp"}}"#), Ok(true));
    assert!(configured(r#"{"ipam":3}"#).unwrap_err().to_string().starts_with("ipam: got 3"));
    let path = configured(r#"{"ipam":{"type":"../x"}}"#).unwrap_err().to_string();
    assert!(path.starts_with(r#"ipam.type: got "../x""#), "{path}");
}

#[test]
fn validation_needs_no_node() {
    assert_eq!(findings("{}"), "");
    assert_eq!(findings(r#"{"ipam":{"type":"host-local","subnet":"10.0.0.0/24"}}"#), "");
    assert_eq!(findings(r#"{"ipam":{"type":"whatever","subnet":3}}"#), "");
    let none = findings(r#"{"ipam":{"type":"host-local"}}"#);
    assert!(none.starts_with("ipam.ranges: missing"), "{none}");
    assert_eq!(findings(r#"{"capabilities":{"ipRanges":true},"ipam":{"type":"host-local"}}"#), "");
    let dir = findings(r#"{"ipam":{"type":"host-local","subnet":"10.0.0.0/24","dataDir":"x"}}"#);
    assert_eq!(dir, "ipam.dataDir: got x, want an absolute path");
    let route =
        findings(r#"{"ipam":{"type":"static","addresses":[{"address":"10.0.0.1/24"}],"routes":[{"dst":"x"}]}}"#);
    assert!(route.starts_with("ipam.routes[0].dst"), "{route}");
    let address = findings(r#"{"ipam":{"type":"static","addresses":[{"address":"10.0.0.1"}]}}"#);
    assert!(address.starts_with(r#"ipam.addresses[0].address: got "10.0.0.1""#), "{address}");
    assert!(findings(r#"{"ipam":{"type":"static","dns":{"search":1}}}"#).starts_with("ipam.dns.search: got 1"));
}

const FIXED: &str = r#""ipam":{"type":"static","addresses":[{"address":"10.0.0.1/24","gateway":"10.0.0.254"},{"address":"fd00::1/64"}],
    "routes":[{"dst":"0.0.0.0/0"}],"dns":{"nameservers":["1.1.1.1"]}}"#;

#[test]
fn static_takes_the_strongest_channel() {
    let bench = Bench::new();
    let conf = |more: &str| format!("{{{FIXED}{more}}}");
    assert_eq!(bench.add(&conf(""), "c net1"), "10.0.0.1/24 fd00::1/64");
    assert_eq!(
        bench.add(&conf(""), "c net1 IP=10.0.0.2/24,10.0.0.3/24"),
        "10.0.0.1/24 fd00::1/64 10.0.0.2/24 10.0.0.3/24"
    );
    let args = r#","args":{"cni":{"ips":["10.0.0.4/24"]}}"#;
    assert_eq!(bench.add(&conf(args), "c net1 IP=10.0.0.2/24"), "10.0.0.4/24");
    let both = format!(r#"{args},"runtimeConfig":{{"ips":["10.0.0.5/24"]}}"#);
    assert_eq!(bench.add(&conf(&both), "c net1"), "10.0.0.5/24");
    assert!(bench.add(&conf(""), "c net1 IP=10.0.0.2").starts_with(r#"CNI_ARGS IP: got "10.0.0.2""#));
}

#[test]
fn static_keeps_routes_dns_and_gateways() {
    let bench = Bench::new();
    let conf = format!("{{{FIXED}}}");
    let result = bench.with(&conf, "c net1 GATEWAY=fd00::fe", allocate).unwrap().result;
    assert_eq!(
        result.encode(Version::V1_0_0).unwrap().to_json(),
        r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/24","gateway":"10.0.0.254"},{"address":"fd00::1/64","gateway":"fd00::fe"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{"nameservers":["1.1.1.1"]}}"#
    );
    let check = |result: &CniResult| {
        bench.with(&conf, "c net1", |node, call| check(node, &Call { prev_result: Some(result), ..call.clone() }))
    };
    assert!(check(&result).is_ok());
    let mut changed = result.clone();
    changed.ips[0].gateway = None;
    assert!(matches!(check(&changed), Err(Error::Differs(_))));
}

#[test]
fn no_address_at_all_is_an_error() {
    let empty = Bench::new().add(r#"{"ipam":{"type":"static"}}"#, "c net1");
    assert_eq!(empty, "ipam of network lan gave no address");
}

#[test]
fn old_versions_have_room_for_one_address_of_each_family() {
    let mut bench = Bench::new();
    bench.version = Version::V0_2_0;
    assert_eq!(bench.add(&format!("{{{FIXED}}}"), "c net1"), "10.0.0.1/24 fd00::1/64");
    let two = bench.add(&format!("{{{FIXED}}}"), "c net1 IP=10.0.0.2/24");
    assert!(two.starts_with("cniVersion: got 0.2.0"), "{two}");
}

const FAKE: &str = r#"{"type":"macvlan","ipam":{"type":"fake","own":1}}"#;

#[test]
fn an_external_type_gets_the_complete_configuration() {
    let bench = Bench::new();
    bench.plugin("cat >$(dirname $0)/conf; echo '{\"interfaces\":[{\"name\":\"x\"}],\"ips\":[{\"address\":\"10.0.0.9/24\",\"interface\":0}]}'");
    assert_eq!(bench.add(FAKE, "c net1"), "10.0.0.9/24");
    let conf = r#"{"type":"macvlan","ipam":{"type":"fake","own":1},"cniVersion":"1.0.0","name":"lan"}"#;
    assert_eq!(read(&bench.dir.path().join("conf")), conf);
    bench.del(FAKE, "c net1");
    assert_eq!(bench.log(), "ADD DEL ");
}

#[test]
fn a_failed_external_add_is_followed_by_del() {
    for (script, error) in [
        (r#"echo '{"code":11,"msg":"busy"}'; exit 1"#, "ipam fake: busy"),
        ("echo garbage", "plugin fake: bad result"),
        ("true", "plugin fake: succeeded without a result"),
        ("echo '{}'", "ipam of network lan gave no address"),
    ] {
        let bench = Bench::new();
        bench.plugin(script);
        let said = bench.add(FAKE, "c net1");
        assert!(said.starts_with(error), "{script}: {said}");
        assert_eq!(bench.log(), "ADD DEL ", "{script}");
    }
}

#[test]
fn gc_and_status_reach_only_plugins_that_know_them() {
    let mut bench = Bench::new();
    bench.plugin("true");
    let (living, departed) = Default::default();
    let ownership = Ownership { living: &living, departed: &departed, is_recorded: &|_| false };
    let both = |bench: &Bench| {
        bench.with(FAKE, "c net1", |node, call| gc(node, call, &ownership)).unwrap();
        bench.with(FAKE, "c net1", status).unwrap();
    };
    both(&bench);
    assert_eq!(bench.log(), "");
    bench.version = Version::V1_1_0;
    both(&bench);
    assert_eq!(bench.log(), "GC STATUS ");
}
