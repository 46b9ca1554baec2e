//! A cluster that DANM gave its addresses goes to meta-cni: by what `meta-cnictl migrate danm` prints no address of a pod that runs is given
//! to another one.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use meta_cni_tests::cluster::node::Traces;
use meta_cni_tests::cluster::{Api, Cluster, Node, wait};
use meta_cni_tests::program;
use serde_json::{Value, json};

use crate::bed::{
    PATIENCE, deploy, events, gone, install, install_dialect, is_ready, namespace, pod, ready, status_of, until_clean,
    wait_for_agents, wait_for_webhook,
};
use crate::danm::two_nodes;

const NAMESPACE: &str = "moved";
/// Pods of before, the node of each, and its address: the first of the pool, one in the middle, and the last.
const LIVE: [(&str, &str, &str); 3] =
    [("old-0", "n1", "10.61.0.10"), ("old-1", "n2", "10.61.0.13"), ("old-2", "n1", "10.61.0.17")];
/// Addresses of the pool.
const POOL: usize = 8;
/// As long as an agent keeps the claim of a pod that has no lease on its node, and some more.
const LONG: Duration = Duration::from_secs(40);

/// Two nodes with a link `lan0`, and meta-cni that knows nothing of DANM.
fn cluster() -> Cluster {
    let mut cluster = two_nodes();
    install(&cluster);
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    namespace(&cluster.api(), NAMESPACE);
    cluster
}

/// The kinds of DANM 4.3, which are there before.
fn install_kinds(cluster: &Cluster) {
    let all = fs::read_to_string(deploy("dialects/danm/crds.yaml")).unwrap();
    let older: Vec<&str> = all.split("\n---\n").filter(|kind| kind.contains("group: danm.k8s.io")).collect();
    apply(cluster, &older.join("\n---\n"));
    cluster.plane().kubectl(["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
}

fn apply(cluster: &Cluster, text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    cluster.plane().kubectl(["apply", "-f", file.path().to_str().unwrap()]);
}

/// What DANM left: a network, and for each pod of it what it was given.
fn danm(api: &Api) {
    let pool = json!({"start": "10.61.0.10", "end": "10.61.0.17"});
    let options = json!({"host_device": "lan0", "cidr": "10.61.0.0/24", "allocation_pool": pool});
    let metadata = json!({"namespace": NAMESPACE, "name": "lan"});
    let spec = json!({"NetworkID": "lan", "NetworkType": "macvlan", "Options": options});
    api.apply(&json!({"apiVersion": "danm.k8s.io/v1", "kind": "DanmNet", "metadata": metadata, "spec": spec})).unwrap();
    for (name, node, address) in LIVE {
        api.apply(&pod(NAMESPACE, name, Some(node))).unwrap();
        let uid = ready(api, NAMESPACE, name)["metadata"]["uid"].clone();
        let interface = json!({"Name": "eth0", "Address": format!("{address}/24")});
        let spec = json!({"NetworkName": "lan", "NetworkType": "macvlan", "apiType": "DanmNet", "Pod": name,
            "PodUID": uid, "Host": node, "Interface": interface});
        let metadata = json!({"namespace": NAMESPACE, "name": format!("ep-{name}")});
        api.apply(&json!({"apiVersion": "danm.k8s.io/v1", "kind": "DanmEp", "metadata": metadata, "spec": spec}))
            .unwrap();
    }
}

/// The first steps of docs/dialects/danm.md: what there is, and the claims of what `migrate` makes of it.
fn claims(cluster: &Cluster) -> String {
    let kinds = "danmnets,tenantnetworks,clusternetworks,tenantconfigs,reservedips,danmeps";
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    fs::write(&file, cluster.plane().kubectl(["get", kinds, "-A", "-o", "json"])).unwrap();
    let mut command = program::command(program::built("meta-cnictl"));
    command.args(["migrate", "danm", "--shared-namespace", "infra"]).arg(file.path());
    let finished = program::start(&mut command, b"").finish(Duration::from_secs(20));
    let (out, err) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
    assert_eq!((finished.code, err.as_ref()), (Some(0), ""), "{out}");
    out.split("---\n").filter(|object| object.contains("kind: AddressClaim")).collect::<Vec<_>>().join("---\n")
}

/// A template with a list of DANM.
fn asks(ip: &str) -> Value {
    json!({"danm.k8s.io/interfaces": json!([{"network": "lan", "ip": ip}]).to_string()})
}

/// As many pods as there are addresses.
fn deployment() -> Value {
    let metadata = json!({"labels": {"app": "new"}, "annotations": asks("dynamic")});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": NAMESPACE, "name": "new"},
        "spec": {
            "replicas": POOL, "selector": {"matchLabels": {"app": "new"}},
            "template": {"metadata": metadata, "spec": pod(NAMESPACE, "new", None)["spec"]},
        },
    })
}

/// The addresses of the new pods, none of which is one of a pod that runs since before.
fn new_addresses(api: &Api, live: &[(&str, &str, &str)]) -> BTreeSet<String> {
    let pods = api.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app=new"));
    let of = |pod: &Value| {
        let told = status_of(pod).filter(|_| is_ready(pod))?;
        Some(told[0]["ips"][0].as_str()?.to_owned())
    };
    let all: Vec<String> = pods.iter().filter_map(of).collect();
    let addresses: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(addresses.len(), all.len(), "an address is in two pods: {all:?}");
    for (name, _, address) in live {
        assert!(!addresses.contains(*address), "{address} is that of {name}");
    }
    addresses
}

fn until_new(api: &Api, live: &[(&str, &str, &str)]) {
    wait::until(&format!("pods on all addresses but those of {live:?}"), PATIENCE, || {
        let addresses = new_addresses(api, live);
        if addresses.len() == POOL - live.len() { Ok(()) } else { Err(format!("{addresses:?}")) }
    });
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}")
}

#[test]
fn no_address_of_a_pod_of_danm_that_runs_is_given_out() {
    let mut cluster = cluster();
    let api = cluster.api();
    install_kinds(&cluster);
    danm(&api);
    apply(&cluster, &claims(&cluster));
    install_dialect(&cluster, "danm", &json!({"dialects": ["danm"]}));
    cluster.plane().kubectl(["rollout", "restart", "--namespace=kube-system", "daemonset/meta-cni"]);
    cluster.plane().kubectl(["rollout", "status", "--namespace=kube-system", "daemonset/meta-cni", "--timeout=100s"]);
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    let before: Vec<Traces> = cluster.nodes().iter().map(Node::traces).collect();

    api.apply(&deployment()).unwrap();
    until_new(&api, &LIVE);
    let (held_by, _, address) = LIVE[1];
    let mut thief = pod(NAMESPACE, "thief", Some("n1"));
    thief["metadata"]["annotations"] = asks(address);
    api.apply(&thief).unwrap();
    wait::until("refusal of an address that a pod has", PATIENCE, || {
        let said = events(&api, NAMESPACE, "thief");
        if said.contains(address) && said.contains(&format!("{NAMESPACE}/{held_by}")) { Ok(()) } else { Err(said) }
    });
    api.delete(&path("thief")).unwrap();
    gone(&api, &path("thief"));
    let began = Instant::now();
    while began.elapsed() < LONG {
        assert_eq!(new_addresses(&api, &LIVE).len(), POOL - LIVE.len());
        thread::sleep(Duration::from_secs(1));
    }

    // Each pod takes its claims along.
    for left in (0..LIVE.len()).rev() {
        api.delete(&path(LIVE[left].0)).unwrap();
        until_new(&api, &LIVE[..left]);
    }
    wait::until("end of all claims", PATIENCE, || {
        let claims = api.list("/apis/meta-cni.io/v1alpha1/addressclaims");
        if claims.is_empty() { Ok(()) } else { Err(json!(claims).to_string()) }
    });
    let namespace = format!("/api/v1/namespaces/{NAMESPACE}");
    api.delete(&namespace).unwrap();
    gone(&api, &namespace);
    until_clean(&cluster, &before);
}
