//! What a tenant's definition cannot have of the node, with the plugin as it is called: nothing is attached before.

use std::net::TcpListener;

use meta_cni_tests::node::Node;
use serde_json::json;

/// A node with a LAN on `up0` and the next hop of its default route there.
fn node() -> Node {
    let node = Node::new();
    node.netns.run("ip link add up0 type veth peer name far0");
    node.netns.run("ip link set up0 up");
    node.netns.run("ip link set far0 up");
    node.netns.run("ip address add 192.168.1.5/24 dev up0");
    node.netns.run("ip route add default via 192.168.1.1");
    node
}

fn fixed(address: &str, gateway: &str) -> serde_json::Value {
    json!({"type": "static", "addresses": [{"address": address, "gateway": gateway}]})
}

#[test]
fn a_subnet_or_an_address_of_the_node() {
    let gateway =
        |ipam| json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-t", "isGateway": true, "ipam": ipam});
    let ptp = |ipam| json!({"cniVersion": "1.0.0", "type": "ptp", "ipam": ipam});
    let lan = "192.168.1.5/24 of link up0";
    for (conf, words) in [
        (gateway(fixed("10.0.0.2/2", "10.0.0.1")), ["10.0.0.1/2", "8 or more"]),
        (gateway(fixed("192.168.0.2/16", "192.168.0.1")), ["gateway 192.168.0.1/16", lan]),
        (gateway(json!({"type": "host-local", "subnet": "192.168.1.64/26"})), ["gateway 192.168.1.65/26", lan]),
        (ptp(fixed("192.168.1.1/32", "169.254.1.1")), ["address 192.168.1.1", lan]),
        (ptp(fixed("10.43.0.2/24", "192.168.1.5")), ["gateway 192.168.1.5", lan]),
    ] {
        for builtin in [json!(["bridge", "ptp", "host-local", "static"]), json!(["dummy"])] {
            let mut node = self::node();
            node.conf["builtin"] = builtin;
            node.nad("mine", conf.clone());
            let pod = node.pod("web", "mine");
            let mut words = words.to_vec();
            words.push("network default/mine (net1): ipam");
            node.add(&pod).refused(7, &words);
            assert!(node.fakes.calls().is_empty(), "the default network is not attached before");
            node.assert_clean_but(&["up0", "far0"]);
        }
    }
}

/// Both networks are known to be possible until the first of them is there.
#[test]
fn two_networks_of_one_pod_that_overlap() {
    let node = node();
    for (name, bridge) in [("net-a", "br-a"), ("net-b", "br-b")] {
        let ipam = node.host_local("10.50.0.0/24");
        node.nad(name, json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": bridge, "isGateway": true, "ipam": ipam}));
    }
    let pod = node.pod("web", "net-a,net-b");
    node.add(&pod).refused(7, &["network default/net-b (net2): ipam", "10.50.0.1/24 of link br-a of the node"]);
    pod.assert_empty();
    node.assert_clean_but(&["up0", "far0"]);
    let alone = node.pod("alone", "net-a");
    node.add(&alone).result();
    node.del(&alone).quiet();
    node.assert_clean_but(&["up0", "far0"]);
}

#[test]
fn a_port_on_which_the_node_listens_on_host() {
    let mut node = node();
    let listener = node.netns.inside(|| TcpListener::bind("127.0.0.1:8080").unwrap());
    let first = json!({"type": "bridge", "bridge": "br-t", "isGateway": true, "ipam": node.host_local("10.50.0.0/24")});
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    node.nad("mine", json!({"cniVersion": "1.0.0", "plugins": [first, portmap]}));
    let wants = |port: u16| format!(r#"[{{"name":"mine","portMappings":[{{"hostPort":{port},"containerPort":80}}]}}]"#);
    for builtin in [json!(["bridge", "host-local", "portmap"]), json!(["bridge", "host-local"])] {
        node.conf["builtin"] = builtin;
        let pod = node.pod("web", &wants(8080));
        let words =
            ["network default/mine (net1): runtimeConfig.portMappings[0].hostPort", "listens on 127.0.0.1:8080"];
        node.add(&pod).refused(7, &words);
        assert!(node.fakes.calls().is_empty());
    }
    node.conf["builtin"] = json!(["bridge", "host-local", "portmap"]);
    let (one, two) = (node.pod("one", &wants(8081)), node.pod("two", &wants(8081)));
    node.add(&one).result();
    node.fakes.take_order();
    node.add(&two).refused(7, &[&format!("container {} has it", one.container)]);
    assert!(node.fakes.calls().is_empty());
    node.del(&one).quiet();
    node.add(&two).result();
    node.del(&two).quiet();
    drop(listener);
    let free = node.pod("free", &wants(8080));
    node.add(&free).result();
    node.del(&free).quiet();
    node.assert_clean_but(&["up0", "far0"]);
}
