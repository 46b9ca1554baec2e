//! Hot-plug by the agent: which edits of which pods start the plugin, how often, and what the cluster hears of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use meta_cni_tests::call::plugin;
use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{NETWORKS, Pod};
use serde_json::{Value, json};

use super::world::World;

/// From an edit to the status of it.
const GOAL: Duration = Duration::from_secs(2);

/// A node with the networks `a`, `b` and `c`, whose agent has a plugin and a configuration to start it with.
fn world() -> World {
    let mut world = World::new();
    for (name, delegate, address) in
        [("a", "one", "10.1.0.2/24"), ("b", "two", "10.2.0.2/24"), ("c", "two", "10.3.0.2/24")]
    {
        world.nad_of(name, json!({"cniVersion": "1.1.0", "type": delegate, "fakeIps": [{"address": address}]}));
    }
    // The fake's links are not in the pod: with no word of them, nothing says that the sandbox is another one.
    for delegate in ["main", "one", "two"] {
        quiet(&world, delegate, &[]);
    }
    symlink(plugin(), world.node.path("bin/meta-cni")).unwrap();
    configure(&world, true);
    world.start_agent();
    world
}

/// A plugin that names no interface, and before that does what these rules say.
fn quiet(world: &World, delegate: &str, before: &[Rule]) {
    world.node.fakes.rules(delegate, &before.iter().cloned().chain([answers()]).collect::<Vec<_>>());
}

/// An ADD that succeeds and names no interface.
fn answers() -> Rule {
    Rule::on("ADD").answers(&json!({"cniVersion": "1.1.0", "ips": [{"address": "192.0.2.7/24"}]}))
}

/// Writes the file that the runtime reads.
fn configure(world: &World, hotplug: bool) {
    let mut conf = world.node.conf.clone();
    conf["hotplug"] = json!(hotplug);
    let list = json!({"cniVersion": conf["cniVersion"], "name": conf["name"], "plugins": [conf]});
    fs::write(world.node.path("runtime/00-meta-cni.conflist"), list.to_string()).unwrap();
}

fn edit(world: &World, pod: &Pod, networks: &str) {
    let patch = json!({"metadata": {"annotations": {NETWORKS: networks}}});
    world.plane.api().patch(&format!("/api/v1/namespaces/default/pods/{}", pod.name), &patch).unwrap();
}

/// A pod that is attached to these networks, and known to be by the agent.
fn running(world: &World, name: &str, networks: &str) -> Pod {
    let pod = world.pod(name, networks);
    world.add(&pod);
    let number = if networks.is_empty() { 1 } else { 1 + networks.split(',').count() };
    until(world, &pod, number);
    world.node.fakes.take_order();
    pod
}

/// Waits for a status of so many interfaces, and gives their networks.
fn until(world: &World, pod: &Pod, number: usize) -> Vec<String> {
    world.until("status of the pod", || match world.status(&pod.name)? {
        status if status.len() == number => {
            Ok(status.iter().map(|one| one.split(' ').next().unwrap().to_owned()).collect())
        }
        other => Err(format!("{other:?}")),
    })
}

fn has_event(world: &World, pod: &Pod, reason: &str, part: &str) {
    world.until(&format!("event {reason}"), || {
        let events = world.events(&pod.name);
        let is_it = |(is, text): &(String, String)| is == reason && text.contains(part);
        if events.iter().any(is_it) { Ok(()) } else { Err(format!("{events:?}")) }
    });
}

/// Long enough for an edit to have had its effect.
fn settle() {
    std::thread::sleep(Duration::from_millis(1500));
}

#[test]
fn an_edit_attaches_and_detaches_and_costs_one_write_of_the_status() {
    let world = world();
    let pod = running(&world, "web", "");
    let writes = |world: &World| world.requests("PATCH", "pods", "status");
    for (networks, number, order) in [
        ("a", 2, &["ADD one net1"][..]),
        ("a,b@data", 3, &["ADD two data"]),
        ("b@data", 2, &["DEL one net1"]),
        ("c,b@data", 3, &["ADD two net1"]),
        ("", 1, &["DEL two net1", "DEL two data"]),
    ] {
        let (before, began) = (writes(&world), Instant::now());
        edit(&world, &pod, networks);
        until(&world, &pod, number);
        assert!(began.elapsed() < GOAL * 5, "{networks}: {:?}", began.elapsed());
        assert_eq!(world.node.fakes.take_order(), order, "{networks}");
        assert_eq!(writes(&world), before + 1, "{networks}");
    }
    has_event(&world, &pod, "AddedInterface", "Add data [192.0.2.7/24] from default/b");
    has_event(&world, &pod, "RemovedInterface", "Remove net1 from default/a");
    // What an edit does not change starts nothing, and neither does the agent's own status.
    edit(&world, &pod, " ");
    settle();
    assert!(world.node.fakes.take_order().is_empty());
    let page = world.metrics().unwrap();
    assert!(page.contains("meta_cni_hot_plugs_total{outcome=\"done\"} 5"), "{page}");
    world.node.del(&pod).quiet();
    assert_eq!(world.node.fakes.take_order(), ["DEL main eth0"]);
}

#[test]
fn an_edit_that_cannot_be_is_told_on_the_pod_and_leaves_it_as_it_was() {
    let world = world();
    let pod = running(&world, "web", "a");
    quiet(&world, "two", &[Rule::on("ADD").times(1).fails(7, "no room")]);
    for (networks, reason, words) in [
        ("a,b", "FailedAddingInterface", "network default/b (net2): no room"),
        ("a,[", "FailedAddingInterface", "networks"),
        ("a,b@eth0", "FailedAddingInterface", "got eth0"),
        ("b@net1", "FailedAddingInterface", "default/a has it, and nothing is changed in place"),
        ("a,nowhere", "NoNetworkFound", "(nowhere) in namespace (default)"),
    ] {
        edit(&world, &pod, networks);
        has_event(&world, &pod, reason, words);
    }
    assert_eq!(until(&world, &pod, 2), ["default-net", "default/a"]);
    assert_eq!(world.node.fakes.take_order(), ["ADD two net2", "DEL two net2"]);
    // The next edit is tried at once, however often others have failed.
    edit(&world, &pod, "a,b");
    until(&world, &pod, 3);
    world.node.del(&pod).quiet();
}

#[test]
fn a_hundred_edits_in_a_second_are_a_few_calls_and_the_last_one_counts() {
    let world = world();
    let pod = running(&world, "web", "");
    for number in 0..100 {
        edit(&world, &pod, ["a", "b,a", "c", ""][number % 4]);
    }
    edit(&world, &pod, "a,b,c");
    until(&world, &pod, 4);
    settle();
    assert_eq!(until(&world, &pod, 4).len(), 4);
    let page = world.metrics().unwrap();
    let calls: f64 = page
        .lines()
        .filter(|line| line.starts_with("meta_cni_hot_plugs_total"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!((1.0..=20.0).contains(&calls), "{calls} calls");
    world.node.del(&pod).quiet();
}

#[test]
fn what_was_edited_while_the_agent_was_away_is_done_when_it_comes_back() {
    let mut world = world();
    let (edited, pod) = (running(&world, "edited", "a"), running(&world, "same", "a"));
    world.kill_agent();
    edit(&world, &edited, "b");
    world.start_agent();
    world.until("network b alone", || match world.status("edited")? {
        status if status.len() == 2 && status[1].starts_with("default/b") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(world.node.fakes.take_order(), ["ADD two net2", "DEL one net1"], "the other pod is as it wants to be");
    world.node.del(&edited).quiet();
    world.node.del(&pod).quiet();
}

#[test]
fn an_agent_that_is_killed_meanwhile_and_a_plugin_that_is_are_made_up_for() {
    let mut world = world();
    let pod = running(&world, "web", "a");
    let go = world.node.path("go");
    quiet(&world, "two", &[Rule { wait_for: Some(go.clone()), ..answers().times(1) }]);
    edit(&world, &pod, "a,b");
    world.until("call of the delegate", || match world.node.fakes.calls().len() {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    });
    world.kill_agent();
    world.start_agent();
    fs::write(&go, "").unwrap();
    until(&world, &pod, 3);
    settle();
    let order = world.node.fakes.take_order();
    assert_eq!(order.iter().filter(|line| line.starts_with("ADD")).count(), 1, "{order:?}");

    quiet(&world, "two", &[Rule { kill_parent: true, ..Rule::on("ADD").times(1) }]);
    edit(&world, &pod, "a,b,c");
    world.until("failure", || match world.metrics()? {
        page if page.contains("meta_cni_hot_plugs_total{outcome=\"failed\"} 1") => Ok(()),
        page => Err(page),
    });
    // Another edit does not wait for the pause.
    edit(&world, &pod, "a,b,c,c");
    until(&world, &pod, 5);
    world.node.del(&pod).quiet();
    assert!(world.node.records("attached").is_empty() && world.node.records("pending").is_empty());
}

#[test]
fn a_pod_that_is_deleted_meanwhile_is_undone_whole() {
    let world = world();
    let pod = running(&world, "web", "a");
    let go = world.node.path("go");
    quiet(&world, "two", &[Rule { wait_for: Some(go.clone()), ..answers().times(1) }]);
    edit(&world, &pod, "b");
    world.until("call of the delegate", || match world.node.fakes.calls().len() {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    });
    let del = world.node.call("DEL", &pod).start();
    world.plane.api().delete("/api/v1/namespaces/default/pods/web?gracePeriodSeconds=0").unwrap();
    fs::write(&go, "").unwrap();
    meta_cni_tests::call::Outcome::of("DEL", del).quiet();
    let order = world.node.fakes.take_order();
    assert_eq!(order, ["ADD two net2", "DEL one net1", "DEL two net2", "DEL main eth0"]);
    settle();
    assert!(world.node.fakes.take_order().is_empty());
    assert!(world.node.records("attached").is_empty() && world.node.records("pending").is_empty());
}

#[test]
fn a_node_that_does_not_want_it_and_a_pod_that_is_over_are_left_alone() {
    let world = world();
    let (pod, over) = (running(&world, "web", ""), running(&world, "over", ""));
    let phase = json!({"status": {"phase": "Succeeded"}});
    world.plane.api().patch("/api/v1/namespaces/default/pods/over/status", &phase).unwrap();
    edit(&world, &over, "a");
    configure(&world, false);
    edit(&world, &pod, "a");
    settle();
    assert!(world.node.fakes.take_order().is_empty());
    configure(&world, true);
    edit(&world, &pod, "a,b");
    until(&world, &pod, 3);
    for pod in [&pod, &over] {
        world.node.del(pod).quiet();
    }
}

#[test]
fn what_a_level_forbids_is_not_plugged_in_and_what_is_there_may_go() {
    let mut world = world();
    world.install_policies();
    let pod = running(&world, "web", "a");
    world.kill_agent();
    world.nad_of("m", json!({"cniVersion": "1.1.0", "type": "macvlan", "master": "eth0"}));
    let label = json!({"metadata": {"labels": {"meta-cni.io/level": "baseline"}}});
    world.plane.api().patch("/api/v1/namespaces/default", &label).unwrap();
    world.start_agent();
    edit(&world, &pod, "a,m");
    has_event(&world, &pod, "FailedAddingInterface", "baseline");
    edit(&world, &pod, "");
    until(&world, &pod, 1);
    world.node.del(&pod).quiet();
}

#[test]
fn a_hundred_pods_of_one_node_are_edited_at_once_and_each_costs_one_call_and_one_write() {
    let world = world();
    let pods: Vec<Pod> = (0..100).map(|number| world.pod(&format!("p{number}"), "")).collect();
    pods.iter().for_each(|pod| drop(world.add(pod)));
    pods.iter().for_each(|pod| drop(until(&world, pod, 1)));
    let (before, began) = (world.requests("PATCH", "pods", "status"), Instant::now());
    edit(&world, &pods[0], "a");
    until(&world, &pods[0], 2);
    println!("one of a hundred: {:?}", began.elapsed());
    let began = Instant::now();
    pods.iter().for_each(|pod| edit(&world, pod, "b"));
    println!("a hundred edits: {:?}", began.elapsed());
    for pod in &pods {
        world.until("network b", || match world.status(&pod.name)? {
            status if status.len() == 2 && status[1].starts_with("default/b") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    println!("all of them have it: {:?}", began.elapsed());
    assert_eq!(world.requests("PATCH", "pods", "status"), before + 101);
    let page = world.metrics().unwrap();
    assert!(page.contains("meta_cni_hot_plugs_total{outcome=\"done\"} 101"), "{page}");
    println!("agent: {:?} MB", world.memory());
    pods.iter().for_each(|pod| world.node.del(pod).quiet());
}

/// As KubeVirt edits the annotation of a virtual machine's pod.
#[test]
fn an_edit_as_kubevirt_makes_it_keeps_names_addresses_and_claims() {
    let world = world();
    let element = |network: &str, interface: &str, mac: &str| json!({"name": network, "namespace": "default", "interface": interface, "mac": mac});
    let first = element("a", "pod16477688c0e", "02:00:00:00:00:01");
    let list = |elements: &[&Value]| json!(elements).to_string();
    let pod = world.pod("vm", &list(&[&first]));
    world.add(&pod);
    until(&world, &pod, 2);
    world.node.fakes.take_order();
    let mut second = element("b", "podb1f51a511f1", "02:00:00:00:00:02");
    second["ipam-claim-reference"] = json!("vm.b");
    edit(&world, &pod, &list(&[&first, &second]));
    until(&world, &pod, 3);
    let added = world.node.fakes.calls_of("ADD").pop().unwrap();
    assert_eq!(added.var("CNI_IFNAME"), "podb1f51a511f1");
    assert!(added.var("CNI_ARGS").contains("MAC=02:00:00:00:00:02"), "{}", added.var("CNI_ARGS"));
    world.node.fakes.take_order();
    edit(&world, &pod, &list(&[&second]));
    until(&world, &pod, 2);
    assert_eq!(world.node.fakes.take_order(), ["DEL one pod16477688c0e"]);
    world.node.del(&pod).quiet();
}
