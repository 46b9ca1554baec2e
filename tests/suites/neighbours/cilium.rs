//! Cilium: a datapath in eBPF, an agent that every ADD and DEL of its plugin asks, a tunnel that takes every VNI on its port, and an agent
//! that wants the runtime's directory for itself.

use std::fs;

use meta_cni_tests::cluster::neighbours::cilium::{CONFIG, DELETE_QUEUE, Mode, install, start};
use meta_cni_tests::cluster::neighbours::results::Subject;
use meta_cni_tests::cluster::pods::PATIENCE;
use meta_cni_tests::cluster::{Node, wait};
use meta_cni_tests::program;
use serde_json::{Value, json};

use crate::scene::{Product, Scene, THREE, TUNNEL};

const OURS: &str = "/etc/cni/net.d/00-meta-cni.conflist";
const CILIUM: Subject = Subject {
    product: "",
    programs: &["cilium", "coredns"],
    tried_as: "default network",
    to_set: "`cni.exclusive=false`",
};
/// Its links, and what is pinned for them: programs on the node's own link too.
const OWN: &[&str] = &["ip -d link show cilium_host", "find /sys/fs/bpf/cilium/devices", "ip rule"];

#[test]
fn cilium_with_native_routes_keeps_its_datapath() {
    let mut scene = Scene::new(Product {
        subject: Subject { product: "Cilium, native routing", ..CILIUM },
        install: |cluster| install(cluster, Mode::Native, false),
        start: |node| vec![start(node)],
        own: OWN,
        has_host_ports: false,
        near: TUNNEL,
    });
    scene.pods_with_three_networks();
    scene.a_policy_holds_on_eth0();
    without_its_agent(&mut scene);
    scene.both_restart_in_both_orders();
    scene.goes();
}

#[test]
fn cilium_with_vxlan_keeps_its_tunnel() {
    let mut scene = Scene::new(Product {
        subject: Subject {
            product: "Cilium, VXLAN",
            to_set: "`cni.exclusive=false`; overlays on another port than 8472",
            ..CILIUM
        },
        install: |cluster| install(cluster, Mode::Vxlan, false),
        start: |node| vec![start(node)],
        own: &["ip -d link show cilium_vxlan", "ip -d link show cilium_host", "find /sys/fs/bpf/cilium/devices"],
        has_host_ports: false,
        near: 4788,
    });
    scene.pods_with_three_networks();
    // The tunnel takes every VNI on its port.
    let ipam = json!({"type": "blocks", "subnet": "10.63.0.0/24"});
    let taken = json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 4102, "port": TUNNEL, "ipam": ipam});
    scene.define("taken", &taken);
    scene.ask_for("refused", "n1", "taken", false);
    scene.event("refused", "8472, which link cilium_vxlan has");
    scene.delete("refused");
    scene.undefine("taken");
    scene.own_is_as_before();
    scene.held("an overlay on 8472 is refused, with the name of its tunnel");
    scene.a_policy_holds_on_eth0();
    scene.both_restart_in_both_orders();
    scene.goes();
}

#[test]
fn cilium_behind_ptp_is_a_chain_like_any_other() {
    let mut scene = Scene::new(Product {
        subject: Subject { product: "Cilium, chained behind ptp (generic-veth)", ..CILIUM },
        install: |cluster| install(cluster, Mode::Chained, false),
        start: |node| vec![start(node)],
        own: OWN,
        has_host_ports: false,
        near: TUNNEL,
    });
    scene.pods_with_three_networks();
    scene.a_policy_holds_on_eth0();
    scene.both_restart_in_both_orders();
    scene.goes();
}

#[test]
fn cilium_that_wants_the_directory_is_told_not_to() {
    let mut scene = Scene::before_ours(Product {
        subject: Subject {
            product: "Cilium that wants the runtime's directory for itself (`cni.exclusive`, its default)",
            ..CILIUM
        },
        install: |cluster| install(cluster, Mode::Native, true),
        start: |node| vec![start(node)],
        own: OWN,
        has_host_ports: false,
        near: TUNNEL,
    });
    scene.apply_ours(&[]);
    for node in ["n1", "n2"] {
        scene.node_event(node, "ConfigurationTaken", "cni.exclusive=false");
    }
    scene.held("it renames our file: the file comes back, an event of the Node says what to set");
    let found = doctor(scene.node("n1"));
    assert!(found.contains("D32") && found.contains("cni.exclusive=false"), "{found}");
    scene.held("`meta-cnictl doctor` says what to set");

    // What a user does then.
    scene.end_product();
    for node in scene.cluster.nodes() {
        fs::write(node.file(format!("{CONFIG}/cni-exclusive")), "false").unwrap();
    }
    scene.start_product();
    for node in scene.cluster.nodes() {
        wait::until(&format!("our file on {}", node.name()), PATIENCE, || {
            fs::metadata(node.file(OURS)).map(drop).map_err(|e| e.to_string())
        });
        fs::remove_file(node.file(format!("{OURS}.cilium_bak"))).unwrap();
    }
    scene.make_networks();
    scene.pods_with_three_networks();
    let found = doctor(scene.node("n1"));
    assert!(!found.contains("D32"), "{found}");
    scene.held("with that set it stays");
    scene.goes();
}

/// What `meta-cnictl doctor` finds on a node.
fn doctor(node: &Node) -> String {
    let mut command = node.command("/opt/kubernetes/harness/meta-cnictl");
    let output = node.space().within(|| command.args(["doctor", "-o", "json"]).output().unwrap());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Its plugin waits half a minute for an agent that is away: an ADD fails and says for whom, a DEL is done without, and our STATUS asks a
/// plugin of CNI 0.3.1 for none.
fn without_its_agent(scene: &mut Scene) {
    scene.make("leaves", "n1", THREE, false);
    scene.end_product();
    status(scene.node("n1"));
    scene.ask_for("waits", "n1", "lan", false);
    scene.delete("leaves");
    let queue = fs::read_dir(scene.node("n1").file(DELETE_QUEUE)).unwrap().count();
    assert!(queue > 0, "Cilium's plugin leaves a deletion to its agent");
    scene.event("waits", "cilium.sock");
    scene.start_product();
    scene.ready("waits");
    scene.serves("waits", "new-n2");
    scene.delete("waits");
    scene.held(
        "its agent away: ADD fails and names its socket, DEL is done, STATUS is as before; it comes back: pods come",
    );
}

/// STATUS of our plugin succeeds.
fn status(node: &Node) {
    let list: Value = serde_json::from_slice(&fs::read(node.file(OURS)).unwrap()).unwrap();
    let mut conf = list["plugins"][0].clone();
    // As runtimes choose: the newest.
    let newest = list["cniVersions"].as_array().unwrap().last().unwrap();
    (conf["name"], conf["cniVersion"]) = (list["name"].clone(), newest.clone());
    let mut command = node.command("/opt/cni/bin/meta-cni");
    command.env("CNI_COMMAND", "STATUS").env("CNI_PATH", "/opt/cni/bin");
    let finished = node.space().within(|| program::start(&mut command, conf.to_string().as_bytes()).finish(PATIENCE));
    assert_eq!(finished.code, Some(0), "{}", String::from_utf8_lossy(&finished.stdout));
}
