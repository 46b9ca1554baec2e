//! Directories of host-local: other programs write into them, and so do power cuts.
#![no_main]

use meta_cni_fuzz as _;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use attachments::bind::Source;
use attachments::cni::object::Object;
use attachments::cni::version::Version;
use attachments::names::{ContainerId, IfName, NetworkName};
use delegates::call::{Call, Node, Origin, Point};
use delegates::ipam;
use delegates::ownership::Ownership;
use delegates::reserved::Reserved;
use libfuzzer_sys::fuzz_target;

// The first line is `ipam.ranges`; after it, between bytes 0xff, files: `name newline content`.
fuzz_target!(|input: &[u8]| {
    let mut parts = input.split(|byte| *byte == 0xff);
    let Ok(ranges) = serde_json::from_slice::<serde_json::Value>(parts.next().unwrap_or_default()) else { return };
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = tempfile::tempdir_in(place).expect("a directory");
    let lan = dir.path().join("lan");
    fs::create_dir(&lan).expect("a directory");
    for file in parts.take(16) {
        let at = file.iter().position(|byte| *byte == b'\n').unwrap_or(file.len());
        let name = std::str::from_utf8(&file[..at]).ok().filter(|name| !name.contains(['/', '\0']) && name.len() < 200);
        if let Some(name) = name.filter(|name| !["", ".", "..", "lock"].contains(name)) {
            fs::write(lan.join(name), file.get(at + 1..).unwrap_or_default()).expect("a file");
        }
    }
    Bench { dir: dir.path(), ranges: &ranges }.run();
});

struct Bench<'a> {
    dir: &'a Path,
    ranges: &'a serde_json::Value,
}

impl Bench<'_> {
    /// One pod comes and goes, and a GC follows: nobody else loses an address, and nothing of the pod stays.
    fn run(&self) {
        let before = self.held();
        let (pod, other): (ContainerId, ContainerId) = ("pod".parse().expect("an id"), "other".parse().expect("an id"));
        let others = |held: BTreeSet<(String, Vec<u8>)>| {
            held.into_iter().filter(|(_, owner)| owner.trim_ascii() != b"pod" && owner.trim_ascii() != b"pod\r\neth0")
        };
        if let Ok(leased) = self.with(&pod, ipam::allocate) {
            for ip in &leased.result.ips {
                let name = ip.address.addr().to_string();
                assert!(!before.iter().any(|(held, _)| *held == name), "{name} was given twice");
            }
            self.with(&pod, ipam::check).expect("what was given is held");
        }
        // The first takes what the pod holds by name; a second one what files of the oldest format say of it.
        self.with(&pod, ipam::release).expect("a release is always possible");
        self.with(&pod, ipam::release).expect("a release is always possible");
        assert!(self.with(&pod, ipam::check).is_err(), "the pod still holds an address");
        assert!(others(before).eq(others(self.held())), "somebody else's address changed");
        let _ = self.with(&pod, ipam::status);

        let held = self.held();
        let (living, departed) = (BTreeSet::from([other.clone()]), HashSet::from([pod.clone()]));
        let ownership = Ownership { living: &living, departed: &departed, is_recorded: &|_| false };
        self.with(&other, |node, call| ipam::gc(node, call, &ownership)).expect("a GC is always possible");
        let is_pods = |owner: &[u8]| String::from_utf8_lossy(owner.trim_ascii()).lines().next() == Some("pod");
        assert!(held.into_iter().filter(|(_, owner)| !is_pods(owner)).eq(self.held()), "GC took somebody's address");
    }

    /// The addresses that somebody holds, with what the files say. What is empty or zeros is nobody's.
    fn held(&self) -> BTreeSet<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.dir.join("lan")).expect("the directory").flatten();
        let named = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| name.parse::<std::net::IpAddr>().is_ok())?;
            Some((name, fs::read(entry.path()).ok()?))
        });
        named.filter(|(_, owner)| owner.iter().any(|byte| *byte != 0)).collect()
    }

    fn with<T>(
        &self,
        container: &ContainerId,
        act: impl FnOnce(&Node<'_>, &Call<'_>) -> delegates::error::Result<T>,
    ) -> delegates::error::Result<T> {
        let ipam = serde_json::json!({"type": "host-local", "dataDir": self.dir, "ranges": self.ranges});
        let conf = serde_json::json!({"cniVersion": "1.0.0", "name": "lan", "ipam": ipam}).to_string();
        let conf = Object::parse(conf.as_bytes()).expect("an object");
        let (network, ifname): (NetworkName, IfName) =
            ("lan".parse().expect("a name"), "eth0".parse().expect("a name"));
        let deadline = Instant::now() + Duration::from_secs(10);
        let node = Node {
            plugin_dirs: &[],
            builtin: None,
            state_dir: self.dir,
            deadline,
            reserved: Reserved::UNASKED,
            is_alone: true,
            lock: None,
        };
        let point = Some(Point { container, netns: "", ifname: &ifname, args: "", group: 0 });
        let version = Version::V1_0_0;
        let source = Source::Node(network.clone());
        let origin = Origin {
            source: &source,
            is_tenants: false,
            is_default: true,
            address_dir: None,
            ipam_claim: None,
            address_set: None,
        };
        act(&node, &Call { network: &network, version, conf: &conf, origin, point, prev_result: None, saved: None })
    }
}
