//! Routes and rules that a pod asks for on one of its links: into main and into tables, for both families, whatever has made the link.

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::Pod;
use serde_json::{Value, json};

use crate::hot_plug::node as scene;

fn routes(pod: &Pod, family: &str, table: &str) -> Vec<String> {
    let told = pod.netns.run(&format!("ip {family} route show table {table}"));
    let is_ours = |line: &&str| line.contains("proto 121");
    told.lines().filter(is_ours).map(|line| line.split(" proto").next().unwrap().trim().to_owned()).collect()
}

fn rules(pod: &Pod, family: &str) -> Vec<String> {
    let told = pod.netns.run(&format!("ip {family} rule"));
    let words = |line: &str| line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ");
    told.lines().map(words).filter(|line| !line.starts_with("from all")).collect()
}

/// DANM's `routes` and `proutes` in our words.
fn asked() -> Value {
    json!({"name": "net-a",
        "meta-cni.io/routes": [
            {"dst": "10.20.0.0/16", "gw": "10.11.0.1"}, {"dst": "fd20::/64", "gw": "fd00:11::1"},
            {"dst": "10.21.0.5/24"},
            {"dst": "0.0.0.0/0", "gw": "10.11.0.1", "table": 10}, {"dst": "::/0", "gw": "fd00:11::1", "table": 10},
            {"dst": "10.30.0.0/24", "gw": "10.21.0.9", "table": 11}],
        "meta-cni.io/rules": [{"from": "10.11.0.0/24", "table": 10}, {"from": "fd00:11::/64", "table": 10}]})
}

#[test]
fn routes_go_into_main_and_into_tables_with_rules_in_both_families_and_go_again() {
    let node = scene();
    let pod = node.pod("web", &json!([asked()]).to_string());
    let result = node.add(&pod).result();
    assert_eq!(routes(&pod, "-4", "main"), ["10.20.0.0/16 via 10.11.0.1 dev net1", "10.21.0.0/24 dev net1"]);
    assert_eq!(routes(&pod, "-6", "main"), ["fd20::/64 via fd00:11::1 dev net1"]);
    assert_eq!(routes(&pod, "-4", "10"), ["default via 10.11.0.1 dev net1"]);
    assert_eq!(routes(&pod, "-6", "10"), ["default via fd00:11::1 dev net1"]);
    assert_eq!(routes(&pod, "-4", "11"), ["10.30.0.0/24 via 10.21.0.9 dev net1"]);
    assert_eq!(rules(&pod, "-4"), ["from 10.11.0.0/24 lookup 10 proto 121"]);
    assert_eq!(rules(&pod, "-6"), ["from fd00:11::/64 lookup 10 proto 121"]);
    assert_eq!(pod.netns.default_routes("-4"), ["10.10.0.1 eth0"], "a default route of a table is not the pod's");
    let way = pod.netns.run("ip route get 198.51.100.1 from 10.11.0.2");
    assert!(way.contains("via 10.11.0.1 dev net1"), "{way}");
    let status = node.status(&pod);
    assert_eq!(status[1]["meta-cni.io/routes"][0], json!({"dst": "10.20.0.0/16", "gw": "10.11.0.1"}));
    assert_eq!(status[1]["meta-cni.io/rules"][0], json!({"from": "10.11.0.0/24", "table": 10}));
    assert!(status[0].get("meta-cni.io/routes").is_none() && status[1].get("gateway").is_none(), "{status}");
    node.check(&pod, &result).quiet();

    for (change, back, text) in [
        (
            "ip rule del from 10.11.0.0/24 table 10",
            "ip rule add from 10.11.0.0/24 table 10",
            "no rule that sends packets from 10.11.0.0/24 to table 10",
        ),
        (
            "ip route del default table 10",
            "ip route add default via 10.11.0.1 table 10",
            "route 0.0.0.0/0 via 10.11.0.1 is missing in table 10",
        ),
        (
            "ip -6 route del fd20::/64",
            "ip -6 route add fd20::/64 via fd00:11::1",
            "route fd20::/64 via fd00:11::1 is missing in table 254",
        ),
    ] {
        pod.netns.run(change);
        let refusal = node.check(&pod, &result).refusal();
        assert!(refusal.text.contains(text), "{}", refusal.text);
        let differences = node.differences();
        assert!(differences.iter().any(|told| told.contains(text)), "{differences:?}");
        pod.netns.run(back);
        node.check(&pod, &result).quiet();
    }
    // What somebody else has put in by now is not ours.
    pod.netns.run("ip rule add from 10.11.0.0/24 table 77");
    node.del(&pod).quiet();
    assert_eq!(rules(&pod, "-4"), ["from 10.11.0.0/24 lookup 77", "from 10.11.0.0/24 lookup 10"]);
    assert_eq!(rules(&pod, "-6"), Vec::<String>::new());
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean();
}

#[test]
fn hot_plug_brings_them_and_takes_them_and_what_two_share_stays_with_the_second() {
    let node = scene();
    let pod = node.pod("web", "");
    let result = node.add(&pod).result();
    let plug = |networks: Value| {
        node.edit(&pod, &networks.to_string());
        node.hot_plug(&pod).result();
        node.check(&pod, &result).quiet();
    };
    let rule = json!([{"from": "10.0.0.0/8", "table": 10}]);
    let b = json!({"name": "net-b", "interface": "b", "meta-cni.io/rules": rule,
        "meta-cni.io/routes": [{"dst": "10.40.0.0/16", "gw": "10.12.0.1", "table": 10}]});
    let a = json!({"name": "net-a", "interface": "a", "meta-cni.io/rules": rule,
        "meta-cni.io/routes": [{"dst": "0.0.0.0/0", "gw": "10.11.0.1", "table": 10}]});
    plug(json!([a, b]));
    assert_eq!(rules(&pod, "-4"), ["from 10.0.0.0/8 lookup 10 proto 121"]);
    assert_eq!(routes(&pod, "-4", "10"), ["default via 10.11.0.1 dev a", "10.40.0.0/16 via 10.12.0.1 dev b"]);
    plug(json!([b]));
    assert_eq!(rules(&pod, "-4"), ["from 10.0.0.0/8 lookup 10 proto 121"]);
    assert_eq!(routes(&pod, "-4", "10"), ["10.40.0.0/16 via 10.12.0.1 dev b"]);
    plug(json!([]));
    assert_eq!(rules(&pod, "-4"), Vec::<String>::new());
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_repair_brings_them_back_with_the_link() {
    let node = scene();
    let pod = node.pod("web", &json!([asked()]).to_string());
    let result = node.add(&pod).result();
    pod.netns.run("ip link del net1");
    node.repair(&pod).result();
    node.check(&pod, &result).quiet();
    assert_eq!(rules(&pod, "-4"), ["from 10.11.0.0/24 lookup 10 proto 121"]);
    assert_eq!(routes(&pod, "-4", "10"), ["default via 10.11.0.1 dev net1"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_default_route_of_main_moves_the_pods_and_a_second_one_is_refused() {
    let node = scene();
    let takes =
        |network: &str, dst: &str, gw: &str| json!({"name": network, "meta-cni.io/routes": [{"dst": dst, "gw": gw}]});
    let pod = node.pod("web", &json!([takes("net-a", "0.0.0.0/0", "10.11.0.1")]).to_string());
    let result = node.add(&pod).result();
    assert_eq!(pod.netns.default_routes("-4"), ["10.11.0.1 net1"]);
    assert_eq!(pod.netns.default_routes("-6"), ["fd00:10::1 eth0"]);
    assert_eq!(node.status(&pod)[1]["default-route"], json!(["10.11.0.1"]));
    node.check(&pod, &result).quiet();
    node.edit(&pod, "");
    node.hot_plug(&pod).result();
    assert_eq!(pod.netns.default_routes("-4"), ["10.10.0.1 eth0"]);
    node.del(&pod).quiet();

    let two = json!([takes("net-a", "::/0", "fd00:11::1"), {"name": "net-b", "default-route": ["fd00:12::1"]}]);
    let pod = node.pod("two", &two.to_string());
    node.add(&pod).refused(7, &["networks[1].default-route", "[0] takes the IPv6 default route"]);
    pod.assert_empty();
    node.assert_clean();
}

#[test]
fn what_the_kernel_or_the_link_cannot_have_fails_the_add_and_leaves_nothing() {
    let node = scene();
    for (routes, words) in [
        (
            json!([{"dst": "10.20.0.0/16", "gw": "10.99.0.1"}]),
            ["got 10.99.0.1", "an address that net1 reaches by itself: 10.11.0.0/24"],
        ),
        (json!([{"dst": "10.20.0.0/16"}, {"dst": "10.10.0.0/24", "table": 9}, {"dst": "10.11.0.0/24"}]), ["", ""]),
    ] {
        let element = json!({"name": "net-a", "meta-cni.io/routes": routes, "meta-cni.io/rules": [{"from": "10.11.0.0/24", "table": 9}]});
        let pod = node.pod("web", &json!([element]).to_string());
        let outcome = node.add(&pod);
        if words[0].is_empty() {
            // The delegate has made that very route.
            outcome.result();
            node.del(&pod).quiet();
        } else {
            let refusal = outcome.refusal();
            assert!(words.iter().all(|word| refusal.text.contains(word)), "{}", refusal.text);
        }
        pod.assert_empty();
        assert_eq!(rules(&pod, "-4"), Vec::<String>::new());
        node.assert_clean();
    }
    // One that another link of the pod has.
    let element = json!({"name": "net-a", "meta-cni.io/routes": [{"dst": "10.10.0.0/24", "gw": "10.11.0.1"}]});
    let pod = node.pod("other", &json!([element]).to_string());
    let refusal = node.add(&pod).refusal();
    let text = "got 10.10.0.0/24, want a destination that the pod has no route to in table 254: one leads by eth0";
    assert!(refusal.text.contains(text), "{}", refusal.text);
    pod.assert_empty();
    node.assert_clean();
}

#[test]
fn the_link_of_a_program_gets_them_too() {
    let node = scene();
    node.nad("far", json!({"cniVersion": "1.0.0", "type": "one"}));
    let element = json!({"name": "far",
        "meta-cni.io/routes": [{"dst": "10.20.0.0/16", "gw": "10.60.0.1"}, {"dst": "0.0.0.0/0", "gw": "10.60.0.1", "table": 10}],
        "meta-cni.io/rules": [{"from": "10.60.0.0/24", "table": 10}]});
    let pod = node.pod("web", &json!([element]).to_string());
    for line in [
        "ip link add net1 type veth peer name far1",
        "ip address add 10.60.0.7/24 dev net1",
        "ip link set net1 up",
        "ip link set far1 up",
    ] {
        pod.netns.run(line);
    }
    let answer = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "sandbox": pod.netns.text()}],
        "ips": [{"address": "10.60.0.7/24", "interface": 0}]});
    node.fakes.rules("one", &[Rule::on("ADD").answers(&answer)]);
    let result = node.add(&pod).result();
    assert_eq!(routes(&pod, "-4", "main"), ["10.20.0.0/16 via 10.60.0.1 dev net1"]);
    assert_eq!(routes(&pod, "-4", "10"), ["default via 10.60.0.1 dev net1"]);
    let told = node.fakes.calls_of("ADD");
    assert!(told[0].conf().get("meta-cni.io/routes").is_none());
    node.check(&pod, &result).quiet();
    let check = node.fakes.calls_of("CHECK");
    assert!(
        !check[0].conf()["prevResult"].to_string().contains("10.20.0.0"),
        "a program is not told of what it did not make"
    );
    node.del(&pod).quiet();
    // The program's link is its own matter; what we have added is gone before.
    assert_eq!(routes(&pod, "-4", "main"), Vec::<String>::new());
    assert_eq!(rules(&pod, "-4"), Vec::<String>::new());
    pod.netns.run("ip link del net1");
    node.assert_clean();
}

#[test]
fn in_a_vrf_they_are_in_its_table_on_uml() {
    let node = scene();
    let ipam = node.host_local("10.13.0.0/24");
    node.nad("blue", json!({"cniVersion": "1.0.0", "plugins": [
        {"type": "bridge", "bridge": "br-v", "isGateway": true, "ipam": ipam}, {"type": "vrf", "vrfname": "blue", "table": 500}]}));
    let element = json!({"name": "blue", "meta-cni.io/routes": [{"dst": "10.20.0.0/16", "gw": "10.13.0.1"}]});
    let pod = node.pod("web", &json!([element]).to_string());
    let result = node.add(&pod).result();
    assert_eq!(routes(&pod, "-4", "500"), ["10.20.0.0/16 via 10.13.0.1 dev net1"]);
    assert_eq!(routes(&pod, "-4", "main"), Vec::<String>::new());
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean();
}
