//! Bridges with host-local: what the kernel holds after ADD, what is left after DEL, alone and beside the reference plugins.

use meta_cni_tests::call::Outcome;
use meta_cni_tests::node::{Node, Pod};
use meta_cni_tests::program;
use serde_json::{Value, json};

/// A node whose default network is our own bridge.
fn node() -> Node {
    let mut node = Node::new();
    node.conf["delegates"] = json!([bridge(&node, "default-net", "cni0", "10.10.0.0/24")]);
    node.conf["delegates"][0]["isDefaultGateway"] = json!(true);
    node
}

fn bridge(node: &Node, name: &str, bridge: &str, subnet: &str) -> Value {
    json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": bridge, "ipam": node.host_local(subnet)})
}

#[test]
fn a_pod_with_four_bridges_holds_what_the_result_says() {
    let node = node();
    for (name, dev, subnet) in
        [("net-a", "br-a", "10.11.0.0/24"), ("net-b", "br-b", "10.12.0.0/24"), ("net-c", "br-c", "fd00:13::/64")]
    {
        node.nad(name, bridge(&node, name, dev, subnet));
    }
    let pod = node.pod("web", "net-a,net-b,net-c@wan");
    let result = node.add(&pod).result();
    assert_eq!(pod.netns.links(), ["eth0", "net1", "net2", "wan"]);
    let in_pod = |name: &str| {
        let found = result["interfaces"]
            .as_array()
            .unwrap()
            .iter()
            .find(|i| i["name"] == name && i["sandbox"] == pod.netns.text());
        found.unwrap_or_else(|| panic!("{name} in {result}")).clone()
    };
    for (name, dev, address) in [
        ("eth0", "cni0", "10.10.0.2/24"),
        ("net1", "br-a", "10.11.0.2/24"),
        ("net2", "br-b", "10.12.0.2/24"),
        ("wan", "br-c", "fd00:13::2/64"),
    ] {
        let link = pod.netns.link(name);
        assert_eq!(pod.netns.kind(name), "veth");
        assert_eq!(pod.netns.addresses(name), [address]);
        assert!(link["flags"].as_array().unwrap().contains(&json!("UP")), "{link}");
        assert_eq!(in_pod(name)["mac"], link["address"]);
        assert_eq!(node.netns.kind(dev), "bridge");
    }
    assert_eq!(result["ips"], json!([{"address": "10.10.0.2/24", "gateway": "10.10.0.1", "interface": 2}]));
    assert_eq!(result["interfaces"][2]["name"], "eth0", "the default's indexes stay");
    assert_eq!(pod.netns.default_routes("-4"), ["10.10.0.1 eth0"]);
    assert!(pod.netns.pings("10.10.0.1"));
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean();
    node.del(&pod).quiet();
}

#[test]
fn pods_on_one_bridge_reach_each_other() {
    let node = node();
    node.nad("net-a", bridge(&node, "net-a", "br-a", "10.11.0.0/24"));
    let (one, two) = (node.pod("one", "net-a"), node.pod("two", "net-a"));
    node.add(&one).result();
    node.add(&two).result();
    assert!(one.netns.pings("10.11.0.3"));
    node.del(&one).quiet();
    assert!(two.netns.pings("10.10.0.1"), "the other pod keeps its network");
    node.del(&two).quiet();
    node.assert_clean();
}

#[test]
fn mac_mtu_and_address_can_be_asked_for() {
    let node = node();
    let mut conf = bridge(&node, "net-a", "br-a", "10.11.0.0/24");
    conf["mtu"] = json!(1400);
    conf["capabilities"] = json!({"mac": true, "ips": true});
    node.nad("net-a", conf);
    let pod = node.pod("web", r#"[{"name":"net-a","mac":"02:00:5e:00:00:07","ips":["10.11.0.77"]}]"#);
    node.add(&pod).result();
    let link = pod.netns.link("net1");
    assert_eq!((&link["address"], &link["mtu"]), (&json!("02:00:5e:00:00:07"), &json!(1400)));
    assert_eq!(pod.netns.addresses("net1"), ["10.11.0.77/24"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn check_sees_what_was_changed_behind_our_back() {
    let node = node();
    let pod = node.pod("web", "");
    for damage in
        ["ip address flush dev eth0", "ip link set eth0 name eth9", "ip link del eth0", "ip route flush default"]
    {
        let result = node.add(&pod).result();
        node.check(&pod, &result).quiet();
        pod.netns.run("ip link set eth0 down");
        pod.netns.run(damage);
        node.check(&pod, &result).refusal();
        node.del(&pod).quiet();
        pod.assert_empty();
        node.assert_clean();
    }
}

#[test]
fn exhausted_addresses_are_code_110_and_leave_nothing() {
    let node = node();
    node.nad("tiny", bridge(&node, "tiny", "br-t", "10.14.0.0/30"));
    let (one, two) = (node.pod("one", "tiny"), node.pod("two", "tiny"));
    node.add(&one).result();
    node.add(&two).refused(110, &["default/tiny"]);
    two.assert_empty();
    node.del(&one).quiet();
    node.add(&two).result();
    node.del(&two).quiet();
    node.assert_clean();
}

#[test]
fn an_interface_that_exists_is_refused_and_kept() {
    let node = node();
    node.nad("net-a", bridge(&node, "net-a", "br-a", "10.11.0.0/24"));
    let pod = node.pod("web", "net-a");
    pod.netns.run("ip link add net1 type veth peer name other");
    node.add(&pod).refused(101, &["net1"]);
    assert_eq!(pod.netns.links(), ["net1", "other"]);
    node.del(&pod).quiet();
    assert_eq!(pod.netns.links(), ["net1", "other"]);
    node.assert_clean();
}

#[test]
fn a_second_add_is_refused_and_the_first_still_works() {
    let node = node();
    let pod = node.pod("web", "");
    node.add(&pod).result();
    node.add(&pod).refusal();
    assert!(pod.netns.pings("10.10.0.1"));
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_bridge_that_is_none_is_refused() {
    let node = node();
    node.netns.run("ip link add br-x type veth peer name other");
    node.nad("net-x", bridge(&node, "net-x", "br-x", "10.15.0.0/24"));
    let pod = node.pod("web", "net-x");
    node.add(&pod).refused(102, &["default/net-x", "br-x"]);
    pod.assert_empty();
    node.assert_clean_but(&["br-x", "other"]);
}

#[test]
fn ours_and_the_reference_plugins_share_one_network() {
    let mut node = node();
    let (ours, theirs) = (node.pod("ours", ""), node.pod("theirs", ""));
    node.add(&ours).result();
    node.conf["builtin"] = json!([]);
    node.add(&theirs).result();
    assert_eq!(ours.netns.addresses("eth0"), ["10.10.0.2/24"]);
    assert_eq!(theirs.netns.addresses("eth0"), ["10.10.0.3/24"]);
    assert!(ours.netns.pings("10.10.0.3"));
    node.del(&ours).quiet();
    let third = node.pod("third", "");
    node.add(&third).result();
    assert_eq!(third.netns.addresses("eth0"), ["10.10.0.4/24"]);
    let all = json!(["bridge", "host-local"]);
    node.conf["builtin"] = all;
    node.del(&theirs).quiet();
    node.del(&third).quiet();
    node.assert_clean();
}

#[test]
fn a_pod_of_the_reference_plugins_goes_without_a_record() {
    let mut node = node();
    let (old, ours) = (node.pod("old", ""), node.pod("ours", ""));
    node.add(&ours).result();
    node.conf["builtin"] = json!([]);
    node.add(&old).result();
    // As if another primary plugin had made the pod.
    for record in node.files("state").into_iter().filter(|path| path.contains(&old.container)) {
        std::fs::remove_file(node.path(&record)).unwrap();
    }
    node.conf["builtin"] = json!(["bridge", "host-local"]);
    let misled = node.call("DEL", &old).env("CNI_NETNS", ours.netns.text());
    misled.run().quiet();
    assert_eq!(ours.netns.addresses("eth0"), ["10.10.0.2/24"], "a link of another record stays");
    node.del(&old).quiet();
    old.assert_empty();
    node.del(&ours).quiet();
    node.assert_clean();
}

#[test]
fn built_in_bridge_then_portmap_in_process_or_executed_on_host() {
    for builtin in [json!(["bridge", "host-local", "portmap"]), json!(["bridge", "host-local"])] {
        let mut node = node();
        let mut first = bridge(&node, "default-net", "cni0", "10.10.0.0/24");
        first["isDefaultGateway"] = json!(true);
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables"});
        node.conf["builtin"] = builtin;
        node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "default-net", "plugins": [first, portmap]}]);
        node.conf["runtimeConfig"] =
            json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
        let pod = node.pod("web", "");
        node.add(&pod).result();
        let rules = |node: &Node| node.netns.run("nft list ruleset") + &node.netns.run("iptables-save -t nat");
        assert!(rules(&node).contains("8080"), "{}", rules(&node));
        node.conf.as_object_mut().unwrap().remove("runtimeConfig");
        node.del(&pod).quiet();
        assert!(!rules(&node).contains("8080"), "{}", rules(&node));
        pod.assert_empty();
        node.assert_clean();
    }
}

/// A chain of everything, none of it a process: `tuning` changes what `bridge` made, and `sbr` notes rules.
#[test]
fn a_chain_in_process_comes_and_goes_on_host() {
    let mut node = node();
    let mut first = bridge(&node, "default-net", "cni0", "10.10.0.0/24");
    first["isDefaultGateway"] = json!(true);
    let plugins = json!([
        first,
        {"type": "tuning", "mac": "02:00:00:00:00:09", "mtu": 1300, "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}},
        {"type": "bandwidth", "ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 8000000, "egressBurst": 800000},
        {"type": "portmap", "capabilities": {"portMappings": true}},
        {"type": "sbr"},
    ]);
    node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "default-net", "plugins": plugins}]);
    node.conf["runtimeConfig"] = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
    let pod = node.pod("web", "");
    let result = node.add(&pod).result();
    assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:09", "{result}");
    let turn = result["interfaces"][3]["name"].as_str().unwrap().to_owned();
    assert!(turn.starts_with("bwp"), "{result}");
    assert!(pod.netns.run("ip rule").contains("from 10.10.0.2 lookup 100"));
    node.call("CHECK", &pod).run().quiet();
    node.del(&pod).quiet();
    assert!(!node.netns.run("ip link").contains(&turn) && !node.netns.run("nft list ruleset").contains("8080"));
    assert!(!pod.netns.run("ip rule").contains("10.10.0.2"));
    pod.assert_empty();
    node.assert_clean();
}

/// The usual default network of a flannel cluster. There is no program of any of these names to be run.
#[test]
fn flannel_with_portmap_and_bandwidth_starts_no_process_on_host() {
    let mut node = node();
    let env = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    std::fs::write(node.path("subnet.env"), env).unwrap();
    let ipam = json!({"dataDir": node.path("networks")});
    let (subnet_file, notes) = (node.path("subnet.env"), node.path("flannel"));
    let plugins = json!([
        {"type": "flannel", "subnetFile": subnet_file, "dataDir": notes, "ipam": ipam,
            "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
        {"type": "portmap", "capabilities": {"portMappings": true}},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}},
    ]);
    node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "cbr0", "plugins": plugins}]);
    node.conf["runtimeConfig"] = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 8000000, "ingressBurst": 4294967295u32},
    });
    let pod = node.pod("web", "");
    let result = node.add(&pod).result();
    assert_eq!(result["ips"][0]["address"], "10.244.1.2/24", "{result}");
    assert!(node.netns.run("nft list ruleset").contains("tcp dport 8080 dnat to 10.244.1.2:80"));
    assert!(node.netns.run("tc qdisc show").contains("rate 8Mbit"));
    node.call("CHECK", &pod).run().quiet();
    node.del(&pod).quiet();
    assert!(!node.netns.run("nft list ruleset").contains("8080"));
    assert!(node.files("flannel").is_empty() && !node.files("networks").iter().any(|file| file.contains("10.244.1.2")));
    pod.assert_empty();
}

#[test]
fn masquerading_comes_and_goes_with_the_pod_on_host() {
    let mut node = node();
    node.conf["delegates"][0]["ipMasq"] = json!(true);
    let pod = node.pod("web", "");
    node.add(&pod).result();
    let rules = node.netns.run("nft list ruleset");
    assert!(rules.contains("masquerade") && rules.contains("10.10.0.2"), "{rules}");
    node.del(&pod).quiet();
    let rules = node.netns.run("nft list ruleset");
    assert!(!rules.contains("10.10.0.2"), "{rules}");
    node.assert_clean();
}

#[test]
fn a_packet_filter_that_refuses_fails_the_add_and_nothing_is_left_on_host() {
    let mut node = node();
    node.conf["delegates"][0]["ipMasq"] = json!(true);
    // Somebody else's chain has our chain's name and another hook.
    let theirs = "add table inet cni_plugins_masquerade; \
        add chain inet cni_plugins_masquerade postrouting { type filter hook forward priority 0; }";
    node.netns.inside(|| program::run("nft", [theirs]));
    let before = node.netns.run("nft list ruleset");
    let pod = node.pod("web", "");
    let refusal = node.add(&pod).refusal();
    assert!(refusal.text.contains("nftables") && refusal.text.contains("cni_plugins_masquerade"), "{}", refusal.text);
    pod.assert_empty();
    node.assert_clean();
    assert_eq!(node.netns.run("nft list ruleset"), before);
    node.del(&pod).quiet();
}

#[test]
fn fifty_adds_at_once_get_fifty_addresses() {
    let node = node();
    node.nad("net-a", bridge(&node, "net-a", "br-a", "10.11.0.0/24"));
    let pods: Vec<Pod> = (0..50).map(|i| node.pod(&format!("web-{i}"), "net-a")).collect();
    let running: Vec<_> = pods.iter().map(|pod| node.call("ADD", pod).start()).collect();
    let mut addresses: Vec<String> = Vec::new();
    for add in running {
        addresses.push(Outcome::of("ADD", add).result()["ips"][0]["address"].as_str().unwrap().to_owned());
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 50);
    let running: Vec<_> = pods.iter().map(|pod| node.call("DEL", pod).start()).collect();
    for del in running {
        Outcome::of("DEL", del).quiet();
    }
    node.assert_clean();
}

#[test]
fn gc_removes_what_nobody_owns() {
    let node = node();
    let (lost, kept) = (node.pod("lost", ""), node.pod("kept", ""));
    node.add(&lost).result();
    node.add(&kept).result();
    let valid = json!([{"containerID": kept.container, "ifname": "eth0"}]);
    node.bare_call("GC").conf("cni.dev/valid-attachments", valid).run().quiet();
    lost.assert_empty();
    assert!(kept.netns.pings("10.10.0.1"));
    node.del(&kept).quiet();
    node.assert_clean();
}

#[test]
fn keys_in_any_case_make_the_same_bridge() {
    let node = node();
    let ranges = json!([[{"Subnet": "10.11.0.0/24", "rangestart": "10.11.0.77"}]]);
    let ipam = json!({"Type": "host-local", "datadir": node.text("addresses"), "Ranges": ranges});
    let conf = json!({"cniVersion": "1.0.0", "Type": "bridge", "BRIDGE": "br-a", "isgateway": true, "MTU": 1400, "IPAM": ipam});
    node.nad("net-a", conf);
    let pod = node.pod("web", r#"[{"Name":"net-a"}]"#);
    node.add(&pod).result();
    assert_eq!(pod.netns.addresses("net1"), ["10.11.0.77/24"]);
    assert_eq!(pod.netns.link("net1")["mtu"], 1400);
    assert_eq!(node.netns.addresses("br-a"), ["10.11.0.1/24"]);
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean();
}

#[test]
fn a_name_that_the_kernel_takes_for_a_template_makes_no_bridge() {
    let node = node();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br%d"}));
    let pod = node.pod("web", "net-a");
    node.add(&pod).refused(7, &["default/net-a", "bridge: got \"br%d\""]);
    let links = node.netns.links();
    assert!(!links.iter().any(|name| name.starts_with("br")), "{links:?}");
    node.assert_clean();
}
