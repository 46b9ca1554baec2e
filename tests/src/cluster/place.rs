//! The directory of a cluster: its only trace on the machine. One whose makers are gone is removed by whoever starts next.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait;

/// Where containers' control groups of all clusters are: `<controller>/meta-cni/<cluster>`.
const CGROUPS: &str = "/sys/fs/cgroup";

/// A directory that is ours while its lock is held.
#[derive(Debug)]
pub struct Place {
    name: String,
    dir: PathBuf,
    lock: File,
}

impl Place {
    /// A place of this name; panics when a cluster of that name is alive.
    pub fn named(name: &str) -> Self {
        let base = base();
        fs::create_dir_all(&base).unwrap_or_else(|e| panic!("{}: {e}", base.display()));
        let _turn = turn(&base);
        sweep(&base);
        let dir = base.join(name);
        match fs::create_dir(&dir) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => panic!("a cluster {name} is running: {}", dir.display()),
            Err(e) => panic!("{}: {e}", dir.display()),
        }
        fs::create_dir(dir.join("logs")).unwrap();
        let lock = File::create(dir.join("lock")).unwrap();
        lock.lock_shared().unwrap();
        Self { name: name.to_owned(), dir, lock }
    }

    /// A place that no other process and no other call has.
    pub fn fresh() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self::named(&format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Its name, unique among the clusters that are alive.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path below it.
    pub fn path(&self, sub: impl AsRef<Path>) -> PathBuf {
        self.dir.join(sub)
    }

    /// The lock, for a process that keeps the place alive beyond this one.
    pub fn lock(&self) -> File {
        self.lock.try_clone().unwrap()
    }

    /// Notes a process that holds a part of the cluster: whoever takes the cluster down ends it.
    pub(super) fn add_holder(&self, pid: u32) {
        use std::io::Write;
        let mut file = File::options().create(true).append(true).open(self.path("holders")).unwrap();
        writeln!(file, "{pid} {}", started(pid).unwrap_or_default()).unwrap();
    }

    /// The control group of a node's containers, relative to each controller.
    pub fn cgroup(&self, node: &str) -> String {
        format!("/meta-cni/{}/{node}", self.name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(&self.dir, &self.name);
    }
}

/// A process that was noted in a cluster's directory.
#[derive(Debug)]
pub(super) struct Holder {
    pid: u32,
    started: String,
}

/// The processes that hold a cluster, by its directory.
pub(super) fn holders(dir: &Path) -> Vec<Holder> {
    let text = fs::read_to_string(dir.join("holders")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(pid, started)| Holder { pid: pid.parse().unwrap(), started: started.to_owned() }).collect()
}

impl Holder {
    /// Kills it, and with it everything in its namespaces. Another process with its number is left alone.
    pub(super) fn end(&self) {
        let lives = || started(self.pid).is_some_and(|started| started == self.started);
        if lives() {
            let _ = kill(Pid::from_raw(i32::try_from(self.pid).unwrap()), Signal::SIGKILL);
        }
        let gone = || if lives() { Err(format!("process {} does not end", self.pid)) } else { Ok(()) };
        wait::until("end of a cluster's processes", Duration::from_secs(10), gone);
    }
}

/// When a process was started (proc_pid_stat(5), field 22); absent when it is gone or waits to be taken by its parent.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, field 2, is in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (fields.first() != Some(&"Z")).then(|| fields.get(19).map(|field| (*field).to_owned()))?
}

/// Directory of all clusters: in cargo's target directory, or what `META_CNI_CLUSTERS` names.
pub fn base() -> PathBuf {
    if let Some(dir) = std::env::var_os("META_CNI_CLUSTERS") {
        return dir.into();
    }
    let me = std::env::current_exe().unwrap();
    // Not by CACHEDIR.TAG: cargo writes none into a directory that was there before it.
    let profile = me.ancestors().find(|dir| dir.join(".fingerprint").is_dir());
    profile
        .and_then(Path::parent)
        .unwrap_or_else(|| panic!("{}: not in a target directory; set META_CNI_CLUSTERS", me.display()))
        .join("clusters")
}

/// Clearing and creating take turns, or one would remove what another has made and not locked yet.
fn turn(base: &Path) -> File {
    let file = File::create(base.join(".turn")).unwrap();
    file.lock().unwrap();
    file
}

/// Removes what is left of clusters whose processes are gone.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let Ok(lock) = File::open(entry.path().join("lock")) else {
            if entry.path().is_dir() {
                remove(&entry.path(), &entry.file_name().to_string_lossy());
            }
            continue;
        };
        match lock.try_lock() {
            Ok(()) => remove(&entry.path(), &entry.file_name().to_string_lossy()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => panic!("{}: {e}", entry.path().display()),
        }
    }
}

/// Removes a cluster's directory and control groups. Its last processes may still be on their way out.
pub fn remove(dir: &Path, name: &str) {
    let gone = || match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(format!("{}: {e}", dir.display())),
        _ => Ok(()),
    };
    let _ = wait::patiently(Duration::from_secs(5), gone).map_err(|e| eprintln!("cluster {name}: {e}"));
    let mut groups = vec![Path::new(CGROUPS).to_owned()];
    groups.extend(fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path()));
    for group in groups {
        let group = group.join("meta-cni");
        let _ = wait::patiently(Duration::from_secs(5), || remove_groups(&group.join(name)))
            .map_err(|e| eprintln!("cluster {name}: {e}"));
        let _ = fs::remove_dir(group);
    }
}

/// Control groups go from the inside out; their files go with them.
fn remove_groups(dir: &Path) -> Result<(), String> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(format!("{}: {e}", dir.display())),
        _ => Ok(()),
    }
}
