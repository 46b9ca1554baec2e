//! Objects that cases make in a cluster, and waiting for what becomes of them.

use std::time::Duration;

use serde_json::{Value, json};

use super::node::IMAGE;
use super::{Api, Cluster, wait};
use crate::node::{NETWORKS, STATUS};
use crate::program;

/// What a pod may take on a machine whose two processors compile meanwhile; kubelet tries a failed one again after 10 to 20 seconds,
/// and one that was killed twice over starts its pods anew.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Label of the namespaces of cases.
pub const CASE: &str = "case";

/// Makes a namespace and waits for its service account.
pub fn namespace(api: &Api, name: &str) {
    let metadata = json!({"name": name, "labels": {CASE: name}});
    api.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).unwrap();
    let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
    wait::until("service account", PATIENCE, || api.get(&account).map_err(|e| e.to_string()));
}

/// A pod on a node, `n1` and up, or where the scheduler wants it.
pub fn pod(namespace: &str, name: &str, node: Option<&str>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name, "annotations": {}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": IMAGE}]},
    });
    if let Some(node) = node {
        // Not nodeName: the scheduler has its part in it.
        pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    }
    pod
}

/// A definition as an object.
pub fn definition(namespace: &str, name: &str, config: &str) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": namespace, "name": name}, "spec": {"config": config},
    })
}

/// Waits until a pod is ready, and gives it.
pub fn ready(api: &Api, namespace: &str, name: &str) -> Value {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    wait::until(&format!("pod {name} that is ready"), PATIENCE, || {
        let pod = api.get(&path).map_err(|e| e.to_string())?;
        if is_ready(&pod) { Ok(pod) } else { Err(format!("{}; {}", pod["status"], events(api, namespace, name))) }
    })
}

/// True when a pod has the condition Ready.
pub fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Waits until an object is gone.
pub fn gone(api: &Api, path: &str) {
    wait::until(&format!("end of {path}"), PATIENCE, || match api.get(path) {
        Err(refusal) if refusal.code == 404 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
}

/// The events of an object, a line each: reason and message.
pub fn events(api: &Api, namespace: &str, name: &str) -> String {
    let events = api.list(&format!("/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name={name}"));
    let line = |event: &Value| {
        Some(format!("{}: {}", event["reason"].as_str().unwrap_or_default(), event["message"].as_str()?))
    };
    events.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// Waits for an event of an object that has all of these words.
#[track_caller]
pub fn until_event(api: &Api, namespace: &str, name: &str, words: &[&str]) {
    wait::until(&format!("event {words:?}"), PATIENCE, || {
        let events = events(api, namespace, name);
        if events.lines().any(|line| words.iter().all(|word| line.contains(word))) { Ok(()) } else { Err(events) }
    });
}

/// A bridge of its own with addresses of each node's own, `10.NUMBER.0.0/24`.
pub fn lan(number: u8) -> Value {
    json!({
        "cniVersion": "1.1.0", "type": "bridge", "bridge": format!("lan{number}"),
        "ipam": {"type": "host-local", "ranges": [[{"subnet": format!("10.{number}.0.0/24")}]]},
    })
}

/// The `network-status` of a pod, when it has one.
pub fn status_of(pod: &Value) -> Option<Vec<Value>> {
    let text = pod["metadata"]["annotations"][STATUS].as_str()?;
    Some(serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

/// Waits until a pod is ready and has its `network-status`, and gives that.
pub fn status(api: &Api, namespace: &str, name: &str) -> Vec<Value> {
    ready(api, namespace, name);
    wait::until(&format!("status of pod {name}"), PATIENCE, || {
        let pod = api.get(&format!("/api/v1/namespaces/{namespace}/pods/{name}")).map_err(|e| e.to_string())?;
        status_of(&pod).ok_or_else(|| pod["metadata"].to_string())
    })
}

/// Runs a program in a pod; what it printed.
#[track_caller]
pub fn exec(cluster: &Cluster, namespace: &str, pod: &str, line: &str) -> String {
    cluster.plane().kubectl(["exec", "-n", namespace, pod, "--"].into_iter().chain(line.split(' ')))
}

/// Does one echo come back to a pod? `args` are those of ping, the address last.
pub fn pings(cluster: &Cluster, namespace: &str, pod: &str, args: &[&str]) -> bool {
    let mut command = cluster.plane().kubectl_command();
    command.args(["exec", "-n", namespace, pod, "--", "ping", "-c", "1"]).args(args);
    program::start(&mut command, b"").finish(Duration::from_secs(20)).code == Some(0)
}

/// Interfaces and IPv4 addresses of a pod, as `ip` has them, but for lo.
pub fn interfaces(cluster: &Cluster, namespace: &str, pod: &str) -> Vec<(String, String)> {
    let lines = exec(cluster, namespace, pod, "ip -o -4 address");
    let pair = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[1].to_owned(), words[3].split('/').next().unwrap().to_owned())
    };
    lines.lines().map(pair).filter(|(name, _)| name != "lo").collect()
}

/// Makes a pod with one further network, waits until it has it, and gives its address there.
pub fn attach(api: &Api, namespace: &str, name: &str, node: &str, network: &str) -> String {
    let mut object = pod(namespace, name, Some(node));
    object["metadata"]["annotations"][NETWORKS] = json!(network);
    api.apply(&object).unwrap();
    ready(api, namespace, name);
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    wait::until(&format!("address of pod {name}"), PATIENCE, || {
        let pod = api.get(&path).map_err(|refusal| refusal.to_string())?;
        let status = status_of(&pod).unwrap_or_default();
        let address = status.get(1).and_then(|entry| entry["ips"][0].as_str()).map(str::to_owned);
        address.ok_or_else(|| pod["metadata"].to_string())
    })
}
