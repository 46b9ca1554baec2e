//! How long a judgement takes beside 1,000 definitions and 5,000 pods: `cargo run --release --example bench-rules`.

#[path = "../tests/crowd/mod.rs"]
mod crowd;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use webhook::cluster::{Options, View};
use webhook::rules::{Operation, Request, judge};

const ROUNDS: u32 = 2000;

fn main() {
    let mut view = View::new(Options::default());
    crowd::fill(&mut view);
    let pod = |i: u32, text: String| json!({"metadata": {"namespace": "shop", "name": format!("new-{i}"), "annotations": {"k8s.v1.cni.cncf.io/networks": text}}});
    let definition = |i: u32| {
        json!({"metadata": {"namespace": "shop", "name": format!("new-{i}")},
        "spec": {"config": crowd::config(i).to_string()}})
    };
    let held = |i: u32| json!([{"name": format!("net-{}", i % 1000), "ips": ["10.0.0.2/24"]}]).to_string();
    measure("pod of three networks", ("", "Pod"), &view, |i| pod(i, crowd::networks(i)));
    measure("pod that asks for an address", ("", "Pod"), &view, |i| pod(i, held(i)));
    measure("pod whose network is missing", ("", "Pod"), &view, |i| pod(i, "net-x".to_owned()));
    let kind = ("k8s.cni.cncf.io", "NetworkAttachmentDefinition");
    measure("definition that is new", kind, &view, |i| definition(5000 + i));
    measure("definition that clashes", kind, &view, |i| definition(i % 1000));
}

fn measure(what: &str, (group, kind): (&str, &str), view: &View, object: impl Fn(u32) -> Value) {
    let mut times: Vec<Duration> = Vec::new();
    let mut problems = 0;
    for i in 0..ROUNDS {
        let object = object(i);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let request = Request {
            operation: Operation::Create,
            group,
            kind,
            namespace: "shop",
            name,
            object: &object,
            old: None,
            user: "",
            groups: &[],
        };
        let start = Instant::now();
        problems += judge(&request, view).len();
        times.push(start.elapsed());
    }
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    println!("{what}: median {:?}, p99 {:?}, {problems} problems in {ROUNDS}", at(50), at(99));
}
