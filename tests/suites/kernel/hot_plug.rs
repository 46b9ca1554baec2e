//! Hot-plug on a real kernel: links of one pod come and go beside others, and default routes move and come back.

use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// Default network, `net-a` and `net-b`, each with a gateway in both families; the default network has the default routes.
pub fn node() -> Node {
    let mut node = Node::new();
    let bridge = |node: &Node, bridge: &str, number: u8| {
        let ranges = json!([[{"subnet": format!("10.{number}.0.0/24")}], [{"subnet": format!("fd00:{number}::/64")}]]);
        let ipam = json!({"type": "host-local", "dataDir": node.path("addresses"), "ranges": ranges});
        json!({"cniVersion": "1.0.0", "name": bridge, "type": "bridge", "bridge": bridge, "isGateway": true, "ipam": ipam})
    };
    let mut main = bridge(&node, "cni0", 10);
    main["isDefaultGateway"] = json!(true);
    node.conf["delegates"] = json!([main]);
    for (name, number) in [("br-a", 11), ("br-b", 12)] {
        node.nad(&name.replace("br", "net"), bridge(&node, name, number));
    }
    node
}

/// A pod there with these networks, and what the runtime was told of it.
fn scene(networks: &str) -> (Node, Pod, Value) {
    let node = node();
    let pod = node.pod("web", networks);
    let result = node.add(&pod).result();
    (node, pod, result)
}

fn defaults(pod: &Pod) -> Vec<String> {
    let four = pod.netns.default_routes("-4").into_iter();
    four.chain(pod.netns.default_routes("-6")).map(|route| route.to_string()).collect()
}

fn plug(node: &Node, pod: &Pod, networks: &str) {
    node.edit(pod, networks);
    node.hot_plug(pod).result();
}

const OF_ETH0: [&str; 2] = ["10.10.0.1 eth0", "fd00:10::1 eth0"];

#[test]
fn links_come_and_go_and_the_others_are_not_touched() {
    let (node, pod, result) = scene("net-a,net-a");
    let kept = pod.netns.link("net2");
    plug(&node, &pod, "net-a@net2,net-b@data");
    assert_eq!(pod.netns.links(), ["data", "eth0", "net2"]);
    assert_eq!(pod.netns.link("net2")["ifindex"], kept["ifindex"]);
    assert_eq!(defaults(&pod), OF_ETH0);
    node.check(&pod, &result).quiet();
    plug(&node, &pod, "net-b");
    assert_eq!(pod.netns.links(), ["data", "eth0"]);
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean();
}

#[test]
fn what_fails_is_taken_out_and_links_that_the_pod_has_changed_stay() {
    let (node, pod, _) = scene("net-a");
    // The pod has taken its link out of the set, or given it another address: it is not what a failure takes back.
    pod.netns.run("ip link set net1 address 02:00:00:00:00:77");
    node.edit(&pod, r#"[{"name":"net-a","interface":"net1"},{"name":"net-b"},{"name":"net-b","ips":["10.99.0.1"]}]"#);
    node.hot_plug(&pod).refusal();
    assert_eq!(pod.netns.links(), ["eth0", "net1"]);
    assert_eq!(defaults(&pod), OF_ETH0);
    plug(&node, &pod, "net-a,net-b");
    assert_eq!(pod.netns.links(), ["eth0", "net1", "net2"]);
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean();
}

#[test]
fn a_name_that_the_pod_took_itself_is_refused_and_left_to_it() {
    let (node, pod, _) = scene("net-a");
    pod.netns.run("ip link add mine type veth peer name other");
    node.edit(&pod, "net-a,net-b@mine");
    node.hot_plug(&pod).refused(101, &["mine"]);
    assert_eq!(pod.netns.links(), ["eth0", "mine", "net1", "other"]);
    pod.netns.run("ip link delete mine");
    node.hot_plug(&pod).result();
    assert_eq!(pod.netns.links(), ["eth0", "mine", "net1"]);
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean();
}

#[test]
fn default_routes_go_to_who_asks_for_them_and_come_back() {
    let (node, pod, result) = scene("");
    let takes = |network: &str, gateways: Value| json!({"name": network, "default-route": gateways});
    let list = |elements: &[&Value]| json!(elements).to_string();
    let (a, b) = (takes("net-a", json!(["10.11.0.1"])), takes("net-b", json!(["fd00:12::1"])));
    plug(&node, &pod, &list(&[&a]));
    assert_eq!(defaults(&pod), ["10.11.0.1 net1", "fd00:10::1 eth0"]);
    node.check(&pod, &result).quiet();
    plug(&node, &pod, &list(&[&a, &b]));
    assert_eq!(defaults(&pod), ["10.11.0.1 net1", "fd00:12::1 net2"]);
    assert_eq!(node.status(&pod)[1]["default-route"], json!(["10.11.0.1"]));
    node.check(&pod, &result).quiet();
    plug(&node, &pod, &list(&[&b]));
    assert_eq!(defaults(&pod), ["10.10.0.1 eth0", "fd00:12::1 net2"]);
    // From one to the other in one edit.
    let c = takes("net-a", json!(["10.11.0.1", "fd00:11::1"]));
    plug(&node, &pod, &list(&[&c]));
    assert_eq!(defaults(&pod), ["10.11.0.1 net1", "fd00:11::1 net1"]);
    node.check(&pod, &result).quiet();
    plug(&node, &pod, "");
    assert_eq!(defaults(&pod), OF_ETH0);
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn default_routes_that_an_add_has_moved_come_back_and_a_gateway_that_is_not_there_moves_none() {
    let (node, pod, result) = scene(r#"[{"name":"net-a","default-route":["10.11.0.1"]}]"#);
    assert_eq!(defaults(&pod), ["10.11.0.1 net1", "fd00:10::1 eth0"]);
    plug(&node, &pod, "net-b");
    assert_eq!(defaults(&pod), OF_ETH0);
    node.check(&pod, &result).quiet();
    node.edit(&pod, r#"[{"name":"net-b"},{"name":"net-a","default-route":["10.99.0.1"]}]"#);
    node.hot_plug(&pod).refusal();
    assert_eq!(defaults(&pod), OF_ETH0);
    assert_eq!(pod.netns.links(), ["eth0", "net2"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn host_ports_of_the_others_stay_when_one_goes_on_host() {
    let (node, pod, result) = {
        let mut node = Node::new();
        let chain = |node: &Node, bridge: &str, number: u8| {
            let ipam = node.host_local(&format!("10.{number}.0.0/24"));
            let link = json!({"type": "bridge", "bridge": bridge, "isGateway": true, "ipam": ipam});
            json!({"cniVersion": "1.0.0", "name": bridge, "plugins": [link, {"type": "portmap", "capabilities": {"portMappings": true}}]})
        };
        node.conf["delegates"] = json!([chain(&node, "cni0", 10)]);
        node.nad("net-a", chain(&node, "br-a", 11));
        let pod = node.pod("web", "");
        let mapping = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
        let result = node.call("ADD", &pod).conf("runtimeConfig", mapping).run().result();
        (node, pod, result)
    };
    let mapped = || {
        let rules = node.netns.run("nft list ruleset");
        [8080, 8081].map(|port| rules.contains(&format!("dport {port}")))
    };
    assert_eq!(mapped(), [true, false]);
    let taken = r#"[{"name":"net-a","portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}]"#;
    node.edit(&pod, taken);
    node.hot_plug(&pod).refused(7, &["8080"]);
    plug(&node, &pod, &taken.replace("8080", "8081"));
    assert_eq!(mapped(), [true, true]);
    node.check(&pod, &result).quiet();
    plug(&node, &pod, "");
    assert_eq!(mapped(), [true, false]);
    node.del(&pod).quiet();
    assert_eq!(mapped(), [false, false]);
}
