//! `meta-cnictl status`, `doctor` and `explain` on a node: what they say is what the kernel, the records and the files hold.

use std::fs;
use std::process::Command;
use std::time::Duration;

use meta_cni_tests::node::{Node, Pod};
use meta_cni_tests::program;
use serde_json::{Value, json};

/// A node whose default network and `net-a` are by our own bridge.
fn node() -> Node {
    let mut node = Node::new();
    let bridge = |name: &str, bridge: &str, subnet: &str| json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": bridge, "ipam": node.host_local(subnet)});
    let (default, further) = (bridge("default-net", "cni0", "10.10.0.0/24"), bridge("net-a", "br-a", "10.11.0.0/24"));
    node.conf["delegates"] = json!([default]);
    node.nad("net-a", further);
    node
}

/// What it prints and how it ends. No kubeconfig is found.
fn ctl(node: &Node, args: &[&str]) -> (Option<i32>, Value) {
    let mut command: Command = node.netns.command(program::built("meta-cnictl"));
    command.args(args).args(["-o", "json"]).env_remove("KUBECONFIG").env("HOME", node.dir());
    let finished = program::start(&mut command, b"").finish(Duration::from_secs(30));
    let (out, err) = (
        String::from_utf8_lossy(&finished.stdout).into_owned(),
        String::from_utf8_lossy(&finished.stderr).into_owned(),
    );
    (finished.code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}")))
}

fn status(node: &Node) -> (Option<i32>, Value) {
    ctl(node, &["status", "--state-dir", &node.text("state")])
}

fn attached(node: &Node) -> Pod {
    let pod = node.pod("web", "net-a");
    node.add(&pod).result();
    pod
}

/// The differences of the one record.
fn differences(node: &Node) -> Vec<String> {
    let (code, read) = status(node);
    let told = read["records"][0]["differences"].as_array().unwrap();
    let told: Vec<String> = told.iter().map(|one| one.as_str().unwrap().to_owned()).collect();
    assert_eq!(code, Some(i32::from(!told.is_empty())), "{read}");
    told
}

#[test]
fn status_tells_what_the_kernel_has_otherwise() {
    let node = node();
    let pod = attached(&node);
    let (code, read) = status(&node);
    assert_eq!((code, &read["good"]), (Some(0), &json!(true)), "{read}");
    let record = &read["records"][0];
    assert_eq!((&record["pod"], &record["state"]), (&json!("default/web"), &json!("done")));
    let networks = record["networks"].as_array().unwrap();
    assert_eq!((&networks[1]["network"], &networks[1]["ips"]), (&json!("default/net-a"), &json!(["10.11.0.2/24"])));

    pod.netns.run("ip address del 10.11.0.2/24 dev net1");
    assert_eq!(differences(&node), ["default/net-a: net1 does not have the address 10.11.0.2/24"]);
    pod.netns.run("ip address add 10.11.0.2/24 dev net1");
    pod.netns.run("ip link set net1 address 02:00:00:00:00:99");
    let told = differences(&node);
    assert!(told[0].starts_with("default/net-a: net1 has the MAC address 02:00:00:00:00:99, want "), "{told:?}");
    pod.netns.run("ip link del net1");
    assert_eq!(differences(&node), ["default/net-a: net1 is not in the pod"]);
    node.del(&pod).quiet();
    assert_eq!(status(&node).1["records"], json!([]));
    node.assert_clean();
}

#[test]
fn status_and_doctor_tell_of_a_sandbox_that_is_gone() {
    let node = node();
    let pod = attached(&node);
    pod.netns.remove();
    let told = differences(&node);
    assert!(told[0].starts_with("its network namespace is gone: "), "{told:?}");
    let record = node.records("attached").pop().unwrap();
    // A record that was just written may be that of a running call.
    let aged = std::time::SystemTime::now() - Duration::from_secs(600);
    fs::File::open(&record).unwrap().set_modified(aged).unwrap();
    let stranger = node.path("addresses/net-a/10.11.0.77");
    fs::write(&stranger, "stranger\r\nnet1").unwrap();
    let found = doctor(&node);
    let of = |id: &str| {
        found
            .iter()
            .filter(|one| one["id"] == id)
            .map(|one| one["found"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let leftovers = of("D60");
    assert!(leftovers.iter().any(|text| text.contains("1 records have no sandbox: default/web")), "{found:?}");
    assert!(leftovers.iter().any(|text| text.contains("net-a 10.11.0.77 of stranger")), "{found:?}");
    assert_eq!(of("D30").len(), 1, "the plugin is not in the fakes' directory");
    fs::remove_file(stranger).unwrap();
    node.del(&pod).quiet();
}

fn doctor(node: &Node) -> Vec<Value> {
    let places = [
        ("--state-dir", "state"),
        ("--cni-conf-dir", "conf"),
        ("--cni-bin-dir", "bin"),
        ("--addresses-dir", "addresses"),
        ("--socket", "agent.sock"),
    ];
    let flags: Vec<String> = places.iter().flat_map(|(flag, path)| [(*flag).to_owned(), node.text(path)]).collect();
    let all: Vec<&str> = std::iter::once("doctor").chain(flags.iter().map(String::as_str)).collect();
    let (code, read) = ctl(node, &all);
    assert_eq!(code, Some(1), "no agent, no configuration: {read}");
    read["findings"].as_array().unwrap().clone()
}

#[test]
fn doctor_leaves_the_node_as_it_is() {
    let node = node();
    let pod = attached(&node);
    let (was, files) = (node.netns.links(), node.records("attached"));
    let found = doctor(&node);
    let ids: Vec<&str> = found.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(
        ids.contains(&"D33") && ids.contains(&"D40") && !ids.contains(&"D60") && !ids.contains(&"D03"),
        "{found:?}"
    );
    assert_eq!((node.netns.links(), node.records("attached")), (was, files));
    node.del(&pod).quiet();
    node.assert_clean();
}

/// What an ADD refuses on this node, explain says before, in the same words.
#[test]
fn explain_on_the_node_says_what_its_add_will() {
    let node = node();
    node.nad("lost", json!({"cniVersion": "1.0.0", "type": "no-such-plugin"}));
    fs::write(node.path("node.conf"), node.conf.to_string()).unwrap();
    for (name, networks, is_refused) in
        [("good", "net-a", false), ("bad", "net-a, lost", true), ("none", "nowhere", true)]
    {
        let pod = node.pod(name, networks);
        let (code, read) =
            ctl(&node, &["explain", name, "-f", &node.text("manifests"), "--node-conf", &node.text("node.conf")]);
        assert_eq!(code, Some(i32::from(is_refused)), "{read}");
        let added = node.add(&pod);
        assert_eq!(added.succeeded(), !is_refused);
        if is_refused {
            let error: Value = serde_json::from_str(&added.stdout()).unwrap();
            let refusals = read["pods"][0]["refusals"].as_array().unwrap();
            // The runtime's CNI_PATH is not known before it calls.
            let says = |one: &Value| error["msg"].as_str().unwrap().starts_with(one["message"].as_str().unwrap());
            let same = |one: &Value| one["code"] == error["code"] && says(one);
            assert!(refusals.iter().any(same), "{refusals:?} and {error}");
        } else {
            let explained: Vec<(&Value, &Value)> = read["pods"][0]["networks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| (&one["network"], &one["interface"]))
                .collect();
            let status = node.status(&pod);
            let real: Vec<(&Value, &Value)> =
                status.as_array().unwrap().iter().map(|one| (&one["name"], &one["interface"])).collect();
            assert_eq!(explained, real);
            node.del(&pod).quiet();
        }
    }
}
