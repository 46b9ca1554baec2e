//! The installation on a cluster, as it is shipped, and its end as docs/install.md says it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::pods::{PATIENCE, gone};
use super::{Api, Cluster, wait};

/// The agents' DaemonSet.
pub const AGENTS: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets/meta-cni";
/// The DaemonSet that gives nodes back.
pub const UNINSTALL: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets/meta-cni-uninstall";
/// The webhook's Deployment.
pub const WEBHOOK: &str = "/apis/apps/v1/namespaces/meta-cni/deployments/meta-cni-webhook";

/// Applies everything, as it is shipped, but that nodes leave a network sooner.
pub fn install(cluster: &Cluster) {
    let kustomization = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/cluster/installation");
    cluster.plane().kubectl(["apply", "-k", kustomization.to_str().unwrap()]);
}

/// Applies a kustomization of it, with these keys in the ConfigMap.
pub fn install_with(cluster: &Cluster, kustomization: &str, keys: &Value) {
    let mut objects: Vec<Value> =
        serde_saphyr::from_multiple(&cluster.plane().kubectl(["kustomize", kustomization])).unwrap();
    let is_conf = |object: &&mut Value| object["kind"] == "ConfigMap" && object["metadata"]["name"] == "meta-cni";
    objects.iter_mut().find(is_conf).unwrap()["data"]["node.json"] = json!(keys.to_string());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()).unwrap();
    cluster.plane().kubectl(["apply", "-f", file.path().to_str().unwrap()]);
}

/// Applies everything with the component of a dialect and this configuration of every node, as docs/dialects has it.
pub fn install_dialect(cluster: &Cluster, dialect: &str, node: &Value) {
    // kustomize takes no absolute paths. Several cases may do this at once.
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target");
    fs::create_dir_all(&target).unwrap();
    let root = tempfile::tempdir_in(target).unwrap();
    let metadata = json!({"namespace": "kube-system", "name": "meta-cni"});
    let data = json!({"node.json": node.to_string()});
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    let kustomization = json!({
        "resources": ["../../tests/suites/cluster/installation"],
        "components": [format!("../../deploy/dialects/{dialect}")],
        "patches": [{"patch": config.to_string()}],
    });
    fs::write(root.path().join("kustomization.yaml"), kustomization.to_string()).unwrap();
    cluster.plane().kubectl(["apply", "-k", root.path().to_str().unwrap()]);
}

/// The archive of `make image`.
pub fn image() -> PathBuf {
    let archive = std::env::var_os("META_CNI_IMAGE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/meta-cni.tar"), PathBuf::from);
    assert!(archive.is_file(), "{} is missing: make image", archive.display());
    archive
}

/// Waits until every node has an agent that is ready, and its configuration.
pub fn wait_for_agents(cluster: &mut Cluster) {
    let path = "/apis/apps/v1/namespaces/kube-system/daemonsets/meta-cni";
    let api = cluster.api();
    wait::until("agents that are ready", PATIENCE, || {
        cluster.check()?;
        let set = api.get(path).map_err(|e| e.to_string())?;
        let status = &set["status"];
        let nodes = cluster.nodes().len();
        if status["numberReady"] != nodes || status["observedGeneration"] != set["metadata"]["generation"] {
            return Err(format!("{status}\n{}", words_of_agents(&api)));
        }
        for node in cluster.nodes() {
            let conf = node.file("/etc/cni/net.d/00-meta-cni.conflist");
            fs::metadata(&conf).map_err(|e| format!("{}: {}: {e}", node.name(), conf.display()))?;
        }
        Ok(())
    });
}

/// Waits until every replica of the webhook is one that the API server can ask, and there is no pod of it but those.
pub fn wait_for_webhook(cluster: &Cluster) {
    let api = cluster.api();
    wait::until("webhook that is ready", PATIENCE, || {
        let deployment = api.get(WEBHOOK).map_err(|e| e.to_string())?;
        let (status, replicas) = (&deployment["status"], &deployment["spec"]["replicas"]);
        let is_whole = status["readyReplicas"] == *replicas
            && status["updatedReplicas"] == *replicas
            && status["observedGeneration"] == deployment["metadata"]["generation"]
            && *replicas == api.list("/api/v1/namespaces/meta-cni/pods").len();
        if is_whole { Ok(()) } else { Err(status.to_string()) }
    });
}

/// The last lines of what agents said.
fn words_of_agents(api: &Api) -> String {
    let pods = api.list("/api/v1/namespaces/kube-system/pods");
    let names = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
    let words = names.map(|name| {
        let log = api.text(&format!("/api/v1/namespaces/kube-system/pods/{name}/log?container=agent&tailLines=5"));
        format!("{name}: {}", log.unwrap_or_else(|refusal| refusal.to_string()))
    });
    words.collect::<Vec<_>>().join("\n")
}

/// How many pods of a DaemonSet are ready, and how many there should be.
pub fn count(api: &Api, path: &str) -> Result<(u64, u64), String> {
    let set = api.get(path).map_err(|e| e.to_string())?;
    if set["status"]["observedGeneration"] != set["metadata"]["generation"] {
        return Err("not seen yet".to_owned());
    }
    let number = |key: &str| set["status"][key].as_u64().unwrap_or_default();
    Ok((number("numberReady"), number("desiredNumberScheduled")))
}

/// The words of the pods that uninstall.
pub fn words(api: &Api) -> String {
    let pods = api.list("/api/v1/namespaces/kube-system/pods?labelSelector=app.kubernetes.io/name=meta-cni-uninstall");
    let of = |pod: &Value| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let log = api.text(&format!("/api/v1/namespaces/kube-system/pods/{name}/log?container=uninstall"));
        format!("{}: {}", pod["spec"]["nodeName"], log.unwrap_or_else(|refusal| refusal.to_string()))
    };
    pods.iter().map(of).collect::<Vec<_>>().join("\n")
}

/// Gives every node back, none of which has a pod with further networks, and removes what was installed but definitions.
pub fn uninstall(cluster: &Cluster) {
    let (api, nodes) = (cluster.api(), cluster.nodes().len() as u64);
    api.delete(AGENTS).unwrap();
    gone(&api, AGENTS);
    cluster.plane().kubectl(["apply", "-k", &deploy("uninstall")]);
    wait::until("nodes that are given back", PATIENCE, || match count(&api, UNINSTALL)? {
        (ready, wanted) if (ready, wanted) == (nodes, nodes) => Ok(()),
        other => Err(format!("{other:?}\n{}", words(&api))),
    });
    remove_installation(cluster);
}

/// Removes the objects of the installation, when nodes were given back.
pub fn remove_installation(cluster: &Cluster) {
    cluster.plane().kubectl(["delete", "-k", &deploy("uninstall"), "--timeout=100s"]);
    cluster.plane().kubectl(["delete", "-k", &deploy("kustomize/base"), "--ignore-not-found", "--timeout=100s"]);
    gone(&cluster.api(), "/api/v1/namespaces/meta-cni");
}

/// A directory of `deploy/`.
pub fn deploy(dir: &str) -> String {
    format!("{}/../deploy/{dir}", env!("CARGO_MANIFEST_DIR"))
}
