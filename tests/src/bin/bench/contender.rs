//! Who is measured: the same pod, attached in different ways, each way on a node of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{NETWORKS, REFERENCE};
use meta_cni_tests::{call, program};
use serde_json::{Value, json};

use crate::measure;

/// One way to attach a pod.
pub struct Contender {
    /// What the table calls it.
    pub name: &'static str,
    way: Way,
    dir: PathBuf,
    node: Netns,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Our plugin, everything in process.
    BuiltIn,
    /// Our plugin, which executes the reference plugins.
    Executing,
    /// The reference plugins, one after another.
    Reference,
    /// The link messages alone.
    Floor,
}

/// Interfaces of the pod, and the bridge of each.
const LINKS: [(&str, &str); 4] = [("eth0", "cni0"), ("net1", "br-a"), ("net2", "br-b"), ("net3", "br-c")];

impl Contender {
    /// All of them, with their nodes below `root`: built-in, executing, reference, floor.
    pub fn all(root: &Path) -> Vec<Self> {
        let names = [
            ("meta-cni, built-in", Way::BuiltIn),
            ("meta-cni, executing the reference plugins", Way::Executing),
            ("reference plugins, one by one", Way::Reference),
            ("floor: link messages alone", Way::Floor),
        ];
        names.into_iter().enumerate().map(|(i, (name, way))| Self::new(name, way, root.join(i.to_string()))).collect()
    }

    fn new(name: &'static str, way: Way, dir: PathBuf) -> Self {
        fs::create_dir_all(dir.join("manifests")).unwrap();
        let node = Netns::new(dir.join("node"));
        let contender = Self { name, way, dir, node };
        for (i, (_, bridge)) in LINKS.iter().enumerate().skip(1) {
            let manifest = json!({
                "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                "metadata": {"namespace": "default", "name": format!("net-{i}")},
                "spec": {"config": contender.bridge(i, bridge).to_string()},
            });
            fs::write(contender.dir.join(format!("manifests/nad-{i}.json")), manifest.to_string()).unwrap();
        }
        contender
    }

    fn bridge(&self, i: usize, bridge: &str) -> Value {
        let ipam = json!({"type": "host-local", "dataDir": self.dir.join("addresses"), "ranges": [[{"subnet": format!("10.{}.0.0/16", 80 + i)}]]});
        json!({"cniVersion": "1.0.0", "name": format!("net-{i}"), "type": "bridge", "bridge": bridge, "isGateway": true, "ipam": ipam})
    }

    fn conf(&self, networks: &str) -> Value {
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "node-net", "type": "meta-cni", "cluster": {"directory": self.dir.join("manifests")},
            "stateDir": self.dir.join("state"), "binDir": REFERENCE, "pathRoots": [self.dir], "delegates": [self.bridge(0, LINKS[0].1)],
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {NETWORKS: networks}},
        });
        if self.way == Way::Executing {
            conf["builtin"] = json!([]);
        }
        conf
    }

    /// A pod's manifest and its namespace.
    fn pod(&self, round: usize) -> Netns {
        let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default", "name": format!("p{round}")}});
        fs::write(self.dir.join(format!("manifests/pod-{round}.json")), manifest.to_string()).unwrap();
        Netns::new(self.dir.join(format!("p{round}")))
    }

    fn done(&self, round: usize) {
        fs::remove_file(self.dir.join(format!("manifests/pod-{round}.json"))).unwrap();
    }

    fn plugin(&self, program: &Path, verb: &str, round: usize, pod: &Netns, ifname: &str) -> Command {
        let mut command = program::command(program);
        command.env_clear().envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", &format!("bench-{round}")),
            ("CNI_NETNS", pod.text()),
            ("CNI_IFNAME", ifname),
            ("CNI_PATH", REFERENCE),
            ("CNI_ARGS", &format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=p{round}")),
        ]);
        command
    }

    /// The processes of one verb, each with its stdin, in order.
    fn steps(&self, verb: &str, round: usize, pod: &Netns) -> Vec<(Command, Vec<u8>)> {
        match self.way {
            Way::BuiltIn | Way::Executing => {
                let conf = self.conf("net-1,net-2,net-3").to_string().into_bytes();
                vec![(self.plugin(&call::plugin(), verb, round, pod, "eth0"), conf)]
            }
            Way::Reference => {
                let bridge = Path::new(REFERENCE).join("bridge");
                let step = |(i, (ifname, name)): (usize, &(&str, &str))| {
                    (self.plugin(&bridge, verb, round, pod, ifname), self.bridge(i, name).to_string().into_bytes())
                };
                let mut steps: Vec<_> = LINKS.iter().enumerate().map(step).collect();
                if verb == "DEL" {
                    steps.reverse();
                }
                steps
            }
            Way::Floor => {
                let mut command = program::command(program::built("floor"));
                command.arg(verb.to_lowercase()).arg(pod.text());
                vec![(command, Vec::new())]
            }
        }
    }

    fn run(&self, verb: &str, round: usize, pod: &Netns) -> Duration {
        self.steps(verb, round, pod).iter_mut().map(|(command, stdin)| measure::time(command, stdin)).sum()
    }

    /// How long ADD and DEL of one pod take.
    pub fn attach_and_detach(&self, round: usize) -> (Duration, Duration) {
        let pod = self.pod(round);
        self.node.enter();
        let times = (self.run("ADD", round, &pod), self.run("DEL", round, &pod));
        self.done(round);
        times
    }

    /// Many pods with eth0 and one bridge, all started at once; the time until the last is attached.
    pub fn burst(&self, pods: usize) -> Duration {
        const FIRST: usize = 100_000;
        let made: Vec<Netns> = (0..pods).map(|i| self.pod(FIRST + i)).collect();
        self.node.enter();
        let conf = self.conf("net-1").to_string();
        let each = |verb: &'static str| {
            let command = move |(i, pod)| self.plugin(&call::plugin(), verb, FIRST + i, pod, "eth0");
            made.iter().enumerate().map(command).collect::<Vec<_>>()
        };
        let time = measure::time_together(each("ADD"), conf.as_bytes());
        measure::time_together(each("DEL"), conf.as_bytes());
        (0..pods).for_each(|i| self.done(FIRST + i));
        time
    }

    /// Peak resident memory of the first process of one ADD, in KiB.
    pub fn peak_rss(&self) -> u64 {
        let round = 200_000;
        let pod = self.pod(round);
        self.node.enter();
        let steps = self.steps("ADD", round, &pod);
        let peak = measure::peak_rss(&steps[0].0, &steps[0].1);
        self.run("DEL", round, &pod);
        self.done(round);
        peak
    }

    /// How many processes one ADD starts.
    pub fn processes(&self) -> usize {
        let round = 300_000;
        let pod = self.pod(round);
        self.node.enter();
        let steps = self.steps("ADD", round, &pod);
        let started =
            steps.iter().map(|(command, stdin)| measure::programs(command, stdin, &self.dir.join("trace"))).sum();
        self.run("DEL", round, &pod);
        self.done(round);
        started
    }
}
