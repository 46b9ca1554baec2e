//! route-override, and types under other names.

use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// A node whose definition `lan` is a bridge with both families and these routes, and behind it the plugin with these keys.
fn scene(kind: &str, keys: Value) -> Node {
    let mut node = Node::new();
    let two = |v4: &str, v6: &str, routes: Value| json!({"type": "static", "addresses": [{"address": format!("10.{v4}.0.5/24"), "gateway": format!("10.{v4}.0.1")}, {"address": format!("fd00:{v6}::5/64"), "gateway": format!("fd00:{v6}::1")}], "routes": routes});
    let defaults = || json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": two("10", "10", defaults())}]);
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.90.0.0/16"}, {"dst": "10.91.0.0/16", "gw": "10.11.0.9"}, {"dst": "fd90::/64"}]);
    let bridge = json!({"type": "bridge", "bridge": "br-a", "isGateway": true, "ipam": two("11", "11", routes)});
    let mut plugin = json!({"type": kind});
    for (key, value) in keys.as_object().unwrap() {
        plugin[key] = value.clone();
    }
    node.nad("lan", json!({"cniVersion": "1.0.0", "plugins": [bridge, plugin]}));
    node
}

/// The routes of the pod's second link that somebody added, as the kernel has them.
fn routes(pod: &Pod) -> Vec<String> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        let listed = pod.netns.ip(&format!("{family} route show"));
        for route in listed.as_array().unwrap() {
            let hops = route["nexthops"].as_array().cloned().unwrap_or_else(|| vec![route.clone()]);
            for hop in hops.iter().filter(|hop| hop["dev"] == "net1" && route["protocol"] != "kernel") {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                found.push(format!("{} {}", text(&route["dst"]), text(&hop["gateway"])).trim().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// ADD, CHECK, the routes, DEL.
fn after(keys: Value) -> Vec<String> {
    let node = scene("route-override", keys);
    let pod = node.pod("web", "lan");
    let result = node.add(&pod).result();
    node.check(&pod, &result).quiet();
    let found = routes(&pod);
    assert_eq!(
        pod.netns.default_routes("-4").iter().filter(|route| route.ends_with("eth0")).count(),
        1,
        "another network's stay"
    );
    assert!(pod.netns.run("ip -6 route show default").contains("via fd00:10::1 dev eth0"), "one hop of two");
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean_but(&["cni0", "br-a"]);
    found
}

const OTHERS: [&str; 3] = ["10.90.0.0/16 10.11.0.1", "10.91.0.0/16 10.11.0.9", "fd90::/64 fd00:11::1"];

#[test]
fn routes_are_flushed_deleted_and_added_in_both_families() {
    // Both networks' IPv6 default routes are one route with two next hops.
    let defaults = ["default 10.11.0.1", "default fd00:11::1"];
    assert_eq!(after(json!({})), [&OTHERS[..2], &defaults, &OTHERS[2..]].concat());
    assert_eq!(after(json!({"flushgateway": true})), OTHERS);
    assert_eq!(after(json!({"flushroutes": true})), [""; 0]);
    let deleted = json!([{"dst": "10.91.0.0/16"}, {"dst": "10.90.0.0/16", "gw": "10.11.0.77"}, {"dst": "fd90::/64"}, {"dst": "10.1.0.0/16"}, {"dst": "::/0"}]);
    assert_eq!(after(json!({"delroutes": deleted})), [OTHERS[0], defaults[0]]);
    let added = json!([{"dst": "10.95.0.0/16"}, {"dst": "fd95::/64", "gw": "fd00:11::9"}, {"dst": "10.90.0.0/16", "gw": "10.11.0.9"}]);
    assert_eq!(
        after(json!({"flushroutes": true, "addroutes": added})),
        ["10.90.0.0/16 10.11.0.9", "10.95.0.0/16 10.11.0.1", "fd95::/64 fd00:11::9"]
    );
}

#[test]
fn check_finds_a_route_that_came_back_and_one_that_went() {
    let keys = |more: bool| json!({"delroutes": [{"dst": "10.91.0.0/16"}], "addroutes": [{"dst": "10.95.0.0/16"}], "skipcheck": more});
    let node = scene("route-override", keys(false));
    let pod = node.pod("web", "lan");
    let result = node.add(&pod).result();
    node.check(&pod, &result).quiet();
    pod.netns.run("ip route add 10.91.0.0/16 via 10.11.0.9");
    node.check(&pod, &result).refused(105, &["default/lan", "10.91.0.0/16 via 10.11.0.9", "net1"]);
    pod.netns.run("ip route del 10.91.0.0/16");
    pod.netns.run("ip route del 10.95.0.0/16");
    node.check(&pod, &result).refused(105, &["10.95.0.0/16"]);
    node.del(&pod).quiet();

    let node = scene("route-override", keys(true));
    let pod = node.pod("web", "lan");
    let result = node.add(&pod).result();
    pod.netns.run("ip route add 10.91.0.0/16 via 10.11.0.9");
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
}

#[test]
fn a_route_that_cannot_be_added_fails_the_add_and_leaves_nothing() {
    let node = scene("route-override", json!({"addroutes": [{"dst": "10.95.0.0/16", "gw": "192.0.2.1"}]}));
    let pod = node.pod("web", "lan");
    let refusal = node.add(&pod).refusal();
    assert!(refusal.text.contains("default/lan") && refusal.text.contains("192.0.2.1"), "{}", refusal.text);
    pod.assert_empty();
    node.del(&pod).quiet();
    node.assert_clean_but(&["cni0", "br-a"]);
}

#[test]
fn a_pods_arguments_count_and_wrong_ones_are_named() {
    let node = scene("route-override", json!({"flushroutes": true}));
    let pod = node.pod("web", r#"[{"name":"lan","cni-args":{"flushroutes":false,"delroutes":[{"dst":"::/0"}]}}]"#);
    node.add(&pod).result();
    assert_eq!(routes(&pod), [OTHERS[0], OTHERS[1], "default 10.11.0.1", OTHERS[2]]);
    node.del(&pod).quiet();
    let pod = node.pod("bad", r#"[{"name":"lan","cni-args":{"addroutes":[{"dst":"10.0.0.0"}]}}]"#);
    node.add(&pod).refused(7, &["args.cni.addroutes[0].dst", "10.0.0.0"]);
    pod.assert_empty();
}

#[test]
fn without_a_plugin_before_it_there_is_nothing_to_override() {
    let node = Node::new();
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "route-override", "flushroutes": true}));
    let pod = node.pod("web", "lan");
    let refusal = node.add(&pod).refusal();
    assert!(refusal.text.contains("prevResult"), "{}", refusal.text);
    pod.assert_empty();
}

/// A definition of the cluster's network add-ons: their names, our delegates.
fn of_addons(node: &Node) {
    let bridge = json!({"type": "cnv-bridge", "bridge": "br-a", "ipam": node.host_local("10.11.0.0/24")});
    node.nad("lan", json!({"cniVersion": "1.0.0", "plugins": [bridge, {"type": "cnv-tuning", "mtu": 1400}]}));
}

#[test]
fn a_type_under_another_name_is_that_type() {
    let node = Node::new();
    // A program of the name is there, and is not asked.
    node.fakes.install("cnv-bridge");
    of_addons(&node);
    let pod = node.pod("web", "lan");
    let result = node.add(&pod).result();
    assert_eq!((pod.netns.kind("net1"), pod.netns.link("net1")["mtu"].clone()), ("veth".to_owned(), json!(1400)));
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean_but(&["br-a"]);

    let node = scene("route-overwrite", json!({"flushroutes": true}));
    let pod = node.pod("web", "lan");
    node.add(&pod).result();
    assert_eq!(routes(&pod), [""; 0]);
    node.del(&pod).quiet();
}

#[test]
fn a_type_that_is_switched_off_is_a_program_under_its_other_name_too() {
    let mut node = Node::new();
    node.conf["builtin"] = json!(["tuning", "host-local"]);
    of_addons(&node);
    let pod = node.pod("web", "lan");
    node.add(&pod).refused(7, &["cnv-bridge"]);
    node.conf["builtin"] = json!(["cnv-bridge", "tuning", "host-local"]);
    let pod = node.pod("other", "lan");
    node.add(&pod).result();
    assert_eq!(pod.netns.kind("net1"), "veth");
    node.del(&pod).quiet();
    node.assert_clean_but(&["br-a"]);
}
