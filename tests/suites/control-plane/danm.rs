//! Networks of DANM by the agent: followed in both groups with the dialect on, their addresses claimed for the node, and left alone without.

use std::fs;
use std::path::Path;

use meta_cni_tests::call::Outcome;
use meta_cni_tests::cluster::ControlPlane;
use meta_cni_tests::node::Pod;
use serde_json::{Value, json};

use super::world::{World, pod, shipped};

const HANDED: &str = "io.kubernetes.cri.pod-annotations";
const INTERFACES: &str = "danm.io/interfaces";

/// What the agent follows.
const FOLLOWED: [&str; 5] = ["danmnets", "tenantnetworks", "clusternetworks", "tenantconfigs", "reservedips"];

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
    if kind == "TenantConfig" {
        let fields = object["spec"].take();
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        object.as_object_mut().unwrap().remove("spec");
    } else if kind != "ClusterNetwork" {
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
        let all = FOLLOWED.iter().all(|plural| is_listed(plural));
        if all { Ok(()) } else { Err("not listed in both groups".to_owned()) }
    });
}

fn reads(world: &World) -> u64 {
    let of = |plural: &&str| ["GET", "LIST"].iter().map(|verb| world.requests(verb, plural, "")).sum::<u64>();
    FOLLOWED.iter().chain(&["pods"]).map(of).sum()
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

/// A TenantNetwork on a link of the node, with further options.
fn tenants(world: &World, name: &str, more: Value) {
    let mut options = json!({"host_device": "up0", "cidr": "10.0.0.0/24"});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let spec = json!({"NetworkID": name, "NetworkType": "macvlan", "Options": options});
    network(world, "danm.io", "TenantNetwork", name, spec);
}

/// Attaches a new pod to a TenantNetwork.
fn attach(world: &World, name: &str, network: &str) -> (Outcome, Pod) {
    attach_with(world, name, network, "dynamic")
}

/// The same with an `ip`.
fn attach_with(world: &World, name: &str, network: &str, ip: &str) -> (Outcome, Pod) {
    let (pod, handed) = listed(world, name, &json!([{"tenantNetwork": network, "ip": ip}]));
    (world.node.call("ADD", &pod).conf("runtimeConfig", handed).run(), pod)
}

#[test]
fn a_network_of_tenants_that_no_webhook_saw_keeps_to_the_tenant_config() {
    let mut world = world(on());
    wired(&mut world);
    tenants(&world, "inside", json!({}));
    tenants(&world, "tagged", json!({"vlan": 300}));
    tenants(&world, "foreign", json!({"host_device": "up9"}));
    let lists = |world: &World, device: &str| {
        network(world, "danm.k8s.io", "TenantConfig", "limits", json!({"hostDevices": [{"name": device}]}));
    };
    lists(&world, "up0");
    world.start_agent();
    until_followed(&world);
    let before = reads(&world);
    let words =
        ["TenantNetwork default/tagged: spec.Options.vlan: got 300", "TenantConfig limits gives no vlan of up0"];
    attach(&world, "tagged", "tagged").0.refused(7, &words);
    let words = ["TenantNetwork default/foreign: spec.Options.host_device: got up9", "TenantConfig limits lists: up0"];
    attach(&world, "foreign", "foreign").0.refused(7, &words);
    let (answer, inside) = attach(&world, "inside", "inside");
    answer.result();
    assert_eq!(reads(&world), before, "the limits cost no call of the API server");
    world.node.del(&inside).quiet();
    lists(&world, "up1");
    world.until("the new list", || {
        let (answer, pod) = attach(&world, "later", "inside");
        let text = answer.stdout();
        world.node.del(&pod).quiet();
        if text.contains("TenantConfig limits lists: up1") { Ok(()) } else { Err(text) }
    });
}

/// No TenantConfig at all, and a group that the API server does not have. Then an agent with the rights of an earlier component.
#[test]
fn what_limits_tenants_need_not_be_there_and_what_cannot_be_read_is_said() {
    let mut world = world(on());
    wired(&mut world);
    tenants(&world, "lan", json!({}));
    world.start_agent();
    until_followed(&world);
    let (answer, pod) = attach(&world, "free", "lan");
    answer.result();
    world.node.del(&pod).quiet();

    world.plane.kubectl(["delete", "crd", "tenantconfigs.danm.k8s.io", "--timeout=30s"]);
    world.kill_agent();
    world.start_agent();
    let (answer, pod) = attach(&world, "older", "lan");
    answer.result();
    world.node.del(&pod).quiet();

    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/meta-cni-danm";
    let shipped_role = world.plane.api().get(role).unwrap();
    let mut fewer = json!({"rules": shipped_role["rules"]});
    let resources = fewer["rules"][0]["resources"].as_array_mut().unwrap();
    resources.retain(|one| one != "tenantconfigs");
    assert_eq!(resources.len(), FOLLOWED.len() - 1);
    world.plane.api().patch(role, &fewer).unwrap();
    world.kill_agent();
    world.start_agent();
    let words = ["TenantNetwork default/lan: what limits it is not known here yet: tenantconfigs: ", "forbidden"];
    attach(&world, "unread", "lan").0.refused(11, &words);
    world.plane.api().patch(role, &json!({"rules": shipped_role["rules"]})).unwrap();
    world.until("a pod with the rights as shipped", || {
        let (answer, pod) = attach(&world, "read", "lan");
        let text = answer.stdout();
        world.node.del(&pod).quiet();
        if text.contains("what limits it") { Err(text) } else { Ok(()) }
    });
}

/// Six addresses, of which one is reserved, and one for several pods.
#[test]
fn a_reserved_ip_gives_its_address_to_pods_that_name_it_and_no_pool_does() {
    let mut world = world(on());
    wired(&mut world);
    tenants(&world, "lan", json!({"cidr": "10.0.0.0/29"}));
    let reserved = |ip: Value| json!({"network": {"name": "lan"}, "ips": [ip]});
    network(&world, "danm.io", "ReservedIP", "front", reserved(json!({"address": "10.0.0.3"})));
    network(&world, "danm.k8s.io", "ReservedIP", "vip", reserved(json!({"address": "10.0.0.4", "shareable": true})));
    world.start_agent();
    until_followed(&world);
    let before = reads(&world);
    let address = |(answer, pod): (Outcome, Pod)| {
        let result = answer.result();
        (result["ips"][0]["address"].as_str().unwrap().to_owned(), pod)
    };
    let mut drawn: Vec<String> =
        (0..4).map(|number| address(attach(&world, &format!("any{number}"), "lan")).0).collect();
    drawn.sort();
    assert_eq!(drawn, ["10.0.0.1/29", "10.0.0.2/29", "10.0.0.5/29", "10.0.0.6/29"]);
    attach(&world, "late", "lan").0.refused(11, &["10.0.0.0/29"]);

    let (front, first) = address(attach_with(&world, "first", "lan", "front"));
    assert_eq!(front, "10.0.0.3/29");
    attach_with(&world, "second", "lan", "front").0.refused(110, &["10.0.0.3", "default/first"]);
    for name in ["one", "other"] {
        assert_eq!(address(attach_with(&world, name, "lan", "vip")).0, "10.0.0.4/29");
    }
    attach_with(&world, "raw", "lan", "10.0.0.3").0.refused(7, &["ReservedIP default/front gives it to pods"]);
    assert_eq!(reads(&world), before, "what is reserved costs no call of the API server");
    attach_with(&world, "lost", "lan", "back").0.refused(7, &["got \"back\"", "there are front, vip"]);

    // What becomes of the object is nothing to a pod that has the address.
    world.plane.kubectl(["delete", "reservedips.danm.io", "front"]);
    world.until("the end of the object", || {
        let (answer, _) = attach_with(&world, "after", "lan", "front");
        if answer.stdout().contains("there are vip") { Ok(()) } else { Err(answer.stdout()) }
    });
    assert!(first.netns.addresses("eth0").join(" ").contains("10.0.0.3/29"));
    world.node.del(&first).quiet();
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
        for plural in FOLLOWED {
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
