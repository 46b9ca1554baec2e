//! Namespaces of a machine inside of this one: mounts, network and processes of its own. They end with one process.
//!
//! The process, the holder, is pid 1 inside. The kernel kills everything in a pid namespace together with its pid 1, and
//! mounts and links go when the last process is gone: nothing of a space can outlive its holder. The holder itself ends
//! when the pipe to the process that made it breaks, so a test that is killed leaves nothing either.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::place::Place;
use crate::program;

/// A machine inside of this one.
#[derive(Debug)]
pub struct Space {
    holder: Child,
    network: File,
    mounts: File,
    processes: File,
}

/// How long a space lives.
#[derive(Debug)]
pub enum Life {
    /// As long as the process that made it.
    Ours,
    /// Until its holder is killed; the holder keeps this lock meanwhile.
    Own(File),
}

impl Space {
    /// Makes the namespaces of a cluster. `furnish` runs inside of the new mount and network namespaces, before anybody
    /// else; `holder` is the call of `cluster hold`.
    pub fn new(life: &Life, place: &Place, holder: &mut Command, furnish: impl FnOnce() + Send) -> Self {
        let holder = on_a_thread(|| {
            leave(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET);
            propagate(MsFlags::MS_PRIVATE);
            furnish();
            propagate(MsFlags::MS_SHARED);
            // The next program that this thread starts is pid 1.
            leave(CloneFlags::CLONE_NEWPID);
            hold(life, holder)
        });
        place.add_holder(holder.id());
        let of = |kind: &str| File::open(format!("/proc/{}/ns/{kind}", holder.id())).unwrap();
        Self { network: of("net"), mounts: of("mnt"), processes: of("pid"), holder }
    }

    /// Runs `work` on a thread that sees this machine's files and network.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            self.enter();
            work()
        })
    }

    /// Starts a program in this machine.
    pub fn spawn(&self, command: &mut Command) -> Child {
        // Its own process group: what a terminal sends to ours is not for it.
        use std::os::unix::process::CommandExt;
        command.process_group(0);
        self.within(|| command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Runs a program inside that must succeed: `space.run("ip link set up dev eth0")`. Arguments have no spaces.
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or_default();
        self.within(|| program::run(program, words))
    }

    /// Process id of the holder, as this process sees it; it is 1 inside.
    pub fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// A file of this machine by its path inside.
    pub fn file(&self, path: impl AsRef<Path>) -> PathBuf {
        let inside = path.as_ref().strip_prefix("/").unwrap_or(path.as_ref());
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside)
    }

    fn enter(&self) {
        #[expect(clippy::disallowed_methods, reason = "the ban is for the plugin; here nodes are entered")]
        let result = unshare(CloneFlags::CLONE_FS)
            .and_then(|()| setns(&self.processes, CloneFlags::CLONE_NEWPID))
            .and_then(|()| setns(&self.network, CloneFlags::CLONE_NEWNET))
            .and_then(|()| setns(&self.mounts, CloneFlags::CLONE_NEWNS));
        result.unwrap_or_else(|e| panic!("entering the namespaces of process {}: {e}", self.holder.id()));
    }
}

impl Drop for Space {
    /// The kernel lets pid 1 go only after everything else inside.
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What moves into a namespace never comes back: it is a thread of its own, and over with the work.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

fn leave(namespaces: CloneFlags) {
    #[expect(clippy::disallowed_methods, reason = "the ban is for the plugin; here nodes are made")]
    unshare(namespaces).unwrap_or_else(|e| panic!("new namespaces: {e}; a cluster needs root"));
}

/// How mounts below `/` reach copies of this mount namespace.
fn propagate(how: MsFlags) {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | how, None::<&str>).unwrap();
}

/// Starts pid 1 and waits until it has mounted the new /proc.
fn hold(life: &Life, command: &mut Command) -> Child {
    match life {
        Life::Ours => command.stdin(Stdio::piped()),
        // Whoever waits for the end of our output must not wait for the cluster's.
        Life::Own(lock) => command.arg("--until-killed").stdin(lock.try_clone().unwrap()).stderr(Stdio::null()),
    };
    use std::os::unix::process::CommandExt;
    let mut holder =
        command.process_group(0).stdout(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut said = String::new();
    let stdout = holder.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut said).unwrap();
    assert_eq!(said, "held\n", "the holder of a space did not start");
    holder
}

/// Mounts a tmpfs.
pub fn tmpfs(path: &Path) {
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .unwrap_or_else(|e| panic!("tmpfs on {}: {e}", path.display()));
}

/// Mounts a directory or file, and what is mounted below it, over another.
pub fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .unwrap_or_else(|e| panic!("{} on {}: {e}", from.display(), to.display()));
}

/// Mounts the network namespace's own view of /sys, with the control groups of the machine.
pub fn sysfs() {
    let kept = Path::new("/run/cgroup");
    fs::create_dir(kept).unwrap();
    bind(Path::new("/sys/fs/cgroup"), kept);
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap_or_else(|e| panic!("/sys: {e}"));
    mount(Some(kept), "/sys/fs/cgroup", None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).unwrap();
    nix::mount::umount2(kept, nix::mount::MntFlags::MNT_DETACH).unwrap();
    fs::remove_dir(kept).unwrap();
}
