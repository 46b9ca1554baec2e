//! `make demo`: two nodes, a pod on each, four networks per pod, from the manifests in `examples/`; then all of it gone.
//!
//! The nodes are network namespaces with two wires between them. What containerd would do is done here: a namespace per
//! pod, the plugin called by environment and stdin, ADD and later DEL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a demo that fails stops and says where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meta_cni_tests::call::{Call, Outcome};
use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::STATUS;
use meta_cni_tests::program;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing here takes nearly as long.
const LIMIT: Duration = Duration::from_secs(10);

/// A node: its namespace, its own copy of the configuration, its own state.
struct Node {
    name: &'static str,
    netns: Netns,
    dir: PathBuf,
    conf: Value,
}

/// A pod's sandbox.
struct Pod {
    name: &'static str,
    container: String,
    netns: Netns,
}

fn main() {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let dir = TempDir::with_prefix("meta-cni-demo-").unwrap();
    let cluster = dir.path().join("cluster");
    fs::create_dir(&cluster).unwrap();
    println!("\nThe cluster is a directory of ordinary manifests:");
    for file in ["nad-vxlan.yaml", "nad-macvlan.yaml", "nad-ipvlan.yaml", "pod-a.yaml", "pod-b.yaml"] {
        fs::copy(examples.join(file), cluster.join(file)).unwrap();
        println!("  examples/{file}");
    }

    let nodes = [Node::new("node-a", 1, dir.path(), &examples), Node::new("node-b", 2, dir.path(), &examples)];
    wire(&nodes);
    println!("\nTwo nodes, and two wires between them:");
    println!("  node-a  192.168.50.1  up0 ======== up0  192.168.50.2  node-b");
    println!("                        up1 ======== up1");

    println!(
        "\neth0 is made by the reference plugin bridge, which meta-cni executes; the rest by meta-cni itself. On this kernel,"
    );
    println!(
        "bridge alone takes {:.1} ms for an ADD and {:.1} ms for a DEL.",
        nodes[0].alone("ADD"),
        nodes[0].alone("DEL")
    );

    let pods = [Pod::new("pod-a", &nodes[0]), Pod::new("pod-b", &nodes[1])];
    for (node, pod) in nodes.iter().zip(&pods) {
        let outcome = node.call("ADD", pod);
        let result = outcome.result();
        println!("\nADD default/{} on {}: {:.1} ms\n", pod.name, node.name, milliseconds(&outcome));
        table(pod, &serde_json::from_str(&annotation(&cluster, pod)).unwrap());
        println!("\n  The runtime hears of {} on eth0.", result["ips"][0]["address"].as_str().unwrap());
    }

    println!("\n{STATUS} of default/pod-a, as written into cluster/pod-a.yaml:\n");
    println!("{}", indented(&annotation(&cluster, &pods[0])));

    println!("\nFrom pod-a on node-a to pod-b on node-b:\n");
    let mut lost = 0;
    for (network, interface, address) in [
        ("overlay (VXLAN 4200)", "net1", "10.42.0.11"),
        ("lan (macvlan)", "net2", "10.43.0.11"),
        ("storage (ipvlan)", "san0", "10.44.0.11"),
    ] {
        let answer = ping(&pods[0].netns, interface, address);
        lost += u32::from(answer.is_none());
        println!(
            "  ping -I {interface} {address:<11}  {:<16}  {network}",
            answer.unwrap_or_else(|| "NO ANSWER".to_owned())
        );
    }

    println!();
    for (node, pod) in nodes.iter().zip(&pods) {
        let outcome = node.call("DEL", pod);
        outcome.quiet();
        println!("DEL default/{} on {}: {:.1} ms", pod.name, node.name, milliseconds(&outcome));
    }
    println!("\nWhat is left:\n");
    let mut clean = true;
    for (node, pod) in nodes.iter().zip(&pods) {
        clean &= left_behind(node, pod);
    }
    assert!(lost == 0 && clean, "the demo did not end as it should");
    println!(
        "\nNothing: only what the reference plugins keep, the bridge of the default network and host-local's place in its range,\nand the names of the containers that are gone, for GC."
    );
}

impl Node {
    fn new(name: &'static str, number: u8, root: &Path, examples: &Path) -> Self {
        let dir = root.join(name);
        fs::create_dir(&dir).unwrap();
        let text = fs::read_to_string(examples.join("10-meta-cni.conflist")).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        // What a runtime makes of a list of one, with this node's own directories.
        let mut conf = list["plugins"][0].clone();
        conf["name"] = list["name"].clone();
        conf["cniVersion"] = list["cniVersion"].clone();
        conf["cluster"]["directory"] = json!(root.join("cluster"));
        conf["stateDir"] = json!(dir.join("state"));
        conf["delegates"][0]["ipam"]["dataDir"] = json!(dir.join("addresses"));
        conf["delegates"][0]["ipam"]["ranges"] = json!([[{"subnet": format!("10.244.{number}.0/24")}]]);
        Self { name, netns: Netns::new(dir.join("netns")), dir, conf }
    }

    /// How long the default network's plugin takes without us, in milliseconds.
    fn alone(&self, verb: &str) -> f64 {
        let pod = self.dir.join("alone");
        let scratch = Netns::new(&pod);
        let mut bridge = self.netns.command("/usr/lib/cni/bridge");
        bridge.envs([("CNI_COMMAND", verb), ("CNI_CONTAINERID", "alone"), ("CNI_NETNS", scratch.text())]);
        bridge.envs([("CNI_IFNAME", "eth0"), ("CNI_PATH", "/usr/lib/cni")]);
        let finished = program::start(&mut bridge, self.conf["delegates"][0].to_string().as_bytes()).finish(LIMIT);
        assert_eq!(finished.code, Some(0), "bridge {verb}: {}", String::from_utf8_lossy(&finished.stdout));
        finished.elapsed.as_secs_f64() * 1000.0
    }

    fn call(&self, verb: &str, pod: &Pod) -> Outcome {
        Call::new(&self.netns)
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &pod.container)
            .env("CNI_NETNS", pod.netns.text())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/usr/lib/cni")
            .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}", pod.name))
            .stdin(self.conf.to_string())
            .run()
    }
}

impl Pod {
    fn new(name: &'static str, node: &Node) -> Self {
        Self { name, container: format!("{name}-sandbox"), netns: Netns::new(node.dir.join(name)) }
    }
}

/// Two wires: up0 carries the overlay and the macvlan network, up1 the ipvlan network. One link cannot be both's master.
fn wire(nodes: &[Node; 2]) {
    for link in ["up0", "up1"] {
        nodes[0].netns.run(&format!("ip link add {link} type veth peer name {link} netns {}", nodes[1].netns.text()));
    }
    for (node, address) in nodes.iter().zip(["192.168.50.1/24", "192.168.50.2/24"]) {
        node.netns.run(&format!("ip address add {address} dev up0"));
        for link in ["up0", "up1"] {
            node.netns.run(&format!("ip link set {link} up"));
        }
    }
}

/// The status annotation as it stands in the pod's manifest.
fn annotation(cluster: &Path, pod: &Pod) -> String {
    let text = fs::read_to_string(cluster.join(format!("{}.yaml", pod.name))).unwrap();
    let manifest: Value = serde_saphyr::from_str(&text).unwrap();
    manifest["metadata"]["annotations"][STATUS].as_str().expect("network-status in the manifest").to_owned()
}

/// What the kernel holds in the pod, beside the name of the network from the status.
fn table(pod: &Pod, status: &Value) {
    println!("  {:<10} {:<16} {:<9} {:<19} ADDRESSES", "INTERFACE", "NETWORK", "TYPE", "MAC");
    for entry in status.as_array().unwrap() {
        let interface = entry["interface"].as_str().unwrap();
        let mac = pod.netns.link(interface)["address"].as_str().unwrap_or("-").to_owned();
        let (kind, addresses) = (pod.netns.kind(interface), pod.netns.addresses(interface).join(" "));
        println!("  {interface:<10} {:<16} {kind:<9} {mac:<19} {addresses}", entry["name"].as_str().unwrap());
    }
}

/// "0.05 ms" when there is an answer. The first packet may be lost to address resolution.
fn ping(from: &Netns, interface: &str, address: &str) -> Option<String> {
    let mut ping = from.command("ping");
    ping.args(["-c", "1", "-W", "2", "-I", interface, address]);
    let finished = program::start(&mut ping, b"").finish(LIMIT);
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    let time = text.lines().find_map(|line| line.split_once("time=")).map(|(_, time)| time.to_owned());
    time.filter(|_| finished.code == Some(0))
}

/// Prints what is there; true when nothing is that should not be.
fn left_behind(node: &Node, pod: &Pod) -> bool {
    let (host, inside) = (node.netns.links(), pod.netns.links());
    let state = files(&node.dir.join("state"));
    let addresses = files(&node.dir.join("addresses"));
    println!(
        "  {}: links {}; state files: {}; address files: {}",
        node.name,
        host.join(" "),
        listed(&state),
        listed(&addresses)
    );
    println!("  {}: links: {}", pod.name, listed(&inside));
    host.iter().all(|link| ["up0", "up1", "cni0"].contains(&link.as_str()))
        && inside.is_empty()
        && state.iter().all(|name| name == "departed")
        && addresses.iter().all(|name| name == "lock" || name.starts_with("last_reserved_ip."))
}

fn files(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            names.extend(files(&entry.path()));
        } else {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect::<String>().trim_end().to_owned()
}

fn milliseconds(outcome: &Outcome) -> f64 {
    outcome.finished.elapsed.as_secs_f64() * 1000.0
}
