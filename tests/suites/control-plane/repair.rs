//! Pods that are not as recorded: what the cluster hears of them, how often, and what it hears of pods that are well.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use meta_cni_tests::call::plugin;
use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::Pod;
use serde_json::json;

use super::world::World;

/// A node with the bridge network `lan`, whose agent compares every second.
fn world() -> World {
    let mut world = World::new();
    let lan = json!({"cniVersion": "1.1.0", "type": "bridge", "bridge": "br0", "ipam": world.node.host_local("10.11.0.0/24")});
    world.nad_of("lan", lan);
    world.nad_of("beside", json!({"cniVersion": "1.1.0", "type": "bridge", "bridge": "br1"}));
    // The fake's links are not in the pod: with no word of them there is nothing to compare.
    let answers = Rule::on("ADD").answers(&json!({"cniVersion": "1.1.0", "ips": [{"address": "192.0.2.7/24"}]}));
    world.node.fakes.rules("main", &[answers]);
    install(&world);
    configure(&world, false);
    world.verify_interval = Some(Duration::from_secs(1));
    world.start_agent();
    world
}

/// The agent's plugin works in the network namespace that stands for the node's, as the runtime's does.
fn install(world: &World) {
    let (path, netns, plugin) = (world.node.path("bin/meta-cni"), world.node.netns.text(), plugin());
    let script = format!("#!/bin/sh\nexec nsenter --net={netns} {} \"$@\"\n", plugin.display());
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Writes the file that the runtime reads.
fn configure(world: &World, repair: bool) {
    let mut conf = world.node.conf.clone();
    conf["repair"] = json!(repair);
    let list = json!({"cniVersion": conf["cniVersion"], "name": conf["name"], "plugins": [conf]});
    fs::write(world.node.path("runtime/00-meta-cni.conflist"), list.to_string()).unwrap();
}

fn running(world: &World, name: &str) -> Pod {
    let pod = world.pod(name, "lan,beside");
    world.add(&pod);
    world.until("status", || world.status(name).map(drop));
    pod
}

/// The pod's condition: status, reason and message.
fn condition(world: &World, name: &str) -> Option<[String; 3]> {
    let pod = world.plane.api().get(&format!("/api/v1/namespaces/default/pods/{name}")).unwrap();
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ours = conditions.into_iter().find(|one| one["type"] == "meta-cni.io/NetworksReady")?;
    assert!(ours["lastTransitionTime"].is_string(), "{ours}");
    Some(["status", "reason", "message"].map(|key| ours[key].as_str().unwrap_or_default().to_owned()))
}

fn until_condition(world: &World, name: &str, status: &str) -> [String; 3] {
    world.until(&format!("condition {status}"), || match condition(world, name) {
        Some(found) if found[0] == status => Ok(found),
        other => Err(format!("{other:?}")),
    })
}

fn events(world: &World, name: &str, reason: &str) -> Vec<String> {
    world.events(name).into_iter().filter(|(is, _)| is == reason).map(|(_, text)| text).collect()
}

/// Several comparisons.
fn settle() {
    std::thread::sleep(Duration::from_secs(4));
}

fn has(world: &World, line: &str) {
    world.until(line, || match world.metrics()? {
        page if page.lines().any(|one| one == line) => Ok(()),
        page => Err(page.lines().filter(|one| one.contains("differing") || one.contains("repairs")).collect()),
    });
}

const GONE: &str = "network default/lan (net1): link net1 is missing in the pod";

#[test]
fn a_link_that_is_gone_is_told_once_and_taken_back_when_it_is_there_again() {
    let mut world = world();
    let (pod, well) = (running(&world, "web"), running(&world, "well"));
    settle();
    let writes = |world: &World| world.requests("PATCH", "pods", "status");
    let before = writes(&world);
    has(&world, "meta_cni_pods_differing{kind=\"network\"} 0");
    settle();
    assert_eq!(writes(&world), before, "pods that are well cost nothing");
    assert_eq!((condition(&world, "web"), condition(&world, "well")), (None, None));

    pod.netns.run("ip link del net1");
    let told = until_condition(&world, "web", "False");
    assert_eq!(told, ["False", "Differs", GONE].map(str::to_owned));
    has(&world, "meta_cni_pods_differing{kind=\"network\"} 1");
    world.until("event", || match events(&world, "web", "NetworksDiffer").len() {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    });
    settle();
    assert_eq!(events(&world, "web", "NetworksDiffer"), [GONE]);
    assert_eq!(writes(&world), before + 1);
    // An agent that starts again knows what was told.
    world.kill_agent();
    world.start_agent();
    has(&world, "meta_cni_pods_differing{kind=\"network\"} 1");
    settle();
    assert_eq!((events(&world, "web", "NetworksDiffer").len(), writes(&world)), (1, before + 1));

    // Whoever mends it: here the switch.
    configure(&world, true);
    let told = until_condition(&world, "web", "True");
    assert_eq!(told, ["True", "AsRecorded", ""].map(str::to_owned));
    has(&world, "meta_cni_pods_differing{kind=\"network\"} 0");
    has(&world, "meta_cni_repairs_total{outcome=\"done\"} 1");
    world.until("event of the repair", || match events(&world, "web", "RepairedInterface").as_slice() {
        [one] if *one == format!("{GONE}; it is made anew") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(pod.netns.addresses("net1").len(), 1);
    settle();
    assert_eq!(writes(&world), before + 2);
    assert_eq!(condition(&world, "well"), None);
    assert!(!world.node.path("state/differences").exists());
    for pod in [&pod, &well] {
        world.node.del(pod).quiet();
    }
}

#[test]
fn a_repair_that_fails_is_told_and_not_tried_at_each_comparison() {
    let world = world();
    configure(&world, true);
    let pod = running(&world, "web");
    pod.netns.run("ip link del net1");
    pod.netns.run("ip link add net1 type veth peer name other");
    until_condition(&world, "web", "False");
    has(&world, "meta_cni_repairs_total{outcome=\"failed\"} 1");
    settle();
    has(&world, "meta_cni_repairs_total{outcome=\"failed\"} 1");
    world.until("event", || match events(&world, "web", "FailedRepairingInterface").as_slice() {
        [one] if one.contains("net1") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    world.node.del(&pod).quiet();
}

#[test]
fn a_pod_whose_add_another_plugin_answered_is_told_and_others_without_a_record_are_not() {
    let world = world();
    let phase = |name: &str, phase: &str| {
        let patch = json!({"status": {"phase": phase}});
        world.plane.api().patch(&format!("/api/v1/namespaces/default/pods/{name}/status"), &patch).unwrap();
    };
    for name in ["lost", "starting", "over", "plain"] {
        world.pod(name, if name == "plain" { "" } else { "lan" });
    }
    let mut host = super::world::pod("host", json!({meta_cni_tests::node::NETWORKS: "lan"}));
    host["spec"]["hostNetwork"] = json!(true);
    world.plane.api().apply(&host).unwrap();
    // Multus attached it, before it was replaced.
    let status = json!({meta_cni_tests::node::NETWORKS: "lan", meta_cni_tests::node::STATUS: "[]"});
    world.plane.api().apply(&super::world::pod("earlier", status)).unwrap();
    for name in ["lost", "plain", "host", "earlier"] {
        phase(name, "Running");
    }
    phase("over", "Succeeded");
    let told = until_condition(&world, "lost", "False");
    assert_eq!(told[1], "NoRecord");
    has(&world, "meta_cni_pods_differing{kind=\"no_record\"} 1");
    settle();
    for name in ["starting", "over", "plain", "host", "earlier"] {
        assert_eq!(condition(&world, name), None, "{name}");
    }
    assert_eq!(events(&world, "lost", "NetworksMissing").len(), 1);
    world.plane.api().delete("/api/v1/namespaces/default/pods/lost?gracePeriodSeconds=0").unwrap();
    has(&world, "meta_cni_pods_differing{kind=\"no_record\"} 0");
    world.until("end of the file", || match world.node.path("state/differences").exists() {
        true => Err("it is there".to_owned()),
        false => Ok(()),
    });
}
