//! One side of a comparison: a node and a pod, and who attaches it.

use std::time::{Duration, Instant};

use delegates::nl::Netlink;
use delegates::nl::link::{Kind, Link};
use meta_cni_tests::node::{Node, Pod};
use meta_cni_tests::{peers, program};
use serde_json::{Value, json};

use crate::case::Case;
use crate::state::{self, State};

/// Who attaches and detaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Who {
    /// The reference plugins, called as libcni does.
    Them,
    /// meta-cni with nothing to execute: what is not built in fails.
    Us,
}

/// IF_OPER_UP of RFC 2863.
const UP: u8 = 6;

/// Name of the network.
const NETWORK: &str = "compared";

/// A node and a pod on it.
pub struct Side {
    node: Node,
    pod: Pod,
    /// The chain that the reference plugins get.
    theirs: Vec<Value>,
    runtime: Value,
    version: &'static str,
    args: String,
}

impl Side {
    /// Makes the scene of a case. IPv6 addresses are good at once: nobody waits for duplicates that cannot be there.
    pub fn new(case: &Case) -> Self {
        let mut node = Node::new();
        let pod = node.pod("web", "");
        let dir = node.dir().to_str().unwrap().to_owned();
        let lines: Vec<String> = case.scene.iter().map(|line| line.replace("$dir", &dir)).collect();
        let (inside, outside): (Vec<&str>, Vec<&str>) =
            lines.iter().map(String::as_str).partition(|line| line.starts_with("pod "));
        let inside: Vec<&str> = inside.iter().filter_map(|line| line.strip_prefix("pod ")).collect();
        for (file, content) in &case.files {
            std::fs::write(node.path(file), content).unwrap();
        }
        node.netns.inside(|| set(&outside));
        pod.netns.inside(|| set(&inside));
        let here = |value: &Value| serde_json::from_str::<Value>(&value.to_string().replace("$dir", &dir)).unwrap();
        let plugins: Vec<Value> = case.plugins.iter().map(here).collect();
        node.conf["cniVersion"] = json!(case.version);
        node.conf["runtimeConfig"] = here(&case.runtime);
        let list = json!({"cniVersion": case.version, "name": NETWORK, "plugins": plugins});
        let mut alone = plugins[0].clone();
        (alone["cniVersion"], alone["name"]) = (json!(case.version), json!(NETWORK));
        node.conf["delegates"] = if plugins.len() == 1 { json!([alone]) } else { json!([list]) };
        let theirs = case.theirs.as_ref().map_or_else(|| plugins.clone(), |theirs| theirs.iter().map(here).collect());
        Self { node, pod, theirs, runtime: here(&case.runtime), version: case.version, args: case.args.to_owned() }
    }

    /// Directory of the side.
    pub fn dir(&self) -> &str {
        self.node.dir().to_str().unwrap()
    }

    /// ADD: the result, or why there is none.
    pub fn add(&self, who: Who) -> Result<Value, String> {
        match who {
            Who::Us => self.ours("ADD", None).map(|text| serde_json::from_str(&text).unwrap()),
            Who::Them => self.theirs("ADD", None).map(Option::unwrap_or_default),
        }
    }

    /// DEL, with the result of the ADD.
    pub fn del(&self, who: Who, result: Option<&Value>) -> Result<(), String> {
        match who {
            Who::Us => self.ours("DEL", result).map(|_| ()),
            Who::Them => self.theirs("DEL", result).map(|_| ()),
        }
    }

    /// CHECK of what the result says.
    pub fn check(&self, who: Who, result: &Value) -> Result<(), String> {
        match who {
            Who::Us => self.ours("CHECK", Some(result)).map(|_| ()),
            Who::Them => self.theirs("CHECK", Some(result)).map(|_| ()),
        }
    }

    /// What is there.
    pub fn see(&self, conf: &str, result: Option<&Value>) -> State {
        state::of(&self.node, &self.pod, conf, result)
    }

    fn ours(&self, verb: &str, result: Option<&Value>) -> Result<String, String> {
        let nothing = self.node.text("bin");
        let mut call = self.node.call(verb, &self.pod).env("CNI_PATH", &nothing).env("CNI_ARGS", self.cni_args());
        if let Some(result) = result.filter(|_| self.has_result_on_del()) {
            call = call.conf("prevResult", result.clone());
        }
        let outcome = call.run();
        let text = outcome.stdout();
        if outcome.succeeded() { Ok(text) } else { Err(message(&text, &outcome.stderr())) }
    }

    fn cni_args(&self) -> String {
        let pod = &self.pod;
        let known = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
            pod.namespace, pod.name, pod.uid
        );
        if self.args.is_empty() { known } else { format!("{known};{}", self.args) }
    }

    fn has_result_on_del(&self) -> bool {
        self.version >= "0.4.0"
    }

    /// The chain as libcni calls it: in order, each with the result of the one before; DEL in reverse, each with the last.
    fn theirs(&self, verb: &str, result: Option<&Value>) -> Result<Option<Value>, String> {
        let mut last = result.filter(|_| self.has_result_on_del()).cloned();
        let mut plugins: Vec<&Value> = self.theirs.iter().collect();
        if verb == "DEL" {
            plugins.reverse();
        }
        for plugin in plugins {
            let answer = self.reference(verb, plugin, last.as_ref())?;
            if verb == "ADD" {
                last = Some(answer);
            }
        }
        Ok(last)
    }

    fn reference(&self, verb: &str, plugin: &Value, before: Option<&Value>) -> Result<Value, String> {
        let mut conf = plugin.clone();
        (conf["cniVersion"], conf["name"]) = (json!(self.version), json!(NETWORK));
        if let Some(before) = before {
            conf["prevResult"] = before.clone();
        }
        for (capability, value) in self.runtime.as_object().unwrap() {
            if plugin["capabilities"][capability] == true {
                conf["runtimeConfig"][capability] = value.clone();
            }
        }
        let program = peers::program(plugin["type"].as_str().unwrap());
        let mut command = program::command(program);
        command.env_clear().current_dir("/").envs([
            ("PATH", std::env::var("PATH").unwrap_or_default().as_str()),
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", &self.pod.container),
            ("CNI_NETNS", self.pod.netns.text()),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", peers::dir().to_str().unwrap()),
            ("CNI_ARGS", &self.cni_args()),
        ]);
        let running = self.node.netns.inside(|| program::start(&mut command, conf.to_string().as_bytes()));
        let finished = running.finish(Duration::from_secs(60));
        let (stdout, stderr) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
        if finished.code != Some(0) {
            return Err(message(&stdout, &stderr));
        }
        Ok(serde_json::from_str(&stdout).unwrap_or_default())
    }
}

/// The message of an error object, or the first line that was printed.
fn message(stdout: &str, stderr: &str) -> String {
    let object: Value = serde_json::from_str(stdout).unwrap_or_default();
    let printed = || format!("{stdout}{stderr}").lines().next().unwrap_or_default().to_owned();
    object["msg"].as_str().map_or_else(printed, str::to_owned)
}

/// Makes the scene in the namespace of the thread: settings, commands, carriers. Commands of `ip` run in one program.
fn set(commands: &[&str]) {
    const AT_ONCE: [&str; 2] = ["dad_transmits", "router_solicitation_delay"];
    for setting in AT_ONCE {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{setting}"), "0").unwrap();
    }
    let is_ip = |line: &str| line.starts_with("ip ");
    for lines in commands.chunk_by(|one, next| is_ip(one) && is_ip(next)) {
        if is_ip(lines[0]) {
            let batch: String =
                lines.iter().filter_map(|line| line.strip_prefix("ip ")).map(|line| format!("{line}\n")).collect();
            program::run_with("ip", ["-batch", "-"], &batch);
        } else {
            let mut words = lines[0].split(' ');
            program::run(words.next().unwrap(), words);
        }
    }
    if !commands.is_empty() {
        settle();
    }
}

/// Waits for the carriers of wires, as far as there are any.
fn settle() {
    let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(10)).unwrap();
    let comes = |link: &Link| link.up && matches!(link.kind, Kind::Veth) && link.operstate != UP;
    for _ in 0..50 {
        if !netlink.links(None).unwrap().iter().any(comes) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
