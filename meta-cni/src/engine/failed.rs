//! An index of failed undos by pod. The next ADD of the pod finishes them first, because they may hold its addresses.
//!
//! `failed/POD/NETWORK,CONTAINER,IFNAME` is an empty file that points at the record in `pending/`; POD is a hash of the pod's
//! name. An ADD so finds its pod's records without reading those of other pods. A failed undo creates the file, and the file is
//! removed before its record. Where it cannot be created (a full disk), an ADD still finds the record by reading a bounded
//! number of records.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use attachments::names::PodRef;

use super::record::Key;
use super::store::parse_name;

/// The failed undos of a state directory.
#[derive(Debug)]
pub struct Failed {
    dir: PathBuf,
}

impl Failed {
    /// The index of the store in a directory.
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.join("failed") }
    }

    /// Adds the failed undo of a set of this pod.
    pub fn note(&self, pod: &PodRef, key: &Key) {
        let of_pod = self.of_pod(pod);
        let _ = fs::create_dir_all(&of_pod).and_then(|()| File::create(of_pod.join(key.to_string())));
    }

    /// Removes an undo that is finished.
    pub fn forget(&self, pod: &PodRef, key: &Key) {
        remove(&self.of_pod(pod).join(key.to_string()));
    }

    /// The failed undos of a pod. Hashes may collide: the record says whose it is.
    pub fn keys(&self, pod: &PodRef) -> Vec<Key> {
        keys(&self.of_pod(pod))
    }

    /// Removes the entries whose record is gone.
    pub fn sweep(&self, is_left: impl Fn(&Key) -> bool) {
        for pod in fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            keys(&pod).iter().filter(|key| !is_left(key)).for_each(|key| remove(&pod.join(key.to_string())));
        }
    }

    fn of_pod(&self, pod: &PodRef) -> PathBuf {
        let hash = crc32fast::hash(format!("{}/{}", pod.namespace, pod.name).as_bytes());
        self.dir.join(format!("{hash:08x}"))
    }
}

fn keys(dir: &Path) -> Vec<Key> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| parse_name(entry.file_name().to_str()?)).collect()
}

/// The directory goes with its last file.
fn remove(path: &Path) {
    if fs::remove_file(path).is_ok() {
        let _ = path.parent().map(fs::remove_dir);
    }
}
