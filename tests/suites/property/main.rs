//! The property tier: whatever a runtime does, in whatever order, and wherever it is killed, the kernel, the records and
//! the address files agree.
//!
//! A round is a node and a random sequence of calls, chosen by a seed: the same ones each time, so that a change is judged by what it
//! changed. `META_CNI_SECONDS` says for how long other ones are begun in their place (40 s), `META_CNI_SEED` repeats one round.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod agree;
mod scene;

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use meta_cni_tests::call::{Call, Outcome};
use scene::{Member, Scene, State};
use serde_json::{Value, json};

/// Calls of a round, before everything is detached.
const STEPS: usize = 24;

/// Where a call is killed: at the nth call of one of these, which is somewhere in its work for most numbers.
const SYSCALLS: [&str; 9] =
    ["sendto", "recvfrom", "openat", "write", "fdatasync", "rename", "flock", "unlink", "statx"];

/// What an ADD may be refused for here: what it wants is taken.
const TAKEN: [&str; 4] = ["no address", "hostPort", "device:", "already"];

#[test]
fn after_any_sequence_of_calls_kernel_records_and_addresses_agree() {
    let seconds = setting("META_CNI_SECONDS");
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(40));
    let (mut rounds, mut added, mut killed) = (0, 0, 0);
    let given = setting("META_CNI_SEED");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let first = given.or_else(|| seconds.map(|_| now())).unwrap_or(1);
    while rounds == 0 || (given.is_none() && (rounds < 3 || Instant::now() < until)) {
        let mut round = Round::new(first + rounds);
        round.run();
        rounds += 1;
        added += round.added;
        killed += round.killed;
    }
    println!("{rounds} rounds from seed {first}: {added} ADDs succeeded, {killed} calls were killed");
    assert!(given.is_some() || (added > rounds as usize && killed > 0), "it does nothing");
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}: got {text}: {e}")))
}

struct Round {
    seed: u64,
    rng: Rng,
    scene: Scene,
    members: Vec<Member>,
    /// What was done, for whoever reads of a failure.
    story: Vec<String>,
    added: usize,
    killed: usize,
}

/// A failure says how to see it again.
impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("META_CNI_SEED={} repeats this:\n  {}", self.seed, self.story.join("\n  "));
        }
    }
}

impl Round {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let scene = Scene::new(&mut rng);
        let story = vec![format!("default network: {}", scene.node.conf["delegates"][0])];
        Self { seed, rng, scene, members: Vec::new(), story, added: 0, killed: 0 }
    }

    fn run(&mut self) {
        for step in 1..=STEPS {
            match self.rng.u32(..100) {
                0..45 => self.add(),
                45..70 => self.del(),
                70..80 => self.check(),
                80..90 => self.gc(),
                _ => self.die(),
            }
            if step % 8 == 0 {
                self.settle();
                self.scene.agree(&self.members);
            }
        }
        for member in 0..self.members.len() {
            self.del_of(member, false);
        }
        self.scene.agree(&self.members);
        // Whose lock a killed call held, and who asks for it no more.
        self.scene.node.bare_call("GC").conf("cni.dev/valid-attachments", json!([])).run().quiet();
        self.scene.node.assert_clean_but(&scene::LINKS);
    }

    /// ADD of a new pod, or again of one that is not attached; now and then it is killed.
    fn add(&mut self) {
        let idle: Vec<usize> = (0..self.members.len()).filter(|i| self.members[*i].can_be_added()).collect();
        let member = match self.rng.choice(idle) {
            Some(member) if self.rng.bool() => member,
            _ => {
                self.members.push(self.scene.member(&mut self.rng, self.members.len()));
                self.members.len() - 1
            }
        };
        let call = self.scene.call("ADD", &self.members[member]);
        let (outcome, place) = perhaps_killed(&mut self.rng, call);
        let Member { pod, state, networks, .. } = &mut self.members[member];
        self.story.push(format!("ADD of {} ({}){place}: {}", pod.name, networks.join(","), told(&outcome)));
        if outcome.succeeded() {
            *state = State::Attached;
            self.added += 1;
        } else if outcome.finished.code.is_none() {
            *state = State::Unknown;
            self.was_killed();
        } else {
            let refusal = outcome.refusal();
            let fits = TAKEN.iter().any(|taken| refusal.text.contains(taken));
            assert!(fits, "refused for no reason that it may have: {}", refusal.text);
            if *state != State::Unknown {
                pod.assert_empty();
            }
        }
    }

    fn del(&mut self) {
        // A DEL of what is gone comes now and then too.
        let repeats = self.rng.u32(..4) == 0;
        let some = (0..self.members.len()).filter(|i| repeats || self.members[*i].state != State::Detached);
        if let Some(member) = self.rng.choice(some.collect::<Vec<_>>()) {
            let kills = self.rng.u32(..3) == 0;
            self.del_of(member, kills);
        }
    }

    fn del_of(&mut self, member: usize, kills: bool) {
        let call = self.scene.call("DEL", &self.members[member]);
        let (outcome, place) = if kills { perhaps_killed(&mut self.rng, call) } else { (call.run(), String::new()) };
        let Member { pod, state, is_alive, .. } = &mut self.members[member];
        self.story.push(format!("DEL of {}{place}: {}", pod.name, told(&outcome)));
        if outcome.finished.code.is_none() {
            *state = State::Unknown;
            return self.was_killed();
        }
        outcome.quiet();
        *state = State::Detached;
        if *is_alive {
            pod.assert_empty();
        }
    }

    fn check(&mut self) {
        let attached = self.members.iter().filter(|member| member.state == State::Attached && member.is_alive);
        if let Some(member) = self.rng.choice(attached.collect::<Vec<_>>()) {
            self.story.push(format!("CHECK of {}", member.pod.name));
            self.scene.node.check(&member.pod, &json!({})).quiet();
        }
    }

    /// GC, of which the runtime says that what is attached is valid, and of the rest nothing.
    fn gc(&mut self) {
        let is_valid = |member: &&Member| member.state == State::Attached && member.is_alive;
        let valid = self.members.iter().filter(is_valid);
        let valid: Vec<Value> = valid.map(|one| json!({"containerID": one.pod.container, "ifname": "eth0"})).collect();
        let call = self.scene.node.bare_call("GC").conf("cni.dev/valid-attachments", json!(valid));
        let (outcome, place) = perhaps_killed(&mut self.rng, call);
        self.story.push(format!("GC with {} valid{place}: {}", valid.len(), told(&outcome)));
        let is_over = outcome.finished.code.is_some();
        if is_over {
            outcome.quiet();
            assert_eq!(outcome.stderr(), "", "GC told of strangers, or of what it could not do");
        } else {
            self.was_killed();
        }
        for member in self.members.iter_mut().filter(|member| member.state != State::Detached && !is_valid(&&**member))
        {
            member.state = if is_over { State::Detached } else { State::Unknown };
        }
    }

    /// A process that a killed call left in the kernel still has the lock of its sandbox, and a GC passes by what is locked.
    fn was_killed(&mut self) {
        self.killed += 1;
        let locks = self.scene.node.path("state/locks");
        let is_free = |file: fs::DirEntry| fs::File::open(file.path()).map_or(true, |file| file.try_lock().is_ok());
        for _ in 0..1000 {
            if fs::read_dir(&locks).into_iter().flatten().flatten().all(is_free) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("a killed call is still at work");
    }

    /// The sandbox goes away, and nobody says so.
    fn die(&mut self) {
        let mortal = (0..self.members.len()).filter(|i| self.members[*i].is_alive && !self.members[*i].borrows());
        if let Some(member) = self.rng.choice(mortal.collect::<Vec<_>>()) {
            let member = &mut self.members[member];
            self.story.push(format!("death of {}", member.pod.name));
            member.pod.netns.remove();
            member.is_alive = false;
        }
    }

    /// Whatever was left half-way is finished, by DEL or by GC.
    fn settle(&mut self) {
        let is_open =
            |member: &Member| member.state == State::Unknown || (member.state == State::Attached && !member.is_alive);
        if self.rng.bool() {
            while self.members.iter().any(is_open) {
                self.gc();
            }
        }
        for member in (0..self.members.len()).filter(|i| is_open(&self.members[*i])).collect::<Vec<_>>() {
            self.del_of(member, false);
        }
    }
}

/// Every third call is killed, if it gets as far as that.
fn perhaps_killed(rng: &mut Rng, call: Call<'_>) -> (Outcome, String) {
    if rng.u32(..3) != 0 {
        return (call.run(), String::new());
    }
    let (syscall, nth) = (SYSCALLS[rng.usize(..SYSCALLS.len())], rng.u32(1..12));
    let inject = format!("inject={syscall}:signal=KILL:when={nth}");
    let outcome = call.under(["strace", "-qq", "-o", "/dev/null", "-e", &format!("trace={syscall}"), "-e", &inject]);
    (outcome.run(), format!(" killed at {syscall} {nth}"))
}

fn told(outcome: &Outcome) -> String {
    match outcome.finished.code {
        None => "dead".to_owned(),
        Some(0) => "done".to_owned(),
        Some(_) => outcome.refusal().msg,
    }
}
