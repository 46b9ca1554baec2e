//! The node agent when things go wrong: the API server slow, away, forgetful; the agent killed; a token that is replaced.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::world::World;

/// Nobody needs the agent for this: no annotations, and delegates that the node's configuration holds.
#[test]
fn without_the_agent_only_an_add_that_needs_it_fails() {
    let mut world = World::new();
    world.nad("lan");
    world.start_agent();
    let (with, without) = (world.pod("with", "lan"), world.pod("without", ""));
    let added = world.add(&with).result();
    world.kill_agent();

    let outcome = world.handed(&without, "").run();
    assert!(outcome.succeeded() && outcome.stderr().contains("network-status"), "{}", outcome.stderr());
    world.node.check(&with, &added).quiet();
    world.node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).run().quiet();
    world.node.del(&without).quiet();
    // Its socket stands for an agent that will be back; without one no agent has served on this node.
    world.node.bare_call("STATUS").run().quiet();
    fs::remove_file(world.node.path("run/agent.sock")).unwrap();
    world.node.bare_call("STATUS").run().refused(50, &["agentSocket"]);
    let fresh = world.pod("fresh", "lan");
    let began = Instant::now();
    world.node.add(&fresh).refused(11, &["agentSocket", "node agent"]);
    assert!(began.elapsed() >= Duration::from_secs(1), "it was not asked again");

    // One that comes back within the second is waited for.
    let kubeconfig = world.kubeconfig();
    let running = world.node.call("ADD", &fresh).start();
    world.launch_agent(&kubeconfig);
    let outcome = meta_cni_tests::call::Outcome::of("ADD", running);
    assert!(outcome.succeeded(), "{}", outcome.stdout());
    world.node.bare_call("STATUS").run().quiet();
}

#[test]
fn with_the_api_server_away_what_is_known_goes_on_and_statuses_follow() {
    let mut world = World::new();
    world.nad("lan");
    world.start_agent();
    let (known, unknown) = (world.pod("known", "lan"), world.node.sandbox("unknown", "u-1"));
    // A pod that this node is to run makes the agent read what it names, before anybody asks.
    world.until_kept("lan");
    world.plane.kill_api();

    let short = |call: meta_cni_tests::call::Call<'_>| call.conf("statusWaitMs", json!(20)).run();
    let outcome = short(world.handed(&known, "lan"));
    assert!(outcome.succeeded(), "{}", outcome.stdout());
    assert_eq!(outcome.stderr(), "", "the agent has the status");
    world.node.add(&unknown).refused(11, &["pod default/unknown", "the API server cannot be asked"]);
    let refusal = world.handed(&unknown, "missing").run();
    refusal.refused(11, &["network-attachment-definition default/missing", "the API server cannot be asked"]);
    world.plane.start_api();
    world.until("status after the outage", || world.status("known"));

    // What came while nobody watched is seen.
    world.nad("new");
    let new = world.pod("new", "new");
    world.add(&new);
    world.node.del(&known).quiet();
}

#[test]
fn only_a_pod_that_asked_for_networks_waits_for_its_status() {
    let mut world = World::new();
    world.nad("lan");
    world.start_agent();
    let (plain, asking) = (world.pod("plain", ""), world.pod("asking", "lan"));
    world.until_kept("lan");
    world.plane.delay_api(Duration::from_secs(2));
    world.add(&asking);
    assert_eq!(world.status("asking").unwrap().len(), 2);
    world.add(&plain);
    assert!(world.status("plain").is_err(), "the ADD has waited");
    world.until("status of the pod that did not wait", || world.status("plain"));
    world.plane.delay_api(Duration::ZERO);
}

#[test]
fn what_pods_of_this_node_use_outlives_the_agent_with_the_api_server_away() {
    let mut world = World::new();
    world.nad("lan");
    world.nad("other");
    world.start_agent();
    let (first, second) = (world.pod("first", "lan"), world.pod("second", "lan"));
    world.add(&first);
    world.until_kept("lan");
    world.kill_agent();
    world.plane.kill_api();
    let kubeconfig = world.node.path("agent.kubeconfig");
    world.launch_agent(&kubeconfig);
    world.until("agent that answers", || world.health(&[]));

    let outcome = world.handed(&second, "lan").conf("statusWaitMs", json!(20)).run();
    assert!(outcome.succeeded(), "{}", outcome.stdout());
    assert!(world.log().contains("default/lan: the API server cannot be asked"), "{}", world.log());
    let third = world.node.sandbox("third", "u-3");
    world.handed(&third, "other").run().refused(11, &["default/other", "the API server cannot be asked"]);

    // What was deleted meanwhile is no longer served once the API server tells.
    world.plane.start_api();
    world.plane.api().delete("/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/lan").unwrap();
    let file = world.node.path("state/definitions/default/lan");
    world.until("end of the file", || if file.exists() { Err("it is there".to_owned()) } else { Ok(()) });
    world.handed(&third, "lan").run().refused(11, &["(lan)"]);
}

#[test]
fn a_history_that_the_api_server_has_forgotten_is_listed_anew() {
    let mut world = World::new();
    world.nad("old");
    world.nad("kept");
    world.start_agent();
    let listed = |world: &World| world.log().matches("network-attachment-definitions: listed").count();
    let before = listed(&world);
    // The agent sleeps over a restart: the new server's history begins behind what it saw last.
    world.agent().signal(Signal::SIGSTOP);
    world.plane.api().delete("/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/old").unwrap();
    world.plane.kill_api();
    world.plane.start_api();
    world.nad("new");
    world.agent().signal(Signal::SIGCONT);
    world.until("list after 410", || if listed(&world) > before { Ok(()) } else { Err(world.log()) });
    world.add(&world.pod("one", "kept,new"));
    world.node.add(&world.pod("two", "old")).refused(11, &["(old)"]);
}

#[test]
fn a_slow_api_server_delays_nobody_whom_the_cache_can_serve() {
    let mut world = World::new();
    world.nad("lan");
    world.start_agent();
    let (known, slow) = (world.pod("known", "lan"), Duration::from_secs(3));
    world.until("pod in the cache", || {
        // The watch is the quicker one; only a slow server shows whether it was heard.
        let outcome = world.handed(&known, "lan").run();
        world.node.del(&known).quiet();
        if outcome.succeeded() { Ok(()) } else { Err(outcome.stdout()) }
    });
    world.plane.delay_api(slow);
    let began = Instant::now();
    let outcome = world.node.call("ADD", &known).conf("statusWaitMs", json!(20)).run();
    assert!(outcome.succeeded(), "{}", outcome.stdout());
    assert!(began.elapsed() < slow, "it waited for the API server: {:?}", began.elapsed());
    world.node.del(&known).quiet();

    // What must be asked for takes its time, within the call's.
    world.plane.delay_api(Duration::from_millis(300));
    let fresh = world.pod("fresh", "lan");
    world.add(&fresh);
    world.within(Duration::from_secs(60), "status over a slow network", || world.status("fresh"));
    let hopeless = world.node.sandbox("nobody", "u-1");
    world.plane.delay_api(Duration::from_secs(20));
    let outcome = world.node.call("ADD", &hopeless).conf("timeoutSeconds", json!(2)).run();
    outcome.refused(11, &["pod default/nobody", "no answer in time"]);
    world.plane.delay_api(Duration::ZERO);
}

#[test]
fn an_agent_that_was_killed_finds_out_which_statuses_are_missing() {
    let mut world = World::new();
    world.nad("lan");
    world.start_agent();
    let (lost, kept) = (world.pod("lost", "lan"), world.pod("kept", "lan"));
    world.add(&kept);
    world.kill_agent();
    // Nobody is there to take the status; the definition is known to be a file's.
    let conf = json!({"cniVersion": "1.1.0", "name": "extra", "type": "two", "fakeIps": [{"address": "10.45.0.9/24"}]});
    let mut delegates = world.node.conf["delegates"].as_array().unwrap().clone();
    delegates.push(conf);
    let outcome = world.handed(&lost, "").conf("delegates", Value::Array(delegates)).run();
    assert!(
        outcome.succeeded() && outcome.stderr().contains("network-status of pod default/lost"),
        "{}",
        outcome.stderr()
    );
    assert!(world.status("lost").is_err());
    // The record is young when the agent comes, and the plugin might be writing still: the agent looks again.
    let patches = world.requests("PATCH", "pods", "status");
    world.start_agent();
    let status = world.until("status from the record", || world.status("lost"));
    assert_eq!(status, ["default-net 192.0.2.2", "extra 10.45.0.9"]);
    assert_eq!(world.requests("PATCH", "pods", "status"), patches + 1, "the other's was in order");
}

#[test]
fn a_token_that_is_replaced_is_read_anew() {
    let mut world = World::new();
    let (kubeconfig, token) = world.kubeconfig_of_token_file(&world.token());
    world.start_agent_with(&kubeconfig);

    // The account is made anew: the old token is worth nothing from then on.
    let account = "/api/v1/namespaces/kube-system/serviceaccounts/meta-cni";
    world.plane.api().delete(account).unwrap();
    let anew = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "kube-system", "name": "meta-cni"}});
    world.plane.api().apply(&anew).unwrap();
    world.plane.kill_api();
    world.plane.start_api();
    let web = world.pod("web", "");
    world.until("refusal of the old token", || {
        let outcome = world.node.add(&web);
        if outcome.succeeded() {
            Err("it is still taken".to_owned())
        } else {
            Ok(outcome.refused(11, &["Unauthorized"]))
        }
    });
    fs::write(&token, world.token()).unwrap();
    world.within(Duration::from_secs(120), "ADD with the new token", || {
        let outcome = world.node.add(&web);
        if outcome.succeeded() { Ok(()) } else { Err(outcome.stdout()) }
    });
    world.until("status with the new token", || world.status("web"));
}

#[test]
fn a_cluster_that_does_not_know_definitions_yet_is_no_reason_to_fail_other_pods() {
    let mut world = World::new();
    world.plane.kubectl(["delete", "crd", "network-attachment-definitions.k8s.cni.cncf.io"]);
    let kubeconfig = world.kubeconfig();
    world.launch_agent(&kubeconfig);
    world.add(&world.pod("web", ""));
    let waiting = world.pod("waiting", "lan");
    world.node.add(&waiting).refused(11, &["(lan)"]);
    world.install_definitions();
    world.nad("lan");
    world.add(&waiting);
    world.until("list of definitions", || match world.health(&[]) {
        Ok(line) if line.contains("definitions known") => Ok(()),
        Ok(other) | Err(other) => Err(other),
    });
}
