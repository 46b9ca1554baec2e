//! The sandbox lock: one call at a time per container id (C39).
//!
//! An exclusive flock on a file of its own. Delegates inherit the descriptor, so a delegate that outlives a killed plugin,
//! or its own deadline, keeps its sandbox locked. The file is removed with the lock; a waiter whose file is gone opens a new
//! one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use attachments::names::ContainerId;
use delegates::error::Error;
use delegates::lock::Lock as FileLock;

use super::record::Key;
use super::store::Store;
use crate::fault::{Fault, Result};

/// A held lock. Dropping it removes the file and unlocks.
#[derive(Debug)]
pub struct SandboxLock(FileLock);

impl SandboxLock {
    /// Takes the lock, waiting until `deadline` for another call or for an orphaned delegate.
    pub fn acquire(directory: &Path, container: &ContainerId, deadline: Instant) -> Result<Self> {
        let taken = FileLock::take(&directory.join(container.as_str()), deadline);
        taken.map(Self).map_err(|error| fault(container, error))
    }

    /// Takes the lock for a DEL, which must work on a full or read-only disk. Where no lock file can be created, the record is
    /// locked, or the first of its directories that exists. `stateDir` itself is not used: the same DEL may need it for the lock
    /// of an overlay.
    pub fn acquire_for_undo(store: &Store, key: &Key, deadline: Instant) -> Result<Self> {
        let places = store.places(key);
        let taken = FileLock::take_for_undo(
            &store.locks().join(key.container.as_str()),
            places.iter().map(PathBuf::as_path),
            deadline,
        );
        taken.map(Self).map_err(|error| fault(&key.container, error))
    }

    /// Takes the lock if nobody holds it.
    pub fn try_acquire(directory: &Path, container: &ContainerId) -> Result<Option<Self>> {
        let taken = FileLock::try_take(&directory.join(container.as_str()));
        taken.map(|lock| lock.map(Self)).map_err(|error| fault(container, error))
    }

    /// Removes the lock files that killed calls left.
    pub fn sweep(directory: &Path) {
        // A file that cannot be listed or locked stays for the next sweep.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if let Some(container) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                drop(Self::try_acquire(directory, &container));
            }
        }
    }

    /// The lock as delegates inherit it.
    pub fn file(&self) -> &FileLock {
        &self.0
    }
}

fn fault(container: &ContainerId, error: Error) -> Fault {
    match error {
        Error::Late(_) => Fault::TryLater(format!(
            "sandbox {container}: another call, or a delegate that it left running, still holds the sandbox"
        )),
        other => Fault::Io(format!("cannot lock sandbox {container}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
