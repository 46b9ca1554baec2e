//! Pods of a DANM network that has hardly more addresses than pods: they come and go while agents are killed, a node is drained and a node
//! loses its power. Never has one address two pods, and none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use meta_cni_tests::cluster::node::Traces;
use meta_cni_tests::cluster::{Api, Cluster, Node, wait};
use meta_cni_tests::program;
use serde_json::{Value, json};

use crate::bed::{
    PATIENCE, gone, image, install_dialect, is_ready, namespace, pin_webhook, pod, status_of, until_clean,
    wait_for_agents, wait_for_webhook,
};

const NAMESPACE: &str = "churn";
const WEB: &str = "/apis/apps/v1/namespaces/churn/deployments/web";
const NETWORK: &str = "/apis/danm.io/v1/clusternetworks/pool";
/// What all addresses of the network begin with. The pool is 10 to 19.
const SUBNET: &str = "10.60.0.";
const POOL: usize = 10;
const RUNNING: usize = 8;
/// How often each pod is made anew.
const ROUNDS: usize = 2;
/// Agents that are killed in each of these rounds.
const KILLS: usize = 5;

fn cluster() -> Cluster {
    let mut cluster = Cluster::start(3);
    cluster.import(&image());
    install_dialect(&cluster, "danm", &json!({"dialects": ["danm"]}));
    pin_webhook(&cluster);
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    namespace(&cluster.api(), NAMESPACE);
    cluster
}

fn network() -> Value {
    let pool = json!({"start": "10.60.0.10", "end": "10.60.0.19"});
    let options = json!({"host_device": "eth0", "vxlan": 610, "cidr": "10.60.0.0/24", "allocation_pool": pool});
    let spec = json!({"NetworkID": "pool", "NetworkType": "ipvlan", "Options": options});
    json!({"apiVersion": "danm.io/v1", "kind": "ClusterNetwork", "metadata": {"name": "pool"}, "spec": spec})
}

/// Pods that have nothing but the network. Two at a time are made anew.
fn deployment() -> Value {
    let list = json!([{"clusterNetwork": "pool", "ip": "dynamic"}]).to_string();
    let metadata = json!({"labels": {"app": "web"}, "annotations": {"danm.io/interfaces": list}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": NAMESPACE, "name": "web"},
        "spec": {
            "replicas": RUNNING, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}},
            "template": {"metadata": metadata, "spec": pod(NAMESPACE, "web", None)["spec"]},
        },
    })
}

/// What a shell in a node prints, whatever becomes of its programs.
fn shell(node: &Node, script: &str) -> String {
    let output = node.space().within(|| program::command("sh").args(["-c", script]).output().unwrap());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sandboxes of a node and their addresses of the network, as the kernel has them.
fn held(node: &Node) -> Vec<(String, String)> {
    let each = "for ns in $(ls /run/netns); do echo $ns $(ip -n $ns -j -4 address show dev eth0 2>/dev/null); done";
    let mut found = Vec::new();
    for line in shell(node, each).lines() {
        let (sandbox, told) = line.split_once(' ').unwrap_or_default();
        let links: Value = serde_json::from_str(told).unwrap_or_default();
        let addresses = links[0]["addr_info"].as_array().into_iter().flatten();
        let of_network = addresses.filter_map(|one| one["local"].as_str()).filter(|one| one.starts_with(SUBNET));
        found.extend(of_network.map(|address| (sandbox.to_owned(), address.to_owned())));
    }
    found
}

/// No two sandboxes have one address. Gives the addresses that there are.
fn held_once(cluster: &Cluster) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, (&Node, String)> = BTreeMap::new();
    for node in cluster.nodes() {
        for (sandbox, address) in held(node) {
            let Some((first, before)) = seen.insert(address.clone(), (node, sandbox.clone())) else { continue };
            // The first may have given it back before the second was looked at. It has not where it still has the address.
            let is_there = held(first).contains(&(before.clone(), address.clone()));
            let (first, second) = (first.name(), node.name());
            assert!(!is_there, "{address} is in {before} on {first} and in {sandbox} on {second}");
        }
    }
    seen.into_keys().collect()
}

/// Looks again and again until as many pods are ready as there should be, all of the newest template, and until what happens in between is
/// over.
fn settle(cluster: &Cluster, api: &Api, count: usize, mut meanwhile: impl FnMut() -> bool) {
    wait::until(&format!("{count} pods"), PATIENCE, || {
        held_once(cluster);
        let is_over = meanwhile();
        let deployment = api.get(WEB).map_err(|e| e.to_string())?;
        let status = &deployment["status"];
        let is_seen = status["observedGeneration"] == deployment["metadata"]["generation"];
        let is_whole = ["replicas", "updatedReplicas", "readyReplicas"]
            .iter()
            .all(|key| status[*key].as_u64().unwrap_or_default() == count as u64);
        let pods = api.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods"));
        if is_over && is_seen && is_whole && pods.len() == count { Ok(()) } else { Err(status.to_string()) }
    });
    // The kernels, `network-status` and the pods' own status say the same.
    wait::until("status of all pods", PATIENCE, || {
        let pods = api.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods"));
        let told: BTreeSet<String> = pods.iter().filter_map(address).collect();
        let held = held_once(cluster);
        let is_so = told.len() == count && pods.len() == count && told == held;
        if is_so { Ok(()) } else { Err(format!("told {told:?}, held {held:?}")) }
    });
}

/// The address of a pod, when it is ready and all say the same.
fn address(pod: &Value) -> Option<String> {
    let told = status_of(pod)?[0]["ips"][0].as_str()?.to_owned();
    (is_ready(pod) && pod["status"]["podIP"] == told.as_str()).then_some(told)
}

fn scale(api: &Api, count: usize) {
    api.patch(WEB, &json!({"spec": {"replicas": count}})).unwrap();
}

/// SIGKILL to an agent, if there is one. Its pod goes too: kubelet waits longer and longer with a container that ends again and again.
fn kill_agent(api: &Api, node: &Node) -> bool {
    let is_killed = shell(node, "busybox killall -9 meta-cnid 2>/dev/null && echo killed") == "killed\n";
    let selector = format!("labelSelector=app.kubernetes.io/name=meta-cni&fieldSelector=spec.nodeName={}", node.name());
    for pod in api.list(&format!("/api/v1/namespaces/kube-system/pods?{selector}")).iter().filter(|_| is_killed) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        api.delete(&format!("/api/v1/namespaces/kube-system/pods/{name}")).unwrap();
    }
    is_killed
}

#[test]
fn addresses_of_danm_are_had_once_and_come_back_whatever_happens() {
    let mut cluster = cluster();
    let api = cluster.api();
    let before: Vec<Traces> = cluster.nodes().iter().map(Node::traces).collect();
    api.apply(&network()).unwrap();
    api.apply(&deployment()).unwrap();
    settle(&cluster, &api, RUNNING, || true);

    agents_are_killed(&cluster, &api);
    wait_for_agents(&mut cluster);
    a_node_is_drained(&cluster, &api);
    cluster.reboot(2);
    settle(&cluster, &api, RUNNING, || true);
    wait_for_agents(&mut cluster);

    scale(&api, 0);
    settle(&cluster, &api, 0, || true);
    wait::until("network that nobody is in", PATIENCE, || {
        let kinds = ["addressclaims", "addressblocks", "overlaymembers"];
        let left = kinds.map(|kind| api.list(&format!("/apis/meta-cni.io/v1alpha1/{kind}"))).concat();
        if left.is_empty() { Ok(()) } else { Err(json!(left).to_string()) }
    });
    until_clean(&cluster, &before);
    scale(&api, POOL);
    settle(&cluster, &api, POOL, || true);

    for path in [WEB, &format!("/api/v1/namespaces/{NAMESPACE}"), NETWORK] {
        api.delete(path).unwrap();
        gone(&api, path);
    }
    until_clean(&cluster, &before);
}

/// All pods are made anew, in several rounds, and in each of them agents of all nodes are killed.
fn agents_are_killed(cluster: &Cluster, api: &Api) {
    let mut nodes = cluster.nodes().iter().cycle();
    for _ in 0..ROUNDS {
        cluster.plane().kubectl(["rollout", "restart", "-n", NAMESPACE, "deployment/web"]);
        let (mut left, mut last) = (KILLS, Instant::now());
        settle(cluster, api, RUNNING, || {
            if left > 0 && last.elapsed() > Duration::from_millis(500) {
                last = Instant::now();
                left -= usize::from(kill_agent(api, nodes.next().unwrap()));
            }
            left == 0
        });
    }
}

/// Its pods have addresses elsewhere, and so have as many pods as there are addresses: what the node had is nobody's.
fn a_node_is_drained(cluster: &Cluster, api: &Api) {
    let node = &cluster.nodes()[1];
    let selector = "--pod-selector=app=web";
    cluster.plane().kubectl(["drain", node.name(), "--ignore-daemonsets", selector, "--timeout=100s"]);
    scale(api, POOL);
    settle(cluster, api, POOL, || true);
    assert_eq!(held(node), [], "pods of {}", node.name());
    cluster.plane().kubectl(["uncordon", node.name()]);
    scale(api, RUNNING);
    settle(cluster, api, RUNNING, || true);
}
