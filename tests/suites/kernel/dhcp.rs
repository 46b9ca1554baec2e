//! `ipam.type` `dhcp`: a lease from a server on the pod's own wire, its life and its end.

use std::time::{Duration, Instant};

use meta_cni_tests::dhcp::{Dnsmasq, FakeServer, Mood, wire};
use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// A node on a wire, with a network `lan` of these keys.
fn scene(kind: &str, keys: Value) -> (Node, Netns) {
    let node = Node::new();
    let far = wire(&node);
    lan(&node, kind, keys);
    (node, far)
}

fn lan(node: &Node, kind: &str, keys: Value) {
    let mut conf = json!({"cniVersion": "1.0.0", "type": kind, "master": "up0", "ipam": {"type": "dhcp"}});
    for (key, value) in keys.as_object().unwrap() {
        conf[key] = value.clone();
    }
    node.nad("lan", conf);
}

fn macvlan() -> (Node, Netns) {
    scene("macvlan", json!({}))
}

/// The file of a pod's lease.
fn lease_of(node: &Node, pod: &Pod) -> Value {
    let path = node.path(&format!("state/dhcp/{},net1", pod.container));
    serde_json::from_slice(&std::fs::read(path).unwrap_or_default()).unwrap_or_default()
}

/// What the agent does when it is time.
fn renew(node: &Node, pod: &Pod) -> Value {
    let call = node.bare_call("").without("CNI_COMMAND").args(["renew".to_owned(), format!("{},net1", pod.container)]);
    call.run().result()
}

/// The same until it comes to this.
#[track_caller]
fn comes_to(node: &Node, pod: &Pod, outcome: &str) -> Value {
    let began = Instant::now();
    loop {
        let renewal = renew(node, pod);
        if renewal["outcome"] == outcome {
            return renewal;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "never {outcome}: {renewal}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn address(pod: &Pod) -> Vec<String> {
    pod.netns.addresses("net1")
}

/// Everything about a lease of dnsmasq, for a kind of link.
fn lives(node: &Node, far: &Netns) {
    let options = ["--dhcp-option=3,10.9.0.1", "--dhcp-option=121,10.8.0.0/16,10.9.0.4,0.0.0.0/0,10.9.0.1"];
    let server = Dnsmasq::start(far, &options);
    let pod = node.pod("web", "lan");
    let result = node.add(&pod).result();
    let held = address(&pod);
    let [address] = held.as_slice() else { panic!("{held:?}: {}", server.log()) };
    let hex = |text: &str| text.bytes().map(|byte| format!(":{byte:02x}")).collect::<String>();
    let bare = address.trim_end_matches("/24");
    // The record has the name of the network as the client's identifier has it.
    let id = format!("00{}", hex(&format!("{}/lan/net1", pod.container)));
    assert_eq!(server.leases(), [format!("{bare} web {id}")]);
    let routes = pod.netns.run("ip route show dev net1");
    assert!(routes.contains("10.8.0.0/16 via 10.9.0.4 metric 77"), "{routes}");
    assert!(pod.netns.pings("10.9.0.1"));
    assert!(node.status(&pod)[1]["ips"][0] == bare, "{}", node.status(&pod));
    node.check(&pod, &result).quiet();
    let lease = lease_of(node, &pod);
    assert_eq!(
        (&lease["state"], &lease["expiry"], &lease["server"]),
        (&json!("bound"), &json!(120), &json!("10.9.0.1"))
    );
    assert_eq!(renew(node, &pod)["outcome"], "waits");

    std::fs::remove_file(node.path(&format!("state/dhcp/{},net1", pod.container))).unwrap();
    node.check(&pod, &result).refused(105, &["lease of net1 is not known"]);
    std::fs::write(node.path(&format!("state/dhcp/{},net1", pod.container)), lease.to_string()).unwrap();
    node.del(&pod).quiet();
    server.has_nothing();
    node.del(&pod).quiet();
    pod.assert_empty();
}

fn asking() -> Value {
    json!({"ipam": {"type": "dhcp", "priority": 77, "request": [{"option": "121"}],
        "provide": [{"option": "host-name", "fromArg": "K8S_POD_NAME"}]}})
}

#[test]
fn a_macvlan_gets_its_address_from_dnsmasq_and_gives_it_back() {
    let (node, far) = scene("macvlan", asking());
    lives(&node, &far);
    node.assert_clean_but(&["up0"]);
}

#[test]
fn a_port_of_a_bridge_does_too() {
    let (node, far) = scene("bridge", asking());
    lan(&node, "bridge", {
        let mut keys = asking();
        keys["bridge"] = json!("lan0");
        keys
    });
    node.netns.run("ip link add lan0 type bridge");
    node.netns.run("ip link set lan0 up");
    node.netns.run("ip link set up0 master lan0");
    lives(&node, &far);
    node.assert_clean_but(&["up0"]);
}

#[test]
fn a_device_of_the_node_does_too() {
    let (node, far) = scene("host-device", json!({}));
    let mut keys = asking();
    keys["device"] = json!("up0");
    lan(&node, "host-device", keys);
    lives(&node, &far);
    assert_eq!(node.netns.links(), ["up0"], "it is home");
    node.assert_clean_but(&["up0"]);
}

#[test]
fn an_ipvlan_does_too_though_it_shares_its_hardware_address_on_uml() {
    let (node, far) = scene("ipvlan", asking());
    lives(&node, &far);
    let server = Dnsmasq::start(&far, &[]);
    let pods = [node.pod("one", "lan"), node.pod("two", "lan")];
    pods.iter().for_each(|pod| drop(node.add(pod).result()));
    assert_eq!(server.leases().len(), 2, "told apart by their identifiers");
    pods.iter().for_each(|pod| node.del(pod).quiet());
    server.has_nothing();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn a_server_gives_an_ipvlan_no_address_of_the_node_on_uml() {
    let (node, far) = scene("ipvlan", json!({}));
    let server = FakeServer::start(&far, Mood::Grants(600));
    node.netns.run("ip address add 10.9.0.7/32 dev lo");
    let pod = node.pod("web", "lan");
    node.add(&pod).refused(7, &["10.9.0.7", "addresses that the node does not have itself"]);
    server.hears("release 10.9.0.7");
    pod.assert_empty();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn a_vlan_does_too_on_uml() {
    let node = Node::new();
    let far = wire(&node);
    far.run("ip link set up0 down");
    far.run("ip link set up0 name trunk");
    far.run("ip link add link trunk name up0 type vlan id 100");
    far.run("ip link set trunk up");
    far.run("ip link set up0 up");
    far.run("ip address flush dev trunk");
    far.run("ip address add 10.9.0.1/24 dev up0");
    let mut keys = asking();
    keys["vlanId"] = json!(100);
    lan(&node, "vlan", keys);
    lives(&node, &far);
    node.assert_clean_but(&["up0"]);
}

#[test]
fn a_bond_of_the_pods_links_does_too_on_uml() {
    let (node, far) = macvlan();
    for name in ["left", "right"] {
        node.nad(name, json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "up0"}));
    }
    let links = json!({"mode": "active-backup", "miimon": "100", "failOverMac": 1, "linksInContainer": true, "links": [{"name": "net1"}, {"name": "net2"}]});
    lan(&node, "bond", links);
    let server = Dnsmasq::start(&far, &[]);
    let pod = node.pod("web", "left,right,lan@bond0");
    let result = node.add(&pod).result();
    assert_eq!((pod.netns.addresses("bond0").len(), server.leases().len()), (1, 1), "{}", server.log());
    assert!(pod.netns.pings("10.9.0.1"));
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    server.has_nothing();
    pod.assert_empty();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn without_a_server_the_pod_is_told_and_nothing_stays() {
    let (mut node, far) = macvlan();
    node.conf["timeoutSeconds"] = json!(3);
    let server = FakeServer::start(&far, Mood::Away);
    for (mood, code, why) in [
        (Mood::Away, 11, "no DHCP server has answered in"),
        (Mood::Raves, 11, "no DHCP server has answered in"),
        (Mood::Refuses, 110, "10.9.0.1 took its offer of 10.9.0.7 back"),
        (Mood::Hesitates, 110, "10.9.0.1 offered 10.9.0.7 and did not answer"),
    ] {
        server.is(mood);
        let pod = node.pod("web", "lan");
        node.add(&pod).refused(code, &["default/lan (net1)", why]);
        pod.assert_empty();
        node.assert_clean_but(&["up0"]);
    }
    assert!(server.heard().contains(&"release 10.9.0.7".to_owned()), "what may have been granted was given back");
}

#[test]
fn types_that_lead_to_no_server_refuse_it() {
    let (node, _far) = macvlan();
    for kind in ["ptp", "dummy", "vxlan"] {
        lan(&node, kind, json!({"vni": 4200}));
        let pod = node.pod("web", "lan");
        node.add(&pod).refused(7, &[&format!("{kind} makes no link to a DHCP server")]);
        node.assert_clean_but(&["up0"]);
    }
}

#[test]
fn a_lease_is_renewed_and_outlives_its_server_for_as_long_as_it_is() {
    let (node, far) = macvlan();
    let server = FakeServer::start(&far, Mood::Grants(8));
    let pod = node.pod("web", "lan");
    let result = node.add(&pod).result();
    let routes = || pod.netns.run("ip route show dev net1");
    let (held, led) = (address(&pod), routes());
    assert_eq!(held, ["10.9.0.7/24"]);
    assert!(led.contains("default via 10.9.0.1"), "{led}");
    let first = lease_of(&node, &pod)["since"].as_u64().unwrap();

    let renewed = comes_to(&node, &pod, "renewed");
    assert_eq!((&renewed["pod"]["name"], &renewed["address"]), (&json!("web"), &json!("10.9.0.7/24")));
    assert!(renewed["next"].as_u64().unwrap() <= 4, "{renewed}");
    assert!(lease_of(&node, &pod)["since"].as_u64().unwrap() > first);
    assert_eq!(server.heard().last().unwrap(), "request 10.9.0.7");

    server.is(Mood::Away);
    let silent = comes_to(&node, &pod, "silent");
    assert_eq!((&silent["toEverybody"], address(&pod)), (&json!(false), held.clone()));
    let lost = comes_to(&node, &pod, "lost");
    assert!(lost["why"].as_str().unwrap().starts_with("it is over"), "{lost}");
    assert!(address(&pod).is_empty() && !routes().contains("default"), "{}", routes());
    node.check(&pod, &result).refused(105, &["lease of net1 of 10.9.0.7/24 is over"]);
    assert_eq!(renew(&node, &pod)["outcome"], "stillLost");

    server.is(Mood::OffersAnother);
    let other = comes_to(&node, &pod, "stillLost");
    assert!(other["why"].as_str().unwrap().contains("10.9.0.1 offers 10.9.0.8/24 in its place"), "{other}");
    assert!(!server.heard().iter().any(|heard| heard == "request 10.9.0.8"), "{:?}", server.heard());

    server.is(Mood::Grants(600));
    comes_to(&node, &pod, "regained");
    assert_eq!((address(&pod), routes()), (held, led));
    node.check(&pod, &result).quiet();
    assert_eq!(renew(&node, &pod)["outcome"], "waits");
    node.del(&pod).quiet();
    server.hears("release 10.9.0.7");
    assert_eq!(renew(&node, &pod)["outcome"], "gone");
    node.assert_clean_but(&["up0"]);
}

#[test]
fn dnsmasq_renews_a_lease_whatever_the_pod_calls_its_link_and_whichever_address_that_has() {
    let (node, far) = macvlan();
    let plugins = json!([{"type": "macvlan", "master": "up0", "ipam": {"type": "dhcp"}}, {"type": "tuning", "mac": "02:00:00:00:00:77"}]);
    node.nad("lan", json!({"cniVersion": "1.0.0", "name": "lan", "plugins": plugins}));
    let server = Dnsmasq::start(&far, &["--dhcp-option=option:T1,4", "--dhcp-option=option:T2,8"]);
    let pod = node.pod("web", "lan");
    node.add(&pod).result();
    let held = address(&pod);
    assert_eq!(pod.netns.link("net1")["address"], "02:00:00:00:00:77");
    assert_eq!(lease_of(&node, &pod)["renewal"], 4);
    let acknowledged = || server.log().matches("DHCPACK").count();
    comes_to(&node, &pod, "renewed");
    // More than one, where the server's kernel still knew the link by its first address.
    assert!(acknowledged() >= 2, "{}", server.log());
    assert_eq!(address(&pod), held);
    node.del(&pod).quiet();
    server.has_nothing();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn a_server_that_refuses_takes_the_address_at_once() {
    let (node, far) = macvlan();
    let server = FakeServer::start(&far, Mood::Grants(4));
    let pod = node.pod("web", "lan");
    node.add(&pod).result();
    server.is(Mood::Refuses);
    let lost = comes_to(&node, &pod, "lost");
    assert!(lost["why"].as_str().unwrap().contains("not this pod's"), "{lost}");
    assert!(address(&pod).is_empty());
    let before = server.heard().len();
    node.del(&pod).quiet();
    assert!(!server.heard()[before..].iter().any(|heard| heard.starts_with("release")), "it is not ours to give");
    node.assert_clean_but(&["up0"]);
}

#[test]
fn a_kill_while_the_address_is_being_granted_loses_nothing() {
    let (node, far) = macvlan();
    let server = FakeServer::start(&far, Mood::Hesitates);
    let pod = node.pod("web", "lan");
    let mut adding = node.call("ADD", &pod).start();
    server.hears("request 10.9.0.7");
    adding.kill();
    adding.finish(Duration::from_secs(5));
    assert_eq!(lease_of(&node, &pod)["state"], "offered");
    assert_eq!(renew(&node, &pod)["outcome"], "waits", "that is for DEL");
    node.del(&pod).quiet();
    server.hears("release 10.9.0.7");
    pod.assert_empty();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn a_pod_that_is_gone_leaves_no_lease_on_the_node() {
    let (node, far) = macvlan();
    let server = Dnsmasq::start(&far, &[]);
    let pod = node.pod("web", "lan");
    node.add(&pod).result();
    pod.netns.remove();
    assert_eq!(renew(&node, &pod)["outcome"], "gone");
    node.del(&pod).quiet();
    assert_eq!(server.leases().len(), 1, "nobody could tell it");
    node.assert_clean_but(&["up0"]);

    // A record that is gone leaves a file that no DEL will find.
    let pod = node.pod("web", "lan");
    node.add(&pod).result();
    let (name, kept) = (format!("state/dhcp/{},net1", pod.container), lease_of(&node, &pod));
    node.del(&pod).quiet();
    std::fs::write(node.path(&name), kept.to_string()).unwrap();
    node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).run().quiet();
    node.assert_clean_but(&["up0"]);
}

#[test]
fn fifty_pods_at_once_get_fifty_addresses() {
    let (node, far) = macvlan();
    let server = Dnsmasq::start(&far, &["--dhcp-lease-max=1000"]);
    let pods: Vec<Pod> = (0..50).map(|i| node.pod(&format!("p{i}"), "lan")).collect();
    let adding: Vec<_> = pods.iter().map(|pod| node.call("ADD", pod).start()).collect();
    for running in adding {
        let finished = running.finish(Duration::from_secs(60));
        assert_eq!(finished.code, Some(0), "{}", String::from_utf8_lossy(&finished.stdout));
    }
    let mut held: Vec<String> = pods.iter().flat_map(address).collect();
    held.sort();
    held.dedup();
    assert_eq!((held.len(), server.leases().len()), (50, 50));
    pods.iter().for_each(|pod| node.del(pod).quiet());
    server.has_nothing();
    node.assert_clean_but(&["up0"]);
}
