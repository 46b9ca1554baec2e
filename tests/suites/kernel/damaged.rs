//! DEL of a record that is damaged, and on a state directory that takes no file: what was made goes.

use std::fs;
use std::path::PathBuf;

use meta_cni_tests::node::{Node, Pod};
use meta_cni_tests::program;
use serde_json::{Value, json};

fn bridge(node: &Node, name: &str, bridge: &str, subnet: &str) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": bridge, "isGateway": true,
        "ipam": node.host_local(subnet),
    })
}

/// A node whose default network and `net-a` are bridges.
fn node() -> Node {
    let mut node = Node::new();
    node.conf["delegates"] = json!([bridge(&node, "default-net", "cni0", "10.10.0.0/24")]);
    node.nad("net-a", bridge(&node, "net-a", "br-a", "10.11.0.0/24"));
    node
}

/// Changes the record of an attached pod.
fn damage(node: &Node, pod: &Pod, how: impl Fn(String) -> String) -> PathBuf {
    let path = node.path("state/attached").join(format!("node-net,{},eth0", pod.container));
    fs::write(&path, how(fs::read_to_string(&path).unwrap())).unwrap();
    path
}

/// An intent in which nothing can be read. The other entries are as they were.
fn no_intent(text: String) -> String {
    let (head, rest) = text.split_once("\nintent ").unwrap();
    let (intent, rest) = rest.split_once('\n').unwrap().1.split_once('\n').unwrap();
    format!("{head}\nintent 1 0\n{}\n{rest}", "#".repeat(intent.len()))
}

/// Addresses that somebody holds, as `NETWORK/ADDRESS`.
fn held(node: &Node) -> Vec<String> {
    let bookkeeping = |file: &str| file.ends_with("/lock") || file.contains("last_reserved_ip");
    let files = node.files("addresses").into_iter().filter(|file| !bookkeeping(file));
    files.map(|file| file.trim_start_matches("addresses/").to_owned()).collect()
}

#[test]
fn addresses_and_masquerades_of_a_damaged_record_go_whatever_of_it_can_be_read_on_host() {
    type Damage = fn(String) -> String;
    let damages: [(&str, Damage); 3] = [
        ("one bit of the further network", |text| text.replacen("\"ifname\":\"net1\"", "\"ifname\":'net1\"", 1)),
        ("no intent", no_intent),
        ("nothing is left", |_| String::new()),
    ];
    for (what, how) in damages {
        for is_shared in [true, false] {
            let node = node();
            let mut masquerading = bridge(&node, "net-a", "br-a", "10.11.0.0/24");
            masquerading["ipMasq"] = json!(true);
            node.nad("net-a", masquerading);
            let kept = node.pod("kept", if is_shared { "net-a" } else { "" });
            let lost = node.pod("lost", "net-a");
            node.add(&lost).result();
            node.add(&kept).result();
            let record = damage(&node, &lost, how);
            node.del(&lost).refused(5, &["damaged", &lost.container]);
            lost.assert_empty();
            let left = if is_shared {
                vec!["default-net/10.10.0.3", "net-a/10.11.0.3"]
            } else {
                vec!["default-net/10.10.0.3"]
            };
            assert_eq!(held(&node), left, "{what}");
            let rules = node.netns.run("nft list ruleset");
            assert_eq!(rules.matches("masquerade comment").count(), usize::from(is_shared), "{what}: {rules}");
            assert!(!record.exists() && node.records("pending").len() == 1, "{what}: kept");
            node.check(&kept, &json!({})).quiet();
            node.call("DEL", &lost).conf("abandonAfterSeconds", json!(0)).run().quiet();
            node.del(&kept).quiet();
            assert!(held(&node).is_empty());
        }
    }
}

#[test]
fn a_device_of_the_node_comes_home_from_a_record_without_an_intent() {
    let mut node = node();
    node.conf["sharedLinks"] = json!(["dev0"]);
    node.netns.run("ip link add dev0 mtu 1400 type veth peer name dev1");
    node.netns.run("ip address add 10.20.0.7/24 dev dev0");
    node.netns.run("ip link set dev0 up");
    let was = node.netns.link("dev0");
    node.nad("lent", json!({"cniVersion": "1.0.0", "type": "host-device", "device": "dev0"}));
    let pod = node.pod("web", "lent");
    node.add(&pod).result();
    damage(&node, &pod, no_intent);
    node.del(&pod).refused(5, &["damaged"]);
    pod.assert_empty();
    let is = node.netns.link("dev0");
    assert_eq!([&is["ifindex"], &is["address"], &is["mtu"]], [&was["ifindex"], &was["address"], &was["mtu"]]);
    assert_eq!(node.netns.addresses("dev0"), ["10.20.0.7/24"]);
    assert!(held(&node).is_empty());
}

#[test]
fn an_overlay_goes_with_its_last_pod_where_the_state_directory_takes_no_lock() {
    let node = node();
    node.netns.run("ip link add up0 type veth peer name up1");
    node.netns.run("ip address add 192.168.50.1/24 dev up0");
    node.netns.run("ip link set up0 up");
    node.nad("blue", json!({"cniVersion": "1.0.0", "type": "vxlan", "vni": 4200, "underlay": "up0", "ipam": node.host_local("10.42.0.0/24")}));
    let pod = node.pod("web", "blue");
    let state = node.text("state");
    fs::create_dir_all(&state).unwrap();
    program::run("mount", ["-t", "tmpfs", "-o", "nr_inodes=40", "tmpfs", &state]);
    node.add(&pod).result();
    let mut taken = 0;
    while fs::File::create(node.path(&format!("state/taken.{taken}"))).is_ok() {
        taken += 1;
    }
    node.del(&pod).quiet();
    pod.assert_empty();
    assert_eq!(node.netns.links(), ["cni0", "up0", "up1"]);
    assert!(held(&node).is_empty() && node.records("attached").is_empty() && node.records("pending").is_empty());
    program::run("umount", ["-l", &state]);
}
