//! GC of what delegates of ours leave on a node: addresses, masquerades, overlays. What departed containers left goes, what
//! nobody explains is told and stays.

use std::fs;

use meta_cni_tests::call::Outcome;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

fn bridge(node: &Node, name: &str, bridge: &str, subnet: &str) -> Value {
    json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": bridge, "ipam": node.host_local(subnet)})
}

/// A node with a default network and `net-a`, all by our own bridge.
fn node() -> Node {
    let mut node = Node::new();
    node.conf["delegates"] = json!([bridge(&node, "default-net", "cni0", "10.10.0.0/24")]);
    node.nad("net-a", bridge(&node, "net-a", "br-a", "10.11.0.0/24"));
    node
}

fn gc(node: &Node, valid: &[&str]) -> Outcome {
    let valid: Vec<Value> = valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
    node.bare_call("GC").conf("cni.dev/valid-attachments", json!(valid)).run()
}

/// Puts an address into the hands of an owner, as a lost DEL would leave it.
fn plant(node: &Node, network: &str, address: &str, owner: &str) {
    fs::write(node.path("addresses").join(network).join(address), owner).unwrap();
}

fn is_held(node: &Node, network: &str, address: &str) -> bool {
    node.path("addresses").join(network).join(address).exists()
}

/// A pod that was here, of which everything was undone.
fn departed(node: &Node, name: &str) -> Pod {
    let pod = node.pod(name, "net-a");
    node.add(&pod).result();
    node.del(&pod).quiet();
    pod
}

#[test]
fn addresses_of_the_departed_go_and_those_of_strangers_are_told() {
    let node = node();
    let kept = node.pod("kept", "net-a");
    node.add(&kept).result();
    let gone = departed(&node, "gone");
    plant(&node, "net-a", "10.11.0.77", &format!("{}\r\nnet1", gone.container));
    plant(&node, "default-net", "10.10.0.77", &format!("{}\r\neth0", gone.container));
    plant(&node, "default-net", "10.10.0.78", "stranger\r\neth0");
    // A pod of the runtime's that we never attached: pods are older than an installation.
    plant(&node, "default-net", "10.10.0.79", "inherited\r\nnet1");
    let done = gc(&node, &[&kept.container, "inherited"]);
    done.quiet();
    assert!(!is_held(&node, "net-a", "10.11.0.77") && !is_held(&node, "default-net", "10.10.0.77"));
    assert!(is_held(&node, "default-net", "10.10.0.78") && is_held(&node, "default-net", "10.10.0.79"));
    let told = done.stderr();
    assert!(told.contains("default-net/10.10.0.78 of stranger eth0") && told.lines().count() == 1, "{told}");
    assert!(kept.netns.addresses("net1") == ["10.11.0.2/24"] && is_held(&node, "net-a", "10.11.0.2"));
    node.del(&kept).quiet();
    fs::remove_file(node.path("addresses/default-net/10.10.0.78")).unwrap();
    fs::remove_file(node.path("addresses/default-net/10.10.0.79")).unwrap();
    node.assert_clean();
}

#[test]
fn an_empty_list_leaves_nothing_of_ours() {
    let node = node();
    let (one, two) = (node.pod("one", "net-a"), node.pod("two", "net-a"));
    let gone = departed(&node, "gone");
    node.add(&one).result();
    node.add(&two).result();
    plant(&node, "net-a", "10.11.0.77", &format!("{}\r\nnet1", gone.container));
    gc(&node, &[]).quiet();
    one.assert_empty();
    two.assert_empty();
    node.assert_clean();
}

#[test]
fn a_sandbox_that_came_back_is_living_whatever_was_remembered() {
    let node = node();
    let pod = departed(&node, "again");
    node.add(&pod).result();
    // Another configuration of the node has the same default network, and the runtime lists nothing for it.
    let other = node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).conf("name", json!("other-net"));
    other.run().quiet();
    assert!(is_held(&node, "net-a", "10.11.0.3") && is_held(&node, "default-net", "10.10.0.3"));
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn what_a_damaged_record_can_no_longer_tell_is_found_by_its_container() {
    let node = node();
    let (kept, lost) = (node.pod("kept", "net-a"), node.pod("lost", "net-a"));
    node.add(&kept).result();
    node.add(&lost).result();
    let record = node.path("state/attached").join(format!("node-net,{},eth0", lost.container));
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replacen("\"key\"", "\"kez\"", 1)).unwrap();
    assert!(is_held(&node, "net-a", "10.11.0.3"));
    lost.netns.remove();
    gc(&node, &[&kept.container]).refused(5, &["damaged", &lost.container]);
    assert!(!is_held(&node, "net-a", "10.11.0.3") && !is_held(&node, "default-net", "10.10.0.3"));
    assert!(is_held(&node, "net-a", "10.11.0.2"));
    node.del(&kept).quiet();
}

#[test]
fn masquerades_of_the_departed_go_on_host() {
    let mut node = Node::new();
    let mut conf = bridge(&node, "default-net", "cni0", "10.10.0.0/24");
    conf["ipMasq"] = json!(true);
    node.conf["delegates"] = json!([conf]);
    let (kept, gone) = (node.pod("kept", ""), node.pod("gone", ""));
    node.add(&kept).result();
    node.add(&gone).result();
    let saved = node.path("ruleset");
    fs::write(&saved, format!("flush ruleset\n{}", node.netns.run("nft list ruleset"))).unwrap();
    node.del(&gone).quiet();
    node.netns.run(&format!("nft -f {}", saved.display()));
    let rules = || node.netns.run("nft list ruleset").matches("masquerade comment").count();
    assert_eq!(rules(), 2);
    gc(&node, &[&kept.container]).quiet();
    assert_eq!(rules(), 1);
    node.check(&kept, &json!({})).quiet();
    node.del(&kept).quiet();
    assert_eq!(rules(), 0);
}

#[test]
fn turns_and_notes_of_the_departed_go_and_those_of_others_stay_on_host() {
    let mut node = Node::new();
    let limits = json!({"type": "bandwidth", "egressRate": 8_000_000, "egressBurst": 800_000});
    let notes = json!({"type": "tuning", "dataDir": node.path("tuning")});
    let plugins = json!([bridge(&node, "default-net", "cni0", "10.10.0.0/24"), limits, notes]);
    node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "default-net", "plugins": plugins}]);
    let turns =
        || -> Vec<String> { node.netns.links().into_iter().filter(|name| node.netns.kind(name) == "ifb").collect() };
    let (kept, gone) = (node.pod("kept", ""), node.pod("gone", ""));
    node.add(&gone).result();
    let lost = turns().pop().unwrap();
    node.del(&gone).quiet();
    assert!(turns().is_empty());
    node.add(&kept).result();
    let own = turns().pop().unwrap();
    let others = "bwp000000000000";
    node.netns.run(&format!("ip link add {lost} type ifb"));
    node.netns.run(&format!("ip link add {others} type ifb"));
    fs::create_dir_all(node.path("tuning")).unwrap();
    let note = |container: &str| node.path("tuning").join(format!("{container}_eth0.json"));
    for container in [&kept.container, &gone.container, "stranger"] {
        fs::write(note(container), "{}").unwrap();
    }
    let done = gc(&node, &[&kept.container]);
    done.quiet();
    let left = turns();
    assert!(!left.contains(&lost) && left.contains(&own) && left.iter().any(|name| name == others), "{left:?}");
    assert!(note(&kept.container).exists() && !note(&gone.container).exists() && note("stranger").exists());
    assert!(done.stderr().contains("stranger_eth0.json") && done.stderr().lines().count() == 1, "{}", done.stderr());
    node.check(&kept, &json!({})).quiet();
    node.del(&kept).quiet();
    assert_eq!(turns(), [others]);
}

#[test]
fn an_overlay_without_a_port_goes_and_others_stay() {
    let node = node();
    node.netns.run("ip link add up0 type veth peer name up1");
    node.netns.run("ip address add 192.168.50.1/24 dev up0");
    node.netns.run("ip link set up0 up");
    for (name, vni) in [("blue", 4200), ("red", 4201)] {
        node.nad(name, json!({"cniVersion": "1.0.0", "type": "vxlan", "vni": vni, "underlay": "up0"}));
    }
    // Somebody else's, by a name like ours: it is in no bridge of ours.
    node.netns.run("ip link add vx77 type vxlan id 77 dstport 4789 local 192.168.50.1 dev up0");
    let (kept, lost) = (node.pod("kept", "blue"), node.pod("lost", "red"));
    node.add(&kept).result();
    node.add(&lost).result();
    // The record is lost with the pod: nothing leads to the overlay any more.
    fs::remove_file(node.path("state/attached").join(format!("node-net,{},eth0", lost.container))).unwrap();
    lost.netns.run("ip link delete net1");
    lost.netns.run("ip link delete eth0");
    assert!(node.netns.links().contains(&"vx4201".to_owned()));
    gc(&node, &[&kept.container]).quiet();
    let links = node.netns.links();
    assert!(!links.contains(&"vx4201".to_owned()) && !links.contains(&"bx4201".to_owned()), "{links:?}");
    for stays in ["vx4200", "bx4200", "vx77"] {
        assert!(links.contains(&stays.to_owned()), "{stays} in {links:?}");
    }
    node.del(&kept).quiet();
}
