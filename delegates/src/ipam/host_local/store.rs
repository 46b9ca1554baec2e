//! The directory of one network, in the layout of the reference plugin, so that both may work on it by turns.
//!
//! - `<address>`: who holds it, `<containerID>\r\n<ifname>`, mode 0600, made exclusively;
//! - `last_reserved_ip.<set>`: the address that the set gave last, mode 0600, never removed;
//! - `lock`: empty, mode 0750; whoever holds its `flock` may write.
//!
//! A file is made and then filled, both under the lock. An address file that is empty when the lock is taken was left by
//! a process that was killed, or by a power cut, in between: nobody holds the address, and the file is removed.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

use attachments::names::{ContainerId, IfName};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::read;

use crate::claims::{Claims, Owner as Claimant};
use crate::error::{Error, Result};

/// Longest content that is read; identifiers of containers have 64 characters.
const CONTENT_MAX: usize = 4096;

/// The directory of one network with its lock held until this is dropped.
pub struct Store {
    dir: PathBuf,
    _lock: Flock<File>,
}

/// Who holds an address.
#[derive(Clone, Debug)]
pub struct Owner {
    content: String,
    container: usize,
}

/// What the directory says.
#[derive(Debug, Default)]
pub struct Held {
    /// Every address that somebody holds.
    pub taken: HashSet<IpAddr>,
    /// The addresses of the owner that was asked for, files of the old format included.
    pub own: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Match {
    /// Container and interface.
    Exact,
    /// A file of the oldest versions, which holds the container alone.
    Container,
    No,
}

impl Owner {
    /// One interface of one container.
    pub fn new(container: &ContainerId, ifname: &IfName) -> Self {
        Self { content: format!("{container}\r\n{ifname}"), container: container.as_str().len() }
    }

    fn matches(&self, content: &[u8]) -> Match {
        let whole = self.content.as_bytes();
        match content.trim_ascii() {
            content if content == whole => Match::Exact,
            content if content == &whole[..self.container] => Match::Container,
            _ => Match::No,
        }
    }
}

impl Store {
    /// Opens the directory of a network, made with mode 0755 if need be, and waits for its lock until the deadline.
    pub fn create(dir: &Path, deadline: Instant) -> Result<Self> {
        if let Some(store) = Self::open(dir, deadline)? {
            return Ok(store);
        }
        let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
        made.map_err(Error::io(format!("create directory {}", dir.display())))?;
        let removed = || std::io::Error::from(ErrorKind::NotFound);
        Self::open(dir, deadline)?.ok_or_else(|| Error::io(format!("open directory {}", dir.display()))(removed()))
    }

    /// Opens the directory of a network if there is one.
    pub fn open(dir: &Path, deadline: Instant) -> Result<Option<Self>> {
        let path = dir.join("lock");
        let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC;
        let file = match open(&path, flags, Mode::from_bits_truncate(0o750)) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(Error::io(format!("open {}", path.display()))(errno.into())),
        };
        let lock = locked(file, &path, deadline)?;
        Ok(Some(Self { dir: dir.to_owned(), _lock: lock }))
    }

    /// Reads who holds what, and removes what a killed process left behind.
    pub fn survey(&self, owner: Option<&Owner>) -> Result<Held> {
        let mut held = Held::default();
        self.walk(|file| {
            let address = file.address();
            if address.is_some() && file.is_leftover() {
                return file.remove();
            }
            if let Some(address) = address {
                if owner.is_some_and(|owner| file.owner(owner) != Match::No) {
                    held.own.push(address);
                }
                if file.top {
                    held.taken.insert(address);
                }
            }
            Ok(())
        })?;
        Ok(held)
    }

    /// Takes an address for an owner; false when somebody holds it. `set` is the index of the range set.
    pub fn reserve(&self, address: IpAddr, owner: &Owner, set: usize) -> Result<bool> {
        let path = self.dir.join(address.to_string());
        let op = || format!("reserve address in {}", path.display());
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(e) => return Err(Error::io(op())(e)),
        };
        let written = file.write_all(owner.content.as_bytes()).map_err(Error::io(op()));
        written.and_then(|()| self.remember(address, set)).inspect_err(|_| drop(fs::remove_file(&path)))?;
        Ok(true)
    }

    /// Gives one address back that this call has taken.
    pub fn remove(&self, address: IpAddr) -> Result<()> {
        remove(&self.dir.join(address.to_string()))
    }

    /// The address that a range set gave last, if that is known.
    pub fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let text = fs::read_to_string(self.last_reserved_path(set)).ok()?;
        text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
    }

    /// Removes every address of an owner; only where there is none, those of its container in the old format.
    pub fn release(&self, owner: &Owner) -> Result<()> {
        let mut exact = false;
        let mut old = Vec::new();
        self.walk(|file| match file.owner(owner) {
            Match::Exact => {
                exact = true;
                file.remove()
            }
            Match::Container => {
                old.push(file.path());
                Ok(())
            }
            Match::No if file.address().is_some() && file.is_leftover() => file.remove(),
            Match::No => Ok(()),
        })?;
        if !exact {
            old.iter().try_for_each(|path| remove(path))?;
        }
        Ok(())
    }

    /// Removes the addresses of containers that are gone, and tells of those of strangers. Directories inside may be those
    /// of another network and are left alone. Goes on after a failure and reports the first.
    pub fn sweep(&self, claims: &Claims<'_>) -> Result<Vec<String>> {
        let mut strangers = Vec::new();
        self.walk(|file| {
            if !file.top || file.address().is_none() {
                return Ok(());
            }
            if file.is_leftover() {
                return file.remove();
            }
            let content = String::from_utf8_lossy(file.content.trim_ascii());
            match claims.owner_of(content.lines().next().unwrap_or_default()) {
                Claimant::Living => Ok(()),
                Claimant::Departed => file.remove(),
                Claimant::Stranger => {
                    let owner: Vec<&str> = content.lines().collect();
                    strangers.push(format!("address {} of {}", file.path().display(), owner.join(" ")));
                    Ok(())
                }
            }
        })?;
        Ok(strangers)
    }

    /// Overwritten in place: truncating first would lose the round robin of a process that is killed in between.
    fn remember(&self, address: IpAddr, set: usize) -> Result<()> {
        let path = self.last_reserved_path(set);
        let text = address.to_string();
        let write = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            file.write_all_at(text.as_bytes(), 0)?;
            file.set_len(text.len() as u64)
        };
        write().map_err(Error::io(format!("write {}", path.display())))
    }

    fn last_reserved_path(&self, set: usize) -> PathBuf {
        self.dir.join(format!("last_reserved_ip.{set}"))
    }

    /// Shows every regular file below the directory. All are visited; the first failure is reported.
    fn walk(&self, mut visit: impl FnMut(&Entry<'_>) -> Result<()>) -> Result<()> {
        let mut content = [0; CONTENT_MAX];
        let mut outcome = Ok(());
        let mut dirs = vec![self.dir.clone()];
        while let Some(dir) = dirs.pop() {
            let op = format!("read directory {}", dir.display());
            let top = dir == self.dir;
            let handle = File::open(&dir).map_err(Error::io(op.as_str()))?;
            for entry in fs::read_dir(&dir).map_err(Error::io(op.as_str()))? {
                let entry = entry.map_err(Error::io(op.as_str()))?;
                let kind = entry.file_type().map_err(Error::io(op.as_str()))?;
                let name = entry.file_name();
                if kind.is_dir() {
                    dirs.push(dir.join(&name));
                }
                if !kind.is_file() || (top && is_bookkeeping(&name)) {
                    continue;
                }
                // What cannot be read is nobody's, as for the reference plugin.
                let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
                let Ok(file) = openat(&handle, name.as_os_str(), flags, Mode::empty()) else { continue };
                let Ok(length) = read(&file, &mut content) else { continue };
                let seen = Entry { dir: &dir, name: name.to_str().unwrap_or(""), top, content: &content[..length] };
                outcome = outcome.and(visit(&seen));
            }
        }
        outcome
    }
}

/// A file that says nothing of an owner.
fn is_bookkeeping(name: &OsStr) -> bool {
    name == "lock" || name.as_encoded_bytes().starts_with(b"last_reserved_ip.")
}

/// One file of the directory.
struct Entry<'a> {
    dir: &'a Path,
    name: &'a str,
    /// It is in the directory itself, not further down.
    top: bool,
    content: &'a [u8],
}

impl Entry<'_> {
    /// The address that it is named by.
    fn address(&self) -> Option<IpAddr> {
        self.name.parse().ok()
    }

    fn owner(&self, owner: &Owner) -> Match {
        owner.matches(self.content)
    }

    /// Nothing but zeros is what some file systems show after a power cut.
    fn is_leftover(&self) -> bool {
        self.content.iter().all(|byte| *byte == 0)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(self.name)
    }

    fn remove(&self) -> Result<()> {
        remove(&self.path())
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(format!("remove {}", path.display()))(e)),
        _ => Ok(()),
    }
}

/// Takes the lock at once or, while another process has it, until the deadline.
fn locked(file: File, path: &Path, deadline: Instant) -> Result<Flock<File>> {
    let failed = |errno: Errno| Error::io(format!("lock {}", path.display()))(errno.into());
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((file, Errno::EWOULDBLOCK)) => file,
        Err((_, errno)) => return Err(failed(errno)),
    };
    // flock knows no timeout. A waiting thread costs nothing until it wakes, and keeps our place in the kernel's queue,
    // which polling would not; if it gets the lock after we have given up, it drops the lock again.
    let (sender, receiver) = mpsc::channel();
    let wait = move || {
        let _ = sender.send(Flock::lock(file, FlockArg::LockExclusive));
    };
    let started = std::thread::Builder::new().stack_size(64 << 10).spawn(wait);
    started.map_err(Error::io(format!("wait for {}", path.display())))?;
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Ok(lock)) => Ok(lock),
        Ok(Err((_, errno))) => Err(failed(errno)),
        Err(_) => Err(Error::Late(format!("waiting for the lock {}", path.display()))),
    }
}
