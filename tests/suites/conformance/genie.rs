//! Pods and objects of CNI-Genie, with its dialect on and off.

use std::fs;

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{NETWORKS, Node, Pod, STATUS};
use serde_json::{Value, json};

const PREFERENCES: &str = "multi-ip-preferences";

fn conf(name: &str, kind: &str, address: &str) -> Value {
    json!({"cniVersion": "1.0.0", "name": name, "type": kind, "fakeIps": [{"address": address}]})
}

/// A node that speaks the dialect, with the files `10-br-a.conf` and `20-br-b.conf` of the fakes `one` and `two` where the runtime has its
/// own.
fn node() -> Node {
    let mut node = Node::new();
    fs::create_dir(node.path("net.d")).unwrap();
    node.conf["dialects"] = json!(["genie"]);
    node.conf["runtimeConfDir"] = json!(node.path("net.d"));
    file(&node, "net.d/10-br-a.conf", &conf("br-a", "one", "10.1.0.2/24"));
    file(&node, "net.d/20-br-b.conf", &conf("br-b", "two", "10.2.0.2/24"));
    file(
        &node,
        "net.d/00-meta-cni.conflist",
        &json!({"cniVersion": "1.0.0", "name": "node-net", "plugins": [{"type": "meta-cni"}]}),
    );
    node
}

fn file(node: &Node, path: &str, conf: &Value) {
    fs::write(node.path(path), conf.to_string()).unwrap();
}

fn pod(node: &Node, cni: &str) -> Pod {
    node.pod_annotated("web", json!({"cni": cni}))
}

fn object(node: &Node, kind: &str, name: &str, spec: Value) {
    let manifest = json!({
        "apiVersion": "alpha.network.k8s.io/v1", "kind": kind,
        "metadata": {"namespace": "default", "name": name}, "spec": spec,
    });
    node.manifest(&format!("{name}.json"), manifest.to_string());
}

#[test]
fn a_list_of_files_is_the_pods_networks_by_their_names_and_goes_in_reverse() {
    let node = node();
    let pod = pod(&node, "br-a,br-b@eth4,br-a@eth5, br-a");
    let result = node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD one eth0", "ADD two eth4", "ADD one eth5", "ADD one eth1"]);
    assert_eq!(result["ips"].as_array().unwrap().len(), 1, "the pod's address is that of eth0: {result}");
    // What the pod says meanwhile, or the node has, is not asked for.
    node.remove_manifest("pod-web.json");
    fs::remove_dir_all(node.path("net.d")).unwrap();
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL one eth1", "DEL one eth5", "DEL two eth4", "DEL one eth0"]);
    node.assert_clean();
}

#[test]
fn the_entry_that_is_eth0_is_attached_first_and_gets_the_runtimes_port_mappings() {
    let node = node();
    let ports = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
    let mut mapped = conf("br-a", "one", "10.1.0.2/24");
    mapped["capabilities"] = json!({"portMappings": true});
    file(&node, "conf/05-br-a.conf", &mapped);
    mapped["name"] = json!("br-b");
    mapped["type"] = json!("two");
    file(&node, "conf/06-br-b.conf", &mapped);
    let pod = pod(&node, "br-b@eth1,br-a");
    node.call("ADD", &pod).conf("runtimeConfig", ports.clone()).run().result();
    let calls = node.fakes.calls_of("ADD");
    let seen: Vec<_> = calls.iter().map(|call| (call.plugin.as_str(), call.var("CNI_IFNAME"))).collect();
    assert_eq!(seen, [("one", "eth0"), ("two", "eth1")]);
    assert_eq!(calls[0].conf()["runtimeConfig"], ports, "confDir counts before the runtime's directory");
    assert!(calls[1].conf().get("runtimeConfig").is_none_or(|given| given.get("portMappings").is_none()));
    node.del(&pod).quiet();
}

#[test]
fn the_addresses_of_a_list_are_told_as_genie_tells_them() {
    let node = node();
    let two = pod(&node, "br-a,br-b");
    node.add(&two).result();
    assert_eq!(
        node.annotations(&two)[PREFERENCES],
        r#"{"multi_entry":2,"ips":{"ip1":{"ip":"10.1.0.2","interface":"eth0"},"ip2":{"ip":"10.2.0.2","interface":"eth1"}}}"#
    );
    let status = node.status(&two);
    let names: Vec<_> = status.as_array().unwrap().iter().map(|one| (&one["name"], &one["interface"])).collect();
    assert_eq!(names, [(&json!("br-a"), &json!("eth0")), (&json!("br-b"), &json!("eth1"))]);
    node.del(&two).quiet();
    let alone = pod(&node, "br-a");
    node.add(&alone).result();
    assert!(node.annotations(&alone).get(PREFERENCES).is_none(), "one entry needs no preference");
    node.del(&alone).quiet();
}

#[test]
fn of_two_networks_with_default_routes_that_of_eth0_stays() {
    let node = node();
    for (path, name, kind, net) in
        [("net.d/30-a.conf", "a", "one", "10.3.0"), ("net.d/40-b.conf", "b", "two", "10.4.0")]
    {
        let ips = json!([{"address": format!("{net}.2/24"), "gateway": format!("{net}.1")}]);
        let routes = json!([{"dst": "0.0.0.0/0"}]);
        file(
            &node,
            path,
            &json!({"cniVersion": "1.0.0", "name": name, "type": kind, "fakeIps": ips, "fakeRoutes": routes}),
        );
    }
    let pod = pod(&node, "a,b");
    let result = node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD one eth0", "ADD two eth1"]);
    assert_eq!(result["ips"][0]["address"], "10.3.0.2/24");
    node.del(&pod).quiet();
}

#[test]
fn a_failure_undoes_what_came_before_it() {
    let node = node();
    node.fakes.rules("two", &[Rule::on("ADD").fails(100, "no room")]);
    let pod = pod(&node, "br-a,br-b,br-a");
    node.add(&pod).refused(100, &["no room"]);
    assert_eq!(node.fakes.take_order(), ["ADD one eth0", "ADD two eth1", "DEL two eth1", "DEL one eth0"]);
    node.assert_clean();
}

#[test]
fn what_a_list_cannot_have_is_refused_and_no_file_is_written() {
    let node = node();
    for (cni, code, words) in [
        (
            "weave",
            11,
            &["cni[0]: no configuration named \"weave\" in ", "/conf, ", "/net.d; files found: br-a, br-b"][..],
        ),
        ("br-a,nope@eth7", 11, &["cni[1]: no configuration named \"nope\""]),
        ("genie", 7, &["cni[0]: got \"genie\"", "meta plugin"]),
        ("meta-cni", 7, &["cni[0]: got \"meta-cni\"", "meta plugin"]),
        ("br-a@eth1,br-b@eth1", 7, &["cni[1]: got eth1"]),
        ("br-a@eth1", 7, &["cni: got eth1, want an entry that is eth0"]),
        ("br-a,", 7, &["cni[1]: got \"\""]),
        ("br-a,../br-b", 7, &["cni[1]: got \"../br-b\""]),
        ("bridge", 11, &["cni[0]: no configuration named \"bridge\""]),
    ] {
        node.refuses(&pod(&node, cni), code, words);
    }
    assert_eq!(fs::read_dir(node.path("net.d")).unwrap().count(), 3);
}

#[test]
fn a_pod_without_the_annotation_gets_the_nodes_list_or_its_default_network() {
    let mut node = node();
    let plain = node.pod("plain", "");
    node.add(&plain).result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0"]);
    node.del(&plain).quiet();
    node.fakes.take_order();
    node.conf["genie"] = json!({"defaultPlugin": "br-a,br-b"});
    let pod = node.pod_annotated("web", json!({"build": "two"}));
    node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD one eth0", "ADD two eth1"]);
    assert!(node.annotations(&pod).get(PREFERENCES).is_none(), "the pod has no list");
    node.del(&pod).quiet();
}

#[test]
fn an_annotation_of_npwg_counts_before_one_of_genie() {
    let node = node();
    node.nad("lan", conf("lan", "two", "10.5.0.2/24"));
    let pod = node.pod_annotated("web", json!({"cni": "br-a", NETWORKS: "lan"}));
    let outcome = node.add(&pod);
    assert!(outcome.stderr().contains("annotation cni counts for nothing"), "{}", outcome.stderr());
    outcome.result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD two net1"]);
    node.del(&pod).quiet();
}

#[test]
fn without_the_dialect_its_annotations_are_not_read() {
    let mut node = node();
    for off in [Value::Null, json!([])] {
        node.conf["dialects"] = off;
        let pod = node.pod_annotated("web", json!({"cni": "no such,,list", "networks": "{"}));
        let outcome = node.add(&pod);
        assert_eq!(outcome.stderr(), "");
        outcome.result();
        assert_eq!(node.fakes.take_order(), ["ADD main eth0"]);
        let written = node.annotations(&pod);
        assert!(written.get(PREFERENCES).is_none() && written.get(STATUS).is_some());
        node.del(&pod).quiet();
        node.fakes.take_order();
    }
}

#[test]
fn dialects_that_cannot_be_read_are_refused_by_name() {
    let node = node();
    let pod = pod(&node, "br-a");
    node.call("ADD", &pod)
        .conf("dialects", json!(["multus"]))
        .run()
        .refused(7, &["dialects[0]: got \"multus\", want danm, genie or knitter"]);
}

#[test]
fn a_list_of_logical_networks_is_their_files_with_their_subnets() {
    let node = node();
    let mut with_ipam = conf("br-a", "one", "10.1.0.2/24");
    with_ipam["ipam"] = json!({"type": "fake-ipam", "subnet": "10.0.0.0/8", "kept": 1});
    node.fakes.install("fake-ipam");
    file(&node, "net.d/10-br-a.conf", &with_ipam);
    object(&node, "Logicalnetwork", "net1", json!({"plugin": "br-a", "sub_subnet": "10.32.20.0/24"}));
    object(&node, "LogicalNetwork", "net2", json!({"physicalNet": "phys", "sub_subnet": "10.33.7.0/24"}));
    let shared = json!({"plugin": "br-b", "subnet": "10.33.0.0/16", "dedicatedNet": true});
    object(&node, "Physicalnetwork", "phys", json!({"refer_nic": "eth9", "sharedStatus": shared}));
    let pod = node.pod_annotated("web", json!({"cni": "", "networks": "net1@eth0,net2:eth4"}));
    node.add(&pod).result();
    let calls = node.fakes.calls_of("ADD");
    let seen: Vec<_> = calls.iter().map(|call| (call.plugin.as_str(), call.var("CNI_IFNAME"))).collect();
    assert_eq!(seen, [("one", "eth0"), ("two", "eth4")]);
    assert_eq!(calls[0].conf()["ipam"], json!({"type": "fake-ipam", "subnet": "10.32.20.0/24", "kept": 1}));
    assert_eq!(calls[1].conf()["ipam"]["subnet"], "10.33.7.0/24");
    assert!(node.annotations(&pod)[PREFERENCES].as_str().unwrap().contains("\"multi_entry\":2"));
    // The objects may be gone before the pod is.
    for file in ["net1.json", "net2.json", "phys.json"] {
        node.remove_manifest(file);
    }
    node.del(&pod).quiet();
    let dels = node.fakes.calls_of("DEL");
    assert_eq!(dels[1].conf()["ipam"]["subnet"], "10.32.20.0/24", "DEL has what ADD had");
    node.assert_clean();
}

#[test]
fn a_logical_network_that_is_not_there_or_wrong_is_named() {
    let node = node();
    let asks = |networks: &str| node.pod_annotated("web", json!({"cni": " ", "networks": networks}));
    node.refuses(&asks("gone"), 11, &["networks[0]: cannot find Logicalnetwork gone in namespace default"]);
    object(&node, "Logicalnetwork", "half", json!({"physicalNet": "gone"}));
    node.refuses(&asks("half"), 11, &["networks[0]: cannot find Physicalnetwork gone in namespace default"]);
    object(&node, "Logicalnetwork", "none", json!({}));
    node.refuses(&asks("none"), 7, &["Logicalnetwork default/none: spec.plugin: missing"]);
    object(&node, "Logicalnetwork", "fileless", json!({"plugin": "weave"}));
    node.refuses(&asks("fileless"), 11, &["networks[0]: no configuration named \"weave\""]);
    node.refuses(&asks("a_b"), 7, &["networks[0]: got \"a_b\""]);
}

#[test]
fn a_blank_list_is_the_least_busy_network_of_the_node_and_is_written_to_the_pod() {
    let mut node = node();
    node.conf["genie"] =
        json!({"loadPrefixes": [{"plugin": "nothing", "prefixes": ["none-"]}, {"plugin": "br-b", "prefixes": ["lo"]}]});
    let pod = pod(&node, "");
    node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD two eth0"]);
    assert_eq!(node.annotations(&pod)["cni"], "br-b");
    node.del(&pod).quiet();
    node.conf["genie"] = json!({"loadPrefixes": [{"plugin": "br-b", "prefixes": ["none-"]}]});
    node.fakes.take_order();
    node.refuses(&self::pod(&node, ""), 11, &["genie.loadPrefixes: br-b (none-*)"]);
}

#[test]
fn a_pod_of_another_dialect_does_not_change_while_it_runs() {
    let node = node();
    // The fake's links are not in the pod: with no word of them, nothing says that the sandbox is another one.
    let quiet = Rule::on("ADD").answers(&json!({"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.7/24"}]}));
    for fake in ["one", "two"] {
        node.fakes.rules(fake, std::slice::from_ref(&quiet));
    }
    let pod = pod(&node, "br-a,br-b");
    node.add(&pod).result();
    node.fakes.take_order();
    let file = node.path("manifests/pod-web.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("br-a,br-b", "br-a")).unwrap();
    node.hot_plug(&pod).result();
    assert_eq!(node.fakes.take_order(), Vec::<String>::new());
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL two eth1", "DEL one eth0"]);
}

#[test]
fn under_isolation_a_pod_names_no_file_of_the_node() {
    let mut node = node();
    node.conf["namespaceIsolation"] = json!(true);
    node.refuses(&pod(&node, "br-a"), 120, &["network br-a: namespace isolation enabled", "a file of the node"]);
    node.conf["genie"] = json!({"defaultPlugin": "br-a"});
    let plain = node.pod("plain", "");
    node.add(&plain).result();
    assert_eq!(node.fakes.take_order(), ["ADD one eth0"], "the node's own list is nobody's request");
    node.del(&plain).quiet();
}
