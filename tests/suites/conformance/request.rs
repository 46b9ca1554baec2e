//! What the runtime says: environment, stdin, names and versions, and the code that each mistake is answered with (C49-C52).

use meta_cni_tests::call::Call;
use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

fn node_and_pod() -> (Node, Pod) {
    let node = Node::new();
    let pod = node.pod("web", "");
    (node, pod)
}

#[test]
fn version_answers_without_reading_stdin() {
    let node = Node::new();
    let conf = Call::new(&node.netns).env("CNI_COMMAND", "VERSION").stdin("no JSON at all").run().result();
    let versions = json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    assert_eq!(conf["supportedVersions"], versions);
    assert_eq!(conf["cniVersion"], "1.1.0");
}

#[test]
fn without_a_command_it_says_what_it_is() {
    let node = Node::new();
    let outcome = Call::new(&node.netns).run();
    assert!(outcome.succeeded() && outcome.stdout().is_empty());
    assert!(outcome.stderr().contains("meta-cni") && outcome.stderr().contains("1.1.0"), "{}", outcome.stderr());
}

/// `eprintln!` panics where stderr takes nothing, which is the one panic that a test can have.
#[test]
fn a_panic_is_one_error_object() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = meta_cni_tests::program::command(meta_cni_tests::call::plugin())
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stderr(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&object["code"], &object["cniVersion"]), (&json!(999), &json!("1.1.0")));
    assert!(object["msg"].as_str().unwrap().contains("panicked"), "{object}");
}

#[test]
fn every_missing_variable_is_named_in_one_message() {
    let (node, pod) = node_and_pod();
    for verb in ["ADD", "CHECK"] {
        let call = node.call(verb, &pod).without("CNI_CONTAINERID").without("CNI_NETNS").without("CNI_IFNAME");
        call.run().refused(4, &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]);
    }
    let refusal =
        node.call("DEL", &pod).without("CNI_CONTAINERID").without("CNI_NETNS").run().refused(4, &["CNI_CONTAINERID"]);
    assert!(!refusal.text.contains("CNI_NETNS"), "DEL has no need of it: {}", refusal.text);
    node.call("ADD", &pod).env("CNI_CONTAINERID", "").run().refused(4, &["CNI_CONTAINERID"]);
}

#[test]
fn malformed_variables_are_code_4_and_named() {
    let (node, pod) = node_and_pod();
    let cases = [
        ("CNI_CONTAINERID", "../../etc"),
        ("CNI_CONTAINERID", "a b"),
        ("CNI_CONTAINERID", "-a"),
        ("CNI_IFNAME", "sixteen-bytes-xx"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_ARGS", "K8S_POD_NAME"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=UPPER;K8S_POD_NAME=web"),
    ];
    for (name, value) in cases {
        node.call("ADD", &pod).env(name, value).run().refused(4, &[name]);
    }
    assert!(node.fakes.calls().is_empty());
    node.assert_clean();
}

#[test]
fn a_value_in_cni_args_may_hold_an_equals_sign() {
    let (node, pod) = node_and_pod();
    let args = format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID={};X=a=b", pod.uid);
    node.call("ADD", &pod).env("CNI_ARGS", args).run().result();
    let calls = node.fakes.calls_of("ADD");
    assert!(calls[0].var("CNI_ARGS").split(';').any(|pair| pair == "X=a=b"), "{}", calls[0].var("CNI_ARGS"));
    node.del(&pod).quiet();
}

#[test]
fn stdin_that_is_no_configuration() {
    let (node, pod) = node_and_pod();
    for text in ["", "{", "[]", "7", "null", "\u{0}", "{} {}"] {
        node.call("ADD", &pod).stdin(text).run().refused(6, &[]);
    }
    let unreadable = vec![0xff, 0xfe, b'{'];
    node.call("ADD", &pod).stdin(unreadable).run().refused(6, &[]);
    // bad JSON beats an unknown command (C50)
    node.call("NONSENSE", &pod).stdin("{").run().refused(6, &[]);
    node.call("NONSENSE", &pod).run().refused(4, &["CNI_COMMAND", "NONSENSE"]);
    assert!(node.fakes.calls().is_empty());
}

#[test]
fn configurations_that_cannot_be_served() {
    let (node, pod) = node_and_pod();
    let cases: [(&str, Value, u64, &[&str]); 14] = [
        ("name", json!("a b"), 7, &["name", "a b"]),
        ("name", json!(""), 7, &["name"]),
        ("name", json!(3), 7, &["name"]),
        ("cniVersion", json!("9.9.9"), 1, &["cniVersion", "9.9.9"]),
        ("cniVersion", json!("x"), 1, &["cniVersion", "x"]),
        ("delegates", json!([]), 7, &["delegates"]),
        (
            "delegates",
            json!([{"cniVersion": "1.1.0", "type": "../../bin/sh", "name": "x"}]),
            7,
            &["type", "../../bin/sh"],
        ),
        ("delegates", json!([{"cniVersion": "1.1.0", "name": "x", "plugins": []}]), 7, &["plugins"]),
        ("delegates", json!("main"), 7, &["delegates"]),
        ("cluster", json!(7), 7, &["cluster"]),
        ("timeoutSeconds", json!("soon"), 7, &["timeoutSeconds", "soon"]),
        ("timeoutSeconds", json!(-1), 7, &["timeoutSeconds", "-1"]),
        ("namespaceIsolation", json!("perhaps"), 7, &["namespaceIsolation", "perhaps"]),
        ("stateDir", json!(5), 7, &["stateDir", "5"]),
    ];
    for (key, value, code, names) in cases {
        node.call("ADD", &pod).conf(key, value).run().refused(code, names);
    }
    node.call("ADD", &pod).conf_without("name").run().refused(7, &["name"]);
    node.call("ADD", &pod).conf_without("delegates").run().refused(7, &["delegates"]);
    assert!(node.fakes.calls().is_empty(), "nothing runs before everything is checked");
    node.assert_clean();
}

#[test]
fn verbs_that_the_version_does_not_have_are_code_1() {
    let (node, pod) = node_and_pod();
    node.call("CHECK", &pod).conf("cniVersion", json!("0.3.1")).run().refused(1, &["CHECK"]);
    for verb in ["GC", "STATUS"] {
        node.bare_call(verb).conf("cniVersion", json!("1.0.0")).run().refused(1, &[verb]);
    }
}

#[test]
fn a_namespace_that_is_none_or_our_own_is_code_8() {
    let (node, pod) = node_and_pod();
    let file = node.text("plain");
    std::fs::write(&file, "").unwrap();
    let absent = node.text("absent");
    for path in [file.as_str(), absent.as_str(), "/proc/self/ns/pid", "/", "relative/path"] {
        node.call("ADD", &pod).env("CNI_NETNS", path).run().refused(8, &["CNI_NETNS", path]);
    }
    let own = node.netns.text();
    node.call("ADD", &pod).env("CNI_NETNS", own).run().refused(8, &["CNI_NETNS", own]);
    node.call("ADD", &pod).env("CNI_NETNS", "/proc/self/ns/net").run().refused(8, &["CNI_NETNS"]);
    assert!(node.fakes.calls().is_empty());
    node.assert_clean();
}

#[test]
fn cni_netns_override_allows_our_own_namespace() {
    let (node, pod) = node_and_pod();
    let call = node.call("ADD", &pod).env("CNI_NETNS", node.netns.text()).env("CNI_NETNS_OVERRIDE", "true");
    call.run().result();
    node.call("DEL", &pod).env("CNI_NETNS", node.netns.text()).env("CNI_NETNS_OVERRIDE", "1").run().quiet();
    node.assert_clean();
}

#[test]
fn a_second_configuration_of_another_name_is_its_own_world() {
    let (node, pod) = node_and_pod();
    let other = |verb: &str, netns: &Netns| {
        node.call(verb, &pod)
            .conf("name", json!("other-net"))
            .env("CNI_IFNAME", "eth1")
            .env("CNI_NETNS", netns.text())
            .run()
    };
    node.add(&pod).result();
    other("ADD", &pod.netns).result();
    other("DEL", &pod.netns).quiet();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD main eth1", "DEL main eth1"]);
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL main eth0"]);
    node.assert_clean();
}
