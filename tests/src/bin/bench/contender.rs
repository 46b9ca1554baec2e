//! Who is measured: ways to attach a pod to the same networks, each on a node of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use meta_cni_tests::netns::Netns;
use meta_cni_tests::{call, peers, program};
use serde_json::{Value, json};

use crate::api;
use crate::measure::{self, Call, Cost};
use crate::scene::{Network, Scene, VERSION};

/// A way to attach a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Our plugin, everything in process.
    BuiltIn,
    /// Another build of our plugin, which `META_CNI_BASELINE` names, everything in process.
    Baseline,
    /// Our plugin, which executes the reference plugins.
    Executing,
    /// The reference plugins one after another, as a runtime's library calls them, and nothing else.
    Reference,
    /// Multus in its thin form, which executes the reference plugins.
    Multus,
    /// The link messages alone.
    Floor,
}

impl Way {
    /// What the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "meta-cni, built-in",
            Self::Baseline => "meta-cni, the build to compare with",
            Self::Executing => "meta-cni executing the reference plugins",
            Self::Reference => "the reference plugins, one by one",
            Self::Multus => "Multus, thin, with the reference plugins",
            Self::Floor => "floor: the same link messages alone",
        }
    }
}

/// The build that this one is compared with, if there is one.
pub fn baseline() -> Option<PathBuf> {
    std::env::var_os("META_CNI_BASELINE").map(PathBuf::from)
}

/// A verb that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// ADD.
    Add,
    /// DEL.
    Del,
}

/// One way to attach a pod, on a node.
pub struct Contender {
    /// Which.
    pub way: Way,
    scene: Scene,
    dir: PathBuf,
    node: Netns,
    kubeconfig: PathBuf,
}

/// A pod on a contender's node. Gone when dropped.
pub struct Pod<'a> {
    netns: Netns,
    name: String,
    container: String,
    manifest: PathBuf,
    contender: &'a Contender,
    /// What ADD gave, for each network, where the caller must remember it.
    results: Vec<Option<Value>>,
}

impl Contender {
    /// Its node below `root`, prepared.
    pub fn new(way: Way, scene: &Scene, root: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("node-").tempdir_in(root).unwrap().keep();
        fs::create_dir_all(dir.join("manifests")).unwrap();
        let node = Netns::new(dir.join("node"));
        let scene = here(scene, &dir);
        for line in &scene.node {
            node.run(line);
        }
        for (name, text) in &scene.files {
            fs::write(dir.join(name), text).unwrap();
        }
        scene.words.define(&scene.networks, &dir);
        let kubeconfig = dir.join("kubeconfig");
        if way == Way::Multus {
            fs::write(&kubeconfig, api::kubeconfig(&api::start(&node, &scene))).unwrap();
        }
        Self { way, scene, dir, node, kubeconfig }
    }

    /// A new pod.
    pub fn pod(&self, number: usize) -> Pod<'_> {
        let name = format!("p{number}");
        let manifest = self.dir.join(format!("manifests/pod-{number}.json"));
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default", "name": name}});
        fs::write(&manifest, object.to_string()).unwrap();
        let netns = Netns::new(self.dir.join(&name));
        let results = vec![None; self.scene.networks.len()];
        Pod { netns, name, container: format!("{number:064x}"), manifest, contender: self, results }
    }

    /// A directory of its own.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn conf(&self) -> Value {
        let delegates = [self.scene.networks[0].conf()];
        if self.way == Way::Multus {
            return json!({
                "cniVersion": VERSION, "name": "node-net", "type": "multus", "delegates": delegates,
                "kubeconfig": self.kubeconfig, "cniDir": self.dir.join("multus"), "binDir": peers::dir(),
            });
        }
        let mut conf = json!({
            "cniVersion": VERSION, "name": "node-net", "type": "meta-cni", "delegates": delegates,
            "cluster": {"directory": self.dir.join("manifests")}, "stateDir": self.dir.join("state"),
            "binDir": peers::dir(), "pathRoots": [self.dir], "runtimeConfig": self.scene.runtime,
        });
        // Runtimes hand these over with the call.
        conf["runtimeConfig"]["io.kubernetes.cri.pod-annotations"] = self.scene.words.annotations(&self.scene.networks);
        self.scene.words.configure(&mut conf, &self.dir);
        if self.way == Way::Executing {
            conf["builtin"] = json!([]);
        }
        conf
    }
}

/// The scene with the node's own directory.
fn here(scene: &Scene, dir: &Path) -> Scene {
    let dir = dir.to_str().unwrap();
    let put = |value: &Value| serde_json::from_str(&value.to_string().replace("$dir", dir)).unwrap();
    let mut scene = scene.clone();
    for plugin in scene.networks.iter_mut().flat_map(|network| &mut network.plugins) {
        *plugin = put(plugin);
    }
    scene
}

impl Pod<'_> {
    /// Takes the pod's manifest away.
    pub fn remove_manifest(&self) {
        fs::remove_file(&self.manifest).unwrap();
    }

    /// One verb, timed.
    pub fn time(&mut self, verb: Verb) -> Cost {
        let mut cost = Cost::default();
        self.each(verb, |call| {
            let (one, out) = measure::run(call);
            cost += one;
            out
        });
        cost
    }

    /// The processes of one verb in their order, each run by `run`, which gives what it printed. The calling thread moves
    /// to the node's namespace, so that no helper stands between it and the plugin.
    pub fn each(&mut self, verb: Verb, mut run: impl FnMut(Call) -> Vec<u8>) {
        self.contender.node.enter();
        match self.contender.way {
            Way::BuiltIn | Way::Baseline | Way::Executing => {
                let plugin = if self.contender.way == Way::Baseline { baseline().unwrap() } else { call::plugin() };
                drop(run(self.call(&plugin, verb, "eth0", &self.contender.conf())))
            }
            Way::Multus => drop(run(self.call(&peers::program("multus"), verb, "eth0", &self.contender.conf()))),
            Way::Reference => self.one_by_one(verb, &mut run),
            Way::Floor => drop(run(self.floor(verb))),
        }
    }

    /// Each plugin of a chain gets the result of the one before; on DEL, in reverse, all get the last one's.
    fn one_by_one(&mut self, verb: Verb, run: &mut impl FnMut(Call) -> Vec<u8>) {
        let scene = &self.contender.scene;
        let mut order: Vec<(usize, &Network)> = scene.networks.iter().enumerate().collect();
        if verb == Verb::Del {
            order.reverse();
        }
        for (i, network) in order {
            let mut plugins: Vec<&Value> = network.plugins.iter().collect();
            if verb == Verb::Del {
                plugins.reverse();
            }
            for plugin in plugins {
                let conf = network.request(plugin, &scene.runtime, self.results[i].as_ref());
                let program = peers::program(plugin["type"].as_str().unwrap());
                let out = run(self.call(&program, verb, &network.ifname, &conf));
                if verb == Verb::Add {
                    self.results[i] = Some(serde_json::from_slice(&out).unwrap());
                }
            }
        }
    }

    fn call(&self, program: &Path, verb: Verb, ifname: &str, conf: &Value) -> Call {
        let mut command = program::command(program);
        command.env_clear().envs([
            ("CNI_COMMAND", if verb == Verb::Add { "ADD" } else { "DEL" }),
            ("CNI_CONTAINERID", &self.container),
            ("CNI_NETNS", self.netns.text()),
            ("CNI_IFNAME", ifname),
            ("CNI_PATH", peers::dir().to_str().unwrap()),
            ("CNI_ARGS", &format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}", self.name)),
            // portmap and bandwidth look for programs.
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ]);
        Call { command, stdin: conf.to_string().into_bytes() }
    }

    fn floor(&self, verb: Verb) -> Call {
        let mut command: Command = program::command(program::built("floor"));
        let ports = self.contender.scene.networks.len().to_string();
        command.args([if verb == Verb::Add { "add" } else { "del" }, self.netns.text(), &ports]);
        Call { command, stdin: Vec::new() }
    }

    /// The contender did what it was asked for: this many interfaces are in the pod.
    pub fn expect_links(&self, count: usize) {
        let links = self.netns.links();
        assert_eq!(links.len(), count, "{}: the pod has {links:?}", self.contender.way.name());
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.manifest);
    }
}
