//! The samples of a floor without the webhook, judged by the API server alone.

use meta_cni_tests::cluster::{ControlPlane, wait};
use serde_json::{Value, json};

use super::world::{SOON, good, nad, shipped};

fn pod(networks: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": "p", "annotations": {"k8s.v1.cni.cncf.io/networks": networks}},
        "spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause"}]},
    })
}

#[test]
fn the_floor_holds_without_us() {
    let plane = ControlPlane::start();
    plane.kubectl(["apply", "-f", &shipped("crds/network-attachment-definitions.yaml")]);
    plane.kubectl([
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        "crd/network-attachment-definitions.k8s.cni.cncf.io",
    ]);
    let api = plane.api();
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "default", "name": "default"}});
    api.apply(&account).unwrap();
    let nads = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions";
    let dry = |path: &str| format!("{path}?dryRun=All");
    api.post(nads, &nad("old", "")).unwrap();
    plane.kubectl(["apply", "-k", &shipped("samples")]);
    let refused = |path: &str, object: &Value, words: &str| match api.post(&dry(path), object) {
        Err(refusal) if refusal.message.contains(words) => Ok(()),
        other => Err(format!("{object}: {other:?}")),
    };
    wait::until("policy in force", SOON, || refused(nads, &nad("empty", " "), "spec.config: an empty configuration"));
    let long = format!("{{\"type\":\"{}\"}}", "x".repeat(65536));
    refused(nads, &nad("long", &long), "must be at most 65536 bytes, not 65547").unwrap();
    api.post(&dry(nads), &good("lan")).unwrap();
    let old = format!("{nads}/old");
    api.patch(&old, &json!({"metadata": {"labels": {"a": "b"}}})).unwrap();

    let pods = "/api/v1/namespaces/default/pods";
    let foreign = "networks of the pod's own namespace only";
    wait::until("policy in force", SOON, || refused(pods, &pod("infra/lan"), foreign));
    for networks in [
        "lan,infra/lan@net1",
        r#"[{"name":"lan","namespace":"infra"}]"#,
        r#" [{"name":"lan","NameSpace":"infra"}]"#,
        r#"[{"name":"lan","n\u0061mespace":"infra"}]"#,
    ] {
        refused(pods, &pod(networks), foreign).unwrap();
    }
    refused(pods, &pod(&"lan,".repeat(5000)), "at most 16384 bytes").unwrap();
    for networks in ["lan", "lan@net1, default/wan", r#"[{"name":"lan","ips":["10.9.0.7/24"]}]"#] {
        api.post(&dry(pods), &pod(networks)).unwrap_or_else(|refusal| panic!("{networks}: {refusal}"));
    }
}
