//! Two nodes, and a pod on each in two overlays: one that the plugin makes, one by `ip`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use delegates::networks::NetworkId;
use meta_cni_tests::call::Call;
use meta_cni_tests::netns::Netns;
use meta_cni_tests::program;
use serde_json::{Value, json};

use crate::LIMIT;

/// The VNI of ours; the one by hand has the next.
const VNI: u32 = 4200;

/// How an overlay was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// By the plugin, with the entries that an agent would have it make.
    Ours,
    /// By `ip` and `bridge`: vxlan, bridge, veth, learning, the other node as the one flood destination.
    ByHand,
}

struct Node {
    netns: Netns,
    pod: Netns,
    by_hand: Netns,
}

/// Both nodes.
pub struct Pair {
    nodes: [Node; 2],
    /// Addresses of the second node's pods: ours, by hand.
    targets: [String; 2],
}

impl Pair {
    /// Makes everything; all of it is gone when it is dropped.
    pub fn new(dir: &Path) -> Self {
        let nodes = ["a", "b"].map(|name| {
            let [netns, pod, by_hand] =
                ["node", "pod", "hand"].map(|what| Netns::new(dir.join(format!("{what}-{name}"))));
            Node { netns, pod, by_hand }
        });
        let other = nodes[1].netns.text().to_owned();
        nodes[0].netns.run("ip link add up0 type veth peer name up1");
        nodes[0].netns.run(&format!("ip link set up1 netns {other}"));
        let mut addresses = Vec::new();
        for (i, node) in nodes.iter().enumerate() {
            let up = format!("up{i}");
            node.netns.run(&format!("ip address add 192.0.2.{}/24 dev {up}", i + 1));
            node.netns.run(&format!("ip link set {up} up"));
            by_hand(node, i, &up);
            addresses.push(ours(node, i, dir));
        }
        let targets = [addresses.remove(1), "10.43.0.2".to_owned()];
        Self { nodes, targets }
    }

    fn ends(&self, overlay: Overlay) -> (&Netns, &Netns, &str) {
        let [a, b] = &self.nodes;
        match overlay {
            Overlay::Ours => (&a.pod, &b.pod, &self.targets[0]),
            Overlay::ByHand => (&a.by_hand, &b.by_hand, &self.targets[1]),
        }
    }

    /// Is one echo answered?
    pub fn answers(&self, overlay: Overlay) -> bool {
        let (from, _, target) = self.ends(overlay);
        program::start(from.command("ping").args(["-c", "1", "-W", "2", target]), b"").finish(LIMIT).code == Some(0)
    }

    /// Gbit/s of one TCP stream.
    pub fn throughput(&self, overlay: Overlay, seconds: u32) -> f64 {
        let (from, to, target) = self.ends(overlay);
        let server = program::start(to.command("iperf3").args(["-s", "-1"]), b"");
        let client = || {
            let mut command = from.command("iperf3");
            command.args(["-c", target, "-J", "-t", &seconds.to_string()]);
            let finished = program::start(&mut command, b"").finish(LIMIT);
            let result: Value = serde_json::from_slice(&finished.stdout).unwrap_or_default();
            // The server may not listen yet.
            result["end"]["sum_received"]["bits_per_second"].as_f64().or_else(|| {
                std::thread::sleep(Duration::from_millis(50));
                None
            })
        };
        let rate = (0..100).find_map(|_| client()).expect("an answer of iperf3");
        server.finish(LIMIT);
        rate / 1e9
    }

    /// Mean round trip in microseconds, each echo sent when the one before is answered.
    pub fn round_trip(&self, overlay: Overlay) -> f64 {
        let (from, _, target) = self.ends(overlay);
        let said = from.run(&format!("ping -q -f -c 5000 {target}"));
        // rtt min/avg/max/mdev = 0.004/0.006/0.098/0.002 ms, ...
        let mean = said.split(" = ").nth(1).and_then(|times| times.split('/').nth(1)?.parse::<f64>().ok());
        mean.unwrap_or_else(|| panic!("no mean in {said}")) * 1000.0
    }
}

fn by_hand(node: &Node, i: usize, up: &str) {
    let lines = [
        format!("ip link add hand0 type vxlan id {} dstport 4789 local 192.0.2.{} dev {up} nolearning", VNI + 1, i + 1),
        "ip link set hand0 type vxlan learning".to_owned(),
        format!("bridge fdb append 00:00:00:00:00:00 dev hand0 dst 192.0.2.{}", 2 - i),
        "ip link add handbr type bridge".to_owned(),
        "ip link set hand0 master handbr up".to_owned(),
        "ip link set handbr up".to_owned(),
        format!("ip link add handpod mtu 1450 type veth peer name net1 mtu 1450 netns {}", node.by_hand.text()),
        "ip link set handpod master handbr up".to_owned(),
    ];
    lines.iter().for_each(|line| drop(node.netns.run(line)));
    node.by_hand.run("ip link set net1 up");
    node.by_hand.run(&format!("ip address add 10.43.0.{}/16 dev net1", i + 1));
}

/// Calls the plugin as a runtime does, on a node whose agent has joined the network; the pod's address.
fn ours(node: &Node, i: usize, dir: &Path) -> String {
    let state: PathBuf = dir.join(format!("state-{i}"));
    let network = NetworkId::overlay(4789, VNI).dir(&state);
    fs::create_dir_all(&network).unwrap();
    fs::write(network.join("network.json"), joined(i).to_string()).unwrap();
    let delegate = json!({"cniVersion": "1.1.0", "name": "overlay", "type": "vxlan", "vni": VNI, "ipam": {"type": "blocks", "subnet": "10.42.0.0/16"}});
    let conf = json!({
        "cniVersion": "1.1.0", "name": "pods", "type": "meta-cni", "delegates": [delegate],
        "stateDir": state, "agentSocket": dir.join("no-agent.sock"),
    });
    let outcome = Call::new(&node.netns)
        .env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", format!("pod-{i}"))
        .env("CNI_NETNS", node.pod.text())
        .env("CNI_IFNAME", "net1")
        .env("CNI_PATH", "/nonexistent")
        .stdin(conf.to_string())
        .run();
    let result = outcome.result();
    result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
}

/// What an agent would have written.
fn joined(i: usize) -> Value {
    let slots = |i: usize| json!([{"first": 64 * i, "count": 64}]);
    let mac = |i: usize| format!("02:00:00:00:00:0{}", i + 1);
    let vtep = |i: usize| format!("192.0.2.{}", i + 1);
    let other = 1 - i;
    json!({
        "format": 1, "node": format!("n{i}"),
        "overlay": {
            "vtep": vtep(i), "mac": mac(i), "mtu": 1450,
            "members": [{"node": format!("n{other}"), "vtep": vtep(other), "mac": mac(other), "slots": slots(other)}],
        },
        "pool": {
            "pool": {"sets": [[{"subnet": "10.42.0.0/16", "first": "10.42.0.0", "last": "10.42.255.255"}]], "blockSize": 64},
            "slots": slots(i),
        },
    })
}
