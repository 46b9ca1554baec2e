//! The samples of the repositories of CNI-Genie, DANM and Knitter with their dialect on, and what `meta-cnictl migrate` makes of them with
//! dialects off: a pod has the same interfaces, addresses, routes and rules, and its node the same links. Nothing differs on purpose.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod};
use meta_cni_tests::program;
use serde_json::{Value, json};

const DANM: &str = include_str!("migrated/danm.yaml");
const GENIE: &str = include_str!("migrated/genie.yaml");
const KNITTER: &str = include_str!("migrated/knitter.yaml");

/// A node with the wires `up0` and `up1`, and a default network of its own.
fn scene() -> Node {
    let mut node = Node::new();
    for (wire, other) in [("up0", "far0"), ("up1", "far1")] {
        node.netns.run(&format!("ip link add {wire} type veth peer name {other}"));
        node.netns.run(&format!("ip link set {wire} up"));
        node.netns.run(&format!("ip link set {other} up"));
    }
    // Where tunnels end.
    node.netns.run("ip address add 192.0.2.1/24 dev up1");
    node.conf["sharedLinks"] = json!(["up0", "up1"]);
    let default = bridge(&node, "default-net", "cni0", "10.10.0.0/24");
    node.conf["delegates"] = json!([default]);
    node
}

fn bridge(node: &Node, name: &str, bridge: &str, subnet: &str) -> Value {
    json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": bridge, "isDefaultGateway": true,
        "ipam": node.host_local(subnet)})
}

fn file(node: &Node, name: &str, conf: &Value) {
    fs::write(node.path(&format!("conf/{name}")), conf.to_string()).unwrap();
}

/// The objects of a file of manifests, pods with a uid.
fn objects(text: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    for (number, object) in objects.iter_mut().enumerate().filter(|(_, object)| object["kind"] == "Pod") {
        object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
        object["spec"] = json!({"containers": [{"name": "main", "image": "registry.k8s.io/pause"}]});
    }
    objects
}

/// What `migrate` prints of these objects and the node's files.
fn migrated(node: &Node, dialect: &str, objects: &[Value]) -> Vec<Value> {
    let list = node.path("samples.json");
    fs::write(&list, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()).unwrap();
    let mut command = program::command(program::built("meta-cnictl"));
    command.args(["migrate", dialect]).arg(list);
    command.args(fs::read_dir(node.path("conf")).unwrap().map(|entry| entry.unwrap().path()));
    let finished = program::start(&mut command, b"").finish(Duration::from_secs(30));
    let (out, err) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
    assert_eq!(finished.code, Some(0), "{out}{err}");
    let moved: Vec<Value> = serde_saphyr::from_multiple(&out).unwrap();
    let is_foreign = |object: &&Value| {
        let text = object.to_string();
        ["danm.io", "danm.k8s.io", "alpha.network.k8s.io", "\"cni\":", "\"networks\":"]
            .iter()
            .any(|word| text.contains(word))
    };
    assert_eq!(moved.iter().find(is_foreign), None, "something is as it was");
    moved
}

/// Makes these objects all that the cluster has.
fn store(node: &Node, objects: &[Value]) {
    let manifests = node.path("manifests");
    fs::remove_dir_all(&manifests).unwrap();
    fs::create_dir(&manifests).unwrap();
    for (number, object) in objects.iter().enumerate() {
        node.manifest(&format!("{number:02}.json"), object.to_string());
    }
}

/// What each pod has, one after the other, each on a node that has given no address yet.
fn all(node: &Node, objects: &[Value]) -> Vec<(String, BTreeSet<String>)> {
    store(node, objects);
    let pods = objects.iter().filter(|object| object["kind"] == "Pod");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    pods.map(|object| {
        let metadata = &object["metadata"];
        let name = text(&metadata["name"]).unwrap();
        let namespace = text(&metadata["namespace"]).unwrap_or_else(|| "default".to_owned());
        let pod = Pod { namespace, ..node.sandbox(&name, metadata["uid"].as_str().unwrap()) };
        let outcome = node.add(&pod);
        assert!(outcome.succeeded(), "{name}: {}{}", outcome.stdout(), outcome.stderr());
        let mut seen = seen(&pod.netns);
        let links = node.netns.ip("link show");
        let kinds = ["vlan", "vxlan", "bridge"];
        for link in links.as_array().unwrap() {
            let kind = link["linkinfo"]["info_kind"].as_str().unwrap_or_default();
            if kinds.contains(&kind) {
                let id = &link["linkinfo"]["info_data"]["id"];
                seen.insert(format!("node: {} {kind} {id} on {}", link["ifname"], link["link"]));
            }
        }
        node.del(&pod).quiet();
        node.assert_clean_but(&["up0", "up1", "far0", "far1"]);
        forget(node);
        (name, seen)
    })
    .collect()
}

/// Takes away what stays with a node, so that the next pod is its first.
fn forget(node: &Node) {
    for link in node.netns.links().iter().filter(|name| node.netns.kind(name) == "bridge") {
        node.netns.run(&format!("ip link delete {link}"));
    }
    for dir in ["state", "addresses"].map(|sub| node.path(sub)).iter().filter(|dir| dir.exists()) {
        fs::remove_dir_all(dir).unwrap();
    }
}

/// Links, addresses, routes and rules of a pod, a line each.
fn seen(netns: &Netns) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut ipv6 = "sysctl".to_owned();
    let links = netns.ip("address show");
    for link in links.as_array().unwrap().iter().filter(|link| link["ifname"] != "lo") {
        let (name, info) = (link["ifname"].as_str().unwrap(), &link["linkinfo"]);
        seen.insert(format!("{name} {} {}, mtu {}", info["info_kind"], info["info_data"]["mode"], link["mtu"]));
        let addresses = link["addr_info"].as_array().into_iter().flatten().filter(|one| one["scope"] == "global");
        seen.extend(addresses.map(|one| format!("{name} has {}/{}", one["local"], one["prefixlen"])));
        ipv6.push_str(&format!(" net/ipv6/conf/{name}/disable_ipv6"));
    }
    seen.extend(netns.run(&ipv6).lines().map(str::to_owned));
    for family in ["-4", "-6"] {
        let routes = netns.run(&format!("ip {family} route show table all"));
        let is_local = |line: &&str| line.contains("table local") || line.starts_with("fe80::/64");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        seen.extend(routes.lines().filter(|line| !is_local(line)).map(|line| format!("route {}", words(line))));
        let rules = netns.run(&format!("ip {family} rule"));
        seen.extend(rules.lines().map(|line| format!("rule {family} {}", words(line))));
    }
    seen
}

/// Compares all samples of a dialect.
#[track_caller]
fn compare(mut node: Node, dialect: &str, samples: &str) {
    let samples = objects(samples);
    let moved = migrated(&node, dialect, &samples);
    node.conf["dialects"] = json!([dialect]);
    node.conf["runtimeConfDir"] = json!(node.path("conf"));
    let before = all(&node, &samples);
    for key in ["dialects", "runtimeConfDir"] {
        node.conf.as_object_mut().unwrap().remove(key);
    }
    // What is read of the node's files is in the definitions by now.
    fs::remove_dir_all(node.path("conf")).unwrap();
    fs::create_dir(node.path("conf")).unwrap();
    let after = all(&node, &moved);
    let names = |all: &[(String, _)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert!(before.len() > 5 && names(&before) == names(&after), "{:?} and {:?}", names(&before), names(&after));
    let mut wrong = Vec::new();
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let of = |this: &BTreeSet<String>, other| this.difference(other).cloned().collect::<Vec<_>>();
        let (by_dialect, without) = (of(before, after), of(after, before));
        if !by_dialect.is_empty() || !without.is_empty() {
            wrong.push(format!("{name}: by the dialect alone {by_dialect:#?}, without it alone {without:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn samples_of_danm_are_the_same_in_npwgs_words_on_uml() {
    let node = scene();
    for (name, subnet) in [("lan", "10.7.0.0/16"), ("other", "10.8.0.0/16")] {
        file(&node, &format!("{name}.conf"), &bridge(&node, name, &format!("br-{name}"), subnet));
    }
    compare(node, "danm", DANM);
}

#[test]
fn samples_of_genie_are_the_same_in_npwgs_words() {
    let node = scene();
    for (number, name) in ["flannel", "weave", "calico"].into_iter().enumerate() {
        let conf = bridge(&node, name, &format!("br-{name}"), &format!("10.{}.0.0/24", number + 1));
        file(&node, &format!("10-{name}.conf"), &conf);
    }
    let ipam = node.host_local("10.4.0.0/24");
    file(
        &node,
        "20-macvlan.conf",
        &json!({"cniVersion": "1.0.0", "name": "macvlan", "type": "macvlan", "master": "up0", "ipam": ipam}),
    );
    compare(node, "genie", GENIE);
}

/// The gateway of the pods is the node, which masquerades: User Mode Linux cannot.
#[test]
fn samples_of_knitter_are_the_same_in_npwgs_words_on_host() {
    compare(scene(), "knitter", KNITTER);
}
