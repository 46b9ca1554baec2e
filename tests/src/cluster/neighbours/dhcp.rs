//! dnsmasq on the network between the nodes, and the reference plugins' `dhcp` with its daemon.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::plugin;
use crate::cluster::node::Node;
use crate::cluster::service::Service;
use crate::cluster::whole::Cluster;
use crate::program;

/// Where the daemon answers when nothing else is said.
pub const SOCKET: &str = "/run/cni/dhcp.sock";
const LOG: &str = "/var/log/dhcp.log";
const START: Duration = Duration::from_secs(30);

/// What dnsmasq says of its version.
pub fn version() -> String {
    let said = program::run("dnsmasq", ["--version"]);
    said.split_whitespace().nth(2).unwrap_or_default().to_owned()
}

/// A server on the network between the nodes.
#[derive(Debug)]
pub struct Server {
    _service: Service,
    leases: PathBuf,
}

impl Server {
    /// Starts it beside the control plane.
    pub fn start(cluster: &Cluster) -> Self {
        let plane = cluster.plane();
        let leases = plane.place().path("dnsmasq.leases");
        let mut command = program::command("dnsmasq");
        command.args([
            "--conf-file=/dev/null",
            "--keep-in-foreground",
            "--port=0",
            "--interface=under",
            "--bind-interfaces",
        ]);
        // No router: the pod's default route is its default network's.
        command.args([
            "--user=root",
            "--no-ping",
            "--dhcp-range=172.31.0.100,172.31.0.199,255.255.255.0,120",
            "--dhcp-option=3",
        ]);
        command.arg(format!("--dhcp-leasefile={}", leases.display()));
        command.arg(format!("--pid-file={}", plane.place().path("dnsmasq.pid").display()));
        let service = Service::start("dnsmasq", plane.space(), &mut command, &plane.place().path("logs/dnsmasq.log"));
        Self { _service: service, leases }
    }

    /// What it has given, as its file has it.
    pub fn leases(&self) -> String {
        fs::read_to_string(&self.leases).unwrap_or_default()
    }

    /// Has it given this address?
    pub fn has_leased(&self, address: &str) -> bool {
        self.leases().contains(&format!(" {address} "))
    }
}

/// Installs the reference program on every node, and gives its daemons.
pub fn install(cluster: &Cluster) -> Vec<Service> {
    cluster.nodes().iter().for_each(|node| plugin(node, "dhcp"));
    cluster.nodes().iter().map(start).collect()
}

/// Starts the daemon of a node.
pub fn start(node: &Node) -> Service {
    // A daemon that was killed leaves its socket, and the next one refuses to start.
    let _ = fs::remove_file(node.file(SOCKET));
    let mut command = node.command("/opt/cni/bin/dhcp");
    let mut daemon = Service::start("dhcp", node.space(), command.arg("daemon"), &node.file(LOG));
    daemon.wait_for("socket of dhcp", START, || fs::metadata(node.file(SOCKET)).map(drop).map_err(|e| e.to_string()));
    daemon
}

/// What the daemon of a node has said.
pub fn words(node: &Node) -> String {
    fs::read_to_string(node.file(LOG)).unwrap_or_default()
}
