//! What pods of several definitions share on a node: a change belongs to the pods that asked for it, and goes with the last.

use std::fs;

use meta_cni_tests::node::{NETWORKS, Node, Pod};
use serde_json::{Value, json};

fn bridge(node: &Node, name: &str, bridge: &str, subnet: &str) -> Value {
    json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": bridge, "ipam": node.host_local(subnet)})
}

/// A node whose default network is a bridge of ours, with an underlay and an administrator's bridge.
fn node() -> Node {
    let mut node = Node::new();
    node.conf["delegates"] = json!([bridge(&node, "default-net", "cni0", "10.10.0.0/24")]);
    node.conf["delegates"][0]["isGateway"] = json!(true);
    node.netns.run("ip link add up0 type veth peer name up1");
    node.netns.run("ip address add 192.168.50.1/24 dev up0");
    node.netns.run("ip link set up0 up");
    node.netns.run("ip link add br0 type bridge");
    node.netns.run("ip link set br0 up");
    for (name, peer) in [("blue", "192.168.50.2"), ("red", "192.168.50.3")] {
        node.nad(name, json!({"cniVersion": "1.0.0", "type": "vxlan", "vni": 4200, "underlay": "up0", "peers": ["192.168.50.1", peer]}));
    }
    for (name, promiscuous) in [("quiet", false), ("noisy", true)] {
        node.nad(name, json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br0", "promiscMode": promiscuous}));
    }
    node
}

/// The peers that the overlay floods to.
fn peers(node: &Node) -> Vec<String> {
    let entries = node.netns.run("bridge fdb show dev vx4200");
    let flooding = entries.lines().filter(|line| line.starts_with("00:00:00:00:00:00"));
    let mut peers: Vec<String> =
        flooding.filter_map(|line| line.split("dst ").nth(1)?.split(' ').next().map(str::to_owned)).collect();
    peers.sort();
    peers
}

/// Whether the administrator's bridge is up and promiscuous.
fn flags(node: &Node) -> (bool, bool) {
    let link = node.netns.link("br0");
    let is = |flag: &str| link["flags"].as_array().unwrap().contains(&json!(flag));
    (is("UP"), is("PROMISC"))
}

fn clean(node: &Node) {
    assert_eq!(flags(node), (true, false));
    node.assert_clean_but(&["up0", "up1"]);
}

#[test]
fn each_definitions_peers_go_with_its_last_pod() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let node = node();
        let pods = [("a", "blue"), ("b", "blue"), ("c", "red")].map(|(name, network)| node.pod(name, network));
        pods.iter().for_each(|pod| drop(node.add(pod).result()));
        assert_eq!(peers(&node), ["192.168.50.2", "192.168.50.3"]);
        let mut left = vec!["blue", "blue", "red"];
        for i in order {
            node.del(&pods[i]).quiet();
            left.remove(left.iter().position(|network| *network == ["blue", "blue", "red"][i]).unwrap());
            let want = [("blue", "192.168.50.2"), ("red", "192.168.50.3")];
            let want: Vec<_> = want.iter().filter(|(name, _)| left.contains(name)).map(|(_, peer)| *peer).collect();
            if !left.is_empty() {
                assert_eq!(peers(&node), want, "{order:?}, {i} is gone");
            }
        }
        clean(&node);
    }
}

#[test]
fn gc_and_replay_let_go_for_pods_whose_records_are_lost() {
    for by_gc in [true, false] {
        let node = node();
        let (kept, lost) = (node.pod("kept", "red,quiet"), node.pod("lost", "blue,noisy"));
        node.add(&kept).result();
        node.add(&lost).result();
        assert_eq!((flags(&node), peers(&node).len()), ((true, true), 2));
        fs::remove_file(node.path("state/attached").join(format!("node-net,{},eth0", lost.container))).unwrap();
        lost.netns.links().iter().for_each(|link| drop(lost.netns.run(&format!("ip link delete {link}"))));
        if by_gc {
            let valid = json!([{"containerID": kept.container, "ifname": "eth0"}]);
            node.bare_call("GC").conf("cni.dev/valid-attachments", valid).run().quiet();
        } else {
            node.replay();
        }
        assert_eq!((flags(&node), peers(&node)), ((true, false), vec!["192.168.50.3".to_owned()]));
        node.del(&kept).quiet();
        assert_eq!(flags(&node), (true, false));
    }
}

#[test]
fn a_pod_that_dies_and_a_del_without_a_record_leave_nothing_behind() {
    let node = node();
    let (dead, other) = (node.pod("dead", "noisy,blue"), node.pod("other", "quiet,red"));
    node.add(&dead).result();
    node.add(&other).result();
    dead.netns.remove();
    node.del(&dead).quiet();
    assert_eq!((flags(&node), peers(&node)), ((true, false), vec!["192.168.50.3".to_owned()]));
    node.del(&other).quiet();
    clean(&node);
}

/// A pod whose only further network is this bridge configuration.
fn joining(node: &Node, conf: Value) -> Pod {
    node.nad("join", conf);
    node.pod("web", "join")
}

#[test]
fn the_default_networks_bridge_is_shared_only_if_the_node_says_so() {
    let mut node = node();
    const ONLY: &str = "only if the node's key shareDefaultBridge is true";
    let layer_2 = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "cni0"});
    let absent = json!({"cniVersion": "1.0.0", "type": "bridge"});
    let mut forced = bridge(&node, "join", "cni0", "10.99.0.0/24");
    forced["isGateway"] = json!(true);
    forced["forceAddress"] = json!(true);
    let master = json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "cni0"});
    let first = node.pod("first", "");
    node.add(&first).result();
    let held = node.netns.addresses("cni0");
    for (conf, want) in [
        (&layer_2, "default/join (net1): bridge: got \"cni0\""),
        (&absent, "default/join (net1): bridge: missing"),
        (&forced, "default/join (net1): bridge: got \"cni0\""),
        (&master, "default/join (net1): master: got \"cni0\""),
    ] {
        let pod = joining(&node, conf.clone());
        node.add(&pod).refused(7, &[want, ONLY]);
        pod.assert_empty();
        assert_eq!(node.netns.addresses("cni0"), held);
    }
    // A program of the reference plugins in our delegate's place reads the same keys.
    node.conf["builtin"] = json!(["vxlan"]);
    let pod = joining(&node, layer_2.clone());
    node.add(&pod).refused(7, &["bridge: got \"cni0\"", ONLY]);
    node.conf["builtin"] = json!(null);
    // A pod with another default network is not the node's default network.
    let own = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-own"});
    node.nad("own", own);
    let default = json!({"v1.multus-cni.io/default-network": "default/own", NETWORKS: "join"});
    let pod = node.pod_annotated("web", default);
    node.add(&pod).refused(7, &["bridge: got \"cni0\"", ONLY]);

    node.conf["shareDefaultBridge"] = json!(true);
    let pod = joining(&node, absent);
    node.add(&pod).result();
    node.del(&pod).quiet();
    // Its gateway is the default network's all the same.
    let pod = joining(&node, forced);
    node.add(&pod)
        .refused(7, &["forceAddress: got true", "10.10.0.1/24 of bridge cni0 is that of network default-net"]);
    assert_eq!(node.netns.addresses("cni0"), held);
    node.del(&first).quiet();
    clean(&node);
}

#[test]
fn flannels_bridge_is_the_default_networks_too() {
    let mut node = node();
    let env = node.path("subnet.env");
    fs::write(
        &env,
        "FLANNEL_NETWORK=10.20.0.0/16\nFLANNEL_SUBNET=10.20.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
    )
    .unwrap();
    for (delegate, name) in [(json!({}), "cni0"), (json!({"bridge": "fl0"}), "fl0")] {
        node.conf["delegates"] = json!([{
            "cniVersion": "1.0.0", "name": "cbr0", "type": "flannel", "subnetFile": env, "dataDir": node.path("flannel"),
            "ipam": {"dataDir": node.path("addresses")}, "delegate": delegate,
        }]);
        let pod = joining(&node, json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": name}));
        node.add(&pod).refused(7, &[&format!("bridge: got \"{name}\", want another than the default network's")]);
        pod.assert_empty();
    }
}
