//! The container ids of deleted records. GC removes the leftovers of these containers and of no others.
//!
//! Deleting a record appends its key to `departed`, one line, never synced: after a power cut GC lists a leftover of a
//! forgotten id instead of removing it. A full file replaces `departed.old`, so the last one to two thousand ids are kept.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use attachments::names::ContainerId;

use super::record::Key;

/// Bytes of one file: a thousand lines with ids of 64 characters.
const FULL: u64 = 96 << 10;

/// The ids of a state directory.
#[derive(Debug)]
pub struct Tombstones {
    recent: PathBuf,
    older: PathBuf,
}

impl Tombstones {
    /// The tombstones of the store in a directory.
    pub fn of(dir: &Path) -> Self {
        Self { recent: dir.join("departed"), older: dir.join("departed.old") }
    }

    /// Adds an attachment set that is undone completely.
    pub fn add(&self, key: &Key) -> io::Result<()> {
        // One write with O_APPEND: lines of several processes do not mix.
        let mut file = File::options().append(true).create(true).open(&self.recent)?;
        file.write_all(format!("{}\n", line(key)).as_bytes())?;
        if file.metadata()?.len() >= FULL {
            // Of two processes that do this at once the second may lose the older half.
            fs::rename(&self.recent, &self.older)?;
        }
        Ok(())
    }

    /// Is this very set undone? Runtimes repeat a DEL that succeeded.
    pub fn contains(&self, key: &Key) -> bool {
        let wanted = line(key);
        let mut files = [&self.recent, &self.older].into_iter().filter_map(|path| fs::read_to_string(path).ok());
        files.any(|text| text.lines().any(|line| line == wanted))
    }

    /// Every container id that is kept.
    pub fn containers(&self) -> HashSet<ContainerId> {
        let files = [&self.older, &self.recent].map(|path| fs::read_to_string(path).unwrap_or_default());
        // Earlier versions wrote the id alone.
        let ids = files.iter().flat_map(|text| text.lines()).filter_map(|line| line.split(' ').next());
        ids.filter_map(|id| id.parse().ok()).collect()
    }
}

fn line(key: &Key) -> String {
    format!("{} {} {}", key.container, key.network, key.ifname)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_are_known_and_the_files_stay_small() {
        let dir = tempfile::tempdir().unwrap();
        let tombstones = Tombstones::of(dir.path());
        assert!(tombstones.containers().is_empty());
        let id = |number: usize| format!("{number:064}").parse::<ContainerId>().unwrap();
        let key =
            |number| Key { network: "pods".parse().unwrap(), container: id(number), ifname: "eth0".parse().unwrap() };
        for number in 0..5000 {
            tombstones.add(&key(number)).unwrap();
        }
        assert!(tombstones.contains(&key(4000)) && !tombstones.contains(&key(5000)));
        assert!(
            !tombstones.contains(&Key { network: "other".parse().unwrap(), ..key(4000) }),
            "a set, not a container"
        );
        let known = tombstones.containers();
        assert!((4000..5000).all(|number| known.contains(&id(number))));
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(size(&tombstones.older) <= FULL + 80 && size(&tombstones.recent) <= FULL);
    }

    #[test]
    fn a_torn_line_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let tombstones = Tombstones::of(dir.path());
        fs::write(&tombstones.recent, "a\n\0\0\0\n/\nb\n").unwrap();
        assert_eq!(tombstones.containers(), HashSet::from(["a".parse().unwrap(), "b".parse().unwrap()]));
    }
}
