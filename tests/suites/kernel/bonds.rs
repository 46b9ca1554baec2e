//! Bonds as pods get them: of their own links, and of links that the node lends.

use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// A node with two cards, `up0` and `up2`.
fn scene() -> Node {
    let mut node = Node::new();
    for wire in ["up0", "up2"] {
        node.netns.run(&format!("ip link add {wire} up mtu 1450 type veth peer name {wire}-far"));
        node.netns.run(&format!("ip link set {wire}-far up mtu 1450"));
    }
    let main = json!({"cniVersion": "1.0.0", "name": "main", "type": "bridge", "bridge": "cni0", "ipam": node.host_local("10.10.0.0/24")});
    node.conf["delegates"] = json!([main]);
    for (name, master) in [("left", "up0"), ("right", "up2")] {
        node.nad(name, json!({"cniVersion": "1.0.0", "type": "macvlan", "master": master}));
    }
    node.nad(
        "both",
        bond(&node, json!({"failOverMac": 1, "linksInContainer": true, "links": [{"name": "net1"}, {"name": "net2"}]})),
    );
    node.nad("lent", bond(&node, json!({"links": [{"name": "up0"}, {"name": "up2"}]})));
    node
}

fn bond(node: &Node, keys: Value) -> Value {
    let mut conf = json!({"cniVersion": "1.0.0", "type": "bond", "mode": "active-backup", "miimon": "100",
        "ipam": node.host_local("10.20.0.0/24")});
    for (key, value) in keys.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

const CARDS: [&str; 4] = ["up0", "up0-far", "up2", "up2-far"];

/// What must come back of the cards.
fn cards(node: &Node) -> Value {
    let kept = ["ifname", "ifindex", "address", "mtu", "group", "operstate"];
    ["up0", "up2"].iter().map(|card| kept.map(|key| node.netns.link(card)[key].clone()).to_vec()).collect()
}

/// Nothing of the pod is left on the node, nor in its namespace.
fn assert_undone(node: &Node, pod: &Pod) {
    node.del(pod).quiet();
    node.del(pod).quiet();
    assert_eq!(pod.netns.links(), Vec::<String>::new());
    node.assert_clean_but(&CARDS);
}

#[test]
fn a_bond_of_two_networks_of_the_pod_on_uml() {
    let node = scene();
    let pod = node.pod("web", "left,right,both@bond0");
    let result = node.add(&pod).result();
    let bond = pod.netns.link("bond0");
    assert_eq!((&bond["mtu"], &bond["linkinfo"]["info_kind"]), (&json!(1450), &json!("bond")));
    assert_eq!(pod.netns.addresses("bond0"), ["10.20.0.2/24"]);
    for port in ["net1", "net2"] {
        assert_eq!(pod.netns.link(port)["master"], "bond0");
    }
    node.check(&pod, &result).quiet();
    let status = node.status(&pod);
    let told = status.as_array().unwrap().iter().find(|one| one["interface"] == "bond0").unwrap();
    assert_eq!(
        (&told["name"], &told["ips"], &told["mac"]),
        (&json!("default/both"), &json!(["10.20.0.2"]), &bond["address"])
    );
    assert_undone(&node, &pod);
}

#[test]
fn a_bond_before_its_links_is_refused_and_nothing_is_left_on_uml() {
    let node = scene();
    let pod = node.pod("web", "left,both@bond0,right");
    node.add(&pod).refused(102, &["both", "links[1].name", "net2", "attached before the bond"]);
    assert_undone(&node, &pod);
    // Two bonds cannot have one link.
    let pod = node.pod("two", "left,right,both@bond0,both@bond1");
    node.add(&pod).refused(102, &["links[0].name", "net1 is a port of bond0"]);
    assert_undone(&node, &pod);
}

#[test]
fn a_bond_of_the_nodes_links_gives_them_back_whatever_becomes_of_the_pod_on_uml() {
    for tricks in [
        [].as_slice(),
        &["ip link set up0 nomaster", "ip link set up0 name mine address 02:00:00:00:00:66 mtu 900"],
        &["ip link del net1"],
        &["ip link set up0 group GROUP", "ip link set up2 down"],
    ] {
        let node = scene();
        let was = cards(&node);
        let pod = node.pod("web", "lent");
        let result = node.add(&pod).result();
        assert_eq!(node.netns.links().iter().filter(|name| CARDS.contains(&name.as_str())).count(), 2);
        node.check(&pod, &result).quiet();
        let other = node.pod("late", "lent");
        node.add(&other).refused(102, &["links[0].name", "up0", "one that a pod holds has none here"]);
        let group = pod.netns.link("eth0")["group"].as_str().unwrap().to_owned();
        for trick in tricks {
            pod.netns.run(&trick.replace("GROUP", &group));
        }
        node.del(&other).quiet();
        assert_undone(&node, &pod);
        assert_eq!(cards(&node), was, "{tricks:?}");
        // The next pod gets them.
        node.add(&other).result();
        assert_undone(&node, &other);
        assert_eq!(cards(&node), was, "{tricks:?}");
    }
}

#[test]
fn a_definition_gets_no_link_of_the_nodes_own() {
    let node = scene();
    node.netns.run("ip address add 192.0.2.7/24 dev up2");
    let pod = node.pod("web", "lent");
    node.add(&pod).refused(
        7,
        &["links[1].name", "up2", "a device that is not the node's own: up2 has the global address 192.0.2.7/24"],
    );
    assert_undone(&node, &pod);
}
