//! A lock that any number of processes agree on: a file that is there only while somebody holds or awaits it.
//!
//! It is a flock, which belongs to the open file and not to a process: children that inherit the descriptor hold it too.
//! Who is done removes the file while it still holds it, and what a child of good order still has open is then a file
//! that nobody asks for. A child that was given up is another matter ([`Lock::leave_to_orphans`]).

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};
use crate::poll::PollTimer;

/// Directory of locks below `stateDir`. What a killed holder left there is swept by GC and replay.
pub const DIR: &str = "locks";

/// Held until it is dropped. The kernel gives it up for a process that dies; the file is then removed by the next holder.
#[derive(Debug)]
pub struct Lock {
    /// Its own file; nothing for a lock on something that is there for another purpose.
    path: Option<PathBuf>,
    file: File,
    has_orphans: AtomicBool,
}

impl Lock {
    /// Takes the lock at `path`. [`Error::Late`] when another holds it until the deadline.
    pub fn take(path: &Path, deadline: Instant) -> Result<Self> {
        wait(path, deadline, || Self::try_take(path))
    }

    /// Takes the lock if nobody holds it.
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        loop {
            let file = open_or_create(path)?;
            if !is_locked(&file, path)? {
                return Ok(None);
            }
            // Who held it removed the file: whoever comes next opens another one, and this lock would exclude nobody.
            if is_at(&file, path)? {
                return Ok(Some(Self { path: Some(path.to_owned()), file, has_orphans: AtomicBool::new(false) }));
            }
        }
    }

    /// Takes the lock at `path`. Where a file for it can be neither found nor made (a disk that is full, out of inodes or
    /// read-only), the first of `substitutes` that is there, file or directory, is locked in its place: an undo must not wait
    /// for room on a disk. Two that find the disk so exclude each other.
    pub fn take_for_undo<'a>(
        path: &Path,
        substitutes: impl IntoIterator<Item = &'a Path>,
        deadline: Instant,
    ) -> Result<Self> {
        let refused = match Self::take(path, deadline) {
            Err(refused @ Error::Io { .. }) => refused,
            other => return other,
        };
        let mut found = substitutes.into_iter().filter_map(|path| Some((path, File::open(path).ok()?)));
        let Some((substitute, file)) = found.next() else { return Err(refused) };
        wait(substitute, deadline, || is_locked(&file, substitute).map(|is_ours| is_ours.then_some(())))?;
        Ok(Self { path: None, file, has_orphans: AtomicBool::new(false) })
    }

    /// A child that inherited the descriptor was given up, and what it started may still be at work: it is theirs too for as
    /// long as one of them lives.
    pub fn leave_to_orphans(&self) {
        self.has_orphans.store(true, Ordering::Relaxed);
    }
}

impl AsFd for Lock {
    /// A child that inherits the descriptor holds the lock with us, and after us.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.has_orphans.load(Ordering::Relaxed) {
            // Removed while it is held: what is at the path is this very file.
            let removed = self.path.as_ref().is_some_and(|path| fs::remove_file(path).is_ok());
            if !removed {
                let _ = self.file.unlock();
            }
            return;
        }
        // Ours is closed, not unlocked: unlocking would take it from the orphans too. A second open file tells whether
        // there are any, and who gets the lock on it may remove the file.
        let Some(path) = &self.path else { return };
        let Ok(second) = File::open(path) else { return };
        drop(std::mem::replace(&mut self.file, second));
        if self.file.try_lock().is_ok() && is_at(&self.file, path).unwrap_or_default() {
            let _ = fs::remove_file(path);
        }
    }
}

/// Locks a file that holds data, and that may be replaced by another one meanwhile: what is locked in the end is what is at the path.
/// `None` when `open` opens nothing. Closing the file unlocks it.
pub fn lock_data(path: &Path, deadline: Instant, open: impl Fn() -> Result<Option<File>>) -> Result<Option<File>> {
    wait(path, deadline, || {
        loop {
            let Some(file) = open()? else { return Ok(Some(None)) };
            if !is_locked(&file, path)? {
                return Ok(None);
            }
            if is_at(&file, path)? {
                return Ok(Some(Some(file)));
            }
        }
    })
}

/// Tries again until the deadline.
fn wait<T>(path: &Path, deadline: Instant, attempt: impl Fn() -> Result<Option<T>>) -> Result<T> {
    let mut timer = PollTimer::until(deadline);
    loop {
        if let Some(taken) = attempt()? {
            return Ok(taken);
        }
        if !timer.pause() {
            return Err(Error::Late(format!("waiting for the lock {}", path.display())));
        }
    }
}

/// Locks an open file if nobody else holds it.
fn is_locked(file: &File, path: &Path) -> Result<bool> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(Error::io(format!("lock {}", path.display()))(error)),
        }
    }
}

/// For reading: so a file that is there opens on a read-only disk too.
fn open_or_create(path: &Path) -> Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    let open = || open(path, flags, Mode::from_bits_truncate(0o600)).map(File::from);
    let opened = match (open(), path.parent()) {
        (Err(Errno::ENOENT), Some(parent)) => fs::create_dir_all(parent).and_then(|()| open().map_err(Into::into)),
        (other, _) => other.map_err(Into::into),
    };
    opened.map_err(Error::io(format!("open {}", path.display())))
}

fn is_at(file: &File, path: &Path) -> Result<bool> {
    let failed = || format!("stat {}", path.display());
    let held = file.metadata().map_err(Error::io(failed()))?;
    match fs::metadata(path) {
        Ok(there) => Ok((held.dev(), held.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(failed())(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn one_at_a_time_holds_it_and_no_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _held = Lock::take(&state.join("a"), soon()).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                        thread::sleep(Duration::from_micros(100));
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let _held = Lock::take(&dir.path().join("a"), soon()).unwrap();
        let refused = Lock::take(&dir.path().join("a"), Instant::now() + Duration::from_millis(30));
        assert!(matches!(refused, Err(Error::Late(_))));
        assert!(Lock::take(&dir.path().join("b"), soon()).is_ok(), "another name is another lock");
    }

    /// A process that has the descriptor of a lock, as an orphan of ours has it.
    fn orphan(lock: &Lock) -> File {
        File::from(lock.as_fd().try_clone_to_owned().unwrap())
    }

    #[test]
    fn what_a_child_of_good_order_keeps_open_locks_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let held = Lock::take(&path, soon()).unwrap();
        let _daemon = orphan(&held);
        drop(held);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(Lock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_that_is_left_to_orphans_is_held_until_the_last_one_ends_and_its_file_goes_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let held = Lock::take(&path, soon()).unwrap();
        let (one, other) = (orphan(&held), orphan(&held));
        held.leave_to_orphans();
        drop(held);
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop(one);
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop(other);
        drop(Lock::try_take(&path).unwrap().unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        // Most that are given up die at once: no file waits for a next one then.
        let held = Lock::take(&path, soon()).unwrap();
        held.leave_to_orphans();
        drop(held);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn where_no_file_can_be_made_the_first_thing_that_is_there_is_locked_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (record, gone) = (dir.path().join("record"), dir.path().join("gone"));
        fs::write(&record, "x").unwrap();
        // Below a file no file can be made, whoever asks.
        let path = record.join("locks/c1");
        let substitutes = [gone.as_path(), &record, dir.path()];
        let held = Lock::take_for_undo(&path, substitutes, soon()).unwrap();
        let late = Lock::take_for_undo(&path, substitutes, Instant::now() + Duration::from_millis(30));
        assert!(matches!(late, Err(Error::Late(_))));
        drop(held);
        assert!(Lock::take_for_undo(&path, substitutes, soon()).is_ok());
        assert_eq!(fs::read_to_string(&record).unwrap(), "x");
        assert!(matches!(Lock::take_for_undo(&path, [gone.as_path()], soon()), Err(Error::Io { .. })));
    }
}
