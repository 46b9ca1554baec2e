//! CRI-O's calls: a fixture, for CRI-O itself is not to be had as a Go module or a Debian package.
//!
//! What it asks is what its library does (github.com/cri-o/ocicni, pkg/ocicni/ocicni.go at 0248397, with libcni): `lo` is its own affair;
//! ADD by the configuration on disk; CHECK, often, and DEL by the configuration, CNI_ARGS and capabilities that libcni cached at ADD, with
//! the result as `prevResult`; DEL with the path of a namespace that may be gone; GC for each network that it knows when it starts;
//! STATUS for its own readiness. Every address of a result becomes an address of the pod.

use meta_cni_tests::call::Call;
use meta_cni_tests::node::{NETWORKS, Node, Pod};
use serde_json::{Value, json};

/// Whatever the configuration declares of it, libcni hands over as `runtimeConfig`.
fn capabilities(annotations: Value) -> Value {
    json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
        "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 2_147_483_647, "egressRate": 0, "egressBurst": 0},
        "cgroupPath": "kubepods-burstable-pod1.slice",
        "io.kubernetes.cri.pod-annotations": annotations,
    })
}

/// A node of the NPWG networks `a` and `b` behind the default network `main`.
fn node() -> Node {
    let mut node = Node::new();
    node.nad("a", json!({"cniVersion": "1.0.0", "type": "one", "fakeIps": [{"address": "10.1.0.2/24"}]}));
    node.nad("b", json!({"cniVersion": "1.0.0", "type": "two", "fakeIps": [{"address": "10.2.0.2/24"}]}));
    let main = json!({"type": "main", "capabilities": {"portMappings": true, "bandwidth": true}, "fakeIps": [{"address": "192.0.2.2/24"}]});
    node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "cluster", "plugins": [main]}]);
    node.conf["capabilities"] =
        json!({"portMappings": true, "bandwidth": true, "io.kubernetes.cri.pod-annotations": true});
    node
}

/// The call as libcni repeats it, from what it cached at ADD.
fn cached<'a>(node: &'a Node, verb: &str, pod: &Pod, conf: &Value, result: &Value) -> Call<'a> {
    node.call(verb, pod).stdin(conf.to_string()).conf("prevResult", result.clone())
}

#[test]
fn a_pod_of_crio_comes_is_checked_and_goes() {
    let mut node = node();
    // The annotations come with the call: nobody is asked for them.
    let pod = node.pod("web", "");
    node.conf["runtimeConfig"] = capabilities(json!({NETWORKS: "a,b"}));
    let added_by = node.conf.clone();
    let result = node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0", "ADD one net1", "ADD two net2"]);
    let addresses: Vec<&Value> = result["ips"].as_array().unwrap().iter().map(|ip| &ip["address"]).collect();
    assert_eq!(addresses, ["192.0.2.2/24"], "CRI-O would take each of more for an address of the pod");
    // The node's configuration is another by now; of the old one CRI-O has a copy.
    node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "other", "type": "two"}]);
    for _ in 0..3 {
        cached(&node, "CHECK", &pod, &added_by, &result).run().quiet();
        assert_eq!(node.fakes.take_order(), ["CHECK main eth0", "CHECK one net1", "CHECK two net2"]);
    }
    cached(&node, "DEL", &pod, &added_by, &result).run().quiet();
    assert_eq!(node.fakes.take_order(), ["DEL two net2", "DEL one net1", "DEL main eth0"]);
    // It asks again until it has heard of success, and after a restart once more.
    cached(&node, "DEL", &pod, &added_by, &result).run().quiet();
    node.assert_clean();
}

#[test]
fn what_the_default_network_declares_reaches_it_and_what_it_does_not_declare_stays_away() {
    let mut node = node();
    let pod = node.pod("web", "");
    node.conf["runtimeConfig"] = capabilities(json!({}));
    node.add(&pod).result();
    let add = &node.fakes.calls()[0];
    let handed = add.conf()["runtimeConfig"].clone();
    assert_eq!(handed["portMappings"][0]["hostPort"], 8080);
    assert_eq!(handed["bandwidth"]["ingressRate"], 1_000_000);
    assert_eq!(handed.as_object().unwrap().len(), 2, "{handed}");
    let args = add.var("CNI_ARGS");
    for want in ["IgnoreUnknown=1", "K8S_POD_NAMESPACE=default", "K8S_POD_NAME=web", "K8S_POD_UID="] {
        assert!(args.contains(want), "{args}");
    }
}

/// The namespace is gone after a reboot; CRI-O hands its old path over all the same.
#[test]
fn a_sandbox_whose_namespace_is_gone_is_deleted_by_its_old_path() {
    let mut node = node();
    let pod = node.pod("web", "");
    node.conf["runtimeConfig"] = capabilities(json!({NETWORKS: "a"}));
    let (conf, result) = (node.conf.clone(), node.add(&pod).result());
    pod.netns.remove();
    node.fakes.take_order();
    cached(&node, "DEL", &pod, &conf, &result).run().quiet();
    assert_eq!(node.fakes.take_order(), ["DEL one net1", "DEL main eth0"]);
    node.assert_clean();
}

/// What CRI-O says of itself when it starts: the sandboxes that it knows, and for the rest GC.
#[test]
fn a_start_of_crio_removes_what_it_does_not_know() {
    let mut node = node();
    node.conf["runtimeConfig"] = capabilities(json!({NETWORKS: "a"}));
    let pods = [node.pod("stays", ""), node.pod("lost", "")];
    pods.iter().for_each(|pod| drop(node.add(pod).result()));
    pods[1].netns.remove();
    node.conf.as_object_mut().unwrap().remove("runtimeConfig");
    node.bare_call("STATUS").run().quiet();
    node.fakes.take_order();
    let valid = json!([{"containerID": pods[0].container, "ifname": "eth0"}]);
    node.bare_call("GC").conf("cni.dev/valid-attachments", valid).run().quiet();
    let order = node.fakes.take_order();
    let of = |verb: &str| order.iter().filter(|line| line.starts_with(verb)).map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of("DEL"), ["DEL one net1", "DEL main eth0"], "{order:?}");
    node.del(&pods[0]).quiet();
    node.assert_clean();
}
