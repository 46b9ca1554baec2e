//! Verify and repair on a real kernel: what is changed behind an attachment's back is named, and made anew with the same name, address
//! and hardware address.

use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// Default network and `net`, whose chain this is, attached as net1. A further network stays beside it.
fn scene(chain: impl Fn(&Node) -> Value) -> (Node, Pod, Value) {
    let mut node = Node::new();
    node.netns.run("ip link add up0 type veth peer name up1");
    node.netns.run("ip link set up0 up");
    node.netns.run("ip link set up1 up");
    node.netns.run("ip address add 192.168.50.1/24 dev up0");
    node.netns.run("ip link add lent type veth peer name far");
    let bridge = |node: &Node, name: &str, subnet: &str| {
        json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": name, "isDefaultGateway": true,
            "ipam": node.host_local(subnet)})
    };
    node.conf["delegates"] = json!([bridge(&node, "cni0", "10.10.0.0/24")]);
    node.nad("net", json!({"cniVersion": "1.0.0", "name": "net", "plugins": chain(&node)}));
    node.nad("beside", bridge(&node, "br1", "10.12.0.0/24"));
    let pod = node.pod("web", "net,beside");
    let result = node.add(&pod).result();
    assert!(node.differences().is_empty(), "{:?}", node.differences());
    (node, pod, result)
}

fn bridge(node: &Node) -> Value {
    let routes = json!([{"dst": "10.99.0.0/16"}]);
    let mut ipam = node.host_local("10.11.0.0/24");
    ipam["routes"] = routes;
    json!([{"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": ipam}])
}

fn on_up0(node: &Node, kind: &str) -> Value {
    json!([{"type": kind, "master": "up0", "vlanId": 7, "ipam": node.host_local("10.11.0.0/24")}])
}

/// Takes away one side of a veth by the index that the pod's end has of it.
fn filled(text: &str, node: &Node, pod: &Pod) -> String {
    let peer = pod.netns.link("net1")["link_index"].as_u64();
    let links = node.netns.ip("link show");
    let is_peer = |link: &&Value| link["ifindex"].as_u64() == peer && peer.is_some();
    let port = links.as_array().into_iter().flatten().find(is_peer).and_then(|link| link["ifname"].as_str());
    text.replace("PORT", port.unwrap_or_default())
}

fn ends(node: &Node, pod: &Pod) {
    node.del(pod).quiet();
    pod.assert_empty();
    for wire in ["up0", "lent"] {
        node.netns.run(&format!("ip link del {wire}"));
    }
    node.assert_clean();
}

/// Each change is found, told with these words, and repaired on the same pod.
fn mends(scene: (Node, Pod, Value), changes: &[(&str, &str)]) {
    let (node, pod, result) = scene;
    let whole = |name: &str| {
        let link = pod.netns.link(name);
        (link["address"].clone(), pod.netns.addresses(name), pod.netns.run("ip -4 route show").lines().count())
    };
    let (net1, net2, eth0) = (whole("net1"), pod.netns.link("net2"), pod.netns.link("eth0"));
    let (status, defaults) = (node.status(&pod), pod.netns.default_routes("-4"));
    for (change, words) in changes {
        for line in change.split("; ") {
            let line = filled(line, &node, &pod);
            match line.split_once(' ').unwrap() {
                ("host", command) => node.netns.run(command),
                (_, command) => pod.netns.run(command),
            };
        }
        let found = node.differences();
        assert!(found.len() == 1 && found[0].contains(words), "{change}: {found:?}");
        assert!(found[0].starts_with("network default/net (net1): "), "{change}: {found:?}");
        let report = node.repair(&pod).result();
        assert_eq!(report["repaired"].as_array().unwrap().len(), 1, "{change}: {report}");
        assert_eq!(whole("net1"), net1, "{change}");
        assert_eq!(pod.netns.links(), ["eth0", "net1", "net2"], "{change}");
        assert!(node.differences().is_empty(), "{change}: {:?}", node.differences());
        node.check(&pod, &result).quiet();
        assert_eq!(node.repair(&pod).result(), json!({"repaired": []}), "{change}");
    }
    // Whatever is beside it was not touched, and the pod is told what it was told.
    assert_eq!(pod.netns.link("net2")["ifindex"], net2["ifindex"]);
    assert_eq!(pod.netns.link("eth0")["ifindex"], eth0["ifindex"]);
    assert_eq!((node.status(&pod), pod.netns.default_routes("-4")), (status, defaults));
    ends(&node, &pod);
}

#[test]
fn a_port_of_a_bridge_is_made_anew_whatever_happened_to_it() {
    mends(
        scene(bridge),
        &[
            ("pod ip link del net1", "link net1 is missing in the pod"),
            ("host ip link del PORT", "link net1 is missing in the pod"),
            ("pod ip address del 10.11.0.2/24 dev net1", "address 10.11.0.2/24 is missing on link net1"),
            (
                "pod ip address del 10.11.0.2/24 dev net1; pod ip address add 10.11.0.77/24 dev net1",
                "address 10.11.0.2/24 is missing on link net1",
            ),
            ("pod ip route del 10.99.0.0/16", "route 10.99.0.0/16 is missing in the pod"),
            ("pod ip link set net1 down; pod ip link set net1 name mine", "link net1 is missing in the pod"),
            ("pod ip link set net1 address 02:00:00:00:00:66", "net1 has hardware address 02:00:00:00:00:66"),
            ("pod ip link set net1 down", "link net1: up is false, want true"),
            ("host ip link set PORT nomaster", "index of the bridge is None"),
            ("host ip link del br0", "bridge br0 is missing on the host"),
        ],
    );
}

#[test]
fn links_of_other_kinds_keep_their_hardware_address_too() {
    let deleted = [("pod ip link del net1", "link net1 is missing in the pod")];
    mends(scene(|node| on_up0(node, "macvlan")), &deleted);
    mends(scene(|node| json!([{"type": "ptp", "ipam": node.host_local("10.11.0.0/24")}])), &deleted);
    let vxlan = |node: &Node| {
        json!([{"type": "vxlan", "vni": 4200, "underlay": "192.168.50.0/24", "peers": ["192.168.50.2"],
            "ipam": node.host_local("10.11.0.0/24")}])
    };
    mends(scene(vxlan), &deleted);
}

#[test]
fn links_of_kinds_that_this_kernel_has_on_uml() {
    let deleted = [("pod ip link del net1", "link net1 is missing in the pod")];
    mends(scene(|node| on_up0(node, "ipvlan")), &deleted);
    mends(scene(|node| on_up0(node, "vlan")), &deleted);
    mends(scene(|node| json!([{"type": "dummy", "ipam": node.host_local("10.11.0.0/24")}])), &deleted);
}

#[test]
fn a_default_route_that_a_network_took_stays_with_it() {
    let (node, _, _) = scene(bridge);
    let pod = node.pod("taker", r#"[{"name":"beside","default-route":["10.12.0.1"]}]"#);
    node.add(&pod).result();
    for link in ["net1", "eth0"] {
        pod.netns.run(&format!("ip link del {link}"));
        node.repair(&pod).result();
        assert_eq!(pod.netns.default_routes("-4"), ["10.12.0.1 net1"], "{link}");
        assert!(node.differences().is_empty(), "{link}: {:?}", node.differences());
    }
    node.del(&pod).quiet();
    pod.assert_empty();
}

#[test]
fn what_cannot_be_made_again_is_not_taken_away() {
    let (node, pod, _) = scene(|node| on_up0(node, "macvlan"));
    let before = pod.netns.link("net1");
    node.netns.run("ip link set up0 down");
    node.netns.run("ip link set up0 name up9");
    assert!(node.differences()[0].contains("master: got \"up0\""), "{:?}", node.differences());
    node.repair(&pod).refused(50, &["network default/net (net1): master: got \"up0\""]);
    assert_eq!(pod.netns.link("net1")["ifindex"], before["ifindex"]);
    node.netns.run("ip link set up9 name up0");
    node.netns.run("ip link set up0 up");
    // A link of the pod's own under the name stands in the way, and stays.
    pod.netns.run("ip link del net1");
    pod.netns.run("ip link add net1 type veth peer name other");
    node.repair(&pod).refused(101, &["net1"]);
    assert_eq!(pod.netns.links(), ["eth0", "net1", "net2", "other"]);
    pod.netns.run("ip link del net1");
    node.repair(&pod).result();
    assert_eq!(pod.netns.addresses("net1"), ["10.11.0.2/24"]);
    ends(&node, &pod);
}

#[test]
fn an_address_that_is_not_held_any_more_may_be_anothers() {
    let (node, pod, _) = scene(bridge);
    let before = pod.netns.link("net1");
    pod.netns.run("ip link set net1 down");
    node.netns.run(&format!("find {} -name 10.11.0.2 -delete", node.text("addresses")));
    assert_eq!(node.differences().len(), 1);
    let report = node.repair(&pod).result();
    assert_eq!(report["repaired"], json!([]), "{report}");
    assert!(report["left"][0].as_str().unwrap().contains("its addresses are not its own any more"), "{report}");
    assert_eq!(pod.netns.link("net1")["ifindex"], before["ifindex"]);
    ends(&node, &pod);
}

#[test]
fn a_lent_device_is_told_of_and_left() {
    let (node, pod, _) =
        scene(|node| json!([{"type": "host-device", "device": "lent", "ipam": node.host_local("10.11.0.0/24")}]));
    pod.netns.run("ip address del 10.11.0.2/24 dev net1");
    assert_eq!(node.differences().len(), 1);
    let report = node.repair(&pod).result();
    assert_eq!(report["repaired"], json!([]), "{report}");
    assert!(report["left"][0].as_str().unwrap().contains("it was lent something of the node"), "{report}");
    assert!(pod.netns.addresses("net1").is_empty());
    ends(&node, &pod);
}
