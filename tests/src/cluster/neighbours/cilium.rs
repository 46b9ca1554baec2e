//! Cilium as its Helm chart of 1.20.2 installs it: rights, configuration and the agent's command line are the chart's; kinds are put in place
//! by the administrator instead of by Cilium's operator, whose other work no case needs.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{daemon, place, plugin, vacate, write};
use crate::cluster::node::Node;
use crate::cluster::operators;
use crate::cluster::service::Service;
use crate::cluster::whole::Cluster;
use crate::program;

/// How packets go, and what makes a pod's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Routes between the nodes.
    Native,
    /// A tunnel: device cilium_vxlan, which takes every VNI on port 8472.
    Vxlan,
    /// Behind ptp, whose links it looks after (chaining mode generic-veth).
    Chained,
}

/// The file that the agent writes.
const CONFLIST: &str = "/etc/cni/net.d/05-cilium.conflist";
/// Deletions that the plugin leaves to an agent that is away.
pub const DELETE_QUEUE: &str = "/run/cilium/deleteQueue";
/// The agent's configuration, a file for each key of the chart's ConfigMap.
pub const CONFIG: &str = "/etc/cilium/config-map";
const CHAIN: &str = "/etc/cilium/cni-configuration";
const KUBECONFIG: &str = "/etc/kubernetes/cilium.kubeconfig";
const PROGRAM: &str = "/opt/cilium/cilium-agent";
const LIBRARY: &str = "/var/lib/cilium";
/// Compiles the datapath on two processors whose idle time is all that it gets.
const START: Duration = Duration::from_secs(300);

/// Installs it on every node, and gives its agents when each answers that it is healthy. With `is_exclusive`, the chart's own value, it
/// wants the runtime's directory for itself.
pub fn install(cluster: &Cluster, mode: Mode, is_exclusive: bool) -> Vec<Service> {
    if mode == Mode::Chained {
        for node in cluster.nodes() {
            fs::remove_file(node.file("/etc/cni/net.d/10-bridge.conflist")).unwrap();
        }
    } else {
        vacate(cluster);
    }
    let agent = daemon("cilium");
    let parts = agent.with_extension("parts").canonicalize().unwrap();
    let plane = cluster.plane();
    let kinds = agent.with_extension("kinds").canonicalize().unwrap();
    // Larger than what `apply` notes.
    plane.kubectl(["create", "-f", kinds.to_str().unwrap()]);
    let config = apply_chart(cluster, &parts.join("cilium"), mode, is_exclusive);
    let kubeconfig = plane.inside_with(&plane.token_of("kube-system", "cilium")).to_string();
    for node in cluster.nodes() {
        write(node, KUBECONFIG, &kubeconfig);
        place(node, &agent, PROGRAM);
        place(node, &parts.join("cilium-cni"), "/opt/cni/bin/cilium-cni");
        let library = node.file(LIBRARY);
        fs::create_dir_all(&library).unwrap();
        program::run("cp", ["-r", parts.join("bpf").to_str().unwrap(), library.to_str().unwrap()]);
        for (key, value) in config.as_object().unwrap() {
            write(node, &format!("{CONFIG}/{key}"), value.as_str().unwrap());
        }
        if mode == Mode::Chained {
            plugin(node, "ptp");
            write(node, &format!("{CHAIN}/cni-config"), &chain(&node.pod_subnet()).to_string());
        }
        // Each node's own, as each machine has one: what is pinned has the same names on all nodes.
        node.space().run("mount -t bpf bpf /sys/fs/bpf");
    }
    let mut agents: Vec<Service> = cluster.nodes().iter().map(launch).collect();
    for (agent, node) in agents.iter_mut().zip(cluster.nodes()) {
        wait(agent, node);
    }
    agents
}

/// Starts the agent of a node on which it is installed.
pub fn start(node: &Node) -> Service {
    let mut agent = launch(node);
    wait(&mut agent, node);
    agent
}

fn launch(node: &Node) -> Service {
    // Settings of the kernel that hold for the whole machine are not a node's to change: the agent warns and goes on.
    let script = format!(
        "mount --bind /proc/sys/kernel /proc/sys/kernel && mount -o remount,bind,ro /proc/sys/kernel && \
         exec {PROGRAM} --config-dir={CONFIG} --k8s-kubeconfig-path={KUBECONFIG} --lib-dir={LIBRARY}"
    );
    let mut command = node.command("unshare");
    command.args(["--mount", "--propagation", "slave", "sh", "-c", &script]);
    let path = "/usr/lib/llvm-19/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    command.env("PATH", path).env("K8S_NODE_NAME", node.name()).env("CILIUM_K8S_NAMESPACE", "kube-system");
    Service::start("cilium-agent", node.space(), &mut command, &node.file("/var/log/cilium-agent.log"))
}

fn wait(agent: &mut Service, node: &Node) {
    agent.wait_for("healthy agent of Cilium", START, || {
        node.space().within(healthz)?;
        fs::metadata(node.file(CONFLIST)).map(drop).map_err(|e| format!("{CONFLIST}: {e}"))
    });
}

/// What the chart's probes ask.
fn healthz() -> Result<(), String> {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], 9879).into(), Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\nbrief: true\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.starts_with("HTTP/1.0 200 ") || answer.starts_with("HTTP/1.1 200 ") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Applies the chart's objects but for its workloads, whose images nobody serves here, and gives the agent's configuration.
fn apply_chart(cluster: &Cluster, chart: &Path, mode: Mode, is_exclusive: bool) -> Value {
    let text = template(chart, mode, is_exclusive);
    let api = cluster.api();
    let mut config = Value::Null;
    for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
        if object["kind"] == "ConfigMap" && object["metadata"]["name"] == "cilium-config" {
            config = object["data"].clone();
        }
        if !object.is_null() && !["DaemonSet", "Deployment"].contains(&object["kind"].as_str().unwrap_or_default()) {
            api.apply(&object).unwrap_or_else(|refusal| panic!("{object}: {refusal}"));
        }
    }
    // What a container has mounted elsewhere, the node has where it is.
    for (key, value) in [("procfs", "/proc"), ("write-cni-conf-when-ready", CONFLIST)] {
        assert!(config[key].is_string(), "the chart's configuration has no {key}: {config}");
        config[key] = json!(value);
    }
    if mode == Mode::Chained {
        config["read-cni-conf"] = json!(format!("{CHAIN}/cni-config"));
    }
    config
}

fn template(chart: &Path, mode: Mode, is_exclusive: bool) -> String {
    let mut values = vec![
        "ipam.mode=kubernetes".to_owned(),
        "kubeProxyReplacement=false".to_owned(),
        "envoy.enabled=false".to_owned(),
        "l7Proxy=false".to_owned(),
        "hubble.enabled=false".to_owned(),
        "enableIPv4Masquerade=false".to_owned(),
        "devices=eth0".to_owned(),
        format!("cni.exclusive={is_exclusive}"),
    ];
    values.extend(match mode {
        Mode::Native => vec!["routingMode=native".to_owned(), "autoDirectNodeRoutes=true".to_owned()],
        Mode::Vxlan => vec!["routingMode=tunnel".to_owned(), "tunnelProtocol=vxlan".to_owned()],
        // As docs.cilium.io has it for generic-veth.
        Mode::Chained => [
            "routingMode=native",
            "cni.chainingMode=generic-veth",
            "cni.customConf=true",
            "cni.configMap=cni-configuration",
        ]
        .map(str::to_owned)
        .into(),
    });
    if mode != Mode::Vxlan {
        values.push("ipv4NativeRoutingCIDR=10.244.0.0/16".to_owned());
    }
    let helm: PathBuf = operators::operators("helm");
    let mut args = vec!["template".to_owned(), "cilium".to_owned(), chart.display().to_string()];
    args.extend(["--namespace", "kube-system", "--skip-tests"].map(str::to_owned));
    args.extend(values.into_iter().flat_map(|value| ["--set".to_owned(), value]));
    program::run(helm.to_str().unwrap(), args)
}

/// The chain that users give to it.
fn chain(subnet: &str) -> Value {
    json!({
        "cniVersion": "0.3.1", "name": "generic-veth", "plugins": [
            {"type": "ptp", "mtu": 1500, "ipam": {
                "type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "cilium-cni", "chaining-mode": "generic-veth"},
        ]
    })
}
