//! A node for a long time and under fire (`make soak`): an agent, a real API server, links of a real kernel, and a fake delegate.
//!
//! Minutes each, so the cases are ignored where all run. Figures are printed.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use meta_cni_tests::call::{Call, Outcome};
use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::Pod;
use serde_json::{Value, json};

use super::world::{NODE, World};

/// eth0 is a fake's, `lan` a bridge in process, `one` a fake's again.
const NETWORKS: &str = "lan,one";

/// A node with its agent and the networks.
fn world() -> World {
    let mut world = World::served();
    let ipam = world.node.host_local("10.44.0.0/16");
    world.nad_of("lan", json!({"cniVersion": "1.1.0", "name": "lan", "type": "bridge", "bridge": "br-lan", "isGateway": true, "ipMasq": true, "ipam": ipam}));
    world.nad("one");
    world.node.conf["statusWaitMs"] = json!(20);
    world
}

/// Nothing is left of any pod; the agent keeps what it has read of definitions and policies.
#[track_caller]
fn assert_clean(world: &World) {
    let mut left = world.node.leftovers(&[]);
    left.retain(|path| !path.starts_with("state/definitions/") && path != "state/policies.json");
    assert!(left.is_empty(), "left behind: {left:?}");
}

fn forget(world: &World, pod: &Pod) {
    let path = format!("/api/v1/namespaces/default/pods/{}?gracePeriodSeconds=0", pod.name);
    world.plane.api().delete(&path).unwrap();
}

/// What may not grow: the agent's own memory, its descriptors and threads, and the files of the node's state. Those that are bounded by
/// their size, and have a predecessor beside them now and then, do not count.
#[derive(Debug)]
struct Size {
    memory: f64,
    descriptors: usize,
    threads: usize,
    files: usize,
}

impl Size {
    fn of(world: &World) -> Self {
        let entries = |what: &str| fs::read_dir(format!("/proc/{}/{what}", world.agent().id())).unwrap().count();
        Self {
            memory: world.memory().1,
            descriptors: entries("fd"),
            threads: entries("task"),
            files: world.node.files("state").iter().filter(|path| !is_bounded(path)).count(),
        }
    }
}

fn is_bounded(path: &str) -> bool {
    ["departed", "departed.old", "calls", "calls.taken"].iter().any(|name| path == format!("state/{name}"))
}

#[test]
#[ignore = "minutes: make soak"]
fn five_thousand_pods_leave_memory_descriptors_and_files_as_they_were() {
    const CYCLES: usize = 5000;
    /// Caches and pools have their size by then.
    const WARM: usize = 500;
    let world = world();
    let mut before = None;
    for cycle in 0..CYCLES {
        let pod = world.pod(&format!("pod-{cycle}"), NETWORKS);
        world.add(&pod);
        world.node.del(&pod).quiet();
        forget(&world, &pod);
        if cycle % 500 == 499 {
            eprintln!("{} pods: {:?}", cycle + 1, Size::of(&world));
        }
        if cycle == WARM {
            before = Some(Size::of(&world));
        }
    }
    let before = before.unwrap();
    world.until("node as it was", || {
        let now = Size::of(&world);
        let is_flat = now.memory < before.memory + 2.0
            && now.descriptors <= before.descriptors + 2
            && now.threads <= before.threads
            && now.files <= before.files;
        if is_flat { Ok(()) } else { Err(format!("before {before:?}, now {now:?}")) }
    });
    assert_clean(&world);
}

/// What the agent asks for; the API server itself asks for none of it.
const ASKED: [&str; 10] = [
    "pods",
    "nodes",
    "namespaces",
    "events",
    "network-attachment-definitions",
    "attachmentpolicies",
    "attachmentlevels",
    "vniclaims",
    "overlaymembers",
    "addressblocks",
];

/// Requests but watches, of the agent and of this case.
fn asked(world: &World) -> u64 {
    const VERBS: [&str; 6] = ["GET", "LIST", "POST", "PUT", "PATCH", "DELETE"];
    let pairs = ASKED.iter().flat_map(|resource| VERBS.map(|verb| (verb, *resource)));
    pairs.map(|(verb, resource)| world.requests(verb, resource, "") + world.requests(verb, resource, "status")).sum()
}

#[test]
#[ignore = "minutes: make soak"]
fn a_node_at_rest_asks_for_next_to_nothing() {
    const MINUTES: u64 = 3;
    let world = world();
    let pod = world.pod("web", NETWORKS);
    world.add(&pod);
    world.until("status", || world.status("web"));
    thread::sleep(Duration::from_secs(20));
    let before = asked(&world);
    thread::sleep(Duration::from_secs(60 * MINUTES));
    let more = asked(&world) - before;
    eprintln!("{more} requests in {MINUTES} minutes");
    assert!(more <= MINUTES, "{more} requests in {MINUTES} minutes, want at most one a minute");
}

/// A token ends by itself; kubelet has put another one in its place before.
#[test]
#[ignore = "minutes: make soak"]
fn a_token_that_expires_has_a_successor_in_time() {
    const LIFE: Duration = Duration::from_secs(600);
    let mut world = World::new();
    world.nad("one");
    let (kubeconfig, file) = world.kubeconfig_of_token_file(&world.token_for(NODE, LIFE));
    let began = Instant::now();
    world.start_agent_with(&kubeconfig);
    thread::sleep(LIFE * 4 / 5);
    fs::write(&file, world.token()).unwrap();
    thread::sleep((LIFE + Duration::from_secs(60)).saturating_sub(began.elapsed()));
    // Connections are made anew, with whatever token the agent has now.
    world.plane.kill_api();
    world.plane.start_api();
    let web = world.pod("web", "one");
    world.until("ADD", || if world.node.add(&web).succeeded() { Ok(()) } else { Err("it fails".to_owned()) });
    world.until("status", || world.status("web"));
    assert!(!world.log().contains("Unauthorized"), "{}", world.log());
}

/// The API server has a certificate of another authority, and the file of authorities is told of it later: pods come and go meanwhile,
/// and nobody starts the agent anew.
#[test]
#[ignore = "minutes: make soak"]
fn the_certificates_of_the_api_server_are_rotated() {
    let mut world = World::new();
    world.nad("one");
    let (kubeconfig, authority) = world.kubeconfig_of_authority_file();
    world.start_agent_with(&kubeconfig);
    let (before, meanwhile) = (world.pod("before", "one"), world.pod("meanwhile", "one"));
    world.add(&before);
    world.until("status", || world.status("before"));
    world.plane.kill_api();
    world.plane.forget_certificate();
    world.plane.start_api();
    world.node.conf["statusWaitMs"] = json!(20);
    world.until("refusal of the new certificate", || match world.log() {
        log if log.contains("certificate") => Ok(()),
        log => Err(log),
    });
    world.node.del(&before).quiet();
    world.add(&meanwhile);
    assert!(world.status("meanwhile").is_err(), "the agent trusts whoever answers");
    fs::write(&authority, world.plane.certificate()).unwrap();
    // The file is looked at once a minute, and the tries have become rare by then.
    world.within(Duration::from_secs(180), "status", || world.status("meanwhile"));
    world.node.del(&meanwhile).quiet();
    assert_clean(&world);
}

/// All pods of a node come at once, while the agent only starts: as after a reboot.
#[test]
#[ignore = "minutes: make soak"]
fn two_hundred_pods_at_once_behind_an_agent_that_starts() {
    const PODS: usize = 200;
    const MOST: f64 = 64.0;
    let mut world = world();
    let pods: Vec<Pod> = (0..PODS).map(|number| world.pod(&format!("pod-{number}"), NETWORKS)).collect();
    world.kill_agent();
    world.launch_agent(&world.kubeconfig());
    let began = Instant::now();
    let running: Vec<_> = pods.iter().map(|pod| world.node.call("ADD", pod).start()).collect();
    for running in running {
        let outcome = Outcome::of("ADD", running);
        assert!(outcome.succeeded(), "{} {}", outcome.stdout(), outcome.stderr());
    }
    eprintln!("{PODS} ADDs at once behind an agent that starts: {:.1} s", began.elapsed().as_secs_f64());
    for pod in &pods {
        world.within(Duration::from_secs(120), "status of each pod", || match world.status(&pod.name)?.len() {
            3 => Ok(()),
            other => Err(format!("{}: {other} entries", pod.name)),
        });
    }
    let status = fs::read_to_string(format!("/proc/{}/status", world.agent().id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = peak.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0;
    eprintln!("the agent had at most {peak:.1} MB");
    assert!(peak <= MOST, "{peak} MB, want at most {MOST}");
    let running: Vec<_> = pods.iter().map(|pod| world.node.call("DEL", pod).start()).collect();
    running.into_iter().for_each(|running| Outcome::of("DEL", running).quiet());
    assert_clean(&world);
}

/// Who is killed while a call runs.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Nobody,
    Plugin,
    Delegate,
    Agent,
}

struct Fire {
    world: World,
    rng: Rng,
    pods: Vec<(Pod, bool)>,
    killed: [usize; 3],
    attached: usize,
}

impl Fire {
    /// Makes a call while somebody may be killed. `None`: the plugin was.
    fn call(&mut self, verb: &str, change: impl Fn(Call<'_>) -> Call<'_>, pod: Option<usize>) -> Option<Outcome> {
        let victim = match self.rng.u32(..100) {
            0..20 => Victim::Plugin,
            20..30 => Victim::Delegate,
            30..34 => Victim::Agent,
            _ => Victim::Nobody,
        };
        if matches!(victim, Victim::Delegate) {
            let dies = Rule { verb: Some(verb.to_owned()), times: Some(1), signal: Some(9), ..Rule::default() };
            self.world.node.fakes.rules("one", &[dies]);
        }
        let call = match pod {
            Some(pod) => self.world.node.call(verb, &self.pods[pod].0),
            None => self.world.node.bare_call(verb),
        };
        let mut running = change(call).start();
        thread::sleep(Duration::from_micros(self.rng.u64(..12_000)));
        match victim {
            Victim::Plugin => running.kill(),
            Victim::Agent => {
                self.world.kill_agent();
                self.world.launch_agent(&self.world.kubeconfig());
                self.killed[2] += 1;
            }
            Victim::Delegate | Victim::Nobody => {}
        }
        let outcome = Outcome::of(verb, running);
        if matches!(victim, Victim::Delegate) {
            self.killed[1] += usize::from(self.world.node.fakes.used("one", 0).exists());
            self.world.node.fakes.rules("one", &[]);
        }
        if outcome.finished.code.is_none() {
            self.killed[0] += 1;
            return None;
        }
        Some(outcome)
    }

    fn add(&mut self) {
        let idle: Vec<usize> = (0..self.pods.len()).filter(|i| !self.pods[*i].1).collect();
        let Some(pod) = self.rng.choice(idle) else { return };
        if self.call("ADD", |call| call, Some(pod)).is_some_and(|outcome| outcome.succeeded()) {
            (self.pods[pod].1, self.attached) = (true, self.attached + 1);
        }
    }

    fn del(&mut self) {
        let pod = self.rng.usize(..self.pods.len());
        if self.call("DEL", |call| call, Some(pod)).is_some_and(|outcome| outcome.succeeded()) {
            self.pods[pod].1 = false;
            self.pods[pod].0.assert_empty();
        }
    }

    fn check(&mut self) {
        let attached: Vec<usize> = (0..self.pods.len()).filter(|i| self.pods[*i].1).collect();
        let Some(pod) = self.rng.choice(attached) else { return };
        // One that was killed may have been undone, and one whose program is killed fails.
        let _ = self.call("CHECK", |call| call.conf("prevResult", json!({})), Some(pod));
    }

    fn gc(&mut self) {
        let valid = self.pods.iter().filter(|(_, is_attached)| *is_attached);
        let valid: Vec<Value> = valid.map(|(pod, _)| json!({"containerID": pod.container, "ifname": "eth0"})).collect();
        let _ = self.call("GC", |call| call.conf("cni.dev/valid-attachments", json!(valid)), None);
    }
}

#[test]
#[ignore = "minutes: make soak"]
fn a_thousand_random_calls_with_plugin_delegate_and_agent_killed_leave_nothing() {
    const CALLS: usize = 1000;
    let given = std::env::var("META_CNI_SEED").ok().map(|text| text.parse().unwrap());
    let seed = given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64);
    eprintln!("META_CNI_SEED={seed} repeats this");
    let world = world();
    let pods = (0..20).map(|number| (world.pod(&format!("pod-{number}"), NETWORKS), false)).collect();
    let mut fire = Fire { world, rng: Rng::with_seed(seed), pods, killed: [0; 3], attached: 0 };
    for _ in 0..CALLS {
        match fire.rng.u32(..100) {
            0..50 => fire.add(),
            50..80 => fire.del(),
            80..90 => fire.check(),
            _ => fire.gc(),
        }
    }
    let Fire { world, pods, killed: [plugins, delegates, agents], attached, .. } = &fire;
    eprintln!("{attached} ADDs succeeded; {plugins} plugins, {delegates} delegates and {agents} agents were killed");
    assert!(*attached > 50 && *plugins > 50 && *delegates > 5 && *agents > 5, "it does nothing");
    for (pod, _) in pods {
        world.node.del(pod).quiet();
        pod.assert_empty();
    }
    world.node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).run().quiet();
    assert_clean(world);
    world.until("agent that answers", || world.health(&[]).map(drop));
}
