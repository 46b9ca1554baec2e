//! `meta-cni.io/addresses` on a real kernel: attachments without addresses, with those of one family, and with addresses outside of a pool.

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// Default network, and `lan`, a bridge whose `ipam` is of this type and gives .10 to .20 of a subnet in both families.
fn scene(kind: &str) -> Node {
    let mut node = Node::new();
    let ipam = node.host_local("10.10.0.0/24");
    node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "main", "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipam": ipam}]);
    let mut ipam = json!({"type": kind, "routes": [{"dst": "10.99.0.0/16"}, {"dst": "fd99::/64"}], "ranges": [
        [{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.10", "rangeEnd": "10.9.0.20", "gateway": "10.9.0.1"}],
        [{"subnet": "fd09::/64", "rangeStart": "fd09::10", "rangeEnd": "fd09::20", "gateway": "fd09::1"}]]});
    if kind == "host-local" {
        ipam["dataDir"] = json!(node.path("addresses"));
    }
    node.nad(
        "lan",
        json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-lan", "capabilities": {"ips": true}, "ipam": ipam}),
    );
    node
}

fn pod(node: &Node, name: &str, request: Value, ips: Value) -> Pod {
    node.pod(name, &json!([{"name": "lan", "meta-cni.io/addresses": request, "ips": ips}]).to_string())
}

fn addresses(pod: &Pod) -> Vec<String> {
    let link = &pod.netns.ip("address show dev net1")[0];
    let each = link["addr_info"].as_array().unwrap().iter().filter(|one| one["scope"] == "global");
    each.map(|one| format!("{}/{}", one["local"].as_str().unwrap(), one["prefixlen"])).collect()
}

fn disables_ipv6(pod: &Pod) -> bool {
    pod.netns.run("cat /proc/sys/net/ipv6/conf/net1/disable_ipv6").trim() == "1"
}

fn ends(node: &Node, pod: &Pod) {
    node.del(pod).quiet();
    pod.assert_empty();
    node.assert_clean();
}

#[test]
fn none_is_layer_2_alone_without_ipv6() {
    for kind in ["host-local", "blocks"] {
        let node = scene(kind);
        let pod = pod(&node, "web", json!("none"), json!([]));
        let result = node.add(&pod).result();
        assert_eq!(addresses(&pod), Vec::<String>::new());
        assert!(disables_ipv6(&pod));
        assert_eq!(node.status(&pod)[1].get("ips"), None);
        node.check(&pod, &result).quiet();
        pod.netns.run("sysctl -q -w net.ipv6.conf.net1.disable_ipv6=0");
        let refusal = node.check(&pod, &result).refusal();
        assert!(refusal.text.contains("sysctl net.ipv6.conf.net1.disable_ipv6 of the pod is"), "{}", refusal.text);
        ends(&node, &pod);
    }
}

#[test]
fn a_family_alone_has_its_addresses_and_routes() {
    for kind in ["host-local", "blocks"] {
        let node = scene(kind);
        for (request, want, is_off) in
            [(json!({"ipv4": "dynamic", "ipv6": "none"}), "10.9.0.", true), (json!({"ipv4": "none"}), "fd09::", false)]
        {
            let pod = pod(&node, "web", request, json!([]));
            let result = node.add(&pod).result();
            let held = addresses(&pod);
            assert!(held.len() == 1 && held[0].starts_with(want), "{kind}: {held:?}");
            assert_eq!(disables_ipv6(&pod), is_off);
            let routes = pod.netns.run("ip -6 route show dev net1") + &pod.netns.run("ip route show dev net1");
            assert_eq!((routes.contains("10.99.0.0/16"), routes.contains("fd99::/64")), (is_off, !is_off), "{routes}");
            node.check(&pod, &result).quiet();
            ends(&node, &pod);
        }
    }
}

#[test]
fn a_static_address_may_be_outside_of_the_ranges_and_one_inside_is_one_pods() {
    for kind in ["host-local", "blocks"] {
        let node = scene(kind);
        let outside = pod(&node, "outside", json!("static"), json!(["10.9.0.200"]));
        let result = node.add(&outside).result();
        assert_eq!(addresses(&outside), ["10.9.0.200/24"]);
        assert!(disables_ipv6(&outside));
        assert!(outside.netns.run("ip route show dev net1").contains("10.99.0.0/16 via 10.9.0.1"));
        node.check(&outside, &result).quiet();

        let both = pod(&node, "both", json!("static"), json!(["10.9.0.201", "fd09::201"]));
        node.add(&both).result();
        assert_eq!(addresses(&both), ["10.9.0.201/24", "fd09::201/64"]);
        assert!(!disables_ipv6(&both));

        let first = pod(&node, "first", json!({"ipv4": "static"}), json!(["10.9.0.15"]));
        node.add(&first).result();
        assert_eq!(addresses(&first)[0], "10.9.0.15/24");
        let second = pod(&node, "second", json!({"ipv4": "static"}), json!(["10.9.0.15"]));
        let refusal = node.add(&second).refusal();
        let holder = if kind == "blocks" { "pods/first" } else { "10.9.0.15" };
        assert!(refusal.text.contains(holder) || refusal.text.contains("first"), "{}", refusal.text);
        for (ips, why) in [(json!(["10.8.0.1"]), "a subnet of the network"), (json!(["10.9.0.1"]), "is the gateway")] {
            let wrong = pod(&node, "wrong", json!("static"), ips);
            node.add(&wrong).refused(7, &["networks[0].meta-cni.io/addresses", why]);
        }
        for pod in [&outside, &both, &first] {
            node.del(pod).quiet();
        }
        node.assert_clean();
    }
}

#[test]
fn a_program_is_not_told_of_the_ipam_and_its_link_has_no_ipv6() {
    let node = scene("host-local");
    node.nad("far", json!({"cniVersion": "1.0.0", "type": "one", "ipam": {"type": "two"}}));
    let pod = node.pod("web", r#"[{"name":"far","meta-cni.io/addresses":"none"}]"#);
    for line in ["ip link add net1 type veth peer name far1", "ip link set net1 up"] {
        pod.netns.run(line);
    }
    let answer = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "sandbox": pod.netns.text()}]});
    node.fakes.rules("one", &[Rule::on("ADD").answers(&answer)]);
    let result = node.add(&pod).result();
    assert!(disables_ipv6(&pod));
    assert_eq!(node.fakes.calls_of("ADD")[0].conf().get("ipam"), None);
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    pod.netns.run("ip link del net1");
    node.assert_clean();

    let one = node.pod("one", r#"[{"name":"far","meta-cni.io/addresses":{"ipv6":"none"}}]"#);
    node.add(&one)
        .refused(7, &["networks[0].meta-cni.io/addresses", "ipam.type \"two\" cannot give those of one alone"]);
    node.assert_clean();
}
