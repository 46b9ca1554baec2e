//! The node agent in a large cluster and on a busy node. Figures are printed, for those who run it with `--nocapture`.

use std::thread;
use std::time::Instant;

use meta_cni_tests::cluster::Api;
use meta_cni_tests::node::Pod;
use serde_json::{Value, json};

use super::world::{World, nad, pod};

/// Makes objects, four at a time.
fn make(world: &World, objects: Vec<Value>) {
    let kubeconfig: Value = serde_json::from_slice(&std::fs::read(world.plane.kubeconfig()).unwrap()).unwrap();
    thread::scope(|scope| {
        for part in objects.chunks(objects.len().div_ceil(4)) {
            let kubeconfig = &kubeconfig;
            scope.spawn(move || {
                let api = Api::new(kubeconfig);
                for object in part {
                    let path = meta_cni_tests::cluster::api::path_of(object);
                    let collection = path.rsplit_once('/').unwrap().0;
                    api.post(collection, object).unwrap_or_else(|refusal| panic!("{path}: {refusal}"));
                }
            });
        }
    });
}

fn definition(number: usize) -> Value {
    let config = json!({
        "cniVersion": "1.1.0", "type": "one", "bridge": format!("br{number}"),
        "fakeIps": [{"address": format!("10.{}.{}.10/24", number / 250, number % 250)}],
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.43.0.0/24", "rangeStart": "10.43.0.10"}]]},
    });
    nad("default", &format!("net-{number}"), json!({"config": config.to_string()}))
}

fn say(world: &World, what: &str) {
    let (all, anonymous) = world.memory();
    eprintln!("{what}: the agent has {all:.1} MB resident, {anonymous:.1} MB of them its own");
}

/// From the connection to the answer, for a pod's annotations and its two definitions.
fn time_questions(world: &World, pod: &Pod) {
    let pod = json!({"namespace": pod.namespace, "name": pod.name, "uid": pod.uid});
    let references = ["net-1", "net-2"].map(|name| json!({"namespace": "default", "name": name}));
    let body = json!({"pod": pod, "annotations": true, "references": references, "multusNamespace": "kube-system", "waitMs": 5000});
    let question = json!({"newest": 1, "oldest": 1, "kind": "resolve", "body": body});
    let mut times: Vec<f64> = (0..1000)
        .map(|_| {
            let began = Instant::now();
            let answer = world.ask(&question);
            assert_eq!(answer["body"]["definitions"].as_array().unwrap().len(), 3, "{answer}");
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    eprintln!("resolve from the cache: p50 {:.3} ms, p95 {:.3} ms", times[500], times[950]);
}

#[test]
fn ten_thousand_definitions_are_known_and_each_is_found() {
    const ALL: usize = 10_000;
    let mut world = World::new();
    make(&world, (0..ALL).map(definition).collect());
    world.start_agent();
    say(&world, "10,000 definitions");
    let web = world.pod("web", &format!("net-0,net-{}", ALL - 1));
    world.add(&web);
    let status = world.status("web").unwrap();
    assert_eq!(status[1..], ["default/net-0 10.0.0.10", "default/net-9999 10.39.249.10"]);
    let gets = || world.requests("GET", "network-attachment-definitions", "");
    assert_eq!(gets(), 2, "each is read once");
    world.add(&world.pod("next", &format!("net-{},net-0", ALL - 1)));
    assert_eq!(gets(), 2);
}

#[test]
fn ten_thousand_large_definitions_fit_into_the_agents_limit() {
    const ALL: usize = 10_000;
    const MOST: f64 = 64.0;
    let mut world = World::new();
    let large = |number: usize| {
        let config = json!({"cniVersion": "1.1.0", "type": "one", "number": number, "padding": "x".repeat(60 << 10)});
        nad("default", &format!("net-{number}"), json!({"config": config.to_string()}))
    };
    for part in 0..20 {
        make(&world, (part * ALL / 20..(part + 1) * ALL / 20).map(large).collect());
    }
    world.start_agent();
    let fits = |what: &str| {
        say(&world, what);
        let (all, _) = world.memory();
        assert!(all <= MOST, "{what}: {all} MB resident, want at most {MOST}");
    };
    fits("10,000 definitions of 60 KiB");
    // More than the agent keeps, by questions as large as a pod's may be.
    for first in (0..ALL / 4).step_by(64) {
        let references: Vec<_> =
            (first..first + 64).map(|n| json!({"namespace": "default", "name": format!("net-{n}")})).collect();
        let body = json!({"references": references, "multusNamespace": "kube-system", "waitMs": 60000});
        let answer = world.ask(&json!({"newest": 1, "oldest": 1, "kind": "resolve", "body": body}));
        let found = answer["body"]["definitions"].as_array().unwrap();
        assert!(found.len() == 64 && found.iter().all(|one| one["outcome"]["state"] == "found"), "{first}");
    }
    fits("2,500 of them asked for");
    let last = world.pod("last", &format!("net-{}", ALL - 1));
    world.add(&last);
    fits("an ADD after that");
}

#[test]
fn a_busy_node_leaves_no_status_behind() {
    const PODS: usize = 110;
    let mut world = World::new();
    world.start_agent();
    say(&world, "idle");
    make(&world, (0..200).map(definition).collect());
    make(&world, (0..PODS).map(|number| pod(&format!("pod-{number}"), json!({}))).collect());
    let last = world.pod("last", "net-199");
    world.add(&last);
    say(&world, "110 pods and 200 definitions");
    time_questions(&world, &last);
    for round in 0..2 {
        for number in 0..PODS {
            let name = format!("pod-{number}");
            let object = world.plane.api().get(&format!("/api/v1/namespaces/default/pods/{name}")).unwrap();
            let sandbox = world.node.sandbox(&name, object["metadata"]["uid"].as_str().unwrap());
            let networks = format!("net-{},net-{}", number + round, number + round + 50);
            let outcome = world.handed(&sandbox, &networks).conf("statusWaitMs", json!(20)).run();
            assert!(outcome.succeeded(), "{}", outcome.stdout());
            world.node.del(&sandbox).quiet();
        }
        say(&world, &format!("{} ADDs", (round + 1) * PODS));
    }
    for number in 0..PODS {
        let want = format!("default/net-{} ", number + 1);
        world.until("last status of each pod", || {
            let status = world.status(&format!("pod-{number}"))?;
            if status[1].starts_with(&want) { Ok(()) } else { Err(format!("{status:?}, want {want}")) }
        });
    }
}
