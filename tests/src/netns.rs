//! Network namespaces, each held by a file of its own; gone when dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use delegates::nl::Netlink;
use delegates::nl::link::LinkChange;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

use crate::program;

/// A network namespace with `lo` up.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
}

impl Netns {
    /// Makes a namespace and binds it to `path`, whose directory exists.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        File::create(&path).unwrap();
        let netns = Self { path };
        std::thread::scope(|scope| scope.spawn(|| netns.unshare()).join().unwrap());
        netns
    }

    /// Moves the calling thread into a namespace that is new, and holds it.
    fn unshare(&self) {
        #[expect(
            clippy::disallowed_methods,
            reason = "the ban is for the plugin; a process costs 0.1 s in User Mode Linux"
        )]
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let own = "/proc/thread-self/ns/net";
        mount(Some(own), &self.path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(10)).unwrap();
        let lo = netlink.link_by_name(&"lo".parse().unwrap()).unwrap().unwrap();
        netlink.set_link(lo.index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    }

    /// The file that holds it: what a runtime gives as CNI_NETNS.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file as text.
    pub fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// A command that will run inside; `/sys` stays the machine's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut enter = program::command("nsenter");
        enter.arg(format!("--net={}", self.text())).arg("--").arg(program);
        enter
    }

    /// Runs a program inside that must succeed: `netns.run("ip link set net1 group 7")`. Arguments have no spaces.
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        self.inside(|| program::run(words.next().unwrap(), words))
    }

    /// Does something in a thread that is inside; what it starts is inside too.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            self.enter();
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(enter).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The JSON that `ip -j -d ...` prints inside.
    pub fn ip(&self, what: &str) -> Value {
        let text = self.run(&format!("ip -j -d {what}"));
        let text = if text.trim().is_empty() { "[]" } else { text.as_str() };
        serde_json::from_str(text).unwrap_or_else(|e| panic!("ip -j -d {what}: {e}: {text}"))
    }

    /// Moves the calling thread inside, for good: what it starts is inside too, without a helper process in between.
    pub fn enter(&self) {
        let file = File::open(&self.path).unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "the ban is for the plugin; the bench starts it without nsenter"
        )]
        nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Takes the name away: the namespace lives on only while somebody is inside.
    pub fn remove(&self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_file(&self.path);
    }

    /// Inode of the namespace.
    pub fn inode(&self) -> u64 {
        std::fs::metadata(&self.path).unwrap().ino()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.remove();
    }
}
