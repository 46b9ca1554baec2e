//! Network namespaces, each held by a file of its own; gone when dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};
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
        program::run("unshare", [&format!("--net={}", netns.text()), "ip", "link", "set", "lo", "up"]);
        netns
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
        let enter = format!("--net={}", self.text());
        program::run("nsenter", [enter.as_str(), "--"].into_iter().chain(line.split_whitespace()))
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
