//! A node in a directory: manifests, plugins, state and addresses of its own, and a network namespace as its host's.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::call::{Call, Outcome};
use crate::fake::Fakes;
use crate::netns::Netns;

/// Directory of the reference plugins (Debian's containernetworking-plugins).
pub const REFERENCE: &str = "/usr/lib/cni";

/// The status annotation.
pub const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The selection annotation.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// A node. Everything is gone when it is dropped.
pub struct Node {
    /// The namespace that stands for the host's.
    pub netns: Netns,
    /// The configuration that the runtime sends.
    pub conf: Value,
    /// The fakes in `binDir`.
    pub fakes: Fakes,
    dir: TempDir,
    pods: Cell<u32>,
}

/// A pod's sandbox on a node.
pub struct Pod {
    /// Namespace of the pod object.
    pub namespace: String,
    /// Name of the pod object.
    pub name: String,
    /// UID of the pod object.
    pub uid: String,
    /// CNI_CONTAINERID.
    pub container: String,
    /// The sandbox's network namespace.
    pub netns: Netns,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// A node whose default network is the fake `main`, with fakes `one` and `two` beside it.
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("meta-cni-").unwrap();
        for sub in ["manifests", "bin", "conf", "netns"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        let at = |sub: &str| dir.path().join(sub);
        let conf = json!({
            "cniVersion": "1.1.0",
            "name": "node-net",
            "type": "meta-cni",
            "cluster": {"directory": at("manifests")},
            "stateDir": at("state"),
            "cniDir": at("multus"),
            "binDir": at("bin"),
            "confDir": at("conf"),
            "pathRoots": [dir.path()],
            "delegates": [{"cniVersion": "1.1.0", "name": "default-net", "type": "main", "fakeIps": [{"address": "192.0.2.2/24", "gateway": "192.0.2.1"}]}],
        });
        let fakes = Fakes::new(&at("bin"));
        for name in ["main", "one", "two"] {
            fakes.install(name);
        }
        Self { netns: Netns::new(at("netns/host")), conf, fakes, dir, pods: Cell::new(0) }
    }

    /// A node whose default network is this configuration.
    pub fn with_default(delegate: Value) -> Self {
        let mut node = Self::new();
        node.conf["delegates"] = json!([delegate]);
        node
    }

    /// A path of the node's directory.
    pub fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    /// The same as text, for configurations.
    pub fn text(&self, sub: &str) -> String {
        self.path(sub).to_str().unwrap().to_owned()
    }

    /// host-local with the node's own data directory.
    pub fn host_local(&self, subnet: &str) -> Value {
        json!({"type": "host-local", "dataDir": self.path("addresses"), "ranges": [[{"subnet": subnet}]]})
    }

    /// Writes a manifest into the directory that stands for the cluster.
    pub fn manifest(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path("manifests").join(file), text).unwrap();
    }

    /// Takes a manifest away.
    pub fn remove_manifest(&self, file: &str) {
        fs::remove_file(self.path("manifests").join(file)).unwrap();
    }

    /// A definition in namespace `default`, as file `nad-NAME.json`.
    pub fn nad(&self, name: &str, config: Value) {
        self.nad_text("default", name, &config.to_string());
    }

    /// A definition in any namespace with any text as its configuration.
    pub fn nad_text(&self, namespace: &str, name: &str, config: &str) {
        let manifest = json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"namespace": namespace, "name": name}, "spec": {"config": config},
        });
        self.manifest(&format!("nad-{name}.json"), manifest.to_string());
    }

    /// A pod in namespace `default` that asks for these networks; its manifest is `pod-NAME.json`.
    pub fn pod(&self, name: &str, networks: &str) -> Pod {
        let annotations = if networks.is_empty() { json!({}) } else { json!({NETWORKS: networks}) };
        self.pod_annotated(name, annotations)
    }

    /// A pod in another namespace that asks for these networks.
    pub fn pod_in(&self, namespace: &str, name: &str, networks: &str) -> Pod {
        let pod = self.pod(name, networks);
        let file = self.path("manifests").join(format!("pod-{name}.json"));
        let mut manifest: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        manifest["metadata"]["namespace"] = json!(namespace);
        fs::write(file, manifest.to_string()).unwrap();
        Pod { namespace: namespace.to_owned(), ..pod }
    }

    /// A pod with these annotations.
    pub fn pod_annotated(&self, name: &str, annotations: Value) -> Pod {
        let number = self.pods.replace(self.pods.get() + 1);
        let uid = format!("00000000-0000-4000-8000-{number:012}");
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "default", "name": name, "uid": uid, "annotations": annotations},
            "spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause"}]},
        });
        self.manifest(&format!("pod-{name}.json"), serde_json::to_string_pretty(&manifest).unwrap());
        self.sandbox(name, &uid)
    }

    /// A new sandbox of a pod: own container id and namespace, nothing written.
    pub fn sandbox(&self, name: &str, uid: &str) -> Pod {
        let number = self.pods.replace(self.pods.get() + 1);
        let container = format!("{number:04}{}", "c0ffee".repeat(10));
        let netns = Netns::new(self.path("netns").join(&container[..8]));
        Pod { namespace: "default".to_owned(), name: name.to_owned(), uid: uid.to_owned(), container, netns }
    }

    /// The status annotation of a pod, parsed.
    #[track_caller]
    pub fn status(&self, pod: &Pod) -> Value {
        let annotations = self.annotations(pod);
        let text = annotations[STATUS].as_str().unwrap_or_else(|| panic!("no status in {annotations}"));
        serde_json::from_str(text).unwrap()
    }

    /// All annotations of a pod as its manifest holds them now.
    pub fn annotations(&self, pod: &Pod) -> Value {
        let text = fs::read_to_string(self.path("manifests").join(format!("pod-{}.json", pod.name))).unwrap();
        let manifest: Value = serde_saphyr::from_str(&text).unwrap();
        manifest["metadata"]["annotations"].clone()
    }

    /// A call for a pod with the node's configuration, ready to be changed.
    pub fn call(&self, verb: &str, pod: &Pod) -> Call<'_> {
        let args = [
            "IgnoreUnknown=1".to_owned(),
            format!("K8S_POD_NAMESPACE={}", pod.namespace),
            format!("K8S_POD_NAME={}", pod.name),
            format!("K8S_POD_INFRA_CONTAINER_ID={}", pod.container),
            format!("K8S_POD_UID={}", pod.uid),
        ];
        self.bare_call(verb)
            .env("CNI_CONTAINERID", &pod.container)
            .env("CNI_NETNS", pod.netns.text())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", args.join(";"))
    }

    /// A call without a pod: GC, STATUS, VERSION.
    pub fn bare_call(&self, verb: &str) -> Call<'_> {
        Call::new(&self.netns)
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", REFERENCE)
            .stdin(serde_json::to_vec(&self.conf).unwrap())
    }

    /// Edits the networks annotation of a pod, as a person would.
    pub fn edit(&self, pod: &Pod, networks: &str) {
        let file = self.path("manifests").join(format!("pod-{}.json", pod.name));
        let mut manifest: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        manifest["metadata"]["annotations"][NETWORKS] = json!(networks);
        fs::write(file, manifest.to_string()).unwrap();
    }

    /// A hot-plug of a pod's sandbox, as the node agent asks for it.
    pub fn hot_plug_call(&self, pod: &Pod) -> Call<'_> {
        self.bare_call("").without("CNI_COMMAND").args(["hotplug", pod.container.as_str(), "eth0"])
    }

    /// The same, run to its end.
    pub fn hot_plug(&self, pod: &Pod) -> Outcome {
        self.hot_plug_call(pod).run()
    }

    /// A comparison of all records with the kernel, as the node agent asks for it.
    pub fn verify_call(&self) -> Call<'_> {
        self.bare_call("").without("CNI_COMMAND").args(["verify"])
    }

    /// The differences that it finds: their sentences.
    #[track_caller]
    pub fn differences(&self) -> Vec<String> {
        let report = self.verify_call().run().result();
        let of = |one: &Value| one["differences"].as_array().cloned().unwrap_or_default();
        let differing = report["differing"].as_array().into_iter().flatten().flat_map(of);
        differing.map(|one| one["text"].as_str().unwrap().to_owned()).collect()
    }

    /// A repair of a pod's sandbox, as the node agent asks for it.
    pub fn repair_call(&self, pod: &Pod) -> Call<'_> {
        self.bare_call("").without("CNI_COMMAND").args(["repair", pod.container.as_str(), "eth0"])
    }

    /// The same on a node whose configuration allows it, run to its end.
    pub fn repair(&self, pod: &Pod) -> Outcome {
        self.repair_call(pod).conf("repair", serde_json::json!(true)).run()
    }

    /// A replay for records that were left alone for this many seconds.
    pub fn replay_call(&self, idle: u32) -> Call<'_> {
        self.bare_call("").without("CNI_COMMAND").args(["replay".to_owned(), idle.to_string()])
    }

    /// What a replay says that it did.
    #[track_caller]
    pub fn replay(&self) -> Value {
        self.replay_call(0).run().result()
    }

    /// ADD, as the runtime would.
    pub fn add(&self, pod: &Pod) -> Outcome {
        self.call("ADD", pod).run()
    }

    /// An ADD that is refused before any delegate runs, and leaves nothing.
    #[track_caller]
    pub fn refuses(&self, pod: &Pod, code: u64, names: &[&str]) {
        self.add(pod).refused(code, names);
        assert!(self.fakes.calls().is_empty(), "a delegate ran: {:?}", self.fakes.take_order());
        self.assert_clean();
    }

    /// DEL, as the runtime would.
    pub fn del(&self, pod: &Pod) -> Outcome {
        self.call("DEL", pod).run()
    }

    /// The files of records in this state (`pending`, `attached`, `abandoned`), by name.
    pub fn records(&self, state: &str) -> Vec<PathBuf> {
        self.files(&format!("state/{state}")).into_iter().map(|file| self.path(&file)).collect()
    }

    /// CHECK with the result of the ADD.
    pub fn check(&self, pod: &Pod, result: &Value) -> Outcome {
        self.call("CHECK", pod).conf("prevResult", result.clone()).run()
    }

    /// Directory of the node.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
