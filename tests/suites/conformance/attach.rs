//! ADD: which delegates run, in which order, what each is told, and what the runtime hears.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{NETWORKS, Node};
use meta_cni_tests::program;
use serde_json::{Value, json};

fn conf(kind: &str, address: &str) -> Value {
    json!({"cniVersion": "1.0.0", "type": kind, "fakeIps": [{"address": address}]})
}

#[test]
fn delegates_run_one_after_another_in_the_order_of_the_annotation() {
    let node = Node::new();
    node.nad("net-a", conf("one", "10.1.0.2/24"));
    node.nad("net-b", conf("two", "10.2.0.2/24"));
    let pod = node.pod("web", "net-b,net-a,net-b@uplink");
    node.add(&pod).result();
    let order = ["ADD main eth0", "ADD two net1", "ADD one net2", "ADD two uplink"];
    assert_eq!(node.fakes.take_order(), order);
    node.del(&pod).quiet();
    let order = ["DEL two uplink", "DEL one net2", "DEL two net1", "DEL main eth0"];
    assert_eq!(node.fakes.take_order(), order);
    node.assert_clean();
}

#[test]
fn a_custom_name_still_consumes_a_number() {
    let node = Node::new();
    node.nad("net-a", conf("one", "10.1.0.2/24"));
    let pod = node.pod("web", "net-a@x,net-a");
    node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD one x", "ADD one net2"]);
    node.del(&pod).quiet();
}

#[test]
fn each_delegate_gets_the_environment_of_its_own_attachment() {
    let node = Node::new();
    node.nad("net-a", conf("one", "10.1.0.2/24"));
    let pod = node.pod("web", "net-a");
    node.add(&pod).result();
    let calls = node.fakes.calls();
    for (seen, ifname) in calls.iter().zip(["eth0", "net1"]) {
        assert_eq!(seen.var("CNI_COMMAND"), "ADD");
        assert_eq!(seen.var("CNI_IFNAME"), ifname);
        assert_eq!(seen.var("CNI_CONTAINERID"), pod.container);
        assert_eq!(seen.var("CNI_NETNS"), pod.netns.text());
        assert_eq!(seen.var("CNI_PATH").split(':').next(), node.path("bin").to_str());
        let args = seen.var("CNI_ARGS");
        assert!(
            args.starts_with("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;"),
            "incoming order: {args}"
        );
        assert_eq!(args.matches("K8S_POD_NAME=").count(), 1, "each key once: {args}");
        assert_eq!(seen.netns, node.netns.inode(), "a delegate runs in the host's namespace (C19)");
    }
    node.del(&pod).quiet();
}

#[test]
fn a_delegate_reads_its_own_configuration_and_nothing_that_is_not_its_business() {
    let node = Node::new();
    let text = r#"{"cniVersion":"1.0.0","name":"inner","type":"one","big":12345678901234567890,"x":{"y":[1.10]},
        "capabilities":{"mac":true},"prevResult":{"a":1},"runtimeConfig":{"evil":1},"cni.dev/x":1}"#;
    node.nad_text("default", "net-a", text);
    node.nad("unnamed", conf("two", "10.2.0.2/24"));
    let pod = node.pod("web", "net-a,unnamed");
    node.add(&pod).result();
    let calls = node.fakes.calls_of("ADD");
    assert!(calls[1].stdin.contains("12345678901234567890") && calls[1].stdin.contains("1.10"), "{}", calls[1].stdin);
    let seen = calls[1].conf();
    assert_eq!((&seen["name"], &seen["cniVersion"]), (&json!("inner"), &json!("1.0.0")));
    for key in ["prevResult", "runtimeConfig", "cni.dev/x", "capabilities"] {
        assert!(seen.get(key).is_none(), "{key} in {seen}");
    }
    assert_eq!(calls[2].conf()["name"], "unnamed", "the definition's name is injected (R7)");
    node.del(&pod).quiet();
}

#[test]
fn a_chain_passes_the_result_along_and_dels_see_the_last_one() {
    let node = Node::new();
    let plugins = json!([{"type": "one", "fakeIps": [{"address": "10.1.0.2/24"}]}, {"type": "two", "own": 1}]);
    node.nad("chain", json!({"cniVersion": "1.0.0", "plugins": plugins}));
    let last = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:99", "sandbox": "S"}], "ips": []});
    node.fakes.rules("two", &[Rule::on("ADD").answers(&last)]);
    let pod = node.pod("web", "chain");
    node.add(&pod).result();
    let calls = node.fakes.calls_of("ADD");
    assert!(calls[1].conf().get("prevResult").is_none());
    assert_eq!(calls[2].conf()["prevResult"]["ips"][0]["address"], "10.1.0.2/24");
    assert_eq!(calls[2].conf()["own"], 1);
    node.del(&pod).quiet();
    let dels = node.fakes.calls_of("DEL");
    let order: Vec<&str> = dels.iter().map(|seen| seen.plugin.as_str()).collect();
    assert_eq!(order, ["two", "one", "main"]);
    for seen in &dels[..2] {
        assert_eq!(seen.conf()["prevResult"]["interfaces"][0]["mac"], "02:00:00:00:00:99", "{}", seen.stdin);
    }
}

#[test]
fn prev_result_of_del_exists_from_0_4_0() {
    let node = Node::new();
    node.nad("old", json!({"cniVersion": "0.3.1", "type": "one", "fakeIps": [{"address": "10.1.0.2/24"}]}));
    node.nad("new", json!({"cniVersion": "0.4.0", "type": "two", "fakeIps": [{"address": "10.2.0.2/24"}]}));
    let pod = node.pod("web", "old,new");
    node.add(&pod).result();
    node.del(&pod).quiet();
    let dels = node.fakes.calls_of("DEL");
    assert_eq!(dels[0].conf()["prevResult"]["cniVersion"], "0.4.0");
    assert_eq!(dels[0].conf()["prevResult"]["ips"][0]["version"], "4");
    assert!(dels[1].conf().get("prevResult").is_none(), "{}", dels[1].stdin);
}

#[test]
fn runtime_config_of_the_runtime_reaches_the_default_network_alone() {
    let mut node = Node::new();
    node.conf["delegates"][0]["capabilities"] = json!({"portMappings": true, "bandwidth": false});
    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    node.conf["runtimeConfig"] = json!({"portMappings": mappings, "bandwidth": {"ingressRate": 1}});
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one", "capabilities": {"portMappings": true}}));
    let pod = node.pod("web", "net-a");
    node.add(&pod).result();
    let calls = node.fakes.calls_of("ADD");
    assert_eq!(calls[0].conf()["runtimeConfig"], json!({"portMappings": mappings}));
    assert!(calls[1].conf().get("runtimeConfig").is_none(), "R35: {}", calls[1].stdin);
    node.del(&pod).quiet();
    assert_eq!(node.fakes.calls_of("DEL")[1].conf()["runtimeConfig"], json!({"portMappings": mappings}));
}

#[test]
fn requests_of_the_annotation_go_where_the_capability_is_declared_and_come_back_on_del() {
    let node = Node::new();
    let capabilities = json!({"mac": true, "ips": true, "portMappings": true, "bandwidth": true});
    let plugins =
        json!([{"type": "one", "capabilities": capabilities}, {"type": "two", "capabilities": {"mac": true}}]);
    node.nad("chain", json!({"cniVersion": "1.0.0", "plugins": plugins}));
    let element = json!([{
        "name": "chain", "mac": "02:00:00:00:00:07", "ips": ["10.1.0.7/24", "fd00::7/64"],
        "portMappings": [{"hostPort": 8080, "containerPort": 80}], "bandwidth": {"ingressRate": 1000},
        "cni-args": {"tenant": "blue", "n": 12345678901234567890u64},
    }]);
    let pod = node.pod("web", &element.to_string());
    node.add(&pod).result();
    node.del(&pod).quiet();
    let all = node.fakes.calls();
    let of = |verb: &str, plugin: &str| {
        all.iter().find(|seen| seen.var("CNI_COMMAND") == verb && seen.plugin == plugin).unwrap().conf()
    };
    for verb in ["ADD", "DEL"] {
        let given = of(verb, "one")["runtimeConfig"].clone();
        assert_eq!(given["mac"], "02:00:00:00:00:07");
        assert_eq!(given["ips"], json!(["10.1.0.7/24", "fd00::7/64"]));
        assert_eq!(given["portMappings"][0]["hostPort"], 8080);
        assert_eq!(given["bandwidth"], json!({"ingressRate": 1000}), "only what was given (A42)");
        assert_eq!(of(verb, "two")["runtimeConfig"], json!({"mac": "02:00:00:00:00:07"}));
        assert_eq!(of(verb, "two")["args"]["cni"], json!({"tenant": "blue", "n": 12345678901234567890u64}));
    }
}

#[test]
fn addresses_and_mac_travel_in_cni_args_where_no_capability_is_declared() {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one"}));
    let element = json!([{"name": "net-a", "mac": "02:00:00:00:00:07", "ips": ["10.1.0.7/24", "10.1.0.8/24"]}]);
    let answer = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:07", "sandbox": "S"}],
        "ips": [{"address": "10.1.0.7/24", "interface": 0}, {"address": "10.1.0.8/24", "interface": 0}]});
    node.fakes.rules("one", &[Rule::on("ADD").answers(&answer)]);
    let pod = node.pod("web", &element.to_string());
    node.add(&pod).result();
    let args = node.fakes.calls_of("ADD")[1].var("CNI_ARGS").to_owned();
    let pairs: Vec<&str> = args.split(';').collect();
    assert!(pairs.contains(&"MAC=02:00:00:00:00:07") && pairs.contains(&"IP=10.1.0.7/24,10.1.0.8/24"), "{args}");
    node.del(&pod).quiet();
}

#[test]
fn annotations_of_the_runtime_win_over_the_manifest() {
    let mut node = Node::new();
    node.nad("net-a", conf("one", "10.1.0.2/24"));
    let pod = node.pod("web", "");
    node.conf["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": {NETWORKS: "net-a"}});
    node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD one net1"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn the_result_is_the_defaults_with_every_interface_listed() {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one", "fakeIps": [{"address": "10.1.0.2/24"}]}));
    let pod = node.pod("web", "net-a");
    let result = node.add(&pod).result();
    assert_eq!(result["cniVersion"], "1.1.0");
    let names: Vec<&Value> = result["interfaces"].as_array().unwrap().iter().map(|i| &i["name"]).collect();
    assert_eq!(names, [&json!("eth0"), &json!("net1")]);
    let ips = json!([{"address": "192.0.2.2/24", "gateway": "192.0.2.1", "interface": 0}]);
    assert_eq!(result["ips"], ips, "secondary addresses would become pod IPs");
    node.del(&pod).quiet();
}

#[test]
fn merge_ips_adds_the_secondary_addresses_with_their_index() {
    let mut node = Node::new();
    node.conf["mergeIPs"] = json!(true);
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one", "fakeIps": [{"address": "10.1.0.2/24"}]}));
    let pod = node.pod("web", "net-a");
    let result = node.add(&pod).result();
    assert_eq!(result["ips"][1], json!({"address": "10.1.0.2/24", "interface": 1}));
    node.del(&pod).quiet();
}

#[test]
fn the_result_comes_in_the_version_that_was_asked_for() {
    for asked in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        for spoken in ["0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let mut node = Node::new();
            node.conf["cniVersion"] = json!(asked);
            node.conf["delegates"][0]["cniVersion"] = json!(spoken);
            node.nad("net-a", conf("one", "10.1.0.2/24"));
            let pod = node.pod("web", "net-a");
            let result = node.add(&pod).result();
            assert_eq!(result["cniVersion"], asked);
            assert_eq!(node.fakes.calls()[0].conf()["cniVersion"], spoken);
            if asked < "0.3" {
                assert_eq!(result["ip4"]["ip"], "192.0.2.2/24", "{result}");
                assert!(result.get("interfaces").is_none() && result.get("ips").is_none(), "{result}");
            } else {
                assert_eq!(result["ips"][0]["address"], "192.0.2.2/24");
                assert_eq!(result["ips"][0].get("version").is_some(), asked < "1", "{result}");
                assert_eq!(result["ips"].as_array().unwrap().len(), 1);
            }
            node.del(&pod).quiet();
            node.assert_clean();
        }
    }
}

#[test]
fn the_highest_common_version_of_a_list_is_spoken() {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "0.4.0", "cniVersions": ["0.4.0", "1.0.0", "7.0.0"], "plugins": [{"type": "one", "cniVersion": "0.1.0"}]}));
    let pod = node.pod("web", "net-a");
    node.add(&pod).result();
    assert_eq!(node.fakes.calls()[1].conf()["cniVersion"], "1.0.0");
    node.del(&pod).quiet();
}

#[test]
fn stderr_of_a_delegate_is_forwarded() {
    let node = Node::new();
    node.fakes.rules("main", &[Rule { stderr: Some("a word from main\n".to_owned()), ..Rule::on("ADD") }]);
    let pod = node.pod("web", "");
    let outcome = node.add(&pod);
    outcome.result();
    assert!(outcome.stderr().contains("a word from main"), "{}", outcome.stderr());
    node.del(&pod).quiet();
}

#[test]
fn a_pod_without_networks_gets_the_default_network_alone() {
    let node = Node::new();
    for networks in ["", "[]", " [] "] {
        let pod = node.pod("web", networks);
        node.add(&pod).result();
        assert_eq!(node.fakes.take_order(), ["ADD main eth0"], "{networks:?}");
        node.del(&pod).quiet();
        node.fakes.take_order();
    }
}

#[test]
fn definitions_on_disk_are_found_by_the_name_inside_lists_first() {
    let node = Node::new();
    let write = |file: &str, text: &str| std::fs::write(node.path("conf").join(file), text).unwrap();
    write("05-broken.conf", "{ not JSON");
    write("10-a.conf", r#"{"cniVersion":"1.0.0","name":"disk-net","type":"one"}"#);
    write("20-b.conflist", r#"{"cniVersion":"1.0.0","name":"disk-net","plugins":[{"type":"two"}]}"#);
    node.manifest("nad-disk.json", json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "metadata": {"namespace": "default", "name": "disk-net"},
    }).to_string());
    let pod = node.pod("web", "disk-net");
    node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD two net1"]);
    node.del(&pod).quiet();
}

#[test]
fn default_networks_and_the_default_network_annotation() {
    let mut node = Node::new();
    node.conf["multusNamespace"] = json!("default");
    node.conf["clusterNetwork"] = json!("main-net");
    node.conf["defaultNetworks"] = json!(["every-pod"]);
    node.nad("main-net", conf("main", "192.0.2.2/24"));
    node.nad("every-pod", conf("one", "10.1.0.2/24"));
    node.nad("net-a", conf("two", "10.2.0.2/24"));
    let pod = node.pod("web", "net-a");
    node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD one net1", "ADD two net2"]);
    node.del(&pod).quiet();
    node.fakes.take_order();

    let override_of = json!({"v1.multus-cni.io/default-network": "net-a"});
    let pod = node.pod_annotated("other", override_of);
    node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD two eth0", "ADD one net1"]);
    node.del(&pod).quiet();
    node.assert_clean();
}

/// A burst of pods keeps the processors busy; what an external plugin leaves running is nobody's hurry.
#[test]
fn a_call_goes_ahead_at_the_processor_and_what_it_starts_does_not() {
    let node = Node::new();
    let seen = node.path("seen");
    let script = format!("#!/bin/sh\nnice >>{}\nexec {}\n", seen.display(), node.path("bin/one").display());
    fs::write(node.path("bin/script"), script).unwrap();
    fs::set_permissions(node.path("bin/script"), Permissions::from_mode(0o755)).unwrap();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "script"}));
    let pod = node.pod("web", "net-a");
    let trace = node.path("trace");
    let strace = ["strace", "-qq", "-e", "trace=setpriority", "-o", trace.to_str().unwrap()];
    node.call("ADD", &pod).under(strace).run().result();
    node.del(&pod).quiet();

    let usual = program::run("nice", [""; 0]);
    assert_eq!(fs::read_to_string(&seen).unwrap(), usual.repeat(2));
    let usual: i32 = usual.trim().parse().unwrap();
    let trace = fs::read_to_string(&trace).unwrap();
    let set = trace.lines().filter_map(|line| line.strip_prefix("setpriority(PRIO_PROCESS, 0, ")?.split_once(')'));
    let set: Vec<i32> = set.map(|(niceness, _)| niceness.parse().unwrap()).collect();
    let ahead = usual - 10;
    assert_eq!(set, [ahead, usual, ahead, usual, ahead], "for the default network's plugin, and for this one's");
    node.assert_clean();

    let pod = node.pod("usual", "net-a");
    let (path, trace) = (trace, node.path("trace-usual"));
    let strace = ["strace", "-qq", "-e", "trace=setpriority", "-o", trace.to_str().unwrap()];
    node.call("ADD", &pod).conf("normalPriority", json!(true)).under(strace).run().result();
    assert_eq!(fs::read_to_string(&trace).unwrap().matches("setpriority").count(), 0, "{path}");
    node.del(&pod).quiet();
}
