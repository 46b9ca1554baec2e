//! `make bench-cluster`: what containerd itself measures of its CNI plugin, on real clusters of three nodes: the reference
//! bridge alone, then Multus thick with the reference plugins, then meta-cni as installed from `deploy/kustomize`, each
//! without and with three further networks.
//!
//! Means are containerd's own (`containerd_cri_network_plugin_operations_duration_seconds`). kubelet sends DEL again when it
//! collects dead sandboxes, once a minute: each measurement waits until the repeats of the one before are over. Those that fall into
//! a measurement all the same are part of its mean, and counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench that fails stops and says where")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meta_cni_tests::cluster::node::{IMAGE, Operations};
use meta_cni_tests::cluster::service::Service;
use meta_cni_tests::cluster::{Api, Cluster, multus, wait};
use meta_cni_tests::node::{NETWORKS, STATUS};
use serde_json::{Value, json};

const NODES: u8 = 3;
const ONE_BY_ONE: usize = 9;
const AT_ONCE: usize = 30;
/// 30 on each node.
const MANY_AT_ONCE: usize = 90;
/// Longer than kubelet's time between two collections of dead sandboxes, in seconds.
const COLLECTION: u64 = 65;
const PATIENCE: Duration = Duration::from_secs(180);
const EXTRA: [&str; 3] = ["lan1", "lan2", "lan3"];

/// One line of the table.
struct Row {
    what: String,
    pods: &'static str,
    set_up: Operations,
    tear_down: Operations,
    /// From the first creation until the last pod was ready.
    all_ready: Duration,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let archive = PathBuf::from(args.next().expect("usage: bench-cluster IMAGE JSON [SECONDS OF QUIET]"));
    let json = args.next();
    let quiet = Duration::from_secs(args.next().map_or(COLLECTION, |seconds| seconds.parse().unwrap()));
    let mut rows = Vec::new();
    {
        let cluster = start();
        measure(&cluster, quiet, "the reference bridge alone", None, &mut rows);
        let daemons = multus::install(&cluster);
        cluster.plane().kubectl(["apply", "-k", deploy("crds").to_str().unwrap()]);
        define(&cluster);
        measure(&cluster, quiet, "Multus thick", Some(&[]), &mut rows);
        measure(&cluster, quiet, "Multus thick, three further networks", Some(&EXTRA), &mut rows);
        eprintln!("memory of Multus's daemons: {}", daemons.iter().map(memory).collect::<Vec<_>>().join(", "));
    }
    let cluster = start();
    install(&cluster, &archive);
    define(&cluster);
    measure(&cluster, quiet, "meta-cni", Some(&[]), &mut rows);
    measure(&cluster, quiet, "meta-cni, three further networks", Some(&EXTRA), &mut rows);
    print!("{}", table(&rows));
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows.iter().map(Row::json).collect::<Vec<_>>()).unwrap())
            .unwrap();
    }
}

/// A cluster whose default network is the reference bridge and nothing behind it: every way has the same to do for eth0.
fn start() -> Cluster {
    let cluster = Cluster::start(NODES);
    for node in cluster.nodes() {
        let file = node.file("/etc/cni/net.d/10-bridge.conflist");
        let mut list: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        list["plugins"].as_array_mut().unwrap().truncate(1);
        std::fs::write(&file, list.to_string()).unwrap();
    }
    cluster
}

fn deploy(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(part)
}

fn install(cluster: &Cluster, archive: &Path) {
    eprintln!("installing meta-cni");
    cluster.import(archive);
    cluster.plane().kubectl(["apply", "-k", deploy("kustomize").to_str().unwrap()]);
    wait::until("agents", PATIENCE, || {
        let set = cluster.api().get("/apis/apps/v1/namespaces/kube-system/daemonsets/meta-cni");
        let set = set.map_err(|e| e.to_string())?;
        if set["status"]["numberReady"] == NODES { Ok(()) } else { Err(set["status"].to_string()) }
    });
}

/// Definitions of the further networks.
fn define(cluster: &Cluster) {
    for (name, number) in EXTRA.into_iter().zip(1..) {
        let config = json!({
            "cniVersion": "1.0.0", "type": "bridge", "bridge": name,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": format!("10.{number}.0.0/24")}]]},
        });
        let nad = json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"namespace": "default", "name": name}, "spec": {"config": config.to_string()},
        });
        wait::until("definitions", PATIENCE, || cluster.api().apply(&nad).map_err(|e| e.to_string()));
    }
}

fn memory(daemon: &Service) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap_or_default().trim().to_owned()
}

/// The measurements of one set-up, after one pod per node that does what is done once: bridges, caches.
///
/// `networks`: what each pod asks for; absent where nobody listens, and pods get no status.
fn measure(cluster: &Cluster, pause: Duration, what: &str, networks: Option<&[&str]>, rows: &mut Vec<Row>) {
    eprintln!("measuring: {what}");
    let api = cluster.api();
    run(&api, NODES.into(), NODES.into(), networks);
    for (pods, count, at_once) in [
        ("9, one at a time", ONE_BY_ONE, 1),
        ("30 at once", AT_ONCE, AT_ONCE),
        ("90 at once", MANY_AT_ONCE, MANY_AT_ONCE),
    ] {
        let began = quiet(cluster, pause);
        let all_ready = run(&api, count, at_once, networks);
        let after = quiet(cluster, Duration::from_secs(1));
        rows.push(Row {
            what: what.to_owned(),
            pods,
            set_up: after.0.since(began.0),
            tear_down: after.1.since(began.1),
            all_ready,
        });
    }
}

/// Makes `count` pods, `at_once` of them at a time, waits until they are ready and have their status, and deletes them.
fn run(api: &Api, count: usize, at_once: usize, networks: Option<&[&str]>) -> Duration {
    let mut longest = Duration::ZERO;
    let names: Vec<String> = (0..count).map(|number| format!("p{number}")).collect();
    for (round, names) in names.chunks(at_once).enumerate() {
        let began = Instant::now();
        for (number, name) in names.iter().enumerate() {
            api.apply(&pod(name, (round + number) % usize::from(NODES) + 1, networks)).unwrap();
        }
        wait::until("pods that are ready", PATIENCE, || {
            let pods = api.list("/api/v1/namespaces/default/pods");
            let ready = pods.iter().filter(|pod| complete(pod, networks.is_some())).count();
            if ready == names.len() { Ok(()) } else { Err(format!("{ready} of {}", names.len())) }
        });
        longest = longest.max(began.elapsed());
        for name in names {
            api.delete(&format!("/api/v1/namespaces/default/pods/{name}")).unwrap();
        }
        wait::until("end of the pods", PATIENCE, || match api.list("/api/v1/namespaces/default/pods").len() {
            0 => Ok(()),
            left => Err(format!("{left} pods")),
        });
    }
    longest
}

fn pod(name: &str, node: usize, networks: Option<&[&str]>) -> Value {
    let networks = networks.filter(|networks| !networks.is_empty());
    let annotations = networks.map_or_else(|| json!({}), |networks| json!({NETWORKS: networks.join(",")}));
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default", "name": name, "annotations": annotations},
        "spec": {
            "nodeName": format!("n{node}"), "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": IMAGE}],
        },
    })
}

fn complete(pod: &Value, with_status: bool) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        && (!with_status || pod["metadata"]["annotations"][STATUS].is_string())
}

/// Calls of set_up_pod and tear_down_pod on all nodes.
fn operations(cluster: &Cluster) -> (Operations, Operations) {
    let of = |name| cluster.nodes().iter().map(|node| node.operations(name)).reduce(Operations::and).unwrap();
    (of("set_up_pod"), of("tear_down_pod"))
}

/// The same, once there was no call for a while.
fn quiet(cluster: &Cluster, span: Duration) -> (Operations, Operations) {
    let mut last = (Instant::now(), operations(cluster));
    while last.0.elapsed() < span {
        std::thread::sleep(Duration::from_millis(500));
        let now = operations(cluster);
        if now != last.1 {
            last = (Instant::now(), now);
        }
    }
    last.1
}

fn table(rows: &[Row]) -> String {
    let mut text =
        String::from("| containerd's own mean | pods | set_up_pod, ms | tear_down_pod, ms (calls) | all ready, s |\n");
    text += "| --- | --- | --- | --- | --- |\n";
    for row in rows {
        text += &format!(
            "| {} | {} | {:.1} | {:.1} ({}) | {:.1} |\n",
            row.what,
            row.pods,
            row.set_up.mean_ms(),
            row.tear_down.mean_ms(),
            row.tear_down.count,
            row.all_ready.as_secs_f64()
        );
    }
    text
}

impl Row {
    fn json(&self) -> Value {
        let of = |operations: Operations| json!({"calls": operations.count, "mean_ms": operations.mean_ms()});
        json!({
            "what": self.what, "pods": self.pods, "set_up_pod": of(self.set_up), "tear_down_pod": of(self.tear_down),
            "all_ready_s": self.all_ready.as_secs_f64(),
        })
    }
}
