//! The delegates on a real kernel: a "host" and its "pods" in fresh namespaces.

mod bandwidth;
mod bond;
mod bridge;
mod detach;
mod flannel;
mod host_device;
mod host_device_tricks;
mod node_links;
mod node_networks;
mod parent_link;
mod portmap;
mod ptp;
mod sbr;
mod shared;
mod tap;
mod tuning;
mod vlan;
mod vrf;
mod vxlan;
mod vxlan_gateway;
mod vxlan_guard;
mod vxlan_keeper;
mod vxlan_members;
mod vxlan_routed;

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::{ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use attachments::names::{ContainerId, IfName, NetworkName};
use ipnet::IpNet;

use super::{Attached, Builtin};
use crate::apply::detach;
use crate::call::testing::ours;
use crate::call::{Call, Node, Point};
use crate::dad::{self, Given, Settled};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::netns::NetNs;
use crate::netns::testing::{as_host, path_of, pod};
use crate::nl::Netlink;
use crate::nl::link::{Link, LinkChange, NewKind, NewLink, Peer};
use crate::reserved::Reserved;
use crate::sandbox::Sandbox;

/// Link group of the pods' records.
const GROUP: u32 = 0x1234_5678;

/// A node: the namespace of the thread, and a state directory.
struct Bed {
    state: tempfile::TempDir,
    pods: Cell<u32>,
}

/// A pod on it.
struct Pod {
    netns: NetNs,
    container: ContainerId,
    path: String,
}

/// Runs a test with a fresh node on a thread of its own.
fn on_node(test: impl FnOnce(&Bed) + Send) {
    as_host(|| {
        let bed = Bed { state: tempfile::tempdir().unwrap(), pods: Cell::new(0) };
        test(&bed);
    });
}

fn object(text: &str) -> Object {
    Object::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

impl Builtin {
    /// ADD of one call by itself.
    fn add(self, host: &mut Host<'_>, sandbox: &mut Sandbox, call: &Call<'_>) -> Result<Attached> {
        self.configure(call.conf).map_err(Error::Config)?.add(host, sandbox, call)
    }
}

impl Bed {
    fn pod(&self) -> Pod {
        let number = self.pods.get();
        self.pods.set(number + 1);
        let netns = pod();
        let path = path_of(&netns).display().to_string();
        Pod { netns, container: format!("pod{number}").parse().unwrap(), path }
    }

    fn node(&self) -> Node<'_> {
        const NONE: &[PathBuf] = &[];
        let deadline = Instant::now() + Duration::from_secs(20);
        Node {
            plugin_dirs: NONE,
            state_dir: self.state.path(),
            deadline,
            builtin: None,
            reserved: Reserved::UNASKED,
            // The agent's files are there, or none is needed.
            is_alone: !self.state.path().join(crate::networks::DIR).exists(),
            lock: None,
        }
    }

    /// The host's socket.
    fn netlink(&self) -> Netlink {
        Netlink::open(self.node().deadline).unwrap()
    }

    fn link(&self, text: &str) -> Option<Link> {
        self.netlink().link_by_name(&name(text)).unwrap()
    }

    /// Names of the host's links, `lo` apart.
    fn links(&self) -> Vec<String> {
        let links = self.netlink().links(None).unwrap();
        links.into_iter().map(|link| link.name).filter(|name| name != "lo").collect()
    }

    /// A link of the host that can be a master: one end of a veth.
    fn master(&self, text: &str, mtu: u32, address: Option<&str>) -> Link {
        let mut netlink = self.netlink();
        let (near, far) = (name(text), name(&format!("{text}-x")));
        let peer = Peer { name: &far, netns: None, mtu: Some(mtu), mac: None, group: 0 };
        let veth = NewLink { up: true, mtu: Some(mtu), ..NewLink::new(&near, NewKind::Veth(peer)) };
        netlink.add_link(&veth).unwrap();
        let link = netlink.link_by_name(&near).unwrap().unwrap();
        let peer = netlink.link_by_name(&far).unwrap().unwrap();
        netlink.set_link(peer.index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        if let Some(address) = address {
            netlink.add_address(link.index, net(address), true).unwrap();
        }
        link
    }

    /// ADD of `net1` as the engine ends it: the addresses can be used.
    fn added(&self, kind: Builtin, pod: &Pod, conf: &str) -> Attached {
        let attached = self.add(kind, pod, "net1", conf).unwrap();
        let given: Vec<Given> = dad::of_pod(&attached.result, &name("net1"))
            .map(|(link, address)| Given { link, address, is_awaited: true })
            .collect();
        let mut sandbox = Sandbox::open(&pod.path, &self.node()).unwrap();
        assert_eq!(dad::settle(&mut sandbox, &given, Duration::from_secs(5)).unwrap(), Settled::All);
        attached
    }

    /// Makes one call with every argument filled in.
    fn call<T>(
        &self,
        pod: &Pod,
        ifname: &str,
        conf: &str,
        prev_result: Option<&CniResult>,
        run: impl FnOnce(&mut Host<'_>, &Call<'_>) -> T,
    ) -> T {
        let (ifname, network): (IfName, NetworkName) = (name(ifname), "net".parse().unwrap());
        let conf = object(conf);
        let point = Point { container: &pod.container, netns: &pod.path, ifname: &ifname, args: "", group: GROUP };
        let call = Call {
            network: &network,
            version: Version::NEWEST,
            conf: &conf,
            origin: ours(),
            point: Some(point),
            prev_result,
            saved: None,
        };
        run(&mut Host::new(self.node()), &call)
    }

    fn add(&self, kind: Builtin, pod: &Pod, ifname: &str, conf: &str) -> Result<Attached> {
        let mut sandbox = Sandbox::open(&pod.path, &self.node()).unwrap();
        self.call(pod, ifname, conf, None, |host, call| kind.add(host, &mut sandbox, call))
    }

    /// ADD behind a plugin that gave `previous`; also the states that it saved.
    fn add_behind(
        &self,
        kind: Builtin,
        pod: &Pod,
        ifname: &str,
        conf: &str,
        previous: &CniResult,
    ) -> (Result<Attached>, Vec<Object>) {
        let mut sandbox = Sandbox::open(&pod.path, &self.node()).unwrap();
        let mut saved = Vec::new();
        let mut journal = |state: &Object| {
            saved.push(state.clone());
            Ok(())
        };
        let attached = self.call(pod, ifname, conf, Some(previous), |_, call| {
            kind.add(&mut Host::with_journal(self.node(), &mut journal), &mut sandbox, call)
        });
        (attached, saved)
    }

    /// As the engine does it: the pod's links first, where there is a pod.
    fn del(&self, kind: Builtin, pod: &Pod, ifname: &str, conf: &str, attached: Option<&Attached>) -> Result<()> {
        let links = attached.map(|attached| attached.links.clone()).unwrap_or_default();
        detach(&mut Sandbox::open(&pod.path, &self.node())?, GROUP, &links, None)?;
        self.call(pod, ifname, conf, None, |host, call| kind.del(host, call))
    }

    /// ADD, and what it noted for the record.
    fn add_noting(&self, kind: Builtin, pod: &Pod, ifname: &str, conf: &str) -> (Result<Attached>, Vec<Object>) {
        let mut sandbox = Sandbox::open(&pod.path, &self.node()).unwrap();
        let mut noted = Vec::new();
        let mut journal = |state: &Object| {
            noted.push(state.clone());
            Ok(())
        };
        let added = self.call(pod, ifname, conf, None, |_, call| {
            kind.add(&mut Host::with_journal(self.node(), &mut journal), &mut sandbox, call)
        });
        (added, noted)
    }

    /// The first step of DEL; without `pod` the namespace is gone.
    fn restore(&self, kind: Builtin, pod: &Pod, is_there: bool, conf: &str, noted: &[Object]) -> Result<()> {
        let mut sandbox = is_there.then(|| Sandbox::open(&pod.path, &self.node()).unwrap());
        let saved: Vec<&Object> = noted.iter().collect();
        self.call(pod, "net1", conf, None, |host, call| kind.restore(host, sandbox.as_mut(), call, &saved))
    }

    fn check(&self, kind: Builtin, pod: &Pod, ifname: &str, conf: &str, result: &CniResult) -> Result<()> {
        let mut sandbox = Sandbox::open(&pod.path, &self.node()).unwrap();
        self.call(pod, ifname, conf, Some(result), |host, call| kind.check(host, &mut sandbox, call))
    }

    fn status(&self, kind: Builtin, conf: &str) -> Result<()> {
        let network: NetworkName = "net".parse().unwrap();
        let conf = object(conf);
        let call = Call {
            network: &network,
            version: Version::NEWEST,
            conf: &conf,
            origin: ours(),
            point: None,
            prev_result: None,
            saved: None,
        };
        kind.status(&mut Host::new(self.node()), &call)
    }
}

impl Pod {
    fn netlink(&self) -> Netlink {
        self.netns.socket(Instant::now() + Duration::from_secs(20)).unwrap()
    }

    fn link(&self, text: &str) -> Option<Link> {
        self.netlink().link_by_name(&name(text)).unwrap()
    }

    /// A socket of the pod. One that was closed a moment ago may still hold the port: a program that another case starts
    /// has a copy of it until its exec.
    fn udp(&self, address: impl ToSocketAddrs) -> UdpSocket {
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            match self.netns.enter(|| Ok(UdpSocket::bind(&address))).unwrap() {
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                bound => return bound.unwrap(),
            }
        }
    }

    /// Addresses of a link that are not the kernel's own.
    fn addresses(&self, text: &str) -> Vec<String> {
        let link = self.link(text).unwrap();
        let all = self.netlink().addresses(Some(link.index)).unwrap();
        all.into_iter().filter(|a| a.scope == 0).map(|a| a.net.to_string()).collect()
    }

    /// Where packets to an address go: the gateway.
    fn gateway_of(&self, destination: &str) -> Option<String> {
        let routes = self.netlink().routes(Default::default()).unwrap();
        let route = routes.into_iter().find(|route| route.destination == net(destination));
        route.and_then(|route| route.gateway).map(|gateway| gateway.to_string())
    }

    fn sysctl(&self, key: &str) -> String {
        let parts: Vec<&str> = key.split('/').collect();
        self.netns.enter(|| crate::netns::read_sysctl(&parts)).unwrap().unwrap_or_default()
    }
}

#[test]
fn every_type_is_registered_once() {
    for builtin in Builtin::all() {
        assert_eq!(Builtin::from_type(&builtin.kind().parse().unwrap()), Some(builtin));
        assert!(builtin.paths().iter().all(|path| builtin.keys().contains(path)), "{builtin:?}");
    }
    assert_eq!(Builtin::from_type(&"sriov".parse().unwrap()), None);
}

proptest::proptest! {
    /// Whatever a key holds, the answer is a finding that names it, never a panic.
    #[test]
    fn any_value_of_any_key_is_read_or_named(
        key in proptest::sample::select(vec![
            "bridge", "mtu", "vlan", "vlanTrunk", "isGateway", "ipMasqBackend", "runtimeConfig", "args", "dns", "master", "mode",
            "mac", "bcqueuelen", "directRouting", "openGateway", "ipMasq", "isDefaultGateway", "vni", "port", "underlay", "peers", "group", "ipam", "snat", "backend", "conditionsV4",
            "markMasqBit", "externalSetMarkChain", "sysctl", "txQLen", "allmulti", "ingressRate", "egressBurst", "table", "delegate",
            "subnetFile", "dataDir", "masterVlan", "masterVlanName", "masterVxlan", "masterVxlanName", "acceptRA", "flushroutes", "addroutes", "delroutes", "skipcheck", "links", "miimon", "failOverMac", "xmitHashPolicy", "tlbDynamicLb", "ifname",
        ]),
        value in proptest::sample::select(vec![
            "null", "true", "-1", "0", "1.5", "1e99", "99999999999999999999", "\"\"", "\"\\u0000\"", "\"../x\"", "\"l3\"",
            "\"::/0\"", "\"10.0.0.0/33\"", "\"ff:ff:ff:ff:ff:ff\"", "[]", "[null]", "[[]]", "[\"x\"]", "[\"::1\",7]", "{}",
            "{\"mac\":1}", "{\"cni\":[]}", "{\"type\":\"a/b\"}", "{\"type\":3}", "{\"nameservers\":{}}",
        ]),
    ) {
        let conf = object(&format!(r#"{{"{key}":{value}}}"#));
        let chained =
            [Builtin::Portmap, Builtin::Tuning, Builtin::Bandwidth, Builtin::Sbr, Builtin::RouteOverride];
        let kinds = [Builtin::Bridge, Builtin::Macvlan, Builtin::Ipvlan, Builtin::Vxlan, Builtin::Loopback, Builtin::Flannel, Builtin::Bond];
        for kind in kinds.into_iter().chain(chained) {
            for finding in kind.validate(&conf) {
                let is_required = ["vni", "mode", "links", "miimon"].contains(&finding.path.as_str());
                assert!(finding.path.starts_with(key) || is_required, "{kind:?} {conf:?}: {finding}");
                assert!(!finding.allowed.to_string().is_empty());
            }
        }
    }
}
