//! `meta-cni hotplug`: what an edit of a running pod's annotation attaches and detaches, in which order, and what is left when it fails
//! or is killed.

use std::fs;

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// A node with the networks `a` and `b`, and a pod that is attached to these.
fn running(networks: &str) -> (Node, Pod, Value) {
    let node = Node::new();
    node.nad("a", json!({"cniVersion": "1.0.0", "type": "one"}));
    node.nad("b", json!({"cniVersion": "1.0.0", "type": "two"}));
    // The fake's links are not in the pod: with no word of them, nothing says that the sandbox is another one.
    for (plugin, version) in [("main", "1.1.0"), ("one", "1.0.0"), ("two", "1.0.0")] {
        quiet(&node, plugin, version, &[]);
    }
    let pod = node.pod("web", networks);
    let result = node.add(&pod).result();
    node.fakes.take_order();
    (node, pod, result)
}

/// A plugin that names no interface, and before that does what these rules say.
fn quiet(node: &Node, plugin: &str, version: &str, before: &[Rule]) {
    let answers = Rule::on("ADD").answers(&json!({"cniVersion": version, "ips": [{"address": "192.0.2.7/24"}]}));
    node.fakes.rules(plugin, &before.iter().cloned().chain([answers]).collect::<Vec<_>>());
}

fn interfaces(node: &Node, pod: &Pod) -> Vec<String> {
    let status = node.status(pod);
    let named = |one: &Value| format!("{} {}", one["name"].as_str().unwrap(), one["interface"].as_str().unwrap_or("-"));
    status.as_array().unwrap().iter().map(named).collect()
}

fn list(report: &Value, key: &str) -> Vec<String> {
    report[key].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// The first line of the pod's record.
fn layout(node: &Node) -> String {
    let text = fs::read(&node.records("attached")[0]).unwrap();
    String::from_utf8_lossy(&text).lines().next().unwrap().to_owned()
}

#[test]
fn what_is_new_is_attached_before_what_is_listed_no_more_goes() {
    let (node, pod, result) = running("a");
    assert_eq!(layout(&node), "meta-cni record 1");
    node.edit(&pod, "b,b@data");
    let report = node.hot_plug(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD two net2", "ADD two data", "DEL one net1"]);
    assert_eq!(list(&report, "removed"), ["Remove net1 from default/a"]);
    assert_eq!(list(&report, "added").len(), 2, "{report}");
    assert_eq!(layout(&node), "meta-cni record 2");
    assert_eq!(interfaces(&node, &pod).len(), 3);

    node.check(&pod, &result).quiet();
    assert_eq!(node.fakes.take_order(), ["CHECK main eth0", "CHECK two net2", "CHECK two data"]);
    assert_eq!(node.hot_plug(&pod).result(), json!({"added": [], "removed": []}));
    assert!(node.fakes.take_order().is_empty(), "the pod has what it wants");
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL two data", "DEL two net2", "DEL main eth0"]);
    node.assert_clean();
}

#[test]
fn the_plugins_are_called_as_those_of_an_add_and_undone_with_what_they_were_given() {
    let (node, pod, _) = running("");
    node.edit(&pod, r#"[{"name":"a","interface":"x","mac":"02:00:00:00:00:09","cni-args":{"k":1}}]"#);
    node.hot_plug(&pod).result();
    let added = node.fakes.calls_of("ADD").pop().unwrap();
    assert_eq!((added.var("CNI_IFNAME"), added.var("CNI_NETNS")), ("x", pod.netns.text()));
    assert_eq!(added.var("CNI_CONTAINERID"), pod.container);
    let args = added.var("CNI_ARGS");
    assert!(args.contains("K8S_POD_NAME=web") && args.contains("MAC=02:00:00:00:00:09"), "{args}");
    assert_eq!(added.conf()["args"]["cni"], json!({"k": 1}));
    // The definition is another one by now: the undo keeps to what was attached.
    node.nad("a", json!({"cniVersion": "1.0.0", "type": "two"}));
    node.fakes.take_order();
    node.edit(&pod, "");
    node.hot_plug(&pod).result();
    let removed = node.fakes.calls_of("DEL").pop().unwrap();
    assert_eq!(node.fakes.take_order(), ["DEL one x"]);
    assert_eq!((removed.var("CNI_ARGS"), &removed.conf()["args"]), (args, &added.conf()["args"]));
    assert_eq!(removed.conf()["prevResult"]["ips"][0]["address"], "192.0.2.7/24");
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn of_two_attachments_of_one_network_the_one_that_is_named_stays() {
    let (node, pod, _) = running("a,a");
    node.edit(&pod, "a@net2");
    node.hot_plug(&pod).result();
    assert_eq!(node.fakes.take_order(), ["DEL one net1"]);
    // Its name is free now, and net2 is still the attachment of before.
    node.edit(&pod, "a@net2,b,a");
    node.hot_plug(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD two net1", "ADD one net3"]);
    node.edit(&pod, "a,b");
    node.hot_plug(&pod).result();
    assert_eq!(node.fakes.take_order(), ["DEL one net3"]);
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL two net1", "DEL one net2", "DEL main eth0"]);
    node.assert_clean();
}

#[test]
fn a_failure_takes_back_what_it_attached_and_touches_nothing_else() {
    let (node, pod, result) = running("a");
    let before = interfaces(&node, &pod);
    quiet(&node, "two", "1.0.0", &[Rule::on("ADD").at("net3").fails(7, "no room")]);
    node.edit(&pod, "b,b,b");
    node.hot_plug(&pod).refused(7, &["network default/b (net3): no room"]);
    let order = node.fakes.take_order();
    assert_eq!(
        order,
        ["ADD two net2", "ADD two net3", "DEL two net3", "DEL two net2"],
        "net1 stays, net4 was not tried"
    );
    assert_eq!(interfaces(&node, &pod), before);
    node.check(&pod, &result).quiet();
    node.fakes.take_order();
    quiet(&node, "two", "1.0.0", &[]);
    node.hot_plug(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD two net2", "ADD two net3", "ADD two net4", "DEL one net1"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_touched() {
    let (mut node, pod, _) = running("a");
    node.conf["maxAttachments"] = json!(3);
    for (networks, code, words) in [
        ("a,b@eth0", 7, "got eth0, want a name that no earlier attachment has"),
        ("a,[", 7, "networks"),
        ("b@net1", 7, "default/a has it, and nothing is changed in place"),
        (r#"[{"name":"a","interface":"net1","mac":"02:00:00:00:00:09"}]"#, 7, "remove it first, then add it back"),
        ("a,b,b,b", 7, "4 networks, want at most 3 (maxAttachments)"),
        ("a,nowhere", 11, "cannot find a network-attachment-definition (nowhere)"),
    ] {
        node.edit(&pod, networks);
        node.hot_plug(&pod).refused(code, &[words]);
        assert!(node.fakes.take_order().is_empty(), "{networks}");
        assert_eq!(layout(&node), "meta-cni record 1", "{networks}");
    }
    node.edit(&pod, "");
    node.hot_plug_call(&pod).conf("hotplug", json!(false)).run().refused(2, &["hotplug: got false"]);
    node.hot_plug_call(&pod).conf("hotplug", json!("no")).run().refused(7, &["hotplug: got"]);
    node.hot_plug_call(&pod).args(["hotplug"]).run().refused(4, &["got 0 arguments"]);
    node.hot_plug_call(&pod).args(["hotplug", "c/d", "eth0"]).run().refused(4, &["c/d"]);
    node.hot_plug_call(&pod).args(["hotplug", "other", "eth0"]).run().refused(3, &["which is not attached"]);
    node.hot_plug(&pod).result();
    assert_eq!(node.fakes.take_order(), ["DEL one net1"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_plugin_that_is_killed_while_it_attaches_is_undone_by_whoever_comes_next() {
    for next in ["hotplug", "DEL", "replay", "GC"] {
        let (node, pod, result) = running("a");
        let kill = Rule { kill_parent: true, times: Some(1), ..Rule::on("ADD").at("net3") };
        quiet(&node, "two", "1.0.0", &[kill]);
        node.edit(&pod, "a,b,b");
        assert_eq!(node.hot_plug(&pod).finished.signal, Some(9));
        node.fakes.take_order();
        // What is unfinished is neither there nor gone.
        node.check(&pod, &result).quiet();
        assert_eq!(node.fakes.take_order(), ["CHECK main eth0", "CHECK one net1"]);
        let undone = ["DEL two net3", "DEL two net2"];
        match next {
            "hotplug" => {
                node.hot_plug(&pod).result();
                let order = node.fakes.take_order();
                assert_eq!(
                    (&order[..2], &order[2..]),
                    (&undone.map(String::from)[..], &["ADD two net2", "ADD two net3"].map(String::from)[..])
                );
            }
            "replay" => {
                assert_eq!(node.replay()["living"], 1);
                assert_eq!(node.fakes.take_order(), undone);
                assert_eq!(interfaces(&node, &pod).len(), 2);
            }
            "GC" => {
                let none = json!([]);
                node.bare_call("GC").conf("cni.dev/valid-attachments", none).run().quiet();
            }
            _ => {
                node.del(&pod).quiet();
                assert_eq!(node.fakes.take_order(), [undone[0], undone[1], "DEL one net1", "DEL main eth0"]);
            }
        }
        node.del(&pod).quiet();
        node.assert_clean();
    }
}

#[test]
fn a_plugin_that_is_killed_while_it_detaches_is_finished_by_whoever_comes_next() {
    for next in ["hotplug", "DEL", "replay"] {
        let (node, pod, result) = running("a,b");
        let kill = Rule { kill_parent: true, times: Some(1), ..Rule::on("DEL") };
        quiet(&node, "one", "1.0.0", &[kill]);
        node.edit(&pod, "b");
        assert_eq!(node.hot_plug(&pod).finished.signal, Some(9));
        node.fakes.take_order();
        node.check(&pod, &result).quiet();
        assert_eq!(node.fakes.take_order(), ["CHECK main eth0", "CHECK two net2"]);
        match next {
            "hotplug" => {
                node.hot_plug(&pod).result();
                assert_eq!(node.fakes.take_order(), ["DEL one net1"]);
            }
            "replay" => {
                node.replay();
                assert_eq!(node.fakes.take_order(), ["DEL one net1"]);
            }
            _ => {
                node.del(&pod).quiet();
                assert_eq!(node.fakes.take_order(), ["DEL two net2", "DEL one net1", "DEL main eth0"]);
            }
        }
        node.del(&pod).quiet();
        node.assert_clean();
    }
}

#[test]
fn what_cannot_be_detached_is_told_and_tried_again() {
    let (node, pod, _) = running("a,b");
    quiet(&node, "one", "1.0.0", &[Rule::on("DEL").times(1).fails(11, "its daemon is away")]);
    node.edit(&pod, "b");
    node.hot_plug(&pod).refused(11, &["its daemon is away"]);
    assert_eq!(interfaces(&node, &pod).len(), 2, "the pod is told that it has it no more");
    node.fakes.take_order();
    node.hot_plug(&pod).result();
    assert_eq!(node.fakes.take_order(), ["DEL one net1"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn many_edits_do_not_make_a_record_grow_for_ever() {
    let (node, pod, result) = running("");
    let record = node.records("attached")[0].clone();
    let mut longest = 0;
    for round in 0..40 {
        node.edit(&pod, if round % 2 == 0 { "a" } else { "" });
        node.hot_plug(&pod).result();
        longest = longest.max(fs::metadata(&record).unwrap().len());
    }
    assert!(longest < 64 << 10, "{longest} bytes");
    assert!(fs::metadata(&record).unwrap().len() < longest / 2);
    node.fakes.take_order();
    node.check(&pod, &result).quiet();
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["CHECK main eth0", "DEL main eth0"]);
    node.assert_clean();
}

#[test]
fn a_record_of_a_later_layout_is_refused_by_its_number() {
    let (node, pod, _) = running("a");
    let record = node.records("attached")[0].clone();
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replacen("record 1", "record 3", 1)).unwrap();
    node.hot_plug(&pod).refused(5, &["layout version \"3\", want 2 or the one before it"]);
    node.del(&pod).refused(5, &["layout version \"3\""]);
    fs::write(&record, text).unwrap();
    node.del(&pod).quiet();
    node.assert_clean();
}
