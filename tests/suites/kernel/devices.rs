//! Devices of the node that pods have for a while: lent and given back by us, by the reference plugin, or by one and the
//! other.

use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod, REFERENCE};
use serde_json::{Value, json};

/// A node with the device `up0`, which its administrator shares, and what must come back of it.
fn scene() -> Node {
    let mut node = Node::new();
    node.conf["sharedLinks"] = json!(["up0"]);
    for line in [
        "ip link add up0 mtu 1400 type veth peer name up1",
        "ip link set up0 alias uplink",
        "ip link property add dev up0 altname the-uplink-of-the-node",
        "ip address add 10.20.0.7/24 dev up0",
        "ip link set up0 up",
        "ip link set up1 up",
        "ip route add 10.21.0.0/16 via 10.20.0.1 dev up0",
        "ip route add 10.22.0.0/16 via 10.20.0.1 dev up0 table 4000",
        "ip neighbor add 10.20.0.50 lladdr 02:00:00:00:00:50 dev up0 nud permanent",
        "ip rule add iif up0 table 4000",
    ] {
        node.netns.run(line);
    }
    node
}

/// The device as it is on the node.
fn device(node: &Node) -> Value {
    let link = node.netns.link("up0");
    let kept = ["ifindex", "address", "mtu", "ifalias", "altnames", "group", "operstate", "promiscuity"];
    let kept: Value =
        kept.iter().map(|key| (key.to_string(), link[*key].clone())).collect::<serde_json::Map<_, _>>().into();
    let around = ["ip route show table all proto boot", "ip neighbor show dev up0 nud permanent", "ip rule show"];
    let around = around.map(|look| node.netns.run(look).replace(" linkdown", ""));
    json!([kept, node.netns.addresses("up0"), around])
}

fn lending() -> Value {
    json!({"cniVersion": "1.0.0", "name": "lent", "type": "host-device", "device": "up0"})
}

#[test]
fn a_device_is_lent_and_comes_back_whatever_the_pod_did_to_it() {
    for tricks in [
        [].as_slice(),
        &["ip link set net1 down", "ip link set net1 name mine alias mine mtu 900 address 02:00:00:00:00:66"],
        &["ip link set net1 group GROUP"],
        &["ip link set lo group GROUP"],
        // Its own name on the node; another link's of the node, so that the move itself would fail; another one's group.
        &["ip link property add dev net1 altname up0", "ip link set net1 group GROUP"],
        &[
            "ip link property add dev net1 altname up1 altname cni0",
            "ip link property del dev net1 altname the-uplink-of-the-node",
        ],
        &["ip link add up0 type veth peer name up1", "ip link set net1 alias up1"],
        &["ip link add own type bridge", "ip link set net1 master own", "ip link set net1 promisc on"],
        &["ip link add child link net1 type macvlan mode bridge", "ip link set child up"],
    ] {
        let (node, pod) = with_main(scene());
        let was = device(&node);
        let result = node.add(&pod).result();
        assert!(!node.netns.links().contains(&"up0".to_owned()));
        let group = pod.netns.link("eth0")["group"].as_str().unwrap().to_owned();
        assert_eq!(pod.netns.link("net1")["group"], "default");
        node.check(&pod, &result).quiet();
        for trick in tricks {
            pod.netns.run(&trick.replace("GROUP", &group));
        }
        node.del(&pod).quiet();
        node.del(&pod).quiet();
        assert_eq!(device(&node), was, "{tricks:?}");
        let own = |name: &String| !matches!(name.as_str(), "up0" | "up1" | "own");
        assert!(!pod.netns.links().iter().any(own), "{tricks:?}: {:?}", pod.netns.links());
        node.assert_clean_but(&["up0", "up1"]);
    }
}

/// A bridge as eth0, and a pod that has the device beside it.
fn with_main(mut node: Node) -> (Node, Pod) {
    let main = json!({"cniVersion": "1.0.0", "name": "main", "type": "bridge", "bridge": "cni0", "ipam": node.host_local("10.10.0.0/24")});
    node.conf["delegates"] = json!([main]);
    node.nad("lent", lending());
    let pod = node.pod("web", "lent");
    (node, pod)
}

/// While the device cannot go back, nothing that could take it along is sent: the pod's own links go one by one.
#[test]
fn a_device_that_cannot_go_back_yet_is_not_deleted_with_the_pods_links() {
    let (node, pod) = with_main(scene());
    let was = device(&node);
    node.add(&pod).result();
    let group = pod.netns.link("eth0")["group"].as_str().unwrap().to_owned();
    pod.netns.run(&format!("ip link set net1 group {group}"));
    // Another link of the node has its name by now.
    node.netns.run("ip link add other type veth peer name up0");
    node.del(&pod).refused(101, &["give up0 back to the node", "has its name"]);
    assert_eq!(pod.netns.links(), ["net1"], "eth0 is gone, the device is not");
    node.netns.run("ip link del other");
    node.del(&pod).quiet();
    assert_eq!(device(&node), was);
    node.assert_clean_but(&["up0", "up1"]);
}

/// Out of the pod, and back in a shape that nobody knows: under another index and name, with the group of our links.
#[test]
fn a_device_in_disguise_is_known_by_its_other_end() {
    let (node, pod) = with_main(scene());
    let was = device(&node);
    node.add(&pod).result();
    let group = pod.netns.link("eth0")["group"].as_str().unwrap().to_owned();
    let child = Netns::new(node.path("netns/child"));
    let index = pod.netns.link("net1")["ifindex"].as_u64().unwrap();
    pod.netns.run(&format!("ip link set net1 netns {}", child.text()));
    pod.netns.run(&format!("ip link add own0 index {index} type veth peer name own1 index 99"));
    node.del(&pod).refused(11, &["device up0", "out of reach"]);
    child.run("ip link set net1 alias none address 02:00:00:00:00:66");
    child.run(&format!("ip link set net1 group {group}"));
    child.run(&format!("ip link set net1 netns {} name other", pod.netns.text()));
    node.del(&pod).quiet();
    assert_eq!(device(&node), was);
    assert_eq!(pod.netns.links(), ["own0", "own1"]);
    node.assert_clean_but(&["up0", "up1"]);
}

#[test]
fn a_device_that_the_pod_deleted_ends_the_pods_other_links_all_the_same() {
    let (node, pod) = with_main(scene());
    node.add(&pod).result();
    pod.netns.run("ip link del net1");
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean();
}

/// An undo that was begun and left is finished for the next pod that wants the device.
#[test]
fn a_device_that_waits_for_its_undo_is_fetched_by_the_next_pod() {
    let (node, first) = with_main(scene());
    let was = device(&node);
    node.add(&first).result();
    node.netns.run("ip link add other type veth peer name up0");
    node.del(&first).refused(101, &["has its name"]);
    node.netns.run("ip link del other");
    let second = node.pod("two", "lent");
    node.add(&second).result();
    assert!(first.netns.links().is_empty());
    node.del(&second).quiet();
    assert_eq!(device(&node), was);
    node.del(&first).quiet();
    assert_eq!(device(&node), was);
    node.assert_clean_but(&["up0", "up1"]);
}

#[test]
fn a_device_comes_back_when_a_later_network_fails() {
    let node = scene();
    node.nad("lent", lending());
    node.nad("bad", json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "none"}));
    let pod = node.pod("web", "lent,bad");
    let was = device(&node);
    node.add(&pod).refused(102, &["default/bad", "none"]);
    assert_eq!(device(&node), was);
    node.del(&pod).quiet();
    node.assert_clean_but(&["up0", "up1"]);
}

#[test]
fn a_device_that_another_pod_holds_is_refused() {
    let node = scene();
    node.nad("lent", lending());
    let (first, second) = (node.pod("one", "lent"), node.pod("two", "lent"));
    let was = device(&node);
    node.add(&first).result();
    node.add(&second).refused(102, &["default/lent", "up0", "one that a pod holds"]);
    assert_eq!(first.netns.links(), ["net1"]);
    node.del(&second).quiet();
    assert_eq!(first.netns.links(), ["net1"]);
    node.del(&first).quiet();
    assert_eq!(device(&node), was);
}

/// Runs the reference plugin as a runtime would.
fn reference(netns: &Netns, verb: &str, pod: &Pod) {
    let mut call = netns.command("env");
    call.args([
        format!("CNI_COMMAND={verb}"),
        format!("CNI_CONTAINERID={}", pod.container),
        format!("CNI_NETNS={}", pod.netns.text()),
        "CNI_IFNAME=eth0".to_owned(),
        format!("CNI_PATH={REFERENCE}"),
        format!("{REFERENCE}/host-device"),
    ]);
    let mut child = call.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), lending().to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_the_reference_plugin_lent_goes_back_by_our_del_and_the_other_way_round() {
    let mut node = scene();
    node.conf["delegates"] = json!([lending()]);
    let was = device(&node);

    let theirs = node.pod("theirs", "");
    reference(&node.netns, "ADD", &theirs);
    assert_eq!(theirs.netns.link("eth0")["ifalias"], "up0");
    node.del(&theirs).quiet();
    node.del(&theirs).quiet();
    let is = device(&node);
    assert_eq!(
        (&is[0]["address"], &is[0]["mtu"], &is[0]["ifalias"]),
        (&was[0]["address"], &was[0]["mtu"], &Value::Null)
    );
    assert_eq!(theirs.netns.links(), Vec::<String>::new());

    let ours = node.pod("ours", "");
    node.add(&ours).result();
    reference(&node.netns, "DEL", &ours);
    let is = device(&node);
    assert_eq!((&is[0]["address"], &is[0]["mtu"]), (&was[0]["address"], &was[0]["mtu"]));
    node.del(&ours).quiet();
    node.assert_clean_but(&["up0", "up1"]);
}
