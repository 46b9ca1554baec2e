//! A lock that any number of processes agree on: a file that is there only while somebody holds or awaits it.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::apply::Patience;
use crate::error::{Error, Result};

/// Directory of locks below `stateDir`. What a killed holder left there is swept by GC and replay.
pub const DIR: &str = "locks";

/// Held until it is dropped. The kernel gives it up for a process that dies; the file is then removed by the next holder.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    /// Takes the lock at `path`. [`Error::Late`] when another holds it until the deadline.
    pub fn take(path: &Path, deadline: Instant) -> Result<Self> {
        let mut patience = Patience::until(deadline);
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(lock);
            }
            if !patience.pause() {
                return Err(Error::Late(format!("waiting for the lock {}", path.display())));
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        loop {
            match Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) {
                // Who held it removed the file: whoever comes next opens another one, and this lock would exclude nobody.
                Ok(file) if is_at(&file, path)? => return Ok(Some(Self { path: path.to_owned(), file })),
                Ok(_) | Err((_, Errno::EINTR)) => {}
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(Error::io(format!("lock {}", path.display()))(errno.into())),
            }
        }
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
        // Removed while it is held: what is at the path is this very file.
        let _ = fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> Result<File> {
    let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let opened = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| open())
        }
        other => other,
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
}
