//! Networks of DANM by the agent: followed in both groups with the dialect on, their addresses claimed for the node, and left alone without.

use std::fs;
use std::path::Path;

use meta_cni_tests::cluster::ControlPlane;
use meta_cni_tests::node::Pod;
use serde_json::{Value, json};

use super::world::{World, pod, shipped};

const HANDED: &str = "io.kubernetes.cri.pod-annotations";
const INTERFACES: &str = "danm.io/interfaces";

/// An API server with DANM's kinds, and a node with these keys, where nothing is built in but the addresses.
fn world(keys: Value) -> World {
    let mut world = World::new();
    // The webhook's rights are in its namespace.
    for file in ["kustomize/webhook/namespace", "dialects/danm/crds", "dialects/danm/rbac"] {
        world.plane.kubectl(["apply", "-f", &shipped(&format!("{file}.yaml"))]);
    }
    for group in ["danm.io", "danm.k8s.io"] {
        for plural in ["danmnets", "tenantnetworks", "clusternetworks", "tenantconfigs", "danmeps", "reservedips"] {
            let crd = format!("crd/{plural}.{group}");
            world.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", &crd]);
        }
    }
    for (file, plural) in [
        ("address-blocks", "addressblocks"),
        ("address-claims", "addressclaims"),
        ("vni-claims", "vniclaims"),
        ("overlay-members", "overlaymembers"),
    ] {
        world.plane.kubectl(["apply", "-f", &shipped(&format!("crds/{file}.yaml"))]);
        let crd = format!("crd/{plural}.meta-cni.io");
        world.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", &crd]);
    }
    fs::write(world.node.path("node.json"), keys.to_string()).unwrap();
    for (key, value) in keys.as_object().unwrap() {
        world.node.conf[key] = value.clone();
    }
    world
}

fn on() -> Value {
    json!({"dialects": ["danm"]})
}

fn network(world: &World, group: &str, kind: &str, name: &str, spec: Value) {
    let mut object =
        json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}, "spec": spec});
    if kind != "ClusterNetwork" {
        object["metadata"]["namespace"] = json!("default");
    }
    world.plane.api().apply(&object).unwrap();
}

fn made(world: &World, name: &str, annotations: Value) -> Pod {
    let made = world.plane.api().apply(&pod(name, annotations)).unwrap();
    world.node.sandbox(name, made["metadata"]["uid"].as_str().unwrap())
}

fn listed(world: &World, name: &str, list: &Value) -> (Pod, Value) {
    let annotations = json!({INTERFACES: list.to_string()});
    (made(world, name, annotations.clone()), json!({HANDED: annotations}))
}

/// A wire `up0` on which networks stand.
fn wired(world: &mut World) {
    world.node.netns.run("ip link add up0 type veth peer name up1");
    world.node.netns.run("ip link set up0 up");
    world.node.netns.run("ip link set up1 up");
    world.node.conf["sharedLinks"] = json!(["up0"]);
}

fn until_followed(world: &World) {
    world.until("followed objects", || {
        let log = world.log();
        let is_listed = |plural: &str| log.matches(&format!("{plural}: listed")).count() >= 2;
        let all = ["danmnets", "tenantnetworks", "clusternetworks"].iter().all(|plural| is_listed(plural));
        if all { Ok(()) } else { Err("not listed in both groups".to_owned()) }
    });
}

fn reads(world: &World) -> u64 {
    ["danmnets", "tenantnetworks", "clusternetworks", "pods"]
        .iter()
        .map(|plural| world.requests("GET", plural, ""))
        .sum()
}

#[test]
fn pods_get_addresses_of_networks_of_either_group_and_hear_who_has_one() {
    let mut world = world(on());
    wired(&mut world);
    let options = json!({"host_device": "up0", "cidr": "10.0.0.0/24", "alloc": "gAE="});
    network(
        &world,
        "danm.k8s.io",
        "DanmNet",
        "management",
        json!({"NetworkID": "m", "NetworkType": "macvlan", "Options": options}),
    );
    let options = json!({"host_device": "up0", "cidr": "10.1.0.0/30", "container_prefix": "ext"});
    let spec = json!({"NetworkID": "e", "NetworkType": "macvlan", "AllowedTenants": ["default"], "Options": options});
    network(&world, "danm.io", "ClusterNetwork", "external", spec);
    world.start_agent();
    until_followed(&world);
    let management = json!({"network": "management", "ip": "dynamic"});
    let list = json!([management, {"clusterNetwork": "external", "ip": "10.1.0.2"}]);
    let before = reads(&world);
    let (web, handed) = listed(&world, "web", &list);
    let result = world.node.call("ADD", &web).conf("runtimeConfig", handed).run().result();
    assert!(result["ips"][0]["address"].as_str().unwrap().starts_with("10.0.0."), "{result}");
    assert_eq!(reads(&world), before, "the dialect costs no call of the API server");
    let address = |pod: &Pod, link: &str| pod.netns.addresses(link).join(" ");
    assert!(address(&web, "ext1").contains("10.1.0.2/30"), "{}", address(&web, "ext1"));
    world.until("status", || match world.status("web")? {
        status if status.len() == 2 && status[1] == "external 10.1.0.2" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let blocks = world.plane.api().get("/apis/meta-cni.io/v1alpha1/addressblocks").unwrap();
    let names: Vec<&str> =
        blocks["items"].as_array().unwrap().iter().filter_map(|one| one["metadata"]["name"].as_str()).collect();
    assert!(names.iter().any(|name| name.starts_with("default.management.danmnet")), "{names:?}");
    let (twin, handed) = listed(&world, "twin", &list);
    let refusal = world.node.call("ADD", &twin).conf("runtimeConfig", handed).run().refusal();
    assert!(refusal.text.contains("10.1.0.2") && refusal.text.contains("default/web"), "{}", refusal.text);
    world.node.del(&web).quiet();
}

#[test]
fn the_default_of_a_namespace_costs_no_call_and_is_had_without_an_annotation() {
    let mut world = world(on());
    world.start_agent();
    until_followed(&world);
    let handed = json!({HANDED: {}});
    let bare = made(&world, "bare", json!({}));
    let before = reads(&world);
    world.node.call("ADD", &bare).conf("runtimeConfig", handed.clone()).run().result();
    assert_eq!(reads(&world), before, "what is known not to be there is not asked for");
    assert_eq!(world.node.fakes.take_order(), ["ADD main eth0"]);
    let file = json!({"cniVersion": "1.0.0", "name": "br-a", "type": "one", "fakeIps": [{"address": "10.7.0.2/24"}]});
    fs::write(world.node.path("conf/br-a.conf"), file.to_string()).unwrap();
    network(&world, "danm.io", "ClusterNetwork", "default", json!({"NetworkID": "br-a", "NetworkType": "one"}));
    world.until("the default", || {
        let pod = made(&world, "later", json!({}));
        world.node.call("ADD", &pod).conf("runtimeConfig", handed.clone()).run().result();
        let order = world.node.fakes.take_order();
        world.node.del(&pod).quiet();
        world.node.fakes.take_order();
        if order == ["ADD one eth0"] { Ok(()) } else { Err(format!("{order:?}")) }
    });
}

#[test]
fn a_network_that_is_not_there_is_named_and_one_of_two_groups_must_be_one() {
    let mut world = world(on());
    let spec = |id: &str| json!({"NetworkID": id, "Options": {"host_device": "up0", "cidr": "10.0.0.0/24"}});
    network(&world, "danm.io", "DanmNet", "two", spec("a"));
    network(&world, "danm.k8s.io", "DanmNet", "two", spec("b"));
    world.start_agent();
    until_followed(&world);
    for (name, code, words) in [
        ("gone", 11, &["danm.io/interfaces[0]: cannot find DanmNet gone in namespace default"][..]),
        ("two", 7, &["DanmNet default/two is in the groups danm.k8s.io and danm.io"]),
    ] {
        let (pod, handed) = listed(&world, name, &json!([{"network": name, "ip": "dynamic"}]));
        world.node.call("ADD", &pod).conf("runtimeConfig", handed).run().refused(code, words);
    }
}

#[test]
fn without_the_dialect_nothing_of_it_is_read_or_followed() {
    let mut world = world(json!({}));
    world.start_agent();
    let (web, handed) = listed(&world, "web", &json!([{"network": "none", "ip": "dynamic"}]));
    world.node.call("ADD", &web).conf("runtimeConfig", handed).run().result();
    world.until("status", || world.status("web"));
    assert_eq!(world.node.fakes.take_order(), ["ADD main eth0"]);
    for verb in ["LIST", "WATCH", "GET"] {
        for plural in ["danmnets", "tenantnetworks", "clusternetworks"] {
            assert_eq!(world.requests(verb, plural, ""), 0, "{verb} {plural}");
        }
    }
}

/// What docs/dialects/danm.md tells to apply.
#[test]
fn the_component_gives_kinds_and_rights() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/danm-component");
    fs::create_dir_all(&root).unwrap();
    let kustomization = "resources: [../../deploy/kustomize]\ncomponents: [../../deploy/dialects/danm]\n";
    fs::write(root.join("kustomization.yaml"), kustomization).unwrap();
    let text = ControlPlane::start().kubectl(["kustomize", root.to_str().unwrap()]);
    for part in ["name: danmnets.danm.k8s.io", "name: clusternetworks.danm.io", "name: meta-cni-danm"] {
        assert!(text.contains(part), "{part}");
    }
    fs::remove_dir_all(&root).unwrap();
}
