//! CHECK, GC, STATUS, and the network-status annotation.

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{Node, Pod, STATUS};
use serde_json::{Value, json};

fn scene() -> (Node, Pod) {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one", "fakeIps": [{"address": "10.1.0.2/24"}]}));
    node.nad("net-b", json!({"cniVersion": "0.3.1", "type": "two", "fakeIps": [{"address": "10.2.0.2/24"}]}));
    let pod = node.pod("web", "net-a,net-b");
    (node, pod)
}

#[test]
fn check_asks_every_recorded_attachment_that_can_be_asked() {
    let (node, pod) = scene();
    let result = node.add(&pod).result();
    node.fakes.take_order();
    node.check(&pod, &result).quiet();
    let calls = node.fakes.calls();
    assert_eq!(node.fakes.take_order(), ["CHECK main eth0", "CHECK one net1"], "0.3.1 has no CHECK");
    assert_eq!(calls[1].conf()["prevResult"]["ips"][0]["address"], "10.1.0.2/24");
    node.fakes.rules("one", &[Rule::on("CHECK").fails(101, "address is gone")]);
    node.check(&pod, &result).refused(101, &["default/net-a", "address is gone"]);
    node.del(&pod).quiet();
}

#[test]
fn check_honours_disable_check_and_needs_an_add() {
    let (mut node, pod) = scene();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "disableCheck": true, "plugins": [{"type": "one"}]}));
    let result = node.add(&pod).result();
    node.fakes.take_order();
    node.check(&pod, &result).quiet();
    assert_eq!(node.fakes.take_order(), ["CHECK main eth0"]);
    node.del(&pod).quiet();
    node.fakes.take_order();
    node.check(&pod, &result).refusal();
    assert!(node.fakes.take_order().is_empty());
    node.conf["disableCheck"] = json!(true);
    node.check(&pod, &result).quiet();
}

fn gc(node: &Node, valid: &[&Pod]) -> meta_cni_tests::call::Outcome {
    let valid: Vec<Value> = valid.iter().map(|pod| json!({"containerID": pod.container, "ifname": "eth0"})).collect();
    node.bare_call("GC").conf("cni.dev/valid-attachments", json!(valid)).run()
}

#[test]
fn gc_undoes_what_the_runtime_no_longer_knows_and_spares_the_rest() {
    let (node, lost) = scene();
    let kept = node.pod("db", "net-a");
    node.add(&lost).result();
    node.add(&kept).result();
    node.fakes.take_order();
    gc(&node, &[&kept]).quiet();
    let calls = node.fakes.calls();
    let dels: Vec<String> =
        calls.iter().filter(|seen| seen.var("CNI_COMMAND") == "DEL").map(|seen| seen.line()).collect();
    assert_eq!(dels, ["DEL two net2", "DEL one net1", "DEL main eth0"]);
    assert!(
        calls
            .iter()
            .filter(|seen| seen.var("CNI_COMMAND") == "DEL")
            .all(|seen| seen.var("CNI_CONTAINERID") == lost.container)
    );
    let told = calls
        .iter()
        .find(|seen| seen.var("CNI_COMMAND") == "GC" && seen.plugin == "main")
        .expect("GC of the default delegate")
        .conf();
    let valid = json!([{"containerID": kept.container, "ifname": "eth0"}]);
    assert_eq!(told["cni.dev/valid-attachments"], valid);
    node.del(&kept).quiet();
    node.assert_clean();
}

#[test]
fn gc_passes_unknown_pairs_of_the_runtime_to_the_default_delegate() {
    let (node, pod) = scene();
    node.add(&pod).result();
    node.fakes.take_order();
    let valid =
        json!([{"containerID": pod.container, "ifname": "eth0"}, {"containerID": "stranger", "ifname": "eth0"}]);
    node.bare_call("GC").conf("cni.dev/valid-attachments", valid.clone()).run().quiet();
    let calls = node.fakes.calls_of("GC");
    let told = calls.iter().find(|seen| seen.plugin == "main").expect("GC of the default delegate");
    let pairs = told.conf()["cni.dev/valid-attachments"].as_array().cloned().unwrap_or_default();
    for pair in valid.as_array().unwrap() {
        assert!(pairs.contains(pair), "{pair} is missing in {pairs:?}");
    }
    assert!(node.fakes.calls_of("DEL").is_empty());
    node.del(&pod).quiet();
}

#[test]
fn gc_of_one_network_leaves_the_other_alone() {
    let (node, pod) = scene();
    node.add(&pod).result();
    node.fakes.take_order();
    node.bare_call("GC").conf("name", json!("other-net")).conf("cni.dev/valid-attachments", json!([])).run().quiet();
    assert!(node.fakes.calls_of("DEL").is_empty());
    node.del(&pod).quiet();
}

#[test]
fn gc_honours_disable_gc() {
    let (node, pod) = scene();
    node.add(&pod).result();
    node.fakes.take_order();
    node.bare_call("GC").conf("disableGC", json!(true)).conf("cni.dev/valid-attachments", json!([])).run().quiet();
    assert!(node.fakes.take_order().is_empty());
    node.del(&pod).quiet();
}

#[test]
fn gc_goes_on_after_an_error_and_says_it_at_the_end() {
    let (node, first) = scene();
    let second = node.pod("db", "net-a");
    node.add(&first).result();
    node.add(&second).result();
    node.fakes.rules("one", &[Rule::on("DEL").times(1).fails(11, "busy")]);
    node.fakes.take_order();
    gc(&node, &[]).refused(11, &["busy"]);
    assert_eq!(node.fakes.calls_of("DEL").iter().filter(|seen| seen.plugin == "one").count(), 2);
    gc(&node, &[]).quiet();
    node.assert_clean();
}

#[test]
fn gc_skips_a_sandbox_that_is_at_work() {
    let (node, pod) = scene();
    let go = node.path("go");
    node.fakes.rules("one", &[Rule { wait_for: Some(go.clone()), ..Rule::on("ADD") }]);
    let add = node.call("ADD", &pod).start();
    while node.fakes.calls().len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    gc(&node, &[]).quiet();
    assert!(node.fakes.calls_of("DEL").is_empty());
    std::fs::write(&go, "").unwrap();
    meta_cni_tests::call::Outcome::of("ADD", add).result();
    node.del(&pod).quiet();
}

#[test]
fn status_asks_the_default_network() {
    let (node, _) = scene();
    node.bare_call("STATUS").run().quiet();
    assert_eq!(node.fakes.take_order(), ["STATUS main "]);
    node.fakes.rules("main", &[Rule::on("STATUS").fails(51, "half asleep")]);
    node.bare_call("STATUS").run().refused(51, &["half asleep"]);
}

/// A STATUS that is killed at each of its system calls in turn.
#[test]
fn a_killed_status_leaves_nothing() {
    let (node, _) = scene();
    node.bare_call("STATUS").run().quiet();
    let kill = |syscall: &str, nth: u32| {
        let inject = format!("inject={syscall}:signal=KILL:when={nth}");
        let trace = format!("trace={syscall}");
        let words = ["strace", "-qq", "-o", "/dev/null", "-e", trace.as_str(), "-e", inject.as_str()];
        node.bare_call("STATUS").under(words).run().finished.signal == Some(9)
    };
    let mut killed = 0;
    for syscall in ["openat", "open", "write", "close", "unlink", "unlinkat", "mkdir"] {
        for nth in 1.. {
            if !kill(syscall, nth) {
                break;
            }
            killed += 1;
            let left = node.files("state");
            assert!(left.is_empty(), "killed at {syscall} {nth}: {left:?}");
        }
    }
    assert!(killed > 5, "killed only {killed} times");
}

#[test]
fn status_sees_a_state_directory_that_takes_nothing() {
    let (node, _) = scene();
    let state = node.text("state");
    std::fs::create_dir(&state).unwrap();
    let run = |program: &str, args: &[&str]| drop(meta_cni_tests::program::run(program, args));
    let mounted = |options: &str| {
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &state]);
    };
    mounted("ro,size=64k");
    node.bare_call("STATUS").run().refused(50, &["stateDir", &state]);
    run("umount", &["-l", &state]);
    mounted("size=16k");
    std::fs::write(node.path("state/taken"), vec![0; 16 << 10]).unwrap();
    node.bare_call("STATUS").run().refused(50, &["stateDir", &state]);
    run("umount", &["-l", &state]);
    mounted("nr_inodes=2");
    std::fs::write(node.path("state/taken"), "").unwrap();
    node.bare_call("STATUS").run().refused(50, &["stateDir", &state]);
    run("umount", &["-l", &state]);
    node.bare_call("STATUS").run().quiet();
    assert!(node.files("state").is_empty());
}

#[test]
fn a_missing_readiness_file_is_answered_at_once() {
    let (mut node, pod) = scene();
    node.conf["readinessindicatorfile"] = json!(node.path("ready"));
    let began = std::time::Instant::now();
    node.bare_call("STATUS").run().refused(50, &["ready"]);
    node.add(&pod).refused(11, &["ready"]);
    assert!(began.elapsed().as_secs() < 2);
    assert!(node.fakes.take_order().is_empty());
    node.del(&pod).quiet();
    std::fs::write(node.path("ready"), "").unwrap();
    node.add(&pod).result();
    node.del(&pod).quiet();
}

#[test]
fn status_annotation_tells_every_attachment_in_multus_shape() {
    let (node, pod) = scene();
    node.add(&pod).result();
    let status = node.status(&pod);
    let entries = status.as_array().unwrap();
    assert_eq!(entries.len(), 3, "{status}");
    assert_eq!(entries[0]["name"], "default-net");
    assert_eq!(entries[0]["default"], true);
    assert_eq!(entries[0]["interface"], "eth0");
    assert_eq!(entries[0]["ips"], json!(["192.0.2.2"]));
    assert_eq!(entries[1]["name"], "default/net-a");
    assert_eq!(entries[1]["interface"], "net1");
    assert_eq!(entries[1]["ips"], json!(["10.1.0.2"]));
    assert!(entries[1].get("default").is_none(), "{status}");
    assert!(entries.iter().all(|entry| entry["dns"].is_object()), "{status}");
    assert_eq!(entries[2]["name"], "default/net-b");
    node.del(&pod).quiet();
}

#[test]
fn a_result_without_interfaces_still_has_an_entry() {
    let (node, pod) = scene();
    node.fakes.rules("one", &[Rule::on("ADD").prints(r#"{"cniVersion":"1.0.0"}"#)]);
    node.add(&pod).result();
    assert_eq!(node.status(&pod)[1]["name"], "default/net-a");
    node.del(&pod).quiet();
}

#[test]
fn writing_the_status_keeps_the_rest_of_the_manifest() {
    let node = Node::new();
    node.manifest(
        "pod-yaml.json",
        "# kept by hand\napiVersion: v1\nkind: Pod\nmetadata:\n  name: yaml\n  namespace: default\n  labels: {app: web}\n  annotations:\n    example.org/note: \"yes\"\nspec:\n  containers:\n  - name: main\n    image: pause\n",
    );
    let pod = node.sandbox("yaml", "");
    let args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=yaml";
    node.call("ADD", &pod).env("CNI_ARGS", args).run().result();
    let annotations = node.annotations(&pod);
    assert_eq!(annotations["example.org/note"], "yes");
    assert!(annotations[STATUS].is_string());
    let text = std::fs::read_to_string(node.path("manifests/pod-yaml.json")).unwrap();
    let manifest: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(manifest["metadata"]["labels"]["app"], "web");
    assert_eq!(manifest["spec"]["containers"][0]["image"], "pause");
    let strays: Vec<String> =
        node.files("manifests").into_iter().filter(|path| path != "manifests/pod-yaml.json").collect();
    assert!(strays.is_empty(), "{strays:?}");
    node.call("DEL", &pod).env("CNI_ARGS", args).run().quiet();
}

#[test]
fn a_status_that_cannot_be_written_does_not_undo_a_pod() {
    let mut node = Node::new();
    let pod = node.pod("web", "");
    node.conf["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": {}});
    node.remove_manifest("pod-web.json");
    node.add(&pod).result();
    node.del(&pod).quiet();
    node.assert_clean();
}
