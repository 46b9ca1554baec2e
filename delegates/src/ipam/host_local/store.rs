//! The directory of one network, in the layout of the reference plugin, so that both may work on it by turns.
//!
//! - `<address>`: who holds it, `<containerID>\r\n<ifname>`, mode 0600, made exclusively;
//! - `last_reserved_ip.<set>`: the address that the set gave last, mode 0600, never removed;
//! - `lock`: empty, mode 0750; whoever holds its `flock` may write.
//!
//! A file is made and then filled, both under the lock. An address file that is empty when the lock is taken was left by
//! a process that was killed, or by a power cut, in between: nobody holds the address, and the file is removed.
//!
//! A call that knows which addresses it is about opens their files and no others: a full node has hundreds of them. The whole
//! directory is read only where nothing says which they are, and where a set seems to be exhausted.
//!
//! Anything else may lie in the directory, for tenants choose where it is: only plain files that are named as an address
//! are looked at, no directory is entered and no symbolic link followed.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

use attachments::names::{ContainerId, IfName};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, read, unlinkat};

use crate::error::{Error, Result};
use crate::ownership::{Owner as Claimant, Ownership};

/// Longest content that is read; identifiers of containers have 64 characters.
const CONTENT_MAX: usize = 4096;

/// The directory of one network with its lock held until this is dropped.
pub struct Store {
    /// Its path, for messages.
    dir: PathBuf,
    /// The directory itself: whatever becomes of the path, its files are these.
    handle: File,
    deadline: Instant,
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
    pub own: HashSet<IpAddr>,
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
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let handle = match open(dir, flags, Mode::empty()) {
            Ok(handle) => File::from(handle),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(Error::io(format!("open directory {}", dir.display()))(errno.into())),
        };
        let path = dir.join(LOCK);
        let file = match openat(&handle, LOCK, plain(OFlag::O_RDONLY | OFlag::O_CREAT), Mode::from_bits_truncate(0o750))
        {
            Ok(file) => File::from(file),
            // Removed while it was opened.
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(Error::io(format!("open {}", path.display()))(errno.into())),
        };
        let lock = locked(file, &path, deadline)?;
        Ok(Some(Self { dir: dir.to_owned(), handle, deadline, _lock: lock }))
    }

    /// Reads who holds what, and removes what a killed process left behind.
    pub fn survey(&self, owner: Option<&Owner>) -> Result<Held> {
        let mut held = Held::default();
        self.walk(|file| {
            if file.is_leftover() {
                return self.remove_file(file.name);
            }
            if owner.is_some_and(|owner| owner.matches(file.content) != Match::No) {
                held.own.insert(file.address);
            }
            held.taken.insert(file.address);
            Ok(())
        })?;
        Ok(held)
    }

    /// Every address that has a file, by the names in the directory alone.
    pub fn names(&self) -> Result<HashSet<IpAddr>> {
        let failed = || Error::io(format!("read directory {}", self.dir.display()));
        let entries = fs::read_dir(&self.dir).map_err(failed())?;
        let named = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(named.collect())
    }

    /// Takes an address for an owner; false when somebody holds it. `set` is the index of the range set.
    pub fn reserve(&self, address: IpAddr, owner: &Owner, set: usize) -> Result<bool> {
        let name = address.to_string();
        let op = || format!("reserve address in {}", self.dir.join(&name).display());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let make = || openat(&self.handle, name.as_str(), flags, Mode::from_bits_truncate(0o600));
        let made = match make() {
            // Whoever has the lock may clear away what nobody holds.
            Err(Errno::EEXIST) if self.read(&name, &mut [0; CONTENT_MAX]).is_some_and(is_leftover) => {
                self.remove_file(&name)?;
                make()
            }
            made => made,
        };
        let mut file = match made {
            Ok(file) => File::from(file),
            Err(Errno::EEXIST) => return Ok(false),
            Err(errno) => return Err(Error::io(op())(errno.into())),
        };
        let written = file.write_all(owner.content.as_bytes()).map_err(Error::io(op()));
        written.and_then(|()| self.remember(address, set)).inspect_err(|_| drop(self.remove(address)))?;
        Ok(true)
    }

    /// Gives one address back.
    pub fn remove(&self, address: IpAddr) -> Result<()> {
        self.remove_file(&address.to_string())
    }

    /// Does a file say that somebody holds the address? Where it cannot be known, yes.
    pub fn holds(dir: &File, address: IpAddr) -> bool {
        match fstatat(dir, address.to_string().as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat.st_size > 0,
            Err(errno) => errno != Errno::ENOENT,
        }
    }

    /// Can the address be given? Asked without the files of others.
    pub fn is_free(&self, address: IpAddr) -> bool {
        !Self::holds(&self.handle, address)
    }

    /// Is the address the owner's, by a file of the old format too?
    pub fn is_held_by(&self, address: IpAddr, owner: &Owner) -> bool {
        self.match_of(&address.to_string(), owner) != Match::No
    }

    fn match_of(&self, name: &str, owner: &Owner) -> Match {
        self.read(name, &mut [0; CONTENT_MAX]).map_or(Match::No, |content| owner.matches(content))
    }

    /// Removes those of some addresses that are the owner's, and counts them. Files of the old format stay.
    pub fn release_known(&self, owner: &Owner, addresses: impl Iterator<Item = IpAddr>) -> Result<usize> {
        let mut released = 0;
        for address in addresses {
            let name = address.to_string();
            if self.match_of(&name, owner) == Match::Exact {
                self.remove_file(&name)?;
                released += 1;
            }
        }
        Ok(released)
    }

    /// The address that a range set gave last, if that is known.
    pub fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let file = openat(&self.handle, last_reserved(set).as_str(), plain(OFlag::O_RDONLY), Mode::empty()).ok()?;
        let mut content = [0; 64];
        let length = read(&file, &mut content).ok()?;
        let text = std::str::from_utf8(&content[..length]).ok()?;
        text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
    }

    /// Removes every address of an owner; only where there is none, those of its container in the old format.
    pub fn release(&self, owner: &Owner) -> Result<()> {
        let mut exact = false;
        let mut old = Vec::new();
        self.walk(|file| match owner.matches(file.content) {
            Match::Exact => {
                exact = true;
                self.remove_file(file.name)
            }
            Match::Container => {
                old.push(file.name.to_owned());
                Ok(())
            }
            Match::No if file.is_leftover() => self.remove_file(file.name),
            Match::No => Ok(()),
        })?;
        if !exact {
            old.iter().try_for_each(|name| self.remove_file(name))?;
        }
        Ok(())
    }

    /// Removes the addresses of containers that are gone, and lists those of unknown containers. Goes on after a failure and
    /// reports the first.
    pub fn sweep(&self, ownership: &Ownership<'_>) -> Result<Vec<String>> {
        let mut strangers = Vec::new();
        self.walk(|file| {
            if file.is_leftover() {
                return self.remove_file(file.name);
            }
            let content = String::from_utf8_lossy(file.content.trim_ascii());
            match ownership.owner_of(content.lines().next().unwrap_or_default()) {
                Claimant::Living => Ok(()),
                Claimant::Departed => self.remove_file(file.name),
                Claimant::Unknown => {
                    let owner: Vec<&str> = content.lines().collect();
                    let path = self.dir.join(file.name);
                    strangers.push(format!("address {} of {}", path.display(), owner.join(" ")));
                    Ok(())
                }
            }
        })?;
        Ok(strangers)
    }

    /// Overwritten in place: truncating first would lose the round robin of a process that is killed in between.
    fn remember(&self, address: IpAddr, set: usize) -> Result<()> {
        let name = last_reserved(set);
        let text = address.to_string();
        let write = || {
            let flags = plain(OFlag::O_WRONLY | OFlag::O_CREAT);
            let file = File::from(openat(&self.handle, name.as_str(), flags, Mode::from_bits_truncate(0o600))?);
            file.write_all_at(text.as_bytes(), 0)?;
            file.set_len(text.len() as u64)
        };
        write().map_err(Error::io(format!("write {}", self.dir.join(&name).display())))
    }

    /// Shows every plain file whose name is an address. All are visited; the first failure is reported.
    fn walk(&self, mut visit: impl FnMut(&Entry<'_>) -> Result<()>) -> Result<()> {
        let mut content = [0; CONTENT_MAX];
        let mut outcome = Ok(());
        let op = || format!("read directory {}", self.dir.display());
        // By its path, for want of better: a name that is not in our directory opens nothing.
        for entry in fs::read_dir(&self.dir).map_err(Error::io(op()))? {
            if Instant::now() >= self.deadline {
                return Err(Error::Late(op()));
            }
            let entry = entry.map_err(Error::io(op()))?;
            let name = entry.file_name();
            let Some((name, address)) = name.to_str().and_then(|name| Some((name, name.parse().ok()?))) else {
                continue;
            };
            // What is no plain file, or cannot be read, is nobody's.
            if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            let Some(content) = self.read(name, &mut content) else { continue };
            outcome = outcome.and(visit(&Entry { name, address, content }));
        }
        outcome
    }

    /// What a plain file of the directory holds; `None` for anything else, and where it cannot be read.
    fn read<'b>(&self, name: &str, content: &'b mut [u8]) -> Option<&'b [u8]> {
        let file = openat(&self.handle, name, plain(OFlag::O_RDONLY), Mode::empty()).ok()?;
        let mode = SFlag::from_bits_truncate(fstat(&file).ok()?.st_mode);
        if mode & SFlag::S_IFMT != SFlag::S_IFREG {
            return None;
        }
        let length = read(&file, content).ok()?;
        content.get(..length)
    }

    fn remove_file(&self, name: &str) -> Result<()> {
        match unlinkat(&self.handle, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::io(format!("remove {}", self.dir.join(name).display()))(errno.into())),
        }
    }
}

/// The file whose lock guards a directory.
const LOCK: &str = "lock";

/// How a file of the directory is opened: never by a link, and never waiting for what is no plain file.
fn plain(how: OFlag) -> OFlag {
    how | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK
}

fn last_reserved(set: usize) -> String {
    format!("last_reserved_ip.{set}")
}

/// Is it the directory of a network? Every program of this layout makes its lock first.
pub fn is_one(dir: &Path) -> bool {
    fs::symlink_metadata(dir.join(LOCK)).is_ok_and(|meta| meta.is_file())
}

/// A plain file that is named as an address.
struct Entry<'a> {
    name: &'a str,
    address: IpAddr,
    content: &'a [u8],
}

impl Entry<'_> {
    fn is_leftover(&self) -> bool {
        is_leftover(self.content)
    }
}

/// Nothing but zeros is what some file systems show after a power cut.
fn is_leftover(content: &[u8]) -> bool {
    content.iter().all(|byte| *byte == 0)
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
