//! A node: a machine of its own with containerd, kubelet and kube-proxy, and the usual paths to itself.

mod config;
mod disks;
mod inspect;
mod metrics;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::control_plane::{ADDRESS, ControlPlane, UNDERLAY};
use super::place::Place;
use super::programs::{INSIDE, Programs};
use super::service::Service;
use super::space::{Life, Space};
use crate::program;

pub use inspect::Traces;
pub use metrics::Operations;

/// Image of every pod that the tests make, and of their sandboxes: busybox, which waits until it is told to end.
pub const IMAGE: &str = "meta-cni.test/pod:1";

const START: Duration = Duration::from_secs(120);

/// A node.
#[derive(Debug)]
pub struct Node {
    // In the order in which they go.
    kubelet: Option<Service>,
    kube_proxy: Option<Service>,
    containerd: Option<Service>,
    space: Option<Space>,
    number: u8,
    name: String,
    disks: PathBuf,
    logs: PathBuf,
    cgroup: String,
    life: Life,
    programs: Programs,
}

impl Node {
    /// Name of the node with this number, counted from 1.
    pub fn name_of(number: u8) -> String {
        format!("n{number}")
    }

    /// Boots a node and starts its containerd; the default network is the reference bridge.
    pub(super) fn boot(number: u8, place: &Place, programs: &Programs, life: Life) -> Self {
        let name = Self::name_of(number);
        let disks = place.path(&name);
        disks::make(&disks, programs);
        let mut node = Self {
            kubelet: None,
            kube_proxy: None,
            containerd: None,
            space: None,
            number,
            disks,
            logs: place.path("logs"),
            cgroup: place.cgroup(&name),
            life,
            programs: programs.clone(),
            name,
        };
        node.write("etc/containerd/config.toml", &config::containerd());
        node.write("etc/cni/net.d/10-bridge.conflist", &config::bridge(&node.pod_subnet()).to_string());
        disks::plugins(&node.disks);
        node.power_on(place);
        node
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the network between the nodes.
    pub fn address(&self) -> String {
        format!("172.31.0.{}", self.number)
    }

    /// Addresses of its pods on the default network.
    pub fn pod_subnet(&self) -> String {
        format!("10.244.{}.0/24", self.number)
    }

    /// Its namespaces.
    pub fn space(&self) -> &Space {
        self.space.as_ref().unwrap()
    }

    /// A file of the node by its path inside, mounts included.
    pub fn file(&self, path: impl AsRef<Path>) -> PathBuf {
        self.space().file(path)
    }

    /// Boot id of the node, as its /proc shows it to programs outside of containers.
    pub fn boot_id(&self) -> String {
        fs::read_to_string(self.disks.join("etc/proc-sys/kernel/random/boot_id")).unwrap().trim().to_owned()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.disks.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The machine and containerd; links to the others come by [`Self::wire`].
    fn power_on(&mut self, place: &Place) {
        self.write("etc/proc-sys/kernel/random/boot_id", &disks::boot_id());
        let mut holder = program::command(Path::new(INSIDE).join("harness/cluster"));
        let space = Space::new(&self.life, place, holder.arg("hold"), || disks::mount(&self.disks, &self.programs));
        space.within(|| {
            for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                fs::write(Path::new("/proc/sys/net").join(path), "1").unwrap();
            }
        });
        space.run("ip link set lo up");
        self.space = Some(space);
        self.start_containerd();
    }

    /// Wires the node to the others and to the control plane.
    pub(super) fn wire(&self, plane: &ControlPlane, nodes: u8) {
        let (name, address) = (&self.name, self.address());
        plane.wire(&format!("link add {name} type veth peer name eth0 netns {}", self.space().holder()));
        plane.wire(&format!("link set {name} master {UNDERLAY} up"));
        plane.wire(&format!("route replace {} via {address}", self.pod_subnet()));
        let ip = |line: String| self.space().run(&format!("ip {line}"));
        ip(format!("address add {address}/24 dev eth0"));
        ip(format!("address add fd31::{}/64 dev eth0 nodad", self.number));
        ip("link set eth0 up".to_owned());
        ip(format!("route add default via {ADDRESS}"));
        for other in (1..=nodes).filter(|other| *other != self.number) {
            ip(format!("route add 10.244.{other}.0/24 via 172.31.0.{other}"));
        }
    }

    /// A program with the cluster's programs on its path, ready for arguments; it is to be started in the node.
    pub fn command(&self, name: &str) -> Command {
        let mut command = program::command(name);
        let own: Vec<String> = self.programs.inside().iter().map(|dir| dir.display().to_string()).collect();
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", own.join(":")));
        command
    }

    fn start(&self, name: &str, args: &[String]) -> Service {
        let path = self.programs.path_inside(name);
        let mut command = self.command(path.to_str().unwrap());
        Service::start(name, self.space(), command.args(args), &self.logs.join(format!("{}-{name}.log", self.name)))
    }

    /// Starts containerd and waits until it answers.
    pub fn start_containerd(&mut self) {
        let config = "--config=/etc/containerd/config.toml".to_owned();
        let mut containerd = self.start("containerd", &[config, "--log-level=warn".to_owned()]);
        containerd.wait_for("socket of containerd", START, || {
            self.ctr(&["version"]).output_of(None).map_err(|e| e.to_string())
        });
        self.containerd = Some(containerd);
    }

    /// Starts kubelet and kube-proxy.
    pub(super) fn join(&mut self, plane: &ControlPlane) {
        let kubelet = plane.inside(&format!("system:node:{}", self.name)).to_string();
        self.write("etc/kubernetes/kubelet.kubeconfig", &kubelet);
        self.write("etc/kubernetes/kubelet.json", &config::kubelet(&self.cgroup).to_string());
        self.write("etc/kubernetes/proxy.kubeconfig", &plane.inside("system:kube-proxy").to_string());
        self.kube_proxy = Some(self.start("kube-proxy", &config::kube_proxy_flags(&self.name)));
        self.start_kubelet();
    }

    /// Starts kubelet.
    pub fn start_kubelet(&mut self) {
        self.kubelet = Some(self.start("kubelet", &config::kubelet_flags(&self.name, &self.address())));
    }

    /// Kills kubelet; containers run on.
    pub fn kill_kubelet(&mut self) {
        self.kubelet.take().unwrap().kill();
    }

    /// Kills containerd; containers run on.
    pub fn kill_containerd(&mut self) {
        self.containerd.take().unwrap().kill();
    }

    /// Ok while its programs run; else how one ended and what it said last.
    pub fn check(&mut self) -> Result<(), String> {
        let services = [&mut self.containerd, &mut self.kubelet, &mut self.kube_proxy];
        services.into_iter().flatten().try_for_each(Service::check).map_err(|e| format!("{}: {e}", self.name))
    }

    /// Switches the machine off without warning: every program, container and link is gone, the disks stay.
    pub(super) fn power_off(&mut self) {
        (self.kubelet, self.kube_proxy, self.containerd) = (None, None, None);
        self.space = None;
    }

    /// Power off and on again: new links, an empty /run and another boot id.
    pub(super) fn reboot(&mut self, plane: &ControlPlane, nodes: u8) {
        self.power_off();
        // The kernel takes its time with a namespace, and with our end of the wire.
        plane.unwire(&self.name);
        self.power_on(plane.place());
        self.wire(plane, nodes);
        self.join(plane);
    }

    /// Brings an image, an archive as `docker save` or an OCI layout makes it, to containerd.
    pub fn import(&self, archive: &Path) {
        let input = File::open(archive).unwrap_or_else(|e| panic!("{}: {e}", archive.display()));
        let args = ["images", "import", "--local", "--snapshotter=native", "-"];
        self.ctr(&args).output_of(Some(input)).unwrap_or_else(|e| panic!("{}: {e}", archive.display()));
    }

    /// `ctr` of this node with arguments, in the namespace of Kubernetes.
    pub fn ctr<'a>(&'a self, args: &'a [&'a str]) -> Ctr<'a> {
        Ctr { node: self, args }
    }
}

/// A call of `ctr`.
#[derive(Debug)]
pub struct Ctr<'a> {
    node: &'a Node,
    args: &'a [&'a str],
}

impl Ctr<'_> {
    /// Runs it; what it printed, or what it said on stderr.
    pub fn output_of(&self, stdin: Option<File>) -> Result<String, String> {
        let path = self.node.programs.path_inside("ctr");
        let mut command = self.node.command(path.to_str().unwrap());
        command.args(["--namespace=k8s.io", "--timeout=60s", "--connect-timeout=1s"]).args(self.args);
        command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
        let output = self.node.space().within(|| command.output().map_err(|e| e.to_string()))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}
