//! The agent is upgraded while pods come and go: no call of the plugin fails, and no pod that stays notices.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use meta_cni_tests::cluster::{Api, Node, wait};
use meta_cni_tests::node::NETWORKS;
use serde_json::{Value, json};

use crate::bed::{AGENTS, Bed, PATIENCE, gone, is_ready, pod, status_of, wait_for_agents};

const PODS_OF_AGENTS: &str = "/api/v1/namespaces/kube-system/pods?labelSelector=app.kubernetes.io/name=meta-cni";
/// Pods that come at the same time on a node.
const AT_ONCE: usize = 2;
/// From one pod of a worker to its next one, on a machine that is fast enough.
const PAUSE: Duration = Duration::from_millis(600);

/// Ends the workers however the case ends.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes one pod after the other, each of which gets its networks, and deletes it, until it is told to end. Counts them.
fn come_and_go(api: &Api, namespace: &str, (node, worker): (&str, usize), ended: &AtomicBool, came: &AtomicUsize) {
    let mut paths = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let began = Instant::now();
        let name = format!("p{}-{worker}-{node}", paths.len());
        let mut object = pod(namespace, &name, Some(node));
        object["metadata"]["annotations"][NETWORKS] = json!("lan");
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        // What a busy API server does to this client is not what the case is about.
        wait::until("pod that is made", PATIENCE, || api.apply(&object).map_err(|refusal| refusal.to_string()));
        wait::until(&format!("pod {name} with its network"), PATIENCE, || {
            let pod = api.get(&path).map_err(|refusal| refusal.to_string())?;
            if is_ready(&pod) && status_of(&pod).is_some() { Ok(()) } else { Err(pod["status"].to_string()) }
        });
        came.fetch_add(1, Ordering::Relaxed);
        wait::until("pod that is deleted", PATIENCE, || api.delete(&path).map_err(|refusal| refusal.to_string()));
        paths.push(path);
        thread::sleep(PAUSE.saturating_sub(began.elapsed()));
    }
    paths.iter().for_each(|path| gone(api, path));
}

/// The plugin of a node, as the runtime finds it.
fn plugin(node: &Node) -> PathBuf {
    node.file("/opt/cni/bin/meta-cni")
}

/// Puts another build of the plugin in the place of the one that is shipped: the same program, with a byte behind its end.
fn outdate(plugin: &Path) {
    let other = plugin.with_file_name(".other");
    fs::copy(plugin, &other).unwrap();
    let mut bytes = fs::read(&other).unwrap();
    bytes.push(0);
    fs::write(&other, bytes).unwrap();
    fs::rename(other, plugin).unwrap();
}

/// Identities of pods.
fn uids(pods: &[Value]) -> BTreeSet<String> {
    pods.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect()
}

/// Events of calls that failed.
fn failures(bed: &Bed) -> Vec<String> {
    const REASONS: [&str; 4] = ["FailedCreatePodSandBox", "FailedKillPod", "FailedAddingInterface", "NoNetworkFound"];
    let events = bed.api.list(&format!("/api/v1/namespaces/{}/events", bed.namespace));
    let failed = events.iter().filter(|event| REASONS.iter().any(|reason| event["reason"] == *reason));
    failed.map(|event| format!("{}: {}", event["involvedObject"]["name"], event["message"])).collect()
}

/// Is every agent of the generation that came after this one, and no other there?
fn is_upgraded(api: &Api, before: u64, nodes: usize) -> Result<(), String> {
    let set = api.get(AGENTS).map_err(|refusal| refusal.to_string())?;
    let status = &set["status"];
    let is_done = status["observedGeneration"].as_u64().is_some_and(|seen| seen > before)
        && status["updatedNumberScheduled"] == nodes
        && status["numberAvailable"] == nodes
        && api.list(PODS_OF_AGENTS).len() == nodes;
    if is_done { Ok(()) } else { Err(status.to_string()) }
}

#[test]
fn an_upgrade_fails_no_pod_that_comes_or_goes() {
    let mut bed = Bed::new("upgrade");
    bed.lan("lan", 145);
    bed.api.apply(&bed.deployment("web", 6, "lan")).unwrap();
    let stay = uids(&bed.replicas("app=web", 6));
    let nodes = bed.cluster.nodes().len();
    let shipped = fs::read(plugin(&bed.cluster.nodes()[0])).unwrap();
    bed.cluster.nodes().iter().for_each(|node| outdate(&plugin(node)));
    let failed = || bed.cluster.nodes().iter().map(Node::failed_operations).collect::<Vec<_>>();
    let failed_before = failed();
    let before = bed.api.get(AGENTS).unwrap()["metadata"]["generation"].as_u64().unwrap();

    let (ended, came) = (AtomicBool::new(false), AtomicUsize::new(0));
    let more = |count: usize| {
        let wanted = came.load(Ordering::Relaxed) + count;
        wait::until("pods that come and go", PATIENCE, || match came.load(Ordering::Relaxed) {
            count if count < wanted => Err(format!("{count} of {wanted}")),
            count => Ok(count),
        })
    };
    thread::scope(|scope| {
        let _ending = Ending(&ended);
        for worker in (0..AT_ONCE).flat_map(|worker| bed.cluster.nodes().iter().map(move |node| (node.name(), worker)))
        {
            let (api, namespace, ended, came) = (bed.cluster.api(), &bed.namespace, &ended, &came);
            scope.spawn(move || come_and_go(&api, namespace, worker, ended, came));
        }
        let early = more(AT_ONCE * nodes);
        let restart = json!({"spec": {"template": {"metadata": {"annotations": {"case": "upgrade"}}}}});
        wait::until("upgrade", PATIENCE, || bed.api.patch(AGENTS, &restart).map_err(|refusal| refusal.to_string()));
        wait::until("agents that are upgraded", PATIENCE * 2, || is_upgraded(&bed.api, before, nodes));
        let late = came.load(Ordering::Relaxed);
        assert!(late >= early + nodes, "while the agents were upgraded, {} pods came", late - early);
        more(AT_ONCE * nodes);
    });

    // As the runtime counts them; kubelet repeats a call that failed, and pods alone would not tell.
    assert_eq!(failures(&bed), Vec::<String>::new());
    assert_eq!(failed(), failed_before, "calls that failed, by node");
    assert_eq!(uids(&bed.replicas("app=web", 6)), stay);
    for node in bed.cluster.nodes() {
        assert!(fs::read(plugin(node)).unwrap() == shipped, "the plugin of {} is not the shipped one", node.name());
    }
    // Both looks see a call that fails.
    bed.nad("broken", &json!({"cniVersion": "1.1.0", "type": "macvlan", "master": "nowhere"}));
    bed.api.apply(&bed.pod_with("fails", Some("n1"), "broken")).unwrap();
    wait::until("failure that is seen", PATIENCE, || match (failed() != failed_before, failures(&bed)) {
        (true, events) if !events.is_empty() => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    wait_for_agents(&mut bed.cluster);
    bed.clear();
}
