//! Wakes the reconciler on changes in the directories that it reads.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use crate::error::{Error, Result};

/// Watched directories (inotify(7)).
#[derive(Debug)]
pub struct DirectoryWatch(AsyncFd<Descriptor>);

#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl DirectoryWatch {
    /// A watch without directories.
    pub fn new() -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| Error::Io(format!("cannot watch directories: {e}"));
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(|e| failed(&e))?;
        #[expect(deprecated, reason = "its successor is unsafe; ours owns its descriptor and never replaces it")]
        let registered = AsyncFd::new(Descriptor(inotify));
        registered.map(Self).map_err(|e| failed(&e))
    }

    /// Watches a directory. Called again and again: it has no effect on a watched directory, and finds a replaced one. False when
    /// the directory does not exist.
    pub fn over(&self, dir: &Path) -> bool {
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        self.0.get_ref().0.add_watch(dir, events).is_ok()
    }

    /// Returns when something changed since the last call. The events are not kept: the caller reads everything anew.
    pub async fn event(&self) {
        let Ok(mut ready) = self.0.readable().await else { return std::future::pending().await };
        while self.0.get_ref().0.read_events().is_ok_and(|events| !events.is_empty()) {}
        ready.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_change_wakes_and_quiet_does_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let watch = DirectoryWatch::new().unwrap();
            assert!(watch.over(dir.path()) && watch.over(dir.path()) && !watch.over(&dir.path().join("none")));
            for change in 0..2 {
                std::fs::write(dir.path().join("a"), format!("{change}")).unwrap();
                timeout(Duration::from_secs(10), watch.event()).await.unwrap();
            }
            std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
            timeout(Duration::from_secs(10), watch.event()).await.unwrap();
            assert!(timeout(Duration::from_millis(50), watch.event()).await.is_err());
        });
    }
}
