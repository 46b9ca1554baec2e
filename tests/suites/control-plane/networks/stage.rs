//! Agents of several nodes, and the plugin's part of their files.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use delegates::ipam::blocks::{FILE, Held, Leases, WANTED};
use delegates::networks::NetworkId;
use delegates::networks::state::NetworkState;
use meta_cni_tests::cluster::control_plane::{self, Relay};
use meta_cni_tests::cluster::service::Service;
use meta_cni_tests::program;
use serde_json::{Value, json};

use crate::world::{World, ask, nad, scrape, shipped};

/// Path of the collection of a kind.
pub fn path(plural: &str) -> String {
    format!("/apis/meta-cni.io/v1alpha1/{plural}")
}

/// The network of a definition in `default`.
pub fn network(definition: &str) -> NetworkId {
    serde_json::from_value(json!(format!("default.{definition}"))).unwrap()
}

/// Port of the API server for an agent that can be cut off alone.
const WIRE: u16 = 7443;

pub struct Stage {
    agents: Vec<(String, Option<Service>)>,
    pub world: World,
    pub grace: u32,
    /// The agents label their nodes.
    pub labels: bool,
    /// What the agents say.
    pub log_level: &'static str,
}

impl Stage {
    /// An API server that knows what is shipped, and the Node objects of these nodes.
    pub fn new(nodes: &[&str]) -> Self {
        let stage = Self::without_kinds(nodes);
        stage.install_kinds();
        stage
    }

    /// The same without the kinds of networks.
    pub fn without_kinds(nodes: &[&str]) -> Self {
        let world = World::new();
        for (number, node) in nodes.iter().enumerate() {
            world.plane.api().apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})).unwrap();
            fs::create_dir_all(world.node.path(&format!("agents/{node}/runtime"))).unwrap();
            world.plane.space().run(&format!("ip address add {}/24 dev under", address(number)));
        }
        let agents = nodes.iter().map(|node| ((*node).to_owned(), None)).collect();
        Self { agents, world, grace: 60, labels: false, log_level: "info,meta_cni_agent::networks=debug" }
    }

    pub fn install_kinds(&self) {
        self.install_kinds_but("");
    }

    /// All of them but one.
    pub fn install_kinds_but(&self, other: &str) {
        let plane = &self.world.plane;
        let kinds = [
            ("vni-claims", "vniclaims"),
            ("overlay-members", "overlaymembers"),
            ("address-blocks", "addressblocks"),
            ("address-claims", "addressclaims"),
            ("address-sets", "addresssets"),
        ];
        for (file, crd) in kinds.into_iter().filter(|(_, crd)| *crd != other) {
            plane.kubectl(["apply", "-f", &shipped(&format!("crds/{file}.yaml"))]);
            let crd = format!("crd/{crd}.meta-cni.io");
            plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", &crd]);
        }
    }

    pub fn dir(&self, node: &str) -> PathBuf {
        self.world.node.path(&format!("agents/{node}"))
    }

    pub fn state_dir(&self, node: &str) -> PathBuf {
        self.dir(node).join("state")
    }

    pub fn start_all(&mut self) {
        let nodes: Vec<String> = self.agents.iter().map(|(node, _)| node.clone()).collect();
        nodes.iter().for_each(|node| self.start(node));
    }

    /// Starts the agent of a node, with a token of its own pod.
    pub fn start(&mut self, node: &str) {
        let dir = self.dir(node);
        let number = self.agents.iter().position(|(name, _)| name == node).unwrap();
        // One that starts again has the token that the kubelet gave it, also while the API server is away.
        if !dir.join("kubeconfig").exists() {
            self.write_kubeconfig(node, control_plane::PORT);
        }
        let log = dir.join("log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = program::command("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.world.plane.space().holder()))
            .arg("--")
            .arg(std::env::var_os("META_CNID_BIN").map_or_else(|| program::built("meta-cnid"), PathBuf::from))
            .arg("run")
            .env("NODE_NAME", node)
            .env("NODE_IPS", address(number))
            .env("META_CNI_MEMBER_GRACE", self.grace.to_string())
            .env("META_CNI_METRICS_ADDRESS", format!("[::]:{}", metrics_port(number)))
            .env("META_CNI_LOG_LEVEL", self.log_level);
        for (flag, path) in [
            ("--socket", dir.join("run/agent.sock")),
            ("--state-dir", dir.join("state")),
            ("--cni-conf-dir", dir.join("runtime")),
            ("--cni-bin-dir", self.world.node.path("bin")),
            ("--kubeconfig", dir.join("kubeconfig")),
        ] {
            command.arg(flag).arg(path);
        }
        if self.labels {
            command.arg("--node-labels");
        }
        if dir.join("config.json").exists() {
            command.arg("--config").arg(dir.join("config.json"));
        }
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        self.agents[number].1 = Some(Service::started(node, child, &log));
        let socket = dir.join("run/agent.sock");
        self.until(node, "agent that serves", || {
            std::os::unix::net::UnixStream::connect(&socket).map(drop).map_err(|e| e.to_string())
        });
    }

    /// Gives an agent that is not started yet a way to the API server that can be cut alone.
    pub fn wire_of(&self, node: &str) -> Relay {
        let wire = self.world.plane.relay(&format!("relay-{node}"), WIRE);
        self.write_kubeconfig(node, WIRE);
        wire
    }

    fn write_kubeconfig(&self, node: &str, port: u16) {
        let token = self.world.token_of_pod_on(node);
        let kubeconfig = self.world.plane.kubeconfig_with(&token).to_string();
        let inside = format!("{}:{port}", control_plane::ADDRESS);
        let kubeconfig = kubeconfig.replace(&self.world.plane.outside(), &inside);
        fs::write(self.dir(node).join("kubeconfig"), kubeconfig).unwrap();
    }

    pub fn kill(&mut self, node: &str) {
        let agent = self.agents.iter_mut().find(|(name, _)| name == node).unwrap();
        agent.1.take().unwrap().kill();
    }

    pub fn log(&self, node: &str) -> String {
        fs::read_to_string(self.dir(node).join("log")).unwrap_or_default()
    }

    /// Resident memory of a node's agent that is no file's, in MB.
    pub fn memory(&self, node: &str) -> f64 {
        let agent = self.agents.iter().find(|(name, _)| name == node).unwrap().1.as_ref().unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// What a node's agent has used of a CPU so far.
    pub fn cpu(&self, node: &str) -> Duration {
        let agent = self.agents.iter().find(|(name, _)| name == node).unwrap().1.as_ref().unwrap();
        let threads = fs::read_dir(format!("/proc/{}/task", agent.id())).unwrap();
        let spent = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap());
        spent.map(|text| Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())).sum()
    }

    /// The page of metrics of a node's agent.
    pub fn metrics(&self, node: &str) -> Result<String, String> {
        let number = self.agents.iter().position(|(name, _)| name == node).unwrap();
        let address = ([127, 0, 0, 1], metrics_port(number)).into();
        self.world.plane.space().within(|| scrape(address))
    }

    /// Waits; when it is in vain, the agent's last words are shown.
    #[track_caller]
    pub fn until<T>(&self, node: &str, what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
        meta_cni_tests::cluster::wait::patiently(crate::world::SOON, attempt).unwrap_or_else(|why| {
            let log = self.log(node);
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            panic!("no {what}: {why}\nlast words of the agent of {node}:\n{}", last.join("\n"))
        })
    }

    /// What a pod of a node is told when it asks for a definition of `default`.
    pub fn resolve(&self, node: &str, definition: &str) -> Value {
        self.resolve_within(node, definition, 10_000)
    }

    pub fn resolve_within(&self, node: &str, definition: &str, wait: u64) -> Value {
        resolve(&self.dir(node).join("run/agent.sock"), definition, wait)
    }

    /// A pod that gets what it asks for.
    #[track_caller]
    pub fn join(&self, node: &str, definition: &str) {
        let answer = self.resolve(node, definition);
        assert_eq!(answer["kind"], "resolved", "{answer}\n{}", self.log(node));
    }

    /// The text of a refusal.
    #[track_caller]
    pub fn refused(&self, node: &str, definition: &str) -> String {
        let answer = self.resolve(node, definition);
        assert_eq!(answer["kind"], "refused", "{answer}");
        answer["body"]["message"].as_str().unwrap().to_owned()
    }

    /// A definition in `default`.
    pub fn define(&self, name: &str, config: Value) {
        let text = config.to_string();
        self.world.plane.api().apply(&nad("default", name, json!({"config": text}))).unwrap();
    }

    /// An overlay with blocks.
    pub fn overlay(&self, name: &str, vni: u32, subnet: &str) {
        self.define(
            name,
            json!({
                "cniVersion": "1.1.0", "type": "vxlan", "vni": vni, "ipam": {"type": "blocks", "subnet": subnet},
            }),
        );
    }

    /// Names of the objects of a kind.
    pub fn names(&self, plural: &str) -> Vec<String> {
        let objects = self.world.plane.api().list(&path(plural));
        objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    pub fn object(&self, plural: &str, name: &str) -> Value {
        self.world.plane.api().get(&format!("{}/{name}", path(plural))).unwrap()
    }

    pub fn delete(&self, plural: &str, name: &str) {
        self.world.plane.api().delete(&format!("{}/{name}", path(plural))).unwrap();
    }

    /// `network.json` of a node.
    pub fn file(&self, node: &str, id: &NetworkId) -> Option<NetworkState> {
        NetworkState::read(&self.state_dir(node), id).unwrap()
    }

    /// How many slots a node may give out.
    pub fn slots(&self, node: &str, id: &NetworkId) -> u32 {
        let state = self.file(node, id).and_then(|file| file.pool);
        state.map(|pool| pool.slots.iter().map(|run| run.count).sum()).unwrap_or_default()
    }

    /// The plugin's part of an ADD: an address, or why there is none.
    pub fn take(&self, node: &str, id: &NetworkId, container: &str) -> Result<IpAddr, String> {
        take(&self.state_dir(node), id, container)
    }

    /// The plugin's part of an ADD that gets this very address.
    pub fn lease(&self, node: &str, id: &NetworkId, container: &str, address: IpAddr) {
        let state_dir = self.state_dir(node);
        let _lock = Leases::create(&state_dir, id, later()).unwrap();
        begin(&state_dir, id);
        append(&id.dir(&state_dir).join(FILE), &format!("+{address} {container} net1 default/{container}\n"));
    }

    /// The plugin's part of a DEL.
    pub fn give_back(&self, node: &str, id: &NetworkId, container: &str) {
        let state_dir = self.state_dir(node);
        let leases = Leases::create(&state_dir, id, later()).unwrap();
        for lease in leases.held().leases().iter().filter(|lease| lease.holder.container == container) {
            let addresses: Vec<String> = lease.addresses.iter().map(ToString::to_string).collect();
            append(&id.dir(&state_dir).join(FILE), &format!("-{}\n", addresses.join(",")));
        }
    }

    pub fn held(&self, node: &str, id: &NetworkId) -> Vec<IpAddr> {
        let held = Held::read(&self.state_dir(node), id).unwrap();
        held.leases().iter().flat_map(|lease| lease.addresses.clone()).collect()
    }

    /// An event on a Node, by its reason.
    pub fn node_events(&self, reason: &str) -> Vec<String> {
        let events = self.world.plane.api().list("/apis/events.k8s.io/v1/namespaces/default/events");
        let ours = events.iter().filter(|event| event["reason"] == reason && event["regarding"]["kind"] == "Node");
        ours.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for (_, agent) in &mut self.agents {
            if let Some(agent) = agent.take() {
                agent.kill();
            }
        }
    }
}

/// Port of the n-th node's metrics: the agents share a network namespace.
fn metrics_port(number: usize) -> u16 {
    9464 + u16::try_from(number).unwrap()
}

/// Address of the n-th node's tunnels.
pub fn address(number: usize) -> String {
    format!("172.31.0.{}", 11 + number)
}

/// What a pod is told that asks for a definition of `default`: the facts, and behind them the networks.
pub fn resolve(socket: &std::path::Path, definition: &str, wait: u64) -> Value {
    let facts = resolve_with(socket, definition, json!({"waitMs": wait, "joins": true}));
    if facts["kind"] != "resolved" {
        return facts;
    }
    let reference = json!({"namespace": "default", "name": definition});
    let joined = join(socket, json!({"namespace": "default", "name": "pod"}), &[reference], wait);
    if joined["kind"] == "noted" { facts } else { joined }
}

/// What a pod is told that is about to be attached to these definitions.
pub fn join(socket: &std::path::Path, pod: Value, references: &[Value], wait: u64) -> Value {
    let body = json!({"pod": pod, "references": references, "multusNamespace": "kube-system", "waitMs": wait});
    ask(socket, &json!({"newest": 1, "oldest": 1, "kind": "join", "body": body}))
}

/// The facts alone, asked for with these fields.
pub fn resolve_with(socket: &std::path::Path, definition: &str, more: Value) -> Value {
    let reference = json!({"namespace": "default", "name": definition});
    let pod = json!({"namespace": "default", "name": "pod"});
    let mut body = json!({"pod": pod, "references": [reference], "multusNamespace": "kube-system", "policies": true});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ask(socket, &json!({"newest": 1, "oldest": 1, "kind": "resolve", "body": body}))
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn append(path: &std::path::Path, text: &str) {
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// The first line of the file of leases.
fn begin(state_dir: &std::path::Path, id: &NetworkId) {
    let path = id.dir(state_dir).join(FILE);
    if fs::metadata(&path).unwrap().len() == 0 {
        append(&path, &format!("leases 1 {}\n", delegates::boot::current().unwrap()));
    }
}

/// The plugin's part of an ADD, as it waits for a slot: an address, or why there is none.
pub fn take(state_dir: &std::path::Path, id: &NetworkId, container: &str) -> Result<IpAddr, String> {
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        {
            let leases = Leases::create(state_dir, id, later()).unwrap();
            let Some(pool) = NetworkState::read(state_dir, id).unwrap().and_then(|state| state.pool) else {
                return Err("the node is not in the network".to_owned());
            };
            if let Some(slot) = leases.held().free(&pool).next() {
                let path = id.dir(state_dir).join(FILE);
                begin(state_dir, id);
                let addresses: Vec<IpAddr> =
                    pool.pool.addresses(slot).unwrap().iter().map(|one| one.address.addr()).collect();
                let text: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                append(&path, &format!("+{} {container} net1 default/{container}\n", text.join(",")));
                return Ok(addresses[0]);
            }
            if let Some(why) = pool.exhausted {
                return Err(why);
            }
        }
        if Instant::now() >= until {
            return Err("no slot in time".to_owned());
        }
        let _ = File::create_new(id.dir(state_dir).join(WANTED));
        thread::sleep(Duration::from_millis(20));
    }
}
