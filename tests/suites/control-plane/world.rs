//! A node whose agent, the real one, asks a real API server with the rights that are shipped. Delegates are fakes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meta_cni_tests::call::{Call, Outcome};
use meta_cni_tests::cluster::service::Service;
use meta_cni_tests::cluster::{ControlPlane, wait};
use meta_cni_tests::node::{NETWORKS, Node, Pod, STATUS};
use meta_cni_tests::program;
use serde_json::{Value, json};

/// Until something that takes milliseconds is given up.
pub const SOON: Duration = Duration::from_secs(60);
/// The node's name.
pub const NODE: &str = "n1";
/// Its InternalIP, as the kubelet would tell the agent.
pub const NODE_IP: &str = "10.0.0.5";
/// Key under which a runtime hands annotations over.
const HANDED: &str = "io.kubernetes.cri.pod-annotations";

pub struct World {
    agent: Option<Service>,
    pub node: Node,
    pub plane: ControlPlane,
    /// Where the agent tells its metrics.
    metrics: SocketAddr,
    /// How often the agent compares pods with their records. Never, unless a case says so: links of fakes are in no pod.
    pub verify_interval: Option<Duration>,
}

impl World {
    /// An API server that knows what is shipped, and no agent yet.
    pub fn new() -> Self {
        let plane = ControlPlane::start();
        plane.kubectl([
            "apply",
            "-f",
            &shipped("kustomize/base/rbac.yaml"),
            "-f",
            &shipped("kustomize/base/policy.yaml"),
        ]);
        // Nobody else makes the account that every pod has.
        for namespace in ["default", "kube-system"] {
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": "default"}});
            plane.api().apply(&account).unwrap();
        }
        let mut node = Node::new();
        let conf = node.conf.as_object_mut().unwrap();
        conf.remove("cluster");
        // The API server may be slow on a busy machine; what a short wait means has cases of its own.
        conf.insert("statusWaitMs".to_owned(), json!(20_000));
        let socket = node.path("run/agent.sock");
        node.conf["agentSocket"] = json!(socket);
        fs::create_dir(node.path("runtime")).unwrap();
        plane.api().apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})).unwrap();
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let world = Self { agent: None, node, plane, metrics, verify_interval: None };
        world.install_definitions();
        world
    }

    /// Lets the API server know what a definition is.
    pub fn install_definitions(&self) {
        self.plane.kubectl(["apply", "-f", &shipped("crds/network-attachment-definitions.yaml")]);
        let crd = "crd/network-attachment-definitions.k8s.cni.cncf.io";
        self.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", crd]);
    }

    /// Lets the API server know what levels and policies are.
    pub fn install_policies(&self) {
        for (file, crd) in [("attachment-policies", "attachmentpolicies"), ("attachment-levels", "attachmentlevels")] {
            self.plane.kubectl(["apply", "-f", &shipped(&format!("crds/{file}.yaml"))]);
            let crd = format!("crd/{crd}.meta-cni.io");
            self.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", &crd]);
        }
    }

    /// An API server and an agent that knows all there is.
    pub fn served() -> Self {
        let mut world = Self::new();
        world.start_agent();
        world
    }

    /// Starts the agent with the rights of its service account; returns when it knows everything.
    pub fn start_agent(&mut self) {
        self.start_agent_with(&self.kubeconfig());
    }

    /// A token as the agent's pod on this node has it.
    pub fn token(&self) -> String {
        self.token_of_pod_on(NODE)
    }

    /// A token as the agent's pod on a node has it.
    pub fn token_of_pod_on(&self, node: &str) -> String {
        self.token_for(node, Duration::from_secs(3600))
    }

    /// The same for so long.
    pub fn token_for(&self, node: &str, time: Duration) -> String {
        let spec = json!({
            "nodeName": node, "serviceAccountName": "meta-cni",
            "containers": [{"name": "agent", "image": "registry.k8s.io/pause"}],
        });
        let metadata = json!({"namespace": "kube-system", "name": format!("meta-cni-{node}")});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        let pod = self.plane.api().apply(&pod).unwrap();
        self.plane.token_for("kube-system", "meta-cni", &pod, time)
    }

    /// The agent's kubeconfig, as a file.
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self.node.path("agent.kubeconfig");
        fs::write(&path, self.plane.kubeconfig_with(&self.token()).to_string()).unwrap();
        path
    }

    pub fn start_agent_with(&mut self, kubeconfig: &Path) {
        self.launch_agent(kubeconfig);
        self.until("agent that knows everything", || match self.health(&[]) {
            Ok(line) if line.contains("pods known, definitions known") => Ok(()),
            Ok(other) | Err(other) => Err(other),
        });
    }

    /// A kubeconfig whose token is in a file, which has this one.
    pub fn kubeconfig_of_token_file(&self, token: &str) -> (PathBuf, PathBuf) {
        let (kubeconfig, file) = (self.node.path("kubeconfig"), self.node.path("token"));
        fs::write(&file, token).unwrap();
        let mut config = self.plane.kubeconfig_with("");
        config["users"][0]["user"] = json!({"tokenFile": file});
        fs::write(&kubeconfig, config.to_string()).unwrap();
        (kubeconfig, file)
    }

    /// A kubeconfig whose authority is in a file.
    pub fn kubeconfig_of_authority_file(&self) -> (PathBuf, PathBuf) {
        let (kubeconfig, file) = (self.node.path("kubeconfig"), self.node.path("ca.crt"));
        fs::write(&file, self.plane.certificate()).unwrap();
        let mut config = self.plane.kubeconfig_with(&self.token());
        let cluster = config["clusters"][0]["cluster"].as_object_mut().unwrap();
        cluster.remove("certificate-authority-data");
        cluster.insert("certificate-authority".to_owned(), json!(file));
        fs::write(&kubeconfig, config.to_string()).unwrap();
        (kubeconfig, file)
    }

    /// Starts the agent and does not wait.
    pub fn launch_agent(&mut self, kubeconfig: &Path) {
        assert!(self.agent.is_none(), "the agent runs");
        let log = self.log_path();
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = program::command(agent());
        command
            .arg("run")
            .env("NODE_NAME", NODE)
            .env("NODE_IPS", NODE_IP)
            .env("META_CNI_VERIFY_INTERVAL", self.verify_interval.unwrap_or_default().as_secs().to_string())
            .env("META_CNI_METRICS_ADDRESS", self.metrics.to_string())
            .env("META_CNI_LOG_LEVEL", "info,meta_cni=debug");
        for (flag, path) in [
            ("--socket", self.node.path("run/agent.sock")),
            ("--state-dir", self.node.path("state")),
            ("--cni-conf-dir", self.node.path("runtime")),
            ("--cni-bin-dir", self.node.path("bin")),
            ("--kubelet-dir", self.node.path("kubelet")),
            ("--kubeconfig", kubeconfig.to_owned()),
        ] {
            command.arg(flag).arg(path);
        }
        let config = self.node.path("node.json");
        if config.exists() {
            command.arg("--config").arg(config);
        }
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        self.agent = Some(Service::started("meta-cnid", child, &log));
    }

    pub fn kill_agent(&mut self) {
        self.agent.take().unwrap().kill();
    }

    pub fn agent(&self) -> &Service {
        self.agent.as_ref().unwrap()
    }

    fn log_path(&self) -> PathBuf {
        self.node.path("agent.log")
    }

    /// What the agent said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap()
    }

    /// `meta-cnid health`.
    pub fn health(&self, flags: &[&str]) -> Result<String, String> {
        let mut command = program::command(agent());
        command.arg("health").arg("--socket").arg(self.node.path("run/agent.sock")).args(flags);
        let finished = program::start(&mut command, b"").finish(SOON);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if finished.code == Some(0) { Ok(text(&finished.stdout)) } else { Err(text(&finished.stderr)) }
    }

    /// The page of metrics of the agent.
    pub fn metrics(&self) -> Result<String, String> {
        scrape(self.metrics)
    }

    /// One question to the agent's socket, as the plugin puts it, and the answer.
    pub fn ask(&self, question: &Value) -> Value {
        ask(&self.node.path("run/agent.sock"), question)
    }

    /// Returns when the agent has read a definition of `default` and keeps it for an outage.
    pub fn until_kept(&self, name: &str) {
        let file = self.node.path(&format!("state/definitions/default/{name}"));
        self.until("file of the definition", || fs::metadata(&file).map_err(|e| format!("{}: {e}", file.display())));
    }

    /// Waits; when it is in vain, the agent's last words are shown.
    #[track_caller]
    pub fn until<T>(&self, what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
        self.within(SOON, what, attempt)
    }

    #[track_caller]
    pub fn within<T>(&self, limit: Duration, what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
        wait::patiently(limit, attempt).unwrap_or_else(|why| {
            let log = self.log();
            let last = log.lines().rev().take(15).collect::<Vec<_>>();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            panic!("no {what} within {limit:?}: {why}\nlast words of the agent:\n{last}")
        })
    }

    /// A definition in `default` whose delegate is the fake `one`.
    pub fn nad(&self, name: &str) {
        self.nad_of(name, json!({"cniVersion": "1.1.0", "type": "one", "fakeIps": [{"address": "10.43.0.10/24"}]}));
    }

    pub fn nad_of(&self, name: &str, config: Value) {
        let text = config.to_string();
        self.plane.api().apply(&nad("default", name, json!({ "config": text }))).unwrap();
    }

    /// A pod of this node in the API server, and a sandbox for it.
    pub fn pod(&self, name: &str, networks: &str) -> Pod {
        let annotations = if networks.is_empty() { json!({}) } else { json!({NETWORKS: networks}) };
        let made = self.plane.api().apply(&pod(name, annotations)).unwrap();
        self.node.sandbox(name, made["metadata"]["uid"].as_str().unwrap())
    }

    /// An ADD whose runtime hands the annotations over.
    pub fn handed(&self, pod: &Pod, networks: &str) -> Call<'_> {
        self.node.call("ADD", pod).conf("runtimeConfig", json!({HANDED: {NETWORKS: networks}}))
    }

    /// An ADD that succeeds.
    #[track_caller]
    pub fn add(&self, pod: &Pod) -> Outcome {
        let outcome = self.node.add(pod);
        assert!(outcome.succeeded(), "{} {}", outcome.stdout(), outcome.stderr());
        outcome
    }

    /// The status of a pod: for each interface its name and address.
    pub fn status(&self, name: &str) -> Result<Vec<String>, String> {
        let pod = self.plane.api().get(&format!("/api/v1/namespaces/default/pods/{name}"));
        let pod = pod.map_err(|refusal| refusal.to_string())?;
        let text = pod["metadata"]["annotations"][STATUS].as_str().ok_or_else(|| format!("no status of pod {name}"))?;
        let entries: Vec<Value> = serde_json::from_str(text).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(entries.iter().map(|entry| format!("{} {}", text(&entry["name"]), text(&entry["ips"][0]))).collect())
    }

    /// Reason and text of a pod's events, in order.
    pub fn events(&self, name: &str) -> Vec<(String, String)> {
        let mut events = self.plane.api().list("/apis/events.k8s.io/v1/namespaces/default/events");
        events.retain(|event| event["regarding"]["name"] == name);
        events.sort_by_key(|event| event["eventTime"].to_string());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        events.iter().map(|event| (text(&event["reason"]), text(&event["note"]))).collect()
    }

    /// How many requests of a verb for a resource the API server has had.
    pub fn requests(&self, verb: &str, resource: &str, subresource: &str) -> u64 {
        let metrics = self.plane.api().text("/metrics").unwrap();
        let (verb, resource) = (format!("verb=\"{verb}\""), format!("resource=\"{resource}\""));
        let subresource = format!("subresource=\"{subresource}\"");
        let counts = metrics.lines().filter(|line| line.starts_with("apiserver_request_total{"));
        let ours = counts.filter(|line| [&verb, &resource, &subresource].iter().all(|label| line.contains(*label)));
        ours.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }

    /// Resident memory of the agent, in MB: all of it, and what is no file's.
    pub fn memory(&self) -> (f64, f64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent().id())).unwrap();
        let of = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
        };
        (of("VmRSS:"), of("RssAnon:"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
    }
}

/// One question to an agent's socket, as the plugin puts it, and the answer.
pub fn ask(socket: &Path, question: &Value) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    let json = question.to_string();
    let frame = [&u32::try_from(json.len()).unwrap().to_be_bytes(), json.as_bytes()].concat();
    stream.write_all(&frame).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    serde_json::from_slice(&answer[4..]).unwrap()
}

/// The agent under test: `META_CNID_BIN`, or the build beside the running test.
fn agent() -> PathBuf {
    std::env::var_os("META_CNID_BIN").map_or_else(|| program::built("meta-cnid"), PathBuf::from)
}

pub fn shipped(file: &str) -> String {
    format!("{}/../deploy/{file}", env!("CARGO_MANIFEST_DIR"))
}

pub fn pod(name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "annotations": annotations},
        "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "registry.k8s.io/pause"}]},
    })
}

pub fn nad(namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    })
}

/// A page of metrics.
pub fn scrape(address: SocketAddr) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    let (head, page) = answer.split_once("\r\n\r\n").ok_or_else(|| answer.clone())?;
    if head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200") {
        Ok(page.to_owned())
    } else {
        Err(head.to_owned())
    }
}
