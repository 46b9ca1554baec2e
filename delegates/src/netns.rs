//! Network namespaces: open one, enter it, open sockets in it; and the way into a mount namespace. Nothing else calls setns.

#![expect(clippy::disallowed_methods, reason = "this is the one module that enters namespaces")]

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use crate::error::{Error, Result};
use crate::nl::Netlink;

const OWN: &str = "/proc/thread-self/ns/net";
const ALLOWED: &str = "the path of a network namespace, not the host's own";

/// Directories below /proc/sys/net that are open, by their paths. The kernel keeps the settings of all namespaces under one path, and
/// looks through those of every namespace for each component of it: 50 us with 300 pods on the node instead of 5. What is in an
/// open directory it finds at once.
type Directories = Vec<(PathBuf, File)>;

thread_local! {
    /// Those of the namespace that the thread is in.
    static DIRECTORIES: RefCell<Directories> = const { RefCell::new(Vec::new()) };
}

/// A network namespace of somebody else, held open.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    /// Its own, while no thread is in it.
    directories: Mutex<Directories>,
}

impl NetNs {
    /// Opens the namespace at a path; [`Error::Netns`] when nothing is there, or something else, or our own namespace.
    pub fn open(path: &Path) -> Result<Self> {
        Self::find(path)?.ok_or_else(|| refused(path, "a path that exists"))
    }

    /// As [`Self::open`], but a path where nothing is gives `Ok(None)`.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        // Looked at before it is opened: opening a FIFO or a device has effects.
        let kind = match statfs(path) {
            Ok(kind) => kind,
            // A process that has ended says ESRCH.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESRCH) => return Ok(None),
            Err(errno) => return Err(unreadable(path, errno)),
        };
        if kind.filesystem_type() != NSFS_MAGIC {
            return Err(refused(path, ALLOWED));
        }
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("open {}", path.display()))(error)),
        };
        let found = Self::of(file);
        // Inode numbers are reused at once, but two namespaces that are open at the same time never share one.
        if found.identity()? == identity(&own()?)? && !own_is_allowed() {
            return Err(refused(path, ALLOWED));
        }
        // A namespace of another kind (mount, pid) is an nsfs file too; only setns tells.
        found.enter(|| Ok(())).map_err(|error| match error {
            Error::Kernel { errno: libc::EINVAL, .. } => refused(path, ALLOWED),
            other => other,
        })?;
        Ok(Some(found))
    }

    /// The thread's own, the host's.
    pub fn current() -> Result<Self> {
        Ok(Self::of(own()?))
    }

    fn of(file: File) -> Self {
        Self { file, directories: Mutex::default() }
    }

    /// Runs `work` in this namespace and comes back, also when `work` panics. Only this thread moves. A process that
    /// cannot come back would act on the wrong namespace, so it ends.
    pub fn enter<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let home = own()?;
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(Error::kernel("enter the network namespace".to_owned()))?;
        let inside = std::mem::take(&mut *self.directories());
        let _way_back = WayBack { home, netns: self, outside: DIRECTORIES.replace(inside) };
        work()
    }

    /// An rtnetlink socket that acts in this namespace.
    pub fn socket(&self, deadline: Instant) -> Result<Netlink> {
        self.enter(|| Netlink::open(deadline))
    }

    fn identity(&self) -> Result<(u64, u64)> {
        identity(&self.file)
    }

    fn directories(&self) -> MutexGuard<'_, Directories> {
        // A panic leaves no half of them.
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Goes into the mount namespace at a path, for good; the working directory is its root then. Only for a process with one
/// thread: the kernel refuses another (setns(2), CLONE_NEWNS).
pub fn join_mounts(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(Error::io(format!("open {}", path.display())))?;
    setns(&file, CloneFlags::CLONE_NEWNS)
        .map_err(Error::kernel(format!("enter the mount namespace {}", path.display())))
}

struct WayBack<'a> {
    home: File,
    netns: &'a NetNs,
    outside: Directories,
}

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        if setns(&self.home, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
        let inside = DIRECTORIES.replace(std::mem::take(&mut self.outside));
        *self.netns.directories() = inside;
    }
}

/// Runs `work` in a fresh namespace, which ends with it: what it makes there, nobody meets. On a thread of its own, which needs root.
pub fn in_fresh<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let run = || {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).map_err(Error::kernel("make a network namespace".to_owned()))?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// `CNI_NETNS_OVERRIDE` lets a caller attach the very namespace that plugins run in (C52).
pub fn own_is_allowed() -> bool {
    std::env::var("CNI_NETNS_OVERRIDE").is_ok_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
}

/// Device and inode of the namespace at a path, of whatever kind. Equal numbers prove nothing later on: they are reused at
/// once.
pub fn id(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

fn own() -> Result<File> {
    File::open(OWN).map_err(Error::io(format!("open {OWN}")))
}

fn identity(file: &File) -> Result<(u64, u64)> {
    let meta = file.metadata().map_err(Error::io("stat a network namespace"))?;
    Ok((meta.dev(), meta.ino()))
}

fn refused(path: &Path, allowed: &str) -> Error {
    Error::Netns { path: path.display().to_string(), allowed: allowed.to_owned() }
}

fn unreadable(path: &Path, errno: Errno) -> Error {
    Error::io(format!("open {}", path.display()))(errno.into())
}

/// Reads a sysctl of the thread's current namespace; `key` holds the path below /proc/sys/net, as `["ipv6", "conf",
/// "net1", "disable_ipv6"]`. `Ok(None)` when the kernel has none of that name.
pub fn read_sysctl(key: &[&str]) -> Result<Option<String>> {
    let path = sysctl_path(key)?;
    let mut text = String::new();
    match open_sysctl(&path, OFlag::O_RDONLY).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("read {}", path.display()))(error)),
    }
}

/// Writes a sysctl of the thread's current namespace; an error when the kernel has none of that name.
pub fn write_sysctl(key: &[&str], value: &str) -> Result<()> {
    let path = sysctl_path(key)?;
    let failed = || format!("write {value:?} to {}", path.display());
    // One write: the kernel parses each write as a whole value.
    let mut file = open_sysctl(&path, OFlag::O_WRONLY).map_err(Error::io(failed()))?;
    file.write_all(value.as_bytes()).map_err(Error::io(failed()))
}

/// Opens a setting, that of a link by way of the open directory of all links' settings.
fn open_sysctl(path: &Path, how: OFlag) -> io::Result<File> {
    let flags = how | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open_at = |path: &Path| Ok(File::from(open(path, flags, Mode::empty())?));
    // net/ipv6/conf/LINK/KEY
    let (Some(name), Some(conf)) = (path.file_name(), path.ancestors().nth(2).filter(|dir| dir.ends_with("conf")))
    else {
        return open_at(path);
    };
    DIRECTORIES.with_borrow_mut(|directories| {
        let at = match directories.iter().position(|(path, _)| path == conf) {
            Some(at) => at,
            None => {
                directories.push((conf.to_owned(), File::open(conf)?));
                directories.len() - 1
            }
        };
        let below: PathBuf = path.parent().and_then(Path::file_name).into_iter().chain([name]).collect();
        Ok(File::from(openat(&directories[at].1, &below, flags, Mode::empty())?))
    })
}

/// Components are names, dots inside them included (`eth0.5`): none may lead out of /proc/sys/net.
fn sysctl_path(key: &[&str]) -> Result<PathBuf> {
    let harmless = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains(['/', '\0']);
    if key.is_empty() || !key.iter().all(harmless) {
        let allowed = "names below /proc/sys/net";
        return Err(attachments::finding::Finding::new("sysctl", format_args!("{:?}", key.join("/")), allowed).into());
    }
    Ok(std::iter::once("/proc/sys/net").chain(key.iter().copied()).collect())
}

/// Namespaces for the tests of this crate: they need root and touch nothing of the machine.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Runs a test with a fresh namespace as the "host": on a thread of its own, which ends there.
    pub(crate) fn as_host<T: Send>(test: impl FnOnce() -> T + Send) -> T {
        let run = || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("kernel tests need root");
            test()
        };
        std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A fresh namespace as the "pod", open for as long as the value lives.
    pub(crate) fn pod() -> NetNs {
        as_host(|| NetNs::of(own().expect("own namespace")))
    }

    /// A path by which a namespace can be opened, while the value lives.
    pub(crate) fn path_of(netns: &NetNs) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), netns.file.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{as_host, path_of, pod};
    use super::*;

    #[test]
    fn kernel_a_namespace_is_opened_and_entered_and_left() {
        as_host(|| {
            let pod = pod();
            let found = NetNs::open(&path_of(&pod)).unwrap();
            let home = identity(&own().unwrap()).unwrap();
            let inside = found.enter(|| identity(&own()?)).unwrap();
            assert_eq!(inside, found.identity().unwrap());
            assert_ne!(inside, home);
            assert_eq!(identity(&own().unwrap()).unwrap(), home);
        });
    }

    #[test]
    fn kernel_a_panic_inside_comes_home_first() {
        as_host(|| {
            let pod = pod();
            let home = identity(&own().unwrap()).unwrap();
            let work = || pod.enter(|| -> Result<()> { panic!("on purpose") });
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err());
            assert_eq!(identity(&own().unwrap()).unwrap(), home);
        });
    }

    #[test]
    fn kernel_what_is_no_network_namespace_of_a_pod_is_refused() {
        as_host(|| {
            let directory = tempfile::tempdir().unwrap();
            let fifo = directory.path().join("fifo");
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
            let wrong = ["/etc/passwd", "/tmp", "/proc/self/ns/mnt", "/proc/thread-self/ns/net", "/dev/null"];
            for path in wrong.iter().map(Path::new).chain([fifo.as_path()]) {
                let error = NetNs::find(path).unwrap_err();
                assert!(matches!(error, Error::Netns { .. }), "{}: {error}", path.display());
            }
        });
    }

    #[test]
    fn a_missing_path_is_told_from_a_wrong_one() {
        for path in ["/run/netns/nl-none", "/etc/passwd/x", "/proc/4194305/ns/net", ""] {
            assert!(NetNs::find(Path::new(path)).unwrap().is_none(), "{path}");
            assert!(matches!(NetNs::open(Path::new(path)), Err(Error::Netns { .. })), "{path}");
        }
    }

    #[test]
    fn kernel_sysctls_are_those_of_the_namespace_entered() {
        as_host(|| {
            let pod = pod();
            let key = ["ipv4", "conf", "lo", "arp_notify"];
            pod.enter(|| write_sysctl(&key, "1")).unwrap();
            assert_eq!(pod.enter(|| read_sysctl(&key)).unwrap().as_deref(), Some("1"));
            assert_eq!(read_sysctl(&key).unwrap().as_deref(), Some("0"));
            // Directories stay open from one stay to the next, each where it belongs.
            let other = testing::pod();
            for (value, elsewhere) in [("0", "1"), ("1", "0")] {
                pod.enter(|| write_sysctl(&key, value)).unwrap();
                other.enter(|| write_sysctl(&key, elsewhere)).unwrap();
                let read = |netns: &NetNs| netns.enter(|| read_sysctl(&key)).unwrap().unwrap();
                assert_eq!((read(&pod), read(&other)), (value.to_owned(), elsewhere.to_owned()));
                assert_eq!(read_sysctl(&key).unwrap().as_deref(), Some("0"));
            }
            assert_eq!(read_sysctl(&["ipv4", "conf", "eth0.5", "arp_notify"]).unwrap(), None);
            assert!(write_sysctl(&key, "many").is_err());
        });
    }

    #[test]
    fn a_sysctl_never_leads_out_of_proc_sys_net() {
        let bad: [&[&str]; 6] = [&[], &[""], &["ipv4", ".."], &["ipv4", "."], &["ipv4/../../kernel"], &["a\0b"]];
        for key in bad {
            assert!(matches!(read_sysctl(key), Err(Error::Config(_))), "{key:?}");
        }
    }
}
