//! The sandbox lock: one call at a time per container id (C39).
//!
//! An exclusive flock on a file of its own. Delegates inherit the descriptor, so a delegate that outlives a killed plugin
//! keeps its sandbox locked. The file goes with the lock; whoever waited for a file that is gone starts again.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use attachments::names::ContainerId;

use crate::fault::{Fault, Result};

/// A held lock. Dropping it removes the file and unlocks.
#[derive(Debug)]
pub struct SandboxLock {
    file: File,
    path: PathBuf,
}

impl SandboxLock {
    /// Takes the lock, waiting until `deadline` for another call or for an orphaned delegate.
    pub fn acquire(directory: &Path, container: &ContainerId, deadline: Instant) -> Result<Self> {
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(lock) = Self::try_acquire(directory, container)? {
                return Ok(lock);
            }
            if Instant::now() + pause > deadline {
                return Err(Fault::TryLater(format!(
                    "sandbox {container}: another call, or a delegate that it left running, still holds the sandbox"
                )));
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Takes the lock if nobody holds it.
    pub fn try_acquire(directory: &Path, container: &ContainerId) -> Result<Option<Self>> {
        let path = directory.join(container.as_str());
        let failed = |e: io::Error| Fault::Io(format!("cannot lock sandbox {container} at {}: {e}", path.display()));
        loop {
            let file = open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            // The holder before us removed its file: a lock on a file without a name protects nothing.
            if is_at(&file, &path).map_err(failed)? {
                return Ok(Some(Self { file, path }));
            }
        }
    }

    /// Removes the files of calls that were killed and whose sandbox nobody asked about again.
    pub fn sweep(directory: &Path) {
        // What cannot be listed or locked now is for the next time.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if let Some(container) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                drop(Self::try_acquire(directory, &container));
            }
        }
    }

    /// The descriptor that delegates inherit.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SandboxLock {
    fn drop(&mut self) {
        // Removed while it is held; if that fails the next holder removes it.
        let _ = fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    match options.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            options.open(path)
        }
        other => other,
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[test]
    fn a_second_caller_waits_until_its_deadline_and_is_told_to_try_later() {
        let dir = tempfile::tempdir().unwrap();
        let id: ContainerId = "c1".parse().unwrap();
        let held = SandboxLock::acquire(dir.path(), &id, soon()).unwrap();
        assert_eq!(SandboxLock::acquire(dir.path(), &id, soon()).unwrap_err().code(), 11);
        assert!(SandboxLock::try_acquire(dir.path(), &"c2".parse().unwrap()).unwrap().is_some());
        drop(held);
        assert!(SandboxLock::acquire(dir.path(), &id, soon()).is_ok());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no lock file stays behind");
    }

    #[test]
    fn waiters_of_a_removed_file_never_share_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let id: ContainerId = "c1".parse().unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let late = Instant::now() + Duration::from_secs(20);
                        let lock = SandboxLock::acquire(dir.path(), &id, late).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
